"""What a reader does in the lab: draws, brings a picture, searches, counts, shares; and what the lab says of it."""

import base64
import io
import math

import numpy as np
import pytest
import test_lab
import torch
import web
from PIL import Image
from test_lab import answers, choose, grey, idle, start, trained, tray

from qlayer_core import attacks
from qlayer_core.data import prepare

address, browser, page = web.address, web.browser, test_lab.page  # fixtures
started, lab, exported = test_lab.started, test_lab.lab, test_lab.exported

CHECKED = "#lab-image input:checked"
COUNT_WRITES = """
const write = history.replaceState.bind(history), times = [];
window.writes = 0;
history.replaceState = (...entry) => {  // WebKit's rule
  const now = performance.now();
  times.push(now);
  window.writes++;
  if (times.filter(time => time > now - 1e4).length > 100) throw new DOMException('too often', 'SecurityError');
  write(...entry);
};
"""

COUNT_GRADIENTS = """
async ([module, milliseconds, held]) => {
    const { Network } = await import(module), { gradient } = Network.prototype;
    const released = new Promise(release => Object.assign(window, { release }));
    document.getElementById("lab-stop").addEventListener("click", release, { capture: true });
    Object.assign(window, { gradients: 0, inARow: 0, mostInARow: 0 });
    setInterval(() => (inARow = 0));
    Network.prototype.gradient = async function (...given) {
        const until = performance.now() + milliseconds;
        while (performance.now() < until);  // as on a slow machine, where the page waits for it
        gradients++;
        mostInARow = Math.max(mostInARow, ++inARow);
        if (gradients > held) await released;
        return gradient.apply(this, given);
    };
}
"""


def chosen(page):
    return page.locator(CHECKED).get_attribute("value")


def stroke(page, points, hold=True):
    """Draw a line through points of the pad, in shares of its side; let go unless told to hold."""
    pad = page.locator("#lab-ink")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.wait_for_function(f"() => document.querySelector('{CHECKED}').value === 'drawn'")


