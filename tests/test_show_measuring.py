"""How attacks are judged: more effort never leaves more right, and a failed attack shows its signs."""

import re
import warnings

import pandas as pd
import pytest
import torch

from qlayer_core import attacks
from qlayer_core.show import measuring
from qlayer_core.study import records, tables


def follow(loss):
    def attack(model, x, y, eps):
        return attacks.bim(model, x, y, eps=eps, step=eps / 4, iterations=6, loss=loss)

    return attack


@pytest.fixture
def some(digits):
    return digits.images[:30], digits.labels[:30]


def test_neither_starts_nor_steps_leave_more_right(trained_cnn, some):
    left = measuring.sinking(trained_cnn, *some, eps=0.1, steps=(1, 8), restarts=3)
    assert [len(row) for row in left] == [3, 3]
    assert all(row == sorted(row, reverse=True) for row in left)
    assert left[1][-1] < left[0][0]


def test_an_attack_that_rounds_its_gradient_away_shows_every_sign(trained_cnn, some):
    """Logits times 1,000 change no answer, but make the clipped loss flat; the exact one does not care."""

    def sure(x):
        return 1000 * trained_cnn(x)

    def signs(loss):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", attacks.contract.UnmovedWarning)
            found = measuring.symptoms(follow(loss), sure, trained_cnn, *some, eps=0.2)
        return [one.raised for one in found]

    assert signs("clipped") == [True] * 4
    assert signs("ce") == [False] * 4


def test_signs_of_failure_stand_out_in_the_table():
    found = {
        "one": [measuring.Symptom("unmoved", "99 %", True)],
        "other": [measuring.Symptom("unmoved", "0 %", False)],
    }
    text = measuring.symptom_table(found).html
    assert "<strong>yes: 99 %</strong>" in text and ">no: 0 %<" in text


def test_luck_shrinks_with_the_number_of_images():
    right = torch.arange(5000) % 4 > 0  # 75 %
    text = measuring.luck(right, sizes=(50, 2000)).text
    assert "all 5,000 images give 75.0 %" in text
    few, many = (float(b) - float(a) for a, b in re.findall(r"images: ([\d.]+) to ([\d.]+) %", text))
    assert many < few / 3
    few, many = (float(reach) for reach in re.findall(r"intervals of ([\d.]+) points", text))
    assert many < few / 5  # 40 times the images, so about 6.3 times narrower


def test_an_interval_of_luck_is_of_its_own_subset():
    """19 of 20 are right. One right image has [20.7, 100], which contains 95, the wrong one [0, 79.3]."""
    right = torch.arange(20) > 0
    text = measuring.luck(right, sizes=(1, 20), draws=40).text
    hit, whole = (int(count) for count in re.findall(r"of which (\d+) contain", text))
    assert 30 <= hit < 40 and whole == 40  # all images, every time


def test_the_ladder_says_what_each_attacker_leaves():
    half = torch.arange(10) % 2 == 0
    text = measuring.ladder({"cnn": {"noise": half | True, "white box": half}}).text
    assert "CNN: noise 100 %, white box 50 %" in text


def test_the_weak_attack_is_read_from_records():
    rows = measuring.weak()
    assert {"model", "eps", "fgsm", "bim", "cw", "n", "seeds", "unreliable", "formats"} == set(rows[0])
    assert measuring.weak_table(rows).html.count('<th scope="row">') == len(rows)


def test_the_weak_attack_s_table_strikes_what_failed_and_says_interval_and_number_format():
    row = {"model": "cnn-adv", "eps": 0.3, "fgsm": 50.0, "bim": 5.0, "cw": 70.0, "n": 1000, "seeds": 1}
    row |= {"formats": ["bfloat16"], "unreliable": {"fgsm": "blind is stronger", "bim": None, "cw": None}}
    shown = measuring.weak_table([row])
    assert '<td>\u2007<s title="blind is stronger">50.0</s>' in shown.html
    assert "<td>\u2007\u20075.0</td><td>\u200770.0</td>" in shown.html
    assert "95 % Wilson intervals are at most 6.2 points wide" in shown.text  # 50 of 100, the widest
    assert "computed in bfloat16, answers in float32. Struck through" in shown.text
    both = measuring.weak_table([row, row | {"model": "cnn", "n": 500}])
    assert "on the first 1,000 test images (° the first 500), one seed" in both.text
    assert "5.0</td>" in both.html and "5.0°</td>" in both.html
    assert "Struck" not in measuring.weak_table([row | {"unreliable": dict.fromkeys(row["unreliable"])}]).text


def test_every_weak_number_whose_attack_failed_in_the_records_is_struck():
    """Single steps on adversarially trained networks, which Table 2a strikes, too."""
    found = {
        (row["model"], row["eps"], kind)
        for row in measuring.weak()
        for kind, why in row["unreliable"].items()
        if why
    }
    frame = tables.table("2a")
    frame = frame[frame.unreliable.notna()]
    wanted = {(one.row, float(one.column.split()[1]), one.column.split()[0]) for one in frame.itertuples()}
    assert wanted and wanted <= found


def test_the_weak_attack_is_compared_on_the_same_networks_and_images(monkeypatch):
    """FGSM is measured on more images, easier ones, and with a second seed: neither may enter the mean."""

    def row(attack: str, seed: int, right: torch.Tensor) -> dict:
        fields = {"dataset": "mnist", "model": "cnn", "setting": "white-box", "eps": 0.2, "path": None}
        accuracy = 100 * right.float().mean().item()
        fields |= {"attacked_path": None, "attack": attack, "seed": seed, "accuracy": accuracy}
        return fields | {"n": len(right), "right": records.pack(right), "unreliable": None}

    hard = torch.arange(1000) >= 700  # 30 % of the first thousand, 65 % of two
    rows = [
        row("fgsm", 0, torch.cat([hard, torch.ones(1000, dtype=torch.bool)])),
        row("bim", 0, hard & (torch.arange(1000) >= 900)),
        row("cw", 0, torch.arange(1000) >= 600),
        row("fgsm", 1, torch.ones(1000, dtype=torch.bool)),
    ]
    monkeypatch.setattr(measuring.tables, "cells", lambda: pd.DataFrame(rows))
    (found,) = measuring.weak()
    assert (found["fgsm"], found["bim"], found["cw"]) == (30.0, 10.0, 40.0)
    assert (found["n"], found["seeds"]) == (1000, 1)
    assert "on the first 1,000 test images" in measuring.weak_table([found]).text
