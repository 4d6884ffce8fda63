"""Checks of lesson 01: the loss and one update by hand, intervals, who is taken for whom."""

import math

import numpy as np
from scipy.special import logsumexp, softmax

from advlib.exercises import exercise, number, require


@exercise("01.1")
def cross_entropy(answer):
    def call(z, y):
        z = np.array(z, float)
        with np.errstate(all="ignore"):
            loss = np.asarray(answer(z.copy(), np.array(y)))
        require(
            loss.shape == (len(z),),
            f"for {len(z)} images it returns shape {loss.shape}; one loss for each image was expected",
        )
        return loss

    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 2, (7, 5)), rng.integers(0, 5, 7)
    loss, expected = call(z, y), logsumexp(z, axis=1) - z[np.arange(7), y]
    require(np.isfinite(loss), "for ordinary logits some loss is NaN or infinite")
    require(
        loss >= 0, f"some loss is {loss.min():.2f}; a probability is at most 1: which sign has its logarithm?"
    )
    none = call(np.zeros((1, 4)), [2])[0]
    require(
        abs(none - math.log(4)) < 1e-6,
        f"four equal logits: each class has the probability 1/4, your loss is {none:.4f}; which logarithm is meant, and of what?",
    )
    sure = call([[8.0, 0, 0]], [1])[0]
    require(
        sure > 7.9,
        f"logits 8, 0, 0 and the true class 1: the network is sure and wrong, and your loss is {sure:.4f}",
    )
    require(
        np.abs(loss - expected) < 1e-6,
        "for random logits some losses are wrong; is it each image's own label?",
    )
    for shift in (1000.0, -1000.0):
        shifted = call(z + shift, y)
        require(
            np.isfinite(shifted),
            f"with {shift:g} added to every logit the loss is NaN or infinite; what is exp({shift:g}) in a computer?",
        )
        require(
            np.abs(shifted - expected) < 1e-6,
            f"adding {shift:g} to every logit should change no loss, but does",
        )
    apart = call([[0.0, 2000.0]], [0])[0]
    require(
        np.isfinite(apart) and abs(apart - 2000) < 1e-6,
        f"logits 0 and 2000 and the true class 0: your loss is {apart:g}; the probability rounds to 0, must its logarithm?",
    )


@exercise("01.2")
def one_update(answer):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (12, 6)), rng.integers(0, 3, 12)
    w, b, rate = rng.normal(0, 1, (6, 3)), rng.normal(0, 1, 3), 0.1

    def call(x, y, rate=rate):
        given = w.copy(), b.copy()
        pair = answer(*given, x.copy(), y.copy(), rate)
        require(
            isinstance(pair, tuple | list) and len(pair) == 2,
            f"it returns {type(pair).__name__}; the two new arrays, w and b, were expected",
        )
        require(
            (given[0] == w).all() and (given[1] == b).all(),
            "w or b was changed by the call; return new arrays",
        )
        pair = [np.asarray(part, float) for part in pair]
        for name, new, old in zip("wb", pair, (w, b), strict=True):
            require(
                new.shape == old.shape, f"{name} had shape {old.shape} and comes back with shape {new.shape}"
            )
        return pair

    error = softmax(x @ w + b, axis=1) - np.eye(3)[y]
    step_w, step_b = -rate * x.T @ error / 12, -rate * error.mean(axis=0)
    new_w, new_b = call(x, y)
    moved_w, moved_b = new_w - w, new_b - b
    require(np.abs(moved_w).max() > 0, "w did not move")
    along = (moved_w * step_w).sum() / (np.linalg.norm(moved_w) * np.linalg.norm(step_w))
    require(along > -0.9, "this step raises the loss: against the gradient, it should fall")
    require(
        along > 0.999,
        "the step of w does not point against the gradient of the mean loss; what is the gradient in the logits, and which "
        "pixels carry it to which weight?",
    )
    times = np.linalg.norm(moved_w) / np.linalg.norm(step_w)
    require(
        abs(times - 1) < 1e-3,
        f"with 12 images and a rate of {rate} the step of w is {times:.3g} times as long as that of the mean loss",
    )
    require(np.abs(moved_b).max() > 0, "b did not move")
    require(
        np.abs(moved_b - step_b) < 1e-6, "w is right, b is not: b is the weight of a pixel that is always 1"
    )
    again_w, again_b = call(np.concatenate([x, x]), np.concatenate([y, y]))
    require(
        np.abs(again_w - new_w).max() < 1e-9 and np.abs(again_b - new_b).max() < 1e-9,
        "the same images twice in a batch give another step; the mean loss is the same",
    )
    require(np.abs(call(x, y, 0.0)[0] - w) < 1e-12, "with a rate of 0 nothing may move")


