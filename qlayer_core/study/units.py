"""Train, attack and release one unit: what the command line, the workflow and a notebook call."""

import dataclasses
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qlayer_core import attacks, baselines, data, datasets, evaluation, files, machine, training
from qlayer_core.files import RUNS
from qlayer_core.quantizers import RandomDiscretization
from qlayer_core.specs import Attack, RunSpec, seed_of
from qlayer_core.study import experiments, fingerprint, paper, records
from qlayer_core.study.records import Unit

Report = Callable[[dict], None]
COLOURED = 5000  # training images that colours are learned from


def train(
    unit: Unit,
    *,
    start: Unit | None = None,
    limit: int | None = None,
    until: int | None = None,
    report: Report = lambda row: None,
    progress: bool = False,
) -> dict:
    """Train one network, or go on where an earlier call stopped, and record it; return the record.

    Args:
        unit: what to train.
        start: the raw-trained unit that adversarial training starts from; left out, that of the grid.
        limit: only the first so many training and validation images: a trial, not a result, so only of a variant.
        until: pause after so many epochs, to be continued later; the record is then of the epochs so far.
        report: called with each row of the history.
        progress: show the batches of an epoch as they pass.
    """
    if limit is not None and not unit.variant:  # its checkpoint would pass for that of all images
        raise ValueError(
            f"limit is {limit}, but {unit.spec.name} is no variant: a trial would be recorded as its result. Leave"
            " limit out, or give the trial a name of its own: dataclasses.replace(unit, variant='trial')"
        )
    spec, device = unit.spec, machine.device()
    model = _untrained(unit, start)
    source = None
    if spec.selection == "mixed":  # every seed is judged by the same validation images
        source = records.load(unit.dataset, experiments.VALIDATION_SOURCE)[0].to(device)
    about = datasets.find(unit.dataset)
    state = training.train(
        spec,
        model.to(device),
        data.load(unit.dataset, "train", limit=limit).to(device),
        training.validation_sets(unit.dataset, source, about.epsilons, limit, device),
        seed=seed_of(spec.name, unit.seed),
        adversarial_eps=about.adversarial_eps,
        checkpoint=unit.folder / "checkpoint.pt",
        until=until,
        report=report,
        progress=progress,
    )
    weights = unit.folder / "weights.safetensors"
    records.save_weights(model, weights)
    record = records.new_record(unit, device)
    record["trained_in"] = records.environment_index(record, records.environment(("training",), device))
    record["history"], record["chosen"] = _json(state.history), _json(state.best)
    record["seconds"]["training"] = round(state.seconds, 1)
    record["weights_sha256"] = files.sha256(weights)
    if unit.record.exists():
        before = records.read_file(unit.record)
        if before["weights_sha256"] == record["weights_sha256"]:  # what was measured is of these weights
            if before["history"] == record["history"]:
                return before
            record |= {name: before[name] for name in ("cells", "environments", "trained_in")}
            record["seconds"] = before["seconds"] | record["seconds"]
    records.write(record)
    return record


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
        again: measure anew what other code or another machine measured.
        report: called with each new cell.
        progress: show the batches of an attack as they pass.
    """
    device = machine.device()
    model, record = records.load_unit(unit)
    model, (images, labels) = model.to(device), data.load(unit.dataset, "test", limit=limit).to(device)
    for attack in left_to_measure(record, unit, tables, device if again else None, len(images)):
        started = time.perf_counter()
        if attack.setting == "black-box":
            made = _black_box(unit.dataset, attack, images, progress)
        else:
            made = _white_box(model.eval(), images, attack, progress)  # where it draws, it begins anew
        scored = evaluation.cells(model, made, labels, attack, images)
        # Nothing that takes long may stand between reading the record and writing it.
        record = _now(unit, record["weights_sha256"])
        where = records.environment_index(record, _environment(attack, unit.spec, device))
        cells = [cell | {"right": records.pack(cell["right"]), "environment": where} for cell in scored]
        record["cells"] = [cell for cell in record["cells"] if attack_of(cell) != attack] + cells
        record["seconds"][str(attack)] = round(time.perf_counter() - started, 1)
        judge(record)
        records.write(record)
        for cell in cells:
            report(cell)
    return record


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
        raise FileNotFoundError(f"{source} is missing: train the model first")
    files.write_atomically(unit.released, lambda temporary: shutil.copyfile(source, temporary))


def attack_of(cell: dict) -> Attack:
    """Return the attack that a recorded cell, or one of the paper's, is about."""
    return Attack(**{field.name: cell[field.name] for field in dataclasses.fields(Attack)})


