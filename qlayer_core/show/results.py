"""What the chapters show of recorded results: tables of the paper beside ours, and comparisons.

A cell that is not recorded is a dash; nothing here fails because a record is missing.
"""

import math
from collections.abc import Sequence

import numpy as np

from qlayer_core import experiments, palette, paper, results
from qlayer_core.drawing import DASH, Markup, attack_name, axes, decimal, picture, table
from qlayer_core.histories import TARGETS


def comparison(number: str, seed: int = 0) -> Markup:
    """Return a table of the paper with ours: our accuracy, its 95 % interval, the paper's and the difference."""
    frame = results.table(number, seed)
    columns = list(frame.column.unique())
    lines = []
    for row in frame.row.unique():
        line = [_lines(_row_name(row), "at least", "at most", "paper", "difference")]
        for column in columns:
            cell = frame[(frame.row == row) & (frame.column == column)].iloc[0]
            ours, low, high, published = (f"{cell[name]:.2f}" for name in ("ours", "low", "high", "paper"))
            if np.isnan(cell.ours):
                line.append(_lines(DASH, DASH, DASH, published, DASH))
            else:
                line.append(_lines(ours, low, high, published, f"{cell.difference:+.2f}"))
        lines.append(line)
    return table(
        lines,
        ["", *(attack_name(column) for column in columns)],
        f"Table {number}: {paper.TABLES[number].caption.lower()}, in percent. Bold: ours, with its 95 %"
        f" Wilson interval. {DASH}: not measured yet.",
    )


def _lines(first: str, *others: str) -> str:
    """Return the lines of a table cell, the first of them bold and the others small."""
    return f"<strong>{first}</strong><br><small>{'<br>'.join(others)}</small>"


@picture
def comparison_picture(number: str, seed: int = 0):
    """Draw a table of the paper and ours: open markers are the paper's, filled ones ours with their interval."""
    frame = results.table(number, seed)
    rows, columns = list(frame.row.unique()), list(frame.column.unique())
    groups = [group for adv in (False, True) if (group := [r for r in rows if r.endswith("-adv") is adv])]
    figure, grid = axes(6.4, 3.1 * len(groups), len(groups), 1, sharex=True)
    for ax, group in zip(grid[:, 0], groups, strict=True):
        for offset, row in zip(np.linspace(-0.22, 0.22, len(group)), group, strict=True):
            part = frame[frame.row == row].set_index("column").loc[columns]
            look = palette.style(row)
            at = np.arange(len(columns)) + offset
            ax.plot(at, part.paper, look["marker"], color=look["color"], markerfacecolor="none", markersize=7)
            ax.plot(
                at,
                part.ours,
                look["marker"],
                color=look["color"],
                label=palette.NAMES[row.removesuffix("-adv")],
            )
            ax.vlines(
                at,
                part[["paper", "ours"]].min(axis=1),
                part[["paper", "ours"]].max(axis=1),
                color=look["color"],
                lw=1,
            )
            ax.vlines(at, part.low, part.high, color=look["color"], lw=3)
        ax.set(ylim=(0, 102), ylabel="accuracy (%)")
        ax.legend(fontsize=10, ncols=len(group), loc="lower left", bbox_to_anchor=(0, 1))
        ax.set_title("adversarially trained" if group[0].endswith("-adv") else "raw-trained", loc="right")
    grid[-1, 0].set_xticks(
        range(len(columns)), [attack_name(column).replace(" ", "\n") for column in columns]
    )
    return (
        figure,
        f"Accuracy of each model under each attack, the paper's value open and ours filled. {agreement(number)}",
    )


def agreement(number: str, seed: int = 0) -> str:
    """Return in words how near our cells of a table are to the paper's."""
    frame = results.table(number, seed).dropna()
    total = len(paper.TABLES[number].cells)
    if frame.empty:
        return f"None of the {total} cells of Table {number} is measured yet."
    clean = frame.column == "clean"
    text = f"{len(frame)} of {total} cells of Table {number} are measured."
    for name, part in (("Clean", frame[clean]), ("Under attack", frame[~clean])):
        if len(part):
            text += (
                f" {name}: ours differ from the paper's by {part.difference.abs().median():.1f} points in the median"
                f" and are higher in {(part.difference > 0).sum()} of {len(part)}."
            )
    return text


