"""Stand-in for a W&B server on 127.0.0.1, with as much of the protocol as a run needs."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class WandbServer(ThreadingHTTPServer):
    """Server that keeps every GraphQL request in `asked` and the rows of each run's history in `history`, by run id.

    Operations named in `silent` get no answer at all; `"*"` silences everything.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, dict]] = []
        self.history: dict[str, list[dict]] = {}
        self.silent: set[str] = set()

    def handle_error(self, request, client_address) -> None:
        """Ignore errors: clients that hang up are expected."""

    def answer(self, operation: str, variables: dict) -> dict:
        project = {"id": "p", "name": "winnow", "entity": {"id": "e", "name": "me"}}
        match operation:
            case "Viewer":
                teams = {"edges": []}
                viewer = {"id": "v", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": teams}
                return {"data": {"viewer": viewer}}
            case "RunResumeStatus":
                return {"data": {"model": project | {"bucket": None}}}
            case "UpsertBucket":
                texts = dict.fromkeys(("displayName", "description", "config", "sweepName"))
                bucket = {"id": "b", "name": variables["name"], "project": project, "historyLineCount": 0} | texts
                return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
            case "ArtifactType":
                return {"data": {"project": {"artifact": None}}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
                return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"errors": [{"message": f"{operation} is not known here"}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = {}
        if "*" in self.server.silent:
            time.sleep(60)
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.findall(r"(?:query|mutation)\s+(\w+)", request["query"])[0]
            variables = request.get("variables") or {}
            self.server.asked.append((operation, variables))
            if operation in self.server.silent:
                time.sleep(60)
            reply = self.server.answer(operation, variables)
        elif self.path.endswith("/file_stream"):
            lines = json.loads(body).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            run_id = self.path.split("/")[-2]
            self.server.history.setdefault(run_id, []).extend(json.loads(line) for line in lines)
        text = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST

    def log_message(self, format, *args) -> None:
        """Print nothing."""


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
