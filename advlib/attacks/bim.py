"""The basic iterative method (Kurakin, Goodfellow and Bengio 2016). Lesson 04."""

from advlib import norms
from advlib._checks import check_number
from advlib.attacks.pgd import pgd


def bim(
    model, x, y, *, eps, norm="linf", steps=10, step_size=None, loss="ce", y_target=None, keep="best", early_stop=True,
    callback=None, batch_size=144,
):  # fmt: skip
    """FGSM in small steps: x^{t+1} = Π( x^t + α · sign ∇L(x^t) ) from x^0 = x, that is, PGD without a random start.

    step_size: α, by default eps/steps, with which the last step just reaches the surface of the ball. Everything else, what
    is returned and what is raised are as in `pgd`.

    Source: Kurakin et al. 2016, arXiv 1607.02533, §2.2. Lesson 04.

        >>> x_adv = bim(net, x[:100], y[:100], eps=0.1, steps=10)
    """
    check_number(steps, "steps", low=0, integer=True, example=10)
    if step_size is None and norms.get(norm).name != "l0" and steps:
        check_number(eps, "eps", low=0, example=norms.get(norm).example)
        step_size = eps / steps
    return pgd(
        model, x, y, eps=eps, norm=norm, steps=steps, step_size=step_size, loss=loss, y_target=y_target, random_start=False,
        keep=keep, early_stop=early_stop, callback=callback, batch_size=batch_size,
    )  # fmt: skip
