"""The parts of a page that the sliders switch between, as HTML that needs no server.

Images are PNGs at their own resolution, which the browser enlarges without blurring; charts are inline SVG in the
page's own text colour: both are small, sharp and readable in light and dark mode. Each image has a text
alternative; a chart is hidden from screen readers, since the text or table beside it says the same.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from qlayer_core.show.names import code_colours

# Kept in the page with each widget, so that it looks the same in JupyterLab and on the site.
STYLE = f"<style>{Path(__file__).with_name('slides.css').read_text()}</style>"
MARK = ((0, 0, 0), (255, 255, 255))  # edge and middle of the dot on a changed position
SHAPES = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M-4-4h8v8h-8z",
    "D": "M0-5l5 5-5 5-5-5z",
    "^": "M0-5l5 9h-10z",
    "x": "M-4-4l8 8M-4 4l8-8",
}


class Curve(NamedTuple):
    """One line of a chart, ``ys`` in percent; ``low`` and ``high`` bound a band around it."""

    label: str
    style: dict  # as `names.style` gives it; without "marker" the line has none
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Answer(NamedTuple):
    """What one path of a network says of an image at each position of the slider."""

    network: str  # its name, for people
    path: str  # the path's, or ""
    colour: str
    solid: bool  # filled bars, or their outline alone
    probabilities: np.ndarray  # (positions, classes)


def grey(pixels: np.ndarray, text: str) -> str:
    """Return ``<img>`` of a picture ``(H, W)`` with values in [0, 1] and its text alternative."""
    return _img(Image.fromarray(_levels(pixels)), text)


def change(before: np.ndarray, after: np.ndarray, scale: float, text: str) -> str:
    """Return ``<img>`` of ``after - before``: grey unchanged, white brighter and black darker by ``scale``."""
    return grey(0.5 + (after - before) / (2 * scale), text)


def code_map(levels: np.ndarray, changed: np.ndarray, text: str, cell: int = 6) -> str:
    """Return ``<img>`` of a map of codes, a dot on each changed position.

    Args:
        levels: ``(H, W)`` in [0, 1], the place of each position's code: see `names.code_colours`.
        changed: ``(H, W)`` bool.
        text: its text alternative.
        cell: pixels per position.
    """
    values, index = np.unique(levels, return_inverse=True)
    pixels = index.reshape(levels.shape).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    for row, column in zip(*np.nonzero(changed), strict=True):
        top, left = row * cell, column * cell
        pixels[top + 1 : top + cell - 1, left + 1 : left + cell - 1] = len(values)
        pixels[top + 2 : top + cell - 2, left + 2 : left + cell - 2] = len(values) + 1
    picture = Image.fromarray(pixels, "P")
    picture.putpalette(np.vstack([code_colours(values), MARK]).astype(np.uint8).tobytes())
    return _img(picture, text)


def montage(patches: Sequence[np.ndarray], text: str, columns: int = 6, rem: float = 24) -> str:
    """Return ``<img>`` of equally large patches ``(h, w)`` in rows of at most ``rem`` rem, each in a grey frame."""
    height, width = patches[0].shape
    gap = 1  # the level that stands for transparent; a pixel of it becomes 0
    grey = 118  # apart from black, from white and from both pages
    joined = np.full(
        (-(-len(patches) // columns) * (height + 1) + 1, columns * (width + 1) + 1), gap, np.uint8
    )
    for i, pixels in enumerate(patches):
        row, column = i // columns * (height + 1), i % columns * (width + 1)
        levels = _levels(pixels)
        joined[row : row + height + 2, column : column + width + 2] = grey
        joined[row + 1 : row + 1 + height, column + 1 : column + 1 + width] = np.where(
            levels == gap, 0, levels
        )
    return grid([_img(Image.fromarray(joined), text, transparency=gap)], 1, rem)


def figure(picture: str, caption: str) -> str:
    """Return a picture above its caption."""
    return f"<div>{picture}<span>{caption}</span></div>"


def grid(cells: Sequence[str], columns: int, width: float) -> str:
    """Return cells side by side, each at most ``width`` rem wide; a cell ``<p>`` takes a whole row."""
    size = f"grid-template-columns:repeat({columns},minmax(0,{width}rem))"
    return f'<div class="ql-grid" style="{size}">{"".join(cells)}</div>'


def pairs(cells: Sequence[str]) -> str:
    """Return pairs side by side, the second of each below the first; on a phone beside it."""
    return f'<div class="ql-grid ql-pairs">{"".join(cells)}</div>'


def before_and_after(
    clean: np.ndarray, after: Mapping[str, np.ndarray], name: str, how: str, largest: float
) -> str:
    """Return the clean image, and for each attacked network the adversarial one and what was added.

    Args:
        clean: ``(H, W)`` in [0, 1].
        after: the adversarial images by the attacked network's name, "" for one that isn't named.
        name: what the image shows.
        how: attack and epsilon.
        largest: the change that is drawn white or black.
    """
    first, second = [figure(grey(clean, f"The clean image: {name}."), "clean")], []
    for network, pixels in after.items():
        against = f"against {network}" if network else "against another network"
        alone = len(after) == 1
        text = f"{name} after an attack {against}: {how}."
        first.append(figure(grey(pixels, text), "adversarial" if alone else against))
        text = f"What the attack {against} has added."
        second.append(figure(change(clean, pixels, largest, text), "added" if alone else ""))
    legend = "<p>Added by the attack: grey is no change, white brighter, black darker.</p>"
    if len(after) == 1:
        return grid([first[0], *second, first[1], legend], 3, 8.5)
    return grid([*first, legend, "<div></div>", *second], len(first), 8.5)


def bars(answers: Sequence[Answer], class_names: Sequence[str], position: int, true: int) -> str:
    """Return a table of class probabilities in percent: a column per answer, a bar and a number in each cell."""
    names: dict[str, list[Answer]] = {}
    for answer in answers:
        names.setdefault(answer.network, []).append(answer)
    top = "".join(
        f'<th scope="colgroup" colspan="{len(columns)}" style="--c:{columns[0].colour}">{name}</th>'
        for name, columns in names.items()
    )
    notes = [", true" if row == true else "" for row in range(len(class_names))]
    body = [
        f'<th scope="row">{escape(name)}{note}</th>' for name, note in zip(class_names, notes, strict=True)
    ]
    below = ""
    for answer in answers:
        percents = np.rint(100 * answer.probabilities[position]).astype(int).tolist()
        said = int(answer.probabilities[position].argmax())
        verdict = f"{escape(class_names[said])} {'✓' if said == true else '✗'}"
        below += f'<th scope="col">{answer.path}{"<br>" if answer.path else ""}{verdict}</th>'
        for row, percent in enumerate(percents):
            kind = "" if answer.solid else ' class="e"'
            drawn = f'<i{kind} style="width:{percent}%;--c:{answer.colour}"></i>' if percent else ""
            body[row] += f"<td>{drawn}<b>{percent}</b></td>"
    rows = "".join(
        f"<tr{' class=true' if row == true else ''}>{cells}</tr>" for row, cells in enumerate(body)
    )
    head = f'<tr><th rowspan="2" scope="col">class, %</th>{top}</tr><tr>{below}</tr>'
    return f'<table class="ql-bars"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def strips(answers: Sequence[Answer], true: int, position: int, labels: Sequence[str]) -> str:
    """Return one strip per answer over the slider's positions, filled where it is right, and where it first falls."""
    parts, last = [], len(labels)
    for answer in answers:
        right = answer.probabilities.argmax(1) == true
        blocks = "".join(f"M{start} 0h{end - start}v1H{start}z" for start, end in _runs(right))
        fill = answer.colour if answer.solid else "none"
        gaps = "".join(f"M{start} .5H{end}" for start, end in _runs(~right))
        drawing = f'<path d="{blocks}{gaps}" stroke="{answer.colour}" stroke-width="2" fill="{fill}"/>'
        if right.all():
            text = f"right up to {labels[-1]}"
        else:
            first = int(right.argmin())
            text = f"falls at {labels[first]}" if first else "wrong when clean"
        name = f"{answer.network}{', ' if answer.path else ''}{answer.path}"
        parts.append(
            f"<span>{name}</span>{_svg(drawing + _cursor(position + 0.5, 1), last, 1)}<span>{text}</span>"
        )
    ends = f"<span>{labels[0]}</span><span>{labels[-1]}</span>"
    axis = f'<span>epsilon</span><span class="ql-x">{ends}</span><span></span>'
    return f'<div class="ql-rows">{"".join(parts)}{axis}</div>'


