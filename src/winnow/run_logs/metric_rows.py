"""Lines of `metrics.jsonl` read back: current metric names, NaN for null, and errors that name the line."""

import math
from collections.abc import Sequence
from pathlib import Path

from winnow.files import parsed_json

RENAMED_METRICS = {"train/tokens_total": "train/sampled_tokens_total", "train/signal/": "train/gradient_mass/"}
"""Metric names, and prefixes that end in a slash, of earlier versions of Winnow, mapped to the current ones."""


def metric_rows(path: Path, lines: Sequence[str]) -> list[dict[str, float]]:
    """The rows in the lines of the file `path`.

    Raises:
        ValueError: a line is not a JSON object of numbers with a whole `iteration`; the message names file and line.
    """
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def current_name(metric: str) -> str:
    """The current name of a metric, given the name under which a run recorded it."""
    for old, new in RENAMED_METRICS.items():
        if metric == old or (old.endswith("/") and metric.startswith(old)):
            return new + metric.removeprefix(old)
    return metric


def _row(path: Path, number: int, line: str) -> dict[str, float]:
    try:
        row = parsed_json(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: not JSON") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: not an object of metrics")
    iteration = row.get("iteration")
    if type(iteration) is not int or iteration < 0:
        raise ValueError(f"{path}, line {number}: iteration is {iteration!r}, not a whole number from 0")
    return {current_name(key): _value(path, number, key, value) for key, value in row.items()}


def _value(path: Path, number: int, key: str, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise ValueError(f"{path}, line {number}: {key} is not a number")
    try:
        float(value)
    except OverflowError as error:
        raise ValueError(f"{path}, line {number}: {key} is not a number that fits a float") from error
    return value
