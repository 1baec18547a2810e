"""The attack lab in a real browser: the page's networks and attacks are Python's, and the page is pleasant to use.

Needs the site (`make book`) and Chromium, like the other pages' tests.
"""

import base64
import json
import statistics
import urllib.parse
from functools import partial

import numpy as np
import pytest
import torch
import web
from website import SITE

from qlayer_core import attacks, codes, models
from qlayer_core.show import names
from qlayer_core.study import records

address, browser = web.address, web.browser  # fixtures

ATTACKED = ("cnn", "q-base", "q-large")
EPSILONS = (0.1, 0.2, 0.3)
STEPS = 20
FIRST = {"data": "mnist", "image": 14, "net": "cnn", "path": "e", "attack": "fgsm", "steps": STEPS}
FIRST |= {"eps": "", "step": ""}  # the smallest that fools, and the film's end
LAB = SITE / "_static" / "lab"
MANIFEST = LAB / "manifest.json"
SET_UP = """
search => {
    const link = document.querySelector('a.lab-setup'), before = link.search;
    link.search = search;
    link.click();
    link.search = before;
}
"""


@pytest.fixture(scope="module")
def exported():
    """The networks of MNIST that the site was built with, by name: entries of the manifest."""
    return {entry["name"]: entry for entry in mnist()["networks"]}


def mnist():
    """What the manifest says of MNIST."""
    return json.loads(MANIFEST.read_text())["datasets"]["mnist"]


def tray():
    """The lab's test images, ``(20, 1, 28, 28)``, and their labels."""
    levels = np.frombuffer(base64.b64decode(mnist()["images"]), np.uint8).reshape(-1, 1, 28, 28)
    return torch.from_numpy(levels / np.float32(255)), torch.tensor(mnist()["labels"])


def opened(browser, address):
    """The lab, opened but not started; `page.asked` lists what it asked for."""
    page = browser.new_page()
    page.asked, page.lab = [], f"{address}/book/08-attack-lab.html"
    page.on("request", lambda r: page.asked.append(r.url) if r.method == "GET" else None)
    page.goto(page.lab)
    page.wait_for_selector("#lab-start:enabled")
    return page


@pytest.fixture
def page(browser, address):
    """A lab of the test's own, as `opened` leaves it."""
    page = opened(browser, address)
    yield page
    page.close()


@pytest.fixture(scope="module")
def started(browser, address):
    """The lab, started, with its first networks loaded: once for all tests that leave it fit for the next."""
    page = opened(browser, address)
    start(page)
    yield page
    page.close()


@pytest.fixture
def lab(started):
    """The lab as it is just after its start."""
    started.bring_to_front()
    started.emulate_media(media="screen", forced_colors="none")
    web.in_mode(started, "light")
    started.set_viewport_size(web.DESKTOP)
    started.click("#lab-clear")
    started.evaluate(SET_UP, f"?{urllib.parse.urlencode(FIRST)}")
    idle(started)
    return started


def trained(name):
    """The released network of that name."""
    try:
        return records.load("mnist", name)[0]
    except FileNotFoundError as error:
        pytest.skip(str(error))


def not_at_the_start(exported):
    """The name of a network that the start leaves out."""
    name = next((name for name in exported if name not in ("cnn", "q-base")), None)
    if name is None:
        pytest.skip("the site was built with two networks only: the others are not released")
    return name


def loss_gradient(model, images):
    """The gradient, in the images, of the loss that the attacks climb."""
    images = images.clone().requires_grad_()
    logits = model(images)
    (found,) = torch.autograd.grad(attacks.losses.cross_entropy(logits, logits.argmax(1)).sum(), images)
    return found


def with_fashion(page):
    """Load the lab again with one network of Fashion-MNIST, whether or not its own are released; return it."""
    manifest = json.loads(MANIFEST.read_text())
    digits, fashion = (manifest["datasets"][name] for name in ("mnist", "fashion-mnist"))
    fashion["networks"] = [entry | {"file": f"{entry['file']}?fashion"} for entry in digits["networks"][:1]]
    page.route("**/manifest.json", lambda route: route.fulfill(json=manifest))
    page.reload()
    return fashion


def start(page):
    page.wait_for_selector("#lab-start:enabled")
    page.click("#lab-start")
    idle(page)


def idle(page):
    page.wait_for_function(
        "() => !('busy' in document.getElementById('lab').dataset) && document.querySelector('[data-verdict]')"
    )


def choose(page, name, value):
    page.check(f"#lab-{name} input[value='{value}']", force=True)
    idle(page)


