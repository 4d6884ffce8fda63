"""Every attack of one list against the rules its capabilities call for; each attack's own equations; the loop they share."""

import inspect
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

import advlib
from advlib import losses, models, norms
from advlib._tensorflow import keras, tf
from advlib.attacks import (
    _loop,
    apgd,
    bim,
    boundary,
    carlini_wagner,
    ddn,
    deepfool,
    fab,
    fgsm,
    fmn,
    hop_skip_jump,
    mi_fgsm,
    nes,
    pgd,
    spsa,
    square,
)
from advlib.exhibits import noisy
from advlib.noise import best_of
from advlib.robustness import tolerance
from advlib.testing import check_attack, toy
from tests.conftest import affine


@dataclass(frozen=True)
class Attack:
    """What an attack declares of itself; a test runs on those that have what it needs."""

    call: object
    norms: tuple = ("linf", "l2", "l1", "l0")
    gradient: bool = True
    targeted: bool = True  # takes y_target
    minimal: bool = False  # the smallest perturbation, without a budget
    iterative: bool = True  # follows `keep`, `early_stop` and `step_size`
    reaches: tuple = ()  # norms in which it finds the optimum (or the distance) of a linear model, to 1 %
    grows: bool = True  # strong enough to break more at a larger budget, and all at half the range
    options: tuple = ()  # so that a test takes seconds: (("steps", 20),)

    @property
    def name(self):
        return self.call.__name__


ATTACKS = [
    Attack(fgsm, iterative=False, reaches=("linf", "l2")),
    Attack(bim, reaches=("linf", "l2", "l0")),
    Attack(pgd, reaches=("linf", "l2", "l0")),
    Attack(mi_fgsm, reaches=("linf", "l2", "l0")),
    Attack(
        apgd,
        norms=("linf", "l2", "l1"),
        iterative=False,
        reaches=("linf",),  # in L2 and L1 it needs more steps than one, and stops once an image is broken
        options=(("steps", 20),),
    ),
    Attack(
        best_of,
        norms=("linf",),
        gradient=False,
        targeted=False,
        iterative=False,
        grows=False,
        options=(("draws", 20),),
    ),
    Attack(
        carlini_wagner,
        norms=("l2",),
        minimal=True,
        iterative=False,
        options=(("searches", 2), ("steps", 20), ("learning_rate", 0.05), ("initial_const", 1.0)),
    ),
    Attack(
        deepfool, norms=("l2", "linf"), targeted=False, minimal=True, iterative=False, reaches=("l2", "linf")
    ),
    Attack(
        fab,
        norms=("linf", "l2", "l1"),
        minimal=True,
        iterative=False,
        reaches=("linf", "l2", "l1"),
        options=(("steps", 20),),
    ),
    Attack(ddn, norms=("l2",), minimal=True, iterative=False, options=(("steps", 30),)),
    Attack(
        fmn,
        norms=("l2", "linf", "l1", "l0"),
        minimal=True,
        iterative=False,
        reaches=("l2", "linf", "l1"),
        options=(("steps", 30),),
    ),
    Attack(
        spsa,
        norms=("linf",),
        gradient=False,
        iterative=False,
        grows=False,
        options=(("steps", 5), ("samples", 10)),
    ),
    Attack(
        nes,
        norms=("linf", "l2"),
        gradient=False,
        iterative=False,
        grows=False,
        options=(("steps", 5), ("samples", 10)),
    ),
    Attack(square, norms=("linf", "l2", "l1"), gradient=False, iterative=False, options=(("steps", 30),)),
    Attack(boundary, norms=("l2",), gradient=False, minimal=True, iterative=False, options=(("steps", 31),)),
    Attack(
        hop_skip_jump,
        norms=("l2", "linf"),
        gradient=False,
        minimal=True,
        iterative=False,
        options=(("steps", 2), ("initial_evals", 20)),
    ),
]
EPS = {"linf": 0.1, "l2": 1.5, "l1": 10.0, "l0": 8.0}
CASES = [pytest.param(a, norm, id=f"{a.name}-{norm}") for a in ATTACKS for norm in a.norms]
BUDGET = [pytest.param(a, norm, id=f"{a.name}-{norm}") for a in ATTACKS if not a.minimal for norm in a.norms]
MINIMAL = [pytest.param(a, norm, id=f"{a.name}-{norm}") for a in ATTACKS if a.minimal for norm in a.norms]


def attack(a, model, x, y, norm=None, **options):
    """The attack in `norm`, with the list's options; a budget where it takes one."""
    norm = norm or a.norms[0]
    options = {"batch_size": 48, **dict(a.options), **options}  # faster for few images
    if a.minimal:
        options.pop("eps", None)
    else:
        options.setdefault("eps", EPS[norm])
    if "norm" in inspect.signature(a.call).parameters:
        options["norm"] = norm
    return a.call(model, x, y, **options)


def right(model, x, y):
    # in batches of the attack's size: a point on the boundary may fall to the other side in another one
    return models.predict_logits(model, x, 48).argmax(axis=1) == y


# ---- rules for all


@pytest.mark.parametrize(("a", "norm"), BUDGET)
def test_check_attack(a, norm):
    options = {"draws": 60} if a.name == "best_of" else dict(a.options)
    check_attack(a.call, eps=0.2 * EPS[norm], norm=norm, **options)


@pytest.mark.parametrize(("a", "norm"), BUDGET)
@pytest.mark.parametrize("share", [0, 0.003, 1, "box"])
def test_inside_ball_and_box(a, norm, share, small_net, images):
    """All-black and all-white images are among these, and a budget of the whole box."""
    x, y = images
    eps = norms.get(norm).largest(x.shape[1:]) if share == "box" else share * EPS[norm]
    x_adv = attack(a, small_net, x, y, norm, eps=eps)
    assert x_adv.dtype == np.float32 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert norms.get(norm).size(x_adv - x).numpy().max() <= eps + tolerance(norm, eps)
    if eps == 0:
        assert (x_adv == x).all()
    if share == "box":  # in L∞ that is 1
        assert (x_adv != x).any()


