# Every target works alone on a fresh clone: what it needs is set up first, in .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo explore test check bench

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "neurochains needs Python 3.10 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# Extracts a chain from a bundled network, writes its report and prints where it is.
demo: setup
	$(BIN)/neurochains demo

# Opens the explorer on a bundled network: make explore PORT=8060 NO_BROWSER=1
explore: setup
	$(BIN)/neurochains explore $(if $(PORT),--port $(PORT)) $(if $(filter-out 0,$(NO_BROWSER)),--no-browser)

# Two processes with one thread each: more threads than cores make the tests slower.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)
