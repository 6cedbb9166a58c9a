"""Runs with collectors: what they count, resume, and how they end where there is nothing to learn from."""

import json
from pathlib import Path

import pytest

from running import SMALL, composed, metrics, run, weights
from winnow.assemble.training import train
from winnow.errors import Diverged
from winnow.run_logs.run_files import read_samples

COLLECTORS = {
    "refill": ("collector=refill", "collector.rounds=4", "collector.prompts=3"),
    "adaptive": ("collector=adaptive", "collector.rounds=3", "collector.samples=2"),
    "budgets": ("collector=budgets", "collector.presamples=3"),
}
WORDS = ("rollout.prompts=4", "rollout.samples=3", "checks.every=1")


def samples_of(directory: Path, iteration: int):
    return read_samples(directory / "samples" / f"iteration_{iteration:06d}.jsonl")


@pytest.mark.parametrize("collector", COLLECTORS)
def test_everything_that_is_drawn_is_counted_and_two_and_resume_equal_four(tmp_path: Path, collector: str):
    words = (*WORDS, *COLLECTORS[collector], "algo=grpo", "optim.lr=1e-4")
    run(tmp_path / "whole", *words, "iterations=4")
    run(tmp_path / "parts", *words, "iterations=2")
    run(tmp_path / "parts", *words, "iterations=4", f"resume={tmp_path / 'parts'}")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert metrics(tmp_path / "parts")[3:] == metrics(tmp_path / "whole")[3:]
    total = trained = 0
    for number, row in enumerate(metrics(tmp_path / "whole")[1:], 1):
        records = samples_of(tmp_path / "whole", number)
        total += sum(record.length for record in records)
        trained += row["train/samples/tokens_trained"]
        assert row["rollout/samples"] == len(records)
        assert row["rollout/prompts"] == len({record.prompt_key for record in records})
        assert row["train/samples/kept_frac"] == pytest.approx(sum(r.kept for r in records) / len(records))
        assert row["train/sampled_tokens_total"] == total
        assert row["train/tokens_trained_total"] == trained
        assert trained <= sum(record.length for record in records if record.kept) or number > 1
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert (summary["sampled_tokens"], summary["trained_tokens"]) == (total, trained)


def task(path: Path, answer: str) -> list[str]:
    """Words of a run on sums that all have this gold answer."""
    rows = [{"problem": f"{n}+{n % 7}=", "answer": answer} for n in range(1, 30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [word for word in SMALL if not word.startswith("dataset.")]
    return [*words, "dataset=file", f"dataset.path={path}", "dataset.heldout_size=4"]


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_task_out_of_reach_ends_with_words(tmp_path: Path, collector: str):
    words = [*task(tmp_path / "task.jsonl", "123456789"), *WORDS, *COLLECTORS[collector], "collector.patience=2"]
    (tmp_path / "run").mkdir()
    with pytest.raises(Diverged, match=r"in 2 iterations in a row no prompt had .* 100% all wrong.*out of reach"):
        train(composed(*words, "iterations=50"), tmp_path / "run")
    assert [row["iteration"] for row in metrics(tmp_path / "run")] == [0, 1, 2]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "diverged"
    assert not any(record.kept for record in samples_of(tmp_path / "run", 2) if collector == "refill")
