"""What the chapter on pixels and concepts draws of its models: a small chain, predictions, samples, surprise."""

import html
import json
import math
from collections.abc import Mapping, Sequence

import ipywidgets as w
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from qlayer_core import datasets, pixelcnn
from qlayer_core.models import QNet
from qlayer_core.pixelcnn import PixelCNN
from qlayer_core.show import names, slides
from qlayer_core.show.controls import choice, explorer, slider
from qlayer_core.show.page import Markup, decimal, table
from qlayer_core.show.plot import SERIES, WRONG, axes, matrix, picture, tile
from qlayer_core.study import likelihoods

LOOKS = {  # of a set of images: name, colour, line
    "clean": ("clean", SERIES[2], "-"),
    "fgsm": ("FGSM", WRONG, "--"),
    "signs": ("random signs", SERIES[0], ":"),
    "uniform": ("uniform noise", SERIES[3], "-."),
}
MOST = 10  # bits that are drawn white: black is none
BARS = 16  # of a distribution over the values of a pixel
DIGITS = datasets.find("mnist").class_names


def label(name: str) -> str:
    """Return how the text calls what a model describes: ``"pixels"``, ``"codes of Q-base"``."""
    return name if name == likelihoods.PIXELS else f"codes of {names.label(name)}"


def chain(chance: Tensor, pictures: Sequence[tuple[int, Tensor]]) -> Markup:
    """Return a model of 4 x 4 pixels to play with; without scripts, the factors of the first picture.

    Args:
        chance: ``(4, 4, 2, 2)``, the probability that the pixel in a row and column is white, given its left and its
            upper neighbour (1 is white; outside of the picture all is black).
        pictures: digit and ``(4, 4)`` pixels, 0 or 1.
    """
    told = {
        "chance": [[[[round(p, 4) for p in up] for up in left] for left in row] for row in chance.tolist()],
        "digits": [
            {"label": digit, "pixels": "".join(str(int(pixel)) for pixel in pixels.flatten())}
            for digit, pixels in pictures
        ],
    }
    first = pictures[0][1].long()
    factors = torch.empty(4, 4)
    for row, column in np.ndindex(4, 4):
        left, up = (first[row, column - 1] if column else 0), (first[row - 1, column] if row else 0)
        white = chance[row, column, int(left), int(up)]
        factors[row, column] = white if first[row, column] else 1 - white
    numbers = [str(i + 1) for i in range(4)]
    still = matrix(
        factors.tolist(), numbers, numbers, y="row", x="factor of the pixel in column", text="{:.2f}"
    )
    data = html.escape(json.dumps(told), quote=True)
    return Markup(f'<div data-toy="chain" data-chain="{data}">{still.html}</div>', still.text)


@picture
def predictions(model: PixelCNN, image: Tensor, places: Sequence[tuple[int, int]]):
    """Draw what a model of pixels expects at some places of an image, and what stands there.

    Above, what it has seen by then; below, its probabilities, added up over ranges of values, and the actual value.

    Args:
        model: over pixels.
        image: ``(1, H, W)`` in [0, 1].
        places: rows and columns.
    """
    symbols = pixelcnn.as_symbols(image.unsqueeze(0))
    figure, grid = axes(2.4 * len(places), 4.2, 2, len(places), height_ratios=(2, 1.2))
    words, step = [], model.values // BARS
    for (above, below), (row, column) in zip(grid.T, places, strict=True):
        shares = pixelcnn.next_logits(model, symbols, row, column)[0, 0].softmax(-1)
        actual = int(symbols[0, 0, row, column])
        seen = image.clone()
        seen.flatten()[row * image.shape[-1] + column :] = 0.45
        tile(above, seen)
        above.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=WRONG, lw=2))
        grouped = shares.view(BARS, step).sum(1)
        below.bar(np.arange(BARS) * step + step / 2, 100 * grouped, step * 0.9, color=SERIES[3])
        below.axvline(actual, color=WRONG, linestyle="--")
        surprise = -math.log2(shares[actual])
        below.set(ylim=(0, 100), xlabel=f"value (surprise {surprise:.1f} bits)", xticks=(0, 128, 255))
        words.append(f"row {row}, column {column}: value {actual}, {surprise:.1f} bits of surprise")
    grid[1, 0].set_ylabel("probability (%)")
    for ax in grid[1, 1:]:
        ax.set_yticklabels([])
    return figure, (
        "An image up to a position, grey behind it, and below what the model expects there, as bars, with the actual"
        f" value as a dashed line. {'; '.join(words)}."
    )


