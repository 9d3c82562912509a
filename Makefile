# Each target builds its own environment in .venv; all that is needed is python3 (3.11 or later), pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: audit test test-fast lint docs bench format clean
.DELETE_ON_ERROR:

# The paper's audit on MovieLens ml-latest-small.
audit: $(VENV)/demo
	$(BIN)/recmia audit $(ARGS)

test: $(VENV)/dev $(VENV)-rectools/done
	$(BIN)/python -m pytest -n 2 --doctest-modules src tests $(ARGS)
	OMP_NUM_THREADS=1 $(VENV)-rectools/bin/python -m pytest tests/recommenders/test_rectools.py

# Unit tests and the examples of the docstrings: under a minute.
test-fast: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 -m "not statistical and not end_to_end" --doctest-modules src tests $(ARGS)

# The pages and the reference, as HTML in docs/_build.
docs: $(VENV)/dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

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
	rm -rf $(VENV) $(VENV)-rectools build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[demo,neural,implicit,peers,cluster,dp,docs,dev]'
	touch $@

# RecTools pins an older numpy on Python 3.11.
$(VENV)-rectools/done: pyproject.toml constraints-rectools.txt
	$(PYTHON) -m venv $(VENV)-rectools
	$(VENV)-rectools/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-rectools.txt \
		--editable . 'rectools[lightfm,torch]' hypothesis pytest
	touch $@

# LIBMF uses AVX only if it is built with it. Which of the two variables reaches the compiler depends on setuptools.
AVX := -O3 -march=native -mavx -DUSEAVX -pthread
$(VENV)/bench: $(VENV)/dev
	$(INSTALL) --editable '.[demo,neural,implicit,peers,cluster,dp,docs,dev,bench]'
	CFLAGS="$(AVX)" CXXFLAGS="$(AVX)" $(INSTALL) --force-reinstall --no-deps --no-binary libmf --no-cache-dir libmf
	touch $@
