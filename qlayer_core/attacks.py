"""FGSM, BIM, PGD and the paper's Carlini-Wagner L-infinity attack, under one contract.

``attack(model, images, labels=None, *, eps, ...) -> adversarial images``

* ``model`` is any callable from images to logits ``(N, classes)``; ``partial(net, path="e")`` attacks the E-path.
* ``images`` are ``(N, ...)`` floats in [0, 1]. The result stays in [0, 1] and within ``eps`` in L-infinity.
* ``labels`` are ``(N,)`` int64; ``None`` means the model's own predictions, so that no label leaks.
* The input, the model's mode and its gradients are left as they were.

Gradients are taken with respect to the images only, in the format of `machine.number_format`; the images
themselves stay in their own format.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core.machine import autocast

Model = Callable[[Tensor], Tensor]
BATCH = 128


def fgsm(
    model: Model, images: Tensor, labels: Tensor | None = None, *, eps: float, batch_size: int = BATCH
) -> Tensor:
    """Fast gradient sign method: one step of ``eps`` along the sign of the loss's gradient (section 2.1)."""

    def attack(x: Tensor, y: Tensor | None) -> Tensor:
        low, high = _box(x, eps)
        return (x + eps * _gradient(model, x, y, cross_entropy)[0].sign()).clamp_(low, high)

    return _in_batches(attack, model, images, labels, eps, batch_size)


def bim(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    eps: float,
    step: float = 0.01,
    iterations: int = 100,
    batch_size: int = BATCH,
) -> Tensor:
    """Basic iterative method: FGSM in steps of ``step``, projected on the ``eps`` box after each (section 2.1).

    The paper's setting (appendix B and the toolbox's defaults of its time): 100 iterations of 0.01.
    """

    def attack(x: Tensor, y: Tensor | None) -> Tensor:
        return _descend(model, x.clone(), y, _box(x, eps), step, iterations, cross_entropy)

    return _in_batches(attack, model, images, labels, eps, batch_size)


def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    eps: float,
    step: float = 0.01,
    iterations: int = 40,
    restarts: int = 1,
    loss: str = "ce",
    generator: torch.Generator | None = None,
    batch_size: int = BATCH,
) -> Tensor:
    """Projected gradient descent: BIM from random points of the ``eps`` box (Madry et al., 2018).

    Args:
        model: images to logits.
        images: ``(N, ...)`` in [0, 1].
        labels: ``(N,)``, or None for the model's own predictions.
        eps: L-infinity bound.
        step: of one iteration.
        iterations: a restart.
        restarts: random starts; an image keeps the result of the start with the highest loss.
        loss: ``"ce"`` cross-entropy or ``"margin"``, the best other logit minus the label's.
        generator: where the starts come from; seeded with 0 if left out.
        batch_size: images at a time.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; choose one of {', '.join(LOSSES)}")
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}; it must be at least 1")
    loss_of = LOSSES[loss]
    generator = generator or torch.Generator().manual_seed(0)

    def attack(x: Tensor, y: Tensor | None) -> Tensor:
        box = _box(x, eps)
        y = _logits(model, x).argmax(1) if y is None else y
        best, highest = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        for _ in range(restarts):
            noise = torch.rand(x.shape, generator=generator).to(x).mul_(2 * eps).sub_(eps)
            found = _descend(model, (x + noise).clamp_(*box), y, box, step, iterations, loss_of)
            value = loss_of(_logits(model, found), y)
            better = value > highest
            best[better], highest[better] = found[better], value[better].to(highest.dtype)
        return best

    return _in_batches(attack, model, images, labels, eps, batch_size)


def cw_linf(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    eps: float,
    confidence: float = 0.0,
    learning_rate: float = 0.01,
    iterations: int = 10,
    halvings: int = 5,
    doublings: int = 5,
    batch_size: int = BATCH,
) -> Tensor:
    """The paper's Carlini-Wagner L-infinity attack: a margin loss inside the ``eps`` box, by line search.

    This is the algorithm of the toolbox of 2019, which took ``eps`` and has since been replaced by another.
    Images live in tanh space, ``x = low + (high - low) (tanh(w) / s + 1) / 2``, so that they can't leave the
    box; the learning rate of each image persists from one round to the next. An image that is still
    classified as ``labels`` at the end is returned unchanged. Wrap the model in a softmax to attack
    probabilities, as was likely done for the paper's two-path models.

    Args:
        model: images to logits, or probabilities.
        images: ``(N, ...)`` in [0, 1].
        labels: ``(N,)``, or None for the model's own predictions.
        eps: L-infinity bound.
        confidence: margin by which the label must lose.
        learning_rate: first step of every image.
        iterations: rounds of line search.
        halvings: trials a round, each with half the step, until the loss falls.
        doublings: trials a round with twice the step, for images whose first trial helped.
        batch_size: images at a time.
    """

    def attack(x: Tensor, y: Tensor | None) -> Tensor:
        if eps == 0:
            return x.clone()
        # The line search compares losses that differ by less than bfloat16 can tell: it would give up at once.
        with torch.autocast(x.device.type, enabled=False):
            y = _logits(model, x).argmax(1) if y is None else y
            search = _LineSearch(model, x, y, _box(x, eps), confidence)
            rate = torch.full((len(x),), learning_rate, dtype=x.dtype, device=x.device)
            for _ in range(iterations):
                if not (active := (search.loss > 0).nonzero().squeeze(1)).numel():
                    break
                rate[active] = search.round(active, rate[active], halvings, doublings)
        fooled = (search.loss <= 0).view(-1, *[1] * (x.ndim - 1))
        return torch.where(fooled, search.decode(search.w), x).clamp_(0, 1)

    return _in_batches(attack, model, images, labels, eps, batch_size)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image, ``(N,)``."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other logit minus the label's, ``(N,)``; positive where the image is misclassified."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


LOSSES = {"ce": cross_entropy, "margin": margin}


class _LineSearch:
    """State of the Carlini-Wagner attack on one batch: tanh-space images and their current loss."""

    smoother = 0.999999  # keeps arctanh finite at the faces of the box

    def __init__(self, model: Model, x: Tensor, y: Tensor, box: tuple[Tensor, Tensor], confidence: float):
        self.model, self.y, self.confidence = model, y, confidence
        self.low, self.width = box[0], box[1] - box[0]
        self.w = torch.atanh(self.smoother * (2 * (x - self.low) / self.width - 1))
        everything = torch.arange(len(x), device=x.device)
        self.loss = self._loss(self.w, everything)

    def decode(self, w: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        return self.low[at] + self.width[at] * (w.tanh() / self.smoother + 1) / 2

    @torch.no_grad()
    def _loss(self, w: Tensor, at: Tensor) -> Tensor:
        logits = _logits(self.model, self.decode(w, at))
        return (self.confidence - margin(logits, self.y[at])).clamp(min=0)

    def _direction(self, at: Tensor) -> Tensor:
        """Return minus the gradient of the loss in tanh space; only called where the loss is positive."""
        w = self.w[at]
        gradient, _ = _gradient(self.model, self.decode(w, at), self.y[at], margin)
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


def _descend(
    model: Model,
    x: Tensor,
    y: Tensor | None,
    box: tuple[Tensor, Tensor],
    step: float,
    iterations: int,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Walk ``x`` in place up the loss, projecting on ``box`` after each step, and return it."""
    for _ in range(iterations):
        gradient, y = _gradient(model, x, y, loss)
        x.add_(gradient.sign_(), alpha=step).clamp_(*box)
    return x


