"""What the chapter on the ladder of attacks shows of recorded ladders: rung by rung, and the worst case.

Records are those of `study.adaptive`, by model name, as `recorded` gives them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from html import escape

import ipywidgets as w
import numpy as np

from qlayer_core import datasets, intervals
from qlayer_core.show import names
from qlayer_core.show.controls import choice, explorer, slider
from qlayer_core.show.page import (
    Markup,
    decimal,
    folded,
    joined,
    line_names,
    lines,
    listed,
    paragraph,
    table,
    wrapped,
)
from qlayer_core.study import adaptive, experiments, ladder, records

PAPERS = {"bim on the e-path", "bim"}  # rungs that are the paper's own attack
OWN = {*PAPERS, "bim as it is"}  # and, behind a quantizer of the input, the one that corresponds to it
SPELLED = {
    "e-path": "E-path",
    "bim": "BIM",
    "pgd": "PGD",
    "apgd": "APGD",
    "square": "Square",
    "ce": "cross-entropy",
    "dlr": "DLR",
    "ls-pga": "LS-PGA",
    "eps": "epsilon",
}


def recorded(dataset: str = "mnist", seed: int = 0, *, others: bool = False) -> dict[str, dict]:
    """Return the evaluations of a data set by model name, in the order of the grid, as far as they are complete.

    Complete is one whose white-box rungs are recorded at every epsilon: only then is there a worst case. Networks
    that the paper has not, behind a quantizer of the input and `experiments.CONTROL`, are among them where ``others``
    is true.

    Raises:
        ValueError: there is no such data set.
    """
    datasets.find(dataset)
    found = {
        record["model"]: record
        for record in adaptive.recorded(dataset)
        if record["seed"] == seed and ladder.complete(record)
    }
    return {
        name: found[name]
        for name, spec in experiments.RUNS.items()
        if name in found and (others or not (spec.quantizer or spec.raw_name == experiments.CONTROL))
    }


def rung_name(name: str) -> str:
    """Return how the text calls a rung: ``"bim on the e-path"`` is ``"BIM on the E-path"``."""
    return re.sub(r"[\w-]+", lambda word: SPELLED.get(word[0], word[0]), name)


def climbed(record: dict, eps: float) -> list[dict]:
    """Return the rungs at one ``eps`` in their order: name, alone and standing (images right), n.

    ``alone`` counts the images that are right under this attack, ``standing`` those that none so far has fooled. The
    control, noise, fools no one for good. A last rung that attacks the survivors alone has no ``alone``. With twice
    the effort a rung counts once more, where that was tried.
    """
    rows, last = [], len(record["cells"])
    rungs = ladder.ladder(experiments.spec(record["model"]))
    place = {rung.name: at for at, rung in enumerate(rungs)}
    standing = records.unpack({"n": record["n"], "right": record["clean"]})
    for cell in sorted(record["cells"], key=lambda cell: place.get(cell["rung"], last)):
        how = cell["how"]
        if cell["eps"] != eps or how["purpose"] == "chance":
            continue
        if how["kind"] != "control":
            standing = standing & records.unpack(cell)
        rows.append(
            {
                "name": cell["rung"],
                "alone": None if how["survivors"] else cell["correct"],
                "standing": int(standing.sum()),
                "n": record["n"],
            }
        )
    return rows


def epsilons(found: Mapping[str, dict]) -> list[float]:
    """Return the epsilons at which every ladder was climbed."""
    each = [
        {cell["eps"] for cell in record["cells"] if cell["how"]["purpose"] == "ladder"}
        for record in found.values()
    ]
    return sorted(set.intersection(*each))


def plain(name: str) -> str:
    """Return the plain network to compare one with: raw beside raw, adversarially trained beside such."""
    return "cnn-adv" if name.endswith("-adv") else "cnn"


def ladders(found: Mapping[str, dict]) -> w.VBox:
    """Return a list of networks and a slider over epsilon: a network's ladder above that of its `plain` one.

    Those with the layer come first: at the beginning one of them is shown.
    """
    budgets = epsilons(found)
    chosen = [name for name in found if name != plain(name)] or list(found)
    chosen.sort(key=lambda name: experiments.spec(name).layer is None)

    def page(which: int, step: int) -> str:
        one, beside = chosen[which], plain(chosen[which])
        shown = [one, *([beside] if beside in found and beside != one else [])]
        eps = budgets[step]
        left = [
            f"{names.label(name)} {100 * adaptive.worst(found[name], eps).mean():.1f} %" for name in shown
        ]
        legend = (
            f"<p><b>Left by all together at epsilon {eps:.2f}:</b> {'; '.join(left)}.</p>"
            "<p>Filled: images, in %, that this attack and all before it left right. Outline: right under this"
            " attack alone.</p>"
        )
        return legend + "".join(_ladder(name, found[name], eps) for name in shown)

    start = min(1, len(budgets) - 1)
    return explorer(
        [
            choice("network", [names.label(name) for name in chosen]),
            slider("epsilon", [f"{eps:.2f}" for eps in budgets], start),
        ],
        page,
    )


def _ladder(name: str, record: dict, eps: float) -> str:
    """Return one ladder as rows of bars."""
    rows, n = climbed(record, eps), record["n"]
    clean = int(records.unpack({"n": n, "right": record["clean"]}).sum())
    colour, parts = names.colour(name), []
    for row in rows:
        share, alone = 100 * row["standing"] / n, row["alone"]
        outline = (
            ""
            if alone is None
            else f'<path d="M0 0h{100 * alone / n:.1f}v1H0z" fill="none" stroke="{colour}"/>'
        )
        drawing = f'<path d="M0 0h{share:.1f}v1H0z" fill="{colour}" opacity=".75"/>{outline}'
        said = f"{share:.1f} left" if row["name"] != "noise" else f"{100 * alone / n:.1f} right"
        if alone is not None and row["name"] != "noise":
            said = f"{100 * alone / n:.1f} alone, {said}"
        word = rung_name(row["name"]) + (" (the paper's)" if row["name"] in PAPERS else "")
        svg = f'<svg aria-hidden="true" viewBox="0 0 100 1" preserveAspectRatio="none">{drawing}</svg>'
        parts.append(f"<span>{escape(word)}</span>{svg}<span>{said}</span>")
    title = f"<p><b>{names.label(name)}</b>, {n:,} images, {clean} of them right without an attack</p>"
    return f'{title}<div class="ql-rows">{"".join(parts)}</div>'


def own_attack(record: dict, eps: float) -> dict:
    """Return the recorded cell of the paper's own attack, BIM, through the E-path where there is one."""
    for cell in record["cells"]:
        if cell["rung"] in OWN and cell["eps"] == eps:
            return cell
    raise KeyError(f"no BIM at eps {eps:g} is recorded of {record['model']}")


