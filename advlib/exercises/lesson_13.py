"""Checks of lesson 13, the audit: how many images, a count and its verdict, lost gradients, an attack for a stranger, a wall."""

import re

import numpy as np
from scipy.stats import norm

from advlib import exhibits
from advlib._tensorflow import tf
from advlib.attacks.bpda import forward_backward
from advlib.exercises import exercise, number, require
from advlib.exercises.properties import inside
from advlib.models import predict_logits
from advlib.testing import toy


@exercise("13.1")
def how_many(both, exact, caught):
    both, exact, caught = number(both, "both"), number(exact, "exact"), number(caught, "caught")
    for name, n, samples in (("both", both, 2), ("exact", exact, 1)):
        require(n >= 1, f"{name}: a number of images was expected")

        def alarms(n, samples=samples):
            """How often a true claim goes back at the worst share, ½, where each sample has the variance 1 / (4n)."""
            return norm.sf(0.05 / np.sqrt(samples / (4 * n)))

        require(
            alarms(1.01 * n) <= 1 / 40,
            f"{name}: with {n:,.0f} images a true claim goes back in {100 * alarms(n):.1f} % of the cases, at the worst share",
        )
        require(
            alarms(0.99 * n) >= 1 / 40 * 0.999,
            f"{name}: {n:,.0f} images are more than enough: a true claim goes back in {100 * alarms(n):.2f} % of the cases",
        )
    require(0 <= caught <= 1, "caught: a share from 0 to 1 was expected")
    require(
        abs(caught - 0.5) <= 0.05,
        "caught: the difference measured scatters around ten points, and a claim goes back if it is more than ten; how often?",
    )


@exercise("13.2")
def judged(answer):
    def call(y, said, claimed, found=(), classes=10):
        said = {name: np.array(answers) for name, answers in said.items()}
        result = answer(np.array(y), said, classes, claimed, list(found))
        require(
            isinstance(result, tuple | list) and len(result) == 2,
            "two things were expected: robust accuracy in per cent, and the verdict",
        )
        robust, verdict = number(result[0], "robust accuracy"), result[1]
        require(0 <= robust <= 100, f"robust accuracy is {robust:g}: per cent from 0 to 100 were expected")
        require(
            verdict in ("sign", "send back"),
            f'the verdict is {verdict!r}: "sign" or "send back" was expected',
        )
        return robust, verdict

    y = [0, 1, 2, 3]
    robust, verdict = call(y, {"clean": y, "PGD": y}, 100)
    require(
        abs(robust - 100) < 1e-6 and verdict == "sign",
        "four of four stand, as claimed: 100 per cent, to be signed",
    )
    robust, _ = call(y, {"clean": y, "PGD": [0, 1, 2, 10]}, 75)
    require(
        abs(robust - 75) < 1e-6,
        f"under PGD three of four images are right and one is refused: you say {robust:g} per cent; is a refusal right?",
    )
    robust, _ = call(y, {"clean": [0, 1, 2, 10], "PGD": y}, 75)
    require(
        abs(robust - 75) < 1e-6,
        "an image is refused without attack and answered rightly under it: it does not stand (lesson 05)",
    )
    robust, _ = call([0, 1, 2, 10], {"clean": [0, 1, 2, 10], "PGD": [0, 1, 2, 10]}, 90, classes=11)
    require(
        abs(robust - 100) < 1e-6,
        "the model has 11 classes, 0 to 10: class 11 is the refusal, and class 10 an answer",
    )
    robust, _ = call(y, {"clean": y, "a": [1, 1, 2, 3], "b": [0, 1, 2, 0]}, 50)
    require(
        abs(robust - 50) < 1e-6,
        f"two attacks break one image each, not the same: you say {robust:g} per cent; what is the worst case of each image?",
    )
    for claimed, found, expected, why in (
        (20, [], "sign", "claimed 20, left 25, nothing found: a low claim that holds is to be signed"),
        (35, [], "sign", "claimed 35, left 25: exactly ten points above is not more than ten"),
        (36, [], "send back", "claimed 36, left 25: that is more than ten points above"),
        (
            25,
            ["backdoor"],
            "send back",
            "claimed 25, left 25, and a backdoor was found: would its buyer want that?",
        ),
    ):
        _, verdict = call(y, {"clean": y, "PGD": [0, 0, 0, 0]}, claimed, found)
        require(verdict == expected, f"you say {verdict!r} where {why}")


