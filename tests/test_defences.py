"""The defences: each one's points and loss by its equation, replicas, the alarm, and going on after an interruption."""

import functools
import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from advlib import data, losses, models, noise, norms, training
from advlib._tensorflow import keras, tf
from advlib.attacks import fgsm
from advlib.certify import intervals
from advlib.diagnostics import FlagWarning
from advlib.training._resume import layers
from advlib.training.fgsm import cosine
from tests.conftest import affine

EPS = 0.1
DEFENCES = {
    "standard": training.Trainer,
    "fgsm": functools.partial(training.FGSM, eps=EPS),
    "rsfgsm": functools.partial(training.RSFGSM, eps=EPS),
    "nfgsm": functools.partial(training.NFGSM, eps=EPS),
    "gradalign": functools.partial(training.GradAlign, eps=EPS),
    "free": functools.partial(training.Free, eps=EPS, replays=3),
    "pgd": functools.partial(training.PGD, eps=EPS, steps=4),
    "pgd-l2": functools.partial(training.PGD, eps=1.0, norm="l2", steps=4),
    "trades": functools.partial(training.TRADES, eps=EPS, steps=4),
    "gaussian": functools.partial(training.Gaussian, sigma=0.25),
    "ibp": functools.partial(training.IBP, eps=0.01),
}


@pytest.fixture(scope="module")
def few():
    d = data.load("mnist")
    return data.split(*data.subset(d.x_train, d.y_train, 1000), 200)


def compiled(trainer, optimizer=None):
    trainer.compile(optimizer or keras.optimizers.SGD(0.1))
    trainer.optimizer.build(trainer.network.trainable_variables)
    return trainer


def zeroed(net):
    """The net with all weights 0, and so the gradient in the images."""
    net.set_weights([np.zeros_like(w) for w in net.get_weights()])
    return net


def validate(trainer, x, y):
    return training.Watch.on_epoch_end.__globals__["validate"](trainer, x, y)


def dense(*between):
    """A net that ends in ten logits, of layers with the names that Keras gives them."""
    k = keras.layers
    return keras.Sequential([keras.Input((28, 28, 1)), *between, k.Flatten(), k.Dense(10)])


def same(a, b, atol=0.0):
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=0, atol=atol)


# ---- each defence


@pytest.mark.parametrize("name", list(DEFENCES))
def test_every_defence_learns_under_keras_fit(name, few):
    (x, y), _ = few
    net = models.mlp(seed=0)
    trainer = DEFENCES[name](net)
    trainer.compile(keras.optimizers.Adam(2e-3))
    seen = []
    history = trainer.fit(
        x, y, epochs=4, batch_size=100, verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))],
    )  # fmt: skip
    assert history.history["loss"] == seen and seen[-1] < seen[0]
    assert (models.predict_logits(net, x).argmax(axis=1) == y).mean() > 0.6


@pytest.mark.parametrize("name", ["fgsm", "rsfgsm", "pgd", "pgd-l2", "trades", "gradalign"])
def test_the_points_lie_in_ball_and_box_and_are_worse(name, few):
    (x, y), _ = few
    x, y = x[:64], y[:64]
    net = models.mlp(seed=0)
    training.fit(net, *few[0], epochs=2)
    trainer = compiled(DEFENCES[name](net))
    z = trainer.craft(tf.constant(x), tf.constant(y)).numpy()
    size = norms.get(trainer.ball.name).size(z - x).numpy()
    assert z.min() >= 0 and z.max() <= 1 and size.max() <= trainer.eps * (1 + 1e-5)
    assert size.max() > 0.99 * trainer.eps
    worth = [losses.cross_entropy(models.predict_logits(net, v), y).numpy().mean() for v in (x, z)]
    assert worth[1] > worth[0] + 0.5


def test_fgsm_training_learns_from_the_attacks_own_points(few):
    (x, y), _ = few
    net = models.mlp(seed=0)
    training.fit(net, x, y, epochs=3)
    right = np.flatnonzero(models.predict_logits(net, x).argmax(axis=1) == y)[:50]
    x, y = x[right], y[right]
    trainer, x_adv = compiled(training.FGSM(net, eps=EPS)), fgsm(net, x, y, eps=EPS)
    np.testing.assert_allclose(trainer.craft(tf.constant(x), tf.constant(y)), x_adv, atol=1e-6)
    twin = models.mlp(seed=0)
    twin.set_weights(net.get_weights())
    trainer.train_step((x, y))
    compiled(training.Trainer(twin)).train_step((x_adv, y))  # standard training on those points
    same(net, twin, atol=1e-5)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.5), ("l1", 10.0), ("l0", 20)])
def test_fgsm_training_makes_the_attacks_step_in_every_norm(norm, eps, few):
    (x, y), _ = few
    net = models.mlp(seed=0)
    training.fit(net, x, y, epochs=3)
    right = np.flatnonzero(models.predict_logits(net, x).argmax(axis=1) == y)[:50]
    x, y = x[right], y[right]
    z = compiled(training.FGSM(net, eps=eps, norm=norm)).craft(tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(z, fgsm(net, x, y, eps=eps, norm=norm), atol=1e-4)


@pytest.mark.parametrize("defence", [training.PGD, training.TRADES, training.RSFGSM, training.Free])
def test_steps_in_l0_reach_black_or_white(defence, few):
    """From grey, by half a pixel: after steps of ε, a number of pixels, hardly any pixel would get there."""
    (x, y), _ = few
    net = models.mlp(seed=0)
    training.fit(net, x, y, epochs=2)
    trainer = compiled(defence(net, eps=20, norm="l0"), keras.optimizers.SGD(0.0))
    grey, y = tf.fill((50, 28, 28, 1), 0.5), tf.constant(y[:50])
    if defence is training.Free:
        trainer.train_step((grey, y))
        z = grey + trainer.delta[:50]
    else:
        z = trainer.craft(grey, y)
    moved = abs(z.numpy() - 0.5)
    assert ((moved > 1e-6).sum(axis=(1, 2, 3)) == 20).all()
    assert (moved[moved > 1e-6] > 0.499).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("fgsm", 0),
        ("rsfgsm", EPS / 3**0.5),
        ("nfgsm", 2 * EPS / 3**0.5),
        ("pgd", EPS / 3**0.5),
        ("trades", 0.001),
    ],
)
def test_where_no_gradient_leads_the_points_stay_where_they_start(name, deviation):
    trainer = compiled(DEFENCES[name](zeroed(models.mlp())))
    z = trainer.craft(tf.fill((50, 28, 28, 1), 0.5), tf.zeros(50, tf.int64)).numpy()
    assert np.std(z - 0.5) == pytest.approx(deviation, rel=0.02)


