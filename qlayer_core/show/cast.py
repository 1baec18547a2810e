"""The cast of networks: how each is built, what it is for and what is there of it, read from grid and records."""

from dataclasses import replace
from html import escape

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from qlayer_core import datasets, models
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.show import names, switches
from qlayer_core.show.page import DASH, Markup, table, wrapped
from qlayer_core.show.plot import MUTED, axes, picture
from qlayer_core.specs import PRINTED, RunSpec
from qlayer_core.study import experiments, paper, records

GROUPS = (
    "targets",
    "inside the layer",
    "on CNN B",
    "attackers and judges",
    "adversarially trained",
    "other quantizers",
)
WIDE, HIGH = 0.8, 0.6  # a drawing's boxes, which stand in steps of 1


def group(name: str) -> str:
    """Return to which of `GROUPS` a network of the grid belongs."""
    spec = experiments.spec(name)
    if name in (*experiments.SOURCES.values(), experiments.VALIDATION_SOURCE):
        return GROUPS[3]
    if name in experiments.ON_CNN_B:
        return GROUPS[2]
    if spec.quantizer:
        return GROUPS[5]
    if spec.adversarial:
        return GROUPS[4]
    return GROUPS[0] if name in experiments.TARGETS or spec.layer is None else GROUPS[1]


def members(of: str) -> list[str]:
    """Return the networks of a group, in the order of the grid."""
    if of not in GROUPS:
        raise ValueError(f"there is no group {of!r}; choose one of {', '.join(GROUPS)}")
    return [name for name in experiments.RUNS if group(name) == of]


def parts(module: nn.Module) -> list[str]:
    """Return what a network's module does to its input, one label per layer with weights, in order."""
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
            found.append(
                f"convolution\n{layer.out_channels} of {' x '.join(map(str, layer.kernel_size))}{stride}"
            )
        elif isinstance(layer, nn.Linear):
            found.append(f"dense\n{layer.out_features}")
        elif isinstance(layer, QLayer):
            heads = f"{layer.heads} head{'s' if layer.heads > 1 else ''}"
            found.append(f"Q-Layer\n{heads}, {layer.codebook_size} codes")
    return found


def parameters(name: str) -> int:
    """Return how many numbers a network of the grid learns."""
    return switches.parameters(records.build(experiments.spec(name)))


def role(name: str) -> str:
    """Return in words what a network of the grid is for, from its `RunSpec`."""
    spec = experiments.spec(name)
    if name in experiments.SOURCES.values():
        return "makes the images of black-box attacks"
    if name == experiments.VALIDATION_SOURCE:
        return "makes the attacked half of the mixed set, which chooses the epoch that is kept"
    if spec.architecture == "b" and spec.layer is None:
        return "CNN B as a target: what CNN B with the layer is held against"
    if spec.adversarial:
        words = f"{names.label(spec.raw_name)}, trained further, on images attacked as it learns"
        return f"{words}, as the paper prints it" if PRINTED in name else words
    if spec.quantizer:
        return "the plain CNN behind a quantizer of its input, trained with it"
    if spec.layer is None:
        if spec.selection == "clean":
            return "the plain CNN, kept at the epoch that is best on clean images alone"
        if name == experiments.CONTROL:
            return "the plain CNN, trained by the settings of Q-base and Q-large: no dropout, no L2, RAdam"
        return "the plain CNN: what every network with the layer is held against"
    layer = spec.layer
    words = f"{layer.heads} head{'s' if layer.heads > 1 else ''} of {layer.codebook_size} codes"
    if spec.architecture == "b":
        words = f"CNN B with the layer, {words}"
    if layer.position == "between":
        words += ", between the two convolutions"
    if layer.shared_tail:
        words += ", one tail for both paths"
    return words


def appears(name: str) -> str:
    """Return in which of the paper's tables a network is scored, or makes the images: ``"1a, 2a"``."""
    of = {label for label, source in experiments.SOURCES.items() if source == name}
    found = [
        number
        for number, one in paper.TABLES.items()
        if any(cell.model == name or cell.source in of for cell in one.cells)
    ]
    return ", ".join(found) or DASH


def recorded(name: str) -> str:
    """Return for which data sets results of a network are recorded, and of how many seeds: ``"MNIST 1"``."""
    found = []
    for dataset in datasets.DATASETS:
        seeds = len(list((records.RESULTS / dataset / name).glob("seed*.json")))
        if seeds:
            found.append(f"{names.DATASETS[dataset]} {seeds}")
    return ", ".join(found) or "not yet"


def released(name: str) -> str:
    """Return for which data sets a network's weights are part of the book, with their size."""
    files = [(dataset, records.unit(dataset, name).released) for dataset in datasets.DATASETS]
    found = [
        f"{names.DATASETS[dataset]} {path.stat().st_size / 1e6:.1f} MB"
        for dataset, path in files
        if path.exists()
    ]
    return ", ".join(found) or DASH


