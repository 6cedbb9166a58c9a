"""Evaluate a language model: `python evaluate.py run=outputs/… eval.sets=[math500]`. `--help` shows what can be set."""

from pathlib import Path

from omegaconf import DictConfig

from winnow import limits
from winnow.app import main
from winnow.app.of_run import complete


def validate(cfg: DictConfig) -> list[str]:
    limits.check_evaluation(cfg)  # before the imports that take seconds
    from winnow import validation

    validation.require(cfg)
    return []


def evaluate(cfg: DictConfig, directory: Path) -> float:
    from winnow.build import evaluation

    return evaluation.evaluate(cfg, directory)


if __name__ == "__main__":
    main("evaluate", validate, evaluate, complete, trace="evaluation.json")
