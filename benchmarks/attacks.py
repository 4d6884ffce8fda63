"""Every attack beside the other libraries that have it: seconds, strength, cost of its own passes, peak memory.

    python benchmarks/attacks.py [--only NAME ...] [--images N] [--rounds 3]

Runs with whatever is installed; `.venv-peers`, which `course.py test --peers` makes, has it all. Everything in a row is
interleaved in one run and each ratio is the median over the rounds, because a shared machine changes its speed by the minute;
the first call, which compiles, is made beforehand on a few images. Strength: the median distance and the share broken, or how
many are left. Forwards and gradients: of an image, on average. × passes: the seconds as a multiple of the attack's own
forward passes and gradients at their bare cost, that of one tf.function in such batches. At the end the targets: met or not.
All rows take about an hour on two cores, three quarters of it for AutoAttack, which has one round.
"""

import argparse
import inspect
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--only", nargs="+", metavar="NAME", help="rows whose name begins so, for example deepfool"
)
parser.add_argument("--images", type=int, metavar="N", help="in every row, instead of its own number")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument(
    "--memory",
    metavar="NAME",
    help="only run that row's attack and print the peak memory (used by this script)",
)
arguments = parser.parse_args()
os.environ["ADVLIB_PROGRESS"] = "0"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "external"))

import numpy as np  # noqa: E402
from other_libraries import AUTOATTACKS, in_foolbox, in_torch, missing  # noqa: E402

from advlib import attacks, data, losses, models, norms  # noqa: E402
from advlib._tensorflow import tf  # noqa: E402
from advlib.attacks._loop import Oracle  # noqa: E402

BATCH = inspect.signature(attacks.pgd).parameters["batch_size"].default
P = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}
FOOLBOX = {
    "deepfool": {"l2": "L2DeepFoolAttack", "linf": "LinfDeepFoolAttack"},
    "fmn": {"l0": "L0FMNAttack", "l1": "L1FMNAttack", "l2": "L2FMNAttack", "linf": "LInfFMNAttack"},
}


class Row(NamedTuple):
    name: str
    net: str
    images: int
    norm: str
    ours: object  # (net, x, y) → x_adv
    peers: dict = {}  # noqa: RUF012  library → (net, x, y) → x_adv
    eps: float | None = None  # a budget attack is judged by its survivors, another by its median
    queries: bool = False  # it takes no gradient
    per_query: bool = False  # libraries ask different numbers of questions: compare the seconds of one
    rounds: int | None = None


# ---- the attacks of the other libraries


def foolbox(attack, **options):
    def run(net, x, y):
        import foolbox

        return in_foolbox(getattr(foolbox.attacks, attack)(**options), net, x, y)

    return run


def adv_lib(attack, **options):
    def run(net, x, y):
        from adv_lib import attacks

        return in_torch(lambda *given: getattr(attacks, attack)(*given, **options), net, x, y)

    return run


def torchattacks_square(net, x, y, eps, queries):
    import torchattacks

    def attack(model, x, y):
        return torchattacks.Square(model, eps=eps, n_queries=queries, p_init=0.8, resc_schedule=False)(x, y)

    return in_torch(attack, net, x, y)


def art_hop_skip_jump(net, x, y, steps):
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    pixels = tf.TensorSpec([None, *x.shape[1:]], tf.float32)
    compiled = tf.function(lambda x: net(x, training=False), input_signature=[pixels])

    def predict(x):
        asked["art"] = asked.get("art", 0) + len(x)
        return compiled(tf.constant(x, tf.float32)).numpy()

    classifier = BlackBoxClassifierNeuralNetwork(
        predict, x.shape[1:], 10, clip_values=(0.0, 1.0), channels_first=False
    )
    attack = HopSkipJump(classifier, batch_size=BATCH, max_iter=steps, norm=2, verbose=False)
    return attack.generate(x, np.eye(10, dtype=np.float32)[y])


asked = {}  # library → the images it sent through the model


def autoattack(norm, eps):
    def run(attack):
        return lambda net, x, y: attack(net, x, y, eps, norm)

    return {library: run(attack) for library, attack in AUTOATTACKS.items()}


def ours(attack, **options):
    return lambda net, x, y: getattr(attacks, attack)(net, x, y, **options)


