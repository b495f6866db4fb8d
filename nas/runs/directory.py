"""The run directory: what a search leaves behind, and what it resumes from.

``manifest.json`` (configuration, versions, hardware, data fingerprint), ``trials.jsonl`` (append-only, one trial a
line, flushed at once), ``best.json``, ``report.html``; of a searcher that has a state, ``searcher.pt`` (see
:mod:`nas.runs.searcher_state`). Nothing in a run directory is ever unpickled or executed. One process at a time may
write to it; the lock is released however that process ends.
"""

from __future__ import annotations

import gc
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from nas.errors import UserError
from nas.runs.json_lines import JsonLines, locked
from search_spaces.base import SearchSpace
from searchers.base import Trial

G = TypeVar("G")

MANIFEST = "manifest.json"
TRIALS = "trials.jsonl"
BEST = "best.json"
STATE = "searcher.pt"
FORMAT = 1
#: Reading a genotype takes a third of a millisecond, and a searcher needs few of a long history's.
EAGER_TRIALS = 10_000

# Fields of a line in trials.jsonl, and what each may be.
_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (int,),
    "key": (str,),
    "genotype": (str,),
    "seed": (int,),
    "status": (str,),
    "scores": (dict,),
    "params": (int,),
    "macs": (int,),
    "seconds": (float, int),
    "error": (str, type(None)),
}


class RunDirectory(Generic[G]):
    """One run's files, locked while the object is open.

    :param path: created where it does not exist.
    :raises UserError: it cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path, space: SearchSpace[G]):
        self.path = path
        self.space = space
        self._lock = locked(path / ".lock", f"run directory {path}")
        self._trials = JsonLines(path / TRIALS, "not a trial")

    def __enter__(self) -> RunDirectory[G]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._trials.close()
        self._lock.release()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest, whole or not at all."""
        write_json(self.path / MANIFEST, {"format": FORMAT, **manifest})

    def write_best(self, best: dict[str, Any]) -> None:
        """Replace ``best.json``, whole or not at all."""
        write_json(self.path / BEST, best)

    def write_state(self, state: dict[str, Any], trials: int) -> None:
        """Replace the searcher's state, whole or not at all; see :func:`nas.runs.searcher_state.write_state`."""
        from nas.runs.searcher_state import write_state

        write_state(self.path / STATE, state, trials)

    def read_state(self) -> tuple[dict[str, Any], int] | None:
        """The searcher's state and the number of trials that it covers; None where none is stored."""
        if not (self.path / STATE).exists():
            return None
        from nas.runs.searcher_state import read_state

        return read_state(self.path / STATE)

    def append(self, trial: Trial[G]) -> None:
        """Add one finished trial; it survives the end of this process at any later moment."""
        self._trials.append(trial_to_json(trial, self.space))

    def count_trials(self) -> int:
        """How many trials are stored, without reading them."""
        return self._trials.count()

    def read_trials(self) -> list[Trial[G]]:
        """All stored trials in id order. A last line that the end of a process tore is removed from the file.

        Of more than ``EAGER_TRIALS`` the genotypes are read when they are asked for.

        :raises UserError: any other line that is not a trial, by its number.
        """
        trials: dict[int, Trial[G]] = {}
        parse = partial(trial_from_json, space=self.space, defer=self.count_trials() > EAGER_TRIALS)
        with _without_collector():
            for number, trial in self._trials.read(parse):
                if trial.id in trials:
                    raise UserError(f"{self._trials.path} line {number}: trial {trial.id} stands there twice")
                trials[trial.id] = trial
        return [trials[id] for id in sorted(trials)]


def holds_run(path: Path) -> bool:
    """Whether a run was begun in ``path``."""
    return any(os.path.exists(path / name) for name in (MANIFEST, TRIALS))  # False where it cannot be looked into


def read_manifest(path: Path, name: str = MANIFEST) -> dict[str, Any]:
    """The manifest of the run in ``path``, a file called ``name``.

    :raises UserError: there is none, or it cannot be read.
    """
    manifest = path / name
    try:
        value = json.loads(manifest.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is not a run directory: it holds no {name}") from None
    except OSError as error:
        raise UserError(f"{manifest} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{manifest} is not JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("configuration"), dict):
        raise UserError(f"{manifest} is not a run's manifest: it holds no configuration")
    if value.get("format") != FORMAT:
        raise UserError(f"{manifest} has format {value.get('format')}, expected {FORMAT}")
    return value


def trial_to_json(trial: Trial[G], space: SearchSpace[G]) -> dict[str, Any]:
    """The fields of a line in ``trials.jsonl``."""
    return {
        "id": trial.id,
        "key": trial.key,
        "genotype": space.format(trial.genotype),
        "seed": trial.seed,
        "status": trial.status,
        "scores": trial.scores,
        "params": trial.params,
        "macs": trial.macs,
        "seconds": round(trial.seconds, 6),
        "error": trial.error,
    }


def trial_from_json(value: dict[str, Any], space: SearchSpace[G], *, defer: bool = False) -> Trial[G]:
    """The inverse of :func:`trial_to_json`; raises ValueError or KeyError where it is not a trial.

    :param defer: read the genotype when it is asked for, and raise then.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r:.40}")
    for name, types in _FIELDS.items():
        if type(value[name]) not in types:
            raise ValueError(f"{name} {value[name]!r:.40}, expected {types[0].__name__}")
    if value["status"] not in ("ok", "failed", "infeasible"):
        raise ValueError(f"status {value['status']!r:.40}, expected ok, failed or infeasible")
    if value["id"] < 0:
        raise ValueError(f"id {value['id']}, expected a number from 0")
    for name, score in value["scores"].items():
        if type(score) not in (float, int) or not math.isfinite(score):
            raise ValueError(f"score {name} {score!r:.40}, expected a finite number")
    fields = {name: value[name] for name in _FIELDS if name != "genotype"}
    fields["scores"] = {name: float(score) for name, score in value["scores"].items()}
    fields["seconds"] = float(value["seconds"])
    find_genotype = partial(_genotype, value["genotype"], value["key"], space)
    return Trial.deferred(find_genotype, **fields) if defer else Trial(genotype=find_genotype(), **fields)


def _genotype(text: str, key: str, space: SearchSpace[G]) -> G:
    genotype = space.parse(text)
    if key != space.canonical(genotype):
        raise UserError(f"key and genotype are of different cells: {key} and {text}")
    return genotype


@contextmanager
def _without_collector() -> Iterator[None]:
    """Inside, Python's collector rests: it would walk the whole history again and again while it grows."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def new_run_path(parent: Path, name: str) -> Path:
    """``parent/name``, or the first of ``parent/name-2``, ``-3``, ... that does not exist."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
