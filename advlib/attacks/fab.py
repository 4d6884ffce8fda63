"""FAB (Croce & Hein 2020): project onto the linearised boundary, stay near the original, come back when across. Lesson 06."""

import numpy as np

from advlib import norms
from advlib._checks import check_images, check_number, check_targets
from advlib._tensorflow import tf
from advlib.attacks._loop import run
from advlib.attacks.deepfool import nearest_class
from advlib.norms import column


def to_hyperplane(ball, t, w, c):
    """The shortest δ with ⟨w, δ⟩ = c and t + δ in the box; the corner of the box nearest to the hyperplane where it has none.

    t, w: (B, H, W, C); c: (B,). In L∞ and L2 |δ_i| = min(λ·s_i, room_i), s = |steepest(w)|, with one λ an image; in L1 the
    pixels move to their walls one after the other, from the largest |w_i| down, the last only as far as is needed."""
    c = tf.reshape(c, (-1, 1, 1, 1))
    direction = tf.sign(c) * tf.sign(w)
    slope, need = tf.abs(w), tf.abs(c)
    room = tf.where(direction > 0, 1.0 - t, t)
    gain = slope * room  # of ⟨w, δ⟩, with the pixel at its wall
    if ball.name == "l1":
        return direction * _greedy(slope, gain, room, need)
    if ball.name == "linf":
        speed, rate, wall = 1.0, slope, room
    else:
        speed = tf.abs(ball.steepest(w, t))
        rate, wall = slope * speed, tf.math.divide_no_nan(room, speed)  # wall: the λ at which a pixel arrives

    def newton(level, _):
        free = wall > level
        spent, pace = _sum(tf.where(free, 0.0, gain)), _sum(tf.where(free, rate, 0.0))
        return tf.maximum(level, tf.math.divide_no_nan(need - spent, pace)), level

    # From below on Σ min(λ·rate, gain) = need, concave and piecewise linear in λ: Newton's method cannot overshoot, and stands
    # still once no further pixel arrives, after 3 rounds or 4, rarely 10. What others still need does not change an image's λ.
    level, _ = tf.while_loop(
        lambda level, last: tf.reduce_any(level > last), newton, (tf.zeros_like(need), tf.fill(tf.shape(need), -1.0)),
        maximum_iterations=30,
    )  # fmt: skip
    return direction * tf.minimum(level * speed, room)


def _greedy(slope, gain, room, need):
    shape = tf.shape(slope)
    slope, gain, room, need = (tf.reshape(v, (shape[0], -1)) for v in (slope, gain, room, need))
    order = tf.argsort(slope, axis=1, direction="DESCENDING", stable=True)
    here = tf.gather(gain, order, batch_dims=1)
    before = tf.cumsum(here, axis=1, exclusive=True)
    share = tf.clip_by_value(tf.math.divide_no_nan(need - before, here), 0.0, 1.0)
    back = tf.argsort(order, axis=1)
    return tf.reshape(room * tf.gather(share, back, batch_dims=1), shape)


def _sum(v):
    return tf.reduce_sum(v, axis=(1, 2, 3), keepdims=True)


def move(ball, at, f, w, alpha_max, overshoot):
    """z ← clip( (1−α)(z + η·d) + α(x + η·d_x) ): d and d_x lead from z and from x to the hyperplane f + ⟨w, · − z⟩ = 0, and
    α = min( ‖d‖ / (‖d‖ + ‖d_x‖), α_max )."""
    from_x = -f - tf.reduce_sum(w * (at.x - at.z), axis=(1, 2, 3))
    d, d_x = to_hyperplane(ball, at.z, w, -f), to_hyperplane(ball, at.x, w, from_x)
    size, size_x = ball.size(d), ball.size(d_x)
    alpha = column(tf.minimum(tf.math.divide_no_nan(size, size + size_x), alpha_max))
    z = (1 - alpha) * (at.z + overshoot * d) + alpha * (at.x + overshoot * d_x)
    return (tf.clip_by_value(z, 0.0, 1.0),)


def nearest_step(ball, at, alpha_max, overshoot):
    """A step to the nearest class's hyperplane."""
    f, w, _ = nearest_class(ball, at)
    return move(ball, at, f, w, alpha_max, overshoot)


nearest_step.jacobian = True