def judge(record: dict) -> None:
    """Mark the cells in which a sanity check fails as unreliable, with the reason.

    A white-box attack that leaves more images right than the same attack made on another network, or that leaves
    images unmoved for want of a gradient, has failed: its number says nothing of the network's strength.
    """
    blind = {
        (cell["attack"].removesuffix("-clipped"), cell["eps"], cell["path"]): cell
        for cell in record["cells"]
        if cell["source"] == "cnn-a"
    }
    for cell in record["cells"]:
        cell.pop("unreliable", None)
        other = blind.get((cell["attack"].removesuffix("-clipped"), cell["eps"], cell["path"]))
        if cell["setting"] != "white-box":
            continue
        if other and (fewer := _right(other, cell)) < _right(cell, other):
            share = 100 * fewer / min(cell["n"], other["n"])
            cell["unreliable"] = (
                f"the same attack made on another network leaves fewer images right ({share:.2f} %)"
            )
        elif (
            cell["attack"] in ("fgsm", "bim", "fgsm-clipped", "bim-clipped")
            and cell["unmoved"] > cell["n"] / 100
        ):
            share = 100 * cell["unmoved"] / cell["n"]
            cell["unreliable"] = f"{share:.1f} % of the images had no gradient and were not attacked"


def _right(cell: dict, other: dict) -> int:
    """Return how many of the images that both cells are of the first one counts as right."""
    if cell["n"] <= other["n"]:
        return cell["correct"]
    return int(records.unpack(cell)[: other["n"]].sum())


def _untrained(unit: Unit, start: Unit | None) -> nn.Module:
    """Return the network that training begins with."""
    model = records.build(unit.spec, unit.seed)
    if unit.spec.adversarial:  # what differs from the raw network, such as dropout, holds no weights
        raw, _ = records.load_unit(start or records.unit(unit.dataset, unit.spec.raw_name, unit.seed))
        model.load_state_dict(raw.state_dict())
    elif unit.spec.quantizer and isinstance(model.quantizer, RandomDiscretization):
        model.quantizer.learn(data.load(unit.dataset, "train", limit=COLOURED).images)
    return model


def left_to_measure(
    record: dict,
    unit: Unit,
    tables: Sequence[str] = (),
    device: torch.device | None = None,
    images: int = data.TEST_IMAGES,
) -> list[Attack]:
    """Return the attacks without a recorded cell, or without one of today's code and machine where one is given.

    All of them, or only those that the named tables show. A cell of fewer than ``images`` test images doesn't count.
    """
    done = {
        attack_of(cell)
        for cell in record["cells"]
        if cell["n"] > images  # fewer never replace more
        or (
            cell["n"] == images
            and (
                device is None
                or record["environments"][cell["environment"]]
                == _environment(attack_of(cell), unit.spec, device)
            )
        )
    }
    shown = {
        attack_of(vars(cell))
        for number in tables
        for cell in paper.TABLES[number].cells
        if (cell.dataset, cell.model) == (unit.dataset, unit.spec.name)
    }
    left = []
    for attack in experiments.attacks_on(unit.dataset, unit.spec):
        in_paper = dataclasses.replace(attack, attack=attack.attack.split("-")[0])
        if attack not in done and (not tables or in_paper in shown):
            left.append(attack)
    return left


def _environment(attack: Attack, spec: RunSpec | None, device: torch.device) -> dict:
    """Return with what an attack's images are made, and scored by the network of ``spec``."""
    stage = fingerprint.stage_of(attack.attack)
    return records.environment(fingerprint.stages(spec, *([stage] if stage else [])), device)


def _white_box(model: nn.Module, images: Tensor, attack: Attack, progress: bool) -> Tensor:
    """Return the images that an attacker makes who sees the network, or its quantizer's surrogate."""
    if not isinstance(model, baselines.Defended):
        return evaluation.adversarial(model, images, attack, progress=progress)
    seen = baselines.adaptive(model) if attack.attacked_path == "adaptive" else baselines.as_it_is(model)
    plain = dataclasses.replace(attack, attacked_path=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", attacks.UnmovedWarning)  # they are counted
        return evaluation.adversarial(seen, images, plain, progress=progress)


def _black_box(dataset: str, attack: Attack, images: Tensor, progress: bool) -> Tensor:
    """Return the images that the attacker's model makes of the test images, kept under runs/ for the next target.

    Their file's name says of which weights they are made, with which code and in which number format.
    """
    source, record = records.load(dataset, experiments.SOURCES[attack.source])
    here = _environment(attack, None, images.device)
    code = here["code"][fingerprint.stage_of(attack.attack)]
    made_with = f"{record['weights_sha256'][:12]} {code} {here['number_format']} {len(images)} images"
    path = RUNS / dataset / "black-box" / f"{attack} {made_with}.safetensors"
    if not path.exists():
        made = evaluation.adversarial(source.to(images.device), images, attack, progress=progress)
        files.write_atomically(path, lambda temporary: save_file({"images": made.contiguous()}, temporary))
    return load_file(path)["images"].to(images.device)


def _json(rows: object) -> object:
    """Return rows as reading them back from JSON would give them."""
    return json.loads(json.dumps(rows), object_pairs_hook=records.with_paths)
