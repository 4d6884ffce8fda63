"""The fast minimum-norm attack (Pintor et al. 2021), in L0, L1, L2 and L∞. Lesson 06."""

import numpy as np

from advlib import norms
from advlib._checks import check_number, check_start
from advlib._tensorflow import tf
from advlib.attacks._loop import run
from advlib.attacks.ddn import cosine, direction, farthest, stray_signs
from advlib.norms import column


def fmn_step(ball, at, alpha, gamma, eps, best, stray):
    """z ← Π_ε( z + α · ∇L/‖∇L‖₂ ), with ε from `radius`, L the margin and `best` the smallest adversarial ‖z − x‖ so far."""
    size = ball.size(at.z - at.x)
    best = tf.where(at.broken, tf.minimum(best, size), best)
    eps = tf.minimum(radius(ball, at, gamma, size, eps, best), farthest(ball, at.x))
    return ball.project(at.z + alpha * direction(at.gradient, stray), at.x, eps), eps, best, stray


def radius(ball, at, gamma, size, eps, best):
    """ε ← min((1 − γ)·ε, best) at an adversarial point, else (1 + γ)·ε; before the first of them ‖δ‖ + |L|/‖∇L‖*, as far
    as the boundary of a linear model. In L0, which has no dual norm, by whole pixels and at least by one."""
    if ball.name == "l0":
        fewer = tf.minimum(tf.minimum(eps - 1, tf.floor(eps * (1 - gamma))), best)
        return tf.maximum(tf.where(at.broken, fewer, tf.maximum(eps + 1, tf.floor(eps * (1 + gamma)))), 1)
    slope = norms.get(ball.dual).size(at.gradient)
    # a ten-thousandth beyond: exactly there, rounding would keep the points of a linear model on the near side for ever
    guess = 1.0001 * (size + tf.abs(at.loss) / tf.maximum(slope, 1e-12))
    return tf.where(
        at.broken, tf.minimum((1 - gamma) * eps, best), tf.where(best < np.inf, (1 + gamma) * eps, guess)
    )


def fmn(
    model, x, y, *, norm="l2", steps=100, step_size=1.0, gamma=0.05, start=None, y_target=None, seed=0, callback=None,
    batch_size=144,
):  # fmt: skip
    """Gradient ascent of the margin inside a ball whose radius ε follows the boundary: smaller after an adversarial point,
    larger after another. δ^{k+1} = Π_ε( δ^k + α^k · ∇L/‖∇L‖₂ ), Π onto ball and box together.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). norm: "l2", "linf", "l1", "l0".
    steps: gradient steps. step_size: α, an L2 length in every norm, which falls to a hundredth of it along half a cosine.
    gamma: γ, the share by which ε changes, in [0, 1), which falls to 0.001 (or stays, if smaller).
    start: images (N, H, W, C) to begin from, each moved to the boundary first; one that is not adversarial is ignored.
    y_target: wanted labels (N,), for a targeted attack. seed: of the direction taken where the gradient is 0.
    callback: is given a `Trace` before every step and at the end.

    Returns x_adv, float32 (N, H, W, C) in [0, 1]: of all points seen the adversarial one nearest to x in `norm`, and x where
    none was found; images the model already gets wrong come back unchanged.
    Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Pintor et al. 2021, arXiv 2102.12827, Algorithm 1; the projections are onto ball and box at once. Lesson 06.

        >>> x_adv = fmn(net, x[:100], y[:100], norm="l1")
    """
    ball = norms.get(norm)
    check_number(steps, "steps", low=0, integer=True, example=100)
    check_number(step_size, "step_size", low=0, example=1.0)
    check_number(gamma, "gamma", low=0, high=0.999, example=0.05)
    start = check_start(start, x)

    def fmn(group):
        group.begin(candidate=start is not None)
        z, n = group.x.copy(), len(group.x)
        eps, best = np.full(n, 1 if ball.name == "l0" else np.inf, np.float32), np.full(n, np.inf, np.float32)
        if start is not None:
            z, size = boundary(group, ball, start[group.index])
            if ball.name == "l0":
                eps = np.maximum(size, 1)
        state = (eps, best, stray_signs(group))
        for k in range(steps):
            alpha = cosine(step_size, step_size / 100, k / steps)
            z = group.ascend(
                z, fmn_step, ball, alpha, cosine(gamma, min(gamma, 0.001), k / steps), state=state
            )
        group.look(z)

    return run(
        fmn, model, x, y, norm=ball, smallest=True, y_target=y_target, loss="margin", batch_size=batch_size, seed=seed,
        callback=callback,
    )  # fmt: skip


def boundary(group, ball, start):
    """Points near the boundary between x and `start`, the projections of `start` onto smaller and smaller balls, and their
    sizes; x and 0 where `start` is not adversarial."""

    def project(eps):
        # in padded batches: a sum over fewer rows could round otherwise
        batches = group.oracle.padded(np.arange(len(start)))
        return np.concatenate(
            [ball.project(start[rows], group.x[rows], eps[rows]).numpy()[:n] for rows, n in batches]
        )

    everyone = np.arange(len(start))
    _, broken = group.query(start, everyone)
    high = np.where(broken, -group.best_value, 0).astype(np.float32)
    low, z = np.zeros_like(high), np.where(column(broken), start, group.x)
    for _ in range(10):
        middle = (low + high) / 2
        points = project(middle)
        _, over = group.query(points, everyone)
        over &= broken
        z[over] = points[over]
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return z, high
