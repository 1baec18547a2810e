"""The one contract of all attacks, and what it takes off their hands.

``attack(model, images, labels=None, *, eps, targeted=False, batch_size=128, progress=False, ...)``

* ``model`` is any callable from images to logits ``(N, classes)``; ``partial(net, path="e")`` attacks the E-path.
* ``images`` are ``(N, ...)`` floats in [0, 1]. The result stays in [0, 1] and within ``eps`` in L-infinity; images
  in half precision stay within it up to the rounding of their format.
* ``labels`` are ``(N,)`` int64; ``None`` means the model's own predictions, so that no label leaks. With
  ``targeted=True`` they are the classes that the attack wants to reach.
* ``eps`` is one number or a tensor with one per image.
* The input, the model's mode and its gradients are left as they were.
* Images that stay as they were, or where a random start left them, because their loss has no gradient are counted in
  an `UnmovedWarning`.

Gradients are taken with respect to the images only, in the format of `machine.number_format`.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qlayer_core import checks
from qlayer_core.attacks import losses
from qlayer_core.attacks.losses import Loss, named
from qlayer_core.machine import autocast

Model = Callable[[Tensor], Tensor]
BATCH = 128


class UnmovedWarning(UserWarning):
    """Some images were not attacked, since the loss has no gradient there."""


class Look(NamedTuple):
    """What one pass through the model tells about a batch."""

    values: Tensor  # (N,), of the loss that is to be raised
    logits: Tensor  # (N, classes)
    gradient: Tensor  # of the loss, in the images


@dataclass
class Problem:
    """One batch to attack: raise a loss of the model's answers inside a box around the clean images.

    `x` and the gradients are float32 or wider, whatever the images are: a step of 0.01, or the 0.999999 of the
    Carlini-Wagner attack, is lost in a narrower format.
    """

    model: Model
    x: Tensor  # the clean images
    labels: Tensor | None  # None until the first answer, if the attack goes by the model's own predictions
    eps: float | Tensor  # one number, or (N, 1, ...)
    targeted: bool = False
    dtype: torch.dtype = torch.float32  # of the images that the model is given
    followed: Loss | None = None  # the loss whose gradient was last asked for

    def __post_init__(self):
        self.low, self.high = (self.x - self.eps).clamp_(min=0), (self.x + self.eps).clamp_(max=1)

    def project(self, x: Tensor) -> Tensor:
        """Clip ``x`` in place to the box, and return it."""
        return x.clamp_(self.low, self.high)

    def logits(self, x: Tensor) -> Tensor:
        """Return the model's logits, float32 or wider; the first answers become the labels if there are none."""
        logits = self.model(x.to(self.dtype))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.labels is None:
            self.labels = logits.detach().argmax(1)
        return logits

    def gradient(self, x: Tensor, loss: str | Loss) -> Tensor:
        """Return the gradient of the loss that is to be raised, in ``x``.

        Raises:
            ValueError: no gradient reaches the images.
        """
        return self.look(x, loss).gradient

    def look(self, x: Tensor, loss: str | Loss) -> Look:
        """Return what one pass through the model tells about ``x``; errors as `gradient`."""
        self.followed = named(loss)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.logits(x)
            values = self.followed(logits, self.labels)
            checks.losses(values, len(x), each=False)
            total = values.sum()
            (found,) = torch.autograd.grad(total, x, allow_unused=True) if total.requires_grad else (None,)
        if found is None:
            raise ValueError(
                "the model's answer has no gradient in the images, so there is nothing to follow. The quantizer of a"
                " QNet blocks it: attack another path, for example functools.partial(net, path='e'). A loss of your"
                " own may block it, too, for example by an argmax"
            )
        values = values.detach()
        return Look(-values if self.targeted else values, logits.detach(), -found if self.targeted else found)

    def margin(self, logits: Tensor) -> Tensor:
        """Return by how much the attack has succeeded, ``(N,)``: positive where the answer is what it wants."""
        return -losses.margin(logits, self.labels) if self.targeted else losses.margin(logits, self.labels)

    def loss(self, x: Tensor, loss: str | Loss) -> Tensor:
        """Return the loss that is to be raised, of each image ``(N,)``."""
        with torch.no_grad():
            value = named(loss)(self.logits(x), self.labels)
        checks.losses(value, len(x))
        return -value if self.targeted else value

    def at(self, index: Tensor) -> "Problem":
        """Return the problem of some of the images."""
        labels = None if self.labels is None else self.labels[index]
        eps = self.eps[index] if isinstance(self.eps, Tensor) else self.eps
        return Problem(self.model, self.x[index], labels, eps, self.targeted, self.dtype)


