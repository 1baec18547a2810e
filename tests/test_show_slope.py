"""Slope charts hold the paper's numbers and the recorded ones, and say what is missing."""

import re

import ipywidgets as w
import pytest

from qlayer_core import data
from qlayer_core.show import slope
from qlayer_core.study import paper, records

BLIND, OTHER, SEEING = slope.ATTACKERS


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes one cell of a table, measured on 1,000 images."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(data, "TEST_IMAGES", 1000)

    def written(number, row, column, accuracy, seed=0, **fields):
        cell = paper.TABLES[number].cell(row, column)
        record = records.new_record(records.unit(cell.dataset, cell.model, seed))
        about = dict(zip(paper.KEY, cell.key, strict=True)) | {"n": 1000, "correct": round(10 * accuracy)}
        record["cells"] = [about | {"accuracy": accuracy, "unmoved": 0, "environment": 0} | fields]
        records.write(record)

    return written


def line(found, column: str, model: str) -> slope.Line:
    return next(one for one in found[column] if one.model == model)


def numbers(html: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", html)


@pytest.mark.parametrize(
    "dataset, attacker, number",
    [("mnist", BLIND, "1a"), ("mnist", OTHER, "7a"), ("mnist", SEEING, "2a"), ("fashion-mnist", BLIND, "1b")],
)
def test_the_left_ends_are_those_of_the_papers_table(write, dataset, attacker, number):
    raw, trained = (slope.lines(dataset, attacker, training=training) for training in ("", "-adv"))
    for cell in paper.TABLES[number].cells:
        found = trained if cell.model.endswith("-adv") else raw
        assert line(found, cell.column, cell.model).paper == cell.accuracy
    assert list(found) == list(dict.fromkeys(cell.column for cell in paper.TABLES[number].cells))


def test_the_e_path_has_the_numbers_of_table_6_and_on_fashion_mnist_none(write):
    assert line(slope.lines("mnist", BLIND, path="e"), "bim 0.3", "q-base").paper == 17.13
    assert line(slope.lines("mnist", SEEING, path="e"), "bim 0.3", "q-base").paper == 43.69
    assert line(slope.lines("fashion-mnist", BLIND, path="e"), "bim 0.2", "q-base").paper is None


def test_a_table_that_contradicts_another_keeps_its_own_number(write):
    clean = [
        line(slope.lines("fashion-mnist", who, training="-adv"), "clean", "q-large-adv").paper
        for who in (BLIND, SEEING)
    ]
    assert clean == [82.32, 80.04]


def test_ours_are_of_the_answer_the_attack_and_the_seed_that_are_asked_for(write):
    write("1a", "q-base", "bim 0.3", 50)
    write("1a", "q-base", "bim 0.3", 60, seed=1)
    found = line(slope.lines("mnist", BLIND), "bim 0.3", "q-base")
    assert found.ours == {0: 50, 1: 60} and found.mean == 55
    assert line(slope.lines("mnist", BLIND, seed=1), "bim 0.3", "q-base").ours == {1: 60}
    for other in (slope.lines("mnist", BLIND, path="e"), slope.lines("mnist", SEEING)):
        assert not line(other, "bim 0.3", "q-base").ours


def test_a_panel_draws_both_ends_and_a_dot_per_seed(write):
    found = slope.lines("mnist", BLIND)
    assert len(numbers(slope.chart(found))) == 15  # the paper's alone
    write("1a", "q-base", "bim 0.3", 50)
    one = slope.chart(slope.lines("mnist", BLIND))
    assert len(numbers(one)) == 16 and "Q-base paper 38.2, ours 50.0" in one
    write("1a", "q-base", "bim 0.3", 61, seed=1)
    two = slope.chart(slope.lines("mnist", BLIND))
    dot = "m-2 0a2 2"
    assert (one.count(dot), two.count(dot)) == (0, 2)
    assert "Small dots: the seeds" in two and "seeds" not in one


def test_higher_accuracy_is_drawn_higher(write):
    write("1a", "q-base", "bim 0.3", 90)
    found = slope.chart({"bim 0.3": [line(slope.lines("mnist", BLIND), "bim 0.3", "q-base")]})
    left, right = (
        float(height) for height in re.search(r"M26 ([\d.]+)L74 ([\d.]+)", found).groups()
    )  # downwards
    assert right < left and abs((left - right) - (90 - 38.22)) < 0.2


def test_few_images_and_failed_attacks_are_marked_where_they_are_drawn(write):
    write("2a", "q-base", "bim 0.3", 50, n=100, correct=50, unreliable="it failed")
    html = slope.chart(slope.lines("mnist", SEEING))
    assert re.search(r'<text[^>]*text-decoration="line-through">50°</text>', html)
    assert "ours 50.0 (unreliable)" in html and "failed a sanity check" in html


def test_what_it_shows_and_what_is_missing_stands_in_words(write):
    write("1a", "q-base", "bim 0.3", 50)
    write("1a", "cnn", "bim 0.3", 10)
    text = slope.in_words(slope.lines("mnist", BLIND))
    assert "lower than the paper's in 1 of 2" in text and "Q-base, BIM 0.3, +11.8" in text
    assert "Ours under this attack: none for Q-large." in text
    write("1a", "q-large", "bim 0.3", 20)
    text = slope.in_words(slope.lines("mnist", BLIND))
    assert "in 2 of 3. The steepest: Q-large, BIM 0.3, -47.0." in text, "the steepest may fall"
    assert "The paper's under this attack: none for Q-base and Q-large." in slope.in_words(
        slope.lines("fashion-mnist", BLIND, path="e")
    )


def test_the_lists_lead_to_a_chart_each_and_seeds_only_where_there_are_several(write):
    def lists_and_charts(widget):
        found = [one for one in widget.children if isinstance(one, w.Dropdown)]
        stack, count = widget.children[-1], 0
        waiting = [stack]
        while waiting:
            one = waiting.pop()
            waiting += getattr(one, "children", ())
            count += isinstance(one, w.HTML) and "<svg" in one.value
        return [one.description for one in found], count

    write("1a", "q-base", "bim 0.3", 50)
    assert lists_and_charts(slope.slope_explorer()) == (["attack", "training", "answer"], 12)
    write("1a", "q-base", "bim 0.3", 60, seed=1)
    assert lists_and_charts(slope.slope_explorer()) == (["attack", "training", "answer", "seed"], 36)


def test_an_unknown_choice_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="from CNN A"):
        slope.lines("mnist", "grey box")
    with pytest.raises(ValueError, match="unknown data set 'mnits'; choose one of mnist"):
        slope.lines("mnits", BLIND)
    for wrong, known in (({"path": "E"}, "'q', 'e'"), ({"training": "adv"}, "'', '-adv'")):
        with pytest.raises(ValueError, match=f"choose one of {known}"):
            slope.lines("mnist", BLIND, **wrong)
