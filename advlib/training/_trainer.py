"""What every defence shares, once: the compiled step, random numbers that do not depend on the number of replicas, ε's ramp.

A defence is a subclass with `craft(x, y) → z`, the points to learn from, and, where it is not the cross-entropy at z,
`losses(z, x, y) → (loss (B,), logits (B, K))`:

    class PGD(Trainer):
        def craft(self, x, y):
            eps = self.eps_now()
            z = self.random_start(x, eps)
            for _ in range(self.steps):
                z = self.ascend(z, x, y, eps, alpha)
            return z
"""

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib._tensorflow import keras, tf
from advlib.attacks._loop import At
from advlib.attacks.pgd import ascent_step
from advlib.losses import cross_entropy
from advlib.models import check_keras
from advlib.training.fit import _penalty

PIXELS = "float32 pixels in [0, 1] were expected, for example x.astype('float32') / 255"


class Trainer(keras.Model):
    """A network in training, as a keras.Model: compile it with an optimizer, then `fit` it. By itself: standard training.

    network: a keras.Model with logits, trained in place; what regularisers of its weights make of them is added to the loss of
    every defence, those of activations are ignored. eps: the budget to stand, in `norm`; train_eps: the one trained for,
    where it is another. ramp: the share of all updates over which ε grows from 0. `adversarial_fit` sets `total`, the number of
    all updates; before a `fit` of your own set it yourself, or ε is there at once. seed: of all random numbers, which
    depend on it and on the number of the update alone, not on how many replicas share the batch.
    Raises TypeError or ValueError for bad input.

        >>> trainer = Trainer(advlib.models.mlp())
        >>> trainer.compile(keras.optimizers.Adam(1e-3))
        >>> trainer.fit(x, y, epochs=5, batch_size=128)
    """

    updates_per_batch = 1
    chosen_by = "pgd20"  # the validation score by which `adversarial_fit` keeps an epoch

    def __init__(self, network, *, eps=0.0, train_eps=None, norm="linf", ramp=0.0, seed=0):
        if not isinstance(network, keras.Model):
            raise TypeError(
                f"the network is a {type(network).__name__}: a keras.Model was expected, for example advlib.models.cnn()"
            )
        check_keras(network)
        super().__init__(name=f"{type(self).__name__.lower()}_{network.name}")
        self.network, self.ball = network, norms.get(norm)
        self.norm = self.ball.name
        try:
            shape = network.input_shape[1:]
        except AttributeError:
            raise ValueError(
                f"{network.name} is a subclassed or unbuilt model, whose input shape a defence cannot see: a Sequential or "
                "functional model, built, was expected, for example one that begins with keras.Input((28, 28, 1))"
            ) from None
        self.eps = self.ball.check_eps(eps, shape)
        self.train_eps = self.eps if train_eps is None else self.ball.check_eps(train_eps, shape)
        self.ramp = check_number(ramp, "ramp", low=0, high=1, example=0.3)
        self.seed = check_number(seed, "seed", low=0, integer=True, example=0)
        self.total = 0
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.mean_accuracy = keras.metrics.Mean(name="accuracy")

    def compile(self, optimizer="adam", *, jit_compile=False, **options):
        """As `keras.Model.compile`, without a loss, which is the defence's own. No XLA: it is four times slower on a CPU."""
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **options)

    def call(self, x, training=False):
        return self.network(x, training=training)

    def craft(self, x, y):
        """The points (B, H, W, C) that the network learns from; here x itself."""
        return x

    def losses(self, z, x, y):
        """The loss of each image (B,) and the logits (B, K), of the crafted points z; differentiated in the weights."""
        logits = self.network(z, training=True)
        return cross_entropy(logits, y), logits

    def scores(self, x, y):
        """Further scores on validation images, by name, beside clean, FGSM and PGD-20 accuracy."""
        return {}

    def train_step(self, data):
        x, y = self.images(data)
        z = tf.stop_gradient(self.craft(x, y))
        share = self.share(x)
        with tf.GradientTape() as tape:
            loss, logits = self.losses(z, x, y)
            loss += _penalty(self.network)  # to each image's: of all replicas' shares it is once the whole
            total = share * tf.reduce_sum(loss)
        return self.learn(tape, total, loss, logits, y)

    @property
    def metrics(self):
        return [self.mean_loss, self.mean_accuracy]  # without Keras's own, which has the same name as ours

    def test_step(self, data):
        """Loss and accuracy on images as they are, for `evaluate` and `fit(validation_data=...)`."""
        x, y = self.images(data)
        logits = self.network(x, training=False)
        self.mean_loss.update_state(cross_entropy(logits, y))
        self.mean_accuracy.update_state(tf.argmax(logits, axis=1) == y)
        return {"loss": self.mean_loss.result(), "accuracy": self.mean_accuracy.result()}

    def images(self, data):
        """Images and labels (B,) of one batch, as `fit` hands it over. TypeError for integers, tf.errors.InvalidArgumentError for
        pixels outside [0, 1], which crafting would clip."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if y is None or weights is not None:
            raise ValueError(
                "fit was given no labels, or weights for the images: images and labels were expected, fit(x, y)"
            )
        x = tf.convert_to_tensor(x)
        if not x.dtype.is_floating:
            raise TypeError(f"fit was given {x.dtype.name} images: {PIXELS}")
        x = tf.cast(x, tf.float32)
        low, high = tf.reduce_min(x), tf.reduce_max(x)  # ±∞ where a replica has no image
        tf.debugging.Assert(
            (low >= 0) & (high <= 1), [f"fit was given other pixels: {PIXELS}; from and to:", low, high]
        )
        return x, tf.reshape(tf.cast(y, tf.int64), [-1])

    def share(self, x):
        """What an image counts in the mean over the whole batch, of all replicas: their gradients are added up."""
        count = tf.cast(tf.shape(x)[0], tf.float32)
        context = tf.distribute.get_replica_context()
        return 1 / (context.all_reduce("sum", count) if context.num_replicas_in_sync > 1 else count)

    def learn(self, tape, total, loss, logits, y):
        """One update of the weights down `total`; loss and accuracy for the logs."""
        weights = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(total, weights), weights)
        self.mean_loss.update_state(loss)
        self.mean_accuracy.update_state(tf.argmax(logits, axis=1) == y)
        return {"loss": self.mean_loss.result(), "accuracy": self.mean_accuracy.result()}

    @property
    def updates(self):
        """The number of updates made."""
        return int(tf.convert_to_tensor(self.optimizer.iterations))

    def eps_now(self):
        """ε at this update, on its ramp."""
        return self.train_eps * self.progress(0.0, self.ramp)

    def progress(self, start, end):
        """0 until the share `start` of all updates, 1 from the share `end` on, linear between or a jump at `start`."""
        if not self.total or start == end == 0:
            return tf.constant(1.0)
        done = tf.cast(self.optimizer.iterations, tf.float32) / self.total
        if end <= start:
            return tf.cast(done >= start, tf.float32)
        return tf.clip_by_value((done - start) / (end - start), 0.0, 1.0)

    def gradient(self, z, y, loss=cross_entropy):
        """∇_z of the summed loss, with the network in inference mode: crafting changes neither weights nor statistics."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            total = tf.reduce_sum(loss(self.network(z, training=False), y))
        return tape.gradient(total, z)

    def ascend(self, z, x, y, eps, alpha, loss=cross_entropy):
        """The attacks' own ascent step, in the ball around x."""
        (z,) = ascent_step(self.ball, At(z, x, self.gradient(z, y, loss)), eps, alpha)
        return z

    def random_start(self, x, eps):
        """A uniform point of each image's ball, and of the box."""
        shape = x.shape[1:]
        return self.ball.project(x + self.draw(self.ball.sample, x, shape, eps), x, eps)

    def draw(self, sample, x, shape, *given):
        """`sample(rng, shape, *given)` for each image of this replica's part of the batch: (B, *shape).

        Every replica draws for the whole batch and takes its own rows, so that 1 replica and 8 train on the same points."""
        context, first = tf.distribute.get_replica_context(), 0
        if context.num_replicas_in_sync > 1:  # the last batch need not be shared out evenly
            counts = context.all_gather(tf.shape(x)[:1], axis=0)
            first = tf.reduce_sum(counts[: context.replica_id_in_sync_group])

        def rows(update, first, n, *given):
            rng = np.random.default_rng([self.seed, int(update)])
            drawn = [sample(rng, tuple(shape), *given) for _ in range(first + n)]
            return np.asarray(drawn[first:], np.float32).reshape(n, *shape)

        update = tf.convert_to_tensor(self.optimizer.iterations)
        drawn = tf.numpy_function(rows, [update, first, tf.shape(x)[0], *given], tf.float32)
        return tf.ensure_shape(drawn, [x.shape[0], *shape])
