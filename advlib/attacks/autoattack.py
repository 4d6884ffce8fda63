"""AutoAttack: four attacks in a row, with nothing to tune (Croce & Hein 2020). Lesson 07."""

import time
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from advlib import norms
from advlib._checks import check_choice, check_images, check_labels, check_logits
from advlib._tensorflow import tf
from advlib.attacks._loop import Oracle, ever_right, quiet, run
from advlib.attacks.apgd import apgd, start
from advlib.diagnostics import Flag, raise_flag
from advlib.robustness import interval, tolerance

STEPS, TARGETS, QUERIES, EOT_SAMPLES = 100, 9, 5000, 20
_CHECKS = "Croce & Hein 2020, arXiv 2003.01690; its released code, checks.py and flags_doc.md"


class Stage(NamedTuple):
    """What a callback is told after each part."""

    name: str  # "apgd-ce", "apgd-t", "fab-t", "square", …
    attacked: np.ndarray  # positions in x of the images that no part before had broken
    broken: np.ndarray  # positions in x of those that this part broke
    seconds: float
    x_adv: np.ndarray  # what it returned for those attacked, (len(attacked), H, W, C)


def autoattack(
    model, x, y, *, eps, norm="linf", version="standard", seed=0, callback=None, batch_size=144,
):  # fmt: skip
    """Several attacks, each on the images that those before it left standing; an image counts as broken if one of them breaks it.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). eps: budget in pixel units;
    norm: "linf", "l2" or "l1". version:
    "standard": APGD-CE, then APGD-T (DLR loss, towards the 9 likeliest wrong classes), FAB-T (the same 9 classes) and Square
    (5,000 queries); in L1 APGD-CE has 5 restarts and APGD-T 5 classes.
    "plus": APGD-CE, APGD-DLR and FAB with 5 restarts each, Square, APGD-T and FAB-T.
    "rand": APGD-CE and APGD-DLR on gradients averaged over 20 draws (`eot`), for a model with random numbers in it.
    seed: of every part. callback: is given a `Stage` after each part, for those with nothing left to attack too.

    Returns x_adv, float32 (N, H, W, C), inside ball and box: for each image the point of the largest margin, by a forward pass
    of its own, among those of all parts; images the model already gets wrong come back unchanged.
    Raises TypeError or ValueError for bad input, before anything is attacked. Raises a Flag, as a FlagWarning, for: random
    output ("rand" is the version for it), "rand" on a model without any, zero gradients, fewer classes than the targets
    need, and Square breaking what the attacks with gradients did not.

    Source: Croce & Hein 2020, arXiv 2003.01690, §5; L1: Croce & Hein 2021, arXiv 2103.01208. With fewer than 4 classes
    (3 without targets) the margin takes the place of the DLR loss: its steps depend on the scale as little. Lesson 07.

        >>> x_adv = autoattack(net, x[:100], y[:100], eps=0.3, callback=lambda s: print(s.name, len(s.broken)))
    """
    ball = norms.get(norm, among=("linf", "l2", "l1"))
    check_choice(version, "version", ("standard", "plus", "rand"))
    x = check_images(x)
    eps = ball.check_eps(eps, x.shape[1:])
    y = check_labels(y, len(x))
    oracle = Oracle(model, batch_size)
    z = check_logits(oracle.logits(x), len(x))
    y = check_labels(y, len(x), z.shape[1])
    standing = np.flatnonzero(ever_right(oracle, x, y, z)) if eps else np.arange(0)
    common = {"eps": eps, "norm": ball.name, "seed": seed, "batch_size": batch_size}
    for flag in _flags(model, oracle, x[standing], y[standing], z.shape[1], version, common):
        raise_flag(flag)

    x_adv, lead = x.copy(), np.full(len(x), -np.inf, np.float32)
    bar = tqdm(
        parts(version, ball, z.shape[1]).items(),
        "autoattack",
        unit="attack",
        delay=5,
        leave=False,
        disable=quiet(),
    )
    for name, attack in bar:
        bar.set_postfix_str(f"{name}, {len(standing)} images")
        attacked, began, found = standing, time.perf_counter(), x[:0]
        if attacked.size:
            found = attack(model, x[attacked], y[attacked], **common)
            margin = _margin(oracle.logits(found), y[attacked])
            size = ball.size(found - x[attacked]).numpy()
            better = (margin > lead[attacked]) & (size <= eps + tolerance(ball.name, eps))
            x_adv[attacked[better]], lead[attacked[better]] = found[better], margin[better]
            standing = attacked[lead[attacked] <= 0]
        broken = np.setdiff1d(attacked, standing)
        if name == "square" and len(broken) > 0.002 * len(x):
            raise_flag(_flag_square(len(broken), len(x)))
        if callback is not None:
            callback(Stage(name, attacked, broken, time.perf_counter() - began, found))
    return x_adv


