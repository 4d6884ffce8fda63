"""The students' notebooks: `python -m teaching release` makes notebooks/exercises/ from teaching/exercises/.

nbgrader does it: solutions give way to stubs, hidden tests go, what must not be changed is locked, in JupyterLab too. The result
is stored in the normal form of the lessons, run with its stubs in place, so that nbval compares what a student sees at the start.
`--check` compares texts and metadata, sees that the outputs are of this code, and runs nothing.
"""

import contextlib
import io
import logging
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbgrader import preprocessors
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config, PyFileConfigLoader
from traitlets.log import get_logger

from advlib import nbplugin

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "teaching" / "exercises"
RELEASED = ROOT / "notebooks" / "exercises"
CONFIG = ROOT / "teaching" / "nbgrader_config.py"
STUB = "raise NotImplementedError()"

# nbgrader calls alembic, which lies beside this Python whether or not its environment is active
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


class ClearSolutions(preprocessors.ClearSolutions):
    """nbgrader's, which leaves a comment where the stub would stop the notebook: outside a function."""

    def _replace_solution_region(self, cell, language):
        replaced = super()._replace_solution_region(cell, language)
        cell.source = re.sub(rf"^{re.escape(STUB)}$", "# your code here", cell.source, flags=re.M)
        return replaced


class Failed(Exception):
    """nbgrader stopped; the message is what it logged."""


def nbgrader_settings(course, **sections):
    """teaching/nbgrader_config.py for the course folder, changed by sections such as SaveCells={"enabled": False}."""
    config = PyFileConfigLoader(CONFIG.name, path=str(CONFIG.parent)).load_config()
    config.merge(Config({"CourseDirectory": {"root": str(course)}, **sections}))
    return config


def convert(converter, config):
    """Run one of nbgrader's converters. Raises Failed with the last line of its log."""
    log, text = get_logger(), io.StringIO()
    handler = logging.StreamHandler(text)
    log.addHandler(handler)
    try:
        with contextlib.redirect_stderr(text):  # the log's own handler, where an application has set one
            converter(coursedir=CourseDirectory(config=config), config=config).start()
    except NbGraderException as error:
        said = [
            line
            for line in text.getvalue().splitlines()
            if re.match(r"[\w.]+(Error|Exception|Missing\w+)\b", line)
        ]
        raise Failed(said[-1] if said else str(error)) from error
    finally:
        log.removeHandler(handler)


def generate(course, assignment, *, database=True):
    """nbgrader's release/ASSIGNMENT from source/ASSIGNMENT in a course folder; its cells go into the gradebook, if any."""
    sections = {"GenerateAssignment": {"no_database": not database, "force": True}}
    if not database:
        sections["SaveCells"] = {"enabled": False}
    sections["CourseDirectory"] = {"root": str(course), "assignment_id": assignment}
    convert(GenerateAssignment, nbgrader_settings(course, **sections))
    return Path(course, "release", assignment, f"{assignment}.ipynb")


def released(source):
    """The student's notebook made from a source, as text in normal form, not run."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "source", source.stem, source.name)
        place.parent.mkdir(parents=True)
        place.write_bytes(source.read_bytes())
        return nbplugin.normalised(generate(folder, source.stem, database=False).read_text(encoding="utf-8"))


def not_run(text):
    """The text of a notebook without its outputs and the record of what they are of, in normal form."""
    nb = nbplugin.read(text)
    nb.metadata.pop(nbplugin.RECORD, None)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbplugin.normalised(nbformat.writes(nb))


def sources(numbers=()):
    """The source notebooks, all or those whose names begin so. Raises FileNotFoundError."""
    found = sorted(SOURCES.glob("[0-9][0-9]_*.ipynb"))
    for number in numbers:
        if not any(path.name.startswith(number) for path in found):
            there = ", ".join(path.name[:2] for path in found)
            raise FileNotFoundError(
                f"no exercises {number!r}: one of {there} was expected, for example {there[:2]}"
            )
    return [path for path in found if not numbers or path.name.startswith(tuple(numbers))]


def differing(numbers=()):
    """The students' notebooks that are not what their source gives, or were not run since, as (source, path)."""
    found = []
    for source in sources(numbers):
        path = RELEASED / source.name
        text = path.read_text(encoding="utf-8") if path.exists() else None
        fresh = text is not None and not nbplugin.rule_problems(nbplugin.read(text), "fresh")
        if not fresh or not_run(text) != released(source):
            found.append((source, path))
    return found


def left_over():
    """Students' notebooks without a source."""
    return sorted({path.name for path in RELEASED.glob("*.ipynb")} - {path.name for path in sources()})


def write(source, path):
    """Make a student's notebook, run it with its stubs, and store both; returns the seconds that it ran."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder, path.name)
        nbplugin.write(new, released(source))
        seconds = nbplugin.render(new).seconds
        nbplugin.write(path, new.read_text(encoding="utf-8"))
    return seconds
