"""The types of every scalar setting. `conf/` gives the values, `limits` says which may be."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class RolloutConfig:
    prompts: int = MISSING
    samples: int = MISSING
    max_tokens: int = MISSING
    max_prompt_tokens: int | None = None
    temperature: float = MISSING
    max_mismatch_kl: float | None = None


@dataclass
class UpdateConfig:
    minibatches: int = MISSING
    epochs: int = MISSING


@dataclass
class OptimConfig:
    lr: float = MISSING
    betas: list[float] = MISSING
    eps: float = MISSING
    weight_decay: float = MISSING
    grad_clip: float = MISSING
    warmup: int = MISSING
    schedule: str = MISSING


@dataclass
class BudgetConfig:
    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    seconds: float | None = None


@dataclass
class EvalConfig:
    sets: list[str] = MISSING
    folder: str | None = None
    every: int = MISSING
    prompts: int | None = None
    samples: int = MISSING
    temperature: float = MISSING
    max_tokens: int = MISSING


@dataclass
class MetricsConfig:
    kl_rows: int = MISSING


@dataclass
class CheckpointConfig:
    every: int = MISSING
    keep: int = MISSING


@dataclass
class HardwareConfig:
    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    attention: str = MISSING
    gradient_checkpointing: bool = MISSING
    compile: bool = MISSING
    token_budget: int | None = MISSING
    threads: int | None = None


@dataclass
class StudyConfig:
    noise: float | None = None


@dataclass
class Config:
    """Groups with behaviour are nodes with a `_target_`; they are checked when they are built."""

    seed: int = MISSING
    iterations: int = MISSING
    resume: str | None = None
    plugins: list[str] = MISSING
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    algo: Any = MISSING
    model: Any = MISSING
    dataset: Any = MISSING
    benchmarks: Any = MISSING
    reward: Any = MISSING
    engine: Any = MISSING
    logger: Any = MISSING


@dataclass
class EvaluateConfig(Config):
    """A run's configuration and what to evaluate: so that a run's own overrides say how its model is to be asked."""

    run: str | None = None
    limit: int | None = None
    batch: int = MISSING


ConfigStore.instance().store("schema", Config)
ConfigStore.instance().store("evaluate_schema", EvaluateConfig)
