# make quickstart | test | test-airflow | test-remote | lint | bench | docs | picture | kill | reliability | campaign | install
# Needs CPython 3.11 or newer with venv, and nothing else; PYTHON=python3.13 chooses another than python3.
PYTHON ?= python3
# Thousands of the tests start a Python process. Without stored bytecode, each compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
EXAMPLES ?= 20000
# One more than there are cores: many tests wait for processes of their own.
WORKERS := $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart
quickstart: $(VENV)/.installed-testing
	$(BIN)/python examples/quickstart.py

.PHONY: test
test: $(VENV)/.installed-test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --ignore=tests/integrations/prefect
# In processes of their own: threads that Prefect leaves go on in whatever is tested next.
	$(BIN)/pytest -n auto tests/integrations/prefect
	@echo "Each run above lists what it skipped and why. Not part of make test, because they take long or need an environment of their own:"
	@echo "  make test-airflow   Airflow pins what other integrations want newer"
	@echo "  make test-remote    real torchrun, JAX, Open MPI and Ray on three hosts: 2 GB to install, and ten minutes"
	@echo "  make kill           a kill at every moment of every operation; make test tries two of each kind"
	@echo "  make campaign       the same properties on many more random cases"

# In an environment of its own: Airflow pins what other integrations want newer.
.PHONY: test-airflow
test-airflow: $(VENV)-airflow/.installed
	$(VENV)-airflow/bin/pytest -n auto --dist loadgroup tests/integrations/airflow

# Real engines on hosts with networks of their own, which need root, openssh-server and iproute2; tools/install_test_hosts.sh installs
# those on Debian. The engines have an environment of their own, which only the hosts use.
.PHONY: test-remote
test-remote: $(VENV)/.installed-test $(VENV)-remote/.installed
	MULTICOMPUTE_ENGINES=$(CURDIR)/$(VENV)-remote $(BIN)/pytest tests/remote/engines

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

# Write the pages that come from the code, then build all pages into build/site. Nothing is fetched; every warning and every dead link is an error.
# Where Chromium is installed, also check that no page scrolls sideways.
.PHONY: docs
docs: $(VENV)/.installed-docs
	$(BIN)/python tools/write_accelerators.py
	$(BIN)/python tools/write_cli.py
	$(BIN)/python tools/write_prices.py
	$(BIN)/python tools/write_sizing.py
	$(BIN)/python tools/write_troubleshooting.py
	$(BIN)/python tools/write_variables.py
	$(BIN)/python tools/write_what_you_get.py
	rm -rf build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --doctree-dir build/doctrees --builder html docs build/site
	$(BIN)/python tools/check_site.py build/site
	$(BIN)/python tools/check_width.py build/site

# The picture of a terminal in the README, from a run of the quickstart.
.PHONY: picture
picture: $(VENV)/.installed-testing
	$(BIN)/python tools/draw_quickstart.py

# docs/reliability.md, from a run of every error at every call; takes about an hour on two cores.
.PHONY: reliability
reliability: $(VENV)/.installed-test
	set -e; folder=$$(mktemp -d); trap 'rm -r "$$folder"' EXIT; \
	CAMPAIGN_EXAMPLES=$(EXAMPLES) CAMPAIGN_RESULTS=$$folder $(BIN)/pytest -n auto --timeout 0 tests/resilience/faults tests/resilience/situations; \
	$(BIN)/python tools/write_reliability.py $$folder

# A kill at every moment of every operation on every cloud; `make test` tries two of each kind.
.PHONY: kill
kill: $(VENV)/.installed-test
	CAMPAIGN_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n $(WORKERS) --timeout 0 tests/resilience/crash/test_killed.py

# The same properties on many more random cases, a kill at every call and every error at every call, than `make test` has time for.
.PHONY: campaign
campaign: $(VENV)/.installed-test
	CAMPAIGN_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n auto --timeout 0 tests/unit/resolver tests/unit/ledger tests/resilience/across/test_every_slice.py tests/resilience/crash tests/resilience/faults tests/resilience/situations tests/unit/engine/test_state_machine.py

.PHONY: install
install: $(VENV)/.installed-lint

# Each extra contains the one before it: testing, docs, test, lint.
$(VENV)/.installed-testing: pyproject.toml
	$(call install,testing)
	touch $@

$(VENV)/.installed-docs: pyproject.toml
	$(call install,docs)
	touch $@ $(VENV)/.installed-testing

$(VENV)/.installed-test: pyproject.toml
	$(call install,test)
	touch $@ $(VENV)/.installed-docs $(VENV)/.installed-testing

$(VENV)/.installed-lint: pyproject.toml
	$(call install,lint)
	touch $@ $(VENV)/.installed-docs $(VENV)/.installed-test $(VENV)/.installed-testing

$(VENV)-airflow/.installed: pyproject.toml
	test -x $(VENV)-airflow/bin/python || $(PYTHON) -m venv $(VENV)-airflow
	$(VENV)-airflow/bin/python -m pip install -qq --disable-pip-version-check --editable '.[test-airflow]'
	touch $@

$(VENV)-remote/.installed: pyproject.toml
	test -x $(VENV)-remote/bin/python || $(PYTHON) -m venv $(VENV)-remote
	$(VENV)-remote/bin/python -m pip install -qq --disable-pip-version-check '.[engines]'
	touch $@

# Only errors of pip are printed: its warnings are about the machine, not about this project.
define install
$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; write PYTHON=... to name one" if sys.version_info < (3, 11) else 0)'
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[all,$(1)]'
endef
