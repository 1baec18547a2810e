"""The Q-Layer: replace each position of a feature map by its nearest code, in several gated sub-spaces.

A feature map ``(N, C, H, W)`` is read as ``N * H * W`` *panels*, vectors of ``dim = C`` numbers. Each head
re-weights the channels of a panel with a softmax gate (eq. 4) and replaces the result by the nearest row of
its own codebook in L2 (eq. 2). The heads' answers are concatenated along the channels (eq. 5).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STARTS = ("random", "k-means")
UPDATES = ("pull", "reinitialize")
CHUNK = 512  # panels a head whose distances to all codes are held at once: they fit a core's cache


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
        codebook_size: codes a head, n_c in the paper.
        heads: sub-spaces, K in the paper.
        gate: multiply by the softmax gate of eq. 4; without it a head sees the panel as it is.
        gate_norm: batch normalisation of the gate's logits, which eq. 4 does not show but the authors'
            code has.
        start: ``"random"`` (Glorot-uniform) or ``"k-means"`` on the panels of the first training batch.

    Attributes:
        codebook: parameter ``(heads, codebook_size, dim)``, Q in the paper.
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
        gate_norm: bool = True,
        start: str = "random",
    ):
        super().__init__()
        for name, value in (("dim", dim), ("codebook_size", codebook_size), ("heads", heads)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if start not in STARTS:
            raise ValueError(f"start is {start!r}; choose one of {', '.join(STARTS)}")
        self.dim, self.codebook_size, self.heads, self.start = dim, codebook_size, heads, start
        # One 1x1 convolution holds the W_i, b_i of all heads.
        self.gate = nn.Conv2d(dim, heads * dim, 1) if gate else None
        self.gate_norm = nn.BatchNorm2d(heads * dim) if gate and gate_norm else None
        self.codebook = nn.Parameter(torch.empty(heads, codebook_size, dim))
        for codes in self.codebook.data:
            nn.init.xavier_uniform_(codes)
        self.register_buffer("started", torch.tensor(start == "random"))
        self.register_buffer("usage", torch.zeros(heads, codebook_size, dtype=torch.int64), persistent=False)
        self.last_panels: Tensor | None = None  # (heads, N * H * W, dim), of the last training batch

    def extra_repr(self) -> str:
        """Return what `print(layer)` shows."""
        return f"dim={self.dim}, codebook_size={self.codebook_size}, heads={self.heads}, start={self.start!r}"

    def project(self, z: Tensor) -> Tensor:
        """Re-weight channels for each head: ``z * softmax(norm(z W_i + b_i))``, eq. 4.

        Args:
            z: feature map ``(N, dim, H, W)``.

        Returns:
            ``(N, heads * dim, H, W)``, head i in channels ``i * dim`` to ``(i + 1) * dim``.
        """
        if z.ndim != 4 or z.shape[1] != self.dim:
            raise ValueError(f"the input has shape {tuple(z.shape)}; this layer takes (N, {self.dim}, H, W)")
        if self.gate is None:
            return z.repeat(1, self.heads, 1, 1)
        z = z.contiguous(memory_format=torch.channels_last)  # a panel's channels side by side
        logits = self._gate_logits(z)
        per_head = logits.permute(0, 2, 3, 1).unflatten(-1, (self.heads, self.dim))  # (N, H, W, heads, dim)
        # Autocast would take softmax, and all that follows, to float32.
        with torch.autocast(z.device.type, enabled=False):
            projected = z.to(logits.dtype).permute(0, 2, 3, 1).unsqueeze(-2) * per_head.softmax(-1)
        return projected.flatten(-2).permute(0, 3, 1, 2)

    def nearest(self, projected: Tensor) -> Tensor:
        """Return the index of the nearest code of each panel and head, eq. 2.

        Args:
            projected: ``(N, heads * dim, H, W)``, from `project`.

        Returns:
            ``(heads, N, H, W)`` int64; the lowest index where two codes are equally near.
        """
        # |p - q|^2 = |p|^2 - 2 p.q + |q|^2; the first term is the same for all codes.
        half_norms = self.codebook.detach().square().sum(-1).div(2).unsqueeze(1)  # (heads, 1, codes)
        codes = self.codebook.detach().transpose(1, 2)
        found = []
        with torch.autocast(projected.device.type, enabled=False):
            panels_at_once = CHUNK if projected.device.type == "cpu" else projected.numel()
            for panels in self._panels(projected).split(panels_at_once, dim=1):
                panels = panels.to(codes.dtype, memory_format=torch.contiguous_format)
                found.append(torch.baddbmm(half_norms, panels, codes, alpha=-1).min(-1).indices)
        n, _, h, w = projected.shape
        return torch.cat(found, dim=1).view(self.heads, n, h, w)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes of ``indices`` ``(heads, N, H, W)`` side by side: ``(N, heads * dim, H, W)``, eq. 5."""
        rows = indices.permute(1, 2, 3, 0) + self._first_rows()  # (N, H, W, heads)
        codes = F.embedding(rows, self.codebook.flatten(0, 1))  # (N, H, W, heads, dim)
        return codes.flatten(-2).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> QLayerOutput:
        """Project, find the nearest codes and look them up; ``z`` is ``(N, dim, H, W)``."""
        projected = self.project(z)
        if self.training:
            self.last_panels = self._panels(projected)
            if not self.started:
                self._start_from(self.last_panels)
        indices = self.nearest(projected)
        if self.training:
            rows = indices.flatten(1) + self._first_rows().view(-1, 1)
            self.usage += torch.bincount(rows.flatten(), minlength=self.usage.numel()).view_as(self.usage)
        return QLayerOutput(self.lookup(indices).to(projected.dtype), projected, indices)

    def losses(self, out: QLayerOutput) -> tuple[Tensor, Tensor]:
        """Return the codebook loss L_{Q->E} and the commitment loss L_{E->Q} of eq. 8.

        Both are squared L2 distances over all ``heads * dim`` channels, averaged over images and positions.
        They have the same value; the first moves codes only, the second input and projection only.
        """
        panels = out.quantized.numel() / (self.heads * self.dim)
        difference = out.quantized.detach() - out.projected.detach()
        value = torch.linalg.vector_norm(difference, dtype=self.codebook.dtype).square() / panels
        codebook_loss = _WithSlope.apply(value, out.quantized, difference, 2 / panels)
        commitment_loss = _WithSlope.apply(value, out.projected, difference, -2 / panels)
        return codebook_loss, commitment_loss

    @torch.no_grad()
    def update_inactive(self, strategy: str = "pull", *, learning_rate: float = 0.001) -> list[int]:
        """Move the codes that no panel chose since the last call towards the last batch (section 3.5).

        Args:
            strategy: ``"pull"`` takes one Adam step on the squared distance from each inactive code to its
                closest panel; ``"reinitialize"`` sets the code to that panel.
            learning_rate: of the Adam step.

        Returns:
            The number of inactive codes of each head. The usage counts start again at zero.
        """
        if strategy not in UPDATES:
            raise ValueError(f"strategy is {strategy!r}; choose one of {', '.join(UPDATES)}")
        if self.last_panels is None:
            raise RuntimeError("no batch has passed in training mode: call the layer in train() mode first")
        inactive = self.usage == 0  # (heads, codes)
        # The nearest panel of a code maximises p.q - |p|^2 / 2.
        panels = self.last_panels.to(self.codebook.dtype)
        scores = self.codebook @ panels.transpose(1, 2) - panels.square().sum(-1).div(2).unsqueeze(1)
        head = torch.arange(self.heads, device=panels.device).unsqueeze(1)
        targets = panels[head, scores.argmax(-1)][inactive]
        if strategy == "pull":
            targets = _adam_step(self.codebook[inactive], targets, learning_rate)
        self.codebook[inactive] = targets
        self.usage.zero_()
        return inactive.sum(-1).tolist()

    def _gate_logits(self, z: Tensor) -> Tensor:
        """Return ``norm(z W_i + b_i)`` of all heads; in evaluation the norm is folded into the weights."""
        if self.gate_norm is None:
            return self.gate(z)
        if self.gate_norm.training:
            return self.gate_norm(self.gate(z))
        norm = self.gate_norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.gate.weight * scale.view(-1, 1, 1, 1)
        return F.conv2d(z, weight, (self.gate.bias - norm.running_mean) * scale + norm.bias)

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
        self.started.fill_(True)


class _WithSlope(torch.autograd.Function):
    """Return ``value`` with the gradient ``factor * slope`` in ``x``: two losses then share one pass over memory."""

    @staticmethod
    def forward(ctx, value: Tensor, x: Tensor, slope: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return None, slope * (gradient * ctx.factor), None, None


def _adam_step(codes: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
    """Return ``codes`` after one Adam step on their summed squared distance to ``targets``."""
    with torch.enable_grad():
        moved = codes.clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=learning_rate)
        (moved - targets).square().sum().backward()
        optimizer.step()
    return moved.detach()
