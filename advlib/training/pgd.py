"""PGD training (Madry et al. 2018): the network learns from the worst points that a few steps of PGD find. Lesson 10."""

import tensorflow as tf

from advlib._checks import check_number
from advlib.training._trainer import Trainer


class PGD(Trainer):
    """min_θ mean_x max_{‖δ‖ ≤ ε} L(θ, x + δ, y), the inner maximum by PGD from a random start.

    steps: of the inner attack, α = max(2.5·ε_now/steps, ε/30), in L0 that of `norms.L0.step`. ramp: thrown in at full ε at
    once, a small net often stays at a constant prediction; the default lets ε grow over the first 30 % of all updates.
    Everything else as in `Trainer`.
    Source: Madry et al. 2018, arXiv 1706.06083, eq. 2.1. Lesson 10.

        >>> adversarial_fit(PGD(net, eps=0.3, steps=7), x, y, validation=(x_val, y_val), epochs=10)
    """

    def __init__(self, network, *, eps, train_eps=None, norm="linf", steps=7, ramp=0.3, seed=0):
        super().__init__(network, eps=eps, train_eps=train_eps, norm=norm, ramp=ramp, seed=seed)
        self.steps = check_number(steps, "steps", low=1, integer=True, example=7)

    def craft(self, x, y):
        eps = self.eps_now()
        # the floor is a budget as well, and in L0 a step has another unit
        alpha = self.ball.step(tf.maximum(2.5 * eps / self.steps, self.eps / 30))
        z = self.random_start(x, eps)
        for _ in range(self.steps):
            z = self.ascend(z, x, y, eps, alpha)
        return z
