# make demo   the main job on a real model, in one go
# make test   install what is missing, run the default tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check bench install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints-dev.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ftt-hub needs Python 3.11 or newer; run make with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints-dev.txt torch
	$(BIN)/python -m pip install --quiet -c constraints-dev.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints-dev.txt -e '.[demo]'
	@touch $(STAMP)

demo: install
	$(BIN)/python examples/demo/run.py $(ARGS)

test: install
	$(BIN)/python -m pytest

test-all: install
	$(BIN)/python -m pytest -m ''

check: install
	VIRTUAL_ENV=$(CURDIR)/$(VENV) scripts/check

bench: install
	$(BIN)/python benchmarks/apply.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/size.py

clean:
	rm -rf build dist *.egg-info
