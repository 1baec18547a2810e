"""Attacks under one contract, see `attacks.contract`: ``attack(model, images, labels=None, *, eps, ...)``.

A new attack is one file and its line below. If it is to be recorded, it has a line in `REGISTRY`, its `specs.Attack`
in `study.experiments.attacks_on`, and in `study.fingerprint` a stage that says which code its images depend on.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from qlayer_core.attacks import losses, surrogates
from qlayer_core.attacks.apgd import apgd
from qlayer_core.attacks.averaging import averaged
from qlayer_core.attacks.carlini_wagner import cw_linf
from qlayer_core.attacks.contract import Model, Problem, UnmovedWarning
from qlayer_core.attacks.square import square
from qlayer_core.attacks.steps import bim, fgsm, pgd
from qlayer_core.attacks.surrogates import surrogate
from qlayer_core.attacks.targeted import apgd_targeted

__all__ = [
    "REGISTRY",
    "Model",
    "Problem",
    "Recorded",
    "UnmovedWarning",
    "apgd",
    "apgd_targeted",
    "averaged",
    "bim",
    "cw_linf",
    "fgsm",
    "losses",
    "pgd",
    "square",
    "surrogate",
    "surrogates",
]


def _cw_softmax(
    model: Model, images: Tensor, labels: Tensor | None = None, *, eps: float, **options
) -> Tensor:
    """Attack the probabilities, as was likely done for the paper's two-path models."""
    return cw_linf(lambda x: model(x).float().softmax(1), images, labels, eps=eps, **options)


class Recorded(NamedTuple):
    """An attack under the name that recorded cells have for it."""

    attack: Callable[..., Tensor]
    label: str  # how the text calls it


REGISTRY: dict[str, Recorded] = {
    "fgsm": Recorded(fgsm, "FGSM"),
    "fgsm-clipped": Recorded(partial(fgsm, loss="clipped"), "FGSM, clipped"),
    "bim": Recorded(bim, "BIM"),
    "bim-clipped": Recorded(partial(bim, loss="clipped"), "BIM, clipped"),
    "cw": Recorded(cw_linf, "C&W"),
    "cw-softmax": Recorded(_cw_softmax, "C&W on probabilities"),
}
