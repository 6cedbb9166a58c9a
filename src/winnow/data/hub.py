"""Whether a hub can be asked, found out in seconds."""

from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError

from winnow.errors import ConfigError


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
