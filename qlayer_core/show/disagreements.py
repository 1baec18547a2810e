"""What the chapters on results show of `study.disagreements`: where ours and the paper's numbers differ, and why."""

import re
from collections.abc import Sequence
from html import escape

from qlayer_core.attacks import REGISTRY
from qlayer_core.show import names
from qlayer_core.show.page import DASH, Markup, decimal, struck, table, upper, wrapped
from qlayer_core.show.results import column_name, row_name, summary
from qlayer_core.study import disagreements, experiments

_MODELS = "|".join(sorted(map(re.escape, experiments.RUNS), key=len, reverse=True))
_NAMES = re.compile(
    rf"\b(?P<row>(?:{_MODELS})(?: [qe]| via \w+)?)(?=[,:])|\b(?P<attack>{'|'.join(REGISTRY)}) (?=\d)"
)
_SETTINGS = {  # as `study.disagreements` spells them, and as the chapters do
    **{f"commitment {form}": f"commitment {words}" for form, words in names.COMMITMENTS.items()},
    **{
        f"inactive codes {how}": f"inactive codes by strategy {words}" for how, words in names.UPDATES.items()
    },
}
_SPACES = {"K": "head", "n_c": "code"}


def disagreement_table(numbers: Sequence[str], found: Sequence[disagreements.Disagreement]) -> Markup:
    """Return what `disagreements.disagreements` found in these tables of the paper, by what explains it."""
    ours = {number: summary(number) for number in numbers}
    by_reason, rows = {}, []
    for one in found:
        by_reason.setdefault(one.why, []).append(one)
    for why, some in by_reason.items():
        rows.append([f'<span class="heads">{upper(escape(why))}.</span>'])
        rows += [
            [
                wrapped(f"{one.cell.table}: {_counted(row_name(one.cell.row))}", 6.5),
                _counted(column_name(one.cell.column)),
                decimal(one.cell.accuracy),
                struck(decimal(one.ours), ours[one.cell.table].unreliable[one.cell.row, one.cell.column]),
                decimal(one.difference, sign=True),
                wrapped(_evidence(one), 13) if one.support else DASH,
            ]
            for one in some
        ]
    unexplained = sum(not one.support for one in found)
    caption = (
        f"Cells of Table{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} that are more than"
        f" {disagreements.BEYOND:g} points from the paper's, mean over the recorded seeds: {len(found)}, of which"
        f" {unexplained} are not explained. Rows stand under their best explanation, which may be partial. One that"
        " is measured accounts for at least a third of what the same seeds are off, and seldom for all of it."
    )
    heads = ["table: model", "attack", "paper", "ours", "difference", "evidence"]
    return table(rows, heads, caption)


def _counted(text: str) -> str:
    """Return ``"K=2"`` and ``"n_c=64"``, the paper's names of rows and columns, in words; others as they are."""
    what, _, number = text.partition("=")
    return f"{number} {_SPACES[what]}{'' if number == '1' else 's'}" if what in _SPACES else text


def _evidence(one: disagreements.Disagreement) -> str:
    """Return the evidence of an explanation as HTML, with the names that the text uses."""

    def named(found: re.Match) -> str:
        return row_name(found["row"]) if found["row"] else f"{names.attack(found['attack'])} "

    support = _NAMES.sub(named, one.support)
    for setting, words in _SETTINGS.items():
        support = support.replace(setting, words)
    return escape(upper(support)).replace(" %", "&nbsp;%")
