"""Exercises that mark themselves: `check("03.1", my_function)` says `not done yet`, `ok`, or gives a hint.

Each lesson has a file here, `lesson_03.py`, with one function an exercise. It looks at properties of an answer (inside ball and
box, better than noise, the right number of queries), never at how it was written, and raises `Hint` where one is missing. The
questions are in `notebooks/exercises/`. A mark in a class is the same check: under nbgrader it raises, so that the points are
not given.

    >>> check("03.1", steepest)
    03.1: ok
"""

import importlib
import inspect
import json
import os
import re
from pathlib import Path

from advlib._checks import describe

EXERCISES = {}  # "03.1" → its check


class Hint(AssertionError):
    """What is missing in an answer, without giving the answer away."""


class NotDone(Exception):
    """The answer is still the empty one."""


def exercise(name):
    """Registers a check: a function of the answer or answers, which raises `Hint` where a property is missing."""

    def register(check):
        if name in EXERCISES:
            raise ValueError(f"there are two checks called {name}")
        EXERCISES[name] = check
        return check

    return register


def check(name, *answers):
    """Check the answer to an exercise and print one line: `ok`, `not done yet`, or a hint.

    name: as in the notebook, "03.1". answers: what the exercise asks for, a function, a number, an array. An answer that is
    `...` or None, or a function that raises NotImplementedError or returns `...` or None, is not done yet. While nbgrader marks,
    everything but `ok` raises. ValueError for an unknown name.
    """
    found = _find(name)
    expected = len(inspect.signature(found).parameters)
    if len(answers) != expected:
        raise TypeError(
            f"check({name!r}) got {len(answers)} answers: {expected} were expected, as in the notebook's cell"
        )
    try:
        if any(answer is None or answer is ... for answer in answers):
            raise NotDone
        with_care = [_careful(answer) if inspect.isfunction(answer) else answer for answer in answers]
        found(*with_care)
    except NotDone:
        _say(name, "not done yet")
    except Hint as hint:
        _say(name, f"hint: {hint}")
    except Exception as error:  # the learner's code, or an answer of another kind than the check could read
        lines = str(error).strip().splitlines() or ["no message"]
        _say(name, f"hint: it stopped with {type(error).__name__}: {lines[0][:300]}")
    else:
        print(f"{name}: ok")


def require(condition, hint):
    """Raise `Hint` unless the condition, or all of it, is true."""
    import numpy as np

    if not np.all(condition):
        raise Hint(hint)


def number(value, name="your answer"):
    """The answer as a float; a Hint where it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Hint(f"{name} is {describe(value)}; a number was expected") from None


def _careful(function):
    """The learner's function, which is not done yet where it says so or returns nothing."""

    def call(*args, **kwargs):
        try:
            result = function(*args, **kwargs)
        except NotImplementedError:
            raise NotDone from None
        if result is None or result is ...:
            raise NotDone
        return result

    call.__signature__ = inspect.signature(function)
    call.__wrapped__ = function
    return call


def _say(name, text):
    if marking():
        raise AssertionError(f"{name}: {text}")
    print(f"{name}: {text}")


def marking():
    """Whether nbgrader is marking, which asks a cell without points to raise."""
    return os.environ.get("NBGRADER_EXECUTION") == "autograde" or os.environ.get("ADVLIB_MARKING") == "1"


def _find(name):
    lesson = re.fullmatch(r"(\d\d)\.\d", str(name))
    if lesson:
        module = f"advlib.exercises.lesson_{lesson[1]}"
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    if name not in EXERCISES:
        raise ValueError(
            f"no exercise is called {name!r}: a name as in the notebook was expected, for example '03.1'"
        )
    return EXERCISES[name]


# --- quizzes

QUIZZES = Path(__file__).with_name("quizzes.json")


def quiz(lesson, answers=None):
    """Five questions after a lesson. Without answers: prints them; with five letters: says which are right, and why not.

    lesson: "03". answers: for example "abcda"; "." leaves a question open.

        >>> quiz("03", "ab...")
    """
    questions = json.loads(QUIZZES.read_text(encoding="utf-8")).get(lesson)
    if questions is None:
        raise ValueError(
            f"there is no quiz for lesson {lesson!r}: two digits were expected, for example '03'"
        )
    given = [""] * len(questions) if answers is None else list(str(answers).lower().replace(" ", ""))
    if len(given) != len(questions):
        raise ValueError(
            f"{len(given)} answers for {len(questions)} questions: one letter each was expected, for example 'ab.ca'"
        )
    right = 0
    for i, (question, letter) in enumerate(zip(questions, given, strict=True), 1):
        if answers is None:
            print(f"{i}. {question['question']}")
            for key, choice in zip("abcd", question["choices"], strict=False):
                print(f"   {key}) {choice}")
        elif letter == ".":
            print(f"{i}. not answered yet")
        elif letter == question["answer"]:
            right += 1
            print(f"{i}. right: {question['why']}")
        else:
            wrong = question.get("hints", {}).get(letter, "read the question again")
            print(f"{i}. not yet: {wrong}")
    if answers is not None:
        print(f"{right} of {len(questions)} right")
