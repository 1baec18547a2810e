"""What the chapters show of recorded results: tables of the paper beside ours, and comparisons.

Everything comes from `study.tables`. Each function takes a seed, or None for all that are recorded: then a number is
the mean over seeds, and what stands around it their lowest and highest. Rows without any record are left out.
"""

from collections.abc import Sequence
from html import escape
from itertools import product
from statistics import mean

import numpy as np
import pandas as pd

from qlayer_core.show import marks, names
from qlayer_core.show.page import DASH, Markup, decimal, finding, line_names, lines, listed, struck, table
from qlayer_core.show.plot import axes, picture
from qlayer_core.study import evidence, experiments, paper, records, tables
from qlayer_core.study.tables import summary

_BOUNDS = ("at least", "at most")


def measured(
    number: str, seed: int | None = None, *, bounds: bool = True, interval: str = "its 95 % Wilson interval"
) -> str:
    """Return in words what stands behind our numbers of a table: images, seeds, intervals and number format.

    Args:
        number: of the table.
        seed: whose results are shown; None for all.
        bounds: whether our numbers are bold, with their interval or range below.
        interval: what that interval is, with one seed.
    """
    about = tables.behind(number, seed)
    if not about.seeds:
        return "None of ours is recorded."
    if len(about.seeds) > 1:
        interval = f"the lowest and highest of several seeds or, with one, {interval}"
    ends = f", with {interval}" if bounds else ""
    seeds = listed([str(one) for one in about.seeds])
    who = f"{'seed' if len(about.seeds) == 1 else 'mean over seeds'} {seeds}"
    first = [f"{mark} the first {n:,}" for n, mark in tables.circles(about.images).items() if mark]
    some = f" ({', '.join(first)})" if first else ""
    words = [f"{names.label(name)} (seed {seed})" for name, seed in about.paused]
    still = f" Training of {listed(words)} was paused before it was over: provisional." if words else ""
    return (
        f"{'Bold: ours' if bounds else 'Ours'}, {who}, on {max(about.images):,} test images{some}"
        f"{ends}; attacks computed in {listed(about.formats)}, answers in float32.{still}"
    )


def comparison(number: str, seed: int | None = None) -> Markup:
    """Return a table of the paper with ours: our accuracy, what bounds it, the paper's and the difference.

    Rows of several seeds say what the one has that the paper would have shown, too.
    """
    frame = summary(number, seed)
    columns, rows = _columns(frame), []
    few, (fewer, alone) = tables.circles(frame.n), marks.seeds(frame.which.to_dict())
    for row in _recorded_rows(frame):
        says = *_BOUNDS, *(["chosen"] if frame.loc[row].chosen.notna().any() else []), "paper", "difference"
        line = [
            line_names(row_name(row) + _less(frame.loc[row].seeds.max(), frame.seeds.max(), "seed"), *says)
        ]
        for column in columns:
            cell = frame.loc[(row, column)]
            ours = struck(decimal(cell.ours), cell.unreliable) + few.get(cell.n, "") + fewer[row, column]
            values = dict(zip(_BOUNDS, (cell.low, cell.high), strict=True)) | cell.to_dict()
            others = (decimal(values[name], sign=name == "difference") for name in says)
            line.append(lines(ours, *others, says=("ours", *says)))
        rows.append(line)
    return table(
        rows,
        ["network", *map(column_name, columns)],
        f"{title(number)}, in percent. {measured(number, seed)}{alone}{_struck(frame)}"
        + (
            " Chosen: the one of our seeds that validation images prefer; the paper shows the best of three."
            if frame.chosen.notna().any()
            else ""
        ),
    )


