"""Which of transformers' attention implementations a model is loaded with."""

from importlib.util import find_spec
from typing import Literal

from winnow.errors import ConfigError

FLASH = "flash_attention_2"
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]


def implementation(wanted: Attention, cuda: bool, bfloat16: bool) -> str:
    """`auto` is FlashAttention 2 where it is installed and can be used (CUDA, bfloat16), and else PyTorch's own, sdpa.

    Raises:
        ConfigError: the implementation asked for cannot run here.
    """
    lacking = _lacking(cuda, bfloat16)
    if wanted == "auto":
        return "sdpa" if lacking else FLASH
    if wanted == FLASH and lacking:
        raise ConfigError(f"hardware.attention={FLASH}: {lacking}; type hardware.attention=sdpa")
    return wanted


def _lacking(cuda: bool, bfloat16: bool) -> str | None:
    """What FlashAttention needs and this run has not."""
    if not cuda:
        return "it needs a CUDA GPU"
    if not bfloat16:
        return "it needs hardware.precision=bf16-mixed"
    return None if find_spec("flash_attn") else "the package flash-attn is not installed"
