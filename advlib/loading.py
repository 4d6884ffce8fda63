"""Models and images from elsewhere: what `advlib audit` takes, opened without running or unpickling what is in a file.

    >>> loaded = load_model("classifier.keras", input_range=(0, 255))
    >>> images = load_data("test.npz")
    >>> loaded = fit(loaded, images)                       # shapes compared, logits seen
    >>> advlib.audit(loaded.model, images.x, images.y, norm="linf", eps=8 / 255)

`load_model` returns a model as the rest of advlib takes it, from images (N, H, W, C) in [0, 1] to logits, and notes that
say what was changed for that. `load_data` returns images that are read slice by slice. Lesson 13.
"""

import contextlib
import hashlib
import importlib
import json
import math
import os
import re
import struct
import sys
import warnings
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from advlib._checks import (
    DAMAGED,
    ProbabilitiesNotLogitsError,
    check_choice,
    check_labels,
    check_number,
    describe,
)

__all__ = ["Images", "LoadError", "Loaded", "fit", "import_module", "load_data", "load_model"]

LARGEST_CONFIG = 64 * 2**20  # bytes of a config.json, a thousand times that of a large network
# Layers whose configuration holds code, or the address of code, and what they hold.
CODE = {
    "Lambda": "Python code, which runs when the model is called",
    "__lambda__": "Python code, which runs when the model is called",
    "TFSMLayer": "the address of a graph outside the file",
    "TorchModuleWrapper": "a pickle, which runs code when it is read",
    "JaxLayer": "a function outside Keras",
    "FlaxLayer": "a function outside Keras",
}
# What a model is made of. Other parts of Keras read files and addresses, which a configuration must not ask for.
MODELLING = {
    "activations", "applications", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models",
    "ops", "optimizers", "quantizers", "random", "regularizers",
}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg")


class LoadError(ValueError):
    """A model or data file that cannot be used, with what to do about it."""


@dataclass
class Loaded:
    """A model and where it comes from.

    model: callable, images (N, H, W, C) in [0, 1] → logits. name: for people. sha256: of the file or folder, None for a model
    made by a function. notes: what was changed so that it returns logits of such images. reason: why logits were not looked
    for where it may return probabilities; empty if they were.
    """

    model: object
    name: str
    sha256: str | None = None
    notes: list = field(default_factory=list)
    reason: str = ""


# --- models


def load_model(source, *, input_range=None, channels_first=False, imports=()):
    """The model that `source` names, as a `Loaded`: images (N, H, W, C) in [0, 1] → logits.

    source: a `.keras` file; a folder with a SavedModel, whose serving signature returns logits; `package.module:function`, a
    function without arguments that returns a model (the current folder can be imported from); or the name of a shipped
    checkpoint. input_range: (low, high) of the pixels the model was made for, if not (0, 1); channels_first: it takes
    (N, C, H, W). imports: modules that register the model's own classes with Keras.

    A `.keras` file is read in Keras' safe mode, and its configuration before that: a Lambda layer, whose code would run, is
    refused, and so is a class that is neither Keras' nor registered. A SavedModel is a program too, one of TensorFlow
    operations, and a function is whatever it is: take both only from people you trust. A model that ends in softmax or in one
    sigmoid is converted by `models.as_logits`. Raises ValueError (LoadError) or FileNotFoundError, with what to do, also for a
    model that was made for pixels from 0 to 255 where no input_range is given.

    Sources: Keras' advisories CVE-2024-3660 and CVE-2025-1550 on code in model files. Lesson 13.

        >>> load_model("mnist-cnn-pgd").notes
        []
    """
    input_range = None if input_range is None else _check_range(input_range)
    for name in imports:
        import_module(name)
    source = str(source)
    path = Path(source)
    if path.suffix == ".keras":
        loaded = _keras_file(path)
    elif (path / "saved_model.pb").is_file():
        loaded = _saved_model(path)
    elif re.fullmatch(r"[^\W\d][\w.]*:\w+", source) and not path.exists():
        loaded = _from_function(source)
    else:
        loaded = _checkpoint(source, path)
    return _adapted(loaded, input_range, channels_first)


