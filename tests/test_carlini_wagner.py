"""C&W against its equation, an Adam of another library, the closed form of a linear model, and the figures expected of it."""

import numpy as np
import pytest

from advlib import losses, models, norms
from advlib._tensorflow import keras, tf
from advlib.attacks import carlini_wagner, ddn
from advlib.attacks._loop import At
from advlib.attacks.carlini_wagner import adam_step, to_image, to_variable
from tests.conftest import affine

L2 = norms.get("l2")
# black pixels, at w = −7, need a way of steps · learning_rate of about 10
QUICK = {"searches": 3, "steps": 100, "learning_rate": 0.1, "initial_const": 1.0, "batch_size": 20}


@pytest.fixture(scope="module")
def cnn(mnist_test):
    """A checkpoint and 20 images that it gets right."""
    net, (x, y) = models.load("mnist-cnn"), (part[:21] for part in mnist_test)
    ok = models.predict_logits(net, x).argmax(axis=1) == y
    return net, x[ok][:20], y[ok][:20]


def test_the_variable_is_the_image():
    """CW1, at black and white too, where the exact inverse is infinite."""
    x = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    w = to_variable(x)
    assert np.isfinite(w).all() and to_image(w).numpy() == pytest.approx(x, abs=1e-5)
    assert to_image(np.float32([-1e3, 1e3])).numpy().tolist() == [0, 1]


