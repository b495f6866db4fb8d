"""What proposes candidates: the configured searcher, and the constraints that its proposals must meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nas.cli.bounds import flag
from nas.errors import UserError, as_user_error
from nas.searching.config import SearchConfig
from nas.searching.score_source import ScoreSource
from searchers import get_searcher
from searchers.base import NoFeasibleCandidate, Searcher
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

        made = searcher(
            source.space,
            seed=config.seed,
            objectives=source.objectives,
            feasible=lambda genotype: violation(genotype) is None,
            max_draws=config.max_draws,
            options=config.searcher_options,
        )
        return made, violation

    return as_user_error(make)


def check_reachable(config: SearchConfig, searcher: Searcher[Any]) -> None:
    """:raises UserError: ``max_draws`` draws in a row all violated the constraints; the message lists them."""
    limits = [flag(name) + f" {getattr(config, name)}" for name in ("max_params", "max_macs") if getattr(config, name)]
    tables = [] if config.table is None else [f"--table {config.table}"]
    try:
        searcher.ask(1)
    except NoFeasibleCandidate as error:
        raise UserError(f"{error}: {', '.join([*config.require, *limits, *tables])}") from None
