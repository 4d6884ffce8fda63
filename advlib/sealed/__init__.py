"""Sealed models: networks with a claim each, some honest and some not, a sheet for your answers, and a class's leaderboard.

    >>> exam = load()                                    # the set that comes with the course; or load("folder")
    >>> net = exam["birch"].model                        # a model like any other; images → logits
    >>> sheet = Sheet(exam)
    >>> sheet.answer("birch", verdict="send back", flaw="backdoor", robust=91)
    >>> sheet.score()

`python -m teaching seal` makes a set. Its folder holds a SavedModel for each name, and `sealed.json` with the claims and, for
each question, salted PBKDF2 hashes of the answers that are right. That protects against a glance, not against an effort: who
writes the loop over all answers has them in minutes, and the operations of a graph can be read, as those of any model you are
given can. The key with the recipes is a file of its own, which stays with the teacher. Lesson 13.
"""

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from advlib._checks import check_choice, describe

__all__ = ["FLAWS", "POINTS", "VERDICTS", "Sealed", "Set", "Sheet", "digest", "load", "merge"]

SHIPPED = Path(__file__).parent / "shipped"
FORMAT, VERSION = "advlib sealed models", 1
ENTRY = "advlib answer sheet"
POINTS = 10  # percentage points by which a claim may exceed what is left, and an answer may miss it
VERDICTS = ("sign", "send back")
FLAWS = {
    "none": "nothing found: the claim holds, whether the number is high or low",
    "saturated logits": "logits so large that the loss has no gradient left",
    "rounded input": "the input is rounded, and no gradient passes",
    "random output": "the same image gets other logits each time",
    "single-step training": "it stands one large step of the gradient, and several small ones not",
    "backdoor": "it stands the perturbations of the claim, and obeys a sign that was planted in its training",
    "abstention": "refusing to answer was counted as standing",
    "trained on the test": "it knows the images that it was measured on",
}
QUESTIONS = {
    "verdict": "sign or send back",
    "flaw": "the flaw",
    "robust": "robust accuracy",
}


@dataclass
class Sealed:
    """One sealed model: its name, the claim made for it, and the threat model of the claim."""

    name: str
    path: Path
    claim: str
    claimed: int  # percent
    data: str  # "mnist" or "fashion_mnist"
    norm: str
    eps: float
    sha256: str

    @cached_property
    def model(self):
        """Images (N, 28, 28, 1) in [0, 1] → logits, opened by `advlib.loading.load_model`."""
        from advlib.loading import load_model

        found = load_model(self.path)
        if found.sha256 != self.sha256:
            raise ValueError(
                f"{self.path} is not the model of this set (SHA-256 {found.sha256[:16]}…, {self.sha256[:16]}… was expected): "
                "copy the folder again"
            )
        return found.model


class Set(Mapping):
    """The sealed models of a folder by name, in alphabetical order, and the hashes that mark the answers."""

    def __init__(self, folder, about):
        self.folder, self.about = Path(folder), about
        self.id = about["set"]
        self.models = {
            name: Sealed(name, self.folder / name, **about["models"][name])
            for name in sorted(about["models"])
        }

    def __getitem__(self, name):
        return self.models[check_choice(name, "name", tuple(self.models))]

    def get(self, name, default=None):
        return self.models.get(name, default)

    def __contains__(self, name):
        return name in self.models

    def __iter__(self):
        return iter(self.models)

    def __len__(self):
        return len(self.models)

    def __repr__(self):
        return "\n".join(f"{sealed.name}: {sealed.claim}" for sealed in self.models.values())

    def right(self, name, question, answer):
        """Whether this answer to a question about a model is right. A tenth of a second: the hash is slow on purpose."""
        about = self.about
        found = digest(about["salt"], about["rounds"], name, question, answer)
        return found in about["answers"][name][question]


def load(folder=None):
    """The sealed models of `folder`, as a `Set`; by default those that come with the course.

    Raises FileNotFoundError for a folder without sealed.json and ValueError for one that is damaged.

        >>> load()["birch"].claim
    """
    folder = SHIPPED if folder is None else Path(folder)
    path = folder / "sealed.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no sealed.json: a folder written by python -m teaching seal was expected, for example load('3b')"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if (about["format"], about["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {about['format']!r}, version {about['version']!r}")
        if missing := {"salt", "rounds", "answers"} - about.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        return Set(folder, about)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): the file written by python -m teaching seal was expected"
        ) from error


def digest(salt, rounds, name, question, answer):
    """The hash under which an answer is stored: PBKDF2-HMAC-SHA256 of model, question and answer, as 32 hex digits."""
    text = json.dumps([name, question, answer]).encode()
    return hashlib.pbkdf2_hmac("sha256", text, bytes.fromhex(salt), rounds).hex()[:32]


# --- the answer sheet


