"""Recorded results and released weights: what is written is what is read, and nothing else is accepted."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import small_cnn, small_q_net
from safetensors.torch import load_file, save_file

from qlayer_core import evaluation, experiments, models, paper, results


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results, weights and runs in an empty folder, and small networks in the place of the paper's."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        monkeypatch.setattr(results, name, tmp_path / name.lower())
    monkeypatch.setattr(models, "cnn", lambda architecture: small_cnn())
    monkeypatch.setattr(models, "q_net", lambda **options: small_q_net())
    return tmp_path


def record_of(name: str, seed: int = 0, **fields) -> dict:
    """Write the record of a run and return it."""
    record = results.new_record("mnist", experiments.run(name), seed) | fields
    results.write(record)
    return record


def trained(name: str, seed: int = 0) -> tuple[torch.nn.Module, Path]:
    """A network as a run leaves it: its weights and their record written."""
    model = models.build(name, seed=7).eval()
    path = results.run_folder("mnist", name, seed) / "weights.safetensors"
    results.save_weights(model, path)
    record_of(name, seed, weights_sha256=results.sha256(path))
    return model, path


def cell_of(cell: paper.Cell, correct: int, n: int = 10_000) -> dict:
    """Our recorded cell for one of the paper's."""
    return {field: getattr(cell, field) for field in paper.KEY} | {
        "n": n,
        "correct": correct,
        "accuracy": round(100 * correct / n, 2),
    }


# ---- records ----


def test_a_record_is_read_as_it_was_written():
    cells = [{"setting": "clean", "accuracy": 98.73, "path": None}]
    history = [{"epoch": 0.3333, "accuracy": {"q": {"clean": 97.0}}, "inactive": [3, 1]}]
    record = record_of("q-large", 2, cells=cells, history=history)
    assert results.read("mnist", "q-large", 2) == record
    assert results.record_path("mnist", "q-large", 2) == results.RESULTS / "mnist" / "q-large" / "seed2.json"


def test_a_record_says_what_was_run_with_which_code_and_where():
    record = record_of("q-base-adv", 1)
    assert (record["dataset"], record["model"], record["seed"]) == ("mnist", "q-base-adv", 1)
    assert record["spec"] == asdict(experiments.run("q-base-adv"))
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert record["number_format"] == "float32" and record["threads"] == 1
    for module in ("layer", "training", "attacks"):
        source = Path(results.__file__).with_name(f"{module}.py")
        assert record["code"][module] == results.sha256(source)[:12]


def test_a_missing_record_names_the_commands_that_make_it():
    with pytest.raises(FileNotFoundError) as caught:
        results.read("mnist", "q-base", 3)
    for command in ("train", "evaluate"):
        assert f"python -m qlayer_core {command} mnist q-base --seed 3" in str(caught.value)


@pytest.mark.parametrize("found", [results.FORMAT + 1, None])
def test_another_format_version_is_refused(found):
    record = record_of("cnn")
    path = results.record_path("mnist", "cnn")
    path.write_text(
        json.dumps({key: value for key, value in record.items() if key != "format"} | {"format": found})
    )
    with pytest.raises(
        ValueError, match=rf"seed0.json has format {found}, this package reads {results.FORMAT}: use"
    ):
        results.read("mnist", "cnn")


def test_a_file_cut_short_is_refused():
    record_of("cnn")
    path = results.record_path("mnist", "cnn")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"seed0.json is not JSON .*: restore it from the repository"):
        results.read("mnist", "cnn")


@pytest.mark.parametrize("locate", [results.record_path, results.run_folder, results.weights_path])
def test_unknown_names_are_refused(locate):
    with pytest.raises(ValueError, match="unknown data set 'cifar'; choose one of mnist, fashion-mnist"):
        locate("cifar", "cnn")
    with pytest.raises(ValueError, match="unknown model 'q-huge'; choose one of"):
        locate("mnist", "q-huge")


# ---- weights ----


@pytest.mark.parametrize("name", ["cnn", "q-base"])
def test_saved_weights_give_the_same_answers(name, digits):
    model, path = trained(name)
    loaded, record = results.load("mnist", name)
    assert record == results.read("mnist", name) and not loaded.training
    halved = {key for key, tensor in load_file(path).items() if tensor.dtype == torch.float16}
    assert halved == {key for key, tensor in model.state_dict().items() if tensor.numel() > 10_000}
    assert bool(halved) == (name == "q-base")  # the other has no tensor that is large enough
    for key, tensor in loaded.state_dict().items():
        wanted = model.state_dict()[key]
        expected = wanted.half().float() if key in halved else wanted
        assert torch.equal(tensor, expected) and tensor.dtype == wanted.dtype
    x = digits.images[:50]
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0.01)


def test_a_large_codebook_keeps_its_precision(tmp_path):
    model = models.QLayer(64, codebook_size=128, heads=4)
    results.save_weights(model, tmp_path / "file")
    assert load_file(tmp_path / "file")["codebook"].dtype == torch.float32


def test_the_same_weights_make_the_same_file(tmp_path):
    model = small_q_net()
    for name in ("a", "b"):
        results.save_weights(model, tmp_path / name)
    assert results.sha256(tmp_path / "a") == results.sha256(tmp_path / "b")


