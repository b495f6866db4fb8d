"""Scores one cell at one seed with every proxy; the failure of one proxy does not affect the others."""

from __future__ import annotations

import inspect
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from nas.errors import as_user_error
from nas.executors.candidates import candidate_seed
from nas.executors.failures import machine_failure, told_failure
from nas.searching.objectives import components
from nas.searching.scoring import Scorer
from proxies import get_proxy
from proxies.base import Probe, Proxy
from proxies.population import PopulationProxy
from search_spaces import get_space
from search_spaces.base import NetworkSpec

Task: TypeAlias = tuple[str, int]  # canonical key, seed
Batch: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result for one network at one seed: a score or an error for each proxy, and the seconds each took.

    The time of a pass that several proxies share is counted for the first one that requests it.
    """

    key: str
    seed: int
    scores: Mapping[str, float]
    errors: Mapping[str, str]
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that scoring depends on, as values that can be sent to another process.

    :param names: proxies, including population proxies.
    :param batches: for each seed, images ``(N, C, H, W)`` in [0, 1] and labels ``(N,)``.
    """

    space: str
    spec: NetworkSpec
    names: tuple[str, ...]
    batches: Mapping[int, Batch]

    def proxies(self, seed: int) -> list[Proxy | PopulationProxy]:
        """The proxies; those that draw their own weights or images get ``seed``.

        :raises UserError: a name is unknown.
        """
        return [as_user_error(partial(_proxy, name, seed)) for name in self.names]

    def network_proxies(self, seed: int) -> list[Proxy]:
        """The proxies of a single network: those that were named, and the components of the others, each once."""
        return components(self.proxies(seed))

    def scorer(self) -> Callable[[Task], Record]:
        """A function that scores a task in this process."""
        scorers = {seed: (_ProbeMaker(self, seed), self.network_proxies(seed)) for seed in self.batches}

        def scored(task: Task) -> Record:
            maker, proxies = scorers[task[1]]
            return score(maker.probe(task[0]), proxies, task)

        return scored


def _proxy(name: str, seed: int) -> Proxy | PopulationProxy:
    proxy = get_proxy(name)
    return get_proxy(name, seed=seed) if "seed" in inspect.signature(type(proxy)).parameters else proxy


class _ProbeMaker(Scorer[Any]):
    """Makes probes of networks with the weights that a search with the same seed draws."""

    def __init__(self, job: Job, seed: int):
        images, labels = (torch.from_numpy(each) for each in job.batches[seed])
        super().__init__(get_space(job.space), job.spec, (), images, labels, seed=seed)

    def probe(self, key: str) -> Probe:
        """A probe that knows its parameters and MACs; the network is built when a proxy first needs it."""
        genotype = self.space.parse(key)
        cost = self.space.cost(genotype, self.spec)
        counted = {"params": cost.params, "macs": cost.macs}
        seed = candidate_seed(self.seed, key)
        return Probe(lambda: self._build(genotype, seed), self.images, self.labels, counted=counted)


def score(probe: Probe, proxies: Sequence[Proxy], task: Task) -> Record:
    """Scores with each proxy in turn, after the probe was told the requests of all proxies."""
    scores: dict[str, float] = {}
    errors: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for proxy in proxies:
        _attempt(proxy, lambda: probe.plan([proxy]), errors)  # noqa: B023  # called at once
    for proxy in proxies:
        if proxy.name in errors:
            continue
        started = time.perf_counter()
        value = _attempt(proxy, lambda: float(proxy.score(probe)), errors)  # noqa: B023
        seconds[proxy.name] = round(time.perf_counter() - started, 6)
        if value is not None and math.isfinite(value):
            scores[proxy.name] = value
        elif value is not None:
            errors[proxy.name] = f"the score is {value}, expected a finite number"
    return Record(key=task[0], seed=task[1], scores=scores, errors=errors, seconds=seconds)


def _attempt(proxy: Proxy, call: Callable[[], Any], errors: dict[str, str]) -> Any:
    """The result of ``call``; if it fails, the reason goes to ``errors``: one cell must not end the experiment.

    :raises MachineFailed: it failed for want of memory or the like, which says nothing about the cell.
    """
    try:
        return call()
    except Exception as error:
        if failure := machine_failure(error):
            raise failure from None
        errors[proxy.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return None


def lacking(record: Record) -> bool:
    """Whether an error of the record was the machine's fault; earlier versions stored these like others."""
    return any(told_failure(error) for error in record.errors.values())


def seconds_alone(job: Job, keys: Sequence[str], watch: Callable[[str], None]) -> dict[str, float | None]:
    """For each proxy, the median seconds that one cell takes if this proxy is the only one.

    The time includes counting, building the network and the score. None for a proxy that fails on every cell.
    ``watch`` is called with the name of each proxy before it is timed.
    """
    maker = _ProbeMaker(job, min(job.batches))
    found: dict[str, float | None] = {}
    for proxy in job.proxies(maker.seed):
        watch(proxy.name)
        parts = components([proxy])
        taken = []
        for key in keys:
            started = time.perf_counter()
            record = score(maker.probe(key), parts, (key, maker.seed))
            if not record.errors:
                taken.append(time.perf_counter() - started)
        found[proxy.name] = statistics.median(taken) if taken else None
    return found
