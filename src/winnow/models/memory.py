"""Memory estimate of a run, from the model's configuration alone, without loading weights.

A run holds weights, gradients and AdamW's moments all the time, and in addition one of three things at a time: the
key-value cache of sampling, the logits and activations of a micro-batch, or the temporaries of AdamW's step. All sizes
are in bytes; a GB is 1e9.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from winnow.errors import ConfigError
from winnow.models.language_model import ModelSource
from winnow.models.logprobs import LOGITS_AT_ONCE
from winnow.models.model_files import reason
from winnow.models.precision import PRODUCTS, WEIGHTS, Precision
from winnow.models.shape import ModelShape
from winnow.packed import MAX_PROMPT_REPEATS


def memory_bytes() -> int:
    """The size of main memory, or the limit of the process's control group if that is lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        return min(total, int(text))
    return total


GB = 1e9
USABLE = 0.93
"""The usable share of memory; the rest goes to the CUDA context (about 0.5 GB), cuBLAS workspaces and fragmentation."""
LOGIT, LOGIT_WITH_ENTROPY = 10, 16
"""Bytes per logit in `models.logprobs.head_scores`, counted by tracing every allocation: 8 for logits and probabilities
in float32, 10 with a bfloat16 copy for the matrix products; with entropies, four float32 tables. In float64 twice as
many."""
DRAWN_LOGIT = 28
"""Bytes per logit of a decoded row in `draw`, counted likewise: the model's logits and at most six float32 tables.
In float64 twice as many."""
LOWER_MAX_TOKENS = "a lower rollout.max_tokens"
ROOM = 17 / 16
"""The allocated size of `engines.decoding.AppendingLayer` over the size that is in use."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The settings of a run that its memory depends on.

    `rows` are decoded at once, with `samples` per prompt. An optimizer batch has `batch_rows`, in micro-batches of
    `token_budget` tokens. `reference` stands for a frozen copy of the weights, which adapters do not need; `recompute`
    for gradient checkpointing. FSDP divides weights, gradients and AdamW's moments among `shards` processes (0: no
    FSDP); with `offload` they lie in main memory. `buckets` stands for DDP's second copy of the gradients, in which it
    sums them, and `altered` for a sampler's own copy of the weights.
    """

    rows: int
    samples: int
    prompt_tokens: int
    response_tokens: int
    batch_rows: int
    token_budget: int
    precision: Precision
    logits_at_once: int = LOGITS_AT_ONCE["cpu"]
    recompute: bool = False
    reference: bool = False
    critic: bool = False
    entropies: bool = False
    shards: int = 0
    offload: bool = False
    buckets: bool = False
    altered: bool = False

    @property
    def weight(self) -> int:
        """Bytes of a weight, of its gradient, and of each number that is not a matrix product's."""
        return WEIGHTS[self.precision].itemsize

    @property
    def product(self) -> int:
        """Bytes of an operand of a matrix product."""
        return PRODUCTS[self.precision].itemsize

    @property
    def row_tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens

    @property
    def repeated(self) -> float:
        """Mean number of times that a packed token occurs in attention, which repeats shared prompts."""
        once = self.prompt_tokens + self.samples * self.response_tokens
        return min(MAX_PROMPT_REPEATS, self.samples * self.row_tokens / once)

    @property
    def micro_batch(self) -> int:
        """Tokens of the largest micro-batch.

        A row that is longer than the budget is a micro-batch of its own, and a batch may be smaller than the budget.
        """
        return min(max(self.token_budget, self.row_tokens), self.batch_rows * self.row_tokens)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The bytes of each part of a process's memory.

    `masters` are the weights that AdamW changes, with the critic's; `reference` is a frozen copy of them; `products`
    is what matrix products read: autocast's copy, or under FSDP the two blocks that are whole at a time, the embedding
    and the gradient of one block.
    """

    shape: ModelShape
    plan: MemoryPlan
    masters: float
    reference: float
    products: float
    gradients: float
    optimiser: float
    gathered: float
    cache: float
    logits: float
    activations: float
    step: float

    @property
    def weights(self) -> float:
        """Bytes of all weights that are held all the time."""
        return self.masters + self.reference + self.products

    @property
    def held(self) -> float:
        """Bytes that are held all the time, from the first update to the last."""
        return self.weights + self.gradients + self.optimiser

    @property
    def sampling(self) -> float:
        """Bytes of sampling: the sampler's own copy of the whole weights, if it has one, and the key-value cache."""
        return self.gathered + self.cache

    @property
    def total(self) -> float:
        return self.held + max(self.sampling, self.logits + self.activations, self.step)

    def fits(self, available: float) -> bool:
        return self.total <= USABLE * available

    def line(self, available: float) -> str:
        """One line for the user: the estimate against `available` bytes, and what to type if they do not suffice."""
        parts = (
            f"weights {_gb(self.weights)}, gradients {_gb(self.gradients)}, AdamW {_gb(self.optimiser)}, "
            f"and one at a time: KV cache {_gb(self.sampling)}, logits {_gb(self.logits)} + "
            f"activations {_gb(self.activations)}, AdamW's step {_gb(self.step)}"
        )
        end = "fits" if self.fits(available) else f"does not fit; {self._instead(available)}"
        inside = f" ({parts})" if self.total > GB else ""
        return f"memory: {_gb(self.total)} of {_gb(available)} GB{inside}: {end}"

    def _instead(self, available: float) -> str:
        left = USABLE * available - self.held
        if self.step > left:
            adapted = self.shape.trainable < self.shape.parameters
            return "choose a smaller model" if adapted else "type model/lora=adapter, or choose a smaller model"
        words = []
        if self.logits + self.activations > left:
            words.append(self._smaller_batch(left))
        if self.cache > left - self.gathered:
            rows = rows_that_fit(self.shape, self.plan, available)
            words.append(f"engine.max_rows={rows}" if rows else LOWER_MAX_TOKENS)
        return "type " + " and ".join(dict.fromkeys(words))

    def _smaller_batch(self, left: float) -> str:
        budget = int((left - self.logits) // _activations(self.shape, self.plan)) // 256 * 256
        if budget >= self.plan.row_tokens:
            return f"hardware.token_budget={budget}"
        return LOWER_MAX_TOKENS if self.plan.recompute else "hardware.gradient_checkpointing=true"


def shape_of(source: ModelSource) -> ModelShape | None:
    """The shape of a model, or None for an architecture without attention heads.

    No weights are loaded: the architecture is built on torch's meta device.

    Raises:
        ConfigError: the configuration cannot be loaded, or does not belong to a causal language model.
    """
    config = source.config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # what senseless sizes raise depends on the architecture
        known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        wrong = f"has senseless settings ({reason(error)})" if known else "is not a causal language model"
        raise ConfigError(
            f"model {source.name}: {type(config).__name__} {wrong}; choose a decoder (Qwen, Llama, …)"
        ) from error
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if not isinstance(heads, int):
        return None
    if source.lora is not None:
        with torch.device("meta"):
            source.lora.attach(model)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    backbone = list(model.base_model.parameters())
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        backbone=sum(p.numel() for p in backbone),
        backbone_trainable=sum(p.numel() for p in backbone if p.requires_grad),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        kv_width=(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        vocabulary=text.vocab_size,
        query_width=heads * head_dim,
    )


def estimate(shape: ModelShape, plan: MemoryPlan) -> Estimate:
    """The memory of one process; autocast keeps a two-byte copy of every weight in use.

    A critic is a second backbone beside the policy's in every update; with adapters it shares the frozen base. A
    parameter is thus 16 bytes in float32 (weight, gradient, two moments), which FSDP divides by its processes.
    """
    learned = shape.trainable + (shape.backbone_trainable if plan.critic else 0)
    shared = shape.trainable < shape.parameters
    critic = (shape.backbone_trainable if shared else shape.backbone) if plan.critic else 0
    running = shape.parameters + critic
    here = 0 if plan.offload else 1 / max(plan.shards, 1)
    return Estimate(
        shape=shape,
        plan=plan,
        masters=plan.weight * running * here,
        reference=plan.weight * shape.parameters * here if plan.reference else 0,
        products=_products(shape, plan, learned),
        gradients=plan.weight * learned * (2 if plan.buckets else 1) * here,
        optimiser=2 * plan.weight * learned * here,
        gathered=_gathered(shape, plan),
        cache=plan.rows * _row(shape, plan),
        logits=_logits(shape, plan),
        activations=plan.micro_batch * _activations(shape, plan),
        step=plan.weight * learned * here,  # torch's AdamW takes the square roots of all second moments at once
    )


def _gathered(shape: ModelShape, plan: MemoryPlan) -> int:
    """Bytes of a sampler's own copy of the weights: under FSDP in the type of its products, so that nothing is cast."""
    if plan.rows == 0 or not (plan.shards or plan.altered):
        return 0
    return (plan.product if plan.shards else plan.weight) * shape.parameters


def _cast(shape: ModelShape, plan: MemoryPlan, learned: int) -> float:
    """Bytes of autocast's copies: of the `learned` weights, which it keeps, and of one of the others at a time."""
    if plan.product == plan.weight:
        return 0.0
    return plan.product * (learned + (shape.table if shape.trainable < shape.parameters else 0))


def _products(shape: ModelShape, plan: MemoryPlan, learned: int) -> float:
    """Bytes of what matrix products read beside the masters, where policy and critic have `learned` parameters.

    FSDP gathers a block while it computes the one before, keeps what is outside of the blocks, and has the whole
    gradient of one block before it is reduced.
    """
    if not plan.shards:
        return _cast(shape, plan, learned)
    learns = plan.weight * shape.block if shape.trainable == shape.parameters and plan.batch_rows else 0
    return plan.product * (shape.outside + 2 * shape.block) * (2 if plan.critic else 1) + learns


def rows_that_fit(shape: ModelShape, plan: MemoryPlan, available: float) -> int:
    """The number of rows that can be decoded at once beside weights, gradients and AdamW in `available` bytes."""
    return max(0, int(room_for_rows(shape, plan, available) // _row(shape, plan)))


def prefill_bytes(shape: ModelShape, plan: MemoryPlan) -> float:
    """Bytes of the prefill and the decoding of one row with the plan's longest prompt.

    Prompts of other lengths are prefilled beside it, so that there is a mask, one byte for each pair of its tokens.
    """
    return _row(shape, replace(plan, samples=1)) + plan.prompt_tokens**2


def room_for_rows(shape: ModelShape, plan: MemoryPlan, available: float) -> float:
    """Bytes that are left for decoding beside weights, gradients and AdamW in `available` bytes."""
    found = estimate(shape, replace(plan, rows=1))
    return USABLE * available - found.held - found.gathered


def cache_per_token(shape: ModelShape, precision: Precision) -> int:
    """Bytes of a token's keys and values in all layers."""
    return shape.layers * shape.kv_width * 2 * PRODUCTS[precision].itemsize


def _row(shape: ModelShape, plan: MemoryPlan) -> float:
    """Bytes of a decoded row: its full cache, its logits, and its share of the prompt's forward (three MLP tables)."""
    prefill = plan.prompt_tokens * 3 * plan.weight * shape.intermediate / plan.samples
    cache = plan.row_tokens * cache_per_token(shape, plan.precision) * ROOM
    return cache + DRAWN_LOGIT * plan.weight / 4 * shape.vocabulary + prefill


def _logits(shape: ModelShape, plan: MemoryPlan) -> float:
    """Bytes of one chunk of logits, and of the output layer's gradient before it is added to the others."""
    alive = min(plan.micro_batch * shape.vocabulary, max(plan.logits_at_once, shape.vocabulary))
    head = plan.weight * shape.vocabulary * shape.width if shape.trainable == shape.parameters else 0
    return (LOGIT_WITH_ENTROPY if plan.entropies else LOGIT) * plan.weight / 4 * alive + head


def _activations(shape: ModelShape, plan: MemoryPlan) -> float:
    """Bytes of activations per token of a micro-batch, counted on Qwen2 by what its blocks save for backward.

    Attention matrices are not stored. A block saves 9 hidden widths, 2 key widths and 4 MLP widths in float32 or
    float64; under autocast the norms stay in float32 and the MLP's share halves. With recomputation every block keeps
    its input, and one block at a time is complete. Attention keeps queries, keys, values and outputs of every cell of a
    padded block, and a prompt has a cell before each of its responses. Adapters save little in addition.
    """
    width, keys, mlp = shape.width, shape.kv_width, shape.intermediate
    autocast = plan.product < plan.weight
    block = 32 * width + 4 * keys + 8 * mlp if autocast else plan.weight * (9 * width + 2 * keys + 4 * mlp)
    block += (plan.repeated - 1) * plan.product * 2 * (width + keys)
    kept = shape.layers * plan.weight * width + block if plan.recompute else shape.layers * block
    return kept * (2 if plan.critic else 1)


def _gb(size: float) -> str:
    return f"{size / GB:.1f}" if size == 0 or size >= GB / 10 else f"{size / GB:.3f}"
