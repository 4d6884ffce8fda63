"""The four norms of the course, each once: size, projection, steepest direction, random point.

A budget ε is in pixel units with pixels in [0, 1]. L0 counts pixels, all channels of a pixel together; L1 sums over
every number. The arithmetic is TensorFlow's, so that the same lines run eagerly, inside an attack's compiled step and
inside a training step. Lesson 03 derives the steepest directions, lesson 04 the projections.

    >>> norms.get("l2").size(np.ones((1, 2, 2, 1), "float32"))
    <tf.Tensor: shape=(1,), dtype=float32, numpy=array([2.], dtype=float32)>
"""

import math
from abc import ABC, abstractmethod

import numpy as np

from advlib._checks import check_number
from advlib._tensorflow import tf


def get(norm, among=("linf", "l2", "l1", "l0")):
    """The norm named "linf", "l2", "l1" or "l0"; a `Norm` passes through. ValueError for another name, or one not in `among`."""
    name = norm.name if isinstance(norm, Norm) else norm
    if not isinstance(name, str) or name not in among:
        raise ValueError(
            f"norm={norm!r}: one of {', '.join(map(repr, among))} was expected, for example norm={among[0]!r}"
        )
    return norm if isinstance(norm, Norm) else NORMS[name]


class Norm(ABC):
    """What an attack asks of a norm. Images are (N, H, W, C); ε is a number or one number an image."""

    name: str  # as in `norm="linf"`
    label: str  # as in prose and figures
    dual: str | None  # the norm ‖·‖* with max{⟨g, δ⟩ : ‖δ‖ ≤ 1} = ‖g‖*, by name

    @abstractmethod
    def size(self, delta):
        """‖δ‖ of each image: (N, H, W, C) → (N,)."""

    @abstractmethod
    def project(self, z, x, eps):
        """The point nearest to `z`, in Euclidean distance, of {‖z − x‖ ≤ ε} ∩ [0, 1]^d, exactly."""

    @abstractmethod
    def steepest(self, g, z):
        """The step of length 1 along which a loss with gradient `g` at `z` rises fastest; 0 where g is 0."""

    @abstractmethod
    def sample(self, rng, shape, eps):
        """One δ of `shape`, uniform in the ball of radius ε; NumPy float32."""

    @abstractmethod
    def largest(self, shape):
        """The largest budget that means anything in images of shape (H, W, C): the size of the whole box."""

    def step(self, eps):
        """The length of a step worth the budget `eps`."""
        return eps

    def check_eps(self, eps, shape):
        """`eps` as a float in [0, largest]; ValueError or TypeError otherwise."""
        top = self.largest(shape)
        try:
            return check_number(eps, "eps", low=0, high=top, example=self.example)
        except ValueError:
            raise ValueError(
                f"eps={eps}: {self.budget}, from 0 to {top:g}, was expected, for example {self.example}"
            ) from None

    def __repr__(self):
        return f"norms.get({self.name!r})"


class Linf(Norm):
    name, label, example = "linf", "L∞", "8/255"
    dual = "l1"
    budget = "an L∞ budget in [0, 1] pixel units"

    def size(self, delta):
        return tf.reduce_max(tf.abs(delta), axis=(1, 2, 3))

    def project(self, z, x, eps):
        eps = _per_image(eps)
        return tf.clip_by_value(tf.clip_by_value(z, x - eps, x + eps), 0.0, 1.0)

    def steepest(self, g, z):
        return tf.sign(g)

    def sample(self, rng, shape, eps):
        return rng.uniform(-eps, eps, shape).astype(np.float32)

    def largest(self, shape):
        return 1.0


