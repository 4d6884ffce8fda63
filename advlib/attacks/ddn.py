"""Decoupled direction and norm (Rony et al. 2019): a minimal-norm attack in L2. Lesson 06."""

import math

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import run
from advlib.norms import column

L2 = norms.get("l2")


def ddn_step(ball, at, alpha, gamma, eps, stray):
    """ε ← (1 − γ)·ε where z is adversarial, else (1 + γ)·ε;  z ← clip( x + ε · u/‖u‖₂ ), u = δ + α · ∇L/‖∇L‖₂."""
    eps = tf.minimum(eps * tf.where(at.broken, 1 - gamma, 1 + gamma), farthest(L2, at.x))
    u = at.z - at.x + alpha * direction(at.gradient, stray)
    scale = column(tf.math.divide_no_nan(eps, L2.size(u)))
    return tf.clip_by_value(at.x + scale * u, 0.0, 1.0), eps, stray


def direction(g, stray):
    """g/‖g‖₂; where g is 0, the random signs `stray` as a vector of length 1."""
    none = tf.reduce_all(g == 0, axis=(1, 2, 3), keepdims=True)
    return tf.where(none, tf.cast(stray, g.dtype) / math.prod(g.shape[1:]) ** 0.5, L2.steepest(g, None))


def stray_signs(group):
    """Random signs for each image, where to go when a gradient is 0; int8, as the state of a step is copied."""
    shape = group.x.shape[1:]
    return np.stack([2 * rng.integers(0, 2, shape, np.int8) - 1 for rng in group.streams("stray")])


def farthest(ball, x):
    """The size of the way to the farthest corner of the box: no perturbation of x is larger. (N,)"""
    return ball.size(tf.maximum(x, 1 - x))


def cosine(start, end, share):
    """From `start` at share 0 to `end` at share 1, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def ddn(
    model, x, y, *, steps=100, gamma=0.05, levels=None, y_target=None, seed=0, callback=None, batch_size=144
):
    """Normalised gradient ascent of the cross-entropy on a sphere of radius ε, which shrinks by the factor 1 − γ after an
    adversarial point and grows by 1 + γ after another: δ^{k+1} = ε^{k+1} · u/‖u‖₂, u = δ^k + α^k · ∇L/‖∇L‖₂.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,).
    steps: gradient steps; their length α falls from 1 to 0.01 along half a cosine. gamma: γ, in [0, 1).
    levels: round every point to this many grey levels, 256 for images of 8 bits; by default none.
    y_target: wanted labels (N,), for a targeted attack. seed: of the direction taken where the gradient is 0.
    callback: is given a `Trace` before every step and at the end.

    Returns x_adv, float32 (N, H, W, C) in [0, 1]: of all points seen the adversarial one nearest to x in L2, and x where none
    was found; images the model already gets wrong come back unchanged.
    Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Rony et al. 2019, arXiv 1811.09600, Algorithm 1. Lesson 06.

        >>> x_adv = ddn(net, x[:100], y[:100], steps=300)
    """
    check_number(steps, "steps", low=0, integer=True, example=100)
    check_number(gamma, "gamma", low=0, high=0.999, example=0.05)
    if levels is not None:
        levels = check_number(levels, "levels", low=2, integer=True, example=256)

    def ddn(group):
        if levels:
            group.outward = ()  # that would leave the levels
        group.begin(candidate=False)
        z, eps = group.x.copy(), np.ones(len(group.x), np.float32)
        state = (eps, stray_signs(group))
        for k in range(steps):
            z = group.ascend(z, ddn_step, L2, cosine(1.0, 0.01, k / steps), gamma, state=state)
            if levels:
                z = np.round(z * (levels - 1)) / np.float32(levels - 1)
        group.look(z)

    return run(
        ddn, model, x, y, norm=L2, smallest=True, y_target=y_target, batch_size=batch_size, seed=seed, callback=callback
    )  # fmt: skip
