"""A class of two on a real JupyterHub, with the teacher's own settings: log in, run lesson 00, stay out of each other's
server. Only who logs in, and under which account a server runs, is replaced: this needs neither root nor systemd."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
import websocket
from browser import end

ROOT = Path(__file__).parents[1]
LESSON = "00_start_here.ipynb"
STUDENTS = ("ann", "ben")
PASSWORD = "correct horse"
SERVER_MB = 150  # of a student's server beside its kernels: 137 MB were measured

# What replaces the accounts and systemd units of a server; all the rest is the teacher's file as it is.
SETTINGS = """
load_subconfig({config!r})
c.JupyterHub.bind_url = "http://127.0.0.1:{ports[0]}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{ports[1]}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {password!r}
c.Authenticator.allowed_users = {students!r}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r}
c.Spawner.args += {as_root!r}
"""


# Stands for the student's server: it says what it was given, and from where it was started.
SERVER = "import json, os, sys; print('server', sys.argv[1:], os.environ['HOME'])"


def start(home, tmp_path):
    """start.py, as the hub calls it, with a server that ends at once: what was printed, and the errors."""
    stand_in = tmp_path / "stand_in" / "jupyterhub"
    stand_in.mkdir(parents=True, exist_ok=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "singleuser.py").write_text(SERVER, encoding="utf-8")
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(stand_in.parent)}
    command = [sys.executable, ROOT / "teaching" / "jupyterhub" / "start.py", "--one", "two words"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def notebooks(folder):
    """Lessons and exercises below a folder: name → content."""
    found = [*folder.glob("*.ipynb"), *folder.glob("exercises/*.ipynb")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.skipif(os.name == "nt", reason="JupyterHub does not run on Windows")
def test_start_copies_lessons_and_exercises_and_keeps_what_was_changed(tmp_path):
    home = tmp_path / "ann"
    home.mkdir()
    served = f"server ['--one', 'two words'] {home}\n"
    assert start(home, tmp_path) == (served, "")
    originals, work = notebooks(ROOT / "notebooks"), home / "advlib" / "work"
    assert f"exercises/{LESSON}" in originals and notebooks(work) == originals
    assert (home / "advlib" / "advlib").resolve() == ROOT / "advlib"
    theirs = {name: originals[name].replace(b"advlib", b"mylib") for name in (LESSON, f"exercises/{LESSON}")}
    for name, content in theirs.items():
        (work / name).write_bytes(content)
    (work / "03_gradient_attacks.ipynb").unlink()  # how a student asks for a clean one
    (home / "json.py").write_text(
        "raise ImportError", encoding="utf-8"
    )  # theirs; no server may stumble over it
    assert start(home, tmp_path) == (served, "")
    assert notebooks(work) == {**originals, **theirs}


@pytest.mark.skipif(os.name == "nt", reason="JupyterHub does not run on Windows")
def test_start_opens_a_server_where_nothing_can_be_copied(tmp_path):
    home = tmp_path / "ben"
    home.mkdir()
    (home / "advlib").write_text("in the way", encoding="utf-8")  # root would write into a read-only folder
    printed, errors = start(home, tmp_path)
    assert printed.startswith("server ")
    assert errors.startswith("start.py: the lessons were not copied: ") and str(home / "advlib") in errors


def test_the_memory_of_a_student_holds_two_lessons_and_the_server():
    settings = (ROOT / "teaching" / "jupyterhub" / "jupyterhub_config.py").read_text(encoding="utf-8")
    limit = int(re.search(r'^c\.Spawner\.mem_limit = "(\d+)G"$', settings, re.M)[1]) * 1024
    measured = json.loads((ROOT / "teaching" / "measured.json").read_text(encoding="utf-8"))["lessons"]
    largest = max(lesson["peak_mb"] for lesson in measured.values())
    assert 2 * largest + SERVER_MB <= limit


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The running hub: its address, and the folder with the students' homes."""
    pytest.importorskip("jupyterhub", reason="JupyterHub is not installed: it is in the extra `hub`")
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    if not shutil.which("configurable-http-proxy", path=path):
        pytest.skip(
            "there is no configurable-http-proxy: it is in the extra `hub`, or npm's package of this name"
        )
    folder = tmp_path_factory.mktemp("hub")
    ports = free_ports(3)
    (folder / "hub.py").write_text(
        SETTINGS.format(
            config=str(ROOT / "teaching" / "jupyterhub" / "jupyterhub_config.py"),
            ports=ports,
            password=PASSWORD,
            students=set(STUDENTS),
            homes=str(folder / "homes" / "{username}"),
            as_root=["--allow-root"] if os.geteuid() == 0 else [],
        ),
        encoding="utf-8",
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    env["PATH"] = path
    log_path = folder / "hub.log"
    with open(log_path, "wb") as log:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "hub.py"], cwd=folder, env=env, **options
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        until = time.monotonic() + 60
        while not answers(f"{url}/hub/api/"):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the hub did not start; its last lines:\n{log_path.read_text()[-3000:]}")
            time.sleep(0.2)
        yield SimpleNamespace(url=url, homes=folder / "homes", log=log_path)
    finally:
        end(process)


