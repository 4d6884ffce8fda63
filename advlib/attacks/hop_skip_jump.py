"""HopSkipJump (Chen, Jordan & Wainwright 2020): the smallest perturbation from the predicted class alone. Lesson 07."""

from functools import partial

import numpy as np

from advlib import norms
from advlib._checks import check_number, check_start
from advlib.attacks._decision import adversarial_start, bisect, gaussian, halvings, size
from advlib.attacks._loop import THREADS, run
from advlib.norms import column

# Points asked about at once, so that memory stays flat.
CHUNK = 4096


def probes(norm, count, rng, z, radius):
    """clip( z + δ·u_b ), b = 1 … count: u_b a random direction of length 1, Gaussian in L2, uniform in L∞."""
    shape = (count, *z.shape)
    u = gaussian(rng, shape) if norm == "l2" else rng.random(shape, np.float32) - np.float32(0.5)
    u *= column(radius / size("l2", u))
    u += z
    return np.clip(u, 0, 1, out=u)


def normal(group, norm, z, i, radius, count, rngs):
    """v = Σ_b (φ_b − φ̄)·u_b / ‖…‖: an estimate of the boundary's normal at z, φ_b = ±1 the decision at z + δ·u_b.

    That is the mean step of the probes that ended on the adversarial side minus the mean of the others."""
    v = np.empty_like(z)
    chunk = max(1, CHUNK * 784 // max(784, z[0].size))
    some = max(1, chunk // count)
    for rows in np.split(np.arange(len(i)), range(some, len(i), some)):
        total, hits = np.zeros((len(rows), 2, *z.shape[1:]), np.float32), np.zeros((len(rows), 2), np.int64)
        for first in range(0, count, chunk):
            block = min(chunk, count - first)
            draw = partial(probes, norm, block)
            points = np.stack(list(THREADS.map(draw, [rngs[k] for k in i[rows]], z[rows], radius[rows])))
            asked = points.reshape(-1, *z.shape[1:])
            _, broken = group.query(asked, np.repeat(i[rows], block), candidates=False)
            points -= z[rows, None]
            for k, hit in enumerate(broken.reshape(-1, block)):
                for side, chosen in enumerate((hit, ~hit)):
                    total[k, side] += points[k][chosen].sum(axis=0)
                    hits[k, side] += chosen.sum()
        mean = total / np.maximum(hits, 1)[:, :, None, None, None]
        v[rows] = mean[:, 0] - mean[:, 1]
    return v / column(np.maximum(size("l2", v), 1e-30))


def jump(group, norm, z, v, length, i):
    """clip( z + ξ·v ), ξ halved from `length` until the point is adversarial; z itself where no ξ will do."""
    out, left = z.copy(), np.arange(len(i))
    for _ in range(halvings(norm, z[0].size)):
        points = np.clip(z[left] + column(length[left]) * v[left], 0, 1)
        _, broken = group.query(points, i[left])
        out[left[broken]] = points[broken]
        left = left[~broken]
        length = length / 2
        if not left.size:
            break
    return out


def hop_skip_jump(
    model, x, y, *, norm="l2", steps=20, initial_evals=100, max_evals=10000, start=None, y_target=None, seed=0, callback=None,
    batch_size=144,
):  # fmt: skip
    """From a point x^t on the boundary: estimate the boundary's normal v by B_t = initial_evals·√t questions, jump along it,
    x^t + ξ·v (L∞: sign v) with ξ = ‖x^t − x‖/√t, halved until adversarial, and bisect towards x, to the boundary again.

    model: callable, images → logits, of which only the largest's place is used. x: float32 (N, H, W, C) in [0, 1]. y: true
    labels (N,). norm: "l2" or "linf". steps: normals estimated; max_evals: an upper limit of B_t. start: adversarial images
    (N, H, W, C) to begin from, by default uniform noise that the model gets wrong; a targeted attack needs images of the wanted
    class. y_target, seed, callback, batch_size: as in `pgd`. Queries of an image, about 930 after 5 steps, 2,400 after 10 and
    6,500 after 20 at 28 × 28 pixels, are in the callback's `Trace`.

    Returns x_adv, float32 (N, H, W, C): the smallest adversarial perturbation found; x itself where the model is already wrong
    or no noise fooled it. Raises TypeError or ValueError for bad input; ValueError for a start that is not adversarial.

    Source: Chen, Jordan & Wainwright 2020, arXiv 1904.02144, Algorithms 1 and 2, γ = 1. Lesson 07.

        >>> x_adv = hop_skip_jump(net, x[:10], y[:10], steps=10)
    """
    norm = norms.get(norm, among=("l2", "linf")).name
    check_number(steps, "steps", low=0, integer=True, example=20)
    check_number(initial_evals, "initial_evals", low=1, integer=True, example=100)
    check_number(max_evals, "max_evals", low=1, integer=True, example=10000)
    start = check_start(start, x)

    def attack(group):
        z, i = adversarial_start(group, start)
        x, rngs = group.x[i], group.streams("probes")
        z = bisect(group, norm, z, i)
        group.standing = i
        group.tell()
        for t in range(1, steps + 1 if i.size else 1):
            distance = size(norm, z - x)
            radius = np.full_like(distance, 0.1) if t == 1 else distance / x[0].size
            v = normal(group, norm, z, i, radius, min(int(initial_evals * t**0.5), max_evals), rngs)
            step = v if norm == "l2" else np.sign(v)
            z = bisect(group, norm, jump(group, norm, z, step, distance / np.float32(t**0.5), i), i)
            group.tell()

    return run(
        attack, model, x, y, norm=norms.get(norm), y_target=y_target, batch_size=batch_size, seed=seed, callback=callback,
        smallest=True, gradient=False,
    )  # fmt: skip
