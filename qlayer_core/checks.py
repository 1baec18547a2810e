"""Every refusal of an argument, once; each raises an error that names the value, the rule and the remedy."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from threading import get_ident
from types import MethodType

import torch
from torch import Tensor, nn

from qlayer_core.layer import QLayerOutput

MODE = (
    "{} is in training mode, where dropout hides gradients and changes answers, and running statistics move:"
    " call eval() first"
)
LOST = "the model's {} hold NaN or infinity: check its weights and its number format"

# ---- Options ----

COUNTS = {
    "batch_size": 1,
    "iterations": 0,
    "restarts": 1,
    "halvings": 0,
    "doublings": 0,
    "queries": 1,
    "targets": 1,
    "draws": 1,
    "until": 1,
    "epochs": 1,
    "patience": 1,
}
RATES = ("step", "learning_rate", "cooling", "spread")


def option(name: str, value: object) -> None:
    """A count is a whole number that is large enough, a rate a positive number, and no number is infinite.

    Random numbers are drawn on the CPU, so that all devices see the same.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)  # numpy's whole numbers, too
    if name in COUNTS and not (whole and value >= COUNTS[name]):
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {COUNTS[name]}")
    if name in RATES and not 0 < value < math.inf:  # also refuses NaN
        raise ValueError(f"{name} is {value!r}; it must be greater than 0, and finite")
    if name == "confidence" and not 0 <= value < math.inf:
        raise ValueError(f"confidence is {value!r}; it must be at least 0, and finite")
    if name == "generator" and value is not None:
        if not isinstance(value, torch.Generator):
            raise TypeError(
                f"generator is of type {_kind(value)}; give torch.Generator().manual_seed(0), or none"
            )
        if value.device.type != "cpu":
            raise ValueError(
                f"generator is on {value.device}; give one on the CPU, torch.Generator(), wherever the model is"
            )


# ---- Attacks ----


def attack(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    eps: float | Tensor,
    targeted: bool,
) -> float | Tensor:
    """What the contract of `attacks` asks; returns ``eps`` as a number or a tensor ``(N,)``."""
    for name, value in {"images": images, **({} if labels is None else {"labels": labels})}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} are a {_kind(value)}; give a tensor, such as torch.as_tensor({name})")
    if images.ndim < 2:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; give (N, ...), one image with images[None]"
        )
    if not images.is_floating_point():
        raise TypeError(f"images have dtype {images.dtype}; convert them to floats in [0, 1]")
    if labels is None and targeted:
        raise ValueError("labels are missing: a targeted attack needs the classes that it is to reach")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype != torch.int64):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype};"
            f" give one int64 class per image, shape ({len(images)},)"
        )
    eps = _budget(eps, len(images))
    if not len(images):
        return eps
    lowest, highest = torch.aminmax(images)
    if not (lowest >= 0 and highest <= 1):  # also refuses NaN
        raise ValueError(
            f"images range from {lowest:g} to {highest:g}; they must lie in [0, 1] and hold no NaN"
        )
    known = logits(model, images[:1], "attacks need")
    if labels is not None:
        classes(labels, known)
    return eps


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _budget(eps: float | Tensor, n: int) -> float | Tensor:
    """``eps`` lies in [0, 1], once or once per image."""
    if isinstance(eps, Tensor) and eps.ndim == 0:
        eps = eps.item()
    if isinstance(eps, Tensor):
        if eps.shape != (n,):
            raise ValueError(
                f"eps has shape {tuple(eps.shape)}; give one number, or one per image, shape ({n},)"
            )
        if n and not (eps.min() >= 0 and eps.max() <= 1):
            raise ValueError(
                f"eps runs from {eps.min():g} to {eps.max():g}; it must lie in [0, 1], in units of the pixel range"
            )
    elif not isinstance(eps, Real):
        raise TypeError(
            f"eps is a {_kind(eps)}; give one number, or a tensor with one per image, such as torch.as_tensor(eps)"
        )
    elif not 0 <= eps <= 1:
        raise ValueError(f"eps is {eps}; it must lie in [0, 1], in units of the pixel range")
    return eps


# ---- Answers ----


def logits(model: Callable[[Tensor], Tensor], images: Tensor, who: str) -> Tensor:
    """Ask a model that is in evaluation mode, and return its answer: logits that are numbers, see `answer`."""
    with sound_calls(model):
        return answer(model(images), len(images), who)


def answer(found: object, n: int, who: str) -> Tensor:
    """An answer to ``n`` images, asked for by ``who``, is finite logits ``(n, classes)``, two classes at least."""
    if not isinstance(found, Tensor):
        raise TypeError(
            f"the model answers with a {type(found).__name__}; {who} its logits, a tensor (N, classes): wrap it, for"
            " example lambda images: model(images)[0], or a module that does so"
        )
    if found.ndim != 2 or len(found) != n or found.shape[1] < 2:
        raise ValueError(
            f"the model answers {n} image{'s' if n > 1 else ''} with shape {tuple(found.shape)}; {who} logits"
            " (N, classes) of at least two classes: give a single logit z as the two logits 0 and z"
        )
    if not found.isfinite().all():
        raise ValueError(LOST.format("logits"))
    return found


