"""Proofs instead of attempts: bounds that no perturbation of a given size can pass. Lesson 11.

`intervals` and `crown` bound a network's logits over an L∞ ball, `lipschitz` gives each image an L2 radius; all three hold
without exception, up to a stated slack for float32. `smoothing` certifies another classifier, the smoothed one, in L2, and is
wrong with a probability of at most α for each image.
"""

from advlib.certify import crown, intervals, lipschitz, smoothing

__all__ = ["crown", "intervals", "lipschitz", "smoothing"]
