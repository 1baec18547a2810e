"""Heat maps over heads and codebook size: Table 8 beside ours, and other numbers with one dot per try."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from qlayer_core.show import results
from qlayer_core.show.page import Markup, joined, listed, paragraph, upper
from qlayer_core.show.plot import GRID, MUTED, SERIES, TEXT, axes, picture
from qlayer_core.show.switches import HEADS, SIZES
from qlayer_core.study import paper, tables

Place = tuple[int, int]  # heads, codes per head


def ablation(number: str) -> tuple[dict[Place, list[float]], dict[Place, float]]:
    """Return our numbers of Table 8a or 8b, one per recorded seed, and the paper's, by heads and codes per head."""
    ours: dict[Place, list[float]] = {}
    published: dict[Place, float] = {}
    for place, part in tables.table(number, None).groupby(["row", "column"], sort=False):
        heads, codes = (int(word.split("=")[1]) for word in place)
        published[heads, codes] = part.paper.iloc[0]
        ours[heads, codes] = list(tables.alike(part[part.ours.notna()], "ours").ours)
    return ours, published


def table_8(number: str) -> Markup:
    """Return Table 8a or 8b, each cell's left half the paper's number, its right half ours, over a caption."""
    return joined(_table_8(number), _behind(number))


@picture
def _table_8(number: str):
    ours, published = ablation(number)
    done = [place for place, values in ours.items() if values]
    values = [*published.values(), *(value for place in done for value in ours[place])]
    figure, ax, share = _board(values, width=1.55)
    words = []
    for (heads, codes), number_of_theirs in published.items():
        x, y = SIZES.index(codes), HEADS.index(heads)
        mine = ours[heads, codes]
        _half(ax, x, y, "left", "paper", f"{number_of_theirs:.1f}", share(number_of_theirs))
        middle, fill = (f"{np.mean(mine):.1f}", share(np.mean(mine))) if mine else ("-", None)
        _half(ax, x, y, "right", "ours", middle, fill)
        _strip(ax, x, y, [share(value) for value in mine], share(number_of_theirs))
        own = f"ours {', '.join(f'{value:.2f}' for value in mine)}" if mine else "ours not trained yet"
        words.append(f"K = {heads}, {codes} codes: paper {number_of_theirs:.2f}, {own}")
    ax.set_xlabel(f"each scale: {min(values):.1f} to {max(values):.1f} %")
    return figure, f"{paper.TABLES[number].caption}, in percent. {'; '.join(words)}."


def _behind(number: str) -> Markup:
    """Return in words what stands behind our numbers of Table 8a or 8b, and which have fewer seeds than others."""
    frame = results.summary(number)
    text = f"{results.title(number)}, in percent. {results.measured(number, bounds=False)}"
    fewer = frame[(frame.seeds > 0) & (frame.seeds < frame.seeds.max())]
    for which, part in fewer.groupby("which", sort=False):
        rows = [
            f"{row.replace('=', ' = ')} with {listed([column.split('=')[1] for column in some.index])} codes"
            for row, some in part.droplevel("row").groupby(part.index.get_level_values("row"), sort=False)
        ]
        seeds = f"seed{'s' if len(which) > 1 else ''} {listed([str(seed) for seed in which])}"
        text += f" {upper(seeds)} alone: {len(part)} of {len(frame)} numbers ({'; '.join(rows)})."
    single = frame[frame.seeds == 1]
    if len(single):
        wide = (single.high - single.low).max()
        text += f" The 95 % Wilson interval of a number of one seed is at most {wide:.1f} points wide."
    if frame.seeds.max() > 1:
        text += " Where there are several, their dots show the range."
    return paragraph(text)


def wins(values: Mapping[Place, float]) -> dict[str, tuple[int, int]]:
    """Return how often more heads, and fewer codes, go with a higher number, and of how many pairs.

    Args:
        values: a number per place; places that are missing take no part.

    Returns:
        ``"heads"``: twice as many against as many, with the same codes. ``"codes"``: fewer than the most against
        the most, with the same heads.
    """
    heads = [((more, n), (few, n)) for few, more in pairwise(HEADS) for n in SIZES]
    codes = [((k, n), (k, SIZES[-1])) for k in HEADS for n in SIZES[:-1]]
    found = {}
    for what, pairs in (("heads", heads), ("codes", codes)):
        there = [values[one] > values[other] for one, other in pairs if one in values and other in values]
        found[what] = sum(there), len(there)
    return found


