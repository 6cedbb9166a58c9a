"""Types of all scalar settings. `conf/` holds their values, and `config/ranges.py` says which values are allowed."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class RolloutConfig:
    prompts: int = MISSING
    samples: int = MISSING
    max_tokens: int = MISSING
    problems: int | None = None
    max_prompt_tokens: int | None = None
    temperature: float = MISSING
    max_mismatch_kl: float | None = None
    staleness: int = 0


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
    files: Any = None  # paths by the name of an evaluation set
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
    keep: Any = MISSING  # a number or "all"
    best: bool = MISSING


@dataclass
class GuardsConfig:
    max_consecutive: int = MISSING
    weights_mb: float = MISSING


@dataclass
class ChecksConfig:
    every: int = MISSING
    rows: int = MISSING


@dataclass
class AlarmsConfig:
    entropy: float | None = MISSING
    accuracy: float | None = MISSING
    length_low: float | None = MISSING
    length_high: float | None = MISSING
    ratio: float | None = MISSING
    kl: float | None = MISSING
    clip_frac: float | None = MISSING
    verdicts: float | None = MISSING
    lost: float | None = MISSING


@dataclass
class WatchdogConfig:
    factor: float | None = MISSING
    floor: float = MISSING


@dataclass
class HardwareConfig:
    accelerator: str = MISSING
    devices: Any = MISSING  # a number or "auto"
    nodes: int = 1
    strategy: str = MISSING
    offload: bool = False
    timeout: float = 600
    precision: str = MISSING
    attention: str = MISSING
    gradient_checkpointing: bool = MISSING
    compile: bool = MISSING
    token_budget: int | None = MISSING
    threads: int | None = None


@dataclass
class TrainerConfig:
    profiler: str | None = None
    deterministic: Any = None  # true, false or "warn"
    benchmark: bool | None = None
    detect_anomaly: bool = MISSING
    enable_progress_bar: bool = MISSING
    enable_model_summary: bool = MISSING


@dataclass
class ExtrasConfig:
    print_config: bool = MISSING


@dataclass
class StudyConfig:
    title: str | None = None
    noise: float | None = None


@dataclass
class Config:
    """Settings of `train.py`. The untyped ones are config groups, whose `_target_` checks them when it is built."""

    seed: int = MISSING
    iterations: int = MISSING
    resume: str | None = None
    resume_force: bool = False
    plugins: list[str] = MISSING
    task_name: str | None = None
    optimized_metric: str = MISSING
    extras: ExtrasConfig = field(default_factory=ExtrasConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    alarms: AlarmsConfig = field(default_factory=AlarmsConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    algo: Any = MISSING
    model: Any = MISSING
    dataset: Any = MISSING
    benchmarks: Any = MISSING
    curriculum: Any = MISSING
    collector: Any = MISSING
    reward: Any = MISSING
    engine: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)


@dataclass
class EvaluateConfig(Config):
    """Settings of `evaluate.py`: all of `train.py`'s, so that a run's own overrides apply to it, and three more."""

    run: str | None = None
    limit: int | None = None
    batch: int = MISSING


for _program, _node in {"train": Config, "evaluate": EvaluateConfig}.items():
    ConfigStore.instance().store(_program, _node, group="schema", package="_global_")
