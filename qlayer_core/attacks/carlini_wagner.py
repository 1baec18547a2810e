"""The Carlini-Wagner L-infinity attack of the paper: the algorithm of the toolbox of 2019, which took ``eps``."""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from qlayer_core.attacks.contract import Model, Problem, contract
from qlayer_core.attacks.losses import named


@contract
def cw_linf(
    problem: Problem,
    *,
    confidence: float = 0.0,
    learning_rate: float = 0.01,
    iterations: int = 10,
    halvings: int = 5,
    doublings: int = 5,
) -> Tensor:
    """The paper's Carlini-Wagner L-infinity attack: a margin loss inside the ``eps`` box, by line search.

    The toolbox has since replaced this algorithm by another.
    Images live in tanh space, ``x = low + (high - low) (tanh(w) / s + 1) / 2``, so that they can't leave the
    box; the learning rate of each image persists from one round to the next. An image whose label doesn't lose by
    ``confidence`` at the end is returned unchanged: with 0 those that are still classified as ``labels``, with more
    those that are misclassified by less, too. Wrap the model in a softmax to attack probabilities, as was likely
    done for the paper's two-path models.

    Args: those of `attacks.contract`, and

        confidence: margin by which the label must lose.
        learning_rate: first step of every image.
        iterations: rounds of line search.
        halvings: trials per round, each with half the step, until the loss falls.
        doublings: trials per round with twice the step, for images whose first trial helped.
    """
    x = problem.x
    # The line search compares losses that differ by less than a half precision can tell: it would give up at once.
    with torch.autocast(x.device.type, enabled=False):
        if problem.dtype != x.dtype:
            problem.model, problem.dtype = _in_full_precision(problem.model, x[:1]), x.dtype
        if problem.labels is None:
            problem.logits(x)
        problem.followed = named("margin")
        search = _LineSearch(problem, confidence)
        rate = torch.full((len(x),), learning_rate, dtype=x.dtype, device=x.device)
        for _ in range(iterations):
            if not (active := (search.loss > 0).nonzero().squeeze(1)).numel():
                break
            rate[active] = search.round(active, rate[active], halvings, doublings)
    fooled = (search.loss <= 0).view(-1, *[1] * (x.ndim - 1))
    return torch.where(fooled, search.decode(search.w), x)


def _in_full_precision(model: Model, image: Tensor) -> Model:
    """Return ``model``, which takes images in half precision, as one that takes ``image``, which is float32.

    Raises:
        ValueError: what wraps the network hides it.
    """
    if isinstance(model, partial):
        return partial(_in_full_precision(model.func, image), *model.args, **model.keywords)
    if isinstance(model, nn.Module):
        return copy.deepcopy(model).float()
    try:
        model(image)
    except RuntimeError as error:  # torch's for numbers of two formats
        raise ValueError(
            "the model only takes images in half precision, in which this attack's line search can't tell losses"
            " apart: attack the network itself, or convert network and images with .float()"
        ) from error
    return model


class _LineSearch:
    """State of the Carlini-Wagner attack on one batch: tanh-space images and their current loss."""

    smoother = 0.999999  # keeps arctanh finite at the faces of the box

    def __init__(self, problem: Problem, confidence: float):
        self.problem, self.confidence = problem, confidence
        self.low, self.width = problem.low, problem.high - problem.low
        place = (problem.x - self.low) / self.width.clamp(min=1e-12)  # a box without width has its one point
        self.w = torch.atanh(self.smoother * (2 * place - 1))
        self.loss = self._loss(self.w, torch.arange(len(self.w), device=self.w.device))

    def decode(self, w: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        return self.low[at] + self.width[at] * (w.tanh() / self.smoother + 1) / 2

    def _loss(self, w: Tensor, at: Tensor) -> Tensor:
        return (self.confidence - self.problem.at(at).loss(self.decode(w, at), "margin")).clamp(min=0)

    def _direction(self, at: Tensor) -> Tensor:
        """Return minus the gradient of the loss in tanh space; only called where the loss is positive."""
        w = self.w[at]
        gradient = self.problem.at(at).gradient(self.decode(w, at), "margin")
        return gradient * (self.width[at] / 2 / self.smoother * (1 - w.tanh().square()))

    def round(self, at: Tensor, rate: Tensor, halvings: int, doublings: int) -> Tensor:
        """Search along the gradient for the images ``at``, move them, and return their new rates."""
        direction, start = self._direction(at), self.w[at]
        before = self.loss[at]
        now, best, best_rate = before.clone(), before.clone(), torch.zeros_like(rate)
        trials = torch.zeros_like(at)

        def attempt(some: Tensor) -> None:
            i = some.nonzero().squeeze(1)
            step = rate[i].view(-1, *[1] * (start.ndim - 1))
            now[i] = self._loss(start[i] + step * direction[i], at[i])
            better = i[now[i] < best[i]]
            best[better], best_rate[better] = now[better], rate[better]

        for _ in range(halvings):
            if not (worse := now >= before).any():
                break
            attempt(worse)
            rate = torch.where(worse, rate / 2, rate)
            trials += worse
        rate = rate * 2
        for _ in range(doublings):
            if not (falling := (trials == 1) & (now <= best)).any():
                break
            rate = torch.where(falling, rate * 2, rate)
            attempt(falling)
        rate = torch.where(trials == 1, rate / 2, rate)

        moved = (best_rate > 0).nonzero().squeeze(1)
        step = best_rate[moved].view(-1, *[1] * (start.ndim - 1))
        self.w[at[moved]] = start[moved] + step * direction[moved]
        self.loss[at] = best  # the loss at the remembered rate, or the old one where nothing helped
        return rate
