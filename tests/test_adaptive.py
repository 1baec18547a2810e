"""The adaptive evaluation: the ladder, its worst case per image, resuming, and each sanity check."""

import copy
import sys
import warnings
from functools import partial

import pytest
import torch
from conftest import small_q_net
from torch import Tensor, nn

from qlayer_core import attacks, baselines, datasets, evaluation, files
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet
from qlayer_core.study import (
    adaptive,
    experiments,
    fingerprint,
    health,
    ladder,
    making,
    measured,
    records,
    variants,
)
from qlayer_core.study.ladder import Rung

FAST = {"loss": "margin", "iterations": 5}
RUNGS = (
    Rung("noise", "control", "noise"),
    Rung("round", "white-box", "apgd", "e", options=FAST),
    Rung("through", "white-box", "apgd", "latent", options=FAST),
    Rung("square", "black-box", "square", options={"queries": 10}, survivors=True),
)


@pytest.fixture(scope="module")
def net(trained_cnn: nn.Sequential, train_digits) -> QNet:
    """`trained_cnn` with a layer in front of its last one."""
    layer = QLayer(16, codebook_size=64, gate=False, start="k-means").train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        layer(trained_cnn[:4](train_digits.images[:1000]))
    return QNet(trained_cnn[:4], copy.deepcopy(layer), trained_cnn[4:], trained_cnn[4:]).eval()


# ---- the ladder ----


@pytest.mark.parametrize("name", ["cnn", "q-base", "squeezing", "thermometer", "randomised"])
def test_every_rung_has_a_name_of_its_own_and_can_be_climbed(name, net, trained_cnn, digits):
    spec = experiments.spec(name)
    rungs = ladder.ladder(spec)
    assert len({rung.name for rung in rungs}) == len(rungs)
    x, y = digits.first(3)
    own = net if spec.layer else baselines.build(name).eval() if spec.quantizer else trained_cnn
    for rung in rungs:
        quick = {"queries": 2} if rung.attack == "square" else {"iterations": 1}
        options = {**rung.options, **({} if rung.attack == "noise" else quick)}
        target = trained_cnn if rung.source in ("source-a", "twin") else own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", attacks.UnmovedWarning)
            made = making.attacked(target, x, y, Rung(**vars(rung) | {"options": options}), 0.1)
        moved = (made - x).abs().max()
        blind = rung.surrogate == "as it is"  # a quantizer has no gradient
        least = (
            0 if rung.attack == "square" and spec.quantizer else 1e-6
        )  # two queries may find nothing there
        assert moved == 0 if blind else least <= moved <= 0.1 + 1e-6, rung.name


def test_the_ladder_leads_round_the_quantizer_and_through_it_and_needs_no_gradient_at_last():
    rungs = ladder.ladder(experiments.spec("q-base"))
    assert {rung.surrogate for rung in rungs} >= {
        "e",
        "e, judged",
        "shortcut, judged",
        "ensemble, judged",
        "straight-through",
        "soft 0.1",
        "latent",
        "latent 2, averaged 2",
    }
    assert {rung.source for rung in rungs} >= {"source-a", "twin", "sibling"}
    assert {rung.purpose for rung in rungs} == {"ladder", "chance"}
    for dataset, eps in (("mnist", (0.05, 0.1, 0.2, 0.3)), ("fashion-mnist", (0.05, 0.1, 0.2))):
        assert ladder.epsilons(dataset) == eps


