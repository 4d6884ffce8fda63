"""Backward pass differentiable approximation (Athalye, Carlini, Wagner 2018): through a defence without a gradient. Lesson 09."""

import numpy as np

from advlib._checks import describe
from advlib._tensorflow import tf
from advlib.attacks.eot import inference


def bpda(model, defence, surrogate=None):
    """logits(x) = model(defence(x)), with the gradient of model ∘ surrogate: J_surrogate(x)ᵀ · ∇(L ∘ model)(defence(x)).

    model: callable, images → logits. defence: callable, images → images, with or without a gradient; a NumPy function
    will do. surrogate: callable of TensorFlow operations, images → images of the same shape, smooth and like the defence;
    by default the identity, right for a defence that gives back nearly what it got. Returns a model, which every attack
    takes; forward it is model(defence(x)), bit for bit, so that an image it gets wrong is wrong.

    The defence is given a NumPy array of its own in every call (TensorFlow operations take it too), may return any float
    type, and may draw random numbers: put `eot` around the result then. It is not compiled with the model, which would
    round otherwise. Raises TypeError for what cannot be called; ValueError, or tf.errors.InvalidArgumentError where the
    model is compiled, for a defence that does not return the surrogate's shape.

    Source: Athalye, Carlini, Wagner 2018, arXiv 1802.00420, §4.1. Lesson 09.

        >>> squeezed = bpda(net, lambda x: np.round(x * 15) / 15)
        >>> x_adv = pgd(squeezed, x[:100], y[:100], eps=0.1)
    """
    for f, name in ((defence, "defence"), (surrogate, "surrogate")):
        if not (callable(f) or (f is None and name == "surrogate")):
            raise TypeError(
                f"{name}={describe(f)}: a callable from images to images was expected, "
                "for example lambda x: np.round(x * 15) / 15"
            )
    run, compiles = inference(model)

    def own(x):  # a copy, as a defence may work in place
        return np.asarray(defence(x.copy()), np.float32)

    def defended(x):
        smooth = x if surrogate is None else surrogate(x)
        return run(forward_backward(tf.numpy_function(own, [x], tf.float32), smooth))

    return tf.function(defended) if compiles else defended


@tf.custom_gradient
def forward_backward(sharp, smooth):
    """The value of `sharp`, to the bit, as smooth + stop_gradient(sharp − smooth) is not, with the gradient of `smooth`."""
    return tf.ensure_shape(sharp, smooth.shape), lambda upstream: (None, upstream)
