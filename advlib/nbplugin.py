"""Lessons as regression tests: the `≈` comparison, a normal form for stored notebooks, and rules they keep.

As a pytest plugin over nbval, there wherever advlib is installed, and idle without `--nbval`:

    python -m pytest --nbval notebooks

- A number behind `≈` is compared with a tolerance: 0.5 percentage points for `≈ 97.3 %`, 0.5 % of the whole
  (at least 1) for `≈ 87 of 1000`, 2 % of the stored value otherwise. The cell tag `tol=3` widens one cell to
  3 points or 3 %. All other text is compared letter for letter, except that in a text with `≈` a run of
  spaces counts as one (a table's columns follow the width of its numbers). Images are not compared.
- After a cell that raised, ran out of time or killed the kernel, the notebook's later cells are skipped;
  after one whose output differs they go on. Each failure says lesson, claim, expected, got, tolerance, the
  likely cause, and the command that repeats it.
- A table at the end has seconds and peak memory of each notebook. The setting `advlib_peak_mb` of pytest, where there is one,
  is the most that a notebook may take; the cell that takes more fails.
- Kernels run this interpreter, without progress bars and without the user's IPython and Matplotlib settings.

As a command, with notebooks, folders, or the first letters of lessons in `notebooks/`:

    python -m advlib.nbplugin render [03 ...]   run in a fresh kernel each, and store in normal form
    python -m advlib.nbplugin check [03 ...]    is the stored form normal, are the rules kept?
    python -m advlib.nbplugin new PATH          a lesson to begin with, see docs/write_a_lesson.md

`render` notes in the notebook's metadata which code it ran, as a digest per code cell, and with which versions
of packages, so that a stored output older than its code is found even where only a figure would differ.

Nothing here imports TensorFlow. `advlib.check` writes the numbers and claims; lesson 00 shows them.
"""

import argparse
import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

# --- Comparing a stored text with a fresh one


_MEASURED = re.compile(
    r"≈\s*(?P<number>[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?P<unit>\s?%|\s+of\s+(?P<whole>\d+(?:,\d{3})*))?"
)
_TOLERANCE = re.compile(r"tol=(\d+(?:\.\d+)?)")
LARGEST_TOLERANCE = 5


class Difference(NamedTuple):
    claim: str  # the line it stands in, or what must be true
    expected: str
    got: str
    tolerance: str


def differences(stored, got, tol=0):
    """What differs between two texts, as a list of Difference; numbers behind `≈` have a tolerance.

    tol widens it, in percentage points for `%` and in percent otherwise.

        >>> differences("accuracy ≈ 97.3 %", "accuracy ≈ 97.8 %")
        []
        >>> differences("accuracy ≈ 97.3 %", "accuracy ≈ 97.9 %")[0].tolerance
        '0.5 percentage points'
    """
    if stored == got:
        return []
    if "≈" in stored:
        stored, got = (re.sub(" +", " ", text) for text in (stored, got))
    stored, got = stored.split("\n"), got.split("\n")
    found = [
        difference for pair in zip(stored, got, strict=False) for difference in _line_differences(*pair, tol)
    ]
    if len(stored) == len(got):
        return found
    count = f"none: {len(stored)} lines expected, {len(got)} got"
    if found:  # the lines after it are shifted, and differ for no reason of their own
        return [found[0]._replace(tolerance=count)]
    n = min(len(stored), len(got))
    lines = [text[n] if n < len(text) else "(no such line)" for text in (stored, got)]
    return [Difference(lines[0], *lines, count)]


def _line_differences(stored, got, tol):
    if stored == got:
        return []

    def literal(text):
        return _MEASURED.sub(lambda match: f"≈ #{match['unit'] or ''}", text)

    if literal(stored) != literal(got):
        return [Difference(stored, stored, got, "none: text outside ≈ is compared letter for letter")]
    found = []
    for a, b in zip(_MEASURED.finditer(stored), _MEASURED.finditer(got), strict=True):
        expected, value = (Decimal(match["number"].replace("−", "-")) for match in (a, b))
        bound, words = _bound(a, expected, Decimal(str(tol)))
        if abs(value - expected) > bound:
            found.append(Difference(stored, a[0], b[0], words))
    return found


def _bound(match, expected, tol):
    """The largest difference allowed, and how to say it."""
    points, percent = max(Decimal("0.5"), tol), max(Decimal(2), tol)
    unit, whole = match["unit"], match["whole"]
    if unit is None:
        return percent / 100 * abs(expected), f"{percent:f} % of the stored value"
    if whole is None:
        return points, f"{points:f} percentage points"
    bound = max(points / 100 * int(whole.replace(",", "")), Decimal(1))
    return bound, f"{bound.normalize():f} of {whole}"


def tolerance(cell):
    """The number in the cell's tag `tol=…`, or 0."""
    found = [_TOLERANCE.fullmatch(tag) for tag in cell["metadata"].get("tags", [])]
    return max((float(match[1]) for match in found if match), default=0)


# --- The pytest plugin


_PROGRAM = "python -m advlib.nbplugin"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_SHOWN = 6  # differences of one cell listed in its report


