"""Records that a training has replaced, since other weights came out of it: kept under runs/, and what they held.

Weights are not in a clone but for those that chapters load. The others are trained anew where a network starts from
them or has a cell missing; on another kind of machine they differ, and nothing that was measured is of them. The old
record is set aside, and `study.plan` has measured again what it held.
"""

from collections.abc import Iterator
from pathlib import Path

from qlayer_core import files
from qlayer_core.specs import Attack
from qlayer_core.study import adaptive, records


def set_aside(unit: records.Unit) -> None:
    """Keep what is recorded of a network that was trained anew, before its record is replaced."""
    record = records.read_unit(unit)
    if record["cells"] or record["history"]:
        files.write_json(_folder(unit) / f"{record['weights_sha256'][:12]}.json", record)
    if adaptive.path_of(unit).exists():
        climbed = adaptive.read(unit)
        files.write_json(_folder(unit) / f"{climbed['weights_sha256'][:12]} adaptive.json", climbed)


def attacks(unit: records.Unit) -> set[Attack]:
    """Return the attacks that were measured of earlier weights of a network."""
    return {records.attack_of(cell) for record in _kept(unit, adapted=False) for cell in record["cells"]}


def rungs(unit: records.Unit) -> set[tuple[str, float]]:
    """Return the rungs, by name and eps, that earlier weights of a network have climbed."""
    return {(cell["rung"], cell["eps"]) for record in _kept(unit, adapted=True) for cell in record["cells"]}


def _folder(unit: records.Unit) -> Path:
    return unit.folder / "replaced"


def _kept(unit: records.Unit, adapted: bool) -> Iterator[dict]:
    for path in sorted(_folder(unit).glob("*.json")):
        if path.stem.endswith(" adaptive") == adapted:
            yield records.read_file(path)