def width(share, n, c=1.959964):
    """Of the Wilson interval at `share` of n."""
    return 2 * c / (1 + c**2 / n) * math.sqrt(share * (1 - share) / n + c**2 / (4 * n**2))


@exercise("01.3")
def images_needed(answer):
    for share, wanted in ((0.98, 0.01), (0.5, 0.02), (1.0, 0.05), (0.1, 0.04)):
        n = number(answer(share, wanted), "the result")
        case = f"share {share:g}, width {wanted:g}"
        require(n == round(n) and n >= 1, f"{case}: {n:g} is no number of images")
        n = int(n)
        require(
            width(share, n) < wanted,
            f"{case}: with {n:,} images the interval is still {width(share, n):.5f} wide, from one end to the other",
        )
        fewer = n - max(1, n // 5000)  # 1.96 or 1.959964: either is right
        require(
            fewer < 1 or width(share, fewer) >= wanted,
            f"{case}: {n:,} images are enough, but so are {fewer:,}: the smallest number was asked for",
        )


@exercise("01.4")
def most_confused(answer):
    def call(pairs, classes):
        y = np.repeat([a for a, _, _ in pairs], [k for _, _, k in pairs])
        predicted = np.repeat([b for _, b, _ in pairs], [k for _, _, k in pairs])
        order = np.random.default_rng(1).permutation(len(y))
        found = answer(y[order], predicted[order], classes)
        require(
            isinstance(found, tuple | list) and len(found) == 3,
            f"it returns {found!r}; three numbers were expected, the two classes and the count",
        )
        a, b, count = (number(part, "each of the three") for part in found)
        return {a, b}, count

    right = [(c, c, 40) for c in range(4)]
    pair, count = call([*right, (0, 1, 5), (1, 0, 1), (2, 3, 4), (3, 2, 4)], 4)
    require(len(pair) == 2, "the pair is a class with itself: those are the images that were read correctly")
    require(
        pair == {2, 3},
        "0 read as 1 five times, 1 as 0 once; 2 read as 3 four times, 3 as 2 four times: which *pair* has more errors?",
    )
    require(count == 8, f"that pair has 4 errors one way and 4 the other; your count is {count:g}")
    pair, count = call([*right, (3, 1, 6), (1, 3, 1), (0, 2, 3), (2, 0, 3)], 4)
    require(
        pair == {1, 3} and count == 7,
        f"3 read as 1 six times and 1 as 3 once: 7 errors, more than any other pair; yours are {sorted(pair)} with {count:g}",
    )
    pair, count = call([(0, 0, 9), (11, 4, 2), (4, 11, 1), (0, 11, 2)], 12)
    require(
        pair == {4, 11} and count == 3,
        "with twelve classes, some of which never occur, the most confused pair, 4 and 11 with 3 errors, is missed",
    )


@exercise("01.5")
def softmax_too_many(floor, changed):
    floor, changed = number(floor, "floor"), number(changed, "changed")
    best = math.log(math.e + 99) - 1
    require(
        abs(floor) > 1e-9,
        "floor: a loss of 0 needs a logit that is infinitely far ahead; how far ahead is 1 of 0?",
    )
    require(
        abs(floor - math.log(math.e + 9) + 1) > 2e-3,
        "floor: that is the floor with ten classes; how many zeros stand beside the 1 now?",
    )
    require(
        abs(floor - math.log(100)) > 2e-3,
        "floor: that is the loss of a network that knows nothing; this one is perfect",
    )
    require(
        abs(floor - best) < 6e-3, f"floor: {floor:g}; write the sum of the exponentials of one 1 and 99 zeros"
    )
    require(0 <= changed <= 100, f"changed: {changed:g} of 100 images?")
    require(
        changed == 0,
        "changed: the answer is the largest of the numbers; what does softmax do to their order?",
    )
