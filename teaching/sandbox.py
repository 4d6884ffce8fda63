"""Runs a notebook that somebody else wrote: its kernel sees Python and the library, no other file, no network, and has limits.

    notebook ── this process ── two ends of a socket ──┤ kernel

Only the kernel runs the student's code. What it prints comes back through a socket to this process, which is out of its reach, so
that the outputs of the cells before a crash are kept. On Linux the kernel lives in namespaces of its own (`unshare` of
util-linux; no administrator is needed where the system lets users make namespaces):

- files: a new root in memory, with Python's installation and the library read-only, and an empty home; nothing else of the
  machine is there, so neither gradebook, nor solutions, nor other students' work;
- no network, not even to this machine; no process but its own is seen or signalled; no environment variable of the teacher's;
- it ends with this process, even where this one is killed.

Not isolated: the kernel's own state. Student code runs in the kernel in which the checks run, can read the hidden tests when
their cell runs, and could replace `check`. The Linux kernel itself is shared with it, as in any container.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import zmq
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbformat.v4 import new_output

MB = 1_000_000
POLL = 0.2  # seconds between two looks at what the kernel uses
TIMEOUT = "CellTimeoutError"
# Of the system, what programs need to start; /etc as a whole holds secrets.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
)

# $1: folder of this run; $2: size of the new root; $3: Python; then what is shown read-only. Runs as root of a user namespace,
# which means the owner of these files and nothing outside; the last line gives that up as well.
_ENTER = """
folder=$1 size=$2 python=$3
shift 3
mount -t tmpfs -o "size=$size,mode=755,nosuid,nodev" tmpfs "$folder/root"
cd "$folder/root"
for path; do
    mkdir -p ".$(dirname "$path")"
    if [ -L "$path" ]; then
        ln -s "$(readlink "$path")" ".$path"
    else
        if [ -d "$path" ]; then mkdir -p ".$path"; else : >".$path"; fi
        mount --rbind "$path" ".$path"
        mount -o remount,bind,ro,nosuid,nodev ".$path"
    fi
done
mkdir -p dev/shm proc tmp home old ".$folder/kernel"
mount --bind "$folder/kernel" ".$folder/kernel"
mount -t proc proc proc
for device in null zero full random urandom; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
pivot_root . old
umount -l /old
rmdir /old
cd /home
exec prlimit --core=0 --fsize="$((${size%m} * 1000000))" \
    setpriv --no-new-privs --bounding-set=-all --inh-caps=-all \
    "$python" -m ipykernel_launcher -f "$folder/kernel/connection.json" --HistoryManager.hist_file=:memory:
"""


@dataclass(frozen=True)
class Limits:
    """Of one submission: seconds for a cell, from start to end; MB of memory, of output, of files; processes at once."""

    cell: float = 60
    total: float = 600
    memory: float = 4000
    output: float = 10
    disk: int = 200
    processes: int = 50


class SandboxError(Exception):
    """No kernel could be started: this machine's fault, not the student's."""


def isolation():
    """Why a kernel cannot be isolated here, or None where it can."""
    if sys.platform != "linux":
        return "isolation needs Linux (namespaces)"
    missing = [name for name in ("unshare", "setpriv", "prlimit", "mount", "pivot_root") if not _which(name)]
    if missing:
        return f"isolation needs {', '.join(missing)} of util-linux"
    with tempfile.TemporaryDirectory(prefix="marking-") as folder:
        for name in ("root", "kernel"):
            Path(folder, name).mkdir()
        run = subprocess.run(
            [*_isolated(Path(folder), Limits(), "true")], env=environment(), capture_output=True, text=True
        )
    return None if run.returncode == 0 else f"namespaces cannot be made here: {run.stderr.strip()}"


def in_words(limits, isolated):
    """What is in force, for the teacher."""
    how = (
        "isolated: no file but Python and advlib, no network, no other process"
        if isolated
        else "NOT isolated: student code has your rights, and can read your files"
    )
    return (
        f"student code runs {how}; {limits.cell:g} s a cell, {limits.total:g} s in all, {limits.memory:g} MB of memory, "
        f"{limits.disk} MB of files, {limits.output:g} MB of output, {limits.processes} processes"
    )


def _which(name):
    return shutil.which(name, path=environment()["PATH"])


def environment(home="/home"):
    """What student code finds in os.environ: nothing of the teacher's but TensorFlow's settings."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("TF_")}
    return kept | {
        "ADVLIB_PROGRESS": "0",
        "HOME": home,
        "LANG": "C.UTF-8",
        "NBGRADER_EXECUTION": "autograde",  # advlib.exercises.check raises then
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": home,
        "USER": "student",
    }


