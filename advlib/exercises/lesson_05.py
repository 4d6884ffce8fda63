"""Checks of lesson 05, measuring robustness: counts, intervals, an evaluation to be mended."""

import re
from itertools import combinations

import numpy as np

from advlib.exercises import Hint, exercise, number, require
from advlib.models import predict_logits
from advlib.robustness import evaluate, interval
from advlib.testing import toy


@exercise("05.1")
def three_numbers(answer):
    def call(y, clean, under):
        y, clean = np.array(y), np.array(clean)
        result = answer(y, clean, np.array(under).reshape(-1, len(y)))
        require(len(result) == 3, f"three numbers were expected, {len(result)} came back")
        return [number(value, "one of the three") for value in result]

    def near(a, b):
        return abs(a - b) < 1e-9

    clean, robust, success = call([0, 1, 1, 0], [0, 1, 0, 0], [[0, 0, 0, 0]])
    require(
        near(clean, 0.75), "classes 0, 1, 1, 0 called 0, 1, 0, 0 without attack: is clean accuracy 3 of 4?"
    )
    require(
        near(robust, 0.5),
        "under one attack, classes 0, 1, 1, 0 called 0, 0, 0, 0: two of the four images still stand",
    )
    require(
        near(success, 1 / 3),
        "three images are right without attack and one of them is broken: which number divides the broken ones?",
    )
    robust = call([0, 1, 1], [0, 1, 0], [[0, 1, 1]])[1]
    require(
        near(robust, 2 / 3), "an image that is wrong without attack and right under it is counted as robust"
    )
    robust, success = call([0, 0, 0], [0, 0, 0], [[1, 0, 0], [0, 1, 0]])[1:]
    require(
        near(robust, 1 / 3),
        "two attacks break one image each, not the same: how many images stand under both?",
    )
    require(
        near(success, 2 / 3),
        "two attacks break one image each of three, not the same: together they break two",
    )
    require(
        np.isnan(call([0, 0], [1, 1], [[1, 1]])[2]),
        "with no image right without attack the success rate should be NaN",
    )
    require(
        np.allclose(call([0, 1], [0, 0], []), [0.5, 0.5, 0]),
        "without any attack, robust accuracy is the clean accuracy and nothing is broken",
    )
    rng = np.random.default_rng(0)
    y, clean, under = rng.integers(0, 4, 300), rng.integers(0, 4, 300), rng.integers(0, 4, (2, 300))
    clean_accuracy, robust, success = call(y, clean, under)
    require(
        near(robust, clean_accuracy * (1 - success)),
        "on 300 random images robust is not clean · (1 − success rate)",
    )


@exercise("05.2")
def by_hand(counts, success):
    from advlib._tensorflow import tf

    def model(x):
        p = tf.reshape(x, (-1, 1))
        return tf.concat([0.5 - p, p - 0.5], axis=1)

    x = np.array([0.30, 0.48, 0.52, 0.61, 0.44, 0.95], np.float32).reshape(6, 1, 1, 1)
    attacks = {
        "up": lambda model, x, y: np.clip(x + np.float32(0.05), 0, 1),
        "down": lambda model, x, y: np.clip(x - np.float32(0.05), 0, 1),
    }
    report = evaluate(model, x, np.array([0, 0, 1, 1, 1, 1]), attacks, norm="linf", eps=0.05)
    require(
        np.shape(counts) == (4,),
        "counts: four numbers were expected, [without attack, under up, under down, worst case]",
    )
    counts = [number(k, "a count") for k in counts]
    require(
        all(k == round(k) and 0 <= k <= 6 for k in counts),
        "counts: whole numbers of images, from 0 to 6, were expected",
    )
    true = {name: report.still_correct(name).sum() for name in report.names}
    require(
        counts[0] == true["clean"],
        "without attack: compare each pixel with 0.5, and the answer with the true class",
    )
    for place, name in ((1, "up"), (2, "down")):
        require(
            counts[place] <= true[name],
            f"under {name}: too many; which pixels cross 0.5, and was every image that you count right to begin with?",
        )
        require(counts[place] == true[name], f"under {name}: too few; which pixels cross 0.5?")
    require(
        counts[3] != min(counts[:3]), "worst case: go through the images one by one, not through the columns"
    )
    require(
        counts[3] == true["worst case"], "worst case: which images are right without attack and under both?"
    )
    require(
        abs(number(success, "success") - report.success_rate()) < 1e-6,
        "success: broken images, by one attack or the other, among which images?",
    )


@exercise("05.3")
def images_needed(answer):
    def width(share, n):
        low, high = interval(round(share * n), n)
        return high - low

    for share, wanted in ((0.9, 0.02), (0.5, 0.02), (0.95, 0.1), (1.0, 0.02)):
        case = f"share {share:g}, width {wanted:g}"
        n = number(answer(share, wanted), "n")
        require(n == round(n) and n >= 1, f"{case}: you return {n:g}; a whole number of images was expected")
        n = int(n)
        require(
            n < 10**7 and width(share, n) <= wanted,
            f"{case}: with your n = {n:,} the interval is {width(share, min(n, 10**7)):.4f} wide",
        )
        fewer = max(1, int(n * 0.99) - 1)
        while fewer > 0.5 * n and width(share, fewer) > wanted:
            fewer = int(fewer * 0.97)
        require(
            width(share, max(fewer, 1)) > wanted,
            f"{case}: your n = {n:,} is enough, but over 1 % fewer images are enough too",
        )


