"""Scores the candidates of a search by looking them up in a table; no network is built and no image is read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from nas.cli.bounds import flag
from nas.errors import UserError
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, candidate_seed
from nas.executors.serial import SerialExecutor
from nas.searching.config import SearchConfig
from nas.searching.score_source import ScoreSource
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces.base import SearchSpace
from searchers.base import Trial
from searchers.objectives import SingleScore

G = TypeVar("G")


class TableScorer(Generic[G]):
    """Scores a candidate by its measured accuracy in percent; see :meth:`nas.tabular.base.Table.measured`."""

    parallel = False

    def __init__(self, table: Table, metric: str, space: SearchSpace[G], *, seed: int):
        self.table = table
        self.metric = metric
        self.space = space
        self.seed = seed
        self.spec = table.spec_for(metric)
        self.names = (metric,)

    def __call__(self, candidate: Candidate[G]) -> Trial[G]:
        started = time.perf_counter()
        cost = self.space.cost(self.space.parse(candidate.key), self.spec)
        accuracy = self.table.measured(candidate.key, self.metric)
        return Trial(
            id=candidate.id,
            key=candidate.key,
            genotype=candidate.genotype,
            seed=candidate_seed(self.seed, candidate.key),
            status="failed" if accuracy is None else "ok",
            scores={} if accuracy is None else {self.metric: accuracy},
            params=cost.params,
            macs=cost.macs,
            seconds=time.perf_counter() - started,
            error=f"{self.table.title} does not hold the cell" if accuracy is None else None,
        )


class MeasuredCells(ScoreSource):
    """Scores from one metric of a table. Cells that the table does not hold are never proposed."""

    def __init__(self, config: SearchConfig, space: SearchSpace[Any]):
        assert config.table is not None
        self.config = config
        self.space = space
        self.table = load_table(config.table, config.data_dir)
        if config.metric is None:
            raise UserError(f"--table {config.table} needs --metric, one of {', '.join(self.table.metrics)}")
        self.metric = config.metric
        self.spec = self.table.spec_for(self.metric)
        self.names = (self.metric,)
        self.objectives = SingleScore(self.metric, "maximize")
        self.about = f"{self.metric} is in percent; {self.table.description}"

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
        return TableScorer(self.table, self.metric, self.space, seed=self.config.seed)

    def executor(self) -> Executor:
        return SerialExecutor()

    def facts(self) -> dict[str, Any]:
        return {
            "table": {
                "name": self.table.name,
                "metric": self.metric,
                "direction": "maximize",
                "unit": "percent",
                "description": self.table.description,
                "source": self.table.source,
                "fingerprint": self.table.fingerprint,
                "files": dict(self.table.files),
            }
        }

    def identity(self, manifest: dict[str, Any]) -> dict[str, str]:
        return {"table": manifest["table"]["fingerprint"]}
