"""Tables and curves of recorded results, with all, some or none of the records there."""

import re

import pytest
import torch

from qlayer_core import data
from qlayer_core.show import marks, results, sanity
from qlayer_core.study import paper, records, tables

REASON = "the same attack made on another network leaves fewer images right"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes one with given accuracies."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(data, "TEST_IMAGES", 1000)

    def written(name, cells, seed=0, epochs=40, score=0.0, **fields):
        record = records.new_record(records.unit("mnist", name, seed))
        record["history"] = [{"epoch": 1 + i} for i in range(epochs)]
        record["chosen"] = {"epoch": epochs, "score": score}
        record["environments"] = [{"number_format": "bfloat16"}]
        record["cells"] = [
            {
                **dict(zip(paper.KEY, key, strict=True)),
                "n": 1000,
                "correct": round(10 * accuracy),
                "accuracy": accuracy,
                "unmoved": 0,
                "environment": 0,
            }
            | fields
            for key, accuracy in cells
        ]
        records.write(record)

    return written


def key(number, row, column):
    return paper.TABLES[number].cell(row, column).key


def seen(html: str) -> str:
    """Return a table without what only screen readers have."""
    return re.sub(r"<span style=[^>]*>[^<]*</span>", "", html)


def heard(html: str) -> str:
    """Return a table's text as a screen reader has it: without what is hidden from it, tags as spaces."""
    return " ".join(re.sub(r'<small aria-hidden="true"[^>]*>.*?</small>|<[^>]*>', " ", html).split())


def test_without_records_no_row_is_shown(write):
    assert "<td>" not in results.comparison("1a").html
    assert results.measured("1a") == "None of ours is recorded."
    assert results.agreement("1a").startswith("None of the 30 cells")
    assert not [gain for gain in results.gains("1a") if gain["ours"] is not None]
    assert "<td>" not in results.gain_table("1a").html


def test_a_recorded_cell_stands_with_its_interval_and_difference(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)])
    html = seen(results.comparison("1a").html)
    assert "<td><strong>50.00</strong><br><small>46.91<br>53.09<br>52.69<br>-2.69</small></td>" in html
    assert html.count('<th scope="row">') == 1  # the other models are left out
    assert results.agreement("1a").startswith("1 of 30 cells")
    assert "2.7 points in the median and are higher in 0 of 1" in results.agreement("1a")


def test_numbers_of_few_images_and_of_unfinished_training_are_marked(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)], n=100, correct=50, epochs=8)
    write("cnn", [(key("1a", "cnn", "fgsm 0.3"), 40)])
    html, text = seen(results.comparison("1a").html), results.measured("1a")
    assert "<strong>50.00°</strong>" in html and "<strong>40.00</strong>" in html
    assert "on 1,000 test images (° the first 100)" in text
    assert "Training of Q-base (seed 0) was paused before it was over: provisional." in text
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)])
    assert "°" not in results.comparison("1a").html + results.measured("1a")
    assert "paused" not in results.measured("1a")


def test_who_hears_a_cell_hears_what_each_line_of_it_is(write):
    for name in ("cnn", "q-base"):
        write(name, [(key("1a", name, "fgsm 0.3"), 50)])
    cell = "ours 50.00 at least 46.91 at most 53.09 paper 52.69 difference -2.69"
    assert cell in heard(results.comparison("1a").html)
    assert "our gain 0.0 at least" in heard(results.gain_table("1a").html)
    assert "Q-base at least" not in heard(results.comparison("1a").html)  # said once, in the cell


def test_a_caption_says_images_seeds_interval_and_number_format(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)])
    one = results.comparison("1a").text
    assert "ours, seed 0, on 1,000 test images, with its 95 % Wilson interval" in one
    assert "attacks computed in bfloat16, answers in float32" in one
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 60)], seed=1)
    assert "mean over seeds 0 and 1, on 1,000 test images, with the lowest and highest" in results.measured(
        "1a"
    )
    assert results.measured("1a", seed=1).startswith("Bold: ours, seed 1, on")
    plain = "Ours, seed 1, on 1,000 test images; attacks computed in bfloat16, answers in float32."
    assert results.measured("1a", seed=1, bounds=False) == plain


