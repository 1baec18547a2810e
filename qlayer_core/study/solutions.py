"""The best attacks that are known on the tasks of "Break it yourself", from which their best known scores come.

``python -m qlayer_core.study.solutions`` lets them loose on every open task, or on those whose numbers it is given,
and records each grade that beats what is known. They are strong rather than short; the chapter's own solutions are
the other way round.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from qlayer_core import attacks, baselines
from qlayer_core.study import challenge

Surrogate = Callable[[nn.Module], attacks.Model]
INNER: dict[str, Surrogate] = {"the network inside": lambda defended: defended.network}
CODES: dict[str, Surrogate] = {
    "the runner-up codes": attacks.surrogates.latent,
    "straight through the codes": attacks.surrogates.straight_through,
}
SURROGATES: dict[str, dict[str, Surrogate]] = {  # what to follow, by the network of the task
    "masked": {"straight through the rounding": baselines.straight_through} | INNER,
    "clipped": INNER,
    "q-base": CODES,
    "q-inner": CODES,
    "q-base-adv": CODES,
    "randomised": {"the mean of four rolls": partial(baselines.expectation, draws=4)},
}


def strongest(task: challenge.Task) -> tuple[str, challenge.Attack]:
    """Return an attack on a task, and its name: APGD along each surrogate, then BIM, each on what is still right."""
    surrogates = SURROGATES[task.network]

    def attack(network: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
        long = partial(attacks.apgd, loss="margin", iterations=40, generator=torch.Generator().manual_seed(0))
        short = partial(attacks.bim, step=eps / 4, iterations=10)
        moved = images.clone()
        for how in (long, short):
            for surrogate in surrogates.values():
                holds = network(moved).argmax(1) == labels
                if holds.any():
                    moved[holds] = how(surrogate(network), images[holds], labels[holds], eps=eps)
        return moved

    return f"APGD, then BIM: {', '.join(surrogates)}", attack


def record(task: challenge.Task) -> challenge.Grade:
    """Grade the strongest attack on a task, and record the grade if it beats what is known."""
    name, attack = strongest(task)
    found = challenge.grade(task, attack)
    challenge.record_best(found, name)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Let the best attacks loose on open tasks, and record each grade that beats what is known."""
    parser = argparse.ArgumentParser(prog="python -m qlayer_core.study.solutions", description=main.__doc__)
    parser.add_argument(
        "task", type=int, nargs="*", help="the number of an open task; all of them if left out"
    )
    asked = parser.parse_args(arguments).task
    tasks = {task.number: task for task in challenge.open_tasks()}
    if closed := [str(number) for number in asked if number not in tasks]:
        there = ", ".join(map(str, tasks)) or "none, as no network is released"
        parser.error(f"no open task is {', '.join(closed)}; choose among those that are, {there}")
    for number in asked or tasks:
        record(tasks[number])
        best = challenge.best_known(tasks[number])
        print(f"Task {number}: {best['right']:.1f} % right, {best['by']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
