"""Formulas of whole algorithms, composed from those of their rules as `winnow.objectives` composes the functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, PolicyUpdate, Preference, Supervised
from winnow.explain.domains import BATCH, PAIR_BATCH, TOKENS, mean, total
from winnow.explain.expression import ONE, TRUE, ZERO, Constant, Expression, Over, Symbol, printed, walk
from winnow.explain.functions import clamp, indicator
from winnow.explain.notation import UNICODE
from winnow.explain.proof import Proof, prove
from winnow.explain.registry import Formula, Rule, built, name_of, settings_of, with_settings
from winnow.explain.sources import first_line, source_of
from winnow.explain.symbols import (
    ADVANTAGE,
    CHOSEN_TOKEN,
    ENTROPY,
    ENTROPY_COEF,
    LOG_RATIO,
    LOG_RATIO_TO_REFERENCE,
    LOGP,
    LOGP_REF,
    OFFERED,
    PENALTY,
    PI,
    PI_OLD,
    RATIO,
    RESPONSE_LENGTH,
    ROWS,
    SELECTED,
    TOKEN_ADVANTAGE,
    TOKEN_REWARD,
    TRUNCATED,
    WEIGHT,
)
from winnow.objectives import KL, AdaptiveEntropy, ReferenceKind, Sync
from winnow.ops.advantage import whiten_tokens
from winnow.ops.value import clipped_value_loss
from winnow.rule import AXES, reads, rule_of


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of the objective: its formula, and the rule with its settings and source behind it.

    Without a formula, `said` describes the rule in words, which is called with the quantities `given`, and `lacking`
    says why there is none. `axis` is where the configuration chooses the rule.
    """

    name: Symbol
    formula: Expression | None
    axis: str
    rule: Rule | None = None
    said: str = ""
    given: tuple[Expression, ...] = ()
    lacking: str = ""
    notes: tuple[str, ...] = ()
    slope: Expression | None = None
    proof: Proof | None = None

    @property
    def function(self) -> str:
        return "" if self.rule is None else f"{rule_of(self.rule).__module__}.{name_of(self.rule)}"

    @property
    def settings(self) -> dict[str, object]:
        return {} if self.rule is None else settings_of(self.rule)

    @property
    def source(self) -> str:
        return "" if self.rule is None else source_of(self.rule)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The formula of an algorithm: its losses, which are to be minimised, and the terms that they are made of."""

    losses: tuple[tuple[Symbol, Expression], ...]
    terms: tuple[Term, ...]

    @property
    def legend(self) -> dict[str, Symbol]:
        """The symbols in the formulas that are no term of their own, by their Unicode names."""
        named = {term.name.unicode for term in self.terms} | {name.unicode for name, _ in self.losses}
        formulas = [loss for _, loss in self.losses] + [term.formula for term in self.terms if term.formula is not None]
        formulas += [quantity for term in self.terms for quantity in term.given]
        symbols = [node for formula in formulas for node in printed(formula) if isinstance(node, Symbol)]
        return {symbol.unicode: symbol for symbol in symbols if symbol.unicode not in named and symbol.meaning}

    @property
    def domains(self) -> list[str]:
        """The meanings of the domains that the terms sum or average over."""
        formulas = [term.formula for term in self.terms if term.formula is not None]
        found = [node.domain.meaning for formula in formulas for node in printed(formula) if isinstance(node, Over)]
        return list(dict.fromkeys(found))


LOSS = Symbol("loss", r"\mathcal{L}", "")
VALUE_LOSS = Symbol("value loss", r"\mathcal{L}_V", "")
KEPT = Symbol("D", "D", "")
SELECTION = Symbol("K", "K", "")
PAIRS = Symbol("pairs", r"\mathrm{pairs}", "")
KL_TERM = Symbol("KL_t", r"\mathrm{KL}_t", "kl")
PLAIN_ADVANTAGE = Symbol("Â_t", r"\hat A_t", "advantages", "advantage before whitening")
DELTA = Symbol("δ_t", r"\delta_t", "")
SURROGATE = Symbol("surrogate_t", r"\mathrm{surrogate}_t", "surrogate")
VALUE_TERM = Symbol("critic_t", r"\mathrm{critic}_t", "critic")
SCORE = Symbol("s(a)", "s(a)", "score")
PAIR_LOSS = Symbol("pair", r"\mathrm{pair}", "pair")
AGGREGATION = Symbol("weight(a), count(a)", r"\mathrm{weight}(a), \mathrm{count}(a)", "")
ROW_WEIGHT = Symbol("weight(a)", r"\mathrm{weight}(a)", "row_weight", "the weight of the response's tokens")
ROW_COUNT = Symbol("count(a)", r"\mathrm{count}(a)", "row_count", "the response's part of the denominator")
COULD_NOT = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, ArithmeticError)
REFERENCES: dict[ReferenceKind, str] = {
    "initial": "the initial model",
    "previous": "the policy before the iteration's updates",
    "synced": "the initial model, whose weights become {share:g} · π + {rest:g} · π_ref every {every} iterations",
}


def explained(algorithm: Algorithm) -> Explanation:
    """The formula of an algorithm, from the functions and settings that it is composed of."""
    match algorithm:
        case Preference():
            return _preference(algorithm)
        case Supervised():
            aggregation, row = _aggregation(algorithm.aggregate)
            said = "the demonstrations of an optimiser batch"
            terms = (Term(KEPT, None, "dataset", said=said), aggregation)
            return Explanation(((LOSS, -_summed(LOGP, row)),), terms)
        case PolicyGradient() | ActorCritic():
            return _policy(algorithm)


def term_of(name: Symbol, axis: str, rule: Rule, section: str, **quantities: Expression) -> Term:
    """The term that a rule makes, with its formula if it has one that agrees with it, or else in words."""
    given = tuple(_given(axis, rule, {**OFFERED[axis], **quantities}))
    in_words = Term(name, None, section, rule, said=_in_words(rule, given), given=given)
    try:
        found = built(axis, rule, quantities)
        plain = built(axis, rule, {name: symbol for name, symbol in quantities.items() if symbol == PENALTY})
        proof = None if plain is None else prove(axis, rule, plain)
    except COULD_NOT as error:  # of a plug-in's formula: a run must not end because of it
        why = f"the formula of {name_of(rule)} is left out: it cannot be computed: {type(error).__name__}: {error}"
        return replace(in_words, lacking=" ".join(why.split()))
    if found is None or proof is None:
        return replace(in_words, lacking=f"{name_of(rule)} has no formula")
    if not proof.holds:
        why = (
            f"the formula of {name_of(rule)} is left out: it does not agree with it, but differs by {proof.largest:.0e}"
        )
        return replace(in_words, lacking=why)
    return Term(name, found.value, section, rule, notes=found.notes, slope=found.slope, proof=proof)


def _built_or_none(axis: str, rule: Rule) -> Formula | None:
    """The formula of a rule; None where it has none, or one that cannot be built."""
    try:
        return built(axis, rule)
    except COULD_NOT:
        return None


def _given(axis: str, rule: Rule, quantities: Mapping[str, Expression]) -> Iterator[Expression]:
    """The quantities that a rule is called with, by position and then by name; masks and the like have no symbol."""
    by_position = AXES[axis].by_position if axis in AXES else ()
    others = [name for name in quantities if name not in by_position and reads(rule, name)]
    for name in (*by_position, *others):
        if name in quantities and quantities[name] != ZERO:
            yield quantities[name]


def _in_words(rule: Rule, given: Sequence[Expression]) -> str:
    """The call of a rule, as `hill(s_t, A; width=0.2)`, and the first sentence of its docstring."""
    settings = ", ".join(f"{name}={value}" for name, value in settings_of(rule).items())
    arguments = "; ".join(part for part in (", ".join(map(UNICODE.text, given)), settings) if part)
    called = f"{name_of(rule)}({arguments})"
    return f"{called}: {said}" if (said := first_line(rule)) else called


def _named(term: Term) -> Symbol:
    """The term's symbol, defined by its formula."""
    return replace(term.name, definition=term.formula)


