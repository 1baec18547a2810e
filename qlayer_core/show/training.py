"""What the chapters show of training: a live picture, recorded histories, how weights were selected, the settings."""

import json
from collections.abc import Mapping, Sequence

from IPython.display import display
from matplotlib.ticker import LogLocator, NullLocator

from qlayer_core import experiments, palette, results, settings
from qlayer_core.drawing import DASH, MUTED, Markup, attack_name, axes, decimal, note, picture, table

TARGETS = ("cnn", "q-base", "q-large")  # the models of Tables 1 and 2, each also adversarially trained


class LiveCurves:
    """A picture of a training run that grows with it: pass `add` as ``report`` to `training.train`."""

    def __init__(self, name: str):
        self.name, self.rows = name, []
        self.shown = display(note("Training", "<p>The first epoch is under way.</p>"), display_id=True)

    def add(self, row: dict) -> None:
        """Draw the history with one more row."""
        self.rows.append(row)
        self.shown.update(draw({self.name: self.rows}))


@picture
def draw(rows: Mapping[str, Sequence[dict]]):
    """Draw histories, one line of panels a model: validation accuracy and training losses.

    Args:
        rows: name of a model to the rows of its history, as `training.train` reports them.
    """
    figure, grid = axes(6.6, 2.5 * len(rows), len(rows), 2)
    words = []
    for (left, right), (name, history) in zip(grid, rows.items(), strict=True):
        epochs = [row["epoch"] for row in history]
        paths = list(history[0]["accuracy"])
        for path in paths:
            look = palette.style(name, path if len(paths) > 1 else None) | {"marker": ""}
            for kind, shade in zip(history[0]["accuracy"][path], (1, 0.75, 0.5), strict=False):
                values = [row["accuracy"][path][kind] for row in history]
                left.plot(epochs, values, **look | {"alpha": shade})
        for kind, place in apart(history[-1]["accuracy"][paths[0]]).items():
            _name(left, attack_name(kind), epochs[-1], place)
        best = max(history, key=lambda row: row["score"])
        left.axvline(best["epoch"], color=MUTED, linewidth=1)
        left.set(ylim=(0, 101), ylabel=f"{palette.label(name)}\nvalidation accuracy (%)")
        for (loss, text), dash in zip(LOSSES.items(), ("-", "--", ":"), strict=True):
            if loss in history[0]["losses"]:
                values = [row["losses"][loss] for row in history]
                right.plot(epochs, values, color=palette.colour(name), linestyle=dash)
                _name(right, text, epochs[-1], values[-1])
                words.append(f"{name}: loss {loss} from {values[0]:.2g} to {values[-1]:.2g}")
        right.set(yscale="log", ylabel="training loss")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_locator(NullLocator())
        for ax in (left, right):  # room for the curves' names
            ax.set_xlim(0, 1.4 * epochs[-1])
            ax.set_xticks(range(0, int(epochs[-1]) + 1, max(1, int(epochs[-1]) // 3)))
        score = ", ".join(f"{kind} {value:.1f} %" for kind, value in best["accuracy"][paths[0]].items())
        words.append(f"{name}: best at epoch {best['epoch']:g} with {score}")
    for ax in grid[-1]:
        ax.set_xlabel("epoch")
    return figure, f"Validation accuracy and training losses by epoch. {'; '.join(words)}."


LOSSES = {
    "q": "$L_Q$",
    "e": "$L_E$",
    "codebook": "to codes",
}  # the commitment loss has the codebook loss's value


def apart(ends: Mapping[str, float], gap: float = 9) -> dict[str, float]:
    """Return where the names of curves that end at these percentages stand, so that none covers another."""
    places, place = {}, float("inf")
    for rank, name in enumerate(sorted(ends, key=ends.get, reverse=True), 1):
        room = gap * (len(ends) - rank)  # for the names below, above the axis
        place = places[name] = max(min(ends[name], place - gap), room)
    return places


def _name(ax, text: str, x: float, y: float) -> None:
    ax.annotate(f" {text}", (x, y), fontsize=9, va="center")


def recorded(names: Sequence[str] = TARGETS, dataset: str = "mnist") -> dict[str, list[dict]]:
    """Return the history of each of these models that is recorded."""
    found = {}
    for name in names:
        if results.record_path(dataset, name).exists():
            found[name] = results.read(dataset, name)["history"]
    return found


def inactive(history: Sequence[dict]) -> tuple[list[float], list[int]]:
    """Return the epochs and how many codes of all heads were inactive in each, for `drawing.curves`."""
    counted = [
        row for row in history if "inactive" in row
    ]  # with several validations an epoch, its last row has it
    return [row["epoch"] for row in counted], [sum(row["inactive"]) for row in counted]


def selection(rows: Mapping[str, Sequence[dict]]) -> Markup:
    """Return a table of the epochs that ways of weighing the validation sets pick, and what each gives.

    "mixed" is the way of `training.train`, half clean; "all alike" is the plain mean over the sets.
    """
    lines = []
    for name, history in rows.items():
        deployed = "q" if "q" in history[0]["accuracy"] else "e"
        picks = {
            "mixed": max(history, key=lambda row: row["score"]),
            "clean": max(history, key=lambda row: row["accuracy"][deployed]["clean"]),
            "all alike": max(history, key=lambda row: sum(row["accuracy"][deployed].values())),
        }
        for kind, row in picks.items():
            values = row["accuracy"][deployed].values()
            lines.append(
                [palette.label(name), kind, f"{row['epoch']:g}", *(f"{value:.2f}" for value in values)]
            )
    sets = next(iter(next(iter(rows.values()))[0]["accuracy"].values())) if rows else []
    return table(
        lines,
        ["model", "selected on", "epoch", *map(attack_name, sets)],
        "Accuracy (%) of the deployed answer on the validation sets, at the epoch that each way of selecting picks.",
    )


def settings_measured(dataset: str = "mnist") -> list[dict]:
    """Return what each of `settings.COMPARED` reached on validation images.

    A row has name, change, score and, where the variant is recorded, the percentage under each of `_kinds`; the score
    is None where it is not.
    """
    return [
        {"name": name, "change": change, "score": None} | _reached(dataset, name, change)
        for name, changes in settings.COMPARED.items()
        for change in changes
    ]


def _kinds(dataset: str) -> list[str]:
    return ["clean", *(f"{a} {eps}" for a in ("fgsm", "bim") for eps in experiments.EPSILONS[dataset])]


def _reached(dataset: str, name: str, change: str, seed: int = 0) -> dict[str, float]:
    """Return the Q-path's score and accuracies of one recorded row of the comparison, empty if it isn't there."""
    path = settings.row_path(dataset, name, change, seed)
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {"score": found["chosen"]["score"]} | found["chosen"]["accuracy"]["q"] | found["bim"]["q"]


def gains_over_chosen(name: str, change: str, dataset: str = "mnist") -> dict[str, list[float]]:
    """Return by how much a change beats the chosen settings, one number a recorded seed.

    Returns:
        Differences in points for ``"score"``, ``"clean"`` and each attack, between runs with the same seed.
    """
    gains: dict[str, list[float]] = {}
    for seed in settings.SEEDS:
        other, chosen = (_reached(dataset, name, row, seed) for row in (change, "chosen"))
        for kind in other.keys() & chosen.keys():
            gains.setdefault(kind, []).append(other[kind] - chosen[kind])
    return gains


def repeated_table(dataset: str = "mnist") -> Markup:
    """Return what the changes that scored highest gain over the chosen settings, over several seeds."""
    kinds, lines = _kinds(dataset), []
    for name in settings.REPEATED_ON:
        for change in settings.REPEATED:
            gains = gains_over_chosen(name, change, dataset)
            score = gains.get("score", [])
            span = f"{min(score):+.1f} to {max(score):+.1f}" if score else DASH
            means = (
                f"{round(sum(gains[kind]) / len(gains[kind]), 1) + 0:+.1f}" if gains else DASH
                for kind in ("score", *kinds)
            )
            lines.append([palette.label(name), change, str(len(score)), span, *means])
    return table(
        lines,
        ["model", "change", "seeds", "score, each seed", "score", *(attack_name(kind) for kind in kinds)],
        "Gain over the chosen settings with the same seed, in points of the Q-path's validation accuracy: lowest and"
        " highest score, then the mean over seeds.",
    )


def setting_table(dataset: str = "mnist") -> Markup:
    """Return the comparison of the settings that the paper leaves open, one change at a time."""
    kinds, lines = _kinds(dataset), []
    for row in settings_measured(dataset):
        change = row["change"] if row["change"] != "chosen" else "<strong>as chosen</strong>"
        lines.append(
            [palette.label(row["name"]), change, *(decimal(row.get(kind), 1) for kind in (*kinds, "score"))]
        )
    return table(
        lines,
        ["model", "change", *(attack_name(kind) for kind in kinds), "score"],
        f"Validation accuracy (%) of the Q-path after {settings.EPOCHS} epochs, attacked from an independent CNN; the"
        f" score, by which weights are selected, is half clean and half FGSM. {DASH} is not measured yet.",
    )
