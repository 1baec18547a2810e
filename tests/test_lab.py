"""The attack lab in a real browser: the page's networks and attacks are Python's, and the page is pleasant to use.

Needs the site (`make book`) and Chromium, like the other pages' tests.
"""

import base64
import json
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import test_site
import torch
from website import SITE, WEB

from qlayer_core import attacks, export, models, results

address, browser = test_site.address, test_site.browser  # fixtures

ATTACKED = ("cnn", "q-base", "q-large")
EPSILONS = (0.1, 0.2, 0.3)
STEPS = 20
LAB = SITE / "_static" / "lab"
MANIFEST = LAB / "manifest.json"


@pytest.fixture(scope="module")
def exported():
    """The networks of MNIST that the site was built with, by name: entries of the manifest."""
    return {
        entry["name"]: entry for entry in json.loads(MANIFEST.read_text())["datasets"]["mnist"]["networks"]
    }


@pytest.fixture
def page(browser, address):
    """The lab, opened but not started, and what it asked for: `page.asked`, (address, bytes)."""
    page = browser.new_page()
    page.asked, page.lab = [], f"{address}/book/05-attack-lab.html"
    page.on("requestfinished", lambda r: page.asked.append((r.url, r.sizes()["responseBodySize"])))
    page.on("pageerror", lambda error: page.asked.append((f"error {error}", 0)))
    page.goto(page.lab, wait_until="networkidle")
    yield page
    page.close()


@pytest.fixture
def lab(page):
    """The lab, started, with its first networks loaded."""
    start(page)
    return page


def start(page):
    page.click("#lab-start")
    page.wait_for_selector("#lab-begin", state="hidden")
    page.wait_for_selector(".lab-card[data-verdict]")
    idle(page)


def idle(page):
    page.wait_for_function("() => !('busy' in document.getElementById('lab').dataset)")


def choose(page, name, value):
    page.check(f"#lab-{name} input[value='{value}']", force=True)
    idle(page)


def slide(page, name, value):
    page.evaluate(
        """([name, value]) => {
            const input = document.getElementById(name);
            input.value = value;
            input.dispatchEvent(new Event("input", {bubbles: true}));
        }""",
        [f"lab-{name}", value],
    )
    idle(page)


def image(page, canvas):
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
  const encode = (values) => {
    let text = "";
    for (const byte of new Uint8Array(values.buffer, values.byteOffset, values.byteLength)) text += String.fromCharCode(byte);
    return btoa(text);
  };
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


@pytest.mark.parametrize("attack", ["fgsm", "bim"])
@pytest.mark.parametrize("name", ATTACKED)
def test_page_and_python_agree(page, exported, address, name, attack):
    """20 test images at three values of epsilon, attacked in the page and in Python."""
    if name not in exported:
        pytest.skip(f"the site was built without {name}: its weights are not released")
    model, _ = results.load("mnist", name)
    images, _ = export.tray("mnist")
    is_q_net = isinstance(model, models.QNet)
    path = "e" if is_q_net else "logits"
    packed = base64.b64encode((images * 255).round().byte().numpy()).decode()
    module = f"{address}/_static/lab/lab.js"
    found = page.evaluate(ATTACK_ALL, [exported[name], path, packed, attack, EPSILONS, STEPS, module])
    pages = np.stack([np.frombuffer(base64.b64decode(row["image"]), np.float32) for row in found])
    pages = torch.from_numpy(pages.reshape(len(EPSILONS), *images.shape).copy())

    attacked = partial(model, path="e") if is_q_net else model
    same_answers, same_pixels = [], []
    for i, eps in enumerate(EPSILONS):
        if attack == "fgsm":
            ours = attacks.fgsm(attacked, images, eps=eps)
        else:
            ours = attacks.bim(attacked, images, eps=eps, step=2.5 * eps / STEPS, iterations=STEPS)
        rows = found[i * len(images) : (i + 1) * len(images)]
        with torch.no_grad():
            answers = [model(ours, path="q"), model(ours, path="e")] if is_q_net else [model(ours)]
        for number, logits in enumerate(answers):
            theirs = torch.tensor([row["logits"][number] for row in rows])
            same_answers.append((theirs.argmax(1) == logits.argmax(1)).float())
        apart = (pages[i] - ours).abs() > 1e-6
        if attack == "fgsm":
            gradient, _ = attacks._gradient(attacked, images, None, attacks.cross_entropy)
            largest = gradient.abs().amax((1, 2, 3), keepdim=True)
            assert not (apart & (gradient.abs() > 1e-4 * largest)).any(), (
                "pixels differ that are no sign ties"
            )
        same_pixels.append((~apart).float())
    answers, pixels = torch.cat(same_answers).mean().item(), torch.cat(same_pixels).mean().item()
    print(f"{name} {attack}: answers {answers:.4f}, pixels {pixels:.5f}")
    assert answers >= 0.99
    assert pixels >= 0.99
