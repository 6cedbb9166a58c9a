"""A sampler that is altered on purpose: what it draws from, what it reports, and what a run makes of it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from running import composed, metrics, run
from winnow import cli
from winnow.config.instantiate import max_mismatch_kl, samples_exactly
from winnow.engines.alteration import Quantised, Rounded, Tempered, TopK, Unaltered
from winnow.engines.torch_engine import TorchEngine
from winnow.types import Completion, Sampling

from .models import tiny
from .test_torch_engine import PROMPTS, fresh, seeds_for

WEIGHTS = [Rounded("bfloat16"), Rounded("float16"), Quantised(8), Quantised(4)]
DISTRIBUTIONS = [Tempered(0.5), Tempered(2.0), TopK(3)]


def drawn(model: PreTrainedModel, alter: Unaltered, temperature: float = 0.9) -> list[list[Completion]]:
    engine = TorchEngine((0, 4), alter=alter)
    engine.sync(model, 1)
    return engine.generate(PROMPTS, seeds_for(PROMPTS, 4), Sampling(temperature, 12))


def policy_of(model: PreTrainedModel, samples: list[list[Completion]], temperature: float) -> list[Tensor]:
    """For each sample the (T, V) log-probabilities of `model` at each of its draws."""
    pairs = [(prompt, each) for prompt, group in zip(PROMPTS, samples, strict=True) for each in group]
    rows = fresh(model, [prompt.token_ids + each.token_ids for prompt, each in pairs], temperature)
    return [row[len(prompt.token_ids) - 1 : -1] for row, (prompt, _) in zip(rows, pairs, strict=True)]


def of_drawn(logs: Tensor, completion: Completion) -> Tensor:
    return logs.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)


@pytest.mark.parametrize("alter", WEIGHTS, ids=str)
def test_altered_weights_are_a_copy_and_the_log_probabilities_are_the_copys(alter: Unaltered):
    model = tiny("qwen2").eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    samples = drawn(model, alter)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    by_hand = copy.deepcopy(model)
    for weight in by_hand.parameters():
        weight.data = alter.weight(weight.data)
    gaps = []
    for theirs, ours, each in zip(
        policy_of(by_hand, samples, 0.9),
        policy_of(model, samples, 0.9),
        [each for group in samples for each in group],
        strict=True,
    ):
        torch.testing.assert_close(each.logprobs, of_drawn(theirs, each), atol=1e-5, rtol=0)
        gaps.append((each.logprobs - of_drawn(ours, each)).abs().max())
    assert max(gaps) > 1e-5


@pytest.mark.parametrize("alter", DISTRIBUTIONS, ids=str)
def test_an_altered_distribution_is_the_one_that_is_reported(alter: Unaltered):
    model = tiny("qwen2").eval()
    samples = drawn(model, alter)
    for logs, each in zip(policy_of(model, samples, 0.9), [each for group in samples for each in group], strict=True):
        altered = alter.logits(logs).log_softmax(1)
        torch.testing.assert_close(each.logprobs, of_drawn(altered, each), atol=1e-5, rtol=0)
        entropy = -(altered.exp() * altered.clamp(min=-1e30)).sum(1)
        torch.testing.assert_close(each.entropies, entropy, atol=1e-5, rtol=0)


def test_top_k_draws_none_but_the_likeliest():
    model = tiny("qwen2").eval()
    samples = drawn(model, TopK(2))
    for logs, each in zip(policy_of(model, samples, 0.9), [each for group in samples for each in group], strict=True):
        rank = (logs > of_drawn(logs, each)[:, None]).sum(1)
        assert rank.max() <= 1


def test_whole_numbers_of_a_row_reach_its_largest_value():
    weight = torch.tensor([[1.0, -0.5, 0.004, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 2.99, -3.0, 1e-3]])
    eight = Quantised(8).weight(weight)
    assert torch.equal(eight[1], weight[1])
    assert (eight - weight).abs().amax(1).le(weight.abs().amax(1) / 254 + 1e-7).all()
    assert len(Quantised(2).weight(torch.randn(1, 100)).unique()) <= 3
    assert torch.equal(Quantised(2).weight(weight[0]), weight[0])  # a vector stays


def test_weights_are_altered_anew_after_every_update_and_only_then():
    model, engine = tiny("qwen2").eval(), TorchEngine((0, 4), alter=Rounded("bfloat16"))
    seeds = seeds_for(PROMPTS, 2)
    engine.sync(model, 1)
    first = engine.generate(PROMPTS, seeds, Sampling(1.0, 8))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.3)
    engine.sync(model, 1)  # the version that it has
    assert [[c.token_ids for c in group] for group in engine.generate(PROMPTS, seeds, Sampling(1.0, 8))] == [
        [c.token_ids for c in group] for group in first
    ]
    engine.rest()
    engine.sync(model, 2)
    later = engine.generate(PROMPTS, seeds, Sampling(1.0, 8))
    assert [[c.token_ids for c in group] for group in later] != [[c.token_ids for c in group] for group in first]


def test_only_an_unaltered_engine_is_exact():
    assert TorchEngine((0,)).exact
    assert not any(TorchEngine((0,), alter=alter).exact for alter in (*WEIGHTS, *DISTRIBUTIONS))
    for name, exact in (("none", True), ("int8", False), ("top_k", False)):
        cfg = composed("hardware=cpu", f"engine/alter={name}")
        assert samples_exactly(cfg) == exact
        assert max_mismatch_kl(cfg) == (1e-5 if exact else float("inf"))
    assert max_mismatch_kl(composed("hardware=cpu", "engine/alter=int8", "rollout.max_mismatch_kl=0.1")) == 0.1


@pytest.mark.parametrize(("name", "least"), [("bf16", 1e-8), ("int8", 1e-6), ("temperature", 1e-4), ("top_k", 1e-4)])
def test_a_run_measures_the_mismatch_and_corrects_for_it(tmp_path: Path, name: str, least: float):
    run(tmp_path, f"engine/alter={name}", "algo/correction=truncated", "iterations=1", "eval.every=0")
    row = metrics(tmp_path)[1]
    assert row["rollout/mismatch_kl"] > least
    assert row["train/correction/mean"] != 1


def test_an_engine_without_alterations_says_so(capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["train", "engine=vllm", "engine/alter=int8"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "engine/alter" in line or "alter" in line