def _gradient(
    model: Model, x: Tensor, y: Tensor | None, loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the summed loss in ``x``, and the labels: predicted here where ``y`` is None."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = _logits(model, x)
        y = logits.argmax(1) if y is None else y
        total = loss(logits, y).sum()
        (gradient,) = torch.autograd.grad(total, x, allow_unused=True) if total.requires_grad else (None,)
    if gradient is None:
        raise ValueError(
            "the model's answer has no gradient in the images, so there is nothing to follow. The quantizer of a"
            " QNet blocks it: attack another path, for example functools.partial(net, path='e')"
        )
    return gradient, y


def _logits(model: Model, x: Tensor) -> Tensor:
    logits = model(x)
    return logits if logits.dtype == torch.float64 else logits.float()


def _box(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)


@torch.no_grad()
def _in_batches(
    attack: Callable[[Tensor, Tensor | None], Tensor],
    model: Model,
    images: Tensor,
    labels: Tensor | None,
    eps: float,
    batch_size: int,
) -> Tensor:
    """Check the contract's conditions, then attack batch by batch."""
    _check(model, images, labels, eps)
    result = torch.empty_like(images)
    for i in range(0, len(images), batch_size):
        at = slice(i, i + batch_size)
        # One context around all iterations: weights are cast to bfloat16 once a batch, not once a step.
        with autocast(images.device):
            result[at] = attack(images[at].detach(), None if labels is None else labels[at])
    return result


def _check(model: Model, images: Tensor, labels: Tensor | None, eps: float) -> None:
    network = getattr(model, "func", model)  # look inside functools.partial
    if isinstance(network, nn.Module) and network.training:
        raise ValueError(
            "the model is in training mode, where dropout hides its gradient: call model.eval() first"
        )
    if not images.is_floating_point():
        raise TypeError(f"images have dtype {images.dtype}; convert them to floats in [0, 1]")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype != torch.int64):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype};"
            f" give one int64 class an image, shape ({len(images)},)"
        )
    if not 0 <= eps <= 1:
        raise ValueError(f"eps is {eps}; it must lie in [0, 1], in units of the pixel range")
    if len(images):
        lowest, highest = torch.aminmax(images)
        if not (lowest >= 0 and highest <= 1):  # also refuses NaN
            raise ValueError(
                f"images range from {lowest:g} to {highest:g}; they must lie in [0, 1] and hold no NaN"
            )
    if labels is not None and len(images):
        classes = model(images[:1]).shape[1]
        if not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"labels run from {labels.min()} to {labels.max()}; the model has classes 0 to {classes - 1}"
            )
