"""The small pictures that a reader moves, in Chromium: by mouse, finger and keyboard, in every mode and width.

No built site is needed: the pages of these tests hold one picture each, with the book's own style sheet.
"""

import functools
import http.server
import re
import threading

import numpy as np
import pytest
import torch
import web
import website

from qlayer_core import attacks, data, models
from qlayer_core.show import pixels, why, zoom
from qlayer_core.study import experiments

browser = web.browser  # fixture

STATIC = website.ROOT / "book" / "_static"
NAMES = ("voronoi", "learn", "push", "slice", "chain", "zoom")
PAGE = """<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">
<title>{name}</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="_static/book.css"><style>
body {{ margin: 0; padding: 0 10px; font: 16px/1.65 sans-serif;
  color: var(--pst-color-text-base); background: var(--pst-color-background); }}
main {{ max-width: 46rem; margin: auto; }}</style></head>
<body><main class="bd-main"><article class="bd-article"><h1>{name}</h1>
<div data-toy="{name}" data-planes="{planes}" data-chain="{chain}" data-zoom='{zoom}'><p>What one would see.</p></div>
<script type="module" src="_static/toys/toys.js"></script></article></main></body></html>"""


def planes():
    """What the picture "slice" shows here: a 3, read as a 5 from 0.1 along the attacker's direction on."""
    answers = np.full((why.POINTS, why.POINTS), 3)
    answers[:, 15:] = 5
    grey, ones = torch.full((28, 28), 0.5), torch.ones(28, 28)
    plane = why.Plane(grey, 3, ones, ones, answers, np.ones_like(answers, float))
    return re.search(r'data-planes="([^"]*)"', why.slices([plane, plane]).html)[1]


PLANES = planes()
# Of the picture "chain": a pixel is most probably like its neighbours.
CHANCE = torch.tensor([[0.1, 0.5], [0.5, 0.9]]).expand(4, 4, 2, 2)
PIECES = [(1, torch.eye(4)), (7, torch.ones(4, 4).triu())]
CHAIN = re.search(r'data-chain="([^"]*)"', pixels.chain(CHANCE, PIECES).html)[1]