def test_effort_is_doubled_where_a_stronger_attack_would_show(recorded, monkeypatch):
    """On the strongest APGD that sees the network, at the eps at which it leaves nearest to half of the images."""
    weak, strong, twice = (
        Rung(name, "white-box", "apgd", surrogate, options=FAST)
        for name, surrogate in (("round", "e"), ("through", "soft 0.1"), ("far", "soft 0.5"))
    )
    elsewhere = Rung("stranger", "black-box", "apgd", source="source-a", options=FAST)

    def cell(rung, eps, correct):
        return {"rung": rung.name, "eps": eps, "how": adaptive.plain(rung), "correct": correct, "n": 20}

    cells = [cell(weak, 0.1, 15), cell(strong, 0.1, 12), cell(elsewhere, 0.1, 10)]
    cells += [cell(weak, 0.2, 10), cell(strong, 0.2, 1), cell(twice, 0.3, 0)]
    assert ladder.decisive(cells) == (strong, 0.1)
    assert ladder.decisive(cells[2:3]) is None
    steps, restarts = ladder.doubled(strong, 0.1)
    assert steps.options == FAST | {"iterations": 2 * FAST["iterations"]}
    assert restarts.options == FAST | {"restarts": 2}
    assert (steps.purpose, restarts.purpose) == ("steps", "restarts")
    assert steps.only_eps == restarts.only_eps == (0.1,)

    monkeypatch.setattr(adaptive, "ladder", lambda *_: RUNGS)
    record = adaptive.run(recorded, images=20)
    rung, eps = ladder.decisive(record["cells"])
    added = [(one["rung"], one["eps"]) for one in record["cells"] if one["how"]["purpose"] != "ladder"]
    assert added == [(f"{rung.name}, twice the {what}", eps) for what in ("steps", "restarts")]
    assert list(adaptive.left(record, recorded)) == []


def test_an_unknown_attack_or_surrogate_is_refused(net, digits):
    with pytest.raises(
        ValueError, match="attack is 'magic'; choose noise or one of bim, pgd, apgd, targeted, square"
    ):
        Rung("x", "white-box", "magic")
    with pytest.raises(ValueError, match=r"surrogate is 'magic'; choose one of soft 0\.1, e, shortcut"):
        making.stand_in(net, "magic", digits.images[:2])


def test_noise_has_the_largest_size_everywhere(net, digits):
    x, y = digits.first(20)
    made = making.attacked(net, x, y, RUNGS[0], 0.25)
    inside = (x >= 0.25) & (x <= 0.75)
    torch.testing.assert_close((made - x).abs()[inside], torch.full_like(x[inside], 0.25))
    assert 0.4 < (made > x)[inside].float().mean() < 0.6


# ---- one cell ----


def test_a_cell_counts_the_deployed_answer_in_full_precision(net, digits):
    x, y = digits.first(40)
    cell = adaptive.measure(net, x, y, RUNGS[2], 0.2)
    made = attacks.apgd(attacks.surrogates.latent(net), x, y, eps=0.2, **FAST)
    expected = evaluation.correct_by_path(net, made, y)["q"]
    assert records.unpack(cell).tolist() == expected.tolist() and cell["correct"] == expected.sum()
    assert (cell["n"], cell["attacked"], cell["how"]["surrogate"]) == (40, 40, "latent")


def test_images_that_fall_at_once_are_spared_the_rest(net, digits, monkeypatch):
    asked = []
    spied = ladder.ATTACKS | {
        "apgd": lambda *given, **options: asked.append(len(given[1])) or attacks.apgd(*given, **options)
    }
    monkeypatch.setattr(making, "ATTACKS", spied)
    x, y = digits.first(40)
    whole = Rung("through", "white-box", "apgd", "soft 0.1", options={"loss": "margin", "iterations": 24})
    cell = adaptive.measure(net, x, y, whole, 0.15)
    assert asked[0] == 40 and 0 < asked[1] < 40 and len(asked) == 2
    short = adaptive.measure(net, x, y, making.quick(whole), 0.15)
    assert asked[2:] == [40] and short["correct"] == asked[1]
    assert not (records.unpack(cell) & ~records.unpack(short)).any()  # what the short form fools stays fooled
    assert cell["correct"] < short["correct"]


def test_a_gpu_takes_many_images_at_a_time_and_a_core_few(net, digits, monkeypatch):
    assert [making.at_a_time(torch.device(name)) for name in ("cpu", "cuda")] == [128, 1000]
    monkeypatch.setattr(making, "at_a_time", lambda device: 16)  # what it says is what the attack gets
    asked = []
    spied = ladder.ATTACKS | {
        "bim": lambda *given, **options: asked.append(options["batch_size"]) or attacks.bim(*given, **options)
    }
    monkeypatch.setattr(making, "ATTACKS", spied)
    adaptive.measure(net, *digits.first(40), Rung("bim", "white-box", "bim", "e"), 0.2)
    assert asked == [16]


