"""Certificates: bounds that hold for every point tried, known values, and refusals by name."""

import inspect
from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from advlib import certify, models, pgd
from advlib._tensorflow import keras, tf
from advlib.attacks import BlackBox
from advlib.certify import crown, intervals, lipschitz, smoothing
from tests.conftest import affine


@pytest.fixture(scope="module")
def deep():
    """A net with every kind of layer that has an interval rule."""
    k = keras.layers
    net = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            k.Rescaling(-2.0, 0.5),
            k.ZeroPadding2D(1),
            k.Conv2D(
                4, 3, 2, "same", activation="relu", kernel_initializer=keras.initializers.GlorotUniform(1)
            ),
            k.BatchNormalization(),
            k.Activation("tanh"),
            k.MaxPooling2D(2, strides=1),
            k.Conv2D(
                6, 3, padding="valid", use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(2)
            ),
            k.LeakyReLU(negative_slope=0.1),
            k.AveragePooling2D(2),
            k.Flatten(),
            k.Dropout(0.5),
            k.Dense(8, "relu", kernel_initializer=keras.initializers.GlorotUniform(3)),
            k.Dense(5, kernel_initializer=keras.initializers.GlorotUniform(4)),
        ]
    )
    rng = np.random.default_rng(0)
    bn = net.layers[3]
    bn.set_weights(
        [rng.normal(0, 1, 4), rng.normal(0, 0.3, 4), rng.normal(0, 0.2, 4), rng.uniform(0.5, 2, 4)]
    )
    x = rng.random((40, 12, 12, 1), np.float32)
    return net, x, models.predict_logits(net, x).argmax(axis=1)


# ---- intervals


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_bounds_hold_for_random_and_for_attacked_points(deep, eps):
    net, x, y = deep
    low, high = (b.numpy() for b in intervals.bounds(net, x, eps))
    rng = np.random.default_rng(1)
    points = [np.clip(x + eps * rng.choice([-1, 1], x.shape), 0, 1).astype(np.float32) for _ in range(25)]
    points += [pgd(net, x, y, eps=eps, steps=10, loss=loss) for loss in ("ce", "margin")]
    for z in points:
        logits = models.predict_logits(net, z)
        assert (logits >= low - 1e-4).all() and (logits <= high + 1e-4).all()


def test_without_a_budget_the_bounds_are_the_logits_and_they_widen_with_it(deep):
    net, x, _ = deep
    low, high = (b.numpy() for b in intervals.bounds(net, x, 0.0))
    z = models.predict_logits(net, x)
    assert np.abs(low - z).max() < 1e-5 and np.abs(high - z).max() < 1e-5
    widths = [
        np.subtract(*reversed([b.numpy() for b in intervals.bounds(net, x, e)])) for e in (0.01, 0.05, 0.2)
    ]
    assert (widths[0] <= widths[1] + 1e-6).all() and (widths[1] <= widths[2] + 1e-6).all()
    assert widths[2].mean() > 2 * widths[0].mean()


def test_one_affine_layer_is_bounded_exactly():
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(16, 3)), rng.normal(size=3)
    x = rng.uniform(0.3, 0.7, (5, 4, 4, 1)).astype(np.float32)
    net = affine(w, b, (4, 4, 1))
    low, high = intervals.bounds(net, x, 0.1)
    middle = x.reshape(5, 16) @ w + b
    assert high.numpy() == pytest.approx(middle + 0.1 * np.abs(w).sum(axis=0), abs=1e-5)
    assert low.numpy() == pytest.approx(middle - 0.1 * np.abs(w).sum(axis=0), abs=1e-5)
    lead = middle[:, 1:] - middle[:, :1] + 0.1 * np.abs(w[:, 1:] - w[:, :1]).sum(axis=0)  # over class 0
    for margins in (intervals.worst_margins, crown.worst_margins):
        assert margins(net, x, np.zeros(5, int), 0.1).numpy()[:, 1:] == pytest.approx(lead, abs=1e-5)


def test_a_small_relu_net_by_brute_force():
    """2-2-2: the interval bound contains the true range, and reaches it where the hidden neurons do not share inputs."""
    net = keras.Sequential(
        [keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "relu"), keras.layers.Dense(2)]
    )
    net.set_weights([np.diag([2.0, -3.0]), np.array([-0.8, 1.0]), np.array([[1.0, -2], [1, 1]]), np.zeros(2)])
    x = np.array([[[[0.4], [0.5]]]], np.float32)
    grid = np.stack(np.meshgrid(*[np.linspace(v - 0.1, v + 0.1, 201) for v in (0.4, 0.5)]), -1).reshape(
        -1, 1, 2, 1
    )
    z = models.predict_logits(net, grid.astype(np.float32))
    low, high = (b.numpy()[0] for b in intervals.bounds(net, x, 0.1))
    assert low == pytest.approx(z.min(axis=0), abs=1e-5) and high == pytest.approx(z.max(axis=0), abs=1e-5)


