"""The paper's networks written the plain way: stock modules, float32, eager, a loop over heads.

They answer as those of `qlayer_core.models` do once `fill` has copied the weights. This file imports nothing of
the project, so that a process can run the plain networks without the project's memory settings.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QLayer(nn.Module):
    """The Q-Layer as one would write it from eq. 2, 4 and 5: one head after the other."""

    def __init__(self, dim: int, codebook_size: int, heads: int):
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(heads))
        codes = [nn.init.xavier_uniform_(torch.empty(codebook_size, dim)) for _ in range(heads)]
        self.codebooks = nn.ParameterList(nn.Parameter(c) for c in codes)

    def project(self, z: Tensor) -> list[Tensor]:
        """Return the panels ``(N * H * W, dim)`` of each head for a map ``(N, dim, H, W)``, eq. 4."""
        panels = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        return [panels * F.softmax(gate(panels), dim=1) for gate in self.gates]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantized and the projected map of ``z``."""
        projected = self.project(z)
        quantized = [
            codebook[torch.cdist(panels, codebook).argmin(1)]  # eq. 2
            for panels, codebook in zip(projected, self.codebooks, strict=True)
        ]
        return join(quantized, z), join(projected, z)


def join(heads: list[Tensor], z: Tensor) -> Tensor:
    """Return the heads' panels as one map ``(N, heads * dim, H, W)``, eq. 5."""
    n, _, h, w = z.shape
    return torch.cat(heads, dim=1).view(n, h, w, -1).permute(0, 3, 1, 2)


class QNet(nn.Module):
    """A network with a `QLayer` between its encoder and its two tails."""

    def __init__(self, encoder: nn.Module, layer: QLayer, tail_q: nn.Module, tail_e: nn.Module):
        super().__init__()
        self.encoder, self.layer, self.tail_q, self.tail_e = encoder, layer, tail_q, tail_e

    def forward(self, images: Tensor, path: str = "q") -> Tensor | tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits of one path; ``"both"`` gives those of q and e, and the maps of the layer."""
        z = self.encoder(images)
        if path == "e":
            return self.tail_e(join(self.layer.project(z), z))
        quantized, projected = self.layer(z)
        if path == "q":
            return self.tail_q(quantized)
        return self.tail_q(quantized), self.tail_e(projected), quantized, projected


class EPath(nn.Module):
    """The E-path of a `QNet` as a module of its own, which the toolboxes want."""

    def __init__(self, net: QNet):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, 10)``."""
        return self.net(images, path="e")


def convolution(*args, **options) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(*args, **options), nn.ReLU())


def head(features: int, *dropout: nn.Dropout) -> nn.Sequential:
    layers = (nn.Linear(features, 128), nn.ReLU(), *dropout, nn.Linear(128, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def build(name: str) -> nn.Module:
    """Return the plain version of one of the paper's networks, untrained."""
    if name == "source-b":
        first, second = convolution(1, 128, 3, padding=1), convolution(128, 64, 3, stride=2)
        return nn.Sequential(first, second, nn.Dropout(0.25), head(64 * 13 * 13, nn.Dropout(0.5)))
    first, second = convolution(1, 64, 5, padding=2), convolution(64, 64, 5, stride=2)
    if name == "cnn":
        return nn.Sequential(first, second, nn.Dropout(0.25), head(64 * 12 * 12, nn.Dropout(0.5)))
    if name in ("q-base", "q-large"):
        heads = {"q-base": 1, "q-large": 4}[name]
        tails = [head(heads * 64 * 12 * 12) for _ in range(2)]
        return QNet(nn.Sequential(first, second), QLayer(64, 64, heads), *tails)
    if name == "q-inner":
        seconds = [convolution(256, 64, 5, stride=2) for _ in range(2)]
        tails = [nn.Sequential(second, head(64 * 12 * 12)) for second in seconds]
        return QNet(first, QLayer(64, 64, 4), *tails)
    raise ValueError(f"there is no plain version of {name!r}")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """Take one optimizer step with the loss of eq. 7, alpha and beta 0.001; a plain network has L2 on one matrix."""
    if isinstance(model, QNet):
        q, e, quantized, projected = model(images, path="both")
        loss = F.cross_entropy(q, labels) + F.cross_entropy(e, labels)
        loss = loss + 0.001 * (quantized - projected.detach()).square().sum(1).mean()
        loss = loss + 0.001 * (quantized.detach() - projected).square().sum(1).mean()
    else:
        first = next(module for module in model.modules() if isinstance(module, nn.Linear))
        loss = F.cross_entropy(model(images), labels) + 5e-4 * first.weight.square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def fill(plain: nn.Module, ours: nn.Module) -> nn.Module:
    """Copy the weights of a network of `qlayer_core.models` into its plain version, and return that."""
    if isinstance(plain, QNet):
        fill_layer(plain.layer, ours.layer)
        pairs = [(getattr(plain, part), getattr(ours, part)) for part in ("encoder", "tail_q", "tail_e")]
    else:
        pairs = [(plain, ours)]
    for to, source in pairs:
        weighted = [
            [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for module in (to, source)
        ]
        for a, b in zip(*weighted, strict=True):
            a.load_state_dict(b.state_dict())
        for flatten, linear in pairwise(to.modules()):
            if isinstance(flatten, nn.Flatten):  # ours flattens (H, W, C), the stock module (C, H, W)
                side = next(side for side in (12, 13) if linear.in_features % (side * side) == 0)
                columns = linear.weight.unflatten(1, (side, side, -1)).permute(0, 3, 1, 2).flatten(1)
                linear.weight.copy_(columns.clone())
    return plain.train(ours.training)


@torch.no_grad()
def fill_layer(plain: QLayer, ours: nn.Module) -> QLayer:
    """Copy the weights of a `qlayer_core.layer.QLayer`, and return the plain layer."""
    for head, gate in enumerate(plain.gates):
        gate.weight.copy_(ours.gate_weight[head].T)
        gate.bias.copy_(ours.gate_bias[head])
        plain.codebooks[head].copy_(ours.codebook[head])
    return plain.train(ours.training)
