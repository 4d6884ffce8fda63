"""The teacher's guide and the troubleshooting page say what the repository says: numbers, headings, commands, messages."""

import contextlib
import errno
import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser import BrowserError, chromium, end, find_chromium

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "teaching").is_dir():
    pytest.skip("a student's copy has no teacher's guide", allow_module_level=True)
GUIDE = (ROOT / "teaching" / "guide.md").read_text(encoding="utf-8")
FLAT = " ".join(GUIDE.split())  # a sentence that is looked for may be broken over two lines
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def module(path):
    """A file of the repository that is no package, imported."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_in_test", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


minutes = module(ROOT / "tools" / "minutes.py")
LESSONS = minutes.lessons()


def headings(number):
    """Every heading of a lesson below its title."""
    text = "\n".join(
        minutes.source(c) for c in minutes.cells(LESSONS[number]) if c["cell_type"] == "markdown"
    )
    return {name.strip() for name in re.findall(r"^##+ (.+)$", text, re.M)}


def rows(table_with):
    """The cells of each row of the guide's tables whose header has this word."""
    for table in re.findall(r"(?:^\|.*\n)+", GUIDE, re.M):
        lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        if table_with in lines[0]:
            yield from lines[2:]


# ---- the guide against the notebooks


def test_computed_tables_are_as_the_notebooks_say():
    assert minutes.filled(GUIDE) == GUIDE, "run python tools/minutes.py --write"
    assert GUIDE.count("<!-- computed: ") == len(LESSONS) + 2 and "<!-- weeks -->" in GUIDE


def test_minutes_count_words_sections_and_points(tmp_path, monkeypatch):
    """A section is cut at `##`, not at `###` nor at a comment in code; exercises and sources are not read through."""
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "45 minutes.\n", "## A\n", "one two ### three"]},
        {"cell_type": "code", "source": ["## no heading\n", "x = 1"]},
        {
            "cell_type": "markdown",
            "source": ["still\n", "### A1\n", "## B\n", "four\n", "## Sources\n", "none"],
        },
    ]
    path = tmp_path / "03_x.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    read = {name: round(m * minutes.WORDS_A_MINUTE) for name, m in minutes.reading(path).items()}
    assert read == {minutes.OPENING: 4, "A": 6 + 6 + 3, "B": 3}
    assert minutes.stated(path) == 45
    monkeypatch.setattr(minutes, "LESSONS", tmp_path)
    monkeypatch.setattr(minutes, "MEASURED", tmp_path / "measured.json")
    minutes.MEASURED.write_text('{"lessons": {"03": {"seconds": {"old": 1}}}}')
    with pytest.raises(SystemExit, match=r"lesson 03: A in measured\.json was expected: .* --measure 03"):
        minutes.running("03")
    minutes.MEASURED.write_text('{"lessons": {"03": {"seconds": {"A": 61.4}}}}')
    assert "45 minutes stated" in minutes.of_a_lesson("03") and "*A* 1, *B* <1." in minutes.of_a_lesson("03")


@pytest.mark.skipif(os.name == "nt", reason="minutes.py measures on Linux and macOS only")
def test_a_lesson_is_measured(tmp_path, monkeypatch):
    """In a kernel of its own, by section; what a cell allocated and gave back counts."""
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "## A\nwait"},
        {**code, "id": "b", "source": "import time; time.sleep(0.3); held = b'1' * 200_000_000; del held"},
        {"cell_type": "markdown", "id": "c", "metadata": {}, "source": "## B"},
        {**code, "id": "d", "source": "2"},
    ]
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {"cells": cells, "metadata": python, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "00_x.ipynb").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(minutes, "LESSONS", tmp_path)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    found = minutes.measure("00")
    assert found["seconds"].keys() == {"A", "B"} and 0.3 <= found["seconds"]["A"] < 20
    assert 200 < found["peak_mb"] < 700