def answers(page):
    """What each card says, by its title: (answer, role)."""
    cards = page.locator(".lab-card[data-verdict]")
    return {
        card.locator("h2").inner_text().strip(): (
            card.locator("b").inner_text(),
            card.get_attribute("data-role"),
        )
        for card in cards.all()
    }


def grey(page, canvas):
    """The grey levels that a canvas shows, (28, 28)."""
    levels = page.evaluate(
        "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 28, 28).data]", canvas
    )
    return np.array(levels).reshape(28, 28, 4)[..., 0]


# ---- The same numbers as Python


ATTACK_ALL = """
async ([entry, path, images, attack, epsilons, steps, module]) => {
  const lab = await import(module);
  await lab.startRuntime();
  const network = new lab.Network(entry);
  await network.load();
  const bytes = Uint8Array.from(atob(images), (c) => c.charCodeAt(0));
  const encode = ({ buffer }) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const found = [];
  for (const eps of epsilons) {
    for (let i = 0; i < bytes.length / 784; i++) {
      const clean = Float32Array.from(bytes.subarray(784 * i, 784 * (i + 1)), (byte) => byte / 255);
      let last;
      for await (const frame of lab.film(network, path, clean, { attack, eps, steps })) last = frame;
      const answer = await network.answer(last);
      found.push({ image: encode(last), logits: network.paths.map((path) => [...answer[path]]) });
    }
  }
  return found;
}
"""


@pytest.mark.parametrize(
    "name, attack",
    [(name, "fgsm") for name in (*ATTACKED, "q-inner")]
    + [("cnn", "bim"), ("q-base", "bim"), ("q-large", "bim-paper")],
)
def test_page_and_python_agree(page, exported, address, name, attack):
    """The tray's test images, attacked in the page and in Python."""
    if name not in exported:
        pytest.skip(f"the site was built without {name}: its weights are not released")
    model = trained(name)
    images, _ = tray()
    is_q_net = isinstance(model, models.QNet)
    path = "e" if is_q_net else "logits"
    packed = base64.b64encode((images * 255).round().byte().numpy()).decode()
    module = f"{address}/_static/lab/lab.js"
    epsilons = EPSILONS if attack == "fgsm" else EPSILONS[1:2]
    found = page.evaluate(ATTACK_ALL, [exported[name], path, packed, attack, epsilons, STEPS, module])
    pages = np.stack([np.frombuffer(base64.b64decode(row["image"]), np.float32) for row in found])
    pages = torch.from_numpy(pages.reshape(len(epsilons), *images.shape).copy())

    attacked = partial(model, path="e") if is_q_net else model
    same_answers, same_pixels = [], []
    for i, eps in enumerate(epsilons):
        if attack == "fgsm":
            ours = attacks.fgsm(attacked, images, eps=eps)
        else:
            step = 0.01 if attack == "bim-paper" else 2.5 * eps / STEPS
            ours = attacks.bim(attacked, images, eps=eps, step=step, iterations=STEPS)
        rows = found[i * len(images) : (i + 1) * len(images)]
        with torch.no_grad():
            answers = [model(ours, path="q"), model(ours, path="e")] if is_q_net else [model(ours)]
        for number, logits in enumerate(answers):
            theirs = torch.tensor([row["logits"][number] for row in rows])
            same_answers.append((theirs.argmax(1) == logits.argmax(1)).float())
        apart = (pages[i] - ours).abs() > 1e-6
        if attack == "fgsm":
            gradient = loss_gradient(attacked, images)
            largest = gradient.abs().amax((1, 2, 3), keepdim=True)
            assert not (apart & (gradient.abs() > 1e-4 * largest)).any(), (
                "pixels differ that are no sign ties"
            )
        same_pixels.append((~apart).float())
    answers, pixels = torch.cat(same_answers).mean().item(), torch.cat(same_pixels).mean().item()
    print(f"{name} {attack}: answers {answers:.4f}, pixels {pixels:.5f}")
    assert answers >= 0.99
    assert pixels >= 0.99


def test_codes_have_the_colours_that_figures_give_them(lab):
    """Each square of the map, its upper left half where it is cut in two, is the clean image's code."""
    net, (images, _) = trained("q-base"), tray()
    shown = lab.evaluate(
        """() => {
            const canvas = document.querySelector('#lab-maps canvas'), size = canvas.width / 12;
            const range = [...Array(12).keys()];
            const at = (row, column) => [column, row].map(place => Math.round((place + 0.3) * size));
            const colour = place => [...canvas.getContext('2d').getImageData(...place, 1, 1).data];
            return range.map(row => range.map(column => colour(at(row, column))));
        }"""
    )
    chosen = codes.layer_output(net, images[FIRST["image"]].unsqueeze(0)).indices[0, 0]
    figures = names.code_colours(codes.along_main_direction(net.layer.codebook)[0][chosen.numpy()])
    assert len(np.unique(figures.reshape(-1, 3), axis=0)) > 3
    same = (np.array(shown)[..., :3] == figures).all(2)
    assert same.mean() > 0.99, "but for a tie between two codes"
    assert (np.array(shown)[..., 3] == 255).all()


