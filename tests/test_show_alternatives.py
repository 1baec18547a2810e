"""A network trained by the paper's text stands beside that of the chosen setting, on the same images."""

import re
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from qlayer_core import intervals
from qlayer_core.show import alternatives, ladder
from qlayer_core.study import adaptive, claims, evidence, experiments, measured, paper, records, variants
from qlayer_core.study.evidence import Claim, Comparison

SPEC = experiments.spec("q-base-adv")
CELL = paper.TABLES["1a"].cell("q-base-adv", "bim 0.3")  # 92.52


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that records, in an empty folder, which images a network has right in one cell."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def written(one: str | records.Unit, right: torch.Tensor, seed: int = 0, **fields: object) -> None:
        cell = dict(zip(paper.KEY, CELL.key, strict=True)) | {"n": len(right), "unmoved": 0, "environment": 0}
        cell |= {"correct": int(right.sum()), "accuracy": 100 * right.double().mean().item()}
        record = records.new_record(records.unit("mnist", one, seed) if isinstance(one, str) else one)
        records.write(record | {"cells": [cell | {"right": records.pack(right)} | fields]})

    return written


def right(n: int, *of: range) -> torch.Tensor:
    flags = torch.zeros(n, dtype=torch.bool)
    for some in of:
        flags[some] = True
    return flags


def seen(html: str) -> str:
    """Return a table without what only screen readers have."""
    return re.sub(r"<span.*?</span>", "", html)


def test_both_are_counted_on_the_images_that_both_have_seen(write):
    write("q-base-printed-adv", right(200, range(90), range(100, 200)))  # of the first hundred 90
    assert alternatives.pairs("1a") == []
    write("q-base-adv", right(100, range(20, 80)), seed=1)  # other batches
    assert alternatives.pairs("1a") == []
    write("q-base-adv", right(100, range(20, 95)))
    (pair,) = alternatives.pairs("1a")
    assert (pair.other, pair.chosen, pair.n, pair.cell) == (90.0, 75.0, 100, CELL)
    gain, low, high = intervals.paired(20, 5, 100)
    assert (pair.other - pair.chosen, pair.low, pair.high) == (gain, low, high)
    html = alternatives.comparison("1a").html
    ends = f"{low:+.1f}<br>{high:+.1f}"
    assert f"<strong>90.0</strong><br><small>75.0<br>92.5<br>+15.0<br>{ends}</small>" in seen(html)
    assert "first 100 test images" in html


def test_the_reading_counts_cells_and_leaves_out_attacks_that_failed(write):
    write("q-base-printed-adv", right(100, range(90)))
    write("q-base-adv", right(100, range(75)))
    text = repr(alternatives.reading("1a", "2a"))
    assert (
        "Q-base (adv. trained): trained by the text, it keeps clearly more images than with the book's"
        in text
    )
    assert (
        "setting in 1 of 1 cells that FGSM and BIM attacked, and clearly fewer in 0. In 1 of the 1, the text comes"
        in text
    )
    end = "BIM 0.3 (black box): 90.0 % by the text, 75.0 % with the book's setting, 92.5 % in the paper."
    end += " On average the text is 2.5 points from the paper, the book's setting 17.5."
    assert text.endswith(end)
    write("q-base-adv", right(100, range(94)))
    text = repr(alternatives.reading("1a"))
    assert "setting in 0 of 1" in text and "fewer in 0." in text  # four images, all one way
    assert "In 0 of the 1, the text comes nearer" in text  # 94 is
    write("q-base-adv", right(100, range(75)), unreliable="for want of a gradient")
    assert repr(alternatives.reading("1a")) == "" and "<s " in alternatives.comparison("1a").html


def test_the_largest_difference_may_be_a_loss(write):
    for name, first, second in (("q-base-printed-adv", 90, 40), ("q-base-adv", 75, 80)):
        write(name, right(100, range(first)))
        record = records.read("mnist", name)
        cell, packed = record["cells"][0], records.pack(right(100, range(second)))
        other = cell | {"attack": "fgsm", "correct": second, "accuracy": 1.0 * second, "right": packed}
        records.write(record | {"cells": [cell, other]})
    text = repr(alternatives.reading("1a"))
    assert "The largest difference is under FGSM 0.3 (black box): 40.0 % by the text, 80.0 %" in text


