"""Is it the layer, or how its network is trained? A control tells: the plain CNN, trained as those with it are.

The paper's plain CNN and its networks with the layer differ in their training as well (`study.experiments`). So the
lead of one over the other has two parts: from the plain CNN to the control, and from there to the layer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from qlayer_core import datasets
from qlayer_core.show import names
from qlayer_core.show.page import Markup, decimal, finding, line_names, lines, listed, table, whole
from qlayer_core.show.plot import MUTED, TEXT, axes, picture
from qlayer_core.study import evidence, experiments, ladder, measured
from qlayer_core.study.evidence import Comparison, Outcome, Value, worst_case

PLAIN, *LAYERED = *experiments.TARGETS, "q-inner"


class Lead(NamedTuple):
    """How far a network with the layer is ahead of the plain CNN under one attack, and the two parts of it."""

    attack: str  # such as "BIM 0.3"
    whole: Outcome  # the network with the layer beside the plain CNN
    training: Outcome  # the control beside the plain CNN
    layer: Outcome  # the network with the layer beside the control
    seeds: int  # of the control


def leads(
    dataset: str, seeing: bool = False, after: str = "", frame: pd.DataFrame | None = None
) -> dict[str, list[Lead]]:
    """Return by network its leads over the plain CNN, over all seeds; without what is missing.

    Args:
        dataset: whose images are attacked.
        seeing: under all attacks of the ladder together, at its epsilons; else under the blind ones of the tables.
        after: ``"-adv"`` for all three after adversarial training.
        frame: of `measured.frame`, where there is one already.
    """
    numbers = measured.numbers(measured.frame() if frame is None else frame)
    blind = [(name, eps) for name in ("fgsm", "bim") for eps in datasets.find(dataset).epsilons]
    attacks = [("epsilon", eps) for eps in ladder.epsilons(dataset)] if seeing else blind
    found: dict[str, list[Lead]] = {}
    for layered in LAYERED:
        for name, eps in attacks:
            plain, control, own = (
                worst_case(dataset, f"{model}{after}", eps)
                if seeing
                else Value(dataset, f"{model}{after}", "black-box", name, eps, "cnn-a", None, path)
                for model, path in ((PLAIN, None), (experiments.CONTROL, None), (layered, "q"))
            )
            parts = [
                evidence.judge(Comparison(*pair), numbers)
                for pair in ((own, plain), (control, plain), (own, control))
            ]
            if all(part.result != "not measured" for part in parts):
                found.setdefault(f"{layered}{after}", []).append(
                    Lead(names.attack(f"{name} {eps:g}"), *parts, len(numbers[control]))
                )
    # A table's columns are of all its rows.
    shared = [{one.attack for one in rows} for rows in found.values()]
    common = set.intersection(*shared) if shared else set()
    return {name: [one for one in rows if one.attack in common] for name, rows in found.items() if common}


@picture
def parts(found: Mapping[str, list[Lead]]):
    """Draw what attacks leave of the plain CNN, of the control and of networks with the layer, a line per attack.

    Args:
        found: as `leads` gives them.
    """
    some = next(iter(found.values()))
    left = {
        some[0].whole.comparison.second.model: [one.whole.second for one in some],
        some[0].layer.comparison.second.model: [one.layer.second for one in some],
        **{name: [one.whole.first for one in rows] for name, rows in found.items()},
    }
    figure, grid = axes(6, 1.4 + 0.4 * len(some))
    ax = grid[0, 0]
    for at, ends in enumerate(zip(*left.values(), strict=True)):
        ax.plot((min(ends), max(ends)), (at, at), color=MUTED, linewidth=1, zorder=1)
    for name, values in left.items():
        look = names.style(name) | {"linestyle": "none", "markersize": 8}
        above = 2
        if experiments.CONTROL in name:  # a cross hides nothing, and would itself be lost on filled marks
            above, look = 3, look | {"color": TEXT, "markeredgecolor": TEXT, "markeredgewidth": 2}
        ax.plot(values, range(len(some)), label=names.short(name), zorder=above, **look)
    attacks = [one.attack for one in some]
    ax.set_yticks(range(len(some)), attacks)
    ax.margins(y=0.15)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="images left right (%)", xlim=(0, 100))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    words = [
        f"{attack}: {', '.join(f'{names.short(name)} {values[k]:.1f}' for name, values in left.items())}"
        for k, attack in enumerate(attacks)
    ]
    under = "all attacks together" if _seeing(some) else "blind attacks"
    return figure, f"Images left right under {under}, in percent. {'; '.join(words)}."


def parted(found: Mapping[str, list[Lead]]) -> Markup:
    """Return a table of the points by which networks are ahead of the control and, below, of the plain CNN."""
    some = next(iter(found.values()))
    parts, rows = ("beside the one that is trained alike", "beside the CNN"), []
    for name, leading in found.items():
        line = [line_names(names.short(name), parts[1])]
        for one in leading:
            both = (decimal(part.difference, 1, sign=True) for part in (one.layer, one.whole))
            line.append(lines(*both, says=parts))
        rows.append(line)
    return table(
        rows,
        ["network", *(one.attack for one in some)],
        "By how many points networks with the layer are ahead of two plain CNNs. Bold: of the one that is trained"
        " alike, so this part is not due to the training. Below: of the usual one. Means over all pairs of seeds; the"
        " CNN trained alike has"
        f" {some[0].seeds} seed{'' if some[0].seeds == 1 else 's'}.",
    )


def _seeing(some: list[Lead]) -> bool:
    return some[0].whole.comparison.first.setting == "worst case"


def _all(where: list[str], leading: list[Lead]) -> str:
    if len(where) < len(leading):
        return listed(where)
    return "every epsilon" if _seeing(leading) else "every blind attack of the paper's Table 1"


def reading(found: Mapping[str, list[Lead]]) -> Markup:
    """Return in words what the training alone does at the attack where it does most, and what is then the layer's."""
    some = next(iter(found.values()))
    most, seeing = max(some, key=lambda one: abs(one.training.difference)), _seeing(some)
    says = []
    for name, leading in found.items():
        clear = [
            f"clearly {side} {'at' if seeing else 'under'} {_all(where, leading)}"
            for side, result in (("ahead", "holds"), ("behind", "fails"))
            if (where := [one.attack for one in leading if one.layer.result == result])
        ]
        says.append(f"{names.short(name)} is {' and '.join(clear) if clear else 'nowhere clearly different'}")
    hangs = (
        f" (not clear: {most.training.low:+.1f} to {most.training.high:+.1f} points, depending on the pair of seeds)"
        if most.training.result not in ("holds", "fails")
        else ""
    )
    under = (
        f"all attacks together, {most.attack}"
        if seeing
        else f"images made on another network ({most.attack})"
    )
    return finding(
        f"Under {under}, the training alone takes the plain CNN from {most.training.second:.1f} to"
        f" {most.training.first:.1f} %{hangs}. Compared with the plain CNN that is trained alike, {'; '.join(says)}."
    )


def alike(one: Outcome, frame: pd.DataFrame) -> Outcome:
    """Return the plain network that is trained as the one with the layer beside that of an outcome, its second."""
    plain = one.comparison.second
    other = replace(plain, model=plain.model.replace(PLAIN, experiments.CONTROL))
    return evidence.judge(Comparison(other, plain), measured.numbers(frame))


def aside(one: Outcome, frame: pd.DataFrame, where: str = "") -> str:
    """Return as a sentence what is left of the control, and what that makes of a lead; "" without.

    Args:
        one: a network with the layer beside the plain one.
        frame: recorded numbers, as `measured.frame` gives them.
        where: the budget, such as " at 0.1", where a reader could take it for another.
    """
    found = alike(one, frame)
    if found.result == "not measured":
        return ""
    part = {("holds", True): "lead", ("fails", False): "loss"}.get((found.result, one.difference > 0))
    whose = "this"
    if (one.first > found.first) == (one.difference > 0):
        share = (found.first - one.second) / one.difference
        whose = "most of this" if share > 0.5 else "part of this"
    why = f": {whose} {part} comes from the training" if part else ""
    return f" A plain network that is trained like the one with the layer keeps {whole(found.first)}{where}{why}."
