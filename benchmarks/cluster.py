"""The same evaluation on one and on two single-threaded Dask workers, and in one process: seconds, ratios, a million images.

    python benchmarks/cluster.py [--images 4000] [--rounds 3]

Interleaved in one run, ratios are medians over the rounds. Target: two workers on two cores at least 1.7 times as fast as one.
"""

import argparse
import os
import time
from functools import partial
from statistics import median

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=int, default=4000)
parser.add_argument("--rounds", type=int, default=3)
TARGET = 1.7


def main(images, rounds):
    os.environ["ADVLIB_PROGRESS"] = "0"
    from advlib import cluster, data, evaluate, models
    from advlib.attacks import pgd

    net = models.load("mnist-cnn-pgd")
    x, y = (part[:images] for part in data.load("mnist")[2:])
    attacks = {"pgd": partial(pgd, eps=0.3, steps=40)}
    run = partial(evaluate, net, attacks=attacks, norm="linf", eps=0.3)
    with (
        cluster.local(1, dashboard_address=None) as one,
        cluster.local(2, dashboard_address=None) as two,
    ):
        clients = {"one process, all cores": None, "one worker": one, "two workers": two}
        for client in clients.values():
            run(x=x[:600], y=y[:600], client=client)  # imports and compiles, on every worker
        seconds, reports = {name: [] for name in clients}, {}
        for _ in range(rounds):
            for name, client in clients.items():
                began = time.perf_counter()
                reports[name] = run(x=x, y=y, client=client)
                seconds[name].append(time.perf_counter() - began)
    print(f"PGD-40 on {images:,} images of the PGD-trained CNN, {os.cpu_count()} cores, {rounds} rounds")
    base = seconds["one worker"]
    for name, took in seconds.items():
        ratio = median(a / b for a, b in zip(base, took, strict=True))
        rate = images / median(took)
        same = reports[name] == reports["one worker"]
        print(
            f"{name:24}{median(took):7.2f} s{ratio:7.2f} × one worker{rate:9.0f} images/s, "
            f"a million in {1e6 / rate / 60:5.1f} min, {'same bits' if same else 'OTHER BITS'}"
        )
    gain = median(a / b for a, b in zip(base, seconds["two workers"], strict=True))
    print(f"{'met   ' if gain >= TARGET else 'MISSED'}  two workers: {gain:.2f} × one; at least {TARGET}")


if __name__ == "__main__":
    arguments = parser.parse_args()
    main(arguments.images, arguments.rounds)
