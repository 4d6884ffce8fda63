"""What the README says is so: its links, its map of the lessons, its program, its figure."""

import inspect
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


def test_the_table_of_attacks_is_the_library():
    """Every attack, with the norms it takes; a norm outside the row is refused."""
    import advlib
    from advlib.testing import toy

    model, x, y = toy(n=2)
    named = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| (budget|smallest) \| ([^|]+) \|.*`(advlib/attacks/\w+\.py)`", README, re.M
    )
    helpers = {
        "transfer",
        "universal",
        "patch",
        "eot",
        "bpda",
        "BlackBox",
        "TransferMatrix",
        "Patch",
        "NoGradientError",
    }
    listed = {name for name, *_ in named}
    assert listed | helpers >= set(advlib.attacks.__all__) and listed <= set(advlib.attacks.__all__)
    for name, _, kind, norms, file in named:
        attack = getattr(advlib.attacks, name)
        takes = inspect.signature(attack).parameters
        assert attack.__module__ == file.removesuffix(".py").replace("/", ".")
        assert ("eps" in takes and takes["eps"].default is inspect.Parameter.empty) == (kind == "budget"), (
            name
        )
        allowed = {n.strip().lower().replace("∞", "inf") for n in norms.split(",")}
        if "norm" not in takes:
            assert len(allowed) == 1, name
            continue
        for norm in {"linf", "l2", "l1", "l0"} - allowed:
            with pytest.raises((ValueError, TypeError), match="norm"):
                attack(model, x, y, norm=norm, **({"eps": 0.1} if kind == "budget" else {}))


def test_its_program_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "PGD-40" in shown.stdout and "worst case" in shown.stdout and shown.stderr == ""


def test_its_figure_is_the_lesson_s():
    subprocess.run([sys.executable, str(ROOT / "tools" / "readme_figure.py"), "--check"], check=True)


def network_row(name):
    """A row of the README's table of networks, from the card."""
    from advlib import models

    card = models.card(name)
    measured = card["measured"]

    def percent(attack):
        keys = [key for key in measured if key == attack or key.startswith(f"{attack}_first_")]
        if not keys:
            return "–"
        key = max(
            keys, key=lambda key: measured["test_images"] if key == attack else int(key.rsplit("_", 1)[1])
        )
        n = measured["test_images"] if key == attack else int(key.rsplit("_", 1)[1])
        share = f"{100 * measured[key] / n:.1f}"
        return share if n == measured["test_images"] else f"{share} ({n:,})"

    budgets = {key.split("_linf_")[1].split("_")[0] for key in measured if "_linf_" in key}
    assert len(budgets) == 1
    eps = budgets.pop()
    method = card["recipe"]["method"].removeprefix("training.").replace("adversarial_fit", "PGD")
    return (
        f"| `{name}` | `{method}` | {eps} | "
        + " | ".join(
            percent(attack) for attack in ("clean", f"pgd50x10_linf_{eps}", f"autoattack_linf_{eps}")
        )
        + " |"
    )


def test_the_table_of_networks_is_what_the_cards_say():
    from advlib import models

    rows = [network_row(name) for name in models.names()]
    missing = [row for row in rows if row not in README]
    assert not missing, "README's table of networks wants these rows:\n" + "\n".join(rows)
    assert len(re.findall(r"^\| `(?:mnist|fashion)-", README, re.M)) == len(rows)


def test_the_table_of_defences_is_the_library():
    from advlib import training

    named = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| `(advlib/training/\w+\.py)` \|", README, re.M)
    defences = {name for name in training.__all__ if isinstance(getattr(training, name), type)}
    assert {name for name, _ in named} == defences - {"History", "Trainer", "Triangle", "Watch"}
    for name, file in named:
        assert getattr(training, name).__module__ == file.removesuffix(".py").replace("/", ".")