def classes(labels: Tensor, found: Tensor) -> None:
    """Labels are among the classes of the logits ``found`` ``(N, classes)``."""
    if not (labels.min() >= 0 and labels.max() < found.shape[1]):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}; the model has classes 0 to {found.shape[1] - 1}"
        )


def losses(values: object, n: int, *, each: bool = True) -> None:
    """A loss of one's own gives a number for each of ``n`` images, or one in all where ``each`` isn't needed."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"the loss gives a {_kind(values)}; it must give a tensor, one number per image: (N,)"
        )
    if values.shape != (n,) and (each or values.ndim):
        raise ValueError(
            f"the loss gives shape {tuple(values.shape)} for {n} image{'s' if n > 1 else ''}; it must give one number"
            " per image, (N,), neither summed nor averaged, such as cross_entropy(..., reduction='none')"
        )


# ---- Scoring and explorers ----


def pixels(images: Tensor) -> None:
    """Images are ``(N, C, H, W)`` in [0, 1], at least one."""
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"images have shape {tuple(images.shape)}; give (N, channels, height, width), N at least 1"
        )
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images range from {images.min():g} to {images.max():g}; they must lie in [0, 1]")


def pairs(images: Tensor, labels: Tensor) -> None:
    """Images are as `pixels` wants them, and each has a label."""
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} are a {_kind(value)}; give a tensor, such as torch.as_tensor({name})")
    pixels(images)
    if labels.dtype != torch.int64:
        raise ValueError(f"labels have dtype {labels.dtype}; give one int64 class per image: labels.long()")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, labels {tuple(labels.shape)};"
            f" give one label per image: ({len(images)},)"
        )


def labelled(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Each image has a label, and each label a name."""
    pairs(images, labels)
    if not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but class_names has {len(class_names)}:"
            " give one name per class"
        )


def epsilons(bounds: Sequence[float]) -> None:
    """There are at least two epsilons, ascending, in [0, 1]."""
    given = list(bounds)
    if len(given) < 2 or given != sorted(set(given)) or given[0] < 0 or given[-1] > 1:
        raise ValueError(f"epsilons are {given}; give at least two, ascending, in [0, 1]")


def mode(network: nn.Module) -> None:
    """The network is one, and in evaluation mode, with all that it is made of."""
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"the network is a {_kind(network)}; give the torch.nn.Module itself, or wrap what calls it in one."
            " evaluation.accuracy and attacks take any callable"
        )
    if any(module.training for module in network.modules()):
        raise ValueError(MODE.format("a network, or a part of it,"))


@contextmanager
def sound_calls(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Whatever is called meanwhile is in evaluation mode, and what a Q-Layer compares with its codes are numbers.

    Of what wraps a network, that is the network and all its parts. Not seen is only a network that calls no part of
    its own, and whose ``forward`` a function calls directly; and what other threads call, who may be training.
    """
    here = get_ident()

    def refuse(module: nn.Module, _) -> None:
        if module.training and get_ident() == here:
            raise ValueError(MODE.format("the model"))

    def look(_module: nn.Module, _given: tuple, out: object) -> None:
        if isinstance(out, QLayerOutput) and get_ident() == here and not _finite(out.projected):
            raise ValueError(
                LOST.format("features")
            )  # NaN has a nearest code, too: behind it, it does not show

    network = model
    while isinstance(network, partial | MethodType):
        network = network.func if isinstance(network, partial) else network.__self__
    if isinstance(network, nn.Module):
        refuse(network, None)
    hooks = torch.nn.modules.module
    # A mode is refused before it runs, since running in training mode moves statistics.
    watches = hooks.register_module_forward_pre_hook(refuse), hooks.register_module_forward_hook(look)
    try:
        yield
    finally:
        for watch in watches:
            watch.remove()


def _finite(values: Tensor) -> bool:
    """Return whether all are finite: their sum tells in one pass, unless it overflows."""
    return bool(values.sum().isfinite() or values.isfinite().all())


def seed(value: int) -> None:
    """A run's number is a whole one, 0 or more."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"seed is {value!r}; it must be a whole number, such as 0")
    if value < 0:
        raise ValueError(f"seed is {value}; it must be at least 0")


def one_of(kind: str, value: object, known: Sequence[str]) -> None:
    """``value`` is among the known ones."""
    if value not in known:
        raise ValueError(f"{kind} is {value!r}; choose one of {', '.join(known)}")
