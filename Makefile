# Everything needs only Python 3.10 or newer with its venv module, make and a package registry.
# pip is used as you have it configured: indexes, mirrors, find-links.
#
#   make demo       run a real notebook on a shared torch
#   make test       run the tests (those that drive a browser say why they are skipped)
#   make test-warm  run those that start kernels again, with warm starts
#   make test-cuda  run the tests on a real CUDA base (several GB, no GPU needed)
#   make check      lint and types
#   make format     lay the code out
#   make bench      measure everything, beside the alternatives, and write docs/benchmarks.md (an hour)
#   make corpus     try the packages of benchmarks/corpus.txt, and write docs/corpus.md
#   make clean      remove what these made, .venv included
#
# Another Python: make PYTHON=python3.12 test   (after make clean, where .venv has another)
# Some tests:     make test ARGS="tests/test_request.py -x"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
SHIPPED := pyproject.toml $(wildcard share/jupyter/kernels/torch/*)

.PHONY: demo test test-warm test-cuda check lint types format bench corpus clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#  *\(make [a-z-]*  .*\)/\1/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/jupyter-overlay demo $(ARGS)

test: $(VENV)/.with-test
	$(BIN)/python -m pytest $(ARGS)

test-warm: $(VENV)/.with-test
	KERNEL_PROVISIONER_TEST_WARM=1 $(BIN)/python -m pytest -m torch $(ARGS)

test-cuda: $(VENV)/.with-test
	$(BIN)/python -m pytest -m cuda $(ARGS)

check: lint types

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.with-lint $(VENV)/.with-test
	$(BIN)/mypy

format: $(VENV)/.with-lint
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

bench: $(VENV)/.with-bench
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/launch.py --json benchmarks/results/launch.json $(ARGS)
	$(BIN)/python benchmarks/warm.py --json benchmarks/results/warm.json $(ARGS)
	$(BIN)/python benchmarks/crowd.py --json benchmarks/results/crowd.json $(ARGS)
	$(BIN)/python benchmarks/alternatives.py --json benchmarks/results/alternatives.json $(ARGS)
	$(BIN)/python benchmarks/store.py --json benchmarks/results/store.json $(ARGS)
	$(BIN)/python benchmarks/page.py

corpus: $(VENV)/.installed
	$(BIN)/python benchmarks/corpus.py $(ARGS)

clean:
	rm -rf $(VENV) build dist test-artefacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps lie inside the environment, so that they go when it goes.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "kernel-provisioner needs Python 3.10 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	touch $@

$(VENV)/.installed: $(VENV)/.made $(SHIPPED)
	$(PIP) --editable .
	touch $@

$(VENV)/.with-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.with-bench: $(VENV)/.installed
	$(PIP) --editable '.[bench]'
	touch $@

$(VENV)/.with-lint: $(VENV)/.installed
	$(PIP) --editable '.[lint]'
	touch $@