def test_what_stands_behind_a_table_is_of_the_seed_that_is_asked_for(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)], epochs=8)
    write("cnn", [(key("1a", "cnn", "fgsm 0.3"), 40)], seed=1, n=100, correct=40)
    assert tables.behind("1a") == ([0, 1], [100, 1000], ["bfloat16"], [("q-base", 0)])
    assert tables.behind("1a", seed=1) == ([1], [100], ["bfloat16"], [])
    assert tables.behind("1a", seed=7) == ([], [], [], [])


def test_a_table_in_words_says_how_wide_its_widest_interval_is(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50), (key("1a", "q-base", "clean"), 99)])
    assert "95 % Wilson intervals are at most 6.2 points wide" in tables.report("1a", 0)


def test_several_seeds_give_their_mean_and_range(write):
    for seed, accuracy in enumerate((50, 60, 52)):
        write("q-base", [(key("1a", "q-base", "fgsm 0.3"), accuracy)], seed=seed)
    cell = results.summary("1a").loc[("q-base", "fgsm 0.3")]
    assert (cell.ours, cell.low, cell.high, cell.seeds, cell.difference) == (54, 50, 60, 3, 1.31)
    assert results.summary("1a", seed=1).loc[("q-base", "fgsm 0.3")].ours == 60


def test_beside_the_mean_stands_the_network_that_validation_images_prefer(write):
    """As the paper chose which of three to show; the best on test images it need not be."""
    for seed, (accuracy, score) in enumerate(((50, 80.0), (60, 70.0), (52, 90.0))):
        write("q-base", [(key("1a", "q-base", "fgsm 0.3"), accuracy)], seed=seed, score=score)
    write("cnn", [(key("1a", "cnn", "fgsm 0.3"), 40)])
    assert results.summary("1a").loc[("q-base", "fgsm 0.3")].chosen == 52
    shown = results.comparison("1a")
    assert "<strong>54.00</strong><br><small>50.00<br>60.00<br>52.00<br>52.69<br>+1.31" in seen(shown.html)
    assert "ours 54.00 at least 50.00 at most 60.00 chosen 52.00 paper 52.69" in heard(shown.html)
    assert "ours 40.00 at least 37.01 at most 43.07 paper 40.03" in heard(shown.html)  # one seed: no choice
    assert "Chosen: the one of our seeds that validation images prefer" in shown.text
    assert "hosen" not in results.comparison("1a", seed=0).html


def test_a_mean_over_seeds_is_of_the_images_that_every_seed_was_measured_on(write):
    place = ("q-base", "fgsm 0.3")
    cells = [(key("1a", *place), 60)]
    right = torch.arange(1000) >= 400  # the first images are the hard ones
    write("q-base", cells, right=records.pack(right))
    assert results.summary("1a").loc[place].ours == 60
    write(
        "q-base",
        cells,
        seed=1,
        n=500,
        correct=150,
        accuracy=30.0,
        right=records.pack(torch.arange(500) < 150),
    )
    cell = results.summary("1a").loc[place]
    assert (cell.low, cell.high, cell.ours, cell.few) == (20, 30, 25, True)


def test_a_number_of_fewer_seeds_than_its_row_is_marked_and_the_caption_says_which_seeds(write):
    """Its bounds are the interval over images, those of its neighbours the range over seeds."""
    fgsm, weak = key("2a", "q-base", "fgsm 0.3"), key("2a", "q-base", "cw 0.3")
    write("q-base", [(fgsm, 50), (weak, 80)])
    write("q-base", [(fgsm, 60)], seed=1)
    write("cnn", [(key("2a", "cnn", "fgsm 0.3"), 10), (key("2a", "cnn", "cw 0.3"), 40)])
    shown = results.comparison("2a")
    html = seen(shown.html)
    assert "<strong>55.00</strong>" in html and "<strong>80.00†</strong>" in html
    assert "answers in float32. † seed 0 alone. Chosen" in shown.text
    assert "CNN (1 seed)" in html and "<strong>40.00</strong>" in html  # the whole row has one
    gains = results.gain_table("2a")
    assert "<strong>+45.0</strong>" in seen(gains.html) and "<strong>+40.0†</strong>" in seen(gains.html)
    assert "† 1 pair of seeds alone." in gains.text
    assert "†" not in results.comparison("2a", seed=0).html + results.gain_table("2a", seed=0).html


