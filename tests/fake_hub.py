"""A Hugging Face hub on this machine: it serves repositories from memory, and takes uploads as a hub does."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

Files = Mapping[str, bytes]
TOKEN = "hf_good"
"""The one token that may write."""
LARGE = (".safetensors",)


class Answer(NamedTuple):
    """Status, body and headers of the answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


def _json(content: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


def _error(name: str, **headers: str) -> Answer:
    return Answer(404, headers={"X-Error-Code": name} | headers)


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@dataclass
class FakeHub:
    """Repositories by name, each with its commits, the newest last; datasets and models do not share names.

    `asked` are the paths of all requests so far, `made` what was asked when a repository was made, and `messages` those
    of uploads. With `refuse`, every answer has that status.
    """

    address: str = ""
    repositories: dict[str, list[Files]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: dict[str, dict] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    refuse: int | None = None

    def commit(self, name: str, files: Files) -> str:
        """Add a commit of a repository; its id."""
        self.repositories.setdefault(name, []).append(files)
        return self.commit_id(name, len(self.repositories[name]) - 1)

    def commit_id(self, name: str, number: int) -> str:
        return _hash(f"{name} {number}".encode())

    def newest(self, name: str) -> Files:
        """The files of a repository's newest commit."""
        return self.repositories[name][-1]

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> Answer:
        self.asked.append(path)
        path = unquote(path.partition("?")[0])
        if self.refuse is not None:
            return _json({"error": "no"}, self.refuse)
        if method in ("GET", "HEAD") and path != "/api/whoami-v2":
            return self._read(path.strip("/").split("/"))
        if token != f"Bearer {TOKEN}" and not path.startswith("/objects/"):
            return _json({"error": "Invalid credentials"}, 401)
        return self._write(path, body)

    def _read(self, parts: list[str]) -> Answer:
        is_api = parts[0] == "api"
        start = 2 if is_api else 1 if parts[0] == "datasets" else 0  # api/datasets/, datasets/, or a model's name
        name, rest = "/".join(parts[start : start + 2]), parts[start + 2 :]
        if name not in self.repositories:
            return _error("RepoNotFound")
        revision = rest[1] if len(rest) > 1 else "main"
        ids = {self.commit_id(name, n): n for n in range(len(self.repositories[name]))}
        number = ids.get(revision, len(ids) - 1 if revision == "main" else -1)
        if number < 0:
            return _error("RevisionNotFound")
        files, commit = self.repositories[name][number], self.commit_id(name, number)
        if not is_api:
            file = "/".join(rest[2:])
            if file not in files:
                return _error("EntryNotFound", **{"X-Repo-Commit": commit})
            return Answer(200, files[file], {"X-Repo-Commit": commit, "ETag": f'"{_hash(files[file])}"'})
        match rest[:1]:
            case ["auth-check"]:
                return _json({})
            case ["tree"]:
                return _json([{"type": "file", "path": p, "size": len(c), "oid": _hash(c)} for p, c in files.items()])
        listing = {"id": name, "sha": commit, "siblings": [{"rfilename": p} for p in files], "private": False}
        return _json({**listing, "tags": [], "downloads": 0, "likes": 0, "disabled": False})

    def _write(self, path: str, body: bytes) -> Answer:
        match path.strip("/").split("/"):
            case ["api", "whoami-v2"]:
                return _json({"name": "owner", "type": "user"})
            case ["api", "validate-yaml"]:
                return _json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
                known = name in self.made
                self.made.setdefault(name, asked)
                return _json({"url": f"{self.address}/{name}", "error": "exists"}, 409 if known else 200)
            case ["api", "models", _, _, "preupload", *_]:
                asked = [file["path"] for file in json.loads(body)["files"]]
                modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in asked}
                return _json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
            case [*_, "info", "lfs", "objects", "batch"]:
                asked = json.loads(body)["objects"]
                return _json({"transfer": "basic", "objects": [self._place(entry) for entry in asked]})
            case ["objects", name]:
                self.objects[name] = body
                return _json({})
            case ["api", "models", owner, name, "commit", *_]:
                return self._committed(f"{owner}/{name}", [json.loads(line) for line in body.decode().splitlines()])
        return _json({"error": f"unknown {path}"}, 404)

    def _place(self, entry: dict) -> dict:
        """Where the client is to put a large file."""
        href = f"{self.address}/objects/{entry['oid']}"
        return {"oid": entry["oid"], "size": entry["size"], "actions": {"upload": {"href": href, "header": {}}}}

    def _committed(self, name: str, lines: list[dict]) -> Answer:
        files = dict(self.newest(name)) if name in self.repositories else {}
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    self.messages.append(value["summary"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case _:
                    files[value["path"]] = base64.b64decode(value["content"])
        commit = self.commit(name, files)
        return _json({"commitUrl": f"{self.address}/{name}/commit/{commit}", "commitOid": commit, "success": True})


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    parts = []
    while size := int(handler.rfile.readline(), 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(parts)


@contextmanager
def running_hub(home: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Context in which the hub's client of this process talks to a fake hub, with an empty cache in `home` and a token
    that may write."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            answer = hub.answer(self.command, self.path, self.headers.get("Authorization"), _body(self))
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = respond

        def log_message(self, format: str, *args: object) -> None:
            """Silence the server."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "ENDPOINT", hub.address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setenv("HF_TOKEN", TOKEN)
    patch.setenv("WINNOW_CACHE", str(home / "cache"))
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("no_proxy", "127.0.0.1")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
