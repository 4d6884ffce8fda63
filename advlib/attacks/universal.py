"""Universal perturbations (Moosavi-Dezfooli et al. 2017): one v for all images. Lesson 12."""

from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from advlib import norms
from advlib._checks import (
    check_choice,
    check_images,
    check_labels,
    check_logits,
    check_number,
    predicted_classes,
)
from advlib._tensorflow import tf
from advlib.attacks._loop import Oracle, quiet
from advlib.attacks.deepfool import deepfool
from advlib.losses import cross_entropy


def universal(
    model, x, y, *, eps, norm="linf", method="deepfool", steps=200, passes=5, enough=0.8, seed=0, batch_size=128
):  # fmt: skip
    """One v, ‖v‖ ≤ ε, such that the model's prediction changes from x to clip(x + v) for as many images as possible.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1], the images v is fitted to, some hundreds; y: true
    labels (N,); the images that the model gets wrong are left out. eps: budget in pixel units; norm: "linf" or "l2".
    method: "deepfool", the paper's: image by image, v ← Π( v + the shortest step that changes the prediction at x + v ),
    at most `passes` times over all images, or until the share `enough` of their predictions has changed. Or "pgd", stronger
    and quicker: v ← Π( v + α · steepest(mean of ∇L) ), L = min(−log p_y, 1), for `steps` steps of one batch each, α falling
    from ε/5 to 0. seed: of the order of the images and of the signs that "pgd" begins with.

    Returns v, float32 (H, W, C), to be used as np.clip(x + v, 0, 1). It belongs to the set it was fitted to: judge it on other
    images, with `fooling`. Raises TypeError or ValueError for bad input, NoGradientError for a black box.

    Source: Moosavi-Dezfooli, Fawzi, Fawzi & Frossard 2017, arXiv 1610.08401, Algorithm 1; the clipped loss: Shafahi et al.
    2020, arXiv 1811.11304, §3. Lesson 12.

        >>> from advlib.attacks.universal import fooling
        >>> v = universal(net, x_train[:1000], y_train[:1000], eps=0.2, method="pgd")
        >>> fooling(net, x_test, y_test, v)
    """
    x = check_images(x)
    ball = norms.get(norm, among=("linf", "l2"))
    eps = ball.check_eps(eps, x.shape[1:])
    check_choice(method, "method", ("deepfool", "pgd"))
    check_number(steps, "steps", low=0, integer=True, example=200)
    check_number(passes, "passes", low=0, integer=True, example=5)
    check_number(enough, "enough", low=0, high=1, example=0.8)
    check_number(seed, "seed", low=0, integer=True, example=0)
    check_number(batch_size, "batch_size", low=1, integer=True, example=128)
    oracle = Oracle(model, batch_size)
    z = check_logits(oracle.logits(x), len(x))
    y = check_labels(y, len(x), z.shape[1])
    right = predicted_classes(z) == y
    x, y, z = x[right], y[right], z[right]
    if not len(x) or not eps:
        return np.zeros(x.shape[1:], np.float32)
    rng = np.random.default_rng(seed)
    if method == "deepfool":
        return by_deepfool(model, oracle, x, y, ball, eps, passes, enough, rng)
    return by_pgd(oracle, x, y, z, ball, eps, steps, rng)


def by_deepfool(model, oracle, x, y, ball, eps, passes, enough, rng):
    """For each image that v does not fool yet: v ← Π( v + argmin{ ‖r‖₂ : the prediction changes at x + v + r } )."""
    v, best, most = np.zeros(x.shape[1:], np.float32), None, -1.0
    for _ in tqdm(range(passes), desc="universal", unit="pass", delay=5, leave=False, disable=quiet()):
        for i in rng.permutation(len(x)):
            here = np.clip(x[i : i + 1] + v, 0, 1)
            # x itself where v fools already
            there = deepfool(model, here, y[i : i + 1], steps=10, batch_size=1)
            v = project(v + (there - here)[0], ball, eps)
        fooled = (predicted_classes(oracle.logits(np.clip(x + v, 0, 1))) != y).mean()
        if fooled > most:
            best, most = v, fooled
        if fooled >= enough:
            break
    return v if best is None else best


def by_pgd(oracle, x, y, z, ball, eps, steps, rng):
    """v ← Π( v + α · steepest(mean of ∇L over a batch) ), the gradient taken at clip(x + v) and passed on as if not clipped."""
    signs = rng.choice(np.float32([-1, 1]), x.shape[1:])  # a corner of the ball: better than 0
    v = project(signs * np.float32(eps), ball, eps)
    constants = [tf.constant(part) for part in (x, y, z)]
    gradient = oracle.step(gradients, ball, capped, constants, False, x, (), ())
    for step in tqdm(range(steps), desc="universal", unit="step", delay=5, leave=False, disable=quiet()):
        rows = rng.choice(len(x), oracle.batch_size, replace=len(x) < oracle.batch_size)
        g = gradient(rows, np.clip(x[rows] + v, 0, 1), [])[2].numpy()
        alpha = eps / 5 * (1 - step / steps)
        # Not clipped: a pixel that is black in every image would never come back from v < 0.
        v = project(
            v + np.float32(alpha) * ball.steepest(g.mean(axis=0, keepdims=True), None).numpy()[0], ball, eps
        )
    return v


def capped(z, y):
    """min( −log p_y, 1 ): an image that is lost no longer pulls. (N,)"""
    return tf.minimum(cross_entropy(z, y), 1.0)


def gradients(ball, at):
    """∇L of each image: nothing moves here, as the step is shared."""
    return (at.gradient,)


def project(v, ball, eps):
    """The point nearest to v with ‖v‖ ≤ ε; no image, no box."""
    if ball.name == "linf":
        return np.clip(v, -np.float32(eps), np.float32(eps))
    return v * np.float32(min(1, eps / max(np.linalg.norm(v), 1e-12)))


class Fooling(NamedTuple):
    """What a universal perturbation does to a set of images, in shares of all of them."""

    fooled: float  # the prediction changes
    error: float  # the prediction at clip(x + v) is wrong
    clean_error: float  # the prediction at x is wrong


def fooling(model, x, y, v, batch_size=144):
    """The fooling rate of v, which asks whether predictions change, beside the error rates, which ask whether they are right.

    Everything as in `universal`; v: (H, W, C). Returns a `Fooling`; an answer of NaN is another than any class, and wrong.
    Measure it on images that v was not fitted to. Lesson 12.

        >>> fooling(net, x_test, y_test, v).fooled
    """
    x = check_images(x)
    if np.shape(v) != x.shape[1:]:
        raise ValueError(f"v has shape {np.shape(v)}: that of one image, {x.shape[1:]}, was expected, "
                         "for example np.zeros(x.shape[1:], 'float32')")  # fmt: skip
    oracle = Oracle(model, batch_size)
    z = check_logits(oracle.logits(x), len(x))
    y = check_labels(y, len(x), z.shape[1])
    before = predicted_classes(z)
    after = predicted_classes(oracle.logits(np.clip(x + np.asarray(v, np.float32), 0, 1)))
    return Fooling(float((after != before).mean()), float((after != y).mean()), float((before != y).mean()))
