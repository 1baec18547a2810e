"""Where our numbers and the paper's differ by more than chance would, with the best explanation and its evidence.

An explanation is a rule that looks at recorded cells alone, and the first whose evidence is there is given. A cell
that none explains is listed all the same, and says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from statistics import median

import pandas as pd

from qlayer_core.study import paper, records, tables, trails, trainings
from qlayer_core.study.trainings import CLOSER

BEYOND = 10.0  # points: more than other test images, another attacker or another seed usually change
POINT = 1.0  # of the validation score: epochs that are nearer to the best might have been kept as well


@dataclass(frozen=True)
class Disagreement:
    """One cell of the paper that ours is far from.

    Args:
        cell: the paper's.
        ours: our accuracy in percent, mean over seeds.
        difference: ours less the paper's, in points.
        why: the explanation, one sentence.
        support: the evidence: a recorded cell or one of the paper's, in words, with its number, or "".
    """

    cell: paper.Cell
    ours: float
    difference: float
    why: str
    support: str


def disagreements(
    numbers: tuple[str, ...] = tuple(paper.TABLES), beyond: float = BEYOND
) -> list[Disagreement]:
    """Return every recorded cell of these tables that is more than ``beyond`` points from the paper's, largest first.

    A cell that several tables show is listed once.
    """
    ours = trainings.measured()
    found = [
        Disagreement(cell, accuracy, accuracy - cell.accuracy, *next(_explanations(cell, accuracy, ours)))
        for cell, accuracy in _means(numbers, ours)
        if abs(accuracy - cell.accuracy) > beyond
    ]
    return sorted(found, key=lambda one: -abs(one.difference))


def by_chance(numbers: tuple[str, ...], known: list[Disagreement]) -> dict[tuple[str, int], list[bool]]:
    """Return which of many differences the rules would explain that do not exist, by setting and sign.

    Of each cell that is not far from the paper's it is pretended that the paper's number lay above ours (1), or below
    (-1), by the median of the ``known`` ones, as `disagreements` gives them. Rules that explain these as readily
    explain nothing.
    """
    ours = trainings.measured()
    far = [abs(one.difference) for one in known]
    found = {}
    for cell, accuracy in _means(numbers, ours):
        near = far and abs(accuracy - cell.accuracy) <= BEYOND
        for sign in (-1, 1) if near else ():
            if 0 <= (pretended := accuracy + sign * median(far)) <= 100:
                _, support = next(_explanations(replace(cell, accuracy=pretended), accuracy, ours))
                found.setdefault((cell.setting, sign), []).append(bool(support))
    return found


def recorded(
    numbers: tuple[str, ...] = tuple(paper.TABLES), ours: tables.Measurements | None = None
) -> Iterator[tuple[paper.Cell, pd.DataFrame]]:
    """Yield the paper's cells of these tables that are recorded, each once, with ours: rows of `tables.cells`.

    One row per seed, each of the images that all seeds were measured on. ``ours`` is `trainings.measured`, where it
    is at hand: it reads every record.
    """
    seen, ours = set(), trainings.measured() if ours is None else ours
    for number in numbers:
        for cell in paper.TABLES[number].cells:
            mine = tables.alike(tables.same(ours, cell))
            if not mine.empty and (cell.dataset, cell.model, *cell.key) not in seen:
                seen.add((cell.dataset, cell.model, *cell.key))
                yield cell, mine


def _means(numbers: tuple[str, ...], ours: tables.Measurements) -> Iterator[tuple[paper.Cell, float]]:
    """Yield what `recorded` does, with our accuracy, mean over seeds."""
    for cell, mine in recorded(numbers, ours):
        yield cell, float(mine.accuracy.astype(float).mean())


def _explanations(cell: paper.Cell, accuracy: float, ours: tables.Measurements) -> Iterator[tuple[str, str]]:
    """Yield what explains a cell, and the evidence, best first."""
    gap = abs(accuracy - cell.accuracy)
    for other, why in (
        (
            "clipped",
            "the paper's gradient rounded to zero where the network is sure, so that images stayed as they were",
        ),
        (
            "softmax",
            "the paper's attack may have seen probabilities, which hardly move where the network is sure",
        ),
    ):
        again, as_it_is = tables.same(ours, cell, attack=f"{cell.attack}-{other}"), tables.same(ours, cell)
        seeds = set(as_it_is.seed) & set(again.seed)
        if cell.setting == "white-box" and seeds:
            # Of the same seeds and images: fewer may be measured in that way, and those may be the better ones.
            both = pd.concat({"without": as_it_is, "with": again})
            both = tables.alike(both[both.seed.isin(seeds)])
            plain, value = (float(both.accuracy[made].astype(float).mean()) for made in ("without", "with"))
            left = abs(accuracy + value - plain - cell.accuracy)
            if abs(value - cell.accuracy) <= CLOSER * abs(plain - cell.accuracy) and left <= CLOSER * gap:
                fewer = {"seeds": len(seeds) < len(as_it_is), "images": both.n.max() < as_it_is.n.min()}
                same = " and ".join(what for what in fewer if fewer[what])
                yield (
                    why,
                    f"ours, made in that way: {value:.2f} %"
                    + (f", and {plain:.2f} % of the same {same} without" if same else ""),
                )
    if (
        cell.setting == "white-box" and accuracy < cell.accuracy
    ):  # an attack that had failed left too many right
        for stuck, more in _stuck(cell) if cell.attack != "cw" else ():
            yield (
                "the paper's attack had no gradient for many of the images, and counted them as robust",
                f"the paper's Table {stuck.table}, {stuck.row}: {stuck.column} and {more.column} both leave"
                f" {stuck.accuracy:.2f} %",
            )
        for blind in _blind(cell):
            if blind.accuracy < cell.accuracy:
                yield (
                    "the paper's attack had failed: on images made without sight of the network it fooled more",
                    f"the paper's Table {blind.table}, {blind.row}, {blind.column}: {blind.accuracy:.2f} %",
                )
        for smaller in paper.TABLES[cell.table].cells:
            same = (smaller.row, smaller.attack) == (cell.row, cell.attack)
            if same and 0 < smaller.eps < cell.eps and smaller.accuracy <= cell.accuracy:
                yield (
                    "the paper's attack had failed: a smaller budget fooled as many images",
                    f"the paper's Table {smaller.table}, {smaller.row}, {smaller.column}: {smaller.accuracy:.2f} %",
                )
    if cell.setting == "white-box" and cell.attack != "cw" and accuracy < cell.accuracy:
        for seen, blind in _failed(cell):
            yield (
                "the paper's attack on this network had failed: with another budget, images made without sight of it"
                " fooled more",
                f"the paper's Table {seen.table}, {seen.row}, {seen.column}: {seen.accuracy:.2f} %;"
                f" Table {blind.table}: {blind.accuracy:.2f} %",
            )
    mine = tables.same(ours, cell)
    alike = tables.alike(mine)
    for seed in mine[mine.n > mine.n.min()].itertuples():
        here = alike.accuracy[seed.Index]
        harder = seed.accuracy - here  # the rest of the difference is between seeds
        if harder > 0 and abs(accuracy + harder - cell.accuracy) <= CLOSER * gap:
            yield (
                f"seeds differ, and are compared on the first {mine.n.min():,} images, which are harder than most",
                f"seed {seed.seed}: {here:.2f} % of these, {seed.accuracy:.2f} % of {seed.n:,}",
            )
    seeds = sorted(alike.accuracy.astype(float))
    if seeds[0] <= cell.accuracy <= seeds[-1]:
        yield (
            "chance: the numbers of our seeds lie on both sides of the paper's",
            f"from {seeds[0]:.2f} to {seeds[-1]:.2f} % with {len(seeds)} seeds",
        )
    shown = tables.preferred(cell.dataset, cell.model)
    if (
        len(alike) > 2 and cell.path != "e" and shown in set(alike.seed)
    ):  # the E-path has no part in the choice
        value = float(alike.accuracy[alike.seed == shown].iloc[0])
        if abs(value - cell.accuracy) <= min(CLOSER * gap, BEYOND):
            yield (
                "which network is shown: the paper's is the best of three on validation images, ours is the mean",
                f"seed {shown}, the best of {len(alike)} there: {value:.2f} %",
            )
    yield from trainings.nearer(cell, ours)
    low, high, epochs = _while_training(cell)
    span = "from {:.1f} to {:.1f} % on validation images over {} epochs, none of them a point worse than the best"
    if low <= cell.accuracy <= high:
        yield (
            "which epoch is kept: the same number crosses the paper's while the network is trained",
            span.format(low, high, epochs),
        )
    for twin in _under_fgsm(cell):
        low, high, epochs = _while_training(twin)
        # not a number where none is recorded
        there = tables.alike(tables.same(ours, twin)).accuracy.astype(float).mean()
        off = there - twin.accuracy
        if low <= twin.accuracy <= high and off / (accuracy - cell.accuracy) > 1 - CLOSER:
            yield (
                "which epoch is kept: under FGSM it is off the same way, and crosses the paper's while the network"
                " is trained",
                span.format(low, high, epochs),
            )
    yield from _along_a_trail(cell)
    if setting := trainings.by_validation(cell, accuracy):
        yield setting
    yield "not explained", ""


def _along_a_trail(cell: paper.Cell) -> Iterator[tuple[str, str]]:
    """Yield the evidence that a white-box number crosses the paper's from epoch to epoch, on validation images.

    The score that keeps an epoch is made of images that another network attacked: it does not see this.
    """
    seeing = cell.setting == "white-box" and cell.attacked_path in (None, "e")  # as a trail's attacks do
    for trail in trails.recorded(cell.dataset, cell.model) if seeing else ():
        for attack, how in (
            (cell.attack, ""),
            (f"{cell.attack}-clipped", " by the clipped gradient, the paper's,"),
        ):
            values = trails.along(trail, attack, cell.eps, cell.path)
            if values and min(values) <= cell.accuracy <= max(values):
                scores = [row["score"] for row in trail["rows"]]
                nearest = min(range(len(values)), key=lambda at: abs(values[at] - cell.accuracy))
                kept = scores.index(max(scores))
                yield (
                    "which epoch is kept: under an attacker who sees it, the network reaches the paper's number after"
                    " another epoch; the score is made of images that were attacked on another network, and does not"
                    " see it",
                    f"trained once more, seed {trail['seed']}:{how} {values[kept]:.1f} % after epoch {kept + 1},"
                    f" which is kept, {values[nearest]:.1f} % after epoch {nearest + 1}, whose score is"
                    f" {scores[kept] - scores[nearest]:.1f} points lower; on {trail['n']} validation images",
                )


def _blind(cell: paper.Cell) -> Iterator[paper.Cell]:
    """Yield the paper's black-box cells of the same attack on the same network."""
    for table in paper.TABLES.values():
        for other in table.cells:
            if other.setting == "black-box" and other.source == "cnn-a":
                what = (other.dataset, other.model, other.attack, other.eps, other.path)
                if what == (cell.dataset, cell.model, cell.attack, cell.eps, cell.path):
                    yield other


