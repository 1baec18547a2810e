"""Whether what is recorded counts as done today: of a PixelCNN, of a rung, or of a file that may not be whole."""

import dataclasses
from collections.abc import Callable, Iterator

from qlayer_core import data
from qlayer_core.study import adaptive, likelihoods, records


def can(unit: records.Unit, rung: adaptive.Rung) -> bool:
    """Return whether the network that makes a rung's images is there."""
    one = adaptive.other(unit, rung)
    return one is None or records.there(one)


def rungs_left(unit: records.Unit, climbed: dict | None) -> set[tuple[str, float]]:
    """Return the names and eps of the rungs that a network has left and can climb, by what is recorded."""
    return {(rung.name, eps) for rung, eps in _left(unit, climbed) if can(unit, rung)}


def sibling_left(unit: records.Unit) -> bool:
    """Return whether a network has a rung left whose images another seed of it makes."""
    return any(rung.source == "sibling" for rung, _ in _left(unit, tried(adaptive.read, unit)))


def _left(unit: records.Unit, climbed: dict | None) -> Iterator[tuple[adaptive.Rung, float]]:
    today = climbed is not None and climbed["weights_sha256"] == records.weights_of(unit)
    return adaptive.left(climbed if today else {"cells": [], "environments": []}, unit)


def scored(unit: likelihoods.Unit) -> bool:
    """Return whether all sets are scored, with today's settings, and codes are those of today's network."""
    record = tried(likelihoods.read, unit)
    of_pixels = unit.name == likelihoods.PIXELS
    network = None if of_pixels else tried(records.read_unit, records.unit(unit.dataset, unit.name))
    return (
        record is not None
        and record["network_sha256"] == (network and network["weights_sha256"])
        and record["finished"]
        and record["settings"] == dataclasses.asdict(unit.settings)
        and all(
            record["sets"].get(name, {}).get("n", 0) >= data.TEST_IMAGES
            for name in likelihoods.set_names(unit)
        )
    )


def tried(read: Callable[[object], dict], what: object) -> dict | None:
    """Return what ``read`` finds; None if nothing is there, or a file of another format, or none that is whole."""
    try:
        return read(what)
    except (FileNotFoundError, ValueError):
        return None
