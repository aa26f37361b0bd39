# Everything from here with make and a Python of at least 3.11: it makes its own environment, .venv.
#   make demo [PORT=8001]       a page on port 8000
#   make test [ARGS="-k name"]  the tests
# Another Python:  make test PYTHON=/path/to/python3.13

VENV := .venv
RUN := $(VENV)/bin/python
PORT ?= 8000
ARGS ?=
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
export PYTHON

.PHONY: help demo test demos docs lint format typing imports check dev clean always

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	@$(RUN) -c "import socket; socket.create_server(('', $(PORT))).close()" 2>/dev/null || \
	    { echo "Port $(PORT) is in use; take another:  make demo PORT=8001" >&2; exit 1; }
	@echo "Serving until ^C; in another terminal try:  curl localhost:$(PORT)"
	@$(RUN) demo/hello_http.py --http-port $(PORT)

test: $(VENV)/.developed
	$(RUN) -m pytest $(ARGS)

demos: $(VENV)/.developed
	$(RUN) -m pytest tests/test_demos.py $(ARGS)

docs: $(VENV)/.developed
	$(RUN) -m pytest tests/test_docs.py $(ARGS)

lint: $(VENV)/.developed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.developed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

typing: $(VENV)/.developed
	$(RUN) -m mypy --strict
	$(RUN) -m mypy --strict tests benchmarks

imports: $(VENV)/.developed
	$(VENV)/bin/lint-imports

check: lint typing imports test

dev: $(VENV)/.developed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.made: always
	@.ci/venv $(VENV)

always:

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "Installing sparts into $(VENV)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.developed: $(VENV)/.made pyproject.toml
	@echo "Installing sparts and what its tests use into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed
