"""PGD-40, L∞, ε = 0.3, 1,000 test images: seconds as a ratio to the bare gradient, and to other libraries.

    python benchmarks/pgd.py [--rounds 5] [--threads 1]

Everything is interleaved in one run and each ratio is the median over the rounds, because a shared machine changes its speed
by the minute. The bare gradient is one tf.function: forward pass, cross-entropy, gradient in x, in batches of the same size,
forty times on every image. Targets: every step on every image ≤ 1.15 × bare; on the standard net ≥ 4.2 × faster than
CleverHans and ≥ 11 × than Foolbox; on the PGD-trained net not slower than CleverHans; a sweep over ε compiles nothing new;
the first call takes at most 0.8 s more than the next; memory beyond input and output flat in the number of images.
"""

import argparse
import inspect
import os
import resource
import subprocess
import sys
import time
from statistics import median

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: as many as cores")
parser.add_argument(
    "--memory",
    type=int,
    metavar="N",
    help="only attack N images and print the peak memory (used by this script itself)",
)
arguments = parser.parse_args()
os.environ["ADVLIB_PROGRESS"] = "0"

import numpy as np  # noqa: E402

import advlib  # noqa: E402
from advlib import data, losses, models  # noqa: E402
from advlib._tensorflow import keras, tf  # noqa: E402

# before the first tensor: importing advlib makes none
tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
EPS, STEPS, ALPHA = 0.3, 40, 0.01
BATCH = inspect.signature(advlib.pgd).parameters["batch_size"].default
x_all, y_all = data.load("mnist")[2:]
x, y = x_all[:1000], y_all[:1000]


def bare(net):
    """Forty forward-and-gradient passes over all images, nothing else."""

    @tf.function
    def gradient(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(losses.cross_entropy(net(x, training=False), y))
        return tape.gradient(loss, x)

    pad = -len(x) % BATCH
    rows = np.pad(np.arange(len(x)), (0, pad), mode="edge").reshape(-1, BATCH)
    batches = [(tf.constant(x[r]), tf.constant(y[r])) for r in rows]

    def run():
        for _ in range(STEPS):
            for batch in batches:
                gradient(*batch)

    return run


def ours(net, **options):
    return lambda: advlib.pgd(net, x, y, eps=EPS, steps=STEPS, step_size=ALPHA, **options)


def cleverhans(net):
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    x_, y_ = tf.constant(x), tf.constant(y)
    logits = tf.function(lambda v: net(v, training=False))
    return lambda: projected_gradient_descent(
        logits,
        x_,
        EPS,
        ALPHA,
        STEPS,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=y_,
        rand_init=True,
        sanity_checks=False,
    ).numpy()


def foolbox(net):
    import foolbox

    model = foolbox.TensorFlowModel(net, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=ALPHA, steps=STEPS, random_start=True)
    x_, y_ = tf.constant(x), tf.constant(y)
    return lambda: attack(model, x_, y_, epsilons=EPS)[1].numpy()


def interleaved(runs):
    """Seconds of each, round by round, after one warm-up each."""
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def main():
    print(
        f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, threads {arguments.threads or 'all'}, "
        f"{arguments.rounds} rounds, PGD-{STEPS}, ε = {EPS}, {len(x)} images"
    )
    for name in ("mnist-cnn", "mnist-cnn-pgd"):
        net = models.load(name)
        began = time.perf_counter()
        advlib.pgd(net, x, y, eps=EPS, steps=STEPS, step_size=ALPHA)
        first = time.perf_counter() - began
        runs = {
            "bare gradient": bare(net),
            "advlib, every step on every image": ours(net, early_stop=False, keep="last"),
            "advlib": ours(net),
        }
        for other in (cleverhans, foolbox):
            try:
                runs[other.__name__] = other(net)
            except ImportError:
                print(f"  {other.__name__} is not installed: pip install foolbox cleverhans")
        left = {}
        for label, run in runs.items():
            if label != "bare gradient":
                left[label] = int(
                    (models.predict_logits(net, np.clip(run(), 0, 1)).argmax(axis=1) == y).sum()
                )
        seconds = interleaved(runs)
        print(f"\n{name}\n  {'':36}{'seconds':>9}{'× bare':>9}{'× advlib':>10}{'left':>7}")
        for label in runs:
            to_bare = median(a / b for a, b in zip(seconds[label], seconds["bare gradient"], strict=True))
            to_ours = median(a / b for a, b in zip(seconds[label], seconds["advlib"], strict=True))
            print(
                f"  {label:36}{median(seconds[label]):9.2f}{to_bare:9.2f}{to_ours:10.2f}{left.get(label, ''):>7}"
            )
        print(f"  first call {first - median(seconds['advlib']):.2f} s over the next")

    traces = 0

    class Counting(keras.Model):
        def call(self, x):
            nonlocal traces
            traces += 1
            return net(x, training=False)

    counting = Counting()
    advlib.pgd(counting, x, y, eps=0.1, steps=2)
    before = traces
    for eps in (0.05, 0.15, 0.2, 0.3):
        advlib.pgd(counting, x, y, eps=eps, steps=2)
    print(f"\ncompilations in a sweep over 4 further budgets: {traces - before}")
    for n in (1_000, 10_000, 60_000):
        out = subprocess.run(
            [sys.executable, __file__, "--memory", str(n)], capture_output=True, text=True, check=True
        ).stdout
        print(f"  {n:6} images: {out.strip()}")


def memory(n):
    """Peak resident memory of an attack on n images, beyond what was there before it, in and output included and not."""
    x = np.resize(x_all, (n, *x_all.shape[1:]))
    y = np.resize(y_all, n)
    net = models.load("mnist-cnn")
    advlib.pgd(net, x[:128], y[:128], eps=EPS, steps=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    advlib.pgd(net, x, y, eps=EPS, steps=3)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
        1 if sys.platform == "darwin" else 1024
    )
    print(
        f"{grown / 2**20:.0f} MiB at most over the state before the call, of which {x.nbytes / 2**20:.0f} MiB is the result"
    )


if __name__ == "__main__":
    memory(arguments.memory) if arguments.memory else main()