def import_module(name):
    """The module `name`, looked for in the current folder too; LoadError where it cannot be imported, with its reason."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module of the user's may raise anything
        raise LoadError(
            f"{name} cannot be imported ({_one_line(error)}): the name of a module that Python finds from {os.getcwd()} was "
            "expected, for example package.module"
        ) from error


def fit(loaded, images, batch_size=144):
    """The same `Loaded`, seen to take these images and to return logits.

    A model of (H, W) or of flat vectors gets its images reshaped, and a note says so. Raises LoadError where the shapes
    differ, with both, and where the model returns probabilities. An image on which the model raises is left to the audit.
    """
    from advlib.models import predict_logits

    model, have, want = loaded.model, tuple(images.shape), _input_shape(loaded.model)
    if want is not None and not _same(want, have):
        if None in want or want not in ((math.prod(have),), have[:2] if have[2] == 1 else None):
            raise LoadError(
                f"the model {loaded.name} takes images of shape {_shown(want)} and those of {images.source} have shape "
                f"{have}: the same was expected (height, width, channels){_hint(want, have)}"
            )
        from advlib._tensorflow import keras

        model = _behind([keras.layers.Reshape(want)], model, have)
        how = "flattened in the order height, width, channels" if len(want) == 1 else "without channel axis"
        loaded = replace(loaded, model=model, notes=[*loaded.notes, f"takes shape {want}: images {how}"])
    try:
        predict_logits(model, images.x[: min(len(images.y), batch_size)], batch_size)
    except ProbabilitiesNotLogitsError as error:
        raise LoadError(
            f"the model {loaded.name} returns probabilities: logits were expected, because the gradient of a saturated softmax "
            f"is zero. {loaded.reason or 'Leave the softmax out, for example advlib.models.as_logits(model)'}"
        ) from error
    except Exception as error:
        # on which images it fails is the audit's business, but one number an image is no classifier's answer
        if "one number an image" in str(error):
            raise LoadError(f"the model {loaded.name}: {error}") from error
    return loaded


def _keras_file(path):
    """Reads the configuration first and refuses code, then lets Keras load the file in safe mode."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; a model written by model.save('{path.name}') was expected"
        )
    with _reading(path, "a model written by model.save('model.keras')"):
        with zipfile.ZipFile(path) as file:
            about = file.getinfo("config.json")
            if about.file_size > LARGEST_CONFIG:
                raise LoadError(
                    f"{path}: its config.json has {about.file_size:,} bytes, no model's has; not opened"
                )
            config = json.loads(file.read(about))
        if not isinstance(config, dict):
            raise ValueError("config.json holds no model")
        config.pop("compile_config", None)  # loss and metrics are not loaded
        parts = list(_objects(config))
    for part in parts:
        name = str(part["class_name"]).rsplit(".", 1)[-1]
        if name in CODE:
            own = part.get("config") if isinstance(part.get("config"), dict) else {}
            layer = f"{name} {own['name']!r}" if "name" in own else name
            raise LoadError(
                f"{path} has a layer {layer}: it holds {CODE[name]}. A file from elsewhere could do anything with that, so "
                "nothing of it was loaded. Use a layer of Keras, or a class registered with "
                "keras.saving.register_keras_serializable and --import its module; or, if you trust whoever made the file, "
                "write a function that loads it and give that as package.module:function"
            )

    from advlib._tensorflow import keras

    for part in parts:
        _refuse_unknown(part, path, keras)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what its layers raise
        raise LoadError(
            f"{path}: Keras {keras.__version__} cannot load this model ({_one_line(error)}); if a class of your own is missing, "
            "--import the module that registers it"
        ) from error
    return Loaded(model, path.stem, _sha256(path))


def _objects(config):
    """Every object of a configuration, a dict with a class_name, however deep. A stack: JSON may be nested deeper than calls."""
    waiting = [config]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if "class_name" in here:
                yield here
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here


