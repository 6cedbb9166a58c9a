"""`winnow export RUN hub:OWNER/NAME`: a checkpoint of a run as a repository of a Hugging Face hub."""

import tempfile
from pathlib import Path

from winnow.assemble.export import export_checkpoint
from winnow.config.saved_runs import SavedRun
from winnow.models.hub_repository import Repository


def publish_checkpoint(run: SavedRun, repository: str, iteration: str, private: bool, dry_run: bool) -> str:
    """Upload a checkpoint of `run` as one commit to the model repository `repository`, which is made if there is none.

    With `dry_run` nothing is asked or sent; the returned lines say what would be. An existing repository stays private
    or public.

    Raises:
        ConfigError: there is no such checkpoint, or the hub refuses or does not answer.
    """
    target = Repository.named(repository)
    if not dry_run:
        target.require_account()  # before the work of an export
    with tempfile.TemporaryDirectory(prefix="winnow-publish-") as name:
        folder = Path(name) / "export"
        about = export_checkpoint(run, folder, iteration)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = [f"  {path.stat().st_size:>14,} bytes  {path.relative_to(folder)}" for path in files]
        if dry_run:
            kind = "private" if private else "public"
            return "\n".join([about, f"would be uploaded to {target.id}, which would be made {kind} if new:", *listed])
        address = target.upload(folder, private, about.splitlines()[-1])
    return "\n".join([about, *listed, address])
