"""How the chapters show things: figures that follow the page's light or dark mode, tables, and notes.

A figure is an SVG inside the page. Its text is real text, its colours are the page's own CSS variables where the
page has them, and it carries a text alternative, so one drawing serves both modes, screen readers and print.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps

import matplotlib
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from qlayer_core import results

DASH = "-"  # in a table: not recorded
# Of what is no model: each has a contrast of at least 3:1 to a white and to a dark page.
SERIES = ("#7b61b5", "#a0711c", "#767676", "#3f8a8a")
WRONG = "#d1495b"
CAPTION = "font-weight: 400; text-align: left; padding: 0 0 0.4rem"
TEXT, MUTED, GRID = "#1a2027", "#4c5763", "#d4dae0"
# What each of them becomes: the book's variable, else JupyterLab's, else the colour itself.
VARIABLES = {
    TEXT: f"var(--pst-color-text-base, var(--jp-content-font-color1, {TEXT}))",
    MUTED: f"var(--pst-color-text-muted, var(--jp-content-font-color2, {MUTED}))",
    GRID: f"var(--pst-color-border, var(--jp-border-color2, {GRID}))",
}
STYLE = {
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": TEXT,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": TEXT,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.markersize": 5,
    "figure.facecolor": "none",
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "q-layer",  # the same drawing gives the same bytes
}


@dataclass(frozen=True)
class Markup:
    """Something that a notebook shows as HTML; ``text`` is its alternative in words."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def picture(draw: Callable[..., tuple[Figure, str]]) -> Callable[..., Markup]:
    """Turn a function that gives a figure and its text alternative into one that gives the `Markup` to show."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Markup:
        with matplotlib.rc_context(STYLE):
            figure, alternative = draw(*args, **kwargs)
            return Markup(_svg(figure, alternative), alternative)

    return drawn


def axes(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """Return a figure of ``width`` x ``height`` inches and its axes, an array of shape ``(rows, columns)``."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _svg(figure: Figure, alternative: str) -> str:
    """Return ``figure`` as an SVG element that scales with the page and takes its colours."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = re.sub(r"^.*?<svg ", "<svg ", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # names of parts; several figures share a page
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    width = f"{figure.get_figwidth() * 96:.0f}px"
    look = f"width: 100%; max-width: {width}; height: auto; display: block; image-rendering: pixelated"
    svg = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"',
        r"<svg \1",
        svg,
        count=1,
    )
    name = html.escape(alternative, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{name}" style="{look}" ', 1)
    return f'<figure class="drawing" style="margin: 0; padding: 0">{svg}</figure>'


@picture
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    styles: Mapping[str, Mapping] | None = None,
    top: float | None = None,
):
    """Draw named curves with their names in a legend.

    Args:
        lines: name to the x and the y values of its points.
        x: what the x axis shows.
        y: what the y axis shows.
        styles: name to arguments of `matplotlib.axes.Axes.plot`, such as `palette.style`.
        top: upper end of the y axis, which starts at 0; left out, the axis fits the curves, in whole numbers where
            all values are integers.
    """
    figure, grid = axes(6, 3.4)
    ax = grid[0, 0]
    fallback = zip(("-", "--", ":", "-."), "osD^", SERIES, strict=True)
    words = []
    for (name, (xs, ys)), (dash, marker, colour) in zip(lines.items(), fallback, strict=False):
        look = {"linestyle": dash, "marker": marker, "color": colour} | dict((styles or {}).get(name, {}))
        ax.plot(xs, ys, label=name, markevery=max(1, len(xs) // 10), **look)
        words.append(f"{name} from {ys[0]:.3g} at {xs[0]:g} to {ys[-1]:.3g} at {xs[-1]:g}")
    ax.set(xlabel=x, ylabel=y)
    if top is not None:
        ax.set_ylim(0, top)
    elif all(isinstance(value, int) for _, ys in lines.values() for value in ys):  # counts, all 0 perhaps
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        ax.set_ylim(top=max(1, ax.get_ylim()[1]))
    ax.legend()
    return figure, f"Curves of {y} against {x}: {'; '.join(words)}."


@picture
def matrix(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    x: str = "",
    y: str = "",
    text: str = "{:.1f}",
    flat: bool = False,
):
    """Draw a small table of non-negative numbers, with ``text`` formatting each.

    Shades grow with the numbers, or with ``flat`` show only which of them are not zero.
    """
    table = np.asarray(values, dtype=float)
    figure, grid = axes(0.9 * len(columns) + 1.4, 0.5 * len(rows) + 0.9)
    ax = grid[0, 0]
    highest = max(table.max(), 1e-12)
    for (i, j), value in np.ndenumerate(table):
        share = float(value > 0) if flat else value / highest
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=SERIES[0], alpha=0.4 * share, lw=0))
        ax.text(j, i, text.format(value), ha="center", va="center")
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), ylabel=y)
    ax.set_xlabel(x, labelpad=8)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    words = [
        f"{row}: " + ", ".join(f"{column} {text.format(v)}" for column, v in zip(columns, line, strict=True))
        for row, line in zip(rows, table, strict=True)
    ]
    return figure, f"Table. {'; '.join(words)}."


def paragraph(text: str) -> Markup:
    """Return plain text as a paragraph of the page, which breaks lines where printed output would not."""
    return Markup(f"<p>{html.escape(text)}</p>", text)


def table(rows: Sequence[Sequence[str]], columns: Sequence[str], caption: str) -> Markup:
    """Return a table whose first column names its rows; cells are HTML, so that they may hold emphasis."""
    top = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    # The caption stands outside, so that it keeps the page's width where a wide table scrolls.
    name = html.escape(caption, quote=True)
    return Markup(
        f'<figure style="margin: 0; padding: 0"><figcaption style="{CAPTION}">{caption}</figcaption>'
        f'<table class="table table-sm" aria-label="{name}" style="white-space: nowrap; font-size: 0.92em">'
        f'<thead style="white-space: normal"><tr>{top}</tr></thead><tbody>{body}</tbody></table></figure>',
        caption,
    )


def note(title: str, text: str, kind: str = "note") -> Markup:
    """Return a box in the look of the book's own; ``text`` is HTML."""
    return Markup(
        f'<div class="admonition {kind}"><p class="admonition-title">{title}</p>{text}</div>', title
    )


