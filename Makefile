# Every verb does its own set-up: a clone, Python 3.11+ and make are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One thread a process: two test workers with two threads each fight over two cores. Each begins with an equal part of
# the tests, and takes half of what another has left when its own are done.
TEST_WORKERS ?= 2
# A Python with torch for CUDA, CuPy, cuda-bindings, NumPy, click, safetensors and pytest.
PYTHON_GPU ?= python3
# An example of the repository.
MODEL ?= shapes

.PHONY: demo test lint bench bench-convert quality families chaos fuzz gpu help
.DEFAULT_GOAL := help

help:  ## list these verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(INSTALLED)  ## calibrate three recipes, make videos with each, leave demo/index.html; MODEL=gen1: edits of videos
	$(BIN)/quant demo --example $(MODEL) --out demo --force

test: lint  ## everything CI runs: lint, then the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal --durations 15 -q

lint: $(INSTALLED)  ## ruff, mypy strict, and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	# import-linter follows no symbolic links and wants packages: it reads a copy with the links resolved.
	rm -rf build/imports && mkdir -p build/imports && cp -RL quant build/imports/
	touch build/imports/quant/kernels/__init__.py build/imports/quant/eval/__init__.py
	cd build/imports && ../../$(BIN)/lint-imports ../../.importlinter --no-logo

bench: $(INSTALLED)  ## measure speed on this machine into benchmarks/results/
	$(BIN)/python benchmarks/linear.py

bench-convert: $(INSTALLED)  ## measure quant convert against cp and fsync on this disk: half an hour, 70 GB
	$(BIN)/python -m benchmarks.convert
	$(BIN)/python -m benchmarks.readme

quality: $(INSTALLED)  ## measure what every recipe costs in quality, beside ModelOpt and SDNQ: some hours an example
	$(BIN)/python -m pip install -q --no-deps --group rivals
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality --jobs $(TEST_WORKERS)
	$(BIN)/python -m benchmarks.readme

families: $(INSTALLED)  ## try every recipe on every video model of diffusers, into docs/families.md: half an hour
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m benchmarks.families
	$(BIN)/python -m benchmarks.readme

chaos: $(INSTALLED)  ## kill and disturb 200 runs of calibrate, run each again, and count what is lost: ten minutes
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.chaos --kills 200
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.chaos.eval_runs 20

fuzz: $(INSTALLED)  ## read 20,000 mutated files, and count what is not refused in one line: half an hour
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.fuzz --mutations 20000

# Not the environment above, whose torch has no CUDA: a machine with a GPU brings its own.
gpu:  ## check and measure everything on this machine's GPU: PYTHON_GPU=python3 GPU_OPTIONS='--quick'
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON_GPU) -m benchmarks.gpu $(GPU_OPTIONS)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@
