"""The commands: the whole job in miniature, and errors that fit in one line."""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_cnn, small_q_net

from qlayer_core import data, datasets, evaluation, files, machine, models, training
from qlayer_core.__main__ import _parser, main
from qlayer_core.specs import Attack
from qlayer_core.study import (
    adaptive,
    crafting,
    experiments,
    fingerprint,
    fitting,
    likelihoods,
    paper,
    plan,
    printing,
    records,
    tables,
    trails,
    units,
    variants,
)
from qlayer_core.study.ladder import Rung
from qlayer_core.study.records import unit

IMAGES = 24
SIBLING = (Rung("transfer from another seed", "black-box", "apgd", None, "sibling", {"iterations": 2}),)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results, weights and runs in an empty folder."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        for module in (files, records, units, trails, likelihoods):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    return tmp_path


@pytest.fixture
def miniature(folders: Path, monkeypatch: pytest.MonkeyPatch, digits: data.Split) -> Path:
    """Few images, small networks and one epoch in the place of the paper's."""
    few = digits.first(IMAGES)
    monkeypatch.setattr(data, "load", lambda dataset, split, limit=None: few)
    monkeypatch.setattr(models, "cnn", lambda architecture: small_cnn())
    monkeypatch.setattr(models, "q_net", lambda spec, architecture: small_q_net())
    for name, spec in experiments.RUNS.items():
        monkeypatch.setitem(experiments.RUNS, name, replace(spec, epochs=1, batch_size=8))
    return folders


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_train_evaluate_release_and_table(miniature, capsys):
    for name in ("validation-a", "source-a", "q-base", "q-base-adv"):
        assert main(["train", "mnist", name]) == 0
        assert lines(capsys)[-1].startswith("epoch 1 ")
        assert (
            unit("mnist", name).weights
            == miniature / "runs" / "mnist" / name / "seed0" / "weights.safetensors"
        )

    assert main(["evaluate", "mnist", "q-base", "--table", "1a", "--table", "2a"]) == 0
    printed = lines(capsys)
    shown = [cell for n in ("1a", "2a") for cell in paper.TABLES[n].cells if cell.row == "q-base"]
    measured = {(cell.setting, cell.attack, cell.eps) for cell in shown}
    # Two of C&W on probabilities, two with the clipped gradient for each of FGSM and BIM; and each path has its line.
    assert len(printed) == 2 * (len(measured) + 6)
    assert printed[0].startswith("clean, path q answers: ") and printed[0].endswith(f"% of {IMAGES} right")
    assert "black-box fgsm 0.2 made on cnn-a, path q answers: " in "".join(printed)

    record = records.read("mnist", "q-base")
    assert all(cell["n"] == IMAGES and cell["path"] in ("q", "e") for cell in record["cells"])
    # Each attack has its seconds, and so has the training.
    assert len(record["cells"]) == len(printed) == 2 * (len(record["seconds"]) - 1)
    assert all(records.unpack(cell).sum() == cell["correct"] for cell in record["cells"])
    for cell in shown:
        assert tables.cell("mnist", "q-base", **{field: getattr(cell, field) for field in paper.KEY})

    assert main(["evaluate", "mnist", "q-base", "--table", "1a", "--table", "2a"]) == 0
    assert lines(capsys) == [] and records.read("mnist", "q-base") == record  # nothing is measured twice

    assert main(["release", "mnist", "q-base"]) == 0
    assert unit("mnist", "q-base").weights == miniature / "weights" / "mnist" / "q-base.safetensors"
    assert records.load("mnist", "q-base")[1] == record

    assert main(["table", "1a"]) == 0
    printed = "\n".join(lines(capsys))
    clean = tables.cell("mnist", "q-base", setting="clean", path="q")["accuracy"]
    for text in ("paper: Accuracy", "ours: Accuracy", "difference: Accuracy", "52.69", f"{clean:.2f}°"):
        assert text in printed
    behind = f"ours: seed 0 alone, on {IMAGES} test images; 95 % Wilson intervals are at most "
    assert (
        behind in printed
        and f"points wide; attacks computed in {machine.number_format()}, answers in float32" in printed
    )
    assert printed.endswith(f"° of the first {IMAGES} test images"), "there are no others"
    assert main(["table", "1a", "--seed", "7"]) == 0
    assert lines(capsys) == ["Of this table nothing is recorded with seed 7; seeds that are recorded: 0."]

    assert main(["runs"]) == 0
    recorded = [line.split() for line in lines(capsys) if line.endswith("seed0*")]
    assert recorded == [
        ["mnist", name, "seed0*"] for name in ("validation-a", "source-a", "q-base", "q-base-adv")
    ]


def test_a_network_that_draws_begins_with_the_same_draws_whatever_was_measured_before(miniature, monkeypatch):
    blind = [
        one
        for one in experiments.attacks_on("mnist", experiments.spec("randomised"))
        if (one.setting, one.attack) == ("black-box", "fgsm")
    ]
    monkeypatch.setattr(experiments, "attacks_on", lambda dataset, spec: blind)
    for name in ("validation-a", "source-a", "randomised"):
        main(["train", "mnist", name])
    first, cells = [], evaluation.cells

    def spy(model, made, labels, *others):
        first.append(model(made.new_full((4, 1, 28, 28), 0.5)))  # as if the made ones were these
        return cells(model, made, labels, *others)

    monkeypatch.setattr(evaluation, "cells", spy)
    main(["evaluate", "mnist", "randomised"])
    main(["evaluate", "mnist", "randomised", "--check", "10"])
    assert len(first) == 2 * len(blind) > 2
    assert all(torch.equal(one, first[0]) for one in first)


def test_an_evaluation_and_its_check_both_show_the_batches_of_each_attack(miniature, monkeypatch):
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    shown, make = [], crafting.make

    def spy(one, model, images, attack, progress, **options):
        shown.append((str(attack), progress))
        return make(one, model, images, attack, progress, **options)

    monkeypatch.setattr(crafting, "make", spy)
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    measured = shown.copy()
    main(["evaluate", "mnist", "cnn", "--table", "1a", "--check", "10"])
    assert measured and shown == 2 * measured and all(progress for _, progress in shown)


@pytest.fixture
def first_looks(monkeypatch):
    """What is recorded, with a seeing BIM of the first 500 images alone on Q-inner, and of 1,000 on the others."""
    read = records.read_result

    def cut(path: Path) -> dict:
        record = read(path)
        n = 500 if record["model"] == "q-inner" else 1000
        cells = []
        for cell in record["cells"]:
            if (cell["attack"], cell["setting"]) == ("bim", "white-box"):
                right = records.unpack(cell)[:n]
                cell = cell | {
                    "n": n,
                    "correct": int(right.sum()),
                    "right": records.pack(torch.as_tensor(right)),
                }
                cell["accuracy"] = 100 * cell["correct"] / n
            cells.append(cell)
        return record | {"cells": cells}

    monkeypatch.setattr(records, "read_result", cut)