def _refuse_unknown(part, path, keras):
    """LoadError for a class or function that is neither a part of Keras that models are made of nor registered."""
    name, module = str(part["class_name"]), part.get("module")
    registered = part.get("registered_name")
    if name == "function":
        name = registered = str(part.get("config"))
    if module is None and not registered:
        return  # a tensor, a slice or another plain value of Keras' own
    if registered and keras.saving.get_registered_object(str(registered)) is not None:
        return
    module = str(module or "")
    if module == "builtins" and any(hasattr(getattr(keras, where, None), name) for where in MODELLING):
        return
    top, *inside = f"{module}.{name}".split(".")
    inside = inside[1:] if inside[:1] == ["src"] else inside
    if top == "keras" and inside and (inside[0] in MODELLING or inside[0][:1].isupper()):
        return
    if top == "keras":
        raise LoadError(
            f"{path} asks for {module}.{name}, which is no part of a model: nothing of it was loaded"
        )
    example = module if re.fullmatch(r"[\w.]+", module) and module != "__main__" else "package.module"
    raise LoadError(
        f"{path} needs {registered or name!r} (of the module {module or '?'}), which Keras does not know: name the module that "
        f"registers it with keras.saving.register_keras_serializable, for example --import {example}"
    )


def _saved_model(path):
    """Its serving signature, as the one layer of a Keras model: compiled, and able to travel to another process."""
    from advlib._tensorflow import keras

    how = f"for example model.export('{path.name}') of a Keras model that ends in logits"
    try:
        layer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")
    except Exception as error:
        raise LoadError(
            f"{path}: this SavedModel cannot be used ({_one_line(error)}); the signature serving_default was expected, {how}"
        ) from error
    given, returned = (
        layer.call_endpoint_fn.structured_input_signature,
        layer.call_endpoint_fn.structured_outputs,
    )
    takes = [*given[0], *given[1].values()]
    if len(takes) != 1 or len(returned) != 1:
        raise LoadError(
            f"{path}: its serving signature has {len(takes)} inputs and {len(returned)} outputs: one each, images and logits, "
            f"were expected, {how}"
        )
    spec = takes[0]
    if spec.dtype != "float32" or spec.shape.rank is None or spec.shape.rank < 2:
        raise LoadError(
            f"{path}: its serving signature takes {spec.dtype.name} of shape {spec.shape}: float32 (None, height, width, "
            "channels) was expected, because no gradient passes through a cast from integers, nor to an image file; "
            f"export it again, {how}"
        )
    if spec.shape[0] is not None:
        raise LoadError(
            f"{path}: its serving signature takes batches of {spec.shape[0]} only: a first axis of None was expected, {how}"
        )
    inputs = keras.Input(spec.shape[1:])
    model = keras.Model(inputs, next(iter(layer(inputs).values())), name=_plain(path.name))
    reason = (
        "Export it again without its softmax, for example advlib.models.as_logits(model).export('folder')"
    )
    return Loaded(model, path.name, _sha256(path), ["a SavedModel: its serving signature is audited"], reason)


def _from_function(source):
    module, name = source.split(":")
    make = getattr(import_module(module), name, None)
    if not callable(make):
        raise LoadError(
            f"{source}: the module has no function {name}; one without arguments that returns a model was expected, "
            "for example def make(): return model"
        )
    try:
        model = make()
    except Exception as error:  # the user's code
        raise LoadError(
            f"{source} raised {_one_line(error)}: a function without arguments that returns a model was expected"
        ) from error
    if not callable(model):
        raise LoadError(
            f"{source} returned {describe(model)}: a model was expected, a callable from images to logits"
        )
    reason = "Let the function return a model without the softmax at its end"
    return Loaded(model, _plain(getattr(model, "name", None) or name), reason=reason)


