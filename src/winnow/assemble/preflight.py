"""Memory estimate before any weight is loaded: whether the run will fit, and how many rows can be decoded at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, Algorithm, Preference, Supervised
from winnow.assemble.start_lines import collector_of
from winnow.config.instantiate import needs_reference, on_cuda, precision_of, token_budget
from winnow.config.nodes import build_node
from winnow.data.problems import Problem
from winnow.data.prompts import prompt_bytes
from winnow.errors import ConfigError
from winnow.evaluation.sets import EvaluationSet
from winnow.experience.collectors import Adaptive, Budgets, Refill
from winnow.models.language_model import ModelSource
from winnow.models.logprobs import LOGITS_AT_ONCE
from winnow.models.memory import (
    GB,
    MemoryPlan,
    estimate,
    memory_bytes,
    prefill_bytes,
    room_for_rows,
    rows_that_fit,
    shape_of,
)
from winnow.models.shape import ModelShape

PROMPT_TOKENS = 512
"""Length of a prompt that is assumed where rollout.max_prompt_tokens is null."""
UNKNOWN = "memory: unknown (there is no estimate for this architecture)"


@dataclass(frozen=True, slots=True)
class Preflight:
    """Result of the estimate: lines to print, and how many rows to decode at once where `engine.max_rows` is null.

    `max_rows` is None for an architecture without an estimate. `strategy` is how several processes share the work: that
    of the configuration or, for `auto`, the one by which the model fits.
    """

    lines: list[str]
    max_rows: int | None
    strategy: str = "auto"


def before_training(cfg: DictConfig, algorithm: Algorithm, source: ModelSource) -> Preflight:
    """The estimate for a training run. It warns, and refuses nothing."""
    # Held-out problems are sampled while the optimiser's state and the reference policy stay in memory.
    longest, ranks = max(cfg.rollout.max_tokens, cfg.eval.max_tokens), ranks_of(cfg)
    plan = training_plan(cfg, algorithm, source.lora is not None)
    found = replace(_preflight(cfg, source, plan, longest), strategy=cfg.hardware.strategy)
    found = replace(found, lines=[*found.lines, *_unused_gpus(cfg)])
    if cfg.hardware.strategy != "auto" or ranks == 1:
        return found
    shape = shape_of(source)
    if shape is None or fits_whole(shape, plan, available_bytes(cfg)):
        return replace(found, strategy="ddp")
    sharded = _preflight(cfg, source, replace(plan, shards=ranks, buckets=False), longest)
    why = f"a whole model does not fit each process, so that it is sharded over {ranks} (hardware.strategy=fsdp)"
    return replace(sharded, lines=[*sharded.lines, why], strategy="fsdp")


def _unused_gpus(cfg: DictConfig) -> list[str]:
    present, used = torch.cuda.device_count() if on_cuda(cfg) else 0, cfg.hardware.devices
    if present <= used or cfg.hardware.nodes > 1:
        return []
    return [f"note: {used} of the {present} GPUs here will be used; hardware.devices={present} uses all of them"]


def fits_whole(shape: ModelShape, plan: MemoryPlan, available: float) -> bool:
    """Whether a process has room for a whole model and its updates, and to sample a row at a time."""
    return estimate(shape, replace(plan, rows=min(plan.rows, 1))).fits(available)


def ranks_of(cfg: DictConfig) -> int:
    """The number of processes of a run."""
    return cfg.hardware.devices * cfg.hardware.nodes


def training_plan(cfg: DictConfig, algorithm: Algorithm, has_adapters: bool) -> MemoryPlan:
    """The settings of a training run that its memory depends on; with adapters, no copy of the weights is needed."""
    rollout, ranks = cfg.rollout, ranks_of(cfg)
    supervised, sharded = isinstance(algorithm, Supervised), cfg.hardware.strategy == "fsdp"
    rows = rollout.prompts * (1 if supervised else rollout.samples)
    prompts, samples = (0, 1) if supervised else largest_round(cfg)
    return replace(
        _sampling_plan(cfg, -(-prompts * samples // ranks), samples, rollout.max_tokens),
        batch_rows=-(-rows // (cfg["update"].minibatches * ranks)),
        recompute=cfg.hardware.gradient_checkpointing,
        reference=not has_adapters and needs_reference(cfg, algorithm),
        critic=isinstance(algorithm, ActorCritic),
        entropies=not isinstance(algorithm, Preference | Supervised)
        and algorithm.entropy != 0,  # also a coefficient that moves
        shards=ranks if sharded else 0,
        offload=cfg.hardware.offload,
        buckets=ranks > 1 and not sharded,
        altered="alter" in cfg.engine and build_node(cfg.engine.alter).of_weights,
    )


def largest_round(cfg: DictConfig) -> tuple[int, int]:
    """Prompts, and samples of each, that a training run's collector asks for at once; of one that is not known here,
    those of an iteration."""
    prompts, samples = cfg.rollout.prompts, cfg.rollout.samples
    match collector_of(cfg):
        case Refill() as rule:
            return rule.prompts or prompts, samples
        case Adaptive() as rule:
            return prompts, rule.samples
        case Budgets() as rule:
            return prompts, max(rule.presamples, samples)
        case _:
            return prompts, samples


def before_evaluation(cfg: DictConfig, source: ModelSource) -> Preflight:
    """The estimate for an evaluation, which holds weights and samples and has no gradients."""
    plan = _sampling_plan(cfg, cfg.batch, cfg.eval.samples, cfg.eval.max_tokens)
    return _preflight(cfg, source, plan, cfg.eval.max_tokens)


def _sampling_plan(cfg: DictConfig, rows: int, samples: int, response_tokens: int) -> MemoryPlan:
    """The plan of a run that samples `rows` and has no updates."""
    return MemoryPlan(
        rows=rows if "max_rows" in cfg.engine else 0,  # an engine without the setting has memory of its own
        samples=samples,
        prompt_tokens=cfg.rollout.max_prompt_tokens or PROMPT_TOKENS,
        response_tokens=response_tokens,
        batch_rows=0,
        token_budget=token_budget(cfg),
        precision=precision_of(cfg),
        logits_at_once=LOGITS_AT_ONCE["cuda" if on_cuda(cfg) else "cpu"],
    )


def _preflight(cfg: DictConfig, source: ModelSource, plan: MemoryPlan, response_tokens: int) -> Preflight:
    """The estimate for `plan`, with room to sample responses of `response_tokens`."""
    shape, trains = shape_of(source), plan.batch_rows > 0
    if shape is None:
        return Preflight([UNKNOWN], None)
    if not trains:
        shape = replace(shape, trainable=0, backbone_trainable=0)
    available = available_bytes(cfg)
    fitting = max(1, rows_that_fit(shape, replace(plan, response_tokens=response_tokens), available))
    rows = min(plan.rows, cfg.engine.get("max_rows") or fitting)
    lines = [estimate(shape, replace(plan, rows=rows)).line(available)]
    if trains and rows < plan.rows:
        lines.append(f"sampling {rows:,} of {plan.rows:,} rows at a time, as many as memory holds")
    positions = getattr(source.config().get_text_config(), "max_position_embeddings", None)
    tokens = (cfg.rollout.max_prompt_tokens or 0) + response_tokens
    if positions is not None and tokens > positions:
        lines.append(
            f"note: prompt and response may reach {tokens:,} tokens, but the model has {positions:,} positions"
        )
    return Preflight(lines, fitting)


def require_room_for_prompts(
    cfg: DictConfig,
    source: ModelSource,
    sets: Sequence[EvaluationSet],
    problems: Sequence[Problem],
    length_of: Callable[[Problem], int],
) -> None:
    """Check that memory holds the longest prompt of each set and of the training problems, with its response.

    `length_of` gives the tokens of a problem's prompt. It is asked of the longest text alone, and only where that may
    be too long.

    Raises:
        ConfigError: it does not; the message names the row.
    """
    shape = shape_of(source) if "max_rows" in cfg.engine else None  # other engines have memory of their own
    if shape is None:
        return
    plan = replace(_sampling_plan(cfg, 1, 1, cfg.eval.max_tokens), batch_rows=0)
    room = room_for_rows(shape, plan, available_bytes(cfg))

    def needed(tokens: int) -> float:
        return prefill_bytes(shape, replace(plan, prompt_tokens=tokens))

    for one in sets:
        longest = max(one.prompts, key=lambda prompt: len(prompt.token_ids))
        if needed(tokens := len(longest.token_ids)) > room:
            raise _too_long(
                f"evaluation set {one.name}, {longest.key}", tokens, needed(tokens), room, "remove that row"
            )
    problem = max(problems, key=prompt_bytes, default=None)
    if problem is not None and needed(prompt_bytes(problem)) > room and needed(tokens := length_of(problem)) > room:
        advice = "type rollout.max_prompt_tokens=2048 to leave such problems out"
        raise _too_long(f"training problem {problem.key}", tokens, needed(tokens), room, advice)


def _too_long(which: str, tokens: int, needed: float, room: float, advice: str) -> ConfigError:
    return ConfigError(
        f"{which}: its prompt has {tokens:,} tokens, and to sample a response takes {needed / GB:,.1f} GB, of which "
        f"{room / GB:,.1f} are there; {advice}"
    )


def available_bytes(cfg: DictConfig) -> int:
    """Memory of one device, in bytes.

    On a CPU the processes of a run share the main memory, and an engine with `gpu_memory_utilization` keeps that part
    of it for itself.
    """
    if on_cuda(cfg):
        return torch.cuda.get_device_properties(0).total_memory
    return int(memory_bytes() * (1 - cfg.engine.get("gpu_memory_utilization", 0)) / cfg.hardware.devices)