@pytest.mark.parametrize(
    ("a", "norm"),
    [(a, n) for a in ATTACKS if not a.minimal for n in a.reaches],
    ids=lambda v: getattr(v, "name", v),
)
def test_spends_the_budget(a, norm, small_net, images):
    """A budget that no result comes near would pass every bound. With steps of ε, the last point is on the surface."""
    x = 0.3 + 0.4 * images[0]  # the box binds nowhere
    y = models.predict_logits(small_net, x).argmax(axis=1)
    options = {"early_stop": False, "keep": "last"} if a.iterative else {}
    if a.iterative and norm != "l0":
        options["step_size"] = EPS[norm]
    size = norms.get(norm).size(attack(a, small_net, x, y, norm, **options) - x).numpy()
    assert size == pytest.approx(np.full(len(size), EPS[norm]), rel=1e-3)


@pytest.mark.parametrize(("a", "norm"), CASES)
def test_same_bits_in_any_company(a, norm, small_net, images):
    x, y = images
    whole = attack(a, small_net, x, y, norm)
    assert (attack(a, small_net, x, y, norm) == whole).all()
    assert (attack(a, small_net, x[::-1].copy(), y[::-1].copy(), norm)[::-1] == whole).all()
    sevens = [attack(a, small_net, x[i : i + 7], y[i : i + 7], norm) for i in range(0, len(x), 7)]
    assert (np.concatenate(sevens) == whole).all()
    some = [0, 1, 17, 28, 63]
    alone = np.concatenate([attack(a, small_net, x[i : i + 1], y[i : i + 1], norm) for i in some])
    assert (alone == whole[some]).all()


@pytest.mark.parametrize("a", ATTACKS, ids=lambda a: a.name)
def test_one_by_one_on_a_convolutional_checkpoint(a, mnist_test):
    """28 images of 28 × 28, where a forgotten reshape broadcasts, against four of them alone."""
    x, y = mnist_test[0][:28], mnist_test[1][:28]
    net = models.load("mnist-cnn")
    whole, some = attack(a, net, x, y), [0, 5, 14, 27]
    assert (np.concatenate([attack(a, net, x[i : i + 1], y[i : i + 1]) for i in some]) == whole[some]).all()


@pytest.mark.parametrize("a", ATTACKS, ids=lambda a: a.name)
def test_other_labels_do_not_leak(a, small_net, images):
    x, y = images
    other = y.copy()
    other[1:] = np.random.default_rng(0).permutation(y[1:])
    assert (attack(a, small_net, x, y)[0] == attack(a, small_net, x, other)[0]).all()


@pytest.mark.parametrize("a", ATTACKS, ids=lambda a: a.name)
def test_input_and_model_are_untouched(a, images):
    x, y = images
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10),
        ]
    )
    weights = [w.copy() for w in net.get_weights()]
    y = models.predict_logits(net, x).argmax(axis=1)
    x_before, y_before = x.copy(), y.copy()
    first = attack(a, net, x, y)
    assert (x == x_before).all() and (y == y_before).all()
    assert all((w == v).all() for w, v in zip(weights, net.get_weights(), strict=True))
    assert (attack(a, net, x, y) == first).all()  # dropout is off


@pytest.mark.parametrize("a", ATTACKS, ids=lambda a: a.name)
def test_grey_at_half_the_range(a, mnist_test):
    """At ε = 0.5 every image can become the same grey: no attack that needs fewer pixels than that may need more."""
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-mlp")
    if a.grows and not a.minimal and "linf" in a.norms:
        assert right(net, attack(a, net, x, y, eps=0.5), y).mean() <= 0.12


@pytest.mark.parametrize(
    "a", [a for a in ATTACKS if a.grows and not a.minimal and "linf" in a.norms], ids=lambda a: a.name
)
def test_larger_budgets_break_more(a, mnist_test):
    x, y = mnist_test[0][:200], mnist_test[1][:200]
    net = models.load("mnist-cnn")
    left = [right(net, attack(a, net, x, y, eps=eps), y) for eps in (0.02, 0.05, 0.1, 0.2)]
    counts = [m.sum() for m in left]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    again = [(b & ~s).sum() for s, b in pairwise(left)]  # standing at the larger, fallen at the smaller
    assert max(again) <= 2


# ---- the linear model, whose optimum is known


def optimum(norm, w, x, eps):
    """max ⟨w, δ⟩ over ‖δ‖ ≤ ε and x + δ in the box, box inactive but for L0."""
    flat = w.ravel()
    if norm == "linf":
        return eps * np.abs(flat).sum()
    if norm == "l2":
        return eps * np.linalg.norm(flat)
    if norm == "l1":
        return eps * np.abs(flat).max()
    gain = np.maximum(flat * (1 - x.ravel()), -flat * x.ravel())
    return np.sort(gain)[::-1][: int(eps)].sum()


@pytest.mark.parametrize(
    ("a", "norm"),
    [pytest.param(a, n, id=f"{a.name}-{n}") for a in ATTACKS if not a.minimal for n in a.reaches],
)
def test_reaches_the_optimum_of_a_linear_model(a, norm):
    rng = np.random.default_rng(5)
    w = rng.normal(size=(64, 1))
    x = rng.uniform(0.3, 0.7, (20, 8, 8, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((64, 1)), w], axis=1), [0, 0], (8, 8, 1))
    y = models.predict_logits(net, x).argmax(axis=1)
    eps = {"linf": 0.05, "l2": 0.3, "l0": 3}[norm]
    options = {"early_stop": False} if a.iterative else {}
    if a.call is pgd and norm == "l2":
        options["step_size"] = (
            eps  # at the default step 40 steps from a random start end 2 % short, as they must
        )
    x_adv = attack(a, net, x, y, norm, eps=eps, **options)
    gain = ((x_adv - x).reshape(20, -1) @ w).ravel() * np.where(y == 1, -1, 1)
    best = [optimum(norm, -w if label == 1 else w, image, eps) for image, label in zip(x, y, strict=True)]
    assert gain == pytest.approx(np.array(best), rel=0.01)


def test_l1_pgd_reaches_it_with_steps_on_one_pixel():
    rng = np.random.default_rng(5)
    w = rng.normal(size=(64, 1))
    x = rng.uniform(0.45, 0.55, (20, 8, 8, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((64, 1)), w], axis=1), [0, 0], (8, 8, 1))
    y = models.predict_logits(net, x).argmax(axis=1)
    x_adv = pgd(net, x, y, eps=0.3, norm=norms.L1(top=1e-9), early_stop=False)
    gain = ((x_adv - x).reshape(20, -1) @ w).ravel() * np.where(y == 1, -1, 1)
    assert gain == pytest.approx(np.full(20, 0.3 * np.abs(w).max()), rel=0.01)


