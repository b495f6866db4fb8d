"""``front.json``: the front of a search with several objectives. No other module defines this format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nas.errors import UserError
from nas.runs.directory import FRONT, check_cell, checked, read_json
from nas.runs.schema import FINITE, OBJECT, POSITIVE, TEXT, WHOLE, by_name, each, fields, one_of
from nas.runs.trials import stored_trial
from search_spaces.base import SearchSpace
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


def read_front(run: Path) -> tuple[dict[str, Direction], list[Trial[str]]]:
    """The objectives with their directions, and the trials of the front of the search in ``run``, genotypes as text.

    :raises UserError: ``front.json`` cannot be read, or there is none.
    """
    path = run / FRONT
    value = read_json(path)
    if value is None:
        raise UserError(f"{run} holds no {FRONT}, expected that of a finished search with several objectives")
    checked(path, _FRONT, value)
    try:
        trials = [stored_trial({"status": "ok", **entry}) for entry in value["front"]]
        directions = {each["name"]: each["direction"] for each in value["objectives"]}
        if not trials or not directions:
            raise ValueError("it holds no cell, or no objective")
        for trial in trials:
            for name in directions:
                FINITE(trial.scores.get(name), f"trial {trial.id}: score {name}")
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} is not the front of a search: {error}") from None
    return directions, trials


def check_front(run: Path, space: SearchSpace[Any]) -> None:
    """:raises UserError: ``front.json`` cannot be read, or holds a key that is not that of its genotype."""
    for trial in read_front(run)[1]:
        check_cell(run / FRONT, space, trial.genotype, trial.key)
