"""What an attack differentiates in place of the network that answers: a network's paths as callables."""

from functools import partial

from torch import nn

from qlayer_core.attacks.contract import Model
from qlayer_core.models import QNet


def surrogate(model: nn.Module, path: str | None = None) -> Model:
    """Return what attacks differentiate: one path of a `QNet`, the E-path if none is named, or a plain network."""
    return partial(model, path=path or "e") if isinstance(model, QNet) else model
