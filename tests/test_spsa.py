"""SPSA and NES: the estimate they share, against its closed form; queries counted; what the attacks reach."""

import sys

import numpy as np
import pytest

from advlib import models
from advlib._tensorflow import tf
from advlib.attacks import nes, pgd, spsa
from advlib.attacks._loop import Group, run
from advlib.attacks.black_box import BlackBox
from advlib.attacks.nes import gaussian
from advlib.attacks.spsa import adam, signs, slope
from tests.conftest import affine

BOTH = pytest.mark.parametrize("attack", [spsa, nes])
DRAWS = pytest.mark.parametrize("draw", [signs, gaussian])


def estimate(f, x, delta, samples, draw, seed=0):
    """ĝ of f (N, H, W, C) → (N,), by `slope` as an attack uses it: the margin of logits (0, f − 100) is f − 100."""
    out = []
    model = lambda x: tf.stack([tf.zeros(len(x)), f(x) - 100], axis=1)  # noqa: E731

    def attack(group):
        group.begin()
        out.append(slope(group, group.x, delta, samples, draw, group.streams("test")))

    run(
        attack,
        model,
        x,
        np.zeros(len(x), int),
        eps=0.1,
        norm="linf",
        loss="margin",
        gradient=False,
        seed=seed,
    )
    return out[0]


def linear(w):
    return lambda x: tf.reduce_sum(x * tf.constant(w, tf.float32), axis=(1, 2, 3))


# ---- the estimate


@DRAWS
def test_one_sample_of_a_linear_function_is_w_v_v(draw):
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(4, 5, 1)), rng.uniform(0.3, 0.7, (3, 4, 5, 1)).astype(np.float32)
    drawn = []

    def noted(stream, shape):
        drawn.append(draw(stream, shape)[0])
        return drawn[-1][None]

    g = estimate(linear(w), x, 0.05, 1, noted)
    assert len(drawn) == 3
    for got, v in zip(g, drawn, strict=True):
        assert got == pytest.approx((w * v).sum() * v, rel=2e-3, abs=2e-3)


@DRAWS
def test_unbiased_on_a_quadratic(draw):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 20)), 3 * rng.normal(size=20)
    q = (a + a.T) / 2

    def f(x):
        flat = tf.reshape(x, (-1, 20))
        return tf.reduce_sum(flat * (flat @ tf.constant(q, tf.float32) + b.astype(np.float32)), axis=1)

    x = rng.uniform(0.4, 0.6, (1, 4, 5, 1)).astype(np.float32)
    exact = (2 * q @ x.ravel() + b).ravel()
    g = estimate(f, x, 0.05, 20_000, draw).ravel()
    assert g @ exact / np.linalg.norm(g) / np.linalg.norm(exact) > 0.99
    assert g @ exact / (exact @ exact) == pytest.approx(1, abs=0.05)  # the length too


@DRAWS
def test_directions_are_each_images_own_and_new_at_each_call(draw):
    x = np.linspace(0.3, 0.7, 5 * 20, dtype=np.float32).reshape(5, 4, 5, 1)
    drawn = []

    def noted(stream, shape):
        drawn.append(draw(stream, shape))
        return drawn[-1]

    for seed in (0, 1):
        estimate(linear(np.ones((4, 5, 1))), x, 0.05, 3, noted, seed)
    assert len(np.unique(np.reshape(drawn, (10 * 3, -1)), axis=0)) == 30
    # Rademacher: ±1 and nothing else; Gaussian: unit variance
    assert np.mean(np.square(drawn)) == pytest.approx(1, abs=0.15) and abs(np.mean(drawn)) < 0.15
    assert draw is not signs or (np.abs(drawn) == 1).all()


def test_at_the_walls_the_estimate_is_half_and_no_point_leaves_the_box():
    w = np.linspace(-1, 1, 20).reshape(4, 5, 1)
    x = np.full((1, 4, 5, 1), 0.5, np.float32)
    x[0, :2], x[0, 2] = 0, 1
    seen = []

    def f(x):
        seen.append((float(tf.reduce_min(x)), float(tf.reduce_max(x))))
        return linear(w)(x)

    g = estimate(f, x, 0.05, 20_000, signs)[0]
    expected = np.concatenate([w[:3] / 2, w[3:]])
    assert g == pytest.approx(expected, abs=0.08)
    assert min(low for low, _ in seen) >= 0 and max(high for _, high in seen) <= 1


