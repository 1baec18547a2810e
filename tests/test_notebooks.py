"""What every chapter has: goals, prerequisites, measured run time, summary, exercises with tested solutions.

That a chapter runs, and that it is normalised (`make format`), is checked beside this by `make test`.
"""

import ast
import json
import re

import nbformat
import pytest
import website

from qlayer_core.study import experiments, records

CHAPTERS = sorted((website.ROOT / "book").glob("*.ipynb"))
SLOWEST = 120  # seconds on two cores: a class waits no longer
EXERCISE = re.compile(r"^```+\{exercise(?:-start)?\}.*?^:label: (\S+)", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^```+\{solution(-start)?\} (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    notebook = nbformat.read(request.param, as_version=4)
    nbformat.validate(notebook)
    notebook.name = request.param.stem
    notebook.text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    notebook.opening = "\n".join(cell.source for cell in notebook.cells[:4] if cell.cell_type == "markdown")
    return notebook


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def recorded_seconds() -> dict[str, float]:
    """How long each chapter took when `make timings` was last run."""
    return json.loads(website.TIMINGS.read_text())


def test_says_first_what_it_is_for(chapter):
    assert chapter.cells[0].source.startswith("# ")
    for part in ("learning goals", "prerequisites"):
        assert part in chapter.opening.lower(), f"the first cells name no {part}"


def test_fetches_the_book_where_it_is_not_installed(chapter):
    assert chapter.cells[1].source == website.launch_cell(), "run `make format`"
    assert "remove-cell" in tags(chapter.cells[1])


def test_states_its_measured_run_time(chapter):
    """Say "About 10 seconds" below the title, and so in the introduction; `make timings` measures and corrects it."""
    seconds = recorded_seconds()[chapter.name]
    assert seconds < SLOWEST
    assert website.run_time(seconds).capitalize() in chapter.opening
    (line,) = [
        line
        for line in website.INTRO.read_text().splitlines()
        if line.startswith("|") and chapter.name in line
    ]
    assert website.run_time(seconds) in line


def test_ends_with_summary_and_exercises(chapter):
    headings = re.findall(r"^## (.*)$", chapter.text, re.MULTILINE)
    assert headings.index("Summary") < headings.index("Exercises")


def test_says_nothing_twice(chapter):
    """Two versions of a section would both stand in the page's contents."""
    headings = re.findall(r"^#+ (.*)$", chapter.text, re.MULTILINE)
    assert len(headings) == len(set(headings))


def test_every_exercise_has_a_hidden_solution(chapter):
    exercises = EXERCISE.findall(chapter.text)
    solutions = {label: options for _, label, options in SOLUTION.findall(chapter.text)}
    assert 3 <= len(exercises) <= 5
    assert set(solutions) == set(exercises)
    assert all(":class: dropdown" in options for options in solutions.values())


def test_solutions_run(chapter):
    """Code of a solution is in cells between solution-start and solution-end: build and nbval run them."""
    inside, runs = None, set()
    for cell in chapter.cells:
        if cell.cell_type == "code" and inside:
            runs.add(inside)
        elif cell.cell_type == "markdown":
            for gated, label, _ in SOLUTION.findall(cell.source):
                inside = label if gated else inside
                assert "```python" not in cell.source, f"the code of {label} would never run: make it a cell"
            inside = None if "{solution-end}" in cell.source else inside
    assert runs, "no solution has code that runs"


def test_checked_cells_have_something_to_check(chapter):
    """Without a stored output, nbval passes a cell that is tagged nbval-check-output without a look."""
    for cell in chapter.cells:
        if "nbval-check-output" in tags(cell):
            assert "keep_output" in tags(cell) and cell.outputs, (
                f"nothing is stored to compare: {cell.source[:60]}"
            )


def test_runs_on_any_python_kernel(chapter):
    assert chapter.metadata.kernelspec.name == "python3"


def test_every_chapter_is_in_the_contents():
    assert {f"book/{path.stem}" for path in CHAPTERS} <= set(website.pages())


def test_run_times_are_recorded_for_exactly_these_chapters():
    assert set(recorded_seconds()) == {path.stem for path in CHAPTERS}


def need_call(cell) -> ast.Call | None:
    """The call of `need` that a cell ends with."""
    if cell.cell_type != "code" or "need(" not in cell.source:
        return None
    return ast.parse(cell.source).body[-1].value


def needed() -> set[tuple[str, str]]:
    """Data set and model that chapters need, but for extras: variants and adversarially trained networks."""
    found = set()
    for path in CHAPTERS:
        for call in map(need_call, nbformat.read(path, as_version=4).cells):
            if call:
                words = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                found |= {(words.get("dataset", "mnist"), ast.literal_eval(name)) for name in call.args}
    return {
        (dataset, name)
        for dataset, name in found
        if "/" not in name and not experiments.spec(name).adversarial
    }


@pytest.mark.parametrize("dataset, name", sorted(needed()))
def test_what_the_chapters_need_is_released(dataset, name):
    """Else they would skip their cells, and every test of them would pass."""
    unit = records.unit(dataset, name)
    assert unit.record.exists() and unit.released.exists()


def test_what_is_only_there_to_skip_cells_is_not_shown(chapter):
    for cell in chapter.cells:
        if cell.cell_type == "code" and not {"remove-cell", "remove-input"} & set(tags(cell)):
            assert not re.search(r"\bneed\b", cell.source)


def test_visible_code_fits_the_page(chapter):
    for cell in chapter.cells:
        if cell.cell_type == "code" and not {"remove-cell", "remove-input"} & set(tags(cell)):
            assert max(map(len, cell.source.splitlines())) <= 76, cell.source
