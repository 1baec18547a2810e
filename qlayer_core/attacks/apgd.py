"""Auto-PGD: projected gradient descent that finds its own step sizes (Croce and Hein, 2020)."""

import math

import torch
from torch import Tensor

from qlayer_core import checks
from qlayer_core.attacks.contract import Best, Problem, contract
from qlayer_core.attacks.losses import Loss, named

MOMENTUM = 0.75  # of the new direction; the rest is the last move's
RISES = 0.75  # share of the steps between two checkpoints that must have raised the loss


@contract
def apgd(
    problem: Problem,
    *,
    iterations: int = 100,
    restarts: int = 1,
    loss: str | Loss = "ce",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent with momentum, whose step of each image is halved where it doesn't help.

    The step begins at ``2 eps``. At checkpoints that come ever more often, an image goes back to its best point, and
    on with half the step, if its loss rose in fewer than three quarters of the steps since the last checkpoint, or if
    that interval and an unchanged step brought no better point. Nothing is left to choose but the number of
    iterations. An image keeps the iterate that comes furthest beyond the decision boundary; a restart attacks those
    that are still classified as ``labels``.

    Args: those of `attacks.contract`, and

        iterations: per restart.
        restarts: random starts.
        loss: ``"ce"``, ``"dlr"``, ``"margin"``, or what else `fgsm` takes.
        generator: where the starts come from; one seeded with 0 if left out.
    """
    x = problem.x
    if problem.labels is None:
        problem.logits(x)  # the predictions on the clean images become the labels
    problem.followed = named(loss)
    best = Best(x)
    for _ in range(restarts):
        noise = torch.rand(x.shape, generator=generator).to(x).mul_(2).sub_(1) * problem.eps
        start = problem.project(x + noise)
        left = (best.score <= 0).nonzero().squeeze(1)
        if not len(left):
            break
        best.offer(*_climb(problem.at(left), start[left], iterations, loss), left)
    return best.images


def checkpoints(iterations: int) -> list[int]:
    """Return after which iterations the step is judged: intervals of 22 % that shrink by 3 % to 6 % of all."""
    ends, share, width = [], 22, 22  # in percent: sums of these fractions would be off by a rounding
    while share < 100:
        ends.append(math.ceil(share * iterations / 100))
        width = max(width - 3, 6)
        share += width
    return ends


def _climb(problem: Problem, x: Tensor, iterations: int, loss: str | Loss) -> tuple[Tensor, Tensor]:
    """Return the iterates of largest margin from the starts ``x``, and that margin ``(N,)``."""
    column = (-1, *[1] * (x.ndim - 1))
    kept, here = Best(x), problem.look(x, loss)
    checks.losses(here.values, len(x))
    kept.offer(x, problem.margin(here.logits))
    step = torch.full((len(x),), 2.0, dtype=x.dtype, device=x.device)  # in units of eps
    top, top_value, top_gradient = x, here.values, here.gradient  # the point with the highest loss
    last_step, last_value = step, top_value  # at the last checkpoint
    gradient, value, before = here.gradient, here.values, x
    rises, ends, since = torch.zeros_like(step), checkpoints(iterations), 0
    for k in range(1, iterations + 1):
        there = problem.project(x + step.view(column) * problem.eps * gradient.sign())
        if k > 1:
            there = problem.project(x + MOMENTUM * (there - x) + (1 - MOMENTUM) * (x - before))
        here = problem.look(there, loss)
        kept.offer(there, problem.margin(here.logits))
        rises += here.values > value
        before, x, gradient, value = x, there, here.gradient, here.values
        higher = value > top_value
        top_value = torch.where(higher, value, top_value)
        top, top_gradient = (
            torch.where(higher.view(column), new, old) for new, old in ((x, top), (gradient, top_gradient))
        )
        if k in ends:
            stuck = (step == last_step) & (top_value == last_value)
            halve = (rises < RISES * (k - since)) | stuck
            last_step, last_value = step, top_value
            step = torch.where(halve, step / 2, step)
            x, gradient = (
                torch.where(halve.view(column), best, now)
                for best, now in ((top, x), (top_gradient, gradient))
            )
            value = torch.where(halve, top_value, value)
            rises, since = torch.zeros_like(step), k
    return kept.images, kept.score
