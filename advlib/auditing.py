"""An audit: a suite of attacks, the checks of whether to believe them, and the report an expert would sign. Lesson 13.

    >>> report = advlib.audit(net, x, y, norm="linf", eps=0.3, folder="audit-net")
    >>> report.robust_accuracy, report.flags

The work is cut into units, one attack on one shard of images. With a folder each unit is stored as it ends, so that an
interrupted audit goes on where it was and ends with the same bits. On the command line: `advlib audit`.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advlib import diagnostics, robustness
from advlib._checks import (
    DAMAGED,
    ProbabilitiesNotLogitsError,
    check_choice,
    check_images,
    check_labels,
    check_number,
    predicted_classes,
)
from advlib.diagnostics import Flag
from advlib.robustness import CLEAN, Facts, Outcome, Report

FORMAT, VERSION = "advlib audit", 1
PRESETS = ("quick", "standard", "thorough")
NORMS = ("linf", "l2", "l1")
SHARD = 4  # batches to a shard, which run together
SUBSET = 200  # images of the robustness curve
DIAGNOSED = {"quick": 30, "standard": 100, "thorough": 100}  # images of the diagnosis
LEAST = 12  # images shown that were broken with least
CURVE = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # budgets of the curve, in multiples of ε


class Stage(NamedTuple):
    """One attack of an audit."""

    name: str
    attack: object  # (model, x, y) → x_adv, a functools.partial
    knows: str  # "nothing", "gradient" or "scores"
    cost: float  # gradients an image, about
    group: str | None = None  # stages of a group run on what those before them left standing

    def about(self):
        """Function and parameters, for the report."""
        parameters = {
            k: v for k, v in self.attack.keywords.items() if isinstance(v, int | float | str | None)
        }
        function = self.attack.func
        if isinstance(function, partial):  # of AutoAttack
            parameters = {**function.keywords, **parameters}
            function = function.func
        return {
            "function": function.__name__,
            "knows": self.knows,
            "group": self.group,
            "parameters": parameters,
        }


def nearest(model, x, y, *, eps, norm, steps=100, seed=0, batch_size=144):
    """FMN's smallest adversarial perturbation where it lies within ε, else x: a minimal-norm attack under a budget."""
    from advlib import norms
    from advlib.attacks import fmn

    x_adv = fmn(model, x, y, norm=norm, steps=steps, seed=seed, batch_size=batch_size)
    far = norms.get(norm).size(x_adv - x).numpy() > eps
    return np.where(far[:, None, None, None], x, x_adv)


def stages(preset, *, norm, eps, classes=10, seed=0, batch_size=144, random=False):
    """The attacks of a preset, in their order: a list of `Stage`.

    "quick": noise, one step, PGD-20, short forms of APGD and Square. "standard": noise, one step, PGD-40, FMN, and AutoAttack.
    "thorough": more of each, and AutoAttack's version "plus". random: the model draws random numbers, so that AutoAttack's
    version "rand" takes the place of the others. Raises ValueError for another preset or norm.
    """
    from advlib import noise, norms
    from advlib.attacks import apgd, fgsm, pgd, square
    from advlib.attacks.autoattack import parts

    check_choice(preset, "preset", PRESETS)
    check_choice(norm, "norm", NORMS)
    quick, thorough = preset == "quick", preset == "thorough"
    common = {"eps": eps, "norm": norm, "batch_size": batch_size}
    seeded = common | {"seed": seed}
    draws = 10 if quick else 1000 if thorough else 100
    steps, restarts = (20, 1) if quick else (100, 10) if thorough else (40, 1)
    name = f"PGD-{steps}" + (f"×{restarts}" if restarts > 1 else "")
    found = [
        Stage("noise", partial(noise.best_of, draws=draws, **seeded), "nothing", 0.4 * draws),
        Stage("FGSM", partial(fgsm, **common), "gradient", 1),
        Stage(name, partial(pgd, steps=steps, restarts=restarts, **seeded), "gradient", steps * restarts),
    ]
    if quick:
        targets = min(3, classes - 1)
        dlr = "dlr" if classes >= 4 else "margin"
        group = {
            "APGD-CE": (partial(apgd, steps=20), 20),
            "+ APGD-T": (partial(apgd, steps=20, loss=dlr, targets=targets), 20 * targets),
            "+ Square": (partial(square, steps=300, schedule=10_000), 130),
        }
        title = "short AutoAttack"
    else:
        found.append(Stage("FMN", partial(nearest, steps=100, **seeded), "gradient", 130))
        version = "rand" if random else "plus" if thorough else "standard"
        costs = {"apgd-ce": 100, "apgd-dlr": 100, "apgd-t": 900, "fab-t": 2000, "fab": 1500, "square": 2200}
        group = {}
        for part, attack in parts(version, norms.get(norm), classes).items():
            cost = costs[part] * (20 if random else attack.keywords.get("restarts", 1))
            group[part.upper().replace("SQUARE", "Square")] = (attack, cost)
        title = "AutoAttack" + (f" ({version})" if version != "standard" else "")
        group = {("+ " if i else "") + part: made for i, (part, made) in enumerate(group.items())}
    for part, (attack, cost) in group.items():
        knows = "scores" if "Square" in part else "gradient"
        found.append(Stage(part, partial(attack, **seeded), knows, cost, title))
    return found


