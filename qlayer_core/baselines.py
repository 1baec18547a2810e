"""Other ways to quantize: defences that quantize the *input* of CNN A, which the paper sets itself apart from.

A `Defended` network is a quantizer of images in front of a plain network, and is used wherever a plain one is. A
quantizer has no useful gradient, which is not robustness: each comes with the adaptive attack that Athalye et al.
(2018) ask for, as a surrogate for any attack: `straight_through`, `soft` levels for encodings, `expectation` over
draws for random ones; `ls_pga` is the attack made for encodings by their own authors.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks, models
from qlayer_core.attacks.contract import Problem, contract
from qlayer_core.fast import Dropout
from qlayer_core.models import straight_through as with_gradient_of
from qlayer_core.specs import seed_of

# ---- Quantizers: images (N, C, H, W) in [0, 1] to what the network sees ----


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

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; halves are rounded to the even step."""
        return (images * self.steps).round() / self.steps

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

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape."""
        return self.median(self.depth(images))

    def relaxed(self, images: Tensor) -> Tensor:
        """Return the same with the gradient of the median alone."""
        return self.median(self.depth.relaxed(images))


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
        """Let the noise start again, from ``seed``."""
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape, with noise of a new draw."""
        return self.nearest(self.noisy(images))

    def noisy(self, images: Tensor) -> Tensor:
        """Return images with noise of a new draw."""
        noise = torch.randn(images.shape, generator=self.generator).to(images)
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


# ---- Networks ----


class Defended(nn.Module):
    """A network behind a quantizer of its input.

    Args:
        quantizer: images ``(N, 1, H, W)`` in [0, 1] to what ``network`` takes.
        network: that to logits ``(N, classes)``.
    """

    def __init__(self, quantizer: nn.Module, network: nn.Module):
        super().__init__()
        self.entrance = models.Images(models.SHAPE[0])
        self.quantizer, self.network = quantizer, network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of the quantized images."""
        return self.network(self.quantizer(self.entrance(images)))


QUANTIZERS: dict[str, Callable[[], nn.Module]] = {
    "bit-depth": BitDepth,
    "median": MedianFilter,
    "squeezing": Squeezing,
    "one-hot": lambda: Encoding(thermometer=False),
    "thermometer": Encoding,
    "randomised": RandomDiscretization,
}


def build(name: str, seed: int = 0, quantizer: nn.Module | None = None) -> Defended:
    """Return an untrained CNN A (Table 4) behind an input quantizer, weights drawn with ``seed``.

    Args:
        name: of `QUANTIZERS`.
        seed: of the weights.
        quantizer: one with other settings, in place of that name's.
    """
    if name not in QUANTIZERS:
        raise ValueError(f"quantizer is {name!r}; choose one of {', '.join(QUANTIZERS)}")
    quantizer = quantizer or QUANTIZERS[name]()
    channels = models.SHAPE[0] * (quantizer.levels if isinstance(quantizer, Encoding) else 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(f"baseline/{name}", seed))
        first, second, side = models.blocks("a", (channels, *models.SHAPE[1:]))
        network = nn.Sequential(first, second, Dropout(0.25), models.head(64 * side * side))
        models.glorot(network)
    return Defended(quantizer, network).to(memory_format=torch.channels_last)


# ---- What an adaptive attack differentiates ----


def straight_through(net: Defended) -> attacks.Model:
    """Return the answers of ``net`` with a gradient through its quantizer: BPDA (Athalye et al., 2018).

    Squeezed and discretised values pass it on as if they were the values themselves, encodings as soft levels do.
    """
    return lambda images: net.network(net.quantizer.relaxed(images))


def soft(net: Defended, temperature: float = 0.01) -> attacks.Model:
    """Return the answers of a network with an `Encoding` to soft levels: differentiable, and not quite the network's.

    Args:
        net: with an `Encoding`.
        temperature: in squared pixel values; towards 0 the levels become hard, and their gradient vanishes.
    """
    encoding = _encoding(net)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be greater than 0")
    return lambda images: net.network(encoding.soft(images, temperature))


def expectation(net: Defended, draws: int = 16) -> attacks.Model:
    """Return the mean logits over several draws of a random quantizer, each straight through.

    The expectation over transformations of Athalye et al. (2018): one draw's gradient is mostly noise.

    Args:
        net: whose quantizer draws anew at every call.
        draws: how many.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; it must be at least 1")
    answer = straight_through(net)
    return lambda images: torch.stack([answer(images) for _ in range(draws)]).mean(0)


def adaptive(net: Defended) -> attacks.Model:
    """Return the surrogate that fits the quantizer of ``net``."""
    return expectation(net) if isinstance(net.quantizer, RandomDiscretization) else straight_through(net)


@contract
def ls_pga(
    problem: Problem,
    *,
    iterations: int = 40,
    step: float = 1.0,
    cooling: float = 1.2,
    loss: str | attacks.losses.Loss = "ce",
) -> Tensor:
    """Logit-space projected gradient ascent (Buckman et al., 2018), on a `Defended` network with an `Encoding`.

    Each pixel holds a softmax over the levels that lie within ``eps`` of it. Steps along the sign of the loss's
    gradient move its logits, while a falling temperature makes it choose; at the end it takes the value
    nearest to the clean one in the level that it holds most of.

    Args: those of `attacks.contract`, where the model is the network itself, and

        iterations: how many steps.
        step: of a logit.
        cooling: by how much the temperature, 1 at first, is divided after each step.
        loss: as for `attacks.fgsm`.
    """
    net, x = problem.model, problem.x
    encoding = _encoding(net)
    if problem.labels is None:
        problem.logits(x)
    low, high = encoding.level(problem.low), encoding.level(problem.high)
    level = torch.arange(encoding.levels, device=x.device)
    allowed = (level >= low.unsqueeze(-1)) & (level <= high.unsqueeze(-1))
    logits = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device)

    def shares(at: Tensor, temperature: float) -> Tensor:
        return (at / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)

    relaxed = Problem(
        lambda at: net.network(encoding.encode(at)), logits, problem.labels, 0.0, problem.targeted
    )
    temperature = 1.0
    for _ in range(iterations):
        with torch.enable_grad():
            moved = logits.detach().requires_grad_()
            held = shares(moved, temperature)
            (gradient,) = torch.autograd.grad(held, moved, relaxed.gradient(held.detach(), loss))
        logits += step * gradient.sign()
        temperature /= cooling
    chosen = shares(logits, temperature).argmax(-1)
    # The nearest value of the chosen level; a level holds its lower end, and not its upper one.
    bottom, top = chosen / encoding.levels, (chosen + 1) / encoding.levels - 1e-6
    found = torch.minimum(torch.maximum(x, bottom.to(x)), top.to(x))
    return torch.where(chosen == encoding.level(x), x, found)


def _encoding(net: nn.Module) -> Encoding:
    quantizer = getattr(net, "quantizer", None)
    if not isinstance(quantizer, Encoding):
        raise TypeError(
            f"the model is a {type(net).__name__} without a one-hot or thermometer encoding, so it has no levels to"
            " soften: use straight_through or expectation"
        )
    return quantizer
