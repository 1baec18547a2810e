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

from qlayer_core import attacks, datasets, files, intervals, layer, models
from qlayer_core.study import experiments, fingerprint, fitting, ladder, paper, records, tables, units
from qlayer_core.study.records import Unit, unit


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results, weights and runs in an empty folder, and small networks in the place of the paper's."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        monkeypatch.setattr(records, name, tmp_path / name.lower())
    monkeypatch.setattr(models, "cnn", lambda architecture: small_cnn())
    monkeypatch.setattr(models, "q_net", lambda spec, architecture: small_q_net())
    return tmp_path


def record_of(name: str, seed: int = 0, **fields) -> dict:
    """Write the record of a run and return it."""
    record = records.new_record(unit("mnist", name, seed)) | fields
    records.write(record)
    return record


def trained(name: str, seed: int = 0) -> tuple[torch.nn.Module, Path]:
    """A network as a run leaves it: its weights and their record written."""
    model = models.build(experiments.spec(name), seed=7).eval()
    path = unit("mnist", name, seed).folder / "weights.safetensors"
    records.save_weights(model, path)
    record_of(name, seed, weights_sha256=files.sha256(path))
    return model, path


def cell_of(cell: paper.Cell, correct: int, n: int = 10_000) -> dict:
    """Our recorded cell for one of the paper's."""
    right = torch.arange(n) < correct
    return {field: getattr(cell, field) for field in paper.KEY} | {
        "n": n,
        "correct": correct,
        "accuracy": round(100 * correct / n, 2),
        "unmoved": 0,
        "right": records.pack(right),
        "environment": 0,
    }


# ---- records ----


def test_a_record_is_read_as_it_was_written():
    cells = [{"setting": "clean", "accuracy": 98.73, "path": None}]
    history = [{"epoch": 1, "accuracy": {"q": {"clean": 97.0}}, "inactive": [3, 1]}]
    record = record_of("q-large", 2, cells=cells, history=history)
    assert records.read("mnist", "q-large", 2) == record
    assert unit("mnist", "q-large", 2).record == records.RESULTS / "mnist" / "q-large" / "seed2.json"


def test_the_path_of_a_plain_network_is_none_everywhere():
    row = {"epoch": 1, "accuracy": {None: {"clean": 97.0}}}
    record = record_of("cnn", history=[row], cells=[{"path": None}])
    assert records.read("mnist", "cnn") == record and '"null"' in unit("mnist", "cnn").record.read_text()


def test_a_record_says_what_is_run():
    record = record_of("q-base-adv", 1)
    assert (record["dataset"], record["model"], record["seed"]) == ("mnist", "q-base-adv", 1)
    assert record["spec"] == asdict(experiments.spec("q-base-adv"))


def test_an_environment_says_with_which_code_and_where():
    record = record_of("cnn")
    here = records.environment(("training", "scoring"))
    assert torch.__version__.startswith(here["versions"]["torch"])
    assert here["number_format"] == "float32" and here["threads"] == 1
    assert here["code"] == {stage: fingerprint.of(stage) for stage in ("training", "scoring")}
    assert [records.environment_index(record, here) for _ in range(2)] == [0, 0]
    assert records.environment_index(record, here | {"threads": 2}) == 1
    assert record["environments"] == [here, here | {"threads": 2}]


def test_which_images_were_right_is_packed_and_unpacked():
    right = torch.rand(1003, generator=torch.Generator().manual_seed(0)) < 0.7
    packed = records.pack(right)
    assert len(packed) == 168  # 126 bytes in base64
    assert records.unpack({"right": packed, "n": 1003}).tolist() == right.tolist()


def test_a_variant_has_a_place_of_its_own_and_the_seed_of_its_run():
    spec = experiments.spec("q-base")
    plain, variant = unit("mnist", "q-base", 1), Unit("mnist", spec, 1, "no-gate")
    assert variant.record == records.RESULTS / "mnist" / "variants" / "q-base" / "no-gate" / "seed1.json"
    assert plain.record == records.RESULTS / "mnist" / "q-base" / "seed1.json"
    assert variant.folder != plain.folder and variant.weights.parent == variant.folder
    assert "vary mnist q-base 'no-gate' --seed 1" in variant.how()


# ---- the code's fingerprint ----

SOURCE = """
from qlayer_core import data

def double(x):
    if x is None:
        raise ValueError("x is missing") from error
    return 2 * x
"""


def begun_with(lines: str) -> Callable[[str], str]:
    """Return what puts lines at the beginning of the function."""
    indented = "".join(f"    {line}\n" for line in lines.splitlines())
    return lambda source: source.replace("double(x):\n", f"double(x):\n{indented}")