class Best:
    """The best images so far of a batch, by a score each; the clean ones until others are offered.

    Args:
        images: the clean images.
    """

    def __init__(self, images: Tensor):
        self.images = images.clone()
        self.score = torch.full((len(images),), -torch.inf, dtype=images.dtype, device=images.device)

    def offer(self, images: Tensor, score: Tensor, at: Tensor | slice = slice(None)) -> None:
        """Keep those ``images`` whose ``score`` ``(N,)`` is higher than the best so far of the images ``at``."""
        better = score > self.score[at]
        column = better.view(-1, *[1] * (images.ndim - 1))
        self.images[at] = torch.where(column, images, self.images[at])
        self.score[at] = torch.where(better, score.to(self.score.dtype), self.score[at])


def contract(attack: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn ``attack(problem, **options) -> images`` into a public attack: checked, in batches, and leaving no trace.

    The loop itself stays at hand as ``attack.__wrapped__``, for training, which makes its own images.
    """
    own = inspect.signature(attack).parameters.values()
    options = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]
    names = {option.name for option in options}

    @wraps(attack)
    def attacked(
        model: Model,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        eps: float | Tensor,
        targeted: bool = False,
        batch_size: int = BATCH,
        progress: bool = False,
        **chosen,
    ) -> Tensor:
        for name, value in (("batch_size", batch_size), *chosen.items()):
            checks.option(name, value)
        # Inference tensors have no gradient: work on copies.
        with torch.inference_mode(False), torch.no_grad():
            images, labels, eps = (
                value.clone() if isinstance(value, Tensor) and value.is_inference() else value
                for value in (images, labels, eps)
            )
            eps = checks.attack(model, images, labels, eps, targeted)
            # One generator for all batches: none of them repeats another's draws.
            if "generator" in names and chosen.get("generator") is None:
                chosen["generator"] = torch.Generator().manual_seed(0)
            result, without = torch.empty_like(images), 0
            starts = range(0, len(images), batch_size)
            for i in tqdm(starts, attack.__name__, disable=None if progress else True, leave=False):
                at = slice(i, i + batch_size)
                problem = _problem(
                    model, images[at], None if labels is None else labels[at], eps, at, targeted
                )
                # One context around all iterations: weights are cast to bfloat16 once per batch, not once per step.
                with autocast(images.device):
                    found = problem.project(attack(problem, **chosen)).to(images.dtype)
                    # A narrower format must not leave the box by more than the rounding of its faces.
                    result[at] = found.clamp_(problem.low.to(images.dtype), problem.high.to(images.dtype))
                    without += _without_gradient(problem, found, "generator" in names)
        if without:
            warnings.warn(
                f"{without} of {len(images)} images were not attacked, since the loss has no gradient there: they"
                " stayed as they were, or where they were put at random, and a score counts them as robust though"
                " nothing was tried. Attack with loss='ce', which keeps its"
                " gradient however sure a network is, or another path; the glossary has more under 'unmoved'.",
                UnmovedWarning,
                stacklevel=2,
            )
        return result

    *common, _ = inspect.signature(attacked, follow_wrapped=False).parameters.values()
    attacked.__signature__ = inspect.Signature([*common[:4], *options, *common[4:]], return_annotation=Tensor)
    return attacked


def _problem(
    model: Model, images: Tensor, labels: Tensor | None, eps: float | Tensor, at: slice, targeted: bool
) -> Problem:
    x = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    if isinstance(eps, Tensor):
        eps = eps[at].to(x).view(-1, *[1] * (x.ndim - 1))
    return Problem(model, x, labels, eps, targeted, images.dtype)


def _without_gradient(problem: Problem, found: Tensor, random: bool) -> int:
    """Count the images that an attack along a gradient did not fool, and left where they were, for want of one.

    After a ``random`` start that is where it put them: neither the clean image nor what was ``found`` has a gradient.

    Raises:
        ValueError: they are where they were since the model answers NaN.
    """
    if problem.followed is None:
        return 0
    allowed = torch.as_tensor(problem.eps, device=found.device) > 0
    still = (found == problem.x.to(found.dtype)).flatten(1).all(1) | random
    still &= allowed.flatten().expand(len(found))
    if not still.any():
        return 0
    some = problem.at(still.nonzero().squeeze(1))
    gradient = some.gradient(some.x, problem.followed)
    if not gradient.isfinite().all():
        raise ValueError(
            "the model's answer, or its gradient, is NaN or infinite for some images, so an attack can't follow it:"
            " check the model's weights and its number format"
        )
    flat = (gradient == 0).flatten(1).all(1)
    if random and flat.any():
        look = some.look(found[still].to(problem.x.dtype), problem.followed)
        flat &= (look.gradient == 0).flatten(1).all(1) & (some.margin(look.logits) <= 0)
    return int(flat.sum())
