"""The Square Attack: its windows, bumps and schedule against plain loops, its queries counted, its strength."""

import numpy as np
import pytest

from advlib import losses, models, norms
from advlib._tensorflow import tf
from advlib.attacks import pgd, square
from advlib.attacks.black_box import BlackBox
from advlib.attacks.square import bump, flip_window, move_window, share, side, stripes, tiles, window
from tests.conftest import affine

NORMS = ("linf", "l2", "l1")
EPS = {"linf": 0.1, "l2": 1.5, "l1": 10.0}


@pytest.fixture(scope="module")
def grey(small_net, images):
    """Images that stay inside the box at any budget used here, with the labels of the net."""
    x = np.float32(0.4) + np.float32(0.2) * images[0][:40]
    return x, models.predict_logits(small_net, x).argmax(axis=1)


def stubborn(seen=None, classes=2, shape=(28, 28, 1)):
    """A model that answers class 0 whatever it is shown, always with the same margin; notes the first image of each batch."""

    def answer(x):
        if seen is not None:
            seen.append(np.array(x[0]))
        return tf.tile(tf.constant([[5.0] + [0.0] * (classes - 1)]), (tf.shape(x)[0], 1))

    return answer


# ---- the schedule and the windows


def test_sides_follow_the_schedule():
    """p is halved after 10, 50, 200, … of 10,000 iterations: round(√(0.8·784)) = 25, √(0.4·784) = 17.7, …"""
    first = [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001, 10_000]
    sides = [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]
    l2_sides = [25, 19, 13, 9, 7, 5, 3, 3, 3, 3]
    for expected, norm in ((sides, "linf"), (l2_sides, "l2"), (l2_sides, "l1")):
        got = [side(share(t, 0.8, 10_000), (28, 28, 1), norm) for t in range(10_000)]
        assert got == list(np.repeat(expected, np.diff(first)))
    # laid out for 1,000 iterations, each number of them is a tenth; for 10,000 and ended after 5,000, no window is smallest
    assert [share(t, 0.8, 1000) for t in range(1000)] == [share(10 * t, 0.8, 10_000) for t in range(1000)]
    assert side(1.0, (28, 20, 3), "linf") == 20 and side(1.0, (4, 4, 1), "l2") == 4
    assert side(1e-9, (28, 28, 1), "linf") == 1 and side(1e-9, (28, 28, 1), "l1") == 3


@pytest.mark.parametrize("schedule", [None, 10_000])
def test_each_proposal_changes_one_window_of_that_side(schedule):
    """Seen from the model: nothing is ever accepted, so each point is the start but for one window."""
    seen, steps = [], 300
    x = np.full((1, 28, 28, 1), 0.5, np.float32)
    square(stubborn(seen), x, np.array([0]), eps=0.1, steps=steps, schedule=schedule)
    start, points = seen[1][:, :, 0], seen[2:]
    assert len(points) == steps and (start == start[0]).all()
    tops, moved = [], 0
    for t, point in enumerate(points):
        h = side(share(t, 0.8, schedule or steps), x.shape[1:], "linf")
        changed = point[:, :, 0] != start
        rows, columns = changed.any(axis=1), changed.any(axis=0)
        if not rows.any():
            continue  # the stripes had this sign already
        moved += 1
        assert rows.sum() == h and np.ptp(np.flatnonzero(rows)) == h - 1
        assert np.ptp(np.flatnonzero(columns)) <= h - 1
        assert (changed[rows] == columns).all() and len(np.unique(point[:, :, 0][changed])) == 1
        tops.append((np.flatnonzero(rows)[0], 28 - h))
    assert moved > 0.6 * steps
    if schedule is None:
        assert any(top == 0 for top, _ in tops) and any(top == last for top, last in tops)


