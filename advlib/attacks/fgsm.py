"""The fast gradient sign method (Goodfellow, Shlens and Szegedy 2014). Lesson 03 derives it."""

from advlib import norms
from advlib.attacks._loop import run
from advlib.attacks.pgd import ascent_step


def fgsm(model, x, y, *, eps, norm="linf", y_target=None, batch_size=144):
    """x_adv = clip( x + ε · sign ∇_x L(x, y) ), L the cross-entropy: one step that spends the whole budget.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). eps: budget in pixel units.
    norm: "linf" takes the sign; "l2" ε·g/‖g‖₂; "l1" and "l0" the pixels that gain most (see `norms`).
    y_target: wanted labels (N,); the step then lowers the cross-entropy to the target.

    Returns x_adv, float32 (N, H, W, C), inside ball and box, the step taken whether it fools the model or not; images the
    model already gets wrong come back unchanged. A pixel whose gradient is exactly 0 does not move.
    Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Goodfellow et al. 2014, arXiv 1412.6572, §4 (which leaves clipping to the box unsaid). Lesson 03.

        >>> x_adv = fgsm(net, x[:100], y[:100], eps=0.1)
    """
    ball = norms.get(norm)

    def attack(group):
        group.begin(candidate=False)
        z = group.ascend(group.x.copy(), ascent_step, ball, eps, ball.step(eps))
        group.best = z

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, batch_size=batch_size, early_stop=False
    )
