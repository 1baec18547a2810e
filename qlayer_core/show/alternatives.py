"""Networks of another setting beside those of the setting that validation images chose: what hangs on the choice."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import pandas as pd

from qlayer_core.show import ladder, names, results, verdict
from qlayer_core.show.page import (
    Markup,
    decimal,
    joined,
    line_names,
    lines,
    listed,
    paragraph,
    struck,
    table,
    typeset,
)
from qlayer_core.study import (
    adaptive,
    claims,
    evidence,
    experiments,
    measured,
    paper,
    records,
    tables,
    variants,
)
from qlayer_core.study.ladder import complete

SEED = 0  # of both: they draw the same batches


class Alternative(NamedTuple):
    """Another setting: what its networks are called, and where they are recorded, under the names of the grid's."""

    short: str  # "trained ..."
    subject: str  # of what adds points
    bold: str  # which networks the table has in bold type
    names: Mapping[str, str]  # of the grid's network, by that of the other in frames
    cells: Callable[[], pd.DataFrame]  # of the others, under the names of the grid's


def _by_the_text() -> pd.DataFrame:
    frame = tables.cells()
    frame = frame[frame.model.isin(experiments.BY_THE_TEXT)]
    return frame.assign(model=frame.model.map(experiments.BY_THE_TEXT))


TEXT = Alternative(
    "by the text",
    "the text",
    "adversarially trained by the paper's text",
    experiments.BY_THE_TEXT,
    _by_the_text,
)
DROPOUT = Alternative(
    "with dropout",
    "dropout",
    "trained with dropout behind the layer",
    variants.WITH_DROPOUT,
    lambda: tables.cells(variants.LATER),
)


def climbed() -> dict[tuple[str, int], tuple[dict, dict, dict]]:
    """Return the whole ladders of networks with dropout, of the book's and of the plain ones, by model and seed.

    As far as all three are recorded, each of the first images that all three are of. Of the two networks with the
    layer only the attacks that both have met count.
    """
    found, books = {}, {seed: ladder.recorded(seed=seed) for seed in variants.SEEDS}
    for record in measured.climbed(variants.LATER):
        name, book = record["model"], books[record["seed"]]
        if complete(record) and {name, ladder.plain(name)} <= book.keys():
            found[name, record["seed"]] = *_alike(record, book[name]), book[ladder.plain(name)]
    return found


def _alike(one: dict, other: dict) -> list[dict]:
    """Return two ladders with the rungs that both have, climbed in the same way."""
    rungs = [[(cell["eps"], cell["how"]) for cell in record["cells"]] for record in (one, other)]
    return [
        record | {"cells": [cell for cell in record["cells"] if (cell["eps"], cell["how"]) in theirs]}
        for record, theirs in ((one, rungs[1]), (other, rungs[0]))
    ]


def left(three: Sequence[dict], eps: float) -> list[float]:
    """Return what all attacks leave, in percent, of the first images that several ladders are all of."""
    n = min(one["n"] for one in three)
    return [100 * adaptive.worst(one, eps)[:n].mean() for one in three]


def left_with_dropout(found: Mapping[tuple[str, int], Sequence[dict]]) -> Markup:
    """Return what all attacks together leave of networks with dropout, beside the book's and the plain ones.

    Args:
        found: what `climbed` returns; a row each. The table is empty where nothing is there.
    """
    if not found:
        return Markup("", "")
    rows, says = [], ("book's setting", "plain network", "gained", "at least", "at most")
    budgets = ladder.epsilons(dict(enumerate(next(iter(found.values())))))
    for (name, seed), three in found.items():
        row = [line_names(f"{names.label(name)}, {DROPOUT.short}, seed {seed}", *says)]
        for eps in budgets:
            gain, _ = ladder.gained(*three[:2], eps)
            shares = (decimal(share, 1) for share in left(three, eps))
            gains = (decimal(points, 1, sign=True) for points in gain)
            row.append(lines(*shares, *gains, says=(DROPOUT.short, *says)))
        rows.append(row)
    images = sorted({min(one["n"] for one in three) for three in found.values()})
    return table(
        rows,
        ["network", *(f"epsilon {eps:g}" for eps in budgets)],
        f"Images (%) that no attack of the ladder fooled. Bold: {DROPOUT.bold}; below: with the book's setting, and"
        " the plain network that belongs beside it, both of the same seed, and on the same first"
        f" {listed([f'{n:,}' for n in images])} test images. Only attacks that both networks with the layer have met"
        f" count, so the book's may keep more here than elsewhere. Gained: what {DROPOUT.subject} adds to the book's"
        " setting, in points, with its 95 % interval.",
    )


