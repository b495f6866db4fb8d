"""Scoring in threads of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.errors import OutOfMemory
from nas.executors.local import LocalExecutor
from searchers.base import Trial
from tests.nas.executors.faulty import FaultyScorer, candidates


class Scarce(FaultyScorer):
    """Memory does not suffice for some candidates."""

    def __call__(self, candidate: Any) -> Trial[Any]:
        if candidate.id in (1, 4):
            raise OutOfMemory(f"candidate {candidate.id}")
        return super().__call__(candidate)


def test_the_others_are_finished_before_a_failure_is_passed_on(tmp_path: Path) -> None:
    trials = []
    with pytest.raises(OutOfMemory, match="candidate [14]"):
        for trial in LocalExecutor(3).run(Scarce(tmp_path), candidates(8)):
            trials.append(trial)
    assert sorted(trial.id for trial in trials) == [0, 2, 3, 5, 6, 7]
