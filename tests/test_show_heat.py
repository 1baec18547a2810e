"""Heat maps over heads and codes: what is recorded, what is not, and what k-means codebooks keep."""

import pandas as pd
import pytest
import torch

from qlayer_core import models
from qlayer_core.show import capacity, heat
from qlayer_core.study import experiments, records, tables


@pytest.fixture
def none_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)


def test_table_8_is_a_board_of_nine_with_the_papers_numbers(none_recorded):
    ours, published = heat.ablation("8a")
    assert set(published) == {(k, n) for k in (1, 2, 4) for n in (16, 64, 128)}
    assert published[1, 64] == 52.69 and published[4, 128] == 60.68
    assert not any(ours.values())
    text = heat.table_8("8a").text
    assert text.count("ours not trained yet") == 9 and "K = 2, 16 codes: paper 60.38" in text


def test_each_recorded_seed_is_a_number_of_its_cell(monkeypatch):
    frame = tables.table("8a", None).assign(seed=None, ours=float("nan"))
    again = frame[(frame.row == "K=2") & (frame.column == "n_c=16")].assign(ours=61.0)
    several = pd.concat([frame, again, again.assign(ours=63.0)])
    monkeypatch.setattr(heat.tables, "table", lambda number, seed: several)
    assert heat.ablation("8a")[0][2, 16] == [61.0, 63.0]
    assert "K = 2, 16 codes: paper 60.38, ours 61.00, 63.00" in heat.table_8("8a").text


def test_the_caption_is_seen_and_says_which_numbers_are_of_fewer_seeds(monkeypatch):
    frame = tables.table("8a", None).drop_duplicates(["row", "column"])
    some = frame.assign(seed=0, n=10_000, ours=50.0, low=49.0, high=51.5)
    there = frame.column != "n_c=128"
    again = some[(some.row == "K=2") & (some.column == "n_c=16")].assign(seed=1, ours=60.0)
    none = frame[~there].assign(seed=None, n=float("nan"), ours=float("nan"))
    monkeypatch.setattr(tables, "table", lambda number, seed: pd.concat([some[there], again, none]))
    monkeypatch.setattr(tables, "preferred", lambda *_: None)
    shown = heat.table_8("8a")
    caption = shown.html.split("</figure>")[-1].replace("&nbsp;", " ")
    where = "K = 1 with 16 and 64 codes; K = 2 with 64 codes; K = 4 with 16 and 64 codes"
    assert f"Seed 0 alone: 5 of 9 numbers ({where})." in caption
    assert "95 % Wilson interval of a number of one seed is at most 2.5 points wide" in caption
    for part in ("in percent", "mean over seeds", "on 10,000 test images", "computed in bfloat16"):
        assert part in caption, "of the records"
    assert "test images" not in shown.html.split("</figure>")[0], (
        "who hears the picture hears the caption next"
    )


def test_seeds_of_more_images_are_counted_on_those_that_all_were_measured_on(monkeypatch):
    frame = tables.table("8a", None).assign(seed=None, ours=float("nan"))
    cell = frame[(frame.row == "K=2") & (frame.column == "n_c=16")]
    bits = torch.arange(200) < 120
    few, many = (
        cell.assign(ours=share, n=n, right=records.pack(bits[:n])) for n, share in ((100, 100.0), (200, 60.0))
    )
    monkeypatch.setattr(heat.tables, "table", lambda number, seed: pd.concat([few, many]))
    assert heat.ablation("8a")[0][2, 16] == [100.0, 100.0]


def test_a_board_says_the_mean_of_each_cell():
    text = heat.board({(1, 16): [10.0, 20.0], (4, 128): [40.0]}, "lost").text
    assert text == "lost. K = 1, 16 codes: 15; K = 4, 128 codes: 40."


@pytest.fixture(scope="module")
def found():
    """Codebooks of 4 and 32 codes behind an untrained network with four heads."""
    generator = torch.Generator().manual_seed(0)
    net = models.build(experiments.spec("q-large")).eval()
    images = torch.rand(12, 1, 28, 28, generator=generator)
    return capacity.measure(net, images[:8], images[8:10], images[10:], sizes=(4, 32))