def test_a_last_rung_attacks_the_survivors_alone(net, digits):
    x, y = digits.first(40)
    alive = torch.arange(40) % 4 == 0
    cell = adaptive.measure(net, x, y, RUNGS[3], 0.2, alive=alive)
    found = torch.from_numpy(records.unpack(cell))
    assert cell["attacked"] == 10 and not (found & ~alive).any()
    none = adaptive.measure(net, x, y, RUNGS[3], 0.2, alive=torch.zeros(40, dtype=torch.bool))
    assert (none["attacked"], none["correct"]) == (0, 0)
    with pytest.raises(ValueError, match="alive is missing: 'square' attacks only the images"):
        adaptive.measure(net, x, y, RUNGS[3], 0.2)
    with pytest.raises(ValueError, match=f"alive is given, but '{RUNGS[0].name}' attacks all images: leave"):
        adaptive.measure(net, x, y, RUNGS[0], 0.2, alive=alive)
    with pytest.raises(
        ValueError, match=r"alive has dtype torch\.bool and shape \(10,\).*one bool per image"
    ):
        adaptive.measure(net, x, y, RUNGS[3], 0.2, alive=torch.ones(10, dtype=torch.bool))


def test_another_networks_images_are_shown_to_this_one(net, trained_cnn, digits):
    x, y = digits.first(40)
    rung = Rung("transfer", "black-box", "apgd", options=FAST, source="twin")
    cell = adaptive.measure(net, x, y, rung, 0.2, source=trained_cnn)
    made = attacks.apgd(trained_cnn, x, y, eps=0.2, **FAST)
    assert records.unpack(cell).tolist() == evaluation.correct_by_path(net, made, y)["q"].tolist()
    with pytest.raises(
        ValueError, match=r"source is missing: 'transfer' is made on another network \(twin\)"
    ):
        adaptive.measure(net, x, y, rung, 0.2)  # it would be a white-box attack under a blind one's name
    with pytest.raises(ValueError, match=r"source is a .*: leave source out"):
        adaptive.measure(net, x, y, RUNGS[2], 0.2, source=trained_cnn)


# ---- a whole evaluation ----