def _shown():
    """The files that Python and the library consist of, none inside another."""
    library = find_spec("advlib").submodule_search_locations[0]
    paths = [*SYSTEM, sys.prefix, sys.base_prefix, library]
    there = [Path(os.path.normpath(path)) for path in paths if os.path.lexists(path)]
    return [str(path) for path in there if not any(other in path.parents for other in there)]


def _isolated(folder, limits, python=sys.executable):
    """The command of an isolated kernel. Its first part ends it with the thread that started it, however that one ends."""
    spaces = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts"]
    enter = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        *spaces,
        "--fork",
        "--kill-child",
        "sh",
        "-ec",
        _ENTER,
    ]
    return [*enter, "sandbox", str(folder), f"{limits.disk}m", python, *dict.fromkeys(_shown())]


def _bare(folder):
    return [sys.executable, "-m", "ipykernel_launcher", "-f", str(folder / "kernel" / "connection.json")]


class _Specs(KernelSpecManager):
    """Knows one kernel, whatever its name."""

    def __init__(self, argv):
        super().__init__()
        # a message instead of a signal: the first process in the namespace is not the one that would be signalled
        self.only = KernelSpec(argv=argv, language="python", interrupt_mode="message")

    def get_kernel_spec(self, kernel_name):
        return self.only


class _Client(NotebookClient):
    """nbclient's, which knows the cell it is at, counts what the kernel sends, and drops what is too much."""

    at, received, flooded, ready, error = 0, 0, None, False, None
    allowed = float("inf")

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "error", "update_display_data"):
            self.received += len(str(msg["content"]))
            if self.received > self.allowed:
                self.flooded = self.at if self.flooded is None else self.flooded
                return None
        return super().process_message(msg, cell, cell_index)

    def started(self, cell, cell_index):
        self.at, self.ready = cell_index, True

    def executed(self, cell, cell_index, execute_reply):
        """nbclient reports a time-out in the reply alone."""
        content = execute_reply["content"]
        named = [out.ename for out in cell.outputs if out.output_type == "error"]
        if content["status"] == "error" and content["ename"] not in named:
            cell.outputs.insert(0, _error(content["ename"], content["evalue"]))

    def run(self, **start):
        try:
            self.execute(cleanup_kc=True, **start)
        except Exception as error:  # the kernel died; what to make of it is decided by `execute`
            self.error = error


