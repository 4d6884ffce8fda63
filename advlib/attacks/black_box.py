"""A model that answers and gives no gradient. Lesson 07."""

import numpy as np

from advlib._tensorflow import tf


class NoGradientError(ValueError):
    """A gradient was asked of a model that has none to give."""

    # AutoGraph, which rewrites errors raised while it traces, keeps the type of those that are made so.
    __init__ = Exception.__init__


class BlackBox:
    """A model as an outsider meets it: it answers questions, counts them, and gives no gradient.

    model: callable, images → logits. labels: answer with the predicted class alone (as logits: 2 for it, 0 for the others),
    as the decision-based attacks expect; otherwise with the logits. It is a model itself, which every attack and `evaluate`
    take; an attack that asks for a gradient raises NoGradientError. `queries` counts the images it was asked about, by
    attacks and by everyone else; set it to 0 to start again. (Inside a function of yours, as `lambda x: box(x)`, it is asked
    in batches of one size and counts the repeats that fill them up.)

    Source: the threat models of Carlini et al. 2019, arXiv 1902.06705, §2.2.3. Lesson 07.

        >>> box = BlackBox(net)
        >>> x_adv = square(box, x[:10], y[:10], eps=0.3, steps=100)
        >>> box.queries
    """

    def __init__(self, model, labels=False):
        if not callable(model):
            raise TypeError(
                f"the model is a {type(model).__name__}: a callable from images to logits was expected, for example a keras.Model"
            )
        self.model, self.labels, self.queries = model, bool(labels), 0

    def __call__(self, x):
        """Logits (N, K) of float32 images (N, H, W, C), NumPy or tensor; a gradient through them raises NoGradientError.

        Raises TypeError for images of another dtype.
        """
        from advlib.attacks._loop import Oracle

        if tf.is_tensor(x) and not hasattr(x, "numpy"):
            raise NoGradientError("a black box was compiled into a graph: it answers images, not symbolic tensors; "
                                  "call it eagerly, for example box(x_test[:5])")  # fmt: skip

        x = tf.convert_to_tensor(x)
        if x.dtype != tf.float32:
            raise TypeError(
                f"the images are {x.dtype.name}: float32 was expected, for example x.astype(np.float32)"
            )
        z = tf.constant(
            Oracle(self).logits(x.numpy())
        )  # asked outside `answer`, in which TensorFlow looks for variables

        @tf.custom_gradient
        def answer(x):
            def refuse(*_):
                raise NoGradientError("a gradient was asked of a black box: an attack without gradients was expected, "
                                      "for example advlib.attacks.square")  # fmt: skip

            return tf.identity(z), refuse

        return answer(x)

    def shown(self, z):
        """What an outsider sees of the logits `z`."""
        if not self.labels:
            return z
        shown = 2 * np.eye(z.shape[1], dtype=np.float32)[z.argmax(axis=1)]
        shown[np.isnan(z).any(axis=1)] = np.nan  # no answer, and no victory
        return shown
