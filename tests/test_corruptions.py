"""Corruptions: range, order, seeds, and what each kind is by its definition."""

import numpy as np
import pandas as pd
import pytest

from advlib import corruptions, models
from advlib.corruptions import KINDS, corrupt, warp


@pytest.fixture(scope="module")
def digits(mnist_test):
    return mnist_test[0][:12]


def test_the_fifteen_kinds_and_identity():
    assert list(KINDS) == [
        "identity", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness",
        "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_shape_range_seed_and_order(kind, digits):
    before = digits.copy()
    x = corrupt(digits, kind)
    assert x.shape == digits.shape and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    assert (digits == before).all()
    assert (corrupt(digits, kind) == x).all() and (corrupt(digits[::-1].copy(), kind)[::-1] == x).all()
    assert (corrupt(digits[3:4], kind)[0] == x[3]).all()
    assert (kind == "identity") == (x == digits).all()
    still = {"identity", "scale", "brightness", "stripe", "canny_edges"}  # nothing random in them
    assert (kind in still) == all((corrupt(digits, kind, seed=s) == x).all() for s in (1, 2, 3, 4))


def test_shot_noise_keeps_the_mean_before_clipping():
    x = np.full((28, 28), 0.4)
    noisy = np.stack([corruptions.shot_noise(x, np.random.default_rng(s)) for s in range(50)])
    assert noisy.mean() == pytest.approx(0.4, abs=0.01) and set(np.unique(np.round(3 * noisy, 9) % 1)) == {0}
    assert noisy.var() == pytest.approx(0.4 / 3, rel=0.05)


def test_impulse_noise_hits_17_percent_half_salt():
    x = (
        np.full((200, 28, 28, 1), 0.5, np.float32)
        + np.linspace(0, 0.01, 200, dtype=np.float32)[:, None, None, None]
    )
    noisy = corrupt(x, "impulse_noise")
    assert (noisy != x).mean() == pytest.approx(0.17, abs=0.005)
    assert (noisy == 1).sum() / ((noisy == 1) | (noisy == 0)).sum() == pytest.approx(0.5, abs=0.02)


def test_turning_there_and_back(digits):
    c, s = np.cos(0.4), np.sin(0.4)
    x = digits[0, ..., 0].astype(float)
    there = warp(x, [[c, -s], [s, c]])
    back = warp(there, [[c, s], [-s, c]])
    assert np.abs(back - x).mean() < 0.05 < np.abs(there - x).mean()


def test_translate_is_an_exact_shift_with_black_behind(digits):
    for image, moved in zip(digits[..., 0], corrupt(digits, "translate")[..., 0], strict=True):
        shifts = []
        for down in (-3, 3):
            for right in (-3, 3):
                expected = np.zeros_like(image)
                rows, columns = (
                    slice(max(down, 0), 28 + min(down, 0)),
                    slice(max(right, 0), 28 + min(right, 0)),
                )
                expected[rows, columns] = image[
                    slice(max(-down, 0), 28 + min(-down, 0)), slice(max(-right, 0), 28 + min(-right, 0))
                ]
                shifts.append(np.allclose(moved, expected, atol=1e-6))
        assert sum(shifts) == 1


def test_geometry_is_about_the_centre_and_shrinks_by_its_factor():
    x = np.zeros((28, 28))
    x[9:19, 9:19] = 1
    for move in (corruptions.scale, corruptions.rotate, corruptions.shear):
        out = move(x, np.random.default_rng(0))
        rows, columns = np.mgrid[:28, :28]
        assert (out * rows).sum() / out.sum() == pytest.approx(13.5, abs=0.05)
        assert (out * columns).sum() / out.sum() == pytest.approx(13.5, abs=0.05)
    assert corruptions.scale(x, None).sum() == pytest.approx(100 * 0.7**2, rel=0.03)


def test_stripe_is_its_own_inverse_and_leaves_the_middle(digits):
    once = corrupt(digits, "stripe")
    assert corrupt(once, "stripe") == pytest.approx(digits, abs=1e-6)
    assert (once[:, :, 7:21] == digits[:, :, 7:21]).all() and once[:, :, :7] == pytest.approx(
        1 - digits[:, :, :7], abs=1e-6
    )


def test_brightness_lifts_every_pixel(digits):
    assert corrupt(digits, "brightness") == pytest.approx(np.minimum(digits + 0.5, 1), abs=1e-6)


def test_blurs_keep_the_light_and_spread_it():
    x = np.zeros((28, 28))
    x[14, 14] = 1
    for blur in (corruptions.glass_blur, corruptions.motion_blur):
        out = blur(x.copy(), np.random.default_rng(0))
        assert out.sum() == pytest.approx(1, abs=1e-3) and out.max() < 0.5
    streak = corruptions.motion_blur(x.copy(), np.random.default_rng(0))
    rows, columns = np.nonzero(streak > 1e-3)
    assert np.ptp(columns) >= 6 and np.ptp(rows) <= np.ptp(columns) + 1


def test_fog_is_smoother_than_noise_and_covers_everything(digits):
    fog = corruptions.plasma((28, 28), 1.4, np.random.default_rng(0))
    assert fog.min() >= 0 and fog.max() <= 1
    near = np.abs(np.diff(fog, axis=0)).mean()
    assert near < 0.5 * np.abs(fog[::14] - np.roll(fog[::14], 7, axis=1)).mean()
    assert corrupt(digits, "fog").mean() > 2 * digits.mean()


def test_a_drawn_line_is_brightest_where_it_runs():
    ink = corruptions.line((28, 28), 0, 5, 27, 20)
    assert (ink.argmax(axis=0)[1:26] == np.rint(5 + 15 / 27 * np.arange(1, 26))).mean() > 0.9
    flat = corruptions.line((28, 28), 0, 10, 27, 10)
    assert flat[10, 5] == 1 and flat[7:14, 5] == pytest.approx(flat[7:14, 5][::-1]) and flat[13, 5] == 0


def test_mean_corruption_error():
    base = pd.Series({"identity": 0.01, "fog": 0.5, "rotate": 0.1})
    assert corruptions.mean_corruption_error(base, base) == 1
    worse = pd.Series({"identity": 0.02, "fog": 0.5, "rotate": 0.3})
    assert corruptions.mean_corruption_error(worse, base) == pytest.approx((1 + 3) / 2)
    relative = (0.48 / 0.49 + 0.28 / 0.09) / 2
    assert corruptions.mean_corruption_error(worse, base, relative=True) == pytest.approx(relative)
    with pytest.raises(ValueError, match="different corruptions"):
        corruptions.mean_corruption_error(worse.drop("fog"), base)
    with pytest.raises(ValueError, match="loses nothing under fog"):
        corruptions.mean_corruption_error(worse, base * [1, 0, 1])


def test_errors_are_those_of_the_corrupted_images(mnist_test):
    x, y = mnist_test[0][:100], mnist_test[1][:100]
    net = models.load("mnist-mlp")

    def misread(x):
        return (models.predict_logits(net, x).argmax(axis=1) != y).mean()

    seen = corruptions.errors(net, x, y, kinds=("identity", "translate"))
    assert list(seen.index) == ["identity", "translate"]
    assert seen["identity"] == misread(x)
    assert seen["translate"] == misread(corrupt(x, "translate")) > 0.3
    other = corruptions.errors(net, x, y, kinds=("translate",), seed=4)
    assert other["translate"] == misread(corrupt(x, "translate", seed=4)) != seen["translate"]
    assert list(corruptions.errors(net, x[:2], y[:2]).index) == list(KINDS)


def test_bad_input_is_named(digits):
    with pytest.raises(ValueError, match=r"kind='snow'.*'fog'"):
        corrupt(digits, "snow")
    with pytest.raises(ValueError, match="3 channels"):
        corrupt(np.repeat(digits, 3, axis=3), "fog")


def test_no_answer_is_an_error(digits):
    never = lambda x: np.full((len(x), 10), np.nan, np.float32)  # noqa: E731
    assert (corruptions.errors(never, digits, np.zeros(12, int), kinds=("identity", "fog")) == 1).all()
