"""Projected gradient descent (Madry et al. 2018). Lesson 04 derives it step by step."""

import numpy as np

from advlib import norms
from advlib._checks import check_number, check_start
from advlib.attacks._loop import NO_START, run


def ascent_step(ball, at, eps, alpha):
    """Π( z + α · steepest(∇L(z)) ): one step of PGD, of its relatives, and of adversarial training."""
    return (ball.project(at.z + alpha * ball.steepest(at.gradient, at.z), at.x, eps),)


def pgd(
    model, x, y, *, eps, norm="linf", steps=40, step_size=None, loss="ce", y_target=None, random_start=True, restarts=1,
    seed=0, start=None, keep="best", early_stop=True, callback=None, batch_size=144,
):  # fmt: skip
    """x^{t+1} = Π( x^t + α · steepest(∇L(x^t)) ), Π onto the ball of radius ε around x and the box [0, 1].

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,).
    eps: budget in pixel units; norm: "linf", "l2", "l1" or "l0". steps: gradient steps; step_size: α, by default
    2.5·eps/steps (in L0, whose steps have another unit, the length in `norms.L0.step`). loss: "ce", "margin", "dlr",
    "kl" (from a start other than x), or a function (logits, y) → (N,), to be made large. y_target: wanted labels (N,), for a
    targeted attack by one of the first three.
    random_start: begin at a random point of the ball, else at x; start: begin at these images instead.
    restarts: tries, each from its own start, on the images still standing. seed: of the starts.
    keep: "best" returns the best iterate (adversarial first, then the largest loss; never x itself), "last" the last.
    early_stop: leave an image alone once it is broken. callback: is given a `Trace` before every step and at the end.
    batch_size: images in a call of the model, which is filled up to it; 48 is faster for up to 96 images.

    Returns x_adv, float32 (N, H, W, C), inside ball and box; images the model already gets wrong come back unchanged.
    Raises TypeError or ValueError for bad input, before anything is computed.

    Source: Madry et al. 2018, arXiv 1706.06083, §2.1. L2: the normalised gradient; L1: sparse steps, Tramèr & Boneh 2019,
    arXiv 1904.13000; L0: Croce & Hein 2019, arXiv 1909.05040; starts uniform in the ball. Lesson 04.

        >>> x_adv = pgd(net, x[:100], y[:100], eps=0.3, steps=40, restarts=2)
    """
    ball = norms.get(norm)
    check_number(steps, "steps", low=0, integer=True, example=40)
    check_number(restarts, "restarts", low=1, integer=True, example=1)
    if keep == "last" and restarts != 1:
        raise ValueError(
            f"restarts={restarts} with keep='last': one restart was expected there; keep='best' returns the best of several"
        )
    step_size is None or check_number(step_size, "step_size", low=0, example=0.01)
    if loss == "kl" and not random_start and start is None:
        raise ValueError(NO_START)
    start = check_start(start, x)

    def attack(group):
        alpha = ball.step(2.5 * eps / max(steps, 1)) if step_size is None else step_size
        for restart in range(restarts):
            if not group.begin(restart, candidate=random_start or start is not None):
                break
            z = group.x.copy()
            if start is not None:
                z = ball.project(start[group.index], group.x, eps).numpy()
            elif random_start:
                delta = [ball.sample(rng, z.shape[1:], eps) for rng in group.streams("start", restart)]
                z = ball.project(z + np.stack(delta), group.x, eps).numpy()
            for _ in range(steps):
                z = group.ascend(z, ascent_step, ball, eps, alpha)
            group.look(z)

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss=loss, batch_size=batch_size, seed=seed, keep=keep,
        early_stop=early_stop, callback=callback,
    )  # fmt: skip
