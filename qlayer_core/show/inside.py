"""What the settings' chapter shows of the grid: gaps between a table's rows, and what passes through a network."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from qlayer_core import codes, models
from qlayer_core.show import names, results, sanity
from qlayer_core.show.page import Markup, decimal, finding, line_names, lines, listed, table
from qlayer_core.show.plot import axes, picture
from qlayer_core.study import evidence, experiments, paper, records, tables


class Gap(NamedTuple):
    """By how many points one row of a table beats another, in one column; ``ours`` is None where one is missing."""

    column: str
    paper: float
    ours: float | None


def gaps(number: str, first: str, second: str) -> list[Gap]:
    """Return in which columns the first row is ahead of the second, the paper's and ours.

    Ours is the mean over all pairs of seeds, of the images that all were measured on.
    """
    frame = tables.table(number, None)
    both = evidence.side_by_side(frame, first, second)
    found = []
    for column in frame[frame.row == first].column.unique():
        one, other = (paper.TABLES[number].cell(row, column).accuracy for row in (first, second))
        ours = [a.value - b.value for a, b in both[column]]
        found.append(Gap(column, round(one - other, 2), round(mean(ours), 2) if ours else None))
    return found


def reading(number: str, first: str, second: str, called: tuple[str, str] | None = None) -> Markup:
    """Return in words what a table says of two of its rows, the paper and ours, and whether they agree.

    Args:
        number: of the table.
        first: row.
        second: row.
        called: how the text calls the two; left out, as the table does.
    """
    found = gaps(number, first, second)
    attacked, clean = [gap for gap in found if gap.column != "clean"], found[0]
    a, b = called or (results.row_name(first), results.row_name(second))
    said = f"In the paper {_ahead([gap.paper for gap in attacked], a, b)}; on clean images it is"
    said += f" {_by(clean.paper)}."
    ours = [gap for gap in attacked if gap.ours is not None]
    if not ours:
        text = f"{said} Ours cannot be compared yet: {_lacking(number, first, second)}."
        return finding(text, "What the paper has.")
    said += (
        f" Among ours, on the images that both were measured on, {_ahead([gap.ours for gap in ours], a, b)}"
    )
    said += f"; on clean images it is {_by(clean.ours)}." if clean.ours is not None else "."
    agree = sum((gap.ours > 0) == (gap.paper > 0) for gap in ours)
    missing = len(attacked) - len(ours)
    rest = f" {missing} of the paper's columns are not measured yet." if missing else ""
    return finding(f"{said} The paper and we agree on who is ahead in {agree} of {len(ours)} columns.{rest}")


def _ahead(points: Sequence[float], one: str, other: str) -> str:
    count = sum(point > 0 for point in points)
    where = {0: "under none of the attacks", len(points): "under every attack"}.get(
        count, f"under {count} of {len(points)} attacks"
    )
    return f"{one} is ahead of {other} {where} ({min(points):+.1f} to {max(points):+.1f} points)"


def _by(points: float) -> str:
    return f"{abs(points):.1f} points {'ahead' if points > 0 else 'behind'}" if points else "level"


def _lacking(number: str, *rows: str) -> str:
    about = {cell.row: cell.model for cell in paper.TABLES[number].cells}
    lacking = [about[row] for row in rows if not _measured(number, row)]
    if not lacking:
        return "they share no attack that is measured"
    return f"{listed([names.label(name) for name in lacking])} {'is' if len(lacking) == 1 else 'are'} not measured"


def _measured(number: str, row: str) -> bool:
    return bool((results.summary(number).loc[row].seeds > 0).any())


def seeing_over_blind(black: str, white: str, row: str) -> dict[str, tuple[float, float | None]]:
    """Return by how many points a white-box attack leaves *more* images right than the same attack made blindly.

    Args:
        black: number of the table of black-box attacks.
        white: of the one of white-box attacks.
        row: of both.

    Returns:
        By column that both have, the paper's difference and ours, None where one is missing. Above 0, an attacker
        who sees the network does worse than one who does not: the attack has failed.
    """
    blind, seeing = (
        {cell.column: cell.accuracy for cell in paper.TABLES[number].cells if cell.row == row}
        for number in (black, white)
    )
    each = [tables.table(number, None) for number in (black, white)]
    each = pd.concat([part[part.row == row].assign(row=at) for at, part in enumerate(each)])
    ours = evidence.side_by_side(each, 1, 0)  # on the images that both were measured on
    return {
        column: (
            round(seeing[column] - blind[column], 2),
            round(mean(one.value - other.value for one, other in ours[column]), 2) if ours[column] else None,
        )
        for column in seeing
        if column != "clean" and column in blind
    }


def seeing_table(black: str, white: str, rows: Sequence[str]) -> Markup:
    """Return `seeing_over_blind` for several networks as a table."""
    body, columns = [], []
    for row in rows:
        found = seeing_over_blind(black, white, row)
        columns = list(found)
        cells = [
            lines(decimal(ours, 1, sign=True), decimal(published, 1, sign=True), says=("ours", "paper"))
            for published, ours in found.values()
        ]
        body.append([line_names(results.row_name(row), "paper"), *cells])
    return table(
        body,
        ["network", *map(results.column_name, columns)],
        f"Table {white} less Table {black}, in points: images that are right under an attacker who sees the network"
        " less those that are right under one who does not. Above 0 the attack has failed. Bold: ours.",
    )


def used(
    models_: Sequence[str] = ("q-base", "q-large", "q-base-adv", "q-large-adv"), dataset: str = "mnist"
) -> Markup:
    """Return how many codes of each head were chosen at all in the epoch that was kept, as a table."""
    rows = []
    for name in models_:
        one = records.unit(dataset, name)
        if one.record.exists():
            kept = records.read_unit(one)["chosen"]
            active = [one.spec.layer.codebook_size - idle for idle in kept["inactive"]]
            rows.append(
                [names.label(name), str(kept["epoch"]), ", ".join(map(str, active)), str(sum(active))]
            )
    sizes = sorted({experiments.spec(name).layer.codebook_size for name in models_})
    return table(
        rows,
        ["network", "kept epoch", "codes in use, head by head", "together"],
        "Codes that at least one position of a training image chose in the epoch that was kept; each head has"
        f" {listed([str(size) for size in sizes])}.",
    )


def clipped(model: str, attack: str) -> dict[str, float] | None:
    """Return how many images a white-box attack leaves right, in percent: with exact and with clipped gradients.

    Args:
        model: of the grid, with the layer.
        attack: such as ``"bim 0.3"``.

    Returns:
        ``"exact"`` and ``"clipped"``, the gradient of probabilities that were rounded, and ``"unmoved"``: how many
        images have no such gradient and stay as they are; each the mean over seeds. None where one is missing.
    """
    name, eps = attack.split()
    mine = sanity.white_box("mnist", model)
    exact, rounded = (
        mine[(mine.attack == kind) & (mine.eps == float(eps))] for kind in (name, f"{name}-clipped")
    )
    if exact.empty or rounded.empty:
        return None
    left = (tables.alike(cells).accuracy.astype(float).mean() for cells in (exact, rounded))
    unmoved = 100 * (rounded.unmoved / rounded.n).astype(float).mean()
    return dict(zip(("exact", "clipped", "unmoved"), (*left, unmoved), strict=True))


def trained(*models_: str, dataset: str = "mnist") -> list[str]:
    """Return those of these models whose record and weights are there."""
    units = [records.unit(dataset, name) for name in models_]
    return [one.spec.name for one in units if one.record.exists() and one.weights.exists()]


@torch.no_grad()
def stages(network: nn.Module, images: Tensor, changed: Tensor) -> dict[str, float]:
    """Return how far a change of the images moves what each stage of a network gives, in percent, mean over images.

    Args:
        network: CNN A without the layer, or one with it, of which the encoder's stages are looked at.
        images: ``(N, 1, H, W)``.
        changed: the same images, attacked or with noise.
    """
    if isinstance(network, models.QNet):
        both = isinstance(network.encoder[0], nn.Sequential)  # convolutions in front of the layer
        parts = (
            {"conv 1": network.encoder[0], "conv 2": network.encoder[1:]}
            if both
            else {"conv 1": network.encoder}
        )
    else:
        first, second, drop, head = network
        parts = {
            "conv 1": first,
            "conv 2": second,
            "linear": nn.Sequential(drop, head[:3]),
            "answer": head[3:],
        }
    before, after = images, changed
    found = {"pixels": codes.relative_change(before, after).mean().item()}
    for name, part in parts.items():
        before, after = part(before), part(after)
        found[name] = codes.relative_change(before, after).mean().item()
    return found


@picture
def draw_stages(moved: Mapping[tuple[str, str], Mapping[str, float]]):
    """Draw `stages` of several networks, under an attack with solid and under noise with dotted lines.

    Args:
        moved: a model's name and ``"attack"`` or ``"noise"`` to what `stages` returns.
    """
    figure, grid = axes(5.6, 3.8)
    ax, words = grid[0, 0], []
    for (name, what), found in moved.items():
        look = names.style(name) | {"linestyle": "-" if what == "attack" else ":"}
        ax.plot(list(found), list(found.values()), label=f"{names.label(name)}, {what}", **look)
        words.append(f"{names.label(name)}, {what}: {', '.join(f'{k} {v:.0f} %' for k, v in found.items())}")
    ax.set(ylabel="moved by (%)", ylim=(0, None))
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    return figure, f"How far each stage of a network is moved. {'; '.join(words)}."


@torch.no_grad()
def readers(network: models.QNet, images: Tensor, labels: Tensor) -> list[list[float]]:
    """Return the accuracy in percent of N_Q, then N_E, on the quantized map, then on the features in front of it."""
    layer = network(images, path="both").layer
    return [
        [
            100 * (tail(seen).argmax(1) == labels).float().mean().item()
            for seen in (layer.quantized, layer.projected)
        ]
        for tail in (network.tail_q, network.tail_e)
    ]