def largest_differences(number: str, count: int = 5, seed: int = 0) -> Markup:
    """Return a table of the measured cells that lie furthest from the paper's, furthest first."""
    frame = results.table(number, seed).dropna()
    order = frame.difference.abs().sort_values(ascending=False, kind="stable").index
    lines = [
        [
            _row_name(cell.row),
            attack_name(cell.column),
            f"{cell.paper:.2f}",
            f"{cell.ours:.2f}",
            f"{cell.difference:+.2f}",
        ]
        for cell in frame.loc[order].head(count).itertuples()
    ]
    return table(lines, ["model", "attack", "paper", "ours", "difference"], agreement(number, seed))


def gains(number: str, seed: int = 0) -> list[dict]:
    """Return by how much the models with the layer beat the plain CNN of the same training, in points.

    One row a model and column: row, column, paper, ours, low, high (the 95 % interval of ours) and ``agrees``:
    whether ours has the paper's sign. Ours and the rest are None where a cell is missing.
    """
    frame = results.table(number, seed).set_index(["row", "column"])
    rows = []
    for row, column in frame.index:
        plain = "cnn-adv" if row.endswith("-adv") else "cnn"
        if row == plain or column == "clean":
            continue
        with_layer, without = frame.loc[row, column], frame.loc[plain, column]
        gain = {"row": row, "column": column, "paper": round(with_layer.paper - without.paper, 2)}
        gain |= dict.fromkeys(("ours", "low", "high", "agrees"))
        if not (np.isnan(with_layer.ours) or np.isnan(without.ours)):
            low, high = difference_interval(with_layer, without)
            gain |= {"ours": round(with_layer.ours - without.ours, 2), "low": low, "high": high}
            gain["agrees"] = (gain["ours"] > 0) == (gain["paper"] > 0)
        rows.append(gain)
    return rows


def gain_table(number: str, seed: int = 0) -> Markup:
    """Return `gains` as a table."""
    rows = gains(number, seed)
    columns = list(dict.fromkeys(gain["column"] for gain in rows))
    lines = {}
    for gain in rows:
        line = lines.setdefault(
            gain["row"], [_lines(_row_name(gain["row"]), "at least", "at most", "paper", "same sign")]
        )
        published = f"{gain['paper']:+.1f}"
        if gain["ours"] is None:
            line.append(_lines(DASH, DASH, DASH, published, DASH))
        else:
            ours, low, high = (f"{gain[which]:+.1f}" for which in ("ours", "low", "high"))
            line.append(_lines(ours, low, high, published, "yes" if gain["agrees"] else "no"))
    return table(
        list(lines.values()),
        ["", *(attack_name(column) for column in columns)],
        f"Table {number}: gain over the plain CNN of the same training, in points. Bold: ours, with its 95 %"
        " interval.",
    )


