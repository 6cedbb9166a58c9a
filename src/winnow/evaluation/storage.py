"""One judged response of an evaluation, as a Parquet row."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from winnow.errors import ConfigError
from winnow.types import Finish, Rollouts
from winnow.verdict import Verdict


@dataclass(frozen=True, slots=True)
class EvaluationSample:
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
assert SCHEMA.names == [field.name for field in fields(EvaluationSample)]


def samples_of(rollouts: Rollouts) -> Iterator[EvaluationSample]:
    """In the order they were asked: prompt by prompt."""
    for p, prompt in enumerate(rollouts.prompts):
        for g, completion in enumerate(rollouts.completions[p]):
            judgement = rollouts.judgements[p][g]
            yield EvaluationSample(
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


def table_of(samples: Sequence[EvaluationSample]) -> pa.Table:
    """A lone surrogate, which a byte-level tokenizer may decode to, is not UTF-8: it becomes `?`."""
    rows = [
        {key: _utf8(value) if isinstance(value, str) else value for key, value in asdict(s).items()} for s in samples
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def read_samples(path: Path) -> list[EvaluationSample]:
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
    return [EvaluationSample(**row) for row in table.select(SCHEMA.names).to_pylist()]


@dataclass(frozen=True, slots=True)
class SampleStore:
    """`FOLDER/gsm8k.parquet`; until it is whole, `FOLDER/gsm8k/batch_000003.parquet` and its like.

    A file under its final name is whole: it is written beside itself and renamed. So whatever ends a process, what is
    there can be trusted, and what is not there is drawn again.
    """

    folder: Path

    def whole(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def missing(self, name: str, batches: int) -> list[int]:
        """The batches still to be drawn."""
        if self.whole(name).exists():
            return []
        return [batch for batch in range(batches) if not self._part(name, batch).exists()]

    def write(self, name: str, batch: int, samples: Sequence[EvaluationSample]) -> None:
        path = self._part(name, batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_parquet(path, [table_of(samples)])

    def seal(self, name: str, batches: int) -> None:
        """Join the batches, one row group each, and remove them."""
        if not self.whole(name).exists():
            _replace_parquet(
                self.whole(name), (parquet.read_table(self._part(name, batch)) for batch in range(batches))
            )
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def names(self) -> list[str]:
        """The sets that are whole."""
        return sorted(path.stem for path in self.folder.glob("*.parquet") if not path.name.startswith("."))

    def _part(self, name: str, batch: int) -> Path:
        return self.folder / name / f"batch_{batch:06d}.parquet"


def _replace_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    neighbour = path.with_name(f".{path.name}.tmp")
    with parquet.ParquetWriter(neighbour, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
    with neighbour.open("rb") as file:
        os.fsync(file.fileno())
    neighbour.replace(path)
