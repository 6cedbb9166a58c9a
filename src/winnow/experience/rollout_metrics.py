"""What the rollouts of an iteration say, before anything is learnt from them."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.ops.kl import k3
from winnow.report.run_files import SampleRecord
from winnow.rewards.verdict import Verdict
from winnow.types import Finish, Rollouts


def rollout_metrics(rollouts: Rollouts, selected: Bool[Tensor, "p g"]) -> dict[str, float]:
    """Figures over all sampled rows, so that they compare across algorithms."""
    completions = [c for group in rollouts.completions for c in group]
    lengths = torch.tensor([float(len(c.token_ids)) for c in completions])
    ended = torch.tensor([c.finish is Finish.EOS for c in completions])
    verdicts = Counter(j.verdict for group in rollouts.judgements for j in group)
    solved = rollouts.correct.float().mean(1)
    count = len(completions)
    return {
        "train/reward/mean": float(rollouts.rewards.mean()),
        "train/reward/std": float(rollouts.rewards.std(correction=0)),
        "train/groups/frac_zero_std": float((rollouts.rewards.std(1, correction=0) == 0).float().mean()),
        "train/groups/frac_all_correct": float((solved == 1).float().mean()),
        "train/groups/frac_all_wrong": float((solved == 0).float().mean()),
        "train/samples/kept_frac": float(selected.float().mean()),
        "train/entropy": float(torch.cat([c.entropies for c in completions]).mean()),
        "rollout/acc": float(solved.mean()),
        "rollout/length/mean": float(lengths.mean()),
        "rollout/length/max": float(lengths.max()),
        "rollout/length/min": float(lengths.min()),
        "rollout/length/terminated_mean": float(lengths[ended].mean()) if ended.any() else 0.0,
        "rollout/truncated_frac": float((~ended).float().mean()),
        "rollout/answer_found_frac": 1 - verdicts[Verdict.no_answer] / count,
        "verifier/timeout_frac": verdicts[Verdict.timeout] / count,
        "verifier/crash_frac": verdicts[Verdict.crash] / count,
        "sampled_tokens": float(lengths.sum()),
    }


def kl_to_initial(
    old: Sequence[Float[Tensor, " _"]],
    initial: Mapping[int, Float[Tensor, " _"]],
    sequences: Sequence[tuple[tuple[int, ...], int]],
) -> dict[str, float]:
    """`train/kl_ref`: k3 in nats a token, over the sampled tokens of the rows scored under the initial policy."""
    if not initial:
        return {}
    # Prompt positions are 0 under both and add nothing to the sum.
    total = sum(float(k3((old[i] - logprobs).double()).sum()) for i, logprobs in initial.items())
    return {"train/kl_ref": total / sum(len(sequences[i][0]) - sequences[i][1] for i in initial)}


def sampler_gap(rollouts: Rollouts, old: Sequence[Float[Tensor, " _"]]) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the training forward's."""
    sampled = torch.cat([c.logprobs for group in rollouts.completions for c in group])
    lengths = [len(p.token_ids) for p, group in zip(rollouts.prompts, rollouts.completions, strict=True) for _ in group]
    trained = torch.cat([row[start:] for row, start in zip(old, lengths, strict=True)])
    gap = (sampled - trained).abs()
    return {"rollout/logp_diff/mean": float(gap.mean()), "rollout/logp_diff/max": float(gap.max())}


def sample_records(
    rollouts: Rollouts,
    iteration: int,
    selected: Bool[Tensor, "p g"],
    advantage: Float[Tensor, "p g"] | None,
) -> list[SampleRecord]:
    """One record a response, in the order they were drawn."""
    return [
        SampleRecord(
            iteration=iteration + 1,  # as in metrics.jsonl, where row 0 is the model before training
            prompt_key=prompt.key,
            sample=g,
            prompt=prompt.text,
            response=rollouts.texts[p][g],
            answer=prompt.answer,
            extracted=rollouts.judgements[p][g].answer,
            verdict=rollouts.judgements[p][g].verdict.value,
            reward=float(rollouts.rewards[p, g]),
            advantage=None if advantage is None else float(advantage[p, g]),
            kept=bool(selected[p, g]),
            length=len(completion.token_ids),
            finish=completion.finish.value,
        )
        for p, prompt in enumerate(rollouts.prompts)
        for g, completion in enumerate(rollouts.completions[p])
    ]
