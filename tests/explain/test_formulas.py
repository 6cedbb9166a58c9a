"""Every printed formula is computed beside the function that it describes: equal values, equal gradients."""

import inspect
import math
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient, Preference
from winnow.config.compose import CONF
from winnow.config.explanation import named_algorithms
from winnow.config.groups import option_at
from winnow.explain import Formula, domains, formula, functions, registry
from winnow.explain.domains import GROUP, TOKENS, mean, total
from winnow.explain.expression import Expression, Symbol
from winnow.explain.functions import clamp, either, exp, maximum, sqrt, stop
from winnow.explain.notation import LATEX, UNICODE
from winnow.explain.numeric import evaluate
from winnow.explain.objective import explained
from winnow.explain.proof import called, prove, prove_loss, samples, tokens
from winnow.explain.registry import built, with_settings
from winnow.explain.symbols import PENALTY
from winnow.explain.text import formulas, latex_text, unicode_text
from winnow.objectives import KL, no_kl
from winnow.ops import advantage, aggregate, clip, kl, preference, ratio, select, value
from winnow.ops import tokens as tokens_ops
from winnow.rule import reads, rule_of

AXES = ("select", "advantage", "ratio", "clip", "aggregate", "kl", "correction", "tokens", "preference", "divergence")
RULES = [path for axis in AXES for path in sorted((CONF / "algo" / axis).glob("*.yaml")) if path.stem != "none"]
NONE = [CONF / "algo" / axis / "none.yaml" for axis in ("ratio", "clip", "correction")]


def rule_at(path: Path) -> tuple[str, registry.Rule]:
    """The axis and the rule of a YAML, with the YAML's settings."""
    node = OmegaConf.create({"rollout": {"max_tokens": 64}, "rule": option_at(path)}).rule
    rule = instantiate(node)
    if path.parent.name == "preference":
        settings = {"beta": 0.1, "smoothing": 0.1}
        return "preference", with_settings(rule, **{name: of for name, of in settings.items() if reads(rule, name)})
    if isinstance(rule, KL):
        return "kl", rule.estimator
    critic = "values" in inspect.signature(rule_of(rule)).parameters
    return "gae" if critic else path.parent.name, rule