@contextlib.contextmanager
def kernel_environment():
    """Environment variables for kernels: no progress bars, no settings of whoever runs them."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Path(folder, "matplotlibrc")
        settings.touch()
        try:
            os.environ.update(ADVLIB_PROGRESS="0", IPYTHONDIR=folder, MATPLOTLIBRC=str(settings))
            for name in ("MPLBACKEND", "PYTHONSTARTUP"):  # a backend other than inline draws no figure
                os.environ.pop(name, None)
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def pytest_addoption(parser):
    parser.addini("advlib_peak_mb", "the most memory that a notebook's kernel may take, in MB", default="inf")


def pytest_configure(config):
    nbval = config.pluginmanager.getplugin("nbval")
    if nbval is None or not (config.option.nbval or config.option.nbval_lax):
        return
    cleanup = contextlib.ExitStack()
    config.add_cleanup(cleanup.close)
    cleanup.enter_context(kernel_environment())
    if not config.option.nbval_kernel_name:  # a kernel named python3 may be another interpreter's
        config.option.nbval_current_env = True
    if getattr(config.option, "dist", "no") not in ("no", "loadfile"):
        config.option.dist = "loadfile"  # xdist's default scatters a notebook's cells over workers
    cleanup.callback(setattr, nbval, "RunningKernel", nbval.RunningKernel)
    nbval.RunningKernel = type("Kernel", (_Kernel, nbval.RunningKernel), {})
    if not hasattr(config, "workerinput"):  # an xdist worker prints nothing; its reports come here
        config.pluginmanager.register(_Table(_largest_peak(config)), "advlib.nbplugin.table")


def pytest_itemcollected(item):
    # nbval makes its cells under a fixed class name and has no hook to replace it.
    if type(item).__module__ == "nbval.plugin":
        item.__class__ = _cell_class(type(item))


@functools.cache
def _cell_class(theirs):
    return type("Cell", (_Cell, theirs), {})


class _KernelDied(Exception):
    pass


class _Kernel:
    """nbval's kernel, which notices when its process is gone; nbval alone waits for the cell's timeout."""

    def get_message(self, stream, timeout=None):
        from queue import Empty

        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            try:
                return super().get_message(stream, timeout=max(min(1.0, end - time.monotonic()), 0))
            except Empty:
                if not self.is_alive():
                    raise _KernelDied(self.end()) from None
                if time.monotonic() >= end:
                    raise

    def end(self):
        """How its process ended."""
        process = getattr(getattr(self, "km", None) and self.km.provisioner, "process", None)
        status = process.poll() if process else None
        if status is None:
            return "the kernel is gone"
        try:
            return f"the kernel ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"the kernel ended with status {status}"

    def peak(self):
        """The most memory its process ever held, in MB; None where the system does not say, or it is gone."""
        with contextlib.suppress(AttributeError, OSError, TypeError):
            pid = self.km.provisioner.pid
            if os.name == "nt":
                import psutil  # a kernel needs it, so it is there

                with contextlib.suppress(psutil.Error):
                    return psutil.Process(pid).memory_info().peak_wset / 1e6
            status = Path(f"/proc/{pid}/status").read_text()
            return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024 / 1e6
        return None


def _largest_peak(config):
    said = config.getini("advlib_peak_mb")
    try:
        return float(said)
    except ValueError:
        import pytest

        raise pytest.UsageError(
            f"advlib_peak_mb = {said!r}: a number of MB was expected, for example 2000"
        ) from None


class _Table:
    """Seconds and peak memory of each notebook, at the end of a run."""

    def __init__(self, largest):
        self.rows, self.largest = {}, largest

    def pytest_runtest_logreport(self, report):
        notebook, is_cell, _ = report.nodeid.partition(".ipynb::")
        if not is_cell:
            return
        row = self.rows.setdefault(f"{notebook}.ipynb", {"start": 0, "first": 0, "rest": 0, "peak": 0})
        about = dict(report.user_properties)
        part = {"setup": "start", "call": about.get("part")}.get(report.when)  # a kernel starts in set-up
        if part:
            row[part] += report.duration
        row["peak"] = max(row["peak"], about.get("peak_mb") or 0)

    def pytest_terminal_summary(self, terminalreporter):
        if not self.rows:
            return
        width = max(map(len, self.rows))
        terminalreporter.section("notebooks: seconds, and the kernel's peak memory")
        terminalreporter.line(f"{'':{width}}  start  first cell   rest  total     peak")
        for name, row in sorted(self.rows.items()):
            start, first, rest, peak = row.values()
            peak = f"{peak:5.0f} MB" if peak else "       –"
            line = f"{name:{width}}  {start:5.1f}  {first:10.1f}  {rest:5.1f}  {start + first + rest:5.1f}  {peak}"
            terminalreporter.line(line, red=row["peak"] > self.largest)
        terminalreporter.line(
            "start: until the kernel answers; first cell: imports, and what is loaded beside them"
        )


class _Cell:
    """nbval's cell, with the `≈` comparison, messages that say what to do, and no cascade after an error."""

    found = ()
    died = large = None

    def setup(self):
        import pytest

        broken = getattr(self.parent, "broken", None)
        if broken and broken != self._name():
            pytest.skip(f"not run: {broken} failed")
        self.parent.broken = None  # a second try of the very cell that failed
        self.output_timeout = 30  # nbval's 5 s are too few for a busy machine to say where it was interrupted
        self._run_what_was_left_out()

    def _run_what_was_left_out(self):
        """The cells above that -k, --lf or --deselect left out, or all of them where a second try has a new kernel."""
        kernel, limit = self.parent.kernel, self.config.option.nbval_cell_timeout
        done = self.parent.done if getattr(self.parent, "ran_in", None) is kernel else 0
        for _, cell in _code(self.parent.nb)[done : self.cell_num]:
            kernel.await_reply(kernel.execute_cell_input(cell.source, allow_stdin=False), timeout=limit)
        self.parent.ran_in, self.parent.done = kernel, max(done, self.cell_num + 1)

    def runtest(self):
        try:
            compared = self.options["check"] and not self.options["skip"] and self.cell.source.strip()
            if compared and self.cell.execution_count is None:
                self.raise_cell_error("it was never run: no output is stored to compare with")
            if not self.parent.kernel.is_alive():  # it died after the cell before had ended
                raise _KernelDied(self.parent.kernel.end())
            super().runtest()
        except _KernelDied as error:
            self.parent.broken, self.died = self._name(), str(error)
            self.raise_cell_error(self.died)
        except Exception:
            if not self.found:
                self.parent.broken = self._name()
            raise
        finally:
            peak = self.parent.kernel.peak()
            part = "first" if self.cell_num <= _first_import(self.parent.nb) else "rest"
            self.user_properties += [("part", part), ("peak_mb", peak and round(peak))]
        if peak and peak > _largest_peak(self.config) and not getattr(self.parent, "large", False):
            self.parent.large, self.large = True, peak
            self.raise_cell_error("the kernel holds too much memory")

    def compare_outputs(self, test, ref, skip_compare=None):
        self.comparison_traceback = []
        self.found = self._found(_texts(ref), _texts(test))
        return not self.found

    def _found(self, stored, fresh):
        found = []
        for kind in sorted({*stored, *fresh}, key=lambda kind: (kind == "text/html", kind)):
            expected, got = stored.get(kind, []), fresh.get(kind, [])
            if found and kind == "text/html":  # a table, whose text says the same more readably
                continue
            if len(expected) != len(got):
                lines = ["; ".join(map(str, texts)) or "(none)" for texts in (expected, got)]
                number = f"none: {len(expected)} outputs expected, {len(got)} got"
                found.append(Difference(f"outputs of kind {kind}", *lines, number))
                continue
            for pair in zip(expected, got, strict=True):
                a, b = map(self.sanitize, pair)
                if isinstance(a, str) and isinstance(b, str):
                    found += differences(a, b, tolerance(self.cell))
                elif a != b:
                    found.append(Difference(f"output of kind {kind}", str(a), str(b), "none"))
        return found

    def _name(self):
        return f"cell [{self.cell.execution_count or self.cell_num + 1}]"

    def repr_failure(self, excinfo):
        from nbval.plugin import NbCellError

        if not isinstance(excinfo.value, NbCellError):
            return super().repr_failure(excinfo)
        trace = _plain(excinfo.value.inner_traceback or "")
        title, failures, cause = self._explained(str(excinfo.value), trace)
        lines = [f"{self.nodeid.partition('::')[0]}, {self._name()}: {title}", ""]
        lines += [_row("lesson", self._place())]
        for failure in failures[:_SHOWN]:
            lines += [_row(name, text) for name, text in failure._asdict().items()]
            lines += [""] if len(failures) > 1 else []
        if len(failures) > _SHOWN:
            lines += [f"  and {len(failures) - _SHOWN} more differences", ""]
        lines += [_row("likely cause", cause), _row("repeat", self._typed("pytest", "--nbval"))]
        if self.found or self.cell.execution_count is None:
            lines += [_row("if it is right", self._typed("advlib.nbplugin", "render"))]
        lines += ["", "the cell:", *(f"    {line}" for line in self.cell.source.splitlines())]
        if trace and not self.found and self._error()["ename"] != "CheckFailed":
            lines += ["", trace]
        return "\n".join(lines)

    def _error(self):
        """The error that the cell raised, as the kernel told it."""
        errors = [out for out in self.test_outputs or [] if out["output_type"] == "error"]
        return errors[0] if errors else {"ename": "", "evalue": ""}

    def _explained(self, message, trace):
        """What is wrong in a few words, a Difference for each claim that does not hold, and the likely cause."""
        limit = f"{self.config.option.nbval_cell_timeout:g} s"
        most = f"{_largest_peak(self.config):,.0f} MB"
        if self.died:
            failure = Difference("the kernel outlives the cell", "an answer from it", self.died, "none")
            cause = "no memory was left (SIGKILL), native code crashed (SIGSEGV, SIGABRT), or the cell ends Python"
            return "the kernel died", [failure], cause
        if self.large:
            got = f"{self.large:,.0f} MB"
            failure = Difference(f"the notebook needs at most {most}", f"at most {most}", got, "none")
            cause = "too many images at once in this cell; or TensorFlow built for GPUs, which is larger by itself"
            return "the kernel holds too much memory", [failure], cause
        if self.found:
            cause = _cause(self.parent.nb, self.cell_num + 1, _advice(self.found[0]))
            return "the output differs from the stored one", list(map(_shortened, self.found)), cause
        if self.parent.timed_out:
            failure = Difference(f"the cell ends within {limit}", f"an end within {limit}", message, "none")
            where = _where(trace, "it was in")
            cause = "a loop without an end, or a machine much slower or busier than the cell was written for"
            return "it ran out of time", [failure], f"{where}; {cause}" if where else cause
        if self._error()["ename"]:
            return self._explained_error(trace)
        failure = Difference("the output is that of the stored run", "a stored run", message, "none")
        return message, [failure], "the cell is new, or its output was cleared: render the notebook"

    def _explained_error(self, trace):
        name, said = self._error()["ename"], self._error()["evalue"]
        cause = _cause(self.parent.nb, self.cell_num + 1)
        if name == "CheckFailed":
            claim, _, rest = said.partition("\n")
            told = dict(re.findall(r"^  (\S.*?) {2,}(.*)$", rest, re.M))
            expected, got = told.get("expected", "true"), told.get("got", "false")
            number = told.get("tolerance", "none: a claim is true or false")
            failure = Difference(claim.removeprefix("not true: "), expected, got, number)
            cause = f"{told['likely cause']}; {cause}" if "likely cause" in told else cause
            return "a claim is not true", [failure], cause
        failure = Difference(
            "the cell runs to its end", "no exception", f"{name}: {said}".rstrip(": "), "none"
        )
        where = _where(trace, "raised in") or "raised outside advlib"
        return "it raised an exception", [failure], f"{where}; {cause}"

    def _place(self):
        """The notebook's title and the section in which the cell stands."""
        title = section = ""
        for cell in self.parent.nb.cells:
            if cell is self.cell:
                break
            text = re.sub(r"```.*?```", "", cell.source, flags=re.S) if cell.cell_type == "markdown" else ""
            for level, heading in re.findall(r"^(##?) +(.+)$", text, re.M):
                title, section = (heading, "") if level == "#" else (title, heading)
        title = title or Path(self.nodeid.partition("::")[0]).stem
        return f"{title}, section “{section}”" if section else title

    def _typed(self, module, *words):
        """The command that runs a module on this notebook, to be pasted where pytest was typed."""
        here = self.config.invocation_params.dir
        path, python = (
            str(path.relative_to(here) if path.is_relative_to(here) else path)
            for path in (self.path, Path(sys.executable))
        )
        if shutil.which("python") == sys.executable:
            python = "python"
        command = [python, "-m", module, *words, path]
        return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def _row(name, text):
    first, *rest = text.splitlines() or [""]
    return "\n".join([f"  {name:<14}  {first}", *(" " * 18 + line for line in rest)])


