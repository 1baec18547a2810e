"""The published numbers against a second transcription (paper_tables.txt), each other and the text."""

import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from qlayer_core.study.paper import ARCHITECTURES, FIGURE_2, INCONSISTENCIES, KEY, TABLES

RAW, ADV = ("q-base", "q-large"), ("q-base-adv", "q-large-adv")


def read_transcription() -> dict[str, dict[str, str]]:
    """Each table's lines by their label, in the paper's words and order."""
    text = (Path(__file__).parent / "paper_tables.txt").read_text(encoding="utf-8")
    tables = {}
    for block in text.strip().split("\n\n"):
        heading, *lines = block.splitlines()
        tables[heading.strip("[]")] = lines
    layers = tables.pop("4")
    return {n: dict(line.split(": ") for line in lines) for n, lines in tables.items()} | {"4": layers}


PAPER = read_transcription()
ARCHITECTURE_LINES, KL_LINES = PAPER.pop("4"), PAPER.pop("figure 2")
HEADINGS = ("caption", "own caption", "attacks", "eps", "columns")


def value(place: str, column: str) -> float:
    number, row = place.split(" ", 1)
    return TABLES[number].cell(row, column).accuracy


def columns_of(number: str, eps: float | None = None) -> list[str]:
    """The attacked columns of a table, or those at one eps."""
    cells = [c for c in TABLES[number].cells if c.attack != "none" and eps in (None, c.eps)]
    return list(dict.fromkeys(c.column for c in cells))


def contradictions(higher: str, lower: str, columns: list[str]) -> set:
    """The columns in which the row that should be higher ("2a q-base") is not, as pairs of places."""
    return {(f"{higher}: {c}", f"{lower}: {c}") for c in columns if value(higher, c) <= value(lower, c)}


def listed(kind: str) -> set:
    """The pairs of places in INCONSISTENCIES of one kind."""
    pairs = [pair for entry in INCONSISTENCIES if entry.kind == kind for pair in entry.pairs]
    found = {tuple(f"{c.table} {c.row}: {c.column}" for c in pair) for pair in pairs}
    assert len(found) == len(pairs), "a pair is listed twice"
    return found


# ---- against the second transcription ----


def our_row(number: str, label: str) -> list[str]:
    """The paper's row label in our words: one row, or in Table 6 one for each side of the slash."""
    name = label.lower().replace(" + adv", "-adv").replace(", share", "-shared")
    name = name.replace(", clean-selected", "-clean-selected").replace(", mixed-selected", "")
    name = name.replace(", e-path", " via e").replace(", q-path", " via shortcut").replace("k=", "K=")
    return [f"{name} q", f"{name} e"] if number in ("6a", "6b") else [name]


def our_columns(lines: dict[str, str]) -> list[str]:
    if "columns" in lines:
        return lines["columns"].split()
    attacks, epsilons = lines["attacks"].lower().split()[1:], lines["eps"].split()
    return ["clean"] + [f"{attacks[i // 2]} {eps}" for i, eps in enumerate(epsilons)]


@pytest.mark.parametrize("number", PAPER)
def test_every_cell_equals_the_second_transcription(number):
    lines = PAPER[number]
    expected = {}
    for label in lines.keys() - set(HEADINGS):
        for column, printed in zip(our_columns(lines), lines[label].split(), strict=True):
            for row, number_text in zip(our_row(number, label), printed.split("/"), strict=True):
                expected[row, column] = float(number_text)
    assert {(c.row, c.column): c.accuracy for c in TABLES[number].cells} == expected
    assert len(TABLES[number].cells) == len(expected)


def test_rows_and_tables_stand_in_the_papers_order():
    assert list(TABLES) == list(PAPER)
    for number, lines in PAPER.items():
        labels = [label for label in lines if label not in HEADINGS]
        rows = [row for label in labels for row in our_row(number, label)]
        assert list(dict.fromkeys(c.row for c in TABLES[number].cells)) == rows


@pytest.mark.parametrize("number", PAPER)
def test_setting_source_and_data_set_are_those_of_the_captions(number):
    main = PAPER[number]["caption"].split()
    own = PAPER[number].get("own caption", "").split()
    table, attacked = TABLES[number], [c for c in TABLES[number].cells if c.attack != "none"]
    box = next(word for word in own + main if word.endswith("-box"))
    sources = [word.lower().replace("_", "-") for word in own + main if word.startswith("CNN_")]
    assert {c.setting for c in attacked} == {box}
    assert {c.source for c in attacked} == {sources[0] if box == "black-box" else None}
    named = [word.lower() for word in own + main if word.endswith("MNIST")]
    assert {c.dataset for c in table.cells} == {table.dataset} == {named[0] if named else "mnist"}
    assert table.caption_dataset == next((word.lower() for word in main if word.endswith("MNIST")), None)


