"""The gradient of whole iterations against formulas that are written here anew, for random combinations of all axes.

Nothing of `winnow.ops` or of training is used on this side: loops over samples and tokens, in the order in which
docs/algorithms.md states them. What it is compared with is training's own path on a table of logits.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.models.precision import new_tensors_in_float64
from winnow.oracle.environment import EOS, Environment
from winnow.oracle.estimator import GradientEstimator, Tables
from winnow.oracle.setting import Setting

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "algo/select": ("all", "positive", "negative", "mixed_prompts", "not_all_wrong", "not_all_correct", "best"),
    "algo/advantage": (
        *("one", "reward", "signed", "group", "centred", "leave_one_out", "whitened", "batch", "centred_whitened"),
        *("over_pass_rate", "length_weighted"),
    ),
    "algo/ratio": ("none", "token", "token", "sequence", "sequence_product"),
    "algo/clip": (
        *("none", "ppo", "clip_higher", "gspo", "dual", "dual_higher", "ratio_min", "cispo", "scalerl", "sapo"),
        *("topr", "vespo", "cpgd", "dppo", "dppo_kl", "stale_negatives_left_out"),
    ),
    "algo/aggregate": ("sequence_mean", "token_mean", "sequence_sum", "constant_length", "prompt_mean"),
    "algo/kl": ("none", "none", "k1", "k2", "k3", "k3_clamped", "k3_times_ratio"),
    "algo/correction": (
        *("none", "none", "truncated", "masked", "sequence_truncated", "sequence_masked", "geometric_masked"),
        *("negative_rows_masked", "trust_region_masked"),
    ),
    "algo/tokens": ("all", "all", "top_entropy", "low_covariance"),
    "algo.rejected": ("drop", "zero"),
    "algo.truncated": ("keep", "keep", "drop"),
    "algo.entropy": ("0.0", "0.0", "0.05"),
    "reward": ("plus_minus_one", "zero_one"),
}
GROUP = 4


@dataclass
class Sample:
    """A response to a prompt, with the log-probabilities of its tokens under each policy."""

    prompt: int
    reward: float
    correct: bool
    cut_off: bool
    new: list[Tensor]
    old: list[float]
    sampler: list[float]
    reference: list[float]
    entropies: list[Tensor]
    sampler_entropies: list[float]
    kept: bool = True
    advantages: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.old)

    @property
    def mismatch(self) -> list[float]:
        return [old - sampler for old, sampler in zip(self.old, self.sampler, strict=True)]


def is_kept(option: str, sample: Sample, group: list[Sample]) -> bool:
    right = sum(each.correct for each in group)
    return {
        "all": True,
        "positive": sample.correct,
        "best": sample.correct,  # all of one reward
        "negative": not sample.correct,
        "mixed_prompts": 0 < right < len(group),
        "not_all_wrong": right > 0,
        "not_all_correct": right < len(group),
    }[option]


def mean(of: list[float]) -> float:
    return sum(of) / len(of)


def deviation(of: list[float]) -> float:
    """The unbiased standard deviation and ε; ∞ where all are equal, so that what is divided by it is 0."""
    spread = math.sqrt(sum((each - mean(of)) ** 2 for each in of) / (len(of) - 1))
    return spread + 1e-6 if len(set(of)) > 1 else math.inf


def advantage(option: str, of: Sample, group: list[Sample], every: list[Sample], settings: DictConfig) -> float:
    own, r = [each.reward for each in group], of.reward
    rewards = [each.reward for each in every]
    by_prompt = {each.prompt: mean([other.reward for other in every if other.prompt == each.prompt]) for each in every}
    centred = [each.reward - by_prompt[each.prompt] for each in every]
    rate = mean([float(each.correct) for each in group])
    weighed = sum(each.length * each.reward for each in group) / sum(each.length for each in group)
    formulas: dict[str, Callable[[], float]] = {
        "one": lambda: 1.0,
        "reward": lambda: r,
        "signed": lambda: (settings.w_pos if r > 0 else settings.w_neg) * r,
        "group": lambda: (r - mean(own)) / deviation(own),
        "centred": lambda: r - mean(own),
        "leave_one_out": lambda: r - (sum(own) - r) / (len(own) - 1),
        "whitened": lambda: (r - mean(rewards)) / deviation(rewards),
        "batch": lambda: (r - mean(own)) / deviation(rewards),
        "centred_whitened": lambda: (r - mean(own)) / deviation(centred) if len(set(rewards)) > 1 else 0.0,
        "over_pass_rate": lambda: (of.correct - rate) / rate if rate else 0.0,
        "length_weighted": lambda: r - weighed,
    }
    return formulas[option]()


def correction(option: str, of: Sample, reward_side: float, settings: DictConfig) -> list[float]:
    """The weight of each token; a rule of whole responses gives all of them one."""
    gap = of.mismatch
    ratios, whole, typical = [math.exp(each) for each in gap], math.exp(sum(gap)), math.exp(mean(gap))
    formulas: dict[str, Callable[[float], float]] = {
        "none": lambda ratio: 1.0,
        "truncated": lambda ratio: min(ratio, settings.cap),
        "masked": lambda ratio: ratio if settings.floor <= ratio <= settings.cap else 0.0,
        "sequence_truncated": lambda ratio: min(whole, settings.cap),
        "sequence_masked": lambda ratio: whole if settings.floor <= whole <= settings.cap else 0.0,
        "geometric_masked": lambda ratio: float(settings.floor <= typical <= settings.cap),
        "negative_rows_masked": lambda ratio: float(reward_side >= 0 or -mean(gap) <= settings.delta),
        "trust_region_masked": lambda ratio: float(max(math.exp(g) - 1 - g for g in gap) <= settings.delta),
    }
    return [formulas[option](ratio) for ratio in ratios]


def forget_tokens(option: str, share: float, batch: list[Sample]) -> None:
    """Take the advantage of the tokens that are not chosen."""
    places = [(sample, t) for sample in batch for t in range(sample.length)]
    count = max(1, round(share * len(places)))
    if option == "top_entropy":
        scores = [sample.sampler_entropies[t] for sample, t in places]
    else:
        logs, advantages = [s.sampler[t] for s, t in places], [s.advantages[t] for s, t in places]
        scores = [(a - mean(logs)) * (b - mean(advantages)) for a, b in zip(logs, advantages, strict=True)]
    limit = sorted(scores, reverse=True)[count - 1]
    for (sample, t), score in zip(places, scores, strict=True):
        chosen = score >= limit if option == "top_entropy" else score < limit or score <= 1e-13
        sample.advantages[t] *= chosen


def within(value: Tensor, low: float, high: float) -> Tensor:
    return value if low <= float(value) <= high else torch.tensor(low if float(value) < low else high)


def lesser(a: Tensor, b: Tensor) -> Tensor:
    return a if float(a) <= float(b) else b


def surrogate(option: str, r: Tensor, a: float, of: Sample, t: int, c: DictConfig) -> Tensor:
    """The surrogate of one token, of ratio (or log-probability) `r` and advantage `a`."""
    log, change, sampled = of.new[t], of.new[t] - of.old[t], math.exp(of.sampler[t])
    fixed, present = float(r.detach()), math.exp(float(of.new[t].detach()))

    def bounded() -> Tensor:
        return lesser(r * a, within(r, 1 - c.low, 1 + c.high) * a)

    def floored() -> Tensor:
        return torch.tensor(c.c * a) if a < 0 and float(bounded()) < c.c * a else bounded()

    def stale() -> Tensor:
        gone = mean([sampler - float(new) for sampler, new in zip(of.sampler, of.new, strict=True)])
        return 0.0 * r if a < 0 and gone > c.delta else bounded()

    def gate() -> Tensor:
        rate = c.positive if a > 0 else c.negative
        return 4 / rate * a / (1 + (-rate * (r - 1)).exp())

    def peaked() -> Tensor:
        k, rate = (c.k_pos, c.lambda_pos) if a >= 0 else (c.k_neg, c.lambda_neg)
        return fixed**k * math.exp(rate * (1 - fixed)) * a * log

    def near_sampler() -> Tensor:
        moved = abs(present - sampled)
        if c.divergence == "kl":
            moved = sampled * math.log(sampled / present) + (1 - sampled) * math.log((1 - sampled) / (1 - present))
        gone = (present > sampled and moved > c.high) if a > 0 else (present < sampled and moved > c.low)
        return 0.0 * log if gone else min(fixed, c.cap) * a * log

    def drifted() -> Tensor:
        return lesser(change * a, within(change, math.log(1 - c.low), math.log(1 + c.high)) * a)

    def held() -> Tensor:
        return min(max(fixed, 1 - c.low), 1 + c.high) / fixed * r * a

    formulas: dict[str, Callable[[], Tensor]] = {
        "none": lambda: r * a,
        **dict.fromkeys(("ppo", "clip_higher", "gspo"), bounded),
        **dict.fromkeys(("dual", "dual_higher"), floored),
        "ratio_min": lambda: lesser(r, within(r, 1 - c.low, 1 + c.high)) * a,
        **dict.fromkeys(("cispo", "scalerl"), held),
        "sapo": gate,
        "topr": lambda: (1.0 if a > 0 else min(fixed, 1.0)) * a * log,
        "vespo": peaked,
        "cpgd": drifted,
        **dict.fromkeys(("dppo", "dppo_kl"), near_sampler),
        "stale_negatives_left_out": stale,
    }
    return formulas[option]()


def penalty(of: Sample, t: int, kl: DictConfig, option: str) -> Tensor:
    gap = of.new[t] - of.reference[t]
    found = {"k1": gap, "k2": gap.square() / 2, "k3": (-gap).exp() - 1 + gap}[option[:2]]
    found = found if kl.clamp is None else within(found, -kl.clamp, kl.clamp)
    return found * (of.new[t] - of.old[t]).exp() if kl.weight == "ratio" else found


def loss(batch: list[Sample], chosen: Mapping[str, str], algo: DictConfig) -> Tensor:
    """The loss of one optimiser batch."""
    aggregate, ratio = chosen["algo/aggregate"], chosen["algo/ratio"]
    prompts = {sample.prompt for sample in batch}
    tokens = {p: sum(sample.length for sample in batch if sample.prompt == p) for p in prompts}
    whole = {"token_mean": sum(tokens.values()), "prompt_mean": len(prompts)}.get(aggregate, len(batch))
    total = torch.zeros(())
    for sample in batch:
        weight = {
            "sequence_mean": 1 / sample.length,
            "token_mean": 1.0,
            "sequence_sum": 1.0,
            "constant_length": 1 / algo.aggregate.get("length", 1),
            "prompt_mean": 1 / tokens[sample.prompt],
        }[aggregate] / whole
        changes = [new - old for new, old in zip(sample.new, sample.old, strict=True)]
        product = torch.stack(changes).sum()
        for t in range(sample.length):
            quantity = {
                "none": sample.new[t],
                "token": changes[t].exp(),
                "sequence": (product / sample.length).exp(),
                "sequence_product": product.exp(),
            }[ratio]
            gain = surrogate(chosen["algo/clip"], quantity, sample.advantages[t], sample, t, algo.clip)
            gain = gain + algo.entropy * sample.entropies[t]
            if chosen["algo/kl"] != "none":
                gain = gain - algo.kl.coef * penalty(sample, t, algo.kl, chosen["algo/kl"])
            total = total - weight * gain
    return total


def gradient(environment: Environment, tables: Tables, drawn, chosen: Mapping[str, str], algo: DictConfig) -> Tensor:
    """The direction of ascent from the numbers of each prompt's responses."""
    new = tables.new.clone().requires_grad_()
    states = environment._steps[0]
    logs = {
        name: environment.token_logprobs(table)
        for name, table in (("old", tables.old), ("sampler", tables.sampler), ("reference", tables.reference))
    }
    here, entropy = new.log_softmax(1), -(new.softmax(1) * new.log_softmax(1)).sum(1)
    by_sampler = environment.token_entropies(tables.sampler)
    groups: list[list[Sample]] = []
    for p, numbers in enumerate(drawn):
        groups.append([])
        for n in numbers:
            tokens = environment.responses[n]
            at = [int(states[p, n, t]) for t in range(len(tokens))]
            groups[-1].append(
                Sample(
                    prompt=p,
                    reward=float(environment.rewards[p, n]),
                    correct=environment.is_correct(p, tokens),
                    cut_off=tokens[-1] != EOS,
                    new=[here[state, token] for state, token in zip(at, tokens, strict=True)],
                    entropies=[entropy[state] for state in at],
                    sampler_entropies=by_sampler[p, n, : len(tokens)].tolist(),
                    **{name: of[p, n, : len(tokens)].tolist() for name, of in logs.items()},
                )
            )
    every = [sample for group in groups for sample in group]
    for sample in every:
        group = groups[sample.prompt]
        sample.kept = is_kept(chosen["algo/select"], sample, group)
        sample.kept &= not (sample.cut_off and chosen["algo.truncated"] == "drop")
        own = advantage(chosen["algo/advantage"], sample, group, every, algo.advantage) if sample.kept else 0.0
        weights = correction(chosen["algo/correction"], sample, own, algo.correction)
        sample.advantages = [own * weight for weight in weights]
    batch = [sample for sample in every if sample.kept or chosen["algo.rejected"] == "zero"]
    if not batch:
        return torch.zeros_like(new)
    if chosen["algo/tokens"] != "all":
        forget_tokens(chosen["algo/tokens"], algo.tokens.share, batch)
    value = loss(batch, chosen, algo)
    return -torch.autograd.grad(value, new, allow_unused=True, materialize_grads=True)[0]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(2, 40))])
