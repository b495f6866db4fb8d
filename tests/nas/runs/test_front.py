"""``front.json`` as it is written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.runs.front import front_to_json, read_front
from nas.searching.summary import best_to_json
from searchers.fronts import front_of
from tests.nas.runs.stored import SPACE, trial

DIRECTIONS: Any = {"good": "maximize", "small": "minimize"}


def written(path: Path, **changes: Any) -> Path:
    trials = [trial(number, scores={"good": good, "small": small}) for number, (good, small) in enumerate(VALUES)]
    value = front_to_json(front_of(trials, DIRECTIONS), DIRECTIONS, lambda each: best_to_json(each, SPACE))
    (path / "front.json").write_text(json.dumps({**value, **changes}))
    return path


VALUES = [(1.0, 1.0), (3.0, 3.0), (2.9, 1.5), (0.5, 9.0)]
GOOD = {"id": 2, "genotype": "1-2", "scores": {"good": 2.9, "small": 1.5}}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    front = read_front(written(tmp_path))
    assert [each.id for each in front.trials] == [1, 2, 0] and front.knee == 2 and front.directions == DIRECTIONS
    assert front.trials[1].scores == {"good": 2.9, "small": 1.5}
    assert front.trials[1].genotype == SPACE.format(trial(2).genotype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"knee": "2"}, r"front.json is damaged: knee '2', expected a whole number from 0"),
        ({"knee": 7}, "front.json is not the front of a search: it holds no objective, or not the cell of its knee"),
        ({"objectives": []}, "it holds no objective"),
        ({"objectives": [{"name": "good", "direction": "up"}]}, r"objectives\[0\].direction 'up', expected one of max"),
        ({"front": 5}, "damaged: front 5, expected a list"),
        ({"front": [5]}, r"damaged: front\[0\] 5, expected an object"),
        ({"front": []}, "not the cell of its knee"),
        ({"front": [{**GOOD, "id": -1}]}, "is not the front of a search: id -1"),
        ({"front": [{**GOOD, "scores": {"good": 1.0}}]}, "trial 2: score small None, expected a finite number"),
        ({"front": [{**GOOD, "scores": {"good": 1e999, "small": 1.0}}]}, "score good inf, expected a finite number"),
        ({"hypervolume": "much"}, "damaged: hypervolume 'much'"),
    ],
)
def test_what_no_search_has_written_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_front(written(tmp_path, **changes))


def test_a_search_with_one_objective_has_no_front(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no front.json, expected that of a finished search with several --obj"):
        read_front(tmp_path)
