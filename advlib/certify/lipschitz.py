"""The Lipschitz bound: how far a lead in logits carries in L2. Lesson 11."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, svds

from advlib._checks import check_images, check_labels
from advlib._tensorflow import keras, tf
from advlib.certify.intervals import activation_name, kind, layers, leads, product

SAFETY = 1.001  # an iteration comes from below: a little is added


def constant(model):
    """A number L with ‖z(x) − z(x')‖₂ ≤ L·‖x − x'‖₂: the product of the layers' largest singular values.

    Dense layers' are exact (SVD); a convolution's is that of the whole linear map with its padding and strides, by
    iteration, times 1.001. ReLU, flattening, max-pooling over windows that do not overlap: 1. TypeError for other layers.
    Source: Szegedy et al. 2013, arXiv 1312.6199, §4.3; Tsuzuku et al. 2018, arXiv 1802.04034. Lesson 11.
    """
    k, total = keras.layers, 1.0
    chain, shape = layers(model), model.input_shape[1:]
    for layer in chain:
        rule = kind(layer)
        if rule is k.Dense:
            total *= float(np.linalg.norm(np.asarray(layer.kernel, np.float64), 2))
        elif rule is k.Conv2D and set(layer.dilation_rate) == {1}:
            total *= convolution(layer, shape)
        elif rule is k.Rescaling:
            total *= float(np.max(np.abs(layer.scale)))
        elif rule is k.BatchNormalization:
            scale = layer.gamma if layer.scale else 1.0
            total *= float(np.max(np.abs(scale) / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)))
        elif rule is k.MaxPooling2D and tuple(layer.pool_size) == tuple(layer.strides):
            pass
        elif rule not in (k.Flatten, k.Reshape, k.ReLU, k.Dropout, k.ZeroPadding2D, k.Activation):
            raise TypeError(
                f"layer {layer.name!r} is a {rule.__name__}, for which there is no Lipschitz rule: Dense, Conv2D without "
                "dilation, ReLU, Rescaling, batch normalisation, Flatten and max-pooling without overlap have one"
            )
        name = activation_name(layer)
        if name not in ("relu", "capped relu", "linear", "tanh", "sigmoid"):
            raise TypeError(
                f"layer {layer.name!r} has the activation {name}: relu, tanh, sigmoid or none was expected"
            )
        shape = layer.compute_output_shape((None, *shape))[1:]
    return total


def convolution(layer, shape):
    """The largest singular value of a convolution as a linear map of images of `shape`, by Lanczos' method in float64."""
    times = product(layer)
    kernel = tf.cast(layer.kernel, tf.float64)
    out = times(np.zeros((1, *shape)), kernel).shape

    def forward(v):
        return times(v.reshape(1, *shape), kernel).numpy().ravel()

    def back(v):
        return tf.nn.conv2d_transpose(v.reshape(out), kernel, (1, *shape), **times.keywords).numpy().ravel()

    size = (int(np.prod(out)), int(np.prod(shape)))
    linear = LinearOperator(size, matvec=forward, rmatvec=back, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(min(size))
    return SAFETY * float(svds(linear, k=1, v0=start, return_singular_vectors=False)[0])


def radius(model, x, y):
    """For each image an L2 radius within which the model's answer cannot change: (z_y − max_j z_j) / (√2·L), 0 where it is wrong.

    x: float32 (N, H, W, C) in [0, 1]; y: true labels (N,). Returns float64 (N,).
    √2, because the difference of two logits changes by at most √2 times the change of the logits. TypeError for a model
    that `intervals` cannot bound either.
    Source: Tsuzuku et al. 2018, arXiv 1802.04034, Proposition 1. Lesson 11.

        >>> radius(net, x[:100], y[:100]).mean()
    """
    x = check_images(x)
    chain = layers(model)
    y = check_labels(y, len(x), model.output_shape[-1])
    # the lead is rounded outwards by twice the model's own share: for the image and for a point beside it
    return np.maximum(leads(chain, x, y, 0.0).astype(np.float64), 0) / (np.sqrt(2) * constant(model))
