"""The run directory: the files that a search writes, and from which it can be resumed.

It holds ``manifest.json`` (configuration, versions, hardware, data fingerprint), ``trials.jsonl`` (append-only, one
trial a line, each flushed at once), ``best.json`` and ``report.html``; with several objectives also ``front.json``
(see :mod:`nas.runs.front`); if the searcher has a state, also ``searcher.pt`` (see :mod:`nas.runs.searcher_state`), and
if it has a supernet, ``architecture.jsonl`` (see :mod:`nas.runs.architecture`); if the winner was compared with other
cells, the two files ``COMPARISON`` (see :mod:`nas.runs.comparison`). Nothing in a run directory is ever unpickled or
executed. Only one process at a time may write to it. Its lock is released in whatever way that process ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

from nas.errors import UserError, as_user_error
from nas.files import check_free, kind, make_folder, read_text, write, writing
from nas.runs.architecture import ArchitectureLog
from nas.runs.json_lines import locked
from nas.runs.manifest import SEARCH, SHARED
from nas.runs.schema import Check, fields, plain, shown
from nas.runs.trials import read_trials, stored_trial, trial_from_json, trial_lines, trial_to_json
from search_spaces.base import SearchSpace
from searchers.base import Trial

G = TypeVar("G")

MANIFEST = "manifest.json"
TRIALS = "trials.jsonl"
BEST = "best.json"
FRONT = "front.json"
COMPARISON = ("comparison.json", "comparison.jsonl")  # the result, and the trials that it is from
STATE = "searcher.pt"
FORMAT = 1
#: If a run has more trials than this, their genotypes are parsed only on demand: parsing one takes a third of a
#: millisecond, and a searcher needs few of them.
EAGER_TRIALS = 10_000
MOST_JSON = 2**25  # bytes of a file with one JSON object


class RunDirectory(Generic[G]):
    """The files of one run, locked while the object is open.

    :param path: the directory, which is created if it does not exist.
    :raises UserError: the directory cannot be written, or another process holds its lock.
    """

    def __init__(self, path: Path, space: SearchSpace[G]):
        self.path = path
        self.space = space
        self._lock = locked(path / ".lock", f"run directory {path}")
        self._trials = trial_lines(path / TRIALS)
        self.architecture = ArchitectureLog(path)

    @property
    def manifest(self) -> Path:
        """The file ``manifest.json``."""
        return self.path / MANIFEST

    def __enter__(self) -> RunDirectory[G]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._trials.close()
        self.architecture.close()
        self._lock.release()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest atomically."""
        write_json(self.path / MANIFEST, {"format": FORMAT, **manifest})

    def write_best(self, best: dict[str, Any]) -> None:
        """Replace ``best.json`` atomically."""
        write_json(self.path / BEST, best)

    def write_front(self, front: dict[str, Any]) -> None:
        """Replace ``front.json`` atomically."""
        write_json(self.path / FRONT, front)

    def write_state(self, state: dict[str, Any], trials: int, covers: str) -> None:
        """Replace the searcher's state atomically; see :func:`nas.runs.searcher_state.write_state`."""
        from nas.runs.searcher_state import write_state

        write_state(self.path / STATE, state, trials, covers)

    def read_state(self) -> tuple[dict[str, Any], int, str] | None:
        """The searcher's state, the number of trials that it covers, and their hash; None if no state is stored."""
        if kind(self.path / STATE) is None:
            return None
        from nas.runs.searcher_state import read_state

        return read_state(self.path / STATE)

    def append(self, trial: Trial[G]) -> None:
        """Add one finished trial. Once this returns, the trial is kept even if the process is killed."""
        self._trials.append(trial_to_json(trial, self.space))

    def count_trials(self) -> int:
        """The number of stored trials, found without parsing them."""
        return self._trials.count()

    def read_trials(self) -> list[Trial[G]]:
        """All stored trials in id order. A last line that a killed process left incomplete is skipped; :meth:`append`
        removes it.

        If there are more than ``EAGER_TRIALS`` trials, each genotype is parsed when it is first accessed.

        :raises UserError: another line is not a trial; the message gives the number of the line.
        """
        parse = partial(trial_from_json, space=self.space, defer=self.count_trials() > EAGER_TRIALS)
        return read_trials(self._trials, parse)