def test_a_table_marks_numbers_of_fewer_images_and_of_attacks_that_failed_a_check(first_looks, capsys):
    assert main(["table", "2a"]) == 0
    printed = "\n".join(lines(capsys))
    frame = tables.table("2a")
    fewer, struck = frame[frame.n < 10_000], frame.dropna(subset="unreliable")
    assert len(fewer) and "° of the first 1,000" in printed
    for cell in fewer.itertuples():
        assert f"{cell.ours:.2f}°" in printed, (cell.row, cell.column)
        assert f"{cell.difference:.2f}°" in printed, "a difference is as doubtful as its number"
    assert len(struck) and all(
        f"{one.ours:.2f}{'°' * (one.n < 10_000)}~" in printed for one in struck.itertuples()
    )


def test_a_table_of_all_seeds_has_mean_range_and_the_seed_that_validation_images_prefer(first_looks, capsys):
    assert main(["table", "3b", "--seed", "all"]) == 0
    printed = capsys.readouterr().out
    frame = tables.summary("3b")
    several, one = frame.loc["q-large", "bim 0.2"], frame.loc["q-large", "cw 0.2"]
    assert several.seeds > 1 == one.seeds
    parts = printed.split("\n\n")
    shown = dict(part.split(f": {paper.TABLES['3b'].caption}\n") for part in parts if "\n" in part.strip())
    for name, value in (
        ("ours", f"{several.ours:.2f}°"),
        ("range", f"{several.low:.2f}-{several.high:.2f}"),
        ("range", f"{one.low:.2f}-{one.high:.2f}"),
        ("chosen", f"{several.chosen:.2f}°"),
        ("difference", f"{several.difference:.2f}°"),
        ("seeds", " ".join(f"{count:.0f}" for count in frame.loc["q-large"].seeds)),
    ):
        (line,) = (line for line in shown[name].splitlines() if line.startswith("q-large"))
        assert value in " ".join(line.split()), name
    assert "ours: mean over seeds 0, 1, 2, on 10,000 test images; range: lowest and highest" in printed
    best = [f"{name} {tables.preferred('mnist', name)}" for name in ("cnn", "q-large", "q-inner")]
    assert f"chosen: the seed that validation images prefer: {', '.join(best)}\n" in printed
    few = sorted({n for n in frame.n if n < 10_000})
    assert (
        few == [500, 1000] and "° of the first 1,000, °° of the first 500 test images, the others" in printed
    )
    assert f"{frame.ours['q-inner', 'bim 0.2']:.2f}°°" in shown["ours"]


def test_tables_and_claims_say_whose_training_was_paused(miniature, capsys, monkeypatch):
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], epochs=2))
    main(["train", "mnist", "validation-a"])
    said = []
    for more in (["--until", "1"], []):
        main(["train", "mnist", "cnn", *more])
        main(["evaluate", "mnist", "cnn", "--table", "2a"])
        for command in (["table", "2a"], ["claims"]):
            lines(capsys)
            main(command)
            said.append(
                "provisional: training was paused before it was over, of cnn (seed 0)" in lines(capsys)
            )
    assert said == [True, True, False, False]


def test_a_table_that_nothing_is_recorded_of_says_so_of_all_seeds(miniature, capsys):
    assert main(["table", "1a", "--seed", "all"]) == 0
    assert lines(capsys) == ["Of this table nothing is recorded."]


def test_a_table_of_a_seed_that_is_not_recorded_says_which_are(capsys):
    assert main(["table", "1a", "--seed", "7"]) == 0
    assert lines(capsys) == [
        "Of this table nothing is recorded with seed 7; seeds that are recorded: 0, 1, 2."
    ]
    assert main(["table", "1a", "--seed", "-1"]) == 1
    assert "seed is -1; it must be at least 0" in capsys.readouterr().err


def test_recorded_answers_are_checked_and_nothing_is_written(miniature, capsys):
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    lines(capsys)
    one = unit("mnist", "cnn")
    before = one.record.read_bytes()
    assert main(["evaluate", "mnist", "cnn", "--table", "1a", "--check", "10"]) == 0
    printed = lines(capsys)
    assert f"clean: 0 of the first {IMAGES} answers differ" in printed
    assert printed[-1] == f"In all 0 of {5 * IMAGES} answers differ from the recorded ones."
    with pytest.raises(SystemExit):  # it must not pass for a call without it, and measure
        main(["evaluate", "mnist", "cnn", "--check", "0"])
    assert not lines(capsys)
    assert one.record.read_bytes() == before
    for path in (kept := miniature / "runs" / "mnist" / "black-box").iterdir():
        path.write_bytes(b"")  # who would read these could not compare anything
    there = set(miniature.rglob("*"))
    assert main(["evaluate", "mnist", "cnn", "--table", "1a", "--check", "10"]) == 0
    assert lines(capsys)[-1].startswith("In all 0 of ") and set(miniature.rglob("*")) == there
    shutil.rmtree(kept)
    main(["evaluate", "mnist", "cnn", "--table", "1a", "--check", "10"])
    assert lines(capsys)[-1].startswith("In all 0 of ") and not kept.exists()
    record = records.read("mnist", "cnn")  # of a machine that answers the other way round
    for cell in record["cells"]:
        cell["right"] = records.pack(~torch.from_numpy(records.unpack(cell)))
    records.write(record)
    assert main(["evaluate", "mnist", "cnn", "--table", "1a", "--check", "10"]) == 0
    assert lines(capsys)[-1].startswith(f"In all {5 * IMAGES} of {5 * IMAGES} answers differ")
    assert main(["evaluate", "mnist", "cnn", "--table", "1a", "--images", "10", "--again"]) == 0
    assert "fewer never replace them; --check N compares the first N" in capsys.readouterr().err
    records.write(record | {"cells": [cell | {"n": IMAGES - 1} for cell in record["cells"]]})
    assert main(["evaluate", "mnist", "cnn", "--check", "10"]) == 1
    assert f"nothing is recorded of cnn on mnist, seed 0, on {IMAGES} test images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "mnist leaves no image to learn from: 10,000 of its training images are set aside"),
        ([3, 10], "mnist has labels up to 10; the networks of the grid tell 10 classes apart, 0 to 9"),
    ],
)
def test_a_data_set_that_cannot_be_learned_is_refused(miniature, capsys, monkeypatch, labels, says):
    def load(dataset, split, **options):
        return data.Split(torch.zeros(len(labels), 1, 28, 28), torch.tensor(labels, dtype=torch.int64))

    main(["train", "mnist", "validation-a"])
    monkeypatch.setattr(data, "load", load)
    assert main(["train", "mnist", "source-a"]) == 1
    assert says in capsys.readouterr().err and not unit("mnist", "source-a").record.exists()


