"""The command line: `advlib audit MODEL --data test.npz --norm linf --eps 0.3`, `advlib compare a.json b.json`.

Exit status, for use in CI: 0 all well; 1 a red flag, so that the number is not to be believed; 2 bad input; 3 an internal
error, or a full disk; 4 robust accuracy below `--fail-under`; 130 stopped by Ctrl-C. A red flag takes precedence over
`--fail-under`: a number that is not to be believed neither meets a bound nor misses it. Lesson 13.
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from advlib._checks import check_choice, check_number

RED_FLAG, BAD_INPUT, INTERNAL, FAILED, STOPPED = 1, 2, 3, 4, 130
EVERY = 30  # seconds between two lines of progress where there is no terminal
STYLES = {"green": "green", "amber": "yellow", "red": "bold red"}

app = typer.Typer(no_args_is_help=True, add_completion=False, help="How robust is an image classifier?")


@app.command()
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="a .keras file, a folder with a SavedModel, package.module:function, or a shipped checkpoint",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="an .npz file with x and y, a folder of images by class, mnist or fashion_mnist",
            show_default=False,
        ),
    ],
    eps: Annotated[
        str,
        typer.Option(help="the budget, in units of pixels in [0, 1]: 0.3, 8/255", show_default=False),
    ],
    norm: Annotated[str, typer.Option(help="linf, l2 or l1")] = "linf",
    preset: Annotated[str, typer.Option(help="quick, standard or thorough")] = "standard",
    limit: Annotated[int | None, typer.Option(help="audit only the first so many images")] = None,
    seed: Annotated[int, typer.Option(help="of every random number")] = 0,
    batch_size: Annotated[int, typer.Option(help="images in a call of the model")] = 144,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder of report.html and report.json (default: audit-NAME); a finished report is not replaced",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted audit in --out")
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", help="a module that registers the model's own classes", show_default=False),
    ] = None,
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="pixels that the model was made for, if not 0 1: 0 255, -1 1", show_default=False),
    ] = None,
    channels_first: Annotated[
        bool, typer.Option("--channels-first", help="the model takes (channels, height, width)")
    ] = False,
    train_data: Annotated[
        str | None,
        typer.Option(
            help="images that the model was trained on, to be looked for in --data", show_default=False
        ),
    ] = None,
    fail_under: Annotated[
        float | None, typer.Option(help="exit with 4 where robust accuracy is lower, as 0.85")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="a Dask scheduler's address, or local:N processes", show_default=False)
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="show where an error comes from")] = False,
):
    """Attack a model with a suite of attacks, check whether the result is to be believed, and write a report.

    Exit status: 0; 1 a red flag; 2 bad input; 3 internal error or full disk; 4 below --fail-under, without a red flag.
    """
    # before TensorFlow is imported; the attacks' own bars would run into the one here
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["ADVLIB_PROGRESS"] = "0"
    folder = [out]
    _speak()
    with _explained(debug, folder):
        eps = _number(eps)
        check_choice(norm, "--norm", ("linf", "l2", "l1"))
        check_choice(preset, "--preset", ("quick", "standard", "thorough"))
        if fail_under is not None:
            check_number(fail_under, "--fail-under", low=0, high=1, example=0.85)
        from advlib import auditing, loading

        images = loading.load_data(data)
        train = None if train_data is None else loading.load_data(train_data, part="train")
        if train is not None and train.shape != images.shape:
            raise ValueError(
                f"--train-data {train_data} has images of shape {train.shape} and --data {data} of shape {images.shape}: the "
                "same was expected, for example the images that the model was fitted on"
            )
        loaded = loading.load_model(
            model, input_range=input_range, channels_first=channels_first, imports=imports or ()
        )
        loaded = loading.fit(loaded, images, batch_size)
        folder[0] = out = out or Path(f"audit-{loading._plain(loaded.name)}")
        about = {
            "model": {"name": loaded.name, "source": model, "notes": loaded.notes}
            | ({"sha256": loaded.sha256} if loaded.sha256 else {}),
            "data": {"source": images.source, "label_names": images.label_names},
            "command": _typed([a for a in sys.argv[1:] if a != "--resume"]),
        }
        for note in loaded.notes:
            _say(_err(), f"note: {note}")
        with _client(cluster, imports or ()) as client, _Watch(_err()) as watch:
            report = auditing.audit(
                loaded.model, images.x, images.y, norm=norm, eps=eps, preset=preset, limit=limit, seed=seed,
                batch_size=batch_size, train=None if train is None else train.x[:], folder=out, resume=resume, client=client,
                about=about, progress=watch,
            )  # fmt: skip
        show(report, _console())
        for name in ("report.html", "report.json"):
            _say(_console(), str(out / name))
        status = _status(report, fail_under, _err())
    raise typer.Exit(status)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="report.json of the first model", show_default=False)],
    b: Annotated[Path, typer.Argument(help="report.json of the second", show_default=False)],
    debug: Annotated[bool, typer.Option("--debug", help="show where an error comes from")] = False,
):
    """Do two audited models differ in robust accuracy? Image by image, on the same images and budget.

    Exit status: 0, whatever the answer; 2 where the two cannot be compared.
    """
    _speak()
    with _explained(debug, [None]):
        from advlib import robustness

        reports = [_read(path) for path in (a, b)]
        found = robustness.compare(*reports)
        names = [report.model.get("name") or path.stem for report, path in zip(reports, (a, b), strict=True)]
        if names[0] == names[1]:
            names = [str(a), str(b)]
        console = _console()
        table = Table(title=f"{found.n:,} images, {reports[0].threat_model}")
        table.add_column("")
        for name in ("robust in", "of", "robust accuracy", "95 %", "clean accuracy"):
            table.add_column(name, justify="right")
        for name, report in zip(names, reports, strict=True):
            low, high = report.interval()
            row = [
                f"{report.still_correct().sum():,}", f"{report.n:,}", _percent(report.robust_accuracy),
                f"{100 * low:.1f} – {100 * high:.1f}", _percent(report.clean_accuracy),
            ]  # fmt: skip
            table.add_row(Text(name), *row)
        console.print(table)
        _say(console, verdict(found, names))
        for caution in _cautions(reports, names):
            console.print(Text(f"caution: {caution}", style=STYLES["amber"]), soft_wrap=True)


# --- what is shown


def show(report, console):
    """The rows of the report, its flags, and how many checks found nothing."""
    what = f"{report.model.get('name', 'model')} on {report.data.get('source') or 'data'}"
    title = f"{what}: {report.n:,} images, {report.threat_model}"
    table = Table(title=Text(title))
    table.add_column("attack")
    for name in ("accuracy", "95 %", "broken", "median size"):
        table.add_column(name, justify="right")
    for name, row in report.table().iterrows():
        attacked = name != "clean"
        cells = [
            f"{row['accuracy %']:.1f} %", f"{row['low %']:.1f} – {row['high %']:.1f}",
            f"{row['broken']:,} of {row['of correct']:,}" if attacked else "",
            f"{row['median size']:.3g}" if attacked and row["broken"] else "",
        ]  # fmt: skip
        table.add_row(Text(str(name)), *cells, style="bold" if name == "worst case" else None)
    console.print(table)
    raised = [flag for flag in report.flags if flag.colour != "green"]
    for flag in sorted(raised, key=lambda flag: flag.colour != "red"):
        console.print(Text(str(flag), style=STYLES[flag.colour]), soft_wrap=True)
    green = len(report.flags) - len(raised)
    console.print(Text(f"{green} check{'s' * (green != 1)} found nothing", style=STYLES["green"]))


def verdict(found, names):
    """A `robustness.Comparison` in a sentence."""
    a, b = names
    if not found.first_only + found.second_only:
        return f"{a} and {b} agree on every one of the {found.n:,} images: {found.both:,} are robust in both."
    apart = (
        f"{found.first_only:,} images are robust in {a} only, {found.second_only:,} in {b} only, {found.both:,} in both, "
        f"{found.neither:,} in neither (McNemar's exact test: p {_p(found.p_value)})"
    )
    low, middle, high = (100 * v for v in (found.low, found.difference, found.high))
    if found.p_value >= 0.05:
        return (
            f"No difference is shown between {a} and {b}: {apart}. {a} minus {b}: {middle:+.1f} points, 95 % interval "
            f"{low:+.1f} to {high:+.1f}."
        )
    if found.difference < 0:
        a, b, low, middle, high = b, a, -high, -middle, -low
    return (
        f"They differ: {a} is more robust than {b} by {middle:.1f} points of the images (95 % interval {low:.1f} to {high:.1f}); "
        f"{apart}."
    )


def _cautions(reports, names):
    """What makes a comparison doubtful that is arithmetically possible."""
    for report, name in zip(reports, names, strict=True):
        if red := [flag.name for flag in report.flags if flag.colour == "red"]:
            yield f"the audit of {name} has red flags ({', '.join(red)}), so that its number is not to be believed"
    presets = [report.settings.get("preset") for report in reports]
    if presets[0] != presets[1]:
        yield f"{names[0]} was audited with the preset {presets[0]}, {names[1]} with {presets[1]}: weaker attacks flatter a model"


def _status(report, fail_under, console):
    """The exit status, with a line where it is not 0."""
    red = [flag.name for flag in report.flags if flag.colour == "red"]
    low = fail_under is not None and report.robust_accuracy < fail_under
    if low:
        accuracy = _percent(report.robust_accuracy)
        _say(console, f"robust accuracy {accuracy} is below --fail-under {_percent(fail_under)}")
    if red:
        word = "a red flag" if len(red) == 1 else f"{len(red)} red flags"
        _say(console, f"{word}: do not believe the number ({', '.join(red)})")
        return RED_FLAG
    return FAILED if low else 0


class _Watch:
    """Progress as `auditing.audit` reports it: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console):
        self.console, self.bar, self.told = console, None, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done, units, what, left):
        if self.told is None:
            expected = f", about {_duration(left)}" if left is not None else ""
            _say(self.console, f"{units - done} units of work{expected}")
            if self.console.is_terminal:
                what_next, left_over = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
                self.bar = Progress(
                    what_next, BarColumn(), MofNCompleteColumn(), left_over, console=self.console
                )
                self.task = self.bar.add_task(what, total=units, left="")
                self.bar.start()
            self.told = time.monotonic()
        remaining = "" if left is None or done >= units else f"about {_duration(left)} left"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=what, left=remaining)
        elif time.monotonic() - self.told >= EVERY or done >= units:
            self.told = time.monotonic()
            _say(self.console, ", ".join(filter(None, [f"{done} of {units} units: {what}", remaining])))


