# Everything CI does is a target here; CI runs `make test`.

PYTHON  ?= python3
ADAPTER ?= memory
BROKER  ?=
PORT    ?= 8000
ARGS    ?=

VENV          := .venv
BIN           := $(VENV)/bin
PIP           := -m pip --disable-pip-version-check --quiet install
ADAPTERS      := $(patsubst adapters/%/pyproject.toml,%,$(wildcard adapters/*/pyproject.toml))
# Those with a demo are queues.
QUEUES        := $(foreach demo,$(wildcard adapters/*/src/*/demo.py),$(word 2,$(subst /, ,$(demo))))
METADATA      := $(wildcard pyproject.toml adapters/*/pyproject.toml examples/*/pyproject.toml)
PROJECTS      := $(patsubst %/,%,$(dir $(METADATA)))
EDITABLE      := $(PROJECTS:%=-e %)
OTHER_PYTHONS := 3.12 3.13 3.14
TYPING        := $(wildcard tests/typing/*.py)
# Tests of queues wait more than they work: whole files go to processes side by side, the slow ones first.
# Each process collects all tests, so that there are fewer for the core's, which compute.
PARALLEL      ?= 6
SPREAD         = --numprocesses $(PARALLEL) --dist loadfile --no-loadscope-reorder
core pythons wheels: PARALLEL := 4
# These start many processes side by side themselves.
LOSSES        := tests/losses
losses: SPREAD :=
# $(call tests,<python>,<what>): what fails beside the others is shown, and must pass once more, alone: a busy machine
# keeps servers and worker processes waiting longer than a test can allow for.
tests          = $(call pytest,$(1),$(or $(ARGS),$(SPREAD)) $(2)) || $(call pytest,$(1),--lf --lfnf=none $(2))
pytest         = $(1) -m pytest -o cache_dir=.pytest_cache/$@ $(2)
# What covers every line of the core. Nothing else is traced: worker processes of queues would be half as fast.
COVERING      := $(filter-out tests/test_typing.py tests/test_wheels.py,$(wildcard tests/test_*.py))
COVERING      += tests/testing tests/conformance adapters/arq/tests/test_arq_readme.py
# What of the core runs on each further Python.
PORTABLE      := $(filter-out tests/test_readme.py tests/test_docs_%.py,$(wildcard tests/test_*.py))
PORTABLE      += $(filter-out %/test_page.py,$(wildcard tests/testing/test_*.py))
PORTABLE      += -m "not typing and not wheels and not slow"
TELEMETRY     := $(addprefix adapters/opentelemetry/tests/test_opentelemetry_,spans.py metrics.py)
# What runs on the installed wheels, on the newest Python found here.
INSTALLED     := $(wildcard adapters/*/tests/test_*_decisions.py adapters/*/tests/test_*_sink.py) $(TELEMETRY)
INSTALLED     += $(filter-out %/saas/tests,$(wildcard examples/*/tests)) examples/saas/tests/test_saas_web.py
NEWEST         = $(lastword $(foreach version,$(OTHER_PYTHONS),$(if $(shell tools/find-python $(version)),$(version))))
# What runs on the oldest SQLAlchemy and OpenTelemetry: what needs no server, but not the pool that aiosqlite.
FLOOR         := $(addprefix adapters/sqlalchemy/tests/test_sqlalchemy_,table.py sink.py reader.py required.py after_commit.py)
FLOOR         += $(TELEMETRY)
FLOOR         += -k "(opentelemetry or sqlite) and not left_open and not at_a_url_opens and not stream_of_many and not left_early and not conventions_is_there"

# What an adapter's demo talks to, from tools/servers.
SERVERS_arq      := redis
SERVERS_dramatiq := redis $(filter rabbitmq,$(BROKER))
SERVERS_rq       := redis

REDIS_URL        ?= redis://127.0.0.1:$(or $(REDIS_PORT),6379)/0
RABBITMQ_URL     := amqp://guest:guest@127.0.0.1:$(or $(RABBITMQ_PORT),5672)

ifeq (,$(filter $(ADAPTER),memory $(QUEUES)))
$(error no queue "$(ADAPTER)"; there are: memory $(QUEUES))
endif

