"""What an attack differentiates in place of the network that answers.

A surrogate is a callable from images to logits, to be given to any attack as its ``model``; its images are then shown
to the network itself. The quantizer's gradient is zero almost everywhere (eq. 2), so each of them puts something in
its place: `e` and `shortcut` go round it (section 4.1, eq. 9), `straight_through`, `soft` and `latent` through it.
Another network is a surrogate, too: that is the transfer attack of section 2.1.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from qlayer_core import checks
from qlayer_core.attacks.contract import Model
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.models import straight_through as straight_through_of

NEAR = 0.03  # of the mean gap: below it, one that is smaller still doesn't pull harder


def surrogate(model: nn.Module, path: str | None = None) -> Model:
    """Return what attacks differentiate: one path of a `QNet`, the E-path if none is named, or a plain network."""
    return partial(model, path=path or "e") if isinstance(model, QNet) else model


def e(net: QNet) -> Model:
    """Return the E-path: the attack of the paper's tables, on the other tail (eq. 6)."""
    return partial(_with_layer(net), path="e")


def shortcut(net: QNet) -> Model:
    """Return the projected map in N_Q, as if nothing were quantized (eq. 9)."""
    return partial(_with_layer(net), path="shortcut")


def straight_through(net: QNet) -> Model:
    """Return the Q-path, whose gradient passes the quantizer as if it were the identity.

    Answers are those of the Q-path, so that an attack knows when it has won: BPDA, backward pass differentiable
    approximation (Athalye et al., 2018).
    """
    _with_layer(net)

    def model(images: Tensor) -> Tensor:
        out = net.layer(net.encoder(images))
        return net.tail_q(straight_through_of(out.projected, out.quantized))

    return model


def soft(temperature: float, *, hard: bool = False) -> Callable[[QNet], Model]:
    """Return a surrogate that puts mixtures of codes into N_Q, weighed by ``softmax(-d^2 / temperature)``.

    ``d`` are the L2 distances of a panel to all codes of its head. As the temperature goes to 0 the mixture becomes
    the nearest code; a high one has gradients everywhere and little to do with the network.

    Args:
        temperature: in units of a squared distance, greater than 0; see `typical_gap`.
        hard: answer as the Q-path does, and take only the gradient from the mixture.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}; it must be greater than 0")

    def of(net: QNet) -> Model:
        _with_layer(net)

        def model(images: Tensor) -> Tensor:
            out = net.layer(net.encoder(images))
            with torch.autocast(images.device.type, enabled=False):
                shares = (-_distances(net.layer, out.projected) / temperature).softmax(-1)
                mixture = _as_map(shares @ _codebook(net.layer, shares), out.projected)
            mixture = mixture.to(out.projected.dtype)
            return net.tail_q(straight_through_of(mixture, out.quantized) if hard else mixture)

        return model

    return of


def latent(net: QNet, runners_up: int = 1) -> Model:
    """Return the Q-path, whose gradient is that of exchanging each panel's code for a runner-up.

    Answers are those of the Q-path. To raise the loss, an attack lowers the gap between the squared distances of a
    panel to a runner-up and to its chosen code, wherever the runner-up would raise the loss in N_Q, most where
    little is missing; where the runner-up would lower it, it widens the gap. Once a panel has changed its code, the
    margin has moved, and the next exchange is sought from there.

    Args:
        net: the network.
        runners_up: how many of the nearest codes behind the chosen one are tried in its place, their pulls added; at
            least 1, and at most all others.

    Raises:
        ValueError: fewer than one runner-up is asked for, or a head has one code alone, and so no runner-up.
    """
    if not runners_up >= 1:
        raise ValueError(f"runners_up is {runners_up!r}; it must be at least 1")
    nearest_few = min(1 + runners_up, _with_layer(net).layer.codebook.shape[1])
    if nearest_few < 2:
        raise ValueError(
            "the layer has one code per head, so no panel has a runner-up: attack along another path"
        )

    def model(images: Tensor) -> Tensor:
        out = net.layer(net.encoder(images))
        with torch.autocast(images.device.type, enabled=False):
            nearest, codes = _distances(net.layer, out.projected).topk(nearest_few, largest=False)
            gap = nearest[..., 1:] - nearest[..., :1]  # (heads, M, runners_up)
            readiness = -(gap + NEAR * gap[..., 0].detach().mean()).log()
            head = torch.arange(net.layer.heads, device=codes.device).view(-1, 1, 1)
            book = _codebook(net.layer, gap)
            exchange = book[head, codes[..., 1:]] - book[head, codes[..., :1]]  # (heads, M, runners_up, dim)
            towards = _as_map((readiness.unsqueeze(-1) * exchange.detach()).sum(-2), out.projected)
        return net.tail_q(straight_through_of(towards.to(out.quantized.dtype), out.quantized))

    return model


def ensemble(net: QNet) -> Model:
    """Return the mean of both paths' logits, the Q-path straight through: images that fool one and the other."""
    _with_layer(net)

    def model(images: Tensor) -> Tensor:
        out = net.layer(net.encoder(images))
        q = net.tail_q(straight_through_of(out.projected, out.quantized))
        tail_e = net.tail_q if net.tail_e is None else net.tail_e
        return (q + tail_e(out.projected)) / 2

    return model