def test_the_elided_last_layer_is_tighter_and_sound(deep):
    net, x, y = deep
    low, high = (b.numpy() for b in intervals.bounds(net, x, 0.02))
    plain = np.where(np.eye(5, dtype=bool)[y], -np.inf, high - low[np.arange(40), y][:, None])
    elided = intervals.worst_margins(net, x, y, 0.02).numpy()
    assert (elided <= plain + 1e-5).all() and (elided < plain - 1e-3).any()
    z = models.predict_logits(net, pgd(net, x, y, eps=0.02, loss="margin", steps=20))
    assert (z - z[np.arange(40), y][:, None] <= np.where(np.isinf(elided), 1e-9, elided + 1e-4)).all()


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-cnn", "mnist-cnn-pgd"])
def test_nothing_verified_is_broken(name, mnist_test):
    x, y = mnist_test[0][:200], mnist_test[1][:200]
    net = models.load(name)
    for eps in (0.002, 0.01):
        proved = intervals.verified(net, x, y, eps)
        left = models.predict_logits(net, pgd(net, x, y, eps=eps, steps=20, restarts=2)).argmax(axis=1) == y
        assert not (proved & ~left).any()
        assert proved.any() or eps > 0.002


def test_layers_without_a_rule_are_refused_by_name():
    net = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.LayerNormalization(name="odd")]
    )
    with pytest.raises(TypeError, match="'odd' is a LayerNormalization"):
        intervals.bounds(net, np.zeros((1, 4, 4, 1), np.float32), 0.1)
    net = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "gelu", name="bent")]
    )
    with pytest.raises(TypeError, match="'bent' has the activation gelu"):
        intervals.bounds(net, np.zeros((1, 4, 4, 1), np.float32), 0.1)

    class Twice(keras.layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    net = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), Twice(3, name="twice")])
    with pytest.raises(TypeError, match="'twice' is a Twice"):
        intervals.bounds(net, np.zeros((1, 4, 4, 1), np.float32), 0.1)
    a = keras.Input((4, 4, 1))
    v = keras.layers.Flatten()(a)
    branched = keras.Model(a, keras.layers.Dense(3)(v) + keras.layers.Dense(3)(v))
    with pytest.raises(TypeError, match="chain"):
        intervals.bounds(branched, np.zeros((1, 4, 4, 1), np.float32), 0.1)
    with pytest.raises(TypeError, match=r"keras\.Model was expected"):
        intervals.verified(lambda x: x, np.zeros((1, 4, 4, 1), np.float32), np.array([0]), 0.1)


# ---- CROWN and Lipschitz


def test_crown_is_sound_and_tighter_than_intervals_on_a_standard_net(mnist_test):
    x, y = mnist_test[0][:60], mnist_test[1][:60]
    net = models.load("mnist-mlp")
    for eps in (0.01, 0.03):
        box, lines = (m.worst_margins(net, x, y, eps).numpy() for m in (intervals, crown))
        others = ~np.isinf(box)
        assert (lines <= box + 1e-3)[others].mean() > 0.99 and lines[others].mean() < box[others].mean()
        z = models.predict_logits(net, pgd(net, x, y, eps=eps, loss="margin"))
        assert ((z - z[np.arange(60), y][:, None]) <= np.where(others, lines + 1e-3, 1e-9)).all()
    assert crown.verified(net, x, y, 0.03).sum() > intervals.verified(net, x, y, 0.03).sum()


def test_crown_is_exact_without_a_budget_and_where_no_neuron_can_switch(mnist_test):
    x, y = mnist_test[0][:20], mnist_test[1][:20]
    net = models.load("mnist-mlp")
    z = models.predict_logits(net, x)
    exact = np.where(np.eye(10, dtype=bool)[y], -np.inf, z - z[np.arange(20), y][:, None])
    assert crown.worst_margins(net, x, y, 0.0).numpy() == pytest.approx(exact, abs=1e-3)
    stable = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)]
    )
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    stable.set_weights([a, np.full(3, 10.0), b, np.zeros(2)])  # every neuron is on: an affine map
    x = np.full((1, 2, 2, 1), 0.5, np.float32)
    w = a @ (b[:, 1] - b[:, 0])
    lead = float(x.ravel() @ w + 10 * (b[:, 1] - b[:, 0]).sum())
    got = crown.worst_margins(stable, x, np.array([0]), 0.1).numpy()[0, 1]
    assert got == pytest.approx(lead + 0.1 * np.abs(w).sum(), abs=1e-4)


