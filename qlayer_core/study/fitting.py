"""Train one unit without recording it: what a recorded training and a trail share."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from qlayer_core import checks, data, datasets, files, loop, machine, models, training
from qlayer_core.machine import seed_of
from qlayer_core.quantizers import RandomDiscretization
from qlayer_core.study import experiments, fingerprint, records
from qlayer_core.study.records import Unit

Report = Callable[[dict], None]
COLOURED = 5000  # training images that colours are learned from


def fit(
    unit: Unit,
    checkpoint: Path,
    *,
    start: Unit | None = None,
    limit: int | None = None,
    until: int | None = None,
    again: bool = False,
    report: Report = lambda row: None,
    progress: bool = False,
) -> tuple[nn.Module, loop.State]:
    """Train one network without recording it; return it with its best weights, and the final state.

    Args:
        unit: what to train.
        checkpoint: where to keep the state after each epoch, and where to continue from if it is there.
        start: the raw-trained unit that adversarial training starts from; left out, that of the grid.
        limit: only the first so many training and validation images.
        until: pause after so many epochs.
        again: begin afresh where the checkpoint is of another raw network, of other code or of unknown origin,
            instead of refusing it.
        report: called with each row of the history.
        progress: show the batches.
    """
    if until is not None:
        checks.option("until", until)
    go_on = prepare(unit, checkpoint, start=start, limit=limit, again=again)
    return go_on(until=until, report=report, progress=progress)


def prepare(
    unit: Unit,
    checkpoint: Path,
    *,
    start: Unit | None = None,
    limit: int | None = None,
    again: bool = False,
) -> Callable[..., tuple[nn.Module, loop.State]]:
    """Return what trains a network, from the checkpoint or else from its beginning, as often as it is called.

    It takes ``until``, ``report`` and ``progress`` and returns what `fit` does. Images are read, and those of the
    judge made, once.

    Args: as for `fit`.

    Raises:
        ValueError: the checkpoint is of another origin, or of an unknown one; or images that cannot be learned.
        FileNotFoundError: a network that this one starts from, or is judged with, isn't there.
    """
    spec, device = unit.spec, machine.device()
    model = untrained(unit, start)
    _same_origin(checkpoint, _origin(unit, start) | ({"limit": limit} if limit else {}), again)
    source = None
    if spec.selection == "mixed":  # every seed is judged by the same validation images
        source = records.load(unit.dataset, experiments.VALIDATION_SOURCE)[0].to(device)
    about = datasets.find(unit.dataset)
    train_set = data.load(unit.dataset, "train", limit=limit)
    _suits(train_set, unit.dataset)
    train_set = train_set.to(device)
    validation = training.validation_sets(unit.dataset, source, about.epsilons, limit, device)

    def go_on(**how: object) -> tuple[nn.Module, loop.State]:
        network = copy.deepcopy(model).to(device)  # where no checkpoint is left, it begins anew
        state = training.train(
            spec,
            network,
            train_set,
            validation,
            seed=seed_of(spec.name, unit.seed),
            adversarial_eps=about.adversarial_eps,
            checkpoint=checkpoint,
            **how,
        )
        return network, state

    return go_on


def _suits(train_set: data.Split, dataset: str) -> None:
    """Refuse a data set of one's own that the networks of the grid cannot learn."""
    if not len(train_set.labels):
        raise ValueError(
            f"{dataset} leaves no image to learn from: {data.VALIDATION_IMAGES:,} of its training images are set"
            " aside for validation, so give it more"
        )
    if (highest := int(train_set.labels.max())) >= models.CLASSES:
        raise ValueError(
            f"{dataset} has labels up to {highest}; the networks of the grid tell {models.CLASSES} classes apart,"
            f" 0 to {models.CLASSES - 1}: number them so, or train a network of your own with training.train"
        )


def untrained(unit: Unit, start: Unit | None) -> nn.Module:
    """Return the network that training begins with."""
    model = records.build(unit.spec, unit.seed)
    if unit.spec.adversarial:  # what differs from the raw network, such as dropout, holds no weights
        raw, _ = records.load_unit(start or records.unit(unit.dataset, unit.spec.raw_name, unit.seed))
        model.load_state_dict(raw.state_dict())
    elif unit.spec.quantizer and isinstance(model.quantizer, RandomDiscretization):
        model.quantizer.learn(data.load(unit.dataset, "train", limit=COLOURED).images)
    return model


def _origin(unit: Unit, start: Unit | None) -> dict:
    """Return what a training rests on beside its settings: the code, and the raw network that it starts from."""
    weights = None
    if unit.spec.adversarial:
        raw = start or records.unit(unit.dataset, unit.spec.raw_name, unit.seed)
        weights = records.read_unit(raw)["weights_sha256"]
    return {"code": fingerprint.of("training"), "start": weights}


def rests_on(unit: Unit, checkpoint: Path) -> dict:
    """Return for a record of which networks' weights a training is, of its start and of its judge; None for none."""
    judged = unit.spec.selection == "mixed"
    judge = records.weights_of(records.unit(unit.dataset, experiments.VALIDATION_SOURCE)) if judged else None
    start = json.loads(checkpoint.with_suffix(".json").read_text())["start"]
    return {"start_sha256": start, "judge_sha256": judge}


def _same_origin(checkpoint: Path, origin: dict, again: bool) -> None:
    """Keep a training's origin beside its checkpoint, and don't continue one of another origin."""
    beside = checkpoint.with_suffix(".json")
    if not checkpoint.exists():
        found = origin
    elif beside.exists():
        found = json.loads(beside.read_text())
    else:
        found = None
    if found is None and not again:
        raise ValueError(
            f"{checkpoint} has no {beside.name} beside it, which says with what code and from which raw network it"
            " was trained: put that file back, delete the checkpoint, or train with again=True (--again), to start"
            " this one afresh"
        )
    if found != origin and not again:
        words = {"code": "other code", "start": "another raw network", "limit": "another number of images"}
        what = " and ".join(words[name] for name in words if found.get(name) != origin.get(name))
        raise ValueError(
            f"{checkpoint} is from a training with {what} than today's: delete it, or train with again=True"
            " (--again), to start this one afresh"
        )
    if found != origin:
        checkpoint.unlink()
    files.write_json(beside, origin)
