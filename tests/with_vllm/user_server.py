"""A vLLM server as a user starts it by the command in docs/serving.md."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from winnow.engines.vllm_http import VllmHttp, address_of

COMMAND = (
    *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
    *("--host", "127.0.0.1", "--enable-scale-out", "--logprobs-mode", "processed_logprobs"),
    *("--weight-transfer-config", '{"backend": "winnow_files"}'),
    # These keep the test small and quick.
    *("--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", "300000000"),
)


class UserServer:
    """A server for the model in `folder`, always on the same port."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = VllmHttp(address_of(self.url, remote=False), timeout=60)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--model", str(self.folder), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"},
                start_new_session=True,
            )
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + 300
        while not self.http.is_healthy():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.5)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