@pytest.mark.parametrize(
    ("t", "y", "j", "bound"),
    [
        (0.25, 0, 1, 0.25),  # x − h: with h ≥ x − t at most t, as at x = 1; with h ≥ 0 it would be 1
        (0.75, 0, 2, 0.00),  # −h: with h ≥ 0; with h ≥ x − t it would be t
        (0.25, 2, 0, 0.75),  # h itself: below the line from (0, 0) to (1, 1 − t)
        (0.75, 2, 0, 0.25),
        (0.25, 1, 0, 0.00),  # h − x, by the same line
    ],
)
def test_crown_by_hand(t, y, j, bound):
    """One pixel x in [0, 1] and the logits h = relu(x − t), x and 0: the lower line is the one that lies closer to relu."""
    k = keras.layers
    net = keras.Sequential([keras.Input((1, 1, 1)), k.Flatten(), k.Dense(2, "relu"), k.Dense(3)])
    # x itself is relu(x + 1) − 1
    net.set_weights([np.ones((1, 2)), np.array([-t, 1]), np.eye(2, 3), np.array([0.0, -1, 0])])
    x = np.full((1, 1, 1, 1), 0.5, np.float32)
    assert crown.worst_margins(net, x, np.array([y]), 0.5).numpy()[0, j] == pytest.approx(bound, abs=1e-5)


@pytest.mark.parametrize("method", [intervals, crown])
def test_proved_is_the_right_answer_up_to_the_boundary(method):
    net, x = half_plane(0.25, 0.1)
    y = np.array([1])
    assert method.verified(net, x, y, 0.099).all() and not method.verified(net, x, y, 0.101).any()
    assert not method.verified(net, x, 1 - y, 0.0).any()


def test_crown_refuses_convolutions():
    with pytest.raises(TypeError, match="conv1"):
        crown.verified(models.cnn(), np.zeros((1, 28, 28, 1), np.float32), np.array([0]), 0.1)


def test_the_norm_of_a_convolution_is_that_of_its_matrix():
    layer = keras.layers.Conv2D(5, 3, 2, "same", kernel_initializer=keras.initializers.GlorotUniform(7))
    layer.build((None, 8, 8, 2))
    unit = np.eye(128, dtype=np.float32).reshape(128, 8, 8, 2)
    matrix = tf.nn.conv2d(unit, layer.kernel, 2, "SAME").numpy().reshape(128, -1)
    exact = np.linalg.norm(matrix, 2)
    assert exact <= lipschitz.convolution(layer, (8, 8, 2)) <= 1.002 * exact


def test_the_lipschitz_constant_of_a_chain_is_the_product_of_its_layers():
    """Scaling by −3, a convolution that doubles, a diagonal matrix that stretches by at most 4: 24."""
    k = keras.layers
    net = keras.Sequential(
        [keras.Input((2, 2, 1)), k.Rescaling(-3.0, 0.5), k.Conv2D(1, 1), k.Flatten(), k.Dense(2)]
    )
    kernel = np.zeros((4, 2))
    kernel[0, 0], kernel[1, 1] = 3, 4
    net.set_weights([np.full((1, 1, 1, 1), 2.0), np.ones(1), kernel, np.ones(2)])
    assert lipschitz.constant(net) == pytest.approx(24, rel=3e-3)


def test_the_lipschitz_radius_is_below_every_distance_found(mnist_test):
    from advlib import ddn

    x, y = mnist_test[0][:100], mnist_test[1][:100]
    for name in ("mnist-mlp", "mnist-cnn"):
        net = models.load(name)
        safe = lipschitz.radius(net, x, y)
        found = np.linalg.norm((ddn(net, x, y, steps=50) - x).reshape(100, -1), axis=1)
        right = models.predict_logits(net, x).argmax(axis=1) == y
        assert (safe[~right] == 0).all() and (safe[right & (found > 0)] <= found[right & (found > 0)]).all()
        assert safe.max() > 0
    w = np.random.default_rng(0).normal(size=(16, 2))
    net = affine(
        np.concatenate([w[:, :1], -w[:, :1]], axis=1), [0, 0], (4, 4, 1)
    )  # two opposite rows: the bound is exact
    x = np.random.default_rng(1).uniform(0.4, 0.6, (5, 4, 4, 1)).astype(np.float32)
    z = models.predict_logits(net, x)
    exact = np.abs(z[:, 0] - z[:, 1]) / (2 * np.linalg.norm(w[:, 0]))
    assert lipschitz.radius(net, x, z.argmax(axis=1)) == pytest.approx(exact, rel=1e-4)


# ---- smoothing


def test_published_values():
    """All-success bounds and 990 of 1,000 at α = 0.001, one-sided (two-sided would give 0.97494)."""
    for n, radius in ((100, 1.5005), (1_000, 2.4633), (10_000, 3.1986), (100_000, 3.8115)):
        assert norm.ppf(smoothing.lower_bound(n, n, 0.001)) == pytest.approx(radius, abs=1e-4)
    assert smoothing.lower_bound(990, 1000, 0.001) == pytest.approx(0.97604, abs=1e-5)
    assert norm.ppf(smoothing.lower_bound(99_000, 100_000, 0.001)) == pytest.approx(2.290, abs=1e-3)
    assert smoothing.lower_bound(0, 100, 0.001) == 0


