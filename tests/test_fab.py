"""FAB: its projections against general solvers, the closed form of a linear model, and what is expected of it on a checkpoint."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from advlib import losses, models, norms
from advlib._tensorflow import tf
from advlib.attacks import deepfool, fab
from advlib.attacks._loop import At
from advlib.attacks.fab import move, to_hyperplane
from tests.conftest import affine
from tests.test_deepfool import linear

NORMS = ("linf", "l2", "l1")


@pytest.fixture(scope="module")
def cnn(mnist_test):
    """A checkpoint and 30 images that it gets right."""
    net, (x, y) = models.load("mnist-cnn"), (part[:31] for part in mnist_test)
    ok = models.predict_logits(net, x).argmax(axis=1) == y
    return net, x[ok][:30], y[ok][:30]


def shortest(norm, t, w, c):
    """min ‖δ‖ with ⟨w, δ⟩ = c and t + δ in the box: by SLSQP in L2, as linear programs in L∞ (δ and a bound s on every |δ_i|)
    and L1 (δ = p − q, p, q ≥ 0)."""
    d, eye = len(t), np.eye(len(t))
    box = list(zip(-t, 1 - t, strict=True))
    if norm == "l2":
        on_plane = {"type": "eq", "fun": lambda v: w @ v - c, "jac": lambda v: w}
        start = 0.5 * np.where(w * c > 0, 1 - t, -t)
        found = minimize(
            lambda v: v @ v, start, jac=lambda v: 2 * v, bounds=box, constraints=[on_plane], tol=1e-10
        )
    elif norm == "linf":
        ones = -np.ones((d, 1))
        below = np.block([[eye, ones], [-eye, ones]])
        found = linprog([0] * d + [1], below, np.zeros(2 * d), [[*w, 0]], [c], [*box, (0, 1)])
    else:
        room = [(0, high) for _, high in box] + [(0, -low) for low, _ in box]
        found = linprog(np.ones(2 * d), A_eq=[[*w, *-w]], b_eq=[c], bounds=room)
    assert found.success, found.message
    return np.sqrt(found.fun) if norm == "l2" else found.fun


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_shortest_way(norm):
    """FA1: on the hyperplane, in the box, and as short as scipy's solvers make it; a third of the pixels are black."""
    rng = np.random.default_rng(0)
    n, d = 40, 5
    t = rng.uniform(0, 1, (n, d))
    t[rng.random((n, d)) < 0.3] = 0
    w = rng.normal(size=(n, d))
    most = np.where(w > 0, w * (1 - t), -w * t).sum(axis=1)
    least = np.where(w > 0, -w * t, w * (1 - t)).sum(axis=1)
    c = rng.uniform(0.1, 0.9, n) * np.where(np.arange(n) % 2, most, least)
    delta = project(norm, t, w, c)
    assert (delta * w).sum(axis=1) == pytest.approx(c, abs=1e-5)
    assert (t + delta).min() >= -1e-6 and (t + delta).max() <= 1 + 1e-6
    size = np.linalg.norm(delta, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
    assert size == pytest.approx(
        np.array([shortest(norm, *case) for case in zip(t, w, c, strict=True)]), abs=2e-5
    )


def project(norm, t, w, c):
    shape = (len(t), 1, t.shape[1], 1)
    t, w = (tf.constant(v.reshape(shape), tf.float32) for v in (t, w))
    return to_hyperplane(norms.get(norm), t, w, tf.constant(c, tf.float32)).numpy().reshape(len(c), -1)


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_it_ends_in_the_corner(norm):
    """FA1, unreachable: every pixel at the wall that is nearest to the hyperplane. Also: no way at all, and none needed."""
    rng = np.random.default_rng(1)
    t, w = rng.uniform(0, 1, (6, 5)), rng.normal(size=(6, 5))
    for sign in (1, -1):
        corner = np.where(sign * w > 0, 1 - t, -t)
        assert project(norm, t, w, np.full(6, sign * 100.0)) == pytest.approx(corner, abs=1e-6)
    assert (project(norm, t, 0 * w, np.ones(6)) == 0).all()
    assert (project(norm, t, w, np.zeros(6)) == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_projection_at_full_size(norm):
    """784 pixels, four fifths of them black, logits small and huge: exactly on the hyperplane where it can be reached."""
    rng = np.random.default_rng(2)
    t = np.where(rng.random((30, 784)) < 0.8, 0, rng.uniform(0, 1, (30, 784)))
    for scale in (1e-6, 1.0, 1e6):
        w = scale * rng.normal(size=(30, 784)) * rng.exponential(size=(30, 784))
        most = np.where(w > 0, w * (1 - t), -w * t).sum(axis=1)
        c = most * np.linspace(0.01, 0.99, 30)
        delta = project(norm, t, w, c).astype(np.float64)
        assert (delta * w).sum(axis=1) == pytest.approx(c, rel=1e-4)
        assert (t + delta).min() >= -1e-6 and (t + delta).max() <= 1 + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_the_step_is_its_equation(norm):
    rng = np.random.default_rng(3)
    x, z = (rng.uniform(0.3, 0.7, (4, 1, 6, 1)).astype(np.float32) for _ in range(2))
    z = x + 0.2 * (z - x)
    w, f = rng.normal(size=x.shape).astype(np.float32), np.float32([-0.3, -0.01, 0.2, 1e-4])
    moved = move(
        norms.get(norm), At(tf.constant(z), tf.constant(x), None), tf.constant(f), tf.constant(w), 0.1, 1.05
    )
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    alphas = []
    for i in range(4):
        here, origin, slope = (v[i].ravel().astype(np.float64)[None] for v in (z, x, w))
        d = project(norm, here, slope, np.array([-f[i]]))
        d_x = project(norm, origin, slope, np.array([-f[i] - (slope * (origin - here)).sum()]))
        a = np.linalg.norm(d[0], order)
        alphas.append(min(a / (a + np.linalg.norm(d_x[0], order)), 0.1))
        expected = (1 - alphas[-1]) * (here + 1.05 * d) + alphas[-1] * (origin + 1.05 * d_x)
        assert moved[0].numpy()[i].ravel() == pytest.approx(np.clip(expected, 0, 1)[0], abs=1e-5)
    assert min(alphas) < 0.1 == max(alphas)


@pytest.mark.parametrize("targets", [None, 9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_exact_distance_of_a_linear_model_in_three_steps(norm, targets):
    """FA2, M1."""
    net, x, y, exact = linear()
    size = norms.get(norm).size(fab(net, x, y, norm=norm, steps=3, targets=targets) - x).numpy()
    assert size == pytest.approx(exact(norm), rel=0.01)
    assert (size > exact(norm) * (1 - 1e-4)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_from_beyond_the_boundary_it_comes_back(norm):
    """The first step of a linear model ends at 1.05 of the distance, adversarial; the second begins at β of that."""
    net, x, y, exact = linear()
    for backward in (0.9, 0.5):
        seen = []
        fab(net, x, y, norm=norm, steps=2, backward=backward, callback=seen.append)
        size = norms.get(norm).size(seen[1].x_adv - x).numpy()
        assert size == pytest.approx(backward * 1.05 * exact(norm), rel=1e-3) and not seen[1].broken.any()


@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_logits_is_no_matter(norm, targets, images, small_net):
    """FA3: bit for bit, as 1024 is a power of two."""
    x = images[0][:20]

    @tf.function
    def loud(x):
        return 1024 * small_net(x, training=False)

    @tf.function
    def quiet(x):
        return small_net(x, training=False)

    y = models.predict_logits(small_net, x).argmax(axis=1)
    options = {"norm": norm, "targets": targets, "steps": 10, "restarts": 2}
    assert (fab(loud, x, y, **options) == fab(quiet, x, y, **options)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_nearer_with_more_work_than_deepfool_than_other_images(norm, cnn):
    """FA4, M2: the longer run contains the shorter, so that no image is farther; and 100 % are broken."""
    net, x, y = cnn
    ball = norms.get(norm)

    def sizes(**options):
        x_adv = fab(net, x, y, norm=norm, targets=3, **options)
        assert (models.predict_logits(net, x_adv).argmax(axis=1) != y).all()
        return ball.size(x_adv - x).numpy()

    first, longer = sizes(steps=5), sizes(steps=15)
    # the second, outward by 1e-6 where rounding calls for it
    assert (longer <= first * (1 + 1e-5)).all() and (longer < first).any()
    if norm != "l1":
        assert np.median(longer) < 0.95 * np.median(ball.size(deepfool(net, x, y, norm=norm) - x).numpy())
    assert all(longer[i] < ball.size(x[y != y[i]] - x[i]).numpy().min() for i in range(len(x)))


def test_restarts_only_help(mnist_test):
    """Best so far; and on a model without one nearest boundary in plain sight some are nearer."""
    x, y = mnist_test[0][:20], mnist_test[1][:20]
    net = models.load("mnist-cnn-pgd")
    once, again = (
        norms.get("linf").size(fab(net, x, y, steps=15, targets=2, restarts=r) - x).numpy() for r in (1, 2)
    )
    assert (again <= once * (1 + 1e-5)).all() and (again < once).any()


@pytest.mark.parametrize(("norm", "targets"), [("linf", 5), ("l2", None), ("l2", 5), ("l1", 5)])
def test_nothing_much_nearer_on_the_way_back(norm, targets, cnn):
    """M4: of the way from x to the result, the last 2 % apart, no tenth or so is adversarial already."""
    net, x, y = cnn
    x_adv = fab(net, x, y, norm=norm, steps=30, targets=targets)
    for share in (0.25, 0.5, 0.75, 0.9, 0.98):
        z = models.predict_logits(net, x + np.float32(share) * (x_adv - x))
        assert (z.argmax(axis=1) == y).mean() >= (0.9 if norm == "l1" else 0.95), share


def test_targeted_reaches_the_target_and_costs_more(cnn):
    net, x, y = cnn
    t = (y + 3) % 10
    hit = fab(net, x, y, norm="l2", steps=30, y_target=t)
    assert (models.predict_logits(net, hit).argmax(axis=1) == t).mean() >= 0.9
    far, near = (norms.get("l2").size(v - x).numpy() for v in (hit, fab(net, x, y, norm="l2", steps=30)))
    assert far.mean() > 1.2 * near.mean()


def test_one_gradient_a_step_instead_of_ten_and_what_is_told(small_net, images, monkeypatch):
    """FAB-T's whole point; every step is a gradient and a forward pass of each image."""
    from advlib.attacks import _loop

    x, y = images[0][:10], images[1][:10]
    oracles = []

    class Counted(_loop.Oracle):
        def __init__(self, *args):
            super().__init__(*args)
            oracles.append(self)

    monkeypatch.setattr(_loop, "Oracle", Counted)
    seen = []
    for options, backward, tries in (({}, 10 * 9 * 4, 1), ({"targets": 3, "restarts": 2}, 10 * 4 * 6, 6)):
        seen.clear()
        fab(small_net, x, y, steps=4, callback=seen.append, **options)
        assert oracles[-1].backwards == backward
        assert [(t.restart, t.step) for t in seen] == [(r, s) for r in range(tries) for s in range(4)]
        assert (
            seen[-1].queries == 1 + 2 * 4 * tries - 1
        ).all()  # x; the last step's forward pass is still to come


def test_tries_head_for_the_likeliest_classes(monkeypatch, small_net, images):
    from advlib.attacks import _loop

    x, y = images[0][:10], images[1][:10]
    aims = []
    monkeypatch.setattr(
        _loop.Group,
        "head_for",
        lambda self, aim, head=_loop.Group.head_for: (aims.append(aim), head(self, aim)),
    )
    fab(small_net, x, y, steps=0, targets=9)
    order = np.argsort(-models.predict_logits(small_net, x), axis=1)
    assert (np.stack(aims[1:], axis=1) == order[:, 1:]).all()


def test_restarts_begin_at_half_the_distance(small_net, images):
    """At most; and half of eps, where that is less."""
    x = np.clip(images[0][:20], 0.3, 0.7)
    y = models.predict_logits(small_net, x).argmax(axis=1)
    for norm in NORMS:
        best = norms.get(norm).size(fab(small_net, x, y, norm=norm, steps=5) - x).numpy()
        for eps, radius in ((None, best / 2), (0.01, np.minimum(best, 0.01) / 2)):
            seen = []
            fab(small_net, x, y, norm=norm, steps=5, restarts=2, eps=eps, callback=seen.append)
            start = next(t for t in seen if t.restart == 1 and t.step == 0)
            size = norms.get(norm).size(start.x_adv - x).numpy()
            assert (size <= radius * (1 + 1e-5)).all() and np.median(size / radius) > 0.95


def test_the_difference_is_of_two_logits_and_needs_a_class():
    z = np.array([[2.0, 5.0, 1.0]], np.float32)
    assert losses.difference(z, [1], [0]).numpy()[0] == -3
    with pytest.raises(ValueError, match=r"difference.*y_target.*for example"):
        losses.difference(z, [1], None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l0"}, "norm='l0': one of 'linf', 'l2', 'l1'"),
        ({"targets": 0}, "targets=0"),
        ({"targets": 3, "y_target": np.zeros(64, int)}, "targets=3 with y_target"),
        ({"restarts": 0}, "restarts=0"),
        ({"alpha_max": 2}, "alpha_max=2"),
        ({"overshoot": 0.9}, "overshoot=0.9"),
        ({"backward": 0}, "backward=0"),
        ({"eps": 8.0}, r"eps=8\.0: an L∞ budget"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises((ValueError, TypeError), match=words):
        fab(small_net, *images, **options)


def test_targets_are_as_many_as_the_other_classes_however_few_the_images(small_net, images):
    x, y = (part[:2] for part in images)
    assert fab(small_net, x, y, targets=9, steps=1).shape == x.shape
    with pytest.raises(ValueError, match="targets=10"):
        fab(small_net, *images, targets=10, steps=1)


def test_two_classes():
    net = affine(np.ones((16, 2)) * [0, 1], [0, -9], (4, 4, 1))
    x, y = np.full((2, 4, 4, 1), 0.5, np.float32), np.array([0, 0])
    for targets in (None, 1):
        assert np.abs(fab(net, x, y, targets=targets) - x) == pytest.approx(1 / 16, rel=0.01)
    with pytest.raises(ValueError, match=r"targets=9: a model of 2 classes has 1 wrong ones.*targets=1"):
        fab(net, x, y, targets=9)
