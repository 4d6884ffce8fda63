"""CROWN-lite (Zhang et al. 2018): linear bounds, walked backward through a dense ReLU network. Lesson 11.

Each unstable neuron (l < 0 < u) is caught between two lines: above s·(v − l) with s = u/(u − l), below α·v with α = 1 if
u > |l|, else 0. A bound of an output is a row Λ that is pulled back through the layers; for a lower bound the lower line is
taken where its entry is positive, the upper one where negative. Tighter than intervals on nets not trained for intervals.
"""

import numpy as np

from advlib import norms
from advlib._checks import check_images, check_labels
from advlib._tensorflow import keras, tf
from advlib.certify.intervals import activation_name, kind, largest, layers, rounding


def dense_layers(model):
    """The model as [(W (d, e), b (e,), s (e,)), …] with ReLU between: y = v @ W + b; s: the sum of the sizes of b's terms.

    TypeError where it is no dense ReLU network."""
    k, matrices = keras.layers, []
    waits = False  # a ReLU has come, and a dense layer must follow
    chain, shape = layers(model), model.input_shape[1:]
    # what Rescaling does before the first Dense: one number for each entry of the flat input, as it may be one a channel
    scale, offset = np.ones(np.prod(shape), np.float32), np.zeros(np.prod(shape), np.float32)
    for layer in chain:
        rule, name = kind(layer), activation_name(layer)
        # a Dense without a Flatten before it is a layer for each pixel
        fits = rule is k.Dense and layer.kernel.shape[0] == np.prod(shape)
        if rule is k.Rescaling and not matrices:
            numbers = (np.asarray(v, np.float32) for v in (layer.scale, layer.offset))
            a, b = (np.broadcast_to(v, (1, *shape)).ravel() for v in numbers)
            scale, offset = scale * a, offset * a + b
        elif fits and name in ("relu", "linear") and (waits or not matrices):
            W = np.asarray(layer.kernel)
            b = np.asarray(layer.bias) if layer.use_bias else np.zeros(W.shape[1], np.float32)
            matrices.append((scale[:, None] * W, b + offset @ W, np.abs(b) + np.abs(offset) @ np.abs(W)))
            scale, offset = np.ones(W.shape[1], np.float32), np.zeros(W.shape[1], np.float32)
            waits = name == "relu"
        elif matrices and name == "relu" and rule in (k.ReLU, k.Activation):
            waits = True
        elif rule not in (k.Flatten, k.Dropout):
            raise TypeError(
                f"layer {layer.name!r} is a {rule.__name__} where CROWN-lite does not know it: a chain of Rescaling, "
                "Flatten and Dense layers with ReLU between them was expected, for example advlib.models.mlp()"
            )
        shape = layer.compute_output_shape((None, *shape))[1:]
    if waits or not matrices:
        raise TypeError(
            f"the model {model.name!r} does not end in a Dense layer without activation, as was expected, "
            "for example advlib.models.mlp()"
        )
    return [tuple(tf.constant(part, tf.float32) for part in parts) for parts in matrices]


def lower(rows, matrices, drifts, ranges, low, high):
    """Lower bounds of rows @ output over low ≤ x ≤ high: rows (N, R, e) → (N, R). ranges: bounds before each ReLU.

    drifts: (N, e) for each layer, by which each of its outputs may be off, either way."""
    constant = 0.0
    for (W, b, _), drift, between in zip(
        reversed(matrices), reversed(drifts), [*reversed(ranges), None], strict=True
    ):
        constant += tf.einsum("nre,e->nr", rows, b) - tf.einsum("nre,ne->nr", tf.abs(rows), drift)
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


def worst_margins(model, x, y, eps, outward=False):
    """Upper bounds of z_j − z_y over the L∞ ball of radius ε and the box, (N, K); −inf at j = y.

    model: a dense ReLU network, as `models.mlp`, or its `dense_layers`; the bounds before each ReLU are CROWN's too.
    outward: what float32 may lose is added to all bounds, as in `intervals`.
    Source: Zhang et al. 2018, arXiv 1811.00866, §3.2 (adaptive lower line). Lesson 11."""
    matrices = model if isinstance(model, list) else dense_layers(model)
    flat = tf.reshape(tf.convert_to_tensor(x), (len(x), -1))
    low, high = tf.maximum(flat - eps, 0.0), tf.minimum(flat + eps, 1.0)
    ranges, drifts, reach = [], [], largest(low, high)
    for depth, (W, _, s) in enumerate(matrices, 1):
        # Float32 acts as a bias that nobody knows: a share of the sum of all terms' sizes, |W||v| + s. The rows on their
        # way back lose no more: they meet the same |W|, once over its columns and once over its rows.
        share = rounding(sum(W.shape)) if outward else 0.0
        drifts.append(share * (reach @ tf.abs(W) + s))
        if depth < len(matrices):
            unit = tf.eye(W.shape[1], batch_shape=[len(x)])
            least = lower(unit, matrices[:depth], drifts, ranges, low, high)
            most = -lower(-unit, matrices[:depth], drifts, ranges, low, high)
            ranges.append((least, most))
            reach = tf.maximum(most, 0.0)
    classes = matrices[-1][0].shape[1]
    rows = tf.one_hot(y, classes)[:, None] - tf.eye(classes)[None]  # z_y − z_j
    own = tf.one_hot(y, classes, on_value=True, off_value=False)
    return tf.where(own, np.float32(-np.inf), -lower(rows, matrices, drifts, ranges, low, high))


def verified(model, x, y, eps, batch_size=100):
    """Which images no perturbation in the L∞ ball of radius ε can make a dense ReLU network misread: bool (N,).

    As `intervals.verified`, with tighter bounds on networks that were not trained for interval bounds. Lesson 11.

        >>> verified(advlib.models.load("mnist-mlp"), x[:100], y[:100], 0.01).mean()
    """
    x = check_images(x)
    eps = norms.get("linf").check_eps(eps, x.shape[1:])
    matrices = dense_layers(model)
    y = check_labels(y, len(x), model.output_shape[-1])
    parts = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
    worst = [tf.reduce_max(worst_margins(matrices, x[p], y[p], eps, outward=True), axis=1) for p in parts]
    return np.concatenate(worst) < 0
