"""What scoring and the explorers ask of their arguments; each check raises a `ValueError` that says what to do."""

from collections.abc import Sequence

from torch import Tensor, nn

from qlayer_core.models import QNet


def pixels(images: Tensor) -> None:
    """Images are ``(N, 1, H, W)`` in [0, 1], at least one."""
    if images.ndim != 4 or images.shape[1] != 1 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; give (N, 1, height, width), N at least 1")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images range from {images.min():g} to {images.max():g}; they must lie in [0, 1]")


def labelled(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Each image has a label, and each label a name."""
    pixels(images)
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; give one an image: ({len(images)},)")
    if not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but class_names has {len(class_names)}:"
            " give one name a class"
        )


def epsilons(bounds: Sequence[float]) -> None:
    """There are at least two epsilons, ascending, in [0, 1]."""
    given = list(bounds)
    if len(given) < 2 or given != sorted(set(given)) or given[0] < 0 or given[-1] > 1:
        raise ValueError(f"epsilons are {given}; give at least two, ascending, in [0, 1]")


def mode(network: nn.Module) -> None:
    """The network is in evaluation mode."""
    if network.training:
        raise ValueError(
            "a network is in training mode, where dropout changes its answers: call eval() first"
        )


def q_net(network: nn.Module) -> None:
    """The network has a Q-Layer and is in evaluation mode."""
    if not isinstance(network, QNet):
        raise ValueError(f"network is a {type(network).__name__}; this needs a QNet, such as q-base")
    mode(network)
