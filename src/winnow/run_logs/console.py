"""Progress for whoever watches: a bar on a terminal, a line an iteration in a file or a pipe."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console as Screen
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

ConsoleRow = Mapping[str, float | int]


class RunConsole:
    """A run's progress, as a context manager.

    On a terminal the bar shows the phase, the last known value of each metric, and the time left. Elsewhere every
    iteration is one line of fixed columns, so that `grep` and `column` see a table; what it did not measure is `-`:

        iteration   12/200  reward +0.413  kl  0.0127  entropy  0.281  held-out  71.5%  tokens/s   8,934

    Args:
        terminal: None asks standard output.
    """

    def __init__(self, total_iterations: int, terminal: bool | None = None) -> None:
        self.total = total_iterations
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self._known: dict[str, float | int] = {}
        self._bar: _MetricBar | None = None

    def __enter__(self) -> Self:
        if self.terminal:
            self._bar = _MetricBar()
            self._task = self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.update(self._task, description="")
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line for the user, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(line)

    def phase(self, name: str) -> None:
        """What is happening now, e.g. "sampling": shown on the bar only."""
        if self._bar:
            self._bar.update(self._task, description=name)

    def iteration(self, row: ConsoleRow) -> None:
        """An iteration is done; `row` is its row of `metrics.jsonl`."""
        if self._bar is None:
            return self.say(f"iteration {int(row['iteration']):{len(str(self.total))}}/{self.total}  {_fields(row)}")
        first = not self._known
        self._known |= row
        if first:  # of a resumed run: the iterations before it took this process no time
            self._bar.reset(self._task, completed=int(row["iteration"]))
        self._bar.metrics = _fields(self._known)
        self._bar.update(self._task, completed=row["iteration"])


def print_line(line: str) -> None:
    """To whoever still reads: `| head` is no reason to lose a run."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _MetricBar(Progress):
    """A bar with the metrics on a line of their own: beside the bar they would not fit into 80 columns."""

    metrics = ""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=Screen(file=sys.stdout, force_terminal=True),
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.metrics, no_wrap=True, overflow="ellipsis")


def _fields(row: ConsoleRow) -> str:
    shown = (
        _field("reward", row.get("train/reward/mean"), 6, "{:+.3f}".format),
        _field("kl", row.get("train/kl_ref"), 7, "{:.4f}".format),
        _field("entropy", row.get("train/entropy"), 6, "{:.3f}".format),
        _field("held-out", _accuracy(row), 6, "{:.1%}".format),
        _field("tokens/s", row.get("perf/tokens_per_s"), 7, "{:,.0f}".format),
    )
    return "  ".join(shown)


def _field(name: str, value: float | None, width: int, text: Callable[[float], str]) -> str:
    return f"{name} {'-' if value is None or math.isnan(value) else text(value):>{width}}"


def _accuracy(row: ConsoleRow) -> float | None:
    """Held-out accuracy on the first evaluation set."""
    return next((row[key] for key in row if key.startswith("eval/") and key.endswith("/acc")), None)
