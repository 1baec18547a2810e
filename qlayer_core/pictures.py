"""The parts of a page that the sliders switch between, as HTML that needs no server.

Digits are PNGs at their own 28 x 28 pixels, which the browser enlarges without blurring; charts are inline SVG in the
page's own text colour, so that both are small, sharp and readable in light and dark mode. Each picture has a text
alternative: a drawn chart is hidden from screen readers where the text beside it says the same.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from PIL import Image

# Kept in the page with each widget, so that it looks the same in JupyterLab and on the site.
STYLE = """<style>
.ql{line-height:1.35;font-size:.9rem;max-width:44rem;color:inherit}
.ql figure{margin:0;min-width:0}
.ql img{display:block;width:100%;height:auto;margin:0;image-rendering:pixelated;border-radius:3px;background:none}
.ql figcaption,.ql .ql-note{font-size:.82rem;line-height:1.3;color:inherit;margin:.2rem 0 .5rem}
.ql .ql-grid{display:grid;gap:.3rem .8rem;align-items:start}
.ql table{display:table;table-layout:fixed;width:100%;max-width:100%;margin:.5rem 0;border-collapse:collapse;
font-size:.82rem;border:0}
.ql th,.ql td{padding:.06rem .3rem;border:0;background:none;color:inherit;text-align:left;vertical-align:bottom;
font-weight:400;white-space:normal;overflow-wrap:anywhere}
.ql tr{background:none!important;border:0}
.ql thead th{font-weight:600;border-top:4px solid var(--c,transparent)}
.ql .ql-bars td{position:relative;padding-right:1.9rem;vertical-align:middle}
.ql .ql-bars td b{position:absolute;right:.3rem;top:.06rem;font-weight:inherit}
.ql .ql-bars td i{display:block;height:.8em;min-width:1px;box-sizing:border-box;background:var(--c);
border:2px solid var(--c)}
.ql .ql-bars td i.e{background:none}
.ql .ql-bars tr.true th,.ql .ql-bars tr.true td{font-weight:700;border-block:1px solid}
.ql .ql-rows{display:grid;grid-template-columns:max-content minmax(3rem,1fr) max-content;gap:.15rem .7rem;
align-items:center;font-size:.82rem;margin:.5rem 0}
.ql svg{display:block;width:100%;overflow:visible;max-width:none}
.ql svg *{vector-effect:non-scaling-stroke}
.ql .ql-rows svg{height:1rem}
.ql .ql-plot{display:grid;grid-template-columns:max-content 1fr;gap:.2rem .5rem;margin:.8rem .5rem .8rem 0;
font-size:.82rem}
.ql .ql-plot svg{height:12rem}
.ql .ql-y,.ql .ql-x{display:flex;justify-content:space-between}
.ql .ql-y{flex-direction:column;text-align:right;margin-block:-.55rem}
.ql .ql-x{grid-column:2}
.ql .ql-key{display:inline-block;width:2.2rem;height:.8rem;vertical-align:middle}
</style>"""
MARK_DARK, MARK_LIGHT = 254, 255  # palette entries of the mark on a changed position


class Curve(NamedTuple):
    """One line of a chart, ``ys`` in percent; ``low`` and ``high`` bound a band around it."""

    label: str
    colour: str
    line: str  # as in `palette.LINES`
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def grey(pixels: np.ndarray, text: str, *, gap: int | None = None) -> str:
    """Return ``<img>`` of a picture ``(H, W)`` with values in [0, 1] and its text alternative.

    ``gap`` is a grey level from 0 to 255 that is left transparent.
    """
    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return _img(Image.fromarray(levels), text, {} if gap is None else {"transparency": gap})


def change(before: np.ndarray, after: np.ndarray, scale: float, text: str) -> str:
    """Return ``<img>`` of ``after - before``: grey unchanged, white brighter and black darker by ``scale``."""
    return grey(0.5 + (after - before) / (2 * scale), text)


def code_map(levels: np.ndarray, changed: np.ndarray, text: str, cell: int = 6) -> str:
    """Return ``<img>`` of a map of codes, the changed positions marked with a dot.

    Args:
        levels: ``(H, W)`` in [0, 1], the colour of each position: from dark blue over grey to yellow.
        changed: ``(H, W)`` bool.
        text: its text alternative.
        cell: pixels a position.
    """
    levels = np.rint(levels * (MARK_DARK - 1)).astype(np.uint8)
    pixels = levels.repeat(cell, 0).repeat(cell, 1)
    for row, column in zip(*np.nonzero(changed), strict=True):
        top, left = row * cell, column * cell
        pixels[top + 1 : top + cell - 1, left + 1 : left + cell - 1] = MARK_DARK
        pixels[top + 2 : top + cell - 2, left + 2 : left + cell - 2] = MARK_LIGHT
    picture = Image.fromarray(pixels, "P")
    picture.putpalette(code_palette().tobytes())
    return _img(picture, text)


def code_palette() -> np.ndarray:
    """Return the 256 colours of a code map, ``(256, 3)`` uint8: lightness grows, so hue is not needed to read it."""
    at = np.linspace(0, 1, MARK_DARK)
    anchors = np.array([(0, 34, 78), (124, 123, 120), (254, 232, 56)])
    ramp = np.stack([np.interp(at, (0, 0.5, 1), channel) for channel in anchors.T], 1)
    return np.rint(np.vstack([ramp, (0, 0, 0), (255, 255, 255)])).astype(np.uint8)


def figure(picture: str, caption: str) -> str:
    """Return a picture with its caption."""
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def grid(cells: Sequence[str], columns: int, width: float) -> str:
    """Return cells side by side, each at most ``width`` rem wide."""
    size = f"grid-template-columns:repeat({columns},minmax(0,{width}rem))"
    return f'<div class="ql-grid" style="{size}">{"".join(cells)}</div>'


def bars(heads: Sequence[tuple[str, str, bool]], rows: Sequence[str], values: np.ndarray, true: int) -> str:
    """Return a table of class probabilities, a bar and a number in each cell.

    Args:
        heads: a column each: its heading, its colour, and whether its bars are solid.
        rows: class names.
        values: ``(columns, rows)`` probabilities.
        true: the row to mark.
    """
    top = "".join(f'<th scope="col" style="--c:{colour}">{text}</th>' for text, colour, _ in heads)
    body = []
    for row, name in enumerate(rows):
        cells = "".join(
            _bar(values[column, row], colour, solid) for column, (_, colour, solid) in enumerate(heads)
        )
        mark = ' class="true"' if row == true else ""
        note = " (true)" if row == true else ""
        body.append(f'<tr{mark}><th scope="row">{escape(name)}{note}</th>{cells}</tr>')
    head = f"<thead><tr><th>class, %</th>{top}</tr></thead>"
    return f'<table class="ql-bars">{head}<tbody>{"".join(body)}</tbody></table>'


def strips(rows: Sequence[tuple[str, str, Sequence[bool], str]], cursor: int, ends: tuple[str, str]) -> str:
    """Return one strip a row over the slider's positions: solid where its answer is right.

    Args:
        rows: label, colour, right or wrong at each position, and what to say of it.
        cursor: the position to mark.
        ends: what to write below the first and the last position.
    """
    parts = []
    for label, colour, right, text in rows:
        solid = "".join(f"M{start} 0h{end - start}v1H{start}z" for start, end in _runs(right))
        drawing = (
            f'<path d="M0 .5H{len(right)}" stroke="{colour}" stroke-width="1.5"/>'
            f'<path d="{solid}" fill="{colour}"/>{_cursor(cursor + 0.5, 1)}'
        )
        parts.append(f"<span>{label}</span>{_svg(drawing, len(right), 1)}<span>{text}</span>")
    axis = f'<span></span><span class="ql-x"><span>{ends[0]}</span><span>{ends[1]}</span></span><span></span>'
    return f'<div class="ql-rows">{"".join(parts)}{axis}</div>'


def chart(curves: Sequence[Curve], at: float, last: float, *, top: float = 100) -> str:
    """Return curves over epsilon from 0 to ``last``, in percent up to ``top``, with a line at ``at``."""

    def points(xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(
            f"{1000 * x / last:.0f},{1000 * (1 - y / top):.0f}" for x, y in zip(xs, ys, strict=True)
        )

    rules = "".join(f"M0 {y}h1000" for y in (0, 250, 500, 750, 1000))
    parts = [f'<path d="{rules}" stroke="currentColor" opacity=".25"/>', _cursor(1000 * at / last, 1000)]
    for curve in curves:
        if curve.low:
            outline = points((*curve.xs, *curve.xs[::-1]), (*curve.low, *curve.high[::-1]))
            parts.append(f'<polygon points="{outline}" fill="{curve.colour}" opacity=".2"/>')
        parts.append(f'<polyline points="{points(curve.xs, curve.ys)}" {_stroke(curve.colour, curve.line)}/>')
    y_labels = "".join(f"<span>{top * share:g}</span>" for share in (1, 0.75, 0.5, 0.25, 0))
    steps = max(1, round(10 * last))
    x_labels = "".join(f"<span>{last * i / steps:.2g}</span>" for i in range(steps + 1))
    return (
        f'<div class="ql-plot"><div class="ql-y" aria-hidden="true">{y_labels}</div>'
        f'{_svg("".join(parts), 1000, 1000)}<div class="ql-x" aria-hidden="true">{x_labels}</div></div>'
    )


def key(colour: str, line: str) -> str:
    """Return a short piece of a chart's line, to stand before its name."""
    stroke = _stroke(colour, line)
    return f'<span class="ql-key">{_svg(f"<path d={chr(34)}M0 5H36{chr(34)} {stroke}/>", 36, 10)}</span>'


