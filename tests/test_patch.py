"""Adversarial patches: pasted anywhere on any image, judged where they were not trained."""

import numpy as np
import pytest

from advlib import data, models
from advlib._tensorflow import tf
from advlib.attacks import patch
from advlib.attacks.black_box import BlackBox, NoGradientError
from advlib.attacks.patch import Patch, lie, lift, paste, places


def random_patch(size, target=0, rotation=15.0, channels=1, seed=0):
    return Patch(np.random.default_rng(seed).random((size, size, channels), np.float32), target, rotation)


@pytest.mark.parametrize("rotation", [0.0, 15.0, 45.0])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_pixels_outside_the_mask_keep_their_bits(size, rotation, images):
    x = images[0]
    before = x.copy()
    p = random_patch(size, rotation=rotation)
    pasted, mask = p.apply(x, seed=3), p.mask(x, seed=3)
    assert pasted.dtype == np.float32 and pasted.min() >= 0 and pasted.max() <= 1
    assert (pasted[~mask] == x[~mask]).all() and (x == before).all()
    assert (pasted[mask] != x[mask]).mean() > 0.99
    area = mask.sum(axis=(1, 2))
    assert np.abs(area - size**2).max() <= (0 if rotation == 0 else 0.25 * size**2 + 1)
    assert area.mean() == pytest.approx(size**2, rel=0.05)  # none is cut off at a border


def test_upright_it_is_the_patch_itself(images):
    x = images[0]
    p = random_patch(6, rotation=0.0)
    pasted, mask = p.apply(x), p.mask(x)
    for image, m in zip(pasted, mask, strict=True):
        assert (image[m].reshape(6, 6, 1) == p.pixels).all()


def test_a_quarter_turn_is_numpys():
    """Also a patch that is no square of one value, in three colours: rows and columns are not swapped."""
    p = random_patch(4, channels=3)
    x = np.zeros((1, 9, 9, 3), np.float32)
    where = lie(x.shape, 4, np.array([[4.0, 5.0]]), np.array([np.pi / 2]))
    turned = paste(p.pixels, x, *where)[0, 2:6, 3:7]
    assert turned == pytest.approx(np.rot90(p.pixels), abs=1e-6)


def test_places_reach_every_corner_and_differ(images):
    mask = random_patch(5).mask(images[0])
    assert len({m.tobytes() for m in mask}) > 40  # of 64 images
    rng = np.random.default_rng(0)
    upright, _ = places(rng, 20_000, (1, 28, 20, 1), 5, 0.0)
    assert len(np.unique(upright, axis=0)) == 24 * 16  # every place there is
    assert upright.min(axis=0) == pytest.approx(2.5) and upright.max(axis=0) == pytest.approx([25.5, 17.5])
    _, angle = places(rng, 20_000, (1, 28, 28, 1), 5, 15.0)
    assert np.abs(angle).max() == pytest.approx(np.radians(15), rel=0.01) and abs(angle.mean()) < 0.01


def test_same_bits_in_any_company(images):
    x = images[0]
    p = random_patch(7)
    whole = p.apply(x, seed=2)
    assert (p.apply(x[::-1].copy(), seed=2)[::-1] == whole).all()
    assert (np.concatenate([p.apply(x[i : i + 1], seed=2) for i in range(len(x))]) == whole).all()
    assert not (p.apply(x, seed=3) == whole).all()


def test_the_gradient_is_the_transpose():
    """⟨A·p, g⟩ = ⟨p, Aᵀ·g⟩."""
    rng = np.random.default_rng(0)
    shape = (20, 28, 28, 3)
    g = rng.normal(size=shape).astype(np.float32)
    p = rng.random((6, 6, 3), np.float32)
    where = lie(shape, 6, *places(rng, 20, shape, 6, 30.0))
    forward = (paste(p, np.zeros(shape, np.float32), *where) * g).sum()
    assert (p * lift(g, 6, *where)).sum() == pytest.approx(forward, rel=1e-4)


