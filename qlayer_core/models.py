"""The paper's networks: CNN A and B (Table 4), and `QNet`, any network with a Q-Layer somewhere inside."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qlayer_core import checks
from qlayer_core.fast import Dropout
from qlayer_core.layer import QLayer, QLayerOutput
from qlayer_core.machine import seed_of, seeded
from qlayer_core.specs import DROPOUTS, INITIALISATIONS, LayerSpec, RunSpec

CLASSES = 10
SHAPE = (1, 28, 28)  # of an image
PATHS = ("q", "e", "shortcut", "straight-through", "both")


class BothPaths(NamedTuple):
    """Logits of both paths, and what the layer in between gave."""

    q: Tensor  # (N, classes)
    e: Tensor  # (N, classes)
    layer: QLayerOutput


class QNet(nn.Module):
    """A network split by a Q-Layer: encoder, layer, and one tail per path (Figure 1, eq. 6).

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

        Raises:
            ValueError: there is no such path, or a tail has changed its input, which `QLayer.losses` still needs.
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
            return self.tail_q(straight_through(out.projected, out.quantized))
        before = _versions(out)
        logits = self.tail_q(out.quantized), self._tail("e")(out.projected)
        if _versions(out) != before:
            raise ValueError(
                "a tail changes its input in place, and with it the codes and features that the losses compare:"
                " build its first layers with inplace=False"
            )
        return BothPaths(*logits, out)

    def _tail(self, path: str) -> nn.Module:
        return self.tail_e if path == "e" and self.tail_e is not None else self.tail_q


def _versions(out: QLayerOutput) -> list[int]:
    """Return how often each map has been changed in place; nothing where no one counts it."""
    if torch.compiler.is_compiling() or out.projected.is_inference():
        return []
    return [out.quantized._version, out.projected._version]


def straight_through(before: Tensor, after: Tensor) -> Tensor:
    """Return exactly the value of ``after`` with the gradient of ``before`` (Bengio et al., 2013), same shapes."""
    return after.detach() + (before - before.detach())


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> dict[str | None, Tensor]:
    """Return logits ``(N, classes)`` by path: ``"q"`` and ``"e"`` of a `QNet`, None of any other network.

    Raises:
        ValueError: the network, or a part of it, is in training mode.
    """
    checks.mode(model)
    if isinstance(model, QNet):
        out = model(images, path="both")
        return {"q": out.q, "e": out.e}
    return {None: model(images)}


class Images(nn.Module):
    """The entrance of a network: let images ``(N, channels, height, width)`` pass, and say what is wrong otherwise.

    Args:
        channels: of an image.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Return ``images`` as they are."""
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this network takes (N, {self.channels}, height, width)"
            )
        if not images.is_floating_point():
            raise TypeError(f"images have dtype {images.dtype}; convert them to floats in [0, 1]")
        return images


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
        """Return ``maps`` as one row per image."""
        rows = maps.permute(0, 2, 3, 1).flatten(1)
        if rows.shape[1] != self.features:
            raise ValueError(
                f"the feature map of an image holds {rows.shape[1]} numbers, but its classifier takes"
                f" {self.features}: give images of the size that the network is for (the paper's: 28 x 28)"
            )
        return rows


