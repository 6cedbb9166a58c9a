"""Update check: an iteration's samples, numbers and gradient held against plain recomputations, on a few rows.

It runs in the first iteration of a process and every so many after it: before the first update, before the second, and
after the last. It draws nothing from a global generator, leaves gradients and modes of the modules as they are, and
changes nothing that training computes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from winnow import distributed
from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.experience.batching import Experience, collate, collate_pairs
from winnow.experience.collect import Judge
from winnow.experience.evidence import Evidence
from winnow.guards.advantage_checks import NumberedRow, wrong_advantage
from winnow.guards.batch_checks import ReadBatch, read_batch, weights_of, wrong_terms
from winnow.guards.finding import Finding, Tolerances
from winnow.guards.model_checks import (
    PlainLoss,
    PlainRow,
    plain_policy_loss,
    plain_preference_loss,
    plain_value_loss,
    wrong_gradient,
)
from winnow.guards.sample_checks import far_apart, wrong_end, wrong_reward
from winnow.models.language_model import fingerprint
from winnow.models.plain_forward import plain_scores
from winnow.models.policy import AdaptersOff, Critic, FrozenCopy, Policy
from winnow.models.sharding import is_sharded, is_without_memory
from winnow.objectives import Aggregate
from winnow.rng import permutation, seed_of
from winnow.types import Mean, MicroBatch, Pair, PairBatch, Row

Step = Callable[[MicroBatch | PairBatch], tuple[Tensor, Mapping[str, Mean]]]
"""The training step: a micro-batch → its loss as it is differentiated, and the metrics that it notes."""


@dataclass(frozen=True)
class Checked:
    """The parts of a run that the update check holds against each other.

    `golds` gives the answers to an iteration's problems by key; `sampled_gap` bounds the distance of an exact sampler's
    log-probabilities from the policy's, as a root mean square in nats.
    """

    policy: Policy
    critic: Critic | None
    reference: FrozenCopy | AdaptersOff | None
    algorithm: Algorithm
    aggregate: Aggregate
    temperature: float
    max_tokens: int
    eos_ids: tuple[int, ...]
    judge: Judge
    golds: Callable[[int], Mapping[str, str]]
    exact: bool
    sampled_gap: float
    tolerances: Tolerances


@dataclass(frozen=True)
class _Chosen:
    """The checked items of an iteration, with the plain log-probabilities of their rows at the sampling weights."""

    items: list[Row | Pair]
    batch: MicroBatch | PairBatch
    plain: list[Float[Tensor, " t"]]

    @property
    def rows(self) -> list[Row]:
        return [row for item in self.items for row in item.rows]


@dataclass(eq=False)
class UpdateCheck:
    """The update check of a run, every `every` iterations of this process, on about `rows` rows."""

    checked: Checked
    every: int
    rows: int
    seed: int
    _done: int = field(default=0, init=False)
    _reference: str | None = field(default=None, init=False)
    _moves: int = field(default=0, init=False)
    _chosen: _Chosen | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not is_without_memory(self.checked.policy):
            self._reference = self._fingerprint_of_reference()

    def is_due(self) -> bool:
        """Whether the iteration that begins is to be checked: the first of this process, and every `every`th on."""
        due, self._done = self._done % self.every == 0, self._done + 1
        return due

    def before_first_update(
        self, iteration: int, experience: Experience, dealt: Sequence[int], batch: MicroBatch | PairBatch, step: Step
    ) -> Finding | None:
        """Check the samples of the iteration, its first micro-batch, and the gradient of a few of its rows."""
        self._chosen = None
        read, reference = read_batch(batch, experience.items, dealt), self._wrong_reference()
        found = wrong_terms(read, experience.items, dealt, self.checked.aggregate) or reference
        if self._together and any(distributed.all_gather(found is not None)):
            return found
        chosen = self._choose(read, experience, iteration) if found is None else []
        if self._together:  # equally many forwards on each rank
            most = max(distributed.all_gather(len(chosen)))
            own = chosen or [next(i for i in dealt if not experience.zero_gradient[i])]
            chosen = [own[n % len(own)] for n in range(most)]
        if not chosen:  # this rank has no row of the batch that learns, only one that fills it up
            return found
        return found or self._wrong_scores(experience, iteration, dealt, chosen, read, step)

    def before_second_update(
        self, experience: Experience, dealt: Sequence[int], batch: MicroBatch | PairBatch
    ) -> Finding | None:
        """Check the numbers of the second update's first micro-batch: its weights may have moved, its rows may not."""
        return wrong_terms(read_batch(batch, experience.items, dealt), experience.items, dealt, self.checked.aggregate)

    def after_last_update(self, step: Step) -> Finding | None:
        """Check the KL to the policy that sampled, as training measures it, now that the weights have moved."""
        chosen, self._chosen, c = self._chosen, None, self.checked
        if chosen is None or isinstance(c.algorithm, Preference | Supervised):
            return None
        # Rows have no old log-probabilities where nothing reads them, and where the iteration has a single update.
        if not c.algorithm.objective.uses_ratio or any(row.old_logprobs is None for row in chosen.rows):
            return None
        with torch.no_grad():
            now = [plain_scores(c.policy, row, c.temperature).logprobs for row in chosen.rows]
            _, metrics = step(chosen.batch)
        if "train/kl_old" not in metrics:  # every row has numbers that are not finite, which the update has met too
            return None
        moved = torch.cat([after - before for before, after in zip(chosen.plain, now, strict=True)]).double()
        expected, found = float((torch.exp(moved) - moved - 1).mean()), metrics["train/kl_old"].value
        if abs(found - expected) <= c.tolerances.kl + 0.1 * expected:
            return None
        where = "KL to the policy that sampled, after the last update"
        return Finding("old log-probabilities", where, f"{expected:.3g} by plain forwards", f"{found:.3g}")

    def _choose(self, read: ReadBatch, experience: Experience, iteration: int) -> list[int]:
        """About `rows` rows' items of the micro-batch: of few prompts, so that some of them share one."""
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for i in read.live:
            first = experience.items[i].rows[0]
            by_prompt.setdefault(first.token_ids[: first.prompt_length], []).append(i)
        groups = list(by_prompt.values())
        count = max(1, self.rows // (2 if isinstance(read.batch, PairBatch) else 1))
        chosen: list[int] = []
        for place in permutation(seed_of(self.seed, "checked prompts", iteration), len(groups)):
            group = groups[place]
            order = permutation(seed_of(self.seed, "checked rows", iteration, place), len(group))
            chosen += [group[i] for i in order[: max(1, count // 2)]]
            if len(chosen) >= count:
                break
        return chosen[:count]

    def _wrong_scores(
        self,
        experience: Experience,
        iteration: int,
        dealt: Sequence[int],
        chosen: Sequence[int],
        read: ReadBatch,
        step: Step,
    ) -> Finding | None:
        c, items = self.checked, [experience.items[i] for i in chosen]
        with torch.enable_grad():
            initial = None if self._is_previous else c.reference
            plain = [
                [PlainRow.of(row, c.policy, c.temperature, c.critic, initial) for row in item.rows] for item in items
            ]
        found = (
            _wrong_demonstration(plain)
            if experience.evidence is None
            else self._wrong_numbers(
                iteration,
                experience.evidence,
                [
                    NumberedRow(number, row)
                    for i, rows in zip(chosen, plain, strict=True)
                    for number, row in zip(experience.evidence.numbers[i], rows, strict=True)
                ],
            )
        )
        of_dealt = dict(zip(dealt, weights_of(experience.items, dealt, c.aggregate), strict=True))
        gradient = self._wrong_gradient(items, [of_dealt[i][0] for i in chosen], plain, read, step)
        return found or gradient

    def _wrong_numbers(self, iteration: int, evidence: Evidence, rows: Sequence[NumberedRow]) -> Finding | None:
        c, rollouts = self.checked, evidence.rollouts
        assert not isinstance(c.algorithm, Supervised)
        prompts = sorted({rollouts.places[row.number][0] for row in rows})
        found = wrong_end(rollouts, c.eos_ids, c.max_tokens) or wrong_reward(
            rollouts, prompts, c.golds(iteration), c.judge
        )
        for row in rows:
            found = found or self._wrong_logprobs(evidence, row) or self._wrong_reference_scores(evidence, row)
        return found or wrong_advantage(c.algorithm, evidence, rows, c.tolerances)

    def _wrong_logprobs(self, evidence: Evidence, row: NumberedRow) -> Finding | None:
        """A finding if the policy does not give the sampler's log-probabilities, or the old ones."""
        c, rollouts, own = self.checked, evidence.rollouts, row.plain.row
        prompt = rollouts.prompts[rollouts.places[row.number][0]]
        completion = rollouts.all_completions[row.number]
        if prompt.token_ids + completion.token_ids != own.token_ids or row.start != len(prompt.token_ids):
            return Finding("rows", row.where, "the tokens that were sampled", "others")
        logprobs = row.plain.scores.logprobs
        limit = c.sampled_gap if c.exact else c.tolerances.logprob
        olds = [old for old in (evidence.old.get(row.number), own.old_logprobs) if old is not None]
        found = far_apart("sampler", row.where, logprobs, completion.logprobs, c.sampled_gap)
        for old in olds:
            found = found or far_apart("old log-probabilities", row.where, logprobs, row.plain.own(old), limit)
        return found

    @property
    def _together(self) -> bool:
        """Whether all ranks have to compute together, because each holds a part of the model."""
        return is_sharded(self.checked.policy)

    def _wrong_reference(self) -> Finding | None:
        now, moves = self._fingerprint_of_reference(), getattr(self.checked.reference, "moves", 0)
        if moves != self._moves:
            self._reference, self._moves = None, moves  # it has followed the policy, or is of a checkpoint
        self._reference = self._reference or now  # a sharded one had no weights when the check was made
        if self._reference == now:
            return None
        return Finding("reference", "its weights", "those of its last synchronisation, or of the run's start", "others")

    def _fingerprint_of_reference(self) -> str | None:
        match self.checked.reference:
            case None:
                return None
            case AdaptersOff():
                # Not while the adapters are off: peft then counts them among the frozen weights.
                return fingerprint(self.checked.policy.model, frozen_only=True)
            case FrozenCopy() as reference:
                return fingerprint(reference.copied.model)

    def _wrong_reference_scores(self, evidence: Evidence, row: NumberedRow) -> Finding | None:
        given = [x for x in (evidence.reference.get(row.number), row.plain.row.ref_logprobs) if x is not None]
        if not given:
            return None
        expected, limit = row.plain.scores.logprobs, self.checked.tolerances.logprob
        if not self._is_previous:
            assert row.plain.reference is not None
            expected = row.plain.reference
        elif self.checked.exact:
            limit = self.checked.sampled_gap
        found = None
        for numbers in given:
            found = found or far_apart("reference", row.where, expected, row.plain.own(numbers), limit)
        return found

    @property
    def _is_previous(self) -> bool:
        """Whether the reference policy is the one that sampled."""
        match self.checked.algorithm:
            case Preference() as a:
                return a.reference == "previous"
            case PolicyGradient() | ActorCritic() as a:
                return a.kl is not None and a.kl.reference == "previous"
            case Supervised():
                return False

    def _wrong_gradient(
        self,
        items: list[Row | Pair],
        weights: Sequence[float],
        plain: Sequence[Sequence[PlainRow]],
        read: ReadBatch,
        step: Step,
    ) -> Finding | None:
        """A finding if the gradient of the items' loss by packed rows is not that of plain forwards."""
        c, denominator = self.checked, read.sides[0].denominator
        batch = self._collated(items, weights, denominator, read.sides[0].num_micro_batches)
        detached = [row.scores.logprobs.detach() for rows in plain for row in rows]
        self._chosen = _Chosen(items, batch, detached)
        with torch.enable_grad():
            weighted = zip(plain, weights, strict=True)
            losses = [loss for rows, weight in weighted for loss in self._plain_losses(rows, weight, denominator)]
            if not losses:  # the rule is a plug-in's
                return None
            parts: dict[str, nn.Module] = {"policy": c.policy}
            if c.critic is not None:
                parts["critic"] = c.critic
            return wrong_gradient(
                parts, lambda: step(batch)[0] / read.sides[0].num_micro_batches, losses, c.tolerances.gradient
            )

    def _plain_losses(self, rows: Sequence[PlainRow], weight: float, denominator: float) -> list[PlainLoss]:
        """The terms of the loss of one item; none if a rule is a plug-in's."""
        c = self.checked
        if isinstance(c.algorithm, Preference):
            return [plain_preference_loss(c.algorithm.objective, rows[0], rows[1], denominator)]
        weight /= denominator
        policy = plain_policy_loss(c.algorithm.objective, rows[0], weight)
        if policy is None:
            return []
        return [policy] if c.critic is None else [policy, plain_value_loss(rows[0], weight)]

    def _collated(
        self, items: Sequence[Row | Pair], weights: Sequence[float], denominator: float, parts: int
    ) -> MicroBatch | PairBatch:
        """The items as one of the `parts` micro-batches of their optimiser batch, in training's own layout."""
        pairs, rows = [i for i in items if isinstance(i, Pair)], [i for i in items if isinstance(i, Row)]
        if pairs:
            return collate_pairs(pairs, torch.ones(len(pairs)), denominator, parts).to(self.checked.policy.device)
        weight = torch.tensor(weights, dtype=torch.float64)
        return collate(rows, weight, denominator, parts).to(self.checked.policy.device)


def _wrong_demonstration(plain: Sequence[Sequence[PlainRow]]) -> Finding | None:
    """A finding if a demonstration's tokens do not all count alike."""
    for n, (row,) in enumerate(plain):
        advantage, start = row.row.advantage, row.row.prompt_length
        if advantage is not None and (advantage[:start].any() or not (advantage[start:] == 1).all()):
            return Finding("advantages", f"demonstration {n + 1}", "1 at every token of the response", "others")
    return None
