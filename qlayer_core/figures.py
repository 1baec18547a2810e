"""What the chapters on attacks and on the layer draw, and the small computations behind it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks, palette
from qlayer_core.drawing import GRID, MUTED, TEXT, axes, picture
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet

FIELD = 9  # side in pixels of what one position behind CNN A's convolutions sees of the image
STRIDE, PADDING = 2, 2  # between neighbouring fields, and outside the image


# ---- Attacks ----


@torch.no_grad()
def answers(model: attacks.Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class that a model answers with and its probability, each ``(N,)``."""
    probability, chosen = model(images).float().softmax(1).max(1)
    return chosen, probability


def accuracy(model: attacks.Model, images: Tensor, labels: Tensor) -> float:
    """Return the percentage of ``images`` that a model classifies as ``labels``."""
    return 100 * (answers(model, images)[0] == labels).float().mean().item()


def attack_path(
    model: attacks.Model, image: Tensor, label: int, *, eps: float, step: float = 0.01, iterations: int = 40
) -> Tensor:
    """Return the probability of ``label`` before and after each step of BIM, ``(iterations + 1,)``.

    Args:
        model: images to logits.
        image: ``(1, 1, 28, 28)`` in [0, 1].
        label: its class.
        eps: L-infinity bound.
        step: of one iteration.
        iterations: how many.
    """
    target, x, seen = torch.tensor([label]), image, []
    for _ in range(iterations + 1):
        with torch.no_grad():
            seen.append(model(x).float().softmax(1)[0, label])
        # One step from x, then back into the box around the image.
        x = attacks.fgsm(model, x, target, eps=step).clamp(image - eps, image + eps)
    return torch.stack(seen)


@picture
def gallery(model: attacks.Model, images: Tensor, attacked: Mapping[str, Tensor], labels: Tensor):
    """Draw images, and for each attack what it changed and the result, with the model's answers.

    Args:
        model: images to logits.
        images: ``(N, 1, 28, 28)`` in [0, 1], the clean ones.
        attacked: name of the attack to its images, each ``(N, 1, 28, 28)``.
        labels: ``(N,)``, the true classes.
    """
    rows = [("clean", images, False)]
    for name, made in attacked.items():
        rows += [(f"change\nby {name}", made - images, True), (name, made, False)]
    figure, grid = axes(1.05 * len(images) + 0.9, 1.17 * len(rows) + 0.1, len(rows), len(images))
    largest = max((made - images).abs().max().item() for made in attacked.values())
    words = []
    for line, (name, shown, change) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        for ax, tile in zip(line, shown, strict=True):
            _tile(ax, tile, largest if change else None)
        if not change:
            chosen, probability = answers(model, shown)
            for ax, answer, p, label in zip(line, chosen, probability, labels, strict=True):
                wrong = answer != label
                ax.set_xlabel(f"{answer}  {100 * p:.0f} %", fontweight="bold" if wrong else "normal", labelpad=2)
                _frame(ax, palette.COLOURS["cnn"] if wrong else GRID, 2.5 if wrong else 1)
            words.append(f"{name}: read as {', '.join(str(int(answer)) for answer in chosen)}")
    return figure, (
        f"Digits {', '.join(str(int(label)) for label in labels)}, what each attack changed, and the attacked"
        f" images with the network's answer; wrong answers are framed. {'; '.join(words)}."
    )


@picture
def gradient(model: attacks.Model, image: Tensor, label: int):
    """Draw an image ``(1, 1, 28, 28)``, the gradient of its loss in every pixel, and the gradient's sign."""
    x = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(x).float(), torch.tensor([label])), x)
    figure, grid = axes(6, 2.3, 1, 3)
    tiles = ((image, None), (slope, slope.abs().max().item()), (slope.sign(), 1.0))
    names = ("image", "gradient of the loss", "its sign")
    for ax, (tile, largest), name in zip(grid[0], tiles, names, strict=True):
        _tile(ax, tile[0], largest)
        ax.set_title(name)
    upwards = (slope > 0).float().mean().item()
    return figure, (
        f"A digit {label}; the gradient of its loss, large at few pixels near the strokes; and the gradient's sign,"
        f" full strength at every pixel, upwards in {100 * upwards:.0f} % of them."
    )


