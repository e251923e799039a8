# Each target stands alone on a fresh machine with Python 3.11–3.13 and make; set-up happens once, by itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Two workers with one thread each: tests are many and small. Plain `kedro run` keeps torch's own threads.
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n 2 --dist loadfile
ARGS   ?=

.PHONY: help setup demo test check lint lock mlflow docs bench viz-build replay-metrics prove-no-leak soak nightly clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(STAMP)  ## make .venv with everything that runs, tests and shows the project

$(STAMP): requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"expected Python 3.11 to 3.13, found {v[0]}.{v[1]}: run make PYTHON=python3.11 …")'
	@echo "setting up $(VENV): some minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first and by name: an open range may bring several GB of another build; the lock holds the rest, hashed
	@$(BIN)/python requirements/install.py torch==2.13.0
	@$(BIN)/python requirements/install.py --require-hashes -r requirements/lock.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)  ## bars to trained model to test scores on the embedded simulated market
	$(BIN)/kedro run $(ARGS)

test: lint  ## every test; real bars are used where they lie beside the project
	$(PYTEST) $(ARGS)

check: lint  ## the quick subset for the inner loop
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(STAMP)  ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(STAMP)  ## resolve requirements/lock.txt anew
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-package torch \
		--override requirements/overrides.txt --custom-compile-command "make lock" -q -o requirements/lock.txt

# Where runs are tracked, as nqcast.storage.place has it: in the data folder; in NQCAST_WORK where the data lie in a store.
PLACED = $(patsubst file://%,%,$(if $(filter s3://%,$(NQCAST_DATA)),$(NQCAST_WORK),$(NQCAST_DATA)))
WORKED = $(or $(patsubst ~/%,$(HOME)/%,$(PLACED)),data)

mlflow: $(STAMP)  ## look at the tracked runs, on loopback; env=nq: those of real bars
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --host 127.0.0.1 \
		--backend-store-uri sqlite:///$(WORKED)$(if $(env),/$(env))/09_tracking/mlflow.db $(ARGS)

docs: $(STAMP)  ## the site of the documentation in build/site, without network; the notebooks are run once
	NO_MKDOCS_2_WARNING=1 NQCAST_NOTEBOOKS=execute $(BIN)/mkdocs build -q --strict $(ARGS)

bench: $(STAMP)  ## measure speed and memory, each figure beside something of the same run; ARGS=--quick: ten minutes
	$(BIN)/python -m benchmarks $(ARGS)

viz-build: $(STAMP)  ## the pipelines and data as static pages in build/, for any web server
	$(BIN)/kedro viz build --include-previews $(ARGS)

replay-metrics: $(STAMP)  ## send to MLflow what an outage kept back
	$(BIN)/python -m nqcast.tracking.replay $(ARGS)

prove-no-leak: $(STAMP)  ## changed futures, permuted targets, label order; bars=FILE takes your own bars
	$(BIN)/python -m nqcast.experiments.leak_proof $(if $(bars),--bars $(bars)) $(ARGS)

soak: $(STAMP)  ## kills in training, saves and database creation, and two runs at once: nothing lost, bit-equal ends
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.killing --kills 200 --where anywhere
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.killing --kills 200 --where writes --seed 1
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.killing --kills 200 --where saves --seed 2
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.killing --kills 100 --where two --seed 3
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.killing --kills 100 --where database --seed 4

nightly: $(STAMP)  ## what `make test` leaves out: 2,000 dirty files drawn at random, further cases of long tests
	NQCAST_DIRTY_EXAMPLES=2000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/market/test_dirty_files.py $(ARGS)
	$(PYTEST) -m nightly $(ARGS)

clean:  ## remove the environment and caches; data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
