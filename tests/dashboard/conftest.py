"""A W&B server with one project, `me/winnow`, that keeps the views it is given."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from report.conftest import WandbServer
from winnow.report import wandb_service


class ViewServer(WandbServer):
    """`views` holds (kind, spec) in the order in which they were saved; `denied` operations are answered with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[tuple[str, dict]] = []
        self.denied: set[str] = set()

    def answer(self, operation: str, variables: dict) -> dict:
        if operation in self.denied:
            return {"errors": [{"message": "permission denied"}]}
        match operation:
            case "ProjectInternalId":
                known = (variables["entityName"], variables["projectName"]) == ("me", "winnow")
                return {"data": {"project": {"id": "p", "internalId": "17"} if known else None}}
            case "GetProjects":
                node = {
                    "id": "p",
                    "name": "winnow",
                    "entityName": "me",
                    "createdAt": "2026-01-01",
                    "isBenchmark": False,
                    "user": None,
                }
                end = {"endCursor": None, "hasNextPage": False}
                return {"data": {"models": {"edges": [{"cursor": "", "node": node}], "pageInfo": end}}}
            case "upsertView" | "UpsertView2":
                self.views.append((variables["type"], json.loads(variables["spec"])))
                project = {"id": "p", "name": "winnow", "entityName": "me"}
                same = {key: variables[key] for key in ("name", "type", "displayName", "description", "spec")}
                view = {"id": f"view{len(self.views)}", "project": project, "updatedAt": "2026-01-01T00:00:00"} | same
                return {"data": {"upsertView": {"view": view, "inserted": True}}}
        return super().answer(operation, variables)


@pytest.fixture
def view_server() -> Iterator[ViewServer]:
    with ViewServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No key, no settings, no service of an earlier test, and nothing written outside tmp_path."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home" / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in wandb_service.ENVIRONMENT:  # set and deleted, so that what is set in a test is taken back too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    wandb.teardown()
    yield
    wandb_service.tear_down()
