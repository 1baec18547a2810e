"""The parts of a page that the sliders switch between, as HTML that needs no server.

Images are PNGs at their own resolution, which the browser enlarges without blurring; charts are inline SVG in the
page's own text colour: both are small, sharp and readable in light and dark mode. Each image has a text
alternative; a chart is hidden from screen readers, since the text or table beside it says the same.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from PIL import Image

# Kept in the page with each widget, so that it looks the same in JupyterLab and on the site.
STYLE = """<style>
.ql{line-height:1.35;font-size:.88rem;max-width:44rem;color:inherit}
.ql p{margin:.3rem 0}
.ql img{display:block;width:100%;height:auto;margin:0;image-rendering:pixelated;border-radius:3px;background:none}
.ql .ql-grid{display:grid;gap:.5rem .7rem;align-items:start;margin:.4rem 0}
.ql .ql-grid>p{grid-column:1/-1;margin:0}
.ql .ql-grid span{display:block;font-size:.82rem;line-height:1.25;text-align:center;margin-top:.15rem}
.ql .ql-pairs{grid-template-rows:auto auto;grid-auto-flow:column;grid-auto-columns:minmax(0,8.5rem)}
.ql table{display:table;table-layout:auto;width:100%;max-width:100%;margin:.5rem 0;border-collapse:collapse;border:0;
font-size:.82rem}
.ql th,.ql td{padding:.06rem .35rem;border:0;background:none;color:inherit;text-align:left;vertical-align:middle;
font-weight:400;white-space:normal;overflow-wrap:normal}
.ql .ql-values th:first-child{padding-left:3rem}
.ql .ql-values td{white-space:nowrap}
.ql tr{background:none!important;border:0}
.ql thead th{font-weight:600}
.ql th[style]{border-top:4px solid var(--c)}
.ql .ql-bars{table-layout:fixed}
.ql .ql-bars th,.ql .ql-bars td{padding-left:.2rem}
.ql .ql-bars tbody th{overflow-wrap:anywhere}
.ql .ql-bars td{position:relative;padding-right:2.2rem}
.ql .ql-bars td b{position:absolute;right:.3rem;top:.06rem;font-weight:inherit}
.ql .ql-bars td i{display:block;height:.8em;min-width:1px;box-sizing:border-box;background:var(--c);
border:2px solid var(--c)}
.ql .ql-bars td .e{background:none}
.ql .ql-bars .true>*{font-weight:700;border-block:1px solid}
.ql .ql-rows{display:grid;grid-template-columns:fit-content(9rem) minmax(4rem,1fr) fit-content(8rem);gap:.25rem .7rem;
align-items:center;font-size:.82rem;margin:.8rem 0 .4rem}
.ql svg{display:block;width:100%;overflow:visible;max-width:none}
.ql svg *{vector-effect:non-scaling-stroke}
.ql .ql-rows svg{height:1rem}
.ql .ql-plot{display:grid;grid-template-columns:max-content 1fr;gap:.3rem .6rem;margin:.3rem .6rem .6rem 0;
font-size:.82rem}
.ql .ql-plot>div{position:relative}
.ql .ql-plot>div>svg:first-child{height:12rem}
.ql .ql-y,.ql .ql-x{display:flex;justify-content:space-between}
.ql .ql-y{flex-direction:column;text-align:right;margin-block:-.55rem}
.ql .ql-x{grid-column:2}
.ql .ql-mark{position:absolute;width:.7rem!important;height:.7rem;margin:-.35rem}
.ql .ql-key{display:inline-block;position:relative;width:2.4rem;height:.8rem;margin:0 .4rem 0 -2.8rem}
.ql .ql-key>svg:first-child{height:.8rem}
@media(max-width:576px){.ql .ql-pairs{grid-template-rows:none;grid-auto-flow:row;
grid-template-columns:repeat(4,minmax(0,1fr))}}
</style>"""
RAMP = (
    (0, 34, 78),
    (124, 123, 120),
    (254, 232, 56),
)  # dark blue, grey, yellow: lightness alone tells them apart
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
    style: dict  # as `palette.style` gives it; without "marker" the line has none
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
        levels: ``(H, W)`` in [0, 1], the place of each position's colour on `RAMP`.
        changed: ``(H, W)`` bool.
        text: its text alternative.
        cell: pixels a position.
    """
    values, index = np.unique(levels, return_inverse=True)
    ramp = np.stack([np.interp(values, (0, 0.5, 1), channel) for channel in np.array(RAMP).T], 1)
    pixels = index.reshape(levels.shape).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    for row, column in zip(*np.nonzero(changed), strict=True):
        top, left = row * cell, column * cell
        pixels[top + 1 : top + cell - 1, left + 1 : left + cell - 1] = len(values)
        pixels[top + 2 : top + cell - 2, left + 2 : left + cell - 2] = len(values) + 1
    picture = Image.fromarray(pixels, "P")
    picture.putpalette(np.rint(np.vstack([ramp, MARK])).astype(np.uint8).tobytes())
    return _img(picture, text)


