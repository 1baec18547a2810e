"""The six tasks of "Break it yourself", easy to hard: a network, a budget and what counts as broken."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from qlayer_core import attacks, baselines, quantizers


@dataclass(frozen=True)
class Task:
    """One network to break.

    Args:
        number: 1 is the easiest.
        title: what the page calls it.
        goal: in plain words.
        network: of `NETWORKS`.
        eps: how far a pixel may move.
        target: percent of right answers that the network may have left, at most.
        seconds: for all hidden images together.
        images: how many of them.
        draws: how often a network that answers at random is asked about each image.
        dataset: whose images.
    """

    number: int
    title: str
    goal: str
    network: str
    eps: float
    target: float
    seconds: float = 180.0
    images: int = 100
    draws: int = 1
    dataset: str = "mnist"


class ClippedSoftmax(nn.Module):
    """A network that answers with the logarithm of its probabilities, clipped as the framework of 2019 did.

    Args:
        network: images to logits.
        sharpness: what the logits are multiplied by first. It changes no answer, but how sure the network is of it,
            as distillation at this temperature does (Papernot et al., 2016).
    """

    def __init__(self, network: nn.Module, sharpness: float = 1.0):
        super().__init__()
        self.network, self.sharpness = network, sharpness

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(N, classes)``; where the network is sure, nothing changes with the image."""
        shares = self.network(images).float().mul(self.sharpness).softmax(1)
        return shares.clamp(attacks.losses.CLIP, 1 - attacks.losses.CLIP).log()


Load = Callable[[str], nn.Module]  # a released network by its name
NETWORKS: dict[
    str, tuple[str, Callable[[nn.Module], nn.Module]]
] = {  # the released network, and what is put round it
    "masked": ("cnn", lambda net: baselines.Defended(quantizers.BitDepth(3), net)),
    "clipped": ("cnn", lambda net: ClippedSoftmax(net, sharpness=100.0)),
    "q-base": ("q-base", lambda net: net),
    "q-inner": ("q-inner", lambda net: net),
    "q-base-adv": ("q-base-adv", lambda net: net),
    "randomised": (
        "cnn-adv",
        lambda net: baselines.Defended(quantizers.RandomDiscretization(4, sigma=0.15), net),
    ),
}
TASKS = (
    Task(
        1,
        "A masked gradient",
        "Its input is rounded to 8 values, and rounding has no slope.",
        "masked",
        0.2,
        40,
    ),
    Task(
        2,
        "Too sure to be attacked",
        "A hundred times as sure as it was, and clipped where it is sure.",
        "clipped",
        0.2,
        20,
    ),
    Task(3, "Q-base", "A quantization layer behind the convolutions, one codebook.", "q-base", 0.2, 30),
    Task(4, "Q-inner", "Four codebooks between the two convolutions.", "q-inner", 0.2, 40),
    Task(
        5, "Q-base, trained to resist", "It has seen attacked images in training.", "q-base-adv", 0.3, 60, 360
    ),
    Task(
        6,
        "A network that rolls dice",
        "Noise, then the nearest of four colours, anew at every look.",
        "randomised",
        0.3,
        60,
        360,
        draws=8,
    ),
)
