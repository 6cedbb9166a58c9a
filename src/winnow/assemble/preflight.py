"""Before any weight is loaded: whether the run will fit into memory, and how many rows can be decoded at once."""

from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, Algorithm, Preference, Supervised
from winnow.config.instantiate import needs_reference, on_cuda, precision_of, token_budget
from winnow.models.language_model import ModelSource
from winnow.models.memory import MemoryPlan, ModelShape, estimate, memory_bytes, rows_that_fit, shape_of
from winnow.ops.logprobs import LOGITS_AT_ONCE

PROMPT_TOKENS = 512
"""Assumed where rollout.max_prompt_tokens does not say."""
UNKNOWN = "memory: unknown, for this is no architecture that the estimate was made for"


@dataclass(frozen=True, slots=True)
class Preflight:
    """`lines` for the user; `max_rows` bounds a sampler that was given no bound (None: nothing is known of the model)."""

    lines: list[str]
    max_rows: int | None


def before_training(cfg: DictConfig, algorithm: Algorithm, source: ModelSource) -> Preflight:
    """An estimate: it warns, and refuses nothing. Held-out problems are sampled beside what training holds."""
    shape = shape_of(source)
    if shape is None:
        return Preflight([UNKNOWN], None)
    plan, available = _training_plan(cfg, algorithm, source), available_bytes(cfg)
    fitting = _rows_that_fit(
        shape, replace(plan, response_tokens=max(plan.response_tokens, cfg.eval.max_tokens)), available
    )
    rows = min(plan.rows, cfg.engine.get("max_rows") or fitting)
    lines = [estimate(shape, replace(plan, rows=rows)).line(available)]
    if rows < plan.rows:
        lines.append(f"sampling {rows:,} of {plan.rows:,} rows at a time, as many as memory holds")
    most = max(cfg.rollout.max_tokens, cfg.eval.max_tokens)
    return Preflight([*lines, *_position_notes(cfg, source, most)], fitting)


def before_evaluation(cfg: DictConfig, source: ModelSource) -> Preflight:
    """Weights and sampling alone: nothing is learnt."""
    learning = shape_of(source)
    if learning is None:
        return Preflight([UNKNOWN], None)
    shape, available = replace(learning, trainable=0, backbone_trainable=0), available_bytes(cfg)
    plan = MemoryPlan(
        rows=_cached_rows(cfg, cfg.batch),
        samples=cfg.eval.samples,
        prompt_tokens=cfg.rollout.max_prompt_tokens or PROMPT_TOKENS,
        response_tokens=cfg.eval.max_tokens,
        batch_rows=0,
        token_budget=token_budget(cfg),
        bfloat16=precision_of(cfg) == "bf16-mixed",
        logits_at_once=LOGITS_AT_ONCE["cuda" if on_cuda(cfg) else "cpu"],
    )
    fitting = _rows_that_fit(shape, plan, available)
    rows = min(plan.rows, cfg.engine.get("max_rows") or fitting)
    line = estimate(shape, replace(plan, rows=rows)).line(available)
    return Preflight([line, *_position_notes(cfg, source, cfg.eval.max_tokens)], fitting)


def _rows_that_fit(shape: ModelShape, plan: MemoryPlan, available: int) -> int:
    return max(1, rows_that_fit(shape, plan, available))


def available_bytes(cfg: DictConfig) -> int:
    """Of one device; processes on the CPU share its memory, and an engine there keeps its share of it all the time."""
    if on_cuda(cfg):
        return torch.cuda.get_device_properties(0).total_memory
    return int(memory_bytes() * (1 - cfg.engine.get("gpu_memory_utilization", 0)) / cfg.hardware.devices)


def _cached_rows(cfg: DictConfig, rows: int) -> int:
    """Those of `rows` whose keys and values the trainer's memory must hold: none where the engine has memory of its own."""
    return rows if "max_rows" in cfg.engine else 0


def _training_plan(cfg: DictConfig, algorithm: Algorithm, source: ModelSource) -> MemoryPlan:
    rollout, supervised = cfg.rollout, isinstance(algorithm, Supervised)
    samples = 1 if supervised else rollout.samples
    drawn = 0 if supervised else rollout.prompts * samples
    return MemoryPlan(
        rows=_cached_rows(cfg, -(-drawn // cfg.hardware.devices)),
        samples=samples,
        prompt_tokens=rollout.max_prompt_tokens or PROMPT_TOKENS,
        response_tokens=rollout.max_tokens,
        batch_rows=-(-rollout.prompts * samples // (cfg["update"].minibatches * cfg.hardware.devices)),
        token_budget=token_budget(cfg),
        bfloat16=precision_of(cfg) == "bf16-mixed",
        logits_at_once=LOGITS_AT_ONCE["cuda" if on_cuda(cfg) else "cpu"],
        recompute=cfg.hardware.gradient_checkpointing,
        reference=source.lora is None and needs_reference(cfg, algorithm),
        critic=isinstance(algorithm, ActorCritic),
        entropies=not isinstance(algorithm, Preference | Supervised) and algorithm.entropy != 0,
    )


def _position_notes(cfg: DictConfig, source: ModelSource, response_tokens: int) -> list[str]:
    last = getattr(source.config().get_text_config(), "max_position_embeddings", None)
    tokens = (cfg.rollout.max_prompt_tokens or 0) + response_tokens
    if last is None or tokens <= last:
        return []
    return [f"note: prompt and response may come to {tokens:,} tokens, and the model was made for {last:,}"]
