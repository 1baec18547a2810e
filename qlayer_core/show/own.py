"""What "In a network of your own" shows: the costs of each place for the layer, a diagram to drag it in, settings."""

import html
import json
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from qlayer_core import intervals
from qlayer_core.data import Split
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.show import switches
from qlayer_core.show.page import Markup, decimal, table, typeset
from qlayer_core.show.plot import axes, picture, tile

Results = Mapping[str, Mapping[str, Tensor]]  # by attack and network, which images are right, (N,) bool
HEADS = (1, 2, 4)  # that the diagram offers
CODES = 64  # of each head
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@torch.no_grad()
def costs(blocks: Sequence[nn.Module], block_names: Sequence[str], image: Tensor) -> dict:
    """Return what the layer costs at each place of a network, counted on networks that have it there.

    Several heads are joined by a 1 x 1 convolution, so that the blocks behind them take what they always took.

    Args:
        blocks: of the network, from images to logits, in evaluation mode.
        block_names: of these; the layer can stand behind each of them but the last, which ends in no map.
        image: one, ``(1, channels, height, width)``.

    Returns:
        ``"blocks"``, the names; ``"plain"``, the costs without the layer; ``"places"``, for each place ``"cut"``, how
        many blocks stand before it, ``"behind"``, the last of them, ``"shape"``, ``[channels, height, width]``, and
        ``"heads"``, the costs by number of heads. Costs are ``"trained"`` parameters, with both tails,
        ``"deployed"`` ones, with the Q-path's alone, and ``"operations"``, the multiply-adds of one answer.
    """
    places, z = [], image
    for cut in range(1, len(blocks)):
        z = blocks[cut - 1](z)
        dim, found = z.shape[1], {}
        for heads in HEADS:
            join = [nn.Conv2d(heads * dim, dim, 1)] if heads > 1 else []
            tail = nn.Sequential(*join, *blocks[cut:])
            net = QNet(nn.Sequential(*blocks[:cut]), QLayer(dim, CODES, heads), tail).eval()
            found[heads] = _cost(net, image, twice=tail)
        places.append({"cut": cut, "behind": block_names[cut - 1], "shape": [*z.shape[1:]], "heads": found})
    return {"blocks": [*block_names], "plain": _cost(nn.Sequential(*blocks), image), "places": places}


def _cost(net: nn.Module, image: Tensor, twice: nn.Module | None = None) -> dict[str, int]:
    with FlopCounterMode(display=False) as counter:
        net(image)
    operations = counter.get_total_flops() // 2  # it counts a multiplication and an addition as two
    deployed = switches.parameters(net)
    trained = deployed + (switches.parameters(twice) if twice is not None else 0)
    return {"trained": trained, "deployed": deployed, "operations": operations}


def place_table(found: dict, heads: int = 1) -> Markup:
    """Return the costs of each place as a table, beside those of the network without the layer."""
    rows = [["no layer", "", *_cells(found["plain"])]]
    for place in found["places"]:
        shape = f" {TIMES} ".join(map(str, place["shape"]))
        rows.append([f"behind {_code(_place(place['behind']))}", shape, *_cells(place["heads"][heads])])
    return table(
        rows,
        ["the layer stands", "map", "millions trained", "deployed", "multiply-adds"],
        "Millions of parameters that are trained (both tails) and deployed (Q-path alone), and millions of"
        f" multiply-adds of one answer, with {heads} head{'s' if heads > 1 else ''}.",
    )


def _cells(cost: dict[str, int]) -> list[str]:
    return [f"{cost[key] / 1e6:.2f}" for key in ("trained", "deployed", "operations")]


def place_toy(found: dict) -> Markup:
    """Return the place for the diagram in which the layer is dragged; its script is in book/_static/toys."""
    packed = html.escape(json.dumps(found), quote=True)
    text = (
        "On the book's site a diagram of the network stands here. Drag the layer from block to block, and the code"
        " and its cost follow. The table below has the same numbers."
    )
    return Markup(f'<div data-toy="place" data-places="{packed}"><p>{html.escape(text)}</p></div>', text)


