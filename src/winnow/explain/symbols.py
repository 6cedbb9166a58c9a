"""Symbols of the quantities that rules read, under the names by which a rule asks for them."""

from collections.abc import Mapping

from winnow.explain.domains import BATCH, TOKENS, total
from winnow.explain.expression import ZERO, Expression, Symbol
from winnow.explain.functions import exp, log

REWARD = Symbol("r", "r", "rewards", "the reward of a sample")
CORRECT = Symbol("correct", r"\mathrm{correct}", "correct", "whether the sample is a success")
TRUNCATED = Symbol("cut off", r"\mathrm{cut\ off}", "truncated", "whether the sample ended at rollout.max_tokens")
PENALTY = Symbol("κ", r"\kappa", "penalty", "the KL penalty of the sample, β · Σ_t of its estimates")
LENGTH = Symbol("|a|", "|a|", "lengths", "the number of tokens of a response")

LOGP = Symbol("log π(a_t)", r"\log\pi(a_t)", "logprobs", "log-probability of a token under the present policy")
LOGP_OLD = Symbol(
    "log π_old(a_t)", r"\log\pi_{\mathrm{old}}(a_t)", "old", "log-probability under the policy before the updates"
)
PI = Symbol("π(a_t)", r"\pi(a_t)", "", "probability of a token under the present policy", exp(LOGP))
PI_OLD = Symbol(
    "π_old(a_t)",
    r"\pi_{\mathrm{old}}(a_t)",
    "",
    "probability under the policy before the iteration's updates",
    exp(LOGP_OLD),
)
LOGP_OF_SAMPLER = Symbol("log μ(a_t)", r"\log\mu(a_t)", "sampled", "log-probability of the token under the sampler")
MU = Symbol(
    "μ(a_t)",
    r"\mu(a_t)",
    "",
    "probability under the sampler, which is π_old(a_t) where the sampler is exact",
    exp(LOGP_OF_SAMPLER),
)
PI_OF_RESPONSE = Symbol("π(a)", r"\pi(a)", "", "probability of the whole response", exp(total(LOGP, TOKENS)))
PI_OLD_OF_RESPONSE = Symbol(
    "π_old(a)",
    r"\pi_{\mathrm{old}}(a)",
    "",
    "the same under the policy before the iteration's updates",
    exp(total(LOGP_OLD, TOKENS)),
)
RESPONSE_LENGTH = Symbol("|a|", "|a|", "", "the number of tokens of a response", total(1.0, TOKENS))

ROWS = Symbol("|D|", "|D|", "", "the number of samples of D", total(1.0, BATCH))
LOGP_REF = Symbol("log π_ref(a_t)", r"\log\pi_{\mathrm{ref}}(a_t)", "ref", "log-probability under the reference policy")
ENTROPY = Symbol("H_t", "H_t", "entropies", "entropy of the policy's distribution at the token")
ENTROPY_COEF = Symbol("c", "c", "entropy_coef", "coefficient of the entropy bonus")
WEIGHT = Symbol("w_t", "w_t", "weight", "weight of the token's advantage, without a gradient")
SAMPLED_ENTROPY = Symbol("h_t", "h_t", "entropies", "entropy of the sampler's distribution at the token")
SAMPLED_LOGP = Symbol("log μ(a_t)", r"\log\mu(a_t)", "logprobs", "log-probability of the token under the sampler")
CHOSEN_TOKEN = Symbol("M_t", "M_t", "chosen_tokens", "1 where the token keeps its advantage, else 0")
SELECTED = Symbol("a∈K", r"a \in K", "selected", "whether algo.select keeps the sample")

LOG_CHANGE = log(PI / PI_OLD)
"""log π(a_t)/π_old(a_t), of which the importance ratio is the exponential."""

RATIO = Symbol("s_t", "s_t", "ratio", "importance ratio of the present policy to the one that drew the samples")
ADVANTAGE = Symbol("A", "A", "advantage", "advantage of the sample")
TRAINER_OVER_SAMPLER = Symbol("ρ_t", r"\rho_t", "ratio", "π_old(a_t) of the trainer's forward over that of the sampler")
LOG_RATIO_TO_REFERENCE = Symbol("Δ_t", r"\Delta_t", "delta", "log-ratio to the reference", LOGP - LOGP_REF)
TOKEN_REWARD = Symbol("r_t", "r_t", "rewards", "the reward at the last token, 0 at the others")
VALUE = Symbol("V_t", "V_t", "values", "the critic's value before the update")
RETURN = Symbol("R_t", "R_t", "returns", "the return, A_t + V_t before whitening")
INSIDE = Symbol("", "", "response")
NEW_VALUE = Symbol("v_t", "v_t", "values", "the critic's value")
OLD_VALUE = Symbol("V_t", "V_t", "old", "the critic's value before the update")
TOKEN_ADVANTAGE = Symbol("A_t", "A_t", "advantages", "advantage of the token")
LOG_RATIO = Symbol("L(a)", "L(a)", "log_ratio", "log-ratio of the response to the reference policy")
CHOSEN_SCORE = Symbol("s(a⁺)", "s(a^+)", "chosen", "score of the chosen response")
REJECTED_SCORE = Symbol("s(a⁻)", "s(a^-)", "rejected", "score of the rejected response")
CHOSEN_LENGTH = Symbol("|a⁺|", "|a^+|", "chosen_lengths", "tokens of the chosen response")
REJECTED_LENGTH = Symbol("|a⁻|", "|a^-|", "rejected_lengths", "tokens of the rejected response")

PART = Symbol("r_m", "r_m", "parts", "the reward of function m")
PART_WEIGHT = Symbol("ω_m", r"\omega_m", "weights", "the weight of function m")
SAMPLE: dict[str, Expression] = {"correct": CORRECT, "truncated": TRUNCATED, "lengths": LENGTH}

OFFERED: dict[str, Mapping[str, Expression]] = {
    "select": {"rewards": REWARD, "parts": PART, "weights": PART_WEIGHT, **SAMPLE},
    "advantage": {"rewards": REWARD, "penalty": ZERO, "parts": PART, "weights": PART_WEIGHT, **SAMPLE},
    "gae": {"rewards": TOKEN_REWARD, "values": VALUE},
    "whiten": {"advantages": TOKEN_ADVANTAGE},
    "ratio": {"logprobs": LOGP, "old": LOGP_OLD, "advantage": ADVANTAGE},
    "clip": {"ratio": RATIO, "advantage": ADVANTAGE, "logprobs": LOGP, "old": LOGP_OLD, "sampled": LOGP_OF_SAMPLER},
    "aggregate": {"lengths": LENGTH},
    "correction": {"ratio": TRAINER_OVER_SAMPLER, "advantage": ADVANTAGE},
    "tokens": {"entropies": SAMPLED_ENTROPY, "logprobs": SAMPLED_LOGP, "advantage": ADVANTAGE},
    "kl": {"delta": LOG_RATIO_TO_REFERENCE},
    "value": {"values": NEW_VALUE, "old": OLD_VALUE, "returns": RETURN},
    "preference": {
        "chosen": CHOSEN_SCORE,
        "rejected": REJECTED_SCORE,
        "chosen_lengths": CHOSEN_LENGTH,
        "rejected_lengths": REJECTED_LENGTH,
    },
    "divergence": {"log_ratio": LOG_RATIO},
}
"""The symbols that builders of each axis get, by the names in the signatures of its rules."""
