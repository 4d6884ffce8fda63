"""The checks: functions from what was measured, image by image, to one Flag. They need no model and no TensorFlow.

Most compare two attacks: an image that one breaks, and another, which ought to be stronger, does not, is a witness against the
stronger one's number. A share of witnesses is red only where even the low end of its interval is beyond the threshold, so that
an image or two is no alarm. Lessons 08 and 09.

    >>> black_box_beats_white_box(report.broken("PGD"), report.broken("Square"), report.n).colour
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from advlib import robustness
from advlib._checks import check_images, check_number, describe
from advlib.diagnostics.flag import Flag

# Shares of the images unless said otherwise. They were chosen on the models of exhibits.py and the network under them, and
# tests/test_diagnostics.py tries them on others.
WITNESSES = 0.02  # two points: what a weaker attack may find, by luck, and a stronger one not
# Not two points here: on networks trained with PGD on MNIST, robust as they are, Square finds up to 6 % that no gradient does.
HIDDEN = 0.05
LOOK = 0.002  # amber from here: 2 of 1,000 images, and any of 100
DOUBLED = 0.01  # a converged attack gains less than a point from twice the steps, or from another start
RISING = 0.5  # images whose loss still rises at the end: more than half is an attack that was cut off
LAST, STILL = (
    10,
    0.05,
)  # a loss still rises if the last 10 steps make 5 % of its whole rise (Pintor et al., I4)
FALLS = 0.05  # more images broken at a smaller ε than at a larger one: the larger ball contains the smaller
MISLED = 0.5  # of the images, which another attack breaks and one that gains nothing by a larger ε does not
STUCK = (0.05, 0.95)  # a success rate that is the same at every ε means something between these
UNSTABLE = 0.1  # mean relative change of the margin within ±4/255; an honest network's is 1 or 2 %
VARIES = 1e-4  # relative difference of logits between two passes: AutoAttack's threshold for random output
COMPANY = 1e-3  # and between two batches, whose sums may be rounded otherwise
TINY = 1e-18  # a gradient below this vanishes in float32 when it is squared, as in a step in L2
BETTER = 0.05  # accuracy gained by rescaling the images: the model wanted them so
WIDE, VERY_WIDE = 0.10, 0.25  # width of the 95 % interval: amber, red
SEEN = 0.01  # a few duplicates are in the best data sets; a share of them is a mistake

ATHALYE = "Athalye, Carlini & Wagner 2018, arXiv 1802.00420, §3.1"
CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
COURSE = "this course, lesson"
CROCE = "Croce & Hein 2020, arXiv 2003.01690; the flags of its released code, flags_doc.md"
PINTOR = "Pintor et al. 2022, arXiv 2106.09947"


# --- the model


def probabilities_for_logits(z):
    """Whether outputs `z` (N, K) are probabilities: red where each row sums to 1, amber where all lie in [0, 1]. Lesson 09."""
    z = np.asarray(z)
    if not np.isnan(z).all():  # one image without an answer hides nothing of the others
        z = z[~np.isnan(z).any(axis=1)]
    inside = z.min() >= -1e-5 and z.max() <= 1 + 1e-5
    sums = np.abs(z.sum(axis=1) - 1).max() <= 1e-3
    return _flag(
        "red" if inside and sums else "amber" if inside else "green", "probabilities for logits",
        f"outputs from {z.min():.3g} to {z.max():.3g}" + (", each row sums to 1" if inside and sums else ""),
        "the gradient of a saturated softmax or sigmoid is zero, so that an attack does not move",
        "give the logits, for example advlib.models.as_logits(model)",
        CROCE, "these can be logits",
    )  # fmt: skip


def random_output(difference):
    """difference: the largest relative difference of logits between passes over the same images. Red above 1e-4. Lesson 09."""
    return _flag(
        "red" if difference > VARIES else "green", "random output",
        f"logits of the same images differ by {difference:.2g} of their length between passes",
        "an attack that trusts one draw follows noise, and finds its points by luck: the accuracy measured is too high",
        "attack the mean with advlib.attacks.eot, or AutoAttack's version='rand'; if the model ought not to be random, look for "
        "dropout that is left on", CROCE, "the model gives one answer to one image",
    )  # fmt: skip


def training_mode(difference, random=0.0):
    """Whether an image's logits depend on the images beside it, as batch normalisation in training mode makes them.

    difference: the largest relative difference of logits between two batches; random: that between two passes over the same
    batch, beside which nothing can be told. Red above 1e-3. Lesson 08.
    """
    colour = "amber" if random > VARIES else "red" if difference > COMPANY else "green"
    seen = f"logits of an image differ by {difference:.2g} of their length between one batch and another"
    return _flag(
        colour, "training mode", seen + (", and between two passes over the same batch" if colour == "amber" else ""),
        "layers work as in training, batch normalisation or dropout: an image's prediction is not its own, and neither is its "
        "gradient" if colour == "red" else "the output is random, so that the influence of the batch cannot be told apart",
        "call the model with training=False, and look for layers that are told training=True",
        f"the Keras documentation of BatchNormalization; {COURSE} 08",
        "an image's prediction does not depend on its batch",
    )  # fmt: skip


def wrong_range(low, high, right=None, others=None):
    """Whether the images are what the model expects.

    low, high: the smallest and largest pixel; red outside [0, 1]. right: which images the model gets right, bool (N,); others:
    the same for the images rescaled, {"255·x": bool (N,), …}. Red where the model is clearly better at another scale. Lesson 08.
    """
    outside = low < -1e-6 or high > 1 + 1e-6
    seen, better = f"pixels from {low:.3g} to {high:.3g}", None
    for name, then in (others or {}).items():
        gain = _gain(then, right)
        if gain > BETTER and (better is None or others[name].mean() > others[better].mean()):
            better = name
    if right is not None:
        seen += f"; {int(np.sum(right))} of {len(right)} images right as they are"
    if better:
        seen += f", {int(others[better].sum())} as {better}"
    return _flag(
        "red" if outside or better else "green", "wrong range", seen,
        "the model was trained on images of another scale, and does not see what it knows" if better
        else "ε is meant in pixel units of [0, 1]; in others the same number is another budget",
        f"put the scaling into the model, for example lambda x: model({better.replace('·', ' * ')})" if better
        else "scale the images to [0, 1], and put any normalisation into the model", f"{COURSE} 08",
        "the images are in [0, 1], and no other scale suits the model better",
    )  # fmt: skip


def constant_output(predicted, y):
    """predicted, y: classes of the model and true labels (N,). Amber where images of several classes get one answer: no
    attack can change what does not depend on the image, and the accuracy, of one class, is what it seems. Lesson 10."""
    answers, classes = len(np.unique(predicted)), len(np.unique(y))
    return _flag(
        "amber" if answers == 1 < classes else "green", "constant output",
        f"number of different answers to {len(y)} images of {classes} classes: {answers}",
        "the model gives every image the same answer: its accuracy is the share of one class, and no attack is needed to see it",
        "train it again; look at the loss in the first epochs, and see that it gets images of the scale it knows", f"{COURSE} 10",
        "the answer depends on the image",
    )  # fmt: skip


def unstable_predictions(change):
    """change: |L(x + u) − L(x)| / |L(x)|, at most 1, mean over random u within ±4/255, for each image (N,); L is the margin.
    Amber where its mean is above 0.1: the loss jumps, and so does its gradient. Indicator I2. Lesson 09."""
    mean = float(np.mean(change)) if np.size(change) else 0.0
    return _flag(
        "amber" if mean > UNSTABLE else "green", "unstable predictions",
        f"the margin changes by {100 * mean:.1f} % on average within ±4/255",
        "the loss jumps between neighbouring points, so that a gradient says little about the next step",
        "average over draws or neighbours (advlib.attacks.eot), and compare with attacks without gradients", f"{PINTOR}, I2",
        "the loss is smooth enough to follow",
    )  # fmt: skip


# --- gradients


def zero_gradients(sizes):
    """sizes: the largest |∂L/∂x_i| of each image (N,), NaN where it is no number; None where the model has no gradient at all.
    Red for any that is exactly 0, no number, or not there. Amber below 1e-18, which vanishes when squared. I1. Lesson 09."""
    if sizes is None:
        colour, seen = "red", "no gradient: operations of the model have none"
    else:
        sizes = np.asarray(sizes)
        zero, tiny = int((~(np.abs(sizes) > 0) | np.isinf(sizes)).sum()), int((sizes < TINY).sum())
        colour = "red" if zero else "amber" if tiny else "green"
        seen = f"the gradient of the cross-entropy is zero or no number for {zero} of {len(sizes)} images"
        if colour == "amber":
            seen = f"the gradient of the cross-entropy is below {TINY:g} for {tiny} of {len(sizes)} images"
    return _flag(
        colour, "zero gradients", seen, "an attack with gradients does not move there; what it leaves standing says nothing",
        "look for rounding, saturation or a step function: take loss='margin' or 'dlr' against saturation, "
        "advlib.attacks.bpda through what has no gradient, and attacks without gradients", f"{PINTOR}, I1; {ATHALYE}",
        "every image has a gradient",
    )  # fmt: skip


def silent_success(passed, returned):
    """passed: an adversarial point was on the attack's way; returned: the point it returned is one; both bool (N,). Red for any
    image that is the first and not the second. I3. Lesson 08."""
    k, n = int((np.asarray(passed) & ~np.asarray(returned)).sum()), len(passed)
    return _flag(
        "red" if k else "green", "silent success",
        f"the attack passed an adversarial point of {k} of {n} images and returned another that is none",
        "the attack won and its report says that it lost",
        "keep the best point of the way, not the last (keep='best'); if the model is random, judge by many draws",
        f"{PINTOR}, I3",
        "what the attack found is what it returned",
    )  # fmt: skip


def incomplete_optimisation(half, full, restarted, rising=None):
    """Whether the attack was cut off: all bool (N,), images broken with half the steps, with all, and with another start too.

    Red where twice the steps, or another start, break clearly more than one image in a hundred in addition; amber from 2 in
    1,000, or where for half the images the loss still `rises` at the end. I4. Lesson 04, 08.
    """
    half, full, restarted = (np.asarray(a, bool) for a in (half, full, restarted))
    n, longer, again = len(full), int((full & ~half).sum()), int((restarted & ~full).sum())
    share = float(np.mean(rising)) if rising is not None and np.size(rising) else 0.0
    colour = _colour(max(longer, again), n, LOOK, DOUBLED)
    colour = "amber" if colour == "green" and share > RISING else colour
    seen = f"twice the steps break {longer} of {n} images more, another start {again} more"
    return _flag(
        colour, "incomplete optimisation",
        seen + f"; the loss still rises for {100 * share:.0f} % of those standing" * bool(share),
        "the attack had not converged: more work would have given a smaller accuracy",
        "double steps and restarts until the accuracy no longer moves, or let the attack choose its steps (advlib.apgd)",
        f"{PINTOR}, I4; {CARLINI}, §4.8, §4.9", "twice the work changes nothing that matters",
    )  # fmt: skip


# --- attacks that ought to be weaker


def black_box_beats_white_box(white, black, n):
    """white, black: which images a gradient attack, and one without gradients, breaks, bool (N,); n: images in all.

    Red where those that only the second breaks are clearly more than 5 % of n, amber from 0.2 %: the two rank alike on honest
    networks, but for a few images. Lesson 09.
    """
    k, n = _only(black, white, n)
    return _flag(
        _colour(k, n, LOOK, HIDDEN), "black box beats white box",
        f"{k} of {n} images are broken without gradients, and by no attack with them",
        "whoever has the gradients knows more: they do not lead where they should, and the accuracy under attacks with gradients "
        "is too high",
        "count the worst case of both; look for what hides the gradients, and attack through it (advlib.attacks.bpda, eot)",
        f"{ATHALYE}; {CARLINI}, §4.4, §5.4", "the attacks with gradients find what those without find",
    )  # fmt: skip


def random_search_wins(gradient, random, draws):
    """gradient, random: which images a gradient attack, and the best of `draws` random points, breaks, bool (N,). Red
    where those that only the second breaks are clearly more than 2 %, amber from 0.2 %. Lesson 02, 09."""
    k, n = _only(random, gradient)
    return _flag(
        _colour(k, n, LOOK, WITNESSES), "random search wins",
        f"{k} of {n} images are broken by one of {draws:,} random points, and not by an attack with gradients",
        "noise is the weakest attack of all: the gradients do not lead anywhere", "as for black box beats white box",
        f"{ATHALYE}; {CARLINI}, §4.11", "random points find nothing that the gradient missed",
    )  # fmt: skip


def single_step_beats_iterative(single, iterative):
    """single, iterative: which images one step, and many, break, bool (N,). As `random_search_wins`. Lesson 04, 08."""
    k, n = _only(single, iterative)
    return _flag(
        _colour(k, n, LOOK, WITNESSES), "single step beats iterative",
        f"{k} of {n} images are broken by one step, and not by many",
        "the iterative attack is stuck or wrongly set up, and its accuracy too high",
        "see its step size, its start and whether it keeps the best point; try more restarts", f"{ATHALYE}; {CARLINI}, §5.2",
        "many steps find what one finds",
    )  # fmt: skip


# --- large budgets


def unbounded_attack_fails(broken):
    """broken: which images a gradient attack that may change everything breaks, bool (N,). Amber for any that it does not,
    red where they are clearly more than 1 %. I6. Lesson 09."""
    n, k = len(broken), int((~np.asarray(broken, bool)).sum())
    return _flag(
        _colour(k, n, 0, DOUBLED), "unbounded attack fails",
        f"{k} of {n} images stand where every pixel may take any value",
        "within the whole box there are images of every other class: the attack cannot find what is certainly there",
        "mend the attack before you believe it at a smaller ε: its loss, its step size, the gradient",
        f"{PINTOR}, I6; {CARLINI}, §5.3",
        "without a budget every image is broken",
    )  # fmt: skip


def not_at_chance(broken, grey):
    """At a budget whose ball contains the grey image, in L∞ ε ≥ 0.5, every image can be made the same grey one.

    broken: which images the attack breaks at such a budget; grey: which ones the grey image itself breaks; both bool (N,). Red
    where the attack clearly misses more than 2 %. Lesson 08.
    """
    k, n = _only(grey, broken)
    return _flag(
        _colour(k, n, LOOK, WITNESSES), "not at chance",
        f"at a budget that contains the grey image the attack leaves {k} of {n} images standing that grey itself breaks",
        "there all images can be made the same one, so that no model can be better than chance: the attack is too weak, or ε is "
        "not in the units it seems to be", "see that images are in [0, 1] and ε in their units; then mend the attack",
        f"{CARLINI}, §5.2",
        "where every image can be made the same one, nothing that it breaks is left",
    )  # fmt: skip


def success_and_eps(eps_values, attacks):
    """Whether attacks break more at a larger ε. eps_values: E budgets, ascending; attacks: name → which images, bool (E, N).

    Red where a smaller ε breaks clearly more images than a larger one, by 5 points and more, or where an attack breaks no more
    at the largest than at the smallest, while another breaks 50 points more there. Amber where success is the same everywhere,
    and neither little nor nearly all. Lesson 09, 10.
    """
    worst, seen, stuck, misled = 0.0, [], False, False
    for name, broken in attacks.items():
        broken = np.asarray(broken, bool)
        counts = broken.sum(axis=1)
        seen.append(f"{name} breaks {', '.join(map(str, counts))}")
        for small, large in zip(*np.triu_indices(len(broken), 1), strict=True):
            worst = max(worst, _gain(broken[small], broken[large]))
        other = np.any([np.asarray(b, bool)[-1] for b in attacks.values()], axis=0)
        misled |= bool(counts[0] >= counts[-1] and _gain(other, broken[-1]) > MISLED)
        stuck |= bool(counts[0] >= counts[-1] and STUCK[0] < counts[-1] / broken.shape[1] < STUCK[1])
    n = broken.shape[1]
    at = ", ".join(f"{eps:.3g}" for eps in eps_values)
    return _flag(
        "red" if worst > FALLS or misled else "amber" if stuck else "green", "success and ε",
        f"of {n} images " + "; ".join(seen) + f" at ε = {at}",
        "the larger ball contains the smaller: an attack that finds less in it is misled by its gradient, and what it reports "
        "there is no robustness", "believe no attack of a single step here; take many small steps and several starts, and the "
        "worst case over all ε up to yours", f"{ATHALYE}; {CARLINI}, §5.2", "a larger ε breaks no fewer",
    )  # fmt: skip


# --- the evaluation


def too_few_images(correct, n):
    """correct, n: how many of how many images count as robust. Amber where the 95 % interval is wider than 10 points, red above
    25. ValueError unless 0 ≤ correct ≤ n. Lesson 05, 08."""
    low, high = robustness.interval(correct, n)
    width = high - low
    return _flag(
        "red" if width > VERY_WIDE else "amber" if width > WIDE else "green", "too few images",
        f"{correct} of {n} images; 95 % interval from {100 * low:.1f} to {100 * high:.1f} %",
        f"the true accuracy may lie anywhere within {100 * width:.0f} points",
        "use at least 1,000 images, or say the interval with the number", f"Wilson 1927, J. Am. Stat. Assoc. 22:209; {COURSE} 05",
        f"the interval is {100 * width:.1f} points wide",
    )  # fmt: skip


def evaluated_on_training_data(x, train, parts=(slice(None),)):
    """How many of the images x (N, H, W, C) are among `train`, exactly, in 8-bit pixels. Red where they are clearly more than
    1 %, amber for any. train: images, or a tuple whose first entry they are. parts: the slices in which x is read, for one
    that is larger than memory. Lesson 01, 08."""
    shape = check_images(x[parts[0]]).shape[1:]
    train = check_images(train[0] if isinstance(train, tuple | list) else train, "train")
    if train.shape[1:] != shape:
        raise ValueError(
            f"train has images of shape {train.shape[1:]}, x of {shape}: the same shape was expected, for example the "
            "x_train that the model was fitted on"
        )
    known = set(_keys(train))
    found = [key in known for part in parts for key in _keys(check_images(x[part]))]
    k, n = sum(found), len(found)
    return _flag(
        _colour(k, n, 0, SEEN), "evaluated on training data",
        f"{k} of {n} images are among the {len(train):,} training images",
        "the model has been fitted to these very images: accuracy on new ones is lower, robust accuracy more so",
        "evaluate on images that were kept apart",
        f"Rice, Wong & Kolter 2020, arXiv 2002.11569; {COURSE} 08", "none of these images was trained on"
    )  # fmt: skip


def no_white_box(attacks):
    """attacks: name → what the attack knows of *this* model: "gradient", "scores", "label" or "nothing" (or a dict with that
    under "knows"). Red where none knows more than nothing, as examples made on another model; amber without a gradient.
    Lesson 07, 08."""
    if not isinstance(attacks, Mapping) or not attacks:
        raise ValueError(
            f"attacks={describe(attacks)}: what each attack knows was expected, for example {{'PGD-40': 'gradient'}}"
        )
    knows = {name: a["knows"] if isinstance(a, Mapping) else a for name, a in attacks.items()}
    if unknown := set(knows.values()) - {"gradient", "scores", "label", "nothing"}:
        raise ValueError(
            f"{sorted(map(str, unknown))[0]!r} is nothing that an attack knows: 'gradient', 'scores', 'label' or 'nothing' was "
            "expected, for example {'PGD-40': 'gradient'}"
        )
    best = max(knows.values(), key=["nothing", "label", "scores", "gradient"].index)
    return _flag(
        {"nothing": "red", "gradient": "green"}.get(best, "amber"), "transfer only",
        ", ".join(f"{name} knows {what}" for name, what in knows.items()),
        "no attack followed this model's gradient; one that was made elsewhere, or only asks, is usually weaker",
        "run attacks with the gradients of this model, for example advlib.autoattack", f"{CARLINI}, §2.2.3, §4.3; {PINTOR}, I5",
        "the model was attacked with its own gradients",
    )  # fmt: skip


# --- shared


def _flag(colour, name, seen, meaning, do, source, fine):
    """The Flag; a green one means `fine`, and asks for nothing."""
    return Flag(colour, name, seen, *((fine, "nothing") if colour == "green" else (meaning, do)), source)


def _colour(k, n, amber, red):
    """Red where even the low end of the share's interval is above `red`; amber where the share itself is above `amber`."""
    if n == 0:
        return "green"
    return "red" if robustness.interval(k, n)[0] > red else "amber" if k / n > amber else "green"


def _only(first, second, n=None):
    """How many images the first breaks and the second does not, of how many."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1 or first.dtype != bool or second.dtype != bool:
        raise ValueError(
            f"{describe(first)} and {describe(second)}: for both attacks which images are broken was expected, bool (N,), "
            "for example report.broken('pgd')"
        )
    n = len(first) if n is None else check_number(n, "n", low=len(first), integer=True, example=len(first))
    return int((first & ~second).sum()), n


def _gain(then, now):
    """The low end of the interval of mean(then) − mean(now), on the same images."""
    then, now = np.asarray(then, bool), np.asarray(now, bool)
    both = [then & now, then & ~now, ~then & now, ~then & ~now]
    return robustness._paired_interval(*(int(part.sum()) for part in both))[0]


def _keys(x):
    for image in np.round(255 * x).astype(np.uint8):
        yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()
