"""Measuring robustness: `evaluate` runs attacks and believes none of them, a `Report` holds what was
measured.

    >>> attacks = {"fgsm": partial(fgsm, eps=0.1), "pgd": partial(pgd, eps=0.1)}
    >>> report = evaluate(net, x, y, attacks, norm="linf", eps=0.1)
    >>> report.clean_accuracy, report.robust_accuracy
    >>> report.table()

Lesson 02 treats the three readings of |prediction − label|, lesson 05 everything else. TensorFlow is imported
when a model is to be evaluated; a saved Report is read, shown and compared without it.
"""

import contextlib
import hashlib
import html
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from tqdm.auto import tqdm

from advlib._checks import (
    DAMAGED,
    check_choice,
    check_images,
    check_labels,
    check_number,
    describe,
    predicted_classes,
)
from advlib.diagnostics import COLOURS, Flag, collect_flags, raise_flag

CLEAN, WORST = "clean", "worst case"  # rows of a Report that no attack may be called
FORMAT, VERSION = "advlib report", 2
CHUNK = 1024  # images measured at a time, so that memory stays flat
_FEASIBLE = "Carlini et al. 2019, arXiv 1902.06705, §2.2.2; run_attack.py of Madry et al.'s mnist_challenge"
_COURSE = "this course, lesson 05"


# --- statistics


