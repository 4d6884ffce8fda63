"""The bundled data sets: loaded, checked, never downloaded. Lesson 00 prints their fingerprint.

>>> x_train, y_train, x_test, y_test = load("mnist")
>>> x_test.shape, x_test.dtype, y_test[:3]
((10000, 28, 28, 1), dtype('float32'), array([7, 2, 1]))
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advlib._checks import DAMAGED, check_choice, check_number

FOLDER = Path(__file__).parent / "datasets"

# SHA-256 of the bytes of each uint8 array.
SHA256 = {
    "mnist": {
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "fashion_mnist": {
        "x_train": "58e4771950337033c6f5665c995cab5743ed89bf7399fd5c583cf4de053257d1",
        "y_train": "9096aaf5e84faa7a18c04a6f597e5adc34d95d60b46296a4a1bb09c2e49d9d15",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}
SHAPES = {
    "mnist": {
        "x_train": (60_000, 28, 28),
        "y_train": (60_000,),
        "x_test": (10_000, 28, 28),
        "y_test": (10_000,),
    },
    "fashion_mnist": {
        "x_train": (20_000, 28, 28),
        "y_train": (20_000,),
        "x_test": (10_000, 28, 28),
        "y_test": (10_000,),
    },
}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip


class Dataset(NamedTuple):
    """Images float32 (N, 28, 28, 1) in [0, 1], labels int64 (N,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class DataError(ValueError):
    """A bundled data file is missing, damaged or not the one that was shipped."""


def load(name):
    """The data set "mnist" (60,000 + 10,000 images) or "fashion_mnist" (20,000 + 10,000) as a `Dataset`.

    Pixels are k/255 as float32; normalisation belongs inside the model. Every array is compared with its published
    SHA-256, so that a number computed from it means the same everywhere. Raises ValueError for another name and
    DataError, which says how to restore the file, where a file is missing, truncated or not the one shipped.
    Sources and licences: `advlib/datasets/LICENSE-data.md`. Used from lesson 00 on.

        >>> load("fashion_mnist").x_train.shape
        (20000, 28, 28, 1)
    """
    check_choice(name, "name", SHA256)
    arrays = read(FOLDER / f"{name}.npz", SHA256[name], SHAPES[name])
    images = {key: (arrays[key][..., None] / np.float32(255)) for key in ("x_train", "x_test")}
    labels = {key: arrays[key].astype(np.int64) for key in ("y_train", "y_test")}
    return Dataset(images["x_train"], labels["y_train"], images["x_test"], labels["y_test"])


def read(path, sha256, shapes):
    """The uint8 arrays of an npz file, each compared with its shape and SHA-256; DataError where anything differs."""
    path = Path(path)
    restore = (
        f"Restore it with: git checkout -- advlib/datasets/{path.name} (in a clone), or install advlib again"
    )
    if not path.is_file():
        raise DataError(f"{path}: this bundled data file is missing. {restore}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in sha256}
    except DAMAGED as error:
        raise DataError(
            f"{path}: this data file cannot be read ({error}); the arrays {', '.join(sha256)} were expected. {restore}"
        ) from error
    for key, expected in sha256.items():
        got = arrays[key]
        if got.dtype != np.uint8 or got.shape != shapes[key]:
            raise DataError(
                f"{path}: {key} is a {got.dtype} array of shape {got.shape}; uint8 {shapes[key]} was expected. {restore}"
            )
        found = hashlib.sha256(np.ascontiguousarray(got)).hexdigest()
        if found != expected:
            raise DataError(
                f"{path}: {key} has SHA-256 {found[:16]}…; {expected[:16]}… was expected. {restore}"
            )
    return arrays


def subset(x, y, n, seed=0):
    """`n` images chosen at random, each class in its share of the whole (to within one image), in the order of `x`.

    x: (N, …); y: (N,); 1 ≤ n ≤ N. The same seed gives the same images. ValueError for other n or unequal lengths.

        >>> x, y = subset(x_test, y_test, 500)
        >>> np.bincount(y)
        array([49, 57, 52, 50, 49, 45, 48, 51, 49, 50])
    """
    x, y = np.asarray(x), np.asarray(y)
    chosen = _stratified(x, y, n, seed)
    return x[chosen], y[chosen]


def split(x, y, n, seed=0):
    """Two parts, (x, y) without `n` images and those `n`, chosen as in `subset`: for training and for validation.

    >>> (x_fit, y_fit), (x_val, y_val) = split(x_train, y_train, 2000)
    """
    x, y = np.asarray(x), np.asarray(y)
    chosen = np.isin(np.arange(len(y)), _stratified(x, y, n, seed))
    return (x[~chosen], y[~chosen]), (x[chosen], y[chosen])


def _stratified(x, y, n, seed):
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"x holds {len(x)} images and y has shape {y.shape}: one label an image was expected, for example y[:{len(x)}]"
        )
    n = check_number(n, "n", low=1, high=len(y), integer=True, example=min(100, len(y)))
    rng = np.random.default_rng(check_number(seed, "seed", low=0, integer=True, example=0))
    classes, counts = np.unique(y, return_counts=True)
    share = counts * n / len(y)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: n - take.sum()]] += (
        1  # the largest remainders get the rest
    )
    chosen = [
        rng.choice(np.flatnonzero(y == c), k, replace=False) for c, k in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