def _first_import(nb):
    """The number, from 0, of the first code cell that imports advlib; 0 where none does."""
    found = (
        n - 1 for n, cell in _code(nb) if re.search(r"^\s*(import|from)\s+advlib\b", cell["source"], re.M)
    )
    return next(found, 0)


def _where(trace, words):
    """The innermost line of advlib in a traceback, of IPython's or of Python's kind; nothing where it has none."""
    frame = r"File \"?[^\"\n]*[/\\]advlib[/\\]((?:(?!-packages[/\\])[^\"\n:])+)\"?(?::|, line )(\d+)(?:, in ([\w.<>]+))?"
    found = re.findall(frame, trace)
    if not found:
        return ""
    file, line, function = found[-1]
    file = file.replace("\\", "/")
    return f"{words} advlib/{file}, line {line}{f', {function}' if function else ''}"


def _advice(difference):
    if difference.tolerance.startswith("none"):
        return "a measured number printed bare needs approx(...)"
    return "a number that varies by nature needs a tag tol=… and its reason"


def _cause(nb, number, advice=""):
    """What a result that is not the stored one is most likely due to, from what `render` noted."""
    record = _record(nb["metadata"])
    code = [cell for _, cell in _code(nb)[:number] if cell["source"].strip()]
    then, now = record.get("versions", {}), _versions()
    pairs = enumerate(zip(code, record.get("rendered", []), strict=False), 1)
    edited = [n for n, (cell, stored) in pairs if _digest(cell) != stored]
    changed = {name: f"{name} {now.get(name, 'missing')} (then {then[name]})" for name in then}
    changed = [text for name, text in changed.items() if then[name] != now.get(name)]
    if not record:
        cause = "cells, advlib or a package under it were changed; no record of a rendering says which"
    elif edited:
        cause = f"cell [{edited[0]}] was edited, or has moved, since the notebook was rendered"
    elif changed:
        cause = f"another version than when the notebook was rendered: {', '.join(changed)}"
    else:
        cause = "advlib was changed, or a file that the cells read, or the stored output by hand; or the machine is another kind"
    return "; ".join(filter(None, [cause, advice]))


