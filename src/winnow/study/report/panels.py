"""Panels of a report's figures: their sizes and axes, and the arms' styles and curves that they show."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MatplotlibAxis
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from winnow.run_logs.plot_style import INK, MUTED, tick_format
from winnow.study import packaged_yaml
from winnow.study.measures import Axis, Curve, curve
from winnow.study.statistics import UNBOUNDED, Bounds
from winnow.study.study import Arm, Study

ARM_STYLES: dict[str, dict[str, str]] = packaged_yaml("report/arm_styles.yaml")["arms"]
CYCLE: list[str] = packaged_yaml("report/arm_styles.yaml")["cycle"]
FAMILIES: dict[str, list[str]] = packaged_yaml("report/figures.yaml")["families"]
CAPTIONS: dict[str, dict[str, str]] = packaged_yaml("report/figures.yaml")["captions"]
NOTES: dict[str, str] = packaged_yaml("report/figures.yaml")["notes"]

DASHES = ((), (5, 1.6), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 1.5))
LONGEST_NAME = 1.33
"""Inches that fit beside a curve, for its name."""
LONG_NUMBER = re.compile(r"(?<==)-?\d*\.?\d{6,}(e[+-]?\d+)?(?=$| )")
"""Number of many digits as the value of a setting in an arm's title."""
CURVES_PER_PANEL = 7
"""Curves that can be told apart, and labelled, in one panel."""
STEPS = (1, 2, 2.5, 5, 10)
FONT_SIZE = 8.5
"""Points of a label; a page shows panels at 1 to 1.3 times their size."""


@dataclass(frozen=True, slots=True)
class Style:
    """An arm's name beside a curve, colours on the light and on the dark page, and dashes.

    `dash` alternates drawn and empty lengths in points; it is empty for a solid line.
    """

    label: str
    title: str
    light: str
    dark: str
    dash: tuple[float, ...]

    @property
    def linestyle(self):
        return (0, self.dash) if self.dash else "-"


def arm_styles(arms: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """The styles of arms, given as (label, title), by label. The paper's arms have the same colours in every study."""
    free = [name for name in CYCLE if name not in {label for label, _ in arms}] or CYCLE
    styles: dict[str, Style] = {}
    others = 0
    for position, (label, title) in enumerate(arms):
        source = label if label in ARM_STYLES else free[others % len(free)]
        others += source != label
        colours = ARM_STYLES[source]
        taken = [style.title for style in styles.values()]
        name = colours["name"] if source == label else _short_title(title, taken)
        styles[label] = Style(label, name, colours["light"], colours["dark"], DASHES[position % len(DASHES)])
    return styles


def _short_title(title: str, taken: Sequence[str]) -> str:
    """A title that fits beside a curve: `GRPO lr=1.12e-05` for `GRPO optim.lr=1.122977233797048e-05`.

    It is cut if it is still too long, and numbered if a name that is `taken` is the same.
    """
    short = re.sub(r"\S*[./](?=[^ ./]+=)", "", title)
    if _too_long(short):
        short = LONG_NUMBER.sub(lambda number: f"{float(number[0]):.3g}", short)
    for number in range(1, len(taken) + 2):
        mark = f" #{number}" if number > 1 else ""
        name = f"{short}{mark}"
        for end in range(len(short) - 1, 0, -1):
            if not _too_long(name):
                break
            name = f"{short[:end]}…{mark}"
        if name not in taken:
            return name
    raise AssertionError("more marks than names")


def _too_long(name: str) -> bool:
    return text_width(name, "bold") > LONGEST_NAME


@dataclass(frozen=True)
class FigureData:
    """A study to be drawn over the axis `x`: its arms' styles, and their curves, each of which is computed once."""

    study: Study
    x: Axis
    styles: dict[str, Style] = field(init=False)
    _curves: dict[tuple[str, str, Axis, Bounds], Curve] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "styles", arm_styles([(arm.label, arm.title) for arm in self.study.arms]))

    def curve(self, arm: Arm, metric: str, x: Axis | None = None, bounds: Bounds = UNBOUNDED) -> Curve:
        key = (arm.label, metric, x or self.x, bounds)
        if key not in self._curves:
            self._curves[key] = curve(arm, metric, x or self.x, bounds)
        return self._curves[key]

    def arms(self, labels: Iterable[str]) -> list[Arm]:
        """Those of the labelled arms that the study has."""
        return [arm for label in labels if (arm := self.study.arm(label))]

    @property
    def families(self) -> list[tuple[str, list[Arm]]]:
        """All arms, in groups that fit into a panel each and differ in name: the paper's two families, then the
        others."""
        arms = list(self.study.arms)
        if len(arms) <= CURVES_PER_PANEL:
            return [("", arms)]
        groups = [(name, self.arms(labels)) for name, labels in FAMILIES.items()]
        groups = [(name, members) for name, members in groups if members]
        others = [arm for arm in arms if not any(arm.label in labels for labels in FAMILIES.values())]
        parts = [others[i : i + CURVES_PER_PANEL] for i in range(0, len(others), CURVES_PER_PANEL)]
        if len(parts) == 1:
            return [*groups, ("others", parts[0])]
        word = "others, " if groups else ""
        return groups + [(f"{word}{number} of {len(parts)}", part) for number, part in enumerate(parts, 1)]


