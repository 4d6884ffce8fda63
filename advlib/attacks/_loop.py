"""What every attack shares, once: input checks, model calls of one fixed shape, dropping broken images, random streams,
traces and query counts.

An attack is written for a `Group` of images that the model gets right. It proposes points; the group evaluates them,
remembers the best one of each image and leaves out the images that are broken:

    def attack(group):
        group.begin()
        z = group.x.copy()
        for _ in range(steps):
            z = group.ascend(z, update, ball, eps, alpha)   # evaluate z, then move the standing images by `update`
        group.look(z)                                       # evaluate z

    return run(attack, model, x, y, ...)

An update rule is a function (ball, at, *scalars, *state) → (z, *state), compiled together with the gradient; `at` is an
`At`. An attack without gradients asks `group.query(points, i)` instead. With `smallest=True` the best point is the
adversarial one of smallest norm (a minimal-norm attack), else the one of largest loss (a budget attack).
"""

import hashlib
import inspect
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from advlib import norms
from advlib._checks import (
    check_choice,
    check_images,
    check_labels,
    check_logits,
    check_number,
    check_target,
    predicted_classes,
)
from advlib._tensorflow import keras, tf
from advlib.attacks.black_box import BlackBox, NoGradientError
from advlib.losses import ATTACK_LOSSES

# Images attacked together: enough that a tail of padding costs little, few enough that memory stays flat.
GROUP = 1024


class Trace(NamedTuple):
    """What a callback is told at each step, for the images still under attack."""

    restart: int
    step: int  # the number of steps behind these points
    index: np.ndarray  # positions in x, (n,)
    # the attack's loss at these points, (n,); of HopSkipJump and Boundary, which have none, −‖x_adv − x‖
    loss: np.ndarray
    broken: np.ndarray  # the attack's goal is reached at these points, (n,) bool
    x_adv: np.ndarray  # the points, (n, H, W, C)
    queries: np.ndarray  # forward passes spent on each of these images so far, (n,)


class At(NamedTuple):
    """Where an update rule finds a batch of images, and what the model says there; all tensors."""

    z: object  # the points, (B, H, W, C)
    x: object  # the originals
    gradient: object  # of the loss in z, (B, H, W, C); for a rule with `jacobian = True` of all `differences`, (B, K−1, H, W, C)
    y: object = None  # true labels, (B,)
    aim: object = None  # the class the loss heads for, (B,), or None
    loss: object = None  # (B,)
    logits: object = None  # (B, K)
    broken: object = None  # the attack's goal is reached at z, (B,) bool


def run(
    attack, model, x, y, *, eps=None, norm=None, y_target=None, loss="ce", batch_size=144, seed=0, smallest=False,
    gradient=True, **options,
):  # fmt: skip
    """Check the input, attack the images the model gets right in groups, and return x_adv; the others come back as they are.

    smallest: a minimal-norm attack in `norm`, without a budget. gradient: whether the attack may take one."""
    x = check_images(x)
    ball = None if norm is None else norms.get(norm)
    if ball is not None and not smallest:
        eps = ball.check_eps(eps, x.shape[1:])
    callable(loss) or check_choice(loss, "loss", ATTACK_LOSSES)
    if y_target is not None and (callable(loss) or loss == "kl"):
        raise ValueError(f"loss={loss!r} with y_target: {NO_TARGET}")
    check_number(seed, "seed", low=0, integer=True, example=0)
    oracle = Oracle(model, batch_size, gradient)
    y = check_labels(y, len(x))
    x_adv = x.copy()
    bar = tqdm(
        total=len(x),
        desc=getattr(attack, "__qualname__", "attack").split(".")[0],
        unit="image",
        delay=5,
        leave=False,
        disable=quiet(),
    )
    with bar:
        for first in range(0, len(x), GROUP):
            part = slice(first, first + GROUP)
            z = check_logits(oracle.logits(x[part]), len(x[part]))
            check_labels(y, len(x), z.shape[1])
            target = check_target(y_target, y, z.shape[1])
            right = first + np.flatnonzero(ever_right(oracle, x[part], y[part], z))
            if right.size and eps != 0:
                group = Group(
                    oracle, x, y, target, right, z[right - first], loss, seed, ball if smallest else None, **options
                )  # fmt: skip
                attack(group)
                if smallest:
                    group.verify()
                x_adv[right] = group.best
            bar.update(len(z))
    return x_adv


