"""Networks, as_logits on every ending, checkpoints and their cards, other backends and precisions."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from advlib import data, models
from advlib._tensorflow import keras, tf
from advlib.attacks import pgd

SHIPPED = models.FOLDER
X = np.random.default_rng(0).uniform(0, 1, (40, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize(("name", "parameters"), [("linear", 7_850), ("mlp", 101_770), ("cnn", 166_406)])
def test_architectures(name, parameters):
    net = models.ARCHITECTURES[name](seed=1)
    assert net.count_params() == parameters
    z = models.predict_logits(net, X)
    assert z.shape == (40, 10) and z.dtype == np.float32
    assert (z == models.predict_logits(models.ARCHITECTURES[name](seed=1), X)).all()
    assert not (z == models.predict_logits(models.ARCHITECTURES[name](seed=2), X)).any()


def test_normalisation_is_inside():
    net = models.linear(seed=0)
    w, b = net.get_weights()
    by_hand = ((X - 0.1307) / 0.3081).reshape(40, 784) @ w + b
    assert models.predict_logits(net, X) == pytest.approx(by_hand, abs=1e-4)


def test_logits_are_the_same_bits_in_any_company():
    net = models.load("mnist-cnn")
    x = data.load("mnist").x_test[:300]
    whole = models.predict_logits(net, x)
    assert (models.predict_logits(net, x[::-1].copy())[::-1] == whole).all()
    sevens = np.concatenate([models.predict_logits(net, x[i : i + 7]) for i in range(0, 70, 7)])
    alone = np.concatenate([models.predict_logits(net, x[i : i + 1]) for i in range(20)])
    assert (sevens == whole[:70]).all() and (alone == whole[:20]).all()


# ---- as_logits


def body():
    return [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(12, activation="relu")]


def functional(end):
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, end(keras.layers.Dense(10)(keras.layers.Flatten()(inputs))))


SOFTMAX = {
    "activation of the last layer": lambda: keras.Sequential(
        [*body(), keras.layers.Dense(10, activation="softmax")]
    ),
    "activation layer": lambda: keras.Sequential(
        [*body(), keras.layers.Dense(10), keras.layers.Activation("softmax")]
    ),
    "softmax layer": lambda: keras.Sequential([*body(), keras.layers.Dense(10), keras.layers.Softmax()]),
    "no bias": lambda: keras.Sequential(
        [*body(), keras.layers.Dense(10, use_bias=False, activation="softmax")]
    ),
    "functional": lambda: functional(keras.layers.Softmax()),
    "operation": lambda: functional(keras.ops.softmax),
}


@pytest.mark.parametrize("end", SOFTMAX)
def test_softmax_models_become_logit_models(end):
    net = SOFTMAX[end]()
    before = net(X).numpy()
    weights = [w.copy() for w in net.get_weights()]
    logits = models.as_logits(net)
    z = models.predict_logits(logits, X)
    assert tf.nn.softmax(z).numpy() == pytest.approx(before, abs=1e-6)
    assert (net(X).numpy() == before).all() and all(
        (a == b).all() for a, b in zip(weights, net.get_weights(), strict=True)
    )
    x_adv = pgd(logits, X, z.argmax(axis=1), eps=0.1)
    assert (models.predict_logits(logits, x_adv).argmax(axis=1) != z.argmax(axis=1)).any()


@pytest.mark.parametrize(
    "end",
    [
        [keras.layers.Dense(1, activation="sigmoid")],
        [keras.layers.Dense(1), keras.layers.Activation("sigmoid")],
    ],
)
def test_a_single_sigmoid_becomes_two_logits(end):
    net = keras.Sequential([*body(), *end])
    p = net(X).numpy().ravel()
    z = models.predict_logits(models.as_logits(net), X)
    assert z.shape == (40, 2)
    assert tf.nn.softmax(z).numpy()[:, 1] == pytest.approx(p, abs=1e-6)
    assert ((z.argmax(axis=1) == 1) == (p > 0.5)).all()


def test_logit_models_are_returned_as_they_are():
    net = models.mlp()
    assert models.as_logits(net) is net
    ends_in_pooling = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.GlobalAveragePooling2D()])
    assert models.as_logits(ends_in_pooling) is ends_in_pooling


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(x))


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: Subclassed(), ValueError, r"subclassed.*return the logits"),
        (lambda: keras.Sequential([keras.layers.Dense(10)]), ValueError, r"subclassed or unbuilt"),
        (
            lambda: functional(lambda z: [keras.layers.Softmax()(z), z]),
            ValueError,
            r"has 2 outputs: a model with one was expected, for example keras\.Model\(",
        ),
        (lambda: lambda x: x, TypeError, "a Keras model was expected"),
        (
            lambda: keras.Sequential([*body(), keras.layers.Dense(10, activation="tanh")]),
            ValueError,
            "'tanh'.*softmax, sigmoid or",
        ),
        (
            lambda: functional(keras.Sequential([keras.layers.Softmax()], name="inner")),
            ValueError,
            "nested model 'inner'",
        ),
    ],
)
def test_what_cannot_be_converted_says_what_to_do(model, error, words):
    with pytest.raises(error, match=words):
        models.as_logits(model())


def test_probabilities_are_refused():
    net = SOFTMAX["softmax layer"]()
    with pytest.raises(models.ProbabilitiesNotLogitsError, match="as_logits"):
        models.predict_logits(net, X)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_refused_by_name(policy):
    keras.config.set_dtype_policy(policy)
    try:
        net = models.mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ValueError, match=r"(?s)mlp computes in b?float16.*set_weights"):
        pgd(net, X, np.zeros(40, int), eps=0.1)


def test_another_backend_is_refused():
    code = "import advlib; advlib.models"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode and "KERAS_BACKEND=jax: advlib takes gradients with TensorFlow" in result.stderr


def test_importing_tensorflow_prints_nothing_and_leaves_its_settings_open():
    code = "import advlib; advlib.models; import tensorflow as tf; tf.config.threading.set_intra_op_parallelism_threads(1)"
    code += "; advlib.models.mlp()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == result.stderr == ""


# ---- checkpoints


@pytest.mark.parametrize("name", models.names())
def test_checkpoint_is_what_its_card_says(name, mnist_test):
    """Clean counts from shipped weights are exact; the card's own other figures are measured by tools/train.py."""
    card = models.card(name)
    net = models.load(name)
    most = 4_000_000 if "wide" in name else 1_000_000
    assert net.count_params() == card["parameters"] and (SHIPPED / f"{name}.npz").stat().st_size < most
    x, y = mnist_test if card["data"].startswith("mnist") else data.load("fashion_mnist")[2:]
    right = models.predict_logits(net, x).argmax(axis=1) == y
    assert int(right.sum()) == card["measured"]["clean"]
    assert int(right[:1000].sum()) == card["measured"]["clean_first_1000"]
    tried = card["seeds_tried"]
    scores = {row["seed"]: row["validation_score"] for row in tried}
    assert scores[card["chosen_seed"]] == max(scores.values())
    assert len(tried) >= (
        3 if name in ("mnist-mlp", "mnist-cnn", "mnist-cnn-pgd", "mnist-cnn-collapsed") else 1
    )
    assert "validation" in card["chosen_by"] and card["command"].startswith(f"python tools/train.py {name}")


