"""The models' colours are seen on light and dark pages, and with any colour vision."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from qlayer_core.show import names

PAGES = ("#ffffff", "#11161c", "#1a2129", "#111111")  # white; the book's and JupyterLab's dark pages
# How people with no red, green or blue cones see linear RGB (Machado, Oliveira and Fernandes, 2009).
VISION = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = TO_XYZ @ rgb.clip(0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", [*names.COLOURS.values(), names.NEUTRAL])
def test_colours_stand_out_from_light_and_dark_pages(colour, page):
    low, high = sorted(TO_XYZ[1] @ linear(c) for c in (colour, page))
    assert (high + 0.05) / (low + 0.05) >= 3


def test_the_dark_page_has_lighter_colours_that_stand_out_and_are_told_apart():
    style = (Path(__file__).parents[1] / "book/_static/book.css").read_text()
    dark = style[style.index('html[data-theme="dark"] {') :]
    light = [re.search(rf"--model-{name}: (#\w+)", dark)[1] for name in names.COLOURS]
    assert all(f"--mark-{name}: var(--model-{name})" in style for name in names.COLOURS)
    for page, colour in itertools.product(PAGES[1:3], light):
        assert (TO_XYZ[1] @ linear(colour) + 0.05) / (TO_XYZ[1] @ linear(page) + 0.05) >= 4.5
    for vision in VISION.values():
        seen = [lab(np.array(vision) @ linear(colour)) for colour in light]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 3 * 2.3


@pytest.mark.parametrize("vision", VISION)
def test_models_are_told_apart_with_any_colour_vision(vision):
    seen = [lab(np.array(VISION[vision]) @ linear(colour)) for colour in names.COLOURS.values()]
    # 2.3 is the smallest difference that an eye can tell (CIE 1976)
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 6 * 2.3


def test_paths_and_training_show_in_more_than_colour():
    looks = [
        names.style(name, path)
        for name, path in itertools.product(("q-base", "q-base-adv"), ("q", "e", "shortcut"))
    ]
    assert {look["color"] for look in looks} == {names.COLOURS["q-base"]}
    assert len({(look["linestyle"], look["markerfacecolor"]) for look in looks}) == len(looks)
    assert len(set(names.MARKERS.values())) == len(names.COLOURS)


def test_a_model_without_a_colour_of_its_own_is_grey():
    assert names.colour("source-a") == names.NEUTRAL
    assert names.label("q-k2-n16-adv") == "K = 2 with 16 codes (adv. trained)"  # of Table 8
    assert names.label("source-a-adv", "e") == "source-a (adv. trained), E-path"
    with pytest.raises(ValueError, match="choose one of q, e, shortcut"):
        names.style("cnn", "both")


def test_an_attack_has_one_name_everywhere():
    assert names.attack("bim 0.2") == "BIM 0.2"
    assert names.attack("cw 0.3") == "C&W 0.3"
    assert names.attack("clean") == "clean"
