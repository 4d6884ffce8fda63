"""Gaussian augmentation: the network learns from noisy images, so that a vote over noise can be certified. Lesson 11."""

import numpy as np

from advlib._checks import check_number, predicted_classes
from advlib.training._trainer import Trainer


class Gaussian(Trainer):
    """z = x + σ·n, n ~ N(0, I), fresh for every image and update, and not clipped to [0, 1].

    sigma: σ in pixel units. Epochs are chosen by the accuracy under the same noise, drawn once for each validation image.
    Source: Cohen et al. 2019, arXiv 1902.02918, §3.3. Lesson 11.

        >>> adversarial_fit(Gaussian(net, sigma=0.25), x, y, validation=(x_val, y_val))
    """

    chosen_by = "noisy"

    def __init__(self, network, *, sigma, seed=0):
        super().__init__(network, seed=seed)
        self.sigma = check_number(sigma, "sigma", above=0, example=0.25)

    def craft(self, x, y):
        return x + self.draw(lambda rng, shape: self.sigma * rng.standard_normal(shape), x, x.shape[1:])

    def scores(self, x, y):
        noisy = x + self.sigma * np.random.default_rng(self.seed).standard_normal(x.shape, np.float32)
        logits = np.concatenate(
            [self.network.predict_on_batch(noisy[i : i + 500]) for i in range(0, len(x), 500)]
        )
        return {"noisy": float((predicted_classes(logits) == y).mean())}