def test_every_lesson_has_its_notes():
    """Under its own title: minutes, something to show, and two to four questions."""
    parts = re.findall(r"^### (\d\d .+)\n((?:(?!^##+ ).*\n)*)", GUIDE, re.M)
    titles = [
        minutes.source(minutes.cells(path)[0]).splitlines()[0].removeprefix("# ") for path in LESSONS.values()
    ]
    assert [title for title, _ in parts] == titles
    for title, notes in parts:
        assert 2 <= len(re.findall(r"^\d\. ", notes, re.M)) <= 4, title
        assert f"<!-- computed: {title[:2]} -->" in notes and "Prerequisites: " in notes
        shown = re.search(r"\*\*Show live\*\*: (.*?)\*\*Beliefs\*\*", notes, re.S)[1]
        named = {" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", shown)}
        assert named and named <= headings(title[:2]), (title, named - headings(title[:2]))


def test_prerequisites_are_earlier_lessons():
    for number, line in re.findall(r"^### (\d\d) .+\n\nPrerequisites: (.*)$", GUIDE, re.M):
        needed = re.findall(r"\b\d\d\b", line)
        assert all(earlier < number for earlier in needed) and (needed or number == "00")


def test_plans_name_sections_and_exercises_that_exist():
    exercises = {name for about in minutes.marked().values() for name in about["points"]}
    plans = [*rows("sections"), *rows("in the meeting")]
    assert len(plans) > 25
    for row in plans:
        numbers = re.findall(r"\d\d", row[1])
        known = set().union(*map(headings, numbers))
        named = re.findall(r"\*([^*]+)\*", re.sub(r"\*\*.*?\*\*", "", row[2]))
        assert set(named) <= known, (row, set(named) - known)
        assert set(re.findall(r"\b\d\d\.\d\b", row[3])) <= exercises
    weeks = list(rows("in the meeting"))
    assert len(weeks) == 12 and [n for row in weeks for n in re.findall(r"\d\d", row[1])] == list(LESSONS)
    for row in weeks:
        name = re.fullmatch(r"\*\*(.+)\*\*", row[3])[1]
        text = "".join(
            minutes.source(c) for n in re.findall(r"\d\d", row[1]) for c in minutes.cells(LESSONS[n])
        )
        assert re.search(rf"\*\*(\d\. )?{re.escape(name)}\.?\*\*", text), name


def test_timetables_add_up():
    sums = re.findall(r"((?:^\|.*\n)+)\n<!-- sum (\d+) -->", GUIDE, re.M)
    assert [int(total) for _, total in sums] == [90, 360, 360]
    for table, total in sums:
        assert sum(int(n) for n in re.findall(r"^\| (\d+) \|", table, re.M)) == int(total)


def test_beliefs_are_answered_by_a_cell():
    """The section exists, and one of its cells prints the line."""
    found = list(rows("belief"))
    assert len({row[0] for row in found} - {'"'}) == 10
    for _, _, where, line in found:
        number, section = re.fullmatch(r"(\d\d) \*(.+)\*", where).groups()
        assert section in headings(number)
        cells = minutes.cells(LESSONS[number])
        inside = {i for name, i, _ in minutes.sections(LESSONS[number]) if name == section}
        printed = {
            text.strip()
            for i in inside
            for output in cells[i].get("outputs", [])
            for text in "".join(output.get("text", [])).splitlines()
        }
        assert line in printed, (number, section, line)


def test_numbers_of_the_marking_scheme():
    from advlib import sealed

    assert "three answers for each of six models" in FLAT
    assert (len(sealed.QUESTIONS), len(sealed.load())) == (3, 6)
    assert "three for each" in FLAT
    for about in minutes.marked().values():
        assert all(points == 3 for points, kind in about["points"].values() if kind == "words")


def test_rules_quoted_from_elsewhere():
    from advlib.nbplugin import differences

    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "15 to 35 cells" in contributing and "15 to 35 cells of at most 25 lines" in FLAT
    for stored, inside, outside in (
        ("≈ 97.3 %", "≈ 97.8 %", "≈ 97.9 %"),
        ("≈ 500 of 1000", "≈ 505 of 1000", "≈ 506 of 1000"),
        ("≈ 1.00", "≈ 1.02", "≈ 1.03"),
    ):
        assert not differences(stored, inside) and differences(stored, outside)


