# Every target sets up what it needs, once: .venv/.dev (light tools) and, where an engine is needed, .venv/.engine.
# A machine needs Python 3.11 or newer and make; for the engine, pip must find a CPU torch (requirements/engine-cpu.txt).

PYTHON ?= python3
REPEAT ?= 1
# How many cases `make differential` draws, and which: the same seed draws the same ones.
CASES ?= 100
SEED := $(or $(SEED),$(shell date +%s))
VENV := .venv
BIN := $(VENV)/bin
# -qq: one line of ours instead of pip's hundreds; errors still show.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help bench bench-harness demo differential mutants test test-fast test-faults test-gpu lint types clean

help: ## show this list (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.engine ## serve a small model on a local Ray, with hooks, and ask it a question (minutes; no GPU)
	@$(BIN)/python examples/demo.py

test: $(VENV)/.engine ## all tests, the real Ray and vLLM ones included (minutes; no GPU)
	@failed=0; \
		$(BIN)/python -m pytest tests -m "not ray" -n auto --maxprocesses=4 --durations=5 --benchmark-disable || failed=1; \
		$(BIN)/python -m pytest tests -m ray --durations=15 --benchmark-disable || failed=1; \
		[ $$failed = 0 ] || cat .pytest_cache/v/cache/lastfailed .pytest_cache/unfinished 2>/dev/null; \
		exit $$failed  # which tests failed, or hung, once more in the last lines: a long log may be cut

test-gpu: ## the deployment tests on a GPU; fails where there is none (scripts/gpu-environment.sh makes .venv-gpu)
	@SERVE_LLM_HOOKS_REQUIRE_GPU=1 $(if $(wildcard .venv-gpu),.venv-gpu,$(VENV))/bin/python -m pytest tests/gpu -rA

test-faults: $(VENV)/.engine ## the tests behind docs/reliability.md, REPEAT times or until one fails (6 minutes each)
	@for run in $$(seq $(REPEAT)); do echo "run $$run of $(REPEAT)"; \
		$(BIN)/python -m pytest tests -m fault -q || exit 1; done

test-fast: $(VENV)/.dev ## the tests without Ray and without an engine (seconds)
	@$(BIN)/python -m pytest $(wildcard tests/house tests/unit tests/harness tests/contract tests/typing tests/benchmarks/test_report.py) -m "not ray" \
		-n auto --maxprocesses=4 --benchmark-disable

mutants: $(VENV)/.dev ## tell the fake cluster lies, each of which the contract suite must catch (a minute)
	@$(BIN)/python -m tests.contract.mutants

differential: $(VENV)/.engine ## CASES random sets of hooks, on the fake cluster and on a real Ray (two seconds each)
	@echo "seed $(SEED): make differential CASES=$(CASES) SEED=$(SEED) draws these again"
	@$(BIN)/python -m pytest tests/contract/test_differential.py -k all_wings_agree -s \
		--cases $(CASES) --hypothesis-seed=$(SEED) -o faulthandler_timeout=0  # no test of the suite takes so long

lint: $(VENV)/.dev ## ruff: errors and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict on everything, pyright on the public types
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@for package in serve_llm_hooks serve_llm_hooks_testing; do \
		report=$$(PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=typings pyright --ignoreexternal --verifytypes $$package) \
			|| { echo "$$report"; exit 1; }; done  # eighty lines that say that all is well are not shown

bench: $(VENV)/.engine ## measure everything, write benchmarks/results.json and docs/performance.md (20 minutes)
	@$(BIN)/python -m benchmarks.run

bench-harness: $(VENV)/.engine ## what the fake cluster costs, beside a local Ray (two minutes)
	@$(BIN)/python -m pytest tests/benchmarks/test_harness.py -q --benchmark-only --benchmark-columns=min,median,max,rounds

clean: ## remove what make and the tools have made, .venv included
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "Setting up $(VENV): the light tools and this package (about half a minute)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Not made again when .dev is: neither list removes or changes what the other installs.
$(VENV)/.engine: requirements/engine-cpu.txt requirements/integration.txt | $(VENV)/.dev
	@echo "Installing the CPU engine into $(VENV): Ray, vLLM, torch (3 GB, two to five minutes)"
	@$(PIP) --no-deps -r requirements/engine-cpu.txt -r requirements/integration.txt
	@$(BIN)/python -c 'import importlib.metadata as m, sys; v = m.version("torch"); \
		sys.exit(sys.platform == "linux" and "+cpu" not in v and f"pip took torch {v}, which is not the CPU build: \
	see the top of requirements/engine-cpu.txt, remove $(VENV), and try again")'
	@touch $@
