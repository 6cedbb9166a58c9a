"""Datasets on the Hugging Face hub: their files in the cache, downloaded at most once, at a known revision.

A dataset that is cached is read without asking the hub, so that it stays as it was when it was first read; `revision`
asks for another one. The package `datasets` is not needed: which files belong to a subset and a split is read from the
dataset's card and from the files' names (`winnow.data.hub_splits`).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from winnow.data.files import Rows, rows_of_data_file
from winnow.data.hub_splits import CARD, Choice, chosen_files
from winnow.errors import ConfigError
from winnow.files import cache_directory, parsed_json, replace_json
from winnow.jsonl import BadRow
from winnow.models.hub_access import require_reachable

NEWEST = "main"


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub, at a `revision` (a branch, tag or commit; None: the cached one, or else the newest)."""

    repository: str
    choice: Choice
    revision: str | None = None

    def rows(self, instead: str) -> Rows:
        """The rows of the chosen files, in order of their paths. Messages about what to do end with `instead`.

        Raises:
            ConfigError: the dataset cannot be downloaded, has no such files, or one of them cannot be read.
        """
        paths = self.paths(instead)
        stems = [path.name.split(".")[0] for path in paths]
        for path, stem in zip(paths, stems, strict=True):
            name = stem if stems.count(stem) == 1 else f"{path.parent.name}/{path.name}"
            for row in rows_of_data_file(path):
                yield row if isinstance(row, BadRow) else row._replace(place=f"{name} {row.place}")

    def paths(self, instead: str) -> list[Path]:
        """The chosen files, in order of their paths, downloaded if they are not cached.

        Raises:
            ConfigError: as `rows`.
        """
        return self._cached() or self._downloaded(instead)

    @property
    def commit(self) -> str | None:
        """The commit that the cached files belong to; None where nothing is cached."""
        if self.revision is not None and (self._folder / "snapshots" / self.revision).is_dir():
            return self.revision
        with suppress(OSError):
            return (self._folder / "refs" / (self.revision or NEWEST)).read_text().strip()
        return None

    @property
    def _folder(self) -> Path:
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repository, repo_type="dataset")

    def _listing(self, commit: str) -> Path:
        return cache_directory() / "hub" / self._folder.name / f"{commit}.json"

    def _cached(self) -> list[Path] | None:
        """The chosen files, if all of them are cached; None if not, or if that cannot be told."""
        commit = self.commit
        if commit is None:
            return None
        try:
            names = parsed_json(self._listing(commit).read_bytes())
        except (OSError, ValueError):
            return None
        assert isinstance(names, list)
        folder = self._folder / "snapshots" / commit
        card = folder / CARD
        if CARD in names and not card.is_file():
            return None
        paths = [folder / name for name in self._chosen(names, card)]
        return paths if all(path.is_file() for path in paths) else None

    def _downloaded(self, instead: str) -> list[Path]:
        try:
            info = require_reachable(self.repository, "dataset", instead, self.revision)
        except ConfigError:
            if (found := self._found_in_cache()) is None:
                raise
            return found
        names = sorted(file.rfilename for file in info.siblings or () if ".." not in file.rfilename.split("/"))
        try:
            card = self._folder / "snapshots" / info.sha / CARD
            if CARD in names:
                card = Path(hf_hub_download(self.repository, CARD, repo_type="dataset", revision=info.sha))
            chosen = self._chosen(names, card)
            # By its name and not by its commit, so that the cache knows what the name stands for.
            folder = snapshot_download(
                self.repository,
                repo_type="dataset",
                revision=self.revision or NEWEST,
                allow_patterns=[escape(name) for name in chosen],
            )
        except (OSError, EntryNotFoundError) as error:  # of the connection or the disk
            raise ConfigError(
                f"dataset {self.repository} could not be downloaded ({type(error).__name__}: {_first_line(error)}); "
                f"try again, or {instead}"
            ) from error
        paths = [Path(folder) / name for name in chosen]
        with suppress(OSError):
            self._listing(info.sha).parent.mkdir(parents=True, exist_ok=True)
            replace_json(self._listing(info.sha), names)
        return paths

    def _found_in_cache(self) -> list[Path] | None:
        """The chosen files of those that another program has cached, for a machine that cannot reach the hub."""
        with suppress(LocalEntryNotFoundError):
            folder = Path(
                snapshot_download(
                    self.repository,
                    repo_type="dataset",
                    revision=self.revision,
                    allow_patterns=self.choice.files,
                    local_files_only=True,
                )
            )
            names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            with suppress(ConfigError):
                return [folder / name for name in self._chosen(names, folder / CARD)]
        return None

    def _chosen(self, names: Sequence[str], card: Path) -> list[str]:
        text = ""
        with suppress(OSError, UnicodeError):
            text = card.read_text(encoding="utf-8")
        return chosen_files(self.repository, names, text, self.choice)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
