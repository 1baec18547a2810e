"""What a notebook shows as HTML: tables, notes and paragraphs, and how a number stands in them."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

DASH = "-"  # in a table: there is no such number
_CAPTION = "font-weight: 400; text-align: left; padding: 0 0 0.4rem"
_HEARD = (
    "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"  # by screen readers only
)


@dataclass(frozen=True)
class Markup:
    """Something that a notebook shows as HTML; ``text`` is its alternative in words."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def paragraph(text: str) -> Markup:
    """Return plain text as a paragraph of the page, which breaks lines where printed output would not."""
    return Markup(f"<p>{typeset(text)}</p>", text)


def finding(text: str, title: str = "What we found.") -> Markup:
    """Return plain text in a quiet box that says that here stands what was found."""
    return Markup(f'<div class="found"><p><strong>{title}</strong> {typeset(text)}</p></div>', text)


def folded(title: str, *parts: Markup) -> Markup:
    """Return pieces one below the other, which a reader unfolds by their plain-text title."""
    inside = joined(*parts)
    head = f"<summary>{html.escape(title)}</summary>"
    return Markup(f"<details>{head}{inside.html}</details>", f"{title}. {inside.text}")


def typeset(text: str) -> str:
    """Return plain text as HTML, with the apostrophe of print, and numbers and their percent signs kept together."""
    return html.escape(text).replace("&#x27;", "&rsquo;").replace(" %", "&nbsp;%")


def joined(*parts: Markup) -> Markup:
    """Return several pieces as one, one below the other."""
    return Markup("".join(part.html for part in parts), " ".join(part.text for part in parts))


def table(rows: Sequence[Sequence[str]], columns: Sequence[str], caption: str) -> Markup:
    """Return a table whose first column names its rows.

    Args:
        rows: cells as HTML, so that they may hold emphasis; one that is alone in its row heads the rows below it.
        columns: their heads, HTML too.
        caption: plain text.
    """
    top = "".join(f'<th scope="col">{name}</th>' for name in columns)
    row, alone = 'scope="row"', f'colspan="{len(columns)}" scope="rowgroup"'
    body = "".join(
        f"<tr><th {row if cells else alone}>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    # The caption stands outside, so that it keeps the page's width where a wide table scrolls.
    name = typeset(caption)
    return Markup(
        f'<figure style="margin: 0; padding: 0"><figcaption style="{_CAPTION}">{name}</figcaption>'
        f'<table class="table table-sm" aria-label="{name}" style="white-space: nowrap; font-size: 0.92em">'
        f'<thead style="white-space: normal"><tr>{top}</tr></thead><tbody>{body}</tbody></table></figure>',
        caption,
    )


def note(title: str, text: str, kind: str = "note") -> Markup:
    """Return a box in the look of the book's own; ``text`` is HTML."""
    return Markup(
        f'<div class="admonition {kind}"><p class="admonition-title">{title}</p>{text}</div>', title
    )


def decimal(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """Return a number for a table, or a dash for one that is not there (None or NaN)."""
    if value is None or np.isnan(value):
        return DASH
    rounded = round(value, digits) + 0.0  # + 0.0: no minus before a zero, and no plus either
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"


def mean_and_range(values: Sequence[float], sign: bool = False) -> tuple[str, str]:
    """Return the mean of several numbers, and ``"lowest to highest"``; a dash for a range of one, or for none."""
    if not values:
        return DASH, DASH
    middle, low, high = (decimal(one, 1, sign) for one in (mean(values), min(values), max(values)))
    return middle, f"{low} to {high}" if len(values) > 1 else DASH


def whole(value: float) -> str:
    """Return a number that isn't negative without decimals, a half rounded up: as a reader rounds 48.5."""
    return str(math.floor(value + 0.5))


def wrapped(text: str, rem: float = 11) -> str:
    """Return HTML for a table whose words break into lines of at least ``rem``, where other cells stay on one."""
    style = f"display: inline-block; min-width: {rem}rem; white-space: normal"
    kept = re.sub(
        r"\b[QE]-\w+", r'<span style="white-space: nowrap">\g<0></span>', text
    )  # not "Q-" above "base"
    return f'<span class="wraps" style="{style}">{kept}</span>'


def struck(text: str, reason: str | None) -> str:
    """Return ``text`` as HTML, struck through with the reason at hand where there is one not to rely on it."""
    if reason is None:
        return text
    why = html.escape(reason, quote=True)
    return f'<s title="{why}">{text}</s>{_heard(f" (unreliable: {why})")}'


def lines(first: str, *others: str, says: Sequence[str] = ()) -> str:
    """Return the lines of a table's cell, the first of them bold and the others small.

    Args:
        first: HTML.
        others: HTML, the lines below it.
        says: what each line is, plain text for those who hear the table: they have no column of names to look at.
    """
    top, *below = (
        f"{_heard(html.escape(word) + ' ')}{line}" if word else line
        for line, word in zip((first, *others), says or [""] * (1 + len(others)), strict=True)
    )
    return f"<strong>{top}</strong><br><small>{'<br>'.join(below)}</small>"


def line_names(name: str, *others: str) -> str:
    """Return a row's name as HTML, and below it those of its cells' lines, which are seen only: `lines` says them."""
    below = "<br>".join(others)
    look = "font-weight: 400; white-space: nowrap"  # a name of two lines would stand beside others' values
    return f'<strong>{name}</strong><br><small aria-hidden="true" style="{look}">{below}</small>'


def _heard(text: str) -> str:
    """Return HTML that screen readers alone take notice of."""
    return f'<span style="{_HEARD}">{text}</span>'


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence has them: ``"a"``, ``"a and b"``, ``"a, b and c"``."""
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def upper(text: str) -> str:
    """Return text as it stands at the beginning of a sentence."""
    return text[:1].upper() + text[1:]
