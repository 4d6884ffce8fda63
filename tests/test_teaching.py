"""A class hands in: what each is marked, what is named in the report, and that nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("nbgrader", reason="marking needs the extra teach: pip install -e '.[teach]'")

import nbformat
from browser import chromium, end, find_chromium
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from teaching import export, marking, release, sandbox
from teaching.__main__ import app
from teaching.sandbox import Limits

ROOT = Path(__file__).resolve().parent.parent
WHY_NOT = sandbox.isolation()
isolated = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
TINY = "77_tiny"
QUICK = Limits(cell=3, total=30, memory=1000, output=2, disk=50)


def source(name=TINY):
    """Two exercises in code and one in words, without TensorFlow."""

    def cell(make, grade_id, text, points=0, solution=False):
        mark = {"grade_id": grade_id, "grade": points > 0, "solution": solution, "locked": not solution}
        mark |= {"schema_version": 3, "task": False} | ({"points": points} if points else {})
        return make(text, metadata={"nbgrader": mark}, id=grade_id)

    hidden = "### BEGIN HIDDEN TESTS\nassert double(-1.5) == -3  # secret\n### END HIDDEN TESTS"
    return new_notebook(
        cells=[
            cell(new_markdown_cell, "p-1", "Double, and add."),
            cell(
                new_code_cell,
                "s-1",
                f"def double(x):\n    {BEGIN}\n    return 2 * x\n    {END}",
                solution=True,
            ),
            cell(new_code_cell, "t-1", f"assert double(2) == 4\n{hidden}", 2),
            cell(
                new_code_cell, "s-2", f"sum = ...  # your answer\n{BEGIN}\nsum = 1 + 2\n{END}", solution=True
            ),
            cell(new_code_cell, "t-2", "assert sum == 3", 1),
            cell(new_markdown_cell, "s-3", f"{BEGIN}\nBecause.\n{END}", 3, solution=True),
        ]
    )


BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
RIGHT = {"s-1": "def double(x):\n    return x + x", "s-2": "sum = 3", "s-3": "So it is."}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(folder with the source, the notebook that is given to students)."""
    folder = tmp_path_factory.mktemp("exercises")
    nbformat.write(source(), folder / f"{TINY}.ipynb")
    return folder, nbformat.reads(release.released(folder / f"{TINY}.ipynb"), as_version=4)


def answered(given, answers):
    """The notebook with texts of cells changed; a text of None deletes the cell."""
    nb = nbformat.reads(nbformat.writes(given), as_version=4)
    for cell in nb.cells:
        cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source) or ""
    nb.cells = [cell for cell in nb.cells if answers.get(cell.metadata.nbgrader.grade_id, "") is not None]
    return nb


def hand_in(folder, given, students, name=TINY):
    """Student → answers, or (answers, file's name)."""
    for student, what in students.items():
        answers, file = what if isinstance(what, tuple) else (what, f"{name}.ipynb")
        (folder / student).mkdir(parents=True)
        nbformat.write(answered(given, answers), folder / student / file)
    return folder


def rows(course):
    table = marking.marks(course)
    return {row["student"]: row for row in table.to_dict("records")}


# --- release


def test_the_student_gets_stubs_and_no_hidden_test(tiny):
    _, given = tiny
    cells = {cell.metadata.nbgrader.grade_id: cell.source for cell in given.cells}
    assert cells["s-1"] == "def double(x):\n    raise NotImplementedError()"
    assert cells["s-2"] == "sum = ...  # your answer\n# your code here"
    assert cells["t-1"].strip() == "assert double(2) == 4"
    assert cells["s-3"] == "*Your answer:*"


def test_the_same_source_gives_the_same_bytes(tiny):
    path = tiny[0] / f"{TINY}.ipynb"
    assert release.released(path) == release.released(path)


def test_what_is_stored_is_what_the_sources_give():
    assert [path.name for _, path in release.differing()] == []
    assert release.left_over() == []


