"""DeepFool against its equation, the closed form of a linear model, and what is expected of it on a checkpoint."""

from itertools import pairwise

import numpy as np
import pytest

from advlib import models, norms
from advlib._tensorflow import tf
from advlib.attacks import deepfool, fgsm
from advlib.attacks._loop import At
from advlib.attacks.deepfool import deepfool_step, nearest_class
from tests.conftest import affine

DUAL = {"l2": 2, "linf": 1}


@pytest.fixture(scope="module")
def cnn(mnist_test):
    """A checkpoint and 40 images that it gets right."""
    net, (x, y) = models.load("mnist-cnn"), (part[:41] for part in mnist_test)
    ok = models.predict_logits(net, x).argmax(axis=1) == y
    return net, x[ok][:40], y[ok][:40]


def linear(scale=1.0):
    """Ten classes, images far enough from the box, and the exact distance of each, in both norms."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(64, 10)) * rng.uniform(0.5, 2, 10)
    x = rng.uniform(0.4, 0.6, (20, 8, 8, 1)).astype(np.float32)
    net = affine(scale * w, np.zeros(10), (8, 8, 1))
    z = x.reshape(20, 64) @ w
    y = z.argmax(axis=1)

    def exact(norm):
        return np.array(
            [
                min(
                    (z[i, y[i]] - z[i, k]) / np.linalg.norm(w[:, y[i]] - w[:, k], DUAL[norm])
                    for k in range(10)
                    if k != y[i]
                )
                for i in range(20)
            ]
        )

    return net, x, y, exact


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("overshoot", [0.02, 0.1])
def test_a_linear_model_takes_one_step_of_its_distance_and_the_overshoot(norm, overshoot):
    """DF1, DF4: with the dual norm in the choice of the class or in the step's length mistaken, this is off by far."""
    net, x, y, exact = linear()
    seen = []
    x_adv = deepfool(net, x, y, norm=norm, overshoot=overshoot, callback=seen.append)
    assert [len(t.index) for t in seen] == [20, 20] and seen[1].broken.all()
    assert norms.get(norm).size(x_adv - x).numpy() == pytest.approx((1 + overshoot) * exact(norm), rel=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_norm_decides_which_class_is_nearest(norm):
    """One class reached by a little of every pixel, another by much of one: each the nearer in its norm."""
    w = np.zeros((16, 3))
    w[:, 1], w[0, 2] = 0.5, 3.0
    net = affine(w, [0, -8.5, -6.0], (4, 4, 1))  # at 0.5: logits 0, −4.5, −4.5
    x, y = np.full((1, 4, 4, 1), 0.5, np.float32), np.array([0])
    x, z = tf.constant(x), models.predict_logits(net, x)
    at = At(
        x,
        x,
        tf.constant(w[:, 1:].T.reshape(1, 2, 4, 4, 1), tf.float32),
        tf.constant(y),
        logits=tf.constant(z),
    )
    f, slope, distance = nearest_class(norms.get(norm), at)
    k = {"linf": 1, "l2": 2}[norm]
    assert slope.numpy().ravel() == pytest.approx(w[:, k])
    assert f.numpy()[0] == pytest.approx(-4.5)
    assert distance.numpy()[0] == pytest.approx(4.5 / np.linalg.norm(w[:, k], DUAL[norm]))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_step_is_its_equation(norm):
    """The overshoot stretches the sum of the steps, from x, and not the last of them alone."""
    rng = np.random.default_rng(0)
    x, z, total = (rng.uniform(0, 1, (3, 4, 4, 1)).astype(np.float32) * s for s in (1, 1, 0.1))
    gradient = rng.normal(size=(3, 5, 4, 4, 1)).astype(np.float32)
    logits, y = rng.normal(size=(3, 5)).astype(np.float32), np.array([0, 3, 4])
    rows = [[k for k in range(5) if k != label] for label in y]
    of_differences = np.stack([gradient[i, rows[i]] - gradient[i, y[i]] for i in range(3)])
    at = At(*map(tf.constant, (z, x, of_differences, y)), logits=tf.constant(logits))
    moved, summed = deepfool_step(norms.get(norm), at, 0.3, tf.constant(total))
    for i in range(3):
        f = logits[i] - logits[i, y[i]]
        w = (gradient[i] - gradient[i, y[i]]).reshape(5, -1)
        ratio = [np.inf if k == y[i] else abs(f[k]) / np.linalg.norm(w[k], DUAL[norm]) for k in range(5)]
        k = int(np.argmin(ratio))
        r = (ratio[k] + 1e-4) * (w[k] / np.linalg.norm(w[k]) if norm == "l2" else np.sign(w[k]))
        expected = total[i] + r.reshape(4, 4, 1)
        assert summed.numpy()[i] == pytest.approx(expected, abs=1e-5)
        assert moved.numpy()[i] == pytest.approx(np.clip(x[i] + 1.3 * expected, 0, 1), abs=1e-5)


@pytest.mark.parametrize("other", [1, 2])
def test_classes_without_a_gradient_are_no_candidates(other):
    """A class of constant difference is at distance 0/0, and so is a model that is constant: x comes back."""
    w, b = np.zeros((16, 3)), np.zeros(3)
    w[:, other], b[other] = 1, -9
    net = affine(w, b, (4, 4, 1))  # the third class always as class 0
    x = np.full((1, 4, 4, 1), 0.5, np.float32)
    x_adv = deepfool(net, x, np.array([0]))
    assert (x_adv - x).ravel() == pytest.approx(np.full(16, 1.02 / 16), rel=1e-3)
    constant = affine(np.zeros((16, 3)), [2, 1, -1], (4, 4, 1))
    assert (deepfool(constant, x, np.array([0]), steps=3) == x).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_scale_of_the_logits_is_no_matter(norm):
    net, x, y, _ = linear()
    loud, *_ = linear(scale=1024.0)
    assert (deepfool(net, x, y, norm=norm) == deepfool(loud, x, y, norm=norm)).all()


def test_broken_images_are_left_alone_and_few_steps_suffice(cnn):
    """DF2. The box takes from each step what would darken black pixels: without it two or three steps do."""
    net, x, y = cnn
    seen = []
    x_adv = deepfool(net, x, y, callback=seen.append)
    sizes = [len(t.index) for t in seen]
    assert all(len(b.index) == (~a.broken).sum() for a, b in pairwise(seen))
    assert (
        sum(sizes) / len(x) - 1 < 12
        and np.median([sum(i in t.index for t in seen) - 1 for i in range(40)]) <= 8
    )
    first = {i: t.x_adv[list(t.index).index(i)] for t in reversed(seen) for i in t.index[t.broken]}
    assert len(first) == 40 and all((x_adv[i] == point).all() for i, point in first.items())
    inside = 0.3 + 0.4 * x  # grey images, whose boundary is nearer than the box
    label = models.predict_logits(net, inside).argmax(axis=1)
    seen.clear()
    deepfool(net, inside, label, callback=seen.append)
    assert sum(len(t.index) for t in seen) / 40 - 1 <= 3.5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_is_nearer_than_fgsm_with_a_line_search(norm, cnn):
    """DF3, and M2: nearer than the closest image of another class, too."""
    net, x, y = cnn
    ball = norms.get(norm)
    size = ball.size(deepfool(net, x, y, norm=norm) - x).numpy()
    assert (size > 0).all()
    line = np.full(len(x), ball.largest(x.shape[1:]))
    grid = np.linspace(0, {"l2": 8, "linf": 0.5}[norm], 41)[1:]
    for eps in grid[::-1]:
        points = fgsm(net, x, y, eps=float(eps), norm=norm)
        wrong = models.predict_logits(net, points).argmax(axis=1) != y
        line = np.where(wrong, ball.size(points - x).numpy(), line)
    assert size.mean() < line.mean()
    for i in range(len(x)):
        other = x[y != y[i]]
        assert size[i] < ball.size(other - x[i]).numpy().min()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l1"}, "norm='l1': one of 'l2', 'linf'"),
        ({"steps": 1.5}, "steps="),
        ({"overshoot": -0.1}, "overshoot=-0.1"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises((ValueError, TypeError), match=words):
        deepfool(small_net, *images, **options)
