PYTHON ?= python

.PHONY: install test slow gpu lint format bench

install:
	$(PYTHON) -m pip install -e ".[test]"

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pytest -m slow

gpu:
	$(PYTHON) -m pytest -m gpu -n 0

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
