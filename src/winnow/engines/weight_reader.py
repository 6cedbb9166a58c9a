"""The server's side of a transfer of weights by files: a back-end of vLLM, which `vllm_plugin` registers.

It runs inside a vLLM server, and only there can it be imported.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (  # pyright: ignore[reportMissingImports]
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (  # pyright: ignore[reportMissingImports]
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from winnow.engines.served_model import description, difference
from winnow.engines.vllm_cpu import head_size_problem, head_sizes, repack_output
from winnow.engines.weight_files import MODEL_FILE, TOKEN_FILE


@dataclass
class FolderInfo(WeightTransferInitInfo):
    """The trainer's folder, and what its token file holds."""

    folder: str
    token: str


@dataclass
class FileInfo(WeightTransferUpdateInfo):
    """A file in the folder, and the number of its tensors."""

    name: str
    tensors: int


class WeightReader(WeightTransferEngine[FolderInfo, FileInfo]):
    """Loads weights from safetensors files, tensor by tensor."""

    init_info_cls = FolderInfo
    update_info_cls = FileInfo
    supports_draft_weight_update = False

    def init_transfer_engine(self, init_info: FolderInfo) -> None:
        self._folder = Path(init_info.folder)
        try:
            token = (self._folder / TOKEN_FILE).read_text(encoding="ascii")
        except OSError as error:
            raise ValueError(f"the trainer's folder for weights cannot be read here: {error.strerror}") from error
        if token != init_info.token:
            raise ValueError("the folder for weights is another one here than the trainer's")
        trained = json.loads((self._folder / MODEL_FILE).read_text(encoding="utf-8"))
        served = description(self.model_config.hf_text_config.to_dict())
        if (problem := difference(trained, json.loads(json.dumps(served)))) is not None:
            raise ValueError(problem)
        # Without a check the first sample would kill the server.
        known = head_sizes() if self.device.type == "cpu" else None
        if known is not None and (problem := head_size_problem(self.model_config.hf_config, known)) is not None:
            raise ValueError(problem)

    def start_weight_update(self) -> None:
        self._loaded: set[str] | None = set()
        # Once the reload has begun, a tied output layer counts as another parameter.
        self._expected = {name for name, _ in self.model.named_parameters()}
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, object]) -> None:
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FileInfo) -> None:
        if Path(update_info.name).name != update_info.name:
            raise ValueError("a file of weights is named without its folder")
        with safe_open(self._folder / update_info.name, framework="pt", device="cpu") as file:
            names = list(file.keys())
            if len(names) != update_info.tensors:
                raise ValueError(f"{update_info.name} holds {len(names)} tensors, not {update_info.tensors}")
            loaded = self.model.load_weights((name, file.get_tensor(name)) for name in names)
        # A model that does not say what it has loaded cannot be checked.
        self._loaded = None if loaded is None or self._loaded is None else self._loaded | loaded

    def finish_weight_update(self) -> None:
        if self._loaded is not None and (missing := sorted(self._expected - self._loaded)):
            raise ValueError(f"{len(missing)} weights did not come, {missing[0]} among them")
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cpu":
            repack_output(self.model)

    def shutdown(self) -> None:
        pass
