# Every target works from a fresh checkout: it builds .venv first if that is missing or older than pyproject.toml.
#   make test VENV=path    runs in an environment of your own instead, used as it is
#   make demo PYTHON=path  builds .venv with that interpreter

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ENV := $(or $(VENV),.venv)
PY := $(ENV)/bin/python
HASH := $(shell (sha256sum pyproject.toml || shasum -a 256 pyproject.toml) 2>/dev/null | cut -c1-16)
STAMP := $(ENV)/built-$(HASH)
# Some interpreters on the PATH cannot run or cannot make environments (shims, distributions that split them up).
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

CODE := $(wildcard *.py callbacks docs lightning_adv experiments benchmarks tests)
# One thread a process: two test processes with a pool of threads each would fight over the cores.
TEST_WORKERS ?= 2
PIP = $(PY) -m pip -qq --disable-pip-version-check
# Dozens of processes import the same modules: each would compile them where the environment forbids to keep bytecode.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: help demo test test-rounding lint format docs docs-check wheel clean install ready

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo "  VENV=path        use that environment instead of .venv"

DEMO := runs/demo
demo: ready ## Train a standard and a robust classifier on real images, attack both, write a report (4 minutes)
	@rm -rf $(DEMO)
	@echo "1/2 standard training, the baseline"
	@$(PY) train.py fit --config configs/demo.yaml --model.objective=CrossEntropy --run=$(DEMO)/standard \
		--trainer.callbacks.title="Standard training"
	@echo "2/2 adversarial training"
	@$(PY) train.py fit --config configs/demo.yaml --run=$(DEMO)/robust \
		--trainer.callbacks.baselines.standard=$(DEMO)/standard/report/results.json
	@echo "open $(CURDIR)/$(DEMO)/robust/report/index.html"

test: lint ## All gates: lint, format, then the tests (architecture, public names, documents, behaviour)
	@$(PYTEST) -n $(TEST_WORKERS) --dist loadgroup

# Kernels without AVX add in another order, as those of another processor do.
COMPUTING := $(addprefix tests/,attacks backdoors detectors fooling inspectors metrics mitigations models modules \
	objectives purifiers victims)
test-rounding: ready ## The tests that compute, with the rounding of another processor
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) -n $(TEST_WORKERS) -m "not slow" $(COMPUTING)

lint: ready ## Check style and format, change nothing
	@$(PY) -m ruff check --no-respect-gitignore $(CODE)
	@$(PY) -m ruff format --no-respect-gitignore --check $(CODE)

format: ready ## Rewrite the code in the project's format
	@$(PY) -m ruff check --no-respect-gitignore --fix $(CODE)
	@$(PY) -m ruff format --no-respect-gitignore $(CODE)

docs-check: ready ## Docstrings of public names, examples in docstrings, links of the documents
	@$(PYTEST) tests/test_public_api.py tests/test_docs.py tests/test_doctests.py

docs: ready ## Build the site into build/site; a broken link or an undocumented name is an error
	@$(PY) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs build/site
	@echo "open $(CURDIR)/build/site/index.html"

wheel: ready ## Build the source distribution and from it the wheel into dist/, and read both as an index would
	@rm -rf dist build/sdist
	@$(PY) -m hatchling build -t sdist -d dist
	@mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist
	@cd build/sdist/* && $(abspath $(PY)) -m hatchling build -t wheel -d $(CURDIR)/dist
	@rm -rf build/sdist
	@$(PY) -m twine check --strict dist/*

clean: ## Remove .venv and what builds and tests left; data/ and runs/ stay
	@rm -rf .venv dist build .pytest_cache .ruff_cache .benchmarks wandb lightning_logs *.egg-info
	@find . -name __pycache__ -type d -not -path './data/*' -not -path './runs/*' -prune -exec rm -rf {} +

install: $(STAMP) ## Build .venv (the other targets do it when needed)

ifdef VENV
ready:
	@test -x $(PY) || { echo "error: VENV=$(VENV) has no bin/python; make it with: python3 -m venv $(VENV)" >&2; exit 1; }
	@$(PY) -c 'import importlib.util, sys; \
		wanted = "torch torchvision pytorch_lightning jsonargparse timm kornia mlxtend torchattacks pytest xdist ruff hatchling twine"; \
		missing = [name for name in wanted.split() if not importlib.util.find_spec(name)]; \
		message = "error: VENV=$(VENV) lacks " + ", ".join(missing) + "; install them by: $(PY) -m pip install -e .[dev]"; \
		sys.exit(message if missing else 0)'
else
ready: $(STAMP)
endif

# The stamp is written last: an environment without it is half-built or stale, and is made anew. Somebody else's is not.
$(STAMP):
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 or newer with venv and ensurepip; name one by PYTHON=path" >&2; exit 1; }
	@test ! -e $(ENV) -o -z "$(VENV)" || { echo "error: VENV=$(VENV) is there already and is used as it is; remove it first" >&2; exit 1; }
	@test ! -e $(ENV) -o -e $(ENV)/pyvenv.cfg || { echo "error: $(ENV) is there but is no environment; move it away" >&2; exit 1; }
	@echo "building $(ENV) (several GB, a few minutes)"
	@rm -rf $(ENV)
	@$(PYTHON) -m venv $(ENV)
	@$(PIP) install --editable '.[dev]'
	@$(PIP) install --no-deps torchattacks==3.5.1 # a peer of the parity tests that pins an old requests
	@touch $(STAMP)
