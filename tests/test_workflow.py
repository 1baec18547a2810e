"""The paper's grid as jobs: what waits for what, what a record counts for, and Snakemake from end to end."""

import dataclasses
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from snakes import ROOT, copied, snakemake

from qlayer_core import files
from qlayer_core.study import (
    adaptive,
    experiments,
    fingerprint,
    likelihoods,
    outlook,
    paper,
    plan,
    records,
    replaced,
    standing,
    statements,
    trails,
    units,
    variants,
    wanted,
)
from qlayer_core.study.plan import Job, Plan

SMOKE = {"dataset": "mnist", "model": "cnn", "spec": {"epochs": 2}, "images": 16, "tables": ["2a"]}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results, weights and runs in an empty folder."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        for module in (files, records, units, likelihoods, trails):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    return tmp_path


def record_of(job: Job, evaluated: bool = True, **changes) -> dict:
    """Write the record and weights of a finished job, with what `changes` says of the record."""
    unit = Plan(smoke=SMOKE).unit(job)
    unit.weights.parent.mkdir(parents=True, exist_ok=True)
    unit.weights.write_bytes(str(job).encode())
    record = records.new_record(unit)
    record["weights_sha256"] = files.sha256(unit.weights)
    record["history"] = [{"epoch": k + 1, "score": float(k)} for k in range(unit.spec.epochs)]
    record["chosen"] = record["history"][-1]
    record["seconds"]["training"] = 3600.0
    if evaluated:
        for attack in experiments.attacks_on(job.dataset, unit.spec):
            record["cells"].append(dataclasses.asdict(attack) | {"path": None, "n": 10_000})
            record["seconds"][str(attack)] = 36.0
    records.write(record | changes)
    return record


# ---- What waits for what ----


def test_the_whole_grid_holds_every_cell_of_the_paper_and_the_figure(empty):
    jobs = Plan().targets()
    evaluated = {(job.dataset, job.model) for job in jobs if job.stage == "evaluate"}
    others = {
        (dataset, f"{name}{how}")
        for dataset in ("mnist", "fashion-mnist")
        for name in ("cnn-same-training", *experiments.QUANTIZED)
        for how in ("", "-adv")
    }
    assert evaluated == {
        (cell.dataset, cell.model) for table in paper.TABLES.values() for cell in table.cells
    } | others | {("mnist", name) for name in experiments.ON_CNN_B} | {
        (dataset, f"{name}-printed-adv")
        for dataset in ("mnist", "fashion-mnist")
        for name in ("q-base", "q-large")
    }
    adapted = [(job.dataset, job.model) for job in jobs if job.stage == "adapt"]
    headline = [name + how for name in ("cnn", "q-base", "q-large", "q-inner") for how in ("", "-adv")]
    assert set(adapted) == others | {
        (dataset, name) for dataset in ("mnist", "fashion-mnist") for name in headline
    } | {("mnist", name) for name in ("q-large-shared", "cnn-clean-selected", "q-base-printed-adv")}
    assert [job.model for job in jobs if job.stage == "likelihoods"] == ["pixels", "q-base", "q-large"]
    each = len(evaluated) + len(adapted) + 2
    assert len(Plan(seeds=(0, 1, 2)).targets()) == 3 * each + 1  # pixels once
    assert [job.stage for job in Plan(only=("adaptive",)).targets()] == ["adapt"] * len(adapted)


def test_what_claims_rest_on_under_the_strongest_attack_climbs_the_ladder():
    targets = Plan().targets()
    for claim in statements.CLAIMS:
        for comparison in claim.strongest:
            for value in (comparison.first, comparison.second):
                if value.setting in ("worst case", "ladder"):
                    assert plan.Job("adapt", value.dataset, value.model) in targets, claim.name


def test_every_network_that_is_recorded_is_a_target_or_the_attackers_or_the_judge_s():
    targets = {(job.stage, job.dataset, job.model) for job in Plan().targets()}
    for path in files.RESULTS.glob("*/*/seed*.json"):
        dataset, name = path.parts[-3:-1]
        if name in experiments.RUNS and name not in wanted.OWN:
            assert ("evaluate", dataset, name) in targets, name
    for path in files.RESULTS.glob("*/*/adaptive/seed*.json"):
        assert ("adapt", *path.parts[-4:-2]) in targets, path


def test_the_adaptive_evaluation_waits_for_the_networks_that_its_images_are_made_on(empty):
    left = Plan(only=("adaptive",)).left()
    assert left[Job("adapt", "mnist", "q-base")] == [
        Job("train", "mnist", name) for name in ("cnn", "q-base", "source-a")
    ]
    assert Job("train", "mnist", "q-base", 1) not in left  # a sibling is taken where it is there
    assert left[Job("adapt", "mnist", "thermometer-adv")] == [
        Job("train", "mnist", name) for name in ("cnn-adv", "source-a", "thermometer-adv")
    ]


