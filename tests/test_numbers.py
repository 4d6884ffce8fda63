"""Every number an attack takes: the limits that an error states, and that the example it gives is the default."""

import inspect
import operator
import re

import numpy as np
import pytest

from advlib import attacks
from tests.conftest import affine

COUNT, ANY, SHARE = "at least 1", "at least 0", "at least 0 and at most 1"
POSITIVE, PART = "above 0", "at most 1 and above 0"
FACTOR = "at least 0 and at most 0.999"  # of a length that decays step by step, and must decay
LIMITS = {
    "apgd": {"steps": ANY, "restarts": COUNT, "rho": SHARE, "targets": COUNT},
    "autoattack": {},
    "bim": {"steps": ANY},
    "boundary": {"steps": ANY, "spherical_step": POSITIVE, "source_step": PART},
    "carlini_wagner": {
        "confidence": ANY,
        "searches": COUNT,
        "steps": COUNT,
        "learning_rate": ANY,
        "initial_const": POSITIVE,
    },
    "ddn": {"steps": ANY, "gamma": FACTOR, "levels": "at least 2"},
    "deepfool": {"steps": ANY, "overshoot": ANY},
    "eot": {"samples": COUNT},
    "fab": {
        "steps": ANY,
        "targets": COUNT,
        "restarts": COUNT,
        "alpha_max": SHARE,
        "overshoot": "at least 1",
        "backward": PART,
    },
    "fgsm": {},
    "fmn": {"steps": ANY, "step_size": ANY, "gamma": FACTOR},
    "hop_skip_jump": {"steps": ANY, "initial_evals": COUNT, "max_evals": COUNT},
    "mi_fgsm": {"steps": ANY, "decay": ANY, "step_size": ANY},
    "nes": {"steps": ANY, "samples": COUNT, "sigma": POSITIVE, "decay": FACTOR, "step_size": ANY},
    "patch": {
        "size": COUNT,
        "steps": ANY,
        "learning_rate": POSITIVE,
        "rotation": "at least 0 and at most 45",
    },
    "pgd": {"steps": ANY, "restarts": COUNT, "step_size": ANY},
    "spsa": {"steps": ANY, "samples": COUNT, "delta": PART, "learning_rate": ANY},
    "square": {"steps": ANY, "p_init": PART, "restarts": COUNT, "schedule": COUNT},
    "transfer": {},
    "universal": {"steps": ANY, "passes": ANY, "enough": SHARE},
}
EVERYWHERE = {"seed": ANY, "batch_size": COUNT}


def parameters(name):
    return inspect.signature(getattr(attacks, name)).parameters


def cases():
    for name, limits in LIMITS.items():
        everywhere = {key: limit for key, limit in EVERYWHERE.items() if key in parameters(name)}
        for parameter, limit in {**limits, **everywhere}.items():
            yield pytest.param(name, parameter, limit, id=f"{name}-{parameter}")


@pytest.fixture(scope="module")
def given():
    """What an attack cannot do without, under the name of its parameter."""
    net = affine(np.zeros((16, 3)), np.zeros(3), (4, 4, 1))
    x, y = np.full((2, 4, 4, 1), 0.5, np.float32), np.zeros(2, int)
    return {
        "model": net, "sources": {"net": net}, "x": x, "y": y, "attack": attacks.fgsm, "eps": 0.1, "target": 1, "size": 3,
    }  # fmt: skip


def whole(name, parameter):
    default = parameters(name)[parameter].default
    return isinstance(default, int) or parameter in ("targets", "schedule", "levels")


def outside(limit):
    """The nearest values, or nearly, that a limit such as `at least 0 and at most 1` refuses."""
    for words, away in (("at least", -1), ("at most", 1e-3), ("above", 0)):
        if found := re.search(words + r" ([\d.]+)", limit):
            edge = float(found[1])
            yield (int(edge) if edge == int(edge) else edge) + away


def allowed(limit, value):
    rules = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}
    edges = {words: re.search(words + r" ([\d.]+)", limit) for words in rules}
    return all(rules[words](value, float(edge[1])) for words, edge in edges.items() if edge)


@pytest.mark.parametrize(("name", "parameter", "limit"), list(cases()))
def test_an_error_states_the_limit_and_gives_the_default_as_example(name, parameter, limit, given):
    default = parameters(name)[parameter].default
    example = r"\S+$" if default is None else re.escape(str(default)) + "$"
    needed = {key: value for key, value in given.items() if key in parameters(name)}
    for value in outside(limit):
        said = f"^{parameter}=.*: a value {re.escape(limit)} was expected, for example {example}"
        with pytest.raises(ValueError, match=said) as caught:
            getattr(attacks, name)(**{**needed, parameter: value})
        assert allowed(limit, float(str(caught.value).split()[-1]))


@pytest.mark.parametrize(
    ("name", "parameter"), [case.values[:2] for case in cases() if whole(*case.values[:2])]
)
def test_half_a_number_of_steps_is_refused(name, parameter, given):
    needed = {key: value for key, value in given.items() if key in parameters(name)}
    with pytest.raises(TypeError, match=f"^{parameter}=float 2.5: a whole number was expected, for example"):
        getattr(attacks, name)(**{**needed, parameter: 2.5})


@pytest.mark.parametrize("name", [name for name, limits in LIMITS.items() if limits.get("steps") == ANY])
def test_no_step_is_a_number_of_steps(name, given):
    needed = {key: value for key, value in given.items() if key in parameters(name)}
    found = getattr(attacks, name)(**needed, steps=0)
    assert name == "patch" or np.isfinite(found).all()


def test_every_number_is_in_the_list():
    for name in set(attacks.__all__) - {"BlackBox", "NoGradientError", "TransferMatrix", "bpda"}:
        numbers = {
            key
            for key, value in parameters(name).items()
            if isinstance(value.default, int | float) and not isinstance(value.default, bool)
        }
        assert numbers <= LIMITS[name].keys() | EVERYWHERE.keys(), name
