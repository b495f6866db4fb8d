"""Makes the proxies to compute, the scores that compare candidates, and the objectives of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from searchers.base import Objectives, Trial
from searchers.objectives import Direction, Joint, MeanRank, PopulationScore, RankSum, SingleScore, distinct

if TYPE_CHECKING:
    from proxies.base import Proxy
    from proxies.population import PopulationProxy

G = TypeVar("G")

#: Objectives that are measured by a forward pass (:mod:`nas.searching.forward_pass`).
MEASURED = ("latency_ms", "memory_mib")
#: Objectives that are counted without one.
COUNTED = ("params", "macs")


def population_scores(proxies: Sequence[Proxy | PopulationProxy]) -> tuple[PopulationScore, ...]:
    """One score for each of the proxies that compare candidates."""
    from proxies.population import PopulationProxy

    return tuple(
        PopulationScore(each.name, each.direction, tuple(part.name for part in each.components), each.combine)
        for each in proxies
        if isinstance(each, PopulationProxy)
    )


def components(proxies: Sequence[Proxy | PopulationProxy]) -> list[Proxy]:
    """The proxies to be computed for each candidate, including the components of those that compare candidates.

    Each name occurs once. A proxy in ``proxies`` takes precedence over a component with the same name.
    """
    from proxies.population import PopulationProxy

    found: dict[str, Proxy] = {each.name: each for each in proxies if not isinstance(each, PopulationProxy)}
    for each in proxies:
        if isinstance(each, PopulationProxy):
            for part in each.components:
                found.setdefault(part.name, part)
    return list(found.values())


def objectives_of(proxies: Sequence[Proxy | PopulationProxy]) -> Objectives:
    """The objective of a search: the score of its only proxy, or the mean rank over several proxies."""
    relative = {each.proxy: each for each in population_scores(proxies)}
    if not relative and len(proxies) > 1:
        return RankSum({each.name: each.direction for each in proxies})
    parts: list[Objectives] = [relative.get(each.name) or SingleScore(each.name, each.direction) for each in proxies]
    return parts[0] if len(parts) == 1 else MeanRank(tuple(parts))


def weighed(directions: Mapping[str, Direction], relative: Sequence[PopulationScore]) -> Objectives:
    """The objectives that the user named, in the order given: a single one, or several without weights.

    :param directions: the direction of each score by its name.
    :param relative: the scores among them that compare candidates.
    """
    own: dict[str, Objectives] = {each.proxy: each for each in relative}
    parts = [own.get(name) or SingleScore(name, direction) for name, direction in directions.items()]
    return parts[0] if len(parts) == 1 else Joint(tuple(parts))


def direction_of(name: str, proxies: Sequence[Proxy | PopulationProxy]) -> Direction:
    """Lower is better for what a network costs; for other objectives, the proxy of that name says it."""
    return "minimize" if name in MEASURED + COUNTED else {each.name: each.direction for each in proxies}[name]


def with_scores(trials: Sequence[Trial[G]], relative: Sequence[PopulationScore]) -> list[Trial[G]]:
    """The trials, where those that may be ranked also have the scores ``relative``.

    These scores compare the trials that may be ranked; of trials with the same key, only the first is compared.
    """
    if not relative:
        return list(trials)
    compared = distinct(trials)
    added: dict[str, dict[str, float]] = {trial.key: {} for trial in compared}
    for score in relative:
        for trial, value in zip(compared, score.values(compared), strict=True):
            added[trial.key][score.proxy] = float(value)
    return [
        trial.with_scores({**added[trial.key], **trial.scores}) if trial.ranked else trial for trial in trials
    ]
