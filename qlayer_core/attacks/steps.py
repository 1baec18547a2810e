"""Attacks that take steps along the sign of the gradient: FGSM, BIM and PGD."""

import torch
from torch import Tensor

from qlayer_core.attacks.contract import Best, Problem, contract
from qlayer_core.attacks.losses import Loss


@contract
def fgsm(problem: Problem, *, loss: str | Loss = "ce") -> Tensor:
    """Fast gradient sign method: one step of ``eps`` along the sign of the loss's gradient (section 2.1).

    Args: those of `attacks.contract`, and

        loss: ``"ce"``, the exact cross-entropy; ``"clipped"``, that of the toolbox of 2019; ``"margin"``; ``"dlr"``;
            or a callable from logits ``(N, classes)`` and labels ``(N,)`` to ``(N,)``. See `attacks.losses`.
    """
    return problem.project(problem.x + problem.eps * problem.gradient(problem.x, loss).sign())


@contract
def bim(problem: Problem, *, step: float = 0.01, iterations: int = 100, loss: str | Loss = "ce") -> Tensor:
    """Basic iterative method: FGSM in steps of ``step``, projected on the ``eps`` box after each (section 2.1).

    The paper names the step of 0.01 (appendix B); 100 iterations were the toolbox's default of its time.

    Args: those of `attacks.contract`, and

        step: of one iteration.
        iterations: how many.
        loss: as for `fgsm`.
    """
    return _ascend(problem, problem.x.clone(), step, iterations, loss)


@contract
def pgd(
    problem: Problem,
    *,
    step: float = 0.01,
    iterations: int = 40,
    restarts: int = 1,
    loss: str | Loss = "ce",
    keep_best: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent: BIM from random points of the ``eps`` box (Madry et al., 2018).

    Args: those of `attacks.contract`, and

        step: of one iteration.
        iterations: per restart.
        restarts: random starts; an image keeps the result of the start with the highest loss.
        loss: as for `fgsm`.
        keep_best: an image keeps the iterate of all restarts that comes furthest beyond the decision boundary, by the
            margin of its logits, instead of the last iterate of the restart with the highest loss. Where a gradient
            is only approximate, as straight through a quantizer, the last iterate often isn't the best.
        generator: where the starts come from; one seeded with 0 if left out.
    """
    x = problem.x
    if problem.labels is None:
        problem.logits(x)  # the predictions on the clean images become the labels
    best = Best(x)
    for _ in range(restarts):
        noise = torch.rand(x.shape, generator=generator).to(x).mul_(2).sub_(1) * problem.eps
        start = problem.project(x + noise)
        if keep_best:
            found = _ascend(problem, start, step, iterations, loss, best)
            best.offer(found, problem.loss(found, "margin"))
        else:
            found = _ascend(problem, start, step, iterations, loss)
            best.offer(found, problem.loss(found, loss))
    return best.images


def _ascend(
    problem: Problem, x: Tensor, step: float, iterations: int, loss: str | Loss, best: Best | None = None
) -> Tensor:
    """Walk ``x`` in place up the loss, projecting on the box after each step, and return it.

    All points on the way but the last are offered to ``best``.
    """
    for _ in range(iterations):
        here = problem.look(x, loss)
        if best is not None:
            best.offer(x, problem.margin(here.logits))
        problem.project(x.add_(here.gradient.sign(), alpha=step))
    return x
