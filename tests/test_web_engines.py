"""The site in Firefox and WebKit: pages load in silence, sliders move, formulas are set, the lab answers.

In Chromium the other tests see to this. Needs the site (`make book`) and both engines (see .ci/run). At a desk, one
that is not installed is skipped.
"""

import engines
import pytest
import web
import website

# Put first into each page: what goes wrong on it, in a way that every engine tells.
RECORD = b"""<script>
window.wentWrong = [];
const tell = (e) => wentWrong.push(e.message || `missing: ${e.target.src || e.target.href}`);
const ahead = (node) => node.rel === "next"; // Firefox fetches the next page ahead, and gives up when busy
addEventListener("error", (e) => ahead(e.target) || tell(e), true);
addEventListener("unhandledrejection", (e) => wentWrong.push(`unhandled: ${e.reason}`));
const say = console.error;
console.error = (...words) => (wentWrong.push(words.join(" ")), say(...words));
</script>"""


class Recording(web.Host):
    def do_GET(self):  # noqa: N802, the library's name
        file = website.SITE / self.path.partition("?")[0].lstrip("/")
        if file.suffix != ".html" or not file.is_file():
            return super().do_GET()
        content = file.read_bytes().replace(b"<head>", b"<head>" + RECORD, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def address():
    with web.serve(Recording) as found:
        yield found


@pytest.fixture(scope="module", params=["firefox", "webkit"])
def engine(request):
    with getattr(engines, request.param)() as found:
        yield found


def visit(engine, address, page):
    engine.open(f"{address}/{page}.html")
    engine.wait("document.readyState === 'complete'")
    engine.wait(web.FORMULAS_SET)
    views = 'script[type="application/vnd.jupyter.widget-view+json"]'
    engine.wait(
        f"document.querySelectorAll('{views}').length === document.querySelectorAll('.widget-subarea > *').length"
    )


def went_wrong(engine, address):
    """What failed on the page, and what it asked of others."""
    asked = engine.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    own = (address, "data:", "blob:")
    return engine.run("window.wentWrong") + [f"asked {url}" for url in asked if not url.startswith(own)]


def move_a_slider(engine):
    """Press a key on the first slider: the picture changes, and the new value and what came of it are said."""
    seen = "[...document.querySelectorAll('.widget-subarea')].map((area) => area.innerText).join()"
    handle = "[...document.querySelectorAll('.noUi-handle')].find((h) => h.getClientRects().length)"
    before = engine.run(seen)
    engine.run(f"{handle}.focus()")
    engine.press("ArrowRight")
    readout = f"{handle}.closest('.widget-inline-hbox').querySelector('.widget-readout').textContent"
    engine.wait("document.getElementById('slider-result').textContent.length > 5")
    assert engine.run(f"{handle}.getAttribute('aria-valuetext') === {readout}")
    assert engine.run(seen) != before


def test_every_page_works_in_silence(engine, address):
    wrong = {}
    for page in website.pages():
        visit(engine, address, page)
        if engine.run("document.querySelector('.noUi-handle') !== null"):
            move_a_slider(engine)
        raw = engine.run(
            "[...document.querySelectorAll('.math')].filter((m) => !m.querySelector('mjx-container')).length"
        )
        wide = engine.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        found = (
            went_wrong(engine, address) + [f"{raw} formulas are not set"] * (raw > 0) + ["too wide"] * wide
        )
        if found:
            wrong[page] = found
    assert not wrong


def test_lab_starts_and_answers(engine, address):
    visit(engine, address, "book/08-attack-lab")
    engine.wait("!document.getElementById('lab-start').disabled")
    engine.run("document.getElementById('lab-start').click()")
    idle = "!('busy' in document.getElementById('lab').dataset) && document.querySelector('[data-verdict]') !== null"
    engine.wait(idle)
    attacked = "document.querySelector('.lab-card[data-role=attacked]').dataset.verdict"
    assert engine.run(attacked) == "fooled"
    engine.run("document.getElementById('lab-eps').focus()")
    engine.press("ArrowLeft")
    engine.wait(f"{idle} && {attacked} === 'holds'")

    # WebKit allows a hundred new addresses in ten seconds, and throws at the next: a slider can ask for more.
    engine.run(
        """void (() => {
            const slider = document.getElementById('lab-eps');
            for (let i = 0; i < 150; i++) {
                slider.value = (i % 30) / 100;
                slider.dispatchEvent(new Event('input', { bubbles: true }));
            }
        })()"""
    )
    engine.wait(f"{idle} && location.search.includes('eps=0.29')")
    engine.run(
        """void (() => {
            const pad = document.getElementById('lab-ink'), box = pad.getBoundingClientRect();
            const send = (kind, i) => {
                const [clientX, clientY] = [box.left + box.width / 2, box.top + box.height * (0.2 + i / 10)];
                pad.dispatchEvent(new PointerEvent(kind, { pointerId: 1, isPrimary: true, clientX, clientY }));
            };
            send('pointerdown', 0);
            for (let i = 1; i < 6; i++) send('pointermove', i);
            send('pointerup', 6);
        })()"""
    )
    engine.wait(f"{idle} && location.search.includes('image=ink.')")
    assert not went_wrong(engine, address)
