"""What an attacker who sees the network would find after every epoch: BIM, white box, on validation images.

The epoch that is kept is chosen by images that another network made (`training.score`). Here a training is repeated,
and its network attacked after each epoch. Recorded in ``data/results/<data set>/trails/<model>/seed<k>.json``; test
images are not touched.
"""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from qlayer_core import attacks, checks, data, evaluation, files, machine
from qlayer_core.files import RESULTS, RUNS
from qlayer_core.specs import Attack
from qlayer_core.study import crafting, experiments, fingerprint, fitting, records
from qlayer_core.study.records import Unit

IMAGES = 500
SHOWN = (("mnist", "cnn-adv", 2),)  # data set, model and seed: whose trail a chapter has


def path_of(unit: Unit) -> Path:
    """Return where a trail is recorded."""
    return RESULTS / unit.dataset / "trails" / unit.spec.name / f"seed{unit.seed}.json"


def recorded(dataset: str, name: str) -> list[dict]:
    """Return what is recorded of the trails of a model of the grid, one per seed, in their order."""
    folder = path_of(records.unit(dataset, name)).parent
    return [records.read_file(path) for path in sorted(folder.glob("seed*.json"))]


def along(trail: dict, attack: str, eps: float, path: str | None) -> list[float]:
    """Return how many percent of a trail's images an attack leaves right after each epoch, by a path's answer."""
    return [
        100 * cell["correct"] / cell["n"]
        for row in trail["rows"]
        for cell in row["cells"]
        if (cell["attack"], cell["eps"], cell["path"]) == (attack, eps, path)
    ]


def attacks_on(unit: Unit) -> list[Attack]:
    """Return the attacks of a trail: BIM at the epsilons of the tables, by the exact and by the clipped gradient."""
    return [
        attack
        for attack in experiments.attacks_on(unit.dataset, unit.spec)
        if attack.attack in ("bim", "bim-clipped")
        and attack.setting == "white-box"
        and attack.attacked_path in (None, "e")
    ]


def measure(
    unit: Unit,
    *,
    images: int = IMAGES,
    until: int | None = None,
    again: bool = False,
    report: Callable[[dict], None] = lambda row: None,
    progress: bool = False,
) -> dict:
    """Repeat a training, attack its network after each epoch, and record it; return the record.

    Goes on where an earlier call stopped, also within an epoch.

    Args:
        unit: the run to repeat, with its seed and so its batches. On another machine it may differ a little.
        images: the first so many validation images are attacked.
        until: stop after so many epochs, to be continued later.
        again: begin anew where what is recorded, or the checkpoint, is of something else than today's, or where no
            checkpoint is left.
        report: called with each row: epoch, score and accuracy as in a history, cells as in a record.
        progress: show the batches as they pass.

    Raises:
        ValueError: the grid has no attack of a trail on this network; or what is recorded is of other settings,
            other code or another number of images.
    """
    if until is not None:
        checks.option("until", until)
    if not (seen := attacks_on(unit)):
        raise ValueError(
            f"{unit.spec.name} on {unit.dataset} has no trail: one is of BIM by an attacker who sees the network,"
            " which is not among the grid's attacks on it. Give a network that has it, such as 'cnn-adv' or"
            " 'q-base-adv'"
        )
    device, path = machine.device(), path_of(unit)
    here = records.environment(fingerprint.stages(unit.spec, "training", "steps"), device)
    validation = data.load(unit.dataset, "validation", limit=images).to(device)
    record = {
        "format": records.FORMAT,
        "dataset": unit.dataset,
        "model": unit.spec.name,
        "seed": unit.seed,
        "spec": json.loads(json.dumps(dataclasses.asdict(unit.spec))),
        "n": len(validation.labels),
        "environments": [],
        "finished": False,
        "rows": [],
    }
    checkpoint = RUNS / unit.dataset / "trails" / unit.spec.name / f"seed{unit.seed}" / "checkpoint.pt"
    if path.exists():
        before = records.read_file(path)
        differ = ["spec"] if records.spec_of(before) != unit.spec else []
        differ += ["n"] if before["n"] != record["n"] else []
        differ += ["code"] if any(one["code"] != here["code"] for one in before["environments"]) else []
        if differ and not again:
            raise ValueError(
                f"{path} is of another {' and '.join(differ)} than today's: remove it to begin anew, or measure with"
                " again=True (--again)"
            )
        if differ:
            checkpoint.unlink(missing_ok=True)
        else:
            record = before
    if not again and not _left(record, until):
        return record
    go_on = fitting.prepare(unit, checkpoint, again=again)
    if again and not checkpoint.exists():  # its rows would be followed by those of another training
        record |= {"environments": [], "finished": False, "rows": []}
        files.write_json(path, record)
    while _left(record, until):
        epoch = len(record["rows"]) + 1
        model, state = go_on(until=epoch, progress=progress)
        if state.epoch > epoch:  # of a record that is no longer there: its epochs have to come again
            checkpoint.unlink()
            continue
        if state.epoch < epoch:
            record["finished"] = True
        else:
            model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
            row = {name: state.history[-1][name] for name in ("epoch", "score", "accuracy")}
            row["environment"] = records.environment_index(record, here)
            row["cells"] = [cell for attack in seen for cell in _cells(model, validation, attack, progress)]
            record["rows"].append(row)
            report(row)
        files.write_json(path, record)
    return record


def _left(record: dict, until: int | None) -> bool:
    return not record["finished"] and (until is None or len(record["rows"]) < until)


def _cells(model: nn.Module, validation: data.Split, attack: Attack, progress: bool) -> list[dict]:
    """Return how a network stands up to one attack: recorded cells, but not which of the images were right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", attacks.UnmovedWarning)  # they are counted
        made = crafting.white_box(model.eval(), validation.images, attack, progress)
    found = evaluation.cells(model, made, validation.labels, attack, validation.images)
    return [{name: value for name, value in cell.items() if name != "right"} for cell in found]