def test_a_ladder_waits_for_its_sibling_where_that_seed_is_asked_for_too(empty):
    cnn = [Job("train", "mnist", "cnn", seed) for seed in (0, 1, 2)]
    adapt = [dataclasses.replace(job, stage="adapt") for job in cnn]
    assert cnn[1] not in Plan((0,), ("adaptive",)).left()
    for seeds, siblings in (((0, 1, 2), (1, 0, 0)), ((0, 2), (2, None, 0))):
        left = Plan(seeds, ("adaptive",)).left()
        for job, sibling in zip(adapt, siblings, strict=True):
            others = {one.seed for one in left.get(job, []) if one.model == "cnn"} - {job.seed}
            assert others == ({sibling} - {None})
    for seed in (0, 2):
        record_of(cnn[seed])
    assert cnn[1] in Plan((0, 1), ("adaptive",)).left()[adapt[0]]  # it comes first once it is there
    assert cnn[1] not in Plan((0, 2), ("adaptive",)).left()[adapt[0]]  # the other one is there


def test_a_rung_that_is_left_out_is_said_once(empty, monkeypatch, capsys):
    missing = {"rung": "transfer", "missing": "There are no weights."}

    def run(unit, report, progress):
        for eps in (0.1, 0.2):
            report(missing | {"eps": eps})
            report({"rung": "noise", "eps": eps})

    monkeypatch.setattr(adaptive, "run", run)
    Plan().run(Job("adapt", "mnist", "cnn", 1))
    assert capsys.readouterr().out == "Left out of adapt mnist cnn seed 1: transfer. There are no weights.\n"


def test_jobs_come_after_those_that_they_wait_for(empty):
    left = Plan(seeds=(0, 1)).left()
    order = list(left)
    for job, waits in left.items():
        assert all(order.index(other) < order.index(job) for other in waits)
    assert left[Job("train", "mnist", "validation-a")] == left[Job("train", "mnist", "source-b")] == []
    judge = Job("train", "mnist", "validation-a")
    assert left[Job("train", "mnist", "q-base", 1)] == [judge]  # every seed is judged by the same images
    assert left[Job("train", "mnist", "q-base-adv", 1)] == [judge, Job("train", "mnist", "q-base", 1)]
    assert left[Job("train", "mnist", "cnn-clean-selected", 1)] == []
    assert left[Job("evaluate", "fashion-mnist", "q-base", 1)] == [
        Job("train", "fashion-mnist", name, seed)
        for name, seed in (("q-base", 1), ("source-a", 0), ("source-b", 0))
    ]
    assert left[Job("likelihoods", "mnist", "q-base")] == [
        Job("train", "mnist", name) for name in ("source-a", "q-base")
    ]
    codes = left[Job("likelihoods", "mnist", "q-base", 1)]
    assert (
        codes == left[Job("likelihoods", "mnist", "q-base")]
    )  # the seed is the PixelCNN's: the codes are the same


def test_a_part_is_what_its_tables_show_and_what_that_waits_for(empty):
    only = Plan(only=("table:5",))
    assert {job.model for job in only.targets()} == {"cnn", "cnn-clean-selected"}
    assert only.tables(only.targets()[0]) == ("5",)
    assert {job.model for job in only.left()} == {
        "cnn",
        "cnn-clean-selected",
        "validation-a",
        "source-a",
        "source-b",
    }
    white_box = Plan(only=("table:2a",)).left()
    assert not any(job.model.startswith("source") for job in white_box)  # nothing to transfer
    assert Plan(only=("cnn",)).targets() == [Job("evaluate", d, "cnn") for d in ("mnist", "fashion-mnist")]
    assert Plan(only=("mnist/source-a",)).targets() == [Job("train", "mnist", "source-a")]
    # No table shows Q-inner on Fashion-MNIST: named alone it is trained there, named with it also measured.
    assert Job("train", "fashion-mnist", "q-inner") in Plan(only=("q-inner",)).targets()
    assert Plan(only=("fashion-mnist/q-inner",)).targets() == [Job("evaluate", "fashion-mnist", "q-inner")]
    # A model asked for by name has all its cells, even where a table of it is asked for, too.
    both = Plan(only=("table:1a", "mnist/cnn"))
    assert both.tables(Job("evaluate", "mnist", "cnn")) == ()
    assert both.tables(Job("evaluate", "mnist", "q-base")) == ("1a",)


def test_configurations_read_alike_from_a_file_and_from_the_command_line():
    expected = Plan((0, 2), ("table:1a", "figure:2"))
    assert Plan.of({"seeds": [0, 2], "only": ["table:1a", "figure:2"]}) == expected
    assert Plan.of({"seeds": "0,2", "only": "table:1a, figure:2"}) == expected
    assert Plan.of({"seeds": 0, "only": None}) == Plan.of({}) == Plan()
    with pytest.raises(ValueError, match="seeds are a, -1; give whole numbers from 0, such as SEEDS=0,1"):
        Plan.of({"seeds": "0,a,-1"})
    with pytest.raises(ValueError, match="only is 'table:12'; give table:1a"):
        Plan.of({"only": "table:12"})


