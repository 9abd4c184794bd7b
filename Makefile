# `make help` lists what there is. Python 3.11 and make are all that must be there beforehand.

PYTHON ?= python3.11
AIRFLOW ?= 3.3.2

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
CODE := bzctrl_provider benchmarks dags_examples scripts tests noxfile.py

# Airflow reads these when it is imported; nobody's own deployment may be touched by ours.
unexport AIRFLOW_HOME AIRFLOW_CONFIG

.DEFAULT_GOAL := help
.PHONY: help demo ui test unit integration lint format typecheck check matrix bench build constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo ## Watch a failed check become an incident, against the sandbox (no account needed)
	@$(BIN)/python scripts/demo.py

ui: $(VENV)/demo ## The same to click through: Airflow's UI and the sandbox, until Ctrl-C
	@$(BIN)/python scripts/ui.py

test: $(VENV)/test ## Unit and integration tests, with branch coverage
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(PYTEST)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

unit: $(VENV)/test ## Unit tests alone: no server, no database
	@$(BIN)/python -m pytest tests/unit $(PYTEST)

integration: $(VENV)/test ## Integration tests alone: the sandbox over HTTP, the example DAGs
	@$(BIN)/python -m pytest tests/integration $(PYTEST)

lint: $(VENV)/lint ## Find faults of style and substance
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

format: $(VENV)/lint ## Mend what can be mended by itself
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

typecheck: $(VENV)/lint ## Check the types
	@$(BIN)/mypy

check: lint typecheck test ## What has to pass before a commit

matrix: build $(VENV)/matrix ## The tests on every supported Airflow: make matrix, or make matrix CELLS='2.11.2 3.3.2'
	@rm -rf build/matrix
	@$(BIN)/nox $(if $(CELLS),-s $(foreach cell,$(CELLS),'tests(airflow-$(cell)-python-3.11)')) || true
	@$(BIN)/python scripts/matrix_table.py $(CELLS)

bench: $(VENV)-bench/bench ## Measure what the provider costs, and write it into docs/: about ten minutes of a quiet machine
	@env -u PYTHONDONTWRITEBYTECODE PYTHONPATH=benchmarks $(VENV)-bench/bin/python -m bench $(BENCH)

build: $(VENV)/build ## Build the wheel and the source archive into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

constraints: ## Pin anew what is installed with Airflow $(AIRFLOW): make constraints AIRFLOW=3.3.2
	@PYTHON=$(PYTHON) scripts/constraints.sh $(AIRFLOW)

clean: ## Remove everything that these targets made
	@rm -rf $(VENV) $(VENV)-bench build dist site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pip: $(CONSTRAINTS)
	@echo "Making $(VENV) ($$($(PYTHON) --version), Airflow $(AIRFLOW)); this takes about a minute."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -c $(CONSTRAINTS) pip hatchling editables
	@touch $@

$(VENV)/demo: $(VENV)/pip pyproject.toml
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e '.[sandbox]' "apache-airflow==$(AIRFLOW)" --group examples
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

$(VENV)/build: $(VENV)/demo
	@$(PIP) install -c $(CONSTRAINTS) --group build
	@touch $@

$(VENV)-bench/bench: benchmarks/constraints.txt pyproject.toml
	@echo "Making $(VENV)-bench ($$($(PYTHON) --version), with the providers to compare with); this takes about a minute."
	@$(PYTHON) -m venv --clear $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --quiet --quiet install -c $< pip hatchling editables
	@$(VENV)-bench/bin/python -m pip --quiet --quiet install -c $< --no-build-isolation -e . apache-airflow --group benchmarks
	@touch $@
