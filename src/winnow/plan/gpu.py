"""GPUs with their nominal memory, arithmetic and bandwidths (gpus.yaml, with a source for each)."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from winnow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Gpu:
    """Nominal values of a GPU, in bytes, FLOP/s of dense bfloat16 products, and bytes per second.

    `cuda` is a part of the name that CUDA reports, `link` the way to other GPUs of its node in one direction, `source`
    the maker's document.
    """

    name: str
    cuda: str
    memory: float
    flops: float
    bandwidth: float
    link: float
    source: str


@cache
def gpus() -> dict[str, Gpu]:
    """All known GPUs, by the word that `--gpu` takes."""
    rows = yaml.safe_load((files("winnow") / "plan" / "gpus.yaml").read_text())
    return {name: Gpu(name=name, **row) for name, row in rows.items()}


def gpu_of(word: str) -> Gpu:
    """The GPU that `--gpu WORD` names.

    Raises:
        ConfigError: it is not in the table.
    """
    known = {name.lower(): gpu for name, gpu in gpus().items()}
    if word.lower() not in known:
        raise ConfigError(f"--gpu {word}: not in the table; type one of {', '.join(gpus())}")
    return known[word.lower()]


def gpu_reported(name: str) -> Gpu | None:
    """The GPU that `torch.cuda.get_device_name` calls `name`, or None if it is not in the table."""
    return next((gpu for gpu in gpus().values() if gpu.cuda in name), None)
