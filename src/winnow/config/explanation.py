"""Explanations of configurations: the objective's formula, notices, the nearest named algorithm; and differences."""

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from winnow.algorithm import Algorithm
from winnow.config.checks import check_correction
from winnow.config.command_line import read_command_line
from winnow.config.compose import CONF, Composer, composed
from winnow.config.equal_runs import essence, plainest
from winnow.config.instantiate import build_algorithm
from winnow.config.nodes import build_node, choice
from winnow.config.notices import findings_of
from winnow.config.ranges import check_ranges
from winnow.config.reward_functions import functions_of, has_functions, penalises_length, weights_of
from winnow.errors import ConfigError
from winnow.explain.objective import explained
from winnow.explain.text import formulas, latex_text, unicode_text

Leaves = Mapping[str, object]
TARGET = "_target_"


@dataclass(frozen=True, slots=True)
class Nearest:
    """A row of `conf/algo`, and the settings in which an algorithm differs from it: `clip: ppo(…) here, … there`.

    Without differences it computes the same; `by_other_words` says that its settings are others all the same, and
    `samples` names the collector where that chooses the samples.
    """

    name: str
    differences: tuple[str, ...]
    by_other_words: bool = False
    samples: str = ""

    def __str__(self) -> str:
        same = "which computes the same" if self.by_other_words else "with no difference"
        if self.samples:
            same = (
                f"whose objective {'computes the same' if self.by_other_words else 'has no difference'}{self.samples}"
            )
        first = f"nearest: algo={self.name}" + ("; it differs in" if self.differences else f", {same}")
        return "\n  ".join([first, *self.differences])


def explain(words: Sequence[str], latex: bool = False) -> str:
    """The text of `winnow explain WORDS`.

    Raises:
        ConfigError: an override is wrong; the message says what to type instead.
    """
    cfg = composed("train", words, ("algo", "collector"))
    if latex:
        return latex_text(explained(build_algorithm(cfg)))
    return explanation_of(cfg)


def explanation_of(cfg: DictConfig) -> str:
    """The formula of a composed configuration, what is said of it, and the nearest named algorithm."""
    near = nearest(cfg)
    algorithm = build_algorithm(cfg)
    return "\n".join([run_text(cfg, algorithm), *_refusals(cfg, algorithm), str(near)])


def _refusals(cfg: DictConfig, algorithm: Algorithm) -> Iterator[str]:
    """Why `winnow train` would not run what has a formula all the same."""
    try:
        check_ranges(cfg)
        check_correction(cfg, algorithm)
    except ConfigError as error:
        yield f"refused by winnow train: {error}"


def run_text(cfg: DictConfig, algorithm: Algorithm) -> str:
    """The formula of a run, and what is said of its settings."""
    lines = [unicode_text(explained(algorithm)), "", f"rewards: {rewards_in_words(cfg)}", *_samples_in_words(cfg)]
    kind = type(algorithm)
    if kind.__module__.partition(".")[0] != "winnow":
        named = f"{kind.__module__}.{kind.__qualname__}"
        lines.append(f"note: the formula is that of the rules; methods that {named} replaces are not in it")
    return "\n".join([*lines, *map(str, findings_of(cfg, algorithm))])


def _samples_in_words(cfg: DictConfig) -> Iterator[str]:
    """The samples that D is made of, where it is not every sample of a fixed number."""
    if _samples_are_chosen(cfg):
        yield f"samples: {build_node(cfg.collector).in_words(cfg.rollout.prompts, cfg.rollout.samples)}"


def _samples_are_chosen(cfg: DictConfig) -> bool:
    node = cfg.get("collector")  # which a run of an earlier version does not have
    return node is not None and not str(node[TARGET]).endswith(".Fixed")


def rewards_in_words(cfg: DictConfig) -> str:
    """The rewards that the symbol r stands for."""
    if has_functions(cfg):
        names = [function.name for function in functions_of(cfg.reward)]
        weighed = zip(weights_of(cfg.reward, names), names, strict=True)
        return " + ".join(f"{weight:g}·{name}" for weight, name in weighed)
    reward = cfg.reward
    penalty = f", less reward/length={choice('reward/length')}" if penalises_length(cfg) else ""
    return f"{reward.correct:g} correct, {reward.wrong:g} wrong, {reward.no_answer:g} without an answer{penalty}"


@dataclass(frozen=True, slots=True)
class Side:
    """A side of a difference: a configuration with its formula and the claims about it, each a list of lines."""

    cfg: DictConfig
    formula: list[str]
    findings: list[str]


def difference(before: Sequence[str], after: Sequence[str]) -> str:
    """The text of `winnow diff`: what changes from one list of overrides to another, in formula, YAML and findings.

    Raises:
        ConfigError: an override of either is wrong.
    """
    a, b = _side(before), _side(after)
    sections = {
        "formula": _changed_lines(a.formula, b.formula),
        "settings": _changed_settings(a.cfg, b.cfg),
        "findings": _changed_lines(a.findings, b.findings),
    }
    lines = [line for title, changes in sections.items() for line in _section(title, list(changes))]
    return "\n".join([*lines, *(["both train the same, up to rounding"] if essence(a.cfg) == essence(b.cfg) else [])])


def _side(words: Sequence[str]) -> Side:
    cfg = composed("train", words, ("algo",))
    algorithm = build_algorithm(cfg)
    return Side(cfg, formulas(explained(algorithm)), [str(finding) for finding in findings_of(cfg, algorithm)])


def _section(title: str, changes: list[str]) -> list[str]:
    return [f"{title}:", *changes] if changes else [f"{title}: the same"]


