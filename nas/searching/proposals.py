"""What proposes candidates: the configured searcher, and the constraints that its proposals must meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nas.cli.bounds import flag
from nas.errors import UserError, as_user_error
from nas.searching.config import SearchConfig
from nas.searching.score_source import ScoreSource
from searchers import get_searcher
from searchers.base import NoFeasibleCandidate, Searcher, Trial
from searchers.constraints import Constraint, Constraints

Violation = Callable[[Any], "str | None"]


def make_searcher(config: SearchConfig, source: ScoreSource) -> tuple[Searcher[Any], Violation]:
    """A new searcher, and a function that returns why a candidate may not be scored, or None if it may.

    :raises UserError: the searcher is unknown, or a constraint cannot be read.
    """
    searcher = as_user_error(lambda: get_searcher(config.searcher))

    def make() -> tuple[Searcher[Any], Violation]:
        constraints = Constraints(
            require=tuple(Constraint.parse(text) for text in config.require),
            max_params=config.max_params,
            max_macs=config.max_macs,
        )
        constraints.validate(source.space)

        def violation(genotype: Any) -> str | None:
            return constraints.violation(genotype, source.space, source.spec) or source.refusal(genotype)

        own: dict[str, Any] = {"material": source.material} if searcher.needs_material else {}
        if searcher.takes_start:
            own["start"] = [source.space.parse(text) for text in config.start or ()]
        made = searcher(
            source.space,
            seed=config.seed,
            objectives=source.objectives,
            feasible=lambda genotype: violation(genotype) is None,
            max_draws=config.max_draws,
            options=config.searcher_options,
            **own,
        )
        made.budget = config.budget
        made.check_size(source.spec)
        return made, violation

    return as_user_error(make)


def check_start(searcher: Searcher[Any], violation: Violation) -> None:
    """:raises UserError: a cell to start with violates a constraint; the message says which one."""
    for number, genotype in enumerate(searcher.start, start=1):
        if reason := violation(genotype):
            raise UserError(f"--start, cell {number} of {len(searcher.start)}, violates a constraint: {reason}")


def check_reachable(config: SearchConfig, searcher: Searcher[Any]) -> None:
    """:raises UserError: ``max_draws`` draws in a row all violated the constraints; the message lists them."""
    limits = [flag(name) + f" {getattr(config, name)}" for name in ("max_params", "max_macs") if getattr(config, name)]
    tables = [] if config.table is None else [f"--table {config.table}"]
    space, rng = searcher.space, np.random.default_rng(config.seed)
    try:
        if searcher.needs_material:  # ask() would train
            searcher.draw(lambda: space.sample(rng))
        else:
            searcher.ask(1)
    except NoFeasibleCandidate as error:
        raise UserError(f"{error}: {', '.join([*config.require, *limits, *tables])}") from None


def check_history(searcher: Searcher[Any], stored: Sequence[Trial[Any]], *, step: int, budget: int) -> None:
    """Before a run is gone on with: would the searcher have proposed the trials of the step in which the run ended?

    :param searcher: one without a state, which has not been told any trial: it is told those of the complete steps.
    :raises UserError: it would not; the message names the first trial that differs.
    """
    by_id = {trial.id: trial for trial in stored}
    while (ids := range(searcher.told, min(searcher.told + step, budget))) and all(id in by_id for id in ids):
        searcher.tell(by_id[id] for id in ids)
    if not any(id in by_id for id in ids):
        return
    try:
        proposals = searcher.ask(len(ids))
    except NoFeasibleCandidate as error:
        raise UserError(str(error)) from None
    for id, genotype, fidelity in zip(ids, proposals, searcher.fidelities(len(ids)), strict=True):
        check_proposal(id, searcher.space.canonical(genotype), fidelity, by_id.get(id))


def check_proposal(id: int, key: str, fidelity: float, stored: Trial[Any] | None) -> None:
    """:raises UserError: the candidate ``id`` has a stored trial, and it is another cell's or of another fidelity."""
    if stored is not None and (stored.key, stored.fidelity) != (key, fidelity):
        raise UserError(
            f"trial {id} of the run is {_shown(stored.key, stored.fidelity)}, expected {_shown(key, fidelity)}:"
            " it was written by another version or configuration"
        )


def _shown(key: str, fidelity: float) -> str:
    return key if fidelity == 1 else f"{key} at fidelity {fidelity:.4g}"
