"""The files of a model folder: the parts it must have, and kinds of models that cannot be trained.

Nothing here imports torch or transformers, so that a wrong folder is refused before those imports, which take seconds.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
ENCODER = "ForMaskedLM"
"""The end of the names of architectures that fill in masked tokens, of which every token sees the later ones."""


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
    for file in (*weight_files(str(folder)), *(folder / name for name in TOKENIZERS)):
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
    named = config.get("architectures")
    encoders = [str(name) for name in named if str(name).endswith(ENCODER)] if isinstance(named, list) else []
    if encoders and config.get("is_decoder") is not True:
        raise ConfigError(
            f"model.path={path}: {visible(encoders[0])} is an encoder, in which every token sees the later ones; "
            "choose a decoder (Qwen, Llama, …)"
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


def weight_files(where: str) -> list[Path]:
    """The files of weights in a folder, or of a hub id in the cache."""
    folder = Path(where)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(where, "config.json")
        if not isinstance(cached, str):
            return []
        folder = Path(cached).parent
    found = sorted(folder.glob("model*.safetensors"))
    return found or sorted(folder.glob("pytorch_model*.bin"))


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
