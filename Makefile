# `make demo`: from nothing to the table of rank per epoch. `make test`: every check.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A small CPU build; what pip would choose by itself brings gigabytes of CUDA.
TORCH ?= torch==2.13.0
RUN ?= runs/digits
# Everything: tests use the real libraries.
EXTRAS := train,baselines,plot,report,pandas,polars,parquet,transformers,lightning,tensorboard,wandb,gguf,remote,dask,servers,docs,dev
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types docs slow bench studies clean

demo: $(VENV)/.train
	rm -rf $(RUN)
	$(BIN)/python -m trainers digits --out $(RUN)
	@$(BIN)/rankscope analyze $(RUN) --eps 0.01

# Files of tests go to two processes: what tests of a file share (a browser, a run) is made once.
# One thread of BLAS and PyTorch in each: more would wait for each other, ten times as long.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # silences Material's notice on its successor

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# What docs/reproduction.md tabulates and a CPU does in an hour; goes on where it was ended.
studies: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m trainers recipe digits --seeds 3 --jobs 2 --out runs/studies
	OMP_NUM_THREADS=1 $(BIN)/python -m trainers recipe digits-bound --jobs 2 --out runs/studies
	$(BIN)/python -m trainers figure digits runs/studies
	$(BIN)/python -m trainers figure digits-bound runs/studies
	OMP_NUM_THREADS=1 $(BIN)/python -m trainers table P2-T1 --seeds 3 --jobs 2 --out runs/studies -o runs/studies/P2-T1.md

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# torch first: with it in place, nothing that follows looks for another.
$(VENV)/.train: pyproject.toml | $(VENV)/bin/python
	$(PIP) '$(TORCH)'
	$(PIP) -e '.[train]'
	touch $@

# By themselves: beside a hundred others pip tries for many minutes which boto3 suits s3fs and moto.
$(VENV)/.remote: pyproject.toml $(VENV)/.train
	$(PIP) -e '.[remote,servers]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.remote
	$(PIP) -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
