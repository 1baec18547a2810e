"""Raw and adversarial training with the loss of eq. 7, selection on the mixed validation set."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from qlayer_core import attacks, baselines, checks, data, evaluation, loop, models
from qlayer_core.fast import RAdam
from qlayer_core.layer import QLayer
from qlayer_core.machine import autocast, seeded
from qlayer_core.specs import RunSpec


def train(
    spec: RunSpec,
    model: nn.Module,
    train_set: data.Split,
    validation: dict[str, data.Split],
    *,
    seed: int,
    adversarial_eps: float | None = None,
    checkpoint: Path | None = None,
    until: int | None = None,
    report: Callable[[dict], None] = lambda row: None,
    progress: bool = False,
) -> loop.State:
    """Train ``model`` in place and leave it with the weights of its best validation.

    Args:
        spec: how to train; ``spec.adversarial`` replaces every image by its FGSM image, made on the current weights
            through the E-path.
        model: the network, from `models.build` or `baselines.build`, or with raw-trained weights where
            ``spec.adversarial``.
        train_set: what to learn from.
        validation: named splits, see `validation_sets`; the best weights have the highest accuracy over the mixed set
            (``spec.selection == "mixed"``), half of which is clean and half attacked, or over ``"clean"``.
        seed: of the order of images, dropout and k-means.
        adversarial_eps: L-infinity bound of the training images' perturbation; needed where ``spec.adversarial``.
        checkpoint: where to keep the state after each epoch, and where to continue from if it is there.
        until: pause after so many epochs.
        report: called with each new row of the history.
        progress: show the batches of an epoch as they pass.

    Returns:
        The final state. A row of its history holds epoch, mean losses, ``accuracy`` per path and validation set in
        percent, ``score`` of the selection in percent; for networks with the layer inactive codes per head and
        `forces`; for adversarial training ``unmoved``, the share of training images without a gradient, in percent.

    Raises:
        TypeError: the network answers with something else than a tensor.
        ValueError: ``until``, or the epochs, patience or batch size of ``spec``, below 1; ``l2`` without a linear
            layer; images outside [0, 1], or none; answers that are no logits, or labels that are none of their
            classes; adversarial training without ``adversarial_eps``, or with one outside [0, 1]; no ``"clean"``
            validation set; a network with the layer and a ``spec`` without (or the other way round); a checkpoint of
            other settings or other labels, or a damaged one; or losses that are no numbers any more.
    """
    checks.one_of("selection", spec.selection, ("mixed", "clean"))
    checks.option("batch_size", spec.batch_size)
    for split in (train_set, *validation.values()):
        checks.pairs(*split)
    if "clean" not in validation:
        raise ValueError(
            f"validation has {', '.join(validation) or 'no sets'}; it needs one that is called 'clean', as"
            " validation_sets makes it"
        )
    if not isinstance(model, models.QNet) and any(isinstance(module, QLayer) for module in model.modules()):
        raise ValueError(
            f"the network is a {type(model).__name__} around a Q-Layer, and is trained as if it had none: put what is"
            " in front of the layer into the encoder of a QNet, such as QNet(nn.Sequential(scale, encoder), ...)"
        )
    if isinstance(model, models.QNet) != (spec.layer is not None):
        has, says = ("a", "no") if spec.layer is None else ("no", "one")
        raise ValueError(
            f"the network has {has} Q-Layer, but spec.layer is {spec.layer}, by which it would be trained as if it"
            f" had {says}: give the RunSpec of this network, with layer=LayerSpec(...) where it has one"
        )
    if (
        spec.l2
        and spec.layer is None
        and not any(isinstance(module, nn.Linear) for module in model.modules())
    ):
        raise ValueError(
            f"spec.l2 is {spec.l2}, but the network has no linear layer that it could weigh: set it to 0"
        )
    if spec.adversarial and adversarial_eps is None:
        raise ValueError(
            "adversarial_eps is missing: adversarial training needs the bound of its images' perturbation, such as"
            " datasets.find('mnist').adversarial_eps"
        )
    if spec.adversarial and not 0 <= adversarial_eps <= 1:  # also refuses NaN
        raise ValueError(
            f"adversarial_eps is {adversarial_eps}; it must lie in [0, 1], in units of the pixel range"
        )
    with seeded(seed), autocast(train_set.images.device):  # an evaluation may draw, too
        answers = models.answers(model.eval(), train_set.images[:1])
    for logits in answers.values():
        checks.answer(logits, 1, "training needs")
        for split in (train_set, *validation.values()):
            checks.classes(split.labels, logits)
    if checkpoint is not None and (checkpoint := Path(checkpoint)).exists() and not is_zipfile(checkpoint):
        raise ValueError(f"{checkpoint} is damaged: delete it, to start this training afresh")
    optimizer = optimizer_of(spec, model)

    def epoch(finished: int) -> dict:
        row = _epoch(spec, model, optimizer, train_set, adversarial_eps, finished, progress)
        if spec.layer is not None:
            row |= forces(spec, model, train_set.first(2 * spec.batch_size))
            row["inactive"] = model.layer.update_inactive(spec.inactive)
        row["accuracy"] = _accuracies(model, validation)
        row["score"] = score(row["accuracy"], spec.selection)
        return row

    return loop.run(
        model,
        optimizer,
        epoch,
        seed=seed,
        epochs=spec.epochs,
        patience=spec.patience,
        settings=json.dumps(
            dataclasses.asdict(spec)
            | {"seed": seed, "adversarial_eps": adversarial_eps, "labels": _digest(train_set.labels)}
        ),
        checkpoint=checkpoint,
        until=until,
        report=report,
    )


def validation_sets(
    dataset: str,
    source: nn.Module | None,
    epsilons: Sequence[float],
    limit: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, data.Split]:
    """Return the clean validation set and its FGSM counterparts made on ``source`` (section 4.1.1).

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        source: the trained validation-a model; None gives the clean set alone.
        epsilons: of the FGSM images, such as ``datasets.find(dataset).epsilons``.
        limit: only the first so many images.
        device: where ``source`` is, and where the images go.

    Returns:
        ``{"clean": ..., "fgsm 0.2": ..., "fgsm 0.3": ...}`` (Fashion-MNIST: 0.1 and 0.2).
    """
    clean = data.load(dataset, "validation", limit=limit).to(device)
    sets = {"clean": clean}
    for eps in epsilons if source is not None else ():
        sets[f"fgsm {eps}"] = data.Split(attacks.fgsm(source, clean.images, eps=eps), clean.labels)
    return sets


def optimizer_of(spec: RunSpec, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a run, new, for the parameters of ``model``."""
    if spec.optimizer == "radam":
        return RAdam(model.parameters(), lr=spec.learning_rate)
    if spec.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=spec.learning_rate, fused=True)
    raise ValueError(f"optimizer is {spec.optimizer!r}; choose 'radam' or 'adam'")


