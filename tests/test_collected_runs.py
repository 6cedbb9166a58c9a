"""Runs with collectors: what they count, resume, and how they end where there is nothing to learn from."""

import json
from pathlib import Path

import pytest

from ranks import trained
from running import CONF, SMALL, composed, metrics, run, weights
from test_world_size import IN_FLOAT64, agree, apart, on
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


def test_a_task_that_is_solved_ends_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every answer counts as correct: after two iterations the run evaluates, exports and is done."""
    functions = ["reward=function", "reward.success={name: yes, at_least: 1}", "reward.isolated=false"]
    (tmp_path / "ours.py").write_text("def yes(completions):\n    return [1.0] * len(completions)\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["reward.functions={yes: 'ours:yes'}", "plugins=[ours]", "collector.patience=2", "iterations=50"]
    run(tmp_path / "run", *WORDS, *COLLECTORS["refill"], *functions, *words)
    rows = metrics(tmp_path / "run")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(row["train/updates"] == 0 for row in rows[1:])
    assert any(key.startswith("eval/") for key in rows[-1])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["iterations"]) == ("done", 2)
    assert (tmp_path / "run" / "export" / "config.json").exists()


ON_SUMS = {
    "refill": ("algo=grpo", "collector=refill", "collector.rounds=3", "collector.prompts=3"),
    "adaptive": ("algo=ppo", "collector=adaptive", "collector.rounds=3", "collector.samples=2"),
    "budgets": ("algo=raftpp", "collector=budgets", "collector.presamples=4", "collector.gradient=all"),
}


@pytest.mark.faults
@pytest.mark.parametrize("ranks", [2, 4])
def test_several_ranks_are_one(tmp_path: Path, ranks: int):
    """In float64 weights and metrics are those of one process to 1e-9, whole and sharded."""
    trained({tmp_path / name: (*words, *IN_FLOAT64) for name, words in ON_SUMS.items()}, 1, "small_gpt2")
    ways = [(name, way) for name in ON_SUMS for way in ("ddp", "fsdp") if (name, way) != ("budgets", "fsdp")]
    runs = {tmp_path / f"{name}_{way}": (*ON_SUMS[name], *IN_FLOAT64, *on(way, ranks)) for name, way in ways}
    trained(runs, ranks, "small_gpt2")
    for name, way in ways:
        alone, several = tmp_path / name, tmp_path / f"{name}_{way}"
        assert (
            len(
                {row["rollout/samples"] for row in metrics(alone)[1:]}
                | {row["rollout/rounds"] for row in metrics(alone)[1:]}
            )
            > 1
        )
        assert apart(alone, several) < 1e-9, several.name
        agree(alone, several, 1e-9, 1e-12)


PAPER = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo")
LATER = tuple(sorted({path.stem for path in (CONF / "algo").glob("*.yaml")} - {*PAPER, "sft"}))
PAIRS = [(algo, collector) for algo in PAPER for collector in COLLECTORS] + [(algo, "adaptive") for algo in LATER]


@pytest.mark.parametrize(
    ("algo", "collector"),
    [pytest.param(*pair, marks=() if pair[0] in ("ppo", "dpo") else pytest.mark.faults) for pair in PAIRS],
)
def test_every_algorithm_trains_on_what_a_collector_passes_on(tmp_path: Path, algo: str, collector: str):
    """With the update check on, which computes advantages, pairs and gradients anew from the records of the draw."""
    in_reward = ("algo/kl=k1", "algo.kl.place=reward")
    extra = {"reinforce": in_reward, "grpo": in_reward, "passk": ("algo.advantage.k=2",)}.get(algo, ())
    run(tmp_path, *WORDS, *COLLECTORS[collector], f"algo={algo}", *extra, "iterations=2", "optim.lr=1e-4")
    assert sum(row["train/updates"] for row in metrics(tmp_path)[1:]) > 0
    records = [record for number in (1, 2) for record in samples_of(tmp_path, number)]
    assert any(record.kept for record in records)
    assert not all(record.kept for record in records)