def test_there_is_one_number_for_each_group_of_heads(found):
    assert list(found) == list(capacity.MEASURES)
    assert {place: len(values) for place, values in found["lost"].items()} == {
        (heads, codes): tries for heads, tries in ((1, 4), (2, 2), (4, 1)) for codes in (4, 32)
    }


def test_more_heads_and_more_codes_lose_less(found):
    lost = {place: capacity.mean(found, "lost", *place) for place in found["lost"]}
    assert lost[1, 4] > lost[2, 4] > lost[4, 4]
    assert lost[1, 4] > lost[1, 32]
    assert all(0 < value < 100 for value in lost.values())


def test_a_position_changes_where_any_of_its_heads_does(found):
    one, two, four = (found["changed"][heads, 32] for heads in (1, 2, 4))
    assert two[0] >= max(one[:2]) and two[1] >= max(one[2:]) and four[0] >= max(two)


def test_what_does_not_move_changes_no_code():
    net = models.build(experiments.spec("q-large")).eval()
    images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    pushed = images[4:] * 0.5
    same = capacity.measure(net, images[:4], images[4:], images[4:], sizes=(4,))
    other = capacity.measure(net, images[:4], images[4:], pushed, sizes=(4,))
    assert set(same["changed"][4, 4]) == {0.0} and other["changed"][4, 4][0] > 0


def test_as_many_codes_as_vectors_lose_nothing():
    """Each feature vector is its own code then, and a linear reading gets it back."""
    net = models.build(experiments.spec("q-large")).eval()
    one = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    found = capacity.measure(net, one, one, one + 0.01, sizes=(144,))
    assert capacity.mean(found, "lost", 4, 144) < 1


def test_the_choice_has_a_page_for_each_measure():
    values = {(heads, codes): [float(heads)] for heads in (1, 2, 4) for codes in (16, 64, 128)}
    box = capacity.explore(dict.fromkeys(capacity.MEASURES, values))
    assert len(box.children[-1].children) == len(capacity.MEASURES)
    assert "moves 1 and 1 % as far as the features with one head, and 4 and 4 % as far with four" in (
        capacity.said(dict.fromkeys(capacity.MEASURES, values))
    )


def test_trained_codes_are_measured_like_those_of_k_means():
    net = models.build(experiments.spec("q-large")).eval()
    images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    assert capacity.own(net, images[:4], images[4:], images[4:] + 1e-9)["changed"] == 0
    pushed = capacity.own(net, images[:4], images[4:], images[4:] * 0.5)
    best = capacity.measure(net, images[:4], images[4:], images[4:] * 0.5, sizes=(64,))
    assert pushed["lost"] > best["lost"][4, 64][0], "these codes were never fitted"


def test_heads_and_codes_are_compared_where_the_other_stays_the_same():
    """(4, 64) has no neighbour: what 2 heads of 64 codes give is not known, nor 4 heads of 128."""
    values = {
        (1, 16): 1.0,
        (2, 16): 2.0,
        (4, 16): 3.0,
        (1, 128): 0.0,
        (2, 128): 5.0,
        (1, 64): 9.0,
        (4, 64): 4.0,
    }
    assert heat.wins(values) == {"heads": (3, 3), "codes": (2, 3)}
    assert heat.wins({(1, 16): 2.0, (2, 16): 1.0}) == {"heads": (0, 1), "codes": (0, 0)}


def test_the_papers_table_8a_has_more_heads_and_fewer_codes_ahead_in_every_pair():
    _, published = heat.ablation("8a")
    assert heat.wins(published) == {"heads": (6, 6), "codes": (6, 6)}


def test_the_reading_names_the_pairs_the_furthest_cell_and_the_seeds(monkeypatch):
    ours = {(1, 64): [40.0, 44.0], (2, 64): [30.0], (4, 64): []}
    monkeypatch.setattr(heat, "ablation", lambda _: (ours, {(1, 64): 41.0, (2, 64): 50.0, (4, 64): 60.0}))
    text = heat.reading("8a").text
    assert text.startswith("2 of our 3 networks are trained. With the same number of codes")
    assert "in 0 of 1 pairs, in the paper in 1." in text and "fewer than" not in text
    assert "K = 2 with 64 codes: 30.0 % instead of 50.0 %" in text and "up to 4.0 points apart" in text


def test_the_reading_of_nothing_says_so(none_recorded):
    assert heat.reading("8b").text == "None of ours is trained yet."
