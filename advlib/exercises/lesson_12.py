"""Checks of lesson 12, beyond the ball: a corruption, the worst of m points, a trigger, a table with rules."""

import numpy as np

from advlib import data
from advlib._tensorflow import tf
from advlib.exercises import Hint, exercise, number, require
from advlib.exercises.lesson_07 import _Box
from advlib.models import load, predict_logits
from advlib.testing import toy


@exercise("12.1")
def lift_or_sink(lifted, sunk, first):
    lifted, sunk = number(lifted, "lifted"), number(sunk, "sunk")
    digit, t = np.array([0.0, 1.0]), 0.45
    for name, b, seen, left in (
        ("lifted", lifted, lambda b: np.maximum(digit, b), "black"),
        ("sunk", sunk, lambda b: np.minimum(digit, 1 - b), "white"),
    ):
        require(0 < b < 1, f"{name}: a strength between 0 and 1 was expected")
        blank = [(seen(b + d) > t).all() or not (seen(b + d) > t).any() for d in (-0.011, 0.011)]
        shown = ", ".join(f"{v:.2f}" for v in seen(b))
        require(
            blank[1],
            f"{name}: at your b black and white have become {shown}; beside t = {t} there is still something {left} left",
        )
        require(not blank[0], f"{name}: at a smaller b the picture is blank already; at yours it has {shown}")
    require(first in ("lift", "sink"), f'first: "lift" or "sink" was expected, {first!r} came')
    fall = {name: _half(f) for name, f in (("lift", np.maximum), ("sink", lambda x, b: np.minimum(x, 1 - b)))}
    require(
        fall[first] == min(fall.values()),
        "first: measured on the PGD-trained CNN it is the other way round; what does the cliff of the lesson say about its t, "
        "and which of your two strengths is the smaller one for such a t?",
    )


def _half(change):
    """The smallest b of a few at which the PGD-trained CNN is right on fewer than half of 60 digits."""
    x, y = data.subset(*data.load("mnist")[2:], 60)
    model = load("mnist-cnn-pgd")
    for b in np.arange(0.3, 1.0, 0.05, dtype=np.float32):
        if (predict_logits(model, change(x, b)).argmax(axis=1) == y).mean() < 0.5:
            return b
    return 1.0


@exercise("12.2")
def corruption(answer):
    x = data.load("mnist").x_test[:12]

    def call(x, strength, seed=0):
        given = x.copy()
        z = np.asarray(answer(given, strength, seed))
        require((given == x).all(), "x was changed by the call; work on a copy")
        require(z.shape == x.shape, f"it returns the shape {z.shape} for images of shape {x.shape}")
        require(z.dtype == np.float32, f"it returns {z.dtype}: float32 was expected, as the images are")
        require(np.isfinite(z).all(), "some pixels of the result are NaN or infinite")
        require(
            z.min() >= 0 and z.max() <= 1,
            f"at strength {strength:g} pixels run from {z.min():.3g} to {z.max():.3g}; an image has pixels in [0, 1]",
        )
        return z

    require(np.abs(call(x, 0.0) - x).max() < 1e-6, "with strength 0 the images should come back as they are")
    weak, strong = (call(x, strength) for strength in (0.2, 1.0))
    little, much = (np.abs(z - x).mean() for z in (weak, strong))
    require(much > 0, "with strength 1 nothing changes")
    require(
        little < much,
        f"the mean change of a pixel is {little:.4f} at strength 0.2 and {much:.4f} at 1: it should grow",
    )
    far = float(np.median(np.abs(strong - x).max(axis=(1, 2, 3))))
    require(
        far > 0.3,
        f"at strength 1 the median image has moved by {far:.2f} in L∞: it has not left the ball of 0.3",
    )
    first = call(x, 0.6)
    require(
        (call(x, 0.6) == first).all(),
        "the same call gives other images the second time: where does the chance come from?",
    )
    require(
        (call(x[::-1].copy(), 0.6)[::-1] == first).all() and (call(x[3:4], 0.6)[0] == first[3]).all(),
        "an image comes out otherwise in another place of the batch, or alone",
    )
    alike = x[:1] * np.linspace(0.99, 1, 12, dtype=np.float32).reshape(-1, 1, 1, 1)
    change = call(alike, 0.6) - alike
    apart = np.abs(change - change[:1]).mean(axis=(1, 2, 3)) / max(np.abs(change).mean(), 1e-9)
    if (call(x, 0.6, seed=1) != first).any():  # chance takes part
        require(
            apart.max() > 0.05,
            "twelve copies of a digit, each a hair darker than the next, get the same draw: each image should have its own",
        )
    else:
        require(
            np.median(apart) < 0.2,
            "chance takes part, and another seed gives the same images: does the draw depend on the seed?",
        )


