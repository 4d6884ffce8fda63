"""Foreign models and data: each model here is plain Keras code, saved and opened again; nothing in a file ever runs."""

import io
import json
import os
import pickle
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from skimage.io import imsave

from advlib import data, loading
from advlib._tensorflow import keras, tf
from advlib.loading import Images, LoadError, load_data, load_model

N = 6
layers = keras.layers


@pytest.fixture(scope="module", autouse=True)
def _no_name_scope_is_left():
    """Keras keeps the name scope of a subclassed model that was first called inside a trace, for whatever is built next."""
    yield
    keras.utils.clear_session()


def images(shape, n=N, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (n, *shape)).astype(np.float32)


def given_images(shape, n=N):
    return Images(images(shape, n), np.zeros(n, np.int64), "test.npz")


def small(*after, shape=(8, 8, 1), classes=4, first=(), dtype="float32"):
    """A convolution and a dense layer; `first` and `after` around them."""
    convolution = layers.Conv2D(
        3, 3, activation="relu", kernel_initializer=keras.initializers.GlorotNormal(1)
    )
    dense = layers.Dense(
        classes, kernel_initializer=keras.initializers.GlorotNormal(2), bias_initializer="ones"
    )
    body = [*first, convolution, layers.Flatten(), dense, *after]
    return keras.Sequential([keras.Input(shape, dtype=dtype), *body])


def functional():
    x = keras.Input((8, 8, 1))
    h = layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    h = layers.Add()([h, x])  # no chain of layers
    return keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(h)))


def dropped():
    """Batch-norm with moving averages of its own, and dropout: only right in inference mode."""
    norm = layers.BatchNormalization()
    model = small(layers.Dropout(0.5), first=[norm])
    norm.set_weights([np.float32([v]) for v in (1.5, 0.2, 0.4, 0.3)])
    return model


