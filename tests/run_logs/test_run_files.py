import base64
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from winnow.run_logs.run_files import (
    FUNCTION_COLUMNS,
    ID_COLUMNS,
    EvaluationCounts,
    RunFiles,
    SampleRecord,
    Summary,
    read_samples,
)
from winnow.run_logs.token_ids import decoded, encoded

SAMPLE = SampleRecord(
    iteration=10,
    prompt_key="arithmetic:17",
    sample=3,
    prompt="4+7=",
    response="4+7=11;}",
    answer="11",
    extracted="11",
    verdict="correct",
    reward=1.0,
    advantage=-0.5,
    kept=True,
    length=7,
    finish="eos",
)
SUMMARY = Summary("done", "grpo", "tiny", "arithmetic", 1, 200, 0.55, 0.9, 10, 8, 60.25)


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path)


def _without_seconds(record: SampleRecord) -> dict[str, object]:
    """Every field but the seconds of the check, which differ between identical runs, and what only reward functions
    give; here there are no token ids."""
    return {key: value for key, value in asdict(record).items() if key not in ("seconds", *FUNCTION_COLUMNS)}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_floats_read_back_bit_for_bit(files: RunFiles) -> None:
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53 + 2]
    row = {"iteration": 1, "tokens": 2**60 + 1} | {f"x{i}": value for i, value in enumerate(values)}
    files.append(row)
    (read,) = files.rows()
    assert [read[f"x{i}"].hex() for i in range(len(values))] == [value.hex() for value in values]
    assert read["tokens"] == 2**60 + 1
    assert isinstance(read["iteration"], int)


def test_rows_are_lines_and_what_is_not_finite_is_null(files: RunFiles) -> None:
    assert files.rows() == []
    files.append({"train/lr": 0.5, "iteration": 1})
    files.append({"iteration": 2, "train/kl_ref": math.nan, "train/ratio/max": math.inf})
    assert files.metrics.read_text() == (
        '{"iteration": 1, "train/lr": 0.5}\n{"iteration": 2, "train/kl_ref": null, "train/ratio/max": null}\n'
    )
    second = files.rows()[1]
    assert math.isnan(second["train/kl_ref"])
    assert math.isnan(second["train/ratio/max"])


def test_a_row_without_an_iteration_is_refused(files: RunFiles) -> None:
    with pytest.raises(KeyError, match="iteration"):
        files.append({"train/lr": 0.5})
    assert not files.metrics.exists()


def test_a_row_is_on_disk_when_append_returns(files: RunFiles) -> None:
    for iteration in range(1, 4):
        files.append({"iteration": iteration})
        assert len(files.metrics.read_bytes().splitlines()) == iteration


def test_truncate_drops_later_rows_and_samples_and_keeps_the_rest_byte_for_byte(files: RunFiles) -> None:
    for iteration in range(5):
        files.append({"iteration": iteration, "x": iteration / 7})
        files.write_samples(iteration, [replace(SAMPLE, iteration=iteration)])
    before = files.metrics.read_bytes().splitlines(keepends=True)
    files.truncate_after(2)
    assert files.metrics.read_bytes() == b"".join(before[:3])
    assert names(files.samples) == [f"iteration_{iteration:06d}.jsonl" for iteration in range(3)]
    files.append({"iteration": 3, "x": 0.0})
    assert [row["iteration"] for row in files.rows()] == [0, 1, 2, 3]
    assert names(files.directory) == ["metrics.jsonl", "samples"]


def test_truncate_of_an_empty_directory_does_nothing(files: RunFiles) -> None:
    files.truncate_after(3)
    assert names(files.directory) == []


def test_a_line_cut_short_by_a_crash_is_no_row_and_goes_with_the_next_truncation(files: RunFiles) -> None:
    files.append({"iteration": 1})
    with files.metrics.open("a") as file:
        file.write('{"iteration": 2, "train/re')
    assert files.rows() == [{"iteration": 1}]
    files.truncate_after(1)
    files.append({"iteration": 2})
    assert files.rows() == [{"iteration": 1}, {"iteration": 2}]


def counts(iteration: int, *correct: int, of: str = "arithmetic") -> EvaluationCounts:
    return EvaluationCounts(iteration, of, 4, "1d40f101d1e1", correct)


def test_counts_are_a_line_a_set_and_read_back(files: RunFiles) -> None:
    assert files.evaluations() == []
    files.append_evaluations([counts(0, 3, 0), counts(0, 1, of="gsm8k")])
    files.append_evaluations([counts(10, 4, 1)])
    assert files.evaluated.read_text().splitlines()[0] == (
        '{"iteration": 0, "set": "arithmetic", "samples": 4, "prompts": "1d40f101d1e1", "correct": [3, 0]}'
    )
    assert files.evaluations() == [counts(0, 3, 0), counts(0, 1, of="gsm8k"), counts(10, 4, 1)]


def test_truncate_drops_later_counts_and_what_was_cut_short(files: RunFiles) -> None:
    for iteration in (0, 10, 20):
        files.append_evaluations([counts(iteration, 1)])
    with files.evaluated.open("a") as file:
        file.write('{"iteration": 30, "se')
    files.truncate_after(10)
    files.append_evaluations([counts(20, 2)])
    assert files.evaluations() == [counts(0, 1), counts(10, 1), counts(20, 2)]


