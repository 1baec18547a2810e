"""How the images of a rung are made: what stands for the network, and which images need the whole attack.

Numbers depend on every line of it, so it is a stage of `study.fingerprint`; a new rung in `study.ladder` is none.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from qlayer_core import attacks, baselines, evaluation
from qlayer_core.attacks import surrogates
from qlayer_core.attacks.contract import BATCH
from qlayer_core.models import QNet
from qlayer_core.study.ladder import ATTACKS, AVERAGED, JUDGED, Rung

SPREAD = 0.05  # of the points whose gradients are averaged
GAPS = 64  # images that tell a network's gap
QUICK = 10  # steps that many images don't survive
ON_A_GPU = 1000  # images that an attack takes at a time: fewer leave it idle


def right(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images the deployed answer, of the Q-path where there is one, classifies correctly: ``(N,)``."""
    found = evaluation.correct_by_path(net, images, labels, full_precision=True)
    return found["q"] if "q" in found else found[None]


def made(
    net: nn.Module, x: Tensor, y: Tensor, rung: Rung, eps: float, source: nn.Module, progress: bool
) -> Tensor:
    """Return the images of a rung; those that its short form fools are spared the rest."""
    short = quick(rung)
    found = attacked(source, x, y, short or rung, eps, progress=progress)
    left = right(net, found, y).nonzero().squeeze(1)
    if short and len(left):
        found[left] = attacked(source, x[left], y[left], rung, eps, clean=x, progress=progress)
    return found


def stand_in(net: nn.Module, name: str | None, images: Tensor) -> attacks.Model:
    """Return what an attack differentiates in place of ``net``; None is the network itself.

    Args:
        net: the network.
        name: ``"e"``, ``"shortcut"``, ``"straight-through"``, ``"latent"``, ``"ensemble"``, ``"latent 2"`` with so
            many runners-up, ``"soft 0.1"`` with the temperature in units of the network's own
            `surrogates.typical_gap`, or None. ``", judged"`` behind it stands for the Q-path's answers, ``",
            averaged"`` for the mean gradient of a neighbourhood, of four points or as many as ``", averaged 2"``
            says. Behind a quantizer of the input ``"as it is"`` or ``"adaptive"``. A plain network stands for itself.
        images: some of the clean images, from which soft assignment takes its temperature.
    """
    if isinstance(net, baselines.Defended) and name in ("as it is", "adaptive"):
        return baselines.adaptive(net) if name == "adaptive" else baselines.as_it_is(net)
    if name is None or not isinstance(net, QNet):
        return net
    alone, averaged, points = name.partition(AVERAGED)
    if averaged:
        return attacks.averaged(stand_in(net, alone, images), SPREAD, int(points or 4))
    alone, judged, _ = name.partition(JUDGED)
    if judged:
        return surrogates.judged(net, stand_in(net, alone, images))
    kind, *number = name.split()
    if kind == "soft" and number:
        gap = surrogates.typical_gap(net, images[:GAPS])
        return surrogates.soft(max(float(number[0]) * gap, 1e-12), hard=True)(net)
    if kind == "latent" and number:
        return surrogates.latent(net, int(number[0]))
    known = {
        "e": surrogates.e,
        "shortcut": surrogates.shortcut,
        "straight-through": surrogates.straight_through,
        "latent": surrogates.latent,
        "ensemble": surrogates.ensemble,
    }
    if name not in known:
        raise ValueError(f"surrogate is {name!r}; choose one of soft 0.1, {', '.join(known)}")
    return known[name](net)


def quick(rung: Rung) -> Rung | None:
    """Return a short form of an expensive rung, for the images that fall at once; None where there is none.

    Only the images that it doesn't fool need the whole rung, which saves most of its time at the larger budgets.
    """
    if (
        rung.attack == "apgd"
        and rung.source is None
        and not rung.survivors
        and rung.options.get("iterations", 0) > 2 * QUICK
    ):
        return replace(rung, options={**rung.options, "iterations": QUICK, "restarts": 1})
    return None


def at_a_time(device: torch.device) -> int:
    """Return how many images an attack takes at a time on a device."""
    return BATCH if device.type == "cpu" else ON_A_GPU


def attacked(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    rung: Rung,
    eps: float,
    *,
    clean: Tensor | None = None,
    progress: bool = False,
) -> Tensor:
    """Return what one rung makes of ``images`` ``(N, 1, H, W)`` and their true classes on ``net``, within ``eps``.

    The control is random noise of the largest size: plus or minus ``eps`` in every pixel. ``clean`` are the images
    that soft assignment takes its temperature from; left out, those that are attacked.
    """
    if rung.attack == "noise":
        signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(0))
        return (images + eps * (2 * signs.to(images) - 1)).clamp(0, 1)
    model = stand_in(net, rung.surrogate, images if clean is None else clean)
    attack, batch_size = ATTACKS[rung.attack], at_a_time(images.device)
    return attack(model, images, labels, eps=eps, batch_size=batch_size, progress=progress, **rung.options)
