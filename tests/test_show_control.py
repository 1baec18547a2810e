"""The lead of a network with the layer has two parts, which a control tells apart: its training, and the layer."""

import pandas as pd
import pytest

from qlayer_core import intervals
from qlayer_core.show import control
from qlayer_core.study import measured
from qlayer_core.study.evidence import Number, Value

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
                number = Number(percent, *intervals.wilson(10 * percent, 1000), 1000)
                rows.append(vars(value) | {"seed": seed} | number._asdict())
    found = pd.DataFrame(rows, columns=list(measured.COLUMNS))
    monkeypatch.setattr(measured, "frame", lambda: found)
    return found


def test_the_two_parts_of_a_lead_add_up_to_it(frame):
    found = control.leads("mnist")
    assert list(found) == ["q-base", "q-large"]
    for rows in found.values():
        assert [one.attack for one in rows] == ["fgsm 0.2", "fgsm 0.3", "bim 0.2", "bim 0.3"]
        for one in rows:
            assert one.whole.difference == pytest.approx(one.training.difference + one.layer.difference)
    base, large = (rows[-1] for rows in found.values())
    assert (base.whole.difference, base.training.difference) == (35 - 22, 35 - 22)
    assert (large.whole.difference, large.training.difference) == (65 - 22, 35 - 22)
    assert (base.layer.result, large.layer.result) == ("undecided", "holds")


def test_the_text_and_the_picture_say_how_much_the_training_brings(frame):
    text = control.reading("mnist").text
    assert "Of Q-base's lead over the plain CNN, in points, the training alone brings" in text
    assert "13.0 of 13.0 (BIM 0.3)" in text and "13.0 of 43.0 (BIM 0.3)" in text
    base, large = text.split("Of Q-large's lead")
    assert "under none of these attacks" in base and "clearly under BIM 0.3" in large
    assert "the CNN that is trained alike has 1" in large
    assert (
        "BIM 0.3: CNN 22.0, CNN, trained alike 35.0, Q-base 35.0, Q-large 65.0" in control.parts("mnist").text
    )


def test_what_is_not_measured_is_left_out(frame, monkeypatch):
    monkeypatch.setattr(measured, "frame", lambda: frame[frame.model != "q-large"])
    assert list(control.leads("mnist")) == ["q-base"]
    monkeypatch.setattr(measured, "frame", lambda: frame[frame.model != "cnn-same-training"])
    assert control.leads("mnist") == {} == control.leads("fashion-mnist")