def _duration(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def _percent(share):
    return f"{100 * share:.1f} %"


def _p(value):
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _say(console, text):
    """A line as it is: no markup in file names and messages, and no break where a terminal ends."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _speak():
    """Where standard output knows no ε or ∞, as a pipe on Windows, a question mark stands for it, and no error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


# made anew, as standard output may be another one than at import
def _console():
    return Console()


def _err():
    return Console(stderr=True)


# --- input


def _number(text):
    """A budget as text, "0.3" or "8/255"."""
    try:
        above, below = map(float, text.split("/") if "/" in text else (text, 1))
        return above / below
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"--eps {text}: a number or a fraction was expected, for example 0.3 or 8/255"
        ) from None


def _read(path):
    from advlib.auditing import AuditReport

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no such file; the report.json that advlib audit writes was expected"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): a report.json was expected") from error
    try:
        return AuditReport.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@contextlib.contextmanager
def _client(address, imports):
    """A Dask client for --cluster, None without."""
    if address is None:
        yield None
        return
    from advlib import loading

    try:
        from distributed import Client

        from advlib import cluster
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--cluster needs Dask ({error}): install it with pip install 'advlib[cluster]'"
        ) from error
    if found := re.fullmatch(r"local(?::(\d+))?", address):
        # workers look for the user's modules where this process does
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        client = cluster.local(int(found[1] or 2))
    else:
        try:
            client = Client(address, timeout=10)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"--cluster {address}: no scheduler answers there ({_first_line(error)}); an address as "
                "tcp://scheduler:8786, or local:2, was expected"
            ) from error
    with client:
        for name in imports:
            client.register_worker_callbacks(partial(loading.import_module, name))
        yield client


