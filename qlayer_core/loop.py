"""A training loop that can be killed: after every epoch all that it needs to go on is on disk.

The state is kept in one file, written anew after each epoch; each epoch draws from its own seed, so a continued run
ends in the same weights, bit for bit. Networks and PixelCNNs share it.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from qlayer_core import checks, files
from qlayer_core.machine import seeded


@dataclass
class State:
    """Where a run stands after an epoch."""

    epoch: int = 0  # finished epochs
    history: list[dict] = field(default_factory=list)  # one row per epoch
    best: dict | None = None  # row of `history` whose weights were kept
    seconds: float = 0.0

    def over(self, epochs: int, patience: int) -> bool:
        """Return whether all epochs are done, or too many since the best one."""
        return self.epoch >= epochs or (self.best is not None and self.epoch - self.best["epoch"] >= patience)


@torch.inference_mode(False)  # whatever the caller's mode is
@torch.enable_grad()
def run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: Callable[[int], dict],
    *,
    seed: int,
    epochs: int,
    patience: int,
    settings: str = "",
    checkpoint: Path | None = None,
    until: int | None = None,
    report: Callable[[dict], None] = lambda row: None,
) -> State:
    """Call ``epoch`` until the score stops rising, and leave ``model`` with the weights of its best epoch.

    Args:
        model: trained in place.
        optimizer: whose state is kept with the model's.
        epoch: trains for one epoch, given how many are finished, and returns a row for the history with ``"score"``.
        seed: epoch k draws from ``seed + k``.
        epochs: at most.
        patience: epochs without a better score before it stops.
        settings: what describes the run; a checkpoint of other settings is refused.
        checkpoint: where to keep the state after each epoch, and where to continue from if it is there.
        until: pause after so many epochs, to be continued later.
        report: called with each new row.

    Raises:
        ValueError: nothing would be trained, or the checkpoint is from a run with other settings.
    """
    for name, count in {"epochs": epochs, "patience": patience, "until": until}.items():
        if count is not None:
            checks.option(name, count)
    state, best_weights = State(), _copy(model)
    if checkpoint is not None and checkpoint.exists():
        state, best_weights = _restore(checkpoint, settings, model, optimizer)
    last = epochs if until is None else min(until, epochs)
    while not state.over(last, patience):
        with seeded(seed + state.epoch):
            started = time.perf_counter()
            row = {"epoch": state.epoch + 1} | epoch(state.epoch)
            state.epoch += 1
            state.history.append(row)
            if state.best is None or row["score"] > state.best["score"]:
                state.best, best_weights = row, _copy(model)
            state.seconds += time.perf_counter() - started
            if checkpoint is not None:
                content = {
                    "settings": settings,
                    "state": dataclasses.asdict(state),
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "best_weights": best_weights,
                }
                files.write_atomically(
                    checkpoint, lambda partial, content=content: torch.save(content, partial)
                )
            report(row)
    model.load_state_dict(best_weights)
    model.eval()
    return state


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _restore(
    path: Path, settings: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, Tensor]]:
    content = torch.load(path, map_location="cpu", weights_only=True)  # it may be from a GPU
    if content["settings"] != settings:
        raise ValueError(f"{path} is from a run with other settings: delete it to start this one afresh")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return State(**content["state"]), content["best_weights"]