class Pair(NamedTuple):
    """One cell of the paper, and what the two networks keep of the same images, in percent."""

    cell: paper.Cell
    other: float
    chosen: float
    low: float  # of the 95 % interval of the difference, other less chosen, in points
    high: float
    unreliable: str | None
    n: int


def pairs(number: str, setting: Alternative = TEXT) -> list[Pair]:
    """Return the cells of a table that are measured on both networks, in its order."""
    both_settings, found = [], []
    for frame in (setting.cells(), tables.cells()):
        both_settings.append(tables.by_measurement(frame[frame.seed == SEED]))
    for cell in paper.TABLES[number].cells:
        both = [tables.same(frame, cell) for frame in both_settings]
        if any(rows.empty for rows in both):
            continue
        n = min(int(rows.n.iloc[0]) for rows in both)
        numbers = [evidence.counted(records.unpack(rows.iloc[0].to_dict())[:n]) for rows in both]
        why = both[0].unreliable.iloc[0] or both[1].unreliable.iloc[0]
        found.append(Pair(cell, *(one.value for one in numbers), *evidence.interval([numbers]), why, n))
    return found


def comparison(number: str, setting: Alternative = TEXT) -> Markup:
    """Return `pairs` as a table, a row per network; empty where nothing is measured."""
    found = pairs(number, setting)
    if not found:
        return Markup("", "")
    columns = list(dict.fromkeys(one.cell.column for one in found))
    says = ("book's setting", "paper", "gained", "at least", "at most")
    rows = []
    for row in dict.fromkeys(one.cell.row for one in found):
        mine = {one.cell.column: one for one in found if one.cell.row == row}
        line = [line_names(f"{results.row_name(row)}, {setting.short}", *says)]
        for column in columns:
            one = mine.get(column)
            values = (None,) * 6
            if one is not None:
                values = one.other, one.chosen, one.cell.accuracy, one.other - one.chosen, one.low, one.high
            ours, *others = (decimal(value, 1, sign=at > 2) for at, value in enumerate(values))
            why = one.unreliable if one else None
            line.append(lines(struck(ours, why), *others, says=(setting.short, *says)))
        rows.append(line)
    few = sorted({one.n for one in found})
    struck_out = " Struck through: one of the two attacks failed a sanity check."
    return table(
        rows,
        ["network", *map(results.column_name, columns)],
        f"{results.title(number)}, in percent. Bold: {setting.bold}; below: by the book's"
        f" setting, that of the other tables, with the same batches. Seed {SEED} of both, on the same first"
        f" {listed([f'{n:,}' for n in few])} test images. Gained: what {setting.subject} adds, in points, with"
        " its 95 % interval." + (struck_out if any(one.unreliable for one in found) else ""),
    )


def reading(*numbers: str, setting: Alternative = TEXT) -> Markup:
    """Return in words, network by network, what another setting does to these tables; empty without records."""
    found = [one for number in numbers for one in pairs(number, setting) if one.cell.setting != "clean"]
    found = [one for one in found if one.cell.attack != "cw"]
    struck_out = {one.cell.model for one in found if one.unreliable is not None}
    found = [one for one in found if one.unreliable is None]
    sentences = []
    for model in dict.fromkeys(one.cell.model for one in found):
        mine = [one for one in found if one.cell.model == model]
        ahead, behind = sum(one.low > 0 for one in mine), sum(one.high < 0 for one in mine)
        nearer = sum(abs(one.other - one.cell.accuracy) < abs(one.chosen - one.cell.accuracy) for one in mine)
        rest = " (those that are struck left out)" if model in struck_out else ""
        far = max(mine, key=lambda one: abs(one.other - one.chosen))
        sentences.append(
            f"{names.label(model)}: trained {setting.short}, it keeps clearly more images than with the book's"
            f" setting in {ahead} of {len(mine)} cells that FGSM and BIM attacked{rest}, and clearly fewer in"
            f" {behind}. In {nearer} of the {len(mine)}, {setting.subject} comes nearer to the paper. The largest"
            f" difference is under {names.attack(far.cell.column)} ({names.SETTINGS[far.cell.setting]}):"
            f" {far.other:.1f} % {setting.short}, {far.chosen:.1f} % with the book's setting,"
            f" {far.cell.accuracy:.1f} % in the paper."
            f" On average {setting.subject} is {_apart(mine, 'other'):.1f} points from the paper, the book's setting"
            f" {_apart(mine, 'chosen'):.1f}."
        )
    return joined(*map(paragraph, sentences)) if sentences else Markup("", "")