def test_check_names_a_notebook_that_was_edited(tmp_path, monkeypatch):
    stored = release.RELEASED / next(release.RELEASED.glob("05*")).name
    monkeypatch.setattr(release, "RELEASED", tmp_path / "notebooks" / "exercises")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    release.RELEASED.mkdir(parents=True)
    text = stored.read_text(encoding="utf-8")
    (release.RELEASED / stored.name).write_text(
        text.replace("# your answer", "# my answer", 1), encoding="utf-8"
    )
    run = CliRunner().invoke(app, ["release", "--check", "05"])
    assert run.exit_code == 1 and "python -m teaching release 05" in run.output
    (release.RELEASED / stored.name).write_text(text, encoding="utf-8")
    assert CliRunner().invoke(app, ["release", "--check", "05"]).exit_code == 0


def test_release_names_what_is_not_there():
    run = CliRunner().invoke(app, ["release", "55"])
    assert run.exit_code == 2 and "no exercises '55'" in run.output


# --- a class


@isolated
def test_a_class(tiny, tmp_path):
    """Right, partly, empty, wrong, crashing, looping; a test cell edited or deleted; a notebook renamed, damaged, missing."""
    exercises, given = tiny
    students = {
        "right": RIGHT,
        "partly": {"s-1": RIGHT["s-1"], "s-3": "Perhaps."},
        "empty": {},
        "wrong": {"s-1": "def double(x):\n    return abs(2 * x)", "s-2": "sum = 4"},
        "crashing": RIGHT | {"s-2": "import os\nos._exit(1)"},
        "looping": RIGHT | {"s-1": "def double(x):\n    while True:\n        pass"},
        "edited": {"t-1": "assert True", "s-2": "sum = 3"},
        "deleted": {"t-1": None, "s-2": "sum = 3"},
        "renamed": (RIGHT, "homework final (2).ipynb"),
    }
    folder = hand_in(tmp_path / "in", given, students)
    (folder / "absent").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / f"{TINY}.ipynb").write_text("{", encoding="utf-8")
    (folder / "lost.ipynb").write_text("{}", encoding="utf-8")
    course = marking.Course(tmp_path / "class", exercises)
    lines = marking.collect(course, folder)
    assert any(line.startswith("not placed: lost.ipynb") for line in lines)
    assert f"renamed: {TINY}; renamed notebook: homework final (2).ipynb" in lines
    for student, assignment in marking.pending(course):
        marking.mark(course, student, assignment, QUICK)
    assert marking.pending(course) == []
    row = rows(course)
    assert {name: (r["1"], r["2"], r["total"]) for name, r in row.items() if name not in ("absent", "damaged")} == {
        "right": (2, 1, 3), "partly": (2, 0, 2), "empty": (0, 0, 0), "wrong": (0, 0, 0), "crashing": (2, 0, 2),
        "looping": (0, 1, 1), "edited": (0, 1, 1), "deleted": (0, 1, 1), "renamed": (2, 1, 3),
    }  # fmt: skip
    assert {r["maximum"] for r in row.values()} == {6}
    status = {name: r["status"] for name, r in row.items() if r["status"] != "marked"}
    assert status == {
        "absent": "missing",
        "damaged": "unreadable",
        "crashing": "crashed",
        "looping": "timed out",
    }
    assert "in s-2; nothing counts after that" in row["crashing"]["report"]
    assert "timed out in t-1" in row["looping"]["report"]
    assert "edited test cell t-1, put back" in row["edited"]["report"]
    assert "deleted cell t-1, put back" in row["deleted"]["report"]
    assert "renamed notebook: homework final (2).ipynb" in row["renamed"]["report"]
    assert "by hand: 3" in row["right"]["report"] and row["empty"]["3"] == 0
    assert "by hand" not in row["empty"]["report"]

    pages = {path.parent.parent.name: path.read_text(encoding="utf-8") for path in marking.feedback(course)}
    assert set(pages) == set(students)
    for page in pages.values():
        assert "secret" not in page and "HIDDEN" not in page
        assert "http" not in "".join(line for line in page.splitlines() if "src=" in line or "<link" in line)
    assert "AssertionError" in pages["wrong"]


