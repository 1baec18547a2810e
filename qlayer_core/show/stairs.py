"""A staircase, what an attacker puts in its place, and what that finds: the chapter on other quantizers."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as w
import torch
from torch import Tensor, nn

from qlayer_core import attacks, evaluation
from qlayer_core.baselines import Defended
from qlayer_core.quantizers import BitDepth, Encoding
from qlayer_core.show import names
from qlayer_core.show.controls import explorer, slider
from qlayer_core.show.plot import SERIES, axes, picture


def left_by_bits(
    plain: nn.Module,
    source: nn.Module,
    images: Tensor,
    labels: Tensor,
    roads: Mapping[str, Callable[[Defended], attacks.Model]],
    *,
    eps: float,
    bits: Sequence[int],
    iterations: int = 8,
) -> dict[str, list[float]]:
    """Return the share of images, in percent, that BIM leaves right on ``plain`` behind `BitDepth`, by bits.

    Args:
        plain: a network for images, not trained with rounded ones.
        source: the network on which a blind attacker makes images; these are the same for all bits.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        roads: by name, what an attacker who sees the network differentiates in its place.
        eps: L-infinity bound.
        bits: how many are left to a pixel.
        iterations: steps of BIM, each of ``eps / 5``.

    Returns:
        One number per item of ``bits``, for ``"blind"`` and each road.
    """
    options = {"eps": eps, "step": eps / 5, "iterations": iterations}
    blind = attacks.bim(source, images, labels, **options)
    found: dict[str, list[float]] = {"blind": [], **{name: [] for name in roads}}
    for depth in bits:
        net = Defended(BitDepth(depth), plain).eval()
        found["blind"].append(evaluation.accuracy(net, blind, labels))
        for name, road in roads.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", attacks.UnmovedWarning)  # that they stay is the point
                made = attacks.bim(road(net), images, labels, **options)
            found[name].append(evaluation.accuracy(net, made, labels))
    return found


def slopes(levels: int, temperature: float, points: int = 401) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return a pixel ``(points,)``, its value and its slope: of a staircase, straight through, and of soft levels.

    Args:
        levels: of an `Encoding`; a value stands for the centre of its level.
        temperature: of the soft levels.
        points: evenly spaced in [0, 1].
    """
    encoding = Encoding(levels, thermometer=False)
    centres = (torch.arange(levels) + 0.5) / levels
    x = torch.linspace(0, 1, points, requires_grad=True)
    soft = encoding.soft(x.view(1, 1, 1, -1), temperature)[0, :, 0].T @ centres
    (slope,) = torch.autograd.grad(soft.sum(), x)
    at, stairs = x.detach(), centres[encoding.level(x.detach())]
    return {
        "staircase": (at, stairs, torch.zeros(points)),
        "straight through": (at, at, torch.ones(points)),
        "soft levels": (at, soft.detach(), slope),
    }


@picture
def slope_picture(levels: int, temperature: float, highest: float = 6):
    """Draw the values of `slopes` above their slopes, which are cut off at ``highest``."""
    looks = {
        "staircase": {"color": names.NEUTRAL, "linestyle": "-", "linewidth": 2.5},
        "straight through": {"color": SERIES[3], "linestyle": ":", "linewidth": 3},
        "soft levels": {"color": SERIES[0], "linestyle": "-", "linewidth": 2.5},
    }
    figure, grid = axes(5.6, 4.4, 2, 1, sharex=True)
    words = []
    for name, (x, value, slope) in slopes(levels, temperature).items():
        every = slice(None, None, 2)
        for ax, ys in zip(grid[:, 0], (value, slope.clamp(max=highest)), strict=True):
            ax.plot(x[every].tolist(), [round(y, 3) for y in ys[every].tolist()], label=name, **looks[name])
        words.append(f"{name}: slope from {slope.min():.2g} to {slope.max():.2g}")
    grid[0, 0].set(ylabel="value", ylim=(0, 1))
    grid[1, 0].set(ylabel="slope", ylim=(-0.3, highest + 0.2), xlabel="pixel")
    grid[0, 0].legend(loc="upper left")
    text = f"{levels} levels and what stands in for them at temperature {temperature:g}. {'; '.join(words)}."
    return figure, text


def slope_explorer(
    levels: int = 4, temperatures: Sequence[float] = (0.0005, 0.002, 0.008, 0.03, 0.1, 0.5)
) -> w.VBox:
    """Return a slider over the temperature of the soft levels of `slope_picture`, at first in the middle."""

    def page(step: int) -> str:
        drawn = slope_picture(levels, temperatures[step])
        return f'<div data-say="{escape(drawn.text)}">{drawn.html}</div>'

    labels = [f"{value:g}" for value in temperatures]
    return explorer([slider("temperature", labels, len(labels) // 2)], page)