class L2(Norm):
    name, label, example = "l2", "L2", "2.0"
    dual = "l2"
    budget = "an L2 budget in pixel units"

    def size(self, delta):
        return tf.sqrt(tf.reduce_sum(tf.square(delta), axis=(1, 2, 3)))

    def project(self, z, x, eps):
        """clip(x + s·δ) with the largest s ≤ 1 that fits: s grows until ‖clip(s·δ)‖ = ε (Croce & Hein 2021, arXiv 2103.01208)."""
        delta, eps = z - x, _per_image(eps)
        low, high = -x, 1.0 - x
        wall = tf.where(delta > 0, high, -low)  # how far each pixel may move, in the direction of δ
        size = tf.abs(delta)
        s = tf.minimum(1.0, eps / tf.maximum(_norm2(delta), 1e-12))
        arrives = wall / tf.maximum(size, 1e-30)  # the s at which a pixel is at its wall
        most, rate = wall**2, size**2
        # From below: pixels at the wall at s stay there for any larger s. With those fixed, ‖δ(s)‖ = ε has a closed
        # form, which cannot overshoot. It is exact once no further pixel reaches the wall; MNIST takes 3 to 8 rounds.
        # A further round would change no bit then, so an image's s does not depend on how many rounds the others need.

        def grow(s, _):
            stuck = arrives <= s
            spent = tf.reduce_sum(tf.where(stuck, most, 0.0), axis=(1, 2, 3), keepdims=True)
            free = tf.reduce_sum(tf.where(stuck, 0.0, rate), axis=(1, 2, 3), keepdims=True)
            exact = tf.sqrt(tf.maximum(eps**2 - spent, 0.0) / tf.maximum(free, 1e-24))
            return tf.clip_by_value(exact, s, 1.0), s

        grows = lambda s, last: tf.reduce_any(s > last)  # noqa: E731
        s, _ = tf.while_loop(grows, grow, (s, tf.zeros_like(s) - 1), maximum_iterations=10)
        return tf.clip_by_value(x + tf.clip_by_value(s * delta, low, high), 0.0, 1.0)

    def steepest(self, g, z):
        # Squares of less than 10⁻¹⁹ are 0 in float32; a power of two, so that no other bit changes.
        tiny = tf.reduce_max(tf.abs(g), axis=(1, 2, 3), keepdims=True) < 1e-15
        g = tf.where(tiny, g * 2.0**80, g)
        return tf.math.divide_no_nan(g, _norm2(g))

    def sample(self, rng, shape, eps):
        d = math.prod(shape)  # the first d coordinates of a point on the sphere in d + 2 dimensions
        direction = rng.standard_normal(d + 2)
        return (eps * direction[:d] / np.linalg.norm(direction)).reshape(shape).astype(np.float32)

    def largest(self, shape):
        return math.sqrt(math.prod(shape))


class L1(Norm):
    name, label, example = "l1", "L1", "10.0"
    dual = "linf"
    budget = "an L1 budget (a sum over pixels)"

    def __init__(self, top=0.01):
        self.top = top  # the share of the coordinates that a step moves

    def size(self, delta):
        return tf.reduce_sum(tf.abs(delta), axis=(1, 2, 3))

    def project(self, z, x, eps):
        """δ_i(λ) = clip(sign(δ_i)·max(|δ_i| − λ, 0)), λ ≥ 0 such that Σ|δ_i(λ)| = ε (Croce & Hein 2021, arXiv 2103.01208)."""
        delta = z - x
        wall = tf.where(delta > 0, 1.0 - x, x)
        size, eps = tf.abs(delta), tf.cast(_per_image(eps), z.dtype)

        def kept(level):
            return tf.minimum(tf.nn.relu(size - level), wall)

        def nearer(low, high, level, there, t):
            """Newton's step for λ, or half the bracket where it leaves it (and now and then, should it go round in circles);
            an image that is there stays there. MNIST takes 5 to 9 rounds."""
            part = kept(level)
            over = tf.reduce_sum(part, axis=(1, 2, 3), keepdims=True) - eps
            # the sum falls by 1 for each pixel that is neither back at x nor at its wall
            free = tf.reduce_sum(tf.cast((part > 0) & (part < wall), z.dtype), axis=(1, 2, 3), keepdims=True)
            there |= (tf.abs(over) <= 2e-6 * eps) | ((level <= 0) & (over <= 0))
            low, high = tf.where(over > 0, level, low), tf.where(over > 0, high, level)
            guess = level + tf.math.divide_no_nan(over, free)
            halve = (guess < low) | (guess > high) | ((t > 12) & (t % 2 == 0))
            return low, high, tf.where(there, level, tf.where(halve, (low + high) / 2, guess)), there, t + 1

        zero = tf.zeros_like(size[:, :1, :1, :1])
        top = tf.reduce_max(size, axis=(1, 2, 3), keepdims=True)
        state = (zero, top, zero, tf.zeros_like(zero, tf.bool), 0)
        unfinished = lambda low, high, level, there, t: ~tf.reduce_all(there)  # noqa: E731
        _, high, level, there, _ = tf.while_loop(unfinished, nearer, state, maximum_iterations=60)
        level = tf.where(there, level, high)  # the side inside the ball
        return tf.clip_by_value(x + tf.sign(delta) * kept(level), 0.0, 1.0)

    def steepest(self, g, z):
        """Equal steps on the largest |g_i| that can still move (SLIDE, Tramèr & Boneh 2019, arXiv 1904.13000)."""
        held = ((z >= 1.0) & (g > 0)) | ((z <= 0.0) & (g < 0))
        rank = _rank(tf.where(held, 0.0, tf.abs(g)))
        count = max(1, round(self.top * math.prod(g.shape[1:])))
        chosen = tf.where((rank < count) & ~held, tf.sign(g), 0.0)
        return tf.math.divide_no_nan(chosen, tf.reduce_sum(tf.abs(chosen), axis=(1, 2, 3), keepdims=True))

    def sample(self, rng, shape, eps):
        d = math.prod(shape)
        part = rng.standard_exponential(d + 1)
        sign = rng.integers(0, 2, d) * 2 - 1
        return (eps * sign * part[:d] / part.sum()).reshape(shape).astype(np.float32)

    def largest(self, shape):
        return float(math.prod(shape))


