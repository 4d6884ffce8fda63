"""AutoAttack: its parts on what stands, what it returns, tells and flags."""

import importlib
import warnings
from functools import partial

import numpy as np
import pytest

from advlib import models, norms
from advlib._tensorflow import tf
from advlib.attacks.autoattack import EOT_SAMPLES, QUERIES, STEPS, TARGETS, autoattack, parts
from advlib.diagnostics import FlagWarning, collect_flags
from advlib.robustness import evaluate, tolerance
from tests.conftest import affine

module = importlib.import_module("advlib.attacks.autoattack")  # the name in advlib.attacks is the function's
EPS = {"linf": 0.006, "l2": 0.12, "l1": 2.0}  # budgets at which some of `images` stand, and some fall


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 100)
    monkeypatch.setattr(module, "STEPS", 10)
    monkeypatch.setattr(module, "TARGETS", 3)


def wrong(model, x, y):
    return models.predict_logits(model, x).argmax(axis=1) != y


def flags(*args, **options):
    with collect_flags() as raised:
        autoattack(*args, **options)
    return {flag.name: flag for flag in raised}


def shift(to):
    """A made-up part: adds `to(image)` to each image, keeps the ball's bounds or not."""
    return lambda model, x, y, **_: np.clip(
        x + np.array([to(v) for v in x])[:, None, None, None], 0, 1
    ).astype(np.float32)


# ---- greys: class 1 above 0.5, so that every distance is known

GREY = np.array([0.1, 0.42, 0.44, 0.46, 0.54, 0.9, 0.9], np.float32)
X = np.broadcast_to(GREY[:, None, None, None], (7, 2, 2, 1)).copy()
Y = np.array([0, 0, 0, 0, 1, 1, 0])  # the last is wrong without attack


def grey_model(x):
    above = 10 * (tf.reduce_mean(x, axis=(1, 2, 3)) - 0.5)
    return tf.stack([-above, above, above - 90, above - 91], axis=1)


def test_each_part_gets_what_stands_and_says_who_it_broke(monkeypatch):
    made_up = {
        "first": shift(lambda v: 0.05 * (0.45 < v.mean() < 0.5)),
        "too far": shift(lambda v: 0.5),
        "third": shift(lambda v: 0.09 if v.mean() < 0.5 else -0.05),
        "last": shift(lambda v: 0.0),
    }
    monkeypatch.setattr(module, "parts", lambda *_: made_up)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        x_adv = autoattack(grey_model, X, Y, eps=0.1, callback=seen.append)
    assert [s.name for s in seen] == list(made_up)
    assert [s.attacked.tolist() for s in seen] == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 4, 5],
        [0, 1, 2, 4, 5],
        [0, 5],
    ]
    assert [s.broken.tolist() for s in seen] == [[3], [], [1, 2, 4], []]
    assert [len(s.x_adv) for s in seen] == [6, 5, 5, 2] and all(s.seconds >= 0 for s in seen)
    # of the two that stand: the points of the largest margin in the ball; the last one was wrong from the start
    assert x_adv.mean(axis=(1, 2, 3)) == pytest.approx([0.19, 0.51, 0.53, 0.51, 0.49, 0.85, 0.9], abs=1e-6)


@pytest.mark.parametrize("standing", [0, 1])
def test_one_survivor_and_none(standing, monkeypatch):
    """AA5."""
    first = shift(lambda v: 0.0 if standing and 0.45 < v.mean() < 0.5 else 0.1 if v.mean() < 0.5 else -0.1)
    monkeypatch.setattr(module, "parts", lambda *_: {"first": first, "second": shift(lambda v: 0.05)})
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        x_adv = autoattack(grey_model, X[1:5], Y[1:5], eps=0.1, callback=seen.append)
    assert [len(s.broken) for s in seen] == ([3, 1] if standing else [4, 0])
    assert len(seen[1].attacked) == len(seen[1].x_adv) == standing
    assert wrong(grey_model, x_adv, Y[1:5]).all()


def test_no_image_right_from_the_start_and_no_budget():
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        assert (autoattack(grey_model, X[:6], 1 - Y[:6], eps=0.01, callback=seen.append) == X[:6]).all()
        assert [len(s.attacked) for s in seen] == [0, 0, 0, 0]
        assert (autoattack(grey_model, X, Y, eps=0) == X).all()


def test_equal_logits_count_as_argmax_counts_them(monkeypatch):
    monkeypatch.setattr(module, "parts", lambda *_: {"to the boundary": shift(lambda v: 0.5 - v.mean())})
    x, y, seen = np.stack([X[3], X[4]]), np.array([0, 1]), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        autoattack(grey_model, x, y, eps=0.1, callback=seen.append)
    assert seen[0].broken.tolist() == [1]  # at equal logits the class is 0


# ---- the real parts


