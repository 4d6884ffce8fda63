"""Checks of lesson 09, hidden gradients: saturation, BPDA, the mean of a random model, a detector's loss, a check for masking."""

from functools import cache

import numpy as np

from advlib import data, exhibits
from advlib._tensorflow import tf
from advlib.attacks.bpda import forward_backward
from advlib.attacks.pgd import pgd
from advlib.exercises import Hint, exercise, require
from advlib.exercises.properties import inside, lead, sparse
from advlib.models import load, predict_logits
from advlib.testing import toy


@exercise("09.1")
def saturation(rounded, stuck, by_margin):
    size = 20 * np.array([0.3, 1, 2, 4, 5.5, 9], np.float32)
    other = np.exp(-size)  # e^−s·m in float32, and 0 where it is too small for that
    questions = {
        "rounded": (
            rounded,
            1 / (1 + other) == 1,
            "is e^(−s·m) small beside the distance of float32 numbers below 1?",
        ),
        "stuck": (
            stuck,
            other == 0,
            "is e^(−s·m), the derivative in the other logit, a number that float32 still has?",
        ),
        "by_margin": (
            by_margin,
            np.zeros(6, bool),
            "what is the derivative of z_other − z_right in either logit?",
        ),
    }
    for name, (given, true, ask) in questions.items():
        letters = set("".join(map(str, given)).upper()) if np.iterable(given) else {"?"}
        require(
            letters <= set("ABCDEF"),
            f'{name}: letters from A to F were expected, for example "ACE"',
        )
        for letter, is_so, product in zip("ABCDEF", true, size, strict=True):
            require(
                (letter in letters) == is_so,
                f"{name}: look at {letter} again, where s·m = {product:g}: {ask}",
            )


@exercise("09.2")
def through(answer):
    base, x, _ = toy(n=6)
    x = tf.constant(x)

    def model(u, training=False):  # bent, so that it matters where its gradient is taken
        return base(tf.sin(5 * u))

    def steps(x):
        return tf.round(6 * x) / 6

    def backwards(x):  # rounds, and claims a gradient of −1
        return tf.stop_gradient(steps(x) + x) - x

    def smoothed(x):
        return tf.nn.avg_pool2d(x, 3, 1, "SAME")

    cases = {
        "rounding, with the identity": (steps, tf.identity),
        "a threshold, with the identity": (lambda x: tf.cast(x > 0.5, x.dtype), tf.identity),
        "inverted and rounded, with 1 − x": (lambda x: steps(1 - x), lambda x: 1 - x),
        "smoothed and rounded, with the smoothing": (lambda x: steps(smoothed(x)), smoothed),
        "a defence whose own gradient points the wrong way": (backwards, tf.identity),
    }
    for name, (defence, surrogate) in cases.items():
        defended = answer(model, defence, surrogate)
        require(callable(defended), f"{type(defended).__name__} came back; a function of images was expected")
        value, gradient = _value_and_gradient(defended, x)
        at = tf.stop_gradient(defence(x))
        require(
            value.shape == (6, 4) and np.abs(value - model(at)).max() < 1e-3,
            f"{name}: the value is not model(defence(x)); an attack has to see the true answers",
        )
        require(gradient is not None, f"{name}: no gradient comes back to x")
        with tf.GradientTape() as tape:
            tape.watch(x)
            smooth = surrogate(x)
        expected = tape.gradient(smooth, x, output_gradients=_value_and_gradient(model, at)[1])
        require(
            np.abs(gradient).max() > 0,
            f"{name}: the gradient is 0 everywhere: what does it have to come back through?",
        )
        require(
            np.abs(gradient - expected).max() < 1e-3 * np.abs(expected).max(),
            f"{name}: another gradient was expected. At which image is the model's own gradient taken, through what does it come "
            "back, and does any of the defence's own gradient come with it?",
        )