def picture(pixels, **options):
    """A picture's bytes as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels, **options).save(file, "PNG")
    return file.getvalue()


def seven(width=90, height=120, ink=30, paper=235):
    """A photograph of a 7, dark on light paper with some grain."""
    random = np.random.default_rng(0)
    pixels = paper + random.integers(-4, 5, (height, width))
    pixels[height // 5 : height // 5 + 9, width // 5 : -width // 5] = ink
    for row in range(height // 5, 4 * height // 5):
        at = int(0.75 * width - (row - height / 5) * 0.4)
        pixels[row, at : at + 10] = ink
    return pixels.astype(np.uint8)


def count_gradients(page, address, milliseconds=0, held=math.inf):
    """From now on, count gradients in the page, in all and between two moments at which it hears its reader.

    Those after the first ``held`` wait for Stop, or for `release`: what is to be stopped isn't over before.
    """
    page.evaluate(COUNT_GRADIENTS, [f"{address}/_static/lab/lab.js", milliseconds, held])


def release(page):
    page.evaluate("() => release()")


def gradients(page):
    return page.evaluate("() => gradients")


def text_comes(page, name, words):
    page.wait_for_function(
        "([name, words]) => document.getElementById(`lab-${name}`).textContent.includes(words)",
        arg=[name, words],
    )


def focused(page):
    return page.evaluate("() => document.activeElement.id")


# ---- Drawing


def test_drawn_stroke_is_prepared_and_classified(lab):
    stroke(lab, [(0.3, 0.2), (0.31, 0.8)])  # off the middle
    lab.locator("#lab-eps").fill("0")
    idle(lab)
    assert answers(lab)["CNN"][0] == "1"
    drawn = grey(lab, "lab-clean")
    assert np.ptp(drawn.nonzero()[0]) + 1 == 20  # the long side fills MNIST's box
    centre = [(drawn * axis).sum() / drawn.sum() for axis in np.mgrid[:28, :28]]
    assert np.abs(np.array(centre) - 13.5).max() <= 0.5

    lab.reload()  # at once: the address has not been written yet
    start(lab)
    assert (grey(lab, "lab-clean") == drawn).all()
    ink = "() => document.getElementById('lab-ink').getContext('2d').getImageData(0, 0, 280, 280).data"
    assert max(lab.evaluate(f"() => [...({ink})()]")[3::4]) == 255, "a shared drawing is back on the pad"


def test_what_the_address_could_not_take_is_there_after_a_reload(lab):
    """A browser may refuse a write, or have looked the address up before it."""
    lab.evaluate("() => { history.replaceState = () => { throw new Error('too often'); }; }")
    stroke(lab, [(0.5, 0.2), (0.5, 0.8)])
    idle(lab)
    drawn = grey(lab, "lab-clean")
    lab.wait_for_timeout(400)  # past the pause after which the address is written
    lab.reload()
    start(lab)
    assert (grey(lab, "lab-clean") == drawn).all()


def test_ink_of_any_size_fits(page, address):
    """Each width that a drawing can have, thin and square: levels in [0, 1], no column past the box."""
    wrong = page.evaluate(
        """async module => {
            const { prepare } = await import(module), wrong = [];
            for (let width = 1; width <= 280; width++) for (const height of [9, width]) {
                const canvas = new OffscreenCanvas(280, 280), pen = canvas.getContext('2d');
                pen.fillStyle = '#fff';
                pen.fillRect(0, 0, width, height);
                const image = prepare(canvas), inked = [...image.keys()].filter(i => image[i] > 0);
                const columns = inked.map(i => i % 28), rows = inked.map(i => Math.floor(i / 28));
                const spans = [columns, rows].map(places => Math.max(...places) - Math.min(...places) + 1);
                const legal = image.every(level => level >= 0 && level <= 1);
                if (!legal || Math.max(...spans) !== 20)
                    wrong.push([width, height, Math.max(...image), spans]);
            }
            return wrong;
        }""",
        f"{address}/_static/lab/lab.js",
    )
    assert not wrong


def test_tap_is_a_dot_and_other_buttons_draw_nothing(lab):
    before = chosen(lab)
    lab.locator("#lab-ink").click(button="right")
    pad = lab.locator("#lab-ink")
    for kind in ("pointermove", "pointerup"):  # a second finger, or one that has come from elsewhere
        pad.dispatch_event(
            kind, {"pointerId": 7, "pointerType": "touch", "isPrimary": False, "clientX": 9, "clientY": 9}
        )
    pad.dispatch_event("pointerdown", {"pointerId": 8, "pointerType": "touch", "isPrimary": False})
    lab.wait_for_timeout(100)
    assert chosen(lab) == before
    pad.click()
    lab.wait_for_function(f"() => document.querySelector('{CHECKED}').value === 'drawn'")
    idle(lab)
    assert grey(lab, "lab-clean").max() == 255


def test_clear_clears_the_drawing_everywhere(lab):
    choose(lab, "image", "3")
    seen = grey(lab, "lab-clean")
    stroke(lab, [(0.2, 0.2), (0.8, 0.8)])
    idle(lab)
    lab.click("#lab-clear")
    idle(lab)
    assert chosen(lab) == "3"
    assert not lab.locator("#lab-image input[value='drawn']").count()
    assert (grey(lab, "lab-clean") == seen).all()
    lab.wait_for_function("() => !location.search.includes('ink.')")


def test_address_waits_for_a_pause(page):
    """Where a browser allows few writes, a long stroke and a long film get to their ends."""
    page.add_init_script(COUNT_WRITES)
    page.goto(f"{page.lab}?steps=100&eps=0.2")
    start(page)
    before = page.evaluate("() => writes")
    stroke(page, [(0.1 + 0.8 * (i % 2), 0.1 + i / 40) for i in range(30)])
    idle(page)
    assert page.evaluate("() => writes") - before < 10
    page.wait_for_function("() => location.search.includes('image=ink.')")
    choose(page, "attack", "bim")
    page.click("#lab-play")
    page.wait_for_function(
        "() => document.getElementById('lab-step-text').textContent === '100 of 100'", timeout=60000
    )
    idle(page)
    assert page.evaluate("() => writes") - before < 12


def test_a_film_of_a_drawing_is_made_once(page, address):
    start(page)
    stroke(page, [(0.5, 0.2), (0.5, 0.8)])
    page.locator("#lab-eps").fill("0.2")
    idle(page)
    count_gradients(page, address)
    choose(page, "attack", "bim")
    made = gradients(page)
    assert made > 0
    page.locator("#lab-step").fill("7")
    idle(page)
    page.click("#lab-play")
    text_comes(page, "step-text", "20 of 20")
    idle(page)
    assert gradients(page) == made


# ---- Pictures of one's own


@pytest.mark.parametrize("way", ["choose", "drop"])
def test_own_picture_is_prepared_as_python_does(lab, way):
    content = picture(seven())
    if way == "choose":
        lab.set_input_files("#lab-file", {"name": "seven.png", "mimeType": "image/png", "buffer": content})
    else:
        moved = lab.evaluate_handle(
            """content => {
                const moved = new DataTransfer(), bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
                moved.items.add(new File([bytes], 'seven.png', {type: 'image/png'}));
                return moved;
            }""",
            base64.b64encode(content).decode(),
        )
        lab.dispatch_event("#lab", "drop", {"dataTransfer": moved})
    lab.wait_for_function(f"() => document.querySelector('{CHECKED}').value === 'drawn'")
    idle(lab)
    ours = (255 * prepare(seven())[0, 0]).round().int().numpy()
    assert (grey(lab, "lab-clean") == ours).all()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("note.png", b"no picture", "PNG"),
        ("blank.png", picture(np.full((9, 9), 200, np.uint8)), "background"),
    ],
)
def test_what_is_no_digit_is_refused_with_words(lab, name, content, words):
    before = chosen(lab)
    lab.set_input_files("#lab-file", {"name": name, "mimeType": "image/png", "buffer": content})
    lab.wait_for_selector("#lab-notice:visible")
    assert name in lab.inner_text("#lab-notice") and words in lab.inner_text("#lab-notice")
    assert chosen(lab) == before


# ---- Searching and counting


def test_lab_starts_where_the_attack_works(lab):
    """At the smallest epsilon of the slider at which the plain CNN's answer changes."""
    (card,) = [c for c in lab.locator(".lab-card[data-role='attacked']").all()]
    assert card.get_attribute("data-verdict") == "fooled"
    eps = float(lab.inner_text("#lab-eps-text"))
    lab.locator("#lab-eps").fill(f"{eps - 0.01:.2f}")
    idle(lab)
    assert lab.locator(".lab-card[data-role='attacked']").get_attribute("data-verdict") == "holds"


