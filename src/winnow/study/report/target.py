"""Place of a report: the files that it writes, and a check that none of them is somebody else's."""

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from winnow.errors import ConfigError
from winnow.files import read_regular

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
MARK = "winnow report"
"""Words that every report contains, in the command that repeats it."""


@dataclass(frozen=True, slots=True)
class Target:
    """The page of a report, in a directory with `report.md` and `figures/` unless it is to stand `alone`."""

    page: Path
    alone: bool

    @property
    def directory(self) -> Path:
        return self.page.parent


def report_target(directories: Sequence[Path], out: Path | None, alone: bool) -> Target:
    """The place that `out` names: a directory, or for a page that stands alone also a file NAME.html. By default it is
    the first of the study's directories.

    Raises:
        ConfigError: `out` is neither, or a file that is in the way is not a report's.
    """
    place = out or directories[0]
    names_page = alone and place.suffix == ".html" and not place.is_dir()
    target = Target(place if names_page else place / PAGE, alone)
    if out is not None:
        _refuse_files(out, target)
    _refuse_foreign(target)
    return target


def _refuse_files(out: Path, target: Target) -> None:
    """Refuse a path that is, leads through, or is named like a file."""
    kind = mimetypes.guess_type(out.name)[0] or ""
    looks_like_file = kind.startswith(("text/", "image/")) or kind == "application/pdf"
    if target.page != out and (out.is_file() or (looks_like_file and not out.exists())):
        what = "is a file" if out.exists() else "looks like a file"
        raise ConfigError(
            f"--out {out}: {what}, and a report is a directory; type a directory, or --self-contained --out NAME.html"
        )
    taken = next((path for path in (target.directory, *target.directory.parents) if path.exists()), None)
    if taken is not None and not taken.is_dir():
        raise ConfigError(f"--out {out}: {taken} is a file; type a directory")


def _refuse_foreign(target: Target) -> None:
    """Refuse to overwrite what no report wrote. Where there is a page of ours, the files beside it are ours too."""
    beside = [] if target.alone else [target.directory / TEXT]
    for path in (target.page, *beside):
        if path.exists() and not _is_report(path):
            raise ConfigError(f"{path} is not a report, and is kept; type another directory: --out DIR")
    figures = target.directory / FIGURES
    ours = any(path.exists() for path in (target.page, *beside))
    if not target.alone and not ours and figures.exists() and not (figures.is_dir() and not any(figures.iterdir())):
        raise ConfigError(f"{figures} is not a report's, and is kept; type another directory: --out DIR")


def _is_report(path: Path) -> bool:
    try:
        return MARK.encode() in read_regular(path)
    except OSError:
        return False