@pytest.fixture
def recorded(net, monkeypatch, tmp_path) -> records.Unit:
    """A unit whose network is the small one, and which records in a folder of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(adaptive.records, "load_unit", lambda unit: (net, {"weights_sha256": "w"}))
    monkeypatch.setattr(adaptive, "HEALTH", 4)
    monkeypatch.setattr(adaptive, "PLANTS", 0)
    monkeypatch.setattr(ladder, "SMALL", ())
    return records.unit("mnist", "q-base")


def test_it_is_recorded_as_it_goes_and_continues_where_it_stopped(recorded, monkeypatch):
    made = []
    run = partial(
        adaptive.run, recorded, images=20, report=lambda cell: made.append((cell["rung"], cell["eps"]))
    )
    run(RUNGS[:2])
    first = adaptive.read(recorded)
    assert [cell["rung"] for cell in first["cells"]] == ["noise", "round"] * 2 and len(made) == 4
    whole = run(RUNGS)
    assert made[4:] == [(rung, eps) for eps in (0.2, 0.3) for rung in ("through", "square")]
    assert whole == adaptive.read(recorded) and len(whole["cells"]) == 8
    assert [cell for cell in whole["cells"] if cell["rung"] == "round"] == [
        cell for cell in first["cells"] if cell["rung"] == "round"
    ]
    run(RUNGS)
    assert len(made) == 8  # nothing was left
    stronger = (Rung("round", "white-box", "apgd", "e", options=FAST | {"iterations": 6}),)
    run(stronger)
    assert made[8:] == [("round", eps) for eps in (0.2, 0.3)]
    monkeypatch.setattr(
        adaptive.records, "load_unit", lambda unit: (small_q_net().eval(), {"weights_sha256": "v"})
    )
    assert len(run(RUNGS[:1])["cells"]) == 2  # of other weights nothing is kept


def test_a_network_that_is_not_there_is_told_and_made_up_for(recorded, trained_cnn, monkeypatch):
    rungs = (*RUNGS[:1], Rung("from the twin", "black-box", "apgd", options=FAST, source="twin"))
    told = []

    own = adaptive.records.load_unit(recorded)

    def not_there(unit):
        if unit != recorded:
            raise FileNotFoundError(f"no {unit.spec.name}")
        return own

    monkeypatch.setattr(adaptive.records, "load_unit", not_there)
    record = adaptive.run(recorded, rungs, images=10, report=told.append)
    assert {cell["rung"] for cell in record["cells"]} == {"noise"}
    missing = [(cell["rung"], cell["missing"]) for cell in told if "missing" in cell]
    assert missing == [("from the twin", "no cnn")] * 2
    twin = trained_cnn, {"weights_sha256": "w"}
    monkeypatch.setattr(adaptive.records, "load_unit", lambda unit: own if unit == recorded else twin)
    whole = adaptive.run(recorded, rungs, images=10)["cells"]
    assert [cell.get("source_seed") for cell in whole] == [None, None, 0, 0]  # the twin is of the same seed
    assert [cell.get("source_sha256") for cell in whole] == [None, None, "w", "w"]


def test_images_of_a_source_that_was_trained_again_are_made_anew(recorded, trained_cnn, monkeypatch):
    rungs = (Rung("from the twin", "black-box", "apgd", options=FAST, source="twin"),)
    twin, own = records.unit("mnist", "cnn"), adaptive.records.load_unit(recorded)

    def trained(weights: str) -> None:
        records.write(records.new_record(twin) | {"weights_sha256": weights})
        there = trained_cnn, {"weights_sha256": weights}
        monkeypatch.setattr(adaptive.records, "load_unit", lambda unit: own if unit == recorded else there)

    trained("one")
    record = adaptive.run(recorded, rungs, images=10)
    assert not list(adaptive.left(record, recorded, rungs))
    trained("two")
    assert len(list(adaptive.left(record, recorded, rungs))) == 2
    for cell in record["cells"]:  # measured before cells said whose images they are of
        del cell["source_sha256"]
    assert not list(adaptive.left(record, recorded, rungs))


def test_a_rung_of_the_same_options_counts_whichever_code_climbed_it_until_it_is_asked_for_again(
    recorded, monkeypatch
):
    rungs, climbed = RUNGS[:2], []

    def climb(**options) -> dict:
        climbed.clear()
        return adaptive.run(recorded, rungs, images=10, report=climbed.append, **options)

    before = climb()
    assert len(climbed) == 4
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    assert climb() == before and climbed == []
    after = climb(again=True)
    assert len(climbed) == 4 and [cell["right"] for cell in after["cells"]] == [
        cell["right"] for cell in before["cells"]
    ]
    used = {cell["environment"] for cell in after["cells"]}
    assert {code for place in used for code in after["environments"][place]["code"].values()} == {
        "0123456789ab"
    }
    assert climb(again=True) == after and climbed == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    climb(again=True)
    assert len(climbed) == 4  # other threads are another machine


def trained(one: records.Unit, weights: str) -> str:
    """Write weights of this content where a network's own lie, and a record of them; return their sha256."""
    one.weights.parent.mkdir(parents=True, exist_ok=True)
    one.weights.write_text(weights)
    found = files.sha256(one.weights)
    records.write(records.new_record(one) | {"weights_sha256": found})
    return found