def test_a_change_is_grey_where_there_is_none(lab):
    """As in figures: white is 0.4 more, black 0.4 less."""
    lab.locator("#lab-eps").fill("0.3")
    idle(lab)
    clean, adversarial = (grey(lab, name).astype(int) for name in ("lab-clean", "lab-adversarial"))
    change = grey(lab, "lab-change")
    assert np.ptp(change) > 100
    assert np.abs(change - (127.5 + (adversarial - clean) / 0.8)).max() <= 2


def test_page_compares_itself_with_pytorch(lab):
    lab.click("#lab-check")
    lab.wait_for_selector("#lab-check-text li:nth-child(2)")
    lines = lab.locator("#lab-check-text li").all_inner_texts()
    assert [line.split(", ")[0] for line in lines] == [
        "CNN: 20 of 20 answers are PyTorch's",
        "Q-base: 40 of 40 answers are PyTorch's",
    ]


def test_comparison_with_pytorch_stays_about_its_data_set(page):
    """Though the reader changes it at once."""
    with_fashion(page)
    start(page)
    page.evaluate(
        """() => {
            document.getElementById('lab-check').click();
            document.querySelector("#lab-data input[value='fashion-mnist']").click();
        }"""
    )
    page.wait_for_selector("#lab-check-text li:nth-child(2)")
    lines = page.locator("#lab-check-text li").all_inner_texts()
    assert [line.split(" answers")[0] for line in lines] == ["CNN: 20 of 20", "Q-base: 40 of 40"]


# ---- What the reader does


@pytest.mark.alone
@pytest.mark.parametrize("name", ["cnn", "q-base"])
def test_slider_answers_within_a_tenth_of_a_second(lab, name):
    choose(lab, "net", name)
    lab.bring_to_front()
    times = lab.evaluate(
        """async () => {
            const [lab, slider] = ["lab", "lab-eps"].map((id) => document.getElementById(id)), times = [];
            for (let move = 1; move <= 20; move++) {
                const before = performance.now();
                slider.value = move / 50;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
                do await new Promise(requestAnimationFrame); while ("busy" in lab.dataset);
                times.push(performance.now() - before);
            }
            return times;
        }"""
    )
    print(f"{name}: median {statistics.median(times):.1f} ms")
    assert statistics.median(times) < 100


def test_larger_epsilon_moves_pixels_further(lab):
    clean = grey(lab, "lab-clean").astype(int)
    for eps in ("0.1", "0.4"):
        lab.locator("#lab-eps").fill(eps)
        idle(lab)
        moved = abs(grey(lab, "lab-adversarial") - clean)
        assert moved.max() == pytest.approx(255 * float(eps), abs=1)
        assert lab.inner_text("#lab-eps-text") == f"{float(eps):.2f}"


def test_film_starts_clean_and_its_steps_can_be_seen(lab):
    lab.locator("#lab-eps").fill("0.2")
    choose(lab, "attack", "bim")
    last = grey(lab, "lab-adversarial")
    assert lab.inner_text("#lab-step-text") == f"{STEPS} of {STEPS}"
    for step in ("0", "7"):
        lab.locator("#lab-step").fill(step)
        idle(lab)
        shown = grey(lab, "lab-adversarial")
        assert (shown == grey(lab, "lab-clean")).all() == (step == "0")
        assert (shown != last).any()
    lab.click("#lab-play")
    lab.wait_for_function(
        f"() => document.getElementById('lab-step-text').textContent === '{STEPS} of {STEPS}'"
    )
    assert (grey(lab, "lab-adversarial") == last).all()


def test_pgd_starts_from_noise_and_stays_in_the_box(lab):
    lab.locator("#lab-eps").fill("0.15")
    choose(lab, "attack", "pgd")
    clean = grey(lab, "lab-clean").astype(int)
    lab.locator("#lab-step").fill("1")
    idle(lab)
    assert len(np.unique(grey(lab, "lab-adversarial") - clean)) > 20
    assert abs(grey(lab, "lab-adversarial") - clean).max() <= round(255 * 0.15)


