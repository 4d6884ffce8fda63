"""All notebooks as tests under other conditions: python tools/matrix.py [ROW …] [--resume].

A row is one condition: oneDNN, its instruction sets, threads, hash seed, Python, versions, time zone and locale, path, a
read-only checkout, no network. Before the notebooks, a probe imports advlib there and says what is really in force; a setting
without effect is no run. A row passes where every code cell passes.

    python tools/matrix.py --list
    python tools/matrix.py onednn-off no-network
    python tools/matrix.py --resume                       # all, without those that passed with what is there now
    python tools/matrix.py threads-4 --notebooks 00 01    # a trial, stored as one of these notebooks only
    python tools/matrix.py threads-1+hash-0+isa-avx2      # three conditions in one run, a result of each row
    python tools/matrix.py --table                        # the table of CONTRIBUTING.md; --write puts it there

Results are kept in tools/matrix.json: row → notebooks covered → result; logs, environments and copies in work/matrix/. Exit
status: 0 all passed, 1 some failed, 2 some could not be run here. Other Pythons and other versions need uv, the rows
`read-only` and `no-network` a Linux user who may make namespaces (root, or where `unshare -rm true` works).
"""

import argparse
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from course import IN_VENV, Problem, exercises, find_uv, lesson, lessons  # noqa: E402

STORE = ROOT / "tools" / "matrix.json"
WORK = ROOT / "work" / "matrix"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
ALL = "all"
SHOWN = 5  # failed cells that a result names
REFUSED = 70  # a namespace that is not what it should be
# The caller's own settings must not mix with a row's.
DROPPED = re.compile(
    r"TF_(ENABLE_ONEDNN_OPTS|NUM_.*_THREADS)|(ONEDNN|DNNL|ADVLIB|OMP|OPENBLAS)_.*"
    r"|PYTHON(HOME|PATH|HASHSEED|UTF8|STARTUP)|VIRTUAL_ENV"
)
PROBE = """
import json, locale, os, pathlib, platform, sys, time
import advlib, numpy
from advlib._tensorflow import keras, tf
tf.nn.conv2d(tf.ones((1, 8, 8, 3)), tf.ones((3, 3, 3, 4)), 1, "SAME")
locale.setlocale(locale.LC_ALL, "")
print("\\nmatrix-seen: " + json.dumps({
    "python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__,
    "numpy": numpy.__version__, "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
    "time zone": time.strftime("%Z"), "decimal point": locale.localeconv()["decimal_point"],
    "hash seed": os.environ.get("PYTHONHASHSEED", "random"),
    "advlib": str(pathlib.Path(advlib.__file__).resolve().parent.parent),
}))
"""
# With oneDNN off, TensorFlow still multiplies matrices by oneDNN's gemm; convolutions are then its own.
ONEDNN_SAYS = {
    "instructions": "info,cpu,isa:(.*)$",
    "threads": r"info,cpu,runtime:threadpool,nthr:(\d+)$",
    "operation": r"primitive,exec,cpu,(\w+),",
}
ONEDNN_USED = {"operation": "^convolution$"}


class CannotRun(Exception):
    """Why a row has no result. It is stored: no path, no address, and no other program's words."""


@dataclass
class Place:
    """Where and how a row's notebooks run. inside: the namespace, "read-only" or "no-network", or none."""

    python: Path = Path(sys.executable)
    root: Path = ROOT
    variables: dict = field(default_factory=dict)
    inside: str = ""


@dataclass(frozen=True)
class Row:
    """One condition. prepare: makes the Place, or raises CannotRun; expects: a pattern for each fact that the probe must see;
    threads: for TensorFlow's kernels, where that is what the row is about."""

    name: str
    says: str
    prepare: object = Place
    expects: dict = field(default_factory=dict)
    threads: int = 0


# --- the places


def with_variables(**variables):
    return partial(Place, variables=variables)


def uv(doing, *arguments):
    """Run uv; what it has to say appears on the screen."""
    found = find_uv()
    if not found:
        raise CannotRun("uv is not installed, which brings other Pythons and versions (`pip install uv`)")
    if subprocess.call([*found, "--quiet", *map(str, arguments)], cwd=ROOT):
        raise CannotRun(f"uv could not {doing}")