def test_a_sibling_is_the_network_of_the_first_other_seed_that_is_there(recorded):
    rung = Rung("from a sibling", "black-box", "apgd", options=FAST, source="sibling")
    assert adaptive.other(recorded, rung).seed == 1  # none is there: what is to be made
    for seed in (2, 1):
        one = records.unit("mnist", "q-base", seed)
        trained(one, f"of seed {seed}")
        assert adaptive.other(recorded, rung) == one
    assert adaptive.other(records.unit("mnist", "q-base", 2), rung).seed == 1
    records.unit("mnist", "q-base", 1).weights.unlink()
    weights = files.sha256(recorded.weights)  # they are released
    records.write(records.new_record(recorded) | {"weights_sha256": weights})
    assert adaptive.other(records.unit("mnist", "q-base", 2), rung) == recorded
    varied = variants.unit("mnist", "q-base", "no-gate")  # whose siblings are trained as it is
    assert adaptive.other(varied, rung) == variants.unit("mnist", "q-base", "no-gate", 1)
    with pytest.raises(
        FileNotFoundError, match=r"adaptive.run\(variants.unit\('mnist', 'q-base', 'no-gate', 0\)\)"
    ):
        adaptive.read(varied)


def test_a_rung_from_one_sibling_counts_though_an_earlier_seed_is_there_by_now(
    recorded, trained_cnn, monkeypatch
):
    rungs = (Rung("from a sibling", "black-box", "apgd", options=FAST, source="sibling"),)
    own = adaptive.records.load_unit(recorded)

    def train(seed: int, weights: str) -> str:
        found = trained(records.unit("mnist", "q-base", seed), weights)
        there = trained_cnn, {"weights_sha256": found}
        monkeypatch.setattr(adaptive.records, "load_unit", lambda unit: own if unit == recorded else there)
        return found

    two = train(2, "two")
    record = adaptive.run(recorded, rungs, images=10)
    assert {(cell["source_seed"], cell["source_sha256"]) for cell in record["cells"]} == {(2, two)}
    train(1, "one")
    assert not list(adaptive.left(record, recorded, rungs))
    train(2, "another two")
    assert len(list(adaptive.left(record, recorded, rungs))) == 2


def test_a_first_look_at_few_images_gives_way_to_a_look_at_more(recorded):
    few = adaptive.run(recorded, RUNGS, images=10)
    assert {few["n"], *(cell["n"] for cell in few["cells"])} == {10}
    there = []
    more = adaptive.run(
        recorded, RUNGS, images=24, report=lambda cell: there.append(adaptive.read(recorded)["n"])
    )
    assert set(there) == {10}  # it stays until the larger one is whole
    assert {more["n"], *(cell["n"] for cell in more["cells"])} == {24} and len(more["cells"]) == 8
    assert adaptive.run(recorded, RUNGS, images=10) == adaptive.read(recorded) == more


def test_a_look_at_more_images_with_fewer_attacks_does_not_replace_the_record(recorded):
    few = adaptive.run(recorded, RUNGS[:2], images=10)
    one = adaptive.run(recorded, RUNGS[:1], images=24)
    assert {cell["rung"] for cell in one["cells"]} == {"noise"} and adaptive.read(recorded) == few
    for cell in few[
        "cells"
    ]:  # which rung's effort is doubled hangs on the numbers: such a check is not missed
        few["cells"] = [
            *few["cells"],
            cell | {"rung": f"{cell['rung']}, more", "how": cell["how"] | {"purpose": "steps"}},
        ]
    adaptive.write(few, adaptive.path_of(recorded))
    both = adaptive.run(recorded, RUNGS[:2], images=24)
    assert len(both["cells"]) == 4 and adaptive.read(recorded) == both


def test_survivors_that_a_last_rung_never_attacked_are_attacked_once_more(recorded):
    """It counts as wrong whom it did not attack; another rung, measured anew, may let more survive than before."""
    record = adaptive.run(recorded, RUNGS, images=24)
    fooling = [
        cell for cell in record["cells"] if cell["eps"] == 0.2 and cell["rung"] in ("round", "through")
    ]
    for cell in fooling:
        cell["right"], cell["correct"] = record["clean"], 24
    adaptive.write(record, adaptive.path_of(recorded))
    before = next(cell for cell in record["cells"] if (cell["rung"], cell["eps"]) == ("square", 0.2))
    alive = adaptive._survivors(record, "square", 0.2)
    assert alive.sum() > before["attacked"]
    assert [(rung.name, eps) for rung, eps in adaptive.left(record, recorded, RUNGS)] == [("square", 0.2)]
    again = adaptive.run(recorded, RUNGS, images=24)
    after = next(cell for cell in again["cells"] if (cell["rung"], cell["eps"]) == ("square", 0.2))
    assert after["attacked"] == alive.sum() and not list(adaptive.left(again, recorded, RUNGS))


