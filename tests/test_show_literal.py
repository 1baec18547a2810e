"""A network trained by the paper's text stands beside that of the chosen setting, on the same images."""

import pytest
import torch

from qlayer_core import intervals
from qlayer_core.show import literal
from qlayer_core.study import paper, records

CELL = paper.TABLES["1a"].cell("q-base-adv", "bim 0.3")  # 92.52


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that records, in an empty folder, which images a network has right in one cell."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def written(name: str, right: torch.Tensor, seed: int = 0, **fields: object) -> None:
        cell = dict(zip(paper.KEY, CELL.key, strict=True)) | {"n": len(right), "unmoved": 0, "environment": 0}
        cell |= {"correct": int(right.sum()), "accuracy": 100 * right.double().mean().item()}
        record = records.new_record(records.unit("mnist", name, seed))
        records.write(record | {"cells": [cell | {"right": records.pack(right)} | fields]})

    return written


def right(n: int, *of: range) -> torch.Tensor:
    flags = torch.zeros(n, dtype=torch.bool)
    for some in of:
        flags[some] = True
    return flags


def test_both_are_counted_on_the_images_that_both_have_seen(write):
    write("q-base-printed-adv", right(200, range(90), range(100, 200)))  # of the first hundred 90
    assert literal.pairs("1a") == []
    write("q-base-adv", right(100, range(20, 80)), seed=1)  # other batches
    assert literal.pairs("1a") == []
    write("q-base-adv", right(100, range(20, 95)))
    (pair,) = literal.pairs("1a")
    assert (pair.text, pair.chosen, pair.n, pair.cell) == (90.0, 75.0, 100, CELL)
    gain, low, high = intervals.paired(20, 5, 100)
    assert (pair.text - pair.chosen, pair.low, pair.high) == (gain, low, high)
    html = literal.comparison("1a").html
    assert "90.0" in html and "75.0" in html and "92.5" in html and "+15.0" in html and f"+{low:.1f}" in html
    assert "first 100 test images" in html


def test_the_reading_counts_cells_and_leaves_out_attacks_that_failed(write):
    write("q-base-printed-adv", right(100, range(90)))
    write("q-base-adv", right(100, range(75)))
    text = repr(literal.reading("1a", "2a"))
    assert "Q-base, adv. trained: trained by the text it keeps clearly more than as chosen in 1 of 1" in text
    assert "in 1 of them it is nearer to the paper" in text
    assert "BIM 0.3 (blind): 90.0 by the text, 75.0 as chosen, 92.5 % in the paper" in text
    write("q-base-adv", right(100, range(94)))
    text = repr(literal.reading("1a"))
    assert "more than as chosen in 0 of 1" in text and "fewer in 0;" in text  # four images, all one way
    assert "in 0 of them it is nearer" in text  # 94 is
    write("q-base-adv", right(100, range(75)), unreliable="for want of a gradient")
    assert repr(literal.reading("1a")) == "" and "<s " in literal.comparison("1a").html


def test_without_records_nothing_is_shown(write):
    assert literal.comparison("1a").html == "" and literal.reading("1a").html == ""
