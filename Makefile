# Every command makes the environment that it needs, in .venv, from the locks in requirements/.
# A second run installs nothing until a lock or pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMPILE := $(BIN)/uv --quiet pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock"

# The tests start hundreds of processes. Where this is set, as it is in many an image, each of them would have to
# compile the whole product again, which is a quarter of its start.
unexport PYTHONDONTWRITEBYTECODE

# Four more than there are processors: nearly half of the time is waiting, for a session to time out or a process
# to start, and tests/conftest.py sees to it that what waits and what computes run side by side.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(4 + (os.cpu_count() or 1))')
N ?= 1000
EVENTS ?= 2000000
JOBS ?= 2
FROM ?= 0
DEPTH ?= 5
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check simulate oracle explore mutants chaos bench lock clean

help: ## What there is to make
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.runtime ## The whole of Radera in one process, with stand-ins for the vendors (ARGS="--help" tells more)
	@$(BIN)/radera demo $(ARGS)

test: $(VENV)/.dev ## All tests (WORKERS=0 runs them in one process; ARGS goes to pytest)
	$(BIN)/python -m pytest -n $(WORKERS) --maxschedchunk=1 $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, who may import whom, and the Kubernetes manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.deploy.manifests

simulate: $(VENV)/.dev ## N simulated requests from seed FROM on, with faults; resumes what was left (N=1000 FROM=0 JOBS=2)
	$(BIN)/python -m tests.simulation --runs $(N) --from $(FROM) --jobs $(JOBS) $(ARGS)

oracle: $(VENV)/.dev ## EVENTS of random lives of requests, judged (EVENTS=2000000 JOBS=2 FROM=0)
	$(BIN)/python -m tests.oracle --events $(EVENTS) --jobs $(JOBS) --from $(FROM) $(ARGS)

explore: $(VENV)/.dev ## Every state of a request that DEPTH events lead to, checked (DEPTH=5 JOBS=2)
	$(BIN)/python -m tests.exploration --depth $(DEPTH) --jobs $(JOBS) $(ARGS)

bench: $(VENV)/.dev ## Throughput, growth, latency, memory (ARGS="--only throughput" measures one part, --quick in small)
	$(BIN)/python -m tests.bench $(ARGS)

mutants: $(VENV)/.dev ## Faults planted in the product; prints those that no test finds (ARGS="-k outbox" takes some)
	$(BIN)/python -m tests.planted --jobs $(JOBS) $(ARGS)
	RADERA_TEST_ALL_DEFECTS=1 $(BIN)/python -m pytest -q -n $(JOBS) tests/simulation/test_planted_faults.py

chaos: $(VENV)/.dev ## Requests on real servers, with everything killed, lost and put back (ARGS="--requests 200 --seed 7")
	$(BIN)/python -m tests.chaos $(ARGS)

lock: | $(BIN)/uv ## Pin what pyproject.toml asks for (ARGS=--upgrade takes the newest of everything)
	$(COMPILE) $(ARGS) --output-file requirements/runtime.txt
	$(COMPILE) $(ARGS) --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt

clean: ## Remove the environment and everything that can be made again
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find orchestrator handlers schemas tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Radera needs Python 3.11 or later, and '$(PYTHON)' is not. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The dev lock holds the runtime lock at the same versions, so neither of these undoes the other.
$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --requirement requirements/runtime.txt
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --requirement requirements/dev.txt
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime

$(BIN)/uv: | $(VENV)/.dev
