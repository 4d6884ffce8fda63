"""Headless Chromium for tests: pages are opened, clicked and looked at over the Chrome DevTools protocol.

    with chromium(tmp_path) as page:
        page.open("http://localhost:8000/")
        page.click("button", "Run")
        page.wait_for("document.querySelector('img')", "the figure")
        assert page.evaluate("document.title") == "A page" and not page.errors

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
USUAL_PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    *(
        rf"{os.environ[folder]}\{program}"
        for folder in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        if folder in os.environ
        for program in (
            r"Chromium\Application\chrome.exe",
            r"Google\Chrome\Application\chrome.exe",
            r"Microsoft\Edge\Application\msedge.exe",
        )
    ),
)
OPTIONS = (
    "--headless",
    "--no-sandbox",  # as root and in most containers Chromium does not start with it; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--window-size=1400,1000",
    "--remote-debugging-port=0",
    # A page that asks another machine for something gets no answer, with or without a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


ANSWER = 60  # seconds for one command; a busy machine is slow, not broken


class BrowserError(AssertionError):
    """A page did not do what was expected of it; the message ends with what it said last."""


class NotNow(Exception):
    """Chromium refused a command, for example because the page is just being replaced by another."""


def find_chromium():
    """The path of Chromium, Chrome or Edge; where there is none, the test is skipped."""
    chosen = os.environ.get("CHROMIUM")
    if chosen:
        if not shutil.which(chosen):
            raise FileNotFoundError(f"CHROMIUM={chosen}: the path of Chromium's program was expected")
        return chosen
    for name in (*NAMES, *USUAL_PLACES):
        if shutil.which(name):
            return shutil.which(name)
    pytest.skip("no Chromium, Chrome or Edge was found; the variable CHROMIUM may hold the path of one")


def end(process):
    """End a process and all that it started, whatever groups and sessions these are in: first politely."""
    tree = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        tree = [*parent.children(recursive=True), parent]
        parent.terminate()
    _, alive = psutil.wait_procs(tree, timeout=10)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=10)
    process.wait(timeout=10)


@contextlib.contextmanager
def chromium(folder):
    """A page in a new Chromium with an empty profile; pictures of failures go to `folder`."""
    program = find_chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        with open(Path(folder, "chromium.log"), "wb") as log:
            process = subprocess.Popen(
                [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            page = Page(debugger_url(process, profile, log.name), Path(folder))
            try:
                yield page
            finally:
                page.close()
        finally:
            end(process)


def debugger_url(process, profile, log, seconds=30):
    """The address at which Chromium's only tab takes commands."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, IndexError, StopIteration):
            port = Path(profile, "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                targets = json.load(answer)
            return next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        time.sleep(0.1)
    last = Path(log).read_text(errors="replace")[-2000:]
    ended = process.poll()
    when = f"in {seconds} s" if ended is None else f"but ended with status {ended}"
    raise BrowserError(f"Chromium took no connection {when}; its last lines:\n{last}")


class Page:
    """One tab. `console` holds every line it logged, `errors` those that are errors, `requests` every address
    that it asked for."""

    def __init__(self, url, folder):
        self.console, self.errors, self.requests = [], [], []
        self._folder, self._number = folder, 0
        # Chromium refuses commands that seem to come from a web page.
        self._socket = websocket.create_connection(url, timeout=ANSWER, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        self._socket.close()

    def send(self, method, **parameters):
        """One command of the protocol, and its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            try:
                message = json.loads(self._socket.recv())
            except websocket.WebSocketTimeoutException:
                raise BrowserError(
                    f"Chromium did not answer {method} in {ANSWER} s{self._last_lines()}"
                ) from None
            if message.get("id") == self._number:
                if "error" in message:
                    raise NotNow(f"{method}: {message['error']['message']}")
                return message["result"]
            if "method" in message:
                self._note(message["method"], message["params"])

    def _note(self, event, parameters):
        if event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
        elif event == "Runtime.consoleAPICalled":
            texts = [str(a.get("value", a.get("description", ""))) for a in parameters["args"]]
            self._log(parameters["type"], " ".join(texts))
        elif event == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self._log("error", details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded":
            entry = parameters["entry"]
            self._log(entry["level"], f"{entry['text']} {entry.get('url', '')}")

    def _log(self, level, text):
        self.console.append(f"{level}: {text}")
        if level in ("error", "assert"):
            self.errors.append(text)

    def _last_lines(self):
        lines = [line[:500] for line in self.console[-10:]]
        return "\nthe console's last lines:\n" + "\n".join(lines or ["(none)"])

    def fail(self, problem):
        """Raise an error that says `problem`, the console's last lines, and where a picture of the page is."""
        __tracebackhide__ = True
        picture = self._folder / "failure.png"
        with contextlib.suppress(NotNow, BrowserError):
            self.screenshot(picture)
        raise BrowserError(f"{problem}; a picture of the page: {picture}{self._last_lines()}")

    def open(self, url):
        """Go to an address; the page is not yet loaded when this returns."""
        problem = self.send("Page.navigate", url=url).get("errorText")
        if problem:
            self.fail(f"{url} did not open: {problem}")

    def evaluate(self, expression):
        """The value of a JavaScript expression (a promise is waited for); it must be fit for JSON."""
        __tracebackhide__ = True
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self.send("Runtime.evaluate", expression=expression, **options)
        if "exceptionDetails" in answer:
            self.fail(f"{expression} raised {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def wait_for(self, expression, what, seconds=30):
        """Wait until a JavaScript expression is true, and return its value; `what` names it in the error."""
        __tracebackhide__ = True
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(NotNow):
                value = self.evaluate(expression)
                if value:
                    return value
            if time.monotonic() > until:
                self.fail(f"{seconds} s were not enough for {what}")
            time.sleep(0.1)

    def click(self, selector, text="", seconds=30):
        """Click, as a mouse does, on the first element of a CSS selector with this text that nothing covers."""
        __tracebackhide__ = True
        point = f"""(() => {{
            for (const element of document.querySelectorAll({json.dumps(selector)})) {{
                const box = element.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const text = {json.dumps(text)};
                if ((!text || element.textContent.trim() === text)
                    && element.contains(document.elementFromPoint(x, y))) return [x, y];
            }}
        }})()"""
        x, y = self.wait_for(point, f"{selector} {text!r} to click on", seconds)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for event in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        """A picture (PNG) of what can be seen of the page."""
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
