"""Runs to be read back: trials of each kind, and lines that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.runs.directory import RunDirectory
from nas.runs.trials import trial_to_json
from searchers.base import Trial
from tests.searchers.toy_space import ToySpace, make_trial

SPACE = ToySpace()


def trial(number: int, **changes: Any) -> Trial[Any]:
    return make_trial(SPACE, number, tuple((number * 7 + i) % 10 for i in range(8)), **changes)


TRIALS_OF_EACH_KIND = [
    trial(0, scores={"a": 0.1, "b": -1e-300}, params=3, macs=2**40, seconds=1.25, seed=2**63 - 1),
    trial(1, status="failed", scores={}, error='RuntimeError: "quoted" \\ ünï \u2028 [tag]'),
    trial(2, status="infeasible", scores={}, error="macs must be at most 1, got 2"),
    trial(3, scores={"a": 1 / 3}),
]


def write(path: Path, trials: list[Trial[Any]]) -> Path:
    with RunDirectory(path, SPACE) as run:
        run.write_manifest({"configuration": {}})
        for each in trials:
            run.append(each)
    return path


def read(path: Path) -> list[Trial[Any]]:
    with RunDirectory(path, SPACE) as run:
        return run.read_trials()


def good() -> dict[str, Any]:
    return trial_to_json(trial(1), SPACE)


CORRUPT = {
    "no JSON": "garbage",
    "an empty line": "",
    "half a line": json.dumps(good())[:40],
    "not UTF-8": "\udcff\udcfe",
    "a list": "[1]",
    "a number": "7",
    "nested too deeply": "[" * 100_000,
    "a field missing": json.dumps({name: value for name, value in good().items() if name != "macs"}),
    "unknown status": json.dumps({**good(), "status": "great"}),
    "negative id": json.dumps({**good(), "id": -1}),
    "id is a text": json.dumps({**good(), "id": "1"}),
    "id is a boolean": json.dumps({**good(), "id": True}),
    "id is a number with a point": json.dumps({**good(), "id": 1.0}),
    "negative macs": json.dumps({**good(), "macs": -1}),
    "seconds are endless": json.dumps({**good(), "seconds": float("inf")}),
    "a score too large for a float": json.dumps({**good(), "scores": {"a": 10**400}}),
    "status is a list": json.dumps({**good(), "status": ["ok"]}),
    "scores are a list": json.dumps({**good(), "scores": []}),
    "a score is a text": json.dumps({**good(), "scores": {"a": "1"}}),
    "a score is not finite": json.dumps({**good(), "scores": {"a": float("nan")}}),
    "params are null": json.dumps({**good(), "params": None}),
    "seed is infinite": json.dumps({**good(), "seed": float("inf")}),
    "genotype is a number": json.dumps({**good(), "genotype": 5}),
    "genotype cannot be read": json.dumps({**good(), "genotype": "x-y"}),
    "error is a number": json.dumps({**good(), "error": 5}),
    "key of another genotype": json.dumps({**good(), "key": trial(2).key}),
}
