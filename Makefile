PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: install eval test test-all test-compiled test-exhaustive lint docs clean

install: $(READY)  ## set up the environment: analogmed with its tools for tests and documents, in .venv

eval: $(READY)  ## evaluate a U-Net on ReRAM and PCM chips, and write runs/demo/report.html
	$(BIN)/python -m analogmed demo

# keeps bytecode even if the environment, as in many containers, forbids it: else each worker compiles all tests every time;
# the order of the files is that of tests/conftest.py
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(READY)  ## run the tests that are quick, in five minutes on two cores
	$(PYTEST) -m "not slow and not exhaustive"

test-all: $(READY)  ## run these and the slow ones, as CI does
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

docs: $(READY)  ## build the documentation as a site into build/docs/, with all links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# pip compiles on one core only; files that are no Python of this version are left out, as by pip
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else 'analogmed needs Python 3.11 to 3.13, this is %d.%d; choose one: make PYTHON=python3.11' % v)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
