"""Where, when and with what a figure was measured."""

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import winnow
from winnow.models.memory import memory_bytes

PACKAGES = ("torch", "transformers", "pytorch-lightning", "hydra-core", "trl", "vllm")


def provenance(part: str, command: str, seconds: float) -> dict[str, str | float]:
    """The five keys that every part leaves beside its figures, by its name."""
    return {
        f"{part}_date": datetime.now().astimezone().isoformat(timespec="seconds"),
        f"{part}_command": command,
        f"{part}_machine": this_machine(),
        f"{part}_versions": versions(),
        f"{part}_seconds": round(seconds, 1),
    }


def this_machine() -> str:
    """`AMD EPYC, 2 cores, 25 GB`, and the GPU where there is one."""
    words = [_processor(), f"{os.cpu_count()} cores", f"{memory_bytes() / 1e9:.0f} GB"]
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def versions() -> str:
    """`winnow 0.1.0 (commit 0a37f54, changed), Python 3.11.9, torch 2.13.0+cpu, …`; what is not installed is left out."""
    found = [f"winnow {winnow.__version__}{_commit()}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """Nothing where the package does not lie in a checkout."""
    command = [
        "git",
        "-C",
        str(Path(winnow.__file__).parent),
        "describe",
        "--always",
        "--dirty=, changed",
        "--exclude=*",
    ]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return f" (commit {said.stdout.strip()})" if said.returncode == 0 else ""
