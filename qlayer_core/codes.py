"""What codes do: which are chosen, how decidedly, what a choice can see, what an attack and each loss change."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import checks
from qlayer_core.layer import QLayerOutput
from qlayer_core.machine import autocast
from qlayer_core.models import QNet


class Choices(NamedTuple):
    """The chosen code of each head and position, and by how much it won."""

    codes: Tensor  # (heads, N, H, W) int64
    margins: Tensor  # (heads, N, H, W), squared distance to the second nearest code less that to the nearest


class FieldOfView(NamedTuple):
    """The ``size`` x ``size`` pixels that reach one position of a map, starting at ``stride * position - before``."""

    size: int
    stride: int
    before: int


@torch.no_grad()
def layer_output(network: QNet, images: Tensor) -> QLayerOutput:
    """Return what the layer gives for ``images`` ``(N, 1, H, W)``, in float32; ``network`` in evaluation mode."""
    checks.mode(network)
    with autocast(images.device):
        out = network(images, path="both").layer
    return QLayerOutput(out.quantized.float(), out.projected.float(), out.indices)


@torch.no_grad()
def choices(network: QNet, images: Tensor, batch_size: int = 256) -> Choices:
    """Return the chosen codes of ``images`` ``(N, 1, H, W)`` and their margins."""
    layer, found = network.layer, []
    for batch in images.split(batch_size):
        out = layer_output(network, batch)
        panels = out.projected.unflatten(1, (layer.heads, layer.dim)).permute(
            1, 0, 3, 4, 2
        )  # (heads, N, H, W, dim)
        book = layer.codebook.to(panels)
        distances = torch.cdist(panels.flatten(1, 3), book).square().view(*panels.shape[:4], -1)
        chosen = out.indices.unsqueeze(-1)
        second = distances.scatter(-1, chosen, torch.inf).amin(-1)
        found.append(Choices(out.indices, second - distances.gather(-1, chosen).squeeze(-1)))
    return Choices(*(torch.cat(parts, 1) for parts in zip(*found, strict=True)))


def usage(codes: Tensor, codebook_size: int) -> np.ndarray:
    """Return how often each code of each head is chosen in ``codes`` ``(heads, N, H, W)``: ``(heads, codes)``."""
    return np.stack([np.bincount(head.flatten().numpy(), minlength=codebook_size) for head in codes])


def perplexity(counts: np.ndarray) -> float:
    """Return exp(entropy) of the use of one head's codes: the number of codes if all are used alike."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def along_main_direction(codebook: Tensor) -> np.ndarray:
    """Return where each code stands among its head's codes along their first principal component, as a share.

    It depends on nothing but the codebook, so a code drawn by it looks the same in every figure. Similar codes come
    close; codes that no image chooses take their places, too.

    Args:
        codebook: ``(heads, codebook_size, dim)``, as `QLayer.codebook`.

    Returns:
        ``(heads, codebook_size)``: ranks, scaled to [0, 1]; the code that is farthest out has the larger half.
    """
    codebook = codebook.detach().double().cpu()
    places = np.zeros(codebook.shape[:2])
    for head, head_codes in enumerate(codebook):
        centred = head_codes - head_codes.mean(0)
        along = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
        along = along * along[along.abs().argmax()].sign()  # a principal component has no sign of its own
        places[head] = along.argsort(stable=True).argsort() / max(1, len(along) - 1)
    return places