@isolated
def test_late_and_repeated_work(tiny, tmp_path):
    """What was handed in again is marked again, and nothing else; a mark given by hand stays."""
    exercises, given = tiny
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, hand_in(tmp_path / "1", given, {"ann": {"s-3": "So."}, "ben": RIGHT}))
    for student, assignment in marking.pending(course):
        marking.mark(course, student, assignment, QUICK)
    with course.gradebook() as gradebook:
        grade = gradebook.find_grade("s-3", TINY, TINY, "ben")
        grade.manual_score, grade.needs_manual_grade = 2.5, False
        gradebook.db.commit()
    marking.collect(course, hand_in(tmp_path / "2", given, {"ann": RIGHT}))
    assert marking.pending(course) == [("ann", TINY)]
    marking.mark(course, "ann", TINY, QUICK)
    row = rows(course)
    assert row["ann"]["total"] == 3 and row["ben"]["total"] == 5.5


def soon(url, process, said):
    """The page at `url`: a server names its address before it listens there."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            assert process.poll() is None and time.monotonic() < until, f"{error}\n{''.join(said)}"
            time.sleep(0.5)


@pytest.fixture
def page_for_marking(tiny, tmp_path):
    """(course, where a browser logs in to it, its HTML): nbgrader's page for a submission, in the class's JupyterLab."""
    exercises, given = tiny
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, hand_in(tmp_path / "in", given, {"ann": RIGHT}))
    marking.mark(course, "ann", TINY, QUICK)
    with course.gradebook() as gradebook:
        number = gradebook.find_submission_notebook(TINY, TINY, "ann").id
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        env[variable] = str(tmp_path / variable.lower())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=course.folder, env=env, **options)
    try:
        address = next(
            found for line in process.stdout if (found := re.search(r"(http://\S+)/lab\?(token=\w+)", line))
        )
        said = []  # or it would wait to be read
        threading.Thread(target=said.extend, args=[process.stdout], daemon=True).start()
        path = f"/formgrader/submissions/{number}/"
        page = soon(f"{address[1]}{path}?{address[2]}", process, said)
        yield course, f"{address[1]}/login?{address[2]}&next={path}", page
    finally:
        end(process)


@isolated
def test_the_page_for_marking_by_hand(page_for_marking):
    """It shows the submission, and asks no other host."""
    _, _, page = page_for_marking
    assert "So it is." in page and "formgrade.js" in page
    assert not re.findall(r"(?:src|href)=[\"']https?://", page)


@isolated
def test_a_mark_and_a_comment_by_hand(page_for_marking, tmp_path):
    """What a teacher types into the page is in the gradebook, the marks and the student's feedback."""
    find_chromium()
    course, url, _ = page_for_marking
    with chromium(tmp_path) as page:
        page.open(url)
        page.wait_for(
            "document.querySelectorAll('.score.needs_manual_grade').length === 1", "an answer to mark"
        )
        page.wait_for("formgrader.comment_uis.length", "comments")
        for field, value in ((".score.needs_manual_grade", "2.5"), ("textarea.comment", "Say why.")):
            page.evaluate(f"""(() => {{
                const field = [...document.querySelectorAll('{field}')].at(-1);
                field.focus();
                field.value = '{value}';
                field.dispatchEvent(new Event('change', {{bubbles: true}}));
            }})()""")
        page.wait_for("!document.querySelector('.needs_manual_grade')", "the mark to be saved")
        page.wait_for("jQuery.active === 0", "everything to be saved")
    assert rows(course)["ann"]["3"] == 2.5 and rows(course)["ann"]["report"] == ""
    with course.gradebook() as gradebook:
        assert gradebook.find_comment("s-3", TINY, TINY, "ann").comment == "Say why."
    marking.feedback(course)
    assert any("Say why." in path.read_text(encoding="utf-8") for path in course.folder.rglob("*.html"))


