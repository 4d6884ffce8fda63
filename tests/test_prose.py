"""A number in prose comes from somewhere: a cell beside it, a published source in the bibliography, or a stored measurement.

In a lesson, a number that could be measured (see `risky`) stands in a code cell of its section or beside it, in source or
output (a setting, such as "ε = 0.1", in any code of the lesson), or in DERIVED, which computes it, or in the field `quoted`
of a source in site/references.bib that the cell names. On the other pages each such number is part of a sentence in LINKS,
written out with the value as it is now; what nothing stores is listed in NOT_STORED with who measured it.

Not looked at: whole numbers below 100 without a unit, numbers in words, in formulas and in code, the tasks under a lesson's
"Exercises", and made-up reports. A wrong number that stands by chance near its sentence passes; the last test says how often.
"""

import json
import math
import random
import re
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
EXERCISES = {path.name[:2]: path for path in sorted((ROOT / "teaching" / "exercises").glob("[0-9]*.ipynb"))}
if not EXERCISES:
    pytest.skip("a student's copy has no teacher's guide", allow_module_level=True)

# ---- numbers in a text

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
UNIT = r"\s*(?:%|percent|per cent|points?\b|times\b|×|of (?:the )?\d|seconds?\b|s\b|minutes?\b|hours?\b|h\b|[MG]B\b)"
ANOTHER = rf"(?:,? (?:to|and|or|of) (?:{NUMBER})|, (?:{NUMBER}))*"
SETTING = re.compile(r"(?:[εσαγμδβη]|\b[nTk]) [=≈<>≤≥] $|\[[\d.]+, $|\[$")  # ε = 0.1, [0.3, 0.7]
ABOUT = re.compile(r"(?:about|some|nearly|almost|around|roughly|over|≈)\s+$", re.I)
MARKUP = {
    r"```.*?```": " ",
    r"\]\([^)\s]*\)": "]",
    r"``[^`]*``|`[^`]*`": "` ",
    r"\$\$.*?\$\$": "$ ",
    r"\$[^$\n]+\$": "$ ",
    r"<[^>\n]+>": " ",
}
# What has digits and is no measurement, recognised by its form.
FORMS = (
    r"\barXiv \d{4}\.\d{4,5}|\b\d{4}\.\d{4,5}\b",  # the book's test compares these with the bibliography
    r"§+\s*[\d.]+|§§ .*? StGB|\bISO/IEC \d+|\b\d{4}/\d+(?:/EU)?|\bACM(?:'s)? Code of.*?(?:says|2\.8)|\bACM's Code, .*?\b2\.5",
    r"\b(?:1[89]|20)\d\d[a-z]?\b(?!\s*(?:%|of|images|MB))",  # a year
    r"\b(?:lesson|exercise|table|algorithm|article|paragraph|theorem)s?\s+\d[\d.]*(?:(?:,\s|\sand\s|\sto\s)\d[\d.]*)*",
    r"\d+:\d+(?:–\d+)?|\d+\(\d+\), [\d–]+|\b\d+, \d{3}–\d{3}",  # volume and pages
    r"\b[A-Za-z]+-\d+(?:×\d+)?\b|\b784-128-10\b|\bL[012]\b|\b2\^20\b|\b32-bit\b",  # PGD-40, CIFAR-10, a shape
    r"\b\d+ × \d+\b(?! steps)|\(\d+, ?(?:\d+)?\)|\b10000 × 10000\b",  # sizes and shapes
    r"\bCC BY(?:-SA)? \d\.\d|\b\d+/255\b",
    r"^\s*\d+\. |^\*\*\d+\.",  # the number of an item
    r"(?<![\d.])0\d(?:\.\d)?\b(?!\s*%)",  # a lesson, an exercise
)
FORM = re.compile("|".join(FORMS), re.M | re.I)


class Found(NamedTuple):
    text: str
    about: bool  # "some 2,400": rounded as far as its zeros go
    percent: bool
    setting: bool
    place: str  # with what stands around it, for the message

    @property
    def value(self):
        return Decimal(self.text.replace(",", ""))

    def is_like(self, seen):
        """Whether one of the numbers seen, rounded as this one is, gives it."""
        digits = self.text.replace(",", "")
        unit = Decimal(1).scaleb(-len(digits.partition(".")[2]))
        if self.about and "." not in digits:
            unit = Decimal(10) ** (len(digits) - len(digits.rstrip("0")))
        elif "." not in digits and self.value >= 100:
            return self.value in seen  # a count
        low, high = self.value - unit / 2, self.value + unit / 2
        return any(low <= number <= high for number in seen) or (
            self.percent and any(low / 100 <= number <= high / 100 for number in seen)
        )


def without_markup(text):
    for pattern, instead in MARKUP.items():
        text = re.sub(pattern, instead, text, flags=re.S)
    return text


