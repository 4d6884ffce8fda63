"""Checks of lesson 03: the steepest step, FGSM, an attack on the confidence alone, a loss that does not round."""

from functools import cache

import numpy as np
from scipy.special import logsumexp, softmax

from advlib import data, losses, norms
from advlib._tensorflow import tf
from advlib.attacks.fgsm import fgsm
from advlib.exercises import exercise, number, require
from advlib.exercises.properties import inside
from advlib.models import load, predict_logits
from advlib.testing import check_attack, toy


@exercise("03.1")
def steepest(answer):
    rng = np.random.default_rng(0)
    for norm, dual in (("linf", 1), ("l2", 2), ("l1", np.inf)):
        ball = norms.get(norm)
        for shape, eps in (((6, 5, 5, 1), 0.3), ((3, 4, 4, 3), 2.0)):
            g = rng.normal(0, 1, shape) * 10.0 ** rng.integers(-3, 3, (shape[0], 1, 1, 1))
            given = g.copy()
            delta = np.asarray(answer(given, eps, norm), float)
            require(
                delta.shape == shape, f"{norm}: it returns shape {delta.shape} for gradients of shape {shape}"
            )
            require((given == g).all(), f"{norm}: g was changed by the call; return a new array")
            require(np.isfinite(delta), f"{norm}: some entry is NaN or infinite")
            size = np.asarray(ball.size(delta))
            require(
                size <= eps * (1 + 1e-5),
                f"{norm}: with ε = {eps:g} and a batch of {shape[0]} some step has size {size.max():.4g} in {ball.label}",
            )
            gain = (g * delta).sum(axis=(1, 2, 3))
            bound = eps * np.linalg.norm(g.reshape(len(g), -1), dual, axis=1)
            share = gain / bound
            require(share > 0, f"{norm}: some step goes against its gradient, so that the loss falls")
            i = share.argmin()
            require(
                share[i] > 1 - 1e-5,
                f"{norm}: g·δ reaches {100 * share[i]:.1f} % of what is possible with ε = {eps:g}, for one image of a batch "
                f"of {shape[0]}",
            )
        with np.errstate(all="ignore"):
            still = np.asarray(answer(np.zeros((2, 4, 4, 1)), 0.3, norm), float)
        require(
            np.isfinite(still), f"{norm}: where g is 0 everywhere the step is NaN: what is divided by what?"
        )
        require(
            np.asarray(ball.size(still)) <= 0.3 * (1 + 1e-5), f"{norm}: where g is 0 the step leaves the ball"
        )
    tie = np.asarray(answer(np.array([2.0, -2.0, 1.0, 0.0]).reshape(1, 2, 2, 1), 1.0, "l1"), float)
    require(
        np.abs(tie).sum() <= 1 + 1e-5 and abs((tie.ravel() * [2, -2, 1, 0]).sum() - 2) < 1e-5,
        "l1: two pixels with gradients 2 and −2 are equally good; together they may still not spend more than ε",
    )


@exercise("03.2")
def my_fgsm(answer):
    for eps in (0.1, 0.4):  # the images lie in [0.2, 0.8], so that only the second meets the box
        for rule in check_attack(answer, eps=eps, raises=False):
            require(rule.passed, f"with ε = {eps:g}, the rule “{rule.name}” is broken: {rule.seen}")
    model, x, y = toy()
    away = np.asarray(answer(model, x.copy(), y, 0.1))
    moved = np.abs(away - x)
    require(
        np.abs(moved - 0.1).mean() < 1e-3,
        f"in mid-grey a sign step moves every pixel by ε = 0.1; yours by {moved.min():.3g} to {moved.max():.3g}",
    )
    target = (y + 1) % 4
    towards = inside(answer(model, x.copy(), y, 0.1, y_target=target), x, 0.1)
    before, after = (losses.cross_entropy(predict_logits(model, z), target).numpy() for z in (x, towards))
    require((towards != away).any(), "with y_target the step is the same as without it")
    require(
        (after < before).mean() > 0.5,
        "with y_target the target's loss rises: which way does the targeted step go?",
    )
    best = losses.cross_entropy(
        predict_logits(model, fgsm(model, x, y, eps=0.1, y_target=target)), target
    ).numpy()
    require(
        after < best + 1e-3,
        "with y_target some image ends with a larger loss of its target than advlib.fgsm gives it: whose loss is "
        "differentiated?",
    )


def confidence(logits):
    """The largest softmax probability: (N,)."""
    return softmax(logits.astype(np.float64), axis=1).max(axis=1)


@exercise("03.3")
def less_sure(answer):
    net, x = _network_and_digits()
    z = predict_logits(net, x)
    said = z.argmax(axis=1)
    given = x.copy()
    x_adv = inside(answer(net, given, 0.1), x, 0.1)
    require((given == x).all(), "x was changed by the call; work on a copy")
    after = predict_logits(net, x_adv.astype(np.float32))
    changed = after.argmax(axis=1) != said
    require(
        ~changed,
        f"{changed.sum()} of {len(x)} predictions changed; each image must keep its own: shorten the step of those that do not",
    )
    before, now = confidence(z), confidence(after)
    require(
        now <= before + 1e-3, "the net is surer of some image than before: uphill for which class's loss?"
    )
    low, high, step = np.zeros(len(x)), np.full(len(x), 0.1), np.sign(_gradient(net, x, said))
    for _ in range(10):
        middle = (low + high) / 2
        holds = predict_logits(net, _moved(x, middle, step)).argmax(axis=1) == said
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    best = confidence(predict_logits(net, _moved(x, low, step)))
    require(
        before.mean() - now.mean() > 0.85 * (before - best).mean(),
        f"the mean confidence falls from {100 * before.mean():.1f} to {100 * now.mean():.1f} %; with a step as long as each "
        f"image bears it falls to {100 * best.mean():.1f} %",
    )
    alone = np.asarray(answer(net, x[7:8].copy(), 0.1), np.float32)
    require(
        abs(confidence(predict_logits(net, alone))[0] - now[7]) < 0.02,
        "an image alone ends with another confidence than among sixty: each has a length of its own",
    )


