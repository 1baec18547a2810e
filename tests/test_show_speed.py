"""What the chapter on speed says is what was recorded."""

import json

import pytest

from qlayer_core.show import speed


def run(number_format: str, share: float) -> dict:
    """A recorded run with one case of each kind."""

    def against(**others) -> dict:
        return {who: {"ratio": ratio, "lowest": 1.0, "highest": 9.0} for who, ratio in others.items()}

    step = {"case": "step source-b", "share": share, "others": against(plain=1.5)}
    bim = {"case": "bim q-large", "share": 0.6, "others": against(ART=3.0), "mebibytes": 100.0}
    bim["others"]["ART"] |= {"ratio_alone": 4.0, "mebibytes": 50.4}
    layer = {"case": "layer 1 12", "share": 0.2, "others": {"other": {"ratio": 1.0}}}
    return {
        "machine": {"number_format": number_format},
        "rows": [step, bim, layer],
        "growth": {
            "heads": [{"heads": k, "seconds": 0.1 * k, "operations": 1000 * k**2} for k in (1, 2)],
            "codes": [{"codes": n, "seconds": 1.0, "operations": n} for n in (16, 64)],
            "images": [{"images": n, "seconds": n / 100} for n in (100, 400)],
            "epochs": [{"epochs": n, "seconds": n} for n in (1, 4)],
        },
    }


RUNS = {"float32": run("float32", 0.55), "bfloat16": run("bfloat16", 0.35)}


def test_runs_are_read_by_number_format(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RUNS))
    assert speed.recorded(tmp_path) == RUNS


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results.json is missing. Measure it with: make bench"):
        speed.recorded(tmp_path)


def cells(html: str) -> list[list[str]]:
    """Return the text of a table's cells, line by line, less the names of its lines."""
    lines = [line.split("</tr>")[0] for line in html.split("<tr>")[2:]]
    return [[cell.split("</td>")[0] for cell in line.split("<td>")[1:]] for line in lines]


def test_ratios_stand_with_their_range():
    html = speed.comparison(RUNS).html
    assert '>float32</th><th scope="col">alone<' in html
    assert cells(html) == [
        ["plain", *["<strong>1.5</strong> <small>1.0-9.0</small>", "-"] * 2],
        ["ART", *["<strong>3.0</strong> <small>1.0-9.0</small>", "4.0"] * 2],
        ["other", *["<strong>1.0</strong>", "-"] * 2],
    ]
    for text in ("training step, CNN B", "BIM, Q-large", "layer, 1 head,<br>12 x 12"):
        assert f'<th scope="row">{text}</th>' in html


def test_an_attack_that_did_nothing_is_not_compared():
    done, nothing = (
        {"case": "cw cnn", "others": {"ART": {"ratio": 50.0, "largest_change": size}}} for size in (0.1, 0.0)
    )
    assert len(cells(speed.comparison({"float32": {"rows": [done]}}).html)) == 1
    assert cells(speed.comparison({"float32": {"rows": [nothing]}}).html) == []


def test_memory_is_shown_where_it_was_measured():
    assert cells(speed.memory(RUNS).html) == [["ART", "100", "50", "100", "50"]]


def test_number_formats_are_compared_attack_by_attack(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"agreement.json is missing.*agreement.py"):
        speed.agreement(tmp_path)
    found = {"number_format": "bfloat16", "images": 1000}
    found["attacks"] = [
        {"model": "cnn", "attack": "none", "eps": 0.0, "auto": {"e": 97.0}, "float32": {"e": 97.1}},
        {
            "model": "q-base",
            "attack": "cw",
            "eps": 0.2,
            "auto": {"q": 80, "e": 40},
            "float32": {"q": 79.6, "e": 40},
        },
    ]
    (tmp_path / "agreement.json").write_text(json.dumps(found))
    html = speed.agreement(tmp_path).html
    lines = [line.split("</tr>")[0].split("<td>") for line in html.split("<tr>")[2:]]
    assert cells(html) == [
        ["clean", "97.0", "97.1", "-0.1"],
        ["C&amp;W 0.2", "80.0", "79.6", "+0.4"],
        ["C&amp;W 0.2", "40.0", "40.0", "+0.0"],
    ]
    for name, line in zip(("CNN", "Q-base, Q-path", "Q-base, E-path"), lines, strict=True):
        assert f'scope="row">{name}</th>' in line[0]
    assert speed.of_other_weights(98.3, tmp_path) and not speed.of_other_weights(97.1, tmp_path)


def test_the_cases_that_took_more_memory_are_named():
    assert speed.larger(RUNS["float32"]) == ["BIM, Q-large"]
    row = run("float32", 0.5)["rows"][1]
    row["others"]["ART"]["mebibytes"] = row["mebibytes"] - 0.1  # no difference that the table shows
    assert speed.larger({"rows": [row]}) == []


def test_shares_of_each_number_format_are_drawn():
    text = speed.shares(RUNS).text
    assert "training step, CNN B in float32 55 %" in text and "training step, CNN B in bfloat16 35 %" in text


def test_growth_is_compared_with_operations_or_with_the_size_of_the_work():
    text = speed.growth(RUNS["float32"]).text
    assert "heads 1 to 2: time x 2.0, operations x 4.0" in text
    assert "images 100 to 400: time x 4.0, operations x 4.0" in text
