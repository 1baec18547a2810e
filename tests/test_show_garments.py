"""The strip of spoilt images holds what the attack makes, and accuracies per class are those of the record."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from qlayer_core import attacks, data
from qlayer_core.show import garments, sanity
from qlayer_core.study import paper, records


def rows(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L")).astype(int) for text in found
    ]


def test_each_row_holds_the_images_of_its_epsilon(trained_cnn, digits):
    images, epsilons = digits.images[:3], [0.0, 0.1, 0.3]
    shown = garments.strip(images, ["a", "b", "c"], trained_cnn, epsilons)
    assert len(rows(shown.html)) == 3
    for eps, row in zip(epsilons, rows(shown.html), strict=True):
        made = attacks.fgsm(trained_cnn, images, eps=eps) if eps else images
        for place in range(3):
            cut = row[1:-1, 29 * place + 1 : 29 * place + 29]  # each in a frame of one pixel
            assert np.abs(cut - 255 * made[place, 0].numpy()).max() <= 1
    assert "a, b and c, attacked by FGSM with epsilon 0.3." in shown.html


def test_names_can_be_held_back_and_notes_stand_below_their_row(trained_cnn, digits):
    hidden = garments.strip(digits.images[:2], ["", ""], trained_cnn, [0.2])
    assert "From the left" not in hidden.html and "2 garments" in hidden.html
    noted = garments.strip(digits.images[:2], ["x", "y"], trained_cnn, [0.0, 0.2], {0.2: "half <gone>"})
    assert "epsilon 0.2: half &lt;gone&gt;" in noted.html and "epsilon 0</p>" in noted.html


def test_one_name_each_is_asked_for(trained_cnn, digits):
    with pytest.raises(ValueError, match="3 images and 2 names"):
        garments.strip(digits.images[:3], ["a", "b"], trained_cnn, [0.1])


def test_the_first_image_of_a_class_is_found():
    assert garments.first_of(torch.tensor([3, 1, 3, 0]), (0, 3)) == [3, 0]


def test_accuracies_per_class_are_shares_of_the_recorded_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    labels = data.load("fashion-mnist", "test").labels[:1000]
    right = labels != 6  # every shirt wrong
    record = records.new_record(records.unit("fashion-mnist", "q-base"))
    for column, path in (("clean", "q"), ("fgsm 0.1", "q"), ("fgsm 0.1", "e"), ("bim 0.1", "q")):
        key = paper.TABLES["1b"].cell("q-base", column).key
        about = dict(zip(paper.KEY, key, strict=True)) | {
            "path": path,
            "n": 1000,
            "correct": int(right.sum()),
        }
        bits = right if path == "q" and column != "bim 0.1" else ~right
        record["cells"].append(about | {"accuracy": 90.0, "unmoved": 0, "right": records.pack(bits)})
    records.write(record)
    found = garments.by_class("fashion-mnist", "q-base")
    assert list(found) == ["clean", "fgsm 0.1"]
    for rates in found.values():
        assert rates.pop("Shirt") == 0 and set(rates.values()) == {100}
    for cell in record["cells"]:  # of another seed, that has every shirt right in its Q-path
        cell["right"] = records.pack(torch.ones(1000, dtype=torch.bool))
    records.write(record | {"seed": 1})
    for rates in garments.by_class("fashion-mnist", "q-base").values():
        assert rates.pop("Shirt") == 50 and set(rates.values()) == {100}, "the mean of both seeds"


def test_notes_are_of_the_deployed_answers(monkeypatch):
    curves = {
        "cnn": ([0.0, 0.1], [86.0, 60.0], 1000),
        ("q-base", "q"): ([0.0], [84.5], 1000),
        ("q-base", "e"): ([0.0], [1.0], 1000),
    }
    monkeypatch.setattr(sanity, "recorded_curves", lambda *arguments: curves)
    assert garments.notes() == {
        0.0: "CNN 86.0, Q-base 84.5 % of the test images right",
        0.1: "CNN 60.0 % of the test images right",
    }