def test_image_made_on_one_network_is_judged_by_all(lab):
    roles = {title: role for title, (_, role) in answers(lab).items()}
    assert roles == {"CNN": "attacked", "Q-base Q-path, its answer": "transfer", "Q-base E-path": "transfer"}
    choose(lab, "net", "q-base")
    roles = {title: role for title, (_, role) in answers(lab).items()}
    assert roles == {
        "CNN": "transfer",
        "Q-base Q-path, its answer": "same network",
        "Q-base E-path": "attacked",
    }
    paths = lab.locator(".lab-card h2 small")
    assert paths.evaluate_all("all => all.every(e => e.getClientRects().length < 2)"), (
        "no name breaks at its hyphen"
    )


def test_no_perturbation_flips_no_code(lab):
    flipped = lab.locator("#lab-maps canvas").first
    assert int(flipped.get_attribute("data-flipped")) > 0
    lab.locator("#lab-eps").fill("0")
    idle(lab)
    assert flipped.get_attribute("data-flipped") == "0"


def test_shared_address_restores_its_set_up(page):
    state = {"data": "mnist", "image": "3", "net": "q-base", "path": "shortcut", "attack": "bim"}
    state |= {"eps": "0.25", "steps": "10", "step": "4"}
    page.goto(f"{page.lab}?{urllib.parse.urlencode(state)}")
    start(page)
    for name in ("image", "net", "path", "attack"):
        assert page.locator(f"#lab-{name} input:checked").get_attribute("value") == state[name]
    assert page.inner_text("#lab-eps-text") == "0.25"
    assert page.inner_text("#lab-step-text") == "4 of 10"
    assert dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page.url).query)) == state
    moved = abs(grey(page, "lab-adversarial").astype(int) - grey(page, "lab-clean"))
    assert moved.max() == pytest.approx(4 * 255 * 2.5 * 0.25 / 10, abs=2)


def test_nonsense_in_the_address_is_mended(page):
    page.goto(f"{page.lab}?net=elsewhere&eps=x&steps=3&image=ink.!&step=-1")
    start(page)
    assert page.locator("#lab-net input:checked").get_attribute("value") == "cnn"
    assert not page.is_visible("#lab-notice")


def test_set_ups_in_the_text_show_what_they_are_said_to(lab):
    links = lab.locator("a.lab-setup[data-shows]")
    assert links.count() == 7
    for link in links.all():
        link.dispatch_event("click")
        idle(lab)
        verdicts = {
            card.locator("h2").inner_text().strip(): card.get_attribute("data-verdict")
            for card in lab.locator(".lab-card[data-verdict]").all()
        }
        for claim in link.get_attribute("data-shows").split("; "):
            title, verdict = claim.rsplit(" ", 1)
            assert verdicts[title] == verdict, f"{link.get_attribute('href')}: {title}"


def test_back_from_a_set_up_leads_to_the_text_that_it_stands_in(page):
    link = page.locator("a.lab-setup:not([data-shows])").nth(1)  # those with data-shows are folded away
    page.wait_for_function("() => location.search.includes('net=')")
    link.scroll_into_view_if_needed()
    page.keyboard.press("Shift")  # a reader who came by keyboard
    before, was = page.evaluate("() => [location.href, history.length]")
    link.press("Enter")
    assert page.locator("#lab-start").evaluate("e => e === document.activeElement"), "where one goes on"
    page.wait_for_function("href => location.href !== href", arg=before)
    assert page.evaluate("() => history.length") == was + 1
    was_set = page.evaluate("() => location.href")
    page.go_back()
    assert page.evaluate("() => location.href") == before
    chosen = page.locator("#lab-attack input:checked")
    assert chosen.get_attribute("value") == "fgsm", "and what the lab showed then"
    page.go_forward()
    page.wait_for_function("href => location.href === href", arg=was_set)
    assert chosen.get_attribute("value") == "bim"


def test_a_table_over_all_test_images_says_what_it_is_of_and_goes_when_that_changes(lab):
    choose(lab, "net", "q-base")
    choose(lab, "path", "straight-through")
    lab.click("#lab-success")
    table = lab.locator("#lab-success-table")
    lab.wait_for_function("() => document.querySelectorAll('#lab-success-table tbody tr').length > 1")
    idle(lab)
    caption = table.locator("caption").inner_text()
    assert caption.startswith("MNIST: FGSM, epsilon") and "straight through" in caption
    choose(lab, "image", "3")
    assert table.is_visible()
    choose(lab, "path", "e")
    assert table.is_hidden()


