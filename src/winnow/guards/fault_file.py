"""Dumps of numbers that are not finite: `faults/iteration_000012.pt`, with what is needed to compute them again.

A dump is a dictionary of numbers, texts and tensors, which `torch.load(…, weights_only=True)` reads without running any
code.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from winnow import distributed
from winnow.errors import ConfigError
from winnow.experience.left_out import Site
from winnow.tensor_files import read_tensors
from winnow.types import Row

FORMAT = 1
MAX_FAULTS = 10
"""Number of dumps that a run directory keeps; later faults are counted, and not dumped."""
FOLDER = "faults"


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A row of a fault: its tokens, and its numbers by name, (S,) tensors that are 0 on the prompt or scalars."""

    token_ids: tuple[int, ...]
    prompt_length: int
    numbers: Mapping[str, Tensor]

    @classmethod
    def of(cls, row: Row, numbers: Mapping[str, Tensor]) -> "FaultRow":
        """`row` and its numbers, on the CPU and without a gradient."""
        return cls(row.token_ids, row.prompt_length, {k: v.detach().cpu().clone() for k, v in numbers.items()})


@dataclass(frozen=True, slots=True)
class Fault:
    """Numbers at `site` that are not finite, and the rows they belong to; of pairs, chosen and rejected in turn.

    `denominator` is that of the loss of the rows' optimiser batch, None if they had not reached an update. `tensors`
    are gradients, moments or weights that are not finite, by name.
    """

    site: Site
    iteration: int
    rows: Sequence[FaultRow] = ()
    paired: bool = False
    denominator: float | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dump:
    """A fault as it was read from a file, with the run's configuration and the weights at the time.

    Where the weights were too many for the file, `weights` is empty and `checkpoint` names the last one before, as a
    path inside the run directory, or is None if there was none.
    """

    fault: Fault
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    checkpoint: str | None


@dataclass(eq=False)
class FaultFiles:
    """Writer of a run's dumps into `directory/faults`.

    `config` is the configuration of the run, and `last_checkpoint` finds the folder of its newest checkpoint.
    """

    directory: Path
    run: str | None
    config: Mapping[str, object]
    weights_mb: float
    last_checkpoint: Callable[[], Path | None]

    def write(self, fault: Fault, module: nn.Module) -> Path | None:
        """Write `fault` with the trained weights of `module`; None where the run has enough dumps or no room."""
        folder = self.directory / FOLDER
        names = self._names(fault.iteration)
        path = next((folder / name for name in names if not (folder / name).exists()), None)
        if path is None or (folder.is_dir() and len([*folder.glob("*.pt")]) >= MAX_FAULTS):
            return None
        temporary = path.with_name(f".tmp-{path.name}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self._content(fault, module), temporary)
            temporary.replace(path)
        except (OSError, RuntimeError):  # torch raises a RuntimeError for a full disk; a dump is worth no run
            with suppress(OSError):
                temporary.unlink()
            return None
        return path

    def _names(self, iteration: int) -> list[str]:
        rank = f"_rank{distributed.rank()}" if distributed.rank() else ""
        name = f"iteration_{iteration:06d}{rank}"
        return [f"{name}.pt", *(f"{name}_{number}.pt" for number in range(2, MAX_FAULTS + 1))]

    def _content(self, fault: Fault, module: nn.Module) -> dict[str, object]:
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        # A rank that meets a fault does so alone, and holds only a part of a sharded model.
        whole = all(distributed.local(p) is p for p in parameters.values())
        fits = whole and sum(p.numel() * p.element_size() for p in parameters.values()) <= self.weights_mb * 1e6
        trained = {name: p.detach().cpu() for name, p in parameters.items()} if fits else {}
        checkpoint = self.last_checkpoint()
        return {
            "format": FORMAT,
            "run": self.run,
            "config": json.dumps(self.config, default=str),
            "site": fault.site.value,
            "iteration": fault.iteration,
            "rows": [
                {"token_ids": list(r.token_ids), "prompt_length": r.prompt_length, "numbers": dict(r.numbers)}
                for r in fault.rows
            ],
            "paired": fault.paired,
            "denominator": fault.denominator,
            "tensors": {name: tensor.detach().cpu() for name, tensor in fault.tensors.items()},
            "weights": trained,
            "checkpoint": None if checkpoint is None else str(checkpoint.relative_to(self.directory)),
        }


def read_dump(path: Path) -> Dump:
    """The dump in the file `path`.

    Raises:
        ConfigError: it is not a file that `FaultFiles` wrote.
    """
    advice = "type the path of a file in RUN/faults"
    try:
        return _dump_of(read_tensors(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a dump of a run, or damaged; {advice}") from error


def _dump_of(content: Any) -> Dump:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}")
    rows = [_row_of(row) for row in content["rows"]]
    if content["paired"] and len(rows) % 2:
        raise ValueError("half a pair")
    denominator = content["denominator"]
    fault = Fault(
        Site(content["site"]),
        int(content["iteration"]),
        rows,
        bool(content["paired"]),
        None if denominator is None else float(denominator),
        _tensors(content["tensors"]),
    )
    config, checkpoint = json.loads(content["config"]), content["checkpoint"]
    if not isinstance(config, dict) or not isinstance(checkpoint, str | None):
        raise TypeError("no configuration")
    return Dump(fault, config, _tensors(content["weights"]), checkpoint)


def _row_of(row: Any) -> FaultRow:
    tokens, start = tuple(int(token) for token in row["token_ids"]), int(row["prompt_length"])
    numbers = _tensors(row["numbers"])
    if not 0 < start < len(tokens):
        raise ValueError("a row without a prompt or a response")
    if any(number.dim() and number.shape != (len(tokens),) for number in numbers.values()):
        raise ValueError("numbers that are not one for each token")
    return FaultRow(tokens, start, numbers)


def _tensors(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise TypeError("no tensors")
    return {str(name): tensor for name, tensor in found.items()}
