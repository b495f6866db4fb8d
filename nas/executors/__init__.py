"""Executors: run a scorer over candidates, in this process, in threads, or on the workers of a Ray cluster.

To add one: an :class:`~nas.executors.base.Executor` in a file of its own; here, a function that makes it from the
configuration and a row in ``EXECUTORS``; a test in ``tests/nas/executors``. An object of your own class is given to
``Search(executor=...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.executors.base import Executor


def _local(config: Any, device: str) -> Executor:
    from nas.executors.local import LocalExecutor

    return LocalExecutor(config.threads)


def _ray(config: Any, device: str) -> Executor:
    from nas.device import worker_gpus
    from nas.executors.ray import RayCrew
    from nas.executors.supervised import SupervisedExecutor

    gpus = worker_gpus(device, config.gpus_per_worker)
    crew = RayCrew(config.address, config.workers, config.cpus_per_worker, gpus)
    return SupervisedExecutor(crew, chunk_seconds=config.chunk_seconds, candidate_timeout=config.candidate_timeout)


#: name -> a function of a search's configuration and torch device; it imports what it needs
EXECUTORS: dict[str, Callable[[Any, str], Executor]] = {"local": _local, "ray": _ray}