@picture
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    styles: Mapping[str, Mapping] | None = None,
    top: float | None = None,
):
    """Draw named curves with their names in a legend.

    Args:
        lines: name to the x and the y values of its points.
        x: what the x axis shows.
        y: what the y axis shows.
        styles: name to arguments of `matplotlib.axes.Axes.plot`, such as `palette.style`.
        top: upper end of the y axis, which starts at 0; left out, the axis fits the curves.
    """
    figure, grid = axes(6, 3.4)
    ax = grid[0, 0]
    fallback = zip(("-", "--", ":", "-."), "osD^", (*palette.COLOURS.values(), palette.NEUTRAL), strict=False)
    words = []
    for (name, (xs, ys)), (dash, marker, colour) in zip(lines.items(), fallback, strict=False):
        look = {"linestyle": dash, "marker": marker, "color": colour} | dict((styles or {}).get(name, {}))
        ax.plot(xs, ys, label=name, markevery=max(1, len(xs) // 10), **look)
        words.append(f"{name} from {ys[0]:.3g} at {xs[0]:g} to {ys[-1]:.3g} at {xs[-1]:g}")
    ax.set(xlabel=x, ylabel=y)
    if top is not None:
        ax.set_ylim(0, top)
    ax.legend()
    return figure, f"Curves of {y} against {x}: {'; '.join(words)}."


@picture
def margins(values: Mapping[str, Tensor]):
    """Draw the distribution of margins ``(N,)``, the label's logit minus the best other, one row a name."""
    everything = torch.cat(list(values.values()))
    edges = torch.linspace(everything.min().item(), everything.max().item(), 41).tolist()
    figure, grid = axes(6, 0.95 * len(values) + 0.5, len(values), 1, sharex=True)
    words = []
    for ax, (name, margin) in zip(grid[:, 0], values.items(), strict=True):
        for part, shade in (
            (margin[margin > 0], palette.COLOURS["q-base"]),
            (margin[margin <= 0], palette.COLOURS["cnn"]),
        ):
            ax.hist(part.tolist(), bins=edges, color=shade)
        ax.axvline(0, color=TEXT, linewidth=1)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        words.append(f"{name}: {100 * (margin <= 0).float().mean():.0f} % at or below zero")
    grid[-1, 0].set_xlabel("margin of the right class (logits)")
    return figure, f"Histograms of the margin; right of zero the answer is right. {'; '.join(words)}."


@picture
def matrix(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    x: str = "",
    y: str = "",
    text: str = "{:.1f}",
):
    """Draw a small table of non-negative numbers, shaded by size, with ``text`` formatting each."""
    table = np.asarray(values, dtype=float)
    figure, grid = axes(1.15 * len(columns) + 1.9, 0.55 * len(rows) + 1)
    ax = grid[0, 0]
    highest = max(table.max(), 1e-12)
    for (i, j), value in np.ndenumerate(table):
        share = value / highest
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=palette.COLOURS["q-base"], alpha=0.4 * share, lw=0))
        ax.text(j, i, text.format(value), ha="center", va="center")
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel=x, ylabel=y)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    words = [
        f"{row}: " + ", ".join(f"{column} {text.format(v)}" for column, v in zip(columns, line, strict=True))
        for row, line in zip(rows, table, strict=True)
    ]
    return figure, f"Table. {'; '.join(words)}."


# ---- The layer ----


def code_order(layer: QLayer, head: int = 0) -> Tensor:
    """Return the place of each code, ``(codebook_size,)`` in [0, 1], along the main direction of the codebook.

    Colours taken from these places are alike where codes are.
    """
    codes = layer.codebook[head].detach()
    along = (codes - codes.mean(0)) @ torch.linalg.svd(codes - codes.mean(0), full_matrices=False).Vh[0]
    return along.argsort().argsort() / max(1, len(codes) - 1)


def perplexity(indices: Tensor, codebook_size: int) -> float:
    """Return how many codes are in use, as the exponential of the entropy of their usage."""
    share = torch.bincount(indices.flatten(), minlength=codebook_size) / indices.numel()
    return torch.special.entr(share).sum().exp().item()


def patches_of_code(
    images: Tensor, panels: Tensor, code: Tensor, chosen: Tensor, count: int = 8
) -> Tensor:
    """Return what the positions saw that are nearest to a code, ``(at most count, 9, 9)``, nearest first.

    Args:
        images: ``(N, 1, 28, 28)``.
        panels: ``(N, dim, 12, 12)``, one head of `QLayer.project`.
        code: ``(dim,)``.
        chosen: ``(N, 12, 12)`` bool, the positions that chose this code.
        count: how many, at most one an image.
    """
    distance = (panels - code.view(1, -1, 1, 1)).square().sum(1).masked_fill(~chosen, torch.inf)  # (N, 12, 12)
    nearest, where = distance.flatten(1).min(1)
    order = nearest.argsort()[: min(count, int(nearest.isfinite().sum()))]
    padded = F.pad(images[:, 0], [PADDING] * 4)
    found = []
    for i in order.tolist():
        row, column = (STRIDE * place for place in divmod(int(where[i]), chosen.shape[-1]))
        found.append(padded[i, row : row + FIELD, column : column + FIELD])
    return torch.stack(found) if found else images.new_empty(0, FIELD, FIELD)


