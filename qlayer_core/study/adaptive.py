"""The adaptive evaluation: one network under a ladder of attacks, each image counted by the worst of them.

A defence is as strong as it is under the attack that suits it best (Athalye et al., 2018; Tramer et al., 2020). For
every rung of `study.ladder` and every eps it is recorded which images are still classified correctly, in
``data/results/<data set>/<model>/adaptive/seed<k>.json``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qlayer_core import data, files, machine
from qlayer_core.specs import RunSpec
from qlayer_core.study import experiments, fingerprint, health, records
from qlayer_core.study.ladder import AVERAGED, Rung, decisive, doubled, epsilons, ladder, plain
from qlayer_core.study.rungs import measure, right

IMAGES = 1000  # the first of the test set, unless a call asks for another number
SEEDS = (0, 1, 2)  # of networks that can lend each other their images
KINDS = ("black-box", "white-box")  # of attacks
HEALTH, PLANTS = 200, 10  # of them for the look at gradients, and for planted examples


def run(
    unit: records.Unit,
    rungs: Sequence[Rung] | None = None,
    *,
    images: int = IMAGES,
    again: bool = False,
    report: Callable[[dict], None] = lambda cell: None,
    progress: bool = False,
) -> dict:
    """Climb the ladder with one recorded network, or go on where an earlier call stopped; return the record.

    A rung whose other network isn't there is left out, and ``report`` is told so with ``{"rung", "eps", "missing"}``;
    the same call makes up for it later.

    Args:
        unit: the network; its weights must be those that its results are recorded of.
        rungs: left out, the whole ladder, and what doubles the effort of its strongest rung.
        images: how many of the first test images. More than are recorded replace the record when all rungs that it
            has are climbed; fewer leave it as it is.
        again: climb anew what other code, another machine or other threads climbed.
        report: called with each new cell.
        progress: show the batches of an attack as they pass.

    Raises:
        ValueError: the network is the attackers' own.
    """
    if unit.spec.name in experiments.SOURCES.values():
        raise ValueError(
            f"{unit.spec.name} makes the attackers' images and is no target: its own would pass for a stranger's."
            " Give a target, such as 'cnn'"
        )
    device = machine.device()
    net, about = records.load_unit(unit)
    net = net.to(device)
    test = data.load(unit.dataset, "test", limit=images).to(device)
    record = _started(unit, about["weights_sha256"], test, net)
    if record["n"] > len(test.labels):
        return record
    for rung, eps in left(record, unit, rungs, device if again else None):
        try:
            source, made_by = _source(unit, rung)
        except (FileNotFoundError, ValueError) as error:  # nothing is there, or it is of another training
            report({"rung": rung.name, "eps": eps, "missing": str(error)})
            continue
        alive = torch.from_numpy(_survivors(record, rung.name, eps)) if rung.survivors else None
        source = source and source.to(device)
        cell = measure(net, *test, rung, eps, source=source, alive=alive, progress=progress)
        if source is not None:
            cell |= {"source_seed": other(unit, rung).seed, "source_sha256": made_by["weights_sha256"]}
        here = records.environment(_stages(rung, unit.spec), device)
        with records.alone(unit):
            # Another process may have added to it meanwhile. In place, since `left` goes by it, too.
            record.update(so_far(unit, about["weights_sha256"], len(test.labels)) or {})
            if record["n"] > len(test.labels):
                return record
            cell["environment"] = records.environment_index(record, here)
            record["cells"] = [
                old for old in record["cells"] if (old["rung"], old["eps"]) != (rung.name, eps)
            ]
            record["cells"].append(cell)
            write(record, _place(unit, record))
        report(cell)
    with records.alone(unit):
        if _place(unit, record) == path_of(unit):
            return record
        record.update(so_far(unit, about["weights_sha256"], len(test.labels)) or {})
        climbed, before = (  # which effort was doubled hangs on what the rungs left
            {
                (cell["rung"], cell["eps"])
                for cell in one["cells"]
                if cell["how"]["purpose"] not in ("steps", "restarts")
            }
            for one in (record, read(unit))
        )
        if before <= climbed:
            write(record, path_of(unit))
            _apart(unit).unlink(missing_ok=True)
    return record


def left(
    record: dict,
    unit: records.Unit,
    rungs: Sequence[Rung] | None = None,
    device: torch.device | None = None,
) -> Iterator[tuple[Rung, float]]:
    """Yield the rungs that are not recorded with today's options, with their budgets, in order.

    Without ``rungs`` they are the whole ladder; once it is climbed, those of `ladder.doubled`. With a device, those
    that are not of today's code and machine are left, too.
    """
    check, rungs = rungs is None, ladder(unit.spec) if rungs is None else rungs
    for eps in sorted({*epsilons(unit.dataset), *(eps for rung in rungs for eps in rung.only_eps)}):
        for rung in rungs:
            if eps in (rung.only_eps or epsilons(unit.dataset)) and not _recorded(
                record, rung, eps, unit, device
            ):
                yield rung, eps
    if check and (found := decisive(record["cells"])):
        yield from left(record, unit, doubled(*found), device)


# ---- what is recorded ----


def path_of(unit: records.Unit) -> Path:
    """Return where the evaluation of a network is recorded, beside its results."""
    return unit.record.parent / "adaptive" / unit.record.name


def _apart(unit: records.Unit) -> Path:
    """Return where an evaluation on more images grows, while the one on fewer is still the recorded one."""
    return unit.folder / "adaptive.json"


def _place(unit: records.Unit, record: dict) -> Path:
    """Return where to write an evaluation: apart until it is whole, where one on fewer images is recorded."""
    if not path_of(unit).exists():
        return path_of(unit)
    found = read(unit)
    fewer = _same(found, record["weights_sha256"], 1) and found["n"] < record["n"]
    return _apart(unit) if fewer else path_of(unit)


def write(record: dict, place: Path) -> None:
    """Record an evaluation, atomically."""
    files.write_json(place, record)


def read(unit: records.Unit) -> dict:
    """Return the recorded evaluation of a network.

    Raises:
        FileNotFoundError: nothing is recorded, with the call that makes it.
    """
    path = path_of(unit)
    if not path.exists():
        which = f"{unit.dataset!r}, {unit.spec.name!r}"
        made = f"variants.unit({which}, {unit.variant!r}" if unit.variant else f"records.unit({which}"
        raise FileNotFoundError(
            f"There is no adaptive evaluation of {unit.spec.name} on {unit.dataset}, seed {unit.seed}. Make it with:"
            f" adaptive.run({made}, {unit.seed}))"
        )
    return records.read_file(path)


def recorded(dataset: str = "*") -> Iterator[dict]:
    """Yield every recorded evaluation, of one data set or all, but those of weights that were replaced since.

    A network that the grid does not know, one's own on another branch, is passed over.
    """
    for path in sorted(records.RESULTS.glob(f"{dataset}/*/adaptive/seed*.json")):
        name, seed = path.parts[-3], files.seed_of(path)
        if name in experiments.RUNS:
            yield from today(records.unit(path.parts[-4], name, seed))


def today(unit: records.Unit) -> Iterator[dict]:
    """Yield the recorded evaluation of a network, unless there is none or its weights were replaced since."""
    if path_of(unit).exists():
        record = read(unit)
        if not unit.record.exists() or (
            records.read_unit(unit)["weights_sha256"] == record["weights_sha256"]
        ):
            yield record


def worst(record: dict, eps: float) -> np.ndarray:
    """Return which images no recorded attack fooled at ``eps``, ``(n,)`` bool; random noise is none.

    Images that are wrong without an attack count as fooled, and so do those that a rung with a smaller budget
    fooled: its image lies in the larger box as well.

    Raises:
        ValueError: no attack is recorded at ``eps``, and what was never tried fools nobody.
    """
    tried = sorted({cell["eps"] for cell in record["cells"] if cell["how"]["kind"] in KINDS})
    if eps not in (0, *tried):
        raise ValueError(
            f"eps is {eps:g}, at which no attack on {record['model']} is recorded: choose one of"
            f" {', '.join(f'{one:g}' for one in tried) or 'none, as nothing is recorded'}"
        )
    return _left_right(record, eps)


def _left_right(record: dict, eps: float) -> np.ndarray:
    """Return `worst` of the attacks that there are, be they none."""
    found = records.unpack({"n": record["n"], "right": record["clean"]})
    for cell in record["cells"]:
        if cell["how"]["kind"] in KINDS and cell["eps"] <= eps:
            found &= records.unpack(cell)
    return found


def _survivors(record: dict, rung: str, eps: float) -> np.ndarray:
    """Return which images no recorded attack fooled at ``eps``, this rung left out: ``(n,)`` bool."""
    others = [cell for cell in record["cells"] if (cell["rung"], cell["eps"]) != (rung, eps)]
    return _left_right(record | {"cells": others}, eps)


def _started(unit: records.Unit, weights: str, test: data.Split, net: nn.Module) -> dict:
    """Return the record so far, or a new one where there is none of these weights and at least so many images."""
    if record := so_far(unit, weights, len(test.labels)):
        return record
    clean = right(net, *test).cpu()
    return {
        "format": records.FORMAT,
        "dataset": unit.dataset,
        "model": unit.spec.name,
        "seed": unit.seed,
        "weights_sha256": weights,
        "n": len(test.labels),
        "clean": records.pack(clean),
        "health": health.of(net, *test.first(HEALTH), epsilons(unit.dataset)[-1], PLANTS),
        "environments": [],
        "cells": [],
    }


def so_far(unit: records.Unit, weights: str, images: int) -> dict | None:
    """Return what is recorded by now of these weights and at least so many images, whole or growing apart."""
    for place in (path_of(unit), _apart(unit)):
        if place.exists() and _same(record := records.read_file(place), weights, images):
            return record
    return None


def _same(record: dict, weights: str, images: int) -> bool:
    """Return whether an evaluation is of these weights, and of at least so many images."""
    return record["weights_sha256"] == weights and record["n"] >= images


def _recorded(record: dict, rung: Rung, eps: float, unit: records.Unit, device: torch.device | None) -> bool:
    """Return whether this rung is recorded, of today's options and source, and of all whom it should attack.

    With a device, of today's code and machine as well.

    A rung for survivors counts the others as wrong. Where one that came before it was measured anew, some of them
    may survive now, and were never attacked.
    """
    here = device and records.environment(_stages(rung, unit.spec), device)
    return any(
        (cell["rung"], cell["eps"], cell["how"]) == (rung.name, eps, plain(rung))
        and here in (None, record["environments"][cell["environment"]])
        and (
            "source_sha256" not in cell
            or cell["source_sha256"] == records.weights_of(_made_on(cell, unit, rung))
        )
        and (
            not rung.survivors
            or (_survivors(record, rung.name, eps) & ~records.unpack(cell)).sum()
            <= cell["attacked"] - cell["correct"]
        )
        for cell in record["cells"]
    )


def _stages(rung: Rung, spec: RunSpec) -> tuple[str, ...]:
    """Return the stages of `fingerprint` that a rung's cell depends on."""
    attack = fingerprint.stage_of(rung.attack)
    surrogates = ["surrogates"] if spec.layer is not None and rung.surrogate else []
    averaging = ["averaging"] if AVERAGED in (rung.surrogate or "") else []
    return fingerprint.stages(spec, *([attack] if attack else []), *surrogates, *averaging, "rungs")


