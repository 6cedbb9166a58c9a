"""Renderings of a report's drawings: PNG and SVG files, and SVG elements that take the page's colours."""

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from winnow.run_logs.plot_style import style_axes
from winnow.study.report.panels import FONT_SIZE, Drawing, Panel, draw_heading

DPI = 130
TITLE_HEIGHT = 0.35
"""Inches above the panels of a file."""
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def save_drawing(drawing: Drawing, directory: Path) -> None:
    """Write all panels on white, as `NAME.png` and `NAME.svg`."""
    figure = drawn_sheet(drawing)
    figure.savefig(directory / f"{drawing.name}.png", dpi=DPI)
    with _svg_settings(drawing.name):
        figure.savefig(directory / f"{drawing.name}.svg", metadata=NO_METADATA)


def picture_uri(drawing: Drawing) -> str:
    """All panels on white, as a PNG in a data: address."""
    buffer = io.BytesIO()
    drawn_sheet(drawing).savefig(buffer, dpi=DPI, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def inline_svg(panel: Panel, name: str, variables: Mapping[str, str]) -> Markup:
    """The panel as an <svg> element with a transparent background and the page's font.

    Colours that are keys of `variables` are replaced by the CSS variables. `name` must differ between the panels of a
    page, because it makes their clip paths' ids unique.
    """
    figure = Figure(figsize=(panel.frame.width, panel.frame.height), dpi=72, facecolor="none")
    _draw_panel(figure, panel, 0, 0)
    buffer = io.StringIO()
    with _svg_settings(name):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    return Markup(_slim(buffer.getvalue(), f"{panel.title}, {panel.unit}", variables))


def _svg_settings(name: str):
    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": ["DejaVu Sans"]})


def drawn_sheet(drawing: Drawing) -> Figure:
    """All panels below the title, in rows of `columns`. A row is as high as its highest panel."""
    rows = [drawing.panels[i : i + drawing.columns] for i in range(0, len(drawing.panels), drawing.columns)]
    width = max(sum(panel.frame.width for panel in row) for row in rows)
    heights = [max(panel.frame.height for panel in row) for row in rows]
    top = sum(heights)
    figure = Figure(figsize=(width, top + TITLE_HEIGHT), dpi=72, facecolor="white")
    place = (0.12 / width, 1 - 0.12 / (top + TITLE_HEIGHT))
    figure.text(*place, drawing.title, fontsize=12, fontweight="bold", va="top", parse_math=False)
    for row, height in zip(rows, heights, strict=True):
        left = 0.0
        for panel in row:
            _draw_panel(figure, panel, left, top - panel.frame.height)
            left += panel.frame.width
        top -= height
    return figure


def _draw_panel(figure: Figure, panel: Panel, left: float, bottom: float) -> None:
    """Draw the panel with its lower left corner at (left, bottom), in inches."""
    width, height = figure.get_size_inches()
    frame = panel.frame
    plot_width, plot_height = frame.width - frame.left - frame.right, frame.height - frame.top - frame.bottom
    corner = (left + frame.left) / width, (bottom + frame.bottom) / height
    axes = figure.add_axes((*corner, plot_width / width, plot_height / height))
    style_axes(axes, FONT_SIZE)
    draw_heading(axes, panel.title, panel.unit)
    panel.draw(axes)


def _slim(svg: str, label: str, variables: Mapping[str, str]) -> str:
    """The <svg> element without what a page does not need, which is a third of the size. Ids that matplotlib repeats in
    every figure are removed, because a page may have each id only once."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[^"]*_\d+"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda match: _slim_tag(match.group(), variables), svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = f'<svg role="img" aria-label="{escape(label)}" {view.group()}>' + svg[svg.index(">") + 1 :]
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()


def _slim_tag(markup: str, variables: Mapping[str, str]) -> str:
    """A tag with shorter numbers and the page's colours and font. Text between tags is not shortened: its digits are
    figures that the reader sees."""
    markup = re.sub(r"-?\d+\.\d{2,}(?:e-?\d+)?", lambda match: _rounded(float(match.group())), markup)
    markup = re.sub(
        r"((?:fill|stroke): )(#[0-9a-f]{6})", lambda match: match[1] + variables.get(match[2], match[2]), markup
    )
    return re.sub(r"font: ((?:bold |\d+ )*)([\d.]+px) 'DejaVu Sans'", r"font: \1\2 var(--font)", markup)


def _rounded(value: float) -> str:
    """Two decimals, more than a screen resolves."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
