"""What the tests of the attacks share: each attack in short form, models with closed forms, and the toolbox."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qlayer_core import attacks

ALONG_A_GRADIENT = {
    "fgsm": attacks.fgsm,
    "bim": partial(attacks.bim, step=0.05, iterations=5),
    "pgd": partial(attacks.pgd, step=0.05, iterations=5, restarts=2),
    "pgd on the margin": partial(attacks.pgd, step=0.05, iterations=5, loss="margin"),
    "apgd": partial(attacks.apgd, iterations=8),
    "apgd towards each class": partial(attacks.apgd_targeted, iterations=3, targets=2),
    "cw": partial(attacks.cw_linf, learning_rate=0.5, iterations=3),
}
ATTACKS = ALONG_A_GRADIENT | {"square": partial(attacks.square, queries=60)}
EACH = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
EACH_ALONG_A_GRADIENT = pytest.mark.parametrize("attack", ALONG_A_GRADIENT.values(), ids=ALONG_A_GRADIENT)


def make_linear(classes: int, seed: int = 0) -> nn.Linear:
    """A linear model of 12 pixels in float64."""
    torch.manual_seed(seed)
    return nn.Linear(12, classes).double().eval()


def make_pixels(n: int = 20) -> Tensor:
    """Pixels in [0, 1], with both ends among them."""
    return (torch.rand(n, 12, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)


def best_corner(model: nn.Linear, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Where in the box a linear model of two classes has its largest margin: the corner that its weights point to."""
    towards = (model.weight[1 - y] - model.weight[y]).detach()
    return torch.where(towards > 0, (x + eps).clamp(max=1), (x - eps).clamp(min=0))


def margin_of(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> np.ndarray:
    """The best other logit minus the label's, one image at a time."""
    logits = model(x).detach().numpy()
    return np.array([np.delete(row, label).max() - row[label] for row, label in zip(logits, y, strict=True)])


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == labels).double().mean().item()


def gap(model: nn.Module, one: Tensor, other: Tensor, labels: Tensor) -> tuple[float, float]:
    """By how many points more of ``one`` than of ``other`` is right, and the standard error, image beside image."""
    with torch.no_grad():
        ours, theirs = ((model(images).argmax(1) == labels).double() for images in (one, other))
    difference = 100 * (ours - theirs)
    return difference.mean().item(), difference.std().item() / len(labels) ** 0.5


def scaled(model: nn.Sequential, factor: float) -> Callable[[Tensor], Tensor]:
    """The same network with its logits times ``factor``: as often right, and as sure as one wants."""
    return lambda images: factor * model(images)


def toolbox(model: nn.Module):
    """The network as the Adversarial Robustness Toolbox takes it."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu"
    )
