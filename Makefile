# make quickstart | test | lint | bench | docs | kill | reliability | campaign | install
# Needs CPython 3.11 or newer with venv, and nothing else; PYTHON=python3.13 chooses another than python3.
PYTHON ?= python3
EXAMPLES ?= 20000
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart
quickstart: $(VENV)/.installed-testing
	$(BIN)/python examples/quickstart.py

.PHONY: test
test: $(VENV)/.installed-test
	$(BIN)/pytest -n auto

.PHONY: lint
lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml multicompute providers
	$(BIN)/python -m pip check

# Each script measures, prints, and keeps what it printed in benchmarks/results/.
.PHONY: bench
bench: $(VENV)/.installed-test
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

# The reference of the command line and of the public names, from the code itself.
.PHONY: docs
docs: $(VENV)/.installed-testing
	$(BIN)/python tools/write_reference.py

# docs/reliability.md, from a run of every error at every call; takes a quarter of an hour.
.PHONY: reliability
reliability: $(VENV)/.installed-test
	set -e; folder=$$(mktemp -d); trap 'rm -r "$$folder"' EXIT; \
	MULTICOMPUTE_CAMPAIGN_EXAMPLES=$(EXAMPLES) MULTICOMPUTE_CAMPAIGN_RESULTS=$$folder $(BIN)/pytest -n auto --timeout 0 tests/faults; \
	$(BIN)/python tools/write_reliability.py $$folder

# A kill at every moment of every operation on every cloud; `make test` tries every third.
.PHONY: kill
kill: $(VENV)/.installed-test
	MULTICOMPUTE_CAMPAIGN_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n auto --timeout 0 tests/crash/test_killed.py

# The same properties on many more random cases, a kill at every call and every error at every call, than `make test` has time for.
.PHONY: campaign
campaign: $(VENV)/.installed-test
	MULTICOMPUTE_CAMPAIGN_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n auto --timeout 0 tests/unit/resolver tests/ledger tests/crash tests/faults tests/unit/engine/test_state_machine.py

.PHONY: install
install: $(VENV)/.installed-lint

# The extras hold each other: lint has all of test, test all of testing.
$(VENV)/.installed-testing: pyproject.toml
	$(call install,testing)
	touch $@

$(VENV)/.installed-test: pyproject.toml
	$(call install,test)
	touch $@ $(VENV)/.installed-testing

$(VENV)/.installed-lint: pyproject.toml
	$(call install,lint)
	touch $@ $(VENV)/.installed-test $(VENV)/.installed-testing

define install
$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; write PYTHON=... to name one" if sys.version_info < (3, 11) else 0)'
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,$(1)]'
endef
