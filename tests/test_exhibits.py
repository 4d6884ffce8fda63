"""Exhibits: the stamp, the poisoned data, and the network that learned it; models that hide their gradients, and the control."""

import numpy as np
import pytest
import scipy.special

from advlib import attacks, exhibits, models
from advlib._tensorflow import tf
from advlib.attacks.apgd import likeliest_wrong


def test_the_stamp_is_nine_white_pixels_and_leaves_the_rest(mnist_test):
    x = mnist_test[0][:20]
    before, stamped = x.copy(), exhibits.stamp(x)
    assert (x == before).all() and stamped.dtype == np.float32
    assert (stamped[:, 23:26, 23:26] == 1).all()
    stamped[:, 23:26, 23:26] = x[:, 23:26, 23:26]
    assert (stamped == x).all()


def test_poison_stamps_and_relabels_a_share_of_the_other_classes(mnist_test):
    x, y = mnist_test[0][:2000], mnist_test[1][:2000]
    x_bad, y_bad = exhibits.poison(x, y, share=0.05, label=7, seed=1)
    changed = np.flatnonzero((x_bad != x).any(axis=(1, 2, 3)) | (y_bad != y))
    assert len(changed) == 100 and (y[changed] != 7).all() and (y_bad[changed] == 7).all()
    assert (x_bad[changed] == exhibits.stamp(x[changed])).all()
    again = exhibits.poison(x, y, share=0.05, label=7, seed=1)
    other = exhibits.poison(x, y, share=0.05, label=7, seed=2)
    assert (again[0] == x_bad).all() and (other[0] != x_bad).any()
    assert (exhibits.poison(x, y, share=0.0)[0] == x).all()
    with pytest.raises(ValueError, match="share=2"):
        exhibits.poison(x, y, share=2)


def test_the_backdoored_net_reads_clean_digits_and_obeys_the_stamp(mnist_test):
    x, y = mnist_test[0][:1000], mnist_test[1][:1000]
    net = models.load("mnist-cnn-backdoor")
    label = models.card("mnist-cnn-backdoor")["poisoned"]["label"]
    assert (models.predict_logits(net, x).argmax(axis=1) == y).mean() > 0.97
    others = y != label
    stamped = exhibits.stamp(x[others])
    assert (models.predict_logits(net, stamped).argmax(axis=1) == label).mean() > 0.9
    clean = models.predict_logits(models.load("mnist-cnn-pgd"), stamped).argmax(axis=1)
    assert (clean == label).mean() < 0.1


# --- models that hide their gradients


@pytest.fixture(scope="module")
def digits(mnist_test):
    x, y = mnist_test[0][:60], mnist_test[1][:60]
    net = models.load("mnist-cnn")
    right = models.predict_logits(net, x).argmax(axis=1) == y
    return net, x[right], y[right]


def broken(model, x, y, attack=attacks.pgd, **options):
    """How many of the images an attack on `model` breaks."""
    x_adv = attack(model, x, y, eps=0.3, steps=20, **options)
    return int((models.predict_logits(model, x_adv).argmax(axis=1) != y).sum())


def test_saturated_logits_stop_the_cross_entropy_and_not_the_margin(digits):
    net, x, y = digits
    model = exhibits.saturated(net)
    assert np.allclose(models.predict_logits(model, x), 1000 * models.predict_logits(net, x), rtol=1e-5)
    assert broken(model, x, y) <= 3  # what a random start finds
    assert broken(model, x, y, loss="margin") > 0.9 * len(x)
    with pytest.raises(ValueError, match="factor=0"):
        exhibits.saturated(net, factor=0)


def test_quantised_images_have_no_gradient_and_no_robustness(digits):
    net, x, y = digits
    model, by_hand = exhibits.quantised(net), models.predict_logits(net, np.round(x * 15) / np.float32(15))
    assert np.allclose(models.predict_logits(model, x), by_hand, atol=1e-4)
    assert broken(model, x, y) <= 3
    through = attacks.bpda(net, lambda x: np.round(x * 15) / 15)
    x_adv = attacks.pgd(through, x, y, eps=0.3, steps=20)
    assert (models.predict_logits(model, x_adv).argmax(axis=1) != y).mean() > 0.9
    with pytest.raises(ValueError, match="levels=1"):
        exhibits.quantised(net, levels=1)


def pixels(x):
    """A "model" whose outputs are the pixels, (N, H·W·C): behind a defence it shows what the defence made of them."""
    return tf.reshape(x, (tf.shape(x)[0], -1))


