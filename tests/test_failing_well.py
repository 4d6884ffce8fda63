"""Twenty broken libraries, each under a lesson: does the report say what a maintainer who does not know the fault needs?"""

import re
import sys
from pathlib import Path

import pytest
from test_nbplugin import FIELDS, report

from advlib.nbplugin import read

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import faults  # noqa: E402
import mutate  # noqa: E402

pytestmark = [pytest.mark.full, pytest.mark.slow]

FALSE, DIFFERS, RAISED = (
    "a claim is not true",
    "the output differs from the stored one",
    "it raised an exception",
)
DEAD, LATE = "the kernel died", "it ran out of time"
# a fault of tools/faults.py, the lesson that is run, and how it fails
SEEDED = [
    ("pixels-by-256", "00", FALSE),
    ("fgsm-sign", "00", FALSE),
    ("linear-ends-in-softmax", "01", RAISED),
    ("mean-of-batch-means", "01", FALSE),
    ("noise-one-sided", "02", FALSE),
    ("seed-ignored", "02", FALSE),
    ("subset-with-repeats", "02", DIFFERS),
    ("fgsm-half-a-step", "03", FALSE),
    ("ascent-sign", "04", FALSE),
    ("no-box-clip", "04", RAISED),
    ("interval-one-sided", "04", DIFFERS),
    ("weights-never-set", "06", DIFFERS),
    ("box-shows-its-logits", "07", FALSE),
    ("cnn-without-relu", "08", DIFFERS),
    ("interval-of-the-failures", "10", DIFFERS),
    ("mlp-without-relu", "11", DIFFERS),
    ("linear-ends-in-softmax", "03", RAISED),
]
# what no fault of the catalogue does
OWN = [
    (("typo", "norms.py", "return tf.sign(g)", "return tf.signum(g)"), "03", RAISED),
    (("abort", "norms.py", "return tf.sign(g)", 'return __import__("os").abort()'), "03", DEAD),
    (("endless", "attacks/pgd.py", "for _ in range(steps):", "while steps:"), "04", LATE),
]
BY_NAME = {fault.name: fault for fault in faults.FAULTS}
CASES = [(BY_NAME[name], *rest) for name, *rest in SEEDED]
CASES += [(faults.Fault(*fault, (), ()), *rest) for fault, *rest in OWN]


def test_there_are_twenty_over_most_lessons_and_of_every_kind():
    assert len(CASES) >= 20 and len({lesson for _, lesson, _ in CASES}) >= 10
    assert {how for _, _, how in CASES} == {FALSE, DIFFERS, RAISED, DEAD, LATE}


@pytest.mark.parametrize(
    ("fault", "lesson", "how"), CASES, ids=[f"{fault.name}-{lesson}" for fault, lesson, _ in CASES]
)
def test_a_maintainer_reads_what_failed(tmp_path, fault, lesson, how):
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    mutate.broken_copy(fault, tmp_path)
    patience = ["--nbval-cell-timeout=60"] if how == LATE else []
    status, printed = mutate.pytest_in(tmp_path, [*mutate.words(path, "notebooks"), *patience], 900)
    assert status == 1, printed
    message = re.search(rf"^\S*{re.escape(path.name)}, cell \[\d+\]: .*?(?=^=====)", printed, re.M | re.S)
    assert message, printed
    first, said = report(message[0])
    print(message[0])  # `pytest -rP` shows them, for reading
    assert first.endswith(f"]: {how}")
    assert [field for field in said if field != "if it is right"] == FIELDS
    nb = read(path.read_text(encoding="utf-8"))
    title = nb.cells[0].source.partition("\n")[0].removeprefix("# ")
    place = said["lesson"].removeprefix(title)  # a cell above the first heading is in no section
    assert said["lesson"].startswith(title) and (not place or place.startswith(", section “"))
    cell = [cell for cell in nb.cells if cell.cell_type == "code"][
        int(re.search(r"cell \[(\d+)\]", first)[1]) - 1
    ]
    assert "the cell:\n" + "\n".join(f"    {line}" for line in cell.source.splitlines()) in message[0]
    assert said["expected"] != said["got"] and said["repeat"].endswith(f"-m pytest --nbval {path}")
    if how == FALSE:  # in the words of the lesson, which may fill in a value
        assert said["claim"][:12] in cell.source or said["claim"][-12:] in cell.source
    if how in (DIFFERS, FALSE, RAISED):  # neither the cells nor the packages: what is left is what is true
        assert "advlib was changed" in said["likely cause"]
    if how == RAISED:
        assert re.search(r"raised in advlib/\S+\.py, line \d+", said["likely cause"])