def risky(text):
    """The numbers of a text that could be measured: decimals, from 100 on, percentages, ratios, durations, "k of n"."""
    text = FORM.sub(lambda match: " " * len(match[0]), without_markup(text))
    for match in re.finditer(rf"(?<![\w.,/^-])(?:{NUMBER})(?![\w/])(?!\.\d)", text):
        before, after = text[: match.start()], text[match.end() :]
        unit = re.match(ANOTHER + UNIT, after)
        percent = bool(re.match(ANOTHER + r"\s*(?:%|per ?cent|points)", after))
        if "." in match[0] or unit or Decimal(match[0].replace(",", "")) >= 100:
            place = " ".join(f"{before[-60:]}[{match[0]}]{after[:40]}".split())
            yield Found(match[0], bool(ABOUT.search(before)), percent, bool(SETTING.search(before)), place)


def all_numbers(text):
    """Every number of a code cell or its output, and the shares of "k of n"."""
    text = re.sub(r"(?<=\d)_(?=\d)", "", text)
    plain = re.findall(rf"(?<![\w.])(?:{NUMBER})(?:e[-+]?\d+)?(?![\w])", text)
    plain += re.findall(r"(?<![\w.])\d*\.?\d+(?:e[-+]?\d+)?", text)  # "[3,117]" is two numbers, or one
    seen = {Decimal(number.replace(",", "")) for number in plain}
    for part, whole in re.findall(rf"({NUMBER}) of ({NUMBER})", text):
        part, whole = (Decimal(n.replace(",", "")) for n in (part, whole))
        seen |= {part / whole} if whole else set()
    return seen


# ---- notebooks


@cache
def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def printed(cell):
    """The texts of a cell's outputs, no pictures."""
    texts = []
    for output in cell.get("outputs", []):
        texts.append("".join(output.get("text", [])))
        texts += ["".join(t) for kind, t in output.get("data", {}).items() if kind == "text/plain"]
    return "\n".join(texts)


class Piece(NamedTuple):
    """The prose of one cell that belongs to one section."""

    section: str
    cell: dict
    text: str
    near: list  # the code cells of its section, and those just before and after


def pieces(path):
    """The prose of a notebook by section; `Recap` has every code cell near it."""
    parts, section = [], "opening"
    for i, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            parts.append((section, i, None))
            continue
        for text in re.split(r"^(?=## )", source(cell), flags=re.M):
            heading = re.match(r"## (.+)", text)
            section = heading[1].strip() if heading else section
            parts.append((section, i, text))
    code = [i for _, i, text in parts if text is None]
    for section, i, text in parts:
        if text is None:
            continue
        near = {n for s, n, t in parts if t is None and (s == section or section == "Recap")}
        near |= set([n for n in code if n < i][-1:] + [n for n in code if n > i][:1])
        yield Piece(section, cells(path)[i], text, [cells(path)[n] for n in sorted(near)])


@cache
def dimensions():
    """Sizes that every lesson may name: images, pixels, greys, the split, the networks' weights."""
    mnist = np.load(ROOT / "advlib" / "datasets" / "mnist.npz")["y_test"]
    card = json.loads((ROOT / "advlib" / "checkpoints" / "mnist-mlp.json").read_text(encoding="utf-8"))
    sizes = [len(mnist), 28 * 28, 2**8, 2**8 - 1]  # and the greys of a byte
    sizes += [
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:training images|of the)", card["data"])
    ]
    sizes.append(sum(sizes[-2:]))
    for name in ("mnist-mlp", "mnist-cnn"):
        weights = np.load(ROOT / "advlib" / "checkpoints" / f"{name}.npz")
        sizes.append(sum(weights[part].size for part in weights.files))
        sizes.append(weights["01"].size)  # the units of the first layer
    assert {60_000, 58_000, 2_000, 10_000, 784, 101_770, 166_406} <= set(sizes)
    return {Decimal(n) for n in sizes}


def constant(where, pattern):
    """What a lesson's code, or a file of the repository, says: the group of a pattern that stands there once or more."""
    text = (
        "\n".join(source(c) for c in cells(LESSONS[where]) if c["cell_type"] == "code")
        if where in LESSONS
        else file(where)
    )
    found = set(re.findall(pattern, text))
    assert len(found) == 1, f"{pattern!r} finds {sorted(found)} in {where}: one thing was expected"
    return found.pop()


def line_of(lesson, pattern):
    """The group of a pattern in what a lesson prints."""
    text = "\n".join(printed(c) for c in cells(LESSONS[lesson]) if c["cell_type"] == "code")
    found = set(re.findall(pattern, text))
    assert len(found) == 1, (
        f"{pattern!r} finds {sorted(found)} in the outputs of lesson {lesson}: one thing was expected"
    )
    return found.pop()


def card(name):
    return json.loads((ROOT / "advlib" / "checkpoints" / f"{name}.json").read_text(encoding="utf-8"))


