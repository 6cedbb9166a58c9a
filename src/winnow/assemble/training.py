"""Training run assembled from a composed configuration, and the lines that describe it at start-up."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from transformers import PreTrainedModel

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.assemble import common, guards
from winnow.assemble.devices import chosen_devices, on_devices
from winnow.assemble.hardware import apply_hardware, hardware_of, sharded_parts
from winnow.assemble.observation import trackers_of, trainer_settings
from winnow.assemble.preflight import before_training, ranks_of, require_room_for_prompts
from winnow.assemble.problem_order import problem_order
from winnow.assemble.rewards import RunRewards, prepare, reward_notices, run_rewards
from winnow.assemble.run_start import RunStart, accept_and_log
from winnow.assemble.start_lines import (
    algorithm_summary,
    batch_arithmetic,
    budget_in_words,
    collector_of,
    slow_path_notices,
)
from winnow.config.explanation import run_text
from winnow.config.instantiate import (
    build_algorithm,
    max_mismatch_kl,
    needs_reference,
    precision_of,
    samples_exactly,
    sync_of,
    token_budget,
)
from winnow.config.nodes import plain_config
from winnow.config.notices import notices_of
from winnow.config.saved_runs import sweep_of
from winnow.data.collection import Benchmark
from winnow.data.mixture import first_problems
from winnow.data.problems import problems_hash
from winnow.data.prompts import PromptOrder, longest_prompt, render
from winnow.engines.base import Engine
from winnow.errors import ConfigError
from winnow.evaluation.sets import HeldOutEvaluator
from winnow.experience.ahead import Ahead
from winnow.experience.batching import Plan, TokenBudget
from winnow.experience.collect import Collector, Judge
from winnow.experience.collectors import Budgets, CollectorRule
from winnow.experience.gradient_norms import SHARDED, ResponseGradients
from winnow.experience.loader import ExperienceSource
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience, PolicyGradientExperience
from winnow.experience.preference import PreferenceExperience
from winnow.experience.scoring import Scorer
from winnow.experience.supervised import SupervisedExperience
from winnow.guards.settings import NonFiniteSettings
from winnow.models.attention import is_packed
from winnow.models.backbone import require_masters
from winnow.models.language_model import LanguageModel
from winnow.models.policy import AdaptersOff, Critic, FrozenCopy, Policy, reference_of
from winnow.models.precision import WEIGHTS
from winnow.ops import aggregate
from winnow.process_group import is_first_rank
from winnow.rewards.verifier import Verifier
from winnow.run_logs.console import print_line
from winnow.run_logs.run_log import RunLog
from winnow.run_logs.tracker import RunInfo
from winnow.study.arms import distinguishing_overrides
from winnow.training.modules import (
    ActorCriticModule,
    Following,
    IterationModule,
    OptimizerSettings,
    PolicyGradientModule,
    PreferenceModule,
)
from winnow.training.progress import RunBudget
from winnow.training.run import Intervals, Run
from winnow.types import Sampling

TAG_GROUPS = ("arm", "algo", "model", "dataset", "experiment")
"""Config groups whose chosen options are the run's tags at the tracker."""


def train(cfg: DictConfig, directory: Path) -> float | None:
    """Train as `cfg` says in `directory`, and return the final held-out accuracy, which sweepers optimise.

    Raises:
        ConfigError: the model or the data cannot be loaded.
        Diverged: the run was stopped because its numbers were not finite, or its samples not the policy's.
        Stopped: a signal ended it, after a checkpoint.
    """
    common.quiet_libraries()
    common.set_threads(cfg)
    clock = Clock()
    with (
        RunLog() as log,
        common.verifiers(cfg) as (verifier, benchmarks),
        run_rewards(cfg) as rewards,
        guards.watchdog(cfg, clock),
        ExitStack() as ends,
    ):
        with clock.of("start"):
            run = build_run(cfg, directory, verifier, benchmarks, rewards, ends, clock=clock, log=log)
        return run.fit(resume=cfg.resume is not None)


