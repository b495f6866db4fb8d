"""One worker a GPU. Ray is told that there are two, and the workers compute on the CPU in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.device import worker_gpus
from nas.executors import EXECUTORS
from nas.executors.ray import RayCrew
from nas.executors.supervised import SupervisedExecutor
from searchers.base import Trial
from tests.nas.executors.faulty import FaultyScorer, SeeingScorer, candidates
from tests.nas.executors.test_ray import timeless


@pytest.fixture(scope="module")
def two_gpus(_ray_environment: None) -> Iterator[Any]:
    import ray

    ray.init(
        address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=128 * 2**20,
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Trial[Any]]:
    return timeless(map(FaultyScorer(tmp_path_factory.mktemp("undisturbed")), candidates()))


def test_each_worker_has_a_gpu_of_its_own_and_so_has_one_that_replaces_it(
    two_gpus: Any, tmp_path: Path, undisturbed: list[Trial[Any]]
) -> None:
    scorer = SeeingScorer(tmp_path, {5: "kill once"}, seconds=0.02)
    with SupervisedExecutor(RayCrew(None, None, 1.0, 1.0), chunk_seconds=0.05) as executor:

        def with_both() -> dict[str, str]:
            while not executor.status().startswith("2 workers"):
                list(executor.run(scorer, candidates(4)))
            list(executor.run(scorer, candidates(4)))
            return scorer.workers()

        before = with_both()
        assert timeless(executor.run(scorer, candidates())) == undisturbed
        after, facts = with_both(), executor.facts()
    assert sorted(before.values()) == ["0", "1"]
    (new,) = after.keys() - before.keys()
    assert after[new] == before[(tmp_path / "5.attempts").read_text().split()[0]]  # the GPU of the one that was killed
    assert scorer.attempts(5) == 2 and facts["workers_lost"] == 1 and facts["gpus_per_worker"] == 1.0
    assert [node["gpus"] for node in facts["nodes"]] == [2.0]


@pytest.mark.parametrize(("gpus", "workers"), [(1.0, 2), (0.5, 4), (0.25, 4), (2.0, 1)])
def test_there_are_as_many_workers_as_gpus_and_cores_allow(gpus: float, workers: int, two_gpus: Any) -> None:
    crew = RayCrew(None, None, 1.0, gpus)
    crew.connect()
    assert crew.capacity() == workers  # there are four cores
    crew.close()


@pytest.mark.parametrize(("device", "given", "gpus"), [("cuda", None, 1.0), ("cuda", 0.25, 0.25), ("cpu", None, 0.0)])
def test_a_worker_reserves_one_gpu_unless_told_otherwise(device: str, given: float | None, gpus: float) -> None:
    options: dict[str, Any] = {"address": None, "workers": None, "cpus_per_worker": 1.0, "gpus_per_worker": given}
    made = EXECUTORS["ray"](SimpleNamespace(**options, chunk_seconds=0.2, candidate_timeout=600.0), device)
    assert isinstance(made, SupervisedExecutor) and isinstance(made.crew, RayCrew)
    assert made.crew.gpus == worker_gpus(device, given) == gpus