def entered():
    """What the picture "zoom" shows here: Q-base, untrained, with codes that lie among the features of two digits."""
    images, labels = data.load("mnist", "test", limit=2)
    net = models.build(experiments.spec("q-base")).eval()
    with torch.no_grad():
        panels = net.layer.project(net.encoder(images)).permute(0, 2, 3, 1).flatten(0, 2)
        net.layer.codebook[0] = panels[:: len(panels) // 64][:64]
    pushed = attacks.fgsm(attacks.surrogate(net), images, eps=0.1)
    markup = zoom.diagram(net, {"clean": images, "FGSM 0.1": pushed}, labels, ask="FGSM 0.1")
    with torch.no_grad():
        chosen = [net.layer(net.encoder(x)).indices[0].flatten(1).tolist() for x in (images, pushed)]
    return re.search(r"data-zoom='([^']*)'", markup.html)[1], labels.tolist(), chosen


ZOOM, DIGITS, CHOSEN = entered()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a page for each picture, served from this machine."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static").symlink_to(STATIC)
    for name in NAMES:
        (folder / f"{name}.html").write_text(PAGE.format(name=name, planes=PLANES, chain=CHAIN, zoom=ZOOM))
    handler = functools.partial(web.Host, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def visits(browser, site):
    """One open page per picture, nothing expected yet; `reduced motion`, so that nothing moves by itself."""
    found = {}
    for name in NAMES:
        page = browser.new_page()
        page.emulate_media(reduced_motion="reduce")
        found[name] = web.watch(name, page, site)
        page.goto(f"{site}/{name}.html")
        page.wait_for_selector(".toy[data-state=locked]")
    return found


@pytest.fixture
def opened(visits):
    """Return a picture's page, with a guess made."""

    def look(name):
        page = visits[name].page
        page.set_viewport_size(web.DESKTOP)
        if page.locator(".toy[data-state=locked]").count():
            page.locator(".toy-options button").first.click()
        return page

    return look


def look_at(page, name):
    """Check a page in both modes and widths."""
    for mode in ("light", "dark"):
        web.in_mode(page, mode)
        for width, size in (("phone", web.PHONE), ("desktop", web.DESKTOP)):
            web.in_size(page, size)
            web.picture(page, f"toy-{name}-{mode}-{width}")
            wide = page.evaluate("() => document.documentElement.scrollWidth > innerWidth")
            assert not wide, f"{name} scrolls sideways on a {width}"
        found = web.violations(page, *([] if mode == "light" else ["color-contrast"]))
        assert not found, found
    web.in_mode(page, "light")


@pytest.mark.parametrize("name", NAMES)
def test_guess_unlocks_and_stays(visits, name):
    page = visits[name].page
    look_at(page, f"{name}-locked")
    assert page.locator(".toy-body").evaluate("(body) => body.inert")
    assert not page.locator(".toy-results").is_visible(), "the numbers would give the answer away"
    guess = page.locator(".toy-options button").nth(1)
    words = guess.inner_text()
    guess.focus()
    page.keyboard.press("Enter")
    assert page.locator(".toy-guess b").inner_text() == f"You expected: {words}"
    assert page.locator(".toy-outcome").inner_text() != ""
    assert page.evaluate("() => document.activeElement.className") == "toy-body"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('.toy-body') !== null")
    look_at(page, name)


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts_a_sentence_stands(browser, site, name):
    context = browser.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{name}.html")
    assert page.get_by_text("What one would see.").is_visible()
    context.close()


def test_sentence_stays_where_the_picture_fails(browser, site):
    page = browser.new_page()
    page.route("**/digits.json", lambda route: route.fulfill(status=404))
    page.goto(f"{site}/push.html")
    page.wait_for_selector("[data-state=failed]")
    assert page.get_by_text("What one would see.").is_visible()
    page.close()


def middle(place):
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, mark, dx, dy):
    mark.scroll_into_view_if_needed()
    x, y = middle(mark)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def test_vector_and_codes_move_by_key_pointer_and_tap(opened):
    page = opened("voronoi")
    page.get_by_role("button", name="Start again").click()
    vector, code = page.locator(".toy-vector"), page.locator(".toy-code").nth(4)
    picture, numbers = page.locator(".toy-plane"), page.locator(".toy tbody")
    assert vector.get_attribute("aria-valuetext") == "0.37 across, 0.50 up, nearest code 4"
    vector.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert vector.get_attribute("aria-valuetext") == "0.47 across, 0.50 up, nearest code 5"
    page.keyboard.press("Shift+ArrowUp")
    assert vector.get_attribute("aria-valuetext").startswith("0.47 across, 0.50 up")
    before = numbers.inner_text()
    side = picture.bounding_box()["width"]
    drag(page, vector, 0.2 * side, 0)
    assert vector.get_attribute("aria-valuetext").startswith("0.67 across")
    assert numbers.inner_text() != before
    drag(page, code, 0, -0.1 * side)
    assert code.get_attribute("aria-valuetext") == "0.62 across, 0.68 up"
    box = picture.bounding_box()
    page.mouse.click(box["x"] + 0.9 * side, box["y"] + 0.06 * side)  # a tap on the plane
    assert vector.get_attribute("aria-valuetext") == "0.90 across, 0.94 up, nearest code 3"
    page.wait_for_function(  # it is said once the reader pauses
        "() => document.querySelector('.toy-said').textContent === document.querySelector('.toy-outcome').textContent"
    )
    assert len(page.locator(".toy-said").text_content()) > 40


