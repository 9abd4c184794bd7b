# `make help` lists the targets. They need Python 3.11 and make.

PYTHON ?= python3.11
AIRFLOW ?= 3.3.2

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# As many processes as the machine has cores; PYTEST='-n 0' runs the tests in one, for a debugger.
PARALLEL := -n auto --maxprocesses 4
CODE := bzctrl_provider benchmarks dags_examples scripts tests noxfile.py

# Airflow reads these when it is imported; no target may use the deployment of the user who runs it.
unexport AIRFLOW_HOME AIRFLOW_CONFIG

.DEFAULT_GOAL := help
.PHONY: help demo ui test unit integration lint format typecheck check matrix system pictures docs bench build package release-check audit version constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo ## Run a failing check and show its incident in the sandbox (no account needed)
	@$(BIN)/python scripts/demo.py

ui: $(VENV)/demo ## Run the demo in the browser: Airflow's UI and the sandbox, until Ctrl-C
	@$(BIN)/python scripts/ui.py

test: $(VENV)/test ## Run the unit and integration tests, with branch coverage
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(PARALLEL) $(PYTEST)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report $(if $(PYTEST),--fail-under=0)

unit: $(VENV)/test ## Run only the unit tests: no server, no database
	@$(BIN)/python -m pytest $(PARALLEL) tests/unit $(PYTEST)

integration: $(VENV)/test ## Run only the integration tests: HTTP to the sandbox, the example DAGs
	@$(BIN)/python -m pytest $(PARALLEL) tests/integration $(PYTEST)

lint: $(VENV)/lint ## Check the code, and the schemas of GitHub's files
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml .github/ISSUE_TEMPLATE/verify.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

format: $(VENV)/lint ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

typecheck: $(VENV)/lint ## Check the types
	@$(BIN)/mypy

check: lint typecheck test ## Run everything that has to pass before a commit

matrix: build $(VENV)/matrix ## Run the tests on every supported Airflow: make matrix, or make matrix CELLS='2.11.2 3.3.2'
	@rm -rf build/matrix
	@CELLS='$(CELLS)' $(BIN)/nox || true
	@CELLS='$(CELLS)' $(BIN)/python scripts/matrix_table.py

system: build $(VENV)/matrix ## Run the tests with real services: a Celery cluster, an outage of BzCtrl, browsers; on Debian, as root or with sudo
	@scripts/debian_packages.sh tests/system/debian-packages.txt
	@$(BIN)/nox -s system $(if $(PYTEST),-- $(PYTEST))

pictures: ## Copy the pictures of the last make system into the documentation
	@cp build/system/screenshots/*.png docs/images/

# Material warns in each build about MkDocs 2, which the pins exclude. With --quiet, strict would count no warnings.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/docs ## Build the documentation into site/, and check its links and that it loads nothing from other hosts
	@$(BIN)/mkdocs build
	@$(BIN)/python -m pytest --quiet tests/site

bench: $(VENV)-bench/bench ## Measure the provider's cost and write it into docs/: half an hour on an idle machine
	@env -u PYTHONDONTWRITEBYTECODE PYTHONPATH=benchmarks $(VENV)-bench/bin/python -m bench $(BENCH)

build: $(VENV)/build ## Build the wheel and the source archive into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

package: build $(VENV)/test $(VENV)/release ## Check the wheel and the source archive, and install the wheel without its extra
	@$(BIN)/python -m pytest tests/packaging $(PYTEST)

release-check: version package ## Check what a tag publishes: version, changelog, archives, installations; TAG=v1.2.3 checks the tag, too

audit: $(VENV)/audit ## Look up the pins among known vulnerabilities (asks PyPI, and fails if PyPI does not respond)
	@for pins in constraints/*.txt; do echo "$$pins"; \
		$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement "$$pins" || failed=1; \
	done; exit $${failed:-0}

version: ## Print the version; with TAG=v1.2.3, fail if the tag is of another version
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) && echo "$$version" && \
		if [ -n "$$TAG" ] && [ "$$TAG" != "v$$version" ]; then echo "The tag $$TAG is not v$$version." >&2; exit 1; fi

constraints: ## Pin the packages of one Airflow again: make constraints AIRFLOW=3.3.2
	@PYTHON=$(PYTHON) scripts/constraints.sh $(AIRFLOW)

clean: ## Remove everything that the targets created
	@rm -rf $(VENV) $(VENV)-bench build dist site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pip: $(CONSTRAINTS)
	@echo "Making $(VENV) ($$($(PYTHON) --version), Airflow $(AIRFLOW)); this takes about a minute."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -c $(CONSTRAINTS) pip hatchling editables
	@touch $@

$(VENV)/demo: $(VENV)/pip pyproject.toml
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e . "apache-airflow==$(AIRFLOW)" --group examples
	@touch $@

$(VENV)/test: $(VENV)/demo
	@$(PIP) install -c $(CONSTRAINTS) --group test
	@touch $@

$(VENV)/lint: $(VENV)/test $(VENV)/matrix
	@$(PIP) install -c $(CONSTRAINTS) --group lint
	@touch $@

$(VENV)/matrix: $(VENV)/demo
	@$(PIP) install -c $(CONSTRAINTS) --group matrix
	@touch $@

$(VENV)/docs: $(VENV)/test
	@$(PIP) install -c $(CONSTRAINTS) --group docs
	@touch $@

$(VENV)/build: $(VENV)/pip
	@$(PIP) install -c $(CONSTRAINTS) --group build
	@touch $@

$(VENV)/release: $(VENV)/build
	@$(PIP) install -c $(CONSTRAINTS) --group release
	@touch $@

$(VENV)/audit: $(VENV)/pip
	@$(PIP) install -c $(CONSTRAINTS) --group audit
	@touch $@

$(VENV)-bench/bench: benchmarks/constraints.txt pyproject.toml
	@echo "Making $(VENV)-bench ($$($(PYTHON) --version), with the provider to compare with); this takes about a minute."
	@$(PYTHON) -m venv --clear $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --quiet --quiet install -c $< pip hatchling editables
	@$(VENV)-bench/bin/python -m pip --quiet --quiet install -c $< --no-build-isolation -e . apache-airflow --group benchmarks
	@touch $@
