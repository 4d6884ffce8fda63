"""FMN in its four norms against its equation, the closed form of a linear model in L0, and the figures expected of it."""

import sys

import numpy as np
import pytest

from advlib import models, norms
from advlib.attacks import ddn, fmn
from advlib.attacks._loop import At
from advlib.attacks.fmn import fmn_step
from tests.conftest import affine

NORMS = ("l2", "linf", "l1", "l0")
DUAL = {"l2": 2, "linf": 1, "l1": np.inf}


@pytest.fixture(scope="module")
def cnn(mnist_test):
    """A checkpoint and 20 images that it gets right."""
    net, (x, y) = models.load("mnist-cnn"), (part[:21] for part in mnist_test)
    ok = models.predict_logits(net, x).argmax(axis=1) == y
    return net, x[ok][:20], y[ok][:20]


def fooled(model, x_adv, y):
    return models.predict_logits(model, x_adv).argmax(axis=1) != y


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_radius_is_its_equation(norm):
    """Adversarial; not, but one was found before; never found. The third is the distance of a linear model's boundary."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.4, 0.6, (4, 4, 4, 1)).astype(np.float32)
    z = x + rng.uniform(-0.02, 0.02, x.shape).astype(np.float32)
    g = rng.normal(size=x.shape).astype(np.float32)
    loss = np.float32([0.2, -0.2, -0.2, -1e9])
    order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    size = np.linalg.norm((z - x).reshape(4, -1), order, axis=1)
    best, eps = np.float32([np.inf, 5, np.inf, np.inf]), np.float32([9, 0.3, np.inf, np.inf])
    at = At(z, x, g, loss=loss, broken=loss > 0)
    moved, radius, found, _ = fmn_step(norms.get(norm), at, 0.5, 0.1, eps, best, np.ones(x.shape, np.int8))
    slope = np.linalg.norm(g[2].ravel(), DUAL[norm])
    far = np.linalg.norm(np.maximum(x[3], 1 - x[3]).ravel(), order)
    assert radius.numpy() == pytest.approx(np.array([size[0], 0.33, size[2] + 0.2 / slope, far]), rel=2e-4)
    assert found.numpy() == pytest.approx(np.array([size[0], 5, np.inf, np.inf]), rel=1e-5)
    step = z + 0.5 * g / np.linalg.norm(g.reshape(4, -1), axis=1).reshape(4, 1, 1, 1)
    expected = norms.get(norm).project(step, x, radius).numpy()
    assert moved.numpy() == pytest.approx(expected, abs=1e-6)


def test_steps_fall_to_a_hundredth_along_half_a_cosine():
    """Far from any boundary nothing else bounds them."""
    net = affine(np.stack([np.zeros(64), np.ones(64)], axis=1), [1000, 0], (8, 8, 1))
    x, seen = np.full((2, 8, 8, 1), 0.3, np.float32), []
    fmn(net, x, np.zeros(2, int), steps=10, step_size=0.2, callback=seen.append)
    length = np.linalg.norm(np.diff([t.x_adv[0].ravel() for t in seen], axis=0), axis=1)
    assert length[0] == pytest.approx(0.2, rel=1e-3)
    assert length[5] == pytest.approx((0.2 + 0.002) / 2, rel=1e-3)
    assert (np.diff(length) < 0).all() and length[9] < 0.01


def test_it_never_rescales_outward():
    """A step that ends inside the ball stays there."""
    x = np.full((1, 4, 4, 1), 0.5, np.float32)
    at = At(x.copy(), x, np.ones_like(x), loss=np.float32([-1]), broken=np.array([False]))
    state = np.float32([3.0]), np.float32([4.0]), np.ones(x.shape, np.int8)
    for norm in ("l2", "linf", "l1"):
        moved = fmn_step(norms.get(norm), at, 0.1, 0.05, *state)[0]
        assert moved.numpy() == pytest.approx(x + 0.1 / 4, abs=1e-6)


def test_l0_radius_moves_by_pixels():
    x = np.full((5, 8, 8, 1), 0.5, np.float32)
    z = x.copy()
    z[:, 0, :5] = 1
    loss = np.float32([1, 1, -1, -1, -1])
    eps, best = np.float32([30, 1, 30, 64, 3]), np.float32([9, 9, 9, 9, 9])
    g = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    at = At(z, x, g, loss=loss, broken=loss > 0)
    moved, radius, found, _ = fmn_step(norms.get("l0"), at, 0.5, 0.1, eps, best, np.ones(x.shape, np.int8))
    assert radius.numpy().tolist() == [5, 1, 33, 64, 4] and found.numpy().tolist() == [5, 5, 9, 9, 9]
    assert (moved.numpy() != x).sum(axis=(1, 2, 3)).tolist() == [5, 1, 33, 64, 4]  # exactly ⌊ε⌋ pixels
    z[:] = 1
    at = At(z, x, g, loss=loss, broken=loss > 0)
    far = fmn_step(norms.get("l0"), at, 0.5, 0.1, eps, np.full(5, 99, np.float32), np.ones(x.shape, np.int8))
    assert far[1].numpy()[:2].tolist() == [27, 1]  # a tenth less, where a smaller point was never found


def test_l0_of_a_linear_model():
    """The fewest pixels: those that can gain most, one after the other, until the gap is closed."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(64, 2))
    x = rng.uniform(0.4, 0.6, (20, 8, 8, 1)).astype(np.float32)
    net = affine(w, np.zeros(2), (8, 8, 1))
    z = models.predict_logits(net, x)
    y = z.argmax(axis=1)
    slope = (w[:, 1] - w[:, 0]) * np.where(y == 0, 1, -1)[:, None]
    flat = x.reshape(20, -1)
    gain = np.sort(np.maximum(slope * (1 - flat), -slope * flat), axis=1)[:, ::-1].cumsum(axis=1)
    fewest = 1 + (gain <= np.abs(z[:, :1] - z[:, 1:])).sum(axis=1)
    x_adv = fmn(net, x, y, norm="l0", step_size=10.0, batch_size=20)
    assert fooled(net, x_adv, y).all()
    found = norms.get("l0").size(x_adv - x).numpy()
    assert (found >= fewest).all() and (found == fewest).mean() >= 0.9


