"""From a composed configuration to a run."""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from winnow import schema
from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.data.problems import ProblemSet
from winnow.data.prompts import PromptOrder, render
from winnow.data.templates import Template
from winnow.engines.base import Engine
from winnow.errors import ConfigError
from winnow.experience.collect import Collector, Judge
from winnow.experience.credit import Crediter
from winnow.experience.demonstrate import Demonstrator
from winnow.experience.loader import Source
from winnow.experience.pair import Pairer
from winnow.experience.plan import Plan
from winnow.experience.scorer import Scorer
from winnow.experience.weigh import Weigher
from winnow.models.critic import Critic
from winnow.models.language_model import LanguageModel, ModelSource
from winnow.models.policy import Policy
from winnow.ops import aggregate
from winnow.rewards.pool import VerifierPool
from winnow.rewards.scale import RewardScale
from winnow.training.actor_critic import ActorCriticModule
from winnow.training.base import IterationModule, Optim
from winnow.training.evaluate import Evaluator
from winnow.training.policy_gradient import PolicyGradientModule
from winnow.training.preference import PreferenceModule
from winnow.training.run import Cadence, Hardware, Identity, Run
from winnow.types import Sampling


def validate(cfg: DictConfig) -> list[str]:
    """Refuse what cannot run, before anything is created; say what will have no effect.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    schema.check(cfg)
    for path, node in _targets(cfg, ""):
        _check_target(path, node, list(cfg.plugins))
    algorithm = build_algorithm(cfg)
    return _notices(cfg, algorithm)


def build_algorithm(cfg: DictConfig) -> Algorithm:
    return _build(cfg.algo)


def _build(node: DictConfig, **more: object) -> Any:
    try:
        # _convert_: otherwise ListConfig and DictConfig leak into the package.
        return instantiate(node, _convert_="all", **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise


def _targets(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, str(key)):
                yield from _targets(node[key], f"{path}.{key}".lstrip("."))
    elif isinstance(node, ListConfig):
        for i, item in enumerate(node):
            yield from _targets(item, f"{path}[{i}]")


def _check_target(path: str, node: DictConfig, plugins: list[str]) -> None:
    """A partial would hide a misspelt keyword until its first call, after a whole rollout."""
    target = str(node["_target_"])
    package = target.split(".")[0]
    if package not in ("winnow", *plugins):
        raise ConfigError(f"{path}._target_={target}: not part of winnow; type plugins=[{package}] if you trust it")
    try:
        known = inspect.signature(get_object(target)).parameters
    except Exception as error:
        raise ConfigError(f"{path}._target_={target}: {error}".replace("\n", " ")) from error
    for key in node:
        if str(key) not in known and not str(key).startswith("_"):
            near = get_close_matches(str(key), known)
            hint = f"did you mean {path}.{near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{path}.{key}: no such setting of {target}; {hint}")


def _notices(cfg: DictConfig, algorithm: Algorithm) -> list[str]:
    """Settings that are legal here and change nothing."""
    found = []
    if isinstance(algorithm, Preference | Supervised):
        return found
    updates = cfg["update"].minibatches * cfg["update"].epochs
    if updates == 1 and algorithm.objective.uses_ratio:
        found.append("one update per iteration: the ratio is 1 throughout, so algo/ratio and algo/clip change nothing")
    kl = algorithm.objective.kl_in_loss
    if kl is not None and cfg.algo.kl.estimator._target_ == "winnow.ops.kl.k1":
        found.append("k1 in the loss has a gradient of zero on average; algo/kl=k2 or algo.kl.place=reward penalises")
    if kl is not None and kl.reference == "previous" and updates == 1:
        found.append("one update per iteration: the previous policy is the current one, so algo.kl changes nothing")
    if cfg.algo.advantage._target_.endswith(".reward") and min(cfg.reward.wrong, cfg.reward.no_answer) >= 0:
        found.append("no reward is negative: wrong samples push nothing down (reward=plus_minus_one does)")
    return found


def train(cfg: DictConfig, directory: Path) -> float | None:
    """Run `cfg` in `directory`; the final held-out accuracy, for sweepers.

    Raises:
        ConfigError: the model or the data could not be had.
        Diverged: the run was given up.
        Stopped: a signal ended it, after a checkpoint.
    """
    _quiet()
    if cfg.hardware.threads is not None:
        torch.set_num_threads(cfg.hardware.threads)
    pool: VerifierPool = _build(cfg.reward.verifier)
    with pool:
        return build(cfg, directory, pool).fit(resume=cfg.resume is not None)


def build(cfg: DictConfig, directory: Path, pool: VerifierPool) -> Run:
    """Everything that `cfg` names, put together; the model is had first, then the data."""
    algorithm = build_algorithm(cfg)
    source: ModelSource = _build(cfg.model)
    language_model = source.load()
    problems: ProblemSet = _build(cfg.dataset)(bad_golds=pool.check_golds)
    engine: Engine = _build(cfg.engine, eos_ids=language_model.eos_ids, pad_id=language_model.pad_id)
    scale = RewardScale(cfg.reward.correct, cfg.reward.wrong, cfg.reward.no_answer)
    judge = Judge(pool, scale, language_model.decode)
    policy = Policy(language_model.model, cfg.rollout.temperature)
    learning = Learning(cfg, algorithm, language_model, source.template, problems, engine, judge, policy)
    experience, module = learning.build()
    rule = aggregate.sequence_mean if isinstance(algorithm, Preference) else algorithm.aggregate
    heldout = problems.heldout[: cfg.eval.prompts]
    return Run(
        directory=directory,
        identity=_identity(cfg, directory),
        hardware=Hardware(
            cfg.hardware.accelerator, cfg.hardware.devices, cfg.hardware.strategy, cfg.hardware.precision
        ),
        cadence=Cadence(cfg.iterations, cfg.eval.every, cfg.checkpoint.every, cfg.checkpoint.keep),
        language_model=language_model,
        module=module,
        source=experience,
        plan=Plan(
            cfg["update"].minibatches,
            cfg["update"].epochs,
            cfg.hardware.token_budget,
            rule,
            cfg.seed,
            language_model.pad_id,
        ),
        evaluator=Evaluator(
            name=problems.name,
            model=language_model.model,
            engine=engine,
            judge=judge,
            prompts=[render(problem, language_model, source.template) for problem in heldout],
            samples=cfg.eval.samples,
            sampling=Sampling(cfg.eval.temperature, cfg.rollout.max_tokens),
            seed=cfg.seed,
        ),
        tracker=_build(cfg.logger),
        lines=[
            str(directory),
            *arithmetic_of(cfg),
            *(f"note: {notice}" for notice in _notices(cfg, algorithm)),
        ],
    )


@dataclass(frozen=True)
class Learning:
    """What an algorithm learns with."""

    cfg: DictConfig
    algorithm: Algorithm
    language_model: LanguageModel
    template: Template
    problems: ProblemSet
    engine: Engine
    judge: Judge
    policy: Policy

    def build(self) -> tuple[Source, IterationModule]:
        """Where its experience comes from, and the module that learns from it."""
        optim, policy, model = _optim(self.cfg), self.policy, self.language_model.model
        match self.algorithm:
            case Supervised() as a:
                rollout = self.cfg.rollout
                source = Demonstrator(self._order(a.shuffle), rollout.prompts, rollout.max_tokens)
                return source, PolicyGradientModule(policy, optim, a.objective)
            case PolicyGradient() as a:
                source = Weigher(self._collector(), self._scorer(), a)
                return source, PolicyGradientModule(policy, optim, a.objective)
            case ActorCritic() as a:
                critic = Critic(model)
                source = Crediter(self._collector(), self._scorer(), critic, a)
                module = ActorCriticModule(policy, critic, optim, a.critic_lr, a.objective, a.value_objective)
                return source, module
            case Preference() as a:
                source = Pairer(self._collector(), self._scorer(), a)
                return source, PreferenceModule(policy, optim, a.objective)

    def _order(self, shuffle: bool = True) -> PromptOrder:
        return PromptOrder(self.problems.train, self.language_model, self.template, self.cfg.seed, shuffle)

    def _collector(self) -> Collector:
        rollout = self.cfg.rollout
        return Collector(
            model=self.language_model.model,
            engine=self.engine,
            order=self._order(),
            judge=self.judge,
            sampling=Sampling(rollout.temperature, rollout.max_tokens),
            prompts=rollout.prompts,
            samples=rollout.samples,
            seed=self.cfg.seed,
        )

    def _scorer(self) -> Scorer:
        needed = self.cfg.metrics.kl_rows > 0 or _reference(self.algorithm) == "initial"
        return Scorer(
            policy=self.policy,
            initial=copy.deepcopy(self.policy).requires_grad_(False) if needed else None,
            exact=self.engine.exact,
            token_budget=self.cfg.hardware.token_budget,
            kl_rows=self.cfg.metrics.kl_rows,
            seed=self.cfg.seed,
        )


def _reference(algorithm: Algorithm) -> str | None:
    match algorithm:
        case Preference():
            return algorithm.reference
        case PolicyGradient() | ActorCritic():
            return algorithm.kl.reference if algorithm.kl is not None else None
        case Supervised():
            return None


def _optim(cfg: DictConfig) -> Optim:
    o = cfg.optim
    return Optim(o.lr, (o.betas[0], o.betas[1]), o.eps, o.weight_decay, o.grad_clip, o.warmup, o.schedule)


def arithmetic_of(cfg: DictConfig) -> list[str]:
    """The batch in figures, and the algorithm in one line."""
    r, u = cfg.rollout, cfg["update"]
    rows = r.prompts * r.samples
    epochs = f", {u.epochs} times" if u.epochs > 1 else ""
    size = f"{rows // u.minibatches}" if rows % u.minibatches == 0 else f"{rows // u.minibatches} or 1 more"
    axes = ", ".join(f"{axis} {_name(cfg.algo[axis])}" for axis in AXES if axis in cfg.algo)
    batch = f"{r.prompts} prompts × {r.samples} samples = {rows} responses → {u.minibatches} updates of {size}{epochs}"
    return [batch, f"{choice('algo')}: {axes}"]


AXES = ("select", "advantage", "ratio", "clip", "aggregate", "kl")


def _name(node: DictConfig) -> str:
    """`ppo(low=0.2, high=0.2)` for a node."""
    name = str(node._target_ if "estimator" not in node else node.estimator._target_).split(".")[-1]
    scalars = {k: v for k, v in node.items() if not str(k).startswith("_") and not isinstance(v, DictConfig)}
    inside = ", ".join(f"{k}={v}" for k, v in scalars.items() if v is not None)
    return f"{name}({inside})" if inside else name


def choice(group: str) -> str:
    """The option chosen for a config group, as the user typed it."""
    return str(HydraConfig.get().runtime.choices.get(group))


def _identity(cfg: DictConfig, directory: Path) -> Identity:
    overrides = list(HydraConfig.get().overrides.task)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return Identity(
        algo=choice("algo"),
        model=cfg.model.name,
        dataset=choice("dataset"),
        seed=cfg.seed,
        name=" ".join(overrides) or "defaults",
        group=None,
        tags=[choice("algo"), cfg.model.name, choice("dataset")],
        config={str(key): value for key, value in plain.items()},
    )


def _quiet() -> None:
    """Lightning's advice is for people who write loops by hand."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