def test_a_look_at_more_images_goes_on_where_it_stopped(recorded):
    adaptive.run(recorded, RUNGS, images=10)
    made = []

    def stop(cell):
        made.append(cell["rung"])
        if len(made) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adaptive.run(recorded, RUNGS, images=24, report=stop)
    assert adaptive.read(recorded)["n"] == 10
    adaptive.run(recorded, RUNGS, images=24, report=lambda cell: made.append(cell["rung"]))
    assert len(made) == 8 and adaptive.read(recorded)["n"] == 24
    assert not list(recorded.folder.glob("adaptive*"))


@pytest.mark.parametrize("recorded_before", [None, 10], ids=["nothing recorded", "on fewer images"])
def test_two_evaluations_at_a_time_keep_each_other_s_cells(recorded_before, recorded, monkeypatch):
    if recorded_before:
        adaptive.run(recorded, RUNGS[:2], images=recorded_before)
    alone = adaptive.measure

    def beside_another(*given, **options):
        monkeypatch.setattr(adaptive, "measure", alone)
        adaptive.run(recorded, RUNGS[:1], images=24)  # begins and ends while this rung is climbed
        return alone(*given, **options)

    monkeypatch.setattr(adaptive, "measure", beside_another)
    record = adaptive.run(recorded, RUNGS[1:2], images=24)
    assert sorted(cell["rung"] for cell in record["cells"]) == ["noise"] * 2 + ["round"] * 2
    assert record == adaptive.read(recorded) and {cell["n"] for cell in record["cells"]} == {24}
    assert not list(recorded.folder.glob("adaptive*"))


def test_what_grows_apart_is_read_once_more_before_it_takes_its_place(recorded):
    adaptive.run(recorded, RUNGS[:1], images=10)
    made = []

    def another_adds_a_cell(cell):
        made.append(cell)
        if len(made) == 2:  # the last one of this call
            apart = records.read_file(recorded.folder / "adaptive.json")
            apart["cells"].append(cell | {"rung": "of another call"})
            adaptive.write(apart, recorded.folder / "adaptive.json")

    record = adaptive.run(recorded, RUNGS[:1], images=24, report=another_adds_a_cell)
    assert [cell["rung"] for cell in record["cells"]] == ["noise", "noise", "of another call"]
    assert record == adaptive.read(recorded)


def test_an_evaluation_on_more_images_meanwhile_goes_first(recorded, monkeypatch):
    alone = adaptive.measure

    def beside_another(*given, **options):
        monkeypatch.setattr(adaptive, "measure", alone)
        adaptive.run(recorded, RUNGS[:1], images=24)
        return alone(*given, **options)

    monkeypatch.setattr(adaptive, "measure", beside_another)
    record = adaptive.run(recorded, RUNGS[:2], images=10)
    assert {cell["n"] for cell in record["cells"]} == {24} and record == adaptive.read(recorded)


def test_a_worst_case_is_never_better_than_any_single_attack(recorded):
    record = adaptive.run(recorded, RUNGS, images=24)
    clean = records.unpack({"n": 24, "right": record["clean"]})
    for eps in (0.2, 0.3):
        worst = adaptive.worst(record, eps)
        for cell in record["cells"]:
            if cell["eps"] == eps and cell["how"]["kind"] != "control":
                assert not (worst & ~records.unpack(cell)).any()
        assert not (worst & ~clean).any()
    counts = [adaptive.worst(record, eps).sum() for eps in (0.0, 0.2, 0.3)]
    assert counts == sorted(counts, reverse=True) and counts[0] == clean.sum() > counts[-1]
    with pytest.raises(ValueError, match=r"eps is 0\.25.*choose one of 0\.2, 0\.3"):
        adaptive.worst(record, 0.25)


