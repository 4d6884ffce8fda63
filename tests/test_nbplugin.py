"""The pytest plugin on small notebooks, the normal form, the rules of stored lessons, and the renderer."""

import copy
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from advlib import nbplugin
from advlib.nbplugin import (
    RULES,
    RenderError,
    differences,
    form_problems,
    normalised,
    read,
    render,
    rule_problems,
)


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data):
    kinds = {"text": "text/plain", "html": "text/html", "png": "image/png", "svg": "image/svg+xml"}
    data = {kinds[kind]: value for kind, value in data.items()}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def code(source, *outputs, tags=(), count=None, **metadata):
    metadata |= {"tags": list(tags)} if tags else {}
    outputs = [stream(out) if isinstance(out, str) else out for out in outputs]
    return {
        "cell_type": "code",
        "source": source,
        "outputs": outputs,
        "metadata": metadata,
        "execution_count": count,
    }


def notebook(*cells, record=True):
    """A rendered notebook in normal form. A text is a Markdown cell, count=-1 one never run."""
    nb = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    count = 0
    for n, cell in enumerate(cells):
        if isinstance(cell, str):
            cell = {"cell_type": "markdown", "source": cell, "metadata": {}}
        else:
            count += 1
            cell = {**cell, "execution_count": {None: count, -1: None}[cell["execution_count"]]}
        nb["cells"].append({**cell, "id": f"cell-{n}"})
    if record:
        nb["metadata"][nbplugin.RECORD] = nbplugin.rendered(nb)
    return normalised(json.dumps(nb))


def prints(text, stored=None, **options):
    return code(f"print({text!r})", f"{text if stored is None else stored}\n", **options)


# --- The comparison


@pytest.mark.parametrize(
    ("stored", "within", "beyond"),
    [
        ("≈ 97.3 %", "≈ 97.8 %", "≈ 97.9 %"),
        ("≈ 97.3 %", "≈ 96.8 %", "≈ 96.7 %"),
        ("≈ 97.3%", "≈ 97.8%", "≈ 97.81%"),
        ("≈ 0.2 %", "≈ -0.3 %", "≈ -0.4 %"),
        ("≈ 0.100", "≈ 0.102", "≈ 0.103"),
        ("≈ 0.100", "≈ 0.098", "≈ 0.097"),
        ("≈ -1.20e-05", "≈ -1.224e-05", "≈ -1.225e-05"),
        ("≈ -1.20e-05", "≈ -1.20e-05", "≈ 1.20e-05"),
        ("≈ −2.50", "≈ -2.55", "≈ -2.56"),
        ("≈ 905", "≈ 923", "≈ 924"),
        ("≈ 12 of 1000", "≈ 17 of 1000", "≈ 18 of 1000"),
        ("≈ 12 of 100", "≈ 13 of 100", "≈ 14 of 100"),
        ("≈ 12 of 10,000", "≈ 62 of 10,000", "≈ 63 of 10,000"),
        ("a ≈ 0.500, b ≈ 50.0 %", "a ≈ 0.509, b ≈ 50.4 %", "a ≈ 0.500, b ≈ 50.6 %"),
        ("exact 7\n≈ 50.0 %\n", "exact 7\n≈ 50.1 %\n", "exact 7\n≈ 51.0 %\n"),
        ("<td>≈ 9.8 %</td>", "<td>≈ 10.1 %</td>", "<td>≈ 10.4 %</td>"),
        ("'≈ 9.8 %'", "'≈ 10.1 %'", "'≈ 10.4 %'"),
        # a column as wide as its numbers
        ("     acc\n0 ≈ 9.8 %", "      acc\n0 ≈ 10.1 %", "      acc\n0 ≈ 10.4 %"),
    ],
)
def test_numbers_behind_the_sign_have_a_tolerance(stored, within, beyond):
    assert differences(stored, within) == []
    assert len(differences(stored, beyond)) == 1


@pytest.mark.parametrize(
    ("stored", "got"),
    [
        ("97.3 %", "97.4 %"),
        ("accuracy ≈ 97.3 %", "Accuracy ≈ 97.3 %"),
        ("≈ 97.3 %", "≈ 97.3"),
        ("≈ 97.3 %", "97.3 %"),
        ("≈ 97.3 %", "≈ nan %"),
        ("≈ 0.5", "≈ inf"),
        ("≈ 12 of 1000", "≈ 12 of 999"),
        ("≈ 97.3 %, 100 images", "≈ 97.3 %, 99 images"),
        ("≈ 97.3 %\n", "≈ 97.3 %"),
        ("≈ 97.3 %", "≈ 97.3 % ≈ 97.3 %"),
        ("a  b", "a b"),  # spaces count where there is no measured number
        ("≈", "≈ 1"),
        ("≈ 12,345", "≈ 12,346"),
    ],
)
def test_everything_else_is_compared_letter_for_letter(stored, got):
    assert len(differences(stored, got)) == 1
    assert differences(stored, stored) == []


