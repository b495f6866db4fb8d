"""``Search`` searches a space for its best cell.

From Python::

    from nas import Search

    result = Search("darts", "regularized_evolution", ["robust"], budget=100, seed=0).run()
    print(result.best.genotype)
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.fields import differences
from nas.cli.printing import complain
from nas.errors import Unwritable, UserError
from nas.files import as_path, check_free
from nas.searching.chosen_space import find_space
from nas.searching.config import SearchConfig
from nas.searching.given_parts import check_parts
from nas.searching.manifest import new_manifest, now
from nas.searching.proposals import Violation, check_history, check_reachable, check_start, make_searcher
from nas.searching.score_source import ScoreSource
from nas.searching.summary import Found, conclude, oversight, summarise

if TYPE_CHECKING:
    from nas.executors.base import Executor
    from nas.runs.directory import RunDirectory
    from nas.searching.loop import Loop
    from proxies.base import Proxy
    from proxies.population import PopulationProxy
    from search_spaces.base import SearchSpace
    from searchers.base import Searcher, Trial

    Watch = Callable[[Trial[Any]], None]
    from nas.runs.comparison import Comparison
    from nas.searching.comparison import Compared


@dataclass(frozen=True, kw_only=True)
class SearchResult(Found):
    """What a search found: ``top`` is best first, ``trials`` are in the order of proposal.

    ``front`` holds the trials that no other one dominates, best by the first objective first; with a single objective,
    or several proxies that are combined by rank, it holds ``best`` alone. With several objectives ``best`` is the knee
    of the front (:func:`searchers.fronts.knee`), and ``top`` is in the order of fronts and crowding distances. All of
    these also have the scores that compare candidates, computed over all candidates of the run.
    """

    trials: list[Trial[Any]]
    path: Path
    summary: dict[str, int]
    report: Path | None
    comparison: Comparison | None = None


class Search:
    """One search: a space, a searcher, proxies, a budget.

    :param space: a name, or a :class:`~search_spaces.base.SearchSpace`; by default ``darts``, or the table's space.
    :param searcher: a name. ``options`` are the fields of :class:`~nas.searching.config.SearchConfig` and the
        searcher's own options, such as ``population`` of ``regularized_evolution``.
    :param proxies: a name, a :class:`~proxies.base.Proxy` or :class:`~proxies.population.PopulationProxy` object, or
        several of them, which are combined by rank. By default ``robust``; none with the option ``table``, where the
        table's accuracies are the scores.
        An option ``objective`` names what is weighed instead, one or several; proxies beside it are only shown.
    :param executor: a name, or an :class:`~nas.executors.base.Executor` object.
    :param out: run directory, by default a new one in ``runs/``.
    :param resume: whether to resume the run in ``out``.
    :param report: whether to write ``report.html``.
    :raises UserError: an option is unknown or has an invalid value; the message is one line.
    """

    def __init__(
        self,
        space: str | SearchSpace[Any] | None = None,
        searcher: str = "regularized_evolution",
        proxies: str | Proxy | PopulationProxy | Sequence[str | Proxy | PopulationProxy] | None = None,
        *,
        executor: str | Executor = "local",
        out: str | Path | None = None,
        resume: bool = False,
        report: bool = True,
        **options: Any,
    ):
        check_parts(proxies, executor, resume=resume, report=report)
        self._given_executor = None if isinstance(executor, str) else executor
        if isinstance(executor, str):
            options["executor"] = executor
        self._given_proxies: dict[str, Proxy | PopulationProxy] = {}
        if proxies is not None:
            given = proxies if isinstance(proxies, Sequence) and not isinstance(proxies, str) else (proxies,)
            self._given_proxies = {each.name: each for each in given if not isinstance(each, str)}
            options["proxy"] = tuple(each if isinstance(each, str) else each.name for each in given)
        self.space: SearchSpace[Any] = find_space(space, options.get("table"))
        self.config = SearchConfig.of(self.space, searcher=searcher, **options)
        self.out = None if out is None else as_path("out", out)
        self.resume = resume
        self.report = report
        if resume and out is None:
            raise UserError("resume needs the run directory, got no out")

    def run(self, watch: Watch | None = None, compared: Compared | None = None) -> SearchResult:
        """Search until the budget is used. Each trial is written to the run directory as soon as it is finished.

        :param watch: called with each finished trial, including the stored trials of a resumed run.
        :param compared: called with each cell that the winner is then compared with, and their number.
        :raises SearchStopped: most candidates fail, or none has a score.
        :raises MachineFailed: the machine lacks memory or something else; the message says how to resume.
        :raises Unwritable: a file cannot be written, or was removed meanwhile; likewise.
        :raises KeyboardInterrupt: likewise.
        """
        from nas.runs.directory import RunDirectory, new_run_path

        config, source, self._compared = self.config, self.source, compared
        if self.out is not None:
            self._check_path(self.out)
        make_searcher(config, source)  # checks its options before images are read
        source.prepare()
        searcher, violation = make_searcher(config, source)
        check_start(searcher, violation)
        if not self.resume:  # refuse constraints that nothing meets before a run directory is made
            check_reachable(config, make_searcher(config, source)[0])  # a separate one: ask() may change its state
        name = f"{config.table or config.space}-{config.searcher}-seed{config.seed}"
        path = self.out or new_run_path(Path("runs"), name)
        with RunDirectory(path, self.space) as run, self.executor:
            self._check_path(path)  # again, now that no other process can write to it
            return self._run_in(run, searcher, violation, watch)

    def _run_in(
        self, run: RunDirectory[Any], searcher: Searcher[Any], violation: Violation, watch: Watch | None
    ) -> SearchResult:
        """Begin or resume the run in the locked directory, and finish it."""
        from nas.searching.loop import Loop
        from nas.searching.state import KeptState

        config, path = self.config, run.path
        manifest = new_manifest(self.config, self.space, self.source, self.executor, path if self.resume else None)
        stored = run.read_trials() if self.resume else []
        if not config.skip_oversized and (warning := oversight(stored)):
            complain(f"warning: {warning}")
        kept = KeptState(run, config)
        if self.resume:
            kept.restore(searcher, stored)
        if len(stored) >= config.budget and self.resume:  # nothing will be scored
            manifest["resumed"].pop()

        def record(trial: Trial[Any]) -> None:
            run.append(trial)
            if watch is not None:
                watch(trial)

        loop = Loop(
            searcher, self.source.scorer(), self.executor, budget=config.budget, step=config.candidates_per_step,
            violation=violation, record=record, skip_oversized=config.skip_oversized,
            keep=lambda state, count: kept.write(state, loop.trials, count),
        )  # fmt: skip
        loop.check(stored)
        if self.resume and not searcher.state_dict():  # with a state, this is known only when the step is gone on with
            check_history(
                make_searcher(config, self.source)[0], stored, step=config.candidates_per_step, budget=config.budget
            )
        if len(stored) < config.budget:
            self.executor.open(loop.scorer)  # raises if no machine is available, before the manifest is written
        if not self.resume:
            manifest["executor"] = self.executor.facts()
        for trial in stored:
            if watch is not None:
                watch(trial)
        run.write_manifest(manifest)
        return self._finish(run, loop, manifest, stored)

    def _how_to_go_on(self, run: RunDirectory[Any]) -> str:
        from nas.runs.ending import next_step

        reached = f"{run.count_trials()} of {self.config.budget} candidates"
        return next_step(run.manifest, reached, f"python -m nas.search --resume {shlex.quote(str(run.path))}")

    def _finish(
        self, run: RunDirectory[Any], loop: Loop[Any], manifest: dict[str, Any], stored: list[Trial[Any]]
    ) -> SearchResult:
        from nas.runs.ending import noted
        from nas.searching.comparison import compare

        started, before = time.perf_counter(), manifest["seconds"]

        def note(status: str) -> None:
            scored = run.count_trials() > len(stored)
            run.write_manifest({
                **manifest,
                "status": status,
                "ended": now() if scored else manifest["ended"] or now(),
                "seconds": round(before + time.perf_counter() - started, 3),
                "summary": summarise(loop),
                "executor": self.executor.facts() if scored else manifest["executor"],
            })  # fmt: skip

        with noted(note, partial(self._how_to_go_on, run)):
            found = conclude(run, loop.run(stored), self.source)
            note("finished")
        try:
            comparison = compare(run, loop, self.source, self.config, found.best, self._compared)
        finally:
            report = self._written_report(run.path) if self.report else None
        return SearchResult(
            **vars(found), trials=loop.trials, path=run.path, summary=summarise(loop), report=report,
            comparison=comparison,
        )  # fmt: skip

    def _written_report(self, path: Path) -> Path | None:
        """The path of ``report.html``; None if it cannot be written, which is told on the error stream."""
        from nas.report import write_report

        try:
            return write_report(path)
        except Unwritable as error:
            print(f"warning: {error}", file=sys.stderr)
            return None

    @cached_property
    def source(self) -> ScoreSource:
        """The source of the scores: untrained networks or a table.

        :raises UserError: a proxy, metric or device is unknown.
        """
        if self.config.table is not None:
            from nas.tabular.source import MeasuredCells

            return MeasuredCells(self.config, self.space)
        from nas.searching.untrained import UntrainedNetworks

        return UntrainedNetworks(self.config, self.space, self._given_proxies)

    @cached_property
    def executor(self) -> Executor:
        """The executor that computes the scores."""
        return self.source.executor() if self._given_executor is None else self._given_executor

    def _check_path(self, path: Path) -> None:
        """:raises UserError: ``path`` holds a run that is not to be resumed, or one of another configuration."""
        from nas.report import PAGE_NAME
        from nas.runs.architecture import ARCHITECTURE
        from nas.runs.directory import BEST, COMPARISON, FRONT, STATE, holds_run, read_manifest

        if not self.resume:
            if holds_run(path):
                raise UserError(f"{path} already holds a run; pass --resume to go on with it, or another --out")
            check_free(*(path / name for name in (BEST, FRONT, STATE, ARCHITECTURE, PAGE_NAME, *COMPARISON)))
            return
        stored = read_manifest(path)["configuration"]
        differing = differences(stored, self.config)
        if stored.get("searcher") != self.config.searcher:  # the options of another searcher differ anyway
            differing = [each for each in differing if each.startswith("--searcher ")]
        if differing:
            raise UserError(f"cannot resume {path} with another configuration: {', '.join(differing)}")
