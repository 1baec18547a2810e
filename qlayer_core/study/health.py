"""Whether attacks can work on a network at all: its gradients, how it answers, and a planted example."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.attacks.contract import Problem
from qlayer_core.baselines import Defended
from qlayer_core.machine import autocast
from qlayer_core.models import QNet, answers
from qlayer_core.study.making import stand_in

SURROGATES = ("e", "shortcut", "straight-through", "soft 0.1", "latent", "ensemble")
BACKWARD = (torch.autograd.grad.__code__, torch.autograd.backward.__code__)  # all other ways lead to these


class Planted(NamedTuple):
    """How many adversarial examples were planted, and how many of them the attack found."""

    planted: int
    found: int


def of(net: nn.Module, images: Tensor, labels: Tensor, eps: float, plants: int = 10) -> dict:
    """Return what `sanity.flags` needs to know of a network, to be recorded.

    Args:
        net: in evaluation mode.
        images: ``(N, 1, H, W)``.
        labels: ``(N,)``.
        eps: budget of the planted examples.
        plants: how many of the first images get a planted example.

    Returns:
        ``"gradients"``: per surrogate the shares, in percent, of images without any gradient and of zero pixels, with
        the exact loss and with the clipped one; ``"random"``: whether two calls give two answers;
        ``"probabilities"``: whether the answers are such; ``"optimizes"``, see `optimizes`; ``"planted"`` and
        ``"found"``, see `planted`.
    """
    layer = isinstance(net, QNet)
    names = SURROGATES if layer else ("as it is", "adaptive") if isinstance(net, Defended) else (None,)
    gradients = {
        name or "itself": {
            loss: zero_gradients(stand_in(net, name, images), images, labels, loss)
            for loss in ("ce", "clipped")
        }
        for name in names
    }
    with torch.no_grad():
        once, twice = (deployed(net)(images) for _ in range(2))
    sums_to_one = (once.sum(1) - 1).abs().max() < 1e-3
    return {
        "gradients": gradients,
        "random": not torch.equal(once, twice),
        "probabilities": bool(once.min() >= 0 and sums_to_one),
        "optimizes": optimizes(deployed(net), images),
    } | planted(net, images[:plants], eps, surrogate="latent" if layer else names[-1])._asdict()


def deployed(net: nn.Module) -> attacks.Model:
    """Return the answer that is deployed: logits of the Q-path where there is one."""

    def model(images: Tensor) -> Tensor:
        found = answers(net, images)
        return found["q"] if "q" in found else found[None]

    return model


def optimizes(model: attacks.Model, images: Tensor) -> bool:
    """Return whether the model computes gradients to answer, for images ``(N, 1, H, W)``.

    Defences that first optimize the image, or something beside it, do; an attack that does not know of it may fail.
    AutoAttack (Croce and Hein, 2020) flags the same, as "optimization at inference time". A network that optimizes
    without PyTorch's backward pass goes unnoticed.
    """
    seen, before = False, sys.getprofile()

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        seen = seen or (event == "call" and frame.f_code in BACKWARD)

    sys.setprofile(watch)  # a patch would miss a network that imported the functions by name
    try:
        with torch.no_grad():
            model(images)
    finally:
        sys.setprofile(before)
    return seen


def zero_gradients(model: attacks.Model, images: Tensor, labels: Tensor, loss: str = "ce") -> dict:
    """Return ``{"images": ..., "pixels": ...}``, the percentages of them that have a gradient of exactly zero."""
    still = []
    for x, y in zip(images.split(128), labels.split(128), strict=True):
        with autocast(x.device):
            still.append(Problem(model, x, y, 0.0).gradient(x, loss).flatten(1) == 0)
    zero = torch.cat(still)
    return {
        "images": 100 * zero.all(1).double().mean().item(),
        "pixels": 100 * zero.double().mean().item(),
    }


def planted(
    net: nn.Module,
    images: Tensor,
    eps: float,
    *,
    surrogate: str | None = None,
    attack: Callable[..., Tensor] = attacks.apgd,
    neighbours: int = 64,
) -> Planted:
    """Plant an adversarial example beside each image, and count those that an attack finds: an active test.

    The network's logits are read out anew, by one linear function per image that separates a random corner of the
    ``eps`` box from ``neighbours`` random points in it. So it is known that there is an adversarial example, and an
    attack that finds none has failed (Zimmermann et al., 2022). Nothing is planted where no such function exists.

    Args:
        net: in evaluation mode.
        images: ``(N, 1, H, W)``, attacked one at a time.
        eps: the budget.
        surrogate: what the attack differentiates, a name that `making.stand_in` knows.
        attack: which attack, called as ``attack(model, image, label, eps=eps)``.
        neighbours: random points that the readout calls harmless.
    """
    draws = torch.Generator().manual_seed(0)
    answer, followed = deployed(net), stand_in(net, surrogate, images)
    count = found = 0
    for i in range(len(images)):
        image = images[i : i + 1]
        noise = (2 * torch.rand(neighbours, *image.shape[1:], generator=draws) - 1).to(image)
        corner = (image + eps * (2 * torch.rand(image.shape, generator=draws) - 1).to(image).sign()).clamp(
            0, 1
        )
        with torch.no_grad():
            harmless = answer((image + eps * noise).clamp(0, 1)).float()
            beyond = answer(corner)[0].float()
        direction = beyond - harmless.mean(0)
        highest, there = (harmless @ direction).max(), beyond @ direction
        if there <= highest:
            continue
        readout = _readout(direction, (highest + there) / 2)
        label = torch.zeros(1, dtype=torch.long, device=image.device)
        made = attack(lambda x, readout=readout: readout(followed(x)), image, label, eps=eps)
        count += 1
        found += int(readout(answer(made))[0].argmax() == 1)
    return Planted(count, found)


def _readout(direction: Tensor, threshold: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from logits ``(N, classes)`` to two new ones, 0 and what lies beyond the threshold."""

    def read(logits: Tensor) -> Tensor:
        score = logits.float() @ direction - threshold
        return torch.stack([torch.zeros_like(score), score], 1)

    return read
