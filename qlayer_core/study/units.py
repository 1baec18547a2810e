"""Train, attack and release one unit: what the command line, the workflow and a notebook call."""

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import torch

from qlayer_core import checks, data, evaluation, files, intervals, machine
from qlayer_core.specs import Attack
from qlayer_core.study import crafting, experiments, fitting, paper, records, replaced
from qlayer_core.study.fitting import Report
from qlayer_core.study.records import Unit


def train(
    unit: Unit,
    *,
    start: Unit | None = None,
    limit: int | None = None,
    until: int | None = None,
    again: bool = False,
    report: Report = lambda row: None,
    progress: bool = False,
) -> dict:
    """Train one network, or go on where an earlier call stopped, and record it; return the record.

    A network whose training is recorded as finished, and whose weights are there, is not trained again.

    Args:
        unit: what to train.
        start: the raw-trained unit that adversarial training starts from; left out, that of the grid.
        limit: only the first so many training and validation images: a trial, not a result, so only of a variant.
        until: pause after so many epochs, to be continued later; the record is then of the epochs so far.
        again: train anew, though nothing is left to continue and the recorded network was measured. Its cells are
            kept if the weights come out the same, and else set aside: see `study.replaced`.
        report: called with each row of the history.
        progress: show the batches of an epoch as they pass.
    """
    if limit is not None and not unit.variant:  # its checkpoint would pass for that of all images
        raise ValueError(
            f"limit is {limit}, but {unit.spec.name} is no variant: a trial would be recorded as its result. Leave"
            " limit out, or give the trial a name of its own: dataclasses.replace(unit, variant='trial')"
        )
    if until is not None:
        checks.option("until", until)
    if unit.record.exists():
        records.read_unit(unit)  # one that this version can't read is refused before hours of training
    checkpoint = unit.folder / "checkpoint.pt"
    if not again and (before := _measured(unit, checkpoint)):
        return before
    model, state = fitting.fit(
        unit,
        checkpoint,
        start=start,
        limit=limit,
        until=until,
        again=again,
        report=report,
        progress=progress,
    )
    device = machine.device()
    weights = unit.folder / "weights.safetensors"
    records.save_weights(model, weights)
    record = records.new_record(unit)
    record["trained_in"] = records.environment_index(record, records.environment(("training",), device))
    record["history"], record["chosen"] = _json(state.history), _json(state.best)
    record["seconds"]["training"] = round(state.seconds, 1)
    record["weights_sha256"] = files.sha256(weights)
    record |= fitting.rests_on(unit, checkpoint)
    with records.alone(unit):
        if unit.record.exists():
            before = records.read_file(unit.record)
            if before["weights_sha256"] == record["weights_sha256"]:  # what was measured is of these weights
                if before["history"] == record["history"]:
                    return before
                record |= {name: before[name] for name in ("cells", "environments", "trained_in")}
                record["seconds"] = before["seconds"] | record["seconds"]
            else:
                replaced.set_aside(unit)
        records.write(record)
    return record


def _measured(unit: Unit, checkpoint: Path) -> dict | None:
    """Return the record of a finished training whose weights are there; None if a training may begin or go on.

    A checkpoint of another training, such as one that was begun anew and interrupted, is none to go on from.

    Raises:
        ValueError: it is recorded, but its weights or its last epochs are gone: training anew might replace the
            record.
    """
    record = records.read_unit(unit) if unit.record.exists() else None
    if record is None or records.spec_of(record) != unit.spec:
        return None
    if checkpoint.exists() and _is_of(checkpoint, record["history"]):
        return None
    if records.there(unit) and record["history"] and records.finished(record):
        return record
    if record["cells"] or (record["history"] and unit.variant not in records.TRIALS):
        epochs, cells = len(record["history"]), len(record["cells"])
        raise ValueError(
            f"{unit.spec.name} on {unit.dataset}, seed {unit.seed}, is recorded with {epochs}"
            f" epoch{'s' if epochs != 1 else ''} and {cells} measured cells, and of its training nothing is left to"
            " continue. Another one gives the same weights on the same kind of machine alone, and else replaces the"
            " record, which is then kept under runs/. If you want that, say so:"
            f" {unit.how()}"
        )
    return None


