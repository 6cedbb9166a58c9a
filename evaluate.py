"""Evaluate a language model: `python evaluate.py run=outputs/… eval.sets=[math500]`. `--help` shows what can be set."""

from winnow import signals

if __name__ == "__main__":  # before the imports that take seconds
    signals.install()

from pathlib import Path

from omegaconf import DictConfig

from winnow.config import ranges
from winnow.launch.evaluate_run import with_run_overrides
from winnow.launch.program import Program


def validate(cfg: DictConfig) -> list[str]:
    ranges.check_evaluation_ranges(cfg)  # before the imports that take seconds
    from winnow.config import checks

    checks.check_environment(cfg)
    return []


def evaluate(cfg: DictConfig, directory: Path) -> float:
    from winnow.assemble import evaluation

    return evaluation.evaluate(cfg, directory)


if __name__ == "__main__":
    Program("evaluate", validate, evaluate, complete=with_run_overrides, trace="evaluation.json").main()