def losses_reach(net: QNet, images: Tensor, labels: Tensor) -> tuple[list[str], list[str], list[list[float]]]:
    """Return the names of the four losses, of the network's parts, and the norm of each loss's gradient there.

    The network may be in evaluation mode: what reaches what does not depend on it.
    """
    out = net(images, path="both")
    codebook_loss, commitment_loss = net.layer.losses(out.layer)
    losses = {
        "$L_Q$": F.cross_entropy(out.q, labels),
        "$L_E$": F.cross_entropy(out.e, labels),
        "codebook": codebook_loss,
        "commitment": commitment_loss,
    }
    parts = {
        "encoder": net.encoder.parameters(),
        "gate": [p for module in (net.layer.gate, net.layer.gate_norm) if module for p in module.parameters()],
        "codebook": [net.layer.codebook],
        "tail Q": net.tail_q.parameters(),
        "tail E": net.tail_e.parameters(),
    }
    table = []
    weights = {name: list(parameters) for name, parameters in parts.items()}
    for loss in losses.values():
        line = []
        for parameters in weights.values():
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            line.append(sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5)
        table.append(line)
    return list(losses), list(weights), table


@torch.no_grad()
def drift(
    net: QNet, images: Tensor, attack: Callable[[float], Tensor], epsilons: Sequence[float]
) -> dict[str, list[float]]:
    """Return, for each epsilon, how far the attack moves what the tails see, in percent.

    Args:
        net: in evaluation mode.
        images: ``(N, 1, 28, 28)``, the clean ones.
        attack: epsilon to the attacked images.
        epsilons: the budgets.

    Returns:
        ``"codes"`` the share of positions whose code changed; ``"projected"`` and ``"quantized"`` the length of
        the change divided by the length of the clean representation, mean over images.
    """
    clean = net.layer(net.encoder(images))
    found: dict[str, list[float]] = {"codes": [], "projected": [], "quantized": []}
    for eps in epsilons:
        moved = net.layer(net.encoder(attack(eps)))
        found["codes"].append(100 * (moved.indices != clean.indices).float().mean().item())
        for name in ("projected", "quantized"):
            before, after = getattr(clean, name).flatten(1), getattr(moved, name).flatten(1)
            found[name].append(100 * ((after - before).norm(dim=1) / before.norm(dim=1)).mean().item())
    return found


@picture
def features(image: Tensor, z: Tensor, projected: Tensor, channels: int = 5):
    """Draw an image ``(1, 1, 28, 28)`` and its strongest channels before and behind the gate, ``(1, C, 12, 12)``."""
    strongest = z[0].flatten(1).norm(dim=1).topk(channels).indices
    figure, grid = axes(1.05 * (channels + 1) + 0.9, 2.7, 2, channels + 1)
    for line, name, maps in zip(grid, ("before\nthe gate", "behind\nthe gate"), (z, projected), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        _tile(line[0], image[0])
        for ax, channel in zip(line[1:], strongest.tolist(), strict=True):
            ax.imshow(maps[0, channel].detach().numpy(), cmap="viridis", interpolation="none", vmin=0)
            _tile(ax, None)
    for ax, channel in zip(grid[0, 1:], strongest.tolist(), strict=True):
        ax.set_title(f"ch. {channel}", pad=3)
    return figure, (
        f"A digit and its {channels} strongest feature channels, 12 by 12 positions each, before and behind the gate."
    )


@picture
def code_maps(
    layer: QLayer, rows: Mapping[str, Tensor], indices: Mapping[str, Tensor], head: int = 0, mark: bool = False
):
    """Draw images above the map of codes that their positions chose.

    Args:
        layer: whose codes they are.
        rows: name to images ``(N, 1, 28, 28)``.
        indices: the same names to ``(heads, N, 12, 12)``.
        head: which head's map.
        mark: frame the positions whose code differs from the first row's.
    """
    place = code_order(layer, head)
    names = list(rows)
    count = len(rows[names[0]])
    figure, grid = axes(1.15 * count + 1, 2.4 * len(names), 2 * len(names), count)
    words = []
    for n, name in enumerate(names):
        first, now = indices[names[0]][head], indices[name][head]
        grid[2 * n, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        grid[2 * n + 1, 0].set_ylabel("codes", rotation=0, ha="right", va="center")
        for i in range(count):
            _tile(grid[2 * n, i], rows[name][i])
            ax = grid[2 * n + 1, i]
            ax.imshow(place[now[i]].numpy(), cmap="viridis", interpolation="none", vmin=0, vmax=1)
            _tile(ax, None)
            changed = now[i] != first[i]
            if mark and n:
                for y, x in changed.nonzero().tolist():
                    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=palette.COLOURS["cnn"], lw=1))
                ax.set_xlabel(f"{100 * changed.float().mean():.0f} % changed", labelpad=2)
        if n and mark:
            words.append(f"{name}: {100 * (now != first).float().mean():.0f} % of the codes changed")
        else:
            words.append(f"{name}: {len(now.unique())} different codes")
    return figure, f"Digits and, below each, the 12 by 12 map of the codes chosen. {'; '.join(words)}."