@pytest.mark.parametrize("attack, image", [("fgsm", 5), ("bim-paper", 9)])
def test_finds_the_smallest_epsilon(lab, attack, image):
    choose(lab, "image", str(image))
    choose(lab, "attack", attack)
    lab.select_option("#lab-steps", "40") if attack != "fgsm" else None
    lab.click("#lab-smallest")
    lab.wait_for_function(
        "() => /smallest that|holds up/.test(document.getElementById('lab-found').textContent)"
    )
    model = trained("cnn")
    clean = tray()[0][image : image + 1]
    with torch.no_grad():
        before = model(clean).argmax()
    for hundredths in range(1, 41):
        eps = hundredths / 100
        made = (
            attacks.fgsm(model, clean, eps=eps)
            if attack == "fgsm"
            else attacks.bim(model, clean, eps=eps, step=0.01, iterations=40)
        )
        with torch.no_grad():
            if model(made).argmax() != before:
                assert f"{eps:.2f} is the smallest" in lab.inner_text("#lab-found")
                assert lab.inner_text("#lab-eps-text") == f"{eps:.2f}"
                return
    assert "holds up to 0.40" in lab.inner_text("#lab-found")


def test_counts_over_the_tray_what_python_counts(lab):
    lab.locator("#lab-eps").fill("0.2")
    idle(lab)
    lab.click("#lab-success")
    lab.wait_for_selector("#lab-success-table tbody tr:nth-child(2)")
    rows = [row.inner_text().split("\t") for row in lab.locator("#lab-success-table tbody tr").all()]
    images, labels = tray()
    for (title, *counts), (name, path) in zip(rows, [("cnn", None), ("q-base", "e")], strict=True):
        model = trained(name)
        attacked = (lambda x, m=model: m(x, path="e")) if path else model
        made = attacks.fgsm(attacked, images, eps=0.2)
        with torch.no_grad():
            before, after = model(images).argmax(1), model(made).argmax(1)
        ours = [(before == labels).sum(), (after == labels).sum(), (before != after).sum()]
        # a pixel whose gradient is all but zero may go the other way, and an answer on the edge with it
        assert np.abs(np.array(counts, int) - np.array(ours)).max() <= 1, f"{title}: {counts}, Python {ours}"
    assert "epsilon 0.20" in lab.locator("#lab-success-table caption").inner_text()