def missing(*numbers: str) -> Markup:
    """Return in words which networks of these tables are not measured yet, and the commands that make them.

    Empty where every cell is recorded. More than six networks are counted, since nobody reads a list of them.
    """
    dataset, everyone, lacking = paper.TABLES[numbers[0]].dataset, {}, {}
    for number in numbers:
        about = {(cell.row, cell.column): cell.model for cell in paper.TABLES[number].cells}
        everyone |= dict.fromkeys(about.values())
        frame = summary(number)
        lacking |= dict.fromkeys(about[place] for place in frame.index[frame.seeds == 0])
    if not lacking:
        return Markup("", "")
    untrained = [name for name in lacking if not records.unit(dataset, name).record.exists()]
    begun = [name for name in lacking if name not in untrained]
    parts = [
        f" {what}: {_who(some, len(everyone))}."
        for some, what in ((untrained, "Not trained"), (begun, "Not attacked in every way"))
        if some
    ]
    sources = {cell.source for number in numbers for cell in paper.TABLES[number].cells} - {None}
    attackers = [
        name
        for name in (experiments.SOURCES[source] for source in sorted(sources))
        if not records.unit(dataset, name).record.exists()
    ]
    why = f" The attacker's own network, {listed(attackers)}, is not trained either." if attackers else ""
    tables_of = f"Table{'s' if len(numbers) > 1 else ''} {listed(numbers)}"
    text = f"{tables_of} can't be compared in full yet.{''.join(parts)}{why} To measure what is missing: "
    commands = [f"make reproduce ONLY=table:{number}" for number in numbers]
    how = ", ".join(f"<code>{command}</code>" for command in commands)
    return Markup(f"<p>{escape(text)}{how}.</p>", f"{text}{', '.join(commands)}.")


def _who(models: Sequence[str], everyone: int) -> str:
    """Return the names of models, or how many of ``everyone`` they are."""
    if len(models) > 6:
        return f"{len(models)} of {everyone} networks"
    return "; ".join(map(names.label, models))


@picture
def comparison_picture(number: str, seed: int | None = None, adversarial: bool | None = None):
    """Draw a table of the paper, open markers, and ours, small ones, with bounds; or its ``adversarial`` rows."""
    frame, each = summary(number, seed), tables.table(number, seed)
    rows, columns = _recorded_rows(frame), _columns(frame)
    about = {cell.row: cell for cell in paper.TABLES[number].cells}
    trained = {row: experiments.spec(about[row].model).adversarial for row in rows}
    shown = (False, True) if adversarial is None else (adversarial,)
    groups = [group for adv in shown if (group := [row for row in rows if trained[row] is adv])]
    figure, grid = axes(6.4, 3.1 * max(1, len(groups)), max(1, len(groups)), 1, sharex=True)
    for ax, group in zip(grid[:, 0], groups, strict=False):
        for offset, row in zip(np.linspace(-0.22, 0.22, len(group)), group, strict=True):
            part, look = frame.loc[row].loc[columns], names.style(about[row].model)
            colour, marker = look["color"], "v" if about[row].path == "e" else look["marker"]
            at = np.arange(len(columns)) + offset
            ax.plot(at, part.paper, marker, color=colour, markerfacecolor="none", markersize=7)
            for _, seen in each[each.row == row].groupby("seed"):
                ours = seen.set_index("column").ours.reindex(columns)
                ax.plot(at, ours, marker, color=colour, markersize=4, alpha=0.8)
            ax.plot([], [], marker, color=colour, label=row_name(row).replace(" (adv. trained)", ""))
            ends = part[["paper", "ours"]]
            ax.vlines(at, ends.min(axis=1), ends.max(axis=1), color=colour, lw=1)
            ax.vlines(at, part.low, part.high, color=colour, lw=3)
        ax.set(ylim=(0, 102), ylabel="accuracy (%)")
        ax.legend(fontsize=10, ncols=3 if len(group) < 4 else 2, loc="lower left", bbox_to_anchor=(0, 1))
        how = "adversarially trained" if trained[group[0]] else "raw-trained"
        ax.annotate(how, (1, 0), (-4, 4), xycoords="axes fraction", textcoords="offset points", ha="right")
    grid[-1, 0].set_xticks(
        range(len(columns)), [names.attack(column).replace(" ", "\n") for column in columns]
    )
    return (
        figure,
        f"Accuracy of each model under each attack, the paper's open and ours filled. {agreement(number, seed)}",
    )


