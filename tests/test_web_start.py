"""The start page's mini-lab in a real browser: a guess before the slider, what it then shows, links, one's own digit.

The page here holds the mini-lab alone, with made-up answers, so that it is known which network falls where; the
reader's own digit is answered by two small networks. Needs Chromium, and the scripts that `make book` fetches.
"""

import base64
import json
import re
import shutil
import urllib.parse

import numpy as np
import pytest
import start
import torch
import web
import website
from conftest import small_q_net

browser = web.browser  # fixture

# By class, the position at which the CNN and Q-base are first wrong; 41 is never.
FALLS = {
    0: (12, 20),
    1: (20, 5),
    2: (10, 10),
    3: (41, 41),
    4: (8, 41),
    **{digit: (14, 22) for digit in range(5, 10)},
}
RECOVERED = 15  # from here on the CNN reads the 4 correctly again
OPENING = 7
COUNTS = {"images": 200, "cnn": 120, "q-base": 50, "together": 10, "neither": 20}
RUNTIME = website.ROOT / "vendor" / "onnxruntime"


def answers_of(label: int, at: int) -> dict:
    """Made-up answers, 90 % sure, of a network that is first wrong at a position."""
    classes = [label if i < at else (label + 1) % 10 for i in range(41)]
    if label == 4 and at == 8:
        classes[RECOVERED:] = [4] * (41 - RECOVERED)
    probabilities = np.full((41, 10), 3, np.uint8)
    probabilities[range(41), classes] = 230
    return {"class": "".join(map(str, classes)), "probabilities": base64.b64encode(probabilities).decode()}


def made_up(digits, networks=start.NETWORKS) -> dict:
    """What start.py would write, of answers that are known."""
    signs = np.random.default_rng(0).integers(0, 3, (10, 784), np.uint8)
    chosen = [int((digits.labels == label).nonzero()[0]) for label in range(10)]
    found = []
    for label, index in enumerate(chosen):
        pixels = (255 * digits.images[index]).round().byte().numpy()
        by_name = dict(zip(start.NETWORKS, FALLS[label], strict=True))
        found.append(
            {
                "label": label,
                "index": index,
                "pixels": base64.b64encode(pixels).decode(),
                "signs": base64.b64encode(signs[label]).decode(),
                "answers": {name: answers_of(label, by_name[name]) for name in networks},
            }
        )
    missing = [name for name in start.NETWORKS if name not in networks]
    return {
        "epsilons": start.EPSILONS,
        "networks": list(networks),
        "missing": missing,
        "opening": OPENING,
        "digits": found,
        "counts": COUNTS,
    }


@pytest.fixture(scope="module")
def networks(trained_cnn):
    """The two networks that answer the reader's own digit, by name."""
    torch.manual_seed(0)
    return {"cnn": trained_cnn, "q-base": small_q_net(heads=1).eval()}


@pytest.fixture(scope="module")
def site(tmp_path_factory, digits):
    """A folder with a page of the mini-lab alone, and all that it may ask for but the networks."""
    if not RUNTIME.is_dir():
        web.missing("The page's scripts are not there: run `make book` first.")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(website.ROOT / "book" / "_static", folder / "_static")
    shutil.copytree(RUNTIME, folder / "_static" / "onnxruntime")
    (packed,) = (folder / "_static" / "onnxruntime").glob("*.wasm.bin")
    (packed.parent / "files.json").write_text(json.dumps({packed.name: packed.stat().st_size}))
    write_page(folder, made_up(digits))
    return folder


@pytest.fixture(scope="module")
def packs(site, networks, digits):
    """The networks that the page can load, in the site."""
    import export  # the exporter takes its time

    entries = []
    for name, network in networks.items():
        content, layout = export.pack(export.network(network, digits.images[:64]))
        (site / "_static" / "lab" / f"{name}.bin").write_bytes(content)
        paths = ["logits"] if name == "cnn" else ["q", "e"]
        entries.append({"name": name, "file": f"{name}.bin", "bytes": len(content), "paths": paths, **layout})
    manifest = {"datasets": {"mnist": {"networks": entries}}}
    (site / "_static" / "lab" / "manifest.json").write_text(json.dumps(manifest))
    return entries