def montage(patches: Sequence[np.ndarray], text: str, columns: int = 6) -> str:
    """Return ``<img>`` of equally large patches ``(h, w)`` in rows, with a transparent line between them."""
    height, width = patches[0].shape
    gap = 1  # the grey level that stands for transparent; a pixel of that level becomes 0
    joined = np.full(
        (-(-len(patches) // columns) * (height + 1) - 1, columns * (width + 1) - 1), gap, np.uint8
    )
    for i, pixels in enumerate(patches):
        row, column = i // columns * (height + 1), i % columns * (width + 1)
        levels = _levels(pixels)
        joined[row : row + height, column : column + width] = np.where(levels == gap, 0, levels)
    return grid([_img(Image.fromarray(joined), text, transparency=gap)], 1, 24)


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
    """Return a table of class probabilities in percent: a column an answer, a bar and a number in each cell."""
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
    """Return one strip an answer over the slider's positions, filled where it is right, and where it first falls."""
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


def chart(title: str, curves: Sequence[Curve], at: float, text: str, *, top: float = 100) -> str:
    """Return curves over epsilon in percent, a line at one epsilon, and a table of the values there.

    Args:
        title: what is drawn.
        curves: what to draw; the table has a row each and a dash where a curve has no value.
        at: the epsilon of the line.
        text: ``at`` as it is written.
        top: percent at the upper edge.
    """
    last = max(max(curve.xs) for curve in curves)

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
        for x, y in (place(*point) for point in points):
            marks += _mark(curve.style, x / 10, y / 10)
        line = _svg(f'<path d="M0 5H36" {_stroke(curve.style)}/>', 36, 10) + _mark(curve.style, 50, 50)
        here = list(curve.xs).index(at) if at in curve.xs else None
        value = "-" if here is None else f"{curve.ys[here]:.1f} %"
        band = (
            f" ({curve.low[here]:.1f} to {curve.high[here]:.1f})"
            if len(curve.low) and here is not None
            else ""
        )
        name = f'<span class="ql-key">{line}</span>{escape(curve.label)}'
        rows += f'<tr><th scope="row">{name}</th><td>{value}{band}</td></tr>'
    ticks = max(1, round(10 * last))
    x_labels = "".join(f"<span>{last * i / ticks:.2g}</span>" for i in range(ticks + 1))
    y_labels = "".join(f"<span>{top * share:g}</span>" for share in (1, 0.75, 0.5, 0.25, 0))
    return (
        f'<p>{title}</p><div class="ql-plot"><div class="ql-y">{y_labels}</div>'
        f'<div>{_svg(drawing, 1000, 1000)}{marks}</div><div class="ql-x">{x_labels}</div></div>'
        f'<table class="ql-values"><thead><tr><th scope="col">at epsilon</th><th scope="col">{text}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def histogram(counts: Sequence[int], chosen: int, colour: str) -> str:
    """Return a bar a count on a logarithmic scale, and a dashed line at the chosen one."""
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
