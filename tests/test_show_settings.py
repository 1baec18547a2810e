"""What a setting costs: against the same seed, as kept and at equal clean accuracy; and what is not run yet."""

import pytest

from qlayer_core.show import settings
from qlayer_core.study import records, variants
from qlayer_core.study.variants import Setting, unit


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes a unit's with clean and attacked accuracies."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def written(one, *rows):
        path = None if one.spec.layer is None else "q"
        history = [
            {"epoch": at, "accuracy": {path: {"clean": clean, "fgsm 0.2": attacked, "fgsm 0.3": attacked}}}
            for at, (clean, attacked) in enumerate(rows, 1)
        ]
        records.write(records.new_record(one) | {"history": history})

    return written


def test_a_gain_can_turn_into_a_loss_at_equal_clean_accuracy(write):
    write(records.unit("mnist", "q-base"), (97.0, 60.0))
    write(unit("mnist", "q-base", "no-gate"), (96.0, 65.0), (98.0, 55.0))
    (cost,) = settings.costs("q-base", "no-gate")
    assert cost.epochs == (2, 1)
    assert (cost.clean, cost.attacked, cost.equal) == pytest.approx((-1.0, 5.0, -5.0))
    assert "Q-base, no gate: clean -1.0, attacked +5.0, -5.0 at equal clean accuracy" in settings.draw().text
    assert "<td>2 (1)</td><td>-1.0</td><td>+5.0</td><td>-5.0</td>" in settings.cost_table().html


def test_where_no_epoch_is_as_good_there_is_a_dash(write):
    write(records.unit("mnist", "q-base"), (97.0, 60.0))
    write(unit("mnist", "q-base", "no-gate"), (96.0, 65.0))
    assert settings.costs("q-base", "no-gate")[0].equal is None
    assert "<td>+5.0</td><td>-</td>" in settings.cost_table().html
    assert "no epoch as good on clean images" in settings.draw().text


def test_a_mean_says_how_many_seeds_have_an_epoch_that_is_as_good(write):
    for seed, clean in enumerate((97.0, 96.0)):
        write(records.unit("mnist", "q-base", seed), (97.0, 60.0))
        write(unit("mnist", "q-base", "no-gate", seed), (clean, 65.0))
    assert "<td>+5.0</td><td>+5.0 (in 1 of 2)</td>" in settings.cost_table().html


def test_seeds_are_compared_at_equal_clean_accuracy_too(write):
    write(records.unit("mnist", "q-base"), (97.0, 60.0))
    assert settings.spread("q-base") is None
    write(unit("mnist", "q-base", "no-gate"), (97.0, 59.9))
    assert (
        "Q-base (which has no second seed to compare). More is lost with no gate" in settings.reading().text
    )
    write(records.unit("mnist", "q-base", 1), (96.0, 61.0), (97.5, 52.0))  # as kept they differ by one point
    assert settings.spread("q-base") == pytest.approx(8.0)
    write(
        unit("mnist", "q-base", "no-gate", 1), (97.0, 70.0)
    )  # never as good as the seed that it stands beside
    assert "No more than that is changed with no gate" in settings.reading().text


def test_a_change_counts_only_beside_the_book_s_settings_of_the_same_seed(write):
    write(unit("mnist", "q-base", "no-gate", seed=1), (96.0, 65.0))
    assert settings.costs("q-base", "no-gate") == []
    write(records.unit("mnist", "q-base", 1), (97.0, 60.0))
    assert len(settings.costs("q-base", "no-gate")) == 1


def test_what_the_decision_trained_is_not_asked_for_again(write):
    write(records.unit("mnist", "q-base"), (97.0, 60.0))
    write(Setting("none", "pull", "pull", "off").unit("mnist", "q-base"), (97.5, 40.0))
    assert settings.costs("q-base", "commitment-none")[0].attacked == pytest.approx(-20.0)


def test_an_adversarial_setting_counts_only_from_the_same_raw_network(write):
    wanted = unit("mnist", "q-base-adv", "chosen")
    write(Setting("none", "pull", "reinitialize", "off").unit("mnist", "q-base-adv"), (98.0, 90.0))
    assert variants.recorded(wanted) is None, "it started from a raw network without commitment"
    write(Setting("squared", "pull", "reinitialize", "off", "none").unit("mnist", "q-base-adv"), (98.0, 91.0))
    assert variants.recorded(wanted)["history"][0]["accuracy"]["q"]["fgsm 0.2"] == 91.0


def test_every_change_has_words_and_those_that_change_nothing_are_left_out():
    for name in variants.STUDIED:
        assert set(variants.changes(name)) <= set(settings.WORDS)
    assert "dropout-off" not in variants.changes("q-base"), "it is the book's setting"


def test_what_is_not_run_is_named_with_a_command(write):
    text = settings.still_to_run().html
    assert "PyTorch&#x27;s own first weights" in text and "python -m qlayer_core vary mnist cnn" in text
    assert "exact gradient" in text and "make reproduce ONLY=settings" in text
    total = sum(len(variants.changes(name)) for name in settings.RAW)
    assert f"{total} are not run yet" in settings.draw().text


def test_what_a_change_does_is_told_beside_what_another_seed_does(write):
    for seed, attacked in enumerate((60.0, 63.0)):
        write(records.unit("mnist", "q-base", seed), (97.0, attacked))
    write(unit("mnist", "q-base", "no-gate"), (97.0, 56.0))
    write(unit("mnist", "q-base", "losses-x-10"), (97.5, 40.0))
    write(unit("mnist", "q-base", "k-means-start"), (97.0, 64.0))
    write(unit("mnist", "q-base", "alpha-x-10"), (97.0, 57.5))
    write(unit("mnist", "q-base", "beta-x-10"), (96.0, 99.0))
    assert settings.spread("q-base") == pytest.approx(3.0)
    assert settings.sorted_out("q-base") == {
        "loses": [("losses-x-10", -20.0), ("no-gate", -4.0)],
        "gains": [("k-means-start", 4.0)],
        "little": [("alpha-x-10", -2.5)],
        "never": [("beta-x-10", None)],
    }
    text = settings.reading().text
    assert (
        "Q-base (another seed changes up to 3.0). More is lost with ten times alpha and beta (-20.0)" in text
    )
    assert "Never as good on clean images with ten times beta." in text and "Q-large" not in text