@pytest.mark.parametrize(("a", "norm"), MINIMAL)
def test_a_minimal_attack_returns_an_adversarial_point_or_x(a, norm, small_net, images):
    x, y = images
    x_adv = attack(a, small_net, x, y, norm)
    assert x_adv.dtype == np.float32 and x_adv.min() >= 0 and x_adv.max() <= 1
    moved = (x_adv != x).any(axis=(1, 2, 3))
    assert not moved[~right(small_net, x, y)].any()
    assert (right(small_net, x_adv, y) == (right(small_net, x, y) & ~moved)).all()
    assert moved.sum() > 0.9 * right(small_net, x, y).sum()


@pytest.mark.parametrize(
    ("a", "norm"), [pytest.param(a, n, id=f"{a.name}-{n}") for a in ATTACKS if a.minimal for n in a.reaches]
)
def test_reaches_the_distance_of_a_linear_model(a, norm):
    """min_j |z_y − z_j| / ‖w_y − w_j‖ in the dual norm, where the box does not bind; in L1, where one pixel alone would have
    to leave the box, the pixels of the steepest slope one after the other, each to its wall. Five classes."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(64, 5))
    x = rng.uniform(0.4, 0.6, (20, 8, 8, 1)).astype(np.float32)
    net = affine(w, np.zeros(5), (8, 8, 1))
    z = models.predict_logits(net, x)
    y = z.argmax(axis=1)

    def distance(image, label, other):
        slope, gap = w[:, other] - w[:, label], float(z[image, label] - z[image, other])
        if norm != "l1":
            return gap / np.linalg.norm(slope, {"linf": 1, "l2": 2}[norm])
        order = np.argsort(-np.abs(slope))
        room = np.where(slope > 0, 1 - x[image].ravel(), x[image].ravel())[order]
        gained = np.concatenate([[0], np.cumsum(np.abs(slope)[order] * room)])
        return np.interp(gap, gained, np.concatenate([[0], np.cumsum(room)]))

    exact = np.array([min(distance(i, y[i], k) for k in range(5) if k != y[i]) for i in range(20)])
    found = norms.get(norm).size(attack(a, net, x, y, norm) - x).numpy()
    assert found == pytest.approx(exact, rel=0.025 if a.name == "deepfool" else 0.01)


@pytest.mark.parametrize(
    "a", [a for a in ATTACKS if a.gradient and a.targeted and not a.minimal], ids=lambda a: a.name
)
def test_targeted_moves_to_the_target_and_untargeted_away(a, mnist_test):
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-mlp")
    ok = right(net, x, y)
    t = (y + 3) % 10
    before = models.predict_logits(net, x).astype(np.float64)  # in float32 a tenth of the losses round to 0
    after = models.predict_logits(net, attack(a, net, x, y, eps=0.01, y_target=t)).astype(np.float64)
    assert (losses.cross_entropy(after, t) < losses.cross_entropy(before, t)).numpy()[ok].mean() >= 0.99
    away = models.predict_logits(net, attack(a, net, x, y, eps=0.01)).astype(np.float64)
    assert (losses.cross_entropy(away, y) > losses.cross_entropy(before, y)).numpy()[ok].mean() >= 0.99
    goal = models.predict_logits(net, attack(a, net, x, y, eps=0.3, y_target=t)).argmax(axis=1)
    anywhere = models.predict_logits(net, attack(a, net, x, y, eps=0.3)).argmax(axis=1)
    assert (goal == t)[ok].sum() > (anywhere == t)[ok].sum()


# ---- FGSM


def test_fgsm_is_its_equation():
    model, x, y = toy()
    w = model.get_weights()[0]
    z = models.predict_logits(model, x)
    p = np.exp(z - z.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    gradient = ((p - np.eye(4)[y]) @ w.T).reshape(x.shape)
    expected = np.clip(x + 0.02 * np.sign(gradient), 0, 1)
    assert fgsm(model, x, y, eps=0.02) == pytest.approx(expected, abs=1e-6)


def test_fgsm_moves_each_pixel_by_eps_where_the_box_allows(small_net, images):
    x, y = images
    ok = right(small_net, x, y)
    moved = np.abs(fgsm(small_net, x, y, eps=0.05) - x)[ok & (x.min(axis=(1, 2, 3)) != x.max(axis=(1, 2, 3)))]
    free = ((x > 0.05) & (x < 0.95))[ok & (x.min(axis=(1, 2, 3)) != x.max(axis=(1, 2, 3)))]
    assert np.abs(moved[free] - 0.05).max() < 1e-7


def test_fgsm_raises_the_loss_for_small_eps(mnist_test):
    x, y = mnist_test[0][:500], mnist_test[1][:500]
    net = models.load("mnist-cnn")
    ok = right(net, x, y)
    logits = (models.predict_logits(net, v).astype(np.float64) for v in (x, fgsm(net, x, y, eps=0.005)))
    before, after = (losses.cross_entropy(z, y).numpy()[ok] for z in logits)
    assert (after > before).mean() >= 0.99


# ---- PGD and its relatives


def test_one_full_step_without_a_random_start_is_fgsm(small_net, images):
    x, y = images
    one = pgd(small_net, x, y, eps=0.1, steps=1, step_size=0.1, random_start=False)
    assert (one == fgsm(small_net, x, y, eps=0.1)).all()
    assert (bim(small_net, x, y, eps=0.1, steps=1) == one).all()
    assert (mi_fgsm(small_net, x, y, eps=0.1, steps=1) == one).all()


def test_no_steps(small_net, images):
    x, y = images
    assert (pgd(small_net, x, y, eps=0.1, steps=0, random_start=False) == x).all()
    ok = right(small_net, x, y)
    start = pgd(small_net, x, y, eps=0.1, steps=0)
    inner = ((x > 0.1) & (x < 0.9))[ok]
    delta = (start - x)[ok][inner]
    assert delta.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02) and abs(delta.mean()) < 0.002
    assert (start[~ok] == x[~ok]).all()


def test_starts_differ_between_images_seeds_and_restarts(small_net, images):
    x, y = images
    x = np.clip(x, 0.2, 0.8)
    y = models.predict_logits(small_net, x).argmax(axis=1)
    start = partial(pgd, small_net, eps=0.1, steps=0, keep="last")
    delta = start(x, y) - x
    assert np.abs(delta[2] - delta[3]).max() > 0.1
    assert not (start(x, y, seed=1) == start(x, y)).any(axis=(1, 2, 3)).all()
    seen = []
    pgd(small_net, x, y, eps=0.001, steps=0, restarts=3, callback=lambda t: seen.append(t.x_adv))
    assert len(seen) == 3 and np.abs(seen[0] - seen[1]).max() > 0 and np.abs(seen[1] - seen[2]).max() > 0
    twins = np.repeat(
        x[5:6], 4, axis=0
    )  # keyed by content: equal images, equal starts; other seeds, other starts
    a, b = (start(twins, np.repeat(y[5:6], 4), seed=s) for s in (0, 1))
    assert (a[0] == a[3]).all() and not (a[0] == b[0]).all()


def test_the_ball_is_around_x_and_not_around_the_last_step(small_net, images):
    x, y = images
    x_adv = bim(small_net, x, y, eps=0.03, steps=10, step_size=0.03, early_stop=False, keep="last")
    assert np.abs(x_adv - x).max() <= 0.03 + 1e-6


def test_best_loss_rises_with_steps_and_restarts(mnist_test):
    """Exact, at a fixed step size: the longer run contains the shorter."""
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-cnn")
    run = partial(pgd, net, x, y, eps=0.05, step_size=0.01, early_stop=False)

    def measure(x_adv):
        z = models.predict_logits(net, x_adv)
        return z.argmax(axis=1) != y, losses.cross_entropy(z, y).numpy()

    for family in ([run(steps=s) for s in (1, 3, 10, 20)], [run(steps=5, restarts=r) for r in (1, 2, 4)]):
        seen = [measure(x_adv) for x_adv in family]
        for (broken, loss), (broken_more, loss_more) in pairwise(seen):
            assert (broken <= broken_more).all()
            assert (loss_more >= loss)[broken == broken_more].all()


def test_keep_best_prefers_what_breaks_over_what_costs_most():
    """Two wrong answers and one right one: the largest loss need not be the one that fools."""
    group = object.__new__(_loop.Group)
    group.y, group.target, group.keep, group.early_stop, group.callback = (
        np.array([0]),
        None,
        "best",
        False,
        None,
    )
    group.step, group.candidate, group.smallest = 1, True, None
    group.best, group.best_value, group.broken, group.known = (
        np.zeros((1, 1)),
        np.array([-np.inf]),
        np.array([False]),
        np.array([False]),
    )
    for point, logits, loss in (
        (1.0, [0.0, 1.0], 0.5),
        (2.0, [1.0, 0.0], 9.0),
        (3.0, [0.0, 2.0], 0.7),
        (4.0, [0.0, 3.0], 0.6),
    ):
        group._remember(np.array([[point]]), np.array([0]), np.array([loss]), np.array([logits]), None, [])
    assert group.best[0, 0] == 3.0 and group.broken[0]


def test_traces(small_net, images):
    x, y = images
    seen = []
    pgd(small_net, x, y, eps=0.02, steps=5, restarts=2, early_stop=False, callback=seen.append, seed=3)
    first = [t for t in seen if t.restart == 0]
    assert [t.step for t in first] == [0, 1, 2, 3, 4, 5]
    assert all(
        (t.queries == t.step + 2).all() for t in first
    )  # x itself, and a point before each step and at the end
    ok = np.flatnonzero(right(small_net, x, y))
    assert (first[0].index == ok).all() and first[0].x_adv.shape == (len(ok), 28, 28, 1)
    z = models.predict_logits(small_net, first[3].x_adv)
    assert losses.cross_entropy(z, y[ok]).numpy() == pytest.approx(first[3].loss, rel=1e-4, abs=1e-5)
    assert ((z.argmax(axis=1) != y[ok]) == first[3].broken).all()
    assert first[5].loss.mean() > first[0].loss.mean()


def test_early_stop_leaves_broken_images_alone_and_breaks_as_many(mnist_test):
    x, y = mnist_test[0][:200], mnist_test[1][:200]
    net = models.load("mnist-cnn")
    seen = []
    stopped = pgd(net, x, y, eps=0.1, callback=seen.append)
    sizes = [len(t.index) for t in seen]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    whole = pgd(net, x, y, eps=0.1, early_stop=False)
    assert (right(net, stopped, y) == right(net, whole, y)).all()


def test_start_is_used_and_brought_into_the_ball(small_net, images):
    x, y = images
    far = np.clip(x + 0.5, 0, 1)
    begun = pgd(small_net, x, y, eps=0.1, steps=0, start=far)
    ok = right(small_net, x, y)
    assert begun[ok] == pytest.approx(np.clip(x + 0.1, 0, 1)[ok], abs=1e-6)
    with pytest.raises(ValueError, match="start has shape"):
        pgd(small_net, x, y, eps=0.1, start=far[:3])


def test_every_loss_attacks(mnist_test):
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-cnn")
    before = right(net, x, y).sum()
    own = lambda z, y: -tf.gather(z, y, axis=1, batch_dims=1)  # noqa: E731
    for loss in ("ce", "margin", "dlr", "kl", own):
        assert right(net, pgd(net, x, y, eps=0.15, loss=loss), y).sum() < 0.5 * before, loss
    for loss in ("ce", "margin", "dlr"):
        t = (y + 1) % 10
        hit = models.predict_logits(net, pgd(net, x, y, eps=0.3, loss=loss, y_target=t)).argmax(axis=1) == t
        assert hit.mean() > 0.5, loss


@pytest.mark.parametrize("call", [bim, mi_fgsm])
def test_bim_and_mi_fgsm_reach_the_surface_with_their_last_step(call):
    """On two classes of a linear model, whose gradient has the same signs everywhere: a tenth of ε a step."""
    w = np.random.default_rng(5).normal(size=(64, 2))
    x = np.random.default_rng(6).uniform(0.3, 0.7, (20, 8, 8, 1)).astype(np.float32)
    net = affine(w, [0, 0], (8, 8, 1))
    y = models.predict_logits(net, x).argmax(axis=1)
    seen = []
    call(net, x, y, eps=0.1, steps=10, early_stop=False, callback=seen.append)
    far = [np.abs(t.x_adv - x[t.index]).max() for t in seen]
    assert far == pytest.approx(np.linspace(0, 0.1, 11), abs=1e-5) and {t.restart for t in seen} == {0}


@pytest.mark.parametrize(("decay", "end"), [(0.5, 0.5), (1.5, 0.7)])
def test_mi_fgsm_weighs_a_steep_step_as_much_as_a_flat_one(decay, end):
    """One pixel, from 0.5 by 0.1 past a peak at 0.55, left of it of slope 8, right of it −1: as both count 1, the sum at 0.6
    is μ − 1, back for μ = 0.5 and on for μ = 1.5."""
    model = lambda x: tf.concat([tf.reshape(x, (-1, 1)), -tf.ones((len(x), 1))], axis=1)  # noqa: E731
    peak = lambda z, y: tf.minimum(8 * (z[:, 0] - 0.55), 0.55 - z[:, 0])  # noqa: E731
    x, y = np.full((1, 1, 1, 1), 0.5, np.float32), np.array([0])
    x_adv = mi_fgsm(model, x, y, eps=0.4, steps=2, step_size=0.1, decay=decay, loss=peak, keep="last")
    assert x_adv.item() == pytest.approx(end, abs=1e-6)


def test_momentum_of_zero_is_bim_and_the_scale_of_the_loss_is_no_matter(small_net, images):
    x, y = images
    assert (mi_fgsm(small_net, x, y, eps=0.1, decay=0) == bim(small_net, x, y, eps=0.1)).all()
    seven = lambda z, y: 8 * losses.cross_entropy(z, y)  # noqa: E731
    same = mi_fgsm(small_net, x, y, eps=0.1, loss=seven, early_stop=False, keep="last")
    assert (same == mi_fgsm(small_net, x, y, eps=0.1, early_stop=False, keep="last")).all()
    assert not (
        mi_fgsm(small_net, x, y, eps=0.1, keep="last") == bim(small_net, x, y, eps=0.1, keep="last")
    ).all()


def test_pgd_leaves_nothing_of_a_standard_net_at_a_budget_of_0_3(mnist_test):
    x, y = mnist_test[0][:1000], mnist_test[1][:1000]
    net = models.load("mnist-cnn")
    assert right(net, pgd(net, x, y, eps=0.3), y).sum() <= 3


def test_huge_logits_hide_from_cross_entropy_and_not_from_the_margin(mnist_test):
    x, y = mnist_test[0][:200], mnist_test[1][:200]
    net = models.load("mnist-cnn")
    loud = tf.function(lambda x: 1000 * net(x, training=False))
    ce, margin = (
        right(loud, pgd(loud, x, y, eps=0.1, loss=loss, random_start=False), y).mean()
        for loss in ("ce", "margin")
    )
    assert ce > margin + 0.3


# ---- the loop


def test_a_sweep_over_eps_compiles_nothing_new(images):
    x, y = images
    traces = 0

    @keras.saving.register_keras_serializable()
    class Counting(keras.Model):
        def __init__(self):
            super().__init__()
            self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(10)

        def call(self, x):
            nonlocal traces
            traces += 1
            return self.dense(self.flat(x))

    net = Counting()
    net(x[:1])
    y = models.predict_logits(net, x).argmax(axis=1)
    pgd(net, x, y, eps=0.1, steps=2)
    once = traces
    for eps in (0.01, 0.2, 0.3):
        pgd(net, x[:33], y[:33], eps=eps, steps=3, step_size=eps / 2, seed=5)
    assert traces == once


def test_weights_changed_after_compiling_are_seen(images):
    x, y = images
    net = models.mlp(seed=0, width=8)
    y = models.predict_logits(net, x).argmax(axis=1)
    before = fgsm(net, x, y, eps=0.1)
    net.set_weights(models.mlp(seed=9, width=8).get_weights())
    y = models.predict_logits(net, x).argmax(axis=1)
    assert not (fgsm(net, x, y, eps=0.1) == before).all()


def test_a_plain_function_is_not_frozen(images):
    """Compiling it would repeat the first draw for ever and call a random defence deterministic."""
    x, _ = images
    w = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    draws = []

    def noisy(x):
        noise = np.random.default_rng(len(draws)).normal(0, 5, (1, 10))
        draws.append(noise)
        return tf.reshape(x, (-1, 784)) @ w + tf.constant(noise, tf.float32)

    assert not np.allclose(models.predict_logits(noisy, x), models.predict_logits(noisy, x))


def test_models_are_forgotten_when_they_go():
    import gc
    import weakref

    net = models.mlp(seed=0, width=4)
    x = np.full((2, 28, 28, 1), 0.5, np.float32)
    pgd(net, x, models.predict_logits(net, x).argmax(axis=1), eps=0.1, steps=1)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_a_model_changed_in_place_is_another_model(images):
    """A softmax taken off, a new head: what was compiled before must not answer."""
    x, y = images
    k = keras.layers
    net = keras.Sequential([keras.Input(x.shape[1:]), k.Flatten(), k.Dense(10, activation="softmax")])
    with pytest.raises(models.ProbabilitiesNotLogitsError):
        models.predict_logits(net, x)
    net.layers[-1].activation = keras.activations.linear
    assert models.predict_logits(net, x) == pytest.approx(net(x).numpy(), abs=1e-5)
    before = pgd(net, x, y, eps=0.1, steps=3, early_stop=False)  # moves every image that was right
    net.pop()
    net.add(k.Dense(10))
    assert models.predict_logits(net, x) == pytest.approx(net(x).numpy(), abs=1e-5)
    assert not np.array_equal(pgd(net, x, y, eps=0.1, steps=3, early_stop=False), before)


@pytest.mark.parametrize("returned", [lambda z: {"logits": z}, lambda z: (z,), lambda z: [z]])
def test_one_tensor_of_logits_may_be_wrapped(small_net, images, returned):
    x, y = images
    wrapped = keras.Model(small_net.inputs, returned(small_net.outputs[0]))
    z = models.predict_logits(small_net, x)
    for net in (wrapped, lambda x: returned(small_net(x)), models.as_logits(wrapped)):
        assert models.predict_logits(net, x) == pytest.approx(z, abs=1e-5)
    expected = pgd(small_net, x, y, eps=0.1, steps=2)
    assert pgd(wrapped, x, y, eps=0.1, steps=2) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("returned", [dict, lambda z: (z, z), lambda z: ()])
def test_one_tensor_of_logits_is_asked_for(images, returned):
    x, y = images
    outputs = {"logits": tf.zeros((128, 10)), "features": tf.zeros((128, 2))}
    with pytest.raises(TypeError, match="one tensor of logits was expected"):
        pgd(lambda x: returned(outputs), x, y, eps=0.1)


def test_fgsm_takes_its_step_on_a_random_model_too(images):
    """Whether one draw happens to be wrong or not: an image that is right now and then is attacked."""
    x, y = images
    net = affine(np.random.default_rng(3).normal(size=(x[0].size, 10)), np.zeros(10), x.shape[1:])
    y = models.predict_logits(net, x).argmax(axis=1)
    noisy = lambda x: net(x) + tf.random.normal((len(x), 10), stddev=30.0)  # noqa: E731
    tf.random.set_seed(0)
    moved = (fgsm(noisy, x, y, eps=0.1) != x).any(axis=(1, 2, 3))
    drawn = models.predict_logits(noisy, x).argmax(axis=1) == y
    assert 0.1 < drawn.mean() < 0.9 and moved.mean() > 0.9


def test_numpy_numbers_are_numbers(small_net, images):
    x, y = images
    assert np.array_equal(*(pgd(small_net, x, y, eps=0.1, steps=2, seed=s) for s in (3, np.int64(3))))
    assert np.array_equal(*(ddn(small_net, x, y, steps=2, levels=n) for n in (256, np.int64(256))))
    for call, option in ((spsa, {"learning_rate": np.float64(0.01)}), (nes, {"decay": np.float64(0.9)})):
        call(small_net, x[:4], y[:4], eps=0.1, steps=1, samples=2, **option)


def test_deepfool_takes_models_of_many_classes():
    """One graph of K − 1 backward passes would take minutes to build."""
    x = np.random.default_rng(1).uniform(0.3, 0.7, (2, 8, 8, 1)).astype(np.float32)
    w = np.random.default_rng(0).normal(size=(x[0].size, 200))
    net = affine(w, np.zeros(200), x.shape[1:])
    y = models.predict_logits(net, x).argmax(axis=1)
    found = deepfool(net, x, y, norm="l2", steps=3)
    assert (models.predict_logits(net, found).argmax(axis=1) != y).all()


def test_small_gradients_have_a_direction_too(mnist_test):
    """Logits four times as large are no defence: squares of their gradients are 0 in float32."""
    x, y = mnist_test[0][:24], mnist_test[1][:24]
    net = models.load("mnist-cnn")
    big = keras.Sequential([keras.Input((28, 28, 1)), net, keras.layers.Rescaling(4.0)])
    ball = norms.get("l2")
    step = ball.steepest(tf.fill((1, 2, 2, 1), np.float32(1e-25)), None)
    assert step.numpy().ravel() == pytest.approx(np.full(4, 0.5))
    assert not ball.steepest(tf.zeros((1, 2, 2, 1)), None).numpy().any()
    left = right(big, pgd(big, x, y, eps=3.0, norm="l2", steps=20, random_start=False), y)
    assert left.mean() < 0.2
    sizes = [np.linalg.norm((ddn(m, x, y, steps=30) - x).reshape(24, -1), axis=1) for m in (net, big)]
    assert np.median(sizes[1]) == pytest.approx(np.median(sizes[0]), rel=0.05)


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        (pgd, {"loss": "kl", "y_target": True}, "heads for a class"),
        (pgd, {"loss": lambda z, y: z[:, 0], "y_target": True}, "heads for a class"),
        (apgd, {"loss": "kl", "targets": 3}, "heads for a class"),
        (pgd, {"loss": "kl", "random_start": False}, "gradient is 0"),
        (bim, {"loss": "kl"}, "gradient is 0"),
        (mi_fgsm, {"loss": "kl"}, "gradient is 0"),
        (pgd, {"loss": lambda z, y: tf.reduce_mean(z)}, "one number an image"),
        (nes, {"decay": 1.0}, "decay"),
    ],
)
def test_settings_that_can_only_fail_are_refused(call, options, words, small_net, images):
    x, y = images
    if "y_target" in options:
        options = options | {"y_target": (y + 1) % 10}
    with pytest.raises(ValueError, match=words):
        call(small_net, x, y, eps=0.1, **options)


def test_labels_in_a_column_or_alone_get_their_own_hint(small_net, images):
    x, y = images
    with pytest.raises(ValueError, match=r"y\.ravel\(\)"):
        pgd(small_net, x, y[:, None], eps=0.1)
    with pytest.raises(ValueError, match=r"np\.full\(\d+, 3\)"):
        pgd(small_net, x, y, eps=0.1, y_target=3)


def test_queries_are_counted(small_net, images):
    x, _ = images
    oracle = _loop.Oracle(small_net)
    oracle.logits(x)
    assert (oracle.forwards, oracle.backwards) == (64, 0)


def test_nan_is_no_success(small_net, images):
    x = np.rint(images[0] * 255).astype(np.float32) / np.float32(255)
    y = models.predict_logits(small_net, x).argmax(axis=1)

    @tf.function
    def fragile(x):  # a number for pixels k/255 alone
        off = tf.reduce_max(tf.abs(255 * x - tf.round(255 * x)), axis=(1, 2, 3), keepdims=True)[:, :, 0, 0]
        return tf.where(off < 1e-3, small_net(x, training=False), float("nan"))

    seen = []
    pgd(fragile, x, y, eps=0.1, steps=2, callback=seen.append)
    assert len(seen) == 3 and len(seen[-1].index) == 64 and not any(t.broken.any() for t in seen)


# ---- bad input: what arrived, what was expected, an example


def bad_inputs():
    x, y = np.full((4, 28, 28, 1), 0.5, np.float32), np.array([1, 2, 3, 4])
    nan = x.copy()
    nan[2, 3, 3] = np.nan
    return {
        "uint8": ((x * 255).astype(np.uint8), y, {}, TypeError, r"uint8 array.*float32.*/ 255"),
        "float64": (x.astype(float), y, {}, TypeError, r"float64.*astype\('float32'\)"),
        "list": (x.tolist(), y, {}, TypeError, "NumPy array"),
        "flat": (x.reshape(4, 784), y, {}, ValueError, r"\(4, 784\).*height, width"),
        "no channel": (x[..., 0], y, {}, ValueError, r"\(4, 28, 28\)"),
        "empty": (x[:0], y[:0], {}, ValueError, "at least one image"),
        "nan": (nan, y, {}, ValueError, "1 NaN pixels"),
        "0 to 255": (x * 255, y, {}, ValueError, r"127\.5.*\[0, 1\].*x / 255"),
        "centred": (x - 0.6, y, {}, ValueError, "inside the model"),
        "other size": (x[:, :14], y, {}, ValueError, r"\(14, 28, 1\)"),
        "y too short": (x, y[:3], {}, ValueError, r"\(3,\).*\(4,\)"),
        "y one-hot": (x, np.eye(10)[y], {}, ValueError, r"one-hot.*argmax"),
        "y float": (x, y / 2, {}, TypeError, "integer labels"),
        "y negative": (x, y - 2, {}, ValueError, "-1 to 2"),
        "y too large": (x, y + 6, {}, ValueError, "0 to 9"),
        "target equal": (
            x,
            y,
            {"y_target": np.array([0, 2, 0, 0])},
            ValueError,
            "1 of 4 images.*number 1, class 2",
        ),
        "target scalar": (x, y, {"y_target": 3}, ValueError, "y_target"),
        "eps 8": (x, y, {"eps": 8.0}, ValueError, r"eps=8\.0: an L∞ budget in \[0, 1\] pixel units.*8/255"),
        "eps beyond the box": (
            x,
            y,
            {"eps": 29.0, "norm": "l2"},
            ValueError,
            r"eps=29\.0: an L2 budget in pixel units, from 0 to 28",
        ),
        "eps negative": (x, y, {"eps": -0.1}, ValueError, "eps=-0.1"),
        "eps text": (x, y, {"eps": "0.1"}, TypeError, "eps"),
        "eps none": (x, y, {"eps": None}, TypeError, "eps"),
        "norm": (x, y, {"norm": "max"}, ValueError, "'max'.*'linf'"),
    }


def bad_calls():
    for a in ATTACKS:
        taken = inspect.signature(a.call).parameters
        for case, (_, _, options, _, _) in bad_inputs().items():
            if a.minimal and "eps" in options:
                continue  # no budget, or one that only scales random restarts
            if a.name != "best_of" and all(word in taken for word in options):
                yield pytest.param(a, case, id=f"{a.name}-{case}")


@pytest.mark.parametrize(("a", "case"), bad_calls())
def test_bad_input_is_named(a, case, small_net):
    x, y, options, error, words = bad_inputs()[case]
    taken = inspect.signature(a.call).parameters
    if "eps" in taken and not a.minimal:
        options = {"eps": EPS[a.norms[0]], **options}
    if "norm" in taken and "norm" not in options:
        options["norm"] = a.norms[0]
    with pytest.raises(error, match=r"(?s)" + words) as caught:
        a.call(small_net, x, y, **options)
    assert "expected" in str(caught.value) and "for example" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, "steps=-1"),
        ({"steps": 2.5}, "steps=.*whole number"),
        ({"restarts": 0}, "restarts=0"),
        ({"step_size": -1}, "step_size=-1"),
        ({"loss": "l2"}, "loss='l2'"),
        ({"keep": "first"}, "keep='first'"),
        ({"keep": "last", "restarts": 2}, "restarts=2"),
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises((ValueError, TypeError), match=words):
        pgd(small_net, *images, eps=0.1, **options)


def test_models_that_are_none_or_return_no_logits(images):
    x, y = images
    with pytest.raises(TypeError, match="a callable from images to logits"):
        pgd("net.keras", x, y, eps=0.1)
    softmax = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    for call in (fgsm, pgd, bim, mi_fgsm, partial(best_of, draws=2)):
        with pytest.raises(models.ProbabilitiesNotLogitsError, match="as_logits"):
            call(softmax, x, y, eps=0.1)
    with pytest.raises(ValueError, match="one number an image"):
        pgd(lambda x: tf.reduce_sum(x, axis=(1, 2)), x, y, eps=0.1)
    with pytest.raises(ValueError, match=r"shape \(128,\)|logits of shape"):
        pgd(lambda x: tf.reduce_sum(x, axis=(1, 2, 3)), x, y, eps=0.1)
    numpy_only = lambda x: np.asarray(x).reshape(-1, 784)[:, :10] - 0.5  # noqa: E731
    y = models.predict_logits(numpy_only, x).argmax(axis=1)
    with pytest.raises(ValueError, match="there is no gradient"):
        pgd(numpy_only, x, y, eps=0.1)


def test_public_names():
    """Every attack is to be had from `advlib` itself."""
    names = advlib.attacks.__all__
    assert names == sorted(names) and advlib.pgd is pgd
    assert all(getattr(advlib, name) is getattr(advlib.attacks, name) for name in names if name.islower())


# ---- models and losses that change from call to call


def test_a_loss_of_ones_own_is_read_anew(small_net, images):
    """A learner's loss that reads a global: the second call must not attack with what the first one saw."""
    x, y = images
    sign = {"is": -1.0}

    def loss(logits, y):
        return sign["is"] * losses.cross_entropy(logits, y)

    away = pgd(small_net, x, y, eps=0.1, steps=5, loss=loss)
    sign["is"] = 1.0
    assert (pgd(small_net, x, y, eps=0.1, steps=5, loss=loss) == pgd(small_net, x, y, eps=0.1, steps=5)).all()
    assert right(small_net, away, y).sum() > 0.9 * right(small_net, x, y).sum()


