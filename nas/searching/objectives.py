"""From proxies to what is scored on each candidate, to scores that compare candidates, and to the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from searchers.base import Objectives, Trial
from searchers.objectives import MeanRank, PopulationScore, RankSum, SingleScore, distinct

if TYPE_CHECKING:
    from proxies.base import Proxy
    from proxies.population import PopulationProxy

G = TypeVar("G")


def population_scores(proxies: Sequence[Proxy | PopulationProxy]) -> tuple[PopulationScore, ...]:
    """The scores of those proxies that compare candidates."""
    from proxies.population import PopulationProxy

    return tuple(
        PopulationScore(each.name, each.direction, tuple(part.name for part in each.components), each.combine)
        for each in proxies
        if isinstance(each, PopulationProxy)
    )


def components(proxies: Sequence[Proxy | PopulationProxy]) -> list[Proxy]:
    """What is scored on each candidate, by name once: of two of one name the one that was asked for by itself."""
    from proxies.population import PopulationProxy

    found: dict[str, Proxy] = {each.name: each for each in proxies if not isinstance(each, PopulationProxy)}
    for each in proxies:
        if isinstance(each, PopulationProxy):
            for part in each.components:
                found.setdefault(part.name, part)
    return list(found.values())


def objectives_of(proxies: Sequence[Proxy | PopulationProxy]) -> Objectives:
    """One proxy: its score; several: the mean of the ranks that they give."""
    relative = {each.proxy: each for each in population_scores(proxies)}
    if not relative and len(proxies) > 1:
        return RankSum({each.name: each.direction for each in proxies})
    parts: list[Objectives] = [relative.get(each.name) or SingleScore(each.name, each.direction) for each in proxies]
    return parts[0] if len(parts) == 1 else MeanRank(tuple(parts))


def with_scores(trials: Sequence[Trial[G]], relative: Sequence[PopulationScore]) -> list[Trial[G]]:
    """The trials, those of status ok with their scores among all distinct ones of them."""
    if not relative:
        return list(trials)
    compared = distinct(trials)
    added: dict[str, dict[str, float]] = {trial.key: {} for trial in compared}
    for score in relative:
        for trial, value in zip(compared, score.values(compared), strict=True):
            added[trial.key][score.proxy] = float(value)
    return [
        trial.with_scores({**added[trial.key], **trial.scores}) if trial.status == "ok" else trial for trial in trials
    ]
