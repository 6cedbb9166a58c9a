"""A run resumed after every one of its iterations, for every algorithm: the next iteration is bit for bit the same."""

import shutil
from pathlib import Path

import pytest
import torch

from running import metrics, run

ITERATIONS = 20
ALGORITHMS = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")
ADAPTER = ("model/lora=adapter", "optim.lr=1e-3")


@pytest.mark.faults
@pytest.mark.parametrize(
    "words", [*((f"algo={a}",) for a in ALGORITHMS), *((f"algo={a}", *ADAPTER) for a in ("grpo", "ppo", "dpo"))]
)
def test_the_iteration_after_any_checkpoint_is_the_same(tmp_path: Path, words: tuple[str, ...]):
    """Weights, moments and metrics of iteration k + 1 after a resume from k: by induction, those of all that follow."""
    keep = ("checkpoint.every=1", f"checkpoint.keep={ITERATIONS}", "eval.every=0")
    whole = tmp_path / "whole"
    run(whole, *words, *keep, f"iterations={ITERATIONS}")
    rows, moved = metrics(whole), 0
    for done in range(1, ITERATIONS):
        parts = tmp_path / "parts"
        shutil.copytree(whole, parts)
        for later in range(done + 1, ITERATIONS + 1):
            shutil.rmtree(checkpoint(parts, later))
        run(parts, *words, *keep, f"iterations={done + 1}", f"resume={parts}")
        ours, theirs = tensors(parts, done + 1), tensors(whole, done + 1)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert {k: v for k, v in metrics(parts)[done + 1].items() if not k.startswith("eval/")} == {
            k: v for k, v in rows[done + 1].items() if not k.startswith("eval/")
        }
        before = tensors(whole, done)
        moved += any(not torch.equal(theirs[name], before[name]) for name in theirs if name in before)
        shutil.rmtree(parts)
    assert moved > ITERATIONS // 2  # equality of runs that learn nothing would prove nothing


def checkpoint(directory: Path, iteration: int) -> Path:
    return directory / "checkpoints" / f"iteration_{iteration:06}"


def tensors(directory: Path, iteration: int) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by its path in the file: weights and the optimiser's moments."""
    state = torch.load(checkpoint(directory, iteration) / "state.ckpt", weights_only=True)
    return dict(leaves({"weights": state["state_dict"], "optimisers": state["optimizer_states"]}, ""))


def leaves(node: object, path: str):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(value, torch.Tensor):
            yield f"{path}/{key}", value
        yield from leaves(value, f"{path}/{key}")