@pytest.mark.parametrize(
    ("classes", "targets", "dlr", "dlr_targeted"),
    [(2, 1, "margin", "margin"), (3, 2, "dlr", "margin"), (4, 3, "dlr", "dlr")],
)
def test_targets_and_losses_follow_the_classes(classes, targets, dlr, dlr_targeted):
    """The DLR loss needs three classes, towards a target four. The work is that of Croce & Hein 2020, arXiv 2003.01690."""
    assert (STEPS, TARGETS, QUERIES, EOT_SAMPLES) == (100, 9, 5000, 20)  # before `quick` takes less
    standard, plus = (parts(version, norms.get("linf"), classes) for version in ("standard", "plus"))
    for name in ("apgd-t", "fab-t"):
        assert standard[name].keywords["targets"] == plus[name].keywords["targets"] == targets
    assert standard["apgd-t"].keywords["loss"] == plus["apgd-t"].keywords["loss"] == dlr_targeted
    assert plus["apgd-dlr"].keywords["loss"] == dlr


def by_hand(version, model, x, y, eps, norm):
    """Which images stand against every part of a version, each run on all of them."""
    right, left = ~wrong(model, x, y), {}
    for name, attack in parts(version, norms.get(norm), 10).items():
        x_adv = x.copy()
        x_adv[right] = attack(model, x[right], y[right], eps=eps, norm=norm, seed=0)
        inside = norms.get(norm).size(x_adv - x).numpy() <= eps + tolerance(norm, eps)
        left[name] = right & ~(wrong(model, x_adv, y) & inside)
    return left


@pytest.mark.parametrize(
    "norm",
    ["linf", pytest.param("l2", marks=pytest.mark.full), pytest.param("l1", marks=pytest.mark.full)],
)
def test_stands_what_stands_against_every_part(norm, small_net, images):
    """AA1, AA2, AA4; and the order of the parts."""
    x, y = (np.concatenate([v[2:30], v[-4:]]) for v in images)
    seen = []
    x_adv = autoattack(small_net, x, y, eps=EPS[norm], norm=norm, callback=seen.append)
    left = by_hand("standard", small_net, x, y, EPS[norm], norm)
    assert [s.name for s in seen] == list(left) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    standing = np.logical_and.reduce(list(left.values()))
    assert (~wrong(small_net, x_adv, y) == standing).all()
    assert 2 < standing.sum() < 26
    assert all(standing.sum() <= mask.sum() for mask in left.values())
    broken = np.concatenate([s.broken for s in seen])
    assert sorted(broken) == np.flatnonzero(~wrong(small_net, x, y) & ~standing).tolist()
    assert norms.get(norm).size(x_adv - x).numpy().max() <= EPS[norm] + tolerance(norm, EPS[norm])
    assert x_adv.dtype == np.float32 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert (x_adv != x).any(axis=(1, 2, 3))[standing].all() and (x_adv[-4:] == x[-4:]).all()


def test_order_and_company_change_nothing(small_net, images):
    """AA3, bit for bit."""
    x, y = images
    x, y = x[2:30], y[2:30]
    whole = autoattack(small_net, x, y, eps=EPS["linf"])
    assert (autoattack(small_net, x[::-1].copy(), y[::-1].copy(), eps=EPS["linf"])[::-1] == whole).all()
    assert (autoattack(small_net, x[5:9], y[5:9], eps=EPS["linf"]) == whole[5:9]).all()
    other = autoattack(small_net, x, y, eps=EPS["linf"], seed=1)
    assert (other != whole).any()


def test_versions(small_net, images):
    x, y = images[0][2:20], images[1][2:20]
    assert list(parts("plus", norms.get("linf"), 10)) == [
        "apgd-ce",
        "apgd-dlr",
        "fab",
        "square",
        "apgd-t",
        "fab-t",
    ]
    seen = []
    x_adv = autoattack(small_net, x, y, eps=EPS["linf"], version="plus", callback=seen.append)
    standard = autoattack(small_net, x, y, eps=EPS["linf"])
    assert len(seen) == 6
    assert not (wrong(small_net, standard, y) & ~wrong(small_net, x_adv, y)).any()


def test_where_cross_entropy_is_blind_the_targets_see(small_net, images):
    x, y = images[0][2:], images[1][2:]
    loud = tf.function(lambda x: 100_000.0 * small_net(x, training=False))
    seen = []
    autoattack(loud, x, y, eps=0.05, callback=seen.append)
    broken = {s.name: len(s.broken) for s in seen}
    assert broken["apgd-t"] > 20 and sum(broken.values()) >= 57


# ---- flags


class Noisy:
    """A new draw for each call."""

    def __init__(self, model, sigma=0.05):
        self.model, self.sigma, self.rng = model, sigma, np.random.default_rng(0)

    def __call__(self, x):
        return self.model(x + self.rng.normal(0, self.sigma, np.shape(x)).astype(np.float32), training=False)


