"""Interval bound propagation (Gowal et al. 2018): for each number in the network, the range it can take. Lesson 11.

Bounds are pushed through a Keras model layer by layer. An affine layer y = Wv + b maps the box [l, u] with middle μ and radius r
to middle Wμ + b and radius |W|r; a monotone layer maps the two ends. Everything is TensorFlow, so that training can
differentiate it.
"""

import numpy as np

from advlib import norms
from advlib._checks import check_images, check_labels
from advlib._tensorflow import keras, tf

# Float32 sums may come out this far on the wrong side: a lead must be larger before it counts as proved.
SLACK = 1e-5
MONOTONE = {"relu", "tanh", "sigmoid", "softplus", "leaky_relu", "elu", "linear"}
K = keras.layers
SCALES = (K.Rescaling, K.Normalization, K.BatchNormalization)  # each number by itself
MOVES = (
    K.Flatten, K.Reshape, K.Permute, K.Dropout, K.GaussianNoise, K.ZeroPadding2D, K.MaxPooling2D, K.AveragePooling2D,
    K.GlobalAveragePooling2D, K.GlobalMaxPooling2D,
)  # fmt: skip


def layers(model):
    """The layers of a Keras model in order; TypeError unless it is a chain, one layer after the other."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"the model is a {type(model).__name__}: a keras.Model was expected, whose layers can be read, "
            "for example advlib.models.load('mnist-mlp')"
        )
    chain = [
        layer
        for part in model.layers
        for layer in (layers(part) if isinstance(part, keras.Model) else [part])
    ]
    chain = [layer for layer in chain if not isinstance(layer, K.InputLayer)]
    x = v = np.random.default_rng(0).random((2, *model.input_shape[1:]), np.float32)
    try:
        for layer in chain:
            v = layer(v)
        same = np.allclose(v, model(x, training=False), rtol=1e-3, atol=1e-3)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        same = False
    if not same:  # branches, shared layers, operations between layers
        raise TypeError(
            f"the model {model.name!r} is not the chain of its layers: one after the other was expected, as in keras.Sequential"
        )
    return chain


def propagate(layer, low, high):
    """Bounds behind one layer from the bounds before it. TypeError, with the layer's name, where there is no rule for it."""
    kind = type(layer)  # exactly: a subclass may compute something else
    if kind in (K.Dense, K.Conv2D):
        middle, radius = affine(layer, (low + high) / 2, (high - low) / 2)
        return activation(layer, middle - radius, middle + radius)
    if kind in SCALES:  # a negative scale swaps the ends
        a, b = layer(low), layer(high)
        return tf.minimum(a, b), tf.maximum(a, b)
    if kind in (K.ReLU, K.LeakyReLU, K.Activation):
        return activation(layer, low, high)
    if kind in MOVES:
        return layer(low), layer(high)
    raise TypeError(
        f"layer {layer.name!r} is a {kind.__name__}, for which there is no interval rule: Dense, Conv2D, pooling, "
        "ReLU and other monotone activations, batch normalisation, Rescaling, Flatten and Reshape have one"
    )


def affine(layer, middle, radius):
    """Wμ + b and |W|r of a dense or convolutional layer."""
    kernel = tf.convert_to_tensor(layer.kernel)
    if isinstance(layer, K.Dense):
        middle, radius = middle @ kernel, radius @ tf.abs(kernel)
    else:
        options = {
            "strides": layer.strides,
            "padding": layer.padding.upper(),
            "dilations": layer.dilation_rate,
        }
        if layer.groups != 1 or layer.data_format != "channels_last":
            raise TypeError(
                f"layer {layer.name!r}: a convolution with groups=1 and channels last was expected"
            )
        middle = tf.nn.conv2d(middle, kernel, **options)
        radius = tf.nn.conv2d(radius, tf.abs(kernel), **options)
    return (middle + layer.bias if layer.use_bias else middle), radius