def answers(url):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=10).ok
    return False


class Browser:
    """What a student's browser does at the hub: it keeps cookies, follows redirections, and sends the forms' token."""

    def __init__(self, hub, name):
        self.hub, self.name = hub, name
        self.session = requests.Session()

    def get(self, path):
        return self.session.get(self.hub.url + path, timeout=60)

    def token(self, path):
        """The token against forged requests (`_xsrf`) of the pages below `path`."""
        return next(c.value for c in self.session.cookies if c.name == "_xsrf" and c.path == path)

    def send(self, method, path, content=None):
        """A request that changes something, with the token of the server at /user/NAME/."""
        headers = {"X-XSRFToken": self.token(f"/user/{self.name}/")}
        return self.session.request(method, self.hub.url + path, json=content, headers=headers, timeout=60)

    def log_in(self, password=PASSWORD):
        """Fill in the form of the login page and press its button; a server is started, and its page opened."""
        form = self.get("/hub/login").text
        hidden = re.search(r'name="_xsrf"\s+value="([^"]+)"', form)[1]
        fields = {"username": self.name, "password": password, "_xsrf": hidden}
        return self.session.post(f"{self.hub.url}/hub/login", data=fields, timeout=60)

    def open_lab(self, seconds=180):
        """Wait, as the page does, until the student's server has started; then its answer."""
        until = time.monotonic() + seconds
        self.get("/hub/spawn")
        while True:
            answer = self.get(f"/user/{self.name}/lab")
            if answer.ok and urlsplit(answer.url).path == f"/user/{self.name}/lab":
                return answer
            if answer.status_code == 500 or time.monotonic() > until:
                last = self.hub.log.read_text(errors="replace")[-5000:]
                pytest.fail(f"{self.name} got no server; the hub's last lines:\n{last}")
            time.sleep(0.5)

    def contents(self, path):
        answer = self.get(f"/user/{self.name}/api/contents/{path}?content=1")
        answer.raise_for_status()
        return answer.json()["content"]

    def run(self, path, cells):
        """Run cells in a new kernel for this notebook: for each its status and the text that it printed."""
        content = {"path": path, "type": "notebook", "name": path, "kernel": {"name": "python3"}}
        answer = self.send("POST", f"/user/{self.name}/api/sessions", content)
        answer.raise_for_status()
        kernel = answer.json()["kernel"]["id"]
        socket_url = self.hub.url.replace("http", "ws", 1)
        cookies = "; ".join(f"{c.name}={c.value}" for c in self.session.cookies if self.name in c.path)
        line = websocket.create_connection(
            f"{socket_url}/user/{self.name}/api/kernels/{kernel}/channels",
            cookie=cookies,
            origin=self.hub.url,
            timeout=120,
        )
        with contextlib.closing(line):
            return [execute(line, cell) for cell in cells]


def execute(line, source):
    """One cell over a kernel's websocket: the status in its reply ("ok", "error") and what it printed."""
    ours, status, printed, idle = uuid.uuid4().hex, None, [], False
    header = {
        "msg_id": ours,
        "msg_type": "execute_request",
        "username": "",
        "session": ours,
        "version": "5.3",
    }
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    line.send(json.dumps({**message, "buffers": []}))
    while status is None or not idle:
        got = json.loads(line.recv())
        if got["parent_header"].get("msg_id") != ours:
            continue
        if got["msg_type"] == "execute_reply":
            status = got["content"]["status"]
        elif got["msg_type"] == "status":
            idle = got["content"]["execution_state"] == "idle"
        elif got["msg_type"] == "stream":
            printed.append(got["content"]["text"])
        elif got["msg_type"] == "error":
            printed.append(f"{got['content']['ename']}: {got['content']['evalue']}")
    return SimpleNamespace(status=status, printed="".join(printed))


def in_class(do, students):
    """Everybody at the same time, as in a class: name → result."""
    with ThreadPoolExecutor(len(students)) as pool:
        return dict(zip(students, pool.map(do, students.values()), strict=True))


@pytest.fixture(scope="module")
def students(hub):
    """Two browsers, logged in, each with its server."""
    browsers = {name: Browser(hub, name) for name in STUDENTS}
    for browser in browsers.values():
        answer = browser.log_in()
        assert answer.ok and "Invalid username" not in answer.text
    in_class(Browser.open_lab, browsers)
    return browsers


@pytest.fixture(scope="module")
def stored():
    return json.loads((ROOT / "notebooks" / LESSON).read_bytes())


