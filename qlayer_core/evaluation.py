"""How often a model answers rightly: clean, under black-box and under white-box attacks."""

import math

import torch
from torch import Tensor, nn

from qlayer_core import models
from qlayer_core.machine import autocast


@torch.no_grad()
def correct_by_path(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256
) -> dict[str | None, Tensor]:
    """Return which images each path of ``model`` classifies rightly.

    Args:
        model: in evaluation mode.
        images: ``(N, 1, 28, 28)`` in [0, 1].
        labels: ``(N,)`` int64.
        batch_size: images at a time.

    Returns:
        ``(N,)`` bool for path ``"q"`` and ``"e"`` of a QNet, or for path None of a plain CNN.
    """
    found: dict[str | None, list[Tensor]] = {}
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with autocast(x.device):
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
