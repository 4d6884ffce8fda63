"""SPSA (Uesato et al. 2018): the gradient from finite differences along random signs, then Adam. Lesson 07."""

import math

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib.attacks._loop import run

# Points of 28 × 28 asked about at once, to bound the memory; fewer of larger images.
PROBES = 2048


def slope(group, z, delta, samples, draw, rngs):
    """ĝ = 1/n · Σ_s (L(z + δ·v_s) − L(z − δ·v_s)) / 2δ · v_s at each standing image's z, 0 at the others; n = `samples`.

    draw(rng, shape) makes the v_s, each image's from its own generator; E[v·vᵀ] = 1, so that E[ĝ] = ∇L where L is linear. The
    points asked about are clipped to [0, 1], as images are: where a pixel is black or white, ĝ is half as large."""
    g, shape = np.zeros_like(z), z.shape[1:]
    at_once = max(1, PROBES * 784 // max(784, math.prod(shape)) // (2 * samples))
    for first in range(0, len(group.standing), at_once):
        i = group.standing[first : first + at_once]
        v = np.stack([draw(rngs[j], (samples, *shape)) for j in i])
        here, step = z[i][:, None], np.float32(delta) * v
        probes = np.clip(np.stack([here + step, here - step]), 0, 1).reshape(-1, *shape)
        loss, _ = group.query(probes, np.tile(np.repeat(i, samples), 2), candidates=False)
        up, down = loss.reshape(2, len(i), samples)
        for j, rise, directions in zip(i, (up - down) / (2 * delta), v, strict=True):
            g[j] = np.tensordot(rise / samples, directions, 1)
    return g


def signs(rng, shape):
    """v = ±1 for each pixel (Rademacher)."""
    return rng.integers(0, 2, shape, np.int8).astype(np.float32) * 2 - 1


def adam(g, m, v, t, learning_rate):
    """Step t = 1, 2, … of Adam, uphill: m ← 0.9·m + 0.1·g, v ← 0.999·v + 0.001·g²; α · m̂ / (√v̂ + 10⁻⁸)."""
    m[:] = 0.9 * m + 0.1 * g
    v[:] = 0.999 * v + 0.001 * g * g
    return learning_rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def spsa(
    model, x, y, *, eps, steps=100, samples=128, delta=0.01, learning_rate=0.01, y_target=None, seed=0, callback=None,
    batch_size=144,
):  # fmt: skip
    """Adam on an estimated gradient of the margin, from 2·`samples` queries a step: x^{t+1} = Π( x^t + Adam(ĝ) ), in L∞.

    samples: pairs of points x ± δ·v for one estimate, v = ±1 at random for each pixel, drawn anew for each image and step;
    delta: δ, in pixel units. learning_rate: Adam's, the largest change of a pixel in a step. Each step asks 2·samples + 1 times
    for an image, the last time at the new point; the search for an image ends once that is broken.
    Everything else, what is returned and what is raised are as in `pgd`.

    Source: Uesato et al. 2018, arXiv 1802.05666, §4.3 and Algorithm 1; the estimate: Spall 1992. Lesson 07.

        >>> x_adv = spsa(net, x[:10], y[:10], eps=0.3, steps=40)
    """
    ball = norms.get("linf")
    check_number(steps, "steps", low=0, integer=True, example=100)
    check_number(samples, "samples", low=1, integer=True, example=128)
    check_number(delta, "delta", above=0, high=1, example=0.01)
    learning_rate = check_number(learning_rate, "learning_rate", low=0, example=0.01)

    def attack(group):
        group.begin(candidate=False)
        rngs, z = group.streams("spsa"), group.x.copy()
        m, v = np.zeros_like(z), np.zeros_like(z)
        group.look(z)
        for t in range(1, steps + 1):
            g = slope(group, z, delta, samples, signs, rngs)
            z = ball.project(z + adam(g, m, v, t, learning_rate), group.x, eps).numpy()
            group.look(z)

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss="margin", batch_size=batch_size, seed=seed,
        gradient=False, callback=callback,
    )  # fmt: skip
