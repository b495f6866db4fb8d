"""Scores the candidates of a search by looking them up in a table; no network is built and no image is read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from nas.cli.bounds import flag
from nas.errors import UserError, unknown
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, candidate_seed
from nas.executors.serial import SerialExecutor
from nas.searching.config import SearchConfig
from nas.searching.objectives import COUNTED, weighed
from nas.searching.score_source import ScoreSource
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces.base import NetworkSpec, SearchSpace
from searchers.base import Trial
from searchers.objectives import Direction

G = TypeVar("G")


class TableScorer(Generic[G]):
    """Scores a candidate by what ``names`` name: ``params``, ``macs``, or measured accuracies in percent, as
    :meth:`nas.tabular.base.Table.measured` defines them. ``spec`` is the size of the networks that are counted.
    """

    parallel = False

    def __init__(self, table: Table, names: Sequence[str], space: SearchSpace[G], spec: NetworkSpec, *, seed: int):
        self.table = table
        self.names = tuple(names)
        self.space = space
        self.spec = spec
        self.seed = seed

    def __call__(self, candidate: Candidate[G]) -> Trial[G]:
        started = time.perf_counter()
        cost = self.space.cost(self.space.parse(candidate.key), self.spec)
        scores: dict[str, float] = {}
        for name in self.names:
            value = getattr(cost, name) if name in COUNTED else self.table.measured(candidate.key, name)
            if value is not None:
                scores[name] = float(value)
        held = len(scores) == len(self.names)
        return Trial(
            id=candidate.id,
            key=candidate.key,
            genotype=candidate.genotype,
            seed=candidate_seed(self.seed, candidate.key),
            status="ok" if held else "failed",
            scores=scores if held else {},
            params=cost.params,
            macs=cost.macs,
            seconds=time.perf_counter() - started,
            error=None if held else f"{self.table.title} does not hold the cell",
        )


class MeasuredCells(ScoreSource):
    """Scores from one or several metrics of a table. Cells that the table does not hold are never proposed."""

    def __init__(self, config: SearchConfig, space: SearchSpace[Any]):
        assert config.table is not None
        self.config = config
        self.space = space
        self.table = load_table(config.table, config.data_dir)
        metrics = self._metrics(config)
        self.names = config.objective or metrics
        self.metric = metrics[0]
        self.units = dict.fromkeys(metrics, "percent")
        self.spec = self.table.spec_for(self.metric)
        directions = {name: _direction(name) for name in self.names}
        self.directions = directions if config.objective else {}
        self.objectives = weighed(directions, ())
        verb = "is" if len(metrics) == 1 else "are"
        self.about = f"{' and '.join(metrics)} {verb} in percent; {self.table.description}"

    def _metrics(self, config: SearchConfig) -> tuple[str, ...]:
        """The metrics of the table that the configuration names.

        :raises UserError: it names none, or what the table does not hold.
        """
        held = self.table.metrics
        for name in config.objective or ():
            if name not in held + COUNTED:
                raise unknown(f"objective on {self.table.name}", name, held + COUNTED)
        named = config.objective or (() if config.metric is None else (config.metric,))
        metrics = tuple(name for name in named if not (config.objective and name in COUNTED))
        if not metrics:
            flags = "--objective of its metrics" if config.objective else "--metric"
            raise UserError(f"--table {config.table} needs {flags}, one of {', '.join(held)}")
        return metrics

    def prepare(self) -> None:
        """:raises UserError: the configuration does not fit the table."""
        config, table = self.config, self.table
        for name in ("channels", "layers"):
            given, measured = getattr(config, name), getattr(table.spec, name)
            if given not in (None, measured):
                raise UserError(f"{flag(name)} must be {measured}, as in the networks of {table.title}, got {given}")
        if not table.sampled:
            return
        if config.to_json().get("sampler") != "published":
            raise UserError(
                f"{table.title} has only {len(table.entries)} random cells of the space '{table.space}', which a search"
                " will not propose by chance: --searcher random --sampler published --seed 0 draws them"
            )
        if config.budget > len(table.keys):
            raise UserError(f"--budget must be at most {len(table.keys)}, the cells of the table, got {config.budget}")

    def refusal(self, genotype: Any) -> str | None:
        held = self.table.measured(self.space.canonical(genotype), self.metric) is not None
        return None if held else f"{self.table.title} does not hold the cell"

    def held(self) -> Sequence[str]:
        return self.table.keys

    def scorer(self) -> TableScorer[Any]:
        return TableScorer(self.table, self.names, self.space, self.spec, seed=self.config.seed)

    def executor(self) -> Executor:
        return SerialExecutor()

    def facts(self) -> dict[str, Any]:
        ranked = {} if self.config.objective else {"metric": self.metric, "direction": "maximize", "unit": "percent"}
        return {
            "table": {
                "name": self.table.name,
                **ranked,
                "description": self.table.description,
                "source": self.table.source,
                "fingerprint": self.table.fingerprint,
                "files": dict(self.table.files),
            }
        }

    def identity(self, manifest: dict[str, Any]) -> dict[str, str]:
        return {"table": manifest["table"]["fingerprint"]}


def _direction(name: str) -> Direction:
    return "minimize" if name in COUNTED else "maximize"
