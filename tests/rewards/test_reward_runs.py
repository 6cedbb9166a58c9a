"""Runs with reward functions from start to end: rows that are lost, resume, and success by a threshold."""

import json
from pathlib import Path

import pytest

from running import metrics, run, weights
from winnow.run_logs.run_files import read_samples

FUNCTIONS = (
    "reward=function",
    "plugins=[their_rewards]",
    "reward.functions=[winnow.rewards:accuracy,their_rewards:reward_len,their_rewards:odd,verl:their_rewards:compute_score]",
    "reward.weights=[1,0.02,0.1,0.1]",
)


pytestmark = pytest.mark.usefixtures("their_rewards")


def test_rewards_reach_metrics_samples_and_console_and_a_resume_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(tmp_path / "whole", *FUNCTIONS, "iterations=2", "checkpoint.every=1")
    said = capsys.readouterr().out
    last = metrics(tmp_path / "whole")[-1]
    samples = read_samples(tmp_path / "whole" / "samples" / "iteration_000002.jsonl")
    for name in ("accuracy", "reward_len", "odd", "compute_score"):
        given = [s.rewards[name] for s in samples if s.rewards and s.rewards[name] is not None]
        assert last[f"train/reward/{name}/mean"] == pytest.approx(sum(given) / len(given), rel=1e-5)
    for sample in samples:
        assert sample.rewards is not None
        assert sample.rewards["accuracy"] == float(sample.correct)
        assert sample.rewards["reward_len"] == -abs(20 - len(sample.response))
        if sample.lost is None:
            parts = [value or 0.0 for value in sample.rewards.values()]
            expected = sum(w * v for w, v in zip((1, 0.02, 0.1, 0.1), parts, strict=True))
            assert sample.reward == pytest.approx(expected, rel=1e-5, abs=1e-6)
            assert sample.logged is not None
            assert "acc" in sample.logged
        else:
            assert (sample.lost, sample.kept) == ("odd: ValueError: no odd digit", False)
    lost = sum(sample.lost is not None for sample in samples)
    assert last["train/reward/lost_frac"] == pytest.approx(lost / len(samples))
    assert said.count("odd: ValueError: no odd digit") == 1

    run(tmp_path / "halved", *FUNCTIONS, "iterations=1", "checkpoint.every=1")
    run(tmp_path / "halved", *FUNCTIONS, "iterations=2", "checkpoint.every=1", f"resume={tmp_path / 'halved'}")
    assert metrics(tmp_path / "halved")[-1] == last
    assert weights(tmp_path / "halved") == weights(tmp_path / "whole")


def test_a_threshold_says_what_a_success_is_in_training_and_on_held_out_problems(tmp_path: Path):
    words = ("reward.functions=[their_rewards:reward_len]", "reward.weights=null", "algo=raft", "iterations=1")
    accuracy = run(tmp_path, *FUNCTIONS, *words, "reward.success={name:reward_len,at_least:-12}")
    samples = read_samples(tmp_path / "samples" / "iteration_000001.jsonl")
    assert [s.correct for s in samples] == [abs(20 - len(s.response)) <= 12 for s in samples]
    for key in {s.prompt_key for s in samples}:
        group = [s for s in samples if s.prompt_key == key]
        best = max((s.reward or 0.0 for s in group if s.correct), default=None)
        assert [s.kept for s in group] == [s.correct and s.reward == best for s in group]
    assert metrics(tmp_path)[-1]["rollout/acc"] == sum(s.correct for s in samples) / len(samples)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["eval_last"], set(summary["verifiers"].values())) == (accuracy, {"reward"})