def test_a_smoke_run_without_its_configuration_is_refused():
    with pytest.raises(
        ValueError,
        match="'smoke' is asked for, but its configuration has no dataset, model, spec, images, tables",
    ):
        Plan(only=("smoke",))
    with pytest.raises(ValueError, match="configuration has no dataset"):
        Plan().unit(plan.Job("train", "mnist", "smoke"))
    with pytest.raises(ValueError, match="configuration has no tables: give what workflow"):
        Plan(only=("smoke",), smoke={name: value for name, value in SMOKE.items() if name != "tables"})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["mnist", "q-bass", "0"], "model is 'q-bass'; choose one of"),
        (["mnist", "cnn", "0", "--config", '{"only": "table:12"}'], "only is 'table:12'; give table:1a"),
        (["mnist", "cnn", "0"], "There is no record of cnn on mnist, seed 0"),
    ],
)
def test_a_job_that_cannot_be_done_says_so_in_one_line(empty, capsys, given, says):
    assert outlook.main(["evaluate", *given]) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


# ---- The studies on validation images ----


def test_the_studies_of_settings_and_of_trails_are_made_when_asked_for(empty):
    stages = {job.stage for job in Plan().targets()}
    assert not stages & {"vary", "trail"}
    asked = Plan(only=("settings", "trails")).targets()
    assert Job("vary", "mnist", "q-base/no-gate") in asked and Job("trail", "mnist", "cnn-adv", 2) in asked
    assert {job.stage for job in asked} == {"vary", "trail", "evaluate", "adapt"} and len(set(asked)) == len(
        asked
    )
    assert {job.model for job in asked if job.stage == "evaluate"} == {
        f"{name}/{variant}"
        for name, variant in (
            ("q-base", "squared-pull-dropout-behind"),
            ("q-large", "squared-pull-dropout-behind"),
            ("q-base-adv", "squared-pull-then-none-reinitialize-dropout-behind"),
            ("q-large-adv", "squared-pull-then-none-reinitialize-dropout-behind"),
        )
    }
    more = Plan((0, 1, 2), ("settings",)).targets()
    assert len(more) == 3 * (len(asked) - len(trails.SHOWN))


def test_whatever_a_chapter_shows_of_the_studies_is_asked_for():
    asked = Plan((0, 1, 2), ("settings", "trails")).targets()
    for path in files.RESULTS.glob("*/variants/*/*/seed*.json"):
        dataset, _, name, variant = path.parts[-5:-1]
        one = Job("vary", dataset, f"{name}/{variant}", int(path.stem.removeprefix("seed")))
        # What was recorded of the grid's own setting before there was a grid is not made again.
        assert one in asked or variants.unit(dataset, name, variant).spec == experiments.spec(name), path
    for path in files.RESULTS.glob("*/trails/*/seed*.json"):
        dataset, _, name = path.parts[-4:-1]
        assert Job("trail", dataset, name, int(path.stem.removeprefix("seed"))) in asked, path


def test_an_adversarially_trained_variant_waits_for_the_network_that_it_starts_from(empty):
    left = Plan(only=("settings",)).left()
    judge = Job("train", "mnist", "validation-a")
    grown = Job("vary", "mnist", "q-base-adv/squared-pull-then-none-reinitialize-dropout-behind")
    raw = Job("vary", "mnist", "q-base/squared-pull-dropout-behind")
    assert left[grown] == [judge, raw] and left[raw] == [judge]
    # A change of adversarial training alone starts from the grid's own raw network.
    assert left[Job("vary", "mnist", "q-base-adv/exact-gradients")] == [
        judge,
        Job("train", "mnist", "q-base"),
    ]
    assert list(left).index(raw) < list(left).index(grown)
    sources = [Job("train", "mnist", name) for name in ("source-a", "source-b")]
    assert left[dataclasses.replace(raw, stage="evaluate")] == [raw, *sources]
    assert left[dataclasses.replace(raw, stage="adapt")] == [
        Job("train", "mnist", "cnn"),
        raw,
        Job("train", "mnist", "source-a"),
    ]
    assert Plan(only=("trails",)).left()[Job("trail", "mnist", "cnn-adv", 2)] == [
        judge,
        Job("train", "mnist", "cnn", 2),
    ]


def test_a_recorded_variant_is_trained_again_only_for_what_starts_from_it(empty):
    record_of(Job("train", "mnist", "validation-a"))
    raw = Job("vary", "mnist", "q-base/squared-pull-dropout-front")
    grown = Job("vary", "mnist", "q-base-adv/squared-pull-then-none-reinitialize-dropout-front")
    asked = Plan(only=("settings",))
    record_of(raw, evaluated=False)
    assert raw not in asked.left()
    asked.unit(raw).weights.unlink()  # as in a clone
    assert asked.left()[grown] == [raw] and raw in asked.left()
    record_of(grown, evaluated=False)
    assert not {raw, grown} & asked.left().keys()


