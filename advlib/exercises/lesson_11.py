"""Checks of lesson 11, proof: boxes through layers, two neurons by hand, certificates from votes, the price of a radius."""

from itertools import product

import numpy as np
from scipy.stats import binom, norm

from advlib.exercises import exercise, number, require


def _corners(low, high):
    """All 2^D corners of each box: (2^D, N, D)."""
    picks = np.array(list(product([False, True], repeat=low.shape[1])))
    return np.where(picks[:, None], high, low)


def _shown(values):
    return ", ".join(f"{v:.3g}" for v in np.ravel(values))


@exercise("11.1")
def through_abs(answer):
    def call(low, high, w, b):
        low, high, w, b = (np.array(v, float) for v in (low, high, w, b))
        ends = answer(low.copy(), high.copy(), w.copy(), b.copy())
        require(
            len(ends) == 2, f"two arrays were expected, the lower ends and the upper: {len(ends)} came back"
        )
        shape = (len(low), w.shape[1])
        for end in ends:
            require(
                np.shape(end) == shape, f"an array of ends has shape {np.shape(end)}: {shape} was expected"
            )
        bottom, top = (np.asarray(end, float) for end in ends)
        require(not np.isnan(bottom + top).any(), "some end is NaN")
        require(bottom <= top + 1e-12, "some lower end lies above its upper end")
        values = _corners(low, high) @ w + b
        reached = np.abs(values)
        crosses = (values.min(axis=0) <= 0) & (values.max(axis=0) >= 0)
        # vW + b goes through every value between its corners, so that |·| reaches 0 where the corners have both signs
        least = np.where(crosses, 0, reached.min(axis=0))
        for wrong, i in (
            (np.abs(reached.max(axis=0) - top), "upper"),
            (np.abs(least - bottom), "lower"),
        ):
            n, m = np.unravel_index(wrong.argmax(), wrong.shape)
            given, true = (top, reached.max(axis=0)) if i == "upper" else (bottom, least)
            outside = given[n, m] < true[n, m] if i == "upper" else given[n, m] > true[n, m]
            why = (
                "some point of the box gives a value outside"
                if outside
                else "no point of the box comes near it"
            )
            require(
                wrong[n, m] < 1e-9,
                f"for v from ({_shown(low[n])}) to ({_shown(high[n])}), weights ({_shown(w[:, m])}) and b = {b[m]:.3g} "
                f"your {i} end of |vW + b| is {given[n, m]:.3g}: {why}",
            )

    call([[1]], [[2]], [[1]], [0])
    call([[0]], [[1]], [[1]], [-5])
    call([[-3]], [[-1]], [[1]], [0])
    call([[1]], [[2]], [[-1]], [0.5])
    call([[-1]], [[2]], [[1]], [0])
    call([[0, 0]], [[1, 1]], [[1], [-1]], [0.5])
    call([[0.25, -1]], [[0.25, -1]], [[1, 2], [3, 4]], [0, 1])
    rng = np.random.default_rng(0)
    low, w, b = rng.normal(0, 1, (30, 5)), rng.normal(0, 1, (5, 3)), rng.normal(0, 1, 3)
    call(low, low + rng.uniform(0, 0.6, low.shape), w, b)


