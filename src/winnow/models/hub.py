"""Location of models: `model.path` as a folder or a hub id, and early, one-line errors where it leads nowhere.

The hub's client is imported where a hub id is looked up: its import would delay the refusal of any other setting.
"""

import re
from importlib.resources import files
from pathlib import Path

from winnow.errors import ConfigError
from winnow.models.model_files import require_parts

EMBEDDED, PACKAGE, GGUF = "embedded", "package:", ".gguf"
REPOSITORY = re.compile(r"(?=.{1,96}$)(?!.*(--|\.\.))\w[\w.-]*(/\w[\w.-]*)?(?<![.-])(?<!\.git)", re.ASCII)
"""Names of repositories on the hub, as its client accepts them."""
OTHER_MODEL = "type model.path=DIR with a downloaded copy, or model=tiny"


def locate_model(path: str) -> str:
    """The folder or hub id from which transformers can load `path`.

    `path` is `embedded` (this package's own model), `package:NAME` (a GGUF file in an installed package), `FILE.gguf`,
    a folder, or the id of a hub repository that is cached or can be downloaded.

    Raises:
        ConfigError: there is no model at `path`; the message says what is missing.
    """
    require_model(path)
    if path == EMBEDDED:
        return str(files("winnow") / "assets" / "tiny")
    if path.startswith(PACKAGE) or path.endswith(GGUF):
        from winnow.models.gguf import convert_gguf, packaged_gguf  # imports transformers

        packaged = path.startswith(PACKAGE)
        return str(convert_gguf(packaged_gguf(path.removeprefix(PACKAGE)) if packaged else Path(path).expanduser()))
    folder = Path(path).expanduser()
    return str(folder) if folder.is_dir() else path


def require_model(path: str) -> None:
    """Check that there is a model at `path`, as far as that can be told without reading its weights.

    Raises:
        ConfigError: there is none; the message says what is missing.
    """
    if path == EMBEDDED or path.startswith(PACKAGE):
        return
    folder = Path(path).expanduser()
    if path.endswith(GGUF):
        if not folder.is_file():
            raise ConfigError(f"model.path={path}: no such file; type model.path=FILE.gguf")
    elif folder.is_dir():
        require_parts(path, folder)
    elif folder.exists() or not REPOSITORY.fullmatch(path):
        what = "a file" if folder.is_file() else "no such folder"
        raise ConfigError(f"model.path={path}: {what}; type model.path=DIR with a Hugging Face model folder")
    else:
        from huggingface_hub import try_to_load_from_cache

        from winnow.models.hub_access import require_reachable

        if not isinstance(try_to_load_from_cache(path, "config.json"), str):
            require_reachable(path, "model", OTHER_MODEL)


def gated_error(path: str, error: BaseException) -> ConfigError | None:
    """The message for an `error` that transformers raised because the licence of the model at `path` was not accepted,
    or None for any other error."""
    from huggingface_hub.errors import GatedRepoError

    from winnow.models.hub_access import gated

    cause: BaseException | None = error
    while cause is not None:  # transformers wraps the hub's own error
        if isinstance(cause, GatedRepoError):
            return gated("model", path, OTHER_MODEL)
        cause = cause.__cause__ or cause.__context__
    return None
