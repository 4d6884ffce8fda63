"""Checks of lesson 02: what the article's measure measures, the length of noise, noise as an attack."""

import math
from itertools import combinations

import numpy as np

from advlib import losses
from advlib.attacks.black_box import BlackBox
from advlib.exercises import exercise, number, require
from advlib.exercises.properties import inside, sparse
from advlib.models import predict_logits
from advlib.noise import salt_and_pepper
from advlib.testing import toy


@exercise("02.1")
def article(fashion, from_one):
    fashion, from_one = number(fashion, "fashion"), number(from_one, "from_one")
    labels = np.arange(10)
    require(
        abs(fashion - 4.3630) > 1e-3,
        "fashion: that is MNIST's value; there are not equally many of each digit",
    )
    require(
        abs(fashion - 4.4) > 1e-3,
        "fashion: for the label 0 the value is not y − 0.1, which would be negative",
    )
    require(
        abs(fashion - 4.5) > 1e-3,
        "fashion: that is the mean of the labels; the probabilities add up to 1 and take something away",
    )
    require(
        abs(fashion - np.where(labels == 0, 0.1, labels - 0.1).mean()) < 2e-3,
        f"fashion: {fashion:g}; average the value for one image over the labels 0 to 9, each as often as the others",
    )
    require(
        abs(from_one - 5.42) > 2e-3,
        "from_one: is there still a label for which the rule of label 0 is needed?",
    )
    require(
        abs(from_one - (labels + 1 - 0.1).mean()) < 2e-3,
        f"from_one: {from_one:g}; do the same with the labels 1 to 10",
    )


@exercise("02.2")
def strengths(answer):
    for d, length in ((784, 2.8), (12, 0.3), (3072, 1.0)):
        found = answer(d, length)
        require(
            isinstance(found, dict) and set(found) == {"uniform", "signs", "gaussian"},
            f"it returns {found!r}; a dict with the keys 'uniform', 'signs' and 'gaussian' was expected",
        )
        each = {"signs": 1, "gaussian": 1, "uniform": 1 / 3}  # mean square of a pixel's change, at strength 1
        for kind, square in each.items():
            strength = number(found[kind], kind)
            rms = strength * math.sqrt(square * d)
            require(
                abs(rms / length - 1) < 2e-3,
                f"{kind}: noise of strength {strength:.4g} in {d} pixels has the RMS length {rms:.3g}; {length:g} was asked for",
            )


@exercise("02.3")
def changed_share(answer):
    rng = np.random.default_rng(0)

    def image(*values):
        return rng.choice(np.array(values, np.float32), (4, 60, 60, 1))

    cases = {
        "mid-grey": image(0.5),
        "black": image(0),
        "white": image(1),
        "half black, half mid-grey": image(0, 0.5),
        "half white, half black": image(0, 1),
        "dark grey, 0.01 everywhere": image(0.01),
        "a quarter white, the rest grey": image(1, 0.2, 0.4, 0.6),
    }
    for p in (0.3, 1.0, 0.0):
        for name, x in cases.items():
            share = number(answer(x.copy(), p), "the result")
            measured = float((salt_and_pepper(x, p) != x).mean())
            require(
                abs(share - measured) < 0.02,
                f"images that are {name}, p = {p:g}: you predict that a share of {share:.3f} of the pixels changes; measured: "
                f"{measured:.3f}",
            )


