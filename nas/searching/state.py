"""The state of a searcher beside the trials: written after each step, restored when the run is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from searchers import get_searcher
from searchers.supernet import SupernetSearcher

if TYPE_CHECKING:
    from nas.runs.directory import RunDirectory
    from nas.searching.config import SearchConfig
    from searchers.base import Searcher, Trial


class KeptState:
    """The file ``searcher.pt`` of a run. A state is taken up only by the search, and with the trials, it belongs to."""

    def __init__(self, run: RunDirectory[Any], config: SearchConfig):
        from nas.runs.searcher_state import Covered

        free = {field.name for field in dataclasses.fields(config) if field.metadata.get("free")}
        self._decisive = {name: value for name, value in config.to_json().items() if name not in free}
        self._run = run
        self._config = config
        self._covered = Covered(self._decisive)
        self._has_steps = issubclass(get_searcher(config.searcher), SupernetSearcher)

    def write(self, state: dict[str, Any], trials: Sequence[Trial[Any]], count: int) -> None:
        """Replace the file; before it, add the steps of a searcher with a supernet to theirs.

        :param trials: those of the search in id order; the state covers the first ``count`` of them.
        :raises UserError: the state holds something other than tensors and plain values, or cannot be written.
        """
        if self._has_steps:
            self._run.architecture.add(state["records"])
        covers = self._covered.first(trial.key for trial in trials[len(self._covered) : count])
        try:
            self._run.write_state(state, count, covers)
        except TypeError as error:
            raise UserError(f"state_dict() of the searcher {self._config.searcher} cannot be stored: {error}") from None

    def restore(self, searcher: Searcher[Any], stored: Sequence[Trial[Any]]) -> None:
        """Give the stored state, if there is one, to a searcher that has not been told any trial.

        :raises UserError: it is the state of another search or of other trials, or the searcher refuses it.
        """
        from nas.runs.directory import STATE
        from nas.runs.searcher_state import Covered

        kept = self._run.read_state()
        if kept is None:
            return
        state, count, covers = kept
        path, keys = self._run.path / STATE, {trial.id: trial.key for trial in stored}
        if (held := sum(id < count for id in keys)) < count:
            raise UserError(f"{path}: the searcher's state covers {count} trials, of which the run holds {held}")
        step, budget = self._config.candidates_per_step, self._config.budget
        if count % step and count != budget:
            raise UserError(f"{path}: the searcher's state covers {count} trials, expected a multiple of {step}")
        if Covered(self._decisive).first(keys[id] for id in range(count)) != covers:
            raise UserError(f"{path} is the state of another search, or of other trials than the first {count} of this")
        try:
            searcher.restore(state, count)
        except Exception as error:  # which one the searcher raises depends on what is wrong with the state
            reason = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
            raise UserError(f"{path} is no state of {type(searcher).__name__}: {reason}") from None
        if self._has_steps:
            self._run.architecture.resume(state["records"])