def test_pgd_makes_all_its_steps():
    """On a linear model they add up to 2.5 ε: from any start to the corner that the gradient points to."""
    rng = np.random.default_rng(0)
    w, y = rng.normal(size=(16, 2)), np.array([0, 1, 1, 0])
    x = rng.uniform(0.3, 0.7, (4, 4, 4, 1)).astype(np.float32)
    corner = x + EPS * np.sign(w[:, 1 - y] - w[:, y]).T.reshape(x.shape)
    for steps in (1, 3, 10):
        trainer = compiled(training.PGD(affine(w, [0, 0], (4, 4, 1)), eps=EPS, steps=steps))
        np.testing.assert_allclose(trainer.craft(tf.constant(x), tf.constant(y)), corner, atol=1e-5)


def test_n_fgsm_leaves_the_ball_and_rs_fgsm_does_not(few):
    (x, y), _ = few
    x, y = (0.3 + 0.4 * x[:50]).astype(np.float32), y[:50]
    n, rs = (
        abs(compiled(DEFENCES[name](models.mlp())).craft(tf.constant(x), tf.constant(y)).numpy() - x)
        for name in ("nfgsm", "rsfgsm")
    )
    assert n.max() == pytest.approx(3 * EPS, rel=0.02) and rs.max() == pytest.approx(EPS, abs=1e-6)
    # a step of 1.25 ε from −ε to ε: three pixels in eight end within the ball, a quarter of ε away or more
    assert (rs < 0.999 * EPS).mean() == pytest.approx(3 / 8, abs=0.02) and rs.min() > 0.24 * EPS


def test_random_start_is_uniform_fresh_and_keyed_by_the_seed():
    x = tf.fill((100, 28, 28, 1), 0.5)
    trainer = compiled(training.PGD(models.mlp(), eps=0.3, ramp=0))
    first = trainer.random_start(x, 0.3).numpy() - 0.5
    assert np.std(first) == pytest.approx(0.3 / 3**0.5, rel=0.01) and abs(first).max() <= 0.3
    assert abs(first[0] - first[1]).max() > 0.1
    assert (trainer.random_start(x, 0.3).numpy() - 0.5 == first).all()  # the same update, the same numbers
    trainer.optimizer.iterations.assign(1)
    assert (trainer.random_start(x, 0.3).numpy() - 0.5 != first).mean() > 0.9
    other = compiled(training.PGD(models.mlp(), eps=0.3, ramp=0, seed=1))
    assert (other.random_start(x, 0.3).numpy() - 0.5 != first).mean() > 0.9


def test_gaussian_noise_is_not_clipped():
    x = tf.zeros((200, 28, 28, 1))
    z = compiled(training.Gaussian(models.mlp(), sigma=0.25)).craft(x, None).numpy()
    assert np.std(z) == pytest.approx(0.25, rel=0.01) and z.min() < -0.5
    assert np.std(z.mean(axis=(1, 2, 3))) == pytest.approx(0.25 / 28, rel=0.25)  # every image its own


def boundary(distance):
    """A linear model, the class of x_0 > ½, and 1,000 images of class 1 at this distance from the boundary."""
    w = np.zeros((4, 2))
    w[0] = [-1, 1]
    x = np.full((1000, 2, 2, 1), 0.5, np.float32)
    x[:, 0, 0, 0] += np.float32(distance)
    return affine(w, [0.5, -0.5], (2, 2, 1)), x, np.ones(1000, int)


def test_gaussian_training_is_judged_under_its_noise():
    net, x, y = boundary(0.25)
    (score,) = training.Gaussian(net, sigma=0.25).scores(x, y).values()
    assert score == pytest.approx(0.841, abs=0.05)  # Φ(1); 1 without noise


def test_ibp_training_is_judged_at_the_budget_to_be_proved():
    net, x, y = boundary(0.1)
    for eps, train_eps, share in ((0.05, 0.2, 1), (0.2, 0.05, 0)):
        assert training.IBP(net, eps=eps, train_eps=train_eps).scores(x, y) == {"verified": share}


def test_one_update_on_a_fixed_batch_reduces_the_robust_loss(few):
    (x, y), _ = few
    x, y = x[:100], y[:100]
    for name in ("pgd", "trades", "fgsm", "ibp"):
        net = models.mlp(seed=1)
        trainer = compiled(DEFENCES[name](net), keras.optimizers.SGD(0.01))
        values = []
        for _ in range(2):
            trainer.optimizer.iterations.assign(0)
            z = trainer.craft(tf.constant(x), tf.constant(y))
            values.append(float(tf.reduce_mean(trainer.losses(z, tf.constant(x), tf.constant(y))[0])))
            trainer.train_step((x, y))
        assert values[1] < values[0], name


def test_trades_with_beta_0_is_standard_training(few):
    (x, y), validation = few
    nets = []
    for make in (training.Trainer, functools.partial(training.TRADES, eps=EPS, beta=0.0)):
        nets.append(models.mlp(seed=2))
        training.adversarial_fit(make(nets[-1]), x, y, validation=validation, epochs=2, keep="last")
    same(*nets)