def agreement(number: str, seed: int | None = None) -> str:
    """Return in words how near our cells of a table are to the paper's."""
    frame = summary(number, seed)
    total, frame = len(frame), frame[frame.seeds > 0]
    if frame.empty:
        return f"None of the {total} cells of Table {number} is recorded."
    clean = frame.index.get_level_values("column") == "clean"
    text = f"{len(frame)} of {total} cells of Table {number} are recorded."
    for name, part in (("Clean", frame[clean]), ("Under attack", frame[~clean])):
        if len(part):
            text += (
                f" {name}: ours differ from the paper's by {part.difference.abs().median():.1f} points in the median"
                f" and are higher in {(part.difference > 0).sum()} of {len(part)}."
            )
    return text


def reading(number: str, *, clean: bool = True) -> Markup:
    """Return in three sentences what a table of target models says of its raw-trained networks, from the records.

    Clean accuracy (unless told not to), what the layer adds under attack, and how ours lie to the paper's. Empty
    without records.
    """
    frame = summary(number)
    frame = frame[(frame.seeds > 0) & frame.index.get_level_values("row").isin(experiments.TARGETS)]
    where = frame.index.get_level_values("column") == "clean"
    unattacked, attacked = frame[where].droplevel("column"), frame[~where]
    if unattacked.empty or attacked.empty:
        return Markup("", "")
    parts = [f"{row_name(row)} {cell.ours:.1f} ({cell.paper:.1f})" for row, cell in unattacked.iterrows()]
    text = f"On clean images ours reach (the paper's in brackets): {listed(parts)} %." if clean else ""
    found = [  # C&W is too weak here to be a yardstick
        gain
        for gain in gains(number)
        if gain["ours"] is not None and gain["row"] in experiments.TARGETS and "cw" not in gain["column"]
    ]
    for row in dict.fromkeys(gain["row"] for gain in found):
        mine = [gain for gain in found if gain["row"] == row]
        best, worst = (pick(mine, key=lambda gain: gain["ours"]) for pick in (max, min))
        text += (
            f" Under FGSM and BIM {row_name(row)} keeps clearly more right than the plain CNN in"
            f" {sum(gain['low'] > 0 for gain in mine)} of {len(mine)} columns; the gains go from"
            f" {worst['ours']:+.1f} points ({names.attack(worst['column'])}) to {best['ours']:+.1f}"
            f" ({names.attack(best['column'])})."
        )
    (row, column), cell = max(attacked.iterrows(), key=lambda one: abs(one[1].difference))
    text += (
        f" Of our {len(attacked)} cells under attack, {(attacked.difference < 0).sum()} are lower than the paper's;"
        f" the furthest off is {row_name(row)} under {names.attack(column)}, with {cell.ours:.1f} against"
        f" {cell.paper:.1f} %."
    )
    return finding(text.strip())


def gains(number: str, seed: int | None = None) -> list[dict]:
    """Return by how many points the models with the layer beat the plain CNN, both raw or both adversarially trained.

    One dict per model and attack: row, column, paper, ours (points, mean over all pairs of seeds, of the images that
    all were measured on), low and high (lowest and highest of several pairs, else the 95 % interval),
    ``agrees``, whether ours has the paper's sign, ``unreliable``, a reason where one of the two cells has one, ``n``,
    of how many images the gain is, and ``pairs``, of seeds of the two networks. Where a cell is missing, ours and the
    rest are None, and there is no pair.
    """
    frame, each, rows = summary(number, seed), tables.table(number, seed), []
    for row, column in frame.index:
        plain = "cnn-adv" if experiments.spec(row).adversarial else "cnn"
        if row == plain or column == "clean":
            continue
        pair = [frame.loc[(one, column)] for one in (row, plain)]
        gain = {"row": row, "column": column, "paper": round(pair[0].paper - pair[1].paper, 2)}
        gain |= dict.fromkeys(("ours", "low", "high", "agrees", "unreliable", "n")) | {"pairs": ()}
        if both := evidence.side_by_side(each[each.column == column], row, plain)[column]:
            found = [one.value - other.value for one, other in both]
            low, high = min(found), max(found)
            if len(both) == 1:
                low, high = evidence.interval(both)
            gain |= {"ours": round(mean(found), 2), "low": low, "high": high}
            gain["agrees"] = (gain["ours"] > 0) == (gain["paper"] > 0)
            gain["unreliable"] = pair[0].unreliable or pair[1].unreliable
            gain["n"] = min(cell.n for cell in pair)
            gain["pairs"] = tuple(product(*(cell.which for cell in pair)))
        rows.append(gain)
    return rows


