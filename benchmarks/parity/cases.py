"""The rows of the table: a setting of TRL's, the words of Winnow's that say the same, and what differs, with why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from benchmarks.parity.numbers import Loss, Numbers, numbers
from benchmarks.parity.our_side import our_loss
from benchmarks.parity.preference import our_pair_loss, trl_pair_loss
from benchmarks.parity.trl_side import trl_loss

EPS = "algo.advantage.eps=1e-4"
"""TRL's ε beside the standard deviation; Winnow's default is the released code's 1e-6."""


@dataclass(frozen=True)
class Case:
    """One objective of both sides.

    `value` says whether the losses themselves are compared; the gradients always are. `note` explains a difference.
    """

    name: str
    trl: Mapping[str, object]
    words: tuple[str, ...]
    value: bool = True
    note: str = ""
    functions: int = 1
    weights: tuple[float, ...] = field(default=(1.0,))
    pairs: bool = False

    def given(self, of: Numbers) -> Numbers:
        """The numbers of both sides. TRL knows a sampler that is not exactly the policy with vLLM alone."""
        return of if self.trl.get("use_vllm") else replace(of, sampled=of.old)


def _grpo(*words: str) -> tuple[str, ...]:
    return ("algo=grpo", EPS, *words)


def _corrected(mode: str, **bounds: float) -> dict[str, object]:
    """TRL's correction for its sampler; it has one for vLLM alone."""
    return {"loss_type": "grpo", "use_vllm": True, "vllm_importance_sampling_mode": mode, **bounds}


