"""The attacks that see the predicted class alone: Boundary Attack and HopSkipJump."""

from functools import partial

import numpy as np
import pytest

from advlib import models, norms
from advlib._tensorflow import tf
from advlib.attacks import _decision as decision
from advlib.attacks import boundary, hop_skip_jump
from advlib.attacks.black_box import BlackBox
from tests.conftest import affine

# the modules: their names in the package are those of the functions
import sys  # isort: skip

hsj, walk = (sys.modules[f"advlib.attacks.{name}"] for name in ("hop_skip_jump", "boundary"))

BOTH = [
    pytest.param(partial(boundary, steps=150), "l2", id="boundary"),
    pytest.param(partial(hop_skip_jump, steps=3, initial_evals=20), "l2", id="hop_skip_jump-l2"),
    pytest.param(
        partial(hop_skip_jump, steps=3, initial_evals=20, norm="linf"), "linf", id="hop_skip_jump-linf"
    ),
]


@pytest.fixture(scope="module")
def digits(mnist_test):
    return models.load("mnist-mlp"), mnist_test[0][:30], mnist_test[1][:30]


@pytest.mark.parametrize(("attack", "norm"), BOTH)
def test_every_iterate_is_adversarial_and_nearer(attack, norm, digits):
    net, x, y = digits
    seen = []
    x_adv = attack(net, x, y, callback=seen.append)
    assert len(seen) > 3
    before = np.full(len(x), np.inf)
    for t in seen:
        assert t.broken.all() and (models.predict_logits(net, t.x_adv).argmax(axis=1) != y[t.index]).all()
        size = norms.get(norm).size(t.x_adv - x[t.index]).numpy()
        assert (size <= before[t.index]).all()
        before[t.index] = size
    assert norms.get(norm).size(x_adv - x).numpy() == pytest.approx(
        np.where(np.isinf(before), 0, before), rel=1e-4
    )
    first = norms.get(norm).size(seen[0].x_adv - x[seen[0].index]).numpy()
    assert np.median(before[seen[0].index] / first) < 0.97


@pytest.mark.parametrize(("attack", "norm"), BOTH)
def test_the_label_alone_is_used(attack, norm, digits):
    net, x, y = digits
    box = BlackBox(net, labels=True)
    assert (attack(box, x, y) == attack(net, x, y)).all()


@pytest.mark.parametrize(("attack", "norm"), BOTH)
def test_queries_are_counted_exactly(attack, norm, digits):
    """Twice: by the loop for each image, and by the black box, which also counts the last look at each result."""
    net, x, y = digits
    seen, box = [], BlackBox(net)
    attack(box, x, y, callback=seen.append)
    last = seen[-1]
    assert box.queries == len(x) - len(last.index) + last.queries.sum() + len(last.index)


def test_queries_of_hop_skip_jump_are_those_of_its_algorithm(digits):
    net, x, y = digits
    seen = []
    hop_skip_jump(net, x, y, steps=4, initial_evals=30, max_evals=55, callback=seen.append)
    spent = np.diff([t.queries for t in seen], axis=0)
    halvings = 15  # ⌈log2 784^1.5⌉
    jumps = spent - np.array([30, 42, 51, 55])[:, None] - halvings  # 30·√t
    assert jumps.min() >= 1 and jumps.max() <= halvings and np.median(jumps, axis=1).max() <= 4
    assert seen[0].queries.min() == 1 + 1 + halvings


def test_queries_of_boundary_are_those_of_its_algorithm(digits):
    net, x, y = digits
    seen = []
    boundary(net, x, y, steps=25, callback=seen.append)
    assert (seen[-1].queries - seen[0].queries == 25 + 3).all()  # the side step alone at steps 0, 10 and 20


