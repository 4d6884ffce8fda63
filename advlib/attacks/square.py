"""The Square Attack (Andriushchenko et al. 2020): random search over square windows, from the logits alone. Lesson 07."""

from functools import lru_cache

import numpy as np

from advlib import norms
from advlib._checks import check_number
from advlib.attacks._loop import run
from advlib.norms import column

# The iterations, of 10,000, after which p is halved.
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Iterations for which an image's random numbers are drawn at once: a call of a generator costs more than a proposal.
BLOCK = 100
POWER = {"l2": 2, "l1": 1}
MINUS, PLUS = np.float32(-1), np.float32(1)


def stripes(ball, x, eps, u):
    """The start in L∞, clip( x + ρ·ε ): ρ = ±1 for each column and channel. u: uniform in [0, 1), (m, W·C)."""
    sign = np.where(u < 0.5, -eps, eps).reshape(len(x), 1, *x.shape[2:])
    return np.clip(x + sign, 0, 1)


def flip_window(ball, x, z, eps, h, u):
    """In L∞, each channel of a window goes to one end of its range, clip( x + ρ·ε ): the paper's clip( z + 2ρ·ε ), as z is
    within ε of x. x, z: (m, H, W, C), u: uniform in [0, 1), (m, 2 + C)."""
    points, rows = z.reshape(len(z), -1).copy(), np.arange(len(z))[:, None, None]
    one = window(h, u[:, :2], x.shape[1:])
    sign = np.where(u[:, 2:, None] < 0.5, -eps, eps)
    points[rows, one] = np.clip(x.reshape(points.shape)[rows, one] + sign, 0, 1)
    return points.reshape(x.shape)


def tiles(ball, x, eps, u):
    """The start in L2 and L1: 5 × 5 bumps η·ρ, turned or not. u: uniform in [0, 1), (m, 1 + C, rows, columns)."""
    m, height, width, channels = x.shape
    h, (down, across) = tile(x.shape[1:])
    bumps = bump(h, ball.name).reshape(2, h, h)[(u[:, 0] < 0.5) * 1]  # (m, rows, columns, h, h)
    sign = np.where(u[:, 1:] < 0.5, MINUS, PLUS)
    grid = np.einsum("mrsij,mcrs->mrisjc", bumps, sign).reshape(m, down * h, across * h, channels)
    top, left = (height - down * h) // 2, (width - across * h) // 2
    delta = np.zeros_like(x)
    delta[:, top : top + down * h, left : left + across * h] = grid
    return onto(ball, x, delta, eps, up=ball.name == "l2")


