"""The momentum iterative method (Dong et al. 2018), made for attacks that transfer. Lesson 07."""

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import NO_START, run


def momentum_step(ball, at, eps, alpha, decay, m):
    """m ← μ·m + g/‖g‖₁;  z ← Π( z + α · steepest(m) )."""
    size = tf.reduce_sum(tf.abs(at.gradient), axis=(1, 2, 3), keepdims=True)
    m = decay * m + tf.math.divide_no_nan(at.gradient, size)
    return ball.project(at.z + alpha * ball.steepest(m, at.z), at.x, eps), m


def mi_fgsm(
    model, x, y, *, eps, norm="linf", steps=10, step_size=None, decay=1.0, loss="ce", y_target=None, keep="best", early_stop=True,
    callback=None, batch_size=144,
):  # fmt: skip
    """BIM along a running sum of normalised gradients: m^{t+1} = μ·m^t + ∇L/‖∇L‖₁, x^{t+1} = Π( x^t + α · sign m^{t+1} ).

    decay: μ ≥ 0; 0 gives `bim`. step_size: α, by default eps/steps. No random start. Everything else, what is returned and
    what is raised are as in `pgd`.

    Source: Dong et al. 2018, arXiv 1710.06081, Algorithm 1 (L∞; L2 takes m/‖m‖₂ as there in §3.3). Lesson 07.

        >>> x_adv = mi_fgsm(net, x[:100], y[:100], eps=0.3)
    """
    ball = norms.get(norm)
    check_number(steps, "steps", low=0, integer=True, example=10)
    check_number(decay, "decay", low=0, example=1.0)
    step_size is None or check_number(step_size, "step_size", low=0, example=0.01)
    if loss == "kl":
        raise ValueError(NO_START)

    def attack(group):
        alpha = ball.step(eps / max(steps, 1)) if step_size is None else step_size
        group.begin(candidate=False)
        z, m = group.x.copy(), np.zeros_like(group.x)
        for _ in range(steps):
            z = group.ascend(z, momentum_step, ball, eps, alpha, decay, state=(m,))
        group.look(z)

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss=loss, batch_size=batch_size, keep=keep,
        early_stop=early_stop, callback=callback,
    )  # fmt: skip
