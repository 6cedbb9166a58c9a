"""Phases of an iteration on GPUs, by the roofline: bytes over bandwidth or FLOPs over rates, whichever takes longer."""

from dataclasses import dataclass

import numpy as np

from winnow.models.memory import cache_per_token
from winnow.plan.assumptions import Assumptions
from winnow.plan.decoding import Decoding, decoded, ranks_of
from winnow.plan.lengths import Lengths
from winnow.plan.rates import Rates
from winnow.plan.setup import Setup
from winnow.plan.timeline import Phase
from winnow.plan.work import forward_flops, multiplied, prompts_of, tokens_of, update_flops

DRAWS = 4
"""Iterations whose lengths are drawn for the mean time of sampling."""


def gpu_phases(setup: Setup, rates: Rates, lengths: Lengths, slots: int, stated: Assumptions) -> list[Phase]:
    """The phases of an iteration."""
    if setup.supervised:
        return _updating(setup, rates, lengths, stated)
    sampling = _sampling(setup, rates, lengths, slots)
    return [
        _gathering(setup, rates),
        sampling,
        _verifying(setup, sampling.seconds, stated),
        _scoring(setup, rates, lengths),
        *_updating(setup, rates, lengths, stated),
    ]


@dataclass(frozen=True, slots=True)
class DecodingSeconds:
    """Seconds of one sampler: the prompts' forward, reading weights and cache, arithmetic, and launches."""

    prompts: float
    weights: float
    cache: float
    arithmetic: float
    launches: float

    @property
    def total(self) -> float:
        """Arithmetic runs beside reading; the longer of them counts."""
        return self.prompts + max(self.weights + self.cache, self.arithmetic) + self.launches


def decoding_seconds(setup: Setup, rates: Rates, work: Decoding, prompts: float, lengths: Lengths) -> DecodingSeconds:
    """Seconds in which one sampler decodes `work` after `prompts` prompts.

    Each step reads the multiplied weights once, and of each row the keys and values so far: bytes ÷ bandwidth. The
    arithmetic is 2 · multiplied parameters · tokens ÷ rate, launches are steps · layers · seconds.
    """
    shape, devices = setup.shape, setup.sampler.devices
    bandwidth = rates.bandwidth * devices
    return DecodingSeconds(
        prompts=forward_flops(shape, tokens_of(prompts, 0, lengths)) / (rates.forward * devices),
        weights=work.steps * weight_bytes(setup) * multiplied(shape) / bandwidth,
        cache=work.positions * cache_per_token(shape, setup.memory.precision) / bandwidth,
        arithmetic=2 * multiplied(shape) * work.tokens / (rates.decode * devices),
        launches=work.steps * shape.layers * rates.layer_seconds,
    )


def weight_bytes(setup: Setup) -> int:
    """Bytes that a decoding step moves for each weight.

    An engine with weights of its own reads them as it keeps them. Autocast keeps its two-byte copies of weights that
    are trained; others, below adapters, it reads, writes and reads again in every step.
    """
    memory, frozen = setup.memory, setup.shape.trainable < setup.shape.parameters
    cast_again = frozen and memory.product < memory.weight and setup.sampler.utilisation is None
    return memory.weight + 2 * memory.product if cast_again else memory.product


def slowest(
    setup: Setup, rates: Rates, lengths: Lengths, slots: int, prompts: int, samples: int, draws: int = DRAWS
) -> tuple[float, DecodingSeconds, Decoding]:
    """Mean seconds over `draws` iterations of the sampler that is last, and of the first of them its parts and work."""
    rows = ranks_of(prompts, samples, setup.samplers)
    seconds: list[float] = []
    first: tuple[DecodingSeconds, Decoding] | None = None
    for draw in range(draws):
        drawn = np.split(lengths.drawn((sum(rows),), draw), np.cumsum(rows)[:-1])
        work = [decoded(each, max(slots, 1), lengths.prompt) for each in drawn]
        parts = [
            decoding_seconds(setup, rates, one, len(each) / samples, lengths)
            for one, each in zip(work, drawn, strict=True)
        ]
        last = max(range(setup.samplers), key=lambda rank: parts[rank].total)
        seconds.append(parts[last].total)
        first = first or (parts[last], work[last])
    assert first is not None
    return sum(seconds) / draws, *first


