"""A run with all kinds of trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.report.pages import trials_of, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trials = trials_of(30)
    trials[3].update(status="failed", scores={}, error="RuntimeError: no gradient in layer 3")
    trials[4].update(status="failed", scores={}, error="RuntimeError: no gradient in layer 12")
    trials[5].update(status="infeasible", scores={}, error="105,000 parameters, expected at most 100,000")
    trials[20] = {**trials[10], "id": 20, "seconds": 0.0}
    best = max(trials, key=lambda trial: trial["scores"].get("robust", -100.0))
    return write_run(tmp_path_factory.mktemp("runs") / "a-run", trials, {**best, "genotype_json": {}})
