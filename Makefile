# Everything runs from .venv, which any target makes if it is not there.
PYTHON ?= python3.11
NAME ?= laptop
LOCK ?= requirements/cpu.lock
BIN := .venv/bin

.PHONY: help install demo test test-cluster check fmt lock tools broken

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: $(LOCK) $(shell test -x $(BIN)/python || echo broken)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is missing or too old; install Python 3.11, or run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) requirements/install.py $(LOCK)

install: .venv/.installed  ## the environment, in .venv (docs/installing.md)

demo: .venv/.installed  ## the whole loop on this machine, real parts and tiny models (NAME=other makes a new run)
	$(BIN)/python -m jobs.demo --config jobs/presets/laptop.toml --run-dir runs/$(NAME)

test: .venv/.installed  ## all tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-cluster: .venv/.installed  ## tests on virtual hosts (docs/cluster.md); needs root, takes 16 minutes
	$(BIN)/python -m pytest -m hosts -v

check: .venv/.installed  ## ruff, and mypy over code and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: .venv/.installed  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tools: .tools/.installed  ## checkers of manifests, images and alerts, in .tools; their tests are skipped without them

.tools/.installed: requirements/tools.txt
	rm -rf .tools
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/tools.txt
	@cd .tools && mkdir deb && cd deb && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } >/dev/null 2>&1 \
		&& dpkg -x prometheus_*.deb . && cp usr/bin/promtool ../bin/ || echo "promtool can't be had here (Debian's package prometheus)"
	@rm -rf .tools/deb && touch $@

lock: .venv/.installed  ## resolve the locks from pyproject.toml
	$(BIN)/python requirements/lock.py cpu
	$(BIN)/python requirements/lock.py gpu
	$(BIN)/python requirements/lock.py executor
