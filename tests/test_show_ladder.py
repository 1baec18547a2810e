"""Ladders as the book shows them, on made-up records, and gradients followed live, on a small network."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from qlayer_core import attacks, intervals
from qlayer_core.attacks import surrogates
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.show import ahead, efforts, gradients, ladder
from qlayer_core.show.flags import flag_table, gradient_table
from qlayer_core.study import health, paper, records
from qlayer_core.study import ladder as study

N = 100


def made_up(model: str, left: dict[str, int], eps=(0.1, 0.2)) -> dict:
    """A record in which each rung spares the first so many images, at the larger epsilon half of them."""
    rungs = study.LAYER if model.startswith("q") else study.PLAIN
    cells = []
    for budget in eps:
        for rung in rungs:
            spared = left.get(rung.name, 90) // (1 if budget == eps[0] else 2)
            cells.append(
                {
                    "rung": rung.name,
                    "eps": budget,
                    "how": json.loads(json.dumps(vars(rung))),
                    "n": N,
                    "attacked": N,
                    "correct": spared,
                    "unmoved": 0,
                    "right": records.pack(torch.arange(N) < spared),
                }
            )
    return {
        "dataset": "mnist",
        "model": model,
        "seed": 0,
        "n": N,
        "clean": records.pack(torch.arange(N) < 98),
        "cells": cells,
    }


@pytest.fixture
def found() -> dict[str, dict]:
    return {
        "cnn": made_up("cnn", {"bim": 60, "noise": 97}),
        "q-base": made_up("q-base", {"bim on the e-path": 80, "apgd on soft codes": 20, "noise": 97}),
    }


def pages(widget) -> list[str]:
    if hasattr(widget, "children"):
        return [page for child in widget.children for page in pages(child)]
    value = getattr(widget, "value", None)
    return [value] if isinstance(value, str) and 'class="ql"' in value else []


# ---- records ----


def test_who_stands_shrinks_rung_by_rung_and_noise_fools_no_one_for_good(found):
    rows = ladder.climbed(found["q-base"], 0.1)
    standing = [row["standing"] for row in rows]
    assert standing == sorted(standing, reverse=True) and standing[0] == 98 and standing[-1] == 20
    by_name = {row["name"]: row for row in rows}
    assert by_name["noise"]["alone"] == 97
    assert by_name["bim on the e-path"] == {"name": "bim on the e-path", "alone": 80, "standing": 80, "n": N}
    assert by_name["square"]["alone"] is None  # it attacks the survivors alone


def test_rungs_stand_in_the_ladder_s_order_whatever_the_order_in_which_they_were_climbed(found):
    in_order = ladder.climbed(found["q-base"], 0.1)
    found["q-base"]["cells"].reverse()
    assert ladder.climbed(found["q-base"], 0.1) == in_order


def test_a_rung_with_twice_the_effort_counts_once_more_where_it_was_tried(found):
    record = found["q-base"]
    (base,) = (cell for cell in record["cells"] if (cell["rung"], cell["eps"]) == ("apgd on soft codes", 0.1))
    for purpose, spared in (("steps", 15), ("chance", 3)):
        more = base | {
            "rung": f"more {purpose}",
            "how": base["how"] | {"purpose": purpose},
            "correct": spared,
        }
        record["cells"].append(more | {"right": records.pack(torch.arange(N) < spared)})
    assert ladder.climbed(record, 0.1)[-1] == {"name": "more steps", "alone": 15, "standing": 15, "n": N}
    assert ladder.climbed(record, 0.2)[-1]["standing"] == 10


def test_a_page_per_budget_shows_both_ladders_with_their_numbers(found):
    first, second = pages(ladder.ladders(found))
    assert "<b>Q-base</b>, 100 images, 98 of them right" in first and "<b>CNN</b>" in first
    assert "<b>Left by all together at epsilon 0.10:</b> Q-base 20.0 %; CNN 60.0 %." in first
    assert "BIM on the E-path (the paper&#x27;s)" in first and "80.0 alone, 80.0 left" in first
    assert "20.0 alone, 20.0 left" in first and "10.0 alone, 10.0 left" in second
    assert first.count("<svg") == len(study.LAYER) + len(study.PLAIN)


def test_the_table_has_worst_case_interval_and_the_papers_attack(found):
    html = ladder.worst_table(found).html
    brief = re.sub("<.*?>", " ", html.partition("<details>")[0]).split()
    assert {"20.0", "60.0"} <= set(brief) and "97.0" not in brief, "the rest unfolds"
    low, high = intervals.wilson(20, N)
    seen = re.sub(r"<span style=.*?</span>", "", html)
    assert f"<strong>20.0</strong><br><small>{low:.1f}<br>{high:.1f}<br>80.0<br>97.0</small>" in seen
    assert "first 100 test images, seed 0. Shorter by some of the last rungs: CNN and Q-base." in html


def test_the_reading_names_the_strongest_single_attack(found):
    shown = ladder.reading(found, 0.1)
    seen = re.sub(r"</t[hd]>", " | ", shown.html)
    assert "Q-base | 20.0 (13.3 to 28.9) | 80.0 | 20.0 (APGD on soft codes) | 100 |" in re.sub(
        "<.*?>", "", seen
    )
    assert shown.text.endswith(
        "Q-base is more robust than the CNN; judged by all attacks, it is less robust."
    )
    large = made_up("q-large", {"bim on the e-path": 75, "apgd on soft codes": 30, "noise": 97})
    both = ladder.reading(found | {"q-large": large}, 0.1).text
    assert both.endswith(
        "Q-base and Q-large are more robust than the CNN; judged by all attacks, they are less robust."
    )


def test_networks_are_compared_in_pairs_of_images(found):
    text = ahead.verdict(found).text
    assert text.startswith("At no epsilon does Q-base keep clearly more images right than the CNN under all")
    gap, low, high = intervals.paired(0, 40, N)
    assert (
        f"Clearly behind it: Q-base at epsilon 0.1 ({gap:+.1f} points, {low:+.1f} to {high:+.1f}) and" in text
    )
    stronger = found | {"q-base": made_up("q-base", dict.fromkeys((r.name for r in study.LAYER), 90))}
    assert (
        "Under all attacks together, clearly ahead of the CNN: Q-base at epsilon 0.1 (+30.0"
        in ahead.verdict(stronger).text
    )


def test_several_networks_stand_in_one_picture_and_one_sentence(found):
    better = made_up("q-large", dict.fromkeys((r.name for r in study.LAYER), 90))
    three = found | {"q-large": better}
    drawn, text = ahead.ahead(three), ahead.verdict(three).text
    gap, low, high = intervals.paired(0, 40, N)
    assert f"Q-base {gap:+.1f} ({low:+.1f} to {high:+.1f}) at 0.1" in drawn.text
    assert "Q-large +30.0" in drawn.text and drawn.text.startswith(
        "Points ahead of the CNN under all attacks"
    )
    assert "together, clearly ahead of the CNN: Q-large at epsilon 0.1 (+30.0 points) and" in text
    assert "Clearly behind it: Q-base at epsilon 0.1 (-40.0 points) and" in text
    assert "any of them" in ahead.verdict(found | {"q-large": found["q-base"]}).text


def test_no_two_networks_of_a_picture_look_alike(found, monkeypatch):
    """Nor those that have no colour of their own."""
    some = found | {name: made_up(name, {}) for name in ("cnn-clean-selected", "q-large-shared")}
    drawn = []
    draw = Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *a, **how: drawn.append(how) or draw(*a, **how))
    ahead.ahead(some)
    assert len({(how["color"], how["marker"]) for how in drawn}) == len(drawn) == len(some) - 1


def test_the_first_ladder_is_of_a_network_with_the_layer(found):
    some = {"cnn-clean-selected": made_up("cnn-clean-selected", {}), **found}
    first, *_ = pages(ladder.ladders(some))
    assert "<b>Q-base</b>" in first and "clean images</b>" not in first


def test_adversarially_trained_networks_stand_beside_the_adversarially_trained_cnn(found):
    trained = {f"{name}-adv": {**record, "model": f"{name}-adv"} for name, record in found.items()}
    shown = pages(ladder.ladders(found | trained))
    assert len(shown) == 4
    assert all(("<b>CNN</b>" in page) != ("<b>CNN (adv. trained)</b>" in page) for page in shown)
    assert "does Q-base keep clearly more images right than the adversarially trained CNN under" in (
        ahead.verdict(trained).text
    )
    shown = ladder.reading(trained, 0.1)
    assert "Images left right (%) at epsilon 0.1, all adversarially trained;" in shown.text
    assert "Q-base is more robust than the CNN; judged by all" in shown.text


def test_bim_is_compared_on_the_images_that_both_ladders_are_of(found):
    """Of twice as many images the second half falls: who is of more would seem to be the weaker one."""

    def longer(cell: dict) -> dict:
        right = np.concatenate([records.unpack(cell), np.zeros(cell["n"], bool)])
        return cell | {"n": 2 * cell["n"], "right": records.pack(torch.from_numpy(right))}

    assert ladder._turns(found, "q-base", 0.1)
    more = found["q-base"] | {"n": 2 * found["q-base"]["n"]}
    more["clean"] = longer({"n": found["q-base"]["n"], "right": found["q-base"]["clean"]})["right"]
    more["cells"] = [longer(cell) for cell in found["q-base"]["cells"]]
    assert ladder._turns(found | {"q-base": more}, "q-base", 0.1)


def test_an_order_turns_only_where_the_network_is_clearly_behind(found):
    """Two images of a hundred less under all attacks say nothing."""
    for left, turns in ((58, False), (40, True)):
        layered = made_up("q-base", {"bim on the e-path": 80, "apgd on soft codes": left})
        assert ladder._turns(found | {"q-base": layered}, "q-base", 0.1) is turns


def test_who_is_of_another_number_of_images_than_most_is_named(found):
    assert ladder._images(found) == "100 test images"
    some = found | {"q-large": made_up("q-large", {}) | {"n": 2000}}
    assert ladder._images(some) == "100 test images (Q-large: 2,000)"


def test_flags_are_told_with_their_reasons(found):
    for record in found.values():
        assert "not measured" in flag_table({record["model"]: record}).html  # no rung with twice the steps
    few = made_up("cnn", {"apgd on the margin": 2})
    base = next(cell for cell in few["cells"] if cell["rung"] == "apgd on the margin")
    how = base["how"] | {"purpose": "steps"}
    few["cells"].append(base | {"rung": "apgd on the margin, twice the steps", "how": how})
    assert "too few to tell" in flag_table({"cnn": few}).html
    blind = made_up("q-base", {"transfer from a stranger": 5, "square": 50})
    html = flag_table({"q-base": blind}).html
    assert "<strong>Q-base, order.</strong> At epsilon 0.1, transfer from a stranger is stronger than" in html


def test_roads_without_a_gradient_are_told_by_loss_and_those_with_the_same_numbers_share_a_row(found):
    def zero(images: float, pixels: float) -> dict:
        exact = {"images": 0.0, "pixels": pixels}
        return {"ce": exact, "clipped": {"images": images, "pixels": pixels + images}}

    alone = {"itself": zero(35.5, 11.2)}
    roads = {
        "e": zero(2.5, 0.0),
        "straight-through": zero(1.0, 0.0),
        "soft 0.1": zero(1.0, 0.25),  # of some pixels more
        "latent": zero(1.0, 0.0),
    }
    for name, shares in (("cnn", alone), ("q-base", roads)):
        found[name]["health"] = {"gradients": shares}
    shown = gradient_table(found)
    rows = re.findall("<tr>(.*?)</tr>", shown.html)[1:]
    assert [re.sub("<.*?>", "", row.replace("<td>", " | ")) for row in rows] == [
        "CNN",
        "Its own gradient | 0.0 | 35.5 | 11.2 | 46.7",
        "Q-base",
        "E-path | 0.0 | 2.5 | 0.0 | 2.5",
        "Straight through and runner-up codes | 0.0 | 1.0 | 0.0 | 1.0",
        "Soft codes | 0.0 | 1.0 | 0.2 | 1.2",
    ]
    assert shown.text.endswith(f"Of the first {N} test images.")


def test_a_rung_is_found_by_name_and_agrees_with_its_own_record(found):
    right = np.arange(24) < 20
    assert ladder.agrees(found["q-base"], "apgd on soft codes", 0.1, right) == (20, 20, 0)
    with pytest.raises(ValueError, match=r"no 'noise' at epsilon 0\.3: only at 0\.1 and 0\.2$"):
        ladder.agrees(found["q-base"], "noise", 0.3, right)
    with pytest.raises(ValueError, match=r"no 'magic' at epsilon 0\.1: not at all$"):
        ladder.agrees(found["q-base"], "magic", 0.1, right)
    assert ladder.rung("bim on the e-path").surrogate == "e"
    with pytest.raises(ValueError, match="there is no rung 'magic'; choose one of noise"):
        ladder.rung("magic")


def test_rungs_are_spelled_as_in_the_text():
    assert ladder.rung_name("apgd on soft codes, ce") == "APGD on soft codes, cross-entropy"
    assert ladder.rung_name("bim on the e-path") == "BIM on the E-path"


def test_ladders_of_an_unknown_data_set_are_refused_rather_than_none():
    with pytest.raises(ValueError, match="unknown data set 'mnits'; choose one of mnist"):
        ladder.recorded("mnits")


# ---- gradients ----


def test_a_surer_network_looks_robust_to_the_clipped_gradient_alone(trained_cnn, digits):
    x, y = digits.first(30)
    left = gradients.sure_and_safe(trained_cnn, x, y, eps=0.2, factors=(1, 64), iterations=5)
    assert left["clipped gradient"][1] > left["clipped gradient"][0] + 30
    assert abs(left["exact gradient"][1] - left["exact gradient"][0]) <= 10
    assert left["never moved"][1] > 30 > left["never moved"][0]


def test_the_number_that_did_not_move_is_the_papers():
    table = paper.TABLES["6b"]
    text = gradients.same_number().text
    assert f"BIM, seeing: {table.cell('q-base e', 'bim 0.2').accuracy:.2f} at 0.2" in text
    assert re.search(r"BIM, seeing: (\S+) at 0\.2 and \1 at 0\.3", text)


@pytest.fixture(scope="module")
def net(trained_cnn, train_digits):
    """`trained_cnn` with a layer of 64 codes in front of its last one."""
    layer = QLayer(16, codebook_size=64, gate=False, start="k-means").train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        layer(trained_cnn[:4](train_digits.images[:1000]))
    return QNet(trained_cnn[:4], copy.deepcopy(layer), trained_cnn[4:], trained_cnn[4:]).eval()


def soft_codes(net: QNet, images: torch.Tensor) -> attacks.Model:
    """Return the road of soft codes, at a tenth of a typical gap."""
    return surrogates.soft(0.1 * surrogates.typical_gap(net, images), hard=True)(net)


def test_a_road_is_followed_within_the_budget_and_scored_by_the_network_itself(net, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    road = soft_codes(net, digits.images[:20])
    margins, last = gradients.followed(net, road, image, label, eps=0.1, step=0.02, iterations=10)
    assert len(margins) == 11 and (last - image).abs().max() <= 0.1 + 1e-6
    answer = health.deployed(net)
    with torch.no_grad():
        expected = -attacks.losses.margin(answer(last), torch.tensor([label]))[0]
    assert margins[-1] == pytest.approx(expected.item(), abs=1e-4) and margins[-1] < margins[0]
    text = gradients.digit_on_roads(net, {"soft codes": (margins, last)}, image, label, eps=0.1).text
    assert f"margin along soft codes from {margins[0]:.1f} to {margins[-1]:.1f}" in text


@pytest.mark.filterwarnings("ignore::qlayer_core.attacks.UnmovedWarning")
def test_the_telling_image_is_one_that_only_the_last_road_fools(net, digits):
    x, y = digits.first(40)
    roads = {
        "E-path": lambda images: surrogates.e(net)(images) * 0 + images.sum() * 0,
        "soft codes": soft_codes(net, x),
    }
    at = gradients.telling(net, roads, x, y, eps=0.2, iterations=15)
    made = attacks.bim(
        roads["soft codes"], x[at : at + 1], y[at : at + 1], eps=0.2, iterations=15, loss="margin"
    )
    with torch.no_grad():
        assert (
            health.deployed(net)(made).argmax(1) != y[at]
            and health.deployed(net)(x[at : at + 1]).argmax(1) == y[at]
        )


def test_temperatures_have_a_page_each_with_the_share_of_the_nearest_code(net, trained_cnn, digits):
    x, y = digits.first(12)
    found = gradients.warmth(
        net, x, y, beside=trained_cnn, values=(0.01, 10), epsilons=(0, 0.2), iterations=3
    )
    assert found.nearest[0.01] > found.nearest[10] and set(found.soft) == {0.01, 10}
    clean = 100 * (health.deployed(net)(x).argmax(1) == y).double().mean().item()
    assert found.soft[10][0] == found.others["E-path"][0] == pytest.approx(clean)
    widget = gradients.temperatures(found)
    shown = pages(widget)
    assert len(shown) == 4 and f"makes up {found.nearest[0.01]:.0f} %" in shown[0]
    (slider,) = (child for child in widget.children if getattr(child, "description", "") == "temperature")
    assert slider.index == 0, "it may not open at the answer"


def test_where_a_rung_kept_what_fooled_another_path_is_said(found):
    text = efforts.in_words(found).text
    assert "earlier" not in text
    for cell in found["q-base"]["cells"]:
        if cell["rung"] in ("apgd on the e-path", "apgd on the shortcut"):
            cell["how"]["surrogate"] = cell["how"]["surrogate"].removesuffix(", judged")
    assert efforts.in_words(found).text == (
        f"{text} On Q-base, an earlier and weaker form of APGD on the E-path and APGD on the shortcut: it kept the"
        " image that fooled the path which it follows."
    )


def test_efforts_are_those_of_the_ladder():
    text = efforts.in_words({}).text
    iterations = sorted({r.options["iterations"] for r in study.LAYER if "iterations" in r.options})
    assert iterations == [50, 100, 300]
    assert "PGD and APGD: 100 steps. On images of other networks, and" in text
    assert "APGD on averaged runner-up codes: 300 steps." in text
    assert "APGD on both paths, APGD on softer codes, APGD on soft codes towards each class and" in text
    assert "temperatures 0.1 and 0.5" in text and "Square: 1,000 questions per image" in text