def holds_run(path: Path) -> bool:
    """Whether the directory ``path`` holds a run."""
    return any(kind(path / name) is not None for name in (MANIFEST, TRIALS))


def read_manifest(
    path: Path, name: str = MANIFEST, *, command: str = "search", own: Mapping[str, Check] = SEARCH
) -> dict[str, Any]:
    """The manifest of the run in ``path``. Its fields may be missing, but hold what they should.

    :param name: the name of the manifest's file.
    :param command: the command that has written the manifest.
    :param own: the fields that only this command writes.
    :raises UserError: there is no such file, it cannot be read, or it is another command's.
    """
    manifest, value = path / name, read_json(path / name)
    if value is None:
        raise UserError(f"{path} is not a run directory: it holds no {name}")
    if not isinstance(value.get("configuration"), dict):
        raise UserError(f"{manifest} is not a run's manifest: it holds no configuration")
    if value.get("format") != FORMAT:
        raise UserError(f"{manifest} has format {shown(value.get('format'))}, expected {FORMAT}")
    if (got := value.get("command", command)) != command:
        raise UserError(f"{path} holds no {command}, but {shown(got)}")
    checked(manifest, fields({}, {**SHARED, **own}), value)
    return value


def checked(path: Path, check: Check, value: Any) -> None:
    """:raises UserError: ``value``, which was read from the file ``path``, is not what ``check`` expects."""
    try:
        check(value, "")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def read_best(run: Path) -> Trial[str] | None:
    """The best candidate of the search in ``run``, with its genotype as text; None before the search has ended.

    :raises UserError: ``best.json`` cannot be read.
    """
    best = read_json(run / BEST)
    try:
        return None if best is None else stored_trial({"status": "ok", **best})
    except (ValueError, OverflowError) as error:
        raise UserError(f"{run / BEST} is not the best candidate of a search: {error}") from None


def check_best(run: Path, space: SearchSpace[Any]) -> None:
    """:raises UserError: ``best.json`` cannot be read, or its key is not that of its genotype."""
    best = read_best(run)
    if best is not None:
        check_cell(run / BEST, space, best.genotype, best.key)


def check_cell(path: Path, space: SearchSpace[Any], genotype: str, key: str) -> None:
    """:raises UserError: the genotype that the file ``path`` holds cannot be parsed, or ``key`` is another cell's."""
    expected = as_user_error(lambda: space.canonical(space.parse(genotype)))
    if key not in (expected, genotype):  # of a trial without a key, the genotype stands for it
        raise UserError(f"{path}: key and genotype are of different cells: {key:.60} and {expected:.60}")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no such file.

    :raises UserError: the file cannot be read, or does not hold a JSON object.
    """
    text = read_text(path, MOST_JSON)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {shown(value)}, expected an object")
    checked(path, plain, value)
    return value


def check_result(path: Path, *names: str) -> None:
    """For a result that a command may replace if an earlier call of the same command has written it.

    :param names: fields by which it is known, besides ``format``.
    :raises UserError: the file is something else.
    """
    try:
        value = read_json(path)
    except UserError:
        value = {}
    if value is not None and not (value.get("format") == FORMAT and all(name in value for name in names)):
        check_free(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` atomically: a reader sees either the old file or the new one, never part of it.

    :raises Unwritable: the operating system refused.
    """
    write(path, json.dumps(value, indent=2) + "\n")


def new_run_path(parent: Path, name: str) -> Path:
    """Create ``parent/name``, or the first of ``parent/name-2``, ``-3``, ... that does not exist, and return it.

    Processes that start at the same time therefore get different folders.

    :raises Unwritable: the operating system refused.
    """
    make_folder(parent)
    for number in count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        with writing(path), suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError
