"""Break the library on purpose and see who notices: python tools/mutate.py [NAME …] [--by notebooks | tests | exercises].

Each fault of tools/faults.py is a small patch of one file, applied to a copy of `advlib`; it must fit exactly once, or the
catalogue is out of date and the run fails. Then notebooks, unit tests or exercises run against the broken copy, the likeliest
first, until one fails. A fault that nobody notices survives, and the exit status is 1; where one could not be tried, 2.

    python tools/mutate.py --list                       # every fault, and that it fits
    python tools/mutate.py fgsm-sign no-box-clip
    python tools/mutate.py --by tests -n 2 --resume     # all, two at a time, without those whose result is known
    python tools/mutate.py --survivors                  # again, those that nobody noticed
    python tools/mutate.py --likeliest                  # a first pass: who survives the lessons that teach the function
    python tools/mutate.py --sound -n 2                 # no fault at all: every file must pass, or the scores mean nothing
    python tools/mutate.py --shard 2/8 --store part2.json
    python tools/mutate.py --merge part1.json part2.json
    python tools/mutate.py --changed main               # what a change since `main` touches, for ten minutes
    python tools/mutate.py --summary
    python tools/mutate.py --general losses.py --sample 60   # not the catalogue: mutants by Cosmic Ray, at random

Mutants are tried by the tests alone, those that the catalogue names for their file more than once, and kept in
tools/mutants.json; those that change nothing are explained in EQUIVALENT of tools/faults.py. Cosmic Ray is in no lock of a
learner: python -m pip install --require-hashes -r tools/requirements.txt.

Results are kept in tools/faults.json: by whom → fault → noticed (a file, or null), seconds, date, commit, and two digests, of
the fault and of what it was tried against: the patched file and the files that were asked.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from faults import EQUIVALENT, FAULTS, PACKAGE, Fault, broken, functions, public, text_of

ROOT = PACKAGE.parent
STORE = ROOT / "tools" / "faults.json"
MUTANTS = ROOT / "tools" / "mutants.json"
# Cosmic Ray's operators without those that nearly always end in an error, as bit operations on floats do: they flatter a score.
OPERATORS = re.compile(
    r"core/(NumberReplacer|AddNot|ZeroIterationForLoop|Replace(True|False)With\w+|Replace(And|Or)With\w+|ReplaceBreak\w+"
    r"|ReplaceContinue\w+|RemoveDecorator|ReplaceUnaryOperator_Delete_(USub|Not)|ReplaceComparisonOperator_\w+_(Lt|LtE|Gt|GtE|Eq|NotEq)"
    r"|ReplaceBinaryOperator_(Add|Sub|Mul|Div)_(Add|Sub|Mul|Div))"
)
KINDS = ("notebooks", "tests", "exercises")
MINUTES = 10  # of a run with --changed
LONGEST = 1800  # seconds for one file: a fault may make a loop endless
# Tests of the repository and not of the library: asked only where a fault names them.
ELSEWHERE = {
    "setup",
    "browser",
    "notebooks",
    "nbplugin",
    "check",
    "mutate",
    "book",
    "hub",
    "guide",
    "readme",
    "slides",
    "matrix",
    "failing_well",
    "prose",
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
# Imported once, in the process that every trial is a fork of: half of a short trial's time. advlib is not among them.
PRELOAD = [
    *("tensorflow", "keras", "scipy.stats", "pandas", "skimage", "matplotlib.pyplot", "hypothesis", "pytest"),
    *("tqdm", "typer", "rich", "jinja2"),
]


class NotTried(Exception):
    """Neither noticed nor survived: pytest could not run, or there was no time."""


# --- faults that nobody thought of


def mutants(file, n, seed=0):
    """n faults of one file of advlib (all, if there are fewer), by Cosmic Ray, drawn at random; each replaces the whole file."""
    import parso
    from cosmic_ray.ast import ast_nodes
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    text = text_of(file)
    named = Counter(name for fault in FAULTS if fault.file == file for name in fault.tests)
    tests = [name for name, n in named.most_common() if n > 1]  # what one fault alone names may take minutes
    tests += ["numbers"] if tests and file.startswith("attacks/") else []
    if not tests:
        raise SystemExit(
            f"--general {file}: a file with faults in the catalogue was expected, as losses.py or attacks/pgd.py"
        )
    places = []
    for name in sorted(filter(OPERATORS.fullmatch, operator_names())):
        operator = get_operator(name)()
        count = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(parso.parse(text)))
        places += [(name, k) for k in range(count)]
    chosen = random.Random(seed).sample(places, min(n, len(places)))
    made = []
    for name, k in chosen:
        new = mutate_code(text, get_operator(name)(), k)
        try:
            compile(new, file, "exec")
        except SyntaxError:  # the * of keyword-only parameters, taken for a product
            continue
        made.append(Fault(f"{file} {name.removeprefix('core/')} {k}", file, text, new, (), tuple(tests)))
    return made


def changed_line(fault):
    """The line that a mutant changes, as it becomes: `12: x < y  →  x <= y`."""
    pairs = zip(fault.old.splitlines(), fault.new.splitlines(), strict=False)
    for n, (old, new) in enumerate(pairs, 1):
        if old != new:
            return f"{n}: {old.strip()}  →  {new.strip()}"
    return "the end of the file"


def equivalent(file, line):
    """Why a mutant that survived, as `changed_line` says it, is no fault; empty where nobody has said so."""
    old, _, new = line.partition(": ")[2].partition("  →  ")
    for where, part, becomes, why in EQUIVALENT:
        if where == file and part in old and squeezed(old.replace(part, becomes)) == squeezed(new):
            return why
    return ""


def squeezed(line):
    return "".join(line.split())  # Cosmic Ray puts a space before a new number


def summary_of_mutants(results):
    """Of each file: mutants tried, noticed, and explained; the others, line by line."""
    lines, files = [], {}
    for name, result in results["tests"].items():
        files.setdefault(name.split()[0], []).append(result)
    for file, tried in sorted(files.items()):
        left = [result["line"] for result in tried if not result["noticed"]]
        same = [line for line in left if equivalent(file, line)]
        lines.append(
            f"{file:32} {len(tried):3} tried, {len(tried) - len(left):3} noticed, {len(same):2} equivalent"
        )
        lines += [f"    survives: {line}" for line in left if line not in same]
    return "\n".join(lines)


# --- what may notice a fault


def likeliest(fault, by):
    """The files in which the fault is likeliest to be noticed."""
    if by == "tests":
        return [ROOT / "tests" / f"test_{name}.py" for name in fault.tests]
    folder = "notebooks" if by == "notebooks" else "teaching/exercises"
    return [file for n in fault.lessons for file in sorted((ROOT / folder).glob(f"{n}_*.ipynb"))]


def likeliest_first(fault, by, before=None):
    """All files, the one that noticed the fault `before` (by name) first, then the likeliest."""
    if by == "tests":
        files = sorted((ROOT / "tests").glob("test_*.py"))
        files = [file for file in files if file.stem.removeprefix("test_") not in ELSEWHERE]
    else:
        files = sorted(
            (ROOT / ("notebooks" if by == "notebooks" else "teaching/exercises")).glob("[0-9][0-9]_*.ipynb")
        )
    first = likeliest(fault, by)
    first = [file for file in [*files, *first] if file.name == before][:1] + first
    return list(dict.fromkeys([*first, *files]))


def words(file, by):
    """pytest's arguments for one file."""
    options = ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    if by == "notebooks":
        options = ["--nbval", str(file)]
    elif by == "exercises":  # solutions must pass, empty and wrong answers must not
        test = "test_exercises.py::test_right_empty_and_wrong_answers"
        options += ["-m", "", str(ROOT / "tests" / f"{test}[{file.name[:2]}]")]
    else:
        options.append(str(file))
    return ["-x", "-q", "-p", "no:cacheprovider", *options]


