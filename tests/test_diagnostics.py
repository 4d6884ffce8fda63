"""Flags; each check on results counted by hand; `diagnose` on models it was made for, and on others that it never saw."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import median_filter

from advlib import attacks, data, diagnostics, exhibits, models
from advlib._tensorflow import keras, tf
from advlib.diagnostics import Flag, FlagWarning, checks, diagnose


def which(n, *true):
    """bool (n,), True in the slices or places given."""
    out = np.zeros(n, bool)
    for i in true:
        out[i] = True
    return out


def colours(flags):
    return {flag.name: flag.colour for flag in flags}


def red(flags):
    return {flag.name for flag in flags if flag.colour == "red"}


# --- Flag


def test_a_flag_goes_through_a_dict_and_refuses_what_is_none():
    flag = checks.too_few_images(45, 50)
    assert Flag.from_dict(flag.to_dict()) == flag and "45 of 50" in str(flag)
    with pytest.raises(ValueError, match="colour='blue'"):
        Flag("blue", "a", "b", "c", "d")
    with pytest.raises(ValueError, match="meaning is empty"):
        Flag("red", "a", "b", " ", "d")
    with pytest.raises(TypeError, match="seen=3"):
        Flag("red", "a", 3, "c", "d")
    with pytest.raises(ValueError, match="is no flag"):
        Flag.from_dict({"colour": "red"})


def test_flags_raised_are_collected_and_other_warnings_are_shown():
    flag = Flag("amber", "few images", "50", "wide", "more")
    with pytest.warns(UserWarning) as shown, diagnostics.collect_flags() as flags:
        diagnostics.raise_flag(flag)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert flags == [flag] and [str(w.message) for w in shown] == ["another"]
    with pytest.warns(FlagWarning, match="few images"):
        diagnostics.raise_flag(flag)


# --- the checks, by hand


def test_every_check_is_exported_and_a_green_flag_asks_for_nothing():
    made = [name for name in dir(checks) if callable(getattr(checks, name)) and not name.startswith("_")]
    made = [name for name in made if getattr(checks, name).__module__ == checks.__name__]
    assert len(made) >= 18 and set(made) <= set(diagnostics.__all__)
    flag = checks.single_step_beats_iterative(which(100, 3), which(100, 3))
    assert flag.colour == "green" and flag.do == "nothing"


@pytest.mark.parametrize(("k", "colour"), [(0, "green"), (1, "amber"), (4, "amber"), (5, "red"), (90, "red")])
def test_witnesses_are_counted_by_image_and_an_image_or_two_is_no_alarm(k, colour):
    # the weaker attack breaks k images that the stronger does not; the stronger breaks ten others
    strong, weak = which(100, slice(90, 100)), which(100, slice(0, k))
    flags = [
        checks.single_step_beats_iterative(weak, strong),
        checks.random_search_wins(strong, weak, 50),
        checks.not_at_chance(strong, weak),
    ]
    assert [flag.colour for flag in flags] == [colour] * 3 and all(f"{k} of 100" in f.seen for f in flags)


@pytest.mark.parametrize(
    ("k", "n", "colour"),
    [(0, 100, "green"), (6, 100, "amber"), (9, 100, "amber"), (10, 100, "red"), (52, 1000, "amber"), (70, 1000, "red")],
)  # fmt: skip
def test_black_box_against_white_box(k, n, colour):
    found = checks.black_box_beats_white_box(which(100, slice(99, 100)), which(100, slice(0, k)), n)
    assert (found.colour, found.name) == (colour, "black box beats white box") and f"{k} of {n}" in found.seen
    # an attack that knows more is no worse for what it alone finds
    assert checks.black_box_beats_white_box(which(100, slice(0, 99)), which(100), n).colour == "green"


def test_what_is_no_list_of_broken_images_is_refused():
    with pytest.raises(ValueError, match=r"bool \(N,\)"):
        checks.single_step_beats_iterative(which(5), which(6))
    with pytest.raises(ValueError, match=r"bool \(N,\)"):
        checks.black_box_beats_white_box(np.zeros(5), np.zeros(5), 5)
    with pytest.raises(ValueError, match="n=3"):
        checks.black_box_beats_white_box(which(5), which(5), 3)


def test_zero_gradients():
    assert checks.zero_gradients(np.array([1e-9, 1.0])).colour == "green"
    assert checks.zero_gradients(np.array([1e-20, 1.0])).colour == "amber"
    for bad in (0.0, np.nan, np.inf):
        flag = checks.zero_gradients(np.array([1.0, bad, 1.0]))
        assert flag.colour == "red" and "1 of 3" in flag.seen
    assert checks.zero_gradients(None).colour == "red"


def test_silent_success_and_incomplete_optimisation():
    assert checks.silent_success(which(10, 3), which(10, 3, 4)).colour == "green"
    flag = checks.silent_success(which(10, 3, 5), which(10, 3))
    assert flag.colour == "red" and "1 of 10" in flag.seen
    half = which(100, slice(0, 50))
    longer = lambda k: half | which(100, slice(50, 50 + k))  # noqa: E731
    for k, colour in ((0, "green"), (1, "amber"), (2, "amber"), (3, "red")):
        assert checks.incomplete_optimisation(half, longer(k), longer(k)).colour == colour
        assert checks.incomplete_optimisation(half, half, longer(k)).colour == colour
    assert checks.incomplete_optimisation(half, half, half, which(50, slice(0, 26))).colour == "amber"
    assert checks.incomplete_optimisation(half, half, half, which(50, slice(0, 25))).colour == "green"
    assert checks.incomplete_optimisation(half, half, half, which(0)).colour == "green"


def test_success_and_eps():
    grows = np.stack([which(100, slice(0, k)) for k in (5, 20, 80)])
    falls = np.stack([which(100, slice(0, k)) for k in (40, 20, 0)])
    flat = np.stack([which(100, slice(0, 30))] * 3)
    low = np.stack([which(100, slice(0, k)) for k in (3, 2, 1)])
    found = {"grows": "green", "falls": "red", "flat": "amber", "low": "green"}
    for name, broken in {"grows": grows, "falls": falls, "flat": flat, "low": low}.items():
        assert checks.success_and_eps([0.1, 0.2, 0.3], {"PGD": broken}).colour == found[name], name
    # an attack that breaks a few at every ε, beside one that breaks most
    both = checks.success_and_eps([0.1, 0.2, 0.3], {"FGSM": low, "PGD": grows})
    assert both.colour == "red" and "FGSM breaks 3, 2, 1" in both.seen
    assert checks.success_and_eps([0.1, 0.2, 0.3], {"FGSM": low, "PGD": low}).colour == "green"


def test_unbounded_attack_fails():
    assert checks.unbounded_attack_fails(~which(100)).colour == "green"
    assert checks.unbounded_attack_fails(~which(100, 7)).colour == "amber"
    assert checks.unbounded_attack_fails(~which(100, 7, 8, 9)).colour == "red"


def test_random_output_and_training_mode():
    assert checks.random_output(1e-6).colour == "green" and checks.random_output(1e-3).colour == "red"
    assert checks.training_mode(1e-6).colour == "green" and checks.training_mode(0.1).colour == "red"
    assert checks.training_mode(0.1, random=0.1).colour == "amber"  # cannot be told


def test_unstable_predictions_and_constant_output():
    assert checks.unstable_predictions(np.full(9, 0.05)).colour == "green"
    assert checks.unstable_predictions(np.full(9, 0.2)).colour == "amber"
    jumps = checks.unstable_predictions(np.array([0, 0, 0, 0, 1, 1]))  # of most images nothing changes
    assert jumps.colour == "amber" and "33.3 %" in jumps.seen
    assert checks.constant_output(np.array([3, 3, 3]), np.array([1, 2, 3])).colour == "amber"
    assert checks.constant_output(np.array([3, 1, 3]), np.array([1, 2, 3])).colour == "green"
    assert checks.constant_output(np.array([3, 3, 3]), np.array([3, 3, 3])).colour == "green"


def test_probabilities_for_logits():
    z = np.random.default_rng(0).normal(size=(20, 10))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert checks.probabilities_for_logits(z).colour == "green"
    assert checks.probabilities_for_logits(p).colour == "red"
    assert checks.probabilities_for_logits(1 / (1 + np.exp(-z))).colour == "amber"
    assert checks.probabilities_for_logits(np.log(p)).colour == "green"
    by_chance = np.array([[0.5, 0.5], [0.9, 0.8]])  # in one row
    assert checks.probabilities_for_logits(by_chance).colour == "amber"


def test_wrong_range():
    assert checks.wrong_range(0.0, 1.0).colour == "green"
    assert checks.wrong_range(-0.42, 2.8).colour == "red" and checks.wrong_range(0, 255).colour == "red"
    right = which(200, slice(0, 60))
    flag = checks.wrong_range(0.0, 1.0, right, {"255·x": ~which(200, 3), "2·x - 1": right})
    assert flag.colour == "red" and "199 as 255·x" in flag.seen and "255 * x" in flag.do
    # of two scales that suit better it names the one that suits best, whichever was tried first
    some = which(200, slice(0, 120))
    for others in ({"255·x": some, "2·x - 1": ~which(200)}, {"2·x - 1": ~which(200), "255·x": some}):
        flag = checks.wrong_range(0.0, 1.0, right, others)
        assert "200 as 2·x - 1" in flag.seen and "2 * x - 1" in flag.do
    # a few images more are no other scale
    assert checks.wrong_range(0.0, 1.0, ~which(200, slice(0, 9)), {"255·x": ~which(200)}).colour == "green"


def test_too_few_images():
    for correct, n, colour in ((5, 5, "red"), (45, 50, "amber"), (88, 100, "amber"), (890, 1000, "green")):
        assert checks.too_few_images(correct, n).colour == colour
    assert "78.6 to 95.7 %" in checks.too_few_images(45, 50).seen
    with pytest.raises(ValueError, match="k=6"):
        checks.too_few_images(6, 5)


def test_evaluated_on_training_data(mnist_test):
    x = mnist_test[0][:200]
    assert checks.evaluated_on_training_data(x, mnist_test[0][200:400]).colour == "green"
    flag = checks.evaluated_on_training_data(x, (mnist_test[0][100:400] + np.float32(1e-7)).clip(0, 1))
    assert flag.colour == "red" and "100 of 200" in flag.seen
    assert checks.evaluated_on_training_data(x, (mnist_test[0][199:400],)).colour == "amber"
    with pytest.raises(ValueError, match="same shape"):
        checks.evaluated_on_training_data(x, np.zeros((3, 32, 32, 3), np.float32))


def test_no_white_box():
    assert checks.no_white_box({"PGD": "gradient", "transfer": "nothing"}).colour == "green"
    assert checks.no_white_box({"Square": {"knows": "scores"}}).colour == "amber"
    assert checks.no_white_box({"transfer": "nothing"}).colour == "red"
    for wrong in ({}, [("PGD", "gradient")]):
        with pytest.raises(ValueError, match="what each attack knows"):
            checks.no_white_box(wrong)
    with pytest.raises(ValueError, match="'everything' is nothing"):
        checks.no_white_box({"PGD": "everything"})


# --- diagnose


@pytest.fixture(scope="module")
def digits(mnist_test):
    return mnist_test[0][:200], mnist_test[1][:200]


@pytest.fixture(scope="module")
def clothes():
    d = data.load("fashion_mnist")
    return d.x_test[:200], d.y_test[:200]


@pytest.fixture(scope="module")
def net():
    return models.load("mnist-cnn")


def test_diagnose_finds_saturation_and_calls_a_weak_network_weak(net, digits):
    seen = []
    weak = diagnose(net, *digits, norm="linf", eps=0.3, images=30, callback=seen.append)
    assert {flag.colour for flag in weak} == {"green"} and [flag.name for flag in weak] == seen
    assert len(seen) == len(set(seen)) >= 15
    assert red(diagnose(exhibits.saturated(net), *digits, norm="linf", eps=0.3, images=30)) == {
        "zero gradients"
    }


def test_diagnose_finds_a_random_model(net, digits):
    flags = diagnose(exhibits.noisy(net, std=0.2, seed=0), *digits, norm="linf", eps=0.3, images=30)
    assert {"random output", "silent success"} <= red(flags)


def test_diagnose_finds_an_attack_that_was_cut_off():
    """A gradient that shows one pixel at a time, the darkest: one of seven after the other, PGD-80 gets far, PGD-40 does not."""

    @tf.function
    def darkest(x):
        lead = 20 * (tf.reduce_min(x, axis=(1, 2, 3)) - 0.55)
        return tf.stack([-lead, lead], axis=1)

    x = np.random.default_rng(0).uniform(0.49, 0.51, (110, 1, 7, 1)).astype(np.float32)
    x[::11] += np.float32(0.3)  # ten images that are wrong already, and count for nothing
    found = diagnose(darkest, x, np.zeros(110, int), norm="linf", eps=0.1, images=200)
    (flag,) = (flag for flag in found if flag.name == "incomplete optimisation")
    assert flag.colour == "red" and "of 100 images more" in flag.seen


def test_diagnose_finds_a_collapse_and_lets_the_same_flags_come_again(digits):
    collapsed = models.load("mnist-cnn-collapsed")
    once, twice = (diagnose(collapsed, *digits, norm="linf", eps=0.3, images=30) for _ in range(2))
    assert red(once) == {"success and ε"} and once == twice


def test_what_diagnose_sees_of_the_output_alone(net, digits):
    x, y = digits
    given = {"norm": "linf", "eps": 0.3, "images": 30}
    softmax = keras.Sequential([net, keras.layers.Softmax()])
    assert colours(diagnose(softmax, x, y, **given)) == {"probabilities for logits": "red"}

    def all_but_one(images):  # an image without an answer hides nothing of the others
        return np.where(np.all(images == x[0], axis=(1, 2, 3))[:, None], np.nan, softmax(images))

    assert colours(diagnose(all_but_one, x, y, **given)) == {"probabilities for logits": "red"}
    wants_bytes = lambda images: net(images / 255)  # noqa: E731
    found = diagnose(lambda images: wants_bytes(images) + 0.0, x, y, **given)
    assert "wrong range" in red(found[:2])
    rounded = lambda images: net(np.round(np.asarray(images)))  # noqa: E731
    found = diagnose(rounded, x, y, **given)
    assert red(found) == {"zero gradients"} and found[-1].name == "zero gradients"
    same = diagnose(models.load("mnist-cnn-narrow-pgd"), x, y, **given)
    assert colours(same)["constant output"] == "amber" and not red(same)
    trained_on = diagnose(rounded, x, y, train=(x[:150], y[:150]), **given)
    assert "evaluated on training data" in red(trained_on)


def test_diagnose_finds_a_model_without_answers():
    """To some images, to all, or to those at another scale, which is none that suits it better."""
    x = np.random.default_rng(0).uniform(0.3, 0.7, (60, 2, 2, 1)).astype(np.float32)
    y = np.arange(60) % 2
    other = lambda x, bad: np.where(np.c_[bad, bad], np.nan, [[-1.0, 1.0]] * len(x)).astype(np.float32)  # noqa: E731
    given = {"norm": "linf", "eps": 0.1, "images": 20}
    found = diagnose(lambda x: other(x, np.full(len(x), True)), x, y, **given)
    assert "the model returned NaN" in red(found) and colours(found)["constant output"] == "green"
    rising = lambda x: np.asarray(x)[:, 0, 0, 0] < np.asarray(x)[:, 0, 1, 0]  # noqa: E731 -- at any scale
    found = diagnose(lambda x: other(x, rising(x)), x, y, **given)
    assert [f.seen for f in found if f.colour == "red"] == [f"no class for {rising(x).sum()} of 60 images"]
    assert colours(found)["constant output"] == "amber"
    found = diagnose(lambda x: other(x, np.abs(np.asarray(x)).max(axis=(1, 2, 3)) > 1), x, y * 0, **given)
    assert not red(found)


@pytest.mark.parametrize(
    ("end", "words"),
    [((-1,), r"returned shape \(\d+,\).*for example"), ((-1, 1), "single sigmoid.*as_logits")],
)
def test_diagnose_refuses_a_single_output(end, words):
    x = np.full((8, 2, 2, 1), 0.5, np.float32)
    model = lambda x: 1 / (1 + np.exp(-np.asarray(x)[:, 0, 0, 0].reshape(end)))  # noqa: E731
    with pytest.raises(ValueError, match=words):
        diagnose(model, x, np.arange(8) % 2, norm="linf", eps=0.1)


@pytest.mark.parametrize("one", [{"images": 1}, {"batch_size": 1}])
def test_diagnose_does_not_judge_the_company_of_an_image_alone(one):
    x = np.random.default_rng(0).uniform(0.3, 0.7, (8, 2, 2, 1)).astype(np.float32)
    alone = lambda x: np.asarray(x).reshape(-1, 4) - np.asarray(x).mean()  # noqa: E731
    y = models.predict_logits(alone, x, batch_size=1).argmax(axis=1)
    given = {"norm": "linf", "eps": 0.01}
    assert "training mode" not in colours(diagnose(alone, x, y, **given, **one))
    assert colours(diagnose(alone, x, y, **given))["training mode"] == "red"


def test_diagnose_finds_batch_normalisation_in_training_mode(digits):
    keras.utils.set_random_seed(0)
    bn = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.BatchNormalization(),
         keras.layers.ReLU(), keras.layers.Dense(10)]
    )  # fmt: skip
    x = digits[0]
    y = models.predict_logits(bn, x).argmax(axis=1)
    mode = lambda model, y: colours(diagnose(model, x, y, norm="linf", eps=0.01, images=20))["training mode"]  # noqa: E731
    assert mode(lambda images: np.asarray(bn(images, training=False)), y) == "green"
    training = lambda images: np.asarray(bn(images, training=True))  # noqa: E731 -- no gradient, which cuts it short
    z = training(x[:20])
    assert mode(training, np.concatenate([z.argmax(axis=1), y[20:]])) == "red"


def test_diagnose_refuses_what_it_cannot_take(net, digits):
    x, y = digits
    for options, message in (
        ({"norm": "l0", "eps": 3}, "norm='l0'"), ({"norm": "linf", "eps": 8}, "eps=8"), ({"norm": "linf", "eps": 0}, "eps=0"),
        ({"norm": "linf", "eps": 0.1, "images": 0}, "images=0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            diagnose(net, x, y, **options)
    with pytest.raises(ValueError, match="range"):
        diagnose(net, 255 * x, y, norm="linf", eps=0.1)


# --- held out: built and trained otherwise than what the thresholds were chosen on
#
# Chosen on: mnist-cnn as it is, saturated, quantised, noisy and one-bit. After a look at mnist-cnn-pgd-strong, robust and yet
# better attacked by Square than by gradients, black box against white box went from 2 points to 5; after one at
# mnist-cnn-narrow-pgd, which gives one answer to all, constant output was added. `robust_otherwise` and `plain` came later.

SMALL_IMAGES = 50


def dropout_left_on(x, y):
    """Called with training=True at inference, on Fashion-MNIST."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dropout(0.4),
        keras.layers.Dense(10),
    ]
    model = fitted(keras.Sequential([keras.Input(x.shape[1:]), *layers]), x, y)
    return tf.function(lambda x: model(x, training=True))