def test_points_asked_at_once_are_few(digits, monkeypatch):
    net, x, y = digits
    monkeypatch.setattr(hsj, "CHUNK", 64)
    asked = []

    def counting(v):
        asked.append(len(v))
        return net(v, training=False)

    seen = []
    hop_skip_jump(counting, x[:6], y[:6], steps=1, initial_evals=150, callback=seen.append, batch_size=64)
    assert max(asked) <= 64
    assert (seen[1].queries - seen[0].queries >= 150 + 15 + 1).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_probes_are_as_many_and_as_far_as_the_algorithm_says(norm, digits, monkeypatch):
    """0.1 from the first point, then the distance over the number of pixels; 30·√t of them, in blocks where they are many."""
    net, x, y = digits
    probes, asked, seen = hsj.probes, [], []

    def spy(norm, count, rng, z, radius):
        asked[-1].append((count, float(radius)))
        return probes(norm, count, rng, z, radius)

    def new_step(trace):
        seen.append(norms.get(norm).size(trace.x_adv - x[trace.index]).numpy())
        asked.append([])

    monkeypatch.setattr(hsj, "probes", spy)
    monkeypatch.setattr(hsj, "CHUNK", 40)
    hop_skip_jump(net, x[:1], y[:1], norm=norm, steps=4, initial_evals=30, callback=new_step)
    for t, (questions, distance) in enumerate(zip(asked[:4], seen, strict=False), 1):
        assert sum(count for count, _ in questions) == int(30 * t**0.5)
        assert max(count for count, _ in questions) <= 40
        radius = 0.1 if t == 1 else distance[0] / 784
        assert [r for _, r in questions] == pytest.approx([radius] * len(questions), rel=1e-4)


# ---- the equations


class Plane:
    """A group whose model is ⟨w, z⟩ > level."""

    def __init__(self, w, level):
        self.w, self.level = w, level

    def query(self, points, i, candidates=True):
        self.points, self.broken = points.copy(), (points.reshape(len(points), -1) @ self.w > self.level)
        return None, self.broken


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_normal_is_found(norm):
    rng = np.random.default_rng(0)
    w = rng.normal(size=784)
    z = rng.uniform(0.3, 0.7, (1, 28, 28, 1)).astype(np.float32)
    v = hsj.normal(Plane(w, z.ravel() @ w), norm, z, np.array([0]), np.array([0.1], np.float32), 1000, [rng])
    assert np.linalg.norm(v) == pytest.approx(1, abs=1e-5)
    assert v.ravel() @ w / np.linalg.norm(w) > 0.5


@pytest.mark.parametrize("level", [0.0, 0.02, 9.0, -9.0])
def test_the_normal_is_its_equation(level):
    """Also at the wall of the box, where the probes are clipped, and where all decisions are the same."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=36)
    z = rng.integers(0, 2, (1, 6, 6, 1)).astype(np.float32) * np.float32(0.98)
    plane = Plane(w, z.ravel() @ w + level)
    v = hsj.normal(plane, "l2", z, np.array([0]), np.array([0.1], np.float32), 400, [rng])
    phi = np.where(plane.broken, 1.0, -1.0)
    assert (abs(level) == 9) == (abs(phi.mean()) == 1) and plane.points.max() <= 1 and plane.points.min() >= 0
    u = (plane.points - z).reshape(400, -1) / 0.1
    expected = ((phi if abs(phi.mean()) == 1 else phi - phi.mean())[:, None] * u).mean(axis=0)
    assert v.ravel() == pytest.approx(expected / np.linalg.norm(expected), abs=1e-4)


def test_a_jump_is_halved_until_it_is_adversarial():
    """0.1 from the boundary and back towards it: 1, ½, ¼ and ⅛ are too far. A short one is made whole; at the boundary none."""
    w = np.full(16, 0.25)  # of length 1
    z = np.full((3, 4, 4, 1), 0.5, np.float32)
    z[2] -= 0.025
    v, i = -0.25 * np.ones_like(z), np.arange(3)
    moved = hsj.jump(Plane(w, z[2].ravel() @ w - 1e-6), "l2", z, v, np.float32([1, 0.05, 1]), i)
    assert decision.size("l2", moved - z) == pytest.approx([1 / 16, 0.05, 0], abs=1e-6)


def linear(classes, side=28):
    """A linear model, 12 images, and their distances in a norm, given its dual."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(side**2, classes))
    x = rng.uniform(0.4, 0.6, (12, side, side, 1)).astype(np.float32)
    net = affine(w, np.zeros(classes), x.shape[1:])
    z = models.predict_logits(net, x)
    y = z.argmax(axis=1)

    def exact(dual):
        gap = z[np.arange(12), y][:, None] - z
        slope = np.linalg.norm(w[:, y].T[:, :, None] - w[None], dual, axis=1)
        return np.divide(gap, slope, out=np.full_like(gap, np.inf), where=slope > 0).min(axis=1)

    return net, x, y, exact


