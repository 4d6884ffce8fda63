"""Damage that nobody optimised: fifteen corruptions in the style of MNIST-C, and how much they cost a model. Lesson 12.

The kinds and their fixed severities are those of MNIST-C (Mu & Gilmer 2019, arXiv 1906.02337). "In the style of", because the
published set was made once, with ImageMagick's motion blur and other random draws; these are made on the spot, from a seed. Every
image gets its own draw, the same for every model and in any order.

    >>> x_fog = corrupt(x_test[:100], "fog")
    >>> errors(net, x_test[:1000], y_test[:1000])
"""

import itertools

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage import feature, filters, transform, util

from advlib._checks import check_choice, check_images, check_labels, check_number, predicted_classes


def corrupt(x, kind, seed=0):
    """The images after one kind of corruption, float32 (N, H, W, 1) in [0, 1].

    x: float32 (N, H, W, 1) in [0, 1], made for 28 × 28. kind: one of `KINDS`. seed: of the random parts, which depend on the
    image too, so that neither order nor company matters. Raises TypeError or ValueError for bad input.
    Source: Mu & Gilmer 2019, arXiv 1906.02337, and its released parameters. Lesson 12.

        >>> corrupt(x_test[:5], "shot_noise")
    """
    from advlib.attacks._loop import stream

    x = check_images(x)
    if x.shape[3] != 1:
        raise ValueError(
            f"x has {x.shape[3]} channels: grey images of shape (N, H, W, 1) were expected, for example MNIST's"
        )
    damage = KINDS[check_choice(kind, "kind", tuple(KINDS))]
    check_number(seed, "seed", low=0, integer=True, example=0)
    out = [damage(image[..., 0].astype(np.float64), stream(image, seed, kind)) for image in x]
    return np.clip(np.stack(out), 0, 1).astype(np.float32)[..., None]


def errors(model, x, y, kinds=None, seed=0):
    """The share of images misread under each kind, a pandas Series: "identity" is the clean error.

    kinds: names, by default all of `KINDS`; the other arguments as in `corrupt`. NaN is misread. Lesson 12."""
    from advlib.models import predict_logits

    y = check_labels(y, len(check_images(x)))
    wrong = {
        k: (predicted_classes(predict_logits(model, corrupt(x, k, seed))) != y).mean() for k in kinds or KINDS
    }
    return pd.Series(wrong, name="error", dtype=float)


def mean_corruption_error(errors, baseline, relative=False):
    """mCE: the mean over the corruptions of a model's error divided by the baseline model's, 1 for the baseline itself.

    errors, baseline: Series of `errors`, of the same kinds; "identity" is left out. relative: of what each corruption *adds* to
    the clean error, so that "identity" must be there. ValueError where the kinds differ or the baseline makes no error.
    Source: Hendrycks & Dietterich 2019, arXiv 1903.12261, §4.2 (there over five severities, here one). Lesson 12.
    """
    if set(errors.index) != set(baseline.index):
        only = sorted(set(errors.index) ^ set(baseline.index))
        raise ValueError(f"the two were measured on different corruptions ({', '.join(only)}): the same kinds were expected, "
                         "for example errors(model, x, y) of both")  # fmt: skip
    if relative and "identity" not in errors.index:
        raise ValueError(
            "relative=True needs the error without corruption: the kind 'identity' was expected among the errors"
        )
    kinds = [k for k in errors.index if k != "identity"]
    own, base = errors[kinds], baseline[kinds]
    if relative:
        own, base = own - errors["identity"], base - baseline["identity"]
    if not (base > 0).all():
        none = ", ".join(base.index[~(base > 0)])
        raise ValueError(
            f"the baseline loses nothing under {none}: a baseline with an error under every kind was expected"
        )
    return float((own / base).mean())


# ---- noise


def shot_noise(x, rng):
    """Few photons: counts of mean 3·x, divided by 3."""
    return rng.poisson(3 * x) / 3


def impulse_noise(x, rng):
    """Salt and pepper on 17 % of the pixels."""
    return util.random_noise(x, mode="s&p", amount=0.17, rng=rng)


# ---- blur


def glass_blur(x, rng):
    """Blur, swap neighbouring pixels, twice, and blur again: a pane of frosted glass."""
    x = filters.gaussian(x, sigma=0.7)
    height, width = x.shape
    for _ in range(2):
        swaps = rng.integers(0, 2, x.shape)
        moves = rng.integers(-1, 1, (*x.shape, 2))
        for row in range(height - 1, 1, -1):
            for column in range(width - 1, 1, -1):
                if swaps[row, column]:
                    other = row + moves[row, column, 0], column + moves[row, column, 1]
                    x[row, column], x[other] = x[other], x[row, column]
    return filters.gaussian(x, sigma=0.7)


def motion_blur(x, rng):
    """A streak of Gaussian weights (deviation 3, length 10) to one side, at an angle within 45° of the horizontal."""
    angle, reach = rng.uniform(-np.pi / 4, np.pi / 4), np.arange(11)
    weights = np.exp(-(reach**2) / (2 * 3**2))
    kernel = np.zeros((21, 21))
    np.add.at(
        kernel,
        (10 + np.rint(reach * np.sin(angle)).astype(int), 10 + np.rint(reach * np.cos(angle)).astype(int)),
        weights,
    )
    return ndimage.convolve(x, kernel / kernel.sum(), mode="nearest")


# ---- geometry, about the centre of the image


