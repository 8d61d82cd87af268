# `make demo` and `make test` need only Python 3.11+ and make: they install everything else into .venv.
PYTHON ?= python3
BIN := .venv/bin

# Settings under which this machine computes as others do.
PROCESSORS := OPENBLAS_CORETYPE=Haswell OPENBLAS_CORETYPE=SKYLAKEX OPENBLAS_CORETYPE=ZEN FAISS_OPT_LEVEL=generic \
	FAISS_OPT_LEVEL=avx2 OMP_NUM_THREADS=1 NUMBA_CPU_NAME=generic

.PHONY: demo test slow notebooks lint docs clean processors

demo: .venv/.demo
	$(BIN)/resight demo --to demo-out

test: .venv/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

slow: .venv/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow

# Five notebooks, each from its first to its last cell.
notebooks: .venv/.dev
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 docs/notebooks

processors: .venv/.dev
	for one in $(PROCESSORS); do echo $$one; env $$one $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" || exit 1; done

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, below site/; a broken link is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "resight needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[demo,serve]"
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

.venv/.docs: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $@

clean:
	rm -rf .venv demo-out site
