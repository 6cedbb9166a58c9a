"""Alarms: warnings about curves that go astray, each from the rows of metrics alone and with a threshold of its own."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

SOLVED = 0.9
"""Accuracy on training prompts from which on a low entropy is no collapse: a policy that is right may be certain."""
SMOOTHED = 5
"""Iterations whose mean stands for the accuracy on training prompts, which differ from iteration to iteration."""
LEAST_FALL = 0.1
"""The least fall of an accuracy that is an alarm: three standard errors of 256 samples, and more than one of 32 prompts
that are all right or all wrong, over `SMOOTHED` iterations."""


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """Thresholds of the alarms; None turns one off.

    `entropy`, `length_low` and `length_high` are relative to the run's first iteration, `accuracy` is the part of the
    best accuracy that is lost, `ratio` is the distance of the mean importance ratio from 1, `kl` is the median of three
    iterations, in nats per token from the initial model (an estimate with a heavy tail), and `clip_frac`, `verdicts`
    and `lost` are parts of the trained tokens, of the verdicts and of the samples.
    """

    entropy: float | None
    accuracy: float | None
    length_low: float | None
    length_high: float | None
    ratio: float | None
    kl: float | None
    clip_frac: float | None
    verdicts: float | None
    lost: float | None = None  # which the settings of runs of an earlier version lack


@dataclass(frozen=True, slots=True)
class AlarmState:
    """Memory of the alarms: first, recent and best values, the alarms that hold, and all lines so far."""

    first: dict[str, float] = field(default_factory=dict)
    recent: tuple[float, ...] = ()
    recent_kl: tuple[float, ...] = ()
    best: dict[str, float] = field(default_factory=dict)
    active: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


class Alarms:
    """The alarms of a run. Each is told once when its threshold is crossed, and again only after it has ceased."""

    def __init__(self, settings: AlarmSettings) -> None:
        self.settings, self.state = settings, AlarmState()

    def observe(self, row: Mapping[str, float]) -> list[str]:
        """Take the row of an iteration, and return a line for each alarm that it raises."""
        state = self._noted(row)
        found = dict(self._found(row, state))
        iteration = int(row["iteration"])
        new = [f"iteration {iteration}: {line}" for name, line in found.items() if name not in state.active]
        self.state = replace(state, active=tuple(found), lines=(*state.lines, *new))
        return new

    def _noted(self, row: Mapping[str, float]) -> AlarmState:
        """The state with this row's values in it."""
        state = self.state
        first = {k: row[k] for k in ("train/entropy", "rollout/length/mean") if k in row} | state.first
        recent = (*state.recent, row["rollout/acc"])[-SMOOTHED:] if "rollout/acc" in row else state.recent
        recent_kl = (*state.recent_kl, row["train/kl_ref"])[-3:] if "train/kl_ref" in row else state.recent_kl
        best = dict(state.best)
        for name, value in _accuracies(row, recent).items():
            best[name] = max(value, best.get(name, 0.0))
        return replace(state, first=first, recent=recent, recent_kl=recent_kl, best=best)

    def _found(self, row: Mapping[str, float], state: AlarmState) -> Iterator[tuple[str, str]]:
        """The alarms that hold in this row, by name, with what was measured. NaN raises none: it has its own guard."""
        s, nan = self.settings, math.nan
        entropy, first_entropy = row.get("train/entropy", nan), state.first.get("train/entropy", nan)
        unsolved = row.get("rollout/acc", nan) < SOLVED
        if s.entropy is not None and entropy < s.entropy * first_entropy and unsolved:
            yield (
                "entropy",
                f"entropy has collapsed to {entropy:.2g} nats a token, from {first_entropy:.2g} "
                f"(alarms.entropy={s.entropy:g})",
            )
        for name, value in _accuracies(row, state.recent).items():
            best = state.best[name]
            if s.accuracy is not None and best - value > max(s.accuracy * best, LEAST_FALL):
                yield (
                    f"accuracy {name}",
                    f"accuracy of {name} has fallen to {value:.1%}, from {best:.1%} (alarms.accuracy={s.accuracy:g})",
                )
        length, first_length = row.get("rollout/length/mean", nan), state.first.get("rollout/length/mean", nan)
        if s.length_low is not None and length < s.length_low * first_length:
            yield (
                "short responses",
                f"responses have shrunk to {length:.3g} tokens, from {first_length:.3g} "
                f"(alarms.length_low={s.length_low:g})",
            )
        if s.length_high is not None and length > s.length_high * first_length:
            yield (
                "long responses",
                f"responses have grown to {length:.4g} tokens, from {first_length:.3g} "
                f"(alarms.length_high={s.length_high:g})",
            )
        if s.kl is not None and len(state.recent_kl) == 3 and (kl := sorted(state.recent_kl)[1]) > s.kl:
            yield "kl", f"the KL to the initial model is {kl:.3g} nats a token (alarms.kl={s.kl:g})"
        yield from self._found_in_updates(row)

    def _found_in_updates(self, row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        s, nan = self.settings, math.nan
        if s.ratio is not None and abs((ratio := row.get("train/ratio/mean", nan)) - 1) > s.ratio:
            yield (
                "ratio",
                f"the mean importance ratio is {ratio:.3g}, away from 1 by more than alarms.ratio={s.ratio:g}: updates "
                "are too large, or training computes other log-probabilities than sampling",
            )
        if s.clip_frac is not None and (clipped := row.get("train/clip_frac", nan)) > s.clip_frac:
            yield "clip_frac", f"{clipped:.0%} of the trained tokens are clipped (alarms.clip_frac={s.clip_frac:g})"
        timeouts, crashes = row.get("verifier/timeout_frac", nan), row.get("verifier/crash_frac", nan)
        if s.verdicts is not None and timeouts + crashes > s.verdicts:
            yield (
                "verdicts",
                f"{timeouts:.1%} of the verdicts are timeouts and {crashes:.1%} crashes, which count as wrong: look at "
                f"samples/ (alarms.verdicts={s.verdicts:g})",
            )
        if s.lost is not None and (lost := row.get("train/reward/lost_frac", nan)) > s.lost:
            yield (
                "lost",
                f"{lost:.1%} of the samples have no reward, because a reward function failed, and leave the update: "
                f"look at `lost` in samples/ (alarms.lost={s.lost:g})",
            )


def _accuracies(row: Mapping[str, float], recent: tuple[float, ...]) -> dict[str, float]:
    """The accuracies of a row by name: that on training prompts, smoothed, and those on held-out sets."""
    found = {"training prompts": sum(recent) / SMOOTHED} if "rollout/acc" in row and len(recent) == SMOOTHED else {}
    sets = {k.split("/")[1]: v for k, v in row.items() if k.startswith("eval/") and k.endswith("/acc")}
    return found | sets
