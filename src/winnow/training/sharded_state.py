"""State of a sharded run by the names of its parameters: weights and AdamW's moments, saved and loaded shard by shard.

torch.distributed.checkpoint writes a folder with a file of each rank, and reads from it what a rank holds, whatever the
number of ranks that wrote it. Everything else of a checkpoint is in the file `rest.pt` of the folder.
"""

import os
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from torch.optim import Optimizer

from winnow import distributed
from winnow.files import disk_errno, flush_to_disk
from winnow.tensor_files import read_tensors

REST = "rest.pt"
"""File with all of a checkpoint that is no weight and no moment."""
WEIGHT, MOMENT = "state_dict.", "moments."
REFERENCE = "reference"
"""Entry of a checkpoint with the weights of a reference policy that follows the policy, by name."""
SHARDS = "shards"
"""Entry of a loaded state: the folder from which each rank reads its shards of what is not in the state."""
LAYOUT = "layout"
"""Entry of the rest with what `layout` says."""


class _Reader(FileSystemReader):
    """Reader whose index of the tensors cannot run code, as torch's own reading of that pickle can."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            found = _IndexUnpickler(file).load()
        if not isinstance(found, Metadata):
            raise pickle.UnpicklingError("no index of tensors")
        found.storage_meta = StorageMeta() if found.storage_meta is None else found.storage_meta
        found.storage_meta.load_id = self.load_id
        return found


class _Writer(FileSystemWriter):
    """Writer whose failures on a disk reach all ranks as the OSError that they are.

    torch raises a RuntimeError while it handles one, and pickles that for the other ranks, without its cause.
    """

    def write_data(self, *args: Any, **kwargs: Any) -> Any:
        with _as_disk_error(Path(self.path)):
            return super().write_data(*args, **kwargs)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        with _as_disk_error(Path(self.path)):
            super().finish(*args, **kwargs)


@contextmanager
def _as_disk_error(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (number := disk_errno(error)) is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


@contextmanager
def _failure_of_a_rank() -> Iterator[None]:
    """Context in which torch's collection of all ranks' errors is the first of them."""
    try:
        yield
    except CheckpointException as collected:
        _, (error, _) = min(collected.failures.items(), key=lambda each: each[0])
        raise error from collected


class _IndexUnpickler(pickle.Unpickler):
    """Unpickler of the classes of an index of tensors, and of no others."""

    ALLOWED = frozenset(
        {
            *(("torch.distributed.checkpoint.metadata", name) for name in metadata.__all__),
            ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch.serialization", "_get_layout"),
            ("torch", "Size"),
            ("torch", "device"),
            ("collections", "OrderedDict"),
            ("pathlib", "PosixPath"),
            *(("torch", str(dtype).removeprefix("torch.")) for dtype in (torch.float32, torch.float64, torch.bfloat16)),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an index of tensors")
        return super().find_class(module, name)


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The trained weights by name, tied ones once."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def moments(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """AdamW's state as `NAME:KEY`, of the parameters that have been updated."""
    return {
        f"{name}:{key}": value
        for name, p in module.named_parameters()
        for key, value in optimizer.state.get(p, {}).items()
    }


def save(tensors: Mapping[str, Mapping[str, Tensor]], rest: Mapping[str, Any], path: Path, first: bool) -> None:
    """Write a checkpoint's folder; all ranks call this together, and the `first` writes what is no tensor.

    Raises:
        OSError: a file could not be written, on this rank or another.
    """
    path.mkdir(exist_ok=True)
    flat = {f"{part}.{name}": tensor for part, named in tensors.items() for name, tensor in named.items()}
    with _failure_of_a_rank():
        save_sharded(flat, storage_writer=_Writer(path, sync_files=True))
    if first:
        with open(path / REST, "wb") as file:
            torch.save(dict(rest), file)
            file.flush()
            os.fsync(file.fileno())
    flush_to_disk(path)


