# Everything is run from here: `make setup` once, then `make demo`, `make test`, `make check`, `make bench`, `make soak`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= tests
SEED ?= 1
RUNS ?= 200
DEPTH ?= 10
SPOKES ?= 2887

.PHONY: setup demo demo-evm demo-bft test fuzz check contract bench endurance picture hub soak coverage lock clean

INSTALL := $(BIN)/python -m pip install --quiet --require-hashes
# On Linux all packages come as wheels. Elsewhere some are built from source, which takes a C compiler, with the build
# tools that are pinned, not with the newest of the day.
WHEELS ?= --build-constraint requirements-build.lock $(if $(filter Linux,$(shell uname -s)),--only-binary :all:)

$(VENV)/ready: requirements-build.lock requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Tallystick runs on Python 3.11, 3.12 and 3.13; $(PYTHON) is not one of them:" \
			"make setup PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --only-binary :all: --requirement requirements-build.lock
	$(INSTALL) $(WHEELS) --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.lock
	$(INSTALL) $(WHEELS) --requirement requirements-dev.lock
	@touch $@

setup: $(VENV)/ready         ## a virtual environment with what the product needs, pinned
	@echo "Ready. Try: make demo"

demo: $(VENV)/ready          ## the main job, for real: about a minute
	$(BIN)/python examples/demo

demo-evm: $(VENV)/ready      ## the same on a real node of Ethereum's (anvil by npm, else py-evm by pip): one to three minutes
	$(BIN)/python examples/demo --evm

demo-bft: $(VENV)/ready      ## the same on four validators, of which one is killed and one cheats: about a minute; needs CometBFT
	$(INSTALL) $(WHEELS) --requirement requirements-bft.lock
	$(BIN)/python examples/demo --bft

# Pytest's workers, and processes that tests start, heed what -I hides from pytest itself: without bytecode that is kept,
# each of them would compile the whole tree again.
test: $(VENV)/ready-dev      ## all tests that are fast enough for every run, on all cores
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -Im pytest -n auto --dist worksteal --hypothesis-seed=0 $(TESTS)

fuzz: $(VENV)/ready-dev      ## every property and state machine with DEPTH times as many draws, new ones each time
	DEPTH=$(DEPTH) $(BIN)/python -m pytest -n auto --dist worksteal -p simulation.deeper $(TESTS)

check: $(VENV)/ready-dev     ## lint, format, types, import directions, the structure, whether the locks are whole
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/programs.py
	$(BIN)/lint-imports
	$(BIN)/python tools/locks.py
	$(BIN)/python tools/structure.py

# Left out: frames that are large (two calls take many locks, or calls), what is not used on purpose (of an app's rules,
# arguments that not all apps need), names that begin with _.
contract: $(VENV)/ready-dev  ## the contract: is what is shipped what its source makes, and what does a linter say of that
	$(BIN)/python tools/contracts.py --check
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/natrix lint contracts/Adjudicator.vy contracts/Rollup.vy contracts/RollupJudge.vy contracts/Court.vy contracts/Towers.vy --disable NTX1 NTX8 NTX11
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/natrix lint contracts/apps/*.vy --disable NTX1 NTX8 NTX10 NTX11

coverage: $(VENV)/ready-dev  ## branch coverage of channels/, router/ and settlement/
	$(BIN)/python -Im pytest -n auto --dist worksteal --cov --cov-report=term-missing:skip-covered

bench: $(VENV)/ready         ## how fast two parties pay each other on this machine
	$(BIN)/tally bench direct

picture: $(VENV)/ready       ## the same as a picture, into bench.svg: installs matplotlib
	$(INSTALL) $(WHEELS) --requirement requirements-bench.lock
	$(BIN)/tally bench direct --picture bench.svg

endurance: $(VENV)/ready-dev ## ten million payments over one channel, a million over a thousand: nothing may grow
	$(BIN)/tally bench endurance --payments 10000000 --channels 1
	$(BIN)/tally bench endurance --payments 1000000 --channels 1000

hub: $(VENV)/ready-dev       ## one hub and all its spokes, which all pay at once: make hub SEED=7 SPOKES=2887
	PYTHONPATH=tests $(BIN)/python -m simulation.hub --spokes $(SPOKES) --seed $(SEED)

soak: $(VENV)/ready-dev hub  ## long campaigns: make soak SEED=7 RUNS=1000
	TALLY_SOAK_SEED=$(SEED) TALLY_SOAK_RUNS=$(RUNS) $(BIN)/python -m pytest -m soak tests
	$(BIN)/tally bench endurance --payments $$((5000 * $(RUNS))) --channels 1
	$(BIN)/tally bench endurance --payments $$((1000 * $(RUNS))) --channels 100

LOCK := uv pip compile --universal --generate-hashes --python-version 3.11 --no-strip-extras \
	--no-header --no-emit-index-url --no-annotate --quiet

# requirements-dev.lock holds all, so the others take their versions from it.
lock:                        ## pin what pyproject.toml allows; what is pinned stays (needs uv): make lock UPGRADE=--upgrade
	$(LOCK) $(UPGRADE) pyproject.toml --extra dev --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) pyproject.toml --extra bench --constraint requirements-dev.lock --output-file requirements-bench.lock
	$(LOCK) pyproject.toml --extra pyevm --constraint requirements-dev.lock --output-file requirements-pyevm.lock
	$(LOCK) pyproject.toml --extra bft --constraint requirements-dev.lock --output-file requirements-bft.lock
	$(LOCK) pyproject.toml --extra postgres --constraint requirements-dev.lock --output-file requirements-postgres.lock
	$(LOCK) $(UPGRADE) --group build --output-file requirements-build.lock

clean:
	rm -rf src/*.egg-info $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist *.egg-info