def test_no_run_is_trained_twice_under_two_names(empty):
    asked = Plan(only=("settings",))
    jobs = [job for job in asked.targets() if job.stage == "vary"]
    units_ = [asked.unit(job) for job in jobs] + [records.unit("mnist", name) for name in variants.DECIDED_ON]
    runs = [(one.spec, variants.start(one) and variants.start(one).variant) for one in units_]
    assert all(runs.count(one) == 1 for one in runs)
    change = Job("vary", "mnist", "q-base/dropout-front")
    assert change not in jobs and not asked.done(change)
    record_of(Job("vary", "mnist", "q-base/squared-pull-dropout-front"), evaluated=False)
    assert asked.done(change)


def test_a_variant_that_was_stopped_early_is_left_as_it_is_recorded(empty):
    job = Job("vary", "mnist", "q-base/no-gate")
    record_of(job, evaluated=False, history=[{"epoch": 1, "score": 1.0}], chosen={"epoch": 1, "score": 1.0})
    assert Plan().done(job)
    (Plan().unit(job).folder / "checkpoint.pt").touch()  # it can go on
    assert not Plan().done(job)


def test_a_variant_is_trained_from_where_it_starts(empty, monkeypatch):
    given = {}
    monkeypatch.setattr(units, "train", lambda unit, **options: given.update(options, unit=unit))
    job = Job("vary", "mnist", "q-base-adv/squared-pull-then-none-reinitialize-dropout-behind", 1)
    Plan().run(job)
    assert given["unit"] == variants.unit("mnist", *job.model.split("/"), 1)
    assert given["start"] == variants.unit("mnist", "q-base", "squared-pull-dropout-behind", 1)
    Plan().run(Job("vary", "mnist", "q-base/no-gate"))
    assert not given["unit"].spec.layer.gate and given["start"] is None


# ---- What counts as done ----


def test_a_finished_record_counts_however_old_or_new_its_file_is(empty):
    jobs = Plan(only=("mnist/cnn",))
    for name in ("validation-a", "source-a", "source-b", "cnn"):
        record_of(Job("train", "mnist", name))
    unit = records.unit("mnist", "cnn")
    for moment in (0, time.time(), time.time() + 1e6):
        os.utime(unit.record, (moment, moment))
        assert jobs.left() == {}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"format": 1}, ["train", "evaluate"]),
        ({"spec": dataclasses.asdict(experiments.spec("cnn-adv")) | {"name": "cnn"}}, ["train", "evaluate"]),
        (
            {"history": [{"epoch": 1, "score": 0.0}], "chosen": {"epoch": 1, "score": 0.0}},
            ["train", "evaluate"],
        ),
        ({"cells": []}, ["evaluate"]),
        ({"weights_sha256": "of other weights"}, ["train", "evaluate"]),
    ],
    ids=["other format", "other settings", "interrupted training", "nothing measured", "other weights"],
)
def test_a_record_that_is_not_finished_or_of_other_settings_does_not_count(empty, change, stages):
    for name in ("validation-a", "source-a", "source-b"):
        record_of(Job("train", "mnist", name))
    job = Job("train", "mnist", "cnn")
    record_of(job)
    plain = Plan(only=("mnist/cnn",))
    assert plain.left() == {}
    path = records.unit("mnist", "cnn").record
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    # With other weights than those measured the evaluation is left as soon as the training is.
    if "weights_sha256" in change:
        assert not plain.done(job)
        adv = Plan(only=("mnist/cnn-adv",)).left()
        assert job in adv and Job("evaluate", "mnist", "cnn") in adv
    else:
        assert [one.stage for one in plain.left() if one.model == "cnn"] == stages


def test_training_that_ended_early_for_want_of_a_gain_is_finished(empty):
    job = Job("train", "mnist", "validation-a")
    history = [{"epoch": k, "score": 1.0 if k == 2 else 0.0} for k in range(1, 13)]
    record_of(job, history=history, chosen=history[1])
    assert Plan().done(job)
    record_of(job, history=history[:-1], chosen=history[1])
    assert not Plan().done(job)


@pytest.mark.parametrize("spoil", ["record", "weights"])
def test_a_half_written_file_is_never_used(empty, spoil):
    job = Job("train", "mnist", "validation-a")
    record_of(job)
    path = getattr(records.unit("mnist", "validation-a"), spoil)
    path.write_bytes(path.read_bytes()[:-7])
    assert not Plan().done(job)


def test_a_fresh_clone_needs_no_weights_of_what_is_measured_unless_others_start_from_them(empty):
    for name in ("validation-a", "source-a", "source-b", "q-base", "q-base-adv"):
        record_of(Job("train", "mnist", name))
    for name in ("q-base", "q-base-adv"):
        records.unit("mnist", name).weights.unlink()
    assert Plan(only=("mnist/q-base", "mnist/q-base-adv")).left() == {}
    records.unit("mnist", "q-base-adv").record.unlink()
    # Q-base trained anew has other weights: it is measured again.
    stages = [(job.stage, job.model) for job in Plan(only=("mnist/q-base-adv",)).left()]
    assert stages == [(stage, name) for name in ("q-base", "q-base-adv") for stage in ("train", "evaluate")]


