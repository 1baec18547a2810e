"""The diagram with four switches: its words, picture and numbers follow them, by key, in every mode and width."""

import pytest
import web
from javascript import node

from qlayer_core.show import switches

browser = web.browser  # fixture
COUNTS = switches.counts()


def state(how: str) -> str:
    return str(dict(zip(("position", "tails", "heads", "codes"), how.split(), strict=True)))


def test_words_name_the_network_and_its_costs():
    found = node(
        f"inside.sentence({{{packed('after separate 4 64')}}}, {state('after separate 4 64')})", "inside"
    )
    one = COUNTS["after separate 4 64"]
    assert found.startswith("This is Q-large. ") and f"{one['trained'] / 1e6:.2f} million" in found
    assert (
        "4 heads choose among 64 codes: at most 3,456 bits" in found
        and "of its two tails one answers" in found
    )
    shared = node(
        f"inside.sentence({{{packed('between shared 1 16')}}}, {state('between shared 1 16')})", "inside"
    )
    assert shared.startswith("The paper has no such network. ") and "one tail serves both paths" in shared
    assert "positions 1 head chooses among 16 codes" in shared


def packed(how: str) -> str:
    one = COUNTS[how]
    numbers = ", ".join(f"{name}: {one[name]}" for name in ("trained", "deployed", "side", "bits"))
    return f"'{how}': {{{numbers}, name: '{one['name']}'}}"


@pytest.mark.parametrize("codes", switches.SIZES)
def test_a_head_has_a_square_for_each_code_within_its_card(codes):
    path = node(f"inside.dots({codes}, [10, 5, 13, 7])", "inside")
    corners = [tuple(map(float, part.split("h")[0].split(","))) for part in path.split("M")[1:]]
    assert len(set(corners)) == codes
    assert all(10 <= x <= 23 and 5 <= y <= 12 for x, y in corners)


def test_between_the_convolutions_the_second_belongs_to_the_tails():
    assert node("[inside.order('after'), inside.order('between')]", "inside") == [
        [["image", "conv 1", "conv 2"], ["linear"]],
        [["image", "conv 1"], ["conv 2", "linear"]],
    ]


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    with web.toy_page(
        browser, tmp_path_factory.mktemp("site"), "inside", switches.toy(COUNTS).html
    ) as opened:
        yield opened


def test_switches_are_turned_by_key_and_the_picture_follows(page):
    picture, outcome = page.locator(".toy-picture svg"), page.locator(".toy-outcome")
    assert outcome.inner_text().startswith("This is Q-base.")
    page.locator("input[value='1']").focus()
    page.keyboard.press("ArrowRight")
    assert outcome.inner_text().startswith("This is a cell of the paper's Table 8.")  # two heads of 64 codes
    page.keyboard.press("ArrowRight")
    assert outcome.inner_text().startswith("This is Q-large.") and page.locator(".toy-card").count() == 4
    page.locator("input[value='after']").focus()
    page.keyboard.press("ArrowRight")
    assert outcome.inner_text().startswith("This is Q-inner.")
    assert "image, conv 1, the layer with 4 heads of 64 codes" in picture.get_attribute("aria-label")
    assert page.locator(".toy-block").count() == 2 + 2 * 2, "both tails have the second convolution"
    page.locator("input[value='separate']").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".toy-block").count() == 2 + 2 and "both paths share" in picture.get_attribute(
        "aria-label"
    )
    yours = page.locator(".toy-results tbody tr").nth(2).inner_text()
    assert f"{COUNTS['between shared 4 64']['trained'] / 1e6:.2f} million" in yours
    page.wait_for_function(
        "() => document.querySelector('.toy-said').textContent.includes('one tail serves both')"
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_can_be_read_in_every_mode_and_width(page, mode):
    web.in_mode(page, mode)
    for tails in ("separate", "shared"):
        page.locator(f"input[value='{tails}']").check(force=True)
        for width, size in (("phone", web.PHONE), ("desktop", web.DESKTOP)):
            web.in_size(page, size)
            web.picture(page, f"toy-inside-{tails}-{mode}-{width}")
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert not web.violations(page, *(["color-contrast"] if mode == "dark" else []))
