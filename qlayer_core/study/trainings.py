"""Whether another way to train a network explains that a number is far from the paper's."""

from collections.abc import Iterator
from statistics import mean

import pandas as pd

from qlayer_core.study import experiments, paper, records, tables, variants

CLOSER = 2 / 3  # a cell made in another way explains a difference of which it leaves at most so much


def measured() -> tables.Measurements:
    """Return all recorded cells by what they measure, with those of `variants.LATER` under names of their own."""
    later = tables.cells(variants.LATER)
    later = later.assign(model=later.model.map(variants.later))
    return tables.by_measurement(pd.concat([tables.cells(), later]))


def nearer(cell: paper.Cell, ours: tables.Measurements) -> Iterator[tuple[str, str]]:
    """Yield the evidence that a network trained otherwise, attacked in the same way, comes nearer to a cell.

    It must be nearer in the mean over all cells of the network, too: where that training spoils it, one cell that
    happens to come nearer explains nothing.

    Args:
        cell: the paper's.
        ours: what `measured` returns.
    """
    for other, how in (
        (
            experiments.printed(cell.model),
            "by the paper's text (validation images chose another setting here)",
        ),
        (
            variants.later(cell.model),
            "with dropout behind the layer, which scores best on validation images,",
        ),
    ):
        if other is None or (found := _both(cell, other, ours)) is None:
            continue
        otherwise, chosen, n, seeds = found
        if abs(otherwise - cell.accuracy) > CLOSER * abs(chosen - cell.accuracy):
            continue
        apart = [
            (abs(pair[0] - one.accuracy), abs(pair[1] - one.accuracy))
            for table in paper.TABLES.values()
            for one in table.cells
            if (one.model, one.dataset) == (cell.model, cell.dataset)
            and (pair := _both(one, other, ours)) is not None
        ]
        if mean(others for others, _ in apart) < mean(own for _, own in apart):
            yield (
                f"how a network is trained: {how} it comes nearer",
                f"trained so, {seeds} seed{'s' if seeds > 1 else ''}: {otherwise:.2f} % of the same {n:,} images,"
                f" {chosen:.2f} % by the chosen setting{' with the same seeds' if seeds > 1 else ' with that seed'}",
            )


def _both(cell: paper.Cell, other: str, ours: tables.Measurements) -> tuple[float, float, int, int] | None:
    """Return a cell's accuracies with the other and the chosen training, their images and how many seeds both have.

    None where no seed is recorded of both.
    """
    found = tables.same(ours, cell, model=other), tables.same(ours, cell)
    seeds = set.intersection(*(set(rows.seed) for rows in found))
    if not seeds:
        return None
    both = tables.alike(pd.concat([rows[rows.seed.isin(seeds)] for rows in found]))
    accuracy = both.accuracy.astype(float).groupby(both.model).mean()
    return accuracy[other], accuracy[cell.model], int(both.n.min()), len(seeds)


def by_validation(cell: paper.Cell, accuracy: float) -> tuple[str, str] | None:
    """Return the recorded setting of `variants.SETTINGS` that explains most of a black-box cell, and its evidence.

    Judged by FGSM of the same budget on validation images, where the settings were compared. Of those that fit, the
    one that is nearest to the paper's text.
    """
    kind = f"fgsm {cell.eps:g}"
    if (
        cell.setting != "black-box"
        or cell.model not in variants.DECIDED_ON
        or not (mine := records.runs(cell.dataset, cell.model))
    ):
        return None
    own, missing = mean(run["chosen"]["accuracy"][cell.path][kind] for run in mine), cell.accuracy - accuracy
    found = []
    settings = variants.SETTINGS.values()
    for setting in settings:
        unit = setting.unit(cell.dataset, cell.model)
        if unit.spec != experiments.spec(cell.model) and unit.record.exists():
            value = records.read_unit(unit)["chosen"]["accuracy"][cell.path][kind]
            found.append((setting.departures(), abs(1 - (value - own) / missing), value, setting))
    found = [one for one in found if one[1] <= CLOSER]  # of the gap it leaves at most so much
    if not found:
        return None
    departures, _, value, best = min(found, key=lambda one: one[:2])
    used = min(one.departures() for one in settings if one.spec(cell.model) == experiments.spec(cell.model))
    text = "nearer to" if departures < used else "no nearer to" if departures == used else "further from"
    return (
        f"how a network is trained: another setting comes nearer; it is {text} the paper's text than the one used"
        f" here (which departs from it in {_ways(used)}, the other in {_ways(departures)})",
        f"commitment {best.spec(cell.model).commitment}, inactive codes {best.spec(cell.model).inactive}, dropout"
        f" {best.dropout}, one seed: {value:.1f} instead of {own:.1f} % under {kind} on validation images",
    )


def _ways(count: int) -> str:
    return f"{count} way" if count == 1 else f"{count} ways"