def build_run(
    cfg: DictConfig,
    directory: Path,
    verifier: Verifier,
    benchmarks: Sequence[Benchmark],
    rewards: RunRewards,
    ends: ExitStack,
    stop: int | None = None,
    clock: Clock | None = None,
    log: RunLog | None = None,
) -> Run:
    """The run with everything that `cfg` names, which pauses after iteration `stop`, if that is given.

    The data are loaded first, then the model. `clock` measures the phases of the run; `log` is opened in its directory
    once it is accepted. A server that the sampler has started ends with `ends`.
    """
    start = RunStart.of(directory, cfg, "train")
    algorithm = build_algorithm(cfg)
    source = common.model_source(cfg)
    cfg = on_devices(cfg, chosen_devices(cfg, algorithm, source))
    start = replace(start, ranks=ranks_of(cfg))
    common.require_engine(cfg, source)
    problems = common.load_problems(cfg, verifier)
    if isinstance(algorithm, Supervised):
        problems.require_solutions()
    evaluated = common.evaluated_problems(cfg, lambda: problems, verifier, benchmarks)
    before = before_training(cfg, algorithm, source)
    for line in before.lines if is_first_rank() else []:
        print_line(line)
    if before.strategy == "fsdp" and isinstance(collector_of(cfg), Budgets):
        raise ConfigError(SHARDED)
    language_model = common.load_model(cfg, source, sharded=before.strategy == "fsdp")
    template = source.template
    sampled_problems, screening = common.screened_problems(cfg, problems, evaluated, language_model, template)
    if cfg.rollout.problems is not None:
        sampled_problems = first_problems(sampled_problems, cfg.rollout.problems, problems.shares)
    revisions = common.revisions(problems, benchmarks)
    start = replace(start.on_problems(problems_hash(sampled_problems), revisions), objective=run_text(cfg, algorithm))
    engine = ends.enter_context(common.ended(common.engine_of(cfg, language_model, before.max_rows)))
    reward = rewards.training
    prepare(reward, sampled_problems)
    sets = common.evaluation_sets(evaluated, cfg.eval.prompts, rewards.evaluation, language_model, template)
    common.require_positions(cfg, language_model, template, sampled_problems, sets)
    require_room_for_prompts(
        cfg,
        source,
        sets,
        sampled_problems if problems.overlap is not None else (),
        lambda problem: longest_prompt([problem], language_model.tokenizer, template),
    )
    judge = Judge(verifier, reward, language_model.decode)
    policy = Policy(language_model.model, cfg.rollout.temperature, language_model.checked)
    inexact = common.precision_notices(cfg, language_model.checked)
    apply_hardware(cfg, language_model.model, language_model.checked)
    order = problem_order(cfg, sampled_problems, problems.shares, algorithm)
    prompts = PromptOrder(order, language_model, template)
    factory = AlgorithmFactory(cfg, algorithm, language_model, prompts, engine, judge, policy)
    experience, module = factory.build()
    require_masters(module, WEIGHTS[precision_of(cfg)])
    if language_model.pending is not None:
        module.sharded = sharded_parts(cfg, language_model.pending, policy, factory.critic, factory.reference)
    first_prompt = render(sampled_problems[0], language_model.tokenizer, template)
    update, checkpoint, budget = cfg["update"], cfg.checkpoint, token_budget_of(cfg, language_model)
    rule = aggregate.sequence_mean if isinstance(algorithm, Preference) else algorithm.aggregate
    return Run(
        directory=directory,
        info=_run_info(cfg, directory, common.prompt_hash(first_prompt), revisions, start.objective),
        hardware=hardware_of(cfg, before.strategy),
        intervals=Intervals(
            cfg.iterations,
            RunBudget(**cfg.budget),
            cfg.eval.every,
            checkpoint.every,
            None if checkpoint.keep == "all" else checkpoint.keep,
            checkpoint.best,
            stop,
            factory.rule.patience,
        ),
        language_model=language_model,
        module=module,
        source=experience,
        order=order,
        ahead=factory.ahead,
        non_finite=NonFiniteSettings(cfg.guards.max_consecutive, cfg.guards.weights_mb),
        plan=Plan(update.minibatches, update.epochs, budget, rule, cfg.seed),
        evaluator=HeldOutEvaluator(
            sets,
            language_model.model,
            common.evaluation_sampler(cfg, common.of_the_policy(engine)),
        ),
        tracker=trackers_of(cfg),
        lines=[
            str(directory),
            *start.lines(),
            batch_arithmetic(cfg, algorithm),
            *budget_in_words(cfg),
            algorithm_summary(cfg),
            *screening,
            *(
                f"note: {n}"
                for n in (*notices_of(cfg, algorithm, start.resumed), *slow_path_notices(cfg, policy), *inexact)
            ),
            *(f"note: {n}" for n in common.export_notices(language_model)),
            *(f"note: {n}" for n in reward_notices(cfg, reward, sampled_problems)),
        ],
        record=start.record,
        accept=partial(accept_and_log, start, log),
        check=guards.update_check(cfg, language_model, algorithm, judge, module, factory.reference, factory.golds),
        alarms=guards.alarms(cfg),
        clock=clock or Clock(),
        settings=trainer_settings(cfg),
    )


