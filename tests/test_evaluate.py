"""`evaluate.py` from its command line: its files, its agreement with the run that it evaluates, and interruptions."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from winnow import cli
from winnow.errors import EXIT_CODE_OF_SIGNAL
from winnow.evaluation.storage import SampleStore
from winnow.launch.program import Program
from winnow.launch.programs import evaluation, training
from winnow.run_logs.run_files import SampleRecord

ROOT = Path(__file__).parent.parent
WORDS = ("limit=12", "batch=8", "eval.samples=4", "hardware=cpu", "hardware.threads=1")
"""Six batches of two problems of the embedded task."""


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    return {"train": training(), "evaluate": evaluation()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(directory: Path, name: str = "arithmetic") -> list[dict]:
    """Every field of the samples but their times."""
    table = parquet.read_table(directory / "samples" / f"{name}.parquet")
    return table.drop_columns(["seconds"]).to_pylist()


def evaluate(programs: dict[str, Program], directory: Path | str, *words: str) -> int:
    return programs["evaluate"].exit_code([*words, f"hydra.run.dir={directory}"])


def test_what_an_evaluation_leaves(programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str]):
    assert evaluate(programs, "whole", *WORDS) == 0
    samples = rows(here / "whole")
    assert [(row["prompt_key"], row["sample"]) for row in samples] == [
        (f"heldout:{p}", g) for p in range(12) for g in range(4)
    ]
    assert all(row["correct"] == (row["extracted"] == row["gold"]) for row in samples)
    results = json.loads((here / "whole" / "results.json").read_text())
    figures = results["sets"]["arithmetic"]
    assert figures["accuracy"]["estimate"] == pytest.approx(sum(row["correct"] for row in samples) / 48)
    assert figures["accuracy"]["low"] < figures["accuracy"]["estimate"] < figures["accuracy"]["high"]
    assert (figures["prompts"], figures["whole"], figures["samples"]) == (12, 1024, 4)
    assert list(figures["pass_at"]) == ["1", "2", "4"]
    assert figures["verifier"] == {"name": "math_verify"}
    assert sorted(path.name for path in (here / "whole" / "samples").iterdir()) == ["arithmetic.parquet"]
    assert "| arithmetic | 12 of 1024 | 4 |" in capfd.readouterr().out


def test_it_agrees_with_the_run_that_it_evaluates(programs: dict[str, Program], here: Path):
    """With the same weights, prompts and seed, every sample equals one of the evaluation that ended training."""
    small = ("rollout.prompts=2", "rollout.samples=2", "update.minibatches=1", "eval.prompts=12", "eval.samples=4")
    assert programs["train"].exit_code([*small, "iterations=1", "logger=none", "seed=3", "hydra.run.dir=trained"]) == 0
    assert evaluate(programs, "evaluated", "run=trained", "limit=12", "hardware.threads=1") == 0
    assert cli.exit_code(["export", "trained", "out"]) == 0
    assert evaluate(programs, "exported", "model.path=out", "limit=12", "seed=3", "rollout.max_tokens=72") == 2
    assert evaluate(programs, "exported", "model.path=out", "limit=12", "seed=3", "eval.max_tokens=72") == 0
    summary = json.loads((here / "trained" / "summary.json").read_text())
    results = json.loads((here / "evaluated" / "results.json").read_text())
    assert results["average"]["estimate"] == pytest.approx(summary["eval_last"])
    assert (results["seed"], results["samples"]) == (3, 4)
    assert rows(here / "exported") == rows(here / "evaluated")
    card = (here / "out" / "README.md").read_text()
    assert f"| arithmetic | math_verify | {100 * summary['eval_first']:.1f} %" in card


@pytest.mark.parametrize("at", [0, 3, 5, *(pytest.param(at, marks=pytest.mark.faults) for at in (1, 2, 4))])
def test_an_evaluation_interrupted_at_any_batch_resumes_exactly(
    programs: dict[str, Program], here: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    evaluate(programs, "whole", *WORDS)
    write = SampleStore.write

    def failing(self: SampleStore, name: str, batch: int, samples: list[SampleRecord]) -> None:
        if batch == at:
            raise KeyboardInterrupt
        write(self, name, batch, samples)

    with monkeypatch.context() as during:
        during.setattr(SampleStore, "write", failing)
        assert evaluate(programs, "broken", *WORDS) == 130
    assert len(list((here / "broken" / "samples").rglob("batch_*.parquet"))) == at
    assert programs["evaluate"].exit_code(["resume=broken"]) == 0
    assert rows(here / "broken") == rows(here / "whole")


@pytest.mark.faults
def test_an_evaluation_killed_again_and_again_resumes_exactly(here: Path):
    """SIGKILL, SIGTERM and SIGKILL from outside, each with a resume."""
    command = [sys.executable, str(ROOT / "evaluate.py"), "limit=64", "batch=8", "hardware=cpu", "hardware.threads=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "hydra.run.dir=whole"], check=True, env=environment, capture_output=True)
    words, kills = [*command, "hydra.run.dir=killed"], 0
    for number, parts in ((signal.SIGKILL, 3), (signal.SIGTERM, 11), (signal.SIGKILL, 20)):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(here.glob("killed/samples/arithmetic/batch_*"))) < parts:
            time.sleep(0.001)
        process.send_signal(number)
        kills += process.wait() in (-signal.SIGKILL, 75)
        words = [sys.executable, str(ROOT / "evaluate.py"), "resume=killed"]
    assert kills >= 2
    subprocess.run(words, check=True, env=environment, capture_output=True)
    assert rows(here / "killed") == rows(here / "whole")
    assert len(rows(here / "whole")) == 64 * 4


def test_rescore_with_another_verifier_and_compare_two_evaluations(
    programs: dict[str, Program], here: Path, capsys: pytest.CaptureFixture[str]
):
    evaluate(programs, "a", *WORDS)
    evaluate(programs, "b", *WORDS, "seed=1")
    assert cli.exit_code(["rescore", "a", "exactly", "reward/verifier=exact"]) == 0
    assert "0 of 48 verdicts changed" in capsys.readouterr().out
    assert rows(here / "exactly") == rows(here / "a")
    assert json.loads((here / "exactly" / "results.json").read_text())["sets"]["arithmetic"]["verifier"] == {
        "name": "exact"
    }
    assert cli.exit_code(["compare", "a", "exactly"]) == 0
    table = capsys.readouterr().out
    assert "note: arithmetic was judged by math_verify in A and by exact in B" in table
    assert "| +0.0 (" in table
    assert "inside noise) | " in table
    assert cli.exit_code(["compare", "a", "b"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| arithmetic")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert sum(map(int, cells[5:9])) == int(cells[1]) == 12


@pytest.mark.slow
def test_a_sweep_over_runs_has_a_row_per_run(programs: dict[str, Program], here: Path):
    for seed in (1, 2):
        words = ("rollout.prompts=2", "rollout.samples=2", "update.minibatches=1", "eval.prompts=2", "iterations=1")
        programs["train"].exit_code([*words, "logger=none", f"seed={seed}", f"hydra.run.dir=run{seed}"])
    command = [sys.executable, str(ROOT / "evaluate.py"), "-m", "run=run1,run2", "limit=4", "hydra.sweep.dir=sweep"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    with (here / "sweep" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["overrides"], row["status"]) for row in rows] == [(f"run=run{n} limit=4", "done") for n in (1, 2)]
    results = [json.loads((here / "sweep" / str(n) / "results.json").read_text()) for n in (0, 1)]
    assert [result["seed"] for result in results] == [1, 2]
    assert [float(row["eval_last"]) for row in rows] == [result["average"]["estimate"] for result in results]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("optim.lr=1", ("an evaluation does not read optim", "leave it out")),
        ("algo=raft", ("an evaluation does not read algo",)),
        ("eval.prompts=3", ("type limit=",)),
        ("rollout.samples=4", ("type eval.samples=",)),
        ("run=nowhere", ("run=nowhere: no run directory", "model=…")),
        ("limit=0", ("limit=0: must be a whole number, 1 or more",)),
        ("hardware.devices=2", ("one device",)),
        ("eval.sets=[math50]", ("no benchmark math50", "did you mean math500?")),
        ("eval.sets=[gsm8k,gsm8k]", ("gsm8k is named twice",)),
        ("eval.sets=[gsm8k] eval.folder=.", ("no gsm8k.jsonl in it", "benchmarks.gsm8k.path=FILE.jsonl")),
        ("eval.sets=[gsm8k] benchmarks.gsm8k.path=empty.jsonl", ("empty.jsonl: the file has no rows",)),
        ("eval.sets=[gsm8k] benchmarks.gsm8k.path=broken.jsonl", ("broken.jsonl:2: not a JSON object",)),
        (
            "eval.sets=[gsm8k] benchmarks.gsm8k.path=other.jsonl",
            ("no field 'question' or 'problem' (found: 'q', 'a')",),
        ),
        ("eval.sets=[gsm8k] benchmarks.gsm8k.path=blank.jsonl", ("no row has an answer", "answer_field=NAME")),
        ("eval.sets=[gsm8k] reward/verifier=exact", ("type reward/verifier@benchmarks.gsm8k.verifier=exact",)),
        ("eval.sets=[gsm8k] benchmarks.gsm8k.bad_rows=kep", ("must be keep, refuse or drop",)),
        ("hardware.token_budget=9", ("type batch=",)),
        (
            "dataset=jsonl dataset.path=good.jsonl dataset.heldout_size=0",
            ("dataset.heldout_size=0: must be a whole",),
        ),
        ("resume=last", ("no run under outputs/ is an evaluation", "start one without resume")),
    ],
)
def test_bad_input_is_one_line(
    programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str], words: str, parts: tuple[str, ...]
):
    (here / "empty.jsonl").write_text("\n")
    (here / "broken.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", \n')
    (here / "other.jsonl").write_text('{"q": "1+1", "a": "2"}\n')
    (here / "blank.jsonl").write_text('{"problem": "1+1", "answer": ""}\n{"problem": "1+2", "answer": null}\n')
    (here / "good.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", "answer": "3"}\n')
    before = sorted(here.rglob("*"))
    assert programs["evaluate"].exit_code(words.split()) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert [part for part in parts if part not in line] == [], line
    assert sorted(here.rglob("*")) == before


def test_an_evaluation_is_not_resumed_with_other_sampling(
    programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str]
):
    evaluate(programs, "a", *WORDS)
    assert programs["evaluate"].exit_code(["resume=a", "eval.temperature=0.5"]) == 2
    assert "temperature was 1.0 and is 0.5" in capfd.readouterr().err
    assert EXIT_CODE_OF_SIGNAL[signal.SIGTERM] == 75


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("batch=4", "batch was 2 and is 1"),
        ("limit=6", "prompts of arithmetic was 12 and is 6"),
        ("seed=5", "seed was 0 and is 5"),
        ("reward/verifier=exact", "verifier of arithmetic was {'name': 'math_verify'} and is {'name': 'exact'}"),
        ("model/template=boxed", "model/template was plain and is boxed"),
    ],
)
def test_a_resume_keeps_everything_that_a_sample_or_its_verdict_depends_on(
    programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str], word: str, part: str
):
    evaluate(programs, "a", *WORDS)
    assert programs["evaluate"].exit_code(["resume=a", word]) == 2
    assert part in capfd.readouterr().err


def test_two_files_with_equal_keys_and_different_problems_are_not_compared(
    programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str]
):
    for name, answers in (("a", ("3", "4")), ("b", ("5", "6"))):
        rows = (json.dumps({"problem": f"1+{a}=", "answer": a}) + "\n" for a in answers)
        (here / f"{name}.jsonl").write_text("".join(rows))
        words = ("eval.sets=[gsm8k]", f"benchmarks.gsm8k.path={name}.jsonl", "eval.samples=1", "hardware=cpu")
        assert evaluate(programs, f"of_{name}", *words) == 0
    assert cli.exit_code(["compare", "of_a", "of_b"]) == 2
    assert "line 1: its gold is '3' in" in capfd.readouterr().err


def test_the_export_of_an_unfinished_run_is_evaluated_with_the_runs_settings(
    programs: dict[str, Program], here: Path, capfd: pytest.CaptureFixture[str]
):
    """The command line that the refusal names works; and a run with one sample per prompt can be evaluated."""
    small = (
        "rollout.prompts=2",
        "rollout.samples=1",
        "update.minibatches=1",
        "eval.prompts=2",
        "algo=reinforce",
        "seed=4",
    )
    assert programs["train"].exit_code([*small, "iterations=1", "logger=none", "hydra.run.dir=trained"]) == 0
    (here / "trained" / "export").rename(here / "out")
    assert evaluate(programs, "e", "run=trained", "limit=4") == 2
    assert "winnow export trained OUT, then run=trained model.path=OUT" in capfd.readouterr().err
    assert evaluate(programs, "e", "run=trained", "model.path=out", "limit=4") == 0
    assert json.loads((here / "e" / "results.json").read_text())["seed"] == 4
    assert evaluate(programs, "f", "run=trained", "model=smollm") == 2
    assert "leave out model=" in capfd.readouterr().err
