"""Figures to files, and panels to markup that follows the page's colours."""

import io
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.study.report.html import Html
from winnow.study.report.panels import Drawing, Frame, Panel, draw_heading, style_axes

DPI = 130
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
FAMILY = ["DejaVu Sans"]


def save_drawing(drawing: Drawing, directory: Path) -> None:
    """`NAME.png` and `NAME.svg`: all panels, on white."""
    figure = _sheet(drawing)
    figure.savefig(directory / f"{drawing.name}.png", dpi=DPI)
    with _svg_settings(drawing.name):
        figure.savefig(directory / f"{drawing.name}.svg", metadata=NO_METADATA)


def inline_svg(panel: Panel, name: str, variables: Mapping[str, str]) -> Html:
    """The panel as an <svg> for a page: see-through, in the page's font, colours by the CSS `variables` of their hex values.

    `name` must differ between the panels of a page: it keeps their clip paths apart.
    """
    frame = panel.frame
    figure = Figure(figsize=(frame.width, frame.height), dpi=72, facecolor="none")
    _put(figure, panel, 0, 0)
    buffer = io.StringIO()
    with _svg_settings(name):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    return Html(_slim(buffer.getvalue(), f"{panel.title}, {panel.unit}", variables))


def _svg_settings(name: str):
    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": FAMILY})


def _sheet(drawing: Drawing) -> Figure:
    """Panels in rows of `columns`; a row is as high as its highest panel."""
    rows = [drawing.panels[i : i + drawing.columns] for i in range(0, len(drawing.panels), drawing.columns)]
    width = max(sum(panel.frame.width for panel in row) for row in rows)
    heights = [max(panel.frame.height for panel in row) for row in rows]
    figure = Figure(figsize=(width, sum(heights) + 0.35), dpi=72, facecolor="white")
    figure.text(
        0.12 / width,
        1 - 0.12 / (sum(heights) + 0.35),
        drawing.title,
        fontsize=12,
        fontweight="bold",
        va="top",
        parse_math=False,
    )
    top = sum(heights)
    for row, height in zip(rows, heights, strict=True):
        left = 0.0
        for panel in row:
            _put(figure, panel, left, top - panel.frame.height)
            left += panel.frame.width
        top -= height
    return figure


def _put(figure: Figure, panel: Panel, left: float, bottom: float) -> Axes:
    """Draw the panel with its lower left corner there, in inches."""
    width, height = figure.get_size_inches()
    frame: Frame = panel.frame
    axes = figure.add_axes(
        (
            (left + frame.left) / width,
            (bottom + frame.bottom) / height,
            (frame.width - frame.left - frame.right) / width,
            (frame.height - frame.top - frame.bottom) / height,
        )
    )
    style_axes(axes)
    draw_heading(axes, panel.title, panel.unit)
    panel.draw(axes)
    return axes


def _slim(svg: str, label: str, variables: Mapping[str, str]) -> str:
    """Only the <svg> element, without what a page does not need: a third of the size, and no name that occurs twice."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[^"]*_\d+"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda found: _slim_tag(found.group(), variables), svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = f'<svg role="img" aria-label="{escape(label)}" {view.group()}>' + svg[svg.index(">") + 1 :]
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()


def _slim_tag(markup: str, variables: Mapping[str, str]) -> str:
    """Of a tag alone: what stands between tags is text, whose digits count."""
    markup = re.sub(r"-?\d+\.\d{2,}(?:e-?\d+)?", lambda found: _rounded(float(found.group())), markup)
    markup = re.sub(
        r"((?:fill|stroke): )(#[0-9a-f]{6})", lambda found: found[1] + variables.get(found[2], found[2]), markup
    )
    return re.sub(r"font: ((?:bold |\d+ )*)([\d.]+px) 'DejaVu Sans'", r"font: \1\2 var(--font)", markup)


def _rounded(value: float) -> str:
    """Two decimals, of which a page shows none to the eye."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