def histogram(heights: Sequence[float], chosen: int, colour: str) -> str:
    """Return a bar a value, the highest as high as the picture, and a mark below the chosen one."""
    highest = max(heights)
    outline = "".join(
        f"M{i}.1 100v-{100 * height / highest:.1f}h.8V100z" for i, height in enumerate(heights) if height > 0
    )
    mark = f'<path d="M{chosen + 0.5} 0V112" stroke="currentColor" stroke-width="2" stroke-dasharray="3 3"/>'
    base = f'<path d="M0 100H{len(heights)}" stroke="currentColor"/>'
    drawing = f'<path d="{outline}" fill="{colour}"/>{base}{mark}'
    return f'<div style="height:6rem;margin:.5rem 0 1rem">{_svg(drawing, len(heights), 100, "6rem")}</div>'


def _runs(right: Sequence[bool]) -> list[tuple[int, int]]:
    """Return start and end of each run of true values."""
    edges = np.flatnonzero(np.diff([False, *right, False]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _bar(share: float, colour: str, solid: bool) -> str:
    percent = round(100 * float(share))
    kind = "" if solid else ' class="e"'
    drawn = f'<i{kind} style="width:{percent}%;--c:{colour}"></i>' if percent else ""
    return f"<td>{drawn}<b>{percent}</b></td>"


def _stroke(colour: str, line: str) -> str:
    dashes = {"-": "", "--": ' stroke-dasharray="7 4"', ":": ' stroke-dasharray="2 4"'}[line]
    return f'fill="none" stroke="{colour}" stroke-width="3"{dashes}'


def _cursor(x: float, height: float) -> str:
    return f'<path d="M{x:g} 0v{height}" stroke="currentColor" stroke-width="2"/>'


def _svg(drawing: str, width: float, height: float, tall: str = "") -> str:
    size = f' style="height:{tall}"' if tall else ""
    return f'<svg aria-hidden="true" viewBox="0 0 {width} {height}" preserveAspectRatio="none"{size}>{drawing}</svg>'


def _img(picture: Image.Image, text: str, options: dict | None = None) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options or {})
    data = base64.b64encode(file.getvalue()).decode()
    # The class tells the book's theme that the picture needs no white page behind it in dark mode.
    return f'<img class="dark-light" alt="{escape(text)}" src="data:image/png;base64,{data}">'
