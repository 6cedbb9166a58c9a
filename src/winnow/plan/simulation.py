"""Simulation of stragglers: iterations with drawn lengths on many GPUs, all sampling or some on their own.

Every rank decodes its own rows and is done when its longest is; an update begins when the last rank is done. With
separate samplers and a staleness of k, a sampler may begin iteration i once the update of iteration i − 1 − k has ended
and its own rows of iteration i − 1 are done, while trainers update earlier iterations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.plan.decoding import Decoding, decoded, ranks_of
from winnow.plan.lengths import Lengths

ITERATIONS = 16
FILLED = 4
"""Iterations at the start that are not counted: they fill the pipeline of samplers and trainers."""
COUNTS = (1, 8, 64, 256, 1000)
"""Numbers of GPUs that are simulated, besides the run's own."""
SPLITS = (1 / 4, 1 / 2, 3 / 4, 7 / 8)
"""Parts of the GPUs that sample, of which the fastest is taken."""
SecondsOf = Callable[[Decoding, int], float]
"""Seconds in which one GPU decodes this work of so many rows."""


@dataclass(frozen=True, slots=True)
class Work:
    """Work of an iteration: prompts × samples rows to decode on ranks that have `slots` each, and an update.

    `update(n)` are the seconds of scoring and updating on n GPUs.
    """

    prompts: int
    samples: int
    slots: int
    lengths: Lengths
    decoding: SecondsOf
    update: Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Simulated:
    """Mean seconds of an iteration on `gpus`, of which `samplers` sample (all of them: one after the other).

    `idle` is the part of the sampling GPUs' time in which they wait for the slowest of them, `speedup` the speed in
    relation to one GPU with one rank.
    """

    gpus: int
    samplers: int
    staleness: int | None
    seconds: float
    idle: float
    speedup: float


def sampling_times(work: Work, ranks: int, iterations: int = ITERATIONS, seed: int = 0) -> np.ndarray:
    """(iterations, ranks) seconds in which each rank decodes its rows of each iteration."""
    rows = ranks_of(work.prompts, work.samples, ranks)
    found = np.zeros((iterations, ranks))
    for i in range(iterations):
        drawn = np.split(work.lengths.drawn((sum(rows),), seed + i), np.cumsum(rows)[:-1])
        for rank, lengths in enumerate(drawn):
            if len(lengths):
                done = decoded(lengths, max(work.slots, 1), work.lengths.prompt)
                found[i, rank] = work.decoding(done, len(lengths))
    return found


def colocated(work: Work, gpus: int) -> tuple[float, float]:
    """Mean seconds of an iteration in which all GPUs sample, wait for the last, and update together; and idle part."""
    times = sampling_times(work, gpus)
    return float(times.max(1).mean()) + work.update(gpus), float(1 - times.mean() / times.max(1).mean())


def separate(work: Work, samplers: int, trainers: int, staleness: int) -> tuple[float, float]:
    """Mean seconds of an iteration with GPUs for sampling alone, in the steady state; and the samplers' idle part."""
    times = sampling_times(work, samplers)
    update = work.update(trainers)
    done = np.zeros(samplers)
    ended: list[float] = []
    for i, own in enumerate(times):
        allowed = ended[i - 1 - staleness] if i > staleness else 0.0
        done = np.maximum(done, allowed) + own
        ended.append(max(float(done.max()), ended[-1] if ended else 0.0) + update)
    seconds = (ended[-1] - ended[FILLED - 1]) / (len(ended) - FILLED)
    return seconds, float(max(0.0, 1 - times.mean() / seconds))


def simulate(work: Work, counts: Sequence[int]) -> list[Simulated]:
    """Colocated sampling, and separate samplers at staleness 0, 1 and 2, on each number of GPUs."""
    one, _ = colocated(work, 1)
    found = []
    for gpus in counts:
        seconds, idle = colocated(work, gpus)
        found.append(Simulated(gpus, gpus, None, seconds, idle, one / seconds))
        for staleness in (0, 1, 2) if gpus > 1 else ():
            splits = {min(gpus - 1, max(1, round(gpus * part))) for part in SPLITS}
            tried = [(*separate(work, samplers, gpus - samplers, staleness), samplers) for samplers in splits]
            seconds, idle, samplers = min(tried)
            found.append(Simulated(gpus, samplers, staleness, seconds, idle, one / seconds))
    return found
