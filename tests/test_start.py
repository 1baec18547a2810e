"""The start page: digits chosen by the rule, attacked as by the package, answered by the networks, counted right."""

import base64
import json

import conftest
import numpy as np
import pytest
import start
import torch
import website
from torch import nn

from qlayer_core import attacks
from qlayer_core.show import found as sentences
from qlayer_core.study import measured, records


@pytest.fixture(scope="module")
def networks(trained_cnn):
    """A trained network and a noisy copy of it: they fall at different epsilons."""
    other = conftest.small_cnn()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for mine, theirs in zip(other.parameters(), trained_cnn.parameters(), strict=True):
            spread = 0.3 * theirs.std() if theirs.numel() > 1 else 0
            mine.copy_(theirs + spread * torch.randn(theirs.shape, generator=generator))
    return {"cnn": trained_cnn, "q-base": other.eval()}


@pytest.fixture(scope="module")
def source(trained_cnn):
    """The attacker's own network, another one than those that answer."""
    model = conftest.small_cnn()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), trained_cnn.parameters(), strict=True):
            mine.copy_(theirs + 0.2 * theirs.std() * torch.randn(theirs.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def found(networks, source, digits):
    return start.content(networks, source, digits.images[:300], digits.labels[:300])


def unpacked(digit: dict, key: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(digit[key]), np.uint8).astype(int)


def film(digit: dict) -> torch.Tensor:
    """The images of one digit at each epsilon, as the page makes them, (positions, 1, 28, 28)."""
    pixels, signs = unpacked(digit, "pixels") / 255, unpacked(digit, "signs") - 1
    images = [np.clip(pixels + eps * signs, 0, 1) for eps in start.EPSILONS]
    return torch.tensor(np.stack(images), dtype=torch.float32).view(-1, 1, 28, 28)


def test_a_digit_is_the_first_of_its_class_that_all_networks_read_correctly(found, networks, source, digits):
    assert [digit["label"] for digit in found["digits"]] == list(range(10))
    with torch.no_grad():
        answers = [model(digits.images[:300]).argmax(1) for model in (*networks.values(), source)]
    for digit in found["digits"]:
        first = next(
            i
            for i, label in enumerate(digits.labels[:300].tolist())
            if label == digit["label"] and all(answer[i] == label for answer in answers)
        )
        assert digit["index"] == first
        assert (unpacked(digit, "pixels") == (255 * digits.images[first].flatten()).round().numpy()).all()


def test_the_page_opens_with_the_earliest_on_which_a_network_falls_by_0_3(found):
    def first(answers: str, label: int) -> float:
        return next((i / 100 for i, answer in enumerate(answers) if answer != str(label)), 1)

    falling = [
        digit["index"]
        for digit in found["digits"]
        if any(first(answer["class"], digit["label"]) <= 0.3 for answer in digit["answers"].values())
    ]
    assert found["digits"][found["opening"]]["index"] == min(falling)


@pytest.mark.parametrize("at", [0, 1, 13, 40])
def test_images_are_those_that_fgsm_makes_on_the_attackers_network(found, source, digits, at):
    images = digits.images[[digit["index"] for digit in found["digits"]]]
    expected = attacks.fgsm(source, images, eps=start.EPSILONS[at])
    pages = torch.stack([film(digit)[at] for digit in found["digits"]])
    assert torch.allclose(pages, expected, atol=1e-6)


def test_answers_are_those_of_the_networks(found, networks):
    for digit in found["digits"]:
        for name, answer in digit["answers"].items():
            with torch.no_grad():
                expected = networks[name](film(digit)).softmax(1)
            assert answer["class"] == "".join(map(str, expected.argmax(1).tolist()))
            probabilities = unpacked(answer, "probabilities").reshape(41, 10) / 255
            assert np.abs(probabilities - expected.numpy()).max() < 0.5 / 255 + 1e-4
            assert answer["class"][0] == str(digit["label"])


def test_counts_are_those_of_one_image_after_the_other(networks, source, digits):
    images, labels = digits.images[:80], digits.labels[:80]
    right = start.read_right(networks | {"source": source}, images, labels)
    ends = []
    for image, label in zip(images[right], labels[right], strict=True):
        sign = start.directions(source, image[None])
        positions = {}
        for name, network in networks.items():
            shown = torch.cat([start.moved(image[None], sign, eps) for eps in start.EPSILONS])
            answers = start.logits(network, shown).argmax(1).tolist()
            positions[name] = next((i for i, answer in enumerate(answers) if answer != label), 41)
        ends.append(start.outcome(positions))
    expected = {end: ends.count(end) for end in ("cnn", "q-base", "together", "neither")}
    counts = start.count(networks, source, images, labels)
    assert counts == expected | {"images": len(ends)}
    assert {"cnn", "q-base"} < set(ends)  # else this has compared nothing


@pytest.mark.parametrize(
    ("falls", "expected"),
    [
        ({"cnn": 3, "q-base": 9}, "cnn"),
        ({"cnn": 40, "q-base": 9}, "q-base"),
        ({"cnn": 9, "q-base": 9}, "together"),
        ({"cnn": 40, "q-base": 41}, "cnn"),
        ({"cnn": 41, "q-base": 41}, "neither"),
        ({"cnn": 41}, "neither"),
        ({"cnn": 0}, "cnn"),
    ],
)
def test_outcome_is_who_falls_first(falls, expected):
    assert start.outcome(falls) == expected


def test_first_wrong_is_the_first_and_not_the_only_one():
    wrong = torch.tensor([[False, False, True], [True, False, False], [False, False, True]])
    assert start.first_wrong(wrong).tolist() == [1, 3, 0]


def test_same_bytes_twice_and_few_of_them(found, networks, source, digits):
    again = start.content(networks, source, digits.images[:300], digits.labels[:300])
    assert json.dumps(again) == json.dumps(found)
    assert len(json.dumps(found)) + len(start.still(found)) < 120_000


def test_training_mode_is_refused(networks, source, digits):
    class Training(nn.Module):
        training = True

    with pytest.raises(ValueError, match=r"q-base is in training mode: call \.eval"):
        start.content(networks | {"q-base": Training()}, source, digits.images[:9], digits.labels[:9])


def test_too_few_images_are_refused(networks, source, digits):
    with pytest.raises(ValueError, match="is read correctly by all: give more"):
        start.content(networks, source, digits.images[:3], digits.labels[:3])


def test_still_picture_says_what_the_data_say(found):
    digit = found["digits"][found["opening"]]
    at = min(*start.falls(digit).values(), 40)
    html = start.still(found)
    cnn, q_base = (digit["answers"][name]["class"][at] for name in start.NETWORKS)
    assert f"The plain CNN answers {cnn} and Q-base answers {q_base}." in html
    assert str(digit["label"]) != cnn or str(digit["label"]) != q_base
    assert f"up to {start.EPSILONS[at]:.2f}," in html
    assert html.count('alt="') == html.count("<img") == 2


# ---- Files


def test_a_network_without_weights_is_left_out_and_said_so(tmp_path, monkeypatch, capsys, found, trained_cnn):
    """Only the CNN and the attacker's network are there: the page shows the CNN alone."""
    released = tmp_path / "mnist"
    released.mkdir()
    for name in ("cnn", start.SOURCE):
        (released / f"{name}.safetensors").touch()
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    monkeypatch.setattr(records, "load", lambda dataset, name: (trained_cnn, {}))
    monkeypatch.setattr(start, "COUNTED", 100)
    alone = start.write(tmp_path / "start")
    assert (alone["networks"], alone["missing"]) == (["cnn"], ["q-base"])
    assert set(alone["digits"][0]["answers"]) == {"cnn"}
    assert "q-base is left out" in capsys.readouterr().out
    assert json.loads((tmp_path / "start" / "start.json").read_text())["networks"] == ["cnn"]
    assert "Q-base" not in (tmp_path / "start" / "still.html").read_text()
    assert (tmp_path / "start" / "found.html").read_text() == sentences.start_page(measured.frame())


def test_the_page_says_what_was_found_between_its_two_marks_and_types_no_number_there():
    page = (website.ROOT / "book" / "intro.md").read_text()
    begin, end = (f"% What was found, in six findings: {mark}." for mark in ("begin", "end"))
    between = page.split(begin)[1].split(end)[0].split("\n", 1)[1]
    assert ":file: ../vendor/start/found.html" in between
    assert not any(character.isdigit() for character in between)


@pytest.mark.parametrize("there", [[], [start.SOURCE], ["cnn"]])
def test_without_an_attacker_or_anyone_to_attack_there_is_a_sentence(
    tmp_path, monkeypatch, trained_cnn, there
):
    (tmp_path / "mnist").mkdir()
    for name in there:
        (tmp_path / "mnist" / f"{name}.safetensors").touch()
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    monkeypatch.setattr(records, "load", lambda dataset, name: (trained_cnn, {}))
    assert start.write(tmp_path / "start")["digits"] == []
    assert "not released yet" in (tmp_path / "start" / "still.html").read_text()
