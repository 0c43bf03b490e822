# Two commands do all the set-up: `make serve` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
DEV_VENV ?= .venv-dev
HOST ?= 127.0.0.1
PORT ?= 8000
BUNDLE ?=

CODE := server engine kernels export train bench
DEBIAN := $(shell command -v apt-get 2>/dev/null)
ROOT := $(shell test "$$(id -u)" = 0 && echo yes)
PIP := -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test check format lint types pytest install-dev venv-package test-packages clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.installed  ## install what serving needs and serve the embedded bundle
	$(VENV)/bin/exeunt serve $(BUNDLE) --host $(HOST) --port $(PORT)

test: install-dev test-packages check pytest  ## everything: format, lint, types, tests

check: format lint types  ## format, lint and types alone

format: install-dev
	$(DEV_VENV)/bin/ruff format --check $(CODE) tests

lint: install-dev
	$(DEV_VENV)/bin/ruff check $(CODE) tests

types: install-dev
	$(DEV_VENV)/bin/mypy $(CODE) tests

pytest: install-dev test-packages
	$(DEV_VENV)/bin/pytest $(PYTEST_ARGS)

install-dev: $(DEV_VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt | venv-package
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[cpu]'
	@touch $@

$(DEV_VENV)/.installed: pyproject.toml constraints.txt | venv-package
	$(PYTHON) -m venv $(DEV_VENV)
	$(DEV_VENV)/bin/python $(PIP) --editable '.[dev]'
	@touch $@

# Debian splits venv and pip out of Python: installed here by root, named to everybody else.
venv-package:
	@$(PYTHON) -c 'import sys; sys.exit("exeunt needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ -n "$(DEBIAN)" ] && [ "$(ROOT)" = yes ]; then apt-get update -qq && apt-get install -y -qq python3-venv; \
	  else echo "this needs Python's venv: apt-get install python3-venv" >&2; exit 1; fi; }

# The tests scrape a real server with a real Prometheus, and check its files with promtool.
test-packages:
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
	  if [ -n "$(DEBIAN)" ] && [ "$(ROOT)" = yes ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus; \
	  else echo "the tests need Prometheus: apt-get install prometheus" >&2; exit 1; fi; }

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(DEV_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
