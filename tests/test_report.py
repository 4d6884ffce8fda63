"""The report of an audit: what the page shows is what was measured, strangers' words stay text, and the schema means it."""

import base64
import functools
import html
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from advlib.auditing import AuditReport, Outcome, _png
from advlib.diagnostics import Flag
from advlib.report import SCHEMA, check, render

VOID = {"meta", "img", "br", "rect", "path", "use", "link", "input", "hr"}
RED = Flag("red", "zero gradients", "12 of 40 images", "attacks are blind", "use BPDA", "Pintor et al. 2022")
AMBER = Flag("amber", "few images", "40 images", "a wide interval", "use at least 1,000")
GREEN = Flag("green", "random output", "the same twice", "nothing is random", "nothing")


def make(n=40, classes=4, norm="linf", eps=0.1, shape=(8, 8, 1), flags=(RED, AMBER, GREEN), seed=0, **change):
    """An AuditReport as `audit` makes it, of seeded random numbers: one attack, and a suite of two, cumulative."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    prediction = np.where(rng.uniform(size=n) < 0.1, (y + 1) % classes, y)
    about = {
        "PGD-40": {"function": "pgd", "knows": "gradient", "group": None, "parameters": {"eps": eps, "steps": 40, "seed": 0}},
        "APGD-CE": {"function": "apgd", "knows": "gradient", "group": "AutoAttack", "parameters": {"eps": eps, "loss": "ce"}},
        "+ Square": {"function": "square", "knows": "scores", "group": "AutoAttack", "parameters": {"steps": 5000}},
    }  # fmt: skip
    outcomes, before = {}, np.zeros(n, bool)
    for i, name in enumerate(about):
        broken = rng.uniform(size=n) < 0.3
        broken, before = (broken | before, broken) if i else (broken, before)
        after = np.where(broken, (y + 2) % classes, prediction)
        outcomes[name] = Outcome(after, rng.uniform(0.2, 1, n) * eps, np.ones(n, bool), 1.5 * (i + 1), None)
    report = AuditReport(
        norm, eps, y, prediction, classes, "ab" * 32, outcomes, list(flags),
        settings={"preset": "standard", "seed": 0, "batch_size": 128, "limit": None, "random": False, "attacks": about},
        model={"name": "net", "source": None, "sha256": "cd" * 32, "parameters": 12345, "notes": []},
        data={"source": "test.npz", "label_names": None, "n": n, "shape": list(shape), "sha256": "ab" * 32},
        versions={"advlib": "0.1.0", "python": "3.12.1", "numpy": "2.1.0"}, started="2026-01-31T12:00:00+00:00", seconds=75.0,
    )  # fmt: skip
    for e, k in ((0.0, 38), (eps / 2, 30), (eps, 20), (2 * eps, 0)):
        report.curve.append(
            {"eps": e, "correct": k, "n": 40, "low": max(0, k - 5) / 40, "high": min(40, k + 5) / 40}
        )
    sizes = report.sizes()
    for i in np.argsort(sizes)[: min(6, np.isfinite(sizes).sum())]:
        x = rng.uniform(size=shape).astype(np.float32)
        delta = rng.choice([-1, 1], shape) * eps / 2
        pictures = {"x": _png(x), "x_adv": _png(x + delta), "delta": _png(0.5 + delta / eps)}
        seen = {"label": int(y[i]), "prediction": int((y[i] + 2) % classes), "size": float(sizes[i])}
        report.least.append({"index": int(i), "attack": "PGD-40", **seen, **pictures})
    for name, value in change.items():
        setattr(report, name, value)
    return report


@functools.cache
def written():
    return make().to_json()


class Reader(HTMLParser):
    """What a page is made of; fails for tags that are not closed in their order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words, self.tables = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or ("th" in self.open):
            self.tables[-1][-1][-1] += data.replace("\u00a0", " ")

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report():
    return make()


@pytest.fixture(scope="module")
def page(report):
    return Reader(render(report))


# --- what it shows