def pair_step(ball, at, alpha_max, overshoot):
    """A step to the hyperplane of one pair of classes, whose difference of logits is the loss."""
    return move(ball, at, at.loss, at.gradient, alpha_max, overshoot)


def fab(
    model, x, y, *, norm="linf", steps=100, targets=None, restarts=1, alpha_max=0.1, overshoot=1.05, backward=0.9, eps=None,
    y_target=None, seed=0, callback=None, batch_size=144,
):  # fmt: skip
    """x^{i+1} = clip( (1−α)(x^i + η·d^i) + α(x + η·d_x^i) ), d^i and d_x^i the shortest ways from x^i and from x, in the box, to
    the boundary of the model linearised at x^i; from an adversarial point, back towards x by the factor β.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). norm: "linf", "l2" or "l1".
    steps: of each try, each a gradient and a forward pass. targets: None takes, at every step, the nearest boundary of all,
    and so the gradients of all differences; a number k (FAB-T) makes k tries, one for each of the k likeliest other classes, by
    the boundary between that and the true class alone, with one gradient a step. restarts: rounds of tries, the first from x,
    the others from random points at most half as far as the best one so far, and at most eps/2. alpha_max: bound of
    α = ‖d‖/(‖d‖ + ‖d_x‖); overshoot: η ≥ 1; backward: β in (0, 1]. eps: scales the restarts, nothing else; by default the
    size of the whole box. y_target: wanted labels (N,), for a targeted attack, which heads for the boundary between the
    target and all others. seed: of the restarts. callback: is given a `Trace` before every step.

    Returns x_adv, float32 (N, H, W, C) in the box: of all adversarial points seen the one nearest to x, x itself where none
    was found, and where the model is already wrong. The result does not depend on the scale of the logits.
    Raises TypeError or ValueError for bad input, before anything is attacked, also for more targets than wrong classes.

    Source: Croce & Hein 2020, arXiv 1907.02044, Algorithm 1; FAB-T: Croce & Hein 2020, arXiv 2003.01690, §5. Lesson 06.

        >>> x_adv = fab(net, x[:100], y[:100], norm="l2", targets=9)
    """
    ball = norms.get(norm, among=("linf", "l2", "l1"))
    check_number(steps, "steps", low=0, integer=True, example=100)
    targets is None or check_number(targets, "targets", low=1, integer=True, example=9)
    if targets is not None and y_target is not None:
        raise ValueError(
            f"targets={targets} with y_target: one of the two was expected; y_target alone heads for that class, for example"
            " y_target=(y + 1) % 10"
        )
    check_number(restarts, "restarts", low=1, integer=True, example=1)
    check_number(alpha_max, "alpha_max", low=0, high=1, example=0.1)
    check_number(overshoot, "overshoot", low=1, example=1.05)
    check_number(backward, "backward", above=0, high=1, example=0.9)
    eps is None or ball.check_eps(eps, check_images(x).shape[1:])

    def attack(group):
        targets is None or check_targets(targets, group.z_clean.shape[1])
        order = np.argsort(-group.z_clean, axis=1, kind="stable")
        likeliest = order[order != group.y[:, None]].reshape(len(order), -1)
        aims = [group.aim] if targets is None else likeliest[:, :targets].T
        update = nearest_step if targets is None and y_target is None else pair_step
        for restart in range(restarts):
            for k, aim in enumerate(aims):
                group.begin(restart * len(aims) + k, candidate=restart > 0)
                group.head_for(aim)
                z = random_start(group, ball, eps, restart, k) if restart else group.x.copy()
                for _ in range(steps):
                    z = group.ascend(z, update, ball, alpha_max, overshoot)
                    _, broken = group.query(z, group.standing)
                    z[broken] = group.x[broken] + np.float32(backward) * (z - group.x)[broken]

    return run(
        attack, model, x, y, norm=ball, y_target=y_target, loss="margin" if targets is None else "difference",
        batch_size=batch_size, seed=seed, smallest=True, callback=callback,
    )  # fmt: skip


def random_start(group, ball, eps, *purpose):
    """A point of the ball around x of radius ½·min(best, ε), in the box."""
    shape = group.x.shape[1:]
    radius = np.minimum(group.distance, ball.largest(shape) if eps is None else eps) / 2
    rngs = group.streams("start", *purpose)
    delta = [ball.sample(rng, shape, r) for rng, r in zip(rngs, radius, strict=True)]
    return np.clip(group.x + np.stack(delta), 0, 1)