def test_released_weights_go_first_for_seed_0_only():
    _, kept = trained("cnn")
    assert results.weights_path("mnist", "cnn") == kept
    released = results.WEIGHTS / "mnist" / "cnn.safetensors"
    released.parent.mkdir(parents=True)
    released.write_bytes(kept.read_bytes())
    assert results.weights_path("mnist", "cnn") == released
    assert (
        results.weights_path("mnist", "cnn", 1)
        == results.run_folder("mnist", "cnn", 1) / "weights.safetensors"
    )
    kept.unlink()
    results.load("mnist", "cnn")


def test_a_run_that_was_trained_again_is_used_before_it_is_released():
    _, kept = trained("cnn")
    released = results.WEIGHTS / "mnist" / "cnn.safetensors"
    released.parent.mkdir(parents=True)
    released.write_bytes(kept.read_bytes())
    model = small_cnn()
    results.save_weights(model, kept)
    record_of("cnn", weights_sha256=results.sha256(kept))
    assert results.weights_path("mnist", "cnn") == kept
    assert torch.equal(results.load("mnist", "cnn")[0][0].bias, model[0].bias)


MISFITS: dict[str, tuple[Callable[[dict], dict], str]] = {
    "a tensor less": (lambda w: {key: w[key] for key in w if key != "0.weight"}, "0.weight"),
    "a tensor more": (lambda w: w | {"9.weight": torch.ones(1)}, "9.weight"),
    "another shape": (lambda w: w | {"0.bias": torch.ones(3)}, "0.bias"),
    "another network": (lambda w: {f"tail.{key}": w[key] for key in w}, "0.bias, 0.weight"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit_are_refused(case, tmp_path):
    change, named = MISFITS[case]
    path = tmp_path / "other.safetensors"
    save_file(change(small_cnn().state_dict()), path)
    model = small_cnn()
    before = model[0].weight.clone()
    with pytest.raises(
        ValueError, match=rf"other.safetensors don't fit.* {named}.*Build the network with the name"
    ):
        results.load_weights(model, path)
    assert torch.equal(model[0].weight, before)


def test_other_weights_than_those_that_were_measured_are_refused():
    model, path = trained("cnn")
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    results.save_weights(model, path)
    with pytest.raises(ValueError, match="is not the file that the recorded results were measured with"):
        results.load("mnist", "cnn")


def test_missing_weights_name_the_command_that_makes_them():
    _, path = trained("cnn", 1)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"weights of cnn .*python -m qlayer_core train mnist cnn --seed 1"
    ):
        results.load("mnist", "cnn", 1)


# ---- tables ----


def test_a_table_puts_recorded_cells_beside_the_papers():
    table = paper.TABLES["1a"]
    q_base = [cell for cell in table.cells if cell.row == "q-base"]
    ours = [cell_of(cell, 9000 - 100 * i) for i, cell in enumerate(q_base)]
    elsewhere = cell_of(q_base[1], 1) | {"source": "cnn-b"}  # another table's
    on_e_path = cell_of(q_base[1], 2) | {"path": "e"}
    record_of("q-base", cells=[elsewhere, on_e_path, *reversed(ours)])

    frame = results.table("1a")
    assert list(frame.columns) == ["row", "column", "paper", "ours", "difference", "low", "high"]
    assert list(zip(frame.row, frame.column, frame.paper, strict=True)) == [
        (cell.row, cell.column, cell.accuracy) for cell in table.cells
    ]
    recorded = frame[frame.row == "q-base"]
    assert recorded.ours.tolist() == [90, 89, 88, 87, 86]
    differences = [100 * (90 - i) - round(100 * cell.accuracy) for i, cell in enumerate(q_base)]
    assert recorded.difference.tolist() == [hundredths / 100 for hundredths in differences]
    for row in recorded.itertuples():
        assert (row.low, row.high) == evaluation.wilson(round(100 * row.ours), 10_000)
    rest = frame[frame.row != "q-base"]
    assert rest[["ours", "difference", "low", "high"]].isna().all(axis=None) and len(rest) == 25
    assert results.table("1a", seed=1).ours.isna().all()


@pytest.mark.parametrize("number", paper.TABLES)
def test_every_table_is_shown_with_nothing_recorded(number):
    frame = results.table(number)
    assert len(frame) == len(paper.TABLES[number].cells) > 0
    assert frame.ours.isna().all() and frame.paper.notna().all()
    assert all(pd.api.types.is_float_dtype(frame[column]) for column in ("paper", "ours", "low", "high"))


def test_one_recorded_cell_is_found_by_its_key():
    cell = paper.TABLES["2a"].cell("q-large", "cw 0.3")
    assert results.recorded_cell(cell) is None
    ours = cell_of(cell, 8003)
    record_of("q-large", cells=[ours | {"eps": 0.2}, ours, ours | {"attack": "cw-softmax"}])
    assert results.recorded_cell(cell) == ours
    assert results.recorded_cell(cell, seed=1) is None


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"unknown table '12'; choose one of 1a, 1b.*11"):
        results.table("12")
