"""Properties that the checks of several lessons look at."""

import numpy as np

from advlib import losses, norms
from advlib.exercises import require
from advlib.models import predict_logits
from advlib.robustness import tolerance


def inside(x_adv, x, eps, norm="linf"):
    """Hints where the points are no images of x's shape, or leave ball or box; returns them as an array."""
    x_adv, ball = np.asarray(x_adv), norms.get(norm)
    require(
        x_adv.shape == x.shape, f"it returns an array of shape {x_adv.shape} for images of shape {x.shape}"
    )
    require(np.isfinite(x_adv).all(), "some pixels of the result are NaN or infinite")
    size = float(np.max(ball.size((x_adv - x).astype(np.float32))))
    require(
        size <= eps + tolerance(norm, eps),
        f"with ε = {eps:g} some point ends at a distance of {size:.3g} from its x, in {ball.label}",
    )
    require(
        x_adv.min() >= 0 and x_adv.max() <= 1,
        f"pixels of the result run from {x_adv.min():.3g} to {x_adv.max():.3g}; an image has pixels in [0, 1]",
    )
    return x_adv


def lead(model, x, y):
    """The lead of the best wrong class over the true one, positive where the model is wrong: (N,)."""
    return losses.margin(predict_logits(model, np.asarray(x, np.float32)), y).numpy()


def sparse(x):
    """The images with their darker pixels black and a few white, as in MNIST, so that the box binds."""
    return np.where(x < 0.5, 0, np.where(x > 0.65, 1, x)).astype(np.float32)
