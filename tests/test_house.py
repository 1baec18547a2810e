"""The house rules: which wing may use which, no circles, small modules, and an import that leaves no trace."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qlayer_core

PACKAGE = Path(qlayer_core.__file__).parent
ROOT = PACKAGE.parent


def name_of(path: Path) -> str:
    """Return a module's name, ``"show.plot"``; a package's own is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


PATHS = {name_of(path): path for path in PACKAGE.rglob("*.py")}
WINGS = ("study", "show")


def imports(path: Path, functions_too: bool = True) -> set[str]:
    """Return the modules of the package that a module imports, by the names of `PATHS`."""
    found = set()
    tree = ast.parse(path.read_text())
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not functions_too and node in inside:
            continue
        assert not getattr(node, "level", 0), f"{path} imports by dots, which this does not follow"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "qlayer_core":
            base = ".".join(node.module.split(".")[1:])
            below = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {one if one in PATHS else base for one in below}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("qlayer_core.")
                for alias in node.names
                if "qlayer_core." in alias.name
            }
    return found - {""}


def wing(module: str) -> str:
    first = module.split(".")[0]
    return first if first in WINGS else "core"


@pytest.mark.parametrize("module", sorted(PATHS))
def test_show_may_use_the_study_and_the_core_the_study_the_core_and_the_core_neither(module):
    allowed = {"show": {"show", "study", "core"}, "study": {"study", "core"}, "core": {"core"}}[wing(module)]
    if module == "__main__":  # it starts what it is asked for, and belongs to no wing
        allowed = {"study", "core"}
    assert {wing(other) for other in imports(PATHS[module])} <= allowed


def test_no_module_leads_back_to_itself():
    graph = {module: imports(path) - {module} for module, path in PATHS.items()}
    # A package's own file gathers its modules, and these never import it.
    for package in ("attacks", "show", "study", ""):
        graph.pop(package, None)
    done: set[str] = set()

    def follow(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module not in done:
            for other in sorted(graph.get(module, ())):
                follow(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        follow(module, ())


def test_modules_of_a_package_do_not_import_the_package_itself():
    for module, path in PATHS.items():
        package = module.rpartition(".")[0]
        assert not package or package not in imports(path), f"{module} imports its own package {package}"


@pytest.mark.parametrize("module", sorted(PATHS))
def test_a_module_can_be_read_in_one_sitting(module):
    assert len(PATHS[module].read_text().splitlines()) <= 350


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_importing_the_package_changes_nothing_in_its_host():
    state = (
        "dict(os.environ), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(),"
        " torch.random.get_rng_state().tolist(), torch.are_deterministic_algorithms_enabled(),"
        " torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, matplotlib.rcParams.copy(),"
        " torch.get_float32_matmul_precision(), list(warnings.filters)"
    )
    everything = ", ".join(f"qlayer_core.{name}" for name in sorted(PATHS) if name and name != "__main__")
    code = (
        f"import os, warnings, torch, matplotlib, pandas, seaborn, ipywidgets, IPython\nbefore = {state}\n"
        f"import qlayer_core, {everything}\nprint(before == ({state}))"
    )
    assert python(code) == "True"


def test_memory_is_only_kept_by_programs_that_ask_for_it():
    """What `fast.keep_memory` tells the C library holds for the whole process, so no import may call it."""
    for module, path in PATHS.items():
        tree = ast.parse(path.read_text())
        at_import = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert "keep_memory()" not in "".join(map(ast.unparse, at_import)), module


def test_the_grid_is_listed_without_torch():
    code = (
        "import sys\nfrom qlayer_core.__main__ import main\nmain(['runs'])\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert python(code).splitlines()[-1] == "False False"


READ = sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("book/*.md"), *(PACKAGE / "show").glob("*.py")])


@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_two_networks_of_the_same_training_are_said_to_be_trained_alike_or_what_else_is_meant(path):
    """The words fit "both raw" and "trained by every setting of the other": whose a loss is hangs on which it is.

    For the second the book says "trained alike". The name of the network, ``cnn-same-training``, goes free.
    """
    text = path.read_text().replace("cnn-same-training", "").replace(r"\n", " ").replace(r"\"", '"')
    text = re.sub(r'"[\s",]*f?"', "", text)  # a sentence runs on from one string to the next
    assert not re.search(r"\bsame[-\s]+training\b", text, re.IGNORECASE)
