"""What the decision-based attacks share: an adversarial point to begin from, the bisection that brings it to the boundary,
and quick random directions."""

import math

import numpy as np

from advlib.norms import column

# Draws of noise before an image is given up; most models need one to three.
TRIES = 500


def adversarial_start(group, start):
    """Adversarial points z (m, H, W, C) and the images i (m,) that they belong to: those of `start`, or else uniform noise."""
    group.begin()
    i = np.arange(len(group.x))
    if start is not None:
        z = start[group.index]
        _, broken = group.query(z, i)
        if not broken.all():
            wanted = "another class than y" if group.target is None else "the class y_target"
            raise ValueError(
                f"the model does not put start in {wanted} for {int((~broken).sum())} of {len(i)} images (the first is "
                f"number {group.index[~broken][0]}): images of {wanted} were expected, "
                "for example x_train[y_train == 3][:len(x)]"
            )
        return z, i
    if group.target is not None:
        raise ValueError(
            "y_target without start: noise is hardly ever of the wanted class; start=an image of the class y_target for "
            "each image was expected, for example start=x_train[y_train == 3][:len(x)]"
        )
    z, missing, rngs = np.empty_like(group.x), i, group.streams("start")
    for attempt in range(TRIES):
        # A model may put all fine noise into one class: noise of larger and larger squares then.
        square = 2 ** (5 * attempt // TRIES)
        z[missing] = [noise(rngs[k], z.shape[1:], square) for k in missing]
        missing = missing[~group.query(z[missing], missing)[1]]
        if not missing.size:
            break
    found = np.setdiff1d(i, missing)
    return z[found], found


def noise(rng, shape, square):
    """An image of `shape` in squares of `square` pixels, each uniform in [0, 1]."""
    height, width, channels = shape
    colours = rng.random((-(-height // square), -(-width // square), channels), np.float32)
    return colours.repeat(square, axis=0).repeat(square, axis=1)[:height, :width]


def towards(norm, x, z, t):
    """The point at t ∈ [0, 1] on the way from x to z: in L2 on the segment, in L∞ z brought into the ball of t·‖z − x‖."""
    if norm == "l2":
        return x + column(t) * (z - x)
    reach = column(t * size("linf", z - x))
    return np.clip(z, x - reach, x + reach)


def bisect(group, norm, z, i):
    """The adversarial points z (m, H, W, C) of images i, moved towards x until they are adversarial by less than a hair:
    θ = d^{−3/2} (L2) or d^{−2} (L∞) of the way. Every point returned was asked about, and is adversarial."""
    x, near = group.x[i], z.copy()
    low, high = np.zeros(len(z), np.float32), np.ones(len(z), np.float32)
    for _ in range(halvings(norm, x[0].size) if len(z) else 0):
        t = (low + high) / 2
        middle = towards(norm, x, z, t)
        _, broken = group.query(middle, i)
        near[broken], high[broken], low[~broken] = middle[broken], t[broken], t[~broken]
    return near


def halvings(norm, d):
    """How many times to halve until at most θ is left."""
    return int(np.ceil(np.log2(d) * {"l2": 1.5, "linf": 2}[norm]))


def gaussian(rng, shape):
    """Standard normal numbers, float32, by Box and Muller's formula: half the time of NumPy's own, a fifth of an attack's."""
    half = -(-math.prod(shape) // 2)
    u, angle = rng.random((2, half), np.float32)
    radius = np.sqrt(-2 * np.log1p(-u))
    angle *= np.float32(2 * np.pi)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: math.prod(shape)].reshape(shape)


def size(norm, delta):
    """‖δ‖ of each image, (N,). In NumPy, where a row's sum never depends on how many rows there are."""
    return np.linalg.norm(
        delta.reshape(len(delta), math.prod(delta.shape[1:])), {"l2": 2, "linf": np.inf}[norm], axis=1
    )
