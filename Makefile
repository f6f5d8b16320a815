# Two commands: `make demo` shows the tool, `make test` checks it. Both install what they need into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO ?= demo

.PHONY: help install checks demo test lint types contract tests format oracle nightly studies clean

help:           ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed   ## tomoseg and what it needs, in .venv

# torch comes first and pinned: a range would take the newest build with gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --editable .
	@touch $@

checks: $(VENV)/.checks       ## the checks' own packages

$(VENV)/.checks: $(VENV)/.installed
	$(PIP) --editable '.[checks]'
	@touch $@

demo: install   ## the tour, on a phantom: report.html and scores.json in demo/
	$(BIN)/tomoseg demo -o $(DEMO)

test: lint types contract tests   ## format, lint, types, import contract, tests, doctests

lint: checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: checks
	$(BIN)/mypy

contract: checks
	$(BIN)/lint-imports

tests: checks
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadscope --jaxtyping-packages=tomoseg,checking.typechecked

format: checks  ## rewrite the files in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

oracle: install ## what SimpleITK, PoreSpy and taufactor say, into tests/reference; in environments of their own
	$(PYTHON) -m venv .oracle
	.oracle/bin/pip install --quiet --disable-pip-version-check numpy SimpleITK==2.5.2
	mkdir -p tests/reference/simpleitk
	.oracle/bin/python tests/oracle/simpleitk.py $(BIN)/python tests/reference/simpleitk
	$(PYTHON) -m venv .oracle-numbers
	.oracle-numbers/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  "$$(grep '^torch==' constraints.txt)" porespy==3.0.1 taufactor==1.2.1
	.oracle-numbers/bin/python -W ignore tests/oracle/microstructure.py tests/reference/microstructure

nightly: install ## the short noise study on a phantom, five minutes; in results/nightly
	rm -rf results/nightly
	$(BIN)/tomoseg phantom -o results/nightly/phantom
	$(BIN)/tomoseg study noise results/nightly/phantom/images results/nightly/phantom/labels -o results/nightly/study \
	  --quick --classes pore=0 YSZ=128 Ni=255

studies: install ## the experiments of docs/experiments.md, one after the other (hours); results in results/
	for study in benchmarks/study_*.py; do $(BIN)/python $$study --out results || exit 1; done

clean:          ## remove what make made, demo/ and results/ excepted
	rm -rf $(VENV) .oracle .oracle-numbers .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
