"""The decision and the study of settings, with all, some or none of the rows recorded."""

import pytest

from qlayer_core import files
from qlayer_core.show import variants as shown
from qlayer_core.show.page import DASH
from qlayer_core.study import records, variants
from qlayer_core.study.variants import DECIDED_ON, Setting


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes a unit's with a given score."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert tmp_path != files.RESULTS

    def written(unit, score):
        path = None if unit.spec.layer is None else "q"
        chosen = {
            "score": score,
            "accuracy": {path: {"clean": score + 20, "fgsm 0.2": score, "fgsm 0.3": score - 20}},
        }
        records.write(
            records.new_record(unit) | {"chosen": chosen, "history": [{"epoch": 1, "score": score}]}
        )

    return written


def decide(write, setting, *scores):
    for name, score in zip(DECIDED_ON, scores, strict=False):
        write(setting.unit("mnist", name), score)


def test_a_decision_shows_the_settings_that_are_whole_best_first(write):
    decide(write, Setting("none", "pull", "reinitialize", "off"), 80, 80, 88, 90)
    decide(write, Setting("linear", "pull", "pull", "front"), 80, 80, 84, 80)
    decide(write, Setting("squared", "pull", "pull", "behind"), 80, 80, 84)
    table = shown.decision()
    rows = [line.split("</tr>")[0] for line in table.html.split("<tbody>")[1].split("<tr>")[1:]]
    assert len(rows) == 3 and "2 of 108 settings are recorded for all 4 networks" in table.text
    cells = ("1, 2", "off", "80.0", "80.0", "88.0", "90.0", "84.50", "3")
    cells = "".join(f"<td><strong>{cell}</strong></td>" for cell in cells)
    assert f'<th scope="row"><strong>none, none</strong></th>{cells}' in rows[0]
    assert "<strong>" not in rows[1] and "<td>81.00</td><td>1</td>" in rows[1]
    assert (
        f"<td>84.0</td><td>{DASH}</td><td>{DASH}</td><td>1</td>" in rows[2]
    )  # one network short, so no mean


def test_a_place_of_dropout_that_all_settings_share_is_in_the_caption(write):
    decide(write, Setting("none", "pull", "reinitialize", "off", "linear"), 80, 80, 88, 90)
    table = shown.decision()
    assert "none, linear" in table.html and "Dropout: off." in table.text and "dropout</th>" not in table.html


def test_the_setting_of_the_books_networks_is_marked(write):
    own = variants.of_the_grid()
    decide(write, own, 80, 80, 80, 80)
    decide(write, Setting("linear", "pull", "pull", "front"), 79.5, 79.5, 79.5, 79.5)
    rows = shown.decision().html.split("<tbody>")[1].split("<tr>")[1:]
    assert ["†" in row for row in rows] == [True, False]
    assert all(own.spec(name) == records.unit("mnist", name).spec for name in DECIDED_ON)


def test_within_a_tie_the_bold_one_is_nearer_to_the_paper(write):
    decide(write, Setting("none", "pull", "reinitialize", "off"), 80, 80, 80, 80)
    decide(write, Setting("linear", "pull", "pull", "front"), 79.5, 79.5, 79.5, 79.5)
    rows = shown.decision().html.split("<tbody>")[1].split("<tr>")[1:]
    assert ["<strong>" in row for row in rows] == [False, True]


def test_nothing_recorded_is_an_empty_table_that_says_so(write):
    assert "<td>" not in shown.decision().html and "0 of 108 settings" in shown.decision().text
    assert shown.commitments() == {}


def test_forms_of_the_commitment_that_are_recorded_have_their_history(write):
    write(Setting("none", "pull", "pull", "off").unit("mnist", "q-large"), 80)
    assert shown.commitments("q-large") == {"none": [{"epoch": 1, "score": 80}]}


def test_adversarial_training_from_the_same_raw_network_is_compared_under_each_setting(write):
    write(Setting("squared", "pull", "pull", "off").unit("mnist", "q-base-adv"), 86)
    write(Setting("squared", "pull", "reinitialize", "off", "none").unit("mnist", "q-base-adv"), 94)
    write(
        Setting("linear", "pull", "pull", "off").unit("mnist", "q-base-adv"), 90
    )  # from another raw network
    found = shown.adversarial_forms("q-base-adv")
    assert {name: history[0]["score"] for name, history in found.items()} == {
        "as printed (squared), strategy 1, pull": 86,
        "none, strategy 2, re-initialize": 94,
    }


def test_the_grid_s_run_stands_in_for_the_same_settings(write):
    """It has the same weights at the start and sees the same batches."""
    write(records.unit("mnist", "cnn"), 80)
    write(variants.unit("mnist", "cnn", "without-l2"), 79)
    assert variants.recorded(variants.unit("mnist", "cnn", "chosen"))["chosen"]["score"] == 80
    assert variants.recorded(variants.unit("mnist", "cnn", "without-l2"))["chosen"]["score"] == 79
    assert variants.recorded(variants.unit("mnist", "cnn", "without-l2", 1)) is None
