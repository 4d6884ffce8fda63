"""The course, from one file that needs nothing but Python 3.11, 3.12 or 3.13.

    python3 course.py lab               opens the lessons in JupyterLab, at lesson 00
    python3 course.py test              runs the unit tests, then every lesson as a test

    python3 course.py setup             makes .venv with the locked packages; lab and test do it by themselves
    python3 course.py reset 03          brings back a clean lesson 03, and reset exercises/03 its exercises; your
                                        copy is kept under a dated name
    python3 course.py render [03 ...]   for authors: runs notebooks afresh and stores them in normal form
    python3 course.py bundle            a folder of wheels, for machines without a network
    python3 course.py book              the lessons and the library's reference as pages, in site/_build
    python3 course.py setup --teach     for teachers and maintainers: adds nbgrader and the book's tools to .venv
    python3 course.py test --peers      for maintainers: advlib against other libraries, in .venv-peers

lab works on copies in work/, so that an update of the course never touches what you wrote; `lab --here`
opens the originals. What else follows lab goes to JupyterLab (lab --no-browser --port 8899), what follows
test to pytest (test -k pgd, test tests/test_norms.py). `render --check` only says what is not in normal
form. `setup --offline` installs from wheels/; `bundle --platform windows --python 3.12` fills it for other
machines than this one. On Windows type `py` or `python` where `python3` stands.
"""

# An old Python must be able to read this file to its end, so that it can say what is needed: no syntax newer
# than 3.6, and only imports that it knows as well.
import argparse
import contextlib
import datetime
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
IN_VENV = "Scripts/python.exe" if os.name == "nt" else "bin/python"
PYTHON = VENV / IN_VENV
STAMP = VENV / "course-stamp.json"
PEERS = None  # the other libraries' requirements, while .venv-peers stands in for .venv
TEACH = "teaching/requirements.txt"  # requirements.txt and more; a student's copy has none
NOTEBOOKS = ROOT / "notebooks"
WORK = ROOT / "work"
COPIES = WORK / ".copies.json"
WHEELS = ROOT / "wheels"
PYTHONS = ("3.11", "3.12", "3.13")
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

# What a bundle can be made for: sys_platform, os_name, platform_system, platform_machine, and the tags of the
# wheels that run on the oldest system meant.
GLIBC = [*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014"]  # 2.28 is Debian 10's
PLATFORMS = {
    "linux": ("linux", "posix", "Linux", "x86_64", [f"{tag}_x86_64" for tag in GLIBC]),
    "linux-arm": ("linux", "posix", "Linux", "aarch64", [f"{tag}_aarch64" for tag in GLIBC]),
    "windows": ("win32", "nt", "Windows", "AMD64", ["win_amd64"]),
    "macos": ("darwin", "posix", "Darwin", "arm64", ["macosx_12_0_arm64"]),
}


class Problem(Exception):
    """What stops a command, in one line for the person who typed it."""


def say(text):
    print(f"course: {text}", flush=True)


def seconds(since):
    elapsed = time.monotonic() - since
    return f"{elapsed:.1f} s" if elapsed < 10 else f"{elapsed:.0f} s"


def this_command(*arguments):
    return " ".join(["python" if os.name == "nt" else "python3", "course.py", *arguments])


def typed(command):
    """A command as one would type it, from the folder one is in."""

    def quoted(parts):
        if os.name == "nt":
            return subprocess.list2cmdline(parts)
        return " ".join(shlex.quote(part) for part in parts)

    line = quoted([str(part) for part in command])
    return line if Path.cwd() == ROOT else f"{quoted(['cd', str(ROOT)])} && {line}"


def write_json(path, content):
    """All of it or nothing: a reader never sees half a file."""
    half = path.with_name(path.name + ".part")
    half.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(str(half), str(path))


# ---- which machines


def unsupported(python, implementation, gil, system, machine, bits, libc):
    """Why the course cannot run here, or None."""
    if python not in PYTHONS or implementation != "cpython" or not gil:
        name = "Python" if implementation == "cpython" else implementation
        name = f"{name} {python}" if gil else f"{name} {python} without the GIL"
        return (
            f"this is {name}; the course needs Python 3.11, 3.12 or 3.13 (CPython), for which TensorFlow is "
            "built. Start it with one of these, for example: python3.12 course.py lab"
        )
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    supported = {"linux": ("x86_64", "aarch64"), "win32": ("x86_64",), "darwin": ("aarch64",)}
    musl = "musl" in libc
    if machine not in supported.get(system, ()) or bits != 64 or musl:
        name = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}.get(system, system)
        return (
            f"this is {name}{' with musl' if musl else ''}, {machine}, a {bits}-bit Python; the course needs "
            "a 64-bit Python on Linux (x86-64 or aarch64, glibc), Windows (x86-64) or macOS (Apple silicon, "
            "not under Rosetta), for which TensorFlow is built"
        )
    return None


