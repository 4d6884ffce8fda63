"""Checks of lesson 08, broken evaluations: what a table leaves open, units, a measure that cannot fail, one to be mended."""

import numpy as np
from scipy.special import logsumexp, softmax

from advlib._tensorflow import tf
from advlib.exercises import Hint, exercise, number, require
from advlib.exercises.properties import sparse
from advlib.models import predict_logits
from advlib.testing import toy


@exercise("08.1")
def ends(answer):
    def call(clean, left):
        result = answer(clean, list(left))
        require(np.shape(result) == (2,), "two numbers were expected, the smallest count and the largest")
        return [number(value, "a count") for value in result]

    low, high = call(100, [80, 90])
    require(
        high != 90 and high != 85,
        "100 right without attack, attacks leave 80 and 90: can more stand under both than under the first alone?",
    )
    require(
        high == 80,
        "100 right without attack, attacks leave 80 and 90: what if one set of broken images lies in the other?",
    )
    require(
        low <= 70, "100 right without attack, attacks leave 80 and 90: what if no image is broken by both?"
    )
    require(
        low == 70,
        "100 right without attack, attacks leave 80 and 90: your lower end cannot be reached by any two sets",
    )
    require(
        call(100, [40, 30])[0] == 0,
        "100 right without attack, attacks leave 40 and 30: the sets of 60 and of 70 broken images must overlap",
    )
    require(
        call(50, []) == [50, 50], "50 right without attack and no attack at all: there is nothing left open"
    )
    require(call(60, [45]) == [45, 45], "a single attack that leaves 45: there is nothing left open")
    rng = np.random.default_rng(0)
    for _ in range(40):
        clean, attacks = int(rng.integers(1, 40)), int(rng.integers(1, 6))
        broken = rng.integers(0, clean // rng.integers(1, 5) + 1, attacks)
        # side by side, from image 0 on and round again, they cover as much as can be; all from image 0 on, as little
        first = np.concatenate([[0], np.cumsum(broken)[:-1]])
        together = [
            len({(f + i) % clean for f, k in zip(start, broken, strict=True) for i in range(k)})
            for start in (first, 0 * first)
        ]
        expected = [clean - k for k in together]
        require(
            call(clean, (clean - broken).tolist()) == expected,
            f"{clean} right without attack, attacks leave {(clean - broken).tolist()}: your ends are not those that sets of "
            "images can reach",
        )


@exercise("08.2")
def units(pixels, needed, errs, sigma):
    pixels, needed = number(pixels, "pixels"), number(needed, "needed")
    require(pixels > 0 and needed > 0, "pixels, needed: sizes above 0 were expected")
    require(
        abs(pixels - 0.1) > 1e-3,
        "pixels: that is the number in z; the images were divided by σ before it was spent",
    )
    require(
        abs(pixels - 0.1 / sigma) > 1e-2 * pixels,
        "pixels: a change of x by 1 changes z by 1/σ; which of the two numbers is the larger one?",
    )
    require(
        abs(pixels / (0.1 * sigma) - 1) < 0.03,
        f"pixels: {pixels:g}; solve |z_adv − z| ≤ 0.1 for |x_adv − x|; where is μ?",
    )
    require(
        abs(needed - 0.1 * sigma) > 1e-2 * needed,
        "needed: spent in z, that would be even less in pixels than 0.1 was",
    )
    require(
        abs(needed / (0.1 / sigma) - 1) < 0.03,
        f"needed: {needed:g} in z comes to {needed * sigma:.3g} in pixels",
    )
    known = ("too high", "too low", "cannot tell")
    require(errs in known, f"errs: {errs!r}; one of {known} was expected")
    require(
        errs == (known[0] if sigma < 1 else known[1]),
        "errs: which of the two balls lies in the other, and what can the best attack in the inner one not do?",
    )


def _probabilities(z):
    return softmax(np.asarray(z, np.float64), axis=1)


def _of_class_7(z, y):
    return (z.argmax(axis=1) == y)[y == 7].mean()


# name → (measure, whether it tells an always right model from an always wrong one that is as sure)
MEASURES = {
    "accuracy": (lambda z, y: (z.argmax(axis=1) == y).mean(), True),
    "mean |p − y|, as the article prints it": (
        lambda z, y: np.abs(_probabilities(z) - y[:, None]).mean(),
        False,
    ),
    "the mean of the largest probability": (lambda z, y: _probabilities(z).max(axis=1).mean(), False),
    "the mean cross-entropy": (
        lambda z, y: (logsumexp(np.asarray(z, np.float64), axis=1) - z[np.arange(len(y)), y]).mean(),
        True,
    ),
    "the share of images whose true class has over 99 %": (
        lambda z, y: (_probabilities(z)[np.arange(len(y)), y] > 0.99).mean(),
        True,
    ),
    "the accuracy on class 7 alone": (_of_class_7, True),
    "the mean of |argmax − y|": (lambda z, y: np.abs(z.argmax(axis=1) - y).mean(), True),
    "the mean lead of the largest logit over the next": (
        lambda z, y: np.diff(np.sort(z, axis=1)[:, -2:], axis=1).mean(),
        False,
    ),
    "the share of images whose logits are finite": (lambda z, y: np.isfinite(z).all(axis=1).mean(), False),
    "the mean of the labels": (lambda z, y: y.mean(), False),
}


@exercise("08.3")
def can_fail(answer):
    rng = np.random.default_rng(0)
    for labels in (
        np.arange(10).repeat(4),
        rng.permutation(np.concatenate([np.arange(10), rng.integers(0, 10, 50)])),
    ):
        for name, (measure, tells) in MEASURES.items():
            given = labels.copy()
            said = answer(lambda z, y, measure=measure: measure(np.asarray(z), np.asarray(y)), given)
            require((given == labels).all(), "y was changed by the call")
            require(isinstance(said, bool | np.bool_), f"True or False was expected, {said!r} came")
            require(
                not tells or said,
                f"{name}: you say that it cannot tell, and it can. Is one of your models right on every image, the "
                "other on none, are both sure enough, and may the better one have the smaller value?",
            )
            require(
                tells or not said,
                f"{name}: you say that it tells right from wrong, and it does not. Is being right the only thing in "
                "which your two models differ? And are both asked about the same y?",
            )


@exercise("08.4")
def faults(given, curves, clean):
    known = ("honest", "units", "denominator", "misled")
    require(isinstance(given, dict), "a dict was expected, for example {'A': 'units', 'B': 'honest'}")
    given = {str(letter).upper(): said for letter, said in given.items()}
    require(set(given) == set(curves), f"one answer for each of {', '.join(curves)} was expected")
    for letter, said in given.items():
        require(said in known, f"{letter}: {said!r}; one of {known} was expected")
    # what each fault does to a curve, and nothing honest does
    signs = {
        "denominator": lambda curve, share: abs(curve[0] - share) > 0.01,
        "misled": lambda curve, share: np.diff(curve).max() > 0.02,
        "units": lambda curve, share: curve[-1] > 0.3,
    }
    for letter, said in given.items():
        curve, share = np.asarray(curves[letter]), clean[letter]
        true = next((fault for fault, sign in signs.items() if sign(curve, share)), "honest")
        if said == "honest" != true:
            raise Hint(
                f"{letter}: could an honest curve begin, go on and end like that? Use all three questions of the text"
            )
        require(
            said == true,
            f"{letter}: what would “{said}” do to a curve, at its start, on its way, at ε = 0.5? Is that what is drawn?",
        )


@exercise("08.5")
def mended(answer):
    inner, x, _ = toy(n=120)

    def call(x, y, eps):
        given = x.copy()
        share = number(answer(inner, 0.5, 0.25, given, y.copy(), eps), "the result")
        require((given == x).all(), "x was changed by the call; work on a copy")
        require(0 <= share <= 1, f"the result is {share:g}: a share from 0 to 1 was expected")
        return share

    for images, where in ((x, "the middle of the box"), (sparse(x), "black and white pixels")):
        labels = inner((images - 0.5) / 0.25).numpy().argmax(axis=1)
        labels[::4] = (labels[::4] + 1) % 4  # every fourth image is wrong without attack
        clean = call(images, labels, 0.0)
        require(
            abs(clean - 0.75) < 1e-6,
            f"at ε = 0, {where}: 90 of 120 images are right without attack, and your share is {clean:.3f}; a share of what?",
        )
        lead, gain = _linear(inner, images, labels)
        # the ε at which the best attack of all leaves a third of the images
        eps = next(e for e in np.arange(0.001, 0.2, 0.001) if (lead + gain(e) < 0).all(axis=1).mean() < 1 / 3)
        best = (lead + gain(eps)).max(axis=1)
        certain, possible = (best < -1e-3).mean(), (best < 1e-3).mean()
        share = call(images, labels, float(eps))
        case = f"a linear network, {where}, ε = {eps:g}"
        require(
            share >= certain - 1e-6,
            f"{case}: you count {120 * share:.0f} of 120, and {120 * certain:.0f} are right at every point of ball and box: did "
            "the attack leave one of the two, or did images drop out of the count?",
        )
        require(
            share <= possible + 0.05,
            f"{case}: you count {120 * share:.0f} of 120, the best attack within ε leaves {120 * possible:.0f}: in which unit "
            "is ε spent, and does the count begin with the images that are right?",
        )

    def bent(u, training=False):  # one step of 0.1 goes a whole wave too far
        return inner(tf.sin(12 * u))

    labels = predict_logits(lambda x, training=False: bent((x - 0.5) / 0.25), x).argmax(axis=1)
    share = number(answer(bent, 0.5, 0.25, x.copy(), labels, 0.1), "the result")
    require(
        share <= 0.1,
        f"a bent network, ε = 0.1: you count {120 * share:.0f} of 120, and twenty steps leave none; how many steps are yours?",
    )


def _linear(inner, x, y):
    """(N, K): the lead of each class over the true one, and a function of ε, the most that it gains in ball and box."""
    w = inner.get_weights()[0].astype(float) / 0.25
    flat = x.reshape(len(x), -1).astype(float)
    z = (flat - 0.5) @ w
    lead = z - z[np.arange(len(y)), y][:, None]
    slope = w.T[None] - w.T[y][:, None]  # (N, K, D)
    lead[np.arange(len(y)), y] = -np.inf

    def gain(eps):
        up, down = np.minimum(flat + eps, 1) - flat, np.maximum(flat - eps, 0) - flat
        return np.maximum(slope * up[:, None], slope * down[:, None]).sum(axis=2)

    return lead, gain
