# make demo and make test do everything from a fresh clone: a .venv in this folder first, then the work.

PYTHON ?= python3
BIN := .venv/bin
# One call with the constraints: see the note in constraints.txt.
INSTALL := $(BIN)/pip install --disable-pip-version-check -q -c constraints.txt

FAILED := The installation stopped. Look at the last lines above: without a network, or behind a proxy that pip does not \
know (see HTTPS_PROXY), try again later; with a full disk, make room (3 GB). Then run the same command again: packages \
that pip has downloaded are kept.

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint package bench docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## create .venv and install wsiseg with its pinned dependencies (PYTHON=python3.12 for another Python)

# Redone when the dependencies change; the stamp is written last, so an interrupted installation is done again.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wsiseg needs Python 3.11 or newer: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv .venv
	@$(INSTALL) -e '.[dev]' || { echo "$(FAILED)" >&2; exit 1; }
	@touch $@

.venv/installed-bench: .venv/installed
	$(INSTALL) -e '.[dev,bench]'
	@touch $@

demo: setup ## make a slide, segment it with the bundled models, compare with the truth: results in demo/
	$(BIN)/wsiseg demo --out demo

# Two processes of one thread each: PyTorch's threads and a second process would wait for each other.
test: setup ## run all tests (WSISEG_TEST_DATA names the folder of real slides; without it their tests are skipped)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup ## run ruff, mypy and import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

package: setup ## build sdist and wheel into dist/, and run the demo from the wheel in an empty environment
	$(BIN)/python -m tools.check_package --demo --keep dist

bench: .venv/installed-bench ## run every program in benchmarks/, one after the other
	@set -e; for program in $(sort $(wildcard benchmarks/*.py)); do echo "== $$program"; $(BIN)/python "$$program"; done

docs: setup ## build the documentation as a site in site/; a link that leads nowhere is an error
	$(BIN)/python -m tools.build_site site

clean: ## remove caches, builds and the demo's results, but not .venv
	rm -rf demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
