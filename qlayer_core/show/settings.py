"""What each setting of the training costs, on validation images: as it was kept, and at equal clean accuracy."""

import html
from collections.abc import Sequence
from itertools import permutations
from statistics import mean
from typing import NamedTuple

from qlayer_core.show import keeping, names
from qlayer_core.show.page import Markup, decimal, listed, table
from qlayer_core.show.plot import MUTED, SERIES, TEXT, axes, picture
from qlayer_core.study import records, variants
from qlayer_core.study.variants import SEEDS, unit

RAW = ("cnn", "q-base", "q-large")  # what the figure has: the others have one change each
WORDS = {  # of a change, in the figure
    "framework-initialisation": "PyTorch's own first weights",
    "rate-halves-every-epoch": "learning rate halved every epoch",
    "dropout-off": "no dropout",
    "dropout-front": "dropout in front of the layer",
    "dropout-behind": "dropout behind the layer",
    "commitment-squared": "commitment as printed",
    "commitment-linear": "linear commitment",
    "commitment-none": "no commitment",
    "inactive-pull": "inactive codes pulled (strategy 1)",
    "inactive-reinitialize": "inactive codes set anew (strategy 2)",
    "no-gate": "no gate",
    "k-means-start": "codes started from k-means",
    "losses-x-10": "ten times alpha and beta",
    "alpha-x-10": "ten times alpha",
    "beta-x-10": "ten times beta",
    "without-l2": "no L2",
    "exact-gradients": "images of the exact gradient",
}


class Cost(NamedTuple):
    """What a change does to a network, in points against the settings of the grid with the same seed."""

    epochs: tuple[int, int]  # trained with it, and with the settings of the grid

    clean: float  # at the kept epochs
    attacked: float  # mean of the attacked sets, at the kept epochs
    equal: (
        float | None
    )  # the same at the changed run's best epoch that is as good on clean images; None without


def costs(name: str, change: str) -> list[Cost]:
    """Return what a change does, one per seed that is recorded with it and without."""
    found = []
    for seed in SEEDS:
        changed, chosen = (variants.recorded(unit("mnist", name, one, seed)) for one in (change, "chosen"))
        if changed is None or chosen is None:
            continue
        both = chosen["history"], changed["history"]
        attacked, equal = keeping.gain(both[1], both[0])
        clean = [keeping.accuracies(history)[keeping.kept(history)]["clean"] for history in both]
        epochs = len(changed["history"]), len(chosen["history"])
        found.append(Cost(epochs, clean[1] - clean[0], attacked, equal))
    return found


def not_run(models: Sequence[str] = tuple(variants.STUDIED)) -> dict[str, list[str]]:
    """Return the changes that are not recorded for any seed, by model."""
    return {name: [change for change in variants.changes(name) if not costs(name, change)] for name in models}


@picture
def draw(models: Sequence[str] = RAW):
    """Draw what each setting costs: a row per change that is recorded, a column per model with one."""
    lacking = not_run(models)
    models = [name for name in models if len(lacking[name]) < len(variants.changes(name))] or models
    rows = [
        change
        for change in WORDS
        if any(change in variants.changes(name) and change not in lacking[name] for name in models)
    ]
    figure, grid = axes(6.6, 0.4 * len(rows) + 1.2, 1, len(models), sharey=True, sharex=True)
    words = []
    for ax, name in zip(grid[0], models, strict=True):
        ax.axvline(0, color=MUTED, lw=1)
        for y, change in enumerate(rows):
            if change not in variants.changes(name):
                continue
            for cost in costs(name, change):
                ax.plot(cost.clean, y - 0.2, "o", color=SERIES[1], markersize=5)
                ax.plot(cost.attacked, y, "^", color=SERIES[0], markersize=6)
                if cost.equal is not None:
                    ax.plot(cost.equal, y + 0.2, "^", color=SERIES[0], markersize=6, markerfacecolor="none")
                words.append(f"{names.label(name)}, {WORDS[change]}: {_said(cost)}")
        ax.set_title(names.label(name))
        ax.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(range(len(rows)), [WORDS[change] for change in rows])
    grid[0, 0].set_ylim(max(1, len(rows)) - 0.5, -0.5)
    figure.supxlabel("points against the book's settings", fontsize=11)
    ax = grid[0, -1]
    for marker, colour, face, text in (
        ("o", SERIES[1], SERIES[1], "clean"),
        ("^", SERIES[0], SERIES[0], "attacked"),
        ("^", SERIES[0], "none", "attacked, at equal clean accuracy"),
    ):
        ax.plot([], [], marker, color=colour, markerfacecolor=face, label=text)
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10.5, labelcolor=TEXT
    )
    missing = sum(map(len, lacking.values()))
    return (
        figure,
        f"What each setting costs on validation images. {'; '.join(words)}. {missing} are not run yet.",
    )


