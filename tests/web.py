"""What the tests of the built site share: a static host, a browser that reaches nothing else, ways to look."""

import contextlib
import functools
import gzip
import http.server
import os
import shutil
import threading
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import website
from playwright.sync_api import sync_playwright

# The first answers a key or a pointer at once, where the whole browser waits for its next frame.
NAMES = "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SCREENSHOTS = website.ROOT / "artifacts"
AXE = website.WEB / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 180  # seconds for a page to become what it should, on a machine that does much else
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Host(http.server.SimpleHTTPRequestHandler):
    """A plain static host, one of those that answer nothing but GET."""

    def do_HEAD(self):
        self.send_error(405)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(handler: type = Host, folder: Path | None = None):
    """Serve the site, or another folder, from this machine; yield its address."""
    if folder is None and not (website.SITE / "index.html").is_file():
        pytest.fail("There is no site to test: run `make book` first.")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder or website.SITE))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def missing(message: str) -> None:
    """Skip a test for want of a program; where everything must be there, fail."""
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture(scope="module")
def address():
    with serve() as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    """A browser for which every other host does not exist, as it would be without a network."""
    if CHROMIUM is None:
        missing(f"No Chromium was found: install one of {', '.join(NAMES)}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
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
        context = browser.new_context(viewport=DESKTOP)
        context.set_default_timeout(1000 * PATIENCE)
        yield context
        browser.close()


@dataclass
class Visit:
    """One page, open in the browser, what it asked for, and what went wrong on it so far."""

    name: str
    page: object
    asked: list = field(default_factory=list)
    external: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    errors: list = field(default_factory=list)


def watch(name: str, page, address: str) -> Visit:
    """Keep a record of what a page does from now on."""
    seen = Visit(name, page)
    own = (address, "data:", "blob:")
    page.on("request", lambda r: (seen.asked if r.url.startswith(own) else seen.external).append(r.url))
    page.on("response", lambda r: seen.missing.append(r.url) if r.status >= 400 else None)
    # A page that is loaded again gives up what it was still asking for: that is not missing.
    gone = "net::ERR_ABORTED"
    page.on("requestfailed", lambda r: None if r.failure == gone else seen.missing.append(r.url))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    return seen


# A page without formulas has MathJax's settings, but not MathJax; on a heavy one it comes late.
FORMULAS_SET = (
    """!document.querySelector('script[src*="mathjax"]')"""
    " || window.MathJax?.startup?.promise?.then(() => true)"
)


def settle(page) -> None:
    """Wait until formulas are set and every widget is drawn."""
    page.wait_for_function(FORMULAS_SET)
    page.wait_for_function(
        """() => document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length
                 === document.querySelectorAll('.widget-subarea > *').length"""
    )


def in_mode(page, mode: str) -> None:
    """Put a page into light or dark mode, at once: colours that fade in would be judged halfway."""
    page.emulate_media(color_scheme=mode)
    page.evaluate(
        """mode => {
            document.documentElement.dataset.theme = mode;
            const fading = document.getAnimations().filter(a => a.effect.getComputedTiming().endTime < Infinity);
            fading.forEach(animation => animation.finish());
        }""",
        mode,
    )


def in_size(page, size: dict) -> None:
    """Give a page another size, and time to take note of it."""
    page.set_viewport_size(size)
    page.wait_for_timeout(50)


def picture(shown, name: str) -> None:
    """Leave a picture of a page, or of a part of it, for people to look at: where PICTURES asks for them.

    They take two minutes and show nothing to a machine.
    """
    if not os.environ.get("PICTURES"):
        return
    SCREENSHOTS.mkdir(exist_ok=True)
    whole = {} if hasattr(shown, "page") else {"full_page": True}
    # a JPEG takes half the time of a PNG
    shown.screenshot(path=SCREENSHOTS / f"{name}.jpg", quality=80, animations="disabled", **whole)


def violations(page, *rules: str, inside: str = ".bd-article", but: str = ".citation-list") -> str:
    """Return what axe finds serious, one finding a line; with rules, by these alone.

    The list of references is Sphinx's markup, and left out.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=AXE)
    options = {"runOnly": list(rules)} if rules else {}
    found = page.evaluate(
        "([where, options]) => axe.run(where, {...options, resultTypes: ['violations']})",
        [{"include": inside, "exclude": but}, options],
    )
    return "\n".join(
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    )


@contextlib.contextmanager
def toy_page(browser, folder: Path, name: str, html: str):
    """Open a page of its own that holds one toy, in ``folder``, with its first question answered; yield the page."""
    (folder / "_static").symlink_to(website.ROOT / "book" / "_static")
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">'
        f'<title>{name}</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="_static/book.css"><style>'
        "body { margin: 0; padding: 0 10px; font: 16px/1.65 sans-serif;"
        " color: var(--pst-color-text-base); background: var(--pst-color-background) }"
        " main { max-width: 46rem; margin: auto }</style></head><body><main class='bd-main'>"
        f"<article class='bd-article'><h1>{name}</h1>{html}"
        "<script type='module' src='_static/toys/toys.js'></script></article></main></body></html>"
    )
    with serve(folder=folder) as address:
        page = browser.new_page()
        page.emulate_media(reduced_motion="reduce")
        seen = watch(name, page, address)
        page.goto(f"{address}/page.html")
        page.wait_for_selector(".toy[data-state=locked]")
        assert not page.locator(".toy-results").is_visible(), "the numbers would give the answer away"
        page.locator(".toy-options button").first.click()
        yield page
        assert not seen.errors and not seen.external and not seen.missing
        page.close()


def loaded_bytes(urls: list[str]) -> dict[str, int]:
    """Return how much a page has loaded, by file of the site, in bytes: text packed, the rest not."""
    sizes = {}
    for url in urls:
        file = website.SITE / urllib.parse.unquote(urllib.parse.urlsplit(url).path).lstrip("/")
        if url.startswith("http") and file.is_file():
            sizes[str(file)] = sent_bytes(file, file.stat().st_mtime_ns)
    return sizes


@functools.cache  # every page loads the same scripts
def sent_bytes(file: Path, modified: int) -> int:
    """Return the size of a file as web hosts send it; ``modified`` tells a new file from an old one of its name."""
    content = file.read_bytes()
    packed = file.suffix in (".html", ".js", ".mjs", ".css", ".svg", ".json")
    return len(gzip.compress(content, 6)) if packed else len(content)
