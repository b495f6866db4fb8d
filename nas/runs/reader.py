"""A whole run directory as values: manifest.json, trials.jsonl and best.json, for those who look at a run.

A last line of trials.jsonl that a killed process left half-written is passed over. Anything else that cannot be read is
an error that names the file and the line: a page must not quietly show part of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from nas.errors import UserError
from nas.report.population import known_components, with_population_scores
from nas.runs.directory import MANIFEST, TRIALS, read_best, read_manifest
from nas.runs.json_lines import JsonLines
from nas.runs.trials import read_trials, stored_trial
from searchers.base import Trial
from searchers.objectives import Direction


@dataclass(frozen=True)
class ScoredBy:
    """A proxy of the run, or the metric of its table.

    ``recorded`` is False where the manifest does not state its direction; ``unit`` is empty where it has none;
    ``relative`` says that it compares the candidates of the run.
    """

    name: str
    direction: Direction
    recorded: bool = True
    unit: str = ""
    relative: bool = False

    @property
    def sign(self) -> int:
        """What a score is multiplied with so that higher is better."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True)
class RunRecord:
    """What a run directory holds. ``torn`` says that a half-written last line was dropped."""

    name: str
    manifest: dict[str, Any]
    proxies: tuple[ScoredBy, ...]
    trials: tuple[Trial[str], ...]
    best: Trial[str] | None
    torn: bool

    def section(self, name: str) -> dict[str, Any]:
        """A part of the manifest that is a mapping; empty where the manifest has none."""
        value = self.manifest.get(name)
        return value if isinstance(value, dict) else {}


def read_run(run: Path) -> RunRecord:
    """The run in the directory ``run``.

    :raises nas.errors.UserError: no such run, or a file of it that is corrupt.
    """
    manifest = read_manifest(run)
    lines = JsonLines(run / TRIALS, "not a trial")
    trials = with_population_scores(tuple(read_trials(lines, stored_trial, repair=False)), manifest)
    return RunRecord(
        name=run.resolve().name,
        manifest=manifest,
        proxies=_proxies(run / MANIFEST, manifest, trials),
        trials=trials,
        best=read_best(run),
        torn=lines.torn,
    )


def _proxies(path: Path, manifest: dict[str, Any], trials: tuple[Trial[str], ...]) -> tuple[ScoredBy, ...]:
    """From the manifest; where it names none, from the scores, higher taken as better and marked as not recorded."""
    entries = manifest.get("proxies")
    table = manifest.get("table")
    if isinstance(table, dict) and "metric" in table:
        entries = [{**table, "name": table["metric"]}]
    if not entries:
        names = dict.fromkeys(name for trial in trials for name in trial.scores)
        return tuple(ScoredBy(name, "maximize", recorded=False) for name in names)
    proxies = []
    for entry in _expanded(entries if isinstance(entries, list) else [entries]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UserError(f"{path}: proxy {entry!r:.60}, expected an object with a name and a direction")
        direction: Direction = entry.get("direction", "maximize")
        if direction not in get_args(Direction):
            raise UserError(
                f"{path}: proxy '{entry['name']}' has direction {direction!r:.40}, expected maximize or minimize"
            )
        unit = str(entry.get("unit", ""))
        relative = bool(known_components(entry))
        proxies.append(ScoredBy(entry["name"], direction, "direction" in entry, unit, relative))
    return tuple(proxies)


def _expanded(entries: list[Any]) -> list[Any]:
    """A proxy that compares candidates in a way that is not known here gives way to what it compares them by."""
    return [
        part
        for entry in entries
        for part in (
            entry["components"]
            if isinstance(entry, dict) and isinstance(entry.get("components"), list) and not known_components(entry)
            else [entry]
        )
    ]
