"""What the chapter on speed shows: ``benchmarks/results.json``, from `make bench`, and ``agreement.json`` beside it.

The first holds one run per number format: ``"float32"`` from any machine, ``"bfloat16"`` from one that is fast at it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from matplotlib.ticker import LogLocator

from qlayer_core.files import BENCHMARKS
from qlayer_core.show import names
from qlayer_core.show.page import DASH, Markup, decimal, table
from qlayer_core.show.plot import MUTED, SERIES, axes, picture


def recorded(folder: Path = BENCHMARKS) -> dict[str, dict]:
    """Return the recorded runs, by number format.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that measures it.
    """
    return _read(folder / "results.json", "make bench")


def _read(file: Path, command: str) -> dict:
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing. Measure it with: {command}")
    return json.loads(file.read_text())


def name(case: str) -> str:
    """Return how the text calls a case: ``"bim q-large"`` is ``"BIM, Q-large"``."""
    kind, *which = case.split()
    if kind == "layer":
        heads, side = which
        return f"layer, {heads} {'head' if heads == '1' else 'heads'}, {side} x {side}"
    what = "training step" if kind == "step" else names.attack(kind)
    return f"{what}, {'CNN B' if which == ['source-b'] else names.label(which[0])}"


def comparison(runs: Mapping[str, Mapping]) -> Markup:
    """Return a table of how many times as long the others take, with the range over rounds, by number format.

    An attack of theirs that left every image as it was is no contestant, and has no line.
    """
    lines = []
    for case, other, found in _pairs(runs):
        if any(one.get("largest_change") == 0 for one in found):
            continue
        cells = []
        for one in found:
            spread = f" <small>{one['lowest']:.1f}-{one['highest']:.1f}</small>" if "lowest" in one else ""
            cells += [f"<strong>{one['ratio']:.1f}</strong>{spread}", decimal(one.get("ratio_alone"), 1)]
        lines.append([_broken(case), escape(other).replace(", ", ",<br>"), *cells])
    return table(
        lines,
        ["", "against", *(head for kind in runs for head in (kind, "alone"))],
        "How many times as long the others take, on one core, with ours in either number format: the median over"
        " rounds, beside it the lowest and the highest, and with each alone in a process of its own."
        f" {DASH}: not measured.",
    )


def memory(runs: Mapping[str, Mapping]) -> Markup:
    """Return a table of the memory that each contestant took at its peak, in a process of its own."""
    ours = {kind: {row["case"]: row.get("mebibytes") for row in run["rows"]} for kind, run in runs.items()}
    lines = []
    for case, other, found in _pairs(runs):
        if all("mebibytes" in one for one in found):
            cells = [
                f"{value:.0f}"
                for kind, one in zip(runs, found, strict=True)
                for value in (ours[kind][case], one["mebibytes"])
            ]
            lines.append([_broken(case), escape(other).replace(", ", ",<br>"), *cells])
    return table(
        lines,
        ["", "against", *(head for kind in runs for head in (f"ours, {kind}", "theirs"))],
        "Peak memory in MiB, above what the process held before it began, with ours in either number format.",
    )


def larger(run: Mapping) -> list[str]:
    """Return the names of the cases in which ours took more memory than one of the others, in whole MiB."""
    return [
        name(row["case"])
        for row in run["rows"]
        if any(
            round(row["mebibytes"]) > round(other["mebibytes"])
            for other in row["others"].values()
            if "mebibytes" in other
        )
    ]


def _pairs(runs: Mapping[str, Mapping]) -> Iterator[tuple[str, str, list[dict]]]:
    """Yield each case with each of the others and what was found of it, by number format."""
    found = {kind: {row["case"]: row["others"] for row in run["rows"]} for kind, run in runs.items()}
    for case, others in next(iter(found.values())).items():
        for other in others:
            yield case, other, [one[case][other] for one in found.values()]


def _broken(case: str) -> str:
    """Return a case's `name` as HTML, on two lines where it is long."""
    return re.sub(r"(heads?,) ", r"\1<br>", escape(name(case)))