def _under_fgsm(cell: paper.Cell) -> Iterator[paper.Cell]:
    """Yield the cell of the same row and budget under FGSM, for one of images that BIM made on another network."""
    for other in paper.TABLES[cell.table].cells:
        same = (other.row, other.eps, other.path) == (cell.row, cell.eps, cell.path)
        if same and (cell.setting, cell.attack, other.attack) == ("black-box", "bim", "fgsm"):
            yield other


def _failed(cell: paper.Cell) -> Iterator[tuple[paper.Cell, paper.Cell]]:
    """Yield the paper's cells of the same attack and gradient that a blind one undercuts, each with that one's.

    The same path's answer first, and what is undercut most. An FGSM that fails says nothing of BIM: one large step
    can miss, after training on such steps above all, where many small ones do not.
    """
    pairs = [
        (other, blind)
        for table in paper.TABLES.values()
        for other in table.cells
        if (other.dataset, other.model, other.setting) == (cell.dataset, cell.model, "white-box")
        and other.attacked_path == cell.attacked_path
        and other.attack == cell.attack
        for blind in _blind(other)
        if blind.accuracy < other.accuracy
    ]
    yield from sorted(
        pairs, key=lambda pair: (pair[0].path != cell.path, pair[1].accuracy - pair[0].accuracy)
    )