# --- the report


@dataclass(eq=False, repr=False)
class AuditReport(Report):
    """A `Report` with everything needed to repeat and to judge it; its outcomes hold no images (`x_adv` is None).

    settings: preset, seed, batch_size, limit, and "attacks", name → function, parameters, what it knows, group. model, data:
    what they are and their SHA-256. versions: of advlib, Python and what it stands on. started: UTC, ISO 8601; seconds: of the
    whole audit, interruptions left out. curve: a dict for each ε with eps, correct, n, low, high. least: the images broken with
    least, dicts with index, label, prediction, size, attack and PNGs as data URIs. Lesson 13.
    """

    settings: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    curve: list = field(default_factory=list)
    least: list = field(default_factory=list)

    MORE = ("settings", "model", "data", "versions", "started", "seconds", "curve", "least")

    def to_json(self):
        """The whole report as JSON text, of the schema `advlib/report/report.schema.json`."""
        about = json.loads(super().to_json()) | {"format": FORMAT, "version": VERSION}
        about |= {name: getattr(self, name) for name in self.MORE}
        text = json.dumps(about, ensure_ascii=False, allow_nan=False)
        # a folder's name need not be text in UTF-8, and a report must be
        return text.encode("utf-8", "replace").decode("utf-8")

    @classmethod
    def from_json(cls, text):
        """The report that `to_json` wrote; ValueError for anything else."""
        try:
            about = json.loads(text)
            if (about["format"], about["version"]) != (FORMAT, VERSION):
                raise ValueError(f"format {about['format']!r}, version {about['version']!r}")
            y = np.array(about["y"], np.int64)
            report = cls(
                about["norm"], float(about["eps"]), y, np.array(about[CLEAN]["prediction"], np.int64), about["classes"],
                about["fingerprint"], flags=[Flag.from_dict(flag) for flag in about["flags"]],
                **{name: about[name] for name in cls.MORE},
            )  # fmt: skip
            for name, found in about["attacks"].items():
                size = np.array([np.nan if s is None else s for s in found["size"]], float)
                prediction, feasible = (
                    np.array(found["prediction"], np.int64),
                    np.array(found["feasible"], bool),
                )
                if not y.shape == prediction.shape == size.shape == feasible.shape:
                    raise ValueError(f"{name}: arrays that do not belong together")
                report.outcomes[name] = Outcome(prediction, size, feasible, float(found["seconds"]), None)
            if y.shape != report.prediction.shape or y.ndim != 1:
                raise ValueError("labels and predictions do not belong together")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"this is no report of an audit ({why.splitlines()[0][:200]}): the text of a report.json was expected"
            ) from error
        return report

    def save(self, path):
        """An audit is stored as JSON: `Path(path).write_text(report.to_json())`."""
        raise TypeError(
            "an audit holds no images: store report.to_json() instead, for example as report.json"
        )

    def _arrays(self):
        arrays = {"y": self.y, "prediction": self.prediction}
        for i, outcome in enumerate(self.outcomes.values()):
            arrays |= {f"{i}.{key}": getattr(outcome, key) for key in ("prediction", "size", "feasible")}
        return arrays

    @property
    def worst(self):
        """The worst colour among the flags: "green", "amber" or "red"."""
        return max((flag.colour for flag in self.flags), key=diagnostics.COLOURS.index, default="green")

    def _repr_html_(self):
        shown = super()._repr_html_()
        return shown.replace("<p>", f"<p><strong>Audit ({self.settings.get('preset', '')})</strong> ", 1)

    def __repr__(self):
        green = sum(flag.colour == "green" for flag in self.flags)
        raised = [flag for flag in self.flags if flag.colour != "green"]
        shown = Report.__repr__(replace(self, flags=raised))
        return f"{shown}\n{green} checks found nothing" if green else shown


