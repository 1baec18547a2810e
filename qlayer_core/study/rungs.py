"""One attack of the ladder on one network: which images it leaves right."""

import time
import warnings

import torch
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.study import making, records
from qlayer_core.study.ladder import Rung, plain
from qlayer_core.study.making import right


def measure(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    rung: Rung,
    eps: float,
    *,
    source: nn.Module | None = None,
    alive: Tensor | None = None,
    progress: bool = False,
) -> dict:
    """Attack ``net`` with one rung at one ``eps`` and return a cell to be recorded, without its environment.

    Args:
        net: the network that answers, in evaluation mode.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        rung: the attack.
        eps: its budget.
        source: the network that the images are made on, where it is another.
        alive: ``(N,)`` bool, the images that were right so far; needed where ``rung.survivors``.
        progress: show the batches as they pass.

    Raises:
        ValueError: ``source`` or ``alive`` is missing where the rung needs it, or given where it doesn't, or unfit.
    """
    if rung.source is None and source is not None:
        raise ValueError(
            f"source is a {type(source).__name__}, but {rung.name!r} is made on the attacked network itself: leave"
            " source out"
        )
    if rung.source is not None and source is None:
        raise ValueError(
            f"source is missing: {rung.name!r} is made on another network ({rung.source}); give that one"
        )
    if not rung.survivors and alive is not None:
        raise ValueError(f"alive is given, but {rung.name!r} attacks all images: leave alive out")
    if rung.survivors and alive is None:
        raise ValueError(
            f"alive is missing: {rung.name!r} attacks only the images that earlier rungs left right"
        )
    if rung.survivors and (alive.dtype != torch.bool or alive.shape != labels.shape):
        raise ValueError(
            f"alive has dtype {alive.dtype} and shape {tuple(alive.shape)}; give one bool per image, shape"
            f" ({len(labels)},)"
        )
    chosen = alive.nonzero().squeeze(1) if rung.survivors else torch.arange(len(labels))
    started = time.perf_counter()
    net.eval()  # where a network draws, it begins anew
    x, y = images[chosen.to(images.device)], labels[chosen.to(labels.device)]
    survived = torch.zeros(len(labels), dtype=torch.bool)
    unmoved = 0
    if len(chosen):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", attacks.UnmovedWarning)  # they are counted
            made = making.made(net, x, y, rung, eps, net if source is None else source, progress)
        unmoved = int((made == x).flatten(1).all(1).sum())
        survived[chosen] = right(net, made, y).cpu()
    return {
        "rung": rung.name,
        "eps": eps,
        "how": plain(rung),
        "n": len(labels),
        "attacked": len(chosen),
        "correct": int(survived.sum()),
        "unmoved": unmoved,
        "seconds": round(time.perf_counter() - started, 1),
        "right": records.pack(survived),
    }
