"""What every attack shares, once: input checks, model calls of one fixed shape, dropping broken images, random streams,
traces and query counts.

An attack is written for a `Group` of images that the model gets right. It proposes points; the group evaluates them,
remembers the best one of each image and leaves out the images that are broken:

    def attack(group):
        group.begin()
        z = group.x.copy()
        for _ in range(steps):
            z = group.ascend(z, step, ball, eps, alpha)     # evaluate z, then move the standing images by `step`
        group.look(z)

    return run(attack, model, x, y, ...)
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
from advlib._checks import check_choice, check_images, check_labels, check_logits, check_number, check_target
from advlib._tensorflow import keras, tf
from advlib.losses import ATTACK_LOSSES

# Images attacked together: enough that a tail of padding costs little, few enough that memory stays flat.
GROUP = 1024


class Trace(NamedTuple):
    """What a callback is told at each step, for the images still under attack."""

    restart: int
    step: int  # the number of gradient steps behind these points
    index: np.ndarray  # positions in x, (n,)
    loss: np.ndarray  # the attack's loss at these points, (n,)
    broken: np.ndarray  # the attack's goal is reached at these points, (n,) bool
    x_adv: np.ndarray  # the points, (n, H, W, C)


def run(
    attack, model, x, y, *, eps=None, norm=None, y_target=None, loss="ce", batch_size=128, seed=0, **options
):
    """Check the input, attack the images the model gets right in groups, and return x_adv; the others come back as they are."""
    x = check_images(x)
    if norm is not None:
        eps = norms.get(norm).check_eps(eps, x.shape[1:])
    callable(loss) or check_choice(loss, "loss", ATTACK_LOSSES)
    check_number(seed, "seed", low=0, integer=True, example=0)
    oracle = Oracle(model, batch_size)
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
            right = first + np.flatnonzero((z.argmax(axis=1) == y[part]) & ~np.isnan(z).any(axis=1))
            if right.size and eps != 0:
                group = Group(oracle, x, y, target, right, z[right - first], loss, seed, **options)
                attack(group)
                x_adv[right] = group.best
            bar.update(len(z))
    return x_adv


def quiet():
    """Progress bars are off where output is compared, as in the notebooks' regression tests."""
    return os.environ.get("ADVLIB_PROGRESS") == "0"


