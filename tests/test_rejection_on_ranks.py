"""Rejection over two ranks, at its worst: ranks without a row, a prompt, or an update do what one process does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ranks import trained
from running import metrics
from test_world_size import agree, apart, on

SETTINGS = ("iterations=3", "hardware.token_budget=40", "optim.lr=1e-3", "checkpoint.every=3", "hardware.timeout=60")


def keeps(rule: str) -> tuple[str, str]:
    return "plugins=[rejections]", f"algo.select._target_=rejections.{rule}"


ALTERNATING = ("reward=function", "reward.functions=[rejections:in_odd_iterations]", "reward.workers=1")
CASES: Mapping[str, Sequence[str]] = {
    "one rank": ("algo=raftpp", *keeps("second_rank_alone")),
    "one rank, zero": ("algo=grpo", "algo.rejected=zero", *keeps("second_rank_alone")),
    "one rank, PPO": ("algo=ppo", *keeps("second_rank_alone")),
    "nothing": ("algo=reinforce", *keeps("nothing")),
    "nothing, PPO": ("algo=ppo", *keeps("nothing")),
    "one row": ("algo=raftpp", *keeps("one_row")),
    "one row, KL": ("algo=grpo", "algo/kl=k3", *keeps("one_row")),
    "one pair": ("algo=dpo", "rollout.prompts=1", "eval.prompts=1", "update.minibatches=1"),
    "one prompt": ("algo=reinforce", "rollout.prompts=1", "eval.prompts=1"),
    "one demonstration": ("algo=sft", "rollout.prompts=1", "eval.prompts=1", "update.minibatches=1"),
    "every other iteration": ("algo=raftpp", *ALTERNATING, *keeps("rewarded")),
    "every other iteration, DPO": ("algo=dpo", *ALTERNATING, "plugins=[rejections]"),
}
UPDATES = {"nothing": [0, 0, 0], "one row": [1, 1, 1], "every other iteration": [0, 2, 0]}
UPDATES["every other iteration, DPO"] = UPDATES["every other iteration"]


@pytest.mark.faults
def test_ranks_without_anything_to_learn(tmp_path: Path):
    """In float64 weights and metrics are those of one process to 1e-9, and no rank waits for another."""
    folder = {name: tmp_path / name.replace(", ", "_").replace(" ", "_") for name in CASES}
    trained({folder[name]: (*words, *SETTINGS) for name, words in CASES.items()}, 1, "small_gpt2")
    runs = {
        folder[name].with_name(f"{folder[name].name}_{way}"): (*words, *SETTINGS, *on(way, 2))
        for name, words in CASES.items()
        for way in ("ddp", "fsdp")
    }
    trained(runs, 2, "small_gpt2")
    for name, alone in folder.items():
        updates = [row["train/updates"] for row in metrics(alone)[1:]]
        assert updates == UPDATES.get(name, updates), name
        for way in ("ddp", "fsdp"):
            run = alone.with_name(f"{alone.name}_{way}")
            assert apart(alone, run) < 1e-9, run.name
            agree(alone, run, 1e-9, 1e-12)
