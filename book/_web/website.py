"""What the published site needs beside Jupyter Book: its JavaScript, a page check, the chapters' run times.

python book/_web/website.py scripts     copy the installed packages' page files to vendor/
python book/_web/website.py check       every page of _toc.yml was built, and no other
python book/_web/website.py timings     record how long each chapter took in the last build, and let the book say so
"""

import gzip
import json
import math
import re
import shutil
import sys
from pathlib import Path

import yaml

WEB = Path(__file__).resolve().parent
ROOT = WEB.parent.parent
SITE = ROOT / "_build" / "html"
INTRO = ROOT / "book" / "intro.md"
TIMINGS = ROOT / "book" / "timings.json"
STATED = re.compile(r"\b[Aa]bout \d+ seconds\b")

# package, files in it, folder below vendor/ (which the build copies into _static/)
WIDGETS = "@jupyter-widgets/html-manager"
SCRIPTS = [
    (WIDGETS, "dist/embed.js", "widgets"),
    (WIDGETS, "dist/*.woff2", "widgets"),  # its icon fonts, which it looks for beside it
    ("mathjax", "es5/startup.js", "mathjax"),
    ("mathjax", "es5/core.js", "mathjax"),
    ("mathjax", "es5/input/tex.js", "mathjax/input"),
    ("mathjax", "es5/output/chtml.js", "mathjax/output"),
    ("mathjax", "es5/output/chtml/fonts/tex.js", "mathjax/output/chtml/fonts"),
    ("mathjax", "es5/a11y/assistive-mml.js", "mathjax/a11y"),
    ("mathjax", "es5/input/tex/extensions/*.js", "mathjax/input/tex/extensions"),
    ("mathjax", "es5/output/chtml/fonts/woff-v2/*.woff", "mathjax/output/chtml/fonts/woff-v2"),
    ("onnxruntime-web", "dist/ort.wasm.bundle.min.mjs", "onnxruntime"),
    ("onnxruntime-web", "dist/ort-wasm-simd-threaded.wasm", "onnxruntime"),
]

# The second cell of every chapter, hidden on the site.
LAUNCH = """\
# Where the book is not installed, as on Colab, fetch it first, with what it needs.
import importlib.util
import sys
from importlib.metadata import version

if importlib.util.find_spec("qlayer_core") is None:
    !git clone --quiet --depth 1 {url} the-book
    !"{{sys.executable}}" -m pip install --quiet -e "./the-book[book]"
    sys.path.insert(0, "the-book")
    loaded = {{
        name: sys.modules[name]
        for name in ("ipywidgets", "numpy", "pandas")
        if name in sys.modules
    }}
    if any(
        module.__version__ != version(name)
        for name, module in loaded.items()
    ):
        raise SystemExit(
            "Restart the kernel once, then run all cells: it still holds packages of older versions."
        )"""


def pages() -> list[str]:
    """Document names in reading order, as _toc.yml lists them: `book/intro`, ..."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())

    def walk(node):
        if isinstance(node, list):
            return [page for child in node for page in walk(child)]
        here = [node[key] for key in ("root", "file") if key in node]
        below = [child for key in ("parts", "chapters", "sections") for child in walk(node.get(key, []))]
        return here + below

    return walk(toc)


def copy_scripts() -> None:
    """Fill vendor/ with the page files of the packages that `npm ci` installed."""
    vendor = ROOT / "vendor"
    shutil.rmtree(vendor, ignore_errors=True)
    for package, pattern, folder in SCRIPTS:
        found = sorted((WEB / "node_modules" / package).glob(pattern))
        if not found:
            raise SystemExit(f"{package} holds no {pattern}: run `npm ci` in book/_web, as `make book` does.")
        target = vendor / folder
        target.mkdir(parents=True, exist_ok=True)
        for file in found:
            if file.suffix == ".wasm":  # packed here, since few hosts pack it on its way
                packed = gzip.compress(file.read_bytes(), mtime=0)
                (target / f"{file.name}.bin").write_bytes(packed)
                # The page says how much it will load; not every server tells sizes beforehand.
                (target / "files.json").write_text(json.dumps({f"{file.name}.bin": len(packed)}))
            else:
                shutil.copy(file, target)


def check_pages() -> None:
    """Fail unless the built pages are exactly those of _toc.yml."""
    built = {str(page.relative_to(SITE).with_suffix("")) for page in (SITE / "book").glob("**/*.html")}
    listed = pages()
    if not (SITE / "index.html").is_file() or built != set(listed) or len(listed) != len(set(listed)):
        raise SystemExit(f"_toc.yml lists {sorted(listed)}\nbut the build made {sorted(built)}.")
    print(f"{len(built)} pages built, as _toc.yml lists them: {SITE / 'index.html'}")


def run_time(seconds: float) -> str:
    """How the book states a run time, in tens of seconds: machines differ by more."""
    return f"about {10 * max(1, math.ceil(seconds / 10))} seconds"  # "About" where a sentence begins


def record_timings() -> None:
    """Record the seconds that each chapter took when the build last executed it."""
    from jupyter_cache import get_cache

    records = get_cache(str(ROOT / "_build" / ".jupyter_cache")).list_cache_records()
    newest = {Path(r.uri).stem: r for r in sorted(records, key=lambda r: r.created)}
    chapters = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
    seconds = {name: round(newest[name].data["execution_seconds"], 1) for name in chapters}
    TIMINGS.write_text(json.dumps(seconds, indent=2) + "\n")
    print(TIMINGS.read_text())
    state_run_times(seconds)


def state_run_times(seconds: dict[str, float]) -> None:
    """Put recorded run times where the book says "about": below a chapter's title, and in the introduction's line."""
    import nbformat

    lines = INTRO.read_text().splitlines(keepends=True)
    for name, taken in seconds.items():
        path = ROOT / "book" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells[:4]:
            cell.source = STATED.sub(run_time(taken).capitalize(), cell.source)
        nbformat.write(notebook, path)
        lines = [STATED.sub(run_time(taken), line) if name in line else line for line in lines]
    INTRO.write_text("".join(lines))


def launch_cell() -> str:
    """Source of the cell that fetches the book from the repository that _config.yml names."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    return LAUNCH.format(url=config["repository"]["url"])


def write_launch_cells() -> None:
    """Put the launch cell behind each chapter's title, or bring it up to date."""
    import nbformat

    for path in (ROOT / "book").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        # by its first words, since what follows them may be new
        if not notebook.cells[1].source.startswith(" ".join(LAUNCH.split()[:7])):
            notebook.cells.insert(1, nbformat.v4.new_code_cell(metadata={"tags": ["remove-cell"]}))
        notebook.cells[1].source = launch_cell()
        nbformat.write(notebook, path)


if __name__ == "__main__":
    commands = {
        "scripts": copy_scripts,
        "check": check_pages,
        "timings": record_timings,
        "launch": write_launch_cells,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        raise SystemExit(f"usage: website.py {'|'.join(commands)}")
    commands[sys.argv[1]]()
