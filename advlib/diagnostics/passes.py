"""`diagnose`: the passes through a model that the checks need, few enough for half a minute on a small network. Lesson 09."""

import contextlib

import numpy as np

from advlib import robustness
from advlib._checks import (
    ProbabilitiesNotLogitsError,
    check_choice,
    check_images,
    check_labels,
    check_logits,
    check_number,
    predicted_classes,
)
from advlib.diagnostics import checks

# What is tried. Each attack is made only on the images that those before it left standing.
STEPS, STARTS = 40, 2  # of PGD, both doubled for I4
QUERIES = 1000  # of Square
DRAWS = 50  # of random search
DISPUTED, SMALL = 32, 16  # images on which the gradients get their best try, and how many of them at a time
NEIGHBOURS, CUBE = 50, 4 / 255  # of I2
SCALED = 200  # images whose scale is tried
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of ε


def diagnose(
    model, x, y, *, norm, eps, images=100, seed=0, batch_size=144, train=None, callback=None,
):  # fmt: skip
    """Every check that takes passes of its own, on the first `images` images that the model gets right: a list of Flags.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). norm: "linf", "l2" or "l1"; eps:
    the budget in pixel units, above 0. images: at most this many. train: images the model was trained on, or a tuple that begins
    with them; without it that check is left out. callback: is given the name of each check when it is done.

    Some findings cut it short: probabilities instead of logits, which no attack takes; a model without gradients; one that gives
    every image the same answer; or none that is right. Then only the checks of the output are made. The check of training mode
    is left out where a batch holds one image, as for images=1: there is nothing to compare. What is red is the evaluation, not
    the model. Raises TypeError or ValueError for bad input.

    Sources: Pintor et al. 2022, arXiv 2106.09947; Carlini et al. 2019, arXiv 1902.06705, §4 and §5; Athalye, Carlini &
    Wagner 2018, arXiv 1802.00420, §3.1. Lessons 08, 09 and 13.

        >>> [flag for flag in diagnose(net, x_test, y_test, norm="linf", eps=0.3) if flag.colour == "red"]
    """
    from advlib import norms

    x = check_images(x)
    check_choice(norm, "norm", ("linf", "l2", "l1"))
    eps = norms.get(norm).check_eps(eps, x.shape[1:])
    check_number(eps, "eps", above=0, example=0.1)
    check_number(images, "images", low=1, integer=True, example=100)
    check_number(seed, "seed", low=0, integer=True, example=0)
    y, flags = check_labels(y, len(x)), []
    for flag in _passes(model, x, y, norms.get(norm), eps, images, seed, batch_size, train):
        flags.append(flag)
        if callback is not None:
            callback(flag.name)
    return flags