def environment_of(name, version, requirements, *options):
    """An environment in work/matrix/ with these requirements and this checkout's advlib."""
    folder = WORK / name
    python = folder / IN_VENV
    if not python.exists():
        uv(f"find or fetch Python {version}", "venv", "--clear", "--no-project", "--python", version, folder)
    uv("install the packages", "pip", "sync", "--no-build", *options, "--python", python, requirements)
    advlib = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    uv("install advlib", "pip", "install", "--python", python, *advlib)
    return Place(python)


def locked(version):
    """The locked packages in another Python; where it is this Python, they are here."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return Place()
    return environment_of(f"python-{version}", version, ROOT / "requirements.txt", "--require-hashes")


def resolved(how, version):
    """The versions that pyproject.toml allows, at one end. Only its own bounds are tried at the lower one: the packages that
    these need in turn are as new as they may be."""
    WORK.mkdir(parents=True, exist_ok=True)
    requirements = WORK / f"{how}-{version}.txt"
    extras = [word for extra in ("cpu", "course", "cluster", "test") for word in ("--extra", extra)]
    options = [
        "--resolution",
        how,
        "--python-version",
        version,
        "--no-build",
        "--no-emit-index-url",
        "--no-header",
    ]
    compiled = ["pip", "compile", ROOT / "pyproject.toml", *extras, *options, "--upgrade", "-o", requirements]
    uv(f"resolve the {how} versions", *compiled)
    return environment_of(f"{how}-{version}", version, requirements)


def has_decimal_comma(**variables):
    asked = 'import locale; locale.setlocale(locale.LC_ALL, ""); print(locale.localeconv()["decimal_point"])'
    env = {**os.environ, **variables}
    found = subprocess.run([sys.executable, "-c", asked], env=env, capture_output=True, text=True)
    return found.stdout.strip() == ","


def zone_and_locale():
    """German, installed or made by localedef; where neither is possible C.UTF-8, and the result says so."""
    german, folder = {"LC_ALL": "de_DE.UTF-8"}, WORK / "locale"
    if not has_decimal_comma(**german) and shutil.which("localedef"):
        folder.mkdir(parents=True, exist_ok=True)
        made = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
        subprocess.run(made, capture_output=True)
        german["LOCPATH"] = str(folder)
    return Place(
        variables={
            "TZ": "Pacific/Auckland",
            **(german if has_decimal_comma(**german) else {"LC_ALL": "C.UTF-8"}),
        }
    )


def odd_path():
    """A copy of the checkout, set up by its own course.py, with a home and a folder for temporary files of such names too."""
    root, home, temporary = WORK / "课 程 one", WORK / "家 home", WORK / "临时 tmp"
    for folder in (root, home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if old.name != ".venv":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    if found.returncode:
        raise CannotRun("git does not list the files: no checkout")
    for name in filter(None, found.stdout.split("\0")):
        if (ROOT / name).is_file():  # else deleted, and not yet committed
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    if subprocess.call([sys.executable, str(root / "course.py"), "setup"], cwd=root):
        raise CannotRun("course.py setup failed in the copy")
    return Place(root / ".venv" / IN_VENV, root, {"HOME": str(home), "TMPDIR": str(temporary)})


NAMESPACES = {"read-only": "mnt", "no-network": "net"}  # as Linux calls the namespaces


def unshare(kind):
    as_root = [] if os.name == "posix" and os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, {"mnt": "--mount", "net": "--net"}[NAMESPACES[kind]]]


def own_namespace(kind):
    return os.readlink(f"/proc/self/ns/{NAMESPACES[kind]}")


def namespace(kind):
    if not shutil.which("unshare"):
        raise CannotRun("there are no namespaces: Linux is needed, and `unshare`")
    if subprocess.run([*unshare(kind), "true"], capture_output=True).returncode:
        raise CannotRun("this user may not make a namespace")
    return Place(inside=kind)


# --- inside a namespace: what `--inside KIND OUTSIDE COMMAND …` does


def read_only(command):
    """The whole checkout is mounted over itself, without the right to write, which binds root too."""
    for options in (["--bind"], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *options, str(ROOT), str(ROOT)], check=True)
    os.chdir(ROOT)  # the folder one is in is still the writable one below
    probe = ROOT / "notebooks" / ".written"
    try:
        probe.touch()
    except OSError as error:
        if error.errno == errno.EROFS:
            return subprocess.call(command)
        raise
    probe.unlink()
    raise CannotRun("the mount is not read-only")


def asked():
    """How often something in this network namespace asked for another host: routes not found, and datagrams to a port of this
    machine that nobody reads, as to its name server."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    counts = {
        f"{names[0]}{name}": int(value)
        for names, values in zip(rows[::2], rows[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }
    six = Path("/proc/net/snmp6")
    lines = six.read_text().splitlines() if six.exists() else []
    counts |= {name: int(value) for name, value in map(str.split, lines)}
    return sum(counts.get(n, 0) for n in ("Ip:OutNoRoutes", "Udp:NoPorts", "Ip6OutNoRoutes", "Udp6NoPorts"))


def no_network(command):
    """Only the loopback, on which Jupyter talks to its kernels. That nothing else is reached, and that asking is counted, is
    tried first."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        get, put, up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
        (flags,) = struct.unpack_from("h", fcntl.ioctl(wire, get, struct.pack("16sh22x", b"lo", 0)), 16)
        fcntl.ioctl(wire, put, struct.pack("16sh22x", b"lo", flags | up))
    before = asked()
    try:
        socket.create_connection(("192.0.2.1", 443), 3).close()  # RFC 5737: no host has this address
        raise CannotRun("the namespace reaches the network")
    except OSError as error:
        if error.errno != errno.ENETUNREACH or asked() == before:
            raise CannotRun("requests cannot be counted in this namespace") from error
    before = asked()
    status = subprocess.call(command)
    print(f"\nmatrix-asked: {asked() - before}", flush=True)
    return status


def inside(kind, outside, command):
    """outside: the namespace that called, as `own_namespace` says it. There nothing is mounted: it is the user's machine."""
    try:
        if own_namespace(kind) == outside:
            raise CannotRun("this is no namespace of its own")
        return {"read-only": read_only, "no-network": no_network}[kind](command)
    except (CannotRun, OSError, subprocess.CalledProcessError) as error:
        print(f"matrix-refused: {error}", flush=True)
        return REFUSED


# --- the rows


def threads(n):
    # One inter-op thread would wait for itself where a model calls back into Python.
    values = {"TF_NUM_INTRAOP_THREADS": n, "TF_NUM_INTEROP_THREADS": max(n, 2), "OMP_NUM_THREADS": n}
    prepare = with_variables(**{name: str(value) for name, value in values.items()})
    # oneDNN says how many it was given, where there is oneDNN
    return Row(f"threads-{n}", f"{n} thread{'s' * (n > 1)}", prepare, {"threads": f"^({n}|none)$"}, n)


def isa(name, value, instructions=""):
    return Row(
        f"isa-{value.lower()}",
        f"oneDNN, instruction sets: {name}",
        with_variables(TF_ENABLE_ONEDNN_OPTS="1", ONEDNN_MAX_CPU_ISA=value),
        {**ONEDNN_USED, "instructions": instructions},
    )


def hash_seed(n):
    return Row(f"hash-{n}", f"hash seed {n}", with_variables(PYTHONHASHSEED=str(n)), {"hash seed": f"^{n}$"})


def python(version):
    what = f"Python {version}, the locked packages"
    return Row(f"python-{version}", what, partial(locked, version), {"python": rf"^{re.escape(version)}\."})


_ROWS = (
    Row("onednn-on", "oneDNN on", with_variables(TF_ENABLE_ONEDNN_OPTS="1"), ONEDNN_USED),
    Row(
        "onednn-off",
        "oneDNN off",
        with_variables(TF_ENABLE_ONEDNN_OPTS="0"),
        {"operation": "^(?!convolution$)"},
    ),
    isa("up to SSE4.1", "SSE41", r"SSE4\.1$"),
    isa("up to AVX2", "AVX2", "AVX2$"),
    isa("all that the processor has", "DEFAULT"),
    *map(threads, (1, 2, 4)),
    *map(hash_seed, (0, 1)),
    *map(python, ("3.11", "3.13")),
    Row(
        "lowest", "the lowest versions that pyproject.toml allows", partial(resolved, "lowest-direct", "3.11")
    ),
    Row("highest", "the highest versions that pyproject.toml allows", partial(resolved, "highest", "3.13")),
    Row("zone-locale", "time zone and locale", zone_and_locale, {"time zone": "^NZ"}),
    Row("path", "a path with spaces and Chinese characters, set up there", odd_path),
    Row("read-only", "a checkout that nobody may write to", partial(namespace, "read-only")),
    Row("no-network", "no network, and nothing asks for one", partial(namespace, "no-network")),
)
ROWS = {row.name: row for row in _ROWS}


def joined(rows):
    """One row under the conditions of several. CannotRun, when it is prepared, where two of them want different things."""
    wanted = [(name, pattern) for row in rows for name, pattern in row.expects.items()]

    def prepare():
        places = [row.prepare() for row in rows]
        whole = {"variables": dict(pair for place in places for pair in place.variables.items())}
        for name, usual in (("python", Path(sys.executable)), ("root", ROOT), ("inside", "")):
            others = {getattr(place, name) for place in places} - {usual}
            if len(others) > 1:
                raise CannotRun(f"these rows cannot be run together: the {name} of each is another")
            whole[name] = others.pop() if others else usual
        set_otherwise = [
            place for place in places if not place.variables.items() <= whole["variables"].items()
        ]
        if set_otherwise or len(dict(wanted)) < len(set(wanted)):
            raise CannotRun("these rows cannot be run together: they set the same thing to different values")
        return Place(**whole)

    name, says = "+".join(row.name for row in rows), "; ".join(row.says for row in rows)
    return Row(name, says, prepare, dict(wanted), max(row.threads for row in rows))


# --- a run


def run(command, folder, environment, log):
    """The status of a command whose output goes to a file."""
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.call(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)


def settings(row, place, processes):
    """Environment variables: the caller's, without what rows set, then the row's. As in `course.py test`, the cores are
    shared out among the processes where the row is not about threads."""
    env = {name: value for name, value in os.environ.items() if not DROPPED.fullmatch(name)}
    if not row.threads:
        env["TF_NUM_INTRAOP_THREADS"] = str(max((os.cpu_count() or 1) // processes, 1))
    return {**env, "ADVLIB_PROGRESS": "0", **place.variables}


def wrapped(place, command):
    """The command, in the row's namespace if it has one."""
    if not place.inside:
        return command
    again = [sys.executable, str(Path(__file__).resolve()), "--inside", place.inside]
    return [*unshare(place.inside), *again, own_namespace(place.inside), *command]


def seen(row, place, environment, run, log):
    """What is really in force there: versions, time zone, decimal point, oneDNN's instructions. CannotRun where it is not what
    the row is about."""
    command = wrapped(place, [str(place.python), "-c", PROBE])
    status = run(command, place.root, {**environment, "ONEDNN_VERBOSE": "1"}, log)
    text = log.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^matrix-seen: (.*)$", text, re.M)
    if status or not found:
        raise CannotRun(f"{refusal(text) or 'advlib could not be imported'} (status {status})")
    facts = json.loads(found[1])
    for name, pattern in ONEDNN_SAYS.items():
        said = re.search(rf"^onednn_verbose,v1,{pattern}", text, re.M)
        facts[name] = said[1] if said else "none"
    if Path(facts.pop("advlib")) != place.root:
        raise CannotRun("the advlib of another folder was imported")
    for name, words in row.expects.items():
        if not re.search(words, facts[name]):
            raise CannotRun(f"the setting has no effect here: the {name} is {facts[name]}")
    return facts


def refusal(text):
    found = re.search(r"^matrix-refused: (.*)$", text, re.M)
    return "the namespace could not be made as it should be" if found else ""


def code_cells(path):
    """The ids of a notebook's code cells, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell["id"] for cell in cells if cell["cell_type"] == "code"]


def counted(report, root, notebooks):
    """Counts of cells, and the first that failed, from pytest's JUnit report. A cell that no line of it speaks of is missing,
    and so not passed."""
    ids = {path.as_posix(): code_cells(root / path) for path in notebooks}
    states = {(name, n): "missing" for name, cells in ids.items() for n in range(len(cells))}
    for case in ET.parse(report).iter("testcase"):
        number = re.fullmatch(r"Cell (\d+)", case.get("name"))
        key = (case.get("file", "").replace("\\", "/"), int(number[1]) if number else -1)
        kinds = {child.tag for child in case}
        states[key] = (
            "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        )
    counts = {kind: list(states.values()).count(kind) for kind in ("passed", "failed", "skipped", "missing")}
    failed = [key for key, state in states.items() if state in ("failed", "missing")]
    return {
        "cells": sum(map(len, ids.values())),
        **counts,
        "failures": [named(*key, ids) for key in failed[:SHOWN]],
    }


def named(notebook, n, ids):
    cells = ids.get(notebook, [])
    return f"{short(notebook)} [{n + 1}] {cells[n] if 0 <= n < len(cells) else '(no such cell)'}"


def short(notebook):
    return notebook.removeprefix("notebooks/").removesuffix(".ipynb")


def attempt(row, notebooks, processes=None, run=run):
    """The result of the notebooks (paths from the root of the checkout) under a row. CannotRun where there is none.

    run: what runs a command, see `run`."""
    before = digest(notebooks)
    place = row.prepare()
    processes = processes or max(1, min(4, os.cpu_count() or 1) // max(row.threads, 1))
    environment = settings(row, place, processes)
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        facts = seen(row, place, environment, run, Path(folder, "probe.log"))
        report, began = Path(folder, "report.xml"), time.monotonic()
        log = WORK / f"{row.name}.log"
        command = wrapped(place, pytest_command(place, notebooks, processes, report))
        status = run(command, place.root, environment, log)
        seconds, text = time.monotonic() - began, log.read_text(encoding="utf-8", errors="replace")
        if status not in (0, 1) or not report.is_file():
            raise CannotRun(refusal(text) or f"pytest ended with status {status}, without a result")
        counts = counted(report, place.root, notebooks)
    if digest(notebooks) != before:
        raise CannotRun("notebooks or library changed while they ran")
    requests = re.search(r"^matrix-asked: (\d+)$", text, re.M)
    if place.inside == "no-network" and not requests:
        raise CannotRun("the requests were not counted")
    return {
        "set": said(place), "seen": facts, **counts, "requests": int(requests[1]) if requests else None,
        "processes": processes, "seconds": round(seconds), **stamp(), "digest": before,
    }  # fmt: skip


def pytest_command(place, notebooks, processes, report):
    together = ["-n", str(processes), "--dist", "loadfile"] if processes > 1 else []
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(place.root), "-o", "junit_family=xunit1"]
    options += ["--junitxml", str(report), "--nbval", *together]
    return [str(place.python), "-m", "pytest", *options, *map(str, notebooks)]


def said(place):
    """The row's variables, without the folder of this checkout."""
    words = [f"{name}={value}" for name, value in place.variables.items()]
    return " ".join(words).replace(f"{ROOT}{os.sep}", "")


def passed(result):
    return (
        "reason" not in result
        and result["passed"] == result["cells"] > 0
        and not (result["failed"] or result["skipped"] or result["missing"] or result["requests"])
    )


# --- what is stored


def digest(notebooks):
    """Of what a result is about: the notebooks, the library, and what says which packages it needs."""
    files = [*(ROOT / path for path in notebooks), ROOT / "pyproject.toml", ROOT / "requirements.txt"]
    files += [
        path for path in (ROOT / "advlib").rglob("*") if "__pycache__" not in path.parts and path.is_file()
    ]
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def stamp():
    described = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {"date": datetime.now(UTC).date().isoformat(), "commit": commit or "unknown"}


def read(store=STORE):
    """row → notebooks covered → result."""
    return json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}


def keep(store, name, covers, result):
    """Store a result. That a row cannot be run on this machine does not undo what another one has found."""
    results = read(store)
    there = results.setdefault(name, {})
    if "reason" not in result or "reason" in there.get(covers, result):
        there[covers] = result
    part = store.with_suffix(".part")
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(store)


def chosen(names):
    """The notebooks named, as paths from the root, and what a result of them is filed under."""
    every = [path.relative_to(ROOT) for path in [*lessons(), *exercises()]]
    try:
        some = {lesson(name).relative_to(ROOT) for name in names} or set(every)
    except Problem as problem:
        raise SystemExit(f"matrix.py: {problem}") from None
    some = [path for path in every if path in some]
    numbers = [short(path.as_posix()).split("_")[0] for path in some]
    return some, ALL if some == every else " ".join(numbers)


# --- the table


def table(results):
    """Markdown: a line for each row, with its result of all notebooks; where there is none, what it is of."""
    head = [
        "row",
        "condition",
        "set",
        "notebooks",
        "result",
        "Python, TensorFlow, Keras, NumPy",
        "minutes",
        "run",
    ]
    lines = [head, ["---"] * len(head)]
    for row in ROWS.values():
        found = results.get(row.name, {})
        for covers in [ALL] if ALL in found else sorted(found) or [None]:
            lines.append([f"`{row.name}`", row.says, *columns(covers, found.get(covers))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def columns(covers, result):
    if result is None:
        return ["", "", "not yet run", "", "", ""]
    when, what = f"{result['date']}, {result['commit']}", ALL if covers == ALL else f"only {covers}"
    if "reason" in result:
        return ["", what, f"not run: {result['reason']}", "", "", when]
    versions = ", ".join(result["seen"][name] for name in ("python", "tensorflow", "keras", "numpy"))
    variables = f"`{result['set']}`" if result["set"] else ""
    return [variables, what, verdict(result), versions, f"{result['seconds'] / 60:.1f}", when]


def verdict(result):
    requests = f", {result['requests']} requests" if result["requests"] is not None else ""
    if passed(result):
        return f"{result['passed']} cells pass{requests}"
    others = [f"{result[kind]} {kind}" for kind in ("failed", "skipped", "missing") if result[kind]]
    first = f": {'; '.join(result['failures'])}" if result["failures"] else ""
    others.append(f"{result['passed']} of {result['cells']} cells pass")
    return f"**fails**, {', '.join(others)}{requests}{first}"


def written(text, results):
    """CONTRIBUTING's text with the table as it is now. ValueError where the two marks are not there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"CONTRIBUTING.md: one {BEGIN} and, after it, one {END} were expected, each on its own line"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


# --- the command


def arguments(words):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help="rows to run; all of them if none is named")
    parser.add_argument("--list", action="store_true", help="only list the rows, and what is known of each")
    parser.add_argument("--table", action="store_true", help="only print the table of CONTRIBUTING.md")
    parser.add_argument("--write", action="store_true", help="only put the table into CONTRIBUTING.md")
    parser.add_argument(
        "--notebooks", nargs="+", default=[], metavar="NN", help="only these, for example 03 exercises/03"
    )
    parser.add_argument("--resume", action="store_true", help="leave out rows that passed with what is there")
    parser.add_argument(
        "--store", type=Path, default=STORE, help="where results are kept (tools/matrix.json)"
    )
    parser.add_argument("-n", type=int, metavar="N", help="notebooks at a time; default: as the cores allow")
    given = parser.parse_args(words)
    given.names = [name.split("+") for name in given.names]
    unknown = {name for names in given.names for name in names} - set(ROWS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; python tools/matrix.py --list names them all")
    return given


def current(result, notebooks):
    return result is not None and passed(result) and result["digest"] == digest(notebooks)


def main(words, run=run):
    given = arguments(words)
    if given.table:
        print(table(read(given.store)))
        return 0
    if given.write:
        text = written(CONTRIBUTING.read_text(encoding="utf-8"), read(given.store))
        CONTRIBUTING.write_text(text, encoding="utf-8", newline="\n")
        return 0
    notebooks, covers = chosen(given.notebooks)
    ended = []
    for names in given.names or [[name] for name in ROWS]:
        rows = [ROWS[name] for name in names]
        known = [read(given.store).get(name, {}).get(covers) for name in names]
        if given.list:
            for row, result in zip(rows, known, strict=True):
                print(f"{row.name:12} {row.says:55} {columns(covers, result)[2]}")
        elif not (given.resume and all(current(result, notebooks) for result in known)):
            row = rows[0] if len(rows) == 1 else joined(rows)
            print(f"{row.name:12} …", flush=True)
            try:
                result = attempt(row, notebooks, given.n, run)
            except CannotRun as error:
                result = {"reason": str(error), **stamp()}
            for name in names:
                keep(given.store, name, covers, result)
            print(f"{row.name:12} {columns(covers, result)[2]}", flush=True)
            ended.append(2 if "reason" in result else 0 if passed(result) else 1)
    return 1 if 1 in ended else max(ended, default=0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(sys.argv[2], sys.argv[3], sys.argv[4:]))
    sys.exit(main(sys.argv[1:]))
