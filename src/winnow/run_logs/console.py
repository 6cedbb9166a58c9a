"""Progress on standard output: a bar on a terminal, plain lines in a file or a pipe."""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from rich.console import Console as Screen
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from winnow.visible_text import visible

ConsoleRow = Mapping[str, float | int]


SAID = logging.getLogger("winnow.console")
"""Gets every line that is printed, for `run_log.RunLog`."""
SAID.propagate = False
SAID.setLevel(logging.INFO)
SAID.addHandler(logging.NullHandler())


def print_line(line: str) -> None:
    """Print a line at once. If the reader has gone (`| head`), the terminal is closed or the disk behind a redirection
    is full, later output is discarded instead of ending the run."""
    SAID.info("%s", visible(line))
    try:
        print(visible(line), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ProgressDisplay:
    """Progress bar if standard output is a terminal, lines otherwise; the bar lives as long as the `with` block.

    Args:
        terminal: Whether to show the bar; None means that standard output decides.
        description_width: Columns that the text before the bar takes at least.
        line_below: Whether the bar has a line of text below it.
    """

    def __init__(self, terminal: bool | None, description_width: int, line_below: bool = False) -> None:
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self._width, self._below = description_width, "" if line_below else None
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        if self.terminal:
            self._bar = _Bar(self._width, self._below)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line for the user, above the bar if there is one."""
        if self._bar:
            SAID.info("%s", visible(line))
            self._bar.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(line)

    def show(self, completed: float | None = None, total: float | None = None, description: str | None = None) -> None:
        """Update the bar, if there is one. None leaves a value as it is."""
        if self._bar:
            self._bar.update(self._task, completed=completed, total=total, description=description)


class RunConsole(ProgressDisplay):
    """Progress of a training run.

    On a terminal the bar shows the phase, the last known value of each metric, and the time left. Otherwise every
    iteration prints one line of fixed columns, so that `grep` and `column` can read it as a table; `-` stands for a
    value that the iteration did not measure:

        iteration   12/200  reward +0.413  kl  0.0127  entropy  0.281  held-out  71.5%  tokens/s   8,934

    With a collector that draws other numbers of samples than it trains on, what an iteration drew is the last column,
    and the first below a bar, where a narrow terminal cuts the end off.
    """

    def __init__(self, total_iterations: int, terminal: bool | None = None) -> None:
        super().__init__(terminal, description_width=11, line_below=True)
        self.total = total_iterations
        self._known: dict[str, float | int] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self.show(0, self.total)
        return self

    def __exit__(self, *raised: object) -> None:
        self.phase("")
        super().__exit__(*raised)

    def phase(self, name: str) -> None:
        """Show what is happening now, such as "sampling"; on the bar only."""
        self.show(description=name)

    def iteration(self, row: ConsoleRow) -> None:
        """Show that an iteration has ended; `row` is its row of `metrics.jsonl`."""
        if self._bar is None:
            number = f"{int(row['iteration']):{len(str(self.total))}}/{self.total}"
            return self.say(f"iteration {number}  {_fields(row)}{_drawn(row, '  {}')}")
        if not self._known:  # The iterations before a resume took this process no time.
            self._bar.reset(self._task, completed=int(row["iteration"]))
        self._known |= row
        self._bar.below = f"{_drawn(self._known, '{}  ')}{_fields(self._known)}"
        self.show(row["iteration"])


class _Bar(Progress):
    """A bar with an optional line below it: metrics beside the bar would not fit into 80 columns."""

    def __init__(self, description_width: int, below: str | None) -> None:
        self.below = below
        super().__init__(
            TextColumn(f"{{task.description:<{description_width}}}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=Screen(file=sys.stdout, force_terminal=True),
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below is not None:
            yield Text(self.below, no_wrap=True, overflow="ellipsis")


def _fields(row: ConsoleRow) -> str:
    shown = (
        _field("reward", row.get("train/reward/mean"), 6, "{:+.3f}".format),
        _field("kl", row.get("train/kl_ref"), 7, "{:.4f}".format),
        _field("entropy", row.get("train/entropy"), 6, "{:.3f}".format),
        _field("held-out", _accuracy(row), 6, "{:.1%}".format),
        _field("tokens/s", row.get("perf/tokens_per_s"), 7, "{:,.0f}".format),
    )
    return "  ".join(shown)


def _drawn(row: ConsoleRow, place: str) -> str:
    """The samples that a collector has drawn, in their `place`; nothing where an iteration trains on all it draws."""
    samples = row.get("rollout/samples")
    return "" if samples is None else place.format(_field("drawn", samples, 5, "{:,.0f}".format))


def _field(name: str, value: float | None, width: int, text: Callable[[float], str]) -> str:
    return f"{name} {'-' if value is None or math.isnan(value) else text(value):>{width}}"


def _accuracy(row: ConsoleRow) -> float | None:
    """Held-out accuracy on the first evaluation set."""
    return next((row[key] for key in row if key.startswith("eval/") and key.endswith("/acc")), None)
