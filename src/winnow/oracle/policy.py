"""A tabular policy and critic in place of language models: a row of logits, and a value, for each state."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from winnow.models.policy import Critic, Policy, Scores
from winnow.oracle.environment import Environment, Table
from winnow.packed import Packed


class TabularPolicy(Policy):
    """A policy whose parameters are the logits of every next token in every state of an environment."""

    def __init__(self, environment: Environment, table: Table) -> None:
        nn.Module.__init__(self)  # Policy's own needs a language model
        self.environment, self.temperature = environment, 1.0
        self.table = nn.Parameter(table.detach().clone())

    def forward(self, rows: Packed, entropies: bool = False) -> Scores:
        logs = self.table.log_softmax(1)[states_of(self.environment, rows)]
        found = logs.gather(1, rows.targets[:, None]).squeeze(1)
        entropy = -(logs.exp() * logs).sum(1) if entropies else None
        return Scores(rows.spread(found), None if entropy is None else rows.spread(entropy))

    def become(self, table: Table) -> None:
        """Take on other logits, as updates would make them."""
        with torch.no_grad():
            self.table.copy_(table)


class TabularCritic(Critic):
    """A critic with a value for each state."""

    def __init__(self, environment: Environment, values: Float[Tensor, " states"]) -> None:
        nn.Module.__init__(self)
        self.environment = environment
        self.values = nn.Parameter(values.detach().clone())

    def forward(self, rows: Packed) -> Float[Tensor, "b s"]:
        return rows.spread(self.values[states_of(self.environment, rows)])


def states_of(environment: Environment, rows: Packed) -> Int[Tensor, " r"]:
    """The state from which each response token is drawn, row by row."""
    read = rows.padded().tolist()
    return torch.tensor(
        [environment.state_of[tuple(read[row][:place])] for row, place in rows.response.nonzero().tolist()]
    )
