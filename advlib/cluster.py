"""The same evaluation on several processes or machines, with Dask distributed (the extra `cluster`).

    >>> from advlib import cluster
    >>> with cluster.local(4) as client:                      # or distributed.Client("tcp://scheduler:8786")
    ...     report = advlib.evaluate(net, x, y, attacks, norm="linf", eps=0.3, client=client)

The images are cut into shards, the model goes once to each worker, and results arrive as shards finish. Because the result
for an image depends on no other image, any number of workers and any size of shard gives the same bits as one process (where
attacks run in batches of a multiple of 48, as they do unless told otherwise: `advlib.models.predict_logits` says why). A
shard whose worker dies is done again by another. Workers need advlib installed. README: Slurm, Kubernetes, what it costs.
"""

import contextlib
import logging
import os
import threading
import time
import uuid

import cloudpickle
import numpy as np
from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.diagnostics.plugin import WorkerPlugin
from tqdm.auto import tqdm

from advlib import robustness
from advlib._checks import check_number, predicted_classes

SHARD = 576  # images: four batches in flight, and a minute's work at most for the longest attack here


def local(workers=2, **options):
    """A Dask client with `workers` single-threaded processes on this machine; close it, or use it in a `with`.

    One thread of TensorFlow each: as many processes as cores are faster than one process with as many threads. The dashboard
    is at `client.dashboard_link`. options: of `distributed.LocalCluster`. Raises TypeError or ValueError for bad input.

        >>> with local(2) as client: ...
    """
    check_number(workers, "workers", low=1, integer=True, example=2)
    import dask

    # the last is 2, as a tf.py_function inside a model waits for the operation that it calls: one thread would wait for itself
    one = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}
    # before a worker starts, as TensorFlow reads them once
    with dask.config.set({"distributed.nanny.pre-spawn-environ": one | {"ADVLIB_PROGRESS": "0"}}):
        # TensorFlow's threads keep a worker from ending at once; that it is then killed is no news
        options = {"silence_logs": logging.ERROR} | options
        machines = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **options)
    return _Own(machines)


class _Own(Client):
    """A client that ends the workers it came with."""

    def close(self, *args, **options):
        machines, self._machines = getattr(self, "_machines", None), None
        closed = super().close(*args, **options)
        if machines is not None:
            machines.close()
        return closed

    def __init__(self, machines):
        self._machines = machines
        super().__init__(machines)


class Recipe:
    """A model that is sent as the function that makes it, for one that cannot be pickled (a tf.function, a SavedModel).

    make: a function without arguments that returns the model; it runs once in each process.

        >>> report = advlib.evaluate(Recipe(make_model), x, y, attacks, norm="linf", eps=0.3, client=client)
    """

    def __init__(self, make):
        if not callable(make):
            raise TypeError(
                f"make={make!r}: a function that returns a model was expected, for example lambda: net"
            )
        self.make = make


def evaluate(client, model, x, y, attacks, *, norm, eps, shard=SHARD):
    """`robustness.evaluate` on the workers of `client`; arguments, result and errors as there, but for these.

    shard: images to a task. The seconds of an attack are the sum over the workers. An exception has no `.report`, as all attacks
    of a shard run in one task. A flag that an attack raises itself speaks of its shard: of several with one name the report has
    the worst. The labels of a `Recipe`'s images are compared with its classes shard by shard, those of others before any attack.
    """
    check_number(shard, "shard", low=1, integer=True, example=SHARD)
    if not isinstance(model, Recipe):
        robustness.check_labels(y, len(x), robustness._logits(model, x[:1]).shape[1])
    cuts = range(0, len(x), shard)
    parts = ((x[i : i + shard], y[i : i + shard], attacks, norm, eps) for i in cuts)
    found = [None] * len(cuts)
    with _bar(len(x)) as bar:
        for i, result in each(client, model, evaluate_shard, parts):
            found[i] = result
            bar.update(len(result[0]))
    predictions, classes, pieces = zip(*found, strict=True)
    report = robustness.Report(
        norm, eps, y, np.concatenate(predictions), classes[0], robustness._fingerprint(x)
    )
    robustness._flag_clean(report)
    for name in attacks:
        outcomes, facts = zip(*(piece[name] for piece in pieces), strict=True)
        report.outcomes[name] = robustness.join(outcomes)
        report.flags += sum(facts, robustness.Facts()).flags(name, eps)
    return report


def evaluate_shard(model, x, y, attacks, norm, eps):
    """What a worker does: (predictions, number of classes, name → (Outcome, Facts))."""
    logits = robustness._logits(model, x)
    robustness.check_labels(y, len(x), logits.shape[1])
    clean = predicted_classes(logits)
    pieces = {
        name: robustness.measure(model, x, y, attack, name, norm, eps, clean)
        for name, attack in attacks.items()
    }
    return clean, logits.shape[1], pieces


def each(client, model, work, parts):
    """work(model, *part) for every part, on the workers: yields (position, result) as they finish.

    parts: any iterable; no more of it than the workers are busy with is held in memory. Raises TypeError for a model that
    cannot be sent, and whatever `work` raises.
    """
    plugin = _Model(pack(model))
    _register(client, plugin)
    waiting, running, done = enumerate(parts), {}, as_completed(loop=client.loop)

    def more():
        for i, part in waiting:
            future = client.submit(_on_worker, plugin.name, work, part, pure=False)
            running[future] = i
            done.add(future)
            return

    try:
        for _ in range(2 * max(1, sum(client.nthreads().values())) + 2):
            more()
        for future in done:
            yield running.pop(future), future.result()
            more()
    finally:
        client.cancel(list(running))
        with contextlib.suppress(Exception):  # the workers may be gone
            client.unregister_worker_plugin(plugin.name)


def _register(client, plugin, tries=5):
    """Dask tells all workers, and fails where one dies in that moment; the others are told again."""
    for left in reversed(range(tries)):
        try:
            client.register_plugin(plugin)
            return
        except OSError:  # distributed's CommClosedError is one
            if not left:
                raise
            time.sleep(1)


def pack(model):
    """The model as bytes; TypeError where it cannot be sent to another process."""
    try:
        return cloudpickle.dumps(model)
    except Exception as error:
        raise TypeError(
            f"the model, a {type(model).__name__}, cannot be sent to another process "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): a Keras model or a picklable callable was "
            "expected, or the function that makes it, for example advlib.cluster.Recipe(make_model)"
        ) from error


class _Model(WorkerPlugin):
    """Carries the model to every worker once, to those that join later as well."""

    def __init__(self, packed):
        self.packed, self.name = packed, f"advlib-model-{uuid.uuid4().hex}"

    def setup(self, worker):
        os.environ.setdefault("ADVLIB_PROGRESS", "0")  # a worker's bars would go to its log
        self.lock, self.model = threading.Lock(), None

    def __getstate__(self):
        return {"packed": self.packed, "name": self.name}

    def get(self):
        with self.lock:
            if self.model is None:
                model = cloudpickle.loads(self.packed)
                self.model = model.make() if isinstance(model, Recipe) else model
        return self.model


def _on_worker(name, work, part):
    return work(get_worker().plugins[name].get(), *part)


def _bar(n):
    from advlib.attacks._loop import quiet

    return tqdm(total=n, desc="images", unit="image", delay=5, leave=False, disable=quiet())