def cast(of: str) -> Markup:
    """Return a group's networks as a table: name, role, parameters, tables, what is recorded and released."""
    rows = [
        [
            _called(name),
            wrapped(escape(role(name)), 8),
            f"{parameters(name):,}",
            wrapped(appears(name), 4.5),
            wrapped(
                recorded(name).replace(", ", "<br>"), 5.5
            ),  # all six columns in sight beside the contents
            wrapped(released(name).replace(", ", "<br>"), 5.5),
        ]
        for name in members(of)
    ]
    there = [names.label(name) for name in members(of) if released(name) != DASH]
    return table(
        rows,
        [
            "network",
            "what it is for",
            "parameters",
            "in the paper&rsquo;s tables",
            "seeds recorded",
            "weights in the book",
        ],
        f"Networks: {of}. Weights in the book: {'; '.join(there) or 'none'}.",
    )


def drawing(name: str) -> Markup:
    """Draw a network of the grid: one box per layer with weights, from the image to the logits of its paths.

    It is there twice, lying and upright; the page shows the one that it has room for.
    """
    lying, upright = _drawing(name), _drawing(name, upright=True)
    return Markup(
        f'<div class="lying">{lying.html}</div><div class="upright" hidden>{upright.html}</div>', lying.text
    )


@picture
def _drawing(name: str, upright: bool = False):
    model = models.build(experiments.spec(name))
    trunk, tails = [], {"answer": parts(model)}
    if isinstance(model, QNet):
        trunk = [*parts(model.encoder), *parts(model.layer)]
        tails = {"Q-path": parts(model.tail_q), "E-path": parts(model.tail_e)} if model.tail_e else {}
        tails = tails or {"Q-path and\nE-path": parts(model.tail_q)}
    forks = len(tails) > 1
    steps = len(trunk) + len(next(iter(tails.values()))) + 2
    side = 1.05 if forks else 0.45
    if upright:
        figure, grid = axes(2.1 * side, 0.75 * steps - 0.5)
        grid[0, 0].set(xlim=(-side, side), ylim=(1.25 - steps, 0.35))
    else:
        figure, grid = axes(1.05 * steps, 1.6 if forks else 0.8)
        grid[0, 0].set(xlim=(-0.5, steps - 0.7), ylim=(-side, side))
    ax = grid[0, 0]
    ax.axis("off")

    def place(step: float, line: float) -> tuple[float, float]:
        return (-line, -step) if upright else (step, line)

    shade = names.colour(name)
    for step, text in enumerate(("image\n" + " x ".join(map(str, models.SHAPE[1:])), *trunk)):
        colour = shade if text.startswith("Q-Layer") else MUTED
        _box(ax, place(step, 0), text, colour, filled=step > 0)
        if step:
            _arrow(ax, place(step - 1, 0), place(step, 0))
    for (path, labels), line in zip(tails.items(), (0.62, -0.62) if forks else (0, 0), strict=False):
        before = place(len(trunk), 0)
        for step, text in enumerate(labels, len(trunk) + 1):
            here = place(step, line)
            _box(ax, here, text, MUTED)
            _arrow(ax, before, here)
            before = here
        gap, ha, va = (0.35, "center", "top") if upright else (0.5, "left", "center")
        ax.text(*place(step + gap, line), path, ha=ha, va=va, fontsize=9)
    way = ", ".join(("image", *trunk))
    ends = "; ".join(f"{path}: {', '.join(labels)}" for path, labels in tails.items())
    return figure, f"{names.label(name)}: {way}. Then {ends}.".replace("\n", " ")


def alike(name: str, other: str) -> bool:
    """Return whether two networks of the grid are built alike, and differ in their training alone."""
    one, two = (_built(experiments.spec(each)) for each in (name, other))
    return one == two


def _called(name: str) -> str:
    """Return how the text and the command line call a network, as HTML; once where both say the same."""
    label, code = names.label(name), f"<code>{name}</code>"
    shown = escape(label).replace(
        "discretisation", "discreti&shy;sation"
    )  # wider than a phone's first column
    return code if label == name else wrapped(f"{shown}<br><small>{code}</small>", 7.5)


def _built(spec: RunSpec) -> tuple:
    return (
        spec.architecture,
        spec.quantizer,
        spec.layer and replace(spec.layer, start="random"),
        spec.initialisation,
    )


def _box(ax: Axes, centre: tuple[float, float], text: str, colour: str, *, filled: bool = True) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (centre[0] - WIDE / 2, centre[1] - HIGH / 2),
            WIDE,
            HIGH,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=colour if filled else "none",
            edgecolor=colour,
            alpha=0.25 if filled else 1,
            linewidth=1,
        )
    )
    ax.text(*centre, text.replace(", ", ",\n"), ha="center", va="center", fontsize=8.5, linespacing=1.1)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow from one box to the next, to its right or below it."""
    lies = end[0] - start[0] > start[1] - end[1]
    right, down = (WIDE / 2, 0) if lies else (0, HIGH / 2)
    look = {"arrowstyle": "->", "color": MUTED, "linewidth": 1}
    ax.annotate("", (end[0] - right, end[1] + down), (start[0] + right, start[1] - down), arrowprops=look)
