"""What chapters on masked gradients compute live: a sure network, one digit on several roads, soft codes."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from qlayer_core import attacks, checks
from qlayer_core.attacks import surrogates
from qlayer_core.models import QNet
from qlayer_core.show import names, slides
from qlayer_core.show.controls import explorer, slider
from qlayer_core.show.plot import GRID, MUTED, SERIES, WRONG, axes, frame, picture, tile
from qlayer_core.study import health, paper

ROADS = {
    "E-path": {"color": SERIES[1], "linestyle": "--", "marker": "s"},
    "straight through": {"color": SERIES[3], "linestyle": ":", "marker": "D"},
    "soft codes": {"color": SERIES[0], "linestyle": "-", "marker": "o"},
}


# ---- the number that did not move ----


@picture
def same_number(table_seeing: str = "6b", table_blind: str = "6a", row: str = "q-base e"):
    """Draw, from the paper's own tables, a row's accuracy at the smaller and the larger epsilon, seeing and blind."""
    seeing, blind = paper.TABLES[table_seeing], paper.TABLES[table_blind]
    lines = {
        "BIM, blind": (blind, "bim", {"color": names.NEUTRAL, "linestyle": "-", "marker": "o"}),
        "FGSM, seeing": (seeing, "fgsm", {"color": SERIES[3], "linestyle": ":", "marker": "D"}),
        "BIM, seeing": (seeing, "bim", {"color": WRONG, "linestyle": "-", "marker": "s"}),
    }
    figure, grid = axes(6, 3)
    ax, words = grid[0, 0], []
    for name, (table, attack, look) in lines.items():
        small, large = (table.cell(row, f"{attack} {eps}").accuracy for eps in (0.2, 0.3))
        ax.plot([0.2, 0.3], [small, large], label=name, **look)
        for x, value, side in ((0.2, small, "right"), (0.3, large, "left")):
            ax.annotate(
                f"{value:.2f}",
                (x, value),
                ha=side,
                va="bottom" if attack == "fgsm" else "top" if name == "BIM, seeing" else "center",
                xytext=(-8 if side == "right" else 8, 0),
                textcoords="offset points",
            )
        words.append(f"{name}: {small:.2f} at 0.2 and {large:.2f} at 0.3")
    ax.set(xlim=(0.17, 0.33), ylim=(0, 80), xticks=(0.2, 0.3), xlabel="epsilon", ylabel="accuracy (%)")
    ax.legend(loc="upper right")
    return figure, f"The paper's numbers for the E-path of Q-base. {'; '.join(words)}."


def sure_and_safe(
    model: attacks.Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    factors: Sequence[float] = (1, 2, 4, 8, 16),
    iterations: int = 10,
) -> dict[str, list[float]]:
    """Multiply a model's logits, attack it by BIM along both gradients, and return what is left, in percent.

    No answer changes with the factor, only how sure it is. The clipped gradient is that of `attacks.losses.clipped`.

    Args:
        model: images to logits.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        eps: L-infinity bound.
        factors: of the logits.
        iterations: steps of BIM, each of ``eps / 5``.

    Returns:
        One number per factor: ``"clipped gradient"`` and ``"exact gradient"``, images still right, and ``"never
        moved"``, images that the clipped gradient returned as they were.
    """
    found: dict[str, list[float]] = {"clipped gradient": [], "exact gradient": [], "never moved": []}
    options = {"eps": eps, "step": eps / 5, "iterations": iterations}
    for factor in factors:
        surer = partial(_scaled, model, factor)
        for name, loss in (("clipped gradient", "clipped"), ("exact gradient", "ce")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", attacks.UnmovedWarning)  # they are what is counted here
                made = attacks.bim(surer, images, labels, loss=loss, **options)
            with torch.no_grad():
                right = model(made).argmax(1) == labels
            found[name].append(100 * right.double().mean().item())
            if loss == "clipped":
                still = (made == images).flatten(1).all(1)
                found["never moved"].append(100 * still.double().mean().item())
    return found


def _scaled(model: attacks.Model, factor: float, images: Tensor) -> Tensor:
    return factor * model(images)


# ---- one digit on several roads ----


def followed(
    net: nn.Module,
    road: attacks.Model,
    image: Tensor,
    label: int,
    *,
    eps: float,
    step: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Follow the gradient of ``road``'s margin, and return what the network itself makes of each step.

    Args:
        net: the network that answers.
        road: what is differentiated: images to logits.
        image: ``(1, 1, H, W)`` in [0, 1].
        label: its class.
        eps: L-infinity bound.
        step: of one iteration.
        iterations: how many.

    Returns:
        The margin of ``net``'s deployed answer, the label's logit minus the best other, before and after each step,
        ``(iterations + 1,)``; and the last image.
    """
    target, x, seen = torch.tensor([label]), image, []
    answer = health.deployed(net)
    for i in range(iterations + 1):
        if i:
            x = attacks.fgsm(road, x, target, eps=step, loss="margin").clamp(image - eps, image + eps)
        with torch.no_grad():
            seen.append(-attacks.losses.margin(answer(x).float(), target)[0])
    return torch.stack(seen), x


