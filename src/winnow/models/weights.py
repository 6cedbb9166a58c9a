"""Sources of a model's weights, of which a process reads the rows of a tensor that it holds, and no others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor


class Weights(Protocol):
    """Interface of a source of tensors by name."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor, without reading it."""
        ...

    def rows(self, name: str, first: int, end: int) -> Tensor:
        """The rows `first` … `end` − 1 (along the first axis) of a tensor; all of one without axes."""
        ...

    def close(self) -> None:
        """Give back memory and open files; nothing is read afterwards."""
        ...


def whole(weights: Weights, name: str) -> Tensor:
    """A whole tensor of a source."""
    shape = weights.shapes()[name]
    return weights.rows(name, 0, shape[0] if shape else 1)


@dataclass
class FolderWeights:
    """Tensors in the safetensors files of a folder, mapped from the disk: only the rows that are asked for are read."""

    files: tuple[Path, ...]
    _opened: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _shapes: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        if not self._shapes:
            for path in self.files:
                opened = safe_open(path, framework="pt")
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    self._opened[name] = opened
                    self._shapes[name] = tuple(opened.get_slice(name).get_shape())
        return self._shapes

    def rows(self, name: str, first: int, end: int) -> Tensor:
        shape = self.shapes()[name]
        return self._opened[name].get_slice(name)[first:end] if shape else self._opened[name].get_tensor(name)

    def close(self) -> None:
        self._opened.clear()  # pages of a mapped file count as this process's memory


@dataclass(frozen=True)
class HeldWeights:
    """Tensors in memory."""

    tensors: dict[str, Tensor]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def rows(self, name: str, first: int, end: int) -> Tensor:
        tensor = self.tensors[name]
        return tensor[first:end] if tensor.dim() else tensor

    def close(self) -> None:
        self.tensors.clear()


@dataclass(frozen=True)
class LayeredWeights:
    """Two sources as one: a tensor comes from `first` if it is there, else from `rest`."""

    first: Weights
    rest: Weights

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {**self.rest.shapes(), **self.first.shapes()}

    def rows(self, name: str, first: int, end: int) -> Tensor:
        source = self.first if name in self.first.shapes() else self.rest
        return source.rows(name, first, end)

    def close(self) -> None:
        self.first.close()
        self.rest.close()


def named(weights: Weights, names: Mapping[str, str], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors one after the other, under the names that `names` gives them, in `dtype`."""
    for own, source in names.items():
        yield own, whole(weights, source).to(dtype)
