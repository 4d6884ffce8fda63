"""Backward pass differentiable approximation: through defences without a gradient."""

import gc
import weakref

import numpy as np
import pytest

from advlib import models
from advlib._tensorflow import keras, tf
from advlib.attacks import bpda, eot, fgsm, pgd
from advlib.attacks.black_box import BlackBox, NoGradientError


def levels(x, n=16):
    """Rounds to n grey levels, in NumPy."""
    return np.round(x * (n - 1)) / np.float32(n - 1)


class Levels(keras.layers.Layer):
    def call(self, x):
        return tf.round(x * 15) / 15


DEFENCES = {
    "numpy": levels,
    "float64": lambda x: np.round(x.astype(float) * 15) / 15,
    "eager": lambda x: tf.round(x * 15) / 15,
    "tf.function": tf.function(lambda x: tf.round(x * 15) / 15),
    "layer": Levels(),
}


def in_place(x):
    x[x > 0.5] = 0
    return x


def left(model, x_adv, y):
    return (models.predict_logits(model, x_adv).argmax(axis=1) == y).mean()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("kind", DEFENCES)
def test_forward_is_the_defence_to_the_bit(kind, plain, small_net, images):
    x, _ = images
    model = (lambda x: small_net(x, training=False)) if plain else small_net
    defence = DEFENCES[kind]
    expected = models.predict_logits(model, np.asarray(defence(x), np.float32))
    assert (models.predict_logits(bpda(model, defence), x) == expected).all()
    assert not (expected == models.predict_logits(model, x)).all()


def test_forward_is_to_the_bit_where_a_sum_would_round(images):
    """smooth + (sharp − smooth) is another number than sharp for most pixels."""
    x, _ = images
    flat = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    thirds = lambda x: np.float32(0.1) + x / 3  # noqa: E731
    seen = bpda(flat, thirds, surrogate=lambda x: 7 * x)(tf.constant(x)).numpy()
    assert (seen == thirds(x).reshape(len(x), -1)).all()
    assert ((7 * x + (thirds(x) - 7 * x)) != thirds(x)).mean() > 0.1


@pytest.mark.parametrize("plain", [False, True])
def test_gradient_is_that_of_the_surrogate(plain, small_net, images):
    """J_surrogate(x)ᵀ · ∇model at the defended image: not at x, and not at surrogate(x)."""
    x = images[0]
    model = (lambda x: small_net(x, training=False)) if plain else small_net
    for surrogate, slope in ((None, 1.0), (lambda x: x**2 / 2, x)):
        z = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_sum(tf.math.log_softmax(bpda(model, levels, surrogate)(z))[:, 0])
        got = tape.gradient(value, z).numpy()
        z = tf.constant(levels(x))
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_sum(tf.math.log_softmax(small_net(z))[:, 0])
        assert got == pytest.approx(tape.gradient(value, z).numpy() * slope, abs=1e-5)


def test_plain_pgd_sees_no_gradient_and_bpda_breaks_what_pgd_does_undefended(mnist_test):
    x, y = mnist_test[0][:150], mnist_test[1][:150]
    net = models.load("mnist-cnn")
    thresholds = (np.arange(15, dtype=np.float32) + 0.5) / 15

    @tf.function
    def stairs(x):  # of sixteen levels, whose gradient TensorFlow knows to be zero
        return net(tf.reduce_sum((1 + tf.sign(x - thresholds)) / 30, axis=-1, keepdims=True), training=False)

    ok = models.predict_logits(stairs, x).argmax(axis=1) == y
    blind = pgd(stairs, x, y, eps=0.1, steps=5, random_start=False)
    assert (blind == x).all() and ok.mean() > 0.95  # sign(0) = 0: not a pixel moves
    with pytest.raises(NoGradientError, match="there is no gradient"):
        fgsm(lambda x: net(tf.round(x * 15) / 15), x, y, eps=0.1)

    defended, eps = (
        bpda(net, levels),
        2 / 15,
    )  # two levels: the rounding neither adds to the budget nor takes from it
    undefended = left(net, pgd(net, x, y, eps=eps, steps=20), y)
    x_adv = pgd(defended, x, y, eps=eps, steps=20)
    assert left(defended, x_adv, y) <= undefended + 0.05
    assert undefended < 0.6


def test_a_defence_may_work_in_place_and_may_be_random(small_net, images):
    x, _ = images
    before = x.copy()
    expected = models.predict_logits(small_net, in_place(x.copy()))
    assert (models.predict_logits(bpda(small_net, in_place), x) == expected).all() and (x == before).all()
    for model in (small_net, lambda x: small_net(x)):
        shown = tf.constant(x)
        bpda(model, in_place)(shown)
        assert (shown.numpy() == before).all()

    rng = np.random.default_rng(0)
    shaken = bpda(small_net, lambda x: np.clip(x + rng.normal(0, 0.3, x.shape), 0, 1))
    a, b = (models.predict_logits(shaken, x) for _ in range(2))
    assert np.abs(a - b).max() > 0.01
    mean_a, mean_b = (models.predict_logits(eot(shaken, 16), x) for _ in range(2))
    off = lambda a, b: np.square((a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True))).mean()  # noqa: E731
    assert off(mean_a, mean_b) < 0.15 * off(a, b)  # 1/16 of the variance


def test_black_box_stays_one(small_net, images):
    x, y = images
    box = BlackBox(small_net)
    with pytest.raises(NoGradientError):
        pgd(bpda(box, levels), x, y, eps=0.1)


def test_it_is_forgotten_when_it_goes():
    net = models.mlp(seed=0, width=4)
    model = bpda(net, levels)
    x = np.full((2, 28, 28, 1), 0.5, np.float32)
    pgd(model, x, models.predict_logits(model, x).argmax(axis=1), eps=0.1, steps=1)
    gone = [weakref.ref(model), weakref.ref(net)]
    del model, net
    gc.collect()
    assert [r() for r in gone] == [None, None]


def test_bad_input_is_named(small_net, images):
    with pytest.raises(
        TypeError, match="defence=int 16: a callable from images to images was expected, for example"
    ):
        bpda(small_net, 16)
    with pytest.raises(TypeError, match="surrogate=str"):
        bpda(small_net, levels, surrogate="identity")
    with pytest.raises(TypeError, match="defence=NoneType"):
        bpda(small_net, None)
    with pytest.raises(TypeError, match="a callable from images to logits"):
        bpda("net", levels)
    half = lambda x: x[:, :14]  # noqa: E731
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[144,14,28,1\]"):
        models.predict_logits(bpda(small_net, half), images[0])
    with pytest.raises(ValueError, match=r"\[144,14,28,1\]"):
        models.predict_logits(bpda(lambda x: small_net(x), half), images[0])
