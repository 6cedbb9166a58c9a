"""wandb's service process and its server: what may go wrong there, and how long that may take."""

import contextlib
import os
import secrets
import shlex
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal, get_args

from wandb.sdk import wandb_setup
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

import wandb
from winnow.errors import ConfigError
from winnow.run_logs.run_files import SampleRecord, Summary

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


Mode = Literal["auto", "online", "offline", "disabled"]
NAMESPACES = ("train/*", "rollout/*", "eval/*", "verifier/*", "perf/*", "time/*")
JOB_TYPE = "train"

INIT_SECONDS, FINISH_SECONDS = 8.0, 15.0
SLOW_SECONDS = 4.0
"""A table that takes longer is the last one. Of a server that fell silent wandb reports nothing but the delay."""

TABLE_ROWS = 64
TEXT_BYTES = 4096
TAG_LENGTH, NAME_LENGTH = 64, 128
SAMPLE_COLUMNS = tuple(field.name for field in fields(SampleRecord))


class WandbTracker:
    """One run on W&B, in the run directory's `wandb/` (or in WANDB_DIR where that is set).

    Args:
        entity: user or team; None is the API key's default.
        mode: `auto` follows WANDB_MODE and goes online where that does not say otherwise, a key is found and the
            server answers. The others are wandb's own; `online` without a server is offline as well.
        group: replaces the group given to `start`, as `name` replaces its name; `tags` come on top.
        say: takes each line for the user, at most one when the run starts and one if something breaks.

    Raises:
        ConfigError: `mode` is none of `Mode`.
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
            raise ConfigError(f"logger.mode={mode} is not a mode of W&B; type one of {', '.join(get_args(Mode))}")
        self.project, self.entity = project, entity
        self.mode: Mode = mode
        self.group, self.tags, self.name = group, tuple(tags), name
        self.say = say
        self._run: wandb.Run | None = None
        self._tables = True
        self._next_step = 0
        self._accuracies: set[str] = set()

    def start(
        self,
        directory: Path,
        config: Mapping[str, object],
        name: str,
        group: str | None,
        tags: Sequence[str],
        run_id: str | None,
    ) -> str:
        """Open the run, online or offline, and return its id; an id that is already known goes on where it was."""
        set_environment()
        run_id = run_id or secrets.token_hex(4)
        with self._or_off():
            self._open(self._settings(directory, name, group, tags, run_id), dict(config))
        return run_id

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send an iteration's row; W&B's own step is the iteration too, so that a resumed run goes on counting."""
        if self._run is None:
            return
        with self._or_off():
            self._define_accuracies(self._run, row)
            self._run.log(dict(row), step=int(row["iteration"]), commit=True)
            self._next_step = int(row["iteration"]) + 1

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Show the first 64 records as a table. Call it before the iteration's `log`: a step that W&B has closed
        takes nothing more, and the table then goes with the next one."""
        if self._run is None or not self._tables:
            return
        table = wandb.Table(columns=list(SAMPLE_COLUMNS), data=[_cells(record) for record in records[:TABLE_ROWS]])
        began = time.monotonic()
        try:
            self._run.log({"samples": table}, step=max(iteration, self._next_step), commit=False)
        except FAILURES as error:
            self._no_more_tables(reason(error))
        else:
            if (seconds := time.monotonic() - began) > SLOW_SECONDS:
                self._no_more_tables(f"one took {seconds:.0f} s")

    def finish(self, summary: Summary, failed: bool) -> None:
        """Close the run with `summary` in its own; gives up on an upload after 15 s, the data stays on disk."""
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

    def _settings(
        self, directory: Path, name: str, group: str | None, tags: Sequence[str], run_id: str
    ) -> wandb.Settings:
        """What a run is called and how it behaves. Records reach the disk every second instead of every 15, so that
        a killed process loses little; names and tags are cut to what the server takes."""
        return wandb.Settings(
            run_id=run_id,
            project=self.project,
            entity=self.entity,
            root_dir=os.environ.get("WANDB_DIR", str(directory.absolute())),
            run_name=(self.name or name)[:NAME_LENGTH] or None,
            run_group=(self.group or group or "")[:NAME_LENGTH] or None,
            run_job_type=JOB_TYPE,
            run_tags=tuple(dict.fromkeys(tag[:TAG_LENGTH] for tag in (*tags, *self.tags) if tag)),
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
                tear_down()  # the service would go on trying, and the run's id stays taken
                self._set_up()
        self._run = _init(settings, config, "offline")
        self.say(f"W&B is offline ({offline}); upload later: {_sync_command(self._run)}")

    def _set_up(self) -> wandb.Settings:
        """The settings of this process: wandb's files, then WANDB_ variables, then `mode`; without wandb's banners."""
        if self.mode == "auto":
            return wandb.setup(wandb.Settings(silent=True)).settings
        return wandb.setup(wandb.Settings(silent=True, mode=self.mode)).settings

    def _define_accuracies(self, run: wandb.Run, row: Mapping[str, float | int]) -> None:
        """Ask for the best of every `eval/{set}/acc`, set by set: wandb has no patterns but a final star."""
        for key in row:
            if key.startswith("eval/") and key.endswith("/acc") and key not in self._accuracies:
                run.define_metric(key, step_metric="iteration", summary="max,last")
                self._accuracies.add(key)

    def _no_more_tables(self, why: str) -> None:
        self._tables = False
        self.say(f"W&B gets no more tables ({why}); metrics go on, samples are in samples/")

    @contextlib.contextmanager
    def _or_off(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            self._turn_off(error)

    def _turn_off(self, error: Exception) -> None:
        """Say so once and let go of wandb's service, which may be dead: a later run of this process starts another."""
        self._run = None
        self.say(f"W&B is off ({reason(error)}); the run goes on and metrics.jsonl has everything")
        tear_down()


def _init(settings: wandb.Settings, config: dict[str, object], mode: Literal["online", "offline"]) -> wandb.Run:
    """A run of its own (`create_new`: several live in one process, one after another) with `iteration` as its axis."""
    run = wandb.init(config=config, mode=mode, resume="allow", reinit="create_new", settings=settings)
    run.define_metric("iteration", hidden=True)
    for namespace in NAMESPACES:
        run.define_metric(namespace, step_metric="iteration")
    return run


def _cells(record: SampleRecord) -> list[object]:
    return [_cut(value) if isinstance(value, str) else value for value in asdict(record).values()]


def _cut(text: str) -> str:
    """At most 4 kB of UTF-8; a lone surrogate becomes a question mark."""
    return text.encode(errors="replace")[:TEXT_BYTES].decode(errors="ignore")


def _sync_command(run: wandb.Run) -> str:
    """The command for all legs of a run: a resumed one has a directory for each, under one id."""
    online = "" if run.offline else "--include-online "
    return f"wandb sync {online}{shlex.quote(str(Path(run.settings.sync_dir).parent))}"
