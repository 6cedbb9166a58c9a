"""wandb's service process and its server: what may go wrong there, and how long that may take."""

import contextlib
import os
import textwrap
import threading
from collections.abc import Iterator

import wandb
from wandb.sdk import wandb_setup
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

FAILURES = (
    wandb.Error,  # no key, no server, a finished run
    OSError,  # the service process is dead, the disk is full, the upload took too long
    ValueError,  # an answer that pydantic does not accept; a WANDB_ variable with a wrong value
    HandleAbandonedError,
    MailboxClosedError,
    ServerResponseError,
    WandbApiFailedError,
)
"""Everything that wandb was seen to raise; the last four derive from nothing but Exception."""

GRACE_SECONDS = 2.0
ENVIRONMENT = {
    # The timeout of requests made in the caller's time: 10 s for the key's check, 19 s for a table by default.
    "WANDB_HTTP_TIMEOUT": "8",
    # Usage telemetry keeps a process whose requests nobody answers for another 10 s at exit.
    "WANDB_ERROR_REPORTING": "false",
}


def set_environment() -> None:
    """Bound wandb's own waits, where the user has not. It reads these variables once a process."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def why_not_online() -> str:
    """Look for a key and ask the server about it, and return what is wrong; nothing is "". Prompts for nothing."""
    try:
        return "" if wandb.login(prompt=False, verify=True) else "no API key; `wandb login` sets one"
    except FAILURES as error:
        return reason(error)


@contextlib.contextmanager
def service_killed_after(seconds: float) -> Iterator[None]:
    """Bound a wait for wandb's service process. Its own timeouts do not: where a server goes silent, a finish in three
    waits for ever, and so does the hook that wandb runs at exit. What waits for a killed service gets an error."""
    connection = wandb_setup.singleton()._connection
    service = connection._proc if connection else None
    watchdog = threading.Timer(seconds, service._process.kill if service else lambda: None)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def tear_down() -> None:
    """Let go of the service, which may be dead; whoever needs one starts another."""
    # Where the service died, teardown exits with the service's exit code.
    with contextlib.suppress(*FAILURES, SystemExit), service_killed_after(GRACE_SECONDS):
        wandb.teardown()


def reason(error: Exception) -> str:
    """What wandb says, in one short line, or the error's class where it says nothing."""
    return textwrap.shorten(str(error), 120, placeholder=" …") or type(error).__name__