def test_the_way_of_the_gradient_is_kept_over_a_network_without_a_choice(lab):
    choose(lab, "net", "q-base")
    choose(lab, "path", "straight-through")
    choose(lab, "net", "cnn")
    choose(lab, "net", "q-base")
    assert lab.is_checked("#lab-path input[value='straight-through']")


def test_while_a_network_loads_the_lab_goes_on_with_another(page, exported):
    name, held = not_at_the_start(exported), []
    start(page)
    page.route(f"**/{exported[name]['file']}", lambda route: held.append(route))
    page.check(f"#lab-net input[value='{name}']", force=True)
    page.wait_for_function("() => 'loading' in document.getElementById('lab').dataset")
    assert page.locator("#lab-stop").evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.check("#lab-net input[value='cnn']", force=True)
    page.locator("#lab-eps").fill("0.35")
    idle(page)
    assert page.locator("#lab-eps-text").inner_text() == "0.35"
    for route in held:
        route.continue_()


def test_nothing_plays_before_there_is_a_film(page):
    assert page.is_disabled("#lab-play") and page.is_disabled("#lab-step")
    start(page)
    assert page.is_enabled("#lab-play") and page.is_enabled("#lab-step")


def test_who_compares_before_the_start_is_told_so_where_they_look(page):
    page.click("#lab-check")
    assert "Start the lab first" in page.locator("#lab-check-text").inner_text()
    assert page.locator("#lab-notice").is_hidden()


def test_the_runtime_can_be_asked_for_again_after_it_failed(page):
    failed = []
    page.route(
        "**/ort.wasm.bundle.min.mjs*",
        lambda route: failed.append(route.abort()) if not failed else route.continue_(),
    )
    page.click("#lab-start")
    page.wait_for_selector("#lab-notice:visible")
    assert "The runtime could not be loaded" in page.locator("#lab-notice").inner_text()
    start(page)
    assert answers(page)


def test_a_large_network_waits_for_its_button(page, exported):
    """Arrow keys pass over it on their way, and nobody asked for 16 MB."""
    large = [name for name, entry in exported.items() if entry["bytes"] > 5e6]
    if not large:
        pytest.skip("the site was built without a large network")
    start(page)
    label = page.locator(f"#lab-net label:has(input[value='{large[0]}'])")
    assert f"{exported[large[0]]['bytes'] / 1e6:.1f} MB" in label.inner_text()
    assert "MB" not in page.locator("#lab-net label:has(input[value='cnn'])").inner_text()
    choose(page, "net", large[0])
    assert "not loaded yet" in page.inner_text("#lab-found")
    assert (grey(page, "lab-adversarial") == grey(page, "lab-clean")).all()
    choose(page, "image", "3")
    assert not any(exported[large[0]]["file"] in url for url in page.asked)
    button = page.locator(".lab-card button", has_text=f"{exported[large[0]]['bytes'] / 1e6:.1f} MB")
    button.click()
    page.wait_for_function("() => document.querySelector('.lab-card[data-role=attacked]')")
    idle(page)
    assert "MB" not in label.inner_text()
    assert (grey(page, "lab-adversarial") != grey(page, "lab-clean")).any()


def test_who_is_far_below_a_notice_sees_it(lab):
    lab.click("#lab-success")
    lab.locator("#lab-success").scroll_into_view_if_needed()
    lab.set_viewport_size({"width": 390, "height": 500})
    lab.locator("#lab-cards").scroll_into_view_if_needed()
    lab.set_input_files("#lab-file", {"name": "note.png", "mimeType": "image/png", "buffer": b"no picture"})
    lab.wait_for_selector("#lab-notice:visible")
    lab.wait_for_timeout(100)
    seen = "e => [e.getBoundingClientRect().top, innerHeight - e.getBoundingClientRect().bottom]"
    assert min(lab.locator("#lab-notice").evaluate(seen)) >= 0


def test_who_has_gone_on_keeps_the_focus_when_a_network_has_loaded(page, exported):
    name, held = not_at_the_start(exported), []
    start(page)
    page.route(f"**/{exported[name]['file']}", lambda route: held.append(route))
    with page.expect_request(f"**/{exported[name]['file']}"):
        page.locator(".lab-card button").first.click()
    page.focus("#lab-eps")
    held[0].continue_()
    page.wait_for_function(
        f"() => document.querySelectorAll('.lab-card button').length < {len(exported) - 2}"
    )
    idle(page)
    assert page.evaluate("() => document.activeElement.id") == "lab-eps"


