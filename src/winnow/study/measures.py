"""Measures: figures that summarise one run, read from its rows; NaN where a run did not record them.

"Late" is the last quarter of a run's iterations, "early" the first quarter without iteration 0. The mean over a quarter
varies less between seeds than its last point does. Both windows were fixed before any result was seen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from winnow.study import packaged_yaml
from winnow.study.runs import StudyRun
from winnow.study.statistics import PerPrompt
from winnow.study.study import Arm

ACCURACY = "accuracy"
"""Stands for a run's accuracy in place of a metric's name, because the evaluation sets' names differ between runs."""
WINDOWS: Mapping[str, Callable[[float, int], bool]] = {
    "start": lambda iteration, _: iteration == 0,
    "early": lambda iteration, total: 0 < iteration <= 0.25 * total,
    "late": lambda iteration, total: iteration > 0.75 * total,
    "last": lambda iteration, total: iteration == total,
    "end": lambda iteration, _: iteration > 0,
}
"""Whether an iteration belongs to a window, given the iteration and the run's number of iterations."""


def metric_key(run: StudyRun, metric: str) -> str | None:
    """The metric's key in the run's rows. For `ACCURACY`: the average over evaluation sets or the only set's accuracy;
    None if a run without the average has no set or several."""
    if metric != ACCURACY:
        return metric
    keys = {key for row in run.rows for key in row if key.startswith("eval/") and key.endswith("/acc")}
    if "eval/average/acc" in keys:
        return "eval/average/acc"
    return next(iter(keys)) if len(keys) == 1 else None


def metric_values(run: StudyRun, metric: str, window: str) -> list[float]:
    """The metric's finite values at the iterations of a window, in order."""
    key = metric_key(run, metric)
    if key is None:
        return []
    rows = (row for row in run.rows if WINDOWS[window](row["iteration"], run.iterations))
    return [row[key] for row in rows if math.isfinite(row.get(key, math.nan))]


def format_signed(value: float, decimals: int = 1) -> str:
    """`+1.5` or `−0.3`, with the typographic minus sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def format_factor(factor: float) -> str:
    """Two significant digits, or all digits before the decimal point if there are more: 0.20, 1.4, 115."""
    return f"{factor:.0f}" if factor >= 9.95 else f"{factor:#.2g}"


@dataclass(frozen=True, slots=True)
class Measure:
    """Figure of a run, with how it is written and compared; the fields are explained in `measures.yaml`.

    Accuracies are in per cent and their differences in percentage points.
    """

    key: str
    title: str
    unit: str
    metric: str
    window: str
    sentence: str = "the {title} of {b} is {size} {side} that of {a}"
    ratio: bool = False
    sum_of: str | None = None

    def value(self, run: StudyRun) -> float:
        """The run's figure, NaN if it was not recorded."""
        values = metric_values(run, self.metric, self.window)
        if not values and self.sum_of:
            values = [math.fsum(summands)] if (summands := metric_values(run, self.sum_of, "end")) else []
        if self.window == "end":
            values = values[-1:]
        scale = 100 if self.unit == "%" else 1
        return scale * fmean(values) if values else math.nan

    def by_seed(self, arm: Arm) -> dict[int, float]:
        """The figures of the arm's runs by seed, without those that were not recorded."""
        figures = {run.seed: self.value(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if math.isfinite(figure)}

    def prompts_by_seed(self, arm: Arm) -> dict[int, PerPrompt]:
        """Percentage correct of each prompt, by seed; empty for measures other than accuracies."""
        if self.metric != ACCURACY:
            return {}
        figures = {run.seed: self._by_prompt(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if figure}

    def _by_prompt(self, run: StudyRun) -> PerPrompt:
        """Percentage correct of each prompt, averaged over the evaluations in the window."""
        rates: dict[tuple[str, str], list[np.ndarray]] = {}
        for counts in run.evaluations:
            if WINDOWS[self.window](counts.iteration, run.iterations):
                rate = 100 * np.array(counts.correct) / counts.samples
                rates.setdefault((counts.set, counts.prompts), []).append(rate)
        return {key: np.mean(of_prompts, axis=0) for key, of_prompts in rates.items()}

    def format_value(self, value: float) -> str:
        """`91.0` in per cent, else three significant digits, or thousands: `35k`."""
        if self.unit == "%":
            return f"{value:.1f}"
        return f"{value / 1000:.0f}k" if abs(value) >= 10_000 else f"{value:.3g}"

    def format_effect(self, effect: float) -> str:
        """`−10.6` for a difference, `×0.25` for a ratio."""
        return f"×{format_factor(effect)}" if self.ratio else format_signed(effect)


MEASURES = {entry["key"]: Measure(**entry) for entry in packaged_yaml("measures.yaml")}
"""Every measure by its key."""
FINAL_ACCURACY, LATE_ACCURACY, LATE_KL = (MEASURES[key] for key in ("final_accuracy", "late_accuracy", "late_kl"))