@picture
def code_space(panels: Tensor, codes: Tensor, chosen: Tensor):
    """Draw panels ``(M, dim)`` and codes ``(n, dim)`` in the plane where the panels spread most.

    Args:
        panels: gated vectors.
        codes: of one head.
        chosen: ``(M,)``, which code each panel chose.
    """
    centre = panels.mean(0)
    spread = torch.linalg.svd(panels - centre, full_matrices=False)
    plane = spread.Vh[:2].T
    points, ends = (panels - centre) @ plane, (codes - centre) @ plane
    used = torch.bincount(chosen, minlength=len(codes)) > 0
    figure, grid = axes(6, 4.2)
    ax = grid[0, 0]
    ax.plot(*points.T.tolist(), ".", color=palette.NEUTRAL, markersize=3, alpha=0.5, label="panels")
    for mask, marker, shade, name in (
        (used, "D", palette.COLOURS["q-base"], "codes in use"),
        (~used, "x", palette.COLOURS["cnn"], "codes not in use"),
    ):
        ax.plot(*ends[mask].T.tolist(), marker, color=shade, markersize=7, linestyle="none", label=name)
    share = 100 * spread.S[:2].square().sum() / spread.S.square().sum()
    ax.set(xlabel="first principal direction", ylabel="second")
    ax.legend(loc="best")
    return figure, (
        f"{len(panels)} panels as points in the plane of their two main directions, which holds {share:.0f} % of their"
        f" variance, and {len(codes)} codes, {int(used.sum())} of them in use."
    )


@picture
def usage(indices: Tensor, codebook_size: int):
    """Draw how often each code was chosen, most used first; ``indices`` is one head's, of any shape."""
    counts = torch.bincount(indices.flatten(), minlength=codebook_size).sort(descending=True).values
    share = 100 * counts / counts.sum()
    figure, grid = axes(6, 2.8)
    ax = grid[0, 0]
    ax.bar(range(1, codebook_size + 1), share.tolist(), color=palette.COLOURS["q-base"])
    ax.set(xlabel="code, most used first", ylabel="share of positions (%)")
    silent = int((counts == 0).sum())
    number = perplexity(indices, codebook_size)
    ax.text(0.98, 0.9, f"perplexity {number:.1f} of {codebook_size}", ha="right", transform=ax.transAxes)
    ax.text(0.98, 0.78, f"{silent} codes not chosen", ha="right", transform=ax.transAxes)
    return figure, (
        f"Bars of code usage: the most used code has {share[0]:.1f} % of all positions, {silent} of {codebook_size} codes"
        f" were not chosen; perplexity {number:.1f}."
    )


@picture
def patches(found: Mapping[int, Tensor]):
    """Draw for each code, a row, the patches ``(count, 9, 9)`` that are nearest to it."""
    count = max(len(tiles) for tiles in found.values())
    figure, grid = axes(0.62 * count + 1.2, 0.66 * len(found), len(found), count)
    for line, (code, tiles) in zip(grid, found.items(), strict=True):
        line[0].set_ylabel(f"code {code}", rotation=0, ha="right", va="center")
        for i, ax in enumerate(line):
            if i < len(tiles):
                _tile(ax, tiles[i].unsqueeze(0))
            else:
                ax.set_axis_off()
    return figure, (
        f"For each of {len(found)} codes a row of 9 by 9 pixel patches of digits that are nearest to it; patches in a"
        " row look alike."
    )


def _tile(ax, image: Tensor | None, largest: float | None = None) -> None:
    """Show an image ``(1, H, W)``, white on black, or a signed change up to ``largest``; None: only tidy ``ax``."""
    if image is not None:
        shown = image[0].detach().float().numpy()
        if largest is None:
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none")
        else:
            ax.imshow(shown, cmap="PuOr", vmin=-largest or -1, vmax=largest or 1, interpolation="none")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    _frame(ax, GRID, 1)


def _frame(ax, colour: str, width: float) -> None:
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)


__all__ = [name for name, value in globals().items() if callable(value) and not name.startswith("_")]