def reading(number: str) -> Markup:
    """Return in words whether heads and codes do to our networks of Table 8a or 8b what they do to the paper's."""
    ours, published = ablation(number)
    mine = {place: float(np.mean(values)) for place, values in ours.items() if values}
    if not mine:
        return paragraph("None of ours is trained yet.")
    here, there = wins(mine), wins({place: published[place] for place in mine})
    says = "" if len(mine) == len(ours) else f"{len(mine)} of our {len(ours)} networks are trained."
    for what, better in (
        ("heads", "With the same number of codes, ours with twice the heads are more robust in"),
        (
            "codes",
            f"With the same number of heads, ours with fewer than {SIZES[-1]} codes are more robust in",
        ),
    ):
        won, of = here[what]
        says += f" {better} {won} of {of} pairs, in the paper in {there[what][0]}." if of else ""
    heads, codes = max(mine, key=lambda place: abs(mine[place] - published[place]))
    says += (
        f" Furthest from the paper is K = {heads} with {codes} codes:"
        f" {mine[heads, codes]:.1f} % instead of {published[heads, codes]:.1f} %."
    )
    if apart := seed_spread(number):
        says += (
            f" The seed alone can do much: networks that differ in nothing else are up to {apart:.1f} points apart."
            " A smaller difference says little."
        )
    return paragraph(says.strip())


def seed_spread(number: str) -> float:
    """Return how many points two seeds of one network of Table 8a or 8b are apart at most; 0 with one each."""
    ours, _ = ablation(number)
    return max((max(values) - min(values) for values in ours.values() if values), default=0.0)


@picture
def board(values: Mapping[Place, Sequence[float]], what: str, text: str = "{:.0f}"):
    """Draw numbers by heads and codes per head: their mean in each cell, and a dot for each try.

    Args:
        values: one or more numbers per place.
        what: they are, for the text alternative.
        text: format of a mean.
    """
    figure, ax, share = _board([value for tries in values.values() for value in tries], width=1.15)
    words = []
    for (heads, codes), tries in values.items():
        x, y, middle = SIZES.index(codes), HEADS.index(heads), float(np.mean(tries))
        _shade(ax, x - 0.5, y - 0.5, 1, share(middle))
        ax.text(x, y - 0.1, text.format(middle), ha="center", va="center")
        _strip(ax, x, y, [share(value) for value in tries])
        words.append(f"K = {heads}, {codes} codes: {text.format(middle)}")
    return figure, f"{what}. {'; '.join(words)}."


def _board(values: Sequence[float], width: float):
    """Return a figure with an empty 3 x 3 board, and what part of the range a value is."""
    figure, grid = axes(width * len(SIZES) + 0.7, 0.85 * len(HEADS) + 0.75)
    ax, low, high = grid[0, 0], min(values), max(values)
    ax.set(xlim=(-0.5, len(SIZES) - 0.5), ylim=(len(HEADS) - 0.5, -0.5))
    ax.set_xticks(range(len(SIZES)), [f"{size} codes" for size in SIZES])
    ax.set_yticks(range(len(HEADS)), [f"{heads} head{'s' if heads > 1 else ''}" for heads in HEADS])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)

    def share(value: float) -> float:
        return (value - low) / max(high - low, 1e-9)

    return figure, ax, share


def _shade(ax: Axes, left: float, top: float, width: float, share: float) -> None:
    look = {"facecolor": SERIES[0], "alpha": 0.06 + 0.4 * share, "lw": 0}
    ax.add_patch(Rectangle((left + 0.02, top + 0.03), width - 0.04, 0.94, **look))


def _half(ax: Axes, x: int, y: int, side: str, name: str, text: str, share: float | None) -> None:
    """Fill half a cell; without a share it stays empty, in a dashed frame."""
    left = x - 0.5 if side == "left" else x
    middle = left + 0.25
    if share is None:
        look = {"facecolor": "none", "edgecolor": GRID, "linestyle": "--", "lw": 1}
        ax.add_patch(Rectangle((left + 0.03, y - 0.45), 0.44, 0.9, **look))
    else:
        _shade(ax, left, y - 0.5, 0.5, share)
    ax.text(middle, y - 0.27, name, ha="center", va="center", fontsize=8, color=TEXT)
    ax.text(middle, y, text, ha="center", va="center", color=TEXT if share is not None else MUTED)


def _strip(ax: Axes, x: int, y: int, shares: Sequence[float], published: float | None = None) -> None:
    """Draw a scale over a cell, from the lowest of all numbers to the highest, with a dot for each of the cell's."""

    def place(share: float) -> float:
        return x - 0.4 + 0.8 * share

    ax.plot([place(0), place(1)], [y + 0.3] * 2, color=MUTED, lw=0.8)
    if published is not None:
        ax.plot(place(published), y + 0.3, "D", markersize=6, markerfacecolor="none", markeredgecolor=TEXT)
    ax.plot([place(share) for share in shares], [y + 0.3] * len(shares), "o", markersize=4, color=SERIES[0])
