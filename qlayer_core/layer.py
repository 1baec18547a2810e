"""The Q-Layer: replace each position of a feature map by its nearest code, in several gated sub-spaces.

A feature map ``(N, C, H, W)`` is read as ``N * H * W`` *panels*, vectors of ``dim = C`` numbers. Each head
re-weights the channels of a panel with a softmax gate (eq. 4) and replaces the result by the nearest row of
its own codebook in L2 (eq. 2). The heads' answers are concatenated along the channels (eq. 5).
"""

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from qlayer_core import fast
from qlayer_core.specs import COMMITMENTS, UPDATES

STARTS = ("random", "k-means")


class QLayerOutput(NamedTuple):
    """What the layer gives: both representations and the choice that links them."""

    quantized: Tensor  # (N, heads * dim, H, W), gradient reaches the codebook only
    projected: Tensor  # (N, heads * dim, H, W), gradient reaches the input and the projection
    indices: Tensor  # (heads, N, H, W) int64, the chosen codes


class QLayer(nn.Module):
    """Quantization layer for any ``(N, dim, H, W)`` feature map (section 3.2 and 3.3).

    A worked shape: with ``dim=64, codebook_size=64, heads=4`` a map ``(128, 64, 12, 12)`` is 18,432 panels;
    each is projected four times, each projection takes one of 64 codes of its head's codebook, and the
    output is ``(128, 256, 12, 12)``.

    Args:
        dim: channels of the input, d in the paper.
        codebook_size: codes per head, n_c in the paper.
        heads: sub-spaces, K in the paper.
        gate: multiply by the softmax gate of eq. 4; without it a head sees the panel as it is.
        start: ``"random"`` (Glorot-uniform) or ``"k-means"`` on the panels of the first training batch.

    Attributes:
        codebook: parameter ``(heads, codebook_size, dim)``, Q in the paper.
        gate_weight: parameter ``(heads, dim, dim)``, the W_i of eq. 4, each Glorot-uniform; None without a gate.
        gate_bias: parameter ``(heads, dim)``, the b_i of eq. 4.
        usage: ``(heads, codebook_size)`` int64, how often each code was chosen in training mode since the
            last `update_inactive`.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 64,
        heads: int = 1,
        *,
        gate: bool = True,
        start: str = "random",
    ):
        super().__init__()
        for name, value in (("dim", dim), ("codebook_size", codebook_size), ("heads", heads)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if start not in STARTS:
            raise ValueError(f"start is {start!r}; choose one of {', '.join(STARTS)}")
        self.dim, self.codebook_size, self.heads, self.start = dim, codebook_size, heads, start
        self.gate_weight = nn.Parameter(torch.empty(heads, dim, dim)) if gate else None
        self.gate_bias = nn.Parameter(torch.zeros(heads, dim)) if gate else None
        self.codebook = nn.Parameter(torch.empty(heads, codebook_size, dim))
        for matrix in (*(self.gate_weight.data if gate else ()), *self.codebook.data):
            nn.init.xavier_uniform_(matrix)
        # A count, as batch normalisation keeps one: weight averaging and other tools know what to do with those.
        self.register_buffer("started", torch.tensor(int(start == "random")))
        # No buffer: `DistributedDataParallel` sets all buffers to those of the first process before each pass.
        self._usage = torch.zeros(heads, codebook_size, dtype=torch.int64)
        self.last_panels: Tensor | None = None  # (heads, N * H * W, dim), of the last training batch

    def extra_repr(self) -> str:
        """Return what `print(layer)` shows."""
        return f"dim={self.dim}, codebook_size={self.codebook_size}, heads={self.heads}, start={self.start!r}"

    @property
    def usage(self) -> Tensor:
        """How often each code was chosen, ``(heads, codebook_size)`` int64, on the device of the codebook."""
        self._usage = self._usage.to(self.codebook.device)
        return self._usage

    def __getstate__(self) -> dict:
        """Leave the last training batch out of copies and files: it is data, and may be large."""
        return self.__dict__ | {"last_panels": None}

    def gate(self, z: Tensor) -> Tensor:
        """Return ``softmax(z W_i + b_i)`` of each panel and head, the second factor of eq. 4.

        Args:
            z: feature map ``(N, dim, H, W)``.

        Returns:
            ``(N, H, W, heads, dim)``, positive, each head's ``dim`` weights summing to 1.
        """
        if self.gate_weight is None:
            raise ValueError("this layer was built with gate=False: it has no gate to show")
        weight = self.gate_weight.transpose(1, 2).flatten(0, 1)  # (heads * dim, dim)
        logits = F.linear(_panels_last(z), weight, self.gate_bias.flatten())  # (N, H, W, heads * dim)
        # Autocast would take softmax, and all that follows, to float32.
        with torch.autocast(z.device.type, enabled=False):
            return logits.unflatten(-1, (self.heads, self.dim)).softmax(-1)

    def project(self, z: Tensor) -> Tensor:
        """Re-weight channels for each head: ``z * softmax(z W_i + b_i)``, eq. 4.

        Args:
            z: feature map ``(N, dim, H, W)``.

        Returns:
            ``(N, heads * dim, H, W)``, head i in channels ``i * dim`` to ``(i + 1) * dim``.
        """
        if z.ndim != 4 or z.shape[1] != self.dim:
            raise ValueError(f"the input has shape {tuple(z.shape)}; this layer takes (N, {self.dim}, H, W)")
        if not z.is_floating_point():  # codes would be rounded to its format
            raise TypeError(f"the input has dtype {z.dtype}; convert it to the float format of the layer")
        if self.gate_weight is None:
            return z.repeat(1, self.heads, 1, 1)
        gate = self.gate(z)
        projected = _panels_last(z).to(gate.dtype).unsqueeze(-2) * gate  # (N, H, W, heads, dim)
        return projected.flatten(-2).permute(0, 3, 1, 2)

    def nearest(self, projected: Tensor) -> Tensor:
        """Return the index of the nearest code of each panel and head, eq. 2.

        Args:
            projected: ``(N, heads * dim, H, W)``, from `project`.

        Returns:
            ``(heads, N, H, W)`` int64; the lowest index where two codes are equally near.
        """
        if projected.ndim != 4 or projected.shape[1] != self.heads * self.dim:
            raise ValueError(
                f"the projected map has shape {tuple(projected.shape)}; give (N, {self.heads * self.dim}, H, W), as"
                " project returns it"
            )
        n, _, h, w = projected.shape
        return fast.nearest(self._panels(projected), self.codebook.detach()).view(self.heads, n, h, w)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes of ``indices`` ``(heads, N, H, W)`` side by side: ``(N, heads * dim, H, W)``, eq. 5.

        Raises:
            ValueError: an index is none of a code, or there is not one map of indices for each head.
        """
        if indices.ndim != 4 or len(indices) != self.heads:
            raise ValueError(f"indices have shape {tuple(indices.shape)}; give ({self.heads}, N, H, W)")
        if indices.numel() and not (indices.min() >= 0 and indices.max() < self.codebook_size):
            raise ValueError(
                f"indices run from {indices.min()} to {indices.max()}; this layer has codes 0 to"
                f" {self.codebook_size - 1}"
            )
        return self._lookup(indices)

    def _lookup(self, indices: Tensor) -> Tensor:
        """Look up what `nearest` has found, without a check that waits for the device."""
        rows = indices.permute(1, 2, 3, 0) + self._first_rows()  # (N, H, W, heads)
        codes = F.embedding(rows, self.codebook.flatten(0, 1))  # (N, H, W, heads, dim)
        return codes.flatten(-2).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> QLayerOutput:
        """Project, find the nearest codes and look them up; ``z`` is ``(N, dim, H, W)``."""
        projected = self.project(z)
        if self.training:
            self.last_panels = self._panels(projected)
            if self.start == "k-means" and not self.started:
                self._start_from(self.last_panels)
        indices = self.nearest(projected)
        if self.training:
            rows = indices.flatten(1) + self._first_rows().view(-1, 1)
            self.usage.view(-1).index_add_(0, rows.flatten(), torch.ones_like(rows.flatten()))
        return QLayerOutput(self._lookup(indices).to(projected.dtype), projected, indices)

    def losses(self, out: QLayerOutput, commitment: str = "squared") -> tuple[Tensor, Tensor]:
        """Return the codebook loss L_{Q->E} and the commitment loss L_{E->Q} of eq. 8.

        Both are sums over all ``heads * dim`` channels, averaged over images and positions. The first moves codes
        only, the second input and projection only.

        A distance is the square of a norm, which takes one pass; a sum of squares differs in its last digits, and so
        does its gradient. The first derivative is right everywhere. The second is NaN where all distances are zero,
        instead of 2 over the number of panels on its diagonal: whoever needs it there takes a sum of squares.

        Args:
            out: what the layer gave.
            commitment: ``"squared"``, the squared L2 distance of eq. 8; ``"linear"``, ``z_e - sg(z_q)^2``, an earlier
                line of the authors' code, whose gradient is the same everywhere: it pulls all features towards 0
                and commits to nothing; ``"none"``, zero.
        """
        if commitment not in COMMITMENTS:
            raise ValueError(f"commitment is {commitment!r}; choose one of {', '.join(COMMITMENTS)}")
        panels, exact = out.quantized.numel() // (self.heads * self.dim), self.codebook.dtype
        codes, features = out.quantized, out.projected

        def squared_distance(a: Tensor, b: Tensor) -> Tensor:
            return torch.linalg.vector_norm(a - b, dtype=exact).square() / panels

        codebook_loss = squared_distance(codes, features.detach())
        if commitment == "squared":
            return codebook_loss, squared_distance(codes.detach(), features)
        if commitment == "linear":
            return codebook_loss, (features - codes.detach().square()).sum(dtype=exact) / panels
        return codebook_loss, torch.zeros_like(codebook_loss)

    @torch.no_grad()
    def update_inactive(self, strategy: str = "pull", *, learning_rate: float = 0.001) -> list[int]:
        """Move the codes that no panel chose since the last call towards the last batch (section 3.5).

        Where several processes train one network (`torch.distributed`), a code is inactive if none of them chose it,
        and all take the codes of the first process.

        Args:
            strategy: ``"pull"`` takes one Adam step on the squared distance from each inactive code to its
                closest panel; ``"reinitialize"`` sets the code to that panel.
            learning_rate: of the Adam step.

        Returns:
            The number of inactive codes of each head. The usage counts start again at zero.
        """
        if strategy not in UPDATES:
            raise ValueError(f"strategy is {strategy!r}; choose one of {', '.join(UPDATES)}")
        if self.last_panels is None or not self.last_panels.shape[1]:
            raise RuntimeError(
                "no batch has passed in training mode, or the last one was empty: call the layer in train() mode"
                " first"
            )
        if several := distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.usage)
        inactive = self.usage == 0  # (heads, codes)
        # The nearest panel of a code maximises p.q - |p|^2 / 2.
        panels = self.last_panels.to(self.codebook)
        scores = self.codebook @ panels.transpose(1, 2) - panels.square().sum(-1).div(2).unsqueeze(1)
        head = torch.arange(self.heads, device=panels.device).unsqueeze(1)
        targets = panels[head, scores.argmax(-1)][inactive]
        if strategy == "pull":
            targets = _adam_step(self.codebook[inactive], targets, learning_rate)
        self.codebook[inactive] = targets
        if several:
            distributed.broadcast(self.codebook.data, 0)
        self.usage.zero_()
        return inactive.sum(-1).tolist()

    def _panels(self, projected: Tensor) -> Tensor:
        """View ``(N, heads * dim, H, W)`` as detached panels ``(heads, N * H * W, dim)``."""
        return projected.detach().permute(0, 2, 3, 1).reshape(-1, self.heads, self.dim).transpose(0, 1)

    def _first_rows(self) -> Tensor:
        """Row of each head's first code in the codebooks stacked to ``(heads * codebook_size, dim)``."""
        return torch.arange(self.heads, device=self.codebook.device) * self.codebook_size

    @torch.no_grad()
    def _start_from(self, panels: Tensor, rounds: int = 10) -> None:
        """Start each head's codebook at the k-means centres of ``panels`` ``(heads, M, dim)``, Lloyd's rounds."""
        if panels.shape[1] < self.codebook_size:
            raise ValueError(
                f"k-means needs at least {self.codebook_size} panels in the first batch, got {panels.shape[1]}:"
                " use a larger batch or start='random'"
            )
        panels = panels.to(self.codebook.dtype)
        for codes, points in zip(self.codebook, panels, strict=True):
            codes.copy_(points[torch.randperm(len(points), device=points.device)[: self.codebook_size]])
            for _ in range(rounds):
                nearest = torch.cdist(points, codes).argmin(1)
                sums = torch.zeros_like(codes).index_add_(0, nearest, points)
                counts = torch.bincount(nearest, minlength=self.codebook_size).unsqueeze(1)
                codes.copy_(torch.where(counts > 0, sums / counts.clamp(min=1), codes))
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(self.codebook.data, 0)
        self.started.fill_(1)


def _panels_last(z: Tensor) -> Tensor:
    """View ``(N, C, H, W)`` as ``(N, H, W, C)``, a panel's channels side by side in memory."""
    return z.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


def _adam_step(codes: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
    """Return ``codes`` after one Adam step on their summed squared distance to ``targets``."""
    with torch.inference_mode(False), torch.enable_grad():
        moved = codes.clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=learning_rate)
        (moved - targets).square().sum().backward()
        optimizer.step()
    return moved.detach()
