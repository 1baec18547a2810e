"""What a browser has stored, or won't store or run, can't break a page.

Needs the site (`make book`) and Chromium, like the other pages' tests.
"""

import pytest
import web
import website

address, browser = web.address, web.browser  # fixtures

# a page with formulas, and where there is one, with sliders
FORMULAS = next(
    page
    for page in sorted(website.pages())
    if (website.SITE / f"{page}.html").is_file()
    and b'class="math' in (website.SITE / f"{page}.html").read_bytes()
)
STORED = [
    ("MathJax-Menu-Settings", '{"renderer":"SVG"}'),
    ("MathJax-Menu-Settings", '{"explorer":true,"collapsible":true,"zoom":"Click","scale":"0"}'),
    ("MathJax-Menu-Settings", "no JSON"),
    ("mode", "sepia"),
    ("theme", "sepia"),
    ("theme", ""),
]


def look(page):
    """How many formulas are set and how many are not, and whether the page has its colours."""
    return page.evaluate(
        """() => ({
            raw: [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length,
            set: document.querySelectorAll('mjx-container mjx-mi').length,
            theme: document.documentElement.dataset.theme,
            text: getComputedStyle(document.body).color,
            link: getComputedStyle(document.querySelector('.bd-article p a')).color,
        })"""
    )


@pytest.mark.parametrize("name, value", STORED)
def test_stored_setting_breaks_no_page(browser, address, name, value):
    page = browser.new_page()
    page.add_init_script(f"localStorage.setItem({name!r}, {value!r})")
    seen = web.watch(FORMULAS, page, address)
    page.goto(f"{address}/{FORMULAS}.html")
    web.settle(page)
    found = look(page)
    page.evaluate("() => localStorage.clear()")
    page.close()
    assert found["raw"] == 0 and found["set"] > 0
    assert found["theme"] in ("light", "dark")
    assert found["text"] == "rgb(26, 32, 39)", "the page's own colour"
    assert not seen.missing + seen.external + seen.errors


def test_formulas_offer_nothing_that_is_not_there(browser, address):
    """No menu, whose entries would ask for files of other sites."""
    page = browser.new_page()
    page.goto(f"{address}/{FORMULAS}.html")
    web.settle(page)
    formula = page.locator("mjx-container").first
    formula.scroll_into_view_if_needed()
    formula.click(button="right")
    page.wait_for_timeout(200)
    offered = page.locator(".CtxtMenu_Menu, .CtxtMenu_MenuFrame").count()
    page.close()
    assert not offered


@pytest.fixture
def forgetful(browser):
    """A page of a browser that forbids to keep anything, as in a frame of somebody else's page."""
    page = browser.new_page()
    for store in ("localStorage", "sessionStorage"):
        page.add_init_script(
            f"Object.defineProperty(window, '{store}',"
            " {configurable: true, get() { throw new DOMException('no', 'SecurityError') }})"
        )
    yield page
    page.close()


def test_page_has_its_colours_where_nothing_is_stored(forgetful, address):
    forgetful.goto(f"{address}/{FORMULAS}.html")
    found = look(forgetful)
    assert found["theme"] == "light"
    assert found["text"] == "rgb(26, 32, 39)"


def test_buttons_work_where_nothing_is_stored(forgetful, address):
    forgetful.goto(f"{address}/{FORMULAS}.html")
    web.settle(forgetful)
    modes = []
    for _ in range(3):
        forgetful.locator(".theme-switch-button:visible").first.click()
        modes.append(forgetful.evaluate("() => document.documentElement.dataset.mode"))
    assert set(modes) == {"auto", "light", "dark"}
    forgetful.locator(".search-button__button:visible").first.click()
    assert forgetful.locator(".search-button__search-container input:visible, dialog input:visible").count()


def test_every_button_that_unfolds_is_called_after_what_it_unfolds(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/{FORMULAS}.html")
    page.wait_for_load_state("load")
    buttons = page.locator(".admonition > .toggle-button, .admonition-title > .toggle-button")
    names = [button.get_attribute("aria-label") for button in buttons.all()]
    titles = page.locator(".admonition.toggle > .admonition-title").all_text_contents()
    page.close()
    assert names and "Toggle hidden content" not in names
    assert all(any(name and name in title for title in titles) for name in names)


@pytest.mark.parametrize("name", website.pages())
def test_page_says_what_is_missing_without_scripts(browser, address, name):
    """Text and figures are there; where something needs JavaScript, the page says so, and where."""
    html = (website.SITE / f"{name}.html").read_text()
    context = browser.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{name}.html")
    words = page.locator("body").inner_text()
    needs = 'class="math' in html or "vnd.jupyter.widget-view" in html or 'id="lab"' in html
    voids = page.locator("//div[contains(@class, 'cell_output')][.//script[contains(@type, 'widget-view')]]")
    said = [void.evaluate("e => getComputedStyle(e, '::after').content") for void in voids.all()]
    buttons = page.locator("#lab button:visible").count()
    context.close()
    assert ("JavaScript is switched off" in words) == needs
    assert all("needs JavaScript" in text for text in said)
    assert not buttons, "controls that do nothing"
