# Every target makes the environment it needs: python3 (3.10 or later) and pip are enough.
PYTHON ?= python3
PY = .venv/bin/python
DEMO_PY = .venv-demo/bin/python
PEERS_PY = .venv-peers/bin/python
PEERS = numpy jax numexpr numba scipy onnx onnxruntime
JOBS ?= 2
SOURCES := $(shell find accel -name '*.py')

.PHONY: demo test test-pure test-torch lint fuzz bench docs clean

demo: .venv-demo/installed  ## train the digits model, without torch
	$(DEMO_PY) examples/demo.py

test: lint test-pure test-torch  ## everything that must be green

test-pure: .venv/installed  ## the suite and the doctests while torch cannot be imported
	ACCEL_TEST_BLOCK_TORCH=1 $(PY) -m pytest -q -n $(JOBS) --doctest-modules \
		--doctest-glob='*.md' accel tests README.md docs

test-torch: .venv/installed  ## the tests that need torch
	$(PY) -m pytest -q -n $(JOBS) -m "torch and not cuda" tests

lint: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m mypy

fuzz: .venv/installed  ## 20,000 random graphs on every target
	$(PY) -m accel.testing.fuzz --graphs 20000

bench: .venv/installed .venv-peers/installed  ## accel beside the libraries its users come from
	$(PY) -m benchmarks
	$(PY) -m benchmarks.compile_time

docs: .venv/installed
	$(PY) -m pip install -q -e '.[docs]'
	$(PY) -m mkdocs build

# The stamps keep a second run from installing anything again.
.venv/installed: pyproject.toml
	$(call make_venv,.venv)
	$(PY) -m pip install -q -e '.[test]'
	touch $@

.venv-peers/installed: pyproject.toml
	$(call make_venv,.venv-peers)
	$(PEERS_PY) -m pip install -q $(PEERS)
	touch $@

.venv-demo/dependencies: pyproject.toml
	$(call make_venv,.venv-demo)
	$(DEMO_PY) -m pip install -q .
	touch $@

.venv-demo/installed: .venv-demo/dependencies $(SOURCES)
	$(DEMO_PY) -m pip install -q --no-deps --force-reinstall .
	touch $@

define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "accel needs Python 3.10 or later: make PYTHON=python3.x")'
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

clean:
	rm -rf .venv .venv-demo .venv-peers build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .benchmarks examples/out
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
