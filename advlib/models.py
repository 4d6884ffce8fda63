"""Models that return logits: the course's three networks, shipped checkpoints, and a door for your own.

A model, everywhere in advlib, is any callable from float32 images (N, H, W, C) in [0, 1] to logits (N, K). What it
does to its input (centring, scaling) is part of the model, so that ε always lives in pixel units. Lesson 01 trains
the three networks.

    >>> net = load("mnist-cnn")
    >>> predict_logits(net, x_test[:5]).argmax(axis=1)
    array([7, 2, 1, 0, 4])
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from advlib._checks import DAMAGED, ProbabilitiesNotLogitsError, check_images, check_logits
from advlib._tensorflow import keras, tf

__all__ = [
    "ARCHITECTURES", "ProbabilitiesNotLogitsError", "as_logits", "card", "cnn", "linear", "load", "mlp", "names",
    "predict_logits",
]  # fmt: skip

FOLDER = Path(__file__).parent / "checkpoints"

# Mean and standard deviation of MNIST's training pixels, to four digits.
MEAN, STD = 0.1307, 0.3081


def linear(seed=0, shape=(28, 28, 1), classes=10):
    """Multinomial logistic regression: one dense layer, 7,850 parameters. The oracle of lessons 01 and 03.

    seed: of the initial weights. Returns an untrained `keras.Model` with logits, normalisation inside.
    """
    return _sequential(
        "linear", shape, [keras.layers.Flatten(name="flatten"), _dense("logits", classes, seed)]
    )


def mlp(seed=0, shape=(28, 28, 1), classes=10, width=128):
    """The article's network, 784-128-10 with ReLU: 101,770 parameters. Logits; normalisation inside. Lessons 00 and 01.

    seed: of the initial weights; width: of the hidden layer.
    """
    layers = [
        keras.layers.Flatten(name="flatten"),
        _dense("hidden", width, seed, "relu"),
        _dense("logits", classes, seed + 1),
    ]
    return _sequential("mlp", shape, layers)


def cnn(seed=0, shape=(28, 28, 1), classes=10, width=1):
    """Two strided convolutions (16 and 32 filters 4×4) and two dense layers (100 and 10): 166,406 parameters.

    The net of Wong, Rice and Kolter 2020 (arXiv 2001.03994) for MNIST. Logits; normalisation inside. Lessons 01 to 05.
    seed: of the initial weights; width: factor on the 16, 32 and 100.
    """
    wide = [max(1, round(width * n)) for n in (16, 32, 100)]
    layers = [
        _conv("conv1", wide[0], seed),
        _conv("conv2", wide[1], seed + 1),
        keras.layers.Flatten(name="flatten"),
        _dense("hidden", wide[2], seed + 2, "relu"),
        _dense("logits", classes, seed + 3),
    ]
    return _sequential("cnn", shape, layers)


ARCHITECTURES = {"linear": linear, "mlp": mlp, "cnn": cnn}


def _dense(name, units, seed, activation=None):
    return keras.layers.Dense(
        units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed), name=name
    )


def _conv(name, filters, seed):
    glorot = keras.initializers.GlorotUniform(seed)
    return keras.layers.Conv2D(filters, 4, 2, "same", activation="relu", kernel_initializer=glorot, name=name)


def _sequential(name, shape, layers):
    normalise = keras.layers.Rescaling(1 / STD, -MEAN / STD, name="normalise")
    return keras.Sequential([keras.Input(shape), normalise, *layers], name=name)


def predict_logits(model, x, batch_size=144):
    """The model's logits on `x`, computed in inference mode and in padded batches of one fixed shape.

    x: float32 (N, H, W, C) in [0, 1]. Returns NumPy float32 (N, K). An image's logits are the same bits whatever the
    images around it and wherever it stands among them, where batch_size is a multiple of 48 (`Oracle` says why); another
    batch size may move them by about 1e-6. Raises TypeError or ValueError
    for images that are none, ProbabilitiesNotLogitsError for a model that ends in softmax. Used from lesson 01 on.

        >>> predict_logits(net, x_test).argmax(axis=1)
    """
    from advlib.attacks._loop import Oracle  # attacks import this module

    x = check_images(x)
    return check_logits(Oracle(model, batch_size).logits(x), len(x))


SOFTMAX = (keras.activations.softmax, tf.nn.softmax)
SIGMOID = (keras.activations.sigmoid, tf.nn.sigmoid)


def as_logits(model):
    """A Keras model that ends in probabilities, turned into one that returns logits; the model given is not changed.

    Handles a softmax or sigmoid as the last layer's activation or as a layer of its own; a single sigmoid output p
    becomes the two logits (0, log p/(1 − p)), so that class 1 is what the sigmoid meant; of several the largest names the class,
    before and after. A model that ends in no
    activation is returned as it is. The new model shares the layers, but for the last one, which it copies. Raises
    ValueError for one that ends in another activation or whose end cannot be seen (a subclassed model), and TypeError for
    what is no Keras model, all with what to do instead. Lesson 09 shows why probabilities hide gradients.

        >>> as_logits(keras.Sequential([..., keras.layers.Dense(10, activation="softmax")]))
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"as_logits was given a {type(model).__name__}: a Keras model was expected; for another callable, return the "
            "logits from it yourself, for example lambda x: features(x) @ w + b"
        )
    _check_precision(model)
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ValueError(
            f"{model.name} is a subclassed or unbuilt model, whose last layer as_logits cannot see: a Sequential or functional "
            "model, built, was expected; for example drop activation='softmax' in its call() and return the logits"
        )
    if len(outputs) != 1:
        raise ValueError(
            f"{model.name} has {len(outputs)} outputs: a model with one was expected, "
            "for example keras.Model(model.inputs, model.outputs[0])"
        )
    output = outputs[0]
    last = output._keras_history.operation
    source = last._inbound_nodes[output._keras_history.node_index].input_tensors[0]
    if isinstance(last, keras.Model):  # a model as the last layer of another
        raise ValueError(
            f"{model.name} ends in a nested model {last.name!r}: a layer was expected there; apply as_logits to {last.name!r} "
            "and rebuild the outer model around it"
        )
    activation = getattr(last, "activation", None)
    if type(last).__name__ in (
        "Softmax",
        "Sigmoid",
    ):  # keras.layers.Softmax, keras.ops.softmax, keras.ops.sigmoid
        ends, logits = type(last).__name__.lower(), source
    elif activation in (None, keras.activations.linear):
        return model
    elif activation not in (*SOFTMAX, *SIGMOID):
        raise ValueError(
            f"{model.name} ends in the activation {getattr(activation, '__name__', activation)!r}: softmax, sigmoid or none was "
            "expected; as a model, give advlib a function that returns logits"
        )
    else:
        ends = "softmax" if activation in SOFTMAX else "sigmoid"
        logits = source if isinstance(last, keras.layers.Activation) else _without_activation(last, source)
    if ends == "sigmoid" and logits.shape[-1] == 1:
        logits = keras.layers.Concatenate()([keras.layers.Rescaling(0.0)(logits), logits])
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, logits, name=f"{model.name}_logits")


