"""What is kept of a training, and what two trainings give at the same clean accuracy, on histories made up here."""

import re

import pytest

from qlayer_core.show import keeping


def history(*rows, path=None, e=None):
    """Clean accuracy and those under two attacks, a row each; with a path, clean ones of the E-path beside it."""
    kinds = ("clean", "fgsm 0.2", "fgsm 0.3")
    found = []
    for epoch, row in enumerate(rows, 1):
        accuracy = {path: dict(zip(kinds, row, strict=True))}
        if e:
            accuracy["e"] = {"clean": e[epoch - 1]}
        found.append({"epoch": epoch, "accuracy": accuracy})
    return found


PLAIN = history((97, 70, 30), (98, 60, 20), (99, 50, 10))
LAYERED = history((95, 80, 60), (97.5, 70, 40), (96, 20, 20), path="q", e=(96, 97, 99))


def test_the_weight_decides_between_robust_and_accurate():
    assert [keeping.kept(PLAIN, weight) for weight in (0, 0.5, 1)] == [0, 0, 2]


def test_the_first_of_equal_epochs_is_kept():
    assert keeping.kept(history((97, 70, 30), (97, 70, 30))) == 0


def test_at_equal_clean_accuracy_the_most_robust_epoch_counts():
    assert keeping.at_least(LAYERED, 94) == 0
    assert keeping.at_least(LAYERED, 96) == 1
    assert keeping.at_least(LAYERED, 98) is None


def test_only_trainings_that_reach_the_clean_accuracy_count():
    """The layered one keeps 80 and 60 at best, 70 and 40 with 96 %; the plain one 70 and 30, or 60 and 20 with 98."""
    both = [LAYERED, PLAIN]
    assert keeping.reached(both, 94) == [70, 50] and keeping.reached(both, 96) == [55, 50]
    assert keeping.reached(both, 98) == [40] and keeping.reached(both, 99.5) == []


def test_accuracy_under_attack_of_a_network_that_saw_clean_images_alone_is_refused():
    selected = [{"epoch": 1, "accuracy": {None: {"clean": 98.5}}}]
    assert keeping.accuracies(selected) == [{"clean": 98.5}]
    for ask in (keeping.kept, lambda history: keeping.equal_table({"cnn-clean-selected": [history]}, (97,))):
        with pytest.raises(
            ValueError, match=r"'clean': 98.5.*leave out networks that are selected on clean images"
        ):
            ask(selected)


def test_a_gain_shrinks_at_equal_clean_accuracy():
    """Kept: 70 against 50 under attack. At 97 % clean or more: 55 against 50."""
    found = keeping.gains({"cnn": [PLAIN], "q-base": [LAYERED]}, "cnn")
    assert found == {"q-base": (pytest.approx([20]), pytest.approx([5]))}
    assert found["q-base"].ahead is True


def test_each_seed_is_set_beside_each_of_the_plain_network():
    """One plain seed is kept at 97 % with 50 under attack, one at 98 % with 60; so is one layered seed, at 97 %."""
    plain, layered = [PLAIN, history((98, 60, 60))], [LAYERED, history((97, 58, 58))]
    gain = keeping.gains({"cnn": plain, "q-base": layered}, "cnn")["q-base"]
    assert gain.kept == pytest.approx([20, 10, 8, -2])
    assert gain.equal == pytest.approx([5, 8]), "with 98 % there is no epoch of either"
    assert gain.ahead is None
    assert keeping.points(gain.kept) == "+9.0 (-2.0 to +20.0)" and keeping.points([4.0]) == "+4.0"


def test_no_gain_is_claimed_where_the_accuracy_is_not_reached():
    poor = history((95, 80, 60), path="q")
    gain = keeping.gains({"cnn": [PLAIN], "q-large": [poor]}, "cnn")["q-large"]
    assert gain.equal == [] and gain.ahead is None