def test_every_number_of_the_table_of_attacks(report, page):
    rows = {row[0]: row[1:] for row in page.tables[0] if len(row) > 1}
    table = report.table()
    assert list(rows) == ["Attack", *table.index]
    for name, row in table.iterrows():
        accuracy, ends, broken, success, median, *_ = rows[name]
        assert accuracy == f"{row['accuracy %']:.1f} %"
        assert ends == f"{row['low %']:.1f} – {row['high %']:.1f} %"
        if name != "clean":
            assert broken == str(row["broken"])
            assert success == f"{row['success %']:.1f} %"
            assert median == f"{row['median size']:.3g}"
    assert rows["PGD-40"][5:] == ["1.5 s", "gradients", "pgd(steps=40)"]
    assert rows["+ Square"][5:] == ["4.5 s", "scores", "square(steps=5000)"]
    suite = [row[0] for row in page.tables[0]].index
    title = next(row[0] for row in page.tables[0] if len(row) == 1)
    assert title.startswith("AutoAttack, cumulative")
    assert suite("PGD-40") < suite(title) < suite("APGD-CE")


def test_every_class_and_the_curve(report, page):
    curve, classes = page.tables[1], page.tables[2]
    assert [row[1] for row in curve[1:]] == ["38 of 40", "30 of 40", "20 of 40", "0 of 40"]
    for row, (label, right) in zip(classes[1:], report.per_class().iterrows(), strict=True):
        assert row[0] == str(label)
        assert row[2] == f"{right['robust %']:.1f} %" and row[4] == f"{right['clean %']:.1f} %"
        assert row[5] == f"{right['of']:.0f}"


def test_verdict(report, page):
    low, high = report.interval()
    said = f"at most {100 * report.robust_accuracy:.1f} % ({100 * low:.1f} % to {100 * high:.1f} %)"
    assert said in page.text
    assert "Do not believe the robust accuracy: 1 red flag, “zero gradients”" in page.text


def test_broken_is_counted_of_the_images_that_are_right_without_attack():
    report = make()
    report.prediction = np.where(np.arange(40) < 30, report.y, (report.y + 1) % 4)
    assert "Broken: of the 30 images that are right without attack." in Reader(render(report)).text


@pytest.mark.parametrize(
    ("flags", "said", "colour"),
    [
        ([GREEN, AMBER], "Believe it with care: no check is red, but 1 is amber, “few images”", "amber"),
        ([GREEN], "Nothing was found that speaks against these numbers", "green"),
        ([], "No check was made of whether", "none"),
        ([AMBER, RED, RED], "2 red flags, “zero gradients”, say why", "red"),
        ([RED, *(replace(RED, name=n) for n in "ab")], "3 red flags, “zero gradients”, “a” and “b”, say why", "red"),
    ],
)  # fmt: skip
def test_the_worst_flag_is_the_verdict(flags, said, colour):
    page = Reader(render(make(flags=flags)))
    assert said in page.text
    assert [a["class"] for a in page.all("section") if "class" in a] == [f"verdict {colour}"]


def test_flags_red_first_each_with_its_four_parts(page):
    shown = [a["class"] for a in page.all("article")]
    assert shown == ["flag red", "flag amber"]
    for flag in (RED, AMBER):
        for part in (flag.seen, flag.meaning, flag.do, flag.source):
            assert part in page.text
    assert page.text.count("✕ Red flag") >= 1 and "▲ Amber flag" in page.text  # no colour without its word


def test_hashes_parameters_and_how_to_repeat(report, page):
    for said in (
        "ab" * 32,
        "cd" * 32,
        "apgd(eps=0.1, loss='ce')",
        "12,345 parameters",
        "numpy 2.1.0",
        "2026-01-31T12:00:00",
    ):
        assert said in page.text
    call = re.search(r"advlib\.audit\(model, x, y, (.*?)\)", page.text)[1]
    assert eval(f"dict({call})") == {
        "norm": "linf", "eps": 0.1, "preset": "standard", "limit": None, "seed": 0, "batch_size": 128
    }  # fmt: skip
    command = shlex.join(["advlib", "audit", "a <model>.keras", "--eps", "0.1"])
    settings = report.settings | {"command": command}
    assert command in Reader(render(make(settings=settings))).text


