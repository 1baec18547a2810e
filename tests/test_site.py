"""The built site in a real browser: offline, complete, readable by all, its sliders showing what they should.

Needs the site (`make book`) and Chromium. Every request to another host fails, as it would without a network.
"""

import functools
import http.server
import os
import shutil
import threading
from dataclasses import dataclass, field

import pytest
import website
from playwright.sync_api import sync_playwright
from widget_state import WidgetState

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = website.ROOT / "artifacts"
AXE = website.WEB / "node_modules" / "axe-core" / "axe.min.js"
PAGE_LIMIT = 4e6  # bytes of HTML
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def address():
    """The site, served from this machine as a static host would."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    if not (website.SITE / "index.html").is_file():
        pytest.fail("There is no site to test: run `make book` first.")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(website.SITE))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        message = "No Chromium was found: install the package chromium (or google-chrome)."
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            headless=True,
            viewport=DESKTOP,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            ],
        )
        yield context
        context.close()


@dataclass
class Visit:
    """One page, open in the browser, and what went wrong on it so far."""

    name: str
    page: object
    external: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    errors: list = field(default_factory=list)


@pytest.fixture(scope="module", params=website.pages())
def visit(request, browser, address):
    page = browser.new_page()
    seen = Visit(request.param, page)
    own = (address, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else seen.external.append(r.url))
    page.on("response", lambda r: seen.missing.append(r.url) if r.status >= 400 else None)
    # A page that is loaded again gives up what it was still asking for: that is not missing.
    gone = "net::ERR_ABORTED"
    page.on("requestfailed", lambda r: None if r.failure == gone else seen.missing.append(r.url))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.goto(f"{address}/{request.param}.html", wait_until="networkidle")
    settle(page)
    yield seen
    page.close()


def settle(page):
    """Wait until formulas are set and every widget is drawn."""
    page.wait_for_function("window.MathJax === undefined || window.MathJax.startup.promise.then(() => true)")
    page.wait_for_function(
        """() => document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length
                 === document.querySelectorAll('.widget-subarea > *').length"""
    )


def in_mode(page, mode):
    page.emulate_media(color_scheme=mode)
    page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)


def test_every_page_of_the_contents_was_built():
    website.check_pages()


def test_page_is_light(visit):
    assert (website.SITE / f"{visit.name}.html").stat().st_size < PAGE_LIMIT


def test_every_image_says_what_it_shows(visit):
    images = visit.page.evaluate(
        "() => [...document.images].map(i => [i.getAttribute('alt') ?? '', i.src.slice(0, 80)])"
    )
    # Sphinx puts the file's name where an author gave no text.
    file = (".png", ".svg", ".jpeg")
    assert not [source for text, source in images if not text.strip() or text.endswith(file)]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_serious_accessibility_violation(visit, mode):
    in_mode(visit.page, mode)
    if not visit.page.evaluate("() => 'axe' in window"):
        visit.page.add_script_tag(path=AXE)
    # the page's own content; the list of references is Sphinx's markup
    found = visit.page.evaluate("() => axe.run({include: '.bd-article', exclude: '.citation-list'})")
    serious = [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_fits_the_screen(visit, mode, size):
    """No scrolling sideways; and a picture of the page for people to look at."""
    page = visit.page
    in_mode(page, mode)
    page.set_viewport_size(PHONE if size == "phone" else DESKTOP)
    SCREENSHOTS.mkdir(exist_ok=True)
    file = SCREENSHOTS / f"{visit.name.replace('/', '-')}-{mode}-{size}.png"
    page.screenshot(path=file, full_page=True, animations="disabled")
    width, visible = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    page.set_viewport_size(DESKTOP)
    assert width <= visible


def test_tab_reaches_every_slider(visit):
    page = visit.page
    sliders = page.locator(".noUi-handle:visible").count()
    page.evaluate("() => { const a = document.querySelector('.bd-article'); a.tabIndex = -1; a.focus() }")
    stops = page.locator(".bd-article :is(a, button, input, select, [tabindex])").count()
    where = "() => [...document.querySelectorAll('.noUi-handle')].indexOf(document.activeElement)"
    reached = set()
    for _ in range(stops if sliders else 0):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(where))
    assert len(reached - {-1}) == sliders


def test_every_slider_shows_the_right_picture(visit):
    """By key and by drag: what is visible afterwards is what the page's own data has for that position."""
    page, state = visit.page, WidgetState.of(visit.page)
    sliders = state.sliders()
    assert page.locator(".noUi-handle:visible").count() == len(sliders)
    for number, slider in enumerate(sliders):
        handle = page.locator(".noUi-handle:visible").nth(number)
        track = page.locator(".noUi-target:visible").nth(number)
        before = state.pictures()

        handle.focus()
        page.keyboard.press("ArrowRight")
        state.move(slider, state.position(slider) + 1)
        assert state.pictures() != before, f"slider {number} of {visit.name} is tied to no picture"
        state.expect_on(page)

        last = state.positions(slider) - 1
        for target in (last, last // 2):
            track.scroll_into_view_if_needed()
            grip, rail = handle.bounding_box(), track.bounding_box()
            middle = rail["y"] + rail["height"] / 2
            page.mouse.move(grip["x"] + grip["width"] / 2, middle)
            page.mouse.down()
            page.mouse.move(rail["x"] + rail["width"] * target / last, middle, steps=5)
            page.mouse.up()
            state.move(slider, target)
            state.expect_on(page)


def test_every_list_shows_the_right_picture(visit):
    page, state = visit.page, WidgetState.of(visit.page)
    page.reload(wait_until="networkidle")
    settle(page)
    lists = page.locator(".widget-dropdown select:visible")
    assert lists.count() == len(state.lists())
    for number, choice in enumerate(state.lists()):
        for position in (state.positions(choice) - 1, 0):
            lists.nth(number).select_option(index=position)
            state.move(choice, position)
            state.expect_on(page)


def test_nothing_went_wrong_meanwhile(visit):
    """Last, so that it also covers what the tests above made the page do."""
    assert not visit.external, "the page asked another host"
    assert not visit.missing, "a file of the site is missing"
    assert not visit.errors, "the page's scripts failed"