@isolated
def test_by_the_command_line(tiny, tmp_path):
    exercises, given = tiny
    folder = hand_in(tmp_path / "in", given, {"ann": RIGHT})
    where = ["--course", str(tmp_path / "class"), "--exercises", str(exercises)]
    said = {}
    for command in (
        ["collect", str(folder)],
        ["autograde"],
        ["feedback"],
        ["marks", "--out", str(tmp_path / "m.csv")],
    ):
        run = CliRunner().invoke(app, [*command, *where])
        assert run.exit_code == 0, run.output
        said[command[0]] = run.output
    assert "isolated: no file but Python and advlib" in said["autograde"] and "ann" in said["autograde"]
    header, row = (tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()
    assert header == "student,assignment,1,2,3,total,maximum,status,report"
    assert row == f"ann,{TINY},2,1,,3,6,marked,by hand: 3"


# --- collect


def test_what_a_learning_platform_gives(tiny, tmp_path):
    """Moodle's folders, zip files, flat files; two versions; two names that would be one."""
    exercises, given = tiny
    folder = tmp_path / "in"
    text = nbformat.writes(answered(given, RIGHT))
    for place in (
        "Ann Lee_4711_assignsubmission_file_/77_tiny.ipynb",
        "ben_77_tiny.ipynb",
        "cleo/77_tiny-Copy1.ipynb",
        "cleo/77_tiny.ipynb",
        "cleo/.ipynb_checkpoints/77_tiny-checkpoint.ipynb",
        "d d/77_tiny.ipynb",
        "d+d/77_tiny.ipynb",
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(folder / "eve.zip", "w") as archive:
        archive.writestr("deep/down/77_tiny.ipynb", text)
        archive.writestr("../../../outside.ipynb", text)
    course = marking.Course(tmp_path / "class", exercises)
    lines = marking.collect(course, folder)
    assert [student for student, _ in course.submissions()] == ["Ann-Lee", "ben", "cleo", "d-d", "eve"]
    assert f"cleo: {TINY}; handed in as well, not marked: 77_tiny-Copy1.ipynb" in lines
    assert any(line.startswith("not placed: d+d/77_tiny.ipynb") for line in lines)
    assert not list(tmp_path.rglob("outside.ipynb"))


def test_a_damaged_zip_stops_nobody_and_its_student_is_seen(tiny, tmp_path):
    exercises, given = tiny
    folder = hand_in(tmp_path / "in", given, {"ann": RIGHT})
    with zipfile.ZipFile(folder / "bob.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{TINY}.ipynb", 100 * "what was handed in, ")
    damaged = bytearray((folder / "bob.zip").read_bytes())
    damaged[45:60] = 15 * b"\xff"  # the data; the directory at the end is whole
    (folder / "bob.zip").write_bytes(damaged)
    (folder / "cleo").mkdir()
    (folder / "cleo" / f"{TINY}.ipynb").write_text(200_000 * "[", encoding="utf-8")
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, folder)
    assert course.submissions() == [("ann", TINY), ("cleo", TINY)]
    assert {row["student"]: row["status"] for row in marking.marks(course).to_dict("records")}[
        "bob"
    ] == "missing"


def test_exercises_of_ones_own_with_one_number_keep_their_points():
    def scores(*names):
        grades = [
            SimpleNamespace(name=n, needs_manual_grade=n == "s-3", score=k + 1.0) for k, n in enumerate(names)
        ]
        found = SimpleNamespace(grades=grades)
        return marking._scores(SimpleNamespace(find_submission_notebook=lambda *where: found), "ann", TINY)

    assert scores("t-1", "t-2", "s-3") == {"1": 1, "2": 2, "3": None, "total": 3}
    assert scores("vectors-1", "norms-1") == {"vectors-1": 1, "norms-1": 2, "total": 3}


@isolated
def test_work_that_changed_since_it_was_marked_is_named(tiny, tmp_path):
    exercises, given = tiny
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, hand_in(tmp_path / "1", given, {"ann": RIGHT}))
    marking.mark(course, "ann", TINY, QUICK)
    assert rows(course)["ann"]["status"] == "marked"
    marking.collect(course, hand_in(tmp_path / "2", given, {"ann": RIGHT | {"s-3": "Late."}}))
    assert rows(course)["ann"]["status"] == "changed since it was marked"