def decimal(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, or a dash for one that is not there (None or NaN)."""
    return DASH if value is None or np.isnan(value) else f"{value:.{digits}f}"


def attack_name(column: str) -> str:
    """Return ``"fgsm 0.2"`` as ``"FGSM 0.2"``."""
    name, *rest = column.split()
    return " ".join((name.upper() if name != "clean" else name, *rest))


def need(*names: str, dataset: str = "mnist") -> None:
    """Check that these models' weights and records are there, for the cells that follow.

    Where one is missing, say so and how to get it, and skip the following cells up to the next call of this
    function: a chapter then shows what it can, and no empty figure.
    """
    missing = {}
    for name in names:
        try:
            results.load(dataset, name)
        except FileNotFoundError as error:
            missing[name] = str(error)
    shell = get_ipython()
    if shell is None:  # a plain script: nothing can be skipped
        if missing:
            raise FileNotFoundError("\n".join(missing.values()))
        return
    filters = shell.input_transformers_cleanup
    filters[:] = [one for one in filters if one is not _skip]
    if missing:
        filters.append(_skip)
        text = "".join(f"<p>{html.escape(message)}</p>" for message in missing.values())
        display(note("Not trained yet, so the cells below are skipped", text, "warning"))


def _skip(lines: list[str]) -> list[str]:
    """Empty a cell, unless it asks again whether what it needs is there."""
    return lines if any("need(" in line for line in lines) else []
