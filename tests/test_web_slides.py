"""Slides that fill the screen one at a time, from a folder too, and print one a sheet; chapters print no solution.

Needs the site (`make book`) and Chromium, like the other pages' tests.
"""

import re

import pytest
import web
import website
from playwright.sync_api import expect

address, browser = web.address, web.browser  # fixtures


@pytest.fixture
def deck(browser):
    """The slides, opened from the folder of the built site: the teacher's laptop may have no server."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((website.SITE / "book" / "slides.html").as_uri())
    yield page
    page.close()
    assert not errors


def shown(page) -> str:
    """The heading of the slide that fills the screen."""
    heading = page.locator(".slide.now > h2")
    box = page.locator(".slide.now").bounding_box()
    view = page.viewport_size
    assert (box["width"], box["height"]) == (view["width"], view["height"])
    assert page.evaluate("() => document.activeElement.parentElement.matches('.slide.now, .slide.now *')")
    return heading.inner_text().strip("#")


def test_keys_turn_the_slides_and_escape_ends_them(deck):
    headings = [text.strip("#") for text in deck.locator(".slide > h2").all_inner_texts()]
    assert len(headings) > 10
    deck.click("#deck-start")
    assert shown(deck) == headings[0]
    for key, at in (("ArrowRight", 1), (" ", 2), ("PageDown", 3), ("ArrowLeft", 2), ("End", -1), ("Home", 0)):
        deck.keyboard.press(key)
        assert shown(deck) == headings[at], key
    assert deck.locator(".bd-header").evaluate("e => getComputedStyle(e).visibility") == "hidden"
    deck.keyboard.press("Escape")
    deck.wait_for_function("() => !document.documentElement.matches('.deck')")
    assert deck.is_visible(".bd-article > section > h1")


def test_buttons_turn_the_slides_too_and_stop_at_the_ends(deck):
    deck.click("#deck-start")
    assert deck.is_disabled("#deck-back")
    first = shown(deck)
    deck.click("#deck-next")
    assert shown(deck) != first
    deck.keyboard.press("End")
    assert deck.is_disabled("#deck-next")
    deck.click("#deck-leave")
    assert not deck.is_visible("#deck-bar")


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
def test_a_slide_has_room_for_all_that_is_on_it(deck, size):
    """On a small projector; where something does not fit, it would have to be scrolled before a class."""
    deck.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    deck.click("#deck-start")
    for _ in range(deck.locator(".slide").count()):
        over = deck.locator(".slide.now").evaluate("e => e.scrollHeight - e.clientHeight")
        assert over <= 0, shown(deck)
        deck.keyboard.press("PageDown")


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
def test_a_picture_to_move_has_room_for_what_came_of_the_guess(browser, address, size):
    page = browser.new_page()
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    page.goto(f"{address}/book/slides.html")
    page.locator(".toy-options button").first.wait_for(state="attached")
    page.click("#deck-start")
    while not page.locator(".slide.now .toy").count():
        page.keyboard.press("PageDown")
    page.locator(".slide.now .toy-options button").first.click()
    expect(page.locator(".slide.now .toy-outcome")).to_contain_text("The worst nudge")
    assert page.locator(".slide.now").evaluate("e => e.scrollHeight <= e.clientHeight")
    page.close()


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
def test_no_drawing_is_cut_to_a_frame_that_is_hidden(deck, size):
    """Two slides may define the same frame; a browser takes the first, and one that is hidden cuts all away."""
    deck.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    deck.click("#deck-start")
    frames = 0
    for _ in range(deck.locator(".slide").count()):
        frames += (
            found := deck.locator(".slide.now").evaluate(
                """slide => [...slide.querySelectorAll("[clip-path]")].map((drawn) => {
                const [, name] = drawn.getAttribute("clip-path").match(/#([^")]*)/);
                return getComputedStyle(document.getElementById(name).firstElementChild).visibility;
            })"""
            )
        ).count("visible")
        assert set(found) <= {"visible"}, shown(deck)
        deck.keyboard.press("PageDown")
    assert frames > 5


def test_an_address_opens_the_slide_that_it_names(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/book/slides.html?present#the-motion")
    page.wait_for_selector(".slide.now")
    assert shown(page) == "The motion"
    page.close()


def sheets(page) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True)))


def test_each_slide_is_printed_on_a_sheet_of_its_own(deck):
    assert sheets(deck) == deck.locator(".slide").count()
    deck.click("#deck-start")
    assert sheets(deck) == deck.locator(".slide").count()


def test_the_hand_out_is_three_sheets(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/book/handout.html", wait_until="networkidle")
    assert sheets(page) == 3
    page.close()


@pytest.mark.parametrize("asked, seen", [("", False), ("?solutions", True)])
def test_solutions_are_printed_only_where_the_address_asks_for_them(browser, address, asked, seen):
    page = browser.new_page()
    page.goto(f"{address}/book/08-attack-lab.html{asked}", wait_until="networkidle")
    page.emulate_media(media="print")
    solutions = page.locator("div.solution").all()
    assert solutions and all(solution.is_visible() is seen for solution in solutions)
    assert page.locator("div.exercise").first.is_visible()
    page.close()