REFUSALS = (
    "if x < 0:\n    raise ValueError('x is negative')",
    "if x < 0:\n    how = 'negative'\n    raise ValueError(how)",
    "if x < 0:\n    raise ValueError\nelif x > 9:\n    raise ValueError",
    "if x is not None:\n    if x < 0:\n        raise ValueError",
    "for one in (x, -x):\n    if one > 9:\n        raise ValueError",
    "checks.option('x', x)",
)
ACTIONS = (
    "if x < 0:\n    x = 0",
    "if x < 0:\n    raise ValueError\nelse:\n    x += 1",
    "if (y := x) < 0:\n    raise ValueError",
    "if x < 0:\n    return 0\n    raise ValueError",
    "x = checks.attack(x)",
    "for one in (x, -x):\n    x += one",
)


@pytest.mark.parametrize(
    "change, same",
    [
        (lambda s: s.replace("double(x):", 'double(x):\n    """Return 2 x."""'), True),
        (lambda s: '"""A module."""\n' + s + "\n# a comment\n", True),
        (lambda s: s.replace("2 * x", "(2 *  x)"), True),
        (lambda s: s.replace('ValueError("x is missing") from error', 'TypeError("give x")'), True),
        (lambda s: s.replace("x is None", "x == 0"), True),
        (lambda s: s.replace("import data", "import checks, data"), True),
        *((begun_with(lines), True) for lines in REFUSALS),
        *((begun_with(lines), False) for lines in ACTIONS),
        (lambda s: s.replace("2 * x", "x * 2"), False),
        (lambda s: s.replace("2 *", "3 *"), False),
    ],
    ids=[
        *("docstring", "module and comment", "layout", "what an error says", "when", "import"),
        *(REFUSALS + ACTIONS),
        *("order", "number"),
    ],
)
def test_only_what_python_runs_changes_the_fingerprint(change, same):
    assert (fingerprint.of_source(change(SOURCE)) == fingerprint.of_source(SOURCE)) == same


def test_every_python_gives_the_same_fingerprint():
    """Newer ones write syntax trees differently; these are what Python 3.11 gives."""
    empty = "class Pair:\n    def first(self) -> int: ...\n    def last(self):\n        raise TypeError\n"
    assert [fingerprint.of_source(source)[:12] for source in (SOURCE, empty)] == [
        "26af27dc5831",
        "aecbfce30271",
    ]


def test_a_fingerprint_is_of_the_code_that_runs_though_its_files_are_edited_meanwhile(tmp_path, monkeypatch):
    before = fingerprint.of("scoring")
    for module in fingerprint.STAGES["scoring"]:
        (tmp_path / module).with_suffix(".py").write_text("edited = True")
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    assert fingerprint.of.__wrapped__("scoring") == before


def test_what_seeds_a_run_and_what_bounds_attacked_images_in_training_are_of_its_stage():
    for what, stages in (
        (fitting.seed_of, ("training", "scoring", "quantizers", "pixelcnn")),
        (datasets.find, ("training",)),  # whose bound stands in no record
    ):
        module = what.__module__.removeprefix("qlayer_core.")
        assert all(module in fingerprint.STAGES[stage] for stage in stages)


def test_stages_name_modules_that_are_there_and_the_grid_is_in_none():
    for stage, modules in fingerprint.STAGES.items():
        assert all((fingerprint.PACKAGE / f"{module}.py").exists() for module in modules), stage
        assert not any("experiments" in module or "show" in module for module in modules)
    for attack, stage in (("fgsm", "steps"), ("bim-clipped", "steps"), ("cw-softmax", "carlini_wagner")):
        assert fingerprint.stage_of(attack) == stage
    assert fingerprint.stage_of("none") is None
    assert all(fingerprint.stage_of(name) for name in (*attacks.REGISTRY, *set(ladder.ATTACKS) - {"ls-pga"}))
    with pytest.raises(ValueError, match=r"attack 'mine-fast' has no stage: .* and 'mine' to ATTACK_STAGES"):
        fingerprint.stage_of("mine-fast")


def test_a_missing_record_names_the_commands_that_make_it():
    with pytest.raises(FileNotFoundError) as caught:
        records.read("mnist", "q-base", 3)
    for command in ("train", "evaluate"):
        assert f"python -m qlayer_core {command} mnist q-base --seed 3" in str(caught.value)


@pytest.mark.parametrize("found", [records.FORMAT + 1, None])
def test_another_format_version_is_refused(found):
    record = record_of("cnn")
    path = unit("mnist", "cnn").record
    path.write_text(
        json.dumps({key: value for key, value in record.items() if key != "format"} | {"format": found})
    )
    with pytest.raises(
        ValueError, match=rf"seed0.json has format {found}, this package reads {records.FORMAT}: use"
    ):
        records.read("mnist", "cnn")


