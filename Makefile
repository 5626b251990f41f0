# Two commands on a fresh machine (Python >= 3.10, git; a C++ compiler makes the CPU faster):
#   make demo   environment, then train + evaluate a small ATC Mask R-CNN, with pictures
#   make test   environment, then all tests and checks
# and, for those who want it: make env MMCV=full (mmcv's own operators, compiled), make docs (the
# site), make lint
VENV ?= .venv
BIN := $(VENV)/bin
# lite, full or onedl: tools/setup_env.sh --help
MMCV ?= lite
DEMO := work_dirs/demo
# Test processes; a full-size one takes up to 4 GB.
JOBS ?= 2

.PHONY: demo test lint docs env clean

$(VENV)/.installed-$(MMCV): $(wildcard requirements/*.txt) setup.cfg tools/setup_env.sh
	MMCV=$(MMCV) tools/setup_env.sh $(VENV)
	touch $@

env: $(VENV)/.installed-$(MMCV)

demo: env
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo.sh $(DEMO)

docs: env
	$(BIN)/mkdocs build --strict

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: env lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

clean:
	rm -rf $(DEMO) data/shapes
