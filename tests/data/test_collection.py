"""Files and hub datasets as problems: fields, golds, keys, and one-line errors."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from running import composed
from winnow.config.nodes import build_node
from winnow.data.collection import Benchmark, TrainingCollection
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.models.language_model import LanguageModel
from winnow.models.templates import Plain

SHARED = Path(os.environ["WINNOW_DATA"]) if "WINNOW_DATA" in os.environ else None
needs_data = pytest.mark.skipif(SHARED is None, reason="WINNOW_DATA is not set: the benchmark files are not here")


def none_bad(golds: Sequence[str]) -> list[int]:
    return []


def dataset(name: str, *words: str) -> TrainingCollection:
    return build_node(composed(f"dataset={name}", *words).dataset)


def write(path: Path, *objects: dict) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects))
    return path


def test_gsm8k_as_the_hub_has_it_and_as_a_tidy_copy(tmp_path: Path):
    raw = {"question": "1+1?", "answer": "One and one is <<1+1=2>>2.\nSo 2,000.\n#### 2,000"}
    tidy = {"id": "g/0", "problem": "1+1?", "answer": "2000", "solution": raw["answer"]}
    for row, key in ((raw, "line 1"), (tidy, "g/0")):
        path = write(tmp_path / "g.jsonl", row)
        [problem] = dataset("gsm8k", f"dataset.path={path}").load(none_bad, hold_out=False).train
        assert (problem.key, problem.text, problem.answer) == (key, "1+1?", "2000")
        assert problem.solution == "One and one is 2.\nSo 2,000.\nThe answer is \\boxed{2000}."


def test_math_takes_the_last_box_and_lists_and_numbers_become_text(tmp_path: Path):
    path = write(tmp_path / "m.jsonl", {"problem": "p", "solution": r"So \boxed{1}, no, \boxed{\frac{1}{2}}."})
    assert dataset("math", f"dataset.path={path}").load(none_bad, False).train[0].answer == r"\frac{1}{2}"
    path = write(tmp_path / "j.jsonl", *({"problem": "p", "answer": a} for a in (27.0, 0.5, ["$1$", "2"])))
    found = dataset("jsonl", f"dataset.path={path}").load(none_bad, False).train
    assert [problem.answer for problem in found] == ["27", "0.5", "$1$, 2"]


def test_all_fields_of_a_row_are_kept_as_columns(tmp_path: Path, small: LanguageModel):
    row = {"problem": "1+1=", "answer": "2", "level": 3, "tags": ["sum"], "note": None}
    path = write(tmp_path / "c.jsonl", row)
    [problem] = dataset("jsonl", f"dataset.path={path}").load(none_bad, False).train
    assert problem.columns == row
    assert render(problem, small.tokenizer, Plain()).columns == row


def test_repeated_ids_are_not_used_as_keys(tmp_path: Path):
    path = write(tmp_path / "d.jsonl", *({"id": 7, "problem": p, "answer": "1"} for p in "ab"))
    found = dataset("jsonl", f"dataset.path={path}").load(none_bad, False).train
    assert [problem.key for problem in found] == ["line 1", "line 2"]


def test_holding_out_takes_the_same_rows_whatever_the_run(tmp_path: Path):
    path = write(tmp_path / "h.jsonl", *({"problem": str(i), "answer": "1"} for i in range(10)))
    source = dataset("jsonl", f"dataset.path={path}", "dataset.heldout_size=3")
    split, again, whole = source.load(none_bad, True), source.load(none_bad, True), source.load(none_bad, False)
    assert split == again
    assert (len(split.train), len(split.heldout), len(whole.train), len(whole.heldout)) == (7, 3, 10, 0)
    assert {p.text for p in [*split.train, *split.heldout]} == set("0123456789")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the file has no rows"),
        (
            '{"problem": "p", "answer": "1"}\n\n{"problem": "q", "answer"\n',
            r"f\.jsonl:3: not a JSON object .*correct or remove",
        ),
        ('["p", "1"]\n', r"f\.jsonl:1: a list, not a JSON object"),
        (
            '{"text": "p", "gold": "1"}\n',
            r"line 1: no field 'problem' .*\(found: 'text', 'gold'\); type dataset\.problem_field",
        ),
        (
            '{"problem": "p", "gold": "1"}\n',
            r"no field 'answer' \(found: 'problem', 'gold'\); type dataset\.answer_field=NAME",
        ),
        ('{"problem": "p", "answer": null}\n{"problem": "q", "answer": " "}\n', r"no row has an answer"),
        (
            '{"problem": "p", "answer": "1"}\n{"problem": "q", "answer": ""}\n',
            r"1 of 2 answers cannot be read: line 2 \(''\)",
        ),
    ],
)
def test_a_bad_file_is_a_one_line_error(tmp_path: Path, text: str, message: str):
    path = tmp_path / "f.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        dataset("jsonl", f"dataset.path={path}").load(none_bad, False)


def test_dropped_rows_are_counted_and_some_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(tmp_path / "b.jsonl", *({"problem": str(i), "answer": "x" if i else "1"} for i in range(9)))
    source = dataset("jsonl", f"dataset.path={path}", "dataset.bad_rows=drop")
    found = source.load(lambda golds: [i for i, gold in enumerate(golds) if gold == "x"], False)
    assert [problem.text for problem in found.train] == ["0"]
    said = capsys.readouterr().out
    assert "8 of 9 answers cannot be read, and their rows are dropped" in said
    assert "line 6 ('x') and 3 more" in said


def test_a_hub_dataset_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cache as the hub's client lays it out, with a train and a test file, of which only those of the pattern are
    read."""
    snapshot = tmp_path / "datasets--openai--gsm8k" / "snapshots" / "abc"
    (snapshot / "main").mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    for split, answer in (("train", "#### 4"), ("test", "#### 5")):
        table = pa.table({"question": ["2+2?"], "answer": [answer]})
        parquet.write_table(table, snapshot / "main" / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    [problem] = dataset("gsm8k").load(none_bad, False).train
    assert (problem.key, problem.answer) == ("train-00000-of-00001 row 1", "4")
    benchmark: Benchmark = build_node(composed("eval.sets=[gsm8k]").benchmarks.gsm8k)
    assert benchmark.load()[0].answer == "5"


def test_a_dataset_that_cannot_be_downloaded_is_a_one_line_error():
    message = (
        r"dataset openai/gsm8k could not be downloaded: not cached, hub unreachable .*type dataset\.path=FILE\.jsonl"
    )
    with pytest.raises(ConfigError, match=message):
        dataset("gsm8k").load(none_bad, False)


COUNTS = {"math500": 500, "minerva_math": 272, "olympiadbench": 675, "gsm8k": 1319, "aime24": 30, "amc23": 40}


@needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_every_benchmark_loads_from_a_folder_and_its_verifier_reads_every_gold(name: str):
    benchmark: Benchmark = build_node(composed(f"eval.folder={SHARED}/eval").benchmarks[name])
    with benchmark.verifier:
        problems = benchmark.load()
    assert len(problems) == COUNTS[name]
    assert all(problem.key.startswith(("gsm8k_test/", f"{name}/")) for problem in problems)


@needs_data
@pytest.mark.parametrize(
    ("name", "file", "count"),
    [("gsm8k", "gsm8k_train", 7473), ("math", "math_train", 7498), ("numina_math", "competition_clean", 17444)],
)
def test_training_files_load_by_path(name: str, file: str, count: int):
    cfg = composed(f"dataset={name}", f"dataset.path={SHARED}/train/{file}.jsonl", "dataset.bad_rows=drop")
    assert len(build_node(cfg.dataset).load(none_bad, False).train) == count
