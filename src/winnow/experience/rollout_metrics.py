"""What the rollouts of an iteration say, before anything is learnt from them."""

from collections import Counter

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
        "train/groups/frac_mixed": float(((solved > 0) & (solved < 1)).float().mean()),
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
