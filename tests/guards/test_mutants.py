"""Mutants: a fault is put into the code that trains, and the run has to end by the check that names it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from running import run
from winnow.assemble import training as assembly
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import Diverged
from winnow.experience import batching, drawing, policy_gradient
from winnow.models.attention import EachTokenOnce
from winnow.models.policy import FrozenCopy, Policy, Scores
from winnow.ops import advantage as advantage_ops
from winnow.packed import Packed
from winnow.training.modules import IterationModule, PolicyGradientModule

CHECKED = ("iterations=2", "checks.every=1", "eval.every=0", "eval.prompts=2")
SMALL_BATCHES = "hardware.token_budget=150"
"""So few tokens that an optimiser batch takes several micro-batches."""


def packing_leaks_in_updates(m: pytest.MonkeyPatch) -> None:
    honest = EachTokenOnce.__call__

    def leaking(self: EachTokenOnce, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        if torch.is_grad_enabled():  # each token also sees the one before it in the pack, of whatever row
            value = 0.8 * value + 0.2 * value.roll(1, dims=2)
        return honest(self, query, key, value, scale)

    m.setattr(EachTokenOnce, "__call__", leaking)


def shifted_advantages(m: pytest.MonkeyPatch) -> None:
    def shifted(sequence, advantage):
        per_token = torch.zeros(len(sequence.token_ids))
        per_token[sequence.prompt_length - 1 : -1] = advantage
        return per_token

    m.setattr(policy_gradient, "on_response_tokens", shifted)


def denominator_of_a_micro_batch(m: pytest.MonkeyPatch) -> None:
    honest = batching._collated
    m.setattr(
        batching,
        "_collated",
        lambda items, weights, denominator, *others: honest(items, weights, float(len(items)), *others),
    )


def loss_divided_by_micro_batches(m: pytest.MonkeyPatch) -> None:
    m.setattr(IterationModule, "scale_loss", lambda self, loss, batch: _noted(self, loss))


def _noted(module: IterationModule, loss) -> Tensor:
    for name, mean in loss.metrics.items():
        module._note(name, mean)
    return loss.value


def permuted_rewards(m: pytest.MonkeyPatch) -> None:
    honest = drawing.rollouts_of

    def permuted(*given):
        found = honest(*given)
        return replace(found, rewards=found.rewards.flip(1), correct=found.correct.flip(1))

    m.setattr(drawing, "rollouts_of", permuted)


def old_logprobs_of_the_present_policy(m: pytest.MonkeyPatch) -> None:
    honest = PolicyGradientModule.compute
    m.setattr(
        PolicyGradientModule,
        "compute",
        lambda self, batch: honest(self, replace(batch, terms=replace(batch.terms, old_logprobs=None))),
    )


def old_logprobs_of_other_rows(m: pytest.MonkeyPatch) -> None:
    honest = batching._terms

    def mixed(rows, response, *given):
        found = honest(rows, response, *given)
        return replace(found, old_logprobs=None if found.old_logprobs is None else 0.9 * found.old_logprobs)

    m.setattr(batching, "_terms", mixed)


def eos_outside_the_mask(m: pytest.MonkeyPatch) -> None:
    honest = batching._terms

    def short(rows, response, *given):
        response = response.clone()
        for i, row in enumerate(rows):
            response[i, len(row.token_ids) - 1] = False
        return honest(rows, response, *given)

    m.setattr(batching, "_terms", short)


def stale_sampler(m: pytest.MonkeyPatch) -> None:
    honest = TorchEngine.generate
    seen: list[dict[str, Tensor]] = []

    def stale(self: TorchEngine, *given):
        model = self._model
        assert model is not None
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        model.load_state_dict(seen[max(0, len(seen) - 2)])
        try:
            return honest(self, *given)
        finally:
            model.load_state_dict(seen[-1])

    m.setattr(TorchEngine, "generate", stale)


def shifted_groups(m: pytest.MonkeyPatch) -> None:
    honest = advantage_ops.group

    def shifted(rewards: Tensor, penalty=None, centre: Any = "mean", scale: Any = "std", eps: float = 1e-6):
        moved = honest(rewards.flatten().roll(1).view_as(rewards), penalty, centre, scale, eps)
        return moved.flatten().roll(-1).view_as(rewards)

    shifted.__module__ = honest.__module__  # a rule of anybody else's would have to be trusted
    m.setattr(advantage_ops, "group", shifted)


def drifting_reference(m: pytest.MonkeyPatch) -> None:
    def shared(policy: Policy, adapter: object) -> FrozenCopy:
        reference = FrozenCopy(policy)
        reference.copied = policy
        return reference

    m.setattr(assembly, "reference_of", shared)


def no_temperature(m: pytest.MonkeyPatch) -> None:
    honest = Policy.forward

    def hot(self: Policy, rows: Packed, entropies: bool = False) -> Scores:
        before, self.temperature = self.temperature, 1.0
        try:
            return honest(self, rows, entropies)
        finally:
            self.temperature = before

    m.setattr(Policy, "forward", hot)


@dataclass(frozen=True)
class Mutant:
    """A fault, the words of the run that has it, and a part of the line that has to end the run."""

    put: Callable[[pytest.MonkeyPatch], None]
    words: tuple[str, ...]
    named: str


WITHOUT_KL = ("metrics.kl_rows=0",)
"""Turns off the guard on all samples' mismatch, which also sees the sampler's faults."""
QUICK = [
    Mutant(packing_leaks_in_updates, ("algo=grpo",), "gradient: policy"),
    Mutant(permuted_rewards, ("algo=raftpp",), "rewards: sample"),
    Mutant(old_logprobs_of_the_present_policy, ("algo=grpo",), "old log-probabilities: KL"),
]
LONG = [
    Mutant(shifted_advantages, ("algo=grpo",), "advantages: response"),
    Mutant(shifted_advantages, ("algo=raftpp",), "advantages: response"),
    Mutant(denominator_of_a_micro_batch, ("algo=grpo", SMALL_BATCHES), "denominator: "),
    Mutant(denominator_of_a_micro_batch, ("algo=dpo", "hardware.token_budget=30"), "denominator: "),
    Mutant(loss_divided_by_micro_batches, ("algo=grpo", SMALL_BATCHES), "gradient: policy"),
    Mutant(old_logprobs_of_other_rows, ("algo=ppo",), "old log-probabilities: row"),
    Mutant(eos_outside_the_mask, ("algo=reinforce",), "response mask: row"),
    Mutant(eos_outside_the_mask, ("algo=dpo",), "response mask: row"),
    Mutant(stale_sampler, ("algo=grpo", *WITHOUT_KL), "sampler: response"),
    Mutant(stale_sampler, ("algo=grpo",), "rollout.max_mismatch_kl"),
    Mutant(shifted_groups, ("algo=grpo",), "advantages: response"),
    Mutant(drifting_reference, ("algo=grpo", "algo/kl=k3"), "reference: its weights"),
    Mutant(drifting_reference, ("algo=dpo",), "reference: its weights"),
    Mutant(no_temperature, ("algo=grpo", "rollout.temperature=0.7", *WITHOUT_KL), "gradient: policy"),
    Mutant(no_temperature, ("algo=ppo", "rollout.temperature=0.7"), "rollout.max_mismatch_kl"),
    Mutant(packing_leaks_in_updates, ("algo=dpo",), "gradient: policy"),
    Mutant(packing_leaks_in_updates, ("algo=sft",), "gradient: policy"),
    Mutant(permuted_rewards, ("algo=ppo",), "rewards: sample"),
]


def requires_a_finding(mutant: Mutant, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.put(monkeypatch)
    with pytest.raises(Diverged) as end:
        run(directory, *mutant.words, *CHECKED)
    assert mutant.named in str(end.value)


@pytest.mark.parametrize("mutant", QUICK, ids=lambda m: m.put.__name__)
def test_a_mutant_is_named_by_its_check(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    requires_a_finding(mutant, tmp_path, monkeypatch)


@pytest.mark.faults
@pytest.mark.parametrize("mutant", LONG, ids=lambda m: f"{m.put.__name__}-{m.words[0]}")
def test_every_mutant_is_named_by_its_check(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    requires_a_finding(mutant, tmp_path, monkeypatch)


HONEST = [
    ("algo=grpo", "algo/kl=k3", SMALL_BATCHES),
    ("algo=ppo", "algo/kl=k1", "algo.kl.place=reward"),
]
MORE_HONEST = [
    ("algo=dpo", SMALL_BATCHES),
    ("algo=dpo", "algo.reference=previous", "algo.smoothing=0.1", "update.epochs=2"),
    ("algo=sft", SMALL_BATCHES),
    ("algo=raft",),
    ("algo=raftpp", "algo/ratio=sequence_product", "rollout.temperature=0.7"),
    ("algo=reinforce", "algo/advantage=signed", "algo/aggregate=sequence_sum", "algo.entropy=0.01"),
    ("algo=reinforce", "algo/advantage=whitened", "algo/clip=cispo", SMALL_BATCHES),
    ("algo=reinforce_rej", "algo.rejected=zero", "algo/kl=k2", "algo.kl.clamp=0.5"),
    ("algo=grpo", "algo/ratio=sequence", "algo/aggregate=token_mean", "algo/advantage=group", "update.minibatches=1"),
    ("algo=grpo", "algo.advantage.centre=leave_one_out", "algo.advantage.scale=none", "algo/aggregate=constant_length"),
    ("algo=grpo", "algo.advantage.centre=none", "algo/kl=k1", "algo.kl.place=reward", "algo.kl.coef=0.1"),
    ("algo=grpo", "model/lora=adapter", "algo/kl=k3", "algo.kl.reference=previous"),
    ("algo=ppo", "model/lora=adapter", "algo.whiten=false", "algo.advantage.lam=0.9", SMALL_BATCHES),
    ("algo=ppo", "algo.rejected=zero", "algo/select=mixed_prompts", "algo.entropy=0.02", "update.epochs=2"),
    ("algo=grpo", "hardware.attention=sdpa", "hardware.gradient_checkpointing=true"),
    ("algo=grpo", "hardware.precision=bf16-mixed", "algo/correction=truncated", "algo/kl=k3"),
    ("algo=ppo", "hardware.precision=bf16-mixed", "algo/correction=masked"),
    ("algo=dpo", "hardware.precision=bf16-mixed", "model/lora=adapter"),
]
"""Each axis of the algorithms has another value in one of these, and so does what the layout of a batch depends on."""


def finds_nothing(words: tuple[str, ...], directory: Path) -> None:
    run(directory, *words, *CHECKED)
    assert json.loads((directory / "summary.json").read_text())["status"] == "done"
    assert sum("time/check" in row for row in map(json.loads, (directory / "metrics.jsonl").open())) == 2


@pytest.mark.parametrize("words", HONEST, ids=" ".join)
def test_the_check_finds_nothing_in_an_honest_run(words: tuple[str, ...], tmp_path: Path):
    finds_nothing(words, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("words", MORE_HONEST, ids=" ".join)
def test_the_check_finds_nothing_in_any_algorithm_and_layout(words: tuple[str, ...], tmp_path: Path):
    finds_nothing(words, tmp_path)
