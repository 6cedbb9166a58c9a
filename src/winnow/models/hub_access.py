"""Repositories on the Hugging Face hub: whether one can be downloaded, in one line where it cannot."""

from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from winnow.errors import ConfigError


def require_reachable(
    repository: str, kind: Literal["model", "dataset"], instead: str, revision: str | None = None
) -> Any:
    """Ask the hub once whether `repository` can be downloaded; its description (`DatasetInfo` or `ModelInfo`).

    The hub's own download functions would try again for a minute, file by file, and print a warning each time.

    Raises:
        ConfigError: the hub does not answer, has no such repository or revision, or its licence was not accepted; the
            message ends with `instead`.
    """
    api = HfApi()
    try:
        info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=10)
        api.auth_check(repository, repo_type=kind)  # a gated repository answers repo_info but withholds its files
    except GatedRepoError as error:
        raise gated(kind, repository, instead) from error
    except Exception as error:  # its type depends on the HTTP library that the hub's client uses
        match error:
            case RepositoryNotFoundError():
                reason = "not on the hub; "
            case RevisionNotFoundError():
                reason = f"its hub page has no revision {revision}; "
            case _:
                reason = f"hub unreachable ({type(error).__name__}); connect, or "
        raise ConfigError(f"{kind} {repository} could not be downloaded: not cached, {reason}{instead}") from error
    return info


def gated(kind: str, repository: str, instead: str) -> ConfigError:
    """The message for a repository whose licence was not accepted."""
    return ConfigError(
        f"{kind} {repository} is gated: accept its licence on its hub page, then type hf auth login; or {instead}"
    )
