"""Raw and adversarial training with the loss of eq. 7, selection on the mixed validation set, resumable.

A run keeps everything that it needs to go on in ``runs/<data set>/<model>/seed<k>/checkpoint.pt``, written
anew after each epoch; each epoch draws from its own seed, so a continued run ends in the same weights.
"""

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks, data, evaluation, experiments, files, models
from qlayer_core.experiments import RunSpec
from qlayer_core.machine import autocast
from qlayer_core.optimizer import RAdam

STATISTICS_BATCHES = 16  # the last batches before a validation, from which `_estimate_statistics` estimates


@dataclass
class State:
    """Where a run stands after an epoch."""

    epoch: int = 0  # finished epochs
    history: list[dict] = field(default_factory=list)  # one row a validation, see `train`
    best: dict | None = None  # row of `history` whose weights were kept
    seconds: float = 0.0


def train(
    spec: RunSpec,
    model: nn.Module,
    train_set: data.Split,
    validation: dict[str, data.Split],
    *,
    seed: int,
    adversarial_eps: float = 0.0,
    checkpoint: Path | None = None,
    report: Callable[[dict], None] = lambda row: None,
) -> State:
    """Train ``model`` in place and leave it with the weights of its best validation.

    Args:
        spec: how to train; ``spec.adversarial`` replaces every image by its FGSM image of ``adversarial_eps``,
            made on the current weights through the E-path.
        model: the network, from `models.build`, or with raw-trained weights where ``spec.adversarial``.
        train_set: what to learn from.
        validation: named splits, see `validation_sets`; the best weights have the highest accuracy over the mixed set
            (``spec.selection == "mixed"``), half of which is clean and half attacked, or over ``"clean"``.
        seed: of the order of images, dropout and k-means.
        adversarial_eps: L-infinity bound of the training images' perturbation.
        checkpoint: where to keep the state after each epoch, and where to continue from if it is there.
        report: called with each new row of the history.

    Returns:
        The final state. A row of its history holds epoch (a fraction where there are several validations an epoch),
        mean losses since the last row, ``accuracy`` a path and validation set in percent, ``score`` of the
        selection in percent, and inactive codes a head where the epoch ended.
    """
    optimizer = RAdam(model.parameters(), lr=spec.learning_rate)
    state, best_weights = State(), _copy(model)
    if checkpoint is not None and checkpoint.exists():
        state, best_weights = _restore(checkpoint, spec, model, optimizer)
    with torch.random.fork_rng(devices=[]):
        while state.epoch < spec.epochs and not _stalled(state, spec):
            started = time.perf_counter()
            torch.manual_seed(seed + state.epoch)
            for row in _epoch(spec, model, optimizer, train_set, validation, adversarial_eps, state.epoch):
                state.history.append(row)
                if state.best is None or row["score"] > state.best["score"]:
                    state.best, best_weights = row, _copy(model)
                report(row)
            state.epoch += 1
            state.seconds += time.perf_counter() - started
            if checkpoint is not None:
                _keep(checkpoint, spec, state, model, optimizer, best_weights)
    model.load_state_dict(best_weights)
    model.eval()
    return state


def validation_sets(
    dataset: str,
    source: nn.Module | None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, data.Split]:
    """Return the clean validation set and its FGSM counterparts made on ``source`` (section 4.1.1).

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        source: the trained validation-a model; None gives the clean set alone.
        limit: only the first so many images.
        device: where ``source`` is, and where the images go.

    Returns:
        ``{"clean": ..., "fgsm 0.2": ..., "fgsm 0.3": ...}`` (Fashion-MNIST: 0.1 and 0.2).
    """
    clean = data.Split(*(part[:limit] for part in data.load(dataset, "validation"))).to(device)
    sets = {"clean": clean}
    if source is not None:
        for eps in experiments.EPSILONS[dataset]:
            sets[f"fgsm {eps}"] = data.Split(attacks.fgsm(source, clean.images, eps=eps), clean.labels)
    return sets


