"""NES (Ilyas et al. 2018): the gradient of a Gaussian-smoothed loss, by finite differences, then PGD. Lesson 07."""

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib.attacks._loop import run
from advlib.attacks.spsa import slope


def gaussian(rng, shape):
    """v standard normal for each pixel."""
    return rng.standard_normal(shape, np.float32)


def nes(
    model, x, y, *, eps, norm="linf", steps=100, samples=50, sigma=0.05, step_size=None, decay=0.9, y_target=None, seed=0,
    callback=None, batch_size=144,
):  # fmt: skip
    """PGD along an estimated gradient: m ← μ·m + (1 − μ)·ĝ, x^{t+1} = Π( x^t + α · steepest(m) ), ĝ from 2·`samples` queries.

    norm: "linf" or "l2". samples: pairs of points x ± σ·u for one estimate, u standard normal, drawn anew for each image and
    step; sigma: σ, in pixel units (the paper's 0.001 is for ImageNet). ĝ estimates the gradient of the margin, averaged over
    Gaussian noise of deviation σ. step_size: α, by default 2.5·eps/steps. decay: μ, up to 0.999. Each step asks 2·samples + 1
    times for an image, the last time at the new point; the search for an image ends once that is broken.
    Everything else, what is returned and what is raised are as in `pgd`.

    Source: Ilyas et al. 2018, arXiv 1804.08598, §2.2 and Algorithm 1 (there on the log-probability of a target). Lesson 07.

        >>> x_adv = nes(net, x[:10], y[:10], eps=0.3, steps=40)
    """
    ball = norms.get(norm, among=("linf", "l2"))
    check_number(steps, "steps", low=0, integer=True, example=100)
    check_number(samples, "samples", low=1, integer=True, example=50)
    check_number(sigma, "sigma", above=0, example=0.05)
    decay = check_number(decay, "decay", low=0, high=0.999, example=0.9)
    step_size is None or check_number(step_size, "step_size", low=0, example=0.01)

    def attack(group):
        alpha = 2.5 * eps / max(steps, 1) if step_size is None else step_size
        group.begin(candidate=False)
        rngs, z, m = group.streams("nes"), group.x.copy(), np.zeros_like(group.x)
        group.look(z)
        for _ in range(steps):
            m = decay * m + (1 - decay) * slope(group, z, sigma, samples, gaussian, rngs)
            z = ball.project(z + alpha * ball.steepest(m, z), group.x, eps).numpy()
            group.look(z)

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss="margin", batch_size=batch_size, seed=seed,
        gradient=False, callback=callback,
    )  # fmt: skip
