"""Universal perturbations: one v, fitted to a set and judged on another."""

import sys

import numpy as np
import pytest

from advlib import data, models, norms
from advlib._tensorflow import tf
from advlib.attacks import universal
from advlib.attacks.black_box import BlackBox, NoGradientError
from advlib.attacks.universal import fooling
from tests.conftest import affine

BUDGET = {"linf": 0.3, "l2": 4.0}
OPTIONS = {"deepfool": {"passes": 2}, "pgd": {"steps": 60}}


@pytest.fixture(scope="module")
def train():
    d = data.load("mnist")
    return data.subset(d.x_train, d.y_train, 100)


def noise(norm, shape, seed):
    signs = np.random.default_rng(seed).choice(np.float32([-1, 1]), shape)
    return BUDGET[norm] * signs / (1 if norm == "linf" else np.float32(np.sqrt(signs.size)))


@pytest.mark.parametrize(("method", "norm"), [("deepfool", "linf"), ("pgd", "linf"), ("pgd", "l2")])
def test_one_v_of_size_eps_beats_random_signs_on_images_it_has_not_seen(method, norm, train, mnist_test):
    x, y = mnist_test[0][:500], mnist_test[1][:500]
    net, eps = models.load("mnist-cnn"), BUDGET[norm]
    x_before = train[0].copy()
    n = {"deepfool": 60, "pgd": 100}[method]
    v = universal(net, train[0][:n], train[1][:n], eps=eps, norm=norm, method=method, **OPTIONS[method])
    assert v.shape == (28, 28, 1) and v.dtype == np.float32 and (train[0] == x_before).all()
    size = norms.get(norm).size(v[None]).numpy()[0]
    assert 0.99 * eps < size <= eps * (1 + 1e-6)
    by_chance = max(fooling(net, x, y, noise(norm, v.shape, seed)).fooled for seed in range(3))
    assert fooling(net, x, y, v).fooled > by_chance + {"deepfool": 0.1, "pgd": 0.4}[method]


def test_same_seed_same_v_and_another_seed_another(train):
    net = models.load("mnist-mlp")
    for method, options in {"deepfool": {"passes": 1}, "pgd": {"steps": 5}}.items():
        a, b, c = (
            universal(net, train[0][:20], train[1][:20], eps=0.2, method=method, seed=s, **options)
            for s in (0, 0, 1)
        )
        assert (a == b).all() and not (a == c).all()