def test_trades_gradient_flows_through_both_terms(few):
    """Against finite differences on a model of two parameters: a stop_gradient on f(x) would miss half of it."""
    x = tf.constant(np.random.default_rng(0).random((6, 2, 1, 1), np.float32))
    y = tf.constant([0, 1, 0, 1, 1, 0])

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(shape=(2,), initializer="ones")

        def call(self, x, training=False):
            v = tf.reshape(x, (-1, 2)) * self.w
            return tf.stack([v[:, 0] ** 2, v[:, 1]], axis=1)

    net = Two()
    net.build((None, 2, 1, 1))
    net.input_shape = (None, 2, 1, 1)
    trainer = compiled(training.TRADES(net, eps=0.1, beta=3.0))
    z = x + 0.3

    def value(w):
        net.w.assign(w)
        return float(tf.reduce_mean(trainer.losses(z, x, y)[0]))

    net.w.assign([1.0, 1.0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(trainer.losses(z, x, y)[0])
    found = tape.gradient(loss, net.trainable_variables)[0].numpy()
    h = 1e-2
    expected = [(value(1 + h * unit) - value(1 - h * unit)) / (2 * h) for unit in np.eye(2, dtype=np.float32)]
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    net.w.assign([1.0, 1.0])
    one_sided = losses.cross_entropy(net(x), y) + 3.0 * losses.kl(net(z), net(x))
    assert float(tf.reduce_mean(one_sided)) == pytest.approx(value(np.float32([1, 1])))
    assert float(tf.reduce_sum(losses.kl(net(x), net(x), constant=False))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "pgd",
        *(
            pytest.param(n, marks=pytest.mark.full)
            for n in ("standard", "gradalign", "free", "trades", "ibp")
        ),
    ],
)
def test_regularisers_of_weights_are_added_to_every_defence(name, few):
    """One step of SGD: λ·Σ w² moves its weights by −η·2λ·w, beyond what the defence's loss does."""
    x, y = few[0][0][:20], few[0][1][:20]
    make = functools.partial(training.Free, eps=EPS, replays=1) if name == "free" else DEFENCES[name]
    plain, net = models.mlp(seed=2), models.mlp(seed=2)
    kernel = net.layers[-1].kernel
    kernel.regularizer = keras.regularizers.L2(0.5)
    before = kernel.numpy()
    trainers = [compiled(make(one)) for one in (plain, net)]
    told = [float(trainer.train_step((x, y))["loss"]) for trainer in trainers]
    kernel.assign_add(0.1 * before)
    same(plain, net, atol=1e-6)
    assert told[1] - told[0] == pytest.approx(0.5 * (before**2).sum(), rel=1e-4)


def test_free_with_one_replay_from_0_is_standard_training(few):
    (x, y), validation = few
    nets = []
    for make in (training.Trainer, functools.partial(training.Free, eps=EPS, replays=1, warm=False)):
        nets.append(models.mlp(seed=2))
        training.adversarial_fit(make(nets[-1]), x, y, validation=validation, epochs=2, keep="last")
    same(*nets, atol=1e-6)


def test_the_second_replay_trains_on_the_fgsm_point_of_the_weights_before_the_first(few):
    (x, y), _ = few
    x, y = tf.constant(x[:50]), tf.constant(y[:50])
    net, twin = models.mlp(seed=3), models.mlp(seed=3)
    compiled(training.Free(net, eps=EPS, replays=2, warm=False, batch_size=50)).train_step((x, y))
    plain = compiled(training.Trainer(twin))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(losses.cross_entropy(twin(x, training=False), y))
    z = tf.clip_by_value(x + EPS * tf.sign(tape.gradient(loss, x)), 0, 1)
    plain.train_step((x, y))
    plain.train_step((z, y))
    same(net, twin, atol=1e-6)


def test_free_keeps_its_perturbation_from_batch_to_batch(few):
    (x, y), _ = few
    trainer = compiled(training.Free(models.mlp(), eps=EPS, replays=2, batch_size=50))
    trainer.train_step((x[:50], y[:50]))
    delta = trainer.delta.numpy()
    assert abs(delta).max() == pytest.approx(EPS, abs=1e-6)
    trainer.train_step((x[50:70], y[50:70]))  # a short last batch leaves the rest as it was
    assert (trainer.delta.numpy()[20:] == delta[20:]).all() and (
        trainer.delta.numpy()[:20] != delta[:20]
    ).any()


def test_free_begins_a_batch_where_the_last_one_ended():
    """Without a gradient the perturbation is not moved: it stays what it was, or with warm=False becomes 0."""
    x, y = np.full((50, 28, 28, 1), 0.5, np.float32), np.zeros(50, int)
    for warm, left in ((True, 0.07), (False, 0.0)):
        trainer = compiled(training.Free(zeroed(models.mlp()), eps=EPS, replays=2, warm=warm, batch_size=50))
        trainer.delta.assign(tf.fill(trainer.delta.shape, 0.07))
        trainer.train_step((x, y))
        np.testing.assert_allclose(trainer.delta, left, atol=1e-6)


def test_grad_align_adds_the_angle_between_gradients(few):
    (x, y), _ = few
    x, y = tf.constant(x[:20]), tf.constant(y[:20])
    net = models.cnn(seed=0)
    trainer = compiled(training.GradAlign(net, eps=EPS, align=2.0))
    z = trainer.craft(x, y)
    loss, logits = trainer.losses(z, x, y)
    a, b = (trainer.gradient(v, y).numpy().reshape(20, -1) for v in (x, trainer.random_start(x, EPS)))
    cos = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(loss, losses.cross_entropy(logits, y) + 2 * (1 - cos), rtol=1e-4)
    zero = tf.zeros((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(zero)
        value = tf.reduce_sum(cosine(zero, tf.ones((2, 3))))
    assert np.isfinite(tape.gradient(value, zero)).all()


def test_ibp_loss_is_the_mixture_and_its_schedule(few):
    (x, y), _ = few
    x, y = tf.constant(x[:20]), tf.constant(y[:20])
    net = models.mlp(seed=0)
    trainer = compiled(training.IBP(net, eps=0.05, train_eps=0.06, warmup=0.1, ramp=0.5))
    trainer.total = 100
    for update, eps, kappa in (
        (0, 0.0, 1.0),
        (10, 0.0, 1.0),
        (30, 0.03, 0.75),
        (50, 0.06, 0.5),
        (99, 0.06, 0.5),
    ):
        trainer.optimizer.iterations.assign(update)
        assert float(trainer.eps_now()) == pytest.approx(eps, abs=1e-6)
        loss, logits = trainer.losses(x, x, y)
        worst = intervals.worst_margins(net, x, y, eps).numpy()
        worst[np.arange(20), y] = 0
        expected = kappa * losses.cross_entropy(logits, y) + (1 - kappa) * losses.cross_entropy(worst, y)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("ramp", [0.0, 0.1, 0.5, 1.0])
def test_ibp_keeps_its_warm_up_whatever_the_ramp(ramp):
    trainer = compiled(training.IBP(models.mlp(), eps=0.3, warmup=0.1, ramp=ramp))
    assert float(trainer.eps_now()) == pytest.approx(0.3)  # without a known end, at once
    trainer.total = 1000
    for update in (0, 50, 99, 100, 550, 1000):
        trainer.optimizer.iterations.assign(update)
        grown = 0 if update < 100 else 1 if ramp <= 0.1 else min((update - 100) / (1000 * ramp - 100), 1)
        assert float(trainer.eps_now()) == pytest.approx(0.3 * grown, abs=1e-6), update


def test_the_ramp_of_eps():
    trainer = compiled(training.PGD(models.mlp(), eps=0.3, ramp=0.3))
    assert float(trainer.eps_now()) == pytest.approx(0.3)  # without a known end, at once
    trainer.total = 100
    for update, eps in ((0, 0), (15, 0.15), (30, 0.3), (90, 0.3)):
        trainer.optimizer.iterations.assign(update)
        assert float(trainer.eps_now()) == pytest.approx(eps, abs=1e-6)


def test_crafting_changes_neither_weights_nor_statistics(few):
    (x, y), _ = few
    net = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.BatchNormalization(),
         keras.layers.ReLU(), keras.layers.Dropout(0.5), keras.layers.Dense(10)]
    )  # fmt: skip
    for name in ("fgsm", "rsfgsm", "nfgsm", "pgd", "trades"):
        trainer = compiled(DEFENCES[name](net))
        before = [w.copy() for w in net.get_weights()]
        first = trainer.craft(tf.constant(x[:50]), tf.constant(y[:50])).numpy()
        assert all((a == b).all() for a, b in zip(before, net.get_weights(), strict=True))
        # and no dropout meanwhile: the same points again
        assert (trainer.craft(tf.constant(x[:50]), tf.constant(y[:50])).numpy() == first).all(), name
        trainer.train_step((x[:50], y[:50]))
        moved = [abs(a - b).max() > 0 for a, b in zip(before, net.get_weights(), strict=True)]
        assert all(moved), "training does change the statistics"


# ---- more than one replica


REPLICAS = """
import json, sys
from advlib._tensorflow import tf, keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import numpy as np
from advlib import data, models, training
d = data.load("mnist")
x, y = d.x_train[:501], d.y_train[:501]  # the last batch is one image, for one of the two
def weights(strategy, optimizer, regularizer=None):
    with strategy.scope():
        net = models.mlp(seed=0)
        net.layers[-1].kernel.regularizer = regularizer
        trainer = training.PGD(net, eps=0.2, steps=7, ramp=0)
        trainer.compile(optimizer())
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(100)
    trainer.fit(batches, epochs=1, verbose=0)
    assert trainer.updates == 6
    return net.get_weights()
def by_adversarial_fit(strategy):
    with strategy.scope():
        net = models.mlp(seed=0)
        trainer = training.PGD(net, eps=0.2, steps=3)
    history = training.adversarial_fit(trainer, x, y, validation=(x[:100], y[:100]), epochs=2, keep="last")
    return net.get_weights(), history.validation
out = {}
one, two = (
    by_adversarial_fit(s) for s in (tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
)
out["fit"] = max(float(abs(a - b).max()) for a, b in zip(one[0], two[0]))
out["scores"] = max(abs(a[k] - b[k]) for a, b in zip(one[1], two[1]) for k in a)
for name, optimizer in (("sgd", lambda: keras.optimizers.SGD(0.1)), ("adam", lambda: keras.optimizers.Adam(1e-3))):
    one = weights(tf.distribute.OneDeviceStrategy("CPU:0"), optimizer)
    two = weights(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), optimizer)
    out[name] = max(float(abs(a - b).max()) for a, b in zip(one, two))
    out[name + " moved"] = max(float(abs(a - b).max()) for a, b in zip(one, models.mlp(seed=0).get_weights()))
one, two = (
    weights(s, lambda: keras.optimizers.SGD(0.1), keras.regularizers.L2(0.5))
    for s in (tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
)
out["l2"] = max(float(abs(a - b).max()) for a, b in zip(one, two))
out["l2 shrinks"] = float(abs(one[-2]).sum() / abs(models.mlp(seed=0).get_weights()[-2]).sum())
print(json.dumps(out))
"""


def test_two_replicas_train_as_one():
    """PGD-7 with random start, six steps, the last with an image for one replica alone. SGD shows a loss scaled by the
    replicas, which Adam would hide."""
    run = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["sgd"] <= 1e-6 and found["adam"] <= 1e-4, found
    # a regulariser counts once, not once for each replica
    assert found["l2"] <= 1e-6 and found["l2 shrinks"] < 0.8, found
    assert found["fit"] <= 1e-3 and found["scores"] <= 0.02  # ten updates by Adam, and what Watch measures
    assert found["sgd moved"] > 1e-3 and found["adam moved"] > 1e-3


# ---- adversarial_fit


def test_the_plain_defence_is_fit_by_another_road(few):
    """Same order, same updates: fit and adversarial_fit of a Trainer, where Adam's rate is the same."""
    (x, y), validation = few
    net, twin = models.mlp(seed=5), models.mlp(seed=5)
    training.adversarial_fit(
        training.Trainer(net), x, y, validation=validation, epochs=2, batch_size=100, keep="last"
    )
    rates = training.Triangle(2e-3, 16)
    optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-8)
    optimizer.build(twin.trainable_variables)
    rows = np.concatenate([training.order(len(x), 0, epoch) for epoch in (0, 1)])
    for i in range(16):
        batch = rows[100 * i : 100 * (i + 1)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses.cross_entropy(twin(x[batch], training=True), y[batch]))
        optimizer.learning_rate.assign(rates(i))
        optimizer.apply(tape.gradient(loss, twin.trainable_variables), twin.trainable_variables)
    same(net, twin, atol=1e-5)


