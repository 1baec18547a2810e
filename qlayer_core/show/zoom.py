"""The network as a diagram that one enters: the whole, the layer's map of codes, the formula at one position."""

import base64
import html
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from qlayer_core import checks, codes
from qlayer_core.models import QNet
from qlayer_core.show import names
from qlayer_core.show.page import Markup, listed


@torch.no_grad()
def diagram(net: QNet, images: Mapping[str, Tensor], labels: Tensor, ask: str) -> Markup:
    """Return the place for the diagram; its script is in book/_static/toys. Elsewhere words stand there.

    All that the page says in numbers is told in two bytes, within 1/65,534 of the largest of its kind, or exactly, as
    codes are. From the gate's matrix and from features, which must not be negative, in one byte each, within 1/510 of
    their position's largest, the page computes what it draws as bars, by equations 4 and 2.

    Args:
        net: in evaluation mode, with one head.
        images: name to ``(N, 1, H, W)`` in [0, 1], a handful, the clean ones first.
        labels: ``(N,)`` int64, the true classes.
        ask: which images the reader's guess is about, how many codes they flip.

    Raises:
        ValueError: several heads, or a network in training mode.
    """
    checks.mode(net)
    layer, (clean, *_) = net.layer, images.values()
    if layer.heads != 1:
        raise ValueError(
            f"this layer has {layer.heads} heads, and the diagram shows one: give a network like q-base"
        )
    chosen = {name: net.layer(net.encoder(x)).indices[0] for name, x in images.items()}  # (N, h, w)
    flips = (chosen[ask] != next(iter(chosen.values()))).flatten(1).sum(1).tolist()
    side, classes = chosen[ask].shape[-1], labels.tolist()
    colours = names.code_colours(codes.along_main_direction(layer.codebook)[0])
    told = {
        "side": side,
        "dim": layer.dim,
        "field": codes.field_of_view(net.encoder, clean.shape[-1], side),
        "colours": ["#" + colour.tobytes().hex() for colour in colours],
        "weight": _fine(layer.gate_weight[0], "i1"),
        "bias": _fine(layer.gate_bias[0]),
        "codebook": _fine(layer.codebook[0]),
        "ask": list(images).index(ask),
        "digits": [
            {"label": label, "seen": [_seen(net, name, x[[i]], clean[[i]]) for name, x in images.items()]}
            for i, label in enumerate(classes)
        ],
    }
    counts = [
        f"{count} of the {side**2} codes of the {label}" for count, label in zip(flips, classes, strict=True)
    ]
    text = (
        "On the book's site you can enter a diagram here. It shows the image, the convolutions, the Q-Layer and both"
        " tails. The layer opens to the map of the chosen codes, and each position of the map to the formula with its"
        f" numbers. {ask} flips {listed(counts)}."
    )
    data = html.escape(json.dumps(told, separators=(",", ":")), quote=False).replace("'", "&#x27;")
    return Markup(f"<div data-toy='zoom' data-zoom='{data}'><p>{html.escape(text)}</p></div>", text)


def _seen(net: QNet, name: str, image: Tensor, clean: Tensor) -> dict:
    """Return what is told of an image ``(1, 1, H, W)`` and its change from ``clean``, position by position."""
    layer, out = net.layer, net(image, path="both")
    z = net.encoder(image)[0].flatten(1).T  # (positions, dim)
    before, panels = (layer.project(net.encoder(x))[0].flatten(1).T for x in (clean, image))
    strongest = panels.argmax(1, keepdim=True)
    chosen = out.layer.indices.flatten(1).T  # (positions, 1)
    distances = torch.cdist(panels, layer.codebook[0])  # (positions, codes)
    nearest, second = (
        distances.gather(1, chosen),
        distances.scatter(1, chosen, torch.inf).min(1, keepdim=True),
    )
    peaks = z.amax(1, keepdim=True)
    return {
        "name": name,
        "pixels": _bytes(255 * image),
        "z": _bytes(255 * z / peaks.clamp(min=1e-9)),
        "peaks": _fine(peaks),
        "strongest": _bytes(strongest),
        "values": _fine(z.gather(1, strongest)),
        "weights": _fine(layer.gate(net.encoder(image))[0, ..., 0, :].flatten(0, 1).gather(1, strongest)),
        "codes": _bytes(chosen),
        "nearest": _fine(nearest),
        "seconds": _bytes(second.indices),
        "margins": _fine(second.values - nearest),
        "moves": _fine((panels - before).norm(dim=1)),
        "q": _shares(out.q),
        "e": _shares(out.e),
    }


def _shares(logits: Tensor) -> list[float]:
    return [round(share, 3) for share in logits[0].softmax(0).tolist()]


def _bytes(values: Tensor) -> str:
    """Return values from 0 to 255 as base64 of one byte each."""
    return base64.b64encode(values.round().byte().numpy().tobytes()).decode()


def _fine(values: Tensor, kind: str = "<i2") -> dict:
    """Return numbers as base64 of integers, two bytes each and the lower first, and the step between two of them."""
    step = values.abs().max().clamp(min=1e-9).item() / np.iinfo(kind).max
    numbers = np.rint(values.detach().double().numpy() / step).astype(kind)
    return {"step": step, "numbers": base64.b64encode(numbers.tobytes()).decode()}
