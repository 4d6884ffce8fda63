"""What a Report says is counted by hand, and an attack that cheats is caught."""

import json
import os
import subprocess
import sys
import time
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from advlib import data, models, robustness
from advlib._checks import ProbabilitiesNotLogitsError, check_labels
from advlib.attacks import fgsm, pgd
from advlib.diagnostics import Flag, FlagWarning, raise_flag
from advlib.robustness import Outcome, Report, compare, curve, evaluate, interval

# --- Six images, counted by hand: each of one grey, which the model takes for class 1 when it is above 0.5

GREYS = np.array([0.1, 0.3, 0.45, 0.55, 0.7, 0.9], np.float32)
X = np.broadcast_to(GREYS[:, None, None, None], (6, 2, 2, 1)).copy()
Y = np.array([0, 0, 0, 1, 1, 0])  # the last one is misclassified


def grey_model(x):
    above = 10 * (np.asarray(x).mean(axis=(1, 2, 3)) - 0.5)
    return np.stack([-above, above], axis=1).astype(np.float32)


def right(model, x, y):
    return (np.asarray(model(x)).argmax(axis=1) == y)[:, None, None, None]


def brighter(model, x, y, eps=0.1):
    return np.where(right(model, x, y), np.clip(x + np.float32(eps), 0, 1), x)


def darker(model, x, y, eps=0.1):
    return np.where(right(model, x, y), np.clip(x - np.float32(eps), 0, 1), x)


def towards_the_boundary(model, x, y, eps=0.1):  # the best there is against this model
    return np.where(y[:, None, None, None] == 0, brighter(model, x, y, eps), darker(model, x, y, eps))


@pytest.fixture
def report():
    return evaluate(grey_model, X, Y, {"brighter": brighter, "darker": darker}, norm="linf", eps=0.1)


def test_six_images_by_hand(report):
    # clean: 5 of 6. brighter breaks the third image, darker the fourth.
    assert report.n == 6 and report.flags == []
    assert report.prediction.tolist() == [0, 0, 0, 1, 1, 1]
    assert report["brighter"].prediction.tolist() == [0, 0, 1, 1, 1, 1]
    assert report["darker"].prediction.tolist() == [0, 0, 0, 0, 1, 1]
    assert report.clean_accuracy == 5 / 6
    assert report.accuracy("brighter") == report.accuracy("darker") == 4 / 6
    assert report.robust_accuracy == 3 / 6  # image by image, although each attack alone leaves 4
    assert report.success_rate("brighter") == report.success_rate("darker") == 1 / 5
    assert report.success_rate() == 2 / 5
    assert report.broken().tolist() == [False, False, True, True, False, False]
    np.testing.assert_allclose(report["darker"].size, [0.1, 0.1, 0.1, 0.1, 0.1, 0], atol=1e-6)
    np.testing.assert_allclose(report.sizes(), [np.nan, np.nan, 0.1, 0.1, np.nan, np.nan], atol=1e-6)
    assert report.interval("darker") == interval(4, 6)
    assert report.interval("clean", method="exact", confidence=0.9) == interval(5, 6, "exact", 0.9)


def test_table_and_classes_by_hand(report):
    table = report.table()
    assert table.index.tolist() == ["clean", "brighter", "darker", "worst case"]
    assert table["correct"].tolist() == [5, 4, 4, 3] and table["of"].tolist() == [6] * 4
    assert table["broken"].tolist()[1:] == [1, 1, 2] and table["of correct"].tolist()[1:] == [5] * 3
    assert table.loc["clean", ["broken", "success %", "median size"]].isna().all()
    np.testing.assert_allclose(table["accuracy %"], np.array([5, 4, 4, 3]) / 6 * 100)
    np.testing.assert_allclose(table["success %"][1:], [20, 20, 40])
    np.testing.assert_allclose(
        table.loc["worst case", ["low %", "high %"]].astype(float), 100 * np.array(interval(3, 6))
    )
    np.testing.assert_allclose(table["median size"][1:], 0.1, atol=1e-6)
    classes = report.per_class()
    assert classes.loc[0, ["of", "clean", "robust"]].tolist() == [4, 3, 2]
    assert classes.loc[1, ["of", "clean", "robust"]].tolist() == [2, 2, 1]
    np.testing.assert_allclose(classes["clean %"], [75, 100])
    np.testing.assert_allclose(
        classes.loc[1, ["robust %", "low %", "high %"]], [50, *(100 * np.array(interval(1, 2)))]
    )


def test_the_typical_size_is_a_median():
    def across(model, x, y):  # just over the boundary; the last image is wrong already
        return np.where(right(model, x, y), np.where(x < 0.5, np.float32(0.51), np.float32(0.49)), x)

    report = evaluate(grey_model, X, Y, {"across": across}, norm="linf", eps=0.5)
    np.testing.assert_allclose(report.sizes("across"), [0.41, 0.21, 0.06, 0.06, 0.21, np.nan], atol=1e-6)
    assert report.median_size("across") == pytest.approx(0.21, abs=1e-6)  # the mean is 0.19
    assert report.table().loc["across", "median size"] == pytest.approx(0.21, abs=1e-6)


def test_shown_the_same_twice(report):
    again = evaluate(grey_model, X, Y, {"brighter": brighter, "darker": darker}, norm="linf", eps=0.1)
    assert repr(report) == repr(again) and report._repr_html_() == again._repr_html_() and report == again
    assert "6 images, 5 correct before any attack; budget L∞, ε = 0.1" in repr(report)
    assert "83.3 %" in repr(report) and "≈ 83.3 %" not in repr(report)  # clean: the same on every machine
    assert "≈ 66.7 %" in repr(report) and "≈ 40.0 %" in repr(report)
    upper = evaluate(grey_model, X, Y, {"A": brighter}, norm="linf", eps=0.1)  # sorts before "clean"
    assert repr(upper).count("≈ 20.0 %") == 2  # of the attack, and of the worst case