def test_triangle():
    rate = training.Triangle(1.0, 100)
    assert [float(rate(i)) for i in (0, 20, 40, 70, 100)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert float(again(20)) == pytest.approx(0.5)


def test_watch_serves_a_fit_of_ones_own(few):
    (x, y), validation = few
    trainer = training.FGSM(models.mlp(seed=0), eps=0.1)
    trainer.compile(keras.optimizers.Adam(2e-3))
    watch = training.Watch(validation)
    stop = keras.callbacks.EarlyStopping("pgd20", mode="max", patience=5)
    logs = trainer.fit(x, y, epochs=2, batch_size=100, verbose=0, callbacks=[watch, stop]).history
    assert set(logs) == {"loss", "accuracy", "clean", "fgsm", "pgd20"} and len(logs["pgd20"]) == 2
    assert watch.top == max(logs["pgd20"]) and watch.history.best_epoch in (1, 2) and len(watch.best) == 4


def test_the_best_epoch_is_kept_and_its_scores_are_right(few):
    (x, y), validation = few
    net, seen = models.mlp(seed=0), []
    history = training.adversarial_fit(
        training.PGD(net, eps=0.1, steps=5), x, y, validation=validation, epochs=6,
        callback=lambda epoch, h: seen.append((epoch, len(h.loss))),
    )  # fmt: skip
    scores = [row["pgd20"] for row in history.validation]
    assert seen == [(i, i + 1) for i in range(6)] and history.stopped_by == "epochs"
    assert scores[history.best_epoch - 1] == max(scores) > 0.3
    left = validate(training.PGD(net, eps=0.1), *validation)
    assert left == history.validation[history.best_epoch - 1]
    assert all(set(row) == {"clean", "fgsm", "pgd20"} for row in history.validation)
    assert all(row["pgd20"] <= row["fgsm"] + 0.005 <= row["clean"] + 0.01 for row in history.validation)


@pytest.fixture
def scripted(few, monkeypatch):
    """A run whose validation scores (fgsm, pgd20) are those of a script."""

    def run(script, keep="best"):
        rows = iter(script)

        def validate(trainer, x, y, lost):
            fgsm, pgd20 = next(rows)
            return {"clean": 0.99, "fgsm": fgsm, "pgd20": pgd20}

        monkeypatch.setitem(training.Watch.on_epoch_end.__globals__, "validate", validate)
        net, weights = models.mlp(seed=0), []
        (x, y), validation = few
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = training.adversarial_fit(
                training.FGSM(net, eps=0.1), x[:200], y[:200], validation=validation, epochs=len(script), keep=keep,
                callback=lambda *_: weights.append(net.get_weights()),
            )  # fmt: skip
        flags = [w.message.flag for w in caught if isinstance(w.message, FlagWarning)]
        return history, flags, net, weights

    return run


# PGD-20 by epoch of a run of RS-FGSM that collapsed, with FGSM's accuracies beside it
COLLAPSE = [(0.55, 0.36), (0.70, 0.63), (0.78, 0.70), (0.80, 0.64), (0.97, 0.29)]


def test_the_alarm_fires_at_a_collapse_and_the_best_epoch_is_restored(scripted):
    history, flags, net, weights = scripted([(0.5, 0.4), (0.8, 0.7), (0.97, 0.29), (0.99, 0.0)])
    assert [flag.name for flag in flags] == ["catastrophic overfitting"] and history.flags == flags
    assert "97.0%" in flags[0].seen and "29.0%" in flags[0].seen and "epoch 3" in flags[0].seen
    assert history.stopped_by == "collapse" and len(history.loss) == 3 and history.best_epoch == 2
    assert all((a == b).all() for a, b in zip(net.get_weights(), weights[1], strict=True))


def test_the_alarm_only_speaks_where_the_last_epoch_is_wanted(scripted):
    history, flags, net, weights = scripted([(0.8, 0.7), (0.99, 0.0), (0.99, 0.0)], keep="last")
    assert len(flags) >= 1 and len(history.loss) == 3 and history.best_epoch is None
    assert all((a == b).all() for a, b in zip(net.get_weights(), weights[2], strict=True))


def test_the_alarm_sees_a_jump_and_not_an_honest_gap(scripted):
    assert scripted([(0.80, 0.79), (0.86, 0.74), (0.86, 0.74)])[1]  # 1 to 12 points in an epoch
    assert not scripted([(0.80, 0.72), (0.90, 0.78), (0.95, 0.85)])[1]  # 8, 12, 10
    assert scripted(COLLAPSE)[0].stopped_by == "collapse"


def test_images_without_an_answer_are_wrong(few):
    """Where the network returns NaN, for all images or for some: argmax would call it class 0, the label here."""
    _, (x, y) = few
    y = np.zeros_like(y)
    net = models.mlp(seed=0)
    trainers = [DEFENCES[name](net) for name in ("pgd", "gaussian", "ibp")]
    net.set_weights([np.full_like(w, np.nan) for w in net.get_weights()])
    for trainer in trainers:
        scores = validate(trainer, x, y)
        assert len(scores) >= 2 and not any(scores.values())
    x = np.zeros((6, 2, 2, 1), np.float32)
    x[:2] = 1
    some = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Lambda(lambda v: tf.sqrt(v - 0.5)), keras.layers.Flatten(),
         keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant([2.0, 0.0]))]
    )  # fmt: skip
    assert validate(training.Trainer(some), x, np.zeros(6, int)) == {"clean": 2 / 6}


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_are_nan_end_the_run(keep, few, tmp_path):
    (x, y), validation = few
    weights = []

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.network.layers[-1].kernel.assign(np.full((128, 10), np.nan))

    def run():
        net = models.mlp(seed=0)
        history = training.adversarial_fit(
            training.PGD(net, eps=0.1, steps=2), x, y, validation=validation, epochs=5, keep=keep, folder=tmp_path,
            callbacks=[Break()], callback=lambda *_: weights.append(net.get_weights()),
        )  # fmt: skip
        return net, history

    with pytest.warns(FlagWarning, match="NaN on validation images"):
        net, history = run()
    (flag,) = history.flags
    assert flag.colour == "red" and "epoch 3" in flag.seen and "the weights hold NaN" in flag.seen
    assert "clean 200, fgsm 200, pgd20 200" in flag.seen
    assert history.stopped_by == "nan" and len(history.loss) == 3 and not any(history.validation[2].values())
    if keep == "best":
        assert history.best_epoch in (1, 2) and f"epoch {history.best_epoch} are kept" in flag.meaning
        assert all(map(np.array_equal, net.get_weights(), weights[history.best_epoch - 1]))
    else:
        assert history.best_epoch is None and np.isnan(net.get_weights()[-2]).all()
        assert "no earlier epoch is kept" in flag.meaning
    again, resumed = run()  # finished, and not trained again
    assert len(weights) == 3 and resumed.stopped_by == "nan" and resumed.flags == history.flags
    np.testing.assert_array_equal(again.get_weights()[-2], net.get_weights()[-2])