def _texts(outputs):
    """kind of output -> its values in order. Of images only the presence is kept, of widgets nothing."""
    kinds = {}
    for out in outputs:
        if out["output_type"] == "stream":
            values = {out["name"]: out["text"]}
        elif out["output_type"] == "error":
            values = {"error": f"{out['ename']}: {out['evalue']}"}
        else:
            values = dict(out["data"])
        for kind, value in values.items():
            if kind.startswith("image/") or kind == "application/pdf":
                value = "an image"
            if kind != _WIDGET:  # its model's name is random
                kinds.setdefault(kind, []).append(value)
    return kinds


def _plain(text):
    """A traceback without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


def _shortened(difference):
    claim, expected, got, tolerance = difference
    claim = claim if len(claim) <= 200 else f"{claim[:197]}..."
    return Difference(claim, *_around_the_difference(expected, got), tolerance)


def _around_the_difference(expected, got, width=200):
    if max(len(expected), len(got)) <= width:
        return expected, got
    same = next((n for n, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(expected), len(got)) if same is None else same
    start = max(same - 40, 0)
    return tuple(f"...{text[start : start + width]}..." for text in (expected, got))


# --- The normal form


_NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_CELL_METADATA = ("alt", "nbgrader", "slideshow", "tags")
_OUTPUT_METADATA = ("alt", "height", "width")  # of an image
_LOCKS = ("deletable", "editable")  # JupyterLab's; only False says something
# what stored values depend on besides the cells
_PACKAGES = ("advlib", "keras", "numpy", "pandas", "scikit-image", "scipy", "tensorflow")


def read(text):
    """The notebook in the text of an .ipynb file, as nbformat's nodes in version 4.5.

    Raises ValueError for a text that is no notebook.
    """
    import nbformat

    try:
        nb = nbformat.reader.reads(text)
        has_ids = (nb.nbformat, nb.nbformat_minor) >= (4, 5)
        nb = nbformat.convert(nb, 4)
        nb.nbformat_minor = 5
        taken = set()
        for cell in nb.cells:
            given = cell.get("id") if has_ids else None  # nbformat's conversion invents random ones
            cell.id = _cell_id(given, cell.cell_type + cell.source, taken)
            taken.add(cell.id)
        nbformat.validate(nb)
    except (AttributeError, KeyError, TypeError, ValueError, nbformat.ValidationError) as error:
        raise ValueError(f"the JSON text of a Jupyter notebook was expected: {error}") from error
    return nb


def normalised(text):
    """The text of an .ipynb file in normal form: what is stored, whatever editor saved it.

    Fixed kernelspec, language_info reduced to the name, counts 1..n, streams merged, cell metadata reduced to
    tags, nbgrader, slideshow, alt text and locks, no empty cells, no widget state, an id for every cell. Cells
    never run stay so, and so does what `render` noted of the code it ran. Applied twice it changes nothing.

    Raises ValueError for a text that is no notebook.
    """
    import nbformat

    given, cells, count = read(text), [], 0
    for cell in given.cells:
        if not cell.source.strip():
            continue
        kept = {"cell_type": cell.cell_type, "id": cell.id, "source": cell.source.replace("\r\n", "\n")}
        kept["metadata"] = {key: cell.metadata[key] for key in _CELL_METADATA if _says_something(cell, key)}
        kept["metadata"] |= {key: False for key in _LOCKS if cell.metadata.get(key) is False}
        if cell.get("attachments"):
            kept["attachments"] = cell.attachments
        if cell.cell_type == "code":
            count += cell.execution_count is not None
            kept["execution_count"] = None if cell.execution_count is None else count
            kept["outputs"] = _outputs(cell.outputs, kept["execution_count"])
        cells.append(kept)
    record = _record(given.metadata)
    about = _NOTEBOOK_METADATA | ({RECORD: record} if record else {})
    nb = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.writes(nbformat.from_dict(nb)) + "\n"


RECORD = "advlib"  # in a notebook's metadata: what `render` notes


def rendered(nb):
    """What `render` notes of a notebook: a digest of each code cell, and the versions of packages."""
    return {"rendered": [_digest(cell) for _, cell in _code(nb)], "versions": _versions()}


def _digest(cell):
    source = cell["source"].replace("\r\n", "\n")
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:8]


@functools.cache
def _versions():
    found = {}
    for name in _PACKAGES:
        for distribution in (name, f"{name}-cpu"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found.setdefault(name, metadata.version(distribution))
    return found


def _record(about):
    """The record in a notebook's metadata, {} where there is none that `render` could have made."""
    given = about.get(RECORD)
    if not isinstance(given, dict) or set(given) != {"rendered", "versions"}:
        return {}
    digests, versions = given["rendered"], given["versions"]
    if not isinstance(digests, list) or not isinstance(versions, dict):
        return {}
    texts = all(isinstance(text, str) for text in [*digests, *versions.values()])
    return {"rendered": list(digests), "versions": dict(versions)} if texts else {}


