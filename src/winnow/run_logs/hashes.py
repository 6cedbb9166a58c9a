"""Hashes of what a run recorded in each iteration, `hashes.jsonl`: they bind rows, samples and weights to the run's id.

Rows and samples hold no id themselves, so that equal runs leave equal files. A row or file whose hash is not the one
that is recorded is another run's, or was edited.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from winnow.files import parsed_json

HASHES = "hashes.jsonl"


@dataclass(frozen=True, slots=True)
class IterationHashes:
    """Hashes of one iteration. `metrics` is of its line in `metrics.jsonl`, `evaluations` of its lines in
    `evaluations.jsonl` and `samples` of its file, all SHA-256 of bytes; `weights` tells the trained weights apart. None
    where there is nothing of the kind.
    """

    run: str
    iteration: int
    metrics: str
    samples: str | None = None
    evaluations: str | None = None
    weights: str | None = None

    @classmethod
    def of_line(cls, line: str) -> "IterationHashes":
        """Raises ValueError, TypeError or KeyError for a line that is not of this kind."""
        row = parsed_json(line)
        if not isinstance(row, dict):
            raise TypeError
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    @property
    def row(self) -> Mapping[str, str | int | None]:
        return asdict(self)


def text_hash(text: str) -> str:
    """SHA-256 of the text's bytes in UTF-8, with a lone surrogate written as in the files."""
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()