def write_page(folder, found: dict) -> None:
    """Write the page of the mini-lab, as the book's source has it, for these data."""
    blocks = re.findall(r"^```\{raw\} html\n(.*?)^```$", website.INTRO.read_text(), re.S | re.M)
    included = {
        ":file: ../vendor/start/still.html\n": start.still(found),
        ":file: ../vendor/start/found.html\n": "",
    }
    html = "".join(included.get(block, block) for block in blocks)
    (folder / "book").mkdir()
    (folder / "book" / "intro.html").write_text(
        f"""<!doctype html><html lang="en" data-mode="auto"><head><meta charset="utf-8"><title>Start</title>
        <meta name="viewport" content="width=device-width"><link rel="icon" href="../_static/favicon.svg">
        <link rel="stylesheet" href="../_static/book.css"><script src="../_static/page.js"></script>
        <style>body {{ margin: 0 1rem; color: var(--pst-color-text-base); background: var(--pst-color-background);
        font: 16px sans-serif }} * {{ box-sizing: border-box }} .visually-hidden {{ position: absolute; width: 1px;
        height: 1px; overflow: hidden; clip-path: inset(50%) }}
        </style></head><body><main class="bd-article"><h1>Start</h1>{html}</main></body></html>"""
    )
    (folder / "_static" / "start" / "start.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def address(site):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(website, "SITE", site)
        (site / "index.html").touch()
        with web.serve() as found:
            yield found


@pytest.fixture
def visit(browser, address):
    """The start page, just opened; afterwards nothing must have gone wrong on it."""
    page = browser.new_page()
    seen = web.watch("start", page, address)
    seen.home = f"{address}/book/intro.html"
    opened(page, seen.home)
    yield seen
    page.close()
    assert (seen.external, seen.missing, seen.errors) == ([], [], [])


def opened(page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#start-live:visible")


def guess(page, value: str) -> None:
    page.click(f"#start-guess button[value='{value}']")


def move(page, position: int) -> None:
    page.locator("#start-eps").fill(str(position))


def choose(page, label: int) -> None:
    page.check(f"#start-digits input[value='{label}']", force=True)


def cards(page) -> dict[str, str]:
    """What each network's card says: its answer and the verdict."""
    return {
        card.get_attribute("data-network"): " ".join(card.locator(".start-answer").inner_text().split())
        for card in page.locator(".start-card").all()
    }


def shown(page, selector: str = "#start-image") -> np.ndarray:
    """The grey levels of a canvas, (784,)."""
    levels = page.eval_on_selector(
        selector, "canvas => [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    return np.array(levels).reshape(784, 4)[:, 0]


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).astype(int)


# ---- First a guess, then the slider


def test_nothing_moves_before_a_guess(visit):
    page = visit.page
    assert page.is_disabled("#start-eps")
    assert page.locator("#start-guess button:visible").count() == 3
    assert cards(page) == {"cnn": "7 ✓ right", "q-base": "7 ✓ right"}
    assert page.inner_text("#start-outcome") == "The slider waits for your guess."
    guess(page, "q-base")
    assert page.is_enabled("#start-eps")
    assert page.evaluate("document.activeElement.id") == "start-eps"
    assert not page.locator("#start-guess").is_visible()
    assert page.inner_text("#start-outcome") == "Your guess: Q-base falls first. Now move the slider."


@pytest.mark.parametrize(
    ("label", "right", "says"),
    [
        (0, "cnn", "The plain CNN falls first, at 0.12; Q-base falls at 0.20."),
        (1, "q-base", "Q-base falls first, at 0.05; the plain CNN falls at 0.20."),
        (2, "together", "Both fall at 0.10."),
        (3, "", "Up to 0.40, neither falls."),
        (4, "cnn", "The plain CNN falls first, at 0.08; Q-base holds up to 0.40."),
    ],
)
def test_the_guess_stays_beside_what_happened(visit, label, right, says):
    page = visit.page
    for value in ("cnn", "q-base", "together"):
        guess(page, value)
        choose(page, label)
        move(page, 40)
        text = page.inner_text("#start-outcome")
        assert text.startswith("Your guess: ")
        assert ("✓" in text, "✗" in text) == (value == right, value != right)
        assert says in text
        assert "on 200 test images? The plain CNN falls first on 60\xa0%, Q-base on 25\xa0%" in text
        marked = page.locator(".start-mine").all_inner_texts()
        assert marked == [("your guess" if value in (name, "together") else "") for name in start.NETWORKS]
        page.click("#start-again")
        assert page.is_disabled("#start-eps")


def test_the_outcome_is_told_when_the_reader_gets_there_and_not_before(visit):
    page = visit.page
    guess(page, "cnn")
    move(page, 13)
    assert "Now move the slider" in page.inner_text("#start-outcome")
    assert page.locator(".start-strip i.right").count() == 2 * 14
    page.keyboard.press("ArrowRight")
    assert "✓ The plain CNN falls first, at 0.14; Q-base still holds." in page.inner_text("#start-outcome")
    assert cards(page) == {"cnn": "8 ✗ wrong", "q-base": "7 ✓ right"}
    move(page, 2)  # what has been seen stays
    assert "falls first, at 0.14" in page.inner_text("#start-outcome")
    assert page.locator(".start-strip i.wrong").count() == 1
    assert cards(page) == {"cnn": "7 ✓ right", "q-base": "7 ✓ right"}


def test_a_network_that_recovers_has_fallen(visit):
    page = visit.page
    guess(page, "cnn")
    choose(page, 4)
    move(page, RECOVERED)
    assert cards(page)["cnn"] == "4 ✓ right"
    assert page.locator(".start-strip[data-network='cnn'] i.wrong").count() == RECOVERED - 8
    assert "falls first, at 0.08" in page.inner_text("#start-outcome")


def test_the_picture_is_the_attacked_digit(visit, digits):
    page, found = visit.page, made_up(digits)
    guess(page, "cnn")
    for label, at in ((7, 0), (7, 40), (3, 11)):
        choose(page, label)
        move(page, at)
        digit = found["digits"][label]
        moved = bytes_of(digit["pixels"]) / 255 + at / 100 * (bytes_of(digit["signs"]) - 1)
        assert np.abs(shown(page) - 255 * moved.clip(0, 1)).max() <= 1
        says = "as it is" if at == 0 else f"each pixel moved by up to {at / 100:.2f}"
        assert page.inner_text("#start-caption") == f"A handwritten {label}, {says}"


def test_a_strip_lies_under_the_slider(visit):
    """The handle's middle is above the middle of the position's cell, at both ends."""
    page = visit.page
    rail = page.locator("#start-eps").bounding_box()
    strip = page.locator(".start-strip").first
    for number, middle in ((0, rail["x"] + 10), (40, rail["x"] + rail["width"] - 10)):
        cell = strip.locator("i").nth(number).bounding_box()
        assert cell["x"] + cell["width"] / 2 == pytest.approx(middle, abs=1)


# ---- Links


def test_a_link_brings_back_digit_epsilon_and_guess(visit):
    page = visit.page
    guess(page, "together")
    choose(page, 2)
    move(page, 11)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#start-share")
    page.wait_for_function("document.getElementById('start-share').textContent === 'Link copied'")
    link = page.evaluate("navigator.clipboard.readText()")
    page.context.clear_permissions()
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link).query))
    assert asked == {"digit": "2", "eps": "0.11", "guess": "together"}
    parts = ("#start-caption", "#start-answers", "#start-strips", "#start-outcome")
    before = [page.inner_text(part) for part in parts]
    opened(page, link)
    assert [page.inner_text(part) for part in parts] == before
    assert page.input_value("#start-eps") == "11"


