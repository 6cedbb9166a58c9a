"""One colour and one dash for an arm, the same in every figure, on white and on the dark page."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

INK, MUTED, GRID, PAPER = "#1f2328", "#5c656f", "#e4e7ea", "#ffffff"
GOOD, BAD = "#1a5fb4", "#b5480f"
"""More and less, or right and wrong: blue and orange, which no common colour blindness confuses."""

DASHES = ((), (5, 1.6), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 1.5))
LONGEST = 20
"""Characters of a label that fit beside a curve."""


@dataclass(frozen=True, slots=True)
class Style:
    """`light` and `dark` are for the two pages, `dash` is in points: drawn, left out, drawn, …; empty for a solid line."""

    label: str
    title: str
    light: str
    dark: str
    dash: tuple[float, ...]


# Searched for: the smallest distance in OKLab between two arms of one figure of the paper, to eyes of normal vision and under
# Machado's (2009) full deuteranopia, protanopia and tritanopia, is as large as contrast with the page (3.4 and 5) lets it be.
ARM_COLOURS = {
    "raft": ("RAFT", "#693c01", "#a9820d"),
    "raftpp": ("RAFT++", "#9f5b57", "#db908c"),
    "raftpp_no_clip": ("RAFT++ no clip", "#8e016d", "#de51b1"),
    "raftpp_clip_higher": ("RAFT++ clip-higher", "#9c8b0a", "#ecdb70"),
    "grpo": ("GRPO", "#2b3eaf", "#737eff"),
    "reinforce": ("Reinforce", "#394051", "#868a90"),
    "mean_zero": ("Mean zero", "#568fbe", "#b6ddfe"),
    "remove_all_correct": ("Remove all correct", "#d91918", "#fea061"),
    "remove_all_wrong": ("Remove all wrong", "#850502", "#e15e33"),
    "reinforce_rej": ("Reinforce-Rej", "#007d5a", "#6cffb2"),
    "remove_both_std": ("Reinforce-Rej + std", "#7e56e5", "#c99bde"),
    "ppo": ("PPO", "#4d902f", "#83ca91"),
    "dpo": ("Iterative DPO", "#ab1d39", "#bd7191"),
}
"""Name beside a curve, colour on white and on the dark page."""
CYCLE = (
    "grpo",
    "remove_all_correct",
    "reinforce_rej",
    "raftpp_no_clip",
    "mean_zero",
    "raft",
    "remove_both_std",
    "reinforce",
    "raftpp_clip_higher",
    "ppo",
    "raftpp",
    "dpo",
    "remove_all_wrong",
)
"""Whose colours other arms take, neighbours far apart."""


def arm_styles(arms: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """(label, title) of each arm, in order, to their styles by label. The paper's arms keep their colours in any study."""
    free = [name for name in CYCLE if name not in {label for label, _ in arms}] or list(CYCLE)
    given: dict[str, Style] = {}
    others = 0
    for position, (label, title) in enumerate(arms):
        own = label if label in ARM_COLOURS else free[others % len(free)]
        others += own != label
        name, light, dark = ARM_COLOURS[own]
        short = name if own == label else _short_title(title, [style.title for style in given.values()])
        given[label] = Style(label, short, light, dark, DASHES[position % 5])
    return given


def _short_title(title: str, taken: Sequence[str]) -> str:
    """A title that fits beside a curve: `GRPO lr=1e-5` of `GRPO optim.lr=1e-5`, cut where it is still long, numbered where that
    makes two alike."""
    short = re.sub(r"\S*[./](?=[^ ./]+=)", "", title)
    short = short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"
    alike = sum(other.split(" #")[0] == short for other in taken)
    return f"{short} #{alike + 1}" if alike else short


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


STEPS = (1, 2, 2.5, 5, 10)
FONT_SIZE = 8.5
"""Points of a label; a page shows panels at 1 to 1.3 times their size."""


@dataclass(frozen=True, slots=True)
class EndLabel:
    """A label for what ends at (x, y), in the units of the data."""

    text: str
    x: float
    y: float
    colour: str


def draw_heading(axes: Axes, title: str, unit: str) -> None:
    width, height = _size_in_points(axes)
    size = 10 if width > 130 else FONT_SIZE
    words = {"transform": axes.transAxes, "va": "bottom", "parse_math": False}
    axes.text(0, 1 + (18 if unit else 5) / height, title, fontsize=size, fontweight="bold", color=INK, **words)
    axes.text(0, 1 + 5 / height, unit, fontsize=FONT_SIZE, color=MUTED, **words)


def style_axes(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.set_facecolor("none")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=MUTED)


def style_scale(axes: Axes, text: Callable[[float], str], xlabel: str, bins: int = 5) -> None:
    """Few ticks, values as `text` writes them."""
    axes.set_xlabel(xlabel, fontsize=FONT_SIZE, color=MUTED, labelpad=2, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: abbreviated(value)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def logarithmic_ticks(axis: Axis, limits: tuple[float, float], text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis: decades, and within less than two of them twos and fives."""
    low, high = limits
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def abbreviated(value: float) -> str:
    """`1500000` as `1.5M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def label_ends(axes: Axes, names: Sequence[EndLabel]) -> None:
    """Write names at the right edge, as near to their heights as they fit without touching. Call when limits are final."""
    height = _size_in_points(axes)[1]
    right = axes.get_xlim()[1]
    to_height = [axes.transAxes.inverted().transform(axes.transData.transform((n.x, n.y)))[1] * height for n in names]
    placed = spread_labels(to_height, FONT_SIZE + 2, 2.0, height - 2)
    width = _size_in_points(axes)[0]
    for name, y in zip(names, placed, strict=True):
        axes.annotate(
            name.text,
            xy=(name.x, name.y),
            xytext=(1 + 9 / width, y / height),
            textcoords="axes fraction",
            fontsize=FONT_SIZE,
            fontweight="bold",
            color=name.colour,
            va="center",
            ha="left",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": name.colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 0,
                "shrinkB": 2 if name.x >= right else 4,
            },
        )


def spread_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near to `wanted`, in the same order, at least `gap` apart and within [low, high] where that has room.

    Neighbours that touch are moved as one block around the mean of what they want: the least squares solution.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # where the first of a block goes, and how many it has
    for i in order:
        start, size = wanted[i], 1
        while blocks and start < blocks[-1][0] + gap * blocks[-1][1]:
            before, many = blocks.pop()
            start = (before * many + (start - gap * many) * size) / (many + size)
            size += many
        blocks.append((start, size))
    heights = [start + gap * j for start, size in blocks for j in range(size)]
    heights = _upwards(heights, gap, low)
    heights = [-h for h in _upwards([-h for h in reversed(heights)], gap, -high)][::-1]
    return [heights[order.index(i)] for i in range(len(wanted))]


def _upwards(heights: Sequence[float], gap: float, low: float) -> list[float]:
    """Ascending heights pushed up until each is at or above `low` and a gap above the one before."""
    pushed: list[float] = []
    for height in heights:
        pushed.append(max(height, pushed[-1] + gap if pushed else low))
    return pushed


def _size_in_points(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    box = axes.get_window_extent()
    dpi = axes.figure.dpi  # pyright: ignore[reportOptionalMemberAccess]
    return 72 * box.width / dpi, 72 * box.height / dpi