def test_label_names_stand_for_numbers():
    report = make(data=make().data | {"label_names": ["T-shirt", "Trouser", "Coat", "Bag"]})
    page = Reader(render(report))
    assert [row[0] for row in page.tables[2][1:]] == ["T-shirt", "Trouser", "Coat", "Bag"]
    assert any(alt.endswith(": Coat") for alt in (a["alt"] for a in page.all("img")))


# --- one file, for everybody


def test_it_asks_nobody_for_anything(report, page):
    text = render(report)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert value.startswith(("data:image/png;base64,", "#")), f"{tag} {name}={value[:40]}"
    assert "@import" not in text
    assert all(address.startswith(("#", '"#')) for address in re.findall(r"url\(([^)]*)\)", text))


def test_same_report_same_bytes_in_any_style(report):
    first = render(report)
    with matplotlib.rc_context({"axes.facecolor": "black", "svg.fonttype": "path", "font.size": 30}):
        assert render(report) == first
    assert render(AuditReport.from_json(report.to_json())) == first


def test_it_can_be_read_aloud(page):
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    assert len(page.all("img")) == 18
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = [a["href"][1:] for a in page.all("a")] + [
        a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a
    ]
    assert asked and set(asked) <= set(ids)
    drawing = next(a for a in page.all("svg") if a.get("role") == "img")
    assert "95.0 % at ε = 0" in drawing["aria-label"]


def strange(text):
    """A report in which every word that may come from elsewhere is `text`."""
    report = make(classes=2)
    report.flags = [Flag(colour, *[text] * 5) for colour in ("red", "amber", "green")]
    report.settings["command"] = text
    report.settings["attacks"] = {
        text: {"function": text, "knows": "scores", "group": text, "parameters": {text: 1}}
    }
    report.outcomes = {text: report.outcomes["PGD-40"]}
    report.model = {"name": text, "source": text, "sha256": text, "parameters": 1, "notes": [text]}
    report.data |= {"source": text, "label_names": [text, text]}
    report.versions, report.started = {text: text}, text
    for shown in report.least:
        shown["attack"] = text
    return report


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "\"' onload='alert(1)", "{{ 7 * 7 }} of eleven",
        "$x_$ & ]]> --> \\frac",
    ],
)  # fmt: skip
def test_strangers_words_stay_text(text):
    shown = render(strange(text))
    page = Reader(shown)  # fails where a tag is open that should not be
    plain = Reader(render(strange("words of a friend")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(a) for _, a in page.tags] == [sorted(a) for _, a in plain.tags]
    assert page.text.count(text) == plain.text.count("words of a friend") > 25


def test_a_name_that_is_no_utf8(tmp_path):
    report = make(data=make().data | {"label_names": ["caf\udce9", "b", "c", "d"]})
    (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "address", ["https://example.org/x.png", "data:image/svg+xml;base64,PHN2Zz4=", "", "javascript:1"]
)
def test_a_picture_from_elsewhere_is_refused(address):
    report = make()
    report.least[2]["delta"] = address
    with pytest.raises(
        ValueError, match=r"picture 'delta' of image \d+ begins with .* a PNG in a data URI was expected"
    ):
        render(report)


def test_another_object_is_refused():
    with pytest.raises(TypeError, match=r"an AuditReport was expected, for example advlib\.audit"):
        render({"format": "advlib audit"})


# --- the ends of the range


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 2},
        {"classes": 100, "n": 300, "shape": (32, 32, 3)},
        {"norm": "l2", "eps": 1.0},
        {"norm": "l1", "eps": 8.0, "shape": (224, 300, 3)},
        {"n": 1, "classes": 2},
        {"n": 12000},
        {"curve": [], "least": [], "flags": ()},
        {"outcomes": {}},
    ],
    ids=str,
)
def test_every_kind_of_report_renders(change):
    report = make(**change)
    page = Reader(render(report))
    assert f"{report.n:,} image" in page.text
    assert "nan" not in page.text.lower().replace("adversarial", "")
    assert len(page.tables[-3 if report.flags else -1]) >= 1


def test_no_image_right_and_no_answer():
    report = make()
    report.prediction = np.where(np.arange(40) % 2, -1, (report.y + 1) % 4)
    for outcome in report.outcomes.values():
        outcome.prediction = report.prediction
    report.least = []
    text = Reader(render(report)).text
    assert text.count("none correct") == 4 and "No image was broken." in text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (75.04, "75.0 s"), (252, "4 min 12 s"), (7440, "2 h 04 min")]
)
def test_running_time(seconds, said):
    assert f"Running time {said}" in Reader(render(make(seconds=seconds))).text