def test_likelihoods_are_done_when_every_set_of_images_is_scored(empty):
    unit, job = likelihoods.Unit("mnist"), Job("likelihoods", "mnist", "pixels")
    assert not Plan().done(job)
    record = {
        "format": likelihoods.FORMAT,
        "settings": dataclasses.asdict(unit.settings),
        "finished": True,
        "sets": {name: {"n": 10_000} for name in likelihoods.set_names(unit)},
        "network_sha256": None,
    }
    unit.record.parent.mkdir(parents=True)
    unit.record.write_text(json.dumps(record))
    assert Plan().done(job)
    for part in ({"finished": False}, {"sets": record["sets"] | {"clean": {"n": 1000}}}):
        unit.record.write_text(json.dumps(record | part))
        assert not Plan().done(job)
    record["sets"].pop("uniform 0.4")
    unit.record.write_text(json.dumps(record))
    assert not Plan().done(job)


def test_likelihoods_of_codes_are_those_of_today_s_network(empty):
    unit, job = likelihoods.Unit("mnist", "q-base"), Job("likelihoods", "mnist", "q-base")
    network = record_of(Job("train", "mnist", "q-base"))
    record = {
        "format": likelihoods.FORMAT,
        "settings": dataclasses.asdict(unit.settings),
        "finished": True,
        "sets": {name: {"n": 10_000} for name in likelihoods.set_names(unit)},
        "network_sha256": network["weights_sha256"],
    }
    unit.record.parent.mkdir(parents=True)
    unit.record.write_text(json.dumps(record))
    assert Plan().done(job)
    unit.record.write_text(json.dumps(record | {"network_sha256": "of a network that was replaced"}))
    assert not Plan().done(job)


# ---- What a training replaces ----


def climbed(job: Job, weights: str) -> None:
    """Write an adaptive evaluation of one rung."""
    unit = Plan().unit(job)
    cell = {"rung": adaptive.ladder(unit.spec)[0].name, "eps": 0.1, "seconds": 7200.0}
    about = {"format": records.FORMAT, "model": job.model, "weights_sha256": weights, "n": adaptive.IMAGES}
    adaptive.write(about | {"environments": [], "cells": [cell]}, adaptive.path_of(unit))


def trained_anew(job: Job) -> None:
    """Leave of a recorded network what its training on another machine leaves."""
    unit = Plan().unit(job)
    replaced.set_aside(unit)
    unit.weights.parent.mkdir(parents=True, exist_ok=True)
    unit.weights.write_bytes(b"other")
    records.write(records.read_unit(unit) | {"weights_sha256": files.sha256(unit.weights), "cells": []})


def test_a_narrowed_call_measures_again_all_that_its_training_replaces(empty):
    for name in ("validation-a", "source-a", "source-b"):
        record_of(Job("train", "mnist", name))
    job = Job("train", "mnist", "q-large-shared", 2)
    record = record_of(job)
    climbed(job, record["weights_sha256"])
    unit = Plan().unit(job)
    unit.weights.unlink()
    evaluate, adapt = (dataclasses.replace(job, stage=stage) for stage in ("evaluate", "adapt"))
    record_of(Job("train", "mnist", "q-large", 2))  # the table's other network
    narrow = Plan((2,), ("table:9",))
    assert narrow.left() == {} and outlook.trained_anew(narrow, narrow.left()) == ""
    shown = units.of_tables(("9",), unit)
    missing = next(cell for cell in record["cells"] if records.attack_of(cell) in shown)
    records.write(record | {"cells": [cell for cell in record["cells"] if cell != missing]})
    assert list(narrow.left())[:2] == [job, evaluate] and adapt in narrow.left()
    every = set(experiments.attacks_on("mnist", unit.spec))
    assert set(narrow.attacks(evaluate)) == {records.attack_of(missing)}  # the same weights may come out
    assert set(narrow.attacks(evaluate, anew=True)) == every
    hours = outlook.seconds(narrow, narrow.left())
    assert hours[evaluate] == pytest.approx(36 * len(every))
    assert outlook.trained_anew(narrow, narrow.left()).startswith("1 measured network is trained anew")

    trained_anew(job)
    # The evaluation is another process, which knows of it by what was set aside, and so does a later call.
    for _ in range(2):
        later = Plan((2,), ("table:9",))
        assert {evaluate, adapt} <= later.left().keys() and later.tables(evaluate) == ()
        assert set(later.attacks(evaluate)) == every
    now = records.read_unit(unit)
    records.write(now | {"cells": [cell for cell in record["cells"] if cell["attack"] != "bim"]})
    assert evaluate in later.left()
    records.write(now | {"cells": record["cells"]})
    assert evaluate not in later.left() and later.tables(evaluate) == ("9",)


