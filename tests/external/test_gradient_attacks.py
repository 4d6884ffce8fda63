"""FGSM, PGD, BIM and MI-FGSM: the images of Foolbox and CleverHans, from the same start, to 1e-5.

Both libraries take every step on every image and return the last point: early_stop=False, keep="last" here. Both clip to the
ball and then to the box, which is the projection onto ball ∩ box in L∞. In L2 it is not (budget is lost), so the L2 tests use
images in which the box does not bind. L1 has no test: CleverHans refuses it, and Foolbox's differs by design (last test).
"""

import numpy as np
import pytest
from other_libraries import in_foolbox

from advlib import losses, models, norms
from advlib._tensorflow import tf
from advlib.attacks import bim, fgsm, mi_fgsm, pgd

LAST = {"keep": "last", "early_stop": False}
IMAGES, STEPS = 64, 10  # in more steps, a last bit grows beyond 1e-5 on an image or two
EPS = {"linf": 0.2, "l2": 0.25}


@pytest.fixture(params=["linf", "l2"])
def norm(request):
    return request.param


@pytest.fixture
def images(norm, name, net, right):
    """Right ones; for L2, of less contrast, so that no pixel reaches 0 or 1."""
    x, y = right(name, 2 * IMAGES)
    if norm == "l2":
        x = (0.3 + 0.4 * x).astype(np.float32)
        still = models.predict_logits(net, x).argmax(axis=1) == y
        x, y = x[still], y[still]
        assert len(x) >= IMAGES // 2
    return x[:IMAGES], y[:IMAGES]


@pytest.fixture
def start(images, norm):
    """The random start of all three libraries: points of the ball and the box."""
    x, _ = images
    ball, rng = norms.get(norm), np.random.default_rng(0)
    delta = np.stack([ball.sample(rng, x.shape[1:], EPS[norm]) for _ in x])
    return ball.project(x + delta, x, EPS[norm]).numpy()


def equal(ours, theirs, x):
    assert abs(ours - x).max() > 0.01  # something was attacked at all
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def cleverhans(attack, net, x, y, *arguments, norm, **options):
    if attack != "fast_gradient_method":
        options["sanity_checks"] = False  # they raise under NumPy 2, whatever they check
    module = __import__(f"cleverhans.tf2.attacks.{attack}", fromlist=[attack])
    p = {"linf": np.inf, "l2": 2}[norm]
    logits = tf.function(lambda v: net(v, training=False))
    x, y = tf.constant(x), tf.constant(y)
    return getattr(module, attack)(
        logits, x, *arguments, p, clip_min=0.0, clip_max=1.0, y=y, **options
    ).numpy()


def test_fgsm(net, norm, images, need):
    need("foolbox", "cleverhans")
    from foolbox import attacks

    x, y = images
    ours = fgsm(net, x, y, eps=EPS[norm], norm=norm)
    fast = {"linf": attacks.LinfFastGradientAttack, "l2": attacks.L2FastGradientAttack}[norm]()
    equal(ours, in_foolbox(fast, net, x, y, EPS[norm]), x)
    equal(ours, cleverhans("fast_gradient_method", net, x, y, EPS[norm], norm=norm), x)


def test_bim(net, norm, images, need):
    need("foolbox", "cleverhans")
    from foolbox import attacks

    x, y = images
    alpha = EPS[norm] / 4  # longer than eps/steps, so that the projection has something to do
    ours = bim(net, x, y, eps=EPS[norm], norm=norm, steps=STEPS, step_size=alpha, **LAST)
    basic = {"linf": attacks.LinfBasicIterativeAttack, "l2": attacks.L2BasicIterativeAttack}[norm]
    theirs = in_foolbox(basic(abs_stepsize=alpha, steps=STEPS, random_start=False), net, x, y, EPS[norm])
    equal(ours, theirs, x)
    equal(ours, cleverhans("basic_iterative_method", net, x, y, EPS[norm], alpha, STEPS, norm=norm), x)


