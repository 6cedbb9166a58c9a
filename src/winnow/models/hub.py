"""Whether a hub can be asked, found out in seconds."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError

from winnow.errors import ConfigError
from winnow.models.gguf import convert_gguf, packaged_gguf


def require_reachable(repository: str, kind: Literal["model", "dataset"], instead: str) -> None:
    """Ask the hub for `repository` once. Its own downloads ask again for a minute, a file at a time, and say so each time.

    Raises:
        ConfigError: no answer, no such repository, or one whose licence was not accepted; ends with `instead`.
    """
    api = HfApi()
    try:
        api.repo_info(repository, repo_type=kind, timeout=10)
        api.auth_check(repository, repo_type=kind)  # a gated repository tells about itself and keeps its files
    except GatedRepoError as error:
        raise ConfigError(
            f"{kind} {repository} is gated: accept its licence on its page and type hf auth login; or {instead}"
        ) from error
    except Exception as error:  # which one depends on the HTTP library that the hub's client was built on
        reason = type(error).__name__
        raise ConfigError(
            f"{kind} {repository} could not be had: not in the local cache, and no hub gave it ({reason}); {instead}"
        ) from error


EMBEDDED, PACKAGE = "embedded", "package:"
REQUIRED_FILES = {
    "config.json": ("config.json",),
    "weights (*.safetensors)": ("*.safetensors", "*.bin"),
    "tokenizer files (tokenizer.json)": ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"),
}
"""What a model folder must have, and the names under which it comes."""


def locate_model(path: str) -> str:
    """A folder or a hub id: of `embedded` (this package's model), `package:NAME` (a GGUF file in an installed package),
    `FILE.gguf`, a folder, or a hub id that is cached or can be had.

    Raises:
        ConfigError: what is missing there.
    """
    if path == EMBEDDED:
        return str(files("winnow") / "assets" / "tiny")
    if path.startswith(PACKAGE):
        return str(convert_gguf(packaged_gguf(path.removeprefix(PACKAGE))))
    if path.endswith(".gguf"):
        return str(convert_gguf(Path(path).expanduser()))
    folder = Path(path).expanduser()
    if folder.is_dir():
        _require_whole(path, folder)
        return str(folder)
    if folder.exists() or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ConfigError(f"model.path={path}: no such folder; type model.path=DIR with a Hugging Face model folder")
    if not isinstance(try_to_load_from_cache(path, "config.json"), str):
        _require_model_reachable(path)
    return path


def loading_error(path: str, error: BaseException) -> ConfigError:
    """What to tell the user of an `error` met while loading."""
    if _is_gated(error):
        return ConfigError(
            f"model {path} is gated: accept its licence at its page on the hub, then type hf auth login; "
            "or type model.path=DIR with a downloaded copy"
        )
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return ConfigError(
        f"model.path={path}: no causal language model could be loaded from there ({reason}); "
        f"it needs {', '.join(REQUIRED_FILES)}"
    )


def _require_model_reachable(repository: str) -> None:
    try:
        require_reachable(repository, "model", "connect, or type model.path=DIR with a downloaded copy, or model=tiny")
    except ConfigError as error:
        if _is_gated(error):
            raise loading_error(repository, error) from error
        raise


def _require_whole(path: str, folder: Path) -> None:
    missing = [part for part, names in REQUIRED_FILES.items() if not any(any(folder.glob(name)) for name in names)]
    if missing:
        raise ConfigError(
            f"model.path={path}: no {' and no '.join(missing)} there; it needs {', '.join(REQUIRED_FILES)}"
        )


def _is_gated(error: BaseException | None) -> bool:
    """Transformers and `require_reachable` both wrap the hub's own error."""
    while error is not None:
        if isinstance(error, GatedRepoError):
            return True
        error = error.__cause__ or error.__context__
    return False
