"""Expectation over transformation: a wrapper that any attack takes."""

import gc
import weakref

import numpy as np
import pytest

from advlib import losses, models
from advlib._tensorflow import keras, tf
from advlib.attacks import eot, pgd
from advlib.attacks._loop import Oracle
from advlib.attacks.black_box import BlackBox, NoGradientError


class Noise(keras.layers.Layer):
    """Adds Gaussian noise, in inference too."""

    def __init__(self, sigma, seed=0):
        super().__init__()
        self.sigma, self.generator = sigma, keras.random.SeedGenerator(seed)

    def call(self, x):
        return x + keras.random.normal(tf.shape(x), stddev=self.sigma, seed=self.generator)


def noisy(kind, net, sigma=0.3):
    """One defence, written in every way in which randomness reaches TensorFlow."""
    if kind == "keras":
        return keras.Sequential([keras.Input((28, 28, 1)), Noise(sigma), net])
    rng = np.random.default_rng(0)

    def defended(x):
        if kind == "numpy":
            noise = tf.constant(rng.normal(0, sigma, x.shape), tf.float32)
        else:
            noise = tf.random.normal(tf.shape(x), stddev=sigma, seed=5 if kind == "op seed" else None)
        return net(x + noise, training=False)

    return defended if kind == "numpy" else tf.function(defended)


KINDS = ("keras", "op", "op seed", "numpy")


def gradient(model, x, y):
    """Of the cross-entropy, through what an attack would call."""
    oracle = Oracle(model, batch_size=len(x))
    constants = [tf.constant(v) for v in (x, y, np.zeros((len(x), 10), np.float32))]
    step = oracle.step(the_gradient, None, "ce", constants, False, x, (), ())
    return step(np.arange(len(x)), x, [])[2].numpy()


def the_gradient(ball, at):
    return (at.gradient,)


@pytest.mark.parametrize("samples", [1, 4])
def test_without_randomness_it_is_the_model(samples, small_net, images):
    x, y = images
    same = eot(small_net, samples)
    z, mean = models.predict_logits(small_net, x), models.predict_logits(same, x)
    apart = mean - z
    assert np.ptp(apart, axis=1).max() < 1e-5  # a constant in each row
    for loss in (losses.cross_entropy, losses.margin, losses.dlr):
        assert loss(mean, y).numpy() == pytest.approx(loss(z, y).numpy(), rel=1e-4, abs=1e-5)
    for loss in ("ce", "margin"):
        plain, wrapped = (pgd(m, x, y, eps=0.02, steps=5, loss=loss) for m in (small_net, same))
        assert (plain == wrapped).mean() > 0.9999


def test_log_of_the_mean_probabilities_and_its_gradient(small_net, images):
    """Against the equation in float64, of runs that are known: the model adds 0, 1, 2 … to one pixel."""
    x, y = images[0][:5], images[1][:5]
    shift = 0

    def model(x):
        nonlocal shift
        shift += 1
        return shift * small_net(x)

    z = tf.Variable(x)
    with tf.GradientTape() as tape:
        value = losses.cross_entropy(eot(model, 3)(z), y)
    got = tape.gradient(value, z).numpy()
    z = tf.Variable(x)
    with tf.GradientTape() as tape:
        p = sum(tf.nn.softmax(tf.cast(k * small_net(z), tf.float64)) for k in (1, 2, 3)) / 3
        truth = -tf.math.log(tf.gather(p, y, axis=1, batch_dims=1))
    assert value.numpy() == pytest.approx(truth.numpy(), rel=1e-5)
    wanted = tape.gradient(truth, z).numpy()
    assert got == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_variance_of_the_gradient_falls_as_one_over_n(kind, small_net, images):
    """For a linearised loss of small noise, so that the mean of n gradients is what is measured. Copies of one draw, or a draw
    frozen when the model is compiled, would not fall."""
    x, y = images[0][:8], images[1][:8]
    defended = noisy(kind, small_net, sigma=0.02)
    spread = []
    for samples in (1, 8):
        model = eot(defended, samples)
        spread.append(np.var([gradient(model, x, y) for _ in range(30)], axis=0).sum())
    # 30 draws of 8 images, each in several directions: some 8 % of error in a variance
    assert spread[0] / spread[1] == pytest.approx(8, rel=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_and_every_call_draws_anew(kind, images):
    x = images[0][:3]
    net = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    oracle = Oracle(eot(noisy(kind, net), 2))
    assert oracle.compiles == (kind != "numpy")
    seen = np.stack([oracle.logits(x) for _ in range(5)])
    assert min(np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]) > 1e-4


def test_it_breaks_a_random_defence_that_one_sample_does_not(mnist_test):
    """Judged by 200 draws that neither attack has seen."""
    x, y = mnist_test[0][:60], mnist_test[1][:60]
    defended = noisy("op", models.load("mnist-cnn"), sigma=0.5)
    options = {"eps": 0.12, "steps": 15, "early_stop": False, "keep": "last"}
    left = []
    for model in (defended, eot(defended, 10)):
        x_adv = pgd(model, x, y, **options)
        draws = [models.predict_logits(defended, x_adv).argmax(axis=1) == y for _ in range(200)]
        left.append(np.mean(draws))
    assert left[1] < left[0] - 0.03


def test_probabilities_and_black_boxes_are_still_seen(small_net, images):
    x, y = images
    softmax = keras.Sequential([small_net, keras.layers.Softmax()])
    for model in (softmax, lambda x: softmax(x)):
        with pytest.raises(models.ProbabilitiesNotLogitsError, match="as_logits"):
            pgd(eot(model, 2), x, y, eps=0.1)
    box = BlackBox(small_net)
    with pytest.raises(NoGradientError):
        pgd(eot(box, 2), x, y, eps=0.1)
    box.queries = 0
    eot(box, 3)(x)
    assert box.queries == 3 * len(x)


def test_logits_between_0_and_1_are_no_probabilities():
    """Their sum tells."""
    z = np.float32([[0.9, 0.3, 0.3], [0.2, 0.9, 0.4]])
    for sums_to_one, shown in ((False, z), (True, z / z.sum(axis=1, keepdims=True))):
        seen = eot(lambda x, shown=shown: tf.constant(shown), 3)(np.zeros((2, 1, 1, 1), np.float32)).numpy()
        expected = shown if sums_to_one else shown - np.log(np.exp(shown).sum(axis=1, keepdims=True))
        assert seen == pytest.approx(expected, abs=1e-5)
    below = np.float32([[1.5, -0.2, -0.3]])  # the sum is 1, and they are none
    seen = eot(lambda x: tf.constant(below), 3)(np.zeros((1, 1, 1, 1), np.float32)).numpy()
    assert seen == pytest.approx(below - np.log(np.exp(below).sum()), abs=1e-5)


def test_it_is_forgotten_when_it_goes():
    net = models.mlp(seed=0, width=4)
    model = eot(net, 2)
    x = np.full((2, 28, 28, 1), 0.5, np.float32)
    pgd(model, x, models.predict_logits(model, x).argmax(axis=1), eps=0.1, steps=1)
    gone = [weakref.ref(model), weakref.ref(net)]
    del model, net
    gc.collect()
    assert [r() for r in gone] == [None, None]


@pytest.mark.parametrize(("samples", "error"), [(0, ValueError), (2.5, TypeError)])
def test_bad_input_is_named(samples, error, small_net):
    with pytest.raises(error, match=r"samples=.*expected, for example 20"):
        eot(small_net, samples)
    with pytest.raises(TypeError, match="a callable from images to logits"):
        eot("net")
