"""What the chapter on speed shows: ``benchmarks/results.json``, from `make bench`, and ``agreement.json`` beside it.

The first holds one run per number format: ``"float32"`` from any machine, ``"bfloat16"`` from one that is fast at it.
"""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

import ipywidgets as w

from qlayer_core.files import BENCHMARKS, read_json
from qlayer_core.show import names, slides
from qlayer_core.show.controls import choice, explorer, slider
from qlayer_core.show.page import DASH, Markup, table
from qlayer_core.show.plot import SERIES
from qlayer_core.study import fingerprint, records

NETWORKS = ("cnn", "q-base", "q-large", "q-inner")  # whose training steps are shown
KINDS = {
    "fgsm": "attack by FGSM or BIM",
    "bim": "attack by FGSM or BIM",
    "cw": "attack by C&W",
    "layer": "the layer alone",
    "step": "training step",
}


class Work(NamedTuple):
    """Something that was timed on one core."""

    what: str
    size: float  # on the axis of what grows
    operations: float
    seconds: float
    share: float  # of the machine's limit, in [0, 1]


class Growth(NamedTuple):
    """By which factors something grew, and with it operations and time."""

    size: float
    operations: float
    seconds: float


def recorded(folder: Path = BENCHMARKS) -> dict[str, dict]:
    """Return the recorded runs, by number format.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that measures it.
    """
    return _read(folder / "results.json", "make bench")


def _read(file: Path, command: str) -> dict:
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing. Measure it with: {command}")
    return read_json(file)


def series(run: Mapping) -> dict[str, list[Work]]:
    """Return what was timed of a run, by what grows: heads, codes, images, and the network, smallest first."""
    rows = {row["case"]: row for row in run["rows"]}
    attack = rows["fgsm cnn"]
    per_image = attack["operations"] / int(attack["work"].split()[0])
    found = {
        "heads": [
            (
                f"The layer with {_count(p['heads'], 'head')} of 64 codes",
                p["heads"],
                p["operations"],
                p["seconds"],
            )
            for p in run["growth"]["heads"]
        ],
        "codes": [
            (f"The layer with one head of {p['codes']:,} codes", p["codes"], p["operations"], p["seconds"])
            for p in run["growth"]["codes"]
        ],
        "images": [
            (f"FGSM on {p['images']:,} images", p["images"], per_image * p["images"], p["seconds"])
            for p in run["growth"]["images"]
        ],
        "GFLOP": sorted(
            (
                (
                    f"A training step of {names.label(name)}",
                    row["operations"] / 1e9,
                    row["operations"],
                    row["seconds"],
                )
                for name in NETWORKS
                if (row := rows.get(f"step {name}"))
            ),
            key=lambda work: work[1],
        ),
    }
    limit = run["machine"]["operations_per_second"]
    return {what: [Work(*work, work[2] / work[3] / limit) for work in works] for what, works in found.items()}


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


GROWS = {
    "heads": "heads of the layer",
    "codes": "codes of the layer",
    "images": "images of an attack",
    "GFLOP": "network of a training step",
}


def roof(runs: Mapping[str, Mapping]) -> w.VBox:
    """Return lists of what grows and of the number format, and a slider over sizes: a dot moves under the limit."""
    each = {kind: series(run) for kind, run in runs.items()}
    limits = {kind: run["machine"]["operations_per_second"] / 1e9 for kind, run in runs.items()}
    sizes = min(len(works) for found in each.values() for works in found.values())
    top = 200 * math.ceil(max(limits.values()) / 200)
    colour = SERIES[0]
    look = {"color": colour, "linestyle": ":", "marker": "o"}

    def page(which: int, kind: int, step: int) -> str:
        what, number_format = list(GROWS)[which], list(runs)[kind]
        works, limit = each[number_format][what], limits[number_format]
        chosen, last = works[step], 4 * math.ceil(works[-1].size / 4)
        others = [work for work in works if work is not chosen]
        curves = [
            slides.Curve(
                f"limit in {number_format}",
                {"color": names.NEUTRAL, "linestyle": "--"},
                (0, chosen.size, last),
                [limit] * 3,
            ),
            slides.Curve("the dot", look | {"markerfacecolor": colour}, (chosen.size,), [_rate(chosen)]),
            slides.Curve(
                "other sizes",
                look | {"color": "currentColor", "markerfacecolor": "none"},
                [work.size for work in others],
                [_rate(work) for work in others],
            ),
        ]
        said = (
            f"<p><b>{chosen.what}</b> in {number_format}: {chosen.operations / 1e9:.3g} GFLOP in"
            f" {1000 * chosen.seconds:.0f} ms, {100 * chosen.share:.0f}&nbsp;% of the limit.</p>"
        )
        return said + slides.chart(
            "Billions of operations per second (GFLOP/s), one core",
            curves,
            chosen.size,
            f"{chosen.size:,.0f}",
            x=what,
            ticks=[last * i / 4 for i in range(5)],
            top=top,
            unit=" GFLOP/s",
        )

    return explorer(
        [
            choice("what grows", list(GROWS.values())),
            choice("format", list(runs)),
            slider("size", [f"{i + 1} of {sizes}" for i in range(sizes)]),
        ],
        page,
    )


