"""Reads a whole run directory (manifest, trials, best candidate, steps of a supernet) for reports, and changes nothing.

If a killed process left the last line of trials.jsonl incomplete, that line is skipped. Anything else that cannot be
read raises an error that names the file and the line, so that a report never silently shows only a part of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.report.population import known_components, with_population_scores
from nas.runs.architecture import Step, read_steps
from nas.runs.comparison import Comparison, read_comparison
from nas.runs.directory import TRIALS, read_best, read_manifest
from nas.runs.trials import read_trials, stored_trial, trial_lines
from searchers.base import Trial
from searchers.objectives import Direction


@dataclass(frozen=True)
class ScoredBy:
    """A proxy of the run, or another of its objectives, such as a metric of its table.

    ``recorded`` is False if the manifest does not state the direction. ``unit`` is empty for a score without a unit.
    ``relative`` is True for a score that compares the candidates of the run.
    """

    name: str
    direction: Direction
    recorded: bool = True
    unit: str = ""
    relative: bool = False

    @property
    def sign(self) -> int:
        """The factor, 1 or -1, by which a score is multiplied so that higher is better."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True)
class RunRecord:
    """The content of a run directory. ``torn`` is True if an incomplete last line of trials.jsonl was skipped.

    ``proxies`` are all scores to be shown. ``objectives`` are those of them that the user named as objectives; if there
    are none, candidates are ranked by all proxies together. ``steps`` are those of a searcher with a supernet.
    """

    name: str
    manifest: dict[str, Any]
    proxies: tuple[ScoredBy, ...]
    objectives: tuple[ScoredBy, ...]
    trials: tuple[Trial[str], ...]
    best: Trial[str] | None
    torn: bool
    steps: tuple[Step, ...] = ()
    comparison: Comparison | None = None

    def section(self, name: str) -> dict[str, Any]:
        """The mapping ``name`` in the manifest; empty if the manifest has no such mapping."""
        return self.manifest.get(name) or {}


def read_run(run: Path) -> RunRecord:
    """The run in the directory ``run``.

    :raises nas.errors.UserError: there is no such run, or one of its files is damaged.
    """
    manifest = read_manifest(run)
    lines = trial_lines(run / TRIALS)
    trials = with_population_scores(tuple(read_trials(lines, stored_trial)), manifest)
    proxies = _proxies(manifest, trials)
    named = {entry["name"] for entry in manifest.get("objectives", [])}
    return RunRecord(
        name=run.resolve().name,
        manifest=manifest,
        proxies=proxies,
        objectives=tuple(proxy for proxy in proxies if proxy.name in named),
        trials=trials,
        best=read_best(run),
        torn=lines.torn,
        steps=tuple(read_steps(run)),
        comparison=read_comparison(run),
    )


def _proxies(manifest: dict[str, Any], trials: tuple[Trial[str], ...]) -> tuple[ScoredBy, ...]:
    """The proxies that the manifest names. If it names none: one for each score of the trials, with ``recorded`` False
    and higher taken as better.
    """
    entries = manifest.get("proxies")
    table = manifest.get("table", {})
    if "metric" in table:
        entries = [{**table, "name": table["metric"]}]
    if named := manifest.get("objectives"):
        other = {entry["name"]: entry for entry in entries or []}
        own = {entry["name"]: {**other.get(entry["name"], {}), **entry} for entry in named}
        entries = [*own.values(), *(entry for name, entry in other.items() if name not in own)]
    if not entries:
        names = dict.fromkeys(name for trial in trials for name in trial.scores)
        return tuple(ScoredBy(name, "maximize", recorded=False) for name in names)
    return tuple(
        ScoredBy(
            entry["name"], entry.get("direction", "maximize"), "direction" in entry, entry.get("unit", ""),
            relative=bool(known_components(entry)),
        )
        for entry in _expanded(entries)
    )  # fmt: skip


def _expanded(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries, where each unknown proxy that compares candidates is replaced by its components."""
    return [
        part
        for entry in entries
        for part in (entry["components"] if "components" in entry and not known_components(entry) else [entry])
    ]