def load(path: Path, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Load a checkpoint into a sharded module and its optimiser, and return all of it that is no tensor of theirs.

    It may be the folder of a sharded run, whatever its ranks, or the file of another one. All ranks call this together.

    Raises:
        ValueError: it is damaged.
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if path.is_dir():
        saved = _moment_keys(_index(path))
        moments_of = {name: saved.get(name, []) for name in parameters}
        flat = {WEIGHT + name: p.detach() for name, p in parameters.items()} | _new_moments(
            parameters, moments_of, optimizer
        )
        _read(flat, path, together=True)
        return {**rest_of(path), SHARDS: path}
    state = read_tensors(path, mmap=True)
    if not isinstance(state, dict):
        raise ValueError(f"{path}: no checkpoint")
    places = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    of_index = {name: places[p] for name, p in parameters.items()}
    moments = state["optimizer_states"][0]["state"]
    moments_of = {name: list(moments.get(of_index[name], {})) for name in parameters}
    flat = _new_moments(parameters, moments_of, optimizer)
    for name, p in parameters.items():
        _take(p.detach(), state["state_dict"][name])
        for key in moments_of[name]:
            _take(flat[f"{MOMENT}{name}:{key}"], moments[of_index[name]][key])
    return {**state, "state_dict": {}, "optimizer_states": []}


def load_reference(into: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Fill the weights of a reference policy from a loaded state, if it has any; all ranks call this together.

    A checkpoint of a run whose reference policy did not follow the policy has none, and the weights stay.
    """
    if (path := state.get(SHARDS)) is not None:
        index = _index(path)
        flat = {f"{REFERENCE}.{name}": tensor for name, tensor in into.items() if f"{REFERENCE}.{name}" in index}
        if flat:
            _read(flat, path, together=True)
    for name, whole in state.get(REFERENCE, {}).items():
        _take(into[name], whole)


def _read(flat: dict[str, Tensor], path: Path, together: bool) -> None:
    """Fill tensors from a folder, by all ranks together or by this process alone, of which torch would warn."""
    with warnings.catch_warnings(), _failure_of_a_rank():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        load_sharded(flat, storage_reader=_Reader(path), no_dist=not together)


def _new_moments(
    parameters: Mapping[str, nn.Parameter], keys: Mapping[str, Sequence[str]], optimizer: Optimizer
) -> dict[str, Tensor]:
    """Tensors for the moments of parameters, entered into the optimiser's state, by their names in a checkpoint."""
    made = {}
    for name, p in parameters.items():
        for key in keys[name]:
            made[f"{MOMENT}{name}:{key}"] = optimizer.state[p][key] = (
                torch.zeros((), dtype=torch.float32) if key == "step" else torch.zeros_like(p.detach())
            )
    return made


def _take(into: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, or this rank's rows of it, into a tensor."""
    distributed.local(into).copy_(
        distributed.own_rows(into, lambda first, end: whole[first:end]) if whole.dim() else whole
    )


def _moment_keys(index: Iterable[str]) -> dict[str, list[str]]:
    """The keys of AdamW's state (`step`, `exp_avg`, …) that a checkpoint has, by the name of the parameter."""
    found: dict[str, list[str]] = {}
    for entry in index:
        if entry.startswith(MOMENT):
            name, _, key = entry.removeprefix(MOMENT).rpartition(":")
            found.setdefault(name, []).append(key)
    return found


def layout(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The order of parameters in the optimiser, its settings, and the other names of tied parameters."""
    names = {p: name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {
        "groups": [[names[p] for p in group["params"]] for group in optimizer.param_groups],
        "settings": [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
        "aliases": {other: names[p] for other, p in every if names[p] != other and p.requires_grad},
    }


def whole_state(path: Path) -> dict[str, Any]:
    """A folder's checkpoint as the file of an unsharded run would hold it, with whole tensors in main memory."""
    rest, index = rest_of(path), _index(path)
    saved = _moment_keys(index)
    flat = {name: torch.empty(each.size, dtype=each.properties.dtype) for name, each in index.items()}
    _read(flat, path, together=False)
    weights = {name.removeprefix(WEIGHT): t for name, t in flat.items() if name.startswith(WEIGHT)}
    order = rest.pop(LAYOUT)
    state: dict[int, dict[str, Tensor]] = {}
    groups, first = [], 0
    for names, settings in zip(order["groups"], order["settings"], strict=True):
        groups.append({**settings, "params": list(range(first, first + len(names)))})
        for i, name in enumerate(names, first):
            if name in saved:
                state[i] = {key: flat[f"{MOMENT}{name}:{key}"] for key in saved[name]}
        first += len(names)
    weights |= {other: weights[name] for other, name in order["aliases"].items()}
    kept = {name.removeprefix(f"{REFERENCE}."): t for name, t in flat.items() if name.startswith(f"{REFERENCE}.")}
    found = {**rest, "state_dict": weights, "optimizer_states": [{"state": state, "param_groups": groups}]}
    return {**found, REFERENCE: kept} if kept else found


def outline(path: Path) -> dict[str, Any]:
    """A folder's checkpoint with weights that have shapes and no memory, and without moments."""
    index = {name.removeprefix(WEIGHT): each for name, each in _index(path).items() if name.startswith(WEIGHT)}
    weights = {name: torch.empty(each.size, device="meta") for name, each in index.items()}
    return {**rest_of(path), "state_dict": weights}


def rest_of(path: Path) -> dict[str, Any]:
    """All of a checkpoint's folder that is no weight and no moment.

    Raises:
        ValueError: it is damaged.
    """
    found = read_tensors(path / REST)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no checkpoint")
    return {**found, "state_dict": {}, "optimizer_states": []}


def _index(path: Path) -> dict[str, TensorStorageMetadata]:
    """The entry of each tensor in the index of a checkpoint's folder: its shape, type and places."""
    found = _Reader(path).read_metadata().state_dict_metadata
    return {name: each for name, each in found.items() if isinstance(each, TensorStorageMetadata)}