def rows():
    std, pgd = "mnist-cnn", "mnist-cnn-pgd"
    for norm, name in FOOLBOX["deepfool"].items():
        yield Row(
            f"deepfool {norm}", std, 500, norm, ours("deepfool", norm=norm),
            {"foolbox": foolbox(name, steps=50, candidates=None), "adv_lib": adv_lib("df", steps=50, norm=P[norm])},
        )  # fmt: skip
    quick = {"steps": 200, "initial_const": 0.1}
    yield Row(
        "carlini_wagner l2", std, 200, "l2", ours("carlini_wagner", searches=5, learning_rate=0.05, **quick),
        {"foolbox": foolbox("L2CarliniWagnerAttack", binary_search_steps=5, stepsize=0.05, **quick)},
    )  # fmt: skip
    yield Row(
        "ddn l2", std, 500, "l2", ours("ddn", steps=100),
        {"foolbox": foolbox("DDNAttack", steps=100), "adv_lib": adv_lib("ddn", steps=100, levels=None)},
    )  # fmt: skip
    for norm, name in FOOLBOX["fmn"].items():
        yield Row(
            f"fmn {norm}", std, 500, norm, ours("fmn", norm=norm, steps=100),
            {"foolbox": foolbox(name, steps=100), "adv_lib": adv_lib("fmn", steps=100, norm=P[norm])},
        )  # fmt: skip
    for norm in ("linf", "l2", "l1"):
        yield Row(f"fab {norm}", std, 200, norm, ours("fab", norm=norm, steps=100))
        yield Row(f"fab-t {norm}", std, 200, norm, ours("fab", norm=norm, steps=100, targets=9))
    for norm, eps in (("linf", 0.3), ("l2", 2.0), ("l1", 10.0)):
        yield Row(f"apgd {norm}", pgd, 500, norm, ours("apgd", eps=eps, norm=norm), eps=eps)
    fixed = ours("square", eps=0.3, steps=5000, schedule=10_000)
    theirs = {"torchattacks": lambda *given: torchattacks_square(*given, eps=0.3, queries=5000)}
    yield Row("square linf", pgd, 500, "linf", fixed, theirs, eps=0.3, queries=True)
    for norm, eps in (("l2", 2.0), ("l1", 10.0)):
        run = ours("square", eps=eps, norm=norm, steps=1000)
        yield Row(f"square {norm}", pgd, 200, norm, run, eps=eps, queries=True)
    yield Row("spsa linf", pgd, 50, "linf", ours("spsa", eps=0.3, steps=50), eps=0.3, queries=True)
    yield Row("nes linf", pgd, 100, "linf", ours("nes", eps=0.3, steps=50), eps=0.3, queries=True)
    yield Row("boundary l2", std, 100, "l2", ours("boundary", steps=1000), queries=True)
    theirs = {"art": lambda *given: art_hop_skip_jump(*given, steps=10)}
    jump = ours("hop_skip_jump", norm="l2", steps=10)
    yield Row("hop_skip_jump l2", std, 32, "l2", jump, theirs, queries=True, per_query=True)
    whole = ours("autoattack", eps=0.3)
    yield Row("autoattack linf", pgd, 500, "linf", whole, autoattack("linf", 0.3), eps=0.3, rounds=1)
    yield Row("autoattack linf, 1,000 images", pgd, 1000, "linf", whole, eps=0.3, rounds=1)


# Row, library, and how many times the seconds of ours the library's must at least be.
FASTER = [
    ("deepfool l2", "foolbox", 2.5), ("deepfool linf", "foolbox", 2.5),
    ("deepfool l2", "adv_lib", 1 / 1.2), ("deepfool linf", "adv_lib", 1 / 1.2),
    ("carlini_wagner l2", "foolbox", 2.0), ("ddn l2", "adv_lib", 1.0),
    *((f"fmn {norm}", "adv_lib", 1.0) for norm in P),
    ("square linf", "torchattacks", 2.0), ("hop_skip_jump l2", "art", 1.0),
    ("autoattack linf", "torchattacks", 1.5), ("autoattack linf", "pyautoattack", 1.5),
]  # fmt: skip
OVERHEAD = {False: 1.25, True: 2.0}  # of an attack with gradients, of one with queries
MINUTES = ("autoattack linf, 1,000 images", 6)


# ---- measuring


def images(row):
    """Test images that the model gets right, which every library attacks alike; for AutoAttack the first of all."""
    x, y = data.load("mnist")[2:]
    n = arguments.images or row.images
    if row.name.startswith("autoattack"):
        return x[:n], y[:n]
    x, y = x[: 2 * n], y[: 2 * n]
    right = np.flatnonzero(models.predict_logits(models.load(row.net), x).argmax(axis=1) == y)[:n]
    return x[right], y[right]


def strength(row, net, x, y, x_adv):
    """Median distance and broken images of a minimal-norm attack; survivors, in the ball, of another."""
    size = norms.get(row.norm).size(x_adv - x).numpy()
    wrong = models.predict_logits(net, np.clip(x_adv, 0, 1)).argmax(axis=1) != y
    if row.eps is None:
        return f"{np.median(np.where(wrong, size, np.inf)):.4g}, {100 * wrong.mean():.0f} %"
    return f"{len(x) - int((wrong & (size <= row.eps * (1 + 1e-4))).sum())} of {len(x)} left"


class Counter:
    """The forward passes and gradients of everything that advlib runs meanwhile, in images."""

    def __enter__(self):
        self.oracles, self.made = [], Oracle.__init__

        def remember(oracle, *args, **options):
            self.oracles.append(oracle)
            self.made(oracle, *args, **options)

        Oracle.__init__ = remember
        return self

    def __exit__(self, *_):
        Oracle.__init__ = self.made
        self.forwards = sum(oracle.forwards for oracle in self.oracles)
        self.backwards = sum(oracle.backwards for oracle in self.oracles)