def test_pgd_finds_the_direction_of_a_linear_model():
    """Class 0 everywhere: the best v is ε·sign(w₁ − w₀) in L∞ and along w₁ − w₀ in L2."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(64, 2))
    x = rng.uniform(0.4, 0.6, (30, 8, 8, 1)).astype(np.float32)
    net = affine(w, [0, 0], (8, 8, 1))
    z = models.predict_logits(net, x)
    net = affine(w, [float((z[:, 1] - z[:, 0]).max()) + 1, 0], (8, 8, 1))
    slope = (w[:, 1] - w[:, 0]).reshape(8, 8, 1)
    y = np.zeros(30, int)
    v = universal(net, x, y, eps=0.01, method="pgd", steps=60)
    assert np.abs(v - 0.01 * np.sign(slope)).max() < 1e-6
    v = universal(net, x, y, eps=0.1, norm="l2", method="pgd", steps=60)
    assert (v * slope).sum() / np.linalg.norm(slope) == pytest.approx(0.1, rel=0.01)


def test_steps_of_pgd_shrink_to_nothing_from_a_fifth_of_the_budget():
    """From a corner of the ball four steps go ε/5 · (1 + ¾ + ½ + ¼) = ε/2, where they are not there already."""
    w = np.random.default_rng(0).normal(size=(64, 2))
    net, x = affine(w, [0, 0], (8, 8, 1)), np.full((3, 8, 8, 1), 0.5, np.float32)
    y = models.predict_logits(net, x).argmax(axis=1)
    v = universal(net, x, y, eps=1e-3, method="pgd", steps=4).ravel()
    along = v / 1e-3 * np.sign(w[:, 1 - y[0]] - w[:, y[0]])
    assert sorted(set(along.round(3))) == [-0.5, 1.0] and 0.3 < (along > 0).mean() < 0.7


def test_deepfool_makes_all_its_passes_where_too_few_are_fooled(train, small_net, monkeypatch):
    module, calls = sys.modules["advlib.attacks.universal"], []
    deepfool = module.deepfool
    monkeypatch.setattr(module, "deepfool", lambda *a, **k: calls.append(1) or deepfool(*a, **k))
    x = train[0][:6]
    y = models.predict_logits(small_net, x).argmax(axis=1)
    universal(small_net, x, y, eps=1e-4, passes=3)
    assert len(calls) == 3 * 6


def test_fooling_looks_inside_the_box():
    net = affine(np.float32([[0, 10]]), [0, -12], (1, 1, 1))  # class 1 beyond 1.2
    x, v = np.full((1, 1, 1, 1), 0.9, np.float32), np.full((1, 1, 1), 0.5, np.float32)
    assert fooling(net, x, np.array([0]), v) == (0, 0, 0)


def test_an_image_that_is_lost_pulls_no_more():
    """One image falls to +0.03 in its pixel, three to +0.07 in another; ε is enough for both. The first pulls 15 times as
    hard: if it went on once it is lost, v would lie along its pixel alone."""

    @tf.function
    def net(x):
        first, second = tf.unstack(tf.reshape(x, (-1, 2)), axis=1)
        return tf.stack([300 * (0.53 - first), 20 * (0.57 - second), tf.zeros_like(first)], axis=1)

    x = np.float32([[0.5, 1], [1, 0.5], [1, 0.5], [1, 0.5]]).reshape(4, 1, 2, 1)
    y = np.array([0, 1, 1, 1])
    v = universal(net, x, y, eps=0.1, norm="l2", method="pgd", steps=60)
    assert fooling(net, x, y, v).fooled == 1


def test_fooling_counts_changes_and_error_counts_mistakes():
    """Two pixels, two classes: the brighter wins. v swaps them, and so turns a right answer wrong and a wrong one right."""
    net = affine(3 * np.eye(2), [0, 0], (1, 2, 1))
    x = np.float32([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [1.0, 0.0]]).reshape(4, 1, 2, 1)
    y = np.array([0, 1, 1, 0])
    v = np.float32([-0.3, 0.3]).reshape(1, 2, 1)
    assert fooling(net, x, y, v) == (0.5, 0.25, 0.25)
    assert fooling(net, x, y, np.zeros_like(v)) == (0, 0.25, 0.25)


def test_an_answer_of_nan_is_no_class():
    def partly(images):
        z = affine(3 * np.eye(2), [0, 0], (1, 2, 1))(images)
        return tf.where(images[:, :1, 0, 0] > 0.9, np.nan, z)

    x = np.float32([[0.6, 0.4], [0.4, 0.6], [0.95, 0.0], [0.8, 0.0]]).reshape(4, 1, 2, 1)
    y = np.array([0, 1, 0, 0])
    v = np.float32([0.15, 0]).reshape(1, 2, 1)
    assert fooling(partly, x, y, np.zeros_like(v)) == (0, 0.25, 0.25)
    assert fooling(partly, x, y, v) == (0.25, 0.5, 0.25)  # the last one becomes NaN, class 0 before
    assert not universal(partly, x[2:3], y[2:3], eps=0.1).any()  # nothing is right, nothing to fit


def test_nothing_to_do(train, small_net):
    x = train[0][:10]
    right = models.predict_logits(small_net, x).argmax(axis=1)
    assert not universal(small_net, x, right, eps=0.0).any()
    assert not universal(small_net, x, (right + 1) % 10, eps=0.1).any()  # the net gets none right
    assert not universal(small_net, x, right, eps=0.1, passes=0).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l1"}, "norm='l1'.*'linf'"),
        ({"eps": 8.0}, "eps=8"),
        ({"method": "uap"}, "method='uap'.*'deepfool'"),
        ({"steps": -1}, "steps=-1"),
        ({"passes": -1}, "passes=-1"),
        ({"enough": 1.5}, "enough=1.5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises(ValueError, match=words):
        universal(small_net, *images, **{"eps": 0.1, **options})


def test_bad_input_is_named(small_net, images):
    x, y = images
    with pytest.raises(ValueError, match=r"v has shape \(28, 28\).*\(28, 28, 1\).*expected, for example"):
        fooling(small_net, x, y, x[0, :, :, 0])
    for method in ("deepfool", "pgd"):
        with pytest.raises(NoGradientError):
            universal(BlackBox(small_net), x, y, eps=0.1, method=method)
