"""advlib: adversarial examples and model robustness for Keras models, and the library of a course on both.

`import advlib` is quick: TensorFlow is imported when something needs it.

    >>> import advlib
    >>> net = advlib.models.load("mnist-cnn")
    >>> x, y = advlib.data.load("mnist")[2:]
    >>> x_adv = advlib.pgd(net, x[:100], y[:100], eps=0.1)
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "attacks", "certify", "check", "corruptions", "data", "diagnostics", "losses", "models", "noise", "norms", "plots", "robustness",
    "testing", "training",
)  # fmt: skip
_NAMES = {
    "fgsm": "attacks",
    "bim": "attacks",
    "pgd": "attacks",
    "mi_fgsm": "attacks",
    "nes": "attacks",
    "spsa": "attacks",
    "square": "attacks",
    "carlini_wagner": "attacks",
    "ddn": "attacks",
    "fmn": "attacks",
    "deepfool": "attacks",
    "fab": "attacks",
    "eot": "attacks",
    "bpda": "attacks",
    "boundary": "attacks",
    "hop_skip_jump": "attacks",
    "apgd": "attacks",
    "autoattack": "attacks",
    "universal": "attacks",
    "patch": "attacks",
    "transfer": "attacks",
    "evaluate": "robustness",
    "Report": "robustness",
}
__all__ = [*_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"advlib.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"advlib.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'advlib' has no attribute {name!r}; it has: {', '.join(__all__)}")


def __dir__():
    return sorted([*globals(), *__all__])
