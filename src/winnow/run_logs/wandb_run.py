"""Weights & Biases tracker, and time limits on everything that wandb's service process and its server may keep waiting.

A failure at W&B never stops a training run: the tracker goes offline or off and says so in one line.
"""

import contextlib
import logging
import os
import secrets
import shlex
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import wandb
from wandb.sdk import wandb_setup
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

from winnow.errors import ConfigError
from winnow.files import disk_errno
from winnow.run_logs.run_files import SAMPLE_COLUMNS, SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo

FAILURES = (
    wandb.Error,  # no key, no server, a finished run
    OSError,  # the service process is dead, the disk is full, the upload took too long
    ValueError,  # an answer that pydantic does not accept; a WANDB_ variable with a wrong value
    HandleAbandonedError,
    MailboxClosedError,
    ServerResponseError,
    WandbApiFailedError,
)
"""Every exception that wandb was seen to raise; the last four derive from Exception alone."""

GRACE_SECONDS = 2.0
ENVIRONMENT = {
    # Timeout of requests that the caller waits for. By default checking the key takes up to 10 s and a table 19 s.
    "WANDB_HTTP_TIMEOUT": "8",
    # Usage telemetry delays the exit of a process whose requests get no answer by another 10 s.
    "WANDB_ERROR_REPORTING": "false",
}


def set_environment() -> None:
    """Set `ENVIRONMENT` where the user has not. wandb reads these variables once in a process, so call this first."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def why_not_online() -> str:
    """Reason why no run can go online, or "". Looks for a key and verifies it with the server; never prompts."""
    try:
        return "" if wandb.login(prompt=False, verify=True) else "no API key; `wandb login` sets one"
    except FAILURES as error:
        return reason(error)


@contextlib.contextmanager
def service_killed_after(seconds: float) -> Iterator[None]:
    """Context in which wandb's service process is killed after `seconds`; calls that wait for it then raise an error.

    wandb's own timeouts do not bound the wait: if the server stops answering, one `finish` in three waits for ever, and
    so does the hook that wandb runs at exit.
    """
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
    """Disconnect from the service, which may be dead. A later call of wandb starts a new one."""
    # If the service died, teardown raises SystemExit with the service's exit code.
    with contextlib.suppress(*FAILURES, SystemExit), service_killed_after(GRACE_SECONDS):
        wandb.teardown()


def reason(error: Exception) -> str:
    """The error's message as one line of at most 120 characters, or its class if it has no message."""
    return textwrap.shorten(str(error), 120, placeholder=" …") or type(error).__name__


Mode = Literal["auto", "online", "offline", "disabled"]
NAMESPACES = ("train/*", "rollout/*", "eval/*", "verifier/*", "perf/*", "time/*")
JOB_TYPE = "train"

INIT_SECONDS, FINISH_SECONDS = 8.0, 15.0
SLOW_SECONDS = 4.0
"""No more tables are sent after one that took longer: the delay is the only sign of a server that stopped answering."""

TABLE_ROWS = 64
TEXT_BYTES = 4096
TAG_LENGTH, NAME_LENGTH = 64, 128