def execute(nb, limits=Limits(), isolated=True):
    """Run the cells of nb in place; returns (status, notes): "marked" and no notes where all ran within the limits.

    limits: a cell that takes too long is interrupted, and the next one runs; any other limit ends the kernel, and the cell it was
    at and all after it get an error as output. Status is then "timed out", "crashed", or names what was too much.
    Raises SandboxError where no kernel starts.

        >>> status, notes = execute(nbformat.read("05_measuring_robustness.ipynb", as_version=4))
    """
    with tempfile.TemporaryDirectory(prefix="marking-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        for part in ("root", "kernel", "home"):
            (folder / part).mkdir()
        client = _client(nb, folder, limits, isolated)
        why = _watched(client, folder, limits, isolated)
    if client.error and not client.ready:
        raise SandboxError(f"the kernel did not start: {client.error}")
    return _outcome(nb, client, why)


def _client(nb, folder, limits, isolated):
    kernel = AsyncKernelManager(
        kernel_name="sandbox",
        kernel_spec_manager=_Specs(_isolated(folder, limits) if isolated else _bare(folder)),
        connection_file=str(folder / "kernel" / "connection.json"),
        **({} if os.name == "nt" else {"transport": "ipc", "ip": str(folder / "kernel" / "s")}),
    )
    # a single message cannot fill this process's memory: one that is larger is lost, and the cell runs out of time
    kernel.context.setsockopt(zmq.MAXMSGSIZE, int(2 * limits.output * MB))
    client = _Client(
        nb,
        km=kernel,
        timeout=limits.cell,
        interrupt_on_timeout=True,
        error_on_timeout={"ename": TIMEOUT, "evalue": f"longer than {limits.cell:g} s", "traceback": []},
        allow_errors=True,
        store_widget_state=False,
        record_timing=False,
        shutdown_kernel="immediate",
    )
    client.allowed = limits.output * MB
    client.on_cell_start, client.on_cell_executed = client.started, client.executed
    return client


def _watched(client, folder, limits, isolated):
    """Run the client in a thread, look at its kernel, and end it; returns what was too much, or None."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    home = folder / "home"
    start = {
        "env": environment("/home" if isolated else str(home)),
        "cwd": str(home),
        **quiet,
    }
    thread = threading.Thread(target=client.run, kwargs=start)
    begun = time.monotonic()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL)
            why = _too_much(client, folder, limits, time.monotonic() - begun)
            if why and thread.is_alive():
                return why
    finally:  # also where the teacher pressed Ctrl+C
        _end(client)
        thread.join()
    return None


def _processes(client):
    """The kernel's process and all that it started, as psutil's."""
    try:
        first = psutil.Process(client.km.provisioner.pid)
        return [first, *first.children(recursive=True)]
    except (AttributeError, TypeError, ValueError, psutil.Error):  # not there yet, or no more
        return []


def _end(client):
    for process in reversed(_processes(client)):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _too_much(client, folder, limits, seconds):
    processes = _processes(client)
    memory = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss
    if seconds > limits.total:
        return f"timed out: longer than {limits.total:g} s in all"
    if len(processes) > limits.processes:
        return f"too many processes: over {limits.processes}"
    if memory > limits.memory * MB:
        return f"out of memory: over {limits.memory:g} MB"
    if client.received > limits.output * MB:
        return f"too much output: over {limits.output:g} MB"
    if _size(folder) > limits.disk * MB:
        return f"too large files: over {limits.disk} MB"
    return None


def _size(folder):
    """Bytes in what the kernel can write of the machine's own files."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += path.lstat().st_size
    return total


def _outcome(nb, client, why):
    """Says what happened, and gives an error to each cell that did not run to its end: nbgrader takes silence for success."""
    notes = []
    for cell in nb.cells[: client.at + 1]:
        if any(out.output_type == "error" and out.ename == TIMEOUT for out in cell.get("outputs", [])):
            notes.append(f"timed out in {_name(cell)}")
    status = "timed out" if notes else "marked"
    stopped = (
        client.at if client.flooded is None else client.flooded
    )  # from there on outputs, and errors, were dropped
    if client.flooded is not None and not why:
        why = "too much output"
    if why or client.error:
        why = why or "crashed: the kernel ended by itself"
        status = why.partition(":")[0]
        notes.append(f"{why}, in {_name(nb.cells[stopped])}; nothing counts after that")
        for cell in nb.cells[stopped:]:
            if cell.cell_type == "code":
                cell.outputs.insert(0, _error("NotRun", why))
    return status, notes


def _name(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "a cell of the student's own")


def _error(name, text):
    return new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])