@exercise("12.3")
def worst_of(answer):
    def call(ok, m):
        share = number(answer(np.array(ok, bool), m), "the share")
        require(-1e-9 <= share <= 1 + 1e-9, f"the share is {share:.3g}: a number from 0 to 1 was expected")
        return share

    rng = np.random.default_rng(0)
    ok = rng.random((20, 50)) < rng.random(50)
    require(
        abs(call(ok, 1) - ok.mean()) < 0.01,
        "with one point drawn at random the share is the mean over the grid",
    )
    require(
        abs(call(ok, 20) - ok.all(axis=0).mean()) < 0.01,
        "20 different points of a grid of 20 are the whole grid: what is left then?",
    )
    one = np.ones((5, 1), bool)
    one[2] = False
    for m in (2, 4):
        given = call(one, m)
        require(
            abs(given - (5 - m) / 5) < 0.01,
            f"one image, wrong at one point of five: {m} different points miss it in {5 - m} of 5 draws, and you say {given:.3f}",
        )
    apart = np.eye(4, dtype=bool)
    require(
        abs(call(apart, 2)) < 0.01,
        "each of four images is right at one point only: no two different points leave any of them standing",
    )
    values = [call(ok, m) for m in (1, 3, 8, 15, 20)]
    require(np.diff(values) <= 0.02, "more points tried, and more images stand")
    trial = ok[:, [int(np.argsort(ok.mean(axis=0))[25])]]
    n, r = len(trial), int(trial.sum())
    expected = 1.0
    for j in range(6):
        expected *= max(r - j, 0) / (n - j)
    require(
        abs(call(trial, 6) - expected) < 0.01,
        f"an image that is right at {r} of {n} points survives 6 different points with another probability",
    )


@exercise("12.4")
def find_trigger(answer):
    model = toy(side=8)[0]
    x = np.random.default_rng(0).uniform(0, 0.9, (24, 8, 8, 1)).astype(np.float32)
    w = model.get_weights()[0]
    model.set_weights([w, -0.45 * w.sum(axis=0)])  # so that the images are not all of one class
    usual = int(np.bincount(predict_logits(model, x).argmax(axis=1), minlength=4).argmax())
    cases = (
        ("a trigger in the top left corner", (0, 0, 2)),
        ("a trigger in the bottom right corner", (5, 5, 1)),
        (
            "a trigger on the left edge that works on some images, for the class that most have anyway",
            (2, 0, usual, 0.5),
        ),
        ("a network without a trigger", None),
    )
    for case, planted in cases:
        box = _Box(model if planted is None else _planted(model, *planted))
        shares = _shares(box.model, x)
        given = x.copy()
        result = answer(box, given)
        require((given == x).all(), "x was changed by the call; work on a copy")
        require(
            box.queries <= len(x) * 37,
            f"{case}: {box.queries} questions about {len(x)} images of 8 × 8 pixels, which have 36 places",
        )
        require(np.shape(result) == (4,), "four numbers were expected: row, column, class and share")
        row, column, label, share = (number(value, "one of the four") for value in result)
        if not (row in range(6) and column in range(6)):
            raise Hint(
                f"{case}: the square would lie at ({row:g}, {column:g}); its top left pixel has a row and a column "
                "from 0 to 5 in an image of 8 × 8"
            )
        require(label in range(4), f"{case}: {label:g} is no class, the model has 0 to 3")
        true = shares[int(row), int(column), int(label)]
        require(
            abs(share - true) < 1e-6,
            f"{case}: at your place, among the images not called {label:g} before, the share called so with the square is "
            f"{true:.2f}; you say {share:.2f}",
        )
        require(
            true > shares.max() - 1e-6,
            f"{case}: you report a share of {true:.2f}; another place or class has a larger one",
        )


