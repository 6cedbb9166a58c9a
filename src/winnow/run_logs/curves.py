"""`curves.png`: what a run did, in six panels, from `metrics.jsonl` alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from winnow.run_logs.run_files import RunFiles

INK, MUTED, GRID = "#1f2328", "#6e7781", "#e6e8eb"
COLOURS = ("#1f6feb", "#d1691f", "#2a8a4a", "#8250df", "#9a6700", "#cf222e")
SIZE, DPI = (12.0, 6.6), 100
FEW, MANY = 12, 40
"""Up to FEW points get a dot each; more than MANY are noise to the eye and get a running mean."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurvePanel:
    """What is drawn under a title: the metric `prefix`, or one curve for every key from `prefix` to `suffix`."""

    title: str
    unit: str
    prefix: str
    suffix: str = ""
    percent: bool = False
    from_zero: bool = False
    smooth: bool = True

    def curves(self, rows: Sequence[dict[str, float]]) -> dict[str, Points]:
        """The (iteration, value) points of each curve, by name: finite values only, curves without any left out."""
        keys = dict.fromkeys(key for row in rows for key in row)
        wanted = [key for key in keys if key.startswith(self.prefix) and key.endswith(self.suffix)]
        curves = {key: _points(rows, key) for key in (wanted if self.suffix else [self.prefix])}
        return {
            key.removeprefix(self.prefix).removesuffix(self.suffix): points for key, points in curves.items() if points
        }

    def window(self, points: Points) -> int:
        """Iterations in the running mean: 1, which is none, up to MANY points, then an odd tenth of them, at most 21."""
        return min(21, len(points) // 20 * 2 + 1) if self.smooth and len(points) > MANY else 1

    def text(self, value: float) -> str:
        return f"{100 * value:.3g}%" if self.percent else f"{value:.3g}"


CURVE_PANELS = (
    CurvePanel("Held-out accuracy", "% of samples correct", "eval/", "/acc", percent=True, smooth=False),
    CurvePanel("Reward", "mean of all samples", "train/reward/mean"),
    CurvePanel("Response length", "mean of all samples, tokens", "rollout/length/mean"),
    CurvePanel("KL to the initial model", "k3 estimate, nats a token", "train/kl_ref", from_zero=True),
    CurvePanel("Entropy", "of the sampled distribution, nats a token", "train/entropy", from_zero=True),
    CurvePanel("Clip fraction", "% of trained tokens", "train/clip_frac", percent=True, from_zero=True),
)


def draw_run(directory: Path) -> Path:
    """Draw a run's `curves.png`, 1200 × 660 pixels, and return its path. A panel without data says so.

    A Figure of its own, not pyplot: no window system, no global state, safe beside a notebook's or a user's plots.
    """
    rows = RunFiles(directory).rows()
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)  # pyright: ignore
    panels = [(panel, panel.curves(rows)) for panel in CURVE_PANELS]
    for axes, (panel, curves) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        _draw(axes, panel, curves)
    figure.suptitle(_headline(directory), x=0.011, ha="left", fontsize=14, fontweight="bold", color=INK)
    if any(panel.window(points) > 1 for panel, curves in panels for points in curves.values()):
        figure.supxlabel("faint: every iteration; bold: running mean", x=0.989, ha="right", fontsize=9, color=MUTED)
    path = directory / "curves.png"
    figure.savefig(path)
    return path


def _points(rows: Sequence[dict[str, float]], key: str) -> Points:
    return [(row["iteration"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]


def _draw(axes: Axes, panel: CurvePanel, curves: dict[str, Points]) -> None:
    axes.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=20)
    axes.text(0, 1.03, panel.unit, transform=axes.transAxes, fontsize=9, color=MUTED)
    axes.spines[:].set_visible(False)
    if not curves:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set(xticks=[], yticks=[])
        return
    for (name, points), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        end = _curve(axes, points, panel.window(points), colour)
        _label(axes, f"{name} {panel.text(end[1])}" if len(curves) > 1 else panel.text(end[1]), end, colour)
    _scale(axes, panel)


def _curve(axes: Axes, points: Points, window: int, colour: str) -> tuple[float, float]:
    """Draw a curve and return where it ends."""
    x, y = zip(*points, strict=True)
    if window > 1:
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.35)
    smooth = _running_mean(y, window)
    axes.plot(x, smooth, color=colour, linewidth=2, solid_joinstyle="round")
    dots = points if len(points) <= FEW else points[-1:] if window == 1 else []
    axes.plot([x for x, _ in dots], [y for _, y in dots], color=colour, linestyle="", marker="o", markersize=4.5)
    return x[-1], smooth[-1]


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean around each value. Centred, so that it does not lag; at the ends over what there is."""
    half = window // 2
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def _label(axes: Axes, text: str, end: tuple[float, float], colour: str) -> None:
    """A bare value goes beside the curve's end; one with a name goes above it, as names would squeeze the panel."""
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
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    axes.set_xlabel("iteration", fontsize=9, color=MUTED)
    first, last = axes.dataLim.intervalx
    if first == last:  # one row: matplotlib would show fractions of an iteration
        axes.set_xlim(first - 1, last + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.text(value)))
    axes.margins(y=0.12)
    if panel.from_zero:
        axes.set_ylim(0, 1.08 * axes.dataLim.ymax or 1)


def _headline(directory: Path) -> str:
    """`grpo · tiny · arithmetic · seed 1 · held-out accuracy 52% → 91%`; the directory's name before a summary."""
    path = directory / "summary.json"
    if not path.exists():
        return directory.name
    run = json.loads(path.read_text(encoding="utf-8"))
    parts = [run["algo"], run["model"], run["dataset"], f"seed {run['seed']}"]
    if None not in (run["eval_first"], run["eval_last"]):
        parts.append(f"held-out accuracy {run['eval_first']:.1%} → {run['eval_last']:.1%}")
    return " · ".join(parts)