def learning_rate(spec: RunSpec, epochs: float) -> float:
    """Return the learning rate after so many epochs: times ``spec.decay`` every ten, in one step or in many."""
    tens = epochs // 10 if spec.staircase else epochs / 10
    return spec.learning_rate * spec.decay**tens


def step(
    spec: RunSpec, model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Take one optimizer step on one batch and return the detached losses of eq. 7, c_1 = c_2 = 1."""
    terms = losses(spec, model, images, labels)
    optimizer.zero_grad()
    sum(weight * value for weight, value in terms.values()).backward()
    optimizer.step()
    return {name: value.detach() for name, (_, value) in terms.items()}


def losses(
    spec: RunSpec, model: nn.Module, images: Tensor, labels: Tensor
) -> dict[str, tuple[float, Tensor]]:
    """Return weight and value of each loss on one batch: eq. 7, or cross-entropy and L2 of a plain network."""
    with autocast(images.device):
        if spec.layer is None:
            terms = {"e": (1.0, F.cross_entropy(model(images).float(), labels))}
            if spec.l2:
                first = next(module for module in model.modules() if isinstance(module, nn.Linear))
                terms["l2"] = (spec.l2, first.weight.square().sum())
            return terms
        out = model(images, path="both")
        codebook, commitment = model.layer.losses(out.layer, spec.commitment)
        return {
            "q": (1.0, F.cross_entropy(out.q.float(), labels)),
            "e": (1.0, F.cross_entropy(out.e.float(), labels)),
            "codebook": (spec.alpha, codebook),
            "commitment": (spec.beta, commitment),
        }


@torch.inference_mode(False)  # whatever the caller's mode is
@torch.enable_grad()
def forces(spec: RunSpec, model: models.QNet, some: data.Split) -> dict[str, float]:
    """Return what moves the encoder: gradient norms of L_E and of beta L_{E->Q} there, and the features' length.

    Args:
        spec: of the run.
        model: as it is; its mode is kept, and that of each of its parts.
        some: images to measure on; `train` gives clean ones, also where it trains on attacked ones.

    Returns:
        ``"pull of e"`` and ``"pull of commitment"``, L2 norms over the encoder's parameters that learn (0 if none
        does), and ``"feature norm"``, the mean L2 norm of a panel of the projected map.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()  # no dropout, and the layer's usage stays as it is
    some = data.Split(*(part.clone() for part in some))  # tensors of inference mode have no gradient
    terms = losses(spec, model, *some)
    encoder = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    found = {}
    for name in ("e", "commitment"):
        weight, value = terms[name]
        pulls = (
            torch.autograd.grad(weight * value, encoder, retain_graph=True, allow_unused=True)
            if encoder and value.requires_grad
            else ()
        )
        found[f"pull of {name}"] = sum(g.float().square().sum().item() for g in pulls if g is not None) ** 0.5
    with torch.no_grad(), autocast(some.images.device):
        features = model.layer.project(model.encoder(some.images)).float()
    panels = features.unflatten(1, (model.layer.heads, model.layer.dim))
    found["feature norm"] = panels.norm(dim=2).mean().item()
    for module, training in modes.items():
        module.training = training
    return found


