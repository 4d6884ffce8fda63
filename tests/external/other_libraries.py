"""How the tests of equality and the benchmark reach the other libraries: import, model, attack."""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np

from advlib._tensorflow import tf  # before torch: each brings an OpenMP of its own

DISTRIBUTION = {
    "foolbox": "foolbox",
    "cleverhans": "cleverhans",
    "torch": "torch",
    "torchattacks": "torchattacks",
    "pyautoattack": "pyautoattack",
    "adv_lib": "adv-lib",
    "art": "adversarial-robustness-toolbox",
}


@functools.cache
def missing(name):
    """Why the library cannot be used here, or None."""
    try:
        if name in ("torchattacks", "pyautoattack", "adv_lib"):
            importlib.import_module("torch")
        if name == "adv_lib":
            _stand_ins()
        importlib.import_module(name if name != "adv_lib" else "adv_lib.attacks")
    except (ImportError, OSError) as error:  # OSError: the CUDA build of torch without CUDA's libraries
        return f"{name} cannot be imported ({str(error).splitlines()[0]}): python3 course.py test --peers"
    return None


def version(name):
    return importlib.metadata.version(DISTRIBUTION[name])


def _stand_ins():
    """adv_lib imports torchvision (whose builds ask for torch's CUDA build) and visdom (a server of plots) for parts not used
    here: empty modules in their places."""
    for name in ("torchvision", "visdom"):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].models = None


@functools.cache
def twin(net):
    """The course's CNN in torch, with the weights of the Keras model `net`: images (N, 1, 28, 28) → logits."""
    import torch

    class ChannelsLast(torch.nn.Module):
        """Keras flattens (H, W, C), torch (C, H, W)."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    class Affine(torch.nn.Module):
        def __init__(self, scale, offset):
            super().__init__()
            self.scale, self.offset = scale, offset

        def forward(self, x):
            return x * self.scale + self.offset

    layers = []
    for layer in net.layers:
        kind = type(layer).__name__
        if kind == "Rescaling":
            layers.append(Affine(float(layer.scale), float(layer.offset)))
        elif kind == "Flatten":
            layers.append(ChannelsLast())
        elif kind == "Conv2D":
            # at even sizes, 4×4 with stride 2 and Keras's "same" is one row of zeros on each side
            assert layer.kernel_size == (4, 4) and layer.strides == (2, 2) and layer.padding == "same"
            kernel, bias = layer.get_weights()
            new = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 4, 2, 1)
            _fill(new, kernel.transpose(3, 2, 0, 1), bias)
            layers += [new, torch.nn.ReLU()]
        else:
            kernel, bias = layer.get_weights()
            new = torch.nn.Linear(*kernel.shape)
            _fill(new, kernel.T, bias)
            layers.append(new)
            if layer.activation.__name__ == "relu":
                layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


def _fill(layer, weight, bias):
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        layer.bias.copy_(torch.from_numpy(bias))


def to_torch(x, y):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(
        y.astype(np.int64)
    )


def from_torch(x):
    return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))


def in_torch(attack, net, x, y):
    """The result, as advlib would return it, of `attack(model, x, y)` of a torch library."""
    return from_torch(attack(twin(net), *to_torch(x, y)))


def torchattacks_autoattack(net, x, y, eps, norm):
    import torch
    import torchattacks

    def attack(model, x, y):
        whole = torchattacks.AutoAttack(model, norm=THEIR_NORM[norm], eps=eps, n_classes=10, seed=0)
        parts = zip(x.split(AUTOATTACK_BATCH), y.split(AUTOATTACK_BATCH), strict=True)
        return torch.cat([whole(*part) for part in parts])

    return in_torch(attack, net, x, y)


def pyautoattack_autoattack(net, x, y, eps, norm):
    from pyautoattack import AutoAttack

    def attack(model, x, y):
        whole = AutoAttack(model, norm=THEIR_NORM[norm], eps=eps, seed=0)
        return whole.run_standard_evaluation(x, y, batch_size=AUTOATTACK_BATCH)[0]

    return in_torch(attack, net, x, y)


THEIR_NORM = {"linf": "Linf", "l2": "L2"}
AUTOATTACK_BATCH = 250
AUTOATTACKS = {"torchattacks": torchattacks_autoattack, "pyautoattack": pyautoattack_autoattack}


@functools.cache
def foolbox_model(net):
    """`net` in inference mode and compiled, which is as fast as Foolbox can be."""
    import foolbox

    pixels = tf.TensorSpec([None, *net.input_shape[1:]], tf.float32)
    compiled = tf.function(lambda x: net(x, training=False), input_signature=[pixels])
    return foolbox.TensorFlowModel(compiled, bounds=(0, 1))


def in_foolbox(attack, net, x, y, eps=None):
    """The unclipped result of a Foolbox attack. NumPy inputs raise there, so tensors go in."""
    raw, _, _ = attack(foolbox_model(net), tf.constant(x), tf.constant(y), epsilons=eps)
    return raw.numpy()