def smallest(page):
    """The smallest epsilon that the lab finds, in its words."""
    text_comes(page, "found", "is the smallest that")
    return page.inner_text("#lab-found")


def test_a_search_is_on_the_image_that_was_chosen_just_before(lab):
    found = []
    for image in ("14", "5"):
        choose(lab, "image", image)
        lab.click("#lab-smallest")
        found.append(smallest(lab))
    assert found[0] != found[1]
    choose(lab, "image", "14")
    lab.evaluate(
        """() => {
            document.querySelector("#lab-image input[value='5']").click();
            document.getElementById('lab-smallest').click();
        }"""
    )
    assert smallest(lab) == found[1]


def test_a_film_gives_way_to_a_search(lab):
    choose(lab, "attack", "bim")
    lab.click("#lab-play")
    text_comes(lab, "step-text", "2 of 20")
    lab.click("#lab-smallest")
    assert smallest(lab).startswith("BIM on CNN")


@pytest.mark.parametrize(
    "task, said", [("smallest", "found"), ("each", "found"), ("success", "success-text")]
)
def test_a_film_in_the_making_is_shown_before_a_task_begins(page, address, task, said):
    """The task would overtake it, and the pictures stay those of the attack before."""
    start(page)
    count_gradients(page, address, milliseconds=10, held=30)  # a film has 20 steps
    page.evaluate(
        """task => {
            document.querySelector('#lab-attack input[value=bim]').click();
            document.getElementById(`lab-${task}`).click();
        }""",
        task,
    )
    page.wait_for_function(f"() => /BIM|image 1 of/.test(document.getElementById('lab-{said}').textContent)")
    page.click("#lab-stop")
    idle(page)
    assert page.inner_text("#lab-step-text") == "20 of 20"
    made = gradients(page)
    page.locator("#lab-step").fill("3")
    idle(page)
    assert gradients(page) == made, "the film was there"


def test_a_comparison_that_another_overtakes_writes_nothing_into_it(lab):
    lab.locator("#lab-each").dblclick()
    lab.wait_for_selector("#lab-each-table tbody tr")
    assert lab.inner_text("#lab-each-table caption") == "On CNN; 20 steps"


@pytest.mark.parametrize("task, text", [("smallest", "found"), ("success", "success-text")])
def test_stop_is_heard_while_an_attack_runs_and_keeps_the_focus(page, address, task, text):
    page.goto(f"{page.lab}?attack=bim&steps=100&eps=0.1")
    start(page)
    count_gradients(page, address, milliseconds=10, held=300)
    page.click(f"#lab-{task}")
    page.wait_for_selector("#lab-stop:visible")
    page.wait_for_function("() => gradients > 100")
    page.press("#lab-stop", "Enter")
    idle(page)
    assert page.inner_text(f"#lab-{text}") == "Stopped."
    assert page.evaluate("() => mostInARow") < 20, "of the 100 of an attack"
    assert focused(page) == "lab-eps"
    text_comes(page, "spoken", "Stopped.")


def test_a_stopped_film_can_be_looked_at(page, address):
    """Its steps are those that there are: the attack does not go on."""
    start(page)
    choose(page, "attack", "bim")
    count_gradients(page, address, milliseconds=20, held=10)
    page.select_option("#lab-steps", "100")
    page.click("#lab-stop")
    idle(page)
    assert page.inner_text("#lab-found").startswith("Stopped after ")
    assert focused(page) == "lab-eps"
    text_comes(page, "spoken", "Stopped after ")
    made, last = gradients(page), page.get_attribute("#lab-step", "max")
    assert int(last) < 100
    page.locator("#lab-step").fill("1")
    idle(page)
    assert page.inner_text("#lab-step-text") == f"1 of {last}"
    page.click("#lab-play")
    text_comes(page, "step-text", f"{last} of {last}")
    idle(page)
    assert gradients(page) == made