def test_an_attack_that_returns_nan_is_told_and_its_epoch_not_kept(few, monkeypatch):
    """The weights are sound, so training goes on."""
    (x, y), validation = few
    given = training.Watch.on_epoch_end.__globals__
    epochs = []

    def attack(network, x, y, **options):  # half of its points are lost in the second epoch
        x_adv = fgsm(network, x, y, **options)
        epochs.append(len(epochs) + 1)
        if epochs[-1] == 2:
            x_adv[::2, 3, 3] = np.nan
        return x_adv

    monkeypatch.setitem(given, "fgsm", attack)
    net = models.mlp(seed=0)
    with pytest.warns(FlagWarning, match="NaN on validation images"):
        history = training.adversarial_fit(
            training.PGD(net, eps=0.05, steps=2, ramp=0), x, y, validation=validation, epochs=3
        )
    (flag,) = history.flags
    assert "epoch 2: NaN from the network or the attack, of 200 images: fgsm 100" in flag.seen
    assert "weights" not in flag.seen and "stops" not in flag.meaning
    assert 0 < history.validation[1]["fgsm"] <= 0.5 < history.validation[1]["clean"]
    scores = [row["pgd20"] for row in history.validation]
    assert scores[1] > scores[0] and history.best_epoch == (1 if scores[0] > scores[2] else 3)
    assert history.stopped_by == "epochs" and np.isfinite(net.get_weights()[-2]).all()