def score(accuracy: dict[str | None, dict[str, float]], selection: str) -> float:
    """Return the selection's accuracy: of the answer that is deployed, over the validation set that selects.

    The mixed set is the clean one "mixed with its adversarial counterpart" (section 4.1.1): as many attacked images
    as clean ones, in equal parts of each epsilon.
    """
    deployed = accuracy["q"] if "q" in accuracy else accuracy[None]
    attacked = [percent for name, percent in deployed.items() if name != "clean"]
    if selection == "clean" or not attacked:
        return deployed["clean"]
    return (deployed["clean"] + sum(attacked) / len(attacked)) / 2


def _digest(labels: Tensor) -> str:
    """Return what tells one training set from another: its labels in their order, not its pixels."""
    return hashlib.sha256(labels.cpu().numpy().tobytes()).hexdigest()[:12]


def _epoch(
    spec: RunSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_set: data.Split,
    adversarial_eps: float | None,
    finished: int,
    progress: bool,
) -> dict:
    """Train for one epoch and return its mean losses; until these are read, nothing in it waits for the device."""
    model.train()
    device = train_set.images.device
    batches = torch.randperm(len(train_set.labels)).to(device).split(spec.batch_size)
    defended = isinstance(
        model, baselines.Defended
    )  # adaptive, but with one draw of noise, the same for every batch, since evaluation mode starts it anew
    surrogate = baselines.straight_through(model) if defended else attacks.surrogate(model)
    sums: dict[str, Tensor] = {}
    unmoved = torch.zeros((), device=device)
    for number, batch in enumerate(
        tqdm(batches, f"epoch {finished + 1}", disable=not progress, leave=False), 1
    ):
        rate = learning_rate(spec, finished + (number - 1) / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = train_set.images[batch], train_set.labels[batch]
        if spec.adversarial:
            model.eval()
            clean, images = images, _fgsm(surrogate, images, adversarial_eps, spec.adversarial_loss)
            unmoved += (images == clean).flatten(1).all(1).sum()
            model.train()
        for name, value in step(spec, model, optimizer, images, labels).items():
            sums[name] = sums[name] + value if name in sums else value
    row = {"losses": {name: value.item() / len(batches) for name, value in sums.items()}}
    if lost := [name for name, value in row["losses"].items() if not math.isfinite(value)]:
        raise ValueError(
            f"in epoch {finished + 1} the loss {lost[0]!r} is {row['losses'][lost[0]]}: the weights are lost. Start"
            f" anew with a lower learning_rate than {spec.learning_rate:g}"
        )
    if spec.adversarial:
        row["unmoved"] = 100 * unmoved.item() / len(train_set.labels)
    return row


@torch.no_grad()
def _fgsm(model: attacks.Model, images: Tensor, eps: float, loss: str) -> Tensor:
    """Return the FGSM images of one batch, without the checks that wait for the device."""
    problem = attacks.Problem(model, images, None, eps, dtype=images.dtype)
    with autocast(images.device):
        return attacks.fgsm.__wrapped__(problem, loss=loss)


def _accuracies(model: nn.Module, validation: dict[str, data.Split]) -> dict[str | None, dict[str, float]]:
    """Return percent correct by path and validation set."""
    model.eval()
    accuracy: dict[str | None, dict[str, float]] = {}
    for name, (images, labels) in validation.items():
        for path, correct in evaluation.correct_by_path(model, images, labels).items():
            accuracy.setdefault(path, {})[name] = 100 * correct.float().mean().item()
    return accuracy
