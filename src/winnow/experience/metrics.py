"""Metrics of an iteration: seconds by phase, figures over all rollouts, gradient mass; and the records of samples."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from winnow.experience.scoring import ByRow
from winnow.objectives import Aggregate
from winnow.ops.spread import tied
from winnow.rule import given
from winnow.run_logs.run_files import SampleRecord
from winnow.types import Finish, Rewarded, Rollouts
from winnow.verdict import Verdict

DURATIONS_KEPT = 64


class Clock:
    """Wall-clock seconds by phase, summed until they are taken; and the last durations of each phase."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}
        self._durations: dict[str, deque[float]] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        self.start(phase)
        try:
            yield
        finally:
            self.stop(phase)

    def start(self, phase: str) -> None:
        self._started[phase] = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Add the seconds since the phase's start; nothing if it was not started."""
        if (started := self._started.pop(phase, None)) is not None:
            seconds = time.perf_counter() - started
            self._seconds[phase] += seconds
            self._durations.setdefault(phase, deque(maxlen=DURATIONS_KEPT)).append(seconds)

    def running(self) -> list[tuple[str, float, float]]:
        """Each phase that has not ended, with its start and the seconds since then. Any thread may call."""
        now = time.perf_counter()
        return [(phase, started, now - started) for phase, started in tuple(self._started.items())]

    def durations(self, phase: str) -> tuple[float, ...]:
        """The last durations of the phase, in seconds, oldest first. Any thread may call."""
        return tuple(self._durations.get(phase, ()))

    def take(self) -> dict[str, float]:
        """The seconds since the last call, as `{"time/generate": 1.2, …}`."""
        taken = {f"time/{phase}": seconds for phase, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken


def mean_entropy(rollouts: Rollouts) -> float:
    """The sampler's mean entropy over the tokens of all samples; NaN if none of it is finite."""
    entropies = torch.cat([c.entropies for c in rollouts.all_completions])
    return float(entropies[entropies.isfinite()].mean())


def rollout_metrics(rollouts: Rollouts, selected: Bool[Tensor, "p g"]) -> dict[str, float]:
    """Metrics over all sampled rows, kept or not, so that they are comparable across algorithms."""
    completions = rollouts.all_completions
    lengths = torch.tensor([float(len(c.token_ids)) for c in completions])
    ended = torch.tensor([c.finish is Finish.EOS for c in completions])
    verdicts = Counter(j.verdict for group in rollouts.judgements for j in group)
    solved = rollouts.correct.float().sum(1) / rollouts.sizes
    ties = torch.cat([tied(rollouts.rewards[part], (1,)) for part in rollouts.by_size()])
    count = len(completions)
    return {
        **_reward_metrics(rollouts),
        **_collector_metrics(rollouts),
        "train/groups/frac_zero_std": float(ties.float().mean()),
        "train/groups/frac_all_correct": float((solved == 1).float().mean()),
        "train/groups/frac_mixed": float(((solved > 0) & (solved < 1)).float().mean()),
        "train/groups/frac_all_wrong": float((solved == 0).float().mean()),
        "train/samples/kept_frac": float(rollouts.rows(selected).float().mean()),
        "train/entropy": mean_entropy(rollouts),
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


def _reward_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Mean and standard deviation of the reward and of each of its parts, of which None and lost values are no part."""
    found = _mean_and_std("train/reward", rollouts.rewards[rollouts.rewards.isfinite()])
    rewarded = [each for group in rollouts.rewarded for each in group]
    names = list(rewarded[0].parts) if rewarded else []
    for name in names:
        values = [each.parts[name] for each in rewarded]
        given = torch.tensor([value for value in values if value is not None])
        found |= _mean_and_std(f"train/reward/{name}", given)
        found[f"train/reward/{name}/none_frac"] = 1 - len(given) / len(values)
    lost = {"train/reward/lost_frac": sum(e.lost is not None for e in rewarded) / len(rewarded)} if names else {}
    return found | lost | {f"train/reward_log/{name}": value for name, value in sorted(rollouts.logged.items())}


def _collector_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Figures of what a collector has drawn and passed on; none of one that passes on everything."""
    if rollouts.chosen is None:
        return {}
    return {
        "rollout/rounds": float(rollouts.rounds),
        "rollout/prompts": float(len(rollouts.prompts)),
        "rollout/samples": float(len(rollouts.all_completions)),
        "train/samples/passed_on_frac": float(rollouts.rows(rollouts.kept).float().mean()),
    }


def _mean_and_std(name: str, values: Float[Tensor, " n"]) -> dict[str, float]:
    """No figures of no values. Numbers that are not finite are reported by the guard, and are not among them."""
    if not len(values):
        return {}
    return {f"{name}/mean": float(values.mean()), f"{name}/std": float(values.std(correction=0))}


def sample_records(
    rollouts: Rollouts,
    iteration: int | None = None,
    selected: Bool[Tensor, "p g"] | None = None,
    advantage: Float[Tensor, "p g"] | None = None,
) -> list[SampleRecord]:
    """One record for each response, prompt by prompt, in the order in which they were drawn.

    `iteration` counts from 0; an evaluation passes `rollouts` alone.
    """
    nothing = (tuple(Rewarded(0.0, judgement) for judgement in group) for group in rollouts.judgements)
    rewarded = rollouts.rewarded or tuple(nothing)
    return [
        SampleRecord(
            # As in metrics.jsonl, whose row 0 describes the model before training.
            iteration=None if iteration is None else iteration + 1,
            prompt_key=prompt.key,
            sample=g,
            prompt=prompt.text,
            response=rollouts.texts[p][g],
            answer=prompt.answer,
            extracted=judgement.answer,
            verdict=judgement.verdict.value,
            reward=float(rollouts.rewards[p, g]),
            advantage=None if advantage is None else float(advantage[p, g]),
            kept=selected is not None and bool(selected[p, g]),
            length=len(completion.token_ids),
            finish=completion.finish.value,
            seconds=judgement.seconds,
            prompt_ids=prompt.token_ids,
            response_ids=completion.token_ids,
            rewards=dict(rewarded[p][g].parts) or None,
            logged=dict(rewarded[p][g].extra) or None,
            lost=rewarded[p][g].lost,
        )
        for p, prompt in enumerate(rollouts.prompts)
        for g, (completion, judgement) in enumerate(zip(rollouts.completions[p], rollouts.judgements[p], strict=True))
    ]


def gradient_mass_metrics(
    rollouts: Rollouts,
    selected: Bool[Tensor, "p g"],
    advantages: ByRow,
    aggregate: Aggregate,
    has_gradient_without_advantage: bool,
) -> dict[str, float]:
    """Fractions of sampled rows and tokens that have a gradient, and the effective number of rows that share it.

    `advantages` holds the rows in the batch. The mass of a row is the sum of its tokens' gradient coefficients at ratio
    1, i.e. Σ_t |A_t| times the aggregation's weight of its tokens; `effective_rows` is the effective sample size of
    these masses. A row is positive or negative by the sign of its mean advantage, which is that of every token's own
    advantage except with a critic.
    """
    lengths = torch.tensor([len(c.token_ids) for c in rollouts.all_completions])
    mean, mass = torch.zeros(2, len(lengths), dtype=torch.float64)
    tokens = torch.zeros_like(lengths)
    rows = list(advantages)
    if rows:
        stacked = pad_sequence([advantages[i] for i in rows], batch_first=True)
        prompts = torch.tensor([p for p, group in enumerate(rollouts.completions) for _ in group])
        per_token, _ = aggregate(lengths[rows], **given(aggregate, prompts=prompts[rows]))
        mean[rows] = stacked.sum(1, dtype=torch.float64) / lengths[rows]
        mass[rows] = stacked.abs().sum(1, dtype=torch.float64) * per_token
        tokens[rows] = (stacked != 0).sum(1)
    moving = rows if has_gradient_without_advantage else tokens.nonzero()
    return {
        "train/gradient_mass/rows_frac": len(moving) / len(lengths),
        "train/gradient_mass/tokens_kept_frac": int(lengths[rollouts.rows(selected)].sum()) / int(lengths.sum()),
        "train/gradient_mass/tokens_frac": int(tokens.sum()) / int(lengths.sum()),
        "train/gradient_mass/effective_rows": effective_sample_size(mass),
        **_entropies(rollouts, _row_numbers(mean > 0), _row_numbers(mean < 0)),
    }


def pair_gradient_mass_metrics(rollouts: Rollouts, pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """The same as `gradient_mass_metrics` for preference pairs of row numbers (chosen, rejected).

    All pairs have the same mass, and the chosen rows are the positive ones.
    """
    lengths = torch.tensor([len(c.token_ids) for c in rollouts.all_completions])
    chosen, rejected = ({pair[side] for pair in pairs} for side in (0, 1))
    paired = sorted(chosen | rejected)
    tokens = int(lengths[paired].sum()) / int(lengths.sum())
    return {
        "train/gradient_mass/rows_frac": len(paired) / len(lengths),
        "train/gradient_mass/tokens_kept_frac": tokens,
        "train/gradient_mass/tokens_frac": tokens,
        "train/gradient_mass/effective_rows": float(len(pairs)),
        **_entropies(rollouts, chosen, rejected),
    }


def effective_sample_size(weights: Float[Tensor, " n"]) -> float:
    """(Σ|w|)² / Σw² (Kish 1965), the number of equal weights that are worth as much; 0 if all weights are 0."""
    squares = float(weights.square().sum())
    return float(weights.abs().sum()) ** 2 / squares if squares > 0 else 0.0


def _row_numbers(where: Bool[Tensor, " n"]) -> list[int]:
    return where.nonzero().flatten().tolist()


def _entropies(rollouts: Rollouts, positive: Collection[int], negative: Collection[int]) -> dict[str, float]:
    """The sampler's mean entropy over the tokens of positive and of negative rows; no entry for a side without rows."""
    completions = rollouts.all_completions
    return {
        f"train/entropy/{sign}": float(torch.cat([completions[i].entropies for i in sorted(rows)]).mean())
        for sign, rows in (("positive", positive), ("negative", negative))
        if rows
    }