def _epoch(
    spec: RunSpec,
    model: nn.Module,
    optimizer: RAdam,
    train_set: data.Split,
    validation: dict[str, data.Split],
    adversarial_eps: float,
    epoch: int,
) -> Iterator[dict]:
    """Run one epoch; yield a history row at each of its ``spec.checks`` validations."""
    model.train()
    batches = torch.randperm(len(train_set.labels)).split(spec.batch_size)
    latest: deque[Tensor] = deque(maxlen=STATISTICS_BATCHES)
    ends = {len(batches) * (check + 1) // spec.checks for check in range(spec.checks)}
    sums: dict[str, float] = {}
    since = 0
    for number, batch in enumerate(batches, 1):
        optimizer.param_groups[0]["lr"] = spec.learning_rate * spec.decay ** (epoch + number / len(batches))
        images, labels = train_set.images[batch], train_set.labels[batch]
        if spec.adversarial:
            model.eval()
            images = attacks.fgsm(
                evaluation.attacked(model), images, eps=adversarial_eps, batch_size=len(batch)
            )
            model.train()
        for name, value in step(spec, model, optimizer, images, labels).items():
            sums[name] = sums.get(name, 0.0) + value
        since += 1
        latest.append(images)
        if number in ends:
            row = {"epoch": round(epoch + number / len(batches), 4)}
            row["losses"] = {name: value.item() / since for name, value in sums.items()}
            if number == len(batches) and spec.layer is not None:
                row["inactive"] = model.layer.update_inactive(spec.inactive)
            if spec.layer is not None and spec.estimate_statistics:
                _estimate_statistics(model, latest)
            row["accuracy"] = _accuracies(model, validation)
            row["score"] = _score(row["accuracy"], spec)
            sums, since = {}, 0
            yield row
            model.train()


def step(
    spec: RunSpec, model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Take one optimizer step on one batch and return the detached losses of eq. 7, c_1 = c_2 = 1."""
    with autocast(images.device):
        if spec.layer is None:
            losses = {"e": F.cross_entropy(model(images).float(), labels)}
            total = losses["e"]
        else:
            out = model(images, path="both")
            codebook, commitment = model.layer.losses(out.layer)
            losses = {
                "q": F.cross_entropy(out.q.float(), labels),
                "e": F.cross_entropy(out.e.float(), labels),
                "codebook": codebook,
                "commitment": commitment,
            }
            total = losses["q"] + losses["e"] + spec.alpha * codebook + spec.beta * commitment
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


@torch.no_grad()
def _estimate_statistics(model: models.QNet, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics of the gate's normalisation anew, without dropout.

    Those that training gathers are of maps behind dropout, which have a larger variance than the maps that the
    layer sees in evaluation (Li et al., 2019): the gate would be normalised by numbers that aren't its own.
    """
    norm = model.layer.gate_norm
    if norm is None:
        return
    model.eval()
    norm.train()
    norm.reset_running_stats()
    momentum, norm.momentum = norm.momentum, None  # None: the plain mean over the batches
    for images in batches:
        with autocast(images.device):
            model.layer.project(model.encoder(images))
    norm.momentum = momentum
    model.eval()


def _accuracies(model: nn.Module, validation: dict[str, data.Split]) -> dict[str, dict[str, float]]:
    """Return percent correct by path (a plain CNN has only ``"e"``) and validation set."""
    model.eval()
    accuracy: dict[str, dict[str, float]] = {}
    for name, (images, labels) in validation.items():
        for path, correct in evaluation.correct_by_path(model, images, labels).items():
            accuracy.setdefault(path or "e", {})[name] = 100 * correct.float().mean().item()
    return accuracy


def _score(accuracy: dict[str, dict[str, float]], spec: RunSpec) -> float:
    """Return the selection's accuracy: of the answer that is deployed, over the validation set that selects.

    The mixed set is the clean one "mixed with its adversarial counterpart" (section 4.1.1): as many attacked images
    as clean ones, in equal parts of each epsilon.
    """
    deployed = accuracy.get("q", accuracy["e"])
    attacked = [percent for name, percent in deployed.items() if name != "clean"]
    if spec.selection == "clean" or not attacked:
        return deployed["clean"]
    return (deployed["clean"] + sum(attacked) / len(attacked)) / 2


def _stalled(state: State, spec: RunSpec) -> bool:
    return state.best is not None and state.epoch - state.best["epoch"] >= spec.patience


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _keep(
    path: Path,
    spec: RunSpec,
    state: State,
    model: nn.Module,
    optimizer: RAdam,
    best_weights: dict[str, Tensor],
) -> None:
    content = {
        "spec": json.dumps(dataclasses.asdict(spec)),
        "state": dataclasses.asdict(state),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best_weights": best_weights,
    }
    files.write_atomically(path, lambda partial_file: torch.save(content, partial_file))


def _restore(
    path: Path, spec: RunSpec, model: nn.Module, optimizer: RAdam
) -> tuple[State, dict[str, Tensor]]:
    content = torch.load(path, map_location="cpu", weights_only=True)  # it may be from a GPU
    if content["spec"] != json.dumps(dataclasses.asdict(spec)):
        raise ValueError(f"{path} is from a run with other settings: delete it to start this one afresh")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return State(**content["state"]), content["best_weights"]
