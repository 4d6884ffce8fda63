"""Attacks: functions (model, x, y, *, eps, …) → x_adv. One file each; `functools.partial(pgd, eps=0.3)` is an attack too."""

from advlib.attacks.bim import bim
from advlib.attacks.fgsm import fgsm
from advlib.attacks.mi_fgsm import mi_fgsm
from advlib.attacks.pgd import pgd

__all__ = ["bim", "fgsm", "mi_fgsm", "pgd"]