def _says_something(cell, key):
    # JupyterLab leaves "tags": [] and "slideshow": {"slide_type": ""} behind when its panel is opened.
    return bool(cell.metadata.get(key)) and cell.metadata[key] not in (
        {"slide_type": ""},
        {"slide_type": "-"},
    )


def _cell_id(given, content, taken):
    if given and given not in taken:
        return given
    for n in range(len(taken) + 1):
        new = hashlib.sha256(f"{n}{content}".encode()).hexdigest()[:8]
        if new not in taken:
            return new


def _outputs(outputs, count):
    kept = []
    for out in outputs:
        if out.output_type == "stream":
            if kept and kept[-1].get("name") == out.name:
                kept[-1]["text"] += out.text
            else:
                kept.append({"output_type": "stream", "name": out.name, "text": out.text})
        elif out.output_type == "error":
            kept.append({key: out[key] for key in ("output_type", "ename", "evalue", "traceback")})
        else:
            data = {kind: value for kind, value in out.data.items() if kind != _WIDGET}
            about = {
                kind: {key: value for key, value in given.items() if key in _OUTPUT_METADATA}
                for kind, given in out.metadata.items()
                if kind in data and isinstance(given, dict)
            }
            about = {kind: given for kind, given in about.items() if given}
            kept.append({"output_type": out.output_type, "data": data, "metadata": about})
            if out.output_type == "execute_result":
                kept[-1]["execution_count"] = count
    return kept