class Group:
    """Images that the model gets right, under attack together; holds the best point of each."""

    def __init__(
        self, oracle, x, y, target, index, z_clean, loss, seed, keep="best", early_stop=True, callback=None
    ):
        self.oracle, self.loss, self.seed, self.early_stop, self.callback = (
            oracle,
            loss,
            seed,
            early_stop,
            callback,
        )
        self.keep = check_choice(keep, "keep", ("best", "last"))
        self.index = index  # positions in the caller's x
        self.x, self.y, self.z_clean = x[index], y[index], z_clean
        self.target = None if target is None else target[index]
        constants = [self.x, self.y, self.z_clean] + ([] if target is None else [self.target])
        self.constants = [tf.constant(part) for part in constants]  # what stays the same from step to step
        self.best = self.x.copy()
        self.best_loss = np.full(len(index), -np.inf, np.float32)
        self.broken = np.zeros(len(index), bool)  # the goal is reached at `best`
        self.known = np.zeros(len(index), bool)  # `best` is a point of the attack, and no longer x

    def begin(self, restart=0, candidate=True):
        """A new restart, without the images broken in an earlier one; False where none is left. The first point
        counts as a `candidate` for the best one unless it is x itself."""
        self.restart, self.step, self.candidate = restart, 0, candidate
        self.standing = np.flatnonzero(~self.broken) if restart else np.arange(len(self.x))
        return self.standing.size > 0

    def streams(self, *purpose):
        """A random generator for each image, from the seed and the image itself: the same in any batch, place or shard."""
        return [stream(image, self.seed, *purpose) for image in self.x]

    def ascend(self, z, update, ball, *scalars, state=()):
        """Evaluate z (n, H, W, C), remember what is best, and move the standing images, in place, by
        `update(ball, z, x, gradient, *scalars, *state) -> (z, *state)`, compiled together with the gradient. Returns z."""
        step = self.oracle.step(update, ball, self.loss, self.constants, z, scalars, state)
        seen = []

        def propose(batch):
            rows, n = batch
            points = z[rows]
            return points[:n], rows[:n], step(rows, points, [s[rows] for s in state])

        for points, i, out in self.oracle.map(propose, self.oracle.batches(self.standing, backward=True)):
            n = len(i)
            value, logits, *moved = (part.numpy() for part in out)
            keep = self._remember(points, i, value[:n], logits[:n], seen)
            for whole, part in zip((z, *state), moved, strict=True):
                whole[i[keep]] = part[:n][keep]
        self._go_on(seen)
        return z

    def look(self, z):
        """Evaluate z, remember what is best."""
        i, points, seen = self.standing, z[self.standing], []
        if i.size:
            logits = self.oracle.logits(points)
            target = None if self.target is None else self.target[i]
            value = _loss(self.loss)(
                tf.constant(logits), self.y[i], target, tf.constant(self.z_clean[i])
            ).numpy()
            self._remember(points, i, value, logits, seen)
        self._go_on(seen)

    def _remember(self, points, i, value, logits, seen):
        """Keep the points of images `i` that are better than what is known; say which images to go on with."""
        predicted = logits.argmax(axis=1)
        broken = predicted != self.y[i] if self.target is None else predicted == self.target[i]
        broken &= ~np.isnan(logits).any(axis=1)  # an output that is no number is no success
        if self.step or self.candidate:
            if self.keep == "last":
                better = np.full(len(i), True)
            else:  # an adversarial point beats any other; then the larger loss; then, as a small loss rounds to 0, the later
                as_good = (broken == self.broken[i]) & (value >= self.best_loss[i])
                better = (broken & ~self.broken[i]) | as_good | ~self.known[i]
            j = i[better]
            self.best[j], self.best_loss[j] = points[better], value[better]
            self.broken[j], self.known[j] = broken[better], True
        keep = ~broken if self.early_stop else np.full(len(i), True)
        seen.append((i, keep, value, broken, points if self.callback else None))
        return keep

    def _go_on(self, seen):
        """Tell the callback what a whole step saw; drop the images that are broken."""
        if seen:
            i, keep, value, broken = (np.concatenate(part) for part in list(zip(*seen, strict=True))[:4])
            if self.callback is not None:
                points = np.concatenate([part[4] for part in seen])
                self.callback(Trace(self.restart, self.step, self.index[i], value, broken, points))
            self.standing = i[keep]
        self.step += 1


def stream(image, seed, *purpose):
    """The random generator of one image: keyed by its pixels, the seed and what the numbers are for."""
    digest = hashlib.blake2b(
        np.ascontiguousarray(image).tobytes(), digest_size=16, key=repr((seed, *purpose)).encode()[:64]
    )
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


# The compiled functions of each model, gone when the model goes.
_COMPILED = weakref.WeakKeyDictionary()
# Batches in flight: one call's ends and NumPy's part leave cores idle that another can use, a fifth of the time.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="advlib")


