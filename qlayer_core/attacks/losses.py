"""What an attack raises: losses of each image, from logits ``(N, classes)`` and labels ``(N,)`` to ``(N,)``."""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
CLIP = 1e-7  # of the probabilities, in the framework that the toolbox of 2019 attacked


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logsumexp of the other logits minus the label's: the cross-entropy before its softplus.

    The cross-entropy is ``softplus`` of this number, so it rises where this does, and its gradient points the same
    way. But float32 rounds that gradient away from the images that a network is sure of: once the label's
    probability rounds to 1 the label's own part of it is lost, and beyond a gap of about 104 all of it. This form
    loses nothing, however sure the network is.
    """
    own, others = _split(logits, labels)
    return others.logsumexp(1) - own


def clipped(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of float32 probabilities clipped to [1e-7, 1 - 1e-7].

    The toolbox of 2019 attacked so. Where the label's probability exceeds 1 - 1e-7 the gradient is exactly zero, the
    attack returns the image as it was, and the image counts as robust.
    """
    probability, _ = _split(logits.float().softmax(1), labels)
    return -probability.clamp(CLIP, 1 - CLIP).log()


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other logit minus the label's; positive where the image is misclassified.

    A loss is what an attack raises, so this is *minus* what the book calls the margin: by how much the label leads.
    """
    own, others = _split(logits, labels)
    return others.amax(1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference-of-logits ratio (Croce and Hein, 2020): the margin over the first to third logit's gap.

    It does not change when all logits are scaled, so a network can't hide its gradient by being sure.

    Raises:
        ValueError: fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"the model has {logits.shape[1]} classes, and this loss compares the best with the third best:"
            " use loss='margin'"
        )
    ranked = logits.topk(3, dim=1).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2]).clamp(min=1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "clipped": clipped, "margin": margin, "dlr": dlr}


def named(loss: str | Loss) -> Loss:
    """Return the loss of that name; a callable is returned as it is.

    Raises:
        ValueError: no such name; the message lists those that there are.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; choose one of {', '.join(LOSSES)}, or give a callable")
    return LOSSES[loss]


def _split(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's value at its label, ``(N,)``, and the rows with minus infinity there.

    Raises:
        ValueError: there is not one label per row; one would count for all of them.
    """
    if labels.shape != values.shape[:1]:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; give one per row of the logits: ({len(values)},)"
        )
    at = labels.unsqueeze(1)
    return values.gather(1, at).squeeze(1), values.scatter(1, at, -torch.inf)
