"""Auto-PGD, which finds its own step size (Croce & Hein 2020). Lesson 07."""

import math

import numpy as np

from advlib import norms
from advlib._checks import check_number, check_targets
from advlib._tensorflow import tf
from advlib.attacks._loop import NO_TARGET, run
from advlib.norms import column


def momentum_step(ball, at, eps, rho, momentum, length, last, best, best_gradient, numbers):
    """z' = Π( z + η · steepest(∇L(z)) );  x^{k+1} = Π( z + a (z' − z) + (1 − a)(z − x^{k−1}) ).

    At a checkpoint, `length` steps after the one before (length is 0 between them), an image halves η and goes back to
    its best point if at most ρ · length steps raised the loss, or if η was kept last time and the best loss is still the same."""
    eta, loss, top, rises, top_then, halved = tf.unstack(numbers, axis=1)
    best, best_gradient, top = _better(at, best, best_gradient, top)
    rises += tf.cast(at.loss > loss, tf.float32)
    z, gradient, loss = at.z, at.gradient, at.loss
    if length > 0:
        stuck = (rises <= rho * length) | ((halved == 0) & (top <= top_then))
        z, gradient = tf.where(column(stuck), best, z), tf.where(column(stuck), best_gradient, gradient)
        eta, loss = tf.where(stuck, eta / 2, eta), tf.where(stuck, top, loss)
        rises, top_then, halved = tf.zeros_like(rises), top, tf.cast(stuck, tf.float32)

    ahead = ball.project(z + column(eta) * ball.steepest(gradient, z), at.x, eps)
    moved = ball.project(z + momentum * (ahead - z) + (1 - momentum) * (z - last), at.x, eps)
    return moved, z, best, best_gradient, tf.stack([eta, loss, top, rises, top_then, halved], axis=1)


def sparse_step(ball, at, eps, check, best, best_gradient, numbers):
    """x^{k+1} = Π( z + η · s/‖s‖₁ ), s the signs of the k largest |∂L/∂z_i| that can still move.

    At a checkpoint k becomes ‖x_max − x‖₀ / 1.5; where that number of pixels fell by more than 5 %, η is ε again and the
    image goes back to its best point, else η shrinks by 1.5, down to ε/10."""
    eta, top, k, spread = tf.unstack(numbers, axis=1)
    best, best_gradient, top = _better(at, best, best_gradient, top)
    changed = tf.math.count_nonzero(best - at.x, axis=(1, 2, 3), dtype=tf.float32)
    check = check > 0
    sparser = check & (changed < 0.95 * spread)
    eta = tf.where(sparser, eps, tf.where(check, tf.maximum(eta / 1.5, eps / 10), eta))
    k, spread = tf.where(check, changed / 1.5, k), tf.where(check, changed, spread)

    z, gradient = tf.where(column(sparser), best, at.z), tf.where(column(sparser), best_gradient, at.gradient)
    held = ((z >= 1.0) & (gradient > 0)) | ((z <= 0.0) & (gradient < 0))
    size = tf.where(held, 0.0, tf.abs(gradient))
    ranked = tf.sort(tf.reshape(size, (tf.shape(z)[0], -1)), axis=1, direction="DESCENDING")
    place = tf.clip_by_value(tf.cast(tf.math.floor(k), tf.int32) - 1, 0, tf.shape(ranked)[1] - 1)
    least = tf.gather(ranked, place, axis=1, batch_dims=1)
    s = tf.where((size >= column(least)) & ~held, tf.sign(gradient), 0.0)
    count = tf.reduce_sum(tf.abs(s), axis=(1, 2, 3), keepdims=True)
    moved = ball.project(z + column(eta) * tf.math.divide_no_nan(s, count), at.x, eps)
    return moved, best, best_gradient, tf.stack([eta, top, k, spread], axis=1)


