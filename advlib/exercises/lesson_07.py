"""Checks of lesson 07, without gradients: transfer, the price of a gradient, bisection, a search by scores."""

import numpy as np

from advlib.attacks.black_box import BlackBox
from advlib.exercises import exercise, number, require
from advlib.exercises.properties import inside, lead, sparse
from advlib.models import predict_logits
from advlib.testing import toy


class _Box(BlackBox):
    """A black box that also takes float64 images, as NumPy makes them all too easily."""

    def __call__(self, x):
        from advlib._tensorflow import tf

        return super().__call__(tf.cast(x, tf.float32))


@exercise("07.1")
def transferred(answer):
    source, target = _Said(), _Said()

    def call(by_source, by_target, by_target_after, y):
        n = len(y)
        x, x_adv = (np.full((n, 1, 1, 1), level, np.float32) for level in (0.25, 0.75))
        x += np.arange(n, dtype=np.float32).reshape(x.shape) / 64  # tells the images apart
        x_adv += np.arange(n, dtype=np.float32).reshape(x.shape) / 64
        source.say(by_source, by_source)
        target.say(by_target, by_target_after)
        result = answer(source, target, x, np.array(y), x_adv)
        require(np.shape(result) == (2,), "two numbers were expected: how many are broken, and of how many")
        return [number(value, "a count") for value in result]

    broken, of = call([0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1])
    require(
        broken == 2,
        "both models are right about four images, and the target is wrong about two of the examples",
    )
    require(of == 4, "both models are right about four images: is it two of four?")
    broken, of = call([0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0])
    require(broken == 1, "an image that the target gets wrong anyway is booked as a success of the transfer")
    require(of == 2, "of three images the target gets one wrong without attack: it should not count at all")
    broken, of = call([0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0])
    require(
        (broken, of) == (1, 2),
        "of three images the source gets one wrong without attack, so that no attack was needed there: it should not count",
    )
    rng = np.random.default_rng(0)
    y, a, b, c = rng.integers(0, 3, (4, 16))
    expected = ((a == y) & (b == y) & (c != y)).sum(), ((a == y) & (b == y)).sum()
    require(
        tuple(call(a, b, c, y)) == expected,
        "on sixteen random images the counts are others: who must be right about what?",
    )


class _Said:
    """A model that answers from a table: image i is i/64 brighter than 0.25, its example i/64 brighter than 0.75."""

    def __init__(self):
        from advlib._tensorflow import tf

        self.tf, self.table = tf, tf.Variable(tf.zeros(64, tf.int64))

    def say(self, clean, later):
        table = np.zeros(64, np.int64)
        table[: len(clean)], table[32 : 32 + len(later)] = clean, later
        self.table.assign(table)

    def __call__(self, x, training=False):
        place = self.tf.cast(self.tf.round((x[:, 0, 0, 0] - 0.25) * 64), self.tf.int64)
        return 9 * self.tf.one_hot(self.tf.gather(self.table, self.tf.clip_by_value(place, 0, 63)), 3)


@exercise("07.2")
def price(pairs, questions):
    pairs, questions = number(pairs, "pairs"), number(questions, "questions")
    require(
        pairs == round(pairs) and 1 <= pairs <= 20_000,
        f"pairs: a whole number of directions was expected, {pairs:g} came",
    )
    rng, seen = np.random.default_rng(0), []
    for _ in range(12):
        g, v = rng.standard_normal(784), rng.choice(np.array([-1, 1], np.float32), (int(pairs), 784))
        estimate = (v @ g) @ v
        seen.append(g @ estimate / np.linalg.norm(g) / np.linalg.norm(estimate))
    measured = np.mean(seen)
    require(
        abs(measured - 0.5) < 0.03,
        f"pairs: measured with {int(pairs):,} directions the cosine is {measured:.2f}; solve the lesson's formula for n",
    )
    require(questions != 10 * pairs, "questions: how many questions does the slope in one direction cost?")
    require(
        abs(questions - 20 * pairs) <= 20,
        f"questions: not what {int(pairs):,} directions for each of ten steps cost, each by a difference",
    )