@pytest.fixture(scope="module")
def by_lot(mnist_test):
    """A network behind noise so strong that it misreads many images in one call and not in the next."""
    net, (x, y) = models.load("mnist-mlp"), (part[:60] for part in mnist_test)
    ok = right(net, x, y)
    return net, x[ok], y[ok]


@pytest.mark.parametrize(
    "call", [partial(bim, steps=3), partial(mi_fgsm, steps=3), partial(pgd, steps=3, random_start=False)]
)
def test_one_unlucky_draw_leaves_no_image_unattacked(call, by_lot):
    """It would come back as it is, and be counted as robust in the next draw."""
    net, x, y = by_lot
    assert (call(noisy(net, 0.6, seed=1), x, y, eps=0.3) != x).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("call", [partial(ddn, steps=30), partial(fmn, steps=30)])
def test_points_that_were_adversarial_are_not_given_up(call, by_lot):
    """The smallest was lucky, and its next draw is not; one a little farther out holds."""
    net, x, y = by_lot
    times = np.zeros(len(x), int)

    def count(trace):
        times[trace.index] += trace.broken

    x_adv = call(noisy(net, 0.3, seed=3), x, y, callback=count)
    assert (times >= 5).mean() > 0.9
    assert (x_adv != x).any(axis=(1, 2, 3))[times >= 5].mean() > 0.95


