"""What a figure is: panels of fixed sizes, each drawn on axes of its own, so that a page can lay them out anew on a phone."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Frame:
    """Sizes in inches: of the panel, and of the margins around its axes."""

    width: float
    height: float
    left: float
    right: float
    top: float = 0.5
    bottom: float = 0.46

    @property
    def plot(self) -> tuple[float, float]:
        """Width and height of the axes, in points."""
        return 72 * (self.width - self.left - self.right), 72 * (self.height - self.top - self.bottom)


LINES = Frame(4.5, 2.95, left=0.55, right=1.52)
SMALL = Frame(2.15, 1.62, left=0.45, right=0.1, top=0.26, bottom=0.38)


def rows_frame(rows: int) -> Frame:
    """For `rows` labelled rows with a column of words at the right."""
    return Frame(5.0, 1.0 + 0.27 * rows, left=1.45, right=1.5)


@dataclass(frozen=True, slots=True)
class Panel:
    """`draw` fills axes whose size is `frame`'s; `title` and `unit` stand above them."""

    title: str
    unit: str
    draw: Callable[[Axes], None]
    frame: Frame = LINES


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the report. `name` is that of its files and of its place in the page; `caption` is plain text."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 3
