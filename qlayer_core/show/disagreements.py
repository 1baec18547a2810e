"""What the chapters on results show of `study.disagreements`: where ours and the paper's numbers differ, and why."""

import re
from html import escape

from qlayer_core.attacks import REGISTRY
from qlayer_core.show import names
from qlayer_core.show.page import Markup, decimal, struck, table, wrapped
from qlayer_core.show.results import column_name, row_name, summary
from qlayer_core.study import disagreements, experiments

_MODELS = "|".join(sorted(map(re.escape, experiments.RUNS), key=len, reverse=True))
_NAMES = re.compile(rf"\b(?P<row>(?:{_MODELS})(?: [qe])?)(?=[,:])|\b(?P<attack>{'|'.join(REGISTRY)}) (?=\d)")
_SETTINGS = {  # as `study.disagreements` spells them, and as the chapters do
    **{f"commitment {form}": f"commitment {words}" for form, words in names.COMMITMENTS.items()},
    **{
        f"inactive codes {how}": f"inactive codes by strategy {words}" for how, words in names.UPDATES.items()
    },
}
_SPACES = {"K": "head", "n_c": "code"}


def disagreement_table(*numbers: str, beyond: float = disagreements.BEYOND) -> Markup:
    """Return the cells of these tables more than ``beyond`` points from the paper's, with what explains each."""
    found = disagreements.disagreements(numbers, beyond)
    ours = {number: summary(number) for number in numbers}
    rows = [
        [
            wrapped(f"{one.cell.table}: {_counted(row_name(one.cell.row))}", 8),
            _counted(column_name(one.cell.column)),
            decimal(one.cell.accuracy),
            struck(decimal(one.ours), ours[one.cell.table].unreliable[one.cell.row, one.cell.column]),
            decimal(one.difference, sign=True),
            wrapped(_explained(one), 15),
        ]
        for one in found
    ]
    unexplained = sum(not one.support for one in found)
    caption = (
        f"Cells of Table{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} that are more than {beyond:g} points"
        f" from the paper's, mean over the recorded seeds: {len(found)}, of which {unexplained} are not explained."
        " A measured explanation accounts for at least a third of the difference, and seldom for all of it."
    )
    heads = [
        "table: model",
        "attack",
        "paper",
        "ours",
        "difference",
        "best explanation, at least in part (evidence)",
    ]
    return table(rows, heads, caption)


def _counted(text: str) -> str:
    """Return ``"K=2"`` and ``"n_c=64"``, the paper's names of rows and columns, in words; others as they are."""
    what, _, number = text.partition("=")
    return f"{number} {_SPACES[what]}{'' if number == '1' else 's'}" if what in _SPACES else text


def _explained(one: disagreements.Disagreement) -> str:
    """Return the explanation and its evidence as HTML, with the names that the text uses."""
    if not one.support:
        return escape(one.why)

    def named(found: re.Match) -> str:
        return row_name(found["row"]) if found["row"] else f"{names.attack(found['attack'])} "

    support = _NAMES.sub(named, one.support)
    for setting, words in _SETTINGS.items():
        support = support.replace(setting, words)
    return escape(f"{one.why} ({support})").replace(" %", "&nbsp;%")
