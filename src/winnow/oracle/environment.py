"""An environment small enough to enumerate: every response of every prompt, with its reward and its probability.

A response is a series of digits, ended by an EOS or by the limit on its length, so that lengths vary. Prompt i asks for
digits that add up to i + 1. Nothing here imports `winnow.ops`: what is found here is the truth that it is measured
against.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.errors import ConfigError

EOS = 0
MOST_RESPONSES = 10_000
MOST_TOKENS = 10_000_000
"""Tokens of all responses to all prompts, at most."""
Table = Float[Tensor, "states v"]
"""The logits of every next token in every state. A tabular policy has a parameter for each."""


@dataclass(frozen=True)
class Environment:
    """Prompts, responses and rewards. Digits are the tokens 1 … V − 1, V = `vocabulary`, and token 0 is the EOS.

    `graded` gives a response the reward by its distance from the wanted sum, and else its verdict gives it `correct` or
    `wrong`. Example: with three tokens, at most two of them a response, and two prompts, prompt 0 has the correct
    response (1, 0), and prompt 1 has (1, 1) and (2, 0).
    """

    vocabulary: int = 3
    horizon: int = 2
    prompts: int = 2
    correct: float = 1.0
    wrong: float = 0.0
    graded: bool = False

    def __post_init__(self) -> None:
        if self.vocabulary < 2 or self.horizon < 1 or self.prompts < 1:
            raise ConfigError("an environment has 2 tokens or more, responses of 1 or more, and 1 prompt or more")
        digits, longest = self.vocabulary - 1, self.horizon
        # 1 digit makes horizon + 1 responses, and 2 or more at least digits ** horizon, a number of any length.
        if max(digits, longest) > MOST_RESPONSES or digits**longest > MOST_RESPONSES:
            raise ConfigError(
                f"{self.vocabulary} tokens and responses of up to {self.horizon} are more than {MOST_RESPONSES:,} "
                "responses; type fewer of either"
            )
        if self.prompts * (digits**longest + longest) * longest > MOST_TOKENS:
            raise ConfigError(
                f"{self.prompts} prompts with responses of up to {longest} are more than {MOST_TOKENS:,} tokens in "
                "all; type fewer prompts, or shorter responses"
            )

    @cached_property
    def responses(self) -> tuple[tuple[int, ...], ...]:
        """All responses, the same for every prompt."""
        digits = range(1, self.vocabulary)
        ended = [(*body, EOS) for length in range(self.horizon) for body in product(digits, repeat=length)]
        return (*ended, *product(digits, repeat=self.horizon))

    @cached_property
    def prefixes(self) -> tuple[tuple[int, ...], ...]:
        """All that may stand before a token: each of these, in each prompt, is a state of the policy."""
        digits = range(1, self.vocabulary)
        return tuple(body for length in range(self.horizon) for body in product(digits, repeat=length))

    @property
    def states(self) -> int:
        return self.prompts * len(self.prefixes)

    def prompt(self, number: int) -> tuple[int, ...]:
        """The token of a prompt, which no response has."""
        return (self.vocabulary + number,)

    @cached_property
    def state_of(self) -> dict[tuple[int, ...], int]:
        """The number of a state by its tokens, prompt and prefix."""
        spelt = [self.prompt(number) + prefix for number in range(self.prompts) for prefix in self.prefixes]
        return {tokens: state for state, tokens in enumerate(spelt)}

    def is_correct(self, prompt: int, response: tuple[int, ...]) -> bool:
        return sum(response) == prompt + 1

    def reward(self, prompt: int, response: tuple[int, ...]) -> float:
        if self.graded:
            return 1 / (1 + abs(sum(response) - prompt - 1))
        return self.correct if self.is_correct(prompt, response) else self.wrong

    @cached_property
    def rewards(self) -> Float[Tensor, "p n"]:
        """The reward of each response to each prompt."""
        every = [[self.reward(number, response) for response in self.responses] for number in range(self.prompts)]
        return torch.tensor(every, dtype=torch.float64)

    @cached_property
    def _steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """State, token and whether there is one, for each draw of each response to each prompt: (P, N, T)."""
        shape = (self.prompts, len(self.responses), self.horizon)
        states, tokens, drawn = torch.zeros(shape).long(), torch.zeros(shape).long(), torch.zeros(shape).bool()
        for number in range(self.prompts):
            for place, response in enumerate(self.responses):
                for step, token in enumerate(response):
                    states[number, place, step] = self.state_of[self.prompt(number) + response[:step]]
                    tokens[number, place, step], drawn[number, place, step] = token, True
        return states, tokens, drawn

    def token_logprobs(self, table: Table) -> Float[Tensor, "p n t"]:
        """The log-probability of each draw of each response, 0 after its end."""
        states, tokens, drawn = self._steps
        logs = table - table.logsumexp(1, keepdim=True)
        return torch.where(drawn, logs[states, tokens], 0.0)

    def token_entropies(self, table: Table) -> Float[Tensor, "p n t"]:
        """The entropy in nats of the distribution that each draw of each response is from, 0 after its end."""
        states, _, drawn = self._steps
        # A token that is never drawn has probability 0, and 0 · log 0 counts 0.
        of_states = torch.special.entr(table.softmax(1)).sum(1)
        return torch.where(drawn, of_states[states], 0.0)

    def probabilities(self, table: Table) -> Float[Tensor, "p n"]:
        """The probability of each response; they add up to 1 for each prompt."""
        return self.token_logprobs(table).sum(2).exp()

    def values(self, table: Table) -> Float[Tensor, " states"]:
        """The expected reward from each state on: the mean over the responses that pass through it."""
        states, _, drawn = self._steps
        passing = torch.where(drawn, self.probabilities(table)[:, :, None], 0.0).flatten()
        found, visits = torch.zeros(2, self.states, dtype=torch.float64)
        found.index_add_(0, states.flatten(), passing * self.rewards[:, :, None].expand_as(drawn).flatten())
        visits.index_add_(0, states.flatten(), passing)
        return found / visits

    def expected_reward(self, table: Table) -> Float[Tensor, ""]:
        """The mean over prompts of the expected reward."""
        return (self.probabilities(table) * self.rewards).sum(1).mean()

    def kl(self, table: Table, other: Table) -> Float[Tensor, ""]:
        """KL(table ‖ other) of whole responses in nats, the mean over prompts."""
        # A response that `table` never draws counts nothing, whatever its logarithm is.
        mine, gap = self.probabilities(table), self._gap(table, other)
        return torch.where(mine > 0, mine * gap, 0.0).sum(1).mean()

    def kl_of_steps(self, table: Table, other: Table) -> Float[Tensor, ""]:
        """The same number, but as a function of the next-token distributions alone.

        Its gradient holds fixed how often each state is visited, which is what a KL term in the loss can see of it.
        """
        logs, others = (of - of.logsumexp(1, keepdim=True) for of in (table, other))
        of_state = (logs.exp() * (logs - others)).sum(1)
        states, _, drawn = self._steps
        visits = self.probabilities(table).detach()[:, :, None] * drawn
        return (visits * of_state[states]).sum((1, 2)).mean()

    def entropy(self, table: Table) -> Float[Tensor, ""]:
        """The entropy of whole responses in nats, the mean over prompts."""
        mine = self.probabilities(table)
        return -(mine * self.token_logprobs(table).sum(2)).sum(1).mean()

    def _gap(self, table: Table, other: Table) -> Float[Tensor, "p n"]:
        return (self.token_logprobs(table) - self.token_logprobs(other)).sum(2)


def gradient(of: Callable[[Table], Float[Tensor, ""]], at: Table) -> Table:
    """The gradient of a function of a table of logits."""
    point = at.detach().clone().requires_grad_()
    return torch.autograd.grad(of(point), point)[0]
