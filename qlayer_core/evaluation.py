"""How often a model answers rightly: clean, under black-box and under white-box attacks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor, nn

from qlayer_core import attacks, checks, models
from qlayer_core.experiments import Attack
from qlayer_core.machine import autocast


def adversarial(model: nn.Module, images: Tensor, attack: Attack) -> Tensor:
    """Return ``images`` as ``attack`` makes them on ``model``, with the settings of appendix B.

    Args:
        model: the attacked model itself (white box) or the attacker's own (black box).
        images: ``(N, 1, 28, 28)`` in [0, 1].
        attack: one of `experiments.attacks_on`.
    """
    if attack.attack == "none":
        return images
    logits = attacked(model, attack.attacked_path)
    return ATTACKS[attack.attack](logits, images, eps=attack.eps)


def attacked(model: nn.Module, path: str | None = None) -> attacks.Model:
    """Return what attacks differentiate: one path of a QNet, the E-path if none is named, or a plain CNN."""
    return partial(model, path=path or "e") if isinstance(model, models.QNet) else model


def _cw_softmax(logits: attacks.Model, images: Tensor, *, eps: float) -> Tensor:
    return attacks.cw_linf(lambda x: logits(x).float().softmax(1), images, eps=eps)


ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": attacks.fgsm,
    "bim": attacks.bim,
    "cw": attacks.cw_linf,
    "cw-softmax": _cw_softmax,
}


def check_names(names: Sequence[str]) -> None:
    """Raise a `ValueError` unless these are names of `ATTACKS`, at least one."""
    if not names or any(name not in ATTACKS for name in names):
        raise ValueError(f"attack is {names!r}; choose from {', '.join(ATTACKS)}")


def cells(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> list[dict]:
    """Return the recorded cells of one attack, one a path that answers, scored in float32.

    An attack that stops where the answer just flips, as Carlini and Wagner's does, would be undone by rounding.

    Args:
        model: the model that answers.
        images: ``(N, 1, 28, 28)``, as the attack made them.
        labels: ``(N,)``, the true classes.
        attack: how the images were made.
    """
    return [
        asdict(attack)
        | {
            "path": path,
            "n": len(labels),
            "correct": (n := int(right.sum())),
            "accuracy": round(100 * n / len(labels), 2),
        }
        for path, right in correct_by_path(model, images, labels, full_precision=True).items()
    ]


@torch.no_grad()
def correct_by_path(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256, *, full_precision: bool = False
) -> dict[str | None, Tensor]:
    """Return which images each path of ``model`` classifies rightly.

    Args:
        model: in evaluation mode.
        images: ``(N, 1, 28, 28)`` in [0, 1].
        labels: ``(N,)`` int64.
        batch_size: images at a time.
        full_precision: answer in float32, also where `machine.number_format` is another.

    Returns:
        ``(N,)`` bool for path ``"q"`` and ``"e"`` of a QNet, or for path None of a plain CNN.

    Raises:
        ValueError: the model is in training mode.
    """
    checks.mode(model)
    found: dict[str | None, list[Tensor]] = {}
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with torch.autocast(x.device.type, enabled=False) if full_precision else autocast(x.device):
            if isinstance(model, models.QNet):
                out = model(x, path="both")
                logits = {"q": out.q, "e": out.e}
            else:
                logits = {None: model(x)}
        for path, values in logits.items():
            found.setdefault(path, []).append(values.argmax(1) == y)
    return {path: torch.cat(parts) for path, parts in found.items()}


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of an accuracy in percent, 95 % for ``z`` = 1.96 (Wilson, 1927)."""
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} correct of {n}: give 0 <= correct <= n and n > 0")
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