def test_the_bound_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    p, n = 0.9, 500
    over = smoothing.lower_bound(rng.binomial(n, p, 20_000), n, 0.001) > p
    assert over.sum() <= 38


def half_plane(sigma, distance):
    """A linear model, the class of x_0 > ½, and an image `distance` on the right side of it."""
    w = np.zeros((16, 2))
    w[0] = [-1, 1]
    net = affine(w, [0.5, -0.5], (4, 4, 1))
    x = np.full((1, 4, 4, 1), 0.5, np.float32)
    x[0, 0, 0, 0] += distance
    return net, x


def test_the_radius_of_a_half_plane_is_its_distance():
    net, x = half_plane(0.25, 0.3)
    c = smoothing.certify(net, x, sigma=0.25, samples=20_000)
    assert c.label[0] == 1 and 0.3 * 0.93 < c.radius[0] <= 0.3


def test_noise_is_not_clipped_and_has_its_deviation():
    """A model that votes 1 where a pixel at 0 went below −σ: 15.87 % of the time, never if noise were clipped."""
    w = np.zeros((16, 2))
    w[0] = [1, -1]
    net = affine(w, [0.25, -0.25], (4, 4, 1))
    (votes,) = smoothing._votes(net, np.zeros((1, 4, 4, 1), np.float32), 0.25, (20_000,), 0.001, 0, 500)
    assert votes[0, 1] / 20_000 == pytest.approx(norm.cdf(-1), abs=0.011)


def test_selection_and_estimation_are_independent():
    net, x = half_plane(0.25, 0.01)
    first, second = smoothing._votes(net, x, 0.25, (1000, 1000), 0.001, 0, 500)
    assert first.sum() == second.sum() == 1000 and (first != second).any()


def test_it_abstains_where_the_vote_is_close():
    net, x = half_plane(0.25, 0.0)
    c = smoothing.certify(net, x, sigma=0.25, samples=1000)
    assert c.label[0] == smoothing.ABSTAIN and c.radius[0] == 0
    assert smoothing.predict(net, x, sigma=0.25, samples=1000)[0] == smoothing.ABSTAIN
    net, x = half_plane(0.25, 0.4)
    assert smoothing.predict(net, x, sigma=0.25, samples=1000)[0] == 1


def test_the_test_behind_a_prediction_is_two_sided():
    """10 votes of 10 come by chance, either way, with probability 2/2**10 > 0.001; 11 of 11 with 2/2**11 < 0.001."""
    net, x = half_plane(0.01, 0.4)
    found = [smoothing.predict(net, x, sigma=0.01, samples=n, alpha=0.001)[0] for n in (10, 11)]
    assert found == [smoothing.ABSTAIN, 1]


def test_the_vote_depends_on_neither_place_nor_company(mnist_test):
    x, net = mnist_test[0][:4], models.load("mnist-mlp")
    whole = smoothing.certify(net, x, sigma=0.5, samples=700)
    for i in (3, 0):
        alone = smoothing.certify(net, x[i : i + 1], sigma=0.5, samples=700)
        assert alone.radius[0] == whole.radius[i] and alone.label[0] == whole.label[i]
    other = smoothing.certify(net, x, sigma=0.5, samples=700, seed=1)
    assert (other.share != whole.share).any()


def test_no_answer_is_no_vote():
    """Of 1,000 draws around 0 about half are positive in the first pixel, on which the model has no answer."""
    x = np.zeros((2, 4, 4, 1), np.float32)
    never = lambda x: np.full((len(x), 3), np.nan, np.float32)  # noqa: E731
    c = smoothing.certify(never, x, sigma=0.25, samples=1000)
    assert (c.label == smoothing.ABSTAIN).all() and (c.radius == 0).all()
    assert (smoothing.predict(never, x, sigma=0.25, samples=1000) == smoothing.ABSTAIN).all()
    half = tf.function(lambda x: tf.where(x[:, 0, 0] > 0, np.nan, 1.0) * [[0.0, 0.0, 2.0]])
    (votes,) = smoothing._votes(half, x, 0.25, (1000,), 0.001, 0, 500)
    assert (votes[:, :2] == 0).all() and votes[:, 2] == pytest.approx(500, abs=80)
    assert (smoothing.predict(half, x, sigma=0.25, samples=1000) == 2).all()


