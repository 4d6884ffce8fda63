"""The state of a training run on disk, whole or not at all, from which the same run goes on."""

import hashlib
import inspect
import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from advlib._checks import DAMAGED
from advlib._tensorflow import keras
from advlib.diagnostics import Flag

PLAIN = (type(None), bool, int, float, str)
WIRING = ("keras_history", "input_layers", "output_layers")  # where a configuration names other layers


class Resume(keras.callbacks.Callback):
    """Writes weights, optimizer, history, best weights and the callbacks' plain attributes after each epoch.

    An epoch cut short is done again from its beginning: order and random numbers depend on the seed and the number of the
    update alone, so it comes out the same. Nothing is unpickled. Must stand last among the callbacks, as it gives the others
    back what they forgot in their own on_train_begin.

    The same run: the same defence, data, arguments and layers, as far as their configuration tells them apart. What cannot be
    compared: the initial weights, which are gone after the first epoch (so one folder for each start from a checkpoint), and
    the code of a Lambda or of a layer of one's own. A state that names no layers, as earlier versions wrote it, is refused."""

    def __init__(self, folder, trainer, watch, callbacks, arrays, settings):
        super().__init__()
        self.path, self.trainer, self.watch, self.callbacks = (
            Path(folder) / "state.npz",
            trainer,
            watch,
            callbacks,
        )
        self.kept, digest = [], hashlib.blake2b(digest_size=16)
        for part in arrays:
            digest.update(np.ascontiguousarray(part).tobytes())
        # every argument of the defence stands, under its own name, among its attributes
        given = [name for name in inspect.signature(type(trainer)).parameters if name != "network"]
        self.run = {
            "defence": type(trainer).__name__, "network": [list(w.shape) for w in trainer.network.weights],
            "layers": layers(trainer.network), "data": digest.hexdigest(), "arguments": settings,
            **{name: getattr(trainer, name) for name in given},
        }  # fmt: skip

    def variables(self):
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def load(self):
        """Put the state back, if there is one; the number of epochs done."""
        if not self.path.exists():
            return 0
        again = f"delete {self.path} to begin anew, or name another folder"
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            state = json.loads(str(arrays.pop("state")))
            run, epoch, history = state["run"], state["epoch"], state["history"]
        except DAMAGED as error:
            raise ValueError(f"{self.path} is no state of a training run ({error}); {again}") from error
        if run != json.loads(json.dumps(self.run)):
            if "layers" not in run:
                raise ValueError(
                    f"{self.path} was written by an earlier version, without the layers of its network: one that names them was "
                    f"expected, or another network could take its place unseen; {again}"
                )
            other = [name for name in self.run if run.get(name) != json.loads(json.dumps(self.run[name]))]
            raise ValueError(
                f"{self.path} belongs to another run, which differs in {', '.join(other)}: the same call was expected; {again}"
            )
        for i, variable in enumerate(self.variables()):
            variable.assign(arrays[f"v{i}"])
        best = [arrays[f"b{i}"] for i in range(len(arrays)) if f"b{i}" in arrays]
        history["flags"] = [Flag.from_dict(flag) for flag in history["flags"]]
        vars(self.watch.history).update(history)
        self.watch.best = best or None
        self.kept = [unpack(kept, arrays) for kept in state["callbacks"]]
        return epoch

    def on_train_begin(self, logs=None):
        for callback, kept in zip(self.callbacks, self.kept, strict=False):
            vars(callback).update(kept)

    def on_epoch_end(self, epoch, logs=None):
        arrays = {f"v{i}": np.asarray(variable) for i, variable in enumerate(self.variables())}
        arrays |= {f"b{i}": w for i, w in enumerate(self.watch.best or [])}
        state = {
            "run": self.run, "epoch": epoch + 1, "history": asdict(self.watch.history),
            "callbacks": [pack(plain(callback), arrays) for callback in self.callbacks],
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        with open(half, "wb") as file:
            np.savez(file, state=json.dumps(state), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, self.path)  # a kill leaves the old state or the new one


def layers(network):
    """Type and configuration of every layer, the network itself first, as JSON."""
    found = []
    for layer in network._flatten_layers():
        try:
            config = layer.get_config()
        except (NotImplementedError, TypeError, ValueError):  # one's own need not say how it was made
            config = {}
        found.append([type(layer).__name__, nameless(config)])
    # without addresses, which are others in the next process
    return json.dumps(found, default=lambda value: re.sub(r" at 0x[0-9a-fA-F]+", "", str(value)))


def nameless(config, names=()):
    """A configuration without names, which Keras counts up within a process: a layer that another refers to is its position."""
    if isinstance(config, list | tuple):
        return [nameless(part, names) for part in config]
    if not isinstance(config, dict):
        return config
    kind = str(config.get("class_name"))
    if kind == "__lambda__":  # its bytecode holds the file's path, another in every notebook kernel
        return kind
    if "DTypePolicy" in kind:  # whose name is all there is
        return config
    if isinstance(config.get("layers"), list):
        names = [part.get("config", {}).get("name") for part in config["layers"] if isinstance(part, dict)]
    return {
        key: positions(part, names) if key in WIRING else nameless(part, names)
        for key, part in config.items()
        if key != "name"
    }


def positions(part, names):
    if isinstance(part, list | tuple):
        return [positions(one, names) for one in part]
    return names.index(part) if part in names else part


def plain(callback):
    """Those of a callback's attributes that are numbers, text, arrays, or lists and dicts of such."""
    own = {"params", "_params", "min_delta", *getattr(callback, "kept_elsewhere", ())}
    return {name: value for name, value in vars(callback).items() if name not in own and is_plain(value)}


def is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(part) for key, part in value.items())
    return isinstance(value, (*PLAIN, np.ndarray, np.number))


def pack(value, arrays):
    """The value as JSON can hold it, its arrays put into `arrays` and named in their place."""
    if isinstance(value, np.ndarray | np.number):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": {key: pack(part, arrays) for key, part in value.items()}}
    return [pack(part, arrays) for part in value] if isinstance(value, list | tuple) else value


def unpack(value, arrays):
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: unpack(part, arrays) for key, part in value["dict"].items()}
    return [unpack(part, arrays) for part in value] if isinstance(value, list) else value
