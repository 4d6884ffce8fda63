"""Checks of lesson 04, iterative attacks: the projection, a PGD to be mended, the best point, targets."""

import numpy as np

from advlib import norms
from advlib.attacks.pgd import pgd
from advlib.exercises import Hint, exercise, number, require
from advlib.exercises.properties import inside, lead, sparse
from advlib.models import predict_logits
from advlib.testing import toy


@exercise("04.1")
def project(answer):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (6, 4, 4, 1)).astype(np.float32)
    x[0], x[1] = 0, 1
    far, kept = (x + rng.normal(0, 0.5, x.shape)).astype(np.float32), x.copy()
    given = far.copy()
    z = inside(answer(given, kept, 0.2), x, 0.2)
    require((kept == x).all() and (given == far).all(), "z or x was changed by the call; return a new array")
    near = np.clip(x + rng.uniform(-0.1, 0.1, x.shape).astype(np.float32), 0, 1)
    require(
        np.abs(inside(answer(near.copy(), x.copy(), 0.2), x, 0.2) - near).max() < 1e-6,
        "a point that is allowed already must stay where it is: one within 0.1 of x, in the box, moved with ε = 0.2",
    )
    nearest = norms.get("linf").project(far, x, 0.2).numpy()
    excess = np.abs(z - far) - np.abs(nearest - far)
    i = np.unravel_index(excess.argmax(), excess.shape)
    require(
        excess[i] < 1e-6,
        f"for a pixel with x = {x[i]:.2f}, z = {far[i]:.2f} and ε = 0.2 you return {z[i]:.2f}: "
        "there is an allowed value nearer to z",
    )
    require(
        (inside(answer(far.copy(), x.copy(), 0.0), x, 0) == x).all(), "with ε = 0 only x itself is allowed"
    )


@exercise("04.2")
def reach(moved, crossing):
    moved, crossing = number(moved, "moved"), number(crossing, "crossing")
    z, eps, alpha = 0.0, 0.2, 0.005
    for _ in range(25):
        z = min(z + alpha, eps)
    require(0 <= moved <= eps, "moved: no pixel may be farther than ε from x, nor less than 0")
    require(
        abs(moved - eps) > 1e-9, "moved: are 25 steps enough to use the whole budget? Add up their lengths"
    )
    require(
        abs(moved - z) < 1e-6, "moved: the pixel takes every step in the same direction; add up 25 of them"
    )
    steps, z = 0, -eps
    while z < eps - 1e-9:
        z, steps = z + alpha, steps + 1
    require(
        crossing == round(crossing) and crossing > 0,
        f"crossing: {crossing:g} is no number of steps: a whole number was expected",
    )
    require(
        crossing >= steps,
        f"crossing: after {crossing:g} steps the pixel is not yet there; where does its range begin, where does it end?",
    )
    require(crossing <= steps, f"crossing: {crossing:g} steps are more than are needed")


@exercise("04.3")
def mended(answer):
    model, x, y = toy()
    given = x.copy()
    z = np.asarray(answer(model, given, y, 0.6, steps=20))
    require((given == x).all(), "x was changed by the call; work on a copy")
    z = inside(z, x, 0.6, "l2")
    walls = sparse(x)
    wall_labels, asked = predict_logits(model, walls).argmax(axis=1), []

    def watched(points, training=False):
        if hasattr(points, "numpy") and points.shape == walls.shape:
            asked.append(points.numpy())
        return model(points, training=training)

    inside(answer(watched, walls.copy(), wall_labels, 0.6, steps=8), walls, 0.6, "l2")
    for points in asked:
        try:
            inside(points, walls, 0.6, "l2")
        except Hint as hint:
            raise Hint(f"project after every step, not only after the last: on the way, {hint}") from None
    few = [np.asarray(answer(model, x[:n].copy(), y[:n], 0.6, steps=3)) for n in (1, 28)]
    require(
        np.abs(few[1][:1] - few[0]).max() < 1e-3,
        "an image attacked alone ends elsewhere than in a batch of 28: something is summed over all images",
    )
    gained = lead(model, z, y) - lead(model, x, y)
    require(gained.mean() > 0, "on average the model is surer of the true class after the attack than before")
    best = lead(model, pgd(model, x, y, eps=0.6, norm="l2", early_stop=False), y) - lead(model, x, y)
    require(
        gained.mean() > 0.9 * best.mean(),
        f"inside ball and box, but weak: the wrong class gains {gained.mean():.2f} on average where advlib.pgd gains "
        f"{best.mean():.2f}; is every step taken, and is the whole budget used?",
    )
    require(
        (np.asarray(answer(model, x.copy(), y, 0.6, steps=0)) == x).all(), "with steps=0 nothing may change"
    )
    with np.errstate(all="ignore"):
        still = np.asarray(answer(_same_answer, x.copy(), y, 0.6, steps=2))
    require(
        np.isfinite(still).all(),
        "where the gradient is 0 everywhere the result is NaN: what is divided by what?",
    )