def default_steps(attack):
    return constant(f"advlib/attacks/{attack}.py", r"(?m)^    model, x, y, \*, .*?steps=(\d+)")


def grid():
    """Points of lesson 12's grid of turns and shifts."""
    numbers = constant("12", r"angles, shifts = range\((-?\d+), (\d+), (\d+)\), range\((-?\d+), (\d+)\)")
    first, last, step, left, right = map(int, numbers)
    return len(range(first, last, step)) * len(range(left, right)) ** 2


def two_pixels():
    """Where lesson 11's two pixels may be, from its own point and budget."""
    x = map(float, re.search(r"\$x = \(([\d.]+),\\ ([\d.]+)\)\$, and a network", prose("11")).groups())
    eps = float(re.search(r"budget is ε = ([\d.]+), so", prose("11"))[1])
    return tuple(f"{pixel + sign * eps:g}" for pixel in x for sign in (-1, 1))


def around_half(eps):
    """From where a pixel can be carried across 0.5."""
    return f"{0.5 - eps:g}", f"{0.5 + eps:g}"


def within(eps):
    return f"{eps:g}", f"{1 - eps:g}"


def comma(n):
    return f"{int(n):,}"


CONFIDENCE = ("advlib/robustness.py", r"def interval\(.*confidence=0\.(\d\d)\)")
MEASURED = card("mnist-mlp")["measured"]
FLOAT = [digits * math.log(2) for digits in (25, 126, 150)]  # leads at which parts of a float32 gradient end

# Numbers that a sentence takes from code further away, or works out: (lesson, the sentence, the values that stand in it).
DERIVED = [
    ("00", "or within {} % where", lambda: digits(tolerance_of("≈ 5", "≈ 6"))),
    (
        "01",
        'What does "{} % accurate" mean?',
        lambda: round(100 * MEASURED["clean"] / MEASURED["test_images"]),
    ),
    (
        "02",
        "stays at {} or below and white at {} or above",
        lambda: within(float(constant("02", r"xs, ys, eps=([\d.]+), draws=1000"))),
    ),
    (
        "03",
        "counts the images still right, of {}, for both",
        lambda: comma(constant("03", r"subset\(x_test, y_test, (\d+)\)")),
    ),
    (
        "04",
        "takes {} steps of {} ε/{}",
        lambda: (
            default_steps("pgd"),
            constant("advlib/attacks/pgd.py", r"ball\.step\(([\d.]+) \* eps"),
            default_steps("pgd"),
        ),
    ),
    ("04", "the check asks for {} of 100", lambda: constant("04", r"same\.mean\(\) >= 0\.(\d\d)")),
    (
        "04",
        "squeezed into [0.3, {}]",
        lambda: sum(map(float, constant("04", r"grey = ([\d.]+) \+ ([\d.]+) \* x"))),
    ),
    ("04", "or move all {} by {} (", lambda: (28**2, f"{2 / 28:.2f}")),
    (
        "05",
        "stays at or below {}, white at or above {}",
        lambda: within(float(constant("05", r"evaluate\(net, x, y, attacks, norm=\"linf\", eps=([\d.]+)\)"))),
    ),
    ("05", "for this attack, on {} images", lambda: constant("04", r"a share of 90 % of (\d+)")),
    ("06", "over the {} steps (advlib's default", lambda: default_steps("ddn")),
    (
        "06",
        "α from 1 to {}, γ from {} to {}.",
        lambda: (
            1 / int(constant("advlib/attacks/fmn.py", r"step_size / (\d+)")),
            constant("advlib/attacks/fmn.py", r" gamma=([\d.]+), start"),
            constant("advlib/attacks/fmn.py", r"min\(gamma, ([\d.]+)\)"),
        ),
    ),
    (
        "06",
        "DDN and FMN with {}, FAB with {}, C&W",
        lambda: (default_steps("ddn"), constant("06", r"fab = partial\(attacks\.fab, steps=(\d+)\)")),
    ),
    (
        "06",
        "every pixel {}: at most {} away",
        lambda: (constant("06", r"np\.full\(\(1, 28, 28, 1\), ([\d.]+)"),) * 2,
    ),
    (
        "06",
        "L∞ distance above {}, and",
        lambda: constant("06", r"needless = \(\(d_linf\[\"PGD-trained\"\] > ([\d.]+)\)"),
    ),
    (
        "07",
        "| {} × {} steps |",
        lambda: constant(
            "advlib/attacks/autoattack.py", r"STEPS, TARGETS, QUERIES, EOT_SAMPLES = (\d+), (\d+),"
        )[::-1],
    ),
    (
        "07",
        "| {} steps |",
        lambda: constant("advlib/attacks/autoattack.py", r"STEPS, TARGETS, QUERIES, EOT_SAMPLES = (\d+),"),
    ),
    (
        "07",
        "no gradient at all | {} questions |",
        lambda: comma(
            constant(
                "advlib/attacks/autoattack.py", r"STEPS, TARGETS, QUERIES, EOT_SAMPLES = \d+, \d+, (\d+),"
            )
        ),
    ),
    ("07", "about {} questions for a single step", lambda: comma(round(2 * 784, -2))),
    ("08", "their n and {} % interval", lambda: constant(*CONFIDENCE)),
    ("08", "a single one is over {} %", lambda: math.floor(100 / 30)),
    ("08", "the value is y − {} whatever", lambda: 1 / 10),
    ("08", "for y = 0 it is {} (", lambda: 1 / 10),
    ("08", "MNIST has σ = {}", lambda: constant("advlib/models.py", r"MEAN, STD = [\d.]+, ([\d.]+)")),
    ("09", "Between {} and {} the gradient", lambda: (f"{FLOAT[0]:.1f}", f"{FLOAT[1]:.1f}")),
    ("09", "passes {} to {}.", lambda: (f"{FLOAT[1]:.0f}", f"{FLOAT[2]:.0f}")),
    ("09", "a lead of {} to {} is", lambda: (f"{FLOAT[1] / 10:.1f}", f"{FLOAT[2] / 10:.1f}")),
    ("09", "1/15 ≈ {} apart", lambda: f"{1 / 15:.3f}"),
    ("10", "as 2η = {} <", lambda: 2 * float(constant("10", r"ETA, R, WEAK = ([\d.]+)"))),
    ("10", "lies between {} and {}. All", lambda: around_half(float(constant("10", r"EPS = ([\d.]+)")))),
    (
        "11",
        "a {} % interval up to {} points wide",
        lambda: (constant(*CONFIDENCE), f"{200 * wilson_half_width(200):.0f}"),
    ),
    ("11", "lies between {} and {}, $x_2$ between {} and {}.", two_pixels),
    ("11", "trained up to ε = {}, a tenth above", lambda: card("mnist-cnn-ibp")["recipe"]["train_eps"]),
    ("11", "0.616 gives {}", lambda: f"{0.616 / 28:.3f}"),
    ("12", "turns and shifts: {} answers", grid),
    ("12", "in both directions, {} points", grid),
    ("12", "chooses from a grid | {} points", grid),
    (
        "12",
        "measure on our {} test images",
        lambda: constant("12", r"(?m)^x, y = data\.subset\(x_test, y_test, (\d+)\)"),
    ),
    ("13", "takes the first {} test images", lambda: re.search(r"--limit (\d+)", prose("13"))[1]),
    ("13", "robust accuracy is below {}.", lambda: re.search(r"--fail-under ([\d.]+)`", prose("13"))[1]),
]