def forks():
    """Where processes come from: forks of one that has imported `PRELOAD`, on Windows new ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


class ForkedKernel:
    """A notebook's kernel that has imported `PRELOAD`: a fork of its trial, which is one. What jupyter_client asks of a Popen."""

    stdin = stdout = stderr = None

    def __init__(self):
        context = multiprocessing.get_context("fork")
        orders, self.orders = context.Pipe(duplex=False)
        self.process = context.Process(target=self.become, args=(orders,))
        self.process.start()
        self.pid = self.process.pid
        # Signals for the kernel go to its group, which must not be the trial's.
        os.setpgid(self.pid, self.pid)

    @staticmethod
    def become(orders):
        command, environment, folder = orders.recv()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        import matplotlib
        import pandas

        # Both ask for a kernel when they are imported, and there was none; `matplotlib.use` would want one now.
        matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
        pandas.set_option("display.max_columns", 20)
        sys.argv = command[command.index("-m") + 1 :]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

    def launch(self, command, env, cwd, **_):
        self.orders.send((command, dict(env), cwd))
        return self

    def poll(self):
        return self.process.exitcode

    def wait(self):
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


class LikeliestFirst:
    """A plugin for pytest, as a file may take minutes: tests named after the broken functions before the others, and of one
    test's many parameters the first before any second."""

    def __init__(self, names):
        self.names = names

    def pytest_collection_modifyitems(self, items):
        met = Counter()

        def place(item):
            other = not any(name in item.name for name in self.names)
            key = (other, getattr(item, "originalname", item.name))
            met[key] += 1
            return other, met[key]

        items.sort(key=place)


