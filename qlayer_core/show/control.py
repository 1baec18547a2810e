"""Is it the layer, or how its network is trained? A control tells: the plain CNN, trained as those with it are.

The paper's plain CNN and its networks with the layer differ in their training as well (`study.experiments`). So the
lead of one over the other has two parts: from the plain CNN to the control, and from there to the layer.
"""

from typing import NamedTuple

from qlayer_core import datasets
from qlayer_core.show import names
from qlayer_core.show.page import Markup, finding, listed
from qlayer_core.show.plot import MUTED, axes, picture
from qlayer_core.study import evidence, experiments, measured
from qlayer_core.study.evidence import Comparison, Outcome, Value

PLAIN, *LAYERED = experiments.TARGETS


class Lead(NamedTuple):
    """How far a network with the layer is ahead of the plain CNN under one attack, and the two parts of it."""

    attack: str  # such as "bim 0.3"
    whole: Outcome  # the network with the layer beside the plain CNN
    training: Outcome  # the control beside the plain CNN
    layer: Outcome  # the network with the layer beside the control


def leads(dataset: str, adversarial: bool = False) -> dict[str, list[Lead]]:
    """Return by network its leads under the blind attacks of the tables, over all seeds; without what is missing."""
    numbers = measured.numbers(measured.frame())
    attacks = [(name, eps) for name in ("fgsm", "bim") for eps in datasets.find(dataset).epsilons]
    found: dict[str, list[Lead]] = {}
    for layered in LAYERED:
        for name, eps in attacks:
            blind = "black-box", name, eps, "cnn-a"
            plain, control, own = (
                Value(dataset, f"{model}-adv" if adversarial else model, *blind, None, path)
                for model, path in ((PLAIN, None), (experiments.CONTROL, None), (layered, "q"))
            )
            parts = [
                evidence.judge(Comparison(*pair), numbers)
                for pair in ((own, plain), (control, plain), (own, control))
            ]
            if all(part.result != "not measured" for part in parts):
                found.setdefault(own.model, []).append(Lead(f"{name} {eps:g}", *parts))
    return found


@picture
def parts(dataset: str, adversarial: bool = False):
    """Draw what blind attacks leave of the plain CNN, of the control and of networks with the layer, in lines."""
    found = leads(dataset, adversarial)
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
        ax.plot(values, range(len(some)), label=names.short(name), zorder=2, **look)
    attacks = [names.attack(one.attack) for one in some]
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
    return figure, f"Images left right under blind attacks, in percent. {'; '.join(words)}."


def reading(dataset: str) -> Markup:
    """Return in words how much of each lead comes with the training, and where the layer's own part is clear."""
    says = []
    for name, rows in leads(dataset).items():
        parts = [
            f"{one.training.difference:.1f} of {one.whole.difference:.1f} ({names.attack(one.attack)})"
            for one in rows
        ]
        clear = [names.attack(one.attack) for one in rows if one.layer.result == "holds"]
        says.append(
            f"Of {names.label(name)}'s lead over the plain CNN, in points, the training alone brings {listed(parts)};"
            f" ahead of the CNN that is trained alike it is clearly"
            f" {'under ' + listed(clear) if clear else 'under none of these attacks'}."
        )
    seeds = min(one.training.seeds for rows in leads(dataset).values() for one in rows)
    says.append(f"(Means of all pairs of seeds; the CNN that is trained alike has {seeds}.)")
    return finding(" ".join(says))
