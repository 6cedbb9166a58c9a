"""Evaluation assembled from a composed configuration."""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

import torch
from omegaconf import DictConfig

from winnow import signals
from winnow.assemble import common
from winnow.assemble.devices import on_devices
from winnow.assemble.preflight import before_evaluation, require_room_for_prompts
from winnow.assemble.rewards import prepare, run_rewards
from winnow.assemble.run_start import RunStart, accept_and_log
from winnow.config.heldout_files import holds_out
from winnow.config.instantiate import on_cuda, precision_of
from winnow.config.saved_runs import read_saved_run
from winnow.data.problems import NO_PROBLEMS
from winnow.evaluation.results import PLAN_FILE, EvaluationPlan, SetPlan
from winnow.evaluation.run import EvaluationRun
from winnow.evaluation.sets import EvaluationSet
from winnow.files import DiskErrors
from winnow.models.language_model import fingerprint
from winnow.models.precision import arithmetic
from winnow.run_logs.console import print_line
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_log import RunLog


def evaluate(cfg: DictConfig, directory: Path) -> float:
    """Evaluate as `cfg` says in `directory`, and return the mean accuracy over the sets, which sweepers optimise.

    Raises:
        ConfigError: the model or the data cannot be loaded, or the directory holds another evaluation.
        DiskFailure: the disk is full; complete batches of samples are kept.
        Stopped: a signal ended it; complete batches of samples are kept.
    """
    common.quiet_libraries()
    common.set_threads(cfg)
    iteration, iterations = trained_iterations(cfg)
    start = RunStart.of(directory, cfg, "evaluate")
    cfg = on_devices(cfg, 1)
    # Each batch is written atomically, so that there is nothing to finish first.
    full = DiskErrors(directory, lambda: f"make room; {_kept(directory)}")
    kept = signals.answered_by(lambda: _kept(directory))
    with (
        RunLog() as log,
        kept,
        common.verifiers(cfg) as (verifier, benchmarks),
        run_rewards(cfg, iterations) as rewards,
        full,
        ExitStack() as ends,
    ):
        source = common.model_source(cfg)
        common.require_engine(cfg, source)
        problems = common.load_problems(cfg, verifier) if holds_out(cfg) else NO_PROBLEMS
        evaluated = common.evaluated_problems(cfg, lambda: problems, verifier, benchmarks)
        revisions = common.revisions(problems, benchmarks)
        start = start.on_problems(None, revisions)
        before = before_evaluation(cfg, source)
        for line in before.lines:
            print_line(line)
        language_model = common.load_model(cfg, source)
        for notice in common.precision_notices(cfg, language_model.model):
            print_line(f"note: {notice}")
        reward = rewards.evaluation
        for of_set, _ in evaluated.values():
            prepare(reward, of_set)
        sets = common.evaluation_sets(evaluated, cfg.limit, reward, language_model, source.template)
        common.require_positions(cfg, language_model, source.template, (), sets)
        require_room_for_prompts(cfg, source, sets, (), lambda problem: 0)
        device = torch.device("cuda" if on_cuda(cfg) else "cpu")
        # Weights keep requires_grad: autocast caches its bfloat16 copies of such weights only, and would otherwise cast
        # them again for every token.
        model = language_model.model.to(device).eval()  # pyright: ignore[reportArgumentType]
        engine = ends.enter_context(common.ended(common.engine_of(cfg, language_model, before.max_rows)))
        plan = EvaluationPlan(
            model=source.name,
            path=str(cfg.model.get("path", source.name)),
            weights=fingerprint(model),
            seed=cfg.seed,
            samples=cfg.eval.samples,
            temperature=cfg.eval.temperature,
            max_tokens=cfg.eval.max_tokens,
            batch=max(1, cfg.batch // cfg.eval.samples),
            device=device.type,
            precision=precision_of(cfg),
            engine=cfg.engine._target_,
            sets={s.name: _set_plan(s) for s in sets},
        )
        sampler = common.evaluation_sampler(cfg, engine)
        return EvaluationRun(
            directory,
            plan,
            model,
            sampler,
            sets,
            arithmetic(precision_of(cfg), device),
            lambda: accept_and_log(start, log, after=0),
            revisions,
            iteration,
        ).run()


def trained_iterations(cfg: DictConfig) -> tuple[int, int]:
    """The iteration after which a run exported the model that is evaluated, and the length of that run, for reward
    functions that ask; 0 and the length that is configured for a model that no run has in its own folder."""
    export = Path(str(cfg.run)) / "export" if cfg.run is not None else None
    if export is None or Path(str(cfg.model.get("path"))).resolve() != export.resolve():
        return 0, cfg.iterations
    run = read_saved_run(export.parent)
    done = RunFiles(export.parent).read_summary().get("iterations")
    return done if isinstance(done, int) else 0, run.cfg.iterations


def _set_plan(s: EvaluationSet) -> SetPlan:
    content = hashlib.sha256(json.dumps([[p.key, p.text, p.answer] for p in s.prompts]).encode()).hexdigest()
    return SetPlan(len(s.prompts), common.prompt_hash(s.prompts[0]), content, s.verifier)


def _kept(directory: Path) -> str:
    """Outcome of an evaluation that a signal ends."""
    if not (directory / PLAN_FILE).exists():
        return "nothing was sampled yet"
    return f"complete batches are kept; continue with resume={directory}"
