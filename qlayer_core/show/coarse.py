"""What the chapter on other quantizers draws: a digit through each of them, and what an attack changes.

How coarse a quantizer is goes by one number for all: how many values it leaves to a pixel, or to a position's vector.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor, nn

from qlayer_core import codes
from qlayer_core.models import QNet
from qlayer_core.quantizers import BitDepth, Encoding, RandomDiscretization, Squeezing
from qlayer_core.show import names, slides
from qlayer_core.show.controls import choice, explorer, slider
from qlayer_core.show.plot import SERIES, WRONG

COUNTS = (2, 4, 8, 16, 32, 64)
SQUEEZED, LEVELS, COLOURS, CODES = "squeezed", "levels", "random colours", "codes of Q-base"
STYLES = {
    SQUEEZED: {"color": SERIES[0], "linestyle": "-"},
    LEVELS: {"color": SERIES[1], "linestyle": "--"},
    COLOURS: {"color": SERIES[3], "linestyle": ":"},
    CODES: {"color": names.COLOURS["q-base"], "linestyle": "-"},
}


class Seen(NamedTuple):
    """What a network behind a quantizer is given of images, and what it answers."""

    values: Tensor  # (N, H, W), a whole number or a shade for each pixel or position
    answers: Tensor  # (N,) classes


def coarser(codebook: Tensor, counts: Tensor, sizes: Sequence[int] = COUNTS) -> dict[int, Tensor]:
    """Return codebooks of fewer codes: the two whose union costs least are merged until so many are left.

    The cost is Ward's, by how much the squared distance of what chose them grows; the merged code is their mean.

    Args:
        codebook: ``(codes, dim)``.
        counts: ``(codes,)``, how often each is chosen; one that never is merges at no cost.
        sizes: how many are wanted, each at most ``codes``.

    Returns:
        ``(size, dim)`` for each size.
    """
    centres, weights, found = codebook.double(), counts.double() + 1e-9, {}
    while True:
        if len(centres) in sizes:
            found[len(centres)] = centres.to(codebook.dtype)
        if len(centres) <= min(sizes):
            return found
        both = weights[:, None] * weights / (weights[:, None] + weights)
        cost = both * torch.cdist(centres, centres).square()
        cost.fill_diagonal_(torch.inf)
        one, two = sorted(divmod(int(cost.argmin()), len(centres)))
        total = weights[one] + weights[two]
        centres[one] = (weights[one] * centres[one] + weights[two] * centres[two]) / total
        weights[one] = total
        rest = torch.arange(len(centres)) != two
        centres, weights = centres[rest], weights[rest]


def books(network: QNet, images: Tensor, sizes: Sequence[int] = COUNTS) -> dict[int, Tensor]:
    """Return `coarser` codebooks of a trained network with one head, merged by what ``images`` choose."""
    if network.layer.heads != 1:
        raise ValueError(f"the layer has {network.layer.heads} heads; only a single codebook is merged")
    chosen = codes.layer_output(network, images).indices[0]
    counts = torch.bincount(chosen.flatten(), minlength=network.layer.codebook_size)
    return coarser(network.layer.codebook[0].detach(), counts, sizes)


def colours(count: int, images: Tensor) -> RandomDiscretization:
    """Return a randomised discretisation into so many colours, learned from ``images``, in evaluation mode."""
    quantizer = RandomDiscretization(count)
    quantizer.learn(images)
    return quantizer.eval()


@torch.no_grad()
def seen(
    images: Tensor,
    count: int,
    plain: nn.Module,
    layered: QNet,
    book: Tensor,
    discretize: RandomDiscretization,
) -> dict[str, Seen]:
    """Return what four quantizers of ``count`` values make of ``images`` ``(N, 1, H, W)``.

    Args:
        images: values in [0, 1].
        count: a power of two.
        plain: reads the pictures that the three quantizers of pixels make; it was not trained with them.
        layered: reads its own codes, each the nearest of ``book``; one head.
        book: ``(count, dim)``, see `books`.
        discretize: see `colours`; draws anew.
    """
    levels = Encoding(count).level(images)
    shades = {
        SQUEEZED: Squeezing(count.bit_length() - 1)(images),
        LEVELS: levels / (count - 1),
        COLOURS: discretize(images),
    }
    found = {name: Seen(shade[:, 0], plain(shade).argmax(1)) for name, shade in shades.items()}
    projected = codes.layer_output(layered, images).projected  # (N, dim, H, W)
    vectors = projected.movedim(1, -1)
    nearest = torch.cdist(vectors.flatten(0, 2), book).argmin(1).view(vectors.shape[:3])
    answers = layered.tail_q(book[nearest].movedim(-1, 1)).argmax(1)
    return found | {CODES: Seen(nearest, answers)}


def digit_explorer(
    images: Tensor,
    attacked: Tensor,
    labels: Tensor,
    plain: nn.Module,
    layered: QNet,
    train: Tensor,
    counts: Sequence[int] = COUNTS,
) -> w.VBox:
    """Return a slider over the coarseness: each digit and its attacked twin, through four quantizers.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        attacked: the same, attacked.
        labels: ``(N,)``, their classes.
        plain: see `seen`.
        layered: see `seen`.
        train: other images, from which colours are learned and by which codes are merged.
        counts: powers of two.
    """
    merged = books(layered, train, counts)
    places = [codes.along_main_direction(merged[count].unsqueeze(0))[0] for count in counts]
    raw = [Seen(x[:, 0], _answers(plain, x)) for x in (images, attacked)]
    pages = []
    for count in counts:
        given = plain, layered, merged[count], colours(count, train)
        pages.append([seen(x, count, *given) for x in (images, attacked)])

    def page(which: int, step: int) -> str:
        cells = _pair("as it is", *raw, which, int(labels[which]))
        for name in STYLES:
            cells += _pair(
                name, *(side[name] for side in pages[step]), which, int(labels[which]), places[step]
            )
        text = (
            f"<p>{counts[step]} values. Each clean digit stands with its attacked twin; under them, what the network"
            " reads, and how many values differ.</p>"
        )
        return text + slides.pairs(cells)

    digits, start = [str(label) for label in labels.tolist()], len(counts) // 2
    controls = [choice("digit", digits), slider("number of values", [str(count) for count in counts], start)]
    return explorer(controls, page)


def _answers(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images).argmax(1)


def _pair(
    name: str, clean: Seen, attacked: Seen, which: int, true: int, places: np.ndarray | None = None
) -> list[str]:
    """Return two captioned pictures; codes, drawn by their ``places``, as a map with a dot on each change."""
    before, after = clean.values[which], attacked.values[which]
    changed = before != after
    share = f"{100 * changed.double().mean():.0f} % differ"
    reads = [f"reads {int(one.answers[which])}" for one in (clean, attacked)]
    said = [
        f"A {true}, {name}, {reads[0]}.",
        f"The attacked {true}, {name}, {reads[1]}; {share} from the clean one.",
    ]
    if name == CODES:
        marks = (torch.zeros_like(changed), changed)
        shown = [
            slides.code_map(places[side.numpy()], mark.numpy(), text)
            for side, mark, text in zip((before, after), marks, said, strict=True)
        ]
    else:
        shown = [slides.grey(side.numpy(), text) for side, text in zip((before, after), said, strict=True)]
    return [
        slides.figure(shown[0], f"{name}<br>{reads[0]}"),
        slides.figure(shown[1], f"{reads[1]}<br>{share}"),
    ]


# ---- how much of what a network sees an attack changes ----


def changed(
    images: Tensor,
    attacked: Mapping[float, Tensor],
    layered: QNet,
    train: Tensor,
    counts: Sequence[int] = COUNTS,
) -> dict[int, dict[str, list[float]]]:
    """Return by coarseness and quantizer the share of values, in percent, that differ after each attack.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1].
        attacked: by epsilon, the same images attacked.
        layered: whose codes are looked at; one head.
        train: see `digit_explorer`.
        counts: powers of two.
    """
    merged = books(layered, train, counts)
    sides = [images, *attacked.values()]
    vectors = [codes.layer_output(layered, x).projected.movedim(1, -1).flatten(0, 2) for x in sides]
    found = {}
    for count in counts:
        discretize, encoding, squeeze = (
            colours(count, train),
            Encoding(count),
            Squeezing(count.bit_length() - 1),
        )
        values = {
            SQUEEZED: [squeeze(x) for x in sides],
            LEVELS: [encoding.level(x) for x in sides],
            COLOURS: [discretize(x) for x in sides],
            CODES: [torch.cdist(rows, merged[count]).argmin(1) for rows in vectors],
        }
        found[count] = {
            name: [100 * (clean != other).double().mean().item() for other in others]
            for name, (clean, *others) in values.items()
        }
    return found


def changed_explorer(found: Mapping[int, Mapping[str, Sequence[float]]], epsilons: Sequence[float]) -> w.VBox:
    """Return a slider over the coarseness of `changed`, whose curves run over ``epsilons``; the table is at 0.1."""
    counts = list(found)

    def page(step: int) -> str:
        curves = [
            slides.Curve(name, STYLES[name], epsilons, values) for name, values in found[counts[step]].items()
        ]
        title = f"Values (%) that differ after the attack, against epsilon; {counts[step]} values"
        return slides.chart(title, curves, 0.1, "0.1")

    texts = [str(count) for count in counts]
    return explorer([slider("number of values", texts, min(3, len(texts) - 1))], page)


def reach(images: Tensor, quantize: Callable[[Tensor], Tensor], eps: float) -> float:
    """Return the share of pixels, in percent, that ``eps`` can carry over a border of a quantizer of pixels."""
    here = quantize(images)
    ends = [quantize((images + step).clamp(0, 1)) for step in (-eps, eps)]
    return 100 * ((ends[0] != here) | (ends[1] != here)).double().mean().item()


def reach_explorer(
    sets: Mapping[str, Tensor], epsilons: Sequence[float] = tuple(i / 20 for i in range(7))
) -> w.VBox:
    """Return a slider over the coarseness: `reach` of rounding and of levels against epsilon, per data set.

    Args:
        sets: name to images ``(N, 1, H, W)`` in [0, 1]; at most three.
        epsilons: ascending, with 0.1 among them.
    """
    shades = dict(zip(sets, (SERIES[0], WRONG, SERIES[1]), strict=False))

    def page(step: int) -> str:
        ways = {"rounded": (BitDepth(step + 1), "-"), "levels": (Encoding(COUNTS[step]).level, "--")}
        curves = [
            slides.Curve(
                f"{name}, {how}",
                {"color": shades[name], "linestyle": line},
                epsilons,
                [reach(images, quantize, eps) for eps in epsilons],
            )
            for name, images in sets.items()
            for how, (quantize, line) in ways.items()
        ]
        title = f"Pixels (%) that an attacker can move to another of {COUNTS[step]} values, against epsilon"
        return slides.chart(title, curves, 0.1, "0.1")

    return explorer([slider("number of values", [str(count) for count in COUNTS], 1)], page)