def worst_table(found: Mapping[str, dict]) -> Markup:
    """Return a table of what is left under all attacks together, by epsilon.

    A second one unfolds below it, with intervals and beside the paper's attack alone.
    """
    budgets, brief, whole = epsilons(found), [], []
    says = ("left by all", "at least", "at most", "BIM alone", "noise")
    for name, record in found.items():
        n = record["n"]
        brief.append([names.label(name)])
        whole.append([line_names(names.label(name), *says[1:])])
        for eps in budgets:
            left = int(adaptive.worst(record, eps).sum())
            noise = next(
                (
                    100 * cell["correct"] / n
                    for cell in record["cells"]
                    if (cell["rung"], cell["eps"]) == ("noise", eps)
                ),
                None,
            )
            own = 100 * own_attack(record, eps)["correct"] / n
            first, *below = (
                decimal(value, 1) for value in (100 * left / n, *intervals.wilson(left, n), own, noise)
            )
            brief[-1].append(first)
            whole[-1].append(lines(first, *below, says=says))
    lacking = [names.label(name) for name, record in found.items() if ladder.lacking(record)]
    shorter = f" Shorter by some of the last rungs: {listed(lacking)}." if lacking else ""
    flat = (
        " Behind a quantizer of the input BIM follows the gradient as it is, which is zero nearly everywhere: images"
        " hardly move, and its number says nothing of robustness."
        if any(experiments.spec(name).quantizer for name in found)
        else ""
    )
    seeds = listed(sorted({str(record["seed"]) for record in found.values()}))
    columns, where = ["network", *(f"epsilon {eps:g}" for eps in budgets)], f"{_images(found)}, seed {seeds}"
    return joined(
        table(
            brief,
            columns,
            f"Images (%) that no attack of the ladder fooled. Of the first {where}.{shorter}",
        ),
        folded(
            f"Seed {seeds}: intervals, BIM alone and noise",
            table(
                whole,
                columns,
                "The same (bold) with its 95 % interval, and below it what BIM alone and noise leave. Of the first"
                f" {where}.{flat}",
            ),
        ),
    )