def field_of_view(encoder: nn.Module, image_side: int, map_side: int) -> FieldOfView:
    """Return what one position behind ``encoder`` sees, from its convolutions.

    Raises:
        ValueError: the encoder shrinks the image by something else than convolutions.
    """
    size, stride, before = 1, 1, 0
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            edge = module.kernel_size[0] - 1
            size += edge * stride
            same = module.padding == "same"  # and then its stride is 1
            before += (edge // 2 if same else 0 if module.padding == "valid" else module.padding[0]) * stride
            stride *= module.stride[0]
    if (expected := (image_side + 2 * before - size) // stride + 1) != map_side:
        raise ValueError(
            f"the map has side {map_side}, but the encoder's convolutions give {expected}: only encoders that shrink"
            " the image by convolutions alone can be shown"
        )
    return FieldOfView(size, stride, before)


def strongest(found: Choices, head: int, code: int, count: int) -> list[tuple[int, int, int]]:
    """Return up to ``count`` (image, row, column) that choose a code by the largest margin, at most one per image."""
    margins = torch.where(found.codes[head] == code, found.margins[head], -1.0)  # (N, H, W)
    best, where = margins.flatten(1).max(1)
    order = best.argsort(descending=True, stable=True)[:count]
    width = margins.shape[2]
    return [(i, *divmod(where[i].item(), width)) for i in order.tolist() if best[i] >= 0]


def some(found: Choices, head: int, code: int, count: int, seed: int = 0) -> list[tuple[int, int, int]]:
    """Return up to ``count`` (image, row, column) drawn at random among those that choose a code."""
    where = (found.codes[head] == code).nonzero()
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(seed))
    return [tuple(place) for place in where[order[:count]].tolist()]


def patch(image: np.ndarray, view: FieldOfView, row: int, column: int) -> np.ndarray:
    """Return the ``(size, size)`` pixels of ``image`` ``(H, W)`` that a position sees, 0 beyond the border."""
    padded = np.pad(image, view.size)
    top, left = (view.size - view.before + view.stride * at for at in (row, column))
    return padded[top : top + view.size, left : left + view.size]


def mean_patches(network: QNet, images: Tensor) -> np.ndarray:
    """Return the mean of the pixels that choose each code of the first head: ``(codes, size, size)`` in [0, 1]."""
    chosen = choices(network, images).codes[0]  # (N, h, w)
    view = field_of_view(network.encoder, images.shape[-1], chosen.shape[-1])
    count = network.layer.codebook_size
    sums, seen = np.zeros((count, view.size, view.size)), np.zeros(count)
    for image, places in zip(images[:, 0].numpy(), chosen.numpy(), strict=True):
        for row, column in np.ndindex(places.shape):
            sums[places[row, column]] += patch(image, view, row, column)
            seen[places[row, column]] += 1
    return sums / np.maximum(seen, 1)[:, None, None]


def painted(network: QNet, symbols: np.ndarray, patches: np.ndarray, side: int = 28) -> list[np.ndarray]:
    """Return images ``(side, side)`` of what maps of codes say: the mean patch of each code, in its place.

    Args:
        network: whose codes they are.
        symbols: ``(N, h, w)``, of the first head.
        patches: as `mean_patches` returns them.
        side: of the network's images.
    """
    view = field_of_view(network.encoder, side, symbols.shape[-1])
    found, pad = [], view.size
    for places in symbols:
        sums, weights = np.zeros((2, side + 2 * pad, side + 2 * pad))
        for row, column in np.ndindex(places.shape):
            top, left = (pad - view.before + view.stride * at for at in (row, column))
            at = slice(top, top + view.size), slice(left, left + view.size)
            sums[at] += patches[places[row, column]]
            weights[at] += 1
        found.append((sums / np.maximum(weights, 1))[pad:-pad, pad:-pad])
    return found


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Return how far each image's map ``(N, C, H, W)`` has moved in L2, in percent of its norm: ``(N,)``."""
    return 100 * (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)


def drift(
    network: QNet, images: Tensor, change: Callable[[float], Tensor], epsilons: Sequence[float]
) -> dict[str, list[float]]:
    """Return, for each epsilon, how far a change of the images moves what the tails see, in percent.

    Args:
        network: in evaluation mode.
        images: ``(N, 1, H, W)``, the clean ones.
        change: epsilon to the changed images, by an attack or by noise.
        epsilons: the budgets.

    Returns:
        ``"codes"`` the share of positions whose code changed; ``"projected"`` and ``"quantized"`` the length of
        the change divided by the length of the clean representation, mean over images.
    """
    clean = layer_output(network, images)
    found: dict[str, list[float]] = {"codes": [], "projected": [], "quantized": []}
    for eps in epsilons:
        moved = layer_output(network, change(eps))
        found["codes"].append(100 * (moved.indices != clean.indices).float().mean().item())
        for name in ("projected", "quantized"):
            found[name].append(relative_change(getattr(clean, name), getattr(moved, name)).mean().item())
    return found


@torch.inference_mode(False)  # whatever the caller's mode is
@torch.enable_grad()
def losses_reach(network: QNet, images: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Return the L2 norm of each loss's gradient in each part of the network, by loss and part.

    The losses are those of eq. 7 in their printed form: ``"q"``, ``"e"``, ``"codebook"`` and ``"commitment"``.

    Args:
        network: with tails of its own for both paths, in evaluation mode: what reaches what does not depend on it.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)`` int64.
    """
    checks.mode(network)
    if network.tail_e is None:
        raise ValueError(
            "the network has one tail for both paths; give one with two, such as models.q_net(LayerSpec())"
        )
    images, labels = images.clone(), labels.clone()  # tensors of inference mode have no gradient
    layer, out = network.layer, network(images, path="both")
    codebook_loss, commitment_loss = layer.losses(out.layer)
    losses = {
        "q": F.cross_entropy(out.q, labels),
        "e": F.cross_entropy(out.e, labels),
        "codebook": codebook_loss,
        "commitment": commitment_loss,
    }
    parts = {
        "encoder": list(network.encoder.parameters()),
        "gate": [weight for weight in (layer.gate_weight, layer.gate_bias) if weight is not None],
        "codebook": [layer.codebook],
        "tail Q": list(network.tail_q.parameters()),
        "tail E": list(network.tail_e.parameters()),
    }

    def norm(loss: Tensor, weights: list[nn.Parameter]) -> float:
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        return sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5

    return {
        name: {part: norm(loss, weights) if weights else 0.0 for part, weights in parts.items()}
        for name, loss in losses.items()
    }


def independent_bits(train_set: Tensor, validation_set: Tensor, values: int) -> float:
    """Return the bits per dimension of a model in which every symbol is drawn by itself.

    Args:
        train_set: ``(N, heads, H, W)``, whose counts, plus one, are the model's probabilities at each position.
        validation_set: ``(M, heads, H, W)``, what it must describe.
        values: of a symbol.

    Raises:
        ValueError: the two sets' maps differ in shape.
    """
    if train_set.shape[1:] != validation_set.shape[1:]:
        raise ValueError(
            f"maps have shape {tuple(train_set.shape[1:])} in training and {tuple(validation_set.shape[1:])} in"
            " validation; give the same"
        )
    rows, wanted = train_set.flatten(1).long().T, validation_set.flatten(1).long().T  # (positions, N)
    counts = torch.ones(len(rows), values, dtype=torch.float64, device=rows.device)
    counts.scatter_add_(1, rows, torch.ones_like(rows, dtype=torch.float64))
    shares = counts / counts.sum(1, keepdim=True)
    return -shares.gather(1, wanted).log2().mean().item()