def test_the_deployed_answer_is_what_counts():
    assert keeping.accuracies(LAYERED)[0] == {"clean": 95, "fgsm 0.2": 80, "fgsm 0.3": 60}


def test_ways_of_stopping_keep_different_epochs():
    found = keeping.stops(LAYERED)
    assert {way: row["epoch"] for way, row in found.items()} == {
        "the last epoch": 3,
        "best E-path, clean": 3,
        "best answer, clean": 2,
        "best answer, mixed": 1,
    }
    assert "best E-path, clean" not in keeping.stops(PLAIN), "a plain network has one path"


def test_the_picture_names_the_kept_epoch():
    text = keeping.trails({"cnn": PLAIN}, weight=1).text
    assert "CNN: 3 epochs, from 97.0 and 50.0 % to 99.0 and 30.0 %; kept epoch 3: 99.0 and 30.0 %" in text


def test_the_slider_has_a_page_for_each_weight():
    box = keeping.weight_explorer({"cnn": PLAIN, "q-base": LAYERED})
    pages = box.children[-1].children
    assert len(pages) == len(keeping.WEIGHTS)
    assert (
        "<td>1 of 3</td><td>97.0</td>" in pages[0].value and "<td>3 of 3</td><td>99.0</td>" in pages[-1].value
    )


def test_a_table_has_a_dash_where_no_epoch_reaches_the_accuracy():
    text = keeping.equal_table({"cnn": [PLAIN], "q-base": [LAYERED]}, (97, 98)).html
    assert '<th scope="row">Q-base</th><td>0 of 1</td><td>-</td><td>-</td><td>-</td><td>-</td>' in text
    row = "<td>1 of 1</td><td>2</td><td>97.5</td><td>70.0</td><td>40.0</td>"
    assert f'<th scope="row">Q-base</th>{row}' in text
    assert "at least 97 % clean" in text and "at least 98 % clean" in text


def test_a_table_has_mean_and_range_of_the_seeds_that_reach_the_accuracy():
    runs = [PLAIN, history((97, 60, 20), (99, 10, 10)), history((90, 99, 99))]
    text = re.sub(r"<span.*?</span>", "", keeping.equal_table({"cnn": runs}, (97,)).html)
    both = "<strong>65.0</strong><br><small>60.0 to 70.0</small>"
    assert (
        f"<td>2 of 3</td><td>1, 1</td><td><strong>97.0</strong><br><small>97.0 to 97.0</small></td><td>{both}"
        in text
    )


def test_gains_are_told_as_kept_and_at_equal_clean_accuracy():
    def told(*rows, name="squeezing"):
        return keeping.equal_words({"cnn": [history((98, 50, 50))], name: [history(*rows)]}).text

    text = told((97, 70, 70), (98, 60, 60))
    assert "feature squeezing +20.0 as it was kept, +10.0 at equal clean accuracy" in text
    assert "Equal means at least the 98.0 % of the CNN's kept epoch." in text
    assert "over seeds" not in text
    assert "no epoch of it is as accurate" in told((97, 70, 70), name="one-hot")
    assert "+10.0 either way" in told((98, 60, 60))
    both = {"one-hot": [history((98, 40, 40))], "squeezing": [history((98, 60, 60))]}
    text = keeping.equal_words({"cnn": [history((98, 50, 50))]} | both).text
    assert "feature squeezing is first and one-hot encoding last of these." in text


def test_gains_of_several_seeds_are_told_with_their_range():
    plain = [history((98, 50, 50)), history((97, 40, 40))]
    text = keeping.equal_words({"cnn": plain, "squeezing": [history((97, 60, 60))]}).text
    assert "and over seeds, each beside each (lowest to highest)" in text
    assert "+15.0 (+10.0 to +20.0) as it was kept, +20.0 at equal clean accuracy" in text
    assert "which it reaches in 1 of 2 pairs" in text
    assert "at least the 97.0 and 98.0 % of the CNN's kept epochs." in text