@pytest.mark.parametrize("content", [None, b"[]", b"\xff"])
def test_a_damaged_file_is_refused(content):
    record_of("cnn")
    path = unit("mnist", "cnn").record
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ValueError, match=r"seed0.json is damaged \(.*\): restore it from the repository"):
        records.read("mnist", "cnn")


@pytest.mark.parametrize("layered", [False, True])
def test_a_setting_of_a_newer_version_is_refused(layered):
    record = record_of("q-base")
    (record["spec"]["layer"] if layered else record["spec"])["colour"] = "green"
    says = "record of q-base on mnist, seed 0, has the setting colour, which this .* use the version that wrote it"
    with pytest.raises(ValueError, match=says):
        records.spec_of(record)
    del record["spec"]["layer"]["gate"]  # an older one that knows fewer has their defaults
    if layered:
        del record["spec"]["layer"]["colour"]
        assert records.spec_of(record) == experiments.spec("q-base")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown data set 'cifar'; choose one of mnist, fashion-mnist"):
        unit("cifar", "cnn")
    with pytest.raises(ValueError, match="unknown model 'q-huge'; choose one of"):
        unit("mnist", "q-huge")
    with pytest.raises(ValueError, match="seed is -1; it must be at least 0"):
        unit("mnist", "cnn", -1)
    for look in (records.runs, tables.cell):  # which else would say that nothing is recorded
        with pytest.raises(ValueError, match="unknown data set 'cifar'; choose one of"):
            look("cifar", "cnn")
        with pytest.raises(ValueError, match="unknown model 'q-huge'; choose one of"):
            look("mnist", "q-huge")
    for wrong in ("0", 1.5, True):
        with pytest.raises(TypeError, match=f"seed is {wrong!r}; it must be a whole number"):
            unit("mnist", "cnn", wrong)


@pytest.mark.parametrize("place", ["cnn/seed0 copy.json", "cnn/seed1.json", "q-base/seed0.json"])
def test_a_copy_among_the_results_counts_as_no_seed_and_no_other_network(place):
    record_of("cnn", cells=[cell_of(paper.TABLES["1a"].cell("cnn", "fgsm 0.3"), 4000)])
    path = unit("mnist", "cnn").record
    copy = path.parent.parent / place
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(path.read_text())
    for read in (tables.cells, lambda: records.runs("mnist", copy.parent.name)):
        with pytest.raises(ValueError, match=rf"{place} .*counts as one, so keep copies elsewhere"):
            read()


# ---- weights ----


@pytest.mark.parametrize("name", ["cnn", "q-base"])
def test_saved_weights_give_the_same_answers(name, digits):
    model, path = trained(name)
    loaded, record = records.load("mnist", name)
    assert record == records.read("mnist", name) and not loaded.training
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
    model = layer.QLayer(64, codebook_size=128, heads=4)
    records.save_weights(model, tmp_path / "file")
    assert load_file(tmp_path / "file")["codebook"].dtype == torch.float32


def test_the_same_weights_make_the_same_file(tmp_path):
    model = small_q_net()
    for name in ("a", "b"):
        records.save_weights(model, tmp_path / name)
    assert files.sha256(tmp_path / "a") == files.sha256(tmp_path / "b")


def test_released_weights_go_first_for_seed_0_only():
    _, kept = trained("cnn")
    assert unit("mnist", "cnn").weights == kept
    released = records.WEIGHTS / "mnist" / "cnn.safetensors"
    released.parent.mkdir(parents=True)
    released.write_bytes(kept.read_bytes())
    assert unit("mnist", "cnn").weights == released
    assert unit("mnist", "cnn", 1).weights == unit("mnist", "cnn", 1).folder / "weights.safetensors"
    kept.unlink()
    records.load("mnist", "cnn")


def test_a_run_that_was_trained_again_is_used_before_it_is_released():
    _, kept = trained("cnn")
    released = records.WEIGHTS / "mnist" / "cnn.safetensors"
    released.parent.mkdir(parents=True)
    released.write_bytes(kept.read_bytes())
    model = small_cnn()
    records.save_weights(model, kept)
    record_of("cnn", weights_sha256=files.sha256(kept))
    assert unit("mnist", "cnn").weights == kept
    assert torch.equal(records.load("mnist", "cnn")[0][0].bias, model[0].bias)


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
        records.load_weights(model, path)
    assert torch.equal(model[0].weight, before)


