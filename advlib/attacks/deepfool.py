"""DeepFool (Moosavi-Dezfooli et al. 2016): straight to the nearest boundary of the model's linear approximation. Lesson 06."""

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import differences, run
from advlib.norms import column


def nearest_class(ball, at):
    """Of the hyperplanes f_k + ⟨w_k, ·⟩ = 0 with f_k = z_k − z_y and w_k = ∇f_k, k ≠ y, the one nearest to the point where
    there is no box: argmin_k |f_k| / ‖w_k‖_q. Returns f (B,), w (B, H, W, C) and the distance (B,)."""
    f, w = differences(at.logits, at.y), at.gradient
    slope = tf.reshape(norms.get(ball.dual).size(tf.reshape(w, (-1, *at.x.shape[1:]))), tf.shape(f))
    never = slope == 0
    distance = tf.where(never, np.float32(np.inf), tf.abs(f) / tf.where(never, 1.0, slope))
    k = tf.argmin(distance, axis=1)
    f, w, distance = (tf.gather(v, k, axis=1, batch_dims=1) for v in (f, w, distance))
    return f, w, tf.where(tf.math.is_finite(distance), distance, 0.0)


def deepfool_step(ball, at, overshoot, total):
    """r ← |f_l| / ‖w_l‖_q · steepest(w_l) for the nearest class l;  z ← clip( x + (1 + η)·Σ r )."""
    _, w, distance = nearest_class(ball, at)
    # Where the box cuts the steps short they would only creep up to the boundary. So the authors' code adds 10⁻⁴ to each;
    # here from the second on, as the first alone must reach the boundary of a linear model, no more.
    distance += tf.where(ball.size(total) > 0, 1e-4, 0.0)
    total += column(distance) * ball.steepest(w, at.z)
    return tf.clip_by_value(at.x + (1 + overshoot) * total, 0.0, 1.0), total


deepfool_step.jacobian = True


def deepfool(model, x, y, *, norm="l2", steps=50, overshoot=0.02, callback=None, batch_size=144):
    """x_{i+1} = clip( x + (1 + η)·Σ_{j≤i} r_j ), r_j the shortest step to the nearest boundary of the model linearised at x_j.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). norm: "l2" or "linf".
    steps: at most; an image is left alone as soon as it is broken, on MNIST after about eight, where the box binds, else after
    two or three. overshoot: η, the share by which the sum of the steps is stretched, so that the boundary is crossed.
    callback: is given a `Trace` of the images still standing before every step and at the end.

    A step takes the gradients of all differences of logits: a backward pass for each wrong class. Returns x_adv, float32
    (N, H, W, C) in the box, the first adversarial point met, not far from the smallest; x itself where none was found, and
    where the model is already wrong. Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Moosavi-Dezfooli, Fawzi & Frossard 2016, arXiv 1511.04599, Algorithm 2, and §3.3 for L∞; every point is clipped to
    the box, as in Foolbox. Lesson 06.

        >>> x_adv = deepfool(net, x[:100], y[:100])
    """
    ball = norms.get(norm, among=("l2", "linf"))
    check_number(steps, "steps", low=0, integer=True, example=50)
    check_number(overshoot, "overshoot", low=0, example=0.02)

    def attack(group):
        group.early_stop = True  # the first adversarial point is the answer
        group.begin(candidate=False)
        z, total = group.x.copy(), np.zeros_like(group.x)
        for _ in range(steps):
            z = group.ascend(z, deepfool_step, ball, overshoot, state=(total,))
        group.look(z)

    return run(attack, model, x, y, norm=ball, batch_size=batch_size, smallest=True, callback=callback)
