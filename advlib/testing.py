"""`check_attack`: what any attack must satisfy, for the tests of advlib's own attacks and for a learner's.

>>> check_attack(my_attack, eps=0.1)          # a list of rules, each with what was seen
>>> check_attack(pgd, eps=0.1, norm="l2")
"""

import inspect
from dataclasses import dataclass

import numpy as np

from advlib import norms
from advlib._tensorflow import keras
from advlib.attacks._loop import stream
from advlib.models import predict_logits
from advlib.robustness import tolerance


class AttackError(AssertionError):
    """An attack breaks a rule; the message says which, what was seen and what was expected."""


@dataclass(frozen=True)
class Rule:
    """One rule and what was seen of it."""

    name: str
    passed: bool
    seen: str

    def __str__(self):
        return f"{'✓' if self.passed else '✗'} {self.name}: {self.seen}"


def toy(seed=0, n=28, classes=4, side=6):
    """A linear model of `side`² pixels, and n images in [0.3, 0.7] with the model's own labels: the box binds nowhere near."""
    rng = np.random.default_rng(seed)
    dense = keras.layers.Dense(classes, name="logits")
    model = keras.Sequential([keras.Input((side, side, 1)), keras.layers.Flatten(), dense], name="toy")
    dense.set_weights(
        [rng.standard_normal((side * side, classes)).astype(np.float32), np.zeros(classes, np.float32)]
    )
    x = rng.uniform(0.3, 0.7, (n, side, side, 1)).astype(np.float32)
    return model, x, predict_logits(model, x).argmax(axis=1)


def check_attack(attack, *, eps, norm="linf", model=None, x=None, y=None, raises=True, **options):
    """Run an attack on a small problem (or on yours) and check what any budget attack must satisfy.

    attack: a function (model, x, y, eps=…, **options) → x_adv; eps, norm: the budget it must keep (`norm` is passed on only
    if the attack takes it). model, x, y: by default 28 images of `toy`, a linear model, of which the last two are mislabelled.
    Checked: the result is float32 of x's shape, in the ball, in the box [0, 1] and without NaN; x, y and the weights are
    untouched; images already misclassified come back unchanged; eps = 0 changes nothing; the same call gives the same bits,
    and an image's result depends on neither its place nor its company; the attack does better than random noise of the same size.

    Returns the list of Rules; raises AttackError at the end if one is broken (raises=False: only returns them).
    Sources: ball and noise, Carlini et al. 2019, arXiv 1902.06705, §2.2.2 and §4.11; others are among Foolbox's and
    adversarial-library's own tests. Lessons 03 and 04.

        >>> check_attack(lambda model, x, y, eps: x, eps=0.1)      # broken: no better than noise
    """
    ball = norms.get(norm)
    given = {"model": model, "x": x, "y": y}
    if missing := [name for name, value in given.items() if value is None]:
        if len(missing) < 3:
            raise TypeError(
                f"check_attack was given no {' and no '.join(missing)}: model, x and y were expected, or none of the three, "
                "for example check_attack(pgd, eps=0.1, model=net, x=x_test[:28], y=y_test[:28])"
            )
        model, x, y = toy()
        y = np.concatenate([y[:-2], (y[-2:] + 1) % 4])
    words = inspect.signature(attack).parameters if callable(attack) else {}
    if "norm" in words or any(p.kind is p.VAR_KEYWORD for p in words.values()):
        options = {"norm": norm, **options}
    rules = []

    def rule(name, passed, seen):
        rules.append(Rule(name, bool(passed), seen))

    def call(x, y, eps=eps):
        return attack(model, x.copy(), np.array(y), eps=eps, **options)

    x_given, y_given = x.copy(), np.array(y)
    before = [w.copy() for w in model.get_weights()] if hasattr(model, "get_weights") else []
    x_adv = attack(model, x_given, y_given, eps=eps, **options)

    shaped = isinstance(x_adv, np.ndarray) and x_adv.shape == x.shape and x_adv.dtype == np.float32
    what = f"{x_adv.dtype} {x_adv.shape}" if isinstance(x_adv, np.ndarray) else type(x_adv).__name__
    rule("returns float32 of x's shape", shaped, f"{what}; float32 {x.shape} was expected")
    if shaped:
        finite = np.isfinite(x_adv).all()
        rule("no NaN", finite, f"{int((~np.isfinite(x_adv)).sum())} pixels are NaN or infinite")
        size = float(np.max(ball.size(x_adv - x))) if finite else np.inf
        rule(
            f"inside the {ball.label} ball",
            size <= eps + tolerance(ball.name, eps),
            f"largest size {size:.7g}, ε = {eps:g}",
        )
        rule(
            "inside the box",
            x_adv.min() >= 0 and x_adv.max() <= 1,
            f"pixels from {x_adv.min():.7g} to {x_adv.max():.7g}; [0, 1] was expected",
        )
        rule("x and y untouched", (x_given == x).all() and (y_given == y).all(), "compared after the call")
        same = (
            all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True)) if before else True
        )
        rule("weights untouched", same, "compared after the call")
        wrong = predict_logits(model, x).argmax(axis=1) != y
        moved = int((x_adv[wrong] != x[wrong]).any(axis=(1, 2, 3)).sum())
        rule(
            "images already misclassified come back unchanged",
            moved == 0,
            f"{moved} of {int(wrong.sum())} changed",
        )
        still = call(x, y, eps=0)
        rule(
            "eps = 0 changes nothing",
            (still == x).all(),
            f"{int((still != x).any(axis=(1, 2, 3)).sum())} of {len(x)} images changed",
        )
        rule("same call, same bits", (call(x, y) == x_adv).all(), "two calls compared")
        alone = np.concatenate([call(x[i : i + 1], y[i : i + 1]) for i in range(min(3, len(x)))])
        reverse = call(x[::-1], y[::-1])[::-1]
        rule(
            "place and company change nothing",
            (reverse == x_adv).all() and (alone == x_adv[: len(alone)]).all(),
            "reversed, and one by one",
        )
        gained, noise = _gain(model, x_adv, x, y), _gain(model, _noise(ball, x, eps), x, y)
        rule(
            "better than random noise",
            gained > noise,
            f"mean margin to the true class falls by {gained:.4g}; by {noise:.4g} under noise",
        )
    if raises and not all(r.passed for r in rules):
        raise AttackError("\n".join(str(r) for r in rules if not r.passed))
    return rules


def _noise(ball, x, eps):
    delta = np.stack([ball.sample(stream(image, 0, "noise"), image.shape, eps) for image in x])
    return ball.project(x + delta, x, eps).numpy()


def _gain(model, x_adv, x, y):
    """How far, on average over images the model gets right, the true class's lead over the next shrinks."""

    def lead(x):
        z = predict_logits(model, x).astype(np.float64)
        true = z[np.arange(len(y)), y]
        z[np.arange(len(y)), y] = -np.inf
        return true - z.max(axis=1)

    x_adv = np.clip(np.nan_to_num(x_adv), 0, 1)  # what leaves the box has been reported already

    right = lead(x) > 0
    return float((lead(x) - lead(x_adv))[right].mean()) if right.any() else 0.0
