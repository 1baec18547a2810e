"""Figures carry their text alternative and the page's colours; cells that lack what they need are skipped."""

import ast
import json
import re
from xml.etree import ElementTree

import pytest
from IPython.core.interactiveshell import InteractiveShell

from qlayer_core import drawing, paths, results


@drawing.picture
def line(alternative: str):
    figure, grid = drawing.axes(4, 2)
    grid[0, 0].plot([0, 1], [0, 1])
    grid[0, 0].set_title("a title")
    return figure, alternative


def test_a_figure_is_one_svg_with_its_text_alternative():
    markup = line('less < more & "more"')
    (svg,) = ElementTree.fromstring(markup.html)
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == 'less < more & "more"' == repr(markup)


def test_text_stays_text_in_the_colours_of_the_page():
    html = line("").html
    assert re.search(r"<text[^>]*>a title</text>", html)
    assert "var(--pst-color-text-base" in html
    assert drawing.TEXT not in html.replace(f"{drawing.TEXT})", "")  # only as the variable's fallback


def test_a_figure_scales_with_the_page():
    html = line("").html
    svg = html[: html.index(">", html.index("<svg"))]
    assert "width: 100%; max-width: 384px" in svg  # 4 inches
    assert not re.search(r'\s(width|height)="', svg)


def test_the_same_drawing_gives_the_same_bytes():
    assert line("").html == line("").html


def test_a_table_names_its_rows_and_columns():
    html = drawing.table([["one", "1"]], ["", "value"], "caption").html
    assert '<th scope="row">one</th><td>1</td>' in html
    assert '<th scope="col">value</th>' in html
    assert ">caption</figcaption>" in html


def test_curves_say_where_they_begin_and_end():
    assert "a from 1 at 0 to 3 at 2" in drawing.curves({"a": ([0, 2], [1, 3])}, x="x", y="y").text


def test_counts_have_an_axis_of_whole_numbers():
    picture = drawing.curves({"none": ([1.0, 2.0], [0, 0])}, x="epoch", y="codes").html
    ticks = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    assert ticks.count("0") == 1 and not any(tick.startswith(("0.", "\N{MINUS SIGN}")) for tick in ticks)


def test_a_paragraph_is_escaped():
    assert drawing.paragraph("a < b").html == "<p>a &lt; b</p>"


def test_a_matrix_says_its_numbers():
    assert "r: c 2.5, d 0.0" in drawing.matrix([[2.5, 0]], ["r"], ["c", "d"]).text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (float("nan"), "-"), (12.345, "12.35")])
def test_a_missing_number_is_a_dash(value, text):
    assert drawing.decimal(value) == text


@pytest.fixture
def notebook(monkeypatch):
    """A shell in which the network `there` is trained and `missing` is not; returns what cells leave behind."""

    def load(dataset, name):
        if name == "missing":
            raise FileNotFoundError("make it <so>")

    shell = InteractiveShell()
    monkeypatch.setattr(drawing, "get_ipython", lambda: shell)
    monkeypatch.setattr(drawing.results, "load", load)
    shown = []
    monkeypatch.setattr(drawing, "display", shown.append)

    def run(*cells):
        shell.run_cell("from qlayer_core.drawing import need\nran = []")
        for cell in cells:
            shell.run_cell(cell).raise_error()
        return shell.user_ns["ran"]

    run.shown = shown
    return run


def test_cells_run_where_everything_is_there(notebook):
    assert notebook("need('there')", "ran.append(1)") == [1]
    assert not notebook.shown


def test_cells_are_skipped_until_the_next_that_asks(notebook):
    cells = ("need('there', 'missing')", "ran.append(1)", "ran.append(2)", "need('there')", "ran.append(3)")
    assert notebook(*cells) == [3]


def test_what_is_missing_is_said_once_with_its_remedy(notebook):
    notebook("need('missing')", "ran.append(1)", "need('missing')", "need()")
    assert len(notebook.shown) == 2  # once a question
    assert "make it &lt;so&gt;" in notebook.shown[0].html


def test_outside_a_notebook_a_missing_network_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(drawing, "get_ipython", lambda: None)
    monkeypatch.setattr(drawing.results, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="train mnist cnn"):
        drawing.need("cnn")


CHAPTERS = [json.loads(path.read_text()) for path in (paths.ROOT / "book").glob("*.ipynb")]
NEEDED = re.findall(
    r"^need\((.*)\)", "\n".join("".join(c["source"]) for n in CHAPTERS for c in n["cells"]), re.MULTILINE
)


@pytest.mark.parametrize(
    "name", sorted({name for names in NEEDED for name in ast.literal_eval(f"[{names}]")})
)
def test_what_the_chapters_need_is_released(name):
    """Else they would skip their cells, and every test of them would pass."""
    results.load("mnist", name)
    assert results.weights_path("mnist", name).is_relative_to(paths.WEIGHTS)