def plain(x, y):
    """Batch normalisation and dropout, as a textbook has them."""
    keras.utils.set_random_seed(2)
    layers = [
        keras.Input(x.shape[1:]), keras.layers.Conv2D(16, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU(),
        keras.layers.Flatten(), keras.layers.Dropout(0.3), keras.layers.Dense(10),
    ]  # fmt: skip
    return fitted(keras.Sequential(layers), x, y)


def fitted(model, x, y):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x[:2000], y[:2000], epochs=2, verbose=0)
    return model


def resized(base):
    """Shrunk to a random size and padded at a random place."""
    rng = tf.random.Generator.from_seed(3)

    def model(x):
        size = rng.uniform((), 24, 29, tf.int32)
        top, left = (rng.uniform((), 0, 29 - size, tf.int32) for _ in range(2))
        return base(
            tf.ensure_shape(
                tf.image.pad_to_bounding_box(tf.image.resize(x, (size, size)), top, left, 28, 28), x.shape
            )
        )

    return model


def robust_otherwise(x, y):
    """PGD-trained: a network without convolutions, which no checkpoint of that kind is, on a tenth of the images."""
    from advlib import training

    trainer = training.PGD(models.mlp(seed=7), eps=0.1, steps=5, seed=7)
    trainer.compile(keras.optimizers.Adam(2e-3))
    trainer.fit(x[:6000], y[:6000], epochs=8, batch_size=100, verbose=0)
    return trainer.network


