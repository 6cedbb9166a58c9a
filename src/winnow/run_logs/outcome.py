"""Outcomes of a run that its last figures do not tell by themselves: no update at all, or an end below the start."""

import math
from collections.abc import Mapping, Sequence


def never_updated(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether the rows of `metrics.jsonl` record iterations and not a single optimiser step in them."""
    made = [row["train/updates"] for row in rows if math.isfinite(row.get("train/updates", math.nan))]
    return bool(made) and not any(made)


def outcome_warnings(rows: Sequence[Mapping[str, float]], first: float | None, last: float | None) -> list[str]:
    """Sentences on a run from its rows and its held-out accuracies (0 to 1) before and after training."""
    warnings = []
    if never_updated(rows):
        count = sum(row["iteration"] > 0 for row in rows)
        iterations = f"{count} iteration{'' if count == 1 else 's'}"
        warnings.append(f"no update was made in {iterations}: the weights are those of the start{_reason(rows)}")
    if first is not None and last is not None and last < first:
        warnings.append(f"held-out accuracy ended below its start: {first:.1%} → {last:.1%}")
    return warnings


def _reason(rows: Sequence[Mapping[str, float]]) -> str:
    """Why nothing was trained on, as far as the rows say it."""
    trained = [row for row in rows if row["iteration"] > 0]
    if any(row.get("train/updates_skipped_nonfinite", 0) > 0 for row in trained):
        return " (gradients were not finite)"
    if all(row.get("train/groups/frac_all_wrong") == 1 for row in trained):
        return " (every response was wrong)"
    if all(row.get("train/groups/frac_all_correct") == 1 for row in trained):
        return " (every response was correct)"
    if all(row.get("train/samples/kept_frac") == 0 for row in trained):
        return " (no response was kept)"
    return ""