def test_a_map_of_codes_says_where_its_reader_stands(lab):
    canvas = lab.locator("#lab-maps canvas").first
    assert canvas.get_attribute("role") == "slider"
    canvas.press("ArrowRight")
    first = canvas.get_attribute("aria-valuenow")
    canvas.press("ArrowDown")
    assert int(canvas.get_attribute("aria-valuenow")) == int(first) + 12
    said = canvas.get_attribute("aria-valuetext")
    assert said == lab.inner_text("#lab-inspector-text").replace("→", "becomes")


def test_paper_has_what_was_found_and_nothing_to_press(lab):
    lab.emulate_media(media="print")
    exact = lab.evaluate(
        """() => ['::before', '::after'].map(part =>
            getComputedStyle(document.querySelector('.lab-card i.top'), part).printColorAdjust)"""
    )
    assert exact == ["exact", "exact"], "bars are backgrounds"
    assert not lab.locator("#lab button:visible, #lab progress:visible").count()


def test_nothing_can_be_set_before_the_lab_is_there(page):
    held = []
    page.route("**/manifest.json", lambda route: held.append(route))
    with page.expect_request("**/manifest.json"):
        page.reload(wait_until="domcontentloaded")
    assert page.inner_text("#lab-notice") == "The lab is loading."
    assert page.locator(".lab-set").evaluate("e => e.inert")
    held[0].continue_()
    page.wait_for_selector("#lab-start:enabled")
    assert not page.locator("#lab [inert]").count()


def test_a_set_up_in_the_text_leaves_nothing_of_what_was_there(page):
    """It shows what its address shows to one who comes with nothing else."""
    with_fashion(page)
    href = page.locator("a.lab-setup[data-shows]").nth(1).get_attribute("href")
    page.goto(page.lab + href)
    page.wait_for_function("() => location.search.includes('data=mnist')")
    alone = page.evaluate("() => location.search")
    page.goto(f"{page.lab}?data=fashion-mnist&image=5&attack=pgd&steps=40&step=3")
    page.wait_for_selector("#lab-start:enabled")
    page.locator("a.lab-setup[data-shows]").nth(1).dispatch_event("click")
    page.wait_for_function("() => location.search.includes('image=2')")
    assert page.evaluate("() => location.search") == alone


# ---- Light, for everyone, and clear when something is missing


def test_nothing_heavy_is_loaded_before_the_reader_asks(page):
    sizes = web.loaded_bytes(page.asked)
    own = [size for file, size in sizes.items() if str(LAB) in file or "onnxruntime" in file]
    print(f"first load {sum(sizes.values()) / 1e3:.0f} kB, the lab {sum(own) / 1e3:.0f} kB")
    assert own and sum(own) < 200e3
    assert sum(sizes.values()) < 1e6


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_one_click_loads_less_than_20_megabytes_and_all_of_them_less_than_55(dataset):
    """The lab's start, or any one network; seven of them are 51 MB, of which each Q-large is a third."""
    runtime = sum(file.stat().st_size for file in (SITE / "_static" / "onnxruntime").iterdir())
    page = sum(file.stat().st_size for file in LAB.glob("*.*"))
    networks = {file.stem.rpartition("-")[0]: file.stat().st_size for file in LAB.glob(f"{dataset}/*")}
    start = runtime + sum(networks.get(name, 0) for name in ("cnn", "q-base"))
    everything = page + runtime + sum(networks.values())
    print(
        f"start {start / 1e6:.1f}, largest {max(networks.values()) / 1e6:.1f}, all {everything / 1e6:.1f} MB"
    )
    assert max(start, *networks.values()) < 20e6
    assert everything < 55e6


def test_start_says_how_much_it_loads(page, exported):
    runtime = json.loads((SITE / "_static" / "onnxruntime" / "files.json").read_text())
    first = ["cnn", "q-base"]
    for name in exported:
        page.check(f"#lab-net input[value='{name}']", force=True)
        size = sum(exported[one]["bytes"] for one in {*first, name}) + sum(runtime.values())
        page.wait_for_function(
            "text => document.getElementById('lab-start').textContent === text",
            arg=f"Start the lab, {size / 1e6:.1f} MB",
        )


def test_network_loads_on_demand(page, exported):
    name = not_at_the_start(exported)
    start(page)
    assert not any(exported[name]["file"] in url for url in page.asked)
    before = len(answers(page))
    page.locator(".lab-card button").first.click()
    page.wait_for_function(f"() => document.querySelectorAll('[data-verdict]').length > {before}")
    assert any(exported[name]["file"] in url for url in page.asked)


def test_asks_no_other_host(lab, address):
    assert not [url for url in lab.asked if not url.startswith((address, "data:", "blob:"))]


