"""Setup of a planned run: the model, the devices, and the settings that its memory and its time follow from."""

from dataclasses import dataclass

from winnow.models.memory import MemoryPlan
from winnow.models.shape import ModelShape
from winnow.plan.gpu import Gpu


@dataclass(frozen=True, slots=True)
class Sampler:
    """The engine of a run: `name`, the rows that it decodes at once (None: all that fit), and how its steps are run.

    `utilisation` is the share of a GPU that vLLM keeps for itself, None for an engine that shares the trainer's memory.
    `devices` hold one copy of the weights together. A `separate` engine runs on GPUs of its own.
    """

    name: str
    max_rows: int | None = None
    graphs: bool = False
    utilisation: float | None = None
    devices: int = 1
    separate: bool = False


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of an iteration's N responses that go through a forward, from 0 to 1.

    `kept` are those with a gradient; `old` are scored under the policy that sampled, `reference` under the initial
    policy, `values` under the critic. `basis` says how `kept` was found.
    """

    kept: float
    old: float
    reference: float
    values: float
    basis: str


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Held-out evaluations: `prompts` of all sets together, `samples` each, every `every` iterations (0: none)."""

    every: int
    prompts: int
    samples: int
    max_tokens: int
    basis: str


@dataclass(frozen=True, slots=True)
class Setup:
    """A run as it is planned. `devices` are those that train, `memory` is the plan of one of them."""

    words: str
    model: str
    algorithm: str
    shape: ModelShape
    positions: int | None
    gpu: Gpu | None
    devices: int
    nodes: int
    strategy: str
    memory: MemoryPlan
    prompts: int
    samples: int
    max_tokens: int
    minibatches: int
    epochs: int
    iterations: int
    sampler: Sampler
    shares: Shares
    evaluations: Evaluations
    supervised: bool
    staleness: int = 0
    max_prompt_tokens: int = 0

    @property
    def rows(self) -> int:
        """N = prompts × samples responses of an iteration."""
        return self.prompts * self.samples

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and response that the settings allow; without a limit of prompts, a response."""
        return self.max_prompt_tokens + max(self.max_tokens, self.evaluations.max_tokens)

    @property
    def samplers(self) -> int:
        """Engines that share the rows of an iteration: one on GPUs of its own, or one for each of its devices here."""
        return 1 if self.sampler.separate else max(1, self.devices // self.sampler.devices)

    @property
    def gpus(self) -> int:
        """All GPUs of the run, those of a separate engine included."""
        return self.devices + (self.sampler.devices if self.sampler.separate else 0)

    @property
    def sharded(self) -> bool:
        return self.strategy == "fsdp"
