"""The diagram in which the layer is dragged from block to block: its code, its costs, by key and by pointer."""

import json

import pytest
import torch
import web
from javascript import node
from torch import nn

from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.show import own

browser = web.browser  # fixture

BLOCKS = ["one", "two", "three", "head"]


def blocks() -> list[nn.Module]:
    """A network of four blocks, small enough to count by hand."""
    maps = [nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 2, stride=2)]
    return [*maps, nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 4, 10))]


@pytest.fixture(scope="module")
def facts() -> dict:
    return own.costs(blocks(), BLOCKS, torch.zeros(1, 1, 8, 8))


def test_costs_are_those_counted_by_hand(facts):
    plain = 64 * 4 * 9 + 64 * 8 * 4 * 9 + 16 * 8 * 8 * 4 + 128 * 10
    assert facts["plain"]["operations"] == plain
    layer = 64 * 8 * (8 + own.CODES)  # 64 positions of 8 channels: the gate, and the distances to all codes
    second = facts["places"][1]
    assert second["shape"] == [8, 8, 8] and second["heads"][1]["operations"] == plain + layer
    join = 64 * (2 * 8) * 8
    assert second["heads"][2]["operations"] == plain + 2 * layer + join


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("heads", own.HEADS)
def test_the_code_of_a_place_builds_the_network_that_was_counted(facts, cut, heads):
    place = facts["places"][cut - 1]
    text = node(f"place.code({{cut: {cut}, shape: {place['shape']}}}, {heads})", "place")
    scope = {"nn": nn, "blocks": blocks, "QLayer": QLayer, "QNet": QNet}
    exec(text, scope)
    net = scope["net"].eval()
    assert net(torch.zeros(2, 1, 8, 8), path="e").shape == (2, 10)
    cost = place["heads"][heads]
    assert sum(p.numel() for p in net.parameters()) == cost["trained"]
    assert cost["trained"] - sum(p.numel() for p in net.tail_e.parameters()) == cost["deployed"]


def test_each_place_says_where_the_most_parameters_are_trained(facts):
    said = [node(f"place.sentence({json.dumps(facts)}, {cut}, 1)", "place") for cut in (1, 2, 3)]
    trained = [place["heads"][1]["trained"] for place in facts["places"]]
    most = trained.index(max(trained))
    for at, text in enumerate(said):
        expected = (
            "more than at any other place" if at == most else f"behind {BLOCKS[most]}, where they are most"
        )
        assert expected in text


def test_the_nearest_place_is_between_two_blocks():
    found = node("[0, 0.2, 0.3, 0.5, 0.7, 1].map((x) => place.nearestCut(x, 4))", "place")
    assert found == [1, 1, 1, 2, 3, 3]


@pytest.fixture(scope="module")
def page(browser, facts, tmp_path_factory):
    with web.toy_page(browser, tmp_path_factory.mktemp("site"), "place", own.place_toy(facts).html) as opened:
        yield opened


def test_the_layer_moves_by_key_by_drag_and_by_tap(page):
    layer, listing = page.locator(".toy-layer"), page.locator(".toy-code-text")
    layer.focus()
    page.keyboard.press("End")
    assert layer.get_attribute("aria-valuetext") == "behind three" and "blocks()[:3]" in listing.inner_text()
    page.keyboard.press("ArrowRight")
    assert layer.get_attribute("aria-valuenow") == "3", "behind the head there is no map"
    page.keyboard.press("ArrowLeft")
    assert layer.get_attribute("aria-valuenow") == "2"
    grip, picture = layer.bounding_box(), page.locator(".toy-picture svg").bounding_box()
    y = picture["y"] + picture["height"] / 2
    page.mouse.move(grip["x"] + grip["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(picture["x"] + 5, y, steps=5)
    page.mouse.up()
    assert layer.get_attribute("aria-valuenow") == "1"
    page.mouse.click(picture["x"] + picture["width"] - 5, y)
    assert layer.get_attribute("aria-valuenow") == "3"


def test_costs_follow_and_are_said(page, facts):
    page.locator(".toy-layer").focus()
    page.keyboard.press("Home")
    page.locator(".toy-choice input[value='4']").check(force=True)
    cost = facts["places"][0]["heads"][4]
    assert f"{cost['trained'] / 1e6:.2f} million" in page.locator(".toy-results tbody tr").nth(1).inner_text()
    page.wait_for_function("() => document.querySelector('.toy-said').textContent.startsWith('Behind one')")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_can_be_read_in_every_mode_and_width(page, mode):
    web.in_mode(page, mode)
    for width, size in (("phone", web.PHONE), ("desktop", web.DESKTOP)):
        web.in_size(page, size)
        web.picture(page, f"toy-place-{mode}-{width}")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert not web.violations(page, *(["color-contrast"] if mode == "dark" else []))
