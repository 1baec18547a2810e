"""Slope charts of recorded results: from the paper's accuracy to ours, a line per network, a panel per attack."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean
from typing import NamedTuple

import ipywidgets as w
import pandas as pd

from qlayer_core import data, datasets
from qlayer_core.show import names, slides
from qlayer_core.show.controls import choice, explorer
from qlayer_core.show.page import DASH, decimal, listed
from qlayer_core.show.plot import apart
from qlayer_core.study import experiments, paper, tables

ATTACKERS = {  # what the list offers: setting and source of `paper.KEY`
    "black box, from CNN A": ("black-box", "cnn-a"),
    "black box, from CNN B": ("black-box", "cnn-b"),
    "white box": ("white-box", None),
}
ANSWERS = {"deployed answer": "q", "E-path": "e"}
TRAININGS = {"raw": "", "adversarial": "-adv"}
LEFT, RIGHT, ROOM = 26, 74, 108  # of a panel 100 wide: the two ends, and its height with a margin of 4


class Line(NamedTuple):
    """One network under one attack: accuracies in percent."""

    model: str
    paper: float | None
    ours: Mapping[int, float]  # by seed, of the images that all seeds were measured on
    few: bool  # whether only the first of the test images were attacked
    unreliable: bool  # whether the attack failed a sanity check

    @property
    def mean(self) -> float | None:
        """Ours, mean over the seeds; None where nothing is recorded."""
        return mean(self.ours.values()) if self.ours else None


def lines(
    dataset: str,
    attacker: str,
    *,
    path: str = "q",
    training: str = "",
    seed: int | None = None,
    recorded: pd.DataFrame | None = None,
) -> dict[str, list[Line]]:
    """Return the paper's accuracies and ours by column of its tables, such as ``"fgsm 0.2"``.

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        attacker: one of `ATTACKERS`. A white-box attack follows the E-path where there is one.
        path: whose answer of a network with the layer is scored, ``"q"`` or ``"e"``.
        training: ``""`` or ``"-adv"``, the ending of the networks' names.
        seed: whose of ours; None for all that are recorded.
        recorded: what `tables.cells` gives, where it is at hand: it reads every record.

    Raises:
        ValueError: a data set, attacker, answer or training that there is not.
    """
    datasets.find(dataset)
    if attacker not in ATTACKERS:
        raise ValueError(f"attacker is {attacker!r}; choose one of {', '.join(map(repr, ATTACKERS))}")
    for name, value, known in (("path", path, ANSWERS), ("training", training, TRAININGS)):
        if value not in known.values():
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, known.values()))}")
    how = ATTACKERS[attacker]
    shown = [
        table
        for table in paper.TABLES.values()
        if table.dataset == dataset and any((cell.setting, cell.source) == how for cell in table.cells)
    ]
    published: dict[tuple, float] = {}
    for table in shown:  # where two disagree, the first, which is the table of the main results
        for cell in table.cells:
            published.setdefault((cell.model, cell.key), cell.accuracy)
    recorded = tables.cells() if recorded is None else recorded
    recorded = recorded[recorded.dataset == dataset]
    recorded = recorded.assign(key=list(recorded[list(paper.KEY)].itertuples(index=False, name=None)))
    found: dict[str, list[Line]] = {}
    for cell in shown[0].cells:
        layered = experiments.spec(cell.model).layer is not None
        if cell.model not in [f"{name}{training}" for name in experiments.TARGETS]:
            continue
        key = (*cell.key[:-1], path if layered else None)
        mine = recorded[(recorded.model == cell.model) & (recorded.key.map(lambda one, key=key: one == key))]
        mine = tables.alike(mine if seed is None else mine[mine.seed == seed])
        found.setdefault(cell.column, []).append(
            Line(
                cell.model,
                published.get((cell.model, key)),
                dict(zip(mine.seed, mine.accuracy.astype(float), strict=True)),
                bool((mine.n < data.TEST_IMAGES).any()),
                bool(mine.unreliable.notna().any()),
            )
        )
    return found


def slope_explorer(dataset: str = "mnist") -> w.VBox:
    """Return slope charts with lists for attacker, training, answer and, where there are several, seed."""
    recorded = tables.cells()
    seeds = sorted(set(recorded[recorded.dataset == dataset].seed))
    whose = [("all", None), *((str(seed), seed) for seed in seeds)] if len(seeds) > 1 else [("all", None)]
    options = [list(ATTACKERS), list(TRAININGS), list(ANSWERS), [name for name, _ in whose]]

    def page(attacker: int, training: int, answer: int, seed: int) -> str:
        return chart(
            lines(
                dataset,
                options[0][attacker],
                training=TRAININGS[options[1][training]],
                path=ANSWERS[options[2][answer]],
                seed=whose[seed][1],
                recorded=recorded,
            )
        )

    heads = ("attack", "training", "answer", "seed")
    return explorer([choice(head, some) for head, some in zip(heads, options, strict=True)], page)


def chart(found: Mapping[str, Sequence[Line]]) -> str:
    """Return slope charts as HTML, a panel per column of `lines`, with what they say in words below."""
    first = next(iter(found.values()))
    keys = "".join(
        f'<span style="white-space:nowrap"><svg aria-hidden="true" viewBox="-6 -6 12 12" style="display:inline;'
        f'width:.9em;height:.9em"><path d="{slides.SHAPES[_marker(line.model)]}"'
        f' fill="{names.colour(line.model)}"/></svg> {escape(names.label(line.model))}</span> '
        for line in first
    )
    panels = "".join(
        f"<div><b>{escape(names.attack(column))}</b>{_panel(column, some)}</div>"
        for column, some in found.items()
    )
    look = "display:grid;grid-template-columns:repeat(auto-fit,minmax(5.9rem,1fr));gap:.6rem .3rem"
    return (
        f'<p>{keys}</p><div style="{look};text-align:center">{panels}</div>'
        f"<p>Accuracy in %: left, open, the paper; right, filled, ours. {in_words(found)}</p>"
    )


def in_words(found: Mapping[str, Sequence[Line]]) -> str:
    """Return in words what `lines` shows: how many are measured, the steepest, what is missing."""
    every = [(column, line) for column, some in found.items() if column != "clean" for line in some]
    both = [(column, line) for column, line in every if line.ours and line.paper is not None]
    text = []
    if both:
        lower = sum(line.mean < line.paper for _, line in both)
        column, line = max(both, key=lambda one: abs(one[1].mean - one[1].paper))
        text.append(
            f"Under attack ours are lower than the paper's in {lower} of {len(both)}. The steepest:"
            f" {names.label(line.model)}, {names.attack(column)}, {decimal(line.mean - line.paper, 1, sign=True)}."
        )
    if any(len(line.ours) > 1 for _, line in every):
        text.append("Small dots: the seeds; the line ends at their mean.")
    if any(line.few for _, line in every):
        text.append(f"{tables.FEW} Only the first images of the test set.")
    if any(line.unreliable for _, line in every):
        text.append("Struck through: the attack failed a sanity check.")
    for who, there in (
        ("Ours", lambda line: line.ours),
        ("The paper's", lambda line: line.paper is not None),
    ):
        with_any = {line.model for _, line in every if there(line)}
        missing = [name for name in dict.fromkeys(line.model for _, line in every) if name not in with_any]
        if missing:
            text.append(f"{who} under this attack: none for {listed([*map(names.label, missing)])}.")
    return " ".join(text)


def _panel(column: str, some: Sequence[Line]) -> str:
    """Return one panel as SVG; its alternative has the numbers."""
    ends = f"M{LEFT} 4V{ROOM - 4}M{RIGHT} 4V{ROOM - 4}"
    drawing = f'<path d="{ends}" stroke="currentColor" opacity=".3"/>'
    said = []
    for line in some:
        colour, shape = names.colour(line.model), "m" + slides.SHAPES[_marker(line.model)][1:]
        outline, filled = "", ""
        if line.paper is not None:
            outline += f"M{LEFT} {_height(line.paper)}{shape}"
        if line.ours:
            filled = f"M{RIGHT} {_height(line.mean)}{shape}"
            if line.paper is not None:
                outline += f"M{LEFT} {_height(line.paper)}L{RIGHT} {_height(line.mean)}"
        if len(line.ours) > 1:
            dot = "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"
            filled += "".join(f"M{RIGHT - 9} {_height(value)}{dot}" for value in line.ours.values())
        drawing += f'<path d="{outline}" stroke="{colour}" fill="none"/><path d="{filled}" fill="{colour}"/>'
        said.append(
            f"{names.label(line.model)} paper {decimal(line.paper, 1)}, ours {decimal(line.mean, 1)}"
            + (" (unreliable)" if line.unreliable else "")
        )
    drawing += _numbers({line.model: line.paper for line in some}, LEFT - 6, "end")
    ours = {line.model: line for line in some if line.ours}
    drawing += _numbers({name: line.mean for name, line in ours.items()}, RIGHT + 6, "start", ours)
    text = escape(f"{names.attack(column)}: {'; '.join(said)}.".replace(f" {DASH}", " none"), quote=True)
    return f'<svg role="img" aria-label="{text}" viewBox="0 0 100 {ROOM}">{drawing}</svg>'


def _numbers(
    values: Mapping[str, float | None], x: int, anchor: str, lines: Mapping[str, Line] | None = None
) -> str:
    """Return values in percent as text beside their ends, moved so that none covers another."""
    there = {name: value for name, value in values.items() if value is not None}
    parts = []
    for name, place in apart(there, 11).items():
        line = (lines or {}).get(name)
        shade = f' fill="var(--model-{name.removesuffix("-adv")}, currentColor)"'  # dark enough for text
        strike = ' text-decoration="line-through"' if line and line.unreliable else ""
        text = f"{there[name]:.0f}{tables.FEW if line and line.few else ''}"
        parts.append(f'<text x="{x}" y="{_height(place) + 3}"{shade}{strike}>{text}</text>')
    return f'<g font-size="10.5" fill="currentColor" text-anchor="{anchor}">{"".join(parts)}</g>'


def _height(accuracy: float) -> int | float:
    return round(4 + (ROOM - 8) * (1 - accuracy / 100), 1)


def _marker(name: str) -> str:
    return names.style(name)["marker"]