def _gathering(setup: Setup, rates: Rates) -> Phase:
    """The weights on their way to the sampler: under FSDP each process gathers all of them, a server gets a copy."""
    parameters, link = setup.shape.parameters, rates.how.get("link", "link")
    if setup.sampler.separate:
        size = setup.memory.product * parameters
        return Phase("sync", size / rates.link, f"{size / 1e9:.1f} GB to the server ÷ ({link})")
    if not setup.sharded:
        return Phase("sync", 0.0, "the sampler reads the trainer's weights")
    size = setup.memory.product * parameters * (setup.devices - 1) / setup.devices
    return Phase("sync", size / rates.link, f"gathers {size / 1e9:.1f} GB ÷ ({link})")


def _sampling(setup: Setup, rates: Rates, lengths: Lengths, slots: int) -> Phase:
    seconds, parts, work = slowest(setup, rates, lengths, slots, setup.prompts, setup.samples)
    shape = setup.shape
    weights = weight_bytes(setup) * multiplied(shape)
    reading = (
        f"{work.steps:,} steps × {weights / 1e9:.3g} GB of weights ÷ ({rates.how['decode']}) = {parts.weights:.1f} s, "
        f"{work.positions:.3g} cached positions × {cache_per_token(shape, setup.memory.precision):,} bytes ÷ the same "
        f"= {parts.cache:.1f} s"
    )
    arithmetic = f"2 × {multiplied(shape):.3g} × {work.tokens:,} tokens ÷ its rate = {parts.arithmetic:.1f} s"
    bound = reading if parts.weights + parts.cache > parts.arithmetic else arithmetic
    how = (
        f"the last of the samplers, {slots:,} rows at once: {bound}; prompts {parts.prompts:.1f} s; launches "
        f"{work.steps:,} × {shape.layers} layers × {rates.layer_seconds * 1e3:g} ms = {parts.launches:.1f} s "
        f"(one draw of lengths; the mean of {DRAWS} is shown)"
    )
    return Phase("sampling", seconds, how)


def _verifying(setup: Setup, sampling: float, stated: Assumptions) -> Phase:
    """Verdicts are reached beside the sampling; what they take beyond it is waited for."""
    needed = setup.rows * stated["verify_seconds"] / (stated["verify_workers"] * setup.devices)
    how = (
        f"{setup.rows:,} × {stated['verify_seconds'] * 1e3:g} ms ÷ ({setup.devices} × {stated['verify_workers']:g} "
        f"workers) = {needed:.1f} s, beside the sampling"
    )
    return Phase("verifying", max(0.0, needed - sampling), how)


def _scoring(setup: Setup, rates: Rates, lengths: Lengths) -> Phase:
    """Forwards of the policy that sampled, the initial policy and the critic over the rows that need them."""
    shares = setup.shares
    passes = shares.old + shares.reference + shares.values
    if passes == 0:
        return Phase("scoring", 0.0, "no scores are needed")
    work = tokens_of(setup.prompts, setup.rows, lengths).times(passes)
    flops = forward_flops(setup.shape, work)
    seconds = flops / (rates.forward * setup.devices)
    how = (
        f"{passes:.2f} forwards of all rows (old {shares.old:.2f}, reference {shares.reference:.2f}, critic "
        f"{shares.values:.2f}): {flops / 1e15:.2f} PFLOP ÷ ({setup.devices} × {rates.how['forward']})"
    )
    return Phase("scoring", seconds, how)


