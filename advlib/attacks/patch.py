"""Adversarial patch (Brown et al. 2017): a small square that makes any image the target class. Lesson 12.

Pasting is linear in the patch, T(p) = A·p, with four entries in each row of A (bilinear interpolation), so that the gradient in
the patch is Aᵀ times the gradient in the image.
"""

from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from advlib._checks import check_images, check_labels, check_logits, check_number, predicted_classes
from advlib._tensorflow import keras, tf
from advlib.attacks._loop import Oracle, quiet, stream


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch, and how it is put on images.

    >>> p = patch(net, x_train[:1000], y_train[:1000], target=3)
    >>> x_adv = p.apply(x_test, seed=1)
    """

    pixels: np.ndarray  # float32 (size, size, C) in [0, 1]
    target: int  # the class it was made for
    rotation: float = 15.0  # the largest angle, in degrees

    def apply(self, x, seed=0):
        """`x` (N, H, W, C) with the patch pasted on each image at a random place and angle; another seed, other places.

        Returns float32 of x's shape. Where an image's patch lies depends on the seed and the image alone; pixels outside it
        keep their bits. Raises ValueError for images of other channels than the patch's."""
        x = check_images(x)
        if self.pixels.shape[2:] != x.shape[3:]:
            raise ValueError(
                f"a patch of shape {self.pixels.shape} on images of shape {x.shape}: as many channels in both were expected, "
                "for example a patch (7, 7, 3) on images (100, 32, 32, 3)"
            )
        return paste(self.pixels, x, *self._lie(x, seed))

    def mask(self, x, seed=0):
        """Where `apply(x, seed)` puts the patch: bool (N, H, W)."""
        x = check_images(x)
        return self._lie(x, seed)[0]

    def success(self, model, x, y, seed=0, batch_size=144):
        """Of the images that neither are of the target class nor taken for it, the share that is with the patch on.

        y: true labels (N,). Use images and a seed that the patch was not trained with: any seed will do. NaN where no image
        counts; a model that answers NaN is not fooled."""
        x = check_images(x)
        oracle = Oracle(model, batch_size)
        z = check_logits(oracle.logits(x), len(x))
        y = check_labels(y, len(x), z.shape[1])
        counts = (y != self.target) & (predicted_classes(z) != self.target)
        hit = predicted_classes(oracle.logits(self.apply(x, seed))) == self.target
        return float(hit[counts].mean()) if counts.any() else float("nan")

    def _lie(self, x, seed):
        check_number(seed, "seed", low=0, integer=True, example=0)
        each = [
            places(stream(image, seed, "patch"), 1, x.shape, len(self.pixels), self.rotation) for image in x
        ]
        return lie(x.shape, len(self.pixels), *(np.concatenate(part) for part in zip(*each, strict=True)))