def _passes(model, x, y, ball, eps, images, seed, batch_size, train):
    from advlib import noise
    from advlib.attacks import apgd, fgsm, square
    from advlib.attacks._loop import Oracle
    from advlib.attacks.black_box import NoGradientError

    if train is not None:
        yield checks.evaluated_on_training_data(x, train)
    oracle = Oracle(model, min(batch_size, images, len(x)))
    z = oracle.logits(x[:SCALED])
    with contextlib.suppress(ProbabilitiesNotLogitsError):  # the first flag says so
        check_logits(z, len(z))
    probabilities = checks.probabilities_for_logits(z)
    yield probabilities
    if probabilities.colour == "red":
        return
    check_labels(y, len(x), z.shape[1])
    predicted = predicted_classes(z)
    answered = predicted != -1
    if not answered.all():
        yield robustness._flag_nan(f"no class for {int((~answered).sum())} of {len(z)} images")
    yield _scale(oracle, x[:SCALED], y[:SCALED], predicted)
    constant = checks.constant_output(predicted[answered], y[:SCALED][answered])
    yield constant
    x, y = _right(oracle, x, y, images)
    if constant.colour != "green" or not len(x):
        return

    z = oracle.logits(x)
    again = max(_difference(z, oracle.logits(x)) for _ in range(4))
    yield checks.random_output(again)
    if oracle.batch_size > 1:
        yield checks.training_mode(_difference(z, _in_other_company(oracle, x)), again)
    yield checks.unstable_predictions(_instability(oracle, x, y, z, seed))

    common = {"norm": ball.name, "batch_size": oracle.batch_size}
    seeded = common | {"seed": seed}
    try:
        yield checks.zero_gradients(_gradients(model, x, y, ball, eps, oracle.batch_size))
    except (NoGradientError, LookupError):  # LookupError: TensorFlow has no gradient of an operation
        yield checks.zero_gradients(None)
        return

    def broken(attack, /, *which, **options):
        """Which images the attack breaks: bool (N,), a fresh forward pass each; `which` of them it is made on."""
        result, i = np.zeros(len(x), bool), np.flatnonzero(which[0] if which else np.ones(len(x)))
        if i.size:
            result[i] = predicted_classes(oracle.logits(attack(model, x[i], y[i], **options))) != y[i]
        return result

    white, trace = _traced_pgd(model, oracle, x, y, eps, seeded)
    yield checks.silent_success(trace["passed"], white)
    at_eps = seeded | {"eps": eps}
    single = broken(fgsm, eps=eps, **common)
    yield checks.single_step_beats_iterative(single, white)

    margin = broken(_climb, ~white | ~trace["half"], loss="margin", **at_eps)
    by_noise = broken(noise.best_of, ~white & ~margin, draws=DRAWS, **at_eps)
    by_square = broken(square, ~white & ~margin, steps=QUERIES, **at_eps)
    # Before an image counts against the gradients they get their best try at it, APGD-T, which is too dear for all images: those
    # beyond the first so many do not count.
    disputed = by_noise | by_square | (trace["passed"] & ~trace["half"] & ~margin)
    disputed &= np.cumsum(disputed) <= DISPUTED
    classes = z.shape[1]
    best = {"loss": "dlr" if classes >= 4 else "margin", "targets": min(9, classes - 1), "steps": 50}
    other = margin | broken(apgd, disputed, **at_eps | {"batch_size": SMALL}, **best)
    yield checks.incomplete_optimisation(
        trace["half"] | other, trace["full"] | other, trace["passed"] | other, trace["rising"][~trace["full"]]
    )
    yield checks.black_box_beats_white_box(white | other, by_square & disputed, len(x))
    yield checks.random_search_wins(white | other, by_noise & disputed, DRAWS)

    whole = seeded | {"eps": ball.largest(x.shape[1:]), "random_start": False}
    free = broken(_climb, **whole)
    yield checks.unbounded_attack_fails(free | broken(_climb, ~free, loss="margin", **whole))
    grey = np.full_like(x[:1], 0.5)
    on_grey = predicted_classes(oracle.logits(grey))
    by_grey = (y != on_grey) & (on_grey != -1)
    wide = seeded | {"eps": float(ball.size(x - grey).numpy().max())}
    found = broken(_climb, by_grey, **wide)
    yield checks.not_at_chance(found | broken(_climb, by_grey & ~found, loss="margin", **wide), by_grey)

    budgets = [fraction * eps for fraction in FRACTIONS]
    one = [broken(fgsm, eps=e, **common) for e in budgets[:-1]] + [single]
    many = [broken(_climb, eps=e, **seeded) for e in budgets]
    yield checks.success_and_eps(budgets, {"FGSM": one, f"PGD-{STEPS}": many})


def _climb(model, x, y, *, eps, loss="ce", random_start=True, **options):
    from advlib.attacks import pgd

    return pgd(model, x, y, eps=eps, loss=loss, steps=STEPS, random_start=random_start, **options)


def _scale(oracle, x, y, predicted):
    """Would the model rather have the images at another scale?"""
    axes = (0, 1, 2)
    normal = (x - x.mean(axis=axes)) / np.maximum(x.std(axis=axes), 1e-6)
    scales = {"255·x": 255 * x, "2·x - 1": 2 * x - 1, "(x - mean) / std": normal}
    right = {name: predicted_classes(oracle.logits(images)) == y for name, images in scales.items()}
    return checks.wrong_range(float(x.min()), float(x.max()), predicted == y, right)


