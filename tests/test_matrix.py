"""The matrix of conditions: what a row sets and counts, what is stored and said, with a fake runner instead of notebooks."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import matrix  # noqa: E402

FACTS = {
    "python": "3.11.7", "tensorflow": "2.20.0", "keras": "3.10.0", "numpy": "2.0.0", "system": "Linux x86_64", "cores": 2,
    "time zone": "UTC", "decimal point": ".", "hash seed": "random",
}  # fmt: skip
VERBOSE = """onednn_verbose,v1,info,cpu,runtime:threadpool,nthr:1
onednn_verbose,v1,info,cpu,isa:Intel AVX2
onednn_verbose,v1,primitive,exec,cpu,convolution,brgconv:avx2
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with two lessons, of two and one code cells, and a library of one file."""
    for name in ("notebooks", "advlib", "tools"):
        (tmp_path / name).mkdir()
    for name, cells in (("00_a", ("a0", "a1")), ("01_b", ("b0",))):
        kinds = [("text", "markdown"), *((cell, "code") for cell in cells)]
        content = {"cells": [{"id": cell, "cell_type": kind} for cell, kind in kinds]}
        (tmp_path / f"notebooks/{name}.ipynb").write_text(json.dumps(content))
    for name in ("advlib/norms.py", "pyproject.toml", "requirements.txt", "CONTRIBUTING.md"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "WORK", tmp_path / "work")
    monkeypatch.setattr(matrix, "CONTRIBUTING", tmp_path / "CONTRIBUTING.md")
    monkeypatch.setattr("course.NOTEBOOKS", tmp_path / "notebooks")
    for row in ("onednn-on", "onednn-off", "threads-4", "hash-1"):
        prepare = matrix.ROWS[row].prepare
        changed = matrix.Row(
            **{**vars(matrix.ROWS[row]), "prepare": lambda p=prepare: replaced(p(), tmp_path)}
        )
        monkeypatch.setitem(matrix.ROWS, row, changed)
    return tmp_path


def replaced(place, root):
    place.root = root
    return place


class Runner:
    """Stands for the probe and for pytest. cells: (notebook, n) → the tag inside the test case, "" for a cell that passes."""

    def __init__(self, cells, facts=(), verbose=VERBOSE, status=None, tail=""):
        self.cells, self.facts, self.verbose, self.tail = cells, dict(facts), verbose, tail
        self.status = any(cells.values()) if status is None else status
        self.calls = []

    def __call__(self, command, folder, environment, log):
        self.calls.append((command, environment))
        if "-c" in command:
            facts = {**FACTS, "advlib": str(folder), **self.facts}
            log.write_text(f"{self.verbose}matrix-seen: {json.dumps(facts)}\n")
            return 0
        cases = [
            f'<testcase file={quoteattr(f"notebooks/{name}.ipynb")} name="Cell {n}">{f"<{tag}/>" if tag else ""}</testcase>'
            for (name, n), tag in self.cells.items()
        ]
        report = Path(command[command.index("--junitxml") + 1])
        report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
        log.write_text(self.tail)
        return int(self.status)


GOOD = {("00_a", 0): "", ("00_a", 1): "", ("01_b", 0): ""}


def run(checkout, runner, *words):
    store = checkout / "tools" / "matrix.json"
    return matrix.main([*words, "--store", str(store)], runner), matrix.read(store)


def test_rows_are_those_of_the_table_and_set_what_they_say():
    assert len(matrix.ROWS) == len(matrix._ROWS), "two rows have one name"
    for name in ("onednn-off", "isa-sse41", "threads-2", "hash-0", "zone-locale"):
        variables = matrix.ROWS[name].prepare().variables
        assert variables and all(isinstance(value, str) for value in variables.values()), name
    assert matrix.ROWS["threads-1"].prepare().variables["TF_NUM_INTEROP_THREADS"] == "2"
    assert matrix.ROWS["zone-locale"].prepare().variables["TZ"] == "Pacific/Auckland"


def test_ci_full_runs_every_row_once():
    text = (ROOT / ".ci" / "full").read_text(encoding="utf-8").replace("\\\n", " ")
    words = re.search(r"matrix\.py --resume (.*)", text)[1].split()
    assert sorted("+".join(words).split("+")) == sorted(matrix.ROWS)


def test_lowest_and_highest_python_are_those_of_pyproject():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "requires-python"
    ]
    low, high = re.fullmatch(r">=(3\.\d+),<3\.(\d+)", wanted).groups()
    assert matrix.ROWS["lowest"].prepare.args == ("lowest-direct", low)
    assert matrix.ROWS["highest"].prepare.args == ("highest", f"3.{int(high) - 1}")


def test_a_row_whose_cells_all_pass(checkout, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # the caller's own, which must not reach a row
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    runner = Runner(GOOD)
    status, stored = run(checkout, runner, "onednn-on")
    result = stored["onednn-on"]["all"]
    assert status == 0 and matrix.passed(result)
    assert (result["cells"], result["passed"], result["failures"]) == (3, 3, [])
    assert result["set"] == "TF_ENABLE_ONEDNN_OPTS=1"
    assert result["seen"]["instructions"] == "Intel AVX2" and "advlib" not in result["seen"]
    for _, environment in runner.calls:
        assert environment["TF_ENABLE_ONEDNN_OPTS"] == "1" and "PYTHONHASHSEED" not in environment
    assert runner.calls[1][0][-2:] == [str(Path("notebooks/00_a.ipynb")), str(Path("notebooks/01_b.ipynb"))]


def test_several_conditions_in_one_run(checkout):
    runner = Runner(GOOD, {"hash seed": "1"})
    status, stored = run(checkout, runner, "onednn-on+hash-1", "threads-4+hash-1")
    assert status == 2 and len(runner.calls) == 3  # the second is refused by its probe, which sees one thread
    environment = runner.calls[1][1]
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == "1" and environment["PYTHONHASHSEED"] == "1"
    results = [stored[name]["all"] for name in ("onednn-on", "hash-1")]
    assert all(map(matrix.passed, results)) and results[0] == results[1]
    assert results[0]["set"] == "TF_ENABLE_ONEDNN_OPTS=1 PYTHONHASHSEED=1"
    assert "no effect" in stored["threads-4"]["all"]["reason"]


@pytest.mark.parametrize("names", ["hash-0+hash-1", "onednn-on+onednn-off", "threads-1+threads-4"])
def test_conditions_that_exclude_each_other_are_not_run(checkout, names):
    runner = Runner(GOOD)
    status, stored = run(checkout, runner, names)
    assert status == 2 and not runner.calls
    assert all("cannot be run together" in stored[name]["all"]["reason"] for name in names.split("+"))


@pytest.mark.parametrize(
    "cells, words",
    [
        ({**GOOD, ("00_a", 1): "failure"}, "1 failed, 2 of 3 cells pass: 00_a [2] a1"),
        ({**GOOD, ("01_b", 0): "error"}, "1 failed, 2 of 3 cells pass: 01_b [1] b0"),
        ({**GOOD, ("00_a", 1): "skipped"}, "1 skipped, 2 of 3 cells pass"),
        ({("00_a", 0): "", ("00_a", 1): ""}, "1 missing, 2 of 3 cells pass: 01_b [1] b0"),
        ({**GOOD, ("00_a", 9): "failure"}, "1 failed, 3 of 3 cells pass: 00_a [10] (no such cell)"),
        ({}, "3 missing, 0 of 3 cells pass"),
    ],
)
def test_a_cell_that_does_not_pass_fails_the_row(checkout, cells, words):
    status, stored = run(checkout, Runner(cells), "onednn-on")
    result = stored["onednn-on"]["all"]
    assert status == 1 and not matrix.passed(result)
    assert f"**fails**, {words}" in matrix.verdict(result)


@pytest.mark.parametrize(
    "row, runner, reason",
    [
        ("onednn-off", Runner(GOOD), "the operation is convolution"),
        ("onednn-on", Runner(GOOD, verbose=""), "the operation is none"),
        ("threads-4", Runner(GOOD), "the threads is 1"),
        ("hash-1", Runner(GOOD), "the hash seed is random"),
        ("onednn-on", Runner(GOOD, {"advlib": "/elsewhere"}), "the advlib of another folder"),
        ("onednn-on", Runner(GOOD, status=3), "pytest ended with status 3"),
    ],
)
def test_a_row_that_cannot_be_run_says_why_and_has_not_passed(checkout, row, runner, reason):
    status, stored = run(checkout, runner, row)
    assert status == 2 and reason in stored[row]["all"]["reason"]
    assert not matrix.passed(stored[row]["all"])
    assert f"not run: {stored[row]['all']['reason']}" in matrix.table(stored)


def test_a_row_without_uv_says_so(checkout, monkeypatch):
    monkeypatch.setattr(matrix, "find_uv", lambda: None)
    status, stored = run(checkout, Runner(GOOD), "lowest", "highest")
    assert status == 2 and "uv is not installed" in stored["lowest"]["all"]["reason"]
    matrix.keep(checkout / "tools" / "matrix.json", "lowest", "all", {"passed": 3})
    _, stored = run(checkout, Runner(GOOD), "lowest")
    assert stored["lowest"]["all"] == {"passed": 3}, "what another machine found is kept"


def test_files_that_change_meanwhile_leave_no_result(checkout):
    def changing(*arguments):
        (checkout / "advlib" / "norms.py").write_text("broken")
        return Runner(GOOD)(*arguments)

    status, stored = run(checkout, changing, "onednn-on")
    assert status == 2 and "changed while they ran" in stored["onednn-on"]["all"]["reason"]


def test_some_notebooks_are_never_the_whole(checkout):
    cells = {("01_b", 0): ""}
    runner = Runner(cells)
    _, stored = run(checkout, runner, "onednn-on", "--notebooks", "01")
    assert list(stored["onednn-on"]) == ["01"]
    assert "| only 01 | 1 cells pass |" in matrix.table(stored)
    _, stored = run(checkout, Runner(GOOD), "onednn-on", "--resume")
    assert stored["onednn-on"]["all"]["passed"] == 3
    assert "only 01" not in matrix.table(stored) and "| all | 3 cells pass |" in matrix.table(stored)
    _, stored = run(checkout, Runner(GOOD), "onednn-off", "--notebooks", "0", "1")
    assert "all" in stored["onednn-off"]
    with pytest.raises(SystemExit, match="no lesson '77'"):
        run(checkout, runner, "onednn-on", "--notebooks", "77")


def test_resume_leaves_out_what_passed_with_what_is_there(checkout):
    run(checkout, Runner({**GOOD, ("01_b", 0): "failure"}), "onednn-on")
    for change, calls in (
        (None, 2),
        (None, 0),
        ("advlib/norms.py", 2),
        ("pyproject.toml", 2),
        ("README.md", 0),
    ):
        if change:
            (checkout / change).write_text("changed")
        runner = Runner(GOOD)
        run(checkout, runner, "onednn-on", "--resume")
        assert len(runner.calls) == calls, change


def test_requests_to_a_network_fail_the_row(checkout, monkeypatch):
    place = matrix.Place(root=checkout, inside="no-network")
    monkeypatch.setattr(matrix, "own_namespace", lambda kind: "net:[1]")
    monkeypatch.setitem(matrix.ROWS, "no-network", matrix.Row("no-network", "no network", lambda: place))
    for tail, wanted, words in (
        ("\nmatrix-asked: 0\n", 0, "3 cells pass, 0 requests"),
        ("\nmatrix-asked: 2\n", 1, "2 requests"),
    ):
        runner = Runner(GOOD, tail=tail)
        status, stored = run(checkout, runner, "no-network")
        assert status == wanted and words in matrix.verdict(stored["no-network"]["all"])
        command = runner.calls[1][0]
        assert command[0] == "unshare" and command[command.index("--inside") + 1 :][:2] == [
            "no-network",
            "net:[1]",
        ]
    with pytest.raises(matrix.CannotRun, match="not counted"):
        matrix.attempt(matrix.ROWS["no-network"], matrix.chosen([])[0], run=Runner(GOOD))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
@pytest.mark.parametrize("kind", ["read-only", "no-network"])
def test_nothing_is_mounted_outside_a_namespace(kind, capfd):
    assert matrix.inside(kind, matrix.own_namespace(kind), ["true"]) == matrix.REFUSED
    assert "no namespace of its own" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["read-only", "no-network"])
def test_a_namespace_is_what_it_says(kind, tmp_path):
    try:
        place = matrix.namespace(kind)
    except matrix.CannotRun as error:
        pytest.skip(str(error))
    tried = {
        "read-only": "open('notebooks/.written', 'w')",
        "no-network": "import socket; socket.create_connection(('192.0.2.1', 9), 3)",
    }[kind]
    log = tmp_path / "log"
    command = matrix.wrapped(place, [sys.executable, "-c", tried])
    status, text = matrix.run(command, ROOT, dict(os.environ), log), log.read_text()
    if status == matrix.REFUSED and "matrix-refused: Command" in text:
        pytest.skip("this user may make a namespace, but not mount in it")
    assert status == 1
    assert ("Read-only file system" in text) if kind == "read-only" else ("matrix-asked: 1" in text)
    assert not (ROOT / "notebooks" / ".written").exists()


def test_stored_results_name_no_path_and_no_address(checkout):
    stored = json.dumps(matrix.read(), ensure_ascii=False)
    assert not re.search(r"https?:|[\"= ]/\w|[A-Za-z]:\\\\", stored)
    place = matrix.Place(variables={"HOME": str(checkout / "work" / "家 home")})
    assert matrix.said(place) == f"HOME={Path('work') / '家 home'}"


def test_the_table_goes_between_its_marks(checkout):
    text = f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n"
    new = matrix.written(text, {})
    assert new.startswith("before\n") and new.endswith("\nafter\n") and "old" not in new
    assert new.count("not yet run") == len(matrix.ROWS) and matrix.written(new, {}) == new
    with pytest.raises(ValueError, match="were expected"):
        matrix.written("no marks", {})


def test_contributing_has_the_table_of_the_stored_results():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert matrix.written(text, matrix.read()) == text, "python tools/matrix.py --write puts it there"
