"""What an iteration has to learn from."""

from dataclasses import dataclass, field

from winnow.report.run_files import SampleRecord
from winnow.types import Pair, Row


@dataclass(frozen=True, slots=True)
class Experience:
    """Rows or pairs to train on, one record a sampled response for `samples/`, and figures for `metrics.jsonl`.

    `inert` says of each item whether its gradient is zero by construction.
    """

    items: list[Row] | list[Pair]
    inert: list[bool]
    records: list[SampleRecord] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