def cost_table(models: Sequence[str] = tuple(variants.STUDIED)) -> Markup:
    """Return the recorded costs as a table, each the mean over its seeds."""
    rows = []
    for name in models:
        found = {change: costs(name, change) for change in variants.changes(name)}
        if any(found.values()):
            rows.append([names.label(name)])
        for change, several in found.items():
            if several:
                kept = mean(cost.clean for cost in several), mean(cost.attacked for cost in several)
                cells = [decimal(value, 1, sign=True) for value in (*kept, at_equal(several))]
                there = sum(cost.equal is not None for cost in several)
                if 0 < there < len(several):
                    cells[-1] += f" (in {there} of {len(several)})"
                epochs = "; ".join(f"{mine} ({others})" for (mine, others), *_ in several)
                rows.append([WORDS[change], epochs, *cells])
    return table(
        rows,
        ["change", "epochs", "clean", "attacked", "at equal clean"],
        "Points against the book's settings with the same seed, on validation images: clean, mean of FGSM 0.2 and 0.3"
        " at the kept epoch, and the same at the best epoch that is as good on clean images as the kept one of the"
        " book's settings, for as many seeds as have one; a dash where none has. Epochs: trained with the change, and"
        " (without it), for each seed.",
    )


def spread(name: str) -> float | None:
    """Return by how much two seeds with the book's settings differ at equal clean accuracy at most, in points.

    None where no two are recorded of which one is as good on clean images.
    """
    histories = [run["history"] for run in records.runs("mnist", name)]
    differences = [keeping.gain(other, one)[1] for one, other in permutations(histories, 2)]
    return max((abs(one) for one in differences if one is not None), default=None)


def sorted_out(name: str) -> dict[str, list[tuple[str, float | None]]]:
    """Return the recorded changes of a model by what they do at equal clean accuracy, the largest first.

    ``"loses"`` and ``"gains"``: by more than another seed does (see `spread`); ``"little"``: by less; ``"never"``: no
    epoch of any seed is as good on clean images as the kept one of the book's settings.
    """
    found, luck = {"loses": [], "gains": [], "little": [], "never": []}, spread(name) or 0
    for change in variants.changes(name):
        if several := costs(name, change):
            value = at_equal(several)
            kind = "never" if value is None else "little" if abs(value) <= luck else "gains"
            found["loses" if kind == "gains" and value < 0 else kind].append((change, value))
    for some in found.values():
        some.sort(key=lambda pair: -abs(pair[1] or 0))
    return found


def at_equal(several: Sequence[Cost]) -> float | None:
    """Return the mean of what a change does at equal clean accuracy, over the seeds that have such an epoch."""
    equal = [cost.equal for cost in several if cost.equal is not None]
    return mean(equal) if equal else None


def reading(models: Sequence[str] = RAW) -> Markup:
    """Return in words which recorded changes do more than another seed does, as a list with an entry per model."""
    kinds = {
        "loses": "More is lost with",
        "gains": "More is gained with",
        "little": "No more than that is changed with",
        "never": "Never as good on clean images with",
    }
    entries = []
    for name in models:
        parts = []
        for kind, some in sorted_out(name).items():
            said = [WORDS[one] + _points(name, one) for one, _ in some]
            parts += [f"{kinds[kind]} {listed(said)}."] if said else []
        if parts:
            far = spread(name)
            luck = (
                "which has no second seed to compare"
                if far is None
                else f"another seed changes up to {far:.1f}"
            )
            entries.append(f"{names.label(name)} ({luck}). {' '.join(parts)}")
    text = "Points lost or gained under attack, at equal clean accuracy, beside what another seed changes:"
    items = "".join(f"<li>{html.escape(entry)}</li>" for entry in entries)
    return Markup(f"<p>{text}</p><ul>{items}</ul>", " ".join([text, *entries]))


def _points(name: str, change: str) -> str:
    """Return in brackets what a change does at equal clean accuracy, and in how many seeds, if not in all."""
    several = costs(name, change)
    there = sum(cost.equal is not None for cost in several)
    if not there:
        return ""
    seeds = f", {there} of {len(several)} seeds" if there < len(several) else ""
    return f" ({at_equal(several):+.1f}{seeds})"


def still_to_run(models: Sequence[str] = tuple(variants.STUDIED)) -> Markup:
    """Return in words which changes are not run yet, with the command that makes the first."""
    lacking, alike = not_run(models), {}
    for name, some in lacking.items():
        if some:
            alike.setdefault(tuple(some), []).append(names.label(name))
    parts = [f"{listed(who)}: {listed([WORDS[one] for one in some])}" for some, who in alike.items()]
    if not parts:
        return Markup("<p>Every change is recorded.</p>", "Every change is recorded.")
    name, change = next((name, some[0]) for name, some in lacking.items() if some)
    how = unit("mnist", name, change).how()
    count, text = sum(map(len, lacking.values())), f"{'; '.join(parts)}."
    head = f"Not run yet: {count} change{'s' if count > 1 else ''}"
    command = f"<code>{html.escape(how)}</code>"
    made = (
        f"The first is made with {command}, all with <code>make reproduce ONLY=settings</code>."
        if count > 1
        else f"It is made with {command}."
    )
    return Markup(
        f"<details><summary>{head}</summary><p>{html.escape(text)} {made}</p></details>", f"{head}. {text}"
    )


def _said(cost: Cost) -> str:
    equal = (
        "no epoch as good on clean images"
        if cost.equal is None
        else f"{cost.equal:+.1f} at equal clean accuracy"
    )
    return f"clean {cost.clean:+.1f}, attacked {cost.attacked:+.1f}, {equal}"
