"""A model repository of a Hugging Face hub, to which an exported model is uploaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of httpx or httpx2, by the version of the hub's client
    LocalTokenNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from winnow.errors import ConfigError

UNAUTHORISED, FORBIDDEN = 401, 403


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository `owner/name`. The hub and the account are those that Hugging Face's own tools would use."""

    id: str

    @classmethod
    def named(cls, name: str) -> "Repository":
        """Raises ConfigError: it is not `OWNER/NAME`."""
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ConfigError(f"hub:{name}: {str(error).splitlines()[0]}; type hub:OWNER/NAME") from error
        if name.count("/") != 1:
            raise ConfigError(f"hub:{name}: has no owner; type hub:OWNER/NAME")
        return cls(name)

    def require_account(self) -> None:
        """Raises ConfigError: the hub does not answer, or knows no account here."""
        with self._refusals():
            HfApi().whoami()

    def upload(self, folder: Path, private: bool, message: str) -> str:
        """Upload the files of `folder` as one commit, and return the repository's address.

        It is made if it does not exist, `private` or public; one that exists stays as it is.

        Raises:
            ConfigError: the hub refuses, or does not answer.
        """
        with self._refusals():
            made = HfApi().create_repo(self.id, private=private, exist_ok=True)
            HfApi().upload_folder(repo_id=self.id, folder_path=folder, commit_message=message)
        return str(made)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Context in which the hub's errors are ConfigErrors."""
        try:
            yield
        except LocalTokenNotFoundError as error:
            raise ConfigError(f"hub:{self.id}: no account; type hf auth login, or set HF_TOKEN") from error
        except HfHubHTTPError as error:
            code = error.response.status_code
            advice = {
                UNAUTHORISED: "the token is not valid; type hf auth login",
                FORBIDDEN: "the token may not write there; choose an owner of your own, or a token that may write",
            }
            reason = advice.get(code, error.server_message or "try again later")
            raise ConfigError(f"hub:{self.id}: the hub answered {code}: {reason}") from error
        except (RuntimeError, ValueError) as error:  # of an upload that breaks off, and of an answer that is none
            raise ConfigError(f"hub:{self.id}: the upload failed ({error}); type the command again") from error
        except (HTTPError, OSError) as error:  # OSError: offline by HF_HUB_OFFLINE, or no route
            raise ConfigError(
                f"hub:{self.id}: the hub cannot be reached ({type(error).__name__}); connect, or export to a folder"
            ) from error
