"""Other quantizers as the book shows them: digits through each, slopes, and recorded results, whatever there is."""

import dataclasses
import json
import re

import pytest
import torch
from conftest import small_q_net

from qlayer_core import attacks, baselines, codes, datasets
from qlayer_core.quantizers import BitDepth, Encoding
from qlayer_core.show import coarse, others, stairs, standings
from qlayer_core.show.page import DASH
from qlayer_core.study import experiments, ladder, records

N = 100


def rows_of(shown) -> list[list[str]]:
    """The cells of a table, as they are read."""
    rows = re.findall("<tr>(.*?)</tr>", shown.html)
    return [[re.sub("<.*?>", "", one) for one in re.findall("<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def pages(widget) -> list[str]:
    if hasattr(widget, "children"):
        return [page for child in widget.children for page in pages(child)]
    value = getattr(widget, "value", None)
    return [value] if isinstance(value, str) and 'class="ql"' in value else []


@pytest.fixture(scope="module")
def q_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return small_q_net(heads=1).eval()


# ---- pictures ----


def test_the_two_codes_whose_union_costs_least_are_merged_into_their_weighted_mean():
    book = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [9.0, 0.0]])
    found = coarse.coarser(book, torch.tensor([3, 1, 10, 10]), sizes=(2, 3, 4))
    assert torch.equal(found[4], book)
    assert torch.allclose(found[3], torch.tensor([[0.25, 0.0], [5.0, 0.0], [9.0, 0.0]]))
    # What was merged weighs as much as both did: four images.
    assert torch.allclose(found[2], torch.tensor([[(4 * 0.25 + 10 * 5.0) / 14, 0.0], [9.0, 0.0]]))
    # A code that nothing chooses is merged first, wherever it lies.
    unused = coarse.coarser(book, torch.tensor([3, 1, 10, 0]), sizes=(3,))[3]
    assert torch.allclose(unused, book[:3], atol=1e-6)


def test_with_all_its_codes_the_network_answers_as_it_does_by_itself(
    q_net, trained_cnn, digits, train_digits
):
    x, size = digits.images[:20], q_net.layer.codebook_size
    book = coarse.books(q_net, train_digits.images[:50], (size,))[size]
    colours = coarse.colours(size, train_digits.images[:50])
    found = coarse.seen(x, size, trained_cnn, q_net, book, colours)
    with torch.no_grad():
        assert torch.equal(found[coarse.CODES].answers, q_net(x).argmax(1))
    assert torch.equal(found[coarse.CODES].values, codes.layer_output(q_net, x).indices[0])
    assert torch.equal(found[coarse.LEVELS].values * (size - 1), Encoding(size).level(x)[:, 0].float())


def test_a_network_of_several_heads_is_refused():
    with pytest.raises(ValueError, match="2 heads; only a single codebook is merged"):
        coarse.books(small_q_net(heads=2), torch.zeros(1, 1, 28, 28))


def test_a_page_shows_each_quantizer_clean_and_attacked(q_net, trained_cnn, digits, train_digits):
    x, y = digits.first(2)
    made = attacks.fgsm(trained_cnn, x, eps=0.2)
    shown = pages(
        coarse.digit_explorer(x, made, y, trained_cnn, q_net, train_digits.images[:50], counts=(2, 16))
    )
    assert len(shown) == 4 and all(page.count("<img") == 10 for page in shown)
    assert "2 values." in shown[0] and "16 values." in shown[1]
    with torch.no_grad():
        reads = int(trained_cnn(made).argmax(1)[0])
    share = f"{100 * (x[0] != made[0]).double().mean():.0f} % differ"
    assert f"The attacked {y[0]}, as it is, reads {reads}; {share}" in shown[0]


def test_without_an_attack_only_the_random_one_differs(q_net, digits, train_digits):
    x = digits.images[:10]
    found = coarse.changed(x, {0.0: x.clone()}, q_net, train_digits.images[:50], counts=(4, 8))
    for by_name in found.values():
        assert by_name.pop(coarse.COLOURS)[0] > 5
        assert all(values == [0.0] for values in by_name.values())
    shown = pages(coarse.changed_explorer({4: {coarse.CODES: [0.0, 7.0]}}, (0, 0.1)))
    assert len(shown) == 1 and "7.0 %" in shown[0]


def test_a_pixel_is_in_reach_if_the_budget_carries_it_over_a_border():
    x = torch.tensor([0.0, 0.39, 0.41, 0.59, 0.61, 1.0]).view(1, 1, 2, 3)
    assert coarse.reach(x, BitDepth(1), 0.1) == pytest.approx(100 * 2 / 6)
    assert coarse.reach(x, BitDepth(1), 0.0) == 0 and coarse.reach(x, BitDepth(1), 0.6) == 100
    assert coarse.reach(x, Encoding(8).level, 0.13) == 100
    (first, *_) = pages(coarse.reach_explorer({"six": x}))
    assert "six, rounded" in first and "33.3 %" in first


def test_soft_levels_are_the_staircase_when_cold_and_their_slope_is_its_derivative():
    x, stairs_, flat = stairs.slopes(4, 1e-4)["staircase"]
    _, soft, slope = stairs.slopes(4, 0.03)["soft levels"]
    cold = stairs.slopes(4, 1e-4)["soft levels"][1]
    inside = ((x * 4) % 1 - 0.5).abs() < 0.4
    assert torch.allclose(cold[inside], stairs_[inside], atol=1e-3) and not flat.any()
    numeric = (soft[2:] - soft[:-2]) / (x[2:] - x[:-2])
    assert torch.allclose(slope[1:-1], numeric, atol=0.02)
    assert "slope from 1 to 1" in stairs.slope_picture(4, 0.03).text
    assert len(pages(stairs.slope_explorer(temperatures=(0.01, 0.1)))) == 2


def test_the_gradient_as_it_is_fools_no_one_and_the_adaptive_one_does(trained_cnn, digits):
    x, y = digits.first(20)
    roads = {"as it is": baselines.as_it_is, "adaptive": baselines.straight_through}
    left = stairs.left_by_bits(trained_cnn, trained_cnn, x, y, roads, eps=0.2, bits=[1, 5])
    with torch.no_grad():
        clean = [100 * (trained_cnn(BitDepth(b)(x)).argmax(1) == y).float().mean().item() for b in (1, 5)]
    assert left["as it is"] == clean
    assert left["adaptive"][1] < clean[1] - 30 and left["blind"][1] < clean[1]


# ---- records ----


def cell(setting, attack, eps, right, *, source=None, along=None, path=None, n=N) -> dict:
    packed = records.pack(torch.arange(n) < right)
    return {
        "setting": setting,
        "attack": attack,
        "eps": eps,
        "source": source,
        "attacked_path": along,
        "path": path,
        "n": n,
        "correct": right,
        "accuracy": 100 * right / n,
        "unmoved": 0,
        "right": packed,
    }


@pytest.fixture
def write(tmp_path, monkeypatch):
    """An empty folder of records; returns a function that writes one with what each attack leaves."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def written(
        name: str, blind: int, plain: int, adaptive: int | None = None, n: int = N, dataset: str = "mnist"
    ) -> None:
        unit = records.unit(dataset, name)
        path, along = ("q", "e") if unit.spec.layer else (None, None)
        cells = [cell("clean", "none", 0.0, 98, path=path)]
        for attack in ("fgsm", "bim"):
            for eps in datasets.find(dataset).epsilons:
                cells += [
                    cell("black-box", attack, eps, blind, source="cnn-a", path=path, n=n),
                    cell("white-box", attack, eps, plain, along=along, path=path, n=n),
                ]
                if adaptive is not None:
                    cells.append(cell("white-box", attack, eps, adaptive, along="adaptive", n=n))
        record = records.new_record(unit) | {"cells": cells, "weights_sha256": name}
        records.write(record)

    return written


def climb(name: str, left: int, n: int = N) -> None:
    """Record a ladder of which every rung leaves the first so many images, and noise nearly all."""
    spec = experiments.spec(name)
    made = []
    for eps in ladder.epsilons("mnist"):
        for rung in ladder.ladder(spec):
            if rung.purpose == "ladder":
                spared = n - 2 if rung.kind == "control" else left
                made.append(
                    {
                        "rung": rung.name,
                        "eps": eps,
                        "how": json.loads(json.dumps(dataclasses.asdict(rung))),
                        "n": n,
                        "attacked": n,
                        "correct": spared,
                        "unmoved": 0,
                        "right": records.pack(torch.arange(n) < spared),
                    }
                )
    unit = records.unit("mnist", name)
    place = unit.record.parent / "adaptive" / unit.record.name
    place.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "format": records.FORMAT,
        "dataset": "mnist",
        "model": name,
        "seed": 0,
        "weights_sha256": name,
        "n": n,
        "clean": records.pack(torch.arange(n) < n - 1),
        "cells": made,
    }
    place.write_text(json.dumps(record))


def test_without_any_record_the_chapter_says_so(write):
    assert others.results_table().html.count("<tr>") == 1  # its head
    assert others.masked().text.endswith("recorded yet.")
    assert standings.standings().text == (
        "Nothing is recorded yet of a network behind a quantizer of its input for: blind BIM, seeing BIM and all"
        " attacks together."
    )
    assert others.flags(others.ladders()).html == ""
    box = others.missing().html
    assert "Not trained: feature squeezing; one-hot encoding; thermometer encoding" in box
    assert "python -m qlayer_core train mnist squeezing --seed 0" in box


def test_what_is_missing_shrinks_stage_by_stage(write):
    unit = records.unit("mnist", "thermometer")
    records.write(records.new_record(unit))
    assert "Trained, but not attacked: thermometer encoding. To make" in others.missing().html
    write("thermometer", 50, 90)
    assert "Attacked in part: thermometer encoding. To make" in others.missing().html
    write("thermometer", 50, 90, 10)
    assert "Without a ladder of attacks: thermometer encoding. To make" in others.missing().html
    climb("thermometer", 5)
    assert "thermometer encoding. To" not in others.missing().html
    for name in experiments.QUANTIZED:
        for how in ("", "-adv"):
            write(f"{name}{how}", 50, 90, 10)
        climb(name, 5)
    assert others.missing().html == ""


def test_each_cell_has_the_three_attackers_and_marks_fewer_images(write):
    write("cnn", 60, 4)
    write("q-base", 80, 40)
    write("thermometer", 50, 90, 10, n=50 * 2)
    html = others.results_table().html
    assert html.count("<tr>") == 4 and "thermometer encoding" in html
    assert html.count(">adaptive<") == 1  # the attack adapts to quantizers of the input alone
    assert "90.0" in html and "10.0" in html and "°" in html
    found = others.recorded()
    assert others.cell(found["q-base"], "bim", 0.2, others.PLAIN)["attacked_path"] == "e"
    assert others.cell(found["q-base"], "bim", 0.2, others.ADAPTIVE) is None
    assert others.cell(found["thermometer"], "bim", 0.2, others.ADAPTIVE)["correct"] == 10


def test_still_fewer_images_have_a_mark_of_their_own(write):
    write("thermometer", 50, 90, 10)
    write("randomised", 40, 45, 20, n=50)
    html = others.results_table().html
    assert "° Only the first 100 test images. °° Only the first 50 test images." in html
    assert html.count("°°") == 12 + 2, "twelve numbers; and the caption, which is seen and heard"


def test_a_failed_attack_and_the_one_that_suits_are_told_apart_in_words(write):
    write("thermometer", 50, 90, 10)
    write("randomised", 50, 30, 60)
    shown = others.masked()
    text = shown.text
    assert others.masked(eps=0.25).text.endswith("all three attacks with epsilon 0.25 recorded yet.")
    assert ["thermometer encoding", "50.0", "90.0", "10.0"] in rows_of(shown)
    assert (
        "does worse than the blind attacker by more than a point on thermometer encoding: the sign of a failed attack"
        in text
    )
    assert "fools more than the one as it is, by more than a point, on thermometer encoding." in text
    assert "It still fools fewer than the blind attack on randomised discretisation" in text


def test_the_blind_attack_is_told_on_the_images_that_all_share(write):
    write("cnn", 60, 4)
    write("thermometer", 30, 90, 10, n=50)
    shown = standings.standings(ways=(standings.BLIND,))
    assert "blind BIM of the first 50" in shown.text
    assert rows_of(shown)[1:] == [["CNN", "100.0"], ["thermometer encoding", "60.0"]]


def test_the_seeing_attack_is_told_by_what_suits_each_network(write):
    write("cnn", 60, 4)
    write("q-base", 80, 40)
    write("thermometer", 50, 90, 10)
    write("one-hot", 50, 90)  # its adaptive attack is still missing: as it is says nothing
    shown = standings.standings(ways=(standings.SEEING,))
    assert "seeing BIM of the first 100" in shown.text
    assert rows_of(shown)[1:] == [["Q-base", "40.0"], ["thermometer encoding", "10.0"], ["CNN", "4.0"]]


def test_adversarially_trained_networks_are_told_beside_their_plain_one(write):
    write("thermometer", 50, 90, 10)
    for shown in (others.masked(adversarial=True), standings.standings(adversarial=True)):
        assert "adversarially trained network behind a quantizer" in shown.text  # none is recorded yet
    write("cnn-adv", 80, 70)
    write("thermometer-adv", 60, 99, 75)
    shown = others.masked(adversarial=True)
    assert "adversarially trained, on the same images" in shown.text
    assert rows_of(shown)[1:] == [["thermometer encoding", "60.0", "99.0", "75.0"]]  # not the raw one
    shown = standings.standings(ways=(standings.SEEING,), adversarial=True)
    assert "all adversarially trained: seeing BIM of the first 100" in shown.text
    assert rows_of(shown)[1:] == [["thermometer encoding", "75.0"], ["CNN", "70.0"]]


def test_garments_are_told_apart_from_digits(write):
    for name, blind, adaptive in (("cnn", 50, None), ("squeezing", 60, 10)):
        write(name, blind, 90, adaptive, dataset="fashion-mnist")
    assert "FGSM 0.1" in others.results_table("fashion-mnist").html
    shown = standings.standings("fashion-mnist")
    assert shown.text.startswith(
        "Garments left right (%) at epsilon 0.2: blind BIM of the first 100 and seeing BIM"
    )
    assert rows_of(shown)[1:] == [["CNN", "50.0", "90.0"], ["feature squeezing", "60.0", "10.0"]]
    assert "recorded yet" in standings.standings().text


def test_the_layer_has_a_place_among_the_ladders(write):
    for name, left in (("cnn", 40), ("q-base", 42), ("squeezing", 90), ("one-hot", 5)):
        write(name, 50, 90, None if name in ("cnn", "q-base") else 10)
        climb(name, left)
    found = others.ladders()
    assert list(found) == ["cnn", "q-base", "squeezing", "one-hot"]
    shown = standings.standings(eps=0.1, ways=(standings.TOGETHER,))
    assert rows_of(shown) == [
        ["network", "all attacks together", "beside Q-base"],
        ["feature squeezing", "90.0", "clearly ahead"],
        ["Q-base", "42.0", DASH],
        ["CNN", "40.0", "no clear difference"],
        ["one-hot encoding", "5.0", "clearly behind"],
    ]
    assert "one-hot encoding" in others.flags(found).html and "Q-base" not in others.flags(found).html


def test_choosing_among_levels_is_told_beside_the_best_slope(write):
    for name, left in (("cnn", 10), ("squeezing", 40), ("one-hot", 20)):
        write(name, 50, 90, None if name == "cnn" else 10)
        climb(name, left)
    found = others.ladders()
    text = others.levels_beside_slopes(found, 0.1).text
    assert text.endswith(
        "straight through): feature squeezing 40.0 % (40.0 %) and one-hot encoding 20.0 % (20.0 %)."
    )
    for one in found["squeezing"]["cells"]:
        if one["rung"] == "ls-pga":
            one["correct"] = 30
    text = others.levels_beside_slopes(found, 0.1).text
    assert "feature squeezing 30.0 % (40.0 %)" in text and text.endswith("finds more on feature squeezing.")
    some = next(one for one in found["one-hot"]["cells"] if "straight through" in one["rung"])
    some["correct"] = 15  # of several slopes the best counts
    assert "one-hot encoding 20.0 % (15.0 %)" in others.levels_beside_slopes(found, some["eps"]).text
    assert others.levels_beside_slopes({"cnn": found["cnn"]}, 0.1).html == ""


def test_ladders_of_the_adversarially_trained_stand_apart(write):
    for name, left in (("cnn", 10), ("thermometer", 5), ("cnn-adv", 70), ("q-base-adv", 40)):
        write(name, 50, 90)
        climb(name, left)
    found = others.ladders(adversarial=True)
    assert list(found) == ["cnn-adv", "q-base-adv"]
    how = {"eps": 0.1, "ways": (standings.TOGETHER,), "adversarial": True}
    assert "recorded yet" in standings.standings(**how).text  # but for the raw one's
    write("thermometer-adv", 50, 90, 60)
    climb("thermometer-adv", 90)
    assert rows_of(standings.standings(**how))[1:] == [
        ["thermometer encoding", "90.0", "clearly ahead"],
        ["CNN", "70.0", "clearly ahead"],
        ["Q-base", "40.0", DASH],
    ]


def test_a_ladder_with_a_rung_missing_is_none(write):
    write("squeezing", 50, 90, 10)
    climb("squeezing", 20)
    unit = records.unit("mnist", "squeezing")
    place = unit.record.parent / "adaptive" / unit.record.name
    record = json.loads(place.read_text())
    record["cells"] = [one for one in record["cells"] if one["rung"] != "apgd straight through"]
    place.write_text(json.dumps(record))
    assert others.ladders() == {}


def test_gains_of_both_data_sets_and_trainings_stand_side_by_side(write):
    def learn(name, dataset, *points):
        unit = records.unit(dataset, name)
        history = [
            {"epoch": i + 1, "score": left, "accuracy": {None: {"clean": clean, "fgsm 0.2": left}}}
            for i, (clean, left) in enumerate(points)
        ]
        records.write(records.new_record(unit) | {"history": history, "weights_sha256": name})

    learn("cnn", "mnist", (98, 50))
    learn("squeezing", "mnist", (97, 70), (98, 60))
    learn("cnn-adv", "fashion-mnist", (90, 40))
    learn("squeezing-adv", "fashion-mnist", (80, 45))
    learn("one-hot-adv", "mnist", (99, 99))  # without a plain network beside it
    html = others.equal_gains().html
    assert html.count("<tr>") == 2  # the head, and squeezing
    seen = [re.sub(r"<span.*?</span>|<[^>]+>", " ", cell).split() for cell in html.split("<td>")[1:]]
    assert seen == [
        ["+10.0", DASH, "+20.0", DASH],
        ["not", "trained"],
        ["not", "trained"],
        [DASH, DASH, "+5.0", DASH],
    ]


def test_standing_is_counted_on_the_images_that_all_ladders_share(write):
    for name, n in (("squeezing", 100), ("one-hot", 60)):
        write(name, 50, 90, 10)
        climb(name, 30, n)
    found = standings.left(standings.TOGETHER, eps=0.1)
    assert [(len(left), left.sum()) for left in found.values()] == [(60, 30), (60, 30)]