@exercise("11.2")
def by_hand(bound, truth, reach):
    def ends(eps):
        """The corners' leads, and the bound from the ranges of the hidden neurons."""
        corners = np.array([0.7, 0.3]) + eps * np.array(list(product([-1, 1], repeat=2)))
        a = np.stack([corners[:, 0] - corners[:, 1], corners.sum(axis=1) - 1], axis=1)
        h = np.maximum(a, 0)
        # 2·max(a₂, 0) − a₁ is convex where a₁ > 0, as here, so that a corner is the worst point
        return 2 * h[:, 1].max() - h[:, 0].min(), (2 * h[:, 1] - h[:, 0]).max()

    for name, given in (("bound", bound), ("truth", truth)):
        require(np.shape(given) == (3,), f"{name}: three numbers were expected, one for each ε")
    require(np.shape(reach) == (2,), "reach: two numbers were expected, for the intervals and for the truth")
    for eps, given_bound, given_truth in zip((0.05, 0.09, 0.12), bound, truth, strict=True):
        given_bound, given_truth = number(given_bound, "a bound"), number(given_truth, "a lead")
        allowed, real = ends(eps)
        if abs(allowed - given_bound) >= 0.005:
            swapped = abs(given_bound - real) < 0.005
            why = (
                "that is what the box really does; a bound knows the two ranges and not that they share their pixels"
                if swapped
                else "which ranges have h₁ and h₂, and which end of each makes 2h₂ − h₁ large?"
            )
            require(False, f"bound at ε = {eps}: {why}")
        require(
            given_truth <= allowed + 0.005,
            f"truth at ε = {eps}: no point of the box can have a larger lead than the bound allows",
        )
        require(
            abs(real - given_truth) < 0.005,
            f"truth at ε = {eps}: write z₁ − z₀ with x₁ and x₂, for a₂ above 0 and for a₂ below; where is each largest?",
        )
    by_bound, by_truth = (number(eps, "reach") for eps in reach)
    require(by_bound <= by_truth, "reach: intervals cannot prove what is not true")
    for name, eps, place in (("intervals", by_bound, 0), ("truth", by_truth, 1)):
        require(0 < eps < 0.3, f"reach of the {name}: an ε between 0 and 0.3 was expected")
        lead = ends(eps)[place]
        require(
            abs(lead) < 0.004,
            f"reach of the {name}: at ε = {eps:.4g} the largest lead is {lead:.3f}; it is lost where that is 0",
        )


@exercise("11.3")
def worst_lead(answer):
    def call(low, high, w, b, y):
        low, high, w, b, y = *(np.array(v, float) for v in (low, high, w, b)), np.array(y)
        given = answer(low.copy(), high.copy(), w.copy(), b.copy(), y.copy())
        shape = (len(low), w.shape[1])
        require(np.shape(given) == shape, f"the result has shape {np.shape(given)}: {shape} was expected")
        given, i = np.array(given, float), np.arange(len(y))
        require(not np.isnan(given).any(), "some lead is NaN")
        require(
            np.isneginf(given[i, y]),
            "at j = y, −∞ was expected, so that the largest of a row is never the true class itself",
        )
        z = _corners(low, high) @ w + b
        true = (z - np.take_along_axis(z, y[None, :, None], axis=2)).max(axis=0)
        given[i, y] = true[i, y]
        short = true - given
        n, j = np.unravel_index(short.argmax(), short.shape)
        require(
            short[n, j] < 1e-9,
            f"for the box from ({_shown(low[n])}) to ({_shown(high[n])}) you say that z_{j} − z_{y[n]} is at most "
            f"{given[n, j]:.3g}; some point of the box reaches more",
        )
        n, j = np.unravel_index(short.argmin(), short.shape)
        require(
            short[n, j] > -1e-9,
            f"for the box from ({_shown(low[n])}) to ({_shown(high[n])}) you allow z_{j} − z_{y[n]} = {given[n, j]:.3g}, "
            "which no point reaches: where z_j is largest, need z_y be smallest?",
        )

    call([[0]], [[1]], [[0, 1]], [0, 0], [0])
    call([[0]], [[1]], [[0, 1]], [1, -1], [1])
    call([[0]], [[1]], [[2, 3]], [0, 0], [0])
    rng = np.random.default_rng(0)
    low, w, b = rng.uniform(0, 1, (20, 5)), rng.normal(0, 1, (5, 4)), rng.normal(0, 1, 4)
    call(low, low + rng.uniform(0, 0.5, low.shape), w, b, rng.integers(0, 4, 20))
    call(low, low, w, b, rng.integers(0, 4, 20))