# --- the audit


def audit(
    model, x, y, *, norm="linf", eps, preset="standard", limit=None, seed=0, batch_size=144, train=None, folder=None,
    resume=False, client=None, about=None, progress=None,
):  # fmt: skip
    """Attack a model with a suite, check whether the result is to be believed, and return an `AuditReport`.

    model: callable, images → logits; a Keras model that ends in softmax is converted, and the report says so. x: float32 images
    (N, H, W, C) in [0, 1], or anything with a length whose slices are such arrays (data larger than memory). y: labels (N,).
    norm: "linf", "l2" or "l1"; eps: the budget in pixel units. preset: "quick", "standard" or "thorough", see `stages`. limit:
    the first so many images. train: images the model was trained on, to be looked for among x. folder: where units of work are
    stored; with resume=True an interrupted audit of the same model, data and settings goes on there. client: a Dask client, see
    `advlib.cluster`; with one the model may be a `cluster.Recipe`. about: {"model": {...}, "data": {...}, "command": …}, names
    and sources for the report. progress: is called after each unit with (units done, units in all, what comes next, seconds left
    or None).

    A unit is one attack on four batches; what an interruption can lose is the unit under way. An image on which the model
    raises, or returns NaN, counts as not correct, with a red flag; an attack that raises is a red flag, and its images count as
    not broken by it. Raises TypeError or ValueError for bad input before anything is attacked, FileExistsError for a folder
    that holds a finished report, or an unfinished audit unless `resume`, ValueError where it is one of another model, data or
    settings.

    Sources: Croce & Hein 2020, arXiv 2003.01690; Carlini et al. 2019, arXiv 1902.06705; Pintor et al. 2022, arXiv 2106.09947.
    Lesson 13.

        >>> report = audit(net, x_test, y_test, norm="linf", eps=0.3, preset="quick", limit=100)
    """
    from advlib import norms
    from advlib.attacks._loop import Oracle
    from advlib.attacks.autoattack import _varies
    from advlib.models import as_logits

    check_choice(preset, "preset", PRESETS)
    check_choice(norm, "norm", NORMS)
    sent = model  # to the workers
    if client is not None:
        from advlib.cluster import Recipe

        # made here too, for what is measured here; the recipe travels as it is
        model = model.make() if isinstance(model, Recipe) else model
    # as Python's own numbers: JSON takes no NumPy ones
    batch_size = check_number(batch_size, "batch_size", low=1, integer=True, example=144)
    seed = check_number(seed, "seed", low=0, integer=True, example=0)
    limit = None if limit is None else check_number(limit, "limit", low=1, integer=True, example=1000)
    n = len(x) if limit is None else min(len(x), limit)
    step = SHARD * batch_size
    first = range(0, min(n, max(step, SUBSET)), step)  # a shard at a time, as x may be larger than memory
    head = np.concatenate([check_images(x[i : min(i + step, n)]) for i in first])
    eps = norms.get(norm).check_eps(eps, head.shape[1:])
    if eps == 0:
        raise ValueError(
            "eps=0: a budget above 0 was expected, for example 0.1; clean accuracy is part of every audit"
        )
    y = check_labels(y, len(x))[:n]
    about = {"model": {}, "data": {}} | (about or {})
    notes, few = list(about["model"].get("notes", [])), head[:batch_size]
    try:
        z, answered = _answers(model, few)
    except ProbabilitiesNotLogitsError:
        model = sent = as_logits(model)
        notes.append("it ends in probabilities: the logits before them are audited")
        z, answered = _answers(model, few)
    if z is None:
        raise ValueError(f"the model answers none of the first {len(few)} images: {_why(model, few)}")
    check_labels(y, n, z.shape[1])
    random = bool(_varies(Oracle(model, batch_size), few[answered]))
    suite = stages(
        preset, norm=norm, eps=eps, classes=z.shape[1], seed=seed, batch_size=batch_size, random=random
    )

    shards = [slice(i, min(i + SHARD * batch_size, n)) for i in range(0, n, SHARD * batch_size)]
    fingerprint = _fingerprint(x, shards, (n, *head.shape[1:]))
    # of all images, and before the attacks, as it costs next to nothing and refuses what are no images
    leak = [] if train is None else [diagnostics.evaluated_on_training_data(x, train, shards)]
    model_about = {
        "name": getattr(model, "name", type(model).__name__),
        "source": None,
        "sha256": _weights(model),
    }
    model_about |= about["model"] | {"parameters": _parameters(model), "notes": notes}
    data_about = {"source": None, "label_names": None} | about["data"]
    data_about |= {"n": n, "shape": list(head.shape[1:]), "sha256": fingerprint}
    settings = {
        "preset": preset, "seed": seed, "batch_size": batch_size, "limit": limit, "random": random,
        "attacks": {stage.name: stage.about() for stage in suite},
    }  # fmt: skip
    run = {
        "format": [FORMAT, VERSION], "norm": norm, "eps": eps, "settings": settings, "versions": _versions(),
        "data": [fingerprint, hashlib.sha256(y).hexdigest()], "train": train is not None,
        "model": [model_about["sha256"], None if random else hashlib.sha256(z).hexdigest()],
    }  # fmt: skip
    store = Store(folder, run, resume)
    settings = settings | {"command": about.get("command")}

    names = [CLEAN, *(stage.name for stage in suite)]
    costs = dict(zip(names, [0.4, *(stage.cost for stage in suite)], strict=True))
    rate = (
        _seconds_a_gradient(model, few[answered], y[: len(few)][answered], batch_size) if progress else None
    )
    watch = _Watch(progress, n, costs, len(shards), rate, DIAGNOSED[preset])
    found = {name: [None] * len(shards) for name in names}

    def keep(i, name, unit, fresh):
        if fresh:
            store.write(f"{i:06d}-{name}", unit)
        found[name][i] = unit
        watch.done(name, len(unit.prediction), unit.seconds if fresh else 0.0)
        if name != names[-1]:
            watch.next(names[names.index(name) + 1])

    stored = ({name: store.read(f"{i:06d}-{name}") for name in names} for i in range(len(shards)))
    parts = (
        (check_images(x[part]), y[part], suite, norm, eps, known)
        for part, known in zip(shards, stored, strict=True)
    )
    for i, units in _shards(client, sent, parts):
        for unit in units:
            keep(i, *unit)

    prediction = np.concatenate([unit.prediction for unit in found[CLEAN]])
    report = AuditReport(
        norm, eps, y, prediction, z.shape[1], fingerprint, settings=settings, model=model_about, data=data_about,
        versions=_versions(), started=store.started,
    )  # fmt: skip
    _gather(report, found)
    i = np.flatnonzero(np.concatenate([unit.feasible for unit in found[CLEAN]])[: len(head)])
    given = model, head[i], y[i], norm, eps, seed, batch_size
    diagnosed = DIAGNOSED[preset]
    watch.next("diagnosis")
    # what all images and the whole suite show takes the place of what the diagnosis saw on a few
    read = list(_read(report, suite))
    known = {flag.name for flag in report.flags + read}
    seen = leak + store.once("diagnosis", lambda: _diagnosis(*given, diagnosed))
    report.flags += [flag for flag in seen if flag.name not in known] + read
    watch.done("diagnosis", n)
    watch.next("curve")
    report.curve = store.once("curve", lambda: _curve(*given))
    report.least = _least(report, {name: units for name, units in found.items() if name != CLEAN}, shards)
    report.seconds = store.elapsed()
    watch.done("curve", n)
    watch.next("done")
    # last: whoever is told of progress may interrupt, and nothing goes on with a finished report
    store.publish(report)
    return report