def _changed_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for line in difflib.ndiff(before, after):
        if line[0] in "+-":
            yield f"  {line[0].replace('-', '−')} {line[2:]}"


def _changed_settings(before: DictConfig, after: DictConfig) -> Iterator[str]:
    """The changes of an algorithm's rules, each in a line, and those of all other keys."""
    here, there = _leaves(before.algo), _leaves(after.algo)
    for key, was, becomes in _changes(here, there, absent="(not there)"):
        yield f"  {key if key == 'algo' else f'algo.{key}'}: {was} → {becomes}"
    here, there = ({k: v for k, v in _leaves(cfg).items() if not k.startswith("algo.")} for cfg in (before, after))
    for key in sorted(here.keys() | there.keys()):
        was, becomes = here.get(key, "(not there)"), there.get(key, "(not there)")
        if was != becomes:
            yield f"  {key}: {was} → {becomes}"


def _leaves(node: DictConfig) -> dict[str, object]:
    """Dotted keys with the values of all settings; interpolations stay as they are written."""
    return dict(_flat(OmegaConf.to_container(node, resolve=False)))


def _flat(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def nearest(cfg: DictConfig) -> Nearest:
    """The algorithm of `conf/algo` that shares most rules and settings with a composed configuration.

    Rules of advantage that compute the same are one: rewards neither centred nor scaled are those of Reinforce.
    """
    mine, chosen = _plain_leaves(cfg.algo), choice("algo")
    rows = {name: _plain_leaves(node) for name, node in named_algorithms().items()}
    name = min(rows, key=lambda name: (_distance(mine, rows[name]), name != chosen, name))
    changes = _changes(mine, rows[name], absent="none")
    differences = tuple(f"{key}: {here} here, {there} there" for key, here, there in changes)
    by_other_words = not differences and _leaves(cfg.algo) != _leaves(named_algorithms()[name])
    samples = f", on the samples of collector={choice('collector')}" if _samples_are_chosen(cfg) else ""
    return Nearest(name, differences, by_other_words, samples)


def _plain_leaves(algo: DictConfig) -> dict[str, object]:
    """The leaves of an algorithm, its rule of advantage in the plainest form."""
    leaves, axis = _leaves(algo), "advantage."
    own = {key.removeprefix(axis): value for key, value in leaves.items() if key.startswith(axis)}
    others = {key: value for key, value in leaves.items() if not key.startswith(axis)}
    return others | {f"{axis}{key}": value for key, value in plainest(own).items()} if own else leaves


@cache
def named_algorithms() -> dict[str, DictConfig]:
    """The `algo` node of every algorithm in `conf/algo`, by name, as it is without other overrides."""
    loader = Composer("train", CONF, read_command_line([])).loader
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra asks for _self_ where a configuration is loaded by itself
        for path in sorted((CONF / "algo").glob("*.yaml")):
            found[path.stem] = loader.load_configuration(f"algo/{path.stem}", [], RunMode.RUN).algo
    return found


def _axes(leaves: Leaves) -> dict[str, dict[str, object]]:
    """The settings by axis; those of the algorithm itself are axes of one setting."""
    axes: dict[str, dict[str, object]] = {}
    for key, value in leaves.items():
        axis, _, setting = key.partition(".")
        axes.setdefault("algo" if key == TARGET else axis, {})[TARGET if key == TARGET else setting] = value
    return axes


def _distance(mine: Leaves, other: Leaves) -> int:
    """Differing settings; another rule or class counts more than any number of settings."""
    here, there = _axes(mine), _axes(other)
    apart = 0
    for axis in here.keys() | there.keys():
        of, instead = here.get(axis), there.get(axis)
        if of is None or instead is None or _target(of) != _target(instead):
            apart += 100
        else:
            apart += sum(of.get(key) != instead.get(key) for key in of.keys() | instead.keys())
    return apart


def _changes(mine: Leaves, other: Leaves, absent: str) -> Iterator[tuple[str, object, object]]:
    """Keys with the values of both; another rule is one change, of the whole rule. `absent` is what is not there."""
    here, there = _axes(mine), _axes(other)
    for axis in sorted(here.keys() | there.keys(), key=lambda axis: (axis != "algo", axis)):
        of, instead = here.get(axis), there.get(axis)
        if of == instead:
            continue
        if of is None or instead is None or "" in of or "" in instead or _target(of) != _target(instead):
            yield axis, _called(of, absent), _called(instead, absent)
            continue
        for key in sorted(key for key in of.keys() | instead.keys() if not key.endswith("_partial_")):
            if of.get(key) != instead.get(key):
                yield f"{axis}.{key}", of.get(key, absent), instead.get(key, absent)


def _target(settings: Mapping[str, object]) -> str:
    """The dotted name of a rule; of a KL term, that of its estimator."""
    inner = next((str(value) for key, value in settings.items() if key.endswith(f".{TARGET}")), None)
    return inner or str(settings.get(TARGET))


def _called(settings: Mapping[str, object] | None, absent: str) -> str:
    """A rule with its settings, as `ppo(low=0.2, high=0.2)`; a single setting as its value."""
    if settings is None:
        return absent
    if "" in settings:
        value = str(settings[""])
        return value.rsplit(".", 1)[-1] if value.startswith("winnow.") else value
    target = _target(settings)
    given = [f"{k}={v}" for k, v in settings.items() if not k.rsplit(".", 1)[-1].startswith("_") and v is not None]
    return f"{target.rsplit('.', 1)[-1]}({', '.join(given)})" if given else target.rsplit(".", 1)[-1]
