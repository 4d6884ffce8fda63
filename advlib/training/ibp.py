"""IBP training (Gowal et al. 2018): make the interval bounds themselves small, so that much can be proved. Lesson 11."""

import numpy as np
import tensorflow as tf

from advlib._checks import check_number
from advlib.certify import intervals
from advlib.losses import cross_entropy
from advlib.models import predict_logits
from advlib.training._trainer import Trainer


class IBP(Trainer):
    """κ · L(f(x), y) + (1 − κ) · L(ẑ, y), ẑ the worst logits that the interval bounds allow within ε_now.

    eps: the budget to be proved, by which epochs are chosen; train_eps: the one trained for, usually a little larger. warmup,
    ramp: shares of all updates; before the first there is no bound in the loss (κ = 1), between them ε grows from 0 and κ
    falls from 1 to `kappa`, together, in one jump where `ramp` is 0 or equal to `warmup`. Everything else as in `Trainer`;
    a layer without an interval rule: TypeError; a ramp above 0 that ends before the warm-up does: ValueError.
    Source: Gowal et al. 2018, arXiv 1810.12715, §3 (κ = ½, ε a tenth above the budget). Lesson 11.

        >>> adversarial_fit(IBP(net, eps=0.3, train_eps=0.33), x, y, validation=(x_val, y_val), epochs=60)
    """

    chosen_by = "verified"

    def __init__(self, network, *, eps, train_eps=None, warmup=0.03, ramp=0.5, kappa=0.5, seed=0):
        super().__init__(network, eps=eps, train_eps=train_eps, norm="linf", ramp=ramp, seed=seed)
        self.warmup = check_number(warmup, "warmup", low=0, high=1, example=0.03)
        if 0 < self.ramp < self.warmup:
            raise ValueError(
                f"ramp={self.ramp:g} with warmup={self.warmup:g}: ε grows from the warm-up on, to the ramp's end; a ramp of at "
                f"least {self.warmup:g} was expected, or 0 for a jump, for example ramp={min(1.0, self.warmup + 0.5):g}"
            )
        self.kappa = check_number(kappa, "kappa", low=0, high=1, example=0.5)
        self.chain = intervals.layers(network)

    def eps_now(self):
        return self.train_eps * self.progress(self.warmup, self.ramp)

    def losses(self, z, x, y):
        logits = self.network(z, training=True)
        worst = intervals.worst_margins(self.chain, x, y, self.eps_now())  # of z_j − z_y, −∞ at y
        kappa = 1 - (1 - self.kappa) * self.progress(self.warmup, self.ramp)
        bound = cross_entropy(tf.where(tf.math.is_inf(worst), 0.0, worst), y)
        return kappa * cross_entropy(logits, y) + (1 - kappa) * bound, logits

    def scores(self, x, y):
        if not np.isfinite(predict_logits(self.network, x)).all():
            return {"verified": 0.0}  # nothing can be proved, nor the layers be seen to be a chain
        return {"verified": float(intervals.verified(self.network, x, y, self.eps).mean())}
