"""TRADES (Zhang et al. 2019): accuracy on clean images, and the same answer nearby, as two terms with a weight. Lesson 10."""

import tensorflow as tf

from advlib._checks import check_number
from advlib.losses import cross_entropy, kl
from advlib.training._trainer import Trainer


class TRADES(Trainer):
    """min_θ mean_x L(f(x), y) + β · max_{‖δ‖ ≤ ε} KL(p(x) ‖ p(x + δ)), p = softmax f; the inner maximum needs no label.

    beta: β; 0 is standard training. steps: of the inner attack, with the α of `PGD`, which begins at x plus noise of
    standard deviation 0.001, since at x itself the KL term has no gradient. Everything else as in `Trainer`.
    Source: Zhang et al. 2019, arXiv 1901.08573, eq. 5. Lesson 10.

        >>> adversarial_fit(TRADES(net, eps=0.3, beta=1.0), x, y, validation=(x_val, y_val))
    """

    def __init__(self, network, *, eps, norm="linf", beta=1.0, steps=10, ramp=0.3, seed=0):
        super().__init__(network, eps=eps, norm=norm, ramp=ramp, seed=seed)
        self.beta = check_number(beta, "beta", low=0, example=1.0)
        self.steps = check_number(steps, "steps", low=1, integer=True, example=10)

    def craft(self, x, y):
        eps = self.eps_now()
        # the floor is a budget as well, and in L0 a step has another unit
        alpha = self.ball.step(tf.maximum(2.5 * eps / self.steps, self.eps / 30))
        clean = self.network(x, training=False)
        noise = self.draw(lambda rng, shape: 0.001 * rng.standard_normal(shape), x, x.shape[1:])
        z = self.ball.project(x + noise, x, eps)
        for _ in range(self.steps):
            z = self.ascend(z, x, clean, eps, alpha, loss=kl)
        return z

    def losses(self, z, x, y):
        clean, logits = self.network(x, training=True), self.network(z, training=True)
        # through both: the answer at x is drawn towards the one at z as well
        return cross_entropy(clean, y) + self.beta * kl(logits, clean, constant=False), logits
