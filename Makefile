# Everything runs in .venv, which the first target that needs it creates. `make help` lists the targets.
#
#   make test PYTHON=/path/to/python3.12      choose the interpreter for a new .venv
#   make test PYTEST_ARGS='-m slow -k cubic'  pass arguments to pytest
#   make demo DEMO_OUT=/tmp/out               choose where the demonstration writes

PYTHON ?=
PYTEST_ARGS ?=
DEMO_OUT ?= demo-out

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint clean

help:
	@echo "make demo    run the demonstration; its results go to $(DEMO_OUT)/"
	@echo "make test    run the test suite (PYTEST_ARGS='...' is passed to pytest)"
	@echo "make lint    ruff check, ruff format --check and pyright"
	@echo "make clean   remove $(VENV), $(DEMO_OUT) and what the tools leave behind"

demo: $(STAMP)
	@echo "==> jensen demo --out $(DEMO_OUT)"
	@MPLBACKEND=Agg $(BIN)/jensen demo --out "$(DEMO_OUT)"

test: $(STAMP)
	@echo "==> pytest -q $(PYTEST_ARGS)"
	@MPLBACKEND=Agg $(BIN)/python -m pytest -q $(PYTEST_ARGS)

lint: $(STAMP)
	@echo "==> ruff check"
	@$(BIN)/python -m ruff check .
	@echo "==> ruff format --check"
	@$(BIN)/python -m ruff format --check .
	@echo "==> pyright"
	@$(BIN)/python -m pyright

clean:
	@echo "==> removing $(VENV), $(DEMO_OUT), builds and caches"
	@rm -rf $(VENV) "$(DEMO_OUT)" build dist .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The environment -------------------------------------------------------------------------------------------------

# The stamp holds the directory it was made in: in a checkout that was moved, or whose interpreter is gone, it is redone.
ifneq ($(shell [ "`cat $(STAMP) 2>/dev/null`" = "$(CURDIR)" ] && $(BIN)/python -c '' 2>/dev/null && echo current),current)
.PHONY: $(STAMP)
endif

# Answers with one word and the version: can this interpreter make a virtual environment, and how?
#   ready: by itself; pip: only with a pip of its own; bare: not at all; old: not new enough for jensen.
PROBE := import sys; from importlib.util import find_spec as has; \
	kind = ("old" if sys.version_info < (3, 11) else "bare" if not has("venv") \
	else "ready" if has("ensurepip") else "pip" if has("pip") else "bare"); \
	print(kind, "%d.%d.%d" % sys.version_info[:3])

# A candidate counts only once it has run: a name on PATH may be a wrapper around an interpreter that is not there.
$(STAMP): pyproject.toml
	@case "`$(BIN)/python -c '$(PROBE)' 2>/dev/null`" in \
	  ""|old*) ;; \
	  *) if $(PIP) --version >/dev/null 2>&1; then exit 0; fi ;; \
	esac; \
	how=; best=; tried=; \
	for py in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python3.14 python; do \
	  [ -n "$$py" ] || continue; \
	  answer=`"$$py" -c '$(PROBE)' 2>/dev/null` || answer=; \
	  case "$$answer" in \
	    ready*) how=ready; best=$$py; version=$${answer#* }; break ;; \
	    pip*) [ "$$how" = pip ] || { how=pip; best=$$py; version=$${answer#* }; }; \
	          [ "$$py" != "$(PYTHON)" ] || break ;; \
	    bare*) [ -n "$$how" ] || { how=bare; best=$$py; version=$${answer#* }; } ;; \
	    old*) tried="$$tried $$py (is $${answer#* })," ;; \
	    *) tried="$$tried $$py (does not run)," ;; \
	  esac; \
	  [ "$$py" != "$(PYTHON)" ] || echo "==> PYTHON=$$py will not do; looking for another one" >&2; \
	done; \
	if [ -z "$$how" ]; then \
	  echo "error: jensen needs Python 3.11 or newer. Tried:$${tried%,}." >&2; \
	  echo "       Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	elif [ "$$how" = bare ]; then \
	  echo "error: $$best (Python $$version) cannot create a virtual environment: it has neither ensurepip nor pip." >&2; \
	  echo "       On Debian and Ubuntu: apt install python3-venv. Or name another one: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "==> creating $(VENV) with $$best (Python $$version)"; \
	if [ "$$how" = ready ]; then \
	  "$$best" -m venv --clear $(VENV); \
	else \
	  "$$best" -m venv --clear --without-pip $(VENV) && "$$best" -m pip --python $(BIN)/python install -q pip; \
	fi || { \
	  echo "error: $$best -m venv failed. On Debian and Ubuntu, apt install python3-venv may be what is missing." >&2; \
	  exit 1; \
	}
	@echo "==> installing jensen and its dependencies into $(VENV) (the first time, this takes a few minutes)"
	@$(PIP) install -q -e '.[dev]'
	@echo "$(CURDIR)" > $(STAMP)