def trial(folder, arguments, names, output):
    """A process of its own: pytest, with the advlib in `folder` before the sound one; ends with pytest's exit status."""
    if hasattr(os, "setsid"):  # a group of its own, so that kernels end with it
        os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)  # in the repository, subprocesses of tests would find the sound one
    os.environ.update(ONE_THREAD, PYTHONPATH=folder, ADVLIB_PROGRESS="0")
    sys.path.insert(0, folder)
    if "--nbval" in arguments and hasattr(os, "fork"):
        kernel = ForkedKernel()
        from jupyter_client.provisioning import local_provisioner

        local_provisioner.launch_kernel = kernel.launch
    import pytest

    status = int(pytest.main(arguments, plugins=[LikeliestFirst(names)]))
    found = sys.modules.get("advlib")
    if found is None or not Path(found.__file__).is_relative_to(folder):
        print(f"advlib came from {found and found.__file__}: the broken one was expected")
        status = 3
    sys.stdout.flush()
    os._exit(status)


def pytest_in(folder, arguments, seconds, names=()):
    """(exit status, output) of pytest against the advlib in `folder`; TimeoutError after `seconds`. names: broken functions."""
    output = Path(folder, "output.txt")
    process = forks().Process(target=trial, args=(str(folder), arguments, names, str(output)))
    process.start()
    process.join(seconds)
    late = process.is_alive()
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif late:
        process.kill()
    process.join()
    if late:
        raise TimeoutError
    return process.exitcode, output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""


def broken_copy(fault, folder):
    """A copy of advlib with the fault (or None), in `folder`. ValueError where the patch does not fit exactly once."""
    copy = folder / "advlib"
    # data and weights are linked, not copied
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    for array in PACKAGE.rglob("*.npz"):
        (copy / array.relative_to(PACKAGE)).symlink_to(array)
    if fault:
        (copy / fault.file).write_text(broken(fault), encoding="utf-8")


def who_notices(fault, by, files, end=None):
    """The first of `files` that fails against the broken library, or None. NotTried where pytest could not run.

    end: the value of time.monotonic() at which to give up."""
    with tempfile.TemporaryDirectory() as folder:
        broken_copy(fault, Path(folder))
        names = [name.split(".")[-1] for name in functions(fault)] if fault else []
        ran = False
        for file in files:
            left = LONGEST if end is None else min(LONGEST, end - time.monotonic())
            if left <= 0:
                raise NotTried("no time was left")
            try:
                status, said = pytest_in(folder, words(file, by), left, names)
            except TimeoutError:
                raise NotTried(f"{file.name} took longer than {left:.0f} s") from None
            if status == 1:
                return file
            if status not in (0, 5):  # 5: all its tests are left out
                raise NotTried(f"pytest could not run {file.name}:\n{said[-3000:]}")
            ran |= status == 0
    if not ran:
        raise NotTried(f"all tests of {', '.join(file.name for file in files)} are left out")
    return None


# --- what is stored


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def patch_digest(fault):
    return digest(fault.file, fault.old, fault.new)


def against(fault, by, asked):
    """The digest of what a fault is tried against: the file it patches and the files `asked` (by name)."""
    folder = {"notebooks": "notebooks", "tests": "tests", "exercises": "teaching/exercises"}[by]
    paths = [PACKAGE / fault.file, *(ROOT / folder / name for name in asked)]
    return digest(*(path.read_text(encoding="utf-8") if path.is_file() else "" for path in paths))


def read(store):
    """by → fault → result."""
    found = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    return {by: found.get(by, {}) for by in KINDS}


def write(store, results):
    part = store.with_suffix(".part")
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(store)


def known(results, fault, by):
    """The stored result of this very patch, or None."""
    found = results[by].get(fault.name)
    return found if found and found["patch"] == patch_digest(fault) else None


def current(results, fault, by, files=None):
    """Whether the stored result was found against what is there now; a survivor's, against all `files` (every file)."""
    found = known(results, fault, by)
    names = {file.name for file in files or likeliest_first(fault, by)}
    if not found or (found["noticed"] is None and set(found["asked"]) != names):
        return False
    return found["against"] == against(fault, by, found["asked"])


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def score(results, by):
    """(noticed, tried, faults in all), of the results stored for the catalogue as it is."""
    found = [known(results, fault, by) for fault in FAULTS]
    tried = [result for result in found if result]
    return sum(result["noticed"] is not None for result in tried), len(tried), len(FAULTS)