def test_pgd_checkpoint_keeps_its_promise(mnist_test):
    """98.3 % clean and, of the first 1,000, 90 % under PGD-50 with 10 restarts at ε = 0.3 on its card; PGD-40 here."""
    measured = models.card("mnist-cnn-pgd")["measured"]
    assert measured["clean"] >= 9_830
    assert measured["pgd50x10_linf_0.3_first_1000"] >= 900
    net = models.load("mnist-cnn-pgd")
    x, y = mnist_test[0][:200], mnist_test[1][:200]
    left = (models.predict_logits(net, pgd(net, x, y, eps=0.3)).argmax(axis=1) == y).sum()
    assert 170 <= left <= 195


def test_unknown_checkpoint_lists_the_known():
    for call in (models.load, models.card):
        with pytest.raises(ValueError, match=f"'mnist-vgg'.*{', '.join(models.names())}"):
            call("mnist-vgg")


def other_weights(folder):
    shutil.copy(folder / "mnist-cnn.npz", folder / "mnist-mlp.npz")


def other_values(folder):
    path = folder / "mnist-mlp.npz"
    with np.load(path) as file:
        weights = {key: file[key] * 2 for key in file.files}
    np.savez_compressed(path, **weights)


def wrong_architecture(folder):
    card = json.loads((folder / "mnist-mlp.json").read_text(encoding="utf-8"))
    (folder / "mnist-mlp.json").write_text(json.dumps({**card, "architecture": "cnn"}), encoding="utf-8")


def pickled(folder):
    path = folder / "mnist-mlp.npz"
    np.savez(path, **{"00": np.array([{}], dtype=object)})
    card = json.loads((folder / "mnist-mlp.json").read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "mnist-mlp.json").write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        other_weights,
        other_values,
        wrong_architecture,
        pickled,
        lambda folder: (folder / "mnist-mlp.npz").unlink(),
        lambda folder: (folder / "mnist-mlp.npz").write_bytes((folder / "mnist-mlp.npz").read_bytes()[:-100]),
        lambda folder: (folder / "mnist-mlp.json").write_text("{", encoding="utf-8"),
        lambda folder: (folder / "mnist-mlp.json").write_text("{}", encoding="utf-8"),
        lambda folder: (folder / "mnist-mlp.json").write_text("[1]", encoding="utf-8"),
    ],
)
def test_damaged_checkpoints_are_never_believed(tmp_path, monkeypatch, damage):
    for path in SHIPPED.glob("mnist-*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)mnist-mlp.*restore it with: git checkout"):
        models.load("mnist-mlp")


