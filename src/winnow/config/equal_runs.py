"""Runs that train the same although their settings differ, by what the linter has proven to have no effect."""

from collections.abc import Mapping

from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, PolicyGradient, Preference
from winnow.config import equal_settings, notices, pair_settings
from winnow.config.instantiate import build_algorithm
from winnow.config.linting import Setup, setup_of
from winnow.config.nodes import hash_of, plain_config
from winnow.config.pair_settings import PairSetup, pair_setup_of
from winnow.ops import advantage, clip, preference, select, tokens
from winnow.rule import rule_of
from winnow.study.arms import IDLE_SECTIONS

Settings = dict[str, object]
TARGET = "_target_"


def essence(cfg: DictConfig) -> str:
    """Hash of what a run trains: of its settings, without those that are known to change nothing.

    Two runs of one essence have equal gradients in exact arithmetic; they may differ by rounding, and in metrics of
    what does not matter, such as the fraction of tokens that clipping touches.
    """
    plain: Settings = {key: value for key, value in plain_config(cfg).items() if key not in IDLE_SECTIONS}
    algorithm, settings = build_algorithm(cfg), plain["algo"]
    if isinstance(algorithm, PolicyGradient | ActorCritic) and isinstance(settings, dict):
        setup = setup_of(cfg, algorithm)
        if setup.all_rules_are_known:
            plain["algo"] = _essential({str(key): value for key, value in settings.items()}, setup)
    elif isinstance(algorithm, Preference) and isinstance(settings, dict):
        pairs = pair_setup_of(cfg, algorithm)
        if pairs.all_rules_are_known:
            plain["algo"] = _essential_pairs({str(key): value for key, value in settings.items()}, pairs)
    return hash_of(plain)


def plainest(advantage_node: Settings) -> Settings:
    """The node of a rule of advantage; of rules that compute the same from any rewards, that of the plainest."""
    target = advantage_node.get(TARGET)
    centre, scale, *weights = (advantage_node.get(name) for name in ("centre", "scale", "w_pos", "w_neg"))
    uncentred = target == _dotted(advantage.group) and centre == scale == "none"
    unweighted = target == _dotted(advantage.signed) and weights == [1, 1]
    if uncentred or unweighted:
        return {TARGET: _dotted(advantage.reward), "_partial_": True}
    if target == _dotted(advantage.group) and scale == "none" and "eps" in advantage_node:
        return advantage_node | {"eps": 1e-6}  # which only a deviation is added to
    return advantage_node


def _essential(algo: Settings, setup: Setup) -> Settings:
    """The settings of an algorithm that have an effect."""
    plain = not setup.algorithm.objective.uses_ratio and rule_of(setup.algorithm.clip) is clip.unclipped
    if plain or notices.ratio_and_clip_change_nothing(setup) is not None:
        algo = _without(algo, "ratio", "clip")
    elif rule_of(setup.algorithm.clip) in (clip.ppo, clip.dual, clip.ratio_min):
        algo["clip"] = _essential_clip(_node(algo["clip"]), setup)
    if equal_settings.cpgd_reads_no_ratio(setup) is not None:
        algo = _without(algo, "ratio")
    if equal_settings.best_are_the_correct(setup) is not None:
        algo["select"] = _node(algo["select"]) | {TARGET: _dotted(select.positive)}
    algo["advantage"] = plainest(_node(algo["advantage"]))
    said = equal_settings.a_signed_weight_has_no_rewards(setup) or ""
    for name in ("w_pos", "w_neg"):
        if f"algo.advantage.{name} changes nothing" in said:
            algo["advantage"] = _without(_node(algo["advantage"]), name)
    centred = setup.algorithm.rejected == "zero" and equal_settings.centring_rejects_uniform_prompts(setup) is not None
    if centred:
        algo["select"] = _node(algo["select"]) | {TARGET: _dotted(select.all_samples)}
    if equal_settings.equal_advantages_have_no_covariance(setup) is not None:
        algo["tokens"] = {TARGET: _dotted(tokens.every_token), "_partial_": True}
    return _without(algo, "rejected") if centred or setup.rejects_nothing else algo


def _essential_pairs(algo: Settings, setup: PairSetup) -> Settings:
    if pair_settings.divergence_has_no_effect_yet(setup) is not None:
        algo["divergence"] = {TARGET: _dotted(preference.reverse_kl), "_partial_": True}
    if pair_settings.alpha_of_order_zero(setup) is not None:
        algo["divergence"] = {TARGET: _dotted(preference.forward_kl), "_partial_": True}
    return algo


def _essential_clip(node: Settings, setup: Setup) -> Settings:
    if equal_settings.other_clips_are_ppo(setup) is not None:
        return _without(node, "low", "c") | {TARGET: _dotted(clip.ppo)}
    never = (equal_settings.lower_bound_never_binds, equal_settings.the_lower_bound_of_ratio_min_never_binds)
    return _without(node, "low") if any(rule(setup) is not None for rule in never) else node


def _dotted(function: object) -> str:
    return f"{function.__module__}.{getattr(function, '__name__', '')}"


def _node(value: object) -> Settings:
    assert isinstance(value, Mapping)
    return {str(key): each for key, each in value.items()}


def _without(node: Settings, *names: str) -> Settings:
    return {key: value for key, value in node.items() if key not in names}