def test_a_row_of_gains_says_of_how_many_pairs_of_seeds_it_is_if_others_are_of_more(write):
    for name, seeds in (("cnn", 2), ("q-base", 2), ("q-large", 1)):
        for seed in range(seeds):
            write(name, [(key("1a", name, "fgsm 0.3"), 50)], seed=seed)
    html = results.gain_table("1a").html
    assert "<strong>Q-base</strong>" in html and "<strong>Q-large (2 pairs)</strong>" in html


def test_each_choice_of_seeds_has_its_own_mark():
    which = {("one", "a"): (0, 1, 2), ("one", "b"): (0,), ("one", "c"): (0, 1), ("other", "a"): (0,)}
    found, said = marks.seeds(which | {("other", "b"): ()})
    assert list(found.values()) == ["", "†", "††", "", ""]
    assert said == " † seed 0 alone, †† seeds 0 and 1 alone."
    assert marks.seeds({("one", "a"): (0, 1)}) == ({("one", "a"): ""}, "")


def test_each_number_of_images_has_its_own_mark(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)], n=100, correct=50)
    write("q-large", [(key("1a", "q-large", "fgsm 0.3"), 60)], n=500, correct=300)
    write("cnn", [(key("1a", "cnn", "fgsm 0.3"), 40)])
    shown = results.comparison("1a")
    for number in ("40.00</strong>", "60.00°</strong>", "50.00°°</strong>"):
        assert f"<strong>{number}" in seen(shown.html)
    assert "on 1,000 test images (° the first 500, °° the first 100)" in shown.text
    assert "<strong>+10.0°°</strong>" in seen(results.gain_table("1a").html)


def test_a_caption_names_no_images_that_only_one_of_two_seeds_was_measured_on(write):
    """The mean is of the first 100, which both were: no number is of 500."""
    for seed, n in ((0, 100), (1, 500)):
        right = records.pack(torch.arange(n) < n / 2)
        write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)], seed=seed, n=n, correct=n // 2, right=right)
    write("cnn", [(key("1a", "cnn", "fgsm 0.3"), 40)])
    shown = results.comparison("1a")
    assert "(° the first 100)" in shown.text and "500" not in shown.text
    assert "<strong>75.00°</strong>" in seen(shown.html)


def test_an_agreement_is_of_the_seed_that_is_asked_for(write):
    for seed, accuracy in ((0, 50), (1, 60)):
        write("q-base", [(key("1a", "q-base", "fgsm 0.3"), accuracy)], seed=seed)
    assert "2.7 points" in results.agreement("1a", seed=0)
    assert "7.3 points" in results.comparison_picture("1a", seed=1).text


def test_an_agreement_tells_clean_images_from_attacked_ones_and_is_no_mean(write):
    apart = {"clean": 1, "fgsm 0.2": 1, "fgsm 0.3": 2, "bim 0.2": -9}
    cells = {column: paper.TABLES["1a"].cell("q-base", column) for column in apart}
    write("q-base", [(cell.key, round(cell.accuracy + apart[column], 2)) for column, cell in cells.items()])
    assert results.agreement("1a").endswith(
        " Clean: ours differ from the paper's by 1.0 points in the median and are higher in 1 of 1. Under attack:"
        " ours differ from the paper's by 2.0 points in the median and are higher in 2 of 3."
    )