def activation(layer, low, high):
    """Both ends through the layer's activation; TypeError unless it is monotone."""
    if isinstance(layer, K.ReLU | K.LeakyReLU):
        return layer(low), layer(high)
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in MONOTONE:
        raise TypeError(
            f"layer {layer.name!r} has the activation {name}: one of {', '.join(sorted(MONOTONE))} was expected"
        )
    return layer.activation(low), layer.activation(high)


def activation_name(layer):
    """The name of the function that a layer ends in; "linear" for none."""
    if isinstance(layer, K.ReLU):
        if layer.negative_slope or layer.threshold:
            return "ReLU with a negative slope or a threshold"
        return "relu" if layer.max_value is None else "capped relu"
    function = getattr(layer, "activation", None)
    return "linear" if function is None else getattr(function, "__name__", repr(function))


def box(x, eps):
    """The L∞ ball of radius ε around x, cut to [0, 1]: (low, high)."""
    return tf.maximum(x - eps, 0.0), tf.minimum(x + eps, 1.0)


def bounds(model, x, eps):
    """Lower and upper bounds of the logits over the L∞ ball of radius ε around x and the box [0, 1].

    model: a keras.Model that is a chain of layers. x: (N, H, W, C) in [0, 1]. eps: in [0, 1], a number or one an image.
    Returns two tensors (N, K). TypeError for a layer without a rule, by name.
    Source: Gowal et al. 2018, arXiv 1810.12715, §3. Lesson 11.

        >>> low, high = bounds(net, x[:10], 0.1)
    """
    low, high = box(tf.convert_to_tensor(x), norms._per_image(eps))
    for layer in layers(model):
        low, high = propagate(layer, low, high)
    return low, high


def worst_margins(model, x, y, eps):
    """Upper bounds of z_j − z_y over the ball, (N, K); −inf at j = y.

    model: a keras.Model or, inside a compiled step, its `layers`. The last layer is not bounded itself, the rows W_j − W_y
    are ("elided last layer"): tighter than a difference of the logits' bounds, as the two logits share their inputs.
    Source: Gowal et al. 2018, arXiv 1810.12715, §3, and its released code. Lesson 11."""
    *body, last = model if isinstance(model, list) else layers(model)
    if not isinstance(last, K.Dense) or getattr(last.activation, "__name__", "") != "linear":
        raise TypeError(
            f"the last layer {last.name!r} is a {type(last).__name__}: a Dense layer without activation was expected"
        )
    low, high = box(tf.convert_to_tensor(x), norms._per_image(eps))
    for layer in body:
        low, high = propagate(layer, low, high)
    kernel = tf.transpose(tf.convert_to_tensor(last.kernel))  # (K, d)
    difference = kernel[None] - tf.gather(kernel, y)[:, None]  # (N, K, d)
    middle = tf.einsum("nkd,nd->nk", difference, (low + high) / 2)
    radius = tf.einsum("nkd,nd->nk", tf.abs(difference), (high - low) / 2)
    if last.use_bias:
        middle += last.bias[None] - tf.gather(last.bias, y)[:, None]
    own = tf.one_hot(y, kernel.shape[0], on_value=True, off_value=False)
    return tf.where(own, np.float32(-np.inf), middle + radius)


def verified(model, x, y, eps, batch_size=500):
    """Which images no perturbation in the L∞ ball of radius ε can make the model misread: bool (N,).

    True is a proof, up to float32 rounding, for which the lead must be SLACK = 1e-5 or more. False says nothing.
    x: float32 (N, H, W, C) in [0, 1]; y: true labels (N,). Raises TypeError for a layer without a rule and for bad input.
    Source: Gowal et al. 2018, arXiv 1810.12715. Lesson 11.

        >>> verified(net, x[:1000], y[:1000], 0.1).mean()
    """
    x = check_images(x)
    eps = norms.get("linf").check_eps(eps, x.shape[1:])
    y = check_labels(y, len(x), model.output_shape[-1] if isinstance(model, keras.Model) else None)
    chain = layers(model)
    parts = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
    return np.concatenate([np.max(worst_margins(chain, x[p], y[p], eps), axis=1) for p in parts]) < -SLACK
