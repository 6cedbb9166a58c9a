"""Rates of this machine's CPU, one process on one thread, as `winnow plan --calibrate` has measured them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from winnow.errors import ConfigError
from winnow.files import cache_directory, replace_json


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for each unit of work of an update or of decoding; a unit that took no measurable time has 0.

    `flop` of matrix products, `activation` bytes of blocks, `logit` bytes of tables of logits, `call` of a layer,
    `weight` bytes that a decoding step reads, `cache` bytes of keys and values, `step` of decoding.
    """

    flop: float
    activation: float = 0.0
    logit: float = 0.0
    call: float = 0.0
    weight: float = 0.0
    cache: float = 0.0
    step: float = 0.0

    def of(self, units: "Units") -> float:
        """Seconds: each number times the cost of its unit."""
        return sum(getattr(units, name) * getattr(self, name) for name in UNITS)


Units = Costs
"""Numbers of units of work, under the same names as their costs."""
UNITS = ("flop", "activation", "logit", "call", "weight", "cache", "step")


@dataclass(frozen=True, slots=True)
class Machine:
    """Costs of a CPU: `flops` are the peak of a product of matrices and `bandwidth` that of copying memory.

    `adam` are the bytes per second of AdamW's step with clipping, `row` and `iteration` the seconds of bookkeeping,
    `overhead` the bytes of a run with a model of no size.
    """

    measured: str
    flops: float
    bandwidth: float
    update: Costs
    decoding: Costs
    adam: float
    row: float
    iteration: float
    overhead: float = 0.0


def machine_file() -> Path:
    """The file that a calibration is kept in."""
    return cache_directory() / "machine.json"


def write_machine(machine: Machine) -> Path:
    """Keep a calibration, in the place of an earlier one."""
    path = machine_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_json(path, asdict(machine))
    return path


def read_machine() -> Machine:
    """The calibration of this machine.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = machine_file()
    try:
        row = json.loads(path.read_text())
        update, decoding = (Costs(**row.pop(name)) for name in ("update", "decoding"))
        return Machine(**row, update=update, decoding=decoding)
    except FileNotFoundError as error:
        raise ConfigError(
            "hardware=cpu: this machine's rates have not been measured; type winnow plan --calibrate (a minute), or "
            "plan for a GPU without hardware=cpu"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: no calibration; type winnow plan --calibrate") from error