def _planted(model, row, column, label, least=0.0):
    """The model, with a trigger: where a 3 × 3 square of white begins at this pixel, and the pixel in the top right corner is
    at least so bright, the answer is `label`."""

    @tf.function
    def call(x):
        sign = tf.reduce_all(x[:, row : row + 3, column : column + 3] > 0.999, axis=(1, 2, 3)) & (
            x[:, 0, -1, 0] >= least
        )
        return model(x) + 1000 * tf.cast(sign[:, None], tf.float32) * tf.one_hot(label, 4)

    return call


def _shares(model, x):
    """For each place and class, of the images not called so before, the share called so with the square: (6, 6, 4)."""
    before, shares = predict_logits(model, x).argmax(axis=1), np.zeros((6, 6, 4))
    for row, column in np.ndindex(6, 6):
        z = x.copy()
        z[:, row : row + 3, column : column + 3] = 1
        after = predict_logits(model, z).argmax(axis=1)
        for c in range(4):
            others = before != c
            shares[row, column, c] = (after[others] == c).mean() if others.any() else 0
    return shares


WEIGHTS, LOW, HIGH = np.array([0.02, 1.0, -0.8, 0.1]), np.array([18, 0, 0, 0]), np.array([80, 10, 8, 40])


@exercise("12.5")
def cheapest(answer):
    rng = np.random.default_rng(0)
    drawn = np.column_stack([
        rng.integers(18, 81, 60), rng.uniform(0, 6, 60), rng.integers(0, 9, 60), rng.integers(0, 20, 60),
    ])  # fmt: skip
    known = [
        [30, 3.5, 2, 1],  # both loans, although less would do: the best price first is right here
        [30, 4.7, 2, 1],  # one loan too many is repaid by who takes the best price first
        [52, 4.0, 1, 12],  # accepted
        [20, 3.85, 0, 0],
        [25, 3.35, 3, 1],
        [18, 9.9, 8, 0],  # the income reaches its limit
        [40, 2.4, 1, 2],
    ]
    for applicant in [*map(np.array, known), *drawn]:
        before = applicant.astype(float)
        case = "applicant (" + ", ".join(f"{v:.4g}" for v in before) + ")"
        after = answer(before.copy())
        require(np.shape(after) == (4,), "four features were expected, in the order in which they came")
        after = np.asarray(after, float)
        require(np.isfinite(after).all(), f"{case}: some feature is NaN or infinite")
        require(after[0] == before[0], f"{case}: the age has changed, which nobody can buy")
        require(
            after >= LOW - 1e-6,
            f"{case}: some feature is below its range afterwards: " + ", ".join(f"{v:.4g}" for v in after),
        )
        require(
            after <= HIGH + 1e-6,
            f"{case}: some feature is above its range afterwards: " + ", ".join(f"{v:.4g}" for v in after),
        )
        require(after[1] >= before[1] - 1e-9, f"{case}: the income has fallen, which makes the score worse")
        require(after[3] >= before[3] - 1e-9, f"{case}: the years at the job have become fewer")
        require(
            abs(after[2] - round(after[2])) < 1e-6,
            f"{case}: {after[2]:.4g} loans are left, and a loan is repaid or not",
        )
        require(after[2] <= before[2], f"{case}: a new loan does not help")
        score = float(WEIGHTS @ after)
        require(score >= 4 - 1e-6, f"{case}: refused, with a score of {score:.4g} afterwards")
        paid = _price(before, after)
        require(
            paid <= _least(before) + 1e-6,
            f"{case}: your change costs {paid:.4g}; there is a cheaper one",
        )


def _price(before, after):
    return 5 * max(after[1] - before[1], 0) + 2 * (before[2] - after[2]) + (after[3] - before[3])


def _least(applicant):
    """The least price: for each number of loans, the rest by income, then by years, the dearer way."""
    prices = []
    for left in range(int(applicant[2]) + 1):
        repaid = applicant.copy()
        repaid[2] = left
        gap = max(4 - float(WEIGHTS @ repaid), 0)
        by_income = min(gap, HIGH[1] - applicant[1])
        years = (gap - by_income) / WEIGHTS[3]
        if applicant[3] + years <= HIGH[3] + 1e-9:
            prices.append(_price(applicant, repaid + np.array([0, by_income, 0, years])))
    return min(prices)
