"""The command line: what it says, what it writes, how it ends. First with an audit in name only, then with a real one."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from advlib import auditing, cli
from advlib.auditing import AuditReport
from advlib.diagnostics import Flag
from advlib.robustness import Outcome, compare

N = 40
GREEN = Flag("green", "zero gradients", "0 of 40 images", "the attacks had a direction", "nothing")
AMBER = Flag("amber", "few images", "40 images", "the interval is wide", "use at least 1,000")
RED = Flag("red", "unstable predictions", "12 of 40 change", "the model draws random numbers", "use EOT")


def made(broken=8, flags=(GREEN,), name="net", preset="quick", seed=0):
    """A report on 40 images, of which the first two are wrong and the next `broken` are broken by PGD."""
    y = np.arange(N) % 4
    clean = y.copy()
    clean[:2] = (y[:2] + 1) % 4
    attacked = clean.copy()
    attacked[2 : 2 + broken] = (y[2 : 2 + broken] + 1) % 4
    outcome = Outcome(attacked, np.where(attacked != clean, 0.09, 0.0), np.ones(N, bool), 1.5, None)
    return AuditReport(
        "linf", 0.1, y, clean, 4, "f" * 64, {"PGD-20": outcome}, list(flags),
        settings={"preset": preset, "seed": seed, "batch_size": 16, "limit": None, "attacks": {}}, model={"name": name},
        data={"source": "test.npz"},
    )  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command line in an empty folder with a test.npz for MNIST's networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ADVLIB_PROGRESS", "0")
    x = np.random.default_rng(0).integers(0, 256, (N, 28, 28), np.uint8)
    np.savez("test.npz", x=x, y=np.arange(N) % 10)

    np.savez("other.npz", x=np.zeros((3, 4, 4), np.uint8), y=np.arange(3))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["advlib", *words])
        return CliRunner().invoke(cli.app, words)

    return call


@pytest.fixture
def audited(run, monkeypatch):
    """Calls `advlib audit` with an audit that does nothing but return `audited.report`, or what `audited.do` does."""

    class Audited:
        report, given, do = made(), None, None

        def __call__(self, *words, data="test.npz", eps="0.1"):
            return run("audit", "mnist-mlp", "--data", data, "--eps", eps, *words)

    state = Audited()

    def fake(model, x, y, **given):
        state.given = given | {"model": model, "x": x, "y": y}
        return state.do(given) if state.do else state.report

    monkeypatch.setattr(auditing, "audit", fake)
    return state


# --- what is asked for arrives


def test_options_arrive(audited):
    done = audited(
        "--norm", "l2", "--preset", "thorough", "--limit", "12", "--seed", "3", "--batch-size", "8", "--resume", "--out", "here",
        "--train-data", "mnist", eps="8/255",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    given = audited.given
    assert given["eps"] == 8 / 255
    expected = {
        "norm": "l2",
        "preset": "thorough",
        "limit": 12,
        "seed": 3,
        "batch_size": 8,
        "resume": True,
        "client": None,
    }
    assert {key: given[key] for key in expected} == expected
    assert str(given["folder"]) == "here" and len(given["train"]) == 60_000
    assert given["x"][:2].shape == (2, 28, 28, 1) and len(given["y"]) == N
    assert given["about"]["model"]["name"] == "mnist-mlp" and len(given["about"]["model"]["sha256"]) == 64
    assert given["about"]["data"] == {"source": "test.npz", "label_names": None}


def test_defaults(audited):
    assert audited().exit_code == 0
    given = audited.given
    assert (given["norm"], given["preset"], given["limit"], given["seed"]) == ("linf", "standard", None, 0)
    assert str(given["folder"]) == "audit-mnist-mlp" and given["resume"] is False and given["train"] is None


def test_the_help_says_that_reports_stay(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert "a finished report is not replaced" in run("audit", "--help").stdout


def test_a_range_below_zero_and_notes(audited):
    done = audited("--input-range", "-1", "1")
    assert done.exit_code == 0
    assert "note: made for pixels from -1 to 1: images in [0, 1] are rescaled to that" in done.stderr
    assert audited.given["about"]["model"]["notes"] == [
        "made for pixels from -1 to 1: images in [0, 1] are rescaled to that"
    ]


# --- what is shown


def test_table_flags_and_paths(audited):
    audited.report = made(flags=[GREEN, AMBER, GREEN])
    done = audited("--out", "a folder [of mine]")
    assert done.exit_code == 0
    lines = [" ".join(re.split(r"[\s│┃]+", line)).strip() for line in done.stdout.splitlines()]
    assert "net on test.npz: 40 images, L∞, ε = 0.1" in lines
    assert "clean 95.0 % 83.5 – 98.6" in lines
    assert "PGD-20 75.0 % 59.8 – 85.8 8 of 38 0.09" in lines
    assert "worst case 75.0 % 59.8 – 85.8 8 of 38 0.09" in lines
    assert done.stdout.count("amber: few images") == 1 and "do: use at least 1,000" in done.stdout
    assert "2 checks found nothing" in done.stdout
    assert lines[-2:] == [f"a folder [of mine]{os.sep}report.html", f"a folder [of mine]{os.sep}report.json"]


def test_red_comes_first_and_in_colour():
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    cli.show(made(flags=[AMBER, RED]), console)
    text = console.export_text(styles=True)
    assert text.index("red: unstable predictions") < text.index("amber: few images")
    assert re.search("\x1b\\[[0-9;]*31m[^\x1b]*red: unstable", text)
    assert re.search("\x1b\\[[0-9;]*33m[^\x1b]*amber: few", text)


def test_a_report_without_attack_success_or_name():
    console = Console(width=100, record=True, file=io.StringIO())
    cli.show(made(broken=0, name="[red]net"), console)
    text = console.export_text()
    assert "[red]net on test.npz" in text and "0 of 38" in text and "nan" not in text


def test_progress_in_plain_lines(audited, monkeypatch):
    """What is expected, then a line each half minute, here every second time the clock is read, and the end."""
    now = iter(range(0, 10_000, 20))
    monkeypatch.setattr(cli, "time", SimpleNamespace(monotonic=lambda: next(now)))
    seen = ((0, "clean", 720.0), (1, "FGSM", 7300.0), (2, "PGD-20", 40.0), (3, "done", 0.0))

    def do(given):
        for done, what, left in seen:
            given["progress"](done, 3, what, left)
        return made()

    audited.do = do
    done = audited()
    assert done.stderr.splitlines() == [
        "3 units of work, about 12 minutes",
        "1 of 3 units: FGSM, about 2.0 hours left",
        "3 of 3 units: done",
    ]
    assert "units" not in done.stdout


def test_progress_on_a_terminal(tmp_path):
    with (tmp_path / "seen").open("w", encoding="utf-8") as file:
        console = Console(file=file, force_terminal=True, width=100)
        with cli._Watch(console) as watch:
            watch(0, 4, "clean", 100.0)
            watch(3, 4, "PGD-20", 20.0)
    seen = (tmp_path / "seen").read_text(encoding="utf-8")
    assert "4 units of work, about 2 minutes" in seen
    assert "PGD-20" in seen and "3/4" in seen and "about 20 seconds left" in seen


# --- exit status


@pytest.mark.parametrize(
    "broken, flags, words, status",
    [
        (8, [GREEN, AMBER], [], 0),
        (8, [GREEN, AMBER], ["--fail-under", "0.75"], 0),  # 30 of 40, and not below it
        (8, [GREEN], ["--fail-under", "0.76"], 4),
        (8, [RED], [], 1),
        (0, [RED], ["--fail-under", "0.5"], 1),
        (8, [RED], ["--fail-under", "0.9"], 1),  # a number not to be believed misses no bound
    ],
)
def test_exit_status(audited, broken, flags, words, status):
    audited.report = made(broken, flags)
    done = audited(*words)
    assert done.exit_code == status
    assert ("red flag: do not believe the number (unstable predictions)" in done.stderr) == (RED in flags)
    if "0.76" in words:
        assert "robust accuracy 75.0 % is below --fail-under 76.0 %" in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["--norm", "max"], "--norm='max': one of 'linf', 'l2', 'l1' was expected"),
        (["--preset", "fast"], "--preset='fast': one of 'quick', 'standard', 'thorough'"),
        (["--fail-under", "85"], "--fail-under=85: a value at least 0 and at most 1 was expected, for example 0.85"),
        (["--input-range", "1", "0"], "the lower first"),
        (["--import", "no_such_module"], "no_such_module cannot be imported (ModuleNotFoundError"),
        (["--cluster", "nowhere:at:all"], "--cluster nowhere:at:all"),
        (["--train-data", "none.npz"], "none.npz: there is no such file"),
        (["--train-data", "other.npz"], "shape (4, 4, 1) and --data test.npz of shape (28, 28, 1)"),
        (["--channels-first"], "images of shape (28, 28, 1)"),
        (["--limit", "many"], "Invalid value"),
    ],
)  # fmt: skip
def test_bad_input(audited, words, message):
    done = audited(*words)
    if words == ["--channels-first"]:
        message = "those of test.npz have shape (28, 28, 1)"
    assert done.exit_code == 2
    assert message in done.stderr and "Traceback" not in done.output
    assert audited.given is None


@pytest.mark.parametrize("eps", ["8/0", "much", "", "1/2/3"])
def test_a_budget_that_is_none(audited, eps):
    done = audited(eps=eps)
    assert (
        done.exit_code == 2 and "a number or a fraction was expected, for example 0.3 or 8/255" in done.stderr
    )


def test_a_model_that_is_none(run):
    done = run("audit", "mnist-mpl", "--data", "test.npz", "--eps", "0.1")
    assert done.exit_code == 2 and "mnist-cnn-pgd" in done.stderr


def test_input_that_the_audit_refuses(audited):
    def do(given):
        raise FileExistsError("here holds an unfinished audit")

    audited.do = do
    done = audited()
    assert done.exit_code == 2 and done.stderr == "error: here holds an unfinished audit\n"


def test_an_error_of_ours_and_one_from_within(audited):
    """A ValueError that advlib raises is about the input; one that NumPy raises is a fault."""
    audited.do = lambda given: cli._number("x")
    assert audited().exit_code == 2
    audited.do = lambda given: np.zeros(3).reshape(2)
    done = audited()
    assert done.exit_code == 3
    assert "error: internal error, ValueError: cannot reshape" in done.stderr
    assert "Traceback" not in done.stderr and "--debug shows where it comes from" in done.stderr
    done = audited("--debug")
    assert done.exit_code == 3 and "Traceback" in done.stderr and "reshape(2)" in done.stderr


def test_stopped_says_how_to_go_on(audited, tmp_path):
    def do(given):
        (given["folder"] / "work").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    audited.do = do
    done = audited("--out", "my audit")
    assert done.exit_code == 130
    line = "advlib audit mnist-mlp --data test.npz --eps 0.1 --out 'my audit' --resume"
    line = line.replace("'", '"') if os.name == "nt" else line
    assert done.stderr == f"stopped; what was computed is kept in my audit, go on with:\n  {line}\n"
    assert audited("--resume", "--out", "my audit").stderr.count("--resume") == 1


def test_stopped_before_anything_was_stored(audited):
    def do(given):
        raise KeyboardInterrupt

    audited.do = do
    done = audited()
    assert (done.exit_code, done.stderr) == (130, "stopped\n")


def test_a_full_disk(audited):
    def do(given):
        (given["folder"] / "work").mkdir(parents=True)
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "000000-FGSM.part")
        error.add_note("make room, and resume")
        raise error

    audited.do = do
    done = audited()
    assert done.exit_code == 3
    assert "No space left on device" in done.stderr and "make room, and resume" in done.stderr
    assert (
        "what was computed is kept in audit-mnist-mlp, go on with:" in done.stderr
        and "--resume" in done.stderr
    )
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


# --- compare


def stored(path, report):
    path.write_text(report.to_json(), encoding="utf-8")
    return str(path)


def test_two_models_that_differ(run, tmp_path):
    a, b = stored(tmp_path / "a.json", made(2, name="one")), stored(tmp_path / "b.json", made(20, name="two"))
    found = compare(made(2), made(20))
    for words, sign in (((a, b), 1), ((b, a), -1)):
        done = run("compare", *words)
        assert done.exit_code == 0, done.output
        text = " ".join(done.stdout.split())
        low, high = 100 * found.low, 100 * found.high
        assert (
            f"They differ: one is more robust than two by 45.0 points of the images (95 % interval {low:.1f} to {high:.1f})"
            in text
        )
        assert "0 images are robust in two only" in text or sign == 1
        assert "18 " in text and "p < 0.0001" in text
        assert "caution" not in text


def test_two_models_that_hardly_differ(run, tmp_path):
    a, b = (
        stored(tmp_path / "a.json", made(8)),
        stored(tmp_path / "b.json", made(9, [RED], preset="standard")),
    )
    text = " ".join(run("compare", a, b).stdout.split())
    assert (
        f"No difference is shown between {a} and {b}: 1 images are robust in {a} only, 0 in {b} only, 29 in both, 10 in neither"
        in text
    )
    assert f"{a} minus {b}: +2.5 points" in text and "p = 1)" in text
    assert f"caution: the audit of {b} has red flags (unstable predictions)" in text
    assert "preset quick" in text and "with standard: weaker attacks flatter a model" in text


def test_the_same_twice(run, tmp_path):
    a = stored(tmp_path / "a.json", made(8))
    assert "agree on every one of the 40 images: 30 are robust in both" in run("compare", a, a).stdout


def test_what_cannot_be_compared(run, tmp_path):
    a = stored(tmp_path / "a.json", made(8))
    other = made(8)
    other.eps = 0.2
    b = stored(tmp_path / "b.json", other)
    (tmp_path / "c.json").write_text(json.dumps({"format": "another"}))
    (tmp_path / "d.json").write_bytes(b"\xff\xfe\x00")
    for path, message in {
        b: "the Reports have the budgets L∞, ε = 0.1 and L∞, ε = 0.2",
        str(tmp_path / "none.json"): "there is no such file; the report.json that advlib audit writes",
        str(tmp_path / "c.json"): "c.json: this is no report of an audit",
        str(tmp_path / "d.json"): "d.json cannot be read",
    }.items():
        done = run("compare", a, path)
        assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.output


# --- the whole way, with models made by plain Keras code

NETS = """
import keras