def test_a_black_box_counts_every_noisy_image():
    net, x = half_plane(0.25, 0.3)
    box = BlackBox(net)
    found = smoothing.certify(box, x, sigma=0.25, selection=30, samples=70, batch_size=40)
    assert box.queries == len(x) * (30 + 70) + 1  # one tells how many classes there are
    expected = smoothing.certify(net, x, sigma=0.25, selection=30, samples=70, batch_size=40)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_certified_accuracy_and_average_radius():
    c = smoothing.Certificates(np.array([1, 2, -1, 3]), np.array([0.5, 0.2, 0.0, 0.9]), np.zeros(4))
    y = np.array([1, 2, 0, 7])
    assert smoothing.certified_accuracy(c, y, [0, 0.2, 0.3, 0.6]).tolist() == [0.5, 0.5, 0.25, 0]
    assert smoothing.average_radius(c, y) == pytest.approx(0.7 / 4)
    above, below = (
        smoothing.Certificates(*(np.array(part) for part in ([2, 0], [0.5, 0.5], [0.9, 0.9]))),
        [1, 1],
    )
    assert (
        smoothing.certified_accuracy(above, below, 0.0) == 0 and smoothing.average_radius(above, below) == 0
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0}, "sigma=0"),
        ({"samples": 0}, "samples=0"),
        ({"alpha": 2}, "alpha=2"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, words, mnist_test):
    with pytest.raises(ValueError, match=words):
        smoothing.certify(models.load("mnist-mlp"), mnist_test[0][:1], **{"sigma": 0.25, **options})


def test_public_names():
    assert certify.__all__ == ["crown", "intervals", "lipschitz", "smoothing"]


K = keras.layers


@pytest.mark.parametrize(
    "parts",
    [
        [K.Dense(1), K.ReLU(max_value=1), K.Dense(2)],
        [K.Dense(1), K.ReLU(negative_slope=0.5), K.Dense(2)],
        [K.Dense(1), K.ReLU(threshold=0.5), K.Dense(2)],
        [K.Rescaling(2.0, -2.0), K.ReLU(), K.Dense(2)],
        [K.Dense(2, activation="relu")],
        [K.Dense(2), K.ReLU()],
        [K.Dense(2, activation=partial(keras.activations.relu, negative_slope=0.5)), K.Dense(2)],
    ],
    ids=["capped", "leaky", "threshold", "relu-first", "relu-last", "relu-layer-last", "partial"],
)
def test_crown_refuses_what_it_would_get_wrong(parts):
    """Each of these was once taken for a chain with plain ReLU, and "proved" what is false."""
    net = keras.Sequential([keras.Input((2, 2, 1)), K.Flatten(), *parts])
    with pytest.raises(TypeError):
        crown.verified(net, np.zeros((1, 2, 2, 1), np.float32), [0], 0.01)


@pytest.mark.parametrize(
    "part",
    [
        K.ReLU(negative_slope=5.0),
        K.Activation(partial(keras.activations.relu, negative_slope=5.0)),
        K.Activation("gelu"),  # up to 1.13
    ],
)
def test_lipschitz_refuses_a_slope_above_1(part):
    net = keras.Sequential([keras.Input((2, 2, 1)), K.Flatten(), K.Dense(4), part, K.Dense(2)])
    with pytest.raises(TypeError, match="was expected"):
        lipschitz.constant(net)


