"""Equality with other libraries, on the shipped checkpoints. `python3 course.py test --peers` makes an environment with all
of them; where one is absent, its tests skip. What a run measures goes, with its date, into figures.json beside this file."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
from other_libraries import DISTRIBUTION, missing, version

from advlib import data, models

measured = {}
FIGURES = Path(__file__).with_name("figures.json")
NETS = ("mnist-cnn", "mnist-cnn-pgd")


@pytest.fixture(scope="session")
def nets():
    return {name: models.load(name) for name in NETS}


@pytest.fixture(params=NETS)
def name(request):
    return request.param


@pytest.fixture
def net(name, nets):
    return nets[name]


@pytest.fixture(scope="session")
def right(nets):
    """(name, n) → the first n test images that this checkpoint gets right: advlib leaves the others alone."""
    x, y = data.load("mnist")[2:]
    x, y = x[:1000], y[:1000]
    found = {
        name: np.flatnonzero(models.predict_logits(net, x).argmax(axis=1) == y) for name, net in nets.items()
    }
    return lambda name, n: (x[found[name][:n]], y[found[name][:n]])


@pytest.fixture
def need():
    """need("foolbox", ...): skips the test, with the reason, where one of these libraries is absent."""

    def check(*names):
        for name in names:
            if reason := missing(name):
                pytest.skip(reason)

    return check


@pytest.fixture(scope="session")
def record():
    """record(what, **figures): keep figures for figures.json and for the end of the run."""
    return lambda what, **figures: measured.update({what: figures})


def pytest_terminal_summary(terminalreporter):
    if not measured:
        return
    today = datetime.date.today().isoformat()
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    known["versions"] = {name: version(name) for name in DISTRIBUTION if not missing(name)}
    terminalreporter.section(f"measured, and stored in {FIGURES.name}")
    for what, figures in measured.items():
        known[what] = {"date": today, **figures}
        terminalreporter.write_line(f"{what}: {json.dumps(figures)}")
    lines = [f" {json.dumps(what)}: {json.dumps(known[what], ensure_ascii=False)}" for what in sorted(known)]
    FIGURES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