@pytest.mark.parametrize("confidence", [0.0, 2.0])
def test_ten_steps_are_keras_adam_on_the_objective(confidence):
    """The chain rule through tanh, written by hand, against TensorFlow's; Adam against Keras's."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (6, 5, 5, 1)).astype(np.float32)
    kernel = tf.constant(3 * rng.normal(size=(25, 4)).astype(np.float32))
    y = (x.reshape(6, 25) @ kernel.numpy()).argmax(axis=1)
    c = np.array([0.01, 0.1, 1, 10, 100, 0.5], np.float32)

    def margin(image):
        return losses.margin(tf.reshape(image, (6, 25)) @ kernel, y)

    def distance(image):
        return tf.reduce_sum((image - x) ** 2, axis=(1, 2, 3))

    variable = tf.Variable(to_variable(x))
    adam = keras.optimizers.Adam(0.01, epsilon=1e-8)
    w, m, v = to_variable(x), np.zeros_like(x), np.zeros_like(x)
    z, won = to_image(w), np.zeros(6, bool)
    state = (c.reshape(6, 1, 1, 1), w, m, v, np.zeros(6, np.float32), won)
    for t in range(1, 11):
        with tf.GradientTape() as tape:
            image = to_image(variable)
            value = distance(image) + c * tf.maximum(confidence - margin(image), 0)
            total = tf.reduce_sum(value)
        adam.apply_gradients([(tape.gradient(total, variable), variable)])
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = margin(z)
        at = At(z, x, tape.gradient(loss, z), loss=loss, broken=loss > 0)
        z, *state = adam_step(L2, at, float(t), 0.01, confidence, *state)
        error = np.abs(state[-2].numpy() - value.numpy())
        assert (
            error <= 1e-4 * value.numpy() + 1e-5 * (1 + c)
        ).all()  # c multiplies the margin's rounding too
        won |= loss.numpy() > confidence
        assert (state[-1].numpy() == won).all()
    assert z.numpy() == pytest.approx(to_image(variable).numpy(), abs=1e-4)
    assert np.abs(z.numpy() - x).max() > 0.01


def test_reaches_the_distance_of_a_linear_model():
    rng = np.random.default_rng(3)
    w = rng.normal(size=(64, 5))
    x = rng.uniform(0.4, 0.6, (20, 8, 8, 1)).astype(np.float32)
    net = affine(w, np.zeros(5), (8, 8, 1))
    z = models.predict_logits(net, x)
    y = z.argmax(axis=1)
    exact = [
        min((z[i, y[i]] - z[i, k]) / np.linalg.norm(w[:, k] - w[:, y[i]]) for k in range(5) if k != y[i])
        for i in range(20)
    ]
    options = {
        "searches": 3,
        "steps": 100,
        "learning_rate": 0.005,
        "initial_const": 0.2,
        "abort_early": False,
    }
    found = L2.size(carlini_wagner(net, x, y, **options) - x).numpy()
    assert found == pytest.approx(np.array(exact), rel=0.01)


def test_all_of_a_checkpoint_about_as_near_as_ddn(cnn):
    """CW2."""
    net, x, y = cnn
    x_adv = carlini_wagner(net, x, y, **QUICK)
    assert (models.predict_logits(net, x_adv).argmax(axis=1) != y).all()
    near = L2.size(ddn(net, x, y, steps=200, batch_size=20) - x).numpy()
    assert np.median(L2.size(x_adv - x)) == pytest.approx(np.median(near), rel=0.08)


@pytest.mark.parametrize("targeted", [False, True])
def test_confidence_is_a_margin_and_costs_distance(targeted, cnn):
    """CW3, by a fresh forward pass."""
    net, x, y = cnn
    t = (y + 1) % 10 if targeted else None
    size = []
    for confidence in (0.0, 5.0):
        x_adv = carlini_wagner(net, x, y, confidence=confidence, y_target=t, **QUICK)
        z = models.predict_logits(net, x_adv)
        margin = (losses.margin(z, y) if t is None else losses.margin_targeted(z, y, t)).numpy()
        assert margin.min() >= confidence - 1e-3
        assert np.median(margin) < confidence + 1
        size.append(L2.size(x_adv - x).numpy())
    assert (size[1] > size[0]).all()


def test_a_confidence_out_of_reach_returns_x(images):
    x, y = images
    flat = affine(np.tile([0.01, 0], (784, 1)), [0, 3], (28, 28, 1))  # logit 0 is between 0 and 7.84
    y = models.predict_logits(flat, x).argmax(axis=1)
    near = carlini_wagner(flat, x, y, searches=3, steps=40, learning_rate=0.3, initial_const=100)
    assert (models.predict_logits(flat, near).argmax(axis=1) != y).mean() > 0.9
    far = carlini_wagner(
        flat, x, y, confidence=10, searches=3, steps=40, learning_rate=0.3, initial_const=100
    )
    assert (far == x).all()


def test_more_searches_are_never_worse(cnn):
    """CW4, exact: the longer run contains the shorter. More than one search must be worth something."""
    net, x, y = cnn
    options = QUICK | {"initial_const": 0.2}
    found = [carlini_wagner(net, x, y, **options | {"searches": s}) for s in (1, 2, 4)]
    size = [np.where((a != x).any(axis=(1, 2, 3)), L2.size(a - x), np.inf) for a in found]
    assert (size[1] <= size[0]).all() and (size[2] <= size[1]).all() and size[2].sum() < size[1].sum()


def test_the_first_constant_matters_little(cnn):
    """CW5: half of it, and the median stays."""
    net, x, y = cnn
    options = QUICK | {"searches": 5}
    a, b = (carlini_wagner(net, x, y, **options | {"initial_const": c}) for c in (1.0, 0.5))
    assert np.median(L2.size(a - x)) == pytest.approx(np.median(L2.size(b - x)), rel=0.03)


def test_targeted_is_farther(cnn):
    """CW6."""
    net, x, y = cnn
    t = (y + 1) % 10
    aimed = carlini_wagner(net, x, y, y_target=t, **QUICK)
    assert (models.predict_logits(net, aimed).argmax(axis=1) == t).all()
    assert (
        L2.size(aimed - x).numpy().mean()
        > 1.1 * L2.size(carlini_wagner(net, x, y, **QUICK) - x).numpy().mean()
    )


def test_each_image_has_its_own_constant_and_stops_alone(cnn):
    """A c too small, or stopping, must stay with its own image; Adam begins anew at each search."""
    net, x, y = cnn
    seen = []
    options = QUICK | {"searches": 2}
    x_adv = carlini_wagner(net, x, y, callback=seen.append, **options)
    steps = {search: [t for t in seen if t.restart == search] for search in (0, 1)}
    counts = [len(t.index) for t in steps[1]]
    assert counts[0] == len(x) and counts == sorted(counts, reverse=True) and counts[-1] < len(x)
    assert all((t[0].x_adv == x).all() for t in steps.values())  # w is reset
    jump = [np.abs(t[1].x_adv - x).max() for t in steps.values()]
    assert jump[0] == pytest.approx(jump[1], rel=0.2)  # and so are the moments: the first step has length η
    for i in (0, 7):
        assert (carlini_wagner(net, x[i : i + 1], y[i : i + 1], **options) == x_adv[i]).all()


def by_hand(x, w, y, kappa, searches, steps, learning_rate, c, abort_early):
    """Carlini & Wagner's search of one image (d,) on the model z = w·x, in float64: the point, and the steps at each c."""
    low, high, best, nearest, taken = 0.0, np.inf, x, np.inf, []
    for search in range(searches):
        if searches >= 10 and search == searches - 1 and high < np.inf:
            c = high
        v = np.arctanh((2 * x - 1) * 0.999999)
        m, s, previous, won, point = np.zeros_like(x), np.zeros_like(x), np.inf, False, x
        for t in range(steps):
            z = point @ w
            rival = max((k for k in range(len(z)) if k != y), key=lambda k: z[k])
            size, short = np.sum((point - x) ** 2), max(z[y] - z[rival] + kappa, 0)
            if z.argmax() != y and short == 0:
                won = True
                if size < nearest:
                    best, nearest = point, size
            gradient = (2 * (point - x) + c * (short > 0) * (w[:, y] - w[:, rival])) * 2 * point * (1 - point)
            m, s = 0.9 * m + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
            v = v - learning_rate * m / (1 - 0.9 ** (t + 1)) / (np.sqrt(s / (1 - 0.999 ** (t + 1))) + 1e-8)
            point = (np.tanh(v) + 1) / 2
            if abort_early and t % np.ceil(steps / 10) == 0:
                if size + c * short > 0.9999 * previous:
                    break
                previous = size + c * short
        taken.append(t + 1)
        low, high = (low, c) if won else (c, high)
        c = (low + high) / 2 if high < np.inf else 10 * c
    return best, taken