def _policy(algorithm: PolicyGradient | ActorCritic) -> Explanation:
    objective, terms = algorithm.objective, list(_selection(algorithm))
    advantage_terms = list(_advantages(algorithm))
    advantage = advantage_terms[-1]
    factor = advantage.formula if isinstance(advantage.formula, Constant) else advantage.name
    if algorithm.uses_correction:  # before the choice of tokens, whose rule may read the corrected advantages
        weight = term_of(WEIGHT, "correction", algorithm.correction, "correction")
        advantage_terms.append(weight)
        factor = WEIGHT * factor
    if algorithm.chooses_tokens:
        chosen = term_of(CHOSEN_TOKEN, "tokens", algorithm.tokens, "tokens", advantage=factor)
        if chosen.formula is not None:
            chosen = replace(chosen, formula=indicator(chosen.formula))
        advantage_terms.append(chosen)
        factor = CHOSEN_TOKEN * factor
    ratio = term_of(_ratio_symbol(algorithm.ratio), "ratio", algorithm.ratio, "ratio", advantage=factor)
    quantity = _named(ratio) if objective.uses_ratio else LOGP
    clip = term_of(SURROGATE, "clip", algorithm.clip, "clip", ratio=quantity, advantage=factor)
    inner: Expression = SURROGATE if clip.formula is None else clip.formula
    kl_terms = [] if algorithm.kl is None else list(_penalty(algorithm.kl, isinstance(algorithm, ActorCritic)))
    if (kl := objective.kl_in_loss) is not None:
        inner = inner - kl.coef * _named(kl_terms[-1])
    moving = [] if (adaptive := objective.adaptive_entropy) is None else [_moving(adaptive)]
    inner = inner + (ENTROPY_COEF if moving else objective.entropy_coef) * ENTROPY
    terms += [*advantage_terms, *([ratio] if objective.uses_ratio else []), clip, *kl_terms, *moving]
    aggregation, row = _aggregation(algorithm.aggregate)
    losses = [(LOSS, -_summed(inner, row))]
    if isinstance(algorithm, ActorCritic):
        value = term_of(VALUE_TERM, "value", partial(clipped_value_loss, clip=algorithm.value_clip), "value_clip")
        assert value.formula is not None
        losses.append((VALUE_LOSS, _summed(value.formula, row)))
        terms.append(value)
    return Explanation(tuple(losses), (*terms, aggregation))


