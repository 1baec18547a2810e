"""What the chapters on results show of `study.disagreements`: where ours and the paper's numbers differ, and why."""

from html import escape

from qlayer_core.show.page import Markup, decimal, struck, table, wrapped
from qlayer_core.show.results import column_name, row_name, summary
from qlayer_core.study import disagreements


def disagreement_table(*numbers: str, beyond: float = disagreements.BEYOND) -> Markup:
    """Return the cells of these tables more than ``beyond`` points from the paper's, with what explains each."""
    found = disagreements.disagreements(numbers, beyond)
    ours = {number: summary(number) for number in numbers}
    rows = [
        [
            wrapped(f"{one.cell.table}: {row_name(one.cell.row)}", 8),
            column_name(one.cell.column),
            decimal(one.cell.accuracy),
            struck(decimal(one.ours), ours[one.cell.table].unreliable[one.cell.row, one.cell.column]),
            decimal(one.difference, 1, sign=True),
            wrapped(escape(f"{one.why} ({one.support})" if one.support else one.why), 15),
        ]
        for one in found
    ]
    unexplained = sum(not one.support for one in found)
    caption = (
        f"Cells of Table{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} that are more than {beyond:g} points"
        f" from the paper's, mean over the recorded seeds: {len(found)}, of which {unexplained} are not explained."
    )
    heads = ["table: model", "attack", "paper", "ours", "difference", "best explanation (evidence)"]
    return table(rows, heads, caption)
