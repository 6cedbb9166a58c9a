"""Curves of one run, drawn as the six panels of its `curves.png` from `metrics.jsonl`."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from winnow.run_logs.plot_style import (
    INK,
    MUTED,
    PALETTE,
    format_value,
    running_mean,
    smoothing_window,
    style_axes,
    tick_format,
)
from winnow.run_logs.run_files import RunFiles

SIZE, DPI, FONT_SIZE = (12.0, 6.6), 100, 9
DOTTED_UP_TO = 12
"""Curves of at most so many points get a dot at each point."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurvePanel:
    """Panel of `curves.png`: the curve of the metric `prefix`, or of every metric from `prefix` to `suffix`, or, with
    `total`, of these beside the metric of that name."""

    title: str
    unit: str
    prefix: str
    suffix: str = ""
    percent: bool = False
    from_zero: bool = False
    smooth: bool = True
    total: str = ""

    def curves(self, rows: Sequence[Mapping[str, float]]) -> dict[str, Points]:
        """The finite (iteration, value) points of each curve, by the metric's name without prefix and suffix. Curves
        without points are left out."""
        keys = dict.fromkeys(key for row in rows for key in row)
        shortest = len(self.prefix) + len(self.suffix)
        matching = [
            key for key in keys if key.startswith(self.prefix) and key.endswith(self.suffix) and len(key) > shortest
        ]
        named = {key: key[len(self.prefix) : len(key) - len(self.suffix)] for key in matching}
        names = {self.total: "sum", **named} if self.total else named if self.suffix else {self.prefix: self.prefix}
        curves = {name: _points(rows, key) for key, name in names.items()}
        return {name: points for name, points in curves.items() if points}

    def window(self, points: Points) -> int:
        """Iterations in the running mean; 1 for none."""
        return smoothing_window(len(points)) if self.smooth else 1


CURVE_PANELS = (
    CurvePanel("Held-out accuracy", "% of samples correct", "eval/", "/acc", percent=True, smooth=False),
    CurvePanel("Reward", "mean of all samples", "train/reward/", "/mean", total="train/reward/mean"),
    CurvePanel("Response length", "mean of all samples, tokens", "rollout/length/mean"),
    CurvePanel("KL to the initial model", "k3 estimate, nats a token", "train/kl_ref", from_zero=True),
    CurvePanel("Entropy", "of the sampling distribution, nats a token", "train/entropy", from_zero=True),
    CurvePanel("Clip fraction", "% of trained tokens", "train/clip_frac", percent=True, from_zero=True),
)


def figure_of(directory: Path) -> Figure:
    """The figure of a run's six panels, 1200 × 660 pixels. A panel without data reads "not recorded".

    It is not made by pyplot, which would need a window system and change global state that a notebook or the
    user's own plots share.
    """
    rows = RunFiles(directory).rows()
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)  # pyright: ignore
    panels = [(panel, panel.curves(rows)) for panel in CURVE_PANELS]
    for axes, (panel, curves) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        _draw_panel(axes, panel, curves)
    figure.suptitle(_headline(directory, rows), x=0.011, ha="left", fontsize=14, fontweight="bold", color=INK)
    windows = {panel.window(points) for panel, curves in panels for points in curves.values()} - {1}
    if windows:
        figure.supxlabel(_smoothing_note(max(windows)), x=0.989, ha="right", fontsize=9, color=MUTED)
    return figure


def draw_run(directory: Path) -> Path:
    """Draw `curves.png` of a run, and return its path. The picture's text says which run and which command it is of."""
    path = directory / "curves.png"
    title = _headline(directory, RunFiles(directory).rows())
    figure_of(directory).savefig(path, metadata={"Title": title, "Description": _command(directory)})
    return path


def _smoothing_note(window: int) -> str:
    last = window // 2 + 1
    return (
        f"faint: every iteration; bold: running mean over {window}, from the first value on; "
        f"its number: mean of the last {last}"
    )


def _points(rows: Sequence[Mapping[str, float]], key: str) -> Points:
    return [(row["iteration"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]


def _draw_panel(axes: Axes, panel: CurvePanel, curves: Mapping[str, Points]) -> None:
    style_axes(axes, FONT_SIZE)
    axes.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=20)
    axes.text(0, 1.03, panel.unit, transform=axes.transAxes, fontsize=FONT_SIZE, color=MUTED)
    if not curves:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set(xticks=[], yticks=[])
        return
    for (name, points), colour in zip(curves.items(), PALETTE * len(curves), strict=False):
        end = _draw_curve(axes, points, panel.window(points), colour)
        value = format_value(end[1], panel.percent)
        _label_end(axes, f"{name} {value}" if len(curves) > 1 else value, end, colour)
    _scale(axes, panel)


def _draw_curve(axes: Axes, points: Points, window: int, colour: str) -> tuple[float, float]:
    """Draw a curve and return its last point."""
    x, y = np.array(points).T
    if window > 1:
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.35)
    smooth = running_mean(y, window)
    axes.plot(x, smooth, color=colour, linewidth=2, solid_joinstyle="round")
    dots = points if len(points) <= DOTTED_UP_TO else points[-1:] if window == 1 else []
    axes.plot([x for x, _ in dots], [y for _, y in dots], color=colour, linestyle="", marker="o", markersize=4.5)
    return float(x[-1]), float(smooth[-1])


def _label_end(axes: Axes, text: str, end: tuple[float, float], colour: str) -> None:
    """Label the end of a curve: a bare value beside it, but a value with a name above it, to save width."""
    beside = " " not in text
    axes.annotate(
        text,
        end,
        xytext=(7, 0) if beside else (0, 6),
        textcoords="offset points",
        ha="left" if beside else "right",
        va="center" if beside else "bottom",
        color=colour,
        fontweight="bold",
        annotation_clip=False,
    )


def _scale(axes: Axes, panel: CurvePanel) -> None:
    axes.set_xlabel("iteration", fontsize=FONT_SIZE, color=MUTED)
    first, last = axes.dataLim.intervalx
    if first == last:  # for a single row matplotlib would show fractions of an iteration
        axes.set_xlim(first - 1, last + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(tick_format(lambda value: format_value(value, panel.percent)))
    axes.margins(y=0.12)
    if panel.from_zero:
        axes.set_ylim(0, 1.08 * axes.dataLim.ymax or 1)


def _command(directory: Path) -> str:
    """`winnow train algo=grpo seed=1`; without overrides if the run did not record any."""
    path = directory / ".hydra" / "overrides.yaml"
    typed = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return shlex.join(["winnow", "train", *map(str, typed or [])])


def _headline(directory: Path, rows: Sequence[Mapping[str, float]]) -> str:
    """`grpo · tiny · arithmetic · seed 1 · held-out accuracy 52.0% → 91.0%`; the directory's name without a summary.

    The accuracies are those of the rows, because the summary of a run that has not ended is that of its start.
    """
    path = directory / "summary.json"
    if not path.exists():
        return directory.name
    run = json.loads(path.read_text(encoding="utf-8"))
    parts = [run["algo"], run["model"], run["dataset"], f"seed {run['seed']}"]
    by_set = CURVE_PANELS[0].curves(rows)
    points = by_set.get("average") or (next(iter(by_set.values())) if len(by_set) == 1 else [])
    if len(points) > 1 and points[0][0] == 0:
        parts.append(f"held-out accuracy {points[0][1]:.1%} → {points[-1][1]:.1%}")
    return " · ".join(parts)