@pytest.mark.parametrize(
    ("norm", "dual", "side", "steps", "within"),
    [("l2", 2, 8, 20, 1.03), ("linf", 1, 8, 20, 1.06), ("l2", 2, 28, 25, 1.1)],
)
def test_hop_skip_jump_comes_near_the_distance_of_a_linear_model(norm, dual, side, steps, within):
    """Of 784 pixels the normal is known worse than of 64: 20 steps end 11 % above the distance there."""
    net, x, y, exact = linear(2 if side == 28 else 5, side)
    ratio = norms.get(norm).size(hop_skip_jump(net, x, y, norm=norm, steps=steps) - x).numpy() / exact(dual)
    assert ratio.min() > 0.999 and ratio.max() < within


def test_boundary_comes_near_it_too():
    net, x, y, exact = linear(5, side=8)
    ratio = norms.get("l2").size(boundary(net, x, y, steps=2000) - x).numpy() / exact(2)
    assert ratio.min() > 0.999 and ratio.max() < 1.06


def test_proposals_are_on_the_sphere_and_then_nearer():
    rng = np.random.default_rng(2)
    x, z = (rng.uniform(0.4, 0.6, (5, 8, 8, 1)).astype(np.float32) for _ in range(2))
    d = decision.size("l2", z - x)
    delta, eps = np.linspace(0.01, 0.1, 5, dtype=np.float32), np.linspace(0.05, 0.01, 5, dtype=np.float32)
    side, nearer = walk.proposals(x, z, d, rng.normal(size=x.shape).astype(np.float32), delta, eps)
    assert decision.size("l2", side - x) == pytest.approx(d, rel=1e-4)
    assert decision.size("l2", nearer - x) == pytest.approx((1 - eps) * d, rel=1e-4)
    angle = ((side - x) * (z - x)).sum(axis=(1, 2, 3)) / d**2  # cos of an angle whose tangent is δ
    assert angle == pytest.approx(1 / np.sqrt(1 + delta**2), rel=1e-4)
    outside = walk.proposals(
        np.zeros_like(x), z, decision.size("l2", z), rng.normal(size=x.shape).astype(np.float32), delta, eps
    )
    assert min(p.min() for p in outside) >= 0


def test_steps_grow_and_shrink_image_by_image():
    spherical, source = np.full(3, 0.1, np.float32), np.full(3, 0.01, np.float32)
    sides, wins = np.array([9.0, 2.0, 1.0]), np.array([10.0, 5.0, 1.0])
    for step in range(1, walk.EVERY * walk.SIDES + 1):
        if step % 30 == 0:
            wins[:] = 10, 5, 1  # of 30
        walk.adapt(step, spherical, source, sides, wins)
    assert spherical == pytest.approx([0.15, 0.1, 0.1 / 1.5])
    assert source == pytest.approx([0.01 * 1.5**4, 0.01, 0.01 / 1.5**4])
    assert (sides == 0).all()


def test_images_rest_once_they_have_converged(digits):
    net, x, y = digits
    seen = []
    boundary(net, x, y, steps=60, source_step=1e-9, callback=seen.append)
    assert len(seen) == 1


