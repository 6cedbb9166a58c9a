"""Plot style shared by a run's `curves.png` and by the figures of reports: palette, axes and smoothing."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

INK, MUTED, GRID, PAPER = "#1f2328", "#5c656f", "#e4e7ea", "#ffffff"
PALETTE = ("#1a5fb4", "#b5480f", "#007d5a", "#7e56e5", "#8a7a08", "#c2185b")
"""Colours of curves, in order."""
GOOD, BAD = PALETTE[:2]
"""Blue and orange for more and less, or right and wrong: no common colour blindness confuses them."""
SMOOTHED_FROM = 20
"""Number of points above which a curve of training iterations is drawn as a running mean."""

Values = NDArray[np.float64]


def style_axes(axes: Axes, font_size: float) -> None:
    """Horizontal and vertical grid lines instead of a box and tick marks."""
    axes.spines[:].set_visible(False)
    axes.set_facecolor("none")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=font_size, labelcolor=MUTED)


def format_value(value: float, percent: bool) -> str:
    """Three significant digits: `0.25`, or `25%`."""
    return f"{100 * value:.3g}%" if percent else f"{value:.3g}"


def tick_format(text: Callable[[float], str]) -> FuncFormatter:
    """Tick labels as `text` writes them, with the typographic minus sign."""
    return FuncFormatter(lambda value, _: text(value).replace("-", "−"))


def smoothing_window(points: int) -> int:
    """Width of the running mean: 1, which is none, up to `SMOOTHED_FROM` points, and then about a tenth of the points
    (an odd number, at most 21)."""
    return min(21, points // 20 * 2 + 1) if points > SMOOTHED_FROM else 1


def running_mean(values: Values, window: int) -> Values:
    """Centred running mean, which does not lag behind the curve.

    The window narrows towards the first point, so that the mean starts where the curve starts. At the last points it
    takes what there is.
    """
    half = window // 2
    reach = [(i, min(i, half)) for i in range(len(values))]
    return np.array([values[i - back : i + back + 1].mean() for i, back in reach])
