"""The cast: every network of the grid has one place, and what is said of it is counted and read, not remembered."""

import re

import pytest

from qlayer_core import models
from qlayer_core.show import cast, plot
from qlayer_core.study import experiments, records


def test_every_network_of_the_grid_is_in_one_group():
    found = [name for group in cast.GROUPS for name in cast.members(group)]
    assert sorted(found) == sorted(experiments.RUNS)


def test_an_unknown_group_is_refused_by_the_known_ones():
    with pytest.raises(ValueError, match="targets"):
        cast.members("villains")


def test_parameters_of_cnn_a_are_those_of_table_4():
    convolutions = 64 * (1 * 25 + 1) + 64 * (64 * 25 + 1)
    dense = 128 * (64 * 12 * 12 + 1) + 10 * (128 + 1)
    assert cast.parameters("cnn") == convolutions + dense


def test_a_layer_adds_gate_codebook_and_a_second_tail():
    tail = 128 * (64 * 12 * 12 + 1) + 10 * (128 + 1)
    layer = 64 * 64 + 64 + 64 * 64  # W, b and the codes
    assert cast.parameters("q-base") == cast.parameters("cnn") + layer + tail


def test_a_drawing_names_the_layers_in_their_order():
    text = cast.drawing("q-inner").text
    first, last = text.index("Q-Layer 4 heads, 64 codes"), text.rindex("convolution")
    assert text.index("convolution") < first < last
    assert text.count("dense 128") == 2  # one in each tail
    assert cast.drawing("q-large-shared").text.count("dense 128") == 1


@pytest.mark.parametrize("name", ["source-b", "q-inner", "q-large-shared"])
def test_a_drawing_lies_and_on_a_phone_stands(name):
    shapes, labels = [], []
    for html in cast.drawing(name).html.split('<div class="upright" hidden>'):
        shapes.append([float(side) for side in re.search(r'viewBox="0 0 (\S+) (\S+)"', html).groups()])
        labels.append(sorted(re.findall("<(?:text|tspan)[^>]*>([^<]+)<", html)))
    lying, upright = shapes
    assert lying[0] > 3 * lying[1] and upright[1] > 2 * upright[0]
    assert upright[0] < 72 / 96 * plot.PHONE, "its text is smaller there"
    assert labels[0] == labels[1] and "dense" in labels[0]


def test_labels_are_of_layers_with_weights():
    assert cast.parts(models.cnn("b")) == [
        "convolution\n128 of 3 x 3",
        "convolution\n64 of 3 x 3, stride 2",
        "dense\n128",
        "dense\n10",
    ]


def test_a_source_is_found_in_the_tables_of_the_images_it_made():
    assert "1a" in cast.appears("source-a") and "7a" not in cast.appears("source-a")
    assert "7a" in cast.appears("source-b") and "1a" not in cast.appears("source-b")


def test_the_other_body_has_a_group_and_a_role_of_its_own():
    assert cast.members("on CNN B") == list(experiments.ON_CNN_B)
    assert all("CNN B" in cast.role(name) for name in experiments.ON_CNN_B)
    assert "CNN B" not in cast.role("cnn") + cast.role("q-base")


def test_the_control_is_a_plain_cnn_whose_role_says_how_it_is_trained():
    assert "settings of Q-base" in cast.role("cnn-same-training") and "cnn-same-training" in cast.members(
        "targets"
    )
    assert "settings" not in cast.role("cnn") and cast.alike("cnn", "cnn-same-training")


def test_built_alike_is_not_trained_alike():
    assert cast.alike("cnn", "cnn-clean-selected") and cast.alike("q-base", "q-base-adv")
    assert not cast.alike("q-base", "q-large") and not cast.alike("cnn", "source-b")


def test_what_is_released_is_what_lies_there(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert cast.released("cnn") == "-" and cast.recorded("cnn") == "not yet"
    file = tmp_path / "mnist" / "cnn.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"0" * 2_500_000)
    (tmp_path / "mnist" / "cnn").mkdir()
    (tmp_path / "mnist" / "cnn" / "seed0.json").write_text("{}")
    assert cast.released("cnn") == "MNIST 2.5 MB" and cast.recorded("cnn") == "MNIST 1"
    assert "MNIST 2.5 MB" in cast.cast("targets").html


def test_all_that_has_words_wraps():
    """A column on one line, as wide as "Fashion-MNIST 2.6 MB", once pushed the last one out of sight."""
    (row,) = re.findall(
        r"<tr><th scope=\"row\">(?:(?!<tr>).)*q-base</code>.*?</tr>", cast.cast("targets").html
    )
    wide = [cell for cell in re.findall(r"<td>(.*?)</td>", row) if not cell.startswith('<span class="wraps"')]
    assert wide == [f"{cast.parameters('q-base'):,}"]
