"""The content of a model's files: the checks of its configuration and its weights once they are read.

Everything here refuses in one line. Nothing in these files is trusted: no code of a repository is run, and pickles are
read by torch's restricted reader, which makes tensors and nothing else.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig

from winnow.errors import ConfigError
from winnow.models.model_files import reason, weight_files
from winnow.visible_text import visible

REBUILT = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias", "position_ids")
"""Ends of names of tensors that old checkpoints hold though a model computes them itself."""
FLOATING = {"F64", "F32", "F16", "BF16"}
"""Types of weights in a safetensors file that can be trained in float32."""


def require_trainable(path: str, config: PreTrainedConfig) -> None:
    """Refuse a model of quantised weights, which have no gradients and could not be exported as they came."""
    for one in (config, config.get_text_config()):
        for key in ("quantization_config", "compression_config"):
            quantised = getattr(one, key, None)
            if quantised is not None:
                settings = quantised if isinstance(quantised, dict) else vars(quantised)
                method = str(settings.get("quant_method") or key)
                raise ConfigError(
                    f"model.path={path}: its weights are quantised ({visible(method)[:40]}) and cannot be trained; "
                    "type model.path=DIR with the model in float32 or bfloat16 that it was made from"
                )


def require_generation_config(path: str, where: str) -> None:
    """Check that transformers can read `generation_config.json`, if there is one at the folder or hub id `where`."""
    try:
        GenerationConfig.from_pretrained(where)
    except OSError:  # there is none
        return
    except Exception as error:  # any, because it depends on the setting that is wrong
        raise ConfigError(
            f"model.path={path}: generation_config.json cannot be read ({reason(error)}); correct or delete that file"
        ) from error


def require_all_weights(path: str, found: Mapping[str, Any]) -> None:
    """Check transformers' report on loading: every weight of the model was in the files, and no other.

    Transformers would draw missing weights at random, leave out those without a place, and only warn.
    """
    missing, strange = sorted(found["missing_keys"]), sorted(found["mismatched_keys"])
    extra = sorted(name for name in found["unexpected_keys"] if not name.endswith(REBUILT))
    if strange:
        name, theirs, ours = strange[0]
        raise ConfigError(
            f"model.path={path}: {len(strange)} weights have other shapes than config.json gives them, first "
            f"{visible(name)}: {_shape(theirs)}, not {_shape(ours)}"
        )
    if missing:
        raise ConfigError(f"model.path={path}: {len(missing)} weights are missing, first {visible(missing[0])}")
    if extra:
        raise ConfigError(
            f"model.path={path}: {len(extra)} weights have no place in the model that config.json describes, first "
            f"{visible(extra[0])}; type model.path=DIR with a config.json and weights that belong together"
        )


def _shape(sizes: Any) -> str:
    return "×".join(str(size) for size in sizes) or "a number"


def require_floating(path: str, where: str, model: nn.Module) -> None:
    """Check that no weight of `model` is stored as integers, in 8 bits or as a complex number.

    Such numbers are codes of a quantisation that config.json does not mention; transformers would take them as weights.
    """
    names = {name for name, _ in model.named_parameters()}
    for file in weight_files(where):
        for name, kind in _types(file):
            if name in names and kind not in FLOATING:
                raise ConfigError(
                    f"model.path={path}: {visible(name)} is stored as {kind}, and only floating-point weights of 16 "
                    "bits and more can be trained; type model.path=DIR with the model that was quantised"
                )


def _types(file: Path) -> Iterator[tuple[str, str]]:
    """The names of the tensors in a file of weights, with their types as safetensors calls them."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no mapping
                yield name, tensors.get_slice(name).get_dtype()
        return
    short = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    for name, tensor in torch.load(file, weights_only=True, map_location="meta").items():
        yield name, short.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