def chart(
    title: str,
    curves: Sequence[Curve],
    at: float,
    text: str,
    *,
    x: str = "epsilon",
    ticks: Sequence[float] | None = None,
    top: float = 100,
    unit: str = " %",
) -> str:
    """Return curves over epsilon in percent, a line at one epsilon, and a table of the values there.

    Args:
        title: what is drawn.
        curves: what to draw; the table has a row each and a dash where a curve has no value.
        at: the epsilon of the line.
        text: ``at`` as it is written.
        x: what the curves run over, if not epsilon; from 0.
        ticks: evenly spaced labels of its axis, from 0 to the curves' end; left out, one per 0.1.
        top: value at the upper edge.
        unit: what follows a value in the table.
    """
    last = ticks[-1] if ticks else max(max(curve.xs) for curve in curves)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(1000 * x / last), round(1000 * (1 - y / top))

    rules = "".join(f"M0 {y}h1000" for y in (0, 250, 500, 750, 1000))
    drawing = f'<path d="{rules}" stroke="currentColor" opacity=".25"/>{_cursor(place(at, 0)[0], 1000)}'
    marks, rows = "", ""
    for curve in curves:
        colour = curve.style["color"]
        if len(curve.low):
            back = zip(curve.xs[::-1], curve.high[::-1], strict=True)
            outline = [*zip(curve.xs, curve.low, strict=True), *back]
            drawing += f'<polygon points="{_points(outline, place)}" fill="{colour}" opacity=".2"/>'
        points = list(zip(curve.xs, curve.ys, strict=True))
        drawing += f'<polyline points="{_points(points, place)}" {_stroke(curve.style)}/>'
        for left, height in (place(*point) for point in points):
            marks += _mark(curve.style, left / 10, height / 10)
        line = _svg(f'<path d="M0 5H36" {_stroke(curve.style)}/>', 36, 10) + _mark(curve.style, 50, 50)
        here = list(curve.xs).index(at) if at in curve.xs else None
        value = "-" if here is None else f"{curve.ys[here]:.1f}{unit}"
        band = (
            f" ({curve.low[here]:.1f} to {curve.high[here]:.1f})"
            if len(curve.low) and here is not None
            else ""
        )
        name = f'<span class="ql-key">{line}</span>{escape(curve.label)}'
        rows += f'<tr><th scope="row">{name}</th><td>{value}{band}</td></tr>'
    steps = max(1, round(10 * last))
    x_labels = "".join(
        f'<span style="left:{100 * tick / last:.4g}%">{tick:.4g}</span>'
        for tick in ticks or [last * i / steps for i in range(steps + 1)]
    )
    y_labels = "".join(f"<span>{top * share:g}</span>" for share in (1, 0.75, 0.5, 0.25, 0))
    return (
        f'<p>{title}</p><div class="ql-plot"><div class="ql-y">{y_labels}</div>'
        f'<div>{_svg(drawing, 1000, 1000)}{marks}</div><div class="ql-x">{x_labels}</div></div>'
        f'<table class="ql-values"><thead><tr><th scope="col">at {x}</th><th scope="col">{text}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def histogram(counts: Sequence[int], chosen: int, colour: str) -> str:
    """Return a bar per count on a logarithmic scale, and a dashed line at the chosen one."""
    heights = 100 * np.log1p(counts) / np.log1p(max(counts))
    outline = "".join(f"M{i}.1 100v-{height:.0f}h.8V100z" for i, height in enumerate(heights) if height)
    line = f'<path d="M{chosen + 0.5} -4V108" stroke="currentColor" stroke-width="2" stroke-dasharray="3 3"/>'
    base = f'<path d="M0 100H{len(counts)}" stroke="currentColor"/>'
    drawing = f'<path d="{outline}" fill="{colour}"/>{base}{line}'
    return f'<div style="margin:1rem 0">{_svg(drawing, len(counts), 100, "height:5rem")}</div>'


def _levels(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _runs(right: np.ndarray) -> list[tuple[int, int]]:
    """Return start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], right, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _points(points: Sequence[tuple[float, float]], place) -> str:
    return " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))


def _stroke(style: dict) -> str:
    dashes = {"-": "", "--": ' stroke-dasharray="7 4"', ":": ' stroke-dasharray="2 4"'}[style["linestyle"]]
    return f'fill="none" stroke="{style["color"]}" stroke-width="2.5"{dashes}'


def _mark(style: dict, left: float, top: float) -> str:
    """Return a curve's marker at a place in percent of what holds it, apart from the drawing, which is stretched."""
    if "marker" not in style:
        return ""
    path = (
        f'<path d="{SHAPES[style["marker"]]}" fill="{style["markerfacecolor"]}" stroke="{style["color"]}"/>'
    )
    where = f"left:{left:g}%;top:{top:g}%"
    return f'<svg aria-hidden="true" class="ql-mark" viewBox="-6 -6 12 12" style="{where}">{path}</svg>'


def _cursor(x: float, height: float) -> str:
    return f'<path d="M{x:g} 0v{height}" stroke="currentColor" stroke-width="2"/>'


def _svg(drawing: str, width: float, height: float, style: str = "") -> str:
    look = f' style="{style}"' if style else ""
    return f'<svg aria-hidden="true" viewBox="0 0 {width} {height}" preserveAspectRatio="none"{look}>{drawing}</svg>'


def _img(picture: Image.Image, text: str, **options) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    data = base64.b64encode(file.getvalue()).decode()
    # The class tells the book's theme that the picture needs no white page behind it in dark mode.
    return f'<img class="dark-light" alt="{escape(text)}" src="data:image/png;base64,{data}">'
