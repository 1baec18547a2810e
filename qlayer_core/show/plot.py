"""Figures that follow the page's light or dark mode.

A figure is an SVG inside the page. Its text is real text, its colours are the page's own CSS variables where the
page has them, and it carries a text alternative, so one drawing serves both modes, screen readers and print.
"""

import html
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from qlayer_core.show import names
from qlayer_core.show.page import Markup

# Of what is no model: each has a contrast of at least 3:1 to a white and to a dark page.
SERIES = ("#7b61b5", "#a0711c", "#767676", "#3f8a8a")
WRONG = "#d1495b"
TEXT, MUTED, GRID = "#1a2027", "#4c5763", "#d4dae0"
# What each of them becomes: the book's variable, else JupyterLab's, else the colour itself.
VARIABLES = {
    TEXT: f"var(--pst-color-text-base, var(--jp-content-font-color1, {TEXT}))",
    MUTED: f"var(--pst-color-text-muted, var(--jp-content-font-color2, {MUTED}))",
    GRID: f"var(--pst-color-border, var(--jp-border-color2, {GRID}))",
    SERIES[0]: f"var(--series-purple, {SERIES[0]})",  # lighter on a dark page
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
PHONE, LEGIBLE = 358, 7.6  # pixels: the width of a figure on a phone, and the smallest text to be read there


def picture(draw: Callable[..., tuple[Figure, str]]) -> Callable[..., Markup]:
    """Turn a function that gives a figure and its text alternative into one that gives the `Markup` to show."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Markup:
        with matplotlib.rc_context(STYLE):
            figure, alternative = draw(*args, **kwargs)
            return Markup(_svg(figure, alternative), alternative)

    return drawn


def axes(
    width: float, height: float, rows: int = 1, columns: int = 1, **options
) -> tuple[Figure, np.ndarray]:
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
    for colour, variable in (VARIABLES | names.VARIABLES).items():
        svg = svg.replace(colour, variable)
    width = f"{figure.get_figwidth() * 96:.0f}px"
    look = (
        f"width: 100%; max-width: {width}; height: auto; display: block; overflow: visible;"
        " image-rendering: pixelated"
    )
    svg = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"',
        r"<svg \1",
        svg,
        count=1,
    )
    name = html.escape(alternative, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{name}" style="{look}" ', 1)
    smallest = min(map(float, re.findall(r"font-size: ([\d.]+)px", svg)), default=LEGIBLE)
    shrunk = smallest * PHONE / (72 * figure.get_figwidth())  # the drawing's own unit is the point
    small = " small-print" if shrunk < LEGIBLE else ""  # on a phone it scrolls instead
    return f'<figure class="drawing{small}" style="margin: 0; padding: 0">{svg}</figure>'


@picture
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    styles: Mapping[str, Mapping] | None = None,
    top: float | None = None,
    mark: tuple[float, str] | None = None,
    above: bool = False,
):
    """Draw named curves with their names in a legend.

    Args:
        lines: name to the x and the y values of its points.
        x: what the x axis shows.
        y: what the y axis shows.
        styles: name to arguments of `matplotlib.axes.Axes.plot`, such as `names.style`.
        top: upper end of the y axis, which starts at 0; left out, the axis fits the curves, in whole numbers where
            all values are integers. The x axis has ticks at whole numbers where all its values are, such as epochs.
        mark: where a vertical line stands, and what it says.
        above: whether the legend stands above the curves, which leave no room for it.
    """
    figure, grid = axes(6, 3.4)
    ax = grid[0, 0]
    fallback = zip(*map(itertools.cycle, (("-", "--", ":", "-."), "osD^", SERIES)), strict=False)
    words = []
    for (name, (xs, ys)), (dash, marker, colour) in zip(lines.items(), fallback, strict=False):
        look = {"linestyle": dash, "marker": marker, "color": colour} | dict((styles or {}).get(name, {}))
        ax.plot(xs, ys, label=name, markevery=max(1, len(xs) // 10), **look)
        words.append(f"{name} from {ys[0]:.3g} at {xs[0]:g} to {ys[-1]:.3g} at {xs[-1]:g}")
    ax.set(xlabel=x, ylabel=y)
    if all(float(value).is_integer() for xs, _ in lines.values() for value in xs):
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if len(points := sorted({value for xs, _ in lines.values() for value in xs})) <= 6:
            ax.set_xticks(points)
    if top is not None:
        ax.set_ylim(0, top)
    elif all(isinstance(value, int) for _, ys in lines.values() for value in ys):  # counts, all 0 perhaps
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        ax.set_ylim(top=max(1, ax.get_ylim()[1]))
    if mark is not None:
        ax.axvline(mark[0], color=MUTED, linewidth=1, label=mark[1])
        words.append(f"{mark[1]} at {mark[0]:g}")
    columns = 2 if len(lines) > 4 else 1  # many names below each other would leave the curves little height
    ax.legend(**{"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns} if above else {})
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
    cell, left = (0.085 * max(map(len, texts)) for texts in (columns, rows))  # inches of the longest name
    figure, grid = axes(max(0.9, cell + 0.2) * len(columns) + max(1.4, left + 0.5), 0.5 * len(rows) + 0.9)
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
    sides = f", {y} by {x}" if x and y else ""
    return figure, f"Table{sides}. {'; '.join(words)}.".translate(str.maketrans("", "", "${}"))


def tile(ax: Axes, image: Tensor | None, largest: float | None = None) -> None:
    """Show an image ``(1, H, W)``, white on black, in ``ax``; None: only tidy it.

    With ``largest`` the image is a signed change: grey is none, white and black are that much.
    """
    if image is not None:
        shown = image[0].detach().float().numpy()
        low, high = (0, 1) if largest is None else (-largest or -1, largest or 1)
        ax.imshow(shown, cmap="gray", vmin=low, vmax=high, interpolation="none")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    frame(ax, GRID, 1)


def frame(ax: Axes, colour: str, width: float) -> None:
    """Draw a frame around what ``ax`` shows."""
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)


def apart(ends: Mapping[str, float], gap: float = 9) -> dict[str, float]:
    """Return where the names of curves that end at these percentages stand, so that none covers another."""
    places, place = {}, float("inf")
    for rank, name in enumerate(sorted(ends, key=ends.get, reverse=True), 1):
        room = gap * (len(ends) - rank)  # for the names below, above the axis
        place = places[name] = max(min(ends[name], place - gap), room)
    return places


def write(ax: Axes, text: str, x: float, y: float) -> None:
    """Write a curve's name where it ends."""
    ax.annotate(f" {text}", (x, y), fontsize=9, va="center")