def test_adam_is_kerass():
    from advlib._tensorflow import keras

    rng = np.random.default_rng(0)
    weights = tf.Variable(np.zeros((2, 3)), dtype=tf.float64)
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-8)
    z, m, v = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    for t in range(1, 20):
        g = rng.normal(size=(2, 3))
        optimizer.apply_gradients([(tf.constant(-g), weights)])  # Keras goes down
        z += adam(g, m, v, t, 0.1)
    assert z == pytest.approx(weights.numpy(), rel=1e-5)


# ---- the attacks


@BOTH
def test_queries(attack):
    """One for the image as it is, one for the start; 2n and one for each step."""
    constant = lambda x: tf.tile(tf.constant([[5.0, 0.0]]), (len(x), 1))  # noqa: E731
    x = np.full((3, 8, 8, 1), 0.5, np.float32)
    x[1] = 0.4
    box, seen = BlackBox(constant), []
    attack(box, x, np.zeros(3, int), eps=0.1, steps=4, samples=7, callback=seen.append)
    assert [t.step for t in seen] == [0, 1, 2, 3, 4]
    assert [t.queries.tolist() for t in seen] == [[2 + 15 * t] * 3 for t in range(5)]
    assert box.queries == 3 * (2 + 15 * 4)


@BOTH
def test_points_asked_at_once_are_few(attack, monkeypatch):
    """What fits into memory does not depend on how many images there are, nor the result on what is asked together."""
    x = np.random.default_rng(0).uniform(0.3, 0.7, (9, 28, 28, 1)).astype(np.float32)
    net = affine(np.random.default_rng(1).normal(size=(784, 2)), np.zeros(2), (28, 28, 1))
    y, asked, found = models.predict_logits(net, x).argmax(axis=1), [], []
    query = Group.query
    monkeypatch.setattr(
        Group,
        "query",
        lambda g, points, *a, **k: asked.append(len(points)) or query(g, points, *a, **k),
    )
    for most, at_once in ((2048, 9), (80, 4), (1, 1)):
        monkeypatch.setattr(sys.modules["advlib.attacks.spsa"], "PROBES", most)
        asked.clear()
        found.append(attack(net, x, y, eps=0.01, steps=2, samples=10))
        assert max(asked) == at_once * 20
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_nes_takes_by_default_two_and_a_half_times_the_way(small_net, images):
    x, y = (part[:10] for part in images)
    options = {"eps": 0.02, "steps": 8, "samples": 5}
    by_default = nes(small_net, x, y, **options)
    assert (by_default == nes(small_net, x, y, step_size=2.5 * 0.02 / 8, **options)).all()
    assert (by_default != nes(small_net, x, y, step_size=0.02 / 8, **options)).any()


@BOTH
def test_a_broken_image_is_asked_about_no_more(attack, small_net, images):
    x, y = images
    box, seen = BlackBox(small_net), []
    x_adv = attack(box, x, y, eps=0.02, steps=15, samples=10, callback=seen.append)
    spent = np.ones(len(x), int)
    gone = set()
    for trace in seen:
        assert not gone & set(trace.index)
        gone |= set(trace.index[trace.broken])
        spent[trace.index] = trace.queries
    assert box.queries == spent.sum() and len(np.unique(spent)) > 4
    wrong = models.predict_logits(small_net, x_adv).argmax(axis=1) != y
    right = models.predict_logits(small_net, x).argmax(axis=1) == y
    assert gone == set(np.flatnonzero(wrong & right))


