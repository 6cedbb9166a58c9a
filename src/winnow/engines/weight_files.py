"""Weights on their way to a server on the same machine: safetensors files of a bounded size, one at a time.

`weight_reader` reads them in the server. A file holds tensors and nothing that could run, as a pickle would.
"""

import json
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from winnow.errors import ConfigError

MEMORY = Path("/dev/shm")
"""The folder whose files are in memory, on Linux."""
CHUNK_BYTES = 2**28
"""Bytes of the tensors in one file; a tensor that is larger has a file of its own."""
TOKEN_FILE, MODEL_FILE = "token", "model.json"

Weights = Iterator[tuple[str, torch.Tensor]]


class WeightFiles:
    """A folder for weights, below `parent` or in memory, that ends with this object. Nobody else can read it.

    `token` is also in the folder, so that the server can tell that it looks into the same one.
    """

    def __init__(self, parent: Path | None, chunk_bytes: int = CHUNK_BYTES) -> None:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="winnow-weights-", dir=parent or _default_parent()))
        except OSError as error:
            raise ConfigError(
                f"engine.weights_folder={parent}: cannot be written ({error.strerror}); name another folder"
            ) from error
        self.token = secrets.token_hex(16)
        (self.folder / TOKEN_FILE).write_text(self.token, encoding="ascii")
        self._chunk_bytes = chunk_bytes
        self._end = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def describe(self, model: Mapping[str, object]) -> None:
        """Leave the description of the model that the weights are of."""
        (self.folder / MODEL_FILE).write_text(json.dumps(model), encoding="utf-8")

    def written(self, weights: Weights) -> Iterator[tuple[Path, int]]:
        """Each file with its number of tensors; it is deleted when the next is asked for."""
        for number, chunk in enumerate(_chunks(weights, self._chunk_bytes)):
            path = self.folder / f"{number:05}.safetensors"
            try:
                save_file(chunk, path)
                yield path, len(chunk)
            finally:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        self._end()


def _default_parent() -> Path | None:
    return MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK) else None


def _chunks(weights: Weights, most: int) -> Iterator[dict[str, torch.Tensor]]:
    chunk: dict[str, torch.Tensor] = {}
    size = 0
    for name, weight in weights:
        held = weight.numel() * weight.element_size()
        if chunk and size + held > most:
            yield chunk
            chunk, size = {}, 0
        # A copy: safetensors refuses tensors that share memory, as parts of one parameter may.
        chunk[name] = weight.detach().to("cpu", copy=True).contiguous()
        size += held
    if chunk:
        yield chunk