SEQUENCE = {"importance_sampling_level": "sequence"}
CASES = (
    Case("GRPO", {"loss_type": "grpo"}, _grpo()),
    Case("clip-higher", {"loss_type": "grpo", "epsilon_high": 0.28}, _grpo("algo.clip.high=0.28")),
    Case(
        "BNPO",
        {"loss_type": "bnpo"},
        _grpo("algo/aggregate=token_mean"),
        note="TRL divides by the tokens of a micro-batch, so that its loss depends on their number; Winnow's does not.",
    ),
    Case(
        "DAPO", {"loss_type": "dapo", "epsilon_high": 0.28}, _grpo("algo/aggregate=token_mean", "algo.clip.high=0.28")
    ),
    Case(
        "Dr. GRPO",
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        ("algo=grpo", "algo.advantage.scale=none", "algo/aggregate=constant_length", "rollout.max_tokens=6"),
    ),
    Case(
        "two-sided clip (δ = 1.5)",
        {"loss_type": "grpo", "delta": 1.5},
        _grpo("algo/clip=dual", "algo.clip.c=1.5"),
        note="The same bound under another name: for A < 0, min(r, δ) · A is max(r · A, c · A).",
    ),
    Case(
        "CISPO",
        {"loss_type": "cispo", "epsilon_high": 1.2},
        _grpo("algo/clip=cispo", "algo/aggregate=token_mean"),
        value=False,
        note="TRL's loss is sg[r] · A · log π, Winnow's sg[clip(r) / r] · r · A, with one gradient. TRL's "
        "`epsilon_high` is the bound itself, Winnow's `high` the distance from 1.",
    ),
    Case("GSPO", {"loss_type": "grpo"} | SEQUENCE, _grpo("algo/ratio=sequence")),
    Case(
        "LUSPO",
        {"loss_type": "luspo"} | SEQUENCE,
        _grpo("algo/ratio=sequence", "algo/aggregate=sequence_sum"),
    ),
    Case(
        "KL in the loss (k3)",
        {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False},
        _grpo("algo/kl=k3", "algo.kl.coef=0.04"),
    ),
    Case(
        "KL times the ratio",
        {"loss_type": "grpo", "beta": 0.04},
        _grpo("algo/kl=k3", "algo.kl.coef=0.04", "algo.kl.weight=ratio"),
        note="TRL 1.16 weighs its estimate unless told not to; Winnow's default is the plain one of the released code.",
    ),
    Case(
        "truncated responses masked, token mean",
        {"loss_type": "dapo", "mask_truncated_completions": True},
        _grpo("algo/aggregate=token_mean", "algo.truncated=drop"),
    ),
    Case(
        "truncated responses masked, sequence mean",
        {"loss_type": "grpo", "mask_truncated_completions": True},
        _grpo("algo.truncated=drop", "algo.rejected=zero"),
        note="TRL's mean counts a masked response as one of loss 0, which Winnow does under `algo.rejected=zero`; "
        "under `drop` it leaves the denominator too.",
    ),
    Case(
        "no standard deviation",
        {"loss_type": "grpo", "scale_rewards": "none"},
        ("algo=grpo", "algo.advantage.scale=none"),
    ),
    Case(
        "truncated importance weights (TIS)",
        _corrected("token_truncate", vllm_importance_sampling_clip_max=1.2),
        _grpo("algo/correction=truncated", "algo.correction.cap=1.2"),
    ),
    Case(
        "masked importance weights",
        _corrected("token_mask", vllm_importance_sampling_clip_max=1.2, vllm_importance_sampling_clip_min=0.8),
        _grpo("algo/correction=masked", "algo.correction.cap=1.2", "algo.correction.floor=0.8"),
    ),
    Case(
        "truncated importance weights of sequences",
        _corrected("sequence_truncate", vllm_importance_sampling_clip_max=1.5),
        _grpo("algo/correction=sequence_truncated", "algo.correction.cap=1.5"),
    ),
    Case(
        "masked importance weights of sequences",
        _corrected("sequence_mask", vllm_importance_sampling_clip_max=2.0, vllm_importance_sampling_clip_min=0.5),
        _grpo("algo/correction=sequence_masked", "algo.correction.cap=2.0", "algo.correction.floor=0.5"),
    ),
    Case(
        "off-policy sequence mask",
        {"loss_type": "grpo", "off_policy_mask_threshold": 0.05},
        _grpo("algo/clip=stale_negatives_left_out", "algo.clip.delta=0.05"),
        note="Both measure from the sampler's log-probabilities, which are the old ones where vLLM does not sample.",
    ),
    Case("SAPO", {"loss_type": "sapo"}, ("algo=sapo", EPS)),
    Case("VESPO", {"loss_type": "vespo"}, ("algo=vespo", EPS)),
    Case(
        "standard deviation of the batch (Lite-PPO)",
        {"loss_type": "dapo", "scale_rewards": "batch"},
        ("algo=lite_ppo", EPS),
    ),
    Case(
        "GDPO",
        {"loss_type": "grpo", "multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]},
        ("algo=gdpo",),
        functions=2,
        weights=(1.0, 0.5),
    ),
    Case(
        "two rewards, weighed",
        {"loss_type": "grpo", "reward_weights": [1.0, 0.5]},
        _grpo(),
        functions=2,
        weights=(1.0, 0.5),
    ),
    Case(
        "entropy bonus, token mean",
        {"loss_type": "dapo", "entropy_coef": 0.01},
        _grpo("algo/aggregate=token_mean", "algo.entropy=0.01"),
        note="TRL's bonus is the mean over tokens whatever the loss; Winnow's has the weights of the gain, so that "
        "both agree for token means alone.",
    ),
)


def _pair(name: str, loss: str, word: str, smoothing: float = 0.0, **settings: object) -> Case:
    words = ("algo=dpo", *([word] if word else []), *([f"algo.smoothing={smoothing}"] if smoothing else []))
    theirs = {"loss_type": [loss]} | ({"label_smoothing": smoothing} if smoothing else {}) | settings
    return Case(name, theirs, words, pairs=True)


PREFERENCE = (
    _pair("DPO", "sigmoid", ""),
    _pair("robust DPO", "robust", "algo/preference=robust", 0.1),
    _pair("hinge", "hinge", "algo/preference=hinge"),
    _pair("IPO", "ipo", "algo/preference=ipo"),
    _pair("EXO", "exo_pair", "algo/preference=exo", 0.001),
    _pair("SPPO", "sppo_hard", "algo/preference=sppo"),
    _pair("forward KL", "sigmoid", "algo/divergence=forward_kl", f_divergence_type="forward_kl"),
    _pair("Jensen-Shannon", "sigmoid", "algo/divergence=jensen_shannon", f_divergence_type="js_divergence"),
)
"""TRL's α-divergence computes in float32 and has no branch for float64; it is left out here."""


def both(case: Case, of: Numbers | None = None) -> tuple[Loss, Loss]:
    """Winnow's and TRL's loss of a case."""
    of = case.given(numbers() if of is None else of)
    if case.pairs:
        return our_pair_loss(case.words, of), trl_pair_loss(case.trl, of)
    return our_loss(case.words, of, case.weights), trl_loss(case.trl, of, case.functions)


def figures(loss: Loss) -> list[float]:
    """The loss, and its derivatives along three fixed directions: enough to tell two losses apart."""
    slope = torch.cat(loss.gradient)
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(3, len(slope), generator=draw, dtype=torch.float64)
    return [loss.value, *(directions @ slope).tolist()]


def differences(ours: Loss, theirs: Loss) -> tuple[float, float]:
    """Differences of the values, and the largest of the gradients, relative to the largest gradient."""
    size = max(float(slope.abs().max()) for slope in theirs.gradient)
    gradient = max(float((a - b).abs().max()) for a, b in zip(ours.gradient, theirs.gradient, strict=True))
    return abs(ours.value - theirs.value), gradient / size
