"""Settings of the guards: the `guards` section of a configuration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NonFiniteSettings:
    """Settings of the guard against numbers that are not finite.

    The run ends as diverged after `max_consecutive` updates in a row with such a number. A dump of one holds the
    model's weights where they take at most `weights_mb` megabytes; otherwise it names the last checkpoint.
    """

    max_consecutive: int
    weights_mb: float