# --- Identities that hold for every model and attack


def random_case(seed, n=200):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3, 3, 1), dtype=np.float32)
    w = rng.normal(size=(9, 4)).astype(np.float32)

    def model(x):
        return (np.reshape(np.asarray(x), (-1, 9)) - 0.5) @ w

    y = np.where(rng.random(n) < 0.8, model(x).argmax(axis=1), rng.integers(0, 4, n))

    def push(direction, model, x, y):
        return np.where(right(model, x, y), np.clip(x + np.float32(0.2) * np.sign(direction), 0, 1), x)

    attacks = {f"a{i}": partial(push, rng.normal(size=(1, 3, 3, 1)).astype(np.float32)) for i in range(3)}
    return model, x, y, attacks


@pytest.mark.parametrize("seed", range(5))
def test_identities(seed):
    model, x, y, attacks = random_case(seed)
    report = evaluate(model, x, y, attacks, norm="linf", eps=0.2)
    assert not report.flags and 0 < report.robust_accuracy < report.clean_accuracy < 1
    for name in [*attacks, "worst case"]:  # accuracy = clean · (1 − success rate)
        assert report.accuracy(name) == pytest.approx(
            report.clean_accuracy * (1 - report.success_rate(name)), abs=1e-12
        )
    smallest = min(report.accuracy(name) for name in attacks)
    assert report.robust_accuracy < smallest  # the worst case per image, not the minimum of averages
    worst = np.all([report.still_correct(name) for name in attacks], axis=0)
    assert report.robust_accuracy == worst.mean()


def test_more_attacks_never_raise_robustness():
    model, x, y, attacks = random_case(7)
    last = 1.0
    for k in range(1, 4):
        now = evaluate(model, x, y, dict(list(attacks.items())[:k]), norm="linf", eps=0.2).robust_accuracy
        assert now <= last
        last = now
    twice = evaluate(model, x, y, {**attacks, "again": attacks["a0"]}, norm="linf", eps=0.2)
    assert twice.robust_accuracy == last and twice.accuracy("again") == twice.accuracy("a0")


def test_order_of_the_images_is_irrelevant():
    model, x, y, attacks = random_case(3)
    order = np.random.default_rng(0).permutation(len(x))
    one = evaluate(model, x, y, attacks, norm="linf", eps=0.2)
    other = evaluate(model, x[order], y[order], attacks, norm="linf", eps=0.2)
    pd.testing.assert_frame_equal(one.table(), other.table())
    pd.testing.assert_frame_equal(one.per_class(), other.per_class())
    for name in attacks:
        assert np.array_equal(one[name].prediction[order], other[name].prediction)
        assert np.array_equal(one[name].size[order], other[name].size)


@pytest.mark.parametrize("norm, size", [("linf", 0.3), ("l2", 0.5), ("l1", 0.7), ("l0", 2)])
def test_sizes_of_each_norm(norm, size):
    def two_pixels(model, x, y):
        x = x.copy()
        x[:, 0, 0, 0] += np.float32(0.4)  # 0.3, 0.4: sizes 0.4, 0.5, 0.7, 2
        x[:, 1, 1, 0] -= np.float32(0.3)
        return x

    half = np.full((1, 2, 2, 1), 0.5, np.float32)
    allowed = {"linf": 0.4}.get(norm, size)
    report = evaluate(grey_model, half, [0], {"a": two_pixels}, norm=norm, eps=allowed)
    assert report["a"].size == pytest.approx([allowed], abs=1e-6) and report["a"].feasible.all()
    report = evaluate(grey_model, half, [0], {"a": two_pixels}, norm=norm, eps=allowed * 0.99)
    assert not report["a"].feasible.any() and report.flags[0].colour == "red"


# --- Attacks that cheat


def caught(attack, norm="linf", eps=0.1):
    """The Report of an honest attack and this one."""
    return evaluate(grey_model, X, Y, {"honest": brighter, "cheat": attack}, norm=norm, eps=eps)


def test_outside_the_ball_is_a_failure_and_flagged():
    report = caught(partial(towards_the_boundary, eps=0.3))  # would break 4 images with the larger budget
    assert report["cheat"].feasible.tolist() == [False] * 5 + [True]
    assert report.accuracy("cheat") == report.clean_accuracy and report.success_rate("cheat") == 0
    assert report.robust_accuracy == report.accuracy("honest")
    (flag,) = report.flags
    assert (flag.colour, flag.name) == ("red", "cheat: outside the ball")
    assert "5 of 6 images" in flag.seen and "0.3" in flag.seen


def test_a_point_outside_fails_even_if_the_model_changes_its_mind():
    calls = []

    def random_model(x):  # a stand-in for a defence with a random layer
        calls.append(1)
        return grey_model(x) if len(calls) == 1 else -grey_model(x)

    attacks = {"too far": lambda model, x, y: np.clip(x + np.float32(0.3), 0, 1)}
    report = evaluate(random_model, X, Y, attacks, norm="linf", eps=0.1)
    assert len(calls) == 2 and report["too far"].feasible.tolist() == [False] * 5 + [True]
    assert not report.broken("too far").any()