def describe_bands(arms: Sequence[Arm]) -> str:
    """Sentence on the bands around the arms' curves."""
    if all(len(arm.runs) < 2 for arm in arms):
        return "No band: one run of each arm."
    single = [arm.title for arm in arms if len(arm.runs) < 2]
    bands = f"Band: 95 % interval of the mean over seeds, point by point. {NOTES['cut']}"
    return f"{bands} No band for arms with one run: {', '.join(single)}." if single else bands


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a panel and of the margins around its axes, in inches."""

    width: float
    height: float
    left: float
    right: float
    top: float = 0.5
    bottom: float = 0.46


LINES = Frame(4.5, 2.95, left=0.55, right=1.52)
SMALL = Frame(2.15, 1.62, left=0.45, right=0.1, top=0.26, bottom=0.38)


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with `title` and `unit` above them. `draw` fills the axes, whose size is that of `frame`."""

    title: str
    unit: str
    draw: Callable[[Axes], None]
    frame: Frame = LINES


@dataclass(frozen=True, slots=True)
class Drawing:
    """Figure of a report. `name` names its files and its place on the page; `caption` is plain text. A row has at most
    `most_columns` panels."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    most_columns: int = 3

    @property
    def columns(self) -> int:
        """The number of columns that leaves the smallest share of the last row empty; four panels are two by two. Small
        panels stand four in a row or more, if there are as many."""
        panels = len(self.panels)
        fewest = min(panels, 4) if self.panels[0].frame == SMALL else 2
        columns = range(min(self.most_columns, panels), fewest - 1, -1)
        return min(columns, key=lambda n: (-panels % n) / n, default=1)


def captioned(
    name: str, panels: Sequence[Panel], notes: Sequence[str] = (), most_columns: int = 3, **values: str
) -> Drawing | None:
    """The figure `name` with its title and caption of `figures.yaml`, whose placeholders `values` fill, and with notes
    behind the caption; None without panels."""
    title, caption = (CAPTIONS[name][part].format(**values) for part in ("title", "caption"))
    return Drawing(name, title, " ".join([caption, *notes]).strip(), tuple(panels), most_columns) if panels else None


@dataclass(frozen=True, slots=True)
class EndLabel:
    """Label of a curve that ends at (x, y), in the units of the data."""

    text: str
    x: float
    y: float
    colour: str


def draw_heading(axes: Axes, title: str, unit: str) -> None:
    """Write a panel's title and unit above its axes."""
    width, height = size_in_points(axes)
    size = 10 if width > 130 else FONT_SIZE
    text = {"transform": axes.transAxes, "va": "bottom", "parse_math": False}
    axes.text(0, 1 + (18 if unit else 5) / height, title, fontsize=size, fontweight="bold", color=INK, **text)
    axes.text(0, 1 + 5 / height, unit, fontsize=FONT_SIZE, color=MUTED, **text)


def label_x(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=FONT_SIZE, color=MUTED, labelpad=2, parse_math=False)


