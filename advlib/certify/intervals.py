"""Interval bound propagation (Gowal et al. 2018): for each number in the network, the range it can take. Lesson 11.

Bounds are pushed through a Keras model layer by layer. An affine layer y = Wv + b maps the box [l, u] with middle μ and radius r
to middle Wμ + b and radius |W|r; a monotone layer maps the two ends. Everything is TensorFlow, so that training can
differentiate it.
"""

from functools import partial

import numpy as np

from advlib import norms
from advlib._checks import check_images, check_labels
from advlib._tensorflow import keras, tf

K = keras.layers
# An activation is known by what it is: a function of one's own may be called relu too.
MONOTONE = {
    name: [getattr(home, name) for home in (keras.activations, keras.ops, tf.nn) if hasattr(home, name)]
    for name in ("relu", "tanh", "sigmoid", "softplus", "leaky_relu", "elu", "linear")
}
SCALES = (K.Rescaling, K.Normalization, K.BatchNormalization)  # each number by itself
MOVES = (
    K.Flatten, K.Reshape, K.Permute, K.Dropout, K.GaussianNoise, K.ZeroPadding2D, K.MaxPooling2D, K.GlobalMaxPooling2D,
)  # fmt: skip
AVERAGES = (K.AveragePooling2D, K.GlobalAveragePooling2D)


def layers(model):
    """The layers of a Keras model in order; TypeError unless it is a chain, one layer after the other."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"the model is a {type(model).__name__}: a keras.Model was expected, whose layers can be read, "
            "for example advlib.models.load('mnist-mlp')"
        )
    chain = graph(model)
    x = v = np.random.default_rng(0).random((2, *model.input_shape[1:]), np.float32)
    try:
        for layer in chain:
            v = layer(v)
        z = np.asarray(model(x, training=False))
        same = np.abs(v - z).max() <= 1e-4 * np.abs(z).max()
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        same = False
    if not same:
        raise no_chain(model)
    return chain


def graph(model):
    """The layers along the graph of a model and of the models in it. TypeError where they are no chain."""
    by_depth = getattr(getattr(model, "_functional", model), "_nodes_by_depth", {})
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    # a `call` of one's own need not follow the graph
    call = next(owner for owner in type(model).__mro__ if "call" in vars(owner))
    followed = call.__module__.startswith("keras.") and "call" not in vars(model)
    # one node at each depth, each a layer called on one tensor and nothing else, such as training=True
    single = len(nodes) == len(by_depth) > 0 and len(model.outputs) == 1
    if not (followed and single and all(isinstance(n.operation, K.Layer) and inputs(n) <= 1 for n in nodes)):
        raise no_chain(model)
    parts = [node.operation for node in nodes if not isinstance(node.operation, K.InputLayer)]
    return [layer for part in parts for layer in (graph(part) if isinstance(part, keras.Model) else [part])]


def inputs(node):
    """How many arguments other than None and training=False a node of a model's graph was called with."""
    return sum(
        v is not None and v is not False for v in (*node.arguments.args, *node.arguments.kwargs.values())
    )


def no_chain(model):
    # branches, operations between layers, a `call` of its own
    return TypeError(
        f"the model {model.name!r} is not the chain of its layers: one after the other was expected, as in keras.Sequential"
    )


def kind(layer):
    """A layer's exact type: a subclass may compute something else, and so do layers in other number formats: TypeError."""
    if getattr(layer, "quantization_mode", None) or layer.compute_dtype != "float32":
        raise TypeError(
            f"layer {layer.name!r} computes in {getattr(layer, 'quantization_mode', None) or layer.compute_dtype}: "
            "float32 was expected, for example the model before quantize()"
        )
    return type(layer)


def propagate(layer, low, high, outward=False):
    """Bounds behind one layer from the bounds before it. TypeError, with the layer's name, where there is no rule for it.

    outward: the bounds are widened by what float32 may lose in the layer, here and in the model."""
    rule, reach = kind(layer), largest(low, high)
    if rule in (K.Dense, K.Conv2D):
        middle, radius = (low + high) / 2, (high - low) / 2
        share = rounding(np.prod(layer.kernel.shape[:-1])) if outward else None
        middle, radius = affine(layer, middle, radius + share * reach if outward else radius)
        radius += share * tf.abs(layer.bias) if outward and layer.use_bias else 0.0
        return activation(layer, middle - radius, middle + radius, outward)
    if rule in (K.ReLU, K.LeakyReLU, K.Activation):
        return activation(layer, low, high, outward)
    if rule in MOVES:
        return layer(low), layer(high)
    if rule in (*SCALES, *AVERAGES):  # a negative scale swaps the ends
        a, b = layer(low), layer(high)
        a, b = tf.minimum(a, b), tf.maximum(a, b)
        return widened(layer, a, b, reach) if outward else (a, b)
    raise TypeError(
        f"layer {layer.name!r} is a {rule.__name__}, for which there is no interval rule: Dense, Conv2D, pooling, "
        "ReLU and other monotone activations, batch normalisation, Rescaling, Flatten and Reshape have one"
    )


def rounding(n):
    """What float32 may lose in a sum of n terms, here and in the model together, as a share of the sum of their sizes.

    Errors of 2⁻²⁴ of a partial sum add up to at most n of them, and by chance to √n (Higham and Mary 2019,
    doi 10.1137/18M1226312): four times √n are taken, and 16 more terms for the steps around the sum."""
    return np.float32(2.0**-22 * np.sqrt(n + 16))


def largest(low, high):
    return tf.maximum(tf.abs(low), tf.abs(high))


