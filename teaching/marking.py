"""Marks what a class handed in: `python -m teaching collect FOLDER`, then `autograde`, `feedback`, `marks`.

A course folder (`--course`, by default class/) is nbgrader's: source, release, submitted, autograded, feedback, gradebook.db;
and marking/, with one file for each submission that is marked. nbgrader does the marking, with three changes: what a student
edited or deleted is put back from the notebook that was released (`Restore`), the kernel runs in `teaching.sandbox`
(`Sandbox`), and the feedback hides the hidden tests (`HideTracebacks`). Text answers are marked by hand in nbgrader's own page
in JupyterLab, opened in the course folder.
"""

import hashlib
import json
import os
import re
import time
import zipfile
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import pandas as pd
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Dict

from teaching import sandbox
from teaching.export import STUDENTS, TEACHERS
from teaching.release import CONFIG, ROOT, SOURCES, Failed, convert, generate, nbgrader_settings

LARGEST = 50 * sandbox.MB  # of a notebook that is handed in
DEFAULT = sandbox.Limits()
KEY = "marking"  # in a notebook's metadata: what happened when it was marked


def grade_id(cell):
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


# --- nbgrader's steps, changed


class Restore(NbGraderPreprocessor):
    """Puts back what a student edited, deleted or moved among the cells that are not to be changed, and says so."""

    def preprocess(self, nb, resources):
        about = resources["nbgrader"]
        path = Path(
            "release", about["assignment"], f"{about['notebook']}.ipynb"
        )  # nbgrader works in the course folder
        given = nbformat.read(path, as_version=4)
        nb.cells, notes = restored(nb.cells, given.cells)
        nb.nbformat_minor = given.nbformat_minor
        nb.metadata[KEY] = {"notes": notes}
        return nb, resources


def restored(submitted, given):
    """(the cells of `given` with the answers of `submitted`, what was put back). Cells of the student's own stay in their place.

    Of a cell that is there twice the last counts, as with nbgrader.
    """
    known = {grade_id(cell) for cell in given} - {None}
    answers = {grade_id(cell): cell for cell in submitted if grade_id(cell) in known}
    own, place = defaultdict(list), None
    for cell in submitted:
        if answers.get(grade_id(cell)) is cell:
            place = grade_id(cell)
        else:
            cell.metadata.pop("nbgrader", None)
            own[place].append(cell)
    cells, notes = own[None], []
    for cell in given:
        name = grade_id(cell)
        theirs = answers.get(name)
        if theirs is not None and not utils.is_locked(cell):
            cell.source = theirs.source
        elif utils.is_grade(cell) and theirs is None:
            notes.append(f"deleted cell {name}, put back")
        elif utils.is_grade(cell) and theirs.source.strip() != cell.source.strip():
            notes.append(f"edited test cell {name}, put back")
        cells += [cell, *own[name]]
    for n, cell in enumerate(cells):
        cell["id"] = f"cell-{n}"  # a copied cell has the id of the other, and one from an old editor has none
    return cells, notes


class Sandbox(NbGraderPreprocessor):
    """Runs the notebook's kernel in `teaching.sandbox`, where nbgrader's Execute runs it with the teacher's rights."""

    limits = Dict(help="as in sandbox.Limits").tag(config=True)
    isolated = Bool(True, help="namespaces; False: limits alone").tag(config=True)

    def preprocess(self, nb, resources):
        status, notes = sandbox.execute(nb, sandbox.Limits(**self.limits), self.isolated)
        for cell in nb.cells:
            if utils.is_grade(cell):  # nbgrader takes a library's warning for a failure
                for out in cell.get("outputs", []):
                    out.update({"name": "stdout"} if out.output_type == "stream" else {})
        nb.metadata[KEY] = {"status": status, "notes": nb.metadata.get(KEY, {}).get("notes", []) + notes}
        return nb, resources


class HideTracebacks(NbGraderPreprocessor):
    """Leaves of an error in a test cell its message: the traceback would show the lines of hidden tests."""

    def preprocess_cell(self, cell, resources, cell_index):
        for out in cell.get("outputs", []) if utils.is_locked(cell) else []:
            if out.output_type == "error":
                out.traceback = [f"{out.ename}: {out.evalue}"]
        return cell, resources