# Bytecode is kept, whatever the environment says: each of thousands of processes would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: $(if $(filter memory,$(ADAPTER)),$(VENV)/.core,$(VENV)/.adapter-$(ADAPTER)) ## See it work: make demo [ADAPTER=rq|arq|dramatiq] [BROKER=rabbitmq]
	@$(if $(SERVERS_$(ADAPTER)),tools/servers $(SERVERS_$(ADAPTER)))
	@$(if $(filter rabbitmq,$(BROKER)),DRAMATIQ_URL=$(RABBITMQ_URL)) $(BIN)/sigra-workers demo --adapter $(ADAPTER)

.PHONY: example
example: $(VENV)/.example $(if $(filter-out memory,$(ADAPTER)),$(VENV)/.adapter-$(ADAPTER)) ## An application: make example [ADAPTER=...] [BROKER=...] [PORT=8000]
	@$(if $(SERVERS_$(ADAPTER)),tools/servers $(SERVERS_$(ADAPTER)))
	@cd examples && SAAS_ADAPTER=$(ADAPTER) SAAS_PORT=$(PORT) SAAS_REDIS_URL=$(REDIS_URL) \
	    $(if $(filter dramatiq-rabbitmq,$(ADAPTER)-$(BROKER)),SAAS_RABBITMQ_URL=$(RABBITMQ_URL)) \
	    exec ../$(BIN)/python -m saas

.PHONY: test
test: $(VENV)/.dev servers browser ## Everything CI does
	@# What computes beside what waits. Losses see servers that answer within bounds: nothing else asks them meanwhile.
	$(MAKE) --jobs=2 --output-sync=target losses checks
	$(MAKE) core
	$(MAKE) queues
	$(MAKE) --jobs=2 --output-sync=target wheels pythons

.PHONY: checks
checks: ## What starts no worker process: lint types instructions floor
	nice $(MAKE) lint
	nice $(MAKE) types
	nice $(MAKE) instructions
	nice $(MAKE) floor

.PHONY: lint
lint: $(VENV)/.dev ## ruff, codespell, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	PYTHONPATH=. $(BIN)/lint-imports

.PHONY: types
types: $(VENV)/.dev ## mypy and pyright
	$(BIN)/mypy
	cd examples/django && MYPYPATH=../../tests/django_project ../../$(BIN)/mypy . ../../tests/django_project/probes
	$(BIN)/pyright --project . --warnings

.PHONY: types-others
types-others: $(VENV)/.dev ## ty and pyrefly, which only inform
	-@echo ty:; $(BIN)/ty check --python $(VENV) --output-format concise src $(ADAPTERS:%=adapters/%/src) 2>&1 | tail -n 20
	-@echo pyrefly:; $(BIN)/pyrefly check --output-format min-text 2>&1 | tail -n 20

.PHONY: unit
ifdef ARGS
unit: $(VENV)/.dev servers browser
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
else
unit: core queues losses ## All tests, or some: make unit [ARGS="tests/test_args.py -x"]
endif

.PHONY: core
core: $(VENV)/.dev servers ## The tests that cover every line of the core
	rm -f .coverage .coverage.*
	$(call tests,$(BIN)/coverage run,$(COVERING))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100

.PHONY: queues
queues: $(VENV)/.dev servers browser ## The tests of adapters, examples and pages, with real worker processes
	$(call tests,$(BIN)/python,$(addprefix --ignore=,$(COVERING) $(LOSSES)))

.PHONY: docs
docs: $(VENV)/.dev ## The site, in build/docs: every link and every name resolves, or it fails
	$(BIN)/python -m sphinx -E -W --keep-going -q docs build/docs

.PHONY: losses
losses: $(VENV)/.dev servers ## The tables of docs/explanation/losses.md, seen again: kills workers and servers of its own
	$(call tests,$(BIN)/python,$(LOSSES))

.PHONY: losses-anew
losses-anew: $(VENV)/.dev servers ## Write these tables anew, on a machine that does nothing else
	SIGRA_WRITE_LOSSES=1 $(BIN)/python -m pytest $(LOSSES)