def _moving(entropy: AdaptiveEntropy) -> Term:
    """The coefficient of the entropy bonus that moves from iteration to iteration."""
    said = (
        f"0 in an iteration whose samples have more than {entropy.target:g} nats of entropy a token; it begins at "
        f"{entropy.start:g}, moves after each iteration by {entropy.step:g}, up at or below this entropy, else down, "
        f"and stays from {entropy.low:g} to {entropy.high:g}"
    )
    return Term(ENTROPY_COEF, None, "entropy", said=said)


def _ratio_symbol(rule: Rule) -> Symbol:
    """s_t, or s where one ratio holds for the whole response."""
    found = _built_or_none("ratio", rule)
    of_response = found is not None and any(isinstance(node, Over) for node in walk(found.value))
    return Symbol("s", "s", "ratio", RATIO.meaning) if of_response else RATIO


def _aggregation(rule: Rule) -> tuple[Term, Formula]:
    """The aggregation as a term, and the formula of a row's weight and count that stands in the loss."""
    term = term_of(AGGREGATION, "aggregate", rule, "aggregate")
    found = built("aggregate", rule, {"lengths": RESPONSE_LENGTH}) if term.formula is not None else None
    return term, Formula(ROW_WEIGHT, count=ROW_COUNT) if found is None else found


def _summed(inner: Expression, row: Formula) -> Expression:
    """1/Σ_a count Σ_a weight Σ_t inner, over the samples a of the optimiser batch."""
    count = row.count
    assert count is not None
    size = ROWS if count == ONE else ROWS * count if isinstance(count, Constant) else total(count, BATCH)
    return 1 / size * total(row.value * total(inner, TOKENS), BATCH)


