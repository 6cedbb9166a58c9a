"""Sampling with a vLLM server: a process of its own, which the user has started or which this engine starts.

Written for vLLM 0.32. Prompts go there as token ids, weights as files or by NCCL; nothing here imports vLLM.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from winnow import distributed, signals
from winnow.engines.base import OnCompletion, ignore_completion
from winnow.engines.generate_api import GENERATE, UNLABELLED, Drawing, completion_of, request_of
from winnow.engines.own_server import OwnServer, ServerSettings, require_effect, require_gpus
from winnow.engines.served_model import require_fit, start_command
from winnow.engines.server_process import server_program
from winnow.engines.vllm_cpu import head_size_problem, written_head_sizes
from winnow.engines.vllm_http import Fault, Kind, VllmHttp, address_of
from winnow.engines.weight_transfer import ByFiles, WeightTransfer
from winnow.errors import ConfigError
from winnow.installed import require_package
from winnow.types import Completion, Prompt, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ATTEMPTS = 3
"""Times that a server may fail in one call of the engine."""
LOOK_SECONDS = 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """The part of the server that all ranks have to know."""

    http: VllmHttp
    longest: int  # tokens of prompt and response


class VllmServerEngine:
    """Sampler in a vLLM server, whose weights are sent anew for every version.

    Each version has a label that no other trainer uses. The server repeats it with every answer, so that tokens of
    other weights are never taken, and a server that was started anew is noticed. Samples that had come before a server
    failed stay, because what a sample is depends on its seed alone; the others are drawn again.

    The `entropies` of a completion are −log π of each drawn token, as those of `engine=vllm`.
    """

    exact = False

    def __init__(
        self,
        eos_ids: Sequence[int],
        dtype: str,
        url: str | None,
        remote: bool,
        command: str | None,
        devices: Sequence[int] | None,
        memory: float | None,
        max_model_len: int | None,
        enforce_eager: bool,
        transfer: str,
        weights_folder: str | None,
        in_flight: int,
        timeout: float,
        start_timeout: float,
        say: Callable[[str], None] = print,
    ) -> None:
        """Each of `eos_ids` ends a response. Without `url` the server is started at the first `sync`."""
        self.version = -1
        self._eos_ids, self._dtype, self._say = tuple(eos_ids), dtype, say
        self._in_flight, self._timeout, self._start_timeout = in_flight, timeout, start_timeout
        self._address = None if url is None else address_of(url, remote)
        self._settings = ServerSettings(command, devices, dtype, memory, max_model_len, enforce_eager)
        self._way, self._parent = transfer, None if weights_folder is None else Path(weights_folder)
        self._transfer: WeightTransfer | None = None
        self._own: OwnServer | None = None
        self._served: Served | None = None
        self._model: PreTrainedModel | None = None
        self._token = ""
        self._closed = threading.Event()
        self._beside: futures.Future[Fault | ConfigError | None] | None = None
        self._sent = 0

    @property
    def separate(self) -> bool:
        """Whether it can draw while the trainer computes."""
        return self._address is not None or not self._settings.shares_with(distributed.ranks_here())

    @staticmethod
    def require(
        config: "PreTrainedConfig",
        cuda: bool,
        processes: int,
        url: str | None,
        remote: bool,
        command: str | None,
        devices: Sequence[int] | None,
        memory: float | None,
        max_model_len: int | None,
        enforce_eager: bool,
        transfer: str,
        weights_folder: str | None,
    ) -> None:
        """Check before any weight is loaded that the server may be asked, or can be started.

        Raises:
            ConfigError: the address is another machine's, vLLM or a GPU for it is missing, vLLM cannot run the model,
                or a setting has no effect.
        """
        settings = ServerSettings(command, devices, "auto", memory, max_model_len, enforce_eager)
        require_effect(settings, url, remote, transfer, weights_folder)
        if transfer == "nccl" and not cuda:
            raise ConfigError("engine.transfer=nccl: takes GPUs on both sides; type engine.transfer=files")
        if transfer == "nccl":
            require_package("vllm", "engine.transfer=nccl", "vllm")
        if url is not None:
            address_of(url, remote)
            return
        server_program(command)
        if cuda:
            require_gpus(settings, processes, transfer)
        elif devices is not None:
            raise ConfigError(f"engine.devices={list(devices)}: are GPUs, and this run is on a CPU; leave it out")
        known = None if cuda or command is not None else written_head_sizes()  # another environment's server says it
        if known is not None and (problem := head_size_problem(config, known)) is not None:
            raise ConfigError(f"engine=vllm_server: {problem}")

    def sync(self, model: "PreTrainedModel", version: int) -> None:
        """As every engine's; it waits for samples that another thread is drawing with the former weights."""
        self._await_beside()
        if version == self.version:
            return
        self._model = model
        self._bring(model, version)
        self.version = version

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        on_completion: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        self._await_beside()
        drawing = Drawing(prompts, seeds, sampling, self._sent, on_completion)
        return self._completed(drawing, lambda: self._draw(drawing))

    def begin(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> Callable[[], list[list[Completion]]]:
        """As every separate engine's. The thread draws this rank's samples and no more: on what befalls the server,
        ranks agree when they wait for it."""
        self._await_beside()
        drawing = Drawing(prompts, seeds, sampling, self._sent)
        thread = futures.ThreadPoolExecutor(1, "sampling ahead")
        future = self._beside = thread.submit(self._draw, drawing)
        thread.shutdown(wait=False)
        return lambda: self._completed(drawing, future.result)

    def _await_beside(self) -> None:
        """Wait for what is being drawn in another thread, with the weights that the server has."""
        if self._beside is not None:
            futures.wait([self._beside])
            self._beside = None

    def _completed(self, drawing: Drawing, first: Callable[[], Fault | ConfigError | None]) -> list[list[Completion]]:
        """All samples, drawn at `first`, and what a fault of the server has kept from coming once it is mended."""
        if self._model is None:
            raise RuntimeError("VllmServerEngine.generate was called before sync: it has no weights to sample from")
        for attempt in range(ATTEMPTS):
            fault = first() if attempt == 0 else self._draw(drawing)
            fault = next((each for each in distributed.all_gather(fault) if each is not None), None)
            if fault is None:
                return drawing.completions
            if isinstance(fault, ConfigError):
                raise fault
            if _changes(self._model) != drawing.weights:  # drawn beside an update: its weights are not these any more
                raise ConfigError(
                    f"{self._name}: the server {fault}, and the weights that it was sampling from have been updated; "
                    "type resume=last"
                )
            self._first(lambda fault=fault: self._recover(fault))
            self._bring(self._model, self.version)
        raise ConfigError(f"{self._name}: failed {ATTEMPTS} times in one iteration; see the lines above")

    def _draw(self, drawing: Drawing) -> Fault | ConfigError | None:
        """Draw the samples that are missing. Returns what has kept the server from drawing them all."""
        assert self._served is not None
        http, label, samples = self._served.http, self._label(self.version), drawing.missing
        prompts, seeds = drawing.prompts, drawing.seeds
        try:
            for p, _ in samples:
                self._require_room(prompts[p])
            bodies = {
                i: request_of(prompts[p], seeds[p][g], drawing.sampling, self._eos_ids)
                for i, (p, g) in enumerate(samples)
            }
            self._require_label(http, label)
            for i, answer in http.answers(GENERATE, bodies, self._in_flight, self._closed):
                p, g = samples[i]
                drawing.found[p, g] = completion = completion_of(answer, label, self._eos_ids)
                drawing.on_completion(p, g, completion)
        except (Fault, ConfigError) as fault:
            return fault
        return None

    def close(self) -> None:
        """End the server, if this engine has started it, and delete the files of weights; nothing is drawn any more."""
        self._closed.set()
        if self._own is not None:
            self._own.close()
        if self._transfer is not None:
            self._transfer.close()
        self._own, self._transfer, self._served, self.version = None, None, None, -1

    def _label(self, version: int) -> str:
        return f"winnow-{self._token}-{version}"

    @property
    def _name(self) -> str:
        return "engine=vllm_server" if self._address is None else f"engine.url={self._address}"

    def _bring(self, model: "PreTrainedModel", version: int) -> None:
        """Have the server sample from the weights of `model`, as `version`, from now on."""
        for _ in range(ATTEMPTS):
            fault = self._delivered(model, version)
            if fault is None:
                return
            self._first(lambda fault=fault: self._recover(fault))
        raise ConfigError(f"{self._name}: did not take weights in {ATTEMPTS} attempts; see the lines above")

    def _delivered(self, model: "PreTrainedModel", version: int) -> Fault | None:
        """Send all weights; returns what has prevented it."""
        self._transfer = self._transfer or self._way_of(model)
        try:
            self._served, self._token = self._first(lambda: (self._connected(model), self._token))
        except Fault as fault:
            return fault
        http, fault = self._served.http if distributed.rank() == 0 else None, None
        try:
            if http is not None:
                http.post("/pause?mode=abort&clear_cache=true")  # the cache holds keys and values of the old weights
            self._sent = _changes(model)
            self._send(http, model)
            if http is not None:
                http.post("/update_weight_version", {"new_version": self._label(version)})
                http.post("/resume")
                self._require_label(http, self._label(version))
        except Fault as found:
            fault = found
        return distributed.all_gather(fault)[0]

    def _send(self, http: VllmHttp | None, model: "PreTrainedModel") -> None:
        assert self._transfer is not None
        try:
            self._transfer.send(http, model)
        except Fault as fault:
            if fault.kind is Kind.GONE:
                raise
            # After a part of the weights it still says that it is healthy, and the next sample would kill it.
            raise Fault(Kind.DAMAGED, f"failed in the midst of new weights: it {fault.words}") from fault

    def _connected(self, model: "PreTrainedModel") -> Served:
        """The server, started if it has to be, and ready for weights. The first rank alone calls this."""
        assert self._transfer is not None
        if self._served is not None:
            self._require_label(self._served.http, self._label(self.version))  # it may have been started anew
            return self._served
        self._token = self._token or secrets.token_hex(4)
        backend = self._transfer.backend
        if self._address is None:
            folders = self._transfer.folders
            self._own = OwnServer(
                self._settings, model, backend, folders, self._timeout, self._start_timeout, self._say
            )
            http = self._own.http
        else:
            http = VllmHttp(self._address, self._timeout)
        if self._own is None:
            self._check(http, backend)
        try:
            self._transfer.connect(http, model)
            return Served(http, int(http.get("/v1/models")["data"][0]["max_model_len"]))
        except Fault as fault:
            if fault.kind is not Kind.REFUSED:
                raise
            raise ConfigError(f"{self._name}: the server {fault}") from fault

    def _check(self, http: VllmHttp, backend: str) -> None:
        try:
            require_fit(self._name, http, self._dtype, backend)
        except Fault as fault:
            if fault.kind is not Kind.REFUSED:
                raise
            raise ConfigError(f"{self._name}: the server {fault}; {start_command(backend)}") from fault

    def _way_of(self, model: "PreTrainedModel") -> WeightTransfer:
        shared = self._settings.shares_with(distributed.ranks_here())
        own_gpus = self._address is None and distributed.device_of(model).type == "cuda" and not shared
        if self._way == "nccl" or (self._way == "auto" and own_gpus):
            from winnow.engines.weight_nccl import ByNccl

            return ByNccl()
        return ByFiles(self._parent)

    def _require_label(self, http: VllmHttp, label: str) -> None:
        """Check that the server has the weights with this label. A server that was started anew has none."""
        found = http.get("/weight_info")["weight_version"]
        if found == UNLABELLED:
            raise Fault(Kind.RESTARTED, "was started anew and has not this run's weights")
        if found != label:
            raise Fault(Kind.FOREIGN, f"has the weights {found}, not {label}: someone else has set them")

    def _require_room(self, prompt: Prompt) -> None:
        assert self._served is not None
        if len(prompt.token_ids) >= self._served.longest:
            raise ConfigError(
                f"{self._name}: prompt {prompt.key} has {len(prompt.token_ids)} tokens, and a sequence may have "
                f"{self._served.longest}; start the server with a longer --max-model-len (engine.max_model_len=…), or "
                "for training type rollout.max_prompt_tokens=… lower"
            )

    def _recover(self, fault: Fault) -> None:
        """Make a server that has failed ready for a connection, and say so. The first rank alone calls this.

        Raises:
            ConfigError: it cannot go on.
        """
        if self._closed.is_set():
            raise ConfigError(f"{self._name}: the engine was closed while samples were drawn")
        self._served = None
        if fault.kind is Kind.FOREIGN:
            raise ConfigError(f"{self._name}: the server {fault}; let this run have a server of its own")
        if self._own is not None:
            self._say(f"engine: the vLLM server {fault}; it is started again and gets all weights anew")
            self._own.close()
            self._own = None
            if self._transfer is not None:
                self._transfer.close()  # its files have gone with the server
        elif fault.kind is Kind.GONE:
            self._say(f"engine: the server {fault}; waiting {self._start_timeout:g} s at most until it is back")
            self._wait()
            self._say("engine: the server is back, and gets all weights anew")
        elif fault.kind is Kind.RESTARTED:
            self._say(f"engine: the server {fault}; it gets all weights anew")
        else:
            raise ConfigError(f"{self._name}: the server {fault}; start it again, then type resume=last")

    def _wait(self) -> None:
        """Wait until the user's server answers again."""
        assert self._address is not None
        until, http = time.monotonic() + self._start_timeout, VllmHttp(self._address, self._timeout)
        while not http.is_healthy():
            signals.check()
            if time.monotonic() > until:
                raise ConfigError(
                    f"{self._name}: no server has answered for {self._start_timeout:g} s; start it again, then type "
                    "resume=last"
                )
            time.sleep(LOOK_SECONDS)

    def _first(self, work: Callable[[], T]) -> T:
        """The result of `work` by the first rank, or its error, on every rank."""
        outcome: T | Exception | None = None
        if distributed.rank() == 0:
            try:
                outcome = work()
            except (ConfigError, Fault) as error:
                outcome = error
        outcome = distributed.all_gather(outcome)[0]
        if isinstance(outcome, ConfigError | Fault):
            raise outcome
        return outcome  # pyright: ignore[reportReturnType]


def _changes(model: "PreTrainedModel") -> int:
    """A number that grows with each change of a weight in place, as an optimiser makes it."""
    return sum(parameter._version for parameter in model.parameters())
