"""Randomised smoothing (Cohen, Rosenfeld and Kolter 2019): certify the vote over Gaussian noise. Lesson 11.

The smoothed classifier answers the class that the model gives most often to x + σ·n, n ~ N(0, I). Where that class has a share
of at least p > ½, no perturbation of L2 size below σ·Φ⁻¹(p) changes the answer. The share is estimated, so a certificate is
wrong with a probability of at most α. The noise is not clipped to [0, 1].
"""

import hashlib
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, binomtest, norm
from tqdm.auto import tqdm

from advlib._checks import check_images, check_labels, check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import Oracle, quiet
from advlib.models import predict_logits

ABSTAIN = -1


class Certificates(NamedTuple):
    """What `certify` found, image by image."""

    label: np.ndarray  # the smoothed classifier's class, (N,) int64; −1 where it abstains
    radius: np.ndarray  # the certified L2 radius, (N,) float64; 0 where it abstains
    share: np.ndarray  # the lower bound of the class's share of the votes, (N,)


def lower_bound(k, n, alpha):
    """The one-sided Clopper–Pearson bound: with probability 1 − α a share is at least this when `k` of `n` were seen.

    >>> float(lower_bound(990, 1000, 0.001))
    0.9760...
    """
    return np.where(np.asarray(k) > 0, beta.ppf(alpha, k, np.asarray(n) - k + 1), 0.0)


def certify(model, x, *, sigma, selection=100, samples=10_000, alpha=0.001, seed=0, batch_size=500):
    """The smoothed classifier's class of each image and the L2 radius within which it cannot change.

    model: callable, images → logits, best trained under the same noise. x: float32 (N, H, W, C) in [0, 1]. sigma: σ of the
    noise in pixel units. selection: draws that choose the class; samples: fresh draws that bound its share from below by
    Clopper & Pearson, at level alpha. seed: of the noise, which depends on the image and not on its place or company.

    Returns `Certificates`. Where the bound is below ½ the classifier abstains: label −1, radius 0. Each certificate is wrong
    with a probability of at most alpha, and speaks of the smoothed classifier, not of the model. NaN is no vote for any class.
    Raises TypeError or ValueError for bad input.
    Source: Cohen et al. 2019, arXiv 1902.02918, Theorem 1 and §3.2 (CERTIFY). Lesson 11.

        >>> certify(net, x[:10], sigma=0.25, samples=1000).radius
    """
    votes = _votes(model, x, sigma, (selection, samples), alpha, seed, batch_size)
    label = votes[0].argmax(axis=1)
    share = lower_bound(votes[1][np.arange(len(label)), label], samples, alpha)
    sure = share >= 0.5
    radius = np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0.0)
    return Certificates(np.where(sure, label, ABSTAIN), radius, share)


def predict(model, x, *, sigma, samples=1000, alpha=0.001, seed=0, batch_size=500):
    """The smoothed classifier's class of each image, int64 (N,), −1 where the vote is too close to call at level alpha.

    It abstains unless a two-sided binomial test of the two leading classes rejects ½ at level alpha. Arguments as in `certify`.
    Source: Cohen et al. 2019, arXiv 1902.02918, §3.2 (PREDICT). Lesson 11.
    """
    (votes,) = _votes(model, x, sigma, (samples,), alpha, seed, batch_size)
    first, second = np.sort(votes, axis=1)[:, :-3:-1].T
    sure = [
        a > 0 and binomtest(int(a), int(a + b), 0.5).pvalue <= alpha
        for a, b in zip(first, second, strict=True)
    ]
    return np.where(sure, votes.argmax(axis=1), ABSTAIN)


def certified_accuracy(certificates, y, radii):
    """Share of all images with the right class and a certified radius of at least r, for each r: float64 (R,)."""
    right = certificates.label == check_labels(y, len(certificates.label))
    return np.array([(right & (certificates.radius >= r)).mean() for r in np.atleast_1d(radii)])


def average_radius(certificates, y):
    """The average certified radius (ACR): the mean radius over all images, 0 where the class is wrong or abstained."""
    right = certificates.label == check_labels(y, len(certificates.label))
    return float((certificates.radius * right).mean())


def _votes(model, x, sigma, counts, alpha, seed, batch_size):
    """How often each class won under noise: for each count of draws an array (N, K); all draws are fresh."""
    x = check_images(x)
    sigma = check_number(sigma, "sigma", above=0, example=0.25)
    alpha = check_number(alpha, "alpha", above=0, high=0.5, example=0.001)
    for count in counts:
        check_number(count, "samples", low=1, integer=True, example=1000)
    seed = check_number(seed, "seed", low=0, integer=True, example=0)
    classes = predict_logits(model, x[:1]).shape[1]
    oracle = Oracle(model, batch_size)
    vote = _compiled(oracle, classes, x.shape[1:], batch_size)
    votes = [np.zeros((len(x), classes), np.int64) for _ in counts]
    for i, image in enumerate(tqdm(x, desc="smoothing", unit="image", delay=5, leave=False, disable=quiet())):
        digest = hashlib.blake2b(image.tobytes(), digest_size=8, key=repr(seed).encode()[:64]).digest()
        key, draw = np.frombuffer(digest, np.int32), 0
        for purpose, count in enumerate(counts):
            for _, left in oracle.batches(np.arange(count)):
                votes[purpose][i] += vote(image, key + np.int32([0, draw]), sigma, left).numpy()
                draw += 1
    return votes


def _compiled(oracle, classes, shape, batch_size):
    call = oracle._call()

    def vote(image, key, sigma, count):
        noise = tf.random.stateless_normal((batch_size, *shape), key)
        z = call(image[None] + sigma * noise)
        # −1 is the one-hot of no class
        predicted = tf.where(tf.reduce_any(tf.math.is_nan(z), axis=1), np.int64(-1), tf.argmax(z, axis=1))
        return tf.reduce_sum(tf.one_hot(predicted, classes, dtype=tf.int64)[:count], axis=0)

    if not oracle.compiles:
        return vote
    signature = [
        tf.TensorSpec(shape),
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([]),
        tf.TensorSpec([], tf.int32),
    ]
    return tf.function(vote, input_signature=signature)