def ever_right(oracle, x, y, z, draws=10):
    """Which images a model gets right, whose first answer is z; of a model that answers at random, in one of ten draws: an
    image left out for one unlucky draw would come back as it is, and pass for robust in the next."""
    right = predicted_classes(z) == y
    if oracle.parallel or oracle.box:  # the same answer each time
        return right
    for _ in range(draws - 1):
        wrong = np.flatnonzero(~right)
        again = oracle.logits(x[wrong]) if wrong.size else z[wrong]
        if np.array_equal(again, z[wrong], equal_nan=True):
            break
        right[wrong] = predicted_classes(again) == y[wrong]
    return right


def quiet():
    """Progress bars are off where output is compared, as in the notebooks' regression tests."""
    return os.environ.get("ADVLIB_PROGRESS") == "0"


class Group:
    """Images that the model gets right, under attack together; holds the best point of each."""

    confidence = 0.0  # the margin that counts as reaching the goal
    # how far `verify` moves a point, in shares of its length; the large ones are for models that answer at random
    outward = 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6

    def __init__(
        self, oracle, x, y, target, index, z_clean, loss, seed, smallest=None, keep="best", early_stop=True, callback=None
    ):  # fmt: skip
        self.oracle, self.loss, self.seed, self.callback = oracle, loss, seed, callback
        self.smallest = smallest  # the norm that a minimal-norm attack makes small, else None
        self.early_stop = early_stop and smallest is None
        self.keep = check_choice(keep, "keep", ("best", "last"))
        self.index = index  # positions in the caller's x
        self.x, self.y, self.z_clean = x[index], y[index], z_clean
        self.target = None if target is None else target[index]
        self.head_for(self.target)
        self.best = self.x.copy()
        # the loss at `best` in a budget attack; minus the size of its perturbation in a minimal-norm attack
        self.best_value = np.full(len(index), -np.inf, np.float32)
        self.broken = np.zeros(len(index), bool)  # the goal is reached at `best`
        self.known = np.zeros(len(index), bool)  # `best` is a point of the attack, and no longer x
        self.queries = np.ones(len(index), np.int64)  # forward passes of each image, the first at x itself
        self.restart, self.step, self.candidate = 0, 0, True
        self.standing = np.arange(len(index))

    def head_for(self, aim):
        """The class (n,) that the loss leads to: the target of a targeted attack, or a guide for an untargeted one."""
        self.aim = aim
        constants = [self.x, self.y, self.z_clean] + ([] if aim is None else [aim])
        self.constants = [tf.constant(part) for part in constants]  # what stays the same from step to step

    def begin(self, restart=0, candidate=True):
        """A new restart, without the images broken in an earlier one (all of them in a minimal-norm attack); False where
        none is left. The first point counts as a `candidate` for the best one unless it is x itself."""
        self.restart, self.step, self.candidate = restart, 0, candidate
        self.standing = np.flatnonzero(~self.broken | (self.smallest is not None) | (not restart))
        return self.standing.size > 0

    @property
    def distance(self):
        """The size of the smallest adversarial perturbation found, +inf where none was, (n,)."""
        return -self.best_value

    def streams(self, *purpose):
        """A random generator for each image, from the seed and the image itself: the same in any batch, place or shard."""
        return [stream(image, self.seed, *purpose) for image in self.x]

    def ascend(self, z, update, ball, *scalars, state=()):
        """Evaluate z (n, H, W, C), remember what is best, and move the standing images, in place, by
        `update(ball, at, *scalars, *state) -> (z, *state)`, compiled together with the gradient. Returns z.

        state: arrays whose first axis is the image, kept from step to step; they too are changed in place."""
        step = self.oracle.step(
            update, ball, self.loss, self.constants, self.target is not None, z, scalars, state, self.smallest
        )
        seen = []

        def propose(batch):
            rows, n = batch
            points = take(z, rows)
            return points[:n], rows[:n], step(rows, points, [take(s, rows) for s in state])

        self.queries[self.standing] += 1
        for points, i, out in self.oracle.map(propose, self.oracle.batches(self.standing, backward=True)):
            # without a copy, which .numpy() would make
            value, logits, *moved, size = (np.asarray(part)[: len(i)] for part in out)
            keep = self._remember(points, i, value, logits, size if self.smallest else None, seen)
            for whole, part in zip((z, *state), moved, strict=True):
                put(whole, i, part) if keep.all() else put(whole, i[keep], part[keep])
        self._go_on(seen)
        return z

    def look(self, z):
        """Evaluate z (n, H, W, C), remember what is best."""
        seen = []
        if self.standing.size:
            self._ask(z[self.standing], self.standing, seen)
        self._go_on(seen)

    def query(self, points, i, candidates=True):
        """Evaluate `points` (m, H, W, C) of images `i` (m,), in which an image may come more than once; forward passes only.
        Returns the loss and whether the goal is reached, both (m,). Unless they are no `candidates`, remembers what is best."""
        seen = []
        self._ask(points, i, seen, candidates)
        return seen[0][2], seen[0][3]

    def tell(self):
        """End of a step of an attack that queries: tell the callback where the standing images are; drop the broken ones."""
        i = self.standing
        keep = ~self.broken[i] | (not self.early_stop)
        if i.size:
            self._go_on([(i, keep, self.best_value[i], self.broken[i], self.best[i])])

    def verify(self):
        """A smallest perturbation ends so near the boundary that another compiled function may round it back: judge it by
        the forward pass alone, move what fell back a little outward (by 1e-6 of its length, or more), or give it up."""
        i = np.flatnonzero(self.broken)
        for share in (0, *self.outward):
            if i.size:
                outward = self.x[i] + np.float32(1 + share) * (self.best[i] - self.x[i])
                points = np.clip(outward, 0, 1) if share else self.best[i]
                holds = self._reached(self.oracle.logits(points), i)
                self.best[i[holds]] = points[holds]
                i = i[~holds]
        self.best[i], self.broken[i], self.best_value[i] = self.x[i], False, -np.inf

    def _ask(self, points, i, seen, candidates=True):
        np.add.at(self.queries, i, 1)
        logits = self.oracle.logits(points)
        aim = None if self.aim is None else self.aim[i]
        given = [logits, self.y[i], self.z_clean[i]] + ([] if aim is None else [aim])
        value = _compiled_loss(self.loss, *map(tf.constant, given)).numpy()
        size = None
        if candidates and self.smallest is not None:
            # padded as every call is: a sum over fewer rows could round otherwise
            batches = self.oracle.padded(np.arange(len(i)))
            size = np.concatenate([self._size(points[rows], i[rows])[:n] for rows, n in batches])
        self._remember(points, i, value, logits, size, seen, candidates)

    def _reached(self, logits, i):
        """Which of these outputs reach the attack's goal; one that is no number does not."""
        if self.confidence:  # the label, or the target, is given or denied that much
            own, sign = (self.y, 1) if self.target is None else (self.target, -1)
            logits = (
                logits
                + np.float32(sign * self.confidence) * np.eye(logits.shape[1], dtype=np.float32)[own[i]]
            )
        predicted = logits.argmax(axis=1)
        reached = predicted != self.y[i] if self.target is None else predicted == self.target[i]
        return reached & ~np.isnan(logits).any(axis=1)

    def _size(self, points, rows):
        return None if self.smallest is None else self.smallest.size(points - self.x[rows]).numpy()

    def _remember(self, points, i, value, logits, size, seen, candidates=True):
        """Keep the points of images `i` that are better than what is known; say which images to go on with."""
        broken = self._reached(logits, i)
        if candidates and (self.step or self.candidate):
            worth = value if size is None else -size[: len(i)]
            if self.keep == "last":
                better = np.full(len(i), True)
            elif size is not None:
                better = broken & (worth > self.best_value[i])
            else:  # an adversarial point beats any other; then the larger loss; then, as a small loss rounds to 0, the later
                best = self.best_value[i]
                as_good = (broken == self.broken[i]) & ((value >= best) | np.isnan(best))
                better = (broken & ~self.broken[i]) | as_good | ~self.known[i]
            j = i[better]
            self.best[j], self.best_value[j] = points[better], worth[better]
            self.broken[j], self.known[j] = broken[better], True
        # not ~broken: x itself, unlucky in one draw of a model that answers at random, is no example yet
        keep = ~self.broken[i] if self.early_stop else np.full(len(i), True)
        # a copy, as the points are about to move
        seen.append((i, keep, value, broken, points.copy() if self.callback else None))
        return keep

    def _go_on(self, seen):
        """Tell the callback what a whole step saw; drop the images that are broken."""
        if seen:
            i, keep, value, broken = (np.concatenate(part) for part in list(zip(*seen, strict=True))[:4])
            if self.callback is not None:
                points = np.concatenate([part[4] for part in seen])
                queries = self.queries[i].copy()
                self.callback(Trace(self.restart, self.step, self.index[i], value, broken, points, queries))
            self.standing = i[keep]
        self.step += 1


