"""A hub on this machine that serves datasets from memory, as far as the hub's client asks for it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

Files = Mapping[str, bytes]


@dataclass
class FakeHub:
    """Datasets by name, each with its commits, the newest last. `asked` are the paths of all requests so far."""

    datasets: dict[str, list[Files]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False

    def commit(self, name: str, files: Files) -> str:
        """Add a commit of a dataset; its id."""
        self.datasets.setdefault(name, []).append(files)
        return self.commit_id(name, len(self.datasets[name]) - 1)

    def commit_id(self, name: str, number: int) -> str:
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a request."""
        parts = unquote(path.split("?")[0]).strip("/").split("/")
        if parts[0] == "api":
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[1:3]), parts[3:]
        if self.is_down:
            return 503, {}, b""
        if name not in self.datasets:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        revision = rest[1] if len(rest) > 1 else "main"
        ids = {self.commit_id(name, n): n for n in range(len(self.datasets[name]))}
        number = ids.get(revision, len(ids) - 1 if revision == "main" else -1)
        if number < 0:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files, commit = self.datasets[name][number], self.commit_id(name, number)
        if parts[0] == "datasets":
            return _file(files, "/".join(rest[2:]), commit)
        match rest[:1]:
            case ["auth-check"]:
                return 200, {}, b"{}"
            case ["tree"]:
                tree = [{"type": "file", "path": p, "size": len(c), "oid": _oid(c)} for p, c in files.items()]
                return 200, {}, json.dumps(tree).encode()
        listing = {"id": name, "sha": commit, "siblings": [{"rfilename": p} for p in files], "private": False}
        return 200, {}, json.dumps({**listing, "tags": [], "downloads": 0, "likes": 0, "disabled": False}).encode()


def _file(files: Files, path: str, commit: str) -> tuple[int, dict[str, str], bytes]:
    if path not in files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
    return 200, {"X-Repo-Commit": commit, "ETag": f'"{_oid(files[path])}"'}, files[path]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def running_hub(home: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Context in which the hub's client of this process talks to a fake hub, with an empty cache in `home`."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(self.path)
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Silence the server."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setenv("WINNOW_CACHE", str(home / "cache"))
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("no_proxy", "127.0.0.1")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
