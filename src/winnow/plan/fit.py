"""Fit of a run into a device's memory: each part of the estimate of `models.memory` with the arithmetic behind it."""

from dataclasses import dataclass, field, replace

from winnow.models.memory import GB, USABLE, Estimate, cache_per_token, estimate, rows_that_fit
from winnow.plan.lengths import Lengths
from winnow.plan.setup import Setup


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a device's memory in bytes, and the arithmetic behind it."""

    name: str
    size: float
    how: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The memory of one device: what is `held` all the time, and the phases of which one at a time comes on top.

    `slots` are the rows that a sampler decodes at once; `server` is the memory of a GPU that only samples.
    """

    held: list[Part]
    phases: list[Part]
    available: float
    slots: int
    estimate: Estimate
    server: list[Part] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(part.size for part in self.held) + max(part.size for part in self.phases)

    @property
    def usable(self) -> float:
        return USABLE * self.available

    @property
    def fits(self) -> bool:
        return self.total <= self.usable and self.slots > 0


def fit_of(setup: Setup, available: float, context: float, lengths: Lengths) -> Fit:
    """The memory of one device of `available` bytes, of which `context` are the driver's and the process's."""
    slots = _slots(setup, available - context, lengths)
    plan = replace(setup.memory, rows=min(setup.memory.rows, slots))
    found = estimate(setup.shape, plan)
    held = [part for part in _held(found, setup) if part.size]
    if context:
        held.append(Part("process", context, "what a run takes besides (context_bytes; on a CPU as calibrated)"))
    server = _server(setup, available, slots, lengths)
    return Fit(held, _phases(found, setup, available), available, slots, found, server)


def _slots(setup: Setup, available: float, lengths: Lengths) -> int:
    """Rows that one sampler decodes at once: those that it has, or as many as fit beside what else is held.

    An engine with memory of its own keeps the tokens that a row has on average, this process's engine those that it may
    have at most.
    """
    sampler, shape, memory = setup.sampler, setup.shape, setup.memory
    rows = -(-setup.rows // setup.samplers)
    if sampler.utilisation is None:
        most = rows_that_fit(shape, memory, available)
    else:
        room = sampler.utilisation * available * sampler.devices - memory.product * shape.parameters
        most = max(0, int(room / (cache_per_token(shape, memory.precision) * (lengths.prompt + lengths.mean))))
    return min(rows, most, sampler.max_rows or rows)


def _held(found: Estimate, setup: Setup) -> list[Part]:
    plan, shape = found.plan, found.shape
    here = " ÷ " + str(plan.shards) if plan.shards else ""
    home = " in main memory" if plan.offload else ""
    policy = f"{_count(shape.parameters)}"
    learned = _count(shape.trainable + (shape.backbone_trainable if plan.critic else 0))
    critic = f" and {_count(shape.backbone)} of the critic" if plan.critic else ""
    doubled = " × 2 (DDP's buckets)" if plan.buckets else ""
    products = (
        f"{plan.product} bytes × every weight that is trained (autocast)"
        if not plan.shards
        else f"two blocks of {_count(shape.block)} and {_count(shape.outside)} outside of them × {plan.product} bytes"
        f", a block's gradient × {plan.weight}"
    )
    return [
        Part("weights", found.masters, f"{plan.weight} bytes × {policy} parameters{critic}{here}{home}"),
        Part("gradients", found.gradients, f"{plan.weight} bytes × {learned}{doubled}{here}{home}"),
        Part("AdamW", found.optimiser, f"2 moments × {plan.weight} bytes × {learned}{here}{home}"),
        Part("reference", found.reference, f"{plan.weight} bytes × {policy}{here}{home}"),
        Part("products", found.products, products),
    ]


def _phases(found: Estimate, setup: Setup, available: float) -> list[Part]:
    """Sampling, update and AdamW's step. vLLM sleeps in updates, and holds its share of the memory while it samples."""
    plan, shape = found.plan, found.shape
    kept = "a layer's input, and one block" if plan.recompute else "all blocks"
    phases = [
        Part(
            "update",
            found.logits + found.activations,
            f"logits {_gb(found.logits)} + activations {_gb(found.activations)}: {plan.micro_batch:,} tokens × "
            f"{found.activations / max(plan.micro_batch, 1) / 1e3:,.0f} kB ({kept})",
        ),
        Part("AdamW's step", found.step, f"{plan.weight} bytes × what it changes"),
    ]
    if setup.sampler.utilisation is not None and not setup.sampler.separate:
        how = f"{setup.sampler.name}: engine.gpu_memory_utilization {setup.sampler.utilisation:g} × {_gb(available)} GB"
        phases.insert(0, Part("sampling", setup.sampler.utilisation * available, how))
    if setup.sampler.utilisation is None and plan.rows:
        gathered = f"whole weights {_gb(found.gathered)} ({plan.product} bytes each) + " if found.gathered else ""
        phases.insert(
            0,
            Part(
                "sampling",
                found.sampling,
                f"{gathered}{plan.rows:,} rows × {plan.row_tokens:,} tokens × "
                f"{cache_per_token(shape, plan.precision):,} bytes of keys and values, and logits",
            ),
        )
    return phases


def _server(setup: Setup, available: float, slots: int, lengths: Lengths) -> list[Part]:
    """The memory of a GPU of a separate engine: its share of the weights, and of the keys and values of its rows."""
    sampler, shape, precision = setup.sampler, setup.shape, setup.memory.precision
    if not sampler.separate:
        return []
    weights = setup.memory.product * shape.parameters / sampler.devices
    row = cache_per_token(shape, precision) * (lengths.prompt + lengths.mean)
    of = f" ÷ {sampler.devices}" if sampler.devices > 1 else ""
    return [
        Part("server weights", weights, f"{setup.memory.product} bytes × {_count(shape.parameters)}{of}"),
        Part(
            "server cache",
            slots * row / sampler.devices,
            f"{slots:,} rows × {lengths.prompt + lengths.mean:,.0f} tokens × {cache_per_token(shape, precision):,} "
            f"bytes{of}, of engine.memory {sampler.utilisation:g} × {_gb(available)} GB",
        ),
    ]


def _count(number: float) -> str:
    return f"{number / 1e9:.3f}e9" if number >= 1e9 else f"{number / 1e6:.1f}e6"


def _gb(size: float) -> str:
    return f"{size / GB:.1f}" if size >= GB / 10 else f"{size / GB:.3f}"
