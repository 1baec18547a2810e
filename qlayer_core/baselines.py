"""Other ways to quantize: defences that quantize the *input* of CNN A, which the paper sets itself apart from.

A `Defended` network is a quantizer of images in front of a plain network, and is used wherever a plain one is. A
quantizer has no useful gradient, which is not robustness: each comes with the adaptive attack that Athalye et al.
(2018) ask for, as a surrogate for any attack: `straight_through`, `soft` levels for encodings, `expectation` over
draws for random ones; `ls_pga`, made for encodings by their own authors, chooses among the levels themselves.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qlayer_core import attacks, checks, models
from qlayer_core.attacks.contract import Problem, contract
from qlayer_core.fast import Dropout
from qlayer_core.machine import seed_of, seeded
from qlayer_core.quantizers import BitDepth, Encoding, MedianFilter, RandomDiscretization, Squeezing


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
    with seeded(seed_of(f"baseline/{name}", seed)):
        first, second, side = models.blocks("a", (channels, *models.SHAPE[1:]))
        network = nn.Sequential(first, second, Dropout(0.25), models.head(64 * side * side))
        models.glorot(network)
    return Defended(quantizer, network).to(memory_format=torch.channels_last)


# ---- What an adaptive attack differentiates ----


def as_it_is(net: Defended) -> attacks.Model:
    """Return the answers of ``net`` with the gradient that they have by themselves: zero where there is none."""
    return lambda images: net(images) + 0 * images.sum()


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
    encoding = _quantizer(net, "soft")
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
    checks.option("draws", draws)
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
    """Logit-space projected gradient ascent (Buckman et al., 2018), on a `Defended` network with levels.

    Its authors made it for encodings; rounded values are levels as well. Each pixel holds a softmax over the levels
    that lie within ``eps`` of it. Steps along the sign of the loss's gradient move its logits, while a falling
    temperature makes it choose; at the end it takes the value nearest to the clean one in the level that it holds
    most of.

    Args: those of `attacks.contract`, where the model is the network itself, and

        iterations: how many steps.
        step: of a logit.
        cooling: by how much the temperature, 1 at first, is divided after each step.
        loss: as for `attacks.fgsm`.
    """
    net, x = problem.model, problem.x
    quantizer = _quantizer(net, "encode")
    if problem.labels is None:
        problem.logits(x)
    low, high = quantizer.level(problem.low), quantizer.level(problem.high)
    level = torch.arange(quantizer.levels, device=x.device)
    allowed = (level >= low.unsqueeze(-1)) & (level <= high.unsqueeze(-1))
    logits = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device)

    def shares(at: Tensor, temperature: float) -> Tensor:
        return (at / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)

    relaxed = Problem(
        lambda at: net.network(quantizer.encode(at)),
        logits,
        problem.labels,
        0.0,
        problem.targeted,
        problem.dtype,
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
    low, high = quantizer.bounds(chosen)
    found = torch.minimum(torch.maximum(x, low.to(x)), high.to(x))
    return torch.where(chosen == quantizer.level(x), x, found)


def _quantizer(net: nn.Module, able: str) -> nn.Module:
    """Return the quantizer of ``net`` if it has a method of that name."""
    quantizer = getattr(net, "quantizer", None)
    if not hasattr(quantizer, able):
        what = "a one-hot or thermometer encoding" if able == "soft" else "a quantizer that has levels"
        raise TypeError(
            f"the model is a {type(net).__name__} without {what}: use straight_through or expectation"
        )
    return quantizer