def _stuck(cell: paper.Cell) -> Iterator[tuple[paper.Cell, paper.Cell]]:
    """Yield pairs of the paper's BIM cells on the same attacked path that agree to the digit at two budgets."""
    for table in paper.TABLES.values():
        bim = [
            other
            for other in table.cells
            if (other.dataset, other.model, other.attack) == (cell.dataset, cell.model, "bim")
            and other.setting == "white-box"
            and other.attacked_path == cell.attacked_path == other.path
        ]
        for one in bim:
            for other in bim:
                if one.row == other.row and one.eps < other.eps and one.accuracy == other.accuracy:
                    yield one, other


def _while_training(cell: paper.Cell) -> tuple[float, float, int]:
    """Return the lowest and highest accuracy on validation images of the same kind, and after how many epochs.

    Of those alone that the choice of an epoch might have taken as well: within `POINT` of the best. Validation images
    are clean or attacked by FGSM from a network that the defender owns. (inf, -inf, 0) without.
    """
    kind, values = "clean" if cell.setting == "clean" else f"{cell.attack} {cell.eps:g}", []
    for run in records.runs(cell.dataset, cell.model) if cell.setting != "white-box" else ():
        best = max((row["score"] for row in run["history"]), default=0.0)
        rows = (row["accuracy"].get(cell.path, {}) for row in run["history"] if row["score"] >= best - POINT)
        values += [row[kind] for row in rows if kind in row]
    return (min(values), max(values), len(values)) if values else (inf, -inf, 0)
