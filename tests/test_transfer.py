"""The transfer matrix: its counts by hand, its diagonal, its noise."""

from functools import partial

import numpy as np
import pytest

from advlib import data, models, norms, training
from advlib.attacks import pgd
from advlib.attacks.transfer import NOISE, transfer
from advlib.robustness import interval


def threshold(level):
    """Class 1 above a mean brightness: (N, 2, 2, 1) → logits (N, 2)."""

    def model(x):
        mean = np.asarray(x).mean(axis=(1, 2, 3))
        return 100 * np.stack([level - mean, mean - level], axis=1).astype(np.float32)

    return model


def grey(*levels):
    return np.stack([np.full((2, 2, 1), level, np.float32) for level in levels])


def test_counts_by_hand():
    """Of five images, right on both: 0.9, 0.8, 0.55 (the second model calls 0.45 dark, and 0.2 is called bright)."""
    x, y = grey(0.9, 0.8, 0.55, 0.45, 0.2), np.array([1, 1, 1, 1, 1])
    low, high = threshold(0.4), threshold(0.5)
    darker = lambda model, x, y: np.clip(x - np.float32(0.1), 0, 1)  # noqa: E731
    m = transfer({"low": low, "high": high}, x, y, darker)
    assert m.count("low", "low") == (1, 4)  # 0.45 falls
    assert m.count("low", "high") == (1, 3)  # 0.55 falls; 0.45 was wrong on the target already
    assert m.count("high", "low") == (0, 3)  # 0.45, which would fall, was wrong on the source
    assert m.count("high", "high") == (1, 3)
    table = m.table().set_index(["source", "target", "perturbation"])
    row = table.loc["low", "high", "attack"]
    assert (row["broken"], row["of"]) == (1, 3) and row["rate %"] == pytest.approx(100 / 3)
    assert (row["low %"] / 100, row["high %"] / 100) == pytest.approx(interval(1, 3))
    assert len(table) == 2 * 2 * 3
    dark = transfer({"low": low, "high": high}, grey(0.45), np.array([0]), darker)
    assert not dark.right("low", "high").any() and not dark.right("high", "low").any()  # wrong for "low"


def test_noise_has_the_size_of_the_perturbation():
    x, y = (
        np.full((6, 8, 8, 1), 0.5, np.float32) + 0.01 * np.arange(6, dtype=np.float32)[:, None, None, None],
        np.ones(6, int),
    )
    seen = []

    def judge(x):
        seen.append(np.array(x))
        return np.tile(np.float32([0, 5]), (len(x), 1))

    delta = np.zeros_like(x)
    delta[:, 2, 2:5] = 0.1 * (1 + np.arange(6)[:, None, None] / 10)
    transfer({"source": judge}, x, y, lambda model, x, y: x + delta)
    batches = [s[:6] - x for s in seen]
    for norm in ("linf", "l2"):
        wanted = norms.get(norm).size(delta).numpy()
        noise = [
            b
            for b in batches
            if (b != 0).all() and norms.get(norm).size(b).numpy() == pytest.approx(wanted, abs=1e-5)
        ]
        assert len(noise) == 1, norm
        assert np.abs(noise[0][0] - noise[0][1]).max() > 0.05  # not the same for every image


def test_the_diagonal_is_the_largest_of_its_column(mnist_test):
    d = data.load("mnist")
    linear = models.linear(seed=0)
    training.fit(linear, d.x_train[:5000], d.y_train[:5000], epochs=2)
    nets = {"mlp": models.load("mnist-mlp"), "cnn": models.load("mnist-cnn"), "linear": linear}
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    m = transfer(nets, x, y, partial(pgd, eps=0.1, steps=20, restarts=2))
    for target in nets:
        column = {source: m.rate(source, target) for source in nets}
        assert max(column, key=column.get) == target, column
        assert column[target] > m.rate(target, target, NOISE[0]) + 0.3
        assert m.rate(target, target, NOISE[1]) <= column[target]
    assert m.rate("mlp", "cnn") < m.rate("cnn", "cnn") - 0.1  # transfer alone overstates robustness
    again = transfer(nets, x, y, partial(pgd, eps=0.1, steps=20, restarts=2))
    assert repr(m) == repr(again) and "≈" in repr(m)


def test_other_targets_than_sources(small_net, images):
    x, y = images
    other = models.mlp(seed=4, width=32)
    m = transfer({"a": small_net}, x, y, partial(pgd, eps=0.05, steps=3), targets={"b": other})
    assert list(m.attacked) == [("a", "b")] and m.count("a", "b")[1] <= 60
    assert "<table" in m._repr_html_() and "95 %" in m._repr_html_()


def test_none_right_on_both(small_net, images):
    x, y = images
    wrong = (y + 1) % 10
    wrong[-4:] = y[-4:]
    m = transfer({"a": small_net}, x[:60], wrong[:60], partial(pgd, eps=0.05, steps=1))
    assert (
        np.isnan(m.rate("a", "a")) and "none right on both" in repr(m) and np.isnan(m.table()["low %"]).all()
    )


def test_a_noise_that_was_not_made_is_named():
    m = transfer({"a": threshold(0.5)}, grey(0.2, 0.7), np.array([0, 1]), lambda model, x, y: x)
    for ask in (m.count, m.rate):
        with pytest.raises(ValueError, match="noise='L2': one of 'noise of equal L∞', 'noise of equal L2'"):
            ask("a", "a", "L2")
        ask("a", "a", NOISE[1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sources": []}, TypeError, "a dict from names to models"),
        ({"sources": {}}, ValueError, "a dict from names to models"),
        ({"sources": {"a": 3}}, TypeError, "a callable from images to logits"),
        ({"sources": {"": threshold(0.5)}}, ValueError, "a name was expected"),
        ({"targets": {"a": threshold(0.1)}}, ValueError, "one model among the sources and another"),
        ({"attack": None}, TypeError, r"a callable \(model, x, y\)"),
        ({"attack": lambda model, x, y: x[:1]}, ValueError, "x's shape"),
        ({"attack": lambda model, x, y: x + 1}, ValueError, r"what the attack returned.*\[0, 1\]"),
        ({"seed": -1}, ValueError, "seed"),
        ({"y": np.array([0, 7])}, ValueError, "0 to 1"),
    ],
)
def test_bad_input_is_named(change, error, words):
    given = {
        "sources": {"a": threshold(0.5)},
        "x": grey(0.2, 0.7),
        "y": np.array([0, 1]),
        "attack": lambda model, x, y: x,
    }
    with pytest.raises(error, match=words):
        transfer(**{**given, **change})