def unsupported_here():
    machine = platform.machine()
    if sys.platform == "win32":  # on Windows for ARM an x86-64 Python is good, whatever the processor
        machine = sysconfig.get_platform().replace("win-", "")
    return unsupported(
        python=THIS_PYTHON,
        implementation=sys.implementation.name,
        gil=not sysconfig.get_config_var("Py_GIL_DISABLED"),
        system=sys.platform,
        machine=machine,
        bits=64 if sys.maxsize > 2**32 else 32,
        libc=sysconfig.get_config_var("SOABI") or "",
    )


# ---- set-up


def environment():
    """The variables under which everything in .venv runs."""
    # the first three bring in packages from elsewhere, the last takes the figures out of the notebooks
    drop = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "MPLBACKEND")
    env = {name: value for name, value in os.environ.items() if name not in drop}
    env["VIRTUAL_ENV"] = str(VENV)
    env["PATH"] = os.pathsep.join([str(PYTHON.parent), env.get("PATH", "")])
    # Before Python 3.13, the file that makes the package importable is read in the system's encoding, and on
    # Windows a path with Chinese letters is lost.
    env["PYTHONUTF8"] = "1"
    # The kernel `python3` is the one of .venv, whatever kernels the user has installed.
    env["JUPYTER_PREFER_ENV_PATH"] = "1"
    kernels = [str(VENV / "share" / "jupyter"), env.get("JUPYTER_PATH")]
    env["JUPYTER_PATH"] = os.pathsep.join(filter(None, kernels))
    return env


def call(command, **variables):
    env = {**environment(), **variables}
    return subprocess.call([str(part) for part in command], cwd=str(ROOT), env=env)


def run_quietly(command, doing, again=None):
    """Run an installer. One line says what is going on; the installer's own lines appear if it fails."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=str(ROOT),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    line, lines = f"course: {doing} …", []
    print(line, end="", flush=True)
    on_screen = sys.stdout.isatty()
    with process.stdout:
        for output in process.stdout:
            lines.append(output.rstrip())
            if on_screen:
                width = shutil.get_terminal_size().columns - 1
                print("\r" + f"{line} {lines[-1]}"[:width].ljust(width), end="", flush=True)
    status = process.wait()
    if on_screen:
        width = shutil.get_terminal_size().columns - 1
        print("\r" + " " * width + "\r" + line, end="")
    print(f" {seconds(start)}", flush=True)
    if status:
        print("\n".join(lines[-25:]), file=sys.stderr)
        raise Problem(f"{doing} failed with status {status}; to repeat it: {again or typed(command)}")


def find_uv():
    if shutil.which("uv"):
        return [shutil.which("uv")]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None


def missing_venv():
    """What to install where Python comes without the venv module or its pip, as on Debian; else None."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return None
    package = f"python{THIS_PYTHON}-venv"
    how = (
        f"sudo apt install {package}"
        if shutil.which("apt-get")
        else f"{package}, or what your system calls it"
    )
    return f"this Python comes without the venv module; install it: {how}"


def use_peers():
    """From here on, the environment is one of its own that has the other libraries too."""
    global VENV, PYTHON, STAMP, PEERS
    VENV = ROOT / ".venv-peers"
    PYTHON, STAMP = VENV / IN_VENV, VENV / "course-stamp.json"
    PEERS = ROOT / "tests" / "external" / "requirements.txt"


def with_teach():
    """Whether this environment has, or had, what `setup --teach` adds: an update keeps it."""
    try:
        return (ROOT / TEACH).is_file() and json.loads(STAMP.read_text(encoding="utf-8")).get("teach", False)
    except (OSError, ValueError, AttributeError):
        return False


def lock(teach):
    if teach and not (ROOT / TEACH).is_file():
        raise Problem(f"there is no {TEACH} here: this is a student's copy, which has nothing to teach with")
    return TEACH if teach else "requirements.txt"


