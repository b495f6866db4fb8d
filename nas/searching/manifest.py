"""What a run's manifest holds: the configuration, what scores are computed from, versions and hardware."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.searching.config import SearchConfig
from nas.searching.score_source import ScoreSource
from nas.spaces import FINGERPRINT, known_space, own_fingerprint

if TYPE_CHECKING:
    from nas.executors.base import Executor
    from search_spaces.base import SearchSpace


def new_manifest(
    config: SearchConfig, space: SearchSpace[Any], source: ScoreSource, executor: Executor, resumed: Path | None
) -> dict[str, Any]:
    """The manifest of a new run, or that of the run ``resumed``, with an entry for this resumption.

    :raises UserError: the resumed run's manifest is damaged, or it is another space, data set or device.
    """
    from nas.runs import environment
    from nas.runs.directory import read_manifest

    fingerprint = own_fingerprint(space)
    manifest: dict[str, Any] = {
        "command": "search",
        "status": "running",
        "configuration": config.to_json(),
        **({} if fingerprint is None else {FINGERPRINT: fingerprint}),
        **source.facts(),
        **source.named_objectives(),
        "versions": environment.versions(("ray",) if config.executor == "ray" else ()),
        "hardware": environment.hardware(source.device),
        "executor": executor.facts(),
        "git_commit": environment.git_commit(),
        "started": now(),
        "ended": None,
        "seconds": 0.0,
        "summary": {},
    }
    if resumed is None:
        return manifest
    stored = read_manifest(resumed)
    known_space(space.name, space, stored.get(FINGERPRINT))
    try:
        here, then = source.identity(manifest), source.identity(stored)
        times = {"started": stored["started"], "seconds": float(stored["seconds"])}
    except (KeyError, TypeError) as error:
        raise UserError(f"the manifest of {resumed} is damaged: {type(error).__name__} {error}") from None
    for name in here:
        if here[name] != then[name]:
            raise UserError(f"cannot resume {resumed} with another {name}: got {here[name]}, expected {then[name]}")
    # Keep the versions that scored the stored trials; those of this program are added under "resumed".
    program = {name: manifest[name] for name in ("versions", "git_commit")}
    kept = {name: stored[name] for name in (*program, "executor") if name in stored}
    resumptions = [*stored.get("resumed", []), {"at": now(), **program}]
    return {**manifest, **times, **kept, "ended": stored.get("ended"), "resumed": resumptions}


def now() -> str:
    """The time as manifests state it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
