"""Quantizers of the input: images ``(N, C, H, W)`` in [0, 1] to what a network behind them sees.

Each has a ``forward``, whose gradient is zero or not there, and ``relaxed``: the same values with a gradient of use.
Those that cut each value to one of ``levels`` say which with ``level``, what it holds with ``bounds``, and with
``encode`` what the network sees of shares of each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core.models import straight_through as with_gradient_of


class BitDepth(nn.Module):
    """Feature squeezing (Xu et al., 2018): fewer values per pixel, ``round(x (2^bits - 1)) / (2^bits - 1)``.

    Args:
        bits: per pixel, 1 to 8.
    """

    def __init__(self, bits: int = 1):
        super().__init__()
        if not 1 <= bits <= 8:
            raise ValueError(f"bits is {bits}; give 1 to 8")
        self.steps = 2**bits - 1
        self.levels = self.steps + 1

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; halves are rounded to the even step."""
        return (images * self.steps).round() / self.steps

    def level(self, images: Tensor) -> Tensor:
        """Return the step of each value, int64, in the shape of ``images``."""
        return (images * self.steps).round().long()

    def bounds(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value that each level holds for certain."""
        return (level - 0.5) / self.steps + 1e-6, (level + 0.5) / self.steps - 1e-6

    def encode(self, shares: Tensor) -> Tensor:
        """Return what the network sees of ``(N, C, H, W, levels)`` shares of each level: the mean value."""
        return shares @ (torch.arange(self.levels, dtype=shares.dtype, device=shares.device) / self.steps)

    def relaxed(self, images: Tensor) -> Tensor:
        """Return the same with the gradient of the identity."""
        return with_gradient_of(images, self(images))


class MedianFilter(nn.Module):
    """Feature squeezing (Xu et al., 2018): each pixel becomes the median of the ``size`` x ``size`` around it.

    Beyond the border lies the nearest pixel. An even window reaches one further up and left, and takes the upper
    of its two middle values, as SciPy's does.

    Args:
        size: side of the window.
    """

    def __init__(self, size: int = 2):
        super().__init__()
        if size < 1:
            raise ValueError(f"size is {size}; it must be at least 1")
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; the gradient goes to the pixel that is the median."""
        before, after = self.size // 2, self.size - 1 - self.size // 2
        padded = F.pad(images, (before, after, before, after), mode="replicate")
        windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4)
        return windows.kthvalue(self.size**2 // 2 + 1, dim=-1).values

    def relaxed(self, images: Tensor) -> Tensor:
        """Return the same: the median has a gradient of its own."""
        return self(images)


class Squeezing(nn.Module):
    """Both squeezers of Xu et al. (2018), one behind the other.

    Args:
        bits: of `BitDepth`.
        size: of `MedianFilter`.
    """

    def __init__(self, bits: int = 1, size: int = 2):
        super().__init__()
        self.depth, self.median = BitDepth(bits), MedianFilter(size)
        self.levels, self.level, self.bounds = self.depth.levels, self.depth.level, self.depth.bounds

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape."""
        return self.median(self.depth(images))

    def relaxed(self, images: Tensor) -> Tensor:
        """Return the same with the gradient of the median alone."""
        return self.median(self.depth.relaxed(images))

    def encode(self, shares: Tensor) -> Tensor:
        """Return what the network sees of shares of each level, see `BitDepth.encode`."""
        return self.median(self.depth.encode(shares))


class Encoding(nn.Module):
    """One-hot or thermometer encoding (Buckman et al., 2018): each value becomes ``levels`` channels of 0 and 1.

    Level l holds the values in [l / levels, (l + 1) / levels), the last one 1 as well. One-hot, only the channel of
    the own level is 1; as a thermometer, those of all lower levels are, too, so that near values look alike.

    Args:
        levels: how many.
        thermometer: or one-hot.
    """

    def __init__(self, levels: int = 16, *, thermometer: bool = True):
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels is {levels}; it must be at least 2")
        self.levels, self.thermometer = levels, thermometer

    def level(self, images: Tensor) -> Tensor:
        """Return the level of each value, int64, in the shape of ``images``."""
        return (images * self.levels).long().clamp_(0, self.levels - 1)

    def bounds(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value that each level holds for certain; its upper end is the next's."""
        return level / self.levels, (level + 1) / self.levels - 1e-6

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(N, C * levels, H, W)``, without a gradient."""
        return self.encode(F.one_hot(self.level(images), self.levels).to(images.dtype))

    def encode(self, shares: Tensor) -> Tensor:
        """Return what the network sees of ``(N, C, H, W, levels)`` shares of each level, which sum to 1.

        A thermometer's channel l holds the share of all levels from l on.
        """
        if self.thermometer:
            shares = shares.flip(-1).cumsum(-1).flip(-1)
        return shares.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def relaxed(self, images: Tensor, temperature: float = 0.01) -> Tensor:
        """Return the hard encoding with the gradient of soft levels, see `soft`."""
        return with_gradient_of(self.soft(images, temperature), self(images))

    def soft(self, images: Tensor, temperature: float) -> Tensor:
        """Return the encoding of shares ``softmax(-(x - centre)^2 / temperature)``, which have a gradient in x."""
        centres = (torch.arange(self.levels, device=images.device, dtype=images.dtype) + 0.5) / self.levels
        distances = (images.unsqueeze(-1) - centres).square()
        return self.encode((-distances / temperature).softmax(-1))


class RandomDiscretization(nn.Module):
    """Randomised discretisation (Zhang and Liang, 2019): Gaussian noise, then the nearest of a few colours.

    They draw the colours from each image; here they are learned once from training images, see `learn`.

    Args:
        colours: how many.
        sigma: standard deviation of the noise; random in evaluation, too.
        seed: of the noise.
    """

    def __init__(self, colours: int = 4, sigma: float = 0.25, seed: int = 0):
        super().__init__()
        if colours < 2 or sigma < 0:
            raise ValueError(f"colours is {colours} and sigma {sigma}; give at least 2, and at least 0")
        self.register_buffer("colours", torch.linspace(0, 1, colours))
        self.sigma = sigma
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Let the noise of evaluation start again, from ``seed``."""
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode. Training draws as dropout does; evaluation begins with the same draws each time."""
        if not mode:
            self.reseed(self.seed)
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape, with noise of a new draw."""
        return self.nearest(self.noisy(images))

    def noisy(self, images: Tensor) -> Tensor:
        """Return images with noise of a new draw."""
        noise = torch.randn(images.shape, generator=None if self.training else self.generator).to(images)
        return images + self.sigma * noise

    def nearest(self, images: Tensor) -> Tensor:
        """Return each value's nearest colour, the darker of two that are equally near."""
        borders = (self.colours[1:] + self.colours[:-1]) / 2  # colours ascend
        return self.colours[torch.bucketize(images.detach().contiguous(), borders)].to(images.dtype)

    def relaxed(self, images: Tensor) -> Tensor:
        """Return a new draw with the gradient of the identity."""
        noisy = self.noisy(images)
        return with_gradient_of(noisy, self.nearest(noisy))

    @torch.no_grad()
    def learn(self, images: Tensor, rounds: int = 20) -> None:
        """Set the colours to the k-means centres of pixels, Lloyd's rounds; one that no pixel is nearest to stays."""
        values = images.flatten().float()
        colours = self.colours.float()
        for _ in range(rounds):
            nearest = torch.bucketize(values, (colours[1:] + colours[:-1]) / 2)
            counts = torch.bincount(nearest, minlength=len(colours))
            sums = torch.zeros_like(colours).index_add_(0, nearest, values)
            colours = torch.where(counts > 0, sums / counts.clamp(min=1), colours)
        self.colours.copy_(colours)
