"""The four switches of the architecture: what each combination costs, and the diagram that shows it."""

import html
import json
import math

import torch
from torch import nn

from qlayer_core import models
from qlayer_core.show import names
from qlayer_core.show.page import Markup, table, wrapped
from qlayer_core.specs import LayerSpec
from qlayer_core.study import experiments

HEADS, SIZES = (1, 2, 4), (16, 64, 128)  # of Table 8
TABLE_8 = "a cell of the paper's Table 8"  # a network without a name of its own
POSITIONS, TAILS = ("after", "between"), ("separate", "shared")


def counts() -> dict[str, dict]:
    """Return what each combination of position, tails, heads and codebook size costs, counted on the networks.

    Returns:
        By ``"<position> <tails> <heads> <codes>"``: ``"trained"`` and ``"deployed"`` parameters (with both tails, and
        what answers), ``"side"`` of the layer's map, ``"bits"`` that an image's choice of codes can hold at most, and
        ``"name"`` of the paper's network that it is, or "".
    """
    known = {
        spec.layer: name for name, spec in experiments.RUNS.items() if spec.layer and not spec.adversarial
    }
    found = {}
    for position in POSITIONS:
        for tails in TAILS:
            for heads in HEADS:
                for size in SIZES:
                    spec = LayerSpec(heads, size, position, tails == "shared")
                    with torch.device("meta"):  # counted, never run
                        net = models.q_net(spec)
                    side = models.SHAPE[1] if position == "between" else models.blocks("a")[2]
                    trained = parameters(net)
                    found[f"{position} {tails} {heads} {size}"] = {
                        "trained": trained,
                        "deployed": trained - (parameters(net.tail_e) if net.tail_e is not None else 0),
                        "side": side,
                        "bits": round(side**2 * heads * math.log2(size)),
                        "name": names.MODELS.get(known[spec], TABLE_8) if spec in known else "",
                    }
    return found


def parameters(net: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def toy(found: dict[str, dict]) -> Markup:
    """Return the place for the diagram with switches; its script is in book/_static/toys."""
    packed = html.escape(json.dumps(found), quote=True)
    text = (
        "On the book's site a diagram of the network stands here, with four switches: where the layer sits, whether"
        " its two paths share a tail, how many heads it has and how many codes. The table below has the paper's"
        " networks."
    )
    return Markup(f'<div data-toy="inside" data-counts="{packed}"><p>{html.escape(text)}</p></div>', text)


def cast(found: dict[str, dict], plain: int) -> Markup:
    """Return the networks that have a name of their own, with what they cost, as a table.

    Args:
        found: as `counts` returns it.
        plain: parameters of the CNN without the layer.
    """
    rows = [["CNN, no layer", "", f"{plain / 1e6:.2f}", f"{plain / 1e6:.2f}", ""]]
    for how, one in found.items():
        position, tails, heads, size = how.split()
        if one["name"] not in ("", TABLE_8):
            what = f"{position} the convolutions, {tails} tails, {heads} x {size} codes"
            cells = (f"{one['trained'] / 1e6:.2f}", f"{one['deployed'] / 1e6:.2f}", f"{one['bits']:,}")
            rows.append([one["name"], wrapped(what), *cells])
    return table(
        rows,
        ["network", "the layer", "millions trained", "millions deployed", "bits per image"],
        "Parameters, counted on the networks, and the bits that an image's choice of codes can hold at most.",
    )
