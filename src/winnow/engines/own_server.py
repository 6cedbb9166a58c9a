"""The vLLM server that a run starts for itself: settings, command line, device, and a folder with the model's shape."""

import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from winnow import distributed
from winnow.engines.server_process import ServerCommand, ServerProcess, server_program
from winnow.engines.vllm_http import VllmHttp
from winnow.errors import ConfigError
from winnow.process_group import visible_gpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GPU_SHARE, CPU_SHARE = 0.9, 0.1
"""Shares, where nothing is set: of a GPU's memory for the server, and of a machine's for keys and values on a CPU."""
FLAGS = (
    *("--load-format", "dummy"),  # all weights come from the trainer
    *("--generation-config", "vllm"),  # not the model's, which may set top_p or a repetition penalty
    *("--logprobs-mode", "processed_logprobs"),  # of the distribution that is sampled, temperature included
    *("--seed", "0"),  # decides no draw, because every request has a seed
    *("--served-model-name", "winnow"),
    "--tokens-only",  # token ids in and out; there is no tokenizer
    "--skip-tokenizer-init",
    "--disable-uvicorn-access-log",
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of `engine` that decide how a server is started; those with None follow from the machine."""

    command: str | None
    devices: Sequence[int] | None
    dtype: str
    memory: float | None
    max_model_len: int | None
    enforce_eager: bool

    def given(self) -> list[tuple[str, object]]:
        """Names and values of those that are set, `dtype` aside."""
        found = {
            "command": self.command,
            "devices": None if self.devices is None else list(self.devices),
            "memory": self.memory,
            "max_model_len": self.max_model_len,
            "enforce_eager": "true" if self.enforce_eager else None,
        }
        return [(name, value) for name, value in found.items() if value is not None]

    def gpus(self, trainers: int) -> list[int]:
        """The GPUs of the server: `devices`, or the one after those of the trainer."""
        return [trainers] if self.devices is None else list(self.devices)

    def shares_with(self, trainers: int) -> bool:
        """Whether the server is on a GPU of the trainer's, which NCCL does not connect with itself."""
        return min(self.gpus(trainers)) < trainers

    def words(self, folder: Path, backend: str, gpus: int, memory: int) -> list[str]:
        """The arguments of `vllm serve` for the model in `folder`, on a number of GPUs.

        With none it is on a CPU, where `memory` are the machine's bytes.
        """
        words = ["--model", str(folder), *FLAGS, "--dtype", self.dtype]
        words += ["--weight-transfer-config", json.dumps({"backend": backend})]
        if self.max_model_len is not None:
            words += ["--max-model-len", str(self.max_model_len)]
        if self.enforce_eager:
            words += ["--enforce-eager"]
        if gpus == 0:
            return [*words, "--kv-cache-memory-bytes", str(int((self.memory or CPU_SHARE) * memory))]
        return [
            *words,
            *("--tensor-parallel-size", str(gpus)),
            *("--gpu-memory-utilization", str(self.memory or GPU_SHARE)),
        ]


class OwnServer:
    """A server for models of the shape of `model`, whose weights are random until the first are sent."""

    def __init__(
        self,
        settings: ServerSettings,
        model: "PreTrainedModel",
        backend: str,
        folders: Sequence[Path],
        timeout: float,
        start_timeout: float,
        say: Callable[[str], None],
    ) -> None:
        """Start it and wait until it answers. `folders` are deleted with it.

        Raises:
            ConfigError: it does not start.
            Stopped: a signal has come.
        """
        from winnow.models.memory import memory_bytes

        program = server_program(settings.command)
        gpus = settings.gpus(distributed.ranks_here()) if distributed.device_of(model).type == "cuda" else []
        folder = Path(tempfile.mkdtemp(prefix="winnow-model-"))
        config = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        words = settings.words(folder, backend, len(gpus), memory_bytes())
        environment = server_environment(os.environ, gpus)
        place = f"on GPU {', '.join(map(str, gpus))}" if gpus else "on the CPU"
        self._process = ServerProcess(ServerCommand([*program, *words], environment), [folder, *folders])
        say(f"engine: starting a vLLM server {place}, at {self._process.address}")
        started = time.monotonic()
        self.http = VllmHttp(self._process.address, timeout)
        try:
            self._process.wait_until_up(self.http, start_timeout)
        except BaseException:
            self._process.close()
            raise
        say(f"engine: the vLLM server is up after {time.monotonic() - started:.0f} s")

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def close(self) -> None:
        self._process.close()


def server_environment(environment: Mapping[str, str], gpus: Sequence[int]) -> dict[str, str]:
    """Variables of the server's environment beside those of the trainer. `gpus` count among the trainer's visible ones.

    Raises:
        ConfigError: a GPU is not visible.
    """
    added = {
        "VLLM_SERVER_DEV_MODE": "1",  # its endpoints for weights
        "VLLM_NO_USAGE_STATS": environment.get("VLLM_NO_USAGE_STATS", "1"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",  # engine=vllm sets 0 for its own process
    }
    if "VLLM_PLUGINS" in environment:
        added["VLLM_PLUGINS"] = ",".join(dict.fromkeys([*environment["VLLM_PLUGINS"].split(","), "winnow"]))
    if gpus:
        visible = visible_gpus(environment, max(gpus) + 1)
        if max(gpus) >= len(visible):
            raise ConfigError(f"engine.devices={list(gpus)}: CUDA_VISIBLE_DEVICES has {len(visible)}")
        added["CUDA_VISIBLE_DEVICES"] = ",".join(visible[gpu] for gpu in gpus)
    return added


def require_gpus(settings: ServerSettings, trainers: int, transfer: str) -> None:
    """Check that this machine has the server's GPUs, beside the `trainers` first ones where weights go by NCCL.

    Raises:
        ConfigError: it has not.
    """
    gpus, present = settings.gpus(trainers), torch.cuda.device_count()
    if len(set(gpus)) != len(gpus) or max(gpus) >= present:
        raise ConfigError(
            f"engine.devices={gpus}: torch can use {present} CUDA devices here, of which hardware.devices={trainers} "
            "are the trainer's; type engine=vllm, which shares them with the trainer"
        )
    if transfer == "nccl" and settings.shares_with(trainers):
        raise ConfigError(
            f"engine.transfer=nccl: GPU {min(gpus)} is also the trainer's, and NCCL connects different ones; "
            "type engine.transfer=files"
        )


def require_effect(
    settings: ServerSettings, url: str | None, remote: bool, transfer: str, weights_folder: str | None
) -> None:
    """Check that every setting has an effect beside the others.

    Raises:
        ConfigError: one has none.
    """
    if url is None and remote:
        raise ConfigError("engine.remote=true: the server that the run starts is on this machine; leave it out")
    if url is not None:
        for name, value in settings.given():
            raise ConfigError(
                f"engine.{name}={value}: is about a server that the run starts, and engine.url names one that runs; "
                "leave one of them out"
            )
    if transfer == "nccl" and weights_folder is not None:
        raise ConfigError(f"engine.weights_folder={weights_folder}: NCCL writes no files; leave it out")