def form_problems(text):
    """Where a notebook's text is not in normal form, as a list of lines."""
    try:
        normal = normalised(text)
    except ValueError as error:
        return [str(error)]
    if normal == text:
        return []
    found = list(_json_differences(json.loads(text), json.loads(normal), ""))
    return found or ["written with other line ends, indentation, order of keys, or the same key twice"]


def _json_differences(stored, normal, place):
    if isinstance(stored, dict) and isinstance(normal, dict):
        for key in sorted({*stored, *normal}):
            where = f"{place}.{key}".lstrip(".")
            if key not in normal:
                yield f"{where}: not kept in normal form"
            elif key not in stored:
                yield f"{where}: missing"
            else:
                yield from _json_differences(stored[key], normal[key], where)
    elif isinstance(stored, list) and isinstance(normal, list) and len(stored) == len(normal):
        for n, pair in enumerate(zip(stored, normal, strict=True)):
            yield from _json_differences(*pair, f"{place}[{n}]")
    elif stored != normal:
        short = [text if len(text) <= 60 else text[:57] + "..." for text in map(json.dumps, (stored, normal))]
        yield f"{place}: {short[0]}, in normal form {short[1]}"


# --- The rules that stored lessons keep


LONGEST_CELL = 25
CELLS = range(15, 36)
_MARKERS = re.compile(r"#\s*(NBVAL_\w+|PYTEST_VALIDATE_\w+)")
_TAGS = re.compile(r"(nbval|pytest-validate)-.*|raises-exception|skip-execution")
# A path of two or more parts that starts at a root; not a fraction, a URL or an HTML end tag.
_PATH = re.compile(r"(?<![\w./:<~])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\{1,2}\w+|/(?:site|dist)-packages\b")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")


def _code(nb):
    """Code cells with the counts that they have in a notebook run from top to bottom."""
    return list(enumerate((cell for cell in nb["cells"] if cell["cell_type"] == "code"), 1))


def _rule_run(nb):
    """every code cell was run, in order, in a fresh kernel"""
    for n, cell in _code(nb):
        if cell["execution_count"] != n:
            yield n, f"execution count {cell['execution_count']}, where {n} was expected: render the notebook"


def _rule_fresh(nb):
    """every stored output is of the code it stands under, and of the code above that"""
    code = [(n, cell) for n, cell in _code(nb) if cell["source"].strip()]  # an empty one is not kept
    stored, now = _record(nb["metadata"]).get("rendered"), [_digest(cell) for _, cell in code]
    if stored is None:
        yield None, "no record of what code its outputs are of: render the notebook"
        return
    edited = [n for (n, _), then, digest in zip(code, stored, now, strict=False) if then != digest]
    if len(stored) == len(now):
        for n in edited:
            yield n, "its code is not what was run for the stored outputs: render the notebook"
    else:  # those after the first are shifted
        yield (
            edited[0] if edited else None,
            f"the stored outputs are of {len(stored)} code cells, and there are {len(now)}, other ones from here on: "
            "render the notebook",
        )


def _rule_streams(nb):
    """no output on standard error, and no stored error"""
    for n, cell in _code(nb):
        for out in cell["outputs"]:
            if out["output_type"] == "error":
                yield n, f"a stored error, {out['ename']}: catch it in the cell and print what it says"
            elif out.get("name") == "stderr":
                yield n, f"output on standard error: {out['text'].strip()[:80]!r}"


def _rule_semicolon(nb):
    """no cell ends in a semicolon"""
    for n, cell in _code(nb):
        if _without_comment(cell["source"]).endswith(";"):
            yield n, "it ends in `;`: nbval sees the value that this hides; end a plot with plt.show()"


def _rule_unchecked(nb):
    """no tag or comment takes a cell out of the comparison"""
    for n, cell in _code(nb):
        for tag in cell["metadata"].get("tags", []):
            if _TAGS.fullmatch(tag):
                yield n, f"the tag {tag}: every cell runs and is compared"
        for marker in _MARKERS.findall(cell["source"]):
            yield n, f"the comment {marker}: every cell runs and is compared"


