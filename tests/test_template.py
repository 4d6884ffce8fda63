"""The template of a lesson, the page that explains it, and a newcomer who follows the page outside this repository."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advlib import nbplugin
from advlib.nbplugin import RULES, differences, form_problems, read, rule_problems

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "advlib" / "template.ipynb"
PAGE = (ROOT / "docs" / "write_a_lesson.md").read_text(encoding="utf-8")
HINT = "> **Template.**"


@pytest.fixture(scope="module")
def template():
    return read(TEMPLATE.read_text(encoding="utf-8"))


def texts(cell):
    return "\n".join(nbplugin._output_texts(cell)) if cell.cell_type == "code" else ""


# --- The template


def test_the_template_is_in_normal_form_and_keeps_every_rule(template):
    problems = form_problems(TEMPLATE.read_text(encoding="utf-8"))
    problems += [problem for rule in RULES for problem in rule_problems(template, rule)]
    assert not problems, "\n".join(problems)


def test_the_template_shows_what_a_lesson_needs(template):
    prose = "\n".join(cell.source for cell in template.cells if cell.cell_type == "markdown")
    printed = "\n".join(texts(cell) for cell in template.cells if cell.cell_type == "code")
    assert prose.startswith("# ") and re.search(r"^\*\*.+\?\*\*$", prose, re.M)
    assert len(re.findall(r"^\d\. .+[;.]$", prose.partition("minutes.")[0], re.M)) == 3
    for part in (
        r"\b\d\d minutes\.",
        "^## Exercises$",
        "^## Recap$",
        "^## Sources$",
        r"arXiv \d{4}\.\d{5}",
        r"\$\$",
    ):
        assert re.search(part, prose, re.M), part
    for kind in (r"^[a-z][^≈]*\d+ of 500$", r"≈ \d+ of 500 or ≈ [\d.]+ %", "^ok: .*(below|less than|costs)"):
        assert re.search(kind, printed, re.M), kind


def test_every_figure_of_the_template_has_alternative_text(template):
    for cell in template.cells:
        figure = any("image/png" in out.get("data", {}) for out in cell.get("outputs", []))
        assert figure == bool(cell.metadata.get("alt")), cell.source


def test_each_part_says_what_belongs_there_and_can_be_found_afterwards(template):
    """A hint is a quotation of its own, so that deleting it leaves the lesson whole."""
    explained = [cell for cell in template.cells if HINT in cell.source]
    assert len(explained) >= len(template.cells) // 2 - 1
    for cell in template.cells:
        assert "Template" not in re.sub(r"(^>.*\n?)+", "", cell.source, flags=re.M)
        quoted = re.findall(r"(?:^>.*\n?)+", cell.source, re.M)
        assert all(text.startswith(HINT) for text in quoted)


# --- The command


def test_new_writes_the_template_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert nbplugin.main(["new", "lessons/01_mine.ipynb"]) == 0
    assert Path("lessons/01_mine.ipynb").read_bytes() == TEMPLATE.read_text(encoding="utf-8").encode()
    assert "render lessons/01_mine.ipynb" in capsys.readouterr().out.replace("\\", "/")
    assert nbplugin.main(["check", "lessons"]) == 0
    Path("lessons/01_mine.ipynb").write_text("mine")
    for name, said in {
        "lessons/01_mine.ipynb": "is there already",
        "02": r"02: a name that ends in \.ipynb",
    }.items():
        with pytest.raises(SystemExit) as exit:
            nbplugin.main(["new", name])
        assert exit.value.code == 2 and re.search(said, capsys.readouterr().err)
    assert Path("lessons/01_mine.ipynb").read_text() == "mine" and not Path("02").exists()


# --- The page


def test_the_page_lists_the_rules_as_they_are():
    table = re.search(r"<!-- rules -->\n(.*?)<!-- end -->", PAGE, re.S)[1].splitlines()
    assert table[2:] == [f"| `{name}` | {rule.__doc__} |" for name, rule in RULES.items()]


def test_the_page_has_the_numbers_of_the_plugin():
    first, last = nbplugin.CELLS[0], nbplugin.CELLS[-1]
    assert f"at most {nbplugin.LONGEST_CELL} lines a code cell, and {first} to {last} cells" in PAGE
    assert f"{nbplugin.LARGEST_TOLERANCE} is the most" in PAGE


def commands():
    """What the page says to type, from its indented lines, in the order of the page, each once."""
    return list(dict.fromkeys(re.findall(r"^ {4}python (-m .*)$", PAGE, re.M)))


def failure():
    """The lines of the failure that the page shows."""
    return re.search(r"```text\n(.*?)```", PAGE, re.S)[1].splitlines()


def test_the_failure_on_the_page_is_of_the_template(template):
    """That it looks so is seen where a newcomer breaks the library."""
    title, cells = failure()[0], [cell for cell in template.cells if cell.cell_type == "code"]
    cell = cells[int(re.search(r"cell \[(\d+)\]", title)[1]) - 1]
    said = dict(re.findall(r"^  (\w+) {2,}(.*)$", "\n".join(failure()), re.M))
    assert f"ok: {said['claim']}" in texts(cell) and f", {said['expected']})" in cell.source


def test_pytest_starts_without_tensorflow(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.hasplugin('advlib.nbplugin')\n"
        "    assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout


@pytest.mark.full
@pytest.mark.slow
def test_a_newcomer_outside_this_repository(template, tmp_path, monkeypatch):
    """Types what the page says; then a stored number is changed by hand, and the library is broken."""
    monkeypatch.chdir(tmp_path)
    said = {}
    for arguments in commands():
        run = typed(*arguments.split())
        assert run.returncode == 0, f"{arguments}:\n{run.stdout}\n{run.stderr}"
        said[arguments] = run.stdout
    assert list(said)[:2] == [
        f"-m advlib.nbplugin {word} notebooks/01_my_lesson.ipynb" for word in ("new", "render")
    ]
    assert "rules are kept" in said["-m advlib.nbplugin check notebooks"]
    assert re.search(r"= \d+ passed in", said["-m pytest --nbval notebooks"])
    mine = Path("notebooks/01_my_lesson.ipynb")
    stored = mine.read_text(encoding="utf-8")
    for shipped, rendered in zip(template.cells, read(stored).cells, strict=True):
        assert differences(texts(shipped), texts(rendered)) == []

    nb = json.loads(stored)
    cell, text = next(
        (cell, out["text"]) for cell in nb["cells"] for out in cell.get("outputs", []) if "text" in out
    )
    count = re.search(r"(\d+) of 500", "".join(text))[1]
    cell["outputs"][0]["text"] = [line.replace(count, str(int(count) + 1)) for line in text]
    mine.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    assert form_problems(mine.read_text(encoding="utf-8")) == []  # a number alone is not seen without running
    run = typed("-m", "pytest", "--nbval", "notebooks")
    assert run.returncode == 1 and "1 failed" in run.stdout and "skipped" not in run.stdout.splitlines()[-1]
    assert f"expected        read without any shift: {int(count) + 1} of 500" in run.stdout
    assert f"got             read without any shift: {count} of 500" in run.stdout
    mine.write_text(stored, encoding="utf-8", newline="\n")

    library = Path("broken")
    shutil.copytree(ROOT / "advlib", library / "advlib", ignore=shutil.ignore_patterns("__pycache__"))
    broken = library / "advlib" / "robustness.py"
    good = broken.read_text(encoding="utf-8")
    line = "right = right & (outcome.prediction == self.y)"  # the worst case of all attacks
    assert good.count(line) == 1
    broken.write_text(good.replace(line, line.replace("right & (", "right | (")), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(library.resolve()))
    run = typed("-m", "pytest", "--nbval", "notebooks")
    assert run.returncode == 1 and re.search(r"1 failed, \d+ passed, \d+ skipped", run.stdout), run.stdout
    for line in failure():
        assert line in run.stdout.replace("\\", "/"), run.stdout
    assert "  likely cause    advlib was changed" in run.stdout
    assert re.search(
        r"^  repeat .* -m pytest --nbval notebooks/01_my_lesson", run.stdout.replace("\\", "/"), re.M
    )


def typed(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, encoding="utf-8")