CHILD = """
import os, signal, sys
import numpy as np
from advlib import data, models, training
from advlib._tensorflow import keras, tf
folder, kill = sys.argv[1], int(sys.argv[2])
d = data.load("mnist")
(x, y), validation = data.split(*data.subset(d.x_train, d.y_train, 700), 100)
class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.updates == kill:
            os.kill(os.getpid(), signal.SIGKILL)
class Own(keras.callbacks.Callback):  # state of a callback of the user's, reset by itself at the beginning as Keras's own do
    def on_train_begin(self, logs=None):
        self.epochs, self.sizes = [], np.zeros(0)
    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.sizes = np.append(self.sizes, abs(self.model.network.get_weights()[0]).max())
stop, own = keras.callbacks.EarlyStopping("pgd20", patience=50, mode="max", restore_best_weights=True), Own()
net = models.mlp(seed=0)
make = {"pgd": lambda: training.PGD(net, eps=0.1, steps=3), "free": lambda: training.Free(net, eps=0.1, replays=2)}
history = training.adversarial_fit(
    make[sys.argv[3]](), x, y, validation=validation, epochs=5, folder=None if folder == "-" else folder,
    callbacks=[stop, own, Kill()],
)
np.savez(sys.argv[4], *net.get_weights(), epochs=own.epochs, sizes=own.sizes, best=stop.best, wait=stop.wait,
         loss=history.loss, scores=[[*row.values()] for row in history.validation], best_epoch=history.best_epoch)
"""


def child(*arguments):
    return subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("defence", ["pgd", pytest.param("free", marks=pytest.mark.full)])