def test_crowns_matrices_are_the_model_with_two_scalings_in_front():
    k = keras.layers
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            k.Rescaling(2.0, 0.5),
            k.Rescaling(-3.0, 1.0),
            k.Flatten(),
            k.Dense(6, "relu"),
            k.Dense(4, bias_initializer="normal"),
        ]
    )
    x = np.random.default_rng(0).random((20, 3, 3, 1), np.float32)
    (first, a, _), (second, b, _) = crown.dense_layers(net)
    expected = np.maximum(x.reshape(20, -1) @ first + a, 0) @ second + b
    np.testing.assert_allclose(net(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "proof",
    [
        lambda net, x, y: crown.verified(net, x, y, 0.01),
        lambda net, x, y: intervals.verified(net, x, y, 0.01),
        lambda net, x, y: lipschitz.radius(net, x, y),
    ],
)
def test_labels_beyond_the_classes_prove_nothing(proof):
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    with pytest.raises(ValueError, match="10"):
        proof(models.mlp(seed=0), x, np.array([3, 10]))


def chain(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


@pytest.mark.parametrize("scale", [True, False])
def test_the_lipschitz_constant_of_batch_normalisation(scale):
    k = keras.layers
    norming = k.BatchNormalization(scale=scale, epsilon=0.5)
    net = chain((2, 2, 3), norming, k.Flatten())
    gamma, variance = np.float32([1.0, -3.0, 2.0]), np.float32([0.5, 3.5, 0.0])
    norming.set_weights([*([gamma] if scale else []), np.zeros(3), np.ones(3), variance])
    factor = (np.abs(gamma) if scale else 1.0) / np.sqrt(variance + 0.5)
    assert lipschitz.constant(net) == pytest.approx(factor.max(), rel=1e-5)


@pytest.mark.parametrize(("size", "strides", "allowed"), [(2, 2, True), (3, 2, False), (1, 2, False)])
def test_pooling_has_lipschitz_constant_1_where_windows_do_not_overlap(size, strides, allowed):
    k = keras.layers
    net = chain((6, 6, 1), k.MaxPooling2D(size, strides), k.Flatten())
    if allowed:
        assert lipschitz.constant(net) == 1
    else:
        with pytest.raises(TypeError, match="MaxPooling2D, for which there is no Lipschitz rule"):
            lipschitz.constant(net)


def test_bounds_begin_at_ball_and_box():
    net = chain((1, 3, 1), keras.layers.Flatten())
    low, high = intervals.bounds(net, np.float32([0.05, 0.5, 0.95]).reshape(1, 1, 3, 1), 0.1)
    np.testing.assert_allclose(low, [[0.0, 0.4, 0.85]], atol=1e-6)
    np.testing.assert_allclose(high, [[0.15, 0.6, 1.0]], atol=1e-6)


@pytest.mark.parametrize("proof", [crown.verified, intervals.verified])
def test_a_tie_is_not_verified(proof):
    net = affine(np.array([[1.0, 1.0], [2.0, 2.0]]), [0, 0], (1, 2, 1))
    x = np.random.default_rng(0).random((5, 1, 2, 1), np.float32)
    assert not proof(net, x, np.zeros(5, int), 0.0).any()


def test_smoothing_draws_by_default_as_its_source_does():
    """Cohen et al. 2019 choose the class from 100 draws, at level 0.001; the seed is 0."""
    of = {
        f: {k: v.default for k, v in inspect.signature(f).parameters.items()}
        for f in (smoothing.certify, smoothing.predict)
    }
    for defaults in of.values():
        assert defaults["alpha"] == 0.001 and defaults["seed"] == 0
    assert of[smoothing.certify]["selection"] == 100


# ---- a certificate holds for what was read and for nothing else


PROOFS = {
    "intervals": lambda net, x, y: intervals.verified(net, x, y, 0.01),
    "crown": lambda net, x, y: crown.verified(net, x, y, 0.01),
    "lipschitz": lipschitz.radius,
}
GREY = np.full((1, 4, 4, 1), 0.5, np.float32)


class Doubled:
    def call(self, inputs):
        return 2 * super().call(inputs)


class DoubledDense(Doubled, K.Dense): ...


class DoubledReLU(Doubled, K.ReLU): ...


class DoubledRescaling(Doubled, K.Rescaling): ...


class DoubledFlatten(Doubled, K.Flatten): ...


class DoubledConv(Doubled, K.Conv2D): ...


def own(name):
    """A function that doubles, but is called as one that the certificates know."""

    def function(v):
        return 2 * v

    function.__name__ = name
    return function


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize(
    "parts",
    [
        lambda: [K.Flatten(), DoubledDense(4, "relu"), K.Dense(2)],
        lambda: [K.Flatten(), K.Dense(4), DoubledReLU(), K.Dense(2)],
        lambda: [DoubledRescaling(2.0), K.Flatten(), K.Dense(2)],
        lambda: [DoubledFlatten(), K.Dense(2)],
        lambda: [DoubledConv(2, 3), K.Flatten(), K.Dense(2)],
        lambda: [K.Flatten(), K.Dense(4, own("relu")), K.Dense(2)],
        lambda: [K.Flatten(), K.Dense(4), K.Activation(own("relu")), K.Dense(2)],
        lambda: [K.Flatten(), K.Dense(4, "relu"), K.Dense(2, own("linear"))],
        lambda: [K.Flatten(), K.Dense(4, "relu", dtype="mixed_float16"), K.Dense(2)],
    ],
    ids=[
        "dense",
        "relu",
        "rescaling",
        "flatten",
        "conv",
        "named-relu",
        "named-layer",
        "named-linear",
        "float16",
    ],
)
def test_what_only_has_the_name_is_refused(parts, proof):
    with pytest.raises(TypeError, match="layer '"):
        proof(chain((4, 4, 1), *parts()), GREY, [0])


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
def test_a_quantised_model_is_refused(proof):
    net = chain((4, 4, 1), K.Flatten(), K.Dense(4, "relu"), K.Dense(2))
    proof(net, GREY, [0])
    net.quantize("int8")
    with pytest.raises(TypeError, match="computes in int8"):
        proof(net, GREY, [0])


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize("relu", ["relu", keras.activations.relu, keras.ops.relu, tf.nn.relu])
def test_relu_is_known_under_each_of_its_names(relu, proof, tmp_path):
    net = chain((4, 4, 1), K.Flatten(), K.Dense(4, relu), K.Dense(2))
    proof(net, GREY, [0])
    if relu == "relu":
        net.save(tmp_path / "net.keras")
        proof(keras.models.load_model(tmp_path / "net.keras"), GREY, [0])


def bright(v):
    return keras.ops.max(v, axis=(1, 2, 3), keepdims=True) > 2  # never on noise


class Planted(keras.Sequential):
    """Its `call` follows the layers on noise."""

    def call(self, v, training=None, mask=None):
        return super().call(keras.ops.where(bright(v), 0 * v, v), training=training)


class Called(keras.Sequential):
    def __call__(self, *args, **options):
        return 2 * super().__call__(*args, **options)


def functional(body):
    v = keras.Input((4, 4, 1))
    return keras.Model(v, body(v))


def small(kind):
    """Logits of 1e-6."""
    return kind(
        [
            keras.Input((4, 4, 1)),
            K.Flatten(),
            K.Dense(2, kernel_initializer=keras.initializers.Constant(1e-6)),
        ]
    )


def head():
    return chain((4, 4, 1), K.Flatten(), K.Dense(2))


NO_CHAINS = {
    "where": lambda: functional(lambda v: head()(keras.ops.where(bright(v), 1 - v, v))),
    "minimum": lambda: functional(lambda v: head()(keras.ops.minimum(v, 2.0))),
    "plus": lambda: functional(lambda v: K.Dense(2)((h := K.Flatten()(v)) + 0 * h)),
    "constant": lambda: functional(lambda v: K.Dense(2)(K.Flatten()(v) + np.float32(0))),
    "two-layers": lambda: functional(lambda v: K.Add()([K.Dense(2)(h := K.Flatten()(v)), K.Dense(2)(h)])),
    "two-outputs": lambda: functional(lambda v: [h := K.Flatten()(v), K.Dense(2)(h)]),
    "training": lambda: functional(lambda v: K.Dense(2)(K.Dropout(0.0)(K.Flatten()(v), training=True))),
    "nested": lambda: chain(
        (4, 4, 1), functional(lambda v: K.Flatten()(keras.ops.minimum(v, 2.0))), K.Dense(2)
    ),
    "nested-call": lambda: chain((4, 4, 1), Planted([keras.Input((4, 4, 1)), K.Flatten()]), K.Dense(2)),
    "call": lambda: Planted([keras.Input((4, 4, 1)), K.Flatten(), K.Dense(2)]),
    "small-call": lambda: small(Called),
    "unbuilt": lambda: keras.Sequential([K.Flatten(), K.Dense(2)]),
}


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize("make", NO_CHAINS.values(), ids=NO_CHAINS)
def test_what_is_between_the_layers_is_no_part_of_a_proof(make, proof):
    """Most of these compute on noise what their layers compute one after the other."""
    with pytest.raises(TypeError, match="not the chain of its layers"):
        proof(make(), GREY, [0])


def test_models_within_models_and_a_layer_called_twice_are_chains():
    twice = K.Dense(16, "relu")
    nets = [
        small(keras.Sequential),
        chain((4, 4, 1), K.Rescaling(2.0), head()),
        chain(
            (4, 4, 1), functional(lambda v: chain((4, 4, 1), K.Flatten())(v)), K.Dense(3, "relu"), K.Dense(2)
        ),
        functional(lambda v: K.Dense(2)(twice(twice(K.Flatten()(v))))),
    ]
    x = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    for net in nets:
        z, y = models.predict_logits(net, x), np.zeros(5, int)
        np.testing.assert_allclose(intervals.bounds(net, x, 0.0)[0], z, rtol=1e-4, atol=1e-7)
        lead = z[:, 1] - z[:, 0]
        np.testing.assert_allclose(crown.worst_margins(net, x, y, 0.0)[:, 1], lead, rtol=1e-4, atol=1e-6)


def test_crown_needs_a_flat_input():
    """Without Flatten the layer answers for each pixel by itself."""
    with pytest.raises(TypeError, match="is a Dense where CROWN-lite does not know it"):
        crown.verified(chain((4, 4, 1), K.Rescaling(2.0), K.Dense(2)), GREY, [0], 0.01)


# ---- float32


def scaled(scale, early):
    """z = ±s·w·(x − ½) on 256 pixels; `early`: through two ReLUs, which see the large sums before they cancel."""
    w = np.random.default_rng(3).normal(size=256) / 16
    w, rows = np.float32(scale * np.stack([w, -w], 1)), np.eye(2)
    b = -0.5 * w.sum(axis=0)
    if not early:
        return w, affine(w, b, (16, 16, 1))
    net = chain((16, 16, 1), K.Flatten(), K.Dense(2, "relu"), K.Dense(2))
    net.set_weights([w, b, rows, np.zeros(2)])
    return w, net


@pytest.mark.parametrize("method", [intervals, crown])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("scale", [1, 1000])
def test_no_proof_is_broken_at_its_edge(scale, early, method):
    """Images whose lead at the worst corner is 0 but for some 1e-7: what is proved stands at that corner."""
    w, net = scaled(scale, early)
    grid = 2.0**-20  # pixels and ε are multiples of it, so that x ± ε is exact in float32
    eps, lead = 52429 * grid, scale * np.append(np.linspace(-1e-6, 1e-6, 2000), np.full(20, 2e-4))
    y = np.arange(len(lead)) % 2
    w64, x = w.T[y].astype(float), np.random.default_rng(4).uniform(0.4, 0.6, (len(lead), 256))
    missing = lead + eps * np.abs(w64).sum(axis=1) - (w64 * (x - 0.5)).sum(axis=1)
    x += w64 * (missing / (w64**2).sum(axis=1))[:, None]
    x = (np.round(x / grid) * grid).reshape(-1, 16, 16, 1).astype(np.float32)
    corner = np.float32(x - eps * np.sign(w64).reshape(x.shape))
    assert (np.abs(corner.astype(float) - x) == eps).all()
    stands = models.predict_logits(net, corner).argmax(axis=1) == y
    proved = method.verified(net, x, y, eps)
    assert not (proved & ~stands).any() and not stands.all()
    assert proved[-20:].all()  # and nothing but the last digits is given away


@pytest.mark.parametrize("early", [False, True])
def test_no_point_within_the_lipschitz_radius_is_read_otherwise(early):
    w, net = scaled(1000, early)
    x = np.random.default_rng(4).uniform(0.4, 0.6, (600, 16, 16, 1)).astype(np.float32)
    y = models.predict_logits(net, x).argmax(axis=1)
    radius = lipschitz.radius(net, x, y)
    steps = radius[:, None] * -w[:, y].T / np.linalg.norm(w[:, 0])
    points = x + np.float32(steps).reshape(x.shape)
    inside = np.linalg.norm((points.astype(float) - x).reshape(600, -1), axis=1) <= radius
    assert inside.sum() > 100
    assert (models.predict_logits(net, points).argmax(axis=1) == y)[inside].all()


def test_bounds_rounded_outwards_hold_what_float64_computes(deep):
    net, x, _ = deep
    exact = keras.models.clone_model(
        net, clone_function=lambda part: type(part).from_config({**part.get_config(), "dtype": "float64"})
    )
    exact.set_weights(net.get_weights())
    low = high = tf.constant(x)
    v = tf.constant(x, tf.float64)
    for layer, twin in zip(net.layers, exact.layers, strict=True):
        low, high = intervals.propagate(layer, low, high, outward=True)
        v = twin(v)
        assert (low.numpy() <= v.numpy()).all() and (v.numpy() <= high.numpy()).all()
    assert 0 < (high - low).numpy().max() < 1e-3


@pytest.mark.parametrize("classes", [3, 5])
def test_one_scale_a_channel(classes):
    """On a linear model CROWN and intervals are both exact; the Lipschitz constant is that of the whole map, at least."""
    rng = np.random.default_rng(0)
    scaling = K.Rescaling([4.0, -1.0, 0.25], [-0.5, 0.0, 2.0])
    net = chain((4, 4, 3), scaling, K.Flatten(), K.Dense(classes))
    x, y = rng.uniform(0.2, 0.8, (6, 4, 4, 3)).astype(np.float32), rng.integers(classes, size=6)
    box, lines = (m.worst_margins(net, x, y, 0.1).numpy() for m in (intervals, crown))
    np.testing.assert_allclose(lines, box, rtol=1e-4, atol=1e-5)
    whole = np.tile([4.0, -1.0, 0.25], 16)[:, None] * net.layers[-1].kernel.numpy()
    assert np.linalg.norm(whole, 2) <= lipschitz.constant(net)
    assert lipschitz.constant(net) == pytest.approx(4 * np.linalg.norm(net.layers[-1].kernel.numpy(), 2))


def test_lipschitz_refuses_a_dilated_convolution():
    with pytest.raises(TypeError, match="Conv2D without dilation"):
        lipschitz.constant(chain((6, 6, 1), K.Conv2D(4, 2, dilation_rate=3), K.Flatten(), K.Dense(2)))


@pytest.mark.parametrize("proof", [crown.verified, intervals.verified])
def test_a_lead_that_huge_biases_may_swallow_is_no_proof(proof):
    """Of logits near 10⁶ float32 keeps sixteenths: a lead of an eighth counts only where the biases are small."""
    x, y = np.full((3, 2, 2, 1), 0.5, np.float32), np.zeros(3, int)
    weights = np.full((4, 2), 0.01)
    assert not proof(affine(weights, [1e6, 1e6 - 0.125], (2, 2, 1)), x, y, 0.0).any()
    assert proof(affine(weights, [1.0, 0.875], (2, 2, 1)), x, y, 0.0).all()