@pytest.mark.parametrize("file", ["teaching/guide.md", "docs/troubleshooting.md"])
def test_links_and_files_hold(file):
    text, folder = (ROOT / file).read_text(encoding="utf-8"), (ROOT / file).parent
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if "://" not in link and not (folder / link).exists()] == []
    named = re.findall(r"`((?:advlib|tools|tests|docs|teaching)/[\w./]+\.(?:py|md|json))`", text)
    named = [path for path in named if path != "advlib/exercises/lesson_NN.py"]
    assert [path for path in named if not (ROOT / path).exists()] == []
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S).splitlines()
    assert [line for line in prose if len(line) > 130 and line[0] != "|"] == []
    for title in re.findall(r' \("([^"]+)"\)', FLAT):
        assert re.search(rf"^##+ {re.escape(title)}$", GUIDE, re.M), title


def test_commands_that_are_named_exist():
    course = module(ROOT / "course.py")
    verbs = {verb for text in (GUIDE, TROUBLE) for verb in re.findall(r"course\.py ([a-z]+)", text)}
    for verb in verbs - {"labs"}:
        assert f"course.py {verb}" in course.__doc__ or callable(getattr(course, verb)), verb
    shown = subprocess.run(
        [sys.executable, "-m", "teaching", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for verb in set(re.findall(r"python -m teaching ([a-z]+)", GUIDE)):
        assert re.search(rf"\b{verb}\b", shown), f"python -m teaching has no {verb}"


# ---- PyTorch: a model that is a function


@pytest.fixture(scope="module")
def outsider():
    """A linear model in NumPy alone, images it gets right, and the same model in Keras."""
    from advlib import data, models

    net = models.linear(seed=0)
    w, b = (part.astype("float64") for part in net.get_weights())
    mean, std = models.MEAN, models.STD

    def predict(x):
        flat = (np.asarray(x).reshape(len(x), -1) - mean) / std
        return (flat @ w + b).astype("float32")

    x = data.load("mnist")[2][:12]
    y = predict(x).argmax(axis=1)
    assert np.allclose(models.predict_logits(net, x), predict(x), atol=1e-3)
    return predict, x, y, net


def test_attacks_without_gradients_take_any_function(outsider, tmp_path):
    import advlib
    from advlib import attacks, noise

    predict, x, y, _ = outsider
    budget = {
        "noise.best_of": partial(noise.best_of, eps=0.3, draws=5),
        "square": partial(attacks.square, eps=0.3, steps=30),
        "spsa": partial(attacks.spsa, eps=0.3, steps=3),
        "nes": partial(attacks.nes, eps=0.3, steps=3),
        "boundary": lambda model, x, y: attacks.boundary(model, x, y, steps=20),
        "hop_skip_jump": lambda model, x, y: attacks.hop_skip_jump(model, x, y, norm="linf", steps=2),
    }
    assert all(f"`{name}`" in GUIDE for name in budget)
    for name, attack in budget.items():
        report = advlib.evaluate(predict, x, y, {name: attack}, norm="linf", eps=1.0)
        assert report.broken(name).any(), name
    box = attacks.BlackBox(predict, labels=True)
    attacks.hop_skip_jump(box, x[:2], y[:2], norm="linf", steps=1)
    assert box.queries > 0
    report = advlib.audit(predict, x, y, norm="linf", eps=0.3, preset="quick", folder=tmp_path)
    assert {flag.colour for flag in report.flags if flag.name == "zero gradients"} == {"red"}


def test_pytorchs_gradient_can_be_lent(outsider, tmp_path):
    """The guide's function, on the same linear model in both libraries; needs PyTorch, which only .venv-peers has."""
    torch = pytest.importorskip("torch", reason="PyTorch is in .venv-peers only")
    import advlib
    from advlib import attacks, models

    _, x, y, net = outsider
    space = {}
    exec(re.search(r"```python\n(.*?)```", GUIDE, re.S)[1], space)
    linear = torch.nn.Linear(784, 10)
    w, b = net.get_weights()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(w.T))
        linear.bias.copy_(torch.tensor(b))

    class Net(torch.nn.Module):
        def forward(self, x):
            return linear((x.flatten(1) - models.MEAN) / models.STD)

    lent = space["from_torch"](Net().eval())
    assert np.allclose(models.predict_logits(lent, x), models.predict_logits(net, x), atol=1e-3)
    for attack in (advlib.fgsm, partial(advlib.pgd, steps=5), partial(attacks.apgd, steps=10)):
        ours, theirs = attack(net, x, y, eps=0.05), attack(lent, x, y, eps=0.05)
        assert np.isclose(ours, theirs, atol=1e-5).mean() > 0.99
    for attack in (attacks.deepfool, partial(attacks.ddn, steps=20)):
        ours, theirs = (
            np.square(attack(model, x[:4], y[:4]) - x[:4]).sum(axis=(1, 2, 3)) for model in (net, lent)
        )
        assert np.allclose(ours, theirs, rtol=0.02)
    report = advlib.audit(lent, x, y, norm="linf", eps=0.05, preset="quick", folder=tmp_path)
    assert not report.still_correct().any()
    assert {flag.name for flag in report.flags if flag.colour == "red"} <= {"too few images"}


# ---- every message of the troubleshooting page


def blocks():
    """The messages that the page quotes, in its order."""
    return re.findall(r"^```text\n(.*?)\n```$", TROUBLE, re.M | re.S)


def quoted(block, text):
    """Whether every line of a message stands in the text; `…` stands for anything within a line."""
    lines = [".*".join(map(re.escape, line.strip().split("…"))) for line in block.splitlines()]
    return all(re.search(line, text) for line in lines)


def shell(*command, **env):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=os.environ | env
    )
    return done.stdout + done.stderr


