"""Losses: by hand, by finite differences, by their invariances; and the fixture that hides its gradient."""

import numpy as np
import pytest

from advlib import losses
from advlib._tensorflow import tf

RNG = np.random.default_rng(0)
Z = RNG.normal(0, 3, (50, 10)).astype(np.float32)
Y = RNG.integers(0, 10, 50)
T = (Y + RNG.integers(1, 10, 50)) % 10


def every(z, y, t, z_clean):
    return {
        "cross_entropy": lambda z: losses.cross_entropy(z, y),
        "margin": lambda z: losses.margin(z, y),
        "dlr": lambda z: losses.dlr(z, y),
        "cross_entropy_targeted": lambda z: losses.cross_entropy_targeted(z, y, t),
        "margin_targeted": lambda z: losses.margin_targeted(z, y, t),
        "dlr_targeted": lambda z: losses.dlr_targeted(z, y, t),
        "difference": lambda z: losses.difference(z, y, t),
        "kl": lambda z: losses.kl(z, z_clean),
    }


def test_by_hand():
    z = np.array([[2.0, 5.0, 1.0, -1.0]], np.float32)
    log_sum = np.log(np.exp(z[0]).sum())
    assert losses.cross_entropy(z, [0]).numpy()[0] == pytest.approx(log_sum - 2, rel=1e-5)
    assert losses.margin(z, [0]).numpy()[0] == 3
    assert losses.margin(z, [1]).numpy()[0] == -3
    assert losses.dlr(z, [0]).numpy()[0] == pytest.approx(3 / 4)
    assert losses.dlr_targeted(z, [1], [0]).numpy()[0] == pytest.approx(-3 / (5 - (1 - 1) / 2))
    assert losses.margin_targeted(z, [1], [0]).numpy()[0] == -3
    assert losses.cross_entropy_targeted(z, [1], [0]).numpy()[0] == pytest.approx(2 - log_sum, rel=1e-5)
    other = np.array([[2.0, 5.0, 1.0, 4.0]], np.float32)
    assert losses.dlr_targeted(other, [0], [3]).numpy()[0] == pytest.approx((4 - 2) / (5 - (2 + 1) / 2))
    assert losses.dlr(other[:, :3], [0]).numpy()[0] == pytest.approx(3 / 4)  # three classes are enough
    # from label 0 to target 2 past the largest, 1; and to target 1, beyond the boundary of the pair
    assert losses.margin_targeted(z, [0], [2]).numpy()[0] == 1 - 5
    assert losses.difference(z, [0], [2]).numpy()[0] == 1 - 2
    assert losses.difference(z, [0], [1]).numpy()[0] == 5 - 2


@pytest.mark.parametrize("name", every(Z, Y, T, Z))
def test_a_loss_does_not_depend_on_the_company(name):
    alone = [
        every(Z[i : i + 1], Y[i : i + 1], T[i : i + 1], Z[-1:])[name](Z[i : i + 1]).numpy()[0]
        for i in range(5)
    ]
    together = every(Z[:5], Y[:5], T[:5], np.repeat(Z[-1:], 5, axis=0))[name](Z[:5]).numpy()
    assert together == pytest.approx(np.array(alone), rel=1e-5)


def test_margin_of_all_negative_logits():
    """Masking by multiplication would take the true class's zero for the largest."""
    assert losses.margin(np.array([[-5.0, -7.0, -9.0]], np.float32), [0]).numpy()[0] == -2


@pytest.mark.parametrize("name", every(Z, Y, T, Z))
def test_gradient_by_finite_differences(name):
    z = tf.constant(Z[:8], tf.float64)
    loss = every(z, Y[:8], T[:8], tf.constant(Z[8:16], tf.float64))[name]
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(loss(z))
    gradient = tape.gradient(value, z).numpy()
    for k in range(10):
        h = np.zeros((8, 10))
        h[:, k] = 1e-6
        slope = (loss(z + h) - loss(z - h)).numpy() / 2e-6
        assert slope == pytest.approx(gradient[:, k], abs=1e-6)


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_positive_exactly_where_the_model_is_wrong(name):
    value = every(Z, Y, T, Z)[name](Z).numpy()
    assert ((value > 0) == (Z.argmax(axis=1) != Y)).all()
    if name == "dlr":
        right = Z.argmax(axis=1) == Y
        assert value[right].min() >= -1 and value[right].max() <= 0