def tolerance_of(stored, got):
    """The tolerance of `≈` in words, as the plugin gives it."""
    from advlib.nbplugin import differences

    (difference,) = differences(stored, got)
    return difference.tolerance


def wilson_half_width(n):
    """Half the width of the 95 % interval of n/2 of n, the widest."""
    z = NormalDist().inv_cdf(0.975)
    return z / math.sqrt(n) / 2 / math.sqrt(1 + z * z / n)


@cache
def prose(number):
    return "\n\n".join(source(c) for c in cells(LESSONS[number]) if c["cell_type"] == "markdown")


def filled(sentence, values):
    """A sentence with its values, as a pattern that does not mind where lines break."""
    values = values if isinstance(values, tuple) else (values,)
    return re.compile(re.escape(sentence.format(*values)).replace(r"\ ", r"\s+"))


@cache
def derived(number):
    return [(sentence, filled(sentence, value())) for lesson, sentence, value in DERIVED if lesson == number]


def without_derived(number, text):
    for _, pattern in derived(number):
        text = pattern.sub(" … ", text)
    return text


@pytest.mark.parametrize("number", LESSONS)
def test_numbers_worked_out_in_a_sentence(number):
    for _, pattern in derived(number):
        assert pattern.search(prose(number)), f"lesson {number}: {pattern.pattern} was expected"


# ---- published numbers


class Source(NamedTuple):
    key: str
    names: tuple  # by which a cell may name it: first author, repository
    listed: str  # arXiv number or repository, as in a lesson's Sources
    quoted: dict  # lesson → numbers


@cache
def bibliography():
    found = {}
    text = (ROOT / "site" / "references.bib").read_text(encoding="utf-8")
    for key, body in re.findall(r"^@\w+\{(\w+),\n((?:[ \t].*\n)+)\}", text, re.M):
        fields = dict(re.findall(r"^  (\w+) = \{(.*?)\},$", body, re.M | re.S))
        repository = re.search(r"Repository ([^,]+)", fields.get("howpublished", "").replace("\\", ""))
        author = re.sub(r"[{}]", "", fields["author"]).split(",")[0].split(" and ")[0]
        names = (repository[1], repository[1].split("/")[1]) if repository else (author,)
        quoted = re.findall(r"(\d\d): ([^;]+)", fields.get("quoted", ""))
        numbers = {lesson: tuple(values.split()) for lesson, values in quoted}
        found[key] = Source(key, names, fields.get("eprint") or names[0], numbers)
    assert len(found) > 70
    return found