# --- the course folder


class Course:
    """A class: its folder, and the exercises that it was given.

    Raises ValueError for a folder among the files of the repository.
    """

    def __init__(self, folder, exercises=SOURCES):
        self.folder, self.exercises = Path(folder).resolve(), Path(exercises).resolve()
        if self.folder == ROOT or (
            ROOT in self.folder.parents and self.folder.relative_to(ROOT).parts[0] in (*STUDENTS, *TEACHERS)
        ):
            raise ValueError(
                f"{folder} belongs to the course's own files: another folder was expected for the class, for example class"
            )
        found = sorted(self.exercises.glob("*.ipynb"))
        if not found:
            raise ValueError(
                f"no notebook in {exercises}: a folder with the sources of exercises was expected"
            )
        self.ids = {path.stem: _ids(path.read_bytes()) for path in found}

    def prepare(self, assignment):
        """Let nbgrader know an assignment; again where its source has changed since."""
        new = (self.exercises / f"{assignment}.ipynb").read_bytes()
        source = self.folder / "source" / assignment / f"{assignment}.ipynb"
        given = self.folder / "release" / assignment / f"{assignment}.ipynb"
        if given.exists() and source.exists() and source.read_bytes() == new:
            return
        write(source, new)
        here = f"load_subconfig({CONFIG.name!r}, path={str(CONFIG.parent)!r})\n"
        write(self.folder / "nbgrader_config.py", here.encode())
        generate(self.folder, assignment)

    def submissions(self):
        """(student, assignment) of what is collected, in order. Raises FileNotFoundError where nothing is."""
        found = self.folder.glob("submitted/*/*/*.ipynb")
        found = sorted((path.parts[-3], path.parts[-2]) for path in found if path.stem == path.parts[-2])
        if not found:
            raise FileNotFoundError(
                f"nothing is collected in {self.folder}: python -m teaching collect FOLDER --course {self.folder.name} "
                "was expected before"
            )
        return found

    def submitted(self, student, assignment):
        return self.folder / "submitted" / student / assignment / f"{assignment}.ipynb"

    def gradebook(self):
        return Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}")

    def read(self, *parts, empty=None):
        """What was noted in marking/, or `empty`."""
        path = self.folder.joinpath("marking", *parts)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty

    def note(self, content, *parts):
        text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        write(self.folder.joinpath("marking", *parts), text.encode())


def write(path, content):
    """All of it or nothing, whenever the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


def _ids(content):
    """The grade_ids in the bytes of a notebook; empty where it is none."""
    try:
        cells = json.loads(content)["cells"]
        return {grade_id(cell) for cell in cells} - {None}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


# --- collect


@dataclass
class Found:
    """A notebook that was handed in."""

    student: str | None
    name: str
    content: bytes
    when: float


def handed_in(folder):
    """The notebooks in a folder: in one folder, or one zip file, for each student; or files STUDENT_05_name.ipynb.

    A student is called as the folder is; of Moodle's "Ann Lee_1234_assignsubmission_file_" as what stands before the number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: a folder with one folder, zip file or notebook for each student was expected"
        )
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.suffix == ".ipynb" and ".ipynb_checkpoints" not in inner.parts:
                    yield Found(path.name, inner.name, _bytes(inner), inner.stat().st_mtime)
                elif inner.suffix == ".zip":
                    yield from _zipped(inner, path.name)
        elif path.suffix == ".zip":
            yield from _zipped(path, path.stem)
        elif path.suffix == ".ipynb":
            yield Found(None, path.name, _bytes(path), path.stat().st_mtime)


def _bytes(path):
    return path.read_bytes() if path.stat().st_size <= LARGEST else b"too large"


