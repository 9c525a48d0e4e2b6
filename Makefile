# Every target sets itself up in .venv; only Python >= 3.11 has to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := $(VENV)/.installed-train
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
# A worker for each core, up to eight; a worker without tests takes half of those that another has left.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist worksteal

# Node.js packages, for the test of docs/classify.mjs alone.
NODE_RUNTIME := 1.30.0
JAVASCRIPT := build/javascript
NODE_READY := $(JAVASCRIPT)/.installed-onnxruntime-node-$(NODE_RUNTIME)

# Intel's Lava simulator, for the test of export/lava_runner alone. Its metadata asks for Python < 3.11.
LAVA_READY := $(VENV)/.installed-lava

.PHONY: help demo test test-slow javascript cpp lava integers integers-fuzz microcontroller fuzz kills networks attack wasm check docs bench league league-small clean
help:
	@echo "make demo       install, then the whole chain on the built-in recordings (minutes)"
	@echo "make test       install, then the tests"
	@echo "make test-slow  install, then the tests that take minutes each"
	@echo "make javascript install with npm too, then the test of the JavaScript example"
	@echo "make cpp        install, then the test of the C++ example; ONNXRUNTIME=FOLDER of a release of ONNX Runtime"
	@echo "make lava       install Lava too, then the tests of Loihi networks in its simulator"
	@echo "make integers   install, then 300 random integer networks in C compared with numpy (minutes)"
	@echo "make integers-fuzz  install, then random events for the C runtime (10 minutes)"
	@echo "make microcontroller  install, then 100 recordings in QEMU; DATA=FOLDER of ATIS .bin files"
	@echo "make fuzz       install, then read damaged event files, models, settings and runs (half an hour)"
	@echo "make kills      install, then 100 kills and 30 full disks at random moments of training (minutes)"
	@echo "make networks   install, then 2,000 random networks compared with their exports (half an hour)"
	@echo "make attack     install, then slow, broken-off and flooding clients at the page and the server (minutes)"
	@echo "make wasm       install, then compile spiking.c to WebAssembly anew; needs clang and lld"
	@echo "make check      install, then lint and types"
	@echo "make docs       install, then the documentation as a site in build/site"
	@echo "make bench      install, then the measurements of benchmarks/"
	@echo "make league-small  install, then a small league of methods (half an hour)"
	@echo "make league     install, then the whole league (8 hours on 2 cores); SETS='--data n-mnist=FOLDER --data dvs-sign=FOLDER'"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "neuromoco needs Python >= 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(TRAIN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[export]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(TRAIN)

$(DOCS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: $(TRAIN)
	$(BIN)/neuromoco demo

test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not lava'

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

# The package's install script would only fetch CUDA libraries, from elsewhere than npm's registry.
$(NODE_READY):
	@mkdir -p $(JAVASCRIPT)
	npm install --prefix $(JAVASCRIPT) --no-save --ignore-scripts --no-audit --no-fund onnxruntime-node@$(NODE_RUNTIME)
	@touch $@

javascript: $(DEV) $(NODE_READY)
	$(BIN)/python -m pytest tests/test_javascript.py

# Of the folder, only the headers are used; the library is that of the Python package.
cpp: $(DEV)
	ONNXRUNTIME='$(ONNXRUNTIME)' $(BIN)/python -m pytest -rs tests/test_cpp.py

# Both wheels drop a top-level package `tests` into site-packages, which would hide the project's own.
$(LAVA_READY): | $(DEV)
	$(BIN)/python -m pip install --quiet 'asteval>=1.0' 'networkx>=3.4' 'scipy>=1.17' 'h5py>=3.16'
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python lava-dl==0.6.0 lava-nc==0.10.0
	rm -rf "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/tests"
	@touch $@

lava: $(DEV) $(LAVA_READY)
	$(BIN)/python -m pytest -m lava

integers: $(DEV)
	$(BIN)/python -m tests.runtime.spiking.compare 300

integers-fuzz: $(DEV)
	$(BIN)/python -m tests.runtime.spiking.fuzz 600

# On Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
microcontroller: $(DEV)
	$(BIN)/python -m tests.export.to_c.microcontroller 100 $(DATA)

fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz

networks: $(DEV)
	$(BIN)/python -m tests.graph.random_networks 2000

attack: $(DEV)
	$(BIN)/python -m tests.app.attack

kills: $(DEV)
	$(BIN)/python -m tests.kills

wasm: $(DEV)
	$(BIN)/python -m neuromoco.export.to_html.wasm.build

# mypy cannot follow the folder mapping of pyproject.toml, so it looks at a built copy.
check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typing build/lib
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/typing .
	$(BIN)/mypy --config-file pyproject.toml build/typing/neuromoco

# A built copy for the API pages, for the same reason.
docs: $(DOCS)
	rm -rf build/docs-src build/lib build/site
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/docs-src .
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(DEV)
	$(BIN)/python -m benchmarks

league-small: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.league benchmarks/league/small.yaml $(SETS) --out runs/league-small --jobs 2

league: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.league benchmarks/league/full.yaml $(SETS) --out runs/league --jobs 2

clean:
	rm -rf $(VENV) build dist runs *.egg-info
