"""The certificate: the page knows the grader's codes, and draws, prints and passes on what they say, in Chromium."""

import functools
import http.server
import threading
import urllib.parse

import pytest
import web
import website
from javascript import node

from qlayer_core import show
from qlayer_core.study import challenge
from qlayer_core.study.tasks import TASKS

browser = web.browser  # fixture

STATIC = website.ROOT / "book" / "_static"
NAMES = ("Ada", "", "  Zoë  ", "李 雷")
PAGE = f"""<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">
<title>Certificate</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="_static/book.css"><style>
body {{ font: 16px/1.65 sans-serif; color: var(--pst-color-text-base); background: var(--pst-color-background); }}
main {{ max-width: 46rem; margin: auto; }}</style></head>
<body><main class="bd-main"><article class="bd-article"><h1>Break it yourself</h1>
{show.challenge.certificate().html}
<script type="module" src="_static/certificate/certificate.js"></script></article></main></body></html>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static").symlink_to(STATIC)
    (folder / "page.html").write_text(PAGE)
    handler = functools.partial(web.Host, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_page_and_grader_write_the_same_codes():
    cases = [(task, right, name) for task in TASKS for right in (0.0, 12.5, 100.0) for name in NAMES]
    asked = [[task.number, round(10 * right), name] for task, right, name in cases]
    found = node(f"{asked}.map((one) => code.write(...one))", "code", folder=STATIC / "certificate")
    assert found == [challenge.code(*case) for case in cases]


def test_a_code_becomes_a_certificate_that_a_link_brings_back(browser, site):
    task = TASKS[0]
    page = browser.new_page()
    seen = web.watch("certificate", page, site)
    page.goto(f"{site}/page.html")
    page.get_by_label("Code").fill(challenge.code(task, 12.5, "Zoë").lower())
    page.get_by_label("Name").fill("Zoë")
    page.get_by_role("button", name="Draw the certificate").press("Enter")
    words = page.locator(".certificate-sheet").inner_text()
    assert all(part in words for part in ("Zoë", task.title, "12.5 %", f"{task.eps:g}", f"{task.target} %"))
    assert not web.violations(page)

    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy link").click()
    link = page.locator(".certificate-link").input_value()
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["name"] == ["Zoë"]
    other = browser.new_page()
    other.goto(link)
    assert other.locator(".certificate-sheet").inner_text() == words
    for mode in ("light", "dark"):
        web.in_mode(other, mode)
        for width, size in (("phone", web.PHONE), ("desktop", web.DESKTOP)):
            web.in_size(other, size)
            web.picture(other, f"certificate-{mode}-{width}")
            assert other.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert not web.violations(other, "color-contrast")
    assert not seen.errors and not seen.external
    page.close()
    other.close()


def test_only_the_certificate_is_printed(browser, site):
    page = browser.new_page()
    page.add_init_script("window.print = () => {}")
    query = urllib.parse.urlencode({"code": challenge.code(TASKS[1], 3.0, "Ada"), "name": "Ada"})
    page.goto(f"{site}/page.html?{query}")
    page.get_by_role("button", name="Print").click()
    page.emulate_media(media="print")
    assert page.locator(".certificate-paper").is_visible()
    assert not page.locator("main").is_visible()
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("main").is_visible() and not page.locator(".certificate-paper").count()
    page.close()


@pytest.mark.parametrize(
    ("code", "name", "answer"),
    [
        ("", "", "Paste the code"),
        ("Q1-0000-AAAAAA", "Ada", "no code that the grader gave to Ada"),
        (challenge.code(TASKS[0], 12.5, "Ada"), "Bob", "no code that the grader gave to Bob"),
        (challenge.code(TASKS[0], TASKS[0].target + 0.1, "Ada"), "Ada", "isn't broken yet"),
    ],
    ids=["empty", "invented", "another's", "not broken"],
)
def test_what_is_no_proof_becomes_no_certificate(browser, site, code, name, answer):
    page = browser.new_page()
    page.goto(f"{site}/page.html")
    page.get_by_label("Code").fill(code)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Draw the certificate").click()
    assert answer in page.locator(".certificate-said").inner_text()
    assert not page.locator(".certificate-sheet").count()
    page.close()
