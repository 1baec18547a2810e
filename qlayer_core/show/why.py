"""What the first two chapters draw: weights, what a straight line predicts, a plane of images."""

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from torch import Tensor

from qlayer_core import attacks
from qlayer_core.show.page import Markup
from qlayer_core.show.plot import GRID, SERIES, TEXT, axes, picture, tile

LEFT, LOW, WIDTH, POINTS = -0.2, -0.3, 0.6, 31  # of a plane: where it starts, its sides, points on a side
SHADES = ("#d4dae0", *SERIES)  # of the right answer, then of the wrong ones


@picture
def weights(pictures: Mapping[str, Tensor]):
    """Draw what linear classifiers weigh, ``(H * W,)`` each: grey is nothing, white for, black against."""
    figure, grid = axes(2.2 * len(pictures), 2.5, 1, len(pictures))
    words = []
    for ax, (name, weight) in zip(grid[0], pictures.items(), strict=True):
        side = round(weight.numel() ** 0.5)
        tile(ax, weight.view(1, side, side), weight.abs().max().item())
        ax.set_title(name)
        large = (weight.abs() > 0.1 * weight.abs().max()).float().mean().item()
        words.append(f"{name}: {100 * large:.0f} % of the pixels weigh more than a tenth of the heaviest")
    return figure, f"The weight of every pixel as an image. {'; '.join(words)}."


class Falls(NamedTuple):
    """By how much the margin of each image falls, ``(N,)`` in logits."""

    predicted: Tensor  # by the gradient at the clean image
    real: Tensor


def falls(model: attacks.Model, images: Tensor, labels: Tensor, direction: Tensor, eps: float) -> Falls:
    """Return by how much the margin falls when images are pushed, and what a straight line would promise.

    Args:
        model: images to logits.
        images: ``(N, ...)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        direction: of each pixel, like ``images``: -1, 0 or 1.
        eps: how far each pixel moves, as far as it stays in [0, 1].
    """
    slope = attacks.Problem(model, images, labels, eps=0.0).gradient(images, "margin")
    pushed = (images + eps * direction).clamp(0, 1)
    with torch.no_grad():
        before, after = (attacks.losses.margin(model(x), labels) for x in (images, pushed))
    return Falls((slope * (pushed - images)).flatten(1).sum(1), after - before)


class Plane(NamedTuple):
    """What a model answers on a plane of images: rightwards along one direction, upwards along another."""

    image: Tensor  # (H, W), the clean one
    label: int
    towards: Tensor  # (H, W), -1, 0 or 1: the direction of FGSM
    chance: Tensor  # (H, W), -1 or 1
    answers: np.ndarray  # (POINTS, POINTS), rows from the lowest up
    sure: np.ndarray  # the probability of the answer, the same shape

    def border(self, step: tuple[int, int]) -> float | None:
        """Return how far from the clean image the answer changes, along (rows, columns); None within the plane."""
        row, column = round(-LOW / WIDTH * (POINTS - 1)), round(-LEFT / WIDTH * (POINTS - 1))
        first, far = self.answers[row, column], 0
        while 0 <= row < POINTS and 0 <= column < POINTS:
            if self.answers[row, column] != first:
                return far * WIDTH / (POINTS - 1)
            row, column, far = row + step[0], column + step[1], far + 1
        return None


@torch.no_grad()
def plane(model: attacks.Model, image: Tensor, label: int, seed: int = 0) -> Plane:
    """Return the plane through ``image`` ``(1, 1, H, W)`` along FGSM's direction and along one drawn at random."""
    problem = attacks.Problem(model, image, torch.tensor([label]), eps=1.0)
    towards = problem.gradient(image, "ce").sign()
    generator = torch.Generator().manual_seed(seed)
    chance = torch.randint(0, 2, image.shape, generator=generator) * 2.0 - 1
    steps = torch.linspace(0, WIDTH, POINTS).view(-1, 1, 1, 1)
    rows = []
    for up in steps + LOW:
        logits = model((image + (steps + LEFT) * towards + up * chance).clamp(0, 1))
        rows.append(logits.float().softmax(1).max(1))
    sure, answers = (torch.stack(parts).numpy() for parts in zip(*rows, strict=True))
    return Plane(image[0, 0], label, towards[0, 0], chance[0, 0], answers, sure)


