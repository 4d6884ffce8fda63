"""Norms: sizes by hand, projections against scipy, steepest directions against their duals, starts against their laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from advlib import norms
from advlib._tensorflow import tf

ALL = ["linf", "l2", "l1", "l0"]
BALLS = ["linf", "l2", "l1"]  # convex


def numbers(seed, shape, low, high):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def project(norm, z, x, eps):
    return norms.get(norm).project(z, x, eps).numpy()


def size(norm, delta):
    return norms.get(norm).size(delta).numpy()


def test_sizes_by_hand():
    delta = np.zeros((2, 2, 2, 2), np.float32)
    delta[0, 0, 0] = [3, -4]
    delta[1, :, :, 0] = 0.5
    delta[1, 0, 0, 0] = 5e-7  # below 1e-6: not a changed pixel
    assert size("linf", delta).tolist() == [4, 0.5]
    assert size("l2", delta) == pytest.approx([5, math.sqrt(0.75)])
    assert size("l1", delta) == pytest.approx([7, 1.5])
    assert size("l0", delta).tolist() == [1, 3]  # both channels of a pixel together


@pytest.mark.parametrize(("norm", "top"), [("linf", 1), ("l2", math.sqrt(48)), ("l1", 48), ("l0", 16)])
def test_largest_is_the_whole_box(norm, top):
    assert norms.get(norm).largest((4, 4, 3)) == pytest.approx(top)
    whole = np.ones((1, 4, 4, 3), np.float32)
    assert size(norm, whole)[0] == pytest.approx(top)


@settings(deadline=None, max_examples=60)
@given(norm=st.sampled_from(ALL), seed=st.integers(0, 10_000), eps=st.floats(0, 1), reach=st.floats(0.01, 3))
def test_projection_feasible_idempotent_and_identity_inside(norm, seed, eps, reach):
    x = numbers(seed, (5, 4, 3, 2), 0, 1)
    x[0], x[1] = 0, 1
    z = x + numbers(seed + 1, x.shape, -reach, reach)
    eps = eps * norms.get(norm).largest(x.shape[1:])
    p = project(norm, z, x, eps)
    assert p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
    assert (size(norm, p - x) <= eps + 1e-5 * max(1, eps)).all()
    assert project(norm, p, x, eps) == pytest.approx(p, abs=2e-6)
    inside = np.clip(z, 0, 1)
    inside = inside[size(norm, inside - x) < eps * 0.999]
    if len(inside):
        where = [i for i in range(len(x)) if size(norm, (np.clip(z, 0, 1) - x)[i : i + 1])[0] < eps * 0.999]
        assert project(norm, inside, x[where], eps) == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize("norm", BALLS)
def test_projection_is_the_nearest_point(norm):
    """⟨z − P(z), w − P(z)⟩ ≤ 0 for every feasible w: false for radial rescaling in L1, for clipping after the ball in L2."""
    rng = np.random.default_rng(0)
    x = numbers(1, (6, 5, 5, 1), 0, 1)
    z = x + numbers(2, x.shape, -2, 2)
    eps = 0.3 * norms.get(norm).largest((5, 5, 1)) / 3
    p = project(norm, z, x, eps)
    for _ in range(200):
        w = project(norm, x + rng.normal(0, rng.uniform(0.05, 2), x.shape).astype(np.float32), x, eps)
        assert ((z - p) * (w - p)).sum(axis=(1, 2, 3)).max() <= 1e-4


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_equals_scipy_in_six_dimensions(norm):
    rng = np.random.default_rng(4)
    for _ in range(20):
        x, z = rng.uniform(0, 1, 6), rng.uniform(-1.5, 2.5, 6)
        eps = rng.uniform(0.2, 1.2)
        if norm == "l2":
            ball = {"type": "ineq", "fun": lambda w, x=x, eps=eps: eps**2 - ((w - x) ** 2).sum()}
            best = minimize(
                lambda w, z=z: ((w - z) ** 2).sum(),
                x,
                method="SLSQP",
                bounds=[(0, 1)] * 6,
                constraints=ball,
                tol=1e-12,
            ).x
        else:  # |w − x| = up + down keeps it smooth
            ball = {"type": "ineq", "fun": lambda v, eps=eps: eps - v.sum()}
            bounds = [(0, 1 - a) for a in x] + [(0, a) for a in x]
            f = lambda v, x=x, z=z: ((x + v[:6] - v[6:] - z) ** 2).sum()  # noqa: E731
            v = minimize(f, np.zeros(12), method="SLSQP", bounds=bounds, constraints=ball, tol=1e-12).x
            best = x + v[:6] - v[6:]
        shaped = [a.astype(np.float32).reshape(1, 2, 3, 1) for a in (z, x)]
        assert project(norm, *shaped, eps).ravel() == pytest.approx(best, abs=2e-4)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_spends_the_whole_budget_where_it_binds(norm):
    """On MNIST-like images, half of a dense step is lost at the wall if the ball comes first."""
    x = numbers(0, (20, 28, 28, 1), 0, 1)
    x[x < 0.8] = 0
    z = x + numbers(1, x.shape, -1, 1)
    eps = 2.0
    assert size(norm, project(norm, z, x, eps) - x) == pytest.approx(np.full(20, eps), rel=1e-4)


def test_l0_projection_keeps_the_pixels_that_cost_most():
    x = np.full((1, 1, 5, 1), 0.5, np.float32)
    z = x + np.array([0.1, -0.4, 0.3, 9.0, 0.2], np.float32).reshape(x.shape)
    p = project("l0", z, x, 2)
    assert p.ravel().tolist() == pytest.approx([0.5, 0.1, 0.5, 1.0, 0.5])
    ties = project("l0", x + 0.25, x, 3)  # equal pixels must not all be let through
    assert size("l0", ties - x)[0] == 3
    assert (project("l0", z, x, 0.9) == x).all()
    # at the wall the first pixel gains little of what it asks: kept, (0.9 − 2)² = 1.21 is left of ‖z − p‖², else 1 + 0.25
    x, z = (np.array(v, np.float32).reshape(1, 1, 2, 1) for v in ([0.9, 0.5], [2.0, 1.0]))
    assert project("l0", z, x, 1).ravel().tolist() == pytest.approx([0.9, 1.0])


def test_an_l0_step_takes_the_pixel_with_most_to_gain_to_its_wall():
    """Of 100 pixels the first has the largest slope, 1, and may move by 0.05; the second gains 0.6 · 0.5 on its way to white."""
    ball, eps = norms.get("l0"), 1
    x, g = (np.full((1, 10, 10, 1), 0.5, np.float32) for _ in range(2))
    x[0, 0, 0], g[0, 0, :2, 0] = 0.95, [1, 0.6]
    moved = ball.project(x + ball.step(eps) * ball.steepest(g, x), x, eps).numpy() - x
    expected = np.zeros_like(x)
    expected[0, 0, 1] = 0.5
    assert moved == pytest.approx(expected)


@pytest.mark.parametrize("norm", ALL)
def test_each_image_by_itself_with_a_budget_of_its_own(norm):
    """A missing reshape broadcasts silently when the batch has the size of a side: 28 images of 28 × 28."""
    x = numbers(0, (28, 28, 28, 1), 0, 1)
    z = x + numbers(1, x.shape, -1, 1) * np.linspace(0.01, 2, 28, dtype=np.float32)[:, None, None, None]
    eps = np.linspace(0.02, 1, 28).astype(np.float32) * (20 if norm == "l0" else 1)
    together = project(norm, z, x, eps)
    alone = np.concatenate([project(norm, z[i : i + 1], x[i : i + 1], float(eps[i])) for i in range(28)])
    assert together == pytest.approx(alone, abs=1e-6)
    assert (project(norm, z, x, tf.constant(eps)) == together).all()
    assert size(norm, z - x) == pytest.approx([size(norm, (z - x)[i : i + 1])[0] for i in range(28)])
    g = norms.get(norm).steepest(z - x, x).numpy()
    one = np.concatenate(
        [norms.get(norm).steepest((z - x)[i : i + 1], x[i : i + 1]).numpy() for i in range(28)]
    )
    assert (g == one).all()


@pytest.mark.parametrize(
    ("norm", "dual"),
    [
        ("linf", lambda g: np.abs(g).sum(axis=1)),
        ("l2", lambda g: np.linalg.norm(g, axis=1)),
        (norms.L1(top=1e-9), lambda g: np.abs(g).max(axis=1)),
    ],
)
def test_steepest_reaches_the_dual_norm_and_no_point_beats_it(norm, dual):
    ball = norms.get(norm)
    g, x = numbers(0, (7, 6, 6, 1), -1, 1), np.full((7, 6, 6, 1), 0.5, np.float32)
    flat = g.reshape(7, -1)
    step = ball.steepest(g, x).numpy()
    assert ball.size(step).numpy() == pytest.approx(np.ones(7))
    assert (step.reshape(7, -1) * flat).sum(axis=1) == pytest.approx(dual(flat), rel=1e-5)
    rng = np.random.default_rng(1)
    points = np.stack([ball.sample(rng, (6, 6, 1), 1.0) for _ in range(1000)])
    assert (points.reshape(1000, -1) @ flat.T).max() < dual(flat).min()


def test_l1_steps_are_sparse_and_pass_over_pixels_at_the_wall():
    g = np.array([5.0, -4.0, 3.0, 2.0], np.float32).reshape(1, 2, 2, 1)
    z = np.array([1.0, 0.0, 0.5, 0.5], np.float32).reshape(g.shape)  # the first two cannot move that way
    step = norms.L1(top=0.5).steepest(g, z).numpy().ravel()
    assert step.tolist() == [0, 0, 0.5, 0.5]


def test_a_gradient_too_small_to_be_squared_has_a_direction_in_any_company():
    g = numbers(0, (3, 4, 4, 1), -1, 1) * np.float32([1, 1e-25, 1e-30]).reshape(3, 1, 1, 1)
    step = norms.get("l2").steepest(g, None).numpy()
    assert size("l2", step) == pytest.approx(np.ones(3)) and (np.sign(step) == np.sign(g)).all()
    for power in (
        -40,
        -70,
        -90,
    ):  # scaled by a power of two, before and after the scaling of small ones, no bit changes
        assert (norms.get("l2").steepest(g[:1] * np.float32(2.0**power), None).numpy() == step[:1]).all()


@pytest.mark.parametrize("norm", ALL)
def test_a_zero_gradient_is_no_step_and_no_nan(norm):
    zero = np.zeros((2, 3, 3, 1), np.float32)
    assert (norms.get(norm).steepest(zero, zero).numpy() == 0).all()
    assert (norms.get(norm).project(zero, zero, 0.0).numpy() == 0).all()


@pytest.mark.parametrize("norm", BALLS)
def test_starts_are_uniform_in_the_ball(norm):
    ball, rng, eps = norms.get(norm), np.random.default_rng(0), 0.7
    points = np.stack([ball.sample(rng, (3, 1, 1), eps) for _ in range(4000)])
    sizes = ball.size(points).numpy()
    assert (points > 0).mean() == pytest.approx(0.5, abs=0.02)  # on every side of x
    assert stats.kstest((sizes / eps) ** 3, "uniform").pvalue > 1e-3
    far = np.array([ball.size(ball.sample(rng, (28, 28, 1), eps)[None]).numpy()[0] for _ in range(300)]) / eps
    assert far.mean() == pytest.approx(784 / 785, abs=5e-4) and far.max() <= 1 + 1e-6


def test_l0_starts_change_the_budgeted_number_of_pixels():
    delta = norms.get("l0").sample(np.random.default_rng(0), (5, 5, 3), 7)
    assert size("l0", delta[None])[0] == 7 and np.abs(delta).max() <= 1


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("bad", [-0.1, 1e6, float("nan"), "0.3", None, True])
def test_bad_budgets_say_what_was_expected(norm, bad):
    with pytest.raises((ValueError, TypeError), match=r"eps.*for example"):
        norms.get(norm).check_eps(bad, (28, 28, 1))


@pytest.mark.parametrize("bad", ["L2", np.inf, 2, None])
def test_unknown_norm_lists_the_known(bad):
    with pytest.raises(ValueError, match="'linf', 'l2', 'l1', 'l0'"):
        norms.get(bad)


def test_a_norm_that_an_attack_does_not_know_lists_its_own():
    for norm in ("l1", norms.get("l1")):
        with pytest.raises(ValueError, match="one of 'l2', 'linf' was expected"):
            norms.get(norm, among=("l2", "linf"))
    assert norms.get("linf", among=("l2", "linf")).name == "linf"