def test_a_difference_says_line_numbers_and_tolerance():
    stored = "clean ≈ 97.3 %\nloss ≈ 0.100, left ≈ 87 of 1000"
    got = "clean ≈ 97.3 %\nloss ≈ 0.200, left ≈ 93 of 1000"
    assert differences(stored, got) == [
        ("loss ≈ 0.100, left ≈ 87 of 1000", "≈ 0.100", "≈ 0.200", "2 % of the stored value"),
        ("loss ≈ 0.100, left ≈ 87 of 1000", "≈ 87 of 1000", "≈ 93 of 1000", "5 of 1000"),
    ]
    assert differences("a\nb\nc", "a\nx\nb\nc")[0] == ("b", "b", "x", "none: 3 lines expected, 4 got")
    assert differences("a", "a\nb")[0][1:3] == ("(no such line)", "b")


def test_a_tag_widens_and_never_tightens():
    assert differences("≈ 50.0 %", "≈ 53.0 %", tol=3) == []
    assert len(differences("≈ 50.0 %", "≈ 53.1 %", tol=3)) == 1
    assert differences("≈ 1.00", "≈ 1.03", tol=3) == []
    assert len(differences("≈ 1.00", "≈ 1.04", tol=3)) == 1
    assert differences("≈ 1.00", "≈ 1.02", tol=0.6) == []
    assert differences("≈ 100 of 1000", "≈ 130 of 1000", tol=3) == []
    assert len(differences("≈ 100 of 1000", "≈ 131 of 1000", tol=3)) == 1


# --- The plugin, really run


FRAME = """import pandas as pd
from IPython.display import display
display(pd.DataFrame({"accuracy": ["≈ %s %%", "≈ 7.0 %%"]}))"""
FIGURE = """import matplotlib.pyplot as plt
plt.figure(figsize=(2, 1))
plt.plot([1, 2])
plt.show()"""

CHECK = """from advlib.check import check
left = 9
check("few are left", left < 5, cause="weak steps")"""


def frame(value):
    import pandas as pd

    table = pd.DataFrame({"accuracy": [f"≈ {value} %", "≈ 7.0 %"]})
    return shown(text=repr(table), html=table._repr_html_())


