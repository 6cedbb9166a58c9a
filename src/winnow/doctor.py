"""Checks of this machine by `winnow doctor`, one finding per line. None of them needs a network."""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from winnow.models.memory import memory_bytes

GB = 1e9
MEMORY_GB = 1.5  # a run of the embedded model peaks at 0.65 GB
DISK_GB = 1.0


class Level(StrEnum):
    """Severity of a finding. FAIL means that training cannot work, and gives exit code 2."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's output."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4} {self.subject:<18} {self.text}"


def examine() -> Iterator[Finding]:
    """Every finding, as soon as it is made; a check that raises an error is a finding too."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(Level.FAIL, check.__name__.replace("_", " ").strip(), reason)


def _level(good: bool, otherwise: Level = Level.FAIL) -> Level:
    return Level.OK if good else otherwise


def _python() -> Iterator[Finding]:
    yield Finding(
        _level(sys.version_info >= (3, 11)), "Python", f"{platform.python_version()} (3.11 or later), {sys.executable}"
    )


def _packages() -> Iterator[Finding]:
    try:
        wanted = metadata.requires("winnow-rl") or []
    except metadata.PackageNotFoundError:
        yield Finding(Level.WARN, "winnow-rl", "not installed, so its requirements are unknown; type pip install -e .")
        return
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)
    if _version("lightning") is not None:
        text = "installed beside pytorch-lightning: two copies of one library; type pip uninstall lightning"
        yield Finding(Level.WARN, "lightning", text)


def _package(requirement: Requirement) -> Finding:
    version = _version(requirement.name)
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return Finding(Level.OK, requirement.name, f"{version} ({requirement.specifier})")
    return Finding(Level.FAIL, requirement.name, f"{version or 'missing'}; type pip install '{requirement}'")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processors() -> Iterator[Finding]:
    import torch

    yield Finding(Level.OK, "CPU", f"{len(os.sched_getaffinity(0))} cores, torch uses {torch.get_num_threads()}")
    if not torch.cuda.is_available():
        yield Finding(Level.OK, "GPU", "none that torch can use; runs use the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(Level.OK, f"GPU {index}", f"{properties.name}, {properties.total_memory / GB:.0f} GB")


def _memory() -> Iterator[Finding]:
    total = memory_bytes() / GB
    free = min(total, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB)
    text = f"{total:.1f} GB, {free:.1f} GB of it unused (model=tiny needs {MEMORY_GB:g} GB)"
    yield Finding(_level(total >= MEMORY_GB, Level.WARN), "memory", text)


def _outputs() -> Iterator[Finding]:
    place = Path("outputs") if Path("outputs").is_dir() else Path()
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            yield Finding(Level.OK, "outputs/", f"{place.resolve()} is writable")
    except OSError as error:
        yield Finding(Level.FAIL, "outputs/", f"{place.resolve()}: {error.strerror}; run from a folder of your own")
    free = shutil.disk_usage(place).free / GB
    text = f"{free:.1f} GB free at outputs/ (a checkpoint takes 12 bytes per parameter)"
    yield Finding(_level(free >= DISK_GB, Level.WARN), "disk", text)


def _embedded_model() -> Iterator[Finding]:
    from transformers.utils import logging as transformers_logging

    from winnow.data.arithmetic import chain_at
    from winnow.engines.torch_engine import TorchEngine
    from winnow.models.language_model import Pretrained
    from winnow.models.templates import Plain
    from winnow.types import Prompt, Sampling

    transformers_logging.disable_progress_bar()
    began = time.perf_counter()
    model = Pretrained("tiny", "embedded", Plain()).load()
    text = chain_at(seed=0, index=0, split="heldout").text
    engine = TorchEngine(model.eos_ids, model.pad_id)
    engine.sync(model.model, 0)
    prompt = Prompt("doctor", model.encode(text), text, answer="")
    [[answer]] = engine.generate([prompt], [[0]], Sampling(temperature=1.0, max_tokens=64))
    sample = f"{text}{model.decode(answer.token_ids)}"
    seconds = time.perf_counter() - began
    yield Finding(Level.OK, "embedded model", f"generates (untrained sample: {sample}) ({seconds:.1f} s)")


def _verifier() -> Iterator[Finding]:
    from winnow.rewards.verifier import Verifier
    from winnow.verdict import Verdict

    began = time.perf_counter()
    with Verifier(workers=1, timeout=30.0) as verifier:
        judgements = verifier.judge([r"\sqrt{8}"] * 2, [r"\boxed{2\sqrt{2}}", r"\boxed{2\sqrt{3}}"])
    seconds = time.perf_counter() - began
    right, wrong = (judgement.verdict for judgement in judgements)
    text = f"2√2 for √8 is {right}, 2√3 is {wrong} ({seconds:.1f} s, with the start of its process)"
    yield Finding(_level((right, wrong) == (Verdict.correct, Verdict.wrong)), "verifier", text)


def _wandb() -> Iterator[Finding]:
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    text = "no key: runs are logged offline in their directories; type wandb login to change that"
    if "WANDB_MODE" in os.environ:
        text = f"WANDB_MODE={os.environ['WANDB_MODE']}"
    elif wandb.login(prompt=False, verify=False):
        text = "a key is stored (not checked, which needs the network)"
    yield Finding(Level.OK, "W&B", text)


def _hub_cache() -> Iterator[Finding]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    yield Finding(Level.OK, "hub cache", f"{cache}: {', '.join(models) or 'no models'}{offline}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _processors,
    _memory,
    _outputs,
    _embedded_model,
    _verifier,
    _wandb,
    _hub_cache,
)