def test_only_the_points_outside_fail():
    def some(model, x, y):
        x_adv = brighter(model, x, y)
        x_adv[:2] += np.float32(0.5)
        return x_adv

    report = caught(some)
    assert report["cheat"].feasible.tolist() == [False, False, True, True, True, True]
    assert report.broken("cheat").tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("norm, eps, over", [("linf", 0.1, 2e-6), ("l2", 0.1, 2e-5), ("l1", 0.4, 2e-4)])
def test_tolerance(norm, eps, over):
    def step(extra, model, x, y):
        side = {"linf": 1, "l2": 2, "l1": 4}[norm]
        return (x + np.float32((eps + extra) / side)).astype(np.float32)

    half = np.full((1, 2, 2, 1), 0.5, np.float32)
    for extra, fine in ((0, True), (over / 10, True), (over, False)):
        report = evaluate(grey_model, half, [0], {"a": partial(step, extra)}, norm=norm, eps=eps)
        assert report["a"].feasible.all() == fine, extra


@pytest.mark.parametrize(
    "value, seen",
    [(1.02, "up to 0.02"), (-0.5, "up to 0.5"), (-1e-30, "up to 1e-30"), (1 + 1e-7, "up to 1.19")],
)
def test_outside_the_box(value, seen):
    def leave(model, x, y):
        x = x.copy()
        x[2] = value
        return x

    report = caught(leave, eps=1)
    assert not report["cheat"].feasible[2] and report["cheat"].feasible.sum() == 5
    assert not report.broken("cheat").any()
    (flag,) = report.flags
    assert (flag.colour, flag.name) == ("red", "cheat: outside the box") and seen in flag.seen


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(norm, value):
    def poison(model, x, y):
        x = x.copy()
        x[2, 0, 0, 0] = value
        return x

    report = caught(poison, norm, 0.1)
    assert report["cheat"].feasible.tolist() == [True, True, False, True, True, True]
    assert np.isnan(report["cheat"].size[2]) and not report.broken("cheat").any()
    assert [f.name for f in report.flags if f.name.startswith("cheat")] == ["cheat: not finite"]


def test_writing_into_x_is_noticed_and_does_no_harm():
    def in_place(model, x, y):
        x += np.float32(0.3)  # outside the ball, and x_adv − x would be 0
        y[:] = 1 - y
        return x

    x, y = X.copy(), Y.copy()
    report = evaluate(grey_model, x, y, {"cheat": in_place, "honest": brighter}, norm="linf", eps=0.1)
    assert np.array_equal(x, X) and np.array_equal(y, Y)
    assert [f.name for f in report.flags if f.colour == "red"] == [
        "cheat: outside the ball",
        "cheat: outside the box",
    ]
    assert "cheat: changed its input" in [f.name for f in report.flags if f.colour == "amber"]
    assert report.accuracy("honest") == 4 / 6


def test_a_buffer_used_twice_does_not_overwrite_a_result():
    buffer = np.empty_like(X)

    def lazy(f, model, x, y):
        buffer[:] = f(model, x, y)
        return buffer

    report = evaluate(
        grey_model, X, Y, {"up": partial(lazy, brighter), "down": partial(lazy, darker)}, norm="linf", eps=0.1
    )
    assert np.array_equal(report["up"].x_adv, brighter(grey_model, X, Y)) and report.robust_accuracy == 3 / 6


@pytest.mark.parametrize(
    "returned, error, words",
    [
        (
            lambda x: x[:3],
            ValueError,
            r"'bad' returned float32 array of shape \(3, 2, 2, 1\).*\(6, 2, 2, 1\)",
        ),
        (lambda x: x[..., 0], ValueError, r"\(6, 2, 2\)"),
        (lambda x: (x * 255).astype("uint8"), TypeError, r"uint8 array"),
        (lambda x: None, TypeError, r"'bad' returned object"),
    ],
)
def test_what_is_no_array_of_images(returned, error, words):
    with pytest.raises(error, match=words) as caught:
        evaluate(
            grey_model, X, Y, {"fine": brighter, "bad": lambda model, x, y: returned(x)}, norm="linf", eps=0.1
        )
    assert list(caught.value.report.outcomes) == ["fine"]


def test_flags_that_an_attack_raises_are_kept_and_other_warnings_pass():
    flag = Flag("amber", "made up", "3 of 6 images", "nothing", "nothing")

    def warns(model, x, y):
        raise_flag(flag)
        raise_flag(flag)
        warnings.warn("of another kind", RuntimeWarning, stacklevel=1)
        return x

    with pytest.warns(RuntimeWarning, match="of another kind") as shown:
        report = evaluate(grey_model, X, Y, {"a": warns, "b": brighter}, norm="linf", eps=0.1)
    assert not [w for w in shown if w.category is FlagWarning]
    assert [f.seen for f in report.flags] == ["a: 3 of 6 images"] * 2
    assert report.flags[0].name == "made up"
    with pytest.warns(FlagWarning, match="made up") as shown:
        warns(grey_model, X, Y)
    assert shown[0].message.flag is flag and shown[0].filename == __file__


def test_float64_is_rounded_and_flagged():
    report = caught(lambda model, x, y: brighter(model, x, y).astype("float64"))
    assert [(f.colour, f.name) for f in report.flags] == [("amber", "cheat: another dtype")]
    assert report["cheat"].x_adv.dtype == np.float32 and report.accuracy("cheat") == 4 / 6


