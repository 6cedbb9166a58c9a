"""Samples that a planned run's collector draws in an iteration on average, as far as pass rates tell it beforehand."""

from dataclasses import dataclass
from math import ceil

from jaxtyping import Bool
from omegaconf import DictConfig
from scipy.stats import binom
from torch import Tensor

from winnow.assemble.start_lines import collector_of
from winnow.experience.collectors import Adaptive, Budgets, Fixed, Refill


@dataclass(frozen=True, slots=True)
class Collected:
    """Samples of an iteration: prompts, samples of each, the part of them that is passed on, and words on the estimate.

    `teaching` are those of the verdicts on prompts that stand for the samples which are passed on.
    """

    prompts: int
    samples: int
    passed_on: float
    teaching: Bool[Tensor, "p g"]
    words: str = ""


def collected(cfg: DictConfig, correct: Bool[Tensor, "p g"]) -> Collected:
    """The samples of an iteration if its prompts have such verdicts."""
    prompts, samples = cfg.rollout.prompts, cfg.rollout.samples
    match collector_of(cfg):
        case Fixed():
            return Collected(prompts, samples, 1.0, correct)
        case Refill() as rule:
            return _refilled(rule, prompts, samples, correct)
        case Adaptive() as rule:
            rates = correct.float().mean(1).tolist()
            drawn = max(samples, round(sum(_drawn(rule, rate, samples) for rate in rates) / len(rates)))
            words = (
                f"collector: {drawn} samples of a prompt on average by these pass rates, {samples} of them trained on"
            )
            return Collected(prompts, drawn, samples / drawn, correct, words)
        case Budgets() as rule:
            drawn = rule.presamples + samples
            words = f"collector: {rule.presamples} samples of each prompt before {samples} on average"
            return Collected(prompts, drawn, samples / drawn, correct[correct.any(1)], words)
        case rule:
            words = f"collector: nothing is known of {type(rule).__name__}, and it is planned as fixed"
            return Collected(prompts, samples, 1.0, correct, words)


def _refilled(rule: Refill, prompts: int, samples: int, correct: Bool[Tensor, "p g"]) -> Collected:
    mixed = correct.any(1) & ~correct.all(1)
    share, of_round = float(mixed.float().mean()), rule.prompts or prompts
    rounds = min(rule.rounds, ceil(prompts / (share * of_round))) if share else rule.rounds
    drawn = rounds * of_round
    words = (
        f"collector: {share:.0%} of the prompts are mixed, so that {drawn} are drawn in {rounds} rounds of {of_round}"
    )
    return Collected(drawn, samples, min(share * drawn, prompts) / drawn, correct[mixed], words)


def _drawn(rule: Adaptive, rate: float, samples: int) -> float:
    """The expected number of samples of a prompt whose pass rate is `rate`."""
    rounds = 1.0
    for number in range(1, rule.rounds):
        so_far = number * rule.samples
        done = [binom.pmf(k, so_far, rate) for k in range(so_far + 1) if rule.is_done(k, so_far - k, samples)]
        rounds += 1 - float(sum(done))
    return rounds * rule.samples
