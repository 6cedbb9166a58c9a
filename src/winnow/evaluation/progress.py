"""How far an evaluation is: a bar on a terminal, a line a batch in a file or a pipe."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from winnow.report.console import print_line


class Progress:
    """Counts a set's responses; what an earlier process drew is there from the start, and has no part in speed or accuracy."""

    def __init__(self, terminal: bool | None = None) -> None:
        self._bar: Bar | None = None
        if sys.stdout.isatty() if terminal is None else terminal:
            self._bar = Bar(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                console=Console(file=sys.stdout, force_terminal=True),
                expand=True,
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, total: int, there: int) -> None:
        """A set of `total` responses comes next, of which `there` are on disk."""
        self.total, self.done = total, there
        self.name, self.drawn, self.correct, self.tokens, self._began = name, 0, 0, 0, time.perf_counter()
        if there:
            self._say(f"{name}: {there} responses are there already")
        self._show()

    def advance(self, responses: int, correct: int, tokens: int) -> None:
        self.done += responses
        self.drawn, self.correct, self.tokens = self.drawn + responses, self.correct + correct, self.tokens + tokens
        if self._bar is None:
            speed = self.tokens / (time.perf_counter() - self._began)
            print_line(
                f"{self.name}  {self.done:>{len(str(self.total))}}/{self.total} responses  "
                f"right {self.correct / self.drawn:6.1%}  tokens/s {speed:7,.0f}"
            )
        self._show()

    def _say(self, line: str) -> None:
        print_line(line) if self._bar is None else self._bar.console.print(line, markup=False, highlight=False)

    def _show(self) -> None:
        if self._bar is not None:
            right = f"  {self.correct / self.drawn:.1%} right" if self.drawn else ""
            self._bar.update(self._task, completed=self.done, total=self.total, description=f"{self.name}{right}")