def test_what_was_merely_waited_for_is_measured_again_too(empty):
    for name in ("validation-a", "source-a", "source-b"):
        record_of(Job("train", "mnist", name))
    job = Job("train", "mnist", "cnn", 1)
    record = record_of(job)
    climbed(job, record["weights_sha256"])
    Plan().unit(job).weights.unlink()
    asked = Plan((1,), ("mnist/cnn-adv",))
    lost = {dataclasses.replace(job, stage=stage) for stage in ("evaluate", "adapt")}
    assert job in asked.left() and lost <= asked.left().keys()
    trained_anew(job)
    record_of(Job("train", "mnist", "cnn-adv", 1))  # all that was asked for
    assert set(asked.left()) >= lost and job not in asked.left()
    assert not Plan((1,), ("mnist/q-base",)).left().keys() & lost  # but of no one else


def test_a_ladder_and_likelihoods_are_made_again_of_a_network_that_they_were_of(empty):
    for name in ("validation-a", "source-a", "source-b", "q-base"):
        record_of(Job("train", "mnist", name))
    job, unit = Job("train", "mnist", "q-base"), likelihoods.Unit("mnist", "q-base", 1)
    files.write_json(unit.record, {"format": likelihoods.FORMAT, "network_sha256": "?"})
    Plan().unit(job).weights.unlink()
    asked = Plan((0,), ("mnist/q-base-adv",))
    assert Job("likelihoods", "mnist", "q-base", 1) in asked.left()
    trained_anew(job)
    assert Job("likelihoods", "mnist", "q-base", 1) in asked.left()


# ---- How long it takes ----


def test_hours_are_those_that_records_say(empty):
    wanted = Plan(only=("mnist/cnn",))
    jobs = wanted.left()
    assert "is not known" in outlook.outlook(outlook.seconds(wanted, jobs), 1)
    record_of(Job("train", "mnist", "source-a"))
    jobs = wanted.left()
    estimates = outlook.seconds(wanted, jobs)
    attacks = len(experiments.attacks_on("mnist", experiments.spec("cnn")))
    assert estimates[Job("train", "mnist", "cnn")] == 3600  # of its kind
    assert estimates[Job("evaluate", "mnist", "cnn")] == pytest.approx(36 * attacks)
    hours = (3 * 3600 + 36 * attacks) / 2 / 3600  # cnn, validation-a and source-b, two at a time
    line = f"about {hours:.1f} hours with 2 at a time, by the times of the machines that recorded"
    assert line in outlook.outlook(estimates, 2)
    assert outlook.outlook(estimates, 2).startswith("4 jobs are left (3 train, 1 evaluate)")


def test_times_on_few_images_are_told_for_all_of_them(empty):
    attacks = experiments.attacks_on("mnist", experiments.spec("cnn"))
    source = record_of(Job("train", "mnist", "source-a"))
    few = [cell | {"n": 1_000} for cell in source["cells"]]
    seconds = source["seconds"]
    records.write(source | {"cells": few})
    job = Job("evaluate", "mnist", "cnn")
    assert outlook.seconds(Plan(), [job])[job] == pytest.approx(10 * 36 * len(attacks))
    # An attack whose time nobody knows takes as long as the others.
    known = {what: value for what, value in seconds.items() if what != str(attacks[-1])}
    records.write(source | {"seconds": known})
    assert len(known) < len(seconds)
    assert outlook.seconds(Plan(), [job])[job] == pytest.approx(36 * len(attacks))


def test_a_ladder_on_few_images_tells_how_long_one_on_all_takes(empty):
    job = Job("train", "mnist", "cnn")
    climbed(job, record_of(job)["weights_sha256"])
    path = adaptive.path_of(Plan().unit(job))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n": adaptive.IMAGES // 10}))
    adapt = Job("adapt", "mnist", "cnn", 1)
    assert outlook.seconds(Plan((1,), ("mnist/cnn",)), [adapt]) == {adapt: pytest.approx(10 * 7200.0)}


def test_ladders_that_cannot_be_read_and_those_of_unknown_networks_are_passed_over(empty):
    """A file cut short, and a network of one's own that another branch has in its grid."""
    job = Job("train", "mnist", "cnn")
    climbed(job, record_of(job)["weights_sha256"])
    path = adaptive.path_of(Plan().unit(job))
    (own := files.RESULTS / "mnist" / "mine" / "adaptive").mkdir(parents=True)
    (own / "seed0.json").write_text(path.read_text().replace('"cnn"', '"mine"'))
    assert [record["model"] for record in adaptive.recorded()] == ["cnn"]
    adapt = Job("adapt", "mnist", "cnn", 1)
    plan = Plan((1,), ("mnist/cnn",))
    assert outlook.seconds(plan, [adapt]) == {adapt: 7200.0}
    path.write_text(path.read_text()[:-20])
    assert outlook.seconds(plan, [adapt]) == {adapt: None}


def test_what_other_code_has_made_counts_and_is_said(empty):
    for name in ("validation-a", "source-a", "source-b", "cnn"):
        record_of(Job("train", "mnist", name))
    asked, path = Plan(only=("mnist/cnn", "mnist/source-a")), records.unit("mnist", "cnn").record
    assert asked.left() == {} and outlook.of_other_code(asked, {}) == ""
    record = records.read_file(path)
    here = [{"code": {stage: fingerprint.of(stage)}} for stage in ("training", "scoring")]
    record |= {"environments": [*here, {"code": {"scoring": "of yesterday"}}], "trained_in": 0}
    record["cells"][0]["environment"] = 1
    records.write(record)
    assert outlook.of_other_code(asked, {}) == ""  # the third is of no cell any more
    record["cells"][1]["environment"] = 2
    records.write(record)
    said = outlook.of_other_code(asked, asked.left())
    assert asked.left() == {} and said.startswith("1 record counts as done") and "--again" in said
    assert outlook.of_other_code(asked, {Job("evaluate", "mnist", "cnn"): []}) == ""


