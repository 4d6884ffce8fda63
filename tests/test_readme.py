"""What the README says is so: its links, its map of the lessons, its program, its figure."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def test_links_inside_the_repository_hold():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links and [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
    named = re.findall(r"`((?:advlib|tools|benchmarks|tests|notebooks|\.ci)/[\w./]*)`", README)
    assert len(named) > 8 and [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_the_map_has_each_lesson_with_its_question_and_minutes(lesson):
    row = next(line for line in README.splitlines() if f"(notebooks/{lesson.name})" in line)
    _, _, question, _, minutes, _ = (cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", row))
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    opening = "".join("".join(cell["source"]) for cell in cells[:3] if cell["cell_type"] == "markdown")
    plain = re.sub(r"[*$\\]", "", opening)
    assert re.search(rf"\b{minutes} min", plain), f"README says {minutes} minutes"
    assert question.split("?")[0] in plain, f"README asks {question!r}"


def test_its_program_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "PGD-40" in shown.stdout and "worst case" in shown.stdout and shown.stderr == ""


def test_its_figure_is_the_lesson_s():
    subprocess.run([sys.executable, str(ROOT / "tools" / "readme_figure.py"), "--check"], check=True)
