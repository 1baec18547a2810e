"""What the chapter on which network to keep computes from recorded histories: trails, selections, equal accuracies.

A history is what `training.train` reports: one row per epoch, with the validation accuracy of each path on clean and
on attacked images. All numbers are of the deployed answer.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

from ipywidgets import VBox

from qlayer_core import data
from qlayer_core.show import names
from qlayer_core.show.controls import explorer, slider
from qlayer_core.show.page import DASH, Markup, decimal, lines, listed, mean_and_range, table, typeset
from qlayer_core.show.plot import TEXT, axes, picture
from qlayer_core.show.training import History, deployed

Runs = Sequence[History]  # of one network, one per seed

WEIGHTS = tuple(i / 10 for i in range(11))  # of clean accuracy in the score


def accuracies(history: History) -> list[dict[str, float]]:
    """Return the deployed answer's accuracy in percent on each validation set, one dict per epoch, clean first."""
    path = deployed(history)
    return [row["accuracy"][path] for row in history]


def attacked(row: Mapping[str, float]) -> float:
    """Return the mean accuracy of one epoch over the attacked sets, in percent.

    Raises:
        ValueError: the epoch was scored on clean images alone.
    """
    values = [value for kind, value in row.items() if kind != "clean"]
    if not values:
        raise ValueError(
            f"an epoch is recorded with {row} alone, but its accuracy under attack is asked for, which needs"
            " validation images that were attacked: leave out networks that are selected on clean images, such as"
            " cnn-clean-selected"
        )
    return mean(values)


def kept(history: History, weight: float = 0.5) -> int:
    """Return the place in ``history`` of the epoch that the mixed score keeps: the first with the highest.

    Args:
        history: rows of one training.
        weight: of clean accuracy in the score, 0 to 1; the attacked sets share the rest.
    """
    scores = [weight * row["clean"] + (1 - weight) * attacked(row) for row in accuracies(history)]
    return scores.index(max(scores))


def at_least(history: History, clean: float) -> int | None:
    """Return the place of the epoch that is best under attack among those with this clean accuracy or more."""
    rows = accuracies(history)
    places = [place for place, row in enumerate(rows) if row["clean"] >= clean]
    return max(places, key=lambda place: attacked(rows[place]), default=None)


def reached(runs: Runs, clean: float) -> list[float]:
    """Return the accuracy under attack, in percent, at the place `at_least` of each training that has one."""
    places = [(accuracies(history), at_least(history, clean)) for history in runs]
    return [attacked(rows[place]) for rows, place in places if place is not None]


@picture
def trails(histories: Mapping[str, History], weight: float | None = None, left: float | None = None):
    """Draw accuracy under attack against clean accuracy, one trail per network, one dot per epoch.

    Args:
        histories: name of a model, or what a run is called, to its history.
        weight: ring the epoch that is kept with this weight of clean accuracy; None: none.
        left: lower end of the clean axis, in percent; left out, all epochs are in the picture.
    """
    figure, grid = axes(5, 3.4)
    ax, words = grid[0, 0], []
    for name, history in histories.items():
        rows, look = accuracies(history), names.style(name, deployed(history))
        xs, ys = [row["clean"] for row in rows], [attacked(row) for row in rows]
        ax.plot(xs, ys, label=names.label(name), **look | {"markersize": 4, "linewidth": 1})
        ax.annotate(
            "1",
            (xs[0], ys[0]),
            xytext=(-4, 4),
            textcoords="offset points",
            fontsize=8,
            ha="right",
            color=TEXT,
        )
        text = f"{names.label(name)}: {len(rows)} epochs, from {xs[0]:.1f} and {ys[0]:.1f} %"
        text += f" to {xs[-1]:.1f} and {ys[-1]:.1f} %"
        if weight is not None:
            at = kept(history, weight)
            ax.plot(xs[at], ys[at], "o", markersize=13, markerfacecolor="none", markeredgecolor=look["color"])
            text += f"; kept epoch {history[at]['epoch']}: {xs[at]:.1f} and {ys[at]:.1f} %"
        words.append(text)
    ax.set(xlabel="clean accuracy (%)", ylabel="mean accuracy under attack (%)")
    if left is not None:
        points = [
            row for history in histories.values() for row in accuracies(history) if row["clean"] >= left
        ]
        heights = [attacked(row) for row in points]
        ax.set_xlim(left, max(row["clean"] for row in points) + 0.3)
        ax.set_ylim(min(heights) - 3, max(heights) + 5)
    ax.legend(loc="best")
    return (
        figure,
        f"Validation accuracy under attack against clean accuracy, epoch by epoch. {'; '.join(words)}.",
    )


