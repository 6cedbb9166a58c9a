"""Ways in which a trainer's weights get into a vLLM server: by files, or by NCCL from GPU to GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from winnow import distributed
from winnow.engines.served_model import description
from winnow.engines.vllm_http import VllmHttp
from winnow.engines.vllm_plugin import BACKEND
from winnow.engines.weight_files import WeightFiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class WeightTransfer(Protocol):
    """A way for weights into a server. Every rank calls `send`, as gathering a sharded weight takes them all.

    Only the first rank has an `http`; a `Fault` there leaves the server without usable weights.
    """

    backend: str
    """The name that the server's `--weight-transfer-config` has for it."""

    @property
    def folders(self) -> list[Path]:
        """Folders that are to be deleted with a server that the trainer has started."""
        ...

    def connect(self, http: VllmHttp, model: "PreTrainedModel") -> None:
        """Prepare the server, once in its life; the first rank alone calls this."""
        ...

    def send(self, http: VllmHttp | None, model: "PreTrainedModel") -> None:
        """Give the server all weights of `model`."""
        ...

    def close(self) -> None: ...


class ByFiles:
    """Files that the server reads: on this machine, or in a folder that both machines see."""

    backend = BACKEND

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent
        self._files: WeightFiles | None = None

    def connect(self, http: VllmHttp, model: "PreTrainedModel") -> None:
        self._files = self._files or WeightFiles(self._parent)
        self._files.describe(description(model.config.get_text_config().to_dict()))
        info = {"folder": str(self._files.folder), "token": self._files.token}
        http.post("/init_weight_transfer_engine", {"init_info": info})

    def send(self, http: VllmHttp | None, model: "PreTrainedModel") -> None:
        weights = served_weights(model)
        if http is None:
            for _ in weights:
                pass
            return
        assert self._files is not None
        try:
            http.post("/start_weight_update")
            for path, tensors in self._files.written(weights):
                http.post("/update_weights", {"update_info": {"name": path.name, "tensors": tensors}})
            http.post("/finish_weight_update")
        finally:
            for _ in weights if distributed.world_size() > 1 else ():  # the other ranks go through them all
                pass

    @property
    def folders(self) -> list[Path]:
        self._files = self._files or WeightFiles(self._parent)
        return [self._files.folder]

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None


def served_weights(model: "PreTrainedModel") -> Iterator[tuple[str, torch.Tensor]]:
    """The weights that a server gets: whole, one at a time, adapters merged, and tied ones once, as in a checkpoint."""
    from winnow.models.lora import merged_weights

    tied = model.all_tied_weights_keys or {}
    weights = merged_weights(model)
    while True:
        # Not around the `yield`: a generator that is left half-way would keep gradients and autocast switched off.
        with torch.no_grad(), torch.autocast(distributed.device_of(model).type, enabled=False):
            name, weight = next(weights, ("", None))
            if weight is None:
                return
        if name not in tied:
            yield name, weight
