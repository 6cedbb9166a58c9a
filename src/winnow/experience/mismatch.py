"""The likely cause of a mismatch: why a sampler gives its samples other log-probabilities than the policy does.

Each cause leaves a pattern of its own in the gaps, the sampler's log-probability of a token minus the policy's, or
disappears when the rows are scored in another way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Response = Float[Tensor, " _"]
"""A number for each token of one response."""
EXPLAINED = 0.02
"""The share of a mismatch that may be left over once its cause is taken away."""
TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperatures that are tried."""
STEPS = 24
"""Steps of the search for a temperature; each takes 0.62 of the interval that is left, in the end 1e-4 of it."""
GROWS = 4.0
"""The ratio of gaps at later positions to those at earlier ones, from which on positions are the cause."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The rows in which sampler and policy were compared, and ways to score them anew.

    `sampled` and `scored` are the log-probabilities of each response by the sampler and by the policy, and `starts` the
    number of prompt tokens before each. `at_temperature` scores the rows by the policy at another temperature;
    `initial` are the log-probabilities under the initial policy, if it was kept. `agreed` is the last iteration,
    counted from 1, in which sampler and policy agreed in this process, and `limit` the mismatch that is tolerated.
    """

    sampled: Sequence[Response]
    scored: Sequence[Response]
    starts: Sequence[int]
    temperature: float
    at_temperature: Callable[[float], Sequence[Response]]
    initial: Sequence[Response] | None
    agreed: int | None
    limit: float

    def cause(self) -> str:
        """The likely cause in words, with the measurement that speaks for it."""
        if not torch.cat([*self.sampled, *self.scored]).isfinite().all():
            return "some log-probabilities are not finite: weights are damaged, or arithmetic overflows"
        return (
            self._old_weights()
            or self._other_temperature()
            or self._part_of_the_distribution()
            or self._some_rows()
            or self._positions()
            or self._everywhere()
        )

    def _old_weights(self) -> str | None:
        if self.initial is not None and self.agreed is not None and self._explained_by(self.initial):
            return "they are the initial policy's: the engine has not taken over any update of the weights"
        if self.agreed is not None:
            return f"they agreed in iteration {self.agreed}, before further updates: the engine has old weights"
        return None

    def _other_temperature(self) -> str | None:
        low, high = (math.log(bound) for bound in TEMPERATURES)
        narrow = (math.sqrt(5) - 1) / 2
        for _ in range(STEPS):
            left, right = high - narrow * (high - low), low + narrow * (high - low)
            if self._distance(self.at_temperature(math.exp(left))) < self._distance(
                self.at_temperature(math.exp(right))
            ):
                high = right
            else:
                low = left
        found = math.exp((low + high) / 2)
        if not self._explained_by(self.at_temperature(found)):
            return None
        return (
            f"the policy gives the same at temperature {found:.3g}: the engine samples at it, not {self.temperature:g}"
        )

    def _part_of_the_distribution(self) -> str | None:
        gaps = torch.cat(self._gaps)
        if float(gaps.min()) < -self._near:
            return None
        return (
            f"the sampler finds each of {len(gaps)} tokens at least as likely as the policy does: it draws from a part "
            "of the distribution (top_k, top_p or min_p)"
        )

    def _some_rows(self) -> str | None:
        wrong = [n for n, gap in enumerate(self._gaps, 1) if float(gap.abs().max()) > self._near]
        if len(wrong) > len(self._gaps) // 2:
            return None
        return (
            f"{len(wrong)} of {len(self._gaps)} rows differ and the others agree: rows are mixed up, or padding and "
            "neighbours enter them"
        )

    def _positions(self) -> str | None:
        """Gaps that grow with the position in the row, the prompt included."""
        places = torch.cat([start + torch.arange(len(gap)) for start, gap in zip(self.starts, self._gaps, strict=True)])
        gaps, later = torch.cat(self._gaps).abs(), places > places.median()
        if later.all() or not later.any():
            return None
        early, late = float(gaps[~later].mean()), float(gaps[later].mean())
        if late < GROWS * early:
            return None
        return (
            f"the gap grows with the position, {early:.2g} nats in the earlier half of the tokens and {late:.2g} in "
            "the later: other positions, as of rotations that depend on the length (rope_parameters), or a window"
        )

    def _everywhere(self) -> str:
        size = float(torch.cat(self._gaps).abs().mean())
        return (
            f"a gap of {size:.2g} nats in all rows and positions from the first iteration on: other weights, another "
            "attention or another precision"
        )

    @property
    def _gaps(self) -> list[Tensor]:
        return [ours - theirs for ours, theirs in zip(self.sampled, self.scored, strict=True)]

    @property
    def _near(self) -> float:
        """The gap of a token, in nats, at which it alone has the tolerated mismatch: k3 of d is about d² / 2."""
        return math.sqrt(2 * self.limit)

    def _distance(self, scored: Sequence[Response]) -> float:
        gaps = torch.cat([ours - theirs for ours, theirs in zip(self.sampled, scored, strict=True)]).double()
        return float(gaps.square().mean())  # not k3, which is exponential in gaps as large as a search may find

    def _explained_by(self, scored: Sequence[Response]) -> bool:
        return self._distance(scored) <= EXPLAINED * self._distance(self.scored)