@pytest.mark.parametrize("change", [{"architecture": "vgg"}, {"sha256": None}, {"measured": []}])
def test_damaged_cards_are_never_believed(tmp_path, monkeypatch, change):
    card = {**models.card("mnist-mlp"), **change}
    (tmp_path / "mnist-mlp.json").write_text(json.dumps(card), encoding="utf-8")
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    with pytest.raises(
        ValueError, match=r"the card mnist-mlp\.json is damaged.*restore it with: git checkout"
    ):
        models.card("mnist-mlp")


@pytest.mark.parametrize(
    "end", [keras.layers.Activation("sigmoid"), keras.layers.Dense(5, activation="sigmoid")]
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_sigmoid_for_each_class_is_no_logit(end, nested):
    """Their values do not sum to 1, so that only the model's end tells; the largest names the class before and after."""
    model = keras.Sequential([*body(), keras.layers.Dense(5), type(end).from_config(end.get_config())])
    outer = keras.Sequential([keras.Input((28, 28, 1)), model]) if nested else model
    x = np.random.default_rng(0).random((20, 28, 28, 1), np.float32)
    with pytest.raises(
        models.ProbabilitiesNotLogitsError, match=r"ends in 5 sigmoids: logits were expected.*as_logits"
    ):
        models.predict_logits(outer, x)
    p = model(x).numpy()
    z = models.predict_logits(models.as_logits(model), x)
    assert 1 / (1 + np.exp(-z)) == pytest.approx(p, abs=1e-6) and (z.argmax(axis=1) == p.argmax(axis=1)).all()


def test_a_normalisation_adapted_or_loaded_later_is_seen(tmp_path):
    """Keras keeps mean and variance as plain tensors, which a compiled function takes for constants."""

    def build():
        normal = keras.layers.Normalization(axis=None)
        return normal, keras.Sequential(
            [keras.Input((8, 8, 1)), normal, keras.layers.Flatten(), keras.layers.Dense(3)]
        )

    x = np.random.default_rng(0).random((20, 8, 8, 1), np.float32)
    normal, model = build()
    models.predict_logits(model, x)
    normal.adapt(x[:5])
    assert models.predict_logits(model, x) == pytest.approx(model(x).numpy(), abs=1e-5)
    model.save_weights(tmp_path / "a.weights.h5")
    _, other = build()
    models.predict_logits(other, x)
    other.load_weights(tmp_path / "a.weights.h5")
    assert models.predict_logits(other, x) == pytest.approx(model(x).numpy(), abs=1e-5)


def test_a_partial_keeps_the_mode_it_has_chosen():
    dropout = keras.layers.Dropout(0.5)

    def model(x, training=False):
        return tf.reshape(dropout(x, training=training), (len(x), -1)) * 4.0 - 1.0

    x = np.full((5, 2, 2, 1), 0.5, np.float32)
    always, never = partial(model, training=True), partial(model, training=False)
    assert (models.predict_logits(always, x) != models.predict_logits(always, x)).any()
    assert (models.predict_logits(never, x) == models.predict_logits(model, x)).all()


def test_a_function_with_a_mode_is_asked_in_inference_mode():
    dropout = keras.layers.Dropout(0.5)

    def model(x, training=True):
        return tf.reshape(dropout(x, training=training), (len(x), -1)) * 4.0 - 1.0

    x = np.full((5, 2, 2, 1), 0.5, np.float32)
    assert (models.predict_logits(model, x) == models.predict_logits(partial(model, training=False), x)).all()


def test_a_layer_of_ones_own_may_have_a_mean():
    class Centred(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = 0.1307

        def call(self, x):
            return x - self.mean

    net = keras.Sequential(
        [keras.Input((28, 28, 1)), Centred(), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    assert models.predict_logits(net, X).shape == (40, 3)


def test_a_model_whose_signature_cannot_be_read():
    class Foreign:
        __signature__ = 0  # inspect.signature raises TypeError

        def __call__(self, x):
            return tf.reshape(x, (len(x), -1)) * 4.0 - 1.0

    assert models.predict_logits(Foreign(), np.full((5, 2, 2, 1), 0.5, np.float32)).shape == (5, 4)


def test_a_model_with_state_is_asked_for_one_batch_after_the_other():
    seen = []

    def model(x):
        first = float(x[0, 0, 0, 0])
        time.sleep(0.05 * (first == 0))  # the first would come last if they ran together
        seen.append(first)
        v = tf.reshape(x, (-1, 1))
        return tf.concat([v, -v], axis=1)

    models.predict_logits(model, np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1, 1, 1), batch_size=2)
    assert len(seen) == 3 and seen == sorted(seen)
