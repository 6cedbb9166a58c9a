"""Claims of rules: what a rule says of itself beyond what every rule of its axis has to keep.

A rule of one's own claims by an attribute, a set of words: `rank.claims = {"shift", "scale"}`. Those of Winnow's own
rules stand in one table here. A claim is held by its check; a check that needs a claim does not apply without it.
"""

from collections.abc import Callable, Collection
from functools import partial

from winnow.errors import ConfigError
from winnow.ops import advantage, clip, preference, ratio
from winnow.rule import rule_of

MEANING = {
    "shift": "an amount added to all rewards changes no advantage",
    "scale": "a positive factor on all rewards changes no advantage",
    "iteration": "an advantage depends on the rewards of other prompts too",
    "batch": "the weight of a row depends on the other rows of the optimiser batch",
    "stop_gradient": "the gradient is not that of the value, because a part is held constant on purpose",
    "any_order": "of two samples of a prompt, the one of the higher reward may have the lower advantage",
    "no_way_back": "a token that has moved against its advantage may lose its gradient",
    "by_length": "on the policy that sampled, the gradient of a response is multiplied by its number of tokens",
    "target": "a pair that is further apart than some margin is pulled back",
}
"""Every word that a rule can claim, and what it says."""

Known = Callable[[dict[str, object]], Collection[str]]
OWN: dict[Callable, Known] = {
    advantage.one: lambda settings: ("shift", "scale"),
    advantage.group: lambda settings: [
        *(["shift"] if settings.get("centre", "mean") != "none" else []),
        *(["scale"] if settings.get("scale", "std") != "none" and settings.get("centre", "mean") != "none" else []),
    ],
    advantage.whitened: lambda settings: ("shift", "scale", "iteration"),
    advantage.batch: lambda settings: ("shift", "scale", "iteration"),
    advantage.each_reward: lambda settings: ("shift", "scale", "iteration"),
    advantage.over_pass_rate: lambda settings: ("shift", "scale"),
    advantage.pass_at_k: lambda settings: ("shift", "scale"),
    advantage.length_weighted: lambda settings: ("shift",),
    clip.dual: lambda settings: ("no_way_back",),
    clip.ratio_min: lambda settings: ("no_way_back",),
    clip.stale_negatives_left_out: lambda settings: ("no_way_back",),
    clip.cispo: lambda settings: ("stop_gradient",),
    clip.topr: lambda settings: ("stop_gradient",),
    clip.vespo: lambda settings: ("stop_gradient",),
    clip.dppo: lambda settings: ("stop_gradient",),
    ratio.sequence_product: lambda settings: ("by_length",),
    preference.sigmoid: lambda settings: ("target",),  # with smoothing, which is a setting of the algorithm
    preference.exo: lambda settings: ("target",),
    preference.ipo: lambda settings: ("target",),
    preference.sppo: lambda settings: ("target",),
}
"""The claims of Winnow's own rules, from their settings."""


def claims_of(rule: Callable) -> frozenset[str]:
    """The words that a rule claims.

    Raises:
        ConfigError: a word is none of `MEANING`.
    """
    function = rule_of(rule)
    known = OWN.get(function)
    if known is not None:
        return frozenset(known(settings_of(rule)))
    words = getattr(function, "claims", ())
    words = {words} if isinstance(words, str) else words
    if not isinstance(words, Collection) or not all(word in MEANING for word in words):
        raise ConfigError(f"{name_of(rule)}.claims={words!r}: must be a set of some of {', '.join(MEANING)}")
    return frozenset(words)


def settings_of(rule: Callable) -> dict[str, object]:
    """The settings that a rule was composed with."""
    return dict(rule.keywords) if isinstance(rule, partial) else {}


def name_of(rule: Callable) -> str:
    """`my_project.clips.soft`."""
    function = rule_of(rule)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
