"""The three ways in which the images of Figure 2 are moved: an attack, and two kinds of noise of the same size."""

import torch
from torch import Tensor

from qlayer_core import attacks, pixelcnn
from qlayer_core.machine import seed_of
from qlayer_core.study import experiments, records

EPSILONS = (0.1, 0.2, 0.3, 0.4)
FIGURE_2 = 0.4  # epsilon of the paper's figure
PERTURBATIONS = {
    "fgsm": "the sign of source-a's gradient",
    "signs": "a random sign per pixel: as large as FGSM in every norm",
    "uniform": "a random number in [-eps, eps] per pixel",
}


def perturbed(dataset: str, images: Tensor, kind: str, eps: float | str) -> Tensor:
    """Return ``images`` ``(N, 1, H, W)`` moved by up to ``eps`` per pixel, clipped to [0, 1], in 256 values.

    Args:
        dataset: whose source-a makes FGSM images.
        images: clean, in [0, 1].
        kind: a name of `PERTURBATIONS`.
        eps: L-infinity bound.
    """
    eps = float(eps)
    if kind == "fgsm":
        source, _ = records.load(dataset, experiments.SOURCES["cnn-a"])
        moved = attacks.fgsm(source.to(images.device), images, eps=eps)
    else:
        # the same directions for every eps
        generator = torch.Generator().manual_seed(seed_of(kind, 0))
        noise = torch.rand(images.shape, generator=generator).mul_(2).sub_(1).to(images)
        moved = images + eps * (noise.sign() if kind == "signs" else noise)
    return moved.clamp(0, 1).mul(pixelcnn.LEVELS - 1).round().div(pixelcnn.LEVELS - 1)
