"""Distance from the policy of every altered sampler, on a model: `python -m benchmarks.sampler_mismatch [WORDS]`.

Words are those of train.py, such as `experiment=smollm/settings`. It prints docs/mismatch.md's table: KL of sampler to
policy by k3 in nats a token, the largest difference of a token's log-probabilities, the share of tokens whose ratio of
policy to sampler the corrections would change, and the effective share of the samples under weights of whole responses.
"""

import sys
from collections.abc import Iterator, Sequence

import torch

from winnow.assemble import common
from winnow.config.compose import composed
from winnow.config.nodes import build_node
from winnow.data.prompts import render
from winnow.engines.torch_engine import TorchEngine
from winnow.experience.batching import TokenBudget
from winnow.experience.scoring import score_sequences
from winnow.models.policy import Policy
from winnow.ops.kl import k3
from winnow.rng import seed_of
from winnow.types import Completion, Prompt, Row, Sampling

SAMPLERS = (
    "engine/alter=none",
    "engine/alter=fp16",
    "engine/alter=bf16",
    "engine/alter=int8",
    "engine/alter=int8 engine.alter.bits=6",
    "engine/alter=int8 engine.alter.bits=4",
    "engine/alter=temperature engine.alter.factor=0.9",
    "engine/alter=temperature",
    "engine/alter=top_k",
    "engine/alter=top_k engine.alter.k=2",
)
HEAD = (
    "sampler",
    "KL",
    "largest difference",
    "ratio above 2",
    "ratio outside [0.5, 5]",
    "effective share of responses",
)


def rows(words: Sequence[str]) -> Iterator[list[str]]:
    """The cells of each sampler's row."""
    cfg = composed("train", ["hardware=cpu", "logger=none", *words])
    with build_node(cfg.reward.verifier) as verifier:
        problems = common.load_problems(cfg, verifier).train
    source = common.model_source(cfg)
    language_model = common.load_model(cfg, source)
    prompts = [render(problems[i], language_model.tokenizer, source.template) for i in range(cfg.rollout.prompts)]
    seeds = [[seed_of(cfg.seed, prompt.key, g) for g in range(cfg.rollout.samples)] for prompt in prompts]
    policy = Policy(language_model.model, cfg.rollout.temperature).eval()
    for sampler in SAMPLERS:
        alter = build_node(composed("train", ["hardware=cpu", *sampler.split()]).engine.alter)
        engine = TorchEngine(language_model.eos_ids, language_model.pad_id, alter=alter)
        engine.sync(language_model.model, 0)
        drawn = engine.generate(prompts, seeds, Sampling(cfg.rollout.temperature, cfg.rollout.max_tokens))
        gaps = [gap for prompt, group in zip(prompts, drawn, strict=True) for gap in _gaps(policy, prompt, group)]
        every, whole = torch.cat(gaps), torch.stack([gap.sum() for gap in gaps])
        ratio, weights = every.exp(), (whole - whole.max()).exp()
        yield [
            f"`{sampler}`",
            f"{float(k3(-every).mean()):.2g}",
            f"{float(every.abs().max()):.2g}",
            f"{float((ratio > 2).double().mean()):.2%}",
            f"{float(((ratio < 0.5) | (ratio > 5)).double().mean()):.2%}",
            f"{float(weights.sum().square() / weights.square().sum() / len(weights)):.0%}",
        ]


def _gaps(policy: Policy, prompt: Prompt, group: Sequence[Completion]) -> Iterator[torch.Tensor]:
    """log π − log μ of the tokens of each response, μ being the sampler."""
    start = len(prompt.token_ids)
    sequences = [Row(prompt.token_ids + completion.token_ids, start) for completion in group]
    scored = score_sequences(lambda rows: policy(rows).logprobs, sequences, TokenBudget(4096, True), policy.device)
    for row, completion in zip(scored, group, strict=True):
        yield (row[start:] - completion.logprobs).double()


def main() -> None:
    """Print the table."""
    common.quiet_libraries()
    print(f"| {' | '.join(HEAD)} |\n|---{'|---:' * (len(HEAD) - 1)}|", flush=True)
    for cells in rows(sys.argv[1:]):
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
