# make run     train ESAC in an environment of its own, draw the learning curve
# make test    the test suite, likewise from nothing
# Needs Python 3.10 to 3.12, git and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0

ENV ?= InvertedDoublePendulum-v5
STEPS ?= 20000
SEED ?= 0
RUN_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
SOURCES := sb3_esac examples experiments benchmarks tests docs
SPELLED := README.md CHANGELOG.md CONTRIBUTING.md CITATION.bib docs experiments/notebook sb3_esac examples hyperparams
WHEEL_SOURCES := setup.cfg pyproject.toml README.md LICENSE sb3_esac hyperparams

.PHONY: help run test lint format type wheel docs clean
.DEFAULT_GOAL := help

help:
	@echo "make run     train on ENV=$(ENV) for STEPS=$(STEPS) steps with SEED=$(SEED)"
	@echo "make test    run the tests (PYTEST_ARGS=... is handed to pytest)"
	@echo "make lint    check the style of code and prose; make format applies the former"
	@echo "make type    check types"
	@echo "make wheel   build the wheel, install it into an empty environment, import it there"
	@echo "make docs    build the documentation into docs/_build/html, check its links and its spelling"
	@echo "make clean   remove $(VENV) and caches"

# --- environment: one stamp file per stage, so that a second make finds nothing to do ---

$(VENV)/.stamp-venv:
	@$(PYTHON) -c "import sys; sys.exit('Python 3.10 to 3.12 is needed, not ' + sys.version) if not (3, 10) <= sys.version_info < (3, 13) else None"
	@echo "[1/3] virtual environment: $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and by its exact version: nothing that follows may choose another build
$(VENV)/.stamp-torch: constraints.txt | $(VENV)/.stamp-venv
	@echo "[2/3] $(TORCH)"
	@$(PIP) install -c constraints.txt "$(TORCH)"
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-torch setup.cfg pyproject.toml
	@echo "[3/3] sb3_esac with mujoco, plots, progress"
	@$(PIP) install -c constraints.txt -e ".[mujoco,plots,progress]"
	@touch $@

$(VENV)/.stamp-tests: $(VENV)/.stamp-torch setup.cfg pyproject.toml
	@echo "[3/3] sb3_esac with what the tests need"
	@$(PIP) install -c constraints.txt -e ".[tests]"
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-torch setup.cfg pyproject.toml
	@echo "[3/3] sb3_esac with what the documentation needs"
	@$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

# --- what a user calls ---

run: $(VENV)/.stamp-run
	$(BIN)/python examples/train.py --env $(ENV) --steps $(STEPS) --seed $(SEED) $(RUN_ARGS)

test: $(VENV)/.stamp-tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.stamp-tests
	$(BIN)/python -m ruff check $(SOURCES)
	$(BIN)/python -m ruff format --check $(SOURCES)
	$(BIN)/python docs/style.py

format: $(VENV)/.stamp-tests
	$(BIN)/python -m ruff check --fix $(SOURCES)
	$(BIN)/python -m ruff format $(SOURCES)

type: $(VENV)/.stamp-tests
	$(BIN)/python -m mypy

# A copy of the sources keeps leftovers of earlier builds out of the wheel
wheel: $(VENV)/.stamp-tests
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	mkdir "$$work/source" "$$work/elsewhere"; \
	cp -R $(WHEEL_SOURCES) "$$work/source"; \
	echo "[1/4] wheel"; \
	$(BIN)/python -m build --wheel --outdir "$$work/dist" "$$work/source" > "$$work/build.log" 2>&1 || { cat "$$work/build.log"; exit 1; }; \
	echo "[2/4] empty environment, $(TORCH)"; \
	$(PYTHON) -m venv "$$work/venv"; \
	pip="$$work/venv/bin/python -m pip --quiet --quiet --disable-pip-version-check"; \
	$$pip install -c constraints.txt "$(TORCH)"; \
	echo "[3/4] the wheel, no extras"; \
	$$pip install -c constraints.txt "$$work"/dist/*.whl; \
	echo "[4/4] import"; \
	cp .ci/check_install.py "$$work/elsewhere"; cd "$$work/elsewhere"; "$$work/venv/bin/python" check_install.py

# A page that is gone must not stay behind, nor a warning be hidden by what is built already
docs: $(VENV)/.stamp-docs
	rm -rf docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -E -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html
	$(BIN)/codespell $(SPELLED)
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