@pytest.mark.parametrize("norm", NORMS)
def test_all_of_a_checkpoint_and_near_the_boundary(norm, cnn):
    """FM2, FM4: nearer than the nearest image of another class; halfway back is no longer adversarial."""
    net, x, y = cnn
    ball = norms.get(norm)
    x_adv = fmn(net, x, y, norm=norm, batch_size=20)
    assert fooled(net, x_adv, y).all()
    size = ball.size(x_adv - x).numpy()
    other = np.array([[float(ball.size(b[None] - a[None])[0]) for b in x] for a in x])
    assert (size < np.where(y[:, None] == y, np.inf, other).min(axis=1)).all()
    if norm != "l0":
        assert fooled(net, x + np.float32(0.97) * (x_adv - x), y).mean() <= 0.1


def test_l2_median_is_that_of_ddn(cnn):
    net, x, y = cnn
    here, there = (
        norms.get("l2").size(a(net, x, y, steps=200, batch_size=20) - x).numpy() for a in (fmn, ddn)
    )
    assert np.median(here) == pytest.approx(np.median(there), rel=0.05)


@pytest.mark.parametrize("norm", NORMS)
def test_a_warm_start_succeeds_whatever_the_steps(norm, cnn):
    """From an image of another class, without a single gradient; then with some, nearer."""
    net, x, y = cnn
    other = np.array([np.flatnonzero(y != label)[0] for label in y])
    none = fmn(net, x, y, norm=norm, steps=0, start=x[other], batch_size=20)
    assert fooled(net, none, y).all()
    size = norms.get(norm).size
    assert (size(none - x).numpy() < size(x[other] - x).numpy()).all()
    some = fmn(net, x, y, norm=norm, steps=5, start=x[other], batch_size=20)
    assert (size(some - x).numpy() <= size(none - x).numpy()).all()
    assert size(some - x).numpy().mean() < 0.95 * size(none - x).numpy().mean()
    for i in (0, 11):
        alone = fmn(
            net, x[i : i + 1], y[i : i + 1], norm=norm, steps=5, start=x[other][i : i + 1], batch_size=20
        )
        assert (alone == some[i]).all()