class _Recorder:
    """A model that remembers every image it is shown."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x, training=False):
        self.seen.append(np.array(x))
        return self.model(x, training=False)


@exercise("02.4")
def best_draw(answer):
    model, x, y = toy(n=10)
    y = np.concatenate([y[:-2], (y[-2:] + 1) % 4])
    right = np.arange(len(x)) < len(x) - 2

    def call(x, y, eps, draws, seed=0):
        recorder = _Recorder(model)
        box, given = BlackBox(recorder), x.copy()
        z = np.asarray(answer(box, given, y, eps, draws, seed))
        require((given == x).all(), "x was changed by the call; work on a copy")
        return inside(z, x, eps).astype(np.float32), np.concatenate(recorder.seen or [x]), box.queries

    z, seen, queries = call(x, y, 0.1, 12)
    require(z[~right] == x[~right], "an image that the model gets wrong already should come back unchanged")
    require(
        (z[right] != x[right]).any(axis=(1, 2, 3)),
        "some image did not move at all, though it was right before",
    )
    far = np.abs(np.abs(z - x)[right] - 0.1).max()
    require(far < 1e-5, "in mid-grey every pixel of a draw should move by exactly ε; yours do not")
    limit = (12 + 2) * len(x)
    require(
        queries <= limit,
        f"{queries} questions for {len(x)} images and 12 draws; at most {limit} were expected",
    )
    for i in np.flatnonzero(right):
        near = np.abs(seen - x[i]).max(axis=(1, 2, 3)) < 0.1001  # other images are further away
        own = np.unique(np.concatenate([seen[near], x[i : i + 1]]), axis=0)
        require(
            len(own) > 12 or not _stands(model, own, y[i]),
            f"of 12 draws the model was shown only {len(own) - 1} for an image that none of them broke",
        )
        require(
            np.abs(own - z[i]).max(axis=(1, 2, 3)).min() < 1e-6,
            "some point that you return was never shown to the model",
        )
        at = predict_logits(model, np.concatenate([own, z[i : i + 1]]))
        wrong, loss = at.argmax(axis=1) != y[i], losses.cross_entropy(at, np.full(len(at), y[i])).numpy()
        require(
            wrong[-1] or not wrong.any(),
            "a draw that fooled the model was seen, and another point returned for that image",
        )
        require(
            wrong[-1] or loss[-1] >= loss.max() - 1e-5,
            f"an image was shown with a loss of {loss.max():.3f} and is returned with {loss[-1]:.3f}: does each image keep its "
            "own worst draw?",
        )
    walls = sparse(x)
    labels = predict_logits(model, walls).argmax(axis=1)
    call(walls, labels, 0.3, 2)
    first, again, other = (call(x, y, 0.1, 2, seed)[0] for seed in (0, 0, 1))
    require(again == first, "the same seed gives another result the second time")
    require((other != first).any(), "another seed gives the same result; what is the seed used for?")
    require(call(x, y, 0.0, 1)[0] == x, "with ε = 0 nothing may change")


def _stands(model, points, label):
    return bool((predict_logits(model, points).argmax(axis=1) == label).all())


def reading(numbers, predicted, y):
    """Mean |π(argmax) − π(y)| under a numbering."""
    return float(np.abs(numbers[predicted] - numbers[y]).mean())


@exercise("02.5")
def best_numbering(answer):
    for classes, seed in ((4, 0), (7, 1), (10, 2)):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, classes, 400)
        taken_for = rng.permutation(classes)  # each class has its own favourite error
        predicted = np.where(rng.random(400) < 0.6, y, taken_for[y])
        predicted = np.where(rng.random(400) < 0.15, rng.integers(0, classes, 400), predicted)
        numbers = np.asarray(answer(predicted.copy(), y.copy(), classes))
        require(
            numbers.shape == (classes,) and sorted(numbers.tolist()) == list(range(classes)),
            f"for {classes} classes it returns {numbers.tolist()}; the numbers 0 to {classes - 1}, each once, were expected",
        )
        value, usual = reading(numbers, predicted, y), reading(np.arange(classes), predicted, y)
        for a, b in combinations(range(classes), 2):
            swapped = numbers.copy()
            swapped[[a, b]] = numbers[[b, a]]
            better = reading(swapped, predicted, y)
            require(
                better >= value - 1e-9,
                f"{classes} classes: your numbering gives {value:.3f} (the usual one {usual:.3f}), and with the numbers of the "
                f"classes {a} and {b} exchanged it would be {better:.3f}. Entry c is the number of class c; is it the mean that "
                "you make small?",
            )