def _fingerprint(x, shards, shape):
    """SHA-256 of all images, as of any Report, without holding them all."""
    digest = hashlib.sha256(f"x {np.dtype(np.float32).str} {shape};".encode())
    for part in shards:
        digest.update(np.ascontiguousarray(check_images(x[part])))
    return digest.hexdigest()


def _shards(client, model, parts):
    """(position, units) of each shard: here, one unit after the other, or on the workers of a cluster, as shards finish."""
    if client is None:
        return ((i, shard(model, *part)) for i, part in enumerate(parts))
    from advlib import cluster

    return cluster.each(client, model, whole_shard, parts)


def _gather(report, found):
    """Outcomes and flags of the units: name → one for each shard."""
    robustness._flag_clean(report)
    for name, units in found.items():
        if name != CLEAN:
            report.outcomes[name] = replace(robustness.join([unit.outcome() for unit in units]), x_adv=None)
            report.flags += sum((unit.facts for unit in units), Facts()).flags(name, report.eps)
        if failed := [unit for unit in units if unit.failure]:
            images = sum((~u.feasible).sum() if name == CLEAN else len(u.prediction) for u in failed)
            report.flags.append(_flag_raised(name, int(images), failed[0].failure))


# --- units of work


@dataclass
class Unit:
    """One attack on one shard, or the model's own answers ("clean"): what is stored of it."""

    prediction: np.ndarray  # (n,), −1 where the model has no answer
    size: np.ndarray
    feasible: np.ndarray
    seconds: float = 0.0
    facts: Facts = field(default_factory=Facts)
    failure: str = ""  # why the attack, or the model on some image, raised
    least: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # positions broken with least,
    x: np.ndarray | None = None  # their images,
    x_adv: np.ndarray | None = None  # and what broke them

    def outcome(self):
        # an Outcome without images: its parts are joined image by image
        return Outcome(
            self.prediction, self.size, self.feasible, self.seconds, np.zeros(len(self.prediction))
        )


