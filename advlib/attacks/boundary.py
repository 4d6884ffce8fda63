"""The Boundary Attack (Brendel, Rauber & Bethge 2018): a random walk along the boundary towards the image. Lesson 07."""

import numpy as np

from advlib import norms
from advlib._checks import check_number, check_start
from advlib.attacks._decision import adversarial_start, bisect, gaussian, size
from advlib.attacks._loop import run
from advlib.norms import column

EVERY = 10  # the side step alone is asked about at every tenth step
SIDES, WINS = 10, 30  # of how many questions the shares are taken that decide about longer and shorter steps
CONVERGED = 1e-7  # a source step below which an image rests
BLOCK = 10  # steps whose random numbers are drawn at once


def proposals(x, z, d, eta, spherical, source):
    """z + η, η ⊥ z − x of length δ·d, brought back to the sphere of radius d = ‖z − x‖ around x; and that point brought
    nearer, to (1 − ε)·d."""
    back = z - x
    eta = eta - column(np.sum((eta * back).reshape(len(x), -1), axis=1) / d**2) * back
    eta *= column(spherical * d / size("l2", eta))
    eta += back
    eta /= column(np.sqrt(1 + spherical**2))
    side = np.clip(x + eta, 0, 1)
    inward = x - side
    share = np.maximum(0, 1 - (1 - source) * d / size("l2", inward))
    return side, np.clip(side + column(share) * inward, 0, 1)


def adapt(step, spherical, source, sides, wins):
    """Half as long again where the boundary looks flat, shorter by a third where it does not: both lengths by the share of
    side steps that stay adversarial, over SIDES of them; ε by that of whole steps, over WINS of them."""
    if step % (SIDES * EVERY) == 0:
        share = sides / SIDES
        factor = np.where(share > 0.5, 1.5, np.where(share < 0.2, 1 / 1.5, 1)).astype(np.float32)
        spherical *= factor
        source *= factor
        sides[:] = 0
    if step % WINS == 0:
        share = wins / WINS
        source *= np.where(share > 0.25, 1.5, np.where(share < 0.1, 1 / 1.5, 1)).astype(np.float32)
        wins[:] = 0


def boundary(
    model, x, y, *, steps=5000, spherical_step=0.01, source_step=0.01, start=None, y_target=None, seed=0, callback=None,
    batch_size=144,
):  # fmt: skip
    """Walk from an adversarial point: a random step at the same distance from x, then one towards x; kept if adversarial.

    model: callable, images → logits, of which only the largest's place is used. x: float32 (N, H, W, C) in [0, 1]. y: true
    labels (N,). steps: at most; an image rests once its ε is below 1e-7. spherical_step, source_step: the first lengths δ and ε
    of the two steps, as shares of the distance ‖z − x‖₂; they grow by half where the walk goes well, and shrink where it does
    not. start, y_target, seed, callback, batch_size: as in `hop_skip_jump`. An image costs about 1.1 queries a step.

    Returns x_adv, float32 (N, H, W, C): the smallest adversarial perturbation found, in L2; x itself where the model is already
    wrong or no noise fooled it. Raises TypeError or ValueError for bad input; ValueError for a start that is not adversarial.

    Source: Brendel, Rauber & Bethge 2018, arXiv 1712.04248, Algorithm 1 and §2.3; the thresholds are those of the authors'
    library. Lesson 07.

        >>> x_adv = boundary(net, x[:10], y[:10], steps=1000)
    """
    check_number(steps, "steps", low=0, integer=True, example=5000)
    check_number(spherical_step, "spherical_step", above=0, example=0.01)
    check_number(source_step, "source_step", above=0, high=1, example=0.01)
    start = check_start(start, x)

    def attack(group):
        z, i = adversarial_start(group, start)
        x, rngs = group.x[i], group.streams("steps")
        z = bisect(group, "l2", z, i)
        group.standing = i
        group.tell()
        d = size("l2", z - x)
        spherical, source = np.full_like(d, spherical_step), np.full_like(d, source_step)
        sides, wins = np.zeros_like(d), np.zeros_like(d)
        for step in range(steps):
            if step % BLOCK == 0:
                on = source >= CONVERGED
                i, x, z, d, spherical, source, sides, wins = (
                    a[on] for a in (i, x, z, d, spherical, source, sides, wins)
                )
                group.standing = i
                if not i.size:
                    break
                eta = np.stack([gaussian(rngs[k], (BLOCK, *z.shape[1:])) for k in i], axis=1)
            side, nearer = proposals(x, z, d, eta[step % BLOCK], spherical, source)
            _, broken = group.query(nearer, i)
            wins += broken
            if step % EVERY == 0:
                sides += group.query(side, i, candidates=False)[1]
            shorter = size("l2", nearer - x)
            go = broken & (shorter < d)
            z[go], d[go] = nearer[go], shorter[go]
            adapt(step + 1, spherical, source, sides, wins)
            group.tell()

    return run(
        attack, model, x, y, norm=norms.get("l2"), y_target=y_target, batch_size=batch_size, seed=seed, callback=callback,
        smallest=True, gradient=False,
    )  # fmt: skip
