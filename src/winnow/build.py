"""From a composed configuration to a run."""

import copy
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as transformers_logging

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.app.summary import sweep_of
from winnow.data.problems import ProblemSet
from winnow.data.prompts import PromptOrder, render
from winnow.data.templates import Template
from winnow.describe import in_figures, in_words
from winnow.engines.base import Engine
from winnow.experience.collect import Collector, Judge
from winnow.experience.credit import Crediter
from winnow.experience.demonstrate import Demonstrator
from winnow.experience.loader import Source
from winnow.experience.pair import Pairer
from winnow.experience.plan import Plan
from winnow.experience.scorer import Scorer
from winnow.experience.weigh import Weigher
from winnow.instantiation import build_algorithm, build_node, choice
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
from winnow.validation import notices


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
    pool: VerifierPool = build_node(cfg.reward.verifier)
    with pool:
        return build(cfg, directory, pool).fit(resume=cfg.resume is not None)


def build(cfg: DictConfig, directory: Path, pool: VerifierPool) -> Run:
    """Everything that `cfg` names, put together; the model is had first, then the data."""
    algorithm = build_algorithm(cfg)
    source: ModelSource = build_node(cfg.model)
    language_model = source.load()
    problems: ProblemSet = build_node(cfg.dataset)(bad_golds=pool.check_golds)
    if isinstance(algorithm, Supervised):
        problems.require_solutions()
    engine: Engine = build_node(cfg.engine, eos_ids=language_model.eos_ids, pad_id=language_model.pad_id)
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
        tracker=build_node(cfg.logger),
        lines=[
            str(directory),
            in_figures(cfg, algorithm),
            in_words(cfg),
            *(f"note: {notice}" for notice in notices(cfg, algorithm)),
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
                module = ActorCriticModule(
                    policy, critic, optim, a.critic_lr_ratio * optim.lr, a.objective, a.value_objective
                )
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
            # Cached decoding in bfloat16 rounds otherwise than the training forward.
            exact=self.engine.exact and self.cfg.hardware.precision == "32-true",
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
        group=sweep_of(directory),
        tags=[choice("algo"), cfg.model.name, choice("dataset")],
        config={str(key): value for key, value in plain.items()},
    )


def _quiet() -> None:
    """Lightning's advice is for people who write loops by hand."""
    transformers_logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