def tile(shape):
    """The side of a tile, a fifth of the image's, and how many lie below and beside each other."""
    h = max(min(shape[:2]) // 5, 1)
    return h, (shape[0] // h, shape[1] // h)


def move_window(ball, x, z, eps, h, u):
    """In L2 and L1, window 2 goes back to x, and window 1 goes along η·ρ + δ/‖δ‖ with what both windows had of the budget
    and what no pixel had. x, z: (m, H, W, C), u: uniform in [0, 1), (m, 5 + C)."""
    p, channels = POWER[ball.name], x.shape[3]
    delta, rows = (z - x).reshape(len(x), -1), np.arange(len(x))[:, None, None]
    one, two = (window(h, v, x.shape[1:]) for v in (u[:, 0:2], u[:, 2:4]))
    unused = np.maximum(eps**p - mass(delta, p), 0)
    here = delta[rows, one]  # (m, C, h²)
    delta[rows, one] = 0
    freed = mass(here, p) + mass(delta[rows, two], p)  # (m, C)
    delta[rows, two] = 0
    eta = bump(h, ball.name)[(u[:, 4] < 0.5) * 1][:, None] * np.where(u[:, 5:, None] < 0.5, MINUS, PLUS)
    new = unit(eta + unit(here, p), p)
    # in L1 every channel is given the budget of all, as the projection shrinks them together (Croce & Hein 2021)
    length = (freed + unused[:, None] / channels) ** (1 / p) * (channels if p == 1 else 1)
    delta[rows, one] = new * length[:, :, None]
    return onto(ball, x, delta.reshape(x.shape), eps)


def onto(ball, x, delta, eps, up=False):
    """x + δ in ball and box. In L2, as in the paper, δ of length at most ε (or, `up`, exactly ε) is clipped to the box; in L1 it
    is projected onto both."""
    flat = (len(x), -1)
    if ball.name == "l1":
        points = np.clip(x + delta, 0, 1)
        # inside the ball, as every move of a grey image is, this is the projection already, forty times cheaper
        far = np.flatnonzero(mass((points - x).reshape(flat), 1) > eps * 1.00001)
        if far.size:
            points[far] = ball.project(x[far] + delta[far], x[far], eps).numpy()
        return points
    scale = eps / np.maximum(np.sqrt(mass(delta.reshape(flat), 2)), np.float32(1e-12))
    scale = scale if up else np.minimum(scale, 1)
    return np.clip(x + delta * column(scale), 0, 1)


def mass(delta, p):
    """Σ|δ_i|^p along the last axis."""
    return (delta * delta if p == 2 else np.abs(delta)).sum(axis=-1)


def unit(delta, p):
    """δ / ‖δ‖_p along the last axis; 0 where δ is."""
    return delta / np.maximum(mass(delta, p)[..., None] ** (1 / p), 1e-12).astype(np.float32)


@lru_cache(maxsize=64)
def bump(h, norm):
    """η of side h, upright and lying, (2, h²): two halves of opposite sign, each a pile of concentric rectangles of heights
    1/r² (in L1 1/r⁴), r = 1, 2, …"""
    p, halves = POWER[norm], []
    for rows in (h // 2, h - h // 2):
        away = np.maximum.outer(np.abs(np.arange(rows) - rows // 2), np.abs(np.arange(h) - h // 2))
        r = np.arange(max(rows, h) // 2 + 1, 0, -1.0)
        pile = np.cumsum(r ** (-2.0 if p == 2 else -4.0))[::-1]  # by the distance from the middle
        halves.append(unit(pile[away].ravel(), p).reshape(rows, h))
    eta = unit(np.concatenate([halves[0], -halves[1]]).ravel(), p).reshape(h, h)
    return np.stack([eta.ravel(), eta.T.ravel()]).astype(np.float32)


def window(h, u, shape):
    """Windows of side h, anywhere in an image of `shape`: flat indices, (m, C, h²). u: uniform in [0, 1), (m, 2)."""
    height, width, channels = shape
    top, left = (u * (height - h + 1, width - h + 1)).astype(np.int64).T
    cells = np.add.outer(np.arange(h) * width, np.arange(h)).ravel()
    pixels = (top * width + left)[:, None] + cells
    return pixels[:, None] * channels + np.arange(channels)[:, None]


def share(step, p_init, schedule):
    """p of iteration `step`, from 0: the share of the image that a window covers."""
    return p_init / 2 ** int(np.searchsorted(HALVED, step * 10_000 // schedule))


def side(p, shape, norm):
    """h = round( √(p·H·W) ), at least 1 and at most the image's side; in L2 and L1 at least 3 and odd."""
    h = round((p * shape[0] * shape[1]) ** 0.5)
    return min(max(h, 1) if norm == "linf" else max(h, 3) | 1, *shape[:2])


# norm: the start, the proposal, the shape of the random numbers for either
MOVES = {
    "linf": (stripes, flip_window, lambda shape: (shape[1] * shape[2],), lambda shape: 2 + shape[2]),
    "l2": (tiles, move_window, lambda shape: (1 + shape[2], *tile(shape)[1]), lambda shape: 5 + shape[2]),
}
MOVES["l1"] = MOVES["l2"]


def square(
    model, x, y, *, eps, norm="linf", steps=5000, p_init=0.8, schedule=None, restarts=1, y_target=None, seed=0, callback=None,
    batch_size=144,
):  # fmt: skip
    """Random search: change one square window of x'; keep the change if the margin max_{j≠y} z_j − z_y grows.

    norm: "linf", "l2" or "l1". steps: proposals, one query each; each restart asks once more for its start, and every image
    is asked for once as it is. p_init: the share p of the image that the first windows cover; it is halved after iteration
    10, 50, 200, … 8,000 of `schedule`/10,000. schedule: by default `steps`, so that the windows reach their smallest size
    within any number of steps; AutoAttack takes 10,000 with 5,000 steps. The search for an image ends once it is broken.
    Everything else, what is returned and what is raised are as in `pgd`.

    Source: Andriushchenko et al. 2020, arXiv 1912.00049, Algorithms 1–3 (the last row and column are used too); L1: Croce &
    Hein 2021, arXiv 2103.01208, §4. Lesson 07.

        >>> x_adv = square(net, x[:100], y[:100], eps=0.3, steps=1000)
    """
    ball = norms.get(norm, among=tuple(MOVES))
    start, move, start_numbers, move_numbers = MOVES[ball.name]
    check_number(steps, "steps", low=0, integer=True, example=5000)
    check_number(p_init, "p_init", above=0, high=1, example=0.8)
    check_number(restarts, "restarts", low=1, integer=True, example=1)
    schedule = check_number(
        max(steps, 1) if schedule is None else schedule, "schedule", low=1, integer=True, example=10_000
    )

    def attack(group):
        shape, radius = group.x.shape[1:], np.float32(eps)
        for restart in range(restarts):
            if not group.begin(restart):
                break
            rngs, i = group.streams("square", restart), group.standing
            z, value = group.x.copy(), np.full(len(group.x), -np.inf, np.float32)
            z[i] = start(
                ball, group.x[i], radius, np.stack([rngs[j].random(start_numbers(shape)) for j in i])
            )
            margin = group.query(z[i], i)[0]
            value[i] = np.where(np.isnan(margin), -np.inf, margin)
            group.tell()
            for step in range(steps):
                i = group.standing
                if not i.size:
                    break
                if step % BLOCK == 0:
                    numbers = np.empty((len(z), min(BLOCK, steps - step), move_numbers(shape)))
                    for j in i:
                        rngs[j].random(out=numbers[j])
                h = side(share(step, p_init, schedule), shape, ball.name)
                points = move(ball, group.x[i], z[i], radius, h, numbers[i, step % BLOCK])
                margin = group.query(points, i)[0]
                better = margin > value[i]
                z[i[better]], value[i[better]] = points[better], margin[better]
                group.tell()

    return run(
        attack, model, x, y, eps=eps, norm=ball, y_target=y_target, loss="margin", batch_size=batch_size, seed=seed,
        gradient=False, callback=callback,
    )  # fmt: skip