@pytest.mark.parametrize("size", [web.DESKTOP, web.PHONE], ids=["desktop", "phone"])
def test_picture_stands_still_while_its_verdict_changes(opened, size):
    page = opened("voronoi")
    page.set_viewport_size(size)
    budget, picture = page.get_by_label("Budget: how far a nudge may go"), page.locator(".toy-plane")
    side, tops = picture.bounding_box()["width"], set()
    for eps, (x, y) in ((0.05, (0.3, 0.6)), (0.12, (0.4, 0.5)), (0.25, (0.45, 0.7))):
        budget.fill(str(eps))
        picture.click(position={"x": x * side, "y": (1 - y) * side}, force=True)
        top = "() => scrollY + document.querySelector('.toy-plane').getBoundingClientRect().top"
        tops.add(page.evaluate(top))
    assert len(tops) == 1


def test_a_finger_drags_a_code_and_scrolls_past_the_plane(opened):
    page = opened("voronoi")
    page.get_by_role("button", name="Start again").click()
    code = page.locator(".toy-code").first
    code.scroll_into_view_if_needed()
    x, y = middle(code)
    finger = {"pointerType": "touch", "clientX": x, "clientY": y, "bubbles": True}
    # No real finger has these numbers, and only a real one can be captured.
    page.evaluate("() => { Element.prototype.setPointerCapture = () => {}; }")
    before = code.get_attribute("aria-valuetext")
    code.dispatch_event("pointerdown", {**finger, "pointerId": 7})
    code.dispatch_event("pointermove", {**finger, "pointerId": 8, "clientX": x + 60})  # a second finger
    assert code.get_attribute("aria-valuetext") == before
    code.dispatch_event("pointermove", {**finger, "pointerId": 7, "clientX": x + 30})
    code.dispatch_event("pointerup", {**finger, "pointerId": 7})
    code.dispatch_event("pointermove", {**finger, "pointerId": 7, "clientX": x + 90})
    after = code.get_attribute("aria-valuetext")
    moved = float(after.split()[0]) - float(before.split()[0])
    assert moved == pytest.approx(30 / page.locator(".toy-plane").bounding_box()["width"], abs=0.011)
    actions = page.evaluate(
        "() => ['.toy-plane', '.toy-handle'].map((s) => getComputedStyle(document.querySelector(s)).touchAction)"
    )
    assert actions == ["pan-y", "none"]


def test_budget_decides_what_a_nudge_can_do(opened):
    page = opened("voronoi")
    page.get_by_role("button", name="Start again").click()
    budget = page.get_by_label("Budget: how far a nudge may go")
    outcome, worst = page.locator(".toy-outcome"), page.locator(".toy tbody tr").first
    budget.fill("0.05")
    assert budget.get_attribute("aria-valuetext") == "0.05"
    assert "here they all vanish" in outcome.inner_text()
    assert worst.inner_text().split("\t")[2:] == ["0.000", "no"]
    budget.fill("0.12")
    assert "takes code 4 to code 5" in outcome.inner_text()
    assert page.locator(".is-from").count() == page.locator(".is-to").count() == 1
    page.get_by_label("Square (L∞)").check()
    assert page.locator("rect.toy-budget").is_visible() and not page.locator("circle.toy-budget").is_visible()
    budget.fill("0")
    assert outcome.inner_text() == "A budget of 0 moves nothing."


def test_layer_learns_by_step_and_by_play_and_starts_anew(opened):
    page = opened("learn")
    chart, picture = page.locator(".toy-chart"), page.locator(".toy-plane")
    page.get_by_role("button", name="Reset").click()
    start, marks = picture.get_attribute("aria-label"), picture.inner_html()
    assert "after 1 step;" in start
    page.wait_for_timeout(100)
    assert picture.get_attribute("aria-label") == start, "with reduced motion nothing plays by itself"
    page.get_by_role("button", name="1 step", exact=True).click()
    assert "step 2" in chart.get_attribute("aria-label")
    page.get_by_role("button", name="1,000 steps").click()
    assert "shrunk together" in page.locator(".toy-outcome").inner_text()
    assert page.locator(".toy-results").inner_text().count("100 %") == 2
    play = page.get_by_role("button", name="Play")
    play.click()
    page.wait_for_function("() => !document.querySelector('.toy-chart').ariaLabel.includes('step 1002')")
    page.get_by_role("button", name="Pause").click()
    paused = chart.get_attribute("aria-label")
    page.wait_for_function("() => document.querySelector('.toy-said').textContent.startsWith('Step 1')")
    assert chart.get_attribute("aria-label") == paused
    page.get_by_role("button", name="Reset").click()
    assert picture.inner_html() == marks, "the same seed, the same start"
    assert page.locator(".toy-outcome").inner_text().startswith("After 1 step ")
    page.get_by_label("seed").select_option("3")
    assert picture.inner_html() != marks
    page.get_by_label("seed").select_option("0")


