"""What a dashboard shows, as data: the workspace and the report are both drawn from `SECTIONS`."""

import re
from collections.abc import Iterator
from typing import Protocol

import wandb
from winnow.errors import ConfigError
from winnow.run_logs.wandb_run import FAILURES, reason, service_killed_after, set_environment, why_not_online

SAVE_SECONDS = 60.0
"""Bounds the some twenty requests of a report; one alone is given up after WANDB_HTTP_TIMEOUT."""


class Savable(Protocol):
    @property
    def url(self) -> str: ...

    def save(self) -> object: ...


def publish_dashboard(project: str) -> Iterator[str]:
    """Save a new report and a new workspace, and yield a line with the address of each. Older ones, which somebody may
    have edited, stay.

    Raises:
        ConfigError: `project` is not ENTITY/PROJECT or the server has no such project; wandb-workspaces is not
            installed; no key; the server does not answer. What was saved before has been said by then.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", project):
        raise ConfigError(f"{project}: not a project of W&B; type ENTITY/PROJECT, such as my-team/winnow")
    try:
        from winnow.run_logs.dashboard_views import report, workspace
    except ModuleNotFoundError as error:
        if error.name != "wandb_workspaces":
            raise
        raise ConfigError("winnow dashboard needs a package more; type pip install 'winnow-rl[dashboards]'") from None
    _log_in()
    entity, name = project.split("/")
    # The report first: it looks for the project before anything is saved.
    yield f"report: {_save_view('report', project, report(entity, name))}"
    yield f"workspace: {_save_view('workspace', project, workspace(entity, name))}"


def _log_in() -> None:
    set_environment()
    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # WANDB_MODE is about runs
    except FAILURES as error:
        raise ConfigError(f"nothing was saved to W&B: {reason(error)}") from None
    if problem := why_not_online():
        raise ConfigError(f"nothing was saved to W&B: {problem}")


def _save_view(what: str, project: str, view: Savable) -> str:
    try:
        with service_killed_after(SAVE_SECONDS):
            view.save()
            return view.url
    except FAILURES as error:
        raise ConfigError(f"{project}: the {what} was not saved ({reason(error)})") from None