def apgd(
    model, x, y, *, eps, norm="linf", steps=100, loss="ce", targets=None, restarts=1, rho=0.75, y_target=None, seed=0,
    callback=None, batch_size=144,
):  # fmt: skip
    """PGD with momentum, whose steps begin at 2ε and are halved where the loss no longer rises: no step size to choose.

    loss: "ce", "margin", "dlr", "kl" or a function, as in `pgd`. targets: a number k of wrong classes to head for, one
    after the other, the likeliest at x first; an image is broken by *any* other class. With loss="dlr" and targets=9 this
    is AutoAttack's APGD-T. restarts: tries (for each of the k classes), each from its own random point at distance ε, on the
    images still standing. rho: the share of the steps between two checkpoints that must raise the loss. norm: "linf", "l2" or
    "l1"; in L1 the steps move few pixels, and 30 % of them are made within 3ε, then 30 % within 2ε, and only the rest within ε.
    Everything else, what is returned and what is raised are as in `pgd`; callback: in L1 it is called within ε only.
    A model of fewer than 3 classes (4 with a target) has no DLR loss: ValueError.

    Source: Croce & Hein 2020, arXiv 2003.01690, Algorithm 1; L1: Croce & Hein 2021, arXiv 2103.01208, §4. In L2 and L1 the
    projection is the exact one onto ball and box. Lesson 07.

        >>> x_adv = apgd(net, x[:100], y[:100], eps=0.3)
        >>> x_adv = apgd(net, x[:100], y[:100], eps=0.3, loss="dlr", targets=9)
    """
    ball = norms.get(norm, among=("linf", "l2", "l1"))
    check_number(steps, "steps", low=0, integer=True, example=100)
    check_number(restarts, "restarts", low=1, integer=True, example=1)
    check_number(rho, "rho", low=0, high=1, example=0.75)
    targets is None or check_number(targets, "targets", low=1, integer=True, example=9)
    if targets is not None and (callable(loss) or loss == "kl"):
        raise ValueError(f"loss={loss!r} with targets={targets}: {NO_TARGET}")
    if targets is not None and y_target is not None:
        raise ValueError(
            f"targets={targets} together with y_target: one of them was expected, for example targets=9, "
            "which breaks an image by any other class; y_target counts the class wanted alone"
        )

    def attack(group):
        targets is None or check_targets(targets, group.z_clean.shape[1])
        for restart in range(restarts * (targets or 1)):
            if not group.begin(restart):
                break
            if targets is not None:
                group.head_for(likeliest_wrong(group.z_clean, group.y)[:, restart // restarts])
            if ball.name == "l1":
                climb_sparsely(group, ball, eps, steps, restart)
            else:
                climb(group, ball, eps, steps, rho, restart)

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss=loss, batch_size=batch_size, seed=seed, callback=callback
    )  # fmt: skip


def checkpoints(steps):
    """⌈p_j N⌉ with p_1 = 0.22 and p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06), up to N; in hundredths, to be exact.

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    share, gap, out = 22, 22, []
    while share <= 100:
        out.append(math.ceil(share * steps / 100))
        gap = max(gap - 3, 6)
        share += gap
    return sorted(set(out) - {0})


def likeliest_wrong(z, y):
    """The wrong classes of each image, the likeliest first: (N, K) logits → (N, K − 1)."""
    order = np.argsort(-z, axis=1, kind="stable")
    return order[order != y[:, None]].reshape(len(z), -1)


def start(group, ball, eps, restart):
    """A random point at distance ε of each image, brought into the box (L1: a normal one, brought into ball and box)."""
    rngs = group.streams("apgd", restart)
    if ball.name == "linf":
        delta = np.stack([rng.uniform(-1, 1, group.x.shape[1:]) for rng in rngs])
        delta /= np.abs(delta).max(axis=(1, 2, 3), keepdims=True)
    else:
        delta = np.stack([rng.standard_normal(group.x.shape[1:]) for rng in rngs])
    if ball.name == "l2":
        delta /= np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
    if ball.name != "l1":
        return np.clip(group.x + np.float32(eps) * delta.astype(np.float32), 0, 1)
    return ball.project(group.x + delta.astype(np.float32), group.x, eps).numpy()


def climb(group, ball, eps, steps, rho, restart):
    """One restart in L∞ or L2."""
    z = start(group, ball, eps, restart)
    last, best, best_gradient = z.copy(), z.copy(), np.zeros_like(z)
    # η, the last loss, the largest, how often it rose, the largest at the last checkpoint, whether η was halved there
    numbers = np.tile(np.array([2 * eps, np.inf, -np.inf, 0, -np.inf, 1], np.float32), (len(z), 1))
    at, previous = checkpoints(steps), 0
    for k in range(steps):
        length = k - previous if k in at else 0
        previous = k if length else previous
        momentum = 0.75 if k else 1
        z = group.ascend(
            z, momentum_step, ball, eps, rho, momentum, length, state=(last, best, best_gradient, numbers)
        )
    group.look(z)


def climb_sparsely(group, ball, eps, steps, restart):
    """One restart in L1: towards ever smaller balls, each from the best point of the one before."""
    part = math.ceil(0.3 * steps)
    stages = [(3 * eps, part), (2 * eps, part), (eps, max(steps - 2 * part, 0))]
    callback, best = group.callback, start(group, ball, stages[0][0], restart)
    spread = np.full(len(best), math.prod(best.shape[1:]), np.float32)
    for stage, (radius, length) in enumerate(stages):
        # Outside the ball nothing is worth remembering or reporting, and an image that breaks there goes on.
        inside = radius == eps
        group.early_stop, group.callback = inside, callback if inside else None
        group.begin(restart, candidate=inside)
        z = ball.project(best, group.x, radius).numpy()
        if stage:
            spread = np.count_nonzero(z - group.x, axis=(1, 2, 3)).astype(np.float32)
        k = spread / 1.5 if stage else 0.2 * spread
        best, best_gradient, same = z.copy(), np.zeros_like(z), np.ones_like(k)
        numbers = np.stack([radius * same, -np.inf * same, k, spread], axis=1).astype(np.float32)
        every = max(int(0.04 * length), 1)
        for i in range(length):
            if not inside:
                group.begin(restart, candidate=False)
            check = float(i > 0 and i % every == 0)
            z = group.ascend(z, sparse_step, ball, radius, check, state=(best, best_gradient, numbers))
    group.look(z)


def _better(at, best, best_gradient, top):
    """The best point so far with its gradient and loss."""
    better = at.loss > top
    wide = column(better)
    return (
        tf.where(wide, at.z, best),
        tf.where(wide, at.gradient, best_gradient),
        tf.where(better, at.loss, top),
    )