def test_a_ladder_that_other_code_has_climbed_counts_and_is_said(empty, monkeypatch):
    """As a fresh clone after a change of the code would count it."""
    monkeypatch.setattr(wanted, "ADAPTED", {("mnist", "cnn")})
    for name in ("validation-a", "source-a"):
        record_of(Job("train", "mnist", name))
    unit, weights = records.unit("mnist", "cnn"), record_of(Job("train", "mnist", "cnn"))["weights_sha256"]
    asked, cells = Plan(only=("adaptive",)), []
    of_source = {"source_sha256": records.weights_of(records.unit("mnist", "source-a"))}
    ladder = {"weights_sha256": weights, "n": adaptive.IMAGES, "environments": [{"code": {}}], "cells": cells}
    full = {"n": adaptive.IMAGES, "attacked": 1, "correct": 1, "environment": 0, "seconds": 36.0}
    full["right"] = records.pack(torch.ones(adaptive.IMAGES, dtype=torch.bool))
    ladder |= {
        "clean": full["right"],
        "format": records.FORMAT,
        "dataset": "mnist",
        "model": "cnn",
        "seed": 0,
    }
    files.write_json(adaptive.path_of(unit), ladder)
    while left := list(adaptive.left(adaptive.read(unit), unit)):
        for rung, eps in left:
            which = {"rung": rung.name, "eps": eps, "how": adaptive.plain(rung)}
            cells.append(full | which | (of_source if rung.source == "source-a" else {}))
        files.write_json(adaptive.path_of(unit), ladder)
    assert asked.left() == {} and outlook.of_other_code(asked, {}) == ""
    ladder["environments"][0]["code"] = {"rungs": "of yesterday"}
    files.write_json(adaptive.path_of(unit), ladder)
    assert asked.left() == {} and outlook.of_other_code(asked, {}).startswith("1 record counts as done")
    whole, adapt = len(cells), Job("adapt", "mnist", "cnn")
    files.write_json(adaptive.path_of(records.unit("mnist", "cnn", 1)), ladder | {"seed": 1})
    cells.pop()
    files.write_json(adaptive.path_of(unit), ladder)
    assert list(asked.left()) == [adapt]
    # What it will take is the time of the rung that it lacks; where its network is trained before, of all of them.
    assert outlook.seconds(asked, [adapt]) == {adapt: 36.0}
    assert outlook.seconds(asked, [adapt, adapt.training])[adapt] == 36.0 * (whole - 0.5)  # the middle of two
    adaptive.path_of(unit).write_text("{}")
    assert outlook.seconds(asked, [adapt]) == {adapt: 36.0 * whole}


def test_a_sibling_of_other_weights_than_recorded_lends_none(empty):
    """As where one's own training of it lies under runs/, and its record was restored from the repository."""
    for seed in (0, 1, 2):
        record_of(Job("train", "mnist", "cnn", seed))
    unit = records.unit("mnist", "cnn")
    (rung,) = (one for one in adaptive.ladder(unit.spec) if one.source == "sibling")
    assert adaptive.other(unit, rung).seed == 1
    records.unit("mnist", "cnn", 1).weights.write_bytes(b"of another training")
    assert adaptive.other(unit, rung).seed == 2
    records.unit("mnist", "cnn", 2).record.write_text("cut short")
    assert not standing.can(unit, rung)


def test_the_pace_of_this_machine_shows_in_what_is_left(empty, tmp_path):
    record_of(Job("train", "mnist", "source-a"))
    wanted = Plan(only=("mnist/source-b", "mnist/validation-a"))
    jobs = wanted.left()
    stale = tmp_path / Job("train", "mnist", "source-b").marker
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    outlook.forget(jobs, tmp_path)
    assert not stale.exists()  # its record says otherwise
    outlook.start(wanted, jobs, 1, tmp_path)
    said = outlook.finish(Job("train", "mnist", "source-b"), 7200.0, tmp_path)  # twice as long as recorded
    assert (
        said
        == "1 job is left (1 train): about 2.0 hours with 1 at a time, at the pace of this machine so far"
    )
    assert outlook.finish(Job("train", "mnist", "validation-a"), 1.0, tmp_path).startswith("Nothing is left")


