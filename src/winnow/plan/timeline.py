"""Timeline of a run: seconds of each phase of an iteration, with the arithmetic behind it, and hours of the whole."""

from dataclasses import dataclass

from winnow.plan.setup import Setup

BESIDE = ("sync", "sampling", "verifying")
"""Phases that run beside the training where a separate engine samples ahead of it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of an iteration: wall seconds, and the arithmetic behind them."""

    name: str
    seconds: float
    how: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The phases of an iteration, the seconds of an evaluation, and the run that they add up to."""

    phases: list[Phase]
    evaluation: Phase
    evaluations: int
    iterations: int
    devices: int
    sampled_tokens: float
    overlaps: bool = False

    @property
    def iteration(self) -> float:
        """Seconds of an iteration without its evaluation.

        Where separate engines sample ahead of the training, the longer of the two counts.
        """
        sampling = sum(phase.seconds for phase in self.phases if phase.name in BESIDE)
        rest = sum(phase.seconds for phase in self.phases if phase.name not in BESIDE)
        return max(sampling, rest) if self.overlaps else sampling + rest

    @property
    def bottleneck(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.seconds)

    @property
    def hours(self) -> float:
        """Hours of the run: iterations · seconds + evaluations · seconds."""
        return (self.iterations * self.iteration + self.evaluations * self.evaluation.seconds) / 3600

    @property
    def device_hours(self) -> float:
        return self.hours * self.devices


def timeline_of(setup: Setup, phases: list[Phase], evaluation: Phase, response: float) -> Timeline:
    """The timeline of these phases, where responses have `response` tokens on average.

    There is an evaluation before the first iteration, after every `eval.every` and after the last.
    """
    every = setup.evaluations.every
    return Timeline(
        [phase for phase in phases if phase.seconds > 0],
        evaluation,
        (-(-setup.iterations // every) + 1 if every else 2) if setup.evaluations.prompts else 0,
        setup.iterations,
        setup.gpus,
        setup.rows * response,
        overlaps=setup.sampler.separate and setup.staleness > 0,
    )