def test_no_committed_attack_leaves_less_than_all_attacks_together():
    """Image by image and in number, at every budget; and with a larger one, all together never leave more."""
    found = [*adaptive.recorded(), *measured.climbed(variants.LATER)]
    assert {record["dataset"] for record in found} == set(datasets.DATASETS)
    for record in found:
        where = " ".join(str(record.get(name)) for name in ("dataset", "model", "seed"))
        smaller = records.unpack({"n": record["n"], "right": record["clean"]})
        attacks_on = [cell for cell in record["cells"] if cell["how"]["kind"] in adaptive.KINDS]
        for eps in sorted({cell["eps"] for cell in attacks_on}):
            worst = adaptive.worst(record, eps)
            for cell in (cell for cell in attacks_on if cell["eps"] == eps):
                alone = records.unpack(cell)
                assert not (worst & ~alone).any(), (where, eps, cell["rung"])
                assert worst.sum() <= cell["correct"] == alone.sum(), (where, eps, cell["rung"])
            assert not (worst & ~smaller).any(), (where, eps)
            smaller = worst


def test_the_worst_cases_that_the_verdict_rests_on_fall_with_the_budget_and_below_each_attack():
    found = measured.frame()
    worst = found[found.setting == "worst case"]
    noise = found.attack == "noise"
    by_rung = (
        found[(found.setting == "ladder") & ~noise].groupby(["dataset", "model", "seed", "eps"]).value.min()
    )
    assert len(worst)
    for network, rows in worst.groupby(["dataset", "model", "seed"]):
        left = rows.set_index("eps").value.sort_index()
        assert left.is_monotonic_decreasing, network
        assert (left <= by_rung.loc[network].reindex(left.index)).all(), network


def test_a_missing_evaluation_names_the_call_that_makes_it(recorded):
    with pytest.raises(FileNotFoundError, match=r"no adaptive evaluation of q-base on mnist.*adaptive\.run"):
        adaptive.read(recorded)


def test_records_lie_beside_the_networks_and_tables_do_not_read_them():
    path = adaptive.path_of(records.unit("mnist", "q-base", 2))
    assert path.parts[-4:] == ("mnist", "q-base", "adaptive", "seed2.json")
    assert experiments.spec("q-base").name == path.parts[-3]


# ---- the network's own health ----