def _without_activation(layer, source):
    """What `layer` makes of `source` before its activation; a copy, so that the layer stays as it is."""
    copy = type(layer).from_config(
        {**layer.get_config(), "activation": "linear", "name": f"{layer.name}_logits"}
    )
    logits = copy(source)
    copy.set_weights(layer.get_weights())
    return logits


def check_keras(model):
    """ValueError for a Keras model of reduced precision, whose gradients underflow to zero, and for one that ends in a sigmoid
    for each class, where they do so on images that it is sure of."""
    _check_precision(model)
    last = _last(model)
    if last is not None and _is_sigmoid(last) and (n := model.outputs[0].shape[-1]) > 1:
        raise ProbabilitiesNotLogitsError(
            f"{model.name} ends in {n} sigmoids: logits were expected, because the gradient of a saturated sigmoid is zero; "
            "for example advlib.models.as_logits(model)"
        )


def _last(model):
    """The operation that a Keras model ends in, also where it is that of a model inside; None if it cannot be seen."""
    outputs = getattr(model, "outputs", None) or ()
    last = outputs[0]._keras_history.operation if len(outputs) == 1 else None
    return _last(last) if isinstance(last, keras.Model) else last


def _is_sigmoid(operation):
    return type(operation).__name__ == "Sigmoid" or getattr(operation, "activation", None) in SIGMOID