def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(defence, tmp_path):
    """6 batches an epoch; killed in the middle of the third, `free` then of the fifth too; against a run left alone."""
    folder, each = tmp_path / "run", 2 if defence == "free" else 1
    for kill in (15 * each, 27 * each) if defence == "free" else (15,):
        run = child(folder, kill, defence, tmp_path / "none.npz")
        assert run.returncode == -signal.SIGKILL, run.stderr[-2000:]
    for where, out in ((folder, "resumed.npz"), ("-", "alone.npz")):
        run = child(where, -1, defence, tmp_path / out)
        assert run.returncode == 0, run.stderr[-2000:]
    with np.load(tmp_path / "resumed.npz") as resumed, np.load(tmp_path / "alone.npz") as alone:
        assert set(resumed.files) == set(alone.files)
        for name in alone.files:
            np.testing.assert_array_equal(resumed[name], alone[name], err_msg=name)
        assert list(alone["epochs"]) == [0, 1, 2, 3, 4]


def test_a_finished_run_is_not_trained_again_and_another_is_refused(few, tmp_path):
    (x, y), validation = few

    def run(eps=0.1, epochs=2, x=x, seed=0):
        net = models.mlp(seed=0)
        history = training.adversarial_fit(
            training.FGSM(net, eps=eps, seed=seed),
            x,
            y,
            validation=validation,
            epochs=epochs,
            folder=tmp_path / "run",
        )
        return net, history

    first, history = run()
    again, same_history = run()
    same(first, again)
    assert same_history == history
    for change, word in (
        ({"eps": 0.2}, "eps"),
        ({"epochs": 3}, "arguments"),
        ({"x": x * 0.5}, "data"),
        ({"seed": 1}, "seed"),
    ):
        with pytest.raises(ValueError, match=f"another run, which differs in .*{word}"):
            run(**change)
    state = tmp_path / "run" / "state.npz"
    content = state.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], b"x" * 1000):
        state.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no state of a training run"):
            run()
    np.savez(state, state=np.array([os.system], dtype=object))  # a pickle, which must not be opened
    with pytest.raises(ValueError, match="is no state of a training run"):
        run()


def test_a_network_of_other_layers_is_another_run(few, tmp_path):
    (x, y), validation = few

    def run(activation):
        net = dense(keras.layers.Flatten(), keras.layers.Dense(16, activation))
        return net, training.adversarial_fit(
            training.PGD(net, eps=0.1, steps=2), x, y, validation=validation, epochs=1, folder=tmp_path
        )

    net, history = run("relu")
    again, same_history = run("relu")  # its layers have other names
    same(net, again)
    assert same_history == history
    with pytest.raises(ValueError, match="another run, which differs in layers: the same call"):
        run("tanh")
    state = tmp_path / "state.npz"
    with np.load(state) as file:
        arrays = dict(file)
    old = json.loads(str(arrays["state"]))
    del old["run"]["layers"]
    np.savez(state, **(arrays | {"state": json.dumps(old)}))
    with pytest.raises(ValueError, match="by an earlier version, without the layers"):
        run("relu")


def test_layers_are_told_apart_by_all_but_their_names():
    k = keras.layers

    def net(skip_to=0, name=None, dtype=None):
        x = keras.Input((8,))
        parts = [x, k.Dense(8, dtype=dtype)(x)]
        parts.append(k.Dense(8, name=name)(parts[1]))
        return keras.Model(x, k.Dense(10)(keras.ops.relu(parts[2]) + parts[skip_to]))

    class Own(k.Layer):  # what it was made with has no configuration
        def __init__(self, f):
            super().__init__()
            self.f = f

        def call(self, x):
            return self.f(x)

    assert layers(net()) == layers(net()) == layers(net(name="another"))
    assert layers(net()) != layers(net(skip_to=1)) and layers(net()) != layers(net(dtype="bfloat16"))
    makers = [
        lambda: dense(Own(lambda v: v)),
        lambda: dense(k.Lambda(lambda v: v)),
        lambda: dense(k.Activation("relu", name="relu")),
        lambda: dense(k.Activation("tanh", name="tanh")),
        lambda: dense(k.Dropout(0.1)),
        lambda: dense(k.Dropout(0.2)),
    ]
    assert [layers(make()) for make in makers] == [layers(make()) for make in makers]
    assert len({layers(make()) for make in makers}) == len(makers)


def test_images_that_are_no_pixels_are_refused_by_a_fit_of_ones_own(few):
    (x, y), _ = few
    x, y = x[:100], y[:100]
    trainer = compiled(training.PGD(models.mlp(), eps=0.3))
    for call in (trainer.fit, trainer.evaluate):
        with pytest.raises(TypeError, match=r"uint8 images: float32 pixels in \[0, 1\] were expected"):
            call((255 * x).astype("uint8"), y, verbose=0)
        for other in (255 * x, 2 * x - 1):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"float32 pixels in \[0, 1\] were expected"
            ):
                call(other, y, verbose=0)
    trainer.fit(x.astype("float64"), y, verbose=0)


def test_a_batch_larger_than_frees_own(few):
    (x, y), validation = few
    x, y = x[:60], y[:60]

    def run(n, **options):
        free = training.Free(models.mlp(), eps=0.1, replays=2, batch_size=50, **options)
        training.adversarial_fit(free, x[:n], y[:n], validation=validation, epochs=1, batch_size=64)

    with pytest.raises(ValueError, match=r"batch_size=64, and Free keeps δ for 50 images.*batch_size=60"):
        run(60)
    run(50)  # no batch is larger
    run(60, warm=False)  # nothing is kept
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most batch_size=50 images were expected"):
        compiled(training.Free(models.mlp(), eps=0.1, batch_size=50)).fit(x, y, batch_size=60, verbose=0)