@cache
def quoted_here(number, text):
    """The published numbers that a cell may use: those of the sources that it names."""
    named = [s for s in bibliography().values() if any(name in text for name in s.names)]
    return {value for s in named for value in s.quoted.get(number, ())}


def test_every_quoted_number_stands_beside_its_source():
    """And the source is in the lesson's own list, under the number or the repository that leads to its key."""
    assert sum(len(v) for s in bibliography().values() for v in s.quoted.values()) > 50
    for entry in bibliography().values():
        for number, values in entry.quoted.items():
            everything = "\n".join(source(c) for c in cells(LESSONS[number]))
            sources = everything.rpartition("## Sources")[2]
            assert entry.listed in sources, (
                f"lesson {number}: {entry.key} ({entry.listed}) is not among its sources"
            )
            beside = "\n".join(
                source(c)
                for c in cells(LESSONS[number])
                if any(name in source(c) for name in entry.names) or "see Sources" in source(c)
            )
            stands = re.findall(
                rf"(?<![\w.,])(?:{NUMBER})(?![\w])(?!\.\d)", beside.partition("## Sources")[0]
            )
            gone = [value for value in values if value not in stands]
            assert not gone, f"lesson {number}: {gone} of {entry.key} stand in no cell that names it"


def test_every_paper_and_repository_that_is_named_is_in_the_bibliography():
    """arXiv numbers and DOIs of the lessons, the exercises and the pages; repositories whose README is quoted."""
    listed = {entry.listed for entry in bibliography().values()}
    texts = {path: "\n".join(map(source, cells(path))) for path in (*LESSONS.values(), *EXERCISES.values())}
    texts |= {name: file(name) for name in PAGES}
    seen = 0
    for name, text in texts.items():
        named = re.findall(r"\b(?:0[7-9]|1\d|2\d)(?:0[1-9]|1[0-2])\.\d{4,5}\b|\b10\.\d{4,}/\S+", text)
        named += re.findall(r"(?:READMEs? of|logs in|attack_benchmarks` in) `([\w-]+/[\w-]+)`", text)
        seen += len(named)
        assert set(named) <= listed, (name, set(named) - listed)
    assert seen > 100


# ---- the lessons


def explained(n, number, piece):
    """Whether something near a piece of a lesson's prose shows this number of it."""
    seen = shown_near(number, piece.cell["id"], piece.section)
    return (
        n.is_like(seen)
        or n.text in quoted_here(number, source(piece.cell))
        or (n.setting and n.value in settings(number))
    )


def unexplained(number, piece, text):
    text = without_derived(number, re.sub(r"^## .*", "", text))
    return [n for n in risky(text) if not explained(n, number, piece)]


@cache
def shown_near(number, cell_id, section, outputs_alone=False):
    """The numbers in the code cells near a piece, and the sizes that every lesson may name."""
    near = next(p.near for p in pieces(LESSONS[number]) if (p.cell["id"], p.section) == (cell_id, section))
    texts = (printed(c) if outputs_alone else source(c) + "\n" + printed(c) for c in near)
    return set().union(*map(all_numbers, texts)) | (set() if outputs_alone else dimensions())


@cache
def settings(number):
    return set().union(*(all_numbers(source(c)) for c in cells(LESSONS[number]) if c["cell_type"] == "code"))


def checked(piece):
    """Exercises give numbers to work with, sources have pages, the minutes of the opening are the guide's own source."""
    if piece.section == "Exercises":
        return ""
    text = re.sub(r"^(?:\*\*)?\d+ minutes\b", "", piece.text, flags=re.M)
    return re.sub(r"^\| \[?\d\d .*\| `advlib/\S+` \|$", "", text, flags=re.M)  # the map of lesson 00


@pytest.mark.parametrize("number", LESSONS)
def test_a_lessons_numbers_come_from_its_cells(number):
    found = [
        f"lesson {number}, cell {piece.cell['id']}, {piece.section!r}: no code cell near shows {n.place}"
        for piece in pieces(LESSONS[number])
        for n in unexplained(number, piece, checked(piece))
    ]
    assert not found, "\n".join(found)


def test_the_map_of_lesson_00_has_each_lessons_minutes():
    text = "\n".join(source(c) for c in cells(LESSONS["00"]) if c["cell_type"] == "markdown")
    for number, path in LESSONS.items():
        opening = "\n".join(source(c) for c in cells(path)[:3])
        stated = re.search(r"^(?:\*\*)?(\d+) minutes\b", opening, re.M)[1]
        assert re.search(rf"^\| \[?{number} .*\| {stated} \|", text, re.M), (number, stated)


