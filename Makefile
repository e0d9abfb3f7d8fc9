# `make test` makes the environment it needs and runs everything that can run here.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 \
    /usr/bin/python3; do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
    && echo "$$python" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: test environment lab-packages lint unit lab gpu browser bench pythons docs words clean

# Other lanes load the machine, measure, or hold a thing of which there is one: one by one.
test: lint lab-packages
	@$(BIN)/pytest -m unit -n auto; unit=$$?; $(BIN)/pytest -m "not unit" && exit $$unit

environment: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.10 or newer: make PYTHON=/path/to/python3"; exit 2; }
	@# Debian keeps what makes environments in a package of its own.
	$(PYTHON) -m venv --clear $(VENV) || { test "$$(id -u)" = 0 \
	    && apt-get update -q && apt-get install -qy python3-venv \
	    && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

lab-packages:
	@tests/lab/packages

lint: environment
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

unit: environment
	$(BIN)/pytest -m unit -n auto

lab gpu browser bench pythons: environment
	$(BIN)/pytest -m $@

docs: environment
	$(BIN)/gpudoctor list -f markdown >docs/checks.md
	sed -i '/^<!-- From here on made/,$$d' docs/profiles.md
	echo '<!-- From here on made by `make docs` from gpudoctor/profiles; do not edit. -->' >>docs/profiles.md
	echo >>docs/profiles.md
	$(BIN)/gpudoctor list --profiles -f markdown >>docs/profiles.md

words: environment
	$(BIN)/python -m gpudoctor.triage.words >words.json
	mv words.json gpudoctor/triage/words.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