def _apart(found: list[Pair], which: str) -> float:
    return mean(abs(getattr(one, which) - one.cell.accuracy) for one in found)


def turned(frame: pd.DataFrame) -> Markup:
    """Return in words which verdicts would be others with another setting in place of the chosen one.

    A paragraph per setting of which something is recorded.
    """
    parts = []
    for setting, says in (
        (
            TEXT,
            "The training setting. Validation images chose the setting by which {who} were trained, and it is not the"
            " paper's text. {seeds} With networks trained by the text in their place,",
        ),
        (
            DROPOUT,
            "The place of dropout. Of all settings tried so far, dropout behind the layer scores best on validation"
            " images. {seeds} With {who} trained in this way,",
        ),
    ):
        others = frame[frame.model.isin(setting.names)]
        if len(others):
            there = set(others.model)
            who = listed([names.label(name) for other, name in setting.names.items() if other in there])
            parts += _turned(says.format(who=who, seeds=_seeds(others)), frame, setting)
    return joined(*parts) if parts else Markup("", "")


def _seeds(frame: pd.DataFrame) -> str:
    """Return in words how many seeds stand behind both columns of a comparison."""
    counts = sorted(frame.groupby("model").seed.nunique())
    count = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else str(counts[0])
    return (
        f"This comparison has {count} seed{'s' if counts[-1] > 1 else ''} of both settings, and leaves out the other"
        " networks with the layer, so a light may differ from the one above."
    )


def _turned(begin: str, frame: pd.DataFrame, setting: Alternative) -> list[Markup]:
    """Return a sentence with its end, which lights would change, as a list, and how many comparisons would hold."""
    both = measured.otherwise(frame, setting.names)
    before, after = map(claims.verdicts, both)
    said = []
    for old, new in zip(before.itertuples(), after.itertuples(), strict=True):
        for side, lights in (("protocol", verdict.PROTOCOL), ("strongest", verdict.STRONGEST)):
            one, other = getattr(old, side), getattr(new, side)
            if one != other:
                held = (getattr(row, f"{side}_numbers").split(" hold")[0] for row in (old, new))
                counts = dict(zip((one, other), held, strict=True))
                under = "" if side == "protocol" else ", under the strongest attack"
                words = (f"{lights[name][1]} ({counts[name]})" for name in (one, other))
                said.append(f"\u201c{old.name}\u201d{under}: {' becomes '.join(words)}.")
    (held, failed), (more, worse) = map(_held_and_failed, both)
    end = (
        f"Under the paper's protocol {_instead(more, held)} comparisons would hold; under the strongest attack"
        f" {_instead(worse, failed)} would fail."
    )
    if not said:
        return [paragraph(f"{begin} no light would change. {end}")]
    items = "".join(f"<li>{typeset(one)}</li>" for one in said)
    return [
        paragraph(f"{begin} {len(said)} light{'s' if len(said) > 1 else ''} would change."),
        Markup(f"<ul>{items}</ul>", " ".join(said)),
        paragraph(end),
    ]


def _instead(new: int, old: int) -> str:
    return f"as many ({new})" if new == old else f"{new} instead of {old}"


def _held_and_failed(frame: pd.DataFrame) -> tuple[int, int]:
    """Return how many comparisons hold under the paper's protocol, and how many fail under the strongest attack."""
    numbers = measured.numbers(frame)
    own, worst = (
        Counter(
            evidence.judge(one, numbers).result for claim in claims.CLAIMS for one in getattr(claim, side)
        )
        for side in ("protocol", "strongest")
    )
    return own["holds"], worst["fails"]