@exercise("13.3")
def gone(answer):
    base, x, y = toy()
    y = np.concatenate([y[:-4], (y[-4:] + 1) % 4])  # four images of 28 are wrong

    def call(model):
        result = answer(model, x.copy(), y.copy())
        require(np.shape(result) == (2,), "two shares were expected: of the loss, and of the logits")
        return [number(share, "a share") for share in result]

    def expect(model, of_loss, of_logits, case):
        for given, true, what in zip(
            call(model), (of_loss, of_logits), ("loss", "true class's logit"), strict=True
        ):
            require(
                abs(given - true) < 1e-6,
                f"{case}: of the images it gets right, a share of {true:.3g} has no gradient of the {what}; "
                f"you say {given:.3g}",
            )

    run = lambda x, training=False: base(x)  # noqa: E731
    expect(run, 0, 0, "an honest model")
    expect(lambda x, training=False: 1e5 * base(x), 1, 0, "logits a hundred thousand times too large")
    z = np.sort(predict_logits(base, x), axis=1)
    lead = float((z[:, -1] - z[:, -2])[:-4].max())
    expect(
        lambda x, training=False: 60 / lead * base(x),
        0,
        0,
        "large logits, with gradients of the loss down to 1e-26, which are not 0",
    )
    expect(
        lambda x, training=False: base(tf.round(x * 255) / 255 + 0 * x),
        1,
        1,
        "rounded input with a gradient of 0",
    )
    expect(
        lambda x, training=False: base(tf.round(x * 255) / 255),
        1,
        1,
        "rounded input, for which tape.gradient returns None",
    )
    bright = float(np.sort(x.mean(axis=(1, 2, 3)))[9:11].mean())  # the ten darkest images have another scale

    def partly(x, training=False):
        factor = tf.where(tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True) <= bright, 1e5, 1.0)
        return tf.stop_gradient(factor[:, 0, 0]) * base(x)

    right = predict_logits(partly, x).argmax(axis=1) == y
    dark = x.mean(axis=(1, 2, 3)) <= bright
    expect(
        partly,
        (dark & right).sum() / right.sum(),
        0,
        "a model with huge logits for some of the images, and four of 28 images wrong",
    )


@exercise("13.4")
def strongest(answer):
    base, x, y = toy(n=16)
    w, i = base.get_weights()[0].T.astype(float), np.arange(len(x))
    z = predict_logits(base, x).astype(float)
    slopes = np.abs(w[None] - w[y][:, None]).sum(axis=2)  # a linear model's reach in L∞, for each rival
    slopes[i, y] = 1
    gap = z[i, y][:, None] - z
    gap[i, y] = np.inf
    distance = (gap / slopes).min(axis=1)
    eps = float(np.sort(distance)[10:12].mean())  # 11 of the 16 images can be broken
    kernel = tf.constant(base.get_weights()[0])

    def run(x, training=False):
        return tf.reshape(x, (-1, 36)) @ kernel  # the toy, ten times as fast

    def terse(x, training=False):
        z = run(x)
        return forward_backward(9 * tf.one_hot(tf.argmax(z, axis=1), 4), z)

    models = {
        "the honest model": (run, 10),
        "the model with a flat loss": (exhibits.saturated(run, 1e5), 9),
        "the model with a gradient of 0": (exhibits.quantised(run, 256), 9),
        "the model whose gradient points the wrong way": (
            lambda x, training=False: run(forward_backward(x, -x)),
            9,
        ),
        "the model that shows its class alone, and has a gradient": (terse, 6),
    }
    for name, (model, least) in models.items():
        given = x.copy()
        points = inside(answer(model, given, y.copy(), eps), x, eps).astype(np.float32)
        require((given == x).all(), "x was changed by the call; work on a copy")
        broken = int((predict_logits(model, points).argmax(axis=1) != y).sum())
        require(
            broken >= least,
            f"{name}: of 16 images 11 can be broken at this ε, your points break {broken}; {least} were asked for",
        )


@exercise("13.5")
def wall(sign, hidden, weak, panels, pgd_left):
    truth = {"sign": set(), "hidden": set(), "weak": set()}
    for letter, (_, _, left) in panels.items():
        pgd, square, claim = pgd_left[letter], left["Square"], left["claim"]
        holds, lost = claim <= min(pgd, square) + 0.1, pgd > square + 0.2
        truth["sign" if holds else "hidden" if lost else "weak"].add(letter)
    hints = {
        "sign": (
            "there is a panel among yours whose diamond is far above the line or the circle",
            "a panel is missing whose diamond is not far above the lower of line and circle; must a claim be high?",
        ),
        "hidden": (
            "there is a panel among yours in which the search does not leave less than the gradients",
            "a panel is missing in which the circle lies far below the line",
        ),
        "weak": (
            "there is a panel among yours in which the claim holds, or in which the gradients do not work",
            "a panel is missing in which line and circle agree, and the diamond is far above both",
        ),
    }
    for name, given in (("sign", sign), ("hidden", hidden), ("weak", weak)):
        letters = set(re.findall(r"[A-Z]", "".join(given).upper()))
        require(letters <= set(panels), f"{name}: letters from {''.join(panels)} were expected")
        require(not letters - truth[name], f"{name}: {hints[name][0]}")
        require(not truth[name] - letters, f"{name}: {hints[name][1]}")