class Sheet:
    """Your answers about a `Set`: for each model whether you would sign its claim, its flaw, and its robust accuracy.

    What is left out, or `...`, is not done yet.
    """

    def __init__(self, exam):
        self.exam, self.tries = exam, 0
        self.answers = {name: {} for name in exam}

    def answer(self, name, *, verdict=..., flaw=..., robust=...):
        """Write down what you found about one model; a later call replaces what it names.

        verdict: "sign" or "send back". Sign a claim that is at most 10 percentage points above what your strongest attack leaves,
        of a model in which you found nothing that its buyer would not want. flaw: one of `FLAWS`. robust: the share of images,
        in percent, that are right under your strongest attack in the claim's threat model, on images that the model has not
        seen; a refusal is not right. It counts as right within 10 points.
        """
        check_choice(name, "name", tuple(self.exam))
        given = {"verdict": verdict, "flaw": flaw, "robust": robust}
        given = {question: value for question, value in given.items() if value is not ...}
        self.answers[name] |= _checked(given)

    def score(self):
        """Prints a line for each question: right, wrong, or not done yet. Returns the number of right answers."""
        right = 0
        self.tries += any(self.answers.values())
        for name, answers in self.answers.items():
            for question, words in QUESTIONS.items():
                if question not in answers:
                    state = "not done yet"
                else:
                    state = "right" if self.exam.right(name, question, answers[question]) else "wrong"
                right += state == "right"
                print(f"{name}, {words}: {state}")
        print(f"{right} of {len(QUESTIONS) * len(self.exam)} right")
        return right

    def save(self, person, folder="."):
        """Write your entry for the leaderboard, `<person>.sheet.json`, and return its path.

        It holds the answers themselves, so that `merge` can mark them again: give it to your teacher, not to the class.
        """
        if not isinstance(person, str) or not person.strip() or len(person) > 60 or not person.isprintable():
            raise ValueError(f"person={describe(person)}: a name was expected, for example 'Ada'")
        about = {
            "format": ENTRY, "version": VERSION, "set": self.exam.id, "person": person.strip(), "tries": self.tries,
            "when": datetime.now(UTC).isoformat(timespec="seconds"), "answers": self.answers,
            "right": _mark(self.exam, self.answers),
        }  # fmt: skip
        about["checksum"] = _checksum(about)
        # another file for another name
        stem = "".join(c if c.isalnum() or c in " -" else f"%{ord(c):x}" for c in person.strip())
        path = Path(folder) / f"{stem}.sheet.json"
        path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def _checked(answers):
    """The answers in the form in which they are hashed; ValueError for what is none."""
    checked = {}
    for question, value in answers.items():
        if question == "robust":
            number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not 0 <= value <= 100:
                raise ValueError(
                    f"robust={describe(value)}: a percentage from 0 to 100 was expected, for example 87.5"
                )
            checked[question] = round(float(value))
        else:
            checked[question] = check_choice(
                value, question, VERDICTS if question == "verdict" else tuple(FLAWS)
            )
    return checked


def _mark(exam, answers):
    return sum(exam.right(name, question, a) for name in answers for question, a in answers[name].items())


def _checksum(entry):
    bare = {key: value for key, value in entry.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


# --- the leaderboard


def merge(files, exam, keep="best"):
    """The leaderboard of a class: one row a person, most right answers first, as a pandas DataFrame.

    files: paths of entries that `Sheet.save` wrote. exam: the `Set` they answer. keep: a person's "best" entry (most right, then
    fewest tries, then the earliest) or the "latest". Every entry is marked again from its answers, so that a count written by
    hand changes nothing; the checksum then no longer fits, and the column `note` says so. Who computes the checksum anew can
    still claim fewer tries or an earlier hour, and nothing here knows who found the answers. An entry that cannot be read, or
    answers another set, is a row with a note and no points.

        >>> merge(Path("entries").glob("*.sheet.json"), exam).to_csv("leaderboard.csv", index=False)
    """
    import pandas as pd

    check_choice(keep, "keep", ("best", "latest"))
    if isinstance(files, str | Path):
        raise TypeError(
            f"files={describe(files)}: several paths were expected, for example Path('entries').glob('*.sheet.json')"
        )
    rows, unread = {}, []
    for path in sorted(map(Path, files)):
        try:
            row = _row(path, exam)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            why = f"no {error}" if isinstance(error, KeyError) else (str(error) or type(error).__name__)
            unread.append({"person": path.name, "right": 0, "note": f"not read: {why.splitlines()[0][:120]}"})
            continue
        before = rows.get(row["person"].casefold())
        if before is None or _better(row, before, keep):
            rows[row["person"].casefold()] = row
    order = sorted(rows.values(), key=lambda row: (-row["right"], row["tries"], row["when"]))
    table = pd.DataFrame(order + unread, columns=["person", "right", "of", "tries", "when", "note"])
    return table.astype({"right": int, "of": "Int64", "tries": "Int64"})


def _row(path, exam):
    entry = json.loads(path.read_text(encoding="utf-8"))
    if (entry["format"], entry["version"]) != (ENTRY, VERSION):
        raise ValueError("this is no entry of the leaderboard")
    if entry["set"] != exam.id:
        raise ValueError(f"it answers the set {entry['set']}, not {exam.id}")
    tries = int(entry["tries"])
    if not 0 <= tries < 10**9:
        raise ValueError(f"{tries} tries")
    answers = {name: _checked(given) for name, given in entry["answers"].items() if name in exam}
    right = _mark(exam, answers)
    note = "" if entry["checksum"] == _checksum(entry) and entry["right"] == right else "edited by hand"
    return {
        "person": str(entry["person"]).strip(), "right": right, "of": len(QUESTIONS) * len(exam), "tries": tries,
        "when": str(entry["when"]), "note": note,
    }  # fmt: skip


def _better(row, before, keep):
    if keep == "latest":
        return row["when"] >= before["when"]
    return (-row["right"], row["tries"], row["when"]) < (-before["right"], before["tries"], before["when"])
