"""Who stands where, among networks with the layer and those behind a quantizer of their input, in one table.

Everything works with none, some or all of `study.experiments.QUANTIZED` recorded, and says which column is missing.
"""

import numpy as np

from qlayer_core import intervals
from qlayer_core.show import names, others
from qlayer_core.show.page import DASH, Markup, decimal, listed, paragraph, table
from qlayer_core.study import adaptive, experiments, records

BLIND, SEEING, TOGETHER = WAYS = "blind BIM", "seeing BIM", "all attacks together"
LAYERED = ("q-base", "q-large")


def left(
    way: str, dataset: str = "mnist", eps: float = 0.2, *, adversarial: bool = False
) -> dict[str, np.ndarray]:
    """Return by network which images an attack leaves right, of the first ones that all networks share.

    Args:
        way: one of `WAYS`. Who sees the network follows what suits its quantizer of the input, the E-path with the
            layer, or the plain gradient; all together are the rungs of the ladder.
        dataset: of the records.
        eps: the budget.
        adversarial: of the adversarially trained networks, in place of the raw ones.
    """
    quantized = others.of_training(experiments.QUANTIZED, adversarial)
    found = {}
    if way == TOGETHER:
        climbed = others.ladders(dataset, adversarial=adversarial)
        found = {name: adaptive.worst(record, eps) for name, record in climbed.items()}
    else:
        hows = (others.ADAPTIVE, others.PLAIN) if way == SEEING else (others.BLIND,)
        known = others.recorded(dataset, others.of_training(others.NETWORKS, adversarial))
        for name, record in known.items():
            cells = [one for how in hows if (one := others.cell(record, "bim", eps, how))]
            if cells and (way == BLIND or name not in quantized or len(cells) == len(hows)):
                found[name] = records.unpack(cells[0])
    n = min(map(len, found.values()), default=0)
    return {name: right[:n] for name, right in found.items()}


def beside(mine: np.ndarray, other: np.ndarray) -> str:
    """Return how a network does beside another one, image by image, by the 95 % interval of their difference."""
    n = len(mine)
    _, low, high = intervals.paired(int((mine & ~other).sum()), int((other & ~mine).sum()), n)
    return "clearly ahead" if low > 0 else "clearly behind" if high < 0 else "no clear difference"


def standings(
    dataset: str = "mnist", eps: float = 0.2, ways: tuple[str, ...] = WAYS, *, adversarial: bool = False
) -> Markup:
    """Return what attacks leave of each network as a table, best first by the last of ``ways``.

    Under all attacks together it says of each network, too, how it does beside those with the layer.
    """
    columns = {way: left(way, dataset, eps, adversarial=adversarial) for way in ways}
    quantized = set(others.of_training(experiments.QUANTIZED, adversarial))
    lacking = [way for way, found in columns.items() if not quantized & set(found)]
    columns = {way: found for way, found in columns.items() if way not in lacking}
    if not columns:
        kind = f"a{'n adversarially trained' if adversarial else ''} network behind a quantizer of its input"
        return paragraph(f"Nothing is recorded yet of {kind} for: {listed(ways)}.")
    last = list(columns.values())[-1]
    worst = columns.get(TOGETHER, {})
    own = [name for name in others.of_training(LAYERED, adversarial) if name in worst]
    known = dict.fromkeys(name for found in columns.values() for name in found)
    every = sorted(known, key=lambda name: -last[name].mean() if name in last else 1)
    rows = []
    for name in every:
        shares = [
            decimal(100 * found[name].mean(), 1) if name in found else DASH for found in columns.values()
        ]
        compared = [beside(worst[name], worst[one]) if name in worst and name != one else DASH for one in own]
        rows.append([names.short(name), *shares, *compared])
    counts = [f"{way} of the first {len(next(iter(found.values()))):,}" for way, found in columns.items()]
    follows = (
        " With the layer, the one who sees follows the E-path; behind a quantizer of the input, what suits it."
        if SEEING in columns
        else ""
    )
    whose = ", all adversarially trained" if adversarial else ""
    return table(
        rows,
        ["network", *columns, *(f"beside {names.short(one)}" for one in own)],
        f"{names.PICTURES[dataset].capitalize()} left right (%) at epsilon {eps:g}{whose}: {listed(counts)}."
        + follows
        + (f" Not recorded yet: {listed(lacking)}." if lacking else ""),
    )