@pytest.mark.parametrize(
    "query",
    [
        "digit=77&eps=x&guess=me",
        "digit=-1&eps=NaN&guess=",
        "digit=%E0%A4%A&eps=1e999&guess=constructor",
        "eps=0.3",  # without a guess: the slider stays where it is
        "digit=ink.short&eps=-3",
        f"digit=ink.{'!' * 1046}",
        "&&&=&digit",
    ],
)
def test_a_bad_address_opens_the_page_as_if_it_were_none(visit, query):
    opened(visit.page, f"{visit.home}?{query}")
    assert visit.page.is_disabled("#start-eps")
    assert visit.page.input_value("#start-eps") == "0"
    assert visit.page.inner_text("#start-caption") == "A handwritten 7, as it is"


@pytest.mark.parametrize(("eps", "position"), [("0.4", 40), ("7", 40), ("0.125", 13), ("-1", 0), ("", 0)])
def test_an_epsilon_of_an_address_is_put_on_the_slider(visit, eps, position):
    opened(visit.page, f"{visit.home}?digit=1&eps={eps}&guess=cnn")
    assert visit.page.input_value("#start-eps") == str(position)
    assert visit.page.inner_text("#start-eps-text") == f"{position / 100:.2f}"


def test_a_hundred_moves_write_the_address_once(visit):
    """WebKit throws past a hundred writes in ten seconds; a browser that throws at once does no harm, either."""
    page = visit.page
    page.evaluate(
        "() => { window.writes = 0; history.replaceState = () => { writes++; throw new DOMException('too often') } }"
    )
    guess(page, "cnn")
    page.evaluate(
        """() => {
            const slider = document.getElementById('start-eps');
            for (let i = 0; i < 100; i++) {
                slider.value = i % 41;
                slider.dispatchEvent(new Event('input', { bubbles: true }));
            }
        }"""
    )
    page.wait_for_timeout(600)
    assert page.evaluate("writes") == 1
    assert page.inner_text("#start-eps-text") == "0.17"


