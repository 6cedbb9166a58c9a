"""Rates of a recorded run: tokens per second and device, from the timings in its `metrics.jsonl`."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from winnow.errors import ConfigError
from winnow.plan.lengths import Lengths
from winnow.plan.setup import Setup
from winnow.plan.timeline import Phase
from winnow.run_logs.run_files import RunFiles

WARM_UP = 1
"""Iterations at the start of a run that are not counted."""


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """Tokens per second and device that a run sampled and trained; `scored` are its seconds per row of scoring."""

    sampled: float
    trained: float
    scored: float
    source: str


def measured_rates(run: Path, devices: int, rows: int, passes: float) -> MeasuredRates:
    """The median rates of a run on `devices` devices with `rows` responses an iteration.

    `passes` is the share of the rows that its algorithm scores. The tokens of an iteration are `rollout/length/mean`
    times its rows, and those with a gradient `train/samples/tokens_trained`.

    Raises:
        ConfigError: it has too few iterations, or none that was trained on.
    """
    try:
        found = RunFiles(run).rows()[WARM_UP:] if run.is_dir() else []
    except ValueError as error:
        raise ConfigError(f"--rates {run}: {error}") from error
    sampled = [_rate(row, rows * row.get("rollout/length/mean", 0.0), "time/generate") for row in found]
    trained = [_rate(row, row.get("train/samples/tokens_trained", 0.0), "time/update") for row in found]
    scored = [row["time/score"] * devices / (rows * passes) for row in found if "time/score" in row and passes]
    sampled, trained = [r for r in sampled if r], [r for r in trained if r]
    if not sampled or not trained:
        raise ConfigError(
            f"--rates {run}: no metrics.jsonl with two or more iterations that sampled and trained; "
            "type --rates RUN_DIR"
        )
    return MeasuredRates(
        median(sampled) / devices,
        median(trained) / devices,
        median(scored) if scored else 0.0,
        f"measured: medians of {len(found)} iterations of {run} on {devices} device{'s' if devices > 1 else ''}",
    )


def measured_phases(setup: Setup, run: MeasuredRates, lengths: Lengths) -> list[Phase]:
    """The phases of an iteration by a run's own rates, with its communication, AdamW and waiting in them."""
    sampled = setup.rows * lengths.mean
    trained = sampled * setup.shares.kept * setup.epochs
    forwards = setup.rows * (setup.shares.old + setup.shares.reference + setup.shares.values)
    n = setup.devices
    return [
        Phase(
            "sampling",
            sampled / (run.sampled * n),
            f"{sampled:,.0f} tokens ÷ ({n} × {run.sampled:,.0f} tokens/s, measured)",
        ),
        Phase(
            "scoring",
            forwards * run.scored / n,
            f"{forwards:,.0f} forwards of a row × {run.scored * 1e3:.2f} ms, measured, ÷ {n}",
        ),
        Phase(
            "update",
            trained / (run.trained * n),
            f"{trained:,.0f} trained tokens ÷ ({n} × {run.trained:,.0f} tokens/s, measured)",
        ),
    ]


def measured_evaluation(setup: Setup, run: MeasuredRates, lengths: Lengths) -> Phase:
    """One evaluation of the held-out sets by a run's rate of sampling."""
    plan = setup.evaluations
    tokens = plan.prompts * plan.samples * lengths.cut(plan.max_tokens).mean
    return Phase("evaluation", tokens / (run.sampled * setup.devices), f"{tokens:,.0f} tokens ({plan.basis})")


def _rate(row: dict[str, float], tokens: float, clock: str) -> float:
    seconds = row.get(clock, 0.0)
    return tokens / seconds if seconds > 0 else 0.0
