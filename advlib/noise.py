"""Random noise: the baseline that an attack must beat, and what the article takes for an attack. Lesson 02.

Each image's noise depends on the seed and the image alone, never on its place in the batch. Clipping to [0, 1] is part of
the noise.
"""

import numpy as np

from advlib import norms
from advlib._checks import check_choice, check_images, check_number
from advlib.attacks._loop import run, stream


def uniform(x, eps, seed=0):
    """clip( x + u ), u uniform in [−ε, ε] for each pixel.

    x: float32 (N, H, W, C) in [0, 1]; eps in [0, 1]. Returns float32 of x's shape; eps = 0 returns x's values.
    Raises TypeError or ValueError for bad input. RMS size in L2: ε·√(d/3), 16.17ε on MNIST, before clipping. Lesson 02.

        >>> x_noisy = uniform(x, 0.1)
    """
    return _add(x, check_number(eps, "eps", low=0, high=1, example=0.1), seed, UNIT["uniform"])


def signs(x, eps, seed=0):
    """clip( x + ε·s ), s = ±1 at random for each pixel: noise of the size of an FGSM step. Else as `uniform`. Lesson 02."""
    return _add(x, check_number(eps, "eps", low=0, high=1, example=0.1), seed, UNIT["signs"])


def gaussian(x, sigma, seed=0):
    """clip( x + σ·n ), n standard normal for each pixel; the article's noise has σ = 0.03.

    sigma ≥ 0 in pixel units; L2 size about σ·√d = 28σ on MNIST before clipping. Else as `uniform`. Lesson 02.
    """
    return _add(x, check_number(sigma, "sigma", low=0, example=0.1), seed, UNIT["gaussian"])


def salt_and_pepper(x, p, seed=0):
    """Each pixel, all channels together, is replaced with probability `p`, by black or white with probability ½ each.

    p in [0, 1]; about half of the replaced pixels of a black background stay black. Else as `uniform`. Lesson 02.
    """
    x = check_images(x)
    check_number(p, "p", low=0, high=1, example=0.1)
    check_number(seed, "seed", low=0, integer=True, example=0)
    out = x.copy()
    for image, original in zip(out, x, strict=True):
        rng = stream(original, seed, "salt_and_pepper")
        replaced = rng.random(image.shape[:2]) < p
        image[replaced] = rng.integers(0, 2, int(replaced.sum()))[:, None]
    return out


def best_of(model, x, y, *, eps, norm="linf", draws=1000, kind="uniform", seed=0, batch_size=144):
    """The most harmful of `draws` random points: an attack without gradients, as a baseline for those with.

    kind: "uniform", "signs" (the size of an FGSM step) or, of deviation eps and so of no fixed size in L∞, "gaussian".
    norm: in another than "linf" the points are drawn uniformly from the ball ("uniform" is the only kind).
    Returns x_adv, the point of the largest cross-entropy, or one that the model gets wrong; images that the model already gets
    wrong come back unchanged. Everything else is as in `pgd`. Source: the sanity check of Carlini et al. 2019, arXiv 1902.06705,
    §4.11. Lesson 02.

        >>> x_adv = best_of(net, x[:100], y[:100], eps=0.1, draws=1000, kind="signs")
    """
    draw = UNIT[check_choice(kind, "kind", UNIT)]
    check_number(draws, "draws", low=1, integer=True, example=1000)
    ball = norms.get(norm)
    if ball.name != "linf":
        check_choice(kind, "kind", ("uniform",))

    def add(image, rng):
        if ball.name == "linf":
            return image + np.float32(eps) * draw(rng, image.shape)
        return image + ball.sample(rng, image.shape, eps)

    def best_of(group):
        rngs = group.streams("best_of", kind)
        group.begin()
        for _ in range(draws):
            z = group.x.copy()
            for i in group.standing:
                z[i] = add(z[i], rngs[i])
            group.look(np.clip(z, 0, 1))

    return run(
        best_of, model, x, y, eps=eps, norm=ball.name, batch_size=batch_size, seed=seed, gradient=False
    )


# Noise of strength 1, for one image.
UNIT = {
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape).astype(np.float32),
    "signs": lambda rng, shape: rng.integers(0, 2, shape).astype(np.float32) * 2 - 1,
    "gaussian": lambda rng, shape: rng.standard_normal(shape, np.float32),
}


def _add(x, strength, seed, draw):
    x = check_images(x)
    check_number(seed, "seed", low=0, integer=True, example=0)
    noise = np.stack([draw(stream(image, seed, "noise"), image.shape) for image in x])
    return np.clip(x + np.float32(strength) * noise, 0, 1)
