"""Checks of lesson 10, adversarial training: the toy, the gradient of a maximum, TRADES, a test for leaking, a front."""

from itertools import combinations

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm as normal

from advlib import losses
from advlib._tensorflow import tf
from advlib.exercises import exercise, number, require
from advlib.exercises.properties import sparse
from advlib.models import predict_logits
from advlib.testing import toy


@exercise("10.1")
def shares(weak, strong, most):
    for name, three in (("weak", weak), ("strong", strong)):
        require(np.shape(three) == (3,), f"{name}: three shares were expected, for example [0.9, 0.5, 0.1]")
        require(
            [0 <= number(share, name) <= 1 for share in three], f"{name}: shares from 0 to 1 were expected"
        )
    most = number(most, "most")
    eta, r, features, error = 0.25, 0.9, 64, 0.04
    deviation = 1 / np.sqrt(features)
    true = [normal.cdf((eta - eps) / deviation) for eps in (0, eta, 2 * eta)]
    require(
        abs(weak[0] - normal.cdf(eta)) > 5e-3,
        "weak, without attack: that is a single feature; what is the deviation of a mean of 64?",
    )
    places = ("without attack", "at ε = η", "at ε = 2η")
    for given, expected, place in zip(weak, true, places, strict=True):
        require(
            abs(given - expected) < 5e-3,
            f"weak, {place}: {given:.3g}; where does the attacker put the mean, and how many deviations from 0 is that?",
        )
    true = [r if eps < 1 else 0.0 for eps in (0, 2 * eta, 1.5)]
    for given, expected, place in zip(
        strong, true, ("without attack", "at ε = 2η", "at ε = 1.5"), strict=True
    ):
        require(
            abs(given - expected) < 5e-3,
            f"strong, {place}: {given:.3g}; from which ε on can the sign of a feature that is ±1 be turned, and of how many?",
        )
    require(
        abs(most - error) > 1e-3,
        "most: that is the share of errors itself; which factor does the theorem put before it?",
    )
    require(abs(most - (1 - error)) > 1e-3, "most: that would be no price at all")
    require(
        abs(most - error * r / (1 - r)) < 5e-3,
        f"most: {most:.3g}; put r and the share of errors into the theorem",
    )


@exercise("10.2")
def worst_gradient(answer):
    def call(w, x, y, eps, norm):
        gradient = np.asarray(answer(w.copy(), x.copy(), y.copy(), eps, norm), float)
        require(
            gradient.shape == w.shape, f"it returns shape {gradient.shape} for weights of shape {w.shape}"
        )
        require(
            np.isfinite(gradient),
            f"{norm}: some entry is NaN or infinite; what happens to e^margin at a margin of 1,000?",
        )
        return gradient

    rng = np.random.default_rng(0)
    for norm, dual in (("linf", 1), ("l2", 2)):
        for n, d, eps in ((1, 5, 0.0), (1, 5, 0.3), (40, 8, 0.3), (40, 8, 1.0)):
            w, x, y = rng.normal(0, 1, d), rng.normal(0, 1, (n, d)), rng.choice([-1.0, 1.0], n)
            w += np.sign(w) * 0.05  # away from 0, where the sign would jump

            def worst(w, x=x, y=y, eps=eps, dual=dual):
                return np.logaddexp(0, eps * np.linalg.norm(w, dual) - y * (x @ w)).mean()

            slopes = np.array([(worst(w + h) - worst(w - h)) / 2e-6 for h in 1e-6 * np.eye(d)])
            given = call(w, x, y, eps, norm)
            case = f"{norm}, ε = {eps:g}, {n} sample{'s' if n > 1 else ''}"
            require(
                n == 1 or np.abs(given - n * slopes).max() > 1e-4,
                f"{case}: it is {n} times too long; the loss is a mean",
            )
            require(np.abs(given + slopes).max() > 1e-4, f"{case}: it points down the loss, not up")
            require(
                np.abs(given - slopes).max() < 1e-4,
                f"{case}: the worst loss has the slope {slopes[0]:.4f} in the first weight, yours is {given[0]:.4f}. "
                "Is the gradient taken at the worst point of each sample, of its own side, in this norm?",
            )
    w, x = np.array([30.0, -40.0]), np.array([[20.0, -20.0], [-20.0, 20.0]])
    for norm in ("linf", "l2"):
        with np.errstate(all="ignore"):
            far = call(w, x, np.ones(2), 0.1, norm)
        step = np.sign(w) if norm == "linf" else w / 50
        require(
            np.abs(far + (x[1] - 0.1 * step) / 2).max() < 1e-6,
            f"{norm}: two samples with margins of about ±1,400: the one that is far wrong should pull with all its weight, "
            "the other not at all",
        )


