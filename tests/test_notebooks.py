"""The stored lessons: in normal form, and by the rules. `pytest --nbval notebooks` compares their values."""

import ast
from pathlib import Path

import pytest

from advlib.nbplugin import (
    LARGEST_TOLERANCE,
    RULES,
    form_problems,
    read,
    rule_problems,
    tolerance,
    tolerances,
)

LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def test_lessons_are_numbered_from_00_and_a_gap_is_announced():
    """A number without a lesson is one that the README says is to come."""
    assert LESSONS, "notebooks/ holds no lesson"
    numbers = [int(path.name[:2]) for path in LESSONS if path.name[2] == "_"]
    assert len(numbers) == len(set(numbers)) == len(LESSONS) and numbers[0] == 0
    readme = (LESSONS[0].parents[1] / "README.md").read_text(encoding="utf-8")
    to_come = next(
        (line for line in readme.splitlines() if line.startswith("Lessons ") and "to come" in line), ""
    )
    assert not [n for n in range(max(numbers)) if n not in numbers and f"{n:02}" not in to_come]


@each_lesson
def test_the_stored_form_is_normal(path):
    problems = form_problems(path.read_text(encoding="utf-8"))
    assert not problems, "\n".join([*problems, "to mend it: python -m advlib.nbplugin render"])


@each_lesson
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_kept(path, rule):
    problems = rule_problems(read(path.read_text(encoding="utf-8")), rule)
    assert not problems, "\n".join([f"{RULES[rule].__doc__}:", *problems])


def test_wider_tolerances_are_few_bounded_and_have_a_reason():
    """Lists them too, with `pytest -rP`."""
    listed, code_cells = [], 0
    for path in LESSONS:
        nb = read(path.read_text(encoding="utf-8"))
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        assert all(tolerance(cell) <= LARGEST_TOLERANCE for cell in cells)
        code_cells += len(cells)
        listed += [f"{path.stem}, {line}" for line in tolerances(nb)]
    print("\n".join(listed))
    assert not [line for line in listed if line.endswith("no reason given")]
    assert len(listed) <= max(code_cells // 20, 1), "more than one cell in twenty: " + "; ".join(listed)


@each_lesson
def test_no_table_is_thrown_away(path):
    """Only the last value of a cell is shown: a table above it would be made for nobody."""
    for cell in read(path.read_text(encoding="utf-8")).cells:
        if cell.cell_type == "code":
            values = [node for node in ast.parse(cell.source).body[:-1] if isinstance(node, ast.Expr)]
            assert not [node for node in values if ast.unparse(node).startswith("pd.")], cell.source
