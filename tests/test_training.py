"""Training: the hand-written loop, both ways to stop."""

import numpy as np
import pytest

from advlib import data, models, training
from advlib._tensorflow import keras, tf
from advlib.losses import cross_entropy


@pytest.fixture(scope="module")
def few():
    d = data.load("mnist")
    return data.split(*data.subset(d.x_train, d.y_train, 1500), 300)


def test_fit_is_the_hand_written_loop(few):
    (x, y), _ = few
    net, twin = models.mlp(seed=4), models.mlp(seed=4)
    training.fit(net, x, y, epochs=2, batch_size=100, seed=7)
    optimizer = keras.optimizers.Adam(1e-3)
    for epoch in range(2):
        order = training.order(len(x), 7, epoch)
        for first in range(0, len(x), 100):
            rows = order[first : first + 100]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(cross_entropy(twin(x[rows], training=True), y[rows]))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, twin.trainable_variables), twin.trainable_variables, strict=True)
            )
    for a, b in zip(net.get_weights(), twin.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_regularisers_of_weights_are_part_of_the_loss(few):
    """By hand: λ·Σ w² has the gradient 2·λ·w; the loss that is told has it too."""
    (x, y), _ = few
    net, twin = models.linear(seed=4), models.linear(seed=4)
    net.layers[-1].kernel.regularizer = keras.regularizers.L2(0.5)
    history = training.fit(net, x[:300], y[:300], epochs=1, batch_size=100, seed=7)
    optimizer, order, told = keras.optimizers.Adam(1e-3), training.order(300, 7, 0), []
    kernel = twin.layers[-1].kernel
    for first in range(0, 300, 100):
        rows = order[first : first + 100]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(twin(x[rows], training=True), y[rows]))
        told.append(float(loss) + 0.5 * (kernel.numpy() ** 2).sum())
        gradients = tape.gradient(loss, twin.trainable_variables)
        variables = twin.trainable_variables
        gradients = [g + v if v is kernel else g for g, v in zip(gradients, variables, strict=True)]
        optimizer.apply(gradients, variables)
    for a, b in zip(net.get_weights(), twin.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert history.loss[0] == pytest.approx(np.mean(told), rel=1e-5)


def test_same_seed_same_bits_whatever_happened_before(few):
    (x, y), _ = few
    first = models.mlp(seed=1)
    training.fit(first, x, y, epochs=1)
    tf.random.normal((3,))  # another user of the global generator
    second = models.mlp(seed=1)
    training.fit(second, x, y, epochs=1)
    other = models.mlp(seed=1)
    training.fit(other, x, y, epochs=1, seed=1)
    assert all((a == b).all() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    assert not (first.get_weights()[0] == other.get_weights()[0]).all()


def test_stops_by_threshold_or_by_epochs_and_says_so(few):
    (x, y), _ = few
    history = training.fit(models.mlp(), x, y, epochs=20, loss_threshold=0.5)
    assert (
        history.stopped_by == "threshold"
        and history.loss[-1] < 0.5 <= history.loss[-2]
        and len(history.loss) < 20
    )
    history = training.fit(models.mlp(), x, y, epochs=2, loss_threshold=1e-9)
    assert history.stopped_by == "epochs" and len(history.loss) == len(history.accuracy) == 2
    assert history.loss[1] < history.loss[0] and history.accuracy[1] > history.accuracy[0] > 0.3


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(few):
    """With weights that all but stand still, and a last batch of 2 beside two of 4."""
    x, y = (part[:10] for part in few[0])
    net = models.mlp(seed=0)
    z = models.predict_logits(net, x)
    history = training.fit(net, x, y, epochs=1, batch_size=4, learning_rate=1e-9)
    assert history.loss[0] == pytest.approx(float(np.mean(cross_entropy(z, y))), rel=1e-4)
    assert history.accuracy[0] == pytest.approx((z.argmax(axis=1) == y).mean())


def test_each_epoch_sees_every_image_once_in_another_order():
    first, second = training.order(1000, 0, 0), training.order(1000, 0, 1)
    assert sorted(first) == sorted(second) == list(range(1000)) and (first != second).any()
    assert (training.order(1000, 0, 0) == first).all() and (training.order(1000, 1, 0) != first).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"loss_threshold": -1}, "loss_threshold=-1"),
    ],
)
def test_bad_options(few, change, words):
    (x, y), _ = few
    with pytest.raises(ValueError, match=words):
        training.fit(models.mlp(), x, y, **change)


def test_bad_input(few):
    (x, y), _ = few
    with pytest.raises(TypeError, match=r"keras\.Model was expected"):
        training.fit(lambda x: x, x, y)
    with pytest.raises(ValueError, match="0 to 9"):
        training.fit(models.mlp(), x, y + 5)


def test_fit_builds_a_model_and_refuses_softmax():
    x, y = data.load("mnist")[2:]
    k = keras.layers
    net = keras.Sequential([k.Flatten(), k.Dense(10)])
    training.fit(net, x[:100], y[:100], epochs=1)
    assert net.built
    with pytest.raises(models.ProbabilitiesNotLogitsError):
        training.fit(
            keras.Sequential([k.Flatten(), k.Dense(10, activation="softmax")]), x[:100], y[:100], epochs=1
        )
