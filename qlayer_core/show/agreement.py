"""How near our numbers come to the paper's, over all of its tables at once, and two of our own to each other."""

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import mean, median
from typing import NamedTuple

from qlayer_core.show import names, plot
from qlayer_core.show.page import Markup, decimal, listed, table, whole
from qlayer_core.study import disagreements, paper

NEAR, FAR = 5.0, disagreements.BEYOND  # points
LOOKS = {  # by how images are attacked
    "clean": ("no attack", {"marker": "s", "color": plot.SERIES[2]}),
    "black-box": ("black box", {"marker": "o", "color": plot.SERIES[0]}),
    "white-box": ("white box", {"marker": "^", "color": plot.SERIES[3]}),
}


class Pair(NamedTuple):
    """One number of the paper and ours, in percent."""

    cell: paper.Cell
    seeds: tuple[float, ...]  # ours, of the images that all seeds were measured on
    unreliable: bool  # whether our attack failed a sanity check

    @property
    def ours(self) -> float:
        """Ours, mean over the seeds."""
        return mean(self.seeds)

    @property
    def difference(self) -> float:
        """Ours less the paper's, in points."""
        return self.ours - self.cell.accuracy


def pairs() -> list[Pair]:
    """Return every number of the paper's tables that is measured here, each once, with ours."""
    return [
        Pair(cell, tuple(mine.accuracy.astype(float)), bool(mine.unreliable.notna().any()))
        for cell, mine in disagreements.recorded()
    ]


def attack(pair: Pair) -> str:
    """Return after a comma which attack a pair is of, and nothing where there is none."""
    return "" if pair.cell.setting == "clean" else f", {names.attack(pair.cell.attack)}"


def within(differences: Sequence[float], points: float) -> int:
    """Return how many differences are of at most so many points."""
    return sum(abs(one) <= points for one in differences)


@plot.picture
def scatter(found: Sequence[Pair]):
    """Draw each number of the paper against ours, a panel per data set; where they agree, it is on the line."""
    shown = [name for name in names.DATASETS if any(pair.cell.dataset == name for pair in found)]
    figure, grid = plot.axes(0.4 + 3.7 * len(shown), 4.6, 1, len(shown), sharey=True)
    said = []
    for ax, name in zip(grid[0], shown, strict=True):
        ends = (0, 100)
        ax.fill_between(ends, [-FAR, 100 - FAR], [FAR, 100 + FAR], color=plot.GRID, alpha=0.45, linewidth=0)
        ax.plot(ends, ends, color=plot.MUTED, linewidth=1)
        for setting, (words, look) in LOOKS.items():
            some = [pair for pair in found if (pair.cell.dataset, pair.cell.setting) == (name, setting)]
            for doubt, style in ((False, {}), (True, {"marker": "x"})):
                these = [pair for pair in some if pair.unreliable == doubt]
                label = "attack failed a sanity check" if doubt else words
                ax.plot(
                    [pair.cell.accuracy for pair in these],
                    [pair.ours for pair in these],
                    linestyle="",
                    alpha=0.75,
                    label=label if these else None,
                    **look | style,
                )
            if some:
                said.append(
                    f"{names.DATASETS[name]}, {words}: {within([pair.difference for pair in some], FAR)} of"
                    f" {len(some)} within {FAR:g} points,"
                    f" {sum(pair.difference < -FAR for pair in some)} further below,"
                    f" {sum(pair.difference > FAR for pair in some)} further above"
                )
        ax.set(xlim=ends, ylim=ends, aspect="equal", title=names.DATASETS[name], xlabel="the paper's, %")
    grid[0, 0].set_ylabel("ours, %")
    handles = {}
    for ax in grid[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=2)
    return figure, f"Accuracy in percent, ours against the paper's. {'; '.join(said)}."


def by(found: Sequence[Pair], key: Callable[[Pair], str], what: str, caption: str) -> Markup:
    """Return a table of how near ours come, a row per group of pairs, and one for all.

    Args:
        found: what `pairs` returns.
        key: of a pair: its group.
        what: the groups are, the head of the first column.
        caption: of the table; what the columns are is added.
    """
    groups: dict[str, list[float]] = {}
    for pair in found:
        groups.setdefault(key(pair), []).append(pair.difference)
    rows = [
        [
            name,
            str(len(some)),
            str(within(some, NEAR)),
            str(within(some, FAR)),
            decimal(median(map(abs, some)), 1),
            decimal(median(some), 1, sign=True),
        ]
        for name, some in (groups | {"all": [pair.difference for pair in found]}).items()
    ]
    heads = [what, "numbers", f"within {NEAR:g}", f"within {FAR:g}", "typical distance", "typical difference"]
    return table(
        rows,
        heads,
        f"{caption} Distances and differences are in points; typical means the median. Ours is the mean over the"
        " recorded seeds. A difference is ours minus the paper's.",
    )


def summary(found: Sequence[Pair]) -> str:
    """Return in two sentences how near ours come, and by which attack they don't."""
    differences = [pair.difference for pair in found]
    far = [pair for pair in found if abs(pair.difference) > FAR]
    white = [pair for pair in far if pair.cell.setting == "white-box"]
    return (
        f"Of {len(found)} numbers of the paper {within(differences, FAR)} lie within {FAR:g} points of ours, and"
        f" {within(differences, NEAR)} within {NEAR:g}. Of the {len(far)} that do not, {len(white)} are of white-box"
        f" attacks; in {sum(pair.difference < 0 for pair in white)} of these the paper's number is the higher one."
    )


def against_seeds(found: Sequence[Pair]) -> str:
    """Return how far two of our own seeds lie apart, beside the paper and one of ours, in the same cells."""
    several = [pair for pair in found if len(pair.seeds) > 1]
    if not several:
        return "No number is measured with several seeds yet."

    def shares(differences: Sequence[float]) -> str:
        counted = [
            f"{whole(100 * within(differences, points) / len(differences))} %" for points in (NEAR, FAR)
        ]
        return listed(
            [f"{share} within {points:g}" for share, points in zip(counted, (NEAR, FAR), strict=True)]
        )

    own = [a - b for pair in several for a, b in combinations(pair.seeds, 2)]
    other = [seed - pair.cell.accuracy for pair in several for seed in pair.seeds]
    return (
        f"{len(several)} of the numbers are measured with two or three seeds. Two of our own networks, trained"
        f" alike but for the seed, are so near to each other: {shares(own)} points. The paper's network and one of"
        f" ours, in the same numbers: {shares(other)}."
    )