def test_a_trained_patch_beats_noise_at_new_places_on_new_images(mnist_test):
    d = data.load("mnist")
    train = data.subset(d.x_train, d.y_train, 500)
    x, y = mnist_test[0][:500], mnist_test[1][:500]
    net = models.load("mnist-cnn")
    before = train[0].copy()
    trained = patch(net, *train, target=3, size=8, steps=80)
    assert trained.pixels.shape == (8, 8, 1) and trained.pixels.dtype == np.float32 and trained.target == 3
    assert trained.pixels.min() >= 0 and trained.pixels.max() <= 1 and (train[0] == before).all()
    success = np.mean([trained.success(net, x, y, seed=s) for s in range(3)])
    noise = np.mean([random_patch(8, target=3, seed=s).success(net, x, y, seed=s) for s in range(3)])
    assert success > 4 * noise and success > noise + 0.05


def test_success_leaves_out_the_target_class(images, small_net):
    x = images[0]
    z = models.predict_logits(small_net, x).argmax(axis=1)
    target = int(np.bincount(z).argmax())
    p = random_patch(8, target=target)
    hit = models.predict_logits(small_net, p.apply(x, 5)).argmax(axis=1) == target
    y = z.copy()
    y[np.flatnonzero(z != target)[:3]] = (
        target  # of the target class, and taken for another: left out as well
    )
    counts = (z != target) & (y != target)
    assert 0 < counts.sum() < len(x) and p.success(small_net, x, y, seed=5) == hit[counts].mean()
    assert hit[counts].mean() < hit.mean()
    assert np.isnan(p.success(small_net, x, np.full(len(x), target)))


def test_an_answer_of_nan_is_not_the_target():
    def broken(x):
        z = tf.tile([[0.0, 2.0]], (len(x), 1))
        return tf.where(tf.reduce_max(x, axis=(1, 2)) > 0.5, np.nan, z)

    x = np.full((6, 28, 28, 1), 0.4, np.float32)
    bright = Patch(np.ones((8, 8, 1), np.float32), target=0)
    assert bright.success(broken, x, np.ones(6, int)) == 0
    assert bright.success(broken, x + np.float32(0.2), np.ones(6, int)) == 0  # unclassified before, and after


def test_same_seed_same_patch(images, small_net):
    a, b, c = (patch(small_net, *images, target=1, size=5, steps=3, seed=s).pixels for s in (0, 0, 1))
    assert (a == b).all() and not (a == c).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 10}, "target=10.*at most 9"),
        ({"size": 0}, "size=0"),
        (
            {"size": 26},
            "size=26: with a rotation of 15° that is more than images of 28 × 28 .* for example size=22$",
        ),
        ({"size": 28, "rotation": 1}, "size=28: .* for example size=27$"),
        ({"steps": -1}, "steps=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"rotation": 90.0}, "rotation=90"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, words, small_net, images):
    with pytest.raises(ValueError, match=words):
        patch(small_net, *images, **{"target": 3, **options})


def test_places_have_a_whole_number_for_a_seed(images):
    with pytest.raises((TypeError, ValueError), match="a whole number was expected"):
        random_patch(7).apply(images[0], seed=0.5)


@pytest.mark.parametrize(("patched", "given"), [(3, 1), (1, 3)])
def test_a_patch_goes_on_images_of_its_own_channels(patched, given):
    p = random_patch(6, channels=patched)
    with pytest.raises(
        ValueError, match=rf"\(6, 6, {patched}\) on images of shape \(2, 28, 28, {given}\).*for example"
    ):
        p.apply(np.zeros((2, 28, 28, given), np.float32))


def test_bad_input_is_named(small_net, images):
    x, _ = images
    with pytest.raises(ValueError, match="all 64 images are of the target class 3: others were expected"):
        patch(small_net, x, np.full(64, 3), target=3)
    with pytest.raises(NoGradientError):
        patch(BlackBox(small_net), *images, target=3)
