"""What is handed out, and what becomes of what is lost."""

from __future__ import annotations

import random

import pytest

from nas.executors.workload import ATTEMPTS, ATTEMPTS_ALONE, ChunkSize, Workload
from tests.nas.executors.faulty import candidates


def test_every_candidate_is_handed_out_once() -> None:
    work = Workload(candidates(10))
    chunks = [work.take(4) for _ in range(3)]
    assert [[each.id for each in chunk] for chunk in chunks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (work.waiting, work.in_flight, work.done) == (0, 10, False)
    for chunk in chunks:
        for candidate in chunk:
            work.finish(candidate.id)
    assert work.done


def test_a_lost_chunk_comes_back_one_by_one() -> None:
    work = Workload(candidates(5))
    assert work.lost(work.take(3), blame=True) == []
    assert [[each.id for each in work.take(3)] for _ in range(4)] == [[0], [1], [2], [3, 4]]


def test_two_losses_alone_are_the_end() -> None:
    work = Workload(candidates(3))
    work.lost(work.take(3), blame=True)
    (culprit,) = alone = work.take(3)
    assert work.lost(alone, blame=True) == []
    for candidate in (*work.take(1), *work.take(1)):
        work.finish(candidate.id)
    assert work.lost(work.take(1), blame=True) == [culprit]
    assert work.done and ATTEMPTS_ALONE == 2


def test_losses_without_blame_do_not_count_but_end() -> None:
    work = Workload(candidates(1))
    for _ in range(ATTEMPTS - 1):
        assert work.lost(work.take(1), blame=False) == []
    assert len(work.lost(work.take(1), blame=False)) == 1 and work.done


@pytest.mark.parametrize("seed", range(20))
def test_every_candidate_is_finished_or_given_up_whatever_happens(seed: int) -> None:
    rng, work = random.Random(seed), Workload(candidates(30))
    finished, given_up, out = [], [], []
    while not work.done:
        if work.waiting and rng.random() < 0.5:
            out.append(work.take(rng.randint(1, 5)))
        elif out:
            chunk = out.pop(rng.randrange(len(out)))
            if rng.random() < 0.6:
                given_up += work.lost(chunk, blame=rng.random() < 0.8)
            else:
                for candidate in chunk:
                    work.finish(candidate.id)
                finished += chunk
    ids = [candidate.id for candidate in finished + given_up]
    assert sorted(ids) == list(range(30))


def test_chunks_are_as_long_as_asked_for() -> None:
    size = ChunkSize(0.2)
    assert size.of(1000, 4) == 1  # nothing is known yet
    size.learn(1, 0.01)
    assert size.of(1000, 4) == 20
    assert size.of(12, 4) == 3  # the rest is shared
    size.learn(10, 10.0)
    assert size.of(1000, 4) == 1
    size.learn(5, 0.0)
    assert ChunkSize(0.2).of(3, 10) == 1
