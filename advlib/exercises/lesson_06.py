"""Checks of lesson 06, the smallest perturbation: distances, planes, pixels that can be spared."""

import numpy as np

from advlib.exercises import Hint, exercise, number, require
from advlib.models import predict_logits
from advlib.testing import toy


@exercise("06.1")
def distances(answer):
    def call(size, right, broken):
        d = np.asarray(answer(np.array(size, float), np.array(right, bool), np.array(broken, bool)))
        require(
            d.shape == (len(size),),
            f"for {len(size)} images the result has shape {d.shape}: ({len(size)},) was expected",
        )
        require(not np.isnan(d.astype(float)).any(), "a distance is NaN: every image has one, finite or not")
        return d.astype(float)

    require(
        call([1.5], [True], [True])[0] == 1.5,
        "an image that was right and is broken: the distance is the size",
    )
    failed = call([0.0], [True], [False])[0]
    require(
        failed != 0,
        "right without attack, not broken, size 0: this attack failed, and is booked as a perfect one",
    )
    require(
        all(failed > eps for eps in (1, 100, 1e9)),
        "right without attack and not broken: under this attack the image survives every budget, also one of 1e9",
    )
    far = call([3.0], [True], [False])[0]
    require(
        all(far > eps for eps in (1, 5, 1e9)),
        "an attack that failed and returned some point 3.0 away has found nothing",
    )
    wrong = call([0.0, 0.0, 2.0], [False] * 3, [True, False, True])
    require(
        not (wrong > 0).any(),
        "an image that is wrong without attack survives no budget, not even 0, whatever the attack did with it",
    )
    require(wrong == 0, "an image that is wrong without attack has the distance 0: nothing had to be done")
    rng = np.random.default_rng(0)
    size, right, broken = rng.uniform(0.5, 3, 200), rng.random(200) < 0.9, rng.random(200) < 0.8
    d = call(size, right, broken)
    for eps in (0, 1, float(size[0]), 5):
        survives = right & ~(broken & (size <= eps))
        require(
            (d > eps) == survives,
            f"on 200 random images the share with a distance above ε = {eps:.2f} is not the accuracy under the attack",
        )


@exercise("06.2")
def mean_or_median(accuracies, summary, afterwards):
    d = np.array([0, 0.2, 0.5, 0.5, 0.9, np.inf])
    require(np.shape(accuracies) == (5,), "accuracies: five numbers were expected, one for each ε")
    for eps, given in zip((0, 0.2, 0.4, 0.5, 1), accuracies, strict=True):
        given, true = number(given, "an accuracy"), (d > eps).mean()
        require(0 <= given <= 1, f"accuracy at ε = {eps}: {given:g} is no share of six images")
        exact = " An image exactly on the budget is broken by it." if eps in d else ""
        require(
            abs(given - true) < 0.005,
            f"accuracy at ε = {eps}: which of the six distances lie above it?{exact}",
        )
    worse = np.where(d == 0.9, np.inf, d)
    for name, pair, found in (("summary", summary, d), ("afterwards", afterwards, worse)):
        require(
            np.shape(pair) == (2,),
            f"{name}: two numbers were expected, the median and the mean over the successes",
        )
        median, mean = (number(value, name) for value in pair)
        right = found[found > 0]
        require(
            abs(median - np.median(right)) < 0.005,
            f"{name}: the median is the middle one of the images that were right; how many are these, with +∞ among them?",
        )
        require(
            abs(mean - right[np.isfinite(right)].mean()) < 0.005,
            f"{name}: the mean over the successes; which images count as one, and is the wrong image among them?",
        )