def test_gamma_falls_to_a_thousandth_as_the_step_does(monkeypatch, small_net, images):
    module, seen = sys.modules["advlib.attacks.fmn"], []
    cosine = module.cosine
    monkeypatch.setattr(module, "cosine", lambda *a: seen.append(a) or cosine(*a))
    fmn(small_net, *images, steps=4)
    fmn(small_net, *images, steps=1, gamma=0.0005, step_size=2.0)
    steps = [((1.0, 0.01, k / 4), (0.05, 0.001, k / 4)) for k in range(4)] + [
        ((2.0, 0.02, 0.0), (0.0005, 0.0005, 0.0))
    ]
    assert np.array(seen) == pytest.approx(np.array(sum(steps, ())))


def test_the_first_radius_after_a_start_is_its_distance():
    """Not 5 % less: the point was adversarial, at that very size."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(64, 2)), rng.uniform(0.45, 0.55, (1, 8, 8, 1)).astype(np.float32)
    way = w[:, 1] - w[:, 0]
    net = affine(w, [0, -way @ x.ravel() - 1.5 * np.linalg.norm(way)], (8, 8, 1))  # the boundary is at 1.5
    start = (x + 0.3 * np.sign(way).reshape(8, 8, 1)).astype(np.float32)
    seen = []
    fmn(net, x, np.array([0]), steps=1, start=start, callback=seen.append)
    first, after = (norms.get("l2").size(t.x_adv - x).numpy() for t in seen[-2:])
    assert first > 1.4 and after == pytest.approx(first, rel=1e-3)


def test_a_start_that_is_not_adversarial_is_ignored(cnn):
    net, x, y = cnn
    assert (
        fmn(net, x, y, steps=10, start=x.copy(), batch_size=20) == fmn(net, x, y, steps=10, batch_size=20)
    ).all()


def test_a_target_is_reached_and_farther(cnn):
    net, x, y = cnn
    t = (y + 1) % 10
    size = norms.get("linf").size
    aimed = fmn(net, x, y, norm="linf", y_target=t, batch_size=20)
    assert (models.predict_logits(net, aimed).argmax(axis=1) == t).all()
    assert (
        size(aimed - x).numpy().mean()
        > 1.1 * size(fmn(net, x, y, norm="linf", batch_size=20) - x).numpy().mean()
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_model_without_gradient_gives_no_nan(norm, images):
    flat = affine(np.zeros((784, 3)), [2, 0, 0], (28, 28, 1))
    x, y = images[0], np.zeros(64, int)
    seen = []
    assert (fmn(flat, x, y, norm=norm, steps=5, callback=seen.append) == x).all()
    assert not any(np.isnan(t.x_adv).any() for t in seen) and (seen[-1].x_adv != x).any()


def test_a_step_without_gradient_is_as_long_as_one_with_it():
    """Random signs, half of them minus; of a model that is constant, from grey, where no wall is in the way."""
    net, x = affine(np.zeros((784, 2)), [2, 0], (28, 28, 1)), np.full((3, 28, 28, 1), 0.5, np.float32)
    seen = []
    fmn(net, x, np.zeros(3, int), steps=1, step_size=0.7, callback=seen.append)
    step = seen[1].x_adv - x
    assert np.abs(step) == pytest.approx(0.7 / 28, rel=1e-4)
    assert (step < 0).mean(axis=(1, 2, 3)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("norm", "l3"),
        ("gamma", 1.0),
        ("step_size", -1.0),
        ("steps", -1),
        ("start", np.zeros((2, 28, 28, 1), "float32")),
    ],
)
def test_bad_arguments(word, value, small_net, images):
    with pytest.raises(ValueError, match=word):
        fmn(small_net, *images, **{word: value})
