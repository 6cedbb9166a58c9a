"""A small server that takes uploads as a Hugging Face hub does, and remembers them."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Uploads:
    """Repositories with what was asked when they were made, and the files of their last commit."""

    address: str = ""
    made: dict[str, dict] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    refuse: int | None = None


@contextmanager
def fake_hub() -> Iterator[Uploads]:
    uploads = Uploads()

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, content: object, code: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def handle_one(self) -> None:
            uploads.requests += 1
            body = self.body()
            if uploads.refuse is not None:
                self.answer({"error": "no"}, uploads.refuse)
            elif self.headers.get("Authorization") != "Bearer hf_good" and not self.path.startswith("/objects/"):
                self.answer({"error": "Invalid credentials"}, 401)
            else:
                self.reply(body)

        def reply(self, body: bytes) -> None:
            path = self.path.partition("?")[0]
            if path == "/api/whoami-v2":
                self.answer({"name": "owner", "type": "user"})
            elif path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
                if name in uploads.made:
                    self.answer({"error": "exists", "url": f"{uploads.address}/{name}"}, 409)
                    return
                uploads.made[name] = asked
                self.answer({"url": f"{uploads.address}/{name}"})
            elif "/preupload/" in path:
                large = (".safetensors",)
                asked = json.loads(body)["files"]
                modes = [(file["path"], "lfs" if file["path"].endswith(large) else "regular") for file in asked]
                self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                self.answer({"transfer": "basic", "objects": [self.target(entry) for entry in objects]})
            elif path.startswith("/objects/"):
                uploads.objects[path.rpartition("/")[2]] = body
                self.answer({})
            elif "/commit/" in path:
                self.commit([json.loads(line) for line in body.decode().splitlines()])
            else:
                self.answer({"error": f"unknown {path}"}, 404)

        def target(self, entry: dict) -> dict:
            href = f"{uploads.address}/objects/{entry['oid']}"
            return {"oid": entry["oid"], "size": entry["size"], "actions": {"upload": {"href": href, "header": {}}}}

        def commit(self, lines: list[dict]) -> None:
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    uploads.commits.append(value["summary"])
                elif line["key"] == "lfsFile":
                    uploads.files[value["path"]] = uploads.objects[value["oid"]]
                else:
                    uploads.files[value["path"]] = base64.b64decode(value["content"])
            self.answer(
                {"commitUrl": f"{uploads.address}/owner/model/commit/{1:040}", "commitOid": "1" * 40, "success": True}
            )

        do_GET = do_POST = do_PUT = handle_one

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    uploads.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield uploads
    finally:
        server.shutdown()
        server.server_close()