def code(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def oks(text):
    return [line for line in text.splitlines() if line.startswith("ok: ")]


@pytest.mark.full
def test_a_wrong_password_and_a_stranger_stay_outside(hub):
    for name, password in (("ann", "incorrect horse"), ("eve", PASSWORD)):
        browser = Browser(hub, name)
        assert browser.log_in(password).status_code == 403
        assert urlsplit(browser.get("/hub/home").url).path == "/hub/login"


@pytest.mark.full
def test_both_run_lesson_00_whole_in_their_own_servers(students, stored):
    where = "import os\nprint(os.environ['USER'], os.getcwd(), os.environ['TF_NUM_INTRAOP_THREADS'])"
    ran = in_class(lambda browser: browser.run(f"work/{LESSON}", [*code(stored), where]), students)
    streams = (output for cell in stored["cells"] for output in cell.get("outputs", ()) if "text" in output)
    expected = oks("".join("".join(output["text"]) for output in streams))
    assert len(expected) > 0
    for name, cells in ran.items():
        assert [cell.printed for cell in cells if cell.status != "ok"] == []
        assert len(cells) == len(code(stored)) + 1
        assert oks("".join(cell.printed for cell in cells)) == expected
        folder = students[name].hub.homes / name / "advlib" / "work"
        assert cells[-1].printed.split() == [name, str(folder), "2"]


@pytest.mark.full
def test_each_has_a_copy_of_all_lessons_and_can_read_the_library(students, stored):
    originals = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    exercises = {path.name for path in (ROOT / "notebooks" / "exercises").glob("*.ipynb")}
    for browser in students.values():
        assert {entry["name"] for entry in browser.contents("work")} == {*originals, "exercises"}
        assert {entry["name"] for entry in browser.contents("work/exercises")} == exercises
        assert code(browser.contents(f"work/{LESSON}")) == code(stored)
        assert "def fgsm" in browser.contents("advlib/attacks/fgsm.py")


@pytest.mark.full
def test_jupyterlab_opens_lesson_00_and_asks_nothing_of_another_machine(students):
    answer = students["ann"].get("/user/ann/")
    assert urlsplit(answer.url).path == f"/user/ann/lab/tree/work/{LESSON}"
    config = json.loads(
        re.search(r'id="jupyter-config-data" type="application/json">(.+?)</script>', answer.text, re.S)[1]
    )
    assert config["news"] == {"disabled": True}


@pytest.mark.full
def test_one_student_cannot_open_the_others_server(students):
    ann, ben = students["ann"], students["ben"]
    for path in ("/user/ben/lab", f"/user/ben/api/contents/work/{LESSON}", "/user/ben/api/kernels"):
        assert ben.get(path).ok  # it is there
        assert ann.get(path).status_code == 403
    kernel = ben.get("/user/ben/api/kernels").json()[0]["id"]
    cookies = "; ".join(f"{c.name}={c.value}" for c in ann.session.cookies)
    url = f"{ann.hub.url.replace('http', 'ws', 1)}/user/ben/api/kernels/{kernel}/channels"
    with pytest.raises(websocket.WebSocketBadStatusException, match="Handshake status 403"):
        websocket.create_connection(url, cookie=cookies, origin=ann.hub.url, timeout=60)
    # Nor with a key of her own, which opens her server and starts kernels there.
    ann.get("/hub/home")
    token = {"X-XSRFToken": ann.token("/hub/")}
    made = ann.session.post(f"{ann.hub.url}/hub/api/users/ann/tokens", json={}, headers=token, timeout=60)
    key = {"Authorization": f"token {made.json()['token']}"}
    for name, starts in (("ann", 201), ("ben", 403)):
        url = f"{ann.hub.url}/user/{name}/api/kernels"
        assert requests.post(url, json={"name": "python3"}, headers=key, timeout=60).status_code == starts


@pytest.mark.full
def test_without_a_login_no_server_opens(hub, students):
    stranger = Browser(hub, "eve")
    assert urlsplit(stranger.get("/user/ben/lab").url).path == "/hub/login"
    assert stranger.get("/user/ben/api/kernels").status_code == 403


@pytest.mark.full
def test_what_a_student_changed_is_there_after_a_restart_and_is_theirs_alone(students, stored):
    ann, ben, path = students["ann"], students["ben"], f"work/{LESSON}"
    changed = ann.contents(path)
    changed["cells"][0]["source"] = "# Ann's notes"
    saved = {"type": "notebook", "format": "json", "content": changed}
    assert ann.send("PUT", f"/user/ann/api/contents/{path}", saved).ok
    ann.get("/hub/home")
    stop = {"X-XSRFToken": ann.token("/hub/")}
    url = f"{ann.hub.url}/hub/api/users/ann/server"
    assert ann.session.delete(url, headers=stop, timeout=60).status_code in (202, 204)
    until = time.monotonic() + 60
    while ann.get("/hub/api/users/ann").json()["servers"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    ann.open_lab()
    assert ann.contents(path)["cells"][0]["source"] == "# Ann's notes"
    assert code(ben.contents(path)) == code(stored)
    assert ben.contents(path)["cells"][0]["source"] == "".join(stored["cells"][0]["source"])
