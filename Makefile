# Everything runs from .venv, which any target makes if it is not there.
PYTHON ?= python3.11
NAME ?= laptop
LOCK ?= requirements/cpu.lock
BIN := .venv/bin

.PHONY: help install demo test check fmt lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: $(LOCK)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r $(LOCK)
	@touch $@

install: .venv/.installed  ## the environment, in .venv

demo: .venv/.installed  ## the whole loop on this machine, real parts and tiny models (NAME=other makes a new run)
	$(BIN)/python -m jobs.demo --config jobs/presets/laptop.toml --run-dir runs/$(NAME)

test: .venv/.installed  ## all tests
	$(BIN)/python -m pytest

check: .venv/.installed  ## ruff, and mypy over code and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: .venv/.installed  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.installed  ## resolve both locks anew from pyproject.toml
	$(BIN)/python requirements/lock.py cpu
	$(BIN)/python requirements/lock.py gpu
