"""What check and approx print, refuse, and say when they fail."""

import linecache
import math
import subprocess
import sys

import numpy as np
import pytest

from advlib.check import CheckFailed, approx, check
from advlib.nbplugin import differences


@pytest.mark.parametrize(
    "true", [True, np.True_, np.array(True), np.float32(0.3) < 1, (np.ones(3) == 1).all()]
)
def test_a_true_claim_prints_one_line(capsys, true):
    assert check("PGD stays in the ball, ‖δ‖ ≤ ε", true) is None
    assert capsys.readouterr().out == "ok: PGD stays in the ball, ‖δ‖ ≤ ε\n"


@pytest.mark.parametrize("false", [False, np.False_, np.array(False)])
def test_a_false_claim_raises_and_prints_nothing(capsys, false):
    with pytest.raises(CheckFailed, match=r"^not true: PGD stays in the ball"):
        check("PGD stays in the ball", false)
    assert capsys.readouterr().out == ""
    assert issubclass(CheckFailed, AssertionError)


@pytest.mark.parametrize(
    "number", [1, 0, 0.0, "yes", "", None, [], [True], {"a": 1}, np.float32(1), np.int64(0), np.nan]
)
def test_what_is_true_or_false_by_accident_is_refused(number):
    with pytest.raises(TypeError, match="a comparison was expected, for example"):
        check("a claim", number)


@pytest.mark.parametrize("array", [np.ones(3, bool), np.ones((1, 1), bool), np.zeros(0, bool)])
def test_an_array_of_bools_is_refused_with_advice(array):
    with pytest.raises(TypeError, match=r"array \(.*one bool was expected.*\.all\(\)"):
        check("a claim", array)


def test_a_tensor_without_dimensions_is_a_condition(capsys):
    class Tensor:  # as TensorFlow's: a dtype, and NumPy's array protocol
        dtype = "bool"

        def __array__(self, dtype=None, copy=None):
            return np.array(True)

    check("a claim", Tensor())
    assert capsys.readouterr().out == "ok: a claim\n"


def test_claim_and_condition_swapped():
    with pytest.raises(TypeError, match="a text was expected, then a condition"):
        check(True, "a claim")


@pytest.mark.parametrize("claim", ["", "  ", "one\ntwo"])
def test_a_claim_is_one_line(claim):
    with pytest.raises(ValueError, match="one line of text was expected"):
        check(claim, True)


def test_a_failure_shows_the_condition_and_the_values_in_it():
    left = {"FGSM": 412, "PGD": 436}
    x = np.linspace(0, 1, 12, dtype="float32").reshape(3, 4)
    with pytest.raises(CheckFailed) as failure:
        check("é: PGD leaves fewer", left["PGD"] < left["FGSM"] and bool((x <= 1).all()), cause="weak steps")
    assert str(failure.value).split("\n") == [
        "not true: é: PGD leaves fewer",
        "  expected      left['PGD'] < left['FGSM'] and bool((x <= 1).all())",
        "  got           left['PGD'] = 436, left['FGSM'] = 412, x <= 1 = array (3, 4) bool, 12 of 12 true, "
        "left = {'FGSM': 412, 'PGD': 436}, x = array (3, 4) float32, 0.0 to 1.0",
        "  likely cause  weak steps",
    ]


def test_a_failure_shows_a_condition_over_several_lines_and_by_keyword():
    accuracy, bound = np.float64(0.5), 0.25
    with pytest.raises(CheckFailed) as failure:
        check(
            "accuracy is low",
            condition=accuracy
            < bound,
        )  # fmt: skip
    assert "expected      accuracy < bound" in str(failure.value)
    assert "got           accuracy = 0.5, bound = 0.25" in str(failure.value)


def test_given_details_replace_the_found_ones():
    measured = 3
    with pytest.raises(CheckFailed) as failure:
        check("sizes agree", measured == 2, expected="two", got=measured, tolerance="none", cause="a typo")
    assert str(failure.value).split("\n")[1:] == [
        "  expected      two",
        "  got           3",
        "  tolerance     none",
        "  likely cause  a typo",
    ]


def test_a_failure_computes_nothing_again():
    calls = []

    def measure():
        calls.append(1)
        return 7

    with pytest.raises(CheckFailed, match=r"measure\(\) < 5"):
        check("small", measure() < 5)
    assert calls == [1]


@pytest.mark.parametrize(
    ("condition", "got"),
    [
        ("np.abs(a - b).max() < 0.1", "np.abs(a - b).max() = 0.5, a = "),
        ("0.9 < (a == b).mean() < 1", "(a == b).mean() = 0.75, a = "),
        ("len(a) == 2 * n", "len(a) = 4, 2 * n = 6, "),
        ("not (a.sum() > 0 or False)", "a.sum() = 8.0, a = "),
        (
            "bool((np.sort(a) + 1 == b).all())",
            "np.sort(a) + 1 == b = array (4,) bool, 0 of 4 true, np.sort(a) + 1 = ",
        ),
        ("np.allclose(a, b[:], atol=0.1)", "largest difference = 0.5, a = "),
        ("np.array_equal(a, b[:3])", "a = array (4,) float64, 2.0 to 2.0, b = "),  # of other shapes
        ("(a != b).all()", "a != b = array (4,) bool, 1 of 4 true, "),
        # a name of its own, another's function, random numbers, a name that is another: nothing is computed again
        ("all(abs(a - c).max() < 0 for c in [b])", "b = array (4,) float64, 2.0 to 2.5, a = array"),
        ("f(a).max() < 1", "a = array"),
        ("np.random.default_rng(0).random() > n", "n = 3"),
        ("np.random.rand() > n", "n = 3"),
        ("max(n, 2) < 1", "n = 3"),
        ("(n := n + 1) < 0", "n = 4"),
        # nor what was not reached, and cannot be computed
        ("n < 0 and (a - 'text').max() < 0", "n = 3, a = array"),
    ],
)
def test_got_is_what_was_compared(condition, got):
    values = {
        "np": np,
        "check": check,
        "a": np.full(4, 2.0),
        "b": np.array([2, 2, 2, 2.5]),
        "n": 3,
        "calls": [],
    }
    values["f"] = lambda a: values["calls"].append(1) or a
    if condition.startswith("max("):
        values["max"] = lambda *numbers: values["calls"].append(1) or 3
    source = f"check('a claim', {condition})\n"
    name = f"<cell {condition}>"
    linecache.cache[name] = len(source), None, [source], name
    with pytest.raises(CheckFailed) as failure:
        exec(compile(source, name, "exec"), values)
    line = next(line for line in str(failure.value).split("\n") if line.startswith("  got "))
    assert line.split(maxsplit=1)[1].startswith(got)
    assert len(values["calls"]) <= 1


