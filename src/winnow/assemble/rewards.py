"""Rewards of a run and of its evaluations, from the `reward` node of a composed configuration."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from omegaconf import DictConfig

from winnow.config.nodes import build_node
from winnow.config.override_errors import close_matches, did_you_mean
from winnow.config.reward_functions import functions_of, has_functions, success_of, weights_of, without_answers
from winnow.data.problems import Problem
from winnow.errors import ConfigError
from winnow.rewards.length import LengthPenalty
from winnow.rewards.reward import Reward
from winnow.rewards.reward_function import OWN_ARGUMENTS
from winnow.rewards.reward_functions import Limits, RewardFunctions, Success
from winnow.rewards.reward_scale import RewardScale
from winnow.rewards.shaped_reward import ShapedReward

OF_VERDICTS = RewardScale(correct=1.0, wrong=0.0, no_answer=0.0)
"""The reward of an evaluated response where reward functions do not decide on its success."""


def reward_of(cfg: DictConfig, iterations: int | None = None) -> Reward:
    """The reward that training sees; `iterations` is the length of the run if it is not that of `cfg`.

    Raises:
        ConfigError: its settings cannot be.
    """
    reward = cfg.reward
    if not has_functions(cfg):
        return _shaped(RewardScale(reward.correct, reward.wrong, reward.no_answer), reward)
    functions = functions_of(reward)
    names = [function.name for function in functions]
    rule = success_of(reward, names)
    return RewardFunctions(
        functions,
        weights_of(reward, names),
        None if rule is None else Success(*rule),
        Limits(reward.workers, reward.timeout, reward.memory_mb) if reward.isolated else None,
        reward.prompts_per_call,
        cfg.iterations if iterations is None else iterations,
    )


def _shaped(scale: RewardScale, reward: DictConfig) -> Reward:
    """The reward of verdicts with the penalty on lengths that `reward.length` describes, if it does one."""
    node = reward.get("length")  # which a run of an earlier version does not have
    penalty: LengthPenalty | None = None if node is None else build_node(node)
    return scale if penalty is None else ShapedReward(scale, penalty)


def evaluation_reward(cfg: DictConfig, iterations: int | None = None) -> Reward:
    """The reward of evaluated responses: of reward functions the one that says what a success is, if one does.

    Benchmarks are judged by their own verifiers, whatever the rewards of training are.
    """
    reward = reward_of(cfg, iterations)
    if not isinstance(reward, RewardFunctions):
        return reward.scale if isinstance(reward, ShapedReward) else reward
    return OF_VERDICTS if reward.rule is None or cfg.eval.sets else reward.only(reward.rule.name)


@dataclass(frozen=True, slots=True)
class RunRewards:
    """The reward that training sees, and that of evaluated responses."""

    training: Reward
    evaluation: Reward


@contextmanager
def run_rewards(cfg: DictConfig, iterations: int | None = None) -> Iterator[RunRewards]:
    """Context with the rewards of a run; the worker processes of their functions end with it.

    Raises:
        ConfigError: settings of theirs cannot be.
    """
    found = RunRewards(reward_of(cfg, iterations), evaluation_reward(cfg, iterations))
    try:
        yield found
    finally:
        for reward in (found.training, found.evaluation):
            if isinstance(reward, RewardFunctions):
                reward.close()


def prepare(reward: Reward, problems: Sequence[Problem]) -> None:
    """Check that the problems have the columns that reward functions name, and load the functions.

    Raises:
        ConfigError: a column is missing, or a function cannot be loaded.
    """
    if not isinstance(reward, RewardFunctions):
        return
    columns = _columns(problems)
    for function in reward.functions:
        missing = [name for name in function.required() if name not in (*OWN_ARGUMENTS, *columns)]
        if missing:
            there = f"; the dataset has {', '.join(columns)}" if columns else "; the dataset has none"
            near = close_matches(missing[0], (*OWN_ARGUMENTS, *columns))[:1]
            instead = f"give it a default, or set it by {{_target_: …, {missing[0]}: …}}"
            raise ConfigError(
                f"reward.functions: {function.target} needs the column {missing[0]!r}{there}, and every function can "
                f"have {', '.join(OWN_ARGUMENTS)}; {did_you_mean(near, instead)}"
            )
    reward.start()


def reward_notices(cfg: DictConfig, reward: Reward, problems: Sequence[Problem]) -> list[str]:
    """Notices on columns of the dataset that reward functions do not get, because Winnow's own have their names, and on
    problems without answers of which nothing else says what a success is."""
    if not reward.names:
        return []
    hidden = [name for name in OWN_ARGUMENTS if name in _columns(problems) and name != "answer"]
    notices = [f"reward functions get Winnow's {', '.join(hidden)}, and not the dataset's column of that name"]
    unknown = [
        "without answers no response is a success, so that accuracy is 0 throughout; type "
        f"reward.success={{name: {reward.names[0]}, at_least: 1}}"
    ]
    return [*(notices if hidden else []), *(unknown if without_answers(cfg) and reward.success is None else [])]


def _columns(problems: Sequence[Problem]) -> Iterable[str]:
    return dict.fromkeys(problems[0].columns) if len(problems) else {}
