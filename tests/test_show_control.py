"""The lead of a network with the layer has two parts, which a control tells apart: its training, and the layer."""

import re

import pandas as pd
import pytest

from qlayer_core import intervals
from qlayer_core.show import control
from qlayer_core.study import measured
from qlayer_core.study.evidence import Number, Value, worst_case

LEFT = {
    "cnn": (20, 24),
    "cnn-same-training": (35,),
    "q-base": (40, 30),
    "q-large": (60, 70),
}  # percent, by seed


@pytest.fixture
def frame(monkeypatch):
    """Records of four networks, of 1,000 digits under four blind attacks; only BIM 0.3 tells them apart."""
    rows = []
    for model, left in LEFT.items():
        path = "q" if model.startswith("q") else None
        for attack, eps in (("fgsm", 0.2), ("fgsm", 0.3), ("bim", 0.2), ("bim", 0.3)):
            value = Value("mnist", model, "black-box", attack, eps, "cnn-a", None, path)
            for seed, percent in enumerate(left if (attack, eps) == ("bim", 0.3) else (50,)):
                rows.append(vars(value) | {"seed": seed} | number(percent))
    found = pd.DataFrame(rows, columns=list(measured.COLUMNS))
    monkeypatch.setattr(measured, "frame", lambda: found)
    return found


def number(percent: int) -> dict:
    return Number(percent, *intervals.wilson(10 * percent, 1000), 1000)._asdict()


def test_the_two_parts_of_a_lead_add_up_to_it(frame):
    found = control.leads("mnist")
    assert list(found) == ["q-base", "q-large"]
    for rows in found.values():
        assert [one.attack for one in rows] == ["FGSM 0.2", "FGSM 0.3", "BIM 0.2", "BIM 0.3"]
        for one in rows:
            assert one.whole.difference == pytest.approx(one.training.difference + one.layer.difference)
    base, large = (rows[-1] for rows in found.values())
    assert (base.whole.difference, base.training.difference) == (35 - 22, 35 - 22)
    assert (large.whole.difference, large.training.difference) == (65 - 22, 35 - 22)
    assert (base.layer.result, large.layer.result) == ("undecided", "holds")


def test_the_text_the_table_and_the_picture_say_how_much_the_training_brings(frame):
    text = control.reading(control.leads("mnist")).text
    assert (
        "Under images made on another network (BIM 0.3), the training alone takes the plain CNN from 22.0 to 35.0 %."
        in text
    )
    assert "Q-base is nowhere clearly different; Q-large is clearly ahead under BIM 0.3." in text
    html = control.parted(control.leads("mnist")).html
    assert "the CNN trained alike has 1 seed." in html
    assert html.count("+43.0") == 1, "of Q-large alone"
    shown = re.sub(r"<span.*?</span>", "", html)
    assert "<strong>+30.0</strong><br><small>+43.0</small>" in shown, "the layer's part is bold"
    assert (
        "BIM 0.3: CNN 22.0, CNN trained alike 35.0, Q-base 35.0, Q-large 65.0"
        in control.parts(control.leads("mnist")).text
    )


def test_what_is_so_under_every_attack_is_said_of_every_one(frame, monkeypatch):
    large = frame.model == "q-large"
    ahead = frame.assign(
        **{name: frame[name].mask(large, share) for name, share in number(90).items() if share}
    )
    monkeypatch.setattr(measured, "frame", lambda: ahead)
    text = control.reading(control.leads("mnist")).text
    assert "Q-large is clearly ahead under every blind attack of the paper's Table 1." in text


def test_a_column_that_one_network_lacks_is_shown_of_none(frame, monkeypatch):
    lacks = (frame.model == "q-large") & (frame.attack == "fgsm") & (frame.eps == 0.2)
    monkeypatch.setattr(measured, "frame", lambda: frame[~lacks])
    found = control.leads("mnist")
    assert [[one.attack for one in rows] for rows in found.values()] == [
        ["FGSM 0.3", "BIM 0.2", "BIM 0.3"]
    ] * 2


def test_seeds_of_the_control_that_lie_apart_are_said_to(frame, monkeypatch):
    more = frame[(frame.model == "cnn-same-training") & (frame.eps == 0.3) & (frame.attack == "bim")]
    other = pd.concat([frame, more.assign(seed=1, **number(18))])
    monkeypatch.setattr(measured, "frame", lambda: other)
    assert (
        "from 22.0 to 26.5 % (not clear: -6.0 to +15.0 points, depending on the pair of seeds)."
        in control.reading(control.leads("mnist")).text
    )


def test_under_all_attacks_of_the_ladder_a_network_may_be_behind(monkeypatch):
    left = {"cnn": 70, "cnn-same-training": 55, "q-base": 40, "q-inner": 80}
    rows = [
        vars(worst_case("mnist", model, eps)) | {"seed": 0} | number(percent if eps == 0.1 else 1)
        for model, percent in left.items()
        for eps in (0.05, 0.1, 0.2, 0.3)
    ]
    monkeypatch.setattr(measured, "frame", lambda: pd.DataFrame(rows, columns=list(measured.COLUMNS)))
    text = control.reading(control.leads("mnist", seeing=True)).text
    assert (
        "Under all attacks together, epsilon 0.1, the training alone takes the plain CNN from 70.0 to 55.0 %."
        in text
    )
    assert "Q-base is clearly behind at epsilon 0.1; Q-inner is clearly ahead at epsilon 0.1." in text


def test_after_adversarial_training_all_three_are_of_it(frame, monkeypatch):
    assert control.leads("mnist", after="-adv") == {}
    trained = frame.assign(model=frame.model + "-adv")
    monkeypatch.setattr(measured, "frame", lambda: trained)
    assert list(control.leads("mnist", after="-adv")) == ["q-base-adv", "q-large-adv"]
    assert "Q-base is nowhere clearly different" in control.reading(control.leads("mnist", after="-adv")).text
    assert control.leads("mnist") == {}


def test_what_is_not_measured_is_left_out(frame, monkeypatch):
    monkeypatch.setattr(measured, "frame", lambda: frame[frame.model != "q-large"])
    assert list(control.leads("mnist")) == ["q-base"]
    monkeypatch.setattr(measured, "frame", lambda: frame[frame.model != "cnn-same-training"])
    assert control.leads("mnist") == {} == control.leads("fashion-mnist")