def shard(model, x, y, suite, norm, eps, known) -> Iterator:
    """Every unit of one shard, in order: (name, Unit, whether it is new). known: name → the stored unit or None."""
    clean, fresh = known.get(CLEAN), False
    if clean is None:
        fresh, began = True, time.perf_counter()
        z, answered = _answers(model, x)
        prediction = np.full(len(x), -1) if z is None else np.where(answered, predicted_classes(z), -1)
        failure = "" if answered.all() else _why(model, x[~answered])
        clean = Unit(prediction, np.zeros(len(x)), answered, time.perf_counter() - began, failure=failure)
    yield CLEAN, clean, fresh
    groups = {}
    for stage in suite:
        unit = known.get(stage.name)
        fresh = unit is None
        if fresh:
            unit = attacked(model, x, y, clean, groups.get(stage.group), stage, norm, eps)
        if stage.group:
            groups[stage.group] = unit
        yield stage.name, unit, fresh


def whole_shard(model, *given):
    """All units of a shard at once, as a worker of a cluster returns them."""
    return list(shard(model, *given))


def attacked(model, x, y, clean, before, stage, norm, eps):
    """The Unit of one stage; of a group, on the images that the stage `before` left standing."""
    found = Unit(clean.prediction.copy(), np.zeros(len(x)), np.ones(len(x), bool), facts=Facts(len(x)))
    # clean.feasible: the images on which the model answers at all
    open_ = clean.feasible
    if before is not None:
        found.prediction, found.size, found.feasible = (
            a.copy() for a in (before.prediction, before.size, before.feasible)
        )
        open_ = open_ & (clean.prediction == y) & (before.prediction == y)
    i = np.flatnonzero(open_)
    if not i.size:
        return found
    began = time.perf_counter()
    try:
        outcome, found.facts = robustness.measure(
            model, x[i], y[i], stage.attack, stage.name, norm, eps, clean.prediction[i]
        )
    except Exception as error:  # the model's or the attack's: the other units are still worth having
        found.failure, found.seconds = _one_line(error), time.perf_counter() - began
        return found
    found.prediction[i], found.size[i], found.feasible[i] = outcome.prediction, outcome.size, outcome.feasible
    found.seconds = outcome.seconds
    broken = np.flatnonzero((clean.prediction[i] == y[i]) & (outcome.prediction != y[i]))
    broken = broken[np.argsort(outcome.size[broken], kind="stable")][:LEAST]
    found.least, found.x, found.x_adv = i[broken], x[i[broken]], outcome.x_adv[broken]
    return found


