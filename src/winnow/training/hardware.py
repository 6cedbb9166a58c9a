"""Hardware of a run in Lightning's terms: devices, strategy and precision."""

from dataclasses import dataclass
from datetime import timedelta

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins.precision import Precision as PrecisionPlugin
from pytorch_lightning.plugins.precision.double import DoublePrecision
from pytorch_lightning.strategies import Strategy

from winnow.models.precision import Precision
from winnow.process_group import launched_from_outside, slurm_environment
from winnow.training.launcher import Launched
from winnow.training.sharded import Sharded, ShardedFloat64
from winnow.types import MicroBatch, PairBatch


class Float64(DoublePrecision):
    """Lightning's float64, without a conversion of the micro-batches, which are float64 and frozen."""

    def convert_input(self, data: MicroBatch | PairBatch) -> MicroBatch | PairBatch:
        return data


@dataclass(frozen=True, slots=True)
class Hardware:
    """Lightning's settings of device, number of processes, strategy and precision.

    Ranks wait for each other for at most `timeout`. With `offload`, sharded weights rest in main memory.
    """

    accelerator: str
    devices: int
    nodes: int
    strategy: str
    precision: Precision
    timeout: timedelta
    offload: bool

    @property
    def ranks(self) -> int:
        return self.devices * self.nodes

    def lightning_strategy(self) -> str | Strategy:
        """The strategy as an argument of Lightning's Trainer."""
        if self.strategy == "fsdp":
            return Sharded(self.ranks, self.timeout, self.offload)
        if self.strategy == "ddp" or self.ranks > 1:
            return Launched(timeout=self.timeout)
        return self.strategy

    def environment(self) -> ClusterEnvironment | None:
        """Starter of the ranks, as a plugin of Lightning's Trainer; None for torchrun, which it finds by itself.

        In a job of SLURM Lightning would take srun for the one, also where the batch script starts this process alone;
        and it would have the job requeued by signals that are the run's.
        """
        outside = launched_from_outside()
        if outside is None:
            return LightningEnvironment()
        return slurm_environment() if outside.name == "srun" else None

    def precision_plugin(self) -> PrecisionPlugin | None:
        """The plugin of float64; Lightning has those of the other precisions."""
        if self.precision != "64-true":
            return None
        return ShardedFloat64() if self.strategy == "fsdp" else Float64()