@pytest.mark.parametrize("a", [pytest.param(a, id=a.name) for a in ATTACKS if a.gradient])
def test_an_infinite_slope_is_no_defence(a, small_net, images):
    """√x has one at black pixels; the same model with the root cut off a little above 0 falls to every attack."""
    x, y = images
    root, safe = (
        tf.function(lambda v, low=low: small_net(tf.sqrt(tf.maximum(v, low)))) for low in (0.0, 1e-6)
    )
    y = models.predict_logits(safe, x).argmax(axis=1)
    kept = []
    for model in (root, safe):
        x_adv = attack(a, model, x, y, "l2" if "l2" in a.norms else None)  # in L∞ a sign hides it
        assert np.isfinite(x_adv).all() and x_adv.min() >= 0 and x_adv.max() <= 1
        kept.append(right(model, x_adv, y).mean())
    assert kept[0] <= kept[1] + 0.1


def test_a_restart_mends_a_start_without_an_answer(small_net, images):
    """NaN in one corner of the ball: the point that is kept is one with an answer."""
    x, y = images
    x = np.clip(x, 0.1, 0.9)
    x[:, 0, 0] = 0.1
    y = models.predict_logits(small_net, x).argmax(axis=1)
    holes = tf.function(lambda v: tf.where((v[:, 0, 0, 0] > 0.11)[:, None], np.float32(np.nan), small_net(v)))
    x_adv = pgd(holes, x, y, eps=0.02, steps=3, restarts=8)
    assert np.isfinite(models.predict_logits(holes, x_adv)).all()