def _images(found: Mapping[str, dict]) -> str:
    """Return in words of how many test images ladders are: what most of them have, and who has another number."""
    usual = Counter(record["n"] for record in found.values()).most_common(1)[0][0]
    others = [f"{names.label(name)}: {one['n']:,}" for name, one in found.items() if one["n"] != usual]
    return f"{usual:,} test images{f' ({listed(others)})' if others else ''}"


def reading(found: Mapping[str, dict], eps: float) -> Markup:
    """Return what ladders, all raw or all adversarially trained, say at one epsilon, and whose order turns."""
    rows, beside = [], plain(next(iter(found)))
    for name, record in found.items():
        n, left = record["n"], int(adaptive.worst(record, eps).sum())
        own = own_attack(record, eps)["correct"]
        low, high = intervals.wilson(left, n)
        alone = [row for row in climbed(record, eps) if row["alone"] is not None and row["name"] != "noise"]
        best = min(alone, key=lambda row: row["alone"])
        rows.append(
            [
                names.short(name),
                f"<strong>{100 * left / n:.1f}</strong> ({low:.1f} to {high:.1f})",
                f"{100 * own / n:.1f}",
                wrapped(f"{100 * best['alone'] / n:.1f} ({rung_name(best['name'])})", 8),
                f"{n:,}",
            ]
        )
    whom = ", all adversarially trained" if beside != "cnn" else ""
    shown = table(
        rows,
        ["network", "all together", "BIM, the paper's attack", "strongest single attack", "images"],
        f"Images left right (%) at epsilon {eps:g}{whom}; in brackets the strongest attack's name, and the 95 %"
        " interval.",
    )
    turned = [name for name in found if _turns(found, name, eps)]
    if not turned:
        return shown
    who, than = listed([names.short(name) for name in turned]), names.inside(beside)
    one, it = ("is", "it is") if len(turned) == 1 else ("are", "they are")
    says = (
        f"Judged by BIM alone, {who} {one} more robust than {than}; judged by all attacks, {it} less robust."
    )
    return joined(shown, paragraph(says))


def _turns(found: Mapping[str, dict], name: str, eps: float) -> bool:
    """Return whether a network is ahead of its `plain` one under BIM, and clearly behind it under all attacks.

    Both on the first images that both ladders are of.
    """
    beside = plain(name)
    if name == beside or beside not in found:
        return False
    n = min(found[one]["n"] for one in (name, beside))
    layered, bare = (records.unpack(own_attack(found[one], eps))[:n].sum() for one in (name, beside))
    if layered <= bare:
        return False
    return next(row["high"] < 0 for row in compared(found, name) if row["eps"] == eps)


def gained(one: dict, other: dict, eps: float) -> tuple[tuple[float, float, float], int]:
    """Return by how many points more one ladder leaves than another, its interval, and of how many images.

    They are the first that both are of, compared in pairs.
    """
    n = min(one["n"], other["n"])
    ours, others = (adaptive.worst(record, eps)[:n] for record in (one, other))
    return intervals.paired(int((ours & ~others).sum()), int((others & ~ours).sum()), n), n


def compared(found: Mapping[str, dict], name: str) -> list[dict]:
    """Return by how many points more of ``name`` than of its `plain` network is left under all attacks, by epsilon.

    The first test images that both are of are compared in pairs: eps, gap, low, high (95 %) and n.
    """
    rows = []
    both = {key: found[key] for key in (name, plain(name))}
    for eps in epsilons(both):
        (gap, low, high), n = gained(*both.values(), eps)
        rows.append({"eps": eps, "gap": gap, "low": low, "high": high, "n": n})
    return rows


def agrees(record: dict, rung: str, eps: float, right: np.ndarray) -> tuple[int, int, int]:
    """Return how many of the first images are right live, how many in the record, and how many differ.

    Raises:
        ValueError: the record lacks that rung at that epsilon; the message lists at which it has it.
    """
    cells = {cell["eps"]: cell for cell in record["cells"] if cell["rung"] == rung}
    if eps not in cells:
        known = f"only at {listed([f'{one:g}' for one in cells])}" if cells else "not at all"
        raise ValueError(f"the recorded ladder has no {rung!r} at epsilon {eps:g}: {known}")
    there = records.unpack(cells[eps])[: len(right)]
    here = np.asarray(right)[: len(there)]
    return int(here.sum()), int(there.sum()), int((here != there).sum())


def rung(name: str, layer: bool = True) -> ladder.Rung:
    """Return a rung of the ladder by its name."""
    known = {one.name: one for one in (ladder.LAYER if layer else ladder.PLAIN)}
    if name not in known:
        raise ValueError(f"there is no rung {name!r}; choose one of {', '.join(known)}")
    return known[name]
