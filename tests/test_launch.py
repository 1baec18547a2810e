"""Opened elsewhere, on Binder or Colab: what such a session installs is what the chapters need, and it is enough."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Collection, Iterable, Iterator

import nbformat
import pytest
import web
import website
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

PROJECT = tomllib.loads((website.ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {
    requirement.name: requirement
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"])
}
OLDEST_WIDGETS = "7.7.1"  # what Colab has installed: it knows no Stack


def test_binder_takes_a_python_that_the_book_runs_on():
    (version,) = re.findall(r"python-(\d+\.\d+)\s*$", (website.ROOT / "runtime.txt").read_text())
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])


def imported(code: str) -> set[str]:
    """Names of the modules that some code imports, as far as they are neither Python's nor the book's."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"qlayer_core"}


def cells() -> Iterator[str]:
    """The chapters' code, but for the launch cell and what goes to the shell."""
    for path in (website.ROOT / "book").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and cell.source != website.launch_cell():
                yield "\n".join(
                    line for line in cell.source.splitlines() if not line.lstrip().startswith(("!", "%"))
                )


def lacking(code: Iterable[str], named: Collection[str]) -> set[str]:
    """Modules that some code imports and that none of the packages ``named`` brings."""
    providers = importlib.metadata.packages_distributions()
    return {name for name in imported("\n".join(code)) if not set(providers.get(name, [])) & set(named)}


def test_launch_cell_installs_what_the_chapters_import():
    found = lacking(cells(), REQUIRED)
    assert not found, f"name what brings {found} in pyproject.toml: dependencies, or book"
    assert '-e "./the-book[book]"' in website.launch_cell()


def test_the_package_installs_what_it_imports():
    modules = (path.read_text() for path in (website.ROOT / "qlayer_core").rglob("*.py"))
    found = lacking(modules, [Requirement(one).name for one in PROJECT["dependencies"]])
    found -= {"sklearn"}  # one data set needs it, and it comes with what the chapters import
    assert not found, f"name what brings {found} in pyproject.toml: dependencies"


def test_widgets_of_colab_are_too_old_and_replaced():
    """Version 7 has no Stack, on which every explorer stands: the launch cell brings a newer one."""
    assert OLDEST_WIDGETS not in REQUIRED["ipywidgets"].specifier


def test_figures_and_explorers_work_with_the_oldest_packages_allowed(tmp_path):
    """In an environment of their own; but for PyTorch, of which a second copy is gigabytes."""
    bounds = [
        f"{name}=={part.version}"
        for name, requirement in REQUIRED.items()
        for part in requirement.specifier
        if part.operator == ">=" and name not in ("torch", "torchvision")
    ]
    assert any(bound.startswith("ipywidgets") for bound in bounds)
    venv.create(tmp_path, with_pip=False)
    python = tmp_path / "bin" / "python"
    (own,) = tmp_path.glob("lib/python*/site-packages")
    (own / "rest.pth").write_text(sysconfig.get_path("purelib"))  # what is not among them comes from here
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        *bounds,
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        web.missing(f"{bounds} could not be fetched: {done.stderr[-300:]}")
    tests = sorted((website.ROOT / "tests").glob("test_show_*.py"))
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *tests], cwd=website.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    names = [Requirement(bound).name for bound in bounds]
    asked = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([python, "-c", asked, *names], capture_output=True, text=True, check=True).stdout
    for bound, version in zip(bounds, found.split(), strict=True):
        assert version in Requirement(bound).specifier  # what was tested is what was to be


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
def test_launch_cell_runs(tmp_path, stale):
    """In a session that has no book: it fetches one, asks pip for the rest, and says so where a restart is needed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    git = programs / "git"
    git.write_text(f'#!/bin/sh\nfor last; do :; done\nln -s "{website.ROOT}" "$last"\n')
    git.chmod(0o755)
    session = f"""
import importlib.util, json, sys
from IPython.core.interactiveshell import InteractiveShell
known = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "qlayer_core" else known(name, *rest)
import numpy
if {stale}:
    numpy.__version__ = "1.0"
result = InteractiveShell.instance().run_cell(sys.argv[1])
print(json.dumps([repr(result.error_in_exec), sys.path[0]]))
"""
    # pip only says what it would do, and has nothing to fetch: all of it is installed here
    surroundings = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_DRY_RUN": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", session, website.launch_cell()],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    error, first = json.loads(done.stdout.strip().splitlines()[-1])
    assert first == "the-book"
    assert ("Restart the kernel" in error) == stale


def test_older_launch_cell_is_replaced(tmp_path, monkeypatch):
    """`make format` puts one launch cell behind the title, whatever an earlier one said."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text((website.ROOT / "_config.yml").read_text())
    monkeypatch.setattr(website, "ROOT", tmp_path)
    older = "# Where the book is not installed, as on Colab, fetch it first.\nimport sys"
    cells = [nbformat.v4.new_markdown_cell("# A chapter"), nbformat.v4.new_code_cell(older)]
    path = tmp_path / "book" / "01-chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    website.write_launch_cells()
    found = nbformat.read(path, as_version=4).cells
    assert [cell.source for cell in found] == ["# A chapter", website.launch_cell()]