# ---- cases that a single place of the loop decides


def test_progress_bars_are_off_only_where_output_is_compared(monkeypatch, small_net, images):
    seen, bar = [], _loop.tqdm
    monkeypatch.setattr(_loop, "tqdm", lambda **options: seen.append(options) or bar(disable=True))
    for value in ("0", "1", None):
        monkeypatch.delenv("ADVLIB_PROGRESS", raising=False)
        if value is not None:
            monkeypatch.setenv("ADVLIB_PROGRESS", value)
        fgsm(small_net, *images, eps=0.1)
    assert [(s["desc"], s["disable"]) for s in seen] == [("fgsm", True), ("fgsm", False), ("fgsm", False)]


def test_more_images_than_are_attacked_together():
    """Those beyond the first 1,024 meet their own numbers; "kl" reads the logits of the clean image too."""
    model, x, y = toy(n=1040)
    y[1030] = (y[1030] + 1) % 4
    whole, tail = (pgd(model, x[i:], y[i:], eps=0.05, steps=2, loss="kl") for i in (0, 1020))
    assert (whole[1020:] == tail).all() and (whole[1030] == x[1030]).all()


def test_a_step_of_pgd_is_by_default_two_and_a_half_budgets_over_their_number(small_net, images):
    x, y = images
    for steps in (1, 8):
        options = {"eps": 0.5, "norm": "l2", "steps": steps, "early_stop": False, "keep": "last"}
        by_default = pgd(small_net, x, y, **options)
        assert (by_default == pgd(small_net, x, y, step_size=2.5 * 0.5 / steps, **options)).all()