@pytest.mark.parametrize("error", [RuntimeError("out of ideas"), KeyboardInterrupt()])
def test_what_was_computed_survives_an_attack_that_raises(error):
    def stops(model, x, y):
        raise error

    with pytest.raises(type(error)) as caught:
        evaluate(grey_model, X, Y, {"up": brighter, "stops": stops, "down": darker}, norm="linf", eps=0.1)
    assert caught.value is error and any("'stops'" in note and "up" in note for note in error.__notes__)
    assert error.report == evaluate(grey_model, X, Y, {"up": brighter}, norm="linf", eps=0.1)


def test_images_that_were_wrong_are_not_robust_whatever_happens():
    def mends(model, x, y):
        return (1 - x).astype(np.float32)  # the misclassified image becomes right, the others wrong

    report = evaluate(grey_model, X, Y, {"mends": mends}, norm="linf", eps=1)
    assert report["mends"].prediction[5] == Y[5] and not report.still_correct("mends")[5]
    assert report.robust_accuracy == 0
    (flag,) = report.flags
    assert flag.colour == "amber" and "already wrong" in flag.name and "1 of 1 images" in flag.seen


def test_no_image_correct():
    report = evaluate(
        grey_model, X, 1 - Y * 0 - (GREYS > 0.5), {"up": lambda m, x, y: x}, norm="linf", eps=0.1
    )
    assert report.clean_accuracy == report.robust_accuracy == 0 and np.isnan(report.success_rate("up"))
    assert [f.name for f in report.flags] == ["no image correct"] and "none correct" in repr(report)
    assert report.table()["success %"].isna().all()


def test_a_model_that_returns_nan():
    def fragile(x):
        z, x = grey_model(x), np.asarray(x)
        z[(x.max(axis=(1, 2, 3)) > 0.75) | (x.min(axis=(1, 2, 3)) < 0.05)] = np.nan
        return z

    report = evaluate(fragile, X, Y, {"up": brighter}, norm="linf", eps=0.1)
    # the last image has no class to begin with; the fifth (0.7 → 0.8) loses its own, the third is broken
    assert report.prediction.tolist() == [0, 0, 0, 1, 1, -1]
    assert report["up"].prediction.tolist() == [0, 0, 1, 1, -1, -1]
    assert report.accuracy("up") == 3 / 6
    seen = [
        flag.seen for flag in report.flags if (flag.colour, flag.name) == ("red", "the model returned NaN")
    ]
    assert seen == ["clean: no class for 1 of 6 images", "up: no class for 1 of 6 images"]


# --- Bad input


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"attacks": {}}, ValueError, "attacks is empty"),
        ({"attacks": [brighter]}, TypeError, "dict from names to attacks"),
        ({"attacks": {"clean": brighter}}, ValueError, "'clean'"),
        ({"attacks": {"worst case": brighter}}, ValueError, "'worst case'"),
        ({"attacks": {1: brighter}}, ValueError, "called 1"),
        ({"attacks": {"a": "pgd"}}, TypeError, "'a' is str 'pgd'"),
        ({"eps": 8.0}, ValueError, r"eps=8.0: an L∞ budget.*8/255"),
        ({"eps": -0.1}, ValueError, "eps=-0.1"),
        ({"eps": "0.1"}, TypeError, "eps"),
        ({"eps": np.nan}, ValueError, "eps=nan"),
        ({"norm": "l3"}, ValueError, "'l3'.*'linf', 'l2', 'l1', 'l0'"),
        ({"y": Y[:3]}, ValueError, r"y has shape \(3,\)"),
        ({"y": np.eye(2)[Y]}, ValueError, "one-hot"),
        ({"y": Y + 1}, ValueError, "labels from 1 to 2"),
        ({"y": Y.astype(float)}, TypeError, "integer labels"),
        ({"x": X * 255}, ValueError, "pixels from"),
        ({"x": X.astype("float64")}, TypeError, "float64"),
        ({"x": X[0]}, ValueError, r"\(2, 2, 1\)"),
        ({"x": X[:0]}, ValueError, "at least one image"),
        ({"x": np.where(X > 0.8, np.nan, X).astype("float32")}, ValueError, "NaN"),
        ({"model": lambda x: np.full((len(x), 2), 0.5)}, ProbabilitiesNotLogitsError, "as_logits"),
        ({"model": 3}, TypeError, "model"),
    ],
)
def test_bad_input(change, error, words):
    def never(model, x, y):
        raise AssertionError("an attack ran on bad input")

    good = {"model": grey_model, "x": X, "y": Y, "attacks": {"never": never}, "norm": "linf", "eps": 0.1}
    with pytest.raises(error, match=words):
        evaluate(**{**good, **change})


def test_names_that_do_not_exist(report):
    for ask in (report.accuracy, report.success_rate, report.sizes, report.interval, report.__getitem__):
        with pytest.raises(ValueError, match=r"'pgd'.*'brighter'"):
            ask("pgd")


# --- Intervals


def test_intervals_of_the_literature():
    for k, n, method, expected in (
        (900, 1000, "wilson", (0.87985, 0.91709)),
        (900, 1000, "exact", (0.87971, 0.91789)),
        (0, 1000, "wilson", (0, 0.00383)),
        (0, 1000, "exact", (0, 0.00368)),
        (45, 50, "wilson", (0.7864, 0.9565)),
        (97, 100, "exact", (0.91482, 0.99377)),
    ):
        assert interval(k, n, method) == pytest.approx(expected, abs=6e-6 if n > 50 else 6e-5)


def test_wilson_by_its_formula():
    k, n, z = 37, 120, 1.959963984540054
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert interval(k, n) == pytest.approx((centre - half, centre + half), abs=1e-12)
    assert interval(k, n, confidence=0.99)[0] < interval(k, n)[0] < interval(k, n, confidence=0.9)[0]


