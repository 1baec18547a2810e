"""Auto-PGD towards one wrong class after the other, as in AutoAttack (Croce and Hein, 2020)."""

import torch
from torch import Tensor

from qlayer_core.attacks import losses
from qlayer_core.attacks.apgd import apgd
from qlayer_core.attacks.contract import Best, Problem, contract
from qlayer_core.attacks.losses import Loss


@contract
def apgd_targeted(
    problem: Problem,
    *,
    iterations: int = 100,
    targets: int = 9,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`apgd` on the gap between one wrong class and the label, for the likeliest wrong classes of each clean image.

    An untargeted loss follows whichever class is ahead at the moment, and may give up a class that is further away
    and yet easier to reach. Here each has its own start and all steps, and only images that are still right go on to
    the next.

    Args: those of `attacks.contract`, and

        iterations: per class.
        targets: how many classes are tried, the likeliest first; at most all but one.
        generator: where the starts come from; one seeded with 0 if left out.

    Raises:
        ValueError: with ``targeted=True``, which names one class where this attack chooses them.
    """
    if problem.targeted:
        raise ValueError(
            "targeted is True, but this attack chooses its targets: use apgd(..., targeted=True)"
        )
    logits = problem.logits(problem.x)
    problem.followed = losses.margin
    ranked = logits.scatter(1, problem.labels.unsqueeze(1), -torch.inf).argsort(1, descending=True)
    best = Best(problem.x)
    for target in ranked[:, : min(targets, logits.shape[1] - 1)].T:
        left = (best.score <= 0).nonzero().squeeze(1)
        if not len(left):
            break
        some = problem.at(left)
        images = apgd.__wrapped__(some, iterations=iterations, loss=_ahead(target[left]), generator=generator)
        best.offer(images, some.margin(some.logits(images)), left)
    return best.images


def _ahead(target: Tensor) -> Loss:
    """Return the loss by which the classes ``target`` ``(N,)`` are ahead of the labels."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        of_target, own = (logits.gather(1, at.unsqueeze(1)).squeeze(1) for at in (target, labels))
        return of_target - own

    return loss
