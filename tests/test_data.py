"""Bundled data: fingerprints, and every way a file can be wrong."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from advlib import data

SHIPPED = data.FOLDER


@pytest.fixture(scope="module")
def mnist():
    return data.load("mnist")


def test_mnist_is_the_published_one(mnist):
    assert np.bincount(mnist.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.rint(mnist.x_test.astype(np.float64) * 255).sum() == 264_923_200


@pytest.mark.parametrize("name", data.SHA256)
def test_types_and_range(name):
    d = data.load(name)
    assert d.x_train.dtype == d.x_test.dtype == np.float32 and d.y_train.dtype == d.y_test.dtype == np.int64
    assert d.x_train.shape == (len(d.y_train), 28, 28, 1) and d.x_test.shape == (10_000, 28, 28, 1)
    assert d.x_train.min() == 0 and d.x_train.max() == 1
    assert set(np.unique(d.y_train)) == set(range(10)) and len(data.CLASSES[name]) == 10
    levels = d.x_test * np.float32(255)
    assert np.abs(levels - np.rint(levels)).max() < 1e-4  # pixels are k/255


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'cifar10'.*'mnist', 'fashion_mnist'"):
        data.load("cifar10")


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def damage_pixel(path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays["x_test"][0, 0, 0] ^= 1
    np.savez_compressed(path, **arrays)


def damage_shape(path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays["y_train"] = arrays["y_train"][:-1]
    np.savez_compressed(path, **arrays)


def damage_member(path):
    np.savez(path, x_train=np.zeros(3, np.uint8))


def damage_pickle(path):
    np.savez(path, **{key: np.array([{}], dtype=object) for key in data.SHA256["mnist"]})


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_flip,
        damage_pixel,
        damage_shape,
        damage_member,
        damage_pickle,
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: shutil.copy(SHIPPED / "fashion_mnist.npz", path),
    ],
)
def test_damaged_file_is_named_and_never_believed(tmp_path, monkeypatch, damage):
    path = shutil.copy(data.FOLDER / "mnist.npz", tmp_path / "mnist.npz")
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    damage(path)
    with pytest.raises(data.DataError, match=r"mnist\.npz.*Restore it with: git checkout"):
        data.load("mnist")


def test_subset_is_stratified_and_repeatable(mnist):
    x, y = data.subset(mnist.x_test, mnist.y_test, 500)
    share = np.bincount(mnist.y_test) * 500 / 10_000
    assert len(x) == len(y) == 500 and np.abs(np.bincount(y) - share).max() < 1
    again = data.subset(mnist.x_test, mnist.y_test, 500)
    other = data.subset(mnist.x_test, mnist.y_test, 500, seed=1)
    assert (again[0] == x).all() and not (other[0] == x).all()
    pairs = {image.tobytes(): label for image, label in zip(mnist.x_test, mnist.y_test, strict=True)}
    assert all(pairs[image.tobytes()] == label for image, label in zip(x, y, strict=True))


def test_subset_takes_none_twice_and_keeps_the_order(mnist):
    place, y = data.subset(np.arange(10_000), mnist.y_test, 5_000)
    assert (np.diff(place) > 0).all() and (y == mnist.y_test[place]).all()


def test_split_is_the_subset_and_the_rest(mnist):
    y = mnist.y_test
    (place, y_rest), (chosen, y_chosen) = data.split(np.arange(10_000), y, 500, seed=3)
    assert (chosen == data.subset(np.arange(10_000), y, 500, seed=3)[0]).all()
    assert sorted([*place, *chosen]) == list(range(10_000))  # each image once
    assert (y_rest == y[place]).all() and (y_chosen == y[chosen]).all()


@pytest.mark.parametrize(
    ("n", "words"), [(0, "at least 1"), (11, "at most 10"), (2.5, "whole number"), (True, "whole number")]
)
def test_subset_refuses(n, words):
    with pytest.raises((ValueError, TypeError), match=words):
        data.subset(np.zeros((10, 2, 2, 1), "float32"), np.arange(10), n)
    with pytest.raises(ValueError, match="one label an image"):
        data.subset(np.zeros((10, 2, 2, 1), "float32"), np.arange(9), 5)


def test_nothing_is_downloaded_and_no_tensorflow(tmp_path):
    code = (
        "import socket, sys; socket.socket = None; import advlib; advlib.data.load('mnist');"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