@pytest.mark.parametrize("path", [*RULES, *NONE], ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_rule_of_the_configuration_has_a_formula_that_agrees_with_it(path: Path):
    axis, rule = rule_at(path)
    found = built(axis, rule)
    assert found is not None, f"{rule_of(rule).__name__}: write its formula in winnow/explain (docs/explain.md)"
    assert prove(axis, rule, found).holds


OTHER_SETTINGS = [
    ("advantage", partial(advantage.group, centre=centre, scale=scale))
    for centre in ("none", "mean", "leave_one_out")
    for scale in ("none", "std")
] + [
    ("gae", partial(advantage.gae, gamma=0.9, lam=0.95)),
    ("whiten", advantage.whiten_tokens),
    ("select", partial(select.extremes, pairs=2)),
    ("clip", partial(clip.dual, low=0.2, high=0.3, c=1.0)),
    ("clip", partial(clip.cispo, low=0.3, high=0.2)),
    ("correction", partial(ratio.masked, cap=1.2)),
    ("value", partial(value.clipped_value_loss, clip=0.5)),
    ("preference", partial(preference.sigmoid, beta=0.1)),
    ("tokens", partial(tokens_ops.low_covariance, share=0.3)),
    ("advantage", partial(advantage.batch, spread="advantages")),
    *(("advantage", partial(advantage.pass_at_k, k=k)) for k in (1, 5, 6, 32)),
    ("clip", partial(clip.dppo, low=0.02, high=0.03, cap=1.3, divergence="kl")),
    ("clip", partial(clip.dppo, low=0.1, high=0.1, cap=1.3, divergence="tv")),
    ("clip", partial(clip.stale_negatives_left_out, low=0.2, high=0.2, delta=0.01)),
    ("correction", partial(ratio.sequence_truncated, cap=0.9)),
    ("correction", partial(ratio.sequence_masked, cap=1.5)),
    ("correction", partial(ratio.geometric_masked, cap=1.1, floor=0.9)),
    ("correction", partial(ratio.trust_region_masked, delta=0.1)),
    ("correction", partial(ratio.negative_rows_masked, delta=0.01)),
]


@pytest.mark.parametrize(("axis", "rule"), OTHER_SETTINGS)
def test_formulas_agree_under_other_settings(axis: str, rule: registry.Rule):
    found = built(axis, rule)
    assert found is not None
    assert prove(axis, rule, found).holds


@pytest.mark.parametrize(
    "rule", [rule for axis, rule in OTHER_SETTINGS if axis == "advantage" and reads(rule, "penalty")]
)
def test_formulas_agree_where_a_kl_term_is_subtracted_from_rewards(rule: registry.Rule):
    found = built("advantage", rule, {"penalty": PENALTY})
    assert found is not None
    assert "κ" in UNICODE.text(found.value)
    assert prove("advantage", rule, found).holds


TERMS = [
    KL(kl.k1, 0.3),
    KL(kl.k2, 0.3, clamp=0.2),
    KL(kl.k3, 0.3, reference="previous"),
    KL(kl.k3, 0.3, weight="ratio"),
    KL(kl.k3, 0.3, place="reward"),
]


NAMED = named_algorithms()


@pytest.mark.parametrize(
    ("name", "term"),
    [*((name, None) for name in sorted(NAMED)), *((name, term) for name in ("raft", "gspo", "ppo") for term in TERMS)],
)
def test_the_formula_of_the_whole_loss_agrees_with_the_objective(name: str, term: KL | None):
    node = OmegaConf.create({"rollout": {"max_tokens": 64}, "algo": NAMED[name]}).algo
    algorithm = instantiate(node, _convert_="all")
    if not isinstance(algorithm, PolicyGradient | ActorCritic):
        return
    if term is not None and term.place == "reward" and not reads(algorithm.advantage, "penalty"):
        return
    if term is not None and term.place == "reward" and rule_of(algorithm.advantage) is advantage.one:
        return
    settings = {name: getattr(algorithm, name) for name in algorithm.__dataclass_fields__} | {
        "kl": term,
        "entropy": 0.2,
    }
    algorithm = type(algorithm)(**settings)
    found = explained(algorithm)
    proof = prove_loss(algorithm.objective, algorithm.aggregate, found.losses[0][1])
    assert proof.holds, (formulas(found), proof)


def test_the_proof_finds_a_wrong_constant_and_a_wrong_gradient():
    rule = partial(clip.ppo, low=0.2, high=0.2)
    wrong = built("clip", partial(clip.ppo, low=0.2, high=0.21))
    assert wrong is not None
    assert not prove("clip", rule, wrong).holds
    right = built("clip", rule)
    assert right is not None
    proof = prove("clip", rule, Formula(stop(right.value)))
    assert proof.value <= 1e-12 < proof.gradient


def test_the_inputs_of_proofs_hold_ties_and_both_sides_of_every_bound():
    """A formula that is compared only where its branches do not differ would be no proof."""
    given = samples(1)
    tied = (given["rewards"] == given["rewards"][:, :1]).all(1)
    assert tied.any()
    assert not tied.all()
    ratios = torch.cat([tokens(seed)["ratio"].flatten() for seed in range(12)])
    signs = torch.cat([tokens(seed)["advantage"].flatten() for seed in range(12)])
    for sign in (-1, 1):
        of = ratios[signs.sign() == sign]
        assert min((of < 0.8).sum(), (of > 1.2).sum(), ((of > 0.8) & (of < 1.2)).sum()) > 20


A, S = Symbol("A", "A", "advantage"), Symbol("s", "s", "ratio")


@pytest.mark.parametrize(
    ("written", "unicode", "latex"),
    [
        (A - (S - A), "A − (s − A)", r"A - \left(s - A\right)"),
        (A - S + A, "A − s + A", r"A - s + A"),
        ((A + S) * A, "(A + s)·A", r"\left(A + s\right) \, A"),
        (A / (S * A), "A/(s·A)", r"\frac{A}{s \, A}"),
        (-(A + S), "−(A + s)", r"-\left(A + s\right)"),
        (total(A, TOKENS) * S, "(Σ_t A)·s", r"\left(\sum_{t} A\right) \, s"),
        (1 / A * total(S, TOKENS) * A, "(1/A Σ_t s)·A", r"\left(\frac{1}{A} \sum_{t} s\right) \, A"),
        (total(A + S, TOKENS), "Σ_t (A + s)", r"\sum_{t} \left(A + s\right)"),
        (mean(A + S, GROUP), "mean_G(A + s)", r"\operatorname{mean}_{G}\left(A + s\right)"),
        ((A * S) ** 2, "(A·s)²", r"\left(A \, s\right)^{2}"),
        ((-A) ** 2, "(−A)²", r"\left(-A\right)^{2}"),
        (1e-6 * A, "1e-06·A", r"10^{-6} \, A"),
        (-0.5 * A, "−0.5·A", r"-0.5 \, A"),
        (1 * A + 0, "A", "A"),
        (maximum(A, -math.inf), "A", "A"),
        (exp(-A), "exp(−A)", r"\exp\left(-A\right)"),
        (~((A < 0) & (S >= 1)), "¬(A < 0 ∧ s ≥ 1)", r"\neg \left(A < 0 \wedge s \ge 1\right)"),
    ],
)
def test_texts_have_the_parentheses_that_they_need(written: Expression, unicode: str, latex: str):
    assert UNICODE.text(written) == unicode
    assert LATEX.text(written) == latex


def grpo(**changed) -> PolicyGradient:
    settings = {
        "select": select.all_samples,
        "advantage": advantage.group,
        "ratio": ratio.token,
        "clip": partial(clip.ppo, low=0.2, high=0.2),
        "aggregate": aggregate.sequence_mean,
        "kl": no_kl(),
        "correction": ratio.uncorrected,
        "entropy": 0.0,
        "rejected": "drop",
    }
    return PolicyGradient(**settings | changed)


def test_an_advantage_of_one_and_a_bound_that_is_none_leave_the_formula():
    found = formulas(explained(grpo(advantage=advantage.one, select=select.best)))
    assert found[0] == "loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t min(s_t, clip(s_t, 0.8, 1.2))"
    assert "D = {a : correct ∧ r = max_G(r | correct)}" in found


def test_rejected_samples_that_stay_have_an_advantage_of_zero():
    found = formulas(explained(grpo(select=select.mixed_prompts, rejected="zero")))
    assert "A = 1[a∈K]·(r − mean_G(r))/(std_G(r) + 1e-06)" in found
    assert "D = all samples of the optimiser batch" in found


def test_tokens_that_are_chosen_keep_their_advantage():
    found = explained(grpo(tokens=partial(tokens_ops.top_entropy, share=0.2)))
    assert formulas(found)[0] == "loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t min(s_t·M_t·A, clip(s_t, 0.8, 1.2)·M_t·A)"
    assert "M_t = 1[h_t ≥ q]" in formulas(found)
    assert "the lowest h_t among the 20 % of all tokens of the iteration's batch where it is highest" in unicode_text(
        found
    )


def test_truncated_samples_that_are_dropped_are_not_in_d():
    assert "D = {a : ¬cut off}" in formulas(explained(grpo(truncated="drop")))
    found = formulas(explained(grpo(truncated="drop", select=select.positive, rejected="zero")))
    assert "K = {a : correct ∧ ¬cut off}" in found


def cubed(ratio: Tensor, advantage: Tensor, at: float) -> Tensor:
    """The cube of the bounded ratio, times the advantage. More words follow."""
    return ratio.clamp(max=at) ** 3 * advantage


def test_a_rule_without_a_formula_is_shown_by_name_settings_and_docstring():
    found = formulas(explained(grpo(clip=partial(cubed, at=2.0))))
    assert found[0] == "loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t surrogate_t"
    assert "surrogate_t = cubed(s_t, A; at=2.0): The cube of the bounded ratio, times the advantage" in found
    text = unicode_text(explained(grpo(clip=partial(cubed, at=2.0))))
    assert "\n  clip: cubed has no formula\n" in f"{text}\n"
    assert "the formulas above differ by at most" in text
    assert "surrogate" in latex_text(explained(grpo(clip=partial(cubed, at=2.0))))


@pytest.fixture
def own_formula(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "BUILDERS", dict(registry.BUILDERS))
    return formula(cubed)


def test_a_rule_brings_its_own_formula(own_formula):
    own_formula(lambda ratio, advantage, at: clamp(ratio, 0, at) ** 3 * advantage)
    found = formulas(explained(grpo(clip=partial(cubed, at=2.0))))
    assert found[0] == "loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t clip(s_t, 0, 2)^3·A"


def test_a_formula_that_does_not_agree_with_its_rule_is_not_shown(own_formula):
    own_formula(lambda ratio, advantage, at: clamp(ratio, 0, at) ** 2 * advantage)
    text = unicode_text(explained(grpo(clip=partial(cubed, at=2.0))))
    assert "cubed(s_t, A; at=2.0)" in text
    told = re.search(r"clip: the formula of cubed is left out: it does not agree with it, but differs by (\S+)", text)
    shown = re.search(r"the formulas above differ by at most (\S+)", text)
    assert told is not None
    assert shown is not None
    assert float(told[1]) > 0.1
    assert float(shown[1]) < 1e-12


def test_a_formula_that_cannot_be_computed_does_not_end_a_run(own_formula):
    own_formula(lambda ratio, advantage, at: clamp(ratio, 0, at) ** advantage.missing)
    text = unicode_text(explained(grpo(clip=partial(cubed, at=2.0))))
    assert "the formula of cubed is left out: it cannot be computed: AttributeError" in text


def test_a_rule_in_words_is_shown_with_the_quantities_that_it_reads():
    def from_sampler(ratio: Tensor, advantage: Tensor, sampled: Tensor, *, response: Tensor, width: float) -> Tensor:
        return ratio * advantage * response + 0 * sampled * width

    text = unicode_text(explained(grpo(clip=partial(from_sampler, width=0.2), advantage=advantage.one)))
    assert "from_sampler(s_t, 1, log μ(a_t); width=0.2)\n" in text
    assert "log μ(a_t)  log-probability of the token under the sampler" in text


def by_the_root(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Each response by the root of its length."""
    return lengths.double().rsqrt(), lengths.double().sqrt()


def test_a_mean_of_ones_own_is_shown_with_its_denominator(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "BUILDERS", dict(registry.BUILDERS))
    algorithm = grpo(aggregate=by_the_root, clip=clip.unclipped)
    found = explained(algorithm)
    assert formulas(found)[0] == "loss = −1/(Σ_{a∈D} count(a)) Σ_{a∈D} weight(a) Σ_t s_t·A"
    assert "weight(a), count(a) = by_the_root(|a|): Each response by the root of its length" in formulas(found)
    assert "count(a)    the response's part of the denominator" in unicode_text(found)
    formula(by_the_root)(lambda lengths: Formula(1 / sqrt(lengths), count=lengths))
    assert "by_the_root is left out: it does not agree with it" in unicode_text(explained(algorithm))
    formula(by_the_root)(lambda lengths: 1 / sqrt(lengths))
    assert "its builder has to return Formula(weight, count=…)" in unicode_text(explained(algorithm))
    formula(by_the_root)(lambda lengths: Formula(1 / sqrt(lengths), count=sqrt(lengths)))
    found = explained(algorithm)
    assert formulas(found)[0] == "loss = −1/(Σ_{a∈D} √(|a|)) Σ_{a∈D} 1/√(|a|) Σ_t s_t·A"
    assert prove_loss(algorithm.objective, by_the_root, found.losses[0][1]).holds


def test_a_builder_is_written_with_the_operators_of_python():
    given = {"advantage": torch.tensor([-2.0, 0.5, 3.0]), "ratio": torch.tensor([0.5, 1.0, 2.0])}
    a, s = given["advantage"].double(), given["ratio"].double()
    for written, expected in (
        (abs(A), abs(a)),
        (-A + 1, 1 - a),
        (2**S, 2**s),
        (A**2 / 2 - S**3, a**2 / 2 - s**3),
        (either((A > 0) & ~(S >= 2) | (A <= -1), +A, 1 - S), torch.where((a > 0) & (s < 2) | (a <= -1), a, 1 - s)),
    ):
        assert torch.equal(evaluate(written, given), expected)
    assert (UNICODE.text(abs(A - S)), LATEX.text(abs(A))) == ("|A − s|", r"\left|A\right|")
    for wrong in (lambda: max(A, S), lambda: A if A > 0 else S, lambda: A > 0 and S > 0):
        with pytest.raises(TypeError, match="neither true nor false"):
            wrong()


def test_the_page_lists_all_functions_of_formulas():
    page = (Path(__file__).parents[2] / "docs/explain.md").read_text()
    for module in (functions, domains):
        own = [name for name, of in vars(module).items() if getattr(of, "__module__", "") == module.__name__]
        for name in own:
            assert name.startswith("_") or re.search(rf"`{name}[`(]", page), f"docs/explain.md: list {name}"


@pytest.mark.parametrize("rule", [ratio.token, ratio.sequence, ratio.sequence_product])
def test_beyond_its_bound_a_ratio_is_a_constant(rule: registry.Rule):
    """The note below each formula of a ratio, whatever the clipping."""
    logprobs = torch.full((1, 1), 30.0, dtype=torch.float64, requires_grad=True)
    result = rule(logprobs, torch.zeros(1, 1).double(), torch.ones(1, 1).bool())
    assert isinstance(result, Tensor)
    (slope,) = torch.autograd.grad(result.sum(), logprobs)
    assert (float(result.detach().log()), float(slope)) == (20.0, 0.0)
    assert "kept within ±20; beyond, the ratio is a constant" in unicode_text(explained(grpo(ratio=rule)))


def test_pairs_are_a_set_with_a_name_of_its_own():
    settings = (select.extremes, preference.sppo, preference.reverse_kl, 0.1, 0.0, "initial")
    found = explained(Preference(*settings))
    assert formulas(found)[1].startswith("pairs = {(a⁺, a⁻) : rank↓(a⁺) = rank↑(a⁻)")
    assert r"\mathrm{pairs} &= \left\{(a^+, a^-) : \operatorname{rank}^{\downarrow}(a^+)" in latex_text(found)


@dataclass
class HalfOf:
    """Half of what is below_the_bound."""

    bound: float

    def __call__(self, ratio: Tensor, advantage: Tensor) -> Tensor:
        return ratio.clamp(max=self.bound) * advantage / 2


def test_an_object_that_is_called_like_a_rule_is_shown_by_its_class():
    found = explained(grpo(clip=HalfOf(2.0)))
    assert "surrogate_t = HalfOf(s_t, A): Half of what is below_the_bound" in formulas(found)
    assert "HalfOf" in unicode_text(found)
    assert r"\text{HalfOf(s\_t, A): Half of what is below\_the\_bound}" in latex_text(found)


def test_a_rule_is_called_with_the_quantities_that_it_names():
    def lengths_matter(rewards: Tensor, lengths: Tensor, times: float) -> Tensor:
        return times * rewards * lengths

    given = samples(0)
    result = called("advantage", partial(lengths_matter, times=2.0), given)
    assert isinstance(result, Tensor)
    assert torch.equal(result, 2 * given["rewards"] * given["lengths"])


def test_the_objective_of_proofs_is_the_one_that_trains():
    """The loss of a proof has every term in it: without one of them the comparison fails."""
    algorithm = grpo(kl=KL(kl.k2, 0.3), entropy=0.2)
    loss = explained(algorithm).losses[0][1]
    assert prove_loss(algorithm.objective, aggregate.sequence_mean, loss).holds
    assert not prove_loss(algorithm.objective, aggregate.token_mean, loss).holds
    mine = algorithm.objective
    for other in (
        replace(mine, kl=None),
        replace(mine, entropy=0.0),
        replace(mine, ratio=ratio.sequence),
        replace(mine, clip=clip.unclipped),
    ):
        assert not prove_loss(other, aggregate.sequence_mean, loss).holds