def weight_explorer(histories: Mapping[str, History]) -> VBox:
    """Return a slider over the weight of clean accuracy: which epoch of each network is kept, and what it gives."""
    chosen = [
        accuracies(history)[kept(history, weight)]["clean"]
        for history in histories.values()
        for weight in WEIGHTS
    ]
    left = min(chosen) - 1
    sets = list(accuracies(next(iter(histories.values())))[0])
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("", "epoch", *map(names.attack, sets)))

    def page(step: int) -> str:
        lines = ""
        for name, history in histories.items():
            at = kept(history, WEIGHTS[step])
            row = accuracies(history)[at]
            cells = (
                f"{history[at]['epoch']} of {history[-1]['epoch']}",
                *(f"{row[kind]:.1f}" for kind in sets),
            )
            lines += f'<tr><th scope="row">{names.label(name)}</th>'
            lines += "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        picture = trails(histories, WEIGHTS[step], left).html
        said = f"<p>Clean accuracy weighs {WEIGHTS[step]:.1f}, accuracy under attack {1 - WEIGHTS[step]:.1f}.</p>"
        return f"{picture}{said}<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"

    texts = [f"{weight:.1f}" for weight in WEIGHTS]
    return explorer([slider("weight of clean accuracy", texts, WEIGHTS.index(0.5))], page)


def equal_table(networks: Mapping[str, Runs], floors: Sequence[float]) -> Markup:
    """Return what each network gives under attack at the same clean accuracy, as a table: mean and range over seeds.

    Args:
        networks: name of a model to its histories, one per seed.
        floors: clean validation accuracies, in percent, that an epoch must reach.
    """
    sets = list(accuracies(next(iter(networks.values()))[0])[0])
    rows = []
    for floor in floors:
        rows.append([f"at least {floor:g} % clean"])
        for name, runs in networks.items():
            places = [at_least(history, floor) for history in runs]
            there = [(history, at) for history, at in zip(runs, places, strict=True) if at is not None]
            found = [accuracies(history)[at] for history, at in there]
            rows.append(
                [
                    names.label(name),
                    f"{len(there)} of {len(runs)}",
                    ", ".join(str(history[at]["epoch"]) for history, at in there) or DASH,
                    *(_middle([row[kind] for row in found]) for kind in sets),
                ]
            )
    return table(
        rows,
        ["network", "seeds", "epoch", *map(names.attack, sets)],
        "For each clean accuracy: of the epochs that reach it, the one that is best under attack, and its accuracies"
        f" (%) on {data.VALIDATION_IMAGES:,} validation images. Seeds: how many of the recorded seeds have such an"
        " epoch. Bold: their mean and, below it, the lowest and the highest of several. A dash: no epoch reaches it.",
    )


def _middle(values: Sequence[float]) -> str:
    """Return the mean for a table's cell and, of several values, their range below it."""
    middle, ends = mean_and_range(values)
    return middle if ends == DASH else lines(middle, ends, says=("mean", "from"))


class Gain(NamedTuple):
    """Points ahead of a plain network under attack, one number for each seed beside each of the plain network's."""

    kept: list[float]  # at the epochs that were kept
    equal: list[float]  # at equal clean accuracy; none where no epoch reaches it

    @property
    def ahead(self) -> bool | None:
        """Whether each is ahead of each at equal clean accuracy, or behind; None: mixed, or some don't reach it."""
        signs = {points > 0 for points in self.equal}
        return signs.pop() if len(signs) == 1 and len(self.equal) == len(self.kept) else None