def _same_answer(x, training=False):
    """A model that gives every image the same logits: its gradient is 0."""
    from advlib._tensorflow import tf

    return tf.reshape(tf.cast(x, tf.float32), (-1, 36)) @ tf.zeros((36, 4)) + tf.constant([3.0, 0, 0, 0])


@exercise("04.4")
def best_point(answer):
    def call(loss, broken):
        loss, broken = np.array(loss, float), np.array(broken, bool)
        path = np.arange(loss.size, dtype=np.float32).reshape(*loss.shape, 1, 1, 1) / loss.size
        best = np.asarray(answer(path.copy(), loss.copy(), broken.copy()))
        require(
            best.shape == path.shape[1:],
            f"the result has shape {best.shape} for a path of shape {path.shape}: one point for each image was expected",
        )
        at = [np.flatnonzero(path[:, i, 0, 0, 0] == best[i, 0, 0, 0]) for i in range(path.shape[1])]
        require([len(a) for a in at] == [1] * len(at), "some image's result is no point of that image's path")
        return np.concatenate(at)

    at = call([[1.0], [3.0], [2.0]], [[False], [False], [False]])
    require(at[0] == 1, "losses 1, 3, 2, nowhere broken: the largest loss should decide")
    at = call([[-5.0], [-3.0], [-4.0]], [[False], [False], [False]])
    require(at[0] == 1, "losses −5, −3, −4, nowhere broken: the largest loss should decide, negative or not")
    at = call([[1.0], [3.0], [2.0], [2.5]], [[True], [False], [False], [False]])
    require(at[0] == 0, "losses 1, 3, 2, 2.5, broken at the first point alone: which point fools the model?")
    at = call([[-2.0], [-1.0], [-3.0], [4.0]], [[True], [True], [True], [False]])
    require(
        at[0] == 1,
        "losses −2, −1, −3, 4, broken at the first three: among those that fool, the larger loss is better",
    )
    at = call([[1.0, 9.0], [2.0, 1.0]], [[False, False], [False, False]])
    require(
        (at == [1, 0]).all(),
        "two images, the first best at its last point, the second at its first: each has its own best",
    )
    rng = np.random.default_rng(0)
    loss, broken = rng.normal(0, 3, (8, 40)), rng.random((8, 40)) < 0.2
    at, i = call(loss, broken), np.arange(40)
    require(
        broken[at, i] == broken.any(axis=0),
        "of forty random paths some met a point that fools the model, and lost it",
    )
    alike = broken == broken[at, i]
    require(
        loss[at, i] == np.where(alike, loss, -np.inf).max(axis=0),
        "of forty random paths some have a better point of the same kind",
    )


@exercise("04.5")
def reached(answer):
    model, x, y = toy()
    y = np.concatenate([y[:-2], (y[-2:] + 1) % 4])
    logits = predict_logits(model, x).astype(float)
    w = model.get_weights()[0].astype(float)

    def call(eps):
        hit = np.asarray(answer(model, x.copy(), y.copy(), eps, 4))
        require(
            hit.shape == (len(x), 4) and hit.dtype == bool,
            f"the result is {hit.dtype} {hit.shape}: bool {(len(x), 4)} was expected for {len(x)} images and 4 classes",
        )
        return hit

    require(~call(0.0).any(axis=1)[:-2], "with ε = 0 no target can be reached")
    hit = call(0.12)
    require(~hit[np.arange(len(x)), y], "the column of the true class should be False: that is no target")
    require(~hit[-2:], "an image that the model gets wrong without attack counts as reached in some column")
    # The model is linear and the box far away: class k can pass class j only where the largest gain of z_k − z_j suffices.
    lead_k = (
        logits[:, :, None]
        - logits[:, None, :]
        + 0.12 * np.abs(w[:, :, None] - w[:, None, :]).sum(axis=0)
        + 1e-4
    )
    possible = (lead_k > 0).all(axis=2)
    require(
        ~hit | possible,
        "on a linear model you report targets that no point of the ball reaches: is it that class, or just a wrong one?",
    )
    found = np.zeros_like(hit)
    for shift in range(1, 4):
        target = (y + shift) % 4
        aimed = pgd(model, x, y, eps=0.12, y_target=target)
        found[np.arange(len(x)), target] = predict_logits(model, aimed).argmax(axis=1) == target
    found[-2:] = False
    missed = int((found & ~hit).sum())
    require(
        missed <= 2,
        f"of {int(found.sum())} pairs of image and target that advlib.pgd reaches, {missed} are missing in yours: is every "
        "class aimed at, and the step taken towards it?",
    )
