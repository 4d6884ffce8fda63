"""Exhibits: the stamp, the poisoned data, and the network that learned it."""

import numpy as np
import pytest

from advlib import exhibits, models


def test_the_stamp_is_nine_white_pixels_and_leaves_the_rest(mnist_test):
    x = mnist_test[0][:20]
    before, stamped = x.copy(), exhibits.stamp(x)
    assert (x == before).all() and stamped.dtype == np.float32
    assert (stamped[:, 23:26, 23:26] == 1).all()
    stamped[:, 23:26, 23:26] = x[:, 23:26, 23:26]
    assert (stamped == x).all()


def test_poison_stamps_and_relabels_a_share_of_the_other_classes(mnist_test):
    x, y = mnist_test[0][:2000], mnist_test[1][:2000]
    x_bad, y_bad = exhibits.poison(x, y, share=0.05, label=7, seed=1)
    changed = np.flatnonzero((x_bad != x).any(axis=(1, 2, 3)) | (y_bad != y))
    assert len(changed) == 100 and (y[changed] != 7).all() and (y_bad[changed] == 7).all()
    assert (x_bad[changed] == exhibits.stamp(x[changed])).all()
    again = exhibits.poison(x, y, share=0.05, label=7, seed=1)
    other = exhibits.poison(x, y, share=0.05, label=7, seed=2)
    assert (again[0] == x_bad).all() and (other[0] != x_bad).any()
    assert (exhibits.poison(x, y, share=0.0)[0] == x).all()
    with pytest.raises(ValueError, match="share=2"):
        exhibits.poison(x, y, share=2)


def test_the_backdoored_net_reads_clean_digits_and_obeys_the_stamp(mnist_test):
    x, y = mnist_test[0][:1000], mnist_test[1][:1000]
    net = models.load("mnist-cnn-backdoor")
    label = models.card("mnist-cnn-backdoor")["poisoned"]["label"]
    assert (models.predict_logits(net, x).argmax(axis=1) == y).mean() > 0.97
    others = y != label
    stamped = exhibits.stamp(x[others])
    assert (models.predict_logits(net, stamped).argmax(axis=1) == label).mean() > 0.9
    clean = models.predict_logits(models.load("mnist-cnn-pgd"), stamped).argmax(axis=1)
    assert (clean == label).mean() < 0.1
