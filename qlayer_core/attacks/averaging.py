"""The mean gradient of a neighbourhood: for a model whose slope in one point says little about the way ahead."""

import torch
from torch import Tensor

from qlayer_core import checks
from qlayer_core.attacks.contract import Model


def averaged(model: Model, spread: float, draws: int = 4, generator: torch.Generator | None = None) -> Model:
    """Return ``model``'s own answers, with the mean of its gradients at an image and at points near it.

    Behind a quantizer the slope jumps from one region to the next, so that of a single point holds for a short way
    only: the expectation over transformations of Athalye et al. (2018), over shifts. To be given to any attack.

    Args:
        model: images ``(N, ...)`` to logits, with a gradient: a network, or one of `attacks.surrogates`.
        spread: standard deviation of the normal noise that leads to the other points, in pixel values; above 0.
        draws: points per gradient, the image itself included; at least 1. Each costs a pass.
        generator: where the noise comes from; one seeded with 0 if left out. It goes on from call to call, since
            every step must draw afresh: to attack once more in the same way, make the surrogate anew.
    """
    checks.option("spread", spread)
    checks.option("draws", draws)
    checks.option("generator", generator)
    generator = generator or torch.Generator().manual_seed(0)

    def answer(images: Tensor) -> Tensor:
        logits = model(images)
        if not (torch.is_grad_enabled() and logits.requires_grad):
            return logits
        slopes = logits - logits.detach()
        for _ in range(draws - 1):
            noise = torch.randn(images.shape, generator=generator).to(images)
            near = model(images + spread * noise)
            slopes = slopes + near - near.detach()
        return logits.detach() + slopes / draws

    return answer
