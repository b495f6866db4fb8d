"""What a search says of its trials: counts, the best one, and trials that failed for want of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.executors.failures import told_failure
from search_spaces.base import SearchSpace
from searchers.base import Trial

if TYPE_CHECKING:
    from nas.searching.loop import Loop


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
