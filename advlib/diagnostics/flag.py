"""Is this evaluation to be believed? A `Flag` says what was seen, what it means and what to do.

>>> print(Flag("amber", "few images", "50 images", "the interval is 18 points wide", "use at least 1,000"))
amber: few images
  seen: 50 images
  means: the interval is 18 points wide
  do: use at least 1,000
"""

import contextlib
import warnings
from dataclasses import asdict, dataclass, fields

COLOURS = ("green", "amber", "red")


@dataclass(frozen=True)
class Flag:
    """One finding about an evaluation. Lesson 05 reads the first ones.

    colour: "green" (checked, nothing wrong), "amber" (look at it) or "red" (do not believe the number). name:
    a few words that stay the same from run to run; seen: what was measured; meaning: why it matters; do: the
    next step; source: paper and section, or the lesson that argues it; may be empty. All are text. Raises TypeError or ValueError
    otherwise.

    The idea of warnings that explain themselves is AutoAttack's (Croce & Hein 2020, arXiv 2003.01690,
    `checks.py`).
    """

    colour: str
    name: str
    seen: str
    meaning: str
    do: str
    source: str = ""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str):
                raise TypeError(
                    f"{field.name}={value!r}: text was expected, for example {field.name}='12 of 100 images'"
                )
            if not value.strip() and field.name != "source":
                raise ValueError(
                    f"{field.name} is empty: a few words were expected, for example '12 of 100 images'"
                )
        if self.colour not in COLOURS:
            known = ", ".join(map(repr, COLOURS))
            raise ValueError(f"colour={self.colour!r}: one of {known} was expected, for example 'red'")

    def __str__(self):
        lines = [
            f"{self.colour}: {self.name}",
            f"  seen: {self.seen}",
            f"  means: {self.meaning}",
            f"  do: {self.do}",
        ]
        return "\n".join(lines + [f"  source: {self.source}"] * bool(self.source))

    def to_dict(self):
        """The flag as a dict of strings, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The flag that `to_dict` wrote. ValueError for missing or unknown keys."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not names - {"source"} <= set(values) <= names:
            raise ValueError(
                f"{values!r} is no flag: a dict with the keys {', '.join(sorted(names))} was expected"
            )
        return cls(**values)


class FlagWarning(UserWarning):
    """The warning by which an attack raises a Flag; `.flag` is the Flag. `evaluate` puts it into `report.flags`."""

    def __init__(self, flag):
        super().__init__(flag)
        self.flag = flag


def raise_flag(flag):
    """Show a Flag as a Python warning (FlagWarning), at the line that called the attack.

    >>> raise_flag(Flag("amber", "few images", "50 images", "a wide interval", "use at least 1,000"))
    """
    warnings.warn(FlagWarning(flag), stacklevel=3)


@contextlib.contextmanager
def collect_flags():
    """A list that the Flags raised within are added to, instead of being shown; other warnings are shown as always.

    >>> with collect_flags() as flags:
    ...     autoattack(net, x, y, eps=0.3)
    """
    flags = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", FlagWarning)
        show = warnings.showwarning

        def keep(message, *where, **more):
            if isinstance(message, FlagWarning):
                flags.append(message.flag)
            else:
                show(message, *where, **more)

        warnings.showwarning = keep
        yield flags
