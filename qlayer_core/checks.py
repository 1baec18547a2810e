"""Every refusal of an argument, once; each raises an error that names the value, the rule and the remedy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from qlayer_core.layer import QLayerOutput

MODE = (
    "{} is in training mode, where dropout hides gradients and changes answers, and running statistics move:"
    " call eval() first"
)

# ---- Attacks ----

COUNTS = {
    "batch_size": 1,
    "iterations": 0,
    "restarts": 1,
    "halvings": 0,
    "doublings": 0,
    "queries": 1,
    "targets": 1,
    "until": 1,
}
RATES = ("step", "learning_rate")


def option(name: str, value: object) -> None:
    """A count is a whole number that is large enough, a rate a positive number."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)  # numpy's whole numbers, too
    if name in COUNTS and not (whole and value >= COUNTS[name]):
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {COUNTS[name]}")
    if name in RATES and not value > 0:
        raise ValueError(f"{name} is {value!r}; it must be greater than 0")
    if name == "confidence" and not value >= 0:
        raise ValueError(f"confidence is {value!r}; it must be at least 0")


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
    classes = _classes(model, images[:1])
    if labels is not None and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}; the model has classes 0 to {classes - 1}"
        )
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


def _classes(model: Callable[[Tensor], Tensor], image: Tensor) -> int:
    """Ask the model about one image, and refuse a mode or an answer that no attack can work with."""
    lost = []  # NaN has a nearest code, too: behind a Q-Layer it does not show

    def look(_module: nn.Module, _given: tuple, out: object) -> None:
        if isinstance(out, QLayerOutput) and not out.projected.isfinite().all():
            lost.append(out)

    watch = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        with calls_in_evaluation_mode(model):
            logits = model(image)
    finally:
        watch.remove()
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the model answers with a {type(logits).__name__}; attacks need its logits, a tensor (N, classes):"
            " wrap it, for example lambda images: model(images)[0]"
        )
    if logits.ndim != 2 or len(logits) != len(image) or logits.shape[1] < 2:
        raise ValueError(
            f"the model answers {len(image)} image with shape {tuple(logits.shape)}; attacks need logits"
            " (N, classes) of at least two classes: give a single logit z as the two logits 0 and z"
        )
    if lost or not logits.isfinite().all():
        raise ValueError(
            f"the model's {'features' if lost else 'logits'} hold NaN or infinity, so an attack has nothing to"
            " follow: check its weights and its number format"
        )
    return logits.shape[1]


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
    """The network is in evaluation mode, with all that it is made of."""
    if any(module.training for module in network.modules()):
        raise ValueError(MODE.format("a network, or a part of it,"))


@contextmanager
def calls_in_evaluation_mode(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Whatever is called meanwhile is in evaluation mode: of what wraps a network, the network and all its parts."""

    def refuse(module: nn.Module, _) -> None:
        if module.training:
            raise ValueError(MODE.format("the model"))

    for network in (model, getattr(model, "func", None), getattr(model, "__self__", None)):
        if isinstance(network, nn.Module):
            refuse(network, None)
    # Refused before it runs, since running in training mode moves statistics.
    watch = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        watch.remove()


def seed(value: int) -> None:
    """A run's number is 0 or more."""
    if value < 0:
        raise ValueError(f"seed is {value}; it must be at least 0")


def one_of(kind: str, value: object, known: Sequence[str]) -> None:
    """``value`` is among the known ones."""
    if value not in known:
        raise ValueError(f"{kind} is {value!r}; choose one of {', '.join(known)}")
