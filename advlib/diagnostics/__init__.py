"""Is this evaluation to be believed? `Flag` says what was seen, what it means and what to do; `diagnose` makes the passes that
the checks need; each check is a function from what was measured to one Flag, green, amber or red.

    >>> flags = diagnose(net, x_test, y_test, norm="linf", eps=0.3)
    >>> [flag.name for flag in flags if flag.colour == "red"]
    >>> print(too_few_images(45, 50))

Red means that the number is not to be believed, never that the model is bad: one without any robustness, measured rightly, has
no red flag. Lessons 08 and 09.
"""

from advlib.diagnostics.flag import COLOURS, Flag, FlagWarning, collect_flags, raise_flag

# First, as robustness takes these from here, and the checks stand on robustness.
# isort: split
from advlib.diagnostics.checks import (
    black_box_beats_white_box,
    constant_output,
    evaluated_on_training_data,
    incomplete_optimisation,
    no_white_box,
    not_at_chance,
    probabilities_for_logits,
    random_output,
    random_search_wins,
    silent_success,
    single_step_beats_iterative,
    success_and_eps,
    too_few_images,
    training_mode,
    unbounded_attack_fails,
    unstable_predictions,
    wrong_range,
    zero_gradients,
)
from advlib.diagnostics.passes import diagnose

__all__ = [
    "COLOURS", "Flag", "FlagWarning", "black_box_beats_white_box", "collect_flags", "constant_output", "diagnose",
    "evaluated_on_training_data", "incomplete_optimisation", "no_white_box", "not_at_chance",
    "probabilities_for_logits", "raise_flag", "random_output", "random_search_wins", "silent_success",
    "single_step_beats_iterative", "success_and_eps", "too_few_images", "training_mode", "unbounded_attack_fails",
    "unstable_predictions", "wrong_range", "zero_gradients",
]  # fmt: skip
