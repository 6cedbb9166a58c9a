"""One judged response of an evaluation, as a Parquet row."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from winnow.errors import ConfigError
from winnow.rewards.verdict import Verdict
from winnow.types import Finish, Rollouts


@dataclass(frozen=True, slots=True)
class Sample:
    """`sample` is its index among the prompt's samples, `length` counts tokens with the EOS, `seconds` is what the check took.

    The text is kept whole, so that another verifier can judge it later.
    """

    prompt_key: str
    sample: int
    prompt: str
    response: str
    gold: str
    extracted: str | None
    verdict: str
    correct: bool
    finish: str
    length: int
    seconds: float

    @property
    def truncated(self) -> bool:
        return self.finish == Finish.LENGTH


SCHEMA = pa.schema(
    [
        ("prompt_key", pa.string()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("gold", pa.string()),
        ("extracted", pa.string()),
        ("verdict", pa.string()),
        ("correct", pa.bool_()),
        ("finish", pa.string()),
        ("length", pa.int32()),
        ("seconds", pa.float64()),
    ]
)
assert SCHEMA.names == [field.name for field in fields(Sample)]


def samples_of(rollouts: Rollouts) -> Iterator[Sample]:
    """In the order they were asked: prompt by prompt."""
    for p, prompt in enumerate(rollouts.prompts):
        for g, completion in enumerate(rollouts.completions[p]):
            judgement = rollouts.judgements[p][g]
            yield Sample(
                prompt_key=prompt.key,
                sample=g,
                prompt=prompt.text,
                response=rollouts.texts[p][g],
                gold=prompt.answer,
                extracted=judgement.answer,
                verdict=judgement.verdict.value,
                correct=judgement.verdict is Verdict.correct,
                finish=completion.finish.value,
                length=len(completion.token_ids),
                seconds=judgement.seconds,
            )


def table_of(samples: Sequence[Sample]) -> pa.Table:
    """A lone surrogate, which a byte-level tokenizer may decode to, is not UTF-8: it becomes `?`."""
    rows = [
        {key: _utf8(value) if isinstance(value, str) else value for key, value in asdict(s).items()} for s in samples
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def read(path: Path) -> list[Sample]:
    """
    Raises:
        ConfigError: no such file, or not one of ours.
    """
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}; type the directory of an evaluation") from error
    if missing := [name for name in SCHEMA.names if name not in table.column_names]:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; type the directory of an evaluation")
    return [Sample(**row) for row in table.select(SCHEMA.names).to_pylist()]