.PHONY: instructions
instructions: $(VENV)/.dev ## What `new` and `dispatch` cost, in instructions, against the committed baseline (needs valgrind)
	@command -v valgrind >/dev/null || tools/packages valgrind
	$(BIN)/python -m benchmarks.instructions $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev servers ## Measure against the bare libraries: make bench [QUICK=1] [ARGS="-k enqueue"]
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

.PHONY: wheels
wheels: $(VENV)/.dev servers ## Build the distributions; run the core's tests and others on them, installed, on the newest Python found
	rm -rf dist
	for project in $(PROJECTS); do $(BIN)/python -m build --no-isolation --outdir dist $$project >/dev/null || exit; done
	tools/venv $(if $(NEWEST),$(shell tools/find-python $(NEWEST)),$(BIN)/python) .venv-wheels --without-pip
	tools/install .venv-wheels -r requirements/test.in dist/*.whl -c requirements/dev.txt
	.venv-wheels/bin/sigra-workers --version
	$(call tests,.venv-wheels/bin/python,$(INSTALLED))
	$(call tests,.venv-wheels/bin/python,$(PORTABLE))

.PHONY: floor
floor: .venv-floor/.done ## The oldest mypy and dependencies the README promises
	.venv-floor/bin/mypy src/sigra_workers $(TYPING)
	.venv-floor/bin/sigra-workers demo --adapter memory >/dev/null
	.venv-floor/bin/python -m pytest $(FLOOR)

.PHONY: pythons
pythons: $(VENV)/.dev servers ## The core's tests on every other supported Python found here, but for that of the wheels
	@for version in $(filter-out $(NEWEST),$(OTHER_PYTHONS)); do \
	    if python=$$(tools/find-python $$version); then \
	        $(MAKE) --no-print-directory .venv-$$version/.done PYTHON=$$python && \
	        echo "Python $$version:" && $(call tests,.venv-$$version/bin/python,$(PORTABLE)) || exit; \
	    else \
	        echo "Python $$version: not found, skipped"; \
	    fi; \
	done

.PHONY: servers
servers: ## Redis, RabbitMQ, MariaDB and PostgreSQL for the integration tests
	@tools/servers redis rabbitmq mariadb postgres

.PHONY: browser
browser: ## A Chromium without windows, which computes half as much as one with them, for the tests of the example
	@command -v chromium-headless-shell >/dev/null || tools/packages chromium-headless-shell \
	    || command -v chromium >/dev/null || tools/packages chromium

.PHONY: format
format: $(VENV)/.dev ## ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: $(VENV)/.dev ## Recompile the pins
	for name in dev floor; do \
	    $(BIN)/uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	        --python-version 3.11 $$([ $$name = floor ] || echo --universal) \
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

$(VENV)/.example: examples/saas/requirements.txt adapters/sqlalchemy/pyproject.toml $(VENV)/.core
	@echo "Installing what the example needs"
	@$(BIN)/python $(PIP) -c requirements/dev.txt -e . -e adapters/sqlalchemy -r examples/saas/requirements.txt
	@touch $@

$(VENV)/.dev: $(METADATA) requirements/dev.txt | $(VENV)/.made
	$(BIN)/python $(PIP) -c requirements/dev.txt uv
	tools/install $(VENV) $(EDITABLE) -r requirements/dev.txt
	@touch $@ $(VENV)/.core $(VENV)/.example $(ADAPTERS:%=$(VENV)/.adapter-%)

.venv-floor/.done: pyproject.toml adapters/opentelemetry/pyproject.toml adapters/sqlalchemy/pyproject.toml requirements/floor.txt | $(VENV)/.dev
	tools/venv $(PYTHON) .venv-floor --without-pip
	tools/install .venv-floor -e . -e adapters/opentelemetry -e adapters/sqlalchemy -r requirements/floor.txt
	@touch $@

.venv-%/.done: $(METADATA) requirements/test.in requirements/dev.txt | $(VENV)/.dev
	tools/venv $(PYTHON) .venv-$* --without-pip
	tools/install .venv-$* $(EDITABLE) -r requirements/test.in -c requirements/dev.txt
	@touch $@