@pytest.mark.parametrize("command", ["autograde", "feedback", "marks"])
def test_before_anything_is_collected(tiny, tmp_path, monkeypatch, command):
    monkeypatch.setattr(sandbox, "isolation", lambda: None)
    run = CliRunner().invoke(app, [command, "--course", str(tmp_path), "--exercises", str(tiny[0])])
    assert run.exit_code == 2 and "nothing is collected" in run.output and "Traceback" not in run.output


def test_a_class_keeps_out_of_the_courses_files(tiny):
    with pytest.raises(ValueError, match="another folder was expected"):
        marking.Course(ROOT / "notebooks" / "class", tiny[0])


def test_cells_of_ones_own_stay_and_a_copy_is_not_marked(tiny):
    _, given = tiny
    nb = answered(given, {"s-2": "sum = 7"})
    nb.cells.insert(3, new_code_cell("print('mine')"))
    nb.cells.append(nbformat.from_dict(json.loads(json.dumps(nb.cells[4]))))
    nb.cells[-1].source = "sum = 3"
    cells, notes = marking.restored(nb.cells, given.cells)
    assert [marking.grade_id(cell) for cell in cells] == [
        "p-1",
        "s-1",
        "t-1",
        None,
        None,
        "s-2",
        "t-2",
        "s-3",
    ]
    assert cells[5].source == "sum = 3" and notes == []


# --- export


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return export.export(tmp_path_factory.mktemp("export") / "students")


