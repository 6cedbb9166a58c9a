"""Stand-in for a W&B server with one project, `me/winnow`, that keeps the views saved on it."""

import json
import threading
from collections.abc import Iterator

import pytest

from run_logs.conftest import WandbServer


class ViewServer(WandbServer):
    """W&B server that keeps saved `views` as (kind, spec), in order, and answers `denied` operations with an error."""

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
def _alone(fresh_wandb: None) -> None:
    """Every test here runs without W&B settings or keys of its own."""