# name → (model, what its output is: logits, or the probabilities of these)
MODELS = {
    "sequential": (small, "logits"),
    "functional": (functional, "logits"),
    "batch-norm and dropout": (dropped, "logits"),
    "softmax as activation": (lambda: small(layers.Dense(4, "softmax")), "softmax"),
    "softmax as layer": (lambda: small(layers.Softmax()), "softmax"),
    "one sigmoid": (lambda: small(layers.Dense(1, "sigmoid")), "sigmoid"),
    "RGB": (lambda: small(shape=(32, 32, 3)), "logits"),
    "2 classes": (lambda: small(classes=2), "logits"),
    "100 classes": (lambda: small(layers.Softmax(), classes=100), "softmax"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_file_gives_the_logits_of_its_model(name, tmp_path):
    make, ends = MODELS[name]
    model = make()
    model.save(tmp_path / "a model.keras")
    loaded = load_model(tmp_path / "a model.keras")
    shape = model.input_shape[1:]
    loaded = loading.fit(loaded, given_images(shape))
    z, expected = loaded.model(images(shape)).numpy(), model(images(shape), training=False).numpy()
    if ends == "softmax":
        np.testing.assert_allclose(log_softmax(z, axis=1), np.log(expected), atol=1e-4)
        assert not np.allclose(np.exp(z).sum(axis=1), 1)  # logits, and no logarithms of probabilities
    elif ends == "sigmoid":
        np.testing.assert_allclose(1 / (1 + np.exp(z[:, 0] - z[:, 1])), expected[:, 0], atol=1e-5)
    else:
        np.testing.assert_allclose(z, expected, atol=1e-5)
    assert loaded.name == "a model" and len(loaded.sha256) == 64
    assert ["the logits before it" in note for note in loaded.notes] == [True] * (ends != "logits")


SUBCLASSED = """
import keras

@keras.saving.register_keras_serializable(package="{package}")
class Net(keras.Model):
    def __init__(self, softmax=False, **options):
        super().__init__(**options)
        self.flatten, self.softmax = keras.layers.Flatten(), softmax
        self.dense = keras.layers.Dense(4, "softmax" if softmax else None)

    def build(self, shape):
        self.dense.build((None, 64))

    def call(self, x):
        return self.dense(self.flatten(x))

    def get_config(self):
        return super().get_config() | {{"softmax": self.softmax}}

def make():
    net = Net(name="of a function")
    net(keras.ops.zeros((1, 8, 8, 1)))
    return net

def nothing():
    return 3

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a module, in the current folder, that defines and registers a subclassed model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"nets_{request.node.name.replace('[', '_').replace(']', '')}"
    (tmp_path / f"{name}.py").write_text(SUBCLASSED.format(package=name))
    yield name
    for key in [key for key in keras.saving.get_custom_objects() if key.startswith(f"{name}>")]:
        del keras.saving.get_custom_objects()[key]
    sys.modules.pop(name, None)


def forget(module):
    del sys.modules[module]
    del keras.saving.get_custom_objects()[f"{module}>Net"]


def test_a_subclassed_model_needs_its_module(module, tmp_path):
    net = loading.import_module(module).make()
    expected = net(images((8, 8, 1))).numpy()
    net.save("net.keras")
    forget(module)
    with pytest.raises(LoadError, match=rf"needs '{module}>Net'.*--import {module}"):
        load_model("net.keras")
    assert module not in sys.modules  # the name in the file alone imports nothing
    loaded = loading.fit(load_model("net.keras", imports=[module]), given_images((8, 8, 1)))
    np.testing.assert_allclose(loaded.model(images((8, 8, 1))).numpy(), expected, atol=1e-6)
    assert loaded.notes == []


def test_a_subclassed_model_with_softmax_is_told_what_to_do(module):
    net = loading.import_module(module).Net(softmax=True)
    net(images((8, 8, 1)))
    net.save("net.keras")
    with pytest.raises(LoadError, match=r"net returns probabilities.*drop activation='softmax' in its call"):
        loading.fit(load_model("net.keras", imports=[module]), given_images((8, 8, 1)))


def test_a_subclassed_model_with_another_range(module):
    """Without a known shape, it stays compiled."""
    from advlib.attacks._loop import Oracle

    net = loading.import_module(module).make()
    net.save("net.keras")
    loaded = loading.fit(load_model("net.keras", input_range=(-1, 1)), given_images((8, 8, 1)))
    x = images((8, 8, 1))
    np.testing.assert_allclose(loaded.model(x).numpy(), net(2 * x - 1).numpy(), atol=1e-5)
    assert Oracle(loaded.model).compiles


def test_a_function(module):
    loaded = load_model(f"{module}:make")
    assert loaded.name == "of-a-function" and loaded.sha256 is None
    assert loaded.model(images((8, 8, 1))).shape == (N, 4)
    for name, message in {
        "missing": "has no function missing",
        "nothing": "returned int 3: a model was expected",
        "broken": "RuntimeError: no weights here",
    }.items():
        with pytest.raises(LoadError, match=message):
            load_model(f"{module}:{name}")
    with pytest.raises(LoadError, match=r"no_such_module cannot be imported \(ModuleNotFoundError"):
        load_model("no_such_module:make")


@pytest.mark.parametrize(
    ("text", "words"),
    [("raise RuntimeError('no GPU')", "RuntimeError: no GPU"), ("def make(", "SyntaxError")],
)
def test_a_module_that_fails_is_named_with_its_reason(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nets_that_fail.py").write_text(text)
    for source, imports in (("nets_that_fail:make", ()), ("mnist-mlp", ["nets_that_fail"])):
        with pytest.raises(LoadError, match=rf"nets_that_fail cannot be imported \({words}"):
            load_model(source, imports=imports)


def test_a_checkpoint_and_names_of_nothing(tmp_path):
    loaded = load_model("mnist-mlp")
    assert (loaded.name, loaded.notes) == ("mnist-mlp", [])
    with pytest.raises(FileNotFoundError, match=r"no such file; a \.keras file.*mnist-cnn-pgd"):
        load_model("mnist-mpl")
    with pytest.raises(FileNotFoundError, match=r"no such file; a model written by"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    with pytest.raises(LoadError, match=r"this is none.*save\('model.keras'\)"):
        load_model(tmp_path / "net.h5")


# --- ranges, types and shapes


def bytes_first(first):
    return lambda: small(first=[first()])


@pytest.mark.parametrize(
    "make, seen",
    [
        (bytes_first(lambda: layers.Rescaling(1 / 255)), r"begins with Rescaling\(0.003922\)"),
        (bytes_first(lambda: layers.Rescaling(1 / 127.5, -1)), r"begins with Rescaling"),
        (lambda: small(first=[keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])]), "begins with Rescaling"),
        (bytes_first(lambda: layers.Normalization(mean=120.0, variance=3600.0)), "begins with Normalization"),
        (lambda: small(first=[layers.Rescaling(1 / 255)], dtype="uint8"), "takes uint8"),
    ],
)  # fmt: skip
def test_made_for_bytes_is_refused_with_the_fix(make, seen, tmp_path):
    model = make()
    model.save(tmp_path / "m.keras")
    with pytest.raises(LoadError, match=seen + r".*--input-range 0 255 \(input_range=\(0, 255\)\)"):
        load_model(tmp_path / "m.keras")
    loaded = loading.fit(load_model(tmp_path / "m.keras", input_range=(0, 255)), given_images((8, 8, 1)))
    x = (np.arange(64).reshape(1, 8, 8, 1) / 255).astype(np.float32)  # whole bytes
    found = loaded.model(x, training=False)  # a random flip flips otherwise
    expected = model(np.rint(255 * x), training=False)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)
    assert any("from 0 to 255" in note for note in loaded.notes)
    with tf.GradientTape() as tape:
        z = tf.constant(x)
        tape.watch(z)
        top = tf.reduce_sum(loaded.model(z, training=False)[:, 0])
    assert np.abs(tape.gradient(top, z)).max() > 0


def test_no_range_is_suspected_without_reason(tmp_path):
    for i, first in enumerate([layers.Rescaling(3.2, -0.4), layers.Normalization(mean=0.4, variance=0.1)]):
        model = small(first=[first])
        model.save(tmp_path / f"{i}.keras")
        assert load_model(tmp_path / f"{i}.keras").notes == []


def test_a_range_of_0_1_insists(tmp_path):
    model = small(first=[layers.Rescaling(1 / 255)])
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", input_range=(0, 1))
    x = images((8, 8, 1))
    np.testing.assert_allclose(loaded.model(x).numpy(), model(x).numpy())
    assert loaded.notes == []


@pytest.mark.parametrize("bad", [(1, 0), (0, 0), (0, float("inf")), (0, 1, 2), "full"])
def test_a_range_that_is_none(bad):
    with pytest.raises(LoadError, match="two numbers, the lower first, were expected, for example 0 255"):
        load_model("mnist-mlp", input_range=bad)


def test_channels_first_and_range(tmp_path):
    """The same numbers as the model itself gives for the transposed images; compiled, and a gradient passes."""
    from advlib.attacks import fgsm
    from advlib.attacks._loop import Oracle

    model = keras.Sequential(
        [
            keras.Input((3, 6, 8)),
            layers.Permute((2, 3, 1)),
            layers.Conv2D(2, 3),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.save(tmp_path / "m.keras")
    with pytest.raises(
        LoadError, match=r"shape \(3, 6, 8\) and those of test.npz have shape \(6, 8, 3\).*--channels-first"
    ):
        loading.fit(load_model(tmp_path / "m.keras"), given_images((6, 8, 3)))
    loaded = load_model(tmp_path / "m.keras", input_range=(-1, 1), channels_first=True)
    loaded = loading.fit(loaded, given_images((6, 8, 3)))
    x = images((6, 8, 3))
    expected = model(2 * np.moveaxis(x, -1, 1) - 1).numpy()
    np.testing.assert_allclose(loaded.model(x).numpy(), expected, atol=1e-5)
    assert Oracle(loaded.model).compiles and len(loaded.notes) == 2
    y = expected.argmax(axis=1)
    assert (fgsm(loaded.model, x, y, eps=0.1) != x).any(axis=(1, 2, 3)).all()


def test_shapes_that_differ_are_both_named(tmp_path):
    small().save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    with pytest.raises(
        LoadError, match=r"m takes images of shape \(8, 8, 1\) and those of test.npz have shape \(8, 8, 3\)"
    ):
        loading.fit(loaded, given_images((8, 8, 3)))
    with pytest.raises(LoadError, match=r"channels first: np.moveaxis\(x, 1, -1\)"):
        loading.fit(load_model("mnist-mlp"), given_images((1, 28, 28)))


@pytest.mark.parametrize("shape", [(8, 8), (64,)])
def test_models_without_channels_and_of_flat_vectors(shape, tmp_path):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(4)])
    model.save(tmp_path / "m.keras")
    loaded = loading.fit(load_model(tmp_path / "m.keras"), given_images((8, 8, 1)))
    x = images((8, 8, 1))
    np.testing.assert_allclose(loaded.model(x).numpy(), model(x.reshape(N, *shape)).numpy(), atol=1e-6)
    assert len(loaded.notes) == 1 and str(shape) in loaded.notes[0]


def test_two_inputs_and_half_precision_are_refused(tmp_path):
    a, b = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Add()([a, b])))).save(tmp_path / "two.keras")
    with pytest.raises(LoadError, match="has 2 inputs and 1 outputs"):
        load_model(tmp_path / "two.keras")
    x = keras.Input((8, 8, 1))
    half = keras.Model(x, layers.Dense(2, dtype="float16")(layers.Flatten()(x)))
    half.save(tmp_path / "half.keras")
    with pytest.raises(ValueError, match="computes in float16"):
        load_model(tmp_path / "half.keras")


# --- SavedModel


def test_a_saved_model(tmp_path):
    """The serving signature of a Keras export: the same logits, compiled, with a gradient, and it travels by pickle."""
    from advlib.attacks import fgsm
    from advlib.attacks._loop import Oracle

    model = dropped()
    model.export(tmp_path / "net", verbose=False)
    loaded = loading.fit(load_model(tmp_path / "net"), given_images((8, 8, 1)))
    x = images((8, 8, 1))
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(loaded.model(x).numpy(), expected, atol=1e-5)
    assert loaded.name == "net" and len(loaded.sha256) == 64 and Oracle(loaded.model).compiles
    y = expected.argmax(axis=1)
    np.testing.assert_array_equal(fgsm(loaded.model, x, y, eps=0.1), fgsm(model, x, y, eps=0.1))
    again = pickle.loads(pickle.dumps(loaded.model))
    np.testing.assert_array_equal(again(x).numpy(), loaded.model(x).numpy())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere names of files are Unicode")
def test_a_saved_model_with_a_file_whose_name_is_no_unicode(tmp_path):
    dropped().export(tmp_path / "net", verbose=False)
    before = load_model(tmp_path / "net").sha256
    (tmp_path / "net" / os.fsdecode(b"caf\xe9.txt")).write_text("a note")
    assert len(load_model(tmp_path / "net").sha256) == 64 and load_model(tmp_path / "net").sha256 != before


def test_saved_models_that_do_not_serve(tmp_path):
    small(layers.Softmax()).export(tmp_path / "softmax", verbose=False)
    with pytest.raises(LoadError, match=r"softmax returns probabilities.*as_logits\(model\)\.export"):
        loading.fit(load_model(tmp_path / "softmax"), given_images((8, 8, 1)))

    def export(name, shape, dtype):
        module = tf.Module()
        module.f = tf.function(
            lambda x: {"z": tf.cast(x, tf.float32)}, input_signature=[tf.TensorSpec(shape, dtype)]
        )
        tf.saved_model.save(module, str(tmp_path / name), signatures={"serving_default": module.f})

    export("bytes", [None, 8], tf.uint8)
    with pytest.raises(LoadError, match=r"takes uint8 of shape.*no gradient passes through a cast"):
        load_model(tmp_path / "bytes")
    export("fixed", [1, 8], tf.float32)
    with pytest.raises(LoadError, match="takes batches of 1 only"):
        load_model(tmp_path / "fixed")
    (tmp_path / "bytes" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(LoadError, match="cannot be used"):
        load_model(tmp_path / "bytes")


# --- files that mean harm


def rewritten(path, change):
    """The same .keras file with another config.json; the path of it."""
    out = path.with_name(f"rewritten-{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "config.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(info.filename, content)
    return out


@pytest.fixture
def harm(tmp_path, monkeypatch):
    """(a .keras file with a Lambda whose code writes a file, that file)."""
    mark = tmp_path / "harm"
    monkeypatch.setenv("ADVLIB_TEST_MARK", str(mark))
    path = tmp_path / "evil.keras"
    bad = layers.Lambda(
        lambda x: [__import__("pathlib").Path(__import__("os").environ["ADVLIB_TEST_MARK"]).touch(), x][1]
    )
    small(bad).save(path)
    mark.unlink()
    return path, mark


def test_a_lambda_never_runs(harm):
    path, mark = harm
    with pytest.raises(
        LoadError, match=r"has a layer Lambda 'lambda.*holds Python code.*nothing of it was loaded.*--import"
    ):
        load_model(path)
    assert not mark.exists()
    keras.saving.load_model(path, safe_mode=False)(images((8, 8, 1)))
    assert mark.exists()  # the file does do harm where it is let


def nested(config):
    return {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"layer": config}}


@pytest.mark.parametrize("hide", [
    nested,
    lambda config: nested(nested({"anything": [[], {"at": ["all", config]}]})),
    lambda config: json.loads(json.dumps(config).replace('"module": "keras.layers", "class_name": "Lambda"',
                                                         '"module": "keras", "class_name": "layers.Lambda"')),
])  # fmt: skip
def test_a_hidden_lambda_never_runs(harm, hide):
    path, mark = harm
    path = rewritten(path, hide)
    with pytest.raises(LoadError, match=r"nothing of it was loaded"):
        load_model(path)
    assert not mark.exists()


def test_nothing_is_imported_or_fetched_for_a_file(tmp_path, monkeypatch):
    """A configuration may name any module: only Keras' own parts of models are looked up."""
    small().save(tmp_path / "m.keras")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "harmful.py").write_text("import pathlib; pathlib.Path(__file__).with_name('harm').touch()")

    def layer(**change):
        def edit(config):
            config["config"]["layers"][1] |= change
            return config

        return rewritten(tmp_path / "m.keras", edit)

    with pytest.raises(LoadError, match=r"needs 'Anything' \(of the module harmful\).*--import harmful"):
        load_model(layer(module="harmful", class_name="Anything", registered_name=None))
    for module, name in {
        "keras.utils": "get_file",
        "keras.src.utils.file_utils": "get_file",
        "keras": "utils.get_file",
    }.items():
        with pytest.raises(LoadError, match=r"is no part of a model: nothing of it was loaded"):
            load_model(layer(module=module, class_name="function", config=name, registered_name=name))
    with pytest.raises(LoadError, match=r"needs 'eval' \(of the module builtins\)"):
        load_model(layer(module="builtins", class_name="function", config="eval", registered_name="eval"))
    for name in ("TorchModuleWrapper", "TFSMLayer"):
        with pytest.raises(LoadError, match=rf"has a layer {name}"):
            load_model(layer(class_name=name))
    assert not (tmp_path / "harm").exists()
    assert "harmful" not in sys.modules


def test_a_loss_that_is_a_lambda_is_not_loaded(tmp_path):
    """Loss and metrics are left in the file: they are not needed."""
    model = small()
    model.compile("sgd", loss=lambda y, z: keras.ops.mean(z))
    with pytest.warns(UserWarning, match="lambda"):
        model.save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").model(images((8, 8, 1))).shape == (N, 4)


def test_damaged_keras_files(tmp_path):
    small().save(tmp_path / "m.keras")
    whole = (tmp_path / "m.keras").read_bytes()
    bad = tmp_path / "bad.keras"
    for content in (b"", b"PK", whole[:100], whole[: len(whole) // 2], whole[:-30], b"\0" * 5000):
        bad.write_bytes(content)
        with pytest.raises(
            LoadError, match=r"bad.keras cannot be read .*model.save\('model.keras'\) was expected"
        ):
            load_model(bad)
    for text in ("[]", "{", "3", "[" * 100_000, '{"class_name": 3, "config": []}'):
        with zipfile.ZipFile(bad, "w") as file:
            file.writestr("config.json", text)
        with pytest.raises(LoadError, match=r"bad.keras"):
            load_model(bad)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", " " * (loading.LARGEST_CONFIG + 1))
    with pytest.raises(LoadError, match="no model's has; not opened"):
        load_model(bad)


NAMES = st.sampled_from(
    ["Lambda", "Dense", "Sequential", "function", "Functional", "InputLayer", "__numpy__", "eval"]
)
PLAIN = st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=4) | NAMES
CONFIGS = st.recursive(
    PLAIN,
    lambda inside: st.lists(inside, max_size=3)
    | st.fixed_dictionaries(
        {"class_name": NAMES, "config": inside},
        optional={"module": st.sampled_from(["keras", "keras.layers", "builtins", "os", "keras.utils"]) | PLAIN,
                  "registered_name": PLAIN, "layers": inside, "name": PLAIN},
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=CONFIGS)
def test_any_configuration_is_refused_in_one_way(tmp_path, config):
    bad = tmp_path / "bad.keras"
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr("config.json", json.dumps(config))
    with pytest.raises(LoadError):
        load_model(bad)


# --- data


def test_bundled_data():
    test, train = load_data("mnist"), load_data("mnist", part="train")
    bundled = data.load("mnist")
    assert test.x[:5].tobytes() == bundled.x_test[:5].tobytes() and len(test.y) == 10_000
    assert train.x[:5].tobytes() == bundled.x_train[:5].tobytes()
    assert (test.shape, test.label_names) == ((28, 28, 1), list("0123456789"))
    assert load_data("fashion_mnist").label_names[9] == "ankle boot"


SAVE = {"stored": np.savez, "compressed": np.savez_compressed}


@pytest.mark.parametrize("how", SAVE)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4"])
def test_an_npz_file(how, dtype, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3))
    x = x.astype(np.uint8) if dtype == "uint8" else (x / 255).astype(dtype)
    SAVE[how](tmp_path / "t.npz", x=x, y=np.arange(20))
    found = load_data(tmp_path / "t.npz")
    expected = (x / np.float32(255) if dtype == "uint8" else x).astype(np.float32)
    assert (len(found.x), found.x.shape, found.shape, found.source) == (20, (20, 5, 4, 3), (5, 4, 3), "t.npz")
    for part in (
        slice(3, 9),
        slice(0, 2),
        slice(12, None),
        slice(None),
        slice(4, 5),
        slice(7, 7),
        slice(18, 99),
    ):
        got = found.x[part]
        assert got.dtype == np.float32 and np.array_equal(got, expected[part])
    assert found.y.dtype == np.int64
    few = load_data(tmp_path / "t.npz", limit=7)
    assert len(few.x) == len(few.y) == 7 and np.array_equal(few.x[5:99], expected[5:7])
    with pytest.raises(TypeError, match="a slice without step was expected"):
        found.x[3]


def test_names_axes_and_orders(tmp_path):
    x, y = images((4, 4, 1), 5)[..., 0], np.arange(5)[:, None].astype(np.uint8)
    np.savez(tmp_path / "t.npz", x_train=1 - x, y_train=y, x_test=np.asfortranarray(x), y_test=y)
    assert np.array_equal(load_data(tmp_path / "t.npz").x[:], x[..., None])
    assert np.array_equal(load_data(tmp_path / "t.npz", part="train").x[:], 1 - x[..., None])
    assert np.array_equal(load_data(tmp_path / "t.npz").y, range(5))
    np.savez_compressed(tmp_path / "t.npz", x=np.asfortranarray(x), y=y)
    with pytest.raises(LoadError, match=r"np\.ascontiguousarray"):
        load_data(tmp_path / "t.npz")


@pytest.mark.parametrize("how", SAVE)
def test_memory_stays_small(how, tmp_path):
    """Single images out of 100 that would fill 105 MB as floats: a slice, and what zipfile reads on the way to it."""
    x = np.zeros((100, 512, 512), np.uint8)
    x[:, 0, 0] = np.arange(100)
    SAVE[how](tmp_path / "t.npz", x=x, y=np.zeros(100, int))
    del x
    tracemalloc.start()
    found = load_data(tmp_path / "t.npz")
    seen = [round(255 * float(found.x[i : i + 1][0, 0, 0, 0])) for i in (60, 98, 3)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == [60, 98, 3]
    assert peak < 50e6


BAD = {
    "int64 images": ({"x": np.zeros((3, 4, 4), int), "y": range(3)}, r"x is a int64 array of shape \(3, 4, 4\): uint8 images"),
    "boolean images": ({"x": np.zeros((3, 4, 4), bool), "y": range(3)}, "uint8 images, or floats in"),
    "flat images": ({"x": np.zeros((3, 16), np.uint8), "y": range(3)}, r"\(3, 16\).*\(N, height, width, channels\)"),
    "no images": ({"x": np.zeros((0, 4, 4), np.uint8), "y": np.zeros(0, int)}, r"\(0, 4, 4\)"),
    "bytes as floats": ({"x": np.full((3, 4, 4), 255.0), "y": range(3)}, r"from 255 to 255.*the range \[0, 1\].*x / 255"),
    "normalised": ({"x": np.full((3, 4, 4), -0.4), "y": range(3)}, r"-0.4 to -0.4 among images 0 to 2.*belongs into the model"),
    "NaN": ({"x": np.full((3, 4, 4), np.nan), "y": range(3)}, r"from nan to nan"),
    "one-hot": ({"x": np.zeros((3, 4, 4)), "y": np.eye(3, dtype=int)}, r"these look one-hot: y.argmax"),
    "float labels": ({"x": np.zeros((3, 4, 4)), "y": np.zeros(3)}, "y is a float64 array"),
    "too few labels": ({"x": np.zeros((3, 4, 4)), "y": range(2)}, r"y has shape \(2,\).*\(3,\)"),
    "negative labels": ({"x": np.zeros((3, 4, 4)), "y": [-1, 0, 1]}, "labels from -1 to 1"),
    "other names": ({"images": np.zeros((3, 4, 4)), "y": range(3)}, "holds images, y: the arrays x and y were expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays(name, tmp_path):
    arrays, message = BAD[name]
    np.savez(tmp_path / "t.npz", **{key: np.asarray(value) for key, value in arrays.items()})
    with pytest.raises(LoadError, match=message):
        load_data(tmp_path / "t.npz")


def test_a_bad_pixel_further_on_is_found_when_read(tmp_path):
    x = np.zeros((200, 4, 4), np.float32)
    x[150, 0, 0] = 2
    np.savez(tmp_path / "t.npz", x=x, y=np.zeros(200, int))
    found = load_data(tmp_path / "t.npz")
    with pytest.raises(LoadError, match=r"from 0 to 2 among images 100 to 199"):
        found.x[100:200]


class Harm:
    """Pickled, it writes a file as it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'echo > "{self.mark}"',)


@pytest.mark.parametrize("which", ["x", "y"])
def test_nothing_is_unpickled(which, tmp_path):
    mark = tmp_path / "harm"
    arrays = {"x": np.zeros((3, 4, 4), np.uint8), "y": np.arange(3)}
    arrays[which] = np.array([Harm(mark)] * 3, object)
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(LoadError, match=rf"{which}.npy holds Python objects, which are never unpickled"):
        load_data(tmp_path / "t.npz")
    assert not mark.exists()
    np.load(tmp_path / "t.npz", allow_pickle=True)[which]
    assert mark.exists()  # the file does do harm where it is let


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder.*mnist, fashion_mnist"):
        load_data(tmp_path / "none.npz")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(LoadError, match=r"x.npy cannot be read .*np.savez"):
        load_data(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="limit=0"):
        load_data("mnist", limit=0)


def packed(save):
    file = io.BytesIO()
    save(file, x=np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), y=np.arange(2))
    return file.getvalue()


WHOLE = {how: packed(save) for how, save in SAVE.items()}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(how=st.sampled_from(list(SAVE)), cuts=st.data())
def test_any_damage_is_one_kind_of_error(tmp_path, how, cuts):
    content = bytearray(WHOLE[how])
    for _ in range(cuts.draw(st.integers(0, 4))):
        content[cuts.draw(st.integers(0, len(content) - 1))] = cuts.draw(st.integers(0, 255))
    content = content[: cuts.draw(st.integers(len(content) // 2, len(content)) | st.just(len(content)))]
    (tmp_path / "t.npz").write_bytes(content)
    try:
        found = load_data(tmp_path / "t.npz")
        x = found.x[:]
    except ValueError as error:
        assert "t.npz" in str(error) or "y has" in str(error)
    else:
        assert (
            x.dtype == np.float32 and x.ndim == 4 and x.min() >= 0 and x.max() <= 1 and len(x) == len(found.y)
        )


def pictures(folder, names, shape=(5, 4, 3)):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        imsave(folder / name, np.full(shape, i, np.uint8), check_contrast=False)


def test_a_folder_of_images(tmp_path):
    """Classes are the sorted names; the first n images hold each class in turn."""
    pictures(
        tmp_path,
        ["b dog/1.png", "b dog/2.PNG", "a cat/x.png", "a cat/y.png", "a cat/z.png", "c/1.png", ".git/1.png"],
    )
    (tmp_path / "a cat" / "notes.txt").write_text("not an image")
    found = load_data(tmp_path)
    assert found.label_names == ["a cat", "b dog", "c"]
    assert found.y.tolist() == [0, 1, 2, 0, 1, 0]
    assert np.rint(255 * found.x[:][:, 0, 0, 0]).tolist() == [2, 0, 5, 3, 1, 4]
    assert found.x[1:3].shape == (2, 5, 4, 3) and found.x[1:3].dtype == np.float32
    assert load_data(tmp_path, limit=3).y.tolist() == [0, 1, 2]


def test_a_folder_of_grey_jpegs(tmp_path):
    pictures(tmp_path, ["0/a.jpg", "1/a.jpeg"], shape=(16, 16))
    found = load_data(tmp_path)
    assert found.shape == (16, 16, 1) and found.y.tolist() == [0, 1]


def test_bad_folders_name_the_file(tmp_path):
    with pytest.raises(LoadError, match="holds no images by class"):
        load_data(tmp_path)
    pictures(tmp_path, ["0/a.png", "1/a.png"])
    pictures(tmp_path, ["1/b.png"], shape=(5, 5, 3))
    with pytest.raises(
        LoadError, match=r"1.b.png has shape \(5, 5, 3\): that of .*0.a.png, \(5, 4, 3\), was expected"
    ):
        load_data(tmp_path)
    (tmp_path / "1" / "b.png").write_bytes(b"no image")
    with pytest.raises(LoadError, match=r"1.b.png cannot be read"):
        load_data(tmp_path)
    pictures(tmp_path, ["1/b.png"], shape=(5, 4, 4))
    with pytest.raises(LoadError, match=r"b.png is a uint8 image of shape \(5, 4, 4\).*without transparency"):
        load_data(tmp_path)
