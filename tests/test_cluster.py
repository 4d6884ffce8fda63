"""The same evaluation on Dask workers: same bits for any number of workers and any shard; nothing lost when one is killed."""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

import psutil  # comes with distributed
from distributed import Client

from advlib import auditing, cluster, data, evaluate, models
from advlib._tensorflow import keras, tf
from advlib.attacks import fgsm, pgd
from advlib.auditing import audit

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker cannot import this file
ATTACKS = {"fgsm": partial(fgsm, eps=0.05), "pgd": partial(pgd, eps=0.05, steps=5)}
N = 300


@pytest.fixture(scope="module")
def given():
    x, y = (part[:N] for part in data.load("mnist")[2:])
    return models.load("mnist-mlp"), x, y


@pytest.fixture(scope="module")
def alone(given):
    return evaluate(*given, ATTACKS, norm="linf", eps=0.05)


@pytest.fixture(scope="module")
def client():
    with cluster.local(1, dashboard_address=None) as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "shard"),
    [
        pytest.param(1, 512, marks=pytest.mark.full),
        pytest.param(1, 37, marks=pytest.mark.full),
        (2, 64),
        pytest.param(4, 50, marks=pytest.mark.full),
    ],
)
def test_same_report_for_any_workers_and_shards(client, given, alone, workers, shard):
    client.cluster.scale(workers)
    client.wait_for_workers(workers)
    report = cluster.evaluate(client, *given, ATTACKS, norm="linf", eps=0.05, shard=shard)
    assert report == alone
    assert all((report[name].x_adv == alone[name].x_adv).all() for name in ATTACKS)


@pytest.mark.slow
def test_evaluate_takes_a_client_and_keeps_flags(client, given):
    """A point outside the ball is flagged with the numbers of all shards together."""
    attacks = {"too far": partial(fgsm, eps=0.1)}
    alone, spread = (evaluate(*given, attacks, norm="linf", eps=0.05, client=c) for c in (None, client))
    assert spread == alone
    assert f"of {N} images" in spread.flags[0].seen and spread.flags[0].colour == "red"
    in_shards = cluster.evaluate(client, *given, attacks, norm="linf", eps=0.05, shard=100)
    assert in_shards == alone


def overtaken(model, x, y, *, eps, first, folder):
    """FGSM; but the shard that begins with the image `first` is done only after another."""
    x_adv, done = fgsm(model, x, y, eps=eps), Path(folder, "done")
    if (x[0] == first).all():
        end = time.monotonic() + 60
        while not done.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
    done.touch()
    return x_adv


def test_a_shard_that_is_overtaken_keeps_its_place(given, tmp_path):
    model, x, y = given[0], given[1][:60], given[2][:60]
    attacks = {"fgsm": partial(overtaken, eps=0.05, first=x[0], folder=str(tmp_path))}
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None, set_as_default=False
    ) as threads:
        report = cluster.evaluate(threads, model, x, y, attacks, norm="linf", eps=0.05, shard=20)
    assert report == evaluate(model, x, y, {"fgsm": ATTACKS["fgsm"]}, norm="linf", eps=0.05)


def deadly(model, x, y, *, eps, marker):
    """PGD; but whoever first finds the marker absent makes it and dies, as under kill -9."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return pgd(model, x, y, eps=eps, steps=5)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_the_shard_of_a_killed_worker_is_done_by_another(client, given, alone, tmp_path):
    client.cluster.scale(2)
    client.wait_for_workers(2)
    marker = tmp_path / "killed"
    attacks = {"pgd": partial(deadly, eps=0.05, marker=str(marker))}
    report = cluster.evaluate(client, *given, attacks, norm="linf", eps=0.05, shard=25)
    assert marker.exists()
    assert report.n == N
    assert (report["pgd"].x_adv == alone["pgd"].x_adv).all()


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_worker_killed_from_outside(client, given, alone):
    """kill -9 on a worker's process while shards are under way: whichever shard it had, nothing is lost or counted twice."""
    client.cluster.scale(2)
    client.wait_for_workers(2)
    pids = client.run(os.getpid)

    def kill():
        time.sleep(0.3)
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = cluster.evaluate(client, *given, ATTACKS, norm="linf", eps=0.05, shard=10)
    killer.join()
    assert report == alone


