"""CROWN-lite (Zhang et al. 2018): linear bounds, walked backward through a dense ReLU network. Lesson 11.

Each unstable neuron (l < 0 < u) is caught between two lines: above s·(v − l) with s = u/(u − l), below α·v with α = 1 if
u > |l|, else 0. A bound of an output is a row Λ that is pulled back through the layers; for a lower bound the lower line is
taken where its entry is positive, the upper one where negative. Tighter than intervals on nets not trained for intervals.
"""

import numpy as np

from advlib import norms
from advlib._checks import check_images, check_labels
from advlib._tensorflow import keras, tf
from advlib.certify.intervals import SLACK, activation_name, layers


def dense_layers(model):
    """The model as [(W (d, e), b (e,)), …] with ReLU between: y = v @ W + b. TypeError where it is no dense ReLU network."""
    k, matrices, pending = keras.layers, [], (1.0, 0.0)
    waits = False  # a ReLU has come, and a dense layer must follow
    for layer in layers(model):
        name = activation_name(layer)
        if isinstance(layer, k.Rescaling) and not matrices:
            pending = (
                np.float32(layer.scale) * pending[0],
                np.float32(layer.scale) * pending[1] + np.float32(layer.offset),
            )
        elif isinstance(layer, k.Dense) and name in ("relu", "linear") and (waits or not matrices):
            W, b = np.asarray(layer.kernel), np.asarray(layer.bias) if layer.use_bias else 0.0
            matrices.append((pending[0] * W, b + pending[1] * W.sum(axis=0)))
            pending, waits = (1.0, 0.0), name == "relu"
        elif matrices and name == "relu" and isinstance(layer, k.ReLU | k.Activation):
            waits = True
        elif not isinstance(layer, k.Flatten | k.Dropout):
            raise TypeError(
                f"layer {layer.name!r} is a {type(layer).__name__} where CROWN-lite does not know it: a chain of Rescaling, "
                "Flatten and Dense layers with ReLU between them was expected, for example advlib.models.mlp()"
            )
    if waits or not matrices:
        raise TypeError(
            f"the model {model.name!r} does not end in a Dense layer without activation, as was expected, "
            "for example advlib.models.mlp()"
        )
    return [
        (tf.constant(W, tf.float32), tf.constant(np.broadcast_to(b, W.shape[1]), tf.float32))
        for W, b in matrices
    ]


def lower(rows, matrices, ranges, low, high):
    """Lower bounds of rows @ output over low ≤ x ≤ high: rows (N, R, e) → (N, R). ranges: bounds before each ReLU."""
    constant = 0.0
    for (W, b), between in zip(reversed(matrices), [*reversed(ranges), None], strict=True):
        constant += tf.einsum("nre,e->nr", rows, b)
        rows = tf.einsum("nre,de->nrd", rows, W)
        if between is not None:
            l, u = (part[:, None] for part in between)
            unstable = (l < 0) & (u > 0)
            above = tf.where(unstable, tf.math.divide_no_nan(u, u - l), tf.cast(l >= 0, tf.float32))
            below = tf.where(unstable, tf.cast(u > -l, tf.float32), above)
            constant += tf.reduce_sum(tf.where(unstable, tf.minimum(rows, 0) * above * -l, 0.0), axis=2)
            rows = tf.where(rows >= 0, rows * below, rows * above)
    low, high = low[:, None], high[:, None]
    return constant + tf.reduce_sum(tf.where(rows >= 0, rows * low, rows * high), axis=2)


def worst_margins(model, x, y, eps):
    """Upper bounds of z_j − z_y over the L∞ ball of radius ε and the box, (N, K); −inf at j = y.

    model: a dense ReLU network, as `models.mlp`; the bounds before each ReLU are CROWN's too.
    Source: Zhang et al. 2018, arXiv 1811.00866, §3.2 (adaptive lower line). Lesson 11."""
    matrices = dense_layers(model)
    flat = tf.reshape(tf.convert_to_tensor(x), (len(x), -1))
    low, high = tf.maximum(flat - eps, 0.0), tf.minimum(flat + eps, 1.0)
    ranges = []
    for depth in range(1, len(matrices)):
        unit = tf.eye(matrices[depth - 1][0].shape[1], batch_shape=[len(x)])
        least = lower(unit, matrices[:depth], ranges, low, high)
        most = -lower(-unit, matrices[:depth], ranges, low, high)
        ranges.append((least, most))
    classes = matrices[-1][0].shape[1]
    rows = tf.one_hot(y, classes)[:, None] - tf.eye(classes)[None]  # z_y − z_j
    own = tf.one_hot(y, classes, on_value=True, off_value=False)
    return tf.where(own, np.float32(-np.inf), -lower(rows, matrices, ranges, low, high))


def verified(model, x, y, eps, batch_size=100):
    """Which images no perturbation in the L∞ ball of radius ε can make a dense ReLU network misread: bool (N,).

    As `intervals.verified`, with tighter bounds on networks that were not trained for interval bounds. Lesson 11.

        >>> verified(advlib.models.load("mnist-mlp"), x[:100], y[:100], 0.01).mean()
    """
    x = check_images(x)
    eps = norms.get("linf").check_eps(eps, x.shape[1:])
    y = check_labels(y, len(x), model.output_shape[-1] if isinstance(model, keras.Model) else None)
    parts = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
    return (
        np.concatenate([tf.reduce_max(worst_margins(model, x[p], y[p], eps), axis=1).numpy() for p in parts])
        < -SLACK
    )