# The cells of each notebook, with what must become of them.
NOTEBOOKS = {
    "values": [
        (prints("accuracy ≈ 97.8 %", "accuracy ≈ 97.3 %"), "passed"),
        (prints("accuracy ≈ 97.9 %", "accuracy ≈ 97.3 %"), "failed"),
        (prints("accuracy ≈ 97.9 %", "accuracy ≈ 97.3 %", tags=["tol=3"]), "passed"),
        (prints("accuracy ≈ 97.3 %, 99 images", "accuracy ≈ 97.3 %, 100 images"), "failed"),
        (code("'≈ 0.505'", shown(text="'≈ 0.500'")), "passed"),
        (code("'≈ 0.515'", shown(text="'≈ 0.500'")), "failed"),
        (code(FRAME % "10.1", frame("9.8")), "passed"),
        (code(FRAME % "10.8", frame("9.8")), "failed"),
        (code(FIGURE, shown(text="<Figure size 200x100 with 1 Axes>", png="AAAA")), "passed"),
        (code(FIGURE, shown(text="<Figure size 400x100 with 1 Axes>", png="AAAA")), "failed"),
        (code("1 + 1", shown(text="2", png="AAAA")), "failed"),  # a figure that is no longer drawn
        (code("7;"), "failed"),
        (code("print('new')"), "failed"),
        (code("pass", "gone\n"), "failed"),
        (code("x = 1"), "passed"),
        (code("print(1)", "1\n", count=-1), "failed"),
    ],
    "raises": [
        (prints("a", "b"), "failed"),
        (prints("a"), "passed"),  # a difference does not hide what follows
        (code(CHECK), "failed"),
        (prints("a"), "skipped"),
        (prints("a", "b"), "skipped"),
    ],
    "errs": [
        (code("import numpy as np\nfrom advlib import check as c"), "passed"),
        (code("def f(x):\n    return c.approx(x)"), "passed"),
        (code("f(np.nan)"), "failed"),
        (prints("a"), "skipped"),
    ],
    "dies": [(prints("a"), "passed"), (code("import os\nos._exit(3)"), "failed"), (prints("a"), "skipped")],
    "killed": [(code("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"), "failed")],
    "hangs": [(code("import time\ntime.sleep(600)"), "failed"), (prints("a"), "skipped")],
    "surroundings": [
        (code("import os\nprint(os.environ['ADVLIB_PROGRESS'])", "0\n"), "passed"),
        (code("print('nobody' in os.environ['IPYTHONDIR'])", "False\n"), "passed"),
        (code("import sys\nprint(sys.executable)", f"{sys.executable}\n"), "passed"),
        (code("import matplotlib\nprint(matplotlib.get_backend().endswith('inline'))", "True\n"), "passed"),
        (code("import sys\nprint('tensorflow' in sys.modules)", "False\n"), "passed"),
        (code("from pathlib import Path\nprint(Path('values.ipynb').exists())", "True\n"), "passed"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lessons")
    for name, cells in NOTEBOOKS.items():
        title = [f"# The lesson {name}\n\n## Its part"]
        (folder / f"{name}.ipynb").write_text(
            notebook(*title, *(cell for cell, _ in cells)), encoding="utf-8"
        )
    edited = (folder / "raises.ipynb").read_text(encoding="utf-8").replace("print('a')", "print( 'a')", 1)
    (folder / "edited.ipynb").write_text(edited, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outcomes(folder):
    """(notebook, cell number from 0) -> (outcome, message), of one run of pytest over NOTEBOOKS."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider"]
    command += ["--nbval-cell-timeout=60", "--junitxml=result.xml", "-rs", "."]
    # what a user may have set, and no notebook should notice
    environment = {**os.environ, "MPLBACKEND": "agg", "IPYTHONDIR": str(folder / "nobody")}
    # the notebook that hangs gets a run of its own, beside the other and with a short timeout
    hangs = [*command[:-4], "--nbval-cell-timeout=5", "--junitxml=hangs.xml", "hangs.ipynb"]
    runs = [
        subprocess.Popen(
            line,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for line in ([*command, "--ignore=hangs.ipynb"], hangs)
    ]
    printed = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [1, 1], "\n".join(printed)
    found = {"printed": printed}
    for file in ("result.xml", "hangs.xml"):
        for case in xml.parse(folder / file).iter("testcase"):
            result = next((child for child in case if child.tag != "properties"), None)
            outcome = "passed" if result is None else {"failure": "failed"}.get(result.tag, result.tag)
            name = case.get("classname").split(".")[0]
            found[name, int(case.get("name").split()[-1])] = outcome, "" if result is None else result.text
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_pass_fail_and_are_skipped(outcomes, name):
    got = [outcomes[name, n][0] for n in range(len(NOTEBOOKS[name]))]
    assert got == [expected for _, expected in NOTEBOOKS[name]]


def report(message):
    """(first line, field -> what it says) of a failed cell's message."""
    first, _, rest = message.partition("\n")
    fields = re.findall(
        r"^  (lesson|claim|expected|got|tolerance|likely cause|repeat|if it is right) {2,}(\S.*)$", rest, re.M
    )
    return first, dict(fields)


FIELDS = ["lesson", "claim", "expected", "got", "tolerance", "likely cause", "repeat"]


def test_every_failure_says_all_that_a_maintainer_asks(outcomes):
    failed = {key: value[1] for key, value in outcomes.items() if value[0] == "failed"}
    assert len(failed) >= 15
    for (name, n), message in failed.items():
        first, said = report(message)
        number = n + 1
        assert first.startswith(f"{name}.ipynb, cell [{number}]: "), message
        assert [field for field in said if field != "if it is right"] == FIELDS, message
        assert said["lesson"] == f"The lesson {'raises' if name == 'edited' else name}, section “Its part”"
        assert said["repeat"].endswith(f" -m pytest --nbval {name}.ipynb")
        assert "the cell:\n    " in message and "\x1b" not in message


def test_the_command_repeats_the_failure(outcomes, folder):
    command = report(outcomes["raises", 2][1])[1]["repeat"]
    run = subprocess.run(command, shell=True, cwd=folder, capture_output=True, encoding="utf-8")
    assert run.returncode == 1 and "raises.ipynb, cell [3]: a claim is not true" in run.stdout


def test_a_difference_is_reported_in_full(outcomes):
    message = outcomes["values", 1][1]
    first, said = report(message)
    assert first == "values.ipynb, cell [2]: the output differs from the stored one"
    assert said["claim"] == "accuracy ≈ 97.3 %"
    assert (said["expected"], said["got"]) == ("≈ 97.3 %", "≈ 97.9 %")
    assert said["tolerance"] == "0.5 percentage points"
    assert said["likely cause"].startswith(
        "advlib was changed, or a file that the cells read, or the stored output by hand; or the machine"
    )
    assert said["likely cause"].endswith("a number that varies by nature needs a tag tol=… and its reason")
    assert said["if it is right"].endswith("-m advlib.nbplugin render values.ipynb")
    assert "    print('accuracy ≈ 97.9 %')" in message
    assert outcomes["values", 7][1].count("expected ") == 1  # a table's HTML does not say it twice
    assert "needs approx(...)" in report(outcomes["values", 3][1])[1]["likely cause"]


def test_a_failed_check_is_reported_in_full(outcomes):
    first, said = report(outcomes["raises", 2][1])
    assert first == "raises.ipynb, cell [3]: a claim is not true"
    assert said["claim"] == "few are left"
    assert (said["expected"], said["got"]) == ("left < 5", "left = 9")
    assert said["likely cause"].startswith("weak steps; advlib was changed, or ")
    assert "Traceback" not in outcomes["raises", 2][1]


def test_a_cell_that_was_edited_is_the_likely_cause(outcomes):
    message = outcomes["edited", 0][1]
    assert (
        "cell [1] was edited, or has moved, since the notebook was rendered"
        in report(message)[1]["likely cause"]
    )


def test_other_versions_are_the_likely_cause():
    nb = read(notebook(code("1")))
    assert nbplugin._cause(nb, 1).startswith("advlib was changed")
    nb.metadata[nbplugin.RECORD]["versions"] |= {"numpy": "1.0", "gone": "2"}
    cause = nbplugin._cause(nb, 1)
    assert cause.startswith("another version than when the notebook was rendered: numpy ")
    assert cause.endswith(" (then 1.0), gone missing (then 2)")
    assert "no record of a rendering" in nbplugin._cause(read(notebook(code("1"), record=False)), 1)


def test_an_exception_names_its_line_in_the_library(outcomes):
    message = outcomes["errs", 2][1]
    first, said = report(message)
    assert first == "errs.ipynb, cell [3]: it raised an exception"
    assert said["got"].startswith("ValueError: approx(nan): a finite number was expected")
    assert re.match(r"raised in advlib/check\.py, line \d+, approx; ", said["likely cause"])
    assert (
        "f(np.nan)" in message.partition("the cell:")[2] and message.count("ValueError") > 1
    )  # the traceback follows


@pytest.mark.parametrize(
    ("trace", "where"),
    [
        ("File ~/a b/advlib/norms.py:12, in L2.size(self, d)", "in advlib/norms.py, line 12, L2.size"),
        ('File "/x/advlib/attacks/pgd.py", line 7, in step  *', "in advlib/attacks/pgd.py, line 7, step"),
        (r"File C:\\me\\advlib\\data.py:3, in load()", "in advlib/data.py, line 3, load"),
        (
            "File /x/advlib/a.py:1, in f()\nFile /x/advlib/b.py:2, in g()\nFile /x/numpy/c.py:3, in h()",
            "in advlib/b.py, line 2, g",
        ),
        ("File /x/numpy/c.py:3, in h()", ""),
        ("File /me/advlib/.venv/lib/python3.12/site-packages/numpy/c.py:3, in h()", ""),
    ],
)
def test_the_innermost_line_of_the_library(trace, where):
    assert nbplugin._where(trace.replace("\\\\", "\\"), "in") == where


def test_later_cells_name_the_one_that_failed(outcomes):
    assert "not run: cell [3] failed" in outcomes["raises", 4][1]
    first, said = report(outcomes["dies", 1][1])
    assert first.endswith("cell [2]: the kernel died") and said["got"] == "the kernel ended with status 3"
    assert os.name == "nt" or report(outcomes["killed", 0][1])[1]["got"] == "the kernel ended by SIGTERM"
    first, said = report(outcomes["hangs", 0][1])
    assert first.endswith("cell [1]: it ran out of time") and said["got"].startswith(
        "Timeout of 5 seconds exceeded"
    )
    assert said["expected"] == "an end within 5 s"


# --- Runs of some cells alone, and second tries


def pytest_in(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "--nbval", *arguments, "a.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")


def test_cells_that_are_left_out_are_run_before_those_that_need_them(tmp_path):
    cells = ["from advlib.check import check", "x = 1", "print('between')"]
    stored = [code(cells[0]), code(cells[1]), prints("between")]
    claim = code("check('x is two', x == 2)", "ok: x is two\n")
    (tmp_path / "a.ipynb").write_text(notebook(*stored, claim), encoding="utf-8")
    assert "1 failed, 3 passed" in pytest_in(tmp_path).stdout
    again = pytest_in(tmp_path, "--lf").stdout
    assert "1 failed" in again and "a claim is not true" in again, again
    stored[1] = code("x = 2")
    (tmp_path / "a.ipynb").write_text(notebook(*stored, claim), encoding="utf-8")
    assert "1 passed" in pytest_in(tmp_path, "--lf").stdout
    assert "1 passed" in pytest_in(tmp_path, "-k", "Cell and 3").stdout
    assert "4 passed" in pytest_in(tmp_path, "-n", "2", "--dist", "loadgroup").stdout


TWICE = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.mark.parametrize(
    ("claim", "said"),
    [("False", "1 failed, 1 passed, 1 skipped"), ("next(tries)", "3 passed")],
)
def test_a_failed_cell_that_is_tried_again_is_no_later_cell(tmp_path, claim, said):
    """As plugins do that repeat what failed."""
    (tmp_path / "conftest.py").write_text(TWICE, encoding="utf-8")
    cells = [
        code("from advlib.check import check\ntries = iter([False, True])"),
        code(f"check('true', {claim})", "ok: true\n"),
        prints("later"),
    ]
    (tmp_path / "a.ipynb").write_text(notebook(*cells), encoding="utf-8")
    run = pytest_in(tmp_path)
    assert said in run.stdout and run.returncode == ("failed" in said), run.stdout


# --- The table of seconds and memory


def rows(printed):
    """notebook -> [start, first cell, rest, total, peak] of the table in what pytest printed."""
    lines = re.findall(r"^(\S+\.ipynb) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +(\d+ MB|–)$", printed, re.M)
    return {name: [*map(float, seconds), peak] for name, *seconds, peak in lines}


def test_a_table_has_seconds_and_peak_memory(outcomes):
    table = rows(outcomes["printed"][0])
    assert set(table) == {f"{name}.ipynb" for name in NOTEBOOKS if name != "hangs"} | {"edited.ipynb"}
    assert table.pop("killed.ipynb")[-1] == "–"  # its only cell ended the process before anyone could look
    for start, first, rest, total, peak in table.values():
        assert start > 0.1 and abs(start + first + rest - total) < 0.2
        assert not Path("/proc/self/status").exists() or 20 < int(peak.split()[0]) < 2000
    assert rows(outcomes["printed"][1])["hangs.ipynb"][1] > 4.5  # its first cell


def test_what_is_imported_first_is_told_apart_and_workers_report_it(tmp_path):
    cells = [code("import time"), code("import advlib\ntime.sleep(0.7)"), code("time.sleep(0.4)")]
    for name in ("a", "b"):
        (tmp_path / f"{name}.ipynb").write_text(notebook(*cells), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "loadfile",
    ]
    run = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout
    table = rows(run.stdout)
    assert set(table) == {"a.ipynb", "b.ipynb"}
    assert all(first >= 0.7 and rest >= 0.4 for _, first, rest, _, _ in table.values())


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process from outside"
)
def test_a_notebook_that_takes_too_much_memory_fails_once(tmp_path):
    cells = [
        prints("a"),
        code("big = b'1' * 200_000_000"),
        prints("a"),
        code("big *= 2; del big"),
        prints("b"),
    ]
    (tmp_path / "big.ipynb").write_text(notebook(*cells), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "big.ipynb"]
    for setting, said in (("", "5 passed"), ("advlib_peak_mb = 2 GB\n", "a number of MB was expected")):
        (tmp_path / "pytest.ini").write_text("[pytest]\n" + setting)
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
        assert said in run.stdout + run.stderr, run.stdout
    (tmp_path / "pytest.ini").write_text("[pytest]\nadvlib_peak_mb = 250\n")
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert run.returncode == 1 and "1 failed, 4 passed" in run.stdout, run.stdout
    message = run.stdout[run.stdout.index("big.ipynb, cell [2]: the kernel holds too much memory") :]
    said = report(message)[1]
    assert said["expected"] == "at most 250 MB" and 250 < int(said["got"].removesuffix(" MB")) < 400


def test_the_plugin_is_light():
    heavy = ["tensorflow", "keras", "numpy", "nbformat", "nbclient", "pytest"]
    code = f"import sys, advlib.nbplugin; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_without_nbval_the_plugin_does_nothing(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os\ndef test_it(): assert 'ADVLIB_PROGRESS' not in os.environ\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "advlib.nbplugin"]
    environment = {key: value for key, value in os.environ.items() if key != "ADVLIB_PROGRESS"}
    for more in ([], ["-p", "no:nbval"]):
        run = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


# --- The normal form


WIDGET = "application/vnd.jupyter.widget-view+json"
LESSON = notebook(
    "# A lesson, with α ≈ β",
    code("import advlib"),
    code(
        "print('a')",
        "a\nb\n",
        shown(text="<Figure>", png="AAAA"),
        "c\n",
        tags=["tol=3"],
        slideshow={"slide_type": "slide"},
        nbgrader={"grade": True, "points": 2},
        alt="A line",
    ),
    code(
        "7",
        {"output_type": "execute_result", "data": {"text/plain": "7"}, "metadata": {}, "execution_count": 3},
    ),
)


def as_saved_by_jupyterlab():
    """LESSON opened, run again from count 8, looked at, and saved."""
    nb = json.loads(LESSON)
    nb["metadata"]["kernelspec"]["display_name"] = "Python 3.13 (.venv)"
    nb["metadata"]["language_info"] |= {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "version": "3.13.1",
    }
    nb["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"a": {}}}}
    nb["metadata"]["toc-autonumbering"] = True
    for n, cell in enumerate(nb["cells"]):
        cell["metadata"] = {"editable": True, "deletable": True, "trusted": True} | cell["metadata"]
        cell["metadata"].setdefault("tags", [])
        cell["metadata"].setdefault("slideshow", {"slide_type": ""})
        if cell["cell_type"] == "code":
            cell["metadata"] |= {"scrolled": True, "collapsed": False, "jupyter": {"outputs_hidden": False}}
            cell["metadata"]["execution"] = {"iopub.execute_input": f"2026-01-01T00:00:0{n}Z"}
            cell["execution_count"] += 7
            for out in cell["outputs"]:
                if "execution_count" in out:
                    out["execution_count"] += 7
    outputs = nb["cells"][2]["outputs"]
    outputs[:1] = [stream("a\n"), stream("b\n")]
    outputs[2]["metadata"] = {"image/png": {"needs_background": "light"}}
    outputs[2]["data"][WIDGET] = {"model_id": "abc"}
    empty = {
        "cell_type": "code",
        "id": "new",
        "metadata": {},
        "source": [],
        "outputs": [],
        "execution_count": None,
    }
    nb["cells"].append(empty)
    return nb


def test_the_normal_form_is_normal():
    assert form_problems(LESSON) == []
    assert LESSON.endswith('"nbformat_minor": 5\n}\n')
    assert "α ≈ β" in LESSON
    nb = json.loads(LESSON)
    record = nb["metadata"].pop(nbplugin.RECORD)
    assert [len(digest) for digest in record["rendered"]] == [8, 8, 8] and record["versions"]["numpy"]
    assert nb["metadata"] == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell.get("execution_count") for cell in nb["cells"]] == [None, 1, 2, 3]
    assert set(nb["cells"][2]["metadata"]) == {"tags", "slideshow", "nbgrader", "alt"}


def test_what_jupyterlab_changes_normalises_back():
    saved = json.dumps(as_saved_by_jupyterlab(), indent=2)
    assert normalised(saved) == LESSON
    problems = form_problems(saved)
    for place in ("metadata.widgets", "metadata.language_info.version", "cells: "):
        assert any(problem.startswith(place) for problem in problems), problems
    assert any(
        re.match(r"cells\[1\]\.metadata\.execution: not kept", p)
        for p in form_problems_without_the_new_cell()
    )


def form_problems_without_the_new_cell():
    nb = as_saved_by_jupyterlab()
    nb["cells"].pop()
    return form_problems(json.dumps(nb))


def test_locks_stay_and_what_is_open_says_nothing():
    cells = [
        code("1", deletable=False, editable=False),
        code("2", deletable=False, editable=True),
        code("3", editable=0),
    ]
    text = notebook("# Text", *cells)
    metadata = [cell["metadata"] for cell in json.loads(text)["cells"]]
    assert metadata == [{}, {"deletable": False, "editable": False}, {"deletable": False}, {}]
    assert normalised(text) == text


@pytest.mark.parametrize(
    "record",
    [
        None, 3, [], {}, {"rendered": []}, {"rendered": "abc", "versions": {}}, {"rendered": [1], "versions": {}},
        {"rendered": [], "versions": []}, {"rendered": [], "versions": {"numpy": 2}},
        {"rendered": [], "versions": {}, "more": 1},
    ],
)  # fmt: skip
def test_a_record_that_render_did_not_make_is_not_kept(record):
    nb = json.loads(LESSON)
    nb["metadata"][nbplugin.RECORD] = record
    text = json.dumps(nb)
    assert nbplugin.RECORD not in json.loads(normalised(text))["metadata"]
    assert [problem.split(":")[0] for problem in form_problems(text) if nbplugin.RECORD in problem]


def test_form_alone_is_seen():
    for other in (
        LESSON[:-1],
        LESSON.replace("\n", "\r\n"),
        json.dumps(json.loads(LESSON), indent=1),
        LESSON + "\n",
    ):
        assert other != LESSON
        assert form_problems(other) == [
            "written with other line ends, indentation, order of keys, or the same key twice"
        ]
        assert normalised(other) == LESSON


def test_alt_text_of_an_image_stays():
    alt = {"image/png": {"alt": "A line", "width": 200, "isolated": True}, "text/plain": {"alt": ""}}
    nb = json.loads(notebook(code("x", {**shown(text="<Figure>", png="AAAA"), "metadata": alt})))
    assert nb["cells"][0]["outputs"][0]["metadata"]["image/png"] == {"alt": "A line", "width": 200}


def test_cells_never_run_stay_so_and_others_are_counted_through():
    nb = json.loads(notebook(code("1"), code("2", count=-1), code("3")))
    assert [cell["execution_count"] for cell in nb["cells"]] == [1, None, 2]


def test_ids_are_kept_made_once_and_unique():
    nb = json.loads(LESSON)
    nb["cells"].append(copy.deepcopy(nb["cells"][0]))  # the same id twice
    del nb["cells"][1]["id"]
    first, again = (normalised(json.dumps(nb)) for _ in range(2))
    assert first == again == normalised(first)
    ids = [cell["id"] for cell in json.loads(first)["cells"]]
    assert ids[0] == "cell-0" and len(set(ids)) == 5
    nb["nbformat_minor"] = 4  # before ids
    for cell in nb["cells"]:
        cell.pop("id", None)
    assert normalised(json.dumps(nb)) == normalised(json.dumps(nb))


NO_NOTEBOOKS = [
    "",
    "x",
    "{}",
    "[]",
    "null",
    "3",
    '{"nbformat": 4}',
    '{"nbformat": 99, "cells": []}',
    LESSON[:300],
]
for word, other in {'"outputs"': '"output"', '"source"': '"text"', "cell-0": "a b"}.items():
    NO_NOTEBOOKS.append(LESSON.replace(word, other))


@pytest.mark.parametrize("text", NO_NOTEBOOKS)
def test_what_is_no_notebook_is_refused(text):
    with pytest.raises(ValueError, match="the JSON text of a Jupyter notebook was expected"):
        read(text)
    assert len(form_problems(text)) == 1


# --- The rules


def lesson(*cells):
    """A notebook that keeps all rules but those that the cells break."""
    return notebook(code("import advlib"), *cells, *["text"] * (20 - len(cells)))


OK = [
    (code("# tol: two seeds gave 96.9 and 97.3\nprint('≈ 97.3 %')", "≈ 97.3 %\n", tags=["tol=3"])),
    (code("x = ';'  # a ; in a comment;\n")),
    (code("for x in (1, 2): pass\n# NBVAL is a tool")),
    (prints("8/255 </td> https://arxiv.org/abs/1412.6572 and/or 1/2/3 ~ ./data/x.npz ≈ 0.0 % ≈ 0 of 9")),
    (code("%matplotlib inline")),
    (code("\n".join(["x = 1"] * 25))),
    (code("import tensorflow as tf")),
    (code("x", shown(text="<Figure size 100x100 with 1 Axes>", png="/tmp/a/b0xabcdef12"), alt="A line")),
]
ERROR = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "", "traceback": []}
BROKEN = {
    "run": [
        (code("1", count=-1), r"cell \[2\]: execution count None, where 2 was expected"),
    ],
    "fresh": [],  # below
    "streams": [
        (code("1", stream("oneDNN\n", "stderr")), r"cell \[2\]: output on standard error: 'oneDNN'"),
        (code("1/0", ERROR), "a stored error, ZeroDivisionError"),
    ],
    "semicolon": [
        (code("plt.plot(x);"), "plt.show"),
        (code("plt.plot(x);  # hidden\n\n"), "plt.show"),
    ],
    "unchecked": [
        (code("1", tags=["nbval-ignore-output"]), "nbval-ignore-output"),
        (code("1", tags=["nbval-skip"]), "nbval-skip"),
        (code("1/0", tags=["raises-exception"]), "raises-exception"),
        (code("1", tags=["skip-execution"]), "skip-execution"),
        (code("# NBVAL_IGNORE_OUTPUT\n1"), "NBVAL_IGNORE_OUTPUT"),
        (code("1\n#NBVAL_SKIP"), "NBVAL_SKIP"),
        (code("# PYTEST_VALIDATE_IGNORE_OUTPUT\n1"), "PYTEST_VALIDATE_IGNORE_OUTPUT"),
    ],
    "tolerance": [
        (prints("≈ 97.3 %", tags=["tol=3"]), "without its reason"),
        (code("# tol:\n1", "≈ 97.3 %\n", tags=["tol=3"]), "without its reason"),
        (code("# tol: wide\n1", "≈ 97.3 %\n", tags=["tol=6"]), "a number up to 5"),
        (code("# tol: wide\n1", "≈ 97.3 %\n", tags=["tol=0"]), "a number up to 5"),
        (code("# tol: wide\n1", "≈ 97.3 %\n", tags=["tol = 2"]), "'tol = 2'"),
        (code("# tol: wide\n1", "≈ 97.3 %\n", tags=["tol:2"]), "'tol:2'"),
        (code("# tol: wide\n1", "≈ 97.3 %\n", tags=["tol=3", "tol=4"]), "2 tolerance tags"),
        (code("# tol: wide\n1", "97.3 %\n", tags=["tol=3"]), "no number behind ≈"),
    ],
    "zero": [
        (prints("≈ 0"), "≈ 0: a relative tolerance means nothing"),
        (prints("difference ≈ 3e-07"), "≈ 3e-07: a relative"),
        (code("1", shown(html="<b>≈ 0.0</b>", text="1")), "≈ 0.0: a relative"),
    ],
    "short": [
        (code("\n".join(["x = 1"] * 26)), "26 lines of code: at most 25"),
    ],
    "machine": [
        (prints("/home/me/x.npz"), "'/home/me' in an output"),
        (prints("in /srv/x y"), "/srv/x"),
        (code("1", shown(text=r"'C:\\Users\\me'")), r"C:\\\\"),
        (prints(r"D:\data"), r"D:\\"),
        (code("object()", shown(text="<object object at 0x7f2e4e5a72e0>")), "0x7f2e4e5a72e0"),
    ],
    "alt": [
        (code("x", shown(text="<Figure>", png="AAAA")), "a figure without alternative text"),
        (code("x", shown(text="<Figure>", svg="<svg/>"), alt=""), "a figure without alternative text"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("cell", OK, ids=lambda cell: cell["source"][:20])
def test_good_cells_break_no_rule(cell):
    nb = read(lesson(cell))
    assert [problem for rule in RULES for problem in rule_problems(nb, rule)] == []


@pytest.mark.parametrize(
    ("rule", "cell", "message"), [(rule, *case) for rule in BROKEN for case in BROKEN[rule]]
)
def test_bad_cells_break_their_rule_and_no_other(rule, cell, message):
    nb = read(lesson(cell))
    problems = {name: rule_problems(nb, name) for name in RULES}
    assert [name for name in RULES if problems[name]] == [rule]
    assert len(problems[rule]) == 1
    assert re.search(message, problems[rule][0])


def fresh(change):
    """What the rule `fresh` says after a change of the cells of a rendered notebook: text, then code a, b, c."""
    nb = json.loads(notebook("# Text", code("a"), code("b"), code("c", shown(text="<Figure>", png="AAAA"))))
    change(nb["cells"])
    text = normalised(json.dumps(nb))
    assert normalised(text) == text
    return rule_problems(read(text), "fresh")


def test_an_output_older_than_its_code_is_found():
    """Though the normal form and the comparison, which sees a figure but not its lines, find nothing."""

    def edit(cells):
        cells[3]["source"] = "c  # of another colour"

    def spelt_as_jupyterlab_saves_it(cells):
        cells[2]["source"] = ["b"]
        cells[0]["source"] = "# Other text"
        cells[1]["execution_count"] = 17
        cells.append({**cells[1], "id": "new", "source": ""})

    assert fresh(lambda cells: None) == fresh(spelt_as_jupyterlab_saves_it) == []
    assert fresh(edit) == [
        "cell [3]: its code is not what was run for the stored outputs: render the notebook"
    ]
    assert fresh(lambda cells: cells.insert(2, {**cells[1], "id": "new", "source": "n"})) == [
        "cell [2]: the stored outputs are of 3 code cells, and there are 4, other ones from here on: render the notebook"
    ]
    assert fresh(lambda cells: cells.pop(1))[0].startswith(
        "cell [1]: the stored outputs are of 3 code cells, and there are 2"
    )
    assert fresh(lambda cells: cells.pop())[0].startswith("notebook: the stored outputs are of 3 code cells")
    moved = fresh(lambda cells: cells.insert(1, cells.pop()))
    assert [line.partition(":")[0] for line in moved] == ["cell [1]", "cell [2]", "cell [3]"]
    nb = read(notebook(code("a"), record=False))
    assert rule_problems(nb, "fresh") == [
        "notebook: no record of what code its outputs are of: render the notebook"
    ]


@pytest.mark.parametrize(
    "source", ["import numpy as np\nimport advlib", "def f():\n    import keras", "from tensorflow import io"]
)
def test_advlib_is_imported_first(source):
    nb = read(notebook(code("x = 1"), code(source), code("import advlib"), *["text"] * 15))
    assert re.match(
        r"cell \[2\]: the first import is (numpy|keras|tensorflow): advlib", rule_problems(nb, "imports")[0]
    )
    assert (
        rule_problems(read(notebook(code("from advlib.check import check; import numpy"))), "imports") == []
    )
    assert rule_problems(read(notebook("text", code("1"))), "imports") != []


def test_the_number_of_cells_is_bounded():
    for number, problems in ((14, 1), (15, 0), (35, 0), (36, 1)):
        nb = read(notebook(*["text"] * number))
        assert len(rule_problems(nb, "short")) == problems


def test_the_name_of_the_machine_is_seen(monkeypatch):
    nb = read(lesson(prints("ran on build-7f3a")))
    assert rule_problems(nb, "machine") == []
    monkeypatch.setattr(nbplugin.socket, "gethostname", lambda: "build-7f3a")
    assert len(rule_problems(nb, "machine")) == 1


def test_tolerances_are_listed_with_their_reason():
    nb = read(lesson(prints("≈ 1.00", tags=["tol=2.5"]), OK[0]))
    assert nbplugin.tolerances(nb) == [
        "cell [2]: tol=2.5: no reason given",
        "cell [3]: tol=3: two seeds gave 96.9 and 97.3",
    ]


# --- Rendering


def test_render_stores_a_run_notebook_twice_the_same(tmp_path):
    source = tmp_path / "a lesson ≈.ipynb"
    cells = [
        "# Text",
        code("import advlib", count=-1),
        code("import sys\nprint('one'); sys.stdout.flush(); print('two')", "old\n", count=-1),
        code(f"{FIGURE}\nprint('three')", count=-1),
        code("from pathlib import Path\nPath('here').touch(); 6 * 7", count=-1),
    ]
    cells[2]["metadata"]["tags"] = ["skip-execution"]  # nbclient would pass over it
    cells[-1]["source"] = "print = None\n" + cells[-1]["source"]  # the kernel is still asked for its memory
    source.write_text(notebook(*cells, record=False), encoding="utf-8")
    result = render(source)
    first = source.read_bytes()
    assert 0 < result.seconds < 120 and 20 < result.megabytes < 2000
    assert (tmp_path / "here").exists()  # run in its own folder
    assert form_problems(first.decode()) == [] and b"\r" not in first
    nb = read(first.decode())
    assert rule_problems(nb, "fresh") == [] and len(nb.metadata[nbplugin.RECORD]["rendered"]) == 4
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2, 3, 4]
    outputs = [cell.outputs for cell in nb.cells[1:]]
    assert [out.text for out in outputs[1]] == ["one\ntwo\n"]
    assert outputs[2][0].data["image/png"] and outputs[2][1].text == "three\n"
    assert outputs[3][0].data == {"text/plain": "42"} and outputs[3][0].execution_count == 4
    render(source)
    assert source.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a lesson ≈.ipynb", "here"]


def test_the_peak_is_the_kernels_own_and_not_what_its_parent_held(tmp_path):
    held = bytearray(700 * 2**20)
    source = tmp_path / "small.ipynb"
    source.write_text(notebook(code("1 + 1"), record=False), encoding="utf-8")
    assert 20 < render(source).megabytes < 600 and len(held)


def test_a_cell_that_fails_is_named_and_nothing_is_stored(tmp_path):
    source = tmp_path / "broken.ipynb"
    source.write_text(notebook("# Text", code("x = 0", count=-1), code("1 / x", count=-1)), encoding="utf-8")
    before = source.read_bytes()
    with pytest.raises(
        RenderError, match=r"broken\.ipynb, cell \[2\]: (?s:.*)1 / x(?s:.*)ZeroDivisionError"
    ) as error:
        render(source)
    assert "\x1b" not in str(error.value)
    assert source.read_bytes() == before
    with pytest.raises(RenderError, match=r"cell \[1\]"):
        source.write_text(notebook(code("import time; time.sleep(60)", count=-1)), encoding="utf-8")
        render(source, timeout=1)


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notebooks").mkdir()
    good, bad = Path("notebooks/00_good.ipynb"), Path("notebooks/01_bad.ipynb")
    good.write_text(lesson(OK[0]), encoding="utf-8")
    bad.write_text(lesson(code("1;")).replace('"python3"', '"other"'), encoding="utf-8")
    assert nbplugin.main(["check"]) == 1
    said = capsys.readouterr()
    assert f"{bad}: metadata.kernelspec.name: " in said.err and f"{bad}: cell [2]: it ends in `;`" in said.err
    assert str(good) not in said.err
    assert f"{good}: wider tolerance, cell [2]: tol=3: two seeds" in said.out
    assert nbplugin.main(["check", "00"]) == 0
    assert nbplugin.main(["check", str(good), "notebooks"]) == 1
    bad.write_text("{}", encoding="utf-8")
    assert nbplugin.main(["check", "01"]) == 1
    assert nbplugin.main(["render", "01"]) == 1
    assert bad.read_text(encoding="utf-8") == "{}"
    assert "not rendered" in capsys.readouterr().err
    for unknown in ("07", "notebooks/07_none.ipynb"):
        with pytest.raises(SystemExit) as exit:
            nbplugin.main(["check", unknown])
        assert exit.value.code == 2
    assert "the first letters of a lesson" in capsys.readouterr().err
