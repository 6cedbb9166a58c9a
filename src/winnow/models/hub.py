"""Location of models: `model.path` as a folder or a hub id, and early, one-line errors where it leads nowhere."""

from importlib.resources import files
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError

from winnow.errors import ConfigError
from winnow.models.gguf import convert_gguf, packaged_gguf
from winnow.models.hub_access import gated, require_reachable
from winnow.models.model_folder import require_parts

EMBEDDED, PACKAGE = "embedded", "package:"
OTHER_MODEL = "type model.path=DIR with a downloaded copy, or model=tiny"


def locate_model(path: str) -> str:
    """The folder or hub id from which transformers can load `path`.

    `path` is `embedded` (this package's own model), `package:NAME` (a GGUF file in an installed package), `FILE.gguf`,
    a folder, or the id of a hub repository that is cached or can be downloaded.

    Raises:
        ConfigError: there is no model at `path`; the message says what is missing.
    """
    if path == EMBEDDED:
        return str(files("winnow") / "assets" / "tiny")
    if path.startswith(PACKAGE):
        return str(convert_gguf(packaged_gguf(path.removeprefix(PACKAGE))))
    if path.endswith(".gguf"):
        return str(convert_gguf(Path(path).expanduser()))
    folder = Path(path).expanduser()
    if folder.is_dir():
        require_parts(path, folder)
        return str(folder)
    if folder.exists() or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ConfigError(f"model.path={path}: no such folder; type model.path=DIR with a Hugging Face model folder")
    if not isinstance(try_to_load_from_cache(path, "config.json"), str):
        require_reachable(path, "model", OTHER_MODEL)
    return path


def gated_error(path: str, error: BaseException) -> ConfigError | None:
    """The message for an `error` that transformers raised because the licence of the model at `path` was not accepted,
    or None for any other error."""
    cause: BaseException | None = error
    while cause is not None:  # transformers wraps the hub's own error
        if isinstance(cause, GatedRepoError):
            return gated("model", path, OTHER_MODEL)
        cause = cause.__cause__ or cause.__context__
    return None
