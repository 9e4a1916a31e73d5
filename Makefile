# make demo            set up .venv, see the collapse and the cure on the embedded engine
# make test            set up .venv, run the tests              make test PYTEST_ARGS="tests/control -q"
# make test-lowest     the same with the lowest supported version of each dependency
# make lint            style, types                             make format   let ruff mend what it can
# make docs            build the documentation site into docs/_build; a warning is an error
# make live            install a real CPU vLLM, test against it make vllm     run that vLLM in the foreground
# make bench           measure the gate's own cost, and simulate each controller and its rivals under pressure, half an hour
# make bench-live      controllers beside a sweep of caps on a real vLLM, about an hour
# make controllers     the same on all loads, for an hour or more; CONCUR_TRACES=DIR adds recorded ones

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
LIVE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-lowest lint format docs live vllm bench bench-live controllers clean

help:
	@sed -n 's/^# //p' Makefile

venv: $(VENV)/.installed

# `python -m venv` fails on some systems without ensurepip; its own message says what to install.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make test PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $@

demo: venv
	$(BIN)/concur demo

test: venv
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Deprecations of old packages in each other are not ours to mend; tests of newer features say so and skip.
test-lowest: venv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct --editable '.[all]' --group dev
	$(VENV)-lowest/bin/python -m pytest -W ignore::DeprecationWarning $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo 'docs/_build/html/index.html'

live: venv
	$(BIN)/python scripts/live_vllm.py install
	$(BIN)/python -m pytest -o addopts="--import-mode=importlib --strict-markers --strict-config -ra" tests/live -v \
	  -o log_cli=true -o log_cli_level=INFO -o log_cli_format="%(message)s" $(LIVE_ARGS)

vllm: venv
	$(BIN)/python scripts/live_vllm.py install
	$(BIN)/python scripts/live_vllm.py serve

bench: venv
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/integrations.py
	$(BIN)/python benchmarks/simulated_turns.py
	$(BIN)/python benchmarks/controllers.py --cases pressure --seeds 2 --jobs 2 --json bench.json

bench-live: venv
	$(BIN)/python scripts/live_vllm.py install
	$(BIN)/python benchmarks/real_vllm.py --json real_vllm.json

controllers: venv
	$(BIN)/python benchmarks/controllers.py --jobs 2 --json controllers.json

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