def _check_precision(model):
    for layer in model._flatten_layers() if isinstance(model, keras.Model) else ():
        if layer.compute_dtype in ("float16", "bfloat16"):
            raise ValueError(
                f"{model.name} computes in {layer.compute_dtype}: float32 was expected, because small gradients "
                "vanish in half precision and the model would look more robust than it is; for example rebuild it under "
                "keras.config.set_dtype_policy('float32') and copy the weights with set_weights"
            )


def names():
    """The names of the shipped checkpoints, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def card(name):
    """What is known of a checkpoint: data, recipe, every seed tried, seconds, accuracies on all 10,000 test images.

    Returns a dict. Raises ValueError, which lists the names there are, for another name.

        >>> card("mnist-cnn-pgd")["measured"]["clean"]
    """
    if name not in names():
        raise ValueError(
            f"no checkpoint is called {name!r}: one of {', '.join(names())} was expected, for example models.load('mnist-cnn')"
        )
    try:
        about = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        kinds = {"architecture": str, "sha256": str, "measured": dict}
        missing = [name for name, kind in kinds.items() if not isinstance(about[name], kind)]
        if missing or about["architecture"] not in ARCHITECTURES:
            raise ValueError(f"without {', '.join(missing) or 'a known architecture'}")
    except DAMAGED as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"the card {name}.json is damaged ({why}); {_restore(name)}") from error
    return about


def load(name):
    """A shipped checkpoint as a `keras.Model` with logits; see `names()` and `card(name)`.

    The file's SHA-256 is compared with its card. Raises ValueError for an unknown name, which lists the known, and for a
    damaged file, with how to restore it. `python tools/train.py NAME` trains it again. Used from lesson 00 on.

        >>> net = load("mnist-cnn-pgd")
    """
    about = card(name)
    path = FOLDER / f"{name}.npz"
    if not path.is_file() or (found := hashlib.sha256(path.read_bytes()).hexdigest()) != about["sha256"]:
        state = (
            f"SHA-256 {found[:16]}…, {about['sha256'][:16]}… was expected" if path.is_file() else "missing"
        )
        raise ValueError(
            f"the checkpoint {path.name} is damaged or not the one shipped ({state}); {_restore(name)}"
        )
    try:
        model = ARCHITECTURES[about["architecture"]](**about.get("arguments", {}))
        with np.load(path, allow_pickle=False) as file:
            weights = [file[key] for key in sorted(file.files)]
        model.set_weights(weights)
    except DAMAGED as error:
        raise ValueError(
            f"the checkpoint {path.name} does not fit its card ({error}); {_restore(name)}"
        ) from error
    return model


def save(model, name, about):
    """Store weights and card under `name` among the shipped checkpoints; what `tools/train.py` calls."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(path, **{f"{i:02d}": w for i, w in enumerate(model.get_weights())})
    about = {
        **about,
        "parameters": int(model.count_params()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    save_card(name, about)


def save_card(name, about):
    """Store the card of a checkpoint; what `tools/train.py --measure` calls."""
    (FOLDER / f"{name}.json").write_text(
        json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _restore(name):
    folder = "advlib/checkpoints"
    return f"restore it with: git checkout -- {folder}/{name}.npz {folder}/{name}.json (in a clone), or install advlib again"