# ---- the exercises


MADE_UP = re.compile(r'"[^"]+"')  # a report to be taken apart: its numbers are the task


@pytest.mark.parametrize("number", EXERCISES)
def test_an_exercises_numbers_come_from_its_code_its_check_or_its_lesson(number):
    """Looser than in a lesson, as a task gives numbers of its own. Minutes are the guide's source, see tools/minutes.py."""
    check = (ROOT / "advlib" / "exercises" / f"lesson_{number}.py").read_text(encoding="utf-8")
    code = [c for c in cells(LESSONS[number]) if c["cell_type"] == "code"]
    seen = all_numbers(check).union(dimensions(), *(all_numbers(source(c) + "\n" + printed(c)) for c in code))
    tasks = "\n".join(source(c) for c in cells(EXERCISES[number]) if c["cell_type"] == "markdown")
    made_up = all_numbers("\n".join(MADE_UP.findall(tasks)))
    found = []
    for piece in pieces(EXERCISES[number]):
        text = re.sub(r"^## .*|\babout \d+ minutes|\bsuch as \d+ and \d+", "", piece.text, flags=re.M)
        known = seen.union(*(all_numbers(source(c) + "\n" + printed(c)) for c in piece.near))
        known |= made_up if piece.cell["id"].startswith("s-") else set()
        text = text if piece.cell["id"].startswith("s-") else MADE_UP.sub("", text)
        found += [f"{piece.cell['id']}: {n.place}" for n in risky(text) if not n.is_like(known)]
    assert not found, f"exercises {number}, from nowhere:\n" + "\n".join(found)


# ---- README, guide, and the other pages


PAGES = ("README.md", "CONTRIBUTING.md", "teaching/guide.md", "docs/troubleshooting.md")
PAGES += ("site/index.md", "site/attacks.md", "site/glossary.md", "site/references.md")
MADE_ELSEWHERE = {  # by pattern, what another test compares with its source
    r"<!-- computed: .*?<!-- end -->": "tests/test_guide.py",
    r"<!-- matrix -->.*?<!-- /matrix -->": "tests/test_matrix.py",
    r"^\| \d+ \| .*?$": "tests/test_guide.py: timetables and weeks",
    r"(?<=\*) \| [^|\n]+ \|$": "tests/test_guide.py: the lines that a cell prints, in the table of beliefs",
    r"^\| `(?:mnist|fashion)-.*?$|^\| \[\d\d .*?$": "tests/test_readme.py: the networks, the map",
    r"^\| \{py:func\}.*?$": "tests/test_book.py: what an attack costs",
}


@cache
def page(name):
    """A page's text without code, headings, the guide's questions to a class, and what another test makes."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name == "teaching/guide.md":
        plan, lessons, rest = re.split(
            r"^## (?:The lessons, one by one|For people who come from PyTorch)$", text, flags=re.M
        )
        text = plan + re.sub(r"^\d\. .*\n(?:   .*\n)*", "", lessons, flags=re.M) + rest
    for pattern in MADE_ELSEWHERE:
        text = re.sub(pattern, " ", text, flags=re.M | re.S)
    return re.sub(r"^ {4,}.*$|^#+ .*$", "", text, flags=re.M)


def file(name):
    return (ROOT / name).read_text(encoding="utf-8")


def pythons():
    first, after = re.search(
        r"3\.(\d+),<3\.(\d+)", tomllib.loads(file("pyproject.toml"))["project"]["requires-python"]
    ).groups()
    return tuple(f"3.{minor}" for minor in range(int(first), int(after)))


def slowest_lesson():
    """The seconds of the lesson that took longest when all were last measured."""
    lessons = json.loads(file("teaching/measured.json"))["lessons"].values()
    return round(max(sum(lesson["seconds"].values()) for lesson in lessons))


def a_million_images():
    """Minutes on two cores, seconds on a hundred, from the README's own images a second."""
    seconds = 1e6 / int(re.search(r"attack (\d+) images a second", file("README.md"))[1])
    return round(seconds / 60), round(2 * seconds / 100)


def memory_of_a_student():
    """GB for the largest lesson on the hub and a server, in the guide's own MB, rounded up."""
    kernel, server = re.search(
        r"the largest, (\d+) MB .* adds (\d+)\s+MB", file("teaching/guide.md"), re.S
    ).groups()
    return f"{math.ceil((int(kernel) + int(server)) / 1024 * 10) / 10:g}"


def digits(text):
    return re.match(r"[\d.]+", text)[0]


def fits_45_of_50():
    low, high = map(float, line_of("05", r"45 of 50: ([\d.]+) to ([\d.]+) %"))
    return 45, 50, math.ceil(low), math.floor(high)