def test_fewest_seeds_are_told_before_most():
    models = ("q-base-adv", "q-large-adv", "q-large-adv")
    frame = pd.DataFrame({"model": models, "seed": (0, 0, 1)})
    assert "has 1 to 2 seeds of both settings" in alternatives._seeds(frame)
    assert "has 1 seed of both settings" in alternatives._seeds(frame[frame.seed == 0])


def test_what_the_rule_would_choose_now_stands_beside_the_book_s_setting(write):
    write("q-base-adv", right(100, range(75)))
    write(variants.LATER.unit("mnist", "q-base-adv"), right(100, range(90)))
    write(variants.Setting("linear").unit("mnist", "q-base-adv"), right(100))
    (pair,) = alternatives.pairs("1a", alternatives.DROPOUT)
    assert (pair.other, pair.chosen) == (90.0, 75.0)
    assert "Q-base (adv. trained), with dropout" in alternatives.comparison("1a", alternatives.DROPOUT).html
    text = repr(alternatives.reading("1a", setting=alternatives.DROPOUT))
    assert "(adv. trained): trained with dropout, it keeps clearly more images" in text
    assert alternatives.pairs("1a") == [], "nothing of the paper's text is there"


def test_a_ladder_with_another_setting_stands_for_that_of_the_grid(write):
    one = variants.LATER.unit("mnist", "q-base-adv")
    cell = {"rung": "bim", "eps": 0.2, "how": {"kind": "white-box", "purpose": "ladder"}, "n": 100}
    cell |= {"correct": 60, "right": records.pack(right(100, range(60)))}
    for unit, name in ((one, "q-base-adv"), (replace(one, variant="", spec=SPEC), "q-base-adv")):
        record = {"dataset": "mnist", "model": name, "seed": 0, "n": 100, "cells": [cell]}
        record |= {
            "format": records.FORMAT,
            "clean": records.pack(right(100, range(99))),
            "weights_sha256": "",
        }
        adaptive.write(record, adaptive.path_of(unit))
        cell = cell | {"correct": 20, "right": records.pack(right(100, range(20)))}
    value = evidence.Value("mnist", "q-base-adv", "ladder", "bim", 0.2)
    frame = measured.frame()
    assert measured.numbers(frame)[value][0].value == 20.0
    assert measured.numbers(measured.otherwise(frame, variants.WITH_DROPOUT)[1])[value][0].value == 60.0
    assert all(one.equals(frame) for one in measured.otherwise(frame, experiments.BY_THE_TEXT))


def climbed(name: str, *left: int, n: int = 100) -> dict:
    """Return a ladder at two budgets, of which one attack leaves so many images."""
    cells = [
        {"rung": "bim", "eps": eps, "how": {"kind": "white-box", "purpose": "ladder"}, "n": n}
        | {"correct": some, "right": records.pack(right(n, range(some)))}
        for eps, some in zip((0.1, 0.2), left, strict=True)
    ]
    about = {"format": records.FORMAT, "dataset": "mnist", "model": name, "seed": 0, "weights_sha256": ""}
    return about | {"n": n, "clean": records.pack(right(n, range(n))), "cells": cells}


