"""Which candidates are scored together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas import Search
from nas.executors.candidates import Candidate
from nas.executors.stacks import score_stacks, stacked, stacks_of
from nas.executors.workload import Workload
from searchers.base import Trial
from tests.nas.commands import timeless


def candidates(count: int, fidelity: float = 1.0) -> list[Candidate[str]]:
    return [Candidate(id, str(id), str(id), fidelity) for id in range(count)]


def ids(stacks: Sequence[Sequence[Candidate[Any]]]) -> list[list[int]]:
    return [[each.id for each in stack] for stack in stacks]


def test_stacks_are_as_equal_as_possible() -> None:
    assert ids(stacks_of(stacked(candidates(10), 4))) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert ids(stacks_of(stacked(candidates(5), 8))) == [[0, 1, 2, 3, 4]]
    assert ids(stacks_of(stacked(candidates(3), 1))) == [[0], [1], [2]]
    assert ids(stacks_of(candidates(3))) == [[0], [1], [2]] and stacks_of(stacked([], 4)) == []
    mixed = [dataclasses.replace(each, fidelity=0.5 if each.id < 2 else 1.0) for each in candidates(5)]
    assert ids(stacks_of(stacked(mixed, 8))) == [[0, 1], [2, 3, 4]]


def test_a_worker_gets_whole_stacks() -> None:
    work = Workload(stacked(candidates(10), 4))
    first = work.take(1)
    assert ids([first, work.take(4)]) == [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9]]
    work.lost(first, blame=True)  # then one by one, so that only the candidate at fault can cost another worker
    assert ids([work.take(5), work.take(5), work.take(5)]) == [[0], [1], [2]]


class Recorder:
    """A scorer that notes what is prepared and scored together."""

    stack = 3

    def __init__(self) -> None:
        self.events: list[tuple[str, list[int]]] = []

    def __call__(self, candidate: Candidate[str]) -> Trial[str]:
        return self.together([candidate], None)[0]

    def prepared(self, candidates: Sequence[Candidate[str]]) -> str:
        self.events.append(("prepared", [each.id for each in candidates]))
        return ", ".join(each.key for each in candidates)

    def together(self, candidates: Sequence[Candidate[str]], prepared: str | None) -> list[Trial[str]]:
        assert prepared in (None, ", ".join(each.key for each in candidates))
        self.events.append(("scored", [each.id for each in candidates]))
        return [Trial(id=each.id, key=each.key, genotype=each.genotype, seed=0, status="ok") for each in candidates]


def test_the_next_stack_is_prepared_while_one_is_scored() -> None:
    scorer = Recorder()
    stacks = stacks_of([*stacked(candidates(6), 3), Candidate(6, "6", "6")])
    assert [trial.id for trial in score_stacks(scorer, stacks)] == list(range(7))  # type: ignore[arg-type]
    scored = [event for event in scorer.events if event[0] == "scored"]
    assert [which for _, which in scored] == [[0, 1, 2], [3, 4, 5], [6]]
    assert ("prepared", [6]) not in scorer.events and len(scorer.events) == 5


def test_ray_scores_the_same_stacks(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "budget": 8, "channels": 4, "layers": 3, "seed": 2, "report": False, "compare": "never", "population": 4,
        "tournament": 2, "candidates_per_step": 5, "stack": 3,
    }  # fmt: skip
    histories = []
    for executor in ({"executor": "ray", "workers": 2}, {"threads": 1}):
        path = tmp_path / str(len(histories))
        Search("darts", "regularized_evolution", ["snip(images=4)"], out=path, **options, **executor).run()
        histories.append(sorted(timeless(path), key=lambda trial: trial["id"]))
    assert histories[0] == histories[1]
