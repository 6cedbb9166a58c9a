"""Checks of sampled responses: how they end, that the policy drew them, and that their rewards are their own."""

import math
from collections.abc import Collection, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from winnow.experience.collect import Judge
from winnow.guards.finding import Finding
from winnow.types import Finish, Rewarded, Rollouts
from winnow.verdict import Verdict

UNSETTLED = frozenset((Verdict.timeout, Verdict.crash))
"""Verdicts that a second check of the same answer need not confirm."""


def wrong_end(rollouts: Rollouts, eos_ids: Collection[int], max_tokens: int) -> Finding | None:
    """The first response that does not end with its only EOS token, or else at the limit of its length."""
    for number, completion in enumerate(rollouts.all_completions):
        ids, where = completion.token_ids, f"response {number + 1}"
        ends = [t for t, token in enumerate(ids) if token in eos_ids]
        by_eos = completion.finish is Finish.EOS
        if ends != ([len(ids) - 1] if by_eos else []):
            expected = "an EOS token at the end and nowhere else" if by_eos else "no EOS token"
            return Finding("samples", where, expected, f"EOS at positions {ends} of {len(ids)}")
        if not 1 <= len(ids) <= max_tokens:
            return Finding("samples", where, f"1 to {max_tokens} tokens", str(len(ids)))
        if len(completion.logprobs) != len(ids):
            return Finding("samples", where, f"{len(ids)} log-probabilities", str(len(completion.logprobs)))
    return None


def wrong_reward(rollouts: Rollouts, prompts: Sequence[int], golds: Mapping[str, str], judge: Judge) -> Finding | None:
    """The first sample of these prompts whose reward is not that of its own tokens and its prompt's gold answer.

    The verdict is computed again. Reward functions are not called again, because they may read the clock or a service:
    of what they returned for the sample, the weighted sum and the success are computed again.
    """
    for p in prompts:
        key, completions = rollouts.prompts[p].key, rollouts.completions[p]
        texts = [judge.decode(completion.token_ids) for completion in completions]
        found = judge.pool.judge([golds[key]] * len(texts), texts)
        for g, (now, before) in enumerate(zip(found, rollouts.judgements[p], strict=True)):
            if {now.verdict, before.verdict} & UNSETTLED:
                continue
            expected = judge.reward.again(now, rollouts.rewarded[p][g] if rollouts.rewarded else Rewarded(0.0, now))
            recorded, as_correct = float(rollouts.rewards[p, g]), bool(rollouts.correct[p, g])
            if expected.lost is not None and math.isnan(recorded):
                continue
            if not math.isclose(expected.total, recorded, rel_tol=1e-6, abs_tol=1e-9):
                return Finding("rewards", f"sample {g + 1} of {key}", f"{expected.total:g}", f"{recorded:g}")
            verdict = expected.judgement.verdict
            if as_correct != (verdict is Verdict.correct):
                return Finding("rewards", f"sample {g + 1} of {key}", f"verdict {verdict}", f"correct={as_correct}")
    return None


def far_apart(
    check: str, where: str, expected: Float[Tensor, " t"], found: Float[Tensor, " t"], limit: float
) -> Finding | None:
    """A finding if log-probabilities are further apart than `limit` nats, as a root mean square, or not finite."""
    gap = float((found.double().cpu() - expected.detach().double().cpu()).square().mean().sqrt())
    if gap <= limit:
        return None
    return Finding(check, where, f"the plain forward's within {limit:.1g} nats a token", f"{gap:.2g} nats away")
