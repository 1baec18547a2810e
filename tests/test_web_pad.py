"""A picture that the reader brings may take a while to be read: what the reader does meanwhile is newer, and stays.

Needs the site (`make book`) and Chromium, like the other pages' tests.
"""

import pytest
import test_lab
import web
from test_web_lab import CHECKED, chosen, picture, seven, stroke

address, browser, page = web.address, web.browser, test_lab.page  # fixtures

# Read slow.png when told to, and no sooner; `release` ends once the page has done all that it does with it.
HOLD = """
() => {
    const read = createImageBitmap;
    const told = new Promise(resolve => { window.tell = resolve; });
    window.createImageBitmap = (file, options) => {
        if (file.name !== 'slow.png') return read(file, options);
        window.late = told.then(() => read(file, options));
        return window.late;
    };
    window.release = async () => {
        tell();
        await late.catch(() => null);
        await new Promise(resolve => setTimeout(resolve));
    };
}
"""
PICTURES = "() => ['lab-ink', 'lab-clean'].map(id => document.getElementById(id).toDataURL())"
SHOWN = "() => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)))"  # a stroke waits for a frame


def bring(page, name, content):
    page.set_input_files("#lab-file", {"name": name, "mimeType": "image/png", "buffer": content})


def clear(page):
    page.click("#lab-clear")


def draw(page):
    stroke(page, [(0.2, 0.2), (0.8, 0.8)])


def bring_another(page):
    bring(page, "quick.png", picture(seven(width=40)))
    page.wait_for_function(f"() => document.querySelector('{CHECKED}').value === 'drawn'")


def seen(page):
    """What the reader sees: the choice, the pad, the clean image and the notice."""
    return chosen(page), *page.evaluate(PICTURES), page.inner_text("#lab-notice")


@pytest.mark.parametrize("content", [picture(seven()), b"no picture"], ids=["a 7", "no picture"])
@pytest.mark.parametrize("meanwhile", [clear, draw, bring_another])
def test_what_the_reader_does_while_a_picture_is_read_stays(page, meanwhile, content):
    page.evaluate(HOLD)
    bring(page, "slow.png", content)
    meanwhile(page)
    page.evaluate(SHOWN)
    before = seen(page)
    page.evaluate("() => release()")
    assert seen(page) == before


def test_a_slow_picture_comes_where_the_reader_waits(page):
    page.evaluate(HOLD)
    bring(page, "slow.png", picture(seven()))
    page.evaluate("() => release()")
    assert chosen(page) == "drawn"