def _right(oracle, x, y, images):
    """The first so many images that the model gets right."""
    found = []
    for first in range(0, len(x), max(images, 100)):
        part = slice(first, first + max(images, 100))
        z = oracle.logits(x[part])
        found += (first + np.flatnonzero(predicted_classes(z) == y[part])).tolist()
        if len(found) >= images:
            break
    return x[found[:images]], y[found[:images]]


def _difference(a, b):
    """The largest difference between two rows of logits, beside the length of the first."""
    length = np.linalg.norm(a, axis=1) + 1e-10
    return float((np.linalg.norm(a - b, axis=1) / length).max())


def _in_other_company(oracle, x):
    """The logits of each image in a batch of which half is white noise."""
    half = max(oracle.batch_size // 2, 1)
    beside = np.random.default_rng(0).random((oracle.batch_size - half, *x.shape[1:]), np.float32)
    parts = [x[first : first + half] for first in range(0, len(x), half)]
    return np.concatenate([oracle.logits(np.concatenate([part, beside]))[: len(part)] for part in parts])


def _instability(oracle, x, y, z, seed):
    """|m(x + u) − m(x)| / |m(x)|, at most 1, mean over random u: (N,). The margin m, as the cross-entropy of a confident image
    is next to zero, and its relative change large for no reason."""
    rng, m = np.random.default_rng(seed), _margin(z, y)
    change = np.zeros(len(x))
    for _ in range(NEIGHBOURS):
        u = rng.uniform(-CUBE, CUBE, x.shape).astype(np.float32)
        near = _margin(oracle.logits(np.clip(x + u, 0, 1)), y)
        change += np.minimum(np.abs(near - m) / np.maximum(np.abs(m), 1e-12), 1)
    return change / NEIGHBOURS


def _margin(z, y):
    rows, others = np.arange(len(z)), z.copy()
    others[rows, y] = -np.inf
    return others.max(axis=1) - z[rows, y]


def size_step(ball, at, size):
    """The largest |∂L/∂x_i| at z, which stays."""
    from advlib._tensorflow import tf

    return at.z, tf.reduce_max(tf.abs(at.gradient), axis=(1, 2, 3))


def _gradients(model, x, y, ball, eps, batch_size):
    """The largest |∂L/∂x_i| of the cross-entropy at each image."""
    from advlib.attacks._loop import run

    found = []

    def attack(group):
        size = np.zeros(len(group.x), np.float32)
        group.early_stop = False
        group.begin()
        group.ascend(group.x.copy(), size_step, ball, state=(size,))
        found.append(size)

    run(attack, model, x, y, eps=eps, norm=ball, batch_size=batch_size)
    return np.concatenate(found) if found else np.zeros(0)


def _traced_pgd(model, oracle, x, y, eps, options):
    """PGD with twice the steps and twice the starts: which images it breaks, bool (N,), and what its trace tells of each."""
    from advlib.attacks import pgd

    first = np.full((2 * STARTS, len(x)), np.inf)  # the step at which each image was first broken
    loss = np.full((2 * STEPS + 1, len(x)), np.nan)

    def watch(trace):
        i = trace.index[trace.broken]
        first[trace.restart, i] = np.minimum(first[trace.restart, i], trace.step)
        if trace.restart == 0:
            loss[trace.step, trace.index] = trace.loss

    x_adv = pgd(
        model, x, y, eps=eps, steps=2 * STEPS, step_size=2.5 * eps / STEPS, restarts=2 * STARTS, callback=watch, **options
    )  # fmt: skip
    best = np.fmax.accumulate(loss)
    whole, last = best[-1] - best[0], best[-1] - best[-1 - checks.LAST]
    trace = {
        "half": (first[:STARTS] <= STEPS).any(axis=0), "full": np.isfinite(first[:STARTS]).any(axis=0),
        "passed": np.isfinite(first).any(axis=0), "rising": last > checks.STILL * whole,
    }  # fmt: skip
    return predicted_classes(oracle.logits(x_adv)) != y, trace
