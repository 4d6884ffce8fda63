"""Checks of lesson 00: one gradient step, what it may do to a pixel, and who is counted."""

import math

import numpy as np

from advlib.exercises import exercise, number, require


def near(value, expected, share=0.005):
    """Whether two numbers agree to half a per cent, as rounded to three digits."""
    return abs(value - expected) <= share * abs(expected)


@exercise("00.1")
def three_pixels(rising, falling, flat):
    rising, falling, flat = number(rising, "rising"), number(falling, "falling"), number(flat, "flat")
    require(rising <= 1, f"rising: {rising:g} is brighter than white; what does the equation do last?")
    require(rising >= 0.95, f"rising: {rising:g} is darker than before; the step goes along the gradient")
    require(abs(rising - 1) < 1e-6, f"rising: {rising:g} leaves some of the budget, and of the box, unused")
    require(falling >= 0.85 - 1e-6, f"falling: from 0.95 to {falling:g} is further than any pixel may move")
    require(
        falling <= 0.95,
        f"falling: {falling:g} is brighter than before; the sign of 0.00001 with a minus is −1",
    )
    require(
        falling < 0.85 + 1e-6, f"falling: {falling:g} is too near; does it matter how large the gradient is?"
    )
    require(abs(flat - 0.95) < 1e-6, "flat: what is the sign of 0, and how far does the pixel move then?")


@exercise("00.2")
def one_step(answer):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (5, 4, 4, 1)).astype(np.float32)
    g = (rng.normal(0, 1, x.shape) * 10 ** rng.uniform(-6, 3, x.shape)).astype(np.float32)
    x_given, g_given = x.copy(), g.copy()
    z = np.asarray(answer(x_given, g_given, 0.1))
    require(z.shape == x.shape, f"it returns shape {z.shape} for images of shape {x.shape}")
    require(
        (x_given == x).all() and (g_given == g).all(), "x or g was changed by the call; return a new array"
    )
    moved, i = z - x, np.unravel_index(np.abs(g).argmax(), g.shape)
    require(
        moved[i] * g[i] >= 0,
        f"where the gradient is {g[i]:.0f} the pixel moves by {moved[i]:.2f}: is that uphill?",
    )
    require(
        np.abs(moved) <= 0.1 + 1e-6,
        f"with ε = 0.1 some pixel moves by {np.abs(moved).max():.3g}, more than allowed",
    )
    i = np.unravel_index(np.abs(moved).argmin(), g.shape)
    require(
        abs(moved[i]) > 0.1 - 1e-6,
        f"a pixel at {x[i]:.2f} with gradient {g[i]:.2g} moves by {moved[i]:.2g}: in mid-grey every pixel can use the "
        "whole ε, however small its gradient",
    )
    require(np.sign(moved) == np.sign(g), "some pixel moves against its gradient, so that the loss falls")
    ends = np.where(x < 0.5, 0, 1).astype(np.float32)
    z = np.asarray(answer(ends, g, 0.1))
    require(
        (z >= 0) & (z <= 1),
        f"for black and white pixels the result runs from {z.min():.2f} to {z.max():.2f}; an image has pixels in [0, 1]",
    )
    require(np.abs(z - ends).max() > 0.09, "black and white pixels can still move towards grey; yours do not")
    still = np.asarray(answer(x, np.zeros_like(g), 0.1))
    require(np.isfinite(still), "where the gradient is 0 the result is NaN: what is divided by what?")
    require(still == x, "where the gradient is exactly 0 a pixel should stay where it is")
    require(np.abs(np.asarray(answer(x, g, 0.0)) - x) < 1e-7, "with ε = 0 nothing may change")


@exercise("00.3")
def how_many_times(colour, half):
    colour, half = number(colour, "colour"), number(half, "half")
    d = 32 * 32 * 3
    require(not near(colour, d), "colour: that is how many terms there are; noise cancels, but not all of it")
    require(
        not near(colour, 32),
        "colour: each of the 32 × 32 pixels has three colours, each with a weight of its own",
    )
    require(near(colour, math.sqrt(d)), f"colour: {colour:g}; do the two steps of the lesson with another d")
    require(
        not near(half, 14), "half: the ratio does not halve. How many terms are left in each of the two sums?"
    )
    require(
        not near(half, 28),
        "half: a weight of 0 adds nothing to the sum along the gradient; what is left of the two sums?",
    )
    require(
        near(half, math.sqrt(392)), f"half: {half:g}; how many terms of the sum are not 0, in either way?"
    )