@dataclass(frozen=True)
class AlgorithmFactory:
    """Builds the two halves of an algorithm, its source of experience and its Lightning module, from these parts."""

    cfg: DictConfig
    algorithm: Algorithm
    language_model: LanguageModel
    prompts: PromptOrder
    engine: Engine
    judge: Judge
    policy: Policy

    def build(self) -> tuple[ExperienceSource, IterationModule]:
        """The source of the algorithm's experience, and the module that is trained on it."""
        module = module_of(self.cfg, self.algorithm, self.policy, self.critic)
        if (sync := sync_of(self.algorithm)) is not None:
            assert isinstance(self.reference, FrozenCopy)
            module.following = Following(self.reference, sync)
        return self._source(self.critic), module

    @cached_property
    def critic(self) -> Critic | None:
        """The critic that an actor-critic has."""
        if not isinstance(self.algorithm, ActorCritic):
            return None
        critic = Critic(self.language_model.model)
        checked = self.language_model.checked.base_model
        assert isinstance(checked, PreTrainedModel)
        apply_hardware(self.cfg, critic.backbone, checked)
        return critic

    def _source(self, critic: Critic | None) -> ExperienceSource:
        rollout, update = self.cfg.rollout, self.cfg["update"]
        collector = replace(self._collector, ahead=self.ahead)
        match self.algorithm:
            case Supervised() as a:
                return SupervisedExperience(self.prompts, rollout.prompts, rollout.max_tokens)
            case PolicyGradient() as a:
                updates = update.minibatches * update.epochs
                return PolicyGradientExperience(collector, self._scorer, a, updates)
            case ActorCritic() as a:
                assert critic is not None
                return ActorCriticExperience(collector, self._scorer, critic, a)
            case Preference() as a:
                return PreferenceExperience(collector, self._scorer, a)

    @cached_property
    def reference(self) -> FrozenCopy | AdaptersOff | None:
        """The reference policy that is kept, where objective or metrics read it; made before the first update."""
        needed = needs_reference(self.cfg, self.algorithm)
        return reference_of(self.policy, self.language_model.adapter) if needed else None

    def golds(self, iteration: int) -> dict[str, str]:
        """The gold answers of the iteration's problems, by key."""
        problems = self.prompts.problems_of(iteration, self.rule.most_prompts(self.cfg.rollout.prompts))
        return {problem.key: problem.answer for problem in problems}

    @cached_property
    def ahead(self) -> Ahead | None:
        """The samples that are drawn ahead of their training; None with `rollout.staleness=0`."""
        rollout, collector = self.cfg.rollout, self._collector
        if isinstance(self.algorithm, Supervised) or not rollout.staleness:
            return None
        return Ahead(self.engine, rollout.staleness, collector.sampling, collector.request, self._scorer.check_sampler)

    @cached_property
    def _collector(self) -> Collector:
        rollout = self.cfg.rollout
        return Collector(
            model=self.language_model.model,
            engine=self.engine,
            order=self.prompts,
            judge=self.judge,
            sampling=Sampling(rollout.temperature, rollout.max_tokens),
            prompts=rollout.prompts,
            samples=rollout.samples,
            seed=self.cfg.seed,
            rule=self.rule,
            gradient_norms=ResponseGradients(self.policy),
        )

    @cached_property
    def rule(self) -> CollectorRule:
        """The rule of what an iteration draws and passes on."""
        return collector_of(self.cfg)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(
            policy=self.policy,
            kept=self.reference,
            synced=sync_of(self.algorithm) is not None,
            exact=samples_exactly(self.cfg),
            budget=token_budget_of(self.cfg, self.language_model),
            kl_rows=self.cfg.metrics.kl_rows,
            seed=self.cfg.seed,
            max_mismatch_kl=max_mismatch_kl(self.cfg),
            ahead=self.cfg.rollout.staleness > 0,
        )


def module_of(cfg: DictConfig, algorithm: Algorithm, policy: Policy, critic: Critic | None) -> IterationModule:
    """The Lightning module that trains `policy`, and the `critic` that an actor-critic has, by `algorithm`."""
    optim = _optim(cfg)
    match algorithm:
        case ActorCritic() as a:
            assert critic is not None
            critic_lr = a.critic_lr_ratio * optim.lr
            return ActorCriticModule(policy, critic, optim, critic_lr, a.objective, a.value_objective)
        case Preference() as a:
            return PreferenceModule(policy, optim, a.objective)
        case _:
            return PolicyGradientModule(policy, optim, algorithm.objective)


def token_budget_of(cfg: DictConfig, language_model: LanguageModel) -> TokenBudget:
    """Tokens of a micro-batch, counted without padding where the model's rows can be packed."""
    return TokenBudget(token_budget(cfg), is_packed(language_model.model))


def _optim(cfg: DictConfig) -> OptimizerSettings:
    o = cfg.optim
    return OptimizerSettings(o.lr, (o.betas[0], o.betas[1]), o.eps, o.weight_decay, o.grad_clip, o.warmup, o.schedule)


def _run_info(
    cfg: DictConfig, directory: Path, prompt_hash: str, revisions: Mapping[str, str], objective: str
) -> RunInfo:
    hydra = HydraConfig.get()
    overrides, options = list(hydra.overrides.task), hydra.runtime.choices
    choices = {group: str(options[group]) for group in TAG_GROUPS if options.get(group) is not None}
    arm = " ".join([choices.get("arm", choices["algo"]), *sorted(distinguishing_overrides(overrides))])
    return RunInfo(
        algo=choices["algo"],
        model=cfg.model.name,
        dataset=choices["dataset"],
        seed=cfg.seed,
        prompt_hash=prompt_hash,
        name=cfg.get("task_name") or " ".join(overrides) or "defaults",
        group=sweep_of(directory),
        tags=list(dict.fromkeys(choices.values())),
        config=plain_config(cfg) | {"arm": arm, "choices": choices, "objective": objective},
        revisions=revisions,
    )
