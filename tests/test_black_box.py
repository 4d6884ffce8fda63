"""A model that only answers: it counts, it may hide its logits, and no gradient goes through it."""

from functools import partial

import numpy as np
import pytest

from advlib import models
from advlib._tensorflow import keras, tf
from advlib.attacks import fgsm, mi_fgsm, nes, pgd, spsa, square
from advlib.attacks._loop import run
from advlib.attacks.black_box import BlackBox, NoGradientError
from advlib.robustness import evaluate


def test_it_answers_as_the_model_and_counts(small_net, images):
    x, _ = images
    box = BlackBox(small_net)
    assert box.queries == 0
    assert (box(x).numpy() == models.predict_logits(small_net, x)).all() and box.queries == len(x)
    box(tf.constant(x[:5]))  # tensors too
    models.predict_logits(box, x[:7])
    assert box.queries == len(x) + 5 + 7
    box.queries = 0
    box(x[:1])
    assert box.queries == 1


def test_labels_alone(small_net, images):
    x, y = images
    box = BlackBox(small_net, labels=True)
    predicted = models.predict_logits(small_net, x).argmax(axis=1)
    expected = np.zeros((len(x), 10), np.float32)
    expected[np.arange(len(x)), predicted] = 2
    assert (box(x).numpy() == expected).all()
    assert (models.predict_logits(box, x) == expected).all()
    # with labels alone, every margin is −2 until an image breaks: Square never leaves its start for less
    seen = []
    square(box, x, y, eps=0.005, steps=5, callback=seen.append)
    assert all(set(t.loss[~t.broken]) <= {-2.0} for t in seen) and not seen[0].broken.all()


@pytest.mark.parametrize("attack", [fgsm, pgd, mi_fgsm])
def test_no_gradient_for_an_attack(attack, small_net, images):
    with pytest.raises(NoGradientError, match=r"(?s)gradient.*expected, for example"):
        attack(BlackBox(small_net), *images, eps=0.1)


def test_no_gradient_for_a_tape(small_net, images):
    x = tf.constant(images[0][:4])
    box = BlackBox(small_net)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(box(x))
    with pytest.raises(NoGradientError, match="gradient"):
        tape.gradient(loss, x)

    with pytest.raises(NoGradientError, match="eagerly"):
        tf.function(box, autograph=False)(x)


def test_no_gradient_for_an_attack_that_promised_none(small_net, images):
    """`gradient=False` is kept by the loop, on a plain model too."""

    def cheat(group):
        group.begin()
        group.ascend(group.x.copy(), lambda ball, at: (at.z + at.gradient,), None)

    with pytest.raises(NoGradientError, match="only answers"):
        run(cheat, small_net, *images, eps=0.1, norm="linf", gradient=False)


@pytest.mark.parametrize("attack", [square, partial(spsa, samples=5), partial(nes, samples=5)])
def test_same_bits_through_it_as_without(attack, small_net, images):
    x, y = images
    box = BlackBox(small_net)
    assert (attack(box, x, y, eps=0.03, steps=6) == attack(small_net, x, y, eps=0.03, steps=6)).all()
    assert box.queries > 4 * len(x)


def test_around_any_callable(images):
    """The box needs nothing of TensorFlow from what it holds."""
    x, _ = images
    w = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    plain = lambda x: np.asarray(x).reshape(-1, 784) @ w  # noqa: E731
    y = plain(x).argmax(axis=1)
    x_adv = square(BlackBox(plain), x, y, eps=0.3, steps=20)
    assert (plain(x_adv).argmax(axis=1) != y).mean() > 0.5


def test_evaluate_takes_it(small_net, images):
    x, y = images
    box = BlackBox(small_net)
    attacks = {"square": partial(square, eps=0.05, steps=20)}
    report = evaluate(box, x, y, attacks, norm="linf", eps=0.05)
    same = evaluate(small_net, x, y, attacks, norm="linf", eps=0.05)
    assert report.robust_accuracy == same.robust_accuracy < report.clean_accuracy
    assert box.queries > len(x)


def test_what_is_no_model():
    with pytest.raises(TypeError, match="a callable from images to logits"):
        BlackBox("net.keras")
    softmax = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    with pytest.raises(models.ProbabilitiesNotLogitsError):
        square(BlackBox(softmax), np.full((2, 28, 28, 1), 0.5, np.float32), np.array([0, 1]), eps=0.1)


def test_a_compiled_model_without_a_gradient_says_so():
    from advlib._tensorflow import keras, tf

    class Rounded(keras.layers.Layer):
        def call(self, x):
            return tf.round(x)

    rounded = keras.Sequential(
        [keras.Input((4, 4, 1)), Rounded(), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    with pytest.raises(NoGradientError, match="no gradient"):
        pgd(rounded, x, models.predict_logits(rounded, x).argmax(axis=1), eps=0.1)


def test_a_fresh_keras_model_can_be_asked_first():
    """The first question compiles the model, whose variables are no part of the gradient that is refused."""
    x = np.full((3, 8, 8, 1), 0.5, np.float32)
    box = BlackBox(models.linear(shape=(8, 8, 1), classes=3))
    assert box(x).shape == (3, 3) and box.queries == 3


def test_other_numbers_than_float32_are_named(small_net):
    with pytest.raises(TypeError, match="the images are float64: float32 was expected"):
        BlackBox(small_net)(np.full((2, 28, 28, 1), 0.5))


def test_no_answer_is_no_label():
    z = np.array([[0, 1, 0], [np.nan, 0, 1]], np.float32)
    shown = BlackBox(lambda x: z, labels=True).shown(z)
    assert shown[0].argmax() == 1 and np.isnan(shown[1]).all()


def test_a_wrong_image_is_asked_about_once_around_any_callable(small_net, images):
    x, y = images  # the last four are wrong
    box = BlackBox(lambda x: small_net(x))
    square(box, x, y, eps=0.1, steps=0)
    assert box.queries == len(x) + len(x) - 4