def test_what_all_attacks_leave_with_dropout_is_counted_on_the_images_of_all_three(write, monkeypatch):
    assert alternatives.left_with_dropout(alternatives.climbed()).html == ""
    one = variants.LATER.unit("mnist", "q-base")
    adaptive.write(climbed("q-base", 70, 5), adaptive.path_of(one))
    assert alternatives.climbed() == {}, "it is not whole"
    for module in (alternatives, ladder.ladder):
        monkeypatch.setattr(module, "complete", lambda record: True)
    assert alternatives.left_with_dropout(alternatives.climbed()).html == "", (
        "the book's network has no ladder"
    )
    for name, counts in (("q-base", climbed("q-base", 50, 0, n=200)), ("cnn", climbed("cnn", 80, 10))):
        adaptive.write(counts, adaptive.path_of(records.unit("mnist", name)))
    html = alternatives.left_with_dropout(alternatives.climbed()).html
    gain, low, high = intervals.paired(20, 0, 100)
    below = f"50.0<br>80.0<br>+{gain:.1f}<br>+{low:.1f}<br>+{high:.1f}"
    assert f"<strong>70.0</strong><br><small>{below}</small>" in seen(html)
    assert "Q-base, with dropout, seed 0" in html and "the same first 100 test images" in html

    more = climbed("q-base", 50, 0, n=200)  # an attack that the network with dropout was spared
    how = {"kind": "white-box", "purpose": "ladder", "surrogate": "latent 2"}
    more["cells"].append(
        more["cells"][0] | {"rung": "last", "how": how, "right": records.pack(right(200, []))}
    )
    adaptive.write(more, adaptive.path_of(records.unit("mnist", "q-base")))
    assert alternatives.left_with_dropout(alternatives.climbed()).html == html


def test_a_ladder_of_weights_that_were_replaced_does_not_count(write):
    one = variants.LATER.unit("mnist", "q-base")
    adaptive.write(climbed("q-base", 70, 5), adaptive.path_of(one))
    assert len(measured.climbed(variants.LATER)) == 1
    records.write(records.new_record(one) | {"weights_sha256": "of other weights"})
    assert measured.climbed(variants.LATER) == []


def test_a_light_that_the_papers_text_would_turn_is_named(write, monkeypatch):
    """The text's network is as the paper's; the chosen one loses all that the claim is about."""
    value, plain = (
        evidence.recorded(paper.TABLES["1a"].cell(name, "bim 0.3")) for name in ("q-base-adv", "cnn-adv")
    )
    text = replace(value, model="q-base-printed-adv")
    rows = [
        asdict(one) | {"seed": seed, "value": share, "low": share - 1, "high": share + 1, "n": 10_000}
        for one, seed, share in ((value, 0, 72.0), (value, 1, 73.0), (plain, 0, 80.0), (text, 0, 90.0))
    ]
    frame = pd.DataFrame(rows, columns=list(measured.COLUMNS))
    own, swapped = map(measured.numbers, measured.otherwise(frame, experiments.BY_THE_TEXT))
    assert {seed: one.value for seed, one in swapped[value].items()} == {0: 90.0}
    assert {seed: one.value for seed, one in own[value].items()} == {0: 72.0}, "no seed that the text has not"
    assert swapped[plain][0].value == 80.0
    assert "no light would change" in repr(alternatives.turned(frame))  # too little is measured for one
    monkeypatch.setattr(
        claims, "CLAIMS", (Claim("ahead", "4.2", "It is ahead.", (Comparison(value, plain),)),)
    )
    assert repr(alternatives.turned(frame)).endswith(
        "1 light would change. \u201cahead\u201d: not reproduced (0 of 1) becomes reproduced (1 of 1). Under the"
        " paper's protocol 1 instead of 0 comparisons would hold; under the strongest attack as many (0) would fail."
    )
    bare = frame[frame.model != text.model]
    assert repr(alternatives.turned(bare)) == "" and all(
        one.equals(bare) for one in measured.otherwise(bare, experiments.BY_THE_TEXT)
    )


def test_networks_that_would_differ_in_two_things_are_left_out():
    value = evidence.recorded(CELL)
    models = ("q-base-adv", "q-base-printed-adv", "q-k4-n16-adv", "q-k4-n16", "cnn-adv")
    rows = [asdict(replace(value, model=name)) | {"seed": 0, "value": 1.0, "n": 1} for name in models]
    frame = pd.DataFrame(rows, columns=list(measured.COLUMNS))
    for one in measured.otherwise(frame, experiments.BY_THE_TEXT):
        assert set(one.model) == {"q-base-adv", "q-k4-n16", "cnn-adv"}


def test_without_records_nothing_is_shown(write):
    assert alternatives.comparison("1a").html == "" and alternatives.reading("1a").html == ""