@exercise("05.4")
def apart(pairs, networks):
    if isinstance(pairs, str):
        pairs = re.findall(r"\w+", pairs)
    try:
        given = {"".join(sorted("".join(pair).upper())) for pair in pairs}
    except TypeError:
        raise Hint('a list of pairs was expected, for example ["AB", "CD"]') from None
    ends = {name: interval(*counts) for name, counts in networks.items()}
    known = {a + b for a, b in combinations(sorted(networks), 2)}
    require(given <= known, f"{sorted(given - known)[:1]} is no pair of two different networks of the figure")
    true = {p for p in known if max(ends[p[0]][0], ends[p[1]][0]) > min(ends[p[0]][1], ends[p[1]][1])}
    require(
        not given - true,
        "there is a pair in your list whose intervals overlap: lay a ruler upright at the end of each interval",
    )
    require(not true - given, "a pair is missing: lay a ruler upright at the end of each interval")


@exercise("05.5")
def honest(answer):
    model, x, y = toy()
    y[-4:] = predict_logits(model, x).argsort(axis=1)[-4:, -2]  # four images of 28 are wrong without attack
    other = _towards(model, x, (y + 1) % 4)

    def still(model, x, y):
        return x.copy()

    def some(wanted, points=other):
        """An attack that returns `points` for the images of `wanted`, whatever their size, and x for the others."""
        return lambda model, x, y: np.where(wanted[:, None, None, None], points, x).astype(np.float32)

    def call(attacks, norm="linf", eps=0.4):
        share = number(answer(model, x.copy(), y.copy(), attacks, norm, eps), "robust accuracy")
        require(0 <= share <= 1, f"robust accuracy is {share:g}: a number from 0 to 1 was expected")
        return share * len(x)

    def is_near(a, b):
        return abs(a - b) < 1e-6

    i = np.arange(28)
    require(
        is_near(call({"none": still}), 24),
        "under an attack that does nothing the clean accuracy should be left",
    )
    healed = _towards(model, x, y)
    require(
        is_near(call({"heals": lambda model, x, y: np.where((i >= 24)[:, None, None, None], healed, x)}), 24),
        "four images are wrong without attack and an attack makes them right: they are not robust for that",
    )
    first, second = some(i < 6), some((i >= 6) & (i < 10))
    require(
        is_near(call({"a": first}), 18),
        "an attack breaks six of 24 right images, within ball and box: 18 are left",
    )
    require(
        is_near(call({"a": first, "b": second}), 14),
        "one attack breaks six images, another four others: how many are left under both?",
    )
    require(
        is_near(call({"a": first}, eps=0.01), 24),
        f"the points are {np.abs(other - x)[:6].max():.2f} away from x, the budget is 0.01, and yet they count as broken",
    )
    sizes = np.sqrt(((other - x) ** 2).sum(axis=(1, 2, 3)))[:24]
    middle = float(np.sort(sizes)[11:13].mean())
    require(
        is_near(call({"a": some(i < 24)}, "l2", middle), 12),
        f"in L2 with ε = {middle:.2f} twelve of 24 points are within the budget and twelve are not: twelve images are left",
    )
    beyond = x + 0.95 * (other - x) / np.abs(other - x).max(axis=(1, 2, 3), keepdims=True)
    for what, points in (("below 0", np.minimum(beyond, 1)), ("above 1", np.maximum(beyond, 0))):
        require(
            is_near(call({"a": some(i < 6, points)}, eps=1.0), 24),
            f"points with pixels {what} are no images, and yet they count as broken",
        )
    require(
        is_near(call({"a": some(i < 6, np.float32(np.nan))}), 24), "a point with NaN in it counts as broken"
    )
    both = lambda model, x, y: np.where((i < 6)[:, None, None, None], other, np.float32(np.nan))  # noqa: E731
    require(
        is_near(call({"a": both}), 18),
        "six points break their images, the other points are NaN: is the attack's failure on one image held against another?",
    )
    edge = float(np.abs(other - x)[:6].max())
    require(
        is_near(call({"a": first}, eps=edge - 5e-7), 18),
        "a size 0.0000005 above ε is rounding in float32, and yet it counts as a failure of the attack",
    )


def _towards(model, x, y):
    """For each image a point that the linear model calls y, or at least nothing but the class it was before."""
    w, logits, i = model.get_weights()[0].T, predict_logits(model, x), np.arange(len(x))
    start = logits.argmax(axis=1)
    direction = w[y] - w[start]
    gap = (logits[i, start] - logits[i, y]) / np.maximum(np.abs(direction).sum(axis=1), 1e-12)
    return (x + 1.3 * (gap[:, None] * np.sign(direction)).reshape(x.shape)).astype(np.float32)