# --- the schema


def test_the_schema_is_one_and_explains_every_field():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema") and "/" not in SCHEMA["$id"]

    def fields(here):
        for key, value in here.items() if isinstance(here, dict) else enumerate(here):
            if key == "properties":
                yield from value.items()
            if isinstance(value, dict | list):
                yield from fields(value)

    found = list(fields(SCHEMA))
    assert len(found) > 60
    for name, field in found:
        assert len(field.get("description", "")) > 10, name
        for example in field.get("examples", ()):
            validator = jsonschema.Draft202012Validator({**field, "$defs": SCHEMA["$defs"]})
            assert validator.is_valid(example), name


@pytest.mark.parametrize(
    "change", [{}, {"classes": 2, "norm": "l2"}, {"curve": [], "least": [], "flags": ()}, {"outcomes": {}}]
)
def test_what_a_report_writes_is_what_the_schema_asks(change):
    report = make(**change)
    if not report.outcomes:
        report.settings["attacks"] = {}
    check(json.loads(report.to_json()))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "advlib report", r"at \$\.format"),
        ("version", 2, r"at \$\.version.*version of this format"),
        ("norm", "l0", r"at \$\.norm.*the norm in which.*for example \"linf\""),
        ("eps", 0, r"at \$\.eps.*the largest size allowed, in pixel units"),
        ("eps", "8/255", r"at \$\.eps"),
        ("y", [0.5] * 40, r"at \$\.y\[\d+\]"),
        ("y", [0] * 39, r"y has 39 entries: n, 40"),
        ("clean.prediction", [-2] * 40, r"\$\.clean\.prediction\[\d+\].*predicted class of each image"),
        ("fingerprint", "AB" * 32, r"\$\.fingerprint"),
        ("attacks.PGD-40.size", [-0.1] * 40, r"size of each perturbation"),
        ("attacks.PGD-40.feasible", [True] * 41, r"attacks\.PGD-40\.feasible has 41 entries"),
        ("attacks.PGD-40.seconds", None, r"running time of the attack, in seconds"),
        ("attacks.clean", {}, r"\$\.attacks"),
        ("summary.PGD-40.low", 1.5, r"low end of its 95 % interval"),
        ("summary.PGD-40.more", 1, r"Additional properties"),
        (
            "summary.other",
            {"correct": 1, "of": 40, "accuracy": 0, "low": 0, "high": 0, "broken": 1, "of_correct": 1},
            "summary",
        ),
        ("flags", [{"colour": "blue"}], r"\$\.flags\[0\]"),
        ("settings.attacks.PGD-40.knows", "all", r"what of the model the attack uses"),
        ("settings.attacks", {}, r"settings\.attacks has \[\]"),
        ("model.sha256", "none", r"\$\.model\.sha256"),
        ("data.shape", [28, 28], r"height, width and channels"),
        ("started", "yesterday", r"ISO 8601.*for example \"2026"),
        ("least", [{}], r"\$\.least\[0\]"),
        ("more", 1, r"Additional properties"),
    ],
)
def test_what_the_schema_refuses(path, value, message):
    pytest.importorskip("jsonschema")
    about = json.loads(written())
    *way, last = path.split(".")
    here = about
    for step in way:
        here = here[step]
    here[last] = value
    with pytest.raises(ValueError, match=f"(?s)this is no report.json of an audit: .*{message}"):
        check(about)


@pytest.mark.parametrize("name", list(SCHEMA["required"]))
def test_no_field_may_be_missing(name):
    pytest.importorskip("jsonschema")
    about = json.loads(written())
    del about[name]
    with pytest.raises(ValueError, match=f"'{name}' is a required property"):
        check(about)


def test_pictures_are_png(report):
    for shown in report.least:
        for key in ("x", "x_adv", "delta"):
            assert base64.b64decode(shown[key].split(",")[1]).startswith(b"\x89PNG")
            assert html.escape(shown[key]) == shown[key]
