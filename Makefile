# Everything CI does is a target here; CI runs `make test`.

PYTHON  ?= python3
ADAPTER ?= memory
ARGS    ?=

VENV          := .venv
BIN           := $(VENV)/bin
PIP           := -m pip --disable-pip-version-check --quiet install
ADAPTERS      := $(patsubst adapters/%/pyproject.toml,%,$(wildcard adapters/*/pyproject.toml))
EDITABLE      := -e . $(ADAPTERS:%=-e adapters/%)
METADATA      := pyproject.toml $(ADAPTERS:%=adapters/%/pyproject.toml)
OTHER_PYTHONS := 3.12 3.13 3.14
TYPING        := $(wildcard tests/typing/*.py)
# What runs on each further Python, and on the installed wheels.
PORTABLE      := tests -m "not typing and not wheels and not slow"
INSTALLED     := tests/test_dispatch.py tests/test_memory.py adapters/rq/tests/test_rq_decisions.py

# What an adapter's demo talks to, from tools/servers.
SERVERS_rq    := redis

ifeq (,$(filter $(ADAPTER),memory $(ADAPTERS)))
$(error no adapter "$(ADAPTER)"; there are: memory $(ADAPTERS))
endif

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: $(if $(filter memory,$(ADAPTER)),$(VENV)/.core,$(VENV)/.adapter-$(ADAPTER)) ## See it work: make demo [ADAPTER=rq]
	@$(if $(SERVERS_$(ADAPTER)),tools/servers $(SERVERS_$(ADAPTER)))
	@$(BIN)/sigra-workers demo --adapter $(ADAPTER)

.PHONY: test
test: ## Everything CI does
	$(MAKE) lint
	$(MAKE) types
	$(MAKE) unit
	$(MAKE) wheels
	$(MAKE) floor
	$(MAKE) pythons

.PHONY: lint
lint: $(VENV)/.dev ## ruff, codespell, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	PYTHONPATH=. $(BIN)/lint-imports

.PHONY: types
types: $(VENV)/.dev ## mypy and pyright; ty and pyrefly only inform
	$(BIN)/mypy
	$(BIN)/pyright --project . --warnings
	-@echo "ty (informs only):"; $(BIN)/ty check --python $(VENV) --output-format concise src $(ADAPTERS:%=adapters/%/src) 2>&1 | tail -n 20
	-@echo "pyrefly (informs only):"; $(BIN)/pyrefly check --output-format min-text 2>&1 | tail -n 20

.PHONY: unit
unit: $(VENV)/.dev servers ## The tests with coverage: make unit [ARGS="tests/test_args.py -x"]
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='src/sigra_workers/*' $(if $(ARGS),,--fail-under=100)

.PHONY: wheels
wheels: $(VENV)/.dev servers ## Build the distributions; run the tests on them, installed
	rm -rf dist
	for project in . $(ADAPTERS:%=adapters/%); do $(BIN)/python -m build --no-isolation --outdir dist $$project >/dev/null || exit; done
	tools/venv $(BIN)/python .venv-wheels
	.venv-wheels/bin/python $(PIP) -r requirements/test.in dist/*.whl -c requirements/dev.txt
	.venv-wheels/bin/sigra-workers --version
	.venv-wheels/bin/python -m pytest $(INSTALLED)

.PHONY: floor
floor: .venv-floor/.done ## The oldest mypy and dependencies the README promises
	.venv-floor/bin/mypy src/sigra_workers $(TYPING)
	.venv-floor/bin/sigra-workers demo --adapter memory >/dev/null

.PHONY: pythons
pythons: servers ## The tests on every other supported Python found here
	@for version in $(OTHER_PYTHONS); do \
	    if python=$$(tools/find-python $$version); then \
	        $(MAKE) --no-print-directory .venv-$$version/.done PYTHON=$$python && \
	        echo "Python $$version:" && .venv-$$version/bin/python -m pytest $(PORTABLE) $(ARGS) || exit; \
	    else \
	        echo "Python $$version: not found, skipped"; \
	    fi; \
	done

.PHONY: servers
servers: ## Redis and PostgreSQL for the integration tests
	@tools/servers redis postgres

.PHONY: format
format: $(VENV)/.dev ## ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: ## Recompile the pins (needs uv)
	for name in dev mypy-floor; do \
	    uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	        --python-version 3.11 $$([ $$name = mypy-floor ] || echo --universal) \
	        requirements/$$name.in -o requirements/$$name.txt || exit; \
	done

.PHONY: clean
clean: ## Remove everything made here
	rm -rf .venv .venv-* build dist .coverage .coverage.* .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Virtual environments. The demo installs only what it needs, development everything.

$(VENV)/.made:
	@echo "Making $(VENV)"
	@tools/venv $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.core: pyproject.toml requirements/dev.txt | $(VENV)/.made
	@echo "Installing sigra-workers"
	@$(BIN)/python $(PIP) -c requirements/dev.txt -e .
	@touch $@

$(VENV)/.adapter-%: adapters/%/pyproject.toml $(VENV)/.core
	@echo "Installing sigra-workers-$*"
	@$(BIN)/python $(PIP) -c requirements/dev.txt -e . -e adapters/$*
	@touch $@

$(VENV)/.dev: $(METADATA) requirements/dev.txt | $(VENV)/.made
	$(BIN)/python $(PIP) $(EDITABLE) -r requirements/dev.txt
	@touch $@ $(VENV)/.core $(ADAPTERS:%=$(VENV)/.adapter-%)

.venv-floor/.done: pyproject.toml requirements/mypy-floor.txt
	tools/venv $(PYTHON) .venv-floor
	.venv-floor/bin/python $(PIP) -e . -r requirements/mypy-floor.txt
	@touch $@

.venv-%/.done: $(METADATA) requirements/test.in requirements/dev.txt
	tools/venv $(PYTHON) .venv-$*
	.venv-$*/bin/python $(PIP) $(EDITABLE) -r requirements/test.in -c requirements/dev.txt
	@touch $@
