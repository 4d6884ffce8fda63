"""Certificates against attacks, on the shipped checkpoints: what is proved must stand, with no exception allowed.

A plain run takes 200 images and PGD-30 with either loss; with ADVLIB_FULL=1, as in .ci/full, it is 1,000 images, PGD-100 with
10 restarts on the cross-entropy, and AutoAttack, whose losses are margins, on everything certified. What float32 may
lose, `intervals.rounding`, is part of `verified` itself.
"""

import os
import warnings

import numpy as np
import pytest
from scipy.stats import binom

from advlib import attacks, fgsm, models, noise, pgd
from advlib.certify import crown, intervals, lipschitz, smoothing
from advlib.diagnostics import FlagWarning

FULL = os.environ.get("ADVLIB_FULL") == "1"
IMAGES, STEPS, RESTARTS = (1000, 100, 10) if FULL else (200, 30, 1)
# What a change is tried on; .ci/full takes every checkpoint.
ALWAYS = ("mnist-mlp", "mnist-cnn", "mnist-cnn-pgd", "mnist-cnn-ibp", "fashion-cnn")


def images(name):
    from advlib import data

    return tuple(part[:IMAGES] for part in data.load(models.card(name)["data"].split(":")[0])[2:])


def budgets(name):
    """The ε a net is trained for, if it is, and one at which any net has something proved."""
    recipe = models.card(name)["recipe"]
    return (0.001, *([recipe["eps"]] if "eps" in recipe else []))


def right(net, x, y):
    return models.predict_logits(net, x).argmax(axis=1) == y


def autoattack(net, x, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)
        return attacks.autoattack(net, x, y, **options)


def assert_stand(net, x, y, **budget):
    """No image here may be broken: PGD on each loss; in the full run the second is AutoAttack's."""
    assert right(net, x, y).all()
    for loss in ("ce",) if FULL else ("ce", "margin"):
        x_adv = pgd(net, x, y, steps=STEPS, restarts=RESTARTS, loss=loss, **budget)
        assert right(net, x_adv, y).all(), f"PGD breaks {int((~right(net, x_adv, y)).sum())} of {len(x)}"
    if FULL:
        assert right(net, autoattack(net, x, y, **budget), y).all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if FULL or name in ALWAYS else pytest.mark.full) for name in models.names()],
)
def test_no_image_certified_by_intervals_is_broken(name):
    net, (x, y) = models.load(name), images(name)
    for eps in budgets(name):
        proved = intervals.verified(net, x, y, eps)
        if proved.any():
            assert_stand(net, x[proved], y[proved], eps=eps)
        if "IBP" in models.card(name)["recipe"]["method"] and eps > 0.01:
            assert proved.mean() > 0.8
        assert proved.any() or eps > 0.01, "nothing was proved, so nothing was tested"


@pytest.mark.parametrize(
    "name", [name for name in models.names() if models.card(name)["architecture"] == "mlp"]
)
@pytest.mark.parametrize("eps", [0.01, 0.03])
def test_no_image_certified_by_crown_is_broken(name, eps):
    net, (x, y) = models.load(name), images(name)
    proved = crown.verified(net, x, y, eps)
    assert proved.any()
    assert_stand(net, x[proved], y[proved], eps=eps)


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-cnn", "mnist-cnn-pgd"])
def test_no_image_is_broken_within_its_lipschitz_radius(name):
    """In four groups by radius, each within the smallest of its group."""
    net, (x, y) = models.load(name), images(name)
    radius = lipschitz.radius(net, x, y)
    order = np.argsort(radius)
    for rows in np.array_split(order[radius[order] > 0], 4):
        assert_stand(net, x[rows], y[rows], eps=float(radius[rows].min()), norm="l2")


def test_certified_below_every_attack_below_clean():
    """Per image, on the net trained for intervals; the cumulative worst cases are nested by construction and end at the floor."""
    name = "mnist-cnn-ibp"
    net, (x, y), eps = models.load(name), images(name), 0.3
    proved, clean = intervals.verified(net, x, y, eps), right(net, x, y)
    stands, left = clean.copy(), [int(clean.sum())]
    for attack in (
        lambda: noise.uniform(x, eps),
        lambda: fgsm(net, x, y, eps=eps),
        lambda: pgd(net, x, y, eps=eps, steps=STEPS, restarts=RESTARTS),
        lambda: attacks.square(net, x, y, eps=eps, steps=5000 if FULL else 200),
    ):
        alone = right(net, attack(), y)
        assert (proved <= alone).all(), "a proof was broken"
        stands &= alone
        left.append(int(stands.sum()))
    assert left == sorted(left, reverse=True) and left[-1] >= proved.sum() > 0.8 * len(x)
    assert left[-1] < left[0]


def test_smoothing_certifies_the_smoothed_classifier():
    """Points within the radius, towards the other classes and along an attack on the votes: `predict` must agree, but for as many
    images as α and its own α allow (binomial, one in a million)."""
    net, (x, _), alpha = models.load("mnist-cnn-smooth-0.25"), images("mnist-cnn-smooth-0.25"), 0.001
    n = 200 if FULL else 30
    found = smoothing.certify(net, x[:n], sigma=0.25, samples=2000, alpha=alpha)
    sure = found.radius > 0
    assert sure.mean() > 0.9
    x, label, radius = x[:n][sure], found.label[sure], found.radius[sure]
    # an L2 attack on the base net at noisy points gives a bad direction; then the whole radius is walked along it
    noisy = np.clip(x + 0.1 * np.random.default_rng(0).standard_normal(x.shape), 0, 1).astype(np.float32)
    z = pgd(net, noisy, label, eps=1.0, norm="l2", steps=20) - noisy
    size = np.sqrt((z**2).sum(axis=(1, 2, 3), keepdims=True))
    z = x + 0.999 * radius[:, None, None, None].astype(np.float32) * z / np.maximum(size, 1e-6)
    answers = smoothing.predict(net, np.clip(z, 0, 1), sigma=0.25, samples=1000, alpha=alpha)
    wrong = (answers != label) & (answers != smoothing.ABSTAIN)
    assert wrong.sum() <= binom.ppf(1 - 1e-6, len(x), 2 * alpha)


def test_no_certified_radius_is_above_a_distance_found():
    """The largest ε, on a grid, at which CROWN proves an image, beside the smallest L∞ perturbation that three attacks find."""
    net, (x, y) = models.load("mnist-mlp"), images("mnist-mlp")
    x, y = x[: IMAGES // 2], y[: IMAGES // 2]
    proved = np.zeros(len(x))
    for eps in np.arange(0.005, 0.06, 0.005):
        proved = np.where(crown.verified(net, x, y, float(eps)), eps, proved)
    assert (proved > 0).mean() > 0.8 and len(np.unique(proved)) > 4
    for attack in (attacks.fmn, attacks.deepfool, attacks.fab):
        x_adv = attack(net, x, y, norm="linf", steps=30)
        size = np.abs(x_adv - x).max(axis=(1, 2, 3))
        found = np.where(right(net, x_adv, y), np.inf, size)  # of an image read wrongly from the start: 0
        assert (proved <= found).all()
