"""What is measured beside the seconds of an iteration, in the same process and right after it."""

from dataclasses import dataclass, field

import torch
from torch import nn

from benchmarks import linears, resident
from benchmarks.iteration import Iteration

Observed = dict[str, float]


@dataclass
class Nothing:
    def before_update(self) -> None: ...

    def after(self, model: nn.Module, iteration: Iteration) -> None: ...

    def found(self) -> list[Observed]:
        return []


@dataclass
class Bounds(Nothing):
    """What the linear layers alone take for the rows of each iteration, and the products of two large matrices."""

    rows: list[Observed] = field(default_factory=list)

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        layers = linears.linears_of(model)
        sampling, update = linears.sampling_work(iteration.rows), linears.update_work(iteration.trained)
        self.rows.append(
            {
                "sampling_bound_cpu_s": linears.sampling_bound(layers, sampling),
                "update_bound_cpu_s": linears.update_bound(layers, update),
                "update_flops": linears.update_flops(layers, model.config, update),  # pyright: ignore[reportArgumentType]
                "update_tokens": float(update.tokens),
                "peak_flops_per_s": linears.peak_flops_per_second(),
            }
        )

    def found(self) -> list[Observed]:
        return self.rows


@dataclass
class UpdatePeak(Nothing):
    """Bytes that an update takes above what is resident when it begins."""

    rows: list[Observed] = field(default_factory=list)
    before: int = 0

    def before_update(self) -> None:
        self.before = resident.reset_peak()

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        self.rows.append({"update_peak_bytes": float(resident.peak() - self.before)})

    def found(self) -> list[Observed]:
        return self.rows


@dataclass
class OnCuda(Nothing):
    """What an iteration required of a GPU under bfloat16 autocast, and the most memory that the process had allocated so far."""

    rows: list[Observed] = field(default_factory=list)

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        layers, config = linears.linears_of(model), model.config
        update = linears.update_work(iteration.trained)
        self.rows.append(
            {
                "update_flops": linears.update_flops(layers, config, update),  # pyright: ignore[reportArgumentType]
                "sampling_bytes": linears.sampling_bytes(layers, config, iteration.rows, item=2),  # pyright: ignore[reportArgumentType]
                "peak_bytes": float(torch.cuda.max_memory_allocated()),
            }
        )

    def found(self) -> list[Observed]:
        return self.rows


OBSERVERS = {"nothing": Nothing, "bounds": Bounds, "update_peak": UpdatePeak, "cuda": OnCuda}