def test_works_by_keyboard(lab):
    lab.focus("#lab-net input:checked")
    lab.keyboard.press("ArrowRight")
    idle(lab)
    assert lab.locator("#lab-net input:checked").get_attribute("value") != "cnn"
    lab.focus("#lab-eps")
    before = float(lab.inner_text("#lab-eps-text"))
    lab.keyboard.press("ArrowRight")
    idle(lab)
    assert float(lab.inner_text("#lab-eps-text")) == pytest.approx(before + 0.01)
    lab.locator("#lab-maps canvas").first.focus()
    lab.keyboard.press("ArrowRight")
    before = lab.inner_text("#lab-inspector-text")
    lab.keyboard.press("ArrowDown")
    assert lab.inner_text("#lab-inspector-text") != before
    assert lab.locator(".lab-field:visible").count() == 3


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_running_lab_is_accessible_and_fits_a_phone(lab, mode):
    web.in_mode(lab, mode)
    choose(lab, "attack", "bim")
    lab.click("#lab-success")
    lab.wait_for_selector("#lab-success-table tbody tr")
    idle(lab)
    serious = web.violations(lab, inside="#lab", but=".citation-list")
    for size in (web.DESKTOP, web.PHONE):
        web.in_size(lab, size)
        lab.evaluate("() => scrollTo(0, 0)")
        web.picture(lab, f"lab-{mode}-{size['width']}")
    assert not serious, serious
    assert lab.evaluate("() => document.documentElement.scrollWidth") <= web.PHONE["width"]


def test_says_so_where_webassembly_is_missing(page):
    page.add_init_script("delete globalThis.WebAssembly")
    page.reload()
    page.wait_for_function("() => /no WebAssembly/.test(document.getElementById('lab-notice').textContent)")
    assert page.is_disabled("#lab-start")


@pytest.mark.parametrize("file", ["manifest.json", "ort-wasm-simd-threaded.wasm.bin", "cnn-*.bin"])
def test_says_so_where_a_file_cannot_be_loaded(page, file):
    page.route(
        f"**/{file}", lambda route: route.abort() if route.request.method == "GET" else route.continue_()
    )
    page.reload()
    if file != "manifest.json":
        page.click("#lab-start")
    page.wait_for_function(
        "() => /could not be loaded/.test(document.getElementById('lab-notice').textContent)"
    )
    assert page.is_visible("#lab-notice")
    page.unroute_all()
    if file == "manifest.json":
        page.reload()
    start(page)
    assert not page.is_visible("#lab-notice")


