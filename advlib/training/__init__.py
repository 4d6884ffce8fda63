"""Training: the plain algorithm, and the defences that make the batch harder first.

`fit` is the plain loop; lesson 01 writes it out by hand. A defence is a `Trainer`: a keras.Model around the network in
training, whose `train_step` crafts the batch that the network then learns from. Keras's own `fit` runs it, with any
callback and any `tf.distribute` strategy; `adversarial_fit` adds the schedule, the validation of each epoch, the alarm and
the state from which an interrupted run goes on. Lesson 10; IBP and Gaussian: lesson 11.

    >>> net = advlib.models.cnn()
    >>> history = adversarial_fit(PGD(net, eps=0.3, steps=7, ramp=0.3), x_fit, y_fit, validation=(x_val, y_val))
"""

from advlib.training._trainer import Trainer
from advlib.training.adversarial_fit import Triangle, Watch, adversarial_fit, batches
from advlib.training.fgsm import FGSM, NFGSM, RSFGSM, GradAlign
from advlib.training.fit import History, fit, order
from advlib.training.free import Free
from advlib.training.gaussian import Gaussian
from advlib.training.ibp import IBP
from advlib.training.pgd import PGD
from advlib.training.trades import TRADES

__all__ = [
    "FGSM", "IBP", "NFGSM", "PGD", "RSFGSM", "TRADES", "Free", "Gaussian", "GradAlign", "History", "Trainer", "Triangle", "Watch",
    "adversarial_fit", "batches", "fit", "order",
]  # fmt: skip