def bare(net):
    """A function that measures: seconds of a forward pass, and of a forward pass with its gradient, of one image."""

    @tf.function(autograph=False)
    def forward(x, y):
        return net(x, training=False)

    @tf.function(autograph=False)
    def gradient(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(losses.cross_entropy(net(x, training=False), y))
        return tape.gradient(loss, x)

    x, y = (tf.constant(part[:BATCH]) for part in data.load("mnist")[2:])

    def measure():
        costs = []
        for f in (forward, gradient):
            f(x, y)
            began = time.perf_counter()
            for _ in range(20):
                f(x, y)
            costs.append((time.perf_counter() - began) / (20 * BATCH))
        return costs

    return measure


def measure(row):
    """Prints the row; returns for FASTER and the other targets the ratios, the overhead and the seconds."""
    net, (x, y) = models.load(row.net), images(row)
    runs, cost = {"advlib": row.ours}, bare(net)
    for library, run in row.peers.items():
        if reason := missing(library):
            print(f"    {reason}")
        else:
            runs[library] = run
    few = x[:4], y[:4]
    for run in runs.values():
        run(net, *few)
    rounds = 1 if row.rounds == 1 else arguments.rounds
    seconds, results, overhead, each = {library: [] for library in runs}, {}, [], {}
    for _ in range(rounds):
        before = cost()
        for library, run in runs.items():
            asked.clear()
            with Counter() as counter:
                began = time.perf_counter()
                results[library] = run(net, x, y)
                seconds[library].append(time.perf_counter() - began)
            if library == "advlib":
                # before and after, as the speed of a shared machine drifts
                forward, gradient = ((a + b) / 2 for a, b in zip(before, cost(), strict=True))
                passes = counter.forwards * forward + counter.backwards * max(gradient - forward, 0)
                overhead.append(seconds["advlib"][-1] / passes)
                each["advlib"] = counter.forwards / len(x), counter.backwards / len(x)
            elif library in asked:
                each[library] = asked[library] / len(x), 0
    ratios = {}
    for library in runs:
        pairs = zip(seconds[library], seconds["advlib"], strict=True)
        ratio = median(theirs / own for theirs, own in pairs)
        if row.per_query and library in each:
            ratio *= each["advlib"][0] / each[library][0]
        ratios[library] = ratio
        label = row.name if library == "advlib" else f"  {library}"
        count = "/".join(f"{n:.0f}" for n in each[library]) if library in each else ""
        over, peak = (f"{median(overhead):.2f}", memory_of(row)) if library == "advlib" else ("", "")
        print(
            f"{label:31}{len(x):5}{median(seconds[library]):9.2f}{ratio:9.2f}  "
            f"{strength(row, net, x, y, results[library]):18}{count:>13}{over:>9}{peak:>7}",
            flush=True,
        )
    return ratios, median(overhead), median(seconds["advlib"])


def memory_of(row):
    """MiB that the attack adds at its peak to a process that has the model and the images and has compiled it."""
    command = [sys.executable, __file__, "--memory", row.name]
    command += ["--images", str(arguments.images)] if arguments.images else []
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def memory(row):
    net, (x, y) = models.load(row.net), images(row)
    row.ours(net, x[:4], y[:4])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row.ours(net, x, y)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{grown * (1 if sys.platform == 'darwin' else 1024) / 2**20:.0f}")


def main():
    chosen = [row for row in rows() if not arguments.only or row.name.startswith(tuple(arguments.only))]
    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, {arguments.rounds} rounds")
    head = "strength", "forwards/gr.", "× passes", "MiB"
    print(f"{'':31}{'n':>5}{'seconds':>9}{'× advlib':>9}  {head[0]:18}{head[1]:>13}{head[2]:>9}{head[3]:>7}")
    measured = {row.name: (row, *measure(row)) for row in chosen}
    print(
        "\ntargets" + (", with other numbers of images than they are meant for" if arguments.images else "")
    )

    def target(text, met):
        print(f"  {'met   ' if met else 'MISSED'}  {text}")

    for name, library, least in FASTER:
        if name in measured and library in measured[name][1]:
            ratio = measured[name][1][library]
            what = "seconds a query" if measured[name][0].per_query else "seconds"
            target(f"{name}: {library} takes {ratio:.2f} × our {what}; at least {least:.2f}", ratio >= least)
    for name, (row, _, overhead, _) in measured.items():
        most = OVERHEAD[row.queries]
        target(f"{name}: {overhead:.2f} × its own passes; at most {most}", overhead <= most)
    if MINUTES[0] in measured:
        minutes = measured[MINUTES[0]][3] / 60
        target(f"{MINUTES[0]}: {minutes:.1f} minutes; less than {MINUTES[1]}", minutes < MINUTES[1])


if __name__ == "__main__":
    memory(next(row for row in rows() if row.name == arguments.memory)) if arguments.memory else main()
