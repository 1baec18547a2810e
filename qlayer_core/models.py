"""The paper's networks: CNN A and B (Table 4), and `QNet`, any network with a Q-Layer somewhere inside."""

from dataclasses import asdict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import experiments
from qlayer_core.layer import QLayer, QLayerOutput

CLASSES = 10
PATHS = ("q", "e", "shortcut", "straight-through", "both")


class BothPaths(NamedTuple):
    """Logits of both paths, and what the layer in between gave."""

    q: Tensor  # (N, classes)
    e: Tensor  # (N, classes)
    layer: QLayerOutput


class QNet(nn.Module):
    """A network split by a Q-Layer: encoder, layer, and one tail a path (Figure 1, eq. 6).

    Args:
        encoder: images to a feature map ``(N, dim, H, W)``, N_F in the paper.
        layer: the Q-Layer for that ``dim``.
        tail_q: quantized map ``(N, heads * dim, H, W)`` to logits ``(N, classes)``, N_Q.
        tail_e: the same for the projected map, N_E. Left out, both paths share ``tail_q`` (appendix G).
    """

    def __init__(self, encoder: nn.Module, layer: QLayer, tail_q: nn.Module, tail_e: nn.Module | None = None):
        super().__init__()
        self.encoder, self.layer, self.tail_q = encoder, layer, tail_q
        self.tail_e = tail_e

    def forward(self, images: Tensor, path: str = "q") -> Tensor | BothPaths:
        """Return logits of one path, or of both.

        Paths: ``"q"`` quantized, what a deployed model answers with; ``"e"`` not quantized; ``"shortcut"``
        the projected map into N_Q (eq. 9); ``"straight-through"`` the Q-path whose gradient passes the
        quantizer as if it were the identity; ``"both"`` gives `BothPaths` from one pass.

        Args:
            images: ``(N, channels, height, width)``, values in [0, 1].
            path: one of the five names.
        """
        if path not in PATHS:
            raise ValueError(f"path is {path!r}; choose one of {', '.join(PATHS)}")
        z = self.encoder(images)
        if path in ("e", "shortcut"):  # no need to look for codes
            projected = self.layer.project(z)
            return self._tail(path)(projected)
        out = self.layer(z)
        if path == "q":
            return self.tail_q(out.quantized)
        if path == "straight-through":
            return self.tail_q(out.projected + (out.quantized - out.projected).detach())
        return BothPaths(self.tail_q(out.quantized), self._tail("e")(out.projected), out)

    def _tail(self, path: str) -> nn.Module:
        return self.tail_e if path == "e" and self.tail_e is not None else self.tail_q


class PatchConv2d(nn.Conv2d):
    """A stride-1 convolution of images of very few channels, whose input gradient is fast.

    Same numbers and parameters as `torch.nn.Conv2d`. With one input channel the library's kernel for the input
    gradient, which every attack needs, takes several times as long as the matrix product that it is.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, padding: int = 0):
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve ``(N, C, H, W)``; the output is laid out channels-last, which suits bfloat16 kernels."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this network takes (N, {self.in_channels}, height, width)"
            )
        if not images.is_floating_point():
            raise TypeError(f"images have dtype {images.dtype}; convert them to floats in [0, 1]")
        x = images.detach().to(memory_format=torch.channels_last)
        out = F.conv2d(x, self.weight, self.bias, padding=self.padding)
        return _InputGradient.apply(out, images, self.weight, self.padding) if images.requires_grad else out


class _InputGradient(torch.autograd.Function):
    """Give ``out``, a convolution of ``images``, its gradient in ``images``; the other one passes through."""

    @staticmethod
    def forward(ctx, out: Tensor, images: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return out.view_as(out)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        patches = weight.flatten(1).t().to(gradient.dtype) @ gradient.flatten(2)  # (N, C * k * k, H * W)
        size, kernel = images.shape[2:], weight.shape[2:]
        by_images = F.fold(patches.to(images.dtype), size, kernel, padding=ctx.padding)
        return gradient, by_images, None, None


class Flatten(nn.Module):
    """Flatten a map ``(N, C, H, W)`` to ``(N, H * W * C)``, channels last, as the authors' framework does.

    For a channels-last map this is a view, where `torch.nn.Flatten` would copy.

    Args:
        features: ``H * W * C``, what the classifier behind it takes.
    """

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``maps`` as one row an image."""
        rows = maps.permute(0, 2, 3, 1).flatten(1)
        if rows.shape[1] != self.features:
            raise ValueError(
                f"the feature map of an image holds {rows.shape[1]} numbers, but its classifier takes"
                f" {self.features}: give images of the size that the network is for (the paper's: 28 x 28)"
            )
        return rows