def judged(net: QNet, other: Model) -> Model:
    """Return the Q-path's answers with the gradient of ``other``, which goes round the quantizer.

    An attack then knows when it has won: it keeps the image that fools the answer, not the one that fools ``other``.
    """
    _with_layer(net)

    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            answers = net(images)
        return straight_through_of(other(images), answers)

    return model


@torch.no_grad()
def typical_gap(net: QNet, images: Tensor) -> float:
    """Return the median, over the panels of ``images``, of what separates the runner-up from the nearest code.

    It is the difference of their squared distances, the natural unit of a temperature. ``net`` is in evaluation mode.

    Raises:
        ValueError: a head has one code alone, and so no runner-up.
    """
    checks.mode(net)
    if _with_layer(net).layer.codebook_size < 2:
        raise ValueError("the layer has one code per head, so no panel has a runner-up, nor a gap to one")
    out = _with_layer(net).layer(net.encoder(images))
    nearest = _distances(net.layer, out.projected).topk(2, largest=False).values
    return (nearest[..., 1] - nearest[..., 0]).median().item()


def _with_layer(net: QNet) -> QNet:
    """Return ``net``, or say why it has no such surrogate."""
    if not isinstance(net, QNet):
        raise TypeError(
            f"the network is a {type(net).__name__} without a Q-Layer: attack it as it is, its gradient is its own"
        )
    return net


def _codebook(layer: QLayer, like: Tensor) -> Tensor:
    """Return all codes ``(heads, codes, dim)``, without a gradient, in float32 or wider."""
    return layer.codebook.detach().to(like.dtype)


def _distances(layer: QLayer, projected: Tensor) -> Tensor:
    """Return the squared distances of all panels to their head's codes, ``(heads, M, codes)``, less ``|panel|^2``.

    The term is the same for all codes: neither a softmax over them nor a gap between two needs it.
    """
    panels = (
        projected.permute(0, 2, 3, 1).unflatten(-1, (layer.heads, layer.dim)).flatten(0, 2).transpose(0, 1)
    )
    panels = panels.to(torch.promote_types(panels.dtype, torch.float32))
    book = _codebook(layer, panels)
    return torch.baddbmm(book.square().sum(-1).unsqueeze(1), panels, book.transpose(1, 2), alpha=-2)


def _as_map(panels: Tensor, like: Tensor) -> Tensor:
    """View panels ``(heads, M, dim)`` as a map ``(N, heads * dim, H, W)`` of the shape of ``like``."""
    n, _, height, width = like.shape
    return panels.transpose(0, 1).flatten(1).view(n, height, width, -1).permute(0, 3, 1, 2)
