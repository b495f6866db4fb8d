"""The measurements, the most important ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu import attacks, scoring, training
from benchmarks.gpu.tables import Row, first_with
from benchmarks.gpu.timing import Rounds, steady

#: the rows that there are so far, by section
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Measurement:
    """``make`` makes the row ``name`` of a section, and may look at the rows before it."""

    section: str
    name: str
    make: Callable[[Rows], Row]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sizes of all measurements.

    :param small, large: channels and layers. :param batches: of trainings; the first one is the main one.
    :param candidates: of the paper's search, of other searches, and of those whose scores the CPU computes as well.
    :param step: candidates that are scored at a time. :param images: of the NTK and of the curvature.
    :param attacked: images of a batch that is attacked. :param units: as of ``attacks.Case``.
    :param rounds: of training steps. :param search_seconds: after which a search begins no step.
    :param matrix: rows and columns of the matrix product. :param compile: also train with torch.compile, which takes
        minutes to start.
    """

    cell: str = "ROBUST_ZCP"
    small: tuple[int, int] = (16, 8)
    large: tuple[int, int] = (36, 20)
    batches: tuple[int, ...] = (128, 512, 1024)
    candidates: tuple[int, int, int] = (scoring.PUBLISHED_CANDIDATES, 48, 4)
    step: int = 64
    images: tuple[int, int] = (50, 32)
    attacked: int = 250
    units: tuple[int, int, int] = (5, 2, 8)
    rounds: Rounds = field(default_factory=Rounds)
    search_seconds: float = 60.0
    matrix: int = 8192
    compile: bool = False


FULL = Plan()
#: for a slow core
QUICK = Plan(
    small=(2, 1), large=(2, 3), batches=(4,), candidates=(3, 2, 1), step=2, images=(4, 2), attacked=2,
    units=(3, 1, 2), rounds=Rounds(warm_up=1, count=1, seconds=0.01), matrix=64,
)  # fmt: skip


def measurements(plan: Plan, device: torch.device) -> Iterator[Measurement]:
    """All of them, in the order in which they are made."""
    case = partial(training.Case, cell=plan.cell)
    main = [case(preset="tiny_robustbench", batch=plan.batches[0], size=size) for size in (plan.small, plan.large)]
    ntk, curvature = plan.images
    search = partial(scoring.Case, step=plan.step, ntk_images=ntk, curvature_images=curvature)
    published = search(proxy="robust_released", size=plan.large, candidates=plan.candidates[0])
    compared = search(proxy="robust", size=plan.large, candidates=plan.candidates[2])
    attacked = attacks.Case(cell=plan.cell, size=plan.small, batch=plan.attacked, units=plan.units)

    yield from (_matrix_product(name, plan.matrix, device) for name in ("float32", "tf32", "bfloat16"))
    yield _search(published, plan, device)
    yield from (_training(each, plan, device) for each in main)
    yield Measurement("agreement", compared.name, lambda rows: scoring.agreement(compared, device))
    yield Measurement("attacks", attacked.name, lambda rows: attacks.attacking(attacked, device))
    yield from (_device_use_of_step(each, plan, device) for each in main)
    yield _device_use_of_candidate(published, device)
    for precision in ("float32", "bfloat16")[: 2 if device.type == "cuda" else 1]:
        own = [replace(each, precision=precision) for each in main]
        own.append(replace(own[1], preset="table"))
        own += [replace(own[0], batch=batch) for batch in plan.batches[1:]]
        own += [replace(own[1], batch=batch) for batch in plan.batches[1:2]]
        yield from (_training(each, plan, device) for each in own if each not in main)
    ways = _other_ways(plan, device)
    yield from (_training(replace(each, options=way), plan, device) for way in ways for each in main)
    yield from (_training(replace(main[0], preset="quick", batch=batch), plan, device) for batch in plan.batches[:2])
    for size in (plan.small, plan.large):
        yield _search(search(proxy="robust", size=size, candidates=plan.candidates[1]), plan, device)


def _other_ways(plan: Plan, device: torch.device) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Options with which the main trainings run again, to be compared with the default."""
    if device.type == "cuda":
        yield (("cuda_graphs", False),)
    if plan.compile:
        yield (("compile", True),)


def _matrix_product(name: str, size: int, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        try:
            a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
            timing = steady(lambda: a @ b, Rounds(seconds=0.1), device)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return {"size": size, "rate": 2 * size**3 / timing.seconds}

    return Measurement("matrix_product", name, make)


def _training(case: training.Case, plan: Plan, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        tf32 = case.precision == "float32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32
        product = first_with(rows["matrix_product"], "rate", name="tf32" if tf32 else case.precision)
        return training.training(case, device, plan.rounds, product.get("rate"))

    return Measurement("training", case.name, make)


def _search(case: scoring.Case, plan: Plan, device: torch.device) -> Measurement:
    return Measurement("scoring", case.name, lambda rows: scoring.scoring(case, device, limit=plan.search_seconds))


def _device_use_of_step(case: training.Case, plan: Plan, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        seconds = first_with(rows["training"], "step_seconds", name=case.name).get("step_seconds")
        return _with_share(training.device_use_of_step(case, device, plan.rounds, seconds))

    return Measurement("device", case.name, make)


def _device_use_of_candidate(case: scoring.Case, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        seconds = first_with(rows["scoring"], "seconds_per_candidate", name=case.name).get("seconds_per_candidate")
        return _with_share(scoring.device_use_of_candidate(case, device, seconds))

    return Measurement("device", case.name, make)


def _with_share(row: Row) -> Row:
    seconds, busy = row["seconds"], row["busy_seconds"]
    return {**row, "busy_share": None if seconds is None or busy is None else busy / seconds}