# ---- Through Snakemake ----


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, the workflow and the images in a folder of their own, without results."""
    return copied(tmp_path_factory.mktemp("clone"))


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_smoke_run_is_interrupted_continued_and_then_left_alone(clone):
    path = clone / "runs" / "mnist" / "variants" / "cnn" / "smoke" / "seed0" / "record.json"
    running = snakemake(clone)
    while len(read(path).get("cells", [])) < 2 and running.poll() is None:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # Ctrl-C reaches Snakemake and its jobs
    said, _ = running.communicate()
    before = read(path)
    assert "Done: train mnist smoke seed 0" in said and 2 <= len(before["cells"]) < 13, said

    continued = snakemake(clone)
    said, _ = continued.communicate()
    assert continued.returncode == 0, said
    assert "1 job is left (1 evaluate)" in said and "Done: train" not in said
    assert "Nothing is left to do" in said
    after = read(path)
    assert len(after["history"]) == 2 and {cell["n"] for cell in after["cells"]} == {16}
    measured = set(before["seconds"])
    assert {name: after["seconds"][name] for name in measured} == before["seconds"]  # not measured twice
    published = {(cell.attack, cell.eps) for cell in paper.TABLES["2a"].cells if cell.model == "cnn"}
    assert published <= {(cell["attack"], cell["eps"]) for cell in after["cells"]}

    # As in a clone: no traces of earlier runs, and files whose times say nothing.
    shutil.rmtree(clone / ".snakemake")
    shutil.rmtree(clone / "runs" / "workflow")
    for number, file in enumerate([path, clone / "workflow" / "Snakefile"]):
        os.utime(file, (1e9 + number, 1e9 + number))
    again = snakemake(clone)
    said, _ = again.communicate()
    assert again.returncode == 0 and "Nothing is left to do" in said, said
    assert read(path) == after
    assert not (clone / "data" / "results").exists()  # a trial is no result, and in no one's way


def test_a_variant_reaches_its_job_by_both_of_its_names_and_the_paper_s_cells_come_first(clone):
    started = clone / "runs" / "workflow" / "started.json"
    files.write_json(started, "of a run in progress")
    shown = ("--printshellcmds", "--quiet", "progress")
    dry = snakemake(clone, "seeds=0,1", "only=settings,trails,mnist/cnn,mnist/squeezing", "--dry-run", *shown)
    said, _ = dry.communicate()
    assert dry.returncode == 0, said
    assert "study.outlook vary mnist q-large-adv/exact-gradients 0 --config" in said
    assert "study.outlook trail mnist cnn-adv 2 --config" in said
    found = {}
    for block in said.split("\n\n"):
        if job := re.search(r"seed(\d).*wildcards: dataset=mnist, model=(\S+), seed", block, re.DOTALL):
            stage = re.search(r"output: \S+\.(\w+)", block)[1]
            priority = re.search(r"priority: (\d)", block)
            found[stage, job[2], int(job[1])] = int(priority[1]) if priority else 0
    assert found["evaluate", "cnn", 0] == found["train", "source-a", 0] == 3
    assert found["adapt", "q-base/squared-pull-dropout-behind", 0] == 0
    assert found["evaluate", "cnn", 1] == found["evaluate", "squeezing", 0] == 1
    assert found["vary", "q-large-adv/exact-gradients", 0] == 0
    assert json.loads(started.read_text()) == "of a run in progress"


def test_a_look_at_the_workflow_does_not_pass_for_a_start(clone):
    started = clone / "runs" / "workflow" / "started.json"
    files.write_json(started, "of a run in progress")
    unlocking = snakemake(clone, "--unlock")
    said, _ = unlocking.communicate()
    assert unlocking.returncode == 0, said
    assert json.loads(started.read_text()) == "of a run in progress"


def test_a_ladder_that_lacks_a_rung_is_climbed_on_from_where_it_stands(tmp_path):
    """On the 1,000 images that it is recorded of, beside a grid of which nothing else is there."""
    clone = copied(tmp_path)
    for name in ("q-base-adv", "q-base", "cnn-adv", "cnn", "source-a", "validation-a"):
        shutil.copytree(
            ROOT / "data" / "results" / "mnist" / name, clone / "data" / "results" / "mnist" / name
        )
    (clone / "data" / "weights").symlink_to(ROOT / "data" / "weights")
    path = clone / "data" / "results" / "mnist" / "q-base-adv" / "adaptive" / "seed0.json"
    whole = read(path)
    rest = [cell for cell in whole["cells"] if (cell["rung"], cell["eps"]) != ("noise", 0.3)]
    assert whole["n"] == adaptive.IMAGES and len(rest) == len(whole["cells"]) - 1
    files.write_json(path, whole | {"cells": rest})

    climbing = snakemake(clone, "only=adaptive", "--", "runs/workflow/mnist/q-base-adv/seed0.adapt")
    said, _ = climbing.communicate()
    assert climbing.returncode == 0 and "Done: adapt mnist q-base-adv seed 0" in said, said
    after = read(path)["cells"]
    assert after[:-1] == rest  # nothing is climbed twice
    (before,) = (cell for cell in whole["cells"] if cell not in rest)
    assert (after[-1]["rung"], after[-1]["eps"]) == ("noise", 0.3)
    # in another number format, and perhaps on another machine
    assert after[-1]["correct"] == pytest.approx(before["correct"], abs=3)
