"""What the chapter on pixels and concepts shows says what the models and the records say."""

import html
import json
import math
import re

import numpy as np
import pytest
import torch
from conftest import small_q_net
from javascript import node

from qlayer_core import codes, pixelcnn, show
from qlayer_core.pixelcnn import Settings
from qlayer_core.show.need import need
from qlayer_core.study import divergence, likelihoods, scores

N = 200


@pytest.fixture(scope="module")
def record() -> dict:
    """A record of codes whose likelihoods are drawn: FGSM images are 2 bits more surprising, noisy ones 1."""
    random, record = np.random.default_rng(0), {"symbols": {"heads": 1, "values": 64, "side": [12, 12]}}
    record |= {"sets": {}, "statistics": [], "history": [{}, {}], "name": "q-base"}
    record["bits"] = {"uniform": 6.0, "independent": 3.0, "model": 2.0}
    for name in (
        "clean",
        *(f"{kind} {eps:g}" for kind in likelihoods.PERTURBATIONS for eps in likelihoods.EPSILONS),
    ):
        more = {"clean": 0, "fgsm": 2, "signs": 1, "uniform": 0.5}[name.split()[0]]
        nats = -144 * math.log(2) * (2 + more + 0.3 * random.normal(size=N))
        packed = scores.pack(torch.from_numpy(nats))
        record["sets"][name] = {"n": N, "log_likelihoods": packed, "changed": 40.0 * more, "accuracy": 90.0}
        record["statistics"].append(scores.describe(record, name))
    return record


# ---- A chain of pixels ----


@pytest.fixture(scope="module")
def chance() -> torch.Tensor:
    return torch.rand(4, 4, 2, 2, generator=torch.Generator().manual_seed(0)).round(decimals=4)


def factors(chance: torch.Tensor, picture: torch.Tensor) -> list[float]:
    """The factor of each pixel, one by one."""
    found = []
    for row, column in np.ndindex(4, 4):
        left = picture[row, column - 1] if column else 0
        upper = picture[row - 1, column] if row else 0
        white = chance[row, column, int(left), int(upper)].item()
        found.append(white if picture[row, column] else 1 - white)
    return found


def test_page_and_figure_have_the_factors_of_the_table(chance):
    picture = torch.randint(0, 2, (4, 4), generator=torch.Generator().manual_seed(1))
    markup = show.pixels.chain(chance, [(3, picture)])
    told = json.loads(html.unescape(re.search(r'data-chain="([^"]*)"', markup.html)[1]))
    pixels = [int(pixel) for pixel in told["digits"][0]["pixels"]]
    assert pixels == picture.flatten().tolist()
    found = node(f"chain.factors({json.dumps(told['chance'])}, {pixels})", "chain")
    assert found == pytest.approx(factors(chance, picture), abs=1e-6)
    shown = [float(number) for number in re.findall(r"\d\.\d\d", markup.text)]
    assert shown == pytest.approx(found, abs=0.0051)


def test_all_pictures_have_probability_one_and_draws_follow_it(chance):
    told = json.dumps(show_chance(chance))
    assert node(f"chain.total({told})", "chain") == pytest.approx(1, abs=1e-9)
    drawn = node(
        f"(() => {{ const next = random.uniform(3);"
        f" return Array.from({{length: 4000}}, () => chain.draw({told}, next)); }})()",
        "chain",
        "random",
    )
    pictures = np.array(drawn)
    assert pictures[:, 0].mean() == pytest.approx(chance[0, 0, 0, 0].item(), abs=0.03)
    after_white = pictures[pictures[:, 0] == 1]
    assert after_white[:, 1].mean() == pytest.approx(chance[0, 1, 1, 0].item(), abs=0.05)


def show_chance(chance: torch.Tensor) -> list:
    return [[[[round(p, 4) for p in up] for up in left] for left in row] for row in chance.tolist()]


# ---- Models ----


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    network = small_q_net(heads=1).eval()
    tiny = Settings(layers=2, filters=4)
    return network, pixelcnn.over_pixels(tiny).eval(), pixelcnn.over_codes(network.layer, tiny).eval()


def test_predictions_say_the_surprise_of_the_model(models, digits):
    image = digits.images[0]
    markup = show.pixels.predictions(models[1], image, [(3, 4), (14, 14)])
    with torch.no_grad():
        nats = pixelcnn.surprise(models[1], pixelcnn.as_symbols(image[None]))[0, 0]
    for row, column in ((3, 4), (14, 14)):
        said = re.search(rf"row {row}, column {column}: value (\d+), ([\d.]+) bits", markup.text)
        assert int(said[1]) == round(image[0, row, column].item() * 255)
        assert float(said[2]) == pytest.approx(nats[row, column].item() / math.log(2), abs=0.051)