def patch(
    model, x, y, *, target, size=7, steps=300, learning_rate=0.05, rotation=15.0, seed=0, batch_size=128
):  # fmt: skip
    """argmax_p E[ log p_target( (1 − m) ⊙ x + m ⊙ T(p) ) ] over images, places and small rotations T, m where T(p) lies; by Adam.

    model: callable, images → logits. x: float32 (N, H, W, C) in [0, 1], the images it is trained on; y: true labels (N,);
    those of the target class are left out. target: the class the patch stands for. size: of its side, in pixels. steps: of
    Adam, each on one batch of images and new places; learning_rate: of Adam, on pixels, which are clipped to [0, 1] after
    every step. rotation: the largest angle, in degrees, both ways. seed: of the first pixels, images and places.

    Returns a `Patch`, with `pixels`, `apply`, `mask` and `success`. It has no ε: its few pixels may take any value. Raises
    TypeError or ValueError for bad input, NoGradientError for a black box.

    Source: Brown, Mané, Roy, Abadi & Gilmer 2017, arXiv 1712.09665, §2. Lesson 12.

        >>> p = patch(net, x_train[:1000], y_train[:1000], target=3)
        >>> p.success(net, x_test, y_test)
    """
    x = check_images(x)
    check_number(size, "size", low=1, integer=True, example=7)
    check_number(steps, "steps", low=0, integer=True, example=300)
    check_number(learning_rate, "learning_rate", above=0, example=0.05)
    check_number(rotation, "rotation", low=0, high=45, example=15.0)
    check_number(seed, "seed", low=0, integer=True, example=0)
    room = int(min(x.shape[1:3]) / extent(1, np.radians(rotation)))
    if size > room:
        raise ValueError(
            f"size={size}: with a rotation of {rotation:g}° that is more than images of {x.shape[1]} × {x.shape[2]} can hold; "
            f"a smaller one was expected, for example {f'size={room}' if room else 'rotation=0'}"
        )
    check_number(batch_size, "batch_size", low=1, integer=True, example=128)
    oracle = Oracle(model, batch_size)
    z = check_logits(oracle.logits(x), len(x))
    y = check_labels(y, len(x), z.shape[1])
    check_number(target, "target", low=0, high=z.shape[1] - 1, integer=True, example=3)
    others = np.flatnonzero(y != target)
    if not others.size:
        raise ValueError(f"all {len(y)} images are of the target class {target}: others were expected to train on, "
                         "for example x[y != target]")  # fmt: skip

    rng = np.random.default_rng(seed)
    pixels = tf.Variable(rng.random((size, size, x.shape[3]), np.float32))
    adam = keras.optimizers.Adam(learning_rate)
    constants = [tf.constant(part) for part in (x, y, z, np.full_like(y, target))]
    ascent = oracle.step(gradients, None, "ce", constants, True, x, (), ())
    for _ in tqdm(range(steps), desc="patch", unit="step", delay=5, leave=False, disable=quiet()):
        rows = rng.choice(others, batch_size, replace=len(others) < batch_size)
        mask, cells, weights = lie(
            (batch_size, *x.shape[1:]), size, *places(rng, batch_size, x.shape, size, rotation)
        )
        g = ascent(rows, paste(pixels.numpy(), x[rows], mask, cells, weights), [])[
            2
        ].numpy()  # ∇ log p_target
        adam.apply([tf.constant(-lift(g, size, mask, cells, weights) / batch_size)], [pixels])
        pixels.assign(tf.clip_by_value(pixels, 0.0, 1.0))
    return Patch(pixels.numpy(), int(target), float(rotation))


def gradients(ball, at):
    """∇L of each image; the patch is moved elsewhere."""
    return (at.gradient,)


def extent(size, angle):
    """The side of the upright square that holds a square of side `size`, turned by `angle`."""
    return size * (np.abs(np.cos(angle)) + np.abs(np.sin(angle)))


def places(rng, n, shape, size, rotation):
    """Random middles (n, 2), such that the whole patch is inside and an upright one lies on the pixels, and angles (n,)."""
    angle = np.radians(rng.uniform(-rotation, rotation, n))
    reach = (extent(size, angle)[:, None] - size) / 2  # how much further a turned one reaches
    first, last = np.ceil(reach), np.floor(np.array(shape[1:3]) - size - reach)
    return first + np.floor(rng.random((n, 2)) * (last - first + 1)) + size / 2, angle


def lie(shape, size, middle, angle):
    """Where patches lie on images of `shape`: m, bool (N, H, W), and A, as the cells of the patch that each of the M pixels of
    m mixes (M, 4), and their weights (M, 4). The turn is about the middle."""
    height, width = shape[1:3]
    down = np.arange(height)[None, :, None] + 0.5 - middle[:, 0, None, None]
    right = np.arange(width)[None, None, :] + 0.5 - middle[:, 1, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    # pixels of the image in the coordinates of the patch, where 0 is the centre of its first row or column
    u, v = (part + (size - 1) / 2 for part in (cos * down + sin * right, cos * right - sin * down))
    mask = (np.abs(u - (size - 1) / 2) < size / 2) & (np.abs(v - (size - 1) / 2) < size / 2)
    u, v = (np.clip(part[mask], 0, size - 1) for part in (u, v))
    i, j = (np.minimum(part.astype(int), max(size - 2, 0)) for part in (u, v))
    step = min(size - 1, 1)
    cells = np.stack([(i + a) * size + j + b for a in (0, step) for b in (0, step)], axis=1)
    weights = np.stack([p * q for p in (1 - (u - i), u - i) for q in (1 - (v - j), v - j)], axis=1)
    return mask, cells, weights.astype(np.float32)


def paste(pixels, x, mask, cells, weights):
    """(1 − m) ⊙ x + m ⊙ A·p."""
    out = x.copy()
    out[mask] = np.clip((weights[..., None] * pixels.reshape(-1, x.shape[3])[cells]).sum(axis=1), 0, 1)
    return out


def lift(g, size, mask, cells, weights):
    """Aᵀ·g: the gradient in the patch, (size, size, C), from that in the images."""
    out = np.zeros((size * size, g.shape[3]), np.float32)
    np.add.at(out, cells, weights[..., None] * g[mask][:, None])
    return out.reshape(size, size, -1)