@pytest.fixture
def course(tmp_path, monkeypatch):
    """course.py in a folder of its own, with one lesson and nothing installed."""
    (tmp_path / "notebooks").mkdir()
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "a",
        "metadata": {},
        "outputs": [],
        "source": ["0"],
    }
    content = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    for name in ("00_start_here", "03_gradient_attacks"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(content)
    for name in ("course.py", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    loaded = module(tmp_path / "course.py")
    monkeypatch.setattr(loaded, "find_uv", lambda: None)
    return loaded


def said_by(course, capsys, *arguments):
    course.main(list(arguments))
    captured = capsys.readouterr()
    return captured.out + captured.err


def raised(call):
    """Type and text of what a call raises, as a notebook shows it."""
    with pytest.raises(Exception) as caught:
        call()
    kind = type(caught.value)
    full = (
        kind.__name__
        if kind.__module__ in ("builtins", "advlib.check")
        else f"{kind.__module__}.{kind.__name__}"
    )
    return f"{full}: {caught.value}"


def in_pip(words):
    """The words, if pip's own source has them: from the pip installed here, or the one that Python brings along."""
    import ensurepip

    if importlib.util.find_spec("pip"):
        files = Path(importlib.util.find_spec("pip").origin).parent.rglob("*.py")
        sources = (path.read_text(encoding="utf-8") for path in files)
        return next((words for text in sources if words in text), "")
    wheel = next(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        return next((words for name in names if words in archive.read(name).decode("utf-8", "replace")), "")


def test_messages_of_the_set_up(course, capsys, monkeypatch):
    code = "import runpy, sys; sys.version_info = (3, 10, 13); sys.argv = ['course.py', 'lab']; "
    python = shell(
        sys.executable, "-c", code + f"runpy.run_path({str(ROOT / 'course.py')!r}, run_name='__main__')"
    )
    with monkeypatch.context() as patch:
        find = importlib.util.find_spec
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
        venv = said_by(course, capsys, "lab")
    wheels = said_by(course, capsys, "setup", "--offline")

    def fails(number):
        def copy(*_):
            raise OSError(number, os.strerror(number), str(course.WORK))

        monkeypatch.setattr(course.shutil, "copyfile", copy)
        return said_by(course, capsys, "reset", "03")

    full, read_only = fails(errno.ENOSPC), fails(errno.EROFS)
    command, lesson = said_by(course, capsys, "labs"), said_by(course, capsys, "reset", "30")
    found = [python, venv, full, wheels, read_only, command, lesson]
    for text in found:
        assert any(quoted(block, text) for block in blocks()), text
    everything = "\n".join(found)
    for block in blocks():
        if block.startswith("course.py:"):
            assert quoted(block, everything), block
    ours, system = next(block for block in blocks() if block.startswith("ERROR: Could not install")).split(
        " OSError: "
    )
    assert (
        in_pip(ours.removeprefix("ERROR: "))
        and system == f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
    )
    assert "*Windows Long Path*" in TROUBLE and in_pip("Windows Long Path")


def test_message_of_a_proxy_that_does_not_answer(tmp_path):
    import ensurepip

    wheels = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    with socket.socket() as held:  # bound and not listening: a connection to it is refused
        held.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{held.getsockname()[1]}"
        env = {
            "PYTHONPATH": str(wheels[-1]) if wheels else "",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": "",
        }
        env |= {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "PIP_INDEX_URL": "https://packages.invalid/simple",  # never asked: the proxy is
            "NO_PROXY": "",
        }
        said = shell(
            sys.executable, "-m", "pip", "download", "--retries", 1, "-d", tmp_path, "six==1.17.0", **env
        )
    block = next(block for block in blocks() if "ProxyError" in block)
    assert quoted(block, said), said


def test_messages_on_opening_a_lesson():
    backend = shell(sys.executable, "-c", "import advlib.attacks", KERAS_BACKEND="torch")
    absent = shell(
        sys.executable,
        "-S",
        "-c",
        "import sys; sys.path = [p for p in sys.path if 'lib' in p]; import advlib",
    )
    for text, word in ((backend, "KERAS_BACKEND"), (absent, "No module named 'advlib'")):
        assert quoted(next(block for block in blocks() if word in block), text), text


@contextlib.contextmanager
def jupyterlab(folder, port):
    """JupyterLab in this folder: what it says until its address is there, with the address at the end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        env[variable] = str(folder / variable.lower())
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--port={port}",
        f"--ServerApp.root_dir={folder}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        said = ""
        for line in process.stdout:
            said += line
            if "?token=" in line:
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()  # or it would wait to be read
        yield said
    finally:
        end(process)


def test_message_of_a_port_in_use(tmp_path):
    block = next(block for block in blocks() if "port" in block)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with jupyterlab(tmp_path, port) as said:
            assert quoted(block, said) and f":{port}/" not in said.splitlines()[-1], said


@pytest.mark.browser
def test_message_of_a_kernel_that_died(tmp_path):
    """A cell that ends its own kernel, as the system does where memory is short."""
    find_chromium()
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL if os.name == 'posix' else signal.SIGTERM)"
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "a",
        "metadata": {},
        "outputs": [],
        "source": code,
    }
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = {"cells": [cell], "metadata": python, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "dies.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with jupyterlab(tmp_path, 0) as said, chromium(tmp_path) as page:
        page.open(re.findall(r"http://\S+token=\w+", said)[-1].replace("/lab?", "/lab/tree/dies.ipynb?"))
        named = "document.querySelector('.jp-Toolbar-kernelName')?.textContent.startsWith('Python 3')"
        idle = (
            f"{named} && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"
        )
        page.wait_for(idle, "the notebook's kernel", 120)
        for seconds in (15, 60):  # on a busy machine the first click on Run All may go unheard
            page.click(".lm-MenuBar-item", "Run")
            page.click(".lm-Menu-item[data-command='runmenu:run-all']")
            with contextlib.suppress(BrowserError) if seconds < 60 else contextlib.nullcontext():
                shown = page.wait_for(
                    "document.querySelector('.jp-Dialog')?.innerText", "the dialog", seconds
                )
                break
    assert quoted(next(block for block in blocks() if "appears to have died" in block), shown), shown


def test_messages_in_a_cell(capsys):
    from advlib.check import check
    from advlib.exercises import check as exercise

    noise_left = 9767
    failed = raised(lambda: check("noise of 0.1 breaks more than half of the images", noise_left < 5000))
    undefined = raised(lambda: eval("net(x)", {}))
    memory = raised(lambda: np.zeros((10**6, 10**6, 10**3)))
    exercise("03.1", ...)
    for text, word in (
        (failed, "not true"),
        (undefined, "NameError"),
        (memory, "Unable to allocate"),
        (capsys.readouterr().out, "not done yet"),
    ):
        assert quoted(next(block for block in blocks() if word in block), text), text


def test_messages_of_damaged_files(tmp_path, monkeypatch):
    from advlib import data, models

    for suffix in (".json", ".npz"):
        (tmp_path / f"mnist-mlp{suffix}").write_bytes((models.FOLDER / f"mnist-mlp{suffix}").read_bytes())
    (tmp_path / "mnist-mlp.npz").write_bytes(b"half a file")
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    checkpoint = raised(lambda: models.load("mnist-mlp"))
    (tmp_path / "mnist.npz").write_bytes((ROOT / "advlib" / "datasets" / "mnist.npz").read_bytes()[:10_000])
    images = raised(lambda: data.read(tmp_path / "mnist.npz", {"x": ""}, {"x": ()}))
    for text, word in ((checkpoint, "checkpoint"), (images, "data file")):
        assert quoted(next(block for block in blocks() if word in block), text), text


def test_messages_about_a_model_of_ones_own(outsider):
    import advlib
    from advlib import models
    from advlib._tensorflow import keras

    predict, x, y, net = outsider
    with_softmax = keras.Sequential([net, keras.layers.Softmax()])
    probabilities = raised(lambda: models.predict_logits(with_softmax, x))
    pixels = raised(lambda: advlib.fgsm(net, 255 * x, y, eps=0.1))
    gradient = raised(lambda: advlib.fgsm(predict, x, y, eps=0.1))
    for text, word in (
        (probabilities, "probabilities"),
        (pixels, "pixels from"),
        (gradient, "there is no gradient"),
    ):
        assert quoted(next(block for block in blocks() if word in block), text), text


def test_no_message_is_untested():
    """Each block is looked up by one of the tests above: by these words, or as one of course.py's."""
    words = (
        "course.py:", "OSError", "ProxyError", "KERAS_BACKEND", "No module named", "in use", "appears to have died", "not true",
        "NameError", "Unable to allocate", "not done yet", "checkpoint", "data file", "probabilities", "pixels from",
        "there is no gradient",
    )  # fmt: skip
    for block in blocks():
        assert sum(word in block for word in words) >= 1, block
    for word in words:
        assert any(word in block for block in blocks()), word


def test_the_longest_path_fits_into_windows():
    """What the page says of paths, with the packages that are installed here."""
    import tensorflow

    packages = Path(tensorflow.__file__).parent.parent
    longest = max(len(str(path.relative_to(packages))) for path in packages.rglob("*"))
    inside = len(".venv\\Lib\\site-packages\\") + longest
    assert "takes about 190 of them" in TROUBLE and inside <= 192
    assert "at most 60" in TROUBLE and 60 + 1 + inside < 260


def test_shell_words_of_both_pages_are_commands():
    """An indented line of code is one command, with its quotes closed."""
    with contextlib.suppress(StopIteration):
        for line in re.findall(r"^(?: {4}| {6})((?:python3?|conda) .*)$", GUIDE, re.M):
            assert shlex.split(line), line