def _updating(setup: Setup, rates: Rates, lengths: Lengths, stated: Assumptions) -> list[Phase]:
    """The updates: arithmetic, or under FSDP its communication if that takes longer; AdamW; DDP's sums."""
    memory, shape, epochs = setup.memory, setup.shape, setup.epochs
    rows = setup.rows * setup.shares.kept
    batches = setup.minibatches * setup.devices
    work = tokens_of(prompts_of(rows, setup.samples, batches), rows, lengths).times(epochs)
    flops = update_flops(shape, work, memory.recompute, memory.critic)
    compute = flops / (rates.update * setup.devices)
    steps = setup.minibatches * epochs
    micro = max(1, -(-int(work.all / steps / setup.devices) // memory.token_budget))
    passes = "4 forwards (recomputed)" if memory.recompute else "3 forwards and the output layer's again"
    how = (
        f"{rows:,.0f} rows with a gradient × {epochs}: {work.all / 1e6:.2f} M tokens, {passes} = {flops / 1e15:.2f} "
        f"PFLOP ÷ ({setup.devices} × {rates.how['update']})"
    )
    phases = [Phase("update", compute, how)]
    if setup.devices > 1 and (waited := communication(setup, rates, steps, micro, compute)).seconds > 0:
        phases.append(waited)
    learned = shape.trainable + (shape.backbone_trainable if memory.critic else 0)
    mine = learned / max(memory.shards, 1)
    bandwidth = stated["host_bandwidth"] if memory.offload else rates.adam
    adam = steps * stated["adam_bytes"] * mine / bandwidth
    phases.append(
        Phase(
            "AdamW", adam, f"{steps} steps × {stated['adam_bytes']:g} bytes × {mine:,.0f} ÷ {bandwidth / 1e9:,.0f} GB/s"
        )
    )
    if memory.offload:
        each = memory.weight * (2 * shape.parameters + shape.trainable) / max(memory.shards, 1)
        seconds = steps * micro * each / stated["host_link"]
        how = f"{steps} × {micro} micro-batches × {each / 1e9:.1f} GB to and from main memory ÷ host_link"
        phases.append(Phase("offloading", seconds, how))
    return phases


def communication(setup: Setup, rates: Rates, steps: int, micro: int, compute: float) -> Phase:
    """Seconds of communication that are not hidden behind arithmetic.

    FSDP gathers the weights twice per micro-batch (forward, backward) and reduces the gradients once: 2 · p + 2 · p + 4
    · p bytes in bfloat16 and float32, of which a process sends (n − 1) / n. It does so beside the arithmetic. DDP sums
    the float32 gradients once per optimiser step: 2 · (n − 1) / n · 4 · p bytes, half of it beside the last backward.
    """
    part = (setup.devices - 1) / setup.devices
    parameters, memory = setup.shape.parameters, setup.memory
    if setup.sharded:
        each = (2 * memory.product * parameters + memory.weight * setup.shape.trainable) * part
        needed = steps * micro * each / rates.link
        how = (
            f"{steps} steps × {micro} micro-batches × {each / 1e9:.1f} GB ÷ ({rates.how.get('link', 'link')}) = "
            f"{needed:.1f} s, less the {compute:.1f} s of arithmetic beside it"
        )
        return Phase("communication", max(0.0, needed - compute), how)
    each = 2 * part * memory.weight * setup.shape.trainable
    needed = steps * each / rates.link / 2
    how = f"{steps} steps × {each / 1e9:.1f} GB ÷ ({rates.how.get('link', 'link')}) ÷ 2, half beside the backward"
    return Phase("communication", needed, how)


def gpu_evaluation(setup: Setup, rates: Rates, lengths: Lengths, slots: int) -> Phase:
    """One evaluation of the held-out sets, which only samples."""
    plan = setup.evaluations
    rows = plan.prompts * plan.samples
    if rows == 0:
        return Phase("evaluation", 0.0, "none")
    cut = lengths.cut(plan.max_tokens)
    seconds, *_ = slowest(setup, rates, cut, slots, plan.prompts, plan.samples, draws=1)
    return Phase("evaluation", seconds, f"{plan.prompts:,} prompts × {plan.samples} samples ({plan.basis})")