def installers(offline):
    """The ways to install, the best first: a name, and a function from arguments to a command."""
    source = ["--no-index", "--find-links", WHEELS] if offline else []
    ways = []
    uv = find_uv()
    if uv:
        source_uv = ["--offline", *source] if offline else []
        ways.append(("uv", lambda *args: [*uv, "pip", "install", "--python", PYTHON, *source_uv, *args]))
    if not missing_venv():
        ways.append(("pip", lambda *args: [PYTHON, "-m", "pip", "install", "--no-input", *source, *args]))
    return ways


def install(offline, teach):
    """Fill .venv: the locked packages, then the course itself, whose build backend is one of them."""
    ways = installers(offline)
    packages = "the locked packages from wheels/" if offline else "the locked packages"
    for name, command in ways:
        try:
            run_quietly(
                command("--require-hashes", "--only-binary", ":all:", "-r", lock(teach)),
                f"installing {packages} with {name}",
            )
            run_quietly(
                command("--no-deps", "--no-build-isolation", "-e", "."),
                f"installing advlib itself with {name}",
            )
            break
        except Problem as problem:
            if name == ways[-1][0]:
                raise
            say(f"{problem}; trying with pip")  # which may know of a mirror or a proxy that uv does not
    if PEERS:
        # pip first: it can be told of a folder or an index with CPU builds of torch, for every program on the machine
        for name, command in reversed(ways):
            try:
                run_quietly(command("--no-deps", "-r", PEERS), f"installing the other libraries with {name}")
                break
            except Problem:
                if name == ways[0][0]:
                    raise
    # Without this, JupyterLab asks about news and looks for updates on the network at every start.
    settings = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    # nbgrader's panels, where it is installed, are a teacher's; marking here is `python -m teaching`.
    off = ("@jupyterlab/apputils-extension:announcements", "@jupyter/nbgrader")
    write_json(settings, {"disabledExtensions": dict.fromkeys(off, True)})


def wanted_stamp(teach=False):
    """What the environment must have been made from to be believed."""
    digest = hashlib.sha256()
    for path in filter(None, (ROOT / lock(teach), ROOT / "pyproject.toml", PEERS)):
        digest.update(path.read_bytes())
    for step in (installers, install):
        digest.update(inspect.getsource(step).encode())
    return {"python": THIS_PYTHON, "folder": str(ROOT), "contents": digest.hexdigest(), "teach": teach}


def state_of_venv(teach=False):
    """ "ready", "outdated", or the reason why .venv must be made anew."""
    if not VENV.exists():
        return "there is none yet"
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        python, folder, contents = stamp["python"], stamp["folder"], stamp["contents"]
    except (OSError, ValueError, KeyError, TypeError):
        return "the one there is unfinished, or not from course.py"
    wanted = wanted_stamp(teach)
    if python != wanted["python"]:
        return f"the one there is for Python {python}"
    if folder != wanted["folder"]:
        return f"the one there was made in {folder}"
    probe = [str(PYTHON), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(probe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    except OSError:
        answer = ""
    if answer.strip() != THIS_PYTHON:
        return "the Python of the one there is gone or was replaced"
    return "ready" if contents == wanted["contents"] else "outdated"


def setup(offline=False, teach=False):
    """Make .venv what the lock says. Where nothing is to be done: a fraction of a second."""
    start = time.monotonic()
    teach = teach or with_teach()
    lock(teach)  # a student's copy is refused before anything is made
    state = state_of_venv(teach)
    if state == "ready":
        say(f"set-up is up to date ({seconds(start)})")
        return
    if offline and not WHEELS.is_dir():
        make = this_command("bundle")
        raise Problem(
            f"no folder wheels/ in {ROOT}; make it where there is a network ({make}) and copy it here"
        )
    missing = missing_venv()
    if missing and not (find_uv() and importlib.util.find_spec("venv")):
        raise Problem(missing)
    if state == "outdated":
        STAMP.unlink()  # the environment stays, and with it what the learner has installed besides
    else:
        # Half an environment is never completed: an installer that was stopped may have left half a package.
        base = getattr(sys, "_base_executable", None) or sys.executable  # not the one that is being replaced
        without_pip = ["--without-pip"] if missing else []
        run_quietly(
            [base, "-m", "venv", "--clear", *without_pip, VENV],
            f"making {VENV.name} with Python {platform.python_version()} ({state})",
        )
    try:
        install(offline, teach)
    except Problem:
        if WHEELS.is_dir() and not offline:
            say(f"wheels/ is there: without a network, {this_command('setup', '--offline')} installs from it")
        raise
    write_json(STAMP, wanted_stamp(teach))
    say(f"set-up done in {seconds(start)}")


# ---- lessons and their copies


def lessons():
    found = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not found:
        raise Problem(f"there are no lessons in {NOTEBOOKS}; the checkout is not complete")
    return found


def exercises():
    """Of the same names as their lessons, in a folder of their own."""
    return sorted(NOTEBOOKS.glob("exercises/*.ipynb"))


def lesson(name):
    """The original of a lesson, from "3", "03", "03_gradient_attacks", or the file's name or path; of its exercises, from
    "exercises/03"."""
    stem = Path(name).name
    stem = stem[: -len(".ipynb")] if stem.endswith(".ipynb") else stem
    for original in exercises() if Path(name).parent.name == "exercises" else lessons():
        number = original.stem.split("_")[0]
        if stem == original.stem or (stem.isdigit() and stem.zfill(2) == number):
            return original
    names = ", ".join(original.stem for original in lessons())
    raise Problem(f"no lesson {name!r}; a number or a name was expected, for example 03. There are: {names}")


def fingerprint(notebook):
    """The cells as written, without outputs: a notebook that was only run counts as unchanged."""
    content = notebook.read_bytes()
    try:
        cells = json.loads(content.decode("utf-8"))["cells"]
        content = json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in cells]).encode()
    except (ValueError, KeyError, TypeError):
        pass  # not a notebook any more, but still the learner's file
    return hashlib.sha256(content).hexdigest()