def _rate(work: Work) -> float:
    return work.operations / work.seconds / 1e9


def comparison(runs: Mapping[str, Mapping]) -> Markup:
    """Return a table of how many times as long the others take: the lowest and the highest over all cases of a kind.

    An attack of theirs that left every image as it was is no contestant, and isn't counted.
    """
    ratios = theirs(runs)
    rows = [
        [
            escape(work),
            escape(other).replace(", ", ",<br>"),
            *(_range(ratios[kind].get((work, other), [])) for kind in runs),
        ]
        for work, other in next(iter(ratios.values()))
    ]
    return table(
        rows,
        ["work", "against", *(f"ours in {kind}" for kind in runs)],
        "How many times as long the others take, on one core: the lowest and the highest over the cases measured,"
        " each of them the median over rounds.",
    )


def theirs(runs: Mapping[str, Mapping]) -> dict[str, dict[tuple[str, str], list[float]]]:
    """Return how many times as long the others take, by number format, and by kind of work and who they are."""
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for number_format, run in runs.items():
        mine = found[number_format] = {}
        for row in run["rows"]:
            for other, one in row["others"].items():
                if one.get("largest_change") != 0:
                    mine.setdefault((KINDS[row["case"].split()[0]], other), []).append(one["ratio"])
    return found


def _range(values: list[float]) -> str:
    if not values:
        return DASH
    ends = dict.fromkeys(f"{value:.1f}" for value in (min(values), max(values)))
    return f"<strong>{' to '.join(ends)}</strong>"


def growth(run: Mapping, what: str) -> Growth:
    """Return the growth of heads, codes, images or epochs, from the least that was timed to the most.

    Images and epochs have no count of their own: theirs grows as they do.
    """
    first, *_, last = run["growth"][what]
    size, seconds = (last[of] / first[of] for of in (what, "seconds"))
    return Growth(size, last["operations"] / first["operations"] if "operations" in first else size, seconds)


def memory(run: Mapping) -> list[float]:
    """Return ours over theirs, in peak memory, for each case in which both were measured."""
    return [
        row["mebibytes"] / other["mebibytes"]
        for row in run["rows"]
        for other in row["others"].values()
        if "mebibytes" in other
    ]


def agreement(folder: Path = BENCHMARKS) -> list[tuple[int, float]]:
    """Return of each comparison of the fast number format with float32 its images, and the difference in points.

    They are white-box accuracies of each path that answers, attacked in either format and scored in float32.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that measures it.
    """
    found = _read(folder / "agreement.json", "python benchmarks/agreement.py")
    return [
        (row["images"], row["auto"][path] - full)
        for row in found["attacks"]
        for path, full in row["float32"].items()
    ]


def of_other_code(runs: Mapping[str, Mapping]) -> bool:
    """Return whether a recorded run timed other code than today's; those from before it was recorded did."""
    today = {stage: fingerprint.of(stage) for stage in fingerprint.TIMED}
    return any(run.get("code") != today for run in runs.values())


def of_other_weights(folder: Path = BENCHMARKS) -> bool:
    """Return whether a network that `agreement` is about has been trained again since."""
    found = _read(folder / "agreement.json", "python benchmarks/agreement.py")
    return any(
        records.read_unit(records.unit("mnist", name))["weights_sha256"] != then
        for name, then in found["weights"].items()
    )
