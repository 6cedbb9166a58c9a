"""Post-train a language model with verifiable rewards: `python train.py algo=grpo`. `--help` shows what can be set."""

from winnow import signals

if __name__ == "__main__":  # before the imports that take seconds
    signals.install()

from pathlib import Path

from omegaconf import DictConfig

from winnow.config import ranges
from winnow.launch.program import Program


def validate(cfg: DictConfig) -> list[str]:
    ranges.check_ranges(cfg)  # before the imports that take seconds
    from winnow.config import checks

    return checks.check_components(cfg)


def train(cfg: DictConfig, directory: Path) -> float | None:
    from winnow.assemble import training

    return training.train(cfg, directory)


def report(top: Path) -> str:
    from winnow.study.report.write import write_report

    return write_report([top], None, "iterations")


if __name__ == "__main__":
    Program("train", validate, train, report=report).main()