def test_an_honest_model_raises_no_flag(small_net, images):
    assert flags(small_net, images[0][2:], images[1][2:], eps=0.1) == {}


def test_random_output(small_net, images, monkeypatch):
    monkeypatch.setattr(module, "EOT_SAMPLES", 2)
    x, y = images[0][2:10], images[1][2:10]
    found = flags(Noisy(small_net), x, y, eps=0.2)["random output"]
    assert found.colour == "red" and "rand" in found.do
    assert "random output" not in flags(Noisy(small_net), x, y, eps=0.2, version="rand")
    found = flags(small_net, x, y, eps=0.2, version="rand")["no random output"]
    assert found.colour == "amber" and "standard" in found.do


def test_rand_breaks_a_random_model(small_net, images, monkeypatch):
    monkeypatch.setattr(module, "EOT_SAMPLES", 3)
    x, y = images[0][2:22], images[1][2:22]
    seen = []
    autoattack(Noisy(small_net, 0.01), x, y, eps=0.1, version="rand", callback=seen.append)
    assert [s.name for s in seen] == ["apgd-ce", "apgd-dlr"]
    assert sum(len(s.broken) for s in seen) >= 18


def test_rand_follows_the_mean_of_its_draws(small_net, images, monkeypatch):
    """Nothing breaks, so that each of 2 · 3 steps takes five draws of each image; all else takes fewer than 20."""
    monkeypatch.setattr(module, "EOT_SAMPLES", 5)
    monkeypatch.setattr(module, "STEPS", 3)
    shown = []

    class Counted(Noisy):
        def __call__(self, x):
            shown.append(len(x))
            return super().__call__(x)

    x, y = images[0][2:6], images[1][2:6]
    autoattack(Counted(small_net, 0.001), x, y, eps=1e-4, version="rand", batch_size=4)
    assert sum(shown) >= 4 * 2 * 3 * 5


def test_zero_gradients_and_a_black_box_that_beats_them(mnist_test, monkeypatch):
    """Rounded pixels: no gradient anywhere, and Square breaks what nobody else did."""
    monkeypatch.setattr(module, "QUERIES", 300)
    x, y = mnist_test[0][:30], mnist_test[1][:30]
    net = models.load("mnist-mlp")
    rounds = tf.function(lambda x: net(tf.stop_gradient(tf.round(x * 16) / 16) + 0 * x, training=False))
    seen = []
    found = flags(rounds, x, y, eps=0.1, callback=seen.append)
    right = 30 - wrong(rounds, x, y).sum()
    assert found["zero gradients"].colour == "red"
    assert found["zero gradients"].seen.startswith(f"{right} of {right} images")
    by_square = len(seen[-1].broken)
    assert by_square > 3 and found["black box beats white box"].colour == "red"
    assert found["black box beats white box"].seen.startswith(f"Square broke {by_square} of 30")


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(classes, monkeypatch):
    monkeypatch.setattr(module, "TARGETS", 9)
    rng = np.random.default_rng(classes)
    w = rng.normal(size=(36, classes))
    w[0] = 0  # a pixel without gradient is no image without one
    net = affine(w, np.zeros(classes), (6, 6, 1))
    x = rng.uniform(0.3, 0.7, (12, 6, 6, 1)).astype(np.float32)
    y = models.predict_logits(net, x).argmax(axis=1)
    for version in ("standard", "plus"):
        found = flags(net, x, y, eps=0.25, version=version)
        assert list(found) == ["fewer classes than targets"]
        assert f"{classes} classes" in found["fewer classes than targets"].seen
        assert ("margin" in found["fewer classes than targets"].meaning) == (classes < 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        assert wrong(net, autoattack(net, x, y, eps=0.25), y).all()


def test_flags_are_warnings_and_reach_the_report(small_net, images):
    x, y = images[0][2:6], images[1][2:6]
    rand = partial(autoattack, eps=0.2, version="rand")
    with pytest.warns(FlagWarning, match="no random output") as caught:
        rand(small_net, x, y)
    assert caught[0].filename == __file__
    report = evaluate(small_net, x, y, {"auto": rand}, norm="linf", eps=0.2)
    assert [f.name for f in report.flags] == ["no random output"]
    assert report.flags[0].seen.startswith("auto: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "fast"}, "'fast'.*'standard', 'plus', 'rand'"),
        ({"norm": "l0", "eps": 3}, "'l0'.*'linf', 'l2', 'l1'"),
        ({"eps": 8.0}, r"eps=8\.0"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises(ValueError, match=words):
        autoattack(small_net, *images, **{"eps": 0.1, **options})


def test_probabilities_are_refused(small_net, images):
    with pytest.raises(models.ProbabilitiesNotLogitsError, match="as_logits"):
        autoattack(lambda x: tf.nn.softmax(small_net(x)), *images, eps=0.1)