@pytest.mark.parametrize(
    "arguments",
    [(3, 2), (-1, 5), (0, 0), (1.5, 5), (True, 5), (1, 5, "wald"), (1, 5, "wilson", 1), (1, 5, "wilson", 0)],
)
def test_intervals_refuse(arguments):
    with pytest.raises((ValueError, TypeError), match="expected"):
        interval(*arguments)


# --- Curves


@pytest.mark.parametrize("cumulative", [True, False])
def test_curve_equals_the_distances(cumulative):
    eps_values = [0.3, 0, 0.02, 0.1, 0.25, 0.45, 0.1]  # unsorted, one twice
    table = curve(
        grey_model, X, Y, towards_the_boundary, norm="linf", eps_values=eps_values, cumulative=cumulative
    )
    distance = np.where(grey_model(X).argmax(axis=1) == Y, np.abs(GREYS - 0.5), 0)
    assert table["eps"].tolist() == sorted(set(eps_values))
    assert (
        table["correct"].tolist() == [int((distance > e).sum()) for e in table["eps"]] == [5, 5, 3, 1, 1, 0]
    )
    assert (table["n"] == 6).all() and (table["infeasible"] == 0).all()
    np.testing.assert_array_equal(table["accuracy"], table["correct"] / 6)
    assert [tuple(row) for row in table[["low", "high"]].to_numpy()] == [
        interval(k, 6) for k in table["correct"]
    ]
    for e in table["eps"][1:]:
        report = evaluate(grey_model, X, Y, {"a": partial(towards_the_boundary, eps=e)}, norm="linf", eps=e)
        assert report.robust_accuracy == table.set_index("eps").loc[e, "accuracy"]


def test_a_cumulative_curve_attacks_only_what_stands():
    seen = []

    def fickle(model, x, y, *, eps):
        seen.append(len(x))
        return towards_the_boundary(model, x, y, eps) if eps < 0.2 else x  # fails at large budgets

    args = (grey_model, X, Y, fickle)
    down = curve(*args, norm="linf", eps_values=[0, 0.1, 0.25, 0.3])
    assert down["correct"].tolist() == [5, 3, 3, 3] and seen == [5, 3, 3]
    seen.clear()
    afresh = curve(*args, norm="linf", eps_values=[0, 0.1, 0.25, 0.3], cumulative=False)
    assert afresh["correct"].tolist() == [5, 3, 5, 5] and seen == [6, 6, 6]


def test_a_strength_that_is_no_budget_is_measured_afresh():
    """A shift by the whole width is the identity: no ball of a weaker shift lies in it."""

    def shift(model, x, y, *, eps):
        return np.roll(x, round(eps), axis=2)

    def left_is_bright(x):
        above = 10 * (np.asarray(x)[:, :, 0].mean(axis=(1, 2)) - 0.5)
        return np.stack([-above, above], axis=1).astype(np.float32)

    x = np.zeros((3, 4, 4, 1), np.float32)
    x[:, :, 0] = 1
    table = curve(left_is_bright, x, np.ones(3, int), shift, norm=None, eps_values=[0, 1, 4])
    assert table["correct"].tolist() == [3, 0, 3] and table.attrs["norm"] is None
    wrong = curve(left_is_bright, x, np.ones(3, int), shift, norm=None, eps_values=[0, 1, 4], cumulative=True)
    assert wrong["correct"].tolist() == [3, 0, 0]


def test_a_curve_trusts_no_attack():
    def too_far(model, x, y, *, eps):
        return towards_the_boundary(model, x, y, 2 * eps)

    with pytest.warns(RuntimeWarning, match="5 at ε = 0.1"):
        table = curve(grey_model, X, Y, too_far, norm="linf", eps_values=[0, 0.1])
    assert table["correct"].tolist() == [5, 5] and table["infeasible"].tolist() == [0, 5]

    def out_of_the_box(model, x, y, *, eps):
        return x + np.float32(eps)

    # a strength has no ball, but the box remains
    with pytest.warns(RuntimeWarning, match="1 at ε = 0.3"):
        table = curve(grey_model, X, Y, out_of_the_box, norm=None, eps_values=[0.3], cumulative=False)
    assert table["infeasible"].tolist() == [1] and table["correct"].tolist() == [3]


def test_a_curve_shows_the_flags_of_all_budgets_once():
    """Here the model loses its answer to the fifth image at ε = 0.1 and to two more at 0.3; the last has none at all."""

    def fragile(x):
        z, x = grey_model(x), np.asarray(x)
        z[x.max(axis=(1, 2, 3)) > 0.75] = np.nan
        return z

    def attack(model, x, y, *, eps):
        raise_flag(Flag("amber" if eps < 0.2 else "red", "wide", f"{eps:g}", "wide", "less"))
        return np.clip(x + np.float32(eps), 0, 1)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        curve(fragile, X, Y, attack, norm="linf", eps_values=[0, 0.1, 0.3], cumulative=False)
    assert all(w.category is FlagWarning and w.filename == __file__ for w in shown[-2:])
    wide, nan = (w.message.flag for w in shown[-2:])
    assert (wide.colour, wide.seen) == ("red", "0.3") and [w.category for w in shown].count(FlagWarning) == 2
    assert (nan.colour, nan.seen) == ("red", "no class for 1 of 6 images and 3 of 12 attacked points")


