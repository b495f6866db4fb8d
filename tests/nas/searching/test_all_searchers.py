"""What holds of a search by any searcher in any space. A new searcher is tried by being in ``SEARCHERS``."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nas import Search
from search_spaces import SPACES, get_space
from searchers import SEARCHERS, get_searcher
from searchers.base import Trial
from tests.nas.commands import process, small_options, timeless

pytestmark = pytest.mark.usefixtures("somewhere_else")

#: a step of a supernet takes longer than a candidate
BUDGETS = {searcher: 3 if get_searcher(searcher).needs_material else 8 for searcher in SEARCHERS}
#: each searcher in each space; one with a supernet in those only that have one
ROWS = [
    (searcher, space)
    for searcher in SEARCHERS
    for space in SPACES
    if hasattr(get_space(space), "supernet") or not get_searcher(searcher).needs_material
]
#: each searcher in these spaces, and one in another space; the other rows are slow
QUICK = [
    (searcher, space)
    for searcher, space in ROWS
    if space in ("darts", "nasbench201")
    or (searcher == "regularized_evolution" and space in ("robnet", "robust_resnet"))
]
EVERYWHERE = pytest.mark.parametrize(
    ("searcher", "space"), [pytest.param(*row, marks=[] if row in QUICK else pytest.mark.slow) for row in ROWS]
)


def search(searcher: str, space: str, out: str | Path, **options: Any) -> Search:
    """A small search, in steps of 3 candidates where the searcher is not one that goes on singly."""
    cells = 1 if get_searcher(searcher).needs_material and space.startswith("darts") else 3
    sized = (("channels", 4), ("layers", cells))
    size = {name: value for name, value in sized if getattr(get_space(space), f"default_{name}") is not None}
    own = small_options(searcher, population=4, tournament=2)
    step = {} if get_searcher(searcher).needs_material else {"candidates_per_step": 3}
    given = {"budget": BUDGETS[searcher], "seed": 1, "threads": 1, "report": False, **size, **own, **step, **options}
    scored = "macs" if space.endswith("resnet") else "snip(images=4)"  # those networks are deep
    return Search(space, searcher, [scored, "params"], out=out, **given)


@cache
def history(searcher: str, space: str) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        search(searcher, space, folder).run()
        return timeless(Path(folder))


@EVERYWHERE
def test_resumed_from_the_middle_it_equals_one_left_alone(searcher: str, space: str) -> None:
    finished: list[int] = []
    middle = BUDGETS[searcher] // 2 + 1

    def interrupt(trial: Trial[Any]) -> None:
        finished.append(trial.id)
        if len(finished) == middle:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="--resume run"):
        search(searcher, space, "run").run(interrupt)
    assert len(timeless(Path("run"))) == middle
    search(searcher, space, "run", resume=True).run()
    assert timeless(Path("run")) == history(searcher, space)


@EVERYWHERE
def test_constraints_hold(searcher: str, space: str) -> None:
    sizes = sorted(trial["params"] for trial in history(searcher, space))
    limit = sizes[BUDGETS[searcher] // 2]
    require = ["normal.skip_connect <= 2"] if space == "darts" else []
    one = search(searcher, space, "run", max_params=limit, require=require)
    trials = one.run().trials
    assert len(trials) == BUDGETS[searcher] and all(0 < trial.params <= limit for trial in trials)
    if require:
        assert all(one.space.count(trial.genotype, "normal.skip_connect") <= 2 for trial in trials)


def test_another_process_gives_the_same_histories() -> None:
    code = (
        "import json; from tests.nas.searching.test_all_searchers import QUICK, history;"
        "print(json.dumps([history(*row) for row in QUICK]))"
    )
    other = process(start=("-c", code))
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0, err
    for row, found in zip(QUICK, json.loads(out), strict=True):
        assert found == history(*row), row
    assert sys.flags.hash_randomization  # so that an order by hashes would have differed
