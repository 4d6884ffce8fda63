"""A newcomer's first minutes, in a real browser: `course.py lab`, all cells of lesson 00, save."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from browser import BrowserError, chromium, end, find_chromium

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[1]

# The indicator says "idle" before there is a kernel, too.
IDLE = """document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'
    && document.querySelector('.jp-Toolbar-kernelName').textContent.startsWith('Python 3')"""
DIALOG = "document.querySelector('.jp-Dialog')"
PROMPTS = (
    "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
)
# An exception's traceback is shown as what went to standard error is.
ERRORS = "document.querySelector('.jp-Notebook [data-mime-type=\"application/vnd.jupyter.stderr\"]')"

# What a reader who scrolls through the lesson sees of each cell. JupyterLab draws only what is in view.
CELLS = """(async () => {
    const cells = [], drawn = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    for (const cell of document.querySelectorAll('.jp-Notebook .jp-Cell')) {
        cell.scrollIntoView();
        await drawn();
        const figures = [];
        for (const image of cell.querySelectorAll('img')) {
            image.scrollIntoView({block: 'center'});
            await drawn();
            const box = image.getBoundingClientRect();
            const seen = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            figures.push(image.naturalWidth > 0 && seen === image);
        }
        const kinds = [...cell.querySelectorAll('.jp-OutputArea-output')].map(e => e.dataset.mimeType);
        const output = cell.querySelector('.jp-Cell-outputArea');
        const bad = [...cell.querySelectorAll('mjx-merror, mjx-container [style*="color: red"]')]
            .map(formula => formula.closest('mjx-container').textContent);
        const prose = cell.querySelector('.jp-MarkdownOutput')?.cloneNode(true);
        prose?.querySelectorAll('code').forEach(code => code.remove());
        if (prose?.textContent.includes('$')) bad.push(prose.textContent);  // a formula that was not typeset
        const prompt = cell.querySelector('.jp-InputPrompt').textContent;
        const text = output ? output.innerText : '';
        cells.push({prompt, text, kinds, figures, bad});
    }
    return cells;
})()"""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def link(source, target):
    if source.is_file():
        shutil.copyfile(source, target)
    elif os.name == "nt":  # where a symbolic link takes a privilege, and a junction none
        import _winapi

        _winapi.CreateJunction(str(source), str(target))
    else:
        target.symlink_to(source)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout of its own, so that the learner's copies stay as they are: the environment is the one that runs
    the tests, and course.py is told that it is up to date."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("course.py", "requirements.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        link(entry, folder / ".venv" / entry.name)
    stamp = "import course; course.write_json(course.STAMP, course.wanted_stamp())"
    subprocess.run([sys.executable, "-c", stamp], cwd=folder, check=True)
    return folder


@contextlib.contextmanager
def lab(checkout, folder):
    """`course.py lab` for somebody who has never started Jupyter; the address that it announces."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    env.pop("ADVLIB_PROGRESS", None)  # conftest.py turned the progress bars off
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        env[variable] = str(folder / variable.lower())
    command = [sys.executable, "course.py", "lab", "--no-browser", "--port=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    path = folder / "lab.log"
    with open(path, "wb") as log:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(command, cwd=checkout, env=env, **options)
    try:
        until = time.monotonic() + 120
        while True:
            said = path.read_text(encoding="utf-8", errors="replace")
            announced = re.findall(r"http://localhost:\S+token=\w+", said)
            if announced:
                break
            ended = process.poll()
            if ended is not None or time.monotonic() > until:
                when = "in 120 s" if ended is None else f"before it ended with status {ended}"
                raise BrowserError(
                    f"course.py lab announced no address {when}; its last lines:\n{said[-3000:]}"
                )
            time.sleep(0.2)
        yield announced[-1]
    finally:
        end(process)


@pytest.fixture(scope="module")
def session(checkout, tmp_path_factory):
    """One session, driven as a person would: open the address, clear all outputs, run all cells, save."""
    find_chromium()  # skips, before anything is started
    folder = tmp_path_factory.mktemp("session")
    originals = contents(checkout / "notebooks")
    first = min(originals)
    stored = json.loads(originals[first])["cells"]
    with lab(checkout, folder) as address, chromium(folder) as page:
        assert urlsplit(address).path == f"/lab/tree/work/{first}"
        page.open(address)
        # Before the kernel is there, "Run All Cells" asks for one.
        page.wait_for(f"{IDLE} || {DIALOG} && true", "the kernel", 120)
        asks = page.evaluate(f"{DIALOG}?.innerText")
        if asks:
            page.fail(f"JupyterLab asks a question before lesson 00 can be run: {asks!r}")
        whole = f"document.querySelectorAll('.jp-Notebook .jp-Cell').length === {len(stored)}"
        page.wait_for(whole, f"the {len(stored)} cells of {first}", 60)
        # A lesson is stored with its outputs: without this, all could look well before anything has run.
        page.click(".lm-MenuBar-item", "Edit")
        page.click(".lm-Menu-item[data-command='editmenu:clear-all']")
        page.wait_for(f"{PROMPTS}.every(p => p === '[ ]:')", "the outputs to be cleared")
        page.click(".lm-MenuBar-item", "Run")
        page.click(".lm-Menu-item[data-command='runmenu:run-all']")
        done = f"{PROMPTS}.every(p => /\\d/.test(p)) || {ERRORS} && !{PROMPTS}.some(p => p.includes('*'))"
        page.wait_for(done, f"all cells of {first} to be run", 300)
        page.wait_for(IDLE, "the kernel to be idle again", 60)
        cells = page.evaluate(CELLS)
        page.evaluate("document.querySelector('.jp-OutputArea img')?.scrollIntoView({block: 'center'})")
        time.sleep(0.5)  # the cells around it are drawn a little later
        page.screenshot(folder / "lesson.png")
        page.click(".lm-MenuBar-item", "File")
        page.click(".lm-Menu-item[data-command='docmanager:save']")
        page.wait_for("!document.querySelector('.lm-TabBar-tab.jp-mod-dirty')", "the lesson to be saved")
    return SimpleNamespace(page=page, originals=originals, first=first, stored=stored, cells=cells)


def code(session):
    """The code cells: as stored in the lesson, and as shown in the browser."""
    pairs = zip(session.stored, session.cells, strict=True)
    return [(stored, shown) for stored, shown in pairs if stored["cell_type"] == "code"]


def lines(cell):
    """The lines that a stored cell printed."""
    streams = (output for output in cell["outputs"] if output["output_type"] == "stream")
    return "".join("".join(output["text"]) for output in streams).splitlines()


def test_every_code_cell_has_run_without_an_error(session):
    cells = [shown for _, shown in code(session)]
    assert [shown["text"] for shown in cells if "application/vnd.jupyter.stderr" in shown["kinds"]] == []
    assert [shown["prompt"] for shown in cells] == [f"[{n}]:" for n in range(1, len(cells) + 1)]


def test_every_figure_is_seen(session):
    figures = [shown["figures"] for _, shown in code(session)]
    stored = [sum("image/png" in o.get("data", ()) for o in cell["outputs"]) for cell, _ in code(session)]
    assert figures == [[True] * n for n in stored]
    assert sum(stored) > 0
    assert [n for n, shown in enumerate(session.cells) if not all(shown["figures"])] == []  # in the prose too


def test_every_check_says_ok(session):
    expected = [[line for line in lines(cell) if line.startswith("ok: ")] for cell, _ in code(session)]
    found = [
        [line for line in shown["text"].splitlines() if line.startswith("ok: ")] for _, shown in code(session)
    ]
    assert found == expected
    assert sum(map(len, expected)) > 0


def test_no_output_and_no_formula_is_broken(session):
    broken = re.compile("Error displaying widget|Loading widget|Javascript Error|<Figure size")
    assert [shown["text"] for shown in session.cells if broken.search(shown["text"])] == []
    assert [shown["bad"] for shown in session.cells if shown["bad"]] == []


def test_the_console_has_no_error(session):
    assert session.page.errors == []


def test_nothing_is_asked_of_another_machine(session):
    asked = [urlsplit(url) for url in session.page.requests if not url.startswith(("data:", "blob:"))]
    assert {url.geturl() for url in asked if url.hostname != "localhost"} == set()
    assert len(asked) > 10  # JupyterLab alone asks for more


def test_the_learner_has_a_saved_copy_and_the_original_is_untouched(session, checkout):
    saved = json.loads((checkout / "work" / session.first).read_bytes())["cells"]
    counts = [cell["execution_count"] for cell in saved if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert ["".join(cell["source"]) for cell in saved] == ["".join(cell["source"]) for cell in session.stored]
    assert contents(checkout / "notebooks") == session.originals
