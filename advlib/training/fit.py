"""The plain training loop. Lesson 01 writes it out by hand and checks that the two agree."""

import time
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from advlib._checks import check_images, check_labels, check_number
from advlib._tensorflow import keras, tf
from advlib.attacks._loop import quiet
from advlib.losses import cross_entropy
from advlib.models import predict_logits


@dataclass
class History:
    """What happened in training, one entry an epoch: mean training loss and accuracy; from `adversarial_fit` also the scores on
    validation data, the epoch whose weights were kept, and the flags that were raised."""

    loss: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    validation: list = field(default_factory=list)  # {"clean": …, "fgsm": …, "pgd20": …}
    stopped_by: str = "epochs"  # or "threshold", "collapse", "nan", "callback"
    best_epoch: int | None = None  # counted from 1
    flags: list = field(default_factory=list)
    seconds: float = 0.0


def order(n, seed, epoch):
    """The order in which epoch `epoch` goes through `n` images: a permutation that depends on the seed and the epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def fit(
    model, x, y, *, epochs=10, batch_size=128, learning_rate=1e-3, loss_threshold=None, seed=0, callback=None
):
    """Forward, loss, backward, update, until the loss falls below a threshold or the epochs run out.

    model: a keras.Model with logits, trained in place with Adam on the mean cross-entropy of each batch, and on what regularisers
    of its weights add to it; those of activations are ignored. x: float32 (N, H, W, C) in [0, 1]; y: labels (N,). loss_threshold:
    stop after an epoch whose mean loss is below it (None: never); seed: of the order of the images, see `order`; callback: called
    with (epoch, History) after each epoch.

    Returns a History, whose `stopped_by` says "threshold" or "epochs". Raises TypeError or ValueError for bad input.
    Source: the training loop that lesson 01 derives; Adam: Kingma & Ba 2015, arXiv 1412.6980.

        >>> history = fit(mlp(), x_train, y_train, epochs=10, loss_threshold=0.05)
        >>> history.stopped_by
        'threshold'
    """
    x, y = check_training(model, x, y, epochs, batch_size)
    check_number(learning_rate, "learning_rate", above=0, example=1e-3)
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
            loss = tf.reduce_mean(cross_entropy(z, y)) + _penalty(model)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss, tf.reduce_sum(tf.cast(tf.argmax(z, axis=1) == y, tf.int32))

    history, began = History(), time.perf_counter()
    for epoch in tqdm(range(epochs), desc="fit", unit="epoch", delay=5, leave=False, disable=quiet()):
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


def _penalty(model):
    """The sum of what regularisers make of the weights, 0 without any."""
    # not model.losses: of activations it knows those of the last call alone, and a defence calls its network often
    return sum(w.regularizer(w) for w in model.trainable_weights if w.regularizer is not None)


def check_training(model, x, y, epochs, batch_size):
    """Images and labels that `model` can be trained on; TypeError or ValueError otherwise."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"the model is a {type(model).__name__}: a keras.Model was expected, for example advlib.models.mlp()"
        )
    x = check_images(x)
    # builds a model that is not yet, and refuses one that ends in softmax
    y = check_labels(y, len(x), predict_logits(model, x[:1]).shape[1])
    check_number(epochs, "epochs", low=1, integer=True, example=10)
    check_number(batch_size, "batch_size", low=1, integer=True, example=128)
    return x, y


def _batches(index, batch_size):
    return (index[first : first + batch_size] for first in range(0, len(index), batch_size))