def noticed(by):
    """How many of the seeded faults were noticed, and how many were tried."""
    found = json.loads((ROOT / "tools" / "faults.json").read_text(encoding="utf-8"))[by].values()
    return sum(result["noticed"] is not None for result in found), len(found)


PERCENT = digits(tolerance_of("≈ 5", "≈ 6"))
POINTS = digits(tolerance_of("≈ 90 %", "≈ 92 %"))
WHOLE = f"{float(digits(tolerance_of('≈ 50 of 1000', '≈ 60 of 1000'))) / 10:g}"
READING_1 = ("02", r"reading 1 is ([\d.]+) in all nine rows")

# (page, a sentence, the values that stand in it now)
LINKS = [
    ("README.md", "that mean is {} on MNIST's test images", lambda: line_of(*READING_1)),
    ("README.md", "Python {}, {} or {}, on Linux", pythons),
    (
        "README.md",
        "a million images take {} minutes on two cores, one core-hour in all, and a hundred such cores {} seconds",
        a_million_images,
    ),
    ("README.md", "the tests notice {} of {} seeded faults", lambda: noticed("tests")),
    ("README.md", "the notebooks notice at least {} of {} seeded faults", lambda: noticed("notebooks")),
    ("README.md", "with two processes to {} (", lambda: constant("tests/test_two_hosts.py", r"atol=(1e-\d)")),
    ("README.md", "where not all {})", lambda: comma(MEASURED["test_images"])),
    (
        "README.md",
        "three plans ({} minutes",
        lambda: constant("teaching/guide.md", r"### A talk of (\d+) minutes"),
    ),
    (
        "CONTRIBUTING.md",
        "short cells (up to {} lines)",
        lambda: constant("advlib/nbplugin.py", r"LONGEST_CELL = (\d+)"),
    ),
    (
        "CONTRIBUTING.md",
        "under 90 seconds on two cores (the slowest took {} when last measured",
        slowest_lesson,
    ),
    ("CONTRIBUTING.md", "The tolerance of `≈`: {} percentage points", lambda: POINTS),
    (
        "CONTRIBUTING.md",
        "{} % of the whole, and at least {}, for",
        lambda: (WHOLE, digits(tolerance_of("≈ 5 of 10", "≈ 8 of 10"))),
    ),
    ("CONTRIBUTING.md", "{} % of the stored value otherwise", lambda: PERCENT),
    (
        "CONTRIBUTING.md",
        "`tol={0}` widens one cell to {0} points or {0} %; {1} is the most",
        lambda: (3, constant("advlib/nbplugin.py", r"LARGEST_TOLERANCE = (\d+)")),
    ),
    (
        "CONTRIBUTING.md",
        "stay under {1} MB, wide networks under {0} MB",
        lambda: constant(
            "tests/test_models.py", r"most = (\d)_000_000 if \"wide\" in name else (\d)_000_000"
        ),
    ),
    ("CONTRIBUTING.md", "and Python {0} to {1}, and no index", lambda: (pythons()[0], pythons()[-1])),
    (
        "CONTRIBUTING.md",
        "Code lines up to {} letters",
        lambda: tomllib.loads(file("pyproject.toml"))["tool"]["ruff"]["line-length"],
    ),
    (
        "teaching/guide.md",
        "all words of text and code, {} a minute",
        lambda: constant("tools/minutes.py", r"WORDS_A_MINUTE = (\d+)"),
    ),
    (
        "teaching/guide.md",
        "`mem_limit` is {} GB",
        lambda: constant("teaching/jupyterhub/jupyterhub_config.py", r'mem_limit = "(\d+)G"'),
    ),
    ("teaching/guide.md", "Plan {} GB for each student", memory_of_a_student),
    (
        "teaching/guide.md",
        "of the other's server answer {}, with",
        lambda: constant("tests/test_hub.py", r"\b(40\d)\b"),
    ),
    ("teaching/guide.md", "in {} dimensions a random direction", lambda: 28**2),
    ("teaching/guide.md", "as printed it is {} on MNIST's test images", lambda: line_of(*READING_1)),
    (
        "teaching/guide.md",
        "logits times {}: the loss",
        lambda: comma(constant("09", r"saturated\(standard, factor=(\d+)\)")),
    ),
    ("teaching/guide.md", "pass a threshold of {} %", lambda: line_of("03", r"pass a threshold of (\d+) %")),
    ("teaching/guide.md", "{} of {} fits a truth near {} % as well as one near {} %", fits_45_of_50),
    ("teaching/guide.md", "{} % otherwise; `tol=3`", lambda: PERCENT),
    ("docs/troubleshooting.md", "anything else by {} %", lambda: PERCENT),
    ("docs/troubleshooting.md", "wants 0 to {}, keep", lambda: 2**8 - 1),
    ("site/glossary.md", "within {} standard deviations", lambda: f"{NormalDist().inv_cdf(0.975):.2f}"),
]