def blocks(
    architecture: str, shape: tuple[int, int, int] = SHAPE
) -> tuple[nn.Sequential, nn.Sequential, int]:
    """Return the two convolution blocks of CNN ``"a"`` or ``"b"`` and the side of the final feature map.

    Table 4: the first convolution keeps the size ("same"), the second has stride 2 without padding.

    Args:
        architecture: ``"a"`` or ``"b"``.
        shape: channels, height and width of an image.
    """
    if architecture not in ("a", "b"):
        raise ValueError(f"architecture is {architecture!r}; the paper has 'a' and 'b' (Table 4)")
    width, kernel = {"a": (64, 5), "b": (128, 3)}[architecture]
    first = nn.Sequential(
        Images(shape[0]), nn.Conv2d(shape[0], width, kernel, padding=kernel // 2), nn.ReLU()
    )
    second = nn.Sequential(nn.Conv2d(width, 64, kernel, stride=2), nn.ReLU())
    return first, second, (shape[1] - kernel) // 2 + 1


def head(features: int, dropout: bool = True) -> nn.Sequential:
    """Return the classifier of Table 4 for a flattened map of ``features`` numbers, ending in logits."""
    drop = [Dropout(0.5)] if dropout else []
    return nn.Sequential(
        Flatten(features), nn.Linear(features, 128), nn.ReLU(), *drop, nn.Linear(128, CLASSES)
    )


def cnn(architecture: str = "a") -> nn.Sequential:
    """Return CNN A or B of Table 4: images ``(N, 1, 28, 28)`` in [0, 1] to logits ``(N, 10)``."""
    first, second, side = blocks(architecture)
    return nn.Sequential(first, second, Dropout(0.25), head(64 * side * side))


def q_net(spec: LayerSpec, architecture: str = "a") -> QNet:
    """Return CNN A with a Q-Layer (section 4.1.2 and 4.4), or CNN B.

    Args:
        spec: heads, codes, position and the rest; Q-base is ``LayerSpec()``, Q-large ``LayerSpec(heads=4)``.
        architecture: ``"a"``, as in all of the paper's tables, or ``"b"``.
    """
    if spec.dropout not in DROPOUTS:
        raise ValueError(f"dropout is {spec.dropout!r}; choose one of {', '.join(DROPOUTS)}")
    if spec.position not in ("after", "between"):
        raise ValueError(f"position is {spec.position!r}; choose 'after' or 'between'")
    first, second, side = blocks(architecture)
    *_, read, _ = second if spec.position == "after" else first  # the layer reads this convolution's features
    layer = QLayer(read.out_channels, spec.codebook_size, spec.heads, gate=spec.gate, start=spec.start)
    wide, some = spec.heads * read.out_channels, spec.dropout != "off"
    drop = [Dropout(0.25)] if some else []
    if spec.position == "after":
        encoder = nn.Sequential(first, second, *(drop if spec.dropout == "front" else []))

        def tail() -> nn.Sequential:
            return nn.Sequential(*(drop if spec.dropout == "behind" else []), head(wide * side * side, some))

    else:  # what follows the second convolution is behind the layer, its dropout too
        encoder = first

        def tail() -> nn.Sequential:
            conv = nn.Conv2d(wide, second[0].out_channels, second[0].kernel_size, stride=2)
            return nn.Sequential(
                nn.Sequential(conv, nn.ReLU()), *drop, head(conv.out_channels * side * side, some)
            )

    return QNet(encoder, layer, tail(), None if spec.shared_tail else tail())


def build(spec: RunSpec, seed: int = 0) -> nn.Module:
    """Return the untrained network of a run, weights drawn with ``seed``.

    Two names with the same seed start from different weights: a source model must be independent of its target.
    The weights are laid out channels-last, which suits the kernels of every device. A quantizer of the input is not
    part of it: see `baselines.build`.
    """
    if spec.initialisation not in INITIALISATIONS:
        raise ValueError(
            f"initialisation is {spec.initialisation!r}; choose one of {', '.join(INITIALISATIONS)}"
        )
    with seeded(seed_of(spec.name, seed)):
        net = cnn(spec.architecture) if spec.layer is None else q_net(spec.layer, spec.architecture)
        if spec.initialisation == "glorot":
            glorot(net)
    for module in net.modules():
        if isinstance(module, Dropout) and not spec.dropout:
            module.p = 0.0  # it stays in its place, so that weights have the same names
    return net.to(memory_format=torch.channels_last)


def glorot(net: nn.Module) -> None:
    """Draw every kernel anew, uniform within sqrt(6 / (fan_in + fan_out)), and set every bias to 0.

    A convolution's fans count its window (Glorot and Bengio, 2010). It is what the authors' framework does without
    being asked; a Q-Layer draws its own matrices so in any case.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
