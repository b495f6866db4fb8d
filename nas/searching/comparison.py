"""Would a random cell of this size have done? The winner of a search, beside random and published cells.

After a search, up to ``RANDOM`` random cells that meet its constraints, and whose networks have the winner's number of
parameters to within ``WITHIN``, are scored as its candidates were: by the same scorer on the same batch. So are the
published cells of the space. Their trials are lines of ``comparison.jsonl``, each with the field ``kind``, and those of
published cells with their ``name``. A comparison that was interrupted goes on when the search is resumed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nas.cli.interrupts import under_way
from nas.cli.printing import complain
from nas.errors import Stopped, UserError
from nas.runs.comparison import RANDOM, Comparison, write_comparison
from searchers.base import Searcher, Trial
from searchers.objectives import evaluate

if TYPE_CHECKING:
    from nas.runs.directory import RunDirectory
    from nas.searching.config import SearchConfig
    from nas.searching.loop import Loop
    from nas.searching.score_source import ScoreSource

G = TypeVar("G")

WITHIN = 0.05  # of its parameters
DRAWS = 20_000  # at most, to find them
SHARE = 5  # unless asked for, a search of proxies is compared only if it has this many times as many candidates

#: called with each cell that is scored, and the number of all
Compared = Callable[[Trial[Any], int], None]


class GivenCells(Searcher[G]):
    """Proposes the genotypes ``start``, and no others."""

    takes_start = True

    def ask(self, n: int) -> list[G]:
        return list(self.start[self.told : self.told + n])

    def observe(self, trial: Trial[G]) -> None:
        return


def compare(
    run: RunDirectory[Any], search: Loop[Any], source: ScoreSource, config: SearchConfig, winner: Trial[Any],
    watch: Compared | None,
) -> Comparison | None:  # fmt: skip
    """Score the other cells and write ``comparison.json``; None if that is not wanted, or ended with a warning.

    :param search: the finished loop of the search, whose scorer, executor and constraints are used.
    :raises KeyboardInterrupt: the message says how to go on.
    """
    if not wanted(config, source):
        return None
    try:
        with under_way():
            return _compared(run, search, source, config, winner, watch)
    except KeyboardInterrupt:
        again = f"python -m nas.search --resume {shlex.quote(str(run.path))}"
        raise KeyboardInterrupt(f"interrupted after the search; to go on with its comparison: {again}") from None
    except (Stopped, UserError) as error:  # the search itself is finished and written
        complain(f"warning: the winner is not compared with other cells: {error}")
        return None


def wanted(config: SearchConfig, source: ScoreSource) -> bool:
    """Whether to compare: always with a table; otherwise by default if the search has ``SHARE`` times as many cells."""
    if config.compare == "auto":
        return config.table is not None or config.budget >= SHARE * (RANDOM + len(source.space.published()))
    return config.compare == "always"


def _compared(
    run: RunDirectory[Any], search: Loop[Any], source: ScoreSource, config: SearchConfig, winner: Trial[Any],
    watch: Compared | None,
) -> Comparison:  # fmt: skip
    from nas.runs.directory import COMPARISON
    from nas.runs.trials import read_trials, trial_from_json, trial_lines, trial_to_json
    from nas.searching.loop import Loop

    space = source.space
    published = {name: genotype for name, genotype in space.published().items() if _scorable(genotype, source)}
    cells, draws = random_cells(source, search.violation, winner, config.seed)
    kinds = [{"kind": "random"}] * len(cells) + [{"kind": "published", "name": name} for name in published]
    lines = trial_lines(run.path / COMPARISON[1])
    stored = read_trials(lines, partial(trial_from_json, space=space))

    def record(trial: Trial[Any]) -> None:
        lines.append({**trial_to_json(trial, space), **kinds[trial.id]})
        if watch is not None:
            watch(trial, len(kinds))

    given = GivenCells(
        space, seed=config.seed, objectives=source.objectives, start=[*cells, *published.values()]
    )
    loop = Loop(
        given, search.scorer, search.executor, budget=len(kinds), step=max(len(kinds), 1),
        violation=lambda genotype: None, record=record, keep=lambda state, count: None, skip_oversized=True,
    )  # fmt: skip
    if watch is not None:
        for trial in stored:
            watch(trial, len(kinds))
    try:
        trials = loop.run(stored)
    finally:
        lines.close()
    names = [kind.get("name") for kind in kinds]
    found = Comparison(**_standing(source, winner, trials, names), draws=draws)
    write_comparison(run.path, found)
    return found


def _standing(
    source: ScoreSource, winner: Trial[Any], trials: Sequence[Trial[Any]], names: Sequence[str | None]
) -> dict[str, Any]:
    """The fields of a :class:`Comparison` that follow from the scores; ``names`` are None for random cells."""
    scored = [(trial, name) for trial, name in zip(trials, names, strict=True) if trial.status == "ok"]
    ranked = [winner, *(trial for trial, _ in scored)]
    objective = source.objectives.names[0]
    values = evaluate(source.objectives, ranked)[:, 0]  # higher is better
    shown = [trial.scores[objective] for trial in ranked] if objective in source.names else values.tolist()
    random = [place for place, (_, name) in enumerate(scored, start=1) if name is None]
    published = {name: place for place, (_, name) in enumerate(scored, start=1) if name is not None}
    return {
        "objective": objective,
        "first_of_several": len(source.objectives.names) > 1,
        "winner": shown[0],
        "random": tuple(shown[place] for place in random),
        "beaten": int(sum(values[place] < values[0] for place in random)),
        "published": {name: shown[place] for name, place in published.items()},
        "better": tuple(name for name, place in published.items() if values[place] > values[0]),
    }


def random_cells(
    source: ScoreSource, violation: Callable[[Any], str | None], winner: Trial[Any], seed: int
) -> tuple[list[Any], int]:
    """At most ``RANDOM`` random cells of the winner's size without itself, and the number of draws.

    They are drawn from the space, or without repetition from the cells that a table holds.
    """
    space, rng, held = source.space, np.random.default_rng([seed, *b"compare"]), source.held()
    if held is None:
        drawn = (space.sample(rng) for _ in range(DRAWS))
    else:
        drawn = (space.parse(held[place]) for place in rng.permutation(len(held))[:DRAWS])
    found, draws = {winner.key: None}, 0
    for genotype in drawn:
        draws += 1
        off = abs(space.cost(genotype, source.spec).params - winner.params)
        if off <= WITHIN * winner.params and violation(genotype) is None:
            found.setdefault(space.canonical(genotype), genotype)
        if len(found) > RANDOM:
            break
    return list(found.values())[1:], draws


def _scorable(genotype: Any, source: ScoreSource) -> bool:
    """Whether the space can build the cell at the size of the search, and the table holds it if there is one."""
    try:
        source.space.cost(genotype, source.spec).check()
    except ValueError:
        return False
    return source.refusal(genotype) is None
