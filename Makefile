# Everything needs only Python 3.10 or newer with its venv module, make and a package registry.
# pip is used as you have it configured: indexes, mirrors, find-links.
#
#   make demo       run a real notebook on a shared torch
#   make test       run the tests, but for those of whole systems
#   make test-system  run those of whole systems: JupyterHub, Slurm, browsers, clients, warm starts; faults, pages of docs ...
#   make test-warm  run those that start kernels again, with warm starts
#   make test-oldest  run those that meet other packages with the oldest ones that pyproject.toml allows
#   make test-cuda  run the tests on a real CUDA base (several GB, no GPU needed)
#   make test-gpu   run the tests that compute on this machine's GPU, with its own torch, without network
#                   (TORCH=python3 names an interpreter that imports it; see docs/cuda.md)
#   make check      lint and types
#   make format     lay the code out
#   make lab        build the extension of JupyterLab and Notebook 7 (needs Node.js 20, as no other does)
#   make check-lab  lint and test it, build it, and compare that with what is committed
#   make bench      measure everything, beside the alternatives, and write docs/benchmarks.md (an hour)
#   make corpus     try the packages of benchmarks/corpus.txt, and write docs/corpus.md
#   make corpus-imports  import each of their modules from the wheel store, beside private environments (an hour)
#   make dist       make the sdist and the wheel in dist/, and check them as a package index does
#   make clean      remove what these made, .venv included
#
# Another Python: make PYTHON=python3.12 test   (after make clean, where .venv has another)
# Some tests:     make test ARGS="tests/test_request.py -x"
# A busy machine: KERNEL_PROVISIONER_TEST_PATIENCE=3 make test   (every deadline of the tests three times as long)
# Tests wait more than they work: six workers on two cores. Others: make test WORKERS=12

PYTHON ?= python3
ARGS ?=
WORKERS ?= 6
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder
LAB := share/jupyter/labextensions/kernel-provisioner
SHIPPED := pyproject.toml $(wildcard share/jupyter/kernels/torch/* $(LAB)/*.json share/etc/*/*)

# Workers read the bytecode that the first of them has written, wherever the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-system test-oldest test-warm test-cuda test-gpu wheels check lint types format lab check-lab bench corpus corpus-imports dist clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#  *\(make [a-z-]*  .*\)/\1/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/jupyter-overlay demo $(ARGS)

test: $(VENV)/.with-test
	$(PYTEST) -m 'not system' $(ARGS)

test-system: $(VENV)/.with-test
	$(PYTEST) -m system $(ARGS)

# The oldest of what it needs itself, as uv resolves it; what the tests need besides is the newest.
OLDEST_TESTS := $(addprefix tests/test_,$(addsuffix .py, base_adopt clients_argv clients_batch end_to_end \
    in_notebook launch_argv launch_never_raises notebook_find notebook_read resolution server_rest settings uv))

test-oldest: $(VENV)/.installed
	mkdir -p build
	$(BIN)/uv pip compile --quiet --no-deps --resolution lowest-direct --output-file build/oldest.txt pyproject.toml
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --constraint build/oldest.txt --editable '.[test]'
	.venv-oldest/bin/python $(wordlist 2,99,$(PYTEST)) -m 'not slow' $(OLDEST_TESTS) $(ARGS)

test-warm: $(VENV)/.with-test
	KERNEL_PROVISIONER_TEST_WARM=1 $(PYTEST) -m torch $(ARGS)

test-cuda: $(VENV)/.with-test
	$(BIN)/python -m pytest -m cuda $(ARGS)

# On a machine without network: make wheels on one that has it, carry that directory over, and there
# make test-gpu PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels
TORCH ?= $(PYTHON)

wheels: $(VENV)/.made
	$(BIN)/python -m pip wheel --wheel-dir wheels '.[test]' hatchling editables pip

test-gpu: $(VENV)/.with-test
	KERNEL_PROVISIONER_TEST_GPU_TORCH=$$(command -v $(TORCH)) $(BIN)/python -m pytest -m gpu $(ARGS)

check: lint types

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python docs/prose.py

types: $(VENV)/.with-lint $(VENV)/.with-test
	$(BIN)/mypy

format: $(VENV)/.with-lint
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

lab: labextension/node_modules
	cd labextension && npm run --silent build

check-lab: labextension/node_modules
	cd labextension && npm run --silent check && npm run --silent test
	rm -rf build/lab && mkdir -p build && cp -r $(LAB) build/lab
	$(MAKE) lab
	diff -r build/lab $(LAB)  # a difference: commit what make lab has built

labextension/node_modules: labextension/package-lock.json
	cd labextension && npm ci --no-progress
	touch $@

bench: $(VENV)/.with-bench $(VENV)/.with-test
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/launch.py --json benchmarks/results/launch.json $(ARGS)
	$(BIN)/python benchmarks/launch.py --many --ready-store --rounds 15 --json benchmarks/results/launch_many.json
	$(BIN)/python benchmarks/launch.py --deleted 20000 --ready-store --rounds 15 --json benchmarks/results/launch_deleted.json
	$(BIN)/python benchmarks/first_import.py --json benchmarks/results/first_import.json $(ARGS)
	$(BIN)/python benchmarks/warm.py --json benchmarks/results/warm.json $(ARGS)
	$(BIN)/python benchmarks/crowd.py --json benchmarks/results/crowd.json $(ARGS)
	$(BIN)/python benchmarks/alternatives.py --json benchmarks/results/alternatives.json $(ARGS)
	$(BIN)/python benchmarks/store.py --json benchmarks/results/store.json $(ARGS)
	$(BIN)/python benchmarks/disk.py --json benchmarks/results/disk.json
	$(BIN)/python benchmarks/click.py --json benchmarks/results/click.json
	$(BIN)/python benchmarks/panel.py --json benchmarks/results/panel.json
	$(BIN)/python benchmarks/page.py

corpus: $(VENV)/.installed
	$(BIN)/python benchmarks/corpus.py $(ARGS)

corpus-imports: $(VENV)/.installed
	$(BIN)/python benchmarks/corpus_imports.py --json benchmarks/results/corpus_imports.json $(ARGS)

dist: $(VENV)/.with-test
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist test-artefacts labextension/node_modules labextension/lib .pytest_cache .mypy_cache .ruff_cache .hypothesis
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
