"""Checks of advantages, values and returns of a few rows, by the rules of the algorithm for single responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import torch

from winnow.algorithm import ActorCritic, PolicyGradient, Preference
from winnow.experience.evidence import Evidence
from winnow.guards.finding import Finding, Tolerances
from winnow.guards.model_checks import PlainRow
from winnow.guards.plain_advantage import plain_advantages, plain_gae
from winnow.guards.plain_rules import correction_weight, estimate, is_kept
from winnow.guards.sample_checks import far_apart
from winnow.types import Finish


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A row that is trained on, and the number of the response that it is."""

    number: int
    plain: PlainRow

    @property
    def where(self) -> str:
        return f"response {self.number + 1}"

    @property
    def start(self) -> int:
        return self.plain.row.prompt_length

    @property
    def length(self) -> int:
        return self.plain.row.response_length


def wrong_advantage(
    algorithm: PolicyGradient | ActorCritic | Preference,
    evidence: Evidence,
    rows: Sequence[NumberedRow],
    tolerances: Tolerances,
) -> Finding | None:
    """The first advantage, return or value of these rows that does not follow from the rewards of the iteration."""
    match algorithm:
        case PolicyGradient():
            return _wrong_of_responses(algorithm, evidence, rows, tolerances)
        case ActorCritic():
            return _wrong_of_tokens(algorithm, evidence, rows, tolerances)
        case Preference():
            return _wrong_pair(evidence, [row.number for row in rows])


def _wrong_of_responses(
    a: PolicyGradient, evidence: Evidence, rows: Sequence[NumberedRow], tolerances: Tolerances
) -> Finding | None:
    kl, every = a.objective.kl_in_reward, evidence.rollouts.rewards.tolist()
    # A sample whose reward is lost counts as if it had not been drawn.
    drawn = [[g for g, reward in enumerate(group) if isfinite(reward)] for group in every]
    rewards = [[group[g] for g in places] for group, places in zip(every, drawn, strict=True)]
    penalties, of_row, facts = None, evidence.rollouts.places, evidence.rollouts.facts
    if kl is not None:
        totals = {
            place: kl.coef * float(estimate(kl, evidence.old[i] - evidence.reference[i]).sum())
            for i, place in enumerate(of_row)
        }
        penalties = [[totals[p, g] for g in places] for p, places in enumerate(drawn)]
    for row in rows:
        p, g = of_row[row.number]
        of_prompt = plain_advantages(a.advantage, rewards, penalties, facts, p)
        if of_prompt is None:
            continue
        expected = of_prompt[drawn[p].index(g)] if _is_kept(a, evidence, row) else 0.0
        if (found := _unequal(a, evidence, row, [expected] * row.length, tolerances.number)) is not None:
            return found
    return None


def _wrong_of_tokens(
    a: ActorCritic, evidence: Evidence, rows: Sequence[NumberedRow], tolerances: Tolerances
) -> Finding | None:
    raw = []
    for row in rows:
        own, plain = row.plain.row, row.plain
        assert own.values is not None
        assert own.returns is not None
        assert plain.values is not None
        limit = max(tolerances.logprob, tolerances.gradient * float(plain.values.detach().abs().max()))
        found = far_apart("values", row.where, plain.values, plain.own(own.values), limit)
        if found is not None:
            return found
        advantages, returns = plain_gae(a.advantage, _token_rewards(a, evidence, row), own.values[row.start :].tolist())
        size = max(1.0, *map(abs, returns))
        for t, (want, has) in enumerate(zip(returns, own.returns[row.start :].tolist(), strict=True)):
            if not abs(want - has) <= tolerances.number * size:
                return Finding("returns", f"{row.where}, token {t + 1}", f"{want:.6g}", f"{has:.6g}")
        raw.append(advantages)
    scale, shift = _whitening(a, evidence, rows, raw) if a.whiten else (1.0, 0.0)
    if scale < 0:
        return Finding("advantages", "whitening", "a positive scale", f"{scale:.3g}")
    for row, advantages in zip(rows, raw, strict=True):
        expected = [(scale * x + shift) * _is_kept(a, evidence, row) for x in advantages]
        # A difference of large numbers keeps their rounding, and whitening enlarges it.
        rounding = scale * 1e-5 * max(1.0, *map(abs, advantages))
        if (found := _unequal(a, evidence, row, expected, 10 * tolerances.number + rounding)) is not None:
            return found
    return None


