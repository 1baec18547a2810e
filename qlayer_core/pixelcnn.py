"""A gated PixelCNN (van den Oord et al., 2016) over the pixels of images, or over the codes that a Q-Layer chooses.

It gives an image the probability ``prod p(symbols at a position | all positions before it)``, positions in reading
order. Where a position has several symbols, one per head, they are independent given the earlier positions: each
head has its own softmax, as in the authors' public code. Every factor is normalised, so the product is a
probability, though one that misses what the heads of one position have in common.

Figure 2 of the paper compares the likelihoods of clean and attacked images under two such models.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from qlayer_core import checks, loop
from qlayer_core.fast import RAdam
from qlayer_core.layer import QLayer
from qlayer_core.machine import autocast
from qlayer_core.models import glorot

LEVELS = 256  # values of a pixel
BATCH = 64  # images that are scored at a time


@dataclass(frozen=True)
class Settings:
    """How a PixelCNN is built and trained; sizes and optimizer are those of the authors' code.

    Batches of a quarter of theirs, and a high learning rate that falls, make a few epochs on a CPU enough.
    """

    layers: int = 7
    filters: int = 64
    first: int = 5  # filter of the first layer
    kernel: int = 3  # and of the others
    batch_size: int = 32
    learning_rate: float = 0.006  # falls exponentially ...
    final: float = 0.03  # ... to this share at the end of the last epoch
    epochs: int = 4
    patience: int = 3


class Strip(nn.Conv2d):
    """A convolution that sees no row below and no column to the right, nor its own row or column if ``strict``.

    It needs no mask: the window has only the taps that it may use, and the map is padded on the sides it looks at.

    Args:
        channels: of the input.
        features: of the output.
        size: odd side of the square window that it is half of.
        vertical: the upper half of the window, else the left half of its middle row.
        strict: without the window's own row (vertical) or position (horizontal).
    """

    def __init__(self, channels: int, features: int, size: int, *, vertical: bool, strict: bool):
        if size % 2 == 0:
            raise ValueError(f"the window's side is {size}; it must be odd, so that it has a middle")
        half = size // 2
        long = half if strict else half + 1
        super().__init__(channels, features, (long, size) if vertical else (1, long))
        # left, right, top, bottom; the last row or column of a strict map would only be seen by what is outside
        self.margins = (half, half, half, -int(strict)) if vertical else (half, -int(strict), 0, 0)

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``(N, features, H, W)`` for ``(N, channels, H, W)``."""
        return super().forward(F.pad(maps, self.margins))