def test_the_students_copy_holds_no_answer(copy):
    """Looked for in another way than `export.leaks` does: each solution, as it is printed, in the file or its JSON."""
    files = [path for path in copy.rglob("*") if path.is_file()]
    texts = {
        path: path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.suffix in (".ipynb", ".py", ".md")
    }
    assert len(texts) > 100 and not any(
        part in path.parts for path in files for part in ("teaching", "keys", ".git")
    )
    regions = 0
    for path in sorted((ROOT / "teaching" / "exercises").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for answer in re.findall(
                r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", "".join(cell["source"]), re.S
            ):
                regions += 1
                if len(answer.strip().splitlines()) >= export.LONG:
                    forms = (answer.strip(), json.dumps(answer.strip())[1:-1].replace("\\n", '\\n",\n    "'))
                    assert not [
                        name for name, text in texts.items() if any(form in text for form in forms)
                    ], answer
    assert regions > 50
    assert not [name for name, text in texts.items() if "BEGIN SOLUTION" in text or "BEGIN HIDDEN" in text]


def test_a_leak_is_found(copy, tmp_path):
    """A key, a wrong answer's file, a solution in a student's notebook, a longer one anywhere."""
    _, right, _ = lesson_05()
    place = tmp_path / "copy"
    (place / "notebooks" / "exercises").mkdir(parents=True)
    given = nbformat.read(copy / "notebooks" / "exercises" / "05_measuring_robustness.ipynb", as_version=4)
    assert export.leaks(place) == []
    short = right["s-05-4"].split(BEGIN)[1].split(END)[0].strip()
    nbformat.write(answered(given, {"s-05-4": short}), place / "notebooks" / "exercises" / "05.ipynb")
    (place / "key-7.json").touch()
    (place / "wrong_05.py").touch()
    (place / "notes.md").write_text(
        "Try this:\n" + right["s-05-3"].split(BEGIN)[1].split(END)[0], encoding="utf-8"
    )
    found = export.leaks(place)
    assert [line.partition(":")[0] for line in found] == [
        "key-7.json",
        "notebooks/exercises/05.ipynb",
        "notes.md",
        "wrong_05.py",
    ]


def test_every_file_is_the_students_or_the_teachers(copy):
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("no git checkout: what belongs to the course is not known")
    named = {name.split("/")[0] for name in (*export.STUDENTS, *export.TEACHERS)}
    assert {line.split("/")[0] for line in run.stdout.splitlines()} == named


def test_the_copy_needs_nothing_that_is_not_in_it(copy):
    """No program, test or page of it names a file that stayed with the teacher, and every page's links hold."""
    gone = re.compile(r"\b(?:teaching|site|tools)/[\w./]*\w\.\w+|CONTRIBUTING\.md")
    # course.py says what a copy cannot do, the change log what the course has
    pages = {*copy.rglob("*.py"), *copy.rglob("*.md")} - {copy / "course.py", copy / "CHANGELOG.md"}
    assert len(pages) > 100
    missing = {}
    for path in pages:
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#\s]+)\)", text) if path.suffix == ".md" else []
        named = [path.parent / link for link in links if "://" not in link]
        named += [copy / name for name in gone.findall(text)]
        missing[path.name] = [name.name for name in named if not name.exists()]
    assert {name: found for name, found in missing.items() if found} == {}
    tests = {path.name for path in (copy / "tests").glob("test_*.py")}
    assert {"test_attacks.py", "test_notebooks.py", "test_readme.py"} <= tests
    assert not tests & {"test_guide.py", "test_mutate.py", "test_teaching.py"}


def test_the_copys_readme_says_what_is_there(copy):
    text = (copy / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"## For (teachers|maintainers)|\bteaching/|-m teaching", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:advlib|tools|benchmarks|tests|notebooks|\.ci)/[\w./]*)`", text)
    assert len(named) > 8 and [path for path in {*links, *named} if not (copy / path).exists()] == []


@pytest.mark.full
def test_the_copys_commands_work(copy):
    """course.py starts, every test file can be read without teaching/, and those of the README pass as it is here."""
    for command in (
        ["course.py", "--help"],
        ["-m", "pytest", "-q", "--collect-only", "tests"],
        ["-m", "pytest", "-q", "tests/test_readme.py"],
    ):
        run = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


def test_export_refuses(tmp_path):
    with pytest.raises(FileExistsError, match="a new folder was expected"):
        export.export(tmp_path)
    with pytest.raises(ValueError, match="a folder outside notebooks was expected"):
        export.export(ROOT / "notebooks" / "copy")


# --- the sandbox


def run(*codes, **limits):
    nb = new_notebook(cells=[new_code_cell(code) for code in codes])
    return sandbox.execute(nb, Limits(**{"cell": 10, "total": 30, "memory": 1000, **limits})), nb.cells


def printed(cell):
    return "".join(out.get("text", "") for out in cell.outputs)


@isolated
def test_what_student_code_reaches(tmp_path, monkeypatch):
    """No file of the teacher's, no network, no process, no environment; the library, read-only, and a home."""
    secret = tmp_path / "gradebook.db"
    secret.write_text("secret", encoding="utf-8")
    monkeypatch.setenv("A_TOKEN", "secret")
    code = f"""
import os, socket, subprocess
for path in {[str(secret), str(ROOT / "teaching"), str(ROOT / "notebooks"), str(Path.home() / ".ssh"), "/etc/shadow"]}:
    assert not os.path.exists(path), path
assert "A_TOKEN" not in os.environ and os.environ["NBGRADER_EXECUTION"] == "autograde"
import advlib
for path in (advlib.__file__, os.__file__, "/usr/x"):
    try:
        open(path, "a")
    except OSError:
        continue
    raise SystemExit(path)
with socket.socket() as listening:
    listening.settimeout(2)
    try:
        listening.connect(("127.0.0.1", {_listening()}))
    except OSError:
        pass
    else:
        raise SystemExit("network")
assert all(int(name) < 100 for name in os.listdir("/proc") if name.isdigit())
assert subprocess.run(["mount", "-o", "remount,bind,rw", "/usr"], capture_output=True).returncode
open("mine.txt", "w").write("mine")
print("fine")
"""
    (status, notes), cells = run(code)
    assert (status, notes, printed(cells[0])) == ("marked", [], "fine\n"), cells[0].outputs


def _listening():
    """A port of this machine on which a server listens."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    _SERVERS.append(server)
    return server.getsockname()[1]


_SERVERS = []


@isolated
@pytest.mark.parametrize(
    ("code", "status", "limits"),
    [
        ("import os; os._exit(3)", "crashed", {}),
        ("import ctypes; ctypes.string_at(0)", "crashed", {}),
        ("kept = []\nwhile True: kept.append(bytearray(20_000_000))", "out of memory", {"memory": 500}),
        ("while True: print('flood ' * 100)", "too much output", {"output": 1}),
        ("print('flood ' * 1_000_000)", "too much output", {"output": 1}),
        ("import os\nwhile True: os.fork()", "too many processes", {"memory": 10_000}),
        (
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
            "timed out",
            {"cell": 1, "total": 6},
        ),
    ],
)
def test_a_limit_ends_the_kernel_and_what_came_before_counts(code, status, limits):
    begun = time.monotonic()
    (found, notes), cells = run("print('before')", code, "print('after')", **limits)
    assert found == status and len(notes) >= 1
    assert printed(cells[0]) == "before\n"
    assert all(cell.outputs[0].output_type == "error" for cell in cells[1:])
    assert time.monotonic() - begun < 30


@isolated
def test_a_slow_cell_alone_is_lost():
    (status, notes), cells = run("while True: pass", "print('after')", cell=1)
    assert status == "timed out" and printed(cells[1]) == "after\n" and len(notes) == 1


@isolated
def test_a_disk_full_of_files():
    (status, _), cells = run(
        "with open('a', 'wb') as f:\n    while True: f.write(bytes(1_000_000))", "print(2)", disk=50
    )
    assert status == "marked" and cells[0].outputs[0].ename == "OSError" and printed(cells[1]) == "2\n"


@isolated
def test_a_warning_is_no_failure(tiny, tmp_path):
    """nbgrader gives no points to a test cell that writes to standard error."""
    exercises, given = tiny
    warns = "import warnings\ndef double(x):\n    warnings.warn('old')\n    return 2 * x"
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, hand_in(tmp_path / "in", given, {"ann": RIGHT | {"s-1": warns}}))
    assert marking.mark(course, "ann", TINY, QUICK)["status"] == "marked"
    assert rows(course)["ann"]["1"] == 2


def test_without_namespaces_nothing_is_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "isolation", lambda: "no namespaces here")
    run = CliRunner().invoke(
        app, ["autograde", "--course", str(tmp_path / "class"), "--exercises", str(tiny[0])]
    )
    assert run.exit_code == 2 and "no namespaces here" in run.output and "--no-isolation" in run.output


def test_without_isolation_the_limits_hold():
    nb = new_notebook(cells=[new_code_cell("while True: pass"), new_code_cell("print(2)")])
    status, _ = sandbox.execute(nb, Limits(cell=1, total=30), isolated=False)
    assert status == "timed out" and printed(nb.cells[1]) == "2\n"


# --- a real lesson, and a hundred


def lesson_05():
    """(answers that are right, exercise → points) of a real assignment."""
    path = next((ROOT / "teaching" / "exercises").glob("05_*.ipynb"))
    nb = nbformat.read(path, as_version=4)
    cells = {marking.grade_id(cell): cell for cell in nb.cells}
    right = {name: cell.source for name, cell in cells.items() if name.startswith("s-")}
    points = {
        name[-1]: cell.metadata.nbgrader.points
        for name, cell in cells.items()
        if cell.metadata.nbgrader.grade
    }
    return path, right, points


@isolated
@pytest.mark.full
def test_a_class_of_eight_in_lesson_05(tmp_path):
    path, right, points = lesson_05()
    given = nbformat.read(release.RELEASED / path.name, as_version=4)
    right |= {"s-05-6": "In my words."}
    wrong = {
        "s-05-1": "def three_numbers(y, clean, under):\n    return 1.0, 1.0, 0.0",
        "s-05-2": "counts, success = [6, 5, 4, 3], 1",
    }
    students = {
        "right": right,
        "partly": {name: right[name] for name in ("s-05-1", "s-05-4")},
        "empty": {},
        "wrong": wrong,
        "crashing": right | {"s-05-4": "import os\nos._exit(1)"},
        "looping": right | {"s-05-1": "def three_numbers(y, clean, under):\n    while True:\n        pass"},
        "edited": right | {"s-05-2": "counts = success = ...", "t-05-2": "print('05.2: ok')"},
        "renamed": (right, "my work.ipynb"),
    }
    course = marking.Course(tmp_path / "class")
    marking.collect(course, hand_in(tmp_path / "in", given, students, path.stem))
    for student, assignment in marking.pending(course):
        done = marking.mark(course, student, assignment, Limits(cell=20, total=200))
        print(student, done)
    row = rows(course)

    def expected(*lost):
        return sum(value for name, value in points.items() if name not in (*lost, "6"))

    assert {name: r["total"] for name, r in row.items()} == {
        "right": expected(), "partly": points["1"] + points["4"], "empty": 0, "wrong": 0, "crashing": expected("4", "5"),
        "looping": expected("1"), "edited": expected("2"), "renamed": expected(),
    }  # fmt: skip
    assert {name: r["status"] for name, r in row.items() if r["status"] != "marked"} == {
        "crashing": "crashed",
        "looping": "timed out",
    }
    assert (
        "edited test cell t-05-2" in row["edited"]["report"] and "my work.ipynb" in row["renamed"]["report"]
    )
    assert "s-05-4" in row["crashing"]["report"] and "t-05-1" in row["looping"]["report"]


@isolated
@pytest.mark.full
def test_a_hundred_submissions_and_a_kill_in_the_middle(tiny, tmp_path):
    """The hundredth costs what the first does, and a process that was killed has lost nothing."""
    exercises, given = tiny
    students = {f"s{n:03}": RIGHT if n % 2 else {} for n in range(100)}
    where = ["--course", str(tmp_path / "class"), "--exercises", str(exercises)]
    course = marking.Course(tmp_path / "class", exercises)
    marking.collect(course, hand_in(tmp_path / "in", given, students))
    first = [cost(course, "s000") for _ in range(2)][1]
    command = [sys.executable, "-m", "teaching", "autograde", *where]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while len(marking.pending(course)) > 60:
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = marking.pending(course)
    assert 50 < len(left) <= 60
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(f", {TINY}: ") == len(left) and marking.pending(course) == []
    row = rows(course)
    assert {name: r["total"] for name, r in row.items()} == {
        name: 3 if a else 0 for name, a in students.items()
    }
    last = cost(course, "s099")
    seconds = [course.read(TINY, f"{name}.json")["seconds"] for name in students]
    print(
        f"seconds a submission: {sum(seconds) / 100:.1f}; of this process's own: {first:.2f} at first, {last:.2f} at last"
    )
    assert last < 2 * first


def cost(course, student):
    """Processor seconds of marking without the kernel's, which other programs on the machine do not change."""
    begun = time.process_time()
    marking.mark(course, student, TINY, QUICK)
    return time.process_time() - begun
