"""What stock Lightning and TRL do under the faults of `make test-faults`: `python -m benchmarks.stock_faults`.

Each row of the table that it prints is measured in processes of their own. TRL has to be installed (extra `bench`).
The disk faults mount a small tmpfs and are left out, in words, where this process may not.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

FLIPS, TRUNCATIONS = 200, 50


@dataclass(frozen=True, slots=True)
class Trainer:
    """A stock trainer: the module of its run, the steps of a run, and where it saves step k."""

    name: str
    module: str
    steps: int
    checkpoint: Callable[[Path, int], Path]

    def run(self, directory: Path, *words: str, limit: float = 120) -> tuple[int | None, str]:
        """Exit code (None: it was still running at `limit` seconds) and output of a run in a process of its own."""
        process = self.start(directory, *words)
        try:
            return process.wait(limit), process.stdout.read() if process.stdout else ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None, ""

    def start(self, directory: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", self.module, str(directory), "--steps", str(self.steps), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def files(self, directory: Path, step: int) -> list[Path]:
        """The files of a checkpoint that hold weights and moments."""
        saved = self.checkpoint(directory, step)
        return [saved] if saved.is_file() else [saved / "model.safetensors", saved / "optimizer.pt"]


LIGHTNING = Trainer("Lightning", "benchmarks.stock_faults.lightning_run", 15, lambda d, k: d / f"step={k}.ckpt")
TRL = Trainer("TRL", "benchmarks.stock_faults.trl_run", 6, lambda d, k: d / f"checkpoint-{k}")


def resumed_at_every_step(trainer: Trainer, directory: Path) -> str:
    _, whole = trainer.run(directory / "whole")
    equal = 0
    for step in range(1, trainer.steps):
        _, parts = trainer.run(
            directory / f"from{step}", "--resume", str(trainer.checkpoint(directory / "whole", step))
        )
        equal += _weights(parts) == _weights(whole)
    return f"{equal} of {trainer.steps - 1} resumed runs have the weights of the whole one"


def signals(trainer: Trainer, directory: Path) -> str:
    outcomes = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        place = directory / number.name
        process = trainer.start(place, "--every", "1000", "--seconds", "1")
        assert process.stdout is not None
        while "training" not in process.stdout.readline():
            pass
        time.sleep(3)
        process.send_signal(number)
        process.stdout.read()
        saved = any(place.iterdir()) if place.exists() else False
        outcomes.append(f"{number.name}: exit {process.wait()}, {'saved' if saved else 'nothing saved'}")
    return "; ".join(outcomes)


def damaged(trainer: Trainer, directory: Path) -> str:
    trainer.run(directory)
    draw = random.Random(0)
    newest = trainer.files(directory, trainer.steps)
    noticed = {"flips": 0, "truncations": 0}
    for kind, count in (("flips", FLIPS), ("truncations", TRUNCATIONS)):
        for _ in range(count):
            path = draw.choice(newest)
            kept = bytearray(path.read_bytes())
            bad = bytearray(kept)
            if kind == "flips":
                bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
            else:
                del bad[draw.randrange(len(bad)) :]
            path.write_bytes(bad)
            noticed[kind] += not all(_loads(file) for file in newest)
            path.write_bytes(kept)
    newest[0].write_bytes(newest[0].read_bytes()[:100])
    code, _ = trainer.run(directory, "--resume", str(trainer.checkpoint(directory, trainer.steps)))
    found = f"{noticed['flips']} of {FLIPS} flips and {noticed['truncations']} of {TRUNCATIONS} truncations noticed"
    return f"{found}; a truncated newest checkpoint ends the resume with exit {code}, the one before is not tried"


def full_disk(trainer: Trainer, directory: Path) -> str:
    with _small_disk(directory, "size=100k" if trainer is LIGHTNING else "size=300k") as disk:
        if disk is None:
            return "not measured: mounting is not permitted here"
        code, output = trainer.run(disk)
        kept = sorted(disk.iterdir(), key=lambda path: path.stat().st_mtime)
        newest = kept[-1] if kept else None
        files = [newest] if newest is None or newest.is_file() else sorted(newest.glob("*.[sp][at]*"))
        torn = any(file is not None and not _loads(file) for file in files)
        last = output.strip().splitlines()[-1][:60] if output.strip() else ""
        return f"exit {code}, {'torn' if torn else 'no torn'} newest checkpoint; last words: {last}"


def not_finite(fault: str) -> Callable[[Trainer, Path], str]:
    def measure(trainer: Trainer, directory: Path) -> str:
        code, output = trainer.run(directory, "--fault", fault)
        return f"exit {code}, weights {'finite' if 'finite True' in output else 'not finite'} at the end"

    return measure


def no_signal_in_rewards(trainer: Trainer, directory: Path) -> str:
    code, output = trainer.run(directory, "--fault", "zero_gradient" if trainer is LIGHTNING else "tied")
    return f"exit {code}; steps whose gradient is zero {'move' if 'moved True' in output else 'leave'} the weights"


def broken_reward(fault: str) -> Callable[[Trainer, Path], str]:
    def measure(trainer: Trainer, directory: Path) -> str:
        if trainer is LIGHTNING:
            return "–"
        code, _ = trainer.run(directory, "--fault", fault, limit=40)
        return "still waiting after 40 s" if code is None else f"exit {code}"

    return measure


def hostile_pickle(trainer: Trainer, directory: Path) -> str:
    trainer.run(directory)
    marker = directory / "executed"
    target = trainer.files(directory, 2)[-1]
    torch.save({"state": _Evil(str(marker))}, target)
    code, _ = trainer.run(directory, "--resume", str(trainer.checkpoint(directory, 2)))
    return f"{'its code ran' if marker.exists() else 'its code did not run'}, exit {code}"


def one_directory_twice(trainer: Trainer, directory: Path) -> str:
    trainer.run(directory)
    first = {path.relative_to(directory) for path in directory.iterdir()}
    code, _ = trainer.run(directory, "--steps", "3")
    both = {path.relative_to(directory) for path in directory.iterdir()}
    return (
        f"exit {code}; {len(first)} files or folders of the first run remain among {len(both)}, none says whose it is"
    )


def sampling_defaults(trainer: Trainer, directory: Path) -> str:
    if trainer is LIGHTNING:
        return "–"
    _, output = trainer.run(directory, "--fault", "top_p")
    found = re.search(r"sampling top_p (\S+) top_k (\S+)", output)
    return f"samples with top_p {found[1]}, top_k {found[2]}" if found else "not measured: " + output[-80:]


FAULTS: dict[str, Callable[[Trainer, Path], str]] = {
    "resume at every step": resumed_at_every_step,
    "SIGTERM, SIGINT, SIGHUP in a step": signals,
    "damaged checkpoint": damaged,
    "disk full at a checkpoint": full_disk,
    "NaN loss, once (TRL: a NaN reward)": lambda trainer, directory: not_finite(
        "nan_loss" if trainer is LIGHTNING else "nan_reward"
    )(trainer, directory),
    "NaN in one weight": lambda trainer, directory: (
        "–" if trainer is LIGHTNING else not_finite("nan_weight")(trainer, directory)
    ),
    "nothing to learn in a batch": no_signal_in_rewards,
    "reward that hangs": broken_reward("hang"),
    "reward that ends its process": broken_reward("exit"),
    "reward that raises": broken_reward("raise"),
    "hostile pickle as a checkpoint": hostile_pickle,
    "two runs in one directory": one_directory_twice,
    "a base with top_p 0.8 and top_k 20 in its generation_config": sampling_defaults,
}


class _Evil:
    """An object whose unpickling creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def _loads(path: Path) -> bool:
    try:
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception:  # whatever the libraries raise, they have noticed
        return False
    return True


def _weights(output: str) -> str | None:
    found = re.search(r"weights (\w+)", output)
    return found[1] if found else None


@contextmanager
def _small_disk(directory: Path, options: str) -> Iterator[Path | None]:
    directory.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True)
    try:
        yield directory if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", directory], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stock_faults", description=__doc__)
    parser.add_argument("--only", default="", help="measure the faults whose names contain this")
    args = parser.parse_args()
    print("| fault | stock Lightning | TRL's GRPOTrainer |\n|---|---|---|")
    for name, measure in FAULTS.items():
        if args.only not in name:
            continue
        cells = []
        for trainer in (LIGHTNING, TRL):
            top = Path(tempfile.mkdtemp(prefix="winnow-stock-"))
            cells.append(measure(trainer, top / "run"))
            shutil.rmtree(top)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