@exercise("06.3")
def plane_distance(answer):
    rng = np.random.default_rng(0)

    def call(logits, gradients, y, norm):
        with np.errstate(all="ignore"):
            d = np.asarray(answer(logits.copy(), gradients.copy(), y.copy(), norm), float)
        require(
            d.shape == y.shape,
            f"for {len(y)} images the result has shape {d.shape}: ({len(y)},) was expected",
        )
        require(
            not np.isnan(d).any(),
            "a distance is NaN: the true class is no class to be reached, and its own gradient no way",
        )
        return d

    def reach(gradients, y, norm, d):
        """How far each class's lead over y can be raised by a perturbation of size d: (N, K)."""
        w = gradients - gradients[np.arange(len(y)), y][:, None]
        step = (
            np.sign(w) if norm == "linf" else w / np.maximum(np.linalg.norm(w, axis=2, keepdims=True), 1e-12)
        )
        return (w * step).sum(axis=2) * d[:, None]

    logits, gradients = (
        rng.normal(0, 1, (60, 4)),
        rng.normal(0, 1, (60, 4, 9)) * rng.uniform(0.2, 3, (60, 4, 1)),
    )
    y, i = logits.argmax(axis=1), np.arange(60)
    for norm, label in (("l2", "L2"), ("linf", "L∞")):
        d = call(logits, gradients, y, norm)
        require(
            d > 0,
            f"{label}: a distance of {d.min():.3g} for an image that is right; its way to every wrong class is longer",
        )
        gap = logits - logits[i, y][:, None]
        shorter = (gap + reach(gradients, y, norm, 0.999 * d))[np.arange(4) != y[:, None]].reshape(60, 3)
        require(
            shorter < 0,
            f"{label}: for some image a perturbation of 0.999 times your distance takes a wrong class past the true one",
        )
        longer = (gap + reach(gradients, y, norm, 1.001 * d))[np.arange(4) != y[:, None]].reshape(60, 3)
        require(
            (longer > 0).any(axis=1),
            f"{label}: for some image no perturbation of 1.001 times your distance brings any wrong class to the true one",
        )
    wrong = (y + 1) % 4
    require(
        call(logits, gradients, wrong, "l2") == 0,
        "for images that are wrong already the distance should be 0",
    )
    level = gradients.copy()
    level[:] = gradients[:, :1]
    require(
        np.isinf(call(logits, level, y, "l2")),
        "where all logits have the same gradient no perturbation helps, however large",
    )
    one = gradients.copy()
    k = (y + 1) % 4
    one[i, k] = gradients[i, y]
    d, lone = call(logits, one, y, "linf"), call(logits, gradients, y, "linf")
    require(
        np.isfinite(d),
        "one wrong class has the gradient of the true one; there are others that can be reached",
    )
    require(
        d >= lone - 1e-9,
        "a class with the gradient of the true one can never be reached, and yet it is the nearest",
    )


@exercise("06.4")
def three_lines(at_first, at_second):
    w, b = np.array([[5, 0], [-4, 4], [2, -6]]), np.array([-3.7, -1.6, 0.5])
    for point, given in (((0.5, 0.5), at_first), ((0.55, 0.62), at_second)):
        if np.shape(given) != (2, 2):
            raise Hint(
                f"at {point}: two pairs (class, distance) were expected, for L2 and for L∞, such as [(1, 0.2), (2, 0.3)]"
            )
        g = w @ np.array(point) + b
        for (k, distance), label, q in zip(given, ("L2", "L∞"), (2, 1), strict=True):
            k, distance = number(k, "the class"), number(distance, "the distance")
            true = -g / np.linalg.norm(w, ord=q, axis=1)
            require(
                k in (1, 2, 3),
                f"at {point} in {label}: class {k:g} is no wrong class; 1, 2 or 3 was expected",
            )
            require(
                k == true.argmin() + 1,
                f"at {point} in {label}: class {k:g} is not the nearest; divide each |g| by the dual norm of its gradient",
            )
            require(
                abs(distance - true.min()) < 0.006,
                f"at {point} in {label}: the class is right, {distance:g} is not its distance; what is |g|, "
                "and which norm of the gradient belongs under it?",
            )


@exercise("06.5")
def spare(answer):
    model, x, y = toy()
    w, logits = model.get_weights()[0].T, predict_logits(model, x)
    rival = logits.argsort(axis=1)[:, -2]
    rng = np.random.default_rng(0)
    for i in range(8):
        image, label = x[i], int(y[i])
        sign = np.sign(w[rival[i]] - w[label]).reshape(image.shape)
        # The last pixel moved the wrong way: once it is back, earlier ones can be spared.
        sign[-1] *= 1 if i < 4 else -0.5
        adversarial = np.clip(image + rng.uniform(0.02, 0.3, image.shape) * sign, 0, 1).astype(np.float32)
        given = adversarial.copy()
        z = np.asarray(answer(model, image.copy(), given, label))
        require((given == adversarial).all(), "the adversarial image was changed by the call; work on a copy")
        require(
            z.shape == image.shape,
            f"the result has shape {z.shape}; an image of shape {image.shape} was expected",
        )
        require(
            (z == image) | (z == adversarial),
            "some pixel of the result is neither the clean one nor the adversarial one: put back to which value?",
        )
        require(
            _class(model, z[None])[0] != label,
            "the model is right about the result: pixels that can be spared one by one need not be spared together",
        )
        changed = np.argwhere(z != image)
        trials = np.repeat(z[None], len(changed), axis=0)
        for trial, (row, column, _) in zip(trials, changed, strict=True):
            trial[row, column] = image[row, column]
        if len(trials):
            free = int((_class(model, trials) != label).sum())
            require(
                free == 0,
                f"of the {len(changed)} pixels still changed, {free} can be put back, each by itself, and the model stays wrong",
            )


def _class(model, x):
    return predict_logits(model, x).argmax(axis=1)
