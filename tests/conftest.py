"""What several test files share."""

import os

os.environ.setdefault("ADVLIB_PROGRESS", "0")

import numpy as np
import pytest

from advlib import data


@pytest.fixture(scope="session")
def mnist_test():
    d = data.load("mnist")
    return d.x_test, d.y_test


@pytest.fixture(scope="session")
def small_net():
    """An untrained 784-32-10 net: quick, and non-linear."""
    from advlib import models  # not above: a test file without TensorFlow starts ten seconds sooner

    return models.mlp(seed=3, width=32)


@pytest.fixture(scope="session")
def images(small_net):
    """64 random images, labelled by `small_net` itself, but for the last four, which it gets wrong."""
    from advlib import models

    x = np.random.default_rng(0).uniform(0, 1, (64, 28, 28, 1)).astype(np.float32)
    x[0], x[1] = 0, 1
    y = models.predict_logits(small_net, x).argmax(axis=1)
    y[-4:] = (y[-4:] + 1) % 10
    return x, y


def affine(w, b, shape):
    """The Keras model z = w·x + b on images of `shape`; w: (d, K), b: (K,)."""
    from advlib._tensorflow import keras

    dense = keras.layers.Dense(w.shape[1])
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), dense])
    dense.set_weights([np.asarray(w, np.float32), np.asarray(b, np.float32)])
    return model
