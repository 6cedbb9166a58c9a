"""Sampling with vLLM, in the trainer's process and on its device.

It is written for vLLM 0.32, whose API changes monthly; no other module of this package uses vLLM.
"""

import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from winnow import distributed, signals
from winnow.engines.base import OnCompletion, ignore_completion
from winnow.engines.vllm_cpu import head_size_problem, head_sizes, prepare_environment, repack_output
from winnow.engines.weight_transfer import served_weights
from winnow.errors import ConfigError
from winnow.installed import require_package
from winnow.process_group import local_rank
from winnow.types import Completion, Finish, Prompt, Sampling

# Checks of a configuration ask for an engine's class. Transformers, whose import takes seconds, comes with a model.
if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from vllm import LLM, CompletionOutput, SamplingParams  # pyright: ignore[reportMissingImports]


Request = tuple[Prompt, Sequence[int]]
"""A prompt, and a seed for each of its samples."""


class VllmEngine:
    """Sampler with its own copy of the weights, refreshed after every update, and vLLM's kernels.

    The `entropies` of a completion are −log π of each drawn token: vLLM gives no entropies, and from one draw this is
    the unbiased estimate. Means over many tokens are comparable with an exact engine's, single numbers are not.

    On CUDA the engine sleeps while the trainer updates and holds no memory during that time.
    """

    exact = False

    def __init__(
        self,
        eos_ids: Sequence[int],
        dtype: str,
        tensor_parallel_size: int,
        gpu_memory_utilization: float,
        max_model_len: int | None,
        enforce_eager: bool,
    ) -> None:
        """Each of `eos_ids` ends a response. The other settings are vLLM's own; vLLM starts at the first `sync`."""
        self.version = -1
        self._eos_ids, self._ranks = tuple(eos_ids), tensor_parallel_size
        self.settings: dict[str, Any] = {
            "dtype": dtype,
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_model_len": max_model_len,
            "enforce_eager": enforce_eager,
        }
        self._llm: LLM | None = None
        self._model: PreTrainedModel | None = None
        self._asleep = False

    @staticmethod
    def require(config: "PreTrainedConfig", cuda: bool) -> None:
        """Check before any weight is loaded that vLLM can run a model of this configuration.

        Raises:
            ConfigError: vLLM is not installed, or has no attention for this model on a CPU.
        """
        require_package("vllm", "engine=vllm", "vllm")
        if not cuda and (problem := head_size_problem(config, head_sizes())) is not None:
            raise ConfigError(f"engine=vllm: {problem}")

    def sync(self, model: "PreTrainedModel", version: int) -> None:
        if version == self.version and not self._asleep:
            return
        if self._llm is None:
            self._llm = self._start(model)
            distributed.wait_at_most()
        self._model = model
        self._refresh(self._llm, model, version)
        self.version = version

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        on_completion: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        if self._llm is None or self._model is None:
            raise RuntimeError("VllmEngine.generate was called before sync: it has no weights to sample from")
        self.sync(self._model, self.version)  # wakes the engine if it sleeps since the last call
        before, requests = self._shared_requests(prompts, seeds)
        mine = range(before, before + len(prompts))
        found: dict[tuple[int, int], Completion] = {}
        with _without_autocast(self._model):
            for (p, g), completion in self._completions(self._llm, requests, sampling):
                found[p, g] = completion
                if p in mine:
                    on_completion(p - before, g, completion)
        if distributed.device_of(self._model).type == "cuda":
            self._llm.sleep(level=2)  # drops the weights too; `sync` brings new ones
            self._asleep = True
        return [[found[p, g] for g in range(len(group))] for p, group in zip(mine, seeds, strict=True)]

    def _completions(
        self, llm: "LLM", requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[tuple[int, int], Completion]]:
        """((p, g), completion) of sample g of request p, in the order in which samples end."""
        engine, limit = llm.llm_engine, llm.model_config.max_model_len
        samples = [(p, g) for p, (_, seeds) in enumerate(requests) for g in range(len(seeds))]
        for i, (p, g) in enumerate(samples):
            prompt, seeds = requests[p]
            if len(prompt.token_ids) >= limit:
                raise ConfigError(
                    f"engine=vllm: prompt {prompt.key} has {len(prompt.token_ids)} tokens, "
                    f"and a sequence may have {limit}; "
                    "type engine.max_model_len=… higher, or for training rollout.max_prompt_tokens=… lower"
                )
            ids = {"prompt_token_ids": list(prompt.token_ids)}
            engine.add_request(str(i), ids, self._sampling(sampling, seeds[g]))
        while engine.has_unfinished_requests():
            if self._ranks == 1:  # ranks that hold the parts of a model have to sample to the end together
                signals.check()
            for output in engine.step():
                yield samples[int(output.request_id)], self._completion(output.outputs[0])

    def _start(self, model: "PreTrainedModel") -> "LLM":
        """vLLM for a model of this shape; its weights are random until the first are pushed."""
        prepare_environment()
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        processes = distributed.world_size()
        if processes % self._ranks:
            raise ConfigError(
                f"engine.tensor_parallel_size={self._ranks} does not divide hardware.devices={processes}, "
                "on which vLLM runs; type engine.tensor_parallel_size=1"
            )
        if processes > 1:  # vLLM runs in the trainer's processes and reads its rank from these
            os.environ.setdefault("RANK", str(distributed.rank()))
            os.environ.setdefault("LOCAL_RANK", str(local_rank()))  # srun says it in a variable of its own
        settings = dict(self.settings)
        if distributed.device_of(model).type == "cpu":
            from winnow.models.memory import memory_bytes

            # On a CPU vLLM would subtract from the share all that this process holds, the trainer's memory included.
            settings["kv_cache_memory_bytes"] = int(settings["gpu_memory_utilization"] * memory_bytes())
        config = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]
        with tempfile.TemporaryDirectory() as folder, _threads_kept(), _without_autocast(model):
            config.save_pretrained(folder)
            try:
                return LLM(
                    model=folder,
                    load_format="dummy",
                    skip_tokenizer_init=True,
                    generation_config="vllm",  # not the model's, which may set top_p or a repetition penalty
                    logprobs_mode="processed_logprobs",  # of the distribution that is sampled, temperature included
                    enable_sleep_mode=distributed.device_of(model).type == "cuda",
                    distributed_executor_backend="external_launcher" if processes > 1 else None,
                    seed=0,  # decides no draw, because every request has a seed
                    **settings,
                )
            except ValueError as error:
                reason = " ".join(str(error).split()).partition(" [type=")[0]  # without pydantic's dump of its input
                raise ConfigError(f"engine=vllm: {reason}") from error

    def _refresh(self, llm: "LLM", model: "PreTrainedModel", version: int) -> None:
        """Give vLLM the weights of `model` as policy `version`, and wake it if it sleeps.

        Memory for keys and values comes back only after the weights, and the prefix cache, which holds those of the old
        weights, is emptied.
        """
        if self._asleep:
            torch.cuda.empty_cache()  # releases what the trainer's allocator holds in reserve
            llm.wake_up(["weights"])
        with _without_autocast(model), torch.no_grad():
            self._push(llm, model)
        if self._asleep:
            llm.wake_up(["kv_cache"])
            self._asleep = False
        llm.reset_prefix_cache()
        llm.update_weight_version(str(version))

    def _push(self, llm: "LLM", model: "PreTrainedModel") -> None:
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": served_weights(model)})
        if distributed.device_of(model).type == "cpu":
            llm.apply_model(repack_output)

    def _sampling(self, how: Sampling, seed: int) -> "SamplingParams":
        """vLLM's parameters for temperature sampling alone, so that the sampled distribution is the trained one."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        return SamplingParams(
            temperature=how.temperature,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
            seed=seed,
            max_tokens=how.max_tokens,
            stop_token_ids=list(self._eos_ids),
            ignore_eos=True,  # only `stop_token_ids` end a response
            logprobs=0,  # only those of the drawn tokens
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, drawn: "CompletionOutput") -> Completion:
        # Each completion comes with the versions of the weights that its tokens were drawn with.
        policies = {span.version for span in drawn.weight_versions}
        if policies != {str(self.version)}:
            raise RuntimeError(f"vLLM sampled from policies {policies}, not from {self.version}")
        ids = tuple(drawn.token_ids)
        logprobs = torch.tensor([at[i].logprob for at, i in zip(drawn.logprobs, ids, strict=True)])
        return Completion(ids, logprobs, -logprobs, Finish.EOS if ids[-1] in self._eos_ids else Finish.LENGTH)

    def _shared_requests(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> tuple[int, list[Request]]:
        """The number of requests before this rank's own, and the requests of all ranks that share one model.

        Under tensor parallelism the ranks that hold the parts of a model have to sample together.
        """
        own = list(zip(prompts, seeds, strict=True))
        if self._ranks == 1:
            return 0, own
        from vllm.distributed.parallel_state import get_tp_group  # pyright: ignore[reportMissingImports]

        group = get_tp_group()
        shares: list[list[Request]] = [[] for _ in range(self._ranks)]
        dist.all_gather_object(shares, own, group=group.cpu_group)
        return sum(map(len, shares[: group.rank_in_group])), [pair for share in shares for pair in share]


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Context that restores `torch.set_num_threads`, which vLLM on a CPU replaces by a no-op for the whole process."""
    setter = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = setter


def _without_autocast(model: "PreTrainedModel") -> torch.autocast:
    """Context without autocast: vLLM's layers choose their precision, and weights are merged in their own."""
    return torch.autocast(distributed.device_of(model).type, enabled=False)