def test_numbers_are_normal():
    g = decision.gaussian(np.random.default_rng(0), (333, 7, 43))
    assert g.dtype == np.float32 and g.shape == (333, 7, 43) and np.isfinite(g).all()
    n = g.size
    assert abs(g.mean()) < 4 / n**0.5 and abs(g.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((g.astype(float) ** 4).mean() - 3) < 4 * (96 / n) ** 0.5
    half = g.ravel()[: n // 2].astype(float), g.ravel()[-(n // 2) :].astype(float)
    assert abs(np.corrcoef(*half)[0, 1]) < 4 / (n / 2) ** 0.5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_bisection_ends_at_the_boundary(norm):
    net, x, y, _ = linear(2)

    class Group:
        def __init__(self):
            self.x, self.asked = x, 0

        def query(self, points, i):
            self.asked += 1
            return None, models.predict_logits(net, points).argmax(axis=1) != y[i]

    group = Group()
    far = np.where(y == 0, 1.0, 0.0)  # the direction of class 1 − y, at the wall
    w = net.get_weights()[0]
    z = (
        np.where(((w[:, 1] - w[:, 0]) > 0)[None] == (far == 1)[:, None], 1.0, 0.0)
        .reshape(x.shape)
        .astype(np.float32)
    )
    near = decision.bisect(group, norm, z, np.arange(12))
    assert (models.predict_logits(net, near).argmax(axis=1) != y).all()
    way = decision.size(norm, near - x) / decision.size(norm, z - x)
    back = decision.towards(norm, x, z, way - np.float32(2 * 784 ** {"l2": -1.5, "linf": -2}[norm]))
    assert (models.predict_logits(net, back).argmax(axis=1) == y).all()
    assert group.asked == {"l2": 15, "linf": 20}[norm]


# ---- where they begin


@pytest.mark.parametrize(
    "attack", [partial(boundary, steps=60), partial(hop_skip_jump, steps=3, initial_evals=20)]
)
def test_a_targeted_start_is_of_the_target_class(attack, digits, mnist_test):
    net, x, y = digits
    t = (y + 1) % 10
    pool, labels = mnist_test[0][100:400], models.predict_logits(net, mnist_test[0][100:400]).argmax(axis=1)
    start = np.stack([pool[labels == k][0] for k in t])
    x_adv = attack(net, x, y, y_target=t, start=start)
    ok = models.predict_logits(net, x).argmax(axis=1) == y
    assert (models.predict_logits(net, x_adv).argmax(axis=1) == t)[ok].all() and (x_adv == x)[~ok].all()
    size = norms.get("l2").size
    assert np.median((size(x_adv - x) / size(start - x)).numpy()[ok]) < 0.9
    bad = start.copy()
    bad[3] = pool[labels == y[3]][0]
    with pytest.raises(
        ValueError, match=r"the class y_target for 1 of .* images \(the first is number 3\).*for example"
    ):
        attack(net, x, y, y_target=t, start=bad)
    with pytest.raises(ValueError, match=r"y_target without start.*expected, for example"):
        attack(net, x, y, y_target=t)
    with pytest.raises(ValueError, match="another class than y for"):
        attack(net, x, y, start=x)
    with pytest.raises(ValueError, match="start has shape"):
        attack(net, x, y, start=x[:3])


def test_noise_in_squares_where_fine_noise_fools_nobody():
    @tf.function
    def smooth(x):  # class 1 where the image varies at a large scale
        rough = tf.math.reduce_std(tf.nn.avg_pool2d(x, 4, 4, "VALID"), axis=(1, 2, 3))
        return tf.stack([tf.zeros_like(rough), rough - 0.15], axis=1)

    x, y = np.full((3, 28, 28, 1), 0.5, np.float32), np.zeros(3, np.int64)
    x_adv = hop_skip_jump(smooth, x, y, steps=1, initial_evals=20)
    assert (models.predict_logits(smooth, x_adv).argmax(axis=1) == 1).all()


@pytest.mark.parametrize(
    "attack", [partial(boundary, steps=30), partial(hop_skip_jump, steps=2, initial_evals=20)]
)
def test_what_no_noise_fools_comes_back(attack, monkeypatch):
    """An image of the one class that all noise belongs to, beside one that is attacked; and by itself."""

    @tf.function
    def model(x):
        mean = tf.reduce_mean(x, axis=(1, 2, 3))
        return tf.stack([tf.zeros_like(mean), 0.9 - mean], axis=1)  # class 0 if very bright

    monkeypatch.setattr(decision, "TRIES", 20)
    x, y = np.stack([np.full((6, 6, 1), v, np.float32) for v in (0.2, 1.0)]), np.array([1, 0])
    x_adv = attack(model, x, y)
    assert (x_adv[0] == x[0]).all() and (x_adv[1] != x[1]).any()
    assert (attack(model, x[:1], y[:1]) == x[:1]).all()


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        (boundary, {"steps": -1}, "steps=-1"),
        (boundary, {"spherical_step": 0}, "spherical_step=0"),
        (boundary, {"source_step": 2}, "source_step=2"),
        (hop_skip_jump, {"norm": "l1"}, "'l1'.*'l2', 'linf'"),
        (hop_skip_jump, {"steps": 1.5}, "steps="),
        (hop_skip_jump, {"initial_evals": 0}, "initial_evals=0"),
        (hop_skip_jump, {"max_evals": 0}, "max_evals=0"),
    ],
)
def test_bad_options_are_named(call, options, words, digits):
    with pytest.raises((ValueError, TypeError), match=words):
        call(*digits, **options)
