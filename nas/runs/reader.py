"""A run directory read back, checked, as values: manifest.json, trials.jsonl and best.json.

Optional keys may be missing, and a last line that a killed process left half-written is dropped. Anything else that
cannot be read is an error that names the file and the line: a page must not quietly show part of a run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from nas.errors import UserError
from nas.report.population import known_components, with_population_scores
from nas.runs.directory import BEST, MANIFEST, TRIALS, read_manifest
from searchers.base import Status, Trial
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
    trials, torn = _read_trials(run / TRIALS)
    trials = with_population_scores(trials, manifest)
    best = _read_object(run / BEST)
    return RunRecord(
        name=run.resolve().name,
        manifest=manifest,
        proxies=_proxies(run / MANIFEST, manifest, trials),
        trials=trials,
        best=None if best is None else _trial({"status": "ok", **best}, str(run / BEST)),
        torn=torn,
    )


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise UserError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: got {value!r:.40}, expected an object")
    return value


def _read_trials(path: Path) -> tuple[tuple[Trial[str], ...], bool]:
    """The trials, in id order, and whether a torn last line was dropped."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    trials: dict[int, Trial[str]] = {}
    torn = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no newline after it: the writer was cut off
                torn = True
                continue
            raise UserError(f"{where} is not readable JSON: {error}") from None
        if not isinstance(value, dict):
            raise UserError(f"{where}: got {value!r:.40}, expected an object")
        trial = _trial(value, where)
        trials[trial.id] = trial
    return tuple(trials[id] for id in sorted(trials)), torn


def _trial(value: dict[str, Any], where: str) -> Trial[str]:
    status: Status = value.get("status", "")
    if status not in get_args(Status):
        raise UserError(f"{where}: status {status!r:.40}, expected one of {', '.join(get_args(Status))}")
    scores = value.get("scores") or {}
    if not isinstance(scores, dict):
        raise UserError(f"{where}: scores {scores!r:.40}, expected an object")
    genotype = str(value.get("genotype") or value.get("key") or "")
    if "id" not in value:
        raise UserError(f"{where}: id is missing")
    return Trial(
        id=_count(value, "id", where),
        key=str(value.get("key") or genotype),
        genotype=genotype,
        seed=_count(value, "seed", where),
        status=status,
        scores={str(name): _score(name, score, where) for name, score in scores.items()},
        params=_count(value, "params", where),
        macs=_count(value, "macs", where),
        seconds=_seconds(value.get("seconds"), where),
        error=None if value.get("error") is None else str(value["error"]),
    )


def _count(value: dict[str, Any], name: str, where: str) -> int:
    got = value.get(name)
    if got is None:
        return 0
    if isinstance(got, bool) or not isinstance(got, int) or got < 0:
        raise UserError(f"{where}: {name} {got!r:.40}, expected a whole number from 0")
    return got


def _seconds(got: Any, where: str) -> float:
    if got is None:
        return 0.0
    if isinstance(got, bool) or not isinstance(got, int | float) or not 0 <= got < math.inf:
        raise UserError(f"{where}: seconds {got!r:.40}, expected a number from 0")
    return float(got)


def _score(name: str, got: Any, where: str) -> float:
    """A score may be infinite or not a number (null): such a candidate is counted and named, never ranked."""
    if got is None:
        return math.nan
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise UserError(f"{where}: score {name!r:.40} is {got!r:.40}, expected a number")
    return float(got)


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
