"""A configuration in a few lines: the batch in figures, the budget, and the algorithm in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.assemble import common
from winnow.assemble.preflight import before_training
from winnow.config.checks import settings_without_effect
from winnow.config.instantiate import (
    build_algorithm,
    build_node,
    choice,
    max_mismatch_kl,
    needs_reference,
    precision_of,
    samples_exactly,
    token_budget,
)
from winnow.config.saved_runs import sweep_of
from winnow.data.collection import Benchmark
from winnow.data.problems import Problem
from winnow.data.prompts import PromptOrder, render
from winnow.engines.base import Engine
from winnow.evaluation.sets import HeldOutEvaluator
from winnow.experience.batching import Plan, TokenBudget
from winnow.experience.collect import Collector, Judge
from winnow.experience.loader import ExperienceSource
from winnow.experience.policy_gradient import ActorCriticExperience, PolicyGradientExperience
from winnow.experience.preference import PreferenceExperience
from winnow.experience.scoring import Scorer
from winnow.experience.supervised import SupervisedExperience
from winnow.models.attention import is_packed
from winnow.models.backbone import compile_blocks, enable_gradient_checkpointing, require_float32_masters
from winnow.models.language_model import LanguageModel
from winnow.models.policy import Critic, Policy, reference_of
from winnow.models.templates import Template
from winnow.objectives import rule_of
from winnow.ops import aggregate, select
from winnow.rewards.verifier import Verifier
from winnow.run_logs.console import print_line
from winnow.study.arms import distinguishing_overrides
from winnow.training.modules import (
    ActorCriticModule,
    IterationModule,
    OptimizerSettings,
    PolicyGradientModule,
    PreferenceModule,
)
from winnow.training.progress import RunBudget
from winnow.training.run import Hardware, Intervals, Run, RunInfo, is_first_rank
from winnow.types import Sampling

AXES = ("select", "advantage", "ratio", "clip", "aggregate", "kl", "correction")


def batch_arithmetic(cfg: DictConfig, algorithm: Algorithm) -> str:
    """`32 prompts × 8 samples = 256 responses → 4 updates of 64`."""
    rollout, update = cfg.rollout, cfg["update"]
    again = f", {update.epochs} times over" if update.epochs > 1 else ""
    if isinstance(algorithm, Supervised):
        return f"{rollout.prompts} demonstrations → {_updates_in_words(rollout.prompts, update.minibatches)}{again}"
    rows = rollout.prompts * rollout.samples
    sampled = f"{rollout.prompts} prompts × {rollout.samples} samples = {rows} responses"
    if isinstance(algorithm, Preference):
        return f"{sampled} → pairs → {update.minibatches} updates{again}"
    everything = rule_of(algorithm.select) is select.all_samples or algorithm.rejected == "zero"
    kept = "" if everything else " → those kept"
    return f"{sampled}{kept} → {_updates_in_words(rows, update.minibatches, exactly=everything)}{again}"


def _updates_in_words(rows: int, minibatches: int, exactly: bool = True) -> str:
    size = -(-rows // minibatches)
    about = "" if exactly and rows % minibatches == 0 else "up to "
    return f"{minibatches} update{'s' if minibatches > 1 else ''} of {about}{size}"


def budget_in_words(cfg: DictConfig) -> list[str]:
    """`until 1,000,000 sampled tokens or 600 s are spent, at most 100 iterations`; nothing without a budget."""
    b = cfg.budget
    limits = [
        words.format(limit)
        for words, limit in (
            ("{:,} sampled tokens", b.sampled_tokens),
            ("{:,} trained tokens", b.trained_tokens),
            ("{:g} s", b.seconds),
        )
        if limit is not None
    ]
    return [f"until {' or '.join(limits)} are spent, at most {cfg.iterations} iterations"] if limits else []


def algorithm_summary(cfg: DictConfig) -> str:
    """`raftpp: select best, advantage one, ratio token, clip ppo(low=0.2, high=0.2), …`."""
    axes = ", ".join(f"{axis} {_chosen(cfg.algo[axis], axis)}" for axis in AXES if axis in cfg.algo)
    others = [f"{k} {v}" for k, v in cfg.algo.items() if isinstance(v, bool | int | float | str) and k != "_target_"]
    return f"{choice('algo')}: {', '.join([axes, *others])}"


def _chosen(node: DictConfig, axis: str) -> str:
    scalars = {k: v for k, v in node.items() if not str(k).startswith("_") and not isinstance(v, DictConfig)}
    inside = ", ".join(f"{k}={v}" for k, v in scalars.items() if v is not None)
    name = choice(f"algo/{axis}")
    return f"{name}({inside})" if inside else name


TAG_GROUPS = ("arm", "algo", "model", "dataset", "experiment")
"""What a run is found by at the tracker."""


def train(cfg: DictConfig, directory: Path) -> float | None:
    """Run `cfg` in `directory`; the final held-out accuracy, for sweepers.

    Raises:
        ConfigError: the model or the data could not be had.
        Diverged: the run was given up.
        Stopped: a signal ended it, after a checkpoint.
    """
    common.quiet_libraries()
    common.set_threads(cfg)
    with common.verifiers(cfg) as (pool, benchmarks):
        return build_run(cfg, directory, pool, benchmarks).fit(resume=cfg.resume is not None)


def build_run(cfg: DictConfig, directory: Path, pool: Verifier, benchmarks: Sequence[Benchmark]) -> Run:
    """Everything that `cfg` names, put together; the model is had first, then the data."""
    algorithm = build_algorithm(cfg)
    source = common.model_source(cfg)
    common.require_engine(cfg, source)
    before = before_training(cfg, algorithm, source)
    for line in before.lines if is_first_rank() else []:
        print_line(line)
    language_model = common.load_model(cfg, source)
    template = source.template
    problems = common.load_problems(cfg, pool)
    if isinstance(algorithm, Supervised):
        problems.require_solutions()
    evaluated = common.evaluated_problems(lambda: problems, pool, benchmarks)
    drawn_from, screening = common.screened_problems(cfg, problems, evaluated, language_model, template)
    engine = common.engine_of(cfg, language_model, before.max_rows)
    scale = common.reward_scale(cfg)
    judge = Judge(pool, scale, language_model.decode)
    policy = Policy(language_model.model, cfg.rollout.temperature)
    if cfg.hardware.gradient_checkpointing:
        enable_gradient_checkpointing(language_model.model)
    if cfg.hardware.compile:
        compile_blocks(language_model.model)
    learning = AlgorithmFactory(cfg, algorithm, language_model, template, drawn_from, engine, judge, policy)
    experience, module = learning.build()
    require_float32_masters(module)
    rule = aggregate.sequence_mean if isinstance(algorithm, Preference) else algorithm.aggregate
    return Run(
        directory=directory,
        identity=_run_info(
            cfg, directory, common.prompt_hash(render(drawn_from[0], language_model.tokenizer, template))
        ),
        hardware=Hardware(cfg.hardware.accelerator, cfg.hardware.devices, cfg.hardware.strategy, precision_of(cfg)),
        cadence=Intervals(
            cfg.iterations, RunBudget(**cfg.budget), cfg.eval.every, cfg.checkpoint.every, cfg.checkpoint.keep
        ),
        language_model=language_model,
        module=module,
        source=experience,
        plan=Plan(
            cfg["update"].minibatches,
            cfg["update"].epochs,
            token_budget_of(cfg, language_model),
            rule,
            cfg.seed,
        ),
        evaluator=HeldOutEvaluator(
            common.evaluation_sets(evaluated, cfg.eval.prompts, scale, language_model, template),
            language_model.model,
            common.evaluation_sampler(cfg, engine),
        ),
        tracker=build_node(cfg.logger),
        lines=[
            str(directory),
            batch_arithmetic(cfg, algorithm),
            *budget_in_words(cfg),
            algorithm_summary(cfg),
            *screening,
            *(
                f"note: {notice}"
                for notice in [*settings_without_effect(cfg, algorithm), *slow_path_notices(cfg, policy)]
            ),
        ],
    )


@dataclass(frozen=True)
class AlgorithmFactory:
    """What an algorithm learns with."""

    cfg: DictConfig
    algorithm: Algorithm
    language_model: LanguageModel
    template: Template
    problems: Sequence[Problem]
    engine: Engine
    judge: Judge
    policy: Policy

    def build(self) -> tuple[ExperienceSource, IterationModule]:
        """Where its experience comes from, and the module that learns from it."""
        optim, policy, model = _optim(self.cfg), self.policy, self.language_model.model
        match self.algorithm:
            case Supervised() as a:
                rollout = self.cfg.rollout
                source = SupervisedExperience(self._order(a.shuffle), rollout.prompts, rollout.max_tokens)
                return source, PolicyGradientModule(policy, optim, a.objective)
            case PolicyGradient() as a:
                source = PolicyGradientExperience(
                    self._collector(), self._scorer(), a, self.cfg["update"].minibatches * self.cfg["update"].epochs
                )
                return source, PolicyGradientModule(policy, optim, a.objective)
            case ActorCritic() as a:
                critic = Critic(model)
                if self.cfg.hardware.gradient_checkpointing:
                    enable_gradient_checkpointing(critic.backbone)
                if self.cfg.hardware.compile:
                    compile_blocks(critic.backbone)
                source = ActorCriticExperience(self._collector(), self._scorer(), critic, a)
                module = ActorCriticModule(
                    policy, critic, optim, a.critic_lr_ratio * optim.lr, a.objective, a.value_objective
                )
                return source, module
            case Preference() as a:
                source = PreferenceExperience(self._collector(), self._scorer(), a)
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
        needed = needs_reference(self.cfg, self.algorithm)
        return Scorer(
            policy=self.policy,
            initial=reference_of(self.policy, self.language_model.adapter) if needed else None,
            exact=samples_exactly(self.cfg),
            budget=token_budget_of(self.cfg, self.language_model),
            kl_rows=self.cfg.metrics.kl_rows,
            seed=self.cfg.seed,
            max_mismatch_kl=max_mismatch_kl(self.cfg),
        )


def slow_path_notices(cfg: DictConfig, policy: Policy) -> list[str]:
    """What this model does not let the updates save."""
    found, name = [], type(policy.model).__name__
    if cfg.hardware.attention == "auto" and not is_packed(policy.model):
        found.append(
            f"{name} attends in ways of its own: its rows are padded, and prompts are computed for every sample"
        )
    if not policy.plain_head:
        found.append(f"{name} does more to its logits than one linear map: all of a micro-batch's exist at once")
    return found


def token_budget_of(cfg: DictConfig, language_model: LanguageModel) -> TokenBudget:
    return TokenBudget(token_budget(cfg), is_packed(language_model.model))


def _optim(cfg: DictConfig) -> OptimizerSettings:
    o = cfg.optim
    return OptimizerSettings(o.lr, (o.betas[0], o.betas[1]), o.eps, o.weight_decay, o.grad_clip, o.warmup, o.schedule)


def _run_info(cfg: DictConfig, directory: Path, prompt_hash: str) -> RunInfo:
    overrides = list(HydraConfig.get().overrides.task)
    chosen = {group: str(name) for group, name in HydraConfig.get().runtime.choices.items() if name is not None}
    choices = {group: chosen[group] for group in TAG_GROUPS if group in chosen}
    base = choices.get("arm", choices["algo"])
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return RunInfo(
        algo=choices["algo"],
        model=cfg.model.name,
        dataset=choices["dataset"],
        seed=cfg.seed,
        prompt_hash=prompt_hash,
        name=" ".join(overrides) or "defaults",
        group=sweep_of(directory),
        tags=list(dict.fromkeys(choices.values())),
        config={str(key): value for key, value in plain.items()}
        | {"arm": " ".join([base, *sorted(distinguishing_overrides(overrides))]), "choices": choices},
    )