@pytest.mark.full
def test_an_audit_on_a_cluster_is_the_same(client, given, tmp_path):
    model, x, y = given
    options = {"norm": "linf", "eps": 0.05, "preset": "quick", "limit": 100, "batch_size": 16}
    alone = audit(model, x, y, **options)
    spread = audit(model, x, y, **options, client=client, folder=tmp_path)
    assert spread == alone
    assert (tmp_path / "report.json").exists() and not (tmp_path / "work").exists()


def compiled():
    net = models.load("mnist-mlp")
    return tf.function(lambda x: net(x, training=False))


def ending_in_softmax():
    return keras.Sequential([models.load("mnist-mlp"), keras.layers.Softmax()])


@pytest.mark.full
@pytest.mark.parametrize("make", [compiled, ending_in_softmax])
def test_an_audit_takes_a_recipe(make, given, monkeypatch):
    monkeypatch.setattr(auditing, "_diagnosis", lambda *given: [])
    x, y = (part[:40] for part in given[1:])
    options = {"norm": "linf", "eps": 0.05, "preset": "quick", "batch_size": 4}
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, set_as_default=False
    ) as threads:
        report = audit(cluster.Recipe(make), x, y, **options, client=threads)
    assert report == audit(make(), x, y, **options)
    assert 0 < report.robust_accuracy < report.clean_accuracy


def test_a_model_that_cannot_be_sent():
    lock = threading.Lock()  # cannot be pickled

    def model(x):
        with lock:
            return x

    with pytest.raises(TypeError, match=r"cannot be sent to another process .*Recipe\(make_model\)"):
        cluster.pack(model)


@pytest.mark.slow
def test_a_recipe_is_made_on_the_worker(client, given, alone):
    recipe = cluster.Recipe(lambda: models.load("mnist-mlp"))
    report = cluster.evaluate(client, recipe, *given[1:], ATTACKS, norm="linf", eps=0.05)
    assert report == alone


@pytest.mark.slow
def test_an_attack_that_raises_passes_its_error_on(client, given):
    def broken(model, x, y):
        raise RuntimeError("seven")

    with pytest.raises(RuntimeError, match="seven"):
        cluster.evaluate(client, *given, {"broken": broken}, norm="linf", eps=0.05)
    assert (
        cluster.evaluate(client, *given, ATTACKS, norm="linf", eps=0.05).n == N
    )  # the workers are still there


@pytest.mark.parametrize("recipe", [False, True])
def test_labels_are_compared_with_the_classes_before_any_attack(given, recipe, tmp_path):
    """Those of a recipe when their shard is done."""
    model, x, y = given[0], given[1][:60], given[2][:60].copy()
    y[-1], called = 10, tmp_path / "called"
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, set_as_default=False
    ) as threads:
        made = cluster.Recipe(lambda: model) if recipe else model
        with pytest.raises(ValueError, match="labels from 0 to 10: 0 to 9 was expected"):
            attacks = {"none": partial(unmoved, called=str(called))}
            cluster.evaluate(threads, made, x, y, attacks, norm="linf", eps=0.05, shard=20)
    assert called.exists() == recipe


def unmoved(model, x, y, *, called):
    Path(called).touch()
    return x


def test_a_recipe_is_not_made_where_it_is_sent_from():
    made = []
    cluster.pack(cluster.Recipe(lambda: made.append("a model")))
    assert made == []


@pytest.mark.parametrize("make", [3, None])
def test_recipe_refuses(make):
    with pytest.raises(TypeError, match="a function that returns a model"):
        cluster.Recipe(make)


def test_local_starts_processes_of_one_thread_each_and_ends_them():
    with cluster.local(2, dashboard_address=None) as client:
        threads = client.nthreads()
        running = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    assert list(threads.values()) == [1, 1]
    assert len({os.getpid(), *(process.pid for process in running)}) == 3
    _, left = psutil.wait_procs(running, timeout=20)
    assert left == []


def test_local_refuses():
    with pytest.raises(ValueError, match="workers=0"):
        cluster.local(0)