def _checkpoint(source, path):
    from advlib import models

    if source not in models.names():
        found = "there is no such file" if not path.exists() else "this is none"
        raise (LoadError if path.exists() else FileNotFoundError)(
            f"MODEL={source}: {found}; a .keras file, a folder with a SavedModel, package.module:function, or a shipped "
            f"checkpoint ({', '.join(models.names())}) was expected. A model in another format is loaded and saved again by "
            "Keras: keras.saving.load_model('model.h5').save('model.keras')"
        )
    return Loaded(models.load(source), source, models.card(source)["sha256"])


# --- from what a model takes to images in [0, 1], from what it returns to logits


def _adapted(loaded, input_range, channels_first):
    """With logits at its end and images (N, H, W, C) in [0, 1] at its start, whatever the model itself has there."""
    from advlib._tensorflow import keras
    from advlib.models import as_logits, check_keras

    model, notes, reason = loaded.model, list(loaded.notes), loaded.reason
    if isinstance(model, keras.Model):
        check_keras(model)
        inputs = _inputs(model)
        if inputs is not None and (len(inputs) != 1 or len(model.outputs) != 1):
            raise LoadError(
                f"the model {loaded.name} has {len(inputs)} inputs and {len(model.outputs)} outputs: one each, images and "
                "logits, were expected; as package.module:function, give a function that returns a model of one image input"
            )
        if input_range is None:
            _refuse_bytes(model, inputs, loaded.name)
        if inputs and not _is_float(inputs[0]):
            model, dtype = _of_floats(model, inputs), inputs[0].dtype
            notes.append(
                f"made for {dtype} images: takes the same values as float32, not rounded, so that a gradient passes"
            )
        try:
            logits = as_logits(model)
        except (ValueError, TypeError) as error:  # matters if it turns out to return probabilities
            reason = f"{error}"
        else:
            if logits is not model:
                notes.append("softmax or sigmoid at the end: the logits before it are audited")
            model = logits
    layers = []
    if input_range is not None and input_range != (0, 1):
        low, high = input_range
        layers.append(keras.layers.Rescaling(high - low, low, name="input_range"))
        notes.append(f"made for pixels from {low:g} to {high:g}: images in [0, 1] are rescaled to that")
    if channels_first:
        layers.append(keras.layers.Permute((3, 1, 2), name="channels_first"))
        notes.append("made for (channels, height, width): images are transposed")
    if layers:
        shape = _input_shape(model)
        if channels_first and shape is not None:
            if len(shape) != 3:
                raise LoadError(
                    f"--channels-first, and the model {loaded.name} takes shape {_shown(shape)}: (channels, height, width) was "
                    "expected, for example (3, 32, 32)"
                )
            shape = (*shape[1:], shape[0])
        model = _behind(layers, model, shape)
    return Loaded(model, loaded.name, loaded.sha256, notes, reason)


def _behind(layers, model, shape):
    """The model behind these layers; compiled by the attacks if it was, and a Keras model where the shape is known."""
    from advlib._tensorflow import keras, tf

    def before(x):
        for layer in layers:
            x = layer(x)
        return x

    is_keras = isinstance(model, keras.Model)
    if is_keras and shape is not None:
        inputs = keras.Input(shape)
        return keras.Model(inputs, model(before(inputs)), name=model.name)
    if is_keras:
        return tf.function(lambda x: model(before(x), training=False))
    if isinstance(model, tf.types.experimental.PolymorphicFunction):
        return tf.function(lambda x: model(before(x)))
    return lambda x: model(before(x))


def _refuse_bytes(model, inputs, name):
    """LoadError for a model that expects pixels from 0 to 255, as its input's type or its first layer says."""
    if inputs and not _is_float(inputs[0]):
        seen = f"takes {inputs[0].dtype}"
    else:
        from advlib._tensorflow import keras

        skipped = (keras.Model, keras.layers.InputLayer)
        first = next(
            (
                layer
                for layer in model._flatten_layers(include_self=False)
                if not isinstance(layer, skipped) and not type(layer).__name__.startswith("Random")
            ),
            None,
        )
        kind = type(first).__name__
        if kind == "Rescaling" and np.abs(first.scale).max() <= 1 / 100:
            seen = f"begins with Rescaling({np.max(first.scale):.4g})"
        elif kind == "Normalization" and first.mean is not None and np.max(first.mean) > 2:
            seen = f"begins with Normalization(mean={np.max(first.mean):.4g})"
        else:
            return
    raise LoadError(
        f"the model {name} {seen}, so it was made for pixels from 0 to 255, and ε is measured on pixels from 0 to 1: say so with "
        "--input-range 0 255 (input_range=(0, 255)); if it does take [0, 1], say --input-range 0 1"
    )


