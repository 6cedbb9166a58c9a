"""Each algorithm raises the held-out accuracy of the embedded model, within seconds."""

from pathlib import Path

import pytest

from running import metrics, run

QUICK = (
    "rollout.prompts=16",
    "rollout.samples=8",
    "rollout.max_tokens=48",
    "dataset.levels=[3]",
    "update.minibatches=4",
    "eval.prompts=64",
    "eval.samples=2",
    "eval.every=0",
    "metrics.kl_rows=0",
    "iterations=8",
)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo"])
def test_accuracy_rises(tmp_path: Path, algo: str):
    run(tmp_path, f"algo={algo}", *QUICK)
    rows = metrics(tmp_path)
    assert rows[-1]["eval/arithmetic/acc"] > rows[0]["eval/arithmetic/acc"] + 0.1
