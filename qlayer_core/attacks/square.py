"""The Square attack: a random search that asks for scores alone, no gradient (Andriushchenko et al., 2020)."""

import torch
from torch import Tensor

from qlayer_core.attacks.contract import Best, Problem, contract

START = 0.8  # share of an image's pixels that the first squares cover
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of that share, in a search of 10,000 queries


@contract
def square(problem: Problem, *, queries: int = 5000, generator: torch.Generator | None = None) -> Tensor:
    """Recolour random squares with the extremes of the ``eps`` box, and keep what doesn't lower the margin.

    The first query shows vertical stripes of plus and minus ``eps``. Each further one sets a square of each image, at
    a place of its own, to plus or minus ``eps`` in all its pixels, one sign per channel, or to the opposite where
    they have that value already; squares shrink as the search goes on. Unlike in the paper, a change that leaves the
    margin as it was is kept, too: the answer of a quantized network is the same in whole regions, which the search
    must be able to cross. An image is done once a query is misclassified in full precision; or from the start, where
    the clean image is misclassified in the format of `machine.number_format`, be it by bfloat16's rounding alone. No
    gradient is asked for, so that none can be masked.

    Args: those of `attacks.contract`, and

        queries: answers per image, at most.
        generator: of stripes, squares and signs; one seeded with 0 if left out.

    Raises:
        ValueError: the model answers NaN to some image, or an image has more dimensions than (C, H, W).
    """
    shape = problem.x.shape
    if len(shape) > 4:
        raise ValueError(f"images have shape {tuple(shape)}; this attack draws squares on maps, (N, C, H, W)")
    channels, height, width = _as_map(problem.x).shape[1:]
    if problem.labels is None:
        problem.logits(problem.x)  # the predictions on the clean images become the labels
    best = Best(problem.x)

    def draw(*size: int, below: int = 2) -> Tensor:
        return torch.randint(below, size, generator=generator).to(problem.x.device)

    def query(signs: Tensor, where: Tensor, left: Tensor) -> None:
        """Ask about the images ``left`` with signs ``(n, C, 1 or H, 1 or W)`` at ``where`` ``(n, 1, H, W)``."""
        some = problem.at(left)
        current, (low, high) = _as_map(best.images[left]), (_as_map(some.low), _as_map(some.high))
        images, opposite = (
            torch.where(where, torch.where(up, high, low), current) for up in (signs > 0, signs <= 0)
        )
        in_vain = (images == current).flatten(1).all(1).view(-1, 1, 1, 1)  # they have these values already
        images = torch.where(in_vain, opposite, images).view(-1, *shape[1:])
        margin = some.loss(images, "margin")
        if not margin.isfinite().all():
            raise ValueError(
                "the model answers NaN or infinity to some images: check its weights and number format"
            )
        sure = (margin > 0).nonzero().squeeze(1)
        if len(sure):
            with torch.autocast(images.device.type, enabled=False):  # so that no rounding undoes it
                margin[sure] = some.at(sure).loss(images[sure], "margin").to(margin.dtype)
        again = margin >= best.score[left]
        best.score[left[again]] = margin[again].to(best.score.dtype)
        best.images[left[again]] = images[again]

    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=problem.x.device)
    left = torch.arange(len(problem.x), device=problem.x.device)
    # Clean images that are misclassified already are done. Their margin is of the format around, not full precision.
    best.offer(problem.x, problem.loss(problem.x, "margin"))
    for asked in range(queries):
        left = left[best.score[left] <= 0]
        n = len(left)
        if not n:
            break
        if not asked:
            query(draw(n, channels, 1, width), everywhere, left)
            continue
        area = max(share(asked, queries) * height * width, 1.0)
        high, wide = (  # where a side is longer than the map, the other makes up for it
            min(round(max(area**0.5, area / other)), length)
            for length, other in ((height, width), (width, height))
        )
        where = _window(draw(n, below=height - high + 1), high, height).unsqueeze(3) & _window(
            draw(n, below=width - wide + 1), wide, width
        ).unsqueeze(2)
        query(draw(n, channels, 1, 1), where, left)
    return best.images


def share(asked: int, queries: int) -> float:
    """Return the share of the pixels that a square covers after ``asked`` of ``queries`` queries."""
    return START / 2 ** sum(asked * 10_000 / queries > end for end in HALVINGS)


def _window(first: Tensor, size: int, length: int) -> Tensor:
    """Return ``(N, 1, length)``: true in ``size`` places from ``first`` ``(N,)`` on."""
    place = torch.arange(length, device=first.device)
    first = first.unsqueeze(1)
    return ((place >= first) & (place < first + size)).unsqueeze(1)


def _as_map(images: Tensor) -> Tensor:
    """View images of any shape as ``(N, C, H, W)``: pixels in a row are a map of height 1."""
    while images.ndim < 4:
        images = images.unsqueeze(1)
    return images