def _rule_tolerance(nb):
    """a tag tol=… is bounded, used, and has its reason in the cell"""
    for n, cell in _code(nb):
        tags = [tag for tag in cell["metadata"].get("tags", []) if tag.replace(" ", "").startswith("tol")]
        for tag in tags:
            match = _TOLERANCE.fullmatch(tag)
            if not match or not 0 < float(match[1]) <= LARGEST_TOLERANCE:
                yield (
                    n,
                    f"the tag {tag!r}: tol= and a number up to {LARGEST_TOLERANCE} was expected, as in tol=3",
                )
        if len(tags) > 1:
            yield n, f"{len(tags)} tolerance tags: one was expected"
        if tags and not _reason(cell):
            yield n, f"the tag {tags[0]!r} without its reason: a comment `# tol: why` belongs into the cell"
        if tags and not any(_MEASURED.search(text) for text in _output_texts(cell)):
            yield n, f"the tag {tags[0]!r} on a cell that prints no number behind ≈"


def _rule_zero(nb):
    """no value next to zero stands behind ≈"""
    from advlib.check import SMALLEST

    for n, cell in _code(nb):
        for text in _output_texts(cell):
            for match in _MEASURED.finditer(text):
                if match["unit"] is None and abs(Decimal(match["number"].replace("−", "-"))) < SMALLEST:
                    yield n, f"{match[0]}: a relative tolerance means nothing there; check a bound instead"


def _rule_short(nb):
    """short cells, and not too many of them"""
    for n, cell in _code(nb):
        lines = len(cell["source"].splitlines())
        if lines > LONGEST_CELL:
            yield n, f"{lines} lines of code: at most {LONGEST_CELL} were expected"
    if len(nb["cells"]) not in CELLS:
        yield None, f"{len(nb['cells'])} cells: {CELLS[0]} to {CELLS[-1]} were expected"


def _rule_imports(nb):
    """advlib is imported first: it keeps TensorFlow's start-up lines out of the notebook"""
    for n, cell in _code(nb):
        try:
            tree = ast.parse(cell["source"])
        except SyntaxError:  # a line of IPython's own
            continue
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        if found:
            first = min(found, key=lambda node: (node.lineno, node.col_offset))
            name = first.names[0].name if isinstance(first, ast.Import) else first.module or ""
            if name.partition(".")[0] != "advlib":
                yield n, f"the first import is {name}: advlib was expected"
            return
    yield None, "nothing is imported: `import advlib` was expected in the first code cell"


def _rule_machine(nb):
    """no output names a path, an address or a machine"""
    # A host called `mnist` would be found in honest text: only a name with a digit or a dash counts.
    host = socket.gethostname()
    patterns = [_PATH, _ADDRESS]
    if len(host) > 3 and re.search(r"[\d-]", host):
        patterns.append(re.compile(rf"\b{re.escape(host)}\b"))
    for n, cell in _code(nb):
        for text in _output_texts(cell):
            for pattern in patterns:
                for match in pattern.finditer(text):
                    yield n, f"{match[0]!r} in an output: it is another one on the next machine"


def _rule_alt(nb):
    """every figure has alternative text: `alt` in the metadata of its cell"""
    for n, cell in _code(nb):
        kinds = [kind for out in cell["outputs"] for kind in out.get("data", {})]
        if any(kind.startswith("image/") for kind in kinds) and not cell["metadata"].get("alt"):
            yield (
                n,
                'a figure without alternative text: "alt": "what it shows" was expected in the cell\'s metadata',
            )


_ALL = (
    _rule_run, _rule_fresh, _rule_streams, _rule_semicolon, _rule_unchecked, _rule_tolerance, _rule_zero, _rule_short,
    _rule_imports, _rule_machine, _rule_alt,
)  # fmt: skip
RULES = {rule.__name__.removeprefix("_rule_"): rule for rule in _ALL}


def rule_problems(nb, rule):
    """Where a notebook, as `read` returns it, breaks one of RULES, as a list of lines."""
    found = [f"{'notebook' if n is None else f'cell [{n}]'}: {text}" for n, text in RULES[rule](nb)]
    return list(dict.fromkeys(found))


def tolerances(nb):
    """The cells that widen the tolerance, as a list of lines with the reason of each."""
    return [
        f"cell [{n}]: tol={tolerance(cell):g}: {_reason(cell) or 'no reason given'}"
        for n, cell in _code(nb)
        if tolerance(cell)
    ]


def _reason(cell):
    match = re.search(r"#[ \t]*tol:[ \t]*(\S.*)", cell["source"])
    return match[1].strip() if match else None


def _output_texts(cell):
    """The texts of a cell's outputs, without images."""
    for out in cell["outputs"]:
        texts = {"text/plain": out["text"]} if out["output_type"] == "stream" else out.get("data", {})
        yield from (text for kind, text in texts.items() if kind.startswith("text/"))


def _without_comment(source):
    """The source up to its last token of code: a `;` inside a comment or a string is none."""
    import io
    import tokenize

    last = ""
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # a line of IPython's own
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.string.strip() and token.type != tokenize.COMMENT:
                last = token.string
    return last


# --- Rendering


class RenderError(Exception):
    """A notebook did not run to its end."""


class Rendering(NamedTuple):
    seconds: float
    megabytes: float  # the kernel's peak


