"""The benchmarks run, count operations rightly, and what is recorded is what they would write."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qlayer_core import models
from qlayer_core.show import speed
from qlayer_core.study import experiments

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytest.importorskip("foolbox", reason="pip install -r benchmarks/requirements.txt")
pytest.importorskip("vector_quantize_pytorch", reason="pip install -r benchmarks/requirements.txt")
import cases  # noqa: E402
import measure  # noqa: E402
import run as benchmark  # noqa: E402

CASES = {  # whom each kind of case is compared with
    "fgsm": {"ART", "foolbox"},
    "bim": {"ART", "foolbox"},
    "layer": {"vector-quantize-pytorch", "vector-quantize-pytorch, learned codes"},
    "step": {"plain"},
    "cw": {"ART"},
}


RECORDED = json.loads((BENCHMARKS / "results.json").read_text())


@pytest.fixture(params=RECORDED)
def recorded(request) -> dict:
    """The recorded run of each number format."""
    return RECORDED[request.param]


def check(found: dict, sizes: cases.Sizes) -> None:
    """Everything is there that `sizes` asks for, with plausible numbers."""
    kinds = [row["case"].split()[0] for row in found["rows"]]
    expected = ["fgsm", "bim", "bim", *["layer"] * len(sizes.maps), *["step"] * len(sizes.models), "cw"]
    assert kinds == expected
    for kind, row in zip(kinds, found["rows"], strict=True):
        assert set(row["others"]) == CASES[kind]
        assert row["seconds"] > 0 and 0 < row.get("share", 0.5) < 1.1
        for other in row["others"].values():
            assert other["seconds"] > 0 and other["ratio"] > 0
    for name, values in (
        ("heads", sizes.heads),
        ("codes", sizes.codes),
        ("images", sizes.images),
        ("epochs", sizes.epochs),
    ):
        assert [point[name] for point in found["growth"][name]] == list(values)


def test_the_quick_form_measures_everything_once(tmp_path):
    command = [sys.executable, BENCHMARKS / "run.py", "--quick", "--output", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found) == ["float32"]
    check(found["float32"], cases.QUICK)
    assert not speed.of_other_code(found)


def test_a_damaged_file_of_results_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text("[")
    monkeypatch.setattr(benchmark, "run", lambda sizes: pytest.fail("it measures"))
    monkeypatch.setattr(sys, "argv", ["run.py", "--output", str(tmp_path)])
    with pytest.raises(ValueError, match=r"results\.json is damaged"):
        benchmark.main()


def test_the_recorded_run_is_a_whole_one(recorded):
    check(recorded, cases.Sizes())
    assert recorded["seconds"] < 600, "the benchmark takes too long"
    for row in recorded["rows"]:
        for other in row["others"].values():
            if row["case"] in benchmark.ALONE:
                assert other["ratio_alone"] > 0 and row["mebibytes"] > 0


def test_recorded_runs_name_their_number_format():
    assert all(found["machine"]["number_format"] == name for name, found in RECORDED.items())


def test_all_contestants_attack_as_well(recorded):
    """A faster attack that fools fewer images would be no faster."""
    for row in recorded["rows"]:
        if row["case"].startswith(("fgsm", "bim")):
            for other in row["others"].values():
                assert row["accuracy"] == pytest.approx(other["accuracy"], abs=2), row["case"]
    cw = recorded["rows"][-1]
    assert cw["accuracy"] < cw["others"]["ART"]["accuracy"] <= cw["clean_accuracy"]


def test_operations_of_cnn_a_counted_by_hand():
    products = 28 * 28 * 64 * 25 + 12 * 12 * 64 * 64 * 25 + 12 * 12 * 64 * 128 + 128 * 10
    found = benchmark.attack_operations(models.build(experiments.spec("cnn")), torch.rand(3, 1, 28, 28))
    # forward and input gradient, a multiplication and an addition each
    assert found == 3 * 2 * (2 * products)


def test_contestants_take_turns():
    order = []
    works = {name: (lambda name=name: order.append(name)) for name in "AB"}
    found = measure.in_turn(works, 2)
    assert "".join(order) == "AB" + "ABAB"
    assert [len(times) for times in found.values()] == [2, 2]


def test_a_ratio_is_the_median_over_rounds():
    found = measure.ratios([1.0, 2.0, 1.0], [3.0, 4.0, 9.0])
    assert found == {"ratio": 3.0, "lowest": 2.0, "highest": 9.0}


def test_agreement_of_number_formats_is_recorded():
    """Within half a point under each attack, and within seed noise after training."""
    file = BENCHMARKS / "agreement.json"
    if not file.exists():
        pytest.skip("not recorded yet: run benchmarks/agreement.py on a machine with fast bfloat16")
    found = json.loads(file.read_text())
    assert found["number_format"] == "bfloat16"
    for row in found["attacks"]:
        assert row["images"] >= 1000
        for path, accuracy in row["auto"].items():
            assert accuracy == pytest.approx(row["float32"][path], abs=0.5), row
    for row in found["training"]:
        fast, full = torch.tensor(row["auto"]), torch.tensor(row["float32"])
        noise = ((fast.var() + full.var()) / 3).sqrt()
        assert (fast.mean() - full.mean()).abs() <= 2 * noise, row
