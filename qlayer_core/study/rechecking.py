"""Whether this machine finds what is recorded: some images attacked anew, and nothing written."""

import dataclasses
from collections.abc import Callable, Sequence

from qlayer_core import data, evaluation, machine
from qlayer_core.study import crafting, records, units
from qlayer_core.study.records import Unit


def against_records(
    unit: Unit,
    tables: Sequence[str] = (),
    *,
    limit: int,
    report: Callable[[dict, int], None],
    progress: bool = False,
) -> tuple[int, int]:
    """Attack the first images of the test set anew, and compare with what is recorded; nothing is written.

    On another kind of machine rounding may flip a few answers.

    Args:
        unit: what to attack.
        tables: only the cells that these tables of the paper show; all recorded attacks if there are none.
        limit: how many of the first test images; cells of fewer are left out.
        report: called with each cell and how many of its answers differ.
        progress: show the batches of an attack as they pass.

    Returns:
        How many answers differ, and of how many.

    Raises:
        ValueError: nothing is recorded of so many images, or a table doesn't show this network on this data set.
    """
    shown = units.of_tables(tables, unit)
    device = machine.device()
    model, record = records.load_unit(unit)
    model, (images, labels) = model.to(device), data.load(unit.dataset, "test", limit=limit).to(device)
    recorded = {
        (records.attack_of(cell), cell["path"]): cell for cell in record["cells"] if cell["n"] >= len(labels)
    }
    differ = every = 0
    for attack in dict.fromkeys(attack for attack, _ in recorded):
        if tables and dataclasses.replace(attack, attack=attack.attack.split("-")[0]) not in shown:
            continue
        made, *_ = crafting.make(unit, model, images, attack, progress, keep=False)
        for cell in evaluation.cells(model.eval(), made, labels, attack):
            before = records.unpack(recorded[attack, cell["path"]])[: len(labels)]
            wrong = int((before != cell["right"].numpy()).sum())
            differ, every = differ + wrong, every + len(labels)
            report(cell, wrong)
    if not every:
        raise ValueError(
            f"nothing is recorded of {unit.spec.name} on {unit.dataset}, seed {unit.seed}, on {len(labels):,} test"
            " images or more: check fewer, or measure it first"
        )
    return differ, every
