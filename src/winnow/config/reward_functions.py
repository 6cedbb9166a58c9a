"""Reward functions as `reward=function` configures them: their entries, weights and rule of success, and the checks.

Nothing here imports torch; a function's module is imported by `check_reward_functions` alone.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from math import isfinite

from omegaconf import DictConfig, ListConfig, OmegaConf

from winnow.config.override_errors import close_matches, did_you_mean
from winnow.config.targets import check_target, name_lacking
from winnow.errors import ConfigError
from winnow.rewards.reward_function import OWN_ARGUMENTS, VERL_ARGUMENTS, RewardFunction

KEY = "reward.functions"
ENTRY = re.compile(r"(?P<verl>verl:)?(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)", re.ASCII)
NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
TAKEN = ("mean", "std", "lost_frac")
"""Names of figures of the whole reward, which are logged beside those of each function."""
DEFAULT = ListConfig(["winnow.rewards:accuracy"])
OF_SUCCESSES = tuple(f"select.{rule}" for rule in ("best", "positive", "mixed_prompts", "not_all_wrong"))
"""Rules of `algo/select` that keep nothing where nothing is a success."""
EXAMPLE = "type e.g. reward.functions=[winnow.rewards:accuracy]"


def has_functions(cfg: DictConfig) -> bool:
    """Whether the rewards are those of functions, and not of verdicts."""
    return "functions" in (cfg.get("reward") or {})


def penalises_length(cfg: DictConfig) -> bool:
    """Whether `reward/length` takes something off the rewards of verdicts."""
    node = (cfg.get("reward") or {}).get("length")  # which a run of an earlier version does not have
    return node is not None and not str(node["_target_"]).endswith(".no_penalty")


def functions_of(reward: DictConfig) -> list[RewardFunction]:
    """The functions of a `reward` node.

    Raises:
        ConfigError: an entry is none, or two have one name.
    """
    node = DEFAULT if reward.functions is None else reward.functions
    if isinstance(node, DictConfig) and "_target_" not in node:
        found = [_function(f"{KEY}.{name}", entry, str(name)) for name, entry in node.items()]
    elif isinstance(node, ListConfig):
        found = [_function(f"{KEY}[{place}]", entry) for place, entry in enumerate(node)]
    else:
        raise ConfigError(f"{KEY}={_shown(node)}: must be a list of functions, or names with functions; {EXAMPLE}")
    if not found:
        raise ConfigError(f"{KEY}: holds no function; {EXAMPLE}")
    names = [function.name for function in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise ConfigError(f"{KEY}: two are named {name}; type {KEY}={{NAME: …, OTHER: …}} to name them yourself")
        if name in TAKEN or not NAME.fullmatch(name):
            raise ConfigError(f"{KEY}: {name!r} cannot name a reward; type {KEY}={{NAME: …}} with another name")
    return found


def _function(path: str, entry: object, name: str | None = None) -> RewardFunction:
    if isinstance(entry, DictConfig) and "_target_" in entry:
        target = str(entry["_target_"])
        if idle := [str(key) for key in entry if str(key).startswith("_") and key != "_target_"]:
            raise ConfigError(f"{path}.{idle[0]}: has no effect on a reward function; give each argument by its name")
        plain = OmegaConf.to_container(entry, resolve=True)
        assert isinstance(plain, dict)
        arguments = {str(key): value for key, value in plain.items() if not str(key).startswith("_")}
        module, _, attribute = target.rpartition(".")
        if not ENTRY.fullmatch(f"{module}:{attribute}"):
            raise ConfigError(f"{path}._target_={target}: not the dotted name of a function; {EXAMPLE}")
        return RewardFunction(name or attribute, f"{module}:{attribute}", arguments)
    if not isinstance(entry, str) or (match := ENTRY.fullmatch(entry)) is None:
        dotted = isinstance(entry, str) and ENTRY.fullmatch(":".join(entry.rsplit(".", 1)))
        hint = f"type {':'.join(str(entry).rsplit('.', 1))}" if dotted else EXAMPLE
        raise ConfigError(f"{path}={_shown(entry)}: must be module:name, or a group with _target_; {hint}")
    target = f"{match['module']}:{match['name']}"
    return RewardFunction(name or match["name"], target, form="verl" if match["verl"] else "trl")


def _shown(value: object) -> str:
    plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    return "null" if plain is None else str(plain)[:200]


def weights_of(reward: DictConfig, names: Sequence[str]) -> list[float]:
    """The weight of each function.

    Raises:
        ConfigError: they are not one finite number for each function, or all are 0.
    """
    given = reward.get("weights")
    if given is None:
        return [1.0] * len(names)
    if isinstance(given, DictConfig):
        if {*given} != {*names}:
            raise ConfigError(f"reward.weights: names {', '.join(map(str, given))}, and must name {', '.join(names)}")
        given = [given[name] for name in names]
    if isinstance(given, str) or not isinstance(given, ListConfig | list) or len(given) != len(names):
        example = ",".join(["1"] * len(names))
        raise ConfigError(
            f"reward.weights={_shown(given)}: must be one number for each of {', '.join(names)}; "
            f"type reward.weights=[{example}]"
        )
    weights = list(given)
    if not all(isinstance(w, int | float) and not isinstance(w, bool) and isfinite(w) for w in weights):
        raise ConfigError(f"reward.weights={_shown(given)}: must be finite numbers")
    if not any(weights):
        raise ConfigError(f"reward.weights={_shown(given)}: all are 0, so that no response differs from another")
    return [float(w) for w in weights]


def success_of(reward: DictConfig, names: Sequence[str]) -> tuple[str, float] | None:
    """The reward and the number from which on a response is a success; None where the verifier decides.

    Raises:
        ConfigError: it is not of that form, or there is no such reward.
    """
    rule = reward.get("success")
    if rule is None:
        return None
    example = f"type reward.success={{name: {names[0]}, at_least: 1}}"
    if not isinstance(rule, DictConfig) or {*rule} != {"name", "at_least"}:
        raise ConfigError(f"reward.success={_shown(rule)}: must have a name and at_least, and nothing else; {example}")
    if rule.name not in names:
        hint = did_you_mean(close_matches(str(rule.name), names)[:1], f"there are {', '.join(names)}")
        raise ConfigError(f"reward.success.name={rule.name}: no such reward; {hint}")
    number = rule.at_least
    if not isinstance(number, int | float) or isinstance(number, bool) or not isfinite(number):
        raise ConfigError(f"reward.success.at_least={number}: must be a finite number; {example}")
    return str(rule.name), float(number)


def problems_of(cfg: DictConfig, supervised: bool) -> Iterator[str]:
    """Faults of the `reward` node that can be seen without importing a function."""
    try:
        names = [function.name for function in functions_of(cfg.reward)]
        weights_of(cfg.reward, names)
        if success_of(cfg.reward, names) is not None:
            return
        if supervised:
            yield "reward=function: demonstrations have no reward; leave it out, or type reward.success={…}"
        select = str(OmegaConf.select(cfg, "algo.select._target_"))
        if without_answers(cfg) and select.endswith(OF_SUCCESSES):
            yield (
                f"dataset.answer_field=null: without answers no response is a success, and {select.split('.')[-1]} of "
                f"algo/select keeps none; type reward.success={{name: {names[0]}, at_least: 1}}"
            )
    except ConfigError as error:
        yield str(error)


def without_answers(cfg: DictConfig) -> bool:
    """Whether the problems have no answers, so that the verifier finds no response correct."""
    return "answer_field" in cfg.dataset and cfg.dataset.answer_field is None


def check_reward_functions(cfg: DictConfig) -> None:
    """Check that every reward function can be imported, is trusted, and can be called by keyword.

    Raises:
        ConfigError: the first that cannot.
    """
    for function in functions_of(cfg.reward):
        where = f"{KEY}: {function.target}"
        node = DictConfig({"_target_": function.target.replace(":", "."), **function.arguments})
        try:
            found = check_target(KEY, node, list(cfg.plugins), where=where)
        except ConfigError as error:
            lacking = name_lacking(function.target)
            raise (error if lacking is None else ConfigError(f"{where}: {lacking}")) from None
        _check_call(function, found, where)


def _unset(found: type, function: RewardFunction) -> list[str]:
    """The arguments without which an object of the class cannot be built, and that are not given."""
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(found).parameters.values()
    needed = [p.name for p in parameters if p.kind in by_keyword and p.default is p.empty]
    return [name for name in needed if name not in function.arguments]


def _check_call(function: RewardFunction, found: object, where: str) -> None:
    if inspect.isclass(found) and not any("__call__" in vars(base) for base in found.__mro__):
        raise ConfigError(f"{where}: objects of this class cannot be called; add a method __call__")
    if inspect.isclass(found) and (unset := _unset(found, function)):
        example = ", ".join(f"{name}: …" for name in unset)
        raise ConfigError(
            f"{where}: needs {', '.join(unset)}; "
            f"type {KEY}=[{{_target_: {function.target.replace(':', '.')}, {example}}}]"
        )
    parameters = function.parameters()
    names = {*parameters}
    keyword = any(p.kind in (p.VAR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters.values())
    if not keyword and (starred := [p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL]):
        raise ConfigError(f"{where}: cannot be called by keyword; write {starred[0]} in place of *{starred[0]}")
    if function.form == "verl":
        missing = [name for name in VERL_ARGUMENTS[1:3] if name not in names]
        if missing and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise ConfigError(f"{where}: takes no {missing[0]}, as verl's functions do; leave out verl:")
    elif {"solution_str", "ground_truth"} <= names:
        raise ConfigError(f"{where}: takes verl's arguments; type verl:{function.target}")
    elif not names & {*OWN_ARGUMENTS} and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ConfigError(
            f"{where}: takes neither completions nor another argument of a reward function; if it makes such a "
            f"function, write f = {function.target.partition(':')[2]}(…) in a file of your own, and type FILE:f"
        )
    if positional := [p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]:
        raise ConfigError(f"{where}: cannot be called by keyword, because {positional[0]} is positional only")
