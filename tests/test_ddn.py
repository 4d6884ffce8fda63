"""DDN against its equation, the closed form of a linear model, and the figures expected of it."""

import numpy as np
import pytest

from advlib import models, norms
from advlib.attacks import ddn
from advlib.attacks._loop import At
from advlib.attacks.ddn import ddn_step
from tests.conftest import affine

L2 = norms.get("l2")


def median(model, x, y, x_adv):
    """The median L2 distance of the images the model gets right; +inf where x_adv does not fool it."""
    ok = models.predict_logits(model, x).argmax(axis=1) == y
    broken = models.predict_logits(model, x_adv).argmax(axis=1) != y
    return np.median(np.where(broken, L2.size(x_adv - x), np.inf)[ok]), broken[ok].mean()


@pytest.fixture(scope="module")
def linear():
    """Five classes in 64 grey pixels, far from the walls, and the exact distance of each image."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(64, 5))
    x = rng.uniform(0.4, 0.6, (20, 8, 8, 1)).astype(np.float32)
    net = affine(w, np.zeros(5), (8, 8, 1))
    z = models.predict_logits(net, x)
    y = z.argmax(axis=1)
    others = [[k for k in range(5) if k != label] for label in y]
    exact = [
        min((z[i, y[i]] - z[i, k]) / np.linalg.norm(w[:, k] - w[:, y[i]]) for k in ks)
        for i, ks in enumerate(others)
    ]
    return net, x, y, np.array(exact)


def test_reaches_the_distance_of_a_linear_model(linear):
    net, x, y, exact = linear
    assert L2.size(ddn(net, x, y, batch_size=20) - x).numpy() == pytest.approx(exact, rel=0.01)


def test_radius_grows_and_shrinks_by_gamma(linear):
    """DD1. Far from the walls, ‖δ‖ is the radius: 5 % smaller after an adversarial point, 5 % larger after another."""
    net, x, y, _ = linear
    seen = []
    ddn(net, x, y, steps=100, gamma=0.05, callback=seen.append, batch_size=20)
    assert len(seen) == 101 and [t.step for t in seen] == list(range(101))
    size = np.stack([L2.size(t.x_adv - x) for t in seen])
    broken = np.stack([t.broken for t in seen])
    inside = np.stack([((t.x_adv > 0) & (t.x_adv < 1)).all(axis=(1, 2, 3)) for t in seen])
    ratio = size[2:] / size[1:-1]
    free = inside[2:] & inside[1:-1]
    assert size[0].max() == 0 and size[1] == pytest.approx(np.full(20, 1.05), rel=1e-5)
    assert free.mean() > 0.7 and broken[1:].mean() > 0.2
    assert ratio[free] == pytest.approx(np.where(broken[1:-1], 0.95, 1.05)[free], rel=1e-4)


def test_one_step_is_its_equation():
    """Its order too: the radius follows what the model says before the step."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(0.3, 0.7, (2, 3, 4, 4, 2)).astype(np.float32)
    g = rng.normal(size=x.shape).astype(np.float32)
    eps = np.array([0.1, 0.2, 1e6], np.float32)
    broken = np.array([True, False, False])
    moved, radius, _ = ddn_step(L2, At(z, x, g, broken=broken), 0.5, 0.05, eps, np.ones(x.shape, np.int8))
    far = np.linalg.norm(np.maximum(x[2], 1 - x[2]))
    assert radius.numpy() == pytest.approx(np.array([0.095, 0.21, far]), rel=1e-5)
    u = z - x + 0.5 * g / np.linalg.norm(g.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    u *= (radius.numpy() / np.linalg.norm(u.reshape(3, -1), axis=1)).reshape(3, 1, 1, 1)
    assert moved.numpy() == pytest.approx(np.clip(x + u, 0, 1), abs=1e-5)


def test_all_of_a_checkpoint_and_more_steps_are_no_worse(mnist_test):
    """DD2; DD3 with three times the steps: at most 2 % are left to gain, and the longer run is not behind."""
    net, x, y = models.load("mnist-cnn"), *(part[:40] for part in mnist_test)
    short, success = median(net, x, y, ddn(net, x, y, steps=100, batch_size=20))
    long, always = median(net, x, y, ddn(net, x, y, steps=1000, batch_size=20))
    assert success == always == 1
    assert 0.95 * short <= long <= short


def test_grey_levels(mnist_test):
    """DD4."""
    net, x, y = models.load("mnist-cnn"), *(part[:20] for part in mnist_test)
    x_adv = ddn(net, x, y, steps=60, levels=256, batch_size=20)
    assert x_adv * 255 == pytest.approx(np.round(x_adv * 255), abs=1e-3)
    rounded, success = median(net, x, y, x_adv)
    free = ddn(net, x, y, steps=60, batch_size=20)
    assert success == 1 and rounded == pytest.approx(median(net, x, y, free)[0], rel=0.02)
    assert np.abs(free * 255 - np.round(free * 255)).max() > 0.3


def test_a_point_that_falls_back_leaves_no_grey_level(linear, monkeypatch):
    """Where the last forward pass takes an adversarial point back, it is given up and not moved off its levels."""
    from advlib.attacks import _loop

    net, x, y, _ = linear
    x = np.round(x * 255) / np.float32(255)
    true, calls = _loop.Oracle.logits, []

    def logits(self, points):
        calls.append(points)
        z = true(self, points)
        # asked of x, of the last points, and of those that were kept
        return np.eye(5, dtype=np.float32)[y] if len(calls) == 3 else z

    monkeypatch.setattr(_loop.Oracle, "logits", logits)
    x_adv = ddn(net, x, y, levels=256, batch_size=20)
    assert len(calls[2]) == 20 and (calls[2] != x).any(axis=(1, 2, 3)).all()
    assert (x_adv == np.round(x_adv * 255) / np.float32(255)).all()


def test_a_target_is_reached_and_farther(mnist_test):
    net, x, y = models.load("mnist-cnn"), *(part[:20] for part in mnist_test)
    t = (y + 1) % 10
    aimed = ddn(net, x, y, y_target=t, steps=60, batch_size=20)
    assert (models.predict_logits(net, aimed).argmax(axis=1) == t).all()
    assert (
        L2.size(aimed - x).numpy().mean()
        > 1.1 * L2.size(ddn(net, x, y, steps=60, batch_size=20) - x).numpy().mean()
    )


def test_where_the_gradient_is_zero_it_walks(images):
    """Logits so large that the cross-entropy's gradient rounds to 0 everywhere near x."""
    rng = np.random.default_rng(1)
    net = affine(1e4 * rng.normal(size=(784, 3)), np.zeros(3), (28, 28, 1))
    x = images[0][2:22]
    y = models.predict_logits(net, x).argmax(axis=1)
    seen = []
    x_adv = ddn(net, x, y, callback=seen.append, batch_size=20)
    assert min(t.loss.min() for t in seen[:1]) == 0
    assert (seen[1].x_adv != x).any(axis=(1, 2, 3)).all() and not np.isnan(seen[-1].x_adv).any()
    assert (models.predict_logits(net, x_adv).argmax(axis=1) != y).any()
    assert not (seen[1].x_adv[0] - x[0] == seen[1].x_adv[1] - x[1]).all()
    again = ddn(net, x, y, seed=1, batch_size=20)
    assert (ddn(net, x, y, batch_size=20) == x_adv).all() and (again != x_adv).any()


def test_a_step_without_gradient_is_as_long_as_one_with_it():
    """Random signs, half of them minus; of a model that is constant, from grey, where no wall is in the way."""
    net, x = affine(np.zeros((784, 2)), [2, 0], (28, 28, 1)), np.full((3, 28, 28, 1), 0.5, np.float32)
    seen = []
    ddn(net, x, np.zeros(3, int), steps=1, callback=seen.append)
    step = seen[1].x_adv - x
    assert np.abs(step) == pytest.approx(1.05 / 28, rel=1e-4)
    assert (step < 0).mean(axis=(1, 2, 3)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("word", "value"), [("gamma", 1.0), ("gamma", -0.1), ("levels", 1), ("steps", -1)])
def test_bad_arguments(word, value, small_net, images):
    with pytest.raises(ValueError, match=word):
        ddn(small_net, *images, **{word: value})


def test_the_step_falls_along_half_a_cosine():
    from advlib.attacks.ddn import cosine

    assert [cosine(1.0, 0.01, share) for share in (0, 1 / 3, 0.5, 1)] == pytest.approx(
        [1, 0.7525, 0.505, 0.01]
    )
