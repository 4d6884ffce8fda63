"""Attacks: functions (model, x, y, *, eps, …) → x_adv. One file each; `functools.partial(pgd, eps=0.3)` is an attack too."""

from advlib.attacks.apgd import apgd
from advlib.attacks.autoattack import autoattack
from advlib.attacks.bim import bim
from advlib.attacks.black_box import BlackBox, NoGradientError
from advlib.attacks.boundary import boundary
from advlib.attacks.bpda import bpda
from advlib.attacks.carlini_wagner import carlini_wagner
from advlib.attacks.ddn import ddn
from advlib.attacks.deepfool import deepfool
from advlib.attacks.eot import eot
from advlib.attacks.fab import fab
from advlib.attacks.fgsm import fgsm
from advlib.attacks.fmn import fmn
from advlib.attacks.hop_skip_jump import hop_skip_jump
from advlib.attacks.mi_fgsm import mi_fgsm
from advlib.attacks.nes import nes
from advlib.attacks.patch import patch
from advlib.attacks.pgd import pgd
from advlib.attacks.spsa import spsa
from advlib.attacks.square import square
from advlib.attacks.transfer import TransferMatrix, transfer
from advlib.attacks.universal import universal

__all__ = [
    "BlackBox", "NoGradientError", "TransferMatrix", "apgd", "autoattack", "bim", "boundary", "bpda", "carlini_wagner", "ddn",
    "deepfool", "eot", "fab", "fgsm", "fmn", "hop_skip_jump", "mi_fgsm", "nes", "patch", "pgd", "spsa", "square", "transfer",
    "universal",
]  # fmt: skip
