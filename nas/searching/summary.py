"""What a search says of its trials: counts, the best one, and trials that failed for want of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nas.errors import SearchStopped
from nas.executors.failures import told_failure
from nas.searching.objectives import with_scores
from search_spaces.base import SearchSpace
from searchers.base import Trial
from searchers.fronts import front_of
from searchers.objectives import rank

if TYPE_CHECKING:
    from nas.runs.directory import RunDirectory
    from nas.searching.loop import Loop
    from nas.searching.score_source import ScoreSource

TOP = 5


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best trials of a search, with the scores that compare candidates; see :class:`nas.SearchResult`."""

    best: Trial[Any]
    top: list[Trial[Any]]
    front: list[Trial[Any]]


def conclude(run: RunDirectory[Any], trials: Sequence[Trial[Any]], source: ScoreSource) -> Found:
    """Find the best of all trials; write ``best.json``, and ``front.json`` if there are several objectives.

    :raises SearchStopped: no trial has a score.
    """
    compared, directions = with_scores(trials, source.relative), source.directions
    top = rank(compared, source.objectives, TOP)
    if not top:
        size = " at the full size" if any(trial.status == "ok" for trial in trials) else ""
        reason = next((trial.error for trial in reversed(trials) if trial.error), None)
        raise SearchStopped(f"none of {len(trials)} candidates has a score{size}; the last reason: {reason}")
    found = Found(best=top[0], top=top, front=top[:1])
    if len(directions) > 1:
        from nas.runs.front import front_to_json

        front = front_of(compared, directions)
        found = Found(best=front.knee, top=top, front=front.trials)
        run.write_front(front_to_json(front, directions, partial(best_to_json, space=run.space)))
    run.write_best(best_to_json(found.best, run.space))
    return found


def summarise(loop: Loop[Any]) -> dict[str, int]:
    """Counts of a search: trials by status, trials that reused an earlier score, draws that violated a constraint."""
    counts = {status: sum(t.status == status for t in loop.trials) for status in ("ok", "failed", "infeasible")}
    return {"trials": len(loop.trials), **counts, "reused": loop.reused, "rejected": loop.searcher.rejected}


def best_to_json(trial: Trial[Any], space: SearchSpace[Any]) -> dict[str, Any]:
    """The content of ``best.json``."""
    to_json = getattr(trial.genotype, "to_json", None)
    return {
        "id": trial.id,
        "key": trial.key,
        "genotype": space.format(trial.genotype),
        "genotype_json": to_json() if to_json else None,
        "seed": trial.seed,
        "scores": trial.scores,
        "params": trial.params,
        "macs": trial.macs,
    }


def oversight(stored: Sequence[Trial[Any]]) -> str | None:
    """A warning if stored trials failed though the machine was at fault: earlier versions stored them like others."""
    lacking = [trial.id for trial in stored if trial.status == "failed" and told_failure(trial.error)]
    if not lacking:
        return None
    return (
        f"{len(lacking)} stored trials, the first of them {lacking[0]}, failed because the machine lacked something,"
        " and remain failed: only a new run scores them"
    )
