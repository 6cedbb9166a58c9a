"""Whole runs inside the test process."""

import json
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from winnow.assemble.training import train
from winnow.config import checks
from winnow.launch import programs
from winnow.launch.program import Program

CONF = Path(__file__).parent.parent / "conf"
FAMILY = ("dpo", "grpo", "ppo", "raft", "raftpp", "reinforce", "reinforce_rej", "sft")
"""The algorithms of the paper, and SFT; the others are made of the same parts."""
SINCE = tuple(sorted({path.stem for path in (CONF / "algo").glob("*.yaml")} - {*FAMILY}))
"""The algorithms since the paper."""
SMALL = (
    "logger=none",
    "hardware=cpu",
    "rollout.prompts=6",
    "rollout.samples=4",
    "rollout.max_tokens=32",
    "update.minibatches=2",
    "dataset.levels=[2]",
    "eval.prompts=4",
    "eval.samples=1",
    "eval.every=2",
    "metrics.kl_rows=4",
    "checkpoint.every=3",
)
"""Seconds, not minutes: chains of two operations on the embedded base."""


def composed(*overrides: str, program: str = "train") -> DictConfig:
    GlobalHydra.instance().clear()
    OmegaConf.register_new_resolver("winnow.unique", lambda: "test", replace=True)
    OmegaConf.register_new_resolver("winnow.task", lambda: "test", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(program, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_readonly(cfg, False)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def run(directory: Path, *overrides: str) -> float | None:
    """Train in `directory` as `python train.py …` would; the final held-out accuracy."""
    directory.mkdir(parents=True, exist_ok=True)
    cfg = composed(*SMALL, *overrides)
    checks.check_config(cfg)
    return train(cfg, directory)


def program(name: str) -> Program:
    """The program `train.py` or `evaluate.py`, to be run in this process."""
    return replace({"train": programs.training, "evaluate": programs.evaluation}[name](), folder=CONF)


def metrics(directory: Path) -> list[dict[str, float]]:
    """Every row of `metrics.jsonl` without what a clock gave."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "perf/"))} for row in rows]


def weights(directory: Path) -> bytes:
    return (directory / "export" / "model.safetensors").read_bytes()
