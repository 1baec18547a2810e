"""What is shown of training runs, under way, recorded or missing."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from qlayer_core import experiments, histories, paper, results, settings

EACH_RECORD = pytest.mark.parametrize(
    "path", sorted(results.RESULTS.glob("*/*/seed*.json")), ids=lambda path: path.parent.name
)


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes one with a given history."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(name, history):
        record = results.new_record("mnist", experiments.run(name), 0)
        record["history"] = history
        results.write(record)

    return write


def row(epoch, clean, attacked, score):
    accuracy = {path: {"clean": clean, "fgsm 0.2": attacked} for path in ("q", "e")}
    return {
        "epoch": epoch,
        "losses": {"q": 1.0, "e": 0.5},
        "accuracy": accuracy,
        "score": score,
        "inactive": [1],
    }


def test_selection_compares_ways_of_weighing_the_validation_sets():
    def check(epoch: int, clean: float, weak: float, strong: float) -> dict:
        accuracy = {"e": {"clean": clean, "fgsm 0.2": weak, "fgsm 0.3": strong}}
        return {"epoch": epoch, "accuracy": accuracy, "score": clean / 2 + weak / 4 + strong / 4}

    html = histories.selection(
        {"cnn": [check(1, 90.0, 70.0, 50.0), check(2, 91.5, 69.0, 49.0), check(3, 95.0, 40.0, 20.0)]}
    ).html
    assert "<td>mixed</td><td>2</td><td>91.50</td><td>69.00</td><td>49.00</td>" in html
    assert "<td>clean</td><td>3</td><td>95.00</td><td>40.00</td><td>20.00</td>" in html
    assert "<td>all alike</td><td>1</td><td>90.00</td><td>70.00</td><td>50.00</td>" in html


def test_histories_name_the_best_epoch(records):
    records("q-base", [row(1, 90.0, 60.0, 75.0), row(2, 95.0, 40.0, 67.5)])
    found = histories.recorded()
    assert list(found) == ["q-base"]
    assert "best at epoch 1 with clean 90.0 %, fgsm 0.2 60.0 %" in histories.draw(found).text


def test_names_of_curves_stand_apart():
    assert histories.apart({"low": 20.0, "high": 90.0}, gap=9) == {"low": 20.0, "high": 90.0}
    assert histories.apart({"a": 98.0, "c": 50.0, "b": 97.0}, gap=9) == {"a": 98.0, "b": 89.0, "c": 50.0}
    assert histories.apart({"a": 10.0, "b": 10.0, "c": 9.0}, gap=9) == {"a": 18.0, "b": 9.0, "c": 0.0}


@EACH_RECORD
def test_a_recorded_network_has_the_weights_of_its_best_validation(path):
    record = json.loads(path.read_text())

    def wanted(check: dict) -> float:
        clean, *attacked = check["accuracy"].get("q", check["accuracy"]["e"]).values()
        return clean if record["spec"]["selection"] == "clean" else clean / 2 + sum(attacked) / 4

    assert record["chosen"] == max(record["history"], key=lambda check: check["score"])
    assert [check["score"] for check in record["history"]] == pytest.approx(
        list(map(wanted, record["history"]))
    )


@EACH_RECORD
def test_a_recorded_network_was_trained_by_its_settings_of_today_to_their_end(path):
    record = json.loads(path.read_text())
    spec = asdict(experiments.run(record["model"]))
    assert record["spec"] == {name: spec[name] for name in record["spec"]}
    last, best = record["history"][-1]["epoch"], record["chosen"]["epoch"]
    assert last == spec["epochs"] or last - best >= spec["patience"]


def test_the_weight_of_the_clean_set_decides_for_q_large_and_what_starts_from_it():
    def accuracy(check: dict) -> float:
        return sum(check["accuracy"].get("q", check["accuracy"]["e"]).values())

    epochs = {}
    for name, history in histories.recorded(
        [*histories.TARGETS, "cnn-adv", "q-base-adv", "q-large-adv"]
    ).items():
        mixed = max(history, key=lambda check: check["score"])
        epochs[name] = mixed["epoch"], max(history, key=accuracy)["epoch"]
    assert {name for name, (mixed, alike) in epochs.items() if mixed != alike} == {"q-large", "q-large-adv"}
    assert epochs["q-large"][0] - epochs["q-large"][1] == pytest.approx(1)


def test_inactive_codes_are_counted_once_an_epoch():
    between = {name: value for name, value in row(0.5, 80.0, 50.0, 65.0).items() if name != "inactive"}
    assert histories.inactive([between, row(1, 90.0, 60.0, 75.0) | {"inactive": [3, 4]}]) == ([1], [7])


def test_a_live_picture_grows_with_each_row(monkeypatch):
    shown = SimpleNamespace(pictures=[])
    shown.update = shown.pictures.append
    monkeypatch.setattr(histories, "display", lambda markup, display_id: shown)
    live = histories.LiveCurves("q-base")
    live.add(row(1, 90.0, 60.0, 75.0))
    live.add(row(2, 96.0, 70.0, 83.0))
    assert ["best at epoch 1" in shown.pictures[0].text, "best at epoch 2" in shown.pictures[1].text] == [
        True,
        True,
    ]


def test_a_change_is_compared_with_the_chosen_settings_seed_by_seed(records):
    def write(change: str, seed: int, score: float) -> None:
        path = settings.row_path("mnist", "q-base", change, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        accuracy = {"q": {"clean": score + 20, "fgsm 0.2": score, "fgsm 0.3": score - 20}}
        bim = {"q": {"bim 0.2": score, "bim 0.3": score}}
        path.write_text(json.dumps({"chosen": {"score": score, "accuracy": accuracy}, "bim": bim}))

    for seed, chosen, changed in ((0, 70.0, 72.0), (1, 74.0, 73.0), (2, 70.0, None), (3, None, 90.0)):
        for change, score in (("chosen", chosen), ("losses x 10", changed)):
            if score is not None:
                write(change, seed, score)
    gains = histories.gains_over_chosen("q-base", "losses x 10")
    assert set(gains) == {"score", "clean", "fgsm 0.2", "fgsm 0.3", "bim 0.2", "bim 0.3"}
    assert gains["score"] == gains["bim 0.3"] == [2.0, -1.0]
    html = histories.repeated_table().html
    mean = "<td>+0.5</td>"
    assert f"<td>losses x 10</td><td>2</td><td>-1.0 to +2.0</td>{6 * mean}" in html
    assert f"<td>decay 0.95</td><td>0</td>{7 * '<td>-</td>'}" in html


@pytest.mark.parametrize("name", ["q-base", "q-large", "q-base-adv", "q-large-adv"])
def test_clean_accuracy_is_near_the_papers(name):
    (clean,) = (cell for cell in paper.TABLES["1a"].cells if (cell.model, cell.setting) == (name, "clean"))
    assert abs(results.recorded_cell(clean)["accuracy"] - clean.accuracy) < 1.5


def test_the_records_say_of_the_settings_what_chapter_3_says():
    gains = {
        (name, change): histories.gains_over_chosen(name, change)
        for name in settings.REPEATED_ON
        for change in settings.REPEATED
    }
    assert all(len(found["score"]) == len(settings.SEEDS) for found in gains.values())
    slower = {name: gains[name, "decay 0.95"] for name in settings.REPEATED_ON}
    assert min(slower["q-base"]["score"]) > 0
    assert max(slower["q-large"]["clean"]) < 0
    assert min(slower["q-large"]["fgsm 0.3"] + slower["q-large"]["bim 0.3"]) > 0
    heavier = {name: gains[name, "losses x 10"] for name in settings.REPEATED_ON}
    assert all(sum(found["clean"]) < 0 < min(found["bim 0.3"]) for found in heavier.values())
    assert max(heavier["q-large"]["score"]) < 0
    for seed in settings.SEEDS:
        chosen, slow = (
            json.loads(settings.row_path("mnist", "q-large", change, seed).read_text())
            for change in ("chosen", "decay 0.95")
        )
        assert slow["chosen"]["epoch"] == 1 < chosen["chosen"]["epoch"]
        assert slow["chosen"]["score"] - slow["history"][-1]["score"] > 5
    for name in settings.REPEATED_ON:
        same = [
            json.loads(settings.row_path("mnist", name, change).read_text())["history"]
            for change in ("chosen", "re-initialised codes")
        ]
        assert same[0] == same[1]
        assert not any(sum(row.get("inactive", ())) for row in same[0])


def test_settings_that_are_not_measured_are_dashes(records):
    accuracy = {"q": {"clean": 94.0, "fgsm 0.2": 70.0, "fgsm 0.3": 50.0}}
    row = {"chosen": {"score": 71.3, "accuracy": accuracy}, "bim": {"q": {"bim 0.2": 60.0, "bim 0.3": 40.0}}}
    path = settings.row_path("mnist", "q-base", "no gate")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(row))
    rows = histories.settings_measured()
    assert [row["change"] for row in rows if row["score"]] == ["no gate"]
    assert len(rows) == sum(map(len, settings.COMPARED.values()))
    html = histories.setting_table().html
    assert (
        "<td>no gate</td><td>94.0</td><td>70.0</td><td>50.0</td><td>60.0</td><td>40.0</td><td>71.3</td>"
        in html
    )
    assert "<td>no gate</td><td>-</td>" in html