def test_an_evaluation_made_late_twice_is_as_made_once(files: RunFiles) -> None:
    for iteration in (0, 1):
        files.append({"iteration": iteration, "x": 0.5})
    files.append_evaluations([counts(0, 1)])
    for _ in range(2):
        files.amend_last({"eval/arithmetic/acc": 0.25}, [counts(1, 2)])
    assert files.rows() == [{"iteration": 0, "x": 0.5}, {"iteration": 1, "x": 0.5, "eval/arithmetic/acc": 0.25}]
    assert files.evaluations() == [counts(0, 1), counts(1, 2)]


def test_a_truncation_that_fails_leaves_the_file_as_it_was(files: RunFiles, monkeypatch) -> None:
    for iteration in (1, 2):
        files.append({"iteration": iteration})

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.truncate_after(1)
    assert [row["iteration"] for row in files.rows()] == [1, 2]


def test_samples_read_back_whatever_the_text(files: RunFiles) -> None:
    texts = [
        "α ≤ β",
        'quote " and \\boxed{4}',
        "two\nlines\r\nand\u2028a separator\x85",
        "\x00",
        "lone \ud800 surrogate",
    ]
    records = [replace(SAMPLE, sample=i, response=text, advantage=None) for i, text in enumerate(texts)]
    files.write_samples(10, records)
    path = files.directory / "samples" / "iteration_000010.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")
    assert len(lines) == len(texts) + 1
    assert [json.loads(line) for line in lines[:-1]] == [_without_seconds(record) for record in records]
    assert "α ≤ β" in lines[0]  # readable, not escaped
    assert names(files.samples) == ["iteration_000010.jsonl"]


def test_token_ids_by_hand():
    """5 is the byte 05, 300 = 2·128 + 44 the bytes AC 02, 151,643 = 9·16384 + 32·128 + 91 the bytes DB A0 09."""
    assert encoded([5, 300, 151_643]) == base64.b64encode(bytes([0x05, 0xAC, 0x02, 0xDB, 0xA0, 0x09])).decode()
    ids = (0, 1, 127, 128, 16_383, 16_384, 151_643, 2**31)
    assert decoded(encoded(ids)) == ids
    assert decoded(encoded(())) == ()
    with pytest.raises(ValueError, match="inside a token id"):
        decoded(base64.b64encode(bytes([0x05, 0xAC])).decode())


def test_samples_read_back_with_the_tokens_that_the_text_leaves_out(files: RunFiles) -> None:
    """Two prompts with two samples each. A prompt's tokens are stored once; 151,643 is a special token."""
    records = [
        replace(SAMPLE, prompt_key=f"p{p}", sample=g, prompt_ids=(p, 300), response_ids=(g, 151_643))
        for p in (1, 2)
        for g in (0, 1)
    ]
    files.write_samples(10, records)
    path = files.samples / "iteration_000010.jsonl"
    assert read_samples(path) == records
    assert read_samples(path, limit=3) == records[:3]
    stored = [json.loads(line)["prompt_ids"] for line in path.read_text().splitlines()]
    assert stored == [encoded((1, 300)), None, encoded((2, 300)), None]


def test_samples_of_earlier_versions_are_read_without_token_ids(files: RunFiles) -> None:
    files.samples.mkdir()
    path = files.samples / "iteration_000010.jsonl"
    old = {name: value for name, value in _without_seconds(SAMPLE).items() if name not in ID_COLUMNS}
    path.write_text(f"{json.dumps(old)}\n" * 2)
    assert read_samples(path) == [SAMPLE, SAMPLE]


def test_summary_is_written_whole_and_replaces_the_last(files: RunFiles) -> None:
    files.write_summary(replace(SUMMARY, status="running", eval_last=None))
    files.write_summary(replace(SUMMARY, eval_first=math.nan, error="α"))
    assert json.loads(files.summary.read_text()) == {
        "status": "done",
        "algo": "grpo",
        "model": "tiny",
        "dataset": "arithmetic",
        "seed": 1,
        "iterations": 200,
        "eval_first": None,
        "eval_last": 0.9,
        "sampled_tokens": 10,
        "trained_tokens": 8,
        "seconds": 60.25,
        "prompt_hash": "",
        "verifiers": {},
        "error": "α",
        "resumed_from": None,
        "run": "",
        "changes": [],
        "alarms": [],
        "revisions": {},
    }
    assert names(files.directory) == ["summary.json"]


def test_metrics_of_earlier_versions_are_read_under_todays_names(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"iteration": 1, "train/tokens_total": 12, "train/signal/rows_frac": 0.5, "train/tokens_trained_total": 7}\n'
    )
    assert RunFiles(tmp_path).rows() == [
        {
            "iteration": 1,
            "train/sampled_tokens_total": 12,
            "train/gradient_mass/rows_frac": 0.5,
            "train/tokens_trained_total": 7,
        }
    ]
