"""AutoAttack against the torch AutoAttacks, on the same weights: at most two images more survive here than under the strongest.

Slow (`-m slow` runs these alone, about an hour on two cores): the references take several minutes each. They disagree among
themselves by about 2 in 100, as random starts and Square's draws differ; every image that one breaks and another does not is
listed at the end of the run and in figures.json, with its position among the test images.
"""

import time
import warnings

import numpy as np
import pytest
from other_libraries import AUTOATTACKS, to_torch, twin

from advlib import data, models, norms
from advlib.attacks import autoattack
from advlib.diagnostics import FlagWarning
from advlib.robustness import tolerance

NAME, IMAGES = "mnist-cnn-pgd", 500
EPS = {"linf": 0.3, "l2": 2.0}


def test_the_torch_twin_is_the_same_network(name, net, need):
    """Its logits equal the Keras model's to 1e-4, so that a difference between attacks is one between attacks."""
    need("torch")
    x, y = (part[:512] for part in data.load("mnist")[2:])
    theirs = twin(net)(to_torch(x, y)[0]).numpy()
    np.testing.assert_allclose(models.predict_logits(net, x), theirs, rtol=0, atol=1e-4)


def ours(net, x, y, eps, norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)  # that Square breaks more, in L2: known, and published
        return autoattack(net, x, y, eps=eps, norm=norm)


def survivors(net, x, y, x_adv, norm):
    """Positions of the images that x_adv, where it lies in ball and box, does not break."""
    size = norms.get(norm).size(x_adv - x).numpy()
    inside = (size <= EPS[norm] + tolerance(norm, EPS[norm])) & (
        abs(x_adv - 0.5).max(axis=(1, 2, 3)) <= 0.5 + 1e-6
    )
    kept = np.where(inside[:, None, None, None], np.clip(x_adv, 0, 1), x)
    return np.flatnonzero(models.predict_logits(net, kept).argmax(axis=1) == y)


@pytest.mark.slow
@pytest.mark.parametrize("norm", list(EPS))
def test_autoattack_is_as_strong_as_the_strongest_of_the_others(norm, nets, need, record):
    need(*AUTOATTACKS)
    x, y = (part[:IMAGES] for part in data.load("mnist")[2:])
    net, left, seconds = nets[NAME], {}, {}
    for library, attack in {"advlib": ours, **AUTOATTACKS}.items():
        began = time.perf_counter()
        x_adv = attack(net, x, y, EPS[norm], norm)
        seconds[library] = round(time.perf_counter() - began)
        left[library] = set(survivors(net, x, y, x_adv, norm).tolist())
    pairs = [(a, b) for a in left for b in left if a != b]
    only = {f"broken by {a} and not by {b}": sorted(left[b] - left[a]) for a, b in pairs}
    counts = {library: len(images) for library, images in left.items()}
    record(
        f"autoattack, {norm} {EPS[norm]}, {NAME}", images=len(x), survivors=counts, seconds=seconds, **only
    )
    assert counts["advlib"] <= min(counts[library] for library in AUTOATTACKS) + 2, (counts, only)
