"""Cells of a chapter that lack what they need are skipped; what there is must be what was measured."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from qlayer_core import files
from qlayer_core.show import need
from qlayer_core.study import records, variants


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Empty folders; returns a function that leaves weights and record of a model behind."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        monkeypatch.setattr(records, name, tmp_path / name.lower())

    def train(name: str, recorded: bytes = b"weights") -> None:
        unit = records.unit("mnist", name)
        unit.released.parent.mkdir(parents=True, exist_ok=True)
        unit.released.write_bytes(recorded)
        record = records.new_record(unit) | {"weights_sha256": files.sha256(unit.released)}
        records.write(record)
        unit.released.write_bytes(b"weights")

    return train


@pytest.fixture
def notebook(trained, monkeypatch):
    """A shell in which `cnn` is trained and nothing else; returns what cells leave behind."""
    trained("cnn")
    shell = InteractiveShell()
    monkeypatch.setattr(need, "get_ipython", lambda: shell)
    shown = []
    monkeypatch.setattr(need, "display", shown.append)

    def run(*cells):
        shell.run_cell("from qlayer_core.show.need import need\nran = []").raise_error()
        for cell in cells:
            shell.run_cell(cell).raise_error()
        return shell.user_ns["ran"]

    run.shown = shown
    return run


def test_cells_run_where_everything_is_there(notebook):
    assert notebook("need('cnn')", "ran.append(1)") == [1]
    assert not notebook.shown


def test_cells_are_skipped_until_the_next_that_asks(notebook):
    cells = ("need('cnn', 'q-base')", "ran.append(1)", "ran.append(2)", "need('cnn')", "ran.append(3)")
    assert notebook(*cells) == [3]


def test_a_cell_that_only_speaks_of_it_is_skipped_too(notebook):
    assert notebook("need('q-base')", "ran.append('need(cnn)')", "need()") == []


def test_what_is_missing_is_said_once_with_its_remedy(notebook):
    notebook("need('q-base')", "ran.append(1)", "need('q-base')", "need()")
    assert len(notebook.shown) == 2  # once a question
    assert "python -m qlayer_core train mnist q-base --seed 0" in notebook.shown[0].html


def test_outside_a_notebook_a_missing_network_is_an_error(trained, monkeypatch):
    monkeypatch.setattr(need, "get_ipython", lambda: None)
    with pytest.raises(FileNotFoundError, match="train mnist cnn"):
        need.need("cnn")


def test_of_a_variant_the_record_is_enough(notebook):
    assert notebook("need('q-large/losses-x-10')", "ran.append(1)") == []
    assert "vary mnist q-large" in notebook.shown[0].html
    unit = variants.unit("mnist", "q-large", "losses-x-10")
    records.write(records.new_record(unit))
    assert notebook("need('q-large/losses-x-10')", "ran.append(1)") == [1]


def test_weights_that_were_not_measured_are_refused(trained):
    trained("cnn", recorded=b"others")
    with pytest.raises(ValueError, match="not the file that the recorded results were measured with"):
        need.need("cnn")


def test_a_ladder_must_be_there_and_complete(notebook, monkeypatch):
    assert notebook("need('cnn/ladder')", "ran.append(1)") == []
    assert "python -m qlayer_core adapt mnist cnn" in notebook.shown[0].html
    monkeypatch.setattr(need.ladder, "recorded", lambda dataset, others: {"cnn": {}})
    assert notebook("need('cnn/ladder')", "ran.append(1)") == [1]
