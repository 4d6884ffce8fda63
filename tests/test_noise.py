"""Noise: its laws, its clipping, its seeds."""

import numpy as np
import pytest

from advlib import losses, models, noise

GREY = (
    np.full((50, 28, 28, 1), 0.5, np.float32)
    + np.linspace(0, 1e-3, 50, dtype=np.float32)[:, None, None, None]
)
BLACK = np.zeros((1, 28, 28, 1), np.float32)


def test_uniform():
    delta = noise.uniform(GREY, 0.1) - GREY
    assert np.abs(delta).max() <= 0.1 + 1e-6 and np.abs(delta).max() > 0.0999
    assert delta.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.01)
    rms = np.sqrt((delta**2).sum(axis=(1, 2, 3)).mean())
    assert rms == pytest.approx(16.1658 * 0.1, rel=0.01)


def test_signs_have_the_size_of_a_sign_step():
    delta = noise.signs(GREY, 0.1) - GREY
    assert np.abs(delta) == pytest.approx(np.full(delta.shape, 0.1), abs=1e-6) and abs(delta.mean()) < 0.002
    assert np.sqrt((delta**2).sum(axis=(1, 2, 3))) == pytest.approx(np.full(50, 2.8), rel=1e-5)


def test_gaussian_before_and_after_clipping():
    delta = noise.gaussian(GREY, 0.1) - GREY
    assert delta.std() == pytest.approx(0.1, rel=0.01) and abs(delta.mean()) < 0.002
    black = np.stack([noise.gaussian(BLACK, 0.2, seed=s) for s in range(50)])
    assert black.mean() == pytest.approx(0.2 * 0.3989, rel=0.02) and black.min() == 0


def test_salt_and_pepper():
    out = noise.salt_and_pepper(GREY, 0.2)
    changed = out != GREY
    n = changed.size
    assert changed.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / n))
    assert set(np.unique(out[changed])) == {0.0, 1.0}
    assert out[changed].mean() == pytest.approx(0.5, abs=0.02)
    colour = noise.salt_and_pepper(np.full((1, 20, 20, 3), 0.5, np.float32), 0.5)
    assert (colour == colour[..., :1]).all()  # all channels together


KINDS = [noise.uniform, noise.signs, noise.gaussian, noise.salt_and_pepper]


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_place_and_input(kind):
    before = GREY.copy()
    whole = kind(GREY, 0.1)
    assert (before == GREY).all() and whole.dtype == np.float32 and whole.min() >= 0 and whole.max() <= 1
    assert (kind(GREY, 0.1) == whole).all() and not (kind(GREY, 0.1, seed=1) == whole).all()
    assert (kind(GREY[::-1].copy(), 0.1)[::-1] == whole).all() and (kind(GREY[7:8], 0.1) == whole[7:8]).all()
    assert not (whole[0] - GREY[0] == whole[1] - GREY[1]).all()
    assert (kind(GREY, 0) == GREY).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [-0.1, "0.1", None, float("nan")])
def test_bad_strengths(kind, strength):
    with pytest.raises((ValueError, TypeError), match="expected, for example"):
        kind(GREY, strength)
    with pytest.raises(TypeError, match="float32"):
        kind((GREY * 255).astype(np.uint8), 0.1)


@pytest.mark.parametrize("kind", ["uniform", "signs", "gaussian"])
def test_best_of_more_draws_is_worse_for_the_model(kind, small_net, images):
    x, y = images
    right = models.predict_logits(small_net, x).argmax(axis=1) == y
    left, loss = [], []
    for draws in (1, 30):
        x_adv = noise.best_of(small_net, x, y, eps=0.3, draws=draws, kind=kind)
        z = models.predict_logits(small_net, x_adv)
        left.append(z.argmax(axis=1) == y)
        loss.append(losses.cross_entropy(z, y).numpy())
        assert (x_adv[~right] == x[~right]).all()
        if kind != "gaussian":
            assert np.abs(x_adv - x).max() <= 0.3 + 1e-6
    assert (left[1] <= left[0]).all() and left[1].sum() < right.sum()
    # the first draw is among the thirty, and seldom the worst of them
    gained = (loss[1] - loss[0])[left[1]]
    assert gained.min() >= 0 and (gained > 0).mean() > 0.5


def test_best_of_refuses():
    with pytest.raises(ValueError, match="kind='salt'"):
        noise.best_of(models.mlp(), GREY, np.zeros(50, int), eps=0.1, kind="salt")
    with pytest.raises(ValueError, match="draws=0"):
        noise.best_of(models.mlp(), GREY, np.zeros(50, int), eps=0.1, draws=0)