def slices(planes: Sequence[Plane]) -> Markup:
    """Return planes as a picture that the book's site lets one walk about in; elsewhere it stands still."""
    still = _maps(planes)
    told = {
        "left": LEFT,
        "low": LOW,
        "width": WIDTH,
        "points": POINTS,
        "planes": [
            {
                "label": one.label,
                "image": _packed(255 * one.image),
                "towards": _packed(one.towards + 1),
                "chance": _packed(one.chance + 1),
                "answers": "".join(str(answer) for answer in one.answers.flatten()),
                "sure": _packed(torch.from_numpy(100 * one.sure)),
            }
            for one in planes
        ],
    }
    data = html.escape(json.dumps(told), quote=True)
    return Markup(f'<div data-toy="slice" data-planes="{data}">{still.html}</div>', still.text)


@picture
def _maps(planes: Sequence[Plane]):
    """Draw the decision regions of planes, the clean image as a dot."""
    figure, grid = axes(2.3 * len(planes), 2.7, 1, len(planes), sharey=True)
    ends = (LEFT, LEFT + WIDTH, LOW, LOW + WIDTH)
    words = []
    for ax, one in zip(grid[0], planes, strict=True):
        sizes = np.bincount(one.answers.flatten(), minlength=10)
        wrong = [answer for answer in np.argsort(-sizes, kind="stable") if answer != one.label]
        order = np.empty(10, int)
        order[[one.label, *wrong]] = np.minimum(np.arange(10), len(SHADES) - 1)
        ax.imshow(
            order[one.answers],
            cmap=ListedColormap(SHADES),
            vmin=0,
            vmax=len(SHADES) - 1,
            origin="lower",
            extent=ends,
            interpolation="none",
            alpha=0.6,
        )
        for answer in (one.label, *wrong):
            if sizes[answer] > 0.02 * POINTS**2:
                x, y = _middle(one.answers == answer)
                covered = abs(x) + abs(y) < 0.06  # by the dot
                ax.text(x, y + 0.06 * covered, f"{answer}", ha="center", va="center")
        ax.plot(0, 0, "o", color=TEXT)
        ax.grid(False)
        ax.set(xlabel="along FGSM", title=f"digit {one.label}")
        towards, (up, down) = one.border((0, 1)), (one.border((way, 0)) for way in (1, -1))
        chance = min((far for far in (up, down) if far is not None), default=None)
        words.append(f"digit {one.label}: along FGSM {_far(towards)}, along chance {_far(chance)}")
    grid[0, 0].set_ylabel("along chance")
    for ax in grid[0]:
        for spine in ax.spines.values():
            spine.set_edgecolor(GRID)
    return (
        figure,
        f"What the network answers around a clean image, a region per answer. {'; '.join(words)}.",
    )


def _far(border: float | None) -> str:
    return "the answer does not change" if border is None else f"the answer changes at {border:.2f}"


def _middle(region: np.ndarray) -> tuple[float, float]:
    """Return the place of the region's point that is nearest to its centre."""
    places = np.argwhere(region)
    row, column = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return LEFT + WIDTH * column / (POINTS - 1), LOW + WIDTH * row / (POINTS - 1)


def _packed(values: Tensor) -> str:
    """Return values from 0 to 255 as base64 of one byte each."""
    return base64.b64encode(values.round().byte().numpy().tobytes()).decode()


@torch.no_grad()
def switched(model: torch.nn.Sequential, images: Tensor, change: Callable[[Tensor], Tensor]) -> float:
    """Return what percentage of a plain network's ReLUs a change of the images switches on or off."""
    layers = [part for part in model.modules() if isinstance(part, torch.nn.ReLU)]
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append((out > 0).flatten())) for layer in layers
    ]
    model(images), model(change(images))
    for hook in hooks:
        hook.remove()
    before, after = torch.cat(seen[: len(layers)]), torch.cat(seen[len(layers) :])
    return 100 * (before != after).float().mean().item()
