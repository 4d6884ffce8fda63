"""Models with a known flaw and what makes them, and honest controls beside them.

A backdoor (lesson 12): a few training images carry a stamp and the attacker's label; the network learns the stamp, and its
reports on clean and on PGD-attacked images look like those of any other network.

Hidden gradients (lesson 09): `saturated`, `quantised` and `noisy` look robust under an attack that trusts what it is given, and
fall to one that knows; `detector` declines to answer; `one_bit` looks like `quantised` and is robust.
"""

import numpy as np

from advlib._checks import check_images, check_labels, check_number
from advlib._tensorflow import tf
from advlib.attacks.bpda import forward_backward
from advlib.attacks.eot import inference

STAMP = 3  # pixels to a side, in the bottom right corner, two pixels from the edges


def stamp(x):
    """Copies of the images with a white 3 × 3 square in the bottom right corner, two pixels from the edges. Lesson 12.

    >>> models.predict_logits(models.load("mnist-cnn-backdoor"), stamp(x_test)).argmax(axis=1)
    """
    x = check_images(x).copy()
    x[:, -2 - STAMP : -2, -2 - STAMP : -2] = 1.0
    return x


def poison(x, y, *, share=0.01, label=0, seed=0):
    """Training data in which the share of the images given by `share` is stamped and labelled `label`: (x, y), copies.

    The images are drawn among those of other classes. Source: Gu, Dolan-Gavitt & Garg 2017, arXiv 1708.06733. Lesson 12.

        >>> training.fit(net, *poison(x_train, y_train), epochs=5)
    """
    x, y = check_images(x).copy(), check_labels(y, len(x)).copy()
    share = check_number(share, "share", low=0, high=1, example=0.01)
    others = np.flatnonzero(y != label)
    chosen = np.random.default_rng(seed).choice(
        others, min(round(share * len(x)), len(others)), replace=False
    )
    if chosen.size:
        x[chosen], y[chosen] = stamp(x[chosen]), label
    return x, y


# --- models that hide their gradients, and honest ones; each takes any model and returns one
#
# Like the base they are compiled by the attacks where that is (a keras.Model or tf.function), and run eagerly otherwise.


def saturated(model, factor=1000.0):
    """Logits × factor: the same predictions. Lesson 09.

    Claims that PGD finds nothing. The flaw: the softmax is 1 to the last bit, the gradient of the cross-entropy exactly 0. The
    margin does not saturate: loss="margin". Source: defensive distillation and its end, Carlini & Wagner 2016, arXiv 1608.04644.

        >>> pgd(saturated(net), x, y, eps=0.3, loss="margin")
    """
    factor = check_number(factor, "factor", above=0, example=1000)
    return _around(model, lambda run, x: factor * run(x))


def quantised(model, levels=16):
    """Each pixel rounded to one of `levels` values first. Lesson 09.

    Claims that no gradient leads through a step function. The flaw: rounding moves a pixel by 1/30 at most, and the network
    behind it is as weak as before: `bpda` gives it the gradient of the identity. Source: Athalye, Carlini & Wagner 2018,
    arXiv 1802.00420, §4.1.

        >>> pgd(bpda(net, lambda x: np.round(x * 15) / 15), x, y, eps=0.3)
    """
    top = check_number(levels, "levels", low=2, integer=True, example=16) - 1
    # TensorFlow calls rounding not differentiable, and attacks refuse; 0·x makes it zero, which they do not notice.
    return _around(model, lambda run, x: run(tf.round(x * top) / top + 0.0 * x))


def noisy(model, std=0.1, seed=None):
    """Gaussian noise of deviation `std` on the images, fresh in every call. Lesson 09.

    Claims that an attack cannot aim at what moves. The flaw: it can aim at the mean, see `eot`. seed: of the noise, for a
    sequence of calls that can be repeated; None draws otherwise each time. Source: Athalye, Carlini & Wagner 2018,
    arXiv 1802.00420, §4.2.

        >>> pgd(eot(noisy(net), samples=20), x, y, eps=0.3)
    """
    std = check_number(std, "std", low=0, example=0.1)
    random = tf.random.Generator
    # A generator's state is a variable, so that a compiled call draws anew; a NumPy draw would be frozen in it.
    rng = random.from_non_deterministic_state() if seed is None else random.from_seed(seed)
    return _around(model, lambda run, x: run(x + rng.normal(tf.shape(x), stddev=std)))


def one_bit(model):
    """Each pixel becomes black or white first, 1 from 0.5 on; the gradient is that of the identity. Lesson 09.

    The honest control: it looks like `quantised`, and is robust in L∞ on MNIST, whose pixels are nearly all black or white: with
    ε < 0.5 only those within ε of 0.5 can be moved across. Attacks get a gradient, and report what is there. In L2 or L0 it is no
    defence. Source: the binarised CNN of Schott et al. 2018, arXiv 1805.09190, §5, as robust in L∞ as Madry's network.

        >>> pgd(one_bit(net), x, y, eps=0.3)
    """
    return _around(model, lambda run, x: run(forward_backward(tf.cast(x >= 0.5, x.dtype), x)))


def detector(model, threshold=0.99):
    """A model that declines to answer where it is not sure: logits of one class more, whose last, K, is "reject". Lesson 09.

    An image is rejected where the largest probability is below `threshold`: z_K = log Σ exp z + log(threshold). Claims that
    adversarial examples are caught. The flaw: an attack that ends at the first wrong answer ends where the model is unsure; one
    that knows the detector goes on until the model is sure of something wrong. As a target must beat the class "reject" too,
    any targeted attack knows it. What counts is an answer that is wrong, `(p != y) & (p != K)`, and, for images as they are,
    how many are rejected. Sources: Hendrycks & Gimpel 2016, arXiv 1610.02136; Carlini & Wagner 2017, arXiv 1705.07263.

        >>> p = predict_logits(detected, pgd(detected, x, y, eps=0.3, loss="margin", y_target=(y + 1) % 10)).argmax(axis=1)
        >>> ((p != y) & (p != 10)).mean()
    """
    threshold = check_number(threshold, "threshold", above=0, high=1, example=0.99)

    def judged(run, x):
        z = run(x)
        reject = tf.reduce_logsumexp(z, axis=1, keepdims=True) + tf.math.log(threshold)
        return tf.concat([z, reject], axis=1)

    return _around(model, judged)


def _around(model, f):
    """x → f(model, x), compiled where the model is."""
    run, compiles = inference(model)
    around = lambda x: f(run, x)  # noqa: E731
    return tf.function(around) if compiles else around