@exercise("00.4")
def broken_and_mended(answer):
    def call(before, after, y):
        given = [np.array(a) for a in (before, after, y)]
        pair = answer(*given)
        require(
            isinstance(pair, tuple | list) and len(pair) == 2,
            f"it returns {type(pair).__name__}; two arrays, broken and mended, were expected",
        )
        for name, found in zip(("broken", "mended"), pair, strict=True):
            found = np.asarray(found)
            require(
                found.ndim == 1 and found.dtype != bool,
                f"{name} has shape {found.shape} and type {found.dtype}; the places of images were expected, as np.flatnonzero "
                "gives them",
            )
        return [sorted(int(i) for i in found) for found in pair]

    cases = [
        ("read right before and wrong after", 3, 5, 3, [0], []),
        ("read wrong before and right after", 5, 3, 3, [], [0]),
        ("read right both times", 3, 3, 3, [], []),
        ("misread both times, as two different digits", 5, 8, 3, [], []),
        ("misread both times, as the same digit", 5, 5, 3, [], []),
    ]
    for what, before, after, y, broken, mended in cases:
        found = call([before], [after], [y])
        for name, have, want in zip(("broken", "mended"), found, (broken, mended), strict=True):
            require(
                have == want,
                f"one image, {what} (label {y}, answers {before} and {after}): it should "
                f"{'' if want else 'not '}be among {name}",
            )
    rng = np.random.default_rng(0)
    before, after, y = rng.integers(0, 3, (3, 60))
    broken, mended = call(before, after, y)
    right, still = before == y, after == y
    require(
        broken == list(np.flatnonzero(right & ~still)) and mended == list(np.flatnonzero(~right & still)),
        "of sixty images with random answers, some are missing or in the wrong list",
    )
    require(
        right.sum() - len(broken) + len(mended) == still.sum(),
        "broken and mended do not explain the two counts",
    )


@exercise("00.5")
def allowed(answer):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (6, 4, 4, 1)).astype(np.float32)

    def call(x_new, eps=0.1, original=None):
        original = x if original is None else original
        verdict = np.asarray(answer(x_new.astype(np.float32), original.copy(), eps))
        require(
            verdict.shape == (len(original),) and verdict.dtype == bool,
            f"it returns {verdict.dtype} {verdict.shape}; one bool for each of {len(original)} images was expected",
        )
        return verdict

    def one_pixel(value):
        z = x.copy()
        z[2, 1, 3, 0] = value
        return z

    others = np.arange(6) != 2
    require(call(x), "an unchanged image is allowed")
    step = np.where(rng.random(x.shape) < 0.5, np.float32(0.1), np.float32(-0.1))
    require(
        call(x + step),
        "every pixel moved by ε = 0.1, up or down: that is allowed; float32 rounds, and up to 0.000001 is forgiven",
    )
    for shift in (0.15, -0.15):
        verdict = call(one_pixel(x[2, 1, 3, 0] + shift))
        require(not verdict[2], f"one single pixel moved by {shift:g} with ε = 0.1: the image is not allowed")
        require(verdict[others], "an image was refused for what was done to another one")
    require(not call(x + 0.12).any(), "all pixels moved by 0.12 with ε = 0.1: not allowed")
    ends = np.zeros_like(x)
    ends[3:] = 1
    require(not call(ends - 0.05, original=ends)[:3].any(), "black pixels moved to −0.05: that is no image")
    require(not call(ends + 0.05, original=ends)[3:].any(), "white pixels moved to 1.05: that is no image")
    require(
        not call(one_pixel(x[2, 1, 3, 0] + 0.10001))[2],
        "one pixel moved by 0.10001 with ε = 0.1: only 0.000001 is forgiven",
    )
    require(
        not call(ends - 5e-7, original=ends)[:3].any() and not call(ends + 5e-7, original=ends)[3:].any(),
        "pixels at −0.0000005 or 1.0000005: rounding is forgiven in the distance, not in the range",
    )
    with np.errstate(invalid="ignore"):
        require(not call(one_pixel(np.nan))[2], "an image with a pixel that is NaN is not allowed")
    require(call(x + 0.25, eps=0.3), "a change of 0.25 with ε = 0.3 is allowed")