@exercise("07.3")
def bisect(answer):
    model, x, y = toy()
    logits, i = predict_logits(model, x).astype(float), np.arange(len(x))
    w, rival = model.get_weights()[0].T, logits.argsort(axis=1)[:, -2]
    direction = np.sign(w[rival] - w[y]).reshape(x.shape)
    far = np.clip(x + np.random.default_rng(0).uniform(0.15, 0.3, x.shape) * direction, 0, 1).astype(
        np.float32
    )
    after = predict_logits(model, far).astype(float)
    wrong = after.argmax(axis=1) != y
    x, far, y, logits, after, i = (
        x[wrong],
        far[wrong],
        y[wrong],
        logits[wrong],
        after[wrong],
        i[: wrong.sum()],
    )
    # the logits are linear along the way: class k passes class y at t = lead / (lead + lead there)
    before, beyond = logits[i, y][:, None] - logits, after - after[i, y][:, None]
    turns = np.where(beyond > 0, before / np.where(beyond > 0, before + beyond, 1), np.inf)
    turn = np.where(np.arange(4) == y[:, None], np.inf, turns).min(axis=1)

    for questions in (1, 6, 14):
        box = _Box(model, labels=True)
        z = np.asarray(answer(box, x.copy(), far.copy(), y.copy(), questions), float)
        case = f"with {questions} question{'s' if questions > 1 else ''} an image"
        require(
            z.shape == x.shape,
            f"the result has shape {z.shape} for {x.shape}: one point for each image was expected",
        )
        require(
            box.queries <= questions * len(x),
            f"{case}: the box was asked {box.queries} questions about {len(x)} images",
        )
        way = (far - x).astype(float)
        t = (way * (z - x)).sum(axis=(1, 2, 3)) / (way**2).sum(axis=(1, 2, 3))
        off = np.abs(z - x - t[:, None, None, None] * way).max()
        require(off < 1e-5, f"{case}: some point is not on the straight line between far and x")
        require(
            predict_logits(model, z.astype(np.float32)).argmax(axis=1) != y,
            f"{case}: the model is right about some returned point; which end of the last interval is the wrong one?",
        )
        require(
            t - turn < 2.0 ** (1 - questions) + 1e-5,
            f"{case}: for some image the returned point is {(t - turn).max():.3f} of the way beyond the boundary; "
            "halving would come nearer",
        )


@exercise("07.4")
def search(answer):
    model, x, y = toy()
    for images, place in ((x, "the middle of the box"), (sparse(x), "black and white pixels")):
        labels = predict_logits(model, images).argmax(axis=1)
        box = _Box(model)
        given = images.copy()
        z = inside(answer(box, given, labels, 0.05, 60, np.random.default_rng(1)), images, 0.05)
        require((given == images).all(), "x was changed by the call; work on a copy")
        require(
            box.queries <= 60 * len(images),
            f"with questions=60 the box was asked {box.queries} questions about {len(images)} images, for {place}",
        )
    box, small = _Box(model), np.float32(0.05)
    z = inside(answer(box, x.copy(), y, 0.05, 200, np.random.default_rng(2)), x, 0.05)
    require(
        box.queries <= 200 * len(x),
        f"with questions=200 the box was asked {box.queries} about {len(x)} images",
    )
    rng, clean = np.random.default_rng(0), lead(model, x, y)
    drawn = np.repeat(x, 200, axis=0) + small * rng.choice(
        np.array([-1, 1], np.float32), (200 * len(x), *x.shape[1:])
    )
    noise = lead(model, drawn, np.repeat(y, 200)).reshape(-1, 200).max(axis=1) - clean
    gained = lead(model, z.astype(np.float32), y) - clean
    # images that noise breaks are left out: an attack may leave an image alone once it is broken
    hard = clean + noise <= 0
    noise, gained = noise[hard], gained[hard]
    require(
        gained.mean() > 1.2 * noise.mean(),
        f"the wrong class gains {gained.mean():.2f} on average in 200 questions, in the best of 200 draws {noise.mean():.2f}: "
        "does each proposal begin from the best point so far, and is it kept only where it helped?",
    )
    require(
        (gained > 0.8 * noise).mean() > 0.9,
        "some images gain much, others hardly anything: is a proposal kept or forgotten for each image on its own?",
    )


@exercise("07.5")
def reading(half, left, asked):
    half, left = number(half, "half"), number(left, "left")
    median, remaining = float(np.median(asked)), int((asked > 100).sum())
    require(half > 0, "half: a number of questions was expected")
    require(
        1 / 1.3 <= half / median <= 1.3,
        f"half: after {half:g} questions {int((asked > half).sum())} of {len(asked)} images are still right; "
        "where does the curve pass the middle?",
    )
    require(
        0 <= left <= len(asked) and left == round(left),
        f"left: a number of images from 0 to {len(asked)} was expected",
    )
    require(
        abs(left - remaining) <= 4,
        "left: go up from 100 on the axis to the curve, then across to the scale on the left",
    )
