"""The commands: the whole job in miniature, and errors that fit in one line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_cnn, small_q_net

from qlayer_core import __main__ as command_line
from qlayer_core import data, evaluation, experiments, machine, models, paper, results, training
from qlayer_core.__main__ import main

IMAGES = 24


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results, weights and runs in an empty folder."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        for module in (results, command_line):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    return tmp_path


@pytest.fixture
def miniature(folders: Path, monkeypatch: pytest.MonkeyPatch, digits: data.Split) -> Path:
    """Few images, small networks and one epoch in the place of the paper's."""
    few = data.Split(*(part[:IMAGES] for part in digits))
    monkeypatch.setattr(data, "load", lambda dataset, split: few)
    monkeypatch.setattr(models, "cnn", lambda architecture: small_cnn())
    monkeypatch.setattr(models, "q_net", lambda **options: small_q_net())
    for name, spec in experiments.RUNS.items():
        monkeypatch.setitem(experiments.RUNS, name, replace(spec, epochs=1, checks=1, batch_size=8))
    return folders


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_train_evaluate_release_and_table(miniature, capsys):
    for name in ("validation-a", "source-a", "q-base", "q-base-adv"):
        assert main(["train", "mnist", name]) == 0
        assert lines(capsys)[-1].startswith("epoch 1 ")
        assert (
            results.weights_path("mnist", name)
            == miniature / "runs" / "mnist" / name / "seed0" / "weights.safetensors"
        )

    assert main(["evaluate", "mnist", "q-base", "--table", "1a", "--table", "2a"]) == 0
    printed = lines(capsys)
    shown = [cell for n in ("1a", "2a") for cell in paper.TABLES[n].cells if cell.row == "q-base"]
    measured = {(cell.setting, cell.attack, cell.eps) for cell in shown}
    assert len(printed) == len(measured) + 2  # and two of C&W on probabilities
    assert printed[0].startswith("clean none 0 q ") and "black-box fgsm 0.2 cnn-a" in "".join(printed)

    record = results.read("mnist", "q-base")
    assert all(cell["n"] == IMAGES and cell["path"] in ("q", "e") for cell in record["cells"])
    assert (
        len(record["cells"]) == 2 * len(printed) == 2 * (len(record["seconds"]) - 1)
    )  # the training's as well
    assert all(results.recorded_cell(cell) for cell in shown)

    assert main(["evaluate", "mnist", "q-base", "--table", "1a", "--table", "2a"]) == 0
    assert lines(capsys) == [] and results.read("mnist", "q-base") == record  # nothing is measured twice

    assert main(["release", "mnist", "q-base"]) == 0
    assert results.weights_path("mnist", "q-base") == miniature / "weights" / "mnist" / "q-base.safetensors"
    assert results.load("mnist", "q-base")[1] == record

    assert main(["table", "1a"]) == 0
    printed = "\n".join(lines(capsys))
    clean = results.recorded_cell(paper.TABLES["1a"].cell("q-base", "clean"))["accuracy"]
    for text in ("paper: Accuracy", "ours: Accuracy", "difference: Accuracy", "52.69", str(clean)):
        assert text in printed

    assert main(["runs"]) == 0
    recorded = [line.split() for line in lines(capsys) if line.endswith("seed0")]
    assert recorded == [
        ["mnist", name, "seed0"] for name in ("validation-a", "source-a", "q-base", "q-base-adv")
    ]


def test_what_another_machine_measured_can_be_measured_again(miniature, capsys, monkeypatch):
    for name in ("validation-a", "source-a", "cnn"):
        main(["train", "mnist", name])
    command = ["evaluate", "mnist", "cnn", "--table", "2a"]
    main(command)
    first = results.read("mnist", "cnn")
    (here,) = first["environments"]
    assert here["number_format"] == "float32" and {cell["environment"] for cell in first["cells"]} == {0}
    lines(capsys)

    elsewhere = here | {"number_format": "bfloat16", "versions": here["versions"] | {"torch": "1.0"}}
    monkeypatch.setattr(results, "environment", lambda device: elsewhere)
    main(command)
    assert lines(capsys) == []
    main([*command, "--again"])
    assert len(lines(capsys)) == len(first["cells"])
    record = results.read("mnist", "cnn")
    assert record["environments"] == [here, elsewhere]
    assert [cell["environment"] for cell in record["cells"]] == [1] * len(first["cells"])
    main([*command, "--again"])
    assert lines(capsys) == []  # it continues where it was stopped


