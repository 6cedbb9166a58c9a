"""Winnow as a library: `winnow.train(…)` in a script or notebook, and the run that it returns."""

import io
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.errors import ConfigError
from winnow.launch import programs
from winnow.launch.in_process import run_in_process
from winnow.run_logs.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """A run, as its directory has it now; it may be going on.

    Attributes:
        directory: The run directory, as an absolute path.
    """

    directory: Path

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> "Run":
        """The run in `directory`.

        Raises:
            ConfigError: there is none.
        """
        path = Path(directory).absolute()
        if not (path / "metrics.jsonl").is_file():
            raise ConfigError(f"{directory}: no run directory (metrics.jsonl is missing); name outputs/DAY/NAME")
        return cls(path)

    @property
    def rows(self) -> list[dict[str, float]]:
        """The metrics, a dictionary for each iteration (docs/metrics.md), `iteration` among its keys."""
        return RunFiles(self.directory).rows()

    @property
    def metrics(self) -> Any:
        """The metrics as a `pandas.DataFrame` with the iteration as index; without pandas installed, the `rows`."""
        if find_spec("pandas") is None:
            return self.rows
        return import_module("pandas").DataFrame(self.rows).set_index("iteration")

    @property
    def summary(self) -> dict[str, object]:
        """The end of the run, as in `summary.json`: `status`, `eval_first`, `eval_last`, `seconds` …"""
        return RunFiles(self.directory).read_summary()

    @property
    def model(self) -> Path:
        """The trained model, a folder that `AutoModelForCausalLM.from_pretrained` loads once the run has ended."""
        return self.directory / "export"

    def curves(self) -> "Figure":
        """The six panels of `curves.png` as a matplotlib figure."""
        from winnow.run_logs.curves import figure_of  # imports matplotlib

        return figure_of(self.directory)

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows of a run."""
        file = io.BytesIO()
        self.curves().savefig(file, format="png")
        return file.getvalue()


def train(*overrides: str, config_dir: str | PathLike[str] | None = None) -> Run:
    """Train in this process as `winnow train OVERRIDES` would, and return the run when it has ended.

    Args:
        overrides: The words of the command line, such as "algo=grpo", "iterations=20", "resume=last".
        config_dir: A directory of your own YAML files, as for `--config-dir`.

    Raises:
        ConfigError: an override is wrong, or the model or the data cannot be loaded; nothing was written.
        Diverged: the run was ended because its numbers were not finite, or its samples not the policy's.
        DiskFailure: the disk is full or cannot be written.
        KeyboardInterrupt: Ctrl-C, or the notebook's button. The state after the last iteration is saved:
            `train("resume=last")` goes on.
    """
    for word in overrides:
        if word.startswith("-"):
            raise ConfigError(f"{word}: takes overrides only; options, and sweeps, are for `winnow train` in a shell")
    place = [] if config_dir is None else ["--config-dir", str(config_dir)]
    ended = run_in_process(programs.installed("train"), [*place, *overrides])
    assert ended.directory is not None  # a sweep was refused
    return Run(ended.directory.absolute())