class L0(Norm):
    name, label, example = "l0", "L0", "20"
    dual = None
    budget = "an L0 budget (a number of pixels)"

    def size(self, delta):
        changed = tf.reduce_any(tf.abs(delta) > 1e-6, axis=3)
        return tf.reduce_sum(tf.cast(changed, delta.dtype), axis=(1, 2))

    def project(self, z, x, eps):
        """Clip to the box, then keep the ⌊ε⌋ pixels whose return to `x` would cost most (Croce & Hein 2019, arXiv 1909.05040)."""
        delta = z - x
        inside = tf.clip_by_value(z, 0.0, 1.0)
        gain = tf.reduce_sum(tf.square(delta) - tf.square(z - inside), axis=3)
        flat = tf.reshape(gain, (tf.shape(gain)[0], -1))
        n = tf.shape(flat)
        eps = tf.fill((n[0], 1), eps) if _is_scalar(eps) else tf.reshape(eps, (-1, 1))
        count = tf.minimum(tf.cast(eps, tf.int32), n[1])
        best = tf.math.top_k(
            flat, tf.maximum(tf.reduce_max(count), 1)
        ).values  # no more than some image needs
        last = tf.gather(best, tf.maximum(count - 1, 0), batch_dims=1)
        more, same = flat > last, tf.cast(flat == last, tf.int32)  # of equal pixels the first ones
        room = count - tf.reduce_sum(tf.cast(more, tf.int32), axis=1, keepdims=True)
        keep = (more | ((same > 0) & (tf.cumsum(same, axis=1) <= room))) & (count > 0)
        return tf.where(tf.reshape(keep, tf.shape(gain))[..., None], inside, x)

    def steepest(self, g, z):
        """g / ‖g‖₁ (Croce & Hein 2019): the projection, not the step, chooses the pixels, so no pixel is left out here."""
        return tf.math.divide_no_nan(g, tf.reduce_sum(tf.abs(g), axis=(1, 2, 3), keepdims=True))

    def sample(self, rng, shape, eps):
        height, width, channels = shape
        delta = np.zeros((height * width, channels), np.float32)
        where = rng.permutation(height * width)[: int(eps)]
        delta[where] = rng.uniform(-1, 1, (len(where), channels))
        return delta.reshape(shape)

    def largest(self, shape):
        return float(shape[0] * shape[1])

    def step(self, eps):
        # Long enough for a pixel to reach black or white at once: after shorter steps the projection would rank
        # pixels by |g| and not by what the box lets them gain.
        return 120_000 / 255


def _is_scalar(eps):
    return np.ndim(eps) == 0 if not tf.is_tensor(eps) else eps.shape.rank == 0


def _per_image(eps):
    return eps if _is_scalar(eps) else tf.reshape(eps, (-1, 1, 1, 1))


def column(v):
    """(N,) → (N, 1, 1, 1), NumPy or tensor: one number an image."""
    return v[:, None, None, None]


def _norm2(delta):
    return tf.sqrt(tf.reduce_sum(tf.square(delta), axis=(1, 2, 3), keepdims=True))


def _rank(score):
    """0 for the largest score of an image, 1 for the next; equal scores by position, so that no rank comes twice."""
    flat = tf.reshape(score, (tf.shape(score)[0], -1))
    order = tf.argsort(flat, axis=1, direction="DESCENDING", stable=True)
    return tf.reshape(tf.argsort(order, axis=1, stable=True), tf.shape(score))


NORMS = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}
