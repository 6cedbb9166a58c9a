"""Post-train a language model with verifiable rewards: `python train.py algo=grpo`. `--help` shows what can be set."""

from pathlib import Path

from omegaconf import DictConfig

from winnow import limits
from winnow.app import main


def validate(cfg: DictConfig) -> list[str]:
    limits.check(cfg)  # before the imports that take seconds
    from winnow import validation

    return validation.validate(cfg)


def train(cfg: DictConfig, directory: Path) -> float | None:
    from winnow.build import training

    return training.train(cfg, directory)


def report(top: Path) -> str:
    from winnow.study.report.write import write_report

    return write_report([top], None, "iterations")


if __name__ == "__main__":
    main("train", validate, train, report=report)