@exercise("10.3")
def trades_loss(answer):
    def call(z, z_adv, y, beta):
        z, z_adv = (tf.constant(np.array(logits, np.float32)) for logits in (z, z_adv))
        with tf.GradientTape() as tape:
            tape.watch([z, z_adv])
            value = tf.convert_to_tensor(answer(z, z_adv, np.array(y), beta))
            require(
                value.shape == (len(z),),
                f"for {len(z)} images it returns shape {tuple(value.shape)}; one loss for each image was expected",
            )
            total = tf.reduce_sum(value)
        slopes = [
            np.zeros(z.shape) if slope is None else slope.numpy().astype(float)
            for slope in tape.gradient(total, [z, z_adv])
        ]
        return value.numpy().astype(float), *slopes

    rng = np.random.default_rng(0)
    z, z_adv, y = rng.normal(0, 2, (30, 5)), rng.normal(0, 2, (30, 5)), rng.integers(0, 5, 30)
    log_p, log_q = log_softmax(z, axis=1), log_softmax(z_adv, axis=1)
    p, q, hot = np.exp(log_p), np.exp(log_q), np.eye(5)[y]
    divergence = (p * (log_p - log_q)).sum(axis=1)
    first = -(hot * log_p).sum(axis=1)
    value, slope, slope_adv = call(z, z_adv, y, 0.0)
    require(
        np.abs(value - first).max() < 1e-3,
        "with β = 0 it should be the cross-entropy at the images: at which logits is yours taken?",
    )
    value = call(z, z_adv, y, 2.0)[0]
    backwards = (q * (log_q - log_p)).sum(axis=1)
    require(
        np.abs(value - first - 2 * backwards).max() > 1e-3,
        "the divergence is the other way round: which distribution is averaged over?",
    )
    require(
        np.abs(value - first - 2 * divergence).max() < 1e-3,
        "with β = 2 the loss is another one: check KL on two classes with p = (½, ½) and q = (¾, ¼), by hand",
    )
    value, slope, slope_adv = call(z, z_adv, y, 2.0)
    require(
        np.abs(slope_adv - 2 * (q - p)).max() < 1e-3,
        "the gradient in z_adv is not β(q − p): does it come through all operations?",
    )
    expected = p - hot + 2 * p * (log_p - log_q - divergence[:, None])
    require(
        np.abs(slope - expected).max() < 1e-3,
        "the gradient in z is another one: the weights move both answers, so that p may not be held still",
    )
    for wide in (90.0, 400.0):
        value, slope, slope_adv = call([[wide, 0, 1]], [[0, wide, 1]], [0], 1.0)
        require(
            all(np.isfinite(part).all() for part in (value, slope, slope_adv)),
            f"logits {wide:g}, 0, 1 and 0, {wide:g}, 1: loss or gradient is NaN or infinite; a logarithm of what?",
        )
        require(
            abs(value[0] / wide - 1) < 1e-2,
            f"logits {wide:g}, 0, 1 and 0, {wide:g}, 1: your loss is {value[0]:g}",
        )


@exercise("10.4")
def leak(answer):
    base, x, _ = toy()

    def linear(x, training=False):
        return base(x - 0.5)

    def folded(x, training=False):  # a full step lands where the label it leads away from is the answer
        return base(tf.sin(10 * np.pi * (x - 0.5)))

    def call(model, x, labels, eps):
        given = x.copy()
        share = number(answer(model, given, labels.copy(), eps), "the result")
        require((given == x).all(), "x was changed by the call; work on a copy")
        require(0 <= share <= 1, f"the result is {share:g}: a share from 0 to 1 was expected")
        return share

    def own(model, x):
        return predict_logits(model, x).argmax(axis=1)

    rng = np.random.default_rng(0)
    wrong = (own(folded, x) + rng.integers(1, 4, len(x))) % 4
    expected = (own(folded, _bare_step(folded, x, wrong, 0.15)) == wrong).mean()
    share = call(folded, x, wrong, 0.15)
    require(
        share > 0,
        f"a network that leaks, wrong labels written in: after the bare step it names them on {100 * expected:.0f} % of images, "
        "and you find none. Is the step taken on every image, and which way?",
    )
    require(
        abs(share - expected) < 0.05,
        f"a network that leaks, wrong labels: your share is {share:.2f}, it should be {expected:.2f}",
    )
    wrong = (own(linear, x) + rng.integers(1, 4, len(x))) % 4
    share = call(linear, x, wrong, 0.05)
    require(
        share < 0.05,
        f"an honest linear network, wrong labels: it never answers them for the step; your share is {share:.2f}",
    )
    walls = sparse(x)
    labels = own(linear, walls)
    for eps in (0.05, 0.1, 0.2):
        expected = (own(linear, _bare_step(linear, walls, labels, eps)) == labels).mean()
        share = call(linear, walls, labels, eps)
        require(
            abs(share - expected) < 0.05,
            f"a linear network, black and white pixels, its own labels written in, ε = {eps:g}: your share is {share:.2f}, it "
            f"should be {expected:.2f}; are these images still images, and is every pixel moved by ε?",
        )
    labels[::2] = (labels[::2] + 1) % 4
    share, expected = call(linear, walls, labels, 0.0), (own(linear, walls) == labels).mean()
    require(
        abs(share - expected) < 1e-6,
        "with ε = 0 the share is that of the images called by the label as they are; of how many?",
    )


def _bare_step(model, x, labels, eps):
    z = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.reduce_sum(losses.cross_entropy(model(z), labels))
    return np.clip(x + eps * np.sign(tape.gradient(loss, z)), 0, 1).astype(np.float32)


@exercise("10.5")
def reading(front, against, networks):
    given = {str(letter).strip().upper() for letter in (front if np.iterable(front) else [front])} - {"", ","}
    require(
        given <= set(networks), f'front: letters from {", ".join(networks)} were expected, for example "AB"'
    )
    above = {
        letter: [
            other for other, two in networks.items() if two != one and two[0] >= one[0] and two[1] >= one[1]
        ]
        for letter, one in networks.items()
    }
    for letter in sorted(given):
        require(
            not above[letter],
            f"front: {letter} has a network that is superior to it: look to its right, then up",
        )
    missing = [letter for letter, others in above.items() if not others and letter not in given]
    require(
        not missing,
        "front: a letter is missing: a network may be the best of all on one axis, and the worst on the other",
    )
    against = number(against, "against")
    require(
        against == round(against) and 0 <= against <= 15,
        f"against: a number of pairs, from 0 to 15, was expected, {against:g} came",
    )
    true = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(networks.values(), 2))
    require(
        against == true,
        f"against: {against:g} is too {'many' if against > true else 'few'}; go through them from the right to the left, and "
        "count for each how many of those further left lie higher",
    )