def test_surprise_explorer_shows_the_mean_of_its_maps(models, digits, monkeypatch):
    network, of_pixels, of_codes = models
    monkeypatch.setattr(likelihoods, "perturbed", lambda dataset, x, kind, eps: (x + eps).clamp(0, 1))
    widget = show.pixels.surprise_explorer(
        {"pixels": of_pixels, "q-base": of_codes}, network, digits.images[:1], digits.labels[:1], [0.0, 0.2],
        kinds=("signs",),
    )  # fmt: skip
    images = widget.children[-1]
    kinds = images.children[0]
    page = kinds.children[0].children[1].value
    moved = (digits.images[:1] + 0.2).clamp(0, 1)
    for model, symbols in (
        (of_pixels, pixelcnn.as_symbols(moved)),
        (of_codes, likelihoods.encode(network, moved)),
    ):
        with torch.no_grad():
            bits = pixelcnn.surprise(model, symbols).mean().item() / math.log(2)
        assert f"{bits:.2f} bits each" in page


def test_an_image_that_is_read_as_its_class_has_a_tick_and_another_a_cross(models, digits, monkeypatch):
    network, of_pixels, _ = models
    monkeypatch.setattr(likelihoods, "perturbed", lambda dataset, x, kind, eps: x)
    image = digits.images[:1]
    with torch.no_grad():
        answer = network(image).argmax(1)
    for label, sign in ((answer, "✓"), ((answer + 1) % 10, "✗")):
        widget = show.pixels.surprise_explorer(
            {"pixels": of_pixels}, network, image, label, [0.0, 0.2], kinds=("signs",)
        )
        page = widget.children[-1].children[0].children[0].children[0].value
        assert f"read as {show.pixels.DIGITS[int(answer)]} {sign}" in page


def test_painted_codes_are_the_mean_of_what_chose_them(digits):
    torch.manual_seed(0)
    network, images = small_q_net(heads=1).eval(), digits.images[:6]
    patches = codes.mean_patches(network, images)
    chosen = likelihoods.encode(network, images)[:, 0].numpy()
    code = chosen[2, 3, 4]
    own = [
        images[i, 0, 3 * row : 3 * row + 5, 3 * column : 3 * column + 5].numpy()
        for i, row, column in np.argwhere(chosen == code)
    ]
    assert patches[code] == pytest.approx(np.mean(own, 0), abs=1e-6)
    # One code everywhere, a patch of a single grey: the painted image has this grey wherever a position looks.
    (painted,) = codes.painted(network, np.zeros((1, 8, 8), int), np.full((16, 5, 5), 0.25))
    assert painted.shape == (28, 28)
    assert painted[:26, :26] == pytest.approx(0.25) and (painted[26:] == 0).all()


# ---- Figure 2 ----


def test_histograms_and_curves_say_the_recorded_numbers(record):
    text = show.figure_2.histograms([("codes", record, ["clean", "fgsm 0.4"])]).text
    means = [float(number) for number in re.findall(r"(?:clean|FGSM) (\d\.\d\d)", text)]
    assert means == pytest.approx([2, 4], abs=0.08)
    text = show.figure_2.against_epsilon({"q-base": record}).text
    assert "codes of Q-base, FGSM: 1.00 1.00 1.00 1.00" in text


def test_bits_per_symbol_are_the_likelihoods(record):
    bits = show.figure_2.per_symbol(record, "fgsm 0.2")
    assert bits.mean() == pytest.approx(show.figure_2.statistic(record, "fgsm 0.2", "bits"), rel=1e-6)


def test_the_table_names_the_ceiling_of_its_estimate(record):
    text = show.figure_2.apart({"q-base": record}).text
    assert f"{divergence.ceiling(N):.2f} is the most" in text and f"{N} test images" in text


def test_the_spread_over_seeds_runs_from_the_lowest_to_the_highest_on_the_same_images(record):
    few = {name: found | {"n": 50, "log_likelihoods": ""} for name, found in record["sets"].items()}
    for name, found in few.items():
        found["log_likelihoods"] = scores.pack(torch.from_numpy(scores.unpack(record["sets"][name])[:50]))
    other = record | {"sets": few, "bits": record["bits"] | {"model": 2.25}}
    cells = re.findall(r"<td>([^<]*)</td>", show.figure_2.spread({"q-base": [other, record]}).html)
    assert cells[:3] == ["2", "50", "2.000 to 2.250"]
    # All else is of the 50 images that both scored, so both agree, though the formula is a sum over images.
    clean, attacked = (scores.unpack(few[name]) for name in ("clean", "fgsm 0.4"))
    assert cells[6] == f"{divergence.published(clean, attacked, 144 * 64):.3f}"
    assert all("to" not in cell for cell in cells[3:])


def test_flips_stand_beside_accuracy(record):
    markup = show.figure_2.flips(record)
    assert "80.0" in markup.html and "90.0 %" in markup.text


def test_bits_of_a_model_stand_beside_those_of_simpler_ones(record):
    cells = re.findall(r"<td>([^<]*)</td>", show.pixels.bits_table({"q-base": record}).html)
    assert cells == ["64", "6.00", "3.00", "2.00", "2"]


def test_a_chapter_can_ask_for_a_pixelcnn(monkeypatch, tmp_path):
    for name in ("RESULTS", "RUNS", "WEIGHTS"):
        monkeypatch.setattr(likelihoods, name, tmp_path)
    with pytest.raises(FileNotFoundError, match="likelihoods mnist pixels"):
        need("pixelcnn/pixels")
