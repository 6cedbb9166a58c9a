"""From a composed configuration to a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.app.summary import sweep_of
from winnow.build import parts
from winnow.build.preflight import before_training
from winnow.data.benchmark import Benchmark
from winnow.data.problems import Problem
from winnow.data.prompts import PromptOrder, render
from winnow.data.templates import Template
from winnow.describe import budget_in_words, in_figures, in_words
from winnow.engines.base import Engine
from winnow.experience.budget import Budget
from winnow.experience.collect import Collector, Judge
from winnow.experience.credit import Crediter
from winnow.experience.demonstrate import Demonstrator
from winnow.experience.loader import Source
from winnow.experience.pair import Pairer
from winnow.experience.plan import Plan
from winnow.experience.scorer import Scorer
from winnow.experience.weigh import Weigher
from winnow.instantiation import build_algorithm, build_node
from winnow.models.activations import recompute_activations
from winnow.models.attention import is_packed
from winnow.models.compiled import compile_blocks
from winnow.models.critic import Critic
from winnow.models.language_model import LanguageModel
from winnow.models.policy import Policy
from winnow.models.precision import require_float32_masters
from winnow.models.reference import reference_of
from winnow.ops import aggregate
from winnow.report.console import print_line
from winnow.rewards.pool import VerifierPool
from winnow.study.arms import typed_of
from winnow.training.actor_critic import ActorCriticModule
from winnow.training.base import IterationModule, Optim
from winnow.training.evaluate import Evaluator
from winnow.training.policy_gradient import PolicyGradientModule
from winnow.training.preference import PreferenceModule
from winnow.training.run import Cadence, Hardware, Identity, Run, is_first_rank
from winnow.training.run_budget import RunBudget
from winnow.types import Sampling
from winnow.validation import notices

GROUPS = ("arm", "algo", "model", "dataset", "experiment")
"""What a run is found by at the tracker."""


def train(cfg: DictConfig, directory: Path) -> float | None:
    """Run `cfg` in `directory`; the final held-out accuracy, for sweepers.

    Raises:
        ConfigError: the model or the data could not be had.
        Diverged: the run was given up.
        Stopped: a signal ended it, after a checkpoint.
    """
    parts.quiet()
    parts.set_threads(cfg)
    with parts.verifiers(cfg) as (pool, benchmarks):
        return build(cfg, directory, pool, benchmarks).fit(resume=cfg.resume is not None)


def build(cfg: DictConfig, directory: Path, pool: VerifierPool, benchmarks: Sequence[Benchmark]) -> Run:
    """Everything that `cfg` names, put together; the model is had first, then the data."""
    algorithm = build_algorithm(cfg)
    source = parts.model_source(cfg)
    parts.require_engine(cfg, source)
    before = before_training(cfg, algorithm, source)
    for line in before.lines if is_first_rank() else []:
        print_line(line)
    language_model = parts.load_model(cfg, source)
    template = source.template
    problems = parts.load_problems(cfg, pool)
    if isinstance(algorithm, Supervised):
        problems.require_solutions()
    evaluated = parts.evaluated_problems(lambda: problems, pool, benchmarks)
    drawn_from, screening = parts.screened(cfg, problems, evaluated, language_model, template)
    engine = parts.engine_of(cfg, language_model, before.max_rows)
    scale = parts.reward_scale(cfg)
    judge = Judge(pool, scale, language_model.decode)
    policy = Policy(language_model.model, cfg.rollout.temperature)
    if cfg.hardware.gradient_checkpointing:
        recompute_activations(language_model.model)
    if cfg.hardware.compile:
        compile_blocks(language_model.model)
    learning = Learning(cfg, algorithm, language_model, template, drawn_from, engine, judge, policy)
    experience, module = learning.build()
    require_float32_masters(module)
    rule = aggregate.sequence_mean if isinstance(algorithm, Preference) else algorithm.aggregate
    return Run(
        directory=directory,
        identity=_identity(
            cfg, directory, parts.prompt_hash(render(drawn_from[0], language_model.tokenizer, template))
        ),
        hardware=Hardware(
            cfg.hardware.accelerator, cfg.hardware.devices, cfg.hardware.strategy, parts.precision_of(cfg)
        ),
        cadence=Cadence(
            cfg.iterations, RunBudget(**cfg.budget), cfg.eval.every, cfg.checkpoint.every, cfg.checkpoint.keep
        ),
        language_model=language_model,
        module=module,
        source=experience,
        plan=Plan(
            cfg["update"].minibatches,
            cfg["update"].epochs,
            budget_of(cfg, language_model),
            rule,
            cfg.seed,
        ),
        evaluator=Evaluator(
            parts.evaluation_sets(evaluated, cfg.eval.prompts, scale, language_model, template),
            language_model.model,
            parts.asking(cfg, engine),
        ),
        tracker=build_node(cfg.logger),
        lines=[
            str(directory),
            in_figures(cfg, algorithm),
            *budget_in_words(cfg),
            in_words(cfg),
            *screening,
            *(f"note: {notice}" for notice in [*notices(cfg, algorithm), *slow_paths(cfg, policy)]),
        ],
    )


@dataclass(frozen=True)
class Learning:
    """What an algorithm learns with."""

    cfg: DictConfig
    algorithm: Algorithm
    language_model: LanguageModel
    template: Template
    problems: Sequence[Problem]
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
                source = Weigher(
                    self._collector(), self._scorer(), a, self.cfg["update"].minibatches * self.cfg["update"].epochs
                )
                return source, PolicyGradientModule(policy, optim, a.objective)
            case ActorCritic() as a:
                critic = Critic(model)
                if self.cfg.hardware.gradient_checkpointing:
                    recompute_activations(critic.backbone)
                if self.cfg.hardware.compile:
                    compile_blocks(critic.backbone)
                source = Crediter(self._collector(), self._scorer(), critic, a)
                module = ActorCriticModule(
                    policy, critic, optim, a.critic_lr_ratio * optim.lr, a.objective, a.value_objective
                )
                return source, module
            case Preference() as a:
                source = Pairer(self._collector(), self._scorer(), a)
                return source, PreferenceModule(policy, optim, a.objective)

    def _order(self, shuffle: bool = True) -> PromptOrder:
        return PromptOrder(self.problems, self.language_model, self.template, self.cfg.seed, shuffle)

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
        needed = parts.needs_reference(self.cfg, self.algorithm)
        return Scorer(
            policy=self.policy,
            initial=reference_of(self.policy, self.language_model.adapter) if needed else None,
            exact=parts.samples_exactly(self.cfg),
            budget=budget_of(self.cfg, self.language_model),
            kl_rows=self.cfg.metrics.kl_rows,
            seed=self.cfg.seed,
            max_mismatch_kl=parts.max_mismatch_kl(self.cfg),
        )


def slow_paths(cfg: DictConfig, policy: Policy) -> list[str]:
    """What this model does not let the updates save."""
    found, name = [], type(policy.model).__name__
    if cfg.hardware.attention == "auto" and not is_packed(policy.model):
        found.append(
            f"{name} attends in ways of its own: its rows are padded, and prompts are computed for every sample"
        )
    if not policy.plain_head:
        found.append(f"{name} does more to its logits than one linear map: all of a micro-batch's exist at once")
    return found


def budget_of(cfg: DictConfig, language_model: LanguageModel) -> Budget:
    return Budget(parts.token_budget(cfg), is_packed(language_model.model))


def _optim(cfg: DictConfig) -> Optim:
    o = cfg.optim
    return Optim(o.lr, (o.betas[0], o.betas[1]), o.eps, o.weight_decay, o.grad_clip, o.warmup, o.schedule)


def _identity(cfg: DictConfig, directory: Path, prompt_hash: str) -> Identity:
    overrides = list(HydraConfig.get().overrides.task)
    chosen = {group: str(name) for group, name in HydraConfig.get().runtime.choices.items() if name is not None}
    choices = {group: chosen[group] for group in GROUPS if group in chosen}
    base = choices.get("arm", choices["algo"])
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return Identity(
        algo=choices["algo"],
        model=cfg.model.name,
        dataset=choices["dataset"],
        seed=cfg.seed,
        prompt_hash=prompt_hash,
        name=" ".join(overrides) or "defaults",
        group=sweep_of(directory),
        tags=list(dict.fromkeys(choices.values())),
        config={str(key): value for key, value in plain.items()}
        | {"arm": " ".join([base, *sorted(typed_of(overrides))]), "choices": choices},
    )