@cache
def _network_and_digits():
    """Kept, so that a second try needs no second compilation."""
    return load("mnist-mlp"), data.subset(*data.load("mnist")[2:], 60, seed=3)[0]


def _moved(x, eps, step):
    return np.clip(x + eps[:, None, None, None] * step, 0, 1).astype(np.float32)


def _gradient(model, x, y):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(losses.cross_entropy(model(x, training=False), y))
    return tape.gradient(loss, x).numpy()


@exercise("03.4")
def linear_gains(gain, spread, breaks):
    gain, spread, breaks = number(gain, "gain"), number(spread, "spread"), number(breaks, "breaks")
    w, eps, margin = np.array([0.5, -1, 2, 0.5]), 0.1, 1.2
    l1, l2 = np.abs(w).sum(), np.sqrt((w**2).sum())
    require(gain > 0, "gain: the attacker gains, whatever the sign of a weight")
    require(abs(gain - eps * w.sum()) > 1e-6, "gain: one weight is negative; which way does its pixel move?")
    require(
        abs(gain - eps * l2) > 2e-3,
        "gain: that is the gain of the best step of L2 length ε; the budget here is in L∞",
    )
    require(abs(gain - eps * np.abs(w).max()) > 1e-6, "gain: all four pixels may move, not only the best")
    require(
        abs(gain - eps * l1) < 2e-3,
        f"gain: {gain:g}; make each of the four terms as good as it can be, and add",
    )
    require(
        abs(spread - eps**2 * l2**2) > 2e-3,
        "spread: that is the variance; the standard deviation was asked for",
    )
    require(abs(spread - eps * l1) > 2e-3, "spread: random signs do not all pull in one direction")
    require(abs(spread - eps * l2) < 2e-3, f"spread: {spread:g}; add the variances of the four terms")
    require(abs(breaks - margin / l2) > 2e-3, "breaks: that would be the L2 distance to the boundary")
    require(
        abs(breaks - margin / l1) < 2e-3,
        f"breaks: {breaks:g}; at this ε the best step has to gain the whole margin",
    )


@exercise("03.5")
def exact_loss(answer):
    def call(z, y):
        z = tf.constant(np.array(z, np.float32))
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = answer(z, tf.constant(np.array(y, np.int64)))
            value = tf.convert_to_tensor(value)
            require(
                value.shape == (len(z),),
                f"for {len(z)} images it returns shape {tuple(value.shape)}; one loss for each image was expected",
            )
            total = tf.reduce_sum(value)
        g = tape.gradient(total, z)
        require(
            g is not None,
            "the loss has no gradient in z: use TensorFlow's operations throughout, not NumPy's",
        )
        return value.numpy().astype(np.float64), g.numpy().astype(np.float64)

    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 2, (20, 6)).astype(np.float32), rng.integers(0, 6, 20)
    z64 = z.astype(np.float64)
    true = z64[np.arange(20), y]
    expected = logsumexp(z64, axis=1) - true
    value, g = call(z, y)
    require(
        np.abs(value - expected) < 1e-3 * (1 + expected),
        "for ordinary logits it is not the cross-entropy: is the true class itself in the sum over the others?",
    )
    require(
        np.abs(g - (softmax(z64, axis=1) - np.eye(6)[y])) < 1e-4,
        "for ordinary logits the gradient is not softmax minus one-hot",
    )
    for behind in (60.0, 300.0):
        value, g = call([[0.0, behind, 1.0]], [0])
        require(
            np.isfinite(value) and np.isfinite(g).all(),
            f"logits 0, {behind:g}, 1 and the true class 0: loss or gradient is NaN or infinite",
        )
        require(
            abs(value[0] - behind) < 1e-3 * behind,
            f"logits 0, {behind:g}, 1 and the true class 0: your loss is {value[0]:g}",
        )
    for lead in (20.0, 60.0):
        value, g = call([[lead, 0.0, 1.0]], [0])
        rest = np.exp(-lead) + np.exp(1 - lead)
        case = f"logits {lead:g}, 0, 1 and the true class 0"
        require(value[0] > 0, f"{case}: the loss rounds to 0; which number near 1 is its logarithm taken of?")
        require(
            abs(value[0] / rest - 1) < 1e-2, f"{case}: your loss is {value[0]:.3g}; it should be {rest:.3g}"
        )
        require(
            np.abs(g[0] / [-rest, np.exp(-lead), np.exp(1 - lead)] - 1) < 1e-2,
            f"{case}: in the true class's logit the gradient is {g[0, 0]:.3g}; it should be {-rest:.3g}",
        )
