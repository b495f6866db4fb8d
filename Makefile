PYTHON ?= python

.PHONY: install test slow gpu lint format bench

install:
	$(PYTHON) -m pip install -e ".[test]"

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pytest -m slow

# Tests and benchmark on a CUDA device. pytest needs no plugins for it, and the warnings of whatever versions are there are
# no errors. GPU_OUT: the figures; their page is beside them.
GPU_OUT ?= build/gpu.json
GPU_TESTS = $(shell find tests -name test_gpu.py -o -name 'test_*_gpu.py')
GPU_PYTEST = -m pytest -o addopts= -o filterwarnings="ignore:Unknown config option" --import-mode=importlib --strict-markers

gpu:
	@$(PYTHON) -c "import sys, torch; sys.exit(None if torch.cuda.is_available() else \
	    'make gpu: torch sees no CUDA device here, so nothing was tested or measured')"
	@status=0; \
	$(PYTHON) $(GPU_PYTEST) -m gpu -q --durations=5 $(GPU_TESTS) || status=1; \
	$(PYTHON) -m benchmarks.gpu --out $(GPU_OUT) || status=1; \
	exit $$status

RULES = --line-length 120 --target-version py310
FOLDERS = nas search_spaces searchers proxies experiments benchmarks tests

lint:
	$(PYTHON) -m ruff check $(RULES) --select E,F,I,B,UP,SIM,PIE,RUF --ignore RUF001,RUF002,RUF003,RUF043,SIM105,SIM115,SIM117 $(FOLDERS)
	$(PYTHON) -m mypy
	lint-imports --config setup.cfg

format:
	$(PYTHON) -m ruff check $(RULES) --select I --fix $(FOLDERS)
	$(PYTHON) -m ruff format $(RULES) $(FOLDERS)

bench:
	$(PYTHON) -m benchmarks.scoring
	$(PYTHON) -m benchmarks.proxies
	$(PYTHON) -m benchmarks.executors
	$(PYTHON) -m benchmarks.training
