# Everything a person runs; `make help` lists it.
VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One torch thread per process: two processes of two threads on two cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-fast test-nightly check lint format types clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[onnx,text,dashboard]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[onnx,executorch,openvino,text,dashboard,postgresql,huggingface,dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[onnx,text,dashboard,docs]'
	touch $@

demo: $(VENV)/.installed  ## Train, search, report and export on real digits, in two minutes
	$(BIN)/nasbench run experiments/digits.yaml

test: $(VENV)/.installed-dev  ## Run all tests
	$(PYTEST)

test-fast: $(VENV)/.installed-dev  ## Run the tests that need no Ray and little time
	$(PYTEST) -m 'not slow and not ray and not nightly'

test-nightly: $(VENV)/.installed-dev  ## Run the tests that take many minutes
	$(PYTEST) -m nightly

docs: $(VENV)/.installed-docs  ## Build the documentation into build/docs, every link within it checked
	$(BIN)/python -m sphinx -c docs -E -W --keep-going --quiet . build/docs
	@echo "build/docs/index.html"

check: lint types docs test  ## Format check, lint, types, documentation and all tests

lint: $(VENV)/.installed-dev  ## Check format, lint and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell

format: $(VENV)/.installed-dev  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed-dev  ## Check the types
	$(BIN)/mypy

clean:  ## Remove the virtual environment and what tools left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