def _answers(model, x):
    """(logits, which images have any): halves what raises until the images on which the model raises are alone."""
    try:
        return robustness._logits(model, x), np.ones(len(x), bool)
    except ProbabilitiesNotLogitsError:
        raise
    except Exception:
        if len(x) == 1:
            return None, np.zeros(1, bool)
    halves = [_answers(model, part) for part in (x[: len(x) // 2], x[len(x) // 2 :])]
    answered = np.concatenate([some for _, some in halves])
    known = [z for z, _ in halves if z is not None]
    if not known:
        return None, answered
    blank = np.full((len(x), known[0].shape[1]), np.nan, np.float32)
    blank[: len(x) // 2], blank[len(x) // 2 :] = (np.nan if z is None else z for z, _ in halves)
    return blank, answered


def _why(model, x):
    try:
        robustness._logits(model, x[:1])
    except Exception as error:
        return _one_line(error)
    return "it answers one by one and not together"


def _one_line(error):
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"


class Store:
    """The units in `folder`/work, if there is a folder; each file appears whole or not at all."""

    def __init__(self, folder, run, resume):
        self.path = None if folder is None else Path(folder) / "work"
        self.started, self.seconds = datetime.now(UTC).isoformat(timespec="seconds"), 0.0
        self.began = time.perf_counter()
        if self.path is None:
            return
        about = self.path / "run.json"
        if not about.exists() and (self.path.parent / "report.json").exists():
            raise FileExistsError(
                f"{folder} holds the report of a finished audit, which this one would replace: choose another folder "
                "(folder=…, --out …), or delete its report.json"
            )
        if about.exists():
            try:
                known = json.loads(about.read_text(encoding="utf-8"))
                self.started = known["started"]
            except DAMAGED as error:
                raise ValueError(
                    f"{about} is damaged ({error}): the beginning of an audit was expected; delete {self.path}, or choose "
                    "another folder (folder=…, --out …)"
                ) from error
            if not resume:
                raise FileExistsError(
                    f"{folder} holds an unfinished audit of {known['started']}: resume it (resume=True, --resume), choose "
                    f"another folder (folder=…, --out …), or delete {self.path}"
                )
            differ = [key for key in run if known.get(key) != json.loads(json.dumps(run[key]))]
            if differ:
                raise ValueError(
                    f"{folder} holds an unfinished audit with another {', '.join(differ)}: the same model, data and settings "
                    "were expected to resume it; choose another folder for these"
                )
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write("run.json", json.dumps(run | {"started": self.started}).encode())

    def read(self, name):
        """The unit stored under this name; None where there is none, or a damaged one, which is computed again."""
        if self.path is None:
            return None
        try:
            with np.load(self.path / f"{name}.npz", allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
            head = json.loads(str(arrays.pop("head")))
            if robustness._digest(arrays, head) != head["sha256"]:
                return None
        except DAMAGED:
            return None
        self.seconds = max(self.seconds, head["elapsed"])
        raised = [Flag.from_dict(flag) for flag in head["facts"].pop("raised")]
        return Unit(
            **arrays,
            seconds=head["seconds"],
            failure=head["failure"],
            facts=Facts(**head["facts"], raised=raised),
        )

    def write(self, name, unit):
        if self.path is None:
            return
        arrays = {
            key: getattr(unit, key)
            for key in ("prediction", "size", "feasible", "least", "x", "x_adv")
            if getattr(unit, key) is not None
        }
        facts = asdict(unit.facts)
        head = {
            "seconds": unit.seconds, "failure": unit.failure, "facts": facts, "elapsed": self.elapsed(),
        }  # fmt: skip
        head["sha256"] = robustness._digest(arrays, head)
        file = io.BytesIO()
        np.savez(file, head=np.array(json.dumps(head, ensure_ascii=False)), **arrays)
        self._write(f"{name}.npz", file.getvalue())

    def once(self, name, make):
        """What `make` returns, flags or plain JSON, computed once."""
        path = None if self.path is None else self.path / f"{name}.json"
        if path is not None and path.exists():
            with contextlib.suppress(ValueError, KeyError):
                stored = json.loads(path.read_text(encoding="utf-8"))
                found = stored["found"]
                self.seconds = max(self.seconds, stored["elapsed"])
                return [Flag.from_dict(flag) for flag in found] if stored["flags"] else found
        found = make()
        flags = bool(found) and isinstance(found[0], Flag)
        if path is not None:
            plain = [flag.to_dict() for flag in found] if flags else found
            stored = {"flags": flags, "found": plain, "elapsed": self.elapsed()}
            self._write(path.name, json.dumps(stored, ensure_ascii=False).encode())
        return found

    def elapsed(self):
        """Seconds spent on this audit, before the interruption too."""
        return self.seconds + time.perf_counter() - self.began

    def _write(self, name, content):
        part = self.path / f"{name}.part"
        try:
            part.write_bytes(content)
            part.replace(self.path / name)
        except OSError as error:
            error.add_note(
                f"what was computed before is stored in {self.path}: make room, and resume (resume=True, --resume)"
            )
            raise

    def publish(self, report):
        """report.json and report.html beside the work, which is then removed."""
        if self.path is None:
            return
        from advlib.report import render

        for name, text in (("report.json", report.to_json()), ("report.html", render(report))):
            part = self.path / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(self.path.parent / name)
        shutil.rmtree(self.path)


class _Watch:
    """Units done and to come, for whoever watches."""

    def __init__(self, progress, n, costs, shards, seconds_a_gradient, diagnosed):
        self.progress, self.rate = progress, seconds_a_gradient
        self.costs = costs | {"diagnosis": 3000 * min(n, diagnosed) / n, "curve": 240 * min(n, SUBSET) / n}
        self.left, self.n = sum(self.costs.values()) * n, n
        self.units, self.all = 0, shards * len(costs) + 2
        self.spent = self.worth = 0.0
        self.next("clean")

    def next(self, what):
        if self.progress is not None:
            rate = self.spent / self.worth if self.worth > 0.05 * self.left else self.rate
            self.progress(self.units, self.all, what, None if rate is None else rate * self.left)

    def done(self, name, images, seconds=0.0):
        worth = self.costs[name] * images
        self.units, self.left = self.units + 1, self.left - worth
        if seconds:
            self.spent, self.worth = self.spent + seconds, self.worth + worth


def _seconds_a_gradient(model, x, y, batch_size):
    """Of one image, measured: what the expected minutes are made of. None where PGD raises, which the audit reports."""
    from advlib.attacks import pgd

    try:
        for steps in (1, 4):
            began = time.perf_counter()
            pgd(model, x, y, eps=0.01, steps=steps, early_stop=False, batch_size=batch_size)
            took = time.perf_counter() - began
    except Exception:
        return None
    return took / (5 * batch_size)


# --- what is read from the results


def _diagnosis(model, x, y, norm, eps, seed, batch_size, images):
    if not len(x):
        return []
    given = {"norm": norm, "eps": eps, "images": images, "seed": seed, "batch_size": batch_size}
    try:
        return diagnostics.diagnose(model, x, y, **given)
    except Exception as error:
        return [
            Flag(
                "amber", "diagnosis incomplete", _one_line(error), "the checks that take passes of their own were not made",
                "see what the model raises there, and audit again",
            )
        ]  # fmt: skip


def _curve(model, x, y, norm, eps, seed, batch_size):
    from advlib import norms
    from advlib.attacks import pgd

    x, y = x[:SUBSET], y[:SUBSET]
    if not len(x):
        return []
    top = norms.get(norm).largest(x.shape[1:])
    attack = partial(pgd, norm=norm, seed=seed, batch_size=batch_size)
    try:
        with diagnostics.collect_flags():  # the report has them already
            table = robustness.curve(
                model, x, y, attack, norm=norm, eps_values=[0, *(min(k * eps, top) for k in CURVE)]
            )
    except Exception:  # the flags say what the model raised
        return []
    return table[["eps", "correct", "n", "low", "high"]].to_dict("records")


def _read(report, suite):
    """The flags that need no model: what the attacks found, beside one another."""
    broken = {stage.name: report.broken(stage.name) for stage in suite}
    nothing = np.zeros(report.n, bool)
    by = {
        knows: np.any([broken[s.name] for s in suite if s.knows == knows] or [nothing], axis=0)
        for knows in ("gradient", "scores")
    }
    iterative = next(s.name for s in suite if s.name.startswith("PGD"))
    yield diagnostics.black_box_beats_white_box(by["gradient"], by["scores"], report.n)
    yield diagnostics.single_step_beats_iterative(broken["FGSM"], broken[iterative])
    yield diagnostics.too_few_images(int(report.still_correct().sum()), report.n)


def _flag_raised(name, images, why):
    what = "the model" if name == CLEAN else f"the attack {name}"
    return Flag(
        "red", f"{name}: raised an error", f"{what} raised on {images} images: {why}",
        "these images count as not correct" if name == CLEAN else "these images count as not broken by it",
        "mend the model, or leave such images out of the data and say so",
    )  # fmt: skip


def _least(report, pieces, shards):
    """The images broken with least, each by the attack that needed least."""
    found = {}
    for name, units in pieces.items():
        for part, unit in zip(shards, units, strict=True):
            for k, at in enumerate(unit.least):
                index, size = part.start + int(at), float(unit.size[at])
                if index not in found or size < found[index][0]:
                    found[index] = size, name, int(unit.prediction[at]), unit.x[k], unit.x_adv[k]
    first = sorted(found.items(), key=lambda item: (item[1][0], item[0]))[:LEAST]
    return [
        {
            "index": index, "label": int(report.y[index]), "prediction": prediction, "size": size, "attack": name,
            "x": _png(x), "x_adv": _png(x_adv), "delta": _png(0.5 + (x_adv - x) / (2 * max(abs(x_adv - x).max(), 1e-12))),
        }
        for index, (size, name, prediction, x, x_adv) in first
    ]  # fmt: skip


def _png(image):
    """A data URI; more than three channels are shown as their mean."""
    import base64

    from matplotlib.image import imsave

    image = image[..., 0] if image.shape[-1] == 1 else image if image.shape[-1] == 3 else image.mean(axis=-1)
    file = io.BytesIO()
    imsave(file, np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _parameters(model):
    return int(model.count_params()) if hasattr(model, "count_params") else None


def _weights(model):
    """SHA-256 of the kinds of a Keras model's layers and of its weights; None for another callable."""
    if not hasattr(model, "get_weights"):
        return None
    # no names: Keras numbers them, so that they depend on what else the process has built
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else [model]
    digest = hashlib.sha256(json.dumps([type(layer).__name__ for layer in layers]).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.dtype.str} {weight.shape};".encode())
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _versions():
    from advlib._tensorflow import keras, tf

    names = ("numpy", "scipy")
    return {
        "advlib": importlib.metadata.version("advlib"), "python": platform.python_version(), "keras": keras.__version__,
        "tensorflow": tf.__version__, **{name: importlib.metadata.version(name) for name in names},
        "platform": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip
