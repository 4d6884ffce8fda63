"""Transfer: examples crafted on one model, tried on another, which the attacker never asked. Lesson 07."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from advlib._checks import check_choice, check_images, check_labels, check_number, describe, predicted_classes
from advlib.attacks._loop import stream
from advlib.models import predict_logits
from advlib.robustness import interval

NOISE = ("noise of equal L∞", "noise of equal L2")  # rows that no source may be called


@dataclass(eq=False, repr=False)
class TransferMatrix:
    """What `transfer` measured. Rows are sources, then noise; columns are targets.

    An entry counts the images that become wrong on the target, of those that were right without attack on the target *and* on
    the source, so that an entry says nothing of images that either model got wrong to begin with.

    y: true labels (N,). prediction: model → its classes at x (N,), of sources and targets. attacked: (source, target) → the
    target's classes at the examples crafted on the source (N,). noise: (source, kind, target) → its classes at noise of the
    size of those perturbations (N,); kind is one of `NOISE`.
    """

    y: np.ndarray
    sources: list
    targets: list
    prediction: dict
    attacked: dict = field(default_factory=dict)
    noise: dict = field(default_factory=dict)

    def right(self, source, target):
        """Which images both models get right without attack: the denominator, bool (N,)."""
        return (self.prediction[source] == self.y) & (self.prediction[target] == self.y)

    def count(self, source, target, noise=None):
        """(broken, right): how many images become wrong on the target, and of how many; of `noise`, a kind, if it is given.

        Raises ValueError for a kind that is none of `NOISE`."""
        noise is None or check_choice(noise, "noise", NOISE)
        found = self.attacked[source, target] if noise is None else self.noise[source, noise, target]
        right = self.right(source, target)
        return int((right & (found != self.y)).sum()), int(right.sum())

    def rate(self, source, target, noise=None):
        """The share broken / right; NaN where no image is right on both."""
        broken, right = self.count(source, target, noise)
        return broken / right if right else float("nan")

    def table(self):
        """One row for each source, target and kind of perturbation, as a pandas DataFrame.

        Columns: source, target, perturbation ("attack" or a kind of noise), broken, of (right on both), rate %, low %, high %
        (Wilson, 95 %)."""
        rows = []
        for source in self.sources:
            for target in self.targets:
                for kind in (None, *NOISE):
                    broken, right = self.count(source, target, kind)
                    low, high = interval(broken, right) if right else (np.nan, np.nan)
                    share = 100 * self.rate(source, target, kind)
                    rows.append(
                        [source, target, kind or "attack", broken, right, share, 100 * low, 100 * high]
                    )
        columns = ["source", "target", "perturbation", "broken", "of", "rate %", "low %", "high %"]
        return pd.DataFrame(rows, columns=columns)

    def _shown(self):
        shown = {}
        for source in self.sources:
            for kind in (None, *NOISE):
                cells = []
                for target in self.targets:
                    broken, right = self.count(source, target, kind)
                    if right:
                        low, high = (100 * v for v in interval(broken, right))
                        cells.append(
                            f"≈ {100 * broken / right:.0f} % (≈ {low:.0f} to ≈ {high:.0f}) of {right:,}"
                        )
                    else:
                        cells.append("none right on both")
                shown[source if kind is None else f"{source}, {kind}"] = cells
        title = (
            f"{len(self.y):,} images; share broken of those right on source and target, and its 95 % interval"
        )
        return pd.DataFrame.from_dict(shown, orient="index", columns=self.targets), title

    def __repr__(self):
        """Sources in rows, targets in columns; nothing random, so that two runs print the same."""
        shown, title = self._shown()
        return f"{title}\n{shown.to_string()}"

    def _repr_html_(self):
        shown, title = self._shown()
        return f"<p>{html.escape(title)}</p>{shown.to_html()}"


def transfer(sources, x, y, attack, *, targets=None, seed=0):
    """Craft on every source, try on every target: a `TransferMatrix` of success rates with intervals and noise to compare with.

    sources, targets: dict name → model (targets: by default the sources); a name in both must mean the same model. x: float32
    (N, H, W, C) in [0, 1]. y: true labels (N,). attack: a callable (model, x, y) → x_adv, such as `partial(pgd, eps=0.1)`, called
    once for each source; what it returns is brought into the box [0, 1] by no one: outside it is an error. seed: of the noise.
    Noise, for each image and source: ±‖δ‖∞ at random in each pixel, and a random direction of length ‖δ‖₂, δ being the
    perturbation crafted there; both clipped to the box, so that they end a little smaller, never larger.

    An image counts where source and target are right about it without attack. In a column, the source that is the target itself
    should come first under a strong attack; a row may peak anywhere. Raises TypeError or ValueError for bad input.

    Source: Szegedy et al. 2014, arXiv 1312.6199, §4.1; Papernot et al. 2016, arXiv 1605.07277. Lesson 07.

        >>> transfer({"mlp": mlp, "cnn": cnn}, x[:200], y[:200], partial(pgd, eps=0.1))
    """
    x = check_images(x)
    y = check_labels(y, len(x))
    check_number(seed, "seed", low=0, integer=True, example=0)
    sources = _check_models(sources, "sources")
    targets = sources if targets is None else _check_models(targets, "targets")
    for name in sources.keys() & targets.keys():
        if sources[name] is not targets[name]:
            raise ValueError(
                f"{name!r} is one model among the sources and another among the targets: a name for each was expected, "
                f"for example {name + ' (2)'!r}"
            )
    if not callable(attack):
        raise TypeError(
            f"attack is {describe(attack)}: a callable (model, x, y) was expected, for example partial(advlib.pgd, eps=0.1)"
        )
    matrix = TransferMatrix(y, list(sources), list(targets), {})
    for name, model in (sources | targets).items():
        logits = predict_logits(model, x)
        check_labels(y, len(x), logits.shape[1])
        matrix.prediction[name] = predicted_classes(logits)
    for source, model in sources.items():
        x_adv = attack(model, x.copy(), y.copy())
        if np.shape(x_adv) != x.shape:
            raise ValueError(
                f"the attack on {source!r} returned {describe(x_adv)}: images of x's shape {x.shape} were expected, "
                "for example np.clip(x + delta, 0, 1)"
            )
        x_adv = check_images(x_adv, f"what the attack returned for {source!r}")
        noisy = {kind: _noise(x, x_adv - x, kind, seed) for kind in NOISE}
        for target, judge in targets.items():
            matrix.attacked[source, target] = predicted_classes(predict_logits(judge, x_adv))
            for kind in NOISE:
                matrix.noise[source, kind, target] = predicted_classes(predict_logits(judge, noisy[kind]))
    return matrix


def _noise(x, delta, kind, seed):
    """x plus noise of the size of `delta`, image by image, clipped."""
    out = np.empty_like(x)
    for k, (image, d) in enumerate(zip(x, delta, strict=True)):
        rng = stream(image, seed, "transfer", kind)
        if kind == NOISE[0]:
            noise = np.abs(d).max() * (rng.integers(0, 2, d.shape).astype(np.float32) * 2 - 1)
        else:
            direction = rng.standard_normal(d.shape, np.float32)
            noise = direction * (np.linalg.norm(d) / np.linalg.norm(direction))
        out[k] = np.clip(image + noise, 0, 1)
    return out


def _check_models(models, what):
    if not isinstance(models, Mapping) or not models:
        raise (TypeError if not isinstance(models, Mapping) else ValueError)(
            f"{what} is {describe(models)}: a dict from names to models was expected, for example {{'mlp': mlp, 'cnn': cnn}}"
        )
    for name, model in models.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a model of {what} is called {name!r}: a name was expected, for example 'cnn'")
        if not callable(model):
            raise TypeError(
                f"{what}[{name!r}] is {describe(model)}: a callable from images to logits was expected, for example a keras.Model"
            )
    return dict(models)
