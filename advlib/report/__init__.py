"""report.html, an audit as one page for people, and report.schema.json, what its report.json holds, for programs. Lesson 13.

    >>> Path("report.html").write_text(render(report), encoding="utf-8")
    >>> check(json.loads(Path("report.json").read_text(encoding="utf-8")))

The page holds its own styles and pictures and no scripts; a Content-Security-Policy in it keeps the browser from asking
another file or host for anything. Names of models, labels and files come from strangers: the template escapes everything.
"""

import io
import json
import re
from itertools import groupby
from pathlib import Path

import numpy as np

from advlib._checks import describe
from advlib.auditing import AuditReport
from advlib.robustness import CLEAN, WORST, norm_label

__all__ = ["SCHEMA", "check", "render"]

_HERE = Path(__file__).parent
SCHEMA = json.loads((_HERE / "report.schema.json").read_text(encoding="utf-8"))
_PNG = re.compile(SCHEMA["$defs"]["png"]["pattern"])
_COMMON = (
    "eps",
    "norm",
    "seed",
    "batch_size",
)  # parameters that are the audit's own, the same in every attack

_BOUND = {
    "linf": "every value of every pixel may change by at most ε",
    "l2": "the changes of all pixel values, squared and summed, may come to at most ε²",
    "l1": "the changes of all pixel values, summed without their signs, may come to at most ε",
}
_KNOWS = {"nothing": "nothing", "gradient": "gradients", "scores": "scores", "label": "label"}
_WORDS = {
    "red": ("✕", "Red flag", "do not believe the number"),
    "amber": ("▲", "Amber flag", "look at it"),
    "green": ("✓", "Green", "checked, nothing wrong"),
}


# --- the page


def render(report):
    """An `AuditReport` as the text of one HTML page, which opens offline, prints, and asks nobody for anything.

    The same report gives the same text. Raises TypeError for anything but an AuditReport, and ValueError where a picture in
    `report.least` is not a PNG in a data URI: another address would make the reader's browser ask a stranger's host.

        >>> Path("report.html").write_text(render(report), encoding="utf-8")
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if not isinstance(report, AuditReport):
        raise TypeError(
            f"report is {describe(report)}: an AuditReport was expected, for example advlib.audit(...)"
        )
    for shown in report.least:
        for key in ("x", "delta", "x_adv"):
            if not _PNG.fullmatch(shown[key]):
                raise ValueError(
                    f"the picture {key!r} of image {shown['index']} begins with {shown[key][:40]!r}: a PNG in a data URI was "
                    "expected, for example 'data:image/png;base64,iVBOR…'"
                )
    names = report.data.get("label_names") or []
    template = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    digits = 1 if report.n < 10_000 else 2
    template.filters |= {
        "size": "{:.3g}".format,
        "duration": _duration,
        "percent": lambda share: f"{100 * share:.{digits}f}\u00a0%",  # a space where no line breaks
        "ends": lambda row: f"{100 * row['low']:.{digits}f} – {100 * row['high']:.{digits}f}\u00a0%",
    }
    page = template.get_template("report.html.j2").render(
        report=report,
        label=lambda k: "no class" if k < 0 else names[k] if k < len(names) else str(k),
        norm=norm_label(report.norm),
        bound=_BOUND[report.norm],
        raised=sorted(
            (f for f in report.flags if f.colour != "green"), key=lambda flag: flag.colour != "red"
        ),
        green=[flag for flag in report.flags if flag.colour == "green"],
        words=_WORDS,
        knowledge=list(dict.fromkeys(_about(report, name)["knows"] for name in report.outcomes)),
        groups=_groups(report),
        clean=_row(report, CLEAN),
        worst=_row(report, WORST),
        correct=int(report.still_correct(CLEAN).sum()),
        classes=report.per_class().to_dict("index"),
        curve=[point | {"accuracy": point["correct"] / point["n"]} for point in report.curve],
        drawing=_drawing(report) if report.curve else "",
        # small images are enlarged, and their pixels stay squares
        pixelated=max(report.data.get("shape", [0])[:2]) <= 64,
        command=_command(report),
    )
    # a folder's name need not be text in UTF-8, and the page must be
    return page.encode("utf-8", "replace").decode("utf-8")


def _about(report, name):
    unknown = {"function": "", "knows": "nothing", "group": None, "parameters": {}}
    return report.settings["attacks"].get(name, unknown)


def _row(report, name):
    """A row of the table of attacks."""
    low, high = report.interval(name)
    row = {"name": name, "accuracy": report.accuracy(name), "low": low, "high": high}
    if name == CLEAN:
        return row
    broken = int(report.broken(name).sum())
    row |= {"broken": broken, "success": report.success_rate(name)}
    row["median"] = report.median_size(name) if broken else None
    if name == WORST:
        return row | {"seconds": sum(outcome.seconds for outcome in report.outcomes.values())}
    about = _about(report, name)
    own = [f"{key}={value!r}" for key, value in about["parameters"].items() if key not in _COMMON]
    call = f"{about['function']}({', '.join(own)})" if about["function"] else ""
    return row | {"seconds": report[name].seconds, "knows": _KNOWS[about["knows"]], "call": call}


def _groups(report):
    """[(title or None, rows)]: attacks that stand by themselves, and suites, whose rows are cumulative."""
    grouped = groupby(report.outcomes, lambda name: _about(report, name)["group"])
    return [(group, [_row(report, name) for name in names]) for group, names in grouped]


def _command(report):
    """What repeats the audit: the command it came from, else the call in Python."""
    settings = report.settings
    if settings.get("command"):
        return settings["command"]
    given = {"norm": report.norm, "eps": report.eps}
    given |= {key: settings[key] for key in ("preset", "limit", "seed", "batch_size")}
    return f"advlib.audit(model, x, y, {', '.join(f'{key}={value!r}' for key, value in given.items())})"


def _drawing(report):
    """The robustness curve as SVG text, and the result of all attacks beside it. Strangers' words stay out of it."""
    import matplotlib
    from markupsafe import Markup
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

    from advlib.plots import BLUE, RED

    eps, low, high = (np.array([point[key] for point in report.curve]) for key in ("eps", "low", "high"))
    accuracy = np.array([point["correct"] / point["n"] for point in report.curve])
    # a fixed salt and no date: the same report gives the same bytes, whatever style the reader has set
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "advlib", "font.size": 11, "axes.spines.top": False}
    with style.context("default"), matplotlib.rc_context(fixed | {"axes.spines.right": False}):
        figure = Figure(figsize=(5.2, 3.5), layout="constrained")
        ax = figure.add_subplot()
        ax.axvline(report.eps, color="#555555", linestyle=(0, (2, 2)), linewidth=1.2)
        ax.text(report.eps, 1.03, f"ε = {report.eps:.4g}", ha="center", color="#333333")
        ax.fill_between(eps, low, high, color=BLUE, alpha=0.2, linewidth=0)
        n = report.curve[0]["n"]
        label, look = f"PGD, first {n:,} images", {"color": BLUE, "marker": "o", "markersize": 5}
        ax.plot(eps, accuracy, linewidth=2, label=label, clip_on=False, **look)
        robust, (below, above) = report.robust_accuracy, report.interval()
        ends = [[max(0, robust - below)], [max(0, above - robust)]]  # rounded, an end may cross its middle
        ax.errorbar(
            [report.eps], [robust], yerr=ends, fmt="D", color=RED, markersize=7, capsize=4, markeredgecolor="white",
            label=f"all attacks, {report.n:,} images", zorder=4,
        )  # fmt: skip
        ax.set(xlim=(0, None), ylim=(0, 1), ylabel="still right")
        ax.set_xlabel(f"budget ε ({norm_label(report.norm)})")
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        ax.grid(True, color="#dddddd")
        ax.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10, columnspacing=1.2)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn = file.getvalue()
    box = re.search(r'viewBox="([^"]*)"', drawn)[1]
    points = ", ".join(f"{100 * a:.1f} % at ε = {e:.3g}" for e, a in zip(eps, accuracy, strict=True))
    text = f"Line chart: images still right under PGD: {points}. Under all attacks: {100 * robust:.1f} % at ε = {report.eps:.3g}."
    opening = Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(box, text)
    return opening + Markup(drawn[drawn.index(">", drawn.index("<svg")) + 1 :])