def test_black_box_images_are_made_anew_when_the_code_has_changed(miniature, monkeypatch):
    for name in ("validation-a", "source-a", "cnn", "q-base"):
        main(["train", "mnist", name])
    monkeypatch.setattr(experiments, "CURVE", (0.2,))
    folder = miniature / "runs" / "mnist" / "black-box"
    main(["evaluate", "mnist", "cnn", "--table", "1a"])
    kept = {path.name for path in folder.iterdir()}
    main(["evaluate", "mnist", "q-base", "--table", "1a"])
    assert {path.name for path in folder.iterdir()} == kept
    here = results.environment()
    changed = here | {"code": here["code"] | {"attacks": "0123456789ab"}}
    monkeypatch.setattr(results, "environment", lambda device: changed)
    main(["evaluate", "mnist", "q-base", "--table", "1a", "--again"])
    made = {path.name for path in folder.iterdir()}
    assert kept < made and len(made) == 2 * len(kept)


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

    def scored(model, images, labels, attack):
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
    record = results.read("mnist", "q-base")
    assert record["cells"]
    assert main(["train", "mnist", "q-base"]) == 0
    assert results.read("mnist", "q-base") == record


def test_training_longer_without_a_gain_keeps_what_was_measured(miniature, monkeypatch):
    main(["train", "mnist", "validation-a"])
    still = replace(experiments.RUNS["cnn"], learning_rate=0.0)  # so the second epoch is no better
    monkeypatch.setitem(experiments.RUNS, "cnn", still)
    main(["train", "mnist", "cnn"])
    main(["evaluate", "mnist", "cnn", "--table", "2a"])
    short = results.read("mnist", "cnn")
    (miniature / "runs" / "mnist" / "cnn" / "seed0" / "checkpoint.pt").unlink()
    monkeypatch.setitem(experiments.RUNS, "cnn", replace(still, epochs=2))
    assert main(["train", "mnist", "cnn"]) == 0
    long = results.read("mnist", "cnn")
    assert [len(record["history"]) for record in (short, long)] == [1, 2]
    assert long["spec"]["epochs"] == 2
    assert long["cells"] and long["seconds"].keys() == short["seconds"].keys()
    for part in ("weights_sha256", "chosen", "cells", "environments"):
        assert long[part] == short[part]


def test_adversarial_training_starts_from_the_raw_trained_weights(miniature, monkeypatch):
    for name in ("validation-a", "cnn"):
        main(["train", "mnist", name])
    monkeypatch.setitem(experiments.RUNS, "cnn-adv", replace(experiments.RUNS["cnn-adv"], learning_rate=0.0))
    main(["train", "mnist", "cnn-adv"])
    raw, adversarial = (results.load("mnist", name)[0].state_dict() for name in ("cnn", "cnn-adv"))
    assert all(torch.equal(raw[key], adversarial[key]) for key in raw)


def test_runs_lists_every_model_of_both_data_sets(folders, capsys):
    assert main(["runs"]) == 0
    listed = [tuple(line.split()) for line in lines(capsys)]
    assert listed == [(dataset, name, "-") for dataset in data.DATASETS for name in experiments.RUNS]


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "qlayer_core", "runs"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 2 * len(experiments.RUNS)


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
    "nothing to release": (["release", "mnist", "cnn"], "is missing: train the model first"),
    "a seed that is not released": (["release", "mnist", "cnn", "--seed", "1"], "only seed 0 is released"),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_the_user_can_mend_is_said_in_one_line(case, folders, capsys):
    arguments, remedy = ONE_LINE[case]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert remedy in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_record_of_another_version_is_said_in_one_line(folders, capsys):
    results.write(results.new_record("mnist", experiments.run("cnn"), 0) | {"format": 99})
    assert main(["table", "1a"]) == 1
    printed = capsys.readouterr().err
    assert "has format 99" in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, unknown",
    [
        (["train", "mnist", "q-huge"], "q-huge"),
        (["evaluate", "cifar", "cnn"], "cifar"),
        (["table", "12"], "12"),
        (["fly"], "fly"),
        (["train", "mnist", "cnn", "--seed", "one"], "one"),
    ],
)
def test_unknown_names_end_with_status_2_and_the_choices(arguments, unknown, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert unknown in message and ("choose from" in message or "invalid int value" in message)