def test_an_example_of_a_label_is_one():
    with pytest.raises(ValueError, match=r"from 0 to 4: 0 to 3 was expected, for example 3$"):
        check_labels(np.arange(5), 5, 4)


def test_a_strength_is_no_budget():
    table = curve(
        grey_model, X, Y, lambda m, x, y, eps: x * 0, norm=None, eps_values=[0, 5.0], cumulative=False
    )
    assert table["correct"].tolist() == [5, 3]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"eps_values": []}, "eps_values"),
        ({"eps_values": 0.1}, "eps_values"),
        ({"eps_values": [0.1, 2]}, "eps=2"),
        ({"attack": "pgd"}, "attack is str"),
        ({"norm": "l7"}, "'l7'"),
        ({"norm": None, "eps_values": [-1]}, "eps=-1"),
    ],
)
def test_curve_refuses(change, words):
    good = {"attack": brighter, "norm": "linf", "eps_values": [0.1]}
    with pytest.raises((ValueError, TypeError), match=words):
        curve(grey_model, X, Y, **{**good, **change})


# --- Stored


def test_saved_and_loaded(report, tmp_path):
    def poison(model, x, y):
        x = x.copy()
        x[1] = np.nan
        return x

    report = evaluate(grey_model, X, Y, {"up": brighter, "ä/b": poison}, norm="l2", eps=0.2)
    path = tmp_path / "report.npz"
    report.save(path)
    again = Report.load(path)
    assert (
        again == report
        and repr(again) == repr(report)
        and again.flags == report.flags
        and len(report.flags) == 1
    )
    for name, outcome in report.outcomes.items():
        for key in ("prediction", "size", "feasible", "x_adv"):
            a, b = getattr(outcome, key), getattr(again[name], key)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert outcome.seconds == again[name].seconds > 0
    assert [p.name for p in tmp_path.iterdir()] == ["report.npz"]


def test_equality_sees_every_part(report):
    assert report != 3
    for change in (
        lambda r: r.flags.append(Flag("green", "a", "b", "c", "d")),
        lambda r: r.outcomes.pop("darker"),
        lambda r: r["darker"].x_adv.__setitem__((0, 0, 0, 0), 0.5),
        lambda r: r["darker"].feasible.__setitem__(0, False),
        lambda r: setattr(r, "eps", 0.2),
    ):
        other = evaluate(grey_model, X, Y, {"brighter": brighter, "darker": darker}, norm="linf", eps=0.1)
        assert report == other
        change(other)
        assert report != other


def test_damaged_files_are_refused(report, tmp_path):
    path, whole = tmp_path / "report.npz", None
    report.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", whole[:10], whole[: len(whole) // 2], whole[:-1], b"\x80\x04." + whole, b"not a zip file"]
    for position in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            again = Report.load(path)
        except ValueError as error:
            assert str(path) in str(error) and "Report.save" in str(error)
            refused += 1
        else:
            assert again == report  # the byte that was flipped says nothing, such as a date
    assert refused > 100


def test_files_of_another_kind_are_refused(report, tmp_path):
    path = tmp_path / "report.npz"
    report.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))

    def write(**changes):
        np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})

    for changes, words in (
        ({"header": None}, "header"),
        ({"header": np.array("{")}, "Expecting"),
        ({"header": np.array(json.dumps(header | {"version": 99}))}, "version 99"),
        ({"header": np.array(json.dumps(header | {"attacks": ["brighter"]}))}, "not those that were saved"),
        ({"y": 1 - arrays["y"]}, "not those that were saved"),
        ({"0.x_adv": arrays["1.x_adv"]}, "not those that were saved"),
        ({"0.x_adv": None}, "not those that were saved"),
        ({"y": np.array([object()] * 6)}, "pickle"),
    ):
        write(**changes)
        with pytest.raises(ValueError, match=words):
            Report.load(path)
    with path.open("wb") as file:  # a single array instead of an archive
        np.save(file, X)
    with pytest.raises(ValueError, match=r"Report\.save"):
        Report.load(path)
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "nothing.npz")


def test_loading_runs_no_code(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    (tmp_path / "bomb.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError):
        Report.load(tmp_path / "bomb.npz")
    assert not (tmp_path / "ran").exists()


def test_a_stored_report_is_read_without_tensorflow(report, tmp_path):
    report.save(tmp_path / "report.npz")
    program = (
        "import sys; from advlib.robustness import Report, compare; r = Report.load(sys.argv[1]); r.plot(); "
        "print(compare(r, r), r, r.table(), r.to_json()[:1]); assert 'tensorflow' not in sys.modules"
    )
    call = [sys.executable, "-X", "utf8", "-c", program, str(tmp_path / "report.npz")]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stderr


def test_a_failed_save_leaves_the_old_file(report, tmp_path, monkeypatch):
    path = tmp_path / "report.npz"
    report.save(path)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(robustness.np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        report.save(path)
    assert Report.load(path) == report and [p.name for p in tmp_path.iterdir()] == ["report.npz"]


def test_json(report):
    about = json.loads(report.to_json())
    assert about["n"] == 6 and about["norm"] == "linf" and about["y"] == Y.tolist()
    low, high = interval(3, 6)
    worst = {"correct": 3, "of": 6, "accuracy": 0.5, "low": low, "high": high, "broken": 2, "of_correct": 5}
    assert about["summary"]["worst case"] == worst
    assert about["attacks"]["darker"]["prediction"] == [0, 0, 0, 0, 1, 1]
    report["darker"].size[0] = np.nan
    assert json.loads(report.to_json())["attacks"]["darker"]["size"][0] is None


# --- Two Reports


def made(robust, fingerprint="f", eps=0.1, y=None):
    """A Report in which these images are robust."""
    robust = np.asarray(robust)
    y = np.zeros(len(robust), int) if y is None else y
    n, predicted = len(y), np.where(robust, y, y + 1)
    outcome = Outcome(predicted, np.zeros(n), np.ones(n, bool), 0.0, np.zeros((n, 1, 1, 1), "f4"))
    return Report("linf", eps, y, y.copy(), 10, fingerprint, {"a": outcome})


def pair(both, first_only, second_only, neither):
    first = np.repeat([True, True, False, False], [both, first_only, second_only, neither])
    second = np.repeat([True, False, True, False], [both, first_only, second_only, neither])
    return made(first), made(second)


@pytest.mark.parametrize(
    "table, difference, bounds, p",
    [
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, ch. 8 (Cavo et al. 2012)
        ((59, 6, 16, 80), -0.0621, (-0.1186, -0.0046), 0.052479),
        # Newcombe 1998, and Altman et al., Statistics with Confidence, 2000, table 6.2
        ((36, 12, 2, 0), 0.2, (0.0569, 0.3404), 2 * (1 + 14 + 91) / 2**14),
        ((14, 5, 0, 22), 0.1220, (0.0115, 0.2265), 2 / 2**5),
    ],
)
def test_pairs_of_the_literature(table, difference, bounds, p):
    found = compare(*pair(*table))
    assert (found.both, found.first_only, found.second_only, found.neither) == table and found.n == sum(table)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert (found.low, found.high) == pytest.approx(bounds, abs=6e-5)
    assert found.p_value == pytest.approx(p, rel=1e-5)
    assert found.p_value == binomtest(table[1], table[1] + table[2], 0.5).pvalue
    assert found.table().to_numpy().tolist() == [list(table[:2]), list(table[2:])]


def test_turned_round():
    a, b = pair(59, 6, 16, 80)
    one, other = compare(a, b), compare(b, a)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == other.p_value


def test_no_difference_at_all():
    same = compare(*pair(40, 0, 0, 10))
    assert same.difference == 0 and same.p_value == 1 and same.low < 0 < same.high


def test_the_paired_interval_covers():
    rng = np.random.default_rng(0)
    p = np.array([0.6, 0.15, 0.05, 0.2])
    tables, tries = rng.multinomial(300, p, 1000), 1000
    inside = sum(
        low <= p[1] - p[2] <= high
        for low, high in (robustness._paired_interval(*map(int, t)) for t in tables)
    )
    assert 0.93 <= inside / tries <= 0.975  # the standard error of the share is 0.7 points


def test_comparison_is_readable():
    text = repr(compare(*pair(59, 6, 16, 80)))
    assert "≈ -6.2 %" in text and "≈ 16 of 161" in text and "p ≈ 0.052" in text
    assert "p < 0.0001" in repr(compare(*pair(50, 40, 0, 10)))


def test_what_cannot_be_compared():
    a, b = pair(3, 2, 1, 4)
    for other, words in (
        (made(b.still_correct(), fingerprint="g"), "different images"),
        (made(b.still_correct(), y=np.ones(10, int)), "different images or labels"),
        (made(b.still_correct(), eps=0.2), r"ε = 0.1 and L∞, ε = 0.2"),
    ):
        with pytest.raises(ValueError, match=words):
            compare(a, other)
    with pytest.raises(TypeError, match="b is dict"):
        compare(a, {})


def test_fingerprint_is_of_the_images(report):
    attacks = {"up": brighter}
    changed = X.copy()
    changed[0, 0, 0, 0] += np.float32(0.001)
    assert evaluate(grey_model, X, Y, attacks, norm="linf", eps=0.1).fingerprint == report.fingerprint
    assert evaluate(grey_model, changed, Y, attacks, norm="linf", eps=0.1).fingerprint != report.fingerprint


# --- mean |prediction − label|


@pytest.fixture
def probabilities():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 10)) * 3
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return p.astype(np.float32), rng.integers(0, 10, 500)


def test_as_printed_it_is_a_property_of_the_labels(probabilities):
    p, y = probabilities
    expected = np.where(y == 0, 0.1, y - 0.1).mean()
    for any_p in (
        p,
        p[::-1],
        np.full_like(p, 0.1),
        np.eye(10, dtype=np.float32)[y],
        np.eye(10)[(y + 1) % 10],
    ):
        assert robustness.mean_abs_probability_minus_label(any_p, y) == pytest.approx(expected, abs=1e-6)


def test_on_mnist_it_is_4_3630():
    y = data.load("mnist").y_test
    value = robustness.mean_abs_probability_minus_label(np.full((len(y), 10), 0.1), y)
    assert round(value, 4) == 4.3630


def test_onehot_is_a_confidence_error(probabilities):
    p, y = probabilities
    value = robustness.mean_abs_probability_minus_onehot(p, y)
    assert value == pytest.approx((2 * (1 - p[np.arange(500), y]) / 10).mean(), abs=1e-6)
    new = np.random.default_rng(1).permutation(10)  # class c becomes new[c]
    assert robustness.mean_abs_probability_minus_onehot(p[:, np.argsort(new)], new[y]) == pytest.approx(
        value, abs=1e-9
    )


def test_label_distance_depends_on_the_numbering():
    p, y = np.eye(10)[[3, 3, 8]], np.array([3, 4, 3])
    assert robustness.mean_abs_predicted_minus_true_label(p, y) == pytest.approx((0 + 1 + 5) / 3)
    unsure = np.array([[0.6, 0, 0.4], [0.1, 0.2, 0.7]])  # 0 and 2 are predicted, however surely
    assert robustness.mean_abs_predicted_minus_true_label(unsure, np.array([0, 0])) == pytest.approx(1)
    swap = np.arange(10)
    swap[[4, 8]] = [8, 4]
    assert robustness.mean_abs_predicted_minus_true_label(p[:, swap], swap[y]) == pytest.approx(
        (0 + 5 + 1) / 3
    )
    swap[[0, 4, 8]] = [4, 8, 0]
    assert robustness.mean_abs_predicted_minus_true_label(p[:, np.argsort(swap)], swap[y]) == pytest.approx(
        (0 + 5 + 3) / 3
    )


@pytest.mark.parametrize(
    "measure", [getattr(robustness, name) for name in dir(robustness) if name.startswith("mean_abs")]
)
def test_the_measures_refuse(measure, probabilities):
    p, y = probabilities
    for bad_p, bad_y, words in (
        (np.log(p), y, "sum to 1"),
        (p * 0.9, y, "sum to 1"),
        (np.where(p == p.max(), np.nan, p), y, "sum to 1"),
        (p[0], y, "probabilities is"),
        (y, y, "probabilities is"),
        (p, y[:5], "y has shape"),
        (p, np.eye(10)[y], "one-hot"),
        (p, y + 5, "labels from"),
        (p, y.astype(float), "integer"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            measure(bad_p, bad_y)


# --- Flags


def test_flag():
    flag = Flag("red", "outside the ball", "3 of 6 images", "not allowed", "project", "a paper")
    assert str(flag).splitlines()[0] == "red: outside the ball" and "source: a paper" in str(flag)
    assert "source" not in str(Flag("green", "a", "b", "c", "d"))
    assert Flag.from_dict(json.loads(json.dumps(flag.to_dict()))) == flag
    for bad, error in ((("blue", "a", "b", "c", "d"), ValueError), (("red", "", "b", "c", "d"), ValueError),
                       (("red", "a", 3, "c", "d"), TypeError)):  # fmt: skip
        with pytest.raises(error, match="expected"):
            Flag(*bad)
    for bad in ({}, {"colour": "red"}, flag.to_dict() | {"more": "x"}, None):
        with pytest.raises(ValueError, match="no flag"):
            Flag.from_dict(bad)


# --- With the library's own attacks


def test_attacks_of_the_library_are_believed():
    x, y = data.subset(*data.load("mnist")[2:], 64)
    model = models.linear(seed=1)
    y = models.predict_logits(model, x).argmax(axis=1)
    attacks = {"fgsm": partial(fgsm, eps=0.05), "pgd": partial(pgd, eps=0.05, steps=5)}
    report = evaluate(model, x, y, attacks, norm="linf", eps=0.05)
    assert report.flags == [] and report.clean_accuracy == 1
    assert report.success_rate("fgsm") > 0 and report.robust_accuracy <= min(map(report.accuracy, attacks))
    table = curve(model, x, y, partial(pgd, steps=5), norm="linf", eps_values=[0, 0.02, 0.05])
    assert table["correct"].is_monotonic_decreasing
    assert table["correct"].iloc[-1] <= report.still_correct("pgd").sum()


def test_seconds_are_those_of_the_attack():
    def slow(model, x, y):
        time.sleep(0.05)
        return x

    report = evaluate(grey_model, X, Y, {"slow": slow}, norm="linf", eps=0.1)
    assert 0.05 <= report["slow"].seconds < 0.9


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_another_dtype_is_flagged_whichever_it_is(dtype):
    report = evaluate(grey_model, X, Y, {"a": lambda model, x, y: x.astype(dtype)}, norm="linf", eps=0.1)
    assert any(flag.seen.startswith(np.dtype(dtype).name) for flag in report.flags if "dtype" in flag.name)


def test_a_curve_names_the_budgets_that_were_exceeded_and_no_others():
    def far(model, x, y, eps):
        return x + np.float32(0.2 if eps < 0.15 else 0.01)

    with pytest.warns(RuntimeWarning) as shown:
        curve(grey_model, X[:3], Y[:3], far, norm="linf", eps_values=[0.1, 0.3])
    assert "box: 3 at ε = 0.1; they" in str(shown[0].message)


def test_a_report_without_a_part_says_which(report, tmp_path):
    report.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as stored:
        arrays = dict(stored)
    del arrays["header"]
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(ValueError, match=r"not a whole Report.*\(no .header"):
        Report.load(tmp_path / "r.npz")


@pytest.mark.parametrize("field", ["norm", "eps", "attacks", "flags", "classes", "seconds", "fingerprint"])
def test_a_report_whose_header_was_changed_is_refused(field, tmp_path):
    """A budget or an attack's name changed in the file would turn one measurement into another."""
    report = evaluate(grey_model, X, Y, {"pgd": brighter}, norm="linf", eps=0.1)
    report.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as stored:
        arrays = dict(stored)
    head = json.loads(str(arrays.pop("header")))
    other = {
        "norm": "l2",
        "eps": 0.3,
        "attacks": ["AutoAttack"],
        "flags": [],
        "classes": 3,
        "seconds": [0.5],
        "fingerprint": "0",
    }
    head[field] = other[field] if head[field] != other[field] else [*head[field], 1]
    np.savez(tmp_path / "other.npz", header=np.array(json.dumps(head)), **arrays)
    with pytest.raises(ValueError, match=r"not a whole Report.*its contents are not those that were saved"):
        Report.load(tmp_path / "other.npz")