def test_play_goes_on_where_it_has_stopped_by_itself(opened):
    page = opened("learn")
    page.get_by_role("button", name="Reset").click()
    for _ in range(4):
        page.get_by_role("button", name="1,000 steps").click()
    play = page.get_by_role("button", name="Play")
    play.click()
    page.get_by_role("button", name="Pause").wait_for()
    play.wait_for()
    steps = int(page.locator(".toy-chart").get_attribute("aria-label").split()[3].rstrip(":"))
    assert 5001 <= steps < 5020
    page.get_by_role("button", name="Reset").click()


def test_switches_of_the_losses_reach_the_training(opened):
    page = opened("learn")
    page.get_by_role("button", name="Reset").click()
    commitment = page.get_by_role("checkbox", name="Commitment loss")
    commitment.uncheck()
    assert page.get_by_label("weight of the commitment loss").is_disabled()
    page.get_by_role("button", name="1,000 steps").click()
    assert "moved apart" in page.locator(".toy-outcome").inner_text()
    commitment.check()
    page.get_by_label("weight of the commitment loss").fill("3")
    page.get_by_label("Dropout in front").check()
    page.get_by_role("button", name="100 steps").click()
    jumped = page.locator(".toy-results tr", has_text="changed their code").locator("td").first.inner_text()
    assert float(jumped.split()[0]) > 10
    assert page.locator(".toy-outcome").inner_text().startswith("With dropout, ")
    page.get_by_label("Dropout in front").uncheck()
    assert "dropout" not in page.locator(".toy-outcome").inner_text()
    page.get_by_label("weight of the commitment loss").fill("1")


def test_inactive_codes_are_marked_and_can_be_renewed(opened):
    page = opened("learn")
    page.get_by_label("16").check()
    page.get_by_role("button", name="100 steps").click()
    marked = page.locator(".is-inactive").count()
    assert marked > 0
    assert f"{marked}\xa0of\xa016" in page.locator(".toy-results").inner_text()
    where = (
        "() => [...document.querySelectorAll('.is-inactive')].map((mark) => mark.getAttribute('transform'))"
    )
    before = page.evaluate(where)
    page.get_by_role("button", name="Pull").click()
    pulled = page.evaluate(where)
    assert all(a != b for a, b in zip(before, pulled, strict=True))
    page.get_by_role("button", name="Re-initialise").click()
    assert f"{marked} moved onto the closest feature." in page.locator(".toy-controls").inner_text()
    page.get_by_role("button", name="1 step", exact=True).click()
    assert page.locator(".is-inactive").count() < marked, "what lies on a feature is chosen again"
    page.get_by_label("8", exact=True).check()


def test_play_starts_after_the_guess_unless_motion_is_reduced(browser, site):
    page = browser.new_page()
    page.emulate_media(reduced_motion="no-preference")
    page.goto(f"{site}/learn.html")
    page.wait_for_selector(".toy[data-state=locked]")
    assert "after 1 step;" in page.locator(".toy-plane").get_attribute("aria-label")
    page.locator(".toy-options button").first.click()
    page.wait_for_function("() => !document.querySelector('.toy-plane').ariaLabel.includes('after 1 step;')")
    assert page.get_by_role("button", name="Pause").is_visible()
    page.close()