@exercise("11.4")
def certificates(answer):
    def call(first, second, sigma=0.5, alpha=0.001):
        first, second = np.array(first), np.array(second)
        with np.errstate(all="ignore"):
            result = answer(first.copy(), second.copy(), sigma, alpha)
        require(len(result) == 2, f"classes and radii were expected, two arrays: {len(result)} came back")
        for part in result:
            require(
                np.shape(part) == (len(first),),
                f"for {len(first)} images a result has shape {np.shape(part)}: ({len(first)},) was expected",
            )
        label, radius = np.asarray(result[0]), np.asarray(result[1], float)
        require(
            np.isfinite(radius), "a radius is infinite or NaN: no number of votes makes a share of 1 certain"
        )
        require(
            radius >= 0, "a radius is negative: where no majority is certain the vote abstains, with radius 0"
        )
        return label, radius

    def surely(k, n, sigma, alpha):
        """Hints where the radius for k of n votes promises more, or less, than the votes allow at level alpha."""
        votes = [[n - k, k, 0]]
        label, radius = call([[0, 100, 0]], votes, sigma, alpha)
        case = f"{k:,} of {n:,} votes, σ = {sigma:g}, α = {alpha:g}"
        require(label[0] == 1, f"{case}: a clear majority, and the answer is {label[0]} instead of its class")
        share = norm.cdf(radius[0] / sigma)
        chance = binom.sf(k - 1, n, share)
        require(
            chance < 1.02 * alpha,
            f"{case}: your radius is right only if the true share is at least {share:.4f}, but so many votes come "
            f"with a probability of {chance:.2g} where it is just that",
        )
        require(
            chance > 0.98 * alpha,
            f"{case}: a larger radius is certain enough: so many votes come with a probability of {chance:.2g} only "
            f"where the true share is the {share:.4f} that you take",
        )

    surely(990, 1000, 0.5, 0.001)
    surely(1000, 1000, 0.25, 0.001)
    surely(80, 100, 1.0, 0.05)
    label, radius = call([[0, 100, 0]] * 3, [[460, 540, 0], [0, 1000, 0], [400, 300, 300]])
    require(
        label[0] == -1 and radius[0] == 0,
        "540 of 1,000 votes are a majority of those counted; a true share below ½ gives as many more often than α allows",
    )
    require(label[1] == 1 and radius[1] > 0, "an image with 1,000 of 1,000 votes goes without a certificate")
    require(
        label[2] == -1 and radius[2] == 0,
        "the first count chose class 1, which has 300 of 1,000 votes in the second: there is no majority to certify",
    )
    label, radius = call([[60, 40, 0]], [[0, 1000, 0]])
    require(
        label[0] != 1,
        "the first count chose class 0, and class 1 is certified: a class that the second count chose was chosen for its luck",
    )
    require(
        label[0] == -1 and radius[0] == 0, "the chosen class has no vote at all in the second count: abstain"
    )
    _, small = call([[0, 1, 0]], [[10, 990, 0]])
    _, large = call([[0, 5000, 0]], [[10, 990, 0]])
    require(
        abs(small[0] - large[0]) < 1e-9,
        "the radius changes with the number of draws in the first count, which only chooses the class",
    )


@exercise("11.5")
def radius(limit, without, draws, found):
    limit, without, draws = number(limit, "limit"), number(without, "without"), number(draws, "draws")
    found = np.asarray(found, float)
    require(
        abs(limit - found.max()) <= 0.06,
        f"limit: at {limit:g} there are {int((found >= limit).sum())} of {len(found)} images certified; "
        "where does the curve come down for the last time?",
    )
    require(
        0 <= without <= len(found) and without == round(without),
        f"without: a number of images from 0 to {len(found)} was expected, not a share",
    )
    require(
        abs(without - (found < 0).sum()) <= 1,
        "without: where does the curve begin on the left, in per cent of 40, and how many images are missing there?",
    )
    require(draws >= 1, "draws: a number of draws was expected")
    proves = 0.5 * norm.ppf(0.001 ** (1 / draws))
    wanted = np.log(0.001) / norm.logcdf(2 / 0.5)
    require(
        abs(draws / wanted - 1) <= 0.02,
        f"draws: {draws:,.0f} draws that all agree prove a radius of {proves:.3f} at σ = 0.5; 2 was asked for",
    )