class WandbTracker:
    """Tracker of one run at W&B, with its files in the run directory's `wandb/`, or in WANDB_DIR if that is set.

    Args:
        entity: User or team; None means the API key's default. mode: `auto` follows WANDB_MODE; if that is not set, the
        run goes online if a key is found and the server answers,
            and offline otherwise. The other modes are wandb's own; `online` falls back to offline without a server.
        group: Replaces the group given to `start`, as `name` replaces its name; `tags` are added to its tags.
        say: Gets each line for the user: at most one when the run starts, and one if something fails.

    Raises:
        ConfigError: `mode` is not one of `Mode`.
    """

    def __init__(
        self,
        project: str = "winnow",
        entity: str | None = None,
        mode: Mode = "auto",
        group: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"logger.wandb.mode={mode} is not a mode of W&B; type one of {', '.join(get_args(Mode))}")
        self.project, self.entity = project, entity
        self.mode: Mode = mode
        self.group, self.tags, self.name = group, tuple(tags), name
        self.say = say
        self._run: wandb.Run | None = None
        self._tables = True
        self._next_step = 0
        self._accuracies: set[str] = set()

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Open the run, online or offline, and return its id. With the id of an earlier run, that run is continued."""
        set_environment()
        logging.raiseExceptions = False  # wandb's debug log on a full disk would print a traceback for each line
        run_id = run_id or secrets.token_hex(4)
        with self._or_off():
            self._open(self._settings(directory, info, run_id), dict(info.config))
        return run_id

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send an iteration's row. The iteration is W&B's step as well, so that a resumed run continues the count."""
        if self._run is None:
            return
        with self._or_off():
            self._define_accuracies(self._run, row)
            self._run.log(dict(row), step=int(row["iteration"]), commit=True)
            self._next_step = int(row["iteration"]) + 1

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Send the first 64 records as a table.

        Call it before the iteration's `log`, which closes W&B's step; after that the table goes to the next step.
        """
        if self._run is None or not self._tables:
            return
        table = wandb.Table(columns=list(SAMPLE_COLUMNS), data=[_cells(record) for record in records[:TABLE_ROWS]])
        began = time.monotonic()
        try:
            self._run.log({"samples": table}, step=max(iteration, self._next_step), commit=False)
        except FAILURES as error:
            if disk_errno(error) is None:
                self._no_more_tables(reason(error))
            else:
                self._off(error)
        else:
            if (seconds := time.monotonic() - began) > SLOW_SECONDS:
                self._no_more_tables(f"one took {seconds:.0f} s")

    def finish(self, summary: Summary, failed: bool) -> None:
        """Close the run after adding `summary` to its own. An upload is given up after 15 s; the data stays on disk."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            with service_killed_after(FINISH_SECONDS + GRACE_SECONDS):
                run.summary.update({key: value for key, value in asdict(summary).items() if value is not None})
                run.finish(exit_code=int(failed))
        except FAILURES as error:
            self.say(f"W&B did not take everything ({reason(error)}); upload the rest: {_sync_command(run)}")
            tear_down()

    def _settings(self, directory: Path, info: RunInfo, run_id: str) -> wandb.Settings:
        """The run's names, cut to the lengths that the server accepts, and its behaviour.

        Records are flushed to disk every second instead of every 15 s, so that a killed process loses little.
        """
        return wandb.Settings(
            run_id=run_id,
            project=self.project,
            entity=self.entity,
            root_dir=os.environ.get("WANDB_DIR", str(directory.absolute())),
            run_name=(self.name or info.name)[:NAME_LENGTH] or None,
            run_group=(self.group or info.group or "")[:NAME_LENGTH] or None,
            run_job_type=JOB_TYPE,
            run_tags=tuple(dict.fromkeys(tag[:TAG_LENGTH] for tag in (*info.tags, *self.tags) if tag)),
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=1.0,
            console="off",
            save_code=False,
            silent=True,
        )

    def _open(self, settings: wandb.Settings, config: dict[str, object]) -> None:
        mode = self._set_up().mode
        if mode == "disabled":
            return
        offline = f"mode {mode}" if mode in ("offline", "dryrun") else why_not_online()
        if not offline:
            try:
                with service_killed_after(INIT_SECONDS + GRACE_SECONDS):
                    self._run = _init(settings, config, "online")
                self.say(f"W&B: {self._run.url}")
                return
            except FAILURES as error:
                offline = reason(error)
                tear_down()  # otherwise the service would go on trying and keep the run's id in use
                self._set_up()
        self._run = _init(settings, config, "offline")
        self.say(f"W&B is offline ({offline}); upload later: {_sync_command(self._run)}")

    def _set_up(self) -> wandb.Settings:
        """This process's settings, without wandb's banners: from wandb's files, then WANDB_ variables, then `mode`."""
        if self.mode == "auto":
            return wandb.setup(wandb.Settings(silent=True)).settings
        return wandb.setup(wandb.Settings(silent=True, mode=self.mode)).settings

    def _define_accuracies(self, run: wandb.Run, row: Mapping[str, float | int]) -> None:
        """Have W&B keep the maximum of every `eval/{set}/acc`, one by one: its only pattern is a * at the end."""
        for key in row:
            if key.startswith("eval/") and key.endswith("/acc") and key not in self._accuracies:
                run.define_metric(key, step_metric="iteration", summary="max,last")
                self._accuracies.add(key)

    def _no_more_tables(self, why: str) -> None:
        self._tables = False
        self.say(f"W&B gets no more tables ({why}); metrics go on, samples are in samples/")

    @contextlib.contextmanager
    def _or_off(self) -> Iterator[None]:
        """Context in which a failure ends the tracking; the user is told once."""
        try:
            yield
        except FAILURES as error:
            self._off(error)

    def _off(self, error: Exception) -> None:
        self._run = None
        self.say(f"W&B is off ({reason(error)}); the run goes on and metrics.jsonl has everything")
        tear_down()


def _init(settings: wandb.Settings, config: dict[str, object], mode: Literal["online", "offline"]) -> wandb.Run:
    """New wandb run with `iteration` as its x-axis; `create_new` since one process may hold several runs in turn."""
    run = wandb.init(config=config, mode=mode, resume="allow", reinit="create_new", settings=settings)
    run.define_metric("iteration", hidden=True)
    for namespace in NAMESPACES:
        run.define_metric(namespace, step_metric="iteration")
    return run


def _cells(record: SampleRecord) -> list[object]:
    return [_cut(value) if isinstance(value, str) else value for value in record.row().values()]


def _cut(text: str) -> str:
    """The text cut to 4 kB of UTF-8, with a lone surrogate replaced by a question mark."""
    return text.encode(errors="replace")[:TEXT_BYTES].decode(errors="ignore")


def _sync_command(run: wandb.Run) -> str:
    """The command that uploads all parts of a run: each resume adds a directory under the same id."""
    online = "" if run.offline else "--include-online "
    return f"wandb sync {online}{shlex.quote(str(Path(run.settings.sync_dir).parent))}"
