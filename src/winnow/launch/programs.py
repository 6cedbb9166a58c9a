"""The two programs: `winnow train` or `train.py`, and `winnow evaluate` or `evaluate.py`."""

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from winnow.config import early_checks, ranges
from winnow.launch.evaluate_run import with_run_overrides
from winnow.launch.program import Program


def training() -> Program:
    """Training as `conf/train.yaml` says."""
    return Program("train", _validate_training, _train, report=_report, essence=_essence, gpus=_gpus)


def evaluation() -> Program:
    """Evaluation as `conf/evaluate.yaml` says."""
    return Program(
        "evaluate",
        _validate_evaluation,
        _evaluate,
        complete=with_run_overrides,
        trace="evaluation.json",
        gpus=_gpus_of_evaluation,
    )


def installed(name: str) -> Program:
    """The program `winnow NAME`."""
    return replace({"train": training, "evaluate": evaluation}[name](), installed=True)


# What imports torch, which takes seconds, is imported when the cheap checks have passed.


def _validate_training(cfg: DictConfig) -> list[str]:
    ranges.check_ranges(cfg)
    early_checks.check_early(cfg)
    from winnow.config import checks

    return checks.check_components(cfg)


def _essence(cfg: DictConfig) -> str:
    from winnow.config import equal_runs

    return equal_runs.essence(cfg)


def _gpus(cfg: DictConfig, at_once: int) -> int:
    from winnow.assemble import devices

    return devices.gpus_of_job(cfg, at_once)


def _gpus_of_evaluation(cfg: DictConfig, at_once: int) -> int:
    from winnow.assemble import devices

    return devices.gpus_of_job(devices.on_devices(cfg, 1), at_once)


def _train(cfg: DictConfig, directory: Path) -> float | None:
    from winnow.assemble import training

    return training.train(cfg, directory)


def _report(top: Path) -> str:
    from winnow.study.report.write import write_report

    return write_report([top], None, "iterations")


def _validate_evaluation(cfg: DictConfig) -> list[str]:
    ranges.check_evaluation_ranges(cfg)
    early_checks.check_early(cfg)
    from winnow.config import checks

    checks.check_environment(cfg)
    return []


def _evaluate(cfg: DictConfig, directory: Path) -> float:
    from winnow.assemble import evaluation

    return evaluation.evaluate(cfg, directory)
