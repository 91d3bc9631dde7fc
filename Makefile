PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
READY_DOCS := $(VENV)/.installed-docs

.PHONY: install eval test test-ci test-all test-compiled test-exhaustive lint docs clean

install: $(READY)  ## set up the environment: analogmed with its tools for tests, in .venv

eval: $(READY)  ## evaluate a U-Net on ReRAM and PCM chips, and write runs/demo/report.html
	$(BIN)/python -m analogmed demo

# keeps bytecode even if the environment, as in many containers, forbids it: else each worker compiles all tests every time
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile

test: $(READY)  ## run the tests that are quick, in five minutes on two cores
	$(PYTEST) -m "not slow and not long and not exhaustive"

test-ci: $(READY)  ## run these and the slow ones, as CI does
	$(PYTEST) -m "not long and not exhaustive"

test-all: $(READY)  ## run these and the long ones: killed runs, several processes, notebooks, programs
	$(PYTEST) -m "not exhaustive"

test-compiled: $(READY)  ## compare with aihwkit's compiled tile, which runs with this torch on Python 3.13 only
	$(PYTEST) -m compiled_tile tests/analog/tile

test-exhaustive: $(READY)  ## run hundreds of random networks, damaged files and simulations: hours
	$(PYTEST) -m exhaustive

lint: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY_DOCS)  ## build the documentation as a site into build/docs/, with all links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(READY_DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else 'analogmed needs Python 3.11 to 3.13, this is %d.%d; choose one: make PYTHON=python3.11' % v)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
