"""The attack of Carlini & Wagner (2017): a minimal-norm attack in L2, by Adam on a penalised distance. Lesson 06."""

import math

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import run
from advlib.norms import column


def adam_step(ball, at, t, learning_rate, confidence, c, w, m, v, objective, won):
    """w ← w − η · m̂/(√v̂ + 10⁻⁸) down ‖x'(w) − x‖² + c · f(x'),  f = max(κ − margin, 0),  x' = ½(tanh w + 1)."""
    open_ = column(tf.cast(at.loss < confidence, tf.float32))  # where f is not yet at its floor
    delta, slope = at.z - at.x, 0.5 * (1 - tf.tanh(w) ** 2)
    gradient = (2 * delta - c * open_ * at.gradient) * slope
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    w -= learning_rate * (m / (1 - 0.9**t)) / (tf.sqrt(v / (1 - 0.999**t)) + 1e-8)
    objective = tf.reduce_sum(delta**2, axis=(1, 2, 3)) + tf.reshape(c, [-1]) * tf.maximum(
        confidence - at.loss, 0
    )
    return to_image(w), c, w, m, v, objective, won | (at.broken & (at.loss >= confidence))


def to_image(w):
    """x' = ½(tanh w + 1), in the box for every w."""
    return 0.5 * (tf.tanh(w) + 1)


def to_variable(x):
    """w with to_image(w) = x, but for pixels at 0 and 1, which are moved inward by 5·10⁻⁷ to keep w finite."""
    return np.arctanh((2 * x - 1) * np.float32(0.999999))


def carlini_wagner(
    model, x, y, *, confidence=0.0, searches=9, steps=1000, learning_rate=0.01, initial_const=1e-3, abort_early=True,
    y_target=None, callback=None, batch_size=144,
):  # fmt: skip
    """min_w ‖x'(w) − x‖₂² + c · max(z_y − max_{j≠y} z_j + κ, 0), x'(w) = ½(tanh w + 1), by Adam; c of each image by bisection.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,).
    confidence: κ ≥ 0, the margin that counts as success: max_{j≠y} z_j − z_y ≥ κ (targeted: z_t − max_{j≠t} z_j ≥ κ).
    searches: values of c tried; it is divided between the last two that failed and succeeded, or made ten times larger where
    none has succeeded. steps: of Adam, for each c, with this learning_rate. initial_const: the first c.
    abort_early: stop at a c, for one image, once a tenth of the steps has not lowered its objective by 0.01 %.
    y_target: wanted labels (N,), for a targeted attack. callback: is given a `Trace` before every step; its restart counts
    the searches. A quick setting: searches=5, steps=200, learning_rate=0.05, initial_const=0.1.

    Returns x_adv, float32 (N, H, W, C) in [0, 1]: of all points of all searches the nearest to x in L2 that has the margin κ,
    and x where none was found; images the model already gets wrong come back unchanged.
    Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Carlini & Wagner 2017, arXiv 1608.04644, §V–VI; early stopping is there for a batch as a whole. Lesson 06.

        >>> x_adv = carlini_wagner(net, x[:100], y[:100], searches=5, steps=200, learning_rate=0.05, initial_const=0.1)
    """
    check_number(confidence, "confidence", low=0, example=0.0)
    check_number(searches, "searches", low=1, integer=True, example=9)
    check_number(steps, "steps", low=1, integer=True, example=1000)
    check_number(learning_rate, "learning_rate", low=0, example=0.01)
    check_number(initial_const, "initial_const", above=0, example=1e-3)

    def carlini_wagner(group):
        group.confidence, n = confidence, len(group.x)
        w_0 = to_variable(group.x)
        c = np.full(n, initial_const, np.float32)
        low, high = np.zeros(n, np.float32), np.full(n, np.inf, np.float32)
        for search in range(searches):
            if search == searches - 1 and searches >= 10:
                c = np.where(high < np.inf, high, c)
            group.begin(search)
            # everything Adam knows begins anew: w, its moments m and v; and whether this c has succeeded
            z, w, m, v = group.x.copy(), w_0.copy(), np.zeros_like(w_0), np.zeros_like(w_0)
            objective, won = np.zeros(n, np.float32), np.zeros(n, bool)
            previous = np.full(n, np.inf, np.float32)
            state = (c.reshape(n, 1, 1, 1), w, m, v, objective, won)
            for t in range(1, steps + 1):
                z = group.ascend(z, adam_step, norms.get("l2"), t, learning_rate, confidence, state=state)
                if abort_early and (t - 1) % math.ceil(steps / 10) == 0:
                    i = group.standing
                    group.standing = i[objective[i] <= 0.9999 * previous[i]]
                    previous = objective.copy()
                    if not group.standing.size:
                        break
            low, high = np.where(won, low, c), np.where(won, c, high)
            c = np.where(high < np.inf, (low + high) / 2, 10 * c)

    return run(
        carlini_wagner, model, x, y, norm="l2", smallest=True, y_target=y_target, loss="margin", batch_size=batch_size,
        callback=callback,
    )  # fmt: skip