def sentence(results, by):
    """What README says of a whole run; None while some fault has no stored result. "At least", where a survivor has not yet
    been tried against every file."""
    noticed, tried, of = score(results, by)
    if tried < of:
        return None
    every = len(likeliest_first(FAULTS[0], by))
    survivors = [found for fault in FAULTS if not (found := known(results, fault, by))["noticed"]]
    least = "at least " if any(len(found["asked"]) < every for found in survivors) else ""
    return f"the {by} notice {least}{noticed} of {of} seeded faults"


def summary(results):
    """Scores by whom, who notices how many, and the survivors."""
    lines = [f"{len(FAULTS)} faults of {len(public())} public functions"]
    for by in KINDS:
        noticed, tried, _ = score(results, by)
        lines.append(f"{by}: {noticed} of {tried} tried are noticed" if tried else f"{by}: none tried")
        found = {fault.name: known(results, fault, by) for fault in FAULTS}
        counts = {}
        for result in filter(None, found.values()):
            counts[result["noticed"] or "nobody"] = counts.get(result["noticed"] or "nobody", 0) + 1
        lines += [f"  {file:40} {n:4}" for file, n in sorted(counts.items())]
        survivors = [fault for fault in FAULTS if found[fault.name] and not found[fault.name]["noticed"]]
        lines += [
            f"  survives: {fault.name} ({', '.join(functions(fault)) or fault.file})" for fault in survivors
        ]
    return "\n".join(lines)


# --- a run


def changed_faults(ref, by):
    """Faults whose file, or whose likeliest files, differ from git's `ref`, in the working tree too."""
    names = git("diff", "--name-only", ref).splitlines()
    names += git("ls-files", "--others", "--exclude-standard").splitlines()
    paths = {ROOT / name for name in names}
    return [fault for fault in FAULTS if paths & {PACKAGE / fault.file, *likeliest(fault, by)}]


class Run:
    """Tries faults, several at a time, and stores each result as it comes."""

    def __init__(self, by, store, end=None, only_likeliest=False, general=False):
        self.by, self.store, self.end, self.only_likeliest, self.general = (
            by,
            store,
            end,
            only_likeliest,
            general,
        )
        self.results, self.lock = read(store), threading.Lock()
        self.commit = git("describe", "--always", "--dirty")
        self.survivors, self.failed, self.late = [], [], []

    def files(self, fault):
        before = (known(self.results, fault, self.by) or {}).get("noticed")
        files = likeliest_first(fault, self.by, before)
        first = {before, *(file.name for file in likeliest(fault, self.by))}
        return [file for file in files if file.name in first] if self.only_likeliest else files

    def __call__(self, fault):
        if self.end is not None and time.monotonic() >= self.end:
            self.late.append(fault.name)
            return
        began, files = time.perf_counter(), self.files(fault)
        try:
            noticed = who_notices(fault, self.by, files, self.end)
        except NotTried as error:
            late = self.end is not None and time.monotonic() >= self.end
            (self.late if late else self.failed).append(fault.name)
            print(f"{fault.name:36} NOT TRIED: {error}", flush=True)
            return
        seconds = time.perf_counter() - began
        print(f"{fault.name:36} {noticed.name if noticed else 'SURVIVES':36} {seconds:5.0f} s", flush=True)
        if self.general and noticed is None:
            line = changed_line(fault)
            print(f"    {line}  {equivalent(fault.file, line)}".rstrip(), flush=True)
        if noticed is None:
            self.survivors.append(fault.name)
        self.keep(fault, noticed, files[: files.index(noticed) + 1] if noticed else files, seconds)

    def keep(self, fault, noticed, asked, seconds):
        asked = [file.name for file in asked]
        result = {
            "noticed": noticed.name if noticed else None, "seconds": round(seconds), "asked": asked, "commit": self.commit,
            "date": datetime.now(UTC).date().isoformat(), "patch": patch_digest(fault),
            "against": against(fault, self.by, asked),
        }  # fmt: skip
        if self.general:
            result["line"] = changed_line(fault)
        with self.lock:
            self.results[self.by][fault.name] = result
            write(self.store, self.results)


def merge(store, others):
    """The results of other stores put into this one; of two for a fault the later."""
    results = read(store)
    for other in map(read, others):
        for by in KINDS:
            for name, result in other[by].items():
                mine = results[by].get(name)
                if mine is None or result["date"] >= mine["date"]:
                    results[by][name] = result
    write(store, results)