# The notebook's own names may be other things. Where Linux says it, not ru_maxrss, which a process inherits from its parent.
_PEAK = r"""
import builtins, os, re, sys
if os.path.exists("/proc/self/status"):
    peak = 1024 * int(re.search(r"VmHWM:\s*(\d+)", builtins.open("/proc/self/status").read())[1])
elif sys.platform == "win32":
    import psutil
    peak = psutil.Process().memory_info().peak_wset
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
builtins.print(peak)
"""


def render(path, timeout=600):
    """Run a notebook in a fresh kernel, in its own folder, and store it in normal form.

    timeout: seconds for one cell. Returns seconds and the kernel's peak memory in MB.

    Raises RenderError where a cell fails, and stores nothing then; ValueError for a file that is no notebook.
    """
    import nbformat
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager

    path = Path(path)
    nb = read(normalised(path.read_text(encoding="utf-8")))
    nb.cells.append(nbformat.v4.new_code_cell(_PEAK))
    kernel = AsyncKernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )  # this interpreter, whatever kernel is called python3 elsewhere
    started = []
    client = NotebookClient(
        nb,
        km=kernel,
        timeout=timeout,
        resources={"metadata": {"path": str(path.parent)}},
        skip_cells_with_tag="",  # else nbclient passes over "skip-execution", and an old output would stay
        store_widget_state=False,
        record_timing=False,
        on_cell_execute=lambda cell, cell_index: started.append(cell_index),
    )
    start = time.monotonic()
    try:
        with kernel_environment():
            client.execute(cleanup_kc=True, stderr=subprocess.DEVNULL)  # the kernel's own start-up lines
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise RenderError(f"{path}, cell [{len(started)}]: {_plain(str(error))}") from error
    seconds = time.monotonic() - start
    peak = int(nb.cells.pop().outputs[0].text.split()[-1])
    nb.metadata[RECORD] = rendered(nb)
    write(path, normalised(nbformat.writes(nb)))
    return Rendering(seconds, peak / 1e6)


def write(path, text):
    """Replace a file whole, or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8", newline="\n")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


TEMPLATE = Path(__file__).with_name("template.ipynb")


def new(path):
    """Write the template, a lesson to begin with, as a new file; its folder is made where it is missing.

    Raises ValueError for a name that does not end in .ipynb, FileExistsError for a file that is there.
    """
    path = Path(path)
    if path.suffix != ".ipynb":
        raise ValueError(
            f"{path}: a name that ends in .ipynb was expected, for example notebooks/01_my_lesson.ipynb"
        )
    if path.exists():
        raise FileExistsError(f"{path} is there already: the name of a new file was expected")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, TEMPLATE.read_text(encoding="utf-8"))


def find(names):
    """Notebook files for paths, folders, or the first letters of lessons in notebooks/; all for no names."""
    found = []
    for name in names or ["notebooks"]:
        path = Path(name)
        if path.is_dir():
            paths = sorted(path.glob("*.ipynb"))
        elif path.is_file():
            paths = [path]
        else:
            paths = sorted(path for path in Path("notebooks").glob("*.ipynb") if path.name.startswith(name))
        if not paths:
            raise FileNotFoundError(
                f"{name}: a notebook, a folder of notebooks, or the first letters of a lesson in notebooks/ "
                "was expected, for example 03"
            )
        found += [path for path in paths if path not in found]
    return found


def main(arguments=None):
    about = "Run notebooks and store them in normal form, check what is stored, or begin a new one."
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=about)
    parser.add_argument("command", choices=["render", "check", "new"])
    parser.add_argument(
        "notebooks", nargs="*", help="files, folders, or first letters of lessons; a new file (new)"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one cell (render)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "new":
            return _begin(options.notebooks)
        paths = find(options.notebooks)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    failures = 0
    for path in paths:
        if options.command == "render":
            try:
                seconds, megabytes = render(path, options.timeout)
                print(f"{path}: {seconds:.1f} s, {megabytes:.0f} MB at its peak", flush=True)
            except (RenderError, ValueError) as error:
                failures += 1
                print(f"{path}: not rendered, the stored file is unchanged\n{error}", file=sys.stderr)
                continue
        text = path.read_text(encoding="utf-8")  # with \n for \r\n, which is a matter of the checkout
        problems = form_problems(text)
        with contextlib.suppress(ValueError):  # no notebook: among the problems already
            nb = read(text)
            problems += [problem for rule in RULES for problem in rule_problems(nb, rule)]
            for line in tolerances(nb):
                print(f"{path}: wider tolerance, {line}")
        failures += bool(problems) and options.command == "check"
        for problem in problems:
            print(f"{path}: {problem}", file=sys.stderr)
    if not failures and options.command == "check":
        print(f"{len(paths)} notebooks: stored in normal form, and the rules are kept")
    return min(failures, 1)


def _begin(names):
    if len(names) != 1:
        raise ValueError(
            f"new: one new file was expected, for example {_PROGRAM} new notebooks/01_my_lesson.ipynb"
        )
    new(names[0])
    print(f"{names[0]}: the template; when it is changed: {_PROGRAM} render {names[0]}")
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # Windows consoles lack ≈
    sys.exit(main())