def _of_floats(model, inputs):
    """The same layers and weights behind an input of float32: Keras would cast to integers, and a cast has no gradient."""
    from advlib._tensorflow import keras

    return keras.models.clone_model(
        model,
        input_tensors=keras.Input(inputs[0].shape[1:], dtype="float32"),
        clone_function=lambda layer: layer,
    )


def _inputs(model):
    """The input tensors of a Keras model that shows them, a list; None for another."""
    try:
        return list(model.inputs) or None
    except (AttributeError, TypeError, ValueError):
        return None


def _input_shape(model):
    """(H, W, C), with None for what is open, or None where the model does not say."""
    inputs = _inputs(model)
    return None if inputs is None else tuple(inputs[0].shape[1:])


def _is_float(tensor):
    return str(tensor.dtype).startswith(("float", "bfloat"))


def _same(want, have):
    return len(want) == len(have) and all(w in (None, h) for w, h in zip(want, have, strict=True))


def _shown(shape):
    return "(" + ", ".join("any" if k is None else str(k) for k in shape) + ")"


def _hint(want, have):
    if len(want) == 3 and _same((*want[1:], want[0]), have):
        return "; the model takes the channels first: say so with --channels-first"
    if len(have) == 3 and _same(want, (*have[1:], have[0])):
        return "; the images have their channels first: np.moveaxis(x, 1, -1) puts them last"
    return ""


