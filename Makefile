# `make` lists the targets. There is no logic here: whatever is longer than a line is Python.
PYTHON ?= python3
BIN := .venv/bin
# Two files of tests at a time: what they wait for leaves half of even two cores idle.
BESIDE := -n 2 --dist loadfile
ENOUGH := import sys; sys.version_info >= (3, 11) or sys.exit("Headrace needs Python 3.11 or newer, and $(PYTHON) is %d.%d: say which to use, e.g. make PYTHON=python3.12" % sys.version_info[:2])

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench bench-drift broker soak faults clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/installed  ## half a minute of everything in one process tree, with nothing else installed
	$(BIN)/headrace demo --seconds 30

test: check  ## check, then every test that needs the real broker (Java 17 and Maven)
	$(BIN)/python -m pytest -m "broker and not alone" $(BESIDE)
	$(BIN)/python -m pytest -m "broker and alone"

check: .venv/installed-dev  ## format, lint, layers, types and every test that needs no real broker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy -p headrace
	$(BIN)/python -m pytest -m "not broker and not alone" $(BESIDE)
	$(BIN)/python -m pytest -m "not broker and alone"

docs: .venv/installed-dev  ## the documentation as a site, in build/site
	$(BIN)/python docs/site.py

bench: .venv/installed-dev  ## Headrace beside its peers on the real broker: a table, JSON and a plot (Java 17 and Maven)
	$(BIN)/python benchmarks

bench-drift: .venv/installed-dev  ## drift detection beside others, all with one rate of false alarms (long; needs no broker)
	$(BIN)/python benchmarks/detectors.py

broker: .venv/installed  ## start Apache Kafka on 127.0.0.1:9092 until Ctrl-C (Java 17 and Maven)
	$(BIN)/python -m headrace.stream.broker

soak: .venv/installed-dev  ## five million events while the broker and workers are restarted (long; Java 17 and Maven)
	$(BIN)/python benchmarks/soak.py

faults: .venv/installed-dev  ## every fault scenario in full, for several seeds, and the whole tutorial (long; Java 17 and Maven)
	HEADRACE_FAULTS=full $(BIN)/python -m pytest tests/broker tests/docs/test_tutorial.py

clean:  ## remove .venv and whatever the tools left behind
	rm -rf .venv build dist models/*.so headrace.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis benchmarks/out benchmarks/.venvs benchmarks/peers/*/target

# A stamp is newer than what it was installed from, so a second call installs nothing.
.venv/installed: pyproject.toml setup.py models/_kernel.c
	@$(PYTHON) -c '$(ENOUGH)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