def test_what_another_machine_measured_can_be_measured_again(miniature, capsys, monkeypatch):
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    command = ["evaluate", "mnist", "cnn", "--table", "2a"]
    main(command)
    first = records.read("mnist", "cnn")
    assert {here["number_format"] for here in first["environments"]} == {"float32"}
    lines(capsys)

    real = records.environment
    monkeypatch.setattr(records, "environment", lambda *where: real(*where) | {"number_format": "bfloat16"})
    main(command)
    assert lines(capsys) == []
    main([*command, "--again"])
    assert len(lines(capsys)) == len(first["cells"])
    record = records.read("mnist", "cnn")
    used = [record["environments"][cell["environment"]] for cell in record["cells"]]
    assert {here["number_format"] for here in used} == {"bfloat16"}
    main([*command, "--again"])
    assert lines(capsys) == []  # it continues where it was stopped


@pytest.mark.parametrize("step", ["adversarial", "cells"])
def test_two_evaluations_at_a_time_keep_each_other_s_cells(step, miniature, monkeypatch):
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    alone = getattr(evaluation, step)

    def beside_another(*given, **options):
        made = alone(*given, **options)
        monkeypatch.setattr(evaluation, step, alone)
        main(["evaluate", "mnist", "cnn", "--table", "1a"])  # begins and ends while this step goes on
        return made

    monkeypatch.setattr(evaluation, step, beside_another)
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    assert {cell["setting"] for cell in records.read("mnist", "cnn")["cells"]} == {
        "clean",
        "black-box",
        "white-box",
    }


