"""The checks that an evaluation must pass before its numbers mean anything, computed from a recorded ladder.

They are those of Carlini et al. (2019), and the flags that AutoAttack raises: a flag is a sign that the attacks, not
the network, are the reason for a good number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qlayer_core import intervals
from qlayer_core.study import ladder, records
from qlayer_core.study.adaptive import KINDS, worst

CLASSES = 10
POINT = 1.0  # percent of the images below which a difference is let pass
TOO_FEW = "too few to tell"  # ends the message of a check that could not be raised
NOT_TRIED = "not tried with more"  # ends that of one that was tried on a weaker attack


@dataclass(frozen=True)
class Flag:
    """One check: what it asks, whether it is raised (None where something isn't measured), and why."""

    name: str
    raised: bool | None
    message: str
    eps: float | None = None  # of the one budget that it is about
    lowers: bool = False  # whether what all attacks together leave there is clearly less than it was


def flags(record: dict) -> list[Flag]:
    """Return the outcome of every check on a recorded evaluation, see `adaptive.run`."""
    return [
        *_twice(record, "steps", "more steps"),
        *_twice(record, "restarts", "more restarts"),
        _chance(record),
        _monotone(record),
        _order(record),
        _square(record),
        _noise(record),
        _unmoved(record),
        *_health(record),
    ]


def unconverged(record: dict) -> dict[float, str]:
    """Return the epsilons at which twice the effort left clearly less of the whole ladder, each with what it says."""
    return {
        flag.eps: flag.message
        for flag in (*_twice(record, "steps", "more steps"), *_twice(record, "restarts", "more restarts"))
        if flag.lowers
    }


def _cells(record: dict, **wanted) -> list[dict]:
    """Return the cells whose rung has these fields."""
    return [
        cell for cell in record["cells"] if all(cell["how"][name] == value for name, value in wanted.items())
    ]


def _difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Return by how many points ``one`` leaves more images right, and the paired 95 % interval."""
    return intervals.paired(int((one & ~other).sum()), int((other & ~one).sum()), len(one))


def _clearly_more(one: np.ndarray, other: np.ndarray) -> bool:
    gap, low, _ = _difference(one, other)
    return gap > POINT and low > 0


def _twice(record: dict, purpose: str, what: str) -> Iterator[Flag]:
    """Twice the effort must not fool clearly more images, alone or after all others: the attack has converged.

    Tried on the rung on which the result hangs, or for want of that on another; where it leaves so few images that
    fooling all of them would not be clearly more, the check could not be raised, and says nothing.
    """
    decisive = ladder.decisive(record["cells"])
    pairs = [(base, cell) for cell in _cells(record, purpose=purpose) if (base := _base(record, cell))]
    if not pairs:
        yield Flag(what, None, f"no rung with twice the {purpose} is recorded")
        return
    best = (decisive[0].name, decisive[1])
    base, cell = min(pairs, key=lambda pair: (pair[0]["rung"], pair[0]["eps"]) != best)
    once, twice = records.unpack(base), records.unpack(cell)
    gap, *_ = _difference(once, twice)
    rungs = [one for one in record["cells"] if one["how"]["purpose"] == "ladder"]
    standing = worst({**record, "cells": rungs}, cell["eps"])
    further, *_ = _difference(standing, standing & twice)
    text = f"at eps {cell['eps']:g}, {cell['rung']} leaves {gap:.1f} points fewer right than {base['rung']}"
    text += f", and of the whole ladder {further:.1f} points fewer"
    can = _clearly_more(once, np.zeros_like(once))
    lowers = _clearly_more(standing, standing & twice)
    raised = _clearly_more(once, twice) or lowers
    if not can:
        text += f"; that leaves {base['correct']} of {base['n']} images, {TOO_FEW}"
    elif not raised and (stronger := _stronger(record, cell)):
        text += f"; {stronger['rung']} is stronger, and was {NOT_TRIED}"
        can = False
    elif (base["rung"], base["eps"]) != best:
        text += f"; not tried on the strongest, {best[0]} at eps {best[1]:g}"
    yield Flag(what, raised if can else None, text, cell["eps"], lowers)


def _stronger(record: dict, cell: dict) -> dict | None:
    """Return the rung of the same budget that fools clearly more than a cell with twice the effort; None without."""
    rungs = _cells(record, kind="white-box", purpose="ladder", survivors=False)
    best = min(
        (one for one in rungs if one["eps"] == cell["eps"]), key=lambda one: one["correct"], default=cell
    )
    return best if _clearly_more(records.unpack(cell), records.unpack(best)) else None


def _base(record: dict, cell: dict) -> dict | None:
    """Return the cell of the ladder whose effort this one doubles."""
    how = cell["how"]
    alike = _cells(record, purpose="ladder", attack=how["attack"], surrogate=how["surrogate"], source=None)
    same = [
        one
        for one in alike
        if one["eps"] == cell["eps"] and one["how"]["options"].get("loss") == how["options"].get("loss")
    ]
    return same[0] if same else None


def _chance(record: dict) -> Flag:
    """With a budget of half the pixel range an image can be made grey: only chance may be left."""
    cells = _cells(record, purpose="chance")
    if not cells:
        return Flag("chance", None, "no rung with a budget of half the pixel range is recorded")
    low, _ = intervals.wilson(cells[0]["correct"], cells[0]["n"])
    share = 100 * cells[0]["correct"] / cells[0]["n"]
    return Flag("chance", low > 100 / CLASSES, f"at eps {cells[0]['eps']:g}, {share:.1f} % are still right")


def _monotone(record: dict) -> Flag:
    """A larger budget contains the smaller one: no attack may leave clearly more images right with it.

    A control, such as noise, looks for nothing, and promises nothing of the kind.
    """
    found, compared = [], False
    rungs = (cell for kind in KINDS for cell in _cells(record, kind=kind, purpose="ladder", survivors=False))
    for name in dict.fromkeys(cell["rung"] for cell in rungs):
        cells = sorted(
            (cell for cell in record["cells"] if cell["rung"] == name), key=lambda cell: cell["eps"]
        )
        for less, more in pairwise(cells):
            compared = True
            if _clearly_more(records.unpack(more), records.unpack(less)):
                found.append(f"{name} leaves more right at eps {more['eps']:g} than at {less['eps']:g}")
    if not compared:
        return Flag("monotone", None, "no attack with two budgets is recorded")
    return Flag("monotone", bool(found), "; ".join(found) or "no attack is weaker with a larger budget")


def _order(record: dict) -> Flag:
    """Who sees the network must be at least as strong as who doesn't: otherwise its gradient misleads."""
    found, compared = [], False
    for eps in sorted({cell["eps"] for cell in _cells(record, purpose="ladder")}):
        by_kind = {
            kind: [cell for cell in _cells(record, kind=kind, survivors=False) if cell["eps"] == eps]
            for kind in ("black-box", "white-box")
        }
        if all(by_kind.values()):
            compared = True
            blind, seeing = (min(cells, key=lambda cell: cell["correct"]) for cells in by_kind.values())
            if _clearly_more(records.unpack(seeing), records.unpack(blind)):
                found.append(f"at eps {eps:g}, {blind['rung']} is stronger than {seeing['rung']}")
    if not compared:
        return Flag("order", None, "no budget has both a black box and a white box")
    return Flag("order", bool(found), "; ".join(found) or "no black box is stronger than the white boxes")


def _square(record: dict) -> Flag:
    """A search without gradients must find next to nothing that the gradients missed."""
    cells = [cell for cell in _cells(record, attack="square") if cell["how"]["survivors"]]
    if not cells:
        return Flag("square", None, "no search without gradients is recorded")
    shares = {cell["eps"]: 100 * (cell["attacked"] - cell["correct"]) / cell["n"] for cell in cells}
    eps, most = max(shares.items(), key=lambda item: item[1])
    text = f"at eps {eps:g}, the Square attack alone fools {most:.1f} % of the images"
    return Flag("square", most > POINT, text)


def _noise(record: dict) -> Flag:
    """An attack that is no better than noise of the same size isn't one.

    Where it fools more images than noise does, but not clearly more, there are too few of them to tell.
    """
    found, few = [], []
    attacked = {cell["eps"] for kind in KINDS for cell in _cells(record, kind=kind)}
    noises = [cell for cell in _cells(record, kind="control") if cell["eps"] in attacked]
    for cell in noises:
        still, left = records.unpack(cell), worst(record, cell["eps"])
        if not _clearly_more(still, left):
            (few if left.sum() < still.sum() else found).append(f"{cell['eps']:g}")
    if not noises:
        return Flag("noise", None, "no noise is recorded beside an attack")
    if found:
        return Flag("noise", True, f"no better than noise at eps {_listed(found)}")
    if few:
        return Flag("noise", None, f"at eps {_listed(few)} it fools hardly more than noise: {TOO_FEW}")
    return Flag("noise", False, "every budget beats noise of its size")


def _unmoved(record: dict) -> Flag:
    """Images that come back as they were have not been attacked."""
    if not _cells(record, kind="white-box"):
        return Flag("unmoved", None, "no white-box attack is recorded")
    found: dict[tuple[str, str], list[str]] = {}  # by attack and what it left, the budgets
    for cell in _cells(record, kind="white-box"):
        if cell["attacked"] and 100 * cell["unmoved"] > POINT * cell["attacked"]:
            share = 100 * cell["unmoved"] / cell["attacked"]
            left = "every image" if share == 100 else f"{share:.1f} % of the images"
            found.setdefault((cell["rung"], left), []).append(f"{cell['eps']:g}")
    parts = [f"{name} left {left} unchanged at eps {_listed(eps)}" for (name, left), eps in found.items()]
    return Flag("unmoved", bool(found), "; ".join(parts) or "every image was moved")


def _listed(words: list[str]) -> str:
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def _health(record: dict) -> Iterator[Flag]:
    """What is known of the network itself, see `health.of`."""
    health = record.get("health")
    if health is None:
        yield Flag("zero gradients", None, "the network's gradients are not measured")
        return
    dead = {
        name: shares["ce"]["images"]
        for name, shares in health["gradients"].items()
        if shares["ce"]["images"] > POINT
    }
    where = {name: "" if name == "itself" else f" on the path {name}" for name in dead}
    parts = [f"no gradient in {share:.3g} % of the images{where[name]}" for name, share in dead.items()]
    yield Flag("zero gradients", bool(dead), "; ".join(parts) or "all images have a gradient")
    yield Flag(
        "random answers",
        health["random"],
        "two calls give two answers: attack their expectation"
        if health["random"]
        else "same question, same answer",
    )
    yield Flag(
        "probabilities",
        health["probabilities"],
        "the network answers probabilities, which saturate"
        if health["probabilities"]
        else "answers are logits",
    )
    says = {True: "the network computes gradients to answer", False: "the network answers without a gradient"}
    optimizes = health.get("optimizes")  # records from before it was asked lack it
    yield Flag(
        "optimized answers", optimizes, says.get(optimizes, "whether answers are optimized is not measured")
    )
    missed = health["planted"] - health["found"]
    yield Flag(
        "planted examples",
        missed > 0 if health["planted"] else None,
        f"{health['found']} of {health['planted']} planted adversarial examples are found",
    )
