"""What codebooks can hold without any training: k-means codes of every size behind an encoder and gates that stay.

The networks of Table 8 are trained, each with codes of its own. Here the encoder and the four gates of one released
network are kept, and only the codebooks are exchanged for k-means ones. It asks what size and number of codebooks do
by themselves; nothing here is a trained network of the ablation.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from qlayer_core.layer import QLayer
from qlayer_core.machine import autocast, seeded
from qlayer_core.models import QNet
from qlayer_core.show import heat
from qlayer_core.show.controls import choice, explorer
from qlayer_core.show.switches import SIZES

MEASURES = {  # what is measured, and how the chapter calls it
    "lost": "lost: % of the features' variance that a linear reading of the codes misses",
    "changed": "changed: % of the positions at which an attack changes at least one head's choice",
    "moved": "moved: what an attack changes in the reading, in % of what it changes in the features",
}
GROUPS = {
    1: ((0,), (1,), (2,), (3,)),
    2: ((0, 1), (2, 3)),
    4: ((0, 1, 2, 3),),
}  # heads that are used together
RIDGE = 0.1  # keeps codes that are never chosen at zero
Found = Mapping[str, Mapping[heat.Place, Sequence[float]]]


@torch.no_grad()
def measure(
    network: QNet, fit: Tensor, images: Tensor, attacked: Tensor, sizes: Sequence[int] = SIZES, seed: int = 0
) -> dict[str, dict[heat.Place, list[float]]]:
    """Return what k-means codebooks of each size keep and pass on, for one, two and four of a network's heads.

    Args:
        network: with four gated heads, in evaluation mode; its encoder and gates are used, its codebooks are not.
        fit: images ``(M, 1, H, W)`` from which codebooks and linear readings are made.
        images: clean ones that they are measured on, ``(N, 1, H, W)``.
        attacked: the same, attacked.
        sizes: codes per head.
        seed: of k-means.

    Returns:
        By measure, see `MEASURES`, and ``(heads, codes)``: percentages, one for each group of heads. A reading is the
        linear map from the heads' chosen codes, one-hot, to the features, fitted by least squares: what a tail can
        get out of the codes by weighing them.
    """
    maps = [_features(network, batch) for batch in (fit, images, attacked)]
    features = [_panels(z) for z in maps]
    found: dict[str, dict[heat.Place, list[float]]] = {name: {} for name in MEASURES}
    for codes in sizes:
        layer = _k_means(network.layer, codes, maps[0], seed)
        chosen = [layer(z).indices.flatten(1) for z in maps]  # (heads, positions) each
        for heads, groups in GROUPS.items():
            place = heads, codes
            for group in groups:
                values = _values([indices[list(group)] for indices in chosen], codes, features)
                for name, value in values.items():
                    found[name].setdefault(place, []).append(value)
    return {name: dict(sorted(values.items())) for name, values in found.items()}


@torch.no_grad()
def own(network: QNet, fit: Tensor, images: Tensor, attacked: Tensor) -> dict[str, float]:
    """Return the same of a network's own, trained codes and all of its heads, by measure; arguments as `measure`."""
    maps = [_features(network, batch) for batch in (fit, images, attacked)]
    chosen = [network.layer(z).indices.flatten(1) for z in maps]
    return _values(chosen, network.layer.codebook_size, [_panels(z) for z in maps])


def _values(chosen: Sequence[Tensor], codes: int, features: Sequence[Tensor]) -> dict[str, float]:
    """Return each measure in percent, from the choices ``(heads, positions)`` and features ``(positions, dim)``.

    Both are of the images that the reading is fitted on, of the clean and of the attacked ones.
    """
    rows = [_one_hot(indices, codes) for indices in chosen]
    weights = _least_squares(rows[0], features[0])
    clean, moved = (row @ weights for row in rows[1:])
    spread = (features[1] - features[0].mean(0)).square().sum()
    push = (features[2] - features[1]).square().sum()
    values = {
        "lost": (clean - features[1]).square().sum() / spread,
        "changed": (chosen[1] != chosen[2]).any(0).float().mean(),
        "moved": ((moved - clean).square().sum() / push).sqrt(),
    }
    return {name: 100 * value.item() for name, value in values.items()}


def _panels(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _features(network: QNet, images: Tensor) -> Tensor:
    with autocast(images.device):
        return network.encoder(images).float()


def _k_means(trained: QLayer, codes: int, maps: Tensor, seed: int) -> QLayer:
    """Return a layer with the gates of ``trained`` and k-means codebooks of ``maps`` ``(N, dim, H, W)``."""
    layer = QLayer(trained.dim, codes, trained.heads, start="k-means")
    layer.gate_weight.copy_(trained.gate_weight)
    layer.gate_bias.copy_(trained.gate_bias)
    with seeded(seed):
        layer.train()(maps)
    return layer.eval()


def _one_hot(indices: Tensor, codes: int) -> Tensor:
    """Return the choices of some heads ``(heads, positions)`` side by side: ``(positions, heads * codes)``."""
    return torch.cat([F.one_hot(head, codes) for head in indices], 1).float()


def _least_squares(rows: Tensor, wanted: Tensor) -> Tensor:
    return torch.linalg.solve(rows.T @ rows + RIDGE * torch.eye(rows.shape[1]), rows.T @ wanted)


def explore(found: Found):
    """Return a choice of the measure above its heat map."""

    def page(which: int) -> str:
        name = list(MEASURES)[which]
        return heat.board(found[name], MEASURES[name]).html

    return explorer([choice("measure", [text.split(":")[0] for text in MEASURES.values()])], page)


def mean(found: Found, name: str, heads: int, codes: int) -> float:
    """Return the mean of a measure over the groups of heads."""
    values = found[name][heads, codes]
    return sum(values) / len(values)


def said(found: Found) -> str:
    """Return in words what more codes and more heads change."""
    few, many = SIZES[0], SIZES[-1]
    lost, changed, moved = (
        {place: round(mean(found, name, *place)) for place in found[name]} for name in MEASURES
    )
    return (
        f"With one head, a linear reading misses {lost[1, few]} % of the features' variance for {few} codes and"
        f" {lost[1, many]} % for {many}; with four heads {lost[4, few]} and {lost[4, many]} %. The attack changes a"
        f" choice at {changed[1, few]} % of the positions for one head of {few} codes and at {changed[1, many]} %"
        f" for one of {many}; for four heads at {changed[4, few]} and {changed[4, many]} %. The reading"
        f" moves {moved[1, few]} and {moved[1, many]} % as far as the features with one head, and"
        f" {moved[4, few]} and {moved[4, many]} % as far with four."
    )