def test_windows_reach_every_offset_and_no_further():
    shape = (9, 7, 3)
    image = np.arange(9 * 7 * 3).reshape(shape)
    almost = np.nextafter(1, 0)
    u = np.array([[0, 0], [almost, almost], [0.5, 0.3]])
    for h in (1, 3, 7):
        got = image.ravel()[window(h, u, shape)]
        for (a, b), flat in zip(u, got, strict=True):
            top, left = int(a * (9 - h + 1)), int(b * (7 - h + 1))
            cut = image[top : top + h, left : left + h]
            assert cut.shape == (h, h, 3)
            assert (flat == cut.reshape(-1, 3).T).all()
    assert window(7, u, shape).max() == image.max()


# ---- L∞


def test_pixels_are_at_the_ends_of_their_range(small_net, grey):
    x, y = grey
    x_adv = square(small_net, x, y, eps=0.1, steps=50)
    assert np.abs(np.abs(x_adv - x) - 0.1).max() < 1e-6
    dark = 0.1 * x  # the box binds below
    y = models.predict_logits(small_net, dark).argmax(axis=1)
    x_adv = square(small_net, dark, y, eps=0.1, steps=50)
    ends = np.stack([np.clip(dark - np.float32(0.1), 0, 1), np.clip(dark + np.float32(0.1), 0, 1)])
    assert np.abs(ends - x_adv).min(axis=0).max() < 1e-6


def test_a_window_has_one_sign_for_each_channel():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (5, 9, 7, 3)).astype(np.float32)
    eps, ball = np.float32(0.1), norms.get("linf")
    start = stripes(ball, x, eps, rng.random((5, 21)))
    delta = start - x
    assert np.abs(delta - delta[:, :1]).max() < 1e-6 and np.abs(np.abs(delta) - 0.1).max() < 1e-6
    assert len(np.unique(np.sign(delta[:, 0]), axis=0)) == 5  # rows of signs differ between images
    u = rng.random((5, 5))
    points = flip_window(ball, x, start, eps, 3, u)
    for image, begun, point, v in zip(x, start, points, u, strict=True):
        top, left = int(v[0] * 7), int(v[1] * 5)
        expected = begun.copy()
        cut = np.s_[top : top + 3, left : left + 3]
        expected[cut] = image[cut] + np.where(v[2:] < 0.5, -eps, eps)
        assert point == pytest.approx(expected, abs=1e-7)


# ---- L2 and L1