def findings(found: dict) -> Markup:
    """Return where the layer costs most and least, as sentences."""
    plain, places = found["plain"], found["places"]
    trained = {_place(place["behind"]): place["heads"][1]["trained"] for place in places}
    extra = {
        _place(place["behind"]): place["heads"][1]["operations"] - plain["operations"] for place in places
    }
    most, least = max(trained, key=trained.get), min(trained, key=trained.get)
    slow, fast = max(extra, key=extra.get), min(extra, key=extra.get)
    more = {place: f"{100 * count / plain['operations']:.1f} %" for place, count in extra.items()}
    text = (
        f"With one head, the network has {trained[most] / 1e6:.1f} million parameters to train where the layer"
        f" stands behind {most}, and {trained[least] / 1e6:.1f} million where it stands behind {least}; without the"
        f" layer it has {plain['trained'] / 1e6:.1f} million. An answer takes {more[slow]} more"
        f" multiply-adds behind {slow}, and {more[fast]} more behind {fast}."
    )
    return Markup(f"<p>{_code(typeset(text))}</p>", text)


def _place(behind: str) -> str:
    """Return how the text calls a block: by its name in the code, or as "the stem"."""
    return behind if behind[-1].isdigit() else f"the {behind}"


def _code(text: str) -> str:
    """Return HTML with the blocks' names in the code as code."""
    return re.sub(r"\blayer\d\b", r"<code>\g<0></code>", text)


def comparison(results: Results) -> Markup:
    """Return the share of right answers of each network under each attack as a table."""
    columns = list(next(iter(results.values())))
    rows = [
        [attack, *(decimal(_percent(line[name]), 1) for name in columns)] for attack, line in results.items()
    ]
    count = len(results["clean"][columns[0]])
    return table(
        rows,
        ["images", *columns],
        f"Right answers (%) on {count} test images: {columns[0]}, without and {columns[1]}.",
    )


def verdict(results: Results) -> str:
    """Return what the layer gains or costs, image by image, as sentences.

    Args:
        results: by attack, ``"clean"`` among them, the plain network's right answers and those with the layer. The
            names of attacks that know the layer end in "adaptive".
    """
    found = {}
    for attack, (plain, layered) in ((attack, line.values()) for attack, line in results.items()):
        found[attack] = intervals.paired(
            int((layered & ~plain).sum()), int((plain & ~layered).sum()), len(plain)
        )
    kinds = {"gains": [], "loses": [], "neither": []}
    for attack, (gap, low, high) in found.items():
        kind = "gains" if low > 0 else "loses" if high < 0 else "neither"
        name, knows, _ = attack.partition(", adaptive")
        where = "on clean images" if attack == "clean" else f"under {'adaptive ' if knows else ''}{name}"
        text = f"{gap:+.1f} points {where} (95 % interval {low:+.1f} to {high:+.1f})"
        kinds[kind].append((attack, text.replace("-", MINUS)))
    said = []
    for kind, text in (
        ("loses", "The network with the layer is clearly worse"),
        (
            "gains",
            "It is clearly better" if kinds["loses"] else "The network with the layer is clearly better",
        ),
        ("neither", "No clear difference"),
    ):
        if kinds[kind]:
            said.append(f"{text}: {'; '.join(words for _, words in kinds[kind])}.")
    if kinds["gains"] and not any(attack.endswith("adaptive") for attack, _ in kinds["gains"]):
        said.append(
            "Every clear gain is against attacks that walk round the layer; there is no clear gain against one that"
            " knows it."
        )
    return " ".join(said)


def _percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()


@picture
def samples(split: Split):
    """Draw the first image of each class in a row."""
    chosen = [split.images[split.labels == label][0] for label in split.labels.unique()]
    figure, grid = axes(0.62 * len(chosen), 0.75, 1, len(chosen))
    for ax, image in zip(grid[0], chosen, strict=True):
        tile(ax, image)
    height, width = chosen[0].shape[1:]
    return figure, f"{len(chosen)} digits, one of each class, {height} by {width} pixels each."