@pytest.mark.parametrize("abort_early", [False, True])
@pytest.mark.parametrize(
    ("searches", "steps", "c"),
    [
        (1, 30, 0.003),
        (4, 33, 0.003),
        (9, 20, 0.003),
        (10, 20, 0.003),
        (13, 41, 0.003),
        (10, 20, 1e-12),
        (10, 41, 3e-10),
    ],
)
def test_the_search_is_the_papers(searches, steps, c, abort_early):
    """Bisection or ten times c, the last of ten or more searches at the least c that succeeded, and when a search is given up;
    with the last but one of the constants none succeeds,
    with the last one only the tenth search."""
    rng = np.random.default_rng(4)
    w, x = rng.normal(size=(16, 4)), rng.uniform(0.3, 0.7, (12, 4, 4, 1)).astype(np.float32)
    net, z = affine(w, np.zeros(4), (4, 4, 1)), x.reshape(12, 16) @ w
    y, seen = z.argmax(axis=1), []
    options = {
        "searches": searches,
        "steps": steps,
        "learning_rate": 0.05,
        "initial_const": c,
        "abort_early": abort_early,
    }
    x_adv = carlini_wagner(net, x, y, confidence=0.1, callback=seen.append, **options)
    for i in range(len(x)):
        point, taken = by_hand(
            x[i].ravel().astype(float), w, y[i], 0.1, searches, steps, 0.05, c, abort_early
        )
        counts = [sum(i in t.index for t in seen if t.restart == search) for search in range(searches)]
        assert x_adv[i].ravel() == pytest.approx(point, abs=1e-4)
        assert counts == taken


@pytest.mark.parametrize(
    ("word", "value"),
    [("confidence", -1.0), ("searches", 0), ("steps", 0), ("learning_rate", -0.1), ("initial_const", -1.0)],
)
def test_bad_arguments(word, value, small_net, images):
    with pytest.raises(ValueError, match=word):
        carlini_wagner(small_net, *images, **{word: value})
