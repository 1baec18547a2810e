"""Networks trained by the paper's text beside those of the setting that validation images chose instead."""

from collections import Counter
from statistics import mean
from typing import NamedTuple

import pandas as pd

from qlayer_core.show import names, results, verdict
from qlayer_core.show.page import Markup, decimal, joined, line_names, lines, listed, paragraph, struck, table
from qlayer_core.study import claims, evidence, experiments, measured, paper, records, tables

SEED = 0  # of both: they draw the same batches


class Pair(NamedTuple):
    """One cell of the paper, and what the two networks keep of the same images, in percent."""

    cell: paper.Cell
    text: float
    chosen: float
    low: float  # of the 95 % interval of the difference, text less chosen, in points
    high: float
    unreliable: str | None
    n: int


def pairs(number: str) -> list[Pair]:
    """Return the cells of a table that are measured on both networks, in its order."""
    frame, found = tables.cells(), []
    frame = tables.by_measurement(frame[frame.seed == SEED])
    for cell in paper.TABLES[number].cells:
        if (literal := experiments.printed(cell.model)) is None:
            continue
        both = [tables.same(frame, cell, model=name) for name in (literal, cell.model)]
        if any(rows.empty for rows in both):
            continue
        n = min(int(rows.n.iloc[0]) for rows in both)
        numbers = [evidence.counted(records.unpack(rows.iloc[0].to_dict())[:n]) for rows in both]
        why = both[0].unreliable.iloc[0] or both[1].unreliable.iloc[0]
        found.append(Pair(cell, *(one.value for one in numbers), *evidence.interval([numbers]), why, n))
    return found


def comparison(number: str) -> Markup:
    """Return `pairs` as a table, a row per network; empty where nothing is measured."""
    found = pairs(number)
    if not found:
        return Markup("", "")
    columns = list(dict.fromkeys(one.cell.column for one in found))
    says = ("book's setting", "paper", "gained", "at least", "at most")
    rows = []
    for row in dict.fromkeys(one.cell.row for one in found):
        mine = {one.cell.column: one for one in found if one.cell.row == row}
        line = [line_names(f"{results.row_name(row)}, by the text", *says)]
        for column in columns:
            one = mine.get(column)
            values = (None,) * 6
            if one is not None:
                values = one.text, one.chosen, one.cell.accuracy, one.text - one.chosen, one.low, one.high
            ours, *others = (decimal(value, 1, sign=at > 2) for at, value in enumerate(values))
            why = one.unreliable if one else None
            line.append(lines(struck(ours, why), *others, says=("by the text", *says)))
        rows.append(line)
    few = sorted({one.n for one in found})
    struck_out = " Struck through: one of the two attacks failed a sanity check."
    return table(
        rows,
        ["network", *map(results.column_name, columns)],
        f"{results.title(number)}, in percent. Bold: adversarially trained by the paper's text; below: by the book's"
        f" setting, that of the other tables, with the same batches. Seed {SEED} of both, on the same first"
        f" {listed([f'{n:,}' for n in few])} test images. Gained: what the text adds, in points, with"
        " its 95 % interval." + (struck_out if any(one.unreliable for one in found) else ""),
    )


def reading(*numbers: str) -> Markup:
    """Return in words, network by network, what the paper's text does to these tables; empty without records."""
    found = [one for number in numbers for one in pairs(number) if one.cell.setting != "clean"]
    found = [one for one in found if one.cell.attack != "cw"]
    struck_out = {one.cell.model for one in found if one.unreliable is not None}
    found = [one for one in found if one.unreliable is None]
    sentences = []
    for model in dict.fromkeys(one.cell.model for one in found):
        mine = [one for one in found if one.cell.model == model]
        ahead, behind = sum(one.low > 0 for one in mine), sum(one.high < 0 for one in mine)
        nearer = sum(abs(one.text - one.cell.accuracy) < abs(one.chosen - one.cell.accuracy) for one in mine)
        rest = " (those that are struck left out)" if model in struck_out else ""
        far = max(mine, key=lambda one: abs(one.text - one.chosen))
        sentences.append(
            f"{names.label(model)}: trained by the text, it keeps clearly more images than with the book's setting in"
            f" {ahead} of {len(mine)} cells that FGSM and BIM attacked{rest}, and clearly fewer in {behind}. In"
            f" {nearer} of them the text comes nearer to the paper. The largest difference is under"
            f" {names.attack(far.cell.column)} ({names.SETTINGS[far.cell.setting]}): {far.text:.1f} % by the text,"
            f" {far.chosen:.1f} % with the book's setting, {far.cell.accuracy:.1f} % in the paper. On average the"
            f" text is {_apart(mine, 'text'):.1f} points from the paper, the book's setting"
            f" {_apart(mine, 'chosen'):.1f}."
        )
    return joined(*map(paragraph, sentences)) if sentences else Markup("", "")


def _apart(found: list[Pair], which: str) -> float:
    return mean(abs(getattr(one, which) - one.cell.accuracy) for one in found)


def turned(frame: pd.DataFrame) -> Markup:
    """Return in words which verdicts would be others with the paper's text in place of the chosen setting.

    Empty where no network that was trained by the text is recorded.
    """
    models = [name for name in experiments.RUNS if (frame.model == experiments.printed(name)).any()]
    if not models:
        return Markup("", "")
    both = frame, measured.by_the_text(frame)
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
                said.append(f"\u201c{old.name}\u201d{under}: {' becomes '.join(words)}")
    who, its = listed([names.label(name) for name in models]), "its" if len(models) == 1 else "their"
    seeds = frame[frame.model.isin([experiments.printed(name) for name in models])].seed.nunique()
    (held, failed), (more, worse) = map(_held_and_failed, both)
    changed = (
        f"{len(said)} light{'s' if len(said) > 1 else ''} would change. {'; '.join(said)}." if said else ""
    )
    return paragraph(
        f"The training setting. {who}: the setting of {its} training was chosen by validation images, and is not the"
        f" paper's text. With what the text gives ({seeds} seed{'s' if seeds > 1 else ''}) in its place,"
        f" {changed or 'no light would change.'} Under the paper's protocol {more} comparisons would hold instead of"
        f" {held}; under the strongest attack {worse} would fail instead of {failed}."
    )


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