class Oracle:
    """A model, called in inference mode on padded batches of one fixed shape; counts the images sent through it.

    Keras models and `tf.function`s are compiled, once for each model, loss and update rule. Any other callable runs
    eagerly, three to five times slower: compiling it would freeze what it does in Python, random numbers included.
    """

    def __init__(self, model, batch_size=128):
        if not callable(model):
            raise TypeError(
                f"the model is a {type(model).__name__}: a callable from images to logits was expected, for example a keras.Model"
            )
        self.batch_size = check_number(batch_size, "batch_size", low=1, integer=True, example=128)
        self.forwards = self.backwards = 0
        self.model = model
        self.keras = isinstance(model, keras.Model)
        if self.keras:
            from advlib.models import check_keras

            check_keras(model)
        self.compiles = self.keras or isinstance(model, tf.types.experimental.PolymorphicFunction)

    def logits(self, x):
        """(N, H, W, C) → NumPy (N, K), forward passes only."""
        shape = tf.TensorSpec([self.batch_size, *x.shape[1:]], tf.float32)
        forward = self._compiled("logits", lambda call: call, [shape])

        def call(batch):
            rows, n = batch
            return np.asarray(forward(tf.constant(x[rows])))[:n]

        return np.concatenate(list(self.map(call, self.batches(np.arange(len(x))))))

    def map(self, f, batches):
        """f of each batch, in order; several at once where the model has no state that the order could change."""
        return _THREADS.map(f, batches) if self.parallel else map(f, batches)

    def step(self, update, ball, loss, constants, z, scalars, state):
        """A function (rows, points, state) → loss, logits and the points moved by `update`, with their state, of one batch.

        constants: what stays the same from step to step, tensors (x, y, z_clean) or (x, y, z_clean, target)."""

        def build(call):
            def step(rows, z, state, constants, scalars):
                # gathered inside the compiled step: cheaper than in Python
                x, y, z_clean, *target = (tf.gather(c, rows) for c in constants)
                with tf.GradientTape() as tape:
                    tape.watch(z)
                    logits = call(z)
                    value = _loss(loss)(logits, y, target[0] if target else None, z_clean)
                    total = tf.reduce_sum(
                        value
                    )  # a sum: no image's gradient depends on the size of the batch
                gradient = tape.gradient(total, z)
                if gradient is None:
                    raise ValueError(
                        "the model's output does not depend on its input through TensorFlow operations, so there is no "
                        "gradient: a model of TensorFlow or Keras operations was expected; for another, use an attack "
                        "that needs none"
                    )
                return value, logits, *update(ball, z, x, gradient, *scalars, *state)

            return step

        batch = tf.TensorSpec([self.batch_size, *z.shape[1:]], tf.float32)
        rest = (
            [tf.TensorSpec([None, *c.shape[1:]], c.dtype) for c in constants],
            [tf.TensorSpec([], tf.float32)] * len(scalars),
        )
        signature = (tf.TensorSpec([self.batch_size], tf.int64), batch, [batch] * len(state), *rest)
        step = self._compiled((update, ball, loss, len(constants), len(scalars)), build, signature)
        scalars = [tf.constant(s, tf.float32) for s in scalars]
        return lambda rows, points, state: step(
            tf.constant(rows), tf.constant(points), list(map(tf.constant, state)), constants, scalars
        )

    def batches(self, index, backward=False):
        """Rows for each call, padded by repeating the last, and how many of them count."""
        self.forwards += len(index)
        self.backwards += len(index) if backward else 0
        for first in range(0, len(index), self.batch_size):
            rows = index[first : first + self.batch_size]
            yield np.pad(rows, (0, self.batch_size - len(rows)), mode="edge"), len(rows)

    def _compiled(self, key, build, signature):
        """The function that `build` makes around the model, compiled once for a key and image shape."""
        self.parallel = False
        if not self.compiles:
            return build(self._call())
        known = _COMPILED.setdefault(self.model, {})
        key = (key, str(signature))
        if key not in known:
            # Through a weak reference: a strong one, held by the cache, would keep every model alive for ever.
            compiled = tf.function(build(self._call(weakref.ref(self.model))), input_signature=signature)
            # The concrete function, as the bookkeeping of a tf.function costs a millisecond a call, a fifth of a batch.
            known[key] = compiled.get_concrete_function()
        stateful = {op.type for op in known[key].graph.get_operations() if op.op_def.is_stateful}
        self.parallel = stateful <= {"ReadVariableOp"}
        return known[key]

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
            z = tf.convert_to_tensor(z)
            return tf.cast(z, tf.float32) if z.dtype != tf.float32 else z

        return call


def _accepts(f, word):
    try:
        return word in inspect.signature(f).parameters
    except (TypeError, ValueError):
        return False


def _loss(loss):
    if callable(loss):  # a learner's own: (logits, y) → one number an image, to be made large
        return lambda z, y, target, z_clean: loss(z, y)
    return ATTACK_LOSSES[loss]