# --- errors


@contextlib.contextmanager
def _explained(debug, folder):
    """Errors as one message and an exit status, without a traceback unless `debug`. folder: [where work is stored]."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _say(_err(), "stopped" + _how_to_resume(folder[0]))
        status = STOPPED
    except Exception as error:
        if debug:
            traceback.print_exc()
        status = BAD_INPUT if _is_ours(error) else INTERNAL
        text = str(error).strip() or type(error).__name__
        if status == INTERNAL and not isinstance(error, OSError):
            text = f"internal error, {type(error).__name__}: {text}"
            text += "" if debug else "\n--debug shows where it comes from"
        _say(_err(), "\n".join(["error: " + text, *getattr(error, "__notes__", ())]))
        if status == INTERNAL and (how := _how_to_resume(folder[0])):
            _say(_err(), how.lstrip("; "))
    else:
        return
    raise typer.Exit(status)


def _is_ours(error):
    """Whether this is a complaint about input: raised by advlib itself, and no slip of its own in some other library."""
    if isinstance(
        error, FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError | IsADirectoryError
    ):
        return True
    if not isinstance(error, ValueError | TypeError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(Path(__file__).parent)


def _how_to_resume(folder):
    """The command that goes on, or nothing where no work was stored."""
    if folder is None or not (folder / "work").is_dir():
        return ""
    given = sys.argv[1:] + ([] if "--resume" in sys.argv else ["--resume"])
    return f"; what was computed is kept in {folder}, go on with:\n  {_typed(given)}"


def _typed(arguments):
    """The command with these arguments, as one would type it here."""
    command = ["advlib", *arguments]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


if __name__ == "__main__":
    app()