class Dropout(nn.Dropout):
    """Dropout whose mask costs one random byte a number: the library's draws one 64-bit number each.

    Same distribution as `torch.nn.Dropout`; the probability is a multiple of 1/256.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each number with probability ``p`` and scale the others, in training mode."""
        if not self.training:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        draws.random_(torch.iinfo(torch.int64).min, None)  # every one of the 64 bits is random
        # In the layout and number format of x, which holds a byte exactly: all passes below are then quick.
        laid_out = draws.view(torch.uint8).as_strided(x.shape, torch.empty_like(x, device="meta").stride())
        keep = laid_out.to(x.dtype).ge_(round(256 * self.p))
        return x * keep.mul_(1 / (1 - self.p))


def blocks(architecture: str) -> tuple[nn.Sequential, nn.Sequential, int]:
    """Return the two convolution blocks of CNN ``"a"`` or ``"b"`` and the side of the final feature map.

    Table 4: the first convolution keeps the size ("same"), the second has stride 2 without padding.
    """
    if architecture == "a":
        return (
            nn.Sequential(PatchConv2d(1, 64, 5, padding=2), nn.ReLU()),
            nn.Sequential(nn.Conv2d(64, 64, 5, stride=2), nn.ReLU()),
            12,
        )
    if architecture == "b":
        return (
            nn.Sequential(PatchConv2d(1, 128, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(128, 64, 3, stride=2), nn.ReLU()),
            13,
        )
    raise ValueError(f"architecture is {architecture!r}; the paper has 'a' and 'b' (Table 4)")


def head(features: int) -> nn.Sequential:
    """Return the classifier of Table 4 for a flattened map of ``features`` numbers, ending in logits."""
    return nn.Sequential(
        Flatten(features), nn.Linear(features, 128), nn.ReLU(), Dropout(0.5), nn.Linear(128, CLASSES)
    )


def cnn(architecture: str = "a") -> nn.Sequential:
    """Return CNN A or B of Table 4: images ``(N, 1, 28, 28)`` in [0, 1] to logits ``(N, 10)``."""
    first, second, side = blocks(architecture)
    return nn.Sequential(first, second, Dropout(0.25), head(64 * side * side))


def q_net(
    *,
    heads: int = 1,
    codebook_size: int = 64,
    position: str = "after",
    shared_tail: bool = False,
    dropout: str = "before",
    gate: bool = True,
    gate_norm: bool = True,
    start: str = "random",
) -> QNet:
    """Return CNN A with a Q-Layer (section 4.1.2 and 4.4).

    Args:
        heads: K. Q-base has 1, Q-large 4.
        codebook_size: n_c.
        position: ``"after"`` the convolutions (Q-base, Q-large) or ``"between"`` them (Q-inner).
        shared_tail: one tail for both paths (appendix G).
        dropout: Table 4's Dropout(0.25) ``"before"`` the layer or ``"behind"`` it; only for "after".
        gate: as in `QLayer`.
        gate_norm: as in `QLayer`.
        start: as in `QLayer`.
    """
    if dropout not in ("before", "behind"):
        raise ValueError(f"dropout is {dropout!r}; choose 'before' or 'behind'")
    first, second, side = blocks("a")
    layer = QLayer(64, codebook_size, heads, gate=gate, gate_norm=gate_norm, start=start)
    drop = Dropout(0.25)
    if position == "after":
        encoder = nn.Sequential(first, second, *([drop] if dropout == "before" else []))

        def tail() -> nn.Sequential:
            return nn.Sequential(*([drop] if dropout == "behind" else []), head(heads * 64 * side * side))

    elif position == "between":
        encoder = first

        def tail() -> nn.Sequential:
            block = nn.Sequential(nn.Conv2d(heads * 64, 64, 5, stride=2), nn.ReLU())
            return nn.Sequential(block, drop, head(64 * side * side))

    else:
        raise ValueError(f"position is {position!r}; choose 'after' or 'between'")
    return QNet(encoder, layer, tail(), None if shared_tail else tail())


def build(name: str, seed: int = 0) -> nn.Module:
    """Return the untrained network of any model name in `experiments`, weights drawn with ``seed``.

    Two names with the same seed start from different weights: a source model must be independent of its target.
    """
    spec = experiments.run(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiments.seed_of(name, seed))
        return cnn(spec.architecture) if spec.layer is None else q_net(**asdict(spec.layer))
