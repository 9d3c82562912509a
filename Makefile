# Each target builds its own environment in .venv; all that is needed is python3 (3.11 or later), pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: audit test lint bench format clean
.DELETE_ON_ERROR:

# The paper's audit on MovieLens ml-latest-small.
audit: $(VENV)/demo
	$(BIN)/recmia audit $(ARGS)

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Needs a C++ compiler, for LIBMF; and RECMIA_DATA, a folder that holds ml-latest-small.
bench: $(VENV)/bench
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/audit.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sweep.py
	OMP_NUM_THREADS=1 LK_NUM_THREADS=1 $(BIN)/python benchmarks/quality.py

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[demo,neural,implicit,peers,cluster,dp,report,dev]'
	touch $@

# LIBMF uses AVX only if it is built with it. Which of the two variables reaches the compiler depends on setuptools.
AVX := -O3 -march=native -mavx -DUSEAVX -pthread
$(VENV)/bench: $(VENV)/dev
	$(INSTALL) --editable '.[demo,neural,implicit,peers,cluster,dp,report,dev,bench]'
	CFLAGS="$(AVX)" CXXFLAGS="$(AVX)" $(INSTALL) --force-reinstall --no-deps --no-binary libmf --no-cache-dir libmf
	touch $@
