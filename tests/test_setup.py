"""The set-up: course.py in a temporary checkout with fake installers, and the lock against what asks for it.

Nothing here needs the network. A real set-up from a bundle, without one, is part of .ci/full.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import advlib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLATFORMS = ("linux", "linux-arm", "windows", "macos")


def load(path):
    spec = importlib.util.spec_from_file_location("course_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def course(tmp_path, monkeypatch):
    """course.py in a checkout of its own, whose path has spaces and Chinese letters."""
    root = tmp_path / "对抗 course"
    (root / "notebooks").mkdir(parents=True)
    (root / "teaching").mkdir()
    for name in ("course.py", "requirements.txt", "pyproject.toml", "teaching/requirements.txt"):
        shutil.copy(ROOT / name, root / name)
    write(root / "notebooks" / "00_start_here.ipynb", "print(0)")
    write(root / "notebooks" / "03_gradient_attacks.ipynb", "print(3)")
    module = load(root / "course.py")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


@pytest.fixture
def installer(course, monkeypatch):
    """Stands for venv, uv and pip: the list of what they were asked to do."""
    done = []

    def run_quietly(command, doing, again=None):
        done.append([str(part) for part in command])
        if "venv" in done[-1]:
            shutil.rmtree(course.VENV, ignore_errors=True)
            course.VENV.mkdir()

    monkeypatch.setattr(course, "run_quietly", run_quietly)
    monkeypatch.setattr(course, "find_uv", lambda: None)
    monkeypatch.setattr(course, "missing_venv", lambda: None)
    return done


def write(path, code, outputs=(), count=None):
    cell = {
        "cell_type": "code",
        "execution_count": count,
        "id": "a",
        "metadata": {},
        "outputs": list(outputs),
    }
    notebook = {"cells": [{**cell, "source": [code]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")


# ---- the lock, pyproject.toml and environment.yml say the same


LOCKED_EXTRAS = ("cpu", "course", "cluster", "test")
TEACH_EXTRAS = ("teach", "site", "hub")


def asked_for(teach):
    extras = PROJECT["optional-dependencies"]
    names = LOCKED_EXTRAS + (TEACH_EXTRAS if teach else ())
    lines = PROJECT["dependencies"] + [line for name in names for line in extras[name]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("teach", [False, True])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_requirement_is_in_the_lock(course, platform, python, teach):
    *markers, _tags = course.PLATFORMS[platform]
    system, os_name, platform_system, machine = markers
    env = {
        "sys_platform": system,
        "os_name": os_name,
        "platform_system": platform_system,
        "platform_machine": machine,
        "python_version": python,
    }
    for lines, full_version in course.locked_for(python, *markers, teach=teach).items():
        env["python_full_version"] = full_version
        versions = {}
        for line in lines.splitlines():
            pinned = Requirement(line.split(" --hash=")[0])
            name = canonicalize_name(pinned.name)
            assert name not in versions, f"{name} is locked twice for {platform}, Python {full_version}"
            (specifier,) = pinned.specifier
            assert specifier.operator == "=="
            versions[name] = Version(specifier.version)
        asked = asked_for(teach)
        wanted = [r for r in asked if r.marker is None or r.marker.evaluate(env)]
        elsewhere = 1 + 2 * (teach and platform == "windows")  # one of two TensorFlow packages; JupyterHub
        assert len(wanted) >= len(asked) - elsewhere
        for requirement in wanted:
            locked = versions.get(canonicalize_name(requirement.name))
            assert locked in requirement.specifier, (
                f"{requirement} against {locked}: lock again (CONTRIBUTING.md)"
            )
        tensorflow = "tensorflow-cpu" if platform == "linux" else "tensorflow"
        assert [name for name in versions if name in ("tensorflow", "tensorflow-cpu")] == [tensorflow]


def test_the_lock_for_teachers_is_the_other_and_more(course):
    """The same versions and hashes; a package may be there on more Pythons."""
    pins = [
        {(line.split(" ; ")[0], *hashes) for line, hashes in course.locked(teach)} for teach in (False, True)
    ]
    assert pins[0] < pins[1]


@pytest.mark.parametrize("teach", [False, True])
def test_every_line_of_the_lock_has_hashes_and_none_an_address(course, teach):
    lines = list(course.locked(teach))
    assert len(lines) > 100
    for requirement, hashes in lines:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==\S+( ; .+)?", requirement), requirement
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement
    text = (ROOT / course.lock(teach)).read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text and "--index" not in text and "--find-links" not in text


def test_environment_yml_installs_the_same():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = content["dependencies"]
    name, version = python.split("=")
    assert name == "python" and Version(version + ".0") in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip" and packages == {"pip": ["-r requirements.txt"]}
    # where this folder exists, Binder reads no environment.yml beside it
    assert not (ROOT / ".binder").exists() and not (ROOT / "binder").exists()
    last = (ROOT / "postBuild").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last == "pip install --no-deps --no-build-isolation -e ."
    assert os.name == "nt" or os.access(ROOT / "postBuild", os.X_OK)


def test_course_py_runs_on_the_pythons_of_pyproject(course):
    specifier = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(6, 30)]
    assert tuple(python for python in minors if Version(python) in specifier) == course.PYTHONS


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == advlib.__version__


# ---- where it cannot run, it says so


def test_old_pythons_can_read_course_py():
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (3, 14, 0)])
def test_a_wrong_python_is_told_in_one_line_and_status_2(version):
    code = f"import runpy, sys; sys.version_info = {version}; sys.argv = ['course.py', 'setup']; "
    code += f"runpy.run_path({str(ROOT / 'course.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"this is Python 3.{version[1]};" in line and "3.11, 3.12 or 3.13" in line


FINE = {
    "python": "3.12",
    "implementation": "cpython",
    "gil": True,
    "system": "linux",
    "machine": "x86_64",
    "bits": 64,
    "libc": "cpython-312-x86_64-linux-gnu",
}


@pytest.mark.parametrize(
    "machine",
    [
        {},
        {"machine": "aarch64"},
        {"system": "win32", "machine": "amd64"},
        {"system": "darwin", "machine": "arm64"},
    ],
)
def test_supported_machines(course, machine):
    assert course.unsupported(**{**FINE, **machine}) is None
    assert course.unsupported_here() is None


@pytest.mark.parametrize(
    "machine, said",
    [
        ({"system": "darwin"}, "this is macOS, x86_64"),
        ({"system": "win32", "machine": "arm64"}, "this is Windows, aarch64"),
        ({"system": "win32", "machine": "win32", "bits": 32}, "32-bit"),
        ({"machine": "riscv64"}, "this is Linux, riscv64"),
        ({"libc": "cpython-312-x86_64-linux-musl"}, "Linux with musl"),
        ({"system": "freebsd14"}, "this is freebsd14"),
        ({"gil": False, "python": "3.13"}, "without the GIL"),
        ({"implementation": "pypy"}, "this is pypy 3.12"),
    ],
)
def test_unsupported_machines(course, machine, said):
    why_not = course.unsupported(**{**FINE, **machine})
    assert said in why_not and "\n" not in why_not


@pytest.mark.parametrize(
    "arguments", [["instal"], [], ["setup", "--ofline"], ["reset"], ["bundle", "--python", "3.9"]]
)
def test_a_command_that_does_not_exist_ends_with_2(course, installer, arguments):
    try:
        status = course.main(arguments)
    except SystemExit as stopped:  # argparse
        status = stopped.code
    assert status == 2 and installer == []


# ---- set-up


def test_setup_installs_once(course, installer, capsys):
    assert course.main(["setup"]) == 0
    venv, packages, itself = installer
    assert "--clear" in venv and venv[-1] == str(course.VENV)
    assert packages[packages.index("install") :][1:] == [
        "--no-input", "--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt",
    ]  # fmt: skip
    assert itself[-4:] == ["--no-deps", "--no-build-isolation", "-e", "."]
    assert course.main(["setup"]) == 0
    assert len(installer) == 3
    assert "set-up is up to date" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["setup", "bundle"])
def test_a_students_copy_has_nothing_to_teach_with(course, installer, capsys, command):
    (course.ROOT / course.TEACH).unlink()
    assert course.main([command, "--teach"]) == 1
    assert "this is a student's copy" in capsys.readouterr().err
    assert not installer and not course.VENV.exists()


def test_setup_prefers_uv_and_falls_back_on_pip(course, installer, monkeypatch, capsys):
    monkeypatch.setattr(course, "find_uv", lambda: ["uv"])
    quiet = course.run_quietly

    def uv_has_no_network(command, doing, again=None):
        quiet(command, doing, again)
        if command[0] == "uv":
            raise course.Problem(f"{doing} failed")

    course.setup()
    assert [command[0] for command in installer[1:]] == ["uv", "uv"]
    course.STAMP.unlink()
    installer.clear()
    monkeypatch.setattr(course, "run_quietly", uv_has_no_network)
    course.setup()
    assert [command[0] for command in installer[1:]] == ["uv", sys.executable, sys.executable]
    assert "trying with pip" in capsys.readouterr().out and course.state_of_venv() == "ready"


def test_an_interrupted_setup_is_not_believed(course, installer, monkeypatch):
    def interrupted(offline, teach):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(course, "install", interrupted)
        patch.setattr(course, "wanted_stamp", lambda: pytest.fail("stamped, though not installed"))
        assert course.main(["setup"]) == 130
    assert "unfinished" in course.state_of_venv()
    course.setup()
    assert course.state_of_venv() == "ready"
    assert sum("venv" in command for command in installer) == 2  # made anew, not completed


def test_a_failed_setup_is_not_believed_and_names_the_command(course, installer, monkeypatch, capsys):
    course.setup()
    (course.ROOT / "requirements.txt").write_text("")

    def fails(command, doing, again=None):
        raise course.Problem(f"{doing} failed")

    monkeypatch.setattr(course, "run_quietly", fails)
    assert course.main(["setup"]) == 1
    assert "installing the locked packages with pip failed" in capsys.readouterr().err
    assert "unfinished" in course.state_of_venv()


@pytest.mark.parametrize("file", ["requirements.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed_without_a_new_venv(course, installer, file):
    course.setup()
    with (course.ROOT / file).open("a", encoding="utf-8") as text:
        text.write("\n# changed\n")
    assert course.state_of_venv() == "outdated"
    installer.clear()
    course.setup()
    assert len(installer) == 2 and not any("venv" in command for command in installer)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"python": "3.10"}, "for Python 3.10"),
        ({"folder": "/elsewhere"}, "made in /elsewhere"),
        ({"contents": 0}, None),
    ],
)
def test_a_stamp_that_does_not_fit(course, installer, change, reason):
    course.setup()
    stamp = {**course.wanted_stamp(), **change}
    course.STAMP.write_text(json.dumps(stamp), encoding="utf-8")
    installer.clear()
    assert (reason in course.state_of_venv()) if reason else (course.state_of_venv() == "outdated")
    course.setup()
    assert any("venv" in command for command in installer) == bool(reason)
    assert course.state_of_venv() == "ready"


def test_peers_have_an_environment_of_their_own(course, installer, monkeypatch):
    """The lock, then the other libraries without what they ask for, by pip first; then only their tests. .venv is left alone."""
    folder = course.ROOT / "tests" / "external"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "external" / "requirements.txt", folder)
    course.setup()
    before, _ = course.STAMP.read_text(encoding="utf-8"), installer.clear()
    calls = []
    monkeypatch.setattr(course, "call", lambda command, **variables: calls.append(command[1:]) or 0)
    monkeypatch.setattr(course, "find_uv", lambda: ["uv"])
    monkeypatch.setattr(course, "IN_VENV", sys.executable)  # an absolute path stays as it is
    assert course.main(["test", "--peers", "-x"]) == 0
    assert calls == [["-m", "pytest", "tests/external", "-x"]]
    venv, packages, _itself, peers = installer
    assert venv[-1] == str(course.ROOT / ".venv-peers") and packages[-1] == "requirements.txt"
    assert peers[0] == sys.executable and peers[-3:] == ["--no-deps", "-r", str(folder / "requirements.txt")]
    assert (course.ROOT / ".venv" / "course-stamp.json").read_text(encoding="utf-8") == before
    assert course.state_of_venv() == "ready"
    with (folder / "requirements.txt").open("a", encoding="utf-8") as text:
        text.write("one-more==1.0\n")
    assert course.state_of_venv() == "outdated"


def test_peers_are_pinned_where_the_lock_has_nothing_to_say(course):
    """Each line is one version and no address; none replaces a package of the lock; what the extra asks for is among them."""
    lines = (ROOT / "tests" / "external" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    versions = {}
    for requirement in pinned:
        assert requirement.url is None and [s.operator for s in requirement.specifier] == ["=="], requirement
        versions[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    locked = {canonicalize_name(Requirement(line).name) for line, _hashes in course.locked()}
    assert not locked & set(versions)
    for wanted in map(Requirement, PROJECT["optional-dependencies"]["peers"]):
        assert Version(versions[canonicalize_name(wanted.name)]) in wanted.specifier


def test_setup_for_teachers(course, installer, capsys):
    """Adds to the environment that is there, is kept by what calls setup without saying so, and is not for a student's copy."""
    course.setup()
    installer.clear()
    assert course.main(["setup", "--teach"]) == 0
    assert [command[-1] for command in installer] == ["teaching/requirements.txt", "."]
    course.setup()
    assert len(installer) == 2  # nothing to do
    with (course.ROOT / "teaching" / "requirements.txt").open("a", encoding="utf-8") as text:
        text.write("\n# changed\n")
    course.setup()
    assert installer[2][-1] == "teaching/requirements.txt"
    (course.ROOT / "teaching" / "requirements.txt").unlink()
    assert course.main(["setup", "--teach"]) == 1
    assert "a student's copy" in capsys.readouterr().err
    course.setup()
    assert installer[-2][-1] == "requirements.txt"