def read_copies():
    """For each copy, the fingerprint of the original that it was made from."""
    try:
        made_from = json.loads(COPIES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return made_from if isinstance(made_from, dict) else {}


def make_copy(original):
    name = original.relative_to(NOTEBOOKS).as_posix()
    copy = WORK / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    half = copy.with_name(copy.name + ".part")
    shutil.copyfile(str(original), str(half))
    os.replace(str(half), str(copy))
    write_json(COPIES, {**read_copies(), name: fingerprint(original)})


def copy_lessons():
    """Bring work/ up to date, and lose nothing that the learner wrote."""
    WORK.mkdir(exist_ok=True)
    made_from = read_copies()
    for original in [*lessons(), *exercises()]:
        name = original.relative_to(NOTEBOOKS).as_posix()
        copy, new, old = WORK / name, fingerprint(original), made_from.get(name)
        if not copy.exists():
            make_copy(original)
        elif old != new and fingerprint(copy) in (old, new):
            make_copy(original)
            say(f"{copy.relative_to(ROOT)} now holds the lesson's new version")
        elif old != new:
            number = name.split("_")[0]
            say(
                f"{'' if '/' in number else 'lesson '}{number} has a new version; yours, which you changed, stays"
            )
            say(f"{this_command('reset', number)} brings the new one")


def reset(name):
    original = lesson(name)
    copy = WORK / original.relative_to(NOTEBOOKS)
    if copy.exists() and copy.read_bytes() != original.read_bytes():
        when = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
        kept = copy.rename(copy.with_name(f"{original.stem}.{when}.ipynb"))
        say(f"your copy is kept as {kept.relative_to(ROOT)}")
    make_copy(original)
    say(f"{copy.relative_to(ROOT)} is clean; if it is open in JupyterLab, close it there and open it again")


def absolute(arguments):
    """What is run is run in ROOT; files are meant from the folder in which they were typed."""
    return [os.path.abspath(argument) if is_file(argument) else argument for argument in arguments]


def is_file(argument):
    """Whether it names tests or notebooks, or a folder of them; an option's value is written with =, as --ignore=FILE."""
    path = Path(argument.split("::")[0])
    return not argument.startswith("-") and (path.suffix in (".py", ".ipynb") or path.is_dir())


def lab(arguments):
    setup()
    folder = NOTEBOOKS if "--here" in arguments else WORK
    if folder == WORK:
        copy_lessons()
    first = (folder / lessons()[0].name).relative_to(ROOT).as_posix()
    arguments = [argument for argument in absolute(arguments) if argument != "--here"]
    # JupyterLab's root is the whole checkout, so that a learner can open the library's files beside a lesson.
    settings = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{first}"]
    theirs = ("--ServerApp.root_dir", "--notebook-dir", "--LabApp.default_url")
    if any(argument.startswith(theirs) for argument in arguments):
        settings = []  # JupyterLab refuses a setting given twice
    command = [str(PYTHON), "-m", "jupyterlab", *settings, *arguments]
    say(f"opening JupyterLab at {first if settings else 'the place given'}; Ctrl+C here ends it")
    os.chdir(str(ROOT))
    if os.name == "posix":  # become JupyterLab, so that every signal reaches it
        os.execve(command[0], command, environment())
    process = subprocess.Popen(command, env=environment())
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl+C is JupyterLab's to answer
            return process.wait()


# ---- for maintainers and teachers


def test(arguments):
    """All unit tests, then all notebooks; with test files or notebooks among the arguments, these only.
    With --peers, the tests against other libraries instead, in an environment of their own."""
    peers = "--peers" in arguments
    arguments = [argument for argument in arguments if argument != "--peers"]
    if peers:
        use_peers()
    setup()
    files = [argument for argument in arguments if is_file(argument)]
    arguments = absolute(arguments)
    threads = {}
    if files:
        runs = {"the tests named": ["--nbval", *arguments]}
    elif peers:
        runs = {"against other libraries": ["tests/external", *arguments]}
    else:
        # File by file on all cores, a gigabyte each. What TensorFlow gains by a second thread is less than two
        # processes of one thread gain, so that the cores are shared out among them.
        cores = os.cpu_count() or 1
        processes = min(4, cores)
        name = "TF_NUM_INTRAOP_THREADS"
        threads = {name: os.environ.get(name, str(cores // processes))}
        together = ["-n", str(processes), "--dist", "loadfile"]
        # of the exercises one, which shows that a stub stops nothing; .ci/full runs them all
        notebooks = [path.relative_to(ROOT) for path in [*lessons(), *exercises()[5:6]]]
        runs = {
            # by name: sorted by their number of tests, files of a few long ones would come last
            "unit tests": ["tests", "--no-loadscope-reorder", *together, *arguments],
            "notebooks": [*notebooks, "--nbval", *together, *arguments],
        }
    # pytest's 5 says that nothing was selected; with -k or -m that may be so in one run, but not in both
    nothing, problems, results = 5, [], []
    for name, options in runs.items():
        command = [PYTHON, "-m", "pytest", *options]
        say(f"{name} …")
        start = time.monotonic()
        status = call(command, **threads)
        fine = status == 0 or (status == nothing and arguments)
        result = {0: "passed", nothing: "none selected"}.get(status, "FAILED") if fine else "FAILED"
        results.append(f"{name}: {result}, {seconds(start)}")
        say(results[-1])
        if not fine:
            problems.append(f"{name} failed (pytest's status {status}); to repeat: {typed(command)}")
    if not any(": passed" in result for result in results) and not problems:
        problems.append(f"no test fits {' '.join(arguments)}")
    if problems:
        raise Problem("; ".join(problems))


def render(names, check):
    setup()
    paths = [lesson(name).relative_to(ROOT) for name in names]
    command = [PYTHON, "-m", "advlib.nbplugin", "check" if check else "render", *paths]
    what = "checking the stored form" if check else "rendering"
    start = time.monotonic()
    status = call(command)
    if status:
        raise Problem(f"{what} failed (status {status}); to repeat: {typed(command)}")
    say(f"{what}: {seconds(start)}")


def book():
    setup(teach=True)
    start, out = time.monotonic(), ROOT / "site" / "_build" / "html"
    command = [
        PYTHON,
        "-m",
        "sphinx",
        "-n",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "site",
        out.relative_to(ROOT),
    ]
    status = call(command)
    if status:
        raise Problem(f"the book could not be built (status {status}); to repeat: {typed(command)}")
    say(f"the book: {out / 'index.html'} ({seconds(start)})")


def locked(teach=False):
    """The lock, as pairs of a requirement and its hashes."""
    text = (ROOT / lock(teach)).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split("--hash=")
            yield requirement.strip(), [part.strip() for part in hashes]


def locked_for(python, system, os_name, platform_system, machine, teach=False):
    """The requirements of one platform, without markers: for each file for pip, the Python it is for."""
    from packaging.requirements import Requirement

    # pip evaluates markers for the machine it runs on, so they are evaluated here. A few depend on the patch
    # level, which a room of machines need not share: with two files both choices are fetched.
    files = {}
    for full_version in (f"{python}.0", f"{python}.99"):
        env = {
            "python_version": python,
            "python_full_version": full_version,
            "sys_platform": system,
            "os_name": os_name,
            "platform_system": platform_system,
            "platform_machine": machine,
        }
        lines = []
        for text, hashes in locked(teach):
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(env):
                pinned = f"{requirement.name}{requirement.specifier}"
                lines.append(" ".join([pinned, *(f"--hash={value}" for value in hashes)]))
        files["\n".join(lines)] = full_version
    return files


def bundle(target, python, teach=False):
    """Fill wheels/ with all that `setup --offline` needs."""
    lock(teach)  # a student's copy is refused before anything is made
    for_teachers = ["--teach"] if teach else []
    if Path(sys.prefix).resolve() != VENV.resolve():  # what reads the lock is in .venv
        setup()
        this = [PYTHON, Path(__file__).resolve(), "bundle"]
        return call([*this, "--platform", target, "--python", python, *for_teachers])
    if not importlib.util.find_spec("pip"):
        how = missing_venv() or "it is there now"
        raise Problem(f"bundle needs pip, and .venv was made without it: {how}; delete .venv, and try again")
    start = time.monotonic()
    *markers, tags = PLATFORMS[target]
    WHEELS.mkdir(exist_ok=True)
    command = [
        PYTHON,
        "-m",
        "pip",
        "download",
        "--no-input",
        "--require-hashes",
        "--no-deps",
        "--dest",
        WHEELS,
    ]
    command += ["--only-binary", ":all:"]
    for tag in tags:
        command += ["--platform", tag]
    again = this_command("bundle", "--platform", target, "--python", python, *for_teachers)
    for requirements, full_version in locked_for(python, *markers, teach=teach).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "requirements.txt")
            path.write_text(requirements, encoding="utf-8")
            doing = f"fetching the wheels for {target}, Python {full_version.replace('.99', '.x')}"
            run_quietly([*command, "--python-version", full_version, "-r", path], doing, again)
    # a lock that has moved on leaves old wheels behind
    known = {value.split(":")[1] for _, hashes in locked(teach) for value in hashes}
    sizes = []
    for wheel in WHEELS.iterdir():
        if hashlib.sha256(wheel.read_bytes()).hexdigest() in known:
            sizes.append(wheel.stat().st_size)
        else:
            say(f"removing {wheel.name}, which the lock does not name")
            wheel.unlink()
    say(f"wheels/ holds {len(sizes)} files, {sum(sizes) / 1e6:.0f} MB ({seconds(start)})")
    offline = this_command("setup", "--offline", *for_teachers)
    say(f"copy this folder, without .venv, to each machine, and run there: {offline}")
    return 0


def this_platform():
    if sys.platform == "linux":
        return "linux-arm" if platform.machine() == "aarch64" else "linux"
    return {"win32": "windows", "darwin": "macos"}[sys.platform]


def main(arguments):
    why_not = unsupported_here()
    if why_not:
        print(f"course.py: {why_not}", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):  # a console without the letters of a path is no reason to stop
        stream.reconfigure(errors="replace")
    verbs = {
        "lab": lab,
        "test": test,
        "setup": setup,
        "reset": reset,
        "render": render,
        "bundle": bundle,
        "book": book,
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in verbs:
        print(f"course.py: no command {name!r}; there are: {', '.join(verbs)}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog=f"course.py {name}", allow_abbrev=False)
    if name == "setup":
        parser.add_argument("--offline", action="store_true", help="install from wheels/, without a network")
    elif name == "reset":
        parser.add_argument("name", metavar="LESSON", help="a number or a name, for example 03")
    elif name == "render":
        parser.add_argument("names", metavar="LESSON", nargs="*", help="numbers or names; none: all lessons")
        parser.add_argument("--check", action="store_true", help="only say what is not in normal form")
    elif name == "bundle":
        platforms = {"dest": "target", "choices": list(PLATFORMS), "default": this_platform()}
        parser.add_argument("--platform", help="default: this one, %(default)s", **platforms)
        parser.add_argument("--python", choices=PYTHONS, default=THIS_PYTHON, help="default: %(default)s")
    if name in ("setup", "bundle"):
        parser.add_argument("--teach", action="store_true", help="with nbgrader and the book's tools")
    # lab and test pass on what they are given
    options = {"arguments": rest} if name in ("lab", "test") else vars(parser.parse_args(rest))
    try:
        return verbs[name](**options) or 0
    except Problem as problem:
        print(f"course.py: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"course.py: {name} stopped: {error}; to repeat: {this_command(*arguments)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ncourse.py: interrupted; to go on: {this_command(*arguments)}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