def _value_and_gradient(f, x):
    """f(x), and the gradient of a sum of it whose terms differ; None where there is none."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = f(x)
        total = tf.reduce_sum(value * tf.constant([1.0, -2.0, 0.5, 3.0]))
    return value, tape.gradient(total, x)


class _Random:
    """A linear model whose weights are drawn anew in every call, around `w`; counts its calls."""

    def __init__(self, w, seed):
        self.w, self.calls, self.rng = w, 0, np.random.default_rng(seed)

    def __call__(self, x, training=False):
        self.calls += 1
        drawn = self.w + 2.0 * self.rng.standard_normal(self.w.shape)
        return (tf.reshape(tf.cast(x, tf.float32), (-1, 36)) - 0.5) @ drawn.astype(np.float32)

    def mean(self, x):
        """The logits with the mean weights."""
        return (tf.reshape(x, (-1, 36)) - 0.5) @ self.w


class _Skewed(_Random):
    """Logits so small that the loss is nearly straight, times 4.5 in three draws of ten and −0.5 in the others: the mean points
    one way, most draws the other. Keeps the points that it was asked about."""

    def __init__(self, w, seed):
        super().__init__(w, seed)
        self.points = set()

    def __call__(self, x, training=False):
        self.calls += 1
        x = tf.cast(x, tf.float32)
        self.points.add(x.numpy().tobytes())
        return 0.05 * (4.5 if self.rng.random() < 0.3 else -0.5) * self.mean(x)


@exercise("09.3")
def steady(answer):
    base, x, _ = toy()
    w = base.get_weights()[0]
    y = _Random(w, 0).mean(x).numpy().argmax(axis=1)
    walls = sparse(x)
    inside(answer(_Random(w, 0), walls.copy(), y, 0.1, 3, 2), walls, 0.1)
    gained = []
    for seed in range(2):
        model, given = _Random(w, seed), x.copy()
        z = inside(answer(model, given, y, 0.05, 3, 30), x, 0.05)
        require((given == x).all(), "x was changed by the call; work on a copy")
        require(model.calls <= 90, f"with 3 steps and 30 draws the model was called {model.calls} times")
        gained.append((lead(model.mean, z, y) - lead(model.mean, x, y)).mean())
    best = (
        lead(model.mean, pgd(model.mean, x, y, eps=0.05, early_stop=False), y) - lead(model.mean, x, y)
    ).mean()
    gained = np.mean(gained)
    require(
        gained > 0,
        "in the mean over all draws the model is surer of the true class than before: which way is uphill?",
    )
    require(
        gained > 0.75 * best,
        f"in the mean over all draws the wrong class gains {gained:.2f}, and {best:.2f} are possible; 30 draws for each of "
        "three steps come near it. Do all draws of a step enter it before the sign is taken, for each image, and is ε used up?",
    )
    model = _Skewed(w, 0)
    z = inside(answer(model, x.copy(), y, 0.05, 3, 30), x, 0.05).astype(np.float32)
    require(
        len(model.points) >= 3,
        "three steps, and the model was not asked about three different points: where is the gradient taken?",
    )
    skewed = (lead(model.mean, z, y) - lead(model.mean, x, y)).mean()
    require(
        skewed > 0.75 * best,
        "a model whose few large draws outweigh its many small ones: is the mean taken of the gradients, or of their signs?",
    )


@exercise("09.4")
def agreed(answer):
    def call(z, other, y):
        z, other = (tf.constant(np.array(logits, np.float32)) for logits in (z, other))
        with tf.GradientTape() as tape:
            tape.watch([z, other])
            value = tf.convert_to_tensor(answer(z, other, np.array(y)))
            require(
                value.shape == (len(z),),
                f"for {len(z)} images it returns shape {tuple(value.shape)}; one number each was expected",
            )
            total = tf.reduce_sum(value)
        slopes = [slope for slope in tape.gradient(total, [z, other]) if slope is not None]
        require(
            bool(slopes),
            "the loss has no gradient in z or other: use TensorFlow's operations throughout, not NumPy's",
        )
        require(
            all(np.isfinite(part).all() for part in (value, *slopes)),
            "loss or gradient is NaN or infinite for some image",
        )
        return value.numpy(), sum(np.abs(slope).max(axis=1) for slope in slopes)

    cases = {
        "one network names the true class, the other a wrong one": ([[5, 1, 0]], [[1, 5, 0]], 0),
        "the networks name two different wrong classes": ([[0, 5, 1]], [[0, 1, 5]], 0),
        "both name the true class": ([[5, 1, 0]], [[4, 0, 1]], 0),
        "both prefer class 1 to the true one, and one of them prefers class 2 to both": (
            [[0, 5, 1]],
            [[0, 4, 5]],
            0,
        ),
        "one is very sure of class 1, the other names the true class by a hair": (
            [[0, 99, 1]],
            [[5, 4.9, 0]],
            0,
        ),
    }
    for case, (z, other, label) in cases.items():
        value = call(z, other, [label])[0][0]
        require(value < 0, f"{case}: the service gives no wrong answer, and the loss is {value:g}")
    value = call([[0, 5, 1]], [[1, 3, 2]], [0])[0][0]
    require(
        value > 0,
        f"both networks name class 1, the true class is 0: a wrong answer, and the loss is {value:g}",
    )
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 400)
    z = rng.normal(0, 2, (400, 5))
    other = z + rng.normal(0, 1, z.shape)  # often, not always, of one mind
    said = z.argmax(axis=1), other.argmax(axis=1)
    goal = (said[0] == said[1]) & (said[0] != y)
    value = call(z, other, y)[0]
    require(
        (value > 0) == goal,
        f"on {((value > 0) != goal).sum()} of 400 random pairs of logits the sign is wrong",
    )
    for scale in (1, 1000):
        still = call(scale * z, scale * other, y)[1] == 0
        require(
            ~still,
            f"with logits of size {3 * scale:,} the gradient is 0 on {still.sum()} of 400 images: nothing to climb there",
        )


class _Asked:
    """Counts how many images a model was asked about, without the copies of the last one that fill up a batch."""

    def __init__(self, model):
        self.model, self.questions = model, 0

    def __call__(self, x, training=False):
        others = np.flatnonzero((np.asarray(x) != np.asarray(x[-1:])).any(axis=(1, 2, 3)))
        self.questions += others.max(initial=-1) + 2
        return self.model(x)


@exercise("09.5")
def hides(answer):
    dense, x, _ = toy(n=16)

    def base(x, training=False):  # around the middle of the box, so that all classes occur
        return dense(x - 0.5)

    def wavy(x, training=False):  # a ripple so fine that its slope says nothing of the way
        return base(x + 0.01 * tf.sin(2000 * x))

    def one_bit(x, training=False):
        return base(forward_backward(tf.cast(x >= 0.5, x.dtype), x))

    def own(model, x):  # all images right, as the model has it
        return predict_logits(model, x).argmax(axis=1)

    y, dark = own(base, x), sparse(x)
    hidden = {
        "logits multiplied by 2,000": lambda x: 2000 * base(x),
        "input rounded to 1/60": lambda x: base(tf.round(60 * x) / 60 + 0 * x),
        "a fine ripple on the input": wavy,
    }
    honest = {
        "a weak linear model": (base, x, y, 0.05),
        "a linear model at an ε that breaks few": (base, x, y, 0.004),
        "a model that gives one class to everything": (lambda x: 0 * base(x) + [3.0, 0, 0, 0], x, y, 0.05),
        "a threshold with a straight-through gradient, on black and white": (
            one_bit,
            dark,
            own(one_bit, dark),
            0.05,
        ),
    }
    cases = [(name, model, x, own(model, x), 0.05, True) for name, model in hidden.items()]
    cases += [(name, *case, False) for name, case in honest.items()]
    plain, saturated, digits, labels = _digits()
    cases += [
        ("the MLP for MNIST, its logits multiplied by 1,000", saturated, digits, labels, 0.15, True),
        ("the MLP for MNIST as it is", plain, digits, labels, 0.15, False),
    ]
    for name, model, images, classes, eps, true in cases:
        # a compiled model is left as it is, as wrapped it would run four times slower
        asked = (
            model
            if isinstance(model, tf.keras.Model | tf.types.experimental.PolymorphicFunction)
            else _Asked(model)
        )
        said = answer(asked, images.copy(), classes.copy(), eps)
        if not isinstance(said, bool | np.bool_):
            raise Hint(f"True or False was expected, {said!r} came")
        spent = getattr(asked, "questions", 0) / len(images)
        require(spent <= 2000, f"{name}: {spent:,.0f} questions about each image; 2,000 are allowed")
        require(
            not true or said,
            f"{name}: you say that it hides nothing, and there are wrong points that PGD does not find. Who could find them?",
        )
        require(
            true or not said,
            f"{name}: you say that it hides. Did you find wrong points for many images that PGD left standing?",
        )


@cache
def _digits():
    """Kept, so that a second try needs no second compilation."""
    net = load("mnist-mlp")
    return net, exhibits.saturated(net), *data.subset(*data.load("mnist")[2:], 20, seed=1)
