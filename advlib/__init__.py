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
    "attacks", "auditing", "certify", "check", "cluster", "corruptions", "data", "diagnostics", "exhibits", "losses", "models",
    "noise", "norms", "plots", "report", "robustness", "sealed", "testing", "training",
)  # fmt: skip
_ATTACKS = (
    "apgd", "autoattack", "bim", "boundary", "bpda", "carlini_wagner", "ddn", "deepfool", "eot", "fab", "fgsm", "fmn",
    "hop_skip_jump", "mi_fgsm", "nes", "patch", "pgd", "spsa", "square", "transfer", "universal",
)  # fmt: skip
_NAMES = {
    **dict.fromkeys(_ATTACKS, "attacks"),
    "evaluate": "robustness",
    "Report": "robustness",
    "audit": "auditing",
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
