"""The students' copy of the course: `python -m teaching export DEST`, without solutions, hidden tests and keys.

What is copied is named here, not what is left out: a key or a class's folder that lies in the checkout stays there, and so does
the history of the repository. The copy is searched for the solutions before it is called done.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDENTS = (
    ".gitattributes", ".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-lessons", "README.md", "advlib",
    "benchmarks", "course.py", "docs", "environment.yml", "notebooks", "postBuild", "pyproject.toml", "requirements.txt", "tests",
    "tools/readme_figure.py", "tools/train.py",
)  # fmt: skip
# What a maintainer runs needs teaching/ or the repository's history.
TEACHERS = (".ci", "CONTRIBUTING.md", "site", "teaching", "tools")
_STAY = "|".join(
    path.stem for path in sorted(ROOT.glob("tools/*.py")) if f"tools/{path.name}" not in STUDENTS
)
# Tests of what stays with the teacher name it.
_TEACHERS_FILE = re.compile(
    rf"from teaching|import teaching|[\"'](teaching|site)[\"'/]|-m teaching|CONTRIBUTING\.md|^ *(import|from) ({_STAY})\b",
    re.M,
)
_REGION = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1", re.S)
_MARKS = ("### BEGIN SOLUTION", "### BEGIN HIDDEN TESTS")
LONG = (
    3  # lines of a solution that are looked for everywhere; a shorter one may be a line that a lesson teaches
)


class Leak(Exception):
    """A solution is among the students' files."""


def export(destination):
    """Write the students' copy into a new folder; returns its path.

    Raises FileExistsError for a folder that is there, ValueError for one inside what is copied, Leak where a solution is found,
    and leaves nothing then.
    """
    destination = Path(destination).resolve()
    if destination.exists():
        raise FileExistsError(
            f"{destination} is there already: a new folder was expected, for example ../course-for-students"
        )
    inside = ROOT in destination.parents and destination.relative_to(ROOT).parts[0]
    if inside in (*STUDENTS, *TEACHERS):
        raise ValueError(
            f"{destination} lies among the course's own files: a folder outside {inside} was expected"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".export-") as folder:
        copy = Path(folder, "copy")
        copy.mkdir()
        for name in STUDENTS:
            (copy / name).parent.mkdir(exist_ok=True)
            _copy(ROOT / name, copy / name)
        readme = copy / "README.md"
        readme.write_text(_readme(readme.read_text(encoding="utf-8"), copy), encoding="utf-8")
        if found := leaks(copy):
            raise Leak("a solution is among the students' files; nothing was written: " + "; ".join(found))
        copy.rename(destination)
    return destination


def _copy(source, target):
    if source.is_file():
        shutil.copy2(source, target)
    elif source.is_dir():
        shutil.copytree(source, target, ignore=_left_out)


def _left_out(folder, names):
    """Of tests those of what stays with the teacher; everywhere what programs leave behind."""
    made = {name for name in names if name in ("__pycache__", ".ipynb_checkpoints") or name.endswith(".pyc")}
    tests = Path(folder).relative_to(ROOT).parts[0] == "tests"
    texts = {name for name in names if tests and name.endswith(".py")}
    return made | {
        name for name in texts if _TEACHERS_FILE.search(Path(folder, name).read_text(encoding="utf-8"))
    }


def _readme(text, copy):
    """Without what is said to teachers and maintainers, and without table rows about files that are not in the copy."""
    text = re.sub(r"^## For (teachers|maintainers)\n.*?(?=^## )", "", text, flags=re.M | re.S)
    row = re.compile(r"^\| `([\w.]+/[\w./]*)`.*\n", re.M)
    return row.sub(lambda match: match[0] if (copy / match[1]).exists() else "", text)


def leaks(folder):
    """Where solutions, hidden tests or keys are found among the files of a folder, as a list of lines."""
    answers = list(_answers())
    found = []
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if re.fullmatch(r"key-\d+\.json|wrong_\d\d\.py", path.name):
            found.append(name)
        if path.suffix not in (".ipynb", ".py", ".md", ".json", ".txt", ".html") or not path.is_file():
            continue
        text = _text(path)
        found += [f"{name}: {mark}" for mark in _MARKS if mark in text]
        for where, answer in answers:
            short = answer.count("\n") + 1 < LONG
            if answer in text and not (short and not name.startswith("notebooks/exercises/")):
                found.append(f"{name}: {where}: {answer[:60]!r}")
    return found


def _answers():
    """(exercise, text without indentation) of each solution and hidden test."""
    for path in sorted((ROOT / "teaching" / "exercises").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for region in _REGION.finditer("".join(cell["source"])):
                yield cell["metadata"]["nbgrader"]["grade_id"], _flat(region[2])


def _text(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return _flat(text)


def _flat(text):
    return "\n".join(line.strip() for line in text.strip().splitlines() if line.strip())