def _zipped(path, student):
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                name = item.filename.rsplit("/", 1)[-1]
                if (
                    name.endswith(".ipynb")
                    and not name.startswith(".")
                    and "_checkpoints/" not in item.filename
                ):
                    content = archive.read(item) if item.file_size <= LARGEST else b"too large"
                    yield Found(student, name, content, time.mktime((*item.date_time, 0, 0, -1)))
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OverflowError,
        RuntimeError,
        NotImplementedError,
    ):  # damaged, with a password, or of an unknown kind
        yield Found(student, path.name, b"", path.stat().st_mtime)


def collect(course, folder):
    """Put what was handed in where nbgrader looks for it; returns lines that say what was put where, and what was not.

    A notebook is recognised by the cells in it, whatever it is called. Of several by one student the one with the right name
    counts, or else the newest. Run again after late work came in: what has changed replaces what was there.
    """
    groups, lines, called = defaultdict(list), [], {}
    for found in handed_in(folder):
        student, assignment, problem = _placed(course, found)
        if not problem and called.setdefault(student, found.student) != found.student:
            problem = f"{called[student]!r} is called {student} already"
        if problem:
            lines.append(f"not placed: {'/'.join(filter(None, (found.student, found.name)))}: {problem}")
        else:
            groups[student, assignment].append(found)
    seen = course.read("collected.json", empty={"students": [], "notes": {}})
    folders = {
        _student(path.name if path.is_dir() else path.stem)
        for path in Path(folder).iterdir()
        if (path.is_dir() or path.suffix == ".zip") and path.name[0] not in "._"
    }
    seen["students"] = sorted({*seen["students"], *folders, *(student for student, _ in groups)})
    for (student, assignment), several in sorted(groups.items()):
        *others, best = sorted(several, key=lambda found: (_right_name(found, assignment), found.when))
        course.prepare(assignment)
        write(course.submitted(student, assignment), best.content)
        notes = [] if _right_name(best, assignment) else [f"renamed notebook: {best.name}"]
        notes += [f"handed in as well, not marked: {found.name}" for found in others]
        seen["notes"].setdefault(assignment, {})[student] = notes
        lines.append("; ".join([f"{student}: {assignment}", *notes]))
    course.note(seen, "collected.json")
    return lines


def _right_name(found, assignment):
    return found.name.endswith(f"{assignment}.ipynb")


def _student(name):
    """A name that can be a folder's, and that nbgrader can look for."""
    name = re.sub(r"_\d+_assignsubmission_.*", "", name)
    return re.sub(r"[^\w.@-]+", "-", name).strip("-.") or "nameless"


def _placed(course, found):
    """(student, assignment, None), or what is the matter at the third place."""
    ids = _ids(found.content)
    # not each cell alone: exercises of a teacher's own may share names with others
    most = max(course.ids, key=lambda name: len(ids & course.ids[name]))
    named = [name for name in course.ids if found.name.endswith(f"{name}.ipynb")]
    if not ids & course.ids[most] and not named:
        return None, None, "none of the exercises' cells are in it, and it is not called as one of them"
    assignment = most if ids & course.ids[most] else named[0]
    if found.student is None:
        owner = re.fullmatch(rf"(.+?)[ _-]*{re.escape(assignment)}\.ipynb", found.name)
        if not owner:
            return (
                None,
                None,
                f"whose is it? STUDENT_{assignment}.ipynb was expected, or a folder for each student",
            )
        found.student = owner[1]
    return _student(found.student), assignment, None


# --- autograde, feedback, marks


def pending(course, *, again=False):
    """The submissions that are not marked yet, or have changed since; again: all."""
    found = []
    for student, assignment in course.submissions():
        done = course.read(assignment, f"{student}.json")
        if again or not done or done["digest"] != _digest(course, student, assignment):
            found.append((student, assignment))
    return found


def _digest(course, student, assignment):
    given = course.folder / "release" / assignment / f"{assignment}.ipynb"
    return hashlib.sha256(course.submitted(student, assignment).read_bytes() + given.read_bytes()).hexdigest()