@tf.custom_gradient
def misleading(x):
    """x, with the gradient of another image's place: shuffled along the rows."""
    return tf.identity(x), lambda upstream: tf.reverse(upstream, axis=[1, 2])


@pytest.mark.full
def test_held_out_models_are_told_apart(mnist_test, clothes):
    """Every hidden gradient is red, no honest network is; one table, printed where it fails."""
    d, f = data.load("mnist"), data.load("fashion_mnist")
    digits, load = (mnist_test[0][:300], mnist_test[1][:300]), models.load
    cnn, fashion, mlp = load("mnist-cnn-wide"), load("fashion-cnn"), load("mnist-mlp")
    median = lambda x: fashion(median_filter(np.asarray(x), (1, 3, 3, 1)))  # noqa: E731
    hidden = {
        "logits × 50": (tf.function(lambda x: 50 * mlp(x)), digits, 0.1),
        "floor": (tf.function(lambda x: fashion(tf.floor(x * 8) / 8 + 0 * x)), clothes, 0.1),
        "stop_gradient": (tf.function(lambda x: fashion(tf.stop_gradient(x))), clothes, 0.1),
        "median filter in NumPy": (median, clothes, 0.1),
        "tanh": (tf.function(lambda x: tf.tanh(cnn(x))), digits, 0.3),
        "dropout left on": (dropout_left_on(f.x_train, f.y_train), clothes, 0.1),
        "random size": (tf.function(resized(cnn)), digits, 0.3),
        "collapsed": (load("mnist-cnn-collapsed"), digits, 0.3),
        "misleading": (tf.function(lambda x: fashion(misleading(x))), clothes, 0.1),
    }
    honest = {
        "trades": (load("mnist-cnn-trades"), digits, 0.3),
        "ibp": (load("mnist-cnn-ibp"), digits, 0.3),
        "pgd-strong": (load("mnist-cnn-pgd-strong"), digits, 0.3),
        "mlp": (mlp, digits, 0.1),
        "narrow": (load("mnist-cnn-narrow"), digits, 0.3),
        "fashion-pgd": (load("fashion-cnn-pgd"), clothes, 0.1),
        "one bit": (exhibits.one_bit(cnn), digits, 0.3),
        "plain": (plain(d.x_train, d.y_train), digits, 0.1),
        "robust otherwise": (robust := robust_otherwise(d.x_train, d.y_train), digits, 0.1),
    }
    found = {}
    for name, (model, images, eps) in (hidden | honest).items():
        flags = diagnose(model, *images, norm="linf", eps=eps, images=SMALL_IMAGES)
        found[name] = red(flags)
        print(name, *(f"{f.colour} {f.name}: {f.seen}" for f in flags if f.colour != "green"), sep="\n    ")
    # it is not honest for want of robustness to lose
    x, y = digits
    right = models.predict_logits(robust, attacks.pgd(robust, x, y, eps=0.1)).argmax(axis=1) == y
    assert right.mean() > 0.6
    assert not [name for name in hidden if not found[name]], found
    assert not [name for name in honest if found[name]], found


@pytest.mark.full
def test_the_demonstration_models_at_full_size(net, mnist_test):
    """Logits × 1000, rounding, noise, and robustness in one norm taken for that in another; and a PGD-trained network."""
    given = {"norm": "linf", "eps": 0.3}
    digits = mnist_test[0][:200], mnist_test[1][:200]
    assert "zero gradients" in red(diagnose(exhibits.saturated(net), *digits, **given))
    assert {"zero gradients", "black box beats white box"} <= red(
        diagnose(exhibits.quantised(net), *digits, **given)
    )
    assert "random output" in red(diagnose(exhibits.noisy(net, seed=0), *digits, **given))
    pgd_trained = models.load("mnist-cnn-pgd")
    assert not red(diagnose(pgd_trained, *digits, **given))
    assert "black box beats white box" in red(diagnose(pgd_trained, *digits, norm="l2", eps=2.0))
