"""Single-step training: FGSM, with a random start, with more noise, with aligned gradients. Lesson 10.

The cheapest defences, and the ones that can collapse: the network learns to be right at the single step's points alone, within
an epoch, and PGD finds it defenceless ("catastrophic overfitting"). The last two were made against that.
"""

import tensorflow as tf

from advlib._checks import check_number
from advlib.training._trainer import Trainer


class FGSM(Trainer):
    """z = clip( x + ε · sign ∇L(x) ): learn from the points of one full step, and from nothing else.

    Source: Goodfellow et al. 2014, arXiv 1412.6572, §6, without the clean half of its loss. Lesson 10.

        >>> adversarial_fit(FGSM(net, eps=0.3), x, y, validation=(x_val, y_val))
    """

    def craft(self, x, y):
        eps = self.eps_now()
        return self.ascend(x, x, y, eps, self.ball.step(eps))


class RSFGSM(Trainer):
    """z = Π( x_0 + α · sign ∇L(x_0) ), x_0 a random point of the ball: "fast adversarial training".

    step: α as a multiple of a step worth ε, which is ε itself but in L0 (see `norms`). Lesson 10.
    Source: Wong, Rice & Kolter 2020, arXiv 2001.03994, Algorithm 3 (α = 1.25 ε).
    """

    def __init__(self, network, *, eps, norm="linf", step=1.25, ramp=0.0, seed=0):
        super().__init__(network, eps=eps, norm=norm, ramp=ramp, seed=seed)
        self.step = check_number(step, "step", above=0, example=1.25)

    def craft(self, x, y):
        eps = self.eps_now()
        return self.ascend(self.random_start(x, eps), x, y, eps, self.step * self.ball.step(eps))


class NFGSM(Trainer):
    """z = clip( x_0 + ε · sign ∇L(x_0) ), x_0 = x + U(−kε, kε)^d; the sum is not brought back into the ball.

    noise: k. Source: de Jorge et al. 2022, arXiv 2202.01181, Algorithm 1 (k = 2), in L∞. Lesson 10.
    """

    def __init__(self, network, *, eps, noise=2.0, ramp=0.0, seed=0):
        super().__init__(network, eps=eps, norm="linf", ramp=ramp, seed=seed)
        self.noise = check_number(noise, "noise", low=0, example=2.0)

    def craft(self, x, y):
        eps = self.eps_now()
        x_0 = tf.clip_by_value(x + self.draw(self.ball.sample, x, x.shape[1:], self.noise * eps), 0.0, 1.0)
        return self.ascend(x_0, x_0, y, eps, eps)


class GradAlign(FGSM):
    """FGSM training with λ · (1 − cos(∇_x L(x), ∇_x L(x + u))) added to the loss, u uniform in the ball: where the gradient
    turns within the ball, one step of it is a bad attack.

    align: λ. Source: Andriushchenko & Flammarion 2020, arXiv 2007.02617, eq. 7. Lesson 10.
    """

    def __init__(self, network, *, eps, norm="linf", align=0.2, ramp=0.0, seed=0):
        super().__init__(network, eps=eps, norm=norm, ramp=ramp, seed=seed)
        self.align = check_number(align, "align", low=0, example=0.2)

    def losses(self, z, x, y):
        loss, logits = super().losses(z, x, y)
        here, there = (self.gradient(v, y) for v in (x, self.random_start(x, self.eps_now())))
        return loss + self.align * (1 - cosine(here, there)), logits


def cosine(a, b):
    """Of each pair of images, (B,); 0 where one of them is 0."""
    # each by itself, and a floor: the gradient of a norm at 0 is not a number
    a, b = (tf.math.l2_normalize(tf.reshape(v, (tf.shape(v)[0], -1)), axis=1, epsilon=1e-24) for v in (a, b))
    return tf.reduce_sum(a * b, axis=1)