def bits_table(records: Mapping[str, dict]) -> Markup:
    """Return the bits per symbol that each model needs for validation images, beside those of simpler ones."""
    rows = [
        [
            label(name),
            f"{record['symbols']['values']}",
            *(decimal(record["bits"][kind]) for kind in ("uniform", "independent", "model")),
            f"{len(record['history'])}",
        ]
        for name, record in records.items()
    ]
    columns = ["symbols", "values", "no knowledge", "each position by itself", "PixelCNN", "epochs"]
    return table(rows, columns, "Bits per pixel or code that are needed on average, on validation images.")


@picture
def gallery(pictures: Mapping[str, Sequence[np.ndarray]], alternative: str, coloured: Sequence[str] = ()):
    """Draw rows of pictures ``(H, W)`` in [0, 1] under their row's name; rows in ``coloured`` are maps of codes."""
    columns = max(map(len, pictures.values()))
    figure, grid = axes(0.85 * columns + 0.9, 0.95 * len(pictures), len(pictures), columns)
    for line, (name, shown) in zip(grid, pictures.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax, pixels in zip(line, shown, strict=True):
            drawn = names.code_colours(pixels) if name in coloured else pixels
            ax.imshow(drawn, cmap="gray", vmin=0, vmax=1, interpolation="none")
            tile(ax, None)
    return figure, alternative


def surprise_explorer(
    models: Mapping[str, PixelCNN],
    network: QNet,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    dataset: str = "mnist",
    kinds: Sequence[str] = ("fgsm", "signs"),
) -> w.VBox:
    """Return sliders over image, perturbation and epsilon: how surprising each pixel and each code is.

    Args:
        models: of pixels and of the codes of ``network``, by name.
        network: which also answers.
        images: ``(N, 1, H, W)`` clean, in [0, 1].
        labels: ``(N,)``.
        epsilons: from 0 up.
        dataset: as `likelihoods.perturbed` asks for it.
        kinds: names of `likelihoods.PERTURBATIONS`.
    """
    made = {kind: [likelihoods.perturbed(dataset, images, kind, eps) for eps in epsilons] for kind in kinds}
    maps = {
        (name, kind): [_bits(model, None if name == likelihoods.PIXELS else network, x) for x in made[kind]]
        for name, model in models.items()
        for kind in kinds
    }
    answers = {}
    with torch.no_grad():
        for kind in kinds:
            answers[kind] = [network(x).argmax(1) for x in made[kind]]
    top = 2.0 * math.ceil(max(m.mean((1, 2)).max() for steps in maps.values() for m in steps) / 2)
    shades = dict(zip(models, ((WRONG, "-"), (names.COLOURS["q-base"], "--")), strict=False))

    def page(image: int, which: int, step: int) -> str:
        kind, eps = kinds[which], epsilons[step]
        said, true = int(answers[kind][step][image]), int(labels[image])
        how = f"a {DIGITS[true]}, {LOOKS[kind][0]}, epsilon {eps:.2f}"
        cells = [
            slides.figure(
                slides.grey(made[kind][step][image, 0].numpy(), f"The image: {how}."),
                f"read as {DIGITS[said]} {'✓' if said == true else '✗'}",
            )
        ]
        curves = []
        for name in models:
            now = maps[name, kind][step][image]
            mean = now.mean()
            drawn = slides.grey(
                now / MOST, f"Surprise of the {label(name)}: {mean:.2f} bits each on average; {how}."
            )
            cells.append(slides.figure(drawn, f"{label(name)}, {mean:.2f} bits each"))
            colour, line = shades[name]
            ys = [m[image].mean() for m in maps[name, kind]]
            curves.append(slides.Curve(label(name), {"color": colour, "linestyle": line}, epsilons, ys))
        note = f"<p>Surprise: black is none, white {MOST} bits or more.</p>"
        title = "Surprise in bits per pixel or code, against epsilon"
        chart = slides.chart(title, curves, eps, f"{eps:.2f}", top=top, unit=" bits")
        return slides.grid([*cells, note], 3, 9) + chart

    digits = [f"{DIGITS[digit]} ({n + 1})" for n, digit in enumerate(labels.tolist())]
    controls = [
        choice("image", digits),
        choice("change", [LOOKS[kind][0] for kind in kinds]),
        slider("epsilon", [f"{eps:.2f}" for eps in epsilons], min(4, len(epsilons) - 1)),
    ]
    return explorer(controls, page)


@torch.no_grad()
def _bits(model: PixelCNN, network: QNet | None, images: Tensor) -> np.ndarray:
    """Return the surprise in bits of each position, the mean of its heads: ``(N, H, W)``."""
    nats = pixelcnn.surprise(model, likelihoods.encode(network, images))
    return nats.mean(1).numpy() / math.log(2)