def test_other_weights_than_those_that_were_measured_are_refused():
    model, path = trained("cnn")
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    records.save_weights(model, path)
    with pytest.raises(ValueError, match="is not the file that the recorded results were measured with"):
        records.load("mnist", "cnn")


def test_missing_weights_name_the_command_that_makes_them():
    _, path = trained("cnn", 1)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"weights of cnn .*python -m qlayer_core train mnist cnn --seed 1"
    ):
        records.load("mnist", "cnn", 1)


# ---- tables ----


def test_a_table_puts_recorded_cells_beside_the_papers():
    table = paper.TABLES["1a"]
    q_base = [cell for cell in table.cells if cell.row == "q-base"]
    ours = [cell_of(cell, 9000 - 100 * i) for i, cell in enumerate(q_base)]
    elsewhere = cell_of(q_base[1], 1) | {"source": "cnn-b"}  # another table's
    on_e_path = cell_of(q_base[1], 2) | {"path": "e"}
    record_of("q-base", cells=[elsewhere, on_e_path, *reversed(ours)])

    frame = tables.table("1a")
    columns = ["row", "column", "seed", "n", "paper", "ours", "difference", "low", "high", "unreliable"]
    assert list(frame.columns) == [*columns, "right"]
    assert list(zip(frame.row, frame.column, frame.paper, strict=True)) == [
        (cell.row, cell.column, cell.accuracy) for cell in table.cells
    ]
    recorded = frame[frame.row == "q-base"]
    assert recorded.ours.tolist() == [90, 89, 88, 87, 86]
    differences = [100 * (90 - i) - round(100 * cell.accuracy) for i, cell in enumerate(q_base)]
    assert recorded.difference.tolist() == [hundredths / 100 for hundredths in differences]
    for row in recorded.itertuples():
        assert (row.low, row.high) == intervals.wilson(round(100 * row.ours), 10_000)
        assert records.unpack({"n": 10_000, "right": row.right}).sum() == round(100 * row.ours)
    rest = frame[frame.row != "q-base"]
    assert rest[["ours", "difference", "low", "high"]].isna().all(axis=None) and len(rest) == 25
    assert tables.table("1a", seed=1).ours.isna().all()


@pytest.mark.parametrize("number", paper.TABLES)
def test_every_table_is_shown_with_nothing_recorded(number):
    frame = tables.table(number)
    assert len(frame) == len(paper.TABLES[number].cells) > 0
    assert frame.ours.isna().all() and frame.paper.notna().all()
    assert all(pd.api.types.is_float_dtype(frame[column]) for column in ("paper", "ours", "low", "high"))


def test_one_recorded_cell_is_found_by_its_fields():
    cell = paper.TABLES["2a"].cell("q-large", "cw 0.3")
    fields = {field: getattr(cell, field) for field in paper.KEY}
    assert tables.cell("mnist", "q-large", **fields) is None
    ours = cell_of(cell, 8003)
    record_of("q-large", cells=[ours | {"eps": 0.2}, ours, ours | {"attack": "cw-softmax"}])
    found = tables.cell("mnist", "q-large", **fields)
    assert found["accuracy"] == 80.03 and found["source"] is None and found["path"] == "q"
    assert tables.cell("mnist", "q-large", 1, **fields) is None


def test_a_cell_that_is_not_told_apart_is_refused_with_what_tells_it():
    cells = [cell_of(paper.TABLES["2a"].cell("q-large", "cw 0.3"), 8003)]
    record_of("q-large", cells=[*cells, cells[0] | {"eps": 0.2}, cells[0] | {"eps": 0.2, "path": "e"}])
    with pytest.raises(
        ValueError, match=r"3 recorded cells of q-large on mnist, .*: say their eps, path, too"
    ):
        tables.cell("mnist", "q-large", attack="cw")
    with pytest.raises(ValueError, match=r"field is 'epsilon'; choose one of dataset, model, seed, .*eps"):
        tables.cell("mnist", "q-large", epsilon=0.3)


def test_seeds_are_put_side_by_side_on_the_images_that_all_were_measured_on():
    cell = paper.TABLES["1a"].cell("cnn", "fgsm 0.3")
    for seed, (correct, n) in enumerate(((4000, 10_000), (300, 500))):
        record_of("cnn", seed, cells=[cell_of(cell, correct, n)])
    frame = tables.cells()
    assert frame.accuracy.tolist() == [40, 60]
    alike = tables.alike(frame)
    assert alike.accuracy.tolist() == [100, 60] and alike.n.tolist() == [
        500,
        500,
    ]  # the first 4,000 are right
    assert tables.alike(frame[frame.seed == 0]).accuracy.tolist() == [40]
    shown = tables.table("1a", seed=None)
    shown = shown[(shown.row == "cnn") & (shown.column == "fgsm 0.3")]
    assert tables.alike(shown, "ours").ours.tolist() == [100, 60] and shown.ours.tolist() == [40, 60]