def test_dlr_is_invariant_to_scale_and_shift_and_the_others_are_not():
    scaled = (Z * 8 + 4).astype(np.float32)
    for name, loss in every(Z, Y, T, Z).items():
        same = np.allclose(loss(Z).numpy(), loss(scaled).numpy(), rtol=1e-4)
        assert same == name.startswith("dlr"), name


def test_kl_of_equal_logits_is_zero_and_otherwise_positive():
    assert losses.kl(Z, Z).numpy() == pytest.approx(np.zeros(50), abs=1e-6)
    p, q = (tf.nn.softmax(v.astype(np.float64)).numpy() for v in (Z, Z[::-1].copy()))
    assert losses.kl(Z[::-1].copy(), Z).numpy() == pytest.approx((p * np.log(p / q)).sum(axis=1), rel=1e-4)


@pytest.mark.parametrize(("loss", "classes"), [("dlr", 2), ("dlr_targeted", 3)])
def test_too_few_classes_say_so(loss, classes):
    z = Z[:, :classes].copy()
    with pytest.raises(
        ValueError, match=f"model with {classes} classes: at least {classes + 1} were.*use loss='margin'"
    ):
        every(z, Y % classes, (Y + 1) % classes, z)[loss](z)


def test_where_the_largest_logits_tie_a_wrong_answer_is_still_positive():
    z = np.float32([[0, 1, 1, 1, 1]])
    assert losses.dlr(z, [0]).numpy()[0] > 0 and losses.dlr_targeted(z, [0], [1]).numpy()[0] > 0


def test_large_logits_hide_the_gradient_of_cross_entropy_and_of_no_other():
    z, y = tf.constant(Z * 1000), Z.argmax(axis=1)
    gradients = {}
    for name in ("cross_entropy", "margin", "dlr"):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_sum(every(z, y, T, z)[name](z))
        gradients[name] = np.abs(tape.gradient(value, z).numpy()).max(axis=1)
    assert (gradients["cross_entropy"] == 0).mean() >= 0.9
    assert (gradients["margin"] > 0).all() and (gradients["dlr"] > 0).all()


@pytest.mark.parametrize(
    ("name", "free", "targeted"),
    [
        ("ce", "cross_entropy", "cross_entropy_targeted"),
        ("margin", "margin", "margin_targeted"),
        ("dlr", "dlr", "dlr_targeted"),
        ("kl", "kl", "kl"),
        ("difference", None, "difference"),
    ],
)
def test_an_attacks_loss_by_name_with_and_without_a_target(name, free, targeted):
    z_clean = Z[::-1].copy()
    of, loss = every(Z, Y, T, z_clean), losses.ATTACK_LOSSES[name]
    np.testing.assert_array_equal(loss(Z, Y, T, z_clean), of[targeted](Z))
    if free:
        np.testing.assert_array_equal(loss(Z, Y, None, z_clean), of[free](Z))


@pytest.mark.parametrize(("options", "differentiated"), [({}, False), ({"constant": False}, True)])
def test_the_clean_side_of_kl_is_a_constant_unless_a_defence_asks(options, differentiated):
    z_clean = tf.constant(Z[10:20])
    with tf.GradientTape() as tape:
        tape.watch(z_clean)
        value = losses.kl(tf.constant(Z[:10]), z_clean, **options)
    assert (tape.gradient(value, z_clean) is not None) == differentiated


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("n", [4, 7])
def test_labels_are_one_an_image(loss, n):
    """A column of labels, as Keras's CIFAR-10 has, would broadcast to (N, K) without a word; N = K hides the most."""
    z, y = np.random.default_rng(0).normal(size=(n, 4)).astype("float32"), np.arange(n) % 4
    for wrong in (y[:, None], np.eye(4, dtype=int)[y]):
        with pytest.raises(
            ValueError, match=r"labels of shape .*one label an image.*for example y.ravel\(\)"
        ):
            getattr(losses, loss)(z, wrong)
