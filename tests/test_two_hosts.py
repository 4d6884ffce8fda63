"""Adversarial training on two hosts, as far as two processes on one machine show it: MultiWorkerMirroredStrategy.

Keras 3's own `fit` does not take this strategy, for any model; a loop around the defence's `train_step` does.
"""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from advlib import data, models, training
from advlib._tensorflow import keras, tf

N, BATCH = 64, 32

WORKER = """
import sys
from advlib import data, models, training
from advlib._tensorflow import keras, tf
import numpy as np

strategy = tf.distribute.MultiWorkerMirroredStrategy()
x, y = (part[:64] for part in data.load("mnist")[:2])
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)  # of all hosts together

with strategy.scope():
    plain = models.cnn()
    plain.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
try:
    plain.fit(batches, verbose=0)
    print("fit works")
except ValueError as error:
    print("fit:", str(error)[:60].replace(chr(10), " "))

with strategy.scope():
    trainer = training.PGD(models.cnn(), eps=0.1, steps=2)
    trainer.compile(optimizer=keras.optimizers.SGD(0.1))
    trainer.optimizer.build(trainer.trainable_variables)

@tf.function
def step(batch):
    return strategy.run(trainer.train_step, args=(batch,))

for batch in strategy.experimental_distribute_dataset(batches):
    step(batch)
np.save(sys.argv[1], np.concatenate([w.ravel() for w in trainer.get_weights()]))
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.full
def test_a_loop_around_train_step_trains_two_hosts_as_one(tmp_path):
    """PGD-2, two updates, SGD: the same weights to 1e-6. And Keras's fit still refuses, which the README says."""
    hosts = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    running = []
    for i in range(2):
        task = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": i}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "ADVLIB_PROGRESS": "0"}
        command = [sys.executable, "-c", WORKER, str(tmp_path / f"{i}.npy")]
        running.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert all("fit: Attempt to convert a value (PerReplica" in text for text in said), said
    x, y = (part[:N] for part in data.load("mnist")[:2])
    alone = training.PGD(models.cnn(), eps=0.1, steps=2)
    alone.compile(optimizer=keras.optimizers.SGD(0.1))
    alone.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH), verbose=0)
    expected = np.concatenate([w.ravel() for w in alone.get_weights()])
    for i in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{i}.npy"), expected, rtol=0, atol=1e-6)