def held(lock: Path) -> bool:
    """Return whether someone holds a lock."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_nobody_else_writes_between_reading_a_record_and_writing_it(miniature, monkeypatch):
    found = {}

    def spied(name, real):
        def write(record, *where):
            found.setdefault((name, record["model"]), []).append(
                held(unit("mnist", record["model"]).folder / "lock")
            )
            return real(record, *where)

        return write

    monkeypatch.setattr(records, "write", spied("record", records.write))
    monkeypatch.setattr(adaptive, "write", spied("ladder", adaptive.write))
    monkeypatch.setattr(adaptive, "ladder", lambda spec: (Rung("noise", "control", "noise"),))
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    for images in ("8", "16"):  # more of them grow apart first
        main(["adapt", "mnist", "cnn", "--images", images])
    assert {name for name, _ in found} == {"record", "ladder"} and len(found["ladder", "cnn"]) > 2
    assert all(all(seen) for seen in found.values())


def test_evaluations_that_start_together_make_black_box_images_once(miniature, monkeypatch):
    main(["train", "mnist", "source-a"])
    alone, made = evaluation.adversarial, []

    def slow(model, images, attack, **options):
        made.append(attack)
        time.sleep(0.1)  # both have begun before the first ends
        return alone(model, images, attack, **options)

    monkeypatch.setattr(evaluation, "adversarial", slow)
    (images, _), attack = data.load("mnist", "test"), Attack("black-box", "fgsm", 0.1, "cnn-a")
    with ThreadPoolExecutor(2) as both:
        jobs = [
            both.submit(crafting.make, unit("mnist", name), None, images, attack, False)
            for name in ("cnn", "q-base")
        ]
    assert made == [attack] and sorted(kept for _, kept, _ in (job.result() for job in jobs)) == [False, True]


def test_a_network_trained_again_while_it_is_attacked_gets_no_cell(miniature, capsys, monkeypatch):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    alone = evaluation.adversarial

    def while_trained(model, images, attack, **options):
        records.write(records.read("mnist", "cnn") | {"weights_sha256": "0" * 64})
        return alone(model, images, attack, **options)

    monkeypatch.setattr(evaluation, "adversarial", while_trained)
    assert main(["evaluate", "mnist", "cnn", "--table", "2a"]) == 1
    assert "trained again while it was attacked" in capsys.readouterr().err
    assert records.read("mnist", "cnn")["cells"] == []


def test_a_first_look_at_few_images_gives_way_to_a_look_at_more(miniature, capsys, monkeypatch):
    few = data.load("mnist", "test")
    monkeypatch.setattr(data, "load", lambda dataset, split, limit=None: few.first(limit))
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    look = ["evaluate", "mnist", "cnn", "--table", "2a", "--images"]

    def counts() -> set[int]:
        return {cell["n"] for cell in records.read("mnist", "cnn")["cells"]}

    main([*look, "9"])
    assert counts() == {9}
    first = {records.attack_of(cell): records.unpack(cell) for cell in records.read("mnist", "cnn")["cells"]}
    lines(capsys)
    main([*look, "9"])
    assert lines(capsys) == []
    main([*look, str(IMAGES)])
    assert counts() == {IMAGES}
    cells = records.read("mnist", "cnn")["cells"]
    assert all((records.unpack(cell)[:9] == first[records.attack_of(cell)]).mean() > 0.5 for cell in cells)
    lines(capsys)
    main([*look, "9"])
    assert lines(capsys) == [] and counts() == {IMAGES}  # fewer never replace more
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    main([*look, "9", "--again"])
    assert lines(capsys) == [] and counts() == {IMAGES}  # not even where other code measured them


def test_a_look_at_few_images_drops_what_another_has_measured_on_more_meanwhile(miniature, monkeypatch):
    few = data.load("mnist", "test")
    monkeypatch.setattr(data, "load", lambda dataset, split, limit=None: few.first(limit))
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    alone = evaluation.adversarial

    def beside_another(*given, **options):
        monkeypatch.setattr(evaluation, "adversarial", alone)
        main(["evaluate", "mnist", "cnn", "--table", "2a"])
        return alone(*given, **options)

    monkeypatch.setattr(evaluation, "adversarial", beside_another)
    assert main(["evaluate", "mnist", "cnn", "--table", "2a", "--images", "9"]) == 0
    assert {cell["n"] for cell in records.read("mnist", "cnn")["cells"]} == {IMAGES}


def test_black_box_images_are_made_anew_when_the_code_has_changed(miniature, monkeypatch):
    for name in ("validation-a", "source-a", "cnn", "q-base"):
        main(["train", "mnist", name])
    monkeypatch.setattr(experiments, "CURVE", (0.2,))
    folder = miniature / "runs" / "mnist" / "black-box"
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    kept = {path.name for path in folder.iterdir()}
    main(["evaluate", "mnist", "q-base", "--table", "1a"])
    assert {path.name for path in folder.iterdir()} == kept
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    main(["evaluate", "mnist", "q-base", "--table", "1a", "--again"])
    made = {path.name for path in folder.iterdir()}
    assert kept < made and len(made) == 2 * len(kept)


@pytest.mark.parametrize(
    ("change", "again"),
    [({"threads": 64}, False), ({"processor": "another"}, True), ({"versions": {"torch": "9.9"}}, True)],
)
def test_black_box_images_are_those_of_this_machine_and_its_packages(miniature, monkeypatch, change, again):
    """Machines that share runs/ each make their own; how many threads one has changes none."""
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    monkeypatch.setattr(experiments, "CURVE", (0.2,))
    folder = miniature / "runs" / "mnist" / "black-box"
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    kept, real = {path.name for path in folder.iterdir()}, records.environment
    monkeypatch.setattr(records, "environment", lambda *where: real(*where) | change)
    main(["evaluate", "mnist", "cnn", "--table", "1a", "--again"])
    made = {path.name for path in folder.iterdir()}
    assert kept <= made and len(made) == (1 + again) * len(kept)


def test_black_box_cells_are_measured_anew_when_their_source_was_trained_again(
    miniature, monkeypatch, capsys
):
    for name in ("validation-a", "source-a", "source-b", "cnn"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    cells = {cell["source"]: cell.get("source_sha256") for cell in records.read("mnist", "cnn")["cells"]}
    assert cells == {None: None, "cnn-a": records.read("mnist", "source-a")["weights_sha256"]}
    assert (
        units.left_to_measure(records.read("mnist", "cnn"), unit("mnist", "cnn"), ("1a",), images=IMAGES)
        == []
    )
    records.write(records.read("mnist", "source-a") | {"weights_sha256": "0" * 64})
    left = units.left_to_measure(records.read("mnist", "cnn"), unit("mnist", "cnn"), ("1a",), images=IMAGES)
    assert {one.setting for one in left} == {"black-box"}


def test_commands_work_where_the_machine_is_fastest(miniature, monkeypatch):
    """Tensors on "meta" hold no numbers, so what computes with them is replaced by what looks where they are."""
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    places = []

    def look(model, *splits):
        places.extend(tensor.device.type for tensor in (next(model.parameters()), *splits))

    def trained(spec, model, train_set, validation, **settings):
        look(model, *train_set, *validation["clean"])
        raise ValueError("seen")

    def scored(model, images, labels, attack, clean):
        look(model, images, labels)
        raise ValueError("seen")

    monkeypatch.setattr(machine, "device", lambda: torch.device("meta"))
    monkeypatch.setattr(training, "train", trained)
    monkeypatch.setattr(evaluation, "cells", scored)
    assert main(["train", "mnist", "source-a"]) == main(["evaluate", "mnist", "cnn"]) == 1
    assert places == ["meta"] * 8


def test_training_a_finished_run_again_keeps_what_was_measured(miniature, capsys):
    for name in ("validation-a", "q-base"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "q-base", "--table", "2a"])
    record = records.read("mnist", "q-base")
    assert record["cells"]
    assert main(["train", "mnist", "q-base"]) == 0
    assert records.read("mnist", "q-base") == record


def test_in_a_clone_what_was_measured_is_not_trained_away(miniature, capsys, monkeypatch):
    for name in ("validation-a", "q-base"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "q-base", "--table", "2a"])
    record, folder = records.read("mnist", "q-base"), unit("mnist", "q-base").folder
    (folder / "checkpoint.pt").unlink()  # as in a clone, where nothing lies under runs/
    real, trained = training.train, []
    monkeypatch.setattr(training, "train", lambda *a, **k: trained.append(a) or real(*a, **k))
    assert main(["train", "mnist", "q-base"]) == 0 and not trained
    (folder / "weights.safetensors").unlink()
    for more in ([], ["--until", "1"]):
        assert main(["train", "mnist", "q-base", *more]) == 1 and not trained
    says = capsys.readouterr().err
    assert f"recorded with 1 epoch and {len(record['cells'])} measured cells" in says
    assert "train mnist q-base --seed 0 --again" in says
    assert records.read("mnist", "q-base") == record
    assert main(["train", "mnist", "q-base", "--again"]) == 0 and trained
    assert records.read("mnist", "q-base") == record  # the same weights, so what was measured is of them


def test_what_was_measured_does_not_give_way_to_a_training_that_was_begun_anew(
    miniature, capsys, monkeypatch
):
    """Begun with --again and interrupted, it leaves a checkpoint; without --again that is none to go on from."""
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], epochs=3))
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    record, one = records.read("mnist", "cnn"), unit("mnist", "cnn")
    weights = one.weights.read_bytes()
    for name in ("checkpoint.pt", "weights.safetensors"):
        (one.folder / name).unlink()  # as in a clone
    monkeypatch.setattr(fitting, "seed_of", lambda name, seed: 7)  # as another machine, other weights
    with monkeypatch.context() as broken:
        broken.setattr(printing, "epoch", lambda row: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["train", "mnist", "cnn", "--again"]) == 130
    assert (one.folder / "checkpoint.pt").exists()
    capsys.readouterr()
    assert main(["train", "mnist", "cnn"]) == 1 and "--again" in capsys.readouterr().err
    assert records.read("mnist", "cnn") == record
    one.released.parent.mkdir(parents=True)
    one.released.write_bytes(weights)  # as what chapters load
    assert main(["train", "mnist", "cnn"]) == 0 and "Done before" in capsys.readouterr().err
    assert main(["release", "mnist", "cnn"]) == 1 and "nothing to release" in capsys.readouterr().err
    assert records.read("mnist", "cnn") == record
    assert main(["train", "mnist", "cnn", "--again"]) == 0 and len(lines(capsys)) == 2, "it goes on"
    assert records.read("mnist", "cnn")["weights_sha256"] != record["weights_sha256"]


def test_a_ladder_leaves_out_a_rung_whose_network_is_of_another_training(miniature, capsys, monkeypatch):
    monkeypatch.setattr(adaptive, "ladder", lambda spec: (*SIBLING, Rung("noise", "control", "noise")))
    main(["train", "mnist", "validation-a"])
    for seed in ("0", "1"):
        main(["train", "mnist", "cnn", "--seed", seed])
    other = unit("mnist", "cnn", 1)
    records.write(records.read_unit(other) | {"weights_sha256": "0" * 64})  # restored from the repository
    lines(capsys)
    assert main(["adapt", "mnist", "cnn"]) == 0
    said = lines(capsys)
    assert any("is not the file that the recorded results" in line for line in said)
    assert [line.split()[0] for line in said].count("noise") == len(adaptive.epsilons("mnist"))


def test_a_recorded_variant_is_not_trained_away(miniature, capsys, monkeypatch):
    """Its history is a result, though nothing is measured of it but validation scores."""
    main(["train", "mnist", "validation-a"])
    command, one = ["vary", "mnist", "q-base", "losses-x-10"], variants.unit("mnist", "q-base", "losses-x-10")
    main(command)
    record = records.read_unit(one)
    for name in ("checkpoint.pt", "weights.safetensors"):
        (one.folder / name).unlink()  # as in a clone, where nothing lies under runs/
    assert main([*command, "--until", "1"]) == 1
    assert "is recorded with 1 epoch and 0 measured cells" in capsys.readouterr().err
    assert records.read_unit(one) == record
    monkeypatch.setattr(fitting, "seed_of", lambda name, seed: 7)  # as another machine, other weights
    assert main([*command, "--again"]) == 0 and records.read_unit(one) != record
    (kept,) = (one.folder / "replaced").glob("*.json")
    assert records.read_file(kept) == record


def test_where_weights_are_gone_it_says_what_another_training_replaces(miniature, capsys):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    one = unit("mnist", "cnn")
    (one.folder / "weights.safetensors").unlink()
    assert main(["evaluate", "mnist", "cnn"]) == 1
    assert "replace" not in capsys.readouterr().err, "nothing is measured"
    cells = [{"n": 1}, {"n": 2}]
    records.write(records.read_unit(one) | {"cells": cells})
    adaptive.path_of(one).parent.mkdir()
    adaptive.path_of(one).write_text("{}")
    assert main(["evaluate", "mnist", "cnn"]) == 1
    says = capsys.readouterr().err
    assert "these replace its 2 measured cells (which are kept under runs/)" in says
    assert says.endswith(
        "python -m qlayer_core train mnist cnn --seed 0 --again"
        " && python -m qlayer_core evaluate mnist cnn --seed 0 && python -m qlayer_core adapt mnist cnn --seed 0\n"
    )


def test_a_record_that_cannot_be_read_is_refused_before_a_training(miniature, monkeypatch):
    one = unit("mnist", "source-a")
    records.write(records.new_record(one) | {"format": 1})
    monkeypatch.setattr(fitting, "fit", lambda *given, **options: pytest.fail("it trains"))
    for again in (False, True):
        with pytest.raises(ValueError, match=r"seed0\.json has format 1, this package reads"):
            units.train(one, again=again)


def test_what_another_training_replaces_is_set_aside_and_measured_again(miniature, monkeypatch):
    for name in ("validation-a", "source-a", "source-b", "cnn"):
        main(["train", "mnist", name])
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    before, one = records.read("mnist", "cnn"), unit("mnist", "cnn")
    for name in ("checkpoint.pt", "weights.safetensors"):
        (one.folder / name).unlink()
    monkeypatch.setattr(fitting, "seed_of", lambda name, seed: 7)  # as another machine, other weights
    asked = plan.Plan(only=("table:1a",))
    train, evaluate = (plan.Job(stage, "mnist", "cnn") for stage in ("train", "evaluate"))
    asked.run(train)
    assert records.read("mnist", "cnn")["weights_sha256"] != before["weights_sha256"]
    (kept,) = (one.folder / "replaced").glob("*.json")
    assert records.read_file(kept) == before
    asked.run(evaluate)
    after = records.read("mnist", "cnn")["cells"]
    assert {records.attack_of(cell) for cell in before["cells"]} < {records.attack_of(cell) for cell in after}


def test_a_trail_is_the_training_once_more_with_its_network_attacked_after_each_epoch(
    miniature, capsys, monkeypatch
):
    monkeypatch.setitem(
        experiments.RUNS, "q-base-adv", replace(experiments.RUNS["q-base-adv"], epochs=3, patience=3)
    )
    for name in ("validation-a", "q-base", "q-base-adv"):
        main(["train", "mnist", name])
    recorded, one = records.read("mnist", "q-base-adv"), unit("mnist", "q-base-adv")
    lines(capsys)
    assert main(["trail", "mnist", "q-base-adv", "--until", "1"]) == 0
    assert len(lines(capsys)) == 1 and not records.read_file(trails.path_of(one))["finished"]

    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # after the attack, before it is written
        trails.measure(one, images=IMAGES, report=stop)
    trail = trails.measure(one, images=IMAGES)
    assert trail == records.read_file(trails.path_of(one)) and trail["finished"]
    for row, epoch in zip(trail["rows"], recorded["history"], strict=True):
        assert (row["epoch"], row["score"], row["accuracy"]) == tuple(
            epoch[name] for name in ("epoch", "score", "accuracy")
        )
        assert {(cell["attack"], cell["eps"], cell["path"]) for cell in row["cells"]} == {
            (attack, eps, path)
            for attack in ("bim", "bim-clipped")
            for eps in (0.2, 0.3)
            for path in ("q", "e")
        }
    # The last epoch's own weights are attacked, not the best one's.
    last = torch.load(miniature / "runs/mnist/trails/q-base-adv/seed0/checkpoint.pt", weights_only=True)
    model = records.build(one.spec)
    model.load_state_dict(last["model"])
    attack = trails.attacks_on(one)[0]
    images, labels = data.load("mnist", "validation")
    made = evaluation.adversarial(model.eval(), images, attack)
    again = evaluation.cells(model, made, labels, attack)
    assert [cell["correct"] for cell in again] == [cell["correct"] for cell in trail["rows"][-1]["cells"][:2]]
    assert records.read("mnist", "q-base-adv") == recorded


def test_a_trail_reads_its_images_once(miniature, monkeypatch):
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], epochs=3))
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    real, made = training.validation_sets, []
    monkeypatch.setattr(training, "validation_sets", lambda *a, **k: made.append(a) or real(*a, **k))
    one = unit("mnist", "cnn")
    trail = trails.measure(one, images=IMAGES)
    assert len(trail["rows"]) == 3 and len(made) == 1
    assert trails.measure(one, images=IMAGES) == trail and len(made) == 1, "of a finished one nothing is made"
    trails.path_of(
        one
    ).unlink()  # the checkpoint is of the last epoch: the first ones come again, as they were
    again = trails.measure(one, images=IMAGES)
    assert again == trail and len(made) == 2


@pytest.mark.parametrize("name", ["one-hot", "randomised"])
def test_a_network_behind_a_quantizer_has_a_trail_of_what_its_attacker_sees(miniature, name):
    main(["train", "mnist", "validation-a"])
    (row,) = trails.measure(unit("mnist", name), images=IMAGES)["rows"]
    assert {(cell["attack"], cell["eps"], cell["n"]) for cell in row["cells"]} == {
        ("bim", eps, IMAGES) for eps in (0.2, 0.3)
    }
    assert {cell["unmoved"] for cell in row["cells"]} == {IMAGES}, "as it is, it has no slope"


@pytest.mark.parametrize("name", ["cnn-clean-selected", "q-k2-n16"])
def test_a_network_without_an_attack_of_a_trail_is_refused_at_once(miniature, capsys, name):
    assert main(["trail", "mnist", name]) == 1
    said = capsys.readouterr().err
    assert f"{name} on mnist has no trail: one is of BIM by an attacker who sees the network" in said
    assert "Give a network that has it, such as 'cnn-adv'" in said and not list(miniature.rglob("*"))


def test_a_trail_begins_anew_where_one_says_so(miniature, capsys, monkeypatch):
    for name in ("validation-a", "cnn", "cnn-adv"):
        main(["train", "mnist", name])
    one = unit("mnist", "cnn-adv")
    first = trails.measure(one, images=IMAGES)
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], learning_rate=0.01))
    (unit("mnist", "cnn").folder / "checkpoint.pt").unlink()
    main(["train", "mnist", "cnn"])  # a raw network of other weights
    lines(capsys)
    files.write_json(trails.path_of(one), first | {"finished": False})
    assert main(["trail", "mnist", "cnn-adv"]) == 1
    assert "from a training with another raw network than today's" in capsys.readouterr().err
    with monkeypatch.context() as broken:  # while the first of its new rows is attacked
        broken.setattr(trails, "_cells", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["trail", "mnist", "cnn-adv", "--again"]) == 130
    assert records.read_file(trails.path_of(one))["rows"] == [], "those of two trainings are never mixed"
    assert main(["trail", "mnist", "cnn-adv"]) == 0 and len(lines(capsys)) == 1
    second = records.read_file(trails.path_of(one))
    assert len(second["rows"]) == 1 and second["rows"][0]["score"] != first["rows"][0]["score"]
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    assert main(["trail", "mnist", "cnn-adv"]) == 1
    assert "or measure with again=True (--again)" in capsys.readouterr().err
    assert main(["trail", "mnist", "cnn-adv", "--again"]) == 0 and len(lines(capsys)) == 1
    third = records.read_file(trails.path_of(one))
    assert [here["code"]["training"] for here in third["environments"]] == ["0123456789ab"]
    slower = replace(experiments.RUNS["cnn-adv"], learning_rate=1e-5)
    monkeypatch.setitem(experiments.RUNS, "cnn-adv", slower)
    assert main(["trail", "mnist", "cnn-adv", "--again"]) == 0 and len(lines(capsys)) == 1
    assert records.read_file(trails.path_of(one))["spec"]["learning_rate"] == 1e-5


def test_a_trail_of_other_settings_or_code_is_not_continued(miniature, monkeypatch):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    one = unit("mnist", "cnn")
    trails.measure(one, images=IMAGES)
    few = data.load("mnist", "validation")
    monkeypatch.setattr(data, "load", lambda dataset, split, limit=None: few.first(limit))
    trail = records.read_file(trails.path_of(one))
    del trail["spec"]["dropout"]  # recorded before there was this setting, which has its default
    files.write_json(trails.path_of(one), trail)
    assert trails.measure(one, images=IMAGES) == trail
    with pytest.raises(ValueError, match="is of another n than today's: remove it to begin anew"):
        trails.measure(one, images=IMAGES - 1)
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    with pytest.raises(ValueError, match="is of another code than today's"):
        trails.measure(one, images=IMAGES)


@pytest.mark.parametrize("command", ["train", "trail"])
@pytest.mark.parametrize("epochs", ["0", "-1"])
def test_no_epoch_is_no_training(command, epochs, miniature, capsys):
    assert main([command, "mnist", "source-a", "--until", epochs]) == 1
    assert f"until is {epochs}; it must be a whole number, at least 1" in capsys.readouterr().err
    assert not any(miniature.rglob("*.json"))
    main(["train", "mnist", "source-a"])  # and none after it is finished
    assert main(["train", "mnist", "source-a", "--until", epochs]) == 1


def test_a_training_goes_on_from_the_raw_network_and_the_code_that_it_began_with_alone(
    miniature, capsys, monkeypatch
):
    for name in ("validation-a", "cnn", "cnn-adv"):
        main(["train", "mnist", name])
    first = records.read("mnist", "cnn-adv")
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], learning_rate=0.01))
    (unit("mnist", "cnn").folder / "checkpoint.pt").unlink()
    main(["train", "mnist", "cnn"])
    assert main(["train", "mnist", "cnn-adv"]) == 1
    assert "from a training with another raw network than today's" in capsys.readouterr().err
    assert records.read("mnist", "cnn-adv") == first
    assert main(["train", "mnist", "cnn-adv", "--again"]) == 0
    assert records.read("mnist", "cnn-adv")["weights_sha256"] != first["weights_sha256"]
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    assert main(["train", "mnist", "cnn-adv"]) == 1
    assert "from a training with other code than today's" in capsys.readouterr().err


def test_a_checkpoint_of_unknown_origin_is_not_continued(miniature, capsys):
    main(["train", "mnist", "validation-a"])
    folder = unit("mnist", "validation-a").folder
    (folder / "checkpoint.json").unlink()
    lines(capsys)
    assert main(["train", "mnist", "validation-a"]) == 1
    assert (
        "checkpoint.pt has no checkpoint.json beside it, which says with what code" in capsys.readouterr().err
    )
    assert not (folder / "checkpoint.json").exists(), "it must not be taken for today's"
    assert main(["train", "mnist", "validation-a", "--again"]) == 0 and len(lines(capsys)) == 1


def test_a_variant_begins_anew_where_one_says_so(miniature, capsys, monkeypatch):
    main(["train", "mnist", "validation-a"])
    command = ["vary", "mnist", "q-base", "losses-x-10"]
    main(command)
    monkeypatch.setattr(fingerprint, "of", lambda stage: "0123456789ab")
    assert main(command) == 1
    assert "from a training with other code than today's" in capsys.readouterr().err
    assert main([*command, "--again"]) == 0 and len(lines(capsys)) == 1


def test_a_damaged_checkpoint_is_said_in_one_line(miniature, capsys):
    main(["train", "mnist", "validation-a"])
    checkpoint = unit("mnist", "validation-a").folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-30])
    assert main(["train", "mnist", "validation-a"]) == 1
    assert "checkpoint.pt is damaged: delete it, to start this training afresh" in capsys.readouterr().err


def test_what_was_done_before_says_so(miniature, capsys):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    commands = (["train", "mnist", "cnn"], ["evaluate", "mnist", "cnn", "--table", "2a"])
    main(commands[1])
    capsys.readouterr()
    for command, what in zip(
        commands, ("no epoch is left to train", "nothing is left to measure"), strict=True
    ):
        assert main(command) == 0
        printed = capsys.readouterr()
        assert printed.err.startswith(f"Done before: {what} of cnn on mnist, seed 0") and printed.out == ""


def test_what_was_trained_so_far_is_said_where_no_more_is_asked_for(miniature, capsys, monkeypatch):
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], epochs=3))
    main(["train", "mnist", "validation-a"])
    for command in (
        ["train", "mnist", "cnn"],
        ["trail", "mnist", "cnn"],
        ["vary", "mnist", "cnn", "without-l2"],
    ):
        which = " ".join(command[2:]) + " on mnist, seed 0"
        main([*command, "--until", "2"])
        capsys.readouterr()
        assert main([*command, "--until", "1"]) == 0
        said = f"1 epoch or more are trained already of {which}, 2 in all; without --until it goes on"
        assert capsys.readouterr().err == f"Done before: {said}.\n"
        main(command)
        capsys.readouterr()
        main(command)
        assert capsys.readouterr().err == f"Done before: no epoch is left to train of {which}.\n"


def test_a_ladder_on_more_images_is_no_ladder_that_was_climbed(capsys, monkeypatch):
    monkeypatch.setattr(adaptive, "run", lambda one, images, **_: {"n": 1000})
    assert main(["adapt", "mnist", "cnn", "--images", "100"]) == 0
    said = "1,000 images are recorded of cnn on mnist, seed 0, and fewer never replace them; --images 1000 climbs"
    assert said in capsys.readouterr().err
    assert main(["adapt", "mnist", "cnn"]) == 0
    assert "no rung is left to climb for cnn on mnist, seed 0" in capsys.readouterr().err


def test_likelihoods_of_a_clone_are_done_before(folders, capsys, monkeypatch):
    """Its weights are the released ones: there are none under runs/ to release."""
    record = {"history": [{"epoch": 1}], "finished": True}
    for step in ("train", "measure"):
        monkeypatch.setattr(likelihoods, step, lambda one, **_: record)
    one = likelihoods.Unit("mnist", "q-base")
    one.released.parent.mkdir(parents=True)
    one.released.write_bytes(b"weights")
    assert main(["likelihoods", "mnist", "q-base"]) == 0
    said = "no set of images is left to score, and no epoch is left to train of q-base on mnist, seed 0"
    assert capsys.readouterr().err == f"Done before: {said}.\n"
    (one.folder).mkdir(parents=True)
    (one.folder / "weights.safetensors").write_bytes(b"of a run")
    assert main(["likelihoods", "mnist", "q-base"]) == 0 and one.released.read_bytes() == b"of a run"


def test_an_interrupted_command_says_that_it_goes_on(miniature, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(units, "train", interrupted)
    assert main(["train", "mnist", "cnn"]) == 130
    said = "Interrupted: the same command goes on from the last finished epoch or attack.\n"
    assert capsys.readouterr().err == said


def test_only_what_was_trained_to_the_end_is_released(miniature, capsys, monkeypatch):
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(experiments.RUNS["cnn"], epochs=2))
    main(["train", "mnist", "validation-a"])
    main(["train", "mnist", "cnn", "--until", "1"])
    assert main(["release", "mnist", "cnn"]) == 1
    assert "not the outcome of the finished training" in capsys.readouterr().err
    assert not unit("mnist", "cnn").released.exists()
    main(["train", "mnist", "cnn"])
    assert main(["release", "mnist", "cnn"]) == 0 and unit("mnist", "cnn").released.exists()


def test_images_that_were_kept_tell_no_time_of_their_attack(miniature, monkeypatch):
    monkeypatch.setattr(experiments, "CURVE", (0.2,))
    for name in ("validation-a", "source-a", "cnn", "q-base"):
        main(["train", "mnist", name])
    for name in ("cnn", "q-base"):
        main(["evaluate", "mnist", name, "--table", "1a"])
    made, kept = (
        {what for what in records.read("mnist", name)["seconds"] if what.startswith("black-box")}
        for name in ("cnn", "q-base")
    )
    assert made and not kept


def test_a_trial_on_few_images_is_a_variant_and_replaces_no_result(miniature):
    one = unit("mnist", "validation-a")
    with pytest.raises(ValueError, match=r"limit is 8, but validation-a is no variant: .* variant='trial'"):
        units.train(one, limit=8)
    units.train(replace(one, variant="trial"), limit=8)
    assert replace(one, variant="trial").record.exists()
    assert not records.RESULTS.exists()  # whose every variant must be one of the study
    with pytest.raises(ValueError, match="from a training with another number of images than today's"):
        units.train(replace(one, variant="trial"), limit=16)
    assert not list(one.folder.glob("*"))


def test_training_longer_without_a_gain_keeps_what_was_measured(miniature, monkeypatch):
    main(["train", "mnist", "validation-a"])
    still = replace(experiments.RUNS["cnn"], learning_rate=0.0)  # so the second epoch is no better
    monkeypatch.setitem(experiments.RUNS, "cnn", still)
    main(["train", "mnist", "cnn"])
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    short = records.read("mnist", "cnn")
    (miniature / "runs" / "mnist" / "cnn" / "seed0" / "checkpoint.pt").unlink()
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(still, epochs=2))
    assert main(["train", "mnist", "cnn"]) == 0
    long = records.read("mnist", "cnn")
    assert [len(record["history"]) for record in (short, long)] == [1, 2]
    assert long["spec"]["epochs"] == 2
    assert long["cells"] and long["seconds"].keys() == short["seconds"].keys()
    for part in ("weights_sha256", "chosen", "cells", "environments", "trained_in"):
        assert long[part] == short[part]


def test_adversarial_training_starts_from_the_raw_trained_weights(miniature, monkeypatch):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    monkeypatch.setitem(experiments.RUNS, "cnn-adv", replace(experiments.RUNS["cnn-adv"], learning_rate=0.0))
    main(["train", "mnist", "cnn-adv"])
    start, judge = (records.read("mnist", name)["weights_sha256"] for name in ("cnn", "validation-a"))
    found = [records.read("mnist", name) for name in ("validation-a", "cnn", "cnn-adv")]
    rests_on = [(record["start_sha256"], record["judge_sha256"]) for record in found]
    assert rests_on == [(None, None), (None, judge), (start, judge)]
    raw, adversarial = (records.load("mnist", name)[0].state_dict() for name in ("cnn", "cnn-adv"))
    assert all(torch.equal(raw[key], adversarial[key]) for key in raw)


def test_a_variant_starts_from_the_weights_of_its_raw_variant(miniature, capsys, monkeypatch):
    main(["train", "mnist", "validation-a"])
    lines(capsys)
    raw, adversarial = "none-pull-dropout-off", "none-pull-reinitialize-dropout-off"
    assert main(["vary", "mnist", "q-base-adv", adversarial]) == 1  # its start is not there
    assert f"vary mnist q-base '{raw}' --seed 0" in capsys.readouterr().err
    assert main(["vary", "mnist", "q-base", raw]) == 0
    monkeypatch.setitem(
        experiments.RUNS, "q-base-adv", replace(experiments.RUNS["q-base-adv"], learning_rate=0.0)
    )
    assert main(["vary", "mnist", "q-base-adv", adversarial]) == 0
    first = variants.unit("mnist", "q-base", raw)
    second = variants.unit("mnist", "q-base-adv", adversarial)
    record = records.read_unit(second)
    assert (record["spec"]["commitment"], record["spec"]["inactive"]) == ("none", "reinitialize")
    start, end = (records.load_unit(one)[0].state_dict() for one in (first, second))
    moved = {key for key in start if not torch.equal(start[key], end[key])}
    assert moved <= {"layer.codebook"}  # by the re-initialisation alone
    assert main(["vary", "mnist", "q-base", "no-such-thing"]) == 1
    assert "variant is 'no-such-thing'; choose one of" in capsys.readouterr().err


def test_runs_lists_every_model_of_both_data_sets(folders, capsys):
    assert main(["runs"]) == 0
    listed = [tuple(line.split()) for line in lines(capsys)]
    assert listed == [(dataset, name, "-") for dataset in datasets.DATASETS for name in experiments.RUNS]


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "qlayer_core", "runs"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0 and done.stderr == ""
    *runs, legend = done.stdout.splitlines()
    assert len(runs) == 2 * len(experiments.RUNS) and legend.startswith("* its weights are here")
    assert ["mnist", "cnn", "seed0*,"] in [line.split()[:3] for line in runs]


# ---- errors ----

ONE_LINE = {
    "not trained": (["evaluate", "mnist", "cnn"], "python -m qlayer_core train mnist cnn --seed 0"),
    "no validation source": (
        ["train", "mnist", "q-base"],
        "python -m qlayer_core train mnist validation-a --seed 0",
    ),
    "no raw-trained weights": (
        ["train", "mnist", "cnn-adv"],
        "python -m qlayer_core train mnist cnn --seed 0",
    ),
    "a table of other networks": (
        ["evaluate", "mnist", "q-inner", "--table", "1a"],
        "Table 1a shows no q-inner on mnist; it shows mnist cnn, mnist cnn-adv, mnist q-base",
    ),
    "a table of the other data set": (
        ["evaluate", "mnist", "cnn", "--table", "1b"],
        "no cnn on mnist; it shows",
    ),
    "an attacker's network": (["adapt", "mnist", "source-a"], "source-a makes the attackers' images"),
    "a check of another kind": (
        ["evaluate", "mnist", "cnn", "--check", "5", "--images", "3", "--again"],
        "--check 5 is given with --images 3 and --again, but it attacks the first 5 images anew",
    ),
    "nothing to release": (["release", "mnist", "cnn"], "is missing: train the model first"),
    "a seed that is not released": (
        ["release", "mnist", "cnn", "--seed", "1"],
        "only seed 0 of a model of the grid",
    ),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_the_user_can_mend_is_said_in_one_line(case, folders, capsys):
    arguments, remedy = ONE_LINE[case]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert remedy in printed.err and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("content", ['{"weights_sha2', "{}", "[]", "\xff"])
def test_a_damaged_record_is_named_by_the_list_of_runs(folders, capsys, content):
    path = unit("mnist", "cnn").record
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin-1")
    assert main(["runs"]) == 1
    said = capsys.readouterr().err
    assert f"{path} is damaged" in said and "restore it from the repository" in said


def test_a_record_of_another_version_is_said_in_one_line(folders, capsys):
    records.write(records.new_record(unit("mnist", "cnn")) | {"format": 99})
    assert main(["table", "1a"]) == 1
    printed = capsys.readouterr().err
    assert "has format 99" in printed and printed.count("\n") == 1


def test_who_has_read_enough_is_told_of_no_error():
    command = [sys.executable, "-m", "qlayer_core", "runs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == "" and process.wait() == 141


def test_without_the_repository_it_says_where_it_works(tmp_path):
    """As where the package is installed by itself."""
    shutil.copytree(files.ROOT / "qlayer_core", tmp_path / "qlayer_core")
    command = [sys.executable, "-m", "qlayer_core", "runs"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr
        == f"There is no {tmp_path / 'data'}: the command line works in a clone of the repository alone.\n"
    )


@pytest.mark.parametrize(
    "arguments, unknown",
    [
        (["evaluate", "mnist", "cnn", "--images", "-3"], "--images: -3 is given; it must be at least 1"),
        (["evaluate", "mnist", "cnn", "--check", "0"], "--check: 0 is given; it must be at least 1"),
        (
            ["likelihoods", "mnist", "pixels", "--images", "-1"],
            "--images: -1 is given; it must be at least 0",
        ),
        (["train", "mnist", "q-huge"], "q-huge"),
        (["evaluate", "cifar", "cnn"], "cifar"),
        (["table", "12"], "12"),
        (["fly"], "fly"),
        (["train", "mnist", "cnn", "--seed", "one"], "one"),
        (["table", "1a", "--seed", "every"], "'every' is given; it must be a whole number, or all"),
    ],
)
def test_unknown_names_end_with_status_2_and_the_choices(arguments, unknown, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert unknown in message
    assert any(says in message for says in ("choose from", "invalid int value", "it must be"))


def test_the_help_of_a_command_says_what_it_does_and_what_each_of_its_options_is():
    parser = _parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert len(commands.choices) > 8
    for name, one in commands.choices.items():
        assert one.description, name
        without = [action.dest for action in one._actions if not action.help]
        assert not without, f"{name} says nothing of {without}"
        one.format_help()
