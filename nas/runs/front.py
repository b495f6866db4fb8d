"""``front.json``: the front of a search with several objectives. No other module defines this format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nas.errors import UserError
from nas.runs.directory import FRONT, checked, read_json
from nas.runs.schema import FINITE, OBJECT, POSITIVE, TEXT, WHOLE, by_name, each, fields, one_of
from nas.runs.trials import stored_trial
from searchers.base import Trial
from searchers.fronts import Front
from searchers.objectives import Direction

G = TypeVar("G")

_FRONT = fields(
    {
        "objectives": each(fields({"name": TEXT, "direction": one_of("maximize", "minimize")})),
        "front": each(OBJECT),
        "knee": WHOLE,
    },
    {"hypervolume": POSITIVE, "best": by_name(FINITE), "worst": by_name(FINITE)},
)


def front_to_json(
    front: Front[G], directions: Mapping[str, Direction], to_json: Callable[[Trial[G]], dict[str, Any]]
) -> dict[str, Any]:
    """The content of ``front.json``.

    :param to_json: makes the entry of a trial, as in ``best.json``.
    """
    return {
        "objectives": [{"name": name, "direction": direction} for name, direction in directions.items()],
        "knee": front.knee.id,
        "hypervolume": front.hypervolume,
        "best": front.best,
        "worst": front.worst,
        "front": [to_json(trial) for trial in front.trials],
    }


@dataclass(frozen=True, kw_only=True)
class StoredFront:
    """What ``front.json`` holds: the trials, with genotypes as text; ``knee`` is the id of one of them."""

    directions: dict[str, Direction]
    trials: list[Trial[str]]
    knee: int


def read_front(run: Path) -> StoredFront:
    """The front of the search in ``run``.

    :raises UserError: ``front.json`` cannot be read, or there is none.
    """
    path = run / FRONT
    value = read_json(path)
    if value is None:
        raise UserError(f"{run} holds no {FRONT}, expected that of a finished search with several --objective")
    checked(path, _FRONT, value)
    try:
        directions = {each["name"]: each["direction"] for each in value["objectives"]}
        trials = [stored_trial({**entry, "status": "ok"}) for entry in value["front"]]
        if not directions or value["knee"] not in {trial.id for trial in trials}:
            raise ValueError("it holds no objective, or not the cell of its knee")
        for trial in trials:
            for name in directions:
                FINITE(trial.scores.get(name), f"trial {trial.id}: score {name}")
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} is not the front of a search: {error}") from None
    return StoredFront(directions=directions, trials=trials, knee=value["knee"])
