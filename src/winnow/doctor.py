"""What `winnow doctor` looks at, one finding a line. Nothing here needs a network."""

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
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4} {self.subject:<18} {self.text}"


def examine() -> Iterator[Finding]:
    """Every finding, as soon as it is made; a check that breaks is a finding too."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(Level.FAIL, check.__name__.replace("_", " ").strip(), reason)


def _python() -> Iterator[Finding]:
    level = Level.OK if sys.version_info >= (3, 11) else Level.FAIL
    yield Finding(level, "Python", f"{platform.python_version()} (3.11 or later), {sys.executable}")


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
    found = _version(requirement.name)
    if found is None:
        return Finding(Level.FAIL, requirement.name, f"missing; type pip install '{requirement}'")
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(Level.FAIL, requirement.name, f"{found}; type pip install '{requirement}'")
    return Finding(Level.OK, requirement.name, f"{found} ({requirement.specifier})")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processors() -> Iterator[Finding]:
    import torch

    yield Finding(Level.OK, "CPU", f"{len(os.sched_getaffinity(0))} cores, torch uses {torch.get_num_threads()}")
    if not torch.cuda.is_available():
        yield Finding(Level.OK, "GPU", "none that torch can use: runs take the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(Level.OK, f"GPU {index}", f"{properties.name}, {properties.total_memory / GB:.0f} GB")


def _memory() -> Iterator[Finding]:
    total = memory_bytes() / GB
    free = min(total, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB)
    level = Level.OK if total >= MEMORY_GB else Level.WARN
    yield Finding(
        level, "memory", f"{total:.1f} GB, {free:.1f} GB of it unused ({MEMORY_GB:g} GB will do for model=tiny)"
    )


def _outputs() -> Iterator[Finding]:
    place = Path("outputs") if Path("outputs").is_dir() else Path()
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            yield Finding(Level.OK, "outputs/", f"{place.resolve()} can be written")
    except OSError as error:
        yield Finding(Level.FAIL, "outputs/", f"{place.resolve()}: {error.strerror}; run from a folder of your own")
    free = shutil.disk_usage(place).free / GB
    level = Level.OK if free >= DISK_GB else Level.WARN
    yield Finding(level, "disk", f"{free:.1f} GB free at outputs/ (a checkpoint takes 12 bytes a parameter)")


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
    said = f"{text}{model.decode(answer.token_ids)}"
    yield Finding(
        Level.OK,
        "embedded model",
        f"untrained, answers rightly or wrongly {said} ({time.perf_counter() - began:.1f} s)",
    )


def _verifier() -> Iterator[Finding]:
    from winnow.rewards.verifier import Verifier
    from winnow.verdict import Verdict

    began = time.perf_counter()
    with Verifier(workers=1, timeout=30.0) as pool:
        right, wrong = pool.judge([r"\sqrt{8}"] * 2, [r"\boxed{2\sqrt{2}}", r"\boxed{2\sqrt{3}}"])
    verdicts = (right.verdict, wrong.verdict)
    level = Level.OK if verdicts == (Verdict.correct, Verdict.wrong) else Level.FAIL
    text = f"2√2 for √8 is {verdicts[0]}, 2√3 is {verdicts[1]} ({time.perf_counter() - began:.1f} s with its process)"
    yield Finding(level, "verifier", text)


def _wandb() -> Iterator[Finding]:
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        yield Finding(Level.OK, "W&B", f"WANDB_MODE={mode}")
    elif wandb.login(prompt=False, verify=False):
        yield Finding(Level.OK, "W&B", "a key is stored (not tried: that takes the network)")
    else:
        yield Finding(
            Level.OK, "W&B", "no key: runs are logged offline under their directory; type wandb login to change that"
        )


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
