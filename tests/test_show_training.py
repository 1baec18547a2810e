"""What is shown of training runs, under way or recorded."""

import re
from types import SimpleNamespace

import pytest
from test_show_sliders import Browser

from qlayer_core.show import training
from qlayer_core.study import records


def row(epoch, clean, attacked, score, path="q"):
    """A row of a history as `training.train` reports it."""
    accuracy = {"clean": clean, "fgsm 0.2": attacked}
    if path is None:
        return {"epoch": epoch, "losses": {"e": 1.0, "l2": 2.0}, "accuracy": {None: accuracy}, "score": score}
    return {
        "epoch": epoch,
        "losses": {"q": 1.0, "e": 0.5, "codebook": 4.0, "commitment": 4.0},
        "accuracy": {"q": accuracy, "e": {"clean": 99.0, "fgsm 0.2": 30.0}},
        "score": score,
        "inactive": [3, 4],
        "pull of e": 3.0 / epoch,
        "pull of commitment": 1.0,
        "feature norm": 10.0 - epoch,
    }


COLLAPSING = [row(1, 94.5, 60.0, 77.0), row(2, 97.5, 62.0, 79.75), row(3, 41.75, 20.0, 31.0)]
STEADY = [row(1, 94.0, 60.0, 77.0), row(2, 98.25, 60.0, 79.0)]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes one with a given history."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def written(name, history, seed=0):
        records.write(records.new_record(records.unit("mnist", name, seed)) | {"history": history})

    return written


def test_recorded_histories_are_read_by_seed(write):
    write("q-base", COLLAPSING)
    write("cnn", [row(1, 98.0, 70.0, 84.0, None)], seed=1)
    assert list(training.recorded()) == ["q-base"]
    assert training.recorded(seed=1) == {"cnn": [row(1, 98.0, 70.0, 84.0, None)]}


def test_recorded_histories_are_read_for_every_seed(write):
    write("cnn", [row(1, 98.0, 70.0, 84.0, None)])
    write("cnn", [row(1, 97.0, 70.0, 83.5, None)], seed=2)
    found = training.every_seed()
    assert list(found) == ["cnn"] and [history[0]["score"] for history in found["cnn"]] == [84.0, 83.5]


def test_histories_name_the_best_epoch_and_what_came_after():
    text = training.draw({"q-large": COLLAPSING}).text
    assert "best at epoch 2 of 3 with clean 97.5 %, fgsm 0.2 62.0 %" in text
    assert "clean 41.8 % at the end" in text


def test_kept_epochs_stand_in_a_table_with_their_score_and_accuracies():
    plain = [row(1, 98.0, 70.0, 84.0, None), row(2, 97.0, 70.0, 83.5, None)]
    html = training.kept_table({"one": COLLAPSING, "other": plain}).html
    assert "Paused before it was over: one and other." in html
    over = COLLAPSING + [{**COLLAPSING[-1], "epoch": 4 + i} for i in range(10)]
    assert "Paused" not in training.kept_table({"one": over}).html
    heads = re.findall(r'<th scope="col">(.*?)</th>', html)
    assert heads == ["run", "kept epoch", "mixed score", "clean", "FGSM 0.2"]
    rows = [re.findall(r"<td>(.*?)</td>", line) for line in html.split("<tr>")[2:]]
    assert rows == [["2 of 3", "79.8", "97.5", "62.0"], ["1 of 2", "84.0", "98.0", "70.0"]]


def test_forces_have_epochs_of_whole_numbers_below_them():
    html = training.draw_forces({"as printed": COLLAPSING}).html
    labels = re.findall(r"<text[^>]*>([\d.]+)</text>", html)
    assert {"1", "2", "3"} <= set(labels) and "1.5" not in labels


def test_a_plain_network_is_drawn_with_its_one_loss():
    text = training.draw({"cnn": [row(1, 98.0, 70.0, 84.0, None), row(2, 97.0, 70.0, 83.5, None)]}).text
    assert "loss e from 1 to 1" in text and "best at epoch 1" in text and "l2" not in text


def test_what_became_of_the_kept_network_is_a_row_of_both_paths():
    rows = {"q-large": COLLAPSING, "cnn": [row(1, 98.0, 70.0, 84.0, None)]}
    html = training.afterwards(rows).html
    assert "<td>2 of 3</td><td>97.5</td><td>99.0</td><td>41.8</td><td>99.0</td>" in html
    assert "<td>1 of 1</td><td>98.0</td><td></td><td>98.0</td><td></td>" in html


def test_inactive_codes_are_counted_over_all_heads():
    assert training.inactive(STEADY) == ([1, 2], [7, 7])


def test_the_commitments_share_is_of_both_pulls():
    found = training.forces(STEADY)
    assert found["share of commitment"] == pytest.approx([25.0, 40.0])
    assert found["feature norm"] == [9.0, 8.0]
    assert training.forces([STEADY[0] | {"pull of e": 0.0, "pull of commitment": 0.0}])[
        "share of commitment"
    ] == [0]


def test_forces_are_drawn_with_their_ends_in_words():
    text = training.draw_forces({"none": STEADY}).text
    assert "none: share of commitment from 25 to 40" in text and "none: feature norm from 9 to 8" in text


def test_the_slider_walks_through_the_collapse():
    browser = Browser(training.collapse({"as printed": COLLAPSING, "none": STEADY}))
    third = browser.at(epoch=2)
    assert "41.8 %" in third.text
    assert third.html.count("<td>-</td>") == 3  # the other run was over: no accuracy, no force
    second = browser.at(epoch=1)
    assert all(text in second.text for text in ("97.5 %", "98.2 %", "8.00", "40 %"))
    assert "41.8 %" not in second.text
    drawn = [
        [line.count(",") for line in re.findall(r'<polyline points="([^"]*)"', page.html)]
        for page in (second, third)
    ]
    assert drawn == [[2, 2], [3, 2]], "curves run as far as the slider"


def test_a_live_picture_grows_with_each_row(monkeypatch):
    shown = SimpleNamespace(pictures=[])
    shown.update = shown.pictures.append
    monkeypatch.setattr(training, "display", lambda markup, display_id: shown)
    live = training.LiveCurves("q-base")
    for one in COLLAPSING[:2]:
        live.add(one)
    assert [
        "best at epoch 1 of 1" in shown.pictures[0].text,
        "best at epoch 2 of 2" in shown.pictures[1].text,
    ] == [
        True,
        True,
    ]
