"""Hand-made rollouts, and models whose outputs are a simple function of the token.

For token t the sampler's log-probability is −t/10, the policy's −(t + 1)/10, the initial policy's −(t + 1)/5 and the
critic's value t/10. So log π − log π_initial is (t + 1)/10 by the policy's numbers and (t + 2)/10 by the sampler's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from winnow.experience.batching import TokenBudget
from winnow.experience.collect import Collector
from winnow.experience.metrics import Clock
from winnow.experience.scoring import Scorer
from winnow.models.policy import Critic, Policy, Scores
from winnow.packed import Packed
from winnow.types import Completion, Finish, Prompt, Rollouts
from winnow.verdict import Judgement, Verdict


class Drawn(NamedTuple):
    """A response. The reward is 1 if it is correct, else −1."""

    token_ids: tuple[int, ...]
    correct: bool


class Asked(NamedTuple):
    """A prompt and its responses."""

    prompt: tuple[int, ...]
    responses: tuple[Drawn, ...]


MIXED = Asked((11, 12, 13), (Drawn((4, 2), True), Drawn((5, 3, 2), False)))
ALL_WRONG = Asked((14,), (Drawn((6,), False), Drawn((7, 2), False)))
WORSE_FIRST = Asked((15, 16), (Drawn((3,), False), Drawn((8, 1), True)))
ASKED = (MIXED, ALL_WRONG, WORSE_FIRST)
"""Rows 0 and 1, 2 and 3, 4 and 5; their prompts have 3, 1 and 2 tokens. Rows 0 and 5 are correct."""

SEQUENCES = [asked.prompt + drawn.token_ids for asked in ASKED for drawn in asked.responses]
STARTS = [len(asked.prompt) for asked in ASKED for _ in asked.responses]
RESPONSES = [drawn.token_ids for asked in ASKED for drawn in asked.responses]


def sampler(row: int) -> Tensor:
    """(S,) log-probabilities of row `row`, 0 on its prompt."""
    return _on_response(row, [-t / 10 for t in RESPONSES[row]])


def policy_of(row: int) -> Tensor:
    return _on_response(row, [-(t + 1) / 10 for t in RESPONSES[row]])


def initial_of(row: int) -> Tensor:
    return _on_response(row, [-(t + 1) / 5 for t in RESPONSES[row]])


def _on_response(row: int, numbers: Sequence[float]) -> Tensor:
    return torch.tensor([0.0] * STARTS[row] + list(numbers))


def rollouts(asked: Sequence[Asked] = ASKED) -> Rollouts:
    """The rollouts that an engine and a judge would make of `asked`."""

    def completion(drawn: Drawn) -> Completion:
        entropies = torch.ones(len(drawn.token_ids))
        return Completion(drawn.token_ids, -torch.tensor(drawn.token_ids) / 10, entropies, Finish.EOS)

    verdicts = [[Verdict.correct if d.correct else Verdict.wrong for d in a.responses] for a in asked]
    return Rollouts(
        prompts=tuple(Prompt(f"p{i}", a.prompt, f"text {i}", "1") for i, a in enumerate(asked)),
        completions=tuple(tuple(completion(d) for d in a.responses) for a in asked),
        texts=tuple(tuple("\\boxed{1}" for _ in a.responses) for a in asked),
        judgements=tuple(tuple(Judgement(v, "1") for v in group) for group in verdicts),
        rewards=torch.tensor([[1.0 if v is Verdict.correct else -1.0 for v in group] for group in verdicts]),
        correct=torch.tensor([[v is Verdict.correct for v in group] for group in verdicts]),
        policy_version=0,
    )


class HandMade(Collector):
    """A collector that returns the same rollouts in every iteration."""

    def __init__(self, asked: Sequence[Asked] = ASKED) -> None:
        self.rollouts = rollouts(asked)

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        return self.rollouts


class Spy(Policy):
    """A policy with log-probability −(t + 1) · `step` at token t, which records the rows that it scores."""

    def __init__(self, step: float) -> None:
        nn.Module.__init__(self)
        self.anchor = nn.Parameter(torch.zeros(()))  # so that the policy has a device
        self.step = step
        self.temperature = 1.0
        self.seen: list[tuple[int, ...]] = []

    def forward(self, rows: Packed, entropies: bool = False) -> Scores:
        self.seen += spelt(rows)
        return Scores(rows.spread(-(rows.targets + 1) * self.step), None)

    @property
    def rows(self) -> list[int]:
        """The indices in `SEQUENCES` of the rows that were forwarded, sorted."""
        return sorted(SEQUENCES.index(tokens) for tokens in self.seen)


class SpyCritic(Critic):
    """A critic with value t / 10 at response token t."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.anchor = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, rows: Packed) -> Float[Tensor, "b s"]:
        self.seen += spelt(rows)
        return rows.spread(rows.targets / 10)


def spelt(rows: Packed) -> list[tuple[int, ...]]:
    """The tokens of each packed row, of which the last is only a target."""
    ends = rows.spread(rows.targets.float())
    return [
        (*rows.tokens[0, rows.places[i, :length]].tolist(), int(ends[i, length]))
        for i, length in enumerate(rows.lengths)
    ]


class Spied(NamedTuple):
    scorer: Scorer
    policy: Spy
    initial: Spy


def spied(
    exact: bool = True,
    kl_rows: int = 0,
    seed: int = 0,
    token_budget: int = 100,
    step: float = 0.1,
    max_mismatch_kl: float = float("inf"),
) -> Spied:
    policy, initial = Spy(step), Spy(0.2)
    budget = TokenBudget(token_budget, packed=True)
    return Spied(Scorer(policy, initial, exact, budget, kl_rows, seed, max_mismatch_kl), policy, initial)
