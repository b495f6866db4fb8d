"""The scores that compare the candidates of a run. They are not stored in trials.jsonl; they are computed from the
scores that are.
"""

from __future__ import annotations

import math
from typing import Any

from nas.searching.objectives import population_scores, with_scores
from proxies import POPULATION_PROXIES, get_proxy
from searchers.base import Trial


def known_components(entry: dict[str, Any]) -> list[str]:
    """The names of the components of a manifest's proxy, if it compares candidates and is known to this program.

    Otherwise the list is empty.
    """
    return [part["name"] for part in entry.get("components", [])] if entry["name"] in POPULATION_PROXIES else []


def with_population_scores(trials: tuple[Trial[str], ...], manifest: dict[str, Any]) -> tuple[Trial[str], ...]:
    """The trials, with the added scores that compare candidates.

    A trial gets such a score if it may be ranked and the scores that it is computed from are all finite.
    """
    for entry in manifest.get("proxies", []):
        if not (names := known_components(entry)):
            continue
        (score,) = population_scores([get_proxy(entry["name"])])
        if set(score.components) != set(names):
            continue
        usable = [
            trial
            for trial in trials
            if trial.ranked and all(math.isfinite(trial.scores.get(name, math.nan)) for name in names)
        ]
        scored = {trial.id: trial for trial in with_scores(usable, [score])}
        trials = tuple(scored.get(trial.id, trial) for trial in trials)
    return trials
