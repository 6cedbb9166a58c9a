"""Claims about losses of preference pairs: what a bounded score cannot reach, and what the first update cannot tell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, isclose, log

import torch
from omegaconf import DictConfig
from torch import Tensor

from winnow.algorithm import Preference
from winnow.config.instantiate import precision_of
from winnow.config.linting import STEEP, Kind, LinterRule
from winnow.explain.registry import settings_of
from winnow.ops import preference
from winnow.rule import is_ours, reads, rule_of


@dataclass(frozen=True, slots=True)
class PairSetup:
    """The settings that claims about preference pairs are about; `updates` and `rounds_coarsely` as in `Setup`."""

    algorithm: Preference
    updates: int
    rounds_coarsely: bool = False

    @property
    def all_rules_are_known(self) -> bool:
        return all(map(is_ours, (self.algorithm.preference, self.algorithm.divergence, type(self.algorithm))))

    @property
    def begins_at_reference(self) -> bool:
        """Whether every log-ratio is 0 in every update: the only one of an iteration is of the reference itself.

        It is 0 but for rounding, so that nothing is said of losses and divergences that are steep there.
        """
        previous = self.algorithm.sync.plain(self.algorithm.reference) == "previous"
        steep = self.algorithm.beta > STEEP or (self.order is not None and abs(self.order) > STEEP)
        return previous and self.updates == 1 and not self.rounds_coarsely and not steep

    @property
    def order(self) -> float | None:
        """The order of a divergence that has one."""
        order = settings_of(self.algorithm.divergence).get("order")
        return float(order) if isinstance(order, int | float) else None


def pair_setup_of(cfg: DictConfig, algorithm: Preference) -> PairSetup:
    """The setup of a composed configuration with its algorithm."""
    updates = cfg["update"].minibatches * cfg["update"].epochs
    return PairSetup(algorithm, updates, precision_of(cfg) == "bf16-mixed")


def _score_bounds(setup: PairSetup) -> tuple[float, float]:
    """The numbers between which every score lies under the divergence."""
    rule, order = rule_of(setup.algorithm.divergence), setup.order
    if rule is preference.jensen_shannon:
        return -inf, log(2)
    if rule is preference.forward_kl:
        return -inf, 1.0
    if rule is preference.alpha and order is not None:
        return (-inf, 1 / (1 - order)) if order < 1 else (-1 / (order - 1), inf)
    return -inf, inf


def targets_are_out_of_reach(setup: PairSetup) -> str | None:
    if rule_of(setup.algorithm.preference) is not preference.sppo:
        return None
    lowest, highest = _score_bounds(setup)
    target = 0.5 / setup.algorithm.beta
    if highest >= target and lowest <= -target:
        return None
    if highest < target:
        which, pulled, bound, way = "chosen", target, f"exceeds {highest:.4g}", "up"
    else:
        which, pulled, bound, way = "rejected", -target, f"is below {lowest:.4g}", "down"
    return (
        f"algo/preference=sppo pulls the score of the {which} response to {pulled:g}, and under this divergence no "
        f"score {bound}: its probability moves {way} without an end; type algo/divergence=reverse_kl, or a larger "
        "algo.beta"
    )


def divergence_has_no_effect_yet(setup: PairSetup) -> str | None:
    """All divergences but Jensen-Shannon, whose score is half as steep, have the slope of the log-ratio at 0."""
    divergence = setup.algorithm.divergence
    if not setup.begins_at_reference or rule_of(divergence) is preference.reverse_kl:
        return None
    if not isclose(_slope_of(divergence), 1):
        return None
    return "one update per iteration: the policy is its own reference, so algo/divergence changes nothing"


def first_update_is_that_of_dpo(setup: PairSetup) -> str | None:
    """At equal scores of 0 every loss has the gradient of DPO, but for a factor and IPO's lengths."""
    if not setup.begins_at_reference:
        return None
    algorithm = setup.algorithm
    one = torch.ones(1, dtype=torch.int64)
    of_pair = partial(algorithm.objective.losses, chosen_lengths=one, rejected_lengths=one)
    of_dpo = -algorithm.beta / 2  # the slope of −log σ(β·m) at m = 0
    factor = _slope_of(lambda at: of_pair(at, torch.zeros_like(at))) / of_dpo
    by_length = reads(algorithm.preference, "chosen_lengths")
    if isclose(factor, 1) and not by_length:
        return None
    lengths = ", with each response's log-probability divided by its length" if by_length else ""
    return (
        "one update per iteration: the policy is its own reference, so the gradient is "
        f"{factor:.4g} times that of plain DPO (algo/preference=sigmoid, algo/divergence=reverse_kl, "
        f"algo.smoothing=0){lengths}"
    )


def _slope_of(rule: Callable[[Tensor], Tensor]) -> float:
    """The derivative of a function of log-ratios where these are 0."""
    at = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(rule(at).sum(), at)[0])


def alpha_of_order_zero(setup: PairSetup) -> str | None:
    if rule_of(setup.algorithm.divergence) is not preference.alpha or setup.order != 0:
        return None
    return "algo/divergence=alpha of order 0 is algo/divergence=forward_kl"


RULES = (
    LinterRule(targets_are_out_of_reach, Kind.UNSTABLE),
    LinterRule(divergence_has_no_effect_yet, Kind.INERT),
    LinterRule(first_update_is_that_of_dpo, Kind.EQUAL),
    LinterRule(alpha_of_order_zero, Kind.EQUAL),
)
