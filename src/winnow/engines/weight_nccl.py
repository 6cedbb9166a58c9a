"""Transfer of weights to a vLLM server by NCCL, with vLLM's own trainer engine; it needs GPUs on both sides.

vLLM is imported here, so that the trainer's environment has to have it.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from winnow import distributed
from winnow.engines.vllm_http import Fault, Kind, VllmHttp
from winnow.engines.weight_transfer import served_weights
from winnow.visible_text import message

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ByNccl:
    """A broadcast from the first rank's GPU to all of the server's."""

    backend = "nccl"

    def __init__(self) -> None:
        self._trainer: Any = None  # vLLM's NCCLTrainerWeightTransferEngine

    def connect(self, http: VllmHttp, model: "PreTrainedModel") -> None:
        self._trainer = None  # what a former server left of a communicator cannot be used, and might not end

    def send(self, http: VllmHttp | None, model: "PreTrainedModel") -> None:
        if self._trainer is None:
            self._trainer = _trainer(http, model)
        try:
            self._trainer.send_weights()
        except (RuntimeError, ValueError) as error:
            raise Fault(Kind.DAMAGED, f"a broadcast failed ({message(str(error))[:300]})") from error

    @property
    def folders(self) -> list[Path]:
        return []

    def close(self) -> None:
        if self._trainer is not None:
            self._trainer.shutdown()
            self._trainer = None


def _trainer(http: VllmHttp | None, model: "PreTrainedModel") -> Any:
    """vLLM's engine on this rank, in one group with the server's workers."""
    from vllm.distributed.weight_transfer import (  # pyright: ignore[reportMissingImports]
        HTTPVLLMWeightSyncClient,
        ModuleSource,
        WeightTransferTrainerFactory,
    )
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource  # pyright: ignore[reportMissingImports]
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo  # pyright: ignore[reportMissingImports]

    class Client(HTTPVLLMWeightSyncClient):
        """vLLM's routes by our connection, which knows no proxy and has our time limit."""

        def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
            if http is not None:
                http.post(f"/{path}", json)

    class Merged(WeightSource):
        """The weights of a model with adapters, merged on the way."""

        def metadata(self) -> list[ParamMeta]:
            # Merging changes neither shape nor dtype; the names come from one pass, of which nothing is kept.
            return [ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in served_weights(model)]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            return served_weights(model)

    adapted = any(hasattr(module, "get_delta_weight") for module in model.modules())
    workers = 0 if http is None else int(http.get("/get_world_size")["world_size"])
    info = NCCLTrainerInitInfo(
        rank=distributed.rank(),
        master_address="" if http is None else _own_address(http),
        master_port=0 if http is None else _free_port(),
        world_size=1 + workers,
    )
    source = Merged() if adapted else ModuleSource(model)
    client = Client("" if http is None else str(http.address))
    return WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)


def _own_address(http: VllmHttp) -> str:
    """This machine's address as the server sees it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((http.address.host, http.address.port))  # sends nothing: it only chooses a route
        return probe.getsockname()[0]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("", 0))
        return listening.getsockname()[1]