def rectangles(rows, columns, power):
    """Algorithm 2 as it stands: squares of growing side, each of height 1/r^power, cut off at the edge."""
    out = np.zeros((rows, columns))
    for r in range(1, max(rows // 2, columns // 2) + 2):
        top, left = rows // 2 - r + 1, columns // 2 - r + 1
        out[max(top, 0) : top + 2 * r - 1, max(left, 0) : left + 2 * r - 1] += 1 / r**power
    return out


@pytest.mark.parametrize(("norm", "power", "order"), [("l2", 2, 2), ("l1", 4, 1)])
@pytest.mark.parametrize("h", [1, 3, 5, 6, 9, 25])
def test_bumps(h, norm, power, order):
    parts = [rectangles(rows, h, power) for rows in (h // 2, h - h // 2)]
    parts = [p / np.linalg.norm(p.ravel(), order) if p.size else p for p in parts]
    eta = np.concatenate([parts[0], -parts[1]])
    eta /= np.linalg.norm(eta.ravel(), order)
    upright, lying = bump(h, norm).reshape(2, h, h)
    assert upright == pytest.approx(eta, abs=1e-6) and lying == pytest.approx(eta.T, abs=1e-6)


def moved(norm, x, z, eps, h, u):
    """Algorithm 3 for one image, in float64 and with slices; the last projection is left out."""
    delta, p = (z - x).astype(float), {"l2": 2, "l1": 1}[norm]
    size = lambda part: (np.abs(part) ** p).sum(axis=(0, 1)) ** (1 / p)  # noqa: E731
    height, width, channels = x.shape
    cuts = []
    for a, b in (u[0:2], u[2:4]):
        top, left = int(a * (height - h + 1)), int(b * (width - h + 1))
        cuts.append(np.s_[top : top + h, left : left + h])
    inside = np.zeros(x.shape, bool)
    for cut in cuts:
        inside[cut] = True
    freed = size(np.where(inside, delta, 0)) ** p
    unused = max(eps**p - (np.abs(delta) ** p).sum(), 0)
    eta = bump(h, norm)[int(u[4] < 0.5)].reshape(h, h, 1) * np.where(u[5:] < 0.5, -1, 1)
    old = delta[cuts[0]]
    new = eta + old / np.maximum(size(old), 1e-12)
    new *= (freed + unused / channels) ** (1 / p) / size(new)
    delta[cuts[1]] = 0
    delta[cuts[0]] = new * (channels if p == 1 else 1)
    return delta


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("share_of_budget", [0.6, 1.0])
def test_a_move_is_the_algorithm(norm, share_of_budget):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.45, 0.55, (30, 9, 7, 3)).astype(np.float32)
    ball, eps = norms.get(norm), np.float32(0.5)
    delta = rng.normal(size=x.shape) * (rng.random(x.shape) < 0.5)
    delta[3] = 0  # nothing to move yet
    delta *= share_of_budget * eps / np.maximum(ball.size(delta).numpy(), 1e-12)[:, None, None, None]
    z = (x + delta).astype(np.float32)
    u = rng.random((30, 8))
    for h in (3, 5):
        got = move_window(ball, x, z, eps, h, u) - x
        for j in range(30):
            full = x[j] + moved(norm, x[j], z[j], float(eps), h, u[j]).astype(np.float32)
            assert got[j] == pytest.approx(
                ball.project(full[None], x[j : j + 1], eps).numpy()[0] - x[j], abs=2e-6
            )
        assert ball.size(got).numpy() == pytest.approx(np.full(30, 0.5), rel=1e-4)


def test_the_start_is_bumps_of_the_whole_budget():
    rng = np.random.default_rng(2)
    x = np.full((6, 28, 28, 1), 0.5, np.float32)
    for norm, eps in (("l2", 1.0), ("l1", 5.0)):
        ball = norms.get(norm)
        delta = tiles(ball, x, np.float32(eps), rng.random((6, 2, 5, 5))) - x
        assert ball.size(delta).numpy() == pytest.approx(np.full(6, eps), rel=1e-4)
        assert len(np.unique(delta.reshape(6, -1), axis=0)) == 6
        assert (delta[:, [0, 26, 27]] == 0).all() and (delta[:, :, [0, 26, 27]] == 0).all()
    delta = tiles(norms.get("l2"), x, np.float32(1), rng.random((6, 2, 5, 5))) - x
    shapes = [s * b.reshape(5, 5) / 5 for b in bump(5, "l2") for s in (-1, 1)]
    for image in delta[..., 0]:
        seen = set()
        for top in range(1, 26, 5):
            for left in range(1, 26, 5):
                off = [np.abs(image[top : top + 5, left : left + 5] - s).max() for s in shapes]
                assert min(off) < 1e-6
                seen.add(int(np.argmin(off)))
        assert seen == {0, 1, 2, 3}


# ---- the search


@pytest.mark.parametrize("norm", NORMS)
def test_the_margin_only_rises_and_is_that_of_the_result(norm, small_net, grey):
    x, y = grey
    seen = []
    x_adv = square(small_net, x, y, eps=EPS[norm] / 5, norm=norm, steps=60, callback=seen.append)
    best = np.full(len(x), -np.inf)
    rises = 0
    for trace in seen:
        assert (trace.loss >= best[trace.index]).all()
        rises += (trace.loss > best[trace.index]).sum()
        best[trace.index] = trace.loss
    assert rises > 5 * len(x)
    z = models.predict_logits(small_net, x_adv)
    assert losses.margin(z, y).numpy() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_it_needs_no_gradient(norm, small_net, grey):
    """The same bits from a model that refuses one."""
    x = grey[0]
    w = tf.constant(np.random.default_rng(4).normal(size=(784, 10)), tf.float32)
    forward = lambda x: tf.reshape(tf.square(x), (-1, 784)) @ w  # noqa: E731
    y = models.predict_logits(forward, x).argmax(axis=1)

    @tf.custom_gradient
    def refusing(x):
        def gradient(*_):
            raise AssertionError("a gradient was taken")

        return forward(x), gradient

    options = {"eps": EPS[norm] / 2, "norm": norm, "steps": 20}
    assert (square(refusing, x, y, **options) == square(forward, x, y, **options)).all()
    with pytest.raises(AssertionError, match="a gradient was taken"):
        pgd(refusing, x, y, eps=0.1, steps=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restarts", [1, 3])
def test_queries_where_nothing_breaks(norm, restarts):
    """One for the image as it is; one for each start and one for each step."""
    x = np.full((9, 28, 28, 1), 0.5, np.float32)
    seen, box = [], BlackBox(stubborn())
    square(
        box, x, np.zeros(9, int), eps=EPS[norm], norm=norm, steps=11, restarts=restarts, callback=seen.append
    )
    assert len(seen) == 12 * restarts and (seen[-1].queries == 1 + 12 * restarts).all()
    assert box.queries == 9 * (1 + 12 * restarts)


def test_a_broken_image_is_asked_about_no_more(small_net, grey):
    x, y = grey
    y = y.copy()
    y[:3] = (y[:3] + 1) % 10  # misclassified from the first: one query each
    seen, box = [], BlackBox(small_net)
    x_adv = square(box, x, y, eps=0.05, steps=100, restarts=2, callback=seen.append)
    spent, ended = np.ones(len(x), int), {}
    for trace in seen:
        assert not set(trace.index) & set(ended)
        spent[trace.index] = trace.queries
        ended |= {j: trace.queries[k] for k, j in enumerate(trace.index) if trace.broken[k]}
    assert (spent[:3] == 1).all() and box.queries == spent.sum()
    broken = models.predict_logits(small_net, x_adv).argmax(axis=1) != y
    assert set(ended) == set(np.flatnonzero(broken)) - {0, 1, 2} and 5 < len(ended) < 35
    assert (spent[~broken] == 1 + 2 * 101).all() and len(set(ended.values())) > 5


@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_logits_is_no_matter(norm, small_net, grey):
    """Only the order of margins counts; 1,024 is a power of two, so every margin scales exactly."""
    x, y = grey
    plain, loud = (tf.function(lambda x, s=s: s * small_net(x, training=False)) for s in (1.0, 1024.0))
    options = {"eps": EPS[norm] / 5, "norm": norm, "steps": 40}
    assert (square(plain, x, y, **options) == square(loud, x, y, **options)).all()


def test_numbers_are_each_images_own(small_net, grey):
    x, y = grey
    twice = [square(small_net, x, y, eps=0.01, steps=30, seed=s) for s in (0, 1)]
    assert (twice[0] != twice[1]).any(axis=(1, 2, 3)).all()
    signs = np.sign(twice[0] - x).reshape(len(x), -1)
    assert len(np.unique(signs, axis=0)) == len(x)


def test_more_steps_than_a_block_draws_on(grey):
    """The numbers of a long run begin with those of a short one, and go on beyond a block."""
    seen = {}
    for steps in (130, 260):
        points = []
        square(stubborn(points), grey[0][:1], np.array([0]), eps=0.1, steps=steps, schedule=10**9)
        seen[steps] = np.stack(points[2:])
    assert (seen[260][:130] == seen[130]).all()
    assert (seen[260][100:200] != seen[260][:100]).any() and (seen[260][200:] != seen[260][:60]).any()


# ---- how strong it is


def test_reaches_the_optimum_of_a_linear_model_in_linf():
    rng = np.random.default_rng(5)
    w = rng.normal(size=(64, 1))
    x = rng.uniform(0.3, 0.7, (20, 8, 8, 1)).astype(np.float32)
    net = affine(np.concatenate([np.zeros((64, 1)), w], axis=1), [100, 0], (8, 8, 1))  # never broken
    x_adv = square(net, x, np.zeros(20, int), eps=0.05, steps=1500)
    gain = ((x_adv - x).reshape(20, -1) @ w).ravel()
    assert gain == pytest.approx(np.full(20, 0.05 * np.abs(w).sum()), rel=1e-3)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_searching_gains_twice_what_sampling_does(norm):
    """On a smooth linear model, against the best of as many random points of the same size."""
    grid = np.linspace(-1, 1, 12)
    w = np.exp(-4 * (grid[:, None] ** 2 + grid[None] ** 2)).reshape(-1, 1)
    x = np.full((10, 12, 12, 1), 0.5, np.float32)
    x += np.linspace(0, 0.01, 10, dtype=np.float32)[:, None, None, None]
    net = affine(np.concatenate([np.zeros((144, 1)), w], axis=1), [100, 0], (12, 12, 1))  # never broken
    best = 0.4 * (np.linalg.norm(w) if norm == "l2" else w.max())
    x_adv = square(net, x, np.zeros(10, int), eps=0.4, norm=norm, steps=1000, p_init=0.3)
    gain = ((x_adv - x).reshape(10, -1) @ w).ravel()
    order, rng = {"l2": 2, "l1": 1}[norm], np.random.default_rng(0)
    delta = rng.normal(size=(1000, 144))
    sampled = 0.4 * (delta @ w).ravel() / np.linalg.norm(delta, order, axis=1)
    assert (gain > 2 * sampled.max()).all() and (gain < 1.001 * best).all()


def test_in_l2_it_breaks_more_of_a_pgd_trained_net_than_pgd(mnist_test):
    """As published for nets trained in L∞: the gradient overestimates their L2 robustness."""
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-cnn-pgd")
    left = lambda x_adv: int((models.predict_logits(net, x_adv).argmax(axis=1) == y).sum())  # noqa: E731
    by_square = left(square(net, x, y, eps=2.0, norm="l2", steps=400))
    assert by_square <= left(pgd(net, x, y, eps=2.0, norm="l2")) - 10


def test_targets(mnist_test):
    x, y = mnist_test[0][:60], mnist_test[1][:60]
    net, t = models.load("mnist-cnn"), (mnist_test[1][:60] + 1) % 10
    seen = []
    x_adv = square(net, x, y, eps=0.3, steps=200, y_target=t, callback=seen.append)
    hit = models.predict_logits(net, x_adv).argmax(axis=1) == t
    assert hit.mean() > 0.3
    assert len(seen[-1].index) == (~hit).sum() or hit.all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l0"}, "norm='l0'.*'linf', 'l2', 'l1'"),
        ({"steps": -1}, "steps=-1"),
        ({"p_init": 0}, "p_init=0"),
        ({"p_init": 1.5}, "p_init=1.5"),
        ({"restarts": 0}, "restarts=0"),
        ({"schedule": 0}, "schedule=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises(ValueError, match=words):
        square(small_net, *images, eps=0.1, **options)


def test_no_restart_where_nothing_stands():
    def fragile(x):  # wrong as soon as a pixel moves
        off = tf.reduce_max(tf.abs(x - 0.5), axis=(1, 2, 3))
        return tf.stack([0.05 * tf.ones_like(off), off], axis=1)

    x = np.full((2, 8, 8, 1), 0.5, np.float32)
    x_adv = square(fragile, x, np.array([0, 0]), eps=0.1, steps=3, restarts=3)
    assert np.abs(x_adv - x) == pytest.approx(0.1, abs=1e-6)