def test_where_there_is_no_clipboard_the_link_is_shown_and_marked(visit):
    """As over plain http."""
    page = visit.page
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("() => { document.execCommand = () => false }")
    guess(page, "cnn")
    page.click("#start-share")
    page.wait_for_selector("#start-link:visible")
    assert page.inner_text("#start-share") == "Copy the marked link"
    marked = page.evaluate("() => getSelection().toString() || document.activeElement.value")
    assert marked.endswith("?digit=7&eps=0.00&guess=cnn")


# ---- The reader's own digit


def own_digit(page, position: int) -> tuple[np.ndarray, dict[str, str]]:
    """Draw a stroke off the middle of the pad, and move; return the clean image and what the networks say."""
    pad = page.locator("#lab-ink").bounding_box()
    x, y = pad["x"] + 0.35 * pad["width"], pad["y"] + 0.15 * pad["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y + 60, steps=4)
    page.mouse.move(x + 10, y + 110, steps=4)
    page.mouse.up()
    studied(page)
    move(page, 0)
    clean = shown(page)
    move(page, position)
    return clean, cards(page)


def studied(page) -> None:
    """Wait until each position of the slider is answered."""
    page.wait_for_timeout(100)  # a stroke's last image comes with the next frame
    page.wait_for_function("!('busy' in document.getElementById('start-live').dataset)")


def loaded(page) -> None:
    page.click("#start-draw")
    page.wait_for_selector("#start-load:enabled")
    page.click("#start-load")
    page.wait_for_selector("#lab-ink:visible")


def test_sizes_are_named_before_anything_is_loaded(visit, site, packs):
    page = visit.page
    before = len(visit.asked)
    page.click("#start-draw")
    page.wait_for_selector("#start-load:enabled")
    assert not [url for url in visit.asked[before:] if url.endswith((".bin", ".mjs"))]
    files = [site / "_static" / "lab" / f"{name}.bin" for name in start.NETWORKS]
    files.append(next((site / "_static" / "onnxruntime").glob("*.wasm.bin")))
    sizes = [f"{file.stat().st_size / 1e6:.1f} MB" for file in files]
    assert page.inner_text("#start-sizes").startswith(
        f"plain CNN {sizes[0]}, Q-base {sizes[1]}, the program that runs them {sizes[2]}."
    )
    total = sum(file.stat().st_size for file in files)
    assert page.inner_text("#start-load") == f"Load {total / 1e6:.1f} MB, then draw"


def test_ones_own_digit_is_attacked_through_the_cnns_gradient(visit, networks, packs):
    """The page's image and answers are Python's."""
    page = visit.page
    guess(page, "cnn")
    loaded(page)
    assert page.evaluate("document.activeElement.id") == "lab-clear"
    levels, said = own_digit(page, 20)
    clean = torch.tensor(levels / 255, dtype=torch.float32).view(1, 1, 28, 28)
    attacked = start.moved(clean, start.directions(networks["cnn"], clean), 0.2)
    differing = np.abs(shown(page) - 255 * attacked.flatten().numpy()) > 1
    assert differing.mean() < 0.01  # where the gradient is all but zero its sign is rounding's
    for name, network in networks.items():
        before, after = (int(start.logits(network, image).argmax(1)) for image in (clean, attacked))
        assert said[name] == f"{after} ✓ holds" if before == after else f"{after} ✗ changed"
    assert "follows the gradient of the plain CNN" in page.inner_text("#start-source")
    choose(page, 3)
    page.check("#start-digits input[value='own']", force=True)
    move(page, 20)
    assert cards(page) == said
    page.click("#lab-clear")
    assert page.inner_text("#start-caption") == "A handwritten 7, as it is"
    assert "the attacker's own" in page.inner_text("#start-source")


def test_a_link_carries_ones_own_digit(visit, packs):
    page = visit.page
    guess(page, "q-base")
    loaded(page)
    clean, said = own_digit(page, 30)
    page.wait_for_function("location.search.includes('eps=0.30')")
    opened(page, page.url)
    assert "must be loaded" in page.inner_text("#start-outcome")
    assert (shown(page) == clean).all()  # to be seen, and to be attacked once the networks are there
    page.wait_for_selector("#start-load:enabled")
    page.click("#start-load")
    page.wait_for_function("document.querySelector('.start-card').dataset.verdict !== ''")
    studied(page)
    assert cards(page) == said


def test_a_network_that_does_not_come_can_be_asked_for_again(browser, address, packs):
    page = browser.new_page()
    opened(page, f"{address}/book/intro.html")
    page.route("**/cnn.bin", lambda route: route.abort())
    page.click("#start-draw")
    page.wait_for_selector("#start-load:enabled")
    page.click("#start-load")
    page.wait_for_selector("#start-notice:visible")
    assert "cnn.bin could not be loaded" in page.inner_text("#start-notice")
    page.unroute("**/cnn.bin")
    page.click("#start-load")
    page.wait_for_selector("#lab-ink:visible")
    assert not page.locator("#start-notice").is_visible()
    page.close()


# ---- For everyone


def test_without_javascript_a_picture_and_a_sentence_stand_there(browser, address, digits):
    plain = browser.browser.new_context(java_script_enabled=False)
    page = plain.new_page()
    page.goto(f"{address}/book/intro.html")
    assert not page.locator("#start-live").is_visible()
    pictures = page.locator("#start-still img")
    assert pictures.count() == 2
    assert all(picture.is_visible() and picture.get_attribute("alt") for picture in pictures.all())
    assert "The plain CNN answers 8 and Q-base answers 7." in page.inner_text("#start-still")
    plain.close()


def test_where_q_base_is_not_released_the_cnn_stands_alone(visit, digits):
    page = visit.page
    page.route("**/start.json", lambda route: route.fulfill(json=made_up(digits, ("cnn",))))
    opened(page, visit.home)
    assert cards(page) == {"cnn": "7 ✓ right"}
    assert not page.locator("#start-guess").is_visible()
    move(page, 14)
    assert page.inner_text("#start-outcome") == (
        "The plain CNN falls at 0.14. Of 200 test images, it falls on 60\xa0%."
    )
    assert "Q-base's weights are not released yet" in page.inner_text("#start-missing")


def test_where_nothing_is_released_the_page_stays_as_it_is_without_a_script(visit):
    page = visit.page
    page.route(
        "**/start.json", lambda route: route.fulfill(json={"networks": [], "missing": [], "digits": []})
    )
    page.goto(visit.home, wait_until="networkidle")
    assert page.is_visible("#start-still")
    assert not page.locator("#start-live").is_visible()


def test_it_is_light_before_the_reader_asks_for_more(visit):
    visit.page.wait_for_load_state("networkidle")
    sizes = web.loaded_bytes(visit.asked)
    assert any(file.endswith("start.json") for file in sizes)
    assert sum(sizes.values()) < 100_000, sizes  # of the 1 MB that the whole page may have


def test_what_changes_is_said(visit):
    page = visit.page
    guess(page, "q-base")
    page.keyboard.press("End")
    assert page.get_attribute("#start-eps", "aria-valuetext") == "0.40"
    page.wait_for_function("document.getElementById('start-spoken').textContent.startsWith('Epsilon 0.40.')")
    said = page.text_content("#start-spoken")
    assert "plain CNN, 8 wrong, 90\xa0% sure. Q-base, 8 wrong, 90\xa0% sure." in said
    assert (
        "Your guess: Q-base falls first. No. The plain CNN falls first, at 0.14; Q-base falls at 0.22."
        in said
    )
    strips = page.locator(".start-strip").evaluate_all("strips => strips.map(strip => strip.ariaLabel)")
    assert strips == ["plain CNN: is first wrong at 0.14", "Q-base: is first wrong at 0.22"]


def test_what_is_known_is_not_said_at_every_step(visit):
    page = visit.page
    guess(page, "q-base")
    page.keyboard.press("End")
    page.wait_for_function("document.getElementById('start-spoken').textContent.includes('falls first, at')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.getElementById('start-spoken').textContent.startsWith('Epsilon 0.39.')")
    assert "falls first" not in page.text_content("#start-spoken")
    assert page.get_attribute("#start-eps-text", "aria-live") == "off"


def test_who_was_without_a_connection_can_still_draw(browser, address, packs):
    page = browser.new_page()
    opened(page, f"{address}/book/intro.html")
    page.set_viewport_size({"width": 390, "height": 400})
    page.route("**/*", lambda route: route.abort())
    page.click("#start-draw")
    page.wait_for_selector("#start-notice:visible")
    said = page.inner_text("#start-notice")
    seen = page.locator("#start-notice").evaluate("e => e.getBoundingClientRect().top >= 0")
    page.unroute("**/*")
    page.click("#start-draw")
    page.click("#start-draw")
    page.wait_for_selector("#start-load:enabled")
    page.close()
    assert "could not be loaded" in said and "http" not in said and seen


def test_everything_is_reached_by_keyboard(visit):
    page = visit.page
    page.focus("#start-guess button")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#start-eps") == "1"
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert reached == ["start-digit", "start-draw", "start-share", "start-again"]
    page.focus("#start-digits input:checked")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#start-caption").startswith("A handwritten 6")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_accessibility_violation(visit, mode, packs):
    page = visit.page
    web.in_mode(page, mode)
    for step in ("locked", "open"):
        found = web.violations(page)
        assert not found, f"{step}: {found}"
        if step == "locked":
            guess(page, "cnn")
            move(page, 20)
            page.click("#start-draw")
            page.wait_for_selector("#start-load:enabled")


@pytest.mark.parametrize("size", [web.PHONE, web.DESKTOP], ids=["phone", "desktop"])
def test_the_slider_is_on_the_first_screen(browser, size):
    """On the book's own page, above which its title and first sentences stand."""
    with web.serve() as home:
        page = browser.new_page()
        page.set_viewport_size(size)
        opened(page, f"{home}/book/intro.html")
        slider = page.locator("#start-eps").bounding_box()
        page.close()
    assert slider["y"] + slider["height"] < size["height"]


@pytest.mark.parametrize("width", [390, 320, 1280])
def test_it_fits_the_screen(visit, width, packs):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 844})
    guess(page, "together")
    move(page, 40)
    page.click("#start-draw")
    page.wait_for_selector("#start-load:enabled")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_right_and_wrong_differ_without_the_pages_colours(visit):
    page = visit.page
    page.emulate_media(forced_colors="active")
    guess(page, "cnn")
    move(page, 20)
    heights, colours = page.evaluate(
        """() => {
            const cells = ['right', 'wrong'].map(name => document.querySelector(`.start-strip .${name}`));
            return [cells.map(cell => cell.offsetHeight), cells.map(cell => getComputedStyle(cell).backgroundColor)];
        }"""
    )
    page.emulate_media(forced_colors="none")
    assert heights[1] > 2 * heights[0] > 0
    assert colours[0] != colours[1]


def test_on_paper_stands_what_was_seen(visit):
    page = visit.page
    guess(page, "cnn")
    move(page, 20)
    page.emulate_media(media="print")
    visible = page.evaluate(
        "() => [...document.querySelectorAll('#start button, #start input')].filter(e => e.checkVisibility()).length"
    )
    assert visible == 0
    assert page.is_visible("#start-image")
    assert page.is_visible(".start-strip >> nth=0")
    assert "Your guess" in page.inner_text("#start-outcome")
    page.emulate_media(media="screen")
