"""A program around Hydra that ends in every way a run can end: `TOY_CONF=FOLDER python toy_program.py end=done`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from winnow import signals
from winnow.errors import ConfigError, Diverged, Stopped
from winnow.launch.program import Program

YAML = {
    "toy.yaml": """
defaults:
  - _self_
  - algo: grpo
  - experiment: null
  - override hydra/launcher: processes
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
seed: 0
iterations: 3
resume: null
resume_force: false
end: done
idle: 1
hardware: {devices: 1, nodes: 1}
hydra:
  run: {dir: "outputs/${hydra:runtime.choices.algo}-${winnow.unique:}"}
  sweep: {dir: "multirun/${winnow.unique:}", subdir: "${hydra.job.num}"}
""",
    "algo/grpo.yaml": "clip: 0.2\n",
    "algo/raft.yaml": "best: 1\n",
    "experiment/long.yaml": "# @package _global_\niterations: 50\n",
    "experiment/fifty.yaml": "# @package _global_\niterations: 50\n",
    "experiment/seeds.yaml": (
        "# @package _global_\nhydra: {sweeper: {params: {seed: '1,2', algo: raft}}, sweep: {dir: here}}\n"
    ),
}


def write_conf(folder: Path) -> Path:
    for name, text in YAML.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def validate(cfg: DictConfig) -> list[str]:
    if cfg.iterations < 1:
        raise ConfigError(f"iterations={cfg.iterations}: must be 1 or more")
    return ["short"] if cfg.iterations < 10 else []


def run(cfg: DictConfig, directory: Path) -> float:
    seen = {"resume": cfg.resume, "iterations": cfg.iterations, "threads": os.environ.get("OMP_NUM_THREADS")}
    (directory / "seen.json").write_text(json.dumps(seen))
    match cfg.end:
        case "config":
            (directory / "seen.json").unlink()
            raise ConfigError("model.path=gone: no such folder")
        case "refused" if cfg.idle < 3:
            raise ConfigError(f"idle={cfg.idle}: must be 3 or more")
        case "diverged":
            (directory / "summary.json").write_text(json.dumps({"status": "diverged", "iterations": 0}))
            raise Diverged("loss is nan")
        case "bug":
            raise ZeroDivisionError("a bug\nin two lines")
        case "exits":
            raise SystemExit
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "waits":
            _wait_for_a_signal(directory)
        case "preempted" if cfg.resume is None:
            _save_on_a_signal(directory)
        case "late":  # fails once, and once is stopped after it has saved
            _fail_at_first(directory, cfg.iterations)
    _save(directory, cfg.iterations)
    figures = {"status": "done", "iterations": cfg.iterations, "eval_first": 0.25, "eval_last": 0.5, "seconds": 1.0}
    (directory / "summary.json").write_text(json.dumps(figures))
    return 0.5


def _fail_at_first(directory: Path, iterations: int) -> None:
    tries = directory / "tries"
    before = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(before + 1))
    if before == 0:
        raise ZeroDivisionError("at first")
    if before == 1:
        _save(directory, 1)
        raise Stopped(75)


def _save(directory: Path, iteration: int) -> None:
    manifest = directory / "checkpoints" / f"iteration_{iteration:06d}" / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("{}")


def _save_on_a_signal(directory: Path) -> None:
    """As a training run does: the first signal is noted."""
    signals.install()
    with signals.deferred():
        (directory / "pid").write_text(str(os.getpid()))
        while signals.received() is None:
            time.sleep(0.05)
        _save(directory, 1)
        signals.check()


def _wait_for_a_signal(directory: Path) -> None:
    codes = {signal.SIGINT: 130, signal.SIGTERM: 75}
    signal.pthread_sigmask(signal.SIG_BLOCK, codes)
    (directory / "pid").write_text(str(os.getpid()))
    print("waiting", flush=True)
    received = signal.Signals(signal.sigtimedwait(codes, 60).si_signo)  # pyright: ignore[reportOptionalMemberAccess]
    (directory / "signal").write_text(str(received.value))
    _save(directory, 1)
    raise Stopped(codes[received])


def essence(cfg: DictConfig) -> str:
    """Of what the program does: `idle` has no influence."""
    return OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "idle"]))


def program(folder: Path) -> Program:
    return Program("toy", validate, run, folder, essence=essence)


if __name__ == "__main__":
    sys.exit(program(Path(os.environ["TOY_CONF"])).exit_code(sys.argv[1:]))