def interval(k, n, method="wilson", confidence=0.95):
    """The confidence interval of a proportion, `k` of `n`: (low, high) in [0, 1].

    method: "wilson", the score interval, or "exact", Clopper and Pearson's, which is never too narrow and a
    little wider. Raises TypeError or ValueError unless 0 ≤ k ≤ n, n ≥ 1 and 0 < confidence < 1. From
    scipy.stats. Lesson 05.

        >>> interval(45, 50)
        (0.7864..., 0.9565...)
    """
    n = check_number(n, "n", low=1, integer=True, example=1000)
    k = check_number(k, "k", low=0, high=n, integer=True, example=n // 2)
    check_choice(method, "method", ("wilson", "exact"))
    confidence = check_number(confidence, "confidence", above=0, high=1, example=0.95)
    if confidence == 1:
        raise ValueError("confidence=1: less than certainty was expected, for example 0.95")
    bounds = binomtest(k, n).proportion_ci(confidence_level=confidence, method=method)
    return float(bounds.low), float(bounds.high)


def tolerance(norm, eps):
    """How far above `eps` float32 arithmetic may carry a size: 1e-6 in L∞, 1e-5·max(1, ε) in L2,
    1e-4·max(1, ε) in L1, nothing in L0, which counts. ValueError for another norm."""
    allowed = {"linf": 1e-6, "l2": 1e-5 * max(1, eps), "l1": 1e-4 * max(1, eps), "l0": 0.0}
    return allowed[check_choice(norm, "norm", tuple(allowed))]


# --- the Report


@dataclass(eq=False, repr=False)
class Outcome:
    """What one attack did, image by image; all measured by `evaluate`, nothing taken from the attack.

    prediction: the model's class at the returned point, int64 (N,), −1 where the model returned NaN; where
    the point is not feasible it is the class at x, so that the attack counts as failed. size: ‖x_adv − x‖ in
    the Report's norm, float64 (N,), NaN where x_adv is not finite. feasible: inside ball and box, bool (N,).
    seconds: wall time of the attack. x_adv: what the attack returned, float32 (N, H, W, C), feasible or not.
    """

    prediction: np.ndarray
    size: np.ndarray
    feasible: np.ndarray
    seconds: float
    x_adv: np.ndarray


@dataclass(eq=False, repr=False)
class Report:
    """The result of `evaluate`. Accuracies are fractions in [0, 1] of all `n` images. Lesson 05.

    norm, eps: the budget. y: true labels (N,). prediction: classes at x (N,). classes: their number.
    fingerprint: SHA-256 of the images. outcomes: name → `Outcome`; `report["pgd"]` is
    `report.outcomes["pgd"]`. flags: list of `diagnostics.Flag`. The adversarial images are kept: one copy of
    x for each attack in memory.

    Wherever a name is asked for, "clean" is the model without attack and "worst case" is every attack
    together: an image counts as correct only if it was right to begin with and no attack broke it.
    """

    norm: str
    eps: float
    y: np.ndarray
    prediction: np.ndarray
    classes: int
    fingerprint: str
    outcomes: dict = field(default_factory=dict)
    flags: list = field(default_factory=list)

    @property
    def n(self):
        """The number of images."""
        return len(self.y)

    @property
    def names(self):
        """The rows of the table: "clean", each attack, "worst case"."""
        return [CLEAN, *self.outcomes, WORST]

    def __getitem__(self, name):
        return self.outcomes[check_choice(name, "name", tuple(self.outcomes) or ("no attack",))]

    def still_correct(self, name=WORST):
        """Which images are right without attack and right under `name` too: bool (N,)."""
        check_choice(name, "name", self.names)
        right = self.prediction == self.y
        for attack, outcome in self.outcomes.items():
            if name in (attack, WORST):
                right = right & (outcome.prediction == self.y)
        return right

    def broken(self, name=WORST):
        """Which images are right without attack and wrong under `name`: bool (N,)."""
        return self.still_correct(CLEAN) & ~self.still_correct(name)

    def accuracy(self, name):
        """Share of all images still correct under `name`; of one attack, say "accuracy under PGD-40"."""
        return float(self.still_correct(name).mean())

    @property
    def clean_accuracy(self):
        """Share of all images that are right without attack."""
        return self.accuracy(CLEAN)

    @property
    def robust_accuracy(self):
        """Share of all images that are right and that no attack broke: an upper bound of the truth.

        The worst case is taken image by image, mean_x min_a, which is at most the smallest accuracy under any
        single attack (Carlini et al. 2019, arXiv 1902.06705, §5.6). It equals
        clean_accuracy · (1 − success_rate()).
        """
        return self.accuracy(WORST)

    def success_rate(self, name=WORST):
        """Share of the *initially correct* images that `name` breaks; NaN where the model had none right."""
        right = self.still_correct(CLEAN).sum()
        return float(self.broken(name).sum() / right) if right else float("nan")

    def interval(self, name=WORST, method="wilson", confidence=0.95):
        """The confidence interval of `accuracy(name)`, see `robustness.interval`."""
        return interval(int(self.still_correct(name).sum()), self.n, method, confidence)

    def sizes(self, name=WORST):
        """The size of what broke each image, NaN for the others; under "worst case" the smallest."""
        check_choice(name, "name", self.names)
        smallest = np.full(self.n, np.inf)
        for attack in self.outcomes:
            if name in (attack, WORST):
                smallest = np.where(self.broken(attack), np.minimum(smallest, self[attack].size), smallest)
        return np.where(np.isinf(smallest), np.nan, smallest)

    def median_size(self, name=WORST):
        """The median of `sizes(name)` over the images that `name` breaks; NaN where it breaks none."""
        broken = self.broken(name)
        return float(np.median(self.sizes(name)[broken])) if broken.any() else float("nan")

    def table(self):
        """One row for "clean", each attack and "worst case", as a pandas DataFrame.

        Columns: correct, of (all images), accuracy %, low %, high % (Wilson, 95 %), broken, of correct (the
        success rate's denominator), success %, median size (of the perturbations that broke an image).
        """
        initially, rows = int(self.still_correct(CLEAN).sum()), []
        for name in self.names:
            low, high = self.interval(name)
            row = [self.still_correct(name).sum(), self.n, 100 * self.accuracy(name), 100 * low, 100 * high]
            if name == CLEAN:
                row += [pd.NA, pd.NA, np.nan, np.nan]
            else:
                broken = int(self.broken(name).sum())
                row += [broken, initially, 100 * self.success_rate(name), self.median_size(name)]
            rows.append(row)
        columns = [
            "correct",
            "of",
            "accuracy %",
            "low %",
            "high %",
            "broken",
            "of correct",
            "success %",
            "median size",
        ]
        return pd.DataFrame(rows, self.names, columns).astype({"broken": "Int64", "of correct": "Int64"})

    def per_class(self):
        """Clean and robust accuracy of each class present, with Wilson intervals, as a pandas DataFrame
        indexed by class.

        Columns: of (images), clean (correct), clean %, robust (correct), robust %, low %, high % (the
        interval of robust %).
        """
        clean, robust, rows = self.still_correct(CLEAN), self.still_correct(WORST), {}
        for label in np.unique(self.y):
            here = self.y == label
            n, k, r = int(here.sum()), int(clean[here].sum()), int(robust[here].sum())
            low, high = interval(r, n)
            rows[int(label)] = [n, k, 100 * k / n, r, 100 * r / n, 100 * low, 100 * high]
        columns = ["of", "clean", "clean %", "robust", "robust %", "low %", "high %"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return table.rename_axis("class")

    def plot(self):
        """The accuracies as bars with intervals, see `plots.accuracies`."""
        from advlib import plots

        plots.accuracies({"": self})

    # --- shown

    @property
    def threat_model(self):
        """The budget in words: `L∞, ε = 0.1`."""
        return f"{norm_label(self.norm)}, ε = {self.eps:g}"

    def _shown(self):
        def percent(share):
            return f"{sign}{100 * share:.{1 if self.n < 10_000 else 2}f} %"

        right = int(self.still_correct(CLEAN).sum())
        rows = {}
        for name in self.names:
            # A model's own predictions are the same everywhere; an attack's result may differ by an image in
            # a thousand from one machine to the next. The sign says so, and a notebook's test allows for it.
            sign = "" if name == CLEAN else "≈ "
            success, size = "", ""
            if name != CLEAN:
                success = percent(self.success_rate(name)) if right else "none correct"
            if self.broken(name).any():
                size = f"{sign}{self.median_size(name):.3g}"
            low, high = self.interval(name)
            rows[name] = [percent(self.accuracy(name)), percent(low), percent(high), success, size]
        columns = ["accuracy", "95 % from", "to", "success rate", "median size"]
        shown = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return shown, f"{self.n:,} images, {right:,} correct before any attack; budget {self.threat_model}"

    def __repr__(self):
        """The table and the flags; no times and nothing random, so that two runs print the same."""
        shown, title = self._shown()
        return "\n".join([title, shown.to_string(), *map(str, self.flags)])

    def _repr_html_(self):
        shown, title = self._shown()
        flags = "".join(f"<pre>{html.escape(str(flag))}</pre>" for flag in self.flags)
        return f"<p>{html.escape(title)}</p>{shown.to_html()}{flags}"

    def __eq__(self, other):
        """Everything measured is equal, image by image; only the seconds are left out."""
        if not isinstance(other, Report):
            return NotImplemented
        mine, theirs = self._arrays(), other._arrays()
        return (
            self._head() == other._head()
            and mine.keys() == theirs.keys()
            and all(np.array_equal(mine[k], theirs[k], equal_nan=mine[k].dtype.kind == "f") for k in mine)
        )

    __hash__ = None

    # --- stored

    def _head(self):
        return {
            "format": FORMAT, "version": VERSION, "norm": self.norm, "eps": self.eps, "classes": self.classes,
            "fingerprint": self.fingerprint, "attacks": list(self.outcomes),
            "flags": [flag.to_dict() for flag in self.flags],
        }  # fmt: skip

    def _arrays(self):
        arrays = {"y": self.y, "prediction": self.prediction}
        for i, outcome in enumerate(self.outcomes.values()):
            arrays |= {
                f"{i}.{key}": getattr(outcome, key) for key in ("prediction", "size", "feasible", "x_adv")
            }
        return arrays

    def to_json(self):
        """Everything but the images, as JSON text: budget, counts, intervals, flags, and the outcome for each
        image.

        Sizes that are not finite become null.
        """
        about = self._head() | {
            "n": self.n,
            "y": self.y.tolist(),
            "summary": {},
            CLEAN: {"prediction": self.prediction.tolist()},
        }
        for name in self.names:
            low, high = self.interval(name)
            about["summary"][name] = {
                "correct": int(self.still_correct(name).sum()),
                "of": self.n,
                "accuracy": self.accuracy(name),
            }
            about["summary"][name] |= {"low": low, "high": high}
            if name != CLEAN:
                counts = {
                    "broken": int(self.broken(name).sum()),
                    "of_correct": int(self.still_correct(CLEAN).sum()),
                }
                about["summary"][name] |= counts
        about["attacks"] = {
            name: {
                "seconds": outcome.seconds,
                "prediction": outcome.prediction.tolist(),
                "size": [s if np.isfinite(s) else None for s in outcome.size.tolist()],
                "feasible": outcome.feasible.tolist(),
            }
            for name, outcome in self.outcomes.items()
        }
        return json.dumps(about, ensure_ascii=False, allow_nan=False)

    def save(self, path):
        """Write everything, adversarial images included, to one .npz file, which `Report.load` reads.

        The file appears whole or not at all. Raises OSError where it cannot be written.
        """
        arrays = self._arrays()
        head = self._head() | {"seconds": [o.seconds for o in self.outcomes.values()]}
        head["sha256"] = _digest(arrays, head)
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                np.savez_compressed(file, header=np.array(json.dumps(head, ensure_ascii=False)), **arrays)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path):
        """The Report that `save` wrote.

        Raises FileNotFoundError where there is no such file and ValueError, which names it, for one that is
        truncated, altered or something else. Never unpickles: a file from a stranger cannot run code.
        """
        with Path(path).open("rb") as file:
            try:
                with np.load(file, allow_pickle=False) as stored:
                    arrays = {key: stored[key] for key in stored.files}
                return cls._from(json.loads(str(arrays.pop("header"))), arrays)
            except DAMAGED as error:
                why = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
                raise ValueError(
                    f"{path} is not a whole Report: a file written by Report.save was expected "
                    f"({why.splitlines()[0]})"
                ) from error

    @classmethod
    def _from(cls, head, arrays):
        if (head["format"], head["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {head['format']!r}, version {head['version']!r}")
        if _digest(arrays, head) != head["sha256"]:
            raise ValueError("its contents are not those that were saved")
        report = cls(
            head["norm"], head["eps"], arrays.pop("y"), arrays.pop("prediction"), head["classes"],
            head["fingerprint"], flags=[Flag.from_dict(flag) for flag in head["flags"]],
        )  # fmt: skip
        for i, (name, seconds) in enumerate(zip(head["attacks"], head["seconds"], strict=True)):
            parts = {key: arrays.pop(f"{i}.{key}") for key in ("prediction", "size", "feasible", "x_adv")}
            report.outcomes[name] = Outcome(seconds=seconds, **parts)
        if arrays or any(len(a) != report.n for a in report._arrays().values()):
            raise ValueError("arrays that do not belong together")
        return report


def _digest(arrays, head=None):
    """Of arrays, and a file's header: it finds damage, and a change by hand, but not who computes it anew."""
    head = {key: value for key, value in (head or {}).items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode() if head else b"")
    for key in sorted(arrays):
        digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape};".encode())
        digest.update(np.ascontiguousarray(arrays[key]))
    return digest.hexdigest()


def norm_label(norm):
    """A norm's name as in prose: "linf" → "L∞". Without importing TensorFlow, as `norms` would."""
    return norm.upper().replace("INF", "∞")


# --- evaluate


def evaluate(model, x, y, attacks, *, norm, eps, client=None):
    """Run every attack on every image, measure what comes back, and return a `Report`.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1]. y: true labels (N,). attacks: name →
    attack, a callable (model, x, y) → x_adv, such as `functools.partial(pgd, eps=0.3)` or a function of your
    own. norm: "linf", "l2", "l1" or "l0"; eps: the budget in pixel units, which every attack must keep.
    client: a Dask client, for the same evaluation on several processes or machines, see `advlib.cluster`,
    also for what is otherwise where an attack raises an error or flags.

    No attack is trusted. Size, pixel range, NaN and prediction are measured here, the prediction by a fresh
    forward pass. A point outside ball (by more than `tolerance`) or box, or with NaN in it, is a failure of
    the attack on that image, and a red flag says how many there were and by how much. Attacks get a copy of
    x, and one that writes into it is flagged. The flags that an attack raises itself are kept with these.
    Images that the model gets wrong without attack count as not robust, whatever an attack does.

    Raises TypeError or ValueError for bad input, before any attack runs, and for an attack that returns no
    images. Where an attack raises, its exception passes through with what was done so far: `.report` of the
    exception is the Report of the attacks that had finished.

    Sources: Carlini et al. 2019, arXiv 1902.06705, §5.6; the evaluator that measures again, Madry et al.'s
    mnist_challenge. Lesson 05.

        >>> evaluate(net, x, y, {"pgd": partial(pgd, eps=0.1)}, norm="linf", eps=0.1).robust_accuracy
    """
    from advlib import norms
    from advlib.attacks._loop import quiet

    x = check_images(x)
    eps = norms.get(norm).check_eps(eps, x.shape[1:])
    _check_attacks(attacks)
    y = check_labels(y, len(x))
    norm = norms.get(norm).name
    if client is not None:
        from advlib import cluster

        return cluster.evaluate(client, model, x, y, attacks, norm=norm, eps=eps)
    logits = _logits(model, x)
    y = check_labels(y, len(x), logits.shape[1])
    report = Report(norm, eps, y, predicted_classes(logits), logits.shape[1], _fingerprint(x))
    _flag_clean(report)
    name = None
    try:
        for name in tqdm(attacks, desc="attacks", unit="attack", delay=5, leave=False, disable=quiet()):
            outcome, facts = measure(model, x, y, attacks[name], name, norm, eps, report.prediction)
            report.outcomes[name] = outcome
            report.flags += facts.flags(name, eps)
    except BaseException as error:  # an interruption too: what was computed may have taken an hour
        attach(report, error, name)
        raise
    return report


def attach(report, error, name):
    """Hand what had finished to whoever catches the error: `.report` of the exception."""
    done = ", ".join(report.outcomes) or "none"
    error.add_note(
        f"evaluate: stopped at {name!r}; .report of this exception holds what had finished: {done}"
    )
    with contextlib.suppress(AttributeError):  # an exception class with __slots__
        error.report = report


def curve(model, x, y, attack, *, norm, eps_values, cumulative=None):
    """Accuracy over the budget: a pandas DataFrame with one row for each ε.

    attack: a callable (model, x, y, eps=…) → x_adv, such as `functools.partial(pgd, steps=40)`, called once
    for each ε. eps_values: budgets in pixel units; they are sorted, and repeated ones measured once. At ε = 0
    the attack is not called: the row is the clean accuracy. norm: "linf", "l2", "l1", "l0", or None where the
    values are no budget but a strength, as the σ of Gaussian noise: then only the pixel range is checked.
    cumulative: an image broken at a smaller ε counts as broken at all larger ones, whose balls contain that
    point, and only the others are attacked again; the default for budgets. False measures each ε afresh; the
    default where `norm` is None, as a stronger shift or turn need not contain a weaker one.

    Columns: eps, correct, n, accuracy, low, high (fractions; Wilson, 95 %), infeasible: how many returned
    points left ball or box or were NaN. Those are failures of the attack; a RuntimeWarning says so. Correct
    means right on the image itself and on the perturbed one. The flags that the attack raises, and one where
    the model returns NaN, are shown as FlagWarnings, once for all ε. Raises as `evaluate` does. Lessons 02
    and 05.

        >>> curve(net, x, y, pgd, norm="linf", eps_values=[0, 0.05, 0.1, 0.2, 0.3])
    """
    from advlib import norms
    from advlib.attacks._loop import quiet

    x = check_images(x)
    norm = None if norm is None else norms.get(norm).name
    cumulative = norm is not None if cumulative is None else cumulative
    if not callable(attack):
        raise TypeError(
            f"attack is {describe(attack)}: a callable (model, x, y, eps=…) was expected, "
            "for example advlib.pgd"
        )
    if np.ndim(eps_values) != 1 or len(eps_values) == 0:
        raise ValueError(
            f"eps_values={eps_values!r}: a list of budgets was expected, for example [0, 0.1, 0.2, 0.3]"
        )
    check = norms.get(norm).check_eps if norm else lambda e, shape: check_number(e, "eps", low=0, example=0.1)
    eps_values = sorted({check(e, x.shape[1:]) for e in eps_values})
    y = check_labels(y, len(x))
    logits = _logits(model, x)
    y, clean = check_labels(y, len(x), logits.shape[1]), predicted_classes(logits)
    standing, rows = clean == y, []
    seen = Facts()
    for eps in tqdm(eps_values, desc="budgets", delay=5, leave=False, disable=quiet()):
        right, infeasible = standing.copy(), 0
        index = np.flatnonzero(standing) if cumulative else np.arange(len(x))
        if eps > 0 and index.size:
            at_eps = lambda model, x, y, eps=eps: attack(model, x, y, eps=eps)  # noqa: E731
            outcome, facts = measure(model, x[index], y[index], at_eps, "attack", norm, eps, clean[index])
            seen += facts
            right[index] &= outcome.prediction == y[index]
            infeasible = int((~outcome.feasible).sum())
        if cumulative:
            standing = right
        low, high = interval(int(right.sum()), len(x))
        rows.append([eps, int(right.sum()), len(x), float(right.mean()), low, high, infeasible])
    table = pd.DataFrame(rows, columns=["eps", "correct", "n", "accuracy", "low", "high", "infeasible"])
    table.attrs["norm"] = norm  # for the axis of plots.curves
    if table["infeasible"].any():
        at = table.loc[table["infeasible"] > 0, ["eps", "infeasible"]].to_numpy()
        where = ", ".join(f"{int(k)} at ε = {e:g}" for e, k in at)
        warnings.warn(
            f"points outside ball or box: {where}; they count as not broken. "
            "evaluate(...).flags says by how much",
            RuntimeWarning,
            stacklevel=2,
        )
    for flag in seen.raised:
        raise_flag(flag)
    nan = int((clean == -1).sum()), seen.nan
    if any(nan):
        raise_flag(
            _flag_nan(f"no class for {nan[0]} of {len(x)} images and {nan[1]} of {seen.n} attacked points")
        )
    return table


def _check_attacks(attacks):
    example = "for example {'pgd': functools.partial(advlib.pgd, eps=0.3)}"
    if not isinstance(attacks, Mapping):
        raise TypeError(
            f"attacks is {describe(attacks)}: a dict from names to attacks was expected, {example}"
        )
    if not attacks:
        raise ValueError(f"attacks is empty: at least one attack was expected, {example}")
    for name, attack in attacks.items():
        if not isinstance(name, str) or not name.strip() or name in (CLEAN, WORST):
            raise ValueError(
                f"an attack is called {name!r}: another name than {CLEAN!r} and {WORST!r} was expected, "
                f"{example}"
            )
        if not callable(attack):
            raise TypeError(
                f"the attack {name!r} is {describe(attack)}: a callable (model, x, y) was expected, {example}"
            )


def _logits(model, x):
    from advlib.models import predict_logits

    return predict_logits(model, x)


def _fingerprint(x):
    return _digest({"x": x})


@dataclass
class Facts:
    """What a measurement saw of an attack, as numbers that add up over parts of the images (`+`), and as flags."""

    n: int = 0
    other_dtype: str = ""
    written: bool = False
    too_far: int = 0  # images outside the ball, and the largest size among them
    largest: float = 0.0
    outside: int = 0  # images outside the box, and how far at most
    furthest: float = 0.0
    not_finite: int = 0
    nan: int = 0  # images without a class, that had one before the attack
    moved: int = 0  # images changed although they were wrong already, of so many
    wrong: int = 0
    raised: list = field(default_factory=list)  # the attack's own flags

    def __add__(self, other):
        together = {"largest": max, "furthest": max, "other_dtype": max, "raised": _joined}
        return Facts(
            **{
                f.name: together.get(f.name, lambda a, b: a + b)(
                    getattr(self, f.name), getattr(other, f.name)
                )
                for f in fields(self)
            }
        )

    def flags(self, name, eps):
        """The flags that follow, those of the attack first."""
        flags = [replace(flag, seen=f"{name}: {flag.seen}") for flag in self.raised]
        if self.other_dtype:
            flags.append(_flag_dtype(name, self.other_dtype))
        if self.written:
            flags.append(_flag_written(name))
        for bad, what, by in (
            (self.too_far, "outside the ball", f"the largest has size {self.largest:g}, {eps:g} is allowed"),
            (self.outside, "outside the box", f"pixels leave [0, 1] by up to {self.furthest:g}"),
            (self.not_finite, "not finite", "NaN or infinite pixels"),
        ):
            if bad:
                flags.append(_flag_infeasible(name, what, f"{bad} of {self.n} images; {by}"))
        if self.nan:
            flags.append(_flag_nan(f"{name}: no class for {self.nan} of {self.n} images"))
        if self.moved:
            flags.append(_flag_moved(name, f"{self.moved} of {self.wrong} images"))
        return flags


def join(outcomes):
    """The Outcome of the parts of the images, in their order, as one."""
    whole = {
        f.name: np.concatenate([getattr(outcome, f.name) for outcome in outcomes])
        for f in fields(Outcome)
        if f.name != "seconds"
    }
    return Outcome(seconds=sum(outcome.seconds for outcome in outcomes), **whole)


def _joined(one, other):
    """Flags raised on two parts of the images: each once, the worst colour of a name first seen."""
    found = {flag.name: flag for flag in one}
    for flag in other:
        first = found.setdefault(flag.name, flag)
        if COLOURS.index(flag.colour) > COLOURS.index(first.colour):
            found[flag.name] = flag
    return list(found.values())


def measure(model, x, y, attack, name, norm, eps, clean):
    """Run one attack and measure what it returned: (Outcome, Facts). `clean` are the predictions on x."""
    given, start = x.copy(), time.perf_counter()
    with collect_flags() as raised:
        returned = attack(model, given, y.copy())
    seconds = time.perf_counter() - start
    x_adv, other_dtype = _as_images(returned, x, name)

    size, beyond, finite = (np.zeros(len(x)) for _ in range(3))
    for part in (slice(i, i + CHUNK) for i in range(0, len(x), CHUNK)):
        size[part], beyond[part], finite[part] = _geometry(x_adv[part], x[part], norm)
    finite = finite == 1
    too_far = finite & (size > eps + tolerance(norm, eps)) if norm else np.zeros(len(x), bool)
    feasible = finite & (beyond == 0) & ~too_far

    point = np.where(feasible[:, None, None, None], x_adv, x)
    prediction = np.where(feasible, predicted_classes(_logits(model, point)), clean)
    moved = (x_adv != x).any(axis=(1, 2, 3))
    facts = Facts(
        len(x), other_dtype, not np.array_equal(given, x), int(too_far.sum()), float(size[too_far].max(initial=0)),
        int((beyond > 0).sum()), float(beyond.max(initial=0)), int((~finite).sum()),
        int(((prediction == -1) & (clean != -1)).sum()), int(((clean != y) & moved).sum()), int((clean != y).sum()), raised,
    )  # fmt: skip
    return Outcome(prediction, size, feasible, seconds, x_adv), facts


def _as_images(returned, x, name):
    """What an attack returned as a float32 array of x's shape, never the attack's own buffer; its dtype if it was another."""
    x_adv = np.asarray(returned)
    if x_adv.shape != x.shape or x_adv.dtype.kind != "f":
        kind = TypeError if x_adv.dtype.kind != "f" else ValueError
        raise kind(
            f"the attack {name!r} returned {describe(x_adv)}: a float32 array of x's shape {x.shape} was "
            "expected, for example np.clip(x + delta, 0, 1).astype('float32')"
        )
    other = "" if x_adv.dtype == np.float32 else str(x_adv.dtype)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is flagged as such
        return x_adv.astype(np.float32), other


def _geometry(x_adv, x, norm):
    """Size, distance from the box and finiteness of each image, in float64: measuring adds no rounding."""
    from advlib import norms

    finite = np.isfinite(x_adv).all(axis=(1, 2, 3))
    x_adv = np.where(finite[:, None, None, None], x_adv, x).astype(np.float64)
    delta, beyond = x_adv - x, np.maximum(x_adv - 1, -x_adv).max(axis=(1, 2, 3)).clip(0)
    size = np.asarray(norms.get(norm).size(delta)) if norm else np.abs(delta).max(axis=(1, 2, 3))
    return np.where(finite, size, np.nan), beyond, finite


def _flag_clean(report):
    if nan := int((report.prediction == -1).sum()):
        report.flags.append(_flag_nan(f"clean: no class for {nan} of {report.n} images"))
    if not report.still_correct(CLEAN).any():
        report.flags.append(
            Flag(
                "amber", "no image correct", f"0 of {report.n} images are right without attack",
                "nothing can be broken, so robust accuracy is 0 and no success rate exists",
                "check that labels, pixel range and model belong together", _COURSE,
            )
        )  # fmt: skip


def _flag_dtype(name, dtype):
    return Flag(
        "amber", f"{name}: another dtype", f"{dtype} came back",
        "they were rounded to float32 and then measured: not quite the points that the attack found",
        "return x_adv.astype('float32')",
    )  # fmt: skip


def _flag_infeasible(name, what, seen):
    return Flag(
        "red", f"{name}: {what}", seen,
        "these points are not allowed by the threat model; each counts as a failure of the attack",
        "project onto the ball around x, then clip to [0, 1], after every step and at the end", _FEASIBLE,
    )  # fmt: skip


def _flag_written(name):
    return Flag(
        "amber", f"{name}: changed its input", "x was not the same after the attack",
        "the measurement used a copy and is right, but whoever calls this attack loses the original images",
        "work on x.copy(), and avoid x += …",
    )  # fmt: skip


def _flag_nan(seen):
    return Flag(
        "red", "the model returned NaN", seen,
        "an image without a class counts as not correct, which may be a fault of arithmetic and no attack",
        "look for a division, logarithm or overflow in the model", _COURSE,
    )  # fmt: skip


def _flag_moved(name, seen):
    return Flag(
        "amber", f"{name}: changed images that were already wrong", seen,
        "they count as not robust either way, and a mean size over all images would include them",
        "return such images as they are",
    )  # fmt: skip


# --- two Reports


@dataclass(frozen=True)
class Comparison:
    """Two Reports on the same images: how many are robust in both, in the first only, the second only, in
    neither.

    difference: robust accuracy of the first minus that of the second; low, high: its 95 % interval (Newcombe
    1998, method 10, made for pairs); p_value: McNemar's exact test, two-sided.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def n(self):
        """The number of images."""
        return self.both + self.first_only + self.second_only + self.neither

    def table(self):
        """The four counts as a pandas DataFrame."""
        counts = [[self.both, self.first_only], [self.second_only, self.neither]]
        return pd.DataFrame(
            counts, index=["first robust", "first not"], columns=["second robust", "second not"]
        )

    def __repr__(self):
        """The counts and the test; behind ≈ what may differ by an image in a thousand on another machine."""
        p = f"≈ {self.p_value:.2g}" if self.p_value >= 1e-4 else "< 0.0001"
        table = self.table().map(lambda k: f"≈ {k} of {self.n}").to_string()
        low, middle, high = (f"≈ {100 * v:+.1f} %" for v in (self.low, self.difference, self.high))
        return (
            f"{table}\nfirst minus second: {middle} of the images, 95 % interval {low} to {high}\n"
            f"McNemar's exact test: p {p}"
        )


def compare(a, b):
    """Are two models, or two sets of attacks, different in robust accuracy? Image by image, as a
    `Comparison`.

    a, b: Reports on the same images, in the same order, with the same budget; otherwise ValueError. Images on
    which both agree say nothing about the difference; the test asks whether those that differ fall to either
    side like a fair coin.

    Sources: McNemar 1947, Psychometrika 12:153; Newcombe 1998, Statistics in Medicine 17:2635, method 10.
    Lesson 05.

        >>> compare(report_of_pgd_net, report_of_standard_net)
    """
    for name, report in (("a", a), ("b", b)):
        if not isinstance(report, Report):
            raise TypeError(
                f"{name} is {describe(report)}: a Report was expected, for example advlib.evaluate(...)"
            )
    if a.fingerprint != b.fingerprint or not np.array_equal(a.y, b.y):
        raise ValueError(
            f"the Reports are of different images or labels ({a.n} and {b.n} images): the same x and y "
            "in the same order were expected, for example evaluate(a, x, y, …) and evaluate(b, x, y, …)"
        )
    if (a.norm, a.eps) != (b.norm, b.eps):
        raise ValueError(
            f"the Reports have the budgets {a.threat_model} and {b.threat_model}: "
            "the same one was expected in both"
        )
    first, second = a.still_correct(), b.still_correct()
    table = [int(c.sum()) for c in (first & second, first & ~second, ~first & second, ~first & ~second)]
    _, only_a, only_b, _ = table
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(*table, (only_a - only_b) / a.n, *_paired_interval(*table), p)


def _paired_interval(both, first_only, second_only, neither):
    """Newcombe's method 10: the two Wilson intervals, joined through the correlation φ of the pairs."""
    n = both + first_only + second_only + neither
    k1, k2 = both + first_only, both + second_only
    (l1, u1), (l2, u2), p1, p2 = interval(k1, n), interval(k2, n), k1 / n, k2 / n
    excess = both * neither - first_only * second_only
    excess = max(excess - n / 2, 0) if excess > 0 else excess  # his continuity correction
    spread = np.sqrt(float(k1) * (n - k1) * k2 * (n - k2))
    phi = excess / spread if spread else 0.0
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return float(p1 - p2 - np.sqrt(below)), float(p1 - p2 + np.sqrt(above))


# --- mean |prediction − label|, in three readings


def mean_abs_probability_minus_label(probabilities, y):
    """mean |p − y| as printed: probabilities (N, K) against integer labels (N, 1), joined by broadcasting.

    For y ≥ 1, |p_j − y| = y − p_j because p_j ≤ 1 ≤ y, and the p_j sum to 1: the mean over the K classes is y
    − 1/K. For y = 0, |p_j − 0| = p_j: the mean is 1/K. Neither depends on p: the value is a property of the
    labels alone, 4.3630 on MNIST's test set for every model, every noise and every attack.

    probabilities: (N, K), rows that sum to 1; y: integer labels (N,). Returns a float. Raises TypeError or
    ValueError for other input, logits above all. Lesson 02.

        >>> mean_abs_probability_minus_label(softmax(logits), y)
    """
    p, y = _check_probabilities(probabilities, y)
    return float(np.abs(p - y[:, None]).mean())


def mean_abs_probability_minus_onehot(probabilities, y):
    """mean |p − e_y| with one-hot labels: a confidence error, not robustness.

    The true class contributes |p_y − 1| = 1 − p_y, the others Σ_{j≠y} p_j = 1 − p_y as well: 2(1 − p_y)/K an
    image. It depends on p_y only, so that a model can be right everywhere and score worse than one that is
    often wrong; renaming the classes changes nothing.

    Arguments, result and errors as for `mean_abs_probability_minus_label`. Lesson 02.

        >>> mean_abs_probability_minus_onehot(softmax(logits), y)
    """
    p, y = _check_probabilities(probabilities, y)
    return float(np.abs(p - np.eye(p.shape[1])[y]).mean())


def mean_abs_predicted_minus_true_label(probabilities, y):
    """mean |argmax p − y|: how far apart the *numbers* of the predicted and the true class are.

    An error 3 → 8 costs five times an error 3 → 4, although the classes have names, not sizes: renaming the
    classes changes the value, and can change which of two models looks better. It is 0 exactly when every
    image is right, and between (1 − accuracy) and (K − 1)(1 − accuracy) otherwise.

    Arguments, result and errors as for `mean_abs_probability_minus_label`. Lesson 02.

        >>> mean_abs_predicted_minus_true_label(softmax(logits), y)
    """
    p, y = _check_probabilities(probabilities, y)
    return float(np.abs(p.argmax(axis=1) - y).mean())


def _check_probabilities(p, y):
    p = np.asarray(p)
    if p.ndim != 2 or p.dtype.kind != "f" or 0 in p.shape:
        raise ValueError(
            f"probabilities is {describe(p)}: floats of shape (images, classes) were expected, "
            "for example scipy.special.softmax(logits, axis=1)"
        )
    p = p.astype(np.float64)
    off = np.abs(p.sum(axis=1) - 1).max()
    if not (p.min() >= 0 and p.max() <= 1 and off <= 1e-3):
        raise ValueError(
            f"probabilities run from {p.min():g} to {p.max():g} with rows that miss 1 by up to {off:g}: "
            "rows in [0, 1] that sum to 1 were expected, for example scipy.special.softmax(logits, axis=1)"
        )
    return p, check_labels(y, len(p), p.shape[1])
