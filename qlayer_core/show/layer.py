"""What the chapter on the layer draws: the gate's channels, maps of codes, codes among panels, what losses reach."""

from collections.abc import Mapping

import torch
from torch import Tensor

from qlayer_core import codes
from qlayer_core.layer import QLayer
from qlayer_core.show import names
from qlayer_core.show.page import Markup
from qlayer_core.show.plot import MUTED, SERIES, WRONG, axes, frame, matrix, picture, tile

LOSSES = {"q": "$L_Q$", "e": "$L_E$", "codebook": "codebook", "commitment": "commitment"}


@picture
def features(image: Tensor, z: Tensor, projected: Tensor, channels: int = 5):
    """Draw an image and its channels that are strongest after the gate, before and after it.

    All maps have one scale, from 0, black, to the largest value before the gate.

    Args:
        image: ``(1, 1, H, W)``.
        z: ``(1, C, h, w)``, the features.
        projected: the same shape, after the gate of one head.
        channels: how many to draw.
    """
    strongest = projected[0].flatten(1).norm(dim=1).topk(channels).indices.tolist()
    figure, grid = axes(0.85 * (channels + 1) + 0.8, 2.2, 2, channels + 1)
    largest = z[0, strongest].max().item()
    for line, name, maps in zip(grid, ("before\nthe gate", "after\nthe gate"), (z, projected), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax, channel in zip(line[1:], strongest, strict=True):
            shown = maps[0, channel].detach().float().numpy()
            ax.imshow(shown, cmap="gray", interpolation="none", vmin=0, vmax=largest or 1)
            tile(ax, None)
    tile(grid[0, 0], image[0])
    tile(grid[1, 0], None)
    frame(grid[1, 0], "none", 0)  # there is no second image
    for ax, channel in zip(grid[0, 1:], strongest, strict=True):
        ax.set_title(f"ch. {channel}", pad=3)
    kept = 100 * projected[0, strongest].sum().item() / (z[0, strongest].sum().item() or 1)
    return figure, (
        f"A digit and the {channels} feature channels that are strongest after the gate, before and after it, all"
        f" on one scale: the gate passes {kept:.0f} % of what these channels hold."
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
        rows: name to images ``(N, 1, H, W)``.
        indices: the same names to ``(heads, N, h, w)``.
        head: which head's map.
        mark: put a dot on the positions whose code differs from the first row's.
    """
    colours = names.code_colours(codes.along_main_direction(layer.codebook)[head])
    first = indices[next(iter(rows))][head]
    count = len(first)
    side = 1 if count > 1 else 1.7  # there is room to draw a single image larger
    figure, grid = axes(0.9 * side * count + 1.1, 1.95 * side * len(rows), 2 * len(rows), count)
    words = []
    for n, (name, images) in enumerate(rows.items()):
        now, marked = indices[name][head], mark and n > 0
        grid[2 * n, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        below = "codes,\nchanged" if marked else "codes"
        grid[2 * n + 1, 0].set_ylabel(below, rotation=0, ha="right", va="center")
        for i, ax in enumerate(grid[2 * n + 1]):
            tile(grid[2 * n, i], images[i])
            ax.imshow(colours[now[i].numpy()], interpolation="none")
            tile(ax, None)
            if marked:
                changed = now[i] != first[i]
                y, x = changed.nonzero(as_tuple=True)
                ax.plot(
                    x,
                    y,
                    "o",
                    markersize=2.2 * side,
                    color="white",
                    markeredgecolor="black",
                    markeredgewidth=0.6 * side,
                )
                ax.set_xlabel(f"{100 * changed.float().mean():.0f} %", labelpad=2)
        if marked:
            words.append(f"{name}: {100 * (now != first).float().mean():.0f} % of the codes changed")
        else:
            words.append(f"{name}: {len(now.unique())} different codes")
    return figure, f"Digits and, below each, the map of the codes chosen. {'; '.join(words)}."


@picture
def code_space(panels: Tensor, codebook: Tensor, chosen: Tensor):
    """Draw panels ``(M, dim)`` and a head's codes ``(n, dim)`` in the plane of the panels' spread, all and closer.

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
    figure, grid = axes(6.4, 3.9, 1, 2)
    for ax, title in zip(grid[0], ("all", "closer to the codes"), strict=True):
        ax.plot(*points.T.tolist(), ".", color=MUTED, markersize=3, alpha=0.6, label="positions")
        for mask, marker, shade, name in (
            (used, "D", SERIES[0], "codes in use"),
            (~used, "x", WRONG, "codes not in use"),
        ):
            ax.plot(*ends[mask].T.tolist(), marker, color=shade, markersize=5, linestyle="none", label=name)
        ax.set(title=title, xlabel="first principal direction")
    share = 100 * spread.S[:2].square().sum() / spread.S.square().sum()
    grid[0, 0].set_ylabel("second principal direction")
    low, high = ends.amin(0), ends.amax(0)
    (left, bottom), (right, top) = (low - (high - low) / 8).tolist(), (high + (high - low) / 8).tolist()
    grid[0, 1].set(xlim=(left, right), ylim=(bottom, top))
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, (
        f"The vectors of {len(panels)} positions as points in the plane of their two main directions, which holds"
        f" {share:.0f} % of their variance, and {len(codebook)} codes, {int(used.sum())} of them in use."
    )


def reach(norms: Mapping[str, Mapping[str, float]]) -> Markup:
    """Draw the gradient norms of `codes.losses_reach`, shaded where they are not zero."""
    parts = list(next(iter(norms.values())))
    values = [[line[part] for part in parts] for line in norms.values()]
    where = "length of the gradient in"
    return matrix(values, [LOSSES[name] for name in norms], parts, x=where, text="{:.2g}", flat=True)