def rounding(model: nn.Module, levels: int = 8) -> nn.Module:
    """The network behind rounded pixels, whose gradient is zero."""

    class Rounded(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return model((levels * images).round() / levels)

    return Rounded().eval()


def test_gradients_are_healthy_or_not(net, trained_cnn, digits):
    x, y = digits.first(30)
    found = health.of(net, x, y, 0.2, plants=0)
    assert set(found["gradients"]) == {"e", "shortcut", "straight-through", "soft 0.1", "latent", "ensemble"}
    assert all(shares["ce"]["images"] == 0 for shares in found["gradients"].values())
    assert not found["random"] and not found["probabilities"]
    masked = health.of(rounding(trained_cnn), x, y, 0.2, plants=0)
    assert masked["gradients"]["itself"]["ce"] == {"images": 100.0, "pixels": 100.0}
    sure = nn.Sequential(trained_cnn, Scale(30)).eval()
    shares = health.of(sure, x, y, 0.2, plants=0)["gradients"]["itself"]
    assert shares["ce"]["images"] == 0 and shares["clipped"]["images"] > 50


class Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


def test_random_answers_and_probabilities_are_noticed(trained_cnn, digits):
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return trained_cnn(images + 0.01 * torch.randn_like(images))

    x, y = digits.first(10)
    assert health.of(Noisy().eval(), x, y, 0.1, plants=0)["random"]
    assert health.of(nn.Sequential(trained_cnn, nn.Softmax(1)).eval(), x, y, 0.1, plants=0)["probabilities"]


@pytest.mark.parametrize("way", ["grad", "backward", "functional"])
def test_a_network_that_optimizes_when_it_answers_is_noticed(way, net, trained_cnn, digits):
    def energy(images: Tensor) -> Tensor:
        return trained_cnn(images).logsumexp(1).sum()

    def slope(images: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            if way == "grad":
                return torch.autograd.grad(energy(leaf), leaf)[0]
            energy(leaf).backward(inputs=[leaf])
            return leaf.grad

    class Purified(nn.Module):
        """It makes an image more likely first, as purifying defences do."""

        def forward(self, images: Tensor) -> Tensor:
            uphill = torch.func.grad(energy)(images.detach()) if way == "functional" else slope(images)
            return trained_cnn(images + 0.01 * uphill.sign())

    x, y = digits.first(10)
    found = [health.of(network, x, y, 0.1, plants=0) for network in (Purified().eval(), trained_cnn, net)]
    assert [one["optimizes"] for one in found] == [True, False, False]
    assert not any(one["random"] or one["probabilities"] for one in found)


def test_whoever_watches_calls_goes_on_watching_after_a_network_was(trained_cnn, digits):
    """A profiler's own watch is put back, also where the network fails."""

    def fails(images: Tensor) -> Tensor:
        raise RuntimeError("no answer")

    def mine(frame, event, given):
        pass

    before = sys.getprofile()
    sys.setprofile(mine)
    try:
        health.optimizes(trained_cnn, digits.images[:1])
        after = [sys.getprofile()]
        with pytest.raises(RuntimeError, match="no answer"):
            health.optimizes(fails, digits.images[:1])
        after.append(sys.getprofile())
    finally:
        sys.setprofile(before)
    assert after == [mine, mine]


def test_a_planted_adversarial_example_is_found_unless_the_gradient_is_masked(net, trained_cnn, digits):
    x, quick = digits.images[:4], partial(attacks.apgd, iterations=25, loss="margin")
    for network, surrogate in ((trained_cnn, None), (net, "latent"), (net, "straight-through")):
        seen = health.planted(network, x, 0.2, surrogate=surrogate, attack=quick)
        assert seen.planted >= 3 and seen.found == seen.planted
    with pytest.warns(attacks.UnmovedWarning):
        blind = health.planted(rounding(trained_cnn), x, 0.2, attack=partial(attacks.bim, iterations=10))
    assert blind.planted >= 3 and blind.found == 0


def test_a_planted_example_s_label_lies_where_its_image_does():
    """On "meta", since each machine has it; the answers are numbers, which planting needs."""

    class Answers(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 10), float(len(images) == 1))  # a corner is shown by itself

    places = []

    def attack(model, image, label, eps):
        places.append((image.device.type, label.device.type))
        return image

    health.planted(Answers().eval(), torch.rand(2, 1, 4, 4, device="meta"), 0.1, attack=attack)
    assert places == [("meta", "meta")] * 2


def test_a_ladder_says_which_of_its_last_rungs_it_lacks():
    for layered in ("q-base", "cnn"):
        rungs = ladder.ladder(experiments.spec(layered))
        cells = [
            {"rung": rung.name, "eps": eps}
            for rung in rungs
            for eps in rung.only_eps or ladder.epsilons("mnist")
        ]
        record = {"model": layered, "dataset": "mnist", "cells": cells}
        assert ladder.lacking(record) == []
        last = next(rung for rung in rungs if rung.survivors and not rung.only_eps)
        for name, lacks in ((last.name, [last.name]), ("transfer from another seed", [])):
            short = [cell for cell in cells if (cell["rung"], cell["eps"]) != (name, 0.1)]
            assert len(short) < len(cells) and ladder.lacking(record | {"cells": short}) == lacks


def test_code_on_which_a_rung_depends_counts_as_its_own():
    """The spread of averaged points, the short form, the images that tell a temperature: all are of one stage."""
    for rung in ladder.ladder(experiments.spec("q-base")):
        assert "rungs" in adaptive._stages(rung, experiments.spec("q-base"))
    (module,) = fingerprint.STAGES["rungs"]
    assert vars(making)["__file__"].endswith(f"{module}.py")
    here = {"attacked", "stand_in", "quick", "made", "right"}
    assert here <= {
        name for name, what in vars(making).items() if getattr(what, "__module__", "") == making.__name__
    }