def gain(history: History, plain: History) -> tuple[float, float | None]:
    """Return by how many points one training beats another under attack: as kept, and at equal clean accuracy.

    Equal means: it must reach at least the clean accuracy of the plain one's kept epoch. None where no epoch does.
    """
    mine, base = accuracies(history), accuracies(plain)[kept(plain)]
    place = at_least(history, base["clean"])
    equal = None if place is None else attacked(mine[place]) - attacked(base)
    return attacked(mine[kept(history)]) - attacked(base), equal


def gains(networks: Mapping[str, Runs], plain: str) -> dict[str, Gain]:
    """Return the `gain` of each seed of each network over each seed of the plain one."""
    found = {}
    for name in networks:
        if name != plain:
            pairs = [gain(mine, base) for mine in networks[name] for base in networks[plain]]
            first, second = zip(*pairs, strict=True)
            found[name] = Gain([*first], [points for points in second if points is not None])
    return found


def points(values: Sequence[float]) -> str:
    """Return differences in words: ``"+4.1"`` or, of several, ``"+4.1 (+2.5 to +10.7)"``; a dash for none."""
    middle, ends = mean_and_range(values, sign=True)
    return middle if ends == DASH else f"{middle} ({ends})"


def equal_words(networks: Mapping[str, Runs], plain: str = "cnn") -> Markup:
    """Return in words what each network gains over the plain one under attack, as kept and at its clean accuracy."""
    parts, found = [], gains(networks, plain)
    for name, (first, equal) in found.items():
        if not equal:
            parts.append(f"{names.label(name)} {points(first)} as it was kept, no epoch of it is as accurate")
        elif points(first) == points(equal) and len(first) == len(equal):
            parts.append(f"{names.label(name)} {points(first)} either way")
        else:
            some = f", which it reaches in {len(equal)} of {len(first)} pairs" * (len(equal) < len(first))
            later = f"{points(equal)} at equal clean accuracy{some}"
            parts.append(f"{names.label(name)} {points(first)} as it was kept, {later}")
    clean = sorted(accuracies(history)[kept(history)]["clean"] for history in networks[plain])
    several = len(clean) > 1 or any(len(runs) > 1 for runs in networks.values())
    head = (
        f"Points ahead of the {names.label(plain)}, on average over the attacked validation images"
        f"{' and over seeds, each beside each (lowest to highest)' if several else ''}:"
    )
    texts = dict.fromkeys(f"{one:.1f}" for one in clean)
    says = f"Equal means at least the {listed([*texts])} %"
    says += f" of the {names.label(plain)}'s kept epoch{'s' if len(clean) > 1 else ''}."
    equals = {name: mean(gain.equal) for name, gain in found.items() if gain.equal}
    if len(equals) > 1:
        best, worst = max(equals, key=equals.get), min(equals, key=equals.get)
        says += (
            f" At equal clean accuracy {names.label(best)} is first and {names.label(worst)} last of these."
        )
    items = "".join(f"<li>{typeset(part)}</li>" for part in parts)
    html = f"<p>{typeset(head)}</p><ul>{items}</ul><p>{typeset(says)}</p>"
    return Markup(html, f"{head} {'; '.join(parts)}. {says}")


def stops(history: History) -> dict[str, dict[str, float]]:
    """Return the accuracies at the epochs that four ways of stopping keep: by the way's name, with ``"epoch"``."""
    rows, path = accuracies(history), deployed(history)
    clean = [row["clean"] for row in rows]
    places = {"the last epoch": len(rows) - 1}
    if path is not None:
        other = [row["accuracy"]["e"]["clean"] for row in history]
        places["best E-path, clean"] = other.index(max(other))
    places["best answer, clean"] = clean.index(max(clean))
    places["best answer, mixed"] = kept(history)
    return {way: {"epoch": history[place]["epoch"]} | dict(rows[place]) for way, place in places.items()}


def stop_table(history: History) -> Markup:
    """Return `stops` as a table."""
    found = stops(history)
    sets = list(accuracies(history)[0])
    return table(
        [[way, str(row["epoch"]), *(decimal(row[kind], 1) for kind in sets)] for way, row in found.items()],
        ["kept", "epoch", *map(names.attack, sets)],
        "Validation accuracy (%) of the deployed answer, at the epoch that each way of stopping keeps.",
    )
