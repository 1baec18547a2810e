"""Write what the page's small pictures need of the data: ``python book/_web/toys.py`` makes ``digits.json`` anew."""

import base64
import json
from pathlib import Path

import torch
from torch import Tensor

from qlayer_core import data

FILE = Path(__file__).resolve().parent.parent / "_static" / "toys" / "digits.json"
PAIR = (4, 7)
IMAGES = 3  # test images of each class that a reader can choose from
EPSILONS = [round(0.02 * k, 2) for k in range(21)]  # of the accuracies


def digits(pair: tuple[int, int] = PAIR) -> dict:
    """Return two mean digits, a few test images, and how often the nearer mean is right.

    The classifier asks which mean an image is nearer to, which is linear: ``w = 2 (m_0 - m_1)`` and
    ``b = |m_1|^2 - |m_0|^2``. For each epsilon all test images of the two digits are pushed, every pixel by epsilon
    but not past black and white: against the classifier (``worst``) and in directions drawn at random (``random``).

    Returns:
        ``pair``, ``means`` and ``images`` as base64 of 784 bytes each, their ``labels``, the number of test images
        ``count``, ``epsilons``, and the percentages of right answers ``worst`` and ``random``, one per epsilon.
    """
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    means = torch.stack([train.images[train.labels == digit].mean(0).flatten() for digit in pair])
    means = (255 * means).round() / 255  # as the page has them
    chosen = [
        index for digit in pair for index in (test.labels == digit).nonzero().flatten()[:IMAGES].tolist()
    ]
    ours = (test.labels == pair[0]) | (test.labels == pair[1])
    images, first = test.images[ours].flatten(1), test.labels[ours] == pair[0]
    weight, bias = 2 * (means[0] - means[1]), means[1].square().sum() - means[0].square().sum()
    against = torch.where(first, -1.0, 1.0).unsqueeze(1) * weight.sign()
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)

    def right(direction: Tensor) -> list[float]:
        """Percent of right answers after a push along ``direction``, for each epsilon."""
        answers = [((images + eps * direction).clamp(0, 1) @ weight + bias > 0) == first for eps in EPSILONS]
        return [round(100 * answer.double().mean().item(), 1) for answer in answers]

    return {
        "pair": list(pair),
        "means": [_packed(mean) for mean in means],
        "images": [_packed(test.images[index]) for index in chosen],
        "labels": test.labels[chosen].tolist(),
        "count": len(images),
        "epsilons": EPSILONS,
        "worst": right(against),
        "random": right(signs),
    }


def _packed(image: Tensor) -> str:
    """Return an image in [0, 1] as base64 of one byte per pixel."""
    return base64.b64encode((255 * image).round().byte().numpy().tobytes()).decode()


if __name__ == "__main__":
    FILE.write_text(json.dumps(digits(), indent=1) + "\n")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