def test_an_unreliable_cell_is_struck_through_with_its_reason(write):
    write("q-base", [(key("2a", "q-base", "bim 0.3"), 60)], unreliable=REASON)
    write("cnn", [(key("2a", "cnn", "bim 0.3"), 1)])
    for shown in (results.comparison("2a"), results.gain_table("2a")):
        assert f'<s title="{REASON}">' in shown.html
    assert "Struck through" in results.comparison("2a").text
    assert "Struck through" not in results.comparison("2a", seed=7).text


def test_of_several_seeds_the_reason_says_whose_attack_failed(write):
    place = ("q-base", "bim 0.3")
    write("q-base", [(key("2a", *place), 60)])
    assert tables.summary("2a").unreliable[place] is None
    write("q-base", [(key("2a", *place), 65)], seed=1, unreliable=REASON)
    assert tables.summary("2a").unreliable[place] == f"seed 1: {REASON}"
    write("q-base", [(key("2a", *place), 60)], unreliable="no gradient")
    assert tables.summary("2a").unreliable[place] == f"seed 0: no gradient; seed 1: {REASON}"


def test_the_picture_draws_with_some_cells_missing(write):
    write("q-base", [(key("1a", "q-base", "fgsm 0.3"), 50)])
    assert "1 of 30 cells" in results.comparison_picture("1a").text


def test_rows_that_name_a_path_are_shown_by_it(write):
    write("q-base", [(key("6a", "q-base e", "fgsm 0.3"), 40)])
    assert "<strong>Q-base, E-path</strong>" not in results.comparison("1a").html
    assert ">Q-base, E-path<" in results.comparison("6a").html.replace("<strong>", "").replace(
        "</strong>", ""
    )
    assert "1 of 40 cells" in results.comparison_picture("6a").text


def test_gains_are_over_the_plain_network_of_the_same_training(write):
    for row, accuracy in (("cnn", 20), ("q-base", 50), ("cnn-adv", 80), ("q-base-adv", 70)):
        write(row, [(key("1a", row, "fgsm 0.3"), accuracy)])
    found = {gain["row"]: gain for gain in results.gains("1a") if gain["column"] == "fgsm 0.3"}
    assert (found["q-base"]["ours"], found["q-base"]["paper"], found["q-base"]["agrees"]) == (30, 12.66, True)
    assert (found["q-base-adv"]["ours"], found["q-base-adv"]["agrees"]) == (-10, False)
    assert found["q-large"]["ours"] is None
    html = seen(results.gain_table("1a").html)
    low, high = found["q-base"]["low"], found["q-base"]["high"]
    assert low < 30 < high
    assert f"<strong>+30.0</strong><br><small>{low:+.1f}<br>{high:+.1f}<br>+12.7<br>yes</small>" in html
    assert html.count("<br>no</small>") == 1


def test_gains_are_taken_seed_by_seed(write):
    for seed, plain, layered in ((0, 20, 50), (1, 40, 50), (2, 30, None)):
        write("cnn", [(key("1a", "cnn", "fgsm 0.3"), plain)], seed=seed)
        if layered:
            write("q-base", [(key("1a", "q-base", "fgsm 0.3"), layered)], seed=seed)
    (gain,) = (gain for gain in results.gains("1a") if gain["ours"] is not None)
    assert (gain["ours"], gain["low"], gain["high"]) == (20, 10, 30)


def test_what_is_missing_is_named_with_the_command_that_makes_it(write):
    write(
        "q-base",
        [(key("7a", "q-base", column), 50) for column in ("clean", "fgsm 0.2", "fgsm 0.3", "bim 0.2")],
    )
    html = results.missing("7a").html
    assert "Not trained: CNN; Q-large; " in html and "Not attacked in every way: Q-base." in html
    assert "source-b, is not trained" in html
    assert "<code>make reproduce ONLY=table:7a</code>." in html
    both = results.missing("8a", "8b").text
    assert (
        "Tables 8a and 8b" in both
        and "Not trained: 17 of 18 networks. Not attacked in every way: Q-base." in both
    )
    assert both.endswith("make reproduce ONLY=table:8a, make reproduce ONLY=table:8b.")
    for row in ("cnn", "cnn-clean-selected"):
        write(row, [(cell.key, 50) for cell in paper.TABLES["5"].cells if cell.row == row])
    assert results.missing("5").html == ""