def test_all_recorded_cells_are_one_frame_and_a_table_can_show_every_seed():
    cell = paper.TABLES["1a"].cell("cnn", "fgsm 0.3")
    for seed, correct in enumerate((4000, 4100, 3900)):
        record_of("cnn", seed, cells=[cell_of(cell, correct)])
    frame = tables.cells()
    assert frame.seed.tolist() == [0, 1, 2] and frame.correct.tolist() == [4000, 4100, 3900]
    assert frame.path.tolist() == [None] * 3 and frame.unreliable.tolist() == [None] * 3
    shown = tables.table("1a", seed=None)
    shown = shown[(shown.row == "cnn") & (shown.column == "fgsm 0.3")]
    assert shown.ours.tolist() == [40.0, 41.0, 39.0]


def test_the_preferred_seed_is_one_that_was_measured():
    cells = [cell_of(paper.TABLES["1a"].cell("cnn", "fgsm 0.3"), 4000)]
    for seed, score, measured in ((0, 80.0, True), (1, 95.0, False), (2, 90.0, True)):
        record_of("cnn", seed, cells=cells if measured else [], chosen={"score": score})
    assert tables.preferred("mnist", "cnn") == 2
    record_of("cnn", 2, chosen={"score": 90.0})
    assert tables.preferred("mnist", "cnn") is None, "of one that is measured there is no choice"


# ---- sanity checks ----


def test_a_white_box_attack_that_is_weaker_than_a_blind_one_is_marked():
    blind, seeing = (paper.TABLES[number].cell("q-base", "bim 0.3") for number in ("1a", "2a"))
    record = {"cells": [cell_of(blind, 3822), cell_of(seeing, 5533), cell_of(seeing, 3000) | {"eps": 0.2}]}
    units.judge(record)
    marked = ["unreliable" in cell for cell in record["cells"]]
    assert (
        marked == [False, True, False] and "fewer images right (38.22 %)" in record["cells"][1]["unreliable"]
    )
    for correct in (6000, 5530):  # a handful of images is chance
        record["cells"][0] = cell_of(blind, correct)
        units.judge(record)
        assert not any("unreliable" in cell for cell in record["cells"])


@pytest.mark.parametrize("attack", ["cw", "cw-softmax"])
def test_carlini_wagner_on_probabilities_has_the_blind_attack_s_images_to_beat_too(attack):
    seeing = cell_of(paper.TABLES["2a"].cell("q-base", "cw 0.3"), 9500) | {"attack": attack}
    blind = seeing | cell_of(paper.TABLES["2a"].cell("q-base", "cw 0.3"), 9000)
    blind |= {"setting": "black-box", "source": "cnn-a", "attacked_path": None}
    units.judge({"cells": [blind, seeing]})
    assert "fewer images right (90.00 %)" in seeing["unreliable"]


def test_cells_of_different_numbers_of_images_are_compared_on_those_that_both_are_of():
    blind, seeing = (paper.TABLES[number].cell("q-base", "bim 0.3") for number in ("1a", "2a"))
    right = torch.arange(10_000) >= 5000  # wrong on the first half, so on all of the first 1,000
    many = cell_of(blind, 5000) | {"right": records.pack(right)}
    few = cell_of(seeing, 10, n=1000) | {"right": records.pack(torch.arange(1000) < 10)}
    units.judge({"cells": [many, few]})
    assert "fewer images right (0.00 %)" in few["unreliable"]  # though 5,000 are more than 10
    units.judge({"cells": [many, few := few | {"right": records.pack(torch.arange(1000) < 0)}]})
    assert "unreliable" not in few


def test_an_attack_that_left_images_as_they_were_is_marked():
    seeing = cell_of(paper.TABLES["2a"].cell("q-base", "bim 0.3"), 3000)
    record = {"cells": [seeing | {"unmoved": 4369}, seeing | {"unmoved": 100, "eps": 0.2}]}
    units.judge(record)
    assert record["cells"][0]["unreliable"].startswith("43.7 % of the images had no gradient")
    assert "unreliable" not in record["cells"][1]


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"unknown table '12'; choose one of 1a, 1b.*11"):
        tables.table("12")


def test_a_table_of_all_seeds_is_asked_for_with_none():
    with pytest.raises(TypeError, match="seed is 'all'; it must be a whole number"):
        tables.table("1a", seed="all")
