"""Losses, one number an image, each to be made as large as possible by the attacker.

z are logits (N, K), y the true labels (N,), t the target labels (N,). An attack sums the losses over the batch before
it differentiates, so that an image's gradient does not depend on its company. Lesson 03 derives the first, lesson 04
compares the others.

    >>> losses.margin(np.array([[2.0, 5.0, 1.0]], "float32"), [0])
    <tf.Tensor: shape=(1,), dtype=float32, numpy=array([3.], dtype=float32)>
"""

import numpy as np

from advlib._tensorflow import tf


def cross_entropy(z, y):
    """−z_y + log Σ_j exp z_j; unbounded above, its gradient in z is softmax(z) − e_y. (N,)"""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(_labels(y), z)


def margin(z, y):
    """max_{j≠y} z_j − z_y; positive where the model is wrong (Carlini & Wagner 2017, arXiv 1608.04644, §V). (N,)"""
    return _largest_other(z, y) - _at(z, y)


def dlr(z, y):
    """Difference of logits ratio, −(z_y − max_{j≠y} z_j) / (z_(1) − z_(3)); unchanged by a·z + b (Croce & Hein 2020,
    arXiv 2003.01690, eq. 6). At least 3 classes, else ValueError. (N,)"""
    _at_least(3, z, "the DLR loss")
    top = tf.math.top_k(z, 3).values
    return margin(z, y) / (top[:, 0] - top[:, 2] + 1e-12)


def cross_entropy_targeted(z, y, t):
    """−cross_entropy(z, t): largest where the model is sure of the target. (N,)"""
    return -cross_entropy(z, t)


def margin_targeted(z, y, t):
    """z_t − max_{j≠t} z_j; positive where the model predicts the target. (N,)"""
    return _at(z, t) - _largest_other(z, t)


def dlr_targeted(z, y, t):
    """−(z_y − z_t) / (z_(1) − (z_(3) + z_(4)) / 2) (Croce & Hein 2020, eq. 7). At least 4 classes, else ValueError. (N,)"""
    _at_least(4, z, "the targeted DLR loss")
    top = tf.math.top_k(z, 4).values
    return (_at(z, t) - _at(z, y)) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def difference(z, y, t):
    """z_t − z_y, of this pair of classes alone: FAB-T's boundary (Croce & Hein 2020, §5). As `loss="difference"` it is for
    attacks that head for a class; ValueError without one. (N,)"""
    if t is None:
        raise ValueError(
            "loss='difference' needs a class to head for: y_target was expected, for example (y + 1) % 10; use loss='margin'"
        )
    return _at(z, t) - _at(z, y)


def kl(z, z_clean, constant=True):
    """KL(softmax(z_clean) ‖ softmax(z)); needs no label. The first is a constant to an attack; a defence sets constant=False
    and differentiates both (TRADES, Zhang et al. 2019, arXiv 1901.08573, eq. 3 and 5). (N,)"""
    log_p = tf.nn.log_softmax(z_clean)
    log_p = tf.stop_gradient(log_p) if constant else log_p
    return tf.reduce_sum(tf.exp(log_p) * (log_p - tf.nn.log_softmax(z)), axis=1)


# What `loss="…"` of an attack means: functions of logits, true labels, targets (or None) and the logits of the clean image.
ATTACK_LOSSES = {
    "ce": lambda z, y, t, z_clean: cross_entropy(z, y) if t is None else cross_entropy_targeted(z, y, t),
    "margin": lambda z, y, t, z_clean: margin(z, y) if t is None else margin_targeted(z, y, t),
    "dlr": lambda z, y, t, z_clean: dlr(z, y) if t is None else dlr_targeted(z, y, t),
    "kl": lambda z, y, t, z_clean: kl(z, z_clean),
    "difference": lambda z, y, t, z_clean: difference(z, y, t),
}


def _labels(y):
    if len(np.shape(y)) != 1:
        raise ValueError(
            f"labels of shape {tuple(np.shape(y))}: one label an image, shape (N,), was expected, for example y.ravel(), "
            "or y.argmax(axis=1) if they are one-hot"
        )
    return y


def _at(z, y):
    return tf.gather(z, _labels(y), axis=1, batch_dims=1)


def _largest_other(z, y):
    is_y = tf.one_hot(_labels(y), tf.shape(z)[1], on_value=True, off_value=False)
    return tf.reduce_max(tf.where(is_y, tf.cast(-float("inf"), z.dtype), z), axis=1)


def _at_least(classes, z, what):
    if z.shape[1] < classes:
        raise ValueError(
            f"{what} was asked of a model with {z.shape[1]} classes: at least {classes} were expected; use loss='margin'"
        )
