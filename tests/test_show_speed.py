"""What the chapter on speed says is what was recorded."""

import json

import ipywidgets as w
import pytest

from qlayer_core.show import speed
from qlayer_core.study import fingerprint, records


def run(number_format: str, ratio: float) -> dict:
    """A recorded run with one case of each kind, at a limit of 100 GFLOP/s."""
    attack = {"case": "fgsm cnn", "work": "10 images, 1 iterations", "operations": 10e9, "seconds": 0.2}
    attack["others"] = {"ART": {"ratio": ratio, "mebibytes": 50.0}}
    bim = {"case": "bim q-large", "others": {"ART": {"ratio": 2 * ratio}}, "mebibytes": 100.0}
    step = {"case": "step q-base", "operations": 40e9, "seconds": 0.5, "others": {"plain": {"ratio": 1.5}}}
    small = {"case": "step cnn", "operations": 20e9, "seconds": 0.4, "others": {"plain": {"ratio": 1.5}}}
    return {
        "machine": {"number_format": number_format, "operations_per_second": 100e9},
        "rows": [attack | {"mebibytes": 75.0}, bim, step, small],
        "growth": {
            "heads": [{"heads": k, "seconds": 0.1 * k, "operations": 1e9 * k**2} for k in (1, 2)],
            "codes": [{"codes": n, "seconds": 1.0, "operations": 1e9 * n} for n in (16, 64)],
            "images": [{"images": n, "seconds": n / 100} for n in (10, 40)],
            "epochs": [{"epochs": n, "seconds": n} for n in (1, 4)],
        },
    }


RUNS = {"float32": run("float32", 2.0), "bfloat16": run("bfloat16", 4.0)}


def test_runs_are_read_by_number_format(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RUNS))
    assert speed.recorded(tmp_path) == RUNS


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results.json is missing. Measure it with: make bench"):
        speed.recorded(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"agreement.json is missing.*agreement.py"):
        speed.agreement(tmp_path)


def test_a_share_is_what_was_reached_of_the_limit():
    found = speed.series(RUNS["float32"])
    assert [work.share for work in found["heads"]] == pytest.approx([0.1, 0.2])
    assert found["heads"][0].what == "The layer with 1 head of 64 codes"
    # Images have no count of their own: it is that of the attack on so many of them.
    assert [work.operations for work in found["images"]] == pytest.approx([10e9, 40e9])
    assert [work.size for work in found["GFLOP"]] == [20, 40]  # networks, the smallest first


def pages(widget: w.Widget) -> list[str]:
    if isinstance(widget, w.HTML):
        return [widget.value]
    return [page for child in getattr(widget, "children", ()) for page in pages(child)]


def test_the_dot_moves_under_the_limit_of_its_format():
    _, *shown = pages(speed.roof(RUNS))
    assert len(shown) == 4 * 2 * 2  # what grows, formats, sizes
    one, two = shown[:2]
    assert (
        "<b>The layer with 1 head of 64 codes</b> in float32: 1 GFLOP in 100 ms, 10&nbsp;% of the limit"
        in one
    )
    assert "limit in float32</th><td>100.0 GFLOP/s" in one and "the dot</th><td>10.0 GFLOP/s" in one
    assert "the dot</th><td>20.0 GFLOP/s" in two
    assert "limit in bfloat16" in shown[2]


def cells(html: str) -> list[list[str]]:
    """Return the text of a table's cells, line by line, less the names of its lines."""
    lines = [line.split("</tr>")[0] for line in html.split("<tr>")[2:]]
    return [[cell.split("</td>")[0] for cell in line.split("<td>")[1:]] for line in lines]


def test_others_stand_with_the_range_over_the_cases_of_a_kind():
    html = speed.comparison(RUNS).html
    assert cells(html) == [
        ["ART", "<strong>2.0 to 4.0</strong>", "<strong>4.0 to 8.0</strong>"],
        ["plain", "<strong>1.5</strong>", "<strong>1.5</strong>"],
    ]
    assert "ours in float32</th>" in html and '<th scope="row">training step</th>' in html


def test_an_attack_that_did_nothing_is_not_compared():
    done, nothing = (
        {"case": "cw cnn", "others": {"ART": {"ratio": 50.0, "largest_change": size}}} for size in (0.1, 0.0)
    )
    assert len(cells(speed.comparison({"float32": {"rows": [done]}}).html)) == 1
    assert cells(speed.comparison({"float32": {"rows": [nothing]}}).html) == []


def test_growth_is_that_of_operations_or_of_the_size_of_the_work():
    assert speed.growth(RUNS["float32"], "heads") == pytest.approx((2, 4, 2))
    assert speed.growth(RUNS["float32"], "images") == pytest.approx((4, 4, 4))


def test_memory_is_compared_where_both_were_measured():
    assert speed.memory(RUNS["float32"]) == [1.5]


def test_number_formats_are_compared_path_by_path(tmp_path):
    today = records.read_unit(records.unit("mnist", "cnn"))["weights_sha256"]
    found = {"number_format": "bfloat16", "weights": {"cnn": today}}
    found["attacks"] = [
        {
            "model": "cnn",
            "attack": "none",
            "eps": 0.0,
            "images": 10_000,
            "auto": {"": 97.0},
            "float32": {"": 97.1},
        },
        {
            "model": "q-base",
            "attack": "cw",
            "eps": 0.2,
            "images": 1000,
            "auto": {"q": 80, "e": 40},
            "float32": {"q": 79.6, "e": 40},
        },
    ]
    (tmp_path / "agreement.json").write_text(json.dumps(found))
    counts, differences = zip(*speed.agreement(tmp_path), strict=True)
    assert counts == (10_000, 1000, 1000) and differences == pytest.approx([-0.1, 0.4, 0])
    assert not speed.of_other_weights(tmp_path)
    found["weights"]["q-base"] = today  # of another network
    (tmp_path / "agreement.json").write_text(json.dumps(found))
    assert speed.of_other_weights(tmp_path)


def test_a_benchmark_of_other_code_is_known_as_such():
    today = {"code": {stage: fingerprint.of(stage) for stage in fingerprint.TIMED}}
    before = {"code": today["code"] | {"training": "another"}}
    assert not speed.of_other_code({"float32": today, "bfloat16": today})
    assert speed.of_other_code({"float32": today, "bfloat16": before}) and speed.of_other_code(
        {"float32": {}}
    )