def _duration(seconds):
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


# --- the schema


def check(about):
    """See that a dict is the content of a report.json; ValueError says which field is not, and what was expected there.

    about: as `json.loads` returns it. The JSON Schema (2020-12) says what each field is, and its unit; beyond that, all arrays
    must have one entry an image, and every attack its settings. Needs the package jsonschema, and raises ModuleNotFoundError
    without it: a check that passed what the schema refuses would be worse than none. (`AuditReport.from_json`, which needs
    nothing, refuses what it cannot read.)

        >>> check(json.loads(report.to_json()))
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the check of a report.json needs the package jsonschema: pip install jsonschema",
            name="jsonschema",
        ) from error

    error = best_match(Draft202012Validator(SCHEMA).iter_errors(about))
    if error is not None:
        message = (
            error.message if len(error.message) <= 200 else f"{error.message[:150]} … {error.message[-45:]}"
        )
        expected = _described(error.absolute_schema_path)
        raise ValueError(f"this is no report.json of an audit: at {error.json_path}: {message}{expected}")
    arrays = {"y": about["y"], "clean.prediction": about["clean"]["prediction"]}
    for name, found in about["attacks"].items():
        arrays |= {f"attacks.{name}.{key}": found[key] for key in ("prediction", "size", "feasible")}
    for name, values in arrays.items():
        if len(values) != about["n"]:
            raise ValueError(
                f"this is no report.json of an audit: {name} has {len(values)} entries: n, {about['n']}, were expected"
            )
    for where, names in (
        ("settings.attacks", about["settings"]["attacks"]),
        ("summary", [name for name in about["summary"] if name not in (CLEAN, WORST)]),
    ):
        if set(names) != set(about["attacks"]):
            raise ValueError(
                f"this is no report.json of an audit: {where} has {sorted(names)}: the attacks {sorted(about['attacks'])} "
                "were expected"
            )


def _described(path):
    """What the schema says of the field an error is in: the last description and example on the way to it."""
    here, found = SCHEMA, {}
    for step in [*path, None]:
        while isinstance(here, dict) and "$ref" in here:  # which the path leaves out
            base = SCHEMA["$defs"][here["$ref"].rsplit("/", 1)[1]]
            here = base | {key: value for key, value in here.items() if key != "$ref"}
        if isinstance(here, dict) and isinstance(here.get("description"), str):
            found = here
        here = None if step is None else here[step]
    example = f", for example {json.dumps(found['examples'][0])}" if found.get("examples") else ""
    return f" (expected: {found['description']}{example})" if found else ""