class GatedLayer(nn.Module):
    """One layer of both stacks (van den Oord et al., 2016, Figure 2).

    The vertical stack sees the rows above a position, the horizontal one what is to its left, and all that the
    vertical one has seen. The original shifts the vertical map by a row on its way across; here its first
    layer is strict, so that no position of it ever holds its own row and there is nothing to shift.

    Args:
        channels: of both inputs.
        filters: of both outputs.
        size: side of the window.
        first: strict, and without the horizontal stack's residual connection.
    """

    def __init__(self, channels: int, filters: int, size: int, first: bool):
        super().__init__()
        self.vertical = Strip(channels, 2 * filters, size, vertical=True, strict=first)
        self.horizontal = Strip(channels, 2 * filters, size, vertical=False, strict=first)
        self.across = nn.Conv2d(2 * filters, 2 * filters, 1)
        self.out = nn.Conv2d(filters, filters, 1)
        self.residual = not first

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Return both stacks, ``(N, filters, H, W)`` each."""
        above = self.vertical(vertical)
        beside = self.out(_gate(self.horizontal(horizontal) + self.across(above)))
        return _gate(above), horizontal + beside if self.residual else beside


def _gate(maps: Tensor) -> Tensor:
    """Return ``tanh(a) * sigmoid(b)`` for the halves a and b of the channels, eq. 2 of van den Oord et al."""
    a, b = maps.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class PixelCNN(nn.Module):
    """The autoregressive model; see `over_pixels` and `over_codes`.

    Args:
        table: ``(heads, values, dim)``, what each symbol of each head looks like to the model; at most 256 symbols.
        settings: its sizes.
    """

    def __init__(self, table: Tensor, settings: Settings | None = None):
        super().__init__()
        self.settings = settings = settings or Settings()
        self.heads, self.values, dim = table.shape
        if self.values > 256:
            raise ValueError(f"a head has {self.values} symbols; each is kept in a byte, so give at most 256")
        self.register_buffer("table", table.detach().float().clone(), persistent=False)
        sizes = [settings.first, *[settings.kernel] * (settings.layers - 1)]
        self.layers = nn.ModuleList(
            GatedLayer(settings.filters if number else self.heads * dim, settings.filters, size, not number)
            for number, size in enumerate(sizes)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(settings.filters, settings.filters, 1),
            nn.ReLU(),
            nn.Conv2d(settings.filters, self.heads * self.values, 1),
        )
        # how far it sees from a position: rows above, columns to either side
        self.reach = sum(size // 2 for size in sizes)
        glorot(self)
        self.to(memory_format=torch.channels_last)

    def inputs(self, symbols: Tensor) -> Tensor:
        """Return ``(N, heads * dim, H, W)``, the symbols ``(N, heads, H, W)`` as the first layer sees them."""
        head = torch.arange(self.heads, device=symbols.device).view(1, -1, 1, 1)
        rows = self.table[head, symbols.long()]  # (N, heads, H, W, dim)
        return rows.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)  # channels last in memory

    def stacks(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vertical and the horizontal stack's last maps, ``(N, filters, H, W)`` each."""
        vertical = horizontal = inputs
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return vertical, horizontal

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, H, W, heads, values)``, of each position given what is before it in ``inputs``."""
        return self.logits(self.stacks(inputs)[1])

    def logits(self, maps: Tensor) -> Tensor:
        """Return logits ``(N, H, W, heads, values)`` for maps ``(N, filters, H, W)`` of the horizontal stack."""
        return self.head(maps).permute(0, 2, 3, 1).unflatten(-1, (self.heads, self.values))


def over_pixels(settings: Settings | None = None, levels: int = LEVELS) -> PixelCNN:
    """Return an untrained model of images with one channel and ``levels`` values, which it sees as `seen` says."""
    return PixelCNN(seen(torch.arange(levels), levels).unsqueeze(0), settings)


def seen(values: Tensor, levels: int = LEVELS) -> Tensor:
    """Return what a model of pixels sees of values ``(...)`` from 0 to ``levels - 1``: ``(..., features)``.

    The value itself as -1 (black) to 1, as in the authors' code, and its sine and cosine at periods of 2, 4, 8, ...
    values (Fourier features: Tancik et al., 2020). By their size alone a convolution can hardly tell 253 from 254,
    and most of the bright pixels of a digit are 252 to 255. Values need not be whole.
    """
    periods = 2.0 ** torch.arange(1, (levels - 1).bit_length() + 1, device=values.device)
    angles = 2 * math.pi * values.unsqueeze(-1) / periods
    return torch.cat([2 * values.unsqueeze(-1) / (levels - 1) - 1, angles.sin(), angles.cos()], dim=-1)


def over_codes(layer: QLayer, settings: Settings | None = None) -> PixelCNN:
    """Return an untrained model of the codes that ``layer`` chooses; it sees the codes z_q, to a common scale."""
    return PixelCNN(layer.codebook / layer.codebook.square().mean().sqrt(), settings)


def as_symbols(images: Tensor, levels: int = LEVELS) -> Tensor:
    """Return images ``(N, 1, H, W)`` in [0, 1], rounded to the nearest of at most 256 levels, as uint8."""
    return (images * (levels - 1)).round().to(torch.uint8)


def surprise(model: PixelCNN, symbols: Tensor, context: Tensor | None = None) -> Tensor:
    """Return ``-log p(symbol | what is before it)`` in nats, ``(N, heads, H, W)``.

    Args:
        model: whose probabilities.
        symbols: ``(N, heads, H, W)``, values 0 to ``model.values - 1``.
        context: ``(N, heads * dim, H, W)``, what the model sees in place of the symbols themselves. Their
            sum is then no longer the likelihood of anything; it is how the paper's pixels were scored.
    """
    if symbols.ndim != 4 or symbols.shape[1] != model.heads:
        shape = tuple(symbols.shape)
        raise ValueError(f"symbols have shape {shape}; this model takes (N, {model.heads}, H, W)")
    largest = int(symbols.max()) if len(symbols) else 0
    if largest >= model.values:
        raise ValueError(f"the largest symbol is {largest}; this model has 0 to {model.values - 1}")
    logits = model(model.inputs(symbols) if context is None else context).float()
    wanted = symbols.permute(0, 2, 3, 1)  # (N, H, W, heads)
    nats = F.cross_entropy(logits.flatten(0, 3), wanted.flatten().long(), reduction="none")
    return nats.view(wanted.shape).permute(0, 3, 1, 2)


@torch.no_grad()
def log_likelihood(
    model: PixelCNN, symbols: Tensor, context: Tensor | None = None, *, progress: bool = False
) -> Tensor:
    """Return each image's log-likelihood in nats, ``(N,)`` float64; see `surprise` for the arguments.

    In full precision: the sum over hundreds of positions must not depend on a device's number format.
    """
    found = []
    with torch.autocast(symbols.device.type, enabled=False):
        starts = range(0, len(symbols), BATCH)
        for start in tqdm(starts, "likelihood", disable=not progress, leave=False):
            at = slice(start, start + BATCH)
            nats = surprise(model, symbols[at], None if context is None else context[at])
            found.append(-nats.double().flatten(1).sum(1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def bits_per_dimension(log_likelihoods: Tensor, dimensions: int) -> Tensor:
    """Return ``-log2 p`` divided by the number of symbols in an image, ``heads * H * W``."""
    return -log_likelihoods / (dimensions * math.log(2))


@torch.no_grad()
def next_logits(model: PixelCNN, symbols: Tensor, row: int, column: int) -> Tensor:
    """Return logits ``(N, heads, values)`` of one position of ``symbols`` ``(N, heads, H, W)``, given those before.

    It looks no further than the model does, so that it is cheap to go through an image position by position.
    """
    top, left = max(0, row - model.reach), max(0, column - model.reach)
    window = symbols[:, :, top : row + 1, left : column + model.reach + 1]
    maps = model.stacks(model.inputs(window))[1]
    at = column - left
    return model.logits(maps[:, :, -1:, at : at + 1])[:, 0, 0].float()


@torch.no_grad()
def sample(
    model: PixelCNN, count: int, side: tuple[int, int], generator: torch.Generator | None = None
) -> Tensor:
    """Draw images from the model, position by position: ``(count, heads, H, W)`` uint8 symbols.

    Args:
        model: what to draw from.
        count: how many images.
        side: their height and width.
        generator: of the draws; seeded with 0 if left out.
    """
    generator = generator or torch.Generator().manual_seed(0)
    height, width = side
    drawn = torch.zeros(count, model.heads, height, width, dtype=torch.uint8, device=model.table.device)
    for row in range(height):
        for column in range(width):
            shares = next_logits(model, drawn, row, column).softmax(-1)
            draws = torch.multinomial(shares.view(-1, model.values).cpu(), 1, generator=generator)
            drawn[:, :, row, column] = draws.view(count, model.heads).to(drawn)
    return drawn


def train(
    model: PixelCNN,
    train_set: Tensor,
    validation_set: Tensor,
    *,
    seed: int,
    checkpoint: Path | None = None,
    until: int | None = None,
    report: Callable[[dict], None] = lambda row: None,
    progress: bool = False,
) -> loop.State:
    """Train ``model`` in place by maximum likelihood and leave it with the weights of its best validation.

    Args:
        model: with random weights.
        train_set: symbols ``(N, heads, H, W)``.
        validation_set: the same, of images that choose the epoch.
        seed: of the order of images.
        checkpoint: where to keep the state after each epoch, and where to continue from if it is there.
        until: pause after so many epochs.
        report: called with each new row of the history.
        progress: show the batches of an epoch as they pass.

    Returns:
        The final state; a row of its history holds epoch, ``bits`` per dimension of ``train`` (while it
        learned) and ``validation``, and ``score``, minus the latter.
    """
    settings = model.settings
    checks.option("batch_size", settings.batch_size)
    optimizer = RAdam(model.parameters(), lr=settings.learning_rate)

    def epoch(finished: int) -> dict:
        bits = {
            "train": _epoch(model, optimizer, train_set, finished, progress),
            "validation": _bits(model, validation_set),
        }
        return {"bits": bits, "score": -bits["validation"]}

    return loop.run(
        model,
        optimizer,
        epoch,
        seed=seed,
        epochs=settings.epochs,
        patience=settings.patience,
        settings=json.dumps(dataclasses.asdict(settings) | {"symbols": [model.heads, model.values]}),
        checkpoint=checkpoint,
        until=until,
        report=report,
    )


def _epoch(
    model: PixelCNN, optimizer: torch.optim.Optimizer, symbols: Tensor, finished: int, progress: bool
) -> float:
    """Train for one epoch and return the mean bits per dimension."""
    settings, total = model.settings, torch.zeros((), dtype=torch.float64, device=symbols.device)
    batches = torch.randperm(len(symbols)).to(symbols.device).split(settings.batch_size)
    for number, batch in enumerate(tqdm(batches, f"epoch {finished + 1}", disable=not progress, leave=False)):
        for group in optimizer.param_groups:
            gone = (finished + number / len(batches)) / settings.epochs
            group["lr"] = settings.learning_rate * settings.final**gone
        optimizer.zero_grad()
        with autocast(symbols.device):
            nats = surprise(model, symbols[batch])
        nats.mean().backward()
        total += nats.detach().sum()
        optimizer.step()
    return total.item() / (symbols.numel() * math.log(2))


@torch.no_grad()
def _bits(model: PixelCNN, symbols: Tensor) -> float:
    """Return the mean bits per dimension, in the number format of training."""
    with autocast(symbols.device):
        parts = [surprise(model, batch).double().sum() for batch in symbols.split(BATCH)]
    return torch.stack(parts).sum().item() / (symbols.numel() * math.log(2))