def part(text):
    """Shard 2 of 8, as a pair of numbers, from the text 2/8."""
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"{text!r}: i/n with 1 ≤ i ≤ n was expected, for example 2/8")
    return i, n


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="faults to try; all of them if none is named")
    parser.add_argument("--by", choices=KINDS, default="notebooks")
    parser.add_argument("--list", action="store_true", help="only list the faults, and see that each fits")
    parser.add_argument("--summary", action="store_true", help="only say what the stored results come to")
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="FILE", help="put the results of shards into the store"
    )
    parser.add_argument(
        "--shard", type=part, default=(1, 1), metavar="i/n", help="every n-th fault, from the i-th on"
    )
    parser.add_argument(
        "--changed", nargs="?", const="HEAD", metavar="REF", help="only what differs from REF touches"
    )
    parser.add_argument(
        "--minutes", type=float, help=f"begin none later; {MINUTES} with --changed, else no end"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out those whose stored result is current"
    )
    parser.add_argument(
        "--store", type=Path, help="where results are kept (tools/faults.json, tools/mutants.json)"
    )
    parser.add_argument(
        "-n", type=int, default=1, help="faults tried at a time, one thread of TensorFlow each"
    )
    parser.add_argument(
        "--sound", action="store_true", help="only see that every file passes without a fault"
    )
    parser.add_argument(
        "--likeliest",
        action="store_true",
        help="ask only the files that the catalogue names; what they let through, others may notice",
    )
    parser.add_argument(
        "--survivors", action="store_true", help="only those that nobody noticed when they were last tried"
    )
    parser.add_argument("--general", nargs="+", metavar="FILE", help="mutants of these files of advlib")
    parser.add_argument("--sample", type=int, default=60, help="so many of each file (60)")
    given = parser.parse_args()
    if given.general:
        given.by = "tests"
    given.store = given.store or (MUTANTS if given.general else STORE)
    unknown = set(given.names) - {fault.name for fault in FAULTS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; python tools/mutate.py --list names them all")
    return given


def main():
    given = arguments()
    os.environ.update(ONE_THREAD)  # before PRELOAD is imported
    if given.merge:
        merge(given.store, given.merge)
    if given.summary or given.merge:
        print(summary(read(given.store)))
        if given.store == STORE:
            print("mutants", summary_of_mutants(read(MUTANTS)), sep="\n")
        return 0
    i, n = given.shard
    chosen = FAULTS if given.changed is None else changed_faults(given.changed, given.by)
    if given.general:
        chosen = [mutant for file in given.general for mutant in mutants(file, given.sample)]
    chosen = [fault for fault in chosen if not given.names or fault.name in given.names][i - 1 :: n]
    if given.list:
        for fault in chosen:
            compile(broken(fault), fault.file, "exec")
            print(f"{fault.name:36} {fault.file:28} {', '.join(functions(fault))}")
        return 0
    if given.sound:
        with ThreadPoolExecutor(max(given.n, 1)) as pool:
            files = likeliest_first(FAULTS[0], given.by)
            failing = [
                file.name
                for file in pool.map(lambda file: who_notices(None, given.by, [file]), files)
                if file
            ]
        print(f"without a fault {len(files) - len(failing)} of {len(files)} files pass", *failing)
        return 1 if failing else 0
    minutes = given.minutes or (MINUTES if given.changed is not None else None)
    end = None if minutes is None else time.monotonic() + 60 * minutes
    only_likeliest = given.likeliest or given.changed is not None or bool(given.general)
    run = Run(given.by, given.store, end, only_likeliest, bool(given.general))
    if given.survivors:
        results = run.results[given.by]
        chosen = [fault for fault in chosen if fault.name in results and not results[fault.name]["noticed"]]
    if given.resume:
        chosen = [
            fault
            for fault in chosen
            if not current(run.results, fault, given.by, run.files(fault) if given.general else None)
        ]
    with ThreadPoolExecutor(max(given.n, 1)) as pool:
        list(pool.map(run, chosen))
    tried = len(chosen) - len(run.failed) - len(run.late)
    print(f"{tried - len(run.survivors)} of {tried} faults tried are noticed by the {given.by}")
    for what, names in (
        ("survive", run.survivors),
        ("could not be tried", run.failed),
        ("no time for", run.late),
    ):
        if names:
            print(f"{what}: {', '.join(sorted(names))}")
    return 2 if run.failed else 1 if run.survivors else 0


if __name__ == "__main__":
    sys.exit(main())
