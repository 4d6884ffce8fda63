"""Claims and measured numbers in notebooks: what a lesson says is checked in the cell beside it.

    >>> from advlib.check import approx, check
    >>> print(f"accuracy under FGSM {approx(0.0874, '%')}")
    accuracy under FGSM ≈ 8.7 %
    >>> check("FGSM leaves fewer images than noise does", 87 < 951)
    ok: FGSM leaves fewer images than noise does

`check` prints the claim and no number, so the line is the same on every machine. `approx` writes a measured
number behind `≈`, where the pytest plugin `advlib.nbplugin` compares it with a tolerance. An exact number
(a shape, a count that no rounding can move) is printed as it is, and compared letter for letter. Lesson 00
shows all three.
"""

import ast
import contextlib
import linecache
import math
import numbers
import sys
import types
from collections.abc import Iterator

import numpy as np

SMALLEST = 1e-5  # below it, float32 rounding is a good part of a measured value


class CheckFailed(AssertionError):
    """A claim of a lesson is not true of what was computed."""


def check(claim, condition, *, expected=None, got=None, tolerance=None, cause=None):
    """Print `ok: claim` where the condition holds; raise CheckFailed where it does not.

    claim: what must be true, as one line of text without measured values.
    condition: one bool (Python's, NumPy's, or an array or tensor without dimensions).
    expected, got, tolerance, cause: lines for the message of a failure. Left out, `expected` is the
    condition's source and `got` the values of the sides of its comparisons and of the names in it. `cause` says
    what is most likely wrong.

    Raises CheckFailed (an AssertionError) for a false condition, TypeError for a condition that is no single
    bool or a claim that is no text, ValueError for an empty claim or one of several lines.

        >>> left = {"FGSM": 412, "PGD": 36}
        >>> check("PGD leaves fewer images than FGSM", left["PGD"] < left["FGSM"],
        ...       cause="the steps do not add up: is the gradient taken at the current point?")
        ok: PGD leaves fewer images than FGSM
    """
    if not isinstance(claim, str):
        raise TypeError(
            f"claim={_summary(claim)}: a text was expected, then a condition, for example "
            'check("clean accuracy is above 95 %", accuracy > 0.95)'
        )
    if not claim.strip() or len(claim.splitlines()) > 1:
        raise ValueError(f"claim={claim!r}: one line of text was expected, as in 'PGD stays in the ball'")
    if _one_bool(claim, condition):
        print(f"ok: {claim}")
        return
    if expected is None or got is None:
        source, values = _condition_and_values(sys._getframe(1))
        expected = source if expected is None else expected
        got = values if got is None else got
    details = {"expected": expected, "got": got, "tolerance": tolerance, "likely cause": cause}
    lines = [f"  {name:<12}  {_summary(text)}" for name, text in details.items() if text is not None]
    raise CheckFailed("\n".join([f"not true: {claim}", *lines]))


def approx(value, unit="", *, of=None, digits=None):
    """A measured number as text behind `≈`, which the notebook tests compare with a tolerance.

    | call | text | tolerance |
    |---|---|---|
    | `approx(0.973, "%")`, a share in [-1, 1] | `≈ 97.3 %` | 0.5 percentage points |
    | `approx(87, of=1000)`, a count that may vary | `≈ 87 of 1000` | 0.5 % of the whole, at least 1 |
    | `approx(0.1234)`, anything else | `≈ 0.123` | 2 % of the stored value |

    digits: decimals for `%` (1 if left out, at least 1), significant digits otherwise (3 if left out, at
    least 3): with fewer, rounding alone would exceed the tolerance.

    Raises TypeError for what is no single number, and ValueError for NaN, infinity, a share outside [-1, 1],
    a count outside [0, of], and a value so near zero that a relative tolerance says nothing about it: state
    that one as a `check` with a bound.
    """
    shown = _summary(value)
    value = _one_number(value, shown)
    if unit not in ("", "%"):
        raise ValueError(f'unit={unit!r}: "%" was expected, or nothing; write another unit behind the number')
    if not math.isfinite(value):
        raise ValueError(
            f"approx({shown}): a finite number was expected. If this is what must come out, say so: "
            'check("the distance is infinite where no attack succeeded", np.isinf(distance).all())'
        )
    if of is not None:
        return _count(value, shown, of, unit, digits)
    if unit == "%":
        if not -1 <= value <= 1:
            raise ValueError(f'approx({shown}, "%"): a share in [-1, 1] was expected, as 0.973 for 97.3 %')
        text = f"{100 * value:.{_digits(digits, 1, 'decimals')}f}"
        return f"≈ {text.removeprefix('-') if float(text) == 0 else text} %"
    if abs(value) < SMALLEST:
        raise ValueError(
            f"approx({shown}): within {SMALLEST:g} of zero a relative tolerance means nothing, as the next "
            'machine prints another number. State a bound: check("the gradients agree", difference < 1e-6)'
        )
    digits = _digits(digits, 3, "significant digits")
    if isinstance(value, int):
        if abs(value) < 50:
            raise ValueError(
                f"approx({shown}): 2 % of a count below 50 is less than one. Write a count of images as "
                f"approx({shown}, of=1000), and an exact one without approx"
            )
        return f"≈ {value}"
    if not 1e-4 <= abs(value) < 1e7:
        return f"≈ {value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"≈ {value:.{max(decimals, 0)}f}"


def _count(value, shown, of, unit, digits):
    if unit or digits is not None:
        raise ValueError(f"approx({shown}, of={of}): a count has neither a unit nor digits")
    if isinstance(of, bool) or not isinstance(of, numbers.Integral) or of < 1:
        raise ValueError(f"of={of!r}: the number of images counted was expected, for example of=1000")
    if value != int(value) or not 0 <= value <= of:
        raise ValueError(f"approx({shown}, of={of}): a whole number in [0, {of}] was expected, as 87")
    return f"≈ {int(value)} of {of}"