def difference_interval(one, other) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies in percent (Newcombe, 1998, method 10).

    Args:
        one: with ``ours``, ``low`` and ``high``, the Wilson interval, as a row of `results.table`.
        other: the same; what is subtracted.
    """
    gap = one.ours - other.ours
    down = math.hypot(one.ours - one.low, other.high - other.ours)
    up = math.hypot(one.high - one.ours, other.ours - other.low)
    return gap - down, gap + up


def weaker_white_box(seed: int = 0) -> Markup:
    """Return where a white-box attack leaves more images right than the same attack made on another model.

    An attacker who sees the model can always do what one who doesn't can: each such case is a failure of the
    white-box attack, not a strength of the model.
    """
    black, white = (results.table(number, seed).set_index(["row", "column"]) for number in ("1a", "2a"))
    lines = []
    for place in black.index:
        if place[1] == "clean":
            continue
        line = [f"{_row_name(place[0])}, {attack_name(place[1])}"]
        odd = False
        for whose in ("paper", "ours"):
            pair = black.loc[place, whose], white.loc[place, whose]
            odd |= pair[1] > pair[0]
            white_box = decimal(pair[1])
            line += [decimal(pair[0]), f"<strong>{white_box}</strong>" if pair[1] > pair[0] else white_box]
        if odd:
            lines.append(line)
    return table(
        lines,
        ["", "paper, black box", "paper, white box", "ours, black box", "ours, white box"],
        "Accuracy (%) where, in the paper or in ours, a white-box attack is weaker (bold) than the same attack made"
        " blind.",
    )


def cw_table(
    dataset: str = "mnist", names: Sequence[str] = (*TARGETS, *(f"{name}-adv" for name in TARGETS))
) -> Markup:
    """Return the paper's CW columns beside our attack on logits and on probabilities."""
    lines = []
    epsilons = experiments.EPSILONS[dataset]
    for name in names:
        layer = experiments.run(name).layer is not None
        line = [palette.label(name)]
        for eps in epsilons:
            line.append(f"{paper.TABLES['2a'].cell(name, f'cw {eps}').accuracy:.2f}")
            for attack in ("cw", "cw-softmax"):
                paths = {"attacked_path": "e" if layer else None, "path": "q" if layer else None}
                cell = recorded(dataset, name, setting="white-box", attack=attack, eps=eps, **paths)
                line.append(decimal(cell and cell["accuracy"]))
        lines.append(line)
    heads = [f"{who} {eps}" for eps in epsilons for who in ("paper", "logits", "probabilities")]
    return table(
        lines,
        ["", *heads],
        "Accuracy (%) under the Carlini-Wagner attack: the paper's, ours on logits, and ours on probabilities.",
    )


def nearer_cw(dataset: str = "mnist", names: Sequence[str] = TARGETS[1:]) -> str:
    """Return in words which of our two attacks each CW number of the paper is nearer to, where both are measured."""
    words = []
    for name in names:
        for eps in experiments.EPSILONS[dataset]:
            published = paper.TABLES["2a"].cell(name, f"cw {eps}").accuracy
            where = {"setting": "white-box", "eps": eps, "attacked_path": "e", "path": "q"}
            cells = [recorded(dataset, name, attack=attack, **where) for attack in ("cw", "cw-softmax")]
            if all(cells):
                logits, probabilities = (abs(cell["accuracy"] - published) for cell in cells)
                nearer = "logits" if logits < probabilities else "probabilities"
                words.append(f"{palette.label(name)} at {eps}: nearer to the attack on {nearer}.")
    return " ".join(words) or "Not measured yet."


def recorded(dataset: str, name: str, **fields) -> dict | None:
    """Return the recorded cell that has these fields, or None if it is not recorded."""
    if not results.record_path(dataset, name).exists():
        return None
    for cell in results.read(dataset, name)["cells"]:
        if all(cell[field] == value for field, value in fields.items()):
            return cell
    return None


def recorded_curves(
    setting: str, dataset: str = "mnist", names: Sequence[str] = TARGETS
) -> dict[tuple, tuple]:
    """Return FGSM accuracy against epsilon of each recorded model, for `widgets.accuracy_explorer`.

    Args:
        setting: ``"black-box"`` (from CNN A) or ``"white-box"`` (through the E-path).
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        names: of the models.

    Returns:
        Model name, or model name and path, to epsilons, accuracies in percent and the number of images.
    """
    curves = {}
    for name in names:
        layer = experiments.run(name).layer is not None
        for path in ("q", "e") if layer else (None,):
            where = {"setting": setting, "attack": "fgsm", "path": path}
            where |= (
                {"source": "cnn-a"} if setting == "black-box" else {"attacked_path": "e" if layer else None}
            )
            cells = [recorded(dataset, name, setting="clean", path=path)]
            cells += [recorded(dataset, name, eps=eps, **where) for eps in experiments.CURVE]
            if len(found := [cell for cell in cells if cell]) > 1:
                points = [cell["eps"] for cell in found], [cell["accuracy"] for cell in found]
                curves[(name, path) if path else name] = *points, found[0]["n"]
    return curves


def _row_name(row: str) -> str:
    return palette.label(row) if row in experiments.RUNS else row