@pytest.mark.parametrize("file", ["manifest.json", "ort-wasm-simd-threaded.wasm.bin", "cnn-"])
def test_says_so_where_a_download_breaks_off(browser, file):
    class BreaksOff(web.Host):
        """Hangs up halfway through a file."""

        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[: len(content) // 2] if f"/{file}" in self.path else content)

    with web.serve(BreaksOff) as address:
        page = browser.new_page()
        page.goto(f"{address}/book/08-attack-lab.html")
        if file != "manifest.json":
            page.click("#lab-start:enabled")
        page.wait_for_selector("#lab-notice:visible")
        assert "could not be loaded: it broke off. Check" in page.inner_text("#lab-notice")
        assert not page.locator("#lab progress:visible").count()
        page.close()


def test_says_so_where_no_network_was_exported(page):
    manifest = json.loads(MANIFEST.read_text())
    for dataset in manifest["datasets"].values():
        dataset["networks"] = []
    page.route("**/manifest.json", lambda route: route.fulfill(json=manifest))
    page.reload()
    page.wait_for_function(
        "() => /No trained network/.test(document.getElementById('lab-notice').textContent)"
    )


@pytest.mark.parametrize(
    "missing, between", [([], True), (["q-inner"], False), (["q-large-adv", "q-inner"], False)]
)
def test_says_what_it_lacks_and_no_more_than_it_has(page, missing, between):
    """The sentences follow the released networks: the large map is there once a network has one."""
    manifest = json.loads(MANIFEST.read_text())
    digits = manifest["datasets"]["mnist"]
    digits["missing"] = missing
    layered = next(entry for entry in digits["networks"] if entry["heads"])
    digits["networks"] = [*digits["networks"][:1], layered]
    if between:
        digits["networks"].append(layered | {"name": "q-inner", "side": 28})
    page.route("**/manifest.json", lambda route: route.fulfill(json=manifest))
    page.reload()
    page.wait_for_selector("#lab-start:enabled")
    says = page.locator("#lab-missing")
    assert says.is_visible() == bool(missing)
    titles = {"q-large-adv": "Q-large (adv. trained)", "q-inner": "Q-inner"}
    if missing:
        listed = " and ".join(titles[name] for name in missing)
        assert says.inner_text().endswith(f"not released yet for MNIST: {listed}.")
    sizes = ", 12 \u00d7 12 of them"
    sizes += " and 28 \u00d7 28 where the layer stands between the convolutions" if between else ""
    assert page.text_content("#lab-sides") == sizes


@pytest.mark.parametrize("name", ["cnn", "q-base"])
def test_works_with_any_single_network(page, name):
    manifest = json.loads(MANIFEST.read_text())
    digits = manifest["datasets"]["mnist"]
    digits["networks"] = [entry for entry in digits["networks"] if entry["name"] == name]
    page.route("**/manifest.json", lambda route: route.fulfill(json=manifest))
    page.reload()
    start(page)
    assert len(answers(page)) == len(digits["networks"][0]["paths"])
    assert not page.is_visible("#lab-net")


def test_data_set_is_a_switch_once_both_have_networks(page):
    fashion = with_fashion(page)
    start(page)
    before = grey(page, "lab-clean")
    assert not any("?fashion" in url for url in page.asked), "it is loaded where it is asked for"
    choose(page, "data", "fashion-mnist")
    assert any("?fashion" in url for url in page.asked)
    assert (grey(page, "lab-clean") != before).any()
    assert page.locator("#lab-image canvas").first.get_attribute("aria-label") == "test image 1: T-shirt/top"
    assert answers(page)["CNN"][0].split(" → ")[0] in fashion["classes"]
    assert not page.is_visible("#lab-drawing")
    choose(page, "data", "mnist")
    assert (grey(page, "lab-clean") == before).all()


def test_the_switch_of_data_sets_keeps_the_focus(page):
    with_fashion(page)
    start(page)
    page.focus("#lab-data input:checked")
    for key, name in (("ArrowRight", "fashion-mnist"), ("ArrowLeft", "mnist")):
        page.keyboard.press(key)
        idle(page)
        assert page.evaluate("() => document.activeElement.value") == name
        assert page.is_checked(f"#lab-data input[value='{name}']")


COUNT_SESSIONS = """
async runtime => {
    const { InferenceSession } = await import(runtime), create = InferenceSession.create;
    window.sessions = 0;
    InferenceSession.create = (...given) => (window.sessions++, create.apply(InferenceSession, given));
}
"""


def test_back_at_a_data_set_nothing_is_loaded_or_unpacked_again(page, address):
    with_fashion(page)
    start(page)
    page.evaluate(COUNT_SESSIONS, f"{address}/_static/onnxruntime/ort.wasm.bundle.min.mjs")
    first = answers(page)
    choose(page, "data", "fashion-mnist")
    made, asked = page.evaluate("() => sessions"), len(page.asked)
    assert made > 0
    for name in ("mnist", "fashion-mnist", "mnist"):
        choose(page, "data", name)
    assert page.evaluate("() => sessions") == made
    assert page.asked[asked:] == []
    assert answers(page).keys() == first.keys(), "whatever was loaded answers again"


def test_answers_about_an_image_before_are_not_shown_again(page, exported):
    """Back at a data set, while a network loads, its others have not yet answered."""
    name = not_at_the_start(exported)
    with_fashion(page)
    start(page)
    choose(page, "data", "fashion-mnist")
    page.route(f"**/{exported[name]['file']}", lambda route: route.abort())
    page.evaluate(SET_UP, f"?data=mnist&net={name}&image=3")
    page.wait_for_selector("#lab-notice:visible")
    page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")  # all cards are drawn anew
    assert not answers(page)


def test_a_network_that_comes_late_gives_no_film_to_another(page, exported):
    """Who goes back to the CNN while a network is loading sees the CNN's adversarial image."""
    name = not_at_the_start(exported)
    start(page)
    page.locator("#lab-eps").fill("0.3")
    idle(page)
    expected, held = grey(page, "lab-adversarial"), []
    page.locator("#lab-eps").fill("0.1")
    idle(page)
    page.route(f"**/{exported[name]['file']}", lambda route: held.append(route))
    with page.expect_request(f"**/{exported[name]['file']}"):
        page.check(f"#lab-net input[value='{name}']", force=True)
    page.check("#lab-net input[value='cnn']", force=True)
    page.locator("#lab-eps").fill("0.3")
    held[0].continue_()
    idle(page)
    assert (grey(page, "lab-adversarial") == expected).all()


def test_page_scripts_stay_small():
    for script in LAB.glob("*.js"):
        assert len(script.read_text().splitlines()) <= 350, script.name
