# make demo and make test set up all that they need: a virtual environment, the Python
# packages and, as root on Debian, the system libraries. The second time they are quick.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A stamp's name holds a checksum of what the set-up was made from.
RECIPE := $(shell cat pyproject.toml scripts/*.sh | cksum | cut -d' ' -f1)
RUN_READY := $(VENV)/.run-$(RECIPE)
DEV_READY := $(VENV)/.dev-$(RECIPE)

# Linux without a screen gets a virtual one; the tests' windows always open there.
ifeq ($(shell uname -s),Linux)
VIRTUAL_SCREEN := xvfb-run -a -s "-screen 0 1600x1000x24"
ANY_SCREEN := $(if $(DISPLAY)$(WAYLAND_DISPLAY),,$(VIRTUAL_SCREEN))
endif

.PHONY: help demo test check wheel-check clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(RUN_READY) ## Open napari on a real image with a prompt segmented
	$(ANY_SCREEN) $(BIN)/python -m napari_medvlseg.plugin.demo $(if $(ANY_SCREEN),--headless demo-output)

# A process a core, at most four, each with one thread; a file's tests stay together.
test: $(DEV_READY) ## Run the tests (PYTEST_ARGS='-m "not slow"' for the quick ones)
	OMP_NUM_THREADS=1 $(VIRTUAL_SCREEN) $(BIN)/python -m pytest --cov --cov-report= \
	  -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(DEV_READY) wheel-check ## Run the machine checks, after make test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/npe2 validate napari-medvlseg
	$(BIN)/coverage report --include='*/napari_medvlseg/core/*' --fail-under=95

wheel-check: $(DEV_READY) ## Build the wheel and open every widget from it
	$(BIN)/python scripts/install_wheel.py build/wheel
	cd build/wheel && $(VIRTUAL_SCREEN) env/bin/python $(CURDIR)/scripts/open_widgets.py

clean: ## Remove what was built, the virtual environment included
	rm -rf $(VENV) build dist demo-output htmlcov .coverage .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache .grimp_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_READY): | $(BIN)/python
	scripts/system_libraries.sh
	@echo 'Installing the Python packages: some minutes and gigabytes the first time, PyTorch most of it.'
	$(BIN)/python -m pip install --editable . 'napari[pyqt6]'
	@touch $@

$(DEV_READY): $(RUN_READY)
	$(BIN)/python -m pip install --editable '.[train]' --group dev
	@touch $@

$(BIN)/python:
	scripts/virtual_environment.sh '$(PYTHON)' '$(VENV)'
