.DEFAULT_GOAL := help
.PHONY: help setup run serve test check check-long bench ablations clean

# Everything runs in one environment that make builds itself. `make run EXTRA=gpu` takes the CUDA builds.
EXTRA ?= cpu
EXTRAS := $(EXTRA),llm-$(EXTRA),demo,dev
CONSTRAINTS := $(if $(filter gpu,$(EXTRA)),constraints-gpu.txt,constraints.txt)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(EXTRA)
STORE ?= ./store

# uv also looks in the folder of local wheels that pip is set to use. Otherwise EXTRA=cpu takes PyTorch's CPU build, and
# EXTRA=gpu the build on PyPI, whose CUDA release is the one that vLLM's build needs.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
else ifeq ($(EXTRA),cpu)
export UV_TORCH_BACKEND ?= cpu
endif
export RAYLEVANCE_STORE ?= $(STORE)
export RAY_USAGE_STATS_ENABLED = 0
export RAY_ENABLE_UV_RUN_RUNTIME_ENV = 0
# Each Ray actor is a process that imports torch: without cached bytecode it takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## make the environment (.venv); nothing where nothing changed

$(READY): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/uv || { python3 -m venv $(VENV) && $(BIN)/pip install --quiet "uv>=0.8"; }
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	@touch $@

run: $(READY)  ## data -> training -> index -> report, then three queries answered over HTTP
	$(BIN)/raylevance run mine-and-refine
	$(BIN)/raylevance serve --try "tan strappy heels for women" --try "wireless earbuds" --try "garden hose 50 ft"
	@echo "raylevance: 'make serve' answers from these models; the search page is then at http://127.0.0.1:8000/"

serve: $(READY)  ## answer over HTTP until interrupted, and open the search page, http://127.0.0.1:8000/
	$(BIN)/raylevance serve --open

test: $(READY)  ## the tests, but for the long ones, two files at a time: most of a test is waiting for processes to start
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder --timeout 900

check: $(READY)  ## ruff, mypy strict, layout
	test ! -e platform/__init__.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-long: $(READY)  ## the tests that take minutes: memory bounds, scale
	$(BIN)/python -m pytest -m long

bench: $(READY)  ## each speed figure beside its peer
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c $(CONSTRAINTS) -e '.[$(EXTRAS),bench]'
	for script in benchmarks/*_*.py; do $(BIN)/python $$script || exit 1; done

ablations: $(READY)  ## the recipe with one setting changed at a time, 3 seeds each; a killed run goes on
	$(BIN)/raylevance run judge --config workloads/studies/ablations_judge.yaml
	$(BIN)/raylevance run synthetic-queries --config workloads/studies/ablations_synthetic.yaml
	$(BIN)/raylevance run synthetic-queries --config workloads/studies/ablations_synthetic.yaml --set synthetic.only_unfound=false
	$(BIN)/raylevance run ablations --config workloads/studies/ablations.yaml

clean:  ## remove the environment (the store stays)
	rm -rf $(VENV)
