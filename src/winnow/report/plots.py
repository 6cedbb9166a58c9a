"""`curves.png`: what a run did, in six panels, from `metrics.jsonl` alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from winnow.report.run_files import RunFiles

INK, MUTED, GRID = "#1f2328", "#6e7781", "#e6e8eb"
COLOURS = ("#1f6feb", "#d1691f", "#2a8a4a", "#8250df", "#b35900", "#cf222e")
WIDTH, HEIGHT, DPI = 12.0, 6.4, 100


@dataclass(frozen=True)
class Panel:
    """A title, what its unit is, and the metric drawn: a key, or every key between a prefix and a suffix."""

    title: str
    unit: str
    prefix: str
    suffix: str = ""
    percent: bool = False
    from_zero: bool = False

    def keys(self, rows: Sequence[dict[str, float]]) -> list[str]:
        named = dict.fromkeys(key for row in rows for key in row)
        if not self.suffix:
            return [self.prefix] if self.prefix in named else []
        return [key for key in named if key.startswith(self.prefix) and key.endswith(self.suffix)]


PANELS = (
    Panel("Held-out accuracy", "% of samples correct", "eval/", "/acc", percent=True),
    Panel("Reward", "mean of the samples", "train/reward/mean"),
    Panel("Response length", "mean, tokens", "rollout/length/mean"),
    Panel("KL to the initial model", "k3 estimate, nats a token", "train/kl_ref", from_zero=True),
    Panel("Entropy", "of the sampler, nats a token", "train/entropy", from_zero=True),
    Panel("Clip fraction", "% of trained tokens", "train/clip_frac", percent=True, from_zero=True),
)


def draw_run(directory: Path) -> Path:
    """Draw a run's `curves.png`, 1200 × 640 pixels, and return its path. A panel without data says so."""
    rows = RunFiles(directory).rows()
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained", facecolor="white")
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        _draw(axes, panel, rows)
    if headline := _headline(directory):
        figure.suptitle(headline, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)
    path = directory / "curves.png"
    figure.savefig(path)
    return path


def _draw(axes: Axes, panel: Panel, rows: Sequence[dict[str, float]]) -> None:
    _dress(axes, panel)
    curves = {key: _points(rows, key) for key in panel.keys(rows)}
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set(xticks=[], yticks=[])
        return
    for (key, points), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        _curve(axes, panel, points, colour, key if len(curves) > 1 else "")
    _limits(axes, panel)


def _points(rows: Sequence[dict[str, float]], key: str) -> list[tuple[float, float]]:
    return [(row["iteration"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]


def _curve(axes: Axes, panel: Panel, points: Sequence[tuple[float, float]], colour: str, name: str) -> None:
    """The line, a dot at its end and the value beside it: a reader should not have to measure along the axis."""
    x, y = zip(*points, strict=True)
    axes.plot(x, y, color=colour, linewidth=1.8, solid_joinstyle="round", marker="o" if len(x) < 12 else None, markersize=4)
    axes.plot(x[-1:], y[-1:], color=colour, marker="o", markersize=5)
    axes.annotate(
        f"{_set_of(panel, name)} {_value(panel, y[-1])}".strip(),
        (x[-1], y[-1]),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontweight="bold",
        annotation_clip=False,
    )


def _set_of(panel: Panel, key: str) -> str:
    return key.removeprefix(panel.prefix).removesuffix(panel.suffix)


def _value(panel: Panel, value: float) -> str:
    return f"{value:.0%}" if panel.percent else f"{value:.3g}"


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=20)
    axes.text(0, 1.03, panel.unit, transform=axes.transAxes, fontsize=9, color=MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)


def _limits(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel("iteration", fontsize=9, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if panel.from_zero:
        axes.set_ylim(bottom=0)


def _headline(directory: Path) -> str:
    """`grpo · tiny · arithmetic · seed 1`, once the run has a summary."""
    path = directory / "summary.json"
    if not path.exists():
        return ""
    summary = json.loads(path.read_text(encoding="utf-8"))
    return f"{summary['algo']} · {summary['model']} · {summary['dataset']} · seed {summary['seed']}"