@keras.saving.register_keras_serializable(package="{name}")
class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.inside = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])

    def build(self, shape):
        self.inside.build(shape)

    def call(self, x):
        return self.inside(x)

def make():
    return keras.saving.load_model("registered.keras")

def sometimes_nan():
    net = make()
    bright = lambda x: keras.ops.max(x, axis=(1, 2, 3)) > 253.5 / 255
    return lambda x: keras.ops.where(bright(x)[:, None], float("nan"), net(x))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a softmax network trained for an epoch on 500 small MNIST images, a subclassed one, and test.npz."""
    from advlib import data
    from advlib._tensorflow import keras

    folder = tmp_path_factory.mktemp("world")
    x, y, x_test, y_test = (
        (part[:500, ::3, ::3] if part.ndim > 1 else part[:500]) for part in data.load("mnist")
    )
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((10, 10, 1))
    h = layers.BatchNormalization(momentum=0.5)(layers.Conv2D(8, 3, activation="relu")(image))
    net = keras.Model(
        image, layers.Dense(10, "softmax")(layers.Dropout(0.1)(layers.Flatten()(h))), name="net"
    )
    net.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    net.fit(x, y, epochs=1, batch_size=16, verbose=0)
    net.save(folder / "net.keras")
    np.savez_compressed(folder / "test.npz", x=np.rint(255 * x_test[:24]).astype(np.uint8), y=y_test[:24])
    np.savez(folder / "train.npz", x=x_test[:300], y=y_test[:300])
    (folder / "foreign_nets.py").write_text(NETS.format(name="foreign"))
    sys.path.insert(0, str(folder))
    import foreign_nets

    subclassed = foreign_nets.Net()
    subclassed(x[:1])
    subclassed.save(folder / "registered.keras")
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("foreign_nets", None)


@pytest.fixture
def really(world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv("ADVLIB_PROGRESS", "0")

    def call(model, out, *words, data="test.npz", eps="0.05"):
        words = [
            "audit",
            model,
            "--data",
            data,
            "--eps",
            eps,
            "--preset",
            "quick",
            "--batch-size",
            "8",
            "--out",
            out,
            *words,
        ]
        monkeypatch.setattr(sys, "argv", ["advlib", *words])
        return CliRunner().invoke(cli.app, words)

    return call


def numbers(path):
    """A report.json without times, as they differ."""
    about = json.loads(path.read_text(encoding="utf-8"))
    for attack in about["attacks"].values():
        del attack["seconds"]
    about["settings"] = {k: v for k, v in about["settings"].items() if k != "command"}
    return {key: value for key, value in about.items() if key not in ("started", "seconds")}


@pytest.mark.full
def test_an_audit_stopped_and_resumed(really, world, monkeypatch):
    """The same numbers in one go and in two; the test images are among the training images, which is seen."""
    train = "--train-data", "train.npz"
    done = really("net.keras", "whole", *train)
    assert "UserWarning" not in done.output and "Traceback" not in done.output
    whole = numbers(world / "whole" / "report.json")
    status = int(any(flag["colour"] == "red" for flag in whole["flags"]))
    assert done.exit_code == status, done.output
    assert whole["model"]["notes"] == ["softmax or sigmoid at the end: the logits before it are audited"]
    assert whole["summary"]["clean"]["correct"] > whole["summary"]["worst case"]["correct"]
    assert "<html" in (world / "whole" / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in (world / "whole").iterdir()) == ["report.html", "report.json"]

    watch = cli._Watch.__call__

    def stop(self, done, *rest):
        watch(self, done, *rest)
        if done == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cli._Watch, "__call__", stop)
        done = really("net.keras", "parts", *train)
    assert done.exit_code == 130 and "--resume" in done.stderr
    again = really("net.keras", "parts", *train)
    assert again.exit_code == 2 and "holds an unfinished audit" in again.stderr
    other = really("net.keras", "parts", *train, "--resume", eps="0.06")
    assert other.exit_code == 2 and "an unfinished audit with another eps" in other.stderr
    assert really("net.keras", "parts", *train, "--resume").exit_code == status
    assert numbers(world / "parts" / "report.json") == whole
    flags = {flag["name"]: flag["colour"] for flag in whole["flags"]}
    assert flags["evaluated on training data"] == "red"


def test_a_model_that_returns_nan_on_some_images(really, world):
    """The others are audited, and the exit status says that something is wrong."""
    done = really("foreign_nets:sometimes_nan", "nan", "--limit", "8")
    assert done.exit_code == 1
    about = numbers(world / "nan" / "report.json")
    with np.load(world / "test.npz") as stored:
        bright = stored["x"][:8].max(axis=(1, 2)) > 253
    clean = np.array(about["clean"]["prediction"])
    assert 0 < bright.sum() < 8
    assert ((clean == -1) == bright.ravel()).all()
    assert any(flag["name"] == "the model returned NaN" for flag in about["flags"])


@pytest.mark.full
def test_two_workers_give_the_same(really, world):
    """A class that the workers must import, and no number that depends on them."""
    words = "registered.keras", "alone", "--import", "foreign_nets", "--limit", "16"
    alone = really(*words)
    done = really(words[0], "together", *words[2:], "--cluster", "local:2")
    assert done.exit_code == alone.exit_code in (0, 1), done.output
    assert numbers(world / "alone" / "report.json") == numbers(world / "together" / "report.json")


def test_output_that_knows_no_infinity_is_no_error(tmp_path):
    """As a pipe on Windows, which is a build server's."""
    code = (
        "import sys; from advlib.cli import _speak; _speak(); print('L\u221e, \u03b5')"  # what reports print
    )
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True)
    assert done.returncode == 0 and done.stdout.strip() == b"L?, ?"