def test_a_reading_names_clean_accuracy_gains_and_the_furthest_cell(write):
    assert results.reading("1a").html == ""
    write("cnn", [(key("1a", "cnn", "clean"), 98), (key("1a", "cnn", "fgsm 0.3"), 20)])
    write("q-base", [(key("1a", "q-base", "clean"), 97), (key("1a", "q-base", "fgsm 0.3"), 30)])
    text = results.reading("1a").text
    assert "CNN 98.0 (98.7) and Q-base 97.0 (96.6) %" in text
    assert (
        "Q-base keeps clearly more right than the plain CNN in 1 of 1 columns; the gains go from +10.0 points"
        in text
    )
    # a gain of a point, within the bounds, is not counted
    write("q-base", [(key("1a", "q-base", "clean"), 97), (key("1a", "q-base", "fgsm 0.3"), 21)])
    assert "in 0 of 1 columns" in results.reading("1a").text
    assert results.reading("1a", clean=False).text.startswith("Under FGSM and BIM")
    assert "Of our 2 cells under attack, 2 are lower than the paper's" in text
    assert "the furthest off is Q-base under FGSM 0.3, with 30.0 against 52.7 %" in text


def test_a_reading_has_the_smallest_gain_first(write):
    for name, more in (("cnn", (0, 0)), ("q-base", (30, 10))):
        columns = zip(("fgsm 0.2", "fgsm 0.3"), more, strict=True)
        attacked = [(key("1a", name, column), 20 + gain) for column, gain in columns]
        write(name, [(key("1a", name, "clean"), 97), *attacked])
    assert "go from +10.0 points (FGSM 0.3) to +30.0 (FGSM 0.2)." in results.reading("1a").text


# ---- signs that an attack failed ----


def test_a_white_box_attack_weaker_than_a_blind_one_is_listed(write):
    write("q-base", [(key("1a", "q-base", "bim 0.2"), 40), (key("2a", "q-base", "bim 0.2"), 60)])
    html = sanity.weaker_white_box().html
    assert "<td>40.00</td><td><strong>60.00</strong></td>" in html
    # The paper's own: Q-base has 52.69 blind and 58.47 seeing.
    assert "<td>52.69</td><td><strong>58.47</strong></td>" in html


def test_a_number_of_fewer_images_is_marked_in_that_list_too(write):
    write(
        "q-base",
        [(key("1a", "q-base", "bim 0.2"), 40), (key("2a", "q-base", "bim 0.2"), 60)],
        n=100,
        correct=60,
    )
    html = sanity.weaker_white_box().html
    assert f"<td>40.00{tables.FEW}</td><td><strong>60.00</strong>{tables.FEW}</td>" in html


def test_a_failed_attack_is_struck_in_the_list_of_them_too_on_either_data_set(write):
    write(
        "q-base",
        [(key("1a", "q-base", "bim 0.2"), 40), (key("2a", "q-base", "bim 0.2"), 60)],
        unreliable=REASON,
    )
    assert f'<strong><s title="{REASON}">60.00</s>' in sanity.weaker_white_box().html
    # The paper's on Fashion-MNIST: CNN, adversarially trained, 57.81 blind and 62.84 seeing.
    assert (
        "<td>57.81</td><td><strong>62.84</strong></td>"
        in sanity.weaker_white_box(dataset="fashion-mnist").html
    )


