"""Every exercise: its solution passes, the empty stub is `not done yet`, wrong answers get a hint, another right one passes."""

import ast
import contextlib
import io
import json
import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from advlib import exercises
from advlib.exercises import QUIZZES, check, exercise, quiz, require

SOURCES = Path(__file__).resolve().parent.parent / "teaching" / "exercises"
RELEASED = SOURCES.parent.parent / "notebooks" / "exercises"
LESSONS = sorted(path.name[:2] for path in SOURCES.glob("[0-9][0-9]_*.ipynb"))
SOLUTION = re.compile(r"^([ ]*)### BEGIN SOLUTION\n.*?### END SOLUTION\n?", re.M | re.S)
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS\n?", re.S)


def stub(code):
    """What a student is given: nothing where the solution stood, or a function that is not there yet."""
    return SOLUTION.sub(
        lambda m: f"{m[1]}raise NotImplementedError()\n" if m[1] else "# your code here\n", code + "\n"
    )


class Lesson:
    """A source notebook, run cell by cell in one namespace."""

    def __init__(self, number):
        self.number = number
        cells = json.loads(next(SOURCES.glob(f"{number}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
        self.cells = [
            ("".join(cell["source"]), cell["metadata"]["nbgrader"]["grade_id"])
            for cell in cells
            if cell["cell_type"] == "code"
        ]
        self.solutions = {self.name(i): code for code, i in self.cells if i.startswith("s-")}
        self.tests = {self.name(i): code for code, i in self.cells if i.startswith("t-")}
        self.answers = runpy.run_path(str(SOURCES / f"wrong_{number}.py"))

    def name(self, grade_id):
        return f"{self.number}.{grade_id.rsplit('-', 1)[1]}"

    def run(self, change=lambda code: code):
        """(what the test cells print, the namespace at the end)."""
        space, said = {}, {}
        for code, grade_id in self.cells:
            printed = execute(change(code), space)
            if grade_id.startswith("t-"):
                said[self.name(grade_id)] = printed
        return said, space

    def judge(self, name, code, space, hidden=False):
        space = dict(space)
        execute(code, space)
        return execute(self.tests[name] if hidden else HIDDEN.sub("", self.tests[name] + "\n"), space)


def execute(code, space):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "cell", "exec"), space)
    return out.getvalue().strip()


# one lesson for every change, as a lesson takes ten seconds and more; all of them in .ci/full
SOME = [n if n == "05" else pytest.param(n, marks=pytest.mark.full) for n in LESSONS]


@pytest.mark.slow
@pytest.mark.parametrize("number", SOME)
def test_right_empty_and_wrong_answers(number):
    lesson = Lesson(number)
    said, space = lesson.run()
    assert said == {name: f"{name}: ok" for name in lesson.tests}
    empty, _ = lesson.run(lambda code: HIDDEN.sub("", stub(code)))
    assert empty == {name: f"{name}: not done yet" for name in lesson.tests}
    wrong, otherwise = lesson.answers["WRONG"], lesson.answers["OTHERWISE"]
    assert set(wrong) == set(lesson.tests) and 4 <= len(lesson.tests) <= 6
    for name, answers in wrong.items():
        assert len(answers) >= 3, name
        for what, code in answers.items():
            assert lesson.judge(name, code, space).startswith(f"{name}: hint: "), (name, what)
    code_asked = {name for name, code in lesson.solutions.items() if name in lesson.tests and "def " in code}
    assert 2 * len(code_asked) >= len(lesson.tests) and code_asked <= set(otherwise)
    for name, code in otherwise.items():
        assert lesson.judge(name, code, space, hidden=True) == f"{name}: ok"


@pytest.mark.parametrize("number", LESSONS)
def test_form(number):
    """nbgrader's metadata: solutions can be edited, checks are locked and have points; no solution is stored run."""
    lesson = Lesson(number)
    cells = json.loads(next(SOURCES.glob(f"{number}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
    marks = [cell["metadata"]["nbgrader"] for cell in cells]
    assert len({mark["grade_id"] for mark in marks}) == len(marks)
    for cell, mark in zip(cells, marks, strict=True):
        code = "".join(cell["source"])
        assert not (mark["solution"] and mark["locked"])
        assert mark["solution"] or mark["locked"] or "quiz(" in code
        assert not mark["grade"] or mark["points"] > 0
        assert ("### BEGIN SOLUTION" in code) <= mark["solution"]
        assert not cell.get("outputs")
    assert "quiz(" in lesson.cells[-1][0]


def draws(code):
    """Whether a cell calls advlib.plots or Matplotlib, also in a solution."""
    called = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return any(
        isinstance(func, ast.Attribute) and getattr(func.value, "id", None) in ("plots", "plt")
        for func in called
    )


@pytest.mark.parametrize("number", LESSONS)
def test_alt_text_of_every_figure(number):
    """The cells that draw, and those with an image among their stored outputs, have a text of ten words or more."""
    stored = json.loads(next(RELEASED.glob(f"{number}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
    shown = {
        cell["id"]
        for cell in stored
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    }
    source = json.loads(next(SOURCES.glob(f"{number}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
    code = {cell["id"]: "".join(cell["source"]) for cell in source if cell["cell_type"] == "code"}
    assert shown <= set(code)
    told = {cell["id"]: cell["metadata"]["alt"] for cell in source if "alt" in cell["metadata"]}
    assert set(told) == shown | {name for name, text in code.items() if draws(text)}
    for name, text in told.items():
        assert len(text.split()) >= 10 and text.endswith("."), name


@pytest.mark.parametrize("number", LESSONS)
def test_quiz(number, capsys):
    questions = json.loads(QUIZZES.read_text(encoding="utf-8"))[number]
    assert len(questions) == 5
    for question in questions:
        letters = "abcd"[: len(question["choices"])]
        assert question["answer"] in letters and set(question["hints"]) == set(letters) - {question["answer"]}
    right = "".join(question["answer"] for question in questions)
    quiz(number)
    printed = capsys.readouterr().out
    assert "right" not in printed.splitlines()[-1]
    (path,) = RELEASED.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (stored,) = [cell["outputs"] for cell in cells if "".join(cell["source"]).strip() == f'quiz("{number}")']
    assert "".join(line for output in stored for line in output["text"]) == printed
    quiz(number, right)
    assert capsys.readouterr().out.endswith("5 of 5 right\n")
    other = "".join(next(k for k in "abc" if k != letter) for letter in right)
    quiz(number, other[:4] + ".")
    out = capsys.readouterr().out
    assert out.endswith("0 of 5 right\n") and out.count("not yet: ") == 4 and "not answered yet" in out


def test_quiz_length_tells_nothing():
    """The longest choice is right about as often as any other: a guess by length gains little, in any lesson."""
    quizzes = json.loads(QUIZZES.read_text(encoding="utf-8"))
    longest, shortest, letters = Counter(), Counter(), Counter()
    for number, questions in quizzes.items():
        for question in questions:
            length = dict(zip("abcd", map(len, question["choices"]), strict=True))
            right = length.pop(question["answer"])
            longest[number] += right > max(length.values())
            shortest[number] += right < min(length.values())
            letters[question["answer"]] += 1
        assert longest[number] <= 2 and shortest[number] <= 2, number
    total = letters.total()
    assert total / 5 <= longest.total() <= total / 3
    assert total / 10 <= shortest.total() <= total / 4
    assert all(total / 5 <= letters[letter] <= total * 0.3 for letter in "abcd"), letters


# --- the machinery


@pytest.fixture
def twice(monkeypatch):
    monkeypatch.setattr(exercises, "EXERCISES", {})

    @exercise("99.1")
    def twice(f):
        require(f(3) == 6, "try it on 3")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda v: 2 * v, "ok"),
        (lambda v: v + v, "ok"),
        (lambda v: v + 1, "hint: try it on 3"),
        (lambda v: None, "not done yet"),
        (lambda v: ..., "not done yet"),
        (..., "not done yet"),
        (None, "not done yet"),
        (lambda v: v / 0, "hint: it stopped with ZeroDivisionError: division by zero"),
        (7, "hint: it stopped with TypeError: 'int' object is not callable"),
    ],
)
def test_check_says_one_line(twice, capsys, answer, line):
    check("99.1", answer)
    assert capsys.readouterr().out == f"99.1: {line}\n"


def test_a_stub_is_not_done(twice, capsys):
    def empty(v):
        raise NotImplementedError

    check("99.1", empty)
    assert capsys.readouterr().out == "99.1: not done yet\n"


@pytest.mark.parametrize("answer", [lambda v: v + 1, ...])
def test_marking_raises(twice, monkeypatch, answer):
    """Under nbgrader a cell that does not raise has all its points."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(AssertionError, match=r"^99\.1: "):
        check("99.1", answer)
    check("99.1", lambda v: 2 * v)


def test_check_refuses(twice):
    with pytest.raises(ValueError, match=r"no exercise is called '00\.9'"):
        check("00.9", 1)
    with pytest.raises(TypeError, match="got 2 answers: 1 were expected"):
        check("99.1", 1, 2)
    with pytest.raises(ValueError, match="3 answers for 5 questions"):
        quiz(LESSONS[0], "abc")
    with pytest.raises(ValueError, match="no quiz for lesson '77'"):
        quiz("77")


def test_a_released_exercise_is_locked_where_nothing_is_to_be_written():
    pytest.importorskip("nbgrader")
    from advlib.nbplugin import read
    from teaching import release

    nb = read(release.released(release.sources(["00"])[0]))
    marks = [(cell.metadata.get("nbgrader", {}), cell.metadata) for cell in nb.cells]
    assert any(mark.get("locked") for mark, _ in marks) and any(mark.get("solution") for mark, _ in marks)
    for mark, metadata in marks:
        to_fill_in = mark.get("solution", False)
        locked = (
            {"deletable": False}
            if to_fill_in
            else {"deletable": False, "editable": False}
            if mark.get("locked")
            else {}
        )
        assert {key: metadata[key] for key in ("deletable", "editable") if key in metadata} == locked, mark
