"""Converts trials to and from the lines of ``trials.jsonl``. No other module defines this format."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from nas.errors import UserError
from nas.runs.json_lines import JsonLines
from nas.runs.schema import OBJECT, POSITIVE, TEXT, WHOLE, Check, is_number, maybe, one_of, shown
from search_spaces.base import SearchSpace
from searchers.base import Status, Trial

G = TypeVar("G")

#: field -> the check of its value, and the value of a missing field
_FIELDS: dict[str, tuple[Check, Any]] = {
    "id": (WHOLE, 0),
    "key": (TEXT, ""),
    "genotype": (TEXT, ""),
    "seed": (WHOLE, 0),
    "status": (one_of(*get_args(Status)), ""),
    "scores": (OBJECT, {}),
    "params": (WHOLE, 0),
    "macs": (WHOLE, 0),
    "seconds": (POSITIVE, 0.0),
    "error": (maybe(TEXT), None),
    "violation": (POSITIVE, 0.0),
    "fidelity": (POSITIVE, 1.0),
}
_ALWAYS = ("id", "status")
#: fields that a line has only if their value is not the default
_SELDOM = ("violation", "fidelity")


def trial_lines(path: Path) -> JsonLines:
    """The file with one trial a line."""
    return JsonLines(path, "not a trial", first="id")


def trial_to_json(trial: Trial[G], space: SearchSpace[G]) -> dict[str, Any]:
    """The fields of a line in ``trials.jsonl``."""
    return {
        "id": trial.id,
        "key": trial.key,
        "genotype": space.format(trial.genotype),
        "seed": trial.seed,
        "status": trial.status,
        "scores": trial.scores,
        "params": trial.params,
        "macs": trial.macs,
        "seconds": round(trial.seconds, 6),
        "error": trial.error,
        **{name: value for name in _SELDOM if (value := getattr(trial, name)) != _FIELDS[name][1]},
    }


def trial_from_json(value: Any, space: SearchSpace[G], *, defer: bool = False) -> Trial[G]:
    """The inverse of :func:`trial_to_json`, for a search that is resumed.

    :param defer: parse the genotype only when it is first accessed; its errors are raised then.
    :raises ValueError: a field is missing or wrong, or a score is not finite.
    :raises UserError: the key belongs to another genotype.
    """
    fields = _checked(value, complete=True)
    find_genotype = partial(_genotype, fields.pop("genotype"), fields["key"], space)
    return Trial.deferred(find_genotype, **fields) if defer else Trial(genotype=find_genotype(), **fields)


def stored_trial(value: Any) -> Trial[str]:
    """A trial for a report, with its genotype as text. All fields except ``id`` and ``status`` may be missing.

    A score may be infinite, or null, which is read as NaN. A report counts and lists such a candidate, but never ranks
    it.

    :raises ValueError: a field has a wrong value.
    """
    fields = _checked(value, complete=False)
    fields["genotype"] = fields["genotype"] or fields["key"]
    return Trial(**{**fields, "key": fields["key"] or fields["genotype"]})


def _checked(value: Any, *, complete: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"got {shown(value)}, expected an object")
    fields: dict[str, Any] = {}
    for name, (check, default) in _FIELDS.items():
        got = value.get(name)
        if got is None and (name in _SELDOM or not complete) and name not in _ALWAYS:
            got = default
        elif name not in value:
            raise ValueError(f"{name} is missing")
        check(got, name)
        fields[name] = got
    fields["scores"] = {name: _score(name, score, complete) for name, score in fields["scores"].items()}
    fields["seconds"] = float(fields["seconds"])
    return fields


def _score(name: str, got: Any, complete: bool) -> float:
    if got is None and not complete:
        return math.nan
    if not is_number(got) or (complete and not math.isfinite(got)):
        raise ValueError(f"score {shown(name)} is {shown(got)}, expected a {'finite ' if complete else ''}number")
    return float(got)


def _genotype(text: str, key: str, space: SearchSpace[G]) -> G:
    genotype = space.parse(text)
    if key != space.canonical(genotype):
        raise UserError(f"key and genotype are of different cells: {key} and {text}")
    return genotype


def read_trials(lines: JsonLines, parse: Callable[[Any], Trial[G]]) -> list[Trial[G]]:
    """All trials of a file in id order.

    :param parse: makes a trial from the JSON object of a line.
    :raises UserError: a line is not a trial, or repeats an id; the message gives the number of the line.
    """
    trials: dict[int, Trial[G]] = {}
    with _without_collector():
        for number, trial in lines.read(parse):
            if trial.id in trials:
                raise UserError(f"{lines.path} line {number}: trial {trial.id} stands there twice")
            trials[trial.id] = trial
    return [trials[id] for id in sorted(trials)]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn off Python's garbage collector, which would traverse the growing list of trials again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