# (page, what is said, who measures it): these numbers are typed. Nothing finds them when they grow old.
NOT_STORED = [
    ("README.md", "about 2.5 GB of disk", "du of .venv and the checkout, after course.py setup"),
    ("README.md", "downloads about 470 MB", "course.py bundle prints the size of wheels/"),
    ("README.md", "two workers attack 545 images a second", "benchmarks/cluster.py"),
    ("README.md", "1.5 times as many as one", "benchmarks/cluster.py"),
    ("teaching/guide.md", "One meeting of 90 minutes a week", "the plan's own choice"),
    (
        "teaching/guide.md",
        "lesson 00 took 1308 MB and lesson 08, the largest, 1375 MB",
        "a hub, looked at by hand",
    ),
    ("teaching/guide.md", "adds 137 MB for the server", "a hub, looked at by hand"),
    ("teaching/guide.md", "125 MB for the hub and 31 MB for the proxy", "a hub, looked at by hand"),
    ("teaching/guide.md", "takes 2.2 GB once", "du of the environment"),
    ("teaching/guide.md", "copies 5 MB", "du of work/"),
    ("teaching/guide.md", "JupyterHub 6.1.1 and Python 3.11", "the versions of that run"),
    ("docs/troubleshooting.md", "a path may have 260 letters", "Windows"),
    (
        "docs/troubleshooting.md",
        "takes about 190 of them",
        "the longest name among the lock's packages, in .venv",
    ),
]


@pytest.mark.parametrize("name", PAGES)
def test_a_pages_numbers_are_linked(name):
    text = page(name)
    for where, sentence, value in LINKS:
        if where == name:
            pattern = filled(sentence, value())
            assert pattern.search(text), (
                f"{name} has {sentence!r} no longer with these values: {pattern.pattern}"
            )
            text = pattern.sub(" … ", text)
    for where, sentence, _ in NOT_STORED:
        if where == name:
            pattern = filled(sentence.replace("{", "{{").replace("}", "}}"), ())
            assert pattern.search(text), f"{name} no longer says {sentence!r}"
            text = pattern.sub(" … ", text)
    found = [n.place for n in risky(text)]
    assert not found, f"{name}, from nowhere; link them in LINKS:\n" + "\n".join(found)


def test_what_nothing_stores_does_not_grow():
    """A new figure of speed or size goes into a file that its program writes, and from there into LINKS."""
    assert len(NOT_STORED) <= 13


# ---- the test, tested: wrong digits


def wrong(text):
    """A number with one digit changed, in every way."""
    for i, digit in enumerate(text):
        if digit.isdigit():
            yield from (text[:i] + d + text[i + 1 :] for d in "0123456789" if d != digit and (i or d != "0"))


def every_number():
    """(lesson, piece, number) of what is looked at in the lessons."""
    for lesson in LESSONS:
        for piece in pieces(LESSONS[lesson]):
            text = without_derived(lesson, re.sub(r"^## .*", "", checked(piece)))
            yield from ((lesson, piece, number) for number in risky(text))


def test_a_wrong_digit_is_found(capsys):
    """One digit of a number changed: the share that is refused, by kind, over every digit and 20 drawn numbers."""
    tried, refused, kinds = {}, {}, {}
    for lesson, piece, number in every_number():
        quoted = quoted_here(lesson, source(piece.cell))
        shown = shown_near(lesson, piece.cell["id"], piece.section, outputs_alone=True)
        one_digit = (
            len(number.text.replace(".", "").lstrip("0")) < 2
        )  # 0.1, 5 %: nearly every cell has such a number
        kind = "measured" if number.is_like(shown) and not one_digit else "setting"
        kind = "published" if number.text in quoted else kind
        for text in wrong(number.text):
            found = not explained(number._replace(text=text), lesson, piece)
            if (
                kind == "published"
            ):  # test_every_quoted_number_… misses the right one, where it stood but once
                found |= prose(lesson).count(number.text) == 1
            tried[kind], refused[kind] = tried.get(kind, 0) + 1, refused.get(kind, 0) + found
            kinds.setdefault(kind, {}).setdefault((lesson, piece.cell["id"], number.place), []).append(found)
    draw = random.Random(0)
    drawn = [draw.choice(kinds["measured"][which]) for which in draw.sample(sorted(kinds["measured"]), 20)]
    with capsys.disabled():
        print(f"\n20 measured numbers with a wrong digit: {sum(drawn)} refused; of all digits:", end=" ")
        shares = (
            f"{kind} {refused[kind]} of {tried[kind]} ({len(kinds[kind])} numbers)" for kind in sorted(tried)
        )
        print(", ".join(shares))
    assert refused["measured"] > 0.8 * tried["measured"] and refused["published"] > 0.9 * tried["published"]
    assert sum(drawn) >= 14