def test_both_carlini_wagner_attacks_stand_beside_the_paper_and_beside_bim(write):
    cell = dict(zip(paper.KEY, key("2a", "q-base", "cw 0.2"), strict=True))
    attacks = {"cw": 75, "cw-softmax": 82, "bim": 47}
    write("q-base", [((*(cell | {"attack": name}).values(),), value) for name, value in attacks.items()])
    html = sanity.cw_table(models=("q-base", "cnn")).html
    row = '<th scope="row">Q-base, 0.2</th><td>90.46</td><td>75.00</td><td>82.00</td><td>47.00</td>'
    assert row in html and '<th scope="row">Q-base, 0.3</th><td>85.77</td><td>-</td>' in html
    assert html.count('<th scope="row">') == 2
    write("q-base", [((*(cell | {"attack": "bim"}).values(),), 49)], seed=1)
    shown = sanity.cw_table(models=("q-base",))
    assert "<td>75.00†</td><td>82.00†</td><td>48.00</td>" in shown.html and "† seed 0 alone." in shown.text


def test_the_clipped_gradient_stands_beside_the_exact_one_with_what_it_left_unmoved(write):
    cell = dict(zip(paper.KEY, key("2a", "q-base", "bim 0.3"), strict=True))
    write("q-base", [((*(cell | {"attack": "bim-clipped"}).values(),), 45)], unmoved=437, unreliable=REASON)
    html = sanity.clipped_table().html
    assert '<th scope="row">Q-base, BIM 0.3</th><td>55.33</td><td>-</td><td><s title=' in html
    assert "<td>43.7</td>" in html and html.count('<th scope="row">') == 1


CLEAN = ("clean", "none", 0.0, None, None, "q")
BLACK = ("black-box", "fgsm", 0.2, "cnn-a", None, "q")
WHITE = ("white-box", "fgsm", 0.2, None, "e", "q")


def test_curves_take_the_recorded_epsilons_only(write):
    write("q-base", [(CLEAN, 97), (BLACK, 80)])
    assert sanity.recorded_curves("black-box") == {("q-base", "q"): ([0.0, 0.2], [97, 80], 1000)}
    assert sanity.recorded_curves("white-box") == {}


def test_curves_of_several_seeds_have_their_range(write):
    write("q-base", [(CLEAN, 97), (BLACK, 80)])
    write("q-base", [(CLEAN, 98), (BLACK, 70)], seed=1)
    found = {("q-base", "q"): ([0.0, 0.2], [97.5, 75.0], ([97.0, 70.0], [98.0, 80.0]))}
    assert sanity.recorded_curves("black-box") == found
    assert sanity.recorded_curves("black-box", seed=1) == {("q-base", "q"): ([0.0, 0.2], [98, 70], 1000)}


def test_white_over_black_says_where_seeing_does_worse(write):
    write("q-base", [(CLEAN, 97), (BLACK, 40), (WHITE, 60)])
    assert "Q-base: white box above black box at 0.2." in sanity.white_over_black().text
    write("q-base", [(CLEAN, 97), (BLACK, 40), (WHITE, 30)])
    assert "Q-base: white box above black box at no epsilon." in sanity.white_over_black().text


def test_white_over_black_crosses_out_what_failed_a_sanity_check_in_picture_legend_and_words(write):
    """It fails for one of two seeds, as the tables strike a mean."""
    write("q-base", [(CLEAN, 97), (BLACK, 40), (WHITE, 30)])
    write("q-base", [(CLEAN, 97), (BLACK, 40), (WHITE, 30)], seed=1)
    shown = sanity.white_over_black()
    assert "Crossed" not in shown.text and "attack failed" not in shown.html
    crosses = shown.html.count("<use")
    record = records.read("mnist", "q-base", 1)
    (seeing,) = (cell for cell in record["cells"] if cell["setting"] == "white-box")
    records.write(record | {"cells": [*record["cells"][:-1], seeing | {"unreliable": REASON}]})
    shown = sanity.white_over_black()
    assert "Crossed out, since the attack failed a sanity check: Q-base, white box, at 0.2." in shown.text
    assert "attack failed a sanity check</text>" in shown.html
    assert shown.html.count("<use") == crosses + 2, "one in the panel, one in the legend"
    assert sanity.failed("white-box") == {("q-base", "q"): [0.2]}
    assert sanity.failed("white-box", seed=0) == {("q-base", "q"): []}
