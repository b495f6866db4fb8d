from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from search_spaces.base import SearchSpace
from searchers.base import NoFeasibleCandidate
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from tests.searchers.toy_space import Digits, ToySpace, make_trial


def is_even(genotype: Digits) -> bool:
    return sum(genotype) % 2 == 0


def search(space: ToySpace, **options: Any) -> RandomSearch[Digits]:
    own = {"options": RandomSearch.Options(sampler=options.pop("sampler", "uniform"))}
    return RandomSearch(space, **{"seed": 5, "objectives": SingleScore("sum", "maximize"), **own, **options})


def tell(searcher: RandomSearch[Digits], space: ToySpace, genotypes: list[Digits]) -> None:
    first = searcher.told
    searcher.tell(make_trial(space, first + i, genotype) for i, genotype in enumerate(genotypes))


def test_uniform_proposals_have_a_generator_each(space: ToySpace) -> None:
    expected = [space.sample(np.random.default_rng((5, i))) for i in range(10)]
    assert search(space).ask(10) == expected


def test_uniform_proposals_are_drawn_again_by_their_own_generator(space: ToySpace) -> None:
    searcher = search(space, feasible=is_even)
    draws = rejected = 0
    expected = []
    for number in range(20):
        rng = np.random.default_rng((5, number))
        while True:
            draws += 1
            genotype = space.sample(rng)
            if is_even(genotype):
                break
        expected.append(genotype)
        rejected = draws - len(expected)
    assert searcher.ask(20) == expected
    assert searcher.rejected == rejected > 0


def test_uniform_rejections_count_once_when_batches_overlap(space: ToySpace) -> None:
    whole, overlapping = search(space, feasible=is_even), search(space, feasible=is_even)
    genotypes = whole.ask(20)
    for number in range(20):
        asked = overlapping.ask(min(5, 20 - number))
        tell(overlapping, space, asked[:1])
    assert overlapping.rejected == whole.rejected
    tell(whole, space, genotypes)
    assert whole.ask(1) == overlapping.ask(1)


def test_uniform_draws_cover_the_space() -> None:
    space = ToySpace(length=2, base=3)
    counts = [search(space).ask(900).count(cell) for cell in itertools.product(range(3), repeat=2)]
    assert min(counts) > 65  # 100 each, 9.4 standard deviation
    assert max(counts) < 135


def test_published_proposals_are_the_feasible_draws_in_order(space: ToySpace) -> None:
    stream = [space.sample_published(5 + k) for k in range(100)]
    kept = [genotype for genotype in stream if is_even(genotype)]
    searcher = search(space, sampler="published", feasible=is_even)
    assert searcher.ask(20) == kept[:20]
    assert searcher.rejected == stream.index(kept[19]) - 19
    tell(searcher, space, kept[:20])
    assert searcher.ask(10) == kept[20:30]
    resumed = search(space, sampler="published", feasible=is_even)
    tell(resumed, space, kept[:20])
    assert resumed.ask(10) == kept[20:30]
    assert resumed.rejected == searcher.rejected == stream.index(kept[29]) - 29


def test_published_draws_in_a_row_are_limited(space: ToySpace) -> None:
    stream = [space.sample_published(5 + k) for k in range(11)]
    searcher = search(space, sampler="published", feasible=lambda g: g in (stream[0], stream[10]), max_draws=9)
    assert searcher.ask(1) == stream[:1]
    with pytest.raises(NoFeasibleCandidate, match="in 9 draws"):
        searcher.ask(2)
    patient = search(space, sampler="published", feasible=lambda g: g in (stream[0], stream[10]), max_draws=10)
    assert patient.ask(2) == [stream[0], stream[10]]


def test_a_space_without_published_sampler_says_so_at_once(space: ToySpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySpace, "sample_published", SearchSpace.sample_published)
    with pytest.raises(ValueError, match="space 'toy' has no published sampler"):
        search(space, sampler="published")


def test_an_unknown_sampler_is_refused(space: ToySpace) -> None:
    with pytest.raises(ValueError, match="sampler must be uniform or published, got 'normal'"):
        search(space, sampler="normal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"max_draws": True}, "max_draws must be a whole number, got True"),
    ],
)
def test_numbers_out_of_bounds(options: dict[str, Any], message: str, space: ToySpace) -> None:
    with pytest.raises(ValueError, match=message):
        search(space, **options)


def test_a_seed_of_numpy_is_a_seed(space: ToySpace) -> None:
    assert search(space, seed=np.int64(5)).ask(3) == search(space, seed=5).ask(3)
