"""Seconds for each candidate of a search, with the scorer and the executor that a search uses."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from benchmarks.gpu.kernels import Watched
from benchmarks.gpu.timing import wait
from nas.executors.base import Executor
from nas.executors.candidates import Candidate
from nas.executors.local import LocalExecutor
from nas.executors.stacks import stacked
from nas.images.data import load_data, probe_batch
from nas.searching.scoring import Scorer
from nas.searching.untrained import automatic_stack
from proxies import get_proxy
from search_spaces import get_space
from search_spaces.base import NetworkSpec

PUBLISHED_SEED, PUBLISHED_CANDIDATES = 3000, 214  # Feng et al., ICLR 2025: of 1,000 cells, those with two skips
PROBE_IMAGES = 50
PROFILED_CANDIDATES = 16


@dataclass(frozen=True, kw_only=True)
class Case:
    """One search: ``candidates`` cells of the paper's search, scored ``step`` at a time by one proxy.

    :param size: channels and layers.
    """

    proxy: str
    size: tuple[int, int]
    candidates: int
    step: int
    ntk_images: int = PROBE_IMAGES
    curvature_images: int = 32

    @property
    def name(self) -> str:
        return f"{self.proxy}, {self.size[0]} x {self.size[1]}"

    def scorer(self, device: torch.device) -> Scorer[Any]:
        images, labels = probe_batch(load_data("digits").train, max(self.ntk_images, self.curvature_images), 0)
        proxy: Any = get_proxy(self.proxy, ntk_images=self.ntk_images, curvature_images=self.curvature_images)
        spec = NetworkSpec(channels=self.size[0], layers=self.size[1])
        stack = automatic_stack(spec, len(labels), str(device))
        return Scorer(
            get_space("darts"), spec, (proxy,), images, labels, seed=0, device=str(device), stack=stack
        )

    def executor(self) -> Executor:
        """What runs the scorer."""
        return LocalExecutor()


@cache
def published_candidates(count: int) -> tuple[Candidate[Any], ...]:
    """The first ``count`` cells of the paper's search, in its order."""
    space = get_space("darts")
    cells = (space.sample_published(seed) for seed in itertools.count(PUBLISHED_SEED))
    chosen = itertools.islice((cell for cell in cells if space.count(cell, "normal.skip_connect") == 2), count)
    return tuple(Candidate(id, space.canonical(cell), cell) for id, cell in enumerate(chosen))


def scored(executor: Executor, scorer: Scorer[Any], candidates: Sequence[Candidate[Any]]) -> dict[int, float]:
    """The score of each candidate, by id, in stacks as a search makes them.

    :raises RuntimeError: a candidate has no score.
    """
    found = {}
    for trial in executor.run(scorer, stacked(candidates, scorer.stack)):
        if trial.status != "ok":
            raise RuntimeError(f"candidate {trial.id} has no score: {trial.error}")
        (found[trial.id],) = trial.scores.values()
    return found


def _steps(case: Case) -> Iterator[Sequence[Candidate[Any]]]:
    candidates = published_candidates(case.candidates)
    for start in range(0, len(candidates), case.step):
        yield candidates[start : start + case.step]


def scoring(
    case: Case, device: torch.device, *, limit: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """The figures of a search.

    The first candidate is scored alone, which loads libraries. Then all are scored, step by step; the first step
    counts, though cuDNN plans for new shapes in it. Later steps tell the steady state, if there are any.

    :param limit: seconds after which no further step is begun.
    """
    scorer, executor = case.scorer(device), case.executor()
    published_candidates(case.candidates)  # drawn before the clock starts
    started = clock()
    scored(executor, scorer, published_candidates(case.candidates)[:1])
    wait(device)
    first = clock() - started
    steps: list[tuple[int, float]] = []
    for candidates in _steps(case):
        before = clock()
        scored(executor, scorer, candidates)
        wait(device)
        steps.append((len(candidates), clock() - before))
        if clock() - started >= limit:
            break
    count, seconds = (sum(column) for column in zip(*steps, strict=True))
    later_count, later_seconds = (sum(column) for column in zip(*(steps[1:] or steps), strict=True))
    return {
        "proxy": case.proxy, "channels": case.size[0], "layers": case.size[1], "step": case.step,
        "ntk_images": case.ntk_images, "curvature_images": case.curvature_images,
        "first_candidate_seconds": first, "candidates_timed": count, "seconds": seconds,
        "first_step_seconds": steps[0][1], "seconds_per_candidate": later_seconds / later_count,
        "candidates_per_second": later_count / later_seconds,
        "seconds_of_214": PUBLISHED_CANDIDATES * seconds / count,
        "days_of_214": PUBLISHED_CANDIDATES * seconds / count / 86_400,
    }  # fmt: skip


def device_use_of_candidate(case: Case, device: torch.device, seconds: float | None) -> dict[str, Any]:
    """What the device does for a candidate. :param seconds: for each candidate when nothing looks at it."""
    scorer, executor = case.scorer(device), case.executor()
    candidates = published_candidates(case.candidates)[:PROFILED_CANDIDATES]
    scored(executor, scorer, candidates)  # plans for the shapes
    with Watched(device) as watched:
        scored(executor, scorer, candidates)
    return {"unit": "candidate", "seconds": seconds, **watched.use(len(candidates))}


def agreement(case: Case, device: torch.device) -> dict[str, Any]:
    """The greatest relative difference of scores on the device from those on the CPU, with TF32 as torch has it and
    without.
    """
    candidates = published_candidates(case.candidates)
    expected = scored(case.executor(), case.scorer(torch.device("cpu")), candidates)

    def difference() -> float:
        found = scored(case.executor(), case.scorer(device), candidates)
        return max(abs(found[id] - value) / abs(value) for id, value in expected.items())

    flags: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in flags]
    as_is = difference()
    try:
        for each in flags:
            each.allow_tf32 = False
        exact = difference()
    finally:
        for each, value in zip(flags, before, strict=True):
            each.allow_tf32 = value
    return {
        "proxy": case.proxy, "channels": case.size[0], "layers": case.size[1], "candidates": len(candidates),
        "relative_difference": as_is, "relative_difference_without_tf32": exact,
    }  # fmt: skip