def other(unit: records.Unit, rung: Rung) -> records.Unit | None:
    """Return the unit whose network makes a rung's images, or None for the attacked one itself.

    A sibling is the network of the first other seed whose recorded weights are there.
    """
    if rung.source is None:
        return None
    if rung.source == "sibling":
        others = siblings(unit)
        return next((one for one in others if records.there(one)), others[0])
    twin = ("cnn-adv" if unit.spec.adversarial else "cnn", unit.seed)
    return records.unit(unit.dataset, *{"source-a": ("source-a", 0), "twin": twin}[rung.source])


def siblings(unit: records.Unit) -> list[records.Unit]:
    """Return the other seeds of a network that can lend it their images, the first of them first."""
    return [replace(unit, seed=seed) for seed in SEEDS if seed != unit.seed]


def _made_on(cell: dict, unit: records.Unit, rung: Rung) -> records.Unit:
    """Return the unit whose images a cell is of: any sibling will do, whichever was there."""
    seed = cell.get("source_seed") if rung.source == "sibling" else None
    return other(unit, rung) if seed is None else replace(unit, seed=seed)


def _source(unit: records.Unit, rung: Rung) -> tuple[nn.Module | None, dict]:
    """Return the network that makes a rung's images, or None for the attacked one itself, and its record."""
    one = other(unit, rung)
    return (None, {}) if one is None else records.load_unit(one)
