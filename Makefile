# Everything is run from here: `make setup` once, then `make demo`, `make test`, `make check`, `make bench`, `make soak`.

PYTHON ?= python3
BIN := .venv/bin
SEED ?= 1
RUNS ?= 200
SPOKES ?= 2887

.PHONY: setup demo test check bench endurance picture hub soak coverage lock clean

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tallystick needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/ready        ## a virtual environment with everything pinned
	@echo "Ready. Try: make demo"

demo: .venv/ready         ## the main job, for real: about half a minute
	$(BIN)/python -m tallystick.sdk.demo

test: .venv/ready         ## all tests that are fast enough for every run, on all cores
	$(BIN)/python -Im pytest -n auto --dist worksteal

check: .venv/ready        ## lint, format, types, import directions, whether the locks are whole
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/locks.py

coverage: .venv/ready     ## branch coverage of channels/, router/ and settlement/
	$(BIN)/python -Im pytest -n auto --dist worksteal --cov --cov-report=term-missing:skip-covered

bench: .venv/ready        ## how fast two parties pay each other on this machine
	$(BIN)/tally bench direct

picture: .venv/ready      ## the same as a picture, into bench.svg: installs matplotlib
	$(BIN)/pip install --quiet --require-hashes --requirement requirements-bench.lock
	$(BIN)/tally bench direct --picture bench.svg

endurance: .venv/ready    ## ten million payments over one channel, a million over a thousand: nothing may grow
	$(BIN)/tally bench endurance --payments 10000000 --channels 1
	$(BIN)/tally bench endurance --payments 1000000 --channels 1000

hub: .venv/ready          ## one hub and all its spokes, which all pay at once: make hub SEED=7 SPOKES=2887
	$(BIN)/python -m tallystick.sdk.testing.hub --spokes $(SPOKES) --seed $(SEED)

soak: .venv/ready hub     ## long campaigns: make soak SEED=7 RUNS=1000
	TALLY_SOAK_SEED=$(SEED) TALLY_SOAK_RUNS=$(RUNS) $(BIN)/python -m pytest -m soak tests
	$(BIN)/tally bench endurance --payments $$((5000 * $(RUNS))) --channels 1
	$(BIN)/tally bench endurance --payments $$((1000 * $(RUNS))) --channels 100

LOCK := uv pip compile pyproject.toml --universal --generate-hashes --python-version 3.11 --no-strip-extras \
	--no-header --no-emit-index-url --no-annotate --quiet

lock:                     ## pin what pyproject.toml allows; what is pinned stays (needs uv): make lock UPGRADE=--upgrade
	$(LOCK) $(UPGRADE) --extra dev --output-file requirements.lock
	$(LOCK) --extra bench --constraint requirements.lock --output-file requirements-bench.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist *.egg-info