def _keeps_all(algorithm: PolicyUpdate) -> bool:
    found = _built_or_none("select", algorithm.select)
    return found is not None and found.value == TRUE and algorithm.truncated == "keep"


def _selection(algorithm: PolicyUpdate) -> Iterator[Term]:
    drops = algorithm.rejected == "drop" or _keeps_all(algorithm)
    found = term_of(KEPT if drops else SELECTION, "select", algorithm.select, "select")
    if algorithm.truncated == "drop" and found.formula is not None:
        found = replace(found, formula=found.formula & ~TRUNCATED)
    yield found
    if not drops:
        yield Term(KEPT, TRUE, "rejected", said="")


def _advantages(algorithm: PolicyGradient | ActorCritic) -> Iterator[Term]:
    """The advantage, last, after the terms that it is made of."""
    shaped = algorithm.objective.kl_in_reward is not None
    if isinstance(algorithm, PolicyGradient):
        penalty = {"penalty": PENALTY} if shaped else {}
        found = term_of(ADVANTAGE, "advantage", algorithm.advantage, "advantage", **penalty)
    else:
        name = PLAIN_ADVANTAGE if algorithm.whiten else TOKEN_ADVANTAGE
        kl = algorithm.objective.kl_in_reward
        rewards = TOKEN_REWARD if kl is None else TOKEN_REWARD - kl.coef * KL_TERM
        found = term_of(name, "gae", algorithm.advantage, "advantage", rewards=rewards)
        if isinstance(found.formula, Over) and isinstance(found.formula.body, Symbol):
            yield Term(DELTA, found.formula.body.definition, "advantage")
        if algorithm.whiten:
            yield found
            found = term_of(TOKEN_ADVANTAGE, "whiten", whiten_tokens, "whiten", advantages=PLAIN_ADVANTAGE)
    if algorithm.rejected == "zero" and not _keeps_all(algorithm) and found.formula is not None:
        found = replace(found, formula=indicator(SELECTED) * found.formula)
    yield found


def _penalty(kl: KL, by_token: bool) -> Iterator[Term]:
    """Δ_t and the KL estimate of a token; in the reward of a response, their sum over it."""
    yield Term(
        LOG_RATIO_TO_REFERENCE, LOG_RATIO_TO_REFERENCE.definition, "kl", notes=(_reference(kl.reference, kl.sync),)
    )
    estimate = term_of(KL_TERM, "kl", kl.estimator, "kl")
    if estimate.formula is not None and kl.clamp is not None:
        estimate = replace(estimate, formula=clamp(estimate.formula, -kl.clamp, kl.clamp))
    if estimate.formula is not None and kl.weight == "ratio":
        estimate = replace(estimate, formula=PI / PI_OLD * estimate.formula)
    yield estimate
    if kl.place == "reward" and not by_token:
        yield Term(PENALTY, kl.coef * total(KL_TERM, TOKENS), "kl", notes=("a number without a gradient",))


def _reference(kind: ReferenceKind, sync: Sync) -> str:
    said = REFERENCES[sync.plain(kind)].format(every=sync.every, share=sync.share, rest=round(1 - sync.share, 12))
    return f"π_ref is {said}"


def _preference(algorithm: Preference) -> Explanation:
    smoothing = {"smoothing": algorithm.smoothing} if reads(algorithm.preference, "smoothing") else {}
    rule = with_settings(algorithm.preference, beta=algorithm.beta, **smoothing)
    pairs = term_of(PAIRS, "select", algorithm.select, "select")
    reference = _reference(algorithm.reference, algorithm.sync)
    log_ratio = Term(LOG_RATIO, total(LOGP - LOGP_REF, TOKENS), "reference", notes=(reference,))
    score = term_of(SCORE, "divergence", algorithm.divergence, "divergence")
    loss = term_of(PAIR_LOSS, "preference", rule, "preference")
    inner = PAIR_LOSS if loss.formula is None else loss.formula
    return Explanation(((LOSS, mean(inner, PAIR_BATCH)),), (pairs, score, log_ratio, loss))
