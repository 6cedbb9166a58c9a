"""A statement that a study can be held against."""

from dataclasses import dataclass
from typing import Literal

from winnow.study.measures import Measure

Expectation = Literal["greater", "less", "close", "no greater"]


@dataclass(frozen=True, slots=True)
class Claim:
    """That arm `b` has a greater (or less, or about the same) `measure` than arm `a`.

    `margin`, in the measure's unit, of a ratio as a factor, is set before any run and decides two kinds of claims: `close` means
    within it, `no greater` at most by it: of a step that is said not to help, a fall confirms the claim. `greater` and `less` are
    decided by a test against no difference. `paper` has the source's figures in words, `paper_effect` B − A or B / A in the
    measure's unit, None where none can be read off.
    """

    key: str
    source: str
    question: str
    statement: str
    a: str
    b: str
    measure: Measure
    expects: Expectation
    margin: float
    paper: str
    paper_effect: float | None = None

    @property
    def family(self) -> str:
        """What it is corrected for multiplicity with: the claims of one table or figure (`Figure 4` of `Figure 4, §5.1`)."""
        return self.source.split(",")[0]
