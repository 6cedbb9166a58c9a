"""The files of a model as a user or a hub brings them: the parts it must have, and the kinds that cannot be trained.

Everything here refuses in one line. Nothing in these files is trusted: no code of a repository is run, and pickles are
read by torch's restricted reader, which makes tensors and nothing else.
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig

from winnow.errors import ConfigError
from winnow.visible_text import visible

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
PARTS = {
    "config.json": ("config.json",),
    "weights (*.safetensors)": WEIGHTS,
    "tokenizer files (tokenizer.json)": TOKENIZERS,
}
"""The parts that a model folder must have, with the file names under which each may come."""
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
POINTER = b"version https://git-lfs"
"""The beginning of a file that Git LFS has not downloaded yet."""
REBUILT = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias", "position_ids")
"""Ends of names of tensors that old checkpoints hold though a model computes them itself."""
FLOATING = {"F64", "F32", "F16", "BF16"}
"""Types of weights in a safetensors file that can be trained in float32."""


def require_parts(path: str, folder: Path) -> None:
    """Check that `folder` holds a whole model, and one that is not an adapter for another.

    Raises:
        ConfigError: a part is missing, or a file of JSON is none.
    """
    adapter = next((name for name in ADAPTERS if (folder / name).exists()), None)
    if adapter is not None:
        raise ConfigError(
            f"model.path={path}: holds an adapter ({adapter}), which belongs on top of another model; merge it into "
            "that model (peft: merge_and_unload, then save_pretrained) and type model.path=DIR with the merged folder"
        )
    missing = [part for part, names in PARTS.items() if not any((folder / name).is_file() for name in names)]
    if missing:
        raise ConfigError(f"model.path={path}: no {' and no '.join(missing)} there; it needs {', '.join(PARTS)}")
    for file in (*_weight_files(str(folder)), *(folder / name for name in TOKENIZERS)):
        if file.is_file() and file.open("rb").read(len(POINTER)) == POINTER:
            raise ConfigError(
                f"model.path={path}: {file.name} is a pointer of Git LFS, not the file itself; type git lfs pull there"
            )
    config = _json_object(path, folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ConfigError(
            f"model.path={path}: config.json names no model_type, such as qwen2; no causal language model could be "
            "loaded from there"
        )
    if (folder / "generation_config.json").exists():
        _json_object(path, folder / "generation_config.json")


def _json_object(path: str, file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise loading_error(path, file.name, error) from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"model.path={path}: no causal language model could be loaded from there: {file.name} is not a JSON object"
        )
    return found


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
    for file in _weight_files(where):
        for name, kind in _types(file):
            if name in names and kind not in FLOATING:
                raise ConfigError(
                    f"model.path={path}: {visible(name)} is stored as {kind}, and only floating-point weights of 16 "
                    "bits and more can be trained; type model.path=DIR with the model that was quantised"
                )


def _weight_files(where: str) -> list[Path]:
    """The files of weights in a folder, or of a hub id in the cache."""
    folder = Path(where)
    if not folder.is_dir():
        cached = try_to_load_from_cache(where, "config.json")
        if not isinstance(cached, str):
            return []
        folder = Path(cached).parent
    found = sorted(folder.glob("model*.safetensors"))
    return found or sorted(folder.glob("pytorch_model*.bin"))


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


def reason(error: BaseException) -> str:
    """The type and the beginning of the message of a library's `error`, on one line and without control characters."""
    return visible(" ".join(f"{type(error).__name__}: {error}".split()))[:160]


def loading_error(path: str, part: str, error: BaseException) -> ConfigError:
    """The message for an `error` that a library raised while it read a `part` of the model at `path`."""
    if isinstance(error, pickle.UnpicklingError):
        return ConfigError(
            f"model.path={path}: its pickled weights (*.bin) are damaged or hold more than tensors, and a pickle that "
            "does can run code; type model.path=DIR with weights in safetensors, as save_pretrained writes them"
        )
    if "trust_remote_code" in str(error):
        return ConfigError(
            f"model.path={path}: needs code of its own repository (auto_map), which is never run; type model.path=DIR "
            "with an architecture that transformers has itself"
        )
    return ConfigError(
        f"model.path={path}: no causal language model could be loaded from there: {part} cannot be read "
        f"({reason(error)}); bring that part anew, or type model.path=DIR with another copy"
    )
