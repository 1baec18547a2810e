"""How often a model answers correctly: clean, under black-box and under white-box attacks."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from qlayer_core import attacks, checks, models
from qlayer_core.machine import autocast
from qlayer_core.specs import Attack


def adversarial(model: nn.Module, images: Tensor, attack: Attack, **options) -> Tensor:
    """Return ``images`` as ``attack`` makes them on ``model``, with the settings of appendix B.

    Args:
        model: the attacked model itself (white box) or the attacker's own (black box).
        images: ``(N, 1, 28, 28)`` in [0, 1].
        attack: one of `study.experiments.attacks_on`.
        options: passed to the attack, such as ``progress`` and ``batch_size``.
    """
    if attack.attack == "none":
        return images
    check_names([attack.attack])
    attacked = attacks.surrogate(model, attack.attacked_path)
    return attacks.REGISTRY[attack.attack].attack(attacked, images, eps=attack.eps, **options)


def check_names(names: Sequence[str]) -> None:
    """Raise a `ValueError` unless these are names of `attacks.REGISTRY`, at least one."""
    if not names or any(name not in attacks.REGISTRY for name in names):
        raise ValueError(f"attack is {names!r}; choose from {', '.join(attacks.REGISTRY)}")


def cells(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, clean: Tensor | None = None
) -> list[dict]:
    """Return the recorded cells of one attack, one per path that answers, scored in float32.

    An attack that stops where the answer just flips, as Carlini and Wagner's does, would be undone by rounding.

    Args:
        model: the model that answers.
        images: ``(N, 1, 28, 28)``, as the attack made them.
        labels: ``(N,)``, the true classes.
        attack: how the images were made.
        clean: the images before the attack, for the count of those that it left as they were.

    Returns:
        Cells with ``"right"``, ``(N,)`` bool on the CPU: which images were classified correctly.
    """
    unmoved = 0
    if clean is not None and attack.attack != "none":
        if clean.shape != images.shape:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, clean {tuple(clean.shape)}; give the same"
            )
        unmoved = int((images == clean).flatten(1).all(1).sum())
    return [
        asdict(attack)
        | {
            "path": path,
            "n": len(labels),
            "correct": (count := int(right.sum())),
            "accuracy": round(100 * count / len(labels), 2),
            "unmoved": unmoved,
            "right": right.cpu(),
        }
        for path, right in correct_by_path(model, images, labels, full_precision=True).items()
    ]


@torch.no_grad()
def correct_by_path(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256, *, full_precision: bool = False
) -> dict[str | None, Tensor]:
    """Return which images each path of ``model`` classifies correctly.

    Args:
        model: in evaluation mode.
        images: ``(N, 1, 28, 28)`` in [0, 1].
        labels: ``(N,)`` int64.
        batch_size: images at a time.
        full_precision: answer in float32, also where `machine.number_format` is another.

    Returns:
        ``(N,)`` bool for path ``"q"`` and ``"e"`` of a QNet, or for path None of a plain CNN.

    Raises:
        TypeError: the model answers with something else than a tensor.
        ValueError: the model is in training mode, answers with something else than logits or with NaN, or images,
            labels and its classes don't fit.
    """
    checks.pairs(images, labels)
    checks.option("batch_size", batch_size)
    found: dict[str | None, list[Tensor]] = {}
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        context = torch.autocast(x.device.type, enabled=False) if full_precision else autocast(x.device)
        with context, checks.sound_calls(model):
            answers = models.answers(model, x)
        for path, logits in answers.items():
            checks.answer(logits, len(x), "scoring needs")
            checks.classes(labels, logits)
            found.setdefault(path, []).append(logits.argmax(1) == y)
    return {path: torch.cat(parts) for path, parts in found.items()}


def accuracy(model: attacks.Model, images: Tensor, labels: Tensor) -> float:
    """Return the percentage of ``images`` that any callable from images to logits classifies as ``labels``.

    Raises:
        TypeError: it answers with something else than a tensor.
        ValueError: a network that it calls is in training mode, it answers with something else than logits or with
            NaN, or images, labels and its classes don't fit.
    """
    checks.pairs(images, labels)
    with torch.no_grad():
        logits = checks.logits(model, images, "scoring needs")
    checks.classes(labels, logits)
    return 100 * (logits.argmax(1) == labels).float().mean().item()


def worst_case(rights: Sequence[Tensor]) -> Tensor:
    """Return which images stay right under every one of several attacks, ``(N,)`` bool each and in all."""
    if not rights:
        raise ValueError("no attack is given: the worst case needs at least one")
    if any(right.shape != rights[0].shape for right in rights):
        raise ValueError(
            f"what is right has the shapes {', '.join(str(tuple(right.shape)) for right in rights)}: give the same"
            " images for each attack"
        )
    return torch.stack(list(rights)).all(0)