@BOTH
def test_the_loss_rises_and_a_linear_model_gives_nearly_all(attack):
    rng = np.random.default_rng(5)
    w = rng.normal(size=(64, 1))
    x = rng.uniform(0.3, 0.7, (10, 8, 8, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((64, 1)), w], axis=1), [100, 0], (8, 8, 1))  # never broken
    seen = []
    options = {"steps": 40, "samples": 100, "callback": seen.append}
    x_adv = attack(net, x, np.zeros(10, int), eps=0.05, **options)
    assert (seen[1].loss > seen[0].loss).all() and (seen[-1].loss > seen[1].loss).all()
    gain = ((x_adv - x).reshape(10, -1) @ w).ravel()
    assert (gain > 0.95 * 0.05 * np.abs(w).sum()).all()
    assert np.abs(x_adv - x).max() <= 0.05 + 1e-6


def test_nes_in_l2():
    rng = np.random.default_rng(5)
    w = rng.normal(size=(64, 1))
    x = rng.uniform(0.3, 0.7, (10, 8, 8, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((64, 1)), w], axis=1), [100, 0], (8, 8, 1))
    x_adv = nes(net, x, np.zeros(10, int), eps=0.3, norm="l2", steps=40, samples=100)
    gain = ((x_adv - x).reshape(10, -1) @ w).ravel()
    assert (gain > 0.9 * 0.3 * np.linalg.norm(w)).all()


def test_nes_without_momentum_and_with_many_samples_is_pgd():
    """One step along the sign of a slope known well is FGSM's, but for pixels of no slope."""
    rng = np.random.default_rng(6)
    w = rng.choice([-1.0, 1.0], size=(20, 1)) * rng.uniform(0.5, 1, size=(20, 1))
    x = rng.uniform(0.3, 0.7, (5, 4, 5, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((20, 1)), w], axis=1), [100, 0], (4, 5, 1))
    options = {"eps": 0.05, "steps": 1, "step_size": 0.05}
    once = nes(net, x, np.zeros(5, int), samples=2000, decay=0, **options)
    assert once == pytest.approx(pgd(net, x, np.zeros(5, int), loss="margin", random_start=False, **options))


def test_nes_goes_on_where_the_slope_has_turned_by_less_than_it_was():
    """Uphill to 0.51, then down a third as steeply, in steps of 0.02: with momentum on, without it back."""

    def tent(x):
        beyond = tf.reduce_sum(x, axis=(1, 2, 3)) - 0.51
        return tf.stack([tf.ones_like(beyond), tf.minimum(beyond, -0.3 * beyond)], axis=1)

    x = np.float32([0.499, 0.5, 0.501]).reshape(3, 1, 1, 1)
    options = {"eps": 0.1, "steps": 2, "step_size": 0.02, "sigma": 0.001}
    for decay, end in ((0.0, 0.0), (0.9, 0.04)):
        seen = []
        nes(tent, x, np.zeros(3, int), decay=decay, callback=seen.append, **options)
        moved = np.stack([t.x_adv - x for t in seen]).reshape(3, 3)
        assert moved == pytest.approx(np.array([[0.0] * 3, [0.02] * 3, [end] * 3]), abs=1e-5)


@BOTH
def test_targets(attack, mnist_test):
    x, y = mnist_test[0][:10], mnist_test[1][:10]
    net, t = models.load("mnist-mlp"), (mnist_test[1][:10] + 1) % 10
    x_adv = attack(net, x, y, eps=0.3, steps=60, samples=30, y_target=t)
    assert (models.predict_logits(net, x_adv).argmax(axis=1) == t).mean() >= 0.7


@pytest.mark.parametrize(
    ("attack", "options", "words"),
    [
        (spsa, {"steps": -1}, "steps=-1"),
        (spsa, {"samples": 0}, "samples=0"),
        (spsa, {"delta": 0}, "delta=0"),
        (spsa, {"learning_rate": -1}, "learning_rate=-1"),
        (nes, {"norm": "l1"}, "norm='l1'.*'linf', 'l2'"),
        (nes, {"steps": 1.5}, "steps=.*whole number"),
        (nes, {"samples": 0}, "samples=0"),
        (nes, {"sigma": 0}, "sigma=0"),
        (nes, {"decay": 1.1}, "decay=1.1"),
        (nes, {"step_size": -1}, "step_size=-1"),
    ],
)
def test_bad_options_are_named(attack, options, words, small_net, images):
    with pytest.raises((ValueError, TypeError), match=words):
        attack(small_net, *images, eps=0.1, **options)
