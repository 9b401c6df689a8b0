# `make help` says what there is. Everything runs in .venv, which is made on first use.

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin
# More than cores: many tests wait.
TESTERS ?= 4
# A suite starts hundreds of processes: compiling each module once is a fifth of the time of their start.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder
INPUT ?= examples/queries.jsonl
PINS := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help run run-real up down test test-long lint style types bench bench-scale bench-routing default-router attack chaos mutation lock pin-images clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-15s %s\n", $$1, $$2 }'

run: .venv/ready ## Answer the example queries: starts everything, prints the report, stops everything (INPUT=file)
	@$(BIN)/pointsman run $(INPUT)

run-real: .venv/ready ## Have two real models on this machine answer (LARGE_GGUF=file, SMALL_GGUF=file, LLAMA_SERVER=program)
	@$(BIN)/python -m benchmarks.real_models

up: .venv/ready ## Run services, workers, feeder and Flower in the foreground, until Ctrl-C
	@$(BIN)/pointsman up

down: .venv/ready ## Stop whatever of it still runs
	@$(BIN)/pointsman down

test: style ## Lint, check the types, run the tests
	@$(MAKE) --no-print-directory types >.venv/types.log 2>&1 & types=$$!; \
		$(PYTEST) --durations 12; tests=$$?; \
		wait $$types; types=$$?; cat .venv/types.log; exit $$((tests || types))

test-long: .venv/ready ## Run what `make test` leaves out: what takes long and shows what changes rarely
	@$(PYTEST) -m long --durations 12

lint: style types ## Check style, types and the words of docs and messages
	@$(BIN)/python -m pytest -q --no-header tests/unit/docs/test_words.py

style: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/ready
	@$(BIN)/mypy

bench: .venv/ready ## Measure throughput against the alternatives, into bench.json (up to 20 minutes)
	@$(BIN)/python -m benchmarks

bench-scale: .venv/ready ## The same with a million queries (an hour)
	@$(BIN)/python -m benchmarks --scale

bench-routing: .venv/ready ## Measure the routers by cross-validation on real outcomes, against published figures (3 minutes)
	@$(BIN)/python -m benchmarks.routing_quality

default-router: .venv/ready ## Train the shipped router anew, from examples/labelled.jsonl
	@$(BIN)/pointsman train examples/labelled.jsonl --out evaluation/artifacts/default --workload simulator

chaos: .venv/ready ## Break everything that can break, and count what is lost
	@$(BIN)/python -m tests.chaos
	@$(BIN)/python -m pytest -m long tests/integration

attack: .venv/ready ## Attack the service as a tenant, a web page, a neighbor or a model would, with figures
	@$(BIN)/python -m pytest -m attack -s

mutation: .venv/ready ## Switch each guard off in turn, and show which test notices (10 minutes)
	@$(BIN)/python -m tests.chaos.mutation

lock: ## Pin every dependency anew, with hashes, into requirements.lock and deploy/image-requirements.lock (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv, or make lock UV=/path/to/uv"; exit 1; }
	@$(UV) pip compile --quiet $(PINS) --extra dev pyproject.toml -o requirements.lock $(LOCK_OPTIONS)
	@$(UV) pip compile --quiet $(PINS) --extra image --constraint requirements.lock pyproject.toml -o deploy/image-requirements.lock

pin-images: ## Pin the images of the Dockerfile and of compose to today's digests (needs docker and the network)
	@deploy/pin_images

clean: ## Remove .venv and all caches; the data directory .pointsman, with its database, stays
	@test ! -x $(BIN)/pointsman || $(BIN)/pointsman down >/dev/null 2>&1 || true
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build bench.json
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Pointsman needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into .venv (a minute, once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|mypyc?|fontTools|pygments/lexers)/' . || true  # what is imported
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e . 2>.venv/install.log \
		|| { cat .venv/install.log; exit 1; }
	@touch $@
