# Everything a developer does here. `make` alone lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTHON := $(BIN)/python
TESTS := $(PYTHON) -m pytest
SUITES := tests/unit tests/integration tests/contract
# The same version draws the same bytes.
MATPLOTLIB := matplotlib==3.10.8

# The first Python that is new enough and complete; a shim that cannot run, or one without venv, does not count.
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
FIND_PYTHON := for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  if $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then echo $$p; exit 0; fi; done; exit 1

.PHONY: help
help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv:
	@python=$$($(FIND_PYTHON)) || { \
	  echo 'Runroom needs Python 3.11 or newer with its venv module, and found none: install one and try again.' >&2; \
	  exit 1; }; \
	exec $$python deploy/venv.py

# --- run -------------------------------------------------------------------------------------------------------

.PHONY: up
up: venv ## Run everything on this machine: PostgreSQL, NATS, the services; Ctrl-C stops it
	@exec $(PYTHON) -m deploy.local up --with-parent

.PHONY: demo
demo: venv ## Watch an agent run live (while `make up` runs elsewhere)
	@exec $(PYTHON) -m deploy.demo

.PHONY: projector
projector: venv ## One more projector for the running stack (on the next free port)
	@exec $(PYTHON) -m deploy.local projector --with-parent

# --- test ------------------------------------------------------------------------------------------------------

.PHONY: check
check: venv ## Format, lint, types, import rules, unit tests: seconds, no server
	@$(MAKE) --jobs 2 --output-sync=target check-types check-style check-unit

.PHONY: check-types check-style check-unit
check-types:
	@$(BIN)/pyright

check-style:
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

check-unit:
	@$(TESTS) -q -p no:schemathesis tests/unit

.PHONY: test
test: venv ## Unit, integration and contract tests on embedded servers, a minute or two of faults, each benchmark once
	@$(TESTS) -q -n 3 --dist loadfile --no-loadscope-reorder $(SUITES)
	@$(TESTS) -q tests/fault
	@$(PYTHON) -m bench --smoke

.PHONY: contract
contract: venv ## The contract suite on the embedded stack; on a running one: make contract STACK=url
	@$(TESTS) -q tests/contract --stack=$(or $(STACK),embedded)

.PHONY: contract-guarded
contract-guarded: venv ## The contract suite on the embedded stack with authentication on
	@$(TESTS) -q tests/contract --stack=guarded

.PHONY: contract-compose
contract-compose: venv ## The contract suite on docker-compose.yml
	@$(TESTS) -q tests/contract --stack=compose

.PHONY: contract-containers
contract-containers: venv ## The contract suite on PostgreSQL and NATS in containers
	@$(TESTS) -q tests/contract --stack=containers

.PHONY: rolling-compose
rolling-compose: venv ## Restart, upgrade, back up and bring back docker-compose.yml, mostly under load
	@$(TESTS) -q tests/compose

.PHONY: fault
fault: venv ## Minutes of kills, cuts and rewinds under load, and the accounts of what came of it
	@exec $(PYTHON) -m tests.fault $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: venv ## Every scenario beside its floor and peers in one run; one of them: make bench B=B4
	@exec $(PYTHON) -m bench $(B)

.PHONY: bench-smoke
bench-smoke: venv ## Every scenario for seconds, to check results
	@exec $(PYTHON) -m bench --smoke $(B)

.PHONY: bench-peers
bench-peers: venv ## Put the peers that scenarios are measured against into .bench/
	@bench/peers/libraries.sh
	@bench/peers/nchan.sh

.PHONY: bench-report
bench-report: venv ## Recorded results as docs/performance.md shows them: the newest full run, or FILE=path
	@[ -x .bench/plots/bin/python ] || { $(BIN)/uv venv --quiet .bench/plots && \
	  $(BIN)/uv pip install --quiet --python .bench/plots $(MATPLOTLIB); }
	@exec $(PYTHON) -m bench report $(FILE)

# --- keep ------------------------------------------------------------------------------------------------------

.PHONY: format
format: venv ## Format the code and fix what the linter can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: audit
audit: venv ## Look at the locked dependencies: hashes, and known faults where advisories can be reached
	@exec $(PYTHON) -m deploy.audit

.PHONY: docs
docs: venv ## Write the published contract into docs/: OpenAPI, JSON Schema, AsyncAPI
	@exec $(PYTHON) -m deploy.published

COMPILE := $(BIN)/uv pip compile --no-config --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
  --only-binary :all: --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml

.PHONY: lock
lock: venv ## Lock the newest versions that pyproject.toml allows
	@$(COMPILE) --extra tracing --output-file requirements.lock
	@$(COMPILE) --constraint requirements.lock --extra tracing --extra local --extra demo --extra dev \
	  --output-file requirements-dev.lock

.PHONY: clean
clean: ## Remove the environment and all caches; the data in .data stays
	rm -rf .venv .venv.lock .bench .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.data/*' -prune -exec rm -rf {} +