def parts(version, ball, classes):
    """The attacks of a version in their order: name → a function (model, x, y, *, eps, norm, seed, batch_size) → x_adv."""
    from advlib.attacks.fab import fab
    from advlib.attacks.square import square

    dlr, dlr_targeted = ("dlr" if classes >= least else "margin" for least in (3, 4))
    targets = min(TARGETS, classes - 1)
    fab_t = partial(fab, steps=STEPS, targets=targets)
    by_square = partial(square, steps=QUERIES, schedule=10_000)  # of 10,000, as AutoAttack's
    if version == "rand":
        return {
            "apgd-ce": partial(_on_average, loss="ce"),
            "apgd-dlr": partial(_on_average, loss=dlr),
        }
    if version == "plus":
        return {
            "apgd-ce": partial(apgd, steps=STEPS, restarts=5),
            "apgd-dlr": partial(apgd, steps=STEPS, loss=dlr, restarts=5),
            "fab": partial(fab, steps=STEPS, targets=None, restarts=5),
            "square": by_square,
            "apgd-t": partial(apgd, steps=STEPS, loss=dlr_targeted, targets=targets),
            "fab-t": fab_t,
        }
    l1 = ball.name == "l1"
    return {
        "apgd-ce": partial(apgd, steps=STEPS, restarts=5 if l1 else 1),
        "apgd-t": partial(apgd, steps=STEPS, loss=dlr_targeted, targets=min(5, targets) if l1 else targets),
        "fab-t": fab_t,
        "square": by_square,
    }


def _on_average(model, x, y, **options):
    from advlib.attacks.eot import eot

    return apgd(eot(model, samples=EOT_SAMPLES), x, y, steps=STEPS, **options)


def _margin(z, y):
    """max_{j≠y} z_j − z_y; where it is 0, argmax decides; −∞ where an output is no number. (N,)"""
    rows = np.arange(len(z))
    true, others = z[rows, y], z.copy()
    others[rows, y] = -np.inf
    margin = others.max(axis=1) - true
    # of equal logits the first is the prediction
    margin[(margin == 0) & (z.argmax(axis=1) != y)] = np.finfo(np.float32).tiny
    return np.where(np.isnan(z).any(axis=1), -np.inf, margin)


def _flags(model, oracle, x, y, classes, version, common):
    """What can be said before the first part; x: the images that the model gets right."""
    if version != "rand" and classes - 1 < TARGETS:
        yield Flag(
            "amber", "fewer classes than targets", f"{classes} classes, so {classes - 1} of {TARGETS} targets",
            "AutoAttack's targeted parts head for every wrong class there is"
            + ("" if classes >= 4 else f"; the DLR loss needs more than {classes} classes, the margin takes its place"),
            "nothing; say so when you compare with published numbers", _CHECKS,
        )  # fmt: skip
    if not len(x):
        return
    random = _varies(oracle, x[: 2 * common["batch_size"]])
    if random and version != "rand":
        yield Flag(
            "red", "random output", f"5 passes over the same {min(len(x), 2 * common['batch_size'])} images gave other logits",
            "an attack that trusts one draw follows noise, and the accuracy measured is too high",
            "use version='rand', or average the gradient with advlib.attacks.eot", _CHECKS,
        )  # fmt: skip
    if not random and version == "rand":
        yield Flag(
            "amber", "no random output", "5 passes over the same images gave the same logits",
            "averaging over draws costs 20 times the work here, and two of the standard parts are missing",
            "use version='standard'",
        )  # fmt: skip
    if vanished := _without_gradient(model, x, y, classes, common):
        yield Flag(
            "red", "zero gradients", f"{vanished} of {len(x)} images at the start of APGD on the DLR loss",
            "the attacks with gradients do not move there; accuracy may be too high",
            "look for rounding, saturation or a step function in the model; attack through it with advlib.attacks.bpda", _CHECKS,
        )  # fmt: skip


def _varies(oracle, x, passes=5):
    """Whether normalised logits differ by more than 1e-4 between passes over the same images."""
    z = np.stack([oracle.logits(x) for _ in range(passes)])
    z /= np.linalg.norm(z, axis=2, keepdims=True) + 1e-10
    return bool(np.linalg.norm(z[:, None] - z[None], axis=3).max() > 1e-4)


def vanishing_step(ball, at, vanished):
    """Whether ∇L(z) = 0 where z is not broken yet: of 3 classes, the DLR loss is constant where y comes last. z stays."""
    return at.z, tf.reduce_all(at.gradient == 0, axis=(1, 2, 3)) & ~at.broken


def _without_gradient(model, x, y, classes, common):
    """How many images have no gradient at APGD's starting point."""
    count, ball = 0, norms.get(common["norm"])

    def attack(group):
        nonlocal count
        group.begin()
        vanished = np.zeros(len(group.x), bool)
        group.ascend(start(group, ball, common["eps"], 0), vanishing_step, ball, state=(vanished,))
        count += int(vanished.sum())

    run(attack, model, x, y, loss="dlr" if classes >= 3 else "margin", **common)
    return count


def _flag_square(broken, n):
    return Flag(
        "red" if interval(broken, n)[0] > 0.02 else "amber", "black box beats white box",
        f"Square broke {broken} of {n} images that the attacks with gradients left standing",
        "an attack that knows less should not find more: the gradients may mislead, and accuracy may be lower still",
        "run Square with more steps and restarts, and an adaptive attack (advlib.attacks.bpda, eot)", _CHECKS,
    )  # fmt: skip