def test_random_combinations_have_the_gradient_of_their_formulas(seed: int):
    draw = random.Random(seed)
    for _ in range(15):
        chosen = {axis: draw.choice(options) for axis, options in OPTIONS.items()}
        if chosen["algo/ratio"] == "none":
            chosen["algo/clip"] = "none"
        more = ["algo.kl.coef=0.3"] if chosen["algo/kl"] != "none" else []
        more += ["algo.kl.clamp=0.2"] if chosen["algo/kl"] == "k3_clamped" else []
        more += [f"algo.tokens.share={draw.choice((0.2, 0.4))}"] if chosen["algo/tokens"] != "all" else []
        words = ["algo=grpo", *(f"{axis}={option}" for axis, option in chosen.items()), *more]
        cfg = composed("train", words, ("algo",))
        wrong = -1.0 if chosen["reward"] == "plus_minus_one" else 0.0
        environment = Environment(horizon=draw.choice((2, 3)), prompts=draw.choice((1, 2)), wrong=wrong)
        mismatch = 0.4 if chosen["algo/correction"] != "none" else draw.choice((0.0, 0.4))
        place = {"moved": draw.choice((0.3, 1.0)), "mismatch": mismatch, "seed": draw.randrange(10**6), "draws": 2}
        tables = Setting(environment, **place).tables
        drawn = [[draw.randrange(len(environment.responses)) for _ in range(GROUP)] for _ in range(environment.prompts)]
        with new_tensors_in_float64():
            expected = gradient(environment, tables, drawn, chosen, cfg.algo)
            found = GradientEstimator(environment, tables, build_algorithm(cfg))(drawn)
        size = max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) < 1e-10 * size, (" ".join(words), place, drawn)
