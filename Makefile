# Every target sets itself up in .venv; only Python >= 3.11 has to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := $(VENV)/.installed-train
DEV := $(VENV)/.installed-dev

.PHONY: help demo test test-slow check bench clean
help:
	@echo "make demo       install, then the whole chain on the built-in recordings (minutes)"
	@echo "make test       install, then the tests"
	@echo "make test-slow  install, then the tests that take minutes each"
	@echo "make check      install, then lint and types"
	@echo "make bench      install, then the measurements of benchmarks/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "neuromoco needs Python >= 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(TRAIN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[export]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[export,dev]'
	@touch $@ $(TRAIN)

demo: $(TRAIN)
	$(BIN)/neuromoco demo

test: $(DEV)
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

# mypy cannot follow the folder mapping of pyproject.toml, so it looks at a built copy.
check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typing build/lib
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/typing .
	$(BIN)/mypy --config-file pyproject.toml build/typing/neuromoco

bench: $(DEV)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist runs *.egg-info
