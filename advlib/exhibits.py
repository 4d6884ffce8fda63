"""Models with a known flaw and what makes them, and honest controls beside them.

A backdoor (lesson 12): a few training images carry a stamp and the attacker's label; the network learns the stamp, and its
reports on clean and on PGD-attacked images look like those of any other network.
"""

import numpy as np

from advlib._checks import check_images, check_labels, check_number

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
