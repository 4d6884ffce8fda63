"""What training and certificates cost: python benchmarks/defences.py

PGD-7 training beside eight bare gradients an update (seven of the attack, one of the weights), interleaved in one run;
randomised smoothing of 200 images × 10,000 samples; interval bounds of 10,000 images. At the end the targets: met or not.
"""

import os
import time
from statistics import median

os.environ["ADVLIB_PROGRESS"] = "0"

import numpy as np

from advlib import certify, data, losses, models, training
from advlib._tensorflow import keras, tf

BATCH, UPDATES, ROUNDS = 100, 100, 5


def bare(net):
    """Seconds of a forward pass with its input gradient, and of one with the gradient in the weights, of one batch."""

    @tf.function(autograph=False)
    def in_pixels(x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = tf.reduce_sum(losses.cross_entropy(net(x, training=False), y))
        return tape.gradient(loss, x)

    @tf.function(autograph=False)
    def in_weights(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses.cross_entropy(net(x, training=True), y))
        return tape.gradient(loss, net.trainable_variables)

    x, y = (tf.constant(part[:BATCH]) for part in data.load("mnist")[2:])

    def seconds():
        costs = []
        for f in (in_pixels, in_weights):
            f(x, y)
            began = time.perf_counter()
            for _ in range(UPDATES):
                f(x, y)
            costs.append((time.perf_counter() - began) / UPDATES)
        return costs

    return seconds


def main():
    x, y = data.load("mnist")[:2]
    x, y = x[: BATCH * UPDATES], y[: BATCH * UPDATES]
    net = models.cnn()
    trainer = training.PGD(net, eps=0.3, steps=7)
    trainer.compile(keras.optimizers.Adam(1e-3))
    batches = training.batches(trainer, x, y, BATCH)
    cost, ratios = bare(net), []
    trainer.fit(batches, epochs=1, shuffle=False, verbose=0)  # compiles
    for _ in range(ROUNDS):
        before = cost()
        began = time.perf_counter()
        trainer.fit(batches, epochs=1, shuffle=False, verbose=0)
        update = (time.perf_counter() - began) / UPDATES
        pixels, weights = ((a + b) / 2 for a, b in zip(before, cost(), strict=True))
        ratios.append(update / (7 * pixels + weights))
        print(
            f"PGD-7: {1000 * update:.1f} ms an update, bare {1000 * (7 * pixels + weights):.1f} ms",
            flush=True,
        )
    ratio = median(ratios)

    x, y = data.load("mnist")[2:]
    smooth = next((name for name in models.names() if "smooth-0.25" in name), "mnist-cnn")
    net = models.load(smooth)
    certify.smoothing.certify(net, x[:1], sigma=0.25)
    began = time.perf_counter()
    certify.smoothing.certify(net, x[:200], sigma=0.25, samples=10_000)
    smoothing = time.perf_counter() - began

    certify.intervals.verified(net, x[:500], y[:500], 0.1)
    began = time.perf_counter()
    certify.intervals.verified(net, x, y, 0.1)
    interval = time.perf_counter() - began

    for text, value, most in (
        ("PGD-7 training, as a multiple of 8 bare gradients", ratio, 1.3),
        ("smoothing, 200 images × 10,000 samples, seconds", smoothing, 60),
        ("interval bounds, 10,000 images, seconds", interval, 3),
    ):
        print(f"  {'met   ' if value <= most else 'MISSED'}  {text}: {value:.2f}; at most {most}")


if __name__ == "__main__":
    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, NumPy {np.__version__}")
    main()