def test_bad_input(few):
    (x, y), validation = few
    net = models.mlp()
    with pytest.raises(TypeError, match=r"PGD\(net, eps=0\.3\)"):
        training.adversarial_fit(net, x, y, validation=validation)
    with pytest.raises(TypeError, match=r"keras\.Model was expected"):
        training.PGD(lambda x: x, eps=0.3)
    for make, word in (
        (lambda: training.PGD(net, eps=8), r"eps=8"),
        (lambda: training.PGD(net, eps=0.3, steps=0), "steps=0"),
        (lambda: training.PGD(net, eps=0.3, ramp=2), "ramp=2"),
        (lambda: training.TRADES(net, eps=0.3, beta=-1), "beta=-1"),
        (lambda: training.Gaussian(net, sigma=0), "sigma=0"),
        (lambda: training.Free(net, eps=0.3, replays=0), "replays=0"),
        (lambda: training.IBP(net, eps=0.3, train_eps=3), "eps=3"),
        (lambda: training.IBP(net, eps=0.3, warmup=0.2, ramp=0.1), r"ramp=0\.1 with warmup=0\.2"),
        (lambda: training.RSFGSM(net, eps=0.3, step=0), "step=0"),
        (lambda: training.GradAlign(net, eps=0.3, align=-1), "align=-1"),
        (lambda: training.NFGSM(net, eps=0.3, noise=-1), "noise=-1"),
    ):
        with pytest.raises(ValueError, match=word):
            make()
    trainer = training.FGSM(net, eps=0.1)
    for change, word in (
        ({"keep": "all"}, "keep='all'"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": 0}, "learning_rate=0"),
    ):
        with pytest.raises(ValueError, match=word):
            training.adversarial_fit(trainer, x, y, validation=validation, **change)
    with pytest.raises(ValueError, match="validation x"):
        training.adversarial_fit(trainer, x, y, validation=(x[:0], y[:0]))
    trainer.compile(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="no labels"):
        trainer.fit(x, epochs=1, verbose=0)


def test_noise_does_not_make_a_defence(few):
    """A sanity check of the whole: PGD training beats training on noise of the same budget, under PGD-20."""
    (x, y), validation = few
    left = {}
    for name in ("pgd", "noisy"):
        net = models.mlp(seed=0)
        if name == "pgd":
            training.adversarial_fit(training.PGD(net, eps=0.1), x, y, validation=validation, epochs=6)
        else:
            training.fit(net, noise.uniform(x, 0.1), y, epochs=6, batch_size=100)
        left[name] = validate(training.PGD(net, eps=0.1), *validation)
    assert left["pgd"]["pgd20"] > left["noisy"]["pgd20"] + 0.2


def test_cosine_of_small_gradients_is_that_of_large_ones():
    a, b = (tf.constant(np.random.default_rng(s).normal(size=(4, 3, 3, 1)), tf.float32) for s in (0, 1))
    for small in (1e-7, 1e-10):
        assert cosine(small * a, small * b).numpy() == pytest.approx(cosine(a, b).numpy(), abs=1e-3)
        assert cosine(small * a, small * a).numpy() == pytest.approx(np.ones(4), abs=1e-3)
    assert not cosine(0 * a, b).numpy().any()


def test_standard_training_keeps_its_best_epoch_too(few):
    """Without a budget there is no PGD-20 to choose by."""
    (x, y), validation = few
    history = training.adversarial_fit(
        training.Trainer(models.mlp(seed=0)), x, y, validation=validation, epochs=2
    )
    assert history.best_epoch in (1, 2) and set(history.validation[0]) == {"clean"}


def test_a_trainer_evaluates_under_keras(few):
    (x, y), _ = few
    trainer = training.PGD(models.mlp(seed=0), eps=0.1)
    trainer.compile("adam")
    loss, accuracy = trainer.evaluate(x, y, verbose=0)
    z = models.predict_logits(trainer.network, x)
    assert accuracy == pytest.approx((z.argmax(axis=1) == y).mean(), abs=1e-6)
    assert loss == pytest.approx(float(np.mean(losses.cross_entropy(z, y))), rel=1e-4)


def test_models_that_are_not_built_and_labels_in_a_column_are_named(few):
    (x, y), _ = few
    with pytest.raises(ValueError, match="subclassed or unbuilt"):
        training.PGD(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)]), eps=0.1)
    with pytest.raises(ValueError, match="ravel"):
        training.Watch((x, y[:, None]))


def test_early_stopping_remembers_across_a_resume(few, tmp_path):
    """Its best value and its patience: a run that was stopped ends where one in one piece does, and is then finished."""
    (x, y), validation = few

    def run(folder, stop_at=None):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop_at:
                    raise KeyboardInterrupt

        stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=3)
        try:
            return training.adversarial_fit(
                training.Trainer(models.mlp(seed=0)), x, y, validation=validation, epochs=9, folder=folder,
                callbacks=[stop, Stop()],
            )  # fmt: skip
        except KeyboardInterrupt:
            return None

    whole = run(tmp_path / "whole")
    assert len(whole.loss) < 9 and whole.stopped_by == "callback"
    run(tmp_path / "parts", stop_at=2)
    parts = run(tmp_path / "parts")
    assert len(parts.loss) == len(whole.loss)
    assert len(run(tmp_path / "parts").loss) == len(whole.loss)


def test_a_write_that_fails_leaves_the_state_before(few, tmp_path, monkeypatch):
    (x, y), validation = few

    def run():
        return training.adversarial_fit(
            training.Trainer(models.mlp(seed=0)), x, y, validation=validation, epochs=3, folder=tmp_path
        )

    written, calls = np.savez, []

    def full(file, **arrays):
        calls.append(file)
        if len(calls) == 2:
            file.write(b"PK")
            raise OSError("no space left")
        written(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        run()
    monkeypatch.undo()
    with np.load(tmp_path / "state.npz") as state:
        assert json.loads(str(state["state"]))["epoch"] == 1
    assert len(run().loss) == 3