def _is_of(checkpoint: Path, history: list[dict]) -> bool:
    """Return whether a checkpoint has the recorded epochs, as far as both go; a damaged one is not judged."""
    if not is_zipfile(checkpoint):
        return True
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)["state"]["history"]
    both = min(len(kept), len(history))
    return json.dumps(kept[:both]) == json.dumps(history[:both])  # as text, in which NaN is like NaN


def evaluate(
    unit: Unit,
    tables: Sequence[str] = (),
    *,
    limit: int | None = None,
    again: bool = False,
    report: Report = lambda cell: None,
    progress: bool = False,
) -> dict:
    """Attack one trained network and record how often it is right; return the record.

    Args:
        unit: what to attack.
        tables: only the cells that these tables of the paper show; all attacks if there are none.
        limit: only the first so many test images, where none or fewer are measured yet: a first look, whose cells
            say how many images they are of and give way to those of more.
        again: measure anew what other code, another machine or other threads measured.
        report: called with each new cell.
        progress: show the batches of an attack as they pass.

    Raises:
        ValueError: a table doesn't show this network on this data set.
    """
    of_tables(tables, unit)  # a wrong table is refused before a network is asked for
    device = machine.device()
    model, record = records.load_unit(unit)
    model, (images, labels) = model.to(device), data.load(unit.dataset, "test", limit=limit).to(device)
    for attack in left_to_measure(record, unit, tables, device if again else None, len(images)):
        started = time.perf_counter()
        made, kept, by = crafting.make(unit, model, images, attack, progress)
        model.eval()  # where it draws, it begins anew
        scored = evaluation.cells(model, made, labels, attack, images)
        took, here = time.perf_counter() - started, crafting.environment(attack, unit.spec, device)
        with records.alone(unit):  # reading, changing and writing in one go, and nothing that takes long
            record = _now(unit, record["weights_sha256"])
            if attack not in left_to_measure(record, unit, tables, device if again else None, len(labels)):
                continue  # another evaluation has measured it meanwhile, perhaps on more images
            where = records.environment_index(record, here)
            cells = [
                cell | by | {"right": records.pack(cell["right"]), "environment": where} for cell in scored
            ]
            record["cells"] = [cell for cell in record["cells"] if records.attack_of(cell) != attack] + cells
            if not kept:  # reading images takes no time that would tell how long the attack does
                record["seconds"][str(attack)] = round(took, 1)
            judge(record)
            records.write(record)
        for cell in cells:
            report(cell)
    return record


def of_tables(tables: Sequence[str], unit: Unit) -> set[Attack]:
    """Return the attacks that these tables of the paper show of a network.

    Raises:
        ValueError: a table doesn't show this network on this data set.
    """
    for number in tables:
        there = sorted({(cell.dataset, cell.model) for cell in paper.TABLES[number].cells})
        if (unit.dataset, unit.spec.name) not in there:
            raise ValueError(
                f"Table {number} shows no {unit.spec.name} on {unit.dataset}; it shows"
                f" {', '.join(f'{dataset} {name}' for dataset, name in there)}: choose one of these, or another table"
            )
    return {
        records.attack_of(vars(cell))
        for number in tables
        for cell in paper.TABLES[number].cells
        if (cell.dataset, cell.model) == (unit.dataset, unit.spec.name)
    }


def _now(unit: Unit, weights: str) -> dict:
    """Return the record as it is now: while an attack went on, another evaluation may have added to it."""
    record = records.read_unit(unit)
    if record["weights_sha256"] != weights:
        raise ValueError(
            f"{unit.spec.name} was trained again while it was attacked, so this attack says nothing of its new"
            f" weights. Start again: python -m qlayer_core evaluate {unit.dataset} {unit.spec.name}"
        )
    return record