def widened(function, low, high, reach):
    """Bounds of a function of single numbers, or of a mean, widened by what float32 may lose where |v| ≤ reach."""
    size = tf.abs(function(reach)) + tf.abs(function(-reach)) + tf.abs(function(tf.zeros_like(reach)))
    lost = rounding(reach.shape[1:].num_elements() / size.shape[1:].num_elements()) * size
    return low - lost, high + lost


def affine(layer, middle, radius):
    """Wμ + b and |W|r of a dense or convolutional layer."""
    times, kernel = product(layer), tf.convert_to_tensor(layer.kernel)
    middle, radius = times(middle, kernel), times(radius, tf.abs(kernel))
    return (middle + layer.bias if layer.use_bias else middle), radius


def terms(layer, size):
    """|W|m + |b|: the sum of the sizes of the terms of a dense or convolutional layer."""
    total = product(layer)(size, tf.abs(tf.convert_to_tensor(layer.kernel)))
    return total + tf.abs(layer.bias) if layer.use_bias else total


def product(layer):
    """The function (v, W) → Wv of a dense or convolutional layer. TypeError for a convolution in another form."""
    if kind(layer) is K.Dense:
        return tf.matmul
    if layer.groups != 1 or layer.data_format != "channels_last":
        raise TypeError(f"layer {layer.name!r}: a convolution with groups=1 and channels last was expected")
    return partial(
        tf.nn.conv2d,
        strides=layer.strides,
        padding=layer.padding.upper(),
        dilations=layer.dilation_rate,
    )


def activation(layer, low, high, outward=False):
    """Both ends through the layer's activation; TypeError unless it is monotone."""
    if kind(layer) in (K.ReLU, K.LeakyReLU):
        return layer(low), layer(high)
    name = activation_name(layer)
    if name not in MONOTONE:
        raise TypeError(
            f"layer {layer.name!r} has the activation {name}: one of {', '.join(sorted(MONOTONE))} was expected, "
            "as Keras or TensorFlow defines it"
        )
    a, b = layer.activation(low), layer.activation(high)
    exact = name in ("relu", "linear") or not outward
    return (a, b) if exact else widened(layer.activation, a, b, largest(low, high))


def activation_name(layer):
    """The name of the function that a layer ends in; "linear" for none. One that is not in MONOTONE has its module behind."""
    if kind(layer) is K.ReLU:
        if layer.negative_slope or layer.threshold:
            return "ReLU with a negative slope or a threshold"
        return "relu" if layer.max_value is None else "capped relu"
    function = getattr(layer, "activation", None)
    if function is None:
        return "linear"
    for name, known in MONOTONE.items():
        if any(function is one for one in known):
            return name
    return f"{getattr(function, '__name__', repr(function))} of {getattr(function, '__module__', None)}"


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


def worst_margins(model, x, y, eps, outward=False):
    """Upper bounds of z_j − z_y over the ball, (N, K); −inf at j = y.

    model: a keras.Model or, inside a compiled step, its `layers`. The last layer is not bounded itself, the rows W_j − W_y
    are ("elided last layer"): tighter than a difference of the logits' bounds, as the two logits share their inputs.
    outward: what float32 may lose is added, in every layer (`rounding`): a proof needs it, training does not.
    Source: Gowal et al. 2018, arXiv 1810.12715, §3, and its released code. Lesson 11."""
    *body, last = model if isinstance(model, list) else layers(model)
    if kind(last) is not K.Dense or activation_name(last) != "linear":
        raise TypeError(
            f"the last layer {last.name!r} is a {type(last).__name__}: a Dense layer without activation was expected"
        )
    low, high = box(tf.convert_to_tensor(x), norms._per_image(eps))
    for layer in body:
        low, high = propagate(layer, low, high, outward)
    kernel = tf.transpose(tf.convert_to_tensor(last.kernel))  # (K, d)
    difference = kernel[None] - tf.gather(kernel, y)[:, None]  # (N, K, d)
    middle = tf.einsum("nkd,nd->nk", difference, (low + high) / 2)
    radius = tf.einsum("nkd,nd->nk", tf.abs(difference), (high - low) / 2)
    if last.use_bias:
        middle += last.bias[None] - tf.gather(last.bias, y)[:, None]
    if outward:  # the model rounds z_j and z_y each by itself: |W_j| + |W_y|, not |W_j − W_y|
        size = terms(last, largest(low, high))
        radius += rounding(kernel.shape[1]) * (size + tf.gather(size, y, axis=1, batch_dims=1)[:, None])
    own = tf.one_hot(y, kernel.shape[0], on_value=True, off_value=False)
    return tf.where(own, np.float32(-np.inf), middle + radius)


def leads(chain, x, y, eps, batch_size=500):
    """How far z_y stays at least before every other logit over the ball, rounded outwards: float32 (N,)."""
    parts = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
    worst = [np.max(worst_margins(chain, x[p], y[p], eps, outward=True), axis=1) for p in parts]
    return -np.concatenate(worst)


def verified(model, x, y, eps, batch_size=500):
    """Which images no perturbation in the L∞ ball of radius ε can make the model misread: bool (N,).

    True is a proof, with every bound rounded outwards by what float32 may lose (`rounding`). False says nothing.
    x: float32 (N, H, W, C) in [0, 1]; y: true labels (N,). Raises TypeError for a layer without a rule and for bad input.
    Source: Gowal et al. 2018, arXiv 1810.12715. Lesson 11.

        >>> verified(net, x[:1000], y[:1000], 0.1).mean()
    """
    x = check_images(x)
    eps = norms.get("linf").check_eps(eps, x.shape[1:])
    chain = layers(model)
    y = check_labels(y, len(x), model.output_shape[-1])
    return leads(chain, x, y, eps, batch_size) > 0
