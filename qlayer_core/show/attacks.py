"""What the chapters on attacks and on the layer draw, and the small computations behind it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from qlayer_core import attacks, codes, palette
from qlayer_core.drawing import GRID, SERIES, TEXT, WRONG, axes, picture
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet

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
    figure, grid = axes(0.82 * len(images) + 0.85, 0.94 * len(rows) + 0.1, len(rows), len(images))
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
                ax.set_xlabel(
                    f"{answer} ({100 * p:.0f} %)", fontweight="bold" if wrong else "normal", labelpad=2
                )
                _frame(ax, WRONG if wrong else GRID, 2.5 if wrong else 1)
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
def margins(values: Mapping[str, Tensor]):
    """Draw the distribution of margins ``(N,)``, the label's logit minus the best other, one row a name."""
    everything = torch.cat(list(values.values()))
    width = (everything.max() - everything.min()).item() / 40 or 1
    first, last = (int(end.item() // width) for end in (everything.min(), everything.max()))
    edges = [width * i for i in range(first, last + 2)]  # one of them is zero
    figure, grid = axes(6, 0.95 * len(values) + 0.5, len(values), 1, sharex=True)
    words = []
    for ax, (name, margin) in zip(grid[:, 0], values.items(), strict=True):
        for part, shade in (
            (margin[margin > 0], palette.NEUTRAL),
            (margin[margin <= 0], WRONG),
        ):
            ax.hist(part.tolist(), bins=edges, color=shade)
        ax.axvline(0, color=TEXT, linewidth=1)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        words.append(f"{name}: {100 * (margin <= 0).float().mean():.0f} % at or below zero")
    grid[-1, 0].set_xlabel("margin of the right class (logits)")
    return figure, f"Histograms of the margin; right of zero the answer is right. {'; '.join(words)}."


# ---- The layer ----


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
        "gate": [
            p for module in (net.layer.gate, net.layer.gate_norm) if module for p in module.parameters()
        ],
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
    figure, grid = axes(0.85 * (channels + 1) + 0.8, 2.2, 2, channels + 1)
    for line, name, maps in zip(grid, ("before\nthe gate", "behind\nthe gate"), (z, projected), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax, channel in zip(line[1:], strongest.tolist(), strict=True):
            ax.imshow(maps[0, channel].detach().numpy(), cmap="viridis", interpolation="none", vmin=0)
            _tile(ax, None)
    _tile(grid[0, 0], image[0])
    _tile(grid[1, 0], torch.zeros_like(image[0]), 1)
    for ax, channel in zip(grid[0, 1:], strongest.tolist(), strict=True):
        ax.set_title(f"ch. {channel}", pad=3)
    return figure, (
        f"A digit and its {channels} strongest feature channels, 12 by 12 positions each, before and behind the gate."
    )


@picture
def code_maps(
    layer: QLayer,
    rows: Mapping[str, Tensor],
    indices: Mapping[str, Tensor],
    head: int = 0,
    mark: bool = False,
):
    """Draw images above the map of codes that their positions chose.

    Args:
        layer: whose codes they are.
        rows: name to images ``(N, 1, 28, 28)``.
        indices: the same names to ``(heads, N, 12, 12)``.
        head: which head's map.
        mark: frame the positions whose code differs from the first row's.
    """
    place = codes.along_main_direction(layer, list(indices.values()))[head]
    names = list(rows)
    count = len(rows[names[0]])
    figure, grid = axes(0.9 * count + 0.8, 1.95 * len(names), 2 * len(names), count)
    words = []
    for n, name in enumerate(names):
        first, now = indices[names[0]][head], indices[name][head]
        grid[2 * n, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        grid[2 * n + 1, 0].set_ylabel(
            "codes,\nchanged" if mark and n else "codes", rotation=0, ha="right", va="center"
        )
        for i in range(count):
            _tile(grid[2 * n, i], rows[name][i])
            ax = grid[2 * n + 1, i]
            ax.imshow(place[now[i].numpy()], cmap="viridis", interpolation="none", vmin=0, vmax=1)
            _tile(ax, None)
            changed = now[i] != first[i]
            if mark and n:
                for y, x in changed.nonzero().tolist():
                    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=WRONG, lw=1))
                ax.set_xlabel(f"{100 * changed.float().mean():.0f} %", labelpad=2)
        if n and mark:
            words.append(f"{name}: {100 * (now != first).float().mean():.0f} % of the codes changed")
        else:
            words.append(f"{name}: {len(now.unique())} different codes")
    return figure, f"Digits and, below each, the 12 by 12 map of the codes chosen. {'; '.join(words)}."


@picture
def code_space(panels: Tensor, codebook: Tensor, chosen: Tensor):
    """Draw panels ``(M, dim)`` and a head's codes ``(n, dim)`` in the plane where the panels spread most.

    Args:
        panels: gated vectors.
        codebook: of one head.
        chosen: ``(M,)``, which code each panel chose.
    """
    centre = panels.mean(0)
    spread = torch.linalg.svd(panels - centre, full_matrices=False)
    plane = spread.Vh[:2].T
    points, ends = (panels - centre) @ plane, (codebook - centre) @ plane
    used = torch.bincount(chosen, minlength=len(codebook)) > 0
    figure, grid = axes(6, 4.2)
    ax = grid[0, 0]
    ax.plot(*points.T.tolist(), ".", color=palette.NEUTRAL, markersize=3, alpha=0.5, label="panels")
    for mask, marker, shade, name in (
        (used, "D", SERIES[0], "codes in use"),
        (~used, "x", WRONG, "codes not in use"),
    ):
        ax.plot(*ends[mask].T.tolist(), marker, color=shade, markersize=7, linestyle="none", label=name)
    share = 100 * spread.S[:2].square().sum() / spread.S.square().sum()
    ax.set(xlabel="first principal direction", ylabel="second")
    ax.legend(loc="best")
    return figure, (
        f"{len(panels)} panels as points in the plane of their two main directions, which holds {share:.0f} % of"
        f" their variance, and {len(codebook)} codes, {int(used.sum())} of them in use."
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