def test_a_point_that_breaks_is_kept_although_a_later_one_costs_more():
    """One pixel, from 0.5 by 0.1: wrong at 0.6 alone, while the loss goes on rising."""

    def model(x):
        p = tf.reshape(x, (-1,))
        return tf.stack([tf.zeros_like(p), 0.05 - tf.abs(p - 0.6), p - 10], axis=1)

    x, height = np.full((1, 1, 1, 1), 0.5, np.float32), lambda z, y: z[:, 2]
    options = {"eps": 0.4, "steps": 2, "step_size": 0.1, "random_start": False, "early_stop": False}
    assert pgd(model, x, np.array([0]), loss=height, **options).item() == pytest.approx(0.6, abs=1e-6)


def test_what_falls_back_at_the_last_look_is_moved_a_little_outward():
    """A model whose boundary moves away by 2 % of the perturbation once the search is over; two pixels are at the walls."""
    w = np.ones((16, 1), np.float32)
    w[0] = -1
    x = np.full((1, 4, 4, 1), 0.5, np.float32)
    x[0, 0, 0], x[0, 0, 1] = 0.05, 0.95
    score = lambda v: tf.reshape(v, (-1, 16)) @ w  # noqa: E731
    level = {"is": score(x).numpy().item() + 1.5}

    def model(v):
        s = score(v) - level["is"]
        return tf.concat([-s, s], axis=1)

    y, size = np.array([0]), lambda v: np.linalg.norm(v - x)
    near = ddn(model, x, y, steps=40)
    beyond = score(np.clip(x + np.float32(1.02) * (near - x), 0, 1)).numpy().item()

    def recede(trace):
        if trace.step == 40:
            level["is"] = beyond

    x_adv = ddn(model, x, y, steps=40, callback=recede)
    assert model(x_adv).numpy().argmax() == 1 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert size(near) < size(x_adv) < 1.1 * size(near)