def release(unit: Unit) -> None:
    """Copy weights where chapters find them; only seed 0, since released weights have no seed in their name."""
    if unit.seed != 0 or unit.variant:
        raise ValueError(f"seed is {unit.seed}; only seed 0 of a model of the grid is released")
    source = unit.folder / "weights.safetensors"
    if not source.exists():
        if records.there(unit):  # as in a clone, where nothing would be trained
            raise ValueError(f"{unit.released} has the recorded weights already: there is nothing to release")
        raise FileNotFoundError(f"{source} is missing: train the model first")
    record = records.read_unit(unit)
    if not records.finished(record) or files.sha256(source) != record["weights_sha256"]:
        raise ValueError(
            f"{source} is not the outcome of the finished training that is recorded: finish it first, with"
            f" {unit.how()}"
        )
    files.write_atomically(unit.released, lambda temporary: shutil.copyfile(source, temporary))


def judge(record: dict) -> None:
    """Mark the cells in which a sanity check fails as unreliable, with the reason.

    A white-box attack that leaves clearly more images right than the same attack made on another network, or that
    leaves images unmoved for want of a gradient, has failed: its number says nothing of the network's strength.
    Only images that are right without an attack tell: the attacks of the tables are not told the labels, and push an
    image that was misread away from the wrong class, often into the right one.
    """
    clean = {cell["path"]: records.unpack(cell) for cell in record["cells"] if cell["setting"] == "clean"}
    blind = {
        (cell["attack"], cell["eps"], cell["path"]): cell
        for cell in record["cells"]
        if cell["source"] == "cnn-a"
    }
    for cell in record["cells"]:
        cell.pop("unreliable", None)
        other = blind.get((cell["attack"].split("-")[0], cell["eps"], cell["path"]))
        if cell["setting"] != "white-box":
            continue
        before = clean.get(cell["path"], np.ones(cell["n"], bool))
        if other and (share := _undercut(cell, other, before)) is not None:
            cell["unreliable"] = (
                f"the same attack made on another network leaves fewer images right ({share:.2f} %)"
            )
        elif (
            not cell["attack"].startswith("cw")  # it hands back what it can't fool
            and cell["unmoved"] > cell["n"] / 100
        ):
            share = 100 * cell["unmoved"] / cell["n"]
            cell["unreliable"] = f"{share:.1f} % of the images had no gradient and were not attacked"


def _undercut(cell: dict, blind: dict, clean: np.ndarray) -> float | None:
    """Return what percentage a blind attack leaves right, of the images that both cells are of, if clearly less."""
    n = min(cell["n"], blind["n"], len(clean))
    clean, seeing, unseen = (right[:n] for right in (clean, records.unpack(cell), records.unpack(blind)))
    only = (clean & seeing & ~unseen, clean & unseen & ~seeing)
    _, low, _ = intervals.paired(*(int(right.sum()) for right in only), n)
    return 100 * float(unseen.mean()) if low > 0 else None


def left_to_measure(
    record: dict,
    unit: Unit,
    tables: Sequence[str] = (),
    device: torch.device | None = None,
    images: int = data.TEST_IMAGES,
) -> list[Attack]:
    """Return the attacks without a recorded cell, or without one of today's code and machine where one is given.

    All of them, or only those that the named tables show. A cell of fewer than ``images`` test images doesn't count,
    nor one whose images another network made than today's source.
    """
    # Cells that were measured before they said whose images they are of count as those of today's source.
    made = {(cell["source"], cell["source_sha256"]) for cell in record["cells"] if "source_sha256" in cell}
    today = {
        pair
        for pair in made
        if records.weights_of(records.unit(unit.dataset, experiments.SOURCES[pair[0]])) == pair[1]
    }
    done = {
        records.attack_of(cell)
        for cell in record["cells"]
        if (cell["source"], cell.get("source_sha256")) not in made - today
        if cell["n"] > images  # fewer never replace more
        or (
            cell["n"] == images
            and (
                device is None
                or record["environments"][cell["environment"]]
                == crafting.environment(records.attack_of(cell), unit.spec, device)
            )
        )
    }
    shown = of_tables(tables, unit)
    left = []
    for attack in experiments.attacks_on(unit.dataset, unit.spec):
        in_paper = dataclasses.replace(attack, attack=attack.attack.split("-")[0])
        if attack not in done and (not tables or in_paper in shown):
            left.append(attack)
    return left


def _json(rows: object) -> object:
    """Return rows as reading them back from JSON would give them."""
    return json.loads(json.dumps(rows), object_pairs_hook=records.with_paths)
