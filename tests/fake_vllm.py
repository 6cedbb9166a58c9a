"""A server that answers as vLLM 0.32 does, in this process: it keeps the weights it gets, and fails as it is told to.

The tokens of a sample are a function of its seed and of the first weight, and their log-probabilities of the tokens.
"""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file

from winnow.engines.served_model import description, difference

EOS = 1


class FakeVllm:
    """The state of a server, which a test changes to make it fail; a context in which it answers at `url`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = description(json.loads(json.dumps(config)))
        self.settings: dict[str, Any] = {
            "dtype": "torch.float64",
            "logprobs_mode": "processed_logprobs",
            "quantization": None,
        }
        self.backend: str | None = "winnow_files"
        self.dev_mode, self.scale_out, self.longest = True, True, 64
        self.calls: list[str] = []
        self.statuses: dict[str, int] = {}  # path → HTTP status with which it is refused
        self.slow: dict[str, float] = {}  # path → seconds before it is answered
        self.restarts_at: int | None = None  # the number of the sample, from 1, before which it is started anew
        self.labels: str | None = None  # version that the answers have, instead of the one that was set
        self.finish: str | None = None  # reason for which samples end, instead of their own
        self.drawn: Counter[int] = Counter()  # how often each seed was asked for
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.start_anew()

    def start_anew(self) -> None:
        """Lose weights, version and folder, as a server that was killed and started again."""
        self.label, self.weights, self.folder, self.updating, self.paused = "default", {}, None, False, False
        self.chunks: list[int] = []

    def __enter__(self) -> "FakeVllm":
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
                path = urlsplit(self.path).path
                try:
                    status, answer = fake.answer(path, body)
                except ConnectionAbortedError:
                    self.close_connection = True
                    self.connection.close()
                    return
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client has gone

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append(path)
        time.sleep(self.slow.get(path, 0))
        if path in self.statuses:
            return self.statuses[path], {"error": {"message": "Worker failed with error 'told to', please check"}}
        name = path.strip("/").replace("/", "_")
        method = getattr(self, f"on_{name}", None)
        if method is None or (not self.dev_mode and name not in ("health", "v1_models", "inference_v1_generate")):
            return 404, {"detail": "Not Found"}
        try:
            return 200, method(body)
        except ValueError as error:
            said = f"Call to collective_rpc method failed: Worker failed with error '{error}', please check the stack"
            return 500, {"error": {"message": said, "type": "InternalServerError", "code": 500}}
        except PermissionError:
            return 403, {"error": {"message": "Scale-out endpoints are disabled."}}
        except KeyError as error:
            return 400, {"error": {"message": f"missing {error}"}}

    def on_health(self, body: Any) -> None:
        return None

    def on_v1_models(self, body: Any) -> Any:
        return {"data": [{"id": "m", "max_model_len": self.longest}]}

    def on_server_info(self, body: Any) -> Any:
        transfer = None if self.backend is None else {"backend": self.backend}
        return {"vllm_config": {"model_config": self.settings, "weight_transfer_config": transfer}}

    def on_weight_info(self, body: Any) -> Any:
        return {"weight_version": self.label}

    def on_pause(self, body: Any) -> None:
        self.paused = True

    def on_resume(self, body: Any) -> None:
        self.paused = False

    def on_init_weight_transfer_engine(self, body: Any) -> None:
        folder = Path(body["init_info"]["folder"])
        if not folder.is_dir() or (folder / "token").read_text() != body["init_info"]["token"]:
            raise ValueError("the trainer's folder for weights cannot be read here")
        if problem := difference(json.loads((folder / "model.json").read_text()), self.config):
            raise ValueError(problem)
        self.folder = folder

    def on_start_weight_update(self, body: Any) -> None:
        if self.updating:
            raise ValueError("start_weight_update called while a weight update is already active")
        self.updating, self.arriving = True, {}

    def on_update_weights(self, body: Any) -> None:
        assert self.updating
        assert self.paused
        assert self.folder is not None
        found = load_file(self.folder / body["update_info"]["name"])
        assert len(found) == body["update_info"]["tensors"]
        self.chunks.append(len(found))
        self.arriving |= found

    def on_finish_weight_update(self, body: Any) -> None:
        self.updating, self.weights = False, self.arriving

    def on_update_weight_version(self, body: Any) -> None:
        self.label = body["new_version"]

    def on_inference_v1_generate(self, body: Any) -> Any:
        if not self.scale_out:
            raise PermissionError
        seed, most = body["sampling_params"]["seed"], body["sampling_params"]["max_tokens"]
        with self.lock:
            self.drawn[seed] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if self.restarts_at is not None and sum(self.drawn.values()) >= self.restarts_at:
                self.restarts_at = None
                self.start_anew()
                self.in_flight -= 1
                raise ConnectionAbortedError
        try:
            return self._sample(seed, most)
        finally:
            with self.lock:
                self.in_flight -= 1

    def _sample(self, seed: int, most: int) -> Any:
        generator = torch.Generator().manual_seed(seed % 2**31)
        ids = torch.randint(3, 12, (12,), generator=generator).tolist()
        ids = [*ids[: 2 + ids[0]], EOS][:most]
        label = self.label if self.labels is None else self.labels
        reason = "stop" if ids[-1] == EOS else "length"
        content = [{"token_id": i, "logprob": -i / 10, "rank": 1, "top_logprobs": []} for i in ids]
        choice = {
            "index": 0,
            "finish_reason": self.finish or reason,
            "token_ids": ids,
            "logprobs": {"content": content},
            "weight_versions": [{"version": label, "start": 0, "end": len(ids)}],
        }
        return {"choices": [choice], "output_mode": "tokens"}