def test_what_a_random_model_never_gets_right_comes_back():
    rng = np.random.default_rng(0)
    model = lambda x: tf.constant(rng.normal(size=(len(x), 3)) + np.array([0, 50, 0]), tf.float32)  # noqa: E731
    x = np.full(
        (2, 4, 4, 1), 0.5, np.float32
    )  # the answer is 1 in every draw: above one label, below the other
    assert (square(model, x, np.array([0, 2]), eps=0.1, steps=2) == x).all()


def test_a_budget_is_that_of_one_image_however_few_they_are(small_net, images):
    x, y = images
    assert pgd(small_net, x[2:3], y[2:3], eps=100, norm="l0", steps=1).shape == x[2:3].shape


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_a_model_that_computes_in_float64_is_attacked(loss):
    model, x, y = toy()
    w = model.get_weights()[0].astype(float)
    double = lambda v: tf.reshape(tf.cast(v, tf.float64), (-1, 36)) @ w  # noqa: E731
    ok = right(double, x, y)
    assert ok.any() and (pgd(double, x, y, eps=0.1, steps=3, loss=loss) != x).any(axis=(1, 2, 3))[ok].all()


def test_a_broken_image_between_two_that_stand_is_passed_over():
    net = affine(np.float32([[0, 1]]), [0, -0.5], (1, 1, 1))
    x = np.float32([0.3, 0.49, 0.2]).reshape(3, 1, 1, 1)
    x_adv = bim(net, x, np.zeros(3, int), eps=0.15, steps=3, batch_size=3)
    assert x_adv.ravel() == pytest.approx([0.45, 0.54, 0.35], abs=1e-6)
