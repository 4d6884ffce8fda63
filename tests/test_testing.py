"""check_attack passes what is right and names what is wrong."""

import numpy as np
import pytest

from advlib._tensorflow import tf
from advlib.attacks import fgsm, pgd
from advlib.testing import AttackError, check_attack, toy


def my_fgsm(model, x, y, eps):
    z = model(x)
    with tf.GradientTape() as tape:
        v = tf.constant(x)
        tape.watch(v)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(v)))
    x_adv = np.clip(x + np.float32(eps) * np.sign(tape.gradient(loss, v)), 0, 1)
    right = z.numpy().argmax(axis=1) == y
    return np.where(right[:, None, None, None], x_adv, x)


def test_a_right_one_passes():
    rules = check_attack(my_fgsm, eps=0.1)
    assert len(rules) >= 10 and all(r.passed for r in rules)


def descends(model, x, y, eps):
    return np.clip(2 * x - my_fgsm(model, x, y, eps), 0, 1)


def in_place(model, x, y, eps):
    x += 0
    x_adv = my_fgsm(model, x, y, eps)
    if eps:
        x[:] = x_adv
    return x_adv


def unseeded(model, x, y, eps):
    noise = np.random.default_rng().uniform(-eps / 10, eps / 10, x.shape).astype(np.float32)
    step = my_fgsm(model, x, y, 0.9 * eps)
    return np.where(step != x, np.clip(step + noise, 0, 1), x)


def of_the_batch(model, x, y, eps):
    return np.clip(
        my_fgsm(model, x, y, eps) - (my_fgsm(model, x, y, eps) - x) * np.float32(0.01 * len(x) / 28), 0, 1
    )


def by_place(model, x, y, eps):
    later = np.arange(len(x), dtype=np.float32)[:, None, None, None]  # the first image of any batch is right
    return x + (my_fgsm(model, x, y, eps) - x) * (1 - later / 100)


def trains(model, x, y, eps):
    model.set_weights([w + 1e-3 for w in model.get_weights()])
    return my_fgsm(model, x, y, eps)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (lambda model, x, y, eps: x, "better than random noise"),
        (descends, "better than random noise"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, 1.5 * eps), "inside the L∞ ball"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, eps).astype(float), "returns float32"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, eps)[:-1], "returns float32"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, eps) * np.float32(np.nan), "no NaN"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, eps) + np.float32(0.99), "inside the box"),
        (lambda model, x, y, eps: my_fgsm(model, x, y, max(eps, 0.01)), "eps = 0 changes nothing"),
        (
            lambda model, x, y, eps: my_fgsm(model, x, model(x).numpy().argmax(axis=1), eps),
            "already misclassified",
        ),
        (in_place, "x and y untouched"),
        (unseeded, "same call, same bits"),
        (of_the_batch, "place and company"),
        (by_place, "place and company"),
        (trains, "weights untouched"),
    ],
)
def test_a_wrong_one_is_named(broken, rule):
    with pytest.raises(AttackError, match=rule):
        check_attack(broken, eps=0.1)
    assert any(rule in r.name and not r.passed for r in check_attack(broken, eps=0.1, raises=False))


def test_your_own_model_and_images():
    model, x, y = toy(seed=3, n=10)
    assert all(r.passed for r in check_attack(pgd, eps=0.1, norm="l2", model=model, x=x, y=y, steps=5))
    assert all(r.passed for r in check_attack(fgsm, eps=0.1, model=model, x=x, y=y))


def test_your_own_images_stay_as_they_are():
    model, x, y = toy(seed=3, n=10)
    before = x.copy(), y.copy()
    rules = check_attack(in_place, eps=0.1, model=model, x=x, y=y, raises=False)
    assert (x == before[0]).all() and (y == before[1]).all()
    assert [r.name for r in rules if not r.passed] == ["x and y untouched"]


@pytest.mark.parametrize(
    ("left_out", "words"),
    [(["x"], "no x"), (["y"], "no y"), (["model"], "no model"), (["x", "y"], "no x and no y")],
)
def test_model_and_images_belong_together(left_out, words):
    given = dict(zip(("model", "x", "y"), toy(n=4), strict=True))
    given = {name: value for name, value in given.items() if name not in left_out}
    with pytest.raises(TypeError, match=rf"given {words}: model, x and y were expected.*for example"):
        check_attack(my_fgsm, eps=0.1, **given)