def test_pgd(net, norm, images, start, need, monkeypatch):
    need("foolbox", "cleverhans")
    import eagerpy
    from cleverhans.tf2.attacks import projected_gradient_descent as module
    from foolbox import attacks

    x, y = images
    alpha = EPS[norm] / 4
    ours = pgd(net, x, y, eps=EPS[norm], norm=norm, steps=STEPS, step_size=alpha, start=start, **LAST)
    descent = {"linf": attacks.LinfPGD, "l2": attacks.L2PGD}[norm](abs_stepsize=alpha, steps=STEPS)
    descent.get_random_start = lambda *_: eagerpy.astensor(tf.constant(start))
    equal(ours, in_foolbox(descent, net, x, y, EPS[norm]), x)
    monkeypatch.setattr(module, "random_lp_vector", lambda *_, **__: tf.constant(start - x))
    theirs = cleverhans(
        "projected_gradient_descent", net, x, y, EPS[norm], alpha, STEPS, norm=norm, rand_init=True
    )
    equal(ours, theirs, x)


@pytest.mark.parametrize("norm", ["linf"], indirect=True)
def test_mi_fgsm(net, norm, images, need):
    """Dong et al. add up g/‖g‖₁, as CleverHans does (by the mean, which changes nothing). Foolbox adds up sign(g), because its
    base class has normalised the gradient before the momentum sees it: with that undone, it too gives the same images."""
    need("foolbox", "cleverhans")
    import eagerpy
    from foolbox import attacks

    x, y = images
    alpha = EPS[norm] / 4
    ours = mi_fgsm(net, x, y, eps=EPS[norm], norm=norm, steps=STEPS, step_size=alpha, **LAST)
    theirs = cleverhans(
        "momentum_iterative_method", net, x, y, EPS[norm], alpha, STEPS, norm=norm, decay_factor=1.0
    )
    equal(ours, theirs, x)

    momentum = attacks.LinfMomentumIterativeFastGradientMethod(abs_stepsize=alpha, steps=STEPS)
    as_it_is = in_foolbox(momentum, net, x, y, EPS[norm])
    assert abs(ours - as_it_is).max() > 0.01

    def normalise(gradients, *, x, bounds):
        size = eagerpy.astensor(tf.reduce_sum(tf.abs(gradients.raw), axis=(1, 2, 3), keepdims=True))
        return gradients / size

    momentum.normalize = normalise
    equal(ours, in_foolbox(momentum, net, x, y, EPS[norm]), x)


@pytest.mark.parametrize(("name", "norm"), [("mnist-cnn", "l2")], indirect=True)
def test_in_l2_clipping_to_ball_then_box_loses_budget(name, norm, net, right, need):
    """Where the box binds, as on MNIST's black pixels, Foolbox's L2-PGD ends inside the ball and advlib's on its surface, with
    the larger loss."""
    need("foolbox")
    from foolbox import attacks

    x, y = right(name, IMAGES)
    ours = pgd(net, x, y, eps=1.0, norm="l2", steps=STEPS, step_size=0.2, random_start=False, **LAST)
    theirs = in_foolbox(attacks.L2PGD(abs_stepsize=0.2, steps=STEPS, random_start=False), net, x, y, 1.0)
    size = norms.get("l2").size
    assert np.median(size(ours - x)) > 0.999 and np.median(size(theirs - x)) < 0.999
    worth = [losses.cross_entropy(models.predict_logits(net, z), y).numpy() for z in (ours, theirs)]
    assert np.mean(worth[0] > worth[1]) > 0.75


def test_in_l1_foolbox_rescales_where_a_projection_is_meant(need):
    """Foolbox's clip_lp_norms(p=1) shrinks δ radially: inside the ball, but not its nearest point, which advlib returns."""
    need("foolbox")
    import eagerpy
    from foolbox.attacks.gradient_descent_base import clip_lp_norms

    x = np.full((8, 28, 28, 1), 0.5, np.float32)
    delta = np.random.default_rng(0).normal(0, 0.1, x.shape).astype(np.float32)
    theirs = clip_lp_norms(eagerpy.astensor(tf.constant(delta)), norm=10.0, p=1).numpy()
    ours = norms.get("l1").project(x + delta, x, 10.0).numpy() - x
    size, far = norms.get("l1").size, norms.get("l2").size
    assert max(size(theirs)) < 10.001 and max(size(ours)) < 10.001
    assert np.all(far(ours - delta) < 0.95 * far(theirs - delta))