@pytest.mark.parametrize("content", ["", "[]", '{"python": "3.12"}', "null"])
def test_a_broken_stamp_is_not_believed(course, installer, content):
    course.setup()
    course.STAMP.write_text(content)
    assert "unfinished" in course.state_of_venv()


def test_a_venv_whose_python_is_gone_is_made_anew(course, installer, monkeypatch):
    course.setup()
    monkeypatch.setattr(course, "PYTHON", course.VENV / "gone")
    assert "gone or was replaced" in course.state_of_venv()


def test_without_the_venv_module_the_package_is_named(course, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(course, "find_uv", lambda: None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find_spec(name)
    )
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert course.main(["setup"]) == 1
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in capsys.readouterr().err
    assert not course.VENV.exists()


def test_setup_offline(course, installer, monkeypatch, capsys):
    assert course.main(["setup", "--offline"]) == 1
    assert "bundle" in capsys.readouterr().err and installer == []
    course.WHEELS.mkdir()
    assert course.main(["setup", "--offline"]) == 0
    for command in installer[1:]:
        assert (
            command[command.index("--find-links") + 1] == str(course.WHEELS)
            and command.count("--no-index") == 1
        )
    assert "--require-hashes" in installer[1]
    installer.clear()
    course.STAMP.unlink()
    monkeypatch.setattr(course, "find_uv", lambda: ["uv"])
    course.setup(offline=True)
    assert all(command.count("--no-index") == 1 and "--offline" in command for command in installer[1:])


def test_jupyterlab_asks_for_no_news(course, installer):
    course.setup()
    page = json.loads((course.VENV / "etc/jupyter/labconfig/page_config.json").read_text())
    assert page["disabledExtensions"]["@jupyterlab/apputils-extension:announcements"]


def test_an_installer_that_fails_is_shown_with_its_command(course, capsys):
    command = [sys.executable, "-c", "print('没有 network'); raise SystemExit(3)"]
    with pytest.raises(course.Problem, match=r"trying failed with status 3; to repeat it: .*SystemExit\(3\)"):
        course.run_quietly(command, "trying")
    captured = capsys.readouterr()
    assert re.fullmatch(r"course: trying … [0-9.]+ s\n", captured.out) and captured.err == "没有 network\n"


# ---- the learner's copies


def test_exercises_are_copied_beside_their_lessons(course, capsys):
    """The same names in a folder of their own: neither takes the other's place, and what the learner wrote stays."""
    (course.NOTEBOOKS / "exercises").mkdir()
    original = course.NOTEBOOKS / "exercises" / "03_gradient_attacks.ipynb"
    write(original, "# your code here")
    course.copy_lessons()
    copy, beside = course.WORK / "exercises" / original.name, course.WORK / original.name
    assert copy.read_bytes() == original.read_bytes() != beside.read_bytes()
    write(copy, "mine")
    write(original, "# a new version")
    course.copy_lessons()
    assert course.fingerprint(copy) != course.fingerprint(original)
    assert "exercises/03 has a new version; yours" in capsys.readouterr().out
    course.reset("exercises/03")
    assert copy.read_bytes() == original.read_bytes() and len(list(copy.parent.glob("*.ipynb"))) == 2
    assert beside.read_bytes() == (course.NOTEBOOKS / beside.name).read_bytes()


def test_lab_copies_the_lessons_once(course):
    course.copy_lessons()
    names = ["00_start_here.ipynb", "03_gradient_attacks.ipynb"]
    assert sorted(path.name for path in course.WORK.glob("*.ipynb")) == names
    for name in names:
        assert (course.WORK / name).read_bytes() == (course.NOTEBOOKS / name).read_bytes()
    write(course.WORK / names[1], "print('mine')")
    (course.WORK / names[0]).unlink()
    course.copy_lessons()
    assert "mine" in (course.WORK / names[1]).read_text() and (course.WORK / names[0]).exists()


def test_a_new_version_replaces_a_copy_that_was_only_run(course, capsys):
    course.copy_lessons()
    original, copy = course.NOTEBOOKS / "03_gradient_attacks.ipynb", course.WORK / "03_gradient_attacks.ipynb"
    output = {"output_type": "stream", "name": "stdout", "text": ["3\n"]}
    write(copy, "print(3)", [output], 1)
    course.copy_lessons()
    assert '"3\\n"' in copy.read_text()  # nothing new, so it stays as it was left
    write(original, "print('new')")
    course.copy_lessons()
    assert copy.read_bytes() == original.read_bytes()
    assert "new version" in capsys.readouterr().out
    course.copy_lessons()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mine", ["print('mine')", None])
def test_where_both_changed_the_learners_stays(course, capsys, mine):
    course.copy_lessons()
    original, copy = course.NOTEBOOKS / "03_gradient_attacks.ipynb", course.WORK / "03_gradient_attacks.ipynb"
    if mine is None:
        copy.write_text("half a noteb")
    else:
        write(copy, mine)
    before = copy.read_bytes()
    write(original, "print('new')")
    for _ in range(2):  # said until it is settled
        course.copy_lessons()
        assert copy.read_bytes() == before
        assert "course.py reset 03" in capsys.readouterr().out
    assert course.main(["reset", "03"]) == 0
    assert copy.read_bytes() == original.read_bytes()
    capsys.readouterr()
    course.copy_lessons()
    assert capsys.readouterr().out == ""


def test_without_its_records_lab_overwrites_nothing(course):
    course.copy_lessons()
    copy = course.WORK / "03_gradient_attacks.ipynb"
    write(copy, "print('mine')")
    course.COPIES.write_text("not json")
    course.copy_lessons()
    assert "mine" in copy.read_text()
    assert course.read_copies().keys() == {"00_start_here.ipynb"}


@pytest.mark.parametrize(
    "name", ["3", "03", "03_gradient_attacks", "03_gradient_attacks.ipynb", "work/03_gradient_attacks.ipynb"]
)
def test_reset_loses_no_work(course, name):
    course.copy_lessons()
    copy = course.WORK / "03_gradient_attacks.ipynb"
    for version in ("first", "second"):
        write(copy, version)
        assert course.main(["reset", name]) == 0
    kept = sorted(path for path in course.WORK.glob("03*.ipynb") if path != copy)
    assert [json.loads(path.read_text())["cells"][0]["source"] for path in kept] == [["first"], ["second"]]
    assert all(re.search(r"\.20\d\d-\d\d-\d\d_", path.name) for path in kept)
    assert course.main(["reset", name]) == 0  # a clean copy needs no second one
    assert len(list(course.WORK.glob("03*.ipynb"))) == 3


def test_reset_before_lab(course):
    assert course.main(["reset", "0"]) == 0
    assert (course.WORK / "00_start_here.ipynb").exists()


@pytest.mark.parametrize("name", ["7", "gradient", ""])
def test_a_lesson_that_does_not_exist_lists_those_that_do(course, capsys, name):
    assert course.main(["reset", name]) == 1
    assert "00_start_here, 03_gradient_attacks" in capsys.readouterr().err


# ---- lab, test, render: what is run


@pytest.fixture
def started(course, installer, monkeypatch):
    """The commands that would be run, with the status that they shall end with."""
    commands, statuses = [], []

    def call(command, **variables):
        commands.append([str(part) for part in command])
        return statuses.pop(0) if statuses else 0

    monkeypatch.setattr(course, "call", call)
    course.setup()
    return commands, statuses


@pytest.mark.skipif(os.name != "posix", reason="elsewhere JupyterLab is a child process")
def test_lab_passes_on_what_it_is_given(course, installer, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(os, "execve", lambda *arguments: seen.append(arguments) or sys.exit(0))
    monkeypatch.chdir(tmp_path)

    def started_with(*arguments):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit):
            course.main(["lab", *arguments])
        return seen.pop()[1][3:]

    root = f"--ServerApp.root_dir={course.ROOT}"
    assert started_with() == [root, "--LabApp.default_url=/lab/tree/work/00_start_here.ipynb"]
    assert (course.WORK / "00_start_here.ipynb").exists() and Path.cwd() == course.ROOT
    assert started_with("--no-browser", "--port", "8899")[2:] == ["--no-browser", "--port", "8899"]
    assert started_with("--here") == [root, "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    assert started_with("my.ipynb")[2:] == [str(tmp_path / "my.ipynb")]
    assert started_with("--notebook-dir=/x") == ["--notebook-dir=/x"]


def test_the_kernel_is_that_of_the_venv(course, monkeypatch, tmp_path):
    """A user's own kernel of the name python3 is passed over, and so is what would change the run."""
    for place in ("data", "path"):
        folder = tmp_path / place / "kernels" / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(
            '{"argv": ["false"], "display_name": "wrong", "language": "python"}'
        )
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "path"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    monkeypatch.setattr(course, "VENV", Path(sys.prefix))
    code = "from jupyter_client.kernelspec import get_kernel_spec as get; print(get('python3').display_name)"
    run = {"args": [sys.executable, "-c", code], "capture_output": True, "text": True, "check": True}
    assert subprocess.run(**run).stdout.strip() == "wrong"
    env = course.environment()
    assert subprocess.run(**run, env=env).stdout.strip().startswith("Python 3")
    assert "PYTHONPATH" not in env and "MPLBACKEND" not in env


def test_test_runs_unit_tests_and_notebooks(course, started):
    commands, _ = started
    assert course.main(["test", "-x", "-k", "pgd"]) == 0
    unit, notebooks = (command[1:] for command in commands)
    assert unit[:4] == ["-m", "pytest", "tests", "--no-loadscope-reorder"]
    there = [str(path.relative_to(course.ROOT)) for path in course.lessons()]
    assert notebooks[: 3 + len(there)] == ["-m", "pytest", *there, "--nbval"]
    for rest in (unit[4:], notebooks[3 + len(there) :]):
        assert rest[0] == "-n" and rest[2:] == ["--dist", "loadfile", "-x", "-k", "pgd"]


@pytest.mark.parametrize(
    "file", ["tests/test_norms.py::test_l2", "notebooks/03_gradient_attacks.ipynb", "my lessons"]
)
def test_test_with_a_file_runs_that_file_alone(course, started, monkeypatch, tmp_path, file):
    commands, _ = started
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my lessons").mkdir()
    assert course.main(["test", file, "--ignore=tests/test_data.py"]) == 0
    (command,) = commands
    assert command[3:] == [
        "--nbval", str(tmp_path / file), "--ignore=tests/test_data.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statuses, arguments, expected",
    [
        ([0, 0], [], 0),
        ([1, 0], [], 1),
        ([0, 1], [], 1),
        ([0, 5], [], 1),  # no notebook collected at all: something is wrong
        ([5, 0], ["-k", "Cell"], 0),
        ([0, 5], ["-k", "norms"], 0),
        ([5, 5], ["-k", "nonsense"], 1),
        ([5, 2], ["-k", "Cell"], 1),
        ([-9, 0], [], 1),
    ],
)
def test_test_fails_when_either_part_fails(course, started, capsys, statuses, arguments, expected):
    commands, planned = started
    planned += statuses
    assert course.main(["test", *arguments]) == expected
    assert len(commands) == 2  # the notebooks run also where a unit test has failed
    captured = capsys.readouterr()
    assert len(re.findall(r"^course: (unit tests|notebooks): .*, [0-9.]+ s$", captured.out, re.M)) == 2
    assert len(captured.err.splitlines()) == expected
    if 1 in statuses:
        assert "to repeat: " in captured.err and "-m pytest" in captured.err


def test_render_forwards(course, started, capsys):
    commands, statuses = started
    assert course.main(["render"]) == 0
    assert course.main(["render", "3", "--check"]) == 0
    assert [command[1:] for command in commands] == [
        ["-m", "advlib.nbplugin", "render"],
        ["-m", "advlib.nbplugin", "check", str(Path("notebooks/03_gradient_attacks.ipynb"))],
    ]
    statuses.append(1)
    assert course.main(["render", "--check"]) == 1
    assert "to repeat: " in capsys.readouterr().err


def test_bundle_fetches_for_the_target_and_keeps_what_the_lock_names(course, installer, monkeypatch, capsys):
    digest = hashlib.sha256(b"of this lock").hexdigest()
    lock = f"kept==1.0 \\\n    --hash=sha256:{digest}\n    # via x\n"
    lock += f"elsewhere==2.0 ; sys_platform == 'linux' \\\n    --hash=sha256:{'0' * 64}\n"
    (course.ROOT / "requirements.txt").write_text(lock)
    course.setup()
    monkeypatch.setattr(sys, "prefix", str(course.VENV))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # as if pip were there
    course.WHEELS.mkdir()
    (course.WHEELS / "old-1.0-py3-none-any.whl").write_bytes(b"of an earlier lock")
    commands = []

    def download(command, doing, again=None):
        commands.append([str(part) for part in command])
        assert Path(command[-1]).read_text() == f"kept==1.0 --hash=sha256:{digest}"
        (course.WHEELS / "kept-1.0-py3-none-any.whl").write_bytes(b"of this lock")

    monkeypatch.setattr(course, "run_quietly", download)
    assert course.main(["bundle", "--platform", "windows", "--python", "3.13"]) == 0
    (command,) = commands
    assert "--require-hashes" in command and command[command.index("--only-binary") + 1] == ":all:"
    assert command[command.index("--platform") + 1] == "win_amd64"
    assert command[command.index("--python-version") + 1].startswith("3.13.")
    assert [wheel.name for wheel in course.WHEELS.iterdir()] == ["kept-1.0-py3-none-any.whl"]
    out = capsys.readouterr().out
    assert "removing old-1.0-py3-none-any.whl" in out and "wheels/ holds 1 files" in out