def _digits(digits, least, what):
    if digits is None:
        return least
    if isinstance(digits, bool) or not isinstance(digits, numbers.Integral) or not least <= digits <= 12:
        raise ValueError(
            f"digits={digits!r}: {least} to 12 {what} were expected; fewer round beyond the tolerance"
        )
    return int(digits)


def _one_number(value, shown):
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        raise TypeError(f"approx({shown}): one number was expected, for example accuracy.mean()")
    return array.item()


def _one_bool(claim, condition):
    # Text, numbers and lists are refused: a message or a count left in their place would pass by accident.
    array = np.asarray(condition) if isinstance(condition, bool) or hasattr(condition, "dtype") else None
    if array is not None and array.dtype == bool and array.ndim == 0:
        return bool(array)
    advice = "a comparison was expected, for example accuracy > 0.95"
    if array is not None and array.ndim and array.dtype == bool:
        advice = "one bool was expected; say which with .all() or .any(), for example (x_adv <= 1).all()"
    raise TypeError(f"check({claim!r}, {_summary(condition)}): {advice}")


def _condition_and_values(frame):
    """The source of the condition in the caller's `check(...)`, and the values of the names it uses.

    Names are looked up, and of the rest only what `_quick` allows is computed again: a condition may be expensive,
    or draw random numbers.
    """
    line, last_line, start, stop = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if None in (line, last_line, start, stop):
        return None, None
    lines = [linecache.getline(frame.f_code.co_filename, n).encode() for n in range(line, last_line + 1)]
    lines[-1] = lines[-1][:stop]  # positions count UTF-8 bytes
    lines[0] = lines[0][start:]
    try:
        call = ast.parse(b"".join(lines).decode(), mode="eval").body
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        condition = call.args[1] if len(call.args) > 1 else named["condition"]
    except (SyntaxError, UnicodeDecodeError, AttributeError, KeyError):  # no source, as in exec of a string
        return None, None
    values = _sides(condition, frame)
    for node in ast.walk(condition):
        if isinstance(node, ast.Name) and node.id not in values:
            value = frame.f_locals.get(node.id, frame.f_globals.get(node.id))
            if value is not None and not isinstance(value, types.ModuleType) and not callable(value):
                values[node.id] = f"{node.id} = {_summary(value)}"
    return ast.unparse(condition), ", ".join(values.values()) or None


_BUILTIN = {"abs", "bool", "float", "int", "len", "max", "min", "round", "sum"}
_METHODS = {
    "all",
    "any",
    "argmax",
    "argmin",
    "astype",
    "item",
    "max",
    "mean",
    "min",
    "ravel",
    "reshape",
    "std",
    "sum",
}
_PARTS = (
    ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.UnaryOp, ast.BinOp, ast.BoolOp,
    ast.Compare, ast.Call, ast.keyword, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def _sides(condition, frame):
    """source -> "source = value" of what is compared, or asked whether all or any of it is true, and is no mere name."""

    def again(expression):
        return eval(compile(ast.Expression(expression), "<check>", "eval"), frame.f_globals, frame.f_locals)

    found, left = {}, [condition]
    while left:
        node = left.pop(0)
        if isinstance(
            node,
            ast.comprehension | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp | ast.Lambda,
        ):
            continue  # its own names are gone
        left += ast.iter_child_nodes(node)
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        with contextlib.suppress(Exception):  # what cannot be computed again is not shown
            if called.endswith((".all", ".any")) and not node.args:
                sides = [node.func.value]
            if called in ("np.allclose", "np.array_equal") and _quick(node, frame):
                one, other = (np.asarray(again(argument), dtype=float) for argument in node.args[:2])
                found[called] = f"largest difference = {np.abs(one - other).max():.3g}"
            for side in sides:
                if not isinstance(side, ast.Name | ast.Constant) and _quick(side, frame):
                    found[ast.unparse(side)] = f"{ast.unparse(side)} = {_summary(again(side))}"
    return found


def _quick(side, frame):
    """Whether an expression is arithmetic, indexing and NumPy alone, without random numbers."""
    for node in ast.walk(side):
        if not isinstance(node, _PARTS):
            return False
        if isinstance(node, ast.Name):
            value = frame.f_locals.get(node.id, frame.f_globals.get(node.id))
            if isinstance(value, Iterator):  # used up: computed again, it would be another value
                return False
        if isinstance(node, ast.Call):
            source = ast.unparse(node.func)
            root = frame.f_locals.get(source.partition(".")[0], frame.f_globals.get(source.partition(".")[0]))
            by_numpy = root is np and ".random" not in source
            by_name = source in _BUILTIN and root is None
            method = isinstance(node.func, ast.Attribute) and not isinstance(root, types.ModuleType)
            if not (by_numpy or by_name or (method and node.func.attr in _METHODS)):
                return False
    return True


def _summary(value):
    """A value in one line: arrays as shape, dtype and range."""
    shape = getattr(value, "shape", None)
    if shape is not None and not isinstance(value, type) and len(shape):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError):  # a symbolic tensor
            return f"{type(value).__name__} of shape {tuple(shape)}"
        kind = f"array {array.shape} {array.dtype}"
        if array.dtype == bool:
            return f"{kind}, {array.sum()} of {array.size} true"
        try:
            return f"{kind}, {array.min()} to {array.max()}"
        except (TypeError, ValueError):  # nothing to order, or nothing there
            return kind
    text = value if isinstance(value, str) else repr(value.item() if isinstance(value, np.generic) else value)
    text = " ".join(text.split())
    return text if len(text) <= 160 else f"{text[:157]}..."
