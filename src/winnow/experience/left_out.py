"""Rows that are left out of training because a number of theirs is not finite, and the place where it was found.

A row is left out as if it had been rejected: the others are trained on as they would be without it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.types import Rollouts, Row


class Site(StrEnum):
    """The kind of number that is not finite, in the order in which an iteration computes them."""

    SAMPLED = "sampler's log-probability"
    SAMPLED_ENTROPY = "sampler's entropy"
    LOST = "lost reward"
    REWARD = "reward"
    OLD = "log-probability under the policy that sampled"
    REFERENCE = "reference log-probability"
    VALUE = "value"
    ADVANTAGE = "advantage"
    LOGPROB = "training log-probability"
    ENTROPY = "entropy"
    LOSS = "loss"
    GRADIENT = "gradient"
    MOMENT = "moment of the optimiser"
    WEIGHT = "weight"


Numbers = Mapping[str, Tensor]
"""The numbers of a row by name: (S,) tensors that are 0 on the prompt, or scalars."""
Faults = Mapping[int, Site]
"""Row number (0 … N − 1, prompt by prompt) → the first kind of its numbers that is not finite."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is left out at `site`, with all its numbers that are known; `reason` says how a reward was lost."""

    site: Site
    row: Row
    numbers: Numbers
    reason: str = ""


SITE_OF_FIELD = {
    "old_logprobs": Site.OLD,
    "sampler_logprobs": Site.SAMPLED,
    "ref_logprobs": Site.REFERENCE,
    "values": Site.VALUE,
    "advantage": Site.ADVANTAGE,
    "returns": Site.ADVANTAGE,
}
"""The kind of number in each field of `Row` that a loss reads."""


def row_numbers(row: Row) -> dict[str, Tensor]:
    """The numbers that `row` carries, by the name of their field."""
    found = {f.name: getattr(row, f.name) for f in fields(row)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def site_in(row: Row) -> Site | None:
    """The first kind of number in `row` that is not finite; None if all are."""
    numbers = row_numbers(row)
    bad = [site for name, site in SITE_OF_FIELD.items() if name in numbers and not _finite(numbers[name])]
    return bad[0] if bad else None


def sampled_faults(rollouts: Rollouts) -> dict[int, Site]:
    """The rows whose reward is lost, or whose reward, log-probability or entropy by the sampler is not finite."""
    completions = rollouts.all_completions
    rewarded = [each for group in rollouts.rewarded for each in group]
    return first_of(
        faults_of(enumerate(c.logprobs for c in completions), Site.SAMPLED),
        faults_of(enumerate(c.entropies for c in completions), Site.SAMPLED_ENTROPY),
        {i: Site.LOST for i, each in enumerate(rewarded) if each.lost is not None},
        faults_of(enumerate(rollouts.rows(rollouts.rewards)), Site.REWARD),
    )


def faults_of(numbers: Iterable[tuple[int, Tensor]], site: Site) -> dict[int, Site]:
    """The rows among `numbers` that are not finite, as faults at `site`."""
    rows = [*numbers]
    if not rows or _finite(torch.cat([of_row.flatten() for _, of_row in rows])):
        return {}
    return {i: site for i, of_row in rows if not _finite(of_row)}


def first_of(*faults: Faults) -> dict[int, Site]:
    """The faults of several stages together, a row's by the first stage that has one."""
    found: dict[int, Site] = {}
    for stage in faults:
        found = {**stage, **found}
    return dict(sorted(found.items()))


def without(selected: Bool[Tensor, "p g"], faults: Faults, rollouts: Rollouts) -> Bool[Tensor, "p g"]:
    """`selected` without the rows that have a fault."""
    kept = rollouts.rows(selected)
    kept[list(faults)] = False
    return rollouts.matrix(kept)


def left_out(faults: Faults, rows: Mapping[int, Row] | Sequence[Row], rollouts: Rollouts) -> tuple[LeftOut, ...]:
    """The rows that have a fault, each with what `rows` carries of it and with what the sampler and the judge gave."""
    completions, rewards = rollouts.all_completions, rollouts.rows(rollouts.rewards)

    def numbers(i: int) -> dict[str, Tensor]:
        sampled = {"sampler_logprobs": completions[i].logprobs, "sampler_entropies": completions[i].entropies}
        aligned = {name: _after_prompt(value, rows[i]) for name, value in sampled.items()}
        return {**aligned, "reward": rewards[i].clone(), **row_numbers(rows[i])}

    reasons = [each.lost for group in rollouts.rewarded for each in group]
    return tuple(
        LeftOut(site, rows[i], numbers(i), (reasons[i] or "") if site is Site.LOST else "")
        for i, site in faults.items()
    )


def _after_prompt(numbers: Float[Tensor, " t"], row: Row) -> Float[Tensor, " s"]:
    return torch.cat([numbers.new_zeros(row.prompt_length), numbers])


def _finite(numbers: Tensor) -> bool:
    return bool(torch.isfinite(numbers).all())