def test_what_is_used_up_is_not_computed_again():
    right = (n > 2 for n in range(8))
    with pytest.raises(CheckFailed) as failure:
        check("at least six", sum(right) >= 6)
    assert "sum(right) =" not in str(failure.value)


def test_a_symbolic_tensor_has_no_value_and_a_shape():
    class KerasTensor:
        shape = (None, 28, 28, 1)

        def __array__(self, *_):
            raise ValueError("a KerasTensor is symbolic")

    inputs = KerasTensor()
    with pytest.raises(CheckFailed) as failure:
        check("four channels", inputs.shape[-1] == 4)
    assert "KerasTensor of shape (None, 28, 28, 1)" in str(failure.value)


def test_a_failure_without_source_still_raises_the_claim():
    with pytest.raises(CheckFailed, match=r"^not true: a claim$"):
        exec("check('a claim', False)", {"check": check})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: approx(0.973, "%"), "≈ 97.3 %"),
        (lambda: approx(np.float32(0.97349), "%", digits=2), "≈ 97.35 %"),
        (lambda: approx(0, "%"), "≈ 0.0 %"),
        (lambda: approx(-0.0004, "%"), "≈ 0.0 %"),
        (lambda: approx(-0.032, "%"), "≈ -3.2 %"),
        (lambda: approx(1, "%"), "≈ 100.0 %"),
        (lambda: approx(12, of=1000), "≈ 12 of 1000"),
        (lambda: approx(np.int64(0), of=np.int64(9)), "≈ 0 of 9"),
        (lambda: approx(np.float64(87.0), of=1000), "≈ 87 of 1000"),
        (lambda: approx(0.12345), "≈ 0.123"),
        (lambda: approx(np.array(0.12345)), "≈ 0.123"),
        (lambda: approx(-2.5), "≈ -2.50"),
        (lambda: approx(16.17), "≈ 16.2"),
        (lambda: approx(12345.6), "≈ 12346"),
        (lambda: approx(0.12345, digits=5), "≈ 0.12345"),
        (lambda: approx(3.2e-5), "≈ 3.20e-05"),
        (lambda: approx(3e9), "≈ 3.00e+09"),
        (lambda: approx(905), "≈ 905"),
    ],
)
def test_approx_prints(call, text):
    assert call() == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: approx(math.nan), "a finite number was expected"),
        (lambda: approx(np.float32("inf"), "%"), "a finite number was expected"),
        (lambda: approx(0.0), "State a bound: check"),
        (lambda: approx(3e-7), "State a bound: check"),
        (lambda: approx(-9e-6), "State a bound: check"),
        (lambda: approx(97.3, "%"), r"a share in \[-1, 1\] was expected, as 0.973 for 97.3 %"),
        (lambda: approx(12), "of=1000"),
        (lambda: approx(1.5, of=10), r"a whole number in \[0, 10\]"),
        (lambda: approx(11, of=10), r"a whole number in \[0, 10\]"),
        (lambda: approx(1, of=0), "of=0: the number of images"),
        (lambda: approx(1, of=True), "of=True: the number of images"),
        (lambda: approx(1, "%", of=10), "neither a unit nor digits"),
        (lambda: approx(1.5, "s"), "unit='s'"),
        (lambda: approx(0.5, "%", digits=0), "digits=0: 1 to 12 decimals"),
        (lambda: approx(1.5, digits=2), "digits=2: 3 to 12 significant digits"),
        (lambda: approx(1.5, digits=True), "digits=True"),
    ],
)
def test_approx_refuses_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", ["0.5", None, True, np.ones(1), [0.5], 1j, np.array("a")])
def test_approx_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match="one number was expected"):
        approx(value)


@pytest.mark.parametrize(
    "value", [1e-5, 9.96e-5, 0.09996, 0.5, 0.9999, 1.004, 9.9951, 99.96, 101.4, 5e4, 9.99e6, 2e7]
)
def test_rounding_never_exceeds_the_tolerance(value):
    """A change of a hundredth of the tolerance can move the last printed digit, and must pass."""
    for near in (value * (1 - 2e-4), value * (1 + 2e-4)):
        near = max(near, 1e-5)
        assert differences(approx(value), approx(near)) == []
    share = min(value, 0.99)
    assert differences(approx(share, "%"), approx(share + 5e-5, "%")) == []


def test_importing_it_imports_no_tensorflow():
    code = "import sys, advlib.check; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
