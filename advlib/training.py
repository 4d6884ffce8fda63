"""Training: the plain algorithm, and the same on adversarial examples.

Lesson 01 writes `fit` out by hand and checks that the two agree; lesson 10 is about `adversarial_fit`.
"""

import time
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from advlib import norms
from advlib._checks import check_images, check_labels, check_number
from advlib._tensorflow import keras, tf
from advlib.attacks._loop import At, quiet
from advlib.attacks.pgd import ascent_step, pgd
from advlib.losses import cross_entropy
from advlib.models import predict_logits


@dataclass
class History:
    """What happened in training, one entry an epoch: mean training loss and accuracy, and scores on validation data."""

    loss: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    validation: list = field(default_factory=list)  # of adversarial_fit: {"clean": …, "pgd20": …}
    stopped_by: str = "epochs"  # or "threshold"
    best_epoch: int | None = None  # of adversarial_fit, counted from 1
    seconds: float = 0.0


def order(n, seed, epoch):
    """The order in which epoch `epoch` goes through `n` images: a permutation that depends on the seed and the epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def fit(
    model, x, y, *, epochs=10, batch_size=128, learning_rate=1e-3, loss_threshold=None, seed=0, callback=None
):
    """Forward, loss, backward, update, until the loss falls below a threshold or the epochs run out.

    model: a keras.Model with logits, trained in place with Adam on the mean cross-entropy of each batch. x: float32
    (N, H, W, C) in [0, 1]; y: labels (N,). loss_threshold: stop after an epoch whose mean loss is below it (None: never);
    seed: of the order of the images, see `order`; callback: called with (epoch, History) after each epoch.

    Returns a History, whose `stopped_by` says "threshold" or "epochs". Raises TypeError or ValueError for bad input.
    Source: the training loop that lesson 01 derives; Adam: Kingma & Ba 2015, arXiv 1412.6980.

        >>> history = fit(mlp(), x_train, y_train, epochs=10, loss_threshold=0.05)
        >>> history.stopped_by
        'threshold'
    """
    x, y = _check(model, x, y, epochs, batch_size, learning_rate)
    threshold = (
        None
        if loss_threshold is None
        else check_number(loss_threshold, "loss_threshold", low=0, example=0.05)
    )
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(x, y):
        with tf.GradientTape() as tape:
            z = model(x, training=True)
            loss = tf.reduce_mean(cross_entropy(z, y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss, tf.reduce_sum(tf.cast(tf.argmax(z, axis=1) == y, tf.int32))

    history, began = History(), time.perf_counter()
    for epoch in _epochs(epochs, "fit"):
        total = right = 0.0
        for rows in _batches(order(len(x), seed, epoch), batch_size):
            loss, hits = update(tf.constant(x[rows]), tf.constant(y[rows]))
            total, right = total + float(loss) * len(rows), right + int(hits)
        history.loss.append(total / len(x))
        history.accuracy.append(right / len(x))
        if callback is not None:
            callback(epoch, history)
        if threshold is not None and history.loss[-1] < threshold:
            history.stopped_by = "threshold"
            break
    history.seconds = time.perf_counter() - began
    return history


def adversarial_fit(
    model, x, y, *, eps, validation, norm="linf", steps=7, epochs=10, batch_size=100, learning_rate=2e-3, ramp=0.3, seed=0,
    callback=None,
):  # fmt: skip
    """PGD training: min over weights of the mean, over images, of the largest loss within the ball, found by a few steps of PGD.

    model: a keras.Model with logits, trained in place with Adam on adversarial examples alone. x, y: as in `fit`.
    validation: (x, y), never test data, on which the epoch to keep is chosen by accuracy under PGD-20. eps: budget that is
    reached after the share `ramp` of all updates, linearly from 0, since a net thrown in at once often stays at a constant
    prediction. steps: of the inner attack, with random start and α = max(2.5·ε_now/steps, eps/30). learning_rate: the peak of
    a triangle, reached after 40 % of the updates. callback: called with (epoch, History) after each epoch.

    Returns a History with `validation` (clean and PGD-20 accuracy an epoch) and `best_epoch`, whose weights the model ends with.
    Source: Madry et al. 2018, arXiv 1706.06083, eq. 2.1; the short schedule: Wong, Rice & Kolter 2020, arXiv 2001.03994.
    Lesson 10.

        >>> adversarial_fit(cnn(), x_fit, y_fit, eps=0.3, validation=(x_val, y_val))
    """
    x, y = _check(model, x, y, epochs, batch_size, learning_rate)
    x_val, y_val = check_images(validation[0], "validation x"), validation[1]
    y_val = check_labels(y_val, len(x_val), name="validation y")
    ball = norms.get(norm)
    eps = ball.check_eps(eps, x.shape[1:])
    check_number(steps, "steps", low=1, integer=True, example=7)
    check_number(ramp, "ramp", low=0, high=1, example=0.3)
    optimizer = keras.optimizers.Adam(learning_rate, epsilon=1e-8)
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(x, y, z, eps, alpha, rate):
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(z)
                loss = tf.reduce_sum(cross_entropy(model(z, training=False), y))
            (z,) = ascent_step(ball, At(z, x, tape.gradient(loss, z)), eps, alpha)
        with tf.GradientTape() as tape:
            logits = model(z, training=True)
            loss = tf.reduce_mean(cross_entropy(logits, y))
        optimizer.learning_rate.assign(rate)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == y, tf.int32))

    history, began, best = History(), time.perf_counter(), None
    updates, done = epochs * -(-len(x) // batch_size), 0
    for epoch in _epochs(epochs, "adversarial_fit"):
        total = right = 0.0
        rng = np.random.default_rng([seed, epoch, 1])  # of the random starts
        for rows in _batches(order(len(x), seed, epoch), batch_size):
            now = eps * min(1.0, done / max(1.0, ramp * updates))
            rate = learning_rate * np.interp(done / updates, [0, 0.4, 1], [0, 1, 0])
            start = np.stack([ball.sample(rng, x.shape[1:], now) for _ in rows])
            z = ball.project(x[rows] + start, x[rows], tf.constant(now, tf.float32))
            alpha = max(2.5 * now / steps, eps / 30)
            loss, hits = update(
                x[rows], y[rows], z, *(tf.constant(v, tf.float32) for v in (now, alpha, rate))
            )
            total, right, done = total + float(loss) * len(rows), right + int(hits), done + 1
        history.loss.append(total / len(x))
        history.accuracy.append(right / len(x))
        clean = float((predict_logits(model, x_val).argmax(axis=1) == y_val).mean())
        x_adv = pgd(model, x_val, y_val, eps=eps, norm=ball, steps=20, seed=seed)
        robust = float((predict_logits(model, x_adv).argmax(axis=1) == y_val).mean())
        history.validation.append({"clean": clean, "pgd20": robust})
        if best is None or robust >= best[0]:
            best, history.best_epoch = (robust, model.get_weights()), epoch + 1
        if callback is not None:
            callback(epoch, history)
    model.set_weights(best[1])
    history.seconds = time.perf_counter() - began
    return history


def _check(model, x, y, epochs, batch_size, learning_rate):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"the model is a {type(model).__name__}: a keras.Model was expected, for example advlib.models.mlp()"
        )
    x = check_images(x)
    classes = model.output_shape[-1] if model.built else None
    y = check_labels(y, len(x), classes)
    check_number(epochs, "epochs", low=1, integer=True, example=10)
    check_number(batch_size, "batch_size", low=1, integer=True, example=128)
    check_number(learning_rate, "learning_rate", above=0, example=1e-3)
    return x, y


def _batches(index, batch_size):
    return (index[first : first + batch_size] for first in range(0, len(index), batch_size))


def _epochs(epochs, name):
    return tqdm(range(epochs), desc=name, unit="epoch", delay=5, leave=False, disable=quiet())