def style_scale(axes: Axes, text: Callable[[float], str], xlabel: str, bins: int = 5, whole: bool = False) -> None:
    """Few ticks; `text` writes the values of the y axis. On an x axis that counts something, ticks are `whole`."""
    label_x(axes, xlabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=STEPS, integer=whole))
    axes.xaxis.set_major_formatter(tick_format(abbreviated))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
    axes.yaxis.set_major_formatter(tick_format(text))


def logarithmic_ticks(axis: MatplotlibAxis, limits: tuple[float, float], text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis at powers of ten, and at 2 and 5 times them where there are fewer than two powers."""
    low, high = limits
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if powers < 2 else (1,), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(tick_format(text))


def value_ticks(axes: Axes, values: Iterable[float], base: float) -> None:
    """Logarithmic x axis with a tick at each of the values, which also limit it."""
    ticks = sorted(set(values))
    axes.set_xscale("log", base=base)
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0], ticks[-1])


def mark_cut_ends(axes: Axes, points: Iterable[tuple[float, float]], colour: str) -> None:
    """Draw an arrow head at the edge of the axes for each point beyond it, in the units of the data: a bar that ends
    there goes on. The axes' limits must be final."""
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    bottom, top = min(low, high), max(low, high)
    for x, y in points:
        head = "<" if x < left else ">" if x > right else "v" if y < bottom else "^" if y > top else None
        if head in ("v", "^") and axes.yaxis_inverted():
            head = "v" if head == "^" else "^"
        if head:
            edge = min(max(x, left), right), min(max(y, bottom), top)
            axes.plot(
                *([value] for value in edge), color=colour, marker=head, markersize=5, linestyle="", clip_on=False
            )


def show_whole_dots(axes: Axes) -> None:
    """Show the dots at the edges of the axes as a whole: of lines without a point beyond the limits, which must be
    final."""
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    for line in axes.lines:
        x, y = (np.asarray(values, dtype=float) for values in line.get_data(orig=True))
        if line.get_marker() == "o" and ((left <= x) & (x <= right) & (low <= y) & (y <= high)).all():
            line.set_clip_on(False)


def abbreviated(value: float) -> str:
    """`1500000` as `1.5M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels at the right edge, as near to their curves' ends as they fit without touching. The axes' limits must
    be final."""
    width, height = size_in_points(axes)
    right = axes.get_xlim()[1]
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [to_axes.transform((label.x, label.y))[1] * height for label in labels]
    placed = spread_labels(wanted, FONT_SIZE + 2, 2.0, height - 2)
    for label, y in zip(labels, placed, strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1 + 9 / width, y / height),
            textcoords="axes fraction",
            fontsize=FONT_SIZE,
            fontweight="bold",
            color=label.colour,
            va="center",
            ha="left",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": label.colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 0,
                "shrinkB": 2 if label.x >= right else 4,
            },
        )


def spread_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near `wanted`, in the same order and at least `gap` apart, within [low, high] if there is room.

    Labels that would touch move as one block around the mean of their wanted heights, which is the least-squares
    solution.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # the height of a block's first label, and the number of its labels
    for i in order:
        start, size = wanted[i], 1
        while blocks and start < blocks[-1][0] + gap * blocks[-1][1]:
            start_before, size_before = blocks.pop()
            start = (start_before * size_before + (start - gap * size_before) * size) / (size_before + size)
            size += size_before
        blocks.append((start, size))
    heights = [start + gap * j for start, size in blocks for j in range(size)]
    heights = _pushed_up(heights, gap, low)
    heights = [-h for h in _pushed_up([-h for h in reversed(heights)], gap, -high)][::-1]
    return [heights[order.index(i)] for i in range(len(wanted))]


def _pushed_up(heights: Sequence[float], gap: float, low: float) -> list[float]:
    """Ascending heights, each raised to at least `low` and to a gap above the one before."""
    raised: list[float] = []
    for height in heights:
        raised.append(max(height, raised[-1] + gap if raised else low))
    return raised


def text_width(text: str, weight: str = "normal") -> float:
    """Inches that a label takes."""
    font = FontProperties(size=FONT_SIZE, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width / 72


def size_in_points(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    box = axes.get_window_extent()
    dpi = axes.figure.dpi  # pyright: ignore[reportOptionalMemberAccess]
    return 72 * box.width / dpi, 72 * box.height / dpi