def gain_table(number: str, seed: int | None = None) -> Markup:
    """Return `gains` as a table."""
    found = gains(number, seed)
    columns = list(dict.fromkeys(gain["column"] for gain in found))
    few = tables.circles(gain["n"] for gain in found if gain["n"])
    every = {(gain["row"], gain["column"]): gain["pairs"] for gain in found}
    fewer, alone = marks.seeds(
        every, lambda some: f"{len(some)} pair{'s' if len(some) > 1 else ''} of seeds alone"
    )
    pairs = {name: max(len(some) for (row, _), some in every.items() if row == name) for name, _ in every}
    rows: dict[str, list[str]] = {}
    for gain in found:
        row, column = gain["row"], gain["column"]
        if not pairs[row]:
            continue
        name = row_name(row) + _less(pairs[row], max(pairs.values()), "pair")
        line = rows.setdefault(row, [line_names(name, *_BOUNDS, "paper", "same sign")])
        ours, low, high, published = (
            decimal(gain[name], 1, sign=True) for name in ("ours", "low", "high", "paper")
        )
        agrees = {None: DASH, True: "yes", False: "no"}[gain["agrees"]]
        says = ("our gain", *_BOUNDS, "paper", "same sign")
        ours = struck(ours, gain["unreliable"]) + few.get(gain["n"], "") + fewer[row, column]
        line.append(lines(ours, low, high, published, agrees, says=says))
    return table(
        list(rows.values()),
        ["network", *map(column_name, columns)],
        f"Table {number}: gain over the plain CNN, raw beside raw and adversarially trained beside"
        " adversarially trained, in points, every seed against every seed."
        f" {measured(number, seed, interval='its 95 % interval')}{alone}"
        + (
            " Struck through: one of the two attacks failed a sanity check."
            if any(g["unreliable"] for g in found)
            else ""
        ),
    )


def _less(here: float, most: float, unit: str) -> str:
    """Return in brackets how many seeds, or pairs of them, a row has if another of its table has more."""
    return f" ({here:.0f} {unit}{'s' if here > 1 else ''})" if here < most else ""


def _columns(frame: pd.DataFrame) -> list[str]:
    return list(frame.index.get_level_values("column").unique())


def _recorded_rows(frame: pd.DataFrame) -> list[str]:
    recorded = frame[frame.seeds > 0].index.get_level_values("row")
    return [row for row in frame.index.get_level_values("row").unique() if row in recorded]


def title(number: str) -> str:
    """Return number and caption of a table."""
    return f"Table {number}: {paper.TABLES[number].caption}"


def _struck(frame: pd.DataFrame) -> str:
    return " Struck through: the attack failed a sanity check." if frame.unreliable.notna().any() else ""


def row_name(row: str) -> str:
    """Return how the text calls a row of a table: a model, a model and a path, or sub-spaces."""
    model, *words = row.replace(" via ", " ").split()
    if model not in experiments.RUNS:
        return row
    return ", ".join(
        (names.label(model), *(("via " if " via " in row else "") + names.PATHS[word] for word in words))
    )


def column_name(column: str) -> str:
    """Return how the text calls a column of a table, as HTML."""
    return escape(names.attack(column))