def test_design_fools_where_chance_does_not(opened):
    page = opened("push")
    outcome, eps = page.locator(".toy-outcome"), page.get_by_label("Epsilon")
    design, chance = (page.get_by_role("radio", name=f"By {way}") for way in ("design", "chance"))
    chance.check()
    eps.fill("0.2")
    assert outcome.inner_text().startswith("Pushed by chance") and "still a 4" in outcome.inner_text()
    design.check()
    assert "The 4 is read as a 7" in outcome.inner_text()
    assert page.locator(".toy.is-over").count() == 1
    eps.focus()
    while "read as a 7" in outcome.inner_text():
        page.keyboard.press("ArrowLeft")
    assert 0.1 < float(eps.get_attribute("aria-valuetext")) < 0.2
    eps.fill("0.2")
    pixels = page.get_by_label("Pixels that move")
    pixels.fill("100")
    assert pixels.get_attribute("aria-valuetext") == "100 of 784"
    assert "still a 4" in outcome.inner_text()
    page.get_by_label("a 7, number 3").check()
    pixels.fill("784")
    assert "The 7 is read as a 4" in outcome.inner_text()
    page.wait_for_function("() => document.querySelector('.toy-said').textContent.includes('read as a 4')")


def test_bar_shows_what_the_numbers_say(opened):
    """The stripes end where the push does, in units of the margin."""
    page = opened("push")
    page.get_by_label("a 4, number 1").check()
    page.get_by_role("radio", name="By design").check()
    page.get_by_label("Epsilon").fill("0.2")
    ends = page.evaluate(
        """() => {
            const box = (name) => document.querySelector(name).getBBox();
            const parts = [...document.querySelectorAll('.toy-part:not(.is-help)')].map((part) => part.getBBox());
            const end = Math.max(...parts.map(({x, width}) => x + width)), start = box('.toy-track').x;
            return [end - start, box('.toy-goal').x - start, box('.toy-bound').x - start];
        }"""
    )
    said = page.locator(".toy-bar").get_attribute("aria-label").split()
    total, margin = float(said[5].rstrip(",")), float(said[-1])
    assert ends[0] / ends[1] == pytest.approx(total / margin, abs=0.01)
    assert ends[2] > ends[0]


@pytest.mark.parametrize("name", NAMES)
def test_marks_show_in_forced_colours(opened, name):
    page = opened(name)
    page.emulate_media(forced_colors="active")
    web.picture(page, f"toy-{name}-forced")
    lost = page.evaluate(
        """() => {
            const ground = getComputedStyle(document.querySelector('.toy')).backgroundColor;
            const marks = '.toy-end, .toy-code > path, .toy-jump, .toy-curve, .toy-part, .toy-goal';
            return [...document.querySelectorAll(marks)].filter((mark) => {
                const {fill, stroke} = getComputedStyle(mark);
                return [fill, stroke].every((paint) => paint === 'none' || paint === ground);
            }).map((mark) => mark.getAttribute('class') ?? mark.outerHTML);
        }"""
    )
    page.emulate_media(forced_colors="none")
    assert not lost


@pytest.mark.parametrize("name", NAMES)
def test_nothing_went_wrong_meanwhile(visits, name):
    """Last, so that it also covers what the tests above made the pages do."""
    seen = visits[name]
    assert not seen.external, "the page asked another host"
    assert not seen.missing, "a file is missing"
    assert not seen.errors, "the page's scripts failed"


def test_a_walk_through_image_space_says_what_is_read_there(opened):
    page = opened("slice")
    dot, facts, outcome = (
        page.locator(".toy-vector"),
        page.locator(".toy tbody"),
        page.locator(".toy-outcome"),
    )
    assert "along the attacker's direction it changes 0.10 away" in outcome.inner_text()
    assert "along the random one it does not change" in outcome.inner_text()
    assert outcome.inner_text().startswith("The nearest wrong answer lies to the right")
    dot.focus()
    for _ in range(5):  # a fiftieth of the plane's side each, 0.012
        page.keyboard.press("ArrowRight")
    assert dot.get_attribute("aria-valuetext").endswith("read as 3")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert dot.get_attribute("aria-valuetext").startswith("0.12 along the attacker's direction, 0.00 along")
    assert dot.get_attribute("aria-valuetext").endswith("read as 5")
    assert page.locator(".toy.is-over").count() == 1
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    assert "0.24" in facts.inner_text(), "both directions take from the same budget"
    page.get_by_label("digit 3, number 2").check()
    assert dot.get_attribute("aria-valuetext").endswith("read as 3"), "another image starts clean"


