"""`winnow export`, a checkpoint as a Hugging Face folder, and `winnow prompt`, a problem as the model reads it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from omegaconf import DictConfig

from winnow.assemble import common
from winnow.config import checks
from winnow.config.instantiate import build_node, plain_config
from winnow.config.saved_runs import SavedRun
from winnow.data.collection import Benchmark
from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.files import disk_errno
from winnow.models.export import export_model
from winnow.models.language_model import fingerprint
from winnow.models.policy import Policy
from winnow.run_logs.model_card import model_card
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import read_record
from winnow.training.checkpoint import load_state, newest_valid
from winnow.training.progress import IterationData, RunProgress
from winnow.visible_text import visible


@contextmanager
def _folder_errors(out: Path) -> Iterator[None]:
    """Context in which a folder `out` that cannot be made is a ConfigError; the caller knows what a full disk means."""
    try:
        yield
    except OSError as error:
        if disk_errno(error) is not None:
            raise
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another directory") from error


def export_checkpoint(run: SavedRun, out: Path) -> str:
    """Write the newest checkpoint of a run, which need not have ended, to the folder `out`; return a line about it.

    Raises:
        ConfigError: `out` exists, `run` has no complete checkpoint or was made by an earlier version of Winnow, or its
            initial weights cannot be loaded.
    """
    common.quiet_libraries()
    common.keep_compiled_code()
    run.refuse_removed_targets(str(run.directory), "`winnow report` still reads it; export it with that version")
    checks.check_targets(run.cfg)
    with _folder_errors(out):
        if out.exists():
            raise ConfigError(f"{out}: exists already; type the name of a new directory")
    record = read_record(run.directory)
    of_run = None if record is None else record.run
    cfg, checkpoint = run.cfg, newest_valid(run.directory / "checkpoints", of_run)
    if checkpoint is None:
        raise ConfigError(f"{run.directory}: has no complete checkpoint, so there is nothing to export")
    language_model = common.model_source(cfg).load()
    state = load_state(checkpoint)
    progress = RunProgress(**state[IterationData.__qualname__])
    if progress.initial_weights != fingerprint(language_model.model):
        raise ConfigError(f"{run.directory}: began with other weights than those that model {cfg.model.name} has now")
    policy = Policy(language_model.model, cfg.rollout.temperature)
    weights = {key.removeprefix("policy."): v for key, v in state["state_dict"].items() if key.startswith("policy.")}
    policy.load_state_dict(weights, strict=language_model.adapter is None)
    summary = progress.summary("running", run.choices["algo"], cfg.model.name, run.choices["dataset"], cfg.seed)
    if record is not None:
        summary = replace(summary, run=record.run, changes=tuple(record.changes))
    with _folder_errors(out):
        export_model(language_model, out, model_card(summary, plain_config(cfg), RunFiles(run.directory).rows()))
    notices = [f"note: {notice}" for notice in common.export_notices(language_model)]
    return "\n".join([*notices, f"model after iteration {progress.iteration}: {out}"])


def show_prompt(cfg: DictConfig, row: int, benchmark: str | None, out: TextIO) -> None:
    """Write one problem as the model reads it: rendered text, token ids with their tokens, and the hash of both.

    The problem is number `row` of the training problems, or of the evaluation set `benchmark`.

    Raises:
        ConfigError: there is no such set or row, or the model or the data cannot be loaded.
    """
    common.quiet_libraries()
    common.keep_compiled_code()
    if benchmark is not None and benchmark not in cfg.benchmarks:
        raise ConfigError(f"--set {benchmark}: no such benchmark; there are {', '.join(map(str, cfg.benchmarks))}")
    source = common.model_source(cfg)
    tokenizer = source.tokenizer()
    problems = _prompt_problems(cfg, benchmark)
    if not 0 <= row < len(problems):
        raise ConfigError(
            f"--row {row}: there are {len(problems)} problems; type a number from 0 to {len(problems) - 1}"
        )
    prompt = render(problems[row], tokenizer, source.template)
    names = tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    out.write(visible(f"{prompt.text}\n\n{len(prompt.token_ids)} tokens:\n"))
    out.write(visible(" ".join(f"{i}:{name}" for i, name in zip(prompt.token_ids, names, strict=True))) + "\n")
    out.write(f"\nkey {visible(prompt.key)}\ngold {visible(prompt.answer)}\nprompt_hash {common.prompt_hash(prompt)}\n")


def _prompt_problems(cfg: DictConfig, benchmark: str | None) -> Sequence[Problem]:
    if benchmark is None:
        with build_node(cfg.reward.verifier) as verifier:
            return common.load_problems(cfg, verifier).train
    chosen: Benchmark = build_node(cfg.benchmarks[benchmark])
    with chosen.verifier:
        return chosen.load()
