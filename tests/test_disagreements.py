"""Cells that differ from the paper's are all listed, and each explanation rests on a cell that bears it out."""

import json
import re

import pytest
import torch

from qlayer_core.show.disagreements import disagreement_table
from qlayer_core.specs import Attack
from qlayer_core.study import paper, records, trails
from qlayer_core.study.disagreements import _along_a_trail, by_chance, disagreements
from qlayer_core.study.variants import LATER, Setting

ALL = tuple(paper.TABLES)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that records cells of a network: (paper's cell, accuracy, changed fields), and its history."""
    for module in (records, trails):
        monkeypatch.setattr(module, "RESULTS", tmp_path)

    def record(
        name: str | records.Unit,
        *cells: tuple,
        history: list = (),
        chosen: float = 0.0,
        seed: int = 0,
        score: float = 0.0,
    ) -> None:
        one = records.unit("mnist", name, seed) if isinstance(name, str) else name
        found = [
            {field: getattr(cell, field) for field in Attack.__dataclass_fields__}
            | {
                "path": cell.path,
                "n": 10_000,
                "correct": round(100 * accuracy),
                "accuracy": accuracy,
                "unmoved": 0,
            }
            | changed
            for cell, accuracy, changed in cells
        ]
        best = {"accuracy": {path: {"fgsm 0.3": chosen} for path in "qe"}, "score": score}
        history = [{"score": 0.0} | row for row in history]
        records.write(records.new_record(one) | {"cells": found, "history": list(history), "chosen": best})

    return record


def reasons(*numbers: str) -> dict[tuple[str, str], tuple[str, str]]:
    return {(one.cell.row, one.cell.column): (one.why, one.support) for one in disagreements(numbers)}


def test_only_cells_that_are_far_from_the_papers_are_listed_once_and_largest_first(write):
    cells = [paper.TABLES["1a"].cell("cnn", column) for column in ("fgsm 0.2", "fgsm 0.3", "bim 0.2")]
    write("cnn", *((cell, cell.accuracy + by, {}) for cell, by in zip(cells, (11, -9.9, 20), strict=True)))
    found = disagreements()
    assert [(one.cell.column, round(one.difference, 2)) for one in found] == [
        ("bim 0.2", 20),
        ("fgsm 0.2", 11),
    ]
    assert [one.cell.column for one in disagreements(("1a",), beyond=15)] == ["bim 0.2"]
    assert disagreements(("2a",)) == []


def test_how_readily_the_rules_explain_what_is_not_there_is_known(write):
    near, far = (paper.TABLES["1a"].cell("cnn", column) for column in ("fgsm 0.2", "fgsm 0.3"))
    write("cnn", (near, near.accuracy, {}))
    assert by_chance(ALL, disagreements()) == {}, "without a difference none can be made up"
    write("cnn", (near, near.accuracy, {}), (far, far.accuracy + 12, {}))
    assert by_chance(ALL, disagreements()) == {("black-box", -1): [False], ("black-box", 1): [False]}
    for seed in (1, 2):  # an epoch that might have been kept crosses the number that is 12 points lower
        crossing = [{"score": 50.0, "accuracy": {None: {"fgsm 0.2": near.accuracy + by}}} for by in (-20, 0)]
        write("cnn", (near, near.accuracy, {}), (far, far.accuracy + 12, {}), seed=seed, history=crossing)
    assert by_chance(ALL, disagreements()) == {("black-box", -1): [True], ("black-box", 1): [False]}
    assert by_chance(("2a",), disagreements(("2a",))) == {}


def test_no_difference_is_made_up_that_no_accuracy_could_have(write):
    low, far = (paper.TABLES["2a"].cell("cnn", column) for column in ("bim 0.3", "fgsm 0.2"))
    assert low.accuracy < 12
    write("cnn", (low, low.accuracy, {}), (far, far.accuracy + 12, {}))
    assert list(by_chance(ALL, disagreements())) == [("white-box", 1)], (
        "below it lies no number of the paper's"
    )


def test_the_rounded_gradient_explains_what_it_makes_good(write):
    cell = paper.TABLES["2a"].cell("q-large", "fgsm 0.3")  # 30.68
    clipped = {"attack": "fgsm-clipped"}
    write("q-large", (cell, 5.0, {}), (cell, 25.0, clipped))
    why, support = reasons("2a")["q-large", "fgsm 0.3"]
    assert "rounded to zero" in why and support == "ours, made in that way: 25.00 %"
    write("q-large", (cell, 5.0, {}), (cell, 7.0, clipped))  # it makes no difference here
    assert reasons("2a")["q-large", "fgsm 0.3"] == ("not explained", "")


def test_the_rounded_gradient_is_compared_with_the_same_seeds(write):
    cell = paper.TABLES["2a"].cell("q-large", "fgsm 0.3")  # 30.68
    write("q-large", (cell, 1.0, {}), seed=1)
    write("q-large", (cell, 24.0, {}), (cell, 25.0, {"attack": "fgsm-clipped"}))  # hardly other than without
    assert reasons("2a")["q-large", "fgsm 0.3"] == ("not explained", "")
    write("q-large", (cell, 10.0, {}), (cell, 25.0, {"attack": "fgsm-clipped"}))
    assert reasons("2a")["q-large", "fgsm 0.3"][1] == (
        "ours, made in that way: 25.00 %, and 10.00 % of the same seeds without"
    )


def test_the_rounded_gradient_is_compared_with_the_same_images(write):
    cell = paper.TABLES["2a"].cell("q-large", "fgsm 0.3")  # 30.68
    few = {"attack": "fgsm-clipped", "n": 1000, "right": records.pack(torch.arange(1000) < 250)}
    hard, easy = torch.arange(10_000) % 10 == 0, torch.arange(10_000) % 10 == 0
    # The first images are easy: that other gradient makes hardly a difference on them.
    easy[:1000] = torch.arange(1000) < 240
    for right in (easy, hard):
        whole = {"right": records.pack(right), "correct": int(right.sum())}
        write("q-large", (cell, float(right.float().mean() * 100), whole), (cell, 25.0, few))
        why, support = reasons("2a")["q-large", "fgsm 0.3"]
        if right is easy:
            assert (why, support) == ("not explained", "")
    assert support == "ours, made in that way: 25.00 %, and 10.00 % of the same images without"


def test_attacks_of_the_paper_that_had_failed_are_found_by_its_own_cells(write):
    stuck = paper.TABLES["6b"].cell("q-base e", "bim 0.2")
    write("q-base", (stuck, 2.0, {}))
    why, support = reasons("6b")["q-base e", "bim 0.2"]
    assert "no gradient" in why and "bim 0.2 and bim 0.3 both leave 43.69 %" in support
    write("q-base", (stuck, 60.0, {}))  # a failed attack leaves too many right, never too few
    assert reasons("6b")["q-base e", "bim 0.2"] == ("not explained", "")
    blind = paper.TABLES["2a"].cell("cnn-adv", "fgsm 0.3")  # 90.23, and 80.57 in Table 1a
    write("cnn-adv", (blind, 60.0, {}))
    why, support = reasons("2a")["cnn-adv", "fgsm 0.3"]
    assert "without sight" in why and "Table 1a, cnn-adv, fgsm 0.3: 80.57 %" in support


def test_a_gradient_of_the_paper_that_failed_once_counts_for_little_elsewhere(write):
    inner, large, adv = (
        paper.TABLES[table].cell(name, column)
        for table, name, column in (
            ("3b", "q-inner", "fgsm 0.2"),
            ("3b", "q-large", "fgsm 0.2"),
            ("2a", "cnn-adv", "bim 0.2"),
        )
    )
    for cell in (inner, large, adv):
        write(cell.model, (cell, cell.accuracy - 20, {}))
    found = reasons("3b", "2a")
    why, support = found["q-inner", "fgsm 0.2"]
    assert "had failed" in why
    assert support == "the paper's Table 3b, q-inner, fgsm 0.3: 67.15 %; Table 3a: 61.60 %"
    assert found["cnn-adv", "bim 0.2"] == (
        "not explained",
        "",
    )  # that FGSM failed (see above) says nothing of BIM
    assert found["q-large", "fgsm 0.2"] == ("not explained", "")  # the paper's own never kept more in sight
    write("q-inner", (inner, inner.accuracy + 15, {}))  # a failed attack leaves too many right, never too few
    assert reasons("3b")["q-inner", "fgsm 0.2"] == ("not explained", "")


def test_a_number_that_crosses_the_papers_in_training_says_so(write):
    cell = paper.TABLES["1a"].cell("q-base", "fgsm 0.3")  # 52.69
    history = [{"accuracy": {"q": {"fgsm 0.3": value}}} for value in (30.0, 55.0, 40.0)]
    write("q-base", (cell, 40.0, {}), history=history)
    why, support = reasons("1a")["q-base", "fgsm 0.3"]
    assert "which epoch" in why and support == (
        "from 30.0 to 55.0 % on validation images over 3 epochs, none of them a point worse than the best"
    )
    elsewhere = [row | {"score": score} for row, score in zip(history, (5.0, 3.9, 5.5), strict=True)]
    write("q-base", (cell, 40.0, {}), history=elsewhere)  # the one that crosses it would not have been kept
    assert reasons("1a")["q-base", "fgsm 0.3"] == ("not explained", "")
    write("q-base", (cell, 40.0, {}), history=history[:1])
    assert reasons("1a")["q-base", "fgsm 0.3"] == ("not explained", "")


def test_a_number_that_crosses_the_papers_from_epoch_to_epoch_under_a_seeing_attacker_says_so(write):
    cell = paper.TABLES["2a"].cell("cnn-adv", "bim 0.2")  # 88.03
    write("cnn-adv", (cell, 70.0, {}))
    place = trails.path_of(records.unit("mnist", "cnn-adv"))
    place.parent.mkdir(parents=True)

    def trail(*shares: float) -> None:
        cells = [[{"path": None, **vars(cell), "n": 500, "correct": 5 * share}] for share in shares]
        rows = [{"score": 92.0 - k, "cells": some} for k, some in enumerate(cells)]
        content = {"format": records.FORMAT, "seed": 2, "n": 500, "rows": rows}
        place.write_text(json.dumps(content))

    trail(73, 80, 85)  # it never gets there
    assert reasons("2a")["cnn-adv", "bim 0.2"] == ("not explained", "")
    trail(73, 80, 88, 95)
    why, support = reasons("2a")["cnn-adv", "bim 0.2"]
    assert "does not see it" in why and support == (
        "trained once more, seed 2: 73.0 % after epoch 1, which is kept, 88.0 % after epoch 3, whose score is 2.0"
        " points lower; on 500 validation images"
    )
    cell = Attack("white-box", "bim-clipped", 0.2)  # as the paper's attack was made
    trail(73, 85, 95)
    assert reasons("2a")["cnn-adv", "bim 0.2"][1].startswith(
        "trained once more, seed 2: by the clipped gradient, the paper's, 73.0 % after epoch 1"
    )
    blind = paper.TABLES["1a"].cell("cnn-adv", "bim 0.2")  # 96.18
    write("cnn-adv", (blind, 70.0, {}))
    assert reasons("1a")["cnn-adv", "bim 0.2"] == ("not explained", "")


def test_a_trail_says_nothing_of_another_way_into_the_network(write):
    """Its attacks follow the E-path."""
    round_it, over_it = (paper.TABLES["11"].cell(f"q-base via {way}", "bim 0.2") for way in ("e", "shortcut"))
    place = trails.path_of(records.unit("mnist", "q-base"))
    place.parent.mkdir(parents=True)
    rows = [{"score": 90.0, "cells": [vars(round_it) | {"n": 100, "correct": share}]} for share in (0, 100)]
    place.write_text(json.dumps({"format": records.FORMAT, "seed": 0, "n": 100, "rows": rows}))
    assert list(_along_a_trail(round_it)) and not list(_along_a_trail(over_it))


def test_a_network_with_the_dropout_that_the_rule_would_choose_now_that_comes_nearer_says_so(write):
    cell = paper.TABLES["1a"].cell("q-base-adv", "fgsm 0.3")  # 91.70
    other = LATER.unit("mnist", "q-base-adv")
    write("q-base-adv", (cell, 75.0, {}))
    assert reasons("1a")["q-base-adv", "fgsm 0.3"][0] == "not explained"
    write(other, (cell, 85.0, {}))
    why, support = reasons("1a")["q-base-adv", "fgsm 0.3"]
    assert "with dropout behind the layer" in why and "85.00 % of the same 10,000 images, 75.00 %" in support
    write(other, (cell, 79.0, {}))  # too little
    assert reasons("1a")["q-base-adv", "fgsm 0.3"][0] == "not explained"


def test_another_training_is_compared_with_the_same_seeds(write):
    cell = paper.TABLES["1a"].cell("q-base-adv", "fgsm 0.3")  # 91.70
    write("q-base-adv", (cell, 60.0, {}))
    write("q-base-adv", (cell, 86.0, {}), seed=1)
    write(LATER.unit("mnist", "q-base-adv", 1), (cell, 86.5, {}))
    assert reasons("1a")["q-base-adv", "fgsm 0.3"][0] == "not explained", "seed 1 is as near without dropout"
    write(LATER.unit("mnist", "q-base-adv"), (cell, 85.0, {}))
    support = reasons("1a")["q-base-adv", "fgsm 0.3"][1]
    assert support == (
        "trained so, 2 seeds: 85.75 % of the same 10,000 images, 73.00 % by the chosen setting with the same seeds"
    )
    write(LATER.unit("mnist", "q-base-adv", 2), (cell, 10.0, {}))  # nothing to compare it with
    assert reasons("1a")["q-base-adv", "fgsm 0.3"][1] == support


def test_a_network_trained_by_the_papers_text_that_comes_nearer_says_so(write):
    cell = paper.TABLES["1a"].cell("q-base-adv", "bim 0.3")  # 92.52
    write("q-base-adv", (cell, 70.0, {}))
    assert reasons("1a")["q-base-adv", "bim 0.3"] == ("not explained", "")
    write("q-base-printed-adv", (cell, 77.4, {}))  # a third of the way
    assert reasons("1a")["q-base-adv", "bim 0.3"] == ("not explained", "")
    write("q-base-printed-adv", (cell, 90.0, {}))
    why, support = reasons("1a")["q-base-adv", "bim 0.3"]
    assert "by the paper's text" in why
    assert (
        support
        == "trained so, 1 seed: 90.00 % of the same 10,000 images, 70.00 % by the chosen setting with that seed"
    )
    clean = paper.TABLES["1a"].cell("q-base-adv", "clean")  # 98.60
    write("q-base-adv", (cell, 70.0, {}), (clean, 98.6, {}))
    write("q-base-printed-adv", (cell, 90.0, {}), (clean, 60.0, {}))  # the text spoils it
    assert reasons("1a")["q-base-adv", "bim 0.3"] == ("not explained", "")


def test_seeds_on_both_sides_of_the_papers_number_are_chance(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")  # 38.22
    write("q-base", (cell, 70.0, {}))
    write("q-base", (cell, 60.0, {}), seed=1)
    assert reasons("1a")["q-base", "bim 0.3"] == ("not explained", "")
    write("q-base", (cell, 35.0, {}), seed=1)
    why, support = reasons("1a")["q-base", "bim 0.3"]  # 52.5 on average
    assert "both sides" in why and support == "from 35.00 to 70.00 % with 2 seeds"


def test_the_network_that_the_paper_would_have_shown_comes_nearer_than_the_mean(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")  # 38.22
    for seed, (accuracy, score) in enumerate(((70.0, 1.0), (42.0, 3.0), (60.0, 2.0))):
        write("q-base", (cell, accuracy, {}), seed=seed, score=score)
    why, support = reasons("1a")["q-base", "bim 0.3"]
    assert "best of three on validation images" in why and support == "seed 1, the best of 3 there: 42.00 %"
    for changed in ({"accuracy": 42.0, "score": 0.0}, {"accuracy": 49.0, "score": 3.0}):
        # test images alone prefer it; or it is preferred, and still more than ten points off
        write("q-base", (cell, changed["accuracy"], {}), seed=1, score=changed["score"])
        assert reasons("1a")["q-base", "bim 0.3"] == ("not explained", "")


def test_two_networks_are_no_choice_of_three_and_the_e_path_has_no_part_in_it(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")
    for seed, (accuracy, score) in enumerate(((70.0, 1.0), (42.0, 3.0))):
        write("q-base", (cell, accuracy, {}), seed=seed, score=score)
    assert reasons("1a")["q-base", "bim 0.3"] == ("not explained", "")
    cell = paper.TABLES["6a"].cell("q-base e", "bim 0.3")  # 17.13
    for seed, (accuracy, score) in enumerate(((70.0, 1.0), (20.0, 3.0), (60.0, 2.0))):
        write("q-base", (cell, accuracy, {}), seed=seed, score=score)
    assert reasons("6a")["q-base e", "bim 0.3"] == ("not explained", "")


def test_where_a_seed_is_of_the_first_images_alone_another_tells_how_much_harder_they_are(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")  # 38.22
    right = torch.arange(10_000) % 100 < 36
    right[:1000] = torch.arange(1000) < 100  # hard ones
    write("q-base", (cell, 36.0, {"right": records.pack(right)}))
    few = {"n": 1000, "correct": 0, "right": records.pack(right[:1000] & False)}
    write("q-base", (cell, 0.0, few), seed=1)
    (found,) = disagreements(("1a",))
    assert found.ours == 5 and "harder than most" in found.why
    assert found.support == "seed 0: 10.00 % of these, 36.00 % of 10,000"


def test_a_seed_that_is_nearer_for_other_reasons_than_its_images_does_not_explain_the_mean(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")  # 38.22
    right = torch.arange(10_000) % 100 < 32
    right[:1000] = torch.arange(1000) < 300  # about as hard as all
    write("q-base", (cell, 31.8, {"right": records.pack(right), "correct": int(right.sum())}))
    few = {"n": 1000, "correct": 0, "right": records.pack(right[:1000] & False)}
    write("q-base", (cell, 0.0, few), seed=1)
    (found,) = disagreements(("1a",))
    assert found.ours == 15 and found.why == "not explained"


def test_first_images_that_are_no_harder_than_the_rest_explain_nothing(write):
    cell = paper.TABLES["1a"].cell("q-base", "bim 0.3")  # 38.22
    right = torch.arange(10_000) % 100 < 36
    right[:1000] = torch.arange(1000) % 2 == 0  # easy ones
    write("q-base", (cell, 36.0, {"right": records.pack(right)}))
    few = {"n": 1000, "correct": 700, "right": records.pack(torch.arange(1000) < 700)}
    write("q-base", (cell, 70.0, few), seed=1)
    (found,) = disagreements(("1a",))
    assert (found.ours, found.why) == (60, "not explained")


def test_bim_is_judged_by_fgsm_of_the_same_budget_while_a_network_is_trained(write):
    """No epoch is validated under BIM."""
    table = paper.TABLES["9"]
    fgsm, bim = (table.cell("q-large-shared", column) for column in ("fgsm 0.3", "bim 0.3"))
    history = [{"accuracy": {"q": {"fgsm 0.3": value}}} for value in (60.0, 30.0)]  # the paper: 48.64
    write("q-large-shared", (fgsm, 60.0, {}), (bim, 65.0, {}), history=history)
    why, support = reasons("9")["q-large-shared", "bim 0.3"]
    assert "off the same way" in why and support.startswith("from 30.0 to 60.0 % on validation images over 2")
    write("q-large-shared", (fgsm, 60.0, {}), (bim, 25.0, {}), history=history)  # off the other way
    assert reasons("9")["q-large-shared", "bim 0.3"] == ("not explained", "")


def test_another_setting_of_the_training_that_comes_nearer_is_evidence(write):
    """At FGSM 0.3 the paper has 91.70 %; a third of the gap must be closed, on validation images."""
    cell = paper.TABLES["1a"].cell("q-base-adv", "fgsm 0.3")
    write("q-base-adv", (cell, 71.7, {}), chosen=73.0)
    assert reasons("1a")["q-base-adv", "fgsm 0.3"] == ("not explained", "")
    pulled = Setting("squared", "pull", "pull", "off").unit("mnist", "q-base-adv")
    for value, support in (
        (79.0, ""),
        (107.0, ""),  # as far off on the other side
        (
            83.0,
            "commitment squared, inactive codes pull, dropout off, one seed: 83.0 instead of 73.0 % under"
            " fgsm 0.3 on validation images",
        ),
    ):
        chosen = {"accuracy": {"q": {"fgsm 0.3": value}}}
        records.write(records.new_record(pulled) | {"chosen": chosen})
        why, found = reasons("1a")["q-base-adv", "fgsm 0.3"]
        assert found == support and ("another setting" in why) == bool(support)
    assert "it is nearer to the paper's text than the one used here" in why
    assert "(which departs from it in 3 ways, the other in 1 way)" in why
    better = Setting("none", "pull", "pull", "off").unit("mnist", "q-base-adv")
    chosen = {"accuracy": {"q": {"fgsm 0.3": 91.0}}}
    records.write(records.new_record(better) | {"chosen": chosen})
    assert reasons("1a")["q-base-adv", "fgsm 0.3"][1] == found  # it is farther from the paper's text
    write("q-base-adv", (cell, 71.7, {}), seed=1, chosen=93.0)  # of its seeds the mean counts
    assert "83.0 instead" not in reasons("1a")["q-base-adv", "fgsm 0.3"][1]


def test_of_a_raw_network_the_setting_of_its_own_training_is_named(write):
    cell = paper.TABLES["1a"].cell("q-large", "fgsm 0.3")
    write("q-large", (cell, cell.accuracy - 12, {}), chosen=50.0)
    other = Setting("none", "reinitialize", "pull", "off").unit("mnist", "q-large")
    records.write(records.new_record(other) | {"chosen": {"accuracy": {"q": {"fgsm 0.3": 62.0}}}})
    assert "commitment none, inactive codes reinitialize" in reasons("1a")["q-large", "fgsm 0.3"][1]


def test_the_table_shows_each_with_its_evidence(write):
    cell = paper.TABLES["6b"].cell("q-base e", "bim 0.3")
    write("q-base", (cell, 1.0, {}))
    shown = disagreement_table(("6b",), disagreements(("6b",)))
    seen = re.sub("<.*?>", "", shown.html)
    assert seen.index("The paper&#x27;s attack had no gradient") < seen.index(
        "6b: Q-base, E-path"
    )  # a head of its row
    assert '<th colspan="6" scope="rowgroup">' in shown.html and "-42.69" in seen
    assert "Q-base, E-path: BIM 0.2 and BIM 0.3 both leave 43.69&nbsp;%" in seen  # no names of the code
    assert (
        "1, of which 0 without an explanation" in shown.text
        and "at least a third of what the same seeds are off" in shown.text
    )