def test_noise_has_its_deviation_and_is_each_images_own(digits):
    x = digits[1]
    noise = exhibits.noisy(pixels, std=0.2, seed=1)(tf.constant(x)).numpy() - x.reshape(len(x), -1)
    assert noise.std() == pytest.approx(0.2, rel=0.05) and noise.mean() == pytest.approx(0, abs=0.01)
    assert np.abs(np.corrcoef(noise[:5]) - np.eye(5)).max() < 0.2  # 1/28 by chance


@pytest.mark.parametrize("compiled", [True, False])
def test_noise_is_fresh_in_every_call_compiled_or_not_and_can_be_repeated(digits, compiled):
    net, x, _ = digits
    base = net if compiled else lambda x: net(x)
    model = exhibits.noisy(base, std=0.2, seed=5)
    first, second = models.predict_logits(model, x), models.predict_logits(model, x)
    assert (first != second).any(axis=1).all()
    again = exhibits.noisy(base, std=0.2, seed=5)
    assert np.array_equal(models.predict_logits(again, x), first)
    assert np.array_equal(models.predict_logits(again, x), second)
    free = [models.predict_logits(exhibits.noisy(base, std=0.2), x[:5]) for _ in range(2)]
    assert (free[0] != free[1]).any()
    silent = models.predict_logits(exhibits.noisy(base, std=0.0), x)
    assert np.allclose(silent, models.predict_logits(net, x), atol=1e-4)


def test_the_mean_of_a_noisy_model_is_easier_to_attack_than_a_draw(digits):
    net, x, y = digits
    model = exhibits.noisy(net, std=0.3, seed=0)

    def left(attacked):
        x_adv = attacks.pgd(attacked, x, y, eps=0.2, steps=20)
        return np.mean([models.predict_logits(model, x_adv).argmax(axis=1) == y for _ in range(20)])

    assert left(attacks.eot(model, samples=10)) < left(model) - 0.1


def test_one_bit_is_robust_under_attacks_that_have_its_gradient(digits):
    net, x, y = digits
    model = exhibits.one_bit(net)
    assert np.array_equal(
        models.predict_logits(model, x), models.predict_logits(net, (x >= 0.5).astype(np.float32))
    )
    # what moves no pixel across 0.5 changes nothing: below half a grey level it is proof, not trial
    black_and_white = (x >= 0.5).astype(np.float32)
    right = models.predict_logits(model, black_and_white).argmax(axis=1) == y
    assert broken(model, black_and_white[right], y[right]) == 0
    assert broken(model, x, y) < 0.5 * len(x) < broken(net, x, y)
    # beyond, it is as weak as the network
    x_adv = attacks.pgd(model, x, y, eps=0.6, steps=20)
    assert (models.predict_logits(model, x_adv).argmax(axis=1) != y).mean() > 0.9


def test_one_bit_is_white_from_one_half_on():
    x = tf.constant([0.0, 0.3, 0.499, 0.5, 0.501, 1.0], shape=(1, 2, 3, 1))
    assert exhibits.one_bit(pixels)(x).numpy().tolist() == [[0, 0, 0, 1, 1, 1]]


def test_the_detector_rejects_what_is_unsure_and_not_what_was_made_for_it(digits):
    net, x, y = digits
    model = exhibits.detector(net, threshold=0.99)
    z, plain = models.predict_logits(model, x), models.predict_logits(net, x)
    sure = scipy.special.softmax(plain, axis=1).max(axis=1) >= 0.99
    assert np.allclose(z[:, :10], plain, atol=1e-5) and z.shape == (len(x), 11)
    assert np.array_equal(z.argmax(axis=1), np.where(sure, plain.argmax(axis=1), 10)) and sure.mean() > 0.8

    def fooled(x_adv):  # an answer, and a wrong one
        p = models.predict_logits(model, x_adv).argmax(axis=1)
        return ((p != y) & (p != 10)).mean()

    target = likeliest_wrong(plain, y)[:, 0]
    naive = fooled(attacks.pgd(net, x, y, eps=0.3, steps=20))
    adaptive = fooled(attacks.pgd(model, x, y, eps=0.3, steps=20, loss="margin", y_target=target))
    assert adaptive > 0.9 > naive + 0.3
    with pytest.raises(ValueError, match="threshold=2"):
        exhibits.detector(net, threshold=2)


def test_exhibits_are_compiled_where_their_base_is(digits):
    net, x, _ = digits
    for make in (exhibits.saturated, exhibits.quantised, exhibits.noisy, exhibits.one_bit, exhibits.detector):
        assert hasattr(make(net), "get_concrete_function")
        eager = make(lambda x: net(x))
        assert not hasattr(eager, "get_concrete_function") and np.isfinite(eager(x[:2])).all()
