# Everything a reader or author runs. `make` alone lists it. Each target sets up what it needs by itself.

PYTHON ?= python3
BIN := .venv/bin
WEB := book/_web
# The files that find finds, as names of prerequisites.
found = $(shell find $(1) | sed 's/ /\\ /g')
# Not byte code, which merely running it makes.
CODE := $(call found,qlayer_core -name __pycache__ -prune -o -type f -print)
# Byte code is made of what is imported, when it is: making all of it takes 40 seconds.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# Where a system forbids it, each kernel and worker would compile all that it imports anew: two thirds of its start.
unexport PYTHONDONTWRITEBYTECODE

# Chapters are committed with execution counts, and with outputs only where a cell is tagged keep_output.
NBSTRIPOUT := $(BIN)/nbstripout --keep-count --extra-keys "cell.metadata.execution metadata.language_info.version"

# Each file of tests goes to one worker (tests/conftest.py): the longest first, so that none waits in the end.
LONGEST := $(addprefix tests/test_,site.py web_engines.py launch.py fast_paths.py export.py workflow.py) \
  $(addprefix book/,07-your-own-network.ipynb 01-fooling-a-network.ipynb 13b-the-ladder.ipynb 05-training.ipynb)
longest_first = $(filter $(1),$(LONGEST)) $(filter-out $(LONGEST),$(sort $(1)))
# Tests that need the built site and a browser, and those that don't.
SITE_TESTS := $(call longest_first,$(wildcard tests/test_site.py tests/test_lab*.py tests/test_web*.py))
UNIT_TESTS := $(call longest_first,$(filter-out $(SITE_TESTS),$(wildcard tests/test_*.py)))
CHAPTERS := $(call longest_first,$(wildcard book/*.ipynb))
PYTEST := $(BIN)/python -m pytest -q
SHARED := --dist loadfile --no-loadscope-reorder

.PHONY: help book units notebooks site test live reproduce bench format timings clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name what; \
	do printf '  make %-10s %s\n' "$$name" "$$what"; done

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) -r requirements.txt
	touch $@

# What the benchmarks compare with.
.venv/.benchmarks: .venv/.installed benchmarks/requirements.txt
	$(PIP) -r benchmarks/requirements.txt
	touch $@

# The page's JavaScript, by the lock file, with the node that requirements.txt brings.
vendor/.installed: .venv/.installed $(WEB)/package-lock.json $(WEB)/website.py
	cd $(WEB) && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --ignore-scripts --no-audit --no-fund
	$(BIN)/python $(WEB)/website.py scripts
	touch $@

# The attack lab's networks, packed for the page anew when the package or the released weights change.
vendor/lab/manifest.json: vendor/.installed $(WEB)/export.py $(CODE) $(wildcard data/weights/*/*)
	rm -rf vendor/lab
	$(BIN)/python $(WEB)/export.py vendor/lab

# The start page's digits, attacked beforehand.
# The page's sentences on what was found follow from every recorded result.
vendor/start/start.json: vendor/.installed $(WEB)/start.py $(CODE) $(wildcard data/weights/mnist/*) $(call found,data/results -name '*.json')
	$(BIN)/python $(WEB)/start.py vendor/start

# Executed chapters are cached by their own code alone: forget them when what they import or read has changed.
_build/.fresh: .venv/.installed $(wildcard benchmarks/*.json) $(CODE) $(call found,data -type f)
	rm -rf _build
	mkdir _build
	touch $@

# Pages are always made anew, since a second run would not repeat the first one's warnings.
book: vendor/.installed vendor/lab/manifest.json vendor/start/start.json _build/.fresh  ## execute every chapter and build the site: _build/html/index.html
	rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build . -W --keep-going
	$(BIN)/python $(WEB)/website.py check

# Takes what the browsers leave of the processor: they often wait.
units: vendor/.installed .venv/.benchmarks
	nice -n 10 $(PYTEST) -n 2 $(SHARED) $(UNIT_TESTS)

# A chapter whose cells have passed goes to the book's cache (book/conftest.py), so that its build need not run it again.
notebooks: _build/.fresh
	$(PYTEST) -n 2 $(SHARED) --nbval-lax --nbval-current-env $(CHAPTERS)

# Three at a time, since browsers often wait. PICTURES=true leaves a picture of every page, in both modes and widths, in artifacts/.
site: notebooks
	$(MAKE) book
	$(PYTEST) -rs -n 3 $(SHARED) -m "not alone" $(SITE_TESTS)

test: vendor/.installed .venv/.benchmarks  ## lint, unit tests, every notebook, the book, and the built site in a real browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(NBSTRIPOUT) --verify book/*.ipynb || { echo 'A chapter is not normalised: run make format.'; exit 1; }
	OMP_NUM_THREADS=1 $(MAKE) -j 2 site units
	$(PYTEST) -m alone $(SITE_TESTS)

live: .venv/.installed  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --notebook-dir=. book/01-fooling-a-network.ipynb

# Words with commas; what is left out is as in workflow/config.yaml.
reproduce: .venv/.installed  ## train and measure what is not recorded yet, on all cores: JOBS=4 SEEDS=0,1 ONLY=table:8a
	$(BIN)/snakemake $(if $(PROFILE),--workflow-profile workflow/profiles/$(PROFILE) $(if $(JOBS),--jobs $(JOBS)),--cores $(or $(JOBS),all)) $(if $(SEEDS)$(ONLY),--config $(if $(SEEDS),'seeds=$(SEEDS)') $(if $(ONLY),'only=$(ONLY)'))

bench: .venv/.benchmarks  ## speed, side by side with what one would pick instead
	$(BIN)/python benchmarks/run.py

format: .venv/.installed  ## format the code and normalise the notebooks, as the tests want them
	$(BIN)/python $(WEB)/website.py launch
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(NBSTRIPOUT) book/*.ipynb

# Anew, since the last build may have shared the machine with tests.
timings: .venv/.installed  ## build the book anew, record how long each chapter took, and let the book say so
	rm -rf _build
	$(MAKE) book
	$(BIN)/python $(WEB)/website.py timings
	$(NBSTRIPOUT) book/*.ipynb

clean:  ## remove what was built; the environment, data, results and runs stay
	rm -rf _build vendor artifacts $(WEB)/node_modules