def _token_rewards(a: ActorCritic, evidence: Evidence, row: NumberedRow) -> list[float]:
    """The reward at the response's last token, less the KL of each token."""
    rewards = [0.0] * row.length
    rewards[-1] = float(evidence.rollouts.rewards[evidence.rollouts.places[row.number]])
    if (kl := a.objective.kl_in_reward) is None:
        return rewards
    taken = kl.coef * estimate(kl, evidence.old[row.number] - evidence.reference[row.number])[row.start :]
    return [r - x for r, x in zip(rewards, taken.tolist(), strict=True)]


def _whitening(
    a: ActorCritic, evidence: Evidence, rows: Sequence[NumberedRow], raw: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """The scale and shift that whitening has applied to all rows alike, by least squares over the kept ones."""
    given: list[float] = []
    before: list[float] = []
    for row, advantages in zip(rows, raw, strict=True):
        assert row.plain.row.advantage is not None
        weights = _corrections(a, evidence, row, advantages)
        found = row.plain.row.advantage[row.start :].tolist()
        for x, y, w in zip(advantages, found, weights, strict=True):
            if w != 0 and _is_kept(a, evidence, row):
                before.append(x)
                given.append(y / w)
    if not given:
        return 0.0, 0.0
    x, y = torch.tensor(before, dtype=torch.float64), torch.tensor(given, dtype=torch.float64)
    variance = float((x - x.mean()).square().sum())
    scale = float(((x - x.mean()) * (y - y.mean())).sum()) / variance if variance > 0 else 0.0
    return scale, float(y.mean()) - scale * float(x.mean())


def _unequal(
    a: PolicyGradient | ActorCritic, evidence: Evidence, row: NumberedRow, expected: Sequence[float], limit: float
) -> Finding | None:
    """A finding if a row's advantages are not `expected` times its correction, or lie outside of its response."""
    assert row.plain.row.advantage is not None
    weights = _corrections(a, evidence, row, expected)
    wanted = [0.0] * row.start + [x * w for x, w in zip(expected, weights, strict=True)]
    size = max(1.0, *map(abs, wanted))
    for s, (want, has) in enumerate(zip(wanted, row.plain.row.advantage.tolist(), strict=True)):
        if not abs(want - has) <= limit * size:
            return Finding("advantages", f"{row.where}, position {s}", f"{want:.6g}", f"{has:.6g}")
    return None


def _corrections(
    a: PolicyGradient | ActorCritic, evidence: Evidence, row: NumberedRow, advantages: Sequence[float]
) -> list[float]:
    kept = evidence.chosen.get(row.number)
    chosen = [1.0] * row.length if kept is None else kept[row.start :].double().tolist()
    if not a.uses_correction:
        return chosen
    ratio = (evidence.old[row.number][row.start :] - evidence.rollouts.all_completions[row.number].logprobs).exp()
    weights = correction_weight(a.correction, ratio, torch.tensor(advantages)).tolist()
    return [weight * c for weight, c in zip(weights, chosen, strict=True)]


def _is_kept(a: PolicyGradient | ActorCritic, evidence: Evidence, row: NumberedRow) -> bool:
    """Whether the row's sample is kept; a row that a plug-in's rule has put into the batch is."""
    rollouts = evidence.rollouts
    p, g = rollouts.places[row.number]
    if rollouts.chosen is not None and not rollouts.chosen[p, g]:
        return False
    if a.truncated == "drop" and rollouts.completions[p][g].finish is Finish.LENGTH:
        return False
    size = len(rollouts.completions[p])
    rewards = [reward if isfinite(reward) else -inf for reward in rollouts.rewards[p, :size].tolist()]
    kept = is_kept(a.select, rewards, rollouts.correct[p, :size].tolist())
    return kept is None or kept[g]


def _wrong_pair(evidence: Evidence, numbers: Sequence[int]) -> Finding | None:
    rewards, places = evidence.rollouts.rewards, evidence.rollouts.places
    for chosen, rejected in zip(numbers[::2], numbers[1::2], strict=True):
        where = f"responses {chosen + 1} and {rejected + 1}"
        if places[chosen][0] != places[rejected][0]:
            return Finding("pairs", where, "two samples of one prompt", "samples of two prompts")
        better, worse = (float(rewards[places[i]]) for i in (chosen, rejected))
        if not better > worse:
            found = f"rewards {better:g} and {worse:g}"
            return Finding("pairs", where, "the better one chosen", found)
    return None