def test_a_picture_is_guessed_pixel_by_pixel_and_flipped(opened):
    page = opened("chain")
    cells, facts, outcome = (
        page.locator(".toy-pixels button"),
        page.locator(".toy tbody"),
        page.locator(".toy-outcome"),
    )
    assert cells.first.is_disabled() and cells.nth(5).text_content() == ""
    page.get_by_role("button", name="Next is white").click()
    assert "row 1, column 1 is white" in outcome.inner_text()
    assert "expected white with 10 %, so this costs it 3.32 bits" in outcome.inner_text()
    page.get_by_role("button", name="Next is white").click()
    assert "1 of 2 right" in facts.inner_text()
    assert cells.nth(1).get_attribute("aria-label") == "row 1, column 2: black, 1.0 bits"
    page.get_by_role("button", name="Show all").click()
    before = cells.all_inner_texts()
    cells.nth(5).press("Enter")
    changed = [at for at, (a, b) in enumerate(zip(before, cells.all_inner_texts(), strict=True)) if a != b]
    assert set(changed) <= {5, 6, 9} and 6 in changed, "only what comes later notices"
    page.get_by_role("button", name="Add up all").click()
    assert facts.inner_text().split()[-1] == "1.000000000"
    assert "All 65,536 add up to 1.000000000" in outcome.inner_text(), "the question has no answer"
    page.get_by_role("button", name="Draw one").click()
    assert "16 of 16" in facts.inner_text()
    page.get_by_label("the middle of a 7").check()
    assert "0 of 16" in facts.inner_text()
    for _ in range(15):
        page.get_by_role("button", name="Next is white").press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Next is white"
    page.get_by_role("button", name="Next is white").press("Enter")
    assert page.evaluate("document.activeElement.closest('.toy-pixels') !== null"), (
        "the last guess lost the focus"
    )


def test_keys_lead_from_the_network_to_a_position_and_back(opened):
    page = opened("zoom")
    trail, outcome, cells = (
        page.locator(".zoom-trail button"),
        page.locator(".toy-outcome"),
        page.locator(".zoom-map button"),
    )
    trail.first.click()
    door = page.locator(".is-door")
    door.focus()
    page.keyboard.press("Enter")
    assert page.locator(".zoom-layer").is_visible() and trail.nth(1).get_attribute("aria-current") == "step"
    assert page.evaluate("() => document.activeElement.getAttribute('role')") == "gridcell"
    for key in (
        "Home",
        *["ArrowUp"] * 12,
        "ArrowRight",
        "ArrowDown",
        "ArrowDown",
    ):  # the first row is the end upwards
        page.keyboard.press(key)
    assert page.evaluate("() => document.activeElement.ariaLabel").startswith("row 3, column 2: code ")
    assert cells.locator("xpath=self::*[@aria-selected='true']").count() == 1
    assert page.locator(".zoom-map button[tabindex='0']").count() == 1, "one stop for the tab key"
    page.keyboard.press("Enter")
    assert page.locator(".zoom-formula").is_visible() and trail.nth(2).inner_text() == "Row 3, column 2"
    before = page.locator(".zoom-formula").inner_text()
    page.keyboard.press("ArrowDown")
    assert outcome.inner_text().startswith("Row 4, column 2: channel ")
    assert page.locator(".zoom-formula").inner_text() != before
    page.wait_for_function(
        "() => document.querySelector('.toy-said').textContent.startsWith('Row 4, column 2: ch')"
    )
    page.keyboard.press("Escape")
    assert page.locator(".zoom-layer").is_visible() and outcome.inner_text().startswith(
        "Row 4, column 2: code "
    )
    page.keyboard.press("Escape")
    assert page.locator(".zoom-net").is_visible()
    assert page.evaluate("() => document.activeElement.classList.contains('is-door')")
    trail.nth(2).press("Enter")
    assert page.locator(".zoom-formula").is_visible(), "the trail leads inwards, too"
    trail.first.press("Enter")
    assert page.locator(".zoom-net").is_visible()