def _check_range(input_range):
    try:
        low, high = (float(v) for v in input_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise LoadError(
            f"input_range={input_range!r}: two numbers, the lower first, were expected, for example 0 255"
        )
    return low, high


# --- data


@dataclass
class Images:
    """Images with labels, read as they are needed.

    x: a sequence whose slices x[i:j] are float32 (n, H, W, C) in [0, 1]. y: int64 (N,). source: for people. label_names: one
    for each class, or None. shape: (H, W, C).
    """

    x: object
    y: np.ndarray
    source: str
    label_names: list | None = None

    @property
    def shape(self):
        return tuple(self.x.shape[1:])


def load_data(source, *, limit=None, part="test"):
    """Images and labels from an npz file, a folder or the bundled data, as `Images`.

    source: an `.npz` file with the arrays x and y (or x_test, y_test); a folder with one folder of PNG or JPEG images for each
    class, whose sorted names are the classes 0, 1, …; "mnist" or "fashion_mnist". x: uint8, which is divided by 255, or floats
    in [0, 1], of shape (N, H, W, C) or (N, H, W); y: integers (N,). limit: the first so many images; a folder deals them out
    class by class in turn. part: "train" takes x_train and y_train where there are such.

    Nothing is unpickled. An uncompressed array is mapped into memory and a compressed one read in slices, so that it may be
    larger than memory. Raises ValueError (LoadError) with what was expected, also from a slice: whether all pixels are in range
    is known once they are read. Lesson 13.

        >>> load_data("mnist").x[:2].shape
        (2, 28, 28, 1)
    """
    from advlib import data

    check_choice(part, "part", ("test", "train"))
    source, path = str(source), Path(source)
    if source in data.SHA256 and not path.exists():
        bundled = data.load(source)
        x, y = (bundled.x_train, bundled.y_train) if part == "train" else (bundled.x_test, bundled.y_test)
        images = Images(x, y, f"{source} ({part} images)", list(data.CLASSES[source]))
    elif path.is_dir():
        images = _folder(path)
    elif path.is_file():
        images = _npz(path, part)
    else:
        raise FileNotFoundError(
            f"--data {source}: there is no such file or folder; an .npz file with x and y, a folder of images by class, or "
            f"one of {', '.join(data.SHA256)} was expected"
        )
    if limit is not None:
        n = min(len(images.y), check_number(limit, "limit", low=1, integer=True, example=1000))
        images.y = images.y[:n]
        images.x = _Pixels(images.x.__getitem__, (n, *images.shape))
    images.x[: min(len(images.y), 8)]  # what is wrong with the first is said now
    return images


class _Pixels:
    """Images behind a function read(slice): a sequence that knows its shape and holds none of them."""

    def __init__(self, read, shape):
        self.read, self.shape = read, shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise TypeError(
                f"x[{part!r}]: a slice without step was expected, as images are read in order, for example x[:100]"
            )
        first, last, _ = part.indices(len(self))
        return self.read(slice(first, max(first, last)))


def _npz(path, part):
    expected = "an .npz file with x and y, for example np.savez('test.npz', x=x, y=y)"
    with _reading(path, expected):
        file = zipfile.ZipFile(path)  # stays open as long as slices are read
        members = {
            Path(info.filename).stem: info for info in file.infolist() if info.filename.endswith(".npy")
        }
        pairs = [("x", "y"), ("x_test", "y_test"), ("x_train", "y_train")]
        pairs = pairs[::-1] if part == "train" else pairs[:2]
        pair = next((pair for pair in pairs if set(pair) <= set(members)), None)
        if pair is None:
            raise LoadError(f"{path} holds {', '.join(sorted(members)) or 'no array'}: the arrays x and y were expected, "
                            "for example np.savez('test.npz', x=x, y=y)")  # fmt: skip
        x, y = (members[name] for name in pair)
        shape, dtype, fortran, _ = _header(file, y, path)
        if dtype.kind not in "iu" or shape[1:] not in ((), (1,)):
            raise LoadError(
                f"{path}: {pair[1]} is a {dtype} array of shape {shape}: one integer an image, shape (N,), was expected"
                + ("; these look one-hot: y.argmax(axis=1)" if len(shape) == 2 else "")
            )
        with file.open(y) as stored:
            labels = np.lib.format.read_array(stored, allow_pickle=False).reshape(-1)
        shape, dtype, fortran, offset = _header(file, x, path)
        if not (dtype == np.uint8 or dtype.kind == "f") or len(shape) not in (3, 4) or min(shape) < 1:
            raise LoadError(
                f"{path}: {pair[0]} is a {dtype} array of shape {shape}: uint8 images, or floats in [0, 1], of shape (N, height, "
                "width, channels) were expected, for example x.astype('uint8')"
            )
        labels = check_labels(labels, shape[0], name=pair[1]).astype(np.int64)
        rows = _mapped(path, file, x, shape, dtype, fortran, offset) or _streamed(
            file, x, shape, dtype, fortran, offset, path
        )

    def read(part):
        with _reading(path, expected):
            return _as_pixels(rows(part), f"{path}: {pair[0]}", part.start)

    whole = shape if len(shape) == 4 else (*shape, 1)
    return Images(_Pixels(read, whole), labels, path.name)


def _header(file, info, path):
    """(shape, dtype, whether in Fortran's order, bytes before the numbers) of an array in a zip file."""
    with file.open(info) as stored:
        version = np.lib.format.read_magic(stored)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} has the version {version} of NumPy's format")
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(stored)
        offset = stored.tell()
    if dtype.hasobject:
        raise LoadError(f"{path}: {info.filename} holds Python objects, which are never unpickled, as that would run code: "
                        "plain numbers were expected, for example np.asarray(x, 'uint8')")  # fmt: skip
    if offset + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(
            f"{info.filename} has {info.file_size:,} bytes, which is not what its shape {shape} needs"
        )
    return shape, dtype, fortran, offset


def _mapped(path, file, info, shape, dtype, fortran, offset):
    """Rows of an uncompressed array, mapped into memory; None for a compressed one."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        return None
    with path.open("rb") as raw:  # the file's own header may be longer than the directory's
        raw.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", raw.read(4))
    start = info.header_offset + 30 + name + extra + offset
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C").__getitem__


def _streamed(file, info, shape, dtype, fortran, offset, path):
    """Rows of a compressed array, read in slices; from the start again for those before the last."""
    if fortran and len(shape) > 1:
        raise LoadError(f"{path}: {info.filename} is stored column by column, so that no image can be read by itself: save "
                        "np.ascontiguousarray(x)")  # fmt: skip
    stored, size = file.open(info), math.prod(shape[1:]) * dtype.itemsize

    def rows(part):
        n = part.stop - part.start
        stored.seek(offset + part.start * size)
        content = stored.read(n * size)
        return np.frombuffer(content, dtype).reshape(n, *shape[1:])

    return rows


def _as_pixels(raw, source, first):
    """uint8 or floats (n, H, W[, C]) as float32 (n, H, W, C) in [0, 1]; LoadError for other values."""
    raw = raw if raw.ndim == 4 else raw[..., None]
    if raw.dtype == np.uint8:
        return np.asarray(raw / np.float32(255))
    if raw.size:
        low, high = float(raw.min()), float(raw.max())
        if not (low >= 0 and high <= 1):  # NaN too
            fix = " (x / 255, or saved as uint8)" if low >= 0 and 1 < high <= 255 else ""
            raise LoadError(
                f"{source} has {raw.dtype} pixels from {low:g} to {high:g} among images {first} to {first + len(raw) - 1}: the "
                f"range [0, 1] was expected{fix}; a normalisation belongs into the model"
            )
    return np.asarray(raw, np.float32)


def _folder(path):
    """One folder a class; the first images are dealt out class by class, so that any number of them is balanced."""
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = []
    for label, folder in enumerate(classes):
        files = (p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        found += [(turn, label, file) for turn, file in enumerate(sorted(files))]
    if not found:
        raise LoadError(f"{path} holds no images by class: folders of PNG or JPEG files, one for each class, were expected, "
                        f"for example {path / 'cat' / '001.png'}")  # fmt: skip
    _, labels, files = zip(*sorted(found), strict=True)
    shape = _picture(files[0]).shape

    def read(part):
        images = [_picture(file) for file in files[part]]
        for file, image in zip(files[part], images, strict=True):
            if image.shape != shape:
                raise LoadError(f"{file} has shape {image.shape}: that of {files[0]}, {shape}, was expected, as of all images "
                                "of a folder")  # fmt: skip
        return _as_pixels(
            np.stack(images) if images else np.zeros((0, *shape), np.uint8), str(path), part.start
        )

    names = [folder.name for folder in classes]
    return Images(_Pixels(read, (len(files), *shape)), np.array(labels, np.int64), path.name, names)


def _picture(file):
    """A PNG or JPEG as uint8 (H, W, C)."""
    from skimage.io import imread

    with _reading(file, "a PNG or JPEG image"):
        with warnings.catch_warnings(action="ignore"):  # about readers tried on a damaged file
            image = imread(file)
        image = image[..., None] if image.ndim == 2 else image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise LoadError(f"{file} is a {image.dtype} image of shape {image.shape}: 8 bits for each of one or three channels "
                            "were expected; save it without transparency")  # fmt: skip
    return image


# --- common


@contextlib.contextmanager
def _reading(path, expected):
    """A damaged file as a LoadError that names it."""
    try:
        yield
    except (LoadError, FileNotFoundError):
        raise
    except DAMAGED as error:
        why = f"no {error}" if isinstance(error, KeyError) else _one_line(error)
        raise LoadError(f"{path} cannot be read ({why}): {expected} was expected") from error


def _sha256(path):
    """Of a file, or of the names and files of a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(
            os.fsencode(f"{file.relative_to(path).as_posix()} {_sha256(file)};")
        )  # a name may be no UTF-8
    return whole.hexdigest()


def _one_line(error):
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"


def _plain(name):
    return re.sub(r"[^\w.-]+", "-", str(name)).strip("-.") or "model"