def test_architectures_are_those_of_table_4():
    def layer(text: str) -> tuple:
        kind, arguments, activation = re.fullmatch(r"(\w+)\((.*?)\)(?: \+ (\w+))?", text).groups()
        numbers = [float(n) for n in re.sub(r"(\d)\u00d7\1", r"\1", arguments).split(",")]
        return (kind.lower(), *numbers, *([activation.lower()] if activation else []))

    for name, column in (("cnn-a", 0), ("cnn-b", 1)):
        assert ARCHITECTURES[name] == tuple(
            layer(line.split(" | ")[column]) for line in ARCHITECTURE_LINES[1:]
        )


# ---- the shape that joins with recorded cells ----


def test_a_published_cell_joins_with_the_recorded_one():
    recorded = {
        "setting": "white-box",
        "attack": "bim",
        "eps": 0.3,
        "source": None,
        "attacked_path": "shortcut",
    }
    recorded |= {"path": "q", "n": 10000, "correct": 1903, "accuracy": 19.03}
    matches = [
        c
        for c in TABLES["11"].cells
        if c.model == "q-large" and c.key == tuple(recorded[field] for field in KEY)
    ]
    assert [c.accuracy for c in matches] == [19.03]


@pytest.mark.parametrize(
    ("number", "row", "column", "expected"),
    [
        ("1a", "cnn", "clean", ("clean", "none", 0.0, None, None, None)),
        ("1b", "q-base", "bim 0.1", ("black-box", "bim", 0.1, "cnn-a", None, "q")),
        ("2a", "cnn-adv", "cw 0.3", ("white-box", "cw", 0.3, None, None, None)),
        ("2b", "q-large-adv", "fgsm 0.2", ("white-box", "fgsm", 0.2, None, "e", "q")),
        ("6a", "q-base e", "fgsm 0.3", ("black-box", "fgsm", 0.3, "cnn-a", None, "e")),
        ("6b", "q-base e", "clean", ("clean", "none", 0.0, None, None, "e")),
        ("6b", "q-base e", "bim 0.2", ("white-box", "bim", 0.2, None, "e", "e")),
        ("7a", "q-large", "bim 0.3", ("black-box", "bim", 0.3, "cnn-b", None, "q")),
        ("8b", "K=2", "n_c=16", ("black-box", "fgsm", 0.3, "cnn-a", None, "q")),
        ("11", "q-large via shortcut", "cw 0.2", ("white-box", "cw", 0.2, None, "shortcut", "q")),
    ],
)
def test_key_says_what_was_measured(number, row, column, expected):
    assert dict(zip(KEY, TABLES[number].cell(row, column).key, strict=True)) == dict(
        zip(KEY, expected, strict=True)
    )


def test_models_have_the_names_of_the_grid():
    ablation = {f"q-k{k}-n{n}" for k in (1, 2, 4) for n in (16, 64, 128)} - {"q-k1-n64", "q-k4-n64"}
    trained = {"cnn", "q-base", "q-large"} | ablation
    expected = (
        trained | {f"{name}-adv" for name in trained} | {"q-inner", "q-large-shared", "cnn-clean-selected"}
    )
    assert {c.model for table in TABLES.values() for c in table.cells} == expected


def test_an_unknown_cell_is_refused_with_the_names_that_exist():
    with pytest.raises(KeyError, match=r"Table 1a .*q-base-adv.*fgsm 0\.3"):
        TABLES["1a"].cell("q-base-adv", "fgsm 0.1")


# ---- the paper against itself: what is listed is exactly what exists ----


def cells_by_measurement() -> dict[tuple, list]:
    groups = defaultdict(list)
    for table in TABLES.values():
        for cell in table.cells:
            groups[cell.dataset, cell.model, *cell.key].append(cell)
    return groups


def test_repeated_measurements_differ_only_where_listed():
    found = {
        frozenset(f"{c.table} {c.row}: {c.column}" for c in pair)
        for cells in cells_by_measurement().values()
        for pair in combinations(cells, 2)
        if pair[0].accuracy != pair[1].accuracy
    }
    assert found == {frozenset(pair) for pair in listed("value")}


def test_the_cnn_and_table_3_are_printed_alike_everywhere():
    repeats = {
        "1a cnn": ("3a cnn", "5 cnn"),
        "2a cnn": ("3b cnn", "11 cnn"),
        "2a cnn-adv": ("11 cnn-adv",),
        "1a q-large": ("3a q-large", "6a q-large q", "9 q-large"),
        "2a q-large": ("3b q-large", "6b q-large q", "10 q-large", "11 q-large via e"),
    }
    for first, others in repeats.items():
        number = first.split()[0]
        for other in others:
            for column in ["clean", *columns_of(number)]:
                assert value(first, column) == value(other, column), (first, other, column)


def test_captions_name_another_data_set_only_where_listed():
    found = {n for n, t in TABLES.items() if t.caption_dataset not in (None, t.dataset)}
    assert found == {n for entry in INCONSISTENCIES if entry.kind == "caption" for n in entry.tables}


