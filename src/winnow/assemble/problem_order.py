"""Order of the training problems, built from a composed configuration."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from winnow.algorithm import Algorithm, Supervised
from winnow.config.nodes import build_node
from winnow.data.curriculum import Curriculum, NoCurriculum
from winnow.data.order import Mixed, Order
from winnow.data.problems import Problem
from winnow.errors import ConfigError
from winnow.rng import seed_of


def problem_order(
    cfg: DictConfig, problems: Sequence[Problem], shares: Mapping[str, float], algorithm: Algorithm
) -> Order:
    """The order of the training problems by `curriculum`, of every source by itself where `shares` mix several."""
    node = cfg.get("curriculum")  # which a run of an earlier version does not have
    curriculum: Curriculum = NoCurriculum() if node is None else build_node(node)
    shuffle = not isinstance(algorithm, Supervised) or algorithm.shuffle
    if not shares:
        return curriculum.order(problems, cfg.seed, shuffle)
    orders = {}
    for name in shares:
        of_source = [problem for problem in problems if problem.source == name]
        if not of_source:
            raise ConfigError(f"dataset.mix.{name}: none of its problems remains; leave it out, or correct it")
        orders[name] = curriculum.order(of_source, seed_of(cfg.seed, name), shuffle)
    return Mixed(orders, shares)
