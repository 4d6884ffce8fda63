"""Free adversarial training (Shafahi et al. 2019): one gradient serves the weights and the perturbation. Lesson 10."""

import tensorflow as tf

from advlib._checks import check_number
from advlib.training._trainer import Trainer
from advlib.training.fit import _penalty


class Free(Trainer):
    """Each batch m times: θ ← θ − τ · ∇_θ L(x + δ), δ ← Π( δ + ε · sign ∇_x L(x + δ) ), both from one backward pass.

    replays: m; train for 1/m of the epochs. batch_size: of the largest batch, as δ stays from batch to batch: a larger one is
    refused (`warm`; else δ begins at 0 in each). One replica only: δ is the state of one. Everything else as in `Trainer`.
    Source: Shafahi et al. 2019, arXiv 1904.12843, Algorithm 1. Lesson 10.

        >>> adversarial_fit(Free(net, eps=0.3, replays=8), x, y, validation=(x_val, y_val), epochs=2)
    """

    def __init__(self, network, *, eps, norm="linf", replays=8, warm=True, batch_size=100, ramp=0.0, seed=0):
        super().__init__(network, eps=eps, norm=norm, ramp=ramp, seed=seed)
        self.updates_per_batch = self.replays = check_number(
            replays, "replays", low=1, integer=True, example=8
        )
        self.batch_size = check_number(batch_size, "batch_size", low=1, integer=True, example=100)
        self.warm = bool(warm)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError(
                "Free keeps δ from batch to batch on one replica: one replica was expected; use PGD or RSFGSM"
            )
        shape = (self.batch_size, *network.input_shape[1:])
        self.delta = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="delta")

    def train_step(self, data):
        x, y = self.images(data)
        n = tf.shape(x)[0]
        if self.warm:
            tf.debugging.assert_less_equal(
                x.shape[0] or n,  # the number where it is known, so that no shape fails first
                self.batch_size,
                f"a batch larger than Free's own: at most batch_size={self.batch_size} images were expected",
            )
        delta = tf.convert_to_tensor(self.delta)[:n] if self.warm else tf.zeros_like(x)
        for _ in range(self.updates_per_batch):
            eps = self.eps_now()
            z = self.ball.project(x + delta, x, eps)
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(z)
                loss, logits = self.losses(z, x, y)
                loss += _penalty(self.network)
                total, summed = self.share(x) * tf.reduce_sum(loss), tf.reduce_sum(loss)
            step = self.ball.steepest(tape.gradient(summed, z), z)
            logs = self.learn(tape, total, loss, logits, y)
            delta = self.ball.project(z + self.ball.step(eps) * step, x, eps) - x
        kept = tf.concat([delta, tf.convert_to_tensor(self.delta)[n:]], axis=0)
        self.delta.assign(kept[: self.batch_size])  # which a batch may exceed that begins at 0
        return logs
