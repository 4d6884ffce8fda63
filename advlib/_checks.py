"""What every public function demands of its input, written once. Imports no TensorFlow."""

import numbers
import struct
import tokenize
import zipfile
import zlib

import numpy as np

# What zipfile, NumPy and json raise, between them, for a damaged file.
DAMAGED = (
    ValueError, TypeError, KeyError, AttributeError, EOFError, OSError, RuntimeError, SyntaxError, MemoryError, OverflowError,
    IndexError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


class ProbabilitiesNotLogitsError(ValueError):
    """The model returned probabilities where logits were expected."""


def describe(value):
    """What arrived, in a few words: `uint8 array of shape (100, 28, 28)`."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def check_images(x, name="x"):
    """`x` as NumPy float32 (N, H, W, C) in [0, 1], N ≥ 1; TypeError or ValueError otherwise."""
    if not isinstance(x, np.ndarray) and hasattr(x, "numpy"):  # an eager tensor
        x = x.numpy()
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{name} is {describe(x)}: a NumPy array of images was expected, for example np.zeros((5, 28, 28, 1), 'float32')"
        )
    if x.dtype != np.float32:
        how = f"{name}.astype('float32') / 255" if x.dtype.kind in "ui" else f"{name}.astype('float32')"
        raise TypeError(
            f"{name} is a {describe(x)}: float32 pixels in [0, 1] were expected, for example {how}"
        )
    if x.ndim != 4:
        raise ValueError(
            f"{name} has shape {x.shape}: (images, height, width, channels) was expected, for example (5, 28, 28, 1); "
            "a model of flat inputs can be given as a function that reshapes first"
        )
    if 0 in x.shape:
        raise ValueError(
            f"{name} has shape {x.shape}: at least one image of at least one pixel was expected, for example {name}[:1]"
        )
    low, high = float(x.min()), float(x.max())  # both are NaN where a pixel is
    if not (low >= 0 and high <= 1):
        if np.isnan(low):
            raise ValueError(
                f"{name} holds {int(np.isnan(x).sum())} NaN pixels: numbers in [0, 1] were expected, for example 0.5"
            )
        raise ValueError(
            f"{name} has pixels from {low:g} to {high:g}: the range [0, 1] was expected, for example {name} / 255; "
            "a normalisation belongs inside the model"
        )
    return x


def check_labels(y, n, classes=None, name="y"):
    """`y` as NumPy int64 (N,), each in 0 … classes − 1; TypeError or ValueError otherwise."""
    y = np.asarray(y)
    if y.shape != (n,):
        hint = (
            "; these look one-hot: use y.argmax(axis=1)"
            if y.ndim == 2 and y.shape[0] == n and y.shape[1] > 1
            else f"; this is a column: use {name}.ravel()"
            if y.shape == (n, 1)
            else ""
        )
        example = f"np.full({n}, {y})" if y.ndim == 0 else f"{name}[:{n}]"
        raise ValueError(
            f"{name} has shape {y.shape}: one label an image, shape ({n},), was expected, for example {example}{hint}"
        )
    if y.dtype.kind not in "iu":
        raise TypeError(
            f"{name} is a {describe(y)}: integer labels were expected, for example {name}.astype('int64')"
        )
    if y.size and (y.min() < 0 or (classes is not None and y.max() >= classes)):
        top = "the number of classes − 1" if classes is None else classes - 1
        raise ValueError(
            f"{name} has labels from {y.min()} to {y.max()}: 0 to {top} was expected, "
            f"for example {7 if classes is None else top}"
        )
    return y.astype(np.int64)


def check_start(start, x):
    """`start` as images of x's shape; None stays None."""
    if start is None:
        return None
    start = check_images(start, "start")
    if start.shape != np.shape(x):
        raise ValueError(
            f"start has shape {start.shape}: that of x, {np.shape(x)}, was expected, one image for each, for example x.copy()"
        )
    return start


def check_target(y_target, y, classes=None):
    """`y_target` as NumPy int64 (N,), nowhere equal to `y`; None stays None."""
    if y_target is None:
        return None
    y_target = check_labels(y_target, len(y), classes, name="y_target")
    same = np.flatnonzero(y_target == y)
    if same.size:
        raise ValueError(
            f"y_target equals the true label for {same.size} of {len(y)} images "
            f"(the first is number {same[0]}, class {y[same[0]]}): "
            "another class was expected, for example (y + 1) % 10"
        )
    return y_target


def check_targets(targets, classes):
    """`targets`, how many wrong classes an attack heads for; ValueError where a model of so many classes has fewer."""
    if targets > classes - 1:
        raise ValueError(
            f"targets={targets}: a model of {classes} classes has {classes - 1} wrong ones, at most that was expected, "
            f"for example targets={classes - 1}"
        )
    return targets


def check_number(value, name, *, low=None, high=None, above=None, integer=False, example):
    """`value` as a Python number within [low, high] or above `above`; TypeError or ValueError otherwise."""
    kind = numbers.Integral if integer else numbers.Real
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(
            f"{name}={describe(value)}: {'a whole number' if integer else 'a number'} was expected, for example {example}"
        )
    value = int(value) if integer else float(value)
    bounds = [
        f"at least {low}" * (low is not None),
        f"at most {high}" * (high is not None),
        f"above {above}" * (above is not None),
    ]
    inside = (
        (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)
    )
    if not inside or value != value:
        raise ValueError(
            f"{name}={value:g}: a value {' and '.join(filter(None, bounds))} was expected, for example {example}"
        )
    return value


def check_choice(value, name, choices):
    """`value` if it is one of `choices`, else a ValueError that lists them."""
    if value not in choices:
        raise ValueError(
            f"{name}={value!r}: one of {', '.join(map(repr, choices))} was expected, for example {name}={next(iter(choices))!r}"
        )
    return value


def check_logits(z, n):
    """Model output `z` as NumPy float32 (N, K), K ≥ 2, that are logits and not probabilities."""
    z = np.asarray(z)
    if z.ndim != 2 or len(z) != n:
        raise ValueError(
            f"the model returned shape {z.shape} for {n} images: logits of shape ({n}, classes) "
            f"were expected, for example ({n}, 10)"
        )
    if z.shape[1] < 2:
        raise ValueError(
            "the model returned one number an image: at least two logits were expected; for a single sigmoid output, "
            "advlib.models.as_logits(model) makes two"
        )
    known = z[~np.isnan(z).any(axis=1)]  # one image without an answer hides nothing of the others
    if (
        known.size
        and known.min() >= -1e-5
        and known.max() <= 1 + 1e-5
        and np.abs(known.sum(axis=1) - 1).max() <= 1e-3
    ):
        raise ProbabilitiesNotLogitsError(
            f"the model returned probabilities (each of {n} rows lies in [0, 1] and sums to 1): logits were "
            "expected, because the gradient of a saturated softmax is zero; for example advlib.models.as_logits(model)"
        )
    return z.astype(np.float32, copy=False)


def predicted_classes(z):
    """The predicted classes of logits (N, K), int64 (N,); −1 where the model returned NaN: such an image is not classified."""
    return np.where(np.isnan(z).any(axis=1), -1, z.argmax(axis=1)).astype(np.int64)