def test_a_tap_opens_a_position_and_the_formula_names_its_codes(opened):
    page = opened("zoom")
    page.get_by_role("radio", name="FGSM 0.1").check()
    page.get_by_label(f"digit {DIGITS[0]}, number 1").check()
    page.locator(".zoom-trail button").first.click()
    page.locator(".is-door").click()
    at = next(at for at, (was, now) in enumerate(zip(CHOSEN[0][0], CHOSEN[1][0], strict=True)) if was != now)
    page.locator(".zoom-map button").nth(at).click()
    was, now = CHOSEN[0][0][at], CHOSEN[1][0][at]
    assert f"Code {now} is nearest" in page.locator(".toy-outcome").inner_text()
    assert page.locator(".toy-outcome").inner_text().endswith("a jump.")
    assert f"= {now}" in page.locator(".zoom-symbol").nth(3).inner_text()
    assert page.locator(".toy tbody td").first.inner_text().startswith(f"{was}, at ")
    page.get_by_role("radio", name="clean").check()
    assert f"Code {was} is nearest" in page.locator(".toy-outcome").inner_text()


def test_flips_are_marked_counted_and_said(opened):
    page = opened("zoom")
    cells, trail = page.locator(".zoom-map button"), page.locator(".zoom-trail button")
    for digit, label in enumerate(DIGITS):
        page.get_by_label(f"digit {label}, number {digit + 1}").check()
        page.get_by_role("radio", name="FGSM 0.1").check()
        clean, pushed = CHOSEN[0][digit], CHOSEN[1][digit]
        count = sum(was != now for was, now in zip(clean, pushed, strict=True))
        trail.first.click()
        assert page.locator(".toy-outcome").inner_text().startswith(f"FGSM 0.1 flips {count} of 144 codes")
        assert f"144 codes, {count} flipped" in page.locator(".is-door").inner_text()
        assert page.locator(".toy tbody tr").nth(1).inner_text().split("\t")[1] == f"{count} of 144"
        trail.nth(1).click()
        assert page.locator(".zoom-map .is-flipped").count() == count > 0
        for at, (was, now) in enumerate(zip(clean, pushed, strict=True)):
            words = f": code {now}" if was == now else f": code {now}, flipped from {was}"
            assert cells.nth(at).get_attribute("aria-label").endswith(words)
        page.get_by_role("radio", name="clean").check()
        assert page.locator(".zoom-map .is-flipped").count() == 0


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_can_be_read_in_every_mode_and_width(opened, level):
    page = opened("zoom")
    page.get_by_role("radio", name="FGSM 0.1").check()
    page.locator(".zoom-trail button").nth(level).click()
    look_at(page, f"zoom-{level}")
    page.set_viewport_size(web.PHONE)
    small = page.evaluate(
        """() => [...document.querySelectorAll('.toy *')]
            .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
            .filter((one) => parseFloat(getComputedStyle(one).fontSize) < 8).map((one) => one.outerHTML)"""
    )
    assert not small
    columns = page.locator(".zoom-net, .zoom-layer, .zoom-one").evaluate(
        "(stage) => getComputedStyle(stage).gridTemplateColumns"
    )
    assert len(columns.split()) == 1, "on a phone what belongs together stands one below the other"


def test_entering_moves_unless_motion_is_reduced(browser, site):
    page = browser.new_page()
    for wish, moves in (("reduce", 0), ("no-preference", 1)):
        page.emulate_media(reduced_motion=wish)
        page.goto(f"{site}/zoom.html")
        page.locator(".toy-options button").first.click()
        page.locator(".is-door").click()
        assert page.evaluate("() => document.querySelector('.zoom-stage').getAnimations().length") == moves
    page.close()
