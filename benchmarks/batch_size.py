"""What a batch size costs, and whether an image's last bits depend on its place in the batch.

    python benchmarks/batch_size.py [--threads 1]

For each size and network: how many images of 12 batches, each also put in another order, get other logits or another gradient
there; and the microseconds of an image's forward pass with its gradient, the best of three rounds through all sizes, because a
shared machine changes its speed by the minute. What rounds, and so the sizes to trust, depends on the processor: run it on
yours. The target: no image moves at advlib's own batch size, on any of these networks.
"""

import argparse
import inspect
import time

import numpy as np

import advlib
from advlib import data, losses, models
from advlib._tensorflow import tf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: as many as cores")
tf.config.threading.set_intra_op_parallelism_threads(parser.parse_args().threads)

OWN = inspect.signature(advlib.pgd).parameters["batch_size"].default
SIZES = sorted({32, 48, 50, 64, 96, 100, 128, 144, 192, 256, OWN})
NETS = {
    "mnist-mlp": "mnist",
    "mnist-cnn": "mnist",
    "mnist-cnn-narrow": "mnist",
    "mnist-cnn-wide": "mnist",
    "fashion-cnn": "fashion_mnist",
}


def compiled(net, size):
    signature = [tf.TensorSpec([size, 28, 28, 1]), tf.TensorSpec([size], tf.int64)]

    @tf.function(input_signature=signature)
    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = net(x, training=False)
            total = tf.reduce_sum(losses.cross_entropy(z, y))
        return z, tape.gradient(total, x)

    return step


def moved(step, size, x, y):
    """Images of which a bit is another one when the batch is put in another order."""
    rng, count = np.random.default_rng(0), 0
    for _ in range(12):
        rows, order = rng.integers(0, len(x), size), rng.permutation(size)
        there = [part.numpy()[order] for part in step(x[rows], y[rows])]
        again = [part.numpy() for part in step(x[rows][order], y[rows][order])]
        other = [(a != b).reshape(size, -1).any(axis=1) for a, b in zip(there, again, strict=True)]
        count += int(np.logical_or(*other).sum())
    return count


def seconds(step, size, x, y):
    calls = range(0, len(x) - size + 1, size)
    start = time.perf_counter()
    for first in calls:
        step(x[first : first + size], y[first : first + size])[1].numpy()
    return (time.perf_counter() - start) / (len(calls) * size)


wrong = 0
print(f"{'network':18}" + "".join(f"{size:>12}" for size in SIZES), "  images moved · µs an image")
for name, source in NETS.items():
    net, (x, y) = models.load(name), (part[:1000] for part in data.load(source)[2:])
    y = y.astype(np.int64)
    steps = {size: compiled(net, size) for size in SIZES}
    other = {size: moved(step, size, x, y) for size, step in steps.items()}
    rounds = [{size: seconds(step, size, x, y) for size, step in steps.items()} for _ in range(3)]
    best = {size: min(times[size] for times in rounds) for size in SIZES}
    wrong += other[OWN]
    print(f"{name:18}" + "".join(f"{other[s]:>6} ·{1e6 * best[s]:4.0f}" for s in SIZES), flush=True)
print(f"target, none moves in batches of {OWN}: {'missed' if wrong else 'met'}")
raise SystemExit(bool(wrong))
