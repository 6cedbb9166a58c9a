"""Sampling by vLLM, in this process and on the trainer's device: paged keys and values, continuous batching, its own kernels.

Written for vLLM 0.32, whose API moves monthly: nothing else in this package knows it.
"""

import copy
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from winnow.engines.base import OnCompletion, ignore_completion
from winnow.errors import ConfigError
from winnow.models.lora import merged_weights
from winnow.models.memory import memory_bytes
from winnow.types import Completion, Finish, Prompt, Sampling

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput, SamplingParams  # pyright: ignore[reportMissingImports]


Request = tuple[Prompt, Sequence[int]]
"""A prompt and a seed for each of its samples."""
ENVIRONMENT = {
    # The weights are handed over as tensors, which no other process could take.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Where the environment does not say otherwise; vLLM reads them as it is imported."""


class VllmEngine:
    """A second copy of the weights, renewed with every policy version, in vLLM's own kernels.

    `entropies` of a completion are −log π of each drawn token: vLLM gives no entropy, and of one draw this is the unbiased
    estimate. Means over many tokens are comparable with an exact engine's, single numbers are not.

    On CUDA the engine sleeps while the trainer updates, and holds no memory then.
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
        """Each of `eos_ids` ends a response. The others are vLLM's, which starts at the first `sync`."""
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
    def require(config: PreTrainedConfig, cuda: bool) -> None:
        """Before any weight is loaded.

        Raises:
            ConfigError: vLLM is not installed, or has no attention for this model on a CPU.
        """
        if find_spec("vllm") is None:
            raise ConfigError("engine=vllm: no package vllm is installed; type pip install 'winnow-rl[vllm]'")
        if cuda:
            return
        _prepare_environment()
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend  # pyright: ignore[reportMissingImports]

        text = config.get_text_config()
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        known = CPUAttentionBackend.get_supported_head_sizes()
        if size not in known:
            raise ConfigError(
                f"engine=vllm: on a CPU vLLM has attention for heads of {', '.join(map(str, known))}, and this model's "
                f"have {size}; type engine=torch"
            )

    def sync(self, model: PreTrainedModel, version: int) -> None:
        if version == self.version and not self._asleep:
            return
        if self._llm is None:
            self._llm = self._start(model)
        self._model = model
        self._renew(self._llm, model, version)
        self.version = version

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        done: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        if self._llm is None or self._model is None:
            raise RuntimeError("VllmEngine.generate was called before sync: it has no weights to sample from")
        self.sync(self._model, self.version)
        before, together = self._shared(prompts, seeds)
        mine = range(before, before + len(prompts))
        found: dict[tuple[int, int], Completion] = {}
        with _without_autocast(self._model):
            for (p, g), completion in self._ended(self._llm, together, sampling):
                found[p, g] = completion
                if p in mine:
                    done(p - before, g, completion)
        if self._model.device.type == "cuda":
            self._llm.sleep(level=2)  # the weights are not kept: waking brings new ones
            self._asleep = True
        return [[found[p, g] for g in range(len(group))] for p, group in zip(mine, seeds, strict=True)]

    def _ended(
        self, llm: "LLM", asked: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[tuple[int, int], Completion]]:
        """Places of samples and what was drawn, in the order they end."""
        engine, limit = llm.llm_engine, llm.model_config.max_model_len
        places = [(p, g) for p, (_, seeds) in enumerate(asked) for g in range(len(seeds))]
        for i, (p, g) in enumerate(places):
            prompt, seeds = asked[p]
            if len(prompt.token_ids) >= limit:
                raise ConfigError(
                    f"engine=vllm: prompt {prompt.key} has {len(prompt.token_ids)} tokens, and a sequence may have {limit}; "
                    "type engine.max_model_len=… higher, or for training rollout.max_prompt_tokens=… lower"
                )
            ids = {"prompt_token_ids": list(prompt.token_ids)}
            engine.add_request(str(i), ids, self._sampling(sampling, seeds[g]))
        while engine.has_unfinished_requests():
            for output in engine.step():
                yield places[int(output.request_id)], self._completion(output.outputs[0])

    def _start(self, model: PreTrainedModel) -> "LLM":
        """vLLM for a model of this shape, its weights random until the first are pushed."""
        _prepare_environment()
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if processes % self._ranks:
            raise ConfigError(
                f"engine.tensor_parallel_size={self._ranks} does not divide hardware.devices={processes}, which are what "
                "vLLM runs on; type engine.tensor_parallel_size=1"
            )
        if processes > 1:  # the trainer's processes are vLLM's; it finds itself by these
            os.environ.setdefault("RANK", str(dist.get_rank()))
            os.environ.setdefault("LOCAL_RANK", "0")
        settings = dict(self.settings)
        if model.device.type == "cpu":
            # The share would be less whatever else this process holds, the trainer's part of it included.
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
                    generation_config="vllm",  # not the repository's, which may say top_p or a repetition penalty
                    logprobs_mode="processed_logprobs",  # of the distribution drawn from, temperature included
                    enable_sleep_mode=model.device.type == "cuda",
                    distributed_executor_backend="external_launcher" if processes > 1 else None,
                    seed=0,  # of no draw: every request has its own
                    **settings,
                )
            except ValueError as error:
                said = " ".join(str(error).split()).partition(" [type=")[0]  # pydantic's dump of its input
                raise ConfigError(f"engine=vllm: {said}") from error

    def _renew(self, llm: "LLM", model: PreTrainedModel, version: int) -> None:
        if self._asleep:
            torch.cuda.empty_cache()  # what the trainer's allocator only keeps in reserve
            llm.wake_up(["weights"])
        with _without_autocast(model), torch.no_grad():
            self._push(llm, model)
        if self._asleep:
            llm.wake_up(["kv_cache"])
            self._asleep = False
        llm.reset_prefix_cache()
        llm.update_weight_version(str(version))

    def _push(self, llm: "LLM", model: PreTrainedModel) -> None:
        tied = model.all_tied_weights_keys or {}
        once = ((name, weight) for name, weight in merged_weights(model) if name not in tied)  # as in a checkpoint
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": once})
        if model.device.type == "cpu":
            llm.apply_model(_repack_output)

    def _sampling(self, how: Sampling, seed: int) -> "SamplingParams":
        """Temperature alone: what is sampled is what is trained."""
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
            ignore_eos=True,  # vLLM's own idea of it
            logprobs=0,  # of the drawn token alone
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, drawn: "CompletionOutput") -> Completion:
        policies = {span.version for span in drawn.weight_versions}
        if policies != {str(self.version)}:
            raise RuntimeError(f"vLLM sampled from policies {policies}, not from {self.version}")
        ids = tuple(drawn.token_ids)
        logprobs = torch.tensor([at[i].logprob for at, i in zip(drawn.logprobs, ids, strict=True)])
        return Completion(ids, logprobs, -logprobs, Finish.EOS if ids[-1] in self._eos_ids else Finish.LENGTH)

    def _shared(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> tuple[int, list[Request]]:
        """What the ranks that hold one model between them sample together, and how many prompts stand before this rank's."""
        asked = list(zip(prompts, seeds, strict=True))
        if self._ranks == 1:
            return 0, asked
        from vllm.distributed.parallel_state import get_tp_group  # pyright: ignore[reportMissingImports]

        group = get_tp_group()
        shares: list[list[Request]] = [[] for _ in range(self._ranks)]
        dist.all_gather_object(shares, asked, group=group.cpu_group)
        return sum(map(len, shares[: group.rank_in_group])), [pair for share in shares for pair in share]


def _repack_output(model: nn.Module) -> None:
    """A CPU's matrix products read a packed copy of each weight, which a reload makes anew when it writes the weight.

    An output layer that is tied to the embedding is written as the embedding, and would go on with the copy of its first
    weights.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm  # pyright: ignore[reportMissingImports]
    from vllm.model_executor.layers.vocab_parallel_embedding import (  # pyright: ignore[reportMissingImports]
        ParallelLMHead,
    )

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def _prepare_environment() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="vllm", category=FutureWarning)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """On a CPU vLLM replaces `torch.set_num_threads` by a function that does nothing, for the whole process."""
    setter = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = setter


def _without_autocast(model: PreTrainedModel) -> torch.autocast:
    """vLLM's layers choose their own precision, and weights are merged in theirs."""
    return torch.autocast(model.device.type, enabled=False)