def unreserved_claims():
    """Yield (higher row, lower row, columns) for each comparison that the text makes without reserve."""
    for number in (
        "1a",
        "1b",
        "2a",
        "2b",
        "7a",
        "7b",
    ):  # 4.2, 4.3, Appendix E: the layer helps a raw-trained CNN
        yield from ((f"{number} {q}", f"{number} cnn", columns_of(number)) for q in RAW)
    for number in ("1a", "1b"):  # 4.2: adversarial training helps every model
        yield from ((f"{number} {m}-adv", f"{number} {m}", columns_of(number)) for m in ("cnn", *RAW))
    for number, small, large in (
        ("2a", 0.2, 0.3),
        ("2b", 0.1, 0.2),
    ):  # 4.3: the CNN at small eps, ours at large
        for q in ADV:
            yield f"{number} cnn-adv", f"{number} {q}", columns_of(number, small)
            yield f"{number} {q}", f"{number} cnn-adv", columns_of(number, large)
    for q in ADV:  # 4.2, Fashion-MNIST: the layer is ahead under large perturbations
        yield f"1b {q}", "1b cnn-adv", columns_of("1b", 0.2)
    yield "1b cnn-adv", "1b cnn", ["clean"]  # footnote 4
    yield "3b q-inner", "3b q-large", columns_of("3b")  # 4.4
    yield "5 cnn", "5 cnn-clean-selected", columns_of("5")  # Appendix C
    yield "5 cnn-clean-selected", "5 cnn", ["clean"]
    for number in ("6a", "6b"):  # Appendix D: raw-trained, the Q-path is ahead of the E-path
        yield from ((f"{number} {q} q", f"{number} {q} e", columns_of(number)) for q in RAW)
    for size in (16, 64, 128):  # Appendix F: more sub-spaces, more robust
        yield from (("8a K=2", "8a K=1", [f"n_c={size}"]), ("8a K=4", "8a K=2", [f"n_c={size}"]))
    yield from (("8b K=2", "8b K=1", ["n_c=16"]), ("8b K=4", "8b K=2", ["n_c=16"]))
    for number in ("9", "10"):  # Appendix G: separate tails help
        yield f"{number} q-large", f"{number} q-large-shared", columns_of(number)


def test_the_text_claims_more_than_its_tables_only_where_listed():
    assert set().union(*(contradictions(*claim) for claim in unreserved_claims())) == listed("claim")


def test_general_statements_have_exactly_the_listed_exceptions():
    found = set()
    for letter in "ab":  # 4.2: CNN A makes the stronger black-box attacks
        for model in ("cnn", *RAW, "cnn-adv", *ADV):
            found |= contradictions(f"7{letter} {model}", f"1{letter} {model}", columns_of(f"1{letter}"))
    for model in (*RAW, *ADV):  # Appendix H: the shortcut makes the weaker white-box attacks
        found |= contradictions(f"11 {model} via shortcut", f"11 {model} via e", columns_of("11"))
    assert found == listed("exception")


def test_white_box_attacks_are_weaker_than_black_box_ones_only_where_listed():
    by_measurement = cells_by_measurement()
    found = set()
    for (dataset, model, setting, attack, eps, source, _, path), cells in by_measurement.items():
        if (setting, source) == ("black-box", "cnn-a"):
            attacked = "e" if path else None
            white = by_measurement.get((dataset, model, "white-box", attack, eps, None, attacked, path))
            if white and white[0].accuracy > cells[0].accuracy:
                found.add(tuple(f"{c.table} {c.row}: {c.column}" for c in (cells[0], white[0])))
    assert found == listed("order")


def test_entries_name_the_tables_of_their_cells():
    for entry in INCONSISTENCIES:
        if entry.pairs:
            assert set(entry.tables) == {cell.table for pair in entry.pairs for cell in pair}, entry.note


# ---- numbers that the text names ----


def test_accuracies_that_section_4_2_quotes():
    assert value("1a cnn", "fgsm 0.3") == 40.03 and value("1a q-large", "fgsm 0.3") == 65.19
    assert value("1a cnn", "bim 0.3") == 16.02 and value("1a q-large", "bim 0.3") == 67.01
    assert value("1a q-large", "bim 0.3") > value("1a cnn-adv", "bim 0.3")


@pytest.mark.parametrize(
    ("model", "column", "points"),
    [
        ("q-base", "fgsm 0.3", 12),
        ("q-large", "fgsm 0.3", 25),
        ("q-base", "bim 0.3", 22),
        ("q-large", "bim 0.3", 51),
    ],
)
def test_points_that_the_layer_gains_over_the_cnn(model, column, points):
    gain = value(f"1a {model}", column) - value("1a cnn", column)
    assert points <= gain < points + 1 or round(gain) == points


def test_figure_2_shows_less_distortion_of_concepts_than_of_pixels():
    assert FIGURE_2["pixels"] == float(KL_LINES["pixel"])
    assert FIGURE_2["concepts"] == float(KL_LINES["concept"])
    assert FIGURE_2["concepts"] < FIGURE_2["pixels"]