@picture
def digit_on_roads(
    net: nn.Module, found: Mapping[str, tuple[Tensor, Tensor]], image: Tensor, label: int, *, eps: float
):
    """Draw where each road leads one digit: the last images with their answers, and the margin step by step.

    Args:
        net: the network that answers.
        found: by road, what `followed` gives.
        image: ``(1, 1, H, W)``, the clean one.
        label: its class.
        eps: L-infinity bound of the attacks.
    """
    answer = health.deployed(net)
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    places = figure.add_gridspec(2, len(found) + 1, height_ratios=(1, 1.7))
    shown, words = {"clean": image} | {name: last for name, (_, last) in found.items()}, []
    for column, (name, pixels) in enumerate(shown.items()):
        ax = figure.add_subplot(places[0, column])
        tile(ax, pixels[0])
        with torch.no_grad():
            said = int(answer(pixels).argmax(1)[0])
        wrong = said != label
        ax.set_title(name)
        ax.set_xlabel(f"read as {said}", fontweight="bold" if wrong else "normal", labelpad=2)
        frame(ax, WRONG if wrong else GRID, 2.5 if wrong else 1)
        words.append(f"{name}: read as {said}")
    ax = figure.add_subplot(places[1, :])
    for name, (margins, _) in found.items():
        ax.plot(range(len(margins)), margins, label=name, markevery=5, **ROADS.get(name, {}))
        words.append(f"margin along {name} from {margins[0]:.1f} to {margins[-1]:.1f}")
    ax.axhline(0, color=MUTED, linewidth=1)
    ax.set(xlabel="step of the attack", ylabel="margin of the Q-path")
    ax.legend()
    return figure, (
        f"A digit {label}, attacked within epsilon {eps:g} along {len(found)} roads. {'; '.join(words)}."
        " Below zero the answer is wrong."
    )


def telling(
    net: QNet,
    by_road: Mapping[str, attacks.Model],
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    iterations: int,
) -> int:
    """Return the first image that the first road leaves right and the last one fools; 0 where there is none."""
    answer, (first, *_, last) = health.deployed(net), by_road.values()
    right = []
    for road in (first, last):
        made = attacks.bim(road, images, labels, eps=eps, iterations=iterations, loss="margin")
        with torch.no_grad():
            right.append(answer(made).argmax(1) == labels)
    both = (right[0] & ~right[1]).nonzero()
    return int(both[0]) if len(both) else 0


# ---- the temperature ----


class Warmth(NamedTuple):
    """How many images are still right after attacks of several temperatures, in percent."""

    images: int
    epsilons: Sequence[float]
    soft: dict[float, list[float]]  # by temperature, a share per epsilon
    others: dict[str, list[float]]  # by what is followed instead
    nearest: dict[float, float]  # by temperature, the share of the nearest code in a mixture


