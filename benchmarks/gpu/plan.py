"""The measurements, the most important ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu import attacks, scoring, training
from benchmarks.gpu.tables import Row, of_work
from benchmarks.gpu.timing import Rounds, steady
from nas.training.config import TrainConfig

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
    :param attacked: images of a batch that is attacked. :param iterations: as ``few`` and ``more`` of ``attacks.Case``.
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
    iterations: tuple[int, int] = (2, 6)
    rounds: Rounds = Rounds()
    search_seconds: float = 60.0
    matrix: int = 8192
    compile: bool = False


FULL = Plan()
#: for a slow core
QUICK = Plan(
    small=(2, 3), large=(2, 4), batches=(4,), candidates=(3, 2, 1), step=2, images=(4, 2), attacked=2,
    iterations=(1, 2), rounds=Rounds(warm_up=1, count=1, seconds=0.01), matrix=64,
)  # fmt: skip


def measurements(plan: Plan, device: torch.device) -> Iterator[Measurement]:
    """All of them, in the order in which they are made."""
    case = partial(training.Case, cell=plan.cell)
    of = {"small": dict(zip(("channels", "layers"), plan.small, strict=True)),
          "large": dict(zip(("channels", "layers"), plan.large, strict=True))}  # fmt: skip
    first, *others = plan.batches
    search = partial(
        scoring.Case, step=plan.step, ntk_images=plan.images[0], curvature_images=plan.images[1],
    )  # fmt: skip
    published = search(proxy="robust_released", **of["large"], candidates=plan.candidates[0])
    main = [case(preset="tiny_robustbench", batch=first, **size) for size in of.values()]
    attacked = attacks.Case(
        cell=plan.cell, batch=plan.attacked, few=plan.iterations[0], more=plan.iterations[1], **of["small"]
    )
    formats = ["float32", *(["bfloat16"] if device.type == "cuda" else [])]  # on a CPU a training is in float32

    yield from (_matrix_product(name, plan.matrix, device) for name in ("float32", "tf32", "bfloat16"))
    yield _search(published, plan, device)
    yield from (_training(each, plan, device) for each in main)
    compared = search(proxy="robust", **of["large"], candidates=plan.candidates[2])
    yield Measurement("agreement", compared.name, lambda rows: scoring.agreement(compared, device))
    yield Measurement("attacks", attacked.name, lambda rows: attacks.attacking(attacked, device))
    yield from (_device_use_of_step(each, plan, device) for each in main)
    yield _device_use_of_candidate(published, device)
    for precision in formats:
        rest = [case(preset="tiny_robustbench", batch=first, precision=precision, **size) for size in of.values()]
        rest.append(case(preset="table", batch=first, precision=precision, **of["large"]))
        rest += [case(preset="tiny_robustbench", batch=n, precision=precision, **of["small"]) for n in others]
        rest += [case(preset="tiny_robustbench", batch=n, precision=precision, **of["large"]) for n in others[:1]]
        yield from (_training(each, plan, device) for each in rest if each not in main)
    yield from (_training(replace(each, options=way), plan, device) for way in _other_ways(plan) for each in main)
    yield from (_training(case(preset="quick", batch=n, **of["small"]), plan, device) for n in plan.batches[:2])
    for size in of.values():
        yield _search(search(proxy="robust", **size, candidates=plan.candidates[1]), plan, device)


def _other_ways(plan: Plan) -> list[tuple[tuple[str, bool], ...]]:
    """Options with which the main trainings run again, to be compared with the default."""
    graphs = any(field.name == "cuda_graphs" for field in fields(TrainConfig))
    return [(("cuda_graphs", False),)] * graphs + [(("compile", True),)] * plan.compile


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
        product = of_work(rows["matrix_product"], "rate", name="tf32" if tf32 else case.precision)
        return training.training(case, device, plan.rounds, product and product["rate"])

    return Measurement("training", case.name, make)


def _search(case: scoring.Case, plan: Plan, device: torch.device) -> Measurement:
    return Measurement(
        "scoring", case.name, lambda rows: scoring.scoring(case, device, limit=plan.search_seconds)
    )  # fmt: skip


def _device_use_of_step(case: training.Case, plan: Plan, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        timed = of_work(rows["training"], "step_seconds", name=case.name)
        return _with_share(training.device_use_of_step(case, device, plan.rounds, timed and timed["step_seconds"]))

    return Measurement("device", case.name, make)


def _device_use_of_candidate(case: scoring.Case, device: torch.device) -> Measurement:
    def make(rows: Rows) -> Row:
        timed = of_work(rows["scoring"], "seconds_per_candidate", name=case.name)
        return _with_share(scoring.device_use_of_candidate(case, device, timed and timed["seconds_per_candidate"]))

    return Measurement("device", case.name, make)


def _with_share(row: Row) -> Row:
    known: Any = row["seconds"] and row["busy_seconds"] is not None
    return {**row, "busy_share": row["busy_seconds"] / row["seconds"] if known else None}