def shear(x, rng):
    """A shear by 0.4 rad, to one side or the other."""
    c = 0.4 * rng.choice([-1, 1])
    return warp(x, [[1, -np.sin(c)], [0, np.cos(c)]])


def scale(x, rng):
    """A digit of 70 % of the size."""
    return warp(x, np.eye(2) / 0.7)


def rotate(x, rng):
    """A turn by 0.4 rad (23°), to one side or the other."""
    c = 0.4 * rng.choice([-1, 1])
    return warp(x, [[np.cos(c), -np.sin(c)], [np.sin(c), np.cos(c)]])


def translate(x, rng):
    """A shift by 3 pixels in both directions."""
    return warp(x, np.eye(2), 3 * rng.choice([-1, 1], 2))


def warp(x, matrix, shift=(0, 0)):
    """The image whose point p shows what x has at M(p − c) + c + shift, c the centre; p = (column, row). Outside is black."""
    matrix = np.asarray(matrix, float)
    centre = (np.array(x.shape[::-1]) - 1) / 2
    homogeneous = np.eye(3)
    homogeneous[:2, :2], homogeneous[:2, 2] = matrix, centre - matrix @ centre + shift
    return transform.warp(x, transform.AffineTransform(matrix=homogeneous))


# ---- light and weather


def brightness(x, rng):
    """Every pixel brighter by 0.5."""
    return x + 0.5


def fog(x, rng):
    """A cloud of three times the image's contrast over it, then darkened to the old range."""
    top = x.max()
    return (x + 3.0 * plasma(x.shape, 1.4, rng)) * top / (top + 3.0)


def plasma(shape, decay, rng):
    """A random height map in [0, 1] by diamonds and squares on a torus; each halving divides the noise by decay²."""
    size = 1 << max(8, (max(shape) - 1).bit_length())
    height, step, noise = np.zeros((size, size)), size, 1.0
    while step > 1:
        half = step // 2
        corners = height[::step, ::step]
        mean = (
            corners + np.roll(corners, -1, 0) + np.roll(corners, -1, 1) + np.roll(corners, (-1, -1), (0, 1))
        ) / 4
        height[half::step, half::step] = middles = mean + noise * rng.uniform(-1, 1, mean.shape)
        beside = (corners + np.roll(corners, -1, 1) + middles + np.roll(middles, 1, 0)) / 4
        below = (corners + np.roll(corners, -1, 0) + middles + np.roll(middles, 1, 1)) / 4
        height[::step, half::step] = beside + noise * rng.uniform(-1, 1, beside.shape)
        height[half::step, ::step] = below + noise * rng.uniform(-1, 1, below.shape)
        step, noise = half, noise / decay**2
    height -= height.min()
    return (height / height.max())[: shape[0], : shape[1]]


def spatter(x, rng):
    """Drops of grey mud."""
    liquid = filters.gaussian(rng.normal(0.65, 0.3, x.shape), sigma=1)
    drops = filters.gaussian((liquid > 0.65).astype(float), sigma=1.5)
    drops[drops < 0.8] = 0
    return x * (1 - drops) + 63 / 255 * drops


# ---- drawn over


def dotted_line(x, rng):
    """A dashed line from the left edge to the right, two pixels on, two off."""
    height, width = x.shape
    drawn = line(x.shape, 0, rng.integers(0, height - 1), width - 1, rng.integers(0, height - 1))
    drawn[:, np.arange(width) // 2 % 2 == 0] = 0
    return x + drawn


def zigzag(x, rng):
    """A zigzag from left to right, 4 pixels a period and 2 high."""
    first, last = 2, x.shape[1] - 3
    start = rng.integers(0, x.shape[0] - 1)
    end = start + rng.integers(-5, 5)
    along = np.hypot(last - first, end - start)
    turns = np.arange(2, along, 4)  # along its axis
    points = np.array([[0, 0], *zip(turns, 2 * (-1) ** np.arange(len(turns)), strict=True), [along, 0]])
    angle = np.arctan2(end - start, last - first)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ turn.T + [first, start]
    for (c0, r0), (c1, r1) in itertools.pairwise(points):
        x = np.clip(x + line(x.shape, c0, r0, c1, r1), 0, 1)
    return x


def line(shape, c0, r0, c1, r1):
    """A line of brightness 1 that fades to 0 within two pixels above and below."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = np.abs(rows - (r0 + (r1 - r0) / (c1 - c0) * (columns - c0)))
    ink = np.clip(np.log(1 - np.minimum(away, 2.3 - 1e-10) / 2.3) + 1, 0, 1)
    ink[(columns < np.floor(c0)) | (columns >= np.ceil(c1))] = 0
    return ink


def stripe(x, rng):
    """The left and the right quarter turned into their negatives."""
    out, quarter = x.copy(), x.shape[1] // 4
    out[:, :quarter], out[:, -quarter:] = 1 - x[:, :quarter], 1 - x[:, -quarter:]
    return out


def canny_edges(x, rng):
    """Only the outlines, by Canny's detector."""
    return feature.canny(x).astype(float)


KINDS = {
    "identity": lambda x, rng: x,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "shear": shear,
    "scale": scale,
    "rotate": rotate,
    "brightness": brightness,
    "translate": translate,
    "stripe": stripe,
    "fog": fog,
    "spatter": spatter,
    "dotted_line": dotted_line,
    "zigzag": zigzag,
    "canny_edges": canny_edges,
}