def warmth(
    net: QNet,
    images: Tensor,
    labels: Tensor,
    *,
    beside: nn.Module | None = None,
    values: Sequence[float] = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    epsilons: Sequence[float] = (0, 0.05, 0.1, 0.15, 0.2),
    iterations: int = 15,
) -> Warmth:
    """Attack by APGD along soft codes of several temperatures, and for comparison along other roads.

    Args:
        net: in evaluation mode.
        images: ``(N, 1, H, W)`` in [0, 1], a few dozen.
        labels: ``(N,)``, their classes.
        beside: a network without the layer, attacked as it is.
        values: temperatures, in units of `surrogates.typical_gap`.
        epsilons: L-infinity bounds, ascending, from 0.
        iterations: steps of each attack.
    """
    checks.epsilons(epsilons)
    gap = surrogates.typical_gap(net, images)

    def left(answers: nn.Module, road: attacks.Model) -> list[float]:
        return [100 * _right(answers, road, images, labels, eps, iterations) for eps in epsilons]

    others = {
        "E-path": left(net, surrogates.e(net)),
        "straight through": left(net, surrogates.straight_through(net)),
    }
    if beside is not None:
        others["CNN, its own gradient"] = left(beside, beside)
    soft = {value: left(net, surrogates.soft(value * gap, hard=True)(net)) for value in values}
    nearest = {value: 100 * _nearest_share(net, images, value * gap) for value in values}
    return Warmth(len(images), tuple(epsilons), soft, others, nearest)


def temperatures(found: Warmth) -> w.VBox:
    """Return sliders over the temperature of soft codes and over epsilon, with what each attack leaves right."""
    budgets, values = found.epsilons, list(found.soft)
    styles = {"CNN, its own gradient": names.style("cnn")}
    still = [
        slides.Curve(name, styles.get(name) or _look(name), budgets, shares)
        for name, shares in found.others.items()
    ]
    title = f"Digits still right in %, of {found.images}, against epsilon"

    def page(which: int, step: int) -> str:
        value = values[which]
        mixture = (
            f"<p>At this temperature the nearest code makes up {found.nearest[value]:.0f} % of a mixture, on"
            " average.</p>"
        )
        moving = slides.Curve("soft codes", _look("soft codes"), budgets, found.soft[value])
        return mixture + slides.chart(title, [moving, *still], budgets[step], f"{budgets[step]:.2f}")

    sliders = [
        slider("temperature", [f"{value:g}" for value in values], 0),
        slider("epsilon", [f"{eps:.2f}" for eps in budgets], len(budgets) // 2),
    ]
    for one in sliders:
        one.style.description_width = "6.5rem"  # of the longer name, so that they line up
    return explorer(sliders, page)


def _look(name: str) -> dict:
    return ROADS[name] | {"markerfacecolor": ROADS[name]["color"]}


def _right(
    net: nn.Module, road: attacks.Model, images: Tensor, labels: Tensor, eps: float, iterations: int
) -> float:
    """Return the share of images that ``net`` still reads correctly after APGD along ``road``."""
    made = (
        attacks.apgd(road, images, labels, eps=eps, iterations=iterations, loss="margin") if eps else images
    )
    with torch.no_grad():
        return (health.deployed(net)(made).argmax(1) == labels).double().mean().item()


@torch.no_grad()
def _nearest_share(net: QNet, images: Tensor, temperature: float) -> float:
    """Return the mean weight of the nearest code in the mixtures of `surrogates.soft`."""
    layer = net.layer
    projected = layer(net.encoder(images)).projected
    panels = (
        projected.permute(0, 2, 3, 1).unflatten(-1, (layer.heads, layer.dim)).flatten(0, 2).transpose(0, 1)
    )
    weights = (-torch.cdist(panels, layer.codebook).square() / temperature).softmax(-1)
    return weights.amax(-1).mean().item()