@pytest.mark.parametrize(
    "task, attack, said", [("success", "fgsm", "answers changed"), ("smallest", "bim", "is the smallest")]
)
def test_a_network_that_comes_leaves_alone_what_runs(page, exported, address, task, attack, said):
    name, held = test_lab.not_at_the_start(exported), []
    page.goto(f"{page.lab}?attack={attack}&steps=10&eps=0.1")
    start(page)
    cards, buttons = len(answers(page)), page.locator(".lab-card button").count()
    count_gradients(page, address, milliseconds=40, held=2)
    page.route(f"**/{exported[name]['file']}", lambda route: held.append(route))
    with page.expect_request(f"**/{exported[name]['file']}"):
        page.locator(".lab-card button").first.click()
    page.click(f"#lab-{task}")
    page.wait_for_selector("#lab-stop:visible")
    held[0].continue_()
    page.wait_for_function(f"() => document.querySelectorAll('.lab-card button').length < {buttons}")
    assert page.is_visible("#lab-stop"), "it has come, and the task still runs"
    release(page)
    text_comes(page, "spoken", said)
    page.wait_for_function(f"() => document.querySelectorAll('[data-verdict]').length > {cards}")
    if task == "smallest":
        assert said in page.inner_text("#lab-found")
    else:
        assert page.locator("#lab-success-table tbody tr").count() == 2


def test_says_so_where_a_gradient_is_zero(page, address):
    start(page)
    page.evaluate(
        """async module => {
            const { Network } = await import(module);
            Network.prototype.gradient = async () => ({ label: 7, slope: new Float32Array(784) });
        }""",
        f"{address}/_static/lab/lab.js",
    )
    choose(page, "image", "6")
    assert "gradient is zero" in page.inner_text("#lab-notice")


# ---- Words, focus, links


def test_says_what_came_of_it_and_keeps_the_focus(page):
    page.focus("#lab-start")
    page.keyboard.press("Enter")
    idle(page)
    page.wait_for_function("() => document.activeElement.id === 'lab-eps'")
    page.wait_for_function("() => /CNN fooled/.test(document.getElementById('lab-spoken').textContent)")
    assert page.locator("#lab-spoken").get_attribute("role") == "status"
    page.keyboard.press("Home")
    page.wait_for_function("() => /CNN holds/.test(document.getElementById('lab-spoken').textContent)")
    assert page.get_attribute("#lab-eps", "aria-valuetext") == "0.00"
    load = page.locator(".lab-card button").first
    if load.count():
        load.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.activeElement.matches('.lab-card')")


@pytest.mark.parametrize(
    "clipboard",
    [
        "undefined",
        "{writeText: () => Promise.reject(new DOMException('no'))}",
        "{writeText: async text => { window.copied = text }}",
    ],
    ids=["none", "refuses", "works"],
)
def test_link_can_be_copied_anywhere(page, clipboard):
    """Over plain http there is no clipboard, and a browser may refuse it."""
    page.add_init_script(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}}})")
    page.goto(f"{page.lab}?image=4&eps=0.1#what-you-see")
    page.wait_for_selector("#lab-start:enabled")
    page.click("#lab-share")
    page.wait_for_function(
        "() => /copied|Copy the marked/.test(document.getElementById('lab-share').textContent)"
    )
    link = page.evaluate("() => window.copied ?? document.getElementById('lab-link').value")
    assert "image=4" in link and "eps=0.1" in link and link.startswith("http")
    assert link.endswith("#lab"), "not where its sender was"
    if "copied" not in clipboard:
        marked = "() => [document.activeElement].map(box => box.value.slice(box.selectionStart, box.selectionEnd))[0]"
        assert page.evaluate(marked) == link


def test_state_shows_in_forced_colours(lab):
    lab.emulate_media(forced_colors="active")
    seen = lab.evaluate(
        """() => {
            const look = (selector, part) => getComputedStyle(document.querySelector(selector), part);
            return {
                pad: look('#lab-ink').backgroundColor,
                chosen: look('#lab-net input:checked + span').backgroundColor,
                other: look('#lab-net input:not(:checked) + span').backgroundColor,
                image: look('#lab-image input:checked + *').outlineStyle,
                bar: look('.lab-card i.top', '::before').backgroundColor,
                card: look('.lab-card').backgroundColor,
            };
        }"""
    )
    web.picture(lab.locator("#lab"), "lab-forced-colours")
    assert seen["pad"] == "rgb(0, 0, 0)", "white ink needs a black pad"
    assert seen["chosen"] != seen["other"]
    assert seen["image"] == "solid"
    assert seen["bar"] != seen["card"]