def mark(course, student, assignment, limits=DEFAULT, *, isolated=True):
    """Mark one submission, and note in marking/ that it is done; returns what is noted: status, notes, seconds.

    A process killed in between leaves no such note, and the submission is marked again. Raises SandboxError where no kernel
    starts on this machine.
    """
    begun = time.monotonic()
    where = {"root": str(course.folder), "student_id": student, "assignment_id": assignment}
    content = course.submitted(student, assignment).read_bytes()
    try:
        convert(
            Autograde,
            nbgrader_settings(
                course.folder,
                CourseDirectory=where,
                Autograde={"force": True},
                Sandbox={"limits": asdict(limits), "isolated": isolated},
            ),
        )
    except Failed as error:
        if "SandboxError" in str(error):
            raise sandbox.SandboxError(str(error)) from error
        status, notes = "failed" if _ids(content) else "unreadable", [str(error)[:300]]
    else:
        path = course.folder / "autograded" / student / assignment / f"{assignment}.ipynb"
        about = nbformat.read(path, as_version=4).metadata[KEY]
        status, notes = about["status"], about["notes"]
    done = {"status": status, "notes": notes, "seconds": round(time.monotonic() - begun, 1)}
    course.note({"digest": _digest(course, student, assignment), **done}, assignment, f"{student}.json")
    return done


def feedback(course):
    """A page for each submission that is marked, in feedback/STUDENT/ASSIGNMENT/; returns their paths."""
    pages = []
    for student, assignment in course.submissions():
        if (course.folder / "autograded" / student / assignment).is_dir():
            where = {"root": str(course.folder), "student_id": student, "assignment_id": assignment}
            sections = {"CourseDirectory": where, "GenerateFeedback": {"force": True}}
            convert(GenerateFeedback, nbgrader_settings(course.folder, **sections))
            pages.append(course.folder / "feedback" / student / assignment / f"{assignment}.html")
    return pages


def marks(course):
    """The marks as a DataFrame, one row for each student and assignment: exercises, total, maximum, status, report.

    An exercise to be marked by hand is empty until it is; the total counts what is marked.
    """
    collected = course.read("collected.json", empty={"students": [], "notes": {}})
    rows = []
    with course.gradebook() as gradebook:
        for assignment in sorted({assignment for _, assignment in course.submissions()}):
            maximum = gradebook.find_assignment(assignment).max_score
            for student in collected["students"]:
                row = {"student": student, "assignment": assignment}
                row |= _scores(gradebook, student, assignment)
                row |= _report(course, collected, student, assignment, row)
                rows.append(row | {"maximum": maximum})
    table = pd.DataFrame(rows)
    exercises = sorted({name for name in table.columns if name not in _COLUMNS})
    return table.reindex(columns=[*_COLUMNS[:2], *exercises, *_COLUMNS[2:]]).sort_values(
        ["assignment", "student"]
    )


_COLUMNS = ["student", "assignment", "total", "maximum", "status", "report"]


def _scores(gradebook, student, assignment):
    """Exercise → points, None where it waits for the teacher; and their total."""
    try:
        grades = gradebook.find_submission_notebook(assignment, assignment, student).grades
    except MissingEntry:
        return {"total": 0.0}
    short = [grade.name.rsplit("-", 1)[-1] for grade in grades]
    if len(set(short)) < len(short):  # "vectors-1" and "norms-1", of a teacher's own
        short = [grade.name for grade in grades]
    scores = {
        name: None if grade.needs_manual_grade else grade.score
        for name, grade in zip(short, grades, strict=True)
    }
    return scores | {"total": sum(score or 0.0 for score in scores.values())}


def _report(course, collected, student, assignment, row):
    if not course.submitted(student, assignment).exists():
        return {"status": "missing", "report": "nothing handed in"}
    done = course.read(assignment, f"{student}.json", empty={"status": "not marked yet", "notes": []})
    if "digest" in done and done["digest"] != _digest(course, student, assignment):
        done = {"status": "changed since it was marked", "notes": done["notes"]}
    notes = [*collected["notes"].get(assignment, {}).get(student, []), *done["notes"]]
    notes += [f"by hand: {name}" for name, score in row.items() if score is None]
    return {"status": done["status"], "report": "; ".join(notes)}