def agreement(folder: Path = BENCHMARKS) -> Markup:
    """Return a table of white-box accuracies in the fast number format beside those in float32.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that measures it.
    """
    found = _read(folder / "agreement.json", "python benchmarks/agreement.py")
    lines = []
    for row in found["attacks"]:
        attack = "clean" if row["attack"] == "none" else names.attack(f"{row['attack']} {row['eps']:g}")
        for path, full in row["float32"].items():
            fast = row["auto"][path]
            who = names.label(row["model"], path if len(row["auto"]) > 1 else None)
            lines.append([who, escape(attack), f"{fast:.1f}", f"{full:.1f}", f"{fast - full:+.1f}"])
    return table(
        lines,
        ["", "attack", found["number_format"], "float32", "difference"],
        f"White-box accuracy (%) on {found['images']:,} images, attacked in either number format, scored in float32.",
    )


def of_other_weights(accuracy: float, folder: Path = BENCHMARKS) -> bool:
    """Return whether the plain CNN that `agreement` is about is not the one with this clean accuracy."""
    found = _read(folder / "agreement.json", "python benchmarks/agreement.py")
    (then,) = (row["float32"] for row in found["attacks"] if (row["model"], row["attack"]) == ("cnn", "none"))
    return any(abs(one - accuracy) > 0.05 for one in then.values())


@picture
def shares(runs: Mapping[str, Mapping]):
    """Draw which share of the machine's best matrix product each case reaches, one bar per number format."""
    cases = [row["case"] for row in next(iter(runs.values()))["rows"] if "share" in row]
    figure, grid = axes(6.4, 0.28 * len(cases) * len(runs) + 1.2)
    ax, words = grid[0, 0], []
    for i, (number_format, run) in enumerate(runs.items()):
        found = {row["case"]: row for row in run["rows"]}
        height = 0.8 / len(runs)
        for j, case in enumerate(cases):
            at, row = j + (i - (len(runs) - 1) / 2) * height, found[case]
            first = {"label": number_format} if j == 0 else {}
            ax.barh(at, 100 * row["share"], 0.9 * height, color=SERIES[i], **first)
            words.append(f"{name(case)} in {number_format} {100 * row['share']:.0f} %")
    ax.set_yticks(range(len(cases)), [name(case) for case in cases])
    ax.set(xlim=(0, 100), xlabel="share of the limit (%)")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend()
    return figure, f"Bars of the share of the limit: {'; '.join(words)}."


AXES = {
    "heads": "heads",
    "codes": "codes",
    "images": "images attacked by FGSM",
    "epochs": "epochs of training",
}


@picture
def growth(run: Mapping):
    """Draw time against heads, codes, images and epochs, with what the count of operations predicts."""
    figure, grid = axes(6.6, 5, 2, 2)
    words = []
    for ax, (series, points) in zip(grid.flat, run["growth"].items(), strict=True):
        xs = [point[series] for point in points]
        seconds = [point["seconds"] for point in points]
        work = [point.get("operations", point[series]) for point in points]
        predicted = [seconds[0] * one / work[0] for one in work]
        ax.plot(xs, predicted, color=MUTED, linestyle="--", label="predicted")
        ax.plot(xs, seconds, color=SERIES[0], marker="o", linestyle="", label="measured")
        ax.set(xscale="log", yscale="log", xlabel=AXES[series], ylabel="seconds")
        ax.set_xticks(xs, [str(x) for x in xs])
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=99))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        words.append(f"{series} {xs[0]} to {xs[-1]}: time x {seconds[-1] / seconds[0]:.1f}")
        words[-1] += f", operations x {work[-1] / work[0]:.1f}"
    grid[0, 0].legend()
    return figure, f"Time against the size of the work, with the operations' prediction. {'; '.join(words)}."