def differences(logits, y):
    """z_k − z_y for the K − 1 classes k ≠ y, in their order: (B, K), (B,) → (B, K−1)."""
    k = tf.range(logits.shape[1] - 1, dtype=y.dtype)[None]
    others = tf.gather(logits, k + tf.cast(k >= y[:, None], y.dtype), axis=1, batch_dims=1)
    return others - tf.gather(logits, y[:, None], axis=1, batch_dims=1)


def take(a, rows):
    """a[rows] for ascending rows; a view, several times cheaper, where they are a run without gaps and padding."""
    first, last = rows[0], rows[-1]
    run = last - first == len(rows) - 1 and (len(rows) == 1 or rows[-2] < last)
    return a[first : last + 1] if run else a[rows]


def put(a, rows, values):
    """a[rows] = values for ascending rows, none twice; the same way."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        a[rows[0] : rows[-1] + 1] = values
    else:
        a[rows] = values


def stream(image, seed, *purpose):
    """The random generator of one image: keyed by its pixels, the seed and what the numbers are for."""
    digest = hashlib.blake2b(
        np.ascontiguousarray(image).tobytes(), digest_size=16, key=repr((int(seed), *purpose)).encode()[:64]
    )
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


# The compiled functions of each model, gone when the model goes.
_COMPILED = weakref.WeakKeyDictionary()
# Batches in flight: one call's ends and NumPy's part leave cores idle that another can use, a fifth of the time.
THREADS = ThreadPoolExecutor(4, thread_name_prefix="advlib")


class Oracle:
    """A model, called in inference mode on padded batches of one fixed shape; counts the images sent through it.

    Keras models and `tf.function`s are compiled, once for each model, loss and update rule, and again where a Keras model has
    other layers, activations or variables than before; a plain Python attribute of yours, changed later, is not seen. Any other
    callable runs eagerly, three to five times slower: compiling it would freeze what it does in Python, random numbers included.

    batch_size: oneDNN multiplies matrices 24 rows at a time with AVX2 and 48 with AVX-512, and what is left over by another
    loop, which may round otherwise. Measured with AVX2, the last bits depend on an image's place in batches of 32, 50 and 128,
    and not in multiples of 24 (`benchmarks/batch_size.py`). 144 keeps several cores busy, where 48 takes up to twice as long;
    but a batch is padded to its size, so that 48 is faster for up to 96 images. Bits differ between the two.
    """

    def __init__(self, model, batch_size=144, gradient=True):
        if not callable(model):
            raise TypeError(
                f"the model is a {type(model).__name__}: a callable from images to logits was expected, for example a keras.Model"
            )
        self.batch_size = check_number(batch_size, "batch_size", low=1, integer=True, example=144)
        self.forwards = self.backwards = 0
        self.box = model if isinstance(model, BlackBox) else None
        self.gradient = gradient
        self.model = model = self.box.model if self.box else model
        self.own = {}  # compiled for this oracle alone
        self.keras = isinstance(model, keras.Model)
        if self.keras:
            from advlib.models import check_keras

            check_keras(model)
        # A layer popped, a new head, LoRA: another model, though the object is the same.
        layers = model._flatten_layers() if self.keras else ()
        self.built = tuple(
            (weakref.ref(a), getattr(a, "activation", None), len(a.variables), _adapted(a)) for a in layers
        )
        self.compiles = self.keras or isinstance(model, tf.types.experimental.PolymorphicFunction)

    def logits(self, x):
        """(N, H, W, C) → NumPy (N, K), forward passes only."""
        shape = tf.TensorSpec([self.batch_size, *x.shape[1:]], tf.float32)
        forward = self._compiled("logits", lambda call: call, [shape])

        def call(batch):
            rows, n = batch
            return np.asarray(forward(tf.constant(take(x, rows))))[:n]

        z = np.concatenate(list(self.map(call, self.batches(np.arange(len(x))))))
        return self.box.shown(z) if self.box else z

    def map(self, f, batches):
        """f of each batch, in order; several at once where the model has no state that the order could change."""
        return THREADS.map(f, batches) if self.parallel else map(f, batches)

    def step(self, update, ball, loss, constants, targeted, z, scalars, state, smallest=None):
        """A function (rows, points, state) → loss, logits, the points moved by `update`, their state, and the size of z − x.

        constants: what stays the same from step to step, tensors (x, y, z_clean) or (x, y, z_clean, aim). smallest: the norm
        of the size, which is 0 without one."""
        if self.box or not self.gradient:
            raise NoGradientError("a gradient was asked of an oracle that only answers: an attack without gradients was "
                                  "expected, for example advlib.attacks.square")  # fmt: skip
        jacobian = getattr(update, "jacobian", False)
        classes = constants[2].shape[1]

        def build(call):
            def step(rows, z, state, constants, scalars):
                # gathered inside the compiled step: cheaper than in Python
                x, y, z_clean, *aim = (tf.gather(c, rows) for c in constants)
                aim = aim[0] if aim else None
                with tf.GradientTape(persistent=jacobian) as tape:
                    tape.watch(z)
                    logits = call(z)
                    value = _loss(loss)(logits, y, aim, z_clean)
                    # sums: no image's gradient depends on the size of the batch
                    total = (
                        tf.reduce_sum(differences(logits, y), axis=0) if jacobian else tf.reduce_sum(value)
                    )
                if jacobian:  # in a loop: a graph of K − 1 backward passes takes minutes to build at K = 200
                    gradient = tape.jacobian(total, z, parallel_iterations=1, experimental_use_pfor=False)
                else:
                    gradient = tape.gradient(total, z)
                if gradient is None:
                    raise NoGradientError(
                        "the model's output does not depend on its input through TensorFlow operations, so there is no "
                        "gradient: a model of TensorFlow or Keras operations was expected; for another, use an attack "
                        "that needs none, for example advlib.attacks.square"
                    )
                # an infinite slope, as that of √x at black, says nothing of the other pixels; 0 · ∞ = 0 here
                finite = tf.cast(tf.math.is_finite(gradient), gradient.dtype)
                gradient = tf.math.multiply_no_nan(gradient, finite)
                gradient = tf.transpose(gradient, (1, 0, 2, 3, 4)) if jacobian else gradient
                predicted = tf.argmax(logits, axis=1)
                broken = predicted == aim if targeted else predicted != y
                broken &= ~tf.reduce_any(tf.math.is_nan(logits), axis=1)
                moved = update(ball, At(z, x, gradient, y, aim, value, logits, broken), *scalars, *state)
                return (
                    value,
                    logits,
                    *moved,
                    tf.zeros_like(value) if smallest is None else smallest.size(z - x),
                )

            return step

        batch = tf.TensorSpec([self.batch_size, *z.shape[1:]], tf.float32)
        states = [tf.TensorSpec([self.batch_size, *s.shape[1:]], s.dtype) for s in state]
        rest = (
            [tf.TensorSpec([None, *c.shape[1:]], c.dtype) for c in constants],
            [tf.TensorSpec([], tf.float32)] * len(scalars),
        )
        signature = (tf.TensorSpec([self.batch_size], tf.int64), batch, states, *rest)
        key = (update, ball, loss, len(constants), targeted, len(scalars), smallest)
        # a learner's own loss may read what changes between two calls: it is compiled anew for each
        step = self._compiled(key, build, signature, self.own if callable(loss) else None)
        self.cost = classes - 1 if jacobian else 1
        scalars = [tf.constant(s, tf.float32) for s in scalars]
        return lambda rows, points, state: step(
            tf.constant(rows), tf.constant(points), list(map(tf.constant, state)), constants, scalars
        )

    def batches(self, index, backward=False):
        """Rows for each call, padded by repeating the last, and how many of them count; counted as forward passes and,
        if `backward`, as gradients (for a Jacobian, of each wrong class)."""
        self.forwards += len(index)
        self.backwards += len(index) * self.cost if backward else 0
        if self.box:
            self.box.queries += len(index)
        return self.padded(index)

    def padded(self, index):
        """Rows for each call and how many of them count."""
        for first in range(0, len(index), self.batch_size):
            rows = index[first : first + self.batch_size]
            yield np.pad(rows, (0, self.batch_size - len(rows)), mode="edge"), len(rows)

    def _compiled(self, key, build, signature, known=None):
        """The function that `build` makes around the model, compiled once for a key and image shape, and kept in `known`."""
        self.parallel = False
        if not self.compiles:
            return build(self._call())
        known = _COMPILED.setdefault(self.model, {}) if known is None else known
        key = (key, str(signature), self.built)
        if key not in known:
            # Through a weak reference: a strong one, held by the cache, would keep every model alive for ever.
            compiled = tf.function(build(self._call(weakref.ref(self.model))), input_signature=signature)
            # The concrete function, as the bookkeeping of a tf.function costs a millisecond a call, a fifth of a batch.
            compiled = compiled.get_concrete_function()
            stateful = {op.type for op in compiled.graph.get_operations() if op.op_def.is_stateful}
            known[key] = compiled, stateful <= {"ReadVariableOp"}
        compiled, self.parallel = known[key]
        return compiled

    def _call(self, reference=None):
        model, name = self.model, getattr(self.model, "name", type(self.model).__name__)
        takes_training = self.keras or _accepts(model, "training")
        if reference is not None:
            del model

        def call(x):
            f = reference() if reference is not None else model
            try:
                z = f(x, training=False) if takes_training else f(x)
            except (ValueError, tf.errors.InvalidArgumentError) as error:
                raise ValueError(
                    f"the model {name} does not take images of shape {tuple(x.shape[1:])}: {str(error).strip().splitlines()[0]}; "
                    "images of the shape it was built for were expected, for example (28, 28, 1)"
                ) from error
            if isinstance(z, (dict, list, tuple)):
                parts = list(z.values()) if isinstance(z, dict) else z
                if len(parts) != 1:
                    raise TypeError(
                        f"the model {name} returned a {type(z).__name__} of {len(z)}: one tensor of logits was expected, "
                        "for example lambda x: model(x)[0]"
                    )
                z = parts[0]
            z = tf.convert_to_tensor(z)
            return tf.cast(z, tf.float32) if z.dtype != tf.float32 else z

        return call


def _adapted(layer):
    """What `Normalization.adapt` and `load_weights` change: tensors, which a compiled function takes for constants."""
    if not isinstance(layer, keras.layers.Normalization) or getattr(layer, "mean", None) is None:
        return None
    return np.asarray(layer.mean).tobytes(), np.asarray(layer.variance).tobytes()


def _accepts(f, word):
    if word in getattr(f, "keywords", ()):  # a partial that has made its choice
        return False
    try:
        return word in inspect.signature(f).parameters
    except (TypeError, ValueError):
        return False


def _compiled_loss(loss, *given):
    """The loss at (logits, y, z_clean) or (logits, y, z_clean, aim), tensors: compiled, as its operations one by one cost as
    much as the forward pass of fifty images."""
    key = loss, given[0].shape[1], len(given)
    if callable(loss):
        return _loss(loss)(*given[:2], None, None)
    if key not in _LOSSES:
        compiled = tf.function(
            lambda z, y, z_clean, *aim: _loss(loss)(z, y, aim[0] if aim else None, z_clean)
        )
        signature = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in given]
        _LOSSES[key] = compiled.get_concrete_function(*signature)
    return _LOSSES[key](*given)


_LOSSES = {}
NO_TARGET = "a loss that heads for a class was expected, for example loss='margin'"
NO_START = "loss='kl' from x itself, where its gradient is 0: a random start was expected, for example pgd(..., loss='kl')"


def _one_an_image(value, y):
    if value.shape != y.shape:
        raise ValueError(
            f"the loss returned shape {tuple(value.shape)} for {len(y)} images: one number an image, shape ({len(y)},), was "
            "expected, for example -tf.gather(logits, y, axis=1, batch_dims=1), without tf.reduce_mean"
        )
    return value


def _loss(loss):
    if callable(loss):  # a learner's own: (logits, y) → one number an image, to be made large
        return lambda z, y, target, z_clean: _one_an_image(loss(z, y), y)
    return ATTACK_LOSSES[loss]
