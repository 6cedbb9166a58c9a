"""A vLLM server that the trainer starts on this machine, and that ends with it."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from winnow import signals
from winnow.engines.vllm_http import Address, VllmHttp
from winnow.errors import ConfigError
from winnow.installed import install
from winnow.visible_text import message

MODULE = "vllm.entrypoints.openai.api_server"
LOOK_SECONDS = 0.2
NOT_THE_SERVERS = re.compile(
    "(LOCAL_|GROUP_|ROLE_|NODE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|(TORCHELASTIC|SLURM)_.*"
)
"""Variables about the trainer's own processes, which vLLM would take for its own: with those of torchrun the server's
processes would look for each other in the store of torchrun's agents."""
END_SECONDS = 30.0
"""Time for a server to end, after which its guard is left to it."""
LOG_TAIL = 2**16
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """The program with its arguments before `--host`, and variables that are set in its environment."""

    words: Sequence[str]
    environment: dict[str, str]


class ServerProcess:
    """A running server at `address`. `folders` are deleted with it, whatever way this process ends."""

    def __init__(self, command: ServerCommand, folders: Sequence[Path]) -> None:
        self.address = Address("http", "127.0.0.1", _free_port())
        self._log = Path(tempfile.mkstemp(prefix="winnow-server-", suffix=".log")[1])
        guard = [sys.executable, "-P", "-m", "winnow.engines.server_guard", str(os.getpid()), *map(str, folders), "--"]
        where = ["--host", self.address.host, "--port", str(self.address.port)]
        environment = {name: value for name, value in os.environ.items() if not NOT_THE_SERVERS.fullmatch(name)}
        with self._log.open("wb") as log:
            self._guard = subprocess.Popen(
                [*guard, *command.words, *where],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | command.environment,
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _end, self._guard, self._log)

    def wait_until_up(self, http: VllmHttp, seconds: float) -> None:
        """Wait until the server answers.

        Raises:
            ConfigError: it has ended, or does not answer within `seconds`; its output is kept.
            Stopped: a signal has come.
        """
        until = time.monotonic() + seconds
        while not http.is_healthy():
            signals.check()
            if not self.is_running:
                raise ConfigError(f"engine=vllm_server: the server has ended ({self._last_words()}); {self._kept()}")
            if time.monotonic() > until:
                raise ConfigError(
                    f"engine=vllm_server: the server does not answer after {seconds:g} s; {self._kept()}, or type "
                    "engine.start_timeout=… higher"
                )
            time.sleep(LOOK_SECONDS)

    @property
    def is_running(self) -> bool:
        return self._guard.poll() is None

    def close(self) -> None:
        self._end()

    def _kept(self) -> str:
        """Words about the output of the server, which outlives it."""
        kept = self._log.with_name(f"kept-{self._log.name}")
        shutil.copyfile(self._log, kept)
        return f"its output is in {kept}"

    def _last_words(self) -> str:
        """The last error in the output, or else its last line."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line]
        if any("winnow_files" in line and "Invalid weight transfer backend" in line for line in errors):
            return "Winnow is not installed in its environment; type pip install --no-deps winnow-rl there"
        return message((errors or lines or ["without a word"])[-1])[-LONGEST_REASON:]


def server_program(command: str | None) -> list[str]:
    """The words of `engine.command`, or the vLLM of this environment, before the arguments of `vllm serve`.

    Raises:
        ConfigError: there is no such program.
    """
    if command is None and find_spec("vllm") is None:
        raise ConfigError(
            f"engine=vllm_server: vllm is not installed; {install('vllm')}; or name the vllm of another environment, "
            "engine.command=/PATH/bin/vllm, or a server that runs, engine.url=http://127.0.0.1:8000"
        )
    if command is None:
        own = Path(sys.executable).with_name("vllm")
        # The script of vLLM's CPU build looks for a distribution of another name than its own, and fails.
        return [str(own), "serve"] if _is_distribution("vllm") else [sys.executable, "-m", MODULE]
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise ConfigError(
            f"engine.command={command}: there is no such program; type e.g. engine.command=/PATH/bin/vllm"
        )
    return [*words, "serve"] if Path(words[-1]).name == "vllm" else words


def _is_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _end(guard: "subprocess.Popen[bytes]", log: Path) -> None:
    """End the server by its guard, which waits until all of its processes are gone."""
    if guard.poll() is None:
        guard.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            guard.wait(END_SECONDS)
    log.unlink(missing_ok=True)
