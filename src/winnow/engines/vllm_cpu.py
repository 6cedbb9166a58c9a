"""Settings that vLLM reads before it is imported, and the ways of its own that it has on a CPU.

`weight_reader` imports this in a server, whose environment may have no more of Winnow's dependencies than vLLM's.
"""

import ast
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ENVIRONMENT = {
    # vLLM stays in this process: weights are passed to it as tensors, which another process could not take.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Environment variables that vLLM reads when it is imported; those that are set already are kept."""


def prepare_environment() -> None:
    """Set the variables that vLLM reads when it is imported in the trainer's process."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="vllm", category=FutureWarning)


def head_sizes() -> list[int]:
    """Sizes of heads that vLLM's attention on a CPU takes."""
    prepare_environment()
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend  # pyright: ignore[reportMissingImports]

    return CPUAttentionBackend.get_supported_head_sizes()


def written_head_sizes() -> list[int] | None:
    """The same, read from vLLM's source, whose import takes ten seconds; None if it is written in another way."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    try:
        tree = ast.parse((Path(spec.origin).parent / "v1/attention/backends/cpu_attn.py").read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        [function] = [each for each in functions if each.name == "get_supported_head_sizes"]
        last = function.body[-1]
        return list(ast.literal_eval(last.value)) if isinstance(last, ast.Return) and last.value else None
    except (OSError, ValueError, TypeError, SyntaxError):
        return None


def head_size_problem(config: "PreTrainedConfig", known: Sequence[int]) -> str | None:
    """Why vLLM has no attention on a CPU for a model of this configuration; None if it has."""
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if size in known:
        return None
    return (
        f"on a CPU vLLM has attention for heads of {', '.join(map(str, known))}, "
        f"and this model's have {size}; type engine=torch"
    )


def repack_output(model: nn.Module) -> None:
    """Pack the output layer's weights again.

    Matrix products on a CPU read a packed copy of each weight, which a reload renews when it writes that weight. An
    output layer that is tied to the embedding is written as the embedding, and would keep the copy of its first
    weights.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm  # pyright: ignore[reportMissingImports]
    from vllm.model_executor.layers.vocab_parallel_embedding import (  # pyright: ignore[reportMissingImports]
        ParallelLMHead,
    )

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
