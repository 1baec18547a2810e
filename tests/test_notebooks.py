"""What every chapter has: goals, prerequisites, measured run time, summary, exercises with tested solutions.

That a chapter runs, and that it is normalised (`make format`), is checked beside this by `make test`.
"""

import ast
import copy
import json
import re
import shutil
import subprocess
import sys

import nbclient
import nbformat
import pytest
import website
from jupyter_cache import get_cache

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


def run_by_nbval(folder, **chapters: list[str]):
    """Let nbval run chapters of these cells, and return them with the cache that the book's build would look into."""
    book = folder / "book"
    book.mkdir()
    shutil.copy(website.ROOT / "book" / "conftest.py", book)
    made = {}
    for name, sources in chapters.items():
        made[name] = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(made[name], book / f"{name}.ipynb")
    options = ["-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, book], capture_output=True, text=True)
    return made, get_cache(folder / "_build" / ".jupyter_cache"), done.stdout


def test_the_book_shows_what_nbval_has_run(tmp_path):
    """Streams, results, pictures that change, and widgets: as the book's own execution keeps them."""
    made, cache, said = run_by_nbval(
        tmp_path,
        chapter=[
            "from IPython.display import HTML, clear_output, display\nimport ipywidgets",
            "print(1)\nclear_output()\nprint(2)\nHTML('<b>3</b>')",
            "place = display(HTML('before'), display_id=True)",
            "place.update(HTML('after'))\n_, slider = 1, ipywidgets.IntSlider(4)\nslider",
            "slider.value = 5",
        ],
    )
    assert "5 passed" in said
    _, kept = cache.merge_match_into_notebook(made["chapter"])
    expected = nbclient.execute(copy.deepcopy(made["chapter"]))
    for ours, theirs in zip(kept.cells, expected.cells, strict=True):
        assert [one.output_type for one in ours.outputs] == [one.output_type for one in theirs.outputs]
        for one, other in zip(ours.outputs, theirs.outputs, strict=True):
            assert one.get("text") == other.get("text")
            assert one.get("data", {}).get("text/html") == other.get("data", {}).get("text/html")
    assert kept.cells[2].outputs[0].data["text/html"] == "after"
    assert kept.metadata.language_info == expected.metadata.language_info
    values = []
    for notebook in (kept, expected):
        (state,) = (one["state"] for one in notebook.metadata.widgets.values())
        values.append([(one["model_name"], one["state"].get("value", 0)) for one in state.values()])
        (view,) = (
            one.data["application/vnd.jupyter.widget-view+json"]["model_id"]
            for one in notebook.cells[3].outputs
        )
        assert state[view]["state"]["value"] == 5
    assert values[0] == values[1]  # and in the order in which they were made


def test_the_book_is_not_given_a_chapter_that_fails(tmp_path):
    made, cache, said = run_by_nbval(tmp_path, chapter=["a = 1", "assert a == 2", "a"])
    assert "1 failed, 2 passed" in said
    with pytest.raises(KeyError):
        cache.match_cache_notebook(made["chapter"])
